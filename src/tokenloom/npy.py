"""One-dimensional ``.npy`` files, written piece by piece, whole or not at all."""

import hashlib
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenloom.errors import ArgumentError
from tokenloom.files import replacing

# So many bytes stand before the values.
HEADER_BYTES = 128
_MAGIC = b"\x93NUMPY\x01\x00"

Piece = npt.NDArray[np.integer[Any]]


def npy_header(dtype: np.dtype[Any], length: int) -> bytes:
    """Return what stands before the values of a one-dimensional ``.npy`` file.

    It is what numpy.save writes, on every machine and with every release.

    >>> len(npy_header(np.dtype("<u2"), 10**12))
    128
    """
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': ({length},), }}"
    num_text = HEADER_BYTES - len(_MAGIC) - 2
    padded = text.ljust(num_text - 1) + "\n"
    return _MAGIC + struct.pack("<H", num_text) + padded.encode("ascii")


def write_npy(
    path: str | os.PathLike[str], pieces: Iterable[Piece], *, dtype: np.dtype[Any], length: int
) -> str:
    """Write a file and return its SHA-256 as 64 hexadecimal digits.

    Parameters
    ----------
    path : str or path
    pieces : iterable of integer arrays
        The values, one array after the other.
    dtype : dtype
        Of the file; the values must fit it.
    length : int
        How many values there are in all pieces.

    Raises
    ------
    ArgumentError
        The pieces do not hold ``length`` values.
    OSError
        The file cannot be written; nothing is left of it.
    """
    header = npy_header(dtype, length)
    digest, num_written = hashlib.sha256(header), 0
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            file.write(header)
            for piece in pieces:
                values = np.ascontiguousarray(piece, dtype).view(np.uint8)
                file.write(values.data)
                digest.update(values.data)
                num_written += len(piece)
        if num_written != length:
            msg = f"{Path(path).name} must get {length:,} values, got {num_written:,}"
            raise ArgumentError(msg)
    return digest.hexdigest()
