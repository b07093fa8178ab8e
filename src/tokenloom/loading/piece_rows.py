"""Rows that are made of pieces of documents, side by side."""

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple, Self

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
    placed : PlacedRows, optional
        The same ids as rows, where they were already laid out.

    >>> rows = PieceRows(
    ...     counts=np.array([2, 1]),
    ...     lengths=np.array([1, 2, 2]),
    ...     seq_len=3,
    ...     ids=np.array([1, 2, 3, 4, 5, 6, 7, 8]),
    ... )
    >>> inputs, targets, fills = rows.place().placed
    >>> inputs[0].tolist(), targets[0].tolist(), fills.tolist()
    ([1, 3, 4], [2, 4, 5], [3, 2])
    """

    counts: IntArray
    lengths: IntArray
    seq_len: int
    ids: Ids | None = None
    placed: PlacedRows | None = None

    def fills(self) -> IntArray:
        """Return how many inputs each row has: int64 array, shape of ``counts``."""
        # Inputs up to each piece [0, 1, 3, 5], at the ends of the rows [0, 2, 3].
        inputs = edges_of(self.lengths)[edges_of(self.counts.ravel())]
        fills: IntArray = np.diff(inputs).reshape(self.counts.shape)
        return fills

    def place(self) -> Self:
        """Return the same rows with their ids laid out, all at once where these are many."""
        if self.placed is not None:
            return self
        assert self.ids is not None  # noqa: S101  whatever has tensors only is wide
        fills, shape = self.fills(), (*self.counts.shape, self.seq_len)
        # Pieces of 1, 2 and 2 inputs end at [2, 5, 8] in the ids, and at [1, 3, 5] in the inputs:
        # all but the last token of each are inputs.
        ends = np.cumsum(self.lengths + 1)
        is_input = np.ones(len(self.ids), np.bool_)
        is_input[ends - 1] = False
        inputs = _spread(self.ids[is_input], fills.ravel(), self.seq_len)
        # A target is the next input, but for those of the last inputs of pieces.
        targets = np.empty_like(inputs)
        targets[:-1] = inputs[1:]
        targets[self._last_inputs()] = self.ids[ends - 1]
        placed = PlacedRows(inputs.reshape(shape), targets.reshape(shape), fills)
        return dataclasses.replace(self, placed=placed)

    def lay_out(self, values: Ids) -> Ids:
        """Return values of all inputs, row by row, in the shape of rows; 0 where padded.

        Parameters
        ----------
        values : integer array, shape (sum(lengths),)
        """
        spread = _spread(values, self.fills().ravel(), self.seq_len)
        return spread.reshape(*self.counts.shape, self.seq_len)

    def begins(self) -> IntArray:
        """Return where pieces begin, ascending, in the flattened shape (..., seq_len + 1)."""
        row, place = self._find_places()
        begins: IntArray = row * (self.seq_len + 1) + place
        return begins

    def _last_inputs(self) -> IntArray:
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

    def with_ids_of(self, inputs: IntArray, targets: IntArray) -> Self:
        """Return the same rows with ids that were made into rows before.

        Parameters
        ----------
        inputs, targets : int64 array, shape (..., num_rows, seq_len)
        """
        is_filled = np.arange(self.seq_len) < self.fills()[..., None]
        inputs, targets = inputs[is_filled], targets[is_filled]
        ends = np.cumsum(self.lengths)
        # What is not learnt has no id there.
        ids = np.insert(inputs, ends, targets[ends - 1].clip(min=0))
        return dataclasses.replace(self, ids=ids, placed=None)

    def slice(self, start: int, stop: int) -> Self:
        """Return the part [start, stop) along the first dimension."""
        flat = self.counts.reshape(len(self.counts), -1).sum(axis=1)
        ends = np.concatenate(([0], np.cumsum(flat)))
        stop = min(stop, len(self.counts))
        first, last, tokens = int(ends[start]), int(ends[stop]), self._tokens()
        placed = self.placed
        return type(self)(
            counts=self.counts[start:stop],
            lengths=self.lengths[first:last],
            seq_len=self.seq_len,
            ids=None if self.ids is None else self.ids[tokens[first] : tokens[last]],
            placed=None if placed is None else placed.at(slice(start, stop)),
        )

    def unbind(self) -> list[Self]:
        """Return the parts along the first dimension, such as the batches of a block."""
        flat = self.counts.reshape(len(self.counts), -1).sum(axis=1)
        pieces = np.concatenate(([0], np.cumsum(flat)))
        tokens = self._tokens()[pieces].tolist()
        ends, ids, placed = pieces.tolist(), self.ids, self.placed
        return [
            type(self)(
                counts=self.counts[at],
                lengths=self.lengths[ends[at] : ends[at + 1]],
                seq_len=self.seq_len,
                ids=None if ids is None else ids[tokens[at] : tokens[at + 1]],
                placed=None if placed is None else placed.at(at),
            )
            for at in range(len(self.counts))
        ]

    def _tokens(self) -> IntArray:
        """Return how many ids lie before each piece, and in all."""
        return np.concatenate(([0], np.cumsum(self.lengths + 1)))


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
