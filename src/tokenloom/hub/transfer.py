"""The attempts of a download: what is asked of a server, and what its replies are worth."""

import contextlib
import functools
import http.client
import io
import logging
import os
import random
import re
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, cast
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, MaxRetryError
from urllib3.util.retry import Retry

from tokenloom._io.digest import hash_file
from tokenloom._progress import open_bar
from tokenloom._wording import count
from tokenloom.errors import ChecksumError, DownloadError
from tokenloom.hub.addresses import Patience, hide_password

if TYPE_CHECKING:
    from tqdm import tqdm

_LOGGER = logging.getLogger("tokenloom.download")

# Requests does not translate every error of urllib3.
_NETWORK_ERRORS = (requests.RequestException, HTTPError, OSError, ValueError)
_OK, _PART, _NO_SUCH_PART, _SWITCHING_PROTOCOLS = 200, 206, 416, 101
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# A little later the same request may get another reply.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_NUM_REDIRECTS = 5
_PIECE_BYTES = 1 << 13
# A step is the beginning of a reply, or this many bytes of the file.
_STEP_BYTES = 1 << 15
# The most bytes of a step, with everything that the server adds to the content.
_MAX_STEP_BYTES = 1 << 20
# Characters of a server's text in a message: a status line may be 64 KiB long.
_MAX_MESSAGE = 500


def make_bar(name: str, *, num_bytes: int | None, progress: bool | None) -> "tqdm[NoReturn]":
    """Return the bar that shows how much of a file has arrived."""
    return open_bar(total=num_bytes, desc=name, unit="B", unit_scale=True, progress=progress)


class FetchError(Exception):
    """A failed attempt to fetch a file.

    Attributes
    ----------
    retry_seconds : float or None
        Pause before the next attempt at this address; None: no further attempt.
    is_content : bool
        Whether a complete but different file came.
    spoils : bool
        Whether the bytes that arrived before must be discarded.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_seconds: float | None = None,
        is_content: bool = False,
        spoils: bool = False,
    ) -> None:
        # A server wrote a part of it: no terminal may obey that, and it may be long.
        shown = message if len(message) <= _MAX_MESSAGE else f"{message[:_MAX_MESSAGE]}..."
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown))
        self.retry_seconds = retry_seconds
        self.is_content = is_content
        self.spoils = spoils


def ask_in_turn(
    urls: Sequence[str], partial: "PartialFile", patience: Patience
) -> dict[str, FetchError]:
    """Return the errors of all addresses, or no errors if the file is complete."""
    failures: dict[str, FetchError] = {}
    to_ask = list(dict.fromkeys(urls))
    bounds = _Bounds(patience)
    for pause in pauses(patience):
        asked_for = (failures[url].retry_seconds or 0 for url in to_ask if url in failures)
        patience.sleep(max(pause, *asked_for, 0))
        for url in to_ask:
            try:
                partial.fetch_rest(url, bounds)
            except FetchError as failure:
                _LOGGER.info("%s", hide_password(f"{url}: {failure}"))
                failures[url] = failure
            else:
                return {}
        to_ask = [
            url
            for url in to_ask
            if (seconds := failures[url].retry_seconds) is not None
            and seconds <= patience.max_pause_seconds
        ]
        if not to_ask:
            break
    return failures


def pauses(patience: Patience) -> Iterator[float]:
    """Yield how many seconds to wait before each attempt.

    >>> [round(pause) for pause in pauses(Patience(num_attempts=2, pause_seconds=0.1))]
    [0, 0]
    """
    yield 0.0
    for doublings in range(patience.num_attempts - 1):
        longest = min(patience.pause_seconds * 2**doublings, patience.max_pause_seconds)
        # Not from the global generator, whose state belongs to the caller.
        yield random.SystemRandom().uniform(longest / 2, longest)


def summarise(
    failures: Sequence[tuple[str, FetchError]], path: str | os.PathLike[str], *, cure: str
) -> DownloadError | ChecksumError:
    """Return the error of a file that no address had, with the reason of each."""
    tried = hide_password("; ".join(f"{url}: {failure}" for url, failure in failures))
    if failures[-1][1].is_content:
        kind: type[DownloadError | ChecksumError] = ChecksumError
        advice = "the server may have given an error page or another edition: try again"
    else:
        kind, advice = DownloadError, "check the network and try again"
    msg = (
        f"cannot download {Path(path).name!r}: {tried}. What to do: {advice}, "
        f"or put the file at {os.fspath(path)!r} by hand, "
        f"or {cure}"
    )
    return kind(msg)


class PartialFile:
    """The bytes of a file that have arrived, and the expected size and hash of the whole."""

    def __init__(
        self,
        file: BinaryIO,
        path: Path,
        bar: "tqdm[NoReturn]",
        *,
        num_bytes: int | None,
        max_bytes: int,
        digest: str,
    ) -> None:
        self._file = file
        self._path = path
        self._bar = bar
        self._num_bytes = num_bytes
        self._digest = digest
        self._max_bytes = max_bytes if num_bytes is None else num_bytes
        # What each address called its edition when it last sent bytes.
        self._editions: dict[str, str] = {}

    @property
    def _size(self) -> int:
        return self._file.tell()

    def fetch_rest(self, url: str, bounds: "_Bounds") -> None:
        """Fetch the missing bytes from an address.

        Raises
        ------
        FetchError
            The file is still not complete.
        """
        try:
            with _Session(bounds) as session, session.ask(url, self._ask_for_rest(url)) as reply:
                self._receive(url, reply, bounds)
        except FetchError as failure:
            if failure.spoils:
                self._restart()
            raise

    def _ask_for_rest(self, url: str) -> dict[str, str]:
        """Return the headers that request the missing bytes; at first all bytes."""
        headers = {"Accept-Encoding": "identity"}
        if self._size:
            headers["Range"] = f"bytes={self._size}-"
            if edition := self._editions.get(url, ""):
                # A server that has another edition by now sends all of it.
                headers["If-Range"] = edition
        return headers

    def _receive(self, url: str, reply: requests.Response, bounds: "_Bounds") -> None:
        asked_start = self._size
        _check_status(reply, asked_start=asked_start)
        stop = None if reply.raw.chunked else _parse_length(reply.headers.get("Content-Length", ""))
        start = 0
        if reply.status_code == _PART:
            start = asked_start
            stop = _parse_range(reply.headers.get("Content-Range", ""), start=start, length=stop)
        if stop is not None and (stop > self._max_bytes or self._num_bytes not in (None, stop)):
            # The reply is refused before its bytes are read, so the bytes from before stay valid;
            # but if it is a part, the next attempt would ask for the same part again.
            raise self._other_size(reply, count(stop, "byte"), spoils=start > 0)
        if start == 0:
            self._restart()
            self._editions[url] = _find_edition(reply.headers)
        try:
            for piece in _pieces(reply, bounds):
                self._file.write(piece)
                self._show()
                if self._size > self._max_bytes:
                    raise self._other_size(reply, f"more than {count(self._max_bytes, 'byte')}")
        except FetchError:
            # The file is complete if the failure came after its last byte.
            if self._size != self._num_bytes or self._hash() != self._digest:
                raise
        self._check(reply, stop)

    def _check(self, reply: requests.Response, stop: int | None) -> None:
        """Refuse the bytes that arrived if they are not the whole file."""
        size, expected = self._size, self._num_bytes or stop or 0
        if size < expected and reply.raw.chunked and stop is None:
            # The reply ended with its last chunk, so the connection was not cut.
            raise self._other_size(reply, count(size, "byte"))
        if size < expected:
            msg = f"the connection ended after {size:,} of {count(expected, 'byte')}"
            raise FetchError(msg, retry_seconds=0)
        if (digest := self._hash()) != self._digest:
            raise _other_file(reply, self._digest, digest, spoils=True)

    def _other_size(self, reply: requests.Response, got: str, *, spoils: bool = True) -> FetchError:
        at_most = "at most " if self._num_bytes is None else ""
        return _other_file(reply, f"{at_most}{count(self._max_bytes, 'byte')}", got, spoils=spoils)

    def _hash(self) -> str:
        self._file.flush()
        return hash_file(self._path, self._digest.partition(":")[0])

    def _restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._show()

    def _show(self) -> None:
        self._bar.update(self._size - self._bar.n)


def _pieces(reply: requests.Response, bounds: "_Bounds") -> Iterator[bytes]:
    """Yield the bytes of a reply as they are delivered, within bounds.

    Some servers declare a compressed file as a compressed transfer, which
    requests would decompress.

    Raises
    ------
    FetchError
        The connection broke, or was too slow.
    """
    left = 0
    try:
        for piece in reply.raw.stream(_PIECE_BYTES, decode_content=False):
            left -= len(piece)
            if left <= 0:
                bounds.begin()
                left = _STEP_BYTES
            yield piece
    except _NETWORK_ERRORS as error:
        raise _describe(error, bounds.patience) from error


def _other_file(reply: requests.Response, expected: str, got: str, *, spoils: bool) -> FetchError:
    """Return the error for bytes of another file, from this address or from an earlier one."""
    encoding = reply.headers.get("Content-Encoding", "")
    content_type = reply.headers.get("Content-Type", "").partition(";")[0]
    kind = f"{encoding}-encoded {content_type}".rstrip() if encoding else content_type
    return FetchError(
        f"expected {expected}, got {got} ({kind})" if kind else f"expected {expected}, got {got}",
        # The bytes from before may be to blame: the next attempt does without them.
        retry_seconds=0 if reply.status_code == _PART else None,
        is_content=True,
        spoils=spoils,
    )


class _Session(requests.Session):
    """A session of requests whose replies are read within bounds."""

    def __init__(self, bounds: "_Bounds") -> None:
        super().__init__()
        self._bounds = bounds
        for scheme in ("http://", "https://"):
            self.mount(scheme, _BoundedAdapter(bounds))

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002
        """Follow no redirect: requests would read its body, and go from https to http."""
        return

    def ask(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        """Return the reply of an address, after redirects.

        Raises
        ------
        FetchError
            There is no reply, or too many redirects.
        """
        patience = self._bounds.patience
        for _ in range(_NUM_REDIRECTS + 1):
            self._bounds.begin()
            try:
                reply = self.get(
                    url,
                    headers=headers,
                    stream=True,
                    timeout=(patience.connect_seconds, patience.stall_seconds),
                    allow_redirects=False,
                )
            except _NETWORK_ERRORS as error:
                raise _describe(error, patience) from error
            if reply.status_code not in _REDIRECTS:
                return reply
            reply.close()
            url = _next_address(url, reply.headers.get("Location", ""))
        msg = f"expected a file, got more than {_NUM_REDIRECTS} redirects, the last to {url}"
        raise FetchError(msg)


class _BoundedAdapter(HTTPAdapter):
    """An adapter of requests whose replies are read within bounds."""

    def __init__(self, bounds: "_Bounds") -> None:
        self._bounds = bounds
        super().__init__()

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*arguments, **options)
        # staticmethod: future versions of Python turn a partial that is an attribute of a class
        # into a method.
        reply = staticmethod(functools.partial(_BoundedReply, bounds=self._bounds))
        own = {"response_class": reply}
        pool.ConnectionCls = type("BoundedConnection", (pool.ConnectionCls,), own)
        return pool


class _BoundedReply(http.client.HTTPResponse):
    """A reply of a server or proxy, without interim replies such as 103 Early Hints."""

    def __init__(self, sock: Any, *arguments: Any, bounds: "_Bounds", **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp = io.BufferedReader(_BoundedFile(sock, self.fp.detach(), bounds))

    def begin(self) -> None:
        super().begin()
        # http.client knows 100 Continue only.
        while self.status < _OK and self.status != _SWITCHING_PROTOCOLS:
            self.headers = None  # type: ignore[assignment]  # has not begun, to http.client
            super().begin()


class _BoundedFile(io.RawIOBase):
    """A socket's bytes, limited in time and number."""

    def __init__(self, sock: Any, raw: io.RawIOBase, bounds: "_Bounds") -> None:
        self._sock = sock
        self._raw = raw
        self._bounds = bounds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        self._sock.settimeout(self._bounds.wait_seconds())
        try:
            num_bytes = cast("Any", self._raw).readinto(buffer) or 0
        except TimeoutError as error:
            # The time of the step may be over, and not only that of the read.
            self._bounds.wait_seconds()
            msg = f"nothing came for {self._bounds.patience.stall_seconds:g} seconds"
            raise FetchError(msg, retry_seconds=0) from error
        self._bounds.left -= num_bytes
        return int(num_bytes)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Bounds:
    """The remaining time and bytes of a step of a download.

    Each reply asks before it waits for bytes, so every kind of bytes is bounded:
    headers, sizes of chunks, a proxy's reply, or an interim reply.

    Attributes
    ----------
    patience : Patience
    left : int
        Bytes that may still arrive.
    """

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self._end = time.monotonic() + patience.total_seconds
        self.begin()

    def begin(self) -> None:
        """Begin a step.

        Raises
        ------
        FetchError
            The time of the whole download is over.
        """
        self.left = _MAX_STEP_BYTES
        self._deadline = time.monotonic() + 2 * self.patience.stall_seconds
        self.wait_seconds()

    def wait_seconds(self) -> float:
        """Return how many seconds the next bytes may take.

        Raises
        ------
        FetchError
            The time of the step or of the whole download is over, or too many
            bytes came.
        """
        now = time.monotonic()
        if now >= self._end:
            msg = f"the file was not whole after {self.patience.total_seconds:,g} seconds"
            raise FetchError(msg)
        if now >= self._deadline:
            seconds = 2 * self.patience.stall_seconds
            msg = f"too slow: less than {_STEP_BYTES >> 10} KiB in {seconds:g} seconds"
            raise FetchError(msg, retry_seconds=0)
        if self.left <= 0:
            msg = (
                f"too many bytes: more than {_MAX_STEP_BYTES >> 20} MiB of headers, "
                f"or for {_STEP_BYTES >> 10} KiB of content"
            )
            raise FetchError(msg, retry_seconds=0)
        return min(self.patience.stall_seconds, self._deadline - now, self._end - now)


def _describe(error: Exception, patience: Patience) -> FetchError:
    """Return a plain description of a network error."""
    cause = error.args[0] if error.args else None
    match error, cause:
        case requests.Timeout(), _:
            # Replies have bounds of their own.
            msg = f"no connection within {patience.connect_seconds:g} seconds"
        case requests.exceptions.SSLError(), _ if not _is_certificate(error):
            msg = f"the secure connection failed: {error}"
        case ((requests.exceptions.SSLError() | ValueError()), _):
            # Another attempt would end like this one.
            return FetchError(f"{type(error).__name__}: {error}")
        case requests.exceptions.ProxyError(), _:
            msg = f"the proxy failed: {error}"
        case requests.ConnectionError(), MaxRetryError(reason=reason):
            msg = f"no connection: {str(reason).rpartition(': ')[2]}"
        case _:
            msg = f"the connection broke: {cause if isinstance(cause, Exception) else error}"
    return FetchError(msg, retry_seconds=0)


def _is_certificate(error: object) -> bool:
    """Return whether an error is about the server's TLS certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return True
    causes = (
        (*error.args, error.__cause__, error.__context__) if isinstance(error, Exception) else ()
    )
    return any(map(_is_certificate, causes))


def _next_address(url: str, location: str) -> str:
    """Return the address of a redirect, to the same scheme or from http to https.

    >>> _next_address("http://example.org/a/b", "../c")
    'http://example.org/c'
    """
    scheme = urlsplit(url).scheme
    try:
        # Headers are read as Latin-1, and servers write UTF-8.
        target = urljoin(url, location.encode("latin-1").decode("utf-8"))
        target_scheme = urlsplit(target).scheme
    except ValueError:
        target, target_scheme = "", ""
    if location and (target_scheme == scheme or (scheme, target_scheme) == ("http", "https")):
        return target
    msg = f"expected a redirect to another {scheme} address, got one to {location!r}"
    raise FetchError(msg)


def _check_status(reply: requests.Response, *, asked_start: int) -> None:
    """Refuse a reply that is neither the file nor the requested part of it."""
    status = reply.status_code
    if status == _OK or (status == _PART and asked_start):
        return
    got = f"expected status 200, got {status} {reply.reason or ''}".rstrip()
    if status == _NO_SUCH_PART and asked_start:
        msg = f"{got} to bytes from {asked_start:,} on"
        raise FetchError(msg, retry_seconds=0, spoils=True)
    seconds = 0.0
    if wish := reply.headers.get("Retry-After", ""):
        got += f", with Retry-After: {wish}"
        # It may be neither a number nor a date, or a date that no calendar has.
        with contextlib.suppress(HTTPError, OverflowError, ValueError):
            seconds = Retry().parse_retry_after(wish)
    # A part that was not asked for is a mistake of the server, which its next reply need not
    # repeat.
    may_pass = status in _PASSING or status == _PART
    raise FetchError(got, retry_seconds=seconds if may_pass else None)


def _parse_length(text: str) -> int | None:
    """Return how many bytes a server announces, None if it announces no number.

    >>> _parse_length("1024"), _parse_length("-5")
    (1024, None)
    """
    # No file is longer, and Python refuses numbers of thousands of digits.
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text.strip()) else None


def _parse_range(content_range: str, *, start: int, length: int | None) -> int:
    """Return the size of a file whose rest, from ``start`` on, comes in ``length`` bytes.

    >>> _parse_range("bytes 20-99/100", start=20, length=80)
    100
    """
    match = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", content_range.strip())
    first, last, total = map(int, match.groups()) if match else (-1, -1, -1)
    if first == start and last == total - 1 and length in (None, total - start):
        return total
    msg = (
        f"asked for the bytes from {start:,} on, got {content_range or 'no Content-Range'!r} "
        f"with a length of {length}"
    )
    raise FetchError(msg, retry_seconds=0, spoils=True)


def _find_edition(headers: Mapping[str, str]) -> str:
    """Return what names an edition of a file in If-Range, empty if nothing does.

    >>> _find_edition({"ETag": 'W/"about the same"', "Last-Modified": "Thu, 01 Jan 1970"})
    'Thu, 01 Jan 1970'
    """
    etag = headers.get("ETag", "")
    return headers.get("Last-Modified", "") if etag.startswith("W/") or not etag else etag
