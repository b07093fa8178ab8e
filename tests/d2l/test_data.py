"""The textbook's batches."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import tokenloom as tl
from tests.support.file_server import serving
from tests.support.textbook import answers, book, enter, offer
from tokenloom import d2l
from tokenloom.errors import CorpusError

Pairs = Iterator[tuple[torch.Tensor, torch.Tensor]]
KINDS = [
    (d2l.seq_data_iter_random, tl.RandomWindows),
    (d2l.seq_data_iter_sequential, tl.SequentialWindows),
]
each_kind = pytest.mark.parametrize(("iterate", "windows_kind"), KINDS)


@pytest.fixture(autouse=True)
def _no_calls_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test see the first call."""
    monkeypatch.setattr("tokenloom.d2l.data._num_calls", Counter())


@pytest.fixture
def _served_book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve the whole book."""
    enter(tmp_path, monkeypatch)
    content = book()
    with serving(answers(content)) as server:
        offer(server, monkeypatch, content)
        yield


def listed(pairs: Pairs) -> list[tuple[list[list[int]], list[list[int]]]]:
    """Return pairs of tensors as pairs of lists."""
    return [(X.tolist(), Y.tolist()) for X, Y in pairs]


@each_kind
def test_each_call_is_the_next_epoch(
    iterate: Callable[..., Pairs],
    windows_kind: type[tl.RandomWindows] | type[tl.SequentialWindows],
) -> None:
    """The n-th call gives the batches of epoch n - 1 of the windows."""
    windows = windows_kind(
        tl.Corpus.from_tokens(range(100)), batch_size=3, seq_len=5, seed=7, shard=tl.Shard()
    )
    for epoch in range(4):
        windows.set_epoch(epoch)
        expected = [(b.inputs.tolist(), b.targets.tolist()) for b in windows]
        assert expected == listed(iterate(list(range(100)), 3, 5, seed=7))


@each_kind
def test_pairs_are_shifted_by_one(iterate: Callable[..., Pairs], windows_kind: type) -> None:
    """Tuples of int64 tensors, the second one token ahead."""
    del windows_kind
    pairs = list(iterate(list(range(35)), batch_size=2, num_steps=5))
    assert 3 == len(pairs)
    for pair in pairs:
        assert isinstance(pair, tuple)
        X, Y = pair
        assert (2, 5) == tuple(X.shape) == tuple(Y.shape)
        assert torch.int64 == X.dtype == Y.dtype
        assert torch.equal(X + 1, Y)


@each_kind
def test_the_call_counts_not_the_reading(
    iterate: Callable[..., Pairs], windows_kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An iterator that is made first reads the earlier epoch, whenever it is read."""
    del windows_kind
    corpus = list(range(200))
    expected = [listed(iterate(corpus, 3, 5, seed=1)) for _ in range(2)]
    monkeypatch.setattr("tokenloom.d2l.data._num_calls", Counter())
    first, second = (iterate(corpus, 3, 5, seed=1) for _ in range(2))
    assert expected[0] != expected[1]
    assert expected[1] == listed(second)
    assert expected[0] == listed(first)


@each_kind
def test_calls_with_other_arguments_do_not_count(
    iterate: Callable[..., Pairs], windows_kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another corpus, size or seed has epochs of its own."""
    del windows_kind
    alone = listed(iterate(list(range(100)), 3, 5, seed=1))
    monkeypatch.setattr("tokenloom.d2l.data._num_calls", Counter())
    list(iterate(list(range(1, 101)), 3, 5, seed=1))
    list(iterate(list(range(100)), 2, 5, seed=1))
    list(iterate(list(range(100)), 3, 5))
    assert alone == listed(iterate(list(range(100)), 3, 5, seed=1))


def test_the_order_is_the_same_in_every_process() -> None:
    """Repaired: the textbook seeds nothing."""
    program = """
from tokenloom import d2l
for iterate in (d2l.seq_data_iter_random, d2l.seq_data_iter_sequential):
    for _ in range(2):
        print([X.tolist() for X, Y in iterate(list(range(50)), 2, 4)])
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True
        ).stdout
        for _ in range(2)
    }
    assert 1 == len(outputs)
    assert 4 == len(set(outputs.pop().splitlines()))


def test_sequential_rows_continue() -> None:
    """Each row of a batch goes on where the batch before it ended."""
    pairs = list(d2l.seq_data_iter_sequential(list(range(35)), 2, 5))
    for (before, _), (after, _) in zip(pairs[:-1], pairs[1:], strict=True):
        assert torch.equal(before[:, -1] + 1, after[:, 0])


def test_the_sequential_offset_is_below_num_steps() -> None:
    """Repaired: the textbook draws it from one value too many, and loses a batch then."""
    firsts, counts = set(), set()
    for _ in range(200):
        pairs = list(d2l.seq_data_iter_sequential(list(range(35)), 2, 5))
        firsts.add(int(pairs[0][0][0, 0]))
        counts.add(len(pairs))
    assert set(range(5)) == firsts
    assert {3} == counts


def test_the_last_window_has_its_target() -> None:
    """Repaired: the newer edition counts a window too many where num_steps divides the rest."""
    for _ in range(50):
        for X, Y in d2l.seq_data_iter_random(list(range(31)), 1, 5):
            assert torch.equal(X + 1, Y)


@each_kind
def test_errors_come_with_the_call(iterate: Callable[..., Pairs], windows_kind: type) -> None:
    """Not with the first batch."""
    del windows_kind
    with pytest.raises(CorpusError, match="needs at least 11 tokens, the corpus has 10"):
        iterate(list(range(10)), 2, 5)


@each_kind
def test_corpora_may_be_tensors(iterate: Callable[..., Pairs], windows_kind: type) -> None:
    """As well as lists."""
    del windows_kind
    X, _ = next(iterate(torch.arange(50), 2, 5))
    assert (2, 5) == tuple(X.shape)


def test_other_processes_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The textbook trains in one process: the batch is not split over ranks."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    X, _ = next(d2l.seq_data_iter_random(list(range(50)), 2, 5))
    assert 2 == len(X)


@pytest.mark.usefixtures("_served_book")
@pytest.mark.parametrize("use_random_iter", [False, True])
def test_the_loader_reads_the_next_epoch_each_time(use_random_iter: bool) -> None:
    """Its epochs are those of the functions, whatever else was iterated."""
    loader = d2l.SeqDataLoader(4, 10, use_random_iter, 1000)
    iterate = d2l.seq_data_iter_random if use_random_iter else d2l.seq_data_iter_sequential
    for _ in range(3):
        assert listed(iterate(loader.corpus, 4, 10)) == listed(iter(loader))
    fresh = d2l.SeqDataLoader(4, 10, use_random_iter, 1000)
    assert listed(iter(fresh)) != listed(iter(loader))


@pytest.mark.usefixtures("_served_book")
def test_iterations_over_one_loader_do_not_disturb_each_other() -> None:
    """A peek at the first batch in the middle of a loop is no error."""
    loader, _ = d2l.load_data_time_machine(4, 10, max_tokens=500)
    expected = len(list(loader))
    num_batches = 0
    for _ in loader:
        next(iter(loader))
        num_batches += 1
    assert expected == num_batches


@pytest.mark.usefixtures("_served_book")
def test_the_loader_has_corpus_and_vocab() -> None:
    """By default the first 10,000 characters, in sequential order."""
    loader, vocab = d2l.load_data_time_machine(32, 35)
    corpus, _ = d2l.load_corpus_time_machine(10_000)
    assert corpus == loader.corpus
    assert vocab is loader.vocab
    (before, _), (after, _) = list(loader)[:2]
    row = torch.cat([before[3], after[3]]).tolist()
    text = "".join(vocab.to_tokens(corpus))
    assert "".join(vocab.to_tokens(row)) in text
