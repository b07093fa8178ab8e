"""Statistics that show whether permutations look random, with stated significance.

Each takes places: where permutations, one per row, send the indices, one per
column. Each counts something and returns a statistic that is chi-square
distributed where the permutations are uniform and independent, with its degrees
of freedom.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tests.support.plan.oracle import raw_words

Places = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# A tolerated probability of 1e-9 that a fair permutation is called unfair.
_LOG_ODDS = math.log(2e9)
_NUM_BINS = 16


class ChiSquare(NamedTuple):
    """A statistic and its degrees of freedom."""

    statistic: float
    freedom: int

    @property
    def is_likely(self) -> bool:
        """Whether it lies where chance leaves it but once in 1e9 times.

        Bounds of Laurent and Massart, "Adaptive Estimation of a Quadratic
        Functional by Model Selection" (2000), lemma 1: a chi-square of k
        degrees of freedom is above ``k + 2 sqrt(k x) + 2 x``, and below
        ``k - 2 sqrt(k x)``, with a probability of at most ``exp(-x)`` each.
        Where indices are drawn without replacement, the statistic is a little
        smaller than a chi-square.
        """
        width = 2 * math.sqrt(self.freedom * _LOG_ODDS)
        return -width < self.statistic - self.freedom < width + 2 * _LOG_ODDS


def keys_of(seed: int, epoch: int) -> npt.NDArray[np.uint64]:
    """Return the round keys of a plan."""
    return np.array(raw_words(seed, epoch)[1:], np.uint64)


def quotients(places: Places) -> Places:
    """Return the permutations that lead from the first row to the second, the third to the fourth.

    Where the rows are independent and uniform, so are these.
    """
    inverses = np.argsort(places[0::2], axis=1)
    return np.take_along_axis(places[1::2], inverses, axis=1)


def pairs_apart(size: int, distance: int) -> Places:
    """Return the first indices of pairs ``distance`` apart of which no two share an index."""
    pair = np.arange(min(size // (2 * distance) * distance, 1 << 15))
    return pair // distance * 2 * distance + pair % distance


def right_base(size: int) -> int:
    """Return how far apart indices are that differ in the left digit only, by one."""
    return -(-size // (math.isqrt(size - 1) + 1))


def position_counts(places: Places) -> ChiSquare:
    """Count how often every index goes to every place."""
    num_keys, size = places.shape
    cells = np.arange(size) * size + places
    expected = num_keys / size
    counts = np.bincount(cells.ravel(), minlength=size * size)
    # Rows and columns have fixed sums, which leaves (size - 1)**2 free.
    statistic = float(((counts - expected) ** 2).sum()) / expected * (size - 1) / size
    return ChiSquare(statistic, (size - 1) ** 2)


def first_places(places: Places) -> ChiSquare:
    """Count how often the first index goes to every place."""
    size = places.shape[1]
    return _compare(np.bincount(places[:, 0], minlength=size), np.full(size, 1 / size))


def fixed_points(places: Places) -> ChiSquare:
    """Count the indices that stay where they are: a Poisson variable of mean 1."""
    counts = (places == np.arange(places.shape[1])).sum(axis=1)
    shares = [math.exp(-1) / math.factorial(count) for count in range(5)]
    observed = np.bincount(np.minimum(counts, 5), minlength=6)
    return _compare(observed, np.array([*shares, 1 - sum(shares)]))


def inversions(places: Places) -> ChiSquare:
    """Count the pairs of the first 64 indices that are out of order: half of all."""
    head = places[:, :64]
    num_keys, size = head.shape
    earlier, later = np.triu_indices(size, 1)
    counts = (head[:, earlier] > head[:, later]).sum(axis=1)
    deviation = math.sqrt(size * (size - 1) * (2 * size + 5) / 72)
    score = float((counts - size * (size - 1) / 4).sum()) / deviation / math.sqrt(num_keys)
    return ChiSquare(score**2, 1)


def serial_correlation(places: Places) -> ChiSquare:
    """Correlate the places of neighbours.

    Mean and variance are from Wald and Wolfowitz, "An Exact Test for Randomness
    in the Non-Parametric Case" (1943).
    """
    num_keys, size = places.shape
    centred = places - (size - 1) / 2
    products = (centred * np.roll(centred, 1, axis=1)).sum(axis=1)
    squares, fourths = float((centred[0] ** 2).sum()), float((centred[0] ** 4).sum())
    mean = -squares / (size - 1)
    variance = (squares**2 - fourths) / (size - 1) - mean**2
    variance += (squares**2 - 2 * fourths) / ((size - 1) * (size - 2))
    return ChiSquare(float((products - mean).sum()) ** 2 / variance / num_keys, 1)


def joint_places(first: Places, second: Places, size: int) -> ChiSquare:
    """Count into which parts of the domain two different indices go."""
    num_bins = min(size, _NUM_BINS)
    bins = [_part(places, size, num_bins) for places in (first, second)]
    counts = np.bincount(bins[0] * num_bins + bins[1], minlength=num_bins**2)
    widths = _widths(size, num_bins)
    shares = (np.outer(widths, widths) - np.diag(widths)) / (float(size) * (size - 1))
    return _compare(counts, shares.ravel())


def steps(first: Places, second: Places, size: int) -> ChiSquare:
    """Count how far apart two different indices go, modulo the size."""
    num_bins = min(size - 1, _NUM_BINS**2)
    counts = np.bincount(_part((second - first) % size - 1, size - 1, num_bins), minlength=num_bins)
    return _compare(counts, _widths(size - 1, num_bins) / (size - 1))


def independent_places(first: Places, second: Places, size: int) -> ChiSquare:
    """Count into which parts of the domain the same indices go under two keys."""
    bins = [_part(places, size, _NUM_BINS) for places in (first, second)]
    counts = np.bincount(bins[0] * _NUM_BINS + bins[1], minlength=_NUM_BINS**2)
    widths = _widths(size, _NUM_BINS) / size
    return _compare(counts, np.outer(widths, widths).ravel())


def residues(places: Places, divisor: int) -> ChiSquare:
    """Count the remainders of places in a large domain."""
    return _compare(np.bincount(places % divisor, minlength=divisor), np.ones(divisor) / divisor)


def orders(places: Places) -> ChiSquare:
    """Count how often every one of the size! permutations comes."""
    size = places.shape[1]
    numbers = places @ size ** np.arange(size)
    num_orders = math.factorial(size)
    counts = np.zeros(num_orders)
    found = np.unique(numbers, return_counts=True)[1]
    counts[: len(found)] = found
    return _compare(counts, np.full(num_orders, 1 / num_orders))


def _part(values: Places, size: int, num_bins: int) -> Places:
    """Return in which of equal parts of [0, size) values lie, half-open."""
    return np.searchsorted(_starts(size, num_bins)[1:], values, side="right")


def _widths(size: int, num_bins: int) -> Floats:
    return np.diff(np.array([*_starts(size, num_bins), size])).astype(np.float64)


def _starts(size: int, num_bins: int) -> Sequence[int]:
    return [number * size // num_bins for number in range(num_bins)]


def _compare(counts: npt.NDArray[Any], shares: Floats) -> ChiSquare:
    expected = counts.sum() * shares
    possible = expected > 0
    assert not counts[~possible].any()
    differences = (counts - expected)[possible]
    statistic = float((differences**2 / expected[possible]).sum())
    return ChiSquare(statistic, int(possible.sum()) - 1)
