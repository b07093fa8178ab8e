"""One-dimensional arrays of token ids, in memory or mapped from a file."""

import mmap
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from tokenloom.errors import CorpusError

Ids = npt.NDArray[np.integer[Any]]

_CHUNK = 1 << 24


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
    searched for ids that are out of range, since that would read all of it.

    Parameters
    ----------
    values : array_like of int, shape (num_tokens,)
    num_ids : int, optional
        Ids must be in [0, num_ids).

    Raises
    ------
    CorpusError
        The values are not one-dimensional, no integers, or out of range.
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
    largest = _check_range(array, num_ids)
    # What fits no int64, or another machine's order of bytes, would be widened wrongly.
    if array.dtype.kind == "i" or array.dtype.itemsize == 8 or not array.dtype.isnative:
        return array.astype(narrow_dtype(largest + 1))
    return array


def is_memory_map(array: npt.NDArray[Any]) -> bool:
    """Return whether an array lies in a file; a copy of such an array does not."""
    return isinstance(array, np.memmap) and array.filename is not None


def advise(tokens: Ids, *, is_random: bool) -> None:
    """Tell the system how a memory map is going to be read; see madvise(2).

    Where reads jump about, each would fetch as much as the disk's read-ahead,
    which may be megabytes. Does nothing for an array in memory, nor where the
    system takes no advice.

    Parameters
    ----------
    tokens : integer array, shape (num_tokens,)
    is_random : bool
        Whether the next reads jump about, or go on from one to the next.
    """
    if not (is_memory_map(tokens) and hasattr(mmap, "MADV_RANDOM")):
        return
    file_map = _root(tokens).base
    if isinstance(file_map, mmap.mmap):
        file_map.madvise(mmap.MADV_RANDOM if is_random else mmap.MADV_NORMAL)


def gather(tokens: Ids, starts: npt.NDArray[np.int64], *, width: int) -> Ids:
    """Return a copy of the windows that start at ``starts``.

    Parameters
    ----------
    tokens : integer array, shape (num_tokens,)
    starts : int64 array, any shape
        Each in [0, num_tokens).
    width : int
        Tokens per window. Where a window reaches past the end, the last token
        is repeated.

    Returns
    -------
    array of the dtype of ``tokens``, shape (*starts.shape, width)

    >>> gather(np.arange(9, dtype=np.uint8), np.array([0, 4]), width=3).tolist()
    [[0, 1, 2], [4, 5, 6]]
    """
    plain = np.asarray(tokens)
    last_start = len(plain) - width
    if last_start >= 0 and (starts.size == 0 or int(starts.max()) <= last_start):
        # Rows of a strided view are copied whole, without an index per token.
        windows: Ids = sliding_window_view(plain, width)[starts]
        return windows
    positions = starts[..., None] + np.arange(width)
    clipped: Ids = plain[np.minimum(positions, len(plain) - 1)]
    return clipped


def pack(tokens: Ids) -> tuple[Callable[..., Ids], tuple[Any, ...]]:
    """Return a function and arguments that make ``tokens`` again elsewhere.

    A memory map is packed as the name and range of its file, so that a worker
    process opens the file for itself; any other array is packed as it is.
    """
    if not (isinstance(tokens, np.memmap) and is_memory_map(tokens)):
        return np.asarray, (np.asarray(tokens),)
    if not tokens.flags.c_contiguous or tokens.mode == "c":
        # Every second token, or changes that are in memory only: no range of the file.
        return np.asarray, (np.ascontiguousarray(tokens),)
    root = _root(tokens)
    here = tokens.__array_interface__["data"][0]
    there = root.__array_interface__["data"][0]
    offset = root.offset + here - there
    return _open_map, (root.filename, tokens.dtype.str, offset, len(tokens))


def _root(tokens: Ids) -> "np.memmap[Any, Any]":
    """Return the memory map that a slice of it was taken from."""
    root: Any = tokens
    while isinstance(root.base, np.memmap):
        root = root.base
    return cast("np.memmap[Any, Any]", root)


def _open_map(filename: str, dtype: str, offset: int, length: int) -> Ids:
    return np.memmap(filename, dtype=dtype, mode="r", offset=offset, shape=(length,))


def _check_range(array: Ids, num_ids: int | None) -> int:
    """Return the largest id, or -1 if there is none."""
    largest = -1
    for start in range(0, len(array), _CHUNK):
        chunk = array[start : start + _CHUNK]
        low, high = int(chunk.min()), int(chunk.max())
        largest = max(largest, high)
        wrong = low if low < 0 else high
        if low < 0 or (num_ids is not None and high >= num_ids):
            position = start + int(np.flatnonzero(chunk == wrong)[0])
            upper = "the vocabulary size" if num_ids is None else num_ids
            msg = f"token ids must be in [0, {upper}), got {wrong} at position {position}"
            raise CorpusError(msg)
    return largest
