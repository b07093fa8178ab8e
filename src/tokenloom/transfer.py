"""One request for a file, and its reply, within bounds of time."""

import functools
import math
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, TypeVar

import requests
from urllib3.exceptions import HTTPError, MaxRetryError, ReadTimeoutError

from tokenloom.errors import ArgumentError
from tokenloom.replies import (
    PART,
    TransferError,
    check_status,
    next_address,
    parse_length,
    parse_range,
    strong_validator,
)

_T = TypeVar("_T")
# Requests lets some errors of urllib3, on which it stands, through.
_NETWORK_ERRORS = (requests.RequestException, HTTPError, OSError, ValueError)

_PIECE_BYTES = 1 << 13
_CHUNK_BYTES = 1 << 15
_NUM_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a download waits, and how often it tries.

    Attributes
    ----------
    connect_seconds : float
        For a connection.
    stall_seconds : float
        Without a byte. The beginning of a reply may take twice as long, and so
        may every further 32 KiB: slower servers are given up.
    num_attempts : int
        At each address.
    pause_seconds : float
        Before the second attempt; doubled before each further one. Half of each
        pause is drawn at random, so that many processes do not come at once.
    max_pause_seconds : float
        The longest pause, also where a server asks for a longer one.
    """

    connect_seconds: float = 10.0
    stall_seconds: float = 30.0
    num_attempts: int = 5
    pause_seconds: float = 1.0
    max_pause_seconds: float = 60.0

    def __post_init__(self) -> None:
        seconds = (self.connect_seconds, self.stall_seconds, self.max_pause_seconds)
        is_bounded = all(0 < value < math.inf for value in seconds)
        if not is_bounded or not self.pause_seconds >= 0 or self.num_attempts < 1:
            msg = f"patience must be above 0 and finite, with at least one attempt, got {self}"
            raise ArgumentError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The beginning of a file's reply.

    Attributes
    ----------
    start : int
        Offset in the file of the reply's first byte; 0 also where a part was
        asked for and the whole comes.
    stop : int or None
        Offset behind its last byte, if the server said so.
    has_end : bool
        Whether the end of the bytes is told from a broken connection.
    validator : str
        What the server calls this edition of the file; may be empty.
    kind : str
        Of its content, for messages; may be empty.
    chunks : iterator of bytes
        Little more than 32 KiB each. Raises `TransferError`.
    """

    start: int
    stop: int | None
    has_end: bool
    validator: str
    kind: str
    chunks: Iterator[bytes]


class Exchange:
    """A request and its reply, no step of which takes longer than allowed.

    Each step runs in a thread of its own, since no timeout of a socket ends a
    server that sends a byte now and then, or the look-up of a name. A step that
    takes too long is left alone, and closes the connection if it ever ends.

    Parameters
    ----------
    patience : Patience
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._session = requests.Session()
        self._replies: list[requests.Response] = []
        self._last_step: Future[Any] = Future()
        self._last_step.set_result(None)

    def open(self, url: str, *, start: int = 0, validator: str = "") -> Reply:
        """Ask for the bytes of a file from ``start`` on.

        Parameters
        ----------
        url : str
        start : int
            0 for the whole file.
        validator : str
            The server shall send the whole file if it has another edition.

        Raises
        ------
        TransferError
            There is no reply, or none that could be part of the file.
        """
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if validator:
                headers["If-Range"] = validator
        for _ in range(_NUM_REDIRECTS + 1):
            reply = self._bounded(functools.partial(self._ask, url, headers))
            if reply.status_code not in _REDIRECTS:
                return self._read(reply, asked_start=start, asked_validator=validator)
            url = next_address(url, reply.headers.get("Location", ""))
        msg = f"expected a file, got more than {_NUM_REDIRECTS} redirects, the last to {url}"
        raise TransferError(msg)

    def close(self) -> None:
        """Close the connection, now or when the step that hangs ends."""
        self._last_step.add_done_callback(self._close)

    def _close(self, _: Future[Any]) -> None:
        for reply in self._replies:
            reply.close()
        self._session.close()

    def _ask(self, url: str, headers: dict[str, str]) -> requests.Response:
        patience = self._patience
        reply = self._session.get(
            url,
            headers=headers,
            stream=True,
            timeout=(patience.connect_seconds, patience.stall_seconds),
            allow_redirects=False,
        )
        self._replies.append(reply)
        return reply

    def _read(self, reply: requests.Response, *, asked_start: int, asked_validator: str) -> Reply:
        headers = reply.headers
        check_status(reply, asked_start=asked_start)
        validator = strong_validator(headers.get("ETag", ""), headers.get("Last-Modified", ""))
        is_chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()
        length = parse_length(headers.get("Content-Length", ""))
        stop = None if is_chunked else length
        start = 0
        if reply.status_code == PART:
            # An ETag says nothing of a date: where they cannot be compared the hash decides.
            is_comparable = validator.startswith('"') == asked_validator.startswith('"')
            if asked_validator and is_comparable and validator not in ("", asked_validator):
                msg = f"asked for the rest of edition {asked_validator}, got that of {validator}"
                raise TransferError(msg, retry_seconds=0, spoils=True)
            start = asked_start
            stop = parse_range(headers.get("Content-Range", ""), start=start, length=stop)
        # What is hashed are the bytes as they are delivered: some servers call a
        # compressed file a file that they compressed, and requests would undo it.
        encoding = reply.raw.headers.pop("Content-Encoding", "")
        kind = headers.get("Content-Type", "").partition(";")[0]
        return Reply(
            start=start,
            stop=stop,
            has_end=is_chunked or stop is not None,
            validator=validator,
            kind=f"{encoding}-encoded {kind}".rstrip() if encoding else kind,
            chunks=self._chunks(reply.iter_content(_PIECE_BYTES)),
        )

    def _chunks(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        failures: list[Exception] = []

        def gather() -> bytes:
            chunk = bytearray()
            try:
                while len(chunk) < _CHUNK_BYTES and (piece := next(pieces, b"")):
                    chunk += piece
            except _NETWORK_ERRORS as error:
                # What arrived before is good, and need not be sent again.
                failures.append(error)
            return bytes(chunk)

        while chunk := self._bounded(gather):
            yield chunk
        if failures:
            raise describe(failures[0], self._patience) from failures[0]

    def _bounded(self, step: Callable[[], _T]) -> _T:
        """Return what a step returns, if it does so in time."""
        outcome: Future[_T] = Future()
        self._last_step = outcome

        def run() -> None:
            try:
                outcome.set_result(step())
            except BaseException as error:  # noqa: BLE001  whoever waits raises it
                outcome.set_exception(error)

        threading.Thread(target=run, name="tokenloom-download", daemon=True).start()
        seconds = 2 * self._patience.stall_seconds
        if not wait([outcome], timeout=seconds).done:
            msg = f"too slow: less than {_CHUNK_BYTES >> 10} KiB in {seconds:g} seconds"
            raise TransferError(msg, retry_seconds=0)
        try:
            return outcome.result()
        except _NETWORK_ERRORS as error:
            raise describe(error, self._patience) from error


def describe(error: Exception, patience: Patience) -> TransferError:
    """Return in plain words what an error of the network means.

    >>> str(describe(requests.ReadTimeout(), Patience()))
    'nothing came for 30 seconds'
    """
    cause = error.args[0] if error.args else None
    match error, cause:
        case requests.ConnectTimeout(), _:
            msg = f"no connection within {patience.connect_seconds:g} seconds"
        case (requests.Timeout(), _) | (_, ReadTimeoutError()):
            msg = f"nothing came for {patience.stall_seconds:g} seconds"
        case (requests.exceptions.SSLError(), _) if not _is_certificate(error):
            msg = f"the secure connection failed: {error}"
        case ((requests.exceptions.SSLError() | ValueError()), _):
            # Another attempt would end like this one.
            return TransferError(f"{type(error).__name__}: {error}")
        case requests.exceptions.ProxyError(), _:
            msg = f"the proxy failed: {error}"
        case requests.ConnectionError(), MaxRetryError(reason=reason):
            msg = f"no connection: {str(reason).rpartition(': ')[2]}"
        case _:
            msg = f"the connection broke: {cause if isinstance(cause, Exception) else error}"
    return TransferError(msg, retry_seconds=0)


def _is_certificate(error: object) -> bool:
    """Return whether a server that cannot prove who it is lies behind an error."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return True
    behind = (
        (*error.args, error.__cause__, error.__context__) if isinstance(error, Exception) else ()
    )
    return any(map(_is_certificate, behind))
