"""Best-fit decreasing, from how many pieces there are of each length."""

import bisect
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tokenloom.plan.order import IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Patterns:
    """Bins of pieces; those with the same lengths are one pattern with a count.

    A pattern is a few runs of equal lengths. Its bins share out the pieces of a
    length in order: bin 0 takes the first ``repeats`` from ``bases`` on, bin 1 the
    next ones.

    Attributes
    ----------
    stops : int64 array, shape (num_patterns,)
        Bins up to the end of each pattern; the last is the number of all bins.
    counts : int64 array, shape (num_patterns,)
        Bins of each pattern, at least one.
    fills : int64 array, shape (num_patterns,)
        Sum of the lengths in a bin of each pattern.
    firsts : int64 array, shape (num_patterns + 1,)
        The runs of pattern i are [firsts[i], firsts[i + 1]).
    lengths, repeats, bases : int64 array, shape (num_runs,)
        The length of the pieces of a run, how many of them each bin takes, and
        how many pieces of that length the patterns before it take.
    """

    stops: IntArray
    counts: IntArray
    fills: IntArray
    firsts: IntArray
    lengths: IntArray
    repeats: IntArray
    bases: IntArray

    @property
    def num_bins(self) -> int:
        """How many bins there are."""
        return int(self.stops[-1]) if len(self.stops) else 0


class _Runs(NamedTuple):
    """The runs of a bin, the last first: bins that begin alike share them."""

    length: int
    repeats: int
    before: "_Runs | None"


class _Bins(NamedTuple):
    """Bins that are filled alike."""

    number: int
    runs: _Runs | None


def pack(num_pieces: Mapping[int, int], *, capacity: int) -> Patterns:
    """Return the bins of best-fit decreasing.

    The longest piece comes first, and each goes where it leaves the least room. The
    number of bins is the same as if each piece were placed by itself; here all bins
    that are filled alike take their pieces of a length at once, so the cost depends on
    ``capacity`` and not on the number of pieces.

    Parameters
    ----------
    num_pieces : mapping of int to int
        How many pieces there are of each length, which is in [1, capacity].
    capacity : int
        Sum of the lengths that a bin holds at most.

    Notes
    -----
    Best-fit packing of documents: Ding et al., "Fewer Truncations Improve Language
    Modeling" (2024). From the histogram: Krell et al., "Efficient Sequence Packing
    without Cross-contamination" (2021).

    >>> patterns = pack({1: 2, 3: 3}, capacity=4)
    >>> patterns.counts.tolist(), patterns.fills.tolist()
    ([2, 1], [4, 3])
    """
    open_bins = _OpenBins(capacity)
    for length in sorted(num_pieces, reverse=True):
        left = num_pieces[length]
        while left:
            left = open_bins.place(length, left)
    return _flatten(open_bins)


class _OpenBins:
    """Bins by the room that is left in them."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._by_room: dict[int, list[_Bins]] = {}
        # The amounts of room for which there are bins, ascending.
        self._rooms: list[int] = []
        self.full: list[_Bins] = []

    def place(self, length: int, left: int) -> int:
        """Place pieces of a length where they leave the least room; return how many are left."""
        at = bisect.bisect_left(self._rooms, length)
        if at == len(self._rooms):
            room = self._capacity
            bins = _Bins(-(-left // (room // length)), None)
        else:
            room = self._rooms[at]
            bins = self._take(at, room)
        # A bin that has just taken a piece is still the one with the least room that suffices, as
        # long as another piece fits: so each bin takes all that fit before the next takes one.
        repeats = room // length
        num_full = min(bins.number, left // repeats)
        left -= num_full * repeats
        self._put(num_full, room, length, repeats, bins.runs)
        if num_full < bins.number and left:
            self._put(1, room, length, left, bins.runs)
            num_full, left = num_full + 1, 0
        self._add(room, _Bins(bins.number - num_full, bins.runs))
        return left

    def remaining(self) -> list[tuple[int, _Bins]]:
        """Return the bins that are not full, with their room."""
        return [(room, bins) for room in self._rooms for bins in self._by_room[room]]

    def _take(self, at: int, room: int) -> _Bins:
        group = self._by_room[room]
        bins = group.pop()
        if not group:
            del self._by_room[room], self._rooms[at]
        return bins

    def _put(self, number: int, room: int, length: int, repeats: int, runs: _Runs | None) -> None:
        filled = _Bins(number, _Runs(length, repeats, runs))
        self._add(room - length * repeats, filled)

    def _add(self, room: int, bins: _Bins) -> None:
        if not bins.number:
            return
        if not room:
            self.full.append(bins)
            return
        if room not in self._by_room:
            self._by_room[room] = []
            bisect.insort(self._rooms, room)
        self._by_room[room].append(bins)


def _flatten(open_bins: _OpenBins) -> Patterns:
    capacity = open_bins._capacity  # noqa: SLF001  its own
    patterns = [(capacity, bins) for bins in open_bins.full]
    patterns += [(capacity - room, bins) for room, bins in open_bins.remaining()]
    firsts, rows = [0], []
    num_used: dict[int, int] = {}
    for _, bins in patterns:
        runs = bins.runs
        while runs is not None:
            base = num_used.get(runs.length, 0)
            num_used[runs.length] = base + bins.number * runs.repeats
            rows.append((runs.length, runs.repeats, base))
            runs = runs.before
        firsts.append(len(rows))
    counts = [bins.number for _, bins in patterns]
    table = np.array(rows, np.int64).reshape(-1, 3)
    return Patterns(
        stops=np.array(list(itertools.accumulate(counts)), np.int64),
        counts=np.array(counts, np.int64),
        fills=np.array([fill for fill, _ in patterns], np.int64),
        firsts=np.array(firsts, np.int64),
        lengths=table[:, 0].copy(),
        repeats=table[:, 1].copy(),
        bases=table[:, 2].copy(),
    )
