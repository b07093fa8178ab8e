"""What a mixture must be: slow, obvious, window by window, in Python's own integers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from tests.support.plan.oracle import Oracle, permute_slowly
from tokenloom.plan.mixture import MixtureOrder

Stages = Sequence[tuple[int, Sequence[int]]]


@dataclass(frozen=True, kw_only=True)
class MixtureOracle:
    """A mixture, with windows of some length and an epoch of some number of windows."""

    lengths: Sequence[int]
    stages: Stages
    seq_len: int
    num_windows: int
    block: int
    seed: int

    @classmethod
    def of(cls, order: MixtureOrder, *, seq_len: int, num_windows: int, seed: int) -> Self:
        """Take over the fields of an order."""
        return cls(
            lengths=order.part_lengths,
            stages=order.stages,
            seq_len=seq_len,
            num_windows=num_windows,
            block=order.block,
            seed=seed,
        )

    def part_of(self, number: int, epoch: int) -> Oracle:
        """Return a part as a corpus in random order with batches of one row."""
        return Oracle(
            kind="random",
            num_tokens=self.lengths[number],
            seq_len=self.seq_len,
            batch_size=1,
            seed=self.seed,
            epoch=epoch,
            tail="drop",
        )

    def counts(self, window: int) -> list[int]:
        """Return how many windows of each part the training has before one of them."""
        totals = [0] * len(self.lengths)
        for at, (first_token, weights) in enumerate(self.stages):
            begin = math.ceil(first_token / self.seq_len)
            end = window
            if at + 1 < len(self.stages):
                end = min(window, math.ceil(self.stages[at + 1][0] / self.seq_len))
            rest = max(0, end - begin)
            for number, weight in enumerate(weights):
                left = sum(weights[number:])
                mine = rest * weight // left if left else 0
                totals[number] += mine
                rest -= mine
        return totals

    def find_block(self, window: int) -> tuple[int, int]:
        """Return the block of a window: cut from the start of its epoch, or of its stage."""
        epoch = window // self.num_windows
        begins = [math.ceil(first / self.seq_len) for first, _ in self.stages]
        edges = sorted([epoch * self.num_windows, (epoch + 1) * self.num_windows, *begins])
        first = max(edge for edge in edges if edge <= window)
        stop = min(edge for edge in edges if edge > window)
        while first + self.block <= window:
            first += self.block
        return first, min(first + self.block, stop)

    def locate(self, window: int) -> tuple[int, int]:
        """Return the part of a window of the whole training, and its number among its windows."""
        first, stop = self.find_block(window)
        keys = self._words(0, first)[1:]
        place = permute_slowly(window - first, size=stop - first, keys=keys)
        for number, (low, high) in enumerate(
            zip(self.counts(first), self.counts(stop), strict=True)
        ):
            if place < high - low:
                return number, low + place
            place -= high - low
        raise AssertionError

    def start(self, epoch: int, position: int) -> int:
        """Return where a window of an epoch starts in the join of all parts."""
        number, local = self.locate(epoch * self.num_windows + position)
        part = self.part_of(number, 0)
        own_epoch, index = divmod(local, part.num_windows)
        words = self._words(1 + number, own_epoch)
        window = permute_slowly(index, size=part.num_windows, keys=words[1:])
        phase = words[0] * part.num_phases // 2**64
        return sum(self.lengths[:number]) + phase + window * self.seq_len

    def _words(self, role: int, number: int) -> list[int]:
        halves = [self.seed % 2**32, number % 2**32, self.seed // 2**32, number // 2**32, role]
        words: list[int] = np.random.SeedSequence(halves).generate_state(17, np.uint64).tolist()
        return words
