"""Mixtures: the windows of several parts, in exact shares."""

import bisect
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt

from tokenloom._wording import count
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.plan.order import (
    IntArray,
    PlanSettings,
    ShuffledOrder,
    count_phases,
    count_windows,
)
from tokenloom.plan.permutation import MAX_SIZE, NUM_KEYS, Permutations, permute
from tokenloom.plan.seeds import mix_number

GRID = 1 << 20
"""Into how many equal shares the weights of a stage are rounded."""
BLOCK = 1 << 12
"""Windows of a block, at whose ends the shares are exact, unless it is said otherwise."""
VERSION = 1
"""The version of the arithmetic of mixtures."""

# How many windows are looked up at once, so that what is computed stays in the cache.
_CHUNK = 1 << 14
# From so many windows of a block on, its permutation is quicker alone.
_MANY = 64
_OF_BLOCKS = 0


class Stage(NamedTuple):
    """A part of the training with weights of its own.

    Attributes
    ----------
    first_token : int
        From which token of the whole training on.
    weights : tuple of int
        The weight of each part.
    """

    first_token: int
    weights: tuple[int, ...]


class PartAccount(NamedTuple):
    """What an epoch reads of a part.

    Attributes
    ----------
    windows : int
        How many windows.
    tokens : int
        How many inputs.
    times_read : float
        How often that is the whole part: 0.5 is half of its windows, 2.0 is each twice.
    """

    windows: int
    tokens: int
    times_read: float


class _Layout(NamedTuple):
    """What follows from a mixture and the length of windows.

    Attributes
    ----------
    sizes, phases : int64 array, shape (num_parts,)
        Windows of each part, and how many values its phase can take.
    num_windows : int
        Of an epoch.
    starts : tuple of int
        The window of the whole training at which each stage begins.
    counts : tuple of tuple of int
        How many windows of each part come before each stage.
    """

    sizes: IntArray
    phases: IntArray
    num_windows: int
    starts: tuple[int, ...]
    counts: tuple[tuple[int, ...], ...]

    def stage(self, window: int) -> int:
        """Return which stage a window of the whole training belongs to."""
        return bisect.bisect_right(self.starts, window) - 1

    def find_block(self, window: int, *, size: int) -> tuple[int, int]:
        """Return the first and the past-the-end window of the block that a window lies in."""
        epoch, at = window // self.num_windows, self.stage(window)
        first = max(epoch * self.num_windows, self.starts[at])
        stop = min((epoch + 1) * self.num_windows, *self.starts[at + 1 : at + 2] or [MAX_SIZE])
        start = first + (window - first) // size * size
        return start, min(start + size, stop)


@final
@dataclass(frozen=True, kw_only=True)
class MixtureOrder(ShuffledOrder):
    """Windows of several parts that lie one after another, in exact shares.

    Window g of the whole training is found in two steps. Between blocks of 4,096
    windows the parts' shares are whole numbers, rounded down one after another.
    Inside a block a permutation draws which of its places belongs to which part.
    Each part is read in epochs of its own, with a phase and a permutation of their
    own. A block ends early where an epoch or a stage ends.

    Parameters
    ----------
    names : tuple of str
    part_lengths : tuple of int
        Tokens of each part.
    stages : tuple of Stage
        The first begins at token 0, each other one after the one before.
    num_epoch_tokens : int, optional
        Tokens of an epoch; by default as many as read no part more than once.
    max_repeats : float, optional
        How often a part may be read in the epochs that are asked for.
    block : int
        Windows of a block. Another number is another order.
    """

    names: tuple[str, ...]
    part_lengths: tuple[int, ...]
    stages: tuple[Stage, ...]
    num_epoch_tokens: int | None = None
    max_repeats: float | None = None
    block: int = BLOCK
    _layouts: dict[int, _Layout] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    kind = "mixture"
    carries_state = False

    def __getstate__(self) -> dict[str, object]:
        # Without what was computed from the fields.
        return {**{each.name: getattr(self, each.name) for each in fields(self)}, "_layouts": {}}

    def check(self, settings: PlanSettings) -> None:
        """Check that the mixture has an epoch of such batches.

        Raises
        ------
        ArgumentError
            ``tail="pad"``; the corpus is not the one that is made of the parts; or the
            training would be longer than 2**62 windows.
        CorpusError
            A part is shorter than a window, or an epoch than a batch.
        """
        if settings.tail == "pad":
            msg = (
                'a mixture takes tail="drop" only: its parts end at different times, so an epoch '
                "has no last text that could be padded"
            )
            raise ArgumentError(msg)
        if settings.num_tokens != sum(self.part_lengths):
            msg = (
                f"num_tokens must be {sum(self.part_lengths)}, the length of all parts of the "
                f"mixture, got {settings.num_tokens}"
            )
            raise ArgumentError(msg)
        num_windows = self.num_windows(settings)
        if num_windows < settings.batch_size:
            limit = "num_tokens=" if self.num_epoch_tokens else "the part that is used up first"
            msg = (
                f"a batch of {settings.batch_size:,} x {settings.seq_len:,} inputs needs "
                f"{count(settings.batch_size, 'window')}, an epoch of the mixture has "
                f"{num_windows:,}, which {limit} decides: lower batch_size or seq_len, give "
                "num_tokens=, or give more text"
            )
            raise CorpusError(msg)
        if (settings.epoch + 1) * num_windows > MAX_SIZE:
            most = MAX_SIZE // num_windows
            msg = (
                f"epoch must be below {most} for a mixture of {num_windows:,} windows per epoch, "
                f"got {settings.epoch}"
            )
            raise ArgumentError(msg)

    def check_epochs(self, settings: PlanSettings, num_epochs: int | None) -> None:
        """Check that no part is read more often than ``max_repeats`` allows.

        Raises
        ------
        ArgumentError
            A part would be, in the epochs from this one on; it is named.
        """
        if self.max_repeats is None:
            return
        layout = self._layout(settings.seq_len)
        last = layout.starts[-1] // layout.num_windows + 1
        # Without an end, each part that the last stage draws is read again and again.
        stop = max(settings.epoch, last) + 1 if num_epochs is None else settings.epoch + num_epochs
        before = self._count(layout, settings.epoch * layout.num_windows)
        after = self._count(layout, stop * layout.num_windows)
        for name, size, first, end in zip(
            self.names, layout.sizes.tolist(), before, after, strict=True
        ):
            times = (end - first) / size
            if num_epochs is None and self.stages[-1].weights[self.names.index(name)]:
                times = float("inf")
            if times > self.max_repeats:
                often = "without end" if times == float("inf") else f"{times:,.2f} times"
                epochs = "endless epochs" if num_epochs is None else count(num_epochs, "epoch")
                msg = (
                    f"the part {name!r} would be read {often} in {epochs}, and max_repeats is "
                    f"{self.max_repeats:g}: train for fewer epochs, lower num_tokens= or the "
                    f"weight of {name!r}, or give more of its text"
                )
                raise ArgumentError(msg)

    def num_windows(self, settings: PlanSettings) -> int:
        """Return how many windows an epoch has, the same in every epoch."""
        return self._layout(settings.seq_len).num_windows

    def num_inputs(self, settings: PlanSettings) -> int:
        """Return the number of inputs of an epoch."""
        return self.num_batches(settings) * settings.batch_size * settings.seq_len

    def num_dropped(self, settings: PlanSettings) -> int:
        """Return how many tokens of an epoch are no input, since they fill no batch."""
        return self.epoch_tokens(settings) - self.num_inputs(settings)

    def epoch_tokens(self, settings: PlanSettings) -> int:
        """Return how many tokens an epoch is long, with those that fill no batch."""
        return self.num_epoch_tokens or self.num_windows(settings) * settings.seq_len

    def version(self, seed: int, epoch: int) -> int:
        """Return the version of the arithmetic, the same for all seeds and epochs."""
        del seed, epoch
        return VERSION

    def proof(self, settings: PlanSettings) -> dict[str, int | str]:
        """Return the fields that a saved position must share; see `Order.proof`."""
        proof = super().proof(settings)
        proof["parts"] = ", ".join(self.names)
        proof["epoch_windows"] = self.num_windows(settings)
        for at, (name, length) in enumerate(zip(self.names, self.part_lengths, strict=True)):
            proof[f"part.{name}.num_tokens"] = length
            proof[f"part.{name}.weights"] = ", ".join(
                f"{stage.first_token}: {stage.weights[at]}/{sum(stage.weights)}"
                for stage in self.stages
            )
        return proof

    def accounting(self, settings: PlanSettings, num_read: int) -> dict[str, PartAccount]:
        """Return what the first ``num_read`` windows of an epoch read of each part, by name."""
        layout = self._layout(settings.seq_len)
        first = settings.epoch * layout.num_windows
        whole, counts = num_read, np.zeros(len(self.names), np.int64)
        if num_read < layout.num_windows:
            # The block in which the last batch ends is looked at window by window.
            whole = layout.find_block(first + num_read, size=self.block)[0] - first
            rest = self.starts_at(settings, np.arange(whole, num_read))
            counts = np.bincount(self.sources_of(rest), minlength=len(counts))
        before, after = (self._count(layout, first + each) for each in (0, whole))
        accounts = {}
        for name, size, low, high, more in zip(
            self.names, layout.sizes.tolist(), before, after, counts.tolist(), strict=True
        ):
            windows = high - low + more
            accounts[name] = PartAccount(windows, windows * settings.seq_len, windows / size)
        return accounts

    def counts(self, settings: PlanSettings, window: int) -> list[int]:
        """Return how many windows of each part the training has before one of them.

        Exact at the ends of blocks, stages and epochs; between them it is what a
        perfectly even order would have.
        """
        return self._count(self._layout(settings.seq_len), window)

    def part_windows(self, settings: PlanSettings) -> IntArray:
        """Return how many windows each part has: int64 array, shape (num_parts,)."""
        return self._layout(settings.seq_len).sizes

    @functools.cached_property
    def bounds(self) -> IntArray:
        """Where each part begins in the join of all, and its end: shape (num_parts + 1,)."""
        return np.concatenate([[0], np.cumsum(self.part_lengths, dtype=np.int64)])

    def sources_of(self, starts: IntArray) -> IntArray:
        """Return the part that each window lies in: int64 array, shape of ``starts``."""
        return np.searchsorted(self.bounds, starts, side="right") - 1

    def starts_at(self, settings: PlanSettings, positions: IntArray) -> IntArray:
        """Return where windows start; see `ShuffledOrder.starts_at`."""
        layout, flat = self._layout(settings.seq_len), positions.ravel()
        starts = np.empty(flat.shape, np.int64)
        for first in range(0, len(flat), _CHUNK):
            chunk = slice(first, first + _CHUNK)
            starts[chunk] = self._find(layout, settings, flat[chunk])
        return starts.reshape(positions.shape)

    def _find(self, layout: _Layout, settings: PlanSettings, positions: IntArray) -> IntArray:
        """Return where the windows at some positions, shape (num_positions,), start."""
        if not positions.size:
            return positions
        runs = self._find_runs(layout, positions + settings.epoch * layout.num_windows)
        pieces = self._cut(layout, [first for first, _ in runs])
        places = self._draw_places(settings, runs, pieces.block_starts)
        piece = pieces.find(places)
        order, first_tokens = self._make_turns(layout, settings, pieces.turns)
        turn = pieces.turn_of[piece]
        places += pieces.shifts[piece]
        starts: IntArray = order.permute(places, turn)
        starts *= settings.seq_len
        starts += first_tokens[turn]
        return starts

    def _find_runs(self, layout: _Layout, windows: IntArray) -> list[tuple[int, IntArray]]:
        """Return the blocks of windows, in their order: the first window of each, and its slots.

        A block that is left and entered again comes twice, which changes nothing.
        """
        runs, at = [], 0
        if (np.diff(windows) == 1).all():
            stop = int(windows[-1]) + 1
            while (window := int(windows[at])) < stop:
                first, end = layout.find_block(window, size=self.block)
                end = min(end, stop)
                runs.append((first, np.arange(window - first, end - first)))
                at += end - window
                if end == stop:
                    break
            return runs
        epoch = int(windows[0]) // layout.num_windows
        edges = [epoch * layout.num_windows, *layout.starts]
        cuts = np.array(sorted(edge for edge in edges if edge >= edges[0]))
        begins = cuts[np.searchsorted(cuts, windows, side="right") - 1]
        firsts = windows - (windows - begins) % self.block
        # Windows 5 to 9 of blocks that start at [4, 4, 4, 8, 8] are the runs [0, 3) and [3, 5).
        ends = np.flatnonzero(np.diff(firsts)) + 1
        numbers = firsts[np.concatenate([[0], ends])].tolist()
        return list(zip(numbers, np.split(windows - firsts, ends), strict=True))

    def _draw_places(
        self, settings: PlanSettings, runs: list[tuple[int, IntArray]], block_starts: list[int]
    ) -> IntArray:
        """Return the place that each slot is sent to; the places of a block stand in a row."""
        keys = [_draw(settings.seed, _OF_BLOCKS, first)[1:] for first, _ in runs]
        sizes = np.diff(block_starts)
        lengths = [len(slots) for _, slots in runs]
        slots = np.concatenate([slots for _, slots in runs])
        if len(slots) < _MANY * len(runs):
            which = np.repeat(np.arange(len(runs)), lengths)
            places = Permutations(sizes, np.stack(keys).T).permute(slots, which)
            places += np.array(block_starts)[which]
            return places
        return np.concatenate(
            [
                permute(slots, size=size, keys=key) + first
                for (_, slots), size, key, first in zip(
                    runs, sizes.tolist(), keys, block_starts[:-1], strict=True
                )
            ]
        )

    def _make_turns(
        self, layout: _Layout, settings: PlanSettings, turns: Sequence[tuple[int, int]]
    ) -> tuple[Permutations, IntArray]:
        """Return the permutations of parts in some of their own epochs, and their first tokens."""
        words = np.stack([_draw(settings.seed, 1 + part, epoch) for part, epoch in turns])
        first_tokens = [
            int(self.bounds[part]) + ((int(word) * int(layout.phases[part])) >> 64)
            for (part, _), word in zip(turns, words[:, 0], strict=True)
        ]
        sizes = layout.sizes[[part for part, _ in turns]]
        return Permutations(sizes, words[:, 1:].T), np.array(first_tokens)

    def _cut(self, layout: _Layout, firsts: Sequence[int]) -> "_Pieces":
        """Return the pieces of blocks: windows of one part in one of its own epochs."""
        sizes = layout.sizes.tolist()
        turns: dict[tuple[int, int], int] = {}
        lengths, shifts, turn_of, block_starts, place = [], [], [], [0], 0
        for first in firsts:
            bounds = layout.find_block(first, size=self.block)
            low, high = (self._count(layout, each) for each in bounds)
            for part, (number, stop) in enumerate(zip(low, high, strict=True)):
                # Of a part of 10 windows a block takes [18, 31): its epochs 1, 2 and 3.
                for epoch in range(number // sizes[part], -(-stop // sizes[part])):
                    begin = max(number - epoch * sizes[part], 0)
                    length = min(stop - epoch * sizes[part], sizes[part]) - begin
                    if length > 0:
                        lengths.append(length)
                        shifts.append(begin - place)
                        turn_of.append(turns.setdefault((part, epoch), len(turns)))
                        place += length
            block_starts.append(place)
        return _Pieces(
            lengths=np.array(lengths),
            block_starts=block_starts,
            turns=list(turns),
            turn_of=np.array(turn_of),
            shifts=np.array(shifts),
        )

    def _count(self, layout: _Layout, window: int) -> list[int]:
        """Return how many windows of each part the training holds before one of them."""
        at = layout.stage(window)
        new = share_out(window - layout.starts[at], self.stages[at].weights)
        return [before + more for before, more in zip(layout.counts[at], new, strict=True)]

    def _layout(self, seq_len: int) -> _Layout:
        layout = self._layouts.get(seq_len)
        if layout is None:
            layout = self._layouts[seq_len] = self._lay_out(seq_len)
        return layout

    def _lay_out(self, seq_len: int) -> _Layout:
        for name, length in zip(self.names, self.part_lengths, strict=True):
            if length <= seq_len:
                msg = (
                    f"the part {name!r} must hold a window of seq_len={seq_len:,} inputs and their "
                    f"targets, {seq_len + 1:,} tokens, it has {length:,}: lower seq_len, give more "
                    "of its text, or leave it out"
                )
                raise CorpusError(msg)
        # Each part is cut into windows as random order cuts a corpus for batches of one row.
        parts = [
            PlanSettings(kind=self.kind, num_tokens=length, seq_len=seq_len, batch_size=1)
            for length in self.part_lengths
        ]
        sizes = [count_windows(part) for part in parts]
        starts = tuple(-(-stage.first_token // seq_len) for stage in self.stages)
        counts = [(0,) * len(sizes)]
        for at, stage in enumerate(self.stages[:-1]):
            new = share_out(starts[at + 1] - starts[at], stage.weights)
            counts.append(tuple(sum(pair) for pair in zip(counts[-1], new, strict=True)))
        layout = _Layout(
            sizes=np.array(sizes),
            phases=np.array([count_phases(part) for part in parts]),
            num_windows=0,
            starts=starts,
            counts=tuple(counts),
        )
        if self.num_epoch_tokens is None:
            return layout._replace(num_windows=self._longest_epoch(layout))
        return layout._replace(num_windows=self.num_epoch_tokens // seq_len)

    def _longest_epoch(self, layout: _Layout) -> int:
        """Return how many windows an epoch has at most so that none reads a part twice."""
        sizes = layout.sizes.tolist()
        longest = MAX_SIZE
        for stage in self.stages:
            stop = min(
                size * sum(stage.weights) // weight
                for size, weight in zip(sizes, stage.weights, strict=True)
                if weight
            )
            too_long = functools.partial(_repeats, sizes=sizes, weights=stage.weights)
            longest = min(longest, bisect.bisect_left(range(stop + 1), 1, key=too_long) - 1)
        # Of an epoch in which the shares change, the ends of several roundings add up.
        while any(self._is_repeated(layout, start // longest, longest) for start in layout.starts):
            longest -= 1
        return longest

    def _is_repeated(self, layout: _Layout, epoch: int, num_windows: int) -> bool:
        before, after = (self._count(layout, (epoch + each) * num_windows) for each in (0, 1))
        sizes = layout.sizes.tolist()
        return any(b - a > size for a, b, size in zip(before, after, sizes, strict=True))


@functools.lru_cache(maxsize=1 << 12)
def _draw(seed: int, role: int, number: int) -> npt.NDArray[np.uint64]:
    """Return raw random words, shape (17,): one for a phase, then the round keys."""
    words = mix_number(seed, role, number).generate_state(1 + NUM_KEYS, np.uint64)
    words.setflags(write=False)
    return words.astype(np.uint64, copy=False)


def _repeats(num_windows: int, *, sizes: Sequence[int], weights: Sequence[int]) -> bool:
    """Return whether so many windows may hold one of a part twice."""
    most = most_of(num_windows, weights)
    return any(windows > size for windows, size in zip(most, sizes, strict=True))


class _Pieces(NamedTuple):
    """What blocks are made of, piece by piece, in the order of their places.

    Attributes
    ----------
    lengths : int64 array, shape (num_pieces,)
        Windows of each.
    block_starts : list of int
        The first place of each block, and the end of all places.
    turns : list of (int, int)
        Parts, each in one of its own epochs.
    turn_of : int64 array, shape (num_pieces,)
        The turn of each piece.
    shifts : int64 array, shape (num_pieces,)
        A place with it is a number among the windows of the part.
    """

    lengths: IntArray
    block_starts: list[int]
    turns: list[tuple[int, int]]
    turn_of: IntArray
    shifts: IntArray

    def find(self, places: IntArray) -> IntArray:
        """Return the piece of each place."""
        if self.block_starts[-1] > 4 * len(places):
            # Few places of many blocks.
            return np.searchsorted(np.cumsum(self.lengths), places, side="right")
        return np.repeat(np.arange(len(self.lengths)), self.lengths)[places]


def share_out(num_windows: int, weights: Sequence[int]) -> list[int]:
    """Return how many of the first windows belong to each part.

    Part 1 has its share of all, rounded down; the next one its share of the rest,
    and so on. None of them ever falls as ``num_windows`` grows.

    >>> share_out(10, [1, 1, 2]), share_out(11, [1, 1, 2])
    ([2, 2, 6], [2, 3, 6])
    """
    rest, left, counts = num_windows, sum(weights), []
    for weight in weights:
        # Python's integers do not overflow.
        counts.append(rest * weight // left if weight else 0)
        rest, left = rest - counts[-1], left - weight
    return counts


def most_of(num_windows: int, weights: Sequence[int]) -> list[int]:
    """Return how many of so many successive windows belong to each part at most.

    >>> most_of(10, [1, 1, 2])
    [3, 3, 6]
    """
    rest, left, most = num_windows, sum(weights), []
    for weight in weights:
        most.append(-(-rest * weight // left) if weight else 0)
        rest, left = (-(-rest * (left - weight) // left) if left else 0), left - weight
    return most


def grid_weights(weights: Sequence[float]) -> tuple[int, ...]:
    """Return weights as whole numbers of `GRID` equal shares, at least 1 unless it is 0.

    >>> grid_weights([0.7, 0.3, 0.0]), grid_weights([3, 1e-9])
    ((734003, 314573, 0), (1048576, 1))
    """
    exact = [Fraction(weight) for weight in weights]
    total = sum(exact)
    return tuple(max(1, round(weight / total * GRID)) if weight else 0 for weight in exact)
