"""Batches as text."""

from typing import Any

import pytest

import tokenloom as tl
from tokenloom.errors import ArgumentError
from tokenloom.inspection.batches import read_batch

BOOK = tl.Corpus.from_text("the time machine by h g wells " * 3, name="book")


def book_windows(**options: Any) -> tl.SequentialWindows:
    """Return small windows."""
    return tl.SequentialWindows(BOOK, **{"batch_size": 2, "seq_len": 8, **options})


def test_inputs_and_targets_are_shown_as_text() -> None:
    """Each row has the tokens that it reads, and their text."""
    windows = book_windows()
    text = BOOK.decode(BOOK.tokens)
    start = int(windows.plan.starts(range(2, 3))[0, 1])
    batch = read_batch(windows, index=2, rows=[1])
    assert ("book", "sequential", 0, 2) == (batch.corpus, batch.order, batch.epoch, batch.batch)
    assert (5, 2, 8) == (batch.num_batches, batch.num_rows, batch.seq_len)
    (row,) = batch.rows
    assert (1, start, start + 9) == (row.row, row.start, row.stop)
    assert (text[start : start + 8], text[start + 1 : start + 9]) == (row.inputs, row.targets)


def test_padding_is_not_shown() -> None:
    """A shorter window is shown as far as it counts."""
    windows = book_windows(tail="pad")
    (row,) = read_batch(windows, index=len(windows) - 1, rows=[1]).rows
    assert 0 < len(row.inputs) < 8
    assert BOOK.decode(BOOK.tokens[row.start : row.stop - 1]) == row.inputs


def test_ids_are_shown_where_nothing_decodes_them() -> None:
    """Foreign token arrays are shown as numbers."""
    corpus = tl.Corpus.from_tokens(range(50))
    windows = tl.SequentialWindows(corpus, batch_size=1, seq_len=3, shard=tl.Shard())
    start = windows.plan.phase
    (row,) = read_batch(windows, index=0, rows=[0]).rows
    assert f"{start} {start + 1} {start + 2}" == row.inputs


@pytest.mark.parametrize(
    ("index", "rows", "message"),
    [(5, [0], r"batch must be in \[0, 5\), got 5"), (0, [2], r"rows must be in \[0, 2\), got 2")],
)
def test_what_is_not_there_is_refused(index: int, rows: list[int], message: str) -> None:
    """The message names the range."""
    with pytest.raises(ArgumentError, match=message):
        read_batch(book_windows(), index=index, rows=rows)


@pytest.mark.parametrize("is_packed", [False, True])
def test_what_is_learnt_is_shown(is_packed: bool) -> None:
    """Of each row, and of each piece, the targets that count."""
    mask = [letter in "mhg" for letter in BOOK.decode(BOOK.tokens)]
    corpus = tl.Corpus.from_tokens(
        BOOK.tokens, vocab=BOOK.vocab, documents=[0, 20, 45, len(BOOK)], loss_mask=mask
    )
    kind = tl.PackedWindows if is_packed else tl.RandomWindows
    batch = read_batch(kind(corpus, batch_size=1, seq_len=50), index=0)
    assert batch.rows
    for row in batch.rows:
        for text in (row, *row.pieces):
            assert text.learnt == "".join(letter for letter in text.targets if letter in "mhg")
    assert read_batch(book_windows(), index=0).rows[0].learnt is None
