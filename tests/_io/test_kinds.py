"""What files show in their first bytes."""

import bz2
import contextlib
import gzip
import io
import lzma
import pickle
import sqlite3
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard

from tokenloom._io.kinds import bare_suffix, recognise, recognise_container


def make_tar(form: int) -> bytes:
    """Return a tar with one file."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as archive:
        info = tarfile.TarInfo("a.txt")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    return made.getvalue()


def make_old_tar() -> bytes:
    """Return a tar as it was before it had a magic."""
    block = bytearray(make_tar(tarfile.USTAR_FORMAT))
    block[257:512] = bytes(255)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    return bytes(block)


def make_zip(names: list[str]) -> bytes:
    """Return a zip of files."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in names:
            archive.writestr(name, b"abc")
    return made.getvalue()


def make_npy() -> bytes:
    """Return an array of NumPy."""
    made = io.BytesIO()
    np.save(made, np.zeros(3))
    return made.getvalue()


def make_sqlite() -> bytes:
    """Return a database."""
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.execute("create table t (x text)")
        return database.serialize()


TEXT = "To be, or not to be: that is the question.\n" * 3


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: make_tar(tarfile.USTAR_FORMAT), "a tar archive"),
        (lambda: make_tar(tarfile.GNU_FORMAT), "a tar archive"),
        (lambda: make_tar(tarfile.PAX_FORMAT), "a tar archive"),
        (make_old_tar, "a tar archive"),
        (lambda: make_zip(["a.txt"]), "a zip archive"),
        (lambda: make_zip([]), "an empty zip archive"),
        (lambda: gzip.compress(b"abc", mtime=0), "compressed by gzip"),
        (lambda: bz2.compress(b"abc"), "compressed by bzip2"),
        (lambda: bz2.compress(b""), "compressed by bzip2"),
        (lambda: lzma.compress(b"abc"), "compressed by xz"),
        (lambda: lzma.compress(b"abc", lzma.FORMAT_ALONE), "compressed by lzma"),
        (lambda: zstandard.compress(b"abc"), "compressed by zstd"),
        (lambda: b"\x5a\x2a\x4d\x18\3\0\0\0abc", "compressed by zstd"),
        (lambda: b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive"),
        (lambda: b"\x1f\x9d\x90abc", "compressed by compress"),
        (lambda: b"Rar!\x1a\x07\0", "a RAR archive"),
        (lambda: b"%PDF-1.7\n%", "a PDF file"),
        (make_sqlite, "an SQLite database"),
        (lambda: b"PAR1\x15\x04\x15\x10", "a Parquet file"),
        (lambda: b"ARROW1\0\0\xff\xff\xff\xff", "an Arrow file"),
        (lambda: b"FEA1\0\0\0\0\0\0\0\0\1\0\0\0", "a Feather file of version 1"),
        (lambda: b"ORC\n\x06\x12\x04\x08\x03P\0", "an ORC file"),
        (lambda: b"Obj\x01\x04\x14avro.codec", "an Avro file"),
        (lambda: b"\x7fELF\2\1\1", "a program for Linux"),
        (lambda: b"MZ" + bytes(58) + b"\x80\0\0\0", "a program for Windows"),
        (make_npy, "an array of NumPy"),
        (lambda: b"MMIDIDX\0\0\1", "an index of Megatron"),
        (lambda: pickle.dumps({"a": 1}), "a pickle"),
        (lambda: pickle.dumps(["a"], 2), "a pickle"),
        (lambda: b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        (lambda: b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (lambda: TEXT.encode("utf-16"), "text in UTF-16"),
        (lambda: TEXT.encode("utf-32"), "text in UTF-32"),
        (lambda: "\ufeff".encode("utf-16-be") + TEXT.encode("utf-16-be"), "text in UTF-16"),
        (lambda: TEXT.encode("utf-16-le"), "text in UTF-16-LE"),
        (lambda: TEXT.encode("utf-16-be"), "text in UTF-16-BE"),
        (lambda: TEXT.encode("utf-32-le"), "text in UTF-32-LE"),
        (lambda: TEXT.encode("utf-32-be"), "text in UTF-32-BE"),
    ],
)
def test_other_kinds_are_recognised(make: Callable[[], bytes], name: str) -> None:
    """Each has a name and a cure."""
    kind = recognise(make()[:4096])
    assert kind is not None
    assert kind.name.startswith(name)
    assert kind.cure


def test_an_id_is_no_compression() -> None:
    """Two bytes are too few to refuse a file of tokens by: one of many files begins with them."""
    ids = np.array([0x9D1F, 0x4321], "<u2")
    assert recognise_container(ids.tobytes()) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        TEXT,
        "\ufeff" + TEXT,
        "PAR1 is the magic of Parquet.",
        "GGUF is a format.",
        "ORC\nis the magic of ORC, and FEA1 that of Feather.",
        "BZh is how bzip2 begins, MZ how programs of DOS do, PK how zip does.",
        "MZ" + "a" * 200,
        "a\0b\0c",
        "\0" * 600,
        "時間" * 2000,
        '{"text": "a"}\n',
        "ID3 tags",
        "7z archives",
        "\n" * 600 + "ustar",
    ],
)
def test_texts_are_texts(text: str) -> None:
    """Also those that begin with letters of a magic, or hold zeros."""
    assert recognise(text.encode()) is None


def test_sources_of_this_python_are_texts() -> None:
    """Whatever programs look like."""
    folder = Path(sys.modules["encodings"].__file__ or "").parent
    found = [recognise(path.read_bytes()[:4096]) for path in folder.glob("*.py")]
    assert found
    assert not any(found)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.txt", ".txt"), ("a.JSONL.GZ", ".jsonl"), ("a.tar.xz", ".tar"), ("a", ""), ("a.zst", "")],
)
def test_the_suffix_before_that_of_the_compression(name: str, expected: str) -> None:
    """Case does not matter."""
    assert expected == bare_suffix(name)
