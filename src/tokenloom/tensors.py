"""What batches say, as tensors."""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from tokenloom.arrays import Ids
from tokenloom.plans import IntArray

IGNORED_TARGET = -100
"""The target where there is nothing to learn: PyTorch's default ignore_index."""


class Tensors(NamedTuple):
    """What one or more batches say, as int64 tensors.

    Attributes
    ----------
    inputs, targets : int64 tensor, shape (..., num_rows, seq_len)
        Contiguous, and in memory of their own each.
    mask : bool tensor of that shape, or None
        Where there is something to learn; None for everywhere.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    mask: torch.Tensor | None = None

    def map(self, move: Callable[[torch.Tensor], torch.Tensor]) -> "Tensors":
        """Return the result of ``move`` for each tensor."""
        mask = None if self.mask is None else move(self.mask)
        return Tensors(move(self.inputs), move(self.targets), mask)

    def to(self, device: torch.device | str | int, *, non_blocking: bool = False) -> "Tensors":
        """Return the tensors on a device; see `torch.Tensor.to`."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Tensors":
        """Return the tensors in page-locked memory."""
        return self.map(torch.Tensor.pin_memory)

    def unbind(self) -> "Iterator[Tensors]":
        """Yield the parts along the first dimension, as views."""
        masks = itertools.repeat(None) if self.mask is None else self.mask.unbind()
        return map(Tensors, self.inputs.unbind(), self.targets.unbind(), masks)


def widen(windows: Ids, lengths: IntArray | None) -> Tensors:
    """Return the inputs and targets of windows.

    Parameters
    ----------
    windows : integer array, shape (..., seq_len + 1)
    lengths : int64 array, shape (...), optional
        How many inputs of each window count, in [0, seq_len]; all by default.
        Where they do not, inputs are 0 and targets `IGNORED_TARGET`.
    """
    inputs = windows[..., :-1].astype(np.int64)
    targets = windows[..., 1:].astype(np.int64)
    if lengths is None:
        return Tensors(torch.from_numpy(inputs), torch.from_numpy(targets))
    mask = np.arange(inputs.shape[-1]) < lengths[..., None]
    inputs[~mask], targets[~mask] = 0, IGNORED_TARGET
    return Tensors(*map(torch.from_numpy, (inputs, targets, mask)))
