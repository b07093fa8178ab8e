"""Arrays of token ids: their type, their range."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tokenloom.errors import CorpusError

Ids = npt.NDArray[np.integer[Any]]
Offsets = npt.NDArray[np.int64]

_CHUNK_SIZE = 1 << 24
# The first id that no int64 holds.
_TOO_LARGE = 1 << 63
# What a batch has as the target where there is nothing to learn.
_NOT_LEARNT = -100


class MaskLimit(int):
    """The number of values of a loss mask, in place of that of ids: messages say what is read."""

    __slots__ = ()


MASK_LIMIT = MaskLimit(2)


def narrow_dtype(num_ids: int) -> np.dtype[Any]:
    """Return the smallest unsigned dtype for ids in [0, num_ids).

    >>> narrow_dtype(256), narrow_dtype(257)
    (dtype('uint8'), dtype('uint16'))
    """
    return np.min_scalar_type(max(num_ids - 1, 0))


def as_ids(values: npt.ArrayLike, *, num_ids: int | None = None) -> Ids:
    """Return token ids as a one-dimensional integer array.

    A memory map and an array of unsigned integers are taken as they are.
    Anything else is copied to the smallest unsigned dtype. A memory map is not
    searched for ids that are out of range, since that would read all of it: see
    `tokenloom.store.memmap.check_reads`.

    Parameters
    ----------
    values : array_like of int, shape (num_tokens,)
    num_ids : int, optional
        Ids must be in [0, num_ids).

    Raises
    ------
    CorpusError
        The values are not one-dimensional, are no integers, or are out of range.
    """
    try:
        array = np.asanyarray(values)
    except ValueError as error:
        msg = f"token ids must be a one-dimensional array of integers: {error}"
        raise CorpusError(msg) from error
    if array.size == 0 and array.ndim == 1 and not isinstance(values, np.ndarray):
        array = array.astype(np.uint8)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        msg = (
            "token ids must be a one-dimensional array of integers, "
            f"got {array.dtype} of shape {array.shape}"
        )
        raise CorpusError(msg)
    if is_memory_map(array):
        return array
    largest = check_range(array, num_ids)
    # Wide unsigned ids and foreign byte orders would be widened wrongly.
    if array.dtype.kind == "i" or array.dtype.itemsize == 8 or not array.dtype.isnative:
        return array.astype(narrow_dtype(largest + 1))
    return array


def limit_ids(dtype: np.dtype[Any], num_ids: int | None) -> int | None:
    """Return the bound that ids of a file must be below, or None if every value is an id.

    Where the number of ids is not known, no id is negative, and none needs more
    than an int64.

    >>> limit_ids(np.dtype("int16"), None), limit_ids(np.dtype("uint16"), 65_536)
    (32768, None)
    """
    num_values = int(np.iinfo(dtype).max) + 1
    limit = min(num_values, _TOO_LARGE) if num_ids is None else num_ids
    return None if dtype.kind == "u" and limit >= num_values else limit


def is_memory_map(array: npt.NDArray[Any]) -> bool:
    """Return whether an array lies in a file; a copy of such an array does not."""
    return isinstance(array, np.memmap) and array.filename is not None


def check_range(array: Ids, num_ids: int | None, *, chunk_size: int = _CHUNK_SIZE) -> int:
    """Return the largest id, or -1 if there is none; ``chunk_size`` ids are read at a time.

    Raises
    ------
    CorpusError
        An id is negative, or not below ``num_ids``; without that, one does not fit into
        an int64, as which batches have them.
    """
    largest, limit = -1, _TOO_LARGE if num_ids is None else num_ids
    for start in range(0, len(array), chunk_size):
        chunk = array[start : start + chunk_size]
        low, high = int(chunk.min()), int(chunk.max())
        largest = max(largest, high)
        wrong = low if low < 0 else high
        if low < 0 or high >= limit:
            position = start + int(np.flatnonzero(chunk == wrong)[0])
            upper: object = num_ids
            if num_ids is None:
                upper = "the vocabulary size" if low < 0 else "2**63"
            expected = f"token ids must be in [0, {upper})"
            if isinstance(num_ids, MaskLimit):
                expected = "a loss mask must hold the integers 0 and 1"
            msg = f"{expected}, got {wrong} at position {position}"
            if wrong == _NOT_LEARNT:
                msg += ": it marks a target that is not learnt; decode ids[ids >= 0]"
            raise CorpusError(msg)
    return largest


def renumber(numbers: Ids, ids: Ids) -> Ids:
    """Return the id in the place of each number: what ``ids[numbers]`` is, but faster.

    Parameters
    ----------
    numbers : unsigned integer array, shape (num_tokens,)
        Each in [0, len(ids)).
    ids : unsigned integer array

    >>> renumber(np.array([1, 0, 1], np.uint8), np.array([7, 9], np.uint8))
    array([9, 7, 9], dtype=uint8)
    """
    if numbers.dtype != np.uint8 or ids.dtype != np.uint8:
        return ids[numbers]
    # A table of 256 bytes, of which the first are the ids.
    table = ids[:256].tobytes().ljust(256, b"\0")
    return np.frombuffer(numbers.tobytes().translate(table), np.uint8)
