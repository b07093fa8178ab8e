"""What a plan and its batches must be: slow, obvious, in Python's own integers.

Nothing here is shared with the package but the raw words of NumPy's
SeedSequence. Counts are found by search from what they promise, so that a wrong
formula cannot be wrong twice.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from tokenloom.plan.plan import Plan


class Window(NamedTuple):
    """Where a window starts, and how many of its inputs count."""

    start: int
    length: int


class Rows(NamedTuple):
    """What a batch holds, or some of its rows."""

    inputs: list[list[int]]
    targets: list[list[int]]
    mask: list[list[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Oracle:
    """One epoch, with the fields of a plan and nothing else of it."""

    kind: str
    num_tokens: int
    seq_len: int
    batch_size: int
    seed: int
    epoch: int
    tail: str

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """Take over the fields of a plan."""
        return cls(**{each.name: getattr(plan, each.name) for each in dataclasses.fields(cls)})

    @property
    def num_batches(self) -> int:
        """Batches that fit after the last phase, at least one; all that are begun, padded."""
        if self.tail == "pad":
            return 1 + _largest(lambda n: n * self._batch_inputs < self.num_tokens - 1)
        fit = _largest(lambda n: self._fits(self.seq_len - 1, n * self._batch_inputs))
        return max(1, fit)

    @property
    def num_phases(self) -> int:
        """Phases below seq_len after which all batches fit."""
        if self.tail == "pad":
            return 1
        num_inputs = self.num_batches * self._batch_inputs
        return _largest(lambda n: n <= self.seq_len and (n == 0 or self._fits(n - 1, num_inputs)))

    @property
    def phase(self) -> int:
        """The first word of the seed, brought down to the number of phases."""
        return raw_words(self.seed, self.epoch)[0] * self.num_phases // 2**64

    @property
    def num_windows(self) -> int:
        """Windows that fit after the last phase; padded, all that are begun, lane by lane."""
        if self.tail == "pad" and self.kind == "sequential":
            wholes_and_rests = [divmod(lane, self.seq_len) for lane in self._lanes()]
            return sum(whole + (rest > 0) for whole, rest in wholes_and_rests)
        if self.tail == "pad":
            return 1 + _largest(lambda n: n * self.seq_len < self.num_tokens - 1)
        return _largest(lambda n: self._fits(self.num_phases - 1, n * self.seq_len))

    @property
    def _batch_inputs(self) -> int:
        return self.batch_size * self.seq_len

    def _fits(self, phase: int, num_inputs: int) -> bool:
        """Return whether some inputs, and the last one's target, lie in the corpus."""
        return phase + num_inputs + 1 <= self.num_tokens

    def window(self, row: int, column: int) -> Window:
        """Return the window of one row of one batch."""
        last_input = self.num_tokens - 1
        if self.kind == "random":
            position = row * self.batch_size + column
            if position >= self.num_windows:
                return Window(last_input, 0)
            keys = raw_words(self.seed, self.epoch)[1:]
            number = permute_slowly(position, size=self.num_windows, keys=keys)
            start = self.phase + number * self.seq_len
            return Window(start, min(self.seq_len, last_input - start))
        lanes = self._lanes()
        lane_start = self.phase + sum(lanes[:column])
        offset = min(row * self.seq_len, lanes[column])
        return Window(lane_start + offset, min(self.seq_len, lanes[column] - offset))

    def _lanes(self) -> list[int]:
        """Return how many inputs each lane of the sequential order holds."""
        if self.tail == "pad":
            # Dealt out like cards: none has two more than another.
            return [
                len(range(column, self.num_tokens - 1, self.batch_size))
                for column in range(self.batch_size)
            ]
        return [_largest(lambda n: self._fits(self.phase, n * self.batch_size))] * self.batch_size

    def windows(self) -> list[list[Window]]:
        """Return the windows of all batches."""
        columns = range(self.batch_size)
        return [[self.window(row, column) for column in columns] for row in range(self.num_batches)]

    def batches(self, tokens: Sequence[int], columns: range) -> list[Rows]:
        """Return some rows of every batch over a corpus."""
        return [
            _read([windows[column] for column in columns], tokens, self.seq_len)
            for windows in self.windows()
        ]


def _read(windows: Sequence[Window], tokens: Sequence[int], seq_len: int) -> Rows:
    rows = Rows([], [], [])
    for start, length in windows:
        padding = seq_len - length
        inputs, targets = tokens[start : start + length], tokens[start + 1 : start + length + 1]
        rows.inputs.append([*inputs, *[0] * padding])
        rows.targets.append([*targets, *[-100] * padding])
        rows.mask.append([True] * length + [False] * padding)
    return rows


def _largest(holds: Callable[[int], bool]) -> int:
    """Return the largest number of which something is true that is true up to it."""
    stop = 1
    while holds(stop):
        stop *= 2
    start = 0
    while stop - start > 1:
        middle = (start + stop) // 2
        start, stop = (middle, stop) if holds(middle) else (start, middle)
    return start


def raw_words(seed: int, epoch: int) -> list[int]:
    """Return the words of an epoch: one for the phase, then sixteen round keys."""
    # Both as 64 bits, the low halves first: [7 + 5 * 2**32, 1] becomes [7, 1, 5, 0].
    halves = [seed % 2**32, epoch % 2**32, seed // 2**32, epoch // 2**32]
    words: list[int] = np.random.SeedSequence(halves).generate_state(17, np.uint64).tolist()
    return words


def permute_slowly(index: int, *, size: int, keys: Sequence[int]) -> int:
    """Return where the permutation sends an index."""
    base = math.isqrt(size - 1) + 1
    bases = [base, -(-size // base)]
    value = index
    while True:
        digits = list(divmod(value, bases[1]))
        for number, key in enumerate(keys[: 16 if size < 1024 else 8]):
            side = number % 2
            mixed = digits[1 - side] ^ key
            mixed ^= mixed >> 33
            mixed = mixed * 0xFF51AFD7ED558CCD % 2**64
            mixed ^= mixed >> 33
            mixed = mixed * 0xC4CEB9FE1A85EC53 % 2**64
            digits[side] = (digits[side] + ((mixed >> 32) * bases[side] >> 32)) % bases[side]
        value = digits[0] * bases[1] + digits[1]
        if value < size:
            return value
