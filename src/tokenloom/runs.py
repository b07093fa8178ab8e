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


class Run:
    """A run's folder: settings, vocabulary, metrics, checkpoint, plot.

    ``settings.json``, ``vocab.json`` (where there is one), ``metrics.jsonl``
    (one line per epoch), ``checkpoint.pt``, ``perplexity.png`` and ``.svg``
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
