"""Files as streams of bytes, whatever they are compressed with and however encoded."""

import bz2
import codecs
import hashlib
import io
import lzma
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn, Protocol, Self, cast

from tokenloom._io.kinds import BZIP2, GZIP, HEAD_BYTES, XZ, ZSTD, Kind, recognise
from tokenloom._io.regular import open_raw
from tokenloom._io.remote import RemoteFile
from tokenloom._optional import import_optional
from tokenloom.errors import ArgumentError, CorpusError

# What becomes of bytes that are not in the encoding: an error; U+FFFD; or a byte
# that no UTF-8 has, so that the reader of the document finds it.
Undecodable = Literal["stop", "replace", "mark"]

_SKIP_BYTES = 1 << 20
_READ_BYTES = 1 << 16
_BUFFER_BYTES = 1 << 18
# No byte order mark is longer.
_MARK_BYTES = 4
# Compressed bytes that are decompressed at a time; the result is held in memory.
_ZSTD_BYTES = 1 << 12
_MARK_ERRORS = "tokenloom-mark"
_ESCAPE = "\udcff"
_NO_UTF8 = b"\xff"


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Decoder(Protocol):
    """The interface of the decompressors of `bz2` and `lzma`, for one stream."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


class _GzipMember:
    """One member of a gzip file."""

    def __init__(self) -> None:
        # With the header and the checksum of gzip.
        self._inner = zlib.decompressobj(wbits=31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = 0, /) -> bytes:
        piece = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        self.needs_input = len(piece) < max_length
        return piece


def _import_zstandard() -> Any:
    return import_optional(
        "zstandard", purpose="a .zst file", extra="zstd", instead="or decompress the file first"
    )


class _ZstdFrame:
    """One frame of a zstd file."""

    def __init__(self) -> None:
        zstandard = _import_zstandard()
        # Large dumps are compressed with a window of up to 2 GB (zstd --long=31).
        decompressor = zstandard.ZstdDecompressor(max_window_size=1 << zstandard.WINDOWLOG_MAX)
        self._inner: Any = decompressor.decompressobj()
        self._held = b""
        self.unused_data = b""

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def needs_input(self) -> bool:
        return not self._held

    def decompress(self, data: bytes, _: int = 0, /) -> bytes:
        data = self._held + data
        part, self._held = data[:_ZSTD_BYTES], data[_ZSTD_BYTES:]
        piece: bytes = self._inner.decompress(part)
        if self.eof:
            self.unused_data, self._held = self._inner.unused_data + self._held, b""
        return piece


class _Compression(NamedTuple):
    """How files of a kind are decompressed.

    Attributes
    ----------
    name : str
        For messages.
    magic : tuple of bytes
        A stream begins with one of them.
    begin : callable
        Returns a decompressor of one stream.
    padding : int
        Zeros may follow a stream, in a multiple of this number; 0 allows none.
    """

    name: str
    magic: tuple[bytes, ...]
    begin: Callable[[], _Decoder]
    padding: int = 0


_ZSTD_FRAME = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = tuple(bytes((first,)) + b"\x2a\x4d\x18" for first in range(0x50, 0x60))
_COMPRESSIONS: dict[str, _Compression] = {
    # Tapes and some programs fill the last block with zeros.
    GZIP: _Compression("gzip", (b"\x1f\x8b",), _GzipMember, padding=1),
    BZIP2: _Compression("bzip2", (b"BZh",), bz2.BZ2Decompressor),
    # Stream padding comes in four bytes.
    XZ: _Compression(
        "xz", (b"\xfd7zXZ\0",), lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ), padding=4
    ),
    ZSTD: _Compression("zstd", (_ZSTD_FRAME, *_SKIPPABLE), _ZstdFrame),
}
# What the older program of that name wrote; there is one stream, and no checksum.
_LZMA_ALONE = _Compression("lzma", (b"",), lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE))


class _Decompressed:
    """Reads one compressed stream after the other, and refuses whatever else is in the file.

    The packages' own readers take damaged bytes after a stream, or the end of
    the file, for the end of the text.
    """

    def __init__(self, file: _Readable, compression: _Compression) -> None:
        self._file, self._compression = file, compression
        self._decoder: _Decoder | None = None
        self._held, self._rest = b"", b""
        # The number of bytes read from the file, and the offset at which the last stream ended.
        self._num_read, self._ended_at = 0, 0
        self._is_first = True

    def read(self, size: int, /) -> bytes:
        while not self._held:
            decoder = self._decoder or self._begin()
            if decoder is None:
                return b""
            data = b""
            if decoder.needs_input:
                data = self._take() or self._refuse_end()
            self._held = decoder.decompress(data, _SKIP_BYTES)
            if decoder.eof:
                self._rest = decoder.unused_data
                self._ended_at = self._num_read - len(self._rest)
                self._decoder, self._is_first = None, False
        piece, self._held = self._held[:size], self._held[size:]
        return piece

    def _take(self) -> bytes:
        if self._rest:
            taken, self._rest = self._rest, b""
            return taken
        taken = self._file.read(_READ_BYTES)
        self._num_read += len(taken)
        return taken

    def _refuse_end(self) -> NoReturn:
        msg = "the file ends before its last stream does: it was cut"
        raise EOFError(msg)

    def _hold(self, size: int) -> None:
        """Read until the rest has ``size`` bytes, or the file ends."""
        while len(self._rest) < size and (more := self._file.read(_READ_BYTES)):
            self._rest += more
            self._num_read += len(more)

    def _begin(self) -> _Decoder | None:
        """Begin the next stream, and return its decoder; None at the end of the file."""
        if not self._is_first:
            self._pass_padding()
        self._hold(16)
        while self._rest.startswith(_SKIPPABLE) and self._compression.name == "zstd":
            self._pass_skippable()
            self._hold(16)
        if not self._rest:
            if self._num_read == 0:
                msg = f"it is empty, without any {self._compression.name} stream"
                raise EOFError(msg)
            return None
        if not self._rest.startswith(self._compression.magic):
            self._change_or_refuse()
        self._decoder = self._compression.begin()
        return self._decoder

    def _change_or_refuse(self) -> None:
        kind = recognise(self._rest)
        if self._is_first and self._compression.name == "xz":
            self._hold(HEAD_BYTES)
            if kind is not None and kind.name == "compressed by lzma":
                self._compression = _LZMA_ALONE
                return
        what = f"it is {kind.name}" if kind else f"it is not compressed by {self._compression.name}"
        if not self._is_first:
            what = (
                f"what follows the stream that ends at byte {self._ended_at:,} is no stream of "
                f"{self._compression.name}: the file is damaged, or something was appended to it"
            )
        raise ValueError(what)

    def _pass_padding(self) -> None:
        num_zeros = 0
        self._hold(1)
        while self._compression.padding and self._rest.startswith(b"\0"):
            stripped = self._rest.lstrip(b"\0")
            num_zeros += len(self._rest) - len(stripped)
            self._rest = stripped
            self._hold(1)
        if self._compression.padding and num_zeros % self._compression.padding:
            msg = (
                f"{num_zeros:,} zeros follow the stream that ends at byte {self._ended_at:,}, "
                f"padding has a multiple of {self._compression.padding}: the file is damaged"
            )
            raise ValueError(msg)
        if self._compression is _LZMA_ALONE and self._rest:
            self._change_or_refuse()

    def _pass_skippable(self) -> None:
        """Pass over a frame of zstd that holds no text."""
        size = 8 + int.from_bytes(self._rest[4:8], "little")
        while size:
            taken = self._take() or self._refuse_end()
            self._rest, size = taken[size:], max(size - len(taken), 0)
        self._ended_at, self._is_first = self._num_read - len(self._rest), False


class _Transcoded:
    """Reads a text in another encoding as UTF-8, without a byte order mark."""

    def __init__(self, file: _Readable, encoding: str, undecodable: Undecodable) -> None:
        self._file, self._encoding = file, encoding
        self._errors = {"stop": "strict", "replace": "replace", "mark": _MARK_ERRORS}[undecodable]
        self._decoder: codecs.IncrementalDecoder | None = None
        self._held = b""
        self._num_read = 0
        self._is_first, self._is_over = True, False

    def read(self, size: int, /) -> bytes:
        while not self._held and not self._is_over:
            data = self._file.read(_READ_BYTES)
            if self._decoder is None:
                # A compressed stream may hold a part of the byte order mark alone.
                while 0 < len(data) < _MARK_BYTES and (more := self._file.read(_READ_BYTES)):
                    data += more
                name = self._encoding
                if name in ("utf-16", "utf-32") and not data.startswith(_BYTE_ORDER_MARKS):
                    name += "-le"
                self._decoder = codecs.getincrementaldecoder(name)(self._errors)
            self._num_read += len(data)
            self._is_over = not data
            text = self._decode(self._decoder, data)
            if text and self._is_first:
                text, self._is_first = text.removeprefix("\ufeff"), False
            self._held = text.encode("utf-8", _MARK_ERRORS)
        piece, self._held = self._held[:size], self._held[size:]
        return piece

    def _decode(self, decoder: codecs.IncrementalDecoder, data: bytes) -> str:
        try:
            return decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            # error.object begins with the bytes that were left over before.
            offset = self._num_read - len(error.object) + error.start
            msg = (
                f"byte 0x{error.object[error.start]:02x} at offset {offset:,} is not text in "
                f"{self._encoding}, {error.reason}: name another encoding, or choose "
                "on_error='skip' or on_error='replace'"
            )
            raise ValueError(msg) from error


_BYTE_ORDER_MARKS = (
    codecs.BOM_UTF16_LE,
    codecs.BOM_UTF16_BE,
    codecs.BOM_UTF32_LE,
    codecs.BOM_UTF32_BE,
)


def _mark(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace bytes that cannot be decoded by a mark that can be found again."""
    if isinstance(error, UnicodeDecodeError):
        return _ESCAPE, error.end
    if isinstance(error, UnicodeEncodeError):
        return _NO_UTF8 * (error.end - error.start), error.end
    raise error


codecs.register_error(_MARK_ERRORS, _mark)


def find_encoding(encoding: str) -> str:
    """Return Python's own name of an encoding of text.

    Raises
    ------
    ArgumentError
        Python knows no such encoding, or it does not encode text.

    >>> find_encoding("UTF8"), find_encoding("latin_1")
    ('utf-8', 'iso8859-1')
    """
    try:
        found = codecs.lookup(encoding)
        codecs.getincrementaldecoder(encoding)
        # Codecs that do not encode text raise here.
        "a".encode(encoding)
    except (LookupError, TypeError, ValueError):
        msg = (
            "encoding must be a text encoding that Python knows, such as 'utf-16', got "
            f"{encoding!r}"
        )
        raise ArgumentError(msg) from None
    return found.name


def check_text(path: Path | RemoteFile, *, name: str, encoding: str = "utf-8") -> bytes:
    """Return the first bytes of a text file, decompressed, after a check of its kind.

    Parameters
    ----------
    path : Path
    name : str
        What messages call it.
    encoding : str
        See `find_encoding`.

    Raises
    ------
    CorpusError
        The file cannot be read, or it is no text in this encoding; the message
        says what it is, and the cure.
    UsageError
        Nothing is installed that decompresses it.
    """
    with Stream(path, name=name) as stream:
        head = stream.read(HEAD_BYTES)
    refuse_other_kinds(head, name=name, encoding=encoding)
    return head


def refuse_other_kinds(head: bytes, *, name: str, encoding: str = "utf-8") -> None:
    """Refuse a file whose first bytes show that it is no text in an encoding.

    Raises
    ------
    CorpusError
        It is something else; the message says what it is, and the cure.

    >>> refuse_other_kinds(b"to be, or not to be", name="a.txt")
    """
    kind = recognise(head, name=name)
    if kind is not None and kind.encoding is not None and encoding.startswith(kind.encoding[:6]):
        return
    if kind is None and encoding.startswith(("utf-16", "utf-32")) and _is_utf_8(head):
        kind = Kind("text in UTF-8", "leave encoding= out")
    if kind is not None:
        # Piped text has no file name that could be changed.
        is_piped = name == "-" and kind.name.startswith("compressed")
        cure = "decompress it first" if is_piped else kind.cure
        msg = f"{name} must be text in {encoding}, but it is {kind.name}: {cure}"
        raise CorpusError(msg)


def _is_utf_8(head: bytes) -> bool:
    """Return whether a text, of which this is the beginning, cannot be in UTF-16 or UTF-32.

    In those encodings hardly any sequence of a few characters is valid UTF-8.
    """
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return len(head) >= 16 and b"\0" not in head


class Stream:
    """The bytes of a file, decompressed, from an offset on.

    Parameters
    ----------
    path : Path or RemoteFile
        A name that ends with .gz, .bz2, .xz or .zst is decompressed.
    name : str
        What messages call it.
    offset : int
        The number of bytes that are left out at the beginning, after decompression.
    hashes : bool
        Whether to compute the SHA-256 of the file's bytes, before decompression.
    encoding : str
        See `find_encoding`. A text in another encoding is converted to UTF-8.
    undecodable : "stop", "replace" or "mark"
        What undecodable bytes of an encoding other than UTF-8 become: an error,
        U+FFFD, or a byte that UTF-8 never has.

    Raises
    ------
    CorpusError
        The file cannot be read or decompressed.
    UsageError
        Nothing is installed that decompresses it.
    """

    def __init__(
        self,
        path: Path | RemoteFile,
        *,
        name: str,
        offset: int = 0,
        hashes: bool = False,
        encoding: str = "utf-8",
        undecodable: Undecodable = "stop",
    ) -> None:
        self._name = name
        self._translating = _Translating(self._wrong)
        with self._translating:
            self._raw = _Counted(path, hashes=hashes)
        compression = _COMPRESSIONS.get(path.suffix.lower())
        try:
            self._file: _Readable = self._raw
            if compression is not None or hashes:
                self._file = cast("_Readable", io.BufferedReader(self._raw, _BUFFER_BYTES))
            if compression is not None:
                if compression.begin is _ZstdFrame:
                    # Import the package before anything is read.
                    _import_zstandard()
                self._file = _Decompressed(self._file, compression)
            if encoding != "utf-8":
                self._file = _Transcoded(self._file, encoding, undecodable)
            if self._file is self._raw and not hashes:
                with self._translating:
                    self._raw.seek(offset)
                return
            while offset and (skipped := self.read(min(offset, _SKIP_BYTES))):
                offset -= len(skipped)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def position(self) -> int:
        """How many bytes of the file were read, before decompression."""
        return self._raw.position

    def read(self, size: int) -> bytes:
        """Return the next bytes: fewer than ``size`` only at the end."""
        pieces = []
        with self._translating:
            while size and (piece := self._file.read(size)):
                pieces.append(piece)
                size -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def finish(self) -> tuple[int, str | None]:
        """Read the rest of the file, and return its size and, if ``hashes`` was set, SHA-256."""
        with self._translating:
            # Most often nothing is left, and a large buffer would be made for it.
            while self._raw.read(_READ_BYTES):
                pass
        return self._raw.position, self._raw.hexdigest()

    def prefix(self) -> tuple[int, str] | None:
        """Return number and SHA-256 of the file's bytes read so far, if ``hashes`` was set."""
        digest = self._raw.hexdigest()
        return None if digest is None else (self.position, digest)

    def status(self) -> tuple[int, int]:
        """Return size in bytes and time of the last change, in ns."""
        return self._raw.status()

    def close(self) -> None:
        """Close the file."""
        self._raw.close()

    def _wrong(self, error: Exception) -> CorpusError:
        raw = getattr(self, "_raw", None)
        where = f" near byte {raw.position:,}" if raw is not None and not raw.closed else ""
        reason = getattr(error, "strerror", None) or error
        return CorpusError(f"cannot read {self._name!r}{where}: {reason}")


class _Translating:
    """A block in which an error of reading or decompressing becomes a CorpusError.

    It is quicker than a generator, which matters where there are many small files.
    """

    def __init__(self, wrong: Callable[[Exception], CorpusError]) -> None:
        self._wrong = wrong

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        # A CorpusError says already what could not be read.
        if error is None or isinstance(error, CorpusError):
            return
        # The package for .zst has an error of its own, which is a plain Exception.
        if isinstance(error, _READ_ERRORS) or type(error).__name__ == "ZstdError":
            raise self._wrong(cast("Exception", error)) from error


_READ_ERRORS = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)


class _Counted(io.RawIOBase):
    """A file's bytes, counted, and hashed where that is asked for."""

    def __init__(self, path: Path | RemoteFile, *, hashes: bool) -> None:
        self._path = path
        self._file: io.RawIOBase
        if isinstance(path, RemoteFile):
            self._file = path.open()
        else:
            self._file = open_raw(path)
        self._digest = hashlib.sha256() if hashes else None
        self.position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        size = cast("Any", self._file).readinto(buffer) or 0
        self.position += size
        if self._digest is not None:
            self._digest.update(memoryview(buffer)[:size])
        return size

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self.position = self._file.seek(offset, whence)
        return self.position

    def status(self) -> tuple[int, int]:
        if isinstance(self._path, RemoteFile):
            return self._path.status()
        return read_status(self._file.fileno())

    def hexdigest(self) -> str | None:
        return None if self._digest is None else self._digest.hexdigest()

    def close(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()
        super().close()


def read_status(file: int | Path | RemoteFile) -> tuple[int, int]:
    """Return a file's size in bytes and the time of its last change, in ns.

    For a remote file the second is a number that changes whenever the file does.

    Raises
    ------
    OSError
        There is no such file.
    """
    if isinstance(file, RemoteFile):
        return file.status()
    status = os.stat(file)  # noqa: PTH116  an open file has a number, and no path
    return status.st_size, status.st_mtime_ns
