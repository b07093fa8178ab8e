"""The computed permutation.

The keys of every test are fixed, so its outcome is too. A statistic that is not
likely has a probability below 1e-9 under uniform permutations, see
`tests.support.plan.uniformity`. There are fewer than 300 of them here: were the permutation
uniform, keys that fail any of them would have been chosen with a probability below
3e-7.
"""

import functools
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.plan import uniformity
from tests.support.plan.golden_orders import PERMUTATIONS, make_digest, read_table
from tests.support.plan.oracle import permute_slowly
from tests.support.plan.uniformity import (
    ChiSquare,
    Places,
    keys_of,
    pairs_apart,
    quotients,
    right_base,
)
from tokenloom.errors import ArgumentError
from tokenloom.plan import permutation
from tokenloom.plan.permutation import MAX_SIZE, Permutations, permute, permute_all

Permute = Callable[..., npt.NDArray[np.int64]]

# Seed and epoch of the permutation with some number.
FAMILIES: dict[str, Callable[[int], tuple[int, int]]] = {
    "epochs": lambda number: (0, number),
    "seeds": lambda number: (number, 0),
    "seeds of two words": lambda number: (2**40 + number, 7),
}
# Each size with as many keys; 1,024 is the smallest that gets only eight rounds.
WHOLE_DOMAINS = {9: 2000, 64: 1000, 285: 800, 1024: 600}
# In the last one a digit comes of 2 or of 3 of the 2**32 values of a hash: very unevenly.
LARGE_DOMAINS = (10**6 + 3, 10**9, 2**61 - 1, (3 << 29) ** 2)
LARGE_NUM_KEYS = 16


def permute_whole(family: str, size: int, *, num_keys: int, using: Permute = permute) -> Places:
    """Return the places of all indices under several keys, shape (num_keys, size)."""
    pairs = map(FAMILIES[family], range(num_keys))
    return np.array([using(np.arange(size), size=size, keys=keys_of(*pair)) for pair in pairs])


permute_whole_once = functools.cache(permute_whole)


def neighbours(places: Places, distance: int) -> tuple[Places, Places]:
    """Return the places of indices and of those ``distance`` after them.

    Pairs of one small permutation hang together, so there it is one pair per key.
    """
    num_keys, size = places.shape
    first = pairs_apart(size, distance)
    if size < 256:
        key = np.arange(num_keys)
        chosen = first[key % len(first)]
        return places[key, chosen], places[key, chosen + distance]
    return places[:, first].ravel(), places[:, first + distance].ravel()


WHOLE_STATISTICS: dict[str, Callable[[Places], ChiSquare]] = {
    "positions": uniformity.position_counts,
    "first": uniformity.first_places,
    "fixed points": uniformity.fixed_points,
    "inversions": uniformity.inversions,
    "serial correlation": uniformity.serial_correlation,
    "neighbours": lambda p: uniformity.joint_places(*neighbours(p, 1), p.shape[1]),
    "steps": lambda p: uniformity.steps(*neighbours(p, 1), p.shape[1]),
    "neighbours by digit": lambda p: uniformity.joint_places(
        *neighbours(p, right_base(p.shape[1])), p.shape[1]
    ),
}


def permute_large(
    family: str, size: int, *, distance: int, using: Permute = permute
) -> tuple[Places, Places]:
    """Return the places of half a million indices and of those ``distance`` after them.

    Shapes (16, 32768): as many keys of the family.
    """
    first = pairs_apart(size, distance)
    keys = [keys_of(*FAMILIES[family](number)) for number in range(LARGE_NUM_KEYS)]
    return (
        np.array([using(first, size=size, keys=key) for key in keys]),
        np.array([using(first + distance, size=size, keys=key) for key in keys]),
    )


def permute_column(family: str, size: int, *, using: Permute = permute) -> Places:
    """Return the places of indices that share their right digit, under 16 keys."""
    indices = np.arange(min(size // right_base(size), 1 << 16)) * right_base(size)
    keys = [keys_of(*FAMILIES[family](number)) for number in range(LARGE_NUM_KEYS)]
    return np.concatenate([using(indices, size=size, keys=key) for key in keys])


def large_statistics(family: str, size: int, *, using: Permute = permute) -> dict[str, ChiSquare]:
    """Return the statistics of a large domain, from a million indices."""
    first, second = permute_large(family, size, distance=1, using=using)
    by_digit = permute_large(family, size, distance=right_base(size), using=using)
    return {
        "neighbours": uniformity.joint_places(first.ravel(), second.ravel(), size),
        "steps": uniformity.steps(first.ravel(), second.ravel(), size),
        "neighbours by digit": uniformity.joint_places(
            by_digit[0].ravel(), by_digit[1].ravel(), size
        ),
        "next key": uniformity.independent_places(first[:-1].ravel(), first[1:].ravel(), size),
        "residues": uniformity.residues(permute_column(family, size, using=using), 12),
    }


def rotate(indices: Places, *, size: int, keys: npt.NDArray[np.uint64]) -> Places:
    """Move every index by the same distance: neighbours stay neighbours."""
    return (indices + int(keys[0]) % size) % size


def multiply(indices: Places, *, size: int, keys: npt.NDArray[np.uint64]) -> Places:
    """Multiply every index by the same number: 0 stays where it is."""
    factor = next(n for n in range(int(keys[0]) % size, 2 * size) if np.gcd(n, size) == 1)
    return indices * factor % size


@pytest.mark.parametrize("pair", [(0, 0), (1, 0), (0, 7), (2**40 + 5, 7)])
def test_every_index_is_hit_once(pair: tuple[int, int]) -> None:
    """The permutation of a whole domain is a bijection, for every size up to 600 and some more."""
    for size in [*range(1, 601), 1023, 1024, 1025, 4096, 4097, 50_000]:
        permuted = permute(np.arange(size), size=size, keys=keys_of(*pair))
        assert np.array_equal(np.arange(size), np.sort(permuted)), size


@pytest.mark.parametrize("name", WHOLE_STATISTICS)
@pytest.mark.parametrize("size", WHOLE_DOMAINS)
@pytest.mark.parametrize("family", FAMILIES)
def test_permutations_of_a_whole_domain_look_uniform(family: str, size: int, name: str) -> None:
    """Over many epochs, and over many seeds, nothing tells them from uniform ones."""
    places = permute_whole_once(family, size, num_keys=WHOLE_DOMAINS[size])
    result = WHOLE_STATISTICS[name](places)
    assert result.is_likely, result


@pytest.mark.parametrize("name", WHOLE_STATISTICS)
@pytest.mark.parametrize("size", WHOLE_DOMAINS)
@pytest.mark.parametrize("family", FAMILIES)
def test_epochs_and_seeds_are_independent(family: str, size: int, name: str) -> None:
    """What leads from one epoch's order to the next one's looks uniform; of seeds likewise."""
    places = permute_whole_once(family, size, num_keys=WHOLE_DOMAINS[size])
    result = WHOLE_STATISTICS[name](quotients(places))
    assert result.is_likely, result


@pytest.mark.parametrize("size", LARGE_DOMAINS)
@pytest.mark.parametrize("family", FAMILIES)
def test_permutations_of_a_large_domain_look_uniform(family: str, size: int) -> None:
    """A million indices show no pattern: not of neighbours, keys nor remainders."""
    unlikely = {
        name: result
        for name, result in large_statistics(family, size).items()
        if not result.is_likely
    }
    assert {} == unlikely


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_all_orders_of_a_few_come_equally_often(size: int) -> None:
    """Over 2,000 epochs every one of the size! permutations comes."""
    result = uniformity.orders(permute_whole("epochs", size, num_keys=2000))
    assert result.is_likely, result


@pytest.mark.parametrize("name", WHOLE_STATISTICS)
def test_statistics_reject_weak_permutations(name: str) -> None:
    """Each statistic fails for two rounds, a rotation or a multiplication."""
    weak = {
        "positions": multiply,
        "first": multiply,
        "fixed points": rotate,
        "serial correlation": rotate,
    }
    using = weak.get(name) or functools.partial(permute, num_rounds=2)
    places = permute_whole("epochs", 285, num_keys=800, using=using)
    assert not WHOLE_STATISTICS[name](places).is_likely


@pytest.mark.parametrize("size", [9, 285, 1024])
def test_four_rounds_are_too_few(size: int) -> None:
    """Indices that differ in one digit show it."""
    using = functools.partial(permute, num_rounds=4)
    places = permute_whole("epochs", size, num_keys=WHOLE_DOMAINS[size], using=using)
    assert not WHOLE_STATISTICS["neighbours by digit"](places).is_likely


def test_statistics_reject_keys_that_are_related() -> None:
    """Orders that are one order, rotated, are found not to be independent."""
    places = permute_whole("epochs", 285, num_keys=1)
    related = (places + np.arange(1000)[:, None]) % 285
    assert not uniformity.position_counts(quotients(related)).is_likely


def test_two_rounds_are_too_few_in_large_domains() -> None:
    """Indices that differ in one digit show it."""
    using = functools.partial(permute, num_rounds=2)
    results = {size: large_statistics("epochs", size, using=using) for size in LARGE_DOMAINS}
    assert not any(result["neighbours by digit"].is_likely for result in results.values())


def test_statistics_of_large_domains_reject_a_rotation() -> None:
    """Each of them does."""
    results = large_statistics("epochs", 10**9, using=rotate)
    assert not any(result.is_likely for result in results.values())


def test_remainders_reject_four_rounds_where_hash_bits_are_few() -> None:
    """A digit that has 2**32 * 3 / 8 values favours some remainders."""
    using = functools.partial(permute, num_rounds=4)
    assert not large_statistics("epochs", LARGE_DOMAINS[-1], using=using)["residues"].is_likely


def test_odd_squares_get_even_permutations_only() -> None:
    """The documentation admits it: both digits are rotated by odd bases, without walking."""
    places = permute_whole("epochs", 225, num_keys=50)
    earlier, later = np.triu_indices(225, 1)
    num_inversions = (places[:, earlier] > places[:, later]).sum(axis=1)
    assert [0] * 50 == (num_inversions % 2).tolist()


@pytest.fixture(name="num_enciphered")
def fixture_num_enciphered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which each call of the cipher adds how many values it gets."""
    sizes: list[int] = []

    def count(encipher: Any, values: Any, *more: Any, **options: Any) -> Any:
        sizes.append(values.size)
        return encipher(values, *more, **options)

    for name in ("_encipher", "_encipher_by_tables"):
        counting = functools.partial(count, getattr(permutation, name))
        monkeypatch.setattr(permutation, name, counting)
    return sizes


def test_a_whole_domain_costs_hardly_more_than_its_size(num_enciphered: list[int]) -> None:
    """No value outside is met twice, so all indices cost at most size + sqrt(size)."""
    for size in [*range(1, 200), 1024, 1025, 10_001, 250_001]:
        num_enciphered.clear()
        permute(np.arange(size), size=size, keys=keys_of(0, 0))
        assert size <= sum(num_enciphered) <= size + np.sqrt(size), size


@pytest.mark.parametrize("size", [10**6 + 1, 10**9 + 1, 10**12 + 1, MAX_SIZE - 1, MAX_SIZE])
def test_the_cost_of_an_index_does_not_grow_with_the_domain(
    size: int, num_enciphered: list[int]
) -> None:
    """A thousand indices anywhere are enciphered 1.005 times each, at most."""
    for start in (0, size // 2, size - 1000):
        num_enciphered.clear()
        permute(np.arange(start, start + 1000), size=size, keys=keys_of(0, 0))
        assert 1000 <= sum(num_enciphered) <= 1005


@pytest.mark.parametrize("size", [10_000, 10**9, MAX_SIZE])
def test_memory_does_not_grow_with_the_domain(size: int) -> None:
    """What is allocated at a time is less than six arrays as long as the request."""
    indices = np.arange(10_000)
    keys = keys_of(0, 0)
    tracemalloc.start()
    try:
        permute(indices, size=size, keys=keys)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert indices.nbytes < peak < 6 * indices.nbytes


@example(size=1023, seed=0, fractions=[0.5])
@example(size=1024, seed=0, fractions=[0.5])
@given(
    size=st.integers(1, MAX_SIZE),
    seed=st.integers(0, 2**32),
    fractions=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20),
)
def test_it_equals_plain_integer_arithmetic(size: int, seed: int, fractions: list[float]) -> None:
    """Vectorised words give what unbounded integers give, up to the largest size."""
    indices = [min(int(fraction * size), size - 1) for fraction in fractions]
    keys = keys_of(seed, 0)
    expected = [permute_slowly(index, size=size, keys=keys.tolist()) for index in indices]
    assert expected == permute(np.array(indices), size=size, keys=keys).tolist()


@pytest.mark.parametrize("size", [2, 255, 256, 1023, 1024, 4096, 16_384])
def test_all_indices_of_a_few_digits_equal_plain_integer_arithmetic(size: int) -> None:
    """Their hashes are looked up in tables, where many indices are asked for."""
    keys = keys_of(3, 1)
    indices = [*range(0, size, max(1, size // 512))]
    expected = [permute_slowly(index, size=size, keys=keys.tolist()) for index in indices]
    many = permute(np.resize(indices, 4096), size=size, keys=keys)
    assert np.resize(expected, 4096).tolist() == many.tolist()


@given(st.integers(1, MAX_SIZE), st.integers(0, 2**32))
def test_a_block_is_computed_alone(size: int, seed: int) -> None:
    """The image of an index does not depend on which others are asked for."""
    indices = np.array([0, size // 3, size - 1])
    together = permute(indices, size=size, keys=keys_of(seed, 0))
    alone = [permute(indices[i : i + 1], size=size, keys=keys_of(seed, 0))[0] for i in range(3)]
    assert alone == together.tolist()


def test_the_shape_is_kept() -> None:
    """Indices of any shape give an int64 array of that shape."""
    permuted = permute(np.arange(6).reshape(2, 3), size=6, keys=keys_of(0, 0))
    assert ((2, 3), "int64") == (permuted.shape, permuted.dtype.name)


@pytest.mark.parametrize(("heading", "numbers", "digest"), read_table(PERMUTATIONS))
def test_golden_permutations(heading: str, numbers: list[int], digest: str) -> None:
    """The order never changes silently; `tests.support.plan.golden_orders` says what to do."""
    size = int(heading.split()[1])
    seed, epoch, *expected = numbers
    keys, middle = keys_of(seed, epoch), size // 2
    places = permute(np.array([0, middle, size - 1]), size=size, keys=keys)
    stretch = permute(np.arange(middle, middle + 1000), size=size, keys=keys)
    assert (expected, digest) == (places.tolist(), make_digest(stretch))


@pytest.mark.parametrize("size", [0, -1, MAX_SIZE + 1])
def test_a_size_out_of_range_is_refused(size: int) -> None:
    """The message names the range."""
    with pytest.raises(ArgumentError, match=r"size must be in \[1, 2\*\*62\], got"):
        permute(np.arange(1), size=size, keys=keys_of(0, 0))


def test_a_wrong_number_of_keys_is_refused() -> None:
    """The message names the shape that was expected."""
    with pytest.raises(ArgumentError, match=r"keys must have shape \(16,\), got \(8,\)"):
        permute(np.arange(1), size=1, keys=keys_of(0, 0)[:8])


@given(
    sizes=st.lists(st.integers(1, MAX_SIZE) | st.integers(1, 2000), min_size=1, max_size=8),
    seed=st.integers(0, 2**32),
)
def test_several_permutations_are_each_the_one_of_its_size_and_keys(
    sizes: list[int], seed: int
) -> None:
    """Indices of several permutations go where `permute` sends them, one by one."""
    draw = np.random.default_rng(seed)
    keys = draw.integers(0, 2**64, (16, len(sizes)), dtype=np.uint64)
    which = draw.integers(0, len(sizes), 40)
    indices = np.array([draw.integers(0, sizes[each]) for each in which])
    expected = [
        int(permute(np.array([index]), size=sizes[each], keys=keys[:, each])[0])
        for index, each in zip(indices.tolist(), which.tolist(), strict=True)
    ]
    got = Permutations(np.array(sizes), keys).permute(indices, which)
    assert expected == got.tolist()


def test_sizes_next_to_squares_have_the_same_digits() -> None:
    """The integer root of each size is exact, also where a float is not."""
    roots = [1, 2, 31, 32, 2**15, 94906267, 2**30 + 1, 2**31 - 1]
    sizes = [n * n + step for n in roots for step in (-1, 0, 1, 2) if n * n + step >= 1]
    keys = np.arange(16 * len(sizes), dtype=np.uint64).reshape(16, -1)
    last = np.array(sizes) - 1
    expected = [
        int(permute(last[each : each + 1], size=size, keys=keys[:, each])[0])
        for each, size in enumerate(sizes)
    ]
    assert (
        expected
        == Permutations(np.array(sizes), keys).permute(last, np.arange(len(sizes))).tolist()
    )


@pytest.mark.parametrize("size", [1, 2, 50, 1023, 1024, 4000, 4096, 16_384, 16_385])
def test_whole_permutations_are_those_of_their_elements(size: int) -> None:
    """By tables, or too large for them; and what falls outside is walked on."""
    keys = np.stack([keys_of(seed, 0) for seed in range(3)], axis=1)
    whole = permute_all(size=size, keys=keys)
    for got, each in zip(whole, keys.T, strict=True):
        assert (got == permute(np.arange(size), size=size, keys=each)).all()
