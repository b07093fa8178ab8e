"""What a run writes down of its epochs and its steps, as lines of JSON."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from tokenloom.files import write_text


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


_Record = TypeVar("_Record", EpochMetrics, StepLosses)


def append_metrics(path: Path, metrics: EpochMetrics) -> None:
    """Append the metrics of an epoch, one line."""
    # JSON has only finite numbers; any other perplexity is written as null.
    values = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in asdict(metrics).items()
    }
    _append(path, values)


def append_losses(path: Path, losses: StepLosses) -> None:
    """Append the losses of successive steps, one line."""
    # Seven digits say all that a float32 knows.
    rounded = [float(f"{x:.7g}") if math.isfinite(x) else None for x in losses.losses]
    _append(path, {**asdict(losses), "losses": rounded})


def read_metrics(path: Path) -> list[EpochMetrics]:
    """Return what `append_metrics` wrote.

    A line without its end was broken off while it was written: it is left out.

    Raises
    ------
    OSError, ValueError
        The file is missing, or damaged in the line that is named.
    """
    return _read(path, _read_metrics)


def read_losses(path: Path) -> list[StepLosses]:
    """Return what `append_losses` wrote, likewise.

    Raises
    ------
    OSError, ValueError
        The file is missing, or damaged in the line that is named.
    """
    return _read(path, _read_losses)


def cut_metrics(path: Path, *, step: int) -> list[EpochMetrics]:
    """Forget the epochs that ended after a step, and return the others."""
    return _cut(path, read_metrics, lambda metrics: metrics.step <= step)


def cut_losses(path: Path, *, step: int) -> list[StepLosses]:
    """Forget the records of which a step comes after this one, and return the others."""
    return _cut(path, read_losses, lambda part: part.step + len(part.losses) - 1 <= step)


def _read(path: Path, parse: Callable[[str], _Record]) -> list[_Record]:
    """Return the records of a file; the line that is damaged is named."""
    records = []
    for number, line in enumerate(_whole_lines(path), start=1):
        try:
            records.append(parse(line))
        except (KeyError, TypeError, ValueError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else f"is damaged: {error}"
            msg = f"line {number} of {path.name} {reason}"
            raise ValueError(msg) from error
    return records


def _cut(
    path: Path, read: Callable[[Path], list[_Record]], stays: Callable[[_Record], bool]
) -> list[_Record]:
    if not path.exists():
        return []
    # The lines themselves, so that what stays is as it was written.
    pairs = zip(read(path), _whole_lines(path), strict=True)
    kept = [(record, line) for record, line in pairs if stays(record)]
    write_text(path, "".join(line + "\n" for _, line in kept))
    return [record for record, _ in kept]


def _append(path: Path, values: dict[str, object]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def _whole_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()


def _read_metrics(line: str) -> EpochMetrics:
    values = json.loads(line)
    if values["perplexity"] is None:
        values["perplexity"] = math.nan
    return EpochMetrics(**values)


def _read_losses(line: str) -> StepLosses:
    values = json.loads(line)
    losses = [math.nan if loss is None else float(loss) for loss in values["losses"]]
    return StepLosses(**{**values, "losses": losses})
