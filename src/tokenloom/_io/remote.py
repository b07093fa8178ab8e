"""Files at addresses such as s3:// and https://, read through fsspec."""

import contextlib
import datetime as dt
import email.utils
import functools
import hashlib
import importlib
import io
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, NoReturn, TypeVar

from tokenloom._io.kinds import is_marker, refuse_unfit
from tokenloom._optional import import_optional
from tokenloom._wording import redact
from tokenloom.errors import (
    ArgumentError,
    CorpusError,
    DownloadError,
    TokenloomError,
    UsageError,
)

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*"
# fsspec chains file systems: simplecache::s3://bucket/a.txt, zip://a.txt::https://a.org/b.zip.
_ADDRESS = re.compile(rf"(?:{_SCHEME}::)*{_SCHEME}://")
# The schemes of web servers in an address.
_WEB = re.compile(r"(?:^|::)(https?)(?=://)", re.IGNORECASE)
_WRAPPER = re.compile(rf"{_SCHEME}::")
_QUERY = re.compile(r"[?#][^\s'\"]*")
_USER = re.compile(r"[^\s'\"/@:]*:[^\s'\"/@]*@")
# Schemes of file systems that ask no other machine.
_LOCAL = {"file", "local", "memory", "dir", "zip", "tar", "libarchive"}
# Facts of file systems that change whenever a file changes.
_TAGS = ("ETag", "etag", "Content-MD5", "Digest", "md5Hash", "blob_id", "version_id")
_TIMES = ("LastModified", "Last-Modified", "last_modified", "updated", "mtime", "created")
# Requests grow, so that the first bytes alone cost little.
_FIRST_BYTES, _MOST_BYTES = 1 << 16, 1 << 23
_NUM_TRIES = 5
_FIRST_PAUSE = 0.2
# Clocks of servers may differ from this machine's by that much.
_CLOCK_NS = 3_600 * 10**9
# Errors that a retry cannot cure.
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotImplementedError)
_GONE = (404, 410)
# Status codes that may pass: timeout, and too many requests.
_BUSY = (408, 429)
# Seconds that a web server may take to accept a connection, and to send its next bytes.
_CONNECT_SECONDS, _READ_SECONDS = 10, 30
# Few attempts where a server does not answer, since each takes all of these seconds.
_NUM_WAITS = 2
# Some packages repeat requests themselves: facts about a file are not asked for again once that
# took this number of seconds.
_MOST_SECONDS = 30
# After this number of seconds without an answer a message names the file that is waited for.
_SILENT_SECONDS = 10
_logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")


def is_offline() -> bool:
    """Return whether the environment forbids downloads."""
    return os.environ.get("TOKENLOOM_OFFLINE", "0") not in ("", "0")


def is_address(name: str) -> bool:
    """Return whether a name is an address, rather than a path.

    >>> is_address("s3://texts/a.jsonl"), is_address("texts/a.jsonl")
    (True, False)
    >>> is_address("simplecache::s3://texts/a.jsonl")
    True
    """
    return bool(_ADDRESS.match(name))


@dataclass(frozen=True)
class RemoteFile:
    """A file at an address.

    Attributes
    ----------
    address : str
        With any secrets that reading it takes; no message and no store has it.
    """

    address: str = field(repr=False)

    def __str__(self) -> str:
        return redact(self.address)

    def as_posix(self) -> str:
        """Return the address without secrets."""
        return str(self)

    @property
    def name(self) -> str:
        """The last part of the address; of a chain, of the link that names the file."""
        return PurePosixPath(_divide(str(self))[1]).name

    @property
    def suffix(self) -> str:
        """The end of its name."""
        return PurePosixPath(self.name).suffix

    def status(self) -> tuple[int, int]:
        """Return size in bytes, and a fingerprint that changes when the file changes.

        Raises
        ------
        CorpusError
            There is no such file, or the server does not report its size.
        DownloadError
            Nothing may be downloaded.
        UsageError
            A package that reads it is not installed.
        """
        facts = self._facts()
        tag = hashlib.sha256(repr([facts.get(key) for key in (*_TAGS, *_TIMES)]).encode())
        return int(facts["size"]), int.from_bytes(tag.digest()[:7], "big")

    @property
    def shows_changes(self) -> bool:
        """Whether the server reports a fact that changes whenever the file does."""
        facts = self._facts()
        return any(facts.get(key) for key in (*_TAGS, *_TIMES))

    def is_older(self, made_ns: int) -> bool:
        """Return whether the file certainly was not changed after a time, in ns."""
        # Addresses that differ in their query may name different files.
        if str(self) != self.address:
            return False
        facts = self._facts()
        times = [_as_ns(facts[key]) for key in _TIMES if facts.get(key)]
        # A program that replaces a file may set one of its times back.
        latest = max((one for one in times if one is not None), default=made_ns)
        return latest + _CLOCK_NS < made_ns

    def open(self) -> "RemoteReader":
        """Return its bytes."""
        return RemoteReader(self)

    def _facts(self) -> dict[str, Any]:
        system, path = _find_system(self.address)

        def look() -> Any:
            with contextlib.suppress(Exception):
                system.invalidate_cache()
            return system.info(path)

        facts = _try(look, str(self))
        if facts.get("type", "file") != "file" or facts.get("size") is None:
            msg = (
                f"cannot read {str(self)!r}: it is no file, or the server does not report its "
                "size: download it first"
            )
            raise CorpusError(msg)
        return dict(facts)


class RemoteReader(io.RawIOBase):
    """The bytes of a remote file, requested again when a connection breaks.

    Parameters
    ----------
    remote : RemoteFile
    """

    def __init__(self, remote: RemoteFile) -> None:
        super().__init__()
        # Set first: Python calls close() also on an object whose __init__ failed.
        self._file: Any = None
        self._remote = remote
        self._system, self._path = _find_system(remote.address)
        self._size = remote.status()[0]
        self._position = 0
        self._held, self._num_asked = b"", _FIRST_BYTES
        # Where a server sends a file only as a whole.
        self._is_stream = False

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read some bytes."""
        view = memoryview(buffer).cast("B")
        if not self._held and self._position < self._size:
            wanted = min(self._num_asked, self._size - self._position)
            self._held = _try(
                lambda: self._fetch(wanted), str(self._remote), again=self._drop, is_reading=True
            )
            self._num_asked = min(2 * self._num_asked, _MOST_BYTES)
        piece, self._held = self._held[: len(view)], self._held[len(view) :]
        view[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to another place."""
        start = {0: 0, 1: self._position, 2: self._size}[whence]
        if start + offset != self._position:
            self._held, self._position = b"", start + offset
            self._drop()
        return self._position

    def tell(self) -> int:
        """Return the place."""
        return self._position

    def close(self) -> None:
        """Close the connection."""
        self._drop()
        super().close()

    def _fetch(self, size: int) -> bytes:
        if self._file is None:
            self._file = self._open()
        try:
            piece: bytes = self._file.read(size)
        except ValueError:
            # Raised if the server knows no ranges, or answered with other bytes.
            if self._is_stream:
                raise
            self._is_stream = True
            self._drop()
            self._file = self._open()
            piece = self._file.read(size)
        if not piece:
            msg = f"the connection ended at byte {self._position:,} of {self._size:,}"
            raise OSError(msg)
        is_end = self._is_stream and self._position + len(piece) == self._size
        if len(piece) > size or (is_end and self._file.read(1)):
            msg = f"there are more bytes than the {self._size:,} that the server reported"
            raise OSError(msg)
        return bytes(piece)

    def _open(self) -> Any:
        if not self._is_stream:
            file = self._system.open(
                self._path, "rb", block_size=_MOST_BYTES, cache_type="none", size=self._size
            )
            file.seek(self._position)
            return file
        file, left = self._system.open(self._path, "rb", block_size=0), self._position
        while left and (passed := file.read(min(left, _MOST_BYTES))):
            left -= len(passed)
        return file

    def _drop(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(Exception):
                file.close()


def find_remote(address: str) -> list[RemoteFile]:
    """Return the files that an address means, sorted: one, those in a folder, or of a pattern.

    Raises
    ------
    ArgumentError
        There are none.
    CorpusError
        The server does not answer.
    DownloadError
        Nothing may be downloaded.
    UsageError
        A package that reads them is not installed.
    """
    system, path = _find_system(address)
    name = redact(address)
    before, link, after = _divide(address)
    is_web = link.lower().startswith(("http://", "https://"))

    def look() -> list[str]:
        if "*" in path or ("?" in path and not is_web):
            matches = system.glob(path, detail=True).items()
            found = sorted(one for one, facts in matches if facts["type"] != "directory")
        elif not is_web and system.isdir(path):
            found = [one for one in sorted(system.find(path)) if not _is_hidden(one, path)]
        else:
            return [path]
        return [one for one in found if not _is_marker(system, one)]

    paths = _try(look, name)
    if not paths:
        msg = f"the source {name!r} must hold at least one file that is not hidden, got none"
        raise ArgumentError(msg)
    refuse_unfit(repr(name), (one.split("/") for one in paths), path.split("/"))
    if paths == [path]:
        return [RemoteFile(address)]
    if not before and not after:
        return [RemoteFile(system.unstrip_protocol(one)) for one in paths]
    scheme = link.partition("://")[0]
    links = [one if "://" in one else f"{scheme}://{one}" for one in paths]
    return [RemoteFile(f"{before}{one}{after}") for one in links]


def _is_marker(system: Any, path: str) -> bool:
    return is_marker(PurePosixPath(path).name, lambda: bytes(system.cat_file(path, 0, 4)))


def _divide(address: str) -> tuple[str, str, str]:
    """Return the link of a chain that names the file, between what is before and after it.

    >>> _divide("simplecache::s3://bucket/a.txt")
    ('simplecache::', 's3://bucket/a.txt', '')
    >>> _divide("zip://a.txt::https://a.org/b.zip")
    ('', 'zip://a.txt', '::https://a.org/b.zip')
    """
    start = 0
    while wrapper := _WRAPPER.match(address, start):
        start = wrapper.end()
    link, sign, after = address[start:].partition("::")
    return address[:start], link, sign + after


def _is_hidden(path: str, folder: str) -> bool:
    inside = path.removeprefix(folder).strip("/")
    return any(part.startswith(".") for part in inside.split("/"))


def _find_system(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path there."""
    schemes = {link.partition("://")[0].lower() for link in address.split("::") if "://" in link}
    if is_offline() and not schemes <= _LOCAL:
        msg = (
            f"cannot read {redact(address)!r}: downloads are forbidden by TOKENLOOM_OFFLINE or "
            "--offline: name a file of this machine, or allow them"
        )
        raise DownloadError(msg)
    return _make_system(address)


@functools.lru_cache(maxsize=64)
def _make_system(address: str) -> tuple[Any, str]:
    name, scheme = redact(address), _divide(address)[1].partition("://")[0]
    core = import_optional(
        "fsspec.core",
        purpose=f"reading {scheme}:// addresses",
        extra="remote",
        instead="or download the file first",
    )

    def connect() -> tuple[Any, str]:
        try:
            system, path = core.url_to_fs(address, **_configure_web(address))
        except ImportError as error:
            msg = (
                f"reading {name!r} needs another package ({error}): python -m pip install "
                f"'tokenloom[remote]', and for {scheme}:// what fsspec has for it, such as s3fs, "
                "gcsfs or huggingface_hub, or download the file first"
            )
            raise UsageError(msg) from error
        except ValueError:
            msg = f"a source must be a path or an address that fsspec knows, got {name!r}"
            raise ArgumentError(msg) from None
        return system, path

    # Some file systems connect to their server here.
    return _try(connect, name)


def _configure_web(address: str) -> dict[str, Any]:
    """Return the options of the web servers in an address, which may be a chain."""
    schemes = _WEB.findall(address)
    if not schemes:
        return {}
    timeout = importlib.import_module("aiohttp").ClientTimeout(
        total=None, sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS
    )
    options = {
        "client_kwargs": {"timeout": timeout, "raise_for_status": _check_range},
        # A server that compresses what it sends counts ranges in other bytes.
        "headers": {"Accept-Encoding": "identity"},
    }
    return dict.fromkeys(schemes, options)


async def _check_range(response: Any) -> None:
    """Check that a web server answers with the range that was asked for, or with a whole file.

    fsspec takes for the range whatever a server compresses, or calls a part.
    """
    asked = response.request_info.headers.get("Range")
    if asked is None or response.status not in (200, 206):
        return
    first = asked.removeprefix("bytes=").partition("-")[0]
    given = response.headers.get("Content-Range", f"bytes {first}-")
    encoding = response.headers.get("Content-Encoding", "identity")
    # Units are written in either case. Where the last bytes were asked for, there is no first one.
    is_other = bool(first) and not given.lower().startswith(f"bytes {first}-")
    if encoding != "identity" or is_other:
        msg = f"the server answered {asked!r} with {given!r}, encoding {encoding}"
        raise ValueError(msg)


def _try(
    do: Callable[[], _Result],
    name: str,
    *,
    again: Callable[[], object] = lambda: None,
    is_reading: bool = False,
) -> _Result:
    """Return the result of a function, which is called again when a connection breaks.

    With ``is_reading`` the time that passed is no reason to give up: a long read may
    lose its connection late.
    """
    began_at = time.monotonic()
    for number in _numbers():
        try:
            with _reporting_silence(name):
                return do()
        except TokenloomError:
            raise
        # Each file system has errors of its own.
        except Exception as found:  # noqa: BLE001
            again()
            error = _find_cause(found)
            num_tries = _NUM_WAITS if isinstance(error, TimeoutError) else _NUM_TRIES
            is_late = not is_reading and time.monotonic() - began_at > _MOST_SECONDS
            if number >= num_tries or is_late or _is_final(error):
                _refuse(error, name, number)
        time.sleep(_FIRST_PAUSE * 2 ** (number - 1))
    raise AssertionError


@contextlib.contextmanager
def _reporting_silence(name: str) -> Iterator[None]:
    """Log what the block waits for, if it takes long."""

    def report() -> None:
        _logger.warning("%s has not answered for %d seconds: waiting", name, _SILENT_SECONDS)

    timer = threading.Timer(_SILENT_SECONDS, report)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _find_cause(error: Exception) -> Exception:
    """Return the cause of an error: fsspec reports any failure on the web as a missing file."""
    cause = error.__cause__
    is_of_web = isinstance(cause, OSError) or type(cause).__module__.startswith("aiohttp")
    if isinstance(error, FileNotFoundError) and isinstance(cause, Exception) and is_of_web:
        return error if _find_status(cause) in _GONE else cause
    return error


def _is_final(error: Exception) -> bool:
    """Return whether another attempt would fail as well."""
    status = _find_status(error)
    is_refused = status is not None and 400 <= status < 500 and status not in _BUSY
    return is_refused or isinstance(error, _FINAL)


def _find_status(error: Exception) -> int | None:
    """Return the HTTP status that a server answered with, if an error has one."""
    places = (
        (error, "status"),
        # Read only if there is no status: newer versions of aiohttp deprecate it.
        (error, "code"),
        (getattr(error, "response", None), "status_code"),
    )
    for holder, name in places:
        status = getattr(holder, name, None)
        if isinstance(status, int):
            return status
    return None


def _numbers() -> Iterator[int]:
    yield from range(1, _NUM_TRIES + 1)


def _refuse(error: Exception, name: str, number: int) -> NoReturn:
    # The message may hold the user or the query alone, without the address.
    reason = _USER.sub("", _QUERY.sub("", redact(" ".join(str(error).split()))))
    reason = reason or type(error).__name__
    if isinstance(error, FileNotFoundError):
        reason = "there is no such file"
    tries = f", asked {number} times" if number > 1 else ""
    msg = f"cannot read {name!r}{tries}: {type(error).__name__}, {reason}"
    # Without the cause, whose text may hold the whole address.
    raise CorpusError(msg) from None


def _as_ns(value: Any) -> int | None:
    """Return a time in ns since 1970, in whatever form a file system reports it."""
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        if isinstance(value, str):
            try:
                value = dt.datetime.fromisoformat(value)
            except ValueError:
                value = email.utils.parsedate_to_datetime(value)
        if isinstance(value, dt.datetime):
            if value.tzinfo is None:
                value = value.replace(tzinfo=dt.UTC)
            value = value.timestamp()
        return int(float(value) * 1e9)
    return None
