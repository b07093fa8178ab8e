"""Who reads which part of a plan."""

import itertools
from types import SimpleNamespace
from typing import Any

import pytest

import tokenloom as tl
from tokenloom.errors import ArgumentError
from tokenloom.loading import dataset
from tokenloom.plan.division import Division

CORPUS = tl.Corpus.from_tokens([1, 2, 3] * 400)
CASES = list(itertools.product(["random", "sequential"], [1, 2, 4], [1, 2, 3, 20], [35, 3]))


def make_windows(kind: str, **options: Any) -> tl.RandomWindows | tl.SequentialWindows:
    """Return windows of one order."""
    made = tl.RandomWindows if kind == "random" else tl.SequentialWindows
    return made(CORPUS, batch_size=4, **options)


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
