"""One request and its reply: what is asked, what is made of it, and how long it may take."""

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
from tokenloom import ArgumentError
from tokenloom.replies import TransferError
from tokenloom.transfer import Exchange, Patience, Reply, describe

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
    """Its thread ends with the connection."""
    exchange = Exchange(QUICK)
    with misbehaving.misbehaving({"": (misbehaving.drip_headers,)}) as server:
        with pytest.raises(TransferError, match="too slow"):
            exchange.open(server.url)
        exchange.close()
    deadline = time.monotonic() + 30
    while any(thread.name == "tokenloom-download" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


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
