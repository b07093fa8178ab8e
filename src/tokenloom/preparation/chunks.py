"""Sources cut into chunks, by a rule that depends on nothing but the sources.

A chunk is some slices: runs of bytes, each of one source. Where a slice
may end depends on what a document is, and on what a token is.
"""

import functools
import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from tokenloom._io.compressed import Stream, Undecodable
from tokenloom._io.regular import open_regular
from tokenloom._wording import count
from tokenloom.errors import CorpusError
from tokenloom.text.boundaries import (
    DOCUMENTS,
    Boundary,
    cut_in_paragraph,
    cut_lines,
    cut_paragraphs,
    is_blank,
)
from tokenloom.text.normalize import NOTHING, state_after

# What a document is: the file, what stands between blank lines, a JSON object
# on a line, or a JSON string on a line.
Form = Literal["file", "paragraph", "record", "string"]

# The most slices of a chunk, which very small sources would fill with many.
_MAX_SLICES = 10_000
_READ_BYTES = 1 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file to be read.

    Attributes
    ----------
    name : str
        What people call it.
    path : Path
        Where it is.
    form : "file", "paragraph", "record" or "string"
    num_bytes, changed_ns : int
        Its size, and when it was last changed; reading it ends with an error
        if these are others then. -1: not compared.
    encoding : str
        Of its text; all offsets are those of the same text in UTF-8.
    undecodable : "stop", "replace" or "mark"
        See `tokenloom._io.compressed.Stream`.
    """

    name: str
    path: Path
    form: Form
    num_bytes: int = -1
    changed_ns: int = -1
    encoding: str = "utf-8"
    undecodable: Undecodable = "stop"

    def open(self, *, offset: int = 0, hashes: bool = False) -> Stream:
        """Return its bytes from an offset on."""
        return Stream(
            self.path,
            name=self.name,
            offset=offset,
            hashes=hashes,
            encoding=self.encoding,
            undecodable=self.undecodable,
        )


class Cursor(NamedTuple):
    """Where a slice begins.

    Attributes
    ----------
    source : int
        Which source, from 0.
    offset : int
        Bytes of it, after decompression and as UTF-8, that come before.
    state : int
        See `tokenloom.text.normalize.state_after`.
    is_inside : bool
        Whether a document continues here.
    line : int
        Line ends of the source that come before.
    """

    source: int = 0
    offset: int = 0
    state: int = NOTHING
    is_inside: bool = False
    line: int = 0


class Slice(NamedTuple):
    """Bytes of a source, one after the other.

    Attributes
    ----------
    start : Cursor
        Where it begins.
    name : str
        Of the source.
    form : Form
        Of the source.
    content : bytes
    goes_on : bool
        Whether its last document continues in the next slice.
    """

    start: Cursor
    name: str
    form: Form
    content: bytes
    goes_on: bool


class Chunk(NamedTuple):
    """What one call does.

    Attributes
    ----------
    number : int
        Which chunk, from 0.
    slices : tuple of Slice
    stop : Cursor
        Where the next chunk begins.
    position : int
        Bytes, before decompression, that were read of all sources so far.
    digests : dict of int to str
        SHA-256 of each source that ends in it, where they are computed.
    prefix : (int, int, str) or None
        Of the source that does not end in it: which one it is, how many bytes
        of it were read so far, before decompression, and their SHA-256.
    """

    number: int
    slices: tuple[Slice, ...]
    stop: Cursor
    position: int
    digests: dict[int, str]
    prefix: tuple[int, int, str] | None = None


def choose_undecodable(on_error: str, *, reads_bytes: bool) -> Undecodable:
    """Return what becomes of bytes that are not in the encoding of a source.

    A document with a byte that is no UTF-8 is found when it is decoded, so that
    it is left out or counted like any other; bytes as tokens are not decoded.

    >>> choose_undecodable("skip", reads_bytes=False)
    'mark'
    """
    if on_error == "stop":
        return "stop"
    return "replace" if reads_bytes else "mark"


def cut_chunks(
    sources: Sequence[SourceFile],
    *,
    boundary: Boundary,
    reads_bytes: bool = False,
    task_bytes: int,
    start: Cursor = Cursor(),  # noqa: B008  it is frozen
    first: int = 0,
    hashes: bool = False,
) -> Generator[Chunk, None, None]:
    """Yield the chunks of some sources, from a cursor on.

    Only one of them is held at a time, and in it at most one and a half times
    ``task_bytes``, unless a token, a record or what may not be cut is longer.

    Parameters
    ----------
    sources : sequence of SourceFile
    boundary : Boundary
        Where documents may be cut.
    reads_bytes : bool
        Whether all bytes of a file are its text, a byte order mark too.
    task_bytes : int
        The most bytes of a slice. A chunk ends with the slice that brings it to
        half of them, so that most slices of large sources are a chunk of their
        own.
    start : Cursor
        Where a chunk begins.
    first : int
        Which one that is.
    hashes : bool
        Whether to compute the hash of each source.

    Raises
    ------
    CorpusError
        A source cannot be read, or was changed meanwhile.
    """
    slices: list[Slice] = []
    digests: dict[int, str] = {}
    num_bytes, number = 0, first
    read_before = sum(source.num_bytes for source in sources[: start.source])
    for index in range(start.source, len(sources)):
        source = sources[index]
        offset = start.offset if index == start.source else 0
        cursor = start if index == start.source else Cursor(index)
        with source.open(offset=offset, hashes=hashes) as stream:
            _check_unchanged(source, stream)
            # It is one of the file's bytes, but no part of a record.
            keeps_mark = reads_bytes and source.form in ("file", "paragraph")
            pieces = _cut_source(
                source, stream, cursor, boundary, task_bytes, keeps_mark=keeps_mark
            )
            for piece, stop in pieces:
                slices.append(piece)
                num_bytes += len(piece.content)
                if stop.source > index and (digest := stream.finish()):
                    digests[index] = digest
                if num_bytes >= task_bytes / 2 or len(slices) == _MAX_SLICES:
                    position = read_before + stream.position
                    so_far = None if stop.source > index else stream.hexdigest()
                    prefix = None if so_far is None else (index, stream.position, so_far)
                    yield Chunk(number, tuple(slices), stop, position, digests, prefix)
                    slices, digests, num_bytes, number = [], {}, 0, number + 1
            _check_unchanged(source, stream)
            read_before += stream.position
    if slices:
        yield Chunk(number, tuple(slices), Cursor(len(sources)), read_before, digests)


def prove_parts(
    sources: Sequence[SourceFile],
    parts: Iterable[Mapping[str, Any]],
    *,
    report: Callable[[int], object],
) -> int:
    """Return how many of the first parts were made of the bytes that the sources hold now.

    Bytes are compared before decompression: of a source that was read to its
    end the whole hash, of the one that was not what was read up to each part.

    Parameters
    ----------
    sources : sequence of SourceFile
    parts : iterable of mapping
        What each part says of itself, in their order: ``start``, ``stop``,
        ``digests`` and ``prefix`` of its chunk, and the ``documents`` of sources.
    report : callable
        Called with the number of bytes after each piece that was compared.

    Raises
    ------
    CorpusError
        A source cannot be read.
    """
    first_parts: dict[int, int] = {}
    prefixes: list[tuple[int, int, str]] = []
    num_parts, stop = 0, list(Cursor())
    for number, facts in enumerate(parts):
        # What was kept before the sources were others may be cut in other places.
        if facts["start"] not in (stop, list(Cursor(stop[0], len(_BYTE_ORDER_MARK)))):
            break
        for source, _ in facts["documents"]:
            first_parts.setdefault(source, number)
        for source, sha256 in facts["digests"].items():
            num_bytes = sources[int(source)].num_bytes
            if not _count_equal(sources[int(source)], [(num_bytes, sha256)], report):
                return first_parts[int(source)]
            prefixes = []
        if facts["prefix"] is not None:
            prefixes.append((number, *facts["prefix"][1:]))
        num_parts, stop = number + 1, facts["stop"]
    if not prefixes:
        return num_parts
    count = _count_equal(sources[stop[0]], [prefix[1:] for prefix in prefixes], report)
    return num_parts if count == len(prefixes) else prefixes[count][0]


def _count_equal(
    source: SourceFile, prefixes: Sequence[tuple[int, str]], report: Callable[[int], object]
) -> int:
    """Return how many of the first prefixes, each a length and a hash, a source has."""
    digest, position = hashlib.sha256(), 0
    try:
        with open_regular(source.path) as file:
            for count, (stop, sha256) in enumerate(prefixes):
                while piece := file.read(min(stop - position, _READ_BYTES)):
                    digest.update(piece)
                    position += len(piece)
                    report(len(piece))
                if position != stop or digest.hexdigest() != sha256:
                    return count
    except OSError as error:
        msg = f"cannot read {source.name!r}: {error.strerror or error}"
        raise CorpusError(msg) from error
    return len(prefixes)


def _cut_source(
    source: SourceFile,
    stream: Stream,
    cursor: Cursor,
    boundary: Boundary,
    size: int,
    *,
    keeps_mark: bool,
) -> Iterator[tuple[Slice, Cursor]]:
    """Yield the slices of a source from a cursor on, each with the cursor after it."""
    held = stream.read(max(size + 1, len(_BYTE_ORDER_MARK) if cursor.offset == 0 else 0))
    if cursor.offset == 0 and not keeps_mark and held.startswith(_BYTE_ORDER_MARK):
        held = held[len(_BYTE_ORDER_MARK) :]
        cursor = cursor._replace(offset=len(_BYTE_ORDER_MARK))
    find_cut = _cutter(source.form, boundary)
    while (found := _fill(held, stream, size, cursor, find_cut)).stop is not None:
        content, held = found.held[: found.stop], found.held[found.stop :]
        has_state = found.goes_on and boundary.has_state
        state = state_after(content, cursor.state) if has_state else NOTHING
        line = cursor.line + _count_line_ends(content)
        after = Cursor(cursor.source, cursor.offset + found.stop, state, found.goes_on, line)
        yield Slice(cursor, source.name, source.form, content, found.goes_on), after
        cursor = after
    rest = Slice(cursor, source.name, source.form, found.held, goes_on=False)
    yield rest, Cursor(cursor.source + 1)


def _count_line_ends(content: bytes) -> int:
    # Four times as fast as ``content.count`` where lines are short.
    return int(np.count_nonzero(np.frombuffer(content, np.uint8) == ord("\n")))


class _NextSlice(NamedTuple):
    held: bytes
    stop: int | None
    goes_on: bool


def _fill(
    held: bytes, stream: Stream, size: int, cursor: Cursor, find_cut: "_FindCut"
) -> _NextSlice:
    """Read on until there is a cut, which is None at the end of the source."""
    while True:
        # One byte more shows whether there is more to come.
        held += stream.read(max(size + 1 - len(held), 0))
        if len(held) <= size:
            return _NextSlice(held, None, goes_on=False)
        cut = find_cut(held[:size], cursor)
        # Whether a document that begins with white space is empty follows from what comes then.
        if cut and not (cut[1] and not cursor.is_inside and is_blank(held, cut[0])):
            return _NextSlice(held, *cut)
        size *= 2


_FindCut = Callable[[bytes, Cursor], tuple[int, bool] | None]


def _cutter(form: Form, boundary: Boundary) -> _FindCut:
    """Return a function that finds a cut, and whether a document continues after it."""
    match form:
        case "file":
            return lambda text, _: (stop, True) if (stop := boundary.cut(text)) else None
        case "paragraph":
            return functools.partial(_cut_paragraph, boundary=boundary)
        case "record" | "string":
            return lambda text, _: (stop, False) if (stop := cut_lines(text)) else None


def _cut_paragraph(text: bytes, cursor: Cursor, *, boundary: Boundary) -> tuple[int, bool] | None:
    if stop := cut_paragraphs(text):
        return stop, False
    if boundary == DOCUMENTS:
        return None
    stop = cut_in_paragraph(text, boundary.cut, is_inside=cursor.is_inside)
    return (stop, True) if stop else None


def _check_unchanged(source: SourceFile, stream: Stream) -> None:
    expected = source.num_bytes, source.changed_ns
    if -1 not in expected and (actual := stream.status()) != expected:
        msg = (
            f"{source.name} must not change while it is read, got {count(actual[0], 'byte')} "
            f"after {source.num_bytes:,}, or a later change: begin again when it is finished"
        )
        raise CorpusError(msg)
