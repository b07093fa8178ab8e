"""The documents, or segments of them, in a chunk's bytes."""

import functools
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Literal, NamedTuple

from tokenloom.errors import CorpusError
from tokenloom.preparation.chunks import Form, Slice
from tokenloom.text.boundaries import is_blank
from tokenloom.text.documents import TextSegment
from tokenloom.text.encode import find_surrogate

OnError = Literal["stop", "skip", "replace"]
OnReserved = Literal["count", "stop"]

UNDECODABLE, SURROGATE = "undecodable bytes", "undecodable text"
INVALID_JSON, REFUSED = "invalid JSON", "text that the tokenizer refuses"
MISSING_FIELD, EMPTY = "a missing field", "an empty document"

# The end of a line, and blank lines.
_BETWEEN = re.compile(rb"\n(?:[ \t\r\f\v]*\n)+")
_LAST = re.compile(rb"\n[ \t\r\f\v]*\Z")
_BEFORE = re.compile(rb"(?:[ \t\r\f\v]*\n)*")
_SURROGATE = re.compile("[\ud800-\udfff]")
# What is escaped in JSON: a backslash, a pair of surrogates, or half of one.
_ESCAPE = re.compile(
    rb"\\\\|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
_CURE = "mend it, or choose on_error='skip' or on_error='replace'"


class Reading(NamedTuple):
    """How bytes become documents.

    Attributes
    ----------
    field : str
        Which field of a JSON object holds the text.
    on_error : "stop", "skip" or "replace"
    as_bytes : bool
        Whether files are not decoded.
    on_reserved : "count" or "stop"
        What becomes of a text that holds a token which stands for something else.
    """

    field: str
    on_error: OnError
    as_bytes: bool = False
    on_reserved: OnReserved = "count"


class _Found(NamedTuple):
    content: bytes
    offset: int
    starts: bool
    ends: bool


class BadInput(Exception):  # noqa: N818  a condition, which not always ends as an error
    """A document cannot be read as it is."""

    def __init__(
        self, what: str, why: str, *, offset: int, instead: str = "", cure: str = _CURE
    ) -> None:
        super().__init__(what)
        self.what, self.why, self.offset, self.instead = what, why, offset, instead
        self.cure = cure

    def tell(self, piece: Slice) -> str:
        """Return the message of an error: the source, the place in it, the reason and the cure."""
        why = " ".join(self.why.split())
        before = piece.content[: self.offset - piece.start.offset].count(b"\n")
        line = piece.start.line + before
        if piece.form == "string":
            # A file of ours, of one line for each document.
            return f"{piece.name} has {self.what} in document {line:,}: {why}; {self.cure}"
        return (
            f"{piece.name} has {self.what} at byte {self.offset:,}: in line {line + 1:,}, {why}; "
            f"{self.cure}"
        )


def find_segments(piece: Slice, reading: Reading, problems: Counter[str]) -> Iterator[TextSegment]:
    """Yield the segments of a slice in order.

    Parameters
    ----------
    piece : Slice
    reading : Reading
    problems : Counter
        Counts what was left out or replaced, by its reason.

    Raises
    ------
    CorpusError
        Something cannot be read, and that is to stop; the message has the
        source and the offset in bytes.
    """
    for found in _find(piece):
        state = 0 if found.starts else piece.start.state
        try:
            text = _read(found, piece, reading)
        except BadInput as bad:
            if reading.on_error == "stop":
                raise CorpusError(bad.tell(piece)) from bad
            problems[bad.what] += 1
            is_left_out = reading.on_error == "skip"
            if is_left_out and found.starts:
                continue
            # A document that began before may end here all the same.
            text = "" if is_left_out else bad.instead
        ours = text.encode("utf-8") if reading.as_bytes and isinstance(text, str) else text
        yield TextSegment(ours, state, found.ends, found.offset)


def _find(piece: Slice) -> Iterator[_Found]:
    starts, offset = not piece.start.is_inside, piece.start.offset
    match piece.form:
        case "file":
            yield _Found(piece.content, offset, starts, not piece.goes_on)
        case "paragraph":
            yield from _find_paragraphs(piece)
        case "record" | "string":
            for line in piece.content.split(b"\n"):
                if line.strip():
                    yield _Found(line, offset, starts=True, ends=True)
                offset += len(line) + 1


def _find_paragraphs(piece: Slice) -> Iterator[_Found]:
    content, starts = piece.content, not piece.start.is_inside
    first = _BEFORE.match(content)
    at = first.end() if first and starts else 0
    for between in _BETWEEN.finditer(content, at):
        text = content[at : between.start()].rstrip(b"\r\n")
        yield _Found(text, piece.start.offset + at, starts, ends=True)
        at, starts = between.end(), True
    rest = content[at:]
    if not piece.goes_on:
        # The last line may be blank, and without an end.
        rest = _LAST.sub(b"", rest).rstrip(b"\r\n")
    # A document that began before ends here, even if nothing of it is left.
    if not starts or rest.strip():
        yield _Found(rest, piece.start.offset + at, starts, ends=not piece.goes_on)


def _read(found: _Found, piece: Slice, reading: Reading) -> str | bytes:
    """Return the text of a document; bytes where these are wanted."""
    text: str | bytes
    if piece.form in ("record", "string"):
        text = _parse(found, piece, reading.field)
        if reading.as_bytes:
            text = text.encode("utf-8")
    else:
        text = found.content if reading.as_bytes else _decode(found)
    is_empty = is_blank(text) if isinstance(text, bytes) else not text.strip()
    if found.starts and found.ends and is_empty:
        raise BadInput(EMPTY, "nothing but white space", offset=found.offset)
    return text


def _decode(found: _Found) -> str:
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


def _parse(found: _Found, piece: Slice, field: str) -> str:
    """Return the text that a line of JSON holds."""
    field_of = functools.partial(_text_of, form=piece.form, field=field, offset=found.offset)
    try:
        line = _decode(found)
    except BadInput as bad:
        try:
            bad.instead = _SURROGATE.sub("\ufffd", field_of(bad.instead))
        except BadInput as worse:
            bad.instead = worse.instead
        raise
    text = field_of(line)
    place = find_surrogate(text)
    if place is not None:
        raise BadInput(
            SURROGATE,
            f"the lone surrogate {text[place]!r} is no character",
            offset=found.offset + _find_escape(found.content),
            instead=_SURROGATE.sub("\ufffd", text),
        )
    return text


def _find_escape(line: bytes) -> int:
    """Return where a line of JSON escapes half of a surrogate pair."""
    escapes = (match for match in _ESCAPE.finditer(line) if match["half"])
    return next((match.start() for match in escapes), 0)


def _text_of(line: str, *, form: Form, field: str, offset: int) -> str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        at = offset + len(line[: getattr(error, "pos", 0)].encode("utf-8"))
        raise BadInput(INVALID_JSON, getattr(error, "msg", str(error)), offset=at) from error
    if form == "record":
        value = value.get(field) if isinstance(value, dict) else None
    if not isinstance(value, str):
        why = f"the line must be a JSON object with a string as {field!r}"
        raise BadInput(MISSING_FIELD, why, offset=offset)
    return value
