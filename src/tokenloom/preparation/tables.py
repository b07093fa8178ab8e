"""Tables with a column of texts: Parquet and Arrow files.

A slice is some rows of one row group or record batch. Where it ends follows
from the lengths of the texts alone, not from how many rows are read at a time.
Its content is the end of each text, which rows are null, and the texts.
"""

import contextlib
import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from tokenloom._io.compressed import read_status
from tokenloom._io.kinds import HEAD_BYTES, recognise
from tokenloom._io.remote import RemoteFile
from tokenloom._optional import import_optional
from tokenloom._wording import count
from tokenloom.errors import CorpusError
from tokenloom.preparation.copies import LocalCopy, fetch_copy
from tokenloom.preparation.forms import (
    BadInput,
    Cursor,
    Cutting,
    Form,
    Found,
    Reading,
    Slice,
    SourceFile,
    hash_bytes,
    name_fields,
    open_bytes,
)
from tokenloom.preparation.texts import NO_TEXT, UNDECODABLE

_READ_BYTES = 1 << 20
# About how many bytes of texts are decoded at a time.
_BATCH_BYTES = 1 << 22
_MAX_BATCH_ROWS = 1 << 14
# The marker before each message of an Arrow stream; older streams have none.
_CONTINUES = b"\xff" * 4
# Bytes that a row takes in a slice beside its text: where the text ends, and whether it is null.
_ROW_BYTES = 9


def import_arrow(module: str = "pyarrow") -> Any:
    """Return a module of pyarrow.

    Raises
    ------
    UsageError
        It is not installed.
    """
    return import_optional(
        module,
        purpose="reading Parquet and Arrow files",
        extra="parquet",
        instead="or write the texts as JSON Lines",
    )


class Rows(NamedTuple):
    """Texts, one after the other.

    Attributes
    ----------
    stops : int64 array, shape (num_rows + 1,)
        0, and where each text ends.
    is_null : uint8 array, shape (num_rows,)
    data : memoryview
    """

    stops: npt.NDArray[np.int64]
    is_null: npt.NDArray[np.uint8]
    data: memoryview

    @classmethod
    def of(cls, array: Any) -> "Rows":
        """Return the texts of an array of pyarrow, of any type of text."""
        pa, array = import_arrow(), _plain(array)
        types, offsets = pa.types, "<i8"
        if types.is_string(array.type) or types.is_binary(array.type):
            offsets = "<i4"
        elif not (types.is_large_string(array.type) or types.is_large_binary(array.type)):
            array = array.cast(pa.large_binary())
        num_rows, (_, ends, data) = len(array), array.buffers()
        stops = np.zeros(1, np.int64)
        if num_rows:
            first = np.dtype(offsets).itemsize * array.offset
            stops = np.frombuffer(ends, offsets, num_rows + 1, first).astype(np.int64)
        view = memoryview(b"" if data is None else data).cast("B")
        view = view[int(stops[0]) : int(stops[-1])]
        is_null = np.zeros(num_rows, np.uint8)
        if array.null_count:
            is_null = array.is_null().to_numpy(zero_copy_only=False).astype(np.uint8)
        return cls(stops - stops[0], is_null, view)

    def between(self, start: int, stop: int) -> "Rows":
        """Return some of the rows."""
        stops = self.stops[start : stop + 1]
        data = self.data[int(stops[0]) : int(stops[-1])]
        return Rows(stops - stops[0], self.is_null[start:stop], data)

    def find_stop(self, start: int, room: int) -> int:
        """Return the row, from a first one on, after which there is no room for another."""
        costs = self.stops[start + 1 :] - self.stops[start]
        costs = costs + _ROW_BYTES * np.arange(1, len(costs) + 1, dtype=np.int64)
        return start + int(np.searchsorted(costs, room, side="right"))


def join_texts(arrays: Sequence[Any]) -> Any:
    """Return one array of the texts of a column, or of two: of each row its pair.

    That is the number of bytes of the first text, a colon, and both texts; null where
    one of them is.
    """
    if len(arrays) == 1:
        return arrays[0]
    pa, compute = import_arrow(), import_arrow("pyarrow.compute")
    kind = pa.large_binary()
    first, second = (_plain(array).cast(kind) for array in arrays)
    lengths = compute.binary_length(first).cast(pa.large_string()).cast(kind)
    texts = compute.binary_join_element_wise(first, second, pa.scalar(b"", kind))
    return compute.binary_join_element_wise(lengths, texts, pa.scalar(b":", kind))


def _choose_text(content: bytes, reading: Reading) -> bytes:
    """Return the text of a row, or the one of its pair that is read."""
    if reading.prompt_field is None:
        return content
    length, _, texts = content.partition(b":")
    return texts[: int(length)] if reading.is_prompt else texts[int(length) :]


def _plain(array: Any) -> Any:
    """Return an array of texts, whatever its type was, after a check that it is not damaged."""
    if hasattr(array, "storage"):
        array = array.storage
    if import_arrow().types.is_dictionary(array.type):
        _validate(array.dictionary)
        array = array.dictionary_decode()
    _validate(array)
    return array


def _validate(array: Any) -> None:
    """Refuse offsets that are out of order or outside of the texts, as those of a damaged file."""
    pa = import_arrow()
    as_bytes = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}
    if hasattr(pa, "string_view"):
        as_bytes[pa.string_view()] = pa.binary_view()
    # Bytes are not checked for UTF-8 here: that is done row by row.
    array.view(as_bytes.get(array.type, array.type)).validate(full=True)


class Held:
    """Rows collected for the next slice.

    Attributes
    ----------
    group : int
        The row group or record batch that all of them are in.
    num_rows : int
    num_bytes : int
        How large the slice is, with the ends and the nulls.
    parts : list of Rows
        In their order in the file.
    """

    def __init__(self, group: int) -> None:
        self.group = group
        self.num_rows, self.num_bytes = 0, 0
        self.parts: list[Rows] = []

    def add(self, rows: Rows) -> None:
        """Add rows."""
        # Copied, so that the array that they are a part of can be freed.
        self.parts.append(rows._replace(data=memoryview(bytes(rows.data))))
        self.num_rows += len(rows.is_null)
        self.num_bytes += len(rows.data) + _ROW_BYTES * len(rows.is_null)

    def pack(self) -> bytes:
        """Return the content of a slice."""
        lengths = [np.diff(rows.stops) for rows in self.parts]
        stops = np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths]), dtype=np.int64)
        nulls = [rows.is_null.tobytes() for rows in self.parts]
        return b"".join([stops.astype("<i8").tobytes(), *nulls, *(r.data for r in self.parts)])


class Table(ABC):
    """An open file with a table.

    Parameters
    ----------
    source : SourceFile
    offset : int
        The row that is read first.
    hashes : bool
        Whether to compute the hash of the file, before anything else is read.
    """

    def __init__(self, source: SourceFile, *, offset: int, hashes: bool) -> None:
        self._source = source
        self._digest: str | None = None
        self._copy: LocalCopy | None = None
        self.position = 0
        with contextlib.ExitStack() as opened:
            # What is open is closed if a later line raises.
            opened.push(self)
            self._begin(offset=offset, hashes=hashes)
            opened.pop_all()

    def _begin(self, *, offset: int, hashes: bool) -> None:
        del offset
        source, path = self._source, self._source.path
        if isinstance(path, RemoteFile):
            # The texts may lie anywhere in the file, and not all servers send parts of one.
            self._copy = fetch_copy(source)
            path, self._digest = self._copy.path, self._copy.sha256
        with translating(source.name):
            # This refuses a pipe, which pyarrow would open and wait for.
            with open_bytes(path) as file:
                if hashes and self._copy is None:
                    self._digest = hash_bytes(file)
            self._open(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close()
        copy = self._copy
        # The next preparation can use one that was interrupted.
        if copy is not None and not (copy.keeps and kind is not None):
            copy.remove()

    def status(self) -> tuple[int, int]:
        """Return size in bytes and time of the last change, in ns."""
        with translating(self._source.name):
            return read_status(self._source.path)

    def prefix(self) -> tuple[int, str] | None:
        """Return size and SHA-256 of the whole file: texts lie anywhere in it."""
        return None if self._digest is None else (self._source.num_bytes, self._digest)

    def finish(self) -> tuple[int, str | None]:
        """Return size and SHA-256 of the file."""
        return self._source.num_bytes, self._digest

    def pass_over(self, part: float) -> None:
        """Set the position; ``part`` is the fraction read, in [0, 1]."""
        self.position = int(part * max(self._source.num_bytes, 0))

    def note(self, held: Held) -> None:
        """Note the rows of a slice, which few forms need."""
        del held

    @property
    @abstractmethod
    def schema(self) -> Any:
        """The columns."""

    def _open(self, path: Path) -> None:
        raise NotImplementedError

    @abstractmethod
    def arrays(self, columns: Sequence[int], start: int) -> Iterator[tuple[int, Any]]:
        """Yield the texts of columns from a row on, each array with its row group.

        Those of two columns are joined by `join_texts`.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the file."""


class _ParquetFile(Table):
    _raw: Any = None
    _file: Any = None

    def _open(self, path: Path) -> None:
        # Pages are read as they are needed, rather than the whole of a row group before. Of a path
        # pyarrow would load all its file systems.
        self._raw = import_arrow().OSFile(str(path))
        self._file = import_arrow("pyarrow.parquet").ParquetFile(
            self._raw, pre_buffer=False, buffer_size=_READ_BYTES
        )

    @property
    def schema(self) -> Any:
        return self._file.schema_arrow

    def arrays(self, columns: Sequence[int], start: int) -> Iterator[tuple[int, Any]]:
        metadata, names = self._file.metadata, [self.schema.names[each] for each in columns]
        first = 0
        for group in range(metadata.num_row_groups):
            facts = metadata.row_group(group)
            if first + facts.num_rows > start:
                row, size = first, self._choose_batch(facts)
                batches = self._file.iter_batches(
                    batch_size=size, row_groups=[group], columns=names, use_threads=False
                )
                for batch in batches:
                    array = join_texts([batch.column(name) for name in names])
                    left_out = min(max(start - row, 0), len(array))
                    row += len(array)
                    self.pass_over(row / metadata.num_rows)
                    yield group, array.slice(left_out)
            first += facts.num_rows

    def _choose_batch(self, facts: Any) -> int:
        """Return about how many rows have texts of some megabytes."""
        # The sizes of single columns are not asked for: in a damaged file that can end the process.
        num_bytes = facts.total_byte_size
        # A value that is repeated stands once in the file, so in memory the rows may take more.
        rows = _BATCH_BYTES * facts.num_rows // max(num_bytes, 1)
        return int(min(max(rows, 1), _MAX_BATCH_ROWS))

    def close(self) -> None:
        if self._file is not None:
            self._file.close(force=True)
        if self._raw is not None:
            self._raw.close()


class _ArrowFile(Table):
    """An Arrow file, with its batches listed at its end, or the stream of them alone."""

    _file: Any = None
    _reader: Any = None

    def _open(self, path: Path) -> None:
        pa = import_arrow()
        # No memory map: if the file were cut meanwhile, the system would kill the program.
        self._file = pa.OSFile(str(path))
        self._reader = self._read(pa.ipc.IpcReadOptions())

    def _read(self, options: Any) -> Any:
        ipc = import_arrow("pyarrow.ipc")
        self._file.seek(0)
        is_file = self._file.read(6) == b"ARROW1"
        self._file.seek(0)
        return (ipc.open_file if is_file else ipc.open_stream)(self._file, options=options)

    @property
    def schema(self) -> Any:
        return self._reader.schema

    def arrays(self, columns: Sequence[int], start: int) -> Iterator[tuple[int, Any]]:
        names = [self.schema.names[each] for each in columns]
        reader = self._read(import_arrow().ipc.IpcReadOptions(included_fields=list(columns)))
        first = 0
        for group, batch in enumerate(self._batches(reader)):
            if first + len(batch) > start:
                texts = join_texts([batch.column(name) for name in names])
                yield group, texts.slice(max(start - first, 0))
            first += len(batch)

    def _batches(self, reader: Any) -> Iterator[Any]:
        num_batches = getattr(reader, "num_record_batches", None)
        if num_batches is None:
            for batch in reader:
                self.pass_over(self._file.tell() / max(self._file.size(), 1))
                yield batch
            self._check_end()
            return
        for number in range(num_batches):
            self.pass_over((number + 1) / num_batches)
            yield reader.get_batch(number)

    def _check_end(self) -> None:
        """Refuse a stream that was cut between two batches, which pyarrow takes for its end."""
        end = self._file.tell()
        self._file.seek(0)
        is_older = self._file.read(4) != _CONTINUES
        self._file.seek(max(end - 8, 0))
        marker = self._file.read(min(end, 8))
        if not marker.endswith(bytes(4) if is_older else _CONTINUES + bytes(4)):
            msg = (
                f"{self._source.name} must end with the end marker of an Arrow stream, which it "
                "has not: it was cut, or is still being written; copy or write it again"
            )
            raise CorpusError(msg)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class TableForm(Form):
    """A table, of which one column holds texts, a document in each row."""

    has_field = True
    kind: ClassVar[str]
    """What messages call it, with its article."""
    opens: ClassVar[type[Table]]

    def open(self, source: SourceFile, *, offset: int = 0, hashes: bool = False) -> Table:
        """Return the file with its columns."""
        if source.rows is None and source.path.suffix.lower() in (".gz", ".bz2", ".xz", ".zst"):
            msg = f"{source.name} must be {self.kind}, but it is compressed: decompress it first"
            raise CorpusError(msg)
        try:
            return self.opens(source, offset=offset, hashes=hashes)
        except CorpusError as error:
            cause = error.__cause__
            if cause is None or (isinstance(cause, OSError) and cause.errno is not None):
                raise
            # The message of pyarrow does not help where the file is of another kind.
            reason = str(cause)
            if isinstance(source.path, Path):
                with source.path.open("rb") as file:
                    found = recognise(file.read(HEAD_BYTES))
                if found is not None and found.name != self.kind:
                    reason = f"it is {found.name}: {found.cure}"
            msg = f"{source.name} must be {self.kind} by its name, but {reason}"
            raise CorpusError(msg) from error

    def check(self, source: SourceFile, *fields: str) -> None:
        """Refuse a file of another kind, or without such columns of texts."""
        if isinstance(source.path, RemoteFile):
            # To check the file now it would have to be fetched as a whole: it is checked when it is
            # read.
            import_arrow()
            return
        with self.open(source) as opened:
            find_columns(opened.schema, fields, name=source.name)

    def cut(
        self, opened: Table, source: SourceFile, cursor: Cursor, cutting: Cutting
    ) -> Iterator[tuple[Slice, Cursor]]:
        """Yield rows of about one size, those of one row group at a time."""
        name = source.name
        columns = find_columns(opened.schema, cutting.fields, name=name)
        ready = None
        for held in _fill(opened.arrays(columns, cursor.offset), cutting.size, name):
            if ready is not None:
                opened.note(ready)
                after = cursor._replace(offset=cursor.offset + ready.num_rows)
                yield _slice(ready, source, cursor), after
                cursor = after
            ready = held
        ready = ready or Held(0)
        opened.note(ready)
        yield _slice(ready, source, cursor), Cursor(cursor.source + 1)

    def find(self, piece: Slice) -> Iterator[Found]:
        """Yield the text of each row."""
        content, row = piece.content, piece.start.offset
        _, num_rows = piece.layout
        stops = np.frombuffer(content, "<i8", num_rows + 1)
        begin = 8 * (num_rows + 1)
        is_null, start = content[begin : begin + num_rows], begin + num_rows
        bounds = (stops + start).tolist()
        for index in range(num_rows):
            text = content[bounds[index] : bounds[index + 1]]
            yield Found(text, row + index, fault=NO_TEXT if is_null[index] else None)

    def read(self, found: Found, piece: Slice, reading: Reading) -> str | bytes:
        """Return the text; bytes as they are where these are wanted."""
        del piece
        content = _choose_text(found.content, reading)
        if reading.as_bytes:
            return content
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            byte = content[error.start]
            raise BadInput(
                UNDECODABLE,
                f"byte 0x{byte:02x}, number {error.start:,} of the text, is no UTF-8",
                offset=found.offset,
                instead=content.decode("utf-8", "replace"),
            ) from error

    def place(self, piece: Slice, offset: int) -> dict[str, int]:
        """Return the row and the row group."""
        return {"row": offset, "row_group": piece.layout[0]}

    def locate(self, piece: Slice, offset: int) -> str:
        """Name the row, and the row group."""
        return f"in row {offset:,} (row group {piece.layout[0]:,}): "


class Parquet(TableForm):
    """A Parquet file."""

    kind = "a Parquet file"
    opens = _ParquetFile


class Arrow(TableForm):
    """An Arrow file or stream, which Feather files are too."""

    kind = "an Arrow file"
    opens = _ArrowFile

    def locate(self, piece: Slice, offset: int) -> str:
        """Name the row, and the record batch."""
        return f"in row {offset:,} (record batch {piece.layout[0]:,}): "


def find_columns(schema: Any, fields: Sequence[str], *, name: str) -> list[int]:
    """Return the numbers of the columns that have the names of fields.

    Raises
    ------
    CorpusError
        None or several have one of them, or it holds no texts.
    """
    named = name_fields(fields)
    return [_find_column(schema, field, name=name, argument=argument) for field, argument in named]


def _find_column(schema: Any, field: str, *, name: str, argument: str) -> int:
    indices = schema.get_all_field_indices(field)
    texts = [column.name for column in schema if _holds_text(column.type)]
    if len(indices) == 1 and _holds_text(schema.field(indices[0]).type):
        return int(indices[0])
    cure = f"the columns of texts are {', '.join(texts) or 'none'}"
    usable = [one for one in texts if len(schema.get_all_field_indices(one)) == 1]
    if len(indices) > 1:
        cure = f"give them different names; {cure}"
    elif usable:
        meant = difflib.get_close_matches(field, usable, n=1)
        if len(usable) == 1:
            meant = usable
        such = f"name one with {argument}="
        such = f"name one, such as {argument}={meant[0]!r}" if meant else such
        cure = f"{such}: {cure}"
    if indices:
        what = count(len(indices), "column")
        msg = (
            f"{name} must have one column {field!r} of texts, got {what} of type "
            f"{schema.field(indices[0]).type}; {cure}"
        )
    else:
        msg = f"{name} must have the column {field!r}, which it has not; {cure}"
        if texts != schema.names:
            msg += f"; all columns are {', '.join(schema.names)}"
    raise CorpusError(msg)


def _holds_text(kind: Any) -> bool:
    types = import_arrow().types
    if hasattr(kind, "storage_type"):
        kind = kind.storage_type
    if types.is_dictionary(kind):
        kind = kind.value_type
    names = (
        "is_string",
        "is_large_string",
        "is_string_view",
        "is_binary",
        "is_large_binary",
        "is_binary_view",
        "is_fixed_size_binary",
        "is_null",
    )
    return any(getattr(types, name)(kind) for name in names if hasattr(types, name))


def _fill(arrays: Iterator[tuple[int, Any]], size: int, name: str) -> Iterator[Held]:
    """Yield rows, as many at a time as have room, of one row group each."""
    held: Held | None = None
    for group, rows in _translated(arrays, name):
        start = 0
        while start < len(rows.is_null):
            if held is not None and held.group != group:
                yield held
                held = None
            if held is None:
                held = Held(group)
            stop = rows.find_stop(start, size - held.num_bytes)
            if stop == start and held.num_rows:
                yield held
                held = None
                continue
            # A row that is longer than a slice is a slice by itself.
            stop = max(stop, start + 1)
            held.add(rows.between(start, stop))
            start = stop
    if held is not None:
        yield held


def _translated(arrays: Iterator[tuple[int, Any]], name: str) -> Iterator[tuple[int, Rows]]:
    """Yield rows in batches that are small enough to be searched repeatedly."""
    while True:
        with translating(name):
            found = next(arrays, None)
        if found is None:
            return
        group, array = found
        for start in range(0, len(array), _MAX_BATCH_ROWS):
            with translating(name):
                rows = Rows.of(array.slice(start, _MAX_BATCH_ROWS))
            yield group, rows


def _slice(held: Held, source: SourceFile, cursor: Cursor) -> Slice:
    layout = (held.group, held.num_rows)
    return Slice(cursor, source.name, source.form, held.pack(), goes_on=False, layout=layout)


# Most errors of pyarrow are these, or have one of them as a base.
_READ_ERRORS = (OSError, ValueError, KeyError, NotImplementedError, TypeError)


@contextlib.contextmanager
def translating(name: str) -> Iterator[None]:
    """Raise errors of pyarrow as a `CorpusError` that names the source."""
    try:
        yield
    except CorpusError:
        raise
    # The classes of pyarrow can be named only where it is imported, which this room leaves to
    # those who read tables; of any other error nothing is changed.
    except Exception as error:
        if not isinstance(error, _READ_ERRORS) and type(error).__module__ != "pyarrow.lib":
            raise
        reason = getattr(error, "strerror", None) or error
        msg = f"cannot read {name!r}: {reason}"
        raise CorpusError(msg) from error
