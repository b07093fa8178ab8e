"""Datasets of windows for torch.utils.data: thin shells over a plan."""

import os
from collections.abc import Mapping
from multiprocessing.context import get_spawning_popen
from typing import Any, ClassVar, Self, final

import numpy as np
import torch.distributed
from torch.utils.data import IterableDataset, get_worker_info

from tokenloom.batch import Batch
from tokenloom.checkpoint import describe_weights
from tokenloom.corpus import Corpus
from tokenloom.documents import DocumentOffsets
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.integers import require_type
from tokenloom.iteration import WindowsIterator, check_in_order, epoch_was_changed
from tokenloom.orphans import end_with_parent, leave_ctrl_c_to_parent
from tokenloom.plans import Kind, Plan, Tail
from tokenloom.positions import describe_position
from tokenloom.ranks import Ranks
from tokenloom.sharding import Shard, check_same_part
from tokenloom.sharedmemory import SharedInteger
from tokenloom.vocab import Vocab
from tokenloom.wording import count, name_methods, show

_BY_A_NEW_PROCESS = -1


class _Windows(IterableDataset[Batch]):
    """What both kinds of windows share; they differ in their plan only.

    The configuration is frozen. The only cell that changes is the epoch, which
    lies in shared memory so that persistent workers see it; a copy, and what
    comes out of a plain pickle, has a cell of its own. There is no
    ``state_dict`` here on purpose: the position belongs to the iterator, and a
    StatefulDataLoader would trust the dataset and replay the epoch.
    """

    _kind: ClassVar[Kind]

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
        if not isinstance(corpus, Corpus):
            msg = (
                f"corpus must be a Corpus, got {type(corpus).__name__}: "
                "wrap token ids in Corpus.from_tokens(ids)"
            )
            raise ArgumentError(msg)
        require_type("resets", resets, bool | np.bool_ | None, "True, False or None")
        if resets and corpus.boundaries is None:
            msg = (
                f"resets=True needs documents, and {corpus.name} has none: pass documents=... "
                "to Corpus.from_tokens, or leave resets out"
            )
            raise CorpusError(msg)
        self._corpus = corpus
        self._resets = resets
        self._first_plan = Plan(
            kind=self._kind,
            num_tokens=len(corpus),
            seq_len=seq_len,
            batch_size=batch_size,
            seed=seed,
            tail=tail,
        )
        if not isinstance(shard, Shard | None):
            cure = "use Shard(rank=..., world_size=...)"
            msg = f"shard must be a Shard or None, got {show(shard)}: {cure}"
            raise ArgumentError(msg)
        self._shard = shard
        # What was detected: it must not change under the windows.
        self._detected: Shard | None = None
        # The process that got these windows from the one that started it.
        self._received_in: int | None = None
        if shard is not None:
            shard.columns(self._first_plan.batch_size)
        self._epoch = SharedInteger()
        # What the epoch is when a worker starts; a worker forgets it at once.
        self._epoch_at_start: int | None = 0

    @property
    def corpus(self) -> Corpus:
        """The corpus that the windows read."""
        return self._corpus

    @property
    def vocab(self) -> Vocab | None:
        """The vocabulary of the corpus, where there is one."""
        return self._corpus.vocab

    @property
    def documents(self) -> DocumentOffsets | None:
        """What the batches look up document starts in, if they know of any."""
        return None if self._resets is False else self._corpus.boundaries

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
            had another one.
        """
        if self._shard is None:
            shard = Shard.detect()
            shard.columns(self._first_plan.batch_size)
            if self._detected is not None:
                check_same_part(self._detected, shard)
            self._shard = self._detected = shard
        return self._shard

    @property
    def columns(self) -> range:
        """The rows of each batch that this process reads, half-open."""
        return self.shard.columns(self._first_plan.batch_size)

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
        # What is started afresh reads the part of its maker, unless it has one itself.
        is_worker = self._received_in == os.getpid() and get_worker_info() is not None
        if not is_worker and (self._received_in is None or now != Shard()):
            check_same_part(carried, now)

    def describe_stream(self) -> dict[str, Any]:
        """Return all that decides what the batches of every rank hold, JSON-able.

        Its hash of the corpus is `Corpus.whole_hash`.
        """
        plan, corpus, documents = self.plan, self._corpus, self.documents
        return {
            **describe_position(plan, corpus_hash=corpus.whole_hash, next_batch=0),
            "tail": plan.tail,
            "vocab": None if corpus.vocab is None else corpus.vocab.hash,
            "documents": None if documents is None else documents.hash(),
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
        ranks = Ranks.detect(group)
        with ranks.together():
            ranks.check_group(self.shard)
            told = {**self.describe_stream(), **(facts or {})}
            told |= {} if model is None else describe_weights(model)
        ranks.confirm(told, shard=self.shard)

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
        """Return the number of batches, the same in every epoch and on every rank."""
        self.shard  # noqa: B018  resolved here, in the main process, for the workers
        return self._first_plan.num_batches

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
        plan = self._first_plan
        return (
            f"{type(self).__name__}({self._corpus!r}, batch_size={plan.batch_size}, "
            f"seq_len={plan.seq_len}, seed={plan.seed}, tail={plan.tail!r}, "
            f"epoch={self.epoch}): {count(plan.num_batches, 'batch', 'batches')}"
        )

    def __getstate__(self) -> dict[str, Any]:
        # Resolved here, in the main process, for the workers.
        self.confirm_shard()
        state = self.__dict__.copy()
        if get_spawning_popen() is not None:
            check_in_order(self._first_plan)
            return {**state, "_received_in": _BY_A_NEW_PROCESS}
        # Any other process detects its own, and refuses if that is another.
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


name_methods(_Windows, "Windows")


@final
class RandomWindows(_Windows):
    """Batches of disjoint windows in pseudo-random order.

    Every epoch cuts the corpus into disjoint windows from a random phase on
    and visits them in another order. A dataset for
    ``torch.utils.data.DataLoader(windows, batch_size=None, ...)``.

    Parameters
    ----------
    corpus : Corpus
    batch_size : int
        Windows per batch over all ranks.
    seq_len : int
        Inputs per window, in tokens.
    seed : int
        In [0, 2**64).
    tail : "drop" or "pad"
        Whether the tokens that fill no whole batch are left out of this epoch,
        or fill a last batch with padding; see `tokenloom.plans.Plan`.
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
        The corpus is shorter than one batch, or ``resets=True`` and nobody said
        where its documents begin and end.

    >>> corpus = Corpus.from_text("the time machine " * 9)
    >>> windows = RandomWindows(corpus, batch_size=2, seq_len=8, seed=1)
    >>> len(windows), [tuple(inputs.shape) for inputs, targets in windows][0]
    (9, (2, 8))
    """

    _kind = "random"


@final
class SequentialWindows(_Windows):
    """Batches in which each row continues the same row of the batch before.

    Every epoch lays ``batch_size`` lanes of contiguous text over the corpus,
    from a random phase on, so a recurrent model may carry its hidden state
    from batch to batch (truncated backpropagation through time). A dataset for
    ``torch.utils.data.DataLoader(windows, batch_size=None, ...)``.

    Parameters
    ----------
    corpus, batch_size, seq_len, seed, tail, shard, resets
        As in `RandomWindows`.

    Raises
    ------
    ArgumentError, CorpusError
        As in `RandomWindows`.

    >>> corpus = Corpus.from_text("the time machine " * 9)
    >>> first, second, *_ = SequentialWindows(corpus, batch_size=2, seq_len=8)
    >>> corpus.decode(first.inputs[0]) + corpus.decode(second.inputs[0])
    'me machine the t'
    """

    _kind = "sequential"


Windows = RandomWindows | SequentialWindows
