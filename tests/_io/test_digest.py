"""Hashes see every change that they promise to see, and nothing else."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenloom._io.digest import hash_file, hash_json, hash_tokens, parse_digest
from tokenloom.errors import ArgumentError
from tokenloom.text.ids import Ids

FULL_BYTES = 4 << 20
SAMPLED_LEN = 5 << 20


def _changed(tokens: Ids, position: int) -> Ids:
    changed = tokens.copy()
    changed[position] ^= 1
    return changed


def _slow_hash(tokens: Ids, dtype: str) -> str:
    """Return the hash as the documentation describes it."""
    data = np.asarray(tokens, dtype).tobytes()
    if len(data) > FULL_BYTES:
        block_len = 4096 // tokens.itemsize
        room = len(tokens) - block_len
        starts = [number * room // 1023 * tokens.itemsize for number in range(1024)]
        data = b"".join(data[start : start + 4096] for start in starts)
    content = f"{dtype}:{len(tokens)}:".encode() + data
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.mark.parametrize("num_bytes", [0, 1, 1 << 20, (1 << 20) + 1])
def test_hash_file_is_the_sha256_of_its_bytes(tmp_path: Path, num_bytes: int) -> None:
    """A file that is longer than one read has the hash of all its bytes."""
    content = bytes(number % 251 for number in range(num_bytes))
    path = tmp_path / "file"
    path.write_bytes(content)

    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == hash_file(path)


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256"])
def test_hash_file_by_another_algorithm(tmp_path: Path, algorithm: str) -> None:
    """The hash begins with the name of its algorithm."""
    path = tmp_path / "file"
    path.write_bytes(b"text")

    assert f"{algorithm}:{hashlib.new(algorithm, b'text').hexdigest()}" == hash_file(
        path, algorithm
    )


@pytest.mark.parametrize(
    "digest",
    ["", "a" * 64, "sha256:", "sha256:" + "a" * 63, "md5:" + "g" * 32, "sha512:" + "a" * 128],
)
def test_digest_in_another_form(digest: str) -> None:
    """What is no digest is refused with the forms that are."""
    with pytest.raises(ArgumentError, match=r"^a digest must be 'md5:' and 32, .* got '"):
        parse_digest(digest)


def test_hash_file_of_a_missing_file(tmp_path: Path) -> None:
    """A file that is not there raises OSError."""
    with pytest.raises(FileNotFoundError, match="missing"):
        hash_file(tmp_path / "missing")


def test_hash_json_is_pinned() -> None:
    """The hash of a value is the same in every release."""
    content = b'{"a":[1,"\\u00e9"],"b":null}'

    expected = f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert expected == hash_json({"b": None, "a": [1, "é"]})


@given(st.permutations(list("abcdef")))
def test_hash_json_ignores_the_order_of_keys(keys: list[str]) -> None:
    """A mapping's order of insertion does not change its hash."""
    assert hash_json({key: ord(key) for key in "abcdef"}) == hash_json(
        {key: ord(key) for key in keys}
    )


def test_hash_json_sees_the_order_of_a_list() -> None:
    """Lists of the same values in another order differ."""
    assert hash_json([1, 2]) != hash_json([2, 1])


def test_hash_tokens_of_a_short_array_is_pinned() -> None:
    """The hash in saved positions is the same in every release."""
    expected = "sha256:6abc543f089e5b04f68ba804f54a1a02b87fe22a5153d6a2180c891870b76062"
    assert expected == hash_tokens(np.arange(300, dtype=np.uint16))


def test_hash_tokens_of_a_sampled_array_is_pinned() -> None:
    """The hash of a long array in saved positions is the same in every release."""
    expected = "sha256:ebf00cf2dbc9d856f83b48a1545f58341681200f486a7b42238492d09a667bf5"
    assert expected == hash_tokens(np.arange(2_500_000, dtype=np.uint32) % 70_001)


@pytest.mark.parametrize("dtype", ["|u1", "<u2", "<i8"])
@pytest.mark.parametrize("num_bytes", [0, 8, FULL_BYTES, FULL_BYTES + 8])
def test_hash_tokens_is_what_the_documentation_says(dtype: str, num_bytes: int) -> None:
    """Type, length, and all bytes or 1,024 evenly spaced blocks make the hash."""
    tokens = np.frombuffer(np.random.default_rng(0).bytes(num_bytes), dtype)

    assert _slow_hash(tokens, dtype) == hash_tokens(tokens)


@given(
    st.lists(st.integers(0, 255), min_size=1, max_size=50).flatmap(
        lambda ids: st.tuples(st.just(ids), st.integers(0, len(ids) - 1), st.integers(0, 255))
    )
)
def test_hash_tokens_of_a_short_array_sees_every_change(case: tuple[list[int], int, int]) -> None:
    """Arrays that differ in one token, and only those, have different hashes."""
    ids, position, value = case
    tokens = np.array(ids, np.uint8)
    changed = tokens.copy()
    changed[position] = value

    assert (ids[position] == value) == (hash_tokens(tokens) == hash_tokens(changed))


@pytest.mark.parametrize("position", [0, 5000, FULL_BYTES // 2 + 1, FULL_BYTES - 1])
def test_hash_tokens_covers_every_byte_up_to_4_mib(position: int) -> None:
    """An array of exactly 4 MiB is not sampled."""
    tokens = np.zeros(FULL_BYTES, np.uint8)

    assert hash_tokens(tokens) != hash_tokens(_changed(tokens, position))


@pytest.mark.parametrize("position", [0, 4095, SAMPLED_LEN - 4096, SAMPLED_LEN - 1])
def test_hash_tokens_covers_both_ends_of_a_long_array(position: int) -> None:
    """The first and the last 4 KiB of a sampled array are in the hash."""
    tokens = np.zeros(SAMPLED_LEN, np.uint8)

    assert hash_tokens(tokens) != hash_tokens(_changed(tokens, position))


def test_hash_tokens_does_not_see_between_the_blocks() -> None:
    """What the documentation says a sampled hash cannot see, it does not see."""
    tokens = np.zeros(SAMPLED_LEN, np.uint8)

    assert hash_tokens(tokens) == hash_tokens(_changed(tokens, 5000))


@pytest.mark.parametrize("num_tokens", [10, SAMPLED_LEN])
def test_hash_tokens_sees_the_length(num_tokens: int) -> None:
    """One more zero at the end of zeros is another array."""
    shorter = np.zeros(num_tokens, np.uint8)
    longer = np.zeros(num_tokens + 1, np.uint8)

    assert hash_tokens(shorter) != hash_tokens(longer)


def test_hash_tokens_sees_the_type() -> None:
    """The same ids in another width are another array."""
    assert hash_tokens(np.arange(9, dtype=np.uint8)) != hash_tokens(np.arange(9, dtype=np.uint16))


@pytest.mark.parametrize("num_tokens", [100, SAMPLED_LEN // 2])
def test_hash_tokens_ignores_the_byte_order(num_tokens: int) -> None:
    """The same ids written by a big-endian machine have the same hash."""
    tokens = np.arange(num_tokens, dtype=np.uint32).astype("<u2")

    assert hash_tokens(tokens) == hash_tokens(tokens.astype(">u2"))


@pytest.mark.parametrize("num_tokens", [100, SAMPLED_LEN])
def test_hash_tokens_of_a_memory_map(tmp_path: Path, num_tokens: int) -> None:
    """A file that is mapped has the hash of the same array in memory."""
    tokens = np.arange(num_tokens, dtype=np.uint32).astype(np.uint8)
    path = tmp_path / "tokens.npy"
    np.save(path, tokens)

    assert hash_tokens(tokens) == hash_tokens(np.load(path, mmap_mode="r"))


def test_hash_tokens_of_every_second_token() -> None:
    """An array that is not contiguous has the hash of its copy."""
    every_second = np.arange(20, dtype=np.uint16)[::2]

    assert hash_tokens(every_second.copy()) == hash_tokens(every_second)
