"""The windows under PyTorch's DataLoader, with every option that makes sense."""

import functools
import inspect
import multiprocessing
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

import tokenloom as tl
from tests.support.loading.worker_errors import raises_from_worker
from tokenloom.errors import UsageError

CORPUS = tl.Corpus.from_tokens(np.arange(400, dtype=np.uint16))


def make_windows() -> tl.RandomWindows:
    """Return windows of 19 batches."""
    return tl.RandomWindows(CORPUS, batch_size=4, seq_len=5)


def read(batches: Any) -> list[Any]:
    """Return what batches say."""
    return [(batch.epoch, batch.index, batch.inputs.tolist()) for batch in batches]


WHOLE = read(make_windows())


def unpack(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Convert as a user might."""
    return batch.inputs, batch.targets


def seed_worker(_: int) -> None:
    """Do what users copy from PyTorch's notes on reproducibility."""
    torch.manual_seed(torch.initial_seed() % 2**32)


def wait_in_the_second(go_on: Any, worker: int) -> None:
    """Let the second worker start late."""
    if worker == 1:
        assert go_on.wait(120)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_workers": 2, "prefetch_factor": 7},
        {"num_workers": 3, "persistent_workers": True},
        {"num_workers": 2, "timeout": 240},
        {"num_workers": 2, "worker_init_fn": seed_worker},
        {"num_workers": 1, "generator": torch.Generator()},
        {"num_workers": 2, "multiprocessing_context": "forkserver"},
        {"num_workers": 2, "in_order": True},
        {"shuffle": False},
    ],
    ids=lambda options: ", ".join(options) or "none",
)
def test_options_change_nothing(options: dict[str, Any]) -> None:
    """The stream is the windows' own, twice, and as long as len() says."""
    loader: Any = DataLoader(make_windows(), batch_size=None, **options)
    assert [WHOLE, WHOLE] == [read(loader), read(loader)]
    assert len(loader) == len(WHOLE)


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true:UserWarning")
def test_pinning_changes_nothing() -> None:
    """Where there is no GPU PyTorch warns, and the batches are the same."""
    loader: Any = DataLoader(make_windows(), batch_size=None, pin_memory=True)
    assert read(loader) == WHOLE


def test_a_collate_function_gets_whole_batches() -> None:
    """With batch_size=None it converts each batch, in the worker."""
    loader: Any = DataLoader(make_windows(), batch_size=None, num_workers=2, collate_fn=unpack)
    assert [rows for *_, rows in WHOLE] == [inputs.tolist() for inputs, _ in loader]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_batch_size_names_the_cure(num_workers: int) -> None:
    """The windows yield whole batches, which are not put together again."""
    for batch_size in (1, 4):
        loader: Any = DataLoader(make_windows(), batch_size=batch_size, num_workers=num_workers)
        with raises_from_worker(UsageError, match=r"use DataLoader\(windows, batch_size=None"):
            next(iter(loader))


@pytest.mark.parametrize(
    "options",
    [
        {"shuffle": True},
        {"sampler": torch.utils.data.SequentialSampler(range(4))},
        {"batch_sampler": [[0]]},
        {"drop_last": True},
    ],
    ids=["shuffle", "sampler", "batch_sampler", "drop_last"],
)
def test_what_the_plan_decides_is_refused(options: dict[str, Any]) -> None:
    """PyTorch itself refuses to order what has an order, and says which option."""
    with pytest.raises(ValueError, match=next(iter(options)).replace("_", ".")):
        DataLoader(make_windows(), **{"batch_size": None, **options})


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_set_epoch_during_iteration_is_refused(num_workers: int, persistent: bool) -> None:
    """Never do batches of two epochs come from one iteration."""
    # Long enough that the workers have not read all of it ahead.
    corpus = tl.Corpus.from_tokens(np.arange(20_000, dtype=np.uint16))
    windows = tl.RandomWindows(corpus, batch_size=4, seq_len=5)
    loader: Any = DataLoader(
        windows,
        batch_size=None,
        num_workers=num_workers,
        persistent_workers=persistent and num_workers > 0,
    )
    batches = iter(loader)
    said = [next(batches).epoch]
    windows.set_epoch(1)
    with raises_from_worker(UsageError, match=r"drop the iterator, call set_epoch"):
        said.extend(batch.epoch for batch in batches)
    assert {0} == set(said)
    # A new iteration is the new epoch's, whole.
    assert {1} == {batch.epoch for batch in loader}


@pytest.mark.parametrize("start_method", ["fork", "forkserver"])
def test_a_worker_that_starts_late_does_not_read_another_epoch(start_method: str) -> None:
    """Even if set_epoch was called before the worker looked, no batch of it comes."""
    windows = make_windows()
    context: Any = multiprocessing.get_context(start_method)
    go_on = context.Event()
    loader: Any = DataLoader(
        windows,
        batch_size=None,
        num_workers=2,
        worker_init_fn=functools.partial(wait_in_the_second, go_on),
        multiprocessing_context=context,
    )
    batches = iter(loader)
    said = [next(batches).epoch]
    windows.set_epoch(1)
    go_on.set()
    with raises_from_worker(UsageError, match=r"set_epoch\(1\) was called while epoch 0"):
        said.extend(batch.epoch for batch in batches)
    assert {0} == set(said)


@pytest.mark.parametrize("persistent", [False, True])
def test_after_a_break_another_epoch_is_read_whole(persistent: bool) -> None:
    """What workers had read ahead of the old epoch does not come again."""
    windows = make_windows()
    loader: Any = DataLoader(windows, batch_size=None, num_workers=2, persistent_workers=persistent)
    for epoch in (3, 0, 5):
        for _ in loader:
            break
        windows.set_epoch(epoch)
        assert read(windows) == read(loader)


def test_workers_may_change_between_two_halves_of_a_training() -> None:
    """The order depends on no loader's history."""
    windows = make_windows()
    halves: list[Any] = [
        lambda: DataLoader(windows, batch_size=None, num_workers=3),
        lambda: DataLoader(windows, batch_size=None),
        lambda: tl.Loader(windows, num_workers=2),
    ]
    assert [WHOLE] * 3 == [read(make()) for make in halves]


@pytest.mark.parametrize("persistent", [False, True])
def test_random_windows_come_in_any_order(persistent: bool) -> None:
    """Each batch of each epoch once, with its number."""
    windows = make_windows()
    loader: Any = DataLoader(
        windows, batch_size=None, num_workers=3, in_order=False, persistent_workers=persistent
    )
    for epoch in (0, 2):
        windows.set_epoch(epoch)
        assert read(windows) == sorted(read(loader))


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
@pytest.mark.parametrize("make", [DataLoader, StatefulDataLoader])
@pytest.mark.parametrize(
    "start_method",
    ["fork", *(pytest.param(name, marks=pytest.mark.slow) for name in ("forkserver", "spawn"))],
)
@pytest.mark.parametrize("persistent", [False, True])
def test_a_carried_state_needs_the_order(start_method: str, persistent: bool, make: Any) -> None:
    """Batches that come in another order are no continuations of each other."""
    if "in_order" not in inspect.signature(make).parameters:
        pytest.skip("this release of torchdata keeps the order")
    windows = tl.SequentialWindows(CORPUS, batch_size=4, seq_len=5)
    options = {
        "batch_size": None,
        "num_workers": 2,
        "persistent_workers": persistent,
        "multiprocessing_context": start_method,
    }
    loader = make(windows, in_order=False, **options)
    for _ in range(2):
        with raises_from_worker(UsageError, match=r"in_order=False of a DataLoader yields batches"):
            list(loader)
    assert read(windows) == read(make(windows, **options))
    # Without workers there is no other order.
    assert read(windows) == read(make(windows, batch_size=None, in_order=False))
