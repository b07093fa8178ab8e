r"""The words of a long text as few different ones, by pyarrow where that is installed.

Python looks each word up in a dictionary; pyarrow does the same for many words
at once, several times as fast. A word counts there with the white space up to
the next one, so that the text need not be copied: "to be  or\nto " has the
distinct entries "to ", "be  " and "or\n", and of these it is 0, 1, 2, 0. White
space of different lengths makes several entries of one word.
"""

import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenloom._optional import import_optional
from tokenloom.errors import UsageError
from tokenloom.text.normalize import cut_words, split_words

# Importing pyarrow takes as long as splitting some megabytes without it.
_WORTH_IMPORT = 3 << 20
# In fewer characters hardly a word comes twice.
_WORTH_CALL = 1 << 16
# Larger pieces have fewer entries in all, but no longer stay in a processor's cache.
_PIECE = 1 << 20
# Each byte as a space, where that is white space to `str.split`, or a letter.
_MARKS = bytes(ord(" ") if chr(byte).isspace() and byte < 0x80 else ord("a") for byte in range(256))
# White space beyond ASCII, which has two or three bytes.
_WIDE_SPACE = re.compile(r"[^\S\x00-\x7f]")


class Words(NamedTuple):
    """Words in a row.

    Attributes
    ----------
    entries : list of str
        The different words; a word may have several entries.
    places : int32 array, shape (num_words,), or None
        Which of the entries each word is; None where each entry is a word.
    """

    entries: list[str]
    places: npt.NDArray[np.int32] | None


def distinguish_words(text: str, *, normalize: bool, piece: int = _PIECE) -> Iterator[Words]:
    """Yield the words of a text in order, many at once.

    They are those of `split_words`, and entries are in order of first appearance.

    Parameters
    ----------
    text : str
    normalize : bool
    piece : int
        The fewest characters, or bytes, that pyarrow is given at once.

    >>> list(distinguish_words("To be, or ...", normalize=True))
    [Words(entries=['to', 'be', 'or'], places=None)]
    """
    arrow = _load_arrow(len(text))
    if arrow is None:
        for words in split_words(text, normalize=normalize):
            yield Words(words, None)
        return
    wide: set[bytes] = set()
    for content in cut_words(text, normalize=normalize, piece=piece):
        yield _distinguish(content + b" ", arrow, wide)


def _load_arrow(num_characters: int) -> Any:
    """Return pyarrow, or None where it is not installed or would take longer."""
    least = _WORTH_CALL if "pyarrow" in sys.modules else _WORTH_IMPORT
    if num_characters < least:
        return None
    try:
        return import_optional("pyarrow", purpose="splitting words", extra="parquet")
    except UsageError:
        return None


def _distinguish(content: bytes, arrow: Any, wide: set[bytes]) -> Words:
    """Return the words of a text that ends with a space.

    Parameters
    ----------
    content : bytes
    arrow : module
    wide : set of bytes
        White space of more than one byte; the function adds any other that it finds.
    """
    for space in wide:
        content = content.replace(space, b" ")
    is_word = np.frombuffer(content.translate(_MARKS), np.uint8) != ord(" ")
    is_start = is_word.copy()
    is_start[1:] &= ~is_word[:-1]
    starts = np.flatnonzero(is_start)
    buffers = [None, *map(arrow.py_buffer, (np.append(starts, len(content)), content))]
    encoded = arrow.Array.from_buffers(arrow.large_binary(), len(starts), buffers)
    encoded = encoded.dictionary_encode()
    # Each entry ends with white space, so that they are the words of their bytes.
    values = encoded.dictionary.buffers()[-1]
    found = (values.to_pybytes() if values else b"").decode("utf-8", "surrogatepass")
    if more := set() if found.isascii() else set(_WIDE_SPACE.findall(found)):
        wide.update(space.encode() for space in more)
        return _distinguish(content, arrow, wide)
    return Words(found.split(), encoded.indices.to_numpy())
