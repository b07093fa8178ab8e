"""What a run writes down of its epochs and steps: lines of JSON, and the plot of its perplexity.

Each line holds, as ``after``, a digest of the line before it: so a line that
was lost, doubled, changed or moved is seen. A checkpoint holds the digest of
the last line of its time, so that lines lost at the end are seen too.
"""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from tokenloom._figures import import_matplotlib, new_figure
from tokenloom._io.atomic import require_own, write_text
from tokenloom._io.regular import append_regular, read_bounded
from tokenloom._wording import show
from tokenloom.errors import ArgumentError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Values that lie closer together are drawn on a linear scale.
_LEAST_RATIO = 4
_SAME = 1e-6
# The file of a hundred million steps is smaller.
_MAX_BYTES = 1 << 31


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochMetrics:
    """What was measured over one epoch.

    Attributes
    ----------
    epoch : int
        Number of the epoch, from 0.
    step : int
        Batches that the model was trained on, up to the end of the epoch.
    perplexity : float
        Of the epoch's batches, each before its step. A value that is not finite is
        null in the file, and NaN when it is read back.
    perplexity_per_character, perplexity_per_byte : float or None
        The same loss spread over the text of the tokens, of their mean length in
        the training text, where that is known. They compare runs of different tokens.
    tokens_per_second : float
        Targets of the loss per second of training, evaluation not counted. Those that
        are ignored, such as those of prompts, are not counted.
    held_out_perplexity : float or None
        Of the held-out tokens after the epoch, where there are any.
    held_out_perplexity_per_character : float or None
        The same loss spread over the characters of the held-out text, where their
        number is known; see `tokenloom.model.Evaluation`.
    held_out_perplexity_per_byte : float or None
        The same, over its bytes.
    held_out_perplexity_by_part : dict of str to float, or None
        Of the held-out tokens of each part, where several texts were held out.
    """

    epoch: int
    step: int
    perplexity: float
    tokens_per_second: float
    perplexity_per_character: float | None = None
    perplexity_per_byte: float | None = None
    held_out_perplexity: float | None = None
    held_out_perplexity_per_character: float | None = None
    held_out_perplexity_per_byte: float | None = None
    held_out_perplexity_by_part: dict[str, float] | None = None


def format_perplexity(per_token: float, per_character: float | None) -> str:
    """Return a perplexity in few characters, per character too where that differs.

    >>> format_perplexity(93.04, 3.71), format_perplexity(9.6, 9.6)
    ('93.04 (3.71 per character)', '9.60')
    """
    shown = f"{per_token:.2f}"
    other = shown if per_character is None else f"{per_character:.2f}"
    return shown if other == shown else f"{shown} ({other} per character)"


def find_best(metrics: Sequence[EpochMetrics]) -> EpochMetrics | None:
    """Return the epoch with the lowest held-out perplexity, None where none was measured."""
    measured = [
        (entry.held_out_perplexity, entry)
        for entry in metrics
        if entry.held_out_perplexity is not None and not math.isnan(entry.held_out_perplexity)
    ]
    # min returns the first of equal epochs, the one whose checkpoint is kept.
    return min(measured, key=lambda pair: pair[0])[1] if measured else None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLosses:
    """The losses of successive steps within one epoch.

    Attributes
    ----------
    step : int
        The first of the steps, counted from 1 over the whole run.
    epoch, batch : int
        The batch of the first step; both from 0. Later steps take the following
        batches.
    losses : list of float
        Mean cross-entropy of each batch before its step, in nats per token;
        NaN where it was not finite, or where none of its targets is learnt.
    without_targets : list of int, or None
        The positions in ``losses`` of the steps of which no target is learnt, if there
        are any.
    """

    step: int
    epoch: int
    batch: int
    losses: list[float]
    without_targets: list[int] | None = None


_Record = TypeVar("_Record", EpochMetrics, StepLosses)
# The key of the digest of the line before.
_AFTER = "after"


class Records(Generic[_Record]):
    """A file of records, one line each; only one process writes it.

    Parameters
    ----------
    path : path
    kind : type
        Of the records.

    Attributes
    ----------
    path : path
    """

    def __init__(self, path: Path, kind: type[_Record]) -> None:
        self.path = path
        self._kind: type[EpochMetrics | StepLosses] = kind
        # The digest of the last line, once it is known.
        self._last: str | None = None

    @property
    def last_digest(self) -> str:
        """The digest of the last whole line, empty where there is none.

        Raises OSError or ValueError where the file cannot be read.
        """
        if self._last is None:
            # lexists, since a link that leads nowhere is no missing file.
            lines = _whole_lines(self.path) if os.path.lexists(self.path) else []
            self._last = _digest(lines[-1]) if lines else ""
        return self._last

    def append(self, record: _Record) -> None:
        """Append a record.

        Raises
        ------
        OSError, ValueError
            The file cannot be read or written to.
        """
        line = json.dumps({**_finite_values(record), _AFTER: self.last_digest})
        append_regular(self.path, (line + "\n").encode("ascii"))
        self._last = _digest(line)

    def read(self, *, last: str | None = None) -> list[_Record]:
        """Return the records that `append` wrote.

        A line without an end was not finished when it was written: it is left out.

        Parameters
        ----------
        last : str, optional
            The digest of a line that must be there, empty for none.

        Raises
        ------
        OSError, ValueError
            The file is missing, is damaged in the line that is named, or belongs to
            another run.
        """
        pairs = self._read_lines()
        # Lines written after the checkpoint may follow.
        if last and all(_digest(line) != last for _, line in reversed(pairs)):
            raise self._another_run(len(pairs))
        return [record for record, _ in pairs]

    def cut(self, *, step: int, last: str | None = None) -> list[_Record]:
        """Forget the records of which a step comes after this one, and return the others.

        Parameters
        ----------
        step : int
        last : str, optional
            The digest that the last line that stays must have, empty for none.

        Raises
        ------
        OSError, ValueError
            The file is damaged, or lines are missing at its end; it stays as it is.
        """
        pairs = self._read_lines() if os.path.lexists(self.path) else []
        kept = [(record, line) for record, line in pairs if _last_step(record) <= step]
        found = _digest(kept[-1][1]) if kept else ""
        if last is not None and last != found:
            raise self._another_run(len(kept))
        if self.path.exists():
            require_own(self.path)
            # Write the lines themselves, so that those that stay are unchanged.
            write_text(self.path, "".join(line + "\n" for _, line in kept))
        self._last = found
        return [record for record, _ in kept]

    def synchronize(self) -> None:
        """Wait until the lines are on the disk, where there is a file."""
        try:
            # Windows synchronises only what is open for writing.
            with self.path.open("rb+") as file:
                os.fsync(file.fileno())
        except FileNotFoundError:
            return

    def _read_lines(self) -> list[tuple[_Record, str]]:
        """Return the records and their lines; the line that is damaged is named."""
        pairs: list[tuple[_Record, str]] = []
        for number, line in enumerate(_whole_lines(self.path), start=1):
            try:
                record = _parse(line, self._kind)
            except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
                reason = f"lacks {error}" if isinstance(error, KeyError) else f"is damaged: {error}"
                msg = f"line {number} of {self.path.name} {reason}"
                raise ValueError(msg) from error
            _check_place(self.path, number, line, pairs[-1][1] if pairs else None)
            pairs.append((record, line))
        return pairs

    def _another_run(self, num_lines: int) -> ValueError:
        msg = (
            f"{self.path.name} must hold all lines up to the checkpoint, {num_lines:,} of them are "
            "there: lines are missing at its end, or it belongs to another run"
        )
        return ValueError(msg)


def _last_step(record: EpochMetrics | StepLosses) -> int:
    if isinstance(record, StepLosses):
        return record.step + len(record.losses) - 1
    return record.step


def _finite_values(record: EpochMetrics | StepLosses) -> dict[str, Any]:
    """Return the fields of a record; numbers that are not finite, which JSON lacks, as None."""
    values = dataclasses.asdict(record)
    if isinstance(record, StepLosses):
        # Seven digits hold the precision of a float32.
        rounded = [float(f"{x:.7g}") if math.isfinite(x) else None for x in record.losses]
        values["losses"] = rounded
        return {name: value for name, value in values.items() if value is not None}
    by_part = values.pop("held_out_perplexity_by_part")
    finite = {name: _finite(value) for name, value in values.items()}
    if by_part is not None:
        each = {name: _finite(value) for name, value in by_part.items()}
        finite["held_out_perplexity_by_part"] = each
    return finite


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _check_place(path: Path, number: int, line: str, before: str | None) -> None:
    """Check that a line was written directly after the line before it."""
    after = json.loads(line).get(_AFTER)
    if after is None:
        # Older releases wrote no digests; what they wrote comes first.
        is_right = before is None or _AFTER not in json.loads(before)
    else:
        is_right = after == ("" if before is None else _digest(before))
    if not is_right:
        place = "is not the first" if before is None else f"does not follow line {number - 1}"
        msg = (
            f"line {number} of {path.name} {place}: a line was lost, doubled, changed or moved "
            "after it was written"
        )
        raise ValueError(msg)


def _digest(line: str) -> str:
    return hashlib.sha256(line.encode("utf-8")).hexdigest()[:16]


def _whole_lines(path: Path) -> list[str]:
    content = read_bounded(path, max_bytes=_MAX_BYTES)
    # Only what ends with a line feed is whole; no other character ends a line.
    return content.decode("utf-8").split("\n")[:-1]


def _parse(line: str, kind: type[EpochMetrics | StepLosses]) -> Any:
    values = json.loads(line)
    if not isinstance(values, dict):
        msg = f"expected an object, got {show(values)}"
        raise TypeError(msg)
    found: dict[str, Any] = {
        field.name: _READERS.get(field.name, _number)(field.name, values[field.name])
        for field in dataclasses.fields(kind)
        # Without held-out text these are missing; older releases wrote only the first one.
        if field.default is not None or values.get(field.name) is not None
    }
    return kind(**found)


def _count(name: str, value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        msg = f"{name} must be an integer of at least 0, got {show(value)}"
        raise TypeError(msg)
    return value


def _number(name: str, value: object) -> float:
    if value is None:
        return math.nan
    if type(value) not in (int, float):
        msg = f"{name} must be a number or null, got {show(value)}"
        raise TypeError(msg)
    return float(value)  # type: ignore[arg-type]  # a number by now


def _numbers(name: str, value: object) -> list[float]:
    if not isinstance(value, list):
        msg = f"{name} must be a list, got {show(value)}"
        raise TypeError(msg)
    return [_number(name, number) for number in value]


def _counts(name: str, value: object) -> list[int]:
    if not isinstance(value, list):
        msg = f"{name} must be a list, got {show(value)}"
        raise TypeError(msg)
    return [_count(name, number) for number in value]


def _numbers_by_name(name: str, value: object) -> dict[str, float]:
    if not isinstance(value, dict):
        msg = f"{name} must be an object, got {show(value)}"
        raise TypeError(msg)
    return {part: _number(name, number) for part, number in value.items()}


_READERS: dict[str, Callable[[str, object], object]] = {
    **dict.fromkeys(("epoch", "step", "batch"), _count),
    "losses": _numbers,
    "without_targets": _counts,
    "held_out_perplexity_by_part": _numbers_by_name,
}


def plot_perplexity(metrics: Sequence[EpochMetrics], *, title: str = "Perplexity") -> "Figure":
    """Draw perplexity over epochs, of training and of held-out text, with the best epoch marked.

    Parameters
    ----------
    metrics : sequence of EpochMetrics
        At least one.
    title : str
        Such as the name of the corpus.

    Raises
    ------
    ArgumentError
        There are no metrics.
    UsageError
        matplotlib is not installed.
    """
    if not metrics:
        msg = "metrics must hold at least one epoch, got none"
        raise ArgumentError(msg)
    figure = new_figure(width=7.0, height=4.0)
    axes = figure.add_subplot()
    epochs = [entry.epoch + 1 for entry in metrics]
    marker = "o" if len(metrics) == 1 else None
    training = [entry.perplexity for entry in metrics]
    axes.plot(epochs, training, label=f"training: {training[-1]:.4g} at the end", marker=marker)
    held_out = [_known(entry.held_out_perplexity) for entry in metrics]
    best = find_best(metrics)
    if best is not None:
        label = f"held out: {held_out[-1]:.4g} at the end"
        axes.plot(epochs, held_out, label=label, marker=marker)
        label = f"best held out: {best.held_out_perplexity:.4g} at epoch {best.epoch + 1}"
        place = [best.epoch + 1], [_known(best.held_out_perplexity)]
        axes.plot(*place, "o", color="tab:red", label=label)
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.set_ylabel("perplexity per token")
    axes.xaxis.set_major_locator(import_matplotlib("ticker").MaxNLocator(integer=True))
    _scale(axes, [value for value in (*training, *held_out) if math.isfinite(value)])
    _add_characters(axes, metrics[-1])
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    return figure


def _known(value: float | None) -> float:
    return math.nan if value is None else value


def _scale(axes: "Axes", values: Sequence[float]) -> None:
    """Choose the scale of the perplexity, which falls from the vocabulary's size to about 1."""
    if not values or max(values) < _LEAST_RATIO * min(values):
        return
    ticker = import_matplotlib("ticker")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())


def _add_characters(axes: "Axes", last: EpochMetrics) -> None:
    """Add a scale per character, where a token is more than a character."""
    per_token, per_character = last.perplexity, _known(last.perplexity_per_character)
    if not (math.isfinite(per_token) and math.isfinite(per_character)):
        return
    if min(per_token, per_character) <= 1 or abs(per_token - per_character) < _SAME:
        return
    length = math.log(per_token) / math.log(per_character)
    ticker = import_matplotlib("ticker")
    other = axes.secondary_yaxis(
        "right",
        functions=(
            lambda values: np.power(np.maximum(values, _SAME), 1 / length),
            lambda values: np.power(np.maximum(values, _SAME), length),
        ),
    )
    other.set_ylabel("perplexity per character")
    other.yaxis.set_major_locator(ticker.MaxNLocator(nbins=6))
    other.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:.3g}"))
    other.yaxis.set_minor_formatter(ticker.NullFormatter())
