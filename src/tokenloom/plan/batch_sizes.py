"""Batch sizes that change during a training, and the batches that follow from them.

Windows of the whole training are counted: window p of epoch e is window
``e * num_windows + p``. A size holds from the first batch on whose first window is
at or past the window that the size is given for.
"""

import bisect
import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from tokenloom._checks import as_integer
from tokenloom._wording import show
from tokenloom.errors import ArgumentError
from tokenloom.plan.permutation import MAX_SIZE

_FORM = (
    "an integer, or a list of pairs: from which window of the whole training on, and the size; "
    "the first from window 0, such as [(0, 32), (10_000, 64)]"
)


class Stretch(NamedTuple):
    """Successive batches of an epoch that have one size.

    Attributes
    ----------
    rows : range
        The batches.
    first_window : int
        The place in the epoch of the first window of the first of them.
    batch_size : int
        Windows per batch over all ranks.
    """

    rows: range
    first_window: int
    batch_size: int

    @property
    def stop_window(self) -> int:
        """The place after the last window of the last batch."""
        return self.first_window + len(self.rows) * self.batch_size


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """The sizes of batches, each with the window of the training from which it holds.

    Parameters
    ----------
    steps : tuple of (int, int)
        Pairs of a window and the size from there on: ascending, the first from window 0.

    Raises
    ------
    ArgumentError
        They do not begin at window 0, do not ascend, or are out of range.

    >>> sizes = BatchSizes(((0, 32), (10_000, 64)))
    >>> str(sizes), sizes.at(9_999), sizes.at(10_000), sizes.largest
    ('0:32,10000:64', 32, 64, 64)
    """

    steps: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        steps = [_as_step(step) for step in self.steps]
        windows = [window for window, _ in steps]
        if not windows or windows[0] or windows != sorted(set(windows)):
            msg = f"batch_size must be {_FORM}, and ascend, got {show(list(self.steps))}"
            raise ArgumentError(msg)
        # Leave out steps that do not change the size.
        sizes = [0] + [size for _, size in steps]
        kept = tuple(step for step, before in zip(steps, sizes, strict=False) if step[1] != before)
        object.__setattr__(self, "steps", kept)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the sizes of ``"0:32,10000:64"``, which is what `str` returns.

        Raises
        ------
        ArgumentError
            The text has another form.
        """
        parts = re.fullmatch(r"([0-9]{1,19}):([0-9]{1,19})(,([0-9]{1,19}):([0-9]{1,19}))*", text)
        if parts is None:
            msg = f"batch sizes that change must be such as '0:32,10000:64', got {show(text)}"
            raise ArgumentError(msg)
        pairs = (part.split(":") for part in text.split(","))
        return cls(tuple((int(window), int(size)) for window, size in pairs))

    def __str__(self) -> str:
        return ",".join(f"{window}:{size}" for window, size in self.steps)

    @property
    def windows(self) -> tuple[int, ...]:
        """The window from which each size holds."""
        return tuple(window for window, _ in self.steps)

    @property
    def largest(self) -> int:
        """The largest size."""
        return max(size for _, size in self.steps)

    def at(self, window: int) -> int:
        """Return the size of a batch that begins with a window of the whole training."""
        return self.steps[bisect.bisect_right(self.windows, window) - 1][1]

    def next_change(self, window: int) -> int | None:
        """Return the first later window from which another size holds, or None."""
        place = bisect.bisect_right(self.windows, window)
        return self.windows[place] if place < len(self.steps) else None


BatchSize = int | Sequence[tuple[int, int]] | BatchSizes
"""A batch size, or sizes that change, also as pairs of a window and a size."""


def as_batch_size(value: Any) -> int | BatchSizes:
    """Return a batch size, or sizes that change; a single step is a fixed size.

    Raises
    ------
    ArgumentError
        The value is neither.

    >>> as_batch_size(32), as_batch_size([(0, 32), (100, 32)]), as_batch_size([(0, 8), (4, 16)])
    (32, 32, BatchSizes(steps=((0, 8), (4, 16))))
    """
    if not isinstance(value, BatchSizes | list | tuple):
        return as_integer("batch_size", value, start=1, stop=MAX_SIZE)
    sizes = value if isinstance(value, BatchSizes) else BatchSizes(tuple(value))
    return sizes if len(sizes.steps) > 1 else sizes.largest


@functools.lru_cache(maxsize=64)
def divide_epoch(
    sizes: BatchSizes, *, epoch: int, num_windows: int, first_window: int = 0, is_padded: bool
) -> tuple[Stretch, ...]:
    """Return the batches of an epoch, grouped by size.

    Parameters
    ----------
    sizes : BatchSizes
    epoch : int
    num_windows : int
        Of each epoch.
    first_window : int
        The place in the epoch of the first window of its first batch.
    is_padded : bool
        Whether the windows at the end that fill no batch make one with padding, or
        are dropped.

    >>> sizes = BatchSizes(((0, 2), (3, 4)))
    >>> for stretch in divide_epoch(sizes, epoch=0, num_windows=10, is_padded=True):
    ...     print(*stretch)
    range(0, 2) 0 2
    range(2, 4) 4 4
    """
    before = epoch * num_windows
    stretches: list[Stretch] = []
    row, window = 0, first_window
    while window < num_windows:
        size, change = sizes.at(before + window), sizes.next_change(before + window)
        stop = num_windows if change is None else min(num_windows, change - before)
        # Batches of 2 from window 0 on that begin before window 3: two of them, up to window 4.
        num_batches = -(-(stop - window) // size)
        if not is_padded:
            num_batches = min(num_batches, (num_windows - window) // size)
        if num_batches:
            stretches.append(Stretch(range(row, row + num_batches), window, size))
        row, window = row + num_batches, window + num_batches * size
        if window < stop:
            # The rest of the epoch fills no batch.
            break
    return tuple(stretches)


def find_changes(sizes: BatchSizes, *, num_windows: int) -> Iterator[int]:
    """Yield the epochs that may have another number of batches than the one before, ascending.

    >>> list(find_changes(BatchSizes(((0, 2), (3, 4), (20, 8))), num_windows=10))
    [0, 1, 2, 3]
    """
    last = -1
    for window in sizes.windows:
        for epoch in (window // num_windows, window // num_windows + 1):
            if epoch > last:
                yield epoch
                last = epoch


def _as_step(step: object) -> tuple[int, int]:
    pair: list[Any] = list(step) if isinstance(step, tuple | list) else []
    if len(pair) != 2:
        msg = f"batch_size must be {_FORM}, got {show(step)} for a pair"
        raise ArgumentError(msg)
    window = as_integer("the window of a batch_size", pair[0], stop=MAX_SIZE)
    return window, as_integer("batch_size", pair[1], start=1, stop=MAX_SIZE)
