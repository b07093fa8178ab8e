"""Packed order, compared with a slow oracle."""

import hashlib
import pickle
import tracemalloc
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.support.plan import uniformity
from tests.support.plan.packing import (
    count_best_fit_bins,
    cut,
    find_crossing,
    inputs_of,
    lengths_by_row,
    packed_plan,
    pairs_of,
    read_rows,
)
from tokenloom.corpus.document_lengths import DocumentsByLength
from tokenloom.corpus.offsets import DocumentOffsets
from tokenloom.errors import ArgumentError, CorpusError, UsageError
from tokenloom.plan.order import Tail
from tokenloom.plan.packed import PackedOrder
from tokenloom.plan.plan import Plan

LENGTHS = st.lists(st.integers(0, 30), min_size=1, max_size=40).filter(lambda all_: max(all_) > 1)

# Of 300 documents, see `_golden_lengths`: seed, epoch | digest of counts, starts and lengths of
# the pieces of all rows, of 64 inputs each.
GOLDEN = {
    (0, 0): "def27501b1aa",
    (0, 7): "5bfe6fb26c05",
    (1, 0): "e40cdb4e3190",
    (4294967301, 7): "7a622a6ab127",
}


def _golden_lengths() -> list[int]:
    return [(number * number * 37 + number * 11) % 150 for number in range(300)]


def _digest(plan: Plan) -> str:
    pieces = plan.references(range(plan.num_batches), range(plan.batch_size)).pieces
    assert pieces is not None
    arrays = (pieces.counts, pieces.starts, pieces.lengths)
    return hashlib.sha256(b"".join(a.astype("<i8").tobytes() for a in arrays)).hexdigest()[:12]


@given(
    lengths=LENGTHS,
    seq_len=st.integers(1, 20),
    batch_size=st.integers(1, 4),
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 2**40),
)
def test_every_pair_of_every_document_comes_once(
    lengths: list[int], seq_len: int, batch_size: int, seed: int, epoch: int
) -> None:
    """No pair is lost, none comes twice, and none crosses documents."""
    plan = packed_plan(lengths, seq_len=seq_len, batch_size=batch_size, seed=seed, epoch=epoch)
    rows = read_rows(plan)
    assert pairs_of(lengths) == inputs_of(rows)
    assert [] == find_crossing(rows, lengths)
    assert max(sum(length for _, length in row) for row in rows) <= seq_len
    assert (plan.num_inputs, plan.num_inputs + plan.num_dropped) == (
        len(pairs_of(lengths)),
        sum(lengths),
    )


@given(lengths=LENGTHS, seq_len=st.integers(1, 20))
def test_the_bins_are_those_of_best_fit_decreasing(lengths: list[int], seq_len: int) -> None:
    """Documents are cut into whole rows and a rest, and as many rows come out."""
    pieces = [piece for length in lengths for piece in cut(length - 1, seq_len)]
    plan = packed_plan(lengths, seq_len=seq_len)
    assert count_best_fit_bins(pieces, seq_len) == plan.num_windows
    assert Counter(pieces) == Counter(length for row in read_rows(plan) for _, length in row)


@given(
    lengths=LENGTHS,
    seq_len=st.integers(1, 20),
    batch_size=st.integers(1, 4),
    epoch=st.integers(0, 99),
)
def test_the_rows_that_fill_no_batch_are_dropped(
    lengths: list[int], seq_len: int, batch_size: int, epoch: int
) -> None:
    """The batches are the first of the padded ones, and the counts say what is missing."""
    padded = packed_plan(lengths, seq_len=seq_len, batch_size=batch_size, epoch=epoch)
    assume(padded.num_windows >= batch_size)
    plan = packed_plan(lengths, seq_len=seq_len, batch_size=batch_size, epoch=epoch, tail="drop")
    rows = read_rows(plan)
    assert plan.num_windows // batch_size == plan.num_batches
    assert read_rows(padded)[: len(rows)] == rows
    assert len(inputs_of(rows)) == plan.num_inputs
    assert sum(lengths) - plan.num_inputs == plan.num_dropped
    assert plan.num_inputs / (len(rows) * seq_len) == plan.fill


@given(lengths=LENGTHS, seq_len=st.integers(1, 20), batch_size=st.integers(1, 4), data=st.data())
def test_any_block_of_rows_is_cut_from_the_whole(
    lengths: list[int], seq_len: int, batch_size: int, data: st.DataObject
) -> None:
    """Rows and columns that are asked for by themselves are those of the whole plan."""
    plan = packed_plan(lengths, seq_len=seq_len, batch_size=batch_size)
    rows = read_rows(plan)
    row = data.draw(st.integers(0, plan.num_batches - 1))
    column = data.draw(st.integers(0, batch_size - 1))
    references = plan.references(range(row, row + 1), range(column, column + 1))
    assert references.pieces is not None
    got = zip(references.pieces.starts.tolist(), references.pieces.lengths.tolist(), strict=True)
    expected = rows[row * batch_size + column]
    assert expected == list(got)
    assert [[sum(length for _, length in expected)]] == references.lengths.tolist()  # type: ignore[union-attr]
    first = expected[0][0] if expected else sum(lengths) - 1
    assert [[first]] == plan.starts(range(row, row + 1), range(column, column + 1)).tolist()


def test_bins_differ_from_epoch_to_epoch() -> None:
    """The same lengths lie side by side in each epoch, and other documents have them."""
    lengths = _golden_lengths()
    first, second = (read_rows(packed_plan(lengths, seq_len=64, epoch=epoch)) for epoch in (0, 1))
    assert lengths_by_row(first) == lengths_by_row(second)
    mixed = [{frozenset(row) for row in rows if len(row) > 1} for rows in (first, second)]
    assert len(mixed[0] & mixed[1]) < len(mixed[0]) // 4


@pytest.mark.parametrize(("seed", "epoch"), GOLDEN)
def test_the_plan_is_the_one_of_every_release(seed: int, epoch: int) -> None:
    """A saved position stays good: these numbers are a promise."""
    plan = packed_plan(_golden_lengths(), seq_len=64, batch_size=3, seed=seed, epoch=epoch)
    assert GOLDEN[seed, epoch] == _digest(plan)


def test_documents_take_each_rank_of_their_length_equally_often() -> None:
    """Which of 40 documents of one length comes when is uniform over epochs."""
    lengths = [5] * 40
    places = [
        np.argsort([row[0][0] for row in read_rows(packed_plan(lengths, seq_len=4, epoch=epoch))])
        for epoch in range(800)
    ]
    assert uniformity.position_counts(np.array(places)).is_likely
    assert uniformity.inversions(np.array(places)).is_likely


def test_who_shares_a_row_is_uniform() -> None:
    """Each long document meets each short one equally often."""
    lengths = [6] * 24 + [4] * 24
    partners = np.zeros((24, 24), np.int64)
    for epoch in range(800):
        for row in read_rows(packed_plan(lengths, seq_len=8, epoch=epoch)):
            long, short = sorted(start for start, _ in row)
            partners[long // 6, (short - 144) // 4] += 1
    expected = 800 / 24
    statistic = float(((partners - expected) ** 2).sum()) / expected
    assert uniformity.ChiSquare(statistic * 23 / 24, 23 * 23).is_likely


def test_rows_come_in_an_order_of_their_own() -> None:
    """The lengths of rows say nothing about when they come."""
    lengths = [5] * 30 + [3] * 30
    places = []
    for epoch in range(800):
        rows = read_rows(packed_plan(lengths, seq_len=4, epoch=epoch))
        places.append([at for at, row in enumerate(rows) if row[0][1] == 4])
    # Of 45 rows 30 are those of the long documents: each place is one in 2 of 3 epochs.
    counts = np.bincount(np.ravel(places), minlength=45)
    expected, variance = 800 * 2 / 3, 800 * (2 / 3) * (1 / 3)
    statistic = float(((counts - expected) ** 2).sum() / variance) * 44 / 45
    assert uniformity.ChiSquare(statistic, 44).is_likely


@pytest.mark.parametrize(("seq_len", "least"), [(2048, 0.99), (8192, 0.985)])
def test_rows_of_ordinary_text_are_full(seq_len: int, least: float) -> None:
    """Log-normal lengths, as web pages have them, leave nearly no padding."""
    draw = np.random.default_rng(0)
    lengths = np.exp(draw.normal(6.2, 1.2, 20_000)).astype(int) + 1
    assert packed_plan(lengths.tolist(), seq_len=seq_len, batch_size=8, tail="drop").fill > least


@pytest.mark.parametrize("lengths", [[0], [1], [0, 1, 1, 0]])
@pytest.mark.parametrize("tail", ["drop", "pad"])
def test_documents_without_a_pair_are_refused(lengths: Sequence[int], tail: Tail) -> None:
    """There is nothing to learn in them."""
    with pytest.raises(CorpusError, match="needs a document of at least 2 tokens"):
        packed_plan(lengths, seq_len=4, tail=tail)


def test_too_few_documents_for_a_batch_are_refused() -> None:
    """The message says how many rows they fill."""
    with pytest.raises(CorpusError, match=r"3 rows of 4 inputs needs more .* fill 2 rows: lower"):
        packed_plan([5, 5], seq_len=4, batch_size=3, tail="drop")


def test_a_plan_of_another_corpus_is_refused() -> None:
    """The documents are those of the tokens."""
    order = packed_plan([5, 5], seq_len=4).order
    with pytest.raises(CorpusError, match="tokens of its documents, 10, got num_tokens=11"):
        Plan.of(order, num_tokens=11, seq_len=4, batch_size=1)


def test_the_name_alone_is_refused() -> None:
    """The order needs the documents."""
    with pytest.raises(ArgumentError, match="a plan in packed order needs more of the corpus"):
        Plan(kind="packed", num_tokens=11, seq_len=4, batch_size=1)


def test_lengths_do_not_follow_from_starts() -> None:
    """Nothing wrong is returned in silence."""
    plan = packed_plan([5, 5], seq_len=4, tail="drop")
    with pytest.raises(UsageError, match=r"ask plan.references\(rows, columns\).lengths"):
        plan.lengths(plan.starts(range(1)))


def test_equal_documents_make_equal_orders() -> None:
    """Plans are values: also after a pickle, and not with other documents."""
    plan = packed_plan([5, 3, 5], seq_len=4)
    assert plan == packed_plan([5, 3, 5], seq_len=4)
    assert plan == pickle.loads(pickle.dumps(plan))  # noqa: S301  its own
    assert hash(plan) == hash(packed_plan([5, 3, 5], seq_len=4))
    assert plan != packed_plan([5, 5, 3], seq_len=4)


def test_the_proof_has_the_documents() -> None:
    """Other documents of the same tokens are another plan."""
    proofs = [
        plan.order.proof(plan)
        for plan in (packed_plan(all_, seq_len=4) for all_ in ([5, 3], [4, 4]))
    ]
    differing = [name for name in proofs[0] if proofs[0][name] != proofs[1][name]]
    assert ["documents"] == differing


@pytest.mark.slow
def test_ten_million_documents_come_once_each() -> None:
    """The tables of the plan do not grow with the documents, and a block takes little memory."""
    draw = np.random.default_rng(0)
    lengths = np.exp(draw.normal(4.0, 1.0, 10**7)).astype(np.int64) + 1
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    order = PackedOrder(DocumentsByLength.of(DocumentOffsets(offsets)))
    plan = Plan.of(
        order, num_tokens=int(offsets[-1]), seq_len=2048, batch_size=64, seed=5, tail="pad"
    )
    assert plan.fill > 0.99
    seen = np.zeros(len(lengths), np.int64)
    for first in range(0, plan.num_batches, 256):
        rows = range(first, min(first + 256, plan.num_batches))
        pieces = plan.references(rows, range(64)).pieces
        assert pieces is not None
        documents = np.searchsorted(offsets, pieces.starts, side="right") - 1
        assert bool((pieces.starts + pieces.lengths < offsets[documents + 1]).all())
        np.add.at(seen, documents, pieces.lengths)
    # No piece comes twice, since all of them together have each document's number of pairs.
    assert bool((seen == lengths - 1).all())
    tracemalloc.start()
    plan.references(range(1000, 1001), range(64))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
