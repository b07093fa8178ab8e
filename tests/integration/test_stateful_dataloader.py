"""The windows under torchdata's StatefulDataLoader."""

from typing import Any

import numpy as np
import pytest
from torchdata.stateful_dataloader import StatefulDataLoader

import tokenloom as tl

# torchdata 0.11 calls a function that newer versions of torch deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")


def make_loader(num_workers: int) -> Any:
    """Return a loader of 19 batches."""
    corpus = tl.Corpus.from_tokens(np.arange(400, dtype=np.uint16))
    windows = tl.RandomWindows(corpus, batch_size=4, seq_len=5)
    return StatefulDataLoader(windows, batch_size=None, num_workers=num_workers)


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_the_rest_of_the_epoch_is_exact(num_workers: int) -> None:
    """With the same number of workers a fresh loader goes on where the state was taken."""
    loader = make_loader(num_workers)
    iterator = iter(loader)
    for _ in range(7):
        next(iterator)
    state = loader.state_dict()
    expected = [batch.inputs.tolist() for batch in iterator]
    fresh = make_loader(num_workers)
    fresh.load_state_dict(state)
    assert expected == [batch.inputs.tolist() for batch in fresh]
    assert len(expected) == 12
