"""Steps of a run as text: requested ones, and those whose loss stands out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from tokenloom.errors import ArgumentError, RunError
from tokenloom.inspection.batches import BatchText, read_batch
from tokenloom.loading.dataset import Windows
from tokenloom.training.metrics import StepLosses
from tokenloom.training.run import Run

Losses = npt.NDArray[np.float64]

NUM_BEFORE = 100
NUM_DEVIATIONS = 5.0

_NUM_NEEDED = 20
# The standard deviation of a normal distribution, divided by its MAD.
_MAD_TO_DEVIATION = 1.4826
# Where the losses before are all but equal, rounding is no spike.
_LEAST_DEVIATION = 1e-3
_CHUNK = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class StepText:
    """A step of a training, with the text that the model saw in it.

    Attributes
    ----------
    step : int
        Its number, counted from 1 over the whole run.
    loss : float
        Loss of the batch before the step, in nats per token; NaN if not finite.
    batch : BatchText
    """

    step: int
    loss: float
    batch: BatchText


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpikes:
    """The spikes of a run's loss.

    Attributes
    ----------
    num_steps, num_spikes : int
        Of the whole run.
    spikes : tuple of (Spike, StepText)
        The strongest spikes, the strongest first, each with the text of its first
        step.
    """

    num_steps: int
    num_spikes: int
    spikes: "tuple[tuple[Spike, StepText], ...]"


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
    return _read_text(_read_losses(run), step, windows, rows)


def read_spikes(run: Run, windows: Windows, *, top: int, rows: Sequence[int] | None) -> RunSpikes:
    """Return the spikes of a run's loss, the strongest first, with their text.

    `find_spikes` defines what a spike is.

    Parameters
    ----------
    run : Run
    windows : RandomWindows or SequentialWindows
        What `reopen_windows` returned; their epoch is set.
    top : int
        The most spikes that are read.
    rows : sequence of int or None
        Which rows of each batch; None for all.

    Raises
    ------
    ArgumentError
        The batch has no such row.
    RunError
        The run's losses are missing or damaged.
    """
    records = _read_losses(run)
    losses = np.concatenate([np.array(record.losses, float) for record in records])
    first_step = records[0].step
    spikes = find_spikes(losses)
    return RunSpikes(
        num_steps=len(losses),
        num_spikes=len(spikes),
        spikes=tuple(
            (spike, _read_text(records, first_step + spike.first, windows, rows))
            for spike in spikes[:top]
        ),
    )


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
            return StepText(step=step, loss=record.losses[position], batch=batch)
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
        The median of the losses before it.
    deviations : float
        Robust standard deviations between the median before the spike and its
        highest loss; infinite if a loss is not finite.
    """

    first: int
    stop: int
    loss: float
    usual: float
    deviations: float


def find_spikes(losses: Losses) -> list[Spike]:
    """Return the losses that stand out, the strongest first.

    The Hampel identifier (Davies and Gather, 1993, "The identification of
    multiple outliers", JASA 88), one-sided, over the steps before: a loss
    stands out if it lies more than 5 robust standard deviations, 1.4826 times
    the median absolute deviation (MAD), above the median of the 100 losses
    before it. Median and MAD are not moved by the outliers among those. Only
    what came before is looked at, since the loss of a training falls: its
    beginning is high, and no spike. A deviation counts as at least a
    thousandth of the median. The first 20 steps are not judged; a loss that is
    not finite always stands out.

    Parameters
    ----------
    losses : float64 array, shape (num_steps,)

    >>> losses = np.tile([2.0, 2.1, 1.9], 40)
    >>> losses[70:72] = 9.0, 8.0
    >>> [(spike.first, spike.stop) for spike in find_spikes(losses)]
    [(70, 72)]
    """
    usual, deviations = _compare(losses)
    stands_out = deviations > NUM_DEVIATIONS
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


def _compare(losses: Losses) -> tuple[Losses, Losses]:
    """Return the median before each loss, and how many deviations it lies above."""
    known = np.where(np.isfinite(losses), losses, np.nan)
    before = np.concatenate([np.full(NUM_BEFORE, np.nan), known[:-1]])
    windows = sliding_window_view(before, NUM_BEFORE)
    usual, scale = np.full(len(losses), np.nan), np.full(len(losses), np.nan)
    # In parts, since medians copy what they look at.
    for start in range(0, len(losses), _CHUNK):
        part = windows[start : start + _CHUNK]
        enough = np.flatnonzero(np.isfinite(part).sum(axis=1) >= _NUM_NEEDED)
        judged = part[enough]
        median = np.nanmedian(judged, axis=1)
        mad = np.nanmedian(np.abs(judged - median[:, None]), axis=1)
        usual[start + enough] = median
        scale[start + enough] = np.maximum(
            _MAD_TO_DEVIATION * mad, _LEAST_DEVIATION * np.abs(median)
        )
    # A loss with too few before it is not judged: 0 deviations.
    deviations = np.nan_to_num((known - usual) / np.maximum(scale, np.finfo(float).tiny), nan=0.0)
    return usual, np.where(np.isfinite(losses), deviations, np.inf)
