"""NumPy's files, written piece by piece."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest

from tokenloom import ArgumentError
from tokenloom.npy import npy_header, write_npy


@pytest.mark.parametrize("dtype", ["|u1", "<u2", "<u4", "<u8", "<i8"])
@pytest.mark.parametrize("length", [0, 1, 999, 70_000])
def test_a_file_is_what_numpy_writes(tmp_path: Path, dtype: str, length: int) -> None:
    """Any tool that reads .npy files reads these."""
    values = np.arange(length).astype(dtype)
    saved = io.BytesIO()
    np.save(saved, values)

    sha256 = write_npy(tmp_path / "x.npy", [values], dtype=np.dtype(dtype), length=length)

    content = (tmp_path / "x.npy").read_bytes()
    assert saved.getvalue() == content
    assert hashlib.sha256(content).hexdigest() == sha256


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
    with pytest.raises(ArgumentError, match=rf"^x.npy must get {length} values, got 2$"):
        write_npy(tmp_path / "x.npy", [np.arange(2)], dtype=np.dtype("<u2"), length=length)

    assert [] == list(tmp_path.iterdir())
