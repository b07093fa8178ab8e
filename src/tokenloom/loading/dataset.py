"""Windows of a corpus as a PyTorch dataset, in any order."""

import functools
import inspect
import itertools
import os
from collections.abc import Iterator, Mapping
from multiprocessing.context import get_spawning_popen
from typing import Any, NoReturn, Self, final

import torch
import torch.distributed
from torch.utils.data import IterableDataset, get_worker_info

from tokenloom._checks import as_flag_or_none
from tokenloom._io.processes import end_with_parent, leave_ctrl_c_to_parent
from tokenloom._wording import as_html, count, show
from tokenloom.corpus.corpus import Corpus
from tokenloom.corpus.mixture import Mixture, prove_parts
from tokenloom.corpus.offsets import DocumentOffsets
from tokenloom.corpus.plans import make_plan
from tokenloom.errors import ArgumentError, CorpusError, UsageError
from tokenloom.loading.batch import Batch
from tokenloom.loading.blocks import plan_blocks, read_block
from tokenloom.loading.distributed import Ranks, describe_weights
from tokenloom.loading.shard import Shard, check_same_part
from tokenloom.loading.shared_integer import SharedInteger
from tokenloom.plan.batch_sizes import BatchSize
from tokenloom.plan.mixture import MixtureOrder
from tokenloom.plan.order import Order, Tail
from tokenloom.plan.packed import PackedOrder
from tokenloom.plan.plan import Plan
from tokenloom.plan.state import describe_position, restore_position
from tokenloom.text.vocab import Vocab

_BY_A_NEW_PROCESS = -1


class Windows(IterableDataset[Batch]):
    """Batches of windows of a corpus, in any order: tokenloom's or your own.

    A dataset for ``torch.utils.data.DataLoader(windows, batch_size=None, ...)``.

    Parameters
    ----------
    order : str or Order
        "random", "sequential", "packed", or an object of a class of your own that derives
        from `tokenloom.plan.Order`.
    corpus, batch_size, seq_len, seed, tail, shard, resets
        As in `RandomWindows`.

    Raises
    ------
    ArgumentError, CorpusError
        As in `RandomWindows`; or there is no order of this name, or an order of your own
        has the name of one of tokenloom's.

    Notes
    -----
    The configuration is frozen. Only the epoch changes; it lies in shared memory,
    so that persistent workers see it. A copy, or an unpickled dataset, has its
    own epoch. There is no ``state_dict`` on purpose: the position belongs to the
    iterator, and a StatefulDataLoader would load it into the dataset and replay
    the epoch.

    >>> corpus = Corpus.from_text("the time machine " * 9)
    >>> Windows("sequential", corpus, batch_size=2, seq_len=8).plan.carries_state
    True
    """

    def __init__(  # noqa: PLR0913  the shape of a batch, flat, as users know it
        self,
        order: str | Order,
        corpus: Corpus | Mixture,
        *,
        batch_size: BatchSize = 32,
        seq_len: int = 35,
        seed: int = 0,
        tail: Tail = "drop",
        shard: Shard | None = None,
        resets: bool | None = None,
    ) -> None:
        if not isinstance(corpus, Corpus | Mixture):
            msg = (
                f"corpus must be a Corpus or a Mixture, got {type(corpus).__name__}: "
                "wrap token ids in Corpus.from_tokens(ids)"
            )
            raise ArgumentError(msg)
        resets = as_flag_or_none("resets", resets)
        if resets is not None and not resets and order == PackedOrder.kind:
            msg = (
                "resets=False has no meaning in packed order, whose documents do not see each "
                "other: leave it out"
            )
            raise ArgumentError(msg)
        self._mixture = corpus if isinstance(corpus, Mixture) else None
        self._corpus = corpus.corpus if isinstance(corpus, Mixture) else corpus
        if resets and self._corpus.document_offsets is None:
            msg = (
                f"resets=True needs documents, and {self._corpus.name} has none: pass "
                "documents=... to Corpus.from_tokens, or leave resets out"
            )
            raise CorpusError(msg)
        self._resets = resets
        self._first_plan = make_plan(
            order, corpus, batch_size=batch_size, seq_len=seq_len, seed=seed, tail=tail
        )
        if not isinstance(shard, Shard | None):
            cure = "use Shard(rank=..., world_size=...)"
            msg = f"shard must be a Shard or None, got {show(shard)}: {cure}"
            raise ArgumentError(msg)
        self._shard = shard
        # What was detected: it must not change under the windows.
        self._detected: Shard | None = None
        # The id of the process that received these windows from the process that started it.
        self._received_in: int | None = None
        if shard is not None:
            self._check_shard(shard)
        self._epoch = SharedInteger()
        # The epoch at the start of a worker, which sets it to None at once.
        self._epoch_at_start: int | None = 0

    @property
    def corpus(self) -> Corpus:
        """The corpus that the windows read."""
        return self._corpus

    @property
    def mixture(self) -> Mixture | None:
        """The mixture whose parts the windows come from, where there is one."""
        return self._mixture

    @functools.cached_property
    def proof(self) -> Mapping[str, str]:
        """The hash of the corpus, and those of the parts of a mixture, as a position keeps them."""
        if self._mixture is not None:
            return self._mixture.proof
        order = self._first_plan.order
        if isinstance(order, MixtureOrder):
            # It was given with the join of the mixture's parts.
            bounds = zip(order.names, itertools.pairwise(order.bounds.tolist()), strict=True)
            parts = {name: self._corpus.slice(*bound) for name, bound in bounds}
            return prove_parts(self._corpus, parts)
        return {"corpus": self._corpus.hash}

    @property
    def vocab(self) -> Vocab | Any:
        """The vocabulary of the corpus, or None where there is none."""
        return self._corpus.vocab

    @property
    def documents(self) -> DocumentOffsets | None:
        """The document offsets that the batches use, or None."""
        return None if self._resets is False else self._corpus.document_offsets

    @property
    def plan(self) -> Plan:
        """The plan of the current epoch, over all ranks."""
        return self._first_plan.at(self.epoch)

    @property
    def epoch(self) -> int:
        """The epoch that the next iterator reads."""
        return self._epoch.value

    @property
    def shard(self) -> Shard:
        """The part of each batch that is this process's, detected at the first use.

        That is the first ``len``, ``iter`` or pickle in the main process, or in
        a worker that is forked before any of them and inherits its state.

        Raises
        ------
        ArgumentError
            The world size does not divide the batch.
        UsageError
            The windows were pickled, with a detected part, in a process that
            had another part.
        """
        if self._shard is None:
            shard = Shard.detect()
            self._check_shard(shard)
            if self._detected is not None:
                check_same_part(self._detected, shard)
            self._shard = self._detected = shard
        return self._shard

    @property
    def columns(self) -> range:
        """The rows of each batch that this process reads, half-open.

        Of the first batch of the current epoch, if the batch size changes.
        """
        return self.shard.columns(self.plan.batch_size)

    def _check_shard(self, shard: Shard) -> None:
        for size in self._first_plan.all_sizes:
            shard.columns(size)

    def confirm_shard(self) -> None:
        """Check that the part of each batch that was detected is still this process's.

        Each iteration begins with it.

        Raises
        ------
        UsageError
            The process group was made, or changed, after the part was detected.
        """
        carried = self.shard
        if self._detected is None:
            return
        now = Shard.detect()
        # A spawned process reads the part of the process that made the windows, unless it has a
        # part itself.
        is_worker = self._received_in == os.getpid() and get_worker_info() is not None
        if not is_worker and (self._received_in is None or now != Shard()):
            check_same_part(carried, now)

    def describe_stream(self) -> dict[str, Any]:
        """Return all that determines the batches of every rank, JSON-able.

        Its hash of the corpus is `Corpus.whole_hash`.
        """
        plan, corpus, documents = self.plan, self._corpus, self.documents
        proof = {**self.proof, "corpus": corpus.whole_hash}
        return {
            "documents": None if documents is None else documents.hash(),
            **describe_position(plan, proof=proof, next_batch=0),
            "tail": plan.tail,
            "vocab": None if corpus.vocab is None else corpus.vocab.hash,
            "resets": documents is not None,
        }

    def confirm_ranks(
        self,
        *,
        model: torch.nn.Module | None = None,
        facts: Mapping[str, Any] | None = None,
        group: torch.distributed.ProcessGroup | None = None,
    ) -> None:
        """Check that all ranks read the same stream, each its part; see `Loader.confirm_ranks`."""
        self.confirm_position({}, model=model, facts=facts, group=group)

    def confirm_position(
        self,
        position: Mapping[str, Any],
        *,
        model: torch.nn.Module | None,
        facts: Mapping[str, Any] | None,
        group: torch.distributed.ProcessGroup | None,
    ) -> None:
        """Check the same as `confirm_ranks`, and that all ranks have the same position."""
        ranks = Ranks.detect(group)
        with ranks.together():
            ranks.check_group(self.shard)
            mine = {**self.describe_stream(), **position, **(facts or {})}
            mine |= {} if model is None else describe_weights(model)
        ranks.confirm(mine, shard=self.shard)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iterators read, also in workers.

        A DataLoader repeats an epoch until this is called. Call it before
        ``iter()``, never between two batches of one iteration.

        Raises
        ------
        ArgumentError
            ``epoch`` is negative or no integer.
        """
        self._epoch_at_start = self._first_plan.at(epoch).epoch
        self._epoch.value = self._epoch_at_start

    def __len__(self) -> int:
        """Return the number of batches of the current epoch, the same on every rank.

        It is the same in every epoch, unless the batch size changes.
        """
        self.shard  # noqa: B018  resolved here, in the main process, for the workers
        return self.plan.num_batches

    def __getitem__(self, index: object) -> NoReturn:
        """Refuse to be a map-style dataset.

        Raises
        ------
        UsageError
            Always.
        """
        msg = (
            f"batches come in order, and none has an index, got windows[{show(index)}]: take "
            "next(iter(windows)) for the first one, or call skip(n) of a Loader(windows) to begin "
            "after n batches"
        )
        raise UsageError(msg)

    def __iter__(self) -> "WindowsIterator":
        self.confirm_shard()
        if get_worker_info() is not None:
            leave_ctrl_c_to_parent()
            end_with_parent()
            # One worker may start late, when others have sent batches already.
            started_at, self._epoch_at_start = self._epoch_at_start, None
            if started_at not in (None, self.epoch):
                raise epoch_was_changed(self.epoch, started_at)
        return WindowsIterator(self)

    def __repr__(self) -> str:
        plan = self.plan
        sizes = list(plan.batch_sizes.steps) if plan.batch_sizes else plan.batch_size
        # The other classes name their order.
        order = f"{plan.kind!r}, " if type(self) is Windows else ""
        return (
            f"{type(self).__name__}({order}{self._corpus!r}, batch_size={sizes}, "
            f"seq_len={plan.seq_len}, seed={plan.seed}, tail={plan.tail!r}, "
            f"epoch={plan.epoch}): {count(plan.num_batches, 'batch', 'batches')}"
        )

    def _repr_html_(self) -> str:
        plan = self.plan
        facts = [
            ("corpus", repr(self._corpus)),
            ("order", f"{plan.kind}, seed {plan.seed}, epoch {plan.epoch}"),
            ("batches", f"{plan.num_batches:,}"),
            ("rows", list(plan.batch_sizes.steps) if plan.batch_sizes else plan.batch_size),
            ("tokens of a row", plan.seq_len),
            ("inputs", f"{plan.num_inputs:,} of {plan.num_tokens:,} tokens"),
            ("tail", plan.tail),
        ]
        return as_html(type(self).__name__, facts)

    def __getstate__(self) -> dict[str, Any]:
        # Resolved here, in the main process, for the workers.
        self.confirm_shard()
        state = self.__dict__.copy()
        if get_spawning_popen() is not None:
            check_in_order(self._first_plan)
            return {**state, "_received_in": _BY_A_NEW_PROCESS}
        # Any other process detects its own part, and refuses to read if the two differ.
        return state if self._detected is None else {**state, "_shard": None}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        if self._received_in == _BY_A_NEW_PROCESS:
            self._received_in = os.getpid()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        # The corpus does not change, so the copy shares it.
        copied.__setstate__({**self.__dict__, "_epoch": SharedInteger(self.epoch)})
        return copied


@final
class RandomWindows(Windows):
    """Batches of disjoint windows in pseudo-random order.

    Every epoch cuts the corpus into disjoint windows from a random phase on
    and visits them in another order. A dataset for
    ``torch.utils.data.DataLoader(windows, batch_size=None, ...)``.

    Parameters
    ----------
    corpus : Corpus or Mixture
        The windows of a mixture come from its parts, in its shares.
    batch_size : int or list of (int, int)
        Windows per batch over all ranks. Pairs make it change: ``[(0, 32), (10_000,
        64)]`` is 32 up to the first batch that begins at or past window 10,000 of
        the whole training, and 64 from there on. In sequential order it is one
        integer.
    seq_len : int
        Inputs per window, in tokens.
    seed : int
        In [0, 2**64).
    tail : "drop" or "pad"
        Whether the tokens that fill no whole batch are left out of this epoch,
        or fill a last batch with padding; see `tokenloom.Plan`.
    shard : Shard, optional
        Which rows of each batch this process reads; detected by default, see
        `Shard.detect`.
    resets : bool, optional
        Whether the batches know where documents start; see `Batch.resets`. By
        default where the corpus does. It changes no token and no order.

    Raises
    ------
    ArgumentError
        A value is out of range, or the world size does not divide the batch.
    CorpusError
        The corpus is shorter than one batch, or ``resets=True`` and it has no
        document offsets.

    >>> corpus = Corpus.from_text("the time machine " * 9)
    >>> windows = RandomWindows(corpus, batch_size=2, seq_len=8, seed=1)
    >>> len(windows), [tuple(inputs.shape) for inputs, targets in windows][0]
    (9, (2, 8))
    """

    def __init__(
        self,
        corpus: Corpus | Mixture,
        *,
        batch_size: BatchSize = 32,
        seq_len: int = 35,
        seed: int = 0,
        tail: Tail = "drop",
        shard: Shard | None = None,
        resets: bool | None = None,
    ) -> None:
        super().__init__(
            "random",
            corpus,
            batch_size=batch_size,
            seq_len=seq_len,
            seed=seed,
            tail=tail,
            shard=shard,
            resets=resets,
        )


@final
class SequentialWindows(Windows):
    """Batches in which each row continues the same row of the batch before.

    Every epoch lays ``batch_size`` lanes of contiguous text over the corpus,
    from a random phase on, so a recurrent model may carry its hidden state
    from batch to batch (truncated backpropagation through time). A dataset for
    ``torch.utils.data.DataLoader(windows, batch_size=None, ...)``. Parameters and
    errors are those of `RandomWindows`.

    >>> corpus = Corpus.from_text("the time machine " * 9)
    >>> first, second, *_ = SequentialWindows(corpus, batch_size=2, seq_len=8)
    >>> corpus.decode(first.inputs[0]) + corpus.decode(second.inputs[0])
    'me machine the t'
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        batch_size: int = 32,
        seq_len: int = 35,
        seed: int = 0,
        tail: Tail = "drop",
        shard: Shard | None = None,
        resets: bool | None = None,
    ) -> None:
        super().__init__(
            "sequential",
            corpus,
            batch_size=batch_size,
            seq_len=seq_len,
            seed=seed,
            tail=tail,
            shard=shard,
            resets=resets,
        )


@final
class PackedWindows(Windows):
    """Batches of rows that are filled with whole documents, none of them learnt twice.

    A document of n tokens has n - 1 pairs of an input and its target. Each pair of each
    document comes once in an epoch, and none crosses documents. A document of more than
    ``seq_len`` pairs is cut into rows of its own and a rest. Short documents share rows
    so that little of a row is left, in other combinations in each epoch. A dataset for
    ``torch.utils.data.DataLoader(windows, batch_size=None, ...)``.

    `Batch.document_ids`, `Batch.position_ids` and `Batch.cu_seqlens` are for a model
    that must not look from one document into another; `Batch.resets` is for one that
    carries a hidden state.

    Parameters
    ----------
    corpus : Corpus
        It must know where its documents start.
    batch_size : int or list of (int, int)
        Rows per batch over all ranks.
    seq_len : int
        The most inputs of a row, in tokens.
    seed : int
        In [0, 2**64).
    tail : "drop" or "pad"
        Whether the rows that fill no whole batch are left out of this epoch, other
        ones in each, or fill a last batch with empty rows.
    shard : Shard, optional
        Which rows of each batch this process reads; detected by default, see
        `Shard.detect`.

    Raises
    ------
    ArgumentError
        A value is out of range, or the world size does not divide the batch.
    CorpusError
        The corpus has no document offsets, no document of two tokens, or too few
        for a batch.

    Notes
    -----
    ``windows.plan.fill`` is the share of positions that hold an input. In an epoch
    ``plan.num_inputs`` tokens are an input, each once; ``plan.num_dropped`` are none:
    the last token of each document, and the tokens of the rows that are left out.

    >>> corpus = Corpus.from_tokens(range(9), documents=[0, 4, 7, 9])
    >>> windows = PackedWindows(corpus, batch_size=2, seq_len=3)
    >>> [batch.inputs.tolist() for batch in windows]
    [[[0, 1, 2], [7, 4, 5]]]
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        batch_size: BatchSize = 32,
        seq_len: int = 2048,
        seed: int = 0,
        tail: Tail = "drop",
        shard: Shard | None = None,
    ) -> None:
        super().__init__(
            "packed",
            corpus,
            batch_size=batch_size,
            seq_len=seq_len,
            seed=seed,
            tail=tail,
            shard=shard,
        )


class WindowsIterator(Iterator[Batch]):
    """The batches of one epoch that this process, or this worker, reads.

    Worker w of W takes the rows w, w + W, ... of the plan; DataLoader's round
    robin puts them back in order.
    """

    def __init__(self, windows: Windows) -> None:
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
        # Checked at the first batch: PyTorch passes on an error that a worker raises there, but not
        # one that a persistent worker raises as it begins another iteration.
        self._windows.corpus.check_files()
        if self._worker is not None:
            check_in_order(self._plan)
        num_workers = 1 if self._worker is None else self._worker[1]
        rows = range(self._next_batch, self._plan.num_batches, num_workers)
        corpus, documents = self._windows.corpus, self._windows.documents
        tokens, loss_mask, shard = corpus.tokens, corpus.loss_mask, self._windows.shard
        for references in plan_blocks(self._plan, rows, shard=shard, is_first=True):
            block = read_block(tokens, references, documents=documents, loss_mask=loss_mask)
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
        # After the last row of this worker the position is past the end.
        self._next_batch = batch.index + (1 if self._worker is None else self._worker[1])
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Return the position of this worker and the proof of its plan.

        For StatefulDataLoader. It is not the state of a `tokenloom.Loader`.
        """
        return describe_position(
            self._plan,
            proof=self._windows.proof,
            next_batch=self._next_batch,
            worker=self._worker or (0, 1),
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Move to the position that `state_dict` returned.

        Raises
        ------
        StateMismatchError
            The state belongs to another plan, corpus, worker or number of
            workers, or to a `tokenloom.Loader`.
        """
        position = restore_position(
            state,
            plan=self._plan,
            proof=self._windows.proof,
            worker=self._worker or (0, 1),
        )
        self._go_to(position.epoch, position.next_batch)


def check_in_order(plan: Plan) -> None:
    """Check that a DataLoader keeps the order of batches, if the order matters.

    PyTorch does not pass ``in_order`` to the dataset, so it is read from
    PyTorch's iterator on the call stack. The stack has it while a worker is
    started or the windows are pickled for one, and still has it in a forked
    worker.

    Raises
    ------
    UsageError
        ``in_order=False``, and the hidden state is carried from batch to batch.

    Notes
    -----
    It reads private names of PyTorch, once for each pass of a worker. If a
    release of PyTorch has other names, nothing is refused.
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
    """Raise a clear error if two threads asked one iterator at the same time.

    Raises
    ------
    UsageError
        It was.
    """
    # Python has no type of error for it, only this message.
    if type(error) is ValueError and str(error) == "generator already executing":
        msg = (
            "an iterator of batches belongs to one thread, and another one is asking it right "
            "now: let one thread iterate and hand the batches over through a queue.Queue, or "
            "give each thread windows, or a Loader, of its own"
        )
        raise UsageError(msg) from error


def epoch_was_changed(epoch: int, iterated: int | None) -> UsageError:
    """Return the error for an epoch that was set between two batches."""
    return UsageError(
        f"set_epoch({epoch}) was called while epoch {iterated} was being iterated: "
        "drop the iterator, call set_epoch, then start a new one"
    )
