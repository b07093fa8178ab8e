"""One request for a file, and its reply, within bounds of time and of bytes."""

import functools
import http.client
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    MaxRetryError,
    NewConnectionError,
    ReadTimeoutError,
)
from urllib3.util.ssl_ import create_urllib3_context

from tokenloom.errors import ArgumentError
from tokenloom.hub.replies import (
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
# In one step: the beginning of a reply, or 32 KiB with what stands between its chunks.
_MAX_STEP_BYTES = 1 << 20
_NUM_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SWITCHING_PROTOCOLS = 101


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


class Bounds:
    """Until when a step must end, and how many bytes may come until then.

    Every socket of an exchange asks before it waits for bytes, so a step is
    bounded whatever the bytes are: headers, chunks, what a proxy says, or an
    answer before the answer.

    Parameters
    ----------
    patience : Patience
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._deadline = math.inf
        self._left = 0
        # What was too much, in words.
        self.excess: str | None = None
        self.socket_class: Any = type("Socket", (_BoundedSocket, socket.socket), {"bounds": self})

    def begin(self) -> None:
        """Begin a step."""
        self._deadline = time.monotonic() + 2 * self._patience.stall_seconds
        self._left = _MAX_STEP_BYTES
        self.excess = None

    @property
    def is_over(self) -> bool:
        """Whether the step has taken too long."""
        return time.monotonic() >= self._deadline

    def seconds(self, most: float) -> float:
        """Return how long may be waited now.

        Raises
        ------
        TimeoutError
            The step has taken too long.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            seconds = 2 * self._patience.stall_seconds
            self.excess = f"too slow: less than {_CHUNK_BYTES >> 10} KiB in {seconds:g} seconds"
            raise TimeoutError(self.excess)
        return min(most, left)

    def receive(self, to: socket.socket, read: Callable[..., _T], arguments: Any) -> _T:
        """Return what a socket reads: bytes, or their number, in time and not too many."""
        if self._left <= 0:
            self.excess = (
                f"too many bytes: more than {_MAX_STEP_BYTES >> 20} MiB of headers, "
                f"or for {_CHUNK_BYTES >> 10} KiB of content"
            )
            raise OSError(self.excess)
        to.settimeout(self.seconds(self._patience.stall_seconds))
        try:
            received = read(*arguments)
        except TimeoutError:
            # It may have been the step's time that was over.
            self.seconds(math.inf)
            raise
        self._left -= received if isinstance(received, int) else len(cast("bytes", received))
        return received

    def connect(self, connection: HTTPConnection) -> socket.socket:
        """Return a socket that is connected to the host of a connection, or to its proxy.

        Raises
        ------
        urllib3.exceptions.ConnectTimeoutError
        urllib3.exceptions.NewConnectionError
        """
        longest = self._patience.connect_seconds
        host = connection.host.strip("[]")
        try:
            addresses = look_up(host, connection.port, seconds=self.seconds(longest))
            return self._connect_to_any(addresses, connection.socket_options or [])
        except TimeoutError as error:
            raise ConnectTimeoutError(connection, str(error)) from error
        except OSError as error:
            msg = f"Failed to establish a new connection: {error}"
            raise NewConnectionError(connection, msg) from error

    def _connect_to_any(self, addresses: list[Any], options: Any) -> socket.socket:
        failure = OSError("the name has no address")
        for family, kind, protocol, _, address in addresses:
            try:
                made: socket.socket = self.socket_class(family, kind, protocol)
            except OSError as error:
                # Not every machine has every family of addresses.
                failure = error
                continue
            try:
                for option in options:
                    made.setsockopt(*option)
                made.settimeout(self.seconds(self._patience.connect_seconds))
                made.connect(address)
                # For a handshake, which ends in this time as a whole.
                made.settimeout(self.seconds(self._patience.stall_seconds))
            except OSError as error:
                failure = error
                made.close()
            else:
                return made
        raise failure


def look_up(host: str, port: int, *, seconds: float) -> list[Any]:
    """Return the addresses of a host as `socket.getaddrinfo` does, in time or not at all.

    No timeout ends a look-up, so it has a thread. Where it takes too long the
    thread ends when the system's resolver does; it holds nothing meanwhile.

    Raises
    ------
    OSError
        The name is not known, or nobody has answered in time.
    """
    ask = functools.partial(socket.getaddrinfo, host, port, 0, socket.SOCK_STREAM)
    try:
        return ask(flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        # It is a name.
        pass
    answer: Future[list[Any]] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # noqa: BLE001  whoever waits raises it
            answer.set_exception(error)

    threading.Thread(target=run, name="tokenloom-look-up", daemon=True).start()
    if not wait([answer], timeout=seconds).done:
        msg = f"no address of {host!r} within {seconds:g} seconds"
        raise TimeoutError(msg)
    return answer.result()


class _BoundedSocket:
    """What a socket does before it waits for bytes; a subclass is a socket too."""

    bounds: Bounds

    def recv_into(self, *arguments: Any) -> int:
        read: Callable[..., int] = super().recv_into  # type: ignore[misc]
        return self.bounds.receive(cast("Any", self), read, arguments)

    def recv(self, *arguments: Any) -> bytes:
        read: Callable[..., bytes] = super().recv  # type: ignore[misc]
        return self.bounds.receive(cast("Any", self), read, arguments)


class _FinalReply(http.client.HTTPResponse):
    """A reply without those before it: 103 Early Hints, as http.client knows 100 only."""

    def begin(self) -> None:
        super().begin()
        while self.status < requests.codes.ok and self.status != _SWITCHING_PROTOCOLS:
            self.headers = None  # type: ignore[assignment]  # has not begun, to http.client
            super().begin()


class _BoundedConnection:
    """How a connection is made and a reply begins; a subclass is a connection of urllib3's too."""

    bounds: Bounds
    response_class = _FinalReply

    def _new_conn(self) -> socket.socket:
        return self.bounds.connect(cast("HTTPConnection", self))


class _BoundedAdapter(HTTPAdapter):
    """Lets requests make its connections within bounds, to servers and to proxies."""

    def __init__(self, bounds: Bounds) -> None:
        own = {"bounds": bounds}
        plain = type("HTTPConnection", (_BoundedConnection, HTTPConnection), own)
        secure = type("HTTPSConnection", (_BoundedConnection, HTTPSConnection), own)
        self._pools = {
            "http": type("HTTPConnectionPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
            "https": type("HTTPSConnectionPool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
        }
        self._context = create_urllib3_context()
        secure_socket: Any = type("SecureSocket", (_BoundedSocket, ssl.SSLSocket), own)
        self._context.sslsocket_class = secure_socket
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, ssl_context=self._context, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        if proxy.lower().startswith("socks"):
            # It has connections of its own, with the timeouts of each read only.
            return super().proxy_manager_for(proxy, **options)
        both = {"ssl_context": self._context, "proxy_ssl_context": self._context}
        manager = super().proxy_manager_for(proxy, **both, **options)
        manager.pool_classes_by_scheme = self._pools
        return manager


class _Session(requests.Session):
    """A session that reads no body by itself: requests reads that of a redirect."""

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002
        return None


class Exchange:
    """A request and its reply, no step of which takes longer, or more bytes, than allowed.

    Parameters
    ----------
    patience : Patience
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._bounds = Bounds(patience)
        self._session = _Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _BoundedAdapter(self._bounds))
        self._reply: requests.Response | None = None

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
            reply.close()
            url = next_address(url, reply.headers.get("Location", ""))
        msg = f"expected a file, got more than {_NUM_REDIRECTS} redirects, the last to {url}"
        raise TransferError(msg)

    def close(self) -> None:
        """Close the connection, whatever the server still sends."""
        if self._reply is not None:
            self._reply.close()
        self._session.close()

    def _ask(self, url: str, headers: dict[str, str]) -> requests.Response:
        patience = self._patience
        self._reply = self._session.get(
            url,
            headers=headers,
            stream=True,
            timeout=(patience.connect_seconds, patience.stall_seconds),
            allow_redirects=False,
        )
        return self._reply

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
        failures: list[TransferError] = []

        def gather() -> bytes:
            chunk = bytearray()
            try:
                while len(chunk) < _CHUNK_BYTES and (piece := next(pieces, b"")):
                    chunk += piece
            except _NETWORK_ERRORS as error:
                if self._bounds.is_over:
                    raise
                # What arrived before is good, and need not be sent again.
                failures.append(self._describe(error))
            return bytes(chunk)

        while chunk := self._bounded(gather):
            yield chunk
        if failures:
            raise failures[0]

    def _bounded(self, step: Callable[[], _T]) -> _T:
        """Return what a step returns, if it does so within its bounds."""
        self._bounds.begin()
        try:
            return step()
        except _NETWORK_ERRORS as error:
            raise self._describe(error) from error

    def _describe(self, error: Exception) -> TransferError:
        if self._bounds.excess is not None:
            return TransferError(self._bounds.excess, retry_seconds=0)
        return describe(error, self._patience)


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
