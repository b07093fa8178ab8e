"""NumPy's files, written piece by piece."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest

from tokenloom.errors import ArgumentError
from tokenloom.store.npy import NpyHeader, npy_header, read_npy_header, write_npy


@pytest.mark.parametrize("dtype", ["|u1", "<u2", "<u4", "<u8", "<i8"])
@pytest.mark.parametrize("length", [0, 1, 999, 70_000])
def test_a_file_is_what_numpy_writes(tmp_path: Path, dtype: str, length: int) -> None:
    """Any tool that reads .npy files reads these."""
    values = np.arange(length).astype(dtype)
    saved = io.BytesIO()
    np.save(saved, values)

    file = write_npy(tmp_path / "x.npy", [values], dtype=np.dtype(dtype), length=length)

    content = (tmp_path / "x.npy").read_bytes()
    assert saved.getvalue() == content
    assert hashlib.sha256(content).hexdigest() == file.digest.hexdigest()
    assert len(content) == file.num_bytes


@pytest.mark.parametrize("length", [2**62, 10**12, 1])
def test_the_header_always_has_the_same_size(length: int) -> None:
    """Values begin at byte 128, whatever their number."""
    expected = 128
    assert expected == len(npy_header(np.dtype("<u8"), length))


def test_pieces_and_types_leave_no_trace(tmp_path: Path) -> None:
    """The file depends on the values alone, also where pieces are empty or have other types."""
    pieces = [np.array([1, 2]), np.array([], np.uint8), np.array([300, 4], ">u4")[:1]]
    write_npy(tmp_path / "a.npy", pieces, dtype=np.dtype("<u2"), length=3)

    expected = ("<u2", [1, 2, 300])
    read = np.load(tmp_path / "a.npy")
    assert expected == (read.dtype.str, read.tolist())


@pytest.mark.parametrize("length", [1, 3])
def test_another_number_of_values_leaves_no_file(tmp_path: Path, length: int) -> None:
    """A header that would lie is refused, and nothing is left."""
    with pytest.raises(ArgumentError, match=rf"^x.npy must get {length} values?, got 2$"):
        write_npy(tmp_path / "x.npy", [np.arange(2)], dtype=np.dtype("<u2"), length=length)

    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(5,), (0,), (2, 3), ()])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("dtype", ["<u2", "<f8", ">i4"])
def test_a_header_of_numpys_is_read(
    shape: tuple[int, ...], version: tuple[int, int], dtype: str
) -> None:
    """In every version of the format."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.zeros(shape, dtype), version=version)
    offset = file.getvalue().index(b"\n") + 1
    file.seek(0)
    assert NpyHeader(dtype, shape, offset) == read_npy_header(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must begin with the magic and a version"),
        (b"\x93NUMPY\4\0" + bytes(120), "must begin with the magic and a version"),
        (b"\x93NUMPY\2\0\xff\xff\xff\x7f{}", "at most 10,000 bytes, got 2,147,483,647"),
        (b"\x93NUMPY\1\0\x76\0{'descr': '<u2'", "must have descr, fortran_order and shape"),
        (npy_header(np.dtype("<u2"), 5).replace(b"order", b"ordes"), "must have descr"),
        (npy_header(np.dtype("<u2"), 5).replace(b"(5,),", b"(5 5)"), "its shape must be lengths"),
        (
            npy_header(np.dtype("<u2"), 5).replace(
                b"(5,), }" + b" " * 20, b"(" + b"9" * 20 + b",), } "
            ),
            "its shape must be lengths",
        ),
    ],
)
def test_another_header_is_refused(content: bytes, message: str) -> None:
    """By one kind of error, whatever Python's parser would make of it."""
    with pytest.raises(ValueError, match=message):
        read_npy_header(io.BytesIO(content))
