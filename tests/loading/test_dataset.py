"""The datasets of windows and their iterators."""

import copy
import itertools
import pickle
import resource
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset
from torchdata.stateful_dataloader import StatefulDataLoader

import tokenloom as tl
from tests.support.loading.worker_errors import raises_from_worker
from tokenloom.errors import ArgumentError, CorpusError, UsageError
from tokenloom.loading.dataset import Windows, WindowsIterator

CORPUS = tl.Corpus.from_tokens(np.arange(500, dtype=np.uint16))


def stream(batches: Any) -> list[Any]:
    """Return what batches say, to be compared."""
    return [(batch.epoch, batch.index, batch.inputs.tolist()) for batch in batches]


def make_windows(**options: Any) -> tl.RandomWindows:
    """Return small random windows."""
    return tl.RandomWindows(CORPUS, **{"batch_size": 4, "seq_len": 5, **options})


@pytest.mark.parametrize("position", [0, 1, 13, 24])
def test_an_iterator_goes_on_where_its_state_was_saved(position: int) -> None:
    """The rest of the epoch is exact, from the first batch to after the last."""
    windows = make_windows()
    iterator = iter(windows)
    assert isinstance(iterator, WindowsIterator)
    for _ in range(position):
        next(iterator)
    fresh = iter(make_windows())
    fresh.load_state_dict(iterator.state_dict())
    assert stream(iterator) == stream(fresh)


@pytest.mark.parametrize("kind", ["random", "sequential"])
def test_an_epoch_of_several_blocks_is_that_of_the_plan(kind: str) -> None:
    """Blocks begin with 8,192 tokens and grow; each batch comes in its place, also from workers."""
    corpus = tl.Corpus.from_tokens(np.arange(60_000, dtype=np.uint16))
    windows = Windows(kind, corpus, batch_size=8, seq_len=99, shard=tl.Shard())
    expected = windows.plan.starts(range(75)).tolist()
    assert 75 == len(windows)

    loader = DataLoader(windows, batch_size=None, num_workers=2)
    for batches in (windows, loader, tl.Loader(windows, num_workers=2)):
        assert expected == [batch.inputs[:, 0].tolist() for batch in batches]
    for position in (9, 10, 11, 30, 74):
        iterator = iter(windows)
        assert position == len(list(itertools.islice(iterator, position)))
        resumed = iter(windows)
        resumed.load_state_dict(iterator.state_dict())
        assert expected[position:] == [batch.inputs[:, 0].tolist() for batch in resumed]


def test_an_iterator_refuses_the_state_of_a_loader() -> None:
    """Its rows are those of one worker, so the two kinds of state do not mix."""
    loader = tl.Loader(make_windows())
    with pytest.raises(tl.StateMismatchError, match=r"saved by a tokenloom\.Loader"):
        iter(make_windows()).load_state_dict(loader.state_dict())


# How to start 0 or 1 workers.
FORK = (None, "fork")


def test_the_defaults_are_the_textbooks() -> None:
    """A batch is 32 windows of 35 tokens, in order from seed 0."""
    plan = tl.SequentialWindows(tl.Corpus.from_tokens(np.zeros(2000, np.uint8))).plan
    assert (32, 35, 0, "drop") == (plan.batch_size, plan.seq_len, plan.seed, plan.tail)


def test_repr_names_the_order_once() -> None:
    """By the class, or by the name that was given."""
    assert repr(make_windows()).startswith("RandomWindows(Corpus(")
    shown = make_windows()._repr_html_()
    assert f"<tr><th>batches</th><td>{len(make_windows()):,}</td></tr>" in shown
    assert repr(Windows("random", CORPUS, batch_size=4)).startswith("Windows('random', Corpus(")


def test_they_are_iterable_datasets_without_a_state() -> None:
    """The position is the iterator's: a dataset with a state_dict would be replayed."""
    windows = make_windows()
    assert isinstance(windows, IterableDataset)
    assert [] == [name for name in ("state_dict", "load_state_dict") if hasattr(windows, name)]


def test_they_know_corpus_vocabulary_and_plan() -> None:
    """What a model needs can be asked of the windows."""
    corpus = tl.Corpus.from_text("the time machine " * 9)
    windows = tl.SequentialWindows(corpus, batch_size=2, seq_len=4)
    assert windows.corpus is corpus
    assert windows.vocab is corpus.vocab
    assert windows.plan.carries_state


def test_random_windows_do_not_carry_state() -> None:
    """Who consumes asks the plan, never the class."""
    assert not make_windows().plan.carries_state


def test_set_epoch_gives_another_order() -> None:
    """Epochs differ, and each can be had again."""
    windows = make_windows()
    first = stream(windows)
    windows.set_epoch(1)
    assert first != stream(windows)
    windows.set_epoch(0)
    assert first == stream(windows)


def test_a_data_loader_repeats_an_epoch_until_it_is_told() -> None:
    """As with DistributedSampler, the epoch changes by set_epoch only."""
    loader = DataLoader(make_windows(), batch_size=None)
    assert stream(loader) == stream(loader)


def test_persistent_workers_see_the_epoch() -> None:
    """The epoch lies in memory that living workers share."""
    windows = make_windows()
    loader = DataLoader(windows, batch_size=None, num_workers=2, persistent_workers=True)
    streams = []
    for epoch in (0, 3, 1):
        windows.set_epoch(epoch)
        streams.append(stream(loader))
    expected = []
    for epoch in (0, 3, 1):
        windows.set_epoch(epoch)
        expected.append(stream(windows))
    assert expected == streams


@pytest.mark.parametrize(
    "start_method", ["spawn", pytest.param("forkserver", marks=pytest.mark.slow)]
)
def test_start_methods_change_nothing(start_method: str) -> None:
    """Workers that are started afresh yield the same stream, of the set epoch."""
    windows = make_windows()
    windows.set_epoch(2)
    loader = DataLoader(
        windows, batch_size=None, num_workers=2, multiprocessing_context=start_method
    )
    assert stream(windows) == stream(loader)


def test_set_epoch_during_iteration_is_refused() -> None:
    """The message says what to do instead."""
    windows = make_windows()
    iterator = iter(windows)
    next(iterator)
    windows.set_epoch(4)
    message = r"set_epoch\(4\) was called while epoch 0 was being iterated: drop the iterator"
    with pytest.raises(UsageError, match=message):
        next(iterator)


def test_forgetting_batch_size_none_names_the_cure() -> None:
    """The usual slip raises our own error, also out of a worker."""
    for num_workers in (0, 1):
        loader = DataLoader(make_windows(), num_workers=num_workers)
        with raises_from_worker(UsageError, match="batch_size=None"):
            next(iter(loader))


def test_the_length_of_a_data_loader_is_exact() -> None:
    """PyTorch asks the windows."""
    loader = DataLoader(make_windows(), batch_size=None, num_workers=2)
    assert len(loader) == len(list(loader))


def pickle_and_back(windows: tl.RandomWindows) -> Any:
    """Return what another process would receive."""
    return pickle.loads(pickle.dumps(windows))  # noqa: S301  our own bytes


@pytest.mark.parametrize("make_copy", [copy.deepcopy, pickle_and_back])
def test_a_copy_has_an_epoch_of_its_own(make_copy: Any) -> None:
    """Setting the epoch of a copy leaves the original alone, in shared memory again."""
    windows = make_windows()
    windows.set_epoch(2)
    copied = make_copy(windows)
    copied.set_epoch(5)
    assert (2, 5) == (windows.epoch, copied.epoch)
    assert copied._epoch.page._tensor.is_shared()


def launch(monkeypatch: pytest.MonkeyPatch, rank: int, world_size: int = 2) -> None:
    """Set what torchrun sets."""
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(world_size))


def test_a_pickle_goes_on_in_the_same_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that detects the same part may read what another one pickled."""
    launch(monkeypatch, 1)
    received = pickle_and_back(make_windows())
    assert tl.Shard(rank=1, world_size=2) == received.shard


def test_a_pickle_of_another_part_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise two ranks would read the same rows."""
    launch(monkeypatch, 1)
    sent = pickle.dumps(make_windows())
    launch(monkeypatch, 0)
    received = pickle.loads(sent)  # noqa: S301  our own bytes
    message = (
        "these windows belong to rank 1 of 2, as was detected when they were first "
        "used, but this is rank 0 of 2: make the windows in each process"
    )
    for use in (len, iter, tl.Loader):
        with pytest.raises(UsageError, match=message):
            use(received)


def test_a_part_that_was_said_travels_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who says the part knows why."""
    launch(monkeypatch, 1)
    shard = tl.Shard(rank=3, world_size=4)
    received = pickle_and_back(make_windows(shard=shard))
    assert shard == received.shard
    assert len(list(received)) == len(received)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_part_that_changes_after_its_detection_is_refused(
    num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows that were used before the launcher's variables were set read everything."""
    windows = make_windows()
    before = len(windows), tl.Loader(windows)
    launch(monkeypatch, 1)
    loader: Any = DataLoader(
        windows, batch_size=None, num_workers=num_workers, multiprocessing_context=FORK[num_workers]
    )
    for batches in (windows, loader, before[1]):
        with raises_from_worker(UsageError, match=r"rank 0 of 1, .* but this is rank 1 of 2"):
            next(iter(batches))


def test_the_launcher_divides_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a launcher each process yields its rows of every batch."""
    whole = [batch.inputs for batch in make_windows()]
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    expected = [inputs[2:].tolist() for inputs in whole]
    assert expected == [batch.inputs.tolist() for batch in make_windows()]


def test_an_array_is_no_corpus() -> None:
    """The message says how to wrap it."""
    with pytest.raises(ArgumentError, match=r"got ndarray: wrap token ids in Corpus"):
        tl.RandomWindows(np.arange(10))  # type: ignore[arg-type]  # on purpose


def test_a_negative_epoch_is_refused() -> None:
    """And the epoch stays as it was."""
    windows = make_windows()
    with pytest.raises(ArgumentError, match="epoch must be an integer in"):
        windows.set_epoch(-1)
    assert windows.epoch == 0


def test_memory_maps_are_read_in_workers(tmp_path: Any) -> None:
    """A corpus in a file gives the stream of the same corpus in memory."""
    path = tmp_path / "tokens.npy"
    np.save(path, CORPUS.tokens)
    mapped = tl.Corpus.from_tokens(np.load(path, mmap_mode="r"))
    windows = tl.RandomWindows(mapped, batch_size=4, seq_len=5)
    assert stream(make_windows()) == stream(DataLoader(windows, batch_size=None, num_workers=2))


def test_tensors_do_not_alias_the_corpus() -> None:
    """Changing a batch in place leaves the corpus as it is."""
    corpus = tl.Corpus.from_tokens(np.arange(100))
    for batch in tl.SequentialWindows(corpus, batch_size=2, seq_len=4):
        batch.inputs.fill_(7)
    assert list(range(100)) == corpus.tokens.tolist()


def test_the_random_seed_of_torch_does_not_matter() -> None:
    """The order depends on the plan's own seed only."""
    torch.manual_seed(1)
    first = stream(make_windows(seed=1))
    torch.manual_seed(2)
    assert first == stream(make_windows(seed=1))


def make_with_documents(kind: Any = tl.RandomWindows, **options: Any) -> Any:
    """Return windows over documents of 7 tokens."""
    documents = [*range(0, 500, 7), 500]
    corpus = tl.Corpus.from_tokens(np.arange(500, dtype=np.uint16), documents=documents)
    return kind(corpus, **{"batch_size": 4, "seq_len": 5, **options})


def resets_of(batches: Any) -> list[Any]:
    """Return where the documents of batches start."""
    return [(batch.index, batch.resets.tolist()) for batch in batches]


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
@pytest.mark.parametrize(
    ("kind", "tail"), [(tl.RandomWindows, "drop"), (tl.SequentialWindows, "pad")]
)
def test_workers_know_where_documents_start(kind: Any, tail: str) -> None:
    """Batches of any DataLoader's workers, and of a Loader's, say what those without say."""
    windows = make_with_documents(kind, tail=tail)
    loaders: list[Any] = [
        DataLoader(windows, batch_size=None, num_workers=2, multiprocessing_context="fork"),
        StatefulDataLoader(windows, batch_size=None, num_workers=1, multiprocessing_context="fork"),
        tl.Loader(windows, num_workers=2, worker_options=tl.WorkerOptions(block_size=3)),
    ]
    assert [resets_of(windows)] * 3 == [resets_of(loader) for loader in loaders]


def test_resets_change_no_token() -> None:
    """The stream, its order and its saved positions are the same with and without them."""
    with_resets, without = make_with_documents(), make_with_documents(resets=False)
    assert stream(with_resets) == stream(without)
    assert tl.Loader(with_resets).state_dict() == tl.Loader(without).state_dict()


@pytest.mark.parametrize("windows", [make_windows(), make_with_documents(resets=False)])
def test_batches_may_not_know_where_documents_start(windows: Any) -> None:
    """Then they say so, and how to change it."""
    batch = next(iter(windows))
    assert not batch.has_resets
    with pytest.raises(UsageError, match=r"use a corpus that does, .* and no resets=False"):
        _ = batch.resets


def test_resets_need_documents() -> None:
    """Asking for them raises an error at once."""
    with pytest.raises(CorpusError, match="resets=True needs documents, and tokens has none"):
        make_windows(resets=True)


def test_there_may_be_thousands_of_windows() -> None:
    """They take few of the 1,024 files that a process may have open; each has its own epoch."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        many = [make_windows() for _ in range(5_000)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for epoch, windows in enumerate(many):
        windows.set_epoch(epoch)
    assert list(range(5_000)) == [windows.epoch for windows in many]


@pytest.mark.parametrize(
    "start_method",
    ["fork", *(pytest.param(name, marks=pytest.mark.slow) for name in ("forkserver", "spawn"))],
)
def test_persistent_workers_of_two_loaders_see_their_own_epochs(start_method: str) -> None:
    """Whichever way they were started."""
    both = [make_windows(), make_windows(seed=1)]
    loaders: list[Any] = [
        DataLoader(
            windows,
            batch_size=None,
            num_workers=1,
            persistent_workers=True,
            multiprocessing_context=start_method,
        )
        for windows in both
    ]
    for epochs in ((0, 0), (3, 1), (1, 4)):
        for windows, epoch in zip(both, epochs, strict=True):
            windows.set_epoch(epoch)
        for windows, loader in zip(both, loaders, strict=True):
            assert stream(windows) == stream(loader)


def test_a_batch_has_no_index() -> None:
    """Who comes from a map-style dataset reads what to do; they are iterated all the same."""
    windows = tl.RandomWindows(tl.Corpus.from_tokens(np.arange(50)), batch_size=2, seq_len=3)
    with pytest.raises(UsageError, match=r"got windows\[0\]: take next\(iter\(windows\)\)"):
        windows[0]
    assert len(windows) == len(list(windows))
