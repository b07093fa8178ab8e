"""The computed permutation."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.errors import ArgumentError
from tokenloom.permutation import MAX_SIZE, NUM_KEYS, permute


def make_keys(seed: int) -> npt.NDArray[np.uint64]:
    """Return keys from raw random words."""
    return np.random.SeedSequence(seed).generate_state(NUM_KEYS, np.uint64).astype(np.uint64)


def permute_slowly(index: int, *, size: int, keys: Sequence[int]) -> int:
    """Return where the permutation sends an index, in Python's own integers."""
    base = math.isqrt(size - 1) + 1
    bases = [base, -(-size // base)]
    value = index
    while True:
        digits = list(divmod(value, bases[1]))
        for number, key in enumerate(keys[: 16 if size < 1024 else 8]):
            side = number % 2
            mixed = digits[1 - side] ^ key
            mixed ^= mixed >> 33
            mixed = mixed * 0xFF51AFD7ED558CCD % 2**64
            mixed ^= mixed >> 33
            mixed = mixed * 0xC4CEB9FE1A85EC53 % 2**64
            digits[side] = (digits[side] + ((mixed >> 32) * bases[side] >> 32)) % bases[side]
        value = digits[0] * bases[1] + digits[1]
        if value < size:
            return value


@pytest.mark.parametrize("size", [*range(1, 130), 1023, 1024, 1025, 4096, 50_000])
def test_every_index_is_hit_once(size: int) -> None:
    """The permutation of a whole domain is a bijection."""
    permuted = permute(np.arange(size), size=size, keys=make_keys(size))
    assert np.arange(size).tolist() == np.sort(permuted).tolist()


@given(
    size=st.integers(1, MAX_SIZE),
    seed=st.integers(0, 2**32),
    fractions=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20),
)
def test_it_equals_plain_integer_arithmetic(size: int, seed: int, fractions: list[float]) -> None:
    """Vectorised words give what unbounded integers give, up to the largest size."""
    indices = [min(int(fraction * size), size - 1) for fraction in fractions]
    keys = make_keys(seed)
    expected = [permute_slowly(index, size=size, keys=keys.tolist()) for index in indices]
    assert expected == permute(np.array(indices), size=size, keys=keys).tolist()


@given(st.integers(1, MAX_SIZE), st.integers(0, 2**32))
def test_a_block_is_computed_alone(size: int, seed: int) -> None:
    """The image of an index does not depend on which others are asked for."""
    indices = np.array([0, size // 3, size - 1])
    together = permute(indices, size=size, keys=make_keys(seed))
    alone = [permute(indices[i : i + 1], size=size, keys=make_keys(seed))[0] for i in range(3)]
    assert alone == together.tolist()


def test_the_shape_is_kept() -> None:
    """Indices of any shape give an int64 array of that shape."""
    permuted = permute(np.arange(6).reshape(2, 3), size=6, keys=make_keys(0))
    assert ((2, 3), "int64") == (permuted.shape, permuted.dtype.name)


@pytest.mark.parametrize(
    ("seed", "size", "expected"),
    [
        ((0, 0), 10, [9, 8, 6, 5, 1, 3]),
        ((0, 0), 2000, [1090, 218, 103, 1996, 976, 1832]),
        ((1, 0), 2000, [1635, 1586, 1519, 582, 1067, 743]),
        (
            (2**40, 7),
            2**61 - 1,
            [
                2007520719991215716,
                789806550766987673,
                1314460146674185222,
                132921141308171281,
                278105920401831525,
                694208307413356878,
            ],
        ),
    ],
)
def test_golden_values(seed: tuple[int, int], size: int, expected: list[int]) -> None:
    """The order never changes silently: these values are pinned."""
    words = np.random.SeedSequence(seed).generate_state(1 + NUM_KEYS, np.uint64).astype(np.uint64)
    assert expected == permute(np.arange(6), size=size, keys=words[1:]).tolist()


@pytest.mark.parametrize("size", [5, 9, 64, 285])
def test_positions_are_uniform(size: int) -> None:
    """Over many keys every index goes to every place equally often.

    A chi-square statistic beyond 6 standard deviations has a probability below
    1e-8 if the places are uniform. The keys are fixed, so the test is too.
    """
    num_keys = 2000
    counts = np.zeros((size, size))
    for seed in range(num_keys):
        counts[np.arange(size), permute(np.arange(size), size=size, keys=make_keys(seed))] += 1
    expected = num_keys / size
    statistic = float(((counts - expected) ** 2 / expected).sum())
    freedom = (size - 1) ** 2
    assert abs(statistic - freedom) < 6 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("size", [7, 9, 25, 1024])
def test_steps_between_neighbours_are_uniform(size: int) -> None:
    """Over many keys neighbours are any distance apart, modulo the size, equally often."""
    num_keys = 2000
    counts = np.zeros(size)
    for seed in range(num_keys):
        permuted = permute(np.arange(min(size, 64)), size=size, keys=make_keys(seed))
        counts += np.bincount(np.diff(permuted) % size, minlength=size)
    expected = counts.sum() / (size - 1)
    statistic = float(((counts[1:] - expected) ** 2 / expected).sum())
    freedom = size - 2
    assert abs(statistic - freedom) < 6 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("size", [0, -1, MAX_SIZE + 1])
def test_a_size_out_of_range_is_refused(size: int) -> None:
    """The message names the range."""
    with pytest.raises(ArgumentError, match=r"size must be in \[1, 2\*\*62\], got"):
        permute(np.arange(1), size=size, keys=make_keys(0))


def test_a_wrong_number_of_keys_is_refused() -> None:
    """The message names the shape that was expected."""
    with pytest.raises(ArgumentError, match=r"keys must have shape \(16,\), got \(8,\)"):
        permute(np.arange(1), size=1, keys=make_keys(0)[:8])
