"""Rows that are made of pieces of documents, side by side."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenloom.plan.order import IntArray, edges_of
from tokenloom.text.ids import Ids

# One copy takes as long as looking at this number of positions one by one.
_PER_COPY = 512


class PlacedRows(NamedTuple):
    """Ids of pieces, laid out in rows.

    Attributes
    ----------
    inputs, targets : integer array, shape (..., num_rows, seq_len)
        Of no meaning where padded.
    fills : int64 array, shape (..., num_rows)
        How many inputs each row has.
    """

    inputs: Ids
    targets: Ids
    fills: IntArray

    def at(self, key: int | slice) -> "PlacedRows":
        """Return a part along the first dimension."""
        return PlacedRows(self.inputs[key], self.targets[key], self.fills[key])

    def is_padded(self) -> npt.NDArray[np.bool_] | None:
        """Return where rows are padded, in the shape of ``inputs``; None: nowhere."""
        seq_len = self.inputs.shape[-1]
        if bool((self.fills == seq_len).all()):
            return None
        is_padded: npt.NDArray[np.bool_] = np.arange(seq_len) >= self.fills[..., None]
        return is_padded


class PieceLayout(NamedTuple):
    """Where the pieces of one or more batches lie in their rows.

    The pieces of a row lie side by side from its first position on, and what they
    leave of it is padding.

    Attributes
    ----------
    counts : int64 array, shape (..., num_rows)
        How many pieces each row has.
    lengths : int64 array, shape (num_pieces,)
        How many inputs each piece has, row by row.
    seq_len : int

    >>> layout = PieceLayout(counts=np.array([2, 1]), lengths=np.array([1, 2, 2]), seq_len=3)
    >>> layout.fills().tolist(), layout.begins().tolist(), layout.last_inputs().tolist()
    ([3, 2], [0, 1, 4], [0, 2, 4])
    """

    counts: IntArray
    lengths: IntArray
    seq_len: int

    def fills(self) -> IntArray:
        """Return how many inputs each row has: int64 array, shape of ``counts``."""
        # Inputs up to each piece [0, 1, 3, 5], at the ends of the rows [0, 2, 3].
        inputs = edges_of(self.lengths)[edges_of(self.counts.ravel())]
        fills: IntArray = np.diff(inputs).reshape(self.counts.shape)
        return fills

    def lay_out(self, values: Ids) -> Ids:
        """Return values of all inputs, row by row, in the shape of rows; 0 where padded.

        Parameters
        ----------
        values : integer array, shape (sum(lengths),)
        """
        spread = _spread(values, self.fills().ravel(), self.seq_len)
        return spread.reshape(*self.counts.shape, self.seq_len)

    def collect_ids(self, inputs: IntArray, targets: IntArray) -> Ids:
        """Return the ids of all pieces, as `PieceRows` holds them, from rows.

        Parameters
        ----------
        inputs, targets : int64 array, shape (..., num_rows, seq_len)
            Targets below 0, which are not learnt, become id 0.
        """
        is_filled = np.arange(self.seq_len) < self.fills()[..., None]
        inputs, targets = inputs[is_filled], targets[is_filled]
        ends = np.cumsum(self.lengths)
        ids: Ids = np.insert(inputs, ends, targets[ends - 1].clip(min=0))
        return ids

    def begins(self) -> IntArray:
        """Return where pieces begin, ascending, in the flattened shape (..., seq_len + 1)."""
        row, place = self._find_places()
        begins: IntArray = row * (self.seq_len + 1) + place
        return begins

    def last_inputs(self) -> IntArray:
        """Return where pieces end, ascending, in the flattened shape (..., seq_len)."""
        row, place = self._find_places()
        last: IntArray = row * self.seq_len + place + self.lengths - 1
        return last

    def _find_places(self) -> tuple[IntArray, IntArray]:
        """Return the row of each piece, and where it begins there."""
        flat = self.counts.ravel()
        row = np.repeat(np.arange(len(flat)), flat)
        before = np.cumsum(self.lengths) - self.lengths
        # Before the pieces lie [0, 1, 3] inputs, and before the rows of them [0, 0, 3].
        first = np.cumsum(flat) - flat
        return row, before - before[first[row]]

    def edges(self) -> IntArray:
        """Return how many pieces come before each part along the first dimension, and in all."""
        return edges_of(self.counts.reshape(len(self.counts), -1).sum(axis=1))

    def slice(self, start: int, stop: int) -> "PieceLayout":
        """Return the part [start, stop) along the first dimension."""
        first, last = self.edges()[[start, min(stop, len(self.counts))]].tolist()
        counts, lengths = self.counts[start:stop], self.lengths[first:last]
        return self._replace(counts=counts, lengths=lengths)

    def unbind(self) -> "list[PieceLayout]":
        """Return the parts along the first dimension, such as the batches of a block."""
        ends = self.edges().tolist()
        return [
            PieceLayout(self.counts[at], self.lengths[ends[at] : ends[at + 1]], self.seq_len)
            for at in range(len(self.counts))
        ]


class PieceRows(NamedTuple):
    """The ids of the pieces that the rows of one or more batches are made of.

    Attributes
    ----------
    layout : PieceLayout
    ids : integer array, shape (sum(lengths) + num_pieces,)
        The ids of all pieces, each followed by the token after its last input.
    placed : PlacedRows, optional
        The same ids as rows, where they were already laid out.

    >>> layout = PieceLayout(counts=np.array([2, 1]), lengths=np.array([1, 2, 2]), seq_len=3)
    >>> inputs, targets, fills = PieceRows(layout=layout, ids=np.arange(1, 9)).lay_out()
    >>> inputs[0].tolist(), targets[0].tolist(), fills.tolist()
    ([1, 3, 4], [2, 4, 5], [3, 2])
    """

    layout: PieceLayout
    ids: Ids
    placed: PlacedRows | None = None

    def place(self) -> "PieceRows":
        """Return the same rows with their ids laid out, all at once where these are many."""
        return self._replace(placed=self.lay_out())

    def lay_out(self) -> PlacedRows:
        """Return the ids as rows."""
        if self.placed is not None:
            return self.placed
        layout, fills = self.layout, self.layout.fills()
        shape = (*layout.counts.shape, layout.seq_len)
        # Pieces of 1, 2 and 2 inputs end at [2, 5, 8] in the ids, and at [1, 3, 5] in the inputs:
        # all but the last token of each are inputs.
        ends = np.cumsum(layout.lengths + 1)
        is_input = np.ones(len(self.ids), np.bool_)
        is_input[ends - 1] = False
        inputs = _spread(self.ids[is_input], fills.ravel(), layout.seq_len)
        # A target is the next input, but for those of the last inputs of pieces.
        targets = np.empty_like(inputs)
        targets[:-1] = inputs[1:]
        targets[layout.last_inputs()] = self.ids[ends - 1]
        return PlacedRows(inputs.reshape(shape), targets.reshape(shape), fills)

    def slice(self, start: int, stop: int) -> "PieceRows":
        """Return the part [start, stop) along the first dimension."""
        first, last = self._edges()[[start, min(stop, len(self.layout.counts))]].tolist()
        placed = None if self.placed is None else self.placed.at(slice(start, stop))
        return PieceRows(self.layout.slice(start, stop), self.ids[first:last], placed)

    def unbind(self) -> "list[PieceRows]":
        """Return the parts along the first dimension, such as the batches of a block."""
        ends, ids, placed = self._edges().tolist(), self.ids, self.placed
        return [
            PieceRows(
                layout, ids[ends[at] : ends[at + 1]], None if placed is None else placed.at(at)
            )
            for at, layout in enumerate(self.layout.unbind())
        ]

    def _edges(self) -> IntArray:
        """Return how many ids come before each part along the first dimension, and in all."""
        return edges_of(self.layout.lengths + 1)[self.layout.edges()]


def _spread(values: Ids, fills: IntArray, seq_len: int) -> Ids:
    """Return values with the padding of rows between them, all rows one after the other."""
    short = np.flatnonzero(fills < seq_len)
    if not len(short):
        return values
    spread: Ids = np.zeros(len(fills) * seq_len, values.dtype)
    if len(short) * _PER_COPY > len(spread):
        is_filled = np.arange(seq_len) < fills[:, None]
        spread[is_filled.ravel()] = values
        return spread
    # What lies between the padding of two rows is copied in one piece.
    start = read = 0
    for row, fill in zip(short.tolist(), fills[short].tolist(), strict=True):
        stop = row * seq_len + fill
        spread[start:stop] = values[read : read + stop - start]
        read, start = read + stop - start, (row + 1) * seq_len
    spread[start:] = values[read:]
    return spread
