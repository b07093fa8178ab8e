"""The textbook's text normalisation, without its regular expression.

Each line loses everything but letters: every run of characters outside A-Z
and a-z becomes one space, the ends are stripped, and the rest is lower case.
Line ends vanish from characters and separate words.

Source: Zhang, Lipton, Li and Smola, "Dive into Deep Learning", chapter on
text preprocessing: ``re.sub('[^A-Za-z]+', ' ', line).strip().lower()``.

In UTF-8 every byte of a character beyond ASCII is no letter, so runs of such
bytes collapse just like runs of such characters. Long texts are worked on in
pieces that stay in a processor's cache, and are cut where that changes nothing.
"""

import itertools
import re
import string
from collections.abc import Iterator
from typing import AnyStr

import numpy as np

_PIECE = 1 << 18

_SPACE, _NEWLINE = b" \n"
_LETTERS_AND_SPACES = bytes(
    ord(chr(byte).lower()) if chr(byte) in string.ascii_letters else _SPACE for byte in range(256)
)
_LINES = bytes(
    # Text files end lines with any of the two or both; Python reads them alike.
    _NEWLINE if byte in b"\r\n" else cleaned
    for byte, cleaned in enumerate(_LETTERS_AND_SPACES)
)
_IN_WORD = re.compile(rb"(?<=[A-Za-z])[A-Za-z]")
_NO_LETTER = re.compile(rb"[^A-Za-z]")
_WHITE_SPACE = re.compile(r"\s")


def clean_characters(text: str) -> str:
    r"""Return normalised text whose lines are joined by nothing.

    >>> clean_characters("The Time Machine, by\nH. G. Wells [1898]")
    'the time machine byh g wells'
    """
    pieces = _cut(_encode(text), _IN_WORD)
    return b"".join(map(_clean_lines, pieces)).decode("ascii")


def clean_words(text: str) -> str:
    r"""Return normalised text whose words are all separated by one space.

    >>> clean_words("The Time Machine, by\nH. G. Wells [1898]")
    'the time machine by h g wells'
    """
    return " ".join(itertools.chain.from_iterable(split_words(text)))


def split_words(text: str, *, normalize: bool = True) -> Iterator[list[str]]:
    """Yield the words of a text in order, many at once.

    Parameters
    ----------
    text : str
    normalize : bool
        Whether words are what normalising leaves, or what stands between
        white space.

    >>> list(split_words("Time flies."))
    [['time', 'flies']]
    """
    if not normalize:
        yield from (piece.split() for piece in _cut(text, _WHITE_SPACE))
        return
    for piece in _cut(_encode(text), _NO_LETTER):
        yield piece.translate(_LETTERS_AND_SPACES).decode("ascii").split()


def clean_prompt(prompt: str) -> str:
    """Return a prompt in normalised characters, with its outer spaces kept.

    >>> clean_prompt("Time  Traveller ")
    'time traveller '
    """
    cleaned = clean_words(prompt)
    if not cleaned:
        return ""
    before = "" if _is_letter(prompt[0]) else " "
    after = "" if _is_letter(prompt[-1]) else " "
    return before + cleaned + after


def _is_letter(character: str) -> bool:
    return character in string.ascii_letters


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _cut(text: AnyStr, boundary: "re.Pattern[AnyStr]") -> Iterator[AnyStr]:
    """Yield pieces of a text, each but the first beginning with what ``boundary`` matches."""
    start = 0
    while start < len(text):
        found = boundary.search(text, start + _PIECE)
        stop = len(text) if found is None else found.start()
        yield text[start:stop]
        start = stop


def _clean_lines(piece: bytes) -> bytes:
    """Keep letters, and one space per run of others between two that has no line end."""
    codes = np.frombuffer(piece.translate(_LINES), np.uint8)
    is_letter = codes > _SPACE
    # The first byte of a run stands for it; a run at the very start has no letter before it.
    run_starts = np.flatnonzero(is_letter[:-1] > is_letter[1:]) + 1
    keep = is_letter.copy()
    keep[run_starts] = True
    newlines = np.flatnonzero(codes == _NEWLINE)
    runs = np.searchsorted(run_starts, newlines, side="right") - 1
    keep[run_starts[runs[runs >= 0]]] = False
    if run_starts.size and not is_letter[-1]:
        keep[run_starts[-1]] = False
    return codes[keep].tobytes()
