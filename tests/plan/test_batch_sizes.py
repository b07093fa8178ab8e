"""Batch sizes that change: which windows each batch has."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.plan.batch_sizes import all_steps, cut_slowly
from tests.support.plan.oracle import Oracle
from tests.support.plan.strategies import seeds, tails
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.plan.batch_sizes import BatchSizes, as_batch_size, divide_epoch
from tokenloom.plan.plan import Plan


def make_plan(batch_size: Any = ((0, 4), (30, 6), (130, 2)), **changes: Any) -> Plan:
    """Return a plan of 48 windows of 5 tokens per epoch."""
    sizes = list(batch_size) if isinstance(batch_size, tuple) else batch_size
    given = {"kind": "random", "num_tokens": 249, "seq_len": 5, "batch_size": sizes}
    return Plan(**{**given, **changes})


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Plans whose sizes change, some of them from the middle of an epoch on."""
    seq_len, tail = draw(st.integers(1, 6)), draw(tails)
    plan = Plan(
        kind="random",
        num_tokens=draw(st.integers(13 * seq_len, 60 * seq_len)),
        seq_len=seq_len,
        batch_size=draw(all_steps()),
        seed=draw(seeds),
        epoch=draw(st.integers(0, 6)),
        tail=tail,
    )
    if draw(st.booleans()):
        return plan
    return plan.at(plan.epoch, first_window=draw(st.integers(0, plan.num_windows - 1)))


def places_of(plan: Plan) -> list[range]:
    """Return the places of the windows of each batch, by the slow way."""
    sizes = plan.batch_sizes or BatchSizes(((0, plan.batch_size),))
    return cut_slowly(
        sizes.steps,
        num_windows=plan.num_windows,
        epoch=plan.epoch,
        first=plan.first_window,
        is_padded=plan.tail == "pad",
    )


@given(plans())
def test_each_batch_has_the_windows_that_counting_gives(plan: Plan) -> None:
    """Batch by batch, in plain integers, with the windows of the plan of one size."""
    oracle = dataclasses.replace(Oracle.of(plan), batch_size=max(plan.all_sizes))
    batches = places_of(plan)
    assert len(batches) == plan.num_batches
    for row, places in enumerate(batches):
        assert len(places) == plan.size_of(range(row, row + 1))
        starts = plan.starts(range(row, row + 1))
        windows = [oracle.window(*divmod(place, oracle.batch_size)) for place in places]
        assert [window.start for window in windows] == starts[0].tolist()
        assert [window.length for window in windows] == plan.lengths(starts)[0].tolist()


@given(plans())
def test_rows_of_a_stretch_are_those_one_by_one(plan: Plan) -> None:
    """Any block of batches of one size, with any step and columns."""
    for stretch in plan.stretches:
        columns = range(stretch.batch_size // 2, stretch.batch_size)
        rows = stretch.rows[::2]
        expected = [plan.starts(range(row, row + 1))[0, columns.start :] for row in rows]
        references = plan.references(rows, columns)
        assert np.array_equal(np.stack(expected), references.starts)


@given(plans())
def test_batches_and_windows_are_counted(plan: Plan) -> None:
    """Each batch is found by its first window, and no other window is that of a batch."""
    batches = places_of(plan)
    firsts = {places.start: row for row, places in enumerate(batches)}
    assert list(firsts) == [plan.window_of(row) for row in firsts.values()]
    end = batches[-1].stop if batches else plan.first_window
    assert (end, end) == (plan.num_rows, plan.window_of(len(batches)))
    for window in range(plan.first_window, plan.num_windows):
        assert firsts.get(window, len(batches) if window == end else None) == plan.row_at(window)


@given(plans())
def test_the_accounting_is_that_of_the_whole_epoch(plan: Plan) -> None:
    """What comes before the first window was read by another plan, and counts too."""
    oracle = dataclasses.replace(Oracle.of(plan), batch_size=max(plan.all_sizes))
    read = range(plan.num_rows)
    lengths = [oracle.window(*divmod(place, oracle.batch_size)).length for place in read]
    assert (sum(lengths), plan.num_tokens - sum(lengths)) == (plan.num_inputs, plan.num_dropped)


@given(plans(), st.integers(1, 8))
def test_batches_are_counted_over_epochs(plan: Plan, num_epochs: int) -> None:
    """Epochs with the same number of batches are counted at once."""
    stop = plan.epoch + num_epochs
    later = [plan.at(epoch) for epoch in range(plan.epoch + 1, stop)]
    numbers = [plan.num_batches, *(each.num_batches for each in later)]
    assert sum(numbers) == plan.count_until(stop)
    positions = [
        (plan.epoch + past, row) for past, number in enumerate(numbers) for row in range(number)
    ]
    assert positions == [plan.find_batch(number) for number in range(len(positions))]


def test_golden_batches() -> None:
    """Four, from window 30 on six, from window 130 of the whole training on two."""
    plan = make_plan(seed=3)
    assert (48, "0:4,30:6,130:2") == (plan.num_windows, plan.described_size)
    # Window 30 is the third of batch 7, so batch 8 is the first of six: from window 32 on.
    assert [(range(8), 0, 4), (range(8, 10), 32, 6)] == list(plan.stretches)
    # The third epoch has windows [96, 144): six from 96 on, up to 132, then two.
    assert [(range(6), 0, 6), (range(6, 12), 36, 2)] == list(plan.at(2).stretches)
    assert [10, 8, 12, 24, 24] == [plan.at(epoch).num_batches for epoch in range(5)]
    assert [4, 6, 6, 2] == [plan.at(epoch).batch_size for epoch in range(4)]
    assert (220, 29) == (plan.num_inputs, plan.num_dropped)
    assert [[238, 118, 218, 58]] == plan.starts(range(1)).tolist()
    assert [[183, 208, 28, 63, 68, 223]] == plan.starts(range(9, 10)).tolist()
    assert (1_000_004, 0) == plan.find_batch(10 + 8 + 12 + 24 * 1_000_001)


def test_one_size_is_a_plan_of_one_size() -> None:
    """Steps that change nothing are none."""
    expected = make_plan(4)
    for steps in (((0, 4),), ((0, 4), (7, 4), (90, 4))):
        assert expected == make_plan(steps)
    assert ((0, 4), (9, 5)) == BatchSizes(((0, 4), (3, 4), (9, 5), (10, 5))).steps


@given(all_steps())
def test_sizes_are_written_and_read(steps: Any) -> None:
    """What `str` writes is read again."""
    sizes = BatchSizes(tuple(steps))
    assert sizes == BatchSizes.parse(str(sizes))
    assert as_batch_size(sizes) == (sizes if len(sizes.steps) > 1 else sizes.largest)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "from window 0, such as .* and ascend, got \\[\\]"),
        ([(1, 4)], "the first from window 0"),
        ([(0, 4), (9, 5), (9, 6)], "and ascend, got"),
        ([(0, 4), (9, 5), (8, 6)], "and ascend, got"),
        ([(0, 0)], r"batch_size must be an integer in \[1, .*, got 0"),
        ([(0, 4), (-9, 5)], r"the window of a batch_size must be an integer in \[0, "),
        ([(0, 4), (9.5, 5)], "the window of a batch_size must be an integer"),
        ([(0, 4, 5)], r"got \(0, 4, 5\) for a pair"),
        ([4, 5], "got 4 for a pair"),
        ("0:4,9:5", "batch_size must be an integer in"),
        (4.5, "batch_size must be an integer in"),
    ],
)
def test_what_is_no_size_is_refused(value: Any, message: str) -> None:
    """The message has the form of a size that changes."""
    with pytest.raises(ArgumentError, match=message):
        Plan(kind="random", num_tokens=249, seq_len=5, batch_size=value)


@pytest.mark.parametrize(
    "text", ["", "4", "4:", "0:4,", "0:4;9:5", "0:4,9", "-4", "0:4 ,9:5", "0" * 20]
)
def test_a_text_of_another_form_is_refused(text: str) -> None:
    """The message shows the form."""
    with pytest.raises(ArgumentError, match="such as '0:32,10000:64', got"):
        BatchSizes.parse(text)


def test_sequential_windows_have_one_size() -> None:
    """Each of them would be another one with another number of lanes."""
    with pytest.raises(ArgumentError, match="batch_size must be an integer in sequential order"):
        make_plan(kind="sequential")


def test_barely_one_batch_is_too_little_text() -> None:
    """Its windows would depend on the batch size: 12 of 5 tokens, and fewer than 5 more."""
    steps = [(0, 4), (30, 12)]
    assert 12 == make_plan(steps, num_tokens=65).num_windows
    with pytest.raises(CorpusError, match="more text than barely one batch of 12 x 5 inputs"):
        make_plan(steps, num_tokens=64)
    with pytest.raises(CorpusError, match="one batch of 12 x 5 inputs needs at least 61 tokens"):
        make_plan(steps, num_tokens=60)


def test_rows_of_several_sizes_make_no_array() -> None:
    """The message has the batches that have one size."""
    with pytest.raises(ArgumentError, match=r"batches \[0, 8\) have 4 rows, those after them"):
        make_plan().starts(range(7, 9))
    with pytest.raises(ArgumentError, match=r"columns must go up within \[0, 4\)"):
        make_plan().starts(range(7, 8), range(6))
    with pytest.raises(ArgumentError, match=r"first_window must be an integer in \[0, 48\)"):
        make_plan().at(0, first_window=48)


def test_many_changes_cost_no_more_than_their_number() -> None:
    """An epoch and a training of 10^12 tokens are divided at once."""
    steps: Any = [(step * 10**7, 32 + step) for step in range(1000)]
    plan = Plan(kind="random", num_tokens=10**12, seq_len=35, batch_size=steps)
    assert 1000 == len(plan.stretches)
    assert plan.count_until(10**6) > 10**12
    epoch, row = plan.find_batch(10**15)
    assert 0 <= row < plan.at(epoch).num_batches
    assert divide_epoch.cache_info().maxsize == 64
