"""What a server's status and headers say about the file that was asked for."""

import email.utils
import re
import time
from urllib.parse import urljoin, urlsplit

import requests

OK, PART, NO_SUCH_PART = 200, 206, 416
# What may be otherwise a little later.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
# Of a message, in characters: a status line may be 64 KiB long.
_MAX_MESSAGE = 500


class TransferError(Exception):
    """What came instead of the file; never seen by those who call `download`.

    Attributes
    ----------
    retry_seconds : float or None
        After so long the same address may be asked again; None: it is no use.
    is_content : bool
        Whether a file came, and it was another one.
    spoils : bool
        Whether what arrived before must be forgotten.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_seconds: float | None = None,
        is_content: bool = False,
        spoils: bool = False,
    ) -> None:
        super().__init__(_make_visible(message))
        self.retry_seconds = retry_seconds
        self.is_content = is_content
        self.spoils = spoils


def _make_visible(text: str) -> str:
    """Return a text, of a server in part, that no terminal obeys, and that is not too long."""
    shown = text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]}..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)


def is_address(url: str) -> bool:
    """Return whether the web can be asked for it.

    >>> is_address("HTTP://example.org"), is_address("http://"), is_address("/a.txt")
    (True, False, False)
    """
    try:
        parts = urlsplit(url)
        # A port that is no number is noticed where it is looked at.
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def hide_password(text: str) -> str:
    """Return a text with addresses as they may be shown: without names and passwords.

    >>> hide_password("http://me:secret@example.org/a: refused")
    'http://example.org/a: refused'
    """
    return re.sub(r"(?<=//)[^/?#\s]*@", "", text)


def next_address(url: str, location: str) -> str:
    """Return the address that a redirect leads to.

    Raises
    ------
    TransferError
        It leads nowhere, or to another scheme than from http to https.

    >>> next_address("http://example.org/a/b", "../c")
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
    raise TransferError(msg)


def check_status(reply: requests.Response, *, asked_start: int) -> None:
    """Let pass what can be a file, or the part of it that was asked for.

    Raises
    ------
    TransferError
        The status is another one. Whether to ask again depends on it.
    """
    status = reply.status_code
    if status == OK or (status == PART and asked_start):
        return
    got = f"expected status 200, got {status} {reply.reason or ''}".rstrip()
    if status == NO_SUCH_PART and asked_start:
        msg = f"{got} to bytes from {asked_start:,} on"
        raise TransferError(msg, retry_seconds=0, spoils=True)
    seconds = parse_retry_after(reply.headers.get("Retry-After", ""), now=time.time())
    if seconds:
        got += f", to be asked again after {seconds:,.0f} seconds"
    # A part that nobody asked for is a mistake that need not come again.
    may_pass = status in _PASSING or status == PART
    raise TransferError(got, retry_seconds=seconds if may_pass else None)


def parse_length(text: str) -> int | None:
    """Return how many bytes a server announces, None if it announces no number.

    >>> parse_length("1024"), parse_length("-5")
    (1024, None)
    """
    # No file is longer, and Python refuses numbers of thousands of digits.
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text.strip()) else None


def parse_range(content_range: str, *, start: int, length: int | None) -> int:
    """Return the size of a file of which the bytes from ``start`` on come.

    Parameters
    ----------
    content_range : str
        What the server says that it sends.
    start : int
        What was asked for.
    length : int, optional
        How many bytes the server announces.

    Raises
    ------
    TransferError
        It sends something else.

    >>> parse_range("bytes 20-99/100", start=20, length=80)
    100
    """
    match = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", content_range.strip())
    first, last, total = map(int, match.groups()) if match else (-1, -1, -1)
    if first == start and last == total - 1 and length in (None, total - start):
        return total
    got = repr(content_range) if content_range else "a part that has no Content-Range"
    msg = f"asked for the bytes from {start:,} on, got {got}"
    if match and length not in (None, last - first + 1):
        msg += f" of {length:,} bytes"
    raise TransferError(msg, retry_seconds=0, spoils=True)


def parse_retry_after(text: str, *, now: float) -> float:
    """Return how many seconds a server asks to wait, 0 if it does not say so.

    Parameters
    ----------
    text : str
        A number of seconds, or a date.
    now : float
        In seconds since 1970.

    >>> parse_retry_after("7", now=0), parse_retry_after("Thu, 01 Jan 1970 00:01:00 GMT", now=50)
    (7.0, 10.0)
    """
    if re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except (OSError, OverflowError, TypeError, ValueError):
        return 0.0


def strong_validator(etag: str, last_modified: str) -> str:
    """Return what tells two editions of a file apart, byte by byte; may be empty.

    >>> strong_validator('W/"about the same"', "Thu, 01 Jan 1970 00:01:00 GMT")
    'Thu, 01 Jan 1970 00:01:00 GMT'
    """
    return last_modified if etag.startswith("W/") or not etag else etag
