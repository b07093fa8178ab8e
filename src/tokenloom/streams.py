"""Files as streams of bytes, whatever they are compressed with."""

import bz2
import contextlib
import gzip
import hashlib
import importlib
import io
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, Self, cast

from tokenloom.errors import CorpusError, UsageError

_SKIP_BYTES = 1 << 20
_BUFFER_BYTES = 1 << 18
# What these become is held in memory.
_ZSTD_BYTES = 1 << 14


class _Readable(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


def _open_zstd(file: BinaryIO) -> _Readable:
    try:
        # An optional dependency, imported where it is needed.
        zstandard: Any = importlib.import_module("zstandard")
    except ImportError as error:
        msg = (
            "a .zst file needs the package zstandard, which is not installed: "
            "python -m pip install zstandard, or decompress the file first"
        )
        raise UsageError(msg) from error
    return _ZstdFile(file, zstandard.ZstdDecompressor().decompressobj)


class _ZstdFile:
    """Reads one frame after the other, and tells of one that was cut.

    The package's own reader takes the end of a file for the end of a frame.
    """

    def __init__(self, file: BinaryIO, begin: Callable[[], Any]) -> None:
        self._file, self._begin = file, begin
        self._frame: Any = None
        self._held = b""

    def read(self, size: int = -1, /) -> bytes:
        while not self._held:
            rest = self._frame.unused_data if self._frame is not None and self._frame.eof else b""
            content = rest or self._file.read(_ZSTD_BYTES)
            if not content:
                if self._frame is not None and not self._frame.eof:
                    msg = "the file ends before its last frame does"
                    raise EOFError(msg)
                return b""
            if self._frame is None or self._frame.eof:
                self._frame = self._begin()
            self._held = self._frame.decompress(content)
        piece, self._held = self._held[:size], self._held[size:]
        return piece


_OPENERS: dict[str, Callable[[BinaryIO], _Readable]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file, mode="rb"),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": _open_zstd,
}


def bare_suffix(name: str) -> str:
    """Return the end of a file's name before that of its compression.

    >>> bare_suffix("texts/a.jsonl.gz"), bare_suffix("b.TXT")
    ('.jsonl', '.txt')
    """
    path = Path(name)
    if path.suffix.lower() in _OPENERS:
        path = path.with_suffix("")
    return path.suffix.lower()


class Stream:
    """The bytes of a file, decompressed, from a place on.

    Parameters
    ----------
    path : Path
        A name that ends with .gz, .bz2, .xz or .zst is decompressed.
    name : str
        What messages call it.
    offset : int
        So many bytes, after decompression, are left out.
    hashes : bool
        Whether to compute the SHA-256 of the file's bytes, before decompression.

    Raises
    ------
    CorpusError
        The file cannot be read or decompressed.
    UsageError
        Nothing is installed that decompresses it.
    """

    def __init__(self, path: Path, *, name: str, offset: int = 0, hashes: bool = False) -> None:
        self._name = name
        with self._translating():
            self._raw = _Counted(path, hashes=hashes)
        opener = _OPENERS.get(path.suffix.lower())
        try:
            if opener is None and not hashes:
                with self._translating():
                    self._raw.seek(offset)
                self._file: _Readable = self._raw
                return
            with self._translating():
                buffered = cast("BinaryIO", io.BufferedReader(self._raw, _BUFFER_BYTES))
                self._file = buffered if opener is None else opener(buffered)
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
        with self._translating():
            while size and (piece := self._file.read(size)):
                pieces.append(piece)
                size -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def finish(self) -> str | None:
        """Read what is left of the file, and return its SHA-256 if it was to be computed."""
        with self._translating():
            while self._raw.read(_SKIP_BYTES):
                pass
        return self._raw.hexdigest()

    def status(self) -> tuple[int, int]:
        """Return size in bytes and time of the last change, in ns."""
        return read_status(self._raw.fileno())

    def close(self) -> None:
        """Close the file."""
        self._raw.close()

    @contextlib.contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
            raise self._wrong(error) from error
        except Exception as error:
            # The package for .zst has an error of its own, which is a plain Exception.
            if type(error).__name__ != "ZstdError":
                raise
            raise self._wrong(error) from error

    def _wrong(self, error: Exception) -> CorpusError:
        raw = getattr(self, "_raw", None)
        where = f" near byte {raw.position:,}" if raw is not None and not raw.closed else ""
        reason = getattr(error, "strerror", None) or error
        return CorpusError(f"cannot read {self._name!r}{where}: {reason}")


class _Counted(io.RawIOBase):
    """A file's bytes, counted, and hashed where that is asked for."""

    def __init__(self, path: Path, *, hashes: bool) -> None:
        self._file = path.open("rb", buffering=0)
        self._digest = hashlib.sha256() if hashes else None
        self.position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        size = self._file.readinto(buffer) or 0
        self.position += size
        if self._digest is not None:
            self._digest.update(memoryview(buffer)[:size])
        return size

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self.position = self._file.seek(offset, whence)
        return self.position

    def fileno(self) -> int:
        return self._file.fileno()

    def hexdigest(self) -> str | None:
        return None if self._digest is None else self._digest.hexdigest()

    def close(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()
        super().close()


def read_status(file: int | Path) -> tuple[int, int]:
    """Return a file's size in bytes and the time of its last change, in ns.

    Raises
    ------
    OSError
        There is no such file.
    """
    status = os.stat(file)  # noqa: PTH116  an open file has a number, and no path
    return status.st_size, status.st_mtime_ns
