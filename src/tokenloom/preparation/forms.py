"""What a form of source answers: how it is cut into slices, and what documents a slice holds."""

import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal, NamedTuple, Protocol, Self

from tokenloom._io.compressed import Undecodable
from tokenloom._io.regular import open_regular
from tokenloom._io.remote import RemoteFile
from tokenloom.errors import CorpusError
from tokenloom.preparation.workdir import WorkDir
from tokenloom.text.boundaries import Boundary
from tokenloom.text.normalize import NOTHING

# What a document is: the file, what stands between blank lines, a line, a JSON
# object on a line, a JSON string on a line, or a row of a table.
FormName = Literal[
    "file", "paragraph", "line", "record", "string", "csv", "parquet", "arrow", "dataset"
]
OnError = Literal["stop", "skip", "replace"]
OnReserved = Literal["count", "stop"]

_READ_BYTES = 1 << 20
# The arguments that name the fields of a document, in the order of its texts.
_FIELD_ARGUMENTS = ("prompt_field", "field")
_CURE = "mend it, or choose on_error='skip' or on_error='replace'"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file to be read.

    Attributes
    ----------
    name : str
        What people call it.
    path : Path or RemoteFile
        Where it is.
    form : FormName
    num_bytes, changed_ns : int
        Its size, and the time of its last change; reading it ends with an error
        if they have changed by then. -1: not compared.
    encoding : str
        Of its text; all offsets are those of the same text in UTF-8.
    undecodable : "stop", "replace" or "mark"
        See `tokenloom._io.compressed.Stream`.
    rows : DatasetRows or None
        The rows that `tokenloom.preparation.datasets` reads in place of a file.
    copies : (WorkDir, int) or None
        The folder where a copy of a file at an address is kept, and its number
        there; see `tokenloom.preparation.copies`.
    """

    name: str
    path: Path | RemoteFile
    form: FormName
    num_bytes: int = -1
    changed_ns: int = -1
    encoding: str = "utf-8"
    undecodable: Undecodable = "stop"
    rows: Any = None
    copies: tuple[WorkDir, int] | None = None


class Cursor(NamedTuple):
    """Where a slice begins.

    Attributes
    ----------
    source : int
        Number of the source, from 0.
    offset : int
        Bytes of it, after decompression and as UTF-8, that come before; rows of
        a table.
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
    form : FormName
        Of the source.
    content : bytes
    goes_on : bool
        Whether its last document continues in the next slice.
    layout : tuple of int
        For Parquet and Arrow: the number of the row group, and its number of rows.
        For CSV: the delimiter, the column that holds the text, the number of
        columns, the offset of the header, and the column that holds the prompt, if
        one does.
    """

    start: Cursor
    name: str
    form: FormName
    content: bytes
    goes_on: bool
    layout: tuple[int, ...] = ()


class Found(NamedTuple):
    """The bytes of a document, or of a segment of one.

    Attributes
    ----------
    content : bytes
        As they stand in the slice.
    offset : int
        Where they begin in the source; in a table the row.
    starts, ends : bool
        Whether the document begins and ends with them.
    fault : (str, str) or None
        The problem and the reason if it cannot be read.
    num_lost : int
        How many more lines, of an unknown number of documents, are lost with it.
    """

    content: bytes
    offset: int
    starts: bool = True
    ends: bool = True
    fault: tuple[str, str] | None = None
    num_lost: int = 0


class Cutting(NamedTuple):
    """How sources are cut.

    Attributes
    ----------
    boundary : Boundary
        Where documents may be cut.
    size : int
        The most bytes of a slice, unless what may not be cut is longer.
    reads_bytes : bool
        Whether all bytes of a file are its text, a byte order mark too.
    field : str
        The field of a record, or the column, that holds the text.
    prompt_field : str or None
        The one that holds a prompt, which stands before the text and is not learnt.
    """

    boundary: Boundary
    size: int
    reads_bytes: bool = False
    field: str = "text"
    prompt_field: str | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """What holds the texts of a document, in their order."""
        return (self.field,) if self.prompt_field is None else (self.prompt_field, self.field)


class Reading(NamedTuple):
    """How bytes become documents.

    Attributes
    ----------
    field : str
        Which field of a JSON object, or column of a table, holds the text.
    on_error : "stop", "skip" or "replace"
    as_bytes : bool
        Whether files are not decoded.
    on_reserved : "count" or "stop"
        What to do with a text that holds a token which stands for something else.
    prompt_field : str or None
        The field that holds a prompt, which stands before the text and is not learnt.
    is_prompt : bool
        Whether the prompt is read.
    """

    field: str
    on_error: OnError
    as_bytes: bool = False
    on_reserved: OnReserved = "count"
    prompt_field: str | None = None
    is_prompt: bool = False

    def each(self) -> "Iterator[Reading]":
        """Yield how each text of a document is read, the prompt first."""
        if self.prompt_field is not None:
            yield self._replace(is_prompt=True)
        yield self


class BadInput(Exception):  # noqa: N818  a condition, which not always ends as an error
    """A document cannot be read as it is."""

    def __init__(
        self, what: str, why: str, *, offset: int, instead: str = "", cure: str = _CURE
    ) -> None:
        super().__init__(what)
        self.what, self.why, self.offset, self.instead = what, why, offset, instead
        self.cure = cure


def name_fields(fields: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each field, the last of which holds the text, with the argument that names it.

    >>> list(name_fields(["completion"])), list(name_fields(["prompt", "completion"]))[0]
    ([('completion', 'field')], ('prompt', 'prompt_field'))
    """
    yield from zip(fields, _FIELD_ARGUMENTS[-len(fields) :], strict=True)


class Opened(Protocol):
    """A source that is being read."""

    @property
    def position(self) -> int:
        """How many bytes of the source were read, before decompression."""

    def status(self) -> tuple[int, int]:
        """Return size in bytes and time of the last change, in ns."""

    def prefix(self) -> tuple[int, str] | None:
        """Return the number of the bytes read so far, and their SHA-256 if it is computed."""

    def finish(self) -> tuple[int, str | None]:
        """Return how many bytes the whole source has, and their SHA-256, where computed."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


class Form(ABC):
    """A form of source. There is one object of each, see `tokenloom.preparation.chunks.FORMS`."""

    has_field: ClassVar[bool] = False
    """Whether a field holds the text."""
    is_plain: ClassVar[bool] = False
    """Whether the bytes of documents stand in the source as they are."""

    @abstractmethod
    def open(self, source: SourceFile, *, offset: int = 0, hashes: bool = False) -> Any:
        """Return a source, opened at an offset, and hashed where that is asked for."""

    def check(self, source: SourceFile, *fields: str) -> None:  # noqa: B027  most have nothing to refuse
        """Refuse a source without the fields that hold the texts, before anything is read.

        Raises
        ------
        CorpusError
            It has no such field; the message names the cure.
        UsageError
            A package that reads it is not installed.
        """

    @abstractmethod
    def cut(
        self, opened: Any, source: SourceFile, cursor: Cursor, cutting: Cutting
    ) -> Iterator[tuple[Slice, Cursor]]:
        """Yield the slices of a source from a cursor on, each with the cursor after it."""

    @abstractmethod
    def find(self, piece: Slice) -> Iterable[Found]:
        """Return the documents of a slice, or segments of them, one by one."""

    @abstractmethod
    def read(self, found: Found, piece: Slice, reading: Reading) -> str | bytes:
        """Return the text of a document; bytes where these are wanted.

        Raises
        ------
        BadInput
            It cannot be read.
        """

    def place(self, piece: Slice, offset: int) -> dict[str, int]:
        """Return what `tokenloom.trace` reports of a place, beside the character."""
        del piece, offset
        return {}

    @abstractmethod
    def locate(self, piece: Slice, offset: int) -> str:
        """Return the part of a message that names a place, up to the reason."""

    def count_equal(
        self,
        source: SourceFile,
        prefixes: Sequence[tuple[int | None, str]],
        report: Callable[[int], object],
    ) -> int:
        """Return how many of the first prefixes a source has now.

        Each is what `Opened.prefix` returned, or None and the hash of the whole
        source. The bytes of the file are compared; ``report`` is called with their
        number after each piece.
        """
        digest, position = hashlib.sha256(), 0
        # The tag or time that the server reports was compared already.
        if isinstance(source.path, RemoteFile) and source.path.shows_changes:
            return len(prefixes)
        try:
            with open_bytes(source.path) as file:
                for count, (end, sha256) in enumerate(prefixes):
                    stop = source.num_bytes if end is None else end
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


def open_bytes(path: Path | RemoteFile) -> BinaryIO:
    """Return the bytes of a file as they are."""
    if isinstance(path, RemoteFile):
        return io.BufferedReader(path.open(), _READ_BYTES)
    return open_regular(path)


def hash_bytes(file: BinaryIO, copy: Any = None) -> str:
    """Return the SHA-256 of the rest of a file, which may be copied meanwhile."""
    digest = hashlib.sha256()
    while piece := file.read(_READ_BYTES):
        digest.update(piece)
        if copy is not None:
            copy.write(piece)
    if copy is not None:
        copy.flush()
    return digest.hexdigest()
