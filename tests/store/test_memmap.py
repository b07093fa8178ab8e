"""Ids in memory, in a file, in several: their windows, their way to workers."""

import copy
import gc
import os
import pickle
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenloom import StoreError
from tokenloom._io.digest import hash_tokens
from tokenloom.store import memmap, open_files
from tokenloom.store.memmap import (
    ConcatenatedMemmap,
    FileRange,
    Tokens,
    advise,
    check_reads,
    concatenate,
    confirm,
    gather_pieces,
    gather_windows,
    open_range,
    open_ranges,
    pack,
    read_whole,
    slice_tokens,
)
from tokenloom.store.open_files import OpenFiles
from tokenloom.text.ids import Ids


def _copy_over(tokens: Tokens) -> Any:
    """Return the array that another process would get."""
    make, arguments = pickle.loads(pickle.dumps(pack(tokens)))  # noqa: S301  our own bytes
    return make(*arguments)


def _mapped(folder: Path, num_tokens: int = 100_000, dtype: str = "<u2") -> Ids:
    """Return a memory map of a file in which every token is its position."""
    path = folder / "tokens.npy"
    np.save(path, np.arange(num_tokens).astype(dtype))
    tokens: Ids = np.load(path, mmap_mode="r")
    return tokens


@st.composite
def gatherings(draw: st.DrawFn) -> tuple[int, Any, int]:
    """Array lengths, starts in one or two dimensions, and widths up to too wide."""
    num_tokens = draw(st.integers(1, 30))
    starts = st.lists(st.integers(0, num_tokens - 1), min_size=3, max_size=3)
    rows = draw(
        st.one_of(starts, st.lists(starts, max_size=4).map(lambda rows: rows or [[0, 0, 0]]))
    )
    return num_tokens, rows, draw(st.integers(1, 35))


def cut(path: Path) -> None:
    """Take the last bytes off a file, and leave its times as they were."""
    status = path.stat()
    os.truncate(path, status.st_size - 6)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@given(gatherings(), st.sampled_from(["|u1", "<u2", ">u4", "<i8"]), st.sampled_from([1, 2, -1]))
def test_gather_is_slicing(case: tuple[int, Any, int], dtype: str, step: int) -> None:
    """Each window is the tokens from its start, the last one repeated past the end."""
    num_tokens, rows, width = case
    # Every second token, or backwards: an array that is not contiguous.
    tokens = np.arange(100, 100 + num_tokens).astype(dtype).repeat(abs(step))[::step]
    starts = np.array(rows, np.int64)
    padded = [*tokens.tolist(), *[int(tokens[-1])] * width]
    windows = [padded[start : start + width] for start in starts.flat]

    assert (
        np.reshape(windows, (*starts.shape, width)).tolist()
        == gather_windows(tokens, starts, width=width).tolist()
    )


@pytest.mark.parametrize("width", [3, 30])
def test_gather_keeps_the_type(width: int) -> None:
    """Windows have the type of the tokens."""
    windows = gather_windows(np.arange(9, dtype=np.uint16), np.array([0, 4]), width=width)

    expected = "uint16"
    assert expected == windows.dtype.name


@pytest.mark.parametrize("width", range(1, 13))
@pytest.mark.parametrize("step", [1, 2])
def test_gather_of_every_width(width: int, step: int) -> None:
    """Short windows, which are gathered id by id, are those of a view as long ones are."""
    tokens = np.arange(100, dtype=np.uint16)[::step]
    starts = np.array([[0, 7], [3, 50 - width]])

    expected = np.lib.stride_tricks.sliding_window_view(tokens, width)[starts]
    assert expected.tolist() == gather_windows(tokens, starts, width=width).tolist()


@pytest.mark.parametrize("width", [3, 30])
def test_gather_of_no_starts(width: int) -> None:
    """No starts give no windows of the right width."""
    windows = gather_windows(np.arange(9, dtype=np.uint16), np.zeros((0,), np.int64), width=width)

    assert (0, width) == windows.shape


@pytest.mark.parametrize("width", [3, 30])
def test_gather_copies_out_of_a_memory_map(tmp_path: Path, width: int) -> None:
    """Windows neither are a memory map nor lie in one, so they may be written to."""
    tokens = _mapped(tmp_path, num_tokens=20)
    windows = gather_windows(tokens, np.array([0, 4]), width=width)

    assert (np.ndarray, False) == (type(windows), np.shares_memory(tokens, windows))


def test_array_in_memory_is_packed_as_it_is() -> None:
    """An array without a file travels with its values."""
    tokens = np.arange(9, dtype=np.uint16)[2:5]

    assert tokens.tolist() == _copy_over(tokens).tolist()


def test_section_in_memory_is_packed_alone() -> None:
    """Of a large array only the section that is asked for travels."""
    section = np.arange(100_000, dtype=np.uint32)[5:8]

    assert len(pickle.dumps(pack(section))) < 1000


@pytest.mark.parametrize("dtype", ["|u1", "<u2", ">u2", "<i8"])
@pytest.mark.parametrize("section", [slice(None), slice(5, 90), slice(99_990, None), slice(7, 8)])
def test_memory_map_is_opened_again(tmp_path: Path, dtype: str, section: slice) -> None:
    """The other process maps the same type and range of the same file."""
    tokens = _mapped(tmp_path, dtype=dtype)[section]
    opened = _copy_over(tokens)

    assert (tokens.dtype, tokens.tolist()) == (opened.dtype, opened.tolist())


def test_opened_array_is_a_memory_map(tmp_path: Path) -> None:
    """The other process does not read the file into memory."""
    assert isinstance(_copy_over(_mapped(tmp_path)[10:]), np.memmap)


def test_opened_memory_map_is_read_only(tmp_path: Path) -> None:
    """The other process cannot change the file."""
    assert not _copy_over(_mapped(tmp_path)).flags.writeable


def test_memory_map_is_packed_without_its_data(tmp_path: Path) -> None:
    """The size of the message does not depend on the size of the file."""
    assert len(pickle.dumps(pack(_mapped(tmp_path)))) < 1000


def test_section_of_a_section_of_a_memory_map(tmp_path: Path) -> None:
    """Ranges of ranges add up."""
    tokens = _mapped(tmp_path)[1000:][500:600][7:9]

    expected = [1507, 1508]
    assert expected == _copy_over(tokens).tolist()


def test_section_of_an_opened_memory_map(tmp_path: Path) -> None:
    """What was packed once can be cut and packed again."""
    tokens = _copy_over(_mapped(tmp_path)[1000:])[500:502]

    expected = [1500, 1501]
    assert expected == _copy_over(tokens).tolist()


@pytest.mark.parametrize("offset", [0, 2, 4096, 5000, 70_000])
def test_raw_file_with_an_offset(tmp_path: Path, offset: int) -> None:
    """A map that does not begin with the file is opened at its own beginning."""
    path = tmp_path / "tokens.bin"
    np.arange(65_536, dtype=np.uint16).tofile(path)
    tokens: Ids = np.memmap(path, np.uint16, mode="r", offset=offset)

    assert tokens[3:9].tolist() == _copy_over(tokens[3:9]).tolist()


def test_memory_map_in_another_type(tmp_path: Path) -> None:
    """The bytes of a map, seen as another type, are opened as that type."""
    tokens = _mapped(tmp_path).view("|u1")[2001:2005]

    assert tokens.tolist() == _copy_over(tokens).tolist()


@pytest.mark.parametrize("section", [slice(None, None, 2), slice(None, None, -1)])
def test_part_of_a_memory_map_that_is_no_range(tmp_path: Path, section: slice) -> None:
    """A part with gaps, or backwards, travels with its values."""
    tokens = _mapped(tmp_path, num_tokens=10)[section]

    assert tokens.tolist() == _copy_over(tokens).tolist()


def test_copy_of_a_memory_map_is_packed_as_it_is(tmp_path: Path) -> None:
    """What was changed in memory is not read from the file again."""
    tokens = _mapped(tmp_path, num_tokens=10).copy()
    tokens[3] = 77

    assert tokens.tolist() == _copy_over(tokens).tolist()


def test_memory_map_of_a_relative_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that runs in another folder opens the same file."""
    np.arange(9, dtype=np.uint8).tofile(tmp_path / "tokens.bin")
    monkeypatch.chdir(tmp_path)
    tokens: Ids = np.memmap("tokens.bin", np.uint8, mode="r")
    packed = pickle.dumps(pack(tokens))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    make, arguments = pickle.loads(packed)  # noqa: S301  our own bytes

    assert tokens.tolist() == make(*arguments).tolist()


def flags_of(path: Path) -> set[str]:
    """Return what Linux notes of this process's map of a file; "rr" is random reads."""
    flags: set[str] = set()
    is_file = False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            is_file = line.endswith(str(path))
        elif is_file and line.startswith("VmFlags:"):
            flags |= set(line.split()[1:])
    return flags


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux tells in /proc")
def test_a_memory_map_is_read_as_advised(tmp_path: Path) -> None:
    """Slices of a map pass the advice on, and it can be taken back."""
    path = tmp_path / "ids.bin"
    np.zeros(100_000, np.uint16).tofile(path)
    tokens = np.memmap(path, dtype=np.uint16, mode="r")
    assert "rr" not in flags_of(path)
    advise(tokens[10:][5:], is_random=True)
    assert "rr" in flags_of(path)
    advise(tokens, is_random=False)
    assert "rr" not in flags_of(path)


def test_an_array_in_memory_needs_no_advice() -> None:
    """Nothing happens."""
    advise(np.arange(9), is_random=True)


@st.composite
def splittings(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Ids, and lengths of the files that they lie in."""
    lengths = draw(st.lists(st.integers(1, 7), min_size=1, max_size=6))
    ids = draw(st.lists(st.integers(0, 299), min_size=sum(lengths), max_size=sum(lengths)))
    return ids, lengths


def join(
    folder: Path, ids: list[int], lengths: list[int], num_ids: int | None = None
) -> ConcatenatedMemmap:
    """Write ids into files of these lengths, each after some other bytes."""
    parts, start = [], 0
    for number, length in enumerate(lengths):
        path = folder / f"{number}.bin"
        path.write_bytes(b"head" + np.array(ids[start : start + length], "<u2").tobytes())
        parts.append(FileRange(str(path), "<u2", 4, length, num_ids))
        start += length
    return ConcatenatedMemmap(parts)


@given(splittings(), st.data())
def test_joined_files_are_one_array(
    tmp_path_factory: pytest.TempPathFactory,
    splitting: tuple[list[int], list[int]],
    data: st.DataObject,
) -> None:
    """Length, items, slices, sections of sections and windows are those of an array."""
    ids, lengths = splitting
    array, tokens = np.array(ids, "<u2"), join(tmp_path_factory.mktemp("files"), ids, lengths)
    key = data.draw(st.slices(len(ids)))
    start = data.draw(st.integers(0, len(ids) - 1))
    stop = data.draw(st.integers(start + 1, len(ids)))
    starts = np.array(data.draw(st.lists(st.integers(0, stop - start - 1), max_size=9)), np.int64)
    width = data.draw(st.integers(1, 9))
    part = slice_tokens(slice_tokens(tokens, 0, stop), start, stop)

    assert ids == tokens.tolist() == list(tokens) == np.asarray(tokens).tolist()
    assert array[key].tolist() == tokens[key].tolist()
    assert array[key].dtype == tokens[key].dtype
    assert [ids[start]] * 2 == [int(tokens[start]), int(tokens[start - len(ids)])]
    assert ids[start:stop] == part[:].tolist()
    expected = gather_windows(array[start:stop], starts, width=width)
    assert expected.tolist() == gather_windows(part, starts, width=width).tolist()
    assert hash_tokens(array) == hash_tokens(tokens)
    assert ids == read_whole(_copy_over(tokens)).tolist()


def test_joined_files_look_like_an_array(tmp_path: Path) -> None:
    """Type, shape and size are at hand without reading anything."""
    tokens = join(tmp_path, list(range(9)), [4, 5])

    expected = ("uint16", 2, (9,), 18, 1, "ConcatenatedMemmap(9 of uint16 in 2 files)")
    assert expected == (
        tokens.dtype.name,
        tokens.itemsize,
        tokens.shape,
        tokens.nbytes,
        tokens.ndim,
        repr(tokens),
    )


def test_windows_of_files_of_different_types(tmp_path: Path) -> None:
    """They have the type that holds the ids of all files."""
    files = [np.array([1, 2, 3], np.uint8), np.array([700, 800, 900], "<u2")]
    tokens = ConcatenatedMemmap([FileRange(*_write(tmp_path, ids), 0, 3) for ids in files])
    windows = gather_windows(tokens, np.array([3, 1, 2, 0]), width=2)

    expected = ("uint16", [[700, 800], [2, 3], [3, 700], [1, 2]])
    assert expected == (windows.dtype.name, windows.tolist())


def _write(folder: Path, ids: Ids) -> tuple[str, str]:
    """Write ids to a file; return its name and their type."""
    path = folder / f"{ids.dtype}.bin"
    ids.tofile(path)
    return str(path), ids.dtype.str


def test_windows_of_joined_files_keep_their_shape(tmp_path: Path) -> None:
    """Starts of any shape give windows of that shape."""
    tokens = join(tmp_path, list(range(9)), [4, 5])

    expected = [[[0, 1], [3, 4]], [[4, 5], [8, 8]]]
    assert expected == gather_windows(tokens, np.array([[0, 3], [4, 8]]), width=2).tolist()


def test_an_index_past_the_end_of_joined_files(tmp_path: Path) -> None:
    """As of a list."""
    tokens = join(tmp_path, [1, 2], [1, 1])

    for index in (2, -3):
        with pytest.raises(IndexError):
            tokens[index]


def test_a_section_in_one_file_is_a_memory_map(tmp_path: Path) -> None:
    """Where nothing needs to be joined, nothing is in the way."""
    tokens = join(tmp_path, list(range(9)), [4, 5])

    assert isinstance(slice_tokens(tokens, 5, 8), np.memmap)
    assert isinstance(slice_tokens(tokens, 3, 5), ConcatenatedMemmap)


def test_files_are_mapped_when_they_are_read(tmp_path: Path) -> None:
    """Joined files are not opened before, and travel without being opened."""
    packed = pickle.dumps(pack(join(tmp_path, list(range(9)), [4, 5])))
    (tmp_path / "0.bin").unlink()
    make, arguments = pickle.loads(packed)  # noqa: S301  our own bytes
    tokens = make(*arguments)

    assert [5, 6] == tokens[5:7].tolist()
    with pytest.raises(StoreError, match=r"0.bin must have 4 values of uint16 from byte 4 on, but"):
        tokens[3:5]


def test_a_file_that_was_cut_is_an_error(tmp_path: Path) -> None:
    """A map past the end of a file would end the process when it is read."""
    tokens = join(tmp_path, list(range(9)), [4, 5])
    (tmp_path / "1.bin").write_bytes(b"head12345678")

    tokens.next_look = np.inf
    with pytest.raises(StoreError, match=r"1.bin must have 5 values of uint16 from byte 4 on, but"):
        gather_windows(tokens, np.array([5]), width=2)


def test_few_files_are_open_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store may have more files than a process may have open."""
    allow_open(monkeypatch, 3)
    tokens = join(tmp_path, list(range(40)), [2] * 20)

    assert list(range(40)) == tokens.tolist()
    assert len(tokens._maps) == 3


def allow_open(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let all corpora from now on keep a number of files open."""
    monkeypatch.setattr(memmap, "OPEN_FILES", OpenFiles())
    monkeypatch.setattr(open_files, "count_allowed", lambda: number)


def test_of_many_files_those_that_were_read_stay_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So windows of all files open few of them again, in whatever order they are read."""
    allow_open(monkeypatch, 15)
    tokens = join(tmp_path, list(range(40)), [2] * 20)
    opened = []

    def count_opened(part: FileRange) -> Ids:
        opened.append(part)
        return open_range(part)

    monkeypatch.setattr(memmap, "open_range", count_opened)
    for _ in range(3):
        windows = gather_windows(tokens, np.arange(0, 40, 2), width=2)
        assert list(range(40)) == windows.ravel().tolist()

    assert 20 + 5 + 5 == len(opened)


_KINDS = ("uint8", "uint16", "int16", ">u2", "uint32", "int32", "uint64", "int64", "memory")


@given(st.lists(st.sampled_from(_KINDS), min_size=1, max_size=5), st.data())
def test_parts_of_any_width_are_one_array(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[str], data: st.DataObject
) -> None:
    """Files and memory, narrow and wide, signed and not: windows are those of one array."""
    folder, arrays, ids = tmp_path_factory.mktemp("parts"), [], []
    for number, kind in enumerate(kinds):
        dtype = np.dtype("uint8" if kind == "memory" else kind)
        top = min(int(np.iinfo(dtype).max), (1 << 63) - 1)
        values = st.lists(st.integers(0, top), min_size=1, max_size=6)
        ids += (part := data.draw(values))
        array = np.array(part, dtype)
        if kind != "memory":
            array.tofile(folder / f"{number}")
            array = np.memmap(folder / f"{number}", dtype, "r")
        arrays.append(array)
    tokens = memmap.concatenate(arrays, num_ids=None)
    starts = np.array(data.draw(st.lists(st.integers(0, len(ids) - 1), max_size=6)), np.int64)
    width = data.draw(st.integers(1, 6))
    expected = [[ids[min(start + at, len(ids) - 1)] for at in range(width)] for start in starts]

    for same in (tokens, slice_tokens(tokens, 0, len(ids)), _copy_over(tokens)):
        assert ids == same[:].tolist()
        assert expected == gather_windows(same, starts, width=width).tolist()
    start = data.draw(st.integers(0, len(ids) - 1))
    assert ids[start:] == slice_tokens(tokens, start, len(ids)).tolist()


def test_wide_parts_are_checked_where_they_are_joined(tmp_path: Path) -> None:
    """An id that fits only into its own file's type, or is negative there, is found."""
    np.array([1, 1 << 63], "<u8").tofile(tmp_path / "a")
    np.array([1, -1], "<i2").tofile(tmp_path / "b")
    wide, signed = np.memmap(tmp_path / "a", "<u8", "r"), np.memmap(tmp_path / "b", "<i2", "r")
    for parts in ([wide, signed[:1]], [np.array([7]), signed]):
        tokens = memmap.concatenate(parts, num_ids=None)
        with pytest.raises(StoreError, match=r"must hold ids in \[0, \d+\), got -"):
            gather_windows(tokens, np.array([0, 1, 2]), width=1)


@pytest.mark.parametrize("lengths", [[9], [4, 5]])
def test_ids_that_are_too_large_are_found(tmp_path: Path, lengths: list[int]) -> None:
    """Windows and whole arrays are looked at, also those of sections and of copies."""
    whole = open_ranges(join(tmp_path, [0, 1, 2, 3, 4, 5, 6, 7, 8], lengths, num_ids=8).parts)
    for tokens in (whole, slice_tokens(whole, 2, 9), _copy_over(slice_tokens(whole, 2, 9))):
        gather_windows(tokens, np.array([0]), width=6)
        for width in (2, 3):
            with pytest.raises(StoreError, match=r"\d.bin.* must hold ids in \[0, 8\), got 8: "):
                gather_windows(tokens, np.array([len(tokens) - 2]), width=width)
        with pytest.raises(StoreError, match="got 8: "):
            read_whole(tokens)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux tells in /proc")
def test_joined_files_are_read_as_advised(tmp_path: Path) -> None:
    """Files that are mapped already, and those that are mapped later, get the advice."""
    tokens = join(tmp_path, list(range(9)), [4, 5])
    tokens[0]
    advise(tokens, is_random=True)
    tokens[8]
    assert "rr" in flags_of(tmp_path / "0.bin")
    assert "rr" in flags_of(tmp_path / "1.bin")
    advise(tokens, is_random=False)
    assert "rr" not in flags_of(tmp_path / "0.bin") | flags_of(tmp_path / "1.bin")


@pytest.mark.parametrize(
    "part", [slice(None), slice(2, 90_000), slice(3, None, 2)], ids=["whole", "cut", "every second"]
)
@pytest.mark.parametrize("mode", ["r", "c"])
def test_ids_of_a_memory_map_are_checked_where_they_are_read(
    tmp_path: Path, part: slice, mode: Any
) -> None:
    """Also in slices, as a whole, and in another process, which may get a copy."""
    _mapped(tmp_path)
    tokens = check_reads(np.load(tmp_path / "tokens.npy", mmap_mode=mode), num_ids=80_000 % 65_536)
    cut = tokens[part]
    assert [int(cut[0])] == gather_windows(cut, np.array([0]), width=1)[:, 0].tolist()
    place = np.array([len(cut) // 2])
    reads: list[Any] = [
        lambda: gather_windows(cut, place, width=2),
        lambda: read_whole(cut),
        lambda: gather_windows(_copy_over(cut), place, width=2),
    ]
    for read in reads:
        with pytest.raises(StoreError, match=r"tokens.npy must hold ids in \[0, 14464\), got"):
            read()


def test_no_id_of_a_memory_map_is_negative(tmp_path: Path) -> None:
    """Whatever the size of the vocabulary; and none is above an int64."""
    for dtype, value in (("<i4", -1), ("<u8", 1 << 63)):
        np.save(tmp_path / "x.npy", np.array([1, value, 2], dtype))
        tokens = check_reads(np.load(tmp_path / "x.npy", mmap_mode="r"), num_ids=None)
        assert [[1]] == gather_windows(tokens, np.array([0]), width=1).tolist()
        with pytest.raises(StoreError, match=f"got {value}: "):
            gather_windows(tokens, np.array([0]), width=3)
    plain = np.load(tmp_path / "x.npy", mmap_mode="r").view("<u2")
    assert [1, 0] == gather_windows(check_reads(plain, num_ids=None), np.array([0]), width=2)[
        0
    ].tolist()


def replace(path: Path) -> None:
    """Put another file of the same size, and of the same time, in the place of one."""
    status, other = path.stat(), path.with_name("other")
    other.write_bytes(bytes(status.st_size))
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


def write_to(path: Path) -> None:
    """Write to a file in its place."""
    with path.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"else")
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))


CHANGES: dict[str, Any] = {
    "file number was": replace,
    "number of bytes was": cut,
    "time of the last change was": write_to,
    "No such file": Path.unlink,
}
changes = pytest.mark.parametrize(("message", "change"), CHANGES.items(), ids=CHANGES)


def make_tokens(folder: Path, kind: str) -> tuple[Tokens, Path]:
    """Return tokens of one file, of a caller's map or of two files, and the last file."""
    if kind == "joined":
        return join(folder, list(range(9)), [4, 5]), folder / "1.bin"
    mapped = _mapped(folder, num_tokens=9)
    if kind == "adopted":
        return check_reads(mapped, num_ids=None), folder / "tokens.npy"
    return _copy_over(mapped), folder / "tokens.npy"


@changes
@pytest.mark.parametrize("kind", ["one", "adopted", "joined"])
def test_a_file_that_was_changed_is_not_read(
    kind: str, message: str, change: Any, tmp_path: Path
) -> None:
    """In this process, and in any that gets the tokens before or after it."""
    tokens, path = make_tokens(tmp_path, kind)
    packed = pickle.dumps(pack(tokens))
    make, arguments = pickle.loads(packed)  # noqa: S301  our own bytes
    elsewhere = make(*arguments)
    for each in (tokens, elsewhere):
        confirm(each)
        gather_windows(each, np.array([5]), width=2)
    change(path)
    for each in (tokens, elsewhere):
        for read in (confirm, read_whole, pack):
            with pytest.raises(StoreError, match=message):
                read(each)
        cast("Any", each).next_look = 0.0
        with pytest.raises(StoreError, match=message):
            gather_windows(each, np.array([5]), width=2)
    late, arguments = pickle.loads(packed)  # noqa: S301  our own bytes
    with pytest.raises(StoreError, match=path.name):
        gather_windows(late(*arguments), np.array([5]), width=2)


def test_the_look_at_a_file_is_taken_now_and_then(tmp_path: Path) -> None:
    """A batch takes about as long as a look; after a second the next one is due."""
    tokens, path = make_tokens(tmp_path, "one")
    before = time.monotonic()
    gather_windows(tokens, np.array([5]), width=2)
    assert before < cast("Any", tokens).next_look
    cast("Any", tokens).next_look = np.inf
    write_to(path)
    gather_windows(tokens, np.array([5]), width=2)
    cast("Any", tokens).next_look = before
    with pytest.raises(StoreError, match="time of the last change was"):
        gather_windows(tokens, np.array([5]), width=2)


@pytest.mark.parametrize("kind", ["one", "adopted", "joined"])
def test_a_read_right_after_a_look_takes_no_other(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An iteration begins with a look, and its first batch does not look at all files again."""
    tokens, path = make_tokens(tmp_path, kind)
    monkeypatch.setattr("tokenloom.store.memmap.time.monotonic", lambda: 5.0)
    gather_windows(tokens, np.array([5]), width=2)
    confirm(tokens)
    write_to(path)
    gather_windows(tokens, np.array([5]), width=2)
    monkeypatch.setattr("tokenloom.store.memmap.time.monotonic", lambda: 7.0)
    with pytest.raises(StoreError, match="time of the last change was"):
        gather_windows(tokens, np.array([5]), width=2)
    with pytest.raises(StoreError, match="time of the last change was"):
        gather_windows(tokens, np.array([5]), width=2)


def test_a_copy_and_a_file_that_moved_are_opened_anew(tmp_path: Path) -> None:
    """What counts is the file that was opened, not what another one was."""
    tokens, path = make_tokens(tmp_path, "one")
    moved = path.with_name("moved.npy")
    path.rename(moved)
    again: Ids = np.load(moved, mmap_mode="r")
    assert tokens.tolist() == check_reads(again, num_ids=None).tolist()
    confirm(check_reads(again, num_ids=None))


def test_a_map_that_its_owner_writes_to(tmp_path: Path) -> None:
    """What the caller changes is the caller's."""
    path = tmp_path / "tokens.bin"
    written: Any = np.memmap(path, np.uint16, mode="w+", shape=(9,))
    tokens = check_reads(written, num_ids=None)
    written[:] = 7
    written.flush()
    os.utime(path, ns=(1, 1))
    confirm(tokens)
    replace(path)
    with pytest.raises(StoreError, match="file number was"):
        confirm(tokens)


def test_a_file_without_a_name_is_not_looked_for(tmp_path: Path) -> None:
    """A map outlives its file's name, as temporary files have it."""
    mapped = _mapped(tmp_path, num_tokens=9)
    (tmp_path / "tokens.npy").unlink()
    tokens = check_reads(mapped, num_ids=None)
    confirm(tokens)
    assert [[5, 6]] == gather_windows(tokens, np.array([5]), width=2).tolist()


def test_another_machine_may_number_its_devices_otherwise(tmp_path: Path) -> None:
    """So a plain pickle leaves the number out; a process of this machine gets it."""
    _, (part,) = pack(make_tokens(tmp_path, "one")[0])
    assert (None, True) == (part.identity.device, part.identity.inode > 0)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody writes to it."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match="must be a regular file, is a named pipe"):
        open_range(FileRange(str(tmp_path / "pipe"), "<u2", 0, 4))


@given(data=st.data(), file_size=st.integers(1, 12))
def test_pieces_are_slices_one_after_the_other(data: st.DataObject, file_size: int) -> None:
    """They are the same of an array and of many."""
    ids = np.arange(1000, 1200, dtype=np.uint16)
    bounds = st.tuples(st.integers(0, 200), st.integers(0, 200)).map(sorted)
    ranges = np.array(data.draw(st.lists(bounds, max_size=6)), np.int64).reshape(-1, 2)
    expected = [token for start, stop in ranges.tolist() for token in ids[start:stop].tolist()]
    parts = [ids[start : start + file_size] for start in range(0, len(ids), file_size)]
    for tokens in (ids, ConcatenatedMemmap(parts)):
        got = gather_pieces(tokens, ranges[:, 0], ranges[:, 1] - ranges[:, 0])
        assert (expected, ids.dtype) == (got.tolist(), got.dtype)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 9])
def test_many_short_windows_are_slices(width: int) -> None:
    """As many as are copied in several pieces, and of an array with gaps."""
    ids = np.arange(20_000, dtype=np.uint16)
    starts = np.random.default_rng(0).integers(0, 9_000, (3, 3_000))
    expected = starts[..., None] + np.arange(width)
    for tokens, factor in ((ids, 1), (ids[::2], 2)):
        got = gather_windows(tokens, starts, width=width)
        assert got.dtype == ids.dtype
        np.testing.assert_array_equal(expected * factor, got)


def test_pieces_past_the_end_are_refused() -> None:
    """Offsets of another corpus do not read what happens to be there."""
    with pytest.raises(StoreError, match="documents must lie within the 9 tokens"):
        gather_pieces(np.arange(9), np.array([5]), np.array([5]))


@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=6),
    st.lists(st.sampled_from(["uint8", "uint16", "<u4"]), min_size=6, max_size=6),
    st.integers(1, 5),
    st.booleans(),
)
def test_windows_of_several_arrays_are_those_of_one(
    lengths: list[int], dtypes: list[str], width: int, is_alike: bool
) -> None:
    """Of one type or of several, wherever in memory the arrays lie."""
    whole = np.arange(sum(lengths)) % 251
    stops = np.cumsum(lengths)
    parts = [
        # A slice of a byte array may begin at an odd place.
        np.concatenate([[0], part])[1:].astype(dtypes[0] if is_alike else dtype)
        for part, dtype in zip(np.split(whole, stops[:-1]), dtypes, strict=False)
    ]
    starts = np.array([at for at in range(len(whole)) if at + width <= len(whole)])
    fitting = starts[starts + width <= stops[np.searchsorted(stops, starts, side="right")]]
    joined = concatenate(parts, num_ids=None)
    for chosen in (starts, fitting):
        got = gather_windows(joined, chosen[::-1], width=width)
        assert got.tolist() == [whole[at : at + width].tolist() for at in chosen[::-1].tolist()]


def test_windows_across_parts_leave_the_others_to_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several files of one type; and each file is opened and looked at once."""
    whole, opened = np.arange(40, dtype=np.uint16), list[str]()
    for number, part in enumerate(np.split(whole, 4)):
        part.tofile(tmp_path / f"{number}.bin")
    files = [FileRange(str(tmp_path / f"{number}.bin"), "<u2", 0, 10) for number in range(4)]
    joined = ConcatenatedMemmap(files)

    def note(part: FileRange) -> Any:
        opened.append(Path(part.filename).name)
        return open_range(part)

    monkeypatch.setattr("tokenloom.store.memmap.open_range", note)
    monkeypatch.delattr(ConcatenatedMemmap, "_gather_by_part")
    for starts in ([0, 8, 12], [28, 31, 0], [8, 23, 39]):
        got = gather_windows(joined, np.array(starts), width=3)
        rows = [[min(at, 39) for at in range(start, start + 3)] for start in starts]
        assert rows == got.tolist()
    assert ["0.bin", "1.bin", "3.bin", "2.bin"] == opened


@pytest.mark.parametrize(
    "copied",
    [lambda tokens: pickle.loads(pickle.dumps(tokens)), copy.deepcopy],  # noqa: S301  made here
)
def test_a_copy_of_many_parts_is_made_of_the_parts(
    copied: Callable[[ConcatenatedMemmap], ConcatenatedMemmap], tmp_path: Path
) -> None:
    """Never of the memory between them, which need not be there, nor of what files hold."""
    far = np.arange(1 << 20, dtype=np.uint32)
    np.save(tmp_path / "ids.npy", far)
    file = open_range(FileRange(str(tmp_path / "ids.npy"), "<u4", 128, len(far)))
    for parts in [far[:8], far[-8:]], [file, file]:
        tokens = concatenate(parts, num_ids=None)
        assert isinstance(tokens, ConcatenatedMemmap)
        expected = gather_windows(tokens, np.array([0, len(tokens) - 4]), width=4).tolist()
        assert tokens._spans
        assert len(pickle.dumps(tokens)) < 4_000
        again = copied(tokens)
        assert not again._spans
        assert expected == gather_windows(again, np.array([0, len(again) - 4]), width=4).tolist()


@pytest.fixture
def _alarm() -> Iterator[None]:
    """Let the alarm raise KeyboardInterrupt, as Ctrl-C does."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    # Python only prints what is raised in a callback of the garbage collector, and Hypothesis has
    # one.
    gc.disable()
    yield
    gc.enable()
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no such timer")
@pytest.mark.usefixtures("_alarm")
@pytest.mark.parametrize("num_parts", [1, 3])
def test_no_ctrl_c_is_lost_in_a_gather(num_parts: int) -> None:
    """NumPy forgets it while it reads some forms of a dtype, and an endless loop would go on."""
    tokens = concatenate([np.arange(4_000, dtype=np.uint16)] * num_parts, num_ids=None)
    starts = np.arange(60)
    for _ in range(100):
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012  it comes anywhere in the loop
            signal.setitimer(signal.ITIMER_REAL, 1e-4)
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                # Windows of many widths, so that nothing is kept from one call to the next.
                for width in range(8, 28):
                    gather_windows(tokens, starts, width=width)
