"""Batches as text, and who reads them."""

import itertools
from types import SimpleNamespace
from typing import Any

import pytest

import tokenloom as tl
from tokenloom.errors import ArgumentError
from tokenloom.inspection.batches import Division, read_batch
from tokenloom.loading import dataset

CORPUS = tl.Corpus.from_tokens([1, 2, 3] * 400)
BOOK = tl.Corpus.from_text("the time machine by h g wells " * 3, name="book")
CASES = list(itertools.product(["random", "sequential"], [1, 2, 4], [1, 2, 3, 20], [35, 3]))


def make_windows(kind: str, **options: Any) -> tl.RandomWindows | tl.SequentialWindows:
    """Return windows of one order."""
    made = tl.RandomWindows if kind == "random" else tl.SequentialWindows
    return made(CORPUS, batch_size=4, **options)


def book_windows(**options: Any) -> tl.SequentialWindows:
    """Return small windows."""
    return tl.SequentialWindows(BOOK, **{"batch_size": 2, "seq_len": 8, **options})


@pytest.mark.parametrize(("kind", "world_size", "num_workers", "seq_len"), CASES)
def test_workers_read_what_is_said(
    kind: str, world_size: int, num_workers: int, seq_len: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real datasets, asked as each of the workers, yield the batches of the division."""
    for rank in range(world_size):
        shard = tl.Shard(rank=rank, world_size=world_size)
        read = make_windows(kind, seq_len=seq_len, shard=shard)
        division = Division(plan=read.plan, world_size=world_size, num_workers=num_workers)
        assert read.columns == division.columns(rank)
        for worker in range(num_workers):
            info = SimpleNamespace(id=worker, num_workers=num_workers)
            monkeypatch.setattr(dataset, "get_worker_info", lambda info=info: info)
            assert [batch.index for batch in read] == list(division.rows(worker))


def test_without_workers_the_process_reads_all() -> None:
    """It is its only reader."""
    plan = make_windows("random").plan
    division = Division(plan=plan)
    assert [range(1), range(plan.num_batches)] == [division.readers, division.rows(0)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"world_size": 3}, "world_size must divide batch_size=4, got 3: use 2 or 4 processes"),
        ({"num_workers": -1}, "num_workers must be at least 0, got -1"),
    ],
)
def test_what_cannot_be_divided_is_refused(options: dict[str, int], message: str) -> None:
    """The message names the numbers that work."""
    with pytest.raises(ArgumentError, match=message):
        Division(plan=make_windows("random").plan, **options)


@pytest.mark.parametrize("kind", ["random", "sequential"])
@pytest.mark.parametrize("tail", ["drop", "pad"])
def test_windows_are_counted(kind: str, tail: Any) -> None:
    """Those that hold an input, and no padding."""
    plan = make_windows(kind, seq_len=7, tail=tail).plan
    lengths = plan.lengths(plan.starts(range(plan.num_batches)))
    assert (lengths > 0).sum() == Division(plan=plan).num_windows


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
