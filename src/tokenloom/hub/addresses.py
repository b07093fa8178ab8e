"""Addresses of the web: what counts as one, and how long to wait for it."""

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from tokenloom.errors import ArgumentError


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a download waits, how often it tries, and how much it takes.

    Attributes
    ----------
    connect_seconds : float
        For a connection with its TLS handshake.
    stall_seconds : float
        Longest time without a byte. The beginning of a reply may take twice as
        long, and so may each further 32 KiB; slower servers are given up.
    total_seconds : float
        For the whole download with all attempts.
    num_attempts : int
        Attempts at each address.
    pause_seconds : float
        Pause before the second attempt; doubled before each further one. Half of
        each pause is random, so that many processes do not retry at the same
        time.
    max_pause_seconds : float
        The longest pause, even if a server asks for a longer one.
    sleep : callable
        Called with the seconds to wait.
    max_bytes : int
        The largest file whose size is not known, because a reply may be endless.
    """

    connect_seconds: float = 10.0
    stall_seconds: float = 30.0
    total_seconds: float = 86_400.0
    num_attempts: int = 5
    pause_seconds: float = 1.0
    max_pause_seconds: float = 60.0
    sleep: Callable[[float], object] = time.sleep
    max_bytes: int = 1 << 34

    def __post_init__(self) -> None:
        waits = (
            self.connect_seconds,
            self.stall_seconds,
            self.total_seconds,
            self.max_pause_seconds,
        )
        is_bounded = all(0 < seconds < math.inf for seconds in waits)
        if not is_bounded or not self.pause_seconds >= 0 or self.num_attempts < 1:
            msg = f"patience must be above 0 and finite, with at least one attempt, got {self}"
            raise ArgumentError(msg)


def is_address(url: str) -> bool:
    """Return whether a text is an address of the web.

    >>> is_address("HTTP://example.org"), is_address("http://"), is_address("/a.txt")
    (True, False, False)
    """
    try:
        parts = urlsplit(url)
        # parts.port raises if the port is no number.
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def hide_password(text: str) -> str:
    """Return a text without the user names and passwords of its addresses.

    >>> hide_password("http://me:secret@example.org/a: refused")
    'http://example.org/a: refused'
    """
    return re.sub(r"(?<=//)[^/?#\s]*@", "", text)
