"""Where the documents of a corpus begin and end."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Literal, Self, overload

import numpy as np
import numpy.typing as npt

from tokenloom._wording import count, show
from tokenloom.errors import ArgumentError, CorpusError, StoreError
from tokenloom.plan.order import edges_of
from tokenloom.store.memmap import confirm, confirm_now_and_then, pack
from tokenloom.text.ids import Ids, Offsets, is_memory_map

Side = Literal["left", "right"]

# Offsets that are hashed at once: 8 MiB.
_PIECE = 1 << 20
# Offsets that are checked at once where one of them is read, at least: 128 KiB.
_CELL = 1 << 14
# The largest number of cells. The first search reads one offset of each.
_NUM_CELLS = 1 << 12


class DocumentOffsets:
    """Offsets of the documents in a range of tokens; the first and the last may be cut.

    Parameters
    ----------
    offsets : int64 array or JoinedOffsets, shape (num_all + 1,)
        Non-decreasing, from 0; in memory or a memory map. Document i is the
        tokens [offsets[i], offsets[i + 1]), and may be empty.
    start, stop : int
        The range of tokens, half-open; all of them by default.
    order : optional
        The checked offsets of another range of the same corpus.

    Raises
    ------
    StoreError
        The offsets come from a file and decrease where this range begins or ends.
        Methods that read more offsets check those, and raise the same error.
    """

    __slots__ = ("_first", "_last", "_offsets", "_order", "_start", "_stop")

    def __init__(
        self,
        offsets: "Offsets | JoinedOffsets",
        *,
        start: int = 0,
        stop: int | None = None,
        order: "_Order | None" = None,
    ) -> None:
        end = int(offsets[-1])
        order = _Order(offsets) if order is None else order
        self._offsets, self._order = offsets, order
        self._start, self._stop = start, end if stop is None else stop
        # A document without tokens belongs to what follows it, or else to the end: of offsets
        # [0, 2, 2, 5] the range [2, 5) has documents 1, which is empty, and 2.
        first = order.find(self._start) if self._start else 0
        self._first = first if offsets[first] == self._start else first - 1
        self._last = len(offsets) - 1 if self._stop == end else order.find(self._stop)

    @classmethod
    def join(cls, parts: "Sequence[DocumentOffsets]") -> Self:
        """Return the documents of several ranges, one after another, without a copy.

        >>> first, second = DocumentOffsets(np.array([0, 2])), DocumentOffsets(np.array([0, 1, 3]))
        >>> DocumentOffsets.join([first, second]).offsets().tolist()
        [0, 2, 3, 5]
        """
        return cls(JoinedOffsets(parts))

    def __len__(self) -> int:
        return self._last - self._first

    @property
    def num_tokens(self) -> int:
        """Tokens in this range."""
        return self._stop - self._start

    def offsets(self) -> Offsets:
        """Return the offsets in this range: int64 array, shape (len(self) + 1,).

        Raises
        ------
        StoreError
            The offsets come from a file and decrease.
        """
        self._order.check(self._first, self._last)
        part = np.asarray(self._offsets[self._first : self._last + 1])
        if (self._start, self._stop) == (0, int(self._offsets[-1])):
            return part
        return np.clip(part, self._start, self._stop) - self._start

    def hash(self) -> str:
        """Return ``"sha256:..."`` of all offsets in this range.

        Documents of the same lengths have the same hash, wherever the range
        starts. Few offsets at a time are in memory.

        >>> documents = DocumentOffsets(np.array([0, 2, 5, 7, 10]))
        >>> documents.slice(0, 5).hash() == documents.slice(5, 10).hash()
        True
        """
        self._order.check(self._first, self._last)
        digest = hashlib.sha256()
        for first in range(self._first, self._last + 1, _PIECE):
            part = np.asarray(self._offsets[first : min(first + _PIECE, self._last + 1)])
            relative = np.clip(part, self._start, self._stop) - self._start
            digest.update(relative.astype("<i8", copy=False).tobytes())
        return "sha256:" + digest.hexdigest()

    def bounds(self, index: int) -> tuple[int, int]:
        """Return start and stop of a document, counted from the start of the range.

        Raises
        ------
        ArgumentError
            There is no such document.
        StoreError
            The offsets come from a file and are not such a range.
        """
        if not 0 <= index < len(self):
            msg = f"a document's number must be in [0, {len(self)}), got {show(index)}"
            raise ArgumentError(msg)
        self._order.check(self._first + index, self._first + index + 1)
        start, stop = self._offsets[self._first + index : self._first + index + 2].tolist()
        low, high = max(start, self._start) - self._start, min(stop, self._stop) - self._start
        if not 0 <= low <= high:
            msg = (
                f"document {index} must be a range of tokens, got [{start}, {stop}): "
                "the store is damaged; 'tokenloom verify' reports more"
            )
            raise StoreError(msg)
        return low, high

    def lengths(self) -> Ids:
        """Return how many tokens each document has, in this range.

        Returns
        -------
        uint32 or int64 array, shape (len(self),)

        Raises
        ------
        StoreError
            The offsets come from a file and decrease.
        """
        self._order.check(self._first, self._last)
        dtype = np.dtype(np.uint32 if self.num_tokens < 1 << 32 else np.int64)
        lengths: Ids = np.empty(len(self), dtype)
        for first in range(0, len(self), _PIECE):
            part = self._offsets[self._first + first : self._first + first + _PIECE + 1]
            part = np.asarray(part)[: len(self) - first + 1]
            lengths[first : first + _PIECE] = np.diff(np.clip(part, self._start, self._stop))
        return lengths

    def starts_of(self, numbers: npt.NDArray[np.integer[Any]]) -> Offsets:
        """Return where documents start, counted from the start of the range.

        Parameters
        ----------
        numbers : integer array, shape (num_asked,)
            Each in [0, len(self)).

        Raises
        ------
        StoreError
            The offsets come from a file and decrease there.
        """
        numbers = numbers.astype(np.int64) + self._first
        self._order.check_each(numbers, numbers + 2)
        starts = np.maximum(np.asarray(self._offsets[numbers]), self._start) - self._start
        return starts.astype(np.int64, copy=False)

    def slice(self, start: int, stop: int) -> "DocumentOffsets":
        """Return the documents of a range within this one."""
        start, stop = self._start + start, self._start + stop
        return DocumentOffsets(self._offsets, start=start, stop=stop, order=self._order)

    def check_file(self) -> None:
        """Check that the file of the offsets, if there is one, was neither replaced nor changed.

        Raises
        ------
        StoreError
            It was, or it is gone.
        """
        if isinstance(self._offsets, JoinedOffsets):
            self._offsets.check_files()
        else:
            confirm(self._offsets)

    def take(self, numbers: Offsets) -> Offsets:
        """Return some of the `offsets`, without looking at the others.

        Parameters
        ----------
        numbers : int64 array, shape (num_asked,)
            Each in [0, len(self)].
        """
        first = self._first + numbers
        self._order.check_each(first, first + 1)
        taken: Offsets = np.asarray(self._offsets[first])
        return np.clip(taken, self._start, self._stop) - self._start

    def search(self, positions: Offsets, *, side: Side) -> Offsets:
        """Return the indices of positions among the `offsets`, as `numpy.searchsorted` does."""
        found = self._order.search(positions + self._start, side=side) - self._first
        if side == "left":
            return np.where(positions <= 0, 0, np.minimum(found, len(self)))
        return np.where(positions >= self.num_tokens, len(self) + 1, found)

    def number(self, position: int) -> int:
        """Return the number of the document that a token belongs to.

        Parameters
        ----------
        position : int
            Counted from the start of the range.

        >>> DocumentOffsets(np.array([0, 2, 2, 5])).number(2)
        2
        """
        return self._order.find(position + self._start, side="right") - 1 - self._first

    def boundary(self, position: int) -> int:
        """Return where a document ends, at or before a position, else the first after it.

        Parameters
        ----------
        position : int
            Counted from the start of the range.

        Returns
        -------
        int
            Counted from the start of the range; 0 if there is no boundary inside
            it.
        """
        first = self._order.find(self._start, side="right")
        stop = self._order.find(self._stop)
        if first >= stop:
            return 0
        before = self._order.find(position + self._start, side="right") - 1
        return int(self._offsets[min(max(before, first), stop - 1)]) - self._start

    def starts_within(self, starts: Offsets, lengths: Offsets, *, width: int) -> Offsets:
        """Return where documents start inside windows.

        A document that was cut starts where the range does. An empty document
        starts where the next one does.

        Parameters
        ----------
        starts, lengths : int64 array, shape (num_windows,)
            Windows [start, start + length), counted from the start of the range.
        width : int
            The largest length, or more.

        Returns
        -------
        int64 array, shape (num_found,)
            Ascending positions in the flattened array of shape (num_windows, width).

        >>> documents = DocumentOffsets(np.array([0, 2, 2, 5, 9]))
        >>> documents.starts_within(np.array([4, 0]), np.array([3, 3]), width=4)
        array([1, 4, 6])
        """
        # In the example the windows [4, 7) and [0, 3) hold the offsets [5] and [0, 2, 2].
        absolute = starts + self._start
        first, stop = self._order.search(absolute), self._order.search(absolute + lengths)
        self._order.check_each(first, stop)
        # Their numbers are [3, 4) and [0, 3): first = [3, 0] and stop = [4, 3].
        counts = stop - first
        # Counts [1, 3] give the windows [0, 1, 1, 1] and the ranks [0, 0, 1, 2] in them.
        window = np.repeat(np.arange(len(starts), dtype=np.int64), counts)
        rank = np.arange(len(window), dtype=np.int64) - np.repeat(
            np.cumsum(counts, dtype=np.int64) - counts, counts
        )
        # Offsets [5, 0, 2, 2] lie 1, 0, 2 and 2 tokens into their windows: [1, 4, 6, 6].
        found = np.asarray(self._offsets[first[window] + rank]) - absolute[window] + window * width
        begins = np.flatnonzero((starts == 0) & (lengths > 0)) * width
        return np.unique(np.concatenate([found, begins]).astype(np.int64))

    def __reduce__(self) -> tuple[Any, ...]:
        if isinstance(self._offsets, JoinedOffsets):
            return _restore, (_itself, (self._offsets,), self._start, self._stop)
        return _restore, (*pack(self._offsets), self._start, self._stop)


class JoinedOffsets:
    """The offsets of the documents of several ranges, one after another, computed on demand.

    It reads like one array; nothing as long as all documents is ever made.

    Parameters
    ----------
    parts : sequence of DocumentOffsets
        At least one.
    """

    __slots__ = ("_first_numbers", "_first_tokens", "_parts")

    def __init__(self, parts: Sequence[DocumentOffsets]) -> None:
        self._parts = tuple(parts)
        # Parts of 1 and 2 documents with 2 and 3 tokens begin at [0, 1, 3] and [0, 2, 5].
        self._first_numbers = edges_of([len(part) for part in parts])
        self._first_tokens = edges_of([part.num_tokens for part in parts])

    def __len__(self) -> int:
        return int(self._first_numbers[-1]) + 1

    @overload
    def __getitem__(self, key: int) -> int: ...
    @overload
    def __getitem__(self, key: slice | Offsets) -> Offsets: ...
    def __getitem__(self, key: int | slice | Offsets) -> Any:
        if isinstance(key, slice):
            return self._take(np.arange(*key.indices(len(self)), dtype=np.int64))
        if isinstance(key, np.ndarray):
            return self._take(key)
        return int(self._take(np.array([range(len(self))[key]], np.int64))[0])

    def search(self, positions: Offsets, *, side: Side) -> Offsets:
        """Return the indices of positions, as `numpy.searchsorted` does."""
        # A boundary of parts is the last offset of one of them, and the first of the next.
        part = np.searchsorted(self._first_tokens, positions, side=side) - 1
        part = np.clip(part, 0, len(self._parts) - 1)
        return self._by_part(
            part,
            lambda at, mine: (
                self._parts[at].search(positions[mine] - self._first_tokens[at], side=side)
                + self._first_numbers[at]
            ),
        )

    def check_files(self) -> None:
        """Check the files of all parts; see `DocumentOffsets.check_file`."""
        for part in self._parts:
            part.check_file()

    def _take(self, numbers: Offsets) -> Offsets:
        part = np.searchsorted(self._first_numbers, numbers, side="right") - 1
        part = np.clip(part, 0, len(self._parts) - 1)
        return self._by_part(
            part,
            lambda at, mine: (
                self._parts[at].take(numbers[mine] - self._first_numbers[at])
                + self._first_tokens[at]
            ),
        )

    def _by_part(
        self, part: Offsets, look_up: Callable[[int, npt.NDArray[np.bool_]], Offsets]
    ) -> Offsets:
        found = np.empty(len(part), np.int64)
        for at in np.unique(part).tolist():
            mine = part == at
            found[mine] = look_up(at, mine)
        return found


class _Order:
    """Offsets that are checked to be non-decreasing when they are read.

    A file may be damaged, and a binary search in unsorted offsets returns a wrong
    result. So the offsets are divided into cells: the ends of all cells are
    checked before the first search, and each cell before the first search that
    ends in it. Offsets in memory were checked when they were passed.

    Parameters
    ----------
    offsets : int64 array, shape (num_all + 1,)
    cell : int
        The fewest offsets of a cell.
    num_cells : int
        The most cells.
    """

    __slots__ = ("_cell", "_ends", "_is_checked", "_num_cells", "_offsets", "_values")

    def __init__(
        self,
        offsets: Offsets | JoinedOffsets,
        *,
        cell: int = _CELL,
        num_cells: int = _NUM_CELLS,
    ) -> None:
        self._offsets, self._cell, self._num_cells = offsets, cell, num_cells
        # Positions of the cells' ends, and the offsets there; none where there is no file.
        self._ends: Offsets | None = None
        self._values = self._is_checked = np.zeros(0, np.int64)

    def find(self, position: int, *, side: Side = "left") -> int:
        """Return what `search` returns for one position."""
        return int(self.search(np.array([position], np.int64), side=side)[0])

    def search(self, positions: Offsets, *, side: Side = "left") -> Offsets:
        """Return the indices of positions among the offsets, as `numpy.searchsorted` does.

        Raises
        ------
        StoreError
            The offsets decrease where that could matter, or their file was
            replaced or changed.
        """
        if isinstance(self._offsets, JoinedOffsets):
            # Each part checks its own.
            return self._offsets.search(positions, side=side)
        found = np.searchsorted(self._offsets, positions, side=side)
        ends = self._cells()
        if ends is not None and not self._is_checked.all():
            # Where the offsets of numbers [0, 4, 8] are [0, 90, 200], the search among these puts
            # position 95 at 2: in the whole it must stand at number 5 to 8.
            cell = np.searchsorted(self._values, positions, side=side)
            inside = (cell > 0) & (cell < len(ends))
            self._look_into(np.unique(cell[inside] - 1), ends)
            low = np.append(0, ends + 1)[cell]
            high = np.append(ends, len(self._offsets))[cell]
            wrong = np.flatnonzero((found < low) | (found > high))
            if len(wrong):
                # The search went wrong because the offsets decrease in another place: find it.
                self.check(0, len(self._offsets) - 1)
        return found

    def check(self, first: int, last: int) -> None:
        """Check that the offsets from one to another one, included, do not decrease."""
        self.check_each(np.array([first], np.int64), np.array([last + 1], np.int64))

    def check_each(self, first: Offsets, stop: Offsets) -> None:
        """Check the same for several half-open ranges of offsets, which may be empty."""
        ends = self._cells()
        if ends is None or self._is_checked.all():
            return
        size = int(ends[1])
        is_some = stop > first
        num_cells = len(self._is_checked)
        # The last offset of all belongs to the last cell, which it ends.
        low, high = (
            np.minimum(numbers[is_some] // size, num_cells - 1) for numbers in (first, stop - 1)
        )
        # Ranges from cell 0 to 1 and from 1 to 1 begin at [1, 1, 0] and are past at [0, 0, 2].
        begins = np.bincount(low, minlength=num_cells + 1)
        past = np.bincount(high + 1, minlength=num_cells + 1)
        touched = np.cumsum(begins - past, dtype=np.int64)[:num_cells] > 0
        self._look_into(np.flatnonzero(touched), ends)

    def _cells(self) -> Offsets | None:
        """Return the ends of the cells, after a check of the file; None without a file."""
        if isinstance(self._offsets, JoinedOffsets) or not is_memory_map(self._offsets):
            return None
        confirm_now_and_then(self._offsets)
        if self._ends is None:
            last = len(self._offsets) - 1
            size = max(self._cell, -(-last // self._num_cells))
            ends = np.append(np.arange(0, last, size, dtype=np.int64), last)
            self._values = np.array(self._offsets[ends])
            self._check_sorted(self._values, ends)
            self._is_checked = np.zeros(len(ends) - 1, np.bool_)
            self._ends = ends
        return self._ends

    def _look_into(self, cells: Offsets, ends: Offsets) -> None:
        for cell in cells[~self._is_checked[cells]].tolist():
            first, last = int(ends[cell]), int(ends[cell + 1])
            values = np.asarray(self._offsets[first : last + 1])
            self._check_sorted(values, np.arange(first, last + 1, dtype=np.int64))
            self._is_checked[cell] = True

    def _check_sorted(self, values: Offsets, numbers: Offsets) -> None:
        falls = np.flatnonzero(values[1:] < values[:-1])
        if len(falls):
            at = int(falls[0])
            msg = (
                f"the offsets of documents in {getattr(self._offsets, 'filename', None)} must "
                f"never fall, got {values[at]:,} at number {numbers[at]:,} and "
                f"{values[at + 1]:,} at number {numbers[at + 1]:,}: the store is damaged; "
                "'tokenloom verify' reports more"
            )
            raise StoreError(msg)


def as_offsets(values: npt.ArrayLike, *, num_tokens: int) -> Offsets:
    """Return offsets of documents as an int64 array.

    Raises
    ------
    CorpusError
        They are not non-decreasing integers from 0 to ``num_tokens``.

    >>> as_offsets([0, 2, 5], num_tokens=5)
    array([0, 2, 5])
    """
    array = np.asanyarray(values)
    if (
        array.ndim != 1
        or array.dtype.kind not in "iu"
        or len(array) < 2
        or (int(array[0]), int(array[-1])) != (0, num_tokens)
        or bool((array[1:] < array[:-1]).any())
    ):
        msg = (
            "documents must be one-dimensional integers that never fall, from 0 to the "
            f"{count(num_tokens, 'token')}, got {np.array2string(array, threshold=6, edgeitems=2)}"
        )
        raise CorpusError(msg)
    return array.astype(np.int64, copy=False)


def _itself(offsets: JoinedOffsets) -> JoinedOffsets:
    return offsets


def _restore(make: Any, arguments: Any, start: int, stop: int) -> DocumentOffsets:
    return DocumentOffsets(make(*arguments), start=start, stop=stop)
