"""What a server's status and headers say."""

import pytest
import requests

from tokenloom.hub.replies import (
    TransferError,
    check_status,
    hide_password,
    is_address,
    next_address,
    parse_length,
    parse_range,
    parse_retry_after,
    strong_validator,
)

NOON = "Thu, 01 Jan 1970 12:00:00 GMT"


def _reply(status: int, reason: str = "", **headers: str) -> requests.Response:
    reply = requests.Response()
    reply.status_code, reply.reason = status, reason
    reply.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return reply


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://me:secret@example.org/a: no", "http://example.org/a: no"),
        ("https://me@example.org/", "https://example.org/"),
        ("http://me:se@cret@a.org/b; http://me:x@b.org", "http://a.org/b; http://b.org"),
        ("http://example.org/@a?b=//c@d", "http://example.org/@a?b=//d"),
        ("nobody listens at //", "nobody listens at //"),
    ],
)
def test_password_is_hidden(text: str, expected: str) -> None:
    """Who reads an error need not know it; nothing else is taken away but what looks like it."""
    assert expected == hide_password(text)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://example.org", True),
        ("HTTPS://example.org:8443/a?b", True),
        ("http://[::1]/", True),
        ("http://", False),
        ("http://:80/", False),
        ("http://a:b/", False),
        ("http://a:0/", False),
        ("http://[::1", False),
        ("ftp://example.org", False),
        ("example.org/a", False),
        ("", False),
    ],
)
def test_addresses(url: str, *, expected: bool) -> None:
    """An address has a host that the web can be asked of."""
    assert expected == is_address(url)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("b", "http://example.org/a/b"),
        ("/b", "http://example.org/b"),
        ("//example.net/b", "http://example.net/b"),
        ("http://example.net:8080/b?c", "http://example.net:8080/b?c"),
        ("https://example.org/b", "https://example.org/b"),
        # As a header is read that a server wrote in UTF-8.
        ("/caf\u00c3\u00a9", "http://example.org/caf\u00e9"),
    ],
)
def test_redirects_that_are_followed(location: str, expected: str) -> None:
    """To the same scheme, and to a connection that is secure."""
    assert expected == next_address("http://example.org/a/", location)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "location",
    [
        "",
        "file:///etc/hostname",
        "ftp://example.org/",
        "data:,text",
        "http://[::1",
        "/caf\u00e9",
        "/\u20ac",
    ],
)
def test_redirects_that_are_refused(scheme: str, location: str) -> None:
    """To another scheme, and to nowhere."""
    message = f"^expected a redirect to another {scheme} address, got one to "
    with pytest.raises(TransferError, match=message) as caught:
        next_address(f"{scheme}://example.org/", location)

    assert caught.value.retry_seconds is None


def test_redirect_from_https_to_http_is_refused() -> None:
    """A connection that is secure does not become another."""
    with pytest.raises(TransferError, match="another https address, got one to 'http://"):
        next_address("https://example.org/", "http://example.org/")


@pytest.mark.parametrize(("status", "start"), [(200, 0), (200, 5), (206, 5)])
def test_statuses_of_a_file(status: int, start: int) -> None:
    """The whole file is always welcome, a part of it if it was asked for."""
    check_status(_reply(status), asked_start=start)


@pytest.mark.parametrize(
    "status", [201, 202, 203, 204, 205, 300, 304, 401, 404, 410, 416, 501, 505]
)
def test_statuses_that_stay(status: int) -> None:
    """What would be the same the next time is not asked for again."""
    with pytest.raises(TransferError, match=f"^expected status 200, got {status}$") as caught:
        check_status(_reply(status), asked_start=0)

    assert (None, False) == (caught.value.retry_seconds, caught.value.is_content)


@pytest.mark.parametrize("status", [206, 408, 425, 429, 500, 502, 503, 504])
def test_statuses_that_pass(status: int) -> None:
    """What may be otherwise is asked for again, at once if nothing else is said."""
    with pytest.raises(TransferError, match=f"got {status} Odd$") as caught:
        check_status(_reply(status, "Odd"), asked_start=0)

    assert (0.0, False) == (caught.value.retry_seconds, caught.value.spoils)


def test_status_that_asks_to_wait() -> None:
    """The server's wish is part of the message and of the error."""
    with pytest.raises(TransferError, match=r"got 503, to be asked again after 7 sec") as caught:
        check_status(_reply(503, Retry_After="7"), asked_start=0)

    expected = 7.0
    assert expected == caught.value.retry_seconds


def test_status_of_a_part_that_is_not_there() -> None:
    """What arrived before is longer than the file, or of another one."""
    with pytest.raises(TransferError, match="got 416 to bytes from 1,000 on") as caught:
        check_status(_reply(416), asked_start=1000)

    assert (0.0, True) == (caught.value.retry_seconds, caught.value.spoils)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        (" 7 ", 7),
        ("", None),
        ("-1", None),
        ("1e3", None),
        ("\u0663", None),
        ("9" * 5000, None),
    ],
)
def test_length(text: str, expected: int | None) -> None:
    """A number of bytes, or nothing at all."""
    assert expected == parse_length(text)


@pytest.mark.parametrize("length", [None, 60])
def test_range_that_was_asked_for(length: int | None) -> None:
    """The rest, to the last byte."""
    expected = 100
    assert expected == parse_range("bytes 40-99/100", start=40, length=length)


@pytest.mark.parametrize(
    ("content_range", "length"),
    [
        ("", None),
        ("bytes 39-99/100", None),
        ("bytes 0-99/100", None),
        ("bytes 40-98/100", None),
        ("bytes 40-100/100", None),
        ("bytes 40-99/*", None),
        ("bytes */100", None),
        ("bytes 40-99", None),
        ("lines 40-99/100", None),
        ("bytes -40-99/100", None),
        ("bytes 40-" + "9" * 5000 + "/1" + "0" * 5000, None),
        ("bytes 40-99/100", 59),
        ("bytes 40-99/100", 100),
    ],
)
def test_range_that_was_not_asked_for(content_range: str, length: int | None) -> None:
    """Anything else is a lie: what arrived before is forgotten, and all is asked for."""
    with pytest.raises(TransferError, match=r"^asked for the bytes from 40 on, got ") as caught:
        parse_range(content_range, start=40, length=length)

    assert (0.0, True) == (caught.value.retry_seconds, caught.value.spoils)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("120", 120.0),
        (" 3 ", 3.0),
        ("0", 0.0),
        (NOON, 200.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("", 0.0),
        ("soon", 0.0),
        ("-5", 0.0),
        ("1.5", 0.0),
        ("9" * 400, 0.0),
        ("Thu, 01 Jan 99999 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after(text: str, expected: float) -> None:
    """A number or a date; anything else is no wish, and no error."""
    assert expected == parse_retry_after(text, now=12 * 3600 - 200)


@pytest.mark.parametrize(
    ("etag", "last_modified", "expected"),
    [
        ('"1"', NOON, '"1"'),
        ('"1"', "", '"1"'),
        ('W/"1"', NOON, NOON),
        ('W/"1"', "", ""),
        ("", NOON, NOON),
        ("", "", ""),
    ],
)
def test_strong_validator(etag: str, last_modified: str, expected: str) -> None:
    """A weak ETag says that two editions are about the same, which is not enough."""
    assert expected == strong_validator(etag, last_modified)


def test_message_that_a_server_wrote() -> None:
    """No terminal obeys it, also not by the controls of 8 bits, and it is short."""
    failure = TransferError("got \x1b]0;gone\x07 \x9b2J\x85\u202e\r\n" + "x" * 70_000)

    assert str(failure).startswith(r"got \x1b]0;gone\x07 \x9b2J\x85\u202e\r\nxxx")
    assert len(str(failure)) < 1_000
