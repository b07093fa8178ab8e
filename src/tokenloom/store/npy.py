"""One-dimensional ``.npy`` files: read by their header, written piece by piece."""

import hashlib
import os
import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenloom._io.atomic import replacing
from tokenloom._wording import count, show
from tokenloom.errors import ArgumentError
from tokenloom.text.ids import check_range

# The number of bytes before the values.
HEADER_BYTES = 128
NPY_MAGIC = b"\x93NUMPY"
_MAGIC = NPY_MAGIC + b"\x01\x00"
# No header of plain values is longer.
_MAX_TEXT_BYTES = 10_000
_ITEM = r"""
    '(?:
        descr'\s*:\s*'(?P<dtype%d>[^'\n]{1,20})'
        | fortran_order'\s*:\s*(?P<order%d>True|False)
        | shape'\s*:\s*\((?P<shape%d>[0-9, ]*)\)
    )\s*"""
_ITEMS = r"\s*,\s*".join(_ITEM.replace("%d", str(number)) for number in range(3))
_HEADER = re.compile(rf"\{{\s*{_ITEMS},?\s*\}}[ ]*\n", re.VERBOSE)

Piece = npt.NDArray[np.integer[Any]]


class NpyHeader(NamedTuple):
    """The header of an ``.npy`` file.

    Attributes
    ----------
    dtype : str
        As NumPy writes it, such as "<u2".
    shape : tuple of int
    offset : int
        Where the values begin, in bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    offset: int


def read_npy_header(file: BinaryIO) -> NpyHeader:
    """Read the header of an ``.npy`` file whose values are plain, not records.

    NumPy's own reader hands the header to Python's parser, which raises errors
    of many kinds where it is damaged; this one takes only what NumPy writes.

    Raises
    ------
    ValueError
        It is no such header.

    >>> import io
    >>> read_npy_header(io.BytesIO(npy_header(np.dtype("<u2"), 5)))
    NpyHeader(dtype='<u2', shape=(5,), offset=128)
    """
    head = file.read(12)
    if (
        len(head) < 12
        or not head.startswith(NPY_MAGIC)
        or head[6:8]
        not in (
            b"\x01\x00",
            b"\x02\x00",
            b"\x03\x00",
        )
    ):
        msg = "it must begin with the magic and a version of NumPy's format"
        raise ValueError(msg)
    start = 10 if head[6] == 1 else 12
    num_text = int.from_bytes(head[8:start], "little")
    if num_text > _MAX_TEXT_BYTES:
        msg = f"its header must have at most {_MAX_TEXT_BYTES:,} bytes, got {num_text:,}"
        raise ValueError(msg)
    text = (head[start:] + file.read(max(num_text - 12 + start, 0)))[:num_text]
    match = _HEADER.fullmatch(text.decode("latin-1")) if len(text) == num_text else None
    found = {k[:5]: v for k, v in match.groupdict().items() if v is not None} if match else {}
    if len(found) < 3:
        msg = f"its header must have descr, fortran_order and shape, got {show(text[:100])}"
        raise ValueError(msg)
    lengths = [part.strip() for part in found["shape"].removesuffix(",").split(",")]
    if lengths == [""]:
        return NpyHeader(found["dtype"], (), start + num_text)
    if not all(re.fullmatch("[0-9]{1,18}", length) for length in lengths):
        msg = f"its shape must be lengths, got ({found['shape']})"
        raise ValueError(msg)
    return NpyHeader(found["dtype"], tuple(map(int, lengths)), start + num_text)


def npy_header(dtype: np.dtype[Any], length: int) -> bytes:
    """Return the header of a one-dimensional ``.npy`` file.

    It is what numpy.save writes, on every machine and with every release.

    >>> len(npy_header(np.dtype("<u2"), 10**12))
    128
    """
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': ({length},), }}"
    num_text = HEADER_BYTES - len(_MAGIC) - 2
    padded = text.ljust(num_text - 1) + "\n"
    return _MAGIC + struct.pack("<H", num_text) + padded.encode("ascii")


class NpyFile:
    """A one-dimensional ``.npy`` file that is being written; see `write_npy`.

    Attributes
    ----------
    num_bytes : int
        Of the whole file.
    num_written : int
        Values so far.
    digest : hash object
        SHA-256 of what was written so far.
    """

    def __init__(
        self, file: BinaryIO, dtype: np.dtype[Any], length: int, num_ids: int | None
    ) -> None:
        header = npy_header(dtype, length)
        self._file, self._dtype, self._num_ids = file, dtype, num_ids
        self.digest = hashlib.sha256(header)
        self.num_bytes, self.num_written = len(header) + dtype.itemsize * length, 0
        file.write(header)

    def write(self, piece: Piece) -> None:
        """Write the next values, which must fit the type of the file."""
        if self._num_ids is not None:
            check_range(piece, self._num_ids)
        values = np.ascontiguousarray(piece, self._dtype).view(np.uint8)
        self._file.write(values.data)
        self.digest.update(values.data)
        self.num_written += len(piece)


def write_npy(
    path: str | os.PathLike[str],
    pieces: Iterable[Piece],
    *,
    dtype: np.dtype[Any],
    length: int,
    num_ids: int | None = None,
) -> NpyFile:
    """Write a file of arrays, one after the other, and return what is known of it.

    Parameters
    ----------
    path : str or path
        The name that the file takes once it is whole.
    pieces : iterable of integer arrays
    dtype : dtype
        Of the file.
    length : int
        How many values there will be.
    num_ids : int, optional
        The values are ids, each in [0, num_ids).

    Raises
    ------
    ArgumentError
        There are more values, or fewer.
    CorpusError
        One of the values is no id.
    OSError
        The file cannot be written; nothing is left of it.
    """
    with replacing(path) as temporary:
        with temporary.open("wb") as opened:
            file = NpyFile(opened, dtype, length, num_ids)
            for piece in pieces:
                file.write(piece)
        if file.num_written != length:
            msg = f"{Path(path).name} must get {count(length, 'value')}, got {file.num_written:,}"
            raise ArgumentError(msg)
    return file
