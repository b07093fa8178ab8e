"""Steps of a training whose loss stands out from the losses before them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

Losses = npt.NDArray[np.float64]

NUM_BEFORE = 100
NUM_DEVIATIONS = 5.0

_NUM_NEEDED = 20
# Of a normal distribution the standard deviation is so many times the MAD.
_MAD_TO_DEVIATION = 1.4826
# Where the losses before are all but equal, rounding is no spike.
_LEAST_DEVIATION = 1e-3
_CHUNK = 4096


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
        How many robust standard deviations the highest of them lies above the
        median before it; infinite where a loss is not finite.
    """

    first: int
    stop: int
    loss: float
    usual: float
    deviations: float


def find_spikes(losses: Losses) -> list[Spike]:
    """Return what stands out, the strongest first.

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
    # Where too little came before, nothing is said: 0 deviations.
    deviations = np.nan_to_num((known - usual) / np.maximum(scale, np.finfo(float).tiny), nan=0.0)
    return usual, np.where(np.isfinite(losses), deviations, np.inf)
