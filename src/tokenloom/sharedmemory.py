"""Memory that processes share."""

import contextlib
import gc
from collections.abc import Iterator

import torch


def share_zeros(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    """Return zeros in shared memory, which goes with the last process that maps it.

    Whatever default device or mode the caller has set: the tensor is on the
    CPU, and may be written to later.
    """
    with torch.inference_mode(mode=False):
        tensor = torch.zeros(shape, dtype=dtype, device="cpu")
        return share(tensor)


def share(tensor: torch.Tensor) -> torch.Tensor:
    """Move a tensor to shared memory, where it is not there yet, and return it."""
    tensor.share_memory_()  # type: ignore[no-untyped-call]  # PyTorch leaves it unannotated
    return tensor


@contextlib.contextmanager
def objects_that_stay_shared() -> Iterator[None]:
    """Keep the objects that are there from being collected in processes that are forked here.

    A collection writes to every object that it looks at, and so would copy all
    memory that a fork left shared, once in each process.
    """
    if gc.get_freeze_count():
        # Whoever has done so before knows better when it ends.
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
