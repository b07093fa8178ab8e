"""Files as streams of bytes."""

import bz2
import gzip
import hashlib
import lzma
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from tokenloom._io.compressed import (
    Stream,
    Undecodable,
    check_text,
    find_encoding,
    read_status,
)
from tokenloom.errors import ArgumentError, CorpusError, UsageError

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
        num_bytes, digest = stream.finish()
        assert path.stat().st_size == num_bytes == stream.position
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
    with pytest.raises(CorpusError, match=r"cannot read 'a text' near byte"):
        Stream(path, name="a text").read(100)
    path.write_bytes(WAYS[suffix](CONTENT)[:-9])
    with pytest.raises(CorpusError, match=r"cannot read 'a text' near byte"):
        Stream(path, name="a text").read(1 << 30)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """With what the system says."""
    with pytest.raises(CorpusError, match=r"^cannot read 'a text': No such file"):
        Stream(tmp_path / "none", name="a text")


def test_a_zst_of_a_long_window(tmp_path: Path) -> None:
    """As large dumps have it, which zstd itself decompresses only with --long."""
    parameters = zstandard.ZstdCompressionParameters(window_log=28)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    content = compressor.compress(b"To be") + compressor.flush()
    with pytest.raises(zstandard.ZstdError, match="too much memory"):
        zstandard.ZstdDecompressor().decompressobj().decompress(content)
    path = tmp_path / "a.txt.zst"
    path.write_bytes(content)
    with Stream(path, name="a text") as file:
        assert file.read(100) == b"To be"


def test_the_package_for_zst_is_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra."""
    path = write(tmp_path, ".zst", b"abc")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(UsageError, match=r"python -m pip install 'tokenloom\[zstd\]', or"):
        Stream(path, name="text")


def test_the_status_is_the_files(tmp_path: Path) -> None:
    """An open file and its path have the same size and time."""
    path = write(tmp_path, "", b"abc")
    with Stream(path, name="text") as stream:
        assert (3, path.stat().st_mtime_ns) == stream.status() == read_status(path)


SKIPPABLE = b"\x5a\x2a\x4d\x18" + (70_000).to_bytes(4, "little") + bytes(70_000)


@pytest.mark.parametrize(
    ("suffix", "between"),
    [(".xz", bytes(8)), (".gz", b""), (".gz", bytes(5)), (".zst", SKIPPABLE), (".bz2", b"")],
)
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_padding_is_read_over(tmp_path: Path, suffix: str, between: bytes, size: int) -> None:
    """Between streams and after the last, as each format has it."""
    one, two = (WAYS[suffix](content) for content in (b"abc" * 99, b"def" * 99))
    path = tmp_path / f"x{suffix}"
    path.write_bytes(one + between + two + between)
    with Stream(path, name="x") as stream:
        pieces = list(iter(lambda: stream.read(size), b""))
    assert b"abc" * 99 + b"def" * 99 == b"".join(pieces)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_what_follows_a_stream_must_be_one(tmp_path: Path, suffix: str) -> None:
    """Nothing of a file is left out in silence; the message has the place."""
    path = write(tmp_path, suffix, b"abc")
    whole, content = path.read_bytes(), random.Random(0).randbytes(9_000)  # noqa: S311
    compressor = zstandard.ZstdCompressor(write_checksum=True)
    second = compressor.compress(content) if suffix == ".zst" else WAYS[suffix](content)
    padding = {".gz": 1, ".xz": 4}.get(suffix)
    wrong = [b"x", b"some other bytes", b"\0\0x", whole[:3], whole[:-1], b"\1" + whole[1:]]
    if padding is None:
        wrong.append(bytes(8))
    elif padding == 4:
        wrong += [bytes(3), bytes(7) + whole]
    for place in (0, 2, 60, 3_000, len(second) - 3):
        damaged = bytearray(second)
        damaged[place] ^= 0x55
        wrong.append(bytes(damaged))
    for rest in wrong:
        path.write_bytes(whole + rest)
        with pytest.raises(CorpusError, match=r"^cannot read 'a text' near byte \d"):
            Stream(path, name="a text").read(1 << 30)
    path.write_bytes(whole + b"some other bytes")
    message = f"what follows the stream that ends at byte {len(whole)} is no stream of"
    with pytest.raises(CorpusError, match=message):
        Stream(path, name="a text").read(1 << 30)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_an_empty_file_was_cut(tmp_path: Path, suffix: str) -> None:
    """A compressed file of no text is not empty."""
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"")
    with pytest.raises(CorpusError, match="it is empty, without any"):
        Stream(path, name="x").read(1)
    path.write_bytes(WAYS[suffix](b""))
    assert b"" == Stream(path, name="x").read(1)


def test_lzma_of_before_xz(tmp_path: Path) -> None:
    """It has one stream, and no checksum."""
    path = tmp_path / "x.xz"
    alone = lzma.compress(b"abc", lzma.FORMAT_ALONE)
    path.write_bytes(alone)
    assert b"abc" == Stream(path, name="x").read(9)
    for content in (alone + alone, alone[:-2]):
        path.write_bytes(content)
        with pytest.raises(CorpusError, match="cannot read 'x' near byte"):
            Stream(path, name="x").read(9)


TEXT = "To be \xe9 or \u6642\u9593, not\n" * 9_000


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-8-sig", "gb18030", "utf-7"]
)
@pytest.mark.parametrize("offset", [0, 11, 99_999])
def test_a_text_comes_as_utf_8(tmp_path: Path, encoding: str, offset: int) -> None:
    """From any place on, compressed or not."""
    for name, way in (("a.txt", bytes), ("a.txt.gz", gzip.compress)):
        (tmp_path / name).write_bytes(way(TEXT.encode(encoding)))
        with Stream(tmp_path / name, name="a", offset=offset, encoding=encoding) as stream:
            assert TEXT.encode()[offset:] == stream.read(1 << 30)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
@pytest.mark.parametrize("order", ["le", "be"])
def test_a_byte_order_mark_may_come_in_parts(
    tmp_path: Path, suffix: str, encoding: str, order: str
) -> None:
    """Each byte of it may lie in a compressed stream of its own."""
    content = f"\ufeff{TEXT}".encode(f"{encoding}-{order}")
    path = write(tmp_path, suffix, *(content[at : at + 1] for at in range(4)), content[4:])
    with Stream(path, name="a", encoding=encoding) as stream:
        assert TEXT.encode() == stream.read(1 << 30)


def test_bytes_that_are_not_in_the_encoding(tmp_path: Path) -> None:
    """They stop the reading at their offset in the file, or can be found again."""
    content = bytearray(TEXT.encode("utf-16"))
    content[200_000:200_002] = b"\x00\xd8"
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(CorpusError, match="byte 0x00 at offset 200,000 is not text in utf-16"):
        Stream(path, name="a", encoding="utf-16").read(1 << 30)
    ways: dict[Undecodable, bytes] = {"mark": b"\xff", "replace": "\ufffd".encode()}
    for undecodable, expected in ways.items():
        read = Stream(path, name="a", encoding="utf-16", undecodable=undecodable).read(1 << 30)
        assert 1 == read.count(expected)
    path.write_bytes(TEXT.encode("utf-16")[:-1])
    with pytest.raises(CorpusError, match="truncated data"):
        Stream(path, name="a", encoding="utf-16").read(1 << 30)


@pytest.mark.parametrize("encoding", ["none", "rot13", "base64", "", "utf-8\0"])
def test_what_is_no_encoding(encoding: str) -> None:
    """Python has codecs that are none of texts."""
    with pytest.raises(ArgumentError, match=r"^encoding must be a text encoding that Python knows"):
        find_encoding(encoding)


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (TEXT.encode("utf-16"), "utf-8", "text in UTF-16: name it: encoding='utf-16'"),
        (TEXT.encode("utf-16"), "iso8859-1", "text in UTF-16: name it"),
        (TEXT.encode("utf-32"), "utf-16", "text in UTF-32: name it"),
        (b"To be, or not to be", "utf-16", "text in UTF-8: leave encoding= out"),
        (("caf\xe9 \u6642 " * 900).encode(), "utf-16-be", "text in UTF-8: leave encoding= out"),
        (bz2.compress(b"abc"), "utf-16", "compressed by bzip2"),
    ],
)
def test_texts_in_another_encoding(
    tmp_path: Path, content: bytes, encoding: str, message: str
) -> None:
    """The cure is named, not a damage."""
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(CorpusError, match=f"^a must be text in {encoding}, but it is {message}"):
        check_text(tmp_path / "a.txt", name="a", encoding=encoding)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_nothing_waits_for_a_pipe(tmp_path: Path) -> None:
    """Only regular files are opened."""
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(CorpusError, match="must be a regular file, is a named pipe"):
        Stream(tmp_path / "a.txt", name="a")
