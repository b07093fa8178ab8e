"""Files as streams of bytes."""

import bz2
import gzip
import hashlib
import lzma
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

import tokenloom as tl
from tokenloom.streams import Stream, bare_suffix, read_status

CONTENT = b"to be or not to be, " * 20_000
WAYS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}


def write(folder: Path, suffix: str, *contents: bytes) -> Path:
    """Write a file of members that are compressed one by one."""
    path = folder / f"text.txt{suffix}"
    path.write_bytes(b"".join(WAYS[suffix](content) for content in contents))
    return path


@pytest.mark.parametrize("suffix", WAYS)
@pytest.mark.parametrize("offset", [0, 7, 300_000, 400_000])
@pytest.mark.parametrize("hashes", [False, True])
def test_bytes_come_decompressed_from_any_place(
    tmp_path: Path, suffix: str, offset: int, hashes: bool
) -> None:
    """The hash and the position are those of the file as it lies there."""
    path = write(tmp_path, suffix, CONTENT)
    with Stream(path, name="text", offset=offset, hashes=hashes) as stream:
        assert CONTENT[offset : offset + 9] == stream.read(9)
        assert CONTENT[offset + 9 :] == stream.read(1 << 30)
        assert b"" == stream.read(5)
        digest = stream.finish()
        assert path.stat().st_size == stream.position
    assert (hashlib.sha256(path.read_bytes()).hexdigest() if hashes else None) == digest


@pytest.mark.parametrize("suffix", WAYS)
def test_members_are_read_one_behind_the_other(tmp_path: Path, suffix: str) -> None:
    """As the programs that decompress read them."""
    with Stream(write(tmp_path, suffix, b"abc", b"def"), name="text") as stream:
        assert b"abcdef" == stream.read(100)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_damaged_files_are_told(tmp_path: Path, suffix: str) -> None:
    """Garbage raises our own error, which names the file; so does a file that was cut."""
    path = write(tmp_path, suffix, CONTENT)
    path.write_bytes(b"no such format, in any of these")
    with pytest.raises(tl.CorpusError, match=r"cannot read 'a text' near byte"):
        Stream(path, name="a text").read(100)
    path.write_bytes(WAYS[suffix](CONTENT)[:-9])
    with pytest.raises(tl.CorpusError, match=r"cannot read 'a text' near byte"):
        Stream(path, name="a text").read(1 << 30)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """With what the system says."""
    with pytest.raises(tl.CorpusError, match=r"^cannot read 'a text': No such file"):
        Stream(tmp_path / "none", name="a text")


def test_the_package_for_zst_is_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra."""
    path = write(tmp_path, ".zst", b"abc")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(tl.UsageError, match=r"python -m pip install zstandard, or"):
        Stream(path, name="text")


def test_the_status_is_the_files(tmp_path: Path) -> None:
    """An open file and its path have the same size and time."""
    path = write(tmp_path, "", b"abc")
    with Stream(path, name="text") as stream:
        assert (3, path.stat().st_mtime_ns) == stream.status() == read_status(path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.txt", ".txt"), ("a.JSONL.GZ", ".jsonl"), ("a.tar.xz", ".tar"), ("a", ""), ("a.zst", "")],
)
def test_the_suffix_before_that_of_the_compression(name: str, expected: str) -> None:
    """Case does not matter."""
    assert expected == bare_suffix(name)
