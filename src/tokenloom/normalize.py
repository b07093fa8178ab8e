"""The textbook's text normalisation, without a regular expression.

Each line loses everything but letters: every run of characters outside A-Z
and a-z becomes one space, the ends are stripped, and the rest is lower case.
Line ends vanish from characters and separate words.

Source: Zhang, Lipton, Li and Smola, "Dive into Deep Learning", chapter on
text preprocessing: ``re.sub('[^A-Za-z]+', ' ', line).strip().lower()``.
"""

import string

import numpy as np
import numpy.typing as npt

_SPACE, _NEWLINE = b" \n"
_TABLE = bytes(
    ord(chr(byte).lower())
    if chr(byte) in string.ascii_letters
    else _NEWLINE
    # Text files end lines with any of the three; Python reads them alike.
    if byte in b"\r\n"
    else _SPACE
    for byte in range(256)
)


def clean_characters(text: str) -> str:
    r"""Return normalised text whose lines are joined by nothing.

    >>> clean_characters("The Time Machine, by\nH. G. Wells [1898]")
    'the time machine byh g wells'
    """
    return _clean(text, line_end=b"")


def clean_words(text: str) -> str:
    r"""Return normalised text whose words are all separated by one space.

    >>> clean_words("The Time Machine, by\nH. G. Wells [1898]")
    'the time machine by h g wells'
    """
    return _clean(text, line_end=b" ")


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


def _clean(text: str, *, line_end: bytes) -> str:
    """Keep letters, one space per run inside a line, ``line_end`` per run with one.

    In UTF-8 every byte of a character beyond ASCII is no letter, so runs of
    such bytes collapse just like runs of such characters.
    """
    encoded = text.encode("utf-8", "surrogatepass").translate(_TABLE)
    codes = np.frombuffer(encoded, np.uint8)
    is_letter = codes > _SPACE
    run_starts, run_stops = _inner_gaps(is_letter)
    newlines = np.flatnonzero(codes == _NEWLINE)
    has_newline = np.searchsorted(newlines, run_starts) < np.searchsorted(newlines, run_stops)
    keep = is_letter
    keep[run_starts if line_end else run_starts[~has_newline]] = True
    kept = codes[keep]
    if line_end:
        # The first byte of a run may be a newline; what it stands for is a space.
        kept = np.where(kept == _NEWLINE, np.uint8(line_end[0]), kept)
    return kept.tobytes().decode("ascii")


def _inner_gaps(
    is_letter: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return starts and stops of the half-open runs of False between Trues."""
    edges = np.flatnonzero(is_letter[1:] != is_letter[:-1]) + 1
    if edges.size and not is_letter[0]:
        edges = edges[1:]
    if edges.size % 2:
        edges = edges[:-1]
    return edges[::2], edges[1::2]
