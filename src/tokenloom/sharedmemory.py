"""Tensors in memory that processes share."""

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
