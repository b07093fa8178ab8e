"""The stream with its own position."""

import itertools
import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import tokenloom as tl
from tests.support.loading.process_resources import loader_threads, wait_for
from tests.support.loading.resume import assert_resumes_everywhere, rows_of
from tests.support.loading.worker_errors import raises_from_worker
from tests.support.plan.strategies import make_windows, plans
from tokenloom.errors import ArgumentError, UsageError
from tokenloom.loading import Windows
from tokenloom.plan.plan import Plan

CORPUS = tl.Corpus.from_tokens(np.arange(400, dtype=np.uint16))
NUM_BATCHES = 19


def make_loader(
    kind: str = "random", *, world: tuple[int, int] = (0, 1), **options: Any
) -> tl.Loader:
    """Return a loader of 19 batches per epoch, in blocks of 5."""
    windows = Windows(
        kind, CORPUS, batch_size=4, seq_len=5, shard=tl.Shard(rank=world[0], world_size=world[1])
    )
    return tl.Loader(windows, worker_options=tl.WorkerOptions(block_size=5), **options)


def test_repr_says_where_it_stands() -> None:
    """What it reads, how, and which batch comes next."""
    loader = make_loader(num_workers=1, num_epochs=3)
    batches = iter(loader)
    next(batches)
    assert repr(loader) == (
        "Loader(Windows of Corpus('tokens', 400 tokens, vocab_size=400), num_workers=1, "
        "num_epochs=3): next is batch 1 of 19 in epoch 0"
    )


@settings(max_examples=20)
@given(plans(), st.integers(1, 9))
def test_it_resumes_everywhere(plan: Plan, block_size: int) -> None:
    """After any batch of any plan the rest and the next epoch are exact."""
    options = tl.WorkerOptions(block_size=block_size)
    assert_resumes_everywhere(lambda: tl.Loader(make_windows(plan), worker_options=options))


@pytest.mark.parametrize("kind", ["random", "sequential"])
@pytest.mark.parametrize(("saved", "restored"), [(0, 2), (2, 0), (3, 1)])
def test_it_resumes_with_another_number_of_workers(kind: str, saved: int, restored: int) -> None:
    """What workers read ahead does not count as consumed."""
    loader = make_loader(kind, num_workers=saved)
    iterator = iter(loader)
    for _ in range(7):
        next(iterator)
    state = loader.state_dict()
    expected = [rows_of(batch) for batch in iterator] + [rows_of(batch) for batch in loader]
    other = make_loader(kind, num_workers=restored)
    other.load_state_dict(state)
    assert expected == [rows_of(batch) for batch in (*other, *other)]


@pytest.mark.parametrize("kind", ["random", "sequential"])
def test_it_resumes_with_another_world_size(kind: str) -> None:
    """A position saved by one of two ranks is a position of the whole stream."""
    loader = make_loader(kind, world=(1, 2))
    iterator = iter(loader)
    for _ in range(7):
        next(iterator)
    state = loader.state_dict()
    alone = make_loader(kind)
    alone.load_state_dict(state)
    expected = [batch.inputs[2:].tolist() for batch in alone]
    assert expected == [batch.inputs.tolist() for batch in iterator]


def test_the_next_for_goes_on_with_the_next_epoch() -> None:
    """Epochs advance by themselves."""
    loader = make_loader()
    assert [[0], [1], [2]] == [sorted({batch.epoch for batch in loader}) for _ in range(3)]


def test_an_iteration_covers_its_number_of_epochs() -> None:
    """num_epochs epochs come from one for, and len() counts them all."""
    loader = make_loader(num_epochs=3)
    positions = [(batch.epoch, batch.index) for batch in loader]
    assert list(itertools.product(range(3), range(NUM_BATCHES))) == positions
    assert len(loader) == len(positions)


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_workers_share_the_blocks_of_several_epochs(num_workers: int) -> None:
    """Blocks are dealt out over the end of an epoch, and each is yielded once."""
    expected = [rows_of(batch) for batch in make_loader(num_epochs=3)]
    loader = make_loader(num_epochs=3, num_workers=num_workers)
    assert expected == [rows_of(batch) for batch in loader]


def test_epochs_begin_where_the_windows_stand() -> None:
    """set_epoch before the loader is made chooses its first epoch."""
    windows = make_loader().windows
    windows.set_epoch(5)
    assert {5, 6} == {batch.epoch for batch in tl.Loader(windows, num_epochs=2)}


def test_break_repeats_the_epoch() -> None:
    """As with DataLoader, a new for begins the epoch again."""
    loader = make_loader()
    first = [rows_of(batch) for batch in itertools.islice(loader, 5)]
    assert first == [rows_of(batch) for batch in loader][:5]


def test_an_iterator_goes_on_after_a_pause() -> None:
    """next() on a kept iterator continues."""
    iterator = iter(make_loader())
    assert [0, 1, 2] == [next(iterator).index for _ in range(3)]


def test_the_state_counts_what_was_consumed() -> None:
    """After k batches next_batch is k, and the last leads to the next epoch at once."""
    loader = make_loader(num_workers=2)
    iterator = iter(loader)
    positions = []
    for _ in range(NUM_BATCHES):
        next(iterator)
        state = loader.state_dict()
        positions.append((state["epoch"], state["next_batch"]))
    assert [*((0, k) for k in range(1, NUM_BATCHES)), (1, 0)] == positions


def test_remaining_counts_down_to_zero() -> None:
    """It is len() less what was consumed, across epochs."""
    loader = make_loader(num_epochs=2)
    remaining = [loader.remaining, *(loader.remaining for _ in loader)]
    assert list(range(2 * NUM_BATCHES, -1, -1)) == remaining


def test_a_resumed_iteration_ends_where_the_saved_one_would_have() -> None:
    """Of three epochs, a state inside the second leaves the rest of two."""
    loader = make_loader(num_epochs=3)
    loader.load_state_dict({**loader.state_dict(), "epoch": 1, "next_batch": 4})
    expected = 2 * NUM_BATCHES - 4
    assert (expected, expected) == (loader.remaining, len(list(loader)))


def test_an_endless_loader_has_no_length() -> None:
    """It goes through the epochs for ever, and says so when asked for a length."""
    loader = make_loader(num_epochs=None)
    epochs = [batch.epoch for batch in itertools.islice(loader, 3 * NUM_BATCHES)]
    assert [0, 1, 2] == epochs[::NUM_BATCHES]
    with pytest.raises(TypeError, match="an endless loader has no length"):
        len(loader)
    with pytest.raises(TypeError, match="an endless loader has no length"):
        _ = loader.remaining


def test_it_leaves_the_windows_alone() -> None:
    """Two loaders may share windows; neither moves their epoch."""
    windows = make_loader().windows
    first, second = tl.Loader(windows), tl.Loader(windows)
    list(first)
    list(first)
    assert (0, 2, 0) == (windows.epoch, first.state_dict()["epoch"], second.state_dict()["epoch"])


def test_one_position_has_one_iterator() -> None:
    """An iterator that a newer one replaced does not go on in silence."""
    loader = make_loader()
    older = iter(loader)
    next(older)
    newer = iter(loader)
    next(newer)
    with pytest.raises(UsageError, match="replaced by a newer one"):
        next(older)


def test_loading_stops_the_running_iterator() -> None:
    """After load_state_dict only a new for knows the position."""
    loader = make_loader()
    iterator = iter(loader)
    next(iterator)
    loader.load_state_dict(loader.state_dict())
    with pytest.raises(UsageError, match="load_state_dict"):
        next(iterator)


def test_a_position_is_loaded_once() -> None:
    """The for after the resumed one begins an epoch."""
    loader = make_loader()
    loader.load_state_dict({**loader.state_dict(), "next_batch": 15})
    assert [list(range(15, 19)), list(range(19))] == [[b.index for b in loader] for _ in range(2)]


def test_a_refused_state_changes_nothing() -> None:
    """All of a state is checked before any of it counts."""
    loader = make_loader()
    state = loader.state_dict()
    with pytest.raises(tl.StateMismatchError, match="seq_len: saved 64, now 5"):
        loader.load_state_dict({**state, "epoch": 4, "seq_len": 64})
    assert state == loader.state_dict()


def test_a_state_of_another_corpus_is_refused() -> None:
    """The corpus is recognised by its content."""
    other = tl.Corpus.from_tokens(np.arange(1, 401, dtype=np.uint16))
    loader = tl.Loader(tl.RandomWindows(other, batch_size=4, seq_len=5))
    with pytest.raises(tl.StateMismatchError, match="corpus: saved 'sha256:"):
        loader.load_state_dict(make_loader().state_dict())


def test_the_state_of_an_iterator_is_refused() -> None:
    """A worker's rows are not the stream's."""
    loader = make_loader()
    with pytest.raises(tl.StateMismatchError, match="StatefulDataLoader"):
        loader.load_state_dict(iter(loader.windows).state_dict())


def test_states_are_independent() -> None:
    """Each call gives a new dict, and a loaded one is not kept."""
    loader = make_loader()
    state = loader.state_dict()
    loader.load_state_dict(state)
    state["next_batch"] = 3
    assert loader.state_dict()["next_batch"] == 0


@given(st.integers(0, 2**40), st.integers(0, NUM_BATCHES - 1))
def test_resuming_far_away_is_arithmetic(epoch: int, next_batch: int) -> None:
    """Any epoch is reached without going through those before."""
    loader, saved = make_loader(), make_loader()
    saved.windows.set_epoch(epoch)
    state = tl.Loader(saved.windows).state_dict()
    loader.load_state_dict({**state, "next_batch": next_batch})
    batch = next(iter(loader))
    assert (epoch, next_batch) == (batch.epoch, batch.index)


def test_batches_come_on_the_device() -> None:
    """device=... moves inputs and targets."""
    batch = next(iter(make_loader(device="meta")))
    assert ["meta", "meta"] == [tensor.device.type for tensor in batch]


def test_pinning_needs_no_gpu() -> None:
    """Where there is none, pin_memory=True gives the same batches."""
    expected = [rows_of(batch) for batch in make_loader()]
    assert expected == [rows_of(batch) for batch in make_loader(pin_memory=True)]


def test_a_break_stops_the_workers() -> None:
    """No thread is left when the iterator goes."""
    for _ in make_loader(num_workers=2):
        assert wait_for(lambda: len(loader_threads()) == 2)
        break
    assert [] == loader_threads()


@pytest.mark.parametrize("options", [{}, {"batch_size": None}, {"num_workers": 1}])
def test_a_loader_is_no_dataset(options: dict[str, Any]) -> None:
    """The error in a DataLoader says what to do instead."""
    loader: Any = DataLoader(make_loader(), **options)  # type: ignore[arg-type]  # on purpose
    with raises_from_worker(UsageError, match=r"DataLoader\(loader.windows, batch_size=None\)"):
        next(iter(loader))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_workers": -1}, r"num_workers must be an integer in \[0, 4096\), got -1"),
        ({"num_workers": 1.5}, r"num_workers must be an integer in \[0, 4096\), got 1.5"),
        ({"num_epochs": 0}, "num_epochs must be an integer of at least 1, got 0"),
        ({"num_epochs": 1 << 62}, "num_epochs must be at most .*: None is for an endless loader"),
        ({"device": "abacus"}, "device must be one that PyTorch can use here, got 'abacus'"),
        (
            {"device": "cpu", "resident": True, "num_workers": 1},
            "no worker can help: use num_workers=0, got 1",
        ),
        ({"resident": True}, "resident=True needs a device: say which"),
        ({"persistent_workers": True}, "no option 'persistent_workers': its workers are threads"),
        ({"multiprocessing_context": "fork"}, "no option 'multiprocessing_context': its workers"),
        ({"prefetch_factor": 4}, r"use worker_options=WorkerOptions\(prefetch_factor=...\)"),
        ({"batch_size": 4}, "no option 'batch_size': the windows decide it"),
        ({"shuffle": True}, "no option 'shuffle': the windows yield whole batches in an order"),
        ({"epochs": 3}, "no option 'epochs': its options are num_workers, num_epochs, device"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    """The message names the argument and its value."""
    with pytest.raises(ArgumentError, match=message):
        make_loader(**options)


def test_a_loader_takes_windows_only() -> None:
    """The message says what came instead."""
    with pytest.raises(ArgumentError, match="must be RandomWindows, SequentialWindows, PackedWin"):
        tl.Loader(CORPUS)  # type: ignore[arg-type]  # on purpose
    windows = tl.RandomWindows(CORPUS, batch_size=4, seq_len=5)
    with pytest.raises(ArgumentError, match="worker_options must be WorkerOptions, got 8"):
        tl.Loader(windows, worker_options=8)  # type: ignore[arg-type]  # on purpose


def test_the_first_epoch_is_that_of_the_windows_when_it_was_made() -> None:
    """Neither its position nor the windows change it later."""
    windows = tl.RandomWindows(CORPUS, batch_size=4, seq_len=5)
    windows.set_epoch(2)
    loader = tl.Loader(windows)
    windows.set_epoch(5)
    assert (2, NUM_BATCHES, 2) == (loader.first_epoch, len(list(loader)), loader.first_epoch)
    assert 3 == loader.plan.epoch


@pytest.mark.parametrize("make", [tl.Loader, lambda windows: windows])
def test_two_threads_that_ask_one_iterator_are_refused(
    make: Callable[[tl.RandomWindows], Iterable[tl.Batch]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one hears what to do instead, and the first one gets every batch."""
    windows = tl.RandomWindows(CORPUS, batch_size=4, seq_len=5)
    is_inside, is_refused = threading.Event(), threading.Event()
    starts = Plan.starts

    def wait(plan: Plan, rows: range, columns: range | None = None) -> Any:
        is_inside.set()
        assert is_refused.wait(120)
        return starts(plan, rows, columns)

    monkeypatch.setattr(Plan, "starts", wait)
    iterator = iter(make(windows))
    received: list[tl.Batch] = []
    thread = threading.Thread(target=lambda: received.extend(iterator))
    thread.start()
    try:
        assert is_inside.wait(120)
        with pytest.raises(UsageError, match=r"belongs to one thread.*a Loader, of its own"):
            next(iterator)
    finally:
        is_refused.set()
        thread.join(120)
    assert len(windows) == len(received)


def read_skipping(loader: tl.Loader, skips: dict[int, int], *, is_first: bool) -> list[Any]:
    """Read an iteration, and skip batches after a number of them were received."""
    received = []
    if is_first:
        loader.skip(skips[0])
    batches = iter(loader)
    if not is_first:
        loader.skip(skips[0])
    for batch in batches:
        received.append(rows_of(batch))
        loader.skip(skips.get(len(received), 0))
    return received


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_workers": 2},
        {"num_workers": 1, "device": "cpu"},
        {"resident": True, "device": "cpu"},
        {"world": (1, 2)},
    ],
)
@pytest.mark.parametrize("kind", ["random", "sequential"])
def test_batches_are_skipped_wherever_the_loader_stands(kind: str, options: dict[str, Any]) -> None:
    """The rest is the stream without them: before an iteration, in it, over an epoch's end."""
    whole = [rows_of(batch) for batch in make_loader(kind, num_epochs=3, **options)]
    for skips in ({0: 3, 2: 1, 9: 20}, {0: 0, 5: 0, 6: 14}, {0: 19, 1: 17, 10: 8}):
        for is_first in (True, False):
            expected, position = [], skips[0]
            while position < len(whole):
                expected.append(whole[position])
                position += 1 + skips.get(len(expected), 0)
            loader = make_loader(kind, num_epochs=3, **options)
            assert expected == read_skipping(loader, skips, is_first=is_first)
            assert (sum(skips.values()), 0) == (loader.num_skipped, loader.remaining)
            assert {3} == {batch.epoch for batch in itertools.islice(loader, NUM_BATCHES)}


def test_a_skipped_position_is_saved() -> None:
    """Another loader starts there, and knows how many were skipped."""
    loader = make_loader(num_epochs=2)
    batches = iter(loader)
    next(batches)
    loader.skip(20)
    state = loader.state_dict()
    assert (1, 2, 20) == tuple(state[name] for name in ("epoch", "next_batch", "num_skipped"))
    other = make_loader(num_epochs=2, num_workers=1)
    other.load_state_dict(state)
    other.skip(3)
    assert (23, 14) == (other.num_skipped, other.remaining)
    assert [rows_of(batch) for batch in batches][3:] == [rows_of(batch) for batch in other]
    other.load_state_dict(make_loader().state_dict())
    assert 0 == other.num_skipped


def test_no_more_is_skipped_than_there_is() -> None:
    """All that is left may be; the message has the number, and what to do for more."""
    loader = make_loader(num_epochs=2)
    batches = iter(loader)
    next(batches)
    with pytest.raises(ArgumentError, match="at most 37, got 38: this iteration has 37 batches"):
        loader.skip(38)
    for wrong in (-1, 1.5, "2"):
        with pytest.raises(ArgumentError, match="num_batches must be an integer"):
            loader.skip(wrong)  # type: ignore[arg-type]  # on purpose
    assert (0, 37) == (loader.num_skipped, loader.remaining)
    loader.skip(37)
    assert (0, []) == (loader.remaining, list(batches))
    with pytest.raises(ArgumentError, match=r"has 0 batches left; .* iter\(loader\)"):
        loader.skip(1)
    batches = iter(loader)
    loader.skip(20)
    batch = next(batches)
    assert (3, 1) == (batch.epoch, batch.index)


def test_an_endless_loader_skips_any_number() -> None:
    """The position is arithmetic."""
    loader = make_loader(num_epochs=None)
    loader.skip(19 * 10**12 + 4)
    batch = next(iter(loader))
    assert (10**12, 4) == (batch.epoch, batch.index)


def test_after_a_break_the_skipped_position_counts_once() -> None:
    """Without a running iterator the next for begins there, and the one after it at the epoch."""
    loader = make_loader()
    for batch in loader:
        if batch.index == 4:
            break
    loader.skip(2)
    assert [7, 8] == [batch.index for batch in itertools.islice(loader, 2)]
    for batch in loader:
        if batch.index == 0:
            loader.skip(2)
        else:
            assert 3 == batch.index
            break
    assert [0, 1] == [batch.index for batch in itertools.islice(loader, 2)]


def test_skipping_stops_what_is_read_ahead() -> None:
    """The threads of the old place go, and those of the new one with the iterator."""
    loader = make_loader(num_workers=2, num_epochs=3)
    batches = iter(loader)
    next(batches)
    assert wait_for(lambda: len(loader_threads()) == 2)
    loader.skip(30)
    assert [] == loader_threads()
    assert 12 == next(batches).index
    del batches
    assert [] == loader_threads()
