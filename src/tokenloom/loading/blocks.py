"""Blocks: several batches that are read at once, so that copies are few and large."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

from tokenloom.corpus.offsets import DocumentOffsets
from tokenloom.loading.batch import Batch, Mask, Tensors, widen
from tokenloom.loading.document_starts import BlockResets
from tokenloom.loading.piece_rows import PieceLayout, PieceRows
from tokenloom.loading.shard import Shard
from tokenloom.loading.sources import BlockSources
from tokenloom.plan.division import rows_per_block
from tokenloom.plan.mixture import MixtureOrder
from tokenloom.plan.order import find_filled
from tokenloom.plan.plan import Plan, References
from tokenloom.store.memmap import (
    Tokens,
    advise,
    confirm,
    gather_ids,
    gather_pieces,
    gather_windows,
)
from tokenloom.text.ids import Ids

_FIRST_TOKENS = 1 << 13
_WIDE_TOKENS = 1 << 14
_SHORT_BYTES = 1 << 16
# How many windows have their order computed at once: that of a few costs as much as a hundred calls
# of NumPy, and that of many leaves a processor's cache.
_WINDOWS_PER_ORDER = 1 << 13


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockFacts:
    """What is known of several batches of one epoch, beside their ids.

    Attributes
    ----------
    references : References
        The tokens that they read.
    resets : BlockResets or None
        Finds where documents start in them; None where there are no documents, or where
        rows are made of pieces, whose layout has it.
    learnt : bool array, shape (num_batches, num_rows, seq_len), or None
        Which targets count, where the corpus has a loss mask: none in the padding.
    sources : BlockSources or None
        Finds the parts of a mixture that rows come from.
    """

    references: References
    resets: BlockResets | None = None
    learnt: Mask | None = None
    sources: BlockSources | None = field(init=False)

    def __post_init__(self) -> None:
        order = self.references.plan.order
        sources = None
        if isinstance(order, MixtureOrder):
            sources = BlockSources(order, self.references)
        object.__setattr__(self, "sources", sources)

    @classmethod
    def of(
        cls,
        references: References,
        *,
        layout: PieceLayout | None = None,
        documents: DocumentOffsets | None = None,
        loss_mask: Tokens | None = None,
    ) -> Self:
        """Return the facts of the batches that read some references; see `read_block`.

        ``layout`` is that of `lay_out`.
        """
        resets = None
        if documents is not None and layout is None:
            resets = BlockResets(documents, references)
        return cls(
            references=references,
            resets=resets,
            learnt=None if loss_mask is None else _read_learnt(loss_mask, references, layout),
        )

    def make_batch(
        self,
        position: int,
        *,
        windows: Ids | None = None,
        pieces: PieceRows | PieceLayout | None = None,
        tensors: Tensors | None = None,
    ) -> Batch:
        """Return the batch at a position of the block, with what holds its ids."""
        references = self.references
        return Batch(
            windows,
            epoch=references.plan.epoch,
            index=references.rows[position],
            lengths=None if references.lengths is None else references.lengths[position],
            tensors=tensors,
            resets=self.resets,
            pieces=pieces,
            sources=self.sources,
            learnt=None if self.learnt is None else self.learnt[position],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Several batches of one epoch, read at once.

    Attributes
    ----------
    ids : integer array, shape (num_batches, num_rows, seq_len + 1), or PieceRows
        Windows, or the pieces that rows are made of.
    facts : BlockFacts
    """

    ids: Ids | PieceRows
    facts: BlockFacts

    def widen(self) -> Tensors:
        """Return inputs, targets and mask, with the batches along the first dimension."""
        return self._widen(0, len(self.facts.references.rows))

    def batches(self, tensors: Tensors, *, first: int = 0) -> Iterator[Batch]:
        """Yield batches from the ``first`` on, as views of tensors, such as `widen` returned."""
        make, ids = self.facts.make_batch, self.ids
        if isinstance(ids, PieceRows):
            pieces = ids.unbind()
            for position, part in enumerate(tensors.unbind(), first):
                yield make(position, pieces=pieces[position], tensors=part)
            return
        for position, part in enumerate(tensors.unbind(), first):
            yield make(position, windows=ids[position], tensors=part)

    def wide_batches(self) -> Iterator[Batch]:
        """Yield the batches to be used here: small ones are widened several at once.

        About 16,384 tokens, which with their int64 tensors fit into a
        processor's cache. A batch of more is widened when it is unpacked.
        """
        references = self.facts.references
        num_batches, width = len(references.rows), references.plan.seq_len + 1
        size = _WIDE_TOKENS // max(1, len(references.columns) * width)
        if size < 2:
            yield from self.narrow_batches()
            return
        for start in range(0, num_batches, size):
            yield from self.batches(self._widen(start, start + size), first=start)

    def narrow_batches(self) -> Iterator[Batch]:
        """Yield the batches without tensors, to be sent elsewhere."""
        make, ids = self.facts.make_batch, self.ids
        if isinstance(ids, PieceRows):
            return (make(position, pieces=rows) for position, rows in enumerate(ids.unbind()))
        return (make(position, windows=windows) for position, windows in enumerate(ids))

    def _widen(self, start: int, stop: int) -> Tensors:
        ids, learnt, lengths = self.ids, self.facts.learnt, self.facts.references.lengths
        return widen(
            ids.slice(start, stop) if isinstance(ids, PieceRows) else ids[start:stop],
            None if lengths is None else lengths[start:stop],
            None if learnt is None else learnt[start:stop],
        )


def plan_epochs(
    plan: Plan,
    *,
    next_batch: int,
    stop_epoch: int | None,
    shard: Shard,
    block_size: int | None = None,
) -> Iterator[References]:
    """Yield the references of each block, from a row of the plan's epoch on, up to an epoch.

    Parameters
    ----------
    plan : Plan
        Of the first epoch.
    next_batch : int
        Its row that is read first.
    stop_epoch : int or None
        The epoch before which the last block ends; None never ends.
    shard, block_size
        As in `plan_blocks`.

    >>> plan = Plan(kind="random", num_tokens=25, seq_len=4, batch_size=1, epoch=1)
    >>> blocks = plan_epochs(plan, next_batch=3, stop_epoch=3, shard=Shard(), block_size=4)
    >>> [(block.plan.epoch, block.rows) for block in blocks]
    [(1, range(3, 5)), (2, range(0, 4)), (2, range(4, 5))]
    """
    epochs = itertools.count(plan.epoch)
    for epoch in epochs if stop_epoch is None else range(plan.epoch, stop_epoch):
        # Only the first batch of an iteration is waited for, so only its epoch begins with small
        # blocks.
        is_first = epoch == plan.epoch
        of_epoch = plan if is_first else plan.at(epoch)
        rows = range(next_batch if is_first else 0, of_epoch.num_batches)
        yield from plan_blocks(
            of_epoch, rows, shard=shard, block_size=block_size, is_first=is_first
        )


def plan_blocks(
    plan: Plan,
    rows: range,
    *,
    shard: Shard,
    block_size: int | None = None,
    is_first: bool = False,
) -> Iterator[References]:
    """Yield the references of each block of an epoch; the order of several is computed at once.

    All batches of a block have the same size.

    Parameters
    ----------
    plan : Plan
    rows : range
        Which batches.
    shard : Shard
        Which rows of each.
    block_size : int, optional
        Batches per block; by default `rows_per_block`.
    is_first : bool
        Whether the first batch is waited for, so that the first blocks are small;
        see `first_rows`.
    """
    for stretch in plan.stretches:
        part = _common(rows, stretch.rows)
        if not part:
            continue
        columns = shard.columns(stretch.batch_size)
        first = first_rows(plan, columns) if is_first else None
        is_first = False
        size = block_size or rows_per_block(plan, columns)
        num_blocks = max(_WINDOWS_PER_ORDER // (size * len(columns)), 1)
        for several in split_rows(part, num_blocks * size, first=first):
            yield from plan.references(several, columns).split(size)


def _common(rows: range, stretch: range) -> range:
    """Return the rows that lie in a range of step 1.

    >>> _common(range(1, 20, 3), range(5, 14)), _common(range(5), range(5, 9))
    (range(7, 16, 3), range(5, 5))
    """
    start = -(-max(stretch.start - rows.start, 0) // rows.step)
    stop = -(-max(stretch.stop - rows.start, 0) // rows.step)
    return rows[start:stop]


def read_block(
    tokens: Tokens,
    references: References,
    *,
    documents: DocumentOffsets | None = None,
    loss_mask: Tokens | None = None,
) -> Block:
    """Return some rows of several batches, copied out of the corpus.

    Parameters
    ----------
    tokens : integer array, shape (num_tokens,)
    references : References
        Which of the tokens.
    documents : DocumentOffsets, optional
        Of the corpus, where the batches are to know where documents start.
    loss_mask : uint8 array, shape (num_tokens,), optional
        Of the corpus, where it has one.

    Raises
    ------
    StoreError
        A file of the corpus was changed or replaced since it was opened: that
        is looked at about once a second, and at the end of each epoch.
    """
    plan, layout = references.plan, lay_out(references)
    _advise(tokens, plan)
    ids: Ids | PieceRows
    if references.pieces is None or layout is None:
        ids = gather_windows(tokens, references.starts, width=plan.seq_len + 1)
    else:
        starts = references.pieces.starts
        inputs = gather_pieces(tokens, starts, layout.lengths)
        # The targets of the last inputs.
        ids = PieceRows(layout, inputs, gather_ids(tokens, starts + layout.lengths))
    facts = BlockFacts.of(references, layout=layout, documents=documents, loss_mask=loss_mask)
    _confirm_at_end(tokens, references)
    return Block(ids=ids, facts=facts)


def _read_learnt(loss_mask: Tokens, references: References, layout: PieceLayout | None) -> Mask:
    """Return which targets count: bool array, shape (num_batches, num_rows, seq_len).

    Those whose token has a 1 in the loss mask, and none in the padding.
    """
    plan, pieces = references.plan, references.pieces
    _advise(loss_mask, plan)
    if pieces is None or layout is None:
        windows = gather_windows(loss_mask, references.starts, width=plan.seq_len + 1)
        learnt: Mask = windows[..., 1:] != 0
        if references.lengths is not None:
            learnt &= find_filled(references.lengths, plan.seq_len)
    else:
        # The tokens after the inputs.
        following = gather_pieces(loss_mask, pieces.starts + 1, pieces.lengths)
        learnt = layout.lay_out(following) != 0
    _confirm_at_end(loss_mask, references)
    return learnt


def _advise(tokens: Tokens, plan: Plan) -> None:
    """Tell the system how the tokens of a plan are read."""
    # For long windows the read-ahead of the system is useful.
    is_short = (plan.seq_len + 1) * tokens.itemsize <= _SHORT_BYTES
    advise(tokens, is_random=is_short and not plan.carries_state)


def _confirm_at_end(tokens: Tokens, references: References) -> None:
    """Report by now a change of the file, where the block is the last of its epoch."""
    rows = references.rows
    if rows[-1] + rows.step >= references.plan.num_batches:
        confirm(tokens)


def lay_out(references: References) -> PieceLayout | None:
    """Return where pieces lie in their rows, None if each row is a window."""
    pieces = references.pieces
    if pieces is None:
        return None
    return PieceLayout.of(
        counts=pieces.counts, lengths=pieces.lengths, seq_len=references.plan.seq_len
    )


def first_rows(plan: Plan, columns: range) -> int:
    """Return how many batches of an iteration to read first: about 8,192 tokens.

    So the first batch is there at once.
    """
    return max(1, _FIRST_TOKENS // (len(columns) * (plan.seq_len + 1)))


def split_rows(rows: range, size: int, *, first: int | None = None) -> Iterator[range]:
    """Yield parts of a range, each of ``size`` rows but the last.

    Parameters
    ----------
    rows : range
    size : int
    first : int, optional
        The most rows of the first part. Each next part is twice as long, so that
        the first batch does not wait for a whole block.

    >>> list(split_rows(range(7), 3))
    [range(0, 3), range(3, 6), range(6, 7)]
    >>> [len(part) for part in split_rows(range(100), 50, first=8)]
    [8, 16, 32, 44]
    """
    start, length = 0, size if first is None else min(size, first)
    while start < len(rows):
        yield rows[start : start + length]
        start, length = start + length, min(2 * length, size)
