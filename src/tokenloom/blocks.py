"""Several batches at once: fewer, larger copies and messages."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from tokenloom.arrays import Ids
from tokenloom.batch import Batch, Tensors, widen
from tokenloom.maps import Tokens, advise, gather
from tokenloom.plans import IntArray, Plan

_BLOCK_TOKENS = 1 << 16
_SHORT_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Several batches of one epoch, read at once.

    Attributes
    ----------
    windows : integer array, shape (num_batches, num_rows, seq_len + 1), or None
        None where only tensors, on a device, hold them.
    lengths : int64 array, shape (num_batches, num_rows), or None
        As in `Batch`.
    epoch : int
    rows : range
        The rows of the plan, one per batch.
    """

    windows: Ids | None
    lengths: IntArray | None
    epoch: int
    rows: range

    def widen(self) -> Tensors:
        """Return what the batches say, with the batches along the first dimension."""
        return widen(cast("Ids", self.windows), self.lengths)

    def batches(self, tensors: Tensors) -> Iterator[Batch]:
        """Yield the batches, as views of ``tensors``, which `widen` returned."""
        for position, part in enumerate(tensors.unbind()):
            yield self._batch(position, part)

    def narrow_batches(self) -> Iterator[Batch]:
        """Yield the batches without tensors, to be sent elsewhere."""
        return map(self._batch, range(len(self.rows)))

    def _batch(self, position: int, tensors: Tensors | None = None) -> Batch:
        return Batch(
            None if self.windows is None else self.windows[position],
            epoch=self.epoch,
            index=self.rows[position],
            lengths=None if self.lengths is None else self.lengths[position],
            tensors=tensors,
        )


def read_block(tokens: Tokens, plan: Plan, *, rows: range, columns: range) -> Block:
    """Return some rows of several batches, copied out of the corpus.

    Parameters
    ----------
    tokens : integer array, shape (num_tokens,)
    plan : Plan
    rows : range
        Which batches.
    columns : range
        Which rows of each.
    """
    starts = plan.starts(rows, columns)
    lengths = plan.lengths(starts, columns) if plan.tail == "pad" else None
    # Of long windows the system reads ahead what they are about to need.
    is_short = (plan.seq_len + 1) * tokens.itemsize <= _SHORT_BYTES
    advise(tokens, is_random=is_short and not plan.carries_state)
    ids = gather(tokens, starts, width=plan.seq_len + 1)
    return Block(windows=ids, lengths=lengths, epoch=plan.epoch, rows=rows)


def rows_per_block(plan: Plan, columns: range) -> int:
    """Return how many batches to read at once, so that NumPy calls are few.

    About 65,536 tokens: small enough to stay in a processor's cache.
    """
    return max(1, _BLOCK_TOKENS // (len(columns) * (plan.seq_len + 1)))


def split_rows(rows: range, size: int) -> Iterator[range]:
    """Yield parts of a range, each of ``size`` rows but the last.

    >>> list(split_rows(range(7), 3))
    [range(0, 3), range(3, 6), range(6, 7)]
    """
    return (rows[start : start + size] for start in range(0, len(rows), size))
