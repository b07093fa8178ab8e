"""Blocks: several batches that are read at once, so that copies are few and large."""

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from tokenloom.corpus.offsets import DocumentOffsets
from tokenloom.loading.batch import Batch, Mask, Tensors, widen, widen_pieces
from tokenloom.loading.document_starts import BlockResets
from tokenloom.loading.piece_rows import PieceRows
from tokenloom.loading.shard import Shard
from tokenloom.loading.sources import BlockSources
from tokenloom.plan.division import rows_per_block
from tokenloom.plan.plan import Plan, References
from tokenloom.store.memmap import Tokens, advise, confirm, gather_pieces, gather_windows
from tokenloom.text.ids import Ids

_FIRST_TOKENS = 1 << 13
_WIDE_TOKENS = 1 << 14
_SHORT_BYTES = 1 << 16
# How many blocks have their order computed at once, and so many windows at least: few of them
# would cost as much as a hundred calls of NumPy.
_BLOCKS_PER_ORDER = 8
_WINDOWS_PER_ORDER = 1 << 13


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Several batches of one epoch, read at once.

    Attributes
    ----------
    windows : integer array, shape (num_batches, num_rows, seq_len + 1), or None
        None where only tensors hold the ids.
    references : References
        What was read.
    resets : BlockResets or None
        Finds where documents start in them.
    pieces : PieceRows or None
        What their rows are made of, in place of windows.
    learnt : bool array, shape (num_batches, num_rows, seq_len), or None
        Which targets count, where the corpus has a loss mask: none in the padding.
    sources : BlockSources or None
        Finds the parts of a mixture that rows come from.
    """

    windows: Ids | None
    references: References
    resets: BlockResets | None = None
    pieces: PieceRows | None = None
    learnt: Mask | None = None
    sources: BlockSources | None = field(init=False)

    def __post_init__(self) -> None:
        sources = BlockSources(self.references) if self.references.plan.is_mixture else None
        object.__setattr__(self, "sources", sources)

    def widen(self) -> Tensors:
        """Return inputs, targets and mask, with the batches along the first dimension."""
        return self._widen(0, len(self.references.rows))

    def batches(self, tensors: Tensors, *, first: int = 0) -> Iterator[Batch]:
        """Yield batches from the ``first`` on, as views of tensors, such as `widen` returned."""
        parts = None if self.pieces is None else self.pieces.unbind()
        for position, part in enumerate(tensors.unbind(), first):
            yield self._batch(position, part, None if parts is None else parts[position])

    def wide_batches(self) -> Iterator[Batch]:
        """Yield the batches to be used here: small ones are widened several at once.

        About 16,384 tokens, which with their int64 tensors fit into a
        processor's cache. A batch of more is widened when it is unpacked.
        """
        num_batches, plan = len(self.references.rows), self.references.plan
        size = _WIDE_TOKENS // max(1, len(self.references.columns) * (plan.seq_len + 1))
        if size < 2:
            block = self
            if self.pieces is not None and num_batches > 1:
                block = dataclasses.replace(self, pieces=self.pieces.place())
            yield from block.narrow_batches()
            return
        for start in range(0, num_batches, size):
            yield from self.batches(self._widen(start, start + size), first=start)

    def narrow_batches(self) -> Iterator[Batch]:
        """Yield the batches without tensors, to be sent elsewhere."""
        positions = range(len(self.references.rows))
        if self.pieces is None:
            return map(self._batch, positions)
        nothing = itertools.repeat(None)
        return map(self._batch, positions, nothing, self.pieces.unbind())

    def _widen(self, start: int, stop: int) -> Tensors:
        learnt = None if self.learnt is None else self.learnt[start:stop]
        if self.pieces is not None:
            return widen_pieces(self.pieces.slice(start, stop), learnt)
        lengths = self.references.lengths
        assert self.windows is not None  # noqa: S101  whatever has tensors only is wide
        counted = None if lengths is None else lengths[start:stop]
        return widen(self.windows[start:stop], counted, learnt)

    def _batch(
        self, position: int, tensors: Tensors | None = None, pieces: PieceRows | None = None
    ) -> Batch:
        references = self.references
        return Batch(
            None if self.windows is None else self.windows[position],
            epoch=references.plan.epoch,
            index=references.rows[position],
            lengths=None if references.lengths is None else references.lengths[position],
            tensors=tensors,
            resets=self.resets,
            pieces=pieces,
            sources=self.sources,
            learnt=None if self.learnt is None else self.learnt[position],
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
        num_blocks = max(_BLOCKS_PER_ORDER, _WINDOWS_PER_ORDER // (size * len(columns)))
        for several in split_rows(part, num_blocks * size, first=first):
            references = plan.references(several, columns)
            for start in range(0, len(several), size):
                yield references.slice(start, start + size)


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
    plan, rows = references.plan, references.rows
    # For long windows the read-ahead of the system is useful.
    is_short = (plan.seq_len + 1) * tokens.itemsize <= _SHORT_BYTES
    advise(tokens, is_random=is_short and not plan.carries_state)
    windows, pieces = None, piece_rows(references)
    if references.pieces is None or pieces is None:
        windows = gather_windows(tokens, references.starts, width=plan.seq_len + 1)
    else:
        # Each with the target of its last input.
        ids = gather_pieces(tokens, references.pieces.starts, pieces.lengths + 1)
        pieces = dataclasses.replace(pieces, ids=ids)
    learnt = None if loss_mask is None else read_learnt(loss_mask, references)
    if rows[-1] + rows.step >= plan.num_batches:
        # The last block of this epoch: a change in the meantime is reported by now.
        confirm(tokens)
    return Block(
        windows=windows,
        references=references,
        resets=find_resets(documents, references),
        pieces=pieces,
        learnt=learnt,
    )


def read_learnt(loss_mask: Tokens, references: References) -> Mask:
    """Return which targets count: bool array, shape (num_batches, num_rows, seq_len).

    Those whose token has a 1 in the loss mask, and none in the padding.
    """
    plan, pieces, rows = references.plan, references.pieces, piece_rows(references)
    advise(loss_mask, is_random=plan.seq_len < _SHORT_BYTES and not plan.carries_state)
    if pieces is None or rows is None:
        windows = gather_windows(loss_mask, references.starts, width=plan.seq_len + 1)
        learnt: Mask = windows[..., 1:] != 0
        if references.lengths is not None:
            learnt &= np.arange(plan.seq_len) < references.lengths[..., None]
    else:
        # The tokens after the inputs.
        learnt = rows.lay_out(gather_pieces(loss_mask, pieces.starts + 1, pieces.lengths)) != 0
    if references.rows[-1] + references.rows.step >= plan.num_batches:
        confirm(loss_mask)
    return learnt


def piece_rows(references: References) -> PieceRows | None:
    """Return what rows are made of, without ids; None where each is one window."""
    pieces = references.pieces
    if pieces is None:
        return None
    seq_len = references.plan.seq_len
    return PieceRows(counts=pieces.counts, lengths=pieces.lengths, seq_len=seq_len)


def find_resets(documents: DocumentOffsets | None, references: References) -> BlockResets | None:
    """Return an object that finds where documents start.

    None where there are no documents, or where rows are made of pieces, which are
    whole documents or parts of one.
    """
    if documents is None or references.pieces is not None:
        return None
    return BlockResets(documents, references)


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
