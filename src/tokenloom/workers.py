"""Blocks that worker processes read ahead, in order."""

import itertools
import multiprocessing
import operator
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from tokenloom.arrays import Ids
from tokenloom.blocks import Block, read_block, rows_per_block, split_rows
from tokenloom.corpus import Corpus
from tokenloom.errors import ArgumentError, UsageError, WorkerError
from tokenloom.plans import IntArray, Plan
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
        many as hold about 65,536 tokens. Holds without workers too.

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
        check_at_least("prefetch_factor", self.prefetch_factor, 1)
        if self.block_size is not None:
            check_at_least("block_size", self.block_size, 1)

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

    def parts(self, *, num_batches: int, num_rows: int) -> Iterator[tuple[int, range]]:
        """Yield epochs and ranges of at most ``num_rows`` rows, one per block.

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
            for part in split_rows(rows, num_rows):
                yield epoch, part
            rows = range(num_batches)


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
        return self._receive(stream, loader)

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
        )
        if options.persistent_workers:
            self._kept = stream, loader
        return stream, loader

    def _receive(self, stream: "_BlockStream", loader: "DataLoader[_Message]") -> Iterator[Block]:
        messages: Any = iter(loader)
        stays = False
        try:
            while True:
                block = _next_block(stream, messages)
                if block is None:
                    break
                yield block
            stays = self._options.persistent_workers
        except GeneratorExit:
            # A dead worker may have been told of in the consumer's code.
            stays = self._options.persistent_workers and _explain(messages) is None
            raise
        finally:
            if not stays:
                self._kept = None
                # PyTorch leaves it to garbage collection, which the traceback
                # of an exception can put off for ever.
                messages._shutdown_workers()  # noqa: SLF001  there is no public name


def _read_here(windows: Windows, options: WorkerOptions, stretch: Stretch) -> Iterator[Block]:
    plan, columns, tokens = windows.plan, windows.columns, windows.corpus.tokens
    num_rows = options.num_rows(plan, columns)
    for epoch, rows in stretch.parts(num_batches=plan.num_batches, num_rows=num_rows):
        yield read_block(tokens, plan.at(epoch), rows=rows, columns=columns)


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

    The ring is anonymous shared memory, and goes with the last process that
    maps it. DataLoader asks for ``prefetch_factor * num_workers`` blocks that
    it has not handed out, and for one more before the main process has copied
    the last one. So a slot is free again when its turn comes, even if one
    worker is asked for all of them. The stamps prove it for each block.
    """

    def __init__(self, windows: Windows, *, num_workers: int, options: WorkerOptions) -> None:
        plan, columns, tokens = windows.plan, windows.columns, windows.corpus.tokens
        self._plan, self._columns = plan, columns
        # Pickles a memory map by its name, and has no tokenizer to be pickled.
        self._corpus = Corpus(tokens, tokenizer=None, vocab_size=None, name="")
        self._num_rows = min(options.num_rows(plan, columns), plan.num_batches)
        num_slots = options.prefetch_factor * num_workers + 1
        self._shape = num_workers, num_slots, self._num_rows, len(columns)
        num_bytes = int(np.prod(self._shape)) * (plan.seq_len + 1) * tokens.itemsize
        self._bytes = _share(torch.empty(num_bytes, dtype=torch.uint8))
        self._lengths = _share(torch.empty(self._shape if plan.tail == "pad" else 0).long())
        self._stamps = _share(torch.zeros(self._shape[:2], dtype=torch.int64))
        self._stretch = _share(torch.zeros(3, dtype=torch.int64))

    @property
    def stretch(self) -> Stretch:
        """What the next iteration yields; lies in memory that living workers share."""
        first_epoch, next_batch, stop_epoch = map(int, self._stretch)
        return Stretch(
            first_epoch=first_epoch,
            next_batch=next_batch,
            stop_epoch=None if stop_epoch == _ENDLESS else stop_epoch,
        )

    @stretch.setter
    def stretch(self, stretch: Stretch) -> None:
        stop_epoch = _ENDLESS if stretch.stop_epoch is None else stretch.stop_epoch
        self._stretch[:] = torch.tensor([stretch.first_epoch, stretch.next_batch, stop_epoch])

    def __iter__(self) -> Iterator[_Message]:
        info: Any = get_worker_info()
        plan, columns, tokens = self._plan, self._columns, self._corpus.tokens
        slots, lengths, stamps = self._slots(), self._lengths.numpy(), self._stamps.numpy()
        parts = self.stretch.parts(num_batches=plan.num_batches, num_rows=self._num_rows)
        mine = itertools.islice(parts, info.id, None, info.num_workers)
        for stamp, (epoch, rows) in enumerate(mine, start=1):
            block = read_block(tokens, plan.at(epoch), rows=rows, columns=columns)
            place = info.id, stamp % self._shape[1]
            stamps[place] = stamp
            slots[place][: len(rows)] = block.windows
            if block.lengths is not None:
                lengths[place][: len(rows)] = block.lengths
            yield _Message(*place, stamp, epoch, rows)

    def take(self, message: _Message) -> Block:
        """Return a copy of the block that a message tells of."""
        place = message.worker, message.slot
        windows = self._slots()[place][: len(message.rows)].copy()
        lengths: IntArray | None = None
        if self._plan.tail == "pad":
            lengths = self._lengths[place][: len(message.rows)].numpy().copy()
        if int(self._stamps[place]) != message.stamp:
            msg = (
                "a worker wrote over a block before it was read: this release of PyTorch "
                "reads further ahead than it says; use num_workers=0 and tell us"
            )
            raise UsageError(msg)
        return Block(windows=windows, lengths=lengths, epoch=message.epoch, rows=message.rows)

    def _slots(self) -> Ids:
        slots: Ids = self._bytes.numpy().view(self._corpus.tokens.dtype)
        return slots.reshape(*self._shape, -1)


def _next_block(stream: _BlockStream, messages: Any) -> Block | None:
    # Raised after the except block: an error that kept the first one as its
    # context would keep the dead workers' iterator alive.
    try:
        message: _Message | None = next(messages, None)
        return None if message is None else stream.take(message)
    except RuntimeError:
        problem = _explain(messages)
        if problem is None:
            raise
    raise WorkerError(problem)


def _explain(messages: Any) -> str | None:
    """Say which workers died and how, if any did."""
    workers = messages._workers  # noqa: SLF001  there is no public name
    dead = [
        f"worker {index} of {len(workers)} (pid {worker.pid}) {_how_it_ended(worker.exitcode)}"
        for index, worker in enumerate(workers)
        if worker.exitcode not in (None, 0)
    ]
    if not dead:
        return None
    return (
        f"{' and '.join(dead)}: perhaps memory ran out, or somebody stopped it; "
        "go on from the loader's state_dict(), with the same or fewer workers"
    )


def _how_it_ended(exitcode: int) -> str:
    if exitcode >= 0:
        return f"ended with exit code {exitcode}"
    try:
        return f"was killed by {signal.Signals(-exitcode).name}"
    except ValueError:
        return f"was killed by signal {-exitcode}"


def _share(tensor: torch.Tensor) -> torch.Tensor:
    tensor.share_memory_()  # type: ignore[no-untyped-call]  # PyTorch leaves it unannotated
    return tensor


def check_at_least(name: str, value: int, least: int) -> int:
    """Return an integer that is at least ``least``.

    Raises
    ------
    ArgumentError
        It is smaller, or no integer.

    >>> check_at_least("num_workers", 2, 0)
    2
    """
    try:
        integer = operator.index(value)
    except TypeError:
        integer = least - 1
    if integer < least:
        msg = f"{name} must be an integer of at least {least}, got {value!r}"
        raise ArgumentError(msg)
    return integer
