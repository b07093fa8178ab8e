"""Plans and streams against the oracle: everything they say, in both orders, with both tails."""

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

import tokenloom as tl
from tests.support.plan.oracle import Oracle, Rows
from tests.support.plan.strategies import epochs, kinds, make_windows, plans, seeds, tails
from tokenloom.plan.plan import Plan


@st.composite
def huge_plans(draw: st.DrawFn) -> Plan:
    """Plans over corpora of up to 4e18 tokens, with few windows or with as many as tokens."""
    num_tokens = draw(st.integers(2**33, 2**62 - 1) | st.integers(2**61, 2**62 - 1))
    batch_size = draw(st.integers(1, 64))
    return Plan(
        kind=draw(kinds),
        num_tokens=num_tokens,
        seq_len=draw(st.integers(1, 3) | st.integers(1, (num_tokens - 1) // batch_size)),
        batch_size=batch_size,
        seed=draw(seeds),
        epoch=draw(epochs),
        tail=draw(tails),
    )


def rows_of(batch: tl.Batch) -> Rows:
    """Return what a batch says."""
    return Rows(batch.inputs.tolist(), batch.targets.tolist(), batch.mask.tolist())


@settings(max_examples=200)
@given(st.one_of(plans(), huge_plans()))
def test_counts_are_the_oracles(plan: Plan) -> None:
    """Batches, windows and phases are as many as fit, and the phase is one of them."""
    oracle = Oracle.of(plan)
    expected = oracle.num_batches, oracle.num_windows, oracle.num_phases, oracle.phase
    assert expected == (plan.num_batches, plan.num_windows, plan.num_phases, plan.phase)


@given(plans())
def test_the_plan_accounts_for_every_token(plan: Plan) -> None:
    """Tokens that are inputs, and tokens that are none, are as many as counted one by one."""
    windows = [window for row in Oracle.of(plan).windows() for window in row]
    inputs = [start + offset for start, length in windows for offset in range(length)]
    dropped = set(range(plan.num_tokens)) - set(inputs)
    assert (len(inputs), len(dropped)) == (plan.num_inputs, plan.num_dropped)


@settings(max_examples=200)
@given(plans())
def test_starts_and_lengths_are_the_oracles(plan: Plan) -> None:
    """The whole array of an epoch is the oracle's, window by window."""
    windows = Oracle.of(plan).windows()
    expected = (
        [[window.start for window in row] for row in windows],
        [[window.length for window in row] for row in windows],
    )
    starts = plan.starts(range(plan.num_batches))
    assert expected == (starts.tolist(), plan.lengths(starts).tolist())


@settings(max_examples=200)
@given(huge_plans(), st.data())
def test_windows_of_huge_plans_are_the_oracles(plan: Plan, data: st.DataObject) -> None:
    """Any window is the oracle's, near the end of the range of integers too."""
    last_row, last_column = plan.num_batches - 1, plan.batch_size - 1
    row = data.draw(st.sampled_from([0, last_row]) | st.integers(0, last_row), label="row")
    column = data.draw(st.sampled_from([0, last_column]) | st.integers(0, last_column))
    columns = range(column, column + 1)
    starts = plan.starts(range(row, row + 1), columns)
    actual = int(starts[0, 0]), int(plan.lengths(starts, columns)[0, 0])
    assert Oracle.of(plan).window(row, column) == actual


@given(plans(), st.integers(2, 100), st.data())
def test_streams_are_the_oracles(plan: Plan, later: int, data: st.DataObject) -> None:
    """Every rank of a world reads the oracle's rows, in this epoch, the next and a later one."""
    world_size = data.draw(
        st.sampled_from([n for n in range(1, 13) if plan.batch_size % n == 0]), label="world_size"
    )
    rank = data.draw(st.integers(0, world_size - 1), label="rank")
    windows = make_windows(plan, shard=tl.Shard(rank=rank, world_size=world_size))
    num_columns = plan.batch_size // world_size
    columns = range(rank * num_columns, (rank + 1) * num_columns)
    tokens = range(plan.num_tokens)
    for epoch in (plan.epoch, plan.epoch + 1, plan.epoch + later):
        oracle = dataclasses.replace(Oracle.of(plan), epoch=epoch)
        expected = [
            (epoch, index, rows) for index, rows in enumerate(oracle.batches(tokens, columns))
        ]
        windows.set_epoch(epoch)
        assert expected == [(batch.epoch, batch.index, rows_of(batch)) for batch in windows]
