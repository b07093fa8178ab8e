"""Steps of a run as text: requested ones, and those whose loss stands out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from tokenloom._checks import as_integers, as_number
from tokenloom.errors import ArgumentError, RunError
from tokenloom.inspection.batches import BatchText, read_batch
from tokenloom.loading.dataset import Windows
from tokenloom.training.metrics import StepLosses
from tokenloom.training.run import Run

Losses = npt.NDArray[np.float64]
Learnt = npt.NDArray[np.bool_]

NUM_AROUND, NUM_OF_SCALE = 50, 100
"""On each side of a step, the losses of its median, and the residuals of its deviation."""
THRESHOLD = 4.5
"""Deviations above which a loss stands out, where none is given."""

# Losses with fewer others around them are not judged, nor are the first ones, which fall fast.
_NUM_NEEDED = 20
# The standard deviation of a normal distribution, divided by its MAD.
_MAD_TO_DEVIATION = 1.4826
# Where the losses before are all but equal, rounding is no spike.
_LEAST_DEVIATION = 1e-3
_ROUNDING = float(np.finfo(np.float32).eps)
_CHUNK = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class StepText:
    """A step of a training, with the text that the model saw in it.

    Attributes
    ----------
    step : int
        Its number, counted from 1 over the whole run.
    loss : float
        Loss of the batch before the step, in nats per token; NaN if not finite, or if
        no target is learnt.
    batch : BatchText
    has_targets : bool
        Whether a target of the batch is learnt.
    """

    step: int
    loss: float
    batch: BatchText
    has_targets: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunSpikes:
    """The spikes of a run's loss.

    Attributes
    ----------
    threshold : float
        Deviations above which a loss is a spike.
    num_spikes : int
        Of the whole run.
    spikes : tuple of (Spike, StepText)
        The strongest spikes, the strongest first, each with the text of its first
        step; then the steps that stand out most below the threshold.
    first_step : int
        The step of the first loss, counted from 1 over the whole run.
    losses, usual : float64 arrays, shape (num_steps,)
        Of each step, NaN where no target is learnt, and the running median.
    """

    threshold: float
    num_spikes: int
    spikes: "tuple[tuple[Spike, StepText], ...]"
    first_step: int
    losses: Losses
    usual: Losses

    @property
    def num_steps(self) -> int:
        """Of the whole run."""
        return len(self.losses)


def read_step(run: Run, windows: Windows, *, step: int, rows: Sequence[int] | None) -> StepText:
    """Return the text that the model saw in a step.

    Parameters
    ----------
    run : Run
    windows : RandomWindows or SequentialWindows
        What `reopen_windows` returned; their epoch is set.
    step : int
        Its number, counted from 1 over the whole run.
    rows : sequence of int or None
        Which rows of the batch; None for all.

    Raises
    ------
    ArgumentError
        The run has no such step, or the batch no such row.
    RunError
        The run's losses are missing or damaged.
    """
    (step,) = as_integers(step=step)
    return _read_text(_read_losses(run), step, windows, rows)


def read_spikes(
    run: Run,
    windows: Windows,
    *,
    top: int,
    rows: Sequence[int] | None,
    threshold: float = THRESHOLD,
) -> RunSpikes:
    """Return the steps of a run whose loss stands out most, the first ones first, with their text.

    `find_spikes` defines what a spike is. If there are fewer than ``top``,
    the steps that stand out most without being spikes follow.

    Parameters
    ----------
    run : Run
    windows : RandomWindows or SequentialWindows
        What `reopen_windows` returned; their epoch is set.
    top : int
        How many steps are read.
    rows : sequence of int
        Which rows of each batch.
    threshold : float
        As in `find_spikes`.

    Raises
    ------
    ArgumentError
        The batch has no such row.
    RunError
        The run's losses are missing or damaged.
    """
    records = _read_losses(run)
    losses = np.concatenate([np.array(record.losses, float) for record in records])
    has_targets = np.concatenate([_find_learnt(record) for record in records])
    first_step = records[0].step
    usual, deviations = _compare(losses, has_targets)
    spikes = _join(losses, usual, deviations, threshold)
    shown = spikes[:top]
    if len(shown) < top:
        rest = deviations.copy()
        for spike in spikes:
            rest[spike.first : spike.stop] = 0.0
        shown += _find_highest(losses, usual, rest, number=top - len(shown))
    return RunSpikes(
        threshold=threshold,
        num_spikes=len(spikes),
        spikes=tuple(
            (spike, _read_text(records, first_step + spike.first, windows, rows)) for spike in shown
        ),
        first_step=first_step,
        losses=losses,
        usual=usual,
    )


def _find_learnt(record: StepLosses) -> Learnt:
    """Return of which steps a target is learnt."""
    has_targets = np.ones(len(record.losses), np.bool_)
    has_targets[[at for at in record.without_targets or () if at < len(has_targets)]] = False
    return has_targets


def _read_losses(run: Run) -> list[StepLosses]:
    records = [record for record in run.losses() if record.losses]
    if not records:
        msg = f"the run {str(run.path)!r} has no step: train longer"
        raise RunError(msg)
    return records


def _read_text(
    records: Sequence[StepLosses], step: int, windows: Windows, rows: Sequence[int] | None
) -> StepText:
    for record in records:
        position = step - record.step
        if 0 <= position < len(record.losses):
            windows.set_epoch(record.epoch)
            batch = read_batch(windows, index=record.batch + position, rows=rows)
            has_targets = bool(_find_learnt(record)[position])
            loss = record.losses[position]
            return StepText(step=step, loss=loss, batch=batch, has_targets=has_targets)
    last = records[-1].step + len(records[-1].losses) - 1
    msg = f"step must be in [{records[0].step}, {last + 1}), got {step}"
    raise ArgumentError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spike:
    """Successive steps whose loss stands out.

    Attributes
    ----------
    first, stop : int
        Positions in the losses, from 0, half-open.
    loss : float
        At the first of them, in nats per token.
    usual : float
        The median of the losses around it.
    deviations : float
        Robust standard deviations of the step that stands out most; infinite if
        a loss is not finite.
    """

    first: int
    stop: int
    loss: float
    usual: float
    deviations: float


def find_spikes(
    losses: Losses, threshold: float = THRESHOLD, *, has_targets: Learnt | None = None
) -> list[Spike]:
    """Return the losses that stand out, the strongest first.

    The Hampel filter (Davies and Gather, 1993, "The identification of multiple
    outliers", JASA 88; Pearson et al., 2016, "Generalized Hampel Filters",
    EURASIP Journal on Advances in Signal Processing), one-sided: a loss stands
    out if it lies more than ``threshold`` robust standard deviations above the
    running median, that of the 50 losses before it, itself and the 50 after it.
    A robust standard deviation is 1.4826 times the median of the distances to
    the running median (MAD) of the 100 losses before it, itself and the 100
    after it. So a loss that falls or rises as training goes on does not widen
    the deviation, and outliers move neither median. A deviation counts as at
    least a thousandth of the median, and not as less than a float32 can tell from 0
    beside 1. The first 20 steps are not judged, nor is a step of which no target is
    learnt; any other loss that is not finite stands out.

    Parameters
    ----------
    losses : float64 array, shape (num_steps,)
    threshold : float
    has_targets : bool array, shape (num_steps,), optional
        Of which steps a target is learnt; by default of all.

    Raises
    ------
    ArgumentError
        The threshold is not above 0.

    >>> losses = np.tile([2.0, 2.1, 1.9], 40)
    >>> losses[70:72] = 9.0, 8.0
    >>> [(spike.first, spike.stop) for spike in find_spikes(losses)]
    [(70, 72)]
    """
    if has_targets is None:
        has_targets = np.ones(len(losses), np.bool_)
    return _join(losses, *_compare(losses, has_targets), threshold)


def _join(losses: Losses, usual: Losses, deviations: Losses, threshold: float) -> list[Spike]:
    """Return the spikes, each of successive steps that stand out."""
    if not as_number("threshold", threshold) > 0:
        msg = f"threshold must be above 0, got {threshold}"
        raise ArgumentError(msg)
    stands_out = deviations > threshold
    edges = np.flatnonzero(np.diff(np.concatenate([[False], stands_out, [False]]).astype(np.int8)))
    spikes = [
        Spike(
            first=int(first),
            stop=int(stop),
            loss=float(losses[first]),
            usual=float(usual[first]),
            deviations=float(deviations[first:stop].max()),
        )
        for first, stop in edges.reshape(-1, 2)
    ]
    return sorted(spikes, key=lambda spike: -spike.deviations)


def _find_highest(losses: Losses, usual: Losses, deviations: Losses, *, number: int) -> list[Spike]:
    """Return the single steps that lie highest above the running median, the highest first."""
    order = np.argsort(-deviations, kind="stable")[:number]
    return [
        Spike(
            first=int(step),
            stop=int(step) + 1,
            loss=float(losses[step]),
            usual=float(usual[step]),
            deviations=float(deviations[step]),
        )
        for step in order
        if deviations[step] > 0
    ]


def _compare(losses: Losses, has_targets: Learnt) -> tuple[Losses, Losses]:
    """Return the running median, and how many deviations each loss lies above it."""
    known = np.where(np.isfinite(losses) & has_targets, losses, np.nan)
    usual = _running_median(known, NUM_AROUND)
    scale = _MAD_TO_DEVIATION * _running_median(np.abs(known - usual), NUM_OF_SCALE)
    scale = np.fmax(scale, _LEAST_DEVIATION * np.abs(usual))
    # A loss with too few around it is not judged: 0 deviations. Of a perfect model, whose usual
    # loss is 0, the scale would be 0 too.
    deviations = np.nan_to_num((known - usual) / np.maximum(scale, _ROUNDING), nan=0.0)
    deviations[:_NUM_NEEDED] = 0.0
    return usual, np.where(has_targets & ~np.isfinite(losses), np.inf, deviations)


def _running_median(values: Losses, num_around: int) -> Losses:
    """Return the median around each value, NaN where too few are known.

    Parameters
    ----------
    values : float64 array, shape (num_steps,)
    num_around : int
        How many values on each side belong to it.
    """
    if not len(values):
        return values
    edge = np.full(num_around, np.nan)
    windows = sliding_window_view(np.concatenate([edge, values, edge]), 2 * num_around + 1)
    medians = np.full(len(values), np.nan)
    # In chunks, since nanmedian copies its input.
    for start in range(0, len(values), _CHUNK):
        part = windows[start : start + _CHUNK]
        enough = np.flatnonzero(np.isfinite(part).sum(axis=1) >= _NUM_NEEDED)
        medians[start + enough] = np.nanmedian(part[enough], axis=1)
    return medians
