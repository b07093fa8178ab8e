"""The plan: which tokens each batch reads."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import plans
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.plans import Kind, Plan


def make_plan(**changes: Any) -> Plan:
    """Return a small plan with some fields changed."""
    options = {"kind": "random", "num_tokens": 10_000, "seq_len": 35, "batch_size": 4}
    return Plan(**{**options, **changes})


@pytest.mark.parametrize(
    ("kind", "seed", "epoch", "phase", "rows"),
    [
        ("random", 0, 0, 29, [[6259, 5559, 5699, 9234], [7624, 484, 8919, 3214]]),
        ("random", 1, 0, 14, [[364, 6244, 8099, 1344], [3269, 6629, 4774, 6874]]),
        ("random", 2**40, 7, 34, [[9274, 664, 6369, 2519], [9589, 734, 9134, 9869]]),
        ("sequential", 0, 0, 29, [[29, 2521, 5013, 7505], [1429, 3921, 6413, 8905]]),
        ("sequential", 1, 0, 14, [[14, 2510, 5006, 7502], [1414, 3910, 6406, 8902]]),
        ("sequential", 2**40, 7, 34, [[34, 2525, 5016, 7507], [1434, 3925, 6416, 8907]]),
    ],
)
def test_golden_plans(kind: Kind, seed: int, epoch: int, phase: int, rows: list[list[int]]) -> None:
    """The order never changes silently: rows 0 and 40 of these plans are pinned."""
    plan = make_plan(kind=kind, seed=seed, epoch=epoch)
    assert (phase, rows) == (plan.phase, plan.starts(range(0, plan.num_batches, 40)).tolist())


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


def test_a_huge_plan_costs_no_more_than_a_small_one() -> None:
    """The last row of a plan over 4e18 tokens is computed alone."""
    plan = make_plan(num_tokens=2**62 - 1, seq_len=2, batch_size=3)
    last = plan.starts(range(plan.num_batches - 1, plan.num_batches))
    assert ((1, 3), True) == (last.shape, bool((last < 2**62).all()))


def test_starts_are_int64() -> None:
    """No rows give an empty array of the right type."""
    starts = make_plan().starts(range(0))
    assert ((0, 4), "int64") == (starts.shape, starts.dtype.name)


def test_integers_of_numpy_are_taken_as_plain_ones() -> None:
    """A plan's fields can always be written as JSON."""
    assert int is type(make_plan(seed=np.int64(3)).seed)


@pytest.mark.parametrize("kind", ["random", "sequential"])
def test_phases_are_uniform(kind: Kind) -> None:
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
def test_the_shortest_corpus_holds_one_batch(kind: Kind) -> None:
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
        ({"seq_len": 0}, r"seq_len must be in \[1, \d+\), got 0"),
        ({"batch_size": -1}, r"batch_size must be in \[1, \d+\), got -1"),
        ({"seed": -1}, r"seed must be in \[0, 18446744073709551616\), got -1"),
        ({"epoch": -1}, r"epoch must be in \[0, \d+\), got -1"),
        ({"seq_len": 2.5}, "seq_len must be an integer, got 2.5"),
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
