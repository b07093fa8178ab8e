"""Errors that come out of the workers of PyTorch's loaders."""

import contextlib
import traceback
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def raises_from_worker(kind: type[Exception], *, match: str) -> Iterator[None]:
    """Check that an error is raised, as `pytest.raises` does, and let the workers end at once.

    The frames of such an error and the loader's iterator refer to each other.
    The garbage collector, which would find them some tests later, ends the
    queues first by which PyTorch tells the workers to stop: then it waits for
    each of them five seconds, and kills it.
    """
    with pytest.raises(kind, match=match) as caught:
        yield
    traceback.clear_frames(caught.tb)
    caught.value.__traceback__ = None
    del caught
