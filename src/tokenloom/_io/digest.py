"""Hashes that identify files, token arrays and JSON values."""

import functools
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tokenloom._wording import show
from tokenloom.errors import ArgumentError

NUM_BLOCKS = 1024
"""How many blocks `hash_tokens` looks at, by default."""
_BLOCK_BYTES = 4096
# `hash_tokens` covers every byte of arrays up to this size.
WHOLE_BYTES = NUM_BLOCKS * _BLOCK_BYTES
_NUM_DIGITS = {"md5": 32, "sha1": 40, "sha256": 64}


class Sliceable(Protocol):
    """One-dimensional integers whose slices are arrays."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the integers."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice, /) -> npt.NDArray[np.integer[Any]]: ...


def hash_file(path: str | os.PathLike[str], algorithm: str = "sha256") -> str:
    """Return ``"sha256:..."`` of a file's bytes, or of another algorithm.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    make = functools.partial(hashlib.new, algorithm, usedforsecurity=False)
    with Path(path).open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, make).hexdigest()}"


def parse_digest(digest: str) -> tuple[str, str]:
    """Return the algorithm and the lower-case digits of ``"algorithm:digits"``.

    Raises
    ------
    ArgumentError
        The algorithm is none of md5, sha1 and sha256, or the digits are not as
        many hexadecimal digits as it has.

    >>> parse_digest("md5:7C2AC02C03563AFCF9B574C7E56C153A")
    ('md5', '7c2ac02c03563afcf9b574c7e56c153a')
    """
    # A value that is no str has none of the forms.
    algorithm, _, digits = str(digest).partition(":")
    num_digits = _NUM_DIGITS.get(algorithm)
    if num_digits is None or not re.fullmatch(rf"[0-9a-fA-F]{{{num_digits}}}", digits):
        forms = ", ".join(f"'{name}:' and {count}" for name, count in _NUM_DIGITS.items())
        msg = f"a digest must be {forms} hexadecimal digits, got {show(digest)}"
        raise ArgumentError(msg)
    return algorithm, digits.lower()


def hash_json(value: Any) -> str:
    """Return ``"sha256:..."`` of a JSON-able value, whatever its key order.

    >>> hash_json({"a": 1, "b": 2}) == hash_json({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode("ascii")).hexdigest()


def hash_tokens(tokens: Sliceable, *, is_whole: bool = False, num_blocks: int = NUM_BLOCKS) -> str:
    """Return ``"sha256:..."`` of a token array's type, length and content.

    Up to 4 MiB the hash covers every byte. A longer array is sampled: its
    first and last 4 KiB and 1,022 more blocks evenly spaced between, so the
    cost does not grow with the corpus. A change that falls between the
    sampled blocks, and keeps type and length, is not seen.

    Parameters
    ----------
    tokens : integer array, shape (num_tokens,)
        An array in memory or a memory map.
    is_whole : bool
        Whether to cover every byte whatever the length, which takes its time.
    num_blocks : int
        How many blocks of 4 KiB of a longer array to look at, at least 2; of
        fewer, arrays that are longer than these are sampled.

    >>> hash_tokens(np.arange(5, dtype=np.uint8))[:14]
    'sha256:ea712c9'
    """
    if isinstance(tokens, np.memmap):
        # Slicing a np.memmap takes ten times as long as slicing a plain array.
        tokens = np.asarray(tokens)
    little_endian = tokens.dtype.newbyteorder("<")
    digest = hashlib.sha256(f"{little_endian.str}:{len(tokens)}:".encode("ascii"))
    block_len = _BLOCK_BYTES // tokens.dtype.itemsize
    if is_whole or len(tokens) <= num_blocks * block_len:
        starts, block_len = [0], len(tokens)
    else:
        room = len(tokens) - block_len
        starts = [block * room // (num_blocks - 1) for block in range(num_blocks)]
    for start in starts:
        block = np.ascontiguousarray(tokens[start : start + block_len], little_endian)
        digest.update(block.data)
    return "sha256:" + digest.hexdigest()
