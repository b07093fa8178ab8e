"""What any order answers, and the defaults that an order has without a word."""

import dataclasses
from types import MappingProxyType
from typing import final

import pytest

import tokenloom as tl
from tokenloom.errors import CorpusError
from tokenloom.plan import ORDERS, Order, Plan, PlanSettings, plan
from tokenloom.plan.order import IntArray, draw_phase
from tokenloom.plan.state import describe_position, restore_position


@final
class FileOrder(Order):
    """The windows as they stand in the corpus, from the phase on."""

    kind = "file"
    carries_state = False

    def starts(self, settings: PlanSettings, rows: IntArray, columns: IntArray) -> IntArray:
        """Return where windows start; see `Order.starts`."""
        positions = rows * settings.batch_size + columns
        starts: IntArray = draw_phase(settings) + positions * settings.seq_len
        return starts.clip(max=settings.num_tokens - 1)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let plans know the order."""
    orders = MappingProxyType({**ORDERS, "file": FileOrder()})
    monkeypatch.setattr(plan, "ORDERS", orders)


def test_an_order_with_three_answers_is_a_whole_one() -> None:
    """Counts, lengths, version and proof have defaults."""
    padded = Plan(kind="file", num_tokens=24, seq_len=5, batch_size=3, tail="pad")
    assert (2, 23, 1) == (padded.num_batches, padded.num_inputs, padded.num_dropped)
    starts = padded.starts(range(2))
    assert [[0, 5, 10], [15, 20, 23]] == starts.tolist()
    assert [[5, 5, 5], [5, 3, 0]] == padded.lengths(starts).tolist()
    proof = {"num_tokens": 24, "seq_len": 5, "batch_size": 3, "seed": 0, "tail": "pad"}
    assert proof == padded.order.proof(padded)
    assert (1, 2) == (padded.order.version(0, 0), padded.order.version(0, 1 << 32))


def test_the_default_of_a_short_corpus_is_refused() -> None:
    """The message is that of the orders that are built in."""
    with pytest.raises(CorpusError, match="one batch of 3 x 5 inputs needs at least 16 tokens"):
        Plan(kind="file", num_tokens=15, seq_len=5, batch_size=3)


def test_a_position_of_another_order_is_refused() -> None:
    """The order is part of the proof."""
    settings = Plan(kind="file", num_tokens=400, seq_len=5, batch_size=3)
    state = describe_position(settings, corpus_hash="h", next_batch=1)
    other = dataclasses.replace(settings, kind="random")
    with pytest.raises(tl.StateMismatchError, match="kind: saved 'file', now 'random'"):
        restore_position(state, plan=other, corpus_hash="h")
