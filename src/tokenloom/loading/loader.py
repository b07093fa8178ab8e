"""The stream of batches with its own position: epochs, workers, resume."""

import contextlib
import functools
import itertools
import sys
import weakref
from collections.abc import Collection, Generator, Iterator, Mapping
from typing import Any, Never, NoReturn

import torch
import torch.distributed

from tokenloom._checks import MAX_WORKERS, as_flag, as_integer, require_type
from tokenloom._wording import count, show
from tokenloom.errors import ArgumentError, EndlessError, UsageError
from tokenloom.loading.batch import Batch
from tokenloom.loading.blocks import Block, plan_epochs
from tokenloom.loading.dataset import Windows, refuse_second_thread
from tokenloom.loading.device import ResidentTokens, choose_device, prefetch
from tokenloom.loading.read_ahead import WorkerOptions, read_blocks
from tokenloom.plan.order import MAX_EPOCH
from tokenloom.plan.plan import Plan
from tokenloom.plan.state import describe_position, restore_position


class Loader:
    """Batches of windows, from any number of workers, resumable anywhere.

    An iteration covers ``num_epochs`` epochs, the first from the epoch that
    the windows had when the loader was made. The next ``for`` reads the
    next epochs; after a ``break`` it repeats the epoch that was broken off.
    The loader keeps its own position and never changes the windows.

    Batches are read in blocks. The tensors of several batches may be views of the
    same memory: to keep a few of many batches, clone them.

    Parameters
    ----------
    windows : RandomWindows or SequentialWindows
    num_workers : int
        Threads that read ahead; the batches are the same for any number.
    num_epochs : int, optional
        Epochs per iteration. None never ends.
    device : torch.device, str or int, optional
        Device of the batches' tensors, by default the CPU. They are copied to a
        GPU ahead of their use, on a separate stream.
    pin_memory : bool
        Whether batches are in page-locked memory, for code that copies them to a
        GPU itself. Does nothing without a GPU.
    resident : bool
        Whether the whole corpus lies on ``device`` and is gathered there. It
        must fit, and needs no workers. The batches are the same.
    worker_options : WorkerOptions, optional
        How far workers read ahead, and how much at once.

    Attributes
    ----------
    carries_state : bool
        Whether each row continues the text of the same row of the batch before.
    num_batches : int
        Batches of the epoch that the last batch was of; before the first one, of the
        epoch that comes next. The same in every epoch, unless the batch size changes.
    num_skipped : int
        Batches that `skip` passed over, also before the position was saved.

    Raises
    ------
    ArgumentError
        A value is out of range, or the world size does not divide the batch.

    >>> from tokenloom import Corpus, RandomWindows
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
        resident: bool = False,
        worker_options: WorkerOptions | None = None,
        **unknown: Never,
    ) -> None:
        if unknown:
            raise _refuse_option(next(iter(unknown)))
        if not isinstance(windows, Windows):
            msg = (
                "windows must be RandomWindows, SequentialWindows, PackedWindows or Windows, got "
                f"{type(windows).__name__}"
            )
            raise ArgumentError(msg)
        if num_epochs is not None:
            num_epochs = as_integer("num_epochs", num_epochs, start=1)
        windows.plan.order.check_epochs(windows.plan, num_epochs)
        self.windows = windows
        self.num_workers = as_integer("num_workers", num_workers, stop=MAX_WORKERS)
        self.num_epochs = num_epochs
        self.device = device
        self.pin_memory = as_flag("pin_memory", pin_memory)
        options = WorkerOptions() if worker_options is None else worker_options
        self.worker_options = require_type(
            "worker_options", options, WorkerOptions, "WorkerOptions"
        )
        self._device = None if device is None else choose_device(device)
        self._plan = windows.plan
        self.carries_state = self._plan.carries_state
        # Detects the shard now, in the main process, and checks it.
        self.num_batches = len(windows)
        self._check_length()
        self._resident = self._make_resident() if as_flag("resident", resident) else None
        self._epoch, self._next_batch, self._first_window = self._plan.epoch, 0, 0
        # Whether epochs may have different numbers of batches.
        self._is_uneven = self._plan.batch_sizes is not None
        self._stop_epoch = self._end_of_iteration()
        self.num_skipped = 0
        # Whether the next iteration starts at the position, and not at the epoch's beginning.
        self._is_loaded = False
        # The number of the newest iterator, and how often its reading position was changed.
        self._iteration = self._turn = 0
        # The blocks that are being read, as long as an iterator refers to them.
        self._reading: weakref.ref[Generator[Block, None, None]] | None = None

    def _check_length(self) -> None:
        """Check that all batches of an iteration can be counted by `len`."""
        if self.num_epochs is None:
            return
        stop = self._plan.epoch + self.num_epochs
        if self._plan.count_until(stop) > sys.maxsize:
            most = sys.maxsize // self.num_batches
            msg = (
                f"num_epochs must be at most {most:,} of "
                f"{count(self.num_batches, 'batch', 'batches')} each, got "
                f"{show(self.num_epochs)}: None is for an endless loader"
            )
            raise ArgumentError(msg)

    def __repr__(self) -> str:
        return (
            f"Loader({type(self.windows).__name__} of {self.windows.corpus!r}, "
            f"num_workers={self.num_workers}, num_epochs={self.num_epochs}): next is batch "
            f"{self._next_batch:,} of {self.plan.num_batches:,} in epoch {self._epoch}"
        )

    @property
    def plan(self) -> Plan:
        """The plan of the epoch that comes next or is being iterated."""
        return self._plan.at(self._epoch, first_window=self._first_window)

    @property
    def first_epoch(self) -> int:
        """The epoch that the windows had when the loader was made: iterations count from it."""
        return self._plan.epoch

    @property
    def remaining(self) -> int:
        """Batches of this iteration that are still to come; 0 after the last.

        Raises
        ------
        EndlessError
            The loader is endless. It is a TypeError.
        """
        self._check_has_end()
        return self.plan.count_until(self._stop_epoch) - self._next_batch

    @property
    def is_at_start(self) -> bool:
        """Whether the next batch is the first one of an iteration."""
        num_epochs = self.num_epochs or 1
        is_whole = self._next_batch == self._first_window == 0
        return is_whole and (self._epoch - self._plan.epoch) % num_epochs == 0

    def __len__(self) -> int:
        """Return the number of batches of a whole iteration.

        Raises
        ------
        EndlessError
            The loader is endless. It is a TypeError.
        """
        num_epochs = self._check_has_end()
        return self._plan.at(self._stop_epoch - num_epochs).count_until(self._stop_epoch)

    def __iter__(self) -> Iterator[Batch]:
        """Start an iteration: at the loaded position, else at the epoch's first batch.

        Raises
        ------
        UsageError
            This process's part of each batch changed since it was detected; or,
            from ``next()``, the iterator was replaced by a newer one, or another
            thread is asking it at the same time.
        StoreError
            A file of the corpus was changed or replaced since it was opened;
            also from ``next()``.
        """
        self.windows.confirm_shard()
        self.windows.corpus.check_files()
        if not self._is_loaded:
            self._go_to(self._epoch)
        self._is_loaded = False
        self._stop_epoch = self._end_of_iteration()
        self._replace_iterator()
        return _Batches(self._batches(self._iteration))

    def __getitem__(self, index: object) -> NoReturn:
        """Refuse to be the dataset of a DataLoader.

        Raises
        ------
        UsageError
            Always.
        """
        msg = (
            "a Loader is iterated itself, and is no dataset of a DataLoader: use "
            "'for batch in loader', or DataLoader(loader.windows, batch_size=None)"
        )
        raise UsageError(msg)

    def confirm_ranks(
        self,
        *,
        model: torch.nn.Module | None = None,
        facts: Mapping[str, Any] | None = None,
        group: torch.distributed.ProcessGroup | None = None,
    ) -> None:
        """Check that all ranks are about to train on the same stream, each on its part.

        Otherwise a stale copy of the text on one machine, or another seed, would
        go unnoticed. All ranks call this once, at the same place,
        before the first batch. Plan, position, vocabulary, documents and a hash of
        the corpus are compared, and whether the parts make whole batches. Of a
        long memory map the hash is a sample, and of a store it is its
        manifest's.

        Parameters
        ----------
        model : torch.nn.Module, optional
            Whose shapes and weights are compared too.
        facts : mapping of str to JSON-able, optional
            What else must be the same, such as the learning rate.
        group : torch.distributed.ProcessGroup, optional
            The ranks that are compared; by default all of them.

        Raises
        ------
        ArgumentError
            A fact is not JSON-able, or this process is not in the group.
        UsageError
            Ranks differ: each field is named with its values and their ranks,
            on every rank. Or there are several processes, and no group yet.
        WorkerError
            Another rank failed before it could be compared.
        """
        position = {
            "epoch": self._epoch,
            "next_batch": self._next_batch,
            "num_epochs": self.num_epochs,
        }
        self.windows.confirm_position(position, model=model, facts=facts, group=group)

    def state_dict(self) -> dict[str, Any]:
        """Return the position after the last batch that the consumer received.

        A new, flat, JSON-able dict of position and proof. It does not depend on
        the number of workers or ranks.
        """
        return describe_position(
            self.plan,
            proof=self.windows.proof,
            next_batch=self._next_batch,
            num_skipped=self.num_skipped,
        )

    def load_state_dict(self, state: Mapping[str, Any], *, changed: Collection[str] = ()) -> None:
        """Make the next iteration start at a saved position.

        Nothing but the position is taken from the state.

        Parameters
        ----------
        state : mapping
            What `state_dict` returned.
        changed : collection of str
            What may differ from the windows of the state: ``("batch_size",)``, in any
            order but the sequential one. No window of the epoch is read twice then, and
            none is left out but those that fill no batch at its end: where the saved
            position is between two of the new batches, the rest of the epoch is cut
            into batches from that window on.

        Raises
        ------
        ArgumentError
            ``changed`` has another name, or the windows depend on the batch size.
        StateMismatchError
            The state belongs to other windows; each field that differs is named.
        """
        position = restore_position(
            state, plan=self._plan, proof=self.windows.proof, changed=changed
        )
        self._go_to(position.epoch, position.next_batch, position.first_window)
        self.num_skipped = position.num_skipped
        self._stop_epoch = self._end_of_iteration()
        self._is_loaded = True
        self._replace_iterator()

    def skip(self, num_batches: int) -> None:
        """Pass over the next batches without reading them, such as those of a loss spike.

        The batch that comes next is the one that would have come after them, in this
        epoch or a later one. A running iterator continues there; otherwise the next
        iteration starts there. All ranks must skip the same. The saved state is the
        new position, and counts them in ``num_skipped``.

        Parameters
        ----------
        num_batches : int
            How many, counted from the batch after the last one that was received;
            at most `remaining`.

        Raises
        ------
        ArgumentError
            Fewer batches are left in this iteration.
        """
        most = None if self.num_epochs is None else self.remaining
        num_batches = as_integer("num_batches", num_batches, stop=MAX_EPOCH)
        if most is not None and num_batches > most:
            left = count(most, "batch", "batches")
            msg = (
                f"num_batches must be at most {most:,}, got {num_batches:,}: this iteration has "
                f"{left} left; begin the next one with iter(loader) to skip batches of that"
            )
            raise ArgumentError(msg)
        epoch, next_batch = self.plan.find_batch(self._next_batch + num_batches)
        self._go_to(epoch, next_batch, self._first_window if epoch == self._epoch else 0)
        self.num_skipped += num_batches
        self._is_loaded = True
        self._stop_reading()

    def _go_to(self, epoch: int, next_batch: int = 0, first_window: int = 0) -> None:
        # A position out of range is refused here, before anything changes.
        num_batches = self._plan.at(epoch, first_window=first_window).num_batches
        self._epoch, self._next_batch, self._first_window = epoch, next_batch, first_window
        self.num_batches = num_batches
        self._is_uneven |= first_window > 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reading": None}

    def _replace_iterator(self) -> None:
        """Invalidate the existing iterators, and stop their workers."""
        self._iteration += 1
        self._stop_reading()

    def _stop_reading(self) -> None:
        """Stop the workers of the iterator that is running: it reads elsewhere, if at all."""
        self._turn += 1
        blocks = None if self._reading is None else self._reading()
        if blocks is not None:
            # Another thread may be running the generator; it will see that it was replaced.
            with contextlib.suppress(ValueError):
                blocks.close()

    def _batches(self, iteration: int) -> Generator[Batch, None, None]:
        blocks: Generator[Block, None, None] | None = None
        batches: Iterator[Batch] = iter(())
        turn = None
        try:
            while True:
                if turn != self._turn:
                    # The first batch of all, or the first one after others were skipped.
                    self._check_newest(iteration)
                    turn, self._is_loaded = self._turn, False
                    blocks, batches = self._read_ahead()
                batch = next(batches, None)
                if turn != self._turn:
                    # Another thread replaced this iterator or skipped batches in the meantime.
                    continue
                if batch is None:
                    return
                next_batch = batch.index + 1
                if next_batch == 1 and self._is_uneven:
                    # The first batch of an epoch, which may have another number of batches.
                    self.num_batches = self.plan.num_batches
                # From here to the consumer's loop nothing is called, so no Ctrl-C comes between.
                if next_batch == self.num_batches:
                    self._epoch, self._next_batch, self._first_window = batch.epoch + 1, 0, 0
                else:
                    self._next_batch = next_batch
                yield batch
        finally:
            # The traceback of an error, or of Ctrl-C, would keep the workers alive.
            if blocks is not None:
                blocks.close()

    def _check_newest(self, iteration: int) -> None:
        if iteration != self._iteration:
            msg = (
                "this iterator was replaced by a newer one, or by "
                "load_state_dict: a Loader has one position, so use one "
                "iterator at a time, or two loaders"
            )
            raise UsageError(msg)

    def _read_ahead(self) -> tuple[Generator[Block, None, None] | None, Iterator[Batch]]:
        """Return the generator of blocks, None for resident tokens, and the batches."""
        references = plan_epochs(
            self.plan,
            next_batch=self._next_batch,
            stop_epoch=None if self.num_epochs is None else self._stop_epoch,
            shard=self.windows.shard,
            block_size=self.worker_options.block_size,
        )
        if self._resident is not None:
            read = functools.partial(
                self._resident.read,
                documents=self.windows.documents,
                loss_mask=self.windows.corpus.loss_mask,
            )
            return None, itertools.chain.from_iterable(map(read, references))
        blocks = read_blocks(
            self.windows,
            references,
            num_workers=self.num_workers,
            prefetch_factor=self.worker_options.prefetch_factor,
        )
        self._reading = weakref.ref(blocks)
        return blocks, prefetch(blocks, device=self._device, pin_memory=self.pin_memory)

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
            raise EndlessError(msg, name="remaining")
        return self.num_epochs

    def _make_resident(self) -> ResidentTokens:
        if self._device is None:
            msg = "resident=True needs a device: say which, such as device='cuda'"
            raise ArgumentError(msg)
        if self.num_workers:
            msg = (
                "resident=True gathers on the device, where no worker can help: "
                f"use num_workers=0, got {self.num_workers}"
            )
            raise ArgumentError(msg)
        return ResidentTokens(self.windows.corpus.tokens, device=self._device)


class _Batches(Iterator[Batch]):
    """The batches of an iteration, for one thread."""

    def __init__(self, batches: Generator[Batch, None, None]) -> None:
        self._batches = batches

    def __next__(self) -> Batch:
        try:
            # No next(): Python may raise KeyboardInterrupt as a call returns, and the batch that
            # counts as received would be lost.
            for batch in self._batches:
                return batch
        except ValueError as error:
            refuse_second_thread(error)
            raise
        raise StopIteration

    def close(self) -> None:
        """End the iteration, and its workers."""
        try:
            self._batches.close()
        except ValueError as error:
            refuse_second_thread(error)
            raise


def _refuse_option(name: str) -> ArgumentError:
    """Return the error for an unknown option, such as one of a DataLoader."""
    cures = {
        ("persistent_workers", "multiprocessing_context", "timeout", "worker_init_fn"): (
            "its workers are threads, which do not need it: leave it out"
        ),
        ("prefetch_factor", "block_size"): f"use worker_options=WorkerOptions({name}=...)",
        ("batch_size", "seq_len", "seed", "tail", "shard", "resets", "drop_last"): (
            "the windows decide it: use RandomWindows or SequentialWindows with it"
        ),
        ("shuffle", "sampler", "batch_sampler", "generator", "in_order", "collate_fn"): (
            "the windows yield whole batches in an order of their own: leave it out, and choose "
            "RandomWindows or SequentialWindows"
        ),
    }
    cure = next((cure for names, cure in cures.items() if name in names), None)
    if cure is None:
        cure = (
            "its options are num_workers, num_epochs, device, pin_memory, resident and "
            "worker_options"
        )
    return ArgumentError(f"Loader has no option {name!r}: {cure}")
