"""Best-fit decreasing by the histogram of lengths."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.support.plan.packing import count_best_fit_bins
from tokenloom.plan.best_fit import pack


@given(capacity=st.integers(1, 40), data=st.data())
def test_as_many_bins_come_out_as_piece_by_piece(capacity: int, data: st.DataObject) -> None:
    """The bins are those of best-fit decreasing, and hold each piece once."""
    pieces = data.draw(st.lists(st.integers(1, capacity), max_size=120))
    patterns = pack(Counter(pieces), capacity=capacity)
    assert count_best_fit_bins(pieces, capacity) == patterns.num_bins
    of_run = np.repeat(patterns.counts, np.diff(patterns.firsts)) * patterns.repeats
    used = Counter(dict.fromkeys(patterns.lengths.tolist(), 0))
    for length, number in zip(patterns.lengths.tolist(), of_run.tolist(), strict=True):
        used[length] += number
    assert Counter(pieces) == used


@given(capacity=st.integers(1, 40), data=st.data())
def test_no_bin_is_fuller_than_it_may_be(capacity: int, data: st.DataObject) -> None:
    """What a pattern says of its fill is the sum of its runs."""
    pieces = data.draw(st.lists(st.integers(1, capacity), min_size=1, max_size=120))
    patterns = pack(Counter(pieces), capacity=capacity)
    fills = np.add.reduceat(patterns.lengths * patterns.repeats, patterns.firsts[:-1])
    assert fills.tolist() == patterns.fills.tolist()
    assert int(fills.max()) <= capacity


@given(capacity=st.integers(1, 40), data=st.data())
def test_each_piece_of_a_length_has_one_bin(capacity: int, data: st.DataObject) -> None:
    """The ranks that patterns take of a length follow each other without a gap."""
    pieces = data.draw(st.lists(st.integers(1, capacity), max_size=120))
    patterns = pack(Counter(pieces), capacity=capacity)
    of_run = np.repeat(patterns.counts, np.diff(patterns.firsts)) * patterns.repeats
    next_rank: Counter[int] = Counter()
    for length, base, number in zip(
        patterns.lengths.tolist(), patterns.bases.tolist(), of_run.tolist(), strict=True
    ):
        assert next_rank[length] == base
        next_rank[length] += number


def test_the_cost_does_not_grow_with_the_number_of_pieces() -> None:
    """A million times as many pieces have about as many patterns."""
    lengths = range(1, 200)
    few = pack(dict.fromkeys(lengths, 3), capacity=256)
    many = pack(dict.fromkeys(lengths, 3 * 10**6), capacity=256)
    assert len(many.counts) < 2 * len(few.counts) + 200
