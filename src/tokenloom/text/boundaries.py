"""Where a text's bytes may be cut so that its tokens stay the same.

Texts are UTF-8. Each function that cuts takes the first bytes of a longer text,
and returns how many of them come before the cut; 0 if there is no place for one.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from tokenloom.text.normalize import CLASSES, LINE_END, OTHER

_ASCII_SPACE = bytes(ord(" ") if chr(byte).isspace() and byte < 0x80 else 0 for byte in range(256))
# White space beyond ASCII, as str.split knows it.
_WIDE_SPACES = [chr(code).encode("utf-8") for code in range(0x80, 0x10000) if chr(code).isspace()]
_WIDE_SPACE = re.compile(b"|".join(map(re.escape, _WIDE_SPACES)))
# The white space that a text begins with, as str.strip knows it.
_BLANK = re.compile(rb"(?:[\t-\r\x1c-\x20]++|" + _WIDE_SPACE.pattern + rb")*+")


def cut_bytes(text: bytes) -> int:
    """Cut anywhere: at the end.

    >>> cut_bytes(b"abc")
    3
    """
    return len(text)


def cut_characters(text: bytes) -> int:
    r"""Cut after the last line end, else before the last character.

    >>> cut_characters(b"ab\ncd"), cut_characters("aéé".encode())
    (3, 3)
    """
    if place := text.rfind(b"\n") + 1:
        return place
    place = max(len(text) - 1, 0)
    # No character has more than four bytes; a longer sequence is no UTF-8.
    while place > max(len(text) - 4, 0) and text[place] & 0xC0 == 0x80:
        place -= 1
    # No character is longer, so the one that these bytes may belong to has ended.
    return len(text) if text[place:] and text[place] & 0xC0 == 0x80 else place


def cut_letters(text: bytes) -> int:
    r"""Cut after the last line end, else before the last character that is no letter a-z.

    >>> cut_letters(b"the time ma"), cut_letters(b"the\ntime ma"), cut_letters(b"machine")
    (8, 4, 0)
    """
    if place := text.rfind(b"\n") + 1:
        return place
    classes = text.translate(CLASSES)
    return max(classes.rfind(OTHER), classes.rfind(LINE_END), 0)


def cut_words(text: bytes) -> int:
    """Cut after the last white space.

    >>> cut_words(b"to be or n"), cut_words("時間　機".encode()), cut_words(b"be")
    (9, 9, 0)
    """
    if place := text.translate(_ASCII_SPACE).rfind(b" ") + 1:
        return place
    return max((match.end() for match in _WIDE_SPACE.finditer(text)), default=0)


def cut_nowhere(_: bytes) -> int:
    """Find no place."""
    return 0


class Boundary(NamedTuple):
    """Where a document may be cut so that its tokens stay the same.

    Attributes
    ----------
    cut : callable
        Finds the last place for a cut in the first bytes of a text.
    has_state : bool
        Whether what comes after a cut depends on what came before it; see
        `tokenloom.text.normalize.state_after`.
    """

    cut: Callable[[bytes], int]
    has_state: bool = False


BYTES = Boundary(cut_bytes)
CHARACTERS = Boundary(cut_characters, has_state=True)
LETTERS = Boundary(cut_letters)
WORDS = Boundary(cut_words)
# No cut within a document.
DOCUMENTS = Boundary(cut_nowhere)


def cut_lines(text: bytes) -> int:
    r"""Cut after the last line end.

    >>> cut_lines(b"a\nb\nc")
    4
    """
    return text.rfind(b"\n") + 1


def cut_paragraphs(text: bytes) -> int:
    r"""Cut after the last blank line.

    >>> cut_paragraphs(b"a\n \nb\n\nc"), cut_paragraphs(b"a\nb")
    (7, 0)
    """
    stop = text.rfind(b"\n")
    while stop >= 0:
        start = text.rfind(b"\n", 0, stop)
        if start >= 0 and not text[start:stop].strip():
            return stop + 1
        stop = start
    return 0


def cut_in_paragraph(text: bytes, cut: Callable[[bytes], int], *, is_inside: bool) -> int:
    r"""Cut before the last line end, or else within the line.

    A line end stays with the text after it, which decides whether the paragraph
    continues. The text before the cut ends in a line that is not blank.

    Parameters
    ----------
    text : bytes
    cut : callable
        One of the functions above.
    is_inside : bool
        Whether the text begins inside a line that is not blank.

    >>> cut_in_paragraph(b"ab\r\nc", cut_bytes, is_inside=False)
    2
    >>> cut_in_paragraph(b"\nab cd", cut_words, is_inside=True)
    4
    """
    place = len(text[: max(text.rfind(b"\n"), 0)].rstrip(b"\r\n"))
    if place and (is_inside or text[:place].strip()):
        return place
    place = len(text[: cut(text)].rstrip(b"\r\n"))
    line = text.rfind(b"\n", 0, place) + 1
    return place if text[line:place].strip() or (is_inside and not line) else 0


def is_blank(text: bytes, stop: int | None = None) -> bool:
    r"""Return whether a text, or the first bytes of one, holds nothing but white space.

    Of the first bytes the last character may be cut.

    >>> is_blank(b" \t\xe2\x80\xa8"), is_blank(b" \xe2\x80"), is_blank(b" \xe2\x80", 3)
    (True, False, True)
    """
    end = len(text) if stop is None else stop
    found = _BLANK.match(text, 0, end)
    start = found.end() if found else 0
    # A copy of the first bytes is enough.
    rest = text[start : min(start + 4, end)]
    return not rest or (stop is not None and any(one.startswith(rest) for one in _WIDE_SPACES))
