"""Who reads which part of a plan."""

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenloom as tl
from tests.support.plan.batch_sizes import all_steps
from tests.support.plan.packing import offsets_of
from tests.support.plan.strategies import tails
from tokenloom.errors import ArgumentError
from tokenloom.loading import Windows, dataset
from tokenloom.plan.division import Division
from tokenloom.plan.plan import ORDERS

CORPUS = tl.Corpus.from_tokens([1, 2, 3] * 400)
CASES = list(itertools.product(["random", "sequential"], [1, 2, 4], [1, 2, 3, 20], [35, 3]))


def make_windows(kind: str, **options: Any) -> tl.RandomWindows | tl.SequentialWindows:
    """Return windows of one order."""
    made = tl.RandomWindows if kind == "random" else tl.SequentialWindows
    return made(CORPUS, batch_size=4, **options)


@pytest.mark.parametrize(("kind", "world_size", "num_workers", "seq_len"), CASES)
def test_workers_read_what_the_division_says(
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
        ({"num_workers": -1}, r"num_workers must be an integer in \[0, 4096\), got -1"),
        ({"num_workers": 1 << 64}, r"num_workers must be an integer in \[0, 4096\), got 18"),
    ],
)
def test_what_cannot_be_divided_is_refused(options: dict[str, int], message: str) -> None:
    """The message names the numbers that work."""
    with pytest.raises(ArgumentError, match=message):
        Division(plan=make_windows("random").plan, **options)


def ones(num_tokens: int, **options: Any) -> tl.Corpus:
    """Return a corpus of tokens that are all the same."""
    return tl.Corpus.from_tokens(np.ones(num_tokens, np.uint16), **options)


@st.composite
def all_windows(draw: st.DrawFn) -> Windows:
    """Windows of each order: of a text, of documents, of a mixture, with sizes that change."""
    kind = draw(st.sampled_from(["random", "sequential", "packed", "mixture", "steps"]))
    options: dict[str, Any] = {"batch_size": draw(st.integers(1, 4)), "tail": draw(tails)}
    corpus: tl.Corpus | tl.Mixture
    if kind == "packed":
        lengths = draw(st.lists(st.integers(2, 20), min_size=9, max_size=30))
        corpus = ones(sum(lengths), documents=offsets_of(lengths))
        seq_len = draw(st.integers(1, 20))
    elif kind == "mixture":
        lengths = draw(st.lists(st.integers(50, 90), min_size=1, max_size=3))
        corpus = tl.Mixture({f"p{n}": (ones(length), n + 1) for n, length in enumerate(lengths)})
        seq_len, options["tail"] = 5, "drop"
    else:
        corpus = ones(draw(st.integers(200, 400)))
        seq_len = draw(st.integers(1, 15))
    if kind == "steps":
        options["batch_size"] = draw(all_steps())
    windows = Windows(
        kind if kind in ORDERS else "random",
        corpus,
        **options,
        seq_len=seq_len,
    )
    windows.set_epoch(draw(st.integers(0, 5)))
    return windows


@settings(max_examples=50)
@given(all_windows())
def test_counts_are_those_of_a_pass(windows: Windows) -> None:
    """Batches, windows that hold an input, and inputs, as the windows and their plan say."""
    plan = windows.plan
    masks = [batch.mask for batch in windows]
    num_windows = sum(int(mask.any(dim=1).sum()) for mask in masks)
    read = (len(masks), num_windows, sum(int(mask.sum()) for mask in masks))
    assert (len(windows), Division(plan=plan).num_windows, plan.num_inputs) == read
