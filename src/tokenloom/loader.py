"""The stream of batches with its own position: epochs, workers, resume."""

import dataclasses
import itertools
import multiprocessing
import operator
from collections.abc import Iterator, Mapping
from multiprocessing.context import BaseContext
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from tokenloom import positions
from tokenloom.batch import Batch, Block
from tokenloom.errors import ArgumentError, UsageError
from tokenloom.plans import Plan
from tokenloom.windows import RandomWindows, SequentialWindows, read_block, rows_per_block

Windows = RandomWindows | SequentialWindows


class Loader:
    """Batches of windows, from any number of workers, resumable anywhere.

    An iteration covers ``num_epochs`` epochs, the first from the epoch that
    the windows had when the loader was made. The next ``for`` goes on with the
    next epochs; after a ``break`` it repeats the epoch that was broken off.
    The loader keeps its own position and never changes the windows.

    Parameters
    ----------
    windows : RandomWindows or SequentialWindows
    num_workers : int
        Processes that read ahead; the batches are the same for any number.
    num_epochs : int, optional
        Epochs per iteration. None never ends.
    device : torch.device, str or int, optional
        Where the batches' tensors go; by default they stay on the CPU.
    pin_memory : bool
        Whether batches pass through page-locked memory, from which copies to a
        GPU are quicker and need not be waited for.
    multiprocessing_context : str or context, optional
        How workers start: "fork", "forkserver", "spawn" or a context.

    Raises
    ------
    ArgumentError
        A value is out of range, or the world size does not divide the batch.

    >>> from tokenloom.corpus import Corpus
    >>> corpus = Corpus.from_text("the time machine " * 9)
    >>> windows = RandomWindows(corpus, batch_size=2, seq_len=8)
    >>> loader = Loader(windows, num_epochs=2)
    >>> [batch.epoch for batch in loader].count(1), loader.state_dict()["epoch"]
    (9, 2)
    """

    def __init__(
        self,
        windows: Windows,
        *,
        num_workers: int = 0,
        num_epochs: int | None = 1,
        device: torch.device | str | int | None = None,
        pin_memory: bool = False,
        multiprocessing_context: str | BaseContext | None = None,
    ) -> None:
        if not isinstance(windows, RandomWindows | SequentialWindows):
            msg = (
                f"windows must be RandomWindows or SequentialWindows, got {type(windows).__name__}"
            )
            raise ArgumentError(msg)
        self.windows = windows
        self.num_workers = _at_least("num_workers", num_workers, 0)
        self.num_epochs = None if num_epochs is None else _at_least("num_epochs", num_epochs, 1)
        self.device = device
        self.pin_memory = pin_memory
        self.multiprocessing_context = _check_start(device, multiprocessing_context)
        self._plan = windows.plan
        # Detects the shard now, in the main process, and checks it.
        self._num_batches = len(windows)
        self._epoch, self._next_batch = self._plan.epoch, 0
        self._stop_epoch = self._end_of_iteration()
        self._is_loaded = False
        self._iteration = 0

    @property
    def plan(self) -> Plan:
        """The plan of the epoch that comes next or is being iterated."""
        return dataclasses.replace(self._plan, epoch=self._epoch)

    @property
    def remaining(self) -> int:
        """Batches of this iteration that are still to come; 0 after the last.

        Raises
        ------
        TypeError
            The loader is endless.
        """
        self._check_has_end()
        return (self._stop_epoch - self._epoch) * self._num_batches - self._next_batch

    def __len__(self) -> int:
        """Return the number of batches of a whole iteration.

        Raises
        ------
        TypeError
            The loader is endless.
        """
        return self._check_has_end() * self._num_batches

    def __iter__(self) -> Iterator[Batch]:
        """Start an iteration: at the loaded position, else at the epoch's first batch."""
        if not self._is_loaded:
            self._next_batch = 0
        self._is_loaded = False
        self._stop_epoch = self._end_of_iteration()
        self._iteration += 1
        return self._batches(self._iteration)

    def state_dict(self) -> dict[str, Any]:
        """Return the position after the last batch that the consumer received.

        A new, flat, JSON-able dict of position and proof. It depends on no
        number of workers or ranks.
        """
        return positions.describe(
            self.plan, corpus_hash=self.windows.corpus.hash, next_batch=self._next_batch
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make the next iteration start at a saved position.

        Nothing but the position is taken from the state.

        Raises
        ------
        StateMismatchError
            The state belongs to other windows; each field that differs is named.
        """
        self._epoch, self._next_batch = positions.restore(
            state, plan=self._plan, corpus_hash=self.windows.corpus.hash
        )
        self._stop_epoch = self._end_of_iteration()
        self._is_loaded = True
        self._iteration += 1

    def _batches(self, iteration: int) -> Iterator[Batch]:
        for block in self._read_ahead():
            for position, index in enumerate(block.rows):
                if iteration != self._iteration:
                    msg = (
                        "this iterator was replaced by a newer one, or by "
                        "load_state_dict: a Loader has one position, so use one "
                        "iterator at a time, or two loaders"
                    )
                    raise UsageError(msg)
                epochs, next_batch = divmod(index + 1, self._num_batches)
                self._epoch, self._next_batch = block.epoch + epochs, next_batch
                yield self._place(block.batch(position))

    def _read_ahead(self) -> Iterator[Block]:
        stream = _BlockStream(
            self.windows,
            first_epoch=self._epoch,
            next_batch=self._next_batch,
            stop_epoch=None if self.num_epochs is None else self._stop_epoch,
        )
        return iter(
            DataLoader(
                stream,
                batch_size=None,
                num_workers=self.num_workers,
                multiprocessing_context=self.multiprocessing_context if self.num_workers else None,
                # DataLoader draws a seed for its workers. From a generator of
                # its own it leaves the caller's random numbers alone.
                generator=torch.Generator(),
            )
        )

    def _place(self, batch: Batch) -> Batch:
        if self.pin_memory and torch.cuda.is_available():
            batch = batch.pin_memory()
        if self.device is not None:
            batch = batch.to(self.device, non_blocking=self.pin_memory)
        return batch

    def _end_of_iteration(self) -> int:
        """Return the epoch before which the iteration at this position ends.

        Iterations are ``num_epochs`` long from the windows' first epoch on, so
        a loader that resumes inside one ends where the saved one would have.
        """
        if self.num_epochs is None:
            return self._epoch
        done = (self._epoch - self._plan.epoch) // self.num_epochs
        return self._plan.epoch + (done + 1) * self.num_epochs

    def _check_has_end(self) -> int:
        if self.num_epochs is None:
            msg = "an endless loader has no length: give num_epochs"
            raise TypeError(msg)
        return self.num_epochs


class _BlockStream(IterableDataset[Block]):
    """Blocks of whole epochs; worker w of W yields the blocks w, w + W, ..."""

    def __init__(
        self, windows: Windows, *, first_epoch: int, next_batch: int, stop_epoch: int | None
    ) -> None:
        self._windows = windows
        self._first_epoch = first_epoch
        self._next_batch = next_batch
        self._stop_epoch = stop_epoch

    def __iter__(self) -> Iterator[Block]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for epoch, rows in itertools.islice(self._row_blocks(), first, None, step):
            plan = dataclasses.replace(self._windows.plan, epoch=epoch)
            yield read_block(self._windows, plan, rows)

    def _row_blocks(self) -> Iterator[tuple[int, range]]:
        num_rows = rows_per_block(self._windows)
        rows = range(self._next_batch, self._windows.plan.num_batches)
        epochs = (
            itertools.count(self._first_epoch)
            if self._stop_epoch is None
            else range(self._first_epoch, self._stop_epoch)
        )
        for epoch in epochs:
            while rows:
                yield epoch, rows[:num_rows]
                rows = rows[num_rows:]
            rows = range(self._windows.plan.num_batches)


def _at_least(name: str, value: int, least: int) -> int:
    try:
        integer = operator.index(value)
    except TypeError:
        integer = least - 1
    if integer < least:
        msg = f"{name} must be an integer of at least {least}, got {value!r}"
        raise ArgumentError(msg)
    return integer


def _check_start(
    device: torch.device | str | int | None, context: str | BaseContext | None
) -> str | BaseContext | None:
    """Check here what would otherwise fail at the first batch, or in a worker."""
    try:
        if device is not None:
            torch.device(device)
    except RuntimeError as error:
        msg = f"device must be one that PyTorch knows, got {device!r}"
        raise ArgumentError(msg) from error
    known = multiprocessing.get_all_start_methods()
    if isinstance(context, str) and context not in known:
        msg = f"multiprocessing_context must be one of {', '.join(known)}, got {context!r}"
        raise ArgumentError(msg)
    return context
