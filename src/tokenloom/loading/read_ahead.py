"""Blocks of a stream in order, which threads read ahead."""

import contextlib
import functools
import itertools
import warnings
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from tokenloom._checks import as_integer
from tokenloom.loading.ahead import work_ahead
from tokenloom.loading.blocks import (
    BLOCKS_PER_ORDER,
    Block,
    first_rows,
    read_block,
    rows_per_block,
    split_rows,
)
from tokenloom.loading.dataset import Windows
from tokenloom.plan.order import IntArray
from tokenloom.plan.plan import Plan

_MEANS_NOTHING = ("multiprocessing_context", "persistent_workers")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How far the workers of a `Loader` read ahead, and how much at once.

    Parameters
    ----------
    prefetch_factor : int
        Blocks that are read ahead for each worker.
    block_size : int, optional
        Batches that are read at once; by default as many as hold about 262,144
        tokens. Holds without workers too. An iteration begins with smaller
        blocks.
    multiprocessing_context, persistent_workers : optional
        Means nothing since workers are threads: gives a DeprecationWarning,
        and will be removed with the next release.

    Raises
    ------
    ArgumentError
        A value is out of range.
    """

    multiprocessing_context: Any = None
    persistent_workers: bool | None = None
    prefetch_factor: int = 2
    block_size: int | None = None

    def __post_init__(self) -> None:
        for name in _MEANS_NOTHING:
            if getattr(self, name) is not None:
                msg = (
                    f"{name} means nothing any more, since the workers of a Loader are threads, "
                    "and the next release refuses it: leave it out"
                )
                # The call in the dataclass's own __init__ lies between.
                warnings.warn(msg, DeprecationWarning, stacklevel=3)
        for name in ("prefetch_factor", "block_size"):
            value = getattr(self, name)
            if value is not None or name == "prefetch_factor":
                object.__setattr__(self, name, as_integer(name, value, start=1, stop=1 << 31))

    def num_rows(self, plan: Plan, columns: range) -> int:
        """Return how many batches a block has."""
        return self.block_size or rows_per_block(plan, columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRange:
    """A part of the stream: from one row of an epoch on, up to an epoch.

    Attributes
    ----------
    first_epoch, next_batch : int
        Where it begins.
    stop_epoch : int or None
        The epoch before which it ends; None never ends.
    """

    first_epoch: int
    next_batch: int
    stop_epoch: int | None

    def parts(
        self, *, num_batches: int, num_rows: int, first: int | None = None
    ) -> Iterator[tuple[int, range]]:
        """Yield epochs and ranges of at most ``num_rows`` rows, one per block.

        ``first`` is that of `tokenloom.loading.blocks.split_rows`, for the first epoch.

        >>> epochs = EpochRange(first_epoch=1, next_batch=3, stop_epoch=3)
        >>> list(epochs.parts(num_batches=5, num_rows=4))
        [(1, range(3, 5)), (2, range(0, 4)), (2, range(4, 5))]
        """
        epochs = (
            itertools.count(self.first_epoch)
            if self.stop_epoch is None
            else range(self.first_epoch, self.stop_epoch)
        )
        rows = range(self.next_batch, num_batches)
        for epoch in epochs:
            for part in split_rows(rows, num_rows, first=first):
                yield epoch, part
            rows, first = range(num_batches), None


class _Part(NamedTuple):
    """What is read at once.

    Attributes
    ----------
    plan : Plan
    rows : range
        Which batches.
    starts : int64 array, shape (len(rows), num_columns)
        Where their windows start.
    """

    plan: Plan
    rows: range
    starts: IntArray

    def section(self, start: int, stop: int) -> "_Part":
        """Return some of the batches, [start, stop) of these."""
        return _Part(self.plan, self.rows[start:stop], self.starts[start:stop])


def read_epochs(
    windows: Windows, epochs: EpochRange, *, num_workers: int, options: WorkerOptions
) -> Generator[Block, None, None]:
    """Yield the blocks of a range of epochs, in order.

    An error is raised where the batch that has it would have come.

    Parameters
    ----------
    windows : RandomWindows or SequentialWindows
    epochs : EpochRange
    num_workers : int
        Threads that read ahead; 0 reads in the thread that uses the blocks.
    options : WorkerOptions
    """
    # The order is computed here: its hundred small steps would each wait for
    # Python's lock in a thread. A gather waits for it once or twice.
    parts = _parts(windows, epochs, options)
    read = functools.partial(_read, windows)
    if num_workers == 0:
        yield from _take(map(read, parts))
        return
    ahead = work_ahead(
        read,
        parts,
        num_threads=num_workers,
        num_ahead=num_workers * options.prefetch_factor,
        name="tokenloom-loader",
    )
    # Its threads would live as long as the traceback of an error that comes up here.
    with contextlib.closing(ahead):
        yield from _take(ahead)


def _parts(windows: Windows, epochs: EpochRange, options: WorkerOptions) -> Iterator[_Part]:
    columns = windows.columns
    size = options.num_rows(windows.plan, columns)
    for plan, rows in plan_parts(windows, options, epochs, num_blocks=BLOCKS_PER_ORDER):
        whole = _Part(plan, rows, plan.starts(rows, columns))
        for start in range(0, len(rows), size):
            yield whole.section(start, start + size)


class _Read(NamedTuple):
    """The blocks that could be read, and the error of the batch after them, if there is one."""

    blocks: list[Block]
    error: Exception | None


def _take(results: Iterator[_Read]) -> Iterator[Block]:
    for blocks, error in results:
        yield from blocks
        if error is not None:
            raise error


def _read(windows: Windows, part: _Part) -> _Read:
    try:
        return _Read([_read_block(windows, part)], None)
    except Exception as error:  # noqa: BLE001  raised by the thread that uses the batches
        return _read_one_by_one(windows, part, error)


def _read_one_by_one(windows: Windows, part: _Part, error: Exception) -> _Read:
    """Return the batches before the one that cannot be read, and its error."""
    blocks = []
    for position in range(len(part.rows)):
        try:
            blocks.append(_read_block(windows, part.section(position, position + 1)))
        except Exception as error_of_batch:  # noqa: BLE001  as above
            return _Read(blocks, error_of_batch)
    # Each of them could be read: what failed once is no batch's own, and is not hidden.
    return _Read([], error)


def _read_block(windows: Windows, part: _Part) -> Block:
    return read_block(
        windows.corpus.tokens,
        part.plan,
        rows=part.rows,
        columns=windows.columns,
        documents=windows.documents,
        starts=part.starts,
    )


def plan_parts(
    windows: Windows, options: WorkerOptions, epochs: EpochRange, *, num_blocks: int = 1
) -> Iterator[tuple[Plan, range]]:
    """Yield the plan and the rows of each so many blocks that are read in this process."""
    plan, columns = windows.plan, windows.columns
    parts = epochs.parts(
        num_batches=plan.num_batches,
        num_rows=num_blocks * options.num_rows(plan, columns),
        first=first_rows(plan, columns),
    )
    for epoch, rows in parts:
        yield plan.at(epoch), rows
