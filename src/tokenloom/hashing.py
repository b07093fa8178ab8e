"""Hashes that identify files, token arrays and JSON values."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

_NUM_BLOCKS = 1024
_BLOCK_BYTES = 4096
# Up to so many bytes `hash_tokens` covers them all.
WHOLE_BYTES = _NUM_BLOCKS * _BLOCK_BYTES
_READ_BYTES = 1 << 20


class Sliceable(Protocol):
    """One-dimensional integers whose slices are arrays."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the integers."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice, /) -> npt.NDArray[np.integer[Any]]: ...


def hash_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def hash_json(value: Any) -> str:
    """Return ``"sha256:..."`` of a JSON-able value, whatever its key order.

    >>> hash_json({"a": 1, "b": 2}) == hash_json({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode("ascii")).hexdigest()


def hash_tokens(tokens: Sliceable) -> str:
    """Return ``"sha256:..."`` of a token array's type, length and content.

    Up to 4 MiB the hash covers every byte. A longer array is sampled: its
    first and last 4 KiB and 1,022 more blocks evenly spaced between, so the
    cost does not grow with the corpus. A change that falls between the
    sampled blocks, and keeps type and length, is not seen.

    Parameters
    ----------
    tokens : integer array, shape (num_tokens,)
        An array in memory or a memory map.

    >>> hash_tokens(np.arange(5, dtype=np.uint8))[:14]
    'sha256:ea712c9'
    """
    little_endian = tokens.dtype.newbyteorder("<")
    digest = hashlib.sha256(f"{little_endian.str}:{len(tokens)}:".encode("ascii"))
    block_len = _BLOCK_BYTES // tokens.dtype.itemsize
    if len(tokens) <= _NUM_BLOCKS * block_len:
        starts, block_len = [0], len(tokens)
    else:
        room = len(tokens) - block_len
        starts = [block * room // (_NUM_BLOCKS - 1) for block in range(_NUM_BLOCKS)]
    for start in starts:
        block = np.ascontiguousarray(tokens[start : start + block_len], little_endian)
        digest.update(block.tobytes())
    return "sha256:" + digest.hexdigest()
