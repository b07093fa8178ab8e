"""Where documents start in batches, and what follows from it."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenloom.corpus.offsets import DocumentOffsets
from tokenloom.plan.order import IntArray, find_filled
from tokenloom.plan.plan import References


class BlockResets:
    """Where documents start in each of several batches, found when first asked for.

    All batches of the block are looked up at once, since one by one the calls
    of NumPy would cost more than the look-up.

    Parameters
    ----------
    documents : DocumentOffsets
    references : References
        Which tokens the batches read.
    """

    __slots__ = ("_documents", "_found", "_references")

    def __init__(self, documents: DocumentOffsets, references: References) -> None:
        self._documents = documents
        self._references = references
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
        references = self._references
        size = len(references.columns) * (references.plan.seq_len + 1)
        first = references.rows.index(row) * size
        start, stop = np.searchsorted(self._found, (first, first + size))
        return self._found[start:stop] - first

    def _find(self) -> IntArray:
        starts, lengths = self._references.starts, self._references.lengths
        seq_len = self._references.plan.seq_len
        if lengths is None:
            lengths = np.full_like(starts, seq_len)
        # The token after the last input may begin a document too.
        return self._documents.starts_within(starts.ravel(), lengths.ravel() + 1, width=seq_len + 1)


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
    # The example above, line by line: begins is [[1, 0, 1, 0], [1, 1, 0, 1]], where the last 1
    # begins the padding; bounds are the places of its ones in the flattened batch and the end.
    num_rows, seq_len = mask.shape
    begins = mask.copy()
    begins[:, 0] = True
    if lengths is not None:
        short = np.flatnonzero(lengths < seq_len)
        begins[short, lengths[short]] = True
    bounds = np.append(np.flatnonzero(begins), mask.size)
    sizes = np.diff(bounds)
    # Positions 0 to 7 less the bound that each of them follows: 0 0 2 2 4 5 5 7.
    position_ids = np.arange(mask.size, dtype=np.int64) - np.repeat(bounds[:-1], sizes)
    document_ids = np.cumsum(begins, axis=1, dtype=np.int64) - 1
    if lengths is not None:
        document_ids[~find_filled(lengths, seq_len)] = -1
    return Segments(document_ids, position_ids.reshape(num_rows, seq_len), bounds)
