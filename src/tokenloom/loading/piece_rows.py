"""Rows that are made of pieces of documents, side by side."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenloom.plan.order import IntArray, edges_of, fill_rows, find_filled
from tokenloom.text.ids import Ids

# One copy takes as long as looking at this number of positions one by one.
_PER_COPY = 512


class PieceLayout(NamedTuple):
    """Where the pieces of one or more batches lie in their rows.

    The pieces of a row lie side by side from its first position on, and what they
    leave of it is padding.

    Attributes
    ----------
    counts, fills : int64 array, shape (..., num_rows)
        How many pieces, and how many inputs, each row has.
    lengths : int64 array, shape (num_pieces,)
        How many inputs each piece has, row by row.
    ends : int64 array, shape (num_pieces,)
        Where the last inputs of pieces lie in the flattened shape (..., seq_len).
    seq_len : int

    >>> layout = PieceLayout.of(counts=np.array([2, 1]), lengths=np.array([1, 2, 2]), seq_len=3)
    >>> layout.fills.tolist(), layout.begins().tolist(), layout.ends.tolist()
    ([3, 2], [0, 1, 4], [0, 2, 4])
    """

    counts: IntArray
    fills: IntArray
    lengths: IntArray
    ends: IntArray
    seq_len: int

    @classmethod
    def of(cls, *, counts: IntArray, lengths: IntArray, seq_len: int) -> "PieceLayout":
        """Return the layout of pieces; the arguments are the attributes of these names."""
        fills = fill_rows(counts, lengths)
        # Pieces of [1, 2, 2] inputs end after [1, 3, 5], and the padding of the rows before.
        padding = seq_len - fills.ravel()
        shifts = np.repeat(np.cumsum(padding, dtype=np.int64) - padding, counts.ravel())
        return cls(counts, fills, lengths, np.cumsum(lengths, dtype=np.int64) + shifts - 1, seq_len)

    def lay_out(self, values: Ids) -> Ids:
        """Return values of all inputs, row by row, in the shape of rows; 0 where padded.

        Parameters
        ----------
        values : integer array, shape (sum(lengths),)
        """
        rows: Ids = self.spread(values, self.gaps(), dtype=values.dtype)
        return rows

    def gaps(self) -> list[slice] | None:
        """Return where rows are padded, in their flattened shape.

        None if there are too many of these places: then it is quicker to look at each position.
        """
        short = np.flatnonzero(self.fills < self.seq_len)
        if len(short) * _PER_COPY > self.fills.size * self.seq_len:
            return None
        rows = zip(short.tolist(), self.fills.flat[short].tolist(), strict=True)
        return [slice(row * self.seq_len + fill, (row + 1) * self.seq_len) for row, fill in rows]

    def spread(
        self, values: Ids, gaps: list[slice] | None, *, dtype: npt.DTypeLike
    ) -> npt.NDArray[Any]:
        """Return the rows of `lay_out` as another dtype; ``gaps`` is what `gaps` returned."""
        shape = (*self.counts.shape, self.seq_len)
        if gaps is None:
            rows = np.zeros(shape, dtype)
            rows[find_filled(self.fills, self.seq_len)] = values
            return rows
        rows = np.empty(shape, dtype)
        flat, start, read = rows.reshape(-1), 0, 0
        # What lies between two gaps is copied in one piece.
        for gap in gaps:
            stop = read + gap.start - start
            flat[start : gap.start], flat[gap] = values[read:stop], 0
            start, read = gap.stop, stop
        flat[start:] = values[read:]
        return rows

    def collect_ids(self, inputs: IntArray, targets: IntArray) -> tuple[Ids, Ids]:
        """Return the ids of all pieces, as `PieceRows` holds them, from rows.

        Parameters
        ----------
        inputs, targets : int64 array, shape (..., num_rows, seq_len)
            Targets below 0, which are not learnt, become id 0.
        """
        is_filled = find_filled(self.fills, self.seq_len)
        return inputs[is_filled], targets.reshape(-1)[self.ends].clip(min=0)

    def begins(self) -> IntArray:
        """Return where pieces begin, ascending, in the flattened shape (..., seq_len + 1)."""
        begins: IntArray = self.ends - self.lengths + 1
        return begins + begins // self.seq_len

    def edges(self) -> tuple[list[int], list[int]]:
        """Return how many pieces, and inputs, come before each part, and in all.

        Parts are those along the first dimension.
        """
        pieces, inputs = (
            edges_of(each.reshape(len(each), -1).sum(axis=1)).tolist()
            for each in (self.counts, self.fills)
        )
        return pieces, inputs

    def slice(self, start: int, stop: int) -> "PieceLayout":
        """Return the part [start, stop) along the first dimension."""
        pieces, _ = self.edges()
        first, last = pieces[start], pieces[min(stop, len(self.counts))]
        before = self.fills[:start].size * self.seq_len
        return PieceLayout(
            self.counts[start:stop],
            self.fills[start:stop],
            self.lengths[first:last],
            self.ends[first:last] - before,
            self.seq_len,
        )

    def unbind(self) -> "list[PieceLayout]":
        """Return the parts along the first dimension, such as the batches of a block."""
        return self.cut(self.edges()[0])

    def cut(self, pieces: Sequence[int]) -> "list[PieceLayout]":
        """Return the parts along the first dimension, whose pieces lie between some `edges`."""
        size = self.fills[:1].size * self.seq_len
        return [
            PieceLayout(
                self.counts[at],
                self.fills[at],
                self.lengths[pieces[at] : pieces[at + 1]],
                self.ends[pieces[at] : pieces[at + 1]] - at * size,
                self.seq_len,
            )
            for at in range(len(self.counts))
        ]


class PieceRows(NamedTuple):
    """The ids of the pieces that the rows of one or more batches are made of.

    Attributes
    ----------
    layout : PieceLayout
    inputs : integer array, shape (sum(lengths),)
        The inputs of all pieces.
    after : integer array, shape (num_pieces,)
        The token after each piece, which is the target of its last input.

    >>> layout = PieceLayout.of(counts=np.array([2, 1]), lengths=np.array([1, 2, 2]), seq_len=3)
    >>> rows = PieceRows(layout, np.array([1, 3, 4, 6, 7]), np.array([2, 5, 8]))
    >>> inputs, targets = rows.widen(padding=-100)
    >>> inputs.tolist(), targets.tolist()
    ([[1, 3, 4], [6, 7, 0]], [[2, 4, 5], [7, 8, -100]])
    """

    layout: PieceLayout
    inputs: Ids
    after: Ids

    def widen(self, *, padding: int) -> tuple[IntArray, IntArray]:
        """Return inputs, which are 0 where rows are padded, and targets: (..., seq_len) each.

        Parameters
        ----------
        padding : int
            What targets are there.
        """
        layout, gaps = self.layout, self.layout.gaps()
        inputs = layout.spread(self.inputs, gaps, dtype=np.int64)
        # A target is the next input, but for those of the last inputs of pieces.
        targets = np.empty_like(inputs)
        flat = targets.reshape(-1)
        flat[:-1] = inputs.reshape(-1)[1:]
        flat[layout.ends] = self.after
        if gaps is None:
            targets[~find_filled(layout.fills, layout.seq_len)] = padding
            return inputs, targets
        for gap in gaps:
            flat[gap] = padding
        return inputs, targets

    def slice(self, start: int, stop: int) -> "PieceRows":
        """Return the part [start, stop) along the first dimension."""
        stop = min(stop, len(self.layout.counts))
        (first, last), (low, high) = ((each[start], each[stop]) for each in self.layout.edges())
        layout = self.layout.slice(start, stop)
        return PieceRows(layout, self.inputs[low:high], self.after[first:last])

    def unbind(self) -> "list[PieceRows]":
        """Return the parts along the first dimension, such as the batches of a block."""
        pieces, inputs = self.layout.edges()
        return [
            PieceRows(
                layout,
                self.inputs[inputs[at] : inputs[at + 1]],
                self.after[pieces[at] : pieces[at + 1]],
            )
            for at, layout in enumerate(self.layout.cut(pieces))
        ]
