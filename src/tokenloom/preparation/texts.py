"""Files of text: one document, paragraphs, lines, or JSON on each line."""

import difflib
import functools
import json
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tokenloom._checks import find_surrogate
from tokenloom._io.compressed import Stream
from tokenloom._wording import show
from tokenloom.preparation.forms import (
    BadInput,
    Cursor,
    Cutting,
    Form,
    Found,
    Reading,
    Slice,
    SourceFile,
)
from tokenloom.text.boundaries import (
    DOCUMENTS,
    Boundary,
    cut_in_paragraph,
    cut_lines,
    cut_paragraphs,
    is_blank,
)
from tokenloom.text.normalize import NOTHING, state_after

UNDECODABLE, SURROGATE = "undecodable bytes", "undecodable text"
INVALID_JSON, MISSING_FIELD = "invalid JSON", "a missing field"
NO_TEXT = ("a null value", "there is no text")

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# The end of a line, and blank lines.
_BETWEEN = re.compile(rb"\n(?:[ \t\r\f\v]*\n)+")
_LAST = re.compile(rb"\n[ \t\r\f\v]*\Z")
_BEFORE = re.compile(rb"(?:[ \t\r\f\v]*\n)*")
_SURROGATE = re.compile("[\ud800-\udfff]")
# What is escaped in JSON: a backslash, a pair of surrogates, or half of one.
_ESCAPE = re.compile(
    rb"\\\\|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


class TextForm(Form):
    """A file of text, compressed or not, read from its beginning to its end."""

    def open(self, source: SourceFile, *, offset: int = 0, hashes: bool = False) -> Stream:
        """Return its bytes, decompressed, from an offset on."""
        return Stream(
            source.path,
            name=source.name,
            offset=offset,
            hashes=hashes,
            encoding=source.encoding,
            undecodable=source.undecodable,
        )

    def cut(
        self, opened: Stream, source: SourceFile, cursor: Cursor, cutting: Cutting
    ) -> Iterator[tuple[Slice, Cursor]]:
        """Yield runs of about one size, cut where `find_cut` allows it."""
        size, boundary = cutting.size, cutting.boundary
        is_first = cursor.offset == 0
        held = opened.read(max(size + 1, len(BYTE_ORDER_MARK) if is_first else 0))
        # A byte order mark is one of the file's bytes, but no part of a record.
        keeps_mark = cutting.reads_bytes and self.is_plain
        if is_first and not keeps_mark and held.startswith(BYTE_ORDER_MARK):
            held = held[len(BYTE_ORDER_MARK) :]
            cursor = cursor._replace(offset=len(BYTE_ORDER_MARK))
            held += opened.read(len(BYTE_ORDER_MARK))
        layout = self.lay_out(source, *cutting.fields)
        find_cut = functools.partial(self.find_cut, boundary=boundary, layout=layout)
        while (found := _fill(held, opened, size, cursor, find_cut)).stop is not None:
            content, rest = found.held[: found.stop], found.held[found.stop :]
            has_state = found.goes_on and boundary.has_state
            state = state_after(content, cursor.state) if has_state else NOTHING
            line = cursor.line + _count_line_ends(content)
            after = Cursor(cursor.source, cursor.offset + found.stop, state, found.goes_on, line)
            yield Slice(cursor, source.name, source.form, content, found.goes_on, layout), after
            cursor = after
            held = rest + opened.read(max(size + 1 - len(rest), 0))
        last = Slice(cursor, source.name, source.form, found.held, goes_on=False, layout=layout)
        yield last, Cursor(cursor.source + 1)

    def lay_out(self, source: SourceFile, *fields: str) -> tuple[int, ...]:
        """Return the facts about the whole source that reading a slice needs."""
        del source, fields
        return ()

    @abstractmethod
    def find_cut(
        self, text: bytes, cursor: Cursor, *, boundary: Boundary, layout: tuple[int, ...]
    ) -> tuple[int, bool] | None:
        """Return where a slice may end in a text, and whether a document continues there.

        None if there is no such place.
        """

    def read(self, found: Found, piece: Slice, reading: Reading) -> str | bytes:
        """Return the text; bytes as they are where these are wanted."""
        del piece
        return found.content if reading.as_bytes else decode(found)

    def locate(self, piece: Slice, offset: int) -> str:
        """Name the byte and the line."""
        return f"at byte {offset:,}: in line {self.number_line(piece, offset) + 1:,}, "

    def number_line(self, piece: Slice, offset: int) -> int:
        """Return which line of the source an offset lies in, from 0."""
        return piece.start.line + piece.content[: offset - piece.start.offset].count(b"\n")


class WholeFile(TextForm):
    """The file is one document."""

    is_plain = True

    def find_cut(
        self, text: bytes, cursor: Cursor, *, boundary: Boundary, layout: tuple[int, ...]
    ) -> tuple[int, bool] | None:
        """Cut where a token may end."""
        del cursor, layout
        return (stop, True) if (stop := boundary.cut(text)) else None

    def find(self, piece: Slice) -> list[Found]:
        """Return all of it."""
        starts = not piece.start.is_inside
        return [Found(piece.content, piece.start.offset, starts, not piece.goes_on)]


class Paragraphs(TextForm):
    """Each text between blank lines is a document."""

    is_plain = True

    def find_cut(
        self, text: bytes, cursor: Cursor, *, boundary: Boundary, layout: tuple[int, ...]
    ) -> tuple[int, bool] | None:
        """Cut after a blank line, or else where a token may end."""
        del layout
        if stop := cut_paragraphs(text):
            return stop, False
        if boundary == DOCUMENTS:
            return None
        stop = cut_in_paragraph(text, boundary.cut, is_inside=cursor.is_inside)
        return (stop, True) if stop else None

    def find(self, piece: Slice) -> Iterator[Found]:
        """Yield the texts between blank lines."""
        content, starts = piece.content, not piece.start.is_inside
        first = _BEFORE.match(content)
        at = first.end() if first and starts else 0
        for between in _BETWEEN.finditer(content, at):
            text = content[at : between.start()].rstrip(b"\r\n")
            yield Found(text, piece.start.offset + at, starts, ends=True)
            at, starts = between.end(), True
        rest = content[at:]
        if not piece.goes_on:
            # The last line may be blank, and need not end with a line feed.
            rest = _LAST.sub(b"", rest).rstrip(b"\r\n")
        # A document that began in an earlier slice ends here, even if it has no more text.
        if not starts or rest.strip():
            yield Found(rest, piece.start.offset + at, starts, ends=not piece.goes_on)


class _LineForm(TextForm):
    """Each line is a document, and is held as a whole."""

    def place(self, piece: Slice, offset: int) -> dict[str, int]:
        """Return the line, from 1."""
        return {"line": self.number_line(piece, offset) + 1}

    def find_cut(
        self, text: bytes, cursor: Cursor, *, boundary: Boundary, layout: tuple[int, ...]
    ) -> tuple[int, bool] | None:
        del cursor, boundary, layout
        return (stop, False) if (stop := cut_lines(text)) else None


class Lines(_LineForm):
    """Each line is a document, a blank one too."""

    is_plain = True

    def find(self, piece: Slice) -> Iterator[Found]:
        """Yield each line without its end."""
        offset = piece.start.offset
        lines = piece.content.split(b"\n")
        # After the last line end there is no line.
        for line in lines if lines[-1] else lines[:-1]:
            yield Found(line.removesuffix(b"\r"), offset)
            offset += len(line) + 1


class _JsonForm(_LineForm):
    """Each line that is not blank holds JSON."""

    def find(self, piece: Slice) -> Iterator[Found]:
        offset = piece.start.offset
        for line in piece.content.split(b"\n"):
            if line.strip():
                yield Found(line, offset)
            offset += len(line) + 1

    def read(self, found: Found, piece: Slice, reading: Reading) -> str | bytes:
        del piece
        is_prompt = reading.is_prompt and reading.prompt_field is not None
        argument = "prompt_field" if is_prompt else "field"
        text = self._parse(found, str(getattr(reading, argument)), argument)
        return text.encode("utf-8") if reading.as_bytes else text

    def _parse(self, found: Found, field: str, argument: str) -> str:
        """Return the text that a line of JSON holds, in the field that an argument names."""
        text_of = functools.partial(
            self._text_of, field=field, argument=argument, offset=found.offset
        )
        try:
            line = decode(found)
        except BadInput as bad:
            try:
                bad.instead = _SURROGATE.sub("\ufffd", text_of(bad.instead))
            except BadInput as worse:
                bad.instead = worse.instead
            raise
        text = text_of(line)
        place = find_surrogate(text)
        if place is not None:
            raise BadInput(
                SURROGATE,
                f"the lone surrogate {text[place]!r} is no character",
                offset=found.offset + _find_escape(found.content),
                instead=_SURROGATE.sub("\ufffd", text),
            )
        return text

    def _text_of(self, line: str, *, field: str, argument: str, offset: int) -> str:
        try:
            whole = json.loads(line)
        except (ValueError, RecursionError) as error:
            at = offset + len(line[: getattr(error, "pos", 0)].encode("utf-8"))
            raise BadInput(INVALID_JSON, getattr(error, "msg", str(error)), offset=at) from error
        value = self.choose(whole, field)
        if value is None and not self.has_field:
            raise BadInput(*NO_TEXT, offset=offset)
        if value is None and isinstance(whole, dict) and field in whole:
            raise BadInput(NO_TEXT[0], f"{field!r} is null", offset=offset)
        if not isinstance(value, str):
            why = f"the line must be a JSON object with a string as {field!r}"
            got = _describe(whole, field, argument)
            raise BadInput(MISSING_FIELD, f"{why}, got {got}", offset=offset)
        return value

    @abstractmethod
    def choose(self, value: Any, field: str) -> object:
        """Return the value that should be the text of a line."""


def _describe(value: object, field: str, argument: str) -> str:
    """Return what a message says of a line of JSON that has no such field."""
    if not isinstance(value, dict) or field in value:
        return type(value[field] if isinstance(value, dict) else value).__name__
    names = [name for name, text in value.items() if isinstance(text, str)]
    if not names:
        return "one without strings"
    meant = difflib.get_close_matches(field, names, n=1)
    cure = f"name one, such as {argument}={meant[0]!r}" if meant else f"name one with {argument}="
    return f"one with the strings {show(names)[1:-1]}: {cure}"


class Records(_JsonForm):
    """Each line is a JSON object, a field of which holds the text."""

    has_field = True

    def choose(self, value: Any, field: str) -> object:
        """Return the field of an object."""
        return value.get(field) if isinstance(value, dict) else None


class Strings(_JsonForm):
    """Each line is a JSON string: a file of ours, of one line for each document."""

    def choose(self, value: Any, field: str) -> object:
        """Return the value itself."""
        del field
        return value

    def place(self, piece: Slice, offset: int) -> dict[str, int]:
        """Return nothing: it is a file of ours."""
        del piece, offset
        return {}

    def locate(self, piece: Slice, offset: int) -> str:
        """Name the document."""
        return f"in document {self.number_line(piece, offset):,}: "


def decode(found: Found) -> str:
    """Return the text of bytes in UTF-8.

    Raises
    ------
    BadInput
        They are no UTF-8.
    """
    try:
        return found.content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(
            UNDECODABLE,
            f"byte 0x{found.content[error.start]:02x} is no UTF-8, {error.reason}; "
            "if the text is in another encoding, name that, such as encoding='latin-1'",
            offset=found.offset + error.start,
            instead=found.content.decode("utf-8", "replace"),
        ) from error


def _find_escape(line: bytes) -> int:
    """Return where a line of JSON escapes half of a surrogate pair."""
    escapes = (match for match in _ESCAPE.finditer(line) if match["half"])
    return next((match.start() for match in escapes), 0)


def _count_line_ends(content: bytes) -> int:
    # Four times as fast as ``content.count`` where lines are short.
    return int(np.count_nonzero(np.frombuffer(content, np.uint8) == ord("\n")))


class _NextSlice(NamedTuple):
    held: bytes
    stop: int | None
    goes_on: bool


_FindCut = Callable[[bytes, Cursor], tuple[int, bool] | None]


def _fill(held: bytes, stream: Stream, size: int, cursor: Cursor, find_cut: _FindCut) -> _NextSlice:
    """Read until there is a cut, which is None at the end of the source.

    The end is not reached where more than ``size`` bytes are held.
    """
    while len(held) > size:
        cut = find_cut(held[:size], cursor)
        # A slice must not end in the white space at the start of a document: only what follows
        # shows whether the document is empty.
        if cut and not (cut[1] and not cursor.is_inside and is_blank(held, cut[0])):
            return _NextSlice(held, *cut)
        size *= 2
        held += stream.read(max(size + 1 - len(held), 0))
    return _NextSlice(held, None, goes_on=False)
