"""The plan: which tokens each batch reads."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.plan.golden_orders import (
    LARGE_PLANS,
    SMALL_PLANS,
    VERSION,
    WIDE_VERSION,
    make_digest,
    read_table,
)
from tests.support.plan.strategies import plans
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.plan.order import ORDER_VERSION, WIDE_ORDER_VERSION, Tail
from tokenloom.plan.plan import Plan


def make_plan(**changes: Any) -> Plan:
    """Return a small plan with some fields changed."""
    options = {"kind": "random", "num_tokens": 10_000, "seq_len": 35, "batch_size": 4}
    return Plan(**{**options, **changes})


def say_of(plan: Plan, columns: range, middle_columns: range) -> tuple[list[int], str]:
    """Return what a line of the golden tables says of a plan."""
    num_batches = plan.num_batches
    middle, last = num_batches // 2, range(num_batches - 1, num_batches)
    starts = [
        plan.starts(range(1), columns),
        plan.starts(range(middle, middle + 1), middle_columns),
        plan.starts(last, columns),
    ]
    stretch = plan.starts(range(middle, min(middle + 1000, num_batches)))
    end = plan.starts(range(max(0, num_batches - 100), num_batches))
    numbers = [plan.seed, plan.epoch, plan.phase, *np.concatenate(starts, axis=None).tolist()]
    return numbers, make_digest(stretch, end, plan.lengths(end))


def test_golden_numbers_belong_to_this_order_version() -> None:
    """A new order needs new numbers, and new numbers a new version."""
    assert (VERSION, WIDE_VERSION) == (ORDER_VERSION, WIDE_ORDER_VERSION)


@pytest.mark.parametrize(("heading", "numbers", "digest"), read_table(SMALL_PLANS))
def test_golden_plans(heading: str, numbers: list[int], digest: str) -> None:
    """The order never changes silently; `tests.support.plan.golden_orders` says what to do."""
    kind, tail = heading.split()
    plan = make_plan(kind=kind, tail=tail, seed=numbers[0], epoch=numbers[1])
    said, its_digest = say_of(plan, range(4), range(4))
    last = range(plan.num_batches - 1, plan.num_batches)
    lengths = plan.lengths(plan.starts(last))[0].tolist()
    assert (numbers, digest) == (said + lengths, its_digest)


@pytest.mark.parametrize(("heading", "numbers", "digest"), read_table(LARGE_PLANS))
def test_golden_plans_of_large_corpora(heading: str, numbers: list[int], digest: str) -> None:
    """A plan over 10**12 tokens is pinned like a small one."""
    kind, tail = heading.split()
    sizes = {"num_tokens": 10**12, "seq_len": 1024, "batch_size": 512}
    plan = make_plan(kind=kind, tail=tail, seed=numbers[0], epoch=numbers[1], **sizes)
    assert (numbers, digest) == say_of(plan, range(0, 512, 511), range(1))


@given(plans())
def test_any_block_equals_its_part_of_the_whole(plan: Plan) -> None:
    """Rows and columns can be asked for in any ranges."""
    rows, columns = range(1, plan.num_batches, 2), range(plan.batch_size // 2, plan.batch_size)
    whole = plan.starts(range(plan.num_batches))
    expected = whole[1::2, plan.batch_size // 2 :]
    assert expected.tolist() == plan.starts(rows, columns).tolist()


@given(plans())
def test_lengths_of_a_block_equal_their_part_of_the_whole(plan: Plan) -> None:
    """Lengths can be asked for some columns only."""
    columns = range(plan.batch_size // 2, plan.batch_size)
    rows = range(plan.num_batches)
    whole = plan.lengths(plan.starts(rows))
    assert whole[:, columns].tolist() == plan.lengths(plan.starts(rows, columns), columns).tolist()


@pytest.mark.parametrize("kind", ["random", "sequential"])
def test_lengths_of_whole_windows_need_no_columns(kind: str) -> None:
    """Where no window is padded, all inputs count, whichever columns the starts are of."""
    plan = make_plan(kind=kind)
    assert [[35, 35]] == plan.lengths(plan.starts(range(1), range(2, 4))).tolist()


@pytest.mark.parametrize("tail", ["drop", "pad"])
@pytest.mark.parametrize("kind", ["random", "sequential"])
def test_a_huge_plan_costs_no_more_than_a_small_one(kind: str, tail: Tail) -> None:
    """A block of a plan over 4e18 tokens takes the memory of its windows, a few times over."""
    plan = make_plan(kind=kind, tail=tail, num_tokens=2**62 - 1, seq_len=2, batch_size=3)
    rows = range(plan.num_batches - 10_000, plan.num_batches)
    tracemalloc.start()
    try:
        starts = plan.starts(rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert starts.nbytes < peak < 10 * starts.nbytes


def test_starts_are_int64() -> None:
    """No rows give an empty array of the right type."""
    starts = make_plan().starts(range(0))
    assert ((0, 4), "int64") == (starts.shape, starts.dtype.name)


def test_integers_of_numpy_are_taken_as_plain_ones() -> None:
    """A plan's fields can always be written as JSON."""
    assert int is type(make_plan(seed=np.int64(3)).seed)


@pytest.mark.parametrize("kind", ["random", "sequential"])
def test_phases_are_uniform(kind: str) -> None:
    """Over 7,000 epochs each of 7 phases comes about a thousand times."""
    phases = [make_plan(kind=kind, seq_len=7, epoch=epoch).phase for epoch in range(7000)]
    assert (np.abs(np.bincount(phases, minlength=7) - 1000) < 6 * np.sqrt(1000)).all()


def test_over_the_epochs_every_token_is_an_input_in_random_order() -> None:
    """No token that has a successor is left out for good."""
    seen: set[int] = set()
    for epoch in range(300):
        plan = make_plan(num_tokens=500, seq_len=5, epoch=epoch)
        starts = plan.starts(range(plan.num_batches))
        seen.update((starts[..., None] + np.arange(5)).ravel().tolist())
    assert seen == set(range(499))


@given(plans(kind=st.just("sequential"), tail=st.just("drop")))
def test_lanes_are_the_textbooks(plan: Plan) -> None:
    """What the phase leaves is reshaped to one row per lane, and cut into windows."""
    tokens = np.arange(plan.num_tokens)
    num_tokens = (plan.num_tokens - plan.phase - 1) // plan.batch_size * plan.batch_size
    rows = tokens[plan.phase : plan.phase + num_tokens].reshape(plan.batch_size, -1)
    expected = [rows[:, k * plan.seq_len].tolist() for k in range(plan.num_batches)]
    assert expected == plan.starts(range(plan.num_batches)).tolist()


@pytest.mark.parametrize("kind", ["random", "sequential"])
def test_the_shortest_corpus_holds_one_batch(kind: str) -> None:
    """One batch of inputs and one more token are enough."""
    plan = make_plan(kind=kind, num_tokens=141)
    assert (1, 140, 1) == (plan.num_batches, plan.num_inputs, plan.num_dropped)


def test_a_corpus_shorter_than_one_batch_is_refused() -> None:
    """The message says how many tokens are needed, how many there are and what to do."""
    message = (
        r"one batch of 4 x 35 inputs needs at least 141 tokens, the corpus has 140: "
        r'lower batch_size or seq_len, use tail="pad" or give more text'
    )
    with pytest.raises(CorpusError, match=message):
        make_plan(num_tokens=140)


def test_padding_needs_two_tokens() -> None:
    """Without a successor there is nothing to learn."""
    with pytest.raises(CorpusError, match="at least 2 tokens, the corpus has 1"):
        make_plan(num_tokens=1, tail="pad")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "sorted"}, "kind must be 'random' or 'sequential', got 'sorted'"),
        ({"tail": "keep"}, "tail must be 'drop' or 'pad', got 'keep'"),
        ({"seq_len": 0}, r"seq_len must be an integer in \[1, \d+\), got 0"),
        ({"batch_size": -1}, r"batch_size must be an integer in \[1, \d+\), got -1"),
        ({"seed": -1}, r"seed must be an integer in \[0, 18446744073709551616\), got -1"),
        ({"epoch": -1}, r"epoch must be an integer in \[0, \d+\), got -1"),
        ({"seq_len": 2.5}, r"seq_len must be an integer in \[1, \d+\), got 2.5"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    """The message names the argument, its range and its value."""
    with pytest.raises(ArgumentError, match=message):
        make_plan(**changes)


@pytest.mark.parametrize("rows", [range(-1, 2), range(70, 72), range(3, 0, -1)])
def test_rows_outside_the_plan_are_refused(rows: range) -> None:
    """The message names the range of rows."""
    with pytest.raises(ArgumentError, match=r"rows must go up within \[0, 71\), got range"):
        make_plan().starts(rows)


def test_columns_outside_the_plan_are_refused() -> None:
    """The message names the range of columns."""
    with pytest.raises(ArgumentError, match=r"columns must go up within \[0, 4\), got range"):
        make_plan().starts(range(1), range(5))
