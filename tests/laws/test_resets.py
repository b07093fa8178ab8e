"""Where documents start in batches, against plain Python, in every way to read them."""

import pickle
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import tokenloom as tl
from tests.support.plan.oracle import Oracle, Window
from tests.support.plan.strategies import plans
from tokenloom.plan.plan import Plan


class Facts(NamedTuple):
    """What a batch says about documents."""

    resets: list[list[bool]]
    ids: list[list[int]]
    positions: list[list[int]]
    bounds: list[int]
    labels: list[list[int]]


@st.composite
def corpora(draw: st.DrawFn, num_tokens: int) -> tl.Corpus:
    """Draw documents of any length, some without tokens, perhaps cut out of a larger corpus."""
    before, behind = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    whole = before + num_tokens + behind
    cuts = draw(st.lists(st.integers(0, whole), max_size=1 + whole // 3))
    corpus = tl.Corpus.from_tokens(
        np.arange(whole, dtype=np.uint16), documents=[0, *sorted(cuts), whole]
    )
    return corpus.slice(before, before + num_tokens)


def expected_facts(windows: list[Window], corpus: tl.Corpus, seq_len: int) -> Facts:
    """Return resets, document ids, position ids, bounds and inner labels of a batch, slowly."""
    assert corpus.documents is not None
    starts = set(corpus.documents[:-1].tolist()) - {len(corpus)}
    facts = Facts([], [], [], [], [])
    for row, (start, length) in enumerate(windows):
        resets: list[bool] = []
        ids: list[int] = []
        positions: list[int] = []
        labels: list[int] = []
        for step in range(seq_len):
            is_padded, token = step >= length, start + step
            resets.append(not is_padded and token in starts)
            begins = step in (0, length) or resets[-1]
            if begins:
                facts.bounds.append(row * seq_len + step)
            positions.append(0 if begins else positions[-1] + 1)
            number = 0 if step == 0 else ids[-1] + resets[-1]
            ids.append(-1 if is_padded else number)
            is_learned = not is_padded and token + 1 not in starts
            labels.append(int(corpus.tokens[token + 1]) if is_learned else -100)
        facts.resets.append(resets)
        facts.ids.append(ids)
        facts.positions.append(positions)
        facts.labels.append(labels)
    facts.bounds.append(len(windows) * seq_len)
    return facts


def facts_of(batch: tl.Batch) -> Facts:
    """Return what a batch says about documents."""
    return Facts(
        batch.resets.tolist(),
        batch.document_ids.tolist(),
        batch.position_ids.tolist(),
        batch.cu_seqlens.tolist(),
        batch.as_dict(across_documents=False)["labels"].tolist(),
    )


def make(plan: Plan, corpus: tl.Corpus, shard: tl.Shard) -> Any:
    """Return the windows of a plan over a corpus."""
    kind = tl.RandomWindows if plan.kind == "random" else tl.SequentialWindows
    windows = kind(
        corpus,
        batch_size=plan.batch_size,
        seq_len=plan.seq_len,
        seed=plan.seed,
        tail=plan.tail,
        shard=shard,
        resets=True,
    )
    windows.set_epoch(plan.epoch)
    return windows


def streams(windows: Any) -> Iterator[Any]:
    """Yield an epoch's batches in every way that needs no other process."""
    yield list(windows)
    yield [pickle.loads(pickle.dumps(batch)) for batch in windows]  # noqa: S301  our own bytes
    yield list(tl.Loader(windows))
    yield list(tl.Loader(windows, device="cpu", worker_options=tl.WorkerOptions(block_size=2)))
    yield list(tl.Loader(windows, device="cpu", resident=True))
    loader = tl.Loader(windows)
    batches = iter(loader)
    first = [next(batches)]
    resumed = tl.Loader(windows)
    resumed.load_state_dict(loader.state_dict())
    yield [*first, *(resumed if len(windows) > 1 else [])]


@given(plans(), st.data())
def test_resets_are_where_documents_start(plan: Plan, data: st.DataObject) -> None:
    """Each rank's mask, ids, positions, bounds and labels are the oracle's, in every way."""
    corpus = data.draw(corpora(plan.num_tokens))
    world_size = data.draw(
        st.sampled_from([n for n in range(1, 13) if plan.batch_size % n == 0]), label="world_size"
    )
    shard = tl.Shard(rank=data.draw(st.integers(0, world_size - 1)), world_size=world_size)
    columns = shard.columns(plan.batch_size)
    expected = [
        expected_facts([row[column] for column in columns], corpus, plan.seq_len)
        for row in Oracle.of(plan).windows()
    ]
    for batches in streams(make(plan, corpus, shard)):
        assert expected == [facts_of(batch) for batch in batches]


@given(plans(), st.data())
def test_each_piece_is_numbered_from_zero(plan: Plan, data: st.DataObject) -> None:
    """The bounds of the pieces are where positions are 0, and the longest fits."""
    windows = make(plan, data.draw(corpora(plan.num_tokens)), tl.Shard())
    for batch in windows:
        flat = batch.position_ids.flatten()
        starts = (flat == 0).nonzero().flatten().tolist()
        assert [*starts, len(flat)] == batch.cu_seqlens.tolist()
        assert int(flat.max()) + 1 == batch.max_seqlen


@given(plans())
def test_a_model_that_shifts_learns_the_same(plan: Plan) -> None:
    """Of labels that are not shifted, all but the first of each row are the targets."""
    windows = make(
        plan,
        tl.Corpus.from_tokens(range(plan.num_tokens), documents=[0, plan.num_tokens]),
        tl.Shard(),
    )
    for batch in windows:
        plain, whole = batch.as_dict(), batch.as_dict(is_shifted=False)
        real = batch.mask
        assert plain["labels"].tolist() == whole["labels"][:, 1:].tolist()
        assert (whole["input_ids"][:, :-1] == plain["input_ids"])[real].all()
        learned = whole["labels"] >= 0
        assert (whole["labels"] == whole["input_ids"])[learned].all()
