"""Ways to lay documents into rows, compared."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.support.plan.packing import count_best_fit_bins, count_first_fit_bins, cut
from tokenloom.inspection.packings import compare_packings


@given(lengths=st.lists(st.integers(2, 30), min_size=1, max_size=60), seq_len=st.integers(1, 12))
def test_rows_are_counted_as_if_laid_one_by_one(lengths: list[int], seq_len: int) -> None:
    """The fills of all ways are those of the slow ones, and only joining cuts."""
    pieces = [piece for length in lengths for piece in cut(length - 1, seq_len)]
    alone, joined, first_fit, best_fit = compare_packings(np.array(lengths), seq_len=seq_len)
    numbers = (
        len(pieces),
        count_first_fit_bins(pieces, seq_len),
        count_best_fit_bins(pieces, seq_len),
    )
    expected = [sum(pieces) / (number * seq_len) for number in numbers]
    assert expected == [alone.fill, first_fit.fill, best_fit.fill]
    assert [0.0, 0.0, 0.0, 1.0] == [alone.cut, first_fit.cut, best_fit.cut, joined.fill]
    stops = np.cumsum(np.array(lengths) - 1)
    starts = stops - np.array(lengths) + 1
    rows = [
        {token // seq_len for token in range(start, stop)}
        for start, stop in zip(starts, stops, strict=True)
    ]
    is_cut = [
        len(each) > 1 and length - 1 <= seq_len for each, length in zip(rows, lengths, strict=True)
    ]
    assert sum(is_cut) / len(is_cut) == joined.cut
