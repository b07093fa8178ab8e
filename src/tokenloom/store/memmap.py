"""Ids that are read from memory, from a file, or from several files as one array."""

import bisect
import contextlib
import errno
import itertools
import mmap
import operator
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.context import get_spawning_popen
from typing import Any, NamedTuple, Self, cast, overload

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from tokenloom._io.regular import open_regular
from tokenloom._wording import count
from tokenloom.errors import StoreError
from tokenloom.store.open_files import OPEN_FILES
from tokenloom.text.ids import Ids, MaskLimit, Offsets, is_memory_map, limit_ids

_CHUNK = 1 << 20
_MAX_SPAN = 1 << 62
# With at most this number of parts it is quickest to compare with all.
_FEW_PARTS = 16
# Shorter pieces are gathered id by id, longer ones copied one by one.
_SHORT_PIECE = 64
# Windows of at most this number of tokens are gathered id by id too, of this number of windows at
# once, so that the tokens stay in a processor's cache.
_SHORT_WINDOW = 3
_WINDOWS_AT_ONCE = 1 << 12
# Error numbers of a process, or a system, that can open no further file.
_TOO_MANY = (errno.EMFILE, errno.ENFILE)
# How long to wait until other files are closed, in seconds.
_WAITS = (0.001, 0.01, 0.05, 0.2, 0.5)
# A look at a file costs as much as a small batch.
_PAUSE_SECONDS = 1.0


class FileIdentity(NamedTuple):
    """Facts that show whether a file was replaced or changed.

    Attributes
    ----------
    device : int or None
        Number of the file system; None where another machine may use another
        number.
    inode : int
        Number of the file in that file system.
    num_bytes : int
    modified_ns : int or None
        Time of the last write, in nanoseconds since 1970; None if the caller's
        own map may write to the file.
    """

    device: int | None
    inode: int
    num_bytes: int
    modified_ns: int | None

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Return the identity of a file with this status."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def check(self, filename: str, status: os.stat_result) -> None:
        """Check that the file of this name was neither replaced nor changed.

        Raises
        ------
        StoreError
            It was; the message names each field that differs.
        """
        now = FileIdentity.of(status)
        if now == self:
            return
        differing = [
            f"{name} was {show(before)}, is {show(after)}"
            for (name, show), before, after in zip(_SHOWN, self, now, strict=True)
            if before is not None and before != after
        ]
        if differing:
            msg = (
                f"{filename} must stay as it was when it was opened, but it was changed or "
                f"replaced since ({'; '.join(differing)}): open the corpus again, and leave its "
                "files alone while they are in use"
            )
            raise StoreError(msg)


# What a message calls each part of an identity, and how it shows a value.
_SHOWN: tuple[tuple[str, Callable[[Any], object]], ...] = (
    ("file system", str),
    ("file number", str),
    ("number of bytes", "{:,}".format),
    ("time of the last change", lambda ns: np.datetime64(ns, "ns")),
)


class FileRange(NamedTuple):
    """A contiguous range of integers in a file.

    Attributes
    ----------
    filename : str
        Absolute path, so that processes in other folders find it.
    dtype : str
        NumPy's string for it, with the byte order, such as "<u2".
    offset : int
        Position of the first integer, in bytes.
    length : int
        Number of integers.
    num_ids : int or None
        Ids must be below it; None: every value of the dtype is allowed.
    identity : FileIdentity or None
        Identity of the file when it was first opened; None before that.
    """

    filename: str
    dtype: str
    offset: int
    length: int
    num_ids: int | None = None
    identity: FileIdentity | None = None

    def identified(self) -> "FileRange":
        """Return the range with the identity of its file, which it keeps if it has one.

        Raises
        ------
        StoreError
            The file is gone.
        """
        if self.identity is not None:
            return self
        return self._replace(identity=FileIdentity.of(_look_at(self.filename)))

    def confirm(self) -> None:
        """Check that the file was neither replaced nor changed.

        Raises
        ------
        StoreError
            It is gone, or was replaced or changed.
        """
        if self.identity is not None:
            self.identity.check(self.filename, _look_at(self.filename))


class IdMap(np.memmap[Any, Any]):
    """A memory map with the identity of its file and a bound of its ids.

    Attributes
    ----------
    num_ids : int or None
        Ids that are read must be below it.
    identity : FileIdentity or None
        Identity of the file, if it has a name.
    next_look : float
        When to check the file again, in seconds of the monotonic clock.
    """

    num_ids: int | None = None
    identity: FileIdentity | None = None
    next_look: float = 0.0

    def __array_finalize__(self, obj: Any) -> None:
        super().__array_finalize__(obj)
        self.num_ids = getattr(obj, "num_ids", None)
        self.identity = getattr(obj, "identity", None)


class Repeated(NamedTuple):
    """One integer in place of each of a number of them; it takes no memory."""

    value: int
    length: int
    dtype: str = "|u1"

    def expand(self) -> Ids:
        """Return the integers as an array, all of them the same place in memory."""
        return np.broadcast_to(np.array(self.value, self.dtype), (self.length,))


# Ids in a file, or in memory, as a part of many.
Part = FileRange | Repeated | Ids


class _Span(NamedTuple):
    """Parts of one dtype, taken as pieces of one array: the memory from the first to the last.

    Each index that is read lies within a part, never between two of them.

    Attributes
    ----------
    lasts : int64 array, shape (num_parts,)
        The last start of a window in each part; -1 for a part that it does not have.
    places : int64 array, shape (num_parts,)
        The addresses of their first ids.
    opened : dict of int to integer array
        The parts; a file stays open as long as its memory is read.
    shifts : int64 array, shape (num_parts,)
        A start plus the shift of its part is an index of ``items``.
    items : void array
        All windows, overlapping.
    """

    lasts: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    opened: dict[int, Ids]
    shifts: npt.NDArray[np.int64]
    items: npt.NDArray[np.void]


class ConcatenatedMemmap:
    """Ids in several files or arrays in memory, which are read as one array.

    Each process maps a file when it first reads it. The files that were read last
    stay open, up to a share of what the system allows a process; see
    `tokenloom.store.open_files`. A slice is a copy.

    Parameters
    ----------
    parts : sequence of FileRange or integer array
        At least one, none of them empty. They are read in the narrowest dtype
        that holds the ids of all parts.
    num_ids : int, optional
        Ids must be below it; by default the value of the first part.

    Raises
    ------
    StoreError
        A file is gone.
    """

    ndim = 1

    def __init__(self, parts: Sequence[Part], num_ids: int | None = None) -> None:
        self.parts: tuple[Part, ...] = tuple(map(_settle, parts))
        self.dtype: np.dtype[Any] = common_dtype([np.dtype(part.dtype) for part in self.parts])
        self.itemsize = self.dtype.itemsize
        lengths = np.array([length_of(part) for part in self.parts], np.int64)
        self.num_files = sum(isinstance(part, FileRange) for part in self.parts)
        self._stops = np.cumsum(lengths, dtype=np.int64)
        self._firsts: list[int] = (self._stops - lengths).tolist()
        first = self.parts[0]
        self.num_ids = num_ids
        if num_ids is None and isinstance(first, FileRange):
            self.num_ids = first.num_ids
        self._maps: OrderedDict[int, tuple[Ids, Ids]] = OrderedDict()
        # None before the first file is read.
        self._max_open: int | None = None
        self._is_random = False
        # By the width of windows, where the parts can be taken for pieces of one array.
        self._spans: dict[int, _Span] = {}
        dtypes = {np.dtype(part.dtype) for part in self.parts}
        is_stored = not any(isinstance(part, Repeated) for part in self.parts)
        self._is_one = is_stored and dtypes == {self.dtype}
        self.next_look = 0.0

    def __len__(self) -> int:
        return int(self._stops[-1])

    def __repr__(self) -> str:
        what = "file" if all(isinstance(part, FileRange) for part in self.parts) else "part"
        return (
            f"ConcatenatedMemmap({len(self):,} of {self.dtype} in {count(len(self.parts), what)})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # By its parts: a copy of what was mapped would hold the content of all files, and one of
        # `_Span` would read memory between the parts, which may be nobody's.
        return pack(self)

    @property
    def shape(self) -> tuple[int]:
        """Number of ids, as that of an array."""
        return (len(self),)

    @property
    def filename(self) -> str | None:
        """The first of the files, or None where all parts lie in memory."""
        files = (part.filename for part in self.parts if isinstance(part, FileRange))
        return next(files, None)

    @property
    def nbytes(self) -> int:
        """Bytes that all ids take."""
        return len(self) * self.itemsize

    @overload
    def __getitem__(self, key: int) -> np.integer[Any]: ...
    @overload
    def __getitem__(self, key: slice) -> Ids: ...
    def __getitem__(self, key: int | slice) -> Any:
        if not isinstance(key, slice):
            position = range(len(self))[operator.index(key)]
            return self._read(position, position + 1)[0]
        positions = range(len(self))[key]
        if not positions:
            return np.empty(0, self.dtype)
        ends = positions[0], positions[-1]
        return self._read(min(ends), max(ends) + 1)[:: positions.step]

    def __iter__(self) -> Iterator[np.integer[Any]]:
        for start in range(0, len(self), _CHUNK):
            yield from self[start : start + _CHUNK]

    def __array__(self, dtype: Any = None, *, copy: bool | None = None) -> Ids:
        return np.asarray(self[:], dtype)

    def tolist(self) -> list[int]:
        """Return all ids as a list."""
        ids: list[int] = self[:].tolist()
        return ids

    def slice_tokens(self, start: int, stop: int) -> "Tokens":
        """Return the ids [start, stop) without reading them."""
        parts: list[Part] = []
        for part, first in zip(self.parts, self._firsts, strict=True):
            low, high = max(start - first, 0), min(stop - first, length_of(part))
            if low >= high:
                continue
            if isinstance(part, FileRange):
                offset = part.offset + low * np.dtype(part.dtype).itemsize
                parts.append(part._replace(offset=offset, length=high - low))
            elif isinstance(part, Repeated):
                parts.append(part._replace(length=high - low))
            else:
                parts.append(part[low:high])
        return open_ranges(parts, num_ids=self.num_ids)

    def advise(self, *, is_random: bool) -> None:
        """Advise the system how the files will be read."""
        if is_random != self._is_random:
            self._is_random = is_random
            with OPEN_FILES.lock:
                maps = [opened for opened, _ in self._maps.values()]
            for opened in maps:
                advise(opened, is_random=is_random)

    @property
    def num_open(self) -> int:
        """How many files are open."""
        return len(self._maps)

    def keep(self, max_open: int) -> None:
        """Keep at most this number of files open, and close those that were read before others."""
        self._max_open = max_open
        if self.num_files > max_open:
            self._spans = {}
        while len(self._maps) > max_open:
            self._maps.popitem(last=False)

    def _keeps_all(self) -> bool:
        """Return whether all files stay open once they were read."""
        if self.num_files and self._max_open is None:
            OPEN_FILES.join(self)
        return self.num_files <= (self._max_open or 0)

    def gather_windows(self, starts: npt.NDArray[np.int64], *, width: int) -> Ids:
        """Return a copy of the windows that start at ``starts``."""
        confirm_now_and_then(self)
        flat = starts.ravel()
        # Of files that end at [4, 9] the starts [0, 5, 3] lie in the files [0, 1, 0]; a width of 2
        # fits at 0 and 5, and reaches from 3 into the next file.
        part_of = self._find_parts(flat)
        gathered = None
        if self._is_one and self._keeps_all():
            try:
                gathered = self._gather_at_once(flat, part_of, width)
            except StoreError:
                # There is room for all files no more, and part by part a few are enough.
                if self._keeps_all():
                    raise
        windows, across = gathered or self._gather_by_part(flat, part_of, width)
        for row, start in zip(across, flat[across].tolist(), strict=True):
            # These reach into the next file, or past the end, where the last id is repeated.
            num_read = self._copy(start, windows[row])
            windows[row, num_read:] = windows[row, num_read - 1]
        self._check(windows)
        return windows.reshape(*starts.shape, width)

    def _find_parts(self, starts: npt.NDArray[np.int64]) -> npt.NDArray[np.integer[Any]]:
        if len(self.parts) > _FEW_PARTS:
            return np.searchsorted(self._stops, starts, side="right")
        # A binary search of random starts guesses wrong at each step.
        part_of: npt.NDArray[np.uint8]
        part_of = np.add.reduce(starts >= self._stops[:-1, None], axis=0, dtype=np.uint8)
        return part_of

    def _check(self, ids: Ids) -> None:
        """Refuse ids that are out of range; those in memory were checked before."""
        if self.num_files:
            _check_read(ids, self)

    def _gather_by_part(
        self, starts: npt.NDArray[np.int64], part_of: npt.NDArray[np.integer[Any]], width: int
    ) -> tuple[Ids, list[int]]:
        """Return a copy of the windows that fit into their parts, and the rows of the others.

        The windows of each part are copied by a call of NumPy.
        """
        fits = starts + width <= self._stops[part_of]
        windows = np.empty((len(starts), width), self.dtype)
        items = windows.view(_void(width * self.itemsize))[:, 0]
        for index, rows in self._group(part_of, fits):
            ids, first = self._open(index)
            if ids.dtype == self.dtype and ids.flags.c_contiguous:
                items[rows] = _window_items(ids, width)[starts[rows] - first]
            else:
                windows[rows] = _copy_windows(ids, starts[rows] - first, width)
        return windows, np.flatnonzero(~fits).tolist()

    def _gather_at_once(
        self, starts: npt.NDArray[np.int64], part_of: npt.NDArray[np.integer[Any]], width: int
    ) -> tuple[Ids, list[int]] | None:
        """Return the same as `_gather_by_part`, by one call of NumPy for all parts.

        None where the parts cannot be taken for pieces of one array; see `_Span`.
        """
        span, across = self._spans.get(width), list[int]()
        if span is None or (starts > span.lasts[part_of]).any():
            fits = starts + width <= self._stops[part_of]
            span = self._make_span(part_of[fits], width, span)
            if span is None:
                return None
            with OPEN_FILES.lock:
                if self._keeps_all():
                    self._spans[width] = span
            # Into the rows of those that do not fit goes one that does.
            inside, across = int(fits.argmax()), np.flatnonzero(~fits).tolist()
            starts = np.where(fits, starts, starts[inside])
            part_of = np.where(fits, part_of, part_of[inside])
        windows: Ids = span.items[starts + span.shifts[part_of]].view(self.dtype)
        return windows.reshape(-1, width), across

    def _make_span(
        self, part_of: npt.NDArray[np.integer[Any]], width: int, before: "_Span | None"
    ) -> "_Span | None":
        """Return the memory of the parts that are read now, and of those that were before."""
        if not part_of.size:
            return None
        is_new = np.bincount(part_of, minlength=len(self.parts)) > 0
        if before is None:
            places, opened = np.zeros(len(self.parts), np.int64), dict[int, Ids]()
        else:
            # There may be thousands of parts, each of which is looked at once.
            is_new &= before.lasts < 0
            if not is_new.any():
                return before
            places, opened = before.places.copy(), before.opened.copy()
        for index in np.flatnonzero(is_new).tolist():
            opened[index], _ = self._open(index)
            if not self._keeps_all():
                # What is open already is left to others.
                return None
            places[index] = opened[index].__array_interface__["data"][0]
        used = np.array(sorted(opened), np.int64)
        lengths = np.diff(self._stops, prepend=0)
        begin = int(places[used].min())
        end = int((places + lengths * self.itemsize)[used].max())
        shifts, rest = np.divmod(places - begin, self.itemsize)
        # NumPy counts the bytes of all windows, which overlap, in 63 bits.
        if rest[used].any() or (end - begin) * width >= _MAX_SPAN:
            self._is_one = False
            return None
        lasts = np.full(len(self.parts), -1, np.int64)
        lasts[used] = self._stops[used] - width
        shifts += lengths - self._stops
        base = opened[int(used[places[used].argmin()])]
        shape = ((end - begin) // self.itemsize - width + 1,)
        items = as_strided(_window_items(base, width), shape=shape, strides=(self.itemsize,))
        return _Span(lasts, places, opened, shifts, items)

    def _group(
        self, part_of: npt.NDArray[np.integer[Any]], fits: npt.NDArray[np.bool_]
    ) -> list[tuple[int, npt.NDArray[np.int64]]]:
        """Return for each part of the windows that fit its number and which of them it holds."""
        rows = np.flatnonzero(fits)
        parts = part_of[rows]
        if len(self.parts) <= 1 << 16:
            # NumPy sorts 16 bits by counting.
            parts = parts.astype(np.uint16)
        order = np.argsort(parts, kind="stable")
        rows, parts = rows[order], parts[order]
        # Rows by file, such as [0, 2, 1] of the files [0, 0, 1], have the edges [0, 2, 3].
        edges = [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist(), len(rows)]
        groups = [
            (int(parts[low]), rows[low:high])
            for low, high in itertools.pairwise(edges if len(rows) else [0])
        ]
        if not self._keeps_all():
            # Open files first: in the same order each time, none of the files would still be open.
            groups.sort(key=lambda group: group[0] not in self._maps)
        return groups

    def gather_pieces(self, starts: Offsets, lengths: Offsets) -> Ids:
        """Return a copy of ranges, one after the other; see the function of this name."""
        confirm_now_and_then(self)
        stops = starts + lengths
        # An empty range may start where the last file ends.
        part_of = np.searchsorted(self._stops, starts, side="right").clip(max=len(self.parts) - 1)
        fits = stops <= self._stops[part_of]
        # A view keeps its file open, and the next one may find no room.
        copies = not (self._keeps_all() and fits.all() and self._are_open(part_of))
        views = []
        for start, stop, part, is_inside in zip(
            starts.tolist(), stops.tolist(), part_of.tolist(), fits.tolist(), strict=True
        ):
            ids, first = self._open(part) if is_inside else (self._read(start, stop), start)
            view = ids[start - first : stop - first]
            views.append(view.copy() if copies else view)
        pieces: Ids = np.concatenate(
            views or [np.zeros(0, self.dtype)], dtype=self.dtype, casting="unsafe"
        )
        _check_read(pieces, self)
        return pieces

    def _are_open(self, part_of: npt.NDArray[np.integer[Any]]) -> bool:
        """Return whether none of some parts is a file that is still to be opened."""
        return not any(
            index not in self._maps and isinstance(self.parts[index], FileRange)
            for index in set(part_of.tolist())
        )

    def _open(self, index: int) -> tuple[Ids, int]:
        """Return the ids of a part, and the position of the first of them."""
        part, first = self.parts[index], self._firsts[index]
        if isinstance(part, Repeated):
            return part.expand(), first
        if not isinstance(part, FileRange):
            return part, first
        opened = self._maps.get(index)
        if opened is None:
            ids = open_range(part)
            advise(ids, is_random=self._is_random)
            opened = ids, np.asarray(ids)
            self._hold(index, opened)
        elif not self._keeps_all():
            # Another thread may have closed it in the meantime.
            with contextlib.suppress(KeyError):
                self._maps.move_to_end(index)
        return opened[1], first

    def _hold(self, index: int, opened: tuple[Ids, Ids]) -> None:
        """Keep a file open, and close the one that was read before all others."""
        with OPEN_FILES.lock:
            OPEN_FILES.join(self)
            self._maps[index] = opened
            self.keep(self._max_open or 1)

    def _read(self, start: int, stop: int) -> Ids:
        read: Ids = np.empty(stop - start, self.dtype)
        self._copy(start, read)
        _check_read(read, self)
        return read

    def _copy(self, start: int, target: Ids) -> int:
        """Copy ids from a position on into an array, and return how many there were."""
        num_copied = 0
        for index in range(bisect.bisect_right(self._firsts, start) - 1, len(self.parts)):
            ids, first = self._open(index)
            piece = ids[start + num_copied - first :][: len(target) - num_copied]
            # The common dtype of uint64 and signed ids is int64, in which ids that are too large
            # become negative.
            target[num_copied : num_copied + len(piece)] = piece
            num_copied += len(piece)
            if num_copied == len(target):
                break
        return num_copied


Tokens = Ids | ConcatenatedMemmap


def open_range(part: FileRange) -> Ids:
    """Return the memory map of a range of a file, read-only.

    Raises
    ------
    StoreError
        The file is gone, is no regular file, is too short, or was replaced or
        changed since the range was made.
    """
    filename, dtype, offset, length, num_ids, identity = part
    try:
        opened, status = _map(part)
    except (OSError, ValueError) as error:
        msg = (
            f"{filename} must have {count(length, 'value')} of {np.dtype(dtype)} from byte "
            f"{offset:,} on, but cannot be read: {error}"
        )
        raise StoreError(msg) from error
    if identity is not None:
        identity.check(filename, status)
    opened.filename = filename
    opened.num_ids = num_ids
    opened.identity = FileIdentity.of(status) if identity is None else identity
    return opened


def _map(part: FileRange) -> tuple[IdMap, os.stat_result]:
    for seconds in _WAITS:
        num_closings = OPEN_FILES.num_closings
        try:
            return _map_once(part)
        except OSError as error:
            if error.errno not in _TOO_MANY:
                raise
        OPEN_FILES.close_half(num_closings)
        # Other threads may still read files that they let go.
        time.sleep(seconds)
    return _map_once(part)


def _map_once(part: FileRange) -> tuple[IdMap, os.stat_result]:
    with open_regular(part.filename) as file:
        status = os.fstat(file.fileno())
        shape = (part.length,)
        return IdMap(file, dtype=part.dtype, mode="r", offset=part.offset, shape=shape), status


def check_reads(tokens: Ids, *, num_ids: int | None) -> Ids:
    """Return a memory map whose ids and file are checked when they are read.

    Ids must be in [0, num_ids); without ``num_ids`` they must be non-negative and
    fit into an int64. The file must not be replaced, and its content may change
    only if the map is writable.
    """
    checked = tokens.view(IdMap)
    checked.num_ids = limit_ids(tokens.dtype, num_ids)
    checked.identity = _identify(checked)
    return checked


def confirm(tokens: Tokens) -> None:
    """Check that the files of ids were neither replaced nor changed.

    Takes some microseconds per file. Does nothing for an array in memory. Reads in the
    next second do not look again, and in a longer time if a check takes long.

    Raises
    ------
    StoreError
        A file is gone, or was replaced or changed.
    """
    if not isinstance(tokens, IdMap | ConcatenatedMemmap):
        return
    # Where this fails, the next read looks again and fails too.
    tokens.next_look, began_at = 0.0, time.monotonic()
    if isinstance(tokens, ConcatenatedMemmap):
        for part in tokens.parts:
            if isinstance(part, FileRange):
                part.confirm()
    elif tokens.identity is not None:
        filename = str(tokens.filename)
        tokens.identity.check(filename, _look_at(filename))
    now = time.monotonic()
    tokens.next_look = now + max(_PAUSE_SECONDS, 50 * (now - began_at))


def confirm_now_and_then(tokens: Tokens) -> None:
    """Call `confirm`, unless it did not fail in about the last second.

    Raises
    ------
    StoreError
        As in `confirm`.
    """
    if isinstance(tokens, IdMap | ConcatenatedMemmap) and time.monotonic() >= tokens.next_look:
        confirm(tokens)


def open_ranges(parts: Sequence[Part], *, num_ids: int | None = None) -> Tokens:
    """Return one part as a memory map or an array, or several as one array.

    Parameters
    ----------
    parts : sequence of FileRange or integer array
        At least one.
    num_ids : int, optional
        As in `ConcatenatedMemmap`.
    """
    if len(parts) > 1:
        return ConcatenatedMemmap(parts, num_ids)
    (part,) = parts
    if isinstance(part, Repeated):
        return part.expand()
    if not isinstance(part, FileRange):
        return part
    return open_range(part if num_ids is None else part._replace(num_ids=num_ids))


def concatenate(arrays: Sequence[Tokens | Repeated], *, num_ids: int | None) -> Tokens:
    """Return several arrays as one, without copying files or contiguous arrays.

    Parameters
    ----------
    arrays : sequence of integer array, each of shape (num_tokens,), or Repeated
        At least one, none of them empty.
    num_ids : int or None
        Ids must be below it; where it is None, they may be anything that fits into an int64.

    >>> concatenate([np.array([1, 2], np.uint8), np.array([700], np.uint16)], num_ids=None)
    ConcatenatedMemmap(3 of uint16 in 2 parts)
    """
    parts = [part for array in arrays for part in _parts_of(array)]
    dtype = common_dtype([np.dtype(part.dtype) for part in parts])
    # A file cannot hold ids that are too large for its dtype.
    limit = limit_ids(dtype, num_ids)
    if limit is None and len(parts) > 1:
        # The limit of one file does not hold for the others.
        parts = [p._replace(num_ids=None) if isinstance(p, FileRange) else p for p in parts]
    return open_ranges(parts, num_ids=limit)


def close(tokens: Tokens) -> Tokens:
    """Return ids in a file as an array that maps the file when it is first read."""
    parts = _parts_of(tokens)
    return ConcatenatedMemmap(parts) if isinstance(parts[0], FileRange) else tokens


def common_dtype(dtypes: Sequence[np.dtype[Any]]) -> np.dtype[Any]:
    """Return the narrowest type of integers that holds the ids of all these types.

    >>> common_dtype([np.dtype("uint16"), np.dtype("int16")])
    dtype('int32')
    """
    common = np.result_type(*dtypes)
    # NumPy would take floats for uint64 beside signed ones; no id needs more than an int64.
    return common if common.kind in "iu" else np.dtype(np.int64)


def length_of(part: Part) -> int:
    """Return how many ids a part has."""
    return part.length if isinstance(part, FileRange | Repeated) else len(part)


def _settle(part: Part) -> Part:
    """Return a part with the identity of its file, or as one piece of memory."""
    if isinstance(part, FileRange):
        return part.identified()
    return part if isinstance(part, Repeated) else np.ascontiguousarray(part)


def slice_tokens(tokens: Tokens, start: int, stop: int) -> Tokens:
    """Return the ids [start, stop) without a copy.

    >>> slice_tokens(np.arange(9), 3, 5).tolist()
    [3, 4]
    """
    if isinstance(tokens, ConcatenatedMemmap):
        return tokens.slice_tokens(start, stop)
    return tokens[start:stop]


def advise(tokens: Tokens, *, is_random: bool) -> None:
    """Advise the system how a memory map will be read; see madvise(2).

    Without this, each random read fetches as much as the disk's read-ahead, which
    may be megabytes. Does nothing for an array in memory, or on a system without
    madvise.

    Parameters
    ----------
    tokens : integer array, shape (num_tokens,)
    is_random : bool
        Whether the next reads are random rather than sequential.
    """
    if isinstance(tokens, ConcatenatedMemmap):
        tokens.advise(is_random=is_random)
        return
    if not (is_memory_map(tokens) and hasattr(mmap, "MADV_RANDOM")):
        return
    file_map = _root(tokens).base
    if isinstance(file_map, mmap.mmap):
        file_map.madvise(mmap.MADV_RANDOM if is_random else mmap.MADV_NORMAL)


def gather_windows(tokens: Tokens, starts: npt.NDArray[np.int64], *, width: int) -> Ids:
    """Return a copy of the windows that start at ``starts``.

    Parameters
    ----------
    tokens : integer array, shape (num_tokens,)
    starts : int64 array, any shape
        Each in [0, num_tokens).
    width : int
        Tokens per window. Where a window reaches past the end, the last token
        is repeated.

    Returns
    -------
    array of the dtype of ``tokens``, shape (*starts.shape, width)

    Raises
    ------
    StoreError
        A file is gone, was changed or replaced since it was opened, or holds
        ids that are not below its vocabulary size.

    >>> gather_windows(np.arange(9, dtype=np.uint8), np.array([0, 4]), width=3).tolist()
    [[0, 1, 2], [4, 5, 6]]
    """
    if isinstance(tokens, ConcatenatedMemmap):
        return tokens.gather_windows(starts, width=width)
    confirm_now_and_then(tokens)
    plain = np.asarray(tokens)
    last_start = len(plain) - width
    if last_start >= 0 and (starts.size == 0 or int(starts.max()) <= last_start):
        windows = _copy_windows(plain, starts, width)
    else:
        positions = starts[..., None] + np.arange(width, dtype=np.int64)
        windows = plain[np.minimum(positions, len(plain) - 1)]
    _check_read(windows, tokens)
    return windows


def _copy_windows(ids: Ids, starts: npt.NDArray[np.int64], width: int) -> Ids:
    """Return the windows at ``starts``, all of which fit into an array."""
    if width <= _SHORT_WINDOW:
        flat, windows = starts.ravel(), np.empty((starts.size, width), ids.dtype)
        for first in range(0, len(flat), _WINDOWS_AT_ONCE):
            rows = slice(first, first + _WINDOWS_AT_ONCE)
            for place in range(width):
                windows[rows, place] = ids[flat[rows] + place]
        return windows.reshape(*starts.shape, width)
    if not ids.flags.c_contiguous:
        return sliding_window_view(ids, width)[starts]
    items = _window_items(ids, width)[starts.ravel()]
    return items.view(ids.dtype).reshape(*starts.shape, width)


def _window_items(ids: Ids, width: int) -> npt.NDArray[np.void]:
    """Return all windows of a contiguous array as overlapping items: shape (num_windows,).

    An item is copied whole, up to twice as fast as a row of a sliding_window_view,
    which NumPy copies in a loop over its tokens.
    """
    shape = (len(ids) - width + 1,)
    return np.ndarray(shape, _void(width * ids.itemsize), ids, 0, (ids.itemsize,))


def _void(num_bytes: int) -> "np.dtype[np.void]":
    """Return the dtype of items of ``num_bytes`` bytes, by its name.

    While NumPy reads ``(np.void, num_bytes)`` it loses a Ctrl-C.
    """
    return np.dtype(f"V{num_bytes}")


def gather_pieces(tokens: Tokens, starts: Offsets, lengths: Offsets) -> Ids:
    """Return a copy of ranges of different lengths, one after the other.

    Parameters
    ----------
    tokens : integer array, shape (num_tokens,)
    starts, lengths : int64 array, shape (num_pieces,)
        Half-open ranges [start, start + length) within the tokens.

    Returns
    -------
    array of the dtype of ``tokens``, shape (sum(lengths),)

    Raises
    ------
    StoreError
        As in `gather_windows`; or a range reaches past the end.

    >>> gather_pieces(np.arange(9, dtype=np.uint8), np.array([4, 0]), np.array([2, 3])).tolist()
    [4, 5, 0, 1, 2]
    """
    _check_ranges(tokens, starts, lengths)
    if isinstance(tokens, ConcatenatedMemmap):
        return tokens.gather_pieces(starts, lengths)
    confirm_now_and_then(tokens)
    plain, size = np.asarray(tokens), int(lengths.sum())
    if size < _SHORT_PIECE * len(lengths):
        # Ranges [4, 6) and [0, 3) begin at 0 and 2 in the result: 4 - 0 and 0 - 2 are added.
        shifts = starts - np.cumsum(lengths, dtype=np.int64) + lengths
        pieces: Ids = plain[np.arange(size, dtype=np.int64) + np.repeat(shifts, lengths)]
    else:
        ranges = map(slice, starts.tolist(), (starts + lengths).tolist())
        pieces = np.concatenate([plain[:0], *map(plain.__getitem__, ranges)])
    _check_read(pieces, tokens)
    return pieces


def gather_ids(tokens: Tokens, positions: Offsets) -> Ids:
    """Return the ids at some positions.

    Parameters
    ----------
    tokens : integer array, shape (num_tokens,)
    positions : int64 array, shape (num_positions,)

    Raises
    ------
    StoreError
        As in `gather_windows`; or a position lies past the end.

    >>> gather_ids(np.arange(9, dtype=np.uint8), np.array([4, 0])).tolist()
    [4, 0]
    """
    _check_ranges(tokens, positions, np.ones_like(positions))
    return gather_windows(tokens, positions, width=1)[:, 0]


def _check_ranges(tokens: Tokens, starts: Offsets, lengths: Offsets) -> None:
    is_inside = not len(starts) or (starts.min() >= 0 and (starts + lengths).max() <= len(tokens))
    if not is_inside:
        msg = (
            f"documents must lie within the {count(len(tokens), 'token')}, got some that do not: "
            "the store is damaged; 'tokenloom verify' reports more"
        )
        raise StoreError(msg)


def read_whole(tokens: Tokens) -> Ids:
    """Return all ids as one array, copied where they lie in several files.

    Raises
    ------
    StoreError
        As in `gather_windows`.
    """
    confirm(tokens)
    whole = np.asarray(tokens)
    if isinstance(tokens, np.ndarray):
        _check_read(whole, tokens)
    confirm(tokens)
    return whole


def pack(tokens: Tokens) -> tuple[Callable[..., Tokens], tuple[Any, ...]]:
    """Return a function and its arguments that make ``tokens`` again in another process.

    A memory map is packed as the name, the identity and the range of its file, so
    that a worker process opens the file itself. Any other array is packed whole.

    Raises
    ------
    StoreError
        The file is gone, or was changed or replaced since it was opened.
    """
    confirm(tokens)
    if isinstance(tokens, ConcatenatedMemmap):
        return ConcatenatedMemmap, (tuple(map(_for_elsewhere, tokens.parts)), tokens.num_ids)
    (part,) = _parts_of(tokens)
    if isinstance(part, FileRange):
        return open_range, (_for_elsewhere(part),)
    return np.asarray, (part,)


def _parts_of(tokens: Tokens | Repeated) -> tuple[Part, ...]:
    """Return the file ranges of ids, or the array itself if it lies in memory."""
    if isinstance(tokens, Repeated):
        return (tokens,)
    if isinstance(tokens, ConcatenatedMemmap):
        return tokens.parts
    if not (isinstance(tokens, np.memmap) and is_memory_map(tokens)):
        return (np.asarray(tokens),)
    if not tokens.flags.c_contiguous or tokens.mode == "c":
        # Every second token, or changes that are in memory only: no range of the file.
        copied = np.ascontiguousarray(np.asarray(tokens))
        # An array in memory is not checked again when it is read.
        _check_read(copied, tokens)
        return (copied,)
    root = _root(tokens)
    here = tokens.__array_interface__["data"][0]
    there = root.__array_interface__["data"][0]
    offset = root.offset + here - there
    num_ids = getattr(tokens, "num_ids", None)
    identity = tokens.identity if isinstance(tokens, IdMap) else _identify(tokens)
    filename = str(root.filename)
    return (FileRange(filename, tokens.dtype.str, offset, len(tokens), num_ids, identity),)


def _for_elsewhere(part: Part) -> Part:
    """Return a part for another process, without the device if it may be on another machine."""
    if not isinstance(part, FileRange) or part.identity is None:
        return part
    if get_spawning_popen() is not None:
        return part
    return part._replace(identity=part.identity._replace(device=None))


def _identify(tokens: "np.memmap[Any, Any]") -> FileIdentity | None:
    """Return the identity of the file of a caller's map, or None if the file is gone."""
    try:
        identity = FileIdentity.of(os.stat(str(tokens.filename)))  # noqa: PTH116  quicker
    except OSError:
        return None
    return identity if tokens.mode in ("r", "c") else identity._replace(modified_ns=None)


def _look_at(filename: str) -> os.stat_result:
    try:
        return os.stat(filename)  # noqa: PTH116  quicker, and called for each block
    except OSError as error:
        msg = (
            f"{filename} must stay where it is while it is in use, got: "
            f"{error.strerror or error}: put it back, and open the corpus again"
        )
        raise StoreError(msg) from error


def _root(tokens: Ids) -> "np.memmap[Any, Any]":
    """Return the memory map from which a slice was taken."""
    root: Any = tokens
    while isinstance(root.base, np.memmap):
        root = root.base
    return cast("np.memmap[Any, Any]", root)


def _check_read(ids: Ids, source: Tokens) -> None:
    """Refuse ids from files that are out of range."""
    num_ids = getattr(source, "num_ids", None)
    if num_ids is None or not ids.size:
        return
    low, high = int(ids.min()) if ids.dtype.kind == "i" else 0, int(ids.max())
    if low < 0 or high >= num_ids:
        many = (
            f" or one of {len(source.parts) - 1} more"
            if isinstance(source, ConcatenatedMemmap)
            else ""
        )
        values, other = f"ids in [0, {num_ids})", "its type or vocabulary is another one"
        if isinstance(num_ids, MaskLimit):
            values, other = "a loss mask of the integers 0 and 1", "it is another file"
        msg = (
            f"{getattr(source, 'filename', None)}{many} must hold {values}, got "
            f"{low if low < 0 else high}: it is damaged ('tokenloom verify' checks a store), or "
            f"{other}"
        )
        raise StoreError(msg)
