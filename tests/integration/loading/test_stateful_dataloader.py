"""The windows under torchdata's StatefulDataLoader."""

import copy
from typing import Any

import numpy as np
import pytest
from torchdata.stateful_dataloader import StatefulDataLoader

import tokenloom as tl
from tests.support.loading.worker_errors import raises_from_worker

# torchdata 0.11 calls a function that newer versions of torch deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")

CORPUS = tl.Corpus.from_tokens(np.arange(400, dtype=np.uint16))
KINDS = [tl.RandomWindows, tl.SequentialWindows]


def make_loader(num_workers: int, kind: Any = tl.RandomWindows, **options: Any) -> Any:
    """Return a loader of 19 batches."""
    windows = kind(CORPUS, batch_size=4, seq_len=5, tail=options.pop("tail", "drop"))
    return StatefulDataLoader(windows, batch_size=None, num_workers=num_workers, **options)


def read(batches: Any) -> list[Any]:
    """Return what batches say."""
    return [(batch.epoch, batch.index, batch.inputs.tolist()) for batch in batches]


@pytest.mark.parametrize(
    ("num_workers", "options"),
    [
        (0, {}),
        (0, {"tail": "pad"}),
        pytest.param(1, {}, marks=pytest.mark.slow),
        (2, {"persistent_workers": True}),
        pytest.param(3, {"snapshot_every_n_steps": 1}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_it_resumes_everywhere(kind: Any, num_workers: int, options: dict[str, Any]) -> None:
    """After each batch a fresh loader goes on exactly, and set_epoch leads to the next epoch."""
    loader = make_loader(num_workers, kind, **options)
    loader.dataset.set_epoch(3)
    batches = iter(loader)
    expected, states = [], []
    for batch in batches:
        expected += read([batch])
        states.append(copy.deepcopy(loader.state_dict()))
    loader.dataset.set_epoch(4)
    epoch_after = read(loader)
    for num_consumed, state in enumerate(states, start=1):
        fresh = make_loader(num_workers, kind, **options)
        fresh.load_state_dict(state)
        assert expected[num_consumed:] == read(fresh)
        fresh.dataset.set_epoch(4)
        assert epoch_after == read(fresh)


# torchdata takes seconds per worker to give up an iterator that it could not make.
@pytest.mark.parametrize(("num_workers", "key"), [(0, "_num_yielded"), (1, "_snapshot")])
def test_the_state_of_a_loader_is_refused_by_torchdata(num_workers: int, key: str) -> None:
    """It counts the stream's batches, not a worker's rows; the documentation quotes the error."""
    position = tl.Loader(make_loader(0).dataset).state_dict()
    loader = make_loader(num_workers)
    loader.load_state_dict(position)
    with raises_from_worker(AssertionError, match=f"State doesn't contain key '{key}'"):
        next(iter(loader))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_its_state_is_refused_by_a_loader(num_workers: int) -> None:
    """The other way round the message is ours too."""
    loader = make_loader(num_workers)
    next(iter(loader))
    message = r"saved by a torchdata StatefulDataLoader and cannot be loaded into a tokenloom\.L"
    with pytest.raises(tl.StateMismatchError, match=message):
        tl.Loader(loader.dataset).load_state_dict(loader.state_dict())


def test_a_state_of_another_plan_is_refused() -> None:
    """Each field that differs is named, from a worker too."""
    loader = make_loader(2)
    next(iter(loader))
    other = StatefulDataLoader(
        tl.RandomWindows(CORPUS, batch_size=4, seq_len=6), batch_size=None, num_workers=2
    )
    other.load_state_dict(loader.state_dict())
    with raises_from_worker(tl.StateMismatchError, match="seq_len: saved 5, now 6"):
        next(iter(other))


def test_another_number_of_workers_is_refused() -> None:
    """That is the limit of a state per worker; a Loader has none."""
    loader = make_loader(2)
    next(iter(loader))
    other = make_loader(3)
    other.load_state_dict(loader.state_dict())
    with raises_from_worker(tl.StateMismatchError, match="num_workers: saved 2, now 3"):
        next(iter(other))
