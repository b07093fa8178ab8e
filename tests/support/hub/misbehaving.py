"""A real HTTP server that misbehaves, and what a download must make of it.

`ROWS` are requests and replies that a test runs one by one; `TESTED_ROWS` need
more than a server and name the test that tries them. The documentation shows
both as one table.
"""

import contextlib
import email.utils
import gzip
import random
import re
import socket
import socketserver
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from tokenloom.hub.addresses import Patience

if sys.platform != "win32":
    import fcntl
    import termios

CONTENT = random.Random(0).randbytes(200_000)  # noqa: S311  it is no secret
OTHER = CONTENT[:100_000] + bytes(100_000)
PAGE = b"<html><body>Please log in</body></html>"
GOOD, DOWNLOAD, CHECKSUM = "the good file", "`DownloadError`", "`ChecksumError`"
# Pauses are counted in tests, not waited for. The longest is a bound as well.
PATIENT = Patience(connect_seconds=20.0, stall_seconds=20.0, num_attempts=3, max_pause_seconds=60.0)
HASTY = Patience(connect_seconds=20.0, stall_seconds=0.4, num_attempts=2, max_pause_seconds=60.0)


@dataclass(slots=True, kw_only=True)
class Talk:
    """One connection: the request that came, and the bytes that go back.

    Attributes
    ----------
    connection : socket
    path : str
    headers : dict of str
        By their names in lower case.
    url : str
        The server's address, without a slash at the end.
    over : Event
        Set when the test ends.
    """

    connection: socket.socket
    path: str
    headers: Mapping[str, str]
    url: str
    over: threading.Event

    @property
    def start(self) -> int:
        """The first byte that was asked for."""
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        return int(match[1]) if match else 0

    def say(self, status: str, *headers: str, body: bytes = b"", version: str = "1.1") -> None:
        """Send a status line, headers and a body."""
        lines = [f"HTTP/{version} {status}", "Connection: close", *headers, "", ""]
        self.send("\r\n".join(lines).encode("latin-1") + body)

    def send(self, content: bytes) -> None:
        """Send bytes as they are."""
        self.connection.sendall(content)

    def drip(self, content: bytes, *, size: int = 1, seconds: float = 0.02) -> None:
        """Send a few bytes now and then, until nobody wants more."""
        for start in range(0, len(content), size):
            if self.over.wait(seconds):
                return
            self.send(content[start : start + size])

    def reset(self) -> None:
        """End the connection as a broken line does, without a goodbye."""
        # What was sent must arrive before the reset does, or it is lost.
        while sys.platform != "win32" and not self.over.wait(0.005):
            waiting = fcntl.ioctl(self.connection, termios.TIOCOUTQ, bytes(4))
            if not int.from_bytes(waiting, sys.byteorder):
                break
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


Answer = Callable[[Talk], None]


def whole(
    talk: Talk, *, body: bytes = CONTENT, tag: str = '"1"', length: object = None, also: str = ""
) -> None:
    """Send a file, whatever part was asked for; ``length`` says another size."""
    headers = [f"Content-Length: {len(body) if length is None else length}"]
    headers += [f"ETag: {tag}"] * bool(tag) + [also] * bool(also)
    talk.say("200 OK", *headers, body=body)


def part(
    talk: Talk, *, body: bytes = CONTENT, tag: str = '"1"', heeds_if_range: bool = True
) -> None:
    """Send what was asked for, as a server should."""
    if_range = talk.headers.get("if-range", tag)
    if not talk.start or (heeds_if_range and if_range != tag):
        whole(talk, body=body, tag=tag)
        return
    rest, last = body[talk.start :], len(body) - 1
    places = f"Content-Range: bytes {talk.start}-{last}/{len(body)}"
    talk.say(
        "206 Partial Content", places, f"Content-Length: {len(rest)}", f"ETag: {tag}", body=rest
    )


def cut(
    talk: Talk, *, stop: int, body: bytes = CONTENT, tag: str = '"1"', reset: bool = True
) -> None:
    """Send some bytes of a file and break the connection."""
    whole(talk, body=body[:stop], length=len(body), tag=tag)
    if reset:
        talk.reset()


def status(talk: Talk, line: str, *headers: str) -> None:
    """Send a status with a body that is no file."""
    talk.say(line, f"Content-Length: {len(PAGE)}", *headers, body=PAGE)


def chunked(talk: Talk, *, body: bytes = CONTENT, also: str = 'ETag: "1"') -> None:
    """Send a file in chunks, without its length."""
    talk.say("200 OK", "Transfer-Encoding: chunked", also)
    for start in range(0, len(body), 50_000):
        piece = body[start : start + 50_000]
        talk.send(b"%x\r\n%s\r\n" % (len(piece), piece))
    talk.send(b"0\r\n\r\n")


def unmeasured(talk: Talk, *, body: bytes = CONTENT, also: str = 'ETag: "1"') -> None:
    """Send a file without its length, and hang up."""
    talk.say("200 OK", also, body=body)


def wrong_part(talk: Talk, content_range: str, *, body: bytes | None = None) -> None:
    """Send something that is not, or does not say that it is, the part asked for."""
    rest = CONTENT[talk.start :] if body is None else body
    headers = [f"Content-Range: {content_range.format(start=talk.start)}"] * bool(content_range)
    talk.say("206 Partial Content", f"Content-Length: {len(rest)}", *headers, body=rest)


def wait(talk: Talk) -> None:
    """Say nothing until the client hangs up."""
    talk.connection.settimeout(0.05)
    while not talk.over.is_set():
        with contextlib.suppress(TimeoutError):
            if not talk.connection.recv(1):
                return


def stall(talk: Talk, *, stop: int) -> None:
    """Send some bytes of a file, then nothing."""
    whole(talk, body=CONTENT[:stop], length=len(CONTENT))
    wait(talk)


def drip_headers(talk: Talk) -> None:
    """Send the beginning of a reply a byte at a time, for ever."""
    talk.drip(b"HTTP/1.1 200 OK\r\n" + b"X-Header: and so on\r\n" * 90)
    wait(talk)


def drip_chunks(talk: Talk) -> None:
    """Send chunks of one byte."""
    talk.say("200 OK", "Transfer-Encoding: chunked")
    talk.drip(b"1\r\nx\r\n" * 10_000, size=6)


def drip_body(talk: Talk) -> None:
    """Send a file a byte at a time."""
    whole(talk, body=b"", length=len(CONTENT))
    talk.drip(CONTENT)


def flow(talk: Talk) -> None:
    """Send a file slowly, and yet fast enough."""
    whole(talk, body=b"", length=len(CONTENT))
    talk.drip(CONTENT, size=20_000, seconds=0.05)


def endless(
    talk: Talk, *, line: str = "200 OK", also: str = "", piece: bytes = bytes(10_000)
) -> None:
    """Send a file, or another page, that has no end."""
    talk.say(line, *[also.format(url=talk.url)] * bool(also))
    while not talk.over.is_set():
        talk.send(piece)


def endless_continue(talk: Talk) -> None:
    """Say again and again that the request may go on."""
    while not talk.over.wait(0.005):
        talk.send(b"HTTP/1.1 100 Continue\r\n\r\n")


def endless_header(talk: Talk) -> None:
    """Send a header line that has no end."""
    talk.send(b"HTTP/1.1 200 OK\r\nX-Header: ")
    while not talk.over.is_set():
        talk.send(b"x" * 10_000)


def endless_hints(talk: Talk) -> None:
    """Send answers before the answer, one after another."""
    while not talk.over.is_set():
        talk.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n" * 100)


def hinted(talk: Talk) -> None:
    """Send answers before the answer, as servers may."""
    for line in ("103 Early Hints", "102 Processing", "100 Continue", "103 Early Hints"):
        talk.send(f"HTTP/1.1 {line}\r\nLink: </a>; rel=preload\r\n\r\n".encode())
    part(talk)


def endless_chunk_size(talk: Talk) -> None:
    """Send a line with the size of a chunk that has no end."""
    talk.say("200 OK", "Transfer-Encoding: chunked")
    while not talk.over.is_set():
        talk.send(b"0" * 10_000)


def endless_trailers(talk: Talk) -> None:
    """Send a file in chunks, and after it headers without an end."""
    talk.say("200 OK", "Transfer-Encoding: chunked")
    talk.send(b"%x\r\n%s\r\n0\r\n" % (len(CONTENT), CONTENT))
    while not talk.over.is_set():
        talk.send(b"X-Trailer: and so on\r\n" * 500)


def redirect(talk: Talk, to: str) -> None:
    """Send the client elsewhere."""
    talk.say("302 Found", f"Location: {to.format(url=talk.url)}", "Content-Length: 0")


def redirect_on(talk: Talk) -> None:
    """Send the client to the next of many addresses."""
    number = int(talk.path.rpartition("-")[2]) if "-" in talk.path else 0
    redirect(talk, f"/next-{number + 1}") if number < 4 else whole(talk)


def raw(talk: Talk, content: bytes) -> None:
    """Send bytes that need be no HTTP."""
    talk.send(content)


def broken_chunk(talk: Talk) -> None:
    """Send a chunk, and another one of a size that is no number."""
    talk.say("200 OK", "Transfer-Encoding: chunked", 'ETag: "1"')
    talk.send(b"%x\r\n%s\r\nmany\r\n" % (50_000, CONTENT[:50_000]))


def later(seconds: float) -> str:
    """Return a header that asks to wait until a date."""
    return f"Retry-After: {email.utils.formatdate(time.time() + seconds, usegmt=True)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What happens, and what must come of it.

    Attributes
    ----------
    happened, did : str
        For people.
    answers : tuple of callable
        To the first request, the second, ...; the last also to all further ones.
    second : tuple of callable
        Those of a second address, if there is one.
    ends : str
        `GOOD`, or the error.
    message : str
        A regular expression that the error's message has.
    requests : str
        What each request asks for: the whole file, or a part.
    pause : float
        The longest pause between two requests must be this long, in seconds.
    patience : Patience
    num_bytes : int or None
        What the catalogue knows.
    """

    happened: str
    did: str
    answers: tuple[Answer, ...]
    second: tuple[Answer, ...] = ()
    ends: str = GOOD
    message: str = ""
    requests: str = "whole"
    pause: float = 0.0
    patience: Patience = PATIENT
    num_bytes: int | None = len(CONTENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestedRow:
    """What happens, what must come of it, and which test tries it."""

    happened: str
    did: str
    ends: str
    test: str


HALF = partial(cut, stop=100_000)
_OTHER_SIZE = r"expected 200,000 bytes, got {} bytes"
# On a busy machine the one or the other is noticed first.
_TOO_SLOW = r"nothing came for 0\.4 seconds|too slow: less than 32 KiB in 0\.8 seconds"
_LIES = "detected it, discarded the bytes so far, and asked for the whole file"

# What a server alone can do, by headings of the page.
GROUPS: Mapping[str, tuple[Row, ...]] = {
    "The connection": (
        Row(
            happened="the connection is closed before a byte",
            did="asked again",
            answers=(lambda _: None, part),
            requests="whole, whole",
        ),
        Row(
            happened="the connection is reset before a byte",
            did="asked again",
            answers=(Talk.reset, part),
            requests="whole, whole",
        ),
        Row(
            happened="the connection breaks within the headers",
            did="asked again",
            answers=(partial(raw, content=b"HTTP/1.1 200 OK\r\nContent-Le"), part),
            requests="whole, whole",
        ),
        Row(
            happened="reset after the first few bytes",
            did="asked for the rest",
            answers=(partial(cut, stop=10_000), part),
            requests="whole, part",
        ),
        Row(
            happened="reset in the middle",
            did="asked for the rest",
            answers=(HALF, part),
            requests="whole, part",
        ),
        Row(
            happened="reset before the last byte",
            did="asked for the rest",
            answers=(partial(cut, stop=199_999), part),
            requests="whole, part",
        ),
        Row(
            happened="reset in the middle, each time",
            did="gave up after the last attempt",
            answers=(HALF,),
            ends=DOWNLOAD,
            message="the connection ",
            requests="whole, part, part",
        ),
        Row(
            happened="fewer bytes than announced, then a regular end",
            did="asked for the rest",
            answers=(partial(cut, stop=150_000, reset=False), part),
            requests="whole, part",
        ),
        Row(
            happened="bytes that are not HTTP",
            did="asked again",
            answers=(partial(raw, content=b"SSH-2.0-OpenSSH_9.6\r\n" * 20), part),
            requests="whole, whole",
        ),
        Row(
            happened="a header line without an end",
            did="stopped reading, and asked again",
            answers=(endless_header, part),
            requests="whole, whole",
        ),
        Row(
            happened="'103 Early Hints' and other answers before the answer",
            did="skipped them",
            answers=(hinted,),
        ),
        Row(
            happened="'103 Early Hints' without an end",
            did="stopped reading after 1 MiB, and asked again",
            answers=(endless_hints, part),
            requests="whole, whole",
        ),
        Row(
            happened="another protocol, with status 101",
            did="did not ask again",
            answers=(partial(status, line="101 Switching Protocols"),),
            ends=DOWNLOAD,
            message="expected status 200, got 101",
        ),
        Row(
            happened="a thousand headers",
            did="stopped reading, and asked again",
            answers=(partial(raw, content=b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000), part),
            requests="whole, whole",
        ),
    ),
    "Time": (
        Row(
            happened="the server is silent",
            did="waited `stall_seconds`, tried again, gave up",
            answers=(wait,),
            ends=DOWNLOAD,
            message=_TOO_SLOW,
            patience=HASTY,
            requests="whole, whole",
        ),
        Row(
            happened="the server stalls in the middle",
            did="waited `stall_seconds`, and asked for the rest",
            answers=(partial(stall, stop=100_000), part),
            patience=replace(PATIENT, stall_seconds=2.0),
            requests="whole, part",
        ),
        Row(
            happened="headers arrive one byte at a time",
            did="gave up after twice `stall_seconds`, though no byte was late",
            answers=(drip_headers,),
            ends=DOWNLOAD,
            message=_TOO_SLOW,
            patience=HASTY,
            requests="whole, whole",
        ),
        Row(
            happened="the file arrives one byte at a time",
            did="gave up, since 32 KiB took longer than twice `stall_seconds`",
            answers=(drip_body,),
            ends=DOWNLOAD,
            message=_TOO_SLOW,
            patience=HASTY,
            requests="whole, whole",
        ),
        Row(
            happened="chunks of one byte arrive now and then",
            did="gave up, since 32 KiB took longer than twice `stall_seconds`",
            answers=(drip_chunks,),
            ends=DOWNLOAD,
            message=r"nothing came for 1 second|too slow: less than 32 KiB in 2 seconds",
            # The first of them must come in this time.
            patience=replace(HASTY, stall_seconds=1.0),
            requests="whole, part",
        ),
        Row(
            happened="'100 Continue' without an end",
            did="gave up after twice `stall_seconds`",
            answers=(endless_continue,),
            ends=DOWNLOAD,
            message=_TOO_SLOW,
            patience=HASTY,
            requests="whole, whole",
        ),
        Row(
            happened="a slow server that is fast enough",
            did="waited",
            answers=(flow,),
        ),
        Row(
            happened="a slow server that is too slow for the whole file",
            did="gave up after `total_seconds`, and did not ask again",
            answers=(flow,),
            ends=DOWNLOAD,
            message=r"the file was not whole after 0\.3 seconds",
            patience=replace(PATIENT, total_seconds=0.3),
        ),
    ),
    "Status": (
        Row(
            happened="404 Not Found",
            did="did not ask again",
            answers=(partial(status, line="404 Not Found"),),
            ends=DOWNLOAD,
            message="expected status 200, got 404 Not Found",
        ),
        Row(
            happened="404 Not Found with the right bytes",
            did="did not use them",
            answers=(
                lambda talk: talk.say("404 Not Found", "Content-Length: 200000", body=CONTENT),
            ),
            ends=DOWNLOAD,
            message="expected status 200, got 404 Not Found",
        ),
        Row(
            happened="404 Not Found with a page that has no end",
            did="closed the connection, and did not ask again",
            answers=(partial(endless, line="404 Not Found"),),
            ends=DOWNLOAD,
            message="got 404",
        ),
        Row(
            happened="a status with control characters",
            did="showed them as escapes",
            answers=(partial(status, line="404 \x1b]0;gone\x07\x9b2J\x85"),),
            ends=DOWNLOAD,
            message=r"got 404 \\x1b\]0;gone\\x07\\x9b2J",
        ),
        Row(
            happened="403 Forbidden",
            did="did not ask again",
            answers=(partial(status, line="403 Forbidden"),),
            ends=DOWNLOAD,
            message="got 403 Forbidden",
        ),
        Row(
            happened="204 No Content",
            did="did not ask again",
            answers=(lambda talk: talk.say("204 No Content"),),
            ends=DOWNLOAD,
            message="got 204 No Content",
        ),
        Row(
            happened="500, then the file",
            did="asked again after a pause",
            answers=(partial(status, line="500 Internal Server Error"), part),
            pause=0.5,
            requests="whole, whole",
        ),
        Row(
            happened="502 each time",
            did="gave up after the last attempt; each pause was about twice the one before",
            answers=(partial(status, line="502 Bad Gateway"),),
            ends=DOWNLOAD,
            message="got 502 Bad Gateway",
            pause=1.0,
            requests="whole, whole, whole",
        ),
        Row(
            happened="429 with Retry-After: 7, then the file",
            did="waited 7 seconds",
            answers=(lambda talk: status(talk, "429 Too Many Requests", "Retry-After: 7"), part),
            pause=7.0,
            requests="whole, whole",
        ),
        Row(
            happened="503 with a date in half a minute, then the file",
            did="waited until then",
            answers=(lambda talk: status(talk, "503 Service Unavailable", later(30)), part),
            pause=20.0,
            requests="whole, whole",
        ),
        Row(
            happened="429 with Retry-After: 86400",
            did="did not wait for a day",
            answers=(lambda talk: status(talk, "429 Too Many Requests", "Retry-After: 86400"),),
            ends=DOWNLOAD,
            message=r"got 429 Too Many Requests, with Retry-After: 86400\.",
        ),
        Row(
            happened="503 with a Retry-After that is neither number nor date",
            did="took the usual pause",
            answers=(
                lambda talk: status(talk, "503 Service Unavailable", "Retry-After: soon"),
                part,
            ),
            pause=0.5,
            requests="whole, whole",
        ),
    ),
    "Redirects": (
        Row(
            happened="four redirects, then the file",
            did="followed them",
            answers=(redirect_on,),
            requests="whole, whole, whole, whole, whole",
        ),
        Row(
            happened="a redirect with a page that has no end, then the file",
            did="followed it, and closed the connection",
            answers=(partial(endless, line="302 Found", also="Location: {url}/next"), part),
            requests="whole, whole",
        ),
        Row(
            happened="a redirect to itself",
            did="followed five times",
            answers=(partial(redirect, to="/file"),),
            ends=DOWNLOAD,
            message="got more than 5 redirects, the last to http",
            requests="whole, whole, whole, whole, whole, whole",
        ),
        Row(
            happened="redirects that go on for ever",
            did="followed five times",
            answers=(lambda talk: redirect(talk, talk.path + "x"),),
            ends=DOWNLOAD,
            message="got more than 5 redirects",
            requests="whole, whole, whole, whole, whole, whole",
        ),
        Row(
            happened="a redirect to a file of this machine",
            did="refused",
            answers=(partial(redirect, to="file:///etc/hostname"),),
            ends=DOWNLOAD,
            message="expected a redirect to another http address, got one to 'file:///etc/hostname'",
        ),
        Row(
            happened="a redirect to another scheme, ftp",
            did="refused",
            answers=(partial(redirect, to="ftp://127.0.0.1/file"),),
            ends=DOWNLOAD,
            message="expected a redirect to another http address, got one to 'ftp://127.0.0.1/file'",
        ),
        Row(
            happened="a redirect without an address",
            did="refused",
            answers=(lambda talk: talk.say("301 Moved Permanently", "Content-Length: 0"),),
            ends=DOWNLOAD,
            message="expected a redirect to another http address, got one to ''",
        ),
    ),
    "The content": (
        Row(
            happened="an HTML page with status 200",
            did="refused it by its size, before reading it",
            answers=(partial(whole, body=PAGE, also="Content-Type: text/html; charset=utf-8"),),
            ends=CHECKSUM,
            message=_OTHER_SIZE.format(r"39") + r" \(text/html\)",
        ),
        Row(
            happened="an HTML page with status 200, in chunks",
            did="refused it by its size",
            answers=(partial(chunked, body=PAGE, also="Content-Type: text/html"),),
            ends=CHECKSUM,
            message=_OTHER_SIZE.format("39") + r" \(text/html\)",
        ),
        Row(
            happened="an HTML page, if only the hash is known",
            did="refused it by its hash",
            answers=(partial(whole, body=PAGE, also="Content-Type: text/html"),),
            ends=CHECKSUM,
            message=r"expected sha256:\w+, got sha256:\w+ \(text/html\)",
            num_bytes=None,
        ),
        Row(
            happened="an empty file",
            did="refused it",
            answers=(partial(whole, body=b""),),
            ends=CHECKSUM,
            message=_OTHER_SIZE.format("0"),
        ),
        Row(
            happened="a file that is a byte too short",
            did="refused it before reading it",
            answers=(partial(whole, body=CONTENT[:-1]),),
            ends=CHECKSUM,
            message=_OTHER_SIZE.format("199,999"),
        ),
        Row(
            happened="a file that is a byte too long",
            did="refused it before reading it",
            answers=(partial(whole, body=CONTENT + b"!"),),
            ends=CHECKSUM,
            message=_OTHER_SIZE.format("200,001"),
        ),
        Row(
            happened="more bytes than announced",
            did="read only the announced bytes",
            answers=(partial(whole, body=CONTENT + b"!" * 50_000, length=len(CONTENT)),),
        ),
        Row(
            happened="no length",
            did="read to the end",
            answers=(unmeasured,),
        ),
        Row(
            happened="no length, and an early end",
            did="asked for the rest",
            answers=(partial(unmeasured, body=CONTENT[:70_000]), part),
            requests="whole, part",
        ),
        Row(
            happened="no length, and no end",
            did="stopped reading after the expected size",
            answers=(endless,),
            ends=CHECKSUM,
            message=_OTHER_SIZE.format("more than 200,000"),
        ),
        Row(
            happened="a length that is not a number",
            did="read to the end",
            answers=(partial(whole, length="many"),),
        ),
        Row(
            happened="a length of five thousand digits",
            did="read to the end",
            answers=(partial(whole, length="9" * 5000),),
        ),
        Row(
            happened="a negative length",
            did="read to the end",
            answers=(partial(whole, length="-5"),),
        ),
        Row(
            happened="two lengths that differ",
            did="refused the reply",
            answers=(partial(whole, also="Content-Length: 7"),),
            ends=DOWNLOAD,
            message="InvalidHeader: .*Content-Length",
        ),
        Row(
            happened="chunks without a length",
            did="read them",
            answers=(chunked,),
        ),
        Row(
            happened="a chunk whose size is not a number",
            did="asked for the rest",
            answers=(broken_chunk, part),
            requests="whole, part",
        ),
        Row(
            happened="the size of a chunk without an end",
            did="stopped reading after 1 MiB, and asked again",
            answers=(endless_chunk_size, part),
            requests="whole, whole",
        ),
        Row(
            happened="chunks, and after the last one headers without an end",
            did="already had the whole file",
            answers=(endless_trailers,),
        ),
        Row(
            happened="the right size, wrong bytes",
            did="refused it by its hash, and did not ask again",
            answers=(partial(whole, body=OTHER),),
            ends=CHECKSUM,
            message=r"expected sha256:\w+, got sha256:\w+\.",
        ),
        Row(
            happened="a single wrong bit",
            did="refused it by its hash",
            answers=(partial(whole, body=CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])),),
            ends=CHECKSUM,
            message=r"expected sha256:\w+, got sha256:",
        ),
        Row(
            happened="the file compressed by gzip, although this was not requested",
            did="refused it, with the reason",
            answers=(partial(chunked, body=gzip.compress(CONTENT), also="Content-Encoding: gzip"),),
            ends=CHECKSUM,
            message=r"got more than 200,000 bytes \(gzip-encoded\)",
        ),
        Row(
            happened="the file itself, marked as gzip-encoded",
            did="used the bytes unchanged",
            answers=(partial(whole, also="Content-Encoding: gzip"),),
        ),
    ),
    "Parts": (
        Row(
            happened="asked for the rest, the server sends the whole file",
            did="started again with it",
            answers=(HALF, whole),
            requests="whole, part",
        ),
        Row(
            happened="asked for the rest, the server sends another part",
            did=_LIES,
            answers=(
                HALF,
                partial(wrong_part, content_range="bytes 0-199999/200000", body=CONTENT),
                part,
            ),
            requests="whole, part, whole",
        ),
        Row(
            happened="asked for the rest, the server announces it and sends other bytes",
            did="found the wrong hash, and asked for the whole file",
            answers=(HALF, partial(part, body=OTHER), part),
            requests="whole, part, whole",
        ),
        Row(
            happened="asked for the rest, the server sends a part without its range",
            did=_LIES,
            answers=(HALF, partial(wrong_part, content_range=""), part),
            requests="whole, part, whole",
        ),
        Row(
            happened="asked for the rest, the server sends a part of a file of another size",
            did="detected the other size, and asked for the whole file",
            answers=(HALF, partial(part, body=CONTENT + b"!"), part),
            requests="whole, part, whole",
        ),
        Row(
            happened="asked for the rest, the server sends less than the rest",
            did=_LIES,
            answers=(
                HALF,
                partial(wrong_part, content_range="bytes {start}-150000/200000", body=b"less"),
                part,
            ),
            requests="whole, part, whole",
        ),
        Row(
            happened="asked for the rest, the server announces a part and another length",
            did=_LIES,
            answers=(
                HALF,
                partial(wrong_part, content_range="bytes {start}-199999/200000", body=b"less"),
                part,
            ),
            requests="whole, part, whole",
        ),
        Row(
            happened="asked for the rest, the server sends several parts in one reply",
            did=_LIES,
            answers=(
                HALF,
                lambda talk: talk.say(
                    "206 Partial Content",
                    "Content-Type: multipart/byteranges; boundary=x",
                    body=b"--x--",
                ),
                part,
            ),
            requests="whole, part, whole",
        ),
        Row(
            happened="asked for the rest, the server sends a date instead of the ETag sent before",
            did="took the rest, and let the hash decide",
            answers=(
                HALF,
                partial(
                    wrong_part,
                    content_range="bytes {start}-199999/200000\r\n"
                    "Last-Modified: Thu, 01 Jan 1970 12:00:00 GMT",
                ),
            ),
            requests="whole, part",
        ),
        Row(
            happened="asked for the rest, the server replies 416, no such part",
            did="asked for the whole file",
            answers=(HALF, partial(status, line="416 Range Not Satisfiable"), part),
            requests="whole, part, whole",
        ),
        Row(
            happened="a part that was not requested",
            did="asked again",
            answers=(partial(wrong_part, content_range="bytes 0-199999/200000"), part),
            requests="whole, whole",
        ),
        Row(
            happened="the server sends wrong parts each time",
            did="gave up after the last attempt",
            answers=(HALF, partial(wrong_part, content_range=""), HALF),
            ends=DOWNLOAD,
            message="the connection ",
            requests="whole, part, whole",
        ),
        Row(
            happened="another edition before, the right one after the break",
            did="sent If-Range, and got the whole right edition",
            answers=(partial(HALF, body=OTHER[::-1], tag='"0"'), part),
            requests="whole, part",
        ),
        Row(
            happened="the right edition before, another one after the break",
            did="sent If-Range, got the whole other edition, and refused it by its hash",
            answers=(HALF, partial(part, body=OTHER, tag='"2"')),
            ends=CHECKSUM,
            message=r"expected sha256:\w+, got sha256:",
            requests="whole, part",
        ),
        Row(
            happened="another edition after the break, from a server that ignores If-Range",
            did="found the wrong hash, and asked for the whole file",
            answers=(
                partial(HALF, body=OTHER[::-1], tag='"0"'),
                partial(part, heeds_if_range=False),
                part,
            ),
            requests="whole, part, whole",
        ),
        Row(
            happened="another edition after the break, and neither ETag nor date",
            did="found the wrong hash, and asked for the whole file",
            answers=(partial(HALF, body=OTHER[::-1], tag=""), part, part),
            requests="whole, part, whole",
        ),
    ),
    "Several addresses": (
        Row(
            happened="the first address has no such file",
            did="asked the second",
            answers=(partial(status, line="404 Not Found"),),
            second=(part,),
            requests="whole, whole",
        ),
        Row(
            happened="the first address has another file",
            did="asked the second",
            answers=(partial(whole, body=OTHER),),
            second=(part,),
            requests="whole, whole",
        ),
        Row(
            happened="the first address breaks in the middle",
            did="asked the second for the rest",
            answers=(HALF,),
            second=(part,),
            requests="whole, part",
        ),
        Row(
            happened="the first address breaks in the middle, the second has an HTML page",
            did="refused the page, and asked the first for the rest",
            answers=(HALF, part),
            second=(partial(whole, body=PAGE),),
            requests="whole, part, part",
        ),
        Row(
            happened="the first address sends half of another file",
            did="asked the second for the rest, found the wrong hash, asked the first again, "
            "then the second for the whole file",
            answers=(partial(HALF, body=OTHER[::-1]), partial(status, line="404 Not Found")),
            second=(part,),
            requests="whole, part, whole, whole",
        ),
        Row(
            happened="both addresses fail temporarily",
            did="asked both, and after a pause both again",
            answers=(partial(status, line="500 Internal Server Error"),),
            second=(partial(status, line="503 Service Unavailable"), part),
            pause=0.5,
            requests="whole, whole, whole, whole",
        ),
    ),
}
ROWS = tuple(row for rows in GROUPS.values() for row in rows)


TESTED_ROWS = (
    TestedRow(
        happened="no server: the connection is refused",
        did="tried again, gave up",
        ends=DOWNLOAD,
        test="test_refused_connection",
    ),
    TestedRow(
        happened="no server at the first address",
        did="asked the second",
        ends=GOOD,
        test="test_second_address_helps_where_nobody_answers",
    ),
    TestedRow(
        happened="a certificate of an unknown authority",
        did="did not ask again",
        ends=DOWNLOAD,
        test="test_unknown_certificate",
    ),
    TestedRow(
        happened="a byte of a secure connection is damaged in transit",
        did="asked for the rest",
        ends=GOOD,
        test="test_damaged_secure_connection",
    ),
    TestedRow(
        happened="a redirect from https to http",
        did="refused",
        ends=DOWNLOAD,
        test="test_redirect_to_a_connection_that_is_not_secure",
    ),
    TestedRow(
        happened="reset after any number of bytes",
        did="asked for the rest, or for the whole file if almost nothing had arrived",
        ends=GOOD,
        test="test_reset_anywhere",
    ),
    TestedRow(
        happened="no length and no end, if only the hash is known",
        did="stopped reading at 16 GiB",
        ends=CHECKSUM,
        test="test_endless_file_of_unknown_size",
    ),
    TestedRow(
        happened="the cache is read-only",
        did="reported it",
        ends=DOWNLOAD,
        test="test_read_only_folder",
    ),
    TestedRow(
        happened="the disk is full",
        did="reported it, and removed the bytes written so far",
        ends=DOWNLOAD,
        test="test_full_disk",
    ),
    TestedRow(
        happened="Ctrl-C",
        did="removed the bytes that had arrived",
        ends="`KeyboardInterrupt`",
        test="test_interrupted_download",
    ),
    TestedRow(
        happened="killed, by SIGKILL, at any moment",
        did="the next process removed the remaining file, and asked for the whole file",
        ends=GOOD,
        test="test_killed_at_any_moment",
    ),
    TestedRow(
        happened="eight processes at once",
        did="each downloaded the file, and the last one replaced it",
        ends=GOOD,
        test="test_processes_that_race",
    ),
    TestedRow(
        happened="eight processes at once, half of them killed",
        did="the others were not disturbed; the next process removed the remaining files",
        ends=GOOD,
        test="test_processes_that_race_and_die",
    ),
    TestedRow(
        happened="a process is suspended, and continues after another one has downloaded the file",
        did="neither changed the other's file",
        ends=GOOD,
        test="test_suspended_process",
    ),
    TestedRow(
        happened="a good file has the name, and only bad files arrive",
        did="left the file as it was",
        ends=CHECKSUM,
        test="test_bad_file_keeps_the_old_one",
    ),
)


def table() -> str:
    """Return the rows as the page shows them."""
    lines = []
    for title, rows in GROUPS.items():
        lines += [f"### {title}", ""]
        lines += [
            "| what happened | what tokenloom did | requests | ends with |",
            "|---|---|---|---|",
        ]
        lines += [f"| {r.happened} | {r.did} | {r.requests} | {r.ends} |" for r in rows]
        lines += [""]
    lines += ["### The machine", "", "| what happened | what tokenloom did | ends with |"]
    lines += ["|---|---|---|"]
    lines += [f"| {row.happened} | {row.did} | {row.ends} |" for row in TESTED_ROWS]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Misbehaving:
    """A running server.

    Attributes
    ----------
    url : str
        Its address, without a slash at the end.
    asked : list of str
        The part that each request asked for, such as "bytes=5-"; may be empty.
    """

    url: str
    asked: list[str] = field(default_factory=list)


@contextlib.contextmanager
def misbehaving(
    answers: Mapping[str, tuple[Answer, ...]], *, secure: ssl.SSLContext | None = None
) -> Iterator[Misbehaving]:
    """Run a server until the block ends; what is no key gets the answers of ``""``."""
    over = threading.Event()
    counts = dict.fromkeys(answers, 0)
    lock = threading.Lock()

    class Handler(socketserver.StreamRequestHandler):
        def setup(self) -> None:
            if secure is not None:
                self.request = secure.wrap_socket(self.request, server_side=True)
            super().setup()

        def handle(self) -> None:
            with contextlib.suppress(OSError):
                request = self.rfile.readline().decode("latin-1").split()
                headers = {}
                while line := self.rfile.readline().decode("latin-1").strip():
                    name, _, value = line.partition(":")
                    headers[name.lower()] = value.strip()
                key = request[1] if request[1] in answers else ""
                with lock:
                    server.asked.append(headers.get("range", ""))
                    number = min(counts[key], len(answers[key]) - 1)
                    counts[key] += 1
                answers[key][number](
                    Talk(
                        connection=self.connection,
                        path=request[1],
                        headers=headers,
                        url=server.url,
                        over=over,
                    )
                )

        def finish(self) -> None:
            with contextlib.suppress(OSError):
                super().finish()
            if secure is not None:
                # The server closes the socket below only.
                self.connection.close()

    class Server(socketserver.ThreadingTCPServer):
        request_queue_size = 64

        def shutdown_request(self, request: Any) -> None:
            """Close without the goodbye that would come before a reset."""
            self.close_request(request)

        def handle_error(self, *_: object) -> None:
            """Say nothing of clients that hang up in the middle of a handshake."""

    scheme = "http" if secure is None else "https"
    with Server(("127.0.0.1", 0), Handler) as running:
        server = Misbehaving(url=f"{scheme}://127.0.0.1:{running.server_address[1]}")
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            over.set()
            running.shutdown()
            thread.join()
