"""Mixtures: the windows of several parts, in exact shares."""

import bisect
import functools
import itertools
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
    edges_of,
    list_ranges,
)
from tokenloom.plan.permutation import MAX_SIZE, NUM_KEYS, Permutations, permute, permute_all
from tokenloom.plan.seeds import mix_number

GRID = 1 << 20
"""Into how many equal shares the weights of a stage are rounded."""
BLOCK = 1 << 12
"""Windows of a block, at whose ends the shares are exact: the default."""
VERSION = 1
"""The version of the arithmetic of mixtures."""

# How many windows are looked up at once, so that what is computed stays in the cache.
_CHUNK = 1 << 16
# With this number of windows of a part, or more, its permutation is quicker alone.
_MANY = 1 << 11
# All windows of the blocks are found quicker than those that are asked for, where they are at most
# this number of times as many.
_FEW = 3
_OF_BLOCKS = 0


class Stage(NamedTuple):
    """A part of the training that has its own weights.

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
        How many times the whole part is read: 0.5 is half of its windows, 2.0 is each twice.
    """

    windows: int
    tokens: int
    times_read: float


class _Layout(NamedTuple):
    """Values that follow from a mixture and the length of windows.

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
        The first begins at token 0, each other stage after the one before it.
    num_epoch_tokens : int, optional
        Tokens of an epoch; by default the most that read no part more than once.
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
        # Without the values that were computed from the fields.
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
            limit, cure = "the part that is used up first", "give num_tokens=, or give more text"
            if self.num_epoch_tokens:
                limit, cure = f"num_tokens={self.num_epoch_tokens}", "or raise num_tokens"
            msg = (
                f"a batch of {settings.batch_size:,} x {settings.seq_len:,} inputs needs "
                f"{count(settings.batch_size, 'window')}, an epoch of the mixture has "
                f"{num_windows:,}, which {limit} decides: lower batch_size or seq_len, {cure}"
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
        """Return the length of an epoch in tokens, with those that fill no batch."""
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
        return proof | self._proof_of_parts

    @functools.cached_property
    def _proof_of_parts(self) -> dict[str, int | str]:
        proof: dict[str, int | str] = {}
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
            rest = self.starts_at(settings, np.arange(whole, num_read, dtype=np.int64))
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
        return edges_of(self.part_lengths)

    def sources_of(self, starts: IntArray) -> IntArray:
        """Return the part that each window lies in: int64 array, shape of ``starts``."""
        return np.searchsorted(self.bounds, starts, side="right") - 1

    def starts_at(self, settings: PlanSettings, positions: IntArray) -> IntArray:
        """Return where windows start; see `ShuffledOrder.starts_at`."""
        layout, flat = self._layout(settings.seq_len), positions.ravel()
        starts = [
            self._find(layout, settings, flat[first : first + _CHUNK])
            for first in range(0, len(flat), _CHUNK)
        ]
        return np.concatenate(starts or [flat]).reshape(positions.shape)

    def _find(self, layout: _Layout, settings: PlanSettings, positions: IntArray) -> IntArray:
        """Return where the windows at some positions, at least one, start."""
        runs = self._find_runs(layout, positions, epoch=settings.epoch)
        pieces = self._cut(layout, [run.first for run in runs])
        if _FEW * len(positions) < pieces.block_starts[-1]:
            places = self._draw_places(settings, runs, pieces.block_starts)
            return self._find_some(layout, settings, pieces, places)
        # All windows of the blocks are found sooner than most of them.
        starts = self._find_all(layout, settings, pieces)
        places = self._permute_blocks(settings, runs, pieces.block_starts)
        first_slots, last_slots = runs[0].slots, runs[-1].slots
        if isinstance(first_slots, slice) and isinstance(last_slots, slice):
            # One window after another: of the blocks between the first and the last all.
            return starts[places[first_slots.start : pieces.block_starts[-2] + last_slots.stop]]
        starts = starts[places]
        found = [
            starts[first : pieces.block_starts[at + 1]][run.slots]
            for at, (run, first) in enumerate(zip(runs, pieces.block_starts, strict=False))
        ]
        return np.concatenate(found)

    def _find_runs(self, layout: _Layout, positions: IntArray, *, epoch: int) -> list["_Run"]:
        """Return the blocks that windows lie in, in their order.

        A block that is left and entered again comes twice, which changes nothing.
        """
        before = epoch * layout.num_windows
        first, last = (before + int(positions[at]) for at in (0, -1))
        runs = list[_Run]()
        if last - first == len(positions) - 1 and (positions[1:] > positions[:-1]).all():
            while first <= last:
                start, stop = layout.find_block(first, size=self.block)
                runs.append(_Run(start, slice(first - start, min(stop, last + 1) - start)))
                first = stop
            return runs
        windows = positions + before
        edges = [before, *layout.starts]
        cuts = np.array(sorted(edge for edge in edges if edge >= before), np.int64)
        begins = cuts[np.searchsorted(cuts, windows, side="right") - 1]
        firsts = windows - (windows - begins) % self.block
        # Windows 5 to 9 of blocks that start at [4, 4, 4, 8, 8] are the runs [0, 3) and [3, 5).
        ends = np.flatnonzero(np.diff(firsts)) + 1
        numbers = firsts[np.concatenate([[0], ends])].tolist()
        return list(map(_Run, numbers, np.split(windows - firsts, ends)))

    def _draw_places(
        self, settings: PlanSettings, runs: Sequence["_Run"], block_starts: Sequence[int]
    ) -> IntArray:
        """Return the place that each slot of runs is sent to; those of a block stand in a row."""
        keys = [_draw(settings.seed, _OF_BLOCKS, run.first)[1:] for run in runs]
        slots = [run.list_slots() for run in runs]
        if len(runs) == 1:
            return permute(slots[0], size=block_starts[1], keys=keys[0])
        which = np.repeat(np.arange(len(runs), dtype=np.int64), [len(its) for its in slots])
        blocks = Permutations(np.diff(block_starts), np.stack(keys).T)
        places = blocks.permute(np.concatenate(slots), which)
        places += np.array(block_starts, np.int64)[which]
        return places

    def _permute_blocks(
        self, settings: PlanSettings, runs: Sequence["_Run"], block_starts: Sequence[int]
    ) -> IntArray:
        """Return the place that each slot of whole blocks is sent to."""
        keys = np.stack([_draw(settings.seed, _OF_BLOCKS, run.first)[1:] for run in runs], axis=1)
        sizes = np.diff(block_starts)
        # Blocks of one size together: of sizes [9, 9, 4] the blocks [0, 2) and [2, 3).
        edges = [0, *(np.flatnonzero(np.diff(sizes)) + 1).tolist(), len(runs)]
        places = np.empty(block_starts[-1], np.int64)
        for first, stop in itertools.pairwise(edges):
            its = places[block_starts[first] : block_starts[stop]].reshape(stop - first, -1)
            its[:] = permute_all(size=int(sizes[first]), keys=keys[:, first:stop])
            its += np.array(block_starts[first:stop], np.int64)[:, None]
        return places

    def _find_all(self, layout: _Layout, settings: PlanSettings, pieces: "_Pieces") -> IntArray:
        """Return where all windows of blocks start, by their places."""
        starts = np.empty(pieces.block_starts[-1], np.int64)
        short = list[int]()
        for (part, epoch), its in pieces.by_turn().items():
            ranges = [pieces.range_of(piece) for piece in its]
            if sum(map(len, ranges)) < _MANY:
                short += its
                continue
            numbers = np.concatenate(
                [np.arange(each.start, each.stop, dtype=np.int64) for each in ranges]
            )
            phase, keys = _draw_turn(settings.seed, part, epoch, int(layout.phases[part]))
            found = permute(numbers, size=int(layout.sizes[part]), keys=keys)
            found *= settings.seq_len
            found += self.bounds[part] + phase
            ends = np.cumsum([len(each) for each in ranges], dtype=np.int64)[:-1]
            for stop, part_of in zip(
                pieces.stops[its].tolist(), np.split(found, ends), strict=True
            ):
                starts[stop - len(part_of) : stop] = part_of
        if short:
            _, places = list_ranges((pieces.stops - pieces.lengths)[short], pieces.stops[short])
            starts[places] = self._find_some(layout, settings, pieces, places)
        return starts

    def _find_some(
        self, layout: _Layout, settings: PlanSettings, pieces: "_Pieces", places: IntArray
    ) -> IntArray:
        """Return where the windows at some places of blocks start, each with its own keys."""
        piece = pieces.stops.searchsorted(places, side="right")
        # Keys are drawn for pieces that are used: of pieces [7, 2, 7] they are [2, 7], and the
        # windows are of the permutations [1, 0, 1].
        used = np.bincount(piece).nonzero()[0]
        which = used.searchsorted(piece)
        parts = pieces.parts[used]
        turns = (parts, pieces.epochs[used], layout.phases[parts])
        draw = functools.partial(_draw_turn, settings.seed)
        phases, keys = zip(*map(draw, *(each.tolist() for each in turns)), strict=True)
        shifts = pieces.begins - pieces.stops + pieces.lengths
        of_turns = np.concatenate(keys).reshape(len(used), -1).T
        starts = Permutations(layout.sizes[parts], of_turns).permute(places + shifts[piece], which)
        starts *= settings.seq_len
        starts += (self.bounds[parts] + np.array(phases, np.int64))[which]
        return starts

    def _cut(self, layout: _Layout, firsts: Sequence[int]) -> "_Pieces":
        """Return the pieces of blocks: windows of one part in one of its own epochs."""
        bounds = [layout.find_block(first, size=self.block) for first in firsts]
        # Most blocks begin where the one before ends.
        counts = {edge: self._count(layout, edge) for edge in {*itertools.chain(*bounds)}}
        low, high = (
            np.array([counts[edge] for edge in edges], np.int64)
            for edges in zip(*bounds, strict=True)
        )
        epochs, begins = np.divmod(low, layout.sizes)
        lengths, parts = high - low, np.arange(low.size, dtype=np.int64) % len(layout.sizes)
        if (begins + lengths > layout.sizes).any():
            # Of a part of 10 windows a block takes [18, 31): its epochs 1, 2 and 3.
            each, epochs = list_ranges(epochs.ravel(), -(-high // layout.sizes).ravel())
            parts = parts[each]
            before = epochs * layout.sizes[parts]
            begins = np.maximum(low.ravel()[each] - before, 0)
            lengths = np.minimum(high.ravel()[each] - before, layout.sizes[parts]) - begins
        lengths = lengths.ravel()
        return _Pieces(
            lengths=lengths,
            stops=lengths.cumsum(),
            block_starts=list(itertools.accumulate((b - a for a, b in bounds), initial=0)),
            parts=parts,
            epochs=epochs.ravel(),
            begins=begins.ravel(),
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
            sizes=np.array(sizes, np.int64),
            phases=np.array([count_phases(part) for part in parts], np.int64),
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
        # In an epoch in which the shares change, several roundings add up.
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


@functools.lru_cache(maxsize=1 << 12)
def _draw_turn(
    seed: int, part: int, epoch: int, num_phases: int
) -> tuple[int, npt.NDArray[np.uint64]]:
    """Return the phase of a part in one of its own epochs, and the round keys, shape (16,)."""
    words = _draw(seed, 1 + part, epoch)
    return (int(words[0]) * num_phases) >> 64, words[1:]


def _repeats(num_windows: int, *, sizes: Sequence[int], weights: Sequence[int]) -> bool:
    """Return whether ``num_windows`` windows in a row may hold a window of a part twice."""
    most = most_of(num_windows, weights)
    return any(windows > size for windows, size in zip(most, sizes, strict=True))


class _Pieces(NamedTuple):
    """The pieces that blocks are made of, in the order of their places.

    Attributes
    ----------
    lengths, stops : int64 array, shape (num_pieces,)
        Windows of each, which may be 0, and up to the end of each.
    block_starts : list of int
        The first place of each block, and the end of all places.
    parts, epochs : int64 array, shape (num_pieces,)
        The part of each, and which of the part's own epochs.
    begins : int64 array, shape (num_pieces,)
        The number of the first window of each among those of the part.
    """

    lengths: IntArray
    stops: IntArray
    block_starts: list[int]
    parts: IntArray
    epochs: IntArray
    begins: IntArray

    def range_of(self, piece: int) -> range:
        """Return the numbers of the windows of a piece."""
        begin = int(self.begins[piece])
        return range(begin, begin + int(self.lengths[piece]))

    def by_turn(self) -> dict[tuple[int, int], list[int]]:
        """Return the pieces of each turn, a part in one of its own epochs, but the empty ones."""
        turns = dict[tuple[int, int], list[int]]()
        pieces = zip(self.parts.tolist(), self.epochs.tolist(), self.lengths.tolist(), strict=True)
        for piece, (part, epoch, length) in enumerate(pieces):
            if length:
                turns.setdefault((part, epoch), []).append(piece)
        return turns


class _Run(NamedTuple):
    """Windows of a block that are asked for, one after another.

    Attributes
    ----------
    first : int
        The first window of the block.
    slots : int64 array, or slice with a start and a stop
        Which of its windows they are.
    """

    first: int
    slots: IntArray | slice

    def list_slots(self) -> IntArray:
        """Return which windows of the block they are, shape (num_windows,)."""
        slots = self.slots
        if isinstance(slots, slice):
            return np.arange(slots.start, slots.stop, dtype=np.int64)
        return slots


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
    """Return how many of ``num_windows`` successive windows belong to each part at most.

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
