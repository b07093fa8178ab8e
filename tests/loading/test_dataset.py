"""The batches of one epoch that a process reads."""

from typing import Any

import numpy as np
import pytest

import tokenloom as tl
from tokenloom.loading.dataset import WindowsIterator

CORPUS = tl.Corpus.from_tokens(np.arange(500, dtype=np.uint16))


def make_windows() -> tl.RandomWindows:
    """Return small random windows."""
    return tl.RandomWindows(CORPUS, batch_size=4, seq_len=5)


def stream(batches: Any) -> list[Any]:
    """Return what batches say, to be compared."""
    return [(batch.epoch, batch.index, batch.inputs.tolist()) for batch in batches]


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


def test_an_iterator_refuses_the_state_of_a_loader() -> None:
    """Its rows are those of one worker, so the two kinds of state do not mix."""
    loader = tl.Loader(make_windows())
    with pytest.raises(tl.StateMismatchError, match=r"saved by a tokenloom\.Loader"):
        iter(make_windows()).load_state_dict(loader.state_dict())
