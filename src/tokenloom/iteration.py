"""The batches of one epoch that a process, or a worker of a DataLoader, reads."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, Self

from torch.utils.data import get_worker_info

from tokenloom.batch import Batch
from tokenloom.blocks import (
    BLOCKS_PER_ORDER,
    first_rows,
    read_blocks,
    rows_per_block,
    split_rows,
)
from tokenloom.corpus import Corpus
from tokenloom.documents import DocumentOffsets
from tokenloom.errors import UsageError
from tokenloom.plans import Plan
from tokenloom.positions import describe_position, restore_position


class Readable(Protocol):
    """What an iterator asks of the windows that it reads."""

    @property
    def corpus(self) -> Corpus:
        """The corpus that the windows read."""

    @property
    def documents(self) -> DocumentOffsets | None:
        """The documents whose starts the batches know of, if they do."""

    @property
    def plan(self) -> Plan:
        """The plan of the current epoch, over all ranks."""

    @property
    def epoch(self) -> int:
        """The epoch that the next iterator reads."""

    @property
    def columns(self) -> range:
        """The rows of each batch that this process reads, half-open."""


class WindowsIterator(Iterator[Batch]):
    """The batches of one epoch that this process, or this worker, reads.

    Worker w of W takes the rows w, w + W, ... of the plan; DataLoader's round
    robin puts them back in order.
    """

    def __init__(self, windows: Readable) -> None:
        worker = get_worker_info()
        self._windows = windows
        self._worker = None if worker is None else (worker.id, worker.num_workers)
        self._epoch_cell = windows.epoch
        self._go_to(windows.epoch, 0 if worker is None else worker.id)

    def _go_to(self, epoch: int, next_batch: int) -> None:
        self._plan = self._windows.plan.at(epoch)
        self._next_batch = next_batch
        self._batches = self._read()

    def _read(self) -> Iterator[Batch]:
        # Not before the first batch is asked for: PyTorch passes on what a worker raises there,
        # and not what it raises as a persistent worker begins another iteration.
        self._windows.corpus.check_files()
        if self._worker is not None:
            check_in_order(self._plan)
        num_workers = 1 if self._worker is None else self._worker[1]
        rows = range(self._next_batch, self._plan.num_batches, num_workers)
        tokens, columns = self._windows.corpus.tokens, self._windows.columns
        documents = self._windows.documents
        size, first = rows_per_block(self._plan, columns), first_rows(self._plan, columns)
        for part in split_rows(rows, BLOCKS_PER_ORDER * size, first=first):
            for block in read_blocks(
                tokens, self._plan, rows=part, columns=columns, size=size, documents=documents
            ):
                yield from block.wide_batches() if self._worker is None else block.narrow_batches()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        if self._windows.epoch != self._epoch_cell:
            raise epoch_was_changed(self._windows.epoch, self._plan.epoch)
        try:
            batch = next(self._batches)
        except ValueError as error:
            refuse_second_thread(error)
            raise
        # After this worker's last row it stands past the end.
        self._next_batch = batch.index + (1 if self._worker is None else self._worker[1])
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Return the position of this worker and the proof of its plan.

        For StatefulDataLoader. It is not the state of a `tokenloom.Loader`.
        """
        return describe_position(
            self._plan,
            corpus_hash=self._windows.corpus.hash,
            next_batch=self._next_batch,
            worker=self._worker or (0, 1),
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to the position that `state_dict` returned.

        Raises
        ------
        StateMismatchError
            The state belongs to another plan, corpus, worker or number of
            workers, or to a `tokenloom.Loader`.
        """
        epoch, next_batch = restore_position(
            state,
            plan=self._plan,
            corpus_hash=self._windows.corpus.hash,
            worker=self._worker or (0, 1),
        )
        self._go_to(epoch, next_batch)


def check_in_order(plan: Plan) -> None:
    """Check that the DataLoader which starts a worker here keeps the order, if it matters.

    PyTorch tells its dataset nothing of that. But the call that starts a
    worker, or pickles the windows for one, stands below this one, and so does
    the iterator that makes it; in a worker that was forked it still does.

    Raises
    ------
    UsageError
        ``in_order=False``, and the hidden state is carried from batch to batch.

    Notes
    -----
    It reads private names of PyTorch, once for each pass of a worker. Where
    another release has other names it finds nothing, and refuses nothing.
    """
    frame = inspect.currentframe() if plan.carries_state else None
    while frame is not None:
        starter = frame.f_locals.get("self")
        if "_num_workers" in getattr(starter, "__dict__", {}) and starter is not None:
            if not getattr(starter, "_in_order", True):
                msg = (
                    "in_order=False of a DataLoader yields batches in any order, but sequential "
                    "windows carry a state from each batch to the next: leave it out, or use "
                    "RandomWindows"
                )
                raise UsageError(msg)
            return
        frame = frame.f_back


def refuse_second_thread(error: ValueError) -> None:
    """Refuse that two threads ask one iterator at the same time, if that was the error.

    Raises
    ------
    UsageError
        It was.
    """
    # A generator says it in these words, and with no error of its own.
    if type(error) is ValueError and str(error) == "generator already executing":
        msg = (
            "an iterator of batches belongs to one thread, and another one is asking it right "
            "now: let one thread iterate and hand the batches over through a queue.Queue, or "
            "give each thread windows, or a Loader, of its own"
        )
        raise UsageError(msg) from error


def epoch_was_changed(epoch: int, iterated: int | None) -> UsageError:
    """Return what is raised where the epoch was set between two batches."""
    return UsageError(
        f"set_epoch({epoch}) was called while epoch {iterated} was being iterated: "
        "drop the iterator, call set_epoch, then start a new one"
    )
