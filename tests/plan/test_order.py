"""What any order answers, and the defaults that an order has without a word."""

import dataclasses
import pickle
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

import tokenloom as tl
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.plan import ORDERS, Order, Pieces, Plan, PlanSettings, ShuffledOrder, plan
from tokenloom.plan.order import IntArray, draw_phase
from tokenloom.plan.state import describe_position, restore_position


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
    state = describe_position(settings, proof={"corpus": "h"}, next_batch=1)
    other = dataclasses.replace(settings, kind="random")
    with pytest.raises(tl.StateMismatchError, match="kind: saved 'file', now 'random'"):
        restore_position(state, plan=other, proof={"corpus": "h"})


class OwnOrder(FileOrder):
    """An order that nobody registered."""

    kind = "own"


def test_an_order_of_ones_own_needs_no_name() -> None:
    """Windows take the object, and everything of theirs works as with a name."""
    corpus = tl.Corpus.from_tokens(np.arange(400, dtype=np.uint16))
    windows = tl.Windows(OwnOrder(), corpus, batch_size=3, seq_len=5)
    assert 26 == len(windows)
    assert [1, 2, 3, 4, 5] == (next(iter(windows)).inputs - windows.plan.phase)[0].add(1).tolist()
    assert "own" == tl.Loader(windows).state_dict()["kind"]
    copied = pickle.loads(pickle.dumps(windows))  # noqa: S301  its own
    assert type(copied.plan.order) is OwnOrder


def test_an_order_of_ones_own_has_a_name_of_its_own() -> None:
    """Positions tell orders apart by their names."""
    order = OwnOrder()
    sizes: dict[str, Any] = {"num_tokens": 24, "seq_len": 5, "batch_size": 3}
    with pytest.raises(ArgumentError, match="must not be one of tokenloom's, got 'file'"):
        Plan.of(FileOrder(), **sizes)
    with pytest.raises(ArgumentError, match="kind must be that of the order, 'own', got 'other'"):
        Plan(kind="other", own_order=order, **sizes)
    for wrong in (3, OwnOrder, object()):
        with pytest.raises(ArgumentError, match=r"derives from tokenloom\.plan\.Order, got"):
            Plan.of(wrong, **sizes)


def test_an_order_without_a_name_is_refused() -> None:
    """What its class lacks is named, and what it is for."""

    class Nameless(FileOrder):
        """An order whose class forgot what saved positions need."""

        kind = None  # type: ignore[assignment]  # that is the point

    class Undecided(OwnOrder):
        """An order that does not say whether rows continue each other."""

        carries_state = 1  # type: ignore[assignment]  # that is the point

    corpus = tl.Corpus.from_tokens(np.arange(400, dtype=np.uint16))
    for order, message in (
        (Nameless(), "the order Nameless must have kind, a str, .* got none"),
        (Undecided(), "the order Undecided must have carries_state, True or False: .* got 1"),
    ):
        with pytest.raises(ArgumentError, match=message):
            tl.Windows(order, corpus, batch_size=3, seq_len=5)


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda starts: starts.astype(float), r"an array of float64, shape \(1, 3\)"),
        (lambda starts: starts.astype(np.int32), r"an array of int32, shape \(1, 3\)"),
        (lambda starts: starts[0], r"an array of int64, shape \(3,\)"),
        (lambda starts: starts[:, :1], r"an array of int64, shape \(1, 1\)"),
        (lambda starts: starts.tolist(), r"\[\[\d+, \d+, \d+\]\]"),
        (lambda starts: starts.tobytes()[:1], "b"),
    ],
)
def test_starts_of_another_shape_are_refused_at_once(
    change: Callable[[Any], Any], got: str
) -> None:
    """When windows are made, and not by a batch that is wrong or fails."""

    class Changed(OwnOrder):
        """An order whose starts are something else."""

        def starts(self, *arguments: Any) -> Any:
            """Return them."""
            return change(super().starts(*arguments))

    corpus = tl.Corpus.from_tokens(np.arange(400, dtype=np.uint16))
    expected = r"Changed\.starts must return an int64 array .* of shape \(1, 3\) .*, got "
    with pytest.raises(ArgumentError, match=expected + got):
        tl.Windows(Changed(), corpus, batch_size=3, seq_len=5)


def test_the_registered_object_is_its_name() -> None:
    """A listed order may be given itself."""
    sizes: dict[str, Any] = {"num_tokens": 24, "seq_len": 5, "batch_size": 3}
    assert Plan.of(ORDERS["random"], **sizes) == Plan(kind="random", **sizes)


def test_pieces_are_cut_by_rows() -> None:
    """Batches of 2 rows with 1, 2 and 0, 1 pieces: the second has the last piece."""
    pieces = Pieces(
        counts=np.array([[1, 2], [0, 1]]), starts=np.array([0, 5, 9, 20]), lengths=np.arange(1, 5)
    )
    first, second = pieces.split(1)
    assert ([[0, 1]], [20], [4]) == (
        second.counts.tolist(),
        second.starts.tolist(),
        second.lengths.tolist(),
    )
    assert [0, 5, 9] == first.starts.tolist()
    assert [pieces.starts.tolist()] == [each.starts.tolist() for each in pieces.split(3)]


class ReversedOrder(ShuffledOrder):
    """The windows from the last to the first, without a phase; with pieces, for the test."""

    kind = "reversed"
    carries_state = False

    def starts_at(self, settings: PlanSettings, positions: IntArray) -> IntArray:
        """Return where windows start; see `ShuffledOrder.starts_at`."""
        starts = (self.num_windows(settings) - 1 - positions) * settings.seq_len
        return np.where(starts < 0, settings.num_tokens - 1, starts)

    def pieces_at(self, settings: PlanSettings, positions: IntArray) -> Pieces:
        """Return a piece for each row."""
        starts = self.starts_at(settings, positions).ravel()
        lengths = np.full_like(starts, settings.seq_len)
        return Pieces(counts=np.ones_like(positions), starts=starts, lengths=lengths)

    def num_windows(self, settings: PlanSettings) -> int:
        """Return how many windows an epoch has: two fewer than there could be."""
        return super().num_windows(settings) - 2


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7])
@pytest.mark.parametrize("tail", ["drop", "pad"])
def test_batches_are_cut_from_a_line_of_windows(batch_size: int, tail: Any) -> None:
    """Whatever the size of a batch, the line is the same; and counts follow from the line."""
    cut = Plan.of(ReversedOrder(), num_tokens=51, seq_len=5, batch_size=batch_size, tail=tail)
    line = [35, 30, 25, 20, 15, 10, 5, 0] if tail == "pad" else [30, 25, 20, 15, 10, 5, 0]
    num_batches = -(-len(line) // batch_size) if tail == "pad" else len(line) // batch_size
    assert (len(line), num_batches) == (cut.num_windows, cut.num_batches)
    flat = cut.starts(range(cut.num_batches)).ravel().tolist()
    padding = [50] * (num_batches * batch_size - len(line))
    assert [*line, *padding][: num_batches * batch_size] == flat
    pieces = cut.references(range(num_batches)[-1:], range(batch_size)).pieces
    assert pieces is not None
    assert flat[-batch_size:] == pieces.starts.tolist()
