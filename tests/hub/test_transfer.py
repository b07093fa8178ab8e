"""One request and its reply: what is asked, what is made of it, and how long it may take."""

import contextlib
import dataclasses
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import requests

from tests import misbehaving
from tests.misbehaving import CONTENT, Talk
from tests.server import refusing
from tokenloom.errors import ArgumentError
from tokenloom.hub.replies import TransferError
from tokenloom.hub.transfer import Exchange, Patience, Reply, describe

QUICK = Patience(connect_seconds=10, stall_seconds=0.2)


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """Return an exchange that is patient, and closed in the end."""
    made = Exchange(Patience())
    yield made
    made.close()


def _headers_of(exchange: Exchange, **arguments: Any) -> dict[str, str]:
    """Return the headers that a server sees of a request."""
    seen: dict[str, str] = {}

    def look(talk: Talk) -> None:
        seen.update(talk.headers)
        misbehaving.part(talk)

    with misbehaving.misbehaving({"": (look,)}) as server:
        exchange.open(server.url, **arguments)
        exchange.close()
    return seen


def _open(exchange: Exchange, answer: misbehaving.Answer, **arguments: Any) -> Reply:
    """Return what comes of an answer; the server is gone thereafter."""
    with misbehaving.misbehaving({"": (answer,)}) as server:
        reply = exchange.open(server.url, **arguments)
        content = b"".join(reply.chunks)
        exchange.close()
    assert content == CONTENT[reply.start :]
    return reply


def test_whole_file_is_asked_for_as_it_is(exchange: Exchange) -> None:
    """No server is invited to compress, or to send a part."""
    headers = _headers_of(exchange)

    assert headers["accept-encoding"] == "identity"
    assert set() == {"range", "if-range"} & headers.keys()


def test_part_is_asked_for_by_its_first_byte(exchange: Exchange) -> None:
    """Where the edition is not known every one will do, since the hash is verified."""
    headers = _headers_of(exchange, start=5)

    assert ("bytes=5-", None) == (headers["range"], headers.get("if-range"))


@pytest.mark.parametrize("validator", ['"1"', "Thu, 01 Jan 1970 12:00:00 GMT"])
def test_part_is_asked_for_of_an_edition(exchange: Exchange, validator: str) -> None:
    """Where the edition is known the server shall send the whole file if it has another."""
    headers = _headers_of(exchange, start=5, validator=validator)

    assert ("bytes=5-", validator) == (headers["range"], headers["if-range"])


def test_reply_with_the_whole_file(exchange: Exchange) -> None:
    """Its size and its edition are known."""
    reply = _open(exchange, misbehaving.part)

    assert (0, len(CONTENT), True, '"1"') == (
        reply.start,
        reply.stop,
        reply.has_end,
        reply.validator,
    )


def test_reply_with_a_part(exchange: Exchange) -> None:
    """It begins where it was asked to, and ends where the file ends."""
    reply = _open(exchange, misbehaving.part, start=150_000)

    assert (150_000, len(CONTENT)) == (reply.start, reply.stop)


def test_reply_with_the_whole_file_instead_of_a_part(exchange: Exchange) -> None:
    """It says that it begins at 0."""
    reply = _open(exchange, misbehaving.whole, start=150_000)

    assert (0, len(CONTENT)) == (reply.start, reply.stop)


def test_part_of_another_edition(exchange: Exchange) -> None:
    """A server that ignores If-Range is found out before the bytes come."""
    answer = partial(misbehaving.part, heeds_if_range=False)
    with (
        misbehaving.misbehaving({"": (answer,)}) as server,
        pytest.raises(TransferError, match=r'the rest of edition "0", got that of "1"$') as caught,
    ):
        exchange.open(server.url, start=150_000, validator='"0"')

    assert (0.0, True) == (caught.value.retry_seconds, caught.value.spoils)


@pytest.mark.parametrize(
    ("answer", "has_end"), [(misbehaving.unmeasured, False), (misbehaving.chunked, True)]
)
def test_reply_without_a_length(
    exchange: Exchange, answer: misbehaving.Answer, *, has_end: bool
) -> None:
    """Chunks say where they end; bytes up to the end of a connection do not."""
    reply = _open(exchange, answer)

    assert (None, has_end) == (reply.stop, reply.has_end)


@pytest.mark.parametrize(
    ("also", "kind"),
    [
        ("Content-Type: text/html; charset=utf-8", "text/html"),
        ("Content-Encoding: gzip", "gzip-encoded"),
        ("Content-Type: text/plain\r\nContent-Encoding: gzip", "gzip-encoded text/plain"),
        ("Content-Encoding: br", "br-encoded"),
        ("", ""),
    ],
)
def test_reply_of_a_kind(exchange: Exchange, also: str, kind: str) -> None:
    """What it is called is kept for messages; the bytes come as they are."""
    assert kind == _open(exchange, partial(misbehaving.whole, also=also)).kind


def test_chunks_are_small(exchange: Exchange) -> None:
    """Little more than 32 KiB are in memory at a time."""
    with misbehaving.misbehaving({"": (misbehaving.part,)}) as server:
        sizes = [len(chunk) for chunk in exchange.open(server.url).chunks]
        exchange.close()

    assert max(sizes) <= (1 << 15) + (1 << 13)
    assert len(CONTENT) == sum(sizes)


def test_bytes_before_a_break_come(exchange: Exchange) -> None:
    """What arrived is handed on before the error is raised."""
    answer = partial(misbehaving.cut, stop=100_000)
    received = b""
    with misbehaving.misbehaving({"": (answer,)}) as server:
        chunks = exchange.open(server.url).chunks
        with pytest.raises(TransferError, match=r"^the connection broke: "):  # noqa: PT012  a loop
            for chunk in chunks:
                received += chunk
        exchange.close()

    assert received == CONTENT[: len(received)]
    assert 100_000 - 8192 < len(received)


@pytest.mark.parametrize(
    "answer", [misbehaving.wait, misbehaving.drip_headers, misbehaving.endless_continue]
)
def test_beginning_of_a_reply_is_bounded(answer: misbehaving.Answer) -> None:
    """Neither silence nor dripping keeps anybody waiting."""
    exchange = Exchange(QUICK)
    started = time.monotonic()
    with misbehaving.misbehaving({"": (answer,)}) as server:
        with pytest.raises(TransferError, match=r"nothing came for 0\.2|too slow: .* in 0\.4 sec"):
            exchange.open(server.url)
        waited = time.monotonic() - started
        exchange.close()

    assert waited < 30


@pytest.mark.parametrize(
    "answer", [partial(misbehaving.stall, stop=10), misbehaving.drip_body, misbehaving.drip_chunks]
)
def test_rest_of_a_reply_is_bounded(answer: misbehaving.Answer) -> None:
    """Nor once bytes came."""
    exchange = Exchange(QUICK)
    started = time.monotonic()
    with misbehaving.misbehaving({"": (answer,)}) as server:
        reply = exchange.open(server.url)
        with pytest.raises(TransferError, match=r"nothing came for 0\.2|too slow: .* in 0\.4 sec"):
            list(reply.chunks)
        waited = time.monotonic() - started
        exchange.close()

    assert waited < 30


def test_nothing_is_left_of_a_step_that_hangs() -> None:
    """No thread lives on."""
    exchange = Exchange(QUICK)
    with misbehaving.misbehaving({"": (misbehaving.drip_headers,)}) as server:
        with pytest.raises(TransferError, match="too slow"):
            exchange.open(server.url)
        exchange.close()
    assert [] == [each.name for each in threading.enumerate() if "tokenloom" in each.name]


@pytest.mark.parametrize(
    "changes",
    [
        {"connect_seconds": 0},
        {"stall_seconds": -1.0},
        {"stall_seconds": float("inf")},
        {"stall_seconds": float("nan")},
        {"max_pause_seconds": float("inf")},
        {"pause_seconds": -1.0},
        {"num_attempts": 0},
    ],
)
def test_patience_that_cannot_work(changes: dict[str, Any]) -> None:
    """No wait may be endless, and there must be an attempt."""
    with pytest.raises(ArgumentError, match=r"^patience must be above 0 and finite, with at least"):
        Patience(**changes)


@pytest.mark.parametrize(
    ("error", "message", "retry_seconds"),
    [
        (requests.ConnectTimeout(), "no connection within 10 seconds", 0),
        (requests.ReadTimeout(), "nothing came for 30 seconds", 0),
        (requests.ConnectionError("odd"), "the connection broke: odd", 0),
        (ConnectionResetError(104, "reset"), "the connection broke: [Errno 104] reset", 0),
        (requests.exceptions.ProxyError("no"), "the proxy failed: no", 0),
        (requests.exceptions.SSLError("bad"), "the secure connection failed: bad", 0),
        (
            requests.exceptions.SSLError(ssl.SSLCertVerificationError("who")),
            "SSLError: ('who',)",
            None,
        ),
        (requests.exceptions.InvalidURL("bad"), "InvalidURL: bad", None),
    ],
)
def test_errors_in_plain_words(error: Exception, message: str, retry_seconds: float | None) -> None:
    """Each says what happened, and whether another attempt may end otherwise."""
    failure = describe(error, Patience())

    assert (message, retry_seconds) == (str(failure), failure.retry_seconds)


@dataclasses.dataclass
class _Sent:
    """How much a server could send until its connection was closed, and whether it was."""

    num_bytes: int = 0
    is_closed: threading.Event = dataclasses.field(default_factory=threading.Event)


def _flood(sent: _Sent, begin: bytes, piece: bytes = bytes(1 << 16)) -> misbehaving.Answer:
    """Return an answer that never ends, and notes when nobody takes it any more."""

    def answer(talk: Talk) -> None:
        try:
            talk.send(begin)
            while not talk.over.is_set():
                talk.send(piece)
                sent.num_bytes += len(piece)
        except OSError:
            sent.is_closed.set()
            raise

    return answer


_HEAD = b"HTTP/1.1 %s\r\n%s\r\n\r\n"


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (_HEAD % (b"302 Found", b"Location: /next"), bytes(1 << 16)),
        (_HEAD % (b"302 Found", b"Location: ftp://example.org/"), bytes(1 << 16)),
        (_HEAD % (b"404 Not Found", b"X: y"), bytes(1 << 16)),
        (_HEAD % (b"500 Oh", b"Transfer-Encoding: chunked"), b"10000\r\n%s\r\n" % bytes(1 << 16)),
        (_HEAD % (b"206 Partial Content", b"Content-Range: bytes 7-9/10"), bytes(1 << 16)),
        (_HEAD % (b"200 OK", b"Content-Encoding: gzip"), bytes(1 << 16)),
        (_HEAD % (b"200 OK", b"Transfer-Encoding: chunked"), b"0" * (1 << 16)),
        (_HEAD % (b"200 OK", b"Transfer-Encoding: chunked"), b"1;%s\r\nx\r\n" % (b"x" * 60_000)),
        (b"HTTP/1.1 200 OK\r\n", b"X-Header: %s\r\n" % (b"x" * 60_000)),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
        (b"", bytes(1 << 16)),
    ],
)
def test_no_answer_is_read_without_end(begin: bytes, piece: bytes) -> None:
    """Whatever has no end, little of it is taken, the connection is closed, no thread is left."""
    sent = _Sent()
    exchange = Exchange(Patience(connect_seconds=20, stall_seconds=20))
    answers = {"": (_flood(sent, begin, piece), misbehaving.part)}
    with misbehaving.misbehaving(answers) as server:
        with contextlib.suppress(TransferError):
            next(exchange.open(server.url).chunks)
        exchange.close()
        assert sent.is_closed.wait(20)

    # What the system takes on its own account is some MiB.
    assert sent.num_bytes < 32 << 20
    assert [] == [each.name for each in threading.enumerate() if "tokenloom" in each.name]


@pytest.mark.parametrize("answer", [misbehaving.drip_headers, misbehaving.drip_chunks])
def test_what_is_too_slow_is_closed(answer: misbehaving.Answer) -> None:
    """The server cannot send on to a thread that nobody waits for."""
    is_closed = threading.Event()

    def watched(talk: Talk) -> None:
        try:
            answer(talk)
            misbehaving.wait(talk)
        finally:
            is_closed.set()

    exchange = Exchange(QUICK)
    with misbehaving.misbehaving({"": (watched,)}) as server:
        with pytest.raises(TransferError, match=r"too slow|nothing came"):
            list(exchange.open(server.url).chunks)
        exchange.close()
        assert is_closed.wait(20)
    assert [] == [each.name for each in threading.enumerate() if "tokenloom" in each.name]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 407 \x1b[2J\r\n\r\n", b"\x16\x03\x03\x40"]
)
def test_stalling_proxy(monkeypatch: pytest.MonkeyPatch, scheme: str, said: bytes) -> None:
    """What a proxy does is bounded like what a server does, and so is what it says."""

    def answer(talk: Talk) -> None:
        talk.send(said)
        misbehaving.wait(talk)

    exchange = Exchange(QUICK)
    with misbehaving.misbehaving({"": (answer,)}) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("NO_PROXY", "")
        with pytest.raises(TransferError) as caught:
            exchange.open(f"{scheme}://example.invalid/file")
        exchange.close()

    assert str(caught.value).isprintable()


def test_stalling_handshake() -> None:
    """A server that accepts a connection, and says nothing of who it is, is given up."""
    exchange = Exchange(QUICK)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"https://127.0.0.1:{server.getsockname()[1]}/"
        with pytest.raises(TransferError, match=r"nothing came|too slow"):
            exchange.open(address)
        exchange.close()


def test_name_that_is_looked_up_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """No timeout ends the system's resolver, so nobody waits for it longer than for a server."""
    over = threading.Event()
    real = socket.getaddrinfo

    def stall(host: str, *arguments: Any, **options: Any) -> Any:
        if options:
            return real(host, *arguments, **options)
        over.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", stall)
    exchange = Exchange(Patience(connect_seconds=0.1, stall_seconds=20))
    try:
        with pytest.raises(TransferError, match=r"^no connection within 0\.1 seconds"):
            exchange.open("http://example.invalid/")
    finally:
        over.set()
        exchange.close()
    deadline = time.monotonic() + 30
    while any("tokenloom" in each.name for each in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver's reason is told."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    exchange = Exchange(QUICK)
    with pytest.raises(TransferError, match=r"no connection: .*Name or service not known"):
        exchange.open("http://example.invalid/")
    exchange.close()


def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may have an address where nobody answers, before one where somebody does."""
    with refusing() as nobody, misbehaving.misbehaving({"": (misbehaving.part,)}) as server:
        ports = [int(url.rpartition(":")[2]) for url in (nobody, server.url)]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)) for port in ports]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        exchange = Exchange(QUICK)
        content = b"".join(exchange.open("http://example.invalid/").chunks)
        exchange.close()
    assert content == CONTENT
