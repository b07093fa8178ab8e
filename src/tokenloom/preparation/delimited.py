"""CSV and TSV files, a column of which holds texts, as RFC 4180 describes them."""

import difflib
import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

from tokenloom._io.kinds import bare_suffix
from tokenloom._wording import count
from tokenloom.errors import CorpusError
from tokenloom.preparation.forms import (
    BadInput,
    Cursor,
    Found,
    Reading,
    Slice,
    SourceFile,
    name_fields,
)
from tokenloom.preparation.texts import BYTE_ORDER_MARK, MISSING_FIELD, TextForm, decode
from tokenloom.text.boundaries import Boundary

INVALID_CSV = "invalid CSV"

_READ_BYTES = 1 << 16
_MAX_HEADER_BYTES = 1 << 20
_DELIMITERS = (b",", b";", b"\t")


class _Syntax(NamedTuple):
    """The syntax of records with one delimiter.

    Attributes
    ----------
    delimiter : bytes
        The byte between fields.
    record : pattern
        A record with its line end.
    last : pattern
        The same, or one that ends with the text.
    incomplete : pattern
        The beginning of a record that may continue after the text.
    open_quote : pattern
        A record that ends with the text, within quotes.
    field : pattern
        A field of a record, with the delimiter before it: quoted text, or text
        without quotes.
    """

    delimiter: bytes
    record: re.Pattern[bytes]
    last: re.Pattern[bytes]
    incomplete: re.Pattern[bytes]
    open_quote: re.Pattern[bytes]
    field: re.Pattern[bytes]

    def split(self, record: bytes) -> list[bytes]:
        """Return the fields of a record.

        >>> _syntax(b",").split(b'a,"b,c",')
        [b'a', b'b,c', b'']
        """
        if not record:
            return [b""]
        # The pattern expects a delimiter before each field, also before the first one.
        found = self.field.findall(self.delimiter + record)
        return [quoted.replace(b'""', b'"') or plain for quoted, plain in found]


@functools.cache
def _syntax(delimiter: bytes) -> _Syntax:
    quoted = rb'"(?:[^"]++|"")*+'
    # A carriage return alone is a character like others: Python's writer does not quote it.
    plain = rb'(?!")(?:[^\r\n%b]++|\r(?!\n))++' % delimiter
    field = rb'(?:%b"|%b|)' % (quoted, plain)
    record = rb"%b(?:%b%b)*+" % (field, delimiter, field)
    before = rb"(?:%b%b)*+" % (field, delimiter)
    return _Syntax(
        delimiter,
        re.compile(record + rb"\r?\n"),
        re.compile(record + rb"(?:\r?\n|\Z)"),
        re.compile(before + rb'(?:%b"?|%b)\r?\Z' % (quoted, field)),
        re.compile(before + quoted + rb"\Z"),
        re.compile(rb'%b(?:"((?:[^"]++|"")*+)"|(%b)|)' % (delimiter, plain)),
    )


class Delimited(TextForm):
    """A file of records, the first of which names the columns."""

    has_field = True

    def check(self, source: SourceFile, *fields: str) -> None:
        """Refuse a file that has no such columns."""
        self.lay_out(source, *fields)

    def lay_out(self, source: SourceFile, *fields: str) -> tuple[int, ...]:
        """Return the delimiter, the column of the text, the number of columns, the first offset.

        And the column of the prompt, where its name comes before that of the text.
        """
        whole = self._read_header(source)
        head = whole.removeprefix(BYTE_ORDER_MARK)
        is_tabbed = bare_suffix(source.path.name) == ".tsv"
        choices = [b"\t"] if is_tabbed else list(_DELIMITERS)
        headers = {one: _split_header(head, one) for one in choices}
        # Choose the delimiter that gives columns of these names, or else the most columns.
        wanted = [field.encode() for field in fields]
        chosen = max(
            choices,
            key=lambda one: (all(name in headers[one] for name in wanted), len(headers[one])),
        )
        names = [name.decode("utf-8", "replace") for name in headers[chosen]]
        *prompt, text = [
            _find_column(names, field, source.name, argument)
            for field, argument in name_fields(fields)
        ]
        return (chosen[0], text, len(names), len(whole) - len(head), *prompt)

    def _read_header(self, source: SourceFile) -> bytes:
        """Return the first bytes of a file, which hold the first record."""
        with self.open(source) as stream:
            head = stream.read(_READ_BYTES)
            while b"\n" not in head and len(head) < _MAX_HEADER_BYTES:
                more = stream.read(_READ_BYTES)
                if not more:
                    break
                head += more
        return head

    def find_cut(
        self, text: bytes, cursor: Cursor, *, boundary: Boundary, layout: tuple[int, ...]
    ) -> tuple[int, bool] | None:
        """Cut after the last record that is whole."""
        del cursor, boundary
        syntax, stop = _syntax(bytes(layout[:1])), 0
        while (after := _pass_record(text, stop, syntax)) is not None:
            stop = after
        return (stop, False) if stop else None

    def find(self, piece: Slice) -> Iterator[Found]:
        """Yield each record that is not blank, but for the header."""
        content, at = piece.content, 0
        syntax = _syntax(bytes(piece.layout[:1]))
        is_header = piece.start.offset == piece.layout[3]
        while at < len(content):
            fault, num_lost = None, 0
            if match := syntax.last.match(content, at):
                stop = match.end()
            elif syntax.open_quote.match(content, at):
                stop = len(content)
                # Nobody can know where the quotes should have ended: the lines after them may be
                # part of the text or records.
                num_lost = content.count(b"\n", at) - content.endswith(b"\n")
                lines = f", {count(num_lost, 'line')} after that" if num_lost else ""
                fault = (INVALID_CSV, f"quotes are not closed up to the end of the file{lines}")
            else:
                fault = (INVALID_CSV, "something follows quotes that were closed")
                stop = content.find(b"\n", at) + 1 or len(content)
            record = _cut_line_end(content[at:stop]) if fault is None else b""
            if (record or fault) and not is_header:
                yield Found(record, piece.start.offset + at, fault=fault, num_lost=num_lost)
            at, is_header = stop, False

    def place(self, piece: Slice, offset: int) -> dict[str, int]:
        """Return the line in which the record begins, from 1."""
        return {"line": self.number_line(piece, offset) + 1}

    def read(self, found: Found, piece: Slice, reading: Reading) -> str | bytes:
        """Return the field of the record."""
        delimiter, column, num_columns, _, *prompt = piece.layout
        if reading.is_prompt:
            (column,) = prompt
        fields = _syntax(bytes([delimiter])).split(found.content)
        if len(fields) != num_columns:
            why = f"the record must have {count(num_columns, 'field')}, got {len(fields):,}"
            raise BadInput(MISSING_FIELD, why, offset=found.offset)
        if reading.as_bytes:
            return fields[column]
        try:
            return decode(found._replace(content=fields[column]))
        except BadInput as bad:
            # The offset within the field is unknown, since quotes take bytes as well.
            bad.offset = found.offset
            raise


def _find_column(names: list[str], field: str, source: str, argument: str) -> int:
    """Return which of the columns of a file has a name, as one alone does.

    Raises
    ------
    CorpusError
        None has it, or several; or the first line is empty.
    """
    if names == [""]:
        msg = f"{source} must begin with a line that names its columns, got an empty one"
        raise CorpusError(msg)
    number = names.count(field)
    if number == 1:
        return names.index(field)
    meant = difflib.get_close_matches(field, names, n=1)
    if number > 1:
        cure = "give them different names"
    elif meant:
        cure = f"name one, such as {argument}={meant[0]!r}"
    else:
        cure = f"name one with {argument}="
    msg = (
        f"{source} must have one column {field!r}, got {count(number, 'column')} of "
        f"that name: {cure}; its first line names {', '.join(map(repr, names))}"
    )
    raise CorpusError(msg)


def _cut_line_end(record: bytes) -> bytes:
    r"""Return a record without its line end; a carriage return before that is part of a field.

    >>> _cut_line_end(b"1,abc\r\r\n")
    b'1,abc\r'
    """
    if not record.endswith(b"\n"):
        return record
    return record[:-1].removesuffix(b"\r")


def _split_header(head: bytes, delimiter: bytes) -> list[bytes]:
    syntax = _syntax(delimiter)
    match = syntax.last.match(head)
    # If the first record is malformed, the error shows the first line.
    line = match[0] if match else head.partition(b"\n")[0]
    return syntax.split(line.rstrip(b"\r\n"))


def _pass_record(text: bytes, start: int, syntax: _Syntax) -> int | None:
    """Return where a record ends, or None if it may continue after the text."""
    if match := syntax.record.match(text, start):
        return match.end()
    if syntax.incomplete.match(text, start):
        return None
    # This line holds no record: the next one begins on the next line.
    return text.find(b"\n", start) + 1 or None
