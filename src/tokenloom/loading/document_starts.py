"""Where documents start in batches, and what follows from it."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenloom.corpus.offsets import DocumentOffsets
from tokenloom.plan.order import IntArray
from tokenloom.plan.plan import Plan


class BlockResets:
    """Where documents start in each of several batches, found when first asked for.

    All batches of the block are looked up at once, since one by one the calls
    of NumPy would cost more than the look-up.

    Parameters
    ----------
    documents : DocumentOffsets
    plan : Plan
    rows : range
        Which batches.
    columns : range
        Which rows of each.
    starts : int64 array, shape (len(rows), len(columns)), optional
        What ``plan.starts(rows, columns)`` returned, if it is at hand.
    """

    __slots__ = ("_columns", "_documents", "_found", "_plan", "_rows", "_starts")

    def __init__(
        self,
        documents: DocumentOffsets,
        plan: Plan,
        *,
        rows: range,
        columns: range,
        starts: IntArray | None = None,
    ) -> None:
        self._documents = documents
        self._plan = plan
        self._rows = rows
        self._columns = columns
        self._starts = starts
        self._found: IntArray | None = None

    def of(self, row: int) -> IntArray:
        """Return where documents start in a batch.

        Parameters
        ----------
        row : int
            Which one, a row of the plan among those of the block.

        Returns
        -------
        int64 array, shape (num_found,)
            Ascending positions in the flattened windows of shape
            (num_columns, seq_len + 1); their last token is a target only.
        """
        if self._found is None:
            self._found = self._find()
        size = len(self._columns) * (self._plan.seq_len + 1)
        first = self._rows.index(row) * size
        start, stop = np.searchsorted(self._found, (first, first + size))
        return self._found[start:stop] - first

    def _find(self) -> IntArray:
        starts = self._starts
        if starts is None:
            starts = self._plan.starts(self._rows, self._columns)
        lengths = self._plan.lengths(starts, self._columns)
        return self._documents.starts_within(
            starts.ravel(), lengths.ravel() + 1, width=self._plan.seq_len + 1
        )


class Segments(NamedTuple):
    """The pieces of documents that the rows of a batch are made of.

    Attributes
    ----------
    document_ids : int64 array, shape (num_rows, seq_len)
        The number of the document within its row, from 0; -1 where padded.
    position_ids : int64 array, shape (num_rows, seq_len)
        Counted from 0 where the row, the document or the padding begins.
    bounds : int64 array, shape (num_segments + 1,)
        Segment i is the positions [bounds[i], bounds[i + 1]) of the flattened
        batch; the padding of a row is one of its own.
    """

    document_ids: IntArray
    position_ids: IntArray
    bounds: IntArray


def find_segments(mask: npt.NDArray[np.bool_], lengths: IntArray | None) -> Segments:
    """Return the segments of a batch.

    Parameters
    ----------
    mask : bool array, shape (num_rows, seq_len)
        True where a document starts.
    lengths : int64 array, shape (num_rows,), optional
        How many inputs of each row count; all by default.

    >>> segments = find_segments(np.array([[0, 0, 1, 0], [0, 1, 0, 0]], bool), np.array([4, 3]))
    >>> segments.document_ids.tolist(), segments.position_ids.tolist()
    ([[0, 0, 1, 1], [0, 1, 1, -1]], [[0, 1, 0, 1], [0, 0, 1, 0]])
    >>> segments.bounds.tolist()
    [0, 2, 4, 5, 7, 8]
    """
    num_rows, seq_len = mask.shape
    begins = mask.copy()
    begins[:, 0] = True
    if lengths is not None:
        short = np.flatnonzero(lengths < seq_len)
        begins[short, lengths[short]] = True
    bounds = np.append(np.flatnonzero(begins), mask.size)
    sizes = np.diff(bounds)
    position_ids = np.arange(mask.size) - np.repeat(bounds[:-1], sizes)
    document_ids = np.cumsum(begins, axis=1) - 1
    if lengths is not None:
        document_ids[np.arange(seq_len) >= lengths[:, None]] = -1
    return Segments(document_ids, position_ids.reshape(num_rows, seq_len), bounds)
