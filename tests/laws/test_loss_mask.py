"""The laws for a corpus with a loss mask: the same stream, in which some targets do not count.

Every token of the test corpora is its own position, so a target of the stream without
the mask says which value of the mask is its own.
"""

import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import tokenloom as tl
from tests.support.plan.packing import offsets_of
from tokenloom.errors import CorpusError, LawError
from tokenloom.loading import Windows
from tokenloom.plan import Order, Pieces, PlanSettings, ShuffledOrder
from tokenloom.plan.order import IntArray
from tokenloom.testing import (
    assert_resumes_everywhere,
    check_batches,
    check_length,
    check_ranks,
    check_state,
)

Stream = Iterable[tl.Batch]


class BackwardsOrder(ShuffledOrder):
    """The windows from the last to the first: an order that nobody registered."""

    kind = "backwards"
    carries_state = False

    def starts_at(self, settings: PlanSettings, positions: IntArray) -> IntArray:
        """Return where windows start; see `ShuffledOrder.starts_at`."""
        starts = (self.num_windows(settings) - 1 - positions) * settings.seq_len
        return np.where(starts < 0, settings.num_tokens - 1, starts)


class HalvesOrder(BackwardsOrder):
    """The same windows, each in two pieces of which the later one comes first."""

    kind = "halves"
    has_pieces = True

    def pieces_at(self, settings: PlanSettings, positions: IntArray) -> Pieces:
        """Return the pieces of windows: none of padding, one of a single input."""
        counts, starts, lengths = [], list[int](), list[int]()
        for start in self.starts_at(settings, positions).ravel().tolist():
            stop = min(start + settings.seq_len, settings.num_tokens - 1)
            middle = (start + stop) // 2
            halves = [
                (first, last) for first, last in ((middle, stop), (start, middle)) if first < last
            ]
            counts.append(len(halves))
            starts += [first for first, _ in halves]
            lengths += [last - first for first, last in halves]
        return Pieces(
            counts=np.array(counts).reshape(positions.shape),
            starts=np.array(starts, np.int64),
            lengths=np.array(lengths, np.int64),
        )


OWN: dict[str, Order] = {order.kind: order for order in (BackwardsOrder(), HalvesOrder())}
ORDERS = ["random", "sequential", "packed", *OWN]


def _through_pickles(batches: Stream) -> Stream:
    return (pickle.loads(pickle.dumps(batch)) for batch in batches)  # noqa: S301  made here


WAYS: dict[str, Callable[[Windows], Stream]] = {
    "windows": lambda windows: windows,
    "pickled": _through_pickles,
    "loader": tl.Loader,
    "threads": lambda windows: tl.Loader(windows, num_workers=2),
    "device": lambda windows: tl.Loader(windows, device="cpu"),
    "resident": lambda windows: tl.Loader(windows, device="cpu", resident=True),
    "resident, pickled": lambda windows: _through_pickles(
        tl.Loader(windows, device="cpu", resident=True)
    ),
}


def expect(batch: tl.Batch, mask: list[int]) -> tuple[list[list[int]], list[list[bool]]]:
    """Return the targets and the mask of a batch of positions, one by one."""
    targets, counts = [], []
    for row in batch.targets.tolist():
        counts.append([target >= 0 and mask[target] == 1 for target in row])
        pairs = zip(row, counts[-1], strict=True)
        targets.append([target if is_learnt else -100 for target, is_learnt in pairs])
    return targets, counts


def check_equal(batch: tl.Batch, plain: tl.Batch, mask: list[int]) -> None:
    """Check that a batch is the one without a mask, but for what does not count."""
    targets, counts = expect(plain, mask)
    assert (batch.inputs.tolist(), batch.targets.tolist()) == (plain.inputs.tolist(), targets)
    assert batch.mask.tolist() == counts
    assert batch.num_targets == sum(map(sum, counts))
    assert batch.num_inputs == plain.num_inputs
    assert batch.resets.tolist() == plain.resets.tolist()
    assert batch.document_ids.tolist() == plain.document_ids.tolist()


@st.composite
def corpora(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Lengths of documents, and a mask of their tokens."""
    lengths = draw(st.lists(st.integers(0, 25), min_size=1, max_size=20))
    assume(max(lengths) > 1)
    bits = st.integers(0, 1)
    return lengths, draw(st.lists(bits, min_size=sum(lengths), max_size=sum(lengths)))


def make(order: str, lengths: list[int], mask: Any, **options: Any) -> Windows:
    """Return windows over a corpus of positions; none that are too many for it."""
    tokens, documents = np.arange(sum(lengths)), offsets_of(lengths)
    corpus = tl.Corpus.from_tokens(tokens, documents=documents, loss_mask=mask)
    try:
        return Windows(OWN.get(order, order), corpus, **options)
    except CorpusError:
        assume(False)  # noqa: FBT003  hypothesis's way
        raise


@settings(max_examples=100, deadline=None)
@given(
    corpora(),
    st.sampled_from(ORDERS),
    st.sampled_from(["drop", "pad"]),
    st.sampled_from(sorted(WAYS)),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 12),
)
def test_a_target_counts_where_its_token_is_learnt(
    corpus: tuple[list[int], list[int]], order: str, tail: Any, way: str, rows: int, seq_len: int
) -> None:
    """In every order, by every way, with padding, and with documents kept apart."""
    lengths, mask = corpus
    options = {"batch_size": rows, "seq_len": seq_len, "tail": tail}
    plain = make(order, lengths, None, **options)
    masked = make(order, lengths, mask, **options)
    for batch, expected in zip(WAYS[way](masked), plain, strict=True):
        check_equal(batch, expected, mask)
        check_equal(batch.within_documents(), expected.within_documents(), mask)
        labels = batch.as_dict(is_shifted=False)["labels"][:, 1:]
        assert labels.tolist() == batch.targets.tolist()


LENGTHS = [30, 12, 0, 7, 25, 1, 18, 40, 5, 11, 22, 9, 14, 31]
MASK = (np.arange(sum(LENGTHS)) * 7 % 5 < 2).astype(np.uint8)


def windows_of(order: str, rank: int = 0, world_size: int = 1, mask: Any = MASK) -> Windows:
    """Return windows of the corpus with a mask, for a rank."""
    shard = tl.Shard(rank=rank, world_size=world_size)
    options: Any = {"batch_size": 4, "seq_len": 8, "tail": "pad", "shard": shard}
    return make(order, LENGTHS, mask, **options)


@pytest.mark.parametrize("order", ORDERS)
def test_the_laws_hold(order: str) -> None:
    """What is learnt travels with the batch, to ranks and after a resume."""
    windows = windows_of(order)
    check_batches(windows, range(len(windows)))
    check_length(windows)
    check_ranks(lambda rank, world_size: windows_of(order, rank, world_size), 2)
    check_state(tl.Loader(windows))
    assert_resumes_everywhere(lambda: [tl.Loader(windows_of(order))])


def test_the_laws_see_a_mask_that_is_not_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that learns all is another one."""
    monkeypatch.setattr("tokenloom.loading.read_ahead.read_block", _read_without_mask)
    windows = windows_of("random")
    with pytest.raises(LawError, match="law 2"):
        check_batches(windows, range(len(windows)))


def _read_without_mask(tokens: Any, references: Any, **options: Any) -> Any:
    from tokenloom.loading.blocks import read_block  # noqa: PLC0415  it is patched elsewhere

    return read_block(tokens, references, documents=options["documents"])


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("is_stored", [False, True])
def test_workers_change_nothing(order: str, is_stored: bool, tmp_path: Path) -> None:
    """Processes of a DataLoader read the mask where the tokens lie."""
    windows = windows_of(order)
    expected = list(windows)
    if is_stored:
        stored = tl.Corpus.open(windows.corpus.save(tmp_path / "store", shard_tokens=50))
        windows = Windows(OWN.get(order, order), stored, batch_size=4, seq_len=8, tail="pad")
    loader = DataLoader(windows, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    for batch, wanted in zip(loader, expected, strict=True):
        assert batch.targets.tolist() == wanted.targets.tolist()
        assert batch.mask.tolist() == wanted.mask.tolist()
        assert batch.num_targets == wanted.num_targets


def test_a_mixture_of_parts_with_and_without() -> None:
    """All tokens of a part without a mask are learnt."""
    web, code = np.arange(300), np.arange(300, 500)
    mask = [*(np.arange(300) % 3 == 0), *[True] * 200]
    parts = {
        "web": (tl.Corpus.from_tokens(web, vocab_size=500, loss_mask=mask[:300]), 0.5),
        "code": (tl.Corpus.from_tokens(code, vocab_size=500), 0.5),
    }
    sources = set()
    for batch in tl.RandomWindows(tl.Mixture(parts), batch_size=2, seq_len=8):
        after = batch.inputs + 1
        learnt = torch.from_numpy(np.array(mask))[after]
        assert torch.equal(batch.mask, learnt)
        assert torch.equal(batch.targets, after.where(learnt, torch.tensor(-100)))
        sources |= set(batch.sources.tolist())
    assert sources == {0, 1}


def test_the_mask_is_part_of_the_proof() -> None:
    """A position among other targets is refused, and one of the same mask is not."""
    loader = tl.Loader(windows_of("random"))
    state = loader.state_dict()
    tl.Loader(windows_of("random", mask=MASK == 1)).load_state_dict(state)
    for other in (None, 1 - MASK):
        with pytest.raises(tl.StateMismatchError, match="corpus"):
            tl.Loader(windows_of("random", mask=other)).load_state_dict(state)
