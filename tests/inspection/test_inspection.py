"""What a batch says."""

from typing import Any

import pytest

import tokenloom as tl
from tokenloom.errors import ArgumentError
from tokenloom.inspection.batches import describe_batch, read_rows, tell_batch

CORPUS = tl.Corpus.from_text("the time machine by h g wells " * 3, name="book")


def make_windows(**options: Any) -> tl.SequentialWindows:
    """Return small windows."""
    return tl.SequentialWindows(CORPUS, **{"batch_size": 2, "seq_len": 8, **options})


def test_inputs_and_targets_are_shown_as_text() -> None:
    """Each row says which tokens it reads, and what they spell."""
    windows = make_windows()
    text = CORPUS.decode(CORPUS.tokens)
    start = int(windows.plan.starts(range(2, 3))[0, 1])
    expected = [
        "book: sequential order, epoch 0, batch 2 of 5, 2 rows x 8 tokens",
        f"row 1: tokens [{start}, {start + 9})",
        f"  inputs   {text[start : start + 8]!r}",
        f"  targets  {text[start + 1 : start + 9]!r}",
    ]
    assert expected == list(tell_batch(describe_batch(windows, index=2, rows=[1])))


def test_padding_is_not_shown() -> None:
    """A shorter window is shown as far as it counts."""
    windows = make_windows(tail="pad")
    (row,) = read_rows(windows, index=len(windows) - 1, rows=[1])
    assert 0 < len(row.inputs) < 8
    assert CORPUS.decode(CORPUS.tokens[row.start : row.stop - 1]) == row.inputs


def test_ids_are_shown_where_nothing_decodes_them() -> None:
    """Foreign token arrays are shown as numbers."""
    corpus = tl.Corpus.from_tokens(range(50))
    windows = tl.SequentialWindows(corpus, batch_size=1, seq_len=3, shard=tl.Shard())
    start = windows.plan.phase
    (row,) = read_rows(windows, index=0, rows=[0])
    assert f"{start} {start + 1} {start + 2}" == row.inputs


@pytest.mark.parametrize(
    ("index", "rows", "message"),
    [(5, [0], r"batch must be in \[0, 5\), got 5"), (0, [2], r"rows must be in \[0, 2\), got 2")],
)
def test_what_is_not_there_is_refused(index: int, rows: list[int], message: str) -> None:
    """The message names the range."""
    with pytest.raises(ArgumentError, match=message):
        describe_batch(make_windows(), index=index, rows=rows)
