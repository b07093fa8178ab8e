"""Several batches at once: fewer, larger copies and messages."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from tokenloom.corpus.offsets import DocumentOffsets
from tokenloom.loading.batch import Batch, Tensors, widen
from tokenloom.loading.document_starts import BlockResets
from tokenloom.plan.order import IntArray
from tokenloom.plan.plan import Plan
from tokenloom.store.memmap import Tokens, advise, confirm, gather
from tokenloom.text.ids import Ids

BLOCKS_PER_ORDER = 8
"""How many blocks that are read in this process have their order computed at once."""

_BLOCK_TOKENS = 1 << 18
_FIRST_TOKENS = 1 << 13
_WIDE_TOKENS = 1 << 14
_SHORT_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Several batches of one epoch, read at once.

    Attributes
    ----------
    windows : integer array, shape (num_batches, num_rows, seq_len + 1)
    lengths : int64 array, shape (num_batches, num_rows), or None
        As in `Batch`.
    epoch : int
    rows : range
        The rows of the plan, one per batch.
    resets : BlockResets or None
        What finds where documents start in them.
    """

    windows: Ids
    lengths: IntArray | None
    epoch: int
    rows: range
    resets: BlockResets | None = None

    def widen(self) -> Tensors:
        """Return what the batches say, with the batches along the first dimension."""
        return widen(self.windows, self.lengths)

    def batches(self, tensors: Tensors) -> Iterator[Batch]:
        """Yield the batches, as views of ``tensors``, which `widen` returned."""
        for position, part in enumerate(tensors.unbind()):
            yield self._batch(position, part)

    def wide_batches(self) -> Iterator[Batch]:
        """Yield the batches to be used here: small ones are widened several at once.

        About 16,384 tokens, which with their int64 tensors fit into a
        processor's cache. A batch of more is widened when it is unpacked.
        """
        size = _WIDE_TOKENS // max(1, self.windows[0].size)
        if size < 2:
            yield from self.narrow_batches()
            return
        for start in range(0, len(self.rows), size):
            part = slice(start, start + size)
            lengths = None if self.lengths is None else self.lengths[part]
            some = dataclasses.replace(
                self, windows=self.windows[part], lengths=lengths, rows=self.rows[part]
            )
            yield from some.batches(some.widen())

    def narrow_batches(self) -> Iterator[Batch]:
        """Yield the batches without tensors, to be sent elsewhere."""
        return map(self._batch, range(len(self.rows)))

    def _batch(self, position: int, tensors: Tensors | None = None) -> Batch:
        return Batch(
            self.windows[position],
            epoch=self.epoch,
            index=self.rows[position],
            lengths=None if self.lengths is None else self.lengths[position],
            tensors=tensors,
            resets=self.resets,
        )


def read_block(
    tokens: Tokens,
    plan: Plan,
    *,
    rows: range,
    columns: range,
    documents: DocumentOffsets | None = None,
    starts: IntArray | None = None,
) -> Block:
    """Return some rows of several batches, copied out of the corpus.

    Parameters
    ----------
    tokens : integer array, shape (num_tokens,)
    plan : Plan
    rows : range
        Which batches.
    columns : range
        Which rows of each.
    documents : DocumentOffsets, optional
        Of the corpus, where the batches are to know where documents start.
    starts : int64 array, shape (num_batches, num_rows), optional
        What ``plan.starts`` returned, where that is known already.

    Raises
    ------
    StoreError
        A file of the corpus was changed or replaced since it was opened: that
        is looked at about once a second, and at the end of each epoch.
    """
    if starts is None:
        starts = plan.starts(rows, columns)
    lengths = plan.lengths(starts, columns) if plan.tail == "pad" else None
    # Of long windows the system reads ahead what they are about to need.
    is_short = (plan.seq_len + 1) * tokens.itemsize <= _SHORT_BYTES
    advise(tokens, is_random=is_short and not plan.carries_state)
    ids = gather(tokens, starts, width=plan.seq_len + 1)
    if rows[-1] + rows.step >= plan.num_batches:
        # The last that is read of this epoch: what changed in the meantime is told by now.
        confirm(tokens)
    resets = find_resets(documents, plan, rows=rows, columns=columns, starts=starts)
    return Block(windows=ids, lengths=lengths, epoch=plan.epoch, rows=rows, resets=resets)


def read_blocks(
    tokens: Tokens,
    plan: Plan,
    *,
    rows: range,
    columns: range,
    size: int,
    documents: DocumentOffsets | None = None,
) -> Iterator[Block]:
    """Yield blocks of ``size`` batches; the order of all of them is computed at once.

    Parameters
    ----------
    tokens, plan, rows, columns, documents
        As in `read_block`.
    size : int
        The last block may have fewer batches.
    """
    starts = plan.starts(rows, columns)
    for first in range(0, len(rows), size):
        part = slice(first, first + size)
        yield read_block(
            tokens,
            plan,
            rows=rows[part],
            columns=columns,
            documents=documents,
            starts=starts[part],
        )


def find_resets(
    documents: DocumentOffsets | None,
    plan: Plan,
    *,
    rows: range,
    columns: range,
    starts: IntArray | None = None,
) -> BlockResets | None:
    """Return what finds where documents start, or None where nobody knows."""
    if documents is None:
        return None
    return BlockResets(documents, plan, rows=rows, columns=columns, starts=starts)


def rows_per_block(plan: Plan, columns: range) -> int:
    """Return how many batches to read at once, so that NumPy calls are few.

    About 262,144 tokens. Twice as many would no longer fit into memory that
    the C library keeps, and cost more in page faults.
    """
    return max(1, _BLOCK_TOKENS // (len(columns) * (plan.seq_len + 1)))


def first_rows(plan: Plan, columns: range) -> int:
    """Return how many batches of an iteration to read first: about 8,192 tokens.

    So the first is there at once.
    """
    return max(1, _FIRST_TOKENS // (len(columns) * (plan.seq_len + 1)))


def split_rows(rows: range, size: int, *, first: int | None = None) -> Iterator[range]:
    """Yield parts of a range, each of ``size`` rows but the last.

    Parameters
    ----------
    rows : range
    size : int
    first : int, optional
        The first part has so many rows at most, and each next one is twice as
        long: the first batch does not wait for a whole block.

    >>> list(split_rows(range(7), 3))
    [range(0, 3), range(3, 6), range(6, 7)]
    >>> [len(part) for part in split_rows(range(100), 50, first=8)]
    [8, 16, 32, 44]
    """
    start, length = 0, size if first is None else min(size, first)
    while start < len(rows):
        yield rows[start : start + length]
        start, length = start + length, min(2 * length, size)
