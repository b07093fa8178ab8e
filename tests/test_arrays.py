"""Arrays of ids: their type, their range, their windows, their way to workers."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenloom import CorpusError, arrays
from tokenloom.arrays import Ids, advise, as_ids, gather, is_memory_map, narrow_dtype, pack


def _copy_over(tokens: Ids) -> Ids:
    """Return the array that another process would get."""
    make, arguments = pickle.loads(pickle.dumps(pack(tokens)))  # noqa: S301  our own bytes
    made: Ids = make(*arguments)
    return made


def _mapped(folder: Path, num_tokens: int = 100_000, dtype: str = "<u2") -> Ids:
    """Return a memory map of a file in which every token is its position."""
    path = folder / "tokens.npy"
    np.save(path, np.arange(num_tokens).astype(dtype))
    tokens: Ids = np.load(path, mmap_mode="r")
    return tokens


@pytest.mark.parametrize(
    ("num_ids", "expected"),
    [
        (0, "uint8"),
        (1, "uint8"),
        (256, "uint8"),
        (257, "uint16"),
        (65_536, "uint16"),
        (65_537, "uint32"),
        (2**32, "uint32"),
        (2**32 + 1, "uint64"),
    ],
)
def test_narrow_dtype(num_ids: int, expected: str) -> None:
    """The type is the smallest unsigned one that holds the largest id."""
    assert expected == narrow_dtype(num_ids).name


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3, 1, 2], "uint8"),
        ((3, 256), "uint16"),
        (range(3), "uint8"),
        ([], "uint8"),
        (np.array([3, 65_536]), "uint32"),
        (np.array([3, 1], np.int8), "uint8"),
        (np.array([3, 1], ">i4"), "uint8"),
        (np.array([], np.int64), "uint8"),
        (np.array([3, 1], np.uint32), "uint32"),
        (torch.tensor([3, 1]), "uint8"),
    ],
)
def test_type_of_ids(values: Any, expected: str) -> None:
    """Signed integers become the smallest unsigned type; unsigned ones stay."""
    assert expected == as_ids(values).dtype.name


@given(st.lists(st.integers(0, 2**40)))
def test_ids_keep_their_values(ids: list[int]) -> None:
    """No id is cut to fit a type."""
    assert ids == as_ids(ids).tolist()


def test_unsigned_array_is_not_copied() -> None:
    """An array that has the right type is taken as it is."""
    tokens = np.arange(9, dtype=np.uint16)

    assert tokens is as_ids(tokens)


def test_memory_map_is_not_copied(tmp_path: Path) -> None:
    """A memory map is taken as it is, whatever integers it holds."""
    tokens = _mapped(tmp_path, dtype="<i8")

    assert tokens is as_ids(tokens, num_ids=5)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda tokens: tokens, True),
        (lambda tokens: tokens[5:9], True),
        (lambda tokens: tokens[::2], True),
        (lambda tokens: tokens.copy(), False),
        (lambda tokens: tokens.astype(np.int64), False),
        (lambda tokens: tokens + 1, False),
        (np.array, False),
    ],
)
def test_is_memory_map(tmp_path: Path, change: Callable[[Ids], Ids], *, expected: bool) -> None:
    """Views of a memory map are one, copies are not."""
    assert expected == is_memory_map(change(_mapped(tmp_path)))


def test_copy_of_a_memory_map_is_checked(tmp_path: Path) -> None:
    """An array in memory is searched, also one that was made from a memory map."""
    tokens = _mapped(tmp_path).astype(np.int64)
    tokens[7] = -1

    with pytest.raises(CorpusError, match="got -1 at position 7"):
        as_ids(tokens)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (5, r"got int64 of shape \(\)"),
        ([[1, 2]], r"got int64 of shape \(1, 2\)"),
        (np.zeros((2, 0), np.uint8), r"got uint8 of shape \(2, 0\)"),
        ([1.0], r"got float64 of shape \(1,\)"),
        (np.array([]), r"got float64 of shape \(0,\)"),
        ([True], r"got bool of shape \(1,\)"),
        ("abc", r"got <U3 of shape \(\)"),
        (["a"], r"got <U1 of shape \(1,\)"),
        ([2**70], r"got object of shape \(1,\)"),
        (None, r"got object of shape \(\)"),
    ],
)
def test_what_is_no_ids(values: Any, message: str) -> None:
    """Type and shape of what is no one-dimensional integer array are named."""
    with pytest.raises(
        CorpusError, match=f"must be a one-dimensional array of integers, {message}"
    ):
        as_ids(values)


def test_lists_of_different_lengths() -> None:
    """Nested lists that are no array at all are refused like two-dimensional ones."""
    values: Any = [[1], [2, 3]]

    with pytest.raises(CorpusError, match="must be a one-dimensional array of integers"):
        as_ids(values)


@pytest.mark.parametrize(
    ("values", "num_ids", "message"),
    [
        ([0, -1], None, r"\[0, the vocabulary size\), got -1 at position 1"),
        ([0, -1], 9, r"\[0, 9\), got -1 at position 1"),
        ([8, 9, 9], 9, r"\[0, 9\), got 9 at position 1"),
        (np.array([2**64 - 1], np.uint64), 9, r"\[0, 9\), got 18446744073709551615 at position 0"),
        ([0], 0, r"\[0, 0\), got 0 at position 0"),
    ],
)
def test_id_out_of_range(values: Any, num_ids: int | None, message: str) -> None:
    """The first id that is out of range is named with its position."""
    with pytest.raises(CorpusError, match=f"^token ids must be in {message}$"):
        as_ids(values, num_ids=num_ids)


def test_largest_id_is_allowed() -> None:
    """The range of ids is half-open."""
    expected = [0, 8]
    assert expected == as_ids([0, 8], num_ids=9).tolist()


def test_position_counts_from_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """However an array is cut for checking, positions are those of the whole."""
    monkeypatch.setattr(arrays, "_CHUNK", 2)

    with pytest.raises(CorpusError, match=r"got -1 at position 5$"):
        as_ids(np.array([0, 1, 2, 3, 4, -1, -1]))


@given(st.lists(st.integers(-2, 9), min_size=1), st.integers(1, 4))
def test_range_is_checked_in_every_chunk(ids: list[int], chunk: int) -> None:
    """However an array is cut for checking, one bad id anywhere is found."""
    wrong = [id_ for id_ in ids if not 0 <= id_ < 8]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "_CHUNK", chunk)
        try:
            as_ids(np.array(ids), num_ids=8)
        except CorpusError:
            refused = True
        else:
            refused = False

    assert bool(wrong) == refused


@given(st.lists(st.sampled_from([0, 255, 256, 65_535, 65_536]), min_size=1), st.integers(1, 4))
def test_largest_id_of_any_chunk_decides_the_type(ids: list[int], chunk: int) -> None:
    """However an array is cut for checking, its type fits its largest id."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "_CHUNK", chunk)
        made = as_ids(np.array(ids))

    assert (narrow_dtype(max(ids) + 1), ids) == (made.dtype, made.tolist())


@st.composite
def gatherings(draw: st.DrawFn) -> tuple[int, Any, int]:
    """Array lengths, starts in one or two dimensions, and widths up to too wide."""
    num_tokens = draw(st.integers(1, 30))
    starts = st.lists(st.integers(0, num_tokens - 1), min_size=3, max_size=3)
    rows = draw(
        st.one_of(starts, st.lists(starts, max_size=4).map(lambda rows: rows or [[0, 0, 0]]))
    )
    return num_tokens, rows, draw(st.integers(1, 35))


@given(gatherings())
def test_gather_is_slicing(case: tuple[int, Any, int]) -> None:
    """Each window is the tokens from its start, the last one repeated past the end."""
    num_tokens, rows, width = case
    tokens = np.arange(100, 100 + num_tokens, dtype=np.uint8)
    starts = np.array(rows, np.int64)
    padded = [*tokens.tolist(), *[int(tokens[-1])] * width]
    windows = [padded[start : start + width] for start in starts.flat]

    assert (
        np.reshape(windows, (*starts.shape, width)).tolist()
        == gather(tokens, starts, width=width).tolist()
    )


@pytest.mark.parametrize("width", [3, 30])
def test_gather_keeps_the_type(width: int) -> None:
    """Windows have the type of the tokens."""
    windows = gather(np.arange(9, dtype=np.uint16), np.array([0, 4]), width=width)

    expected = "uint16"
    assert expected == windows.dtype.name


@pytest.mark.parametrize("width", [3, 30])
def test_gather_of_no_starts(width: int) -> None:
    """No starts give no windows of the right width."""
    windows = gather(np.arange(9, dtype=np.uint16), np.zeros((0,), np.int64), width=width)

    assert (0, width) == windows.shape


@pytest.mark.parametrize("width", [3, 30])
def test_gather_copies_out_of_a_memory_map(tmp_path: Path, width: int) -> None:
    """Windows neither are a memory map nor lie in one, so they may be written to."""
    tokens = _mapped(tmp_path, num_tokens=20)
    windows = gather(tokens, np.array([0, 4]), width=width)

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
