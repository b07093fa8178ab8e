"""Documents: their texts, and where they begin and end in a corpus."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenloom.errors import ArgumentError, CorpusError, StoreError
from tokenloom.maps import pack

Offsets = npt.NDArray[np.int64]
# Offsets that are hashed at once: 8 MiB.
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text that stands for itself, such as a review.

    Attributes
    ----------
    text : str
    metadata : mapping of str
        What is known about it; which keys there are depends on the corpus.
    """

    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Documents:
    """The documents in a range of tokens; those at its ends may be cut.

    Parameters
    ----------
    offsets : int64 array, shape (num_all + 1,)
        From 0 up, never falling; in memory or a memory map. Document i is the
        tokens [offsets[i], offsets[i + 1]), which may be none.
    start, stop : int
        The range of tokens, half-open; all of them by default.
    """

    __slots__ = ("_first", "_last", "_offsets", "_start", "_stop")

    def __init__(self, offsets: Offsets, *, start: int = 0, stop: int | None = None) -> None:
        end = int(offsets[-1])
        self._offsets = offsets
        self._start, self._stop = start, end if stop is None else stop
        # A document without tokens belongs to what follows it, or else to the end.
        first = int(np.searchsorted(offsets, self._start))
        last = int(np.searchsorted(offsets, self._stop))
        self._first = first if offsets[first] == self._start else first - 1
        self._last = len(offsets) - 1 if self._stop == end else last

    def __len__(self) -> int:
        return self._last - self._first

    def offsets(self) -> Offsets:
        """Return the offsets in this range: int64 array, shape (len(self) + 1,)."""
        part = np.asarray(self._offsets[self._first : self._last + 1])
        if (self._start, self._stop) == (0, int(self._offsets[-1])):
            return part
        return np.clip(part, self._start, self._stop) - self._start

    def hash(self) -> str:
        """Return ``"sha256:..."`` of all offsets in this range.

        Documents of the same lengths have the same hash, wherever the range
        starts. Few offsets at a time are in memory.

        >>> documents = Documents(np.array([0, 2, 5, 7, 10]))
        >>> documents.section(0, 5).hash() == documents.section(5, 10).hash()
        True
        """
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
            The offsets, out of a file, are no such range.
        """
        if not 0 <= index < len(self):
            msg = f"a document's number must be in [0, {len(self)}), got {index}"
            raise ArgumentError(msg)
        start, stop = self._offsets[self._first + index : self._first + index + 2].tolist()
        low, high = max(start, self._start) - self._start, min(stop, self._stop) - self._start
        if not 0 <= low <= high:
            msg = (
                f"document {index} must be a range of tokens, got [{start}, {stop}): "
                "the store is damaged; 'tokenloom verify' tells more"
            )
            raise StoreError(msg)
        return low, high

    def section(self, start: int, stop: int) -> "Documents":
        """Return the documents of a range within this one."""
        return Documents(self._offsets, start=self._start + start, stop=self._start + stop)

    def boundary(self, position: int) -> int:
        """Return where a document ends, at or before a position, else the first after it.

        Parameters
        ----------
        position : int
            Counted from the start of the range.

        Returns
        -------
        int
            Counted likewise; 0 where there is no boundary inside the range.
        """
        first = int(np.searchsorted(self._offsets, self._start, side="right"))
        stop = int(np.searchsorted(self._offsets, self._stop))
        if first >= stop:
            return 0
        before = int(np.searchsorted(self._offsets, position + self._start, side="right")) - 1
        return int(self._offsets[min(max(before, first), stop - 1)]) - self._start

    def starts_within(self, starts: Offsets, lengths: Offsets, *, width: int) -> Offsets:
        """Return where documents start inside of windows.

        A document that was cut starts where the range does. Those without
        tokens start where the next one does.

        Parameters
        ----------
        starts, lengths : int64 array, shape (num_windows,)
            Windows [start, start + length), counted from the start of the range.
        width : int
            No length is above it.

        Returns
        -------
        int64 array, shape (num_found,)
            Ascending positions in the flattened array of shape (num_windows, width).

        >>> documents = Documents(np.array([0, 2, 2, 5, 9]))
        >>> documents.starts_within(np.array([4, 0]), np.array([3, 3]), width=4)
        array([1, 4, 6])
        """
        absolute = starts + self._start
        first = np.searchsorted(self._offsets, absolute)
        counts = np.searchsorted(self._offsets, absolute + lengths) - first
        window = np.repeat(np.arange(len(starts)), counts)
        # How many of its window's documents stand before each one found.
        rank = np.arange(len(window)) - np.repeat(np.cumsum(counts) - counts, counts)
        found = np.asarray(self._offsets[first[window] + rank]) - absolute[window] + window * width
        begins = np.flatnonzero((starts == 0) & (lengths > 0)) * width
        return np.unique(np.concatenate([found, begins]).astype(np.int64))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (*pack(self._offsets), self._start, self._stop)


def as_offsets(values: npt.ArrayLike, *, num_tokens: int) -> Offsets:
    """Return offsets of documents as an int64 array.

    Raises
    ------
    CorpusError
        They are no integers that go from 0 to ``num_tokens`` and never fall.

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
            f"{num_tokens} tokens, got {np.array2string(array, threshold=6, edgeitems=2)}"
        )
        raise CorpusError(msg)
    return array.astype(np.int64, copy=False)


def _restore(make: Any, arguments: Any, start: int, stop: int) -> Documents:
    return Documents(make(*arguments), start=start, stop=stop)
