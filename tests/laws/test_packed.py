"""The laws for packed documents, against slow and obvious code.

Every token of the test corpora is its own position, so a batch says which tokens it
holds.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

import tokenloom as tl
from tests.support.plan.packing import offsets_of, pairs_of
from tokenloom.errors import ArgumentError, CorpusError, LawError
from tokenloom.testing import (
    assert_resumes_everywhere,
    check_batches,
    check_cost,
    check_length,
    check_seeds,
    check_state,
    laws,
)


def rows_of(batch: tl.Batch) -> tuple[Any, ...]:
    """Return everything that a batch says, to be compared."""
    tensors = (
        *(batch.inputs, batch.targets, batch.mask, batch.resets, batch.document_ids),
        *(batch.position_ids, batch.cu_seqlens),
    )
    return batch.epoch, batch.index, batch.num_targets, *(tensor.tolist() for tensor in tensors)


def corpus_of(lengths: list[int]) -> tl.Corpus:
    """Return a corpus of documents of these lengths, whose tokens are their positions."""
    return tl.Corpus.from_tokens(np.arange(sum(lengths)), documents=offsets_of(lengths))


def _lengths(corpus: tl.Corpus) -> list[int]:
    documents = corpus.document_offsets
    assert documents is not None
    lengths: list[int] = documents.lengths().tolist()
    return lengths


@st.composite
def packed_windows(draw: st.DrawFn, *, tail: str | None = None) -> tl.PackedWindows:
    """Windows of small packed corpora."""
    lengths = draw(st.lists(st.integers(0, 25), min_size=1, max_size=40))
    assume(max(lengths) > 1)
    tail = draw(st.sampled_from(["drop", "pad"])) if tail is None else tail
    try:
        windows = tl.PackedWindows(
            corpus_of(lengths),
            batch_size=draw(st.sampled_from([1, 2, 4, 6])),
            seq_len=draw(st.integers(1, 30)),
            seed=draw(st.integers(0, 2**64 - 1)),
            tail=tail,  # type: ignore[arg-type]  # one of two
        )
    except CorpusError:
        assume(False)  # noqa: FBT003  hypothesis's way
        raise
    windows.set_epoch(draw(st.integers(0, 2**33)))
    return windows


def part_of(windows: tl.PackedWindows, rank: int, world_size: int) -> tl.PackedWindows:
    """Return the windows of a rank."""
    plan = windows.plan
    part = tl.PackedWindows(
        windows.corpus,
        batch_size=plan.batch_size,
        seq_len=plan.seq_len,
        seed=plan.seed,
        tail=plan.tail,
        shard=tl.Shard(rank=rank, world_size=world_size),
    )
    part.set_epoch(plan.epoch)
    return part


@given(packed_windows())
def test_pairs_are_those_of_documents_and_none_comes_twice(windows: tl.PackedWindows) -> None:
    """Laws 1, 2 and 7: each pair is of one document; padded, all of them come."""
    lengths = _lengths(windows.corpus)
    expected = pairs_of(lengths)
    inputs: list[int] = []
    for batch in windows:
        read = batch.inputs[batch.mask]
        assert (read + 1).tolist() == batch.targets[batch.mask].tolist()
        assert {-100} >= set(batch.targets[~batch.mask].tolist())
        assert int(batch.mask.sum()) == batch.num_targets
        inputs.extend(read.tolist())
    assert len(inputs) == len(set(inputs)) == windows.plan.num_inputs
    assert set(inputs) <= set(expected)
    if windows.plan.tail == "pad":
        assert expected == sorted(inputs)
    assert sum(lengths) - len(inputs) == windows.plan.num_dropped


@given(packed_windows())
def test_batches_say_where_documents_are(windows: tl.PackedWindows) -> None:
    """Numbers, positions and bounds follow from the tokens alone."""
    lengths = _lengths(windows.corpus)
    document = [number for number, length in enumerate(lengths) for _ in range(length)]
    for batch in windows:
        for row in range(len(batch.inputs)):
            fill = int(batch.mask[row].sum())
            tokens = batch.inputs[row, :fill].tolist()
            # A whole window of a document and its rest are never in one row.
            of = [document[token] for token in tokens]
            numbers = [len(list(group)) for _, group in itertools.groupby(of)]
            ids = [number for number, size in enumerate(numbers) for _ in range(size)]
            places = [place for size in numbers for place in range(size)]
            padding = batch.inputs.shape[1] - fill
            assert ids + [-1] * padding == batch.document_ids[row].tolist()
            assert places == batch.position_ids[row, :fill].tolist()
            assert [place == 0 for place in places] + [False] * padding == batch.resets[
                row
            ].tolist()
        pieces = torch.diff(batch.cu_seqlens).tolist()
        assert (batch.inputs.numel(), batch.max_seqlen) == (sum(pieces), max(pieces))


@settings(max_examples=12)
@given(windows=packed_windows(), block_size=st.integers(1, 9))
def test_workers_ranks_and_devices_change_nothing(
    windows: tl.PackedWindows, block_size: int
) -> None:
    """Laws 3 and 4: threads, the device's memory, and ranks side by side."""
    expected = [rows_of(batch) for batch in windows]
    options = tl.WorkerOptions(block_size=block_size)
    for arguments in ({"num_workers": 2}, {"device": "cpu"}, {"device": "cpu", "resident": True}):
        loader = tl.Loader(windows, worker_options=options, **arguments)
        assert expected == [rows_of(batch) for batch in loader]
    size = 2 if windows.plan.batch_size % 2 == 0 else 1
    ranks = [part_of(windows, rank, size) for rank in range(size)]
    got = [
        [[name, *_side_by_side(parts, name)] for name in ("inputs", "targets", "document_ids")]
        for parts in zip(*ranks, strict=True)
    ]
    assert [
        [[name, *getattr(batch, name).tolist()] for name in ("inputs", "targets", "document_ids")]
        for batch in windows
    ] == got


def _side_by_side(parts: tuple[tl.Batch, ...], name: str) -> Iterator[list[int]]:
    return itertools.chain.from_iterable(getattr(part, name).tolist() for part in parts)


LENGTHS = [(number * 37 + number * number * 11) % 90 for number in range(120)]


def _windows(**arguments: Any) -> tl.PackedWindows:
    return tl.PackedWindows(
        corpus_of(LENGTHS), **{"batch_size": 4, "seq_len": 48, "seed": 3, **arguments}
    )


@pytest.mark.parametrize("tail", ["drop", "pad"])
def test_the_checks_of_the_laws_hold(tail: str) -> None:
    """What `tokenloom.testing` checks of any windows holds for these."""
    windows = _windows(tail=tail)
    check_batches(windows, range(len(windows)))
    check_length(windows)
    check_state(tl.Loader(windows))
    check_cost(windows.plan)


@pytest.mark.slow
def test_seeds_decide_the_order() -> None:
    """Law 8, in other processes too."""
    check_seeds(_windows().plan)


@pytest.mark.parametrize("tail", ["drop", "pad"])
def test_positions_resume_after_each_batch(tail: str) -> None:
    """Law 5: on other ranks and other workers, and the epoch after."""

    def make(world_size: int, num_workers: int) -> list[tl.Loader]:
        ranks = [tl.Shard(rank=rank, world_size=world_size) for rank in range(world_size)]
        windows = [_windows(tail=tail, seq_len=180, shard=shard) for shard in ranks]
        return [tl.Loader(each, num_workers=num_workers) for each in windows]

    assert_resumes_everywhere(lambda: make(1, 0), lambda: make(2, 1))
    assert_resumes_everywhere(lambda: make(4, 1), lambda: make(1, 0))


def test_a_position_of_other_documents_is_refused() -> None:
    """The same tokens in other documents are another plan."""
    state = tl.Loader(_windows()).state_dict()
    moved = [*LENGTHS[:5], LENGTHS[5] - 1, LENGTHS[6] + 1, *LENGTHS[7:]]
    other = tl.PackedWindows(corpus_of(moved), batch_size=4, seq_len=48, seed=3)
    with pytest.raises(tl.StateMismatchError, match=r"documents: saved 'sha256.*, now 'sha256"):
        tl.Loader(other).load_state_dict(state)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_change_nothing(method: str) -> None:
    """Law 3: a DataLoader's workers, which persist, in two epochs."""
    windows = _windows(tail="pad")
    loader = DataLoader(
        windows,
        batch_size=None,
        num_workers=2,
        multiprocessing_context=method,
        persistent_workers=True,
    )
    for epoch in (0, 5):
        windows.set_epoch(epoch)
        assert [rows_of(batch) for batch in windows] == [rows_of(batch) for batch in loader]


def test_a_store_and_a_slice_of_it_give_the_same_batches(tmp_path: Any) -> None:
    """In memory, mapped, in several files: the documents of the range are cut at its ends."""
    corpus = corpus_of(LENGTHS)
    stored = tl.Corpus.open(corpus.save(tmp_path / "store", shard_tokens=700))
    for start, stop in ((0, len(corpus)), (50, 3000)):
        parts = [each.slice(start, stop) for each in (corpus, stored)]
        streams = [
            [rows_of(batch) for batch in tl.PackedWindows(part, batch_size=2, seq_len=48)]
            for part in parts
        ]
        assert streams[0] == streams[1]


def test_a_corpus_without_documents_is_refused() -> None:
    """The message says what to do."""
    corpus = tl.Corpus.from_tokens([1, 2, 3])
    with pytest.raises(
        CorpusError, match="needs documents, and tokens has none: make it with prepare"
    ):
        tl.PackedWindows(corpus)


def test_packed_windows_have_no_resets_to_leave_out() -> None:
    """Documents that lie side by side by chance never see each other."""
    with pytest.raises(ArgumentError, match="resets=False has no meaning in packed order"):
        tl.Windows("packed", corpus_of(LENGTHS), resets=False)


def test_a_world_size_that_does_not_divide_the_batch_is_refused() -> None:
    """As in the other orders."""
    with pytest.raises(ArgumentError, match="world_size must divide batch_size=4, got 3"):
        _windows(shard=tl.Shard(rank=0, world_size=3))


@pytest.mark.slow
# torchdata 0.11 calls a function that newer versions of torch deprecate.
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stateful_data_loader_resumes_after_each_batch(num_workers: int) -> None:
    """The rest of the epoch is exact, with as many workers."""
    windows = _windows(tail="pad", seq_len=180)

    def load() -> Any:
        return StatefulDataLoader(windows, batch_size=None, num_workers=num_workers)

    expected = [rows_of(batch) for batch in windows]
    for num_consumed in range(1, len(expected)):
        loader = load()
        batches = iter(loader)
        first = [rows_of(next(batches)) for _ in range(num_consumed)]
        resumed = load()
        resumed.load_state_dict(loader.state_dict())
        assert expected == first + [rows_of(batch) for batch in resumed]


def test_batch_sizes_that_change_leave_the_rows_as_they_are() -> None:
    """The rows of an epoch come in the same order, in batches of any sizes."""
    streams = []
    for batch_size in (2, [(0, 2), (10, 6)]):
        windows = tl.PackedWindows(
            corpus_of(LENGTHS), batch_size=batch_size, seq_len=48, tail="pad"
        )
        rows = [row.tolist() for batch in windows for row in batch.inputs]
        streams.append([row for row in rows if any(row)])
    assert streams[0] == streams[1]


@pytest.mark.slow
def test_a_corpus_of_one_row_has_seeds_too() -> None:
    """Of few documents there is one order only, which breaks no law."""
    check_seeds(tl.PackedWindows(corpus_of([9]), batch_size=1, seq_len=8).plan)


def test_another_platforms_order_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan of an example is pinned."""
    monkeypatch.setattr(laws, "_PACKED_DIGEST", "0" * 64)
    with pytest.raises(LawError, match="this platform orders packed plans differently"):
        check_seeds(_windows().plan)


@pytest.mark.slow
@pytest.mark.parametrize("is_shifted", [True, False])
def test_a_model_of_transformers_sees_documents_alone(is_shifted: bool) -> None:
    """From the position ids it knows where they start, whichever side shifts the labels."""
    transformers = pytest.importorskip("transformers")
    corpus = tl.Corpus.from_tokens(
        np.arange(sum(LENGTHS)) ** 2 % 50, vocab_size=50, documents=offsets_of(LENGTHS)
    )
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(vocab_size=50, **sizes, **heads)
    ).eval()
    batch = next(iter(tl.PackedWindows(corpus, batch_size=2, seq_len=100, tail="pad")))
    arguments = batch.as_dict(is_shifted=is_shifted)
    labels = arguments.pop("labels")
    with torch.no_grad():
        logits = model(**arguments, use_cache=False).logits
        if not is_shifted:
            logits, labels = logits[:, :-1], labels[:, 1:]
        for row, ids in enumerate(batch.document_ids):
            for number in ids[ids >= 0].unique():
                inputs, targets = (part[row, ids == number] for part in batch)
                alone = model(input_ids=inputs[None]).logits[0]
                found = logits[row, : len(ids)][ids == number]
                torch.testing.assert_close(alone, found, rtol=1e-4, atol=1e-5)
                assert targets.tolist() == labels[row, : len(ids)][ids == number].tolist()
