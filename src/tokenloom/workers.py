"""Blocks that worker processes read ahead, in order."""

import dataclasses
import itertools
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from tokenloom.arrays import Ids
from tokenloom.blocks import (
    BLOCKS_PER_ORDER,
    Block,
    find_resets,
    first_rows,
    read_block,
    read_blocks,
    rows_per_block,
    split_rows,
)
from tokenloom.corpus import Corpus
from tokenloom.deaths import check_alive, end_if_orphan, find_deaths, shut_down, translating_deaths
from tokenloom.errors import ArgumentError, UsageError
from tokenloom.integers import as_integer
from tokenloom.plans import IntArray, Plan
from tokenloom.resets import BlockResets
from tokenloom.sharedmemory import objects_that_stay_shared, share_zeros
from tokenloom.windows import Windows

_ENDLESS = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How the worker processes of a `Loader` start, live and send.

    Parameters
    ----------
    multiprocessing_context : str or context, optional
        How workers start: "fork", "forkserver", "spawn" or a context. By
        default as Python starts processes.
    persistent_workers : bool
        Whether the workers of one iteration stay for the next one. They go
        with the loader.
    prefetch_factor : int
        Blocks that each worker reads ahead.
    block_size : int, optional
        Batches that are read at once, and sent in one message; by default as
        many as hold about 262,144 tokens. Holds without workers too, where an
        iteration begins with smaller blocks.

    Raises
    ------
    ArgumentError
        A value is out of range.
    """

    multiprocessing_context: str | BaseContext | None = None
    persistent_workers: bool = False
    prefetch_factor: int = 2
    block_size: int | None = None

    def __post_init__(self) -> None:
        known = multiprocessing.get_all_start_methods()
        context = self.multiprocessing_context
        if isinstance(context, str) and context not in known:
            msg = f"multiprocessing_context must be one of {', '.join(known)}, got {context!r}"
            raise ArgumentError(msg)
        for name in ("prefetch_factor", "block_size"):
            value = getattr(self, name)
            if value is not None or name == "prefetch_factor":
                object.__setattr__(self, name, as_integer(name, value, start=1))

    def num_rows(self, plan: Plan, columns: range) -> int:
        """Return how many batches a block has."""
        return self.block_size or rows_per_block(plan, columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
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

        ``first`` is that of `tokenloom.blocks.split_rows`, for the first epoch.

        >>> stretch = Stretch(first_epoch=1, next_batch=3, stop_epoch=3)
        >>> list(stretch.parts(num_batches=5, num_rows=4))
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


class BlockReader:
    """The blocks of any stretch of a stream, read ahead by workers or here.

    Parameters
    ----------
    windows : RandomWindows or SequentialWindows
    num_workers : int
        0 reads in this process.
    options : WorkerOptions
    """

    def __init__(self, windows: Windows, *, num_workers: int, options: WorkerOptions) -> None:
        self._windows = windows
        self._num_workers = num_workers
        self._options = options
        self._kept: tuple[_BlockStream, DataLoader[_Message]] | None = None

    def read(self, stretch: Stretch) -> Iterator[Block]:
        """Yield the blocks of a stretch, in order.

        Raises
        ------
        WorkerError
            A worker died.
        """
        if self._num_workers == 0:
            return _read_here(self._windows, self._options, stretch)
        stream, loader = self._kept or self._start()
        stream.stretch = stretch
        return self._receive(stream, loader, stretch)

    def _start(self) -> "tuple[_BlockStream, DataLoader[_Message]]":
        options = self._options
        stream = _BlockStream(self._windows, num_workers=self._num_workers, options=options)
        loader = DataLoader(
            stream,
            batch_size=None,
            num_workers=self._num_workers,
            prefetch_factor=options.prefetch_factor,
            persistent_workers=options.persistent_workers,
            multiprocessing_context=options.multiprocessing_context,
            # DataLoader draws a seed for its workers. From a generator of
            # its own it leaves the caller's random numbers alone.
            generator=torch.Generator(),
            worker_init_fn=end_if_orphan,
        )
        if options.persistent_workers:
            self._kept = stream, loader
        return stream, loader

    def _receive(
        self, stream: "_BlockStream", loader: "DataLoader[_Message]", stretch: Stretch
    ) -> Iterator[Block]:
        # The iterator whose workers stayed, if any did.
        messages: Any = loader._iterator  # noqa: SLF001  there is no public name
        stays = False
        try:
            check_alive(messages)
            # A seed is drawn on the CPU, whatever default device the caller has set.
            with torch.device("cpu"), translating_deaths(messages), objects_that_stay_shared():
                messages = iter(loader)
            for epoch, rows in stream.parts(stretch):
                with translating_deaths(messages):
                    block = stream.take(next(messages, None), epoch=epoch, rows=rows)
                # Of the ids only: where documents start follows from the plan, here.
                yield dataclasses.replace(block, resets=self._find_resets(epoch, rows))
            stays = self._options.persistent_workers
        except GeneratorExit:
            # A death may have been told of in the consumer's code.
            stays = self._options.persistent_workers and not find_deaths(messages)
            raise
        finally:
            if not stays:
                if self._kept == (stream, loader):
                    self._kept = None
                shut_down(messages)

    def _find_resets(self, epoch: int, rows: range) -> BlockResets | None:
        windows = self._windows
        plan, columns = windows.plan.at(epoch), windows.columns
        return find_resets(windows.documents, plan, rows=rows, columns=columns)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}


def _read_here(windows: Windows, options: WorkerOptions, stretch: Stretch) -> Iterator[Block]:
    tokens, columns, documents = windows.corpus.tokens, windows.columns, windows.documents
    size = options.num_rows(windows.plan, columns)
    for plan, rows in plan_parts(windows, options, stretch, num_blocks=BLOCKS_PER_ORDER):
        yield from read_blocks(
            tokens, plan, rows=rows, columns=columns, size=size, documents=documents
        )


def plan_parts(
    windows: Windows, options: WorkerOptions, stretch: Stretch, *, num_blocks: int = 1
) -> Iterator[tuple[Plan, range]]:
    """Yield the plan and the rows of each so many blocks that are read in this process."""
    plan, columns = windows.plan, windows.columns
    parts = stretch.parts(
        num_batches=plan.num_batches,
        num_rows=num_blocks * options.num_rows(plan, columns),
        first=first_rows(plan, columns),
    )
    for epoch, rows in parts:
        yield plan.at(epoch), rows


@dataclass(frozen=True, slots=True)
class _Message:
    """Where in the ring a worker has put a block.

    Far below 4,096 bytes when pickled: a pipe takes so much whole or not at
    all (POSIX, write), so a worker that is killed never leaves half a message,
    for which the main process would wait for ever.
    """

    worker: int
    slot: int
    stamp: int
    epoch: int
    rows: range


class _BlockStream(IterableDataset[_Message]):
    """What the workers run: worker w of W puts the blocks w, w + W, ... in its ring.

    The ring is shared memory, and goes with the last process that maps it.
    DataLoader asks a worker for ``prefetch_factor`` blocks that it has not
    handed out, and for one more before the main process has copied the last
    one. So a slot is free again when its turn comes. The stamps prove it for
    each block.
    """

    def __init__(self, windows: Windows, *, num_workers: int, options: WorkerOptions) -> None:
        plan, columns, tokens = windows.plan, windows.columns, windows.corpus.tokens
        self._plan, self._columns = plan, columns
        # Pickles a memory map by its name, and has no tokenizer to be pickled.
        self._corpus = Corpus(tokens, tokenizer=None, vocab_size=None, name="")
        self._num_rows = min(options.num_rows(plan, columns), plan.num_batches)
        num_slots = options.prefetch_factor + 1
        self._shape = num_workers, num_slots, self._num_rows, len(columns)
        num_bytes = int(np.prod(self._shape)) * (plan.seq_len + 1) * tokens.itemsize
        lengths_shape = self._shape if plan.tail == "pad" else (0,)
        self._bytes = share_zeros(num_bytes, dtype=torch.uint8)
        self._lengths = share_zeros(*lengths_shape, dtype=torch.int64)
        self._stamps = share_zeros(*self._shape[:2], dtype=torch.int64)
        self._stretch = share_zeros(3, dtype=torch.int64)

    @property
    def stretch(self) -> Stretch:
        """What the next iteration yields; lies in memory that living workers share."""
        first_epoch, next_batch, stop_epoch = self._stretch.tolist()
        return Stretch(
            first_epoch=first_epoch,
            next_batch=next_batch,
            stop_epoch=None if stop_epoch == _ENDLESS else stop_epoch,
        )

    @stretch.setter
    def stretch(self, stretch: Stretch) -> None:
        stop_epoch = _ENDLESS if stretch.stop_epoch is None else stretch.stop_epoch
        self._stretch.numpy()[:] = stretch.first_epoch, stretch.next_batch, stop_epoch

    def parts(self, stretch: Stretch) -> Iterator[tuple[int, range]]:
        """Yield epoch and rows of each block of a stretch."""
        return stretch.parts(num_batches=self._plan.num_batches, num_rows=self._num_rows)

    def __iter__(self) -> Iterator[_Message]:
        info: Any = get_worker_info()
        plan, columns, tokens = self._plan, self._columns, self._corpus.tokens
        slots, lengths, stamps = self._slots(), self._lengths.numpy(), self._stamps.numpy()
        mine = itertools.islice(self.parts(self.stretch), info.id, None, info.num_workers)
        for stamp, (epoch, rows) in enumerate(mine, start=1):
            block = read_block(tokens, plan.at(epoch), rows=rows, columns=columns)
            place = info.id, stamp % self._shape[1]
            stamps[place] = stamp
            slots[place][: len(rows)] = block.windows
            if block.lengths is not None:
                lengths[place][: len(rows)] = block.lengths
            yield _Message(*place, stamp, epoch, rows)

    def take(self, message: _Message | None, *, epoch: int, rows: range) -> Block:
        """Return a copy of the block that a message tells of, which must be this one.

        Raises
        ------
        UsageError
            It is another, or none, or was written over.
        """
        came = None if message is None else (message.epoch, message.rows)
        if message is None or came != (epoch, rows):
            msg = (
                f"expected batches {rows} of epoch {epoch} from a worker, got {came}: PyTorch "
                "lost a block or asks its workers in another order; use num_workers=0 and tell us"
            )
            raise UsageError(msg)
        place = message.worker, message.slot
        windows = self._slots()[place][: len(rows)].copy()
        lengths: IntArray | None = None
        if self._plan.tail == "pad":
            lengths = self._lengths[place][: len(rows)].numpy().copy()
        if int(self._stamps[place]) != message.stamp:
            msg = (
                "a worker wrote over a block before it was read: PyTorch reads further ahead "
                "than it says; use num_workers=0 and tell us"
            )
            raise UsageError(msg)
        return Block(windows=windows, lengths=lengths, epoch=epoch, rows=rows)

    def _slots(self) -> Ids:
        slots: Ids = self._bytes.numpy().view(self._corpus.tokens.dtype)
        return slots.reshape(*self._shape, -1)
