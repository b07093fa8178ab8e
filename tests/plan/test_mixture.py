"""Mixtures of parts, computed from a few numbers."""

import dataclasses
import hashlib
import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.plan import uniformity
from tests.support.plan.mixture_oracle import MixtureOracle
from tests.support.plan.strategies import seeds
from tests.support.plan.uniformity import Places, pairs_apart, quotients
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.plan.mixture import (
    BLOCK,
    GRID,
    MixtureOrder,
    PartAccount,
    Stage,
    _draw,
    grid_weights,
    most_of,
    share_out,
)
from tokenloom.plan.permutation import MAX_SIZE, permute
from tokenloom.plan.plan import Plan

weights = st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any)


def make_order(
    lengths: list[int], stages: list[tuple[int, list[float]]], **options: Any
) -> MixtureOrder:
    """Return a mixture of parts called a, b, c and so on."""
    return MixtureOrder(
        names=tuple("abcdefgh"[: len(lengths)]),
        part_lengths=tuple(lengths),
        stages=tuple(Stage(first, grid_weights(each)) for first, each in stages),
        **options,
    )


def make_plan(order: MixtureOrder, **options: Any) -> Plan:
    """Return the plan of a mixture."""
    return Plan.of(order, num_tokens=sum(order.part_lengths), **options)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Plans of a few parts and stages, with short blocks."""
    num_parts = draw(st.integers(1, 4))
    seq_len = draw(st.integers(1, 6))
    lengths = draw(st.lists(st.integers(seq_len + 1, 90), min_size=num_parts, max_size=num_parts))
    firsts = sorted(draw(st.sets(st.integers(1, 300), max_size=2)))
    shares = st.lists(st.integers(0, 5), min_size=num_parts, max_size=num_parts).filter(any)
    order = make_order(
        lengths,
        [(first, [float(each) for each in draw(shares)]) for first in (0, *firsts)],
        num_epoch_tokens=draw(st.none() | st.integers(seq_len, 400)),
        block=draw(st.sampled_from([1, 2, 7, 16, BLOCK])),
    )
    return make_plan(order, seq_len=seq_len, batch_size=1, seed=draw(seeds))


@given(plans(), st.sampled_from([0, 1, 2, 3, 1000, 2**40]))
def test_windows_are_those_of_the_oracle(plan: Plan, epoch: int) -> None:
    """Vectorised over blocks and parts, it gives what plain integers give window by window."""
    order = plan.order
    assert isinstance(order, MixtureOrder)
    oracle = MixtureOracle.of(
        order, seq_len=plan.seq_len, num_windows=plan.num_windows, seed=plan.seed
    )
    expected = [oracle.start(epoch, position) for position in range(plan.num_batches)]
    assert expected == plan.at(epoch).starts(range(plan.num_batches)).ravel().tolist()


@given(plans(), st.integers(0, 5))
def test_positions_may_come_in_any_order(plan: Plan, epoch: int) -> None:
    """Where a window is does not depend on which others are asked for."""
    order, epoch_plan = plan.order, plan.at(epoch)
    assert isinstance(order, MixtureOrder)
    positions = np.arange(plan.num_windows)[::-1]
    backwards = order.starts_at(epoch_plan, positions)[::-1]
    alone = [order.starts_at(epoch_plan, np.array([[at]]))[0, 0] for at in positions[:5].tolist()]
    assert order.starts_at(epoch_plan, positions[::-1].copy()).tolist() == backwards.tolist()
    assert backwards[::-1][:5].tolist() == alone


@given(plans())
def test_each_window_of_a_part_comes_equally_often(plan: Plan) -> None:
    """Over several epochs: once in each epoch of the part, the last of which may be cut."""
    order = plan.order
    assert isinstance(order, MixtureOrder)
    starts = np.concatenate([plan.at(e).starts(range(plan.num_batches)).ravel() for e in range(4)])
    sources = order.sources_of(starts)
    for part, first in enumerate(order.bounds[:-1].tolist()):
        # Without a phase: the number of each window in its part.
        numbers = (starts[sources == part] - first) // plan.seq_len
        size = int(order._layout(plan.seq_len).sizes[part])
        times_read = np.bincount(numbers, minlength=size)
        assert times_read.max() - times_read.min() <= 1


@given(plans())
def test_no_part_is_read_twice_in_an_epoch_of_the_default_length(plan: Plan) -> None:
    """Whatever stage an epoch lies in; and one that is a window longer could read a part twice."""
    order = dataclasses.replace(plan.order, num_epoch_tokens=None)  # type: ignore[type-var]
    assert isinstance(order, MixtureOrder)
    plan = make_plan(order, seq_len=plan.seq_len, batch_size=1)
    for epoch in (0, 1, 2, 7, 50):
        accounts = plan.at(epoch).accounting()
        assert all(account.times_read <= 1 for account in accounts.values())
    layout, longer = order._layout(plan.seq_len), plan.num_windows + 1
    could_repeat = any(
        most > size
        for stage in order.stages
        for most, size in zip(most_of(longer, stage.weights), layout.sizes.tolist(), strict=True)
    )
    # Where the shares change within an epoch, what two stages round up adds up.
    order = dataclasses.replace(order, num_epoch_tokens=longer * plan.seq_len)
    plan = make_plan(order, seq_len=plan.seq_len, batch_size=1)
    changes = [plan.at(start // longer).accounting() for start in layout.starts]
    does_repeat = any(each.times_read > 1 for epoch in changes for each in epoch.values())
    assert could_repeat or does_repeat


@given(plans(), st.integers(1, 4), st.integers(0, 9))
def test_the_accounting_is_what_the_batches_read(plan: Plan, batch_size: int, epoch: int) -> None:
    """Also where an epoch ends within a block, and its last windows fill no batch."""
    batch_size = min(batch_size, plan.num_windows)
    plan = dataclasses.replace(plan, batch_size=batch_size, epoch=epoch)
    order = plan.order
    assert isinstance(order, MixtureOrder)
    sources = order.sources_of(plan.starts(range(plan.num_batches)))
    counted = np.bincount(sources.ravel(), minlength=len(order.names)).tolist()
    sizes = order._layout(plan.seq_len).sizes.tolist()
    expected = {
        name: PartAccount(windows, windows * plan.seq_len, windows / size)
        for name, windows, size in zip(order.names, counted, sizes, strict=True)
    }
    assert expected == plan.accounting()


@given(weights, st.integers(0, 10**6), st.integers(0, 100))
def test_shares_add_up_and_never_fall(shares: list[int], first: int, more: int) -> None:
    """And of successive windows no part gets more than `most_of` says."""
    before, after = share_out(first, shares), share_out(first + more, shares)
    grown = [b - a for a, b in zip(before, after, strict=True)]
    assert sum(before) == first
    assert min(grown) >= 0
    assert all(each <= most for each, most in zip(grown, most_of(more, shares), strict=True))
    assert all(not each for each, weight in zip(after, shares, strict=True) if weight == 0)


@pytest.mark.parametrize(("num_parts", "most"), [(2, 1.0), (8, 2.0), (64, 6.0)])
def test_shares_are_exact(num_parts: int, most: float) -> None:
    """At the end of any block a part is off its exact share by a few windows at most."""
    shares = grid_weights([1 / (number + 1) for number in range(num_parts)])
    exact = np.array(shares) / sum(shares)
    for num_windows in range(0, 10**7, 123_457):
        counts = np.array(share_out(num_windows, shares))
        assert np.abs(counts - num_windows * exact).max() <= most


def test_a_small_weight_is_drawn() -> None:
    """One of 0.0001 is: 100 windows of a million, which no rounding to percent takes away."""
    order = make_order([10**7, 10**6], [(0, [0.9999, 0.0001])], num_epoch_tokens=10**6)
    plan = make_plan(order, seq_len=1, batch_size=1000)
    # The last part also gets what the others' shares, rounded down, leave.
    assert 101 == plan.accounting()["b"].windows


@given(st.lists(st.floats(0, 1e308), min_size=1, max_size=9).filter(any))
def test_weights_of_any_size_fit_the_grid(shares: list[float]) -> None:
    """A weight that is not zero is drawn, and a share is off by at most one of the grid."""
    whole, exact = grid_weights(shares), [Fraction(share) for share in shares]
    for got, share in zip(whole, exact, strict=True):
        assert (got > 0) == (share > 0)
        assert abs(got - share / sum(exact) * GRID) <= 1


@pytest.mark.parametrize("seed", [0, 2**40 + 5])
def test_windows_far_into_a_training_are_exact(seed: int) -> None:
    """Up to window 2**62, and beyond it the epoch is refused."""
    order = make_order([10**12, 10**11, 999], [(0, [0.6, 0.3, 0.1]), (5 * 10**11, [0.1, 0.1, 0.8])])
    order = dataclasses.replace(order, num_epoch_tokens=10**13)
    plan = make_plan(order, seq_len=64, batch_size=8, seed=seed)
    last = MAX_SIZE // plan.num_windows - 1
    oracle = MixtureOracle.of(order, seq_len=64, num_windows=plan.num_windows, seed=seed)
    for epoch, row in ((0, 0), (0, 5 * 10**11 // 512), (last, plan.num_batches - 1)):
        # The oracle walks from block to block: it is told where they begin.
        starts = plan.at(epoch).starts(range(row, row + 1))[0].tolist()
        window = epoch * plan.num_windows + row * 8
        nearby = _Near(oracle, window)
        assert [nearby.start(epoch, row * 8 + each) for each in range(8)] == starts
    with pytest.raises(ArgumentError, match=f"epoch must be below {last + 1}"):
        plan.at(last + 1)


class _Near(MixtureOracle):
    """The oracle near a window that lies far from the begin of its epoch or stage."""

    def __init__(self, oracle: MixtureOracle, window: int) -> None:
        super().__init__(**{each.name: getattr(oracle, each.name) for each in _FIELDS})
        object.__setattr__(self, "window", window)

    def find_block(self, window: int) -> tuple[int, int]:
        epoch = window // self.num_windows
        begins = [-(-first // self.seq_len) for first, _ in self.stages]
        edges = [epoch * self.num_windows, (epoch + 1) * self.num_windows, *begins]
        first = max(edge for edge in edges if edge <= window)
        stop = min(edge for edge in edges if edge > window)
        first += (window - first) // self.block * self.block
        return first, min(first + self.block, stop)


_FIELDS = dataclasses.fields(MixtureOracle)


def digest(plan: Plan) -> str:
    """Return a digest of the starts of a thousand windows in the middle of an epoch."""
    middle = plan.num_batches // 2
    starts = plan.starts(range(middle, middle + 250)).astype("<i8")
    return hashlib.sha256(starts.tobytes()).hexdigest()[:12]


@pytest.mark.parametrize(
    ("seed", "epoch", "first", "expected"),
    [
        (0, 0, [50829, 273709, 319911, 266289], "014d30b68085"),
        (0, 1, [315274, 317934, 392995, 160454], "b33d5be9f1ee"),
        (0, 7, [390011, 391991, 392386, 391717], "647fa80085e5"),
        (2**32 + 5, 0, [119563, 94783, 146863, 72453], "f4dc2fbbfac9"),
        (2**32 + 5, 7, [382516, 390997, 199453, 394353], "c29b9805996c"),
    ],
)
def test_golden_mixtures(seed: int, epoch: int, first: list[int], expected: str) -> None:
    """The order of a mixture never changes silently: it would need another version."""
    order = make_order(
        [300_000, 90_000, 5_000], [(0, [0.7, 0.25, 0.05]), (600_000, [0.2, 0.3, 0.5])]
    )
    order = dataclasses.replace(order, num_epoch_tokens=500_000)
    plan = make_plan(order, seq_len=35, batch_size=4, seed=seed, epoch=epoch)
    assert (first, expected) == (plan.starts(range(1))[0].tolist(), digest(plan))


def test_windows_that_are_found_together_are_those_found_alone() -> None:
    """Whole blocks at once, of long and short parts, and a few windows of each, end alike."""
    order = make_order(
        [300_000, 40_000, 5_000], [(0, [0.7, 0.25, 0.05]), (30_000, [0.2, 0.3, 0.5])]
    )
    order = dataclasses.replace(order, num_epoch_tokens=100_000)
    plan = make_plan(order, seq_len=5, batch_size=4, epoch=1)
    whole = plan.starts(range(plan.num_batches))
    for step in (1, 2, 3, 50, 997):
        some = plan.starts(range(7, plan.num_batches, step), range(1, 3))
        assert whole[7::step, 1:3].tolist() == some.tolist()


def permute_blocks(seed: int, num_blocks: int, size: int) -> Places:
    """Return where successive blocks send their places, shape (num_blocks, size)."""
    keys = [_draw(seed, 0, block * size)[1:] for block in range(num_blocks)]
    return np.array([permute(np.arange(size), size=size, keys=each) for each in keys])


@pytest.mark.parametrize("size", [64, 285])
@pytest.mark.parametrize("pairs", ["themselves", "successive"])
def test_the_permutations_of_blocks_look_uniform(size: int, pairs: str) -> None:
    """Each of them, and what leads from one block to the next."""
    places = permute_blocks(5, 800, size)
    if pairs == "successive":
        places = quotients(places)
    for statistic in (
        uniformity.position_counts,
        uniformity.first_places,
        uniformity.fixed_points,
        uniformity.inversions,
        uniformity.serial_correlation,
    ):
        result = statistic(places)
        assert result.is_likely, (statistic, result)


def test_the_permutations_of_whole_blocks_look_uniform() -> None:
    """Of 4,096 windows each: neighbours, and the same places in successive blocks."""
    places = permute_blocks(0, 200, BLOCK)
    first = pairs_apart(BLOCK, 1)
    neighbours = places[:, first].ravel(), places[:, first + 1].ravel()
    for result in (
        uniformity.joint_places(*neighbours, BLOCK),
        uniformity.steps(*neighbours, BLOCK),
        uniformity.independent_places(places[:-1].ravel(), places[1:].ravel(), BLOCK),
        uniformity.fixed_points(places),
    ):
        assert result.is_likely, result


def test_orders_of_parts_and_of_their_epochs_are_independent() -> None:
    """Neither another part, nor the part's next epoch, nor the blocks share an order."""
    keys = [_draw(3, role, number)[1:] for role in range(40) for number in range(40)]
    indices = np.arange(2000)
    places = np.array([permute(indices, size=10**6, keys=each) for each in keys])
    for step in (1, 40):
        first, second = places[:-step].ravel(), places[step:].ravel()
        result = uniformity.independent_places(first, second, 10**6)
        assert result.is_likely, (step, result)


def test_padding_is_refused_with_the_reason() -> None:
    """A mixture has no last text."""
    with pytest.raises(ArgumentError, match='a mixture takes tail="drop" only: its parts end at'):
        make_plan(make_order([9, 9], [(0, [1, 1])]), seq_len=2, batch_size=1, tail="pad")


def test_a_part_shorter_than_a_window_is_refused_by_name() -> None:
    """The message says how many tokens it needs."""
    with pytest.raises(CorpusError, match=r"the part 'b' must hold .* 10 tokens, it has 9"):
        make_plan(make_order([90, 9], [(0, [1, 1])]), seq_len=9, batch_size=1)


@pytest.mark.parametrize(
    ("num_tokens", "what"), [(None, "the part that is used up first"), (39, "num_tokens=39")]
)
def test_an_epoch_shorter_than_a_batch_is_refused(num_tokens: int | None, what: str) -> None:
    """The message says what decides how long an epoch is."""
    order = make_order([90, 30], [(0, [1, 1])], num_epoch_tokens=num_tokens)
    with pytest.raises(CorpusError, match=f"a batch of 9 x 10 inputs needs 9 windows, .*{what}"):
        make_plan(order, seq_len=10, batch_size=9)


def test_the_corpus_is_that_of_the_parts() -> None:
    """A plan over another number of tokens is refused."""
    with pytest.raises(ArgumentError, match=r"num_tokens must be 18, .* got 19"):
        Plan.of(make_order([9, 9], [(0, [1, 1])]), num_tokens=19, seq_len=2, batch_size=1)


@pytest.mark.parametrize(
    ("num_epochs", "how_often"),
    [(2, None), (3, r"'b' would be read 1\.50 times in 3 epochs"), (None, "'a' .* without end")],
)
def test_a_part_that_would_be_read_too_often_is_refused_by_name(
    num_epochs: int | None, how_often: str | None
) -> None:
    """Over the epochs that are asked for, which may have no end."""
    order = make_order([1001, 201], [(0, [1, 1])], num_epoch_tokens=200, max_repeats=1)
    plan = make_plan(order, seq_len=1, batch_size=1)
    if how_often is None:
        order.check_epochs(plan, num_epochs)
        return
    with pytest.raises(ArgumentError, match=how_often):
        order.check_epochs(plan, num_epochs)


def test_a_pickled_order_is_equal() -> None:
    """And it is not larger after it was used."""
    order = make_order([90, 30], [(0, [1, 1])])
    size = len(pickle.dumps(order))
    make_plan(order, seq_len=3, batch_size=2).starts(range(1))
    assert order == pickle.loads(pickle.dumps(order))  # noqa: S301  its own
    assert size == len(pickle.dumps(order))
