"""A run: the folder in which a training leaves everything about itself."""

import errno
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from tokenloom.checkpoint import load_checkpoint, save_checkpoint
from tokenloom.corpus import Corpus
from tokenloom.errors import CorpusError, RunError
from tokenloom.files import write_text
from tokenloom.model import RNNModel
from tokenloom.tokenizers import Tokenizer, describe_tokenizer, restore_tokenizer
from tokenloom.vocab import Vocab

_SETTINGS = "settings.json"
_VOCAB = "vocab.json"
_METRICS = "metrics.jsonl"
_LOSSES = "losses.jsonl"
_CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochMetrics:
    """What was measured over one epoch.

    Attributes
    ----------
    epoch : int
        Which one, from 0.
    step : int
        Batches that the model was trained on, up to the end of the epoch.
    perplexity : float
        Of the epoch's batches, each before its step. What is not finite is
        null in the file, and NaN when it is read back.
    tokens_per_second : float
        Inputs per second of training, evaluation not counted.
    held_out_perplexity : float or None
        Of the held-out tokens after the epoch, where there are any.
    """

    epoch: int
    step: int
    perplexity: float
    tokens_per_second: float
    held_out_perplexity: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLosses:
    """The losses of successive steps within one epoch.

    Attributes
    ----------
    step : int
        The first of the steps, counted from 1 over the whole run.
    epoch, batch : int
        What the model was trained on in that step; both from 0. The steps
        after it take the batches after it.
    losses : list of float
        Mean cross-entropy of each batch before its step, in nats per token;
        NaN where it was not finite.
    """

    step: int
    epoch: int
    batch: int
    losses: list[float]


class Run:
    """A run's folder: settings, vocabulary, metrics, losses, checkpoint, plot.

    ``settings.json``, ``vocab.json`` (where there is one), ``metrics.jsonl``
    and ``losses.jsonl`` (one line per epoch), ``checkpoint.pt``, ``perplexity.png`` and ``.svg``
    (where matplotlib is installed).

    Attributes
    ----------
    path : Path
    settings : dict
        JSON-able.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.settings = settings

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], *, corpus: Corpus, settings: dict[str, Any]
    ) -> Self:
        """Begin a run in a new or empty folder.

        Raises
        ------
        RunError
            The folder has files in it, or cannot be made.
        """
        folder = Path(path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _claim(folder)
            settings = {**settings, "tokenizer": describe_tokenizer(corpus.tokenizer)}
            write_text(folder / _SETTINGS, json.dumps(settings, indent=2) + "\n")
            if corpus.vocab is not None:
                corpus.vocab.save(folder / _VOCAB)
        except FileExistsError as error:
            msg = f"the run's folder must be new or empty, {os.fspath(path)!r} is not: name another"
            raise RunError(msg) from error
        except OSError as error:
            msg = f"cannot write the run's folder {os.fspath(path)!r}: {error.strerror or error}"
            raise RunError(msg) from error
        return cls(folder, settings)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open the folder of a run.

        Raises
        ------
        RunError
            There is no run in the folder.
        """
        folder = Path(path)
        try:
            settings = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            settings = None
        if not isinstance(settings, dict):
            msg = (
                f"expected the folder of a run, with {_SETTINGS} in it, got "
                f"{os.fspath(path)!r}: 'tokenloom train' makes one and prints its name"
            )
            raise RunError(msg)
        return cls(folder, settings)

    def record(self, metrics: EpochMetrics) -> None:
        """Append the metrics of an epoch, one line of JSON.

        Raises
        ------
        RunError
            The folder is gone, or cannot be written to.
        """
        # JSON has only finite numbers; any other perplexity is written as null.
        values = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(metrics).items()
        }
        with _writing(self.path), (self.path / _METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def metrics(self) -> list[EpochMetrics]:
        """Return the metrics of the epochs so far.

        Raises
        ------
        RunError
            The file is missing or damaged.
        """
        try:
            lines = (self.path / _METRICS).read_text(encoding="utf-8").splitlines()
            return [_read_metrics(line) for line in lines]
        except (KeyError, OSError, TypeError, ValueError) as error:
            msg = f"cannot read the metrics in {str(self.path)!r}: {error}"
            raise RunError(msg) from error

    def record_losses(self, losses: StepLosses) -> None:
        """Append the losses of successive steps, one line of JSON.

        Raises
        ------
        RunError
            The folder is gone, or cannot be written to.
        """
        # Seven digits say all that a float32 knows.
        rounded = [float(f"{x:.7g}") if math.isfinite(x) else None for x in losses.losses]
        line = json.dumps({**asdict(losses), "losses": rounded}) + "\n"
        with _writing(self.path), (self.path / _LOSSES).open("a", encoding="utf-8") as file:
            file.write(line)

    def losses(self) -> list[StepLosses]:
        """Return the losses of all steps so far, in order.

        Raises
        ------
        RunError
            The file is missing, as in runs of older releases, or damaged.
        """
        try:
            text = (self.path / _LOSSES).read_text(encoding="utf-8")
            # A line without its end was broken off while it was written.
            return [_read_losses(line) for line in text.rpartition("\n")[0].splitlines()]
        except FileNotFoundError as error:
            msg = (
                f"the run {str(self.path)!r} has no {_LOSSES}: no step was finished, or an "
                "older release made it, which did not write down the steps: train anew"
            )
            raise RunError(msg) from error
        except (KeyError, OSError, TypeError, ValueError) as error:
            msg = f"cannot read the losses in {str(self.path)!r}: {error}"
            raise RunError(msg) from error

    def save(self, model: RNNModel, *, epoch: int, step: int) -> Path:
        """Write the checkpoint, whole or not at all.

        Raises
        ------
        RunError
            The folder is gone, or cannot be written to.
        """
        with _writing(self.path):
            return save_checkpoint(self.path / _CHECKPOINT, model, epoch=epoch, step=step)

    @property
    def has_checkpoint(self) -> bool:
        """Whether the model has been saved."""
        return (self.path / _CHECKPOINT).is_file()

    def load_model(self) -> RNNModel:
        """Return the model of the checkpoint, on the CPU.

        Raises
        ------
        RunError
            There is no checkpoint, or it is damaged.
        """
        return load_checkpoint(self.path / _CHECKPOINT)

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
                description, load_vocab=lambda: Vocab.load(self.path / _VOCAB)
            )
        except (CorpusError, OSError) as error:
            raise RunError(str(error)) from error
        if tokenizer is None:
            msg = (
                f"the run's tokenizer must be char, word or byte, got {description!r}: "
                "load the model with Run.open(...).load_model() and call "
                "tokenloom.generate with your tokenizer"
            )
            raise RunError(msg)
        return tokenizer


def is_run(path: str | os.PathLike[str]) -> bool:
    """Return whether there is the folder of a run."""
    # os.path says no, where Path would raise, to a name that no file can have.
    return os.path.isfile(os.path.join(path, _SETTINGS))  # noqa: PTH113, PTH118


def _claim(folder: Path) -> None:
    if any(folder.iterdir()):
        raise FileExistsError
    # Of two runs that begin at once only one can make the file.
    (folder / _SETTINGS).touch(exist_ok=False)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        if not folder.is_dir():
            raise FileNotFoundError(errno.ENOENT, "the folder is gone")
        yield
    except OSError as error:
        msg = f"cannot write into the run's folder {str(folder)!r}: {error.strerror or error}"
        raise RunError(msg) from error


def _read_metrics(line: str) -> EpochMetrics:
    values = json.loads(line)
    if values["perplexity"] is None:
        values["perplexity"] = math.nan
    return EpochMetrics(**values)


def _read_losses(line: str) -> StepLosses:
    values = json.loads(line)
    losses = [math.nan if loss is None else float(loss) for loss in values["losses"]]
    return StepLosses(**{**values, "losses": losses})
