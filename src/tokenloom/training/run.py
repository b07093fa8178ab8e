"""A run: the folder in which a training leaves everything about itself."""

import base64
import dataclasses
import errno
import json
import os
import re
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from tokenloom._checks import as_flag
from tokenloom._io.atomic import (
    follow_own,
    remove_partial,
    require_own,
    synchronize_folder,
    write_bytes,
    write_text,
)
from tokenloom._io.regular import read_bounded
from tokenloom._wording import as_html, count, describe_missing, show
from tokenloom.corpus.corpus import Corpus
from tokenloom.errors import CorpusError, RunError
from tokenloom.model.rnn import RNNModel
from tokenloom.text.identity import Identity
from tokenloom.text.interface import Tokenizer, vocab_of
from tokenloom.text.subwords import FILE_NAMES
from tokenloom.text.tokenizers import complete, restore_tokenizer
from tokenloom.text.vocab import Vocab
from tokenloom.training.checkpoint import (
    Checkpoint,
    has_checkpoint,
    read_checkpoint,
    remove_later,
    unpack,
    write_checkpoint,
)
from tokenloom.training.metrics import (
    EpochMetrics,
    Records,
    StepLosses,
    find_best,
    format_perplexity,
)

# The setting that identifies a run.
_ID = "run_id"
_SETTINGS = "settings.json"
_VOCAB = "vocab.json"
# Files of a tokenizer of any kind.
_OF_TOKENIZERS = (_VOCAB, *FILE_NAMES)
_METRICS = "metrics.jsonl"
_LOSSES = "losses.jsonl"
_CHECKPOINTS = "checkpoints"
# Files that are written, emptied or replaced: none may be a link, or belong to another user.
_WRITTEN = (_CHECKPOINTS, _SETTINGS, _METRICS, _LOSSES, "perplexity.png", "perplexity.svg")
# Where older releases left the model.
_CHECKPOINT = "checkpoint.pt"
_LEFT = re.compile(r"\..+\.[0-9a-f]{16}\.part")
_MAX_SETTINGS_BYTES = 1 << 24
_MAX_OLD_BYTES = 1 << 34
_MAX_TOKENIZER_BYTES = 1 << 30


class Run:
    """A run's folder: settings, vocabulary, metrics, losses, checkpoint, plot.

    ``settings.json``, ``vocab.json`` (where there is one), ``metrics.jsonl``
    and ``losses.jsonl`` (one line per epoch), the folder ``checkpoints``,
    ``perplexity.png`` and ``.svg`` (where matplotlib is installed).

    Attributes
    ----------
    path : Path
    settings : dict
        JSON-able.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.settings = settings
        self._metrics = Records(path / _METRICS, EpochMetrics)
        self._losses = Records(path / _LOSSES, StepLosses)

    def __repr__(self) -> str:
        model = self.settings.get("model")
        known = {
            "corpus": self.settings.get("corpus"),
            "model": model.get("rnn") if isinstance(model, dict) else None,
            "num_epochs": self.settings.get("num_epochs"),
        }
        words = [f"{name}={show(value)}" for name, value in known.items() if value is not None]
        return f"Run({', '.join([repr(str(self.path)), *words])})"

    def _repr_html_(self) -> str:
        try:
            metrics = self.metrics()
        except RunError:
            metrics = []
        names = ("corpus", "num_tokens", "order", "batch_size", "seq_len", "num_epochs")
        facts = [(name, self.settings[name]) for name in names if name in self.settings]
        if metrics:
            last, best = metrics[-1], find_best(metrics)
            shown = format_perplexity(last.perplexity, last.perplexity_per_character)
            facts.append(("perplexity", f"{shown} after {count(last.epoch + 1, 'epoch')}"))
            if best is not None and best.held_out_perplexity is not None:
                shown = f"{best.held_out_perplexity:.2f} at epoch {best.epoch + 1}"
                facts.append(("best held out", shown))
        return as_html(f"Run {self.path}", facts, below=self._show_plot())

    def _show_plot(self) -> str:
        try:
            content = read_bounded(self.path / "perplexity.png", max_bytes=_MAX_SETTINGS_BYTES)
        except (OSError, ValueError):
            return ""
        picture = base64.b64encode(content).decode("ascii")
        return f'<img alt="perplexity over epochs" src="data:image/png;base64,{picture}">'

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        corpus: Corpus,
        settings: dict[str, Any],
        again: bool = False,
    ) -> Self:
        """Begin a run in a new or empty folder.

        Parameters
        ----------
        path : path
        corpus : Corpus
        settings : dict
            JSON-able.
        again : bool
            Whether a folder with files of a process that was killed at its beginning is
            accepted too.

        Raises
        ------
        ArgumentError
            No folder can have that path.
        RunError
            The folder has files in it, or cannot be made.
        """
        folder = follow_own(path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            require_own(folder)
            _claim(folder, again=again)
            settings = {
                **settings,
                _ID: secrets.token_hex(16),
                "tokenizer": corpus.describe_identity(),
            }
            if corpus.vocab is not None:
                corpus.vocab.save(folder / _VOCAB)
            if corpus.tokenizer is not None:
                for name, content in complete(corpus.tokenizer).files().items():
                    write_bytes(folder / name, content)
            write_text(folder / _SETTINGS, json.dumps(settings, indent=2) + "\n")
        except FileExistsError as error:
            cure = ", or resume its run with resume=True" if is_run(folder) else ""
            msg = (
                f"the run's folder must be new or empty, {os.fspath(path)!r} is not: name another"
                f"{cure}"
            )
            raise RunError(msg) from error
        except OSError as error:
            msg = f"cannot write the run's folder {os.fspath(path)!r}: {error.strerror or error}"
            raise RunError(msg) from error
        return cls(folder, settings)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open the folder of a run, also through a link that this user owns.

        Raises
        ------
        RunError
            There is no run in the folder.
        """
        folder = follow_own(path)
        try:
            settings = json.loads(read_bounded(folder / _SETTINGS, max_bytes=_MAX_SETTINGS_BYTES))
        except (OSError, ValueError, RecursionError) as error:
            _refuse_settings(folder, error)
            settings = None
        if not isinstance(settings, dict):
            msg = (
                f"expected the folder of a run, with {_SETTINGS} in it, got "
                f"{show(os.fspath(path))}: 'tokenloom train' makes one and prints its name; "
                f"{describe_missing(path)}"
            )
            raise RunError(msg)
        return cls(folder, settings)

    def record(self, record: EpochMetrics | StepLosses) -> None:
        """Append the metrics of an epoch, or the losses of successive steps, as a line of JSON.

        Raises
        ------
        RunError
            The folder is gone, or cannot be written to.
        """
        with self._writing():
            if isinstance(record, StepLosses):
                self._losses.append(record)
            else:
                self._metrics.append(record)

    def metrics(self) -> list[EpochMetrics]:
        """Return the metrics of the epochs so far.

        Raises
        ------
        RunError
            The file is missing, damaged, or belongs to another run.
        """
        with self._reading("metrics"):
            return self._metrics.read(last=self._saved_digest(_METRICS))

    def losses(self) -> list[StepLosses]:
        """Return the losses of all steps so far, in order.

        Raises
        ------
        RunError
            The file is missing, as in runs of older releases, damaged, or belongs to
            another run.
        """
        if not (self.path / _LOSSES).exists():
            msg = (
                f"the run {str(self.path)!r} has no {_LOSSES}: no step was finished, or an "
                "older release made it, which did not write down the steps: train anew"
            )
            raise RunError(msg)
        with self._reading("losses"):
            return self._losses.read(last=self._saved_digest(_LOSSES))

    def save(self, checkpoint: Checkpoint, *, keep: int = 1, is_best: bool = False) -> Path:
        """Write a checkpoint, whole or not at all, and remove surplus ones.

        Parameters
        ----------
        checkpoint : Checkpoint
        keep : int
            How many of the last ones stay, at least 1.
        is_best : bool
            Whether it becomes the one that is marked as the best, which stays too.

        Raises
        ------
        RunError
            The folder is gone, or cannot be written to.
        """
        with self._writing(), self._reading("records"):
            # A power cut must not leave a checkpoint without the records before it.
            self._metrics.synchronize()
            self._losses.synchronize()
            synchronize_folder(self.path)
            owner = {
                _METRICS: self._metrics.last_digest,
                _LOSSES: self._losses.last_digest,
            }
            if (run_id := self.settings.get(_ID)) is not None:
                owner[_ID] = run_id
            return write_checkpoint(
                self.path / _CHECKPOINTS,
                dataclasses.replace(checkpoint, owner=owner),
                keep=keep,
                is_best=is_best,
            )

    @property
    def has_checkpoint(self) -> bool:
        """Whether the model has been saved."""
        folder = self.path / _CHECKPOINTS
        return has_checkpoint(folder) or (self.path / _CHECKPOINT).is_file()

    def load_checkpoint(self, *, best: bool = False) -> Checkpoint | None:
        """Return the newest checkpoint that is whole, or None where there is none yet.

        A damaged one is named in a warning, and the one before it is read.

        Parameters
        ----------
        best : bool
            Whether to read instead the one with the lowest held-out perplexity.

        Raises
        ------
        RunError
            There are checkpoints, and none is whole.
        """
        found = read_checkpoint(self.path / _CHECKPOINTS, "best" if best else "step")
        if found is not None:
            self._check_owner(found)
        old = self.path / _CHECKPOINT
        if found is not None or best or not old.is_file():
            return found
        with self._reading("checkpoint"):
            return unpack(read_bounded(old, max_bytes=_MAX_OLD_BYTES), name=old)

    def load_model(self, *, best: bool = False) -> RNNModel:
        """Return the model of the newest checkpoint, on the CPU.

        Parameters
        ----------
        best : bool
            Whether to take instead the one with the lowest held-out perplexity.

        Raises
        ------
        RunError
            There is no checkpoint, or it is damaged.
        """
        as_flag("best", best)
        checkpoint = self.load_checkpoint(best=best)
        if checkpoint is None:
            kind = "best checkpoint" if best else "checkpoint"
            msg = f"expected a {kind} in {str(self.path)!r}, found none: train first"
            raise RunError(msg)
        model = checkpoint.build()
        model.trained_with = self.identity(model.vocab_size)
        end_id = self.settings.get("end_id")
        if type(end_id) is int and 0 <= end_id < model.vocab_size:
            model.end_id = end_id
        return model

    def identity(self, vocab_size: int | None = None) -> Identity | None:
        """Return which tokenizer the model was trained with, as far as the settings have it."""
        settings = self.settings
        vocab = settings.get("vocab_hash")
        return Identity.read(settings.get("tokenizer"), vocab_size=vocab_size, vocab=vocab)

    def rewind(
        self, checkpoint: Checkpoint | None, *, settings: dict[str, Any]
    ) -> list[EpochMetrics]:
        """Remove all records after a checkpoint, and return the epochs up to it.

        Parameters
        ----------
        checkpoint : Checkpoint or None
            From which the run is resumed; None for its beginning.
        settings : dict
            The new content of ``settings.json``.

        Raises
        ------
        RunError
            The metrics or the losses are damaged, are not those of the
            checkpoint's time, or cannot be written.
        """
        step = 0 if checkpoint is None else checkpoint.step
        last = {} if checkpoint is None else checkpoint.owner or {}
        with self._writing(), self._reading("records"):
            remove_partial(self.path)
            history = self._metrics.cut(step=step, last=last.get(_METRICS))
            # The losses of an unfinished epoch are in the checkpoint as well.
            finished = history[-1].step if history else 0
            self._losses.cut(step=finished, last=last.get(_LOSSES))
            remove_later(self.path / _CHECKPOINTS, step=step)
            if settings != self.settings:
                write_text(self.path / _SETTINGS, json.dumps(settings, indent=2) + "\n")
                self.settings = settings
        return history

    def load_tokenizer(self) -> Tokenizer:
        """Return the tokenizer of the corpus that the model was trained on.

        Raises
        ------
        RunError
            The tokenizer came from elsewhere, or its vocabulary is damaged.
        """
        description = self.settings.get("tokenizer")
        try:
            tokenizer = restore_tokenizer(
                description,
                load_vocab=lambda: Vocab.load(self.path / _VOCAB),
                load_file=lambda name: read_bounded(
                    self.path / name, max_bytes=_MAX_TOKENIZER_BYTES
                ),
            )
        except (CorpusError, OSError) as error:
            raise RunError(str(error)) from error
        if tokenizer is None:
            msg = (
                f"{str(self.path)!r} must hold its tokenizer, got {_name_tokenizer(description)}: "
                "in Python load the model with Run.open(...).load_model(), and give your tokenizer "
                "to tokenloom.generate, or a corpus that was opened with it to tokenloom.evaluate"
            )
            raise RunError(msg)
        vocab, saved = vocab_of(tokenizer), self.settings.get("vocab_hash")
        if vocab is not None and saved is not None and vocab.hash != saved:
            msg = (
                f"the vocabulary {str(self.path / _VOCAB)!r} is not that of the run: its hash is "
                f"{vocab.hash!r}, the settings say {show(saved)}; put the run's own file back"
            )
            raise RunError(msg)
        return tokenizer

    def _saved_digest(self, name: str) -> str | None:
        """Return the digest of the last line of records in the newest checkpoint, or None.

        A damaged checkpoint has none; the warning comes when the model is read.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                found = read_checkpoint(self.path / _CHECKPOINTS)
        except (OSError, RunError):
            return None
        if found is None or found.owner is None:
            return None
        self._check_owner(found)
        return found.owner.get(name)

    def _check_owner(self, checkpoint: Checkpoint) -> None:
        """Check that a checkpoint was saved by this run."""
        mine, saved = self.settings.get(_ID), (checkpoint.owner or {}).get(_ID)
        if mine != saved:
            msg = (
                f"the checkpoint of step {checkpoint.step} in {str(self.path)!r} belongs to "
                f"another run: its id is {saved!r}, the id of this run is {mine!r}; remove the "
                "checkpoints that were copied here, or copy the whole folder of a run"
            )
            raise RunError(msg)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            if not self.path.is_dir():
                raise FileNotFoundError(errno.ENOENT, "the folder is gone")
            for name in ("", *_WRITTEN):
                require_own(self.path / name)
            yield
        except RunError:
            raise
        except OSError as error:
            reason = error.strerror or error
            msg = f"cannot write into the run's folder {str(self.path)!r}: {reason}"
            raise RunError(msg) from error

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        try:
            yield
        except RunError:
            raise
        except (KeyError, OSError, TypeError, ValueError) as error:
            msg = f"cannot read the {what} in {str(self.path)!r}: {error}"
            raise RunError(msg) from error


def is_run(path: str | os.PathLike[str]) -> bool:
    """Return whether there is the folder of a run."""
    # os.path returns False for a name that no file can have; Path raises.
    settings = os.path.join(path, _SETTINGS)  # noqa: PTH118
    # The settings are empty until all other files are there.
    return os.path.isfile(settings) and os.path.getsize(settings) > 0  # noqa: PTH113, PTH202


def _refuse_settings(folder: Path, error: Exception) -> None:
    """Raise an error about settings that cannot be read, with the reason.

    Raises
    ------
    RunError
        They are damaged, are no file, or were not finished by a process that was killed.
    """
    if _is_unfinished(folder):
        msg = (
            f"the run {str(folder)!r} was killed before its settings were written, and has no "
            "checkpoint: begin it again, with the same folder as --run (in Python: run)"
        )
        raise RunError(msg) from error
    if os.path.lexists(folder / _SETTINGS):
        reason = (isinstance(error, OSError) and error.strerror) or error
        msg = f"cannot read the run's settings {str(folder / _SETTINGS)!r}: {reason}"
        raise RunError(msg) from error


def _is_unfinished(folder: Path) -> bool:
    """Return whether a folder holds only files of a process that was killed as it began."""
    settings = folder / _SETTINGS
    try:
        is_empty = settings.is_file() and settings.stat().st_size == 0
        return is_empty and all(
            path.name in (_SETTINGS, *_OF_TOKENIZERS) or _LEFT.fullmatch(path.name)
            for path in folder.iterdir()
        )
    except OSError:
        return False


def _name_tokenizer(description: object) -> str:
    """Return what a message calls a tokenizer that no run holds."""
    kind = description.get("type") if isinstance(description, dict) else None
    if not description or kind == "NoneType":
        return "none"
    return f"one of your own, {kind}, which no run holds" if kind else show(description)


def _claim(folder: Path, *, again: bool) -> None:
    if again and _is_unfinished(folder):
        remove_partial(folder)
        for name in (_SETTINGS, *_OF_TOKENIZERS):
            require_own(folder / name)
            (folder / name).unlink(missing_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError
    # Of two runs that begin at once only one can make the file.
    (folder / _SETTINGS).touch(exist_ok=False)
