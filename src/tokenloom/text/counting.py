"""Characters and words as numbers, and how often each of them appears."""

import itertools
from collections import defaultdict
from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from tokenloom.text.ids import Ids, narrow_dtype
from tokenloom.text.normalize import split_words

_NUM_BYTES = 256
_NUM_CODE_POINTS = 0x110000
_CHUNK = 1 << 18


def number_characters(text: str) -> tuple[Ids, dict[str, int]]:
    """Return the characters of a text as numbers, and how often each appears.

    A number tells how many other characters came first before this one did.

    >>> number_characters("noon")
    (array([0, 1, 1, 0], dtype=uint8), {'n': 2, 'o': 2})
    """
    counts = count_characters(text)
    return look_up(text, counts), counts


def number_words(text: str, *, normalize: bool) -> tuple[list[Ids], dict[str, int]]:
    """Return the words of a text as numbers, in pieces, and how often each appears.

    A number tells how many other words came first before this one did.

    >>> number_words("to be or not to be", normalize=True)
    ([array([0, 1, 2, 3, 0, 1], dtype=uint32)], {'to': 2, 'be': 2, 'or': 1, 'not': 1})
    """
    numbers: dict[str, int] = defaultdict(itertools.count().__next__)
    pieces: list[Ids] = [
        np.fromiter(map(numbers.__getitem__, words), np.uint32, len(words))
        for words in split_words(text, normalize=normalize)
    ]
    counts = np.zeros(len(numbers), np.int64)
    for piece in pieces:
        counts += np.bincount(piece, minlength=len(counts))
    return pieces, dict(zip(numbers, counts.tolist(), strict=True))


def count_characters(text: str) -> dict[str, int]:
    """Return how often each character appears, in order of first appearance.

    >>> count_characters("noon")
    {'n': 2, 'o': 2}
    """
    codes = _code_points(text)
    size, length = (_NUM_BYTES, _CHUNK) if text.isascii() else (_NUM_CODE_POINTS, 16 * _CHUNK)
    counts = np.zeros(size, np.int64)
    order: list[int] = []
    for start in range(0, len(codes), length):
        chunk = codes[start : start + length]
        more = np.bincount(chunk, minlength=size)
        if ((counts == 0) & (more > 0)).any():
            values, first = np.unique(chunk[counts[chunk] == 0], return_index=True)
            order.extend(values[np.argsort(first)].tolist())
        counts += more
    return {chr(code): int(counts[code]) for code in order}


def look_up(text: str, tokens: Collection[str]) -> Ids:
    """Return which of some tokens each character is, from 0 on; 0 too where it is none.

    Returns
    -------
    array of the smallest unsigned dtype for so many tokens, shape (len(text),)

    >>> look_up("cab", ["?", "a", "b"])
    array([0, 1, 2], dtype=uint8)
    """
    size = _NUM_BYTES if text.isascii() else _NUM_CODE_POINTS
    table = np.zeros(size, narrow_dtype(len(tokens)))
    for id_, token in enumerate(tokens):
        if len(token) == 1 and ord(token) < size:
            table[ord(token)] = id_
    if table.nbytes == _NUM_BYTES:
        return np.frombuffer(text.encode("ascii").translate(table.tobytes()), np.uint8)
    return table[_code_points(text)]


def _code_points(text: str) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint32]:
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
