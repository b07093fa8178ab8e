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
from tokenloom.plan.permutation import MAX_SIZE, NUM_KEYS, Permutations
from tokenloom.plan.seeds import mix_number

GRID = 1 << 20
"""Into how many equal shares the weights of a stage are rounded."""
BLOCK = 1 << 12
"""Windows of a block, at whose ends the shares are exact, unless it is said otherwise."""
VERSION = 1
"""The version of the arithmetic of mixtures."""

# How many windows are looked up at once, so that what is computed stays in the cache.
_CHUNK = 1 << 14
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
        num_windows = self.num_windows(settings)
        num_tokens = self.num_epoch_tokens or num_windows * settings.seq_len
        return num_tokens - self.num_inputs(settings)

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
        windows = positions + settings.epoch * layout.num_windows
        firsts, which = self._find_blocks(layout, windows)
        pieces = self._cut(layout, firsts)
        # Each place of a block is drawn once, and the places of a block stand in a row.
        sizes = np.diff(pieces.block_starts)
        keys = [_draw(settings.seed, _OF_BLOCKS, first) for first in firsts.tolist()]
        blocks = Permutations(sizes, np.stack(keys)[:, 1:].T)
        places = pieces.block_starts[which] + blocks.permute(windows - firsts[which], which)
        piece = pieces.find(places)
        # A part in one of its own epochs.
        turns, turn_of = _number(pieces.parts, pieces.epochs)
        words = np.stack([_draw(settings.seed, 1 + part, epoch) for part, epoch in turns])
        part_of = np.array([part for part, _ in turns])
        order = Permutations(layout.sizes[part_of], words[:, 1:].T)
        phases = [
            (int(word) * num_phases) >> 64
            for word, num_phases in zip(words[:, 0], layout.phases[part_of].tolist(), strict=True)
        ]
        first_tokens = self.bounds[part_of] + phases
        turn = turn_of[piece]
        numbers = order.permute(places + pieces.shifts[piece], turn)
        starts: IntArray = numbers * settings.seq_len + first_tokens[turn]
        return starts

    def _find_blocks(self, layout: _Layout, windows: IntArray) -> tuple[IntArray, IntArray]:
        """Return the first window of each block, and which block each window lies in.

        A block that is left and entered again counts as two, which changes nothing.
        """
        epoch = int(windows[0]) // layout.num_windows
        begin, end = epoch * layout.num_windows, (epoch + 1) * layout.num_windows
        inside = [start for start in layout.starts if begin < start < end]
        first: IntArray | int = begin
        if inside:
            cuts = np.array([begin, *inside])
            first = cuts[np.searchsorted(cuts, windows, side="right") - 1]
        starts = windows - (windows - first) % self.block
        # Windows 5 to 9 of blocks that start at [4, 4, 4, 8, 8] are in [0, 0, 0, 1, 1].
        is_new = np.concatenate([[True], starts[1:] != starts[:-1]])
        return starts[is_new], np.cumsum(is_new) - 1

    def _cut(self, layout: _Layout, firsts: IntArray) -> "_Pieces":
        """Return the pieces of blocks: windows of one part in one of its own epochs."""
        bounds = [layout.find_block(first, size=self.block) for first in firsts.tolist()]
        counts = np.array([[self._count(layout, each) for each in pair] for pair in bounds])
        low, high = counts[:, 0].ravel(), counts[:, 1].ravel()
        sizes = np.tile(layout.sizes, len(bounds))
        part = np.tile(np.arange(len(layout.sizes)), len(bounds))
        # A part of 10 windows, of which a block takes [18, 31): in the epochs 1, 2 and 3.
        epochs = np.where(high > low, (high - 1) // sizes - low // sizes + 1, 0)
        of = np.repeat(np.arange(len(epochs)), epochs)
        epoch = low[of] // sizes[of] + _ranks(epochs)
        begins = np.maximum(epoch * sizes[of], low[of])
        ends = np.minimum((epoch + 1) * sizes[of], high[of])
        starts = np.concatenate([[0], np.cumsum(ends - begins)])
        return _Pieces(
            starts=starts,
            block_starts=np.concatenate([[0], np.cumsum([stop - start for start, stop in bounds])]),
            parts=part[of],
            epochs=epoch,
            shifts=begins - epoch * sizes[of] - starts[:-1],
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


def _number(parts: IntArray, epochs: IntArray) -> tuple[list[tuple[int, int]], IntArray]:
    """Return the different pairs, in the order in which they come, and the index of each pair."""
    numbers: dict[tuple[int, int], int] = {}
    pairs = zip(parts.tolist(), epochs.tolist(), strict=True)
    index = np.array([numbers.setdefault(pair, len(numbers)) for pair in pairs])
    return list(numbers), index


def _ranks(counts: IntArray) -> IntArray:
    """Return 0, 1, ... for each count: [2, 3] gives [0, 1, 0, 1, 2]."""
    return np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)


class _Pieces(NamedTuple):
    """What blocks are made of, piece by piece, in the order of their places.

    Attributes
    ----------
    starts : int64 array, shape (num_pieces + 1,)
        The place of each piece's first window, and the end of all places.
    block_starts : int64 array, shape (num_blocks + 1,)
        The first place of each block, and the end of all places.
    parts, epochs : int64 array, shape (num_pieces,)
        Which part each is of, and in which of the part's own epochs.
    shifts : int64 array, shape (num_pieces,)
        A place with it is a number among the windows of the part.
    """

    starts: IntArray
    block_starts: IntArray
    parts: IntArray
    epochs: IntArray
    shifts: IntArray

    def find(self, places: IntArray) -> IntArray:
        """Return the piece of each place."""
        if self.starts[-1] > 4 * len(places):
            # Few places of many blocks.
            return np.searchsorted(self.starts, places, side="right") - 1
        return np.repeat(np.arange(len(self.parts)), np.diff(self.starts))[places]


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
