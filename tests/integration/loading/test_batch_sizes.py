"""Batch sizes that change: the laws, every way to read, and resuming with another size."""

import functools
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

import tokenloom as tl
from tests.support.loading.resume import rows_of
from tests.support.plan.batch_sizes import all_steps, cut_slowly
from tests.support.training.trainings import (
    HELD_OUT,
    TRAIN,
    StoppedError,
    make_model,
    outcome_of,
    stop_in_step,
)
from tokenloom import testing
from tokenloom.errors import ArgumentError
from tokenloom.inspection.steps import read_step
from tokenloom.training.reopen import reopen_training, reopen_windows

# 48 windows of 5 tokens per epoch.
CORPUS = tl.Corpus.from_tokens(np.arange(249, dtype=np.uint16))
NUM_WINDOWS = 48
STEPS = [(0, 4), (30, 6), (130, 2)]


def make_windows(
    rank: int = 0, world_size: int = 1, *, batch_size: Any = STEPS, **options: Any
) -> tl.RandomWindows:
    """Return windows of 10, 8, 12 and then 24 batches per epoch."""
    shard = tl.Shard(rank=rank, world_size=world_size)
    return tl.RandomWindows(CORPUS, batch_size=batch_size, seq_len=5, shard=shard, **options)


def make_loader(
    rank: int = 0, world_size: int = 1, *, num_epochs: int = 2, **options: Any
) -> tl.Loader:
    """Return a loader of the windows, in blocks of at most 3 batches."""
    names = ("num_workers", "device", "resident")
    mine = {name: options.pop(name) for name in names if name in options}
    return tl.Loader(
        make_windows(rank, world_size, **options),
        num_epochs=num_epochs,
        worker_options=tl.WorkerOptions(block_size=3),
        **mine,
    )


def line_of(epoch: int) -> list[list[int]]:
    """Return the inputs of the windows of an epoch, in their order."""
    windows = make_windows(batch_size=1)
    windows.set_epoch(epoch)
    return [batch.inputs[0].tolist() for batch in windows]


def expect(num_epochs: int, steps: Any = STEPS) -> list[Any]:
    """Return what batches must say, by the slow way."""
    return [
        (epoch, row, [line[place] for place in places])
        for epoch in range(num_epochs)
        for line in [line_of(epoch)]
        for row, places in enumerate(cut_slowly(steps, num_windows=NUM_WINDOWS, epoch=epoch))
    ]


def read(batches: Iterable[tl.Batch]) -> list[Any]:
    """Return what batches say."""
    return [(batch.epoch, batch.index, batch.inputs.tolist()) for batch in batches]


@pytest.mark.parametrize(
    "options",
    [{}, {"num_workers": 2}, {"device": "cpu"}, {"device": "cpu", "resident": True}],
    ids=str,
)
def test_batches_have_the_size_of_their_window(options: dict[str, Any]) -> None:
    """Over epochs with different numbers of batches, in any way of a Loader."""
    loader = make_loader(num_epochs=5, **options)
    expected = expect(5)
    assert (len(expected), len(expected)) == (len(loader), loader.remaining)
    remaining, numbers = [], []
    for batch, wanted in zip(loader, expected, strict=True):
        assert wanted == (batch.epoch, batch.index, batch.inputs.tolist())
        assert tuple(batch.targets.shape) == tuple(batch.mask.shape) == tuple(batch.inputs.shape)
        remaining.append(loader.remaining)
        numbers.append(loader.num_batches)
    assert list(range(len(expected)))[::-1] == remaining
    assert [10] * 10 + [8] * 8 + [12] * 12 + [24] * 48 == numbers


# torchdata 0.11 calls a function that newer versions of torch deprecate.
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
@pytest.mark.parametrize("num_workers", [0, pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_dataloader_reads_the_same(num_workers: int) -> None:
    """PyTorch's own and torchdata's, for each epoch; a position of the latter resumes."""
    windows = make_windows()
    expected = expect(3)
    for epoch in range(3) if num_workers == 0 else (2,):
        windows.set_epoch(epoch)
        mine = [each for each in expected if each[0] == epoch]
        assert len(mine) == len(windows)
        assert mine == read(DataLoader(windows, batch_size=None, num_workers=num_workers))
        make: Any = functools.partial(StatefulDataLoader, batch_size=None, num_workers=num_workers)
        loader = make(windows)
        batches = iter(loader)
        assert mine[:7] == read(itertools.islice(batches, 7))
        state = loader.state_dict()
        assert mine[7:] == read(batches)
        resumed = make(windows)
        resumed.load_state_dict(state)
        assert mine[7:] == read(resumed)


@pytest.mark.parametrize("tail", ["drop", "pad"])
def test_the_laws_hold(tail: Any) -> None:
    """All of them, in epochs with one size, two and other ones."""
    for epoch in range(3):
        windows = make_windows(tail=tail)
        windows.set_epoch(epoch)
        testing.check_batches(windows, range(len(windows)))
        testing.check_length(windows)
    for world_size in (1, 2):
        testing.check_ranks(lambda *place: make_windows(*place, tail=tail), world_size)
    testing.check_seeds(make_windows(tail=tail).plan)
    testing.check_state(make_loader(tail=tail))
    testing.check_cost(make_windows(tail=tail).plan)
    testing.assert_resumes_everywhere(
        lambda: [make_loader(num_epochs=3, tail=tail)],
        lambda: [
            make_loader(rank, 2, num_epochs=3, num_workers=rank, tail=tail) for rank in (0, 1)
        ],
    )


def test_every_size_must_divide_by_the_number_of_ranks() -> None:
    """The one that does not is named."""
    message = r"world_size must divide batch_size=6, got 4: use 3 or 6 processes"
    with pytest.raises(ArgumentError, match=message):
        make_windows(0, 4, batch_size=[(0, 4), (30, 6)])


def test_the_state_has_the_sizes() -> None:
    """Other sizes are refused, with both values."""
    state = json.loads(json.dumps(make_loader().state_dict()))
    assert "0:4,30:6,130:2" == state["batch_size"]
    for other in (4, [(0, 4), (30, 6)]):
        with pytest.raises(tl.StateMismatchError, match="batch_size: saved '0:4,30:6,130:2', now"):
            make_loader(batch_size=other).load_state_dict(state)
    shown = "batch_size=[(0, 4), (30, 6), (130, 2)], seq_len=5, seed=0, tail='drop', epoch=0): 10"
    assert shown in repr(make_windows())


def test_batches_are_skipped_over_sizes() -> None:
    """The rest is the stream without them."""
    loader = make_loader(num_epochs=4)
    expected = expect(4)
    batches = iter(loader)
    assert expected[:2] == read(itertools.islice(batches, 2))
    loader.skip(20)
    assert len(expected) - 22 == loader.remaining
    assert expected[22:] == read(batches)


def resume(
    state: Any, batch_size: Any, *, num_epochs: int = 2, **options: Any
) -> tuple[tl.Loader, list[Any]]:
    """Resume with another batch size, and read the iteration."""
    loader = make_loader(batch_size=batch_size, num_epochs=num_epochs, **options)
    loader.load_state_dict(json.loads(json.dumps(state)), changed=("batch_size",))
    return loader, read(loader)


sizes = st.one_of(st.integers(1, 13), all_steps())


@settings(max_examples=60)
@given(sizes, sizes, sizes, st.data())
def test_no_window_is_read_twice_and_none_is_lost(
    before: Any, now: Any, later: Any, data: st.DataObject
) -> None:
    """But for those that fill no batch at the end: with any sizes, at any batch, and again."""
    tail = data.draw(st.sampled_from(["drop", "pad"]))
    saved = make_loader(batch_size=before, tail=tail)
    num_read = data.draw(st.integers(0, len(saved)))
    first = list(itertools.islice(saved, num_read))
    loader = make_loader(batch_size=now, tail=tail)
    loader.load_state_dict(saved.state_dict(), changed=["batch_size"])
    epoch = loader.plan.epoch
    num_more = data.draw(st.integers(0, 4))
    second = [batch for batch in itertools.islice(loader, num_more) if batch.epoch == epoch]
    state = loader.state_dict()
    again = make_loader(batch_size=later, tail=tail)
    again.load_state_dict(state, changed=["batch_size"])
    third = itertools.takewhile(lambda batch: batch.epoch == epoch, again)
    read_in: dict[int, list[Any]] = {}
    for batch in (*first, *second, *third):
        read_in.setdefault(batch.epoch, []).extend(filter(any, batch.inputs.tolist()))
    windows = make_windows(batch_size=1, tail=tail)
    for each, rows in read_in.items():
        windows.set_epoch(each)
        line = [batch.inputs[0].tolist() for batch in windows]
        assert rows == [row for row in line if any(row)][: len(rows)]


def test_a_multiple_is_a_batch_of_the_new_size() -> None:
    """Six batches of 4 are three of 8; the position needs no window."""
    saved = make_loader(batch_size=4)
    list(itertools.islice(saved, 6))
    loader, rest = resume(saved.state_dict(), 8)
    assert expect(2, [(0, 8)])[3:] == rest
    loader.load_state_dict(saved.state_dict(), changed=("batch_size",))
    state = loader.state_dict()
    assert (1, 8, 0, 3) == tuple(
        state[name] for name in ("version", "batch_size", "epoch", "next_batch")
    )
    assert "first_window" not in state


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"device": "cpu", "resident": True}])
def test_the_rest_of_the_epoch_is_cut_from_the_window_on(options: dict[str, Any]) -> None:
    """Seven batches of 4 are no batches of 5: windows 28 to 47 are four of them."""
    saved = make_loader(batch_size=4)
    list(itertools.islice(saved, 7))
    loader, rest = resume(saved.state_dict(), 5, **options)
    line = line_of(0)
    golden = [(0, row, line[28 + 5 * row : 33 + 5 * row]) for row in range(4)]
    assert golden + expect(2, [(0, 5)])[9:] == rest
    loader.load_state_dict(saved.state_dict(), changed=("batch_size",))
    assert (4 + 9, 18, 4) == (loader.remaining, len(loader), loader.num_batches)
    assert (240, 9) == (loader.plan.num_inputs, loader.plan.num_dropped)
    next(iter(loader))
    state = loader.state_dict()
    expected = {"version": 2, "batch_size": 5, "epoch": 0, "next_batch": 1, "first_window": 28}
    assert expected.items() <= state.items()
    ranks = [make_loader(rank, 5, batch_size=5) for rank in range(5)]
    for rank in ranks:
        rank.load_state_dict(state)
    parts = zip(*map(read, ranks), strict=True)
    assert rest[1:] == [(*each[0][:2], [part[2][0] for part in each]) for each in parts]


def test_a_position_within_an_epoch_resumes_everywhere() -> None:
    """The state after each batch, in that epoch and the next, leads to the same rest."""
    saved = make_loader(batch_size=4)
    list(itertools.islice(saved, 7))
    state = saved.state_dict()

    def make() -> list[tl.Loader]:
        loader = make_loader(batch_size=5)
        loader.load_state_dict(state, changed=("batch_size",))
        return [loader]

    (loader,) = make()
    expected = [rows_of(batch) for batch in loader]
    states = []
    (loader,) = make()
    for number, _ in enumerate(loader, start=1):
        states.append(loader.state_dict())
        fresh = make_loader(batch_size=5)
        fresh.load_state_dict(json.loads(json.dumps(states[-1])))
        if number < len(expected):
            assert expected[number:] == [rows_of(batch) for batch in fresh]
    assert [2, 2, 2, 1] == [each["version"] for each in states[:4]]
    testing.check_state(make()[0])
    (loader,) = make()
    loader.skip(5)
    assert expected[5:] == [rows_of(batch) for batch in loader]


def test_the_last_windows_of_an_epoch_may_fill_no_batch() -> None:
    """Then the next epoch comes."""
    saved = make_loader(batch_size=4)
    list(itertools.islice(saved, 11))
    assert expect(2, [(0, 5)])[9:] == resume(saved.state_dict(), 5)[1]
    loader = make_loader(batch_size=5)
    loader.load_state_dict(saved.state_dict(), changed=("batch_size",))
    state = loader.state_dict()
    assert (1, 0) == (state["epoch"], state["next_batch"])
    padded = make_loader(batch_size=4, tail="pad")
    list(itertools.islice(padded, 11))
    (_, _, inputs), *_ = resume(padded.state_dict(), 7, tail="pad")[1]
    assert (7, 1) == (len(inputs), sum(not any(row) for row in inputs))


def test_the_same_size_is_no_change() -> None:
    """A program may always allow it."""
    saved = make_loader()
    list(itertools.islice(saved, 7))
    assert expect(2)[7:] == resume(saved.state_dict(), STEPS)[1]


def test_nothing_else_may_change() -> None:
    """Each other field that differs is named, as ever."""
    state = make_loader(batch_size=4).state_dict()
    loader = make_loader(batch_size=5)
    with pytest.raises(tl.StateMismatchError, match="batch_size: saved 4, now 5"):
        loader.load_state_dict(state)
    with pytest.raises(tl.StateMismatchError, match="seed: saved 9, now 0") as caught:
        loader.load_state_dict({**state, "seed": 9}, changed=("batch_size",))
    assert "batch_size:" not in str(caught.value)
    others: list[Any] = [("seed",), ("batch_size", "seed"), "batch_size", None, 5]
    for wrong in others:
        with pytest.raises(ArgumentError, match=r'changed must be \("batch_size",\) or nothing'):
            loader.load_state_dict(state, changed=wrong)
    for damaged in ("4:", -4, 4.5, None, "0:4,3:"):
        with pytest.raises(tl.StateMismatchError, match="the saved batch_size cannot be"):
            loader.load_state_dict({**state, "batch_size": damaged}, changed=("batch_size",))
    assert 12 == len(list(tl.Loader(make_windows(batch_size=4))))


def test_sequential_windows_depend_on_the_batch_size() -> None:
    """The reason is given, also for one that is the same."""
    loader = tl.Loader(tl.SequentialWindows(CORPUS, batch_size=4, seq_len=5))
    with pytest.raises(ArgumentError, match="got sequential order, whose windows do: load into"):
        loader.load_state_dict(loader.state_dict(), changed=("batch_size",))
    state = {**loader.state_dict(), "version": 2, "first_window": 3}
    with pytest.raises(tl.StateMismatchError, match="first_window of the saved position"):
        loader.load_state_dict(state)


def test_barely_one_batch_is_cut_otherwise() -> None:
    """Its windows are those of no other size, so that nothing can be promised."""
    corpus = tl.Corpus.from_tokens(np.arange(64, dtype=np.uint16))
    small, large = (tl.RandomWindows(corpus, batch_size=size, seq_len=5) for size in (4, 12))
    with pytest.raises(tl.StateMismatchError, match="barely one batch of the larger size"):
        tl.Loader(large).load_state_dict(tl.Loader(small).state_dict(), changed=("batch_size",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 1}, "reads positions of version 2, got version 1"),
        ({"first_window": 0}, r"first_window of the saved position must be an integer in \[1, 48"),
        ({"first_window": 48}, r"first_window of the saved position must be an integer in \[1, 48"),
        ({"first_window": "28"}, "first_window of the saved position must"),
        ({"next_batch": 4}, r"next_batch of the saved position must be an integer in \[0, 4\)"),
    ],
)
def test_a_window_out_of_range_is_refused(change: dict[str, Any], message: str) -> None:
    """What was changed or damaged is named."""
    loader = make_loader(batch_size=5)
    state = {**loader.state_dict(), "version": 2, "first_window": 28}
    loader.load_state_dict(state)
    with pytest.raises(tl.StateMismatchError, match=message):
        loader.load_state_dict({**state, **change})


def test_blocks_of_any_size_know_where_documents_start() -> None:
    """Each third token begins a document."""
    corpus = tl.Corpus.from_tokens(np.arange(249), documents=range(0, 250, 3))
    windows = tl.RandomWindows(corpus, batch_size=STEPS, seq_len=5)
    for batch in tl.Loader(windows, num_epochs=3):
        assert torch.equal(batch.inputs % 3 == 0, batch.resets)


def make_training(steps: Any) -> tuple[tl.RNNModel, tl.Loader]:
    """Return a model and a loader of three epochs of the text that trainings of tests read."""
    windows = tl.RandomWindows(TRAIN, batch_size=steps, seq_len=10)
    return make_model(), tl.Loader(windows, num_epochs=3)


def test_a_training_goes_through_the_sizes(tmp_path: Path) -> None:
    """It resumes bit by bit after a failure, and its schedule ends with its last batch."""
    steps = [(0, 2), (30, 4), (70, 6)]
    options = tl.TrainingOptions(schedule="linear", batches_per_update=2)
    arguments: dict[str, Any] = {"options": options, "device": "cpu", "held_out": HELD_OUT}
    model, loader = make_training(steps)
    numbers = [loader.plan.at(epoch).num_batches for epoch in range(3)]
    assert len(set(numbers)) == 3
    history = tl.train(model, loader, run=tmp_path / "whole", **arguments)
    assert list(itertools.accumulate(numbers)) == [metrics.step for metrics in history]
    checkpoint = tl.Run.open(tmp_path / "whole").load_checkpoint()
    assert checkpoint is not None
    updates = sum(-(-number // 2) for number in numbers)
    scheduler = checkpoint.state_dict()["training"]["updates"]["scheduler"]
    assert (updates, [0.0]) == (scheduler["last_epoch"], scheduler["_last_lr"])
    model, loader = make_training(steps)
    stop_in_step(model, numbers[0] + 4)
    with pytest.raises(StoppedError):
        tl.train(model, loader, run=tmp_path / "pieces", **arguments)
    begun = tl.Run.open(tmp_path / "pieces")
    training = reopen_training(begun, corpus=TRAIN, held_out=HELD_OUT, device="cpu")
    assert str(training.loader.plan.batch_sizes) == "0:2,30:4,70:6"
    training.train(progress=False)
    assert outcome_of(tmp_path / "whole") == outcome_of(tmp_path / "pieces")
    run, (model, loader) = tl.Run.open(tmp_path / "pieces"), make_training(steps[:2])
    with pytest.raises(tl.StateMismatchError, match="batch_size: saved '0:2,30:4,70:6', now"):
        tl.train(model, loader, run=run.path, resume=True, **arguments)
    assert ["2 x 10", "4 x 10"] == [
        f"{step.batch.num_rows} x {step.batch.seq_len}"
        for step in (
            read_step(run, reopen_windows(run, TRAIN), step=n, rows=None) for n in (15, 16)
        )
    ]


MIXED = tl.Mixture(
    {
        "a": tl.Corpus.from_tokens(np.arange(300, dtype=np.uint16)),
        "b": tl.Corpus.from_tokens(np.arange(300, 500, dtype=np.uint16)),
    },
    stages=[(0, {"a": 0.7, "b": 0.3}), (300, {"a": 0.4, "b": 0.6})],
)
_BOUNDS = np.cumsum([0, *(3, 9, 1, 14, 6, 2, 21, 5, 8) * 6])
DOCUMENTS = tl.Corpus.from_tokens(np.arange(_BOUNDS[-1]), documents=_BOUNDS)


def make_others(kind: str, batch_size: Any, *place: int, **options: Any) -> tl.Windows:
    """Return windows of a mixture, or of packed documents."""
    shard = tl.Shard(rank=place[0], world_size=place[1]) if place else None
    given: dict[str, Any] = {"batch_size": batch_size, "shard": shard, **options}
    if kind == "mixture":
        return tl.RandomWindows(MIXED, seq_len=5, **given)
    return tl.PackedWindows(DOCUMENTS, seq_len=12, **given)


def rows_with_all(batches: Iterable[tl.Batch]) -> list[Any]:
    """Return the rows of batches one after the other, with all that they say."""
    rows: list[Any] = []
    for batch in batches:
        more = batch.sources if batch.inputs.shape[1] == 5 else batch.position_ids
        parts = [batch.inputs, batch.targets, batch.mask, more]
        rows += zip(*(part.tolist() for part in parts), strict=True)
    return rows


def line_of_others(kind: str, epoch: int, **options: Any) -> list[Any]:
    """Return the rows of an epoch, in their order."""
    windows = make_others(kind, 1, **options)
    windows.set_epoch(epoch)
    return rows_with_all(windows)


KINDS = ["mixture", "packed"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"num_workers": 2}], ids=str)
def test_other_orders_are_cut_alike(kind: str, options: dict[str, Any]) -> None:
    """Row by row it is the line of batches of one row, over epochs and sizes."""
    loader = tl.Loader(make_others(kind, STEPS), num_epochs=3, **options)
    batches = list(loader)
    for epoch in range(3):
        line = line_of_others(kind, epoch)
        cut = cut_slowly(STEPS, num_windows=len(line), epoch=epoch)
        mine = [batch for batch in batches if batch.epoch == epoch]
        assert [len(places) for places in cut] == [len(batch.inputs) for batch in mine]
        assert line[: cut[-1].stop] == rows_with_all(mine)
        plan = loader.windows.plan.at(epoch)
        num_inputs = sum(int(batch.mask.sum()) for batch in mine)
        assert (num_inputs, len(mine)) == (plan.num_inputs, plan.num_batches)
        if kind == "mixture":
            sources = torch.cat([batch.sources for batch in mine])
            counts = [each.windows for each in plan.accounting().values()]
            assert counts == torch.bincount(sources, minlength=2).tolist()


@pytest.mark.parametrize(
    ("kind", "tail"), [("mixture", "drop"), ("packed", "drop"), ("packed", "pad")]
)
def test_the_laws_hold_for_other_orders(kind: str, tail: Any) -> None:
    """With ranks and workers, at each batch."""

    def make(*place: int) -> tl.Windows:
        return make_others(kind, STEPS, *place, tail=tail)

    for epoch in range(3):
        windows = make()
        windows.set_epoch(epoch)
        # A part of a mixture may begin its own next epoch within one of the mixture.
        if kind == "packed":
            testing.check_batches(windows, range(len(windows)))
            testing.check_length(windows)
    testing.check_ranks(make, 2)
    testing.check_state(tl.Loader(make()))
    testing.assert_resumes_everywhere(
        lambda: [tl.Loader(make(), num_epochs=2)],
        lambda: [tl.Loader(make(rank, 2), num_epochs=2, num_workers=1) for rank in (0, 1)],
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("before", "now"), [(4, 5), (4, STEPS), (STEPS, 3), (2, 6)])
def test_other_orders_resume_with_another_size(kind: str, before: Any, now: Any) -> None:
    """No row comes twice, and none is left out up to the last whole batch."""
    line, after = line_of_others(kind, 0), line_of_others(kind, 1)
    saved = tl.Loader(make_others(kind, before), num_epochs=2)
    for num_read in range(saved.num_batches):
        saved.load_state_dict(tl.Loader(saved.windows).state_dict())
        first = rows_with_all(itertools.islice(saved, num_read))
        loader = tl.Loader(make_others(kind, now), num_epochs=2)
        loader.load_state_dict(saved.state_dict(), changed=("batch_size",))
        batches = list(loader)
        rest = rows_with_all(batch for batch in batches if batch.epoch == 0)
        assert line[: len(first) + len(rest)] == first + rest
        assert len(line) - len(first) - len(rest) < max(loader.plan.all_sizes)
        following = rows_with_all(batch for batch in batches if batch.epoch == 1)
        assert after[: len(following)] == following
