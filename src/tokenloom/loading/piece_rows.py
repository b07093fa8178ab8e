"""Rows that are made of pieces of documents, side by side."""

import dataclasses
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from tokenloom.plan.order import IntArray
from tokenloom.text.ids import Ids


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceRows:
    """The pieces of the rows of one or more batches.

    The pieces of a row lie side by side from its first position on, and what they
    leave of it is padding.

    Attributes
    ----------
    counts : int64 array, shape (..., num_rows)
        How many pieces each row has.
    lengths : int64 array, shape (num_pieces,)
        How many inputs each piece has, row by row.
    seq_len : int
    ids : integer array, shape (sum(lengths) + num_pieces,), or None
        The ids of all pieces, each followed by the token after its last input; None
        where only tensors hold them.

    >>> rows = PieceRows(
    ...     counts=np.array([2, 1]),
    ...     lengths=np.array([1, 2, 2]),
    ...     seq_len=3,
    ...     ids=np.array([1, 2, 3, 4, 5, 6, 7, 8]),
    ... )
    >>> inputs, targets, is_filled = rows.place()
    >>> inputs.tolist(), targets.tolist()
    ([[1, 3, 4], [6, 7, 0]], [[2, 4, 5], [7, 8, 0]])
    """

    counts: IntArray
    lengths: IntArray
    seq_len: int
    ids: Ids | None = None

    def fills(self) -> IntArray:
        """Return how many inputs each row has: int64 array, shape of ``counts``."""
        # Inputs up to each piece [0, 1, 3, 5], at the ends of the rows [0, 2, 3].
        inputs = np.concatenate(([0], np.cumsum(self.lengths)))
        ends = np.concatenate(([0], np.cumsum(self.counts)))
        fills: IntArray = np.diff(inputs[ends]).reshape(self.counts.shape)
        return fills

    def place(self) -> tuple[IntArray, IntArray, npt.NDArray[np.bool_] | None]:
        """Return the ids as rows.

        Returns
        -------
        inputs, targets : int64 array, shape (..., num_rows, seq_len)
            0 where padded.
        is_filled : bool array of that shape, or None
            False where padded; None: nothing is.
        """
        assert self.ids is not None  # noqa: S101  whatever has tensors only is wide
        # Pieces of 1, 2 and 2 inputs end at [2, 5, 8] in the ids: all but the last token of each
        # are inputs, and all but the first are targets.
        ends = np.cumsum(self.lengths + 1)
        is_kept = np.ones(len(self.ids), np.bool_)
        is_kept[ends - 1] = False
        inputs = self.ids[is_kept].astype(np.int64)
        is_kept[ends - 1] = True
        is_kept[ends - self.lengths - 1] = False
        targets = self.ids[is_kept].astype(np.int64)
        shape = (*self.counts.shape, self.seq_len)
        is_filled = self.is_filled()
        if is_filled is None:
            return inputs.reshape(shape), targets.reshape(shape), None
        placed = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        placed[0][is_filled], placed[1][is_filled] = inputs, targets
        return *placed, is_filled

    def is_filled(self) -> npt.NDArray[np.bool_] | None:
        """Return where rows have an input, shape (..., num_rows, seq_len); None: everywhere."""
        fills = self.fills()
        if bool((fills == self.seq_len).all()):
            return None
        is_filled: npt.NDArray[np.bool_] = np.arange(self.seq_len) < fills[..., None]
        return is_filled

    def begins(self) -> IntArray:
        """Return where pieces begin, ascending, in the flattened shape (..., seq_len + 1)."""
        flat = self.counts.ravel()
        row = np.repeat(np.arange(len(flat)), flat)
        before = np.cumsum(self.lengths) - self.lengths
        # Before the pieces lie [0, 1, 3] inputs, and before the rows of them [0, 0, 3].
        first = np.cumsum(flat) - flat
        begins: IntArray = before - before[first[row]] + row * (self.seq_len + 1)
        return begins

    def with_ids_of(self, inputs: IntArray, targets: IntArray) -> Self:
        """Return the same rows with ids that were made into rows before.

        Parameters
        ----------
        inputs, targets : int64 array, shape (..., num_rows, seq_len)
        """
        is_filled = self.is_filled()
        if is_filled is not None:
            inputs, targets = inputs[is_filled], targets[is_filled]
        ends = np.cumsum(self.lengths)
        ids = np.insert(inputs.ravel(), ends, targets.ravel()[ends - 1])
        return dataclasses.replace(self, ids=ids)

    def slice(self, start: int, stop: int) -> Self:
        """Return the part [start, stop) along the first dimension."""
        flat = self.counts.reshape(len(self.counts), -1).sum(axis=1)
        ends = np.concatenate(([0], np.cumsum(flat)))
        stop = min(stop, len(self.counts))
        return self._part(start, stop, int(ends[start]), int(ends[stop]), self._tokens())

    def unbind(self) -> list[Self]:
        """Return the parts along the first dimension, such as the batches of a block."""
        flat = self.counts.reshape(len(self.counts), -1).sum(axis=1)
        ends = [0, *np.cumsum(flat).tolist()]
        tokens = self._tokens()
        return [
            self._part(at, at + 1, ends[at], ends[at + 1], tokens)._first()  # noqa: SLF001  of this class
            for at in range(len(self.counts))
        ]

    def _tokens(self) -> IntArray:
        """Return how many ids lie before each piece, and in all."""
        return np.concatenate(([0], np.cumsum(self.lengths + 1)))

    def _part(self, start: int, stop: int, first: int, last: int, tokens: IntArray) -> Self:
        return dataclasses.replace(
            self,
            counts=self.counts[start:stop],
            lengths=self.lengths[first:last],
            ids=None if self.ids is None else self.ids[tokens[first] : tokens[last]],
        )

    def _first(self) -> Self:
        return dataclasses.replace(self, counts=self.counts[0])
