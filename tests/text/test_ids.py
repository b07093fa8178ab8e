"""Arrays of ids: their type, their range."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.errors import CorpusError
from tokenloom.text.ids import Ids, as_ids, check_range, is_memory_map, narrow_dtype


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
        ([0, -100], 9, r"\[0, 9\), got -100 at position 1: .* decode ids\[ids >= 0\]"),
        ([8, 9, 9], 9, r"\[0, 9\), got 9 at position 1"),
        (np.array([2**64 - 1], np.uint64), 9, r"\[0, 9\), got 18446744073709551615 at position 0"),
        ([0], 0, r"\[0, 0\), got 0 at position 0"),
        (np.array([1, 2**63], np.uint64), None, rf"\[0, 2\*\*63\), got {2**63} at position 1"),
    ],
)
def test_id_out_of_range(values: Any, num_ids: int | None, message: str) -> None:
    """The first id that is out of range is named with its position."""
    with pytest.raises(CorpusError, match=f"^token ids must be in {message}$"):
        as_ids(values, num_ids=num_ids)


def test_largest_id_is_allowed() -> None:
    """The range of ids is half-open; without a number of ids an int64 must hold them."""
    expected = [0, 8]
    assert expected == as_ids([0, 8], num_ids=9).tolist()
    assert [2**63 - 1] == as_ids(np.array([2**63 - 1], np.uint64)).tolist()


def test_position_counts_from_the_beginning() -> None:
    """However an array is cut for checking, positions are those of the whole."""
    with pytest.raises(CorpusError, match=r"got -1 at position 5$"):
        check_range(np.array([0, 1, 2, 3, 4, -1, -1]), None, chunk_size=2)


@given(st.lists(st.integers(-2, 9), min_size=1), st.integers(1, 4))
def test_range_is_checked_in_every_chunk(ids: list[int], chunk_size: int) -> None:
    """However an array is cut for checking, one bad id anywhere is found."""
    wrong = [id_ for id_ in ids if not 0 <= id_ < 8]
    try:
        check_range(np.array(ids), 8, chunk_size=chunk_size)
    except CorpusError:
        refused = True
    else:
        refused = False

    assert bool(wrong) == refused


@given(st.lists(st.sampled_from([0, 255, 256, 65_535, 65_536]), min_size=1), st.integers(1, 4))
def test_largest_id_of_any_chunk_is_found(ids: list[int], chunk_size: int) -> None:
    """However an array is cut for checking, and whatever type it then gets."""
    made = as_ids(np.array(ids))

    assert max(ids) == check_range(np.array(ids), None, chunk_size=chunk_size)
    assert (narrow_dtype(max(ids) + 1), ids) == (made.dtype, made.tolist())
