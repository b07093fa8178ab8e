"""What a batch is."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn, cast

import numpy as np
import torch
from torch.utils.data._utils.collate import default_collate_fn_map

from tokenloom.arrays import Ids, narrow_dtype
from tokenloom.errors import UsageError
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


class Batch:
    """The inputs and targets of one step; unpacks as ``inputs, targets``.

    A batch pickles as its windows, one narrow array, so a worker of a plain
    DataLoader sends one small message. The tensors are made once, when they
    are asked for; changes to them do not travel.

    Parameters
    ----------
    windows : integer array, shape (num_rows, seq_len + 1), or None
        Token ids. The batch keeps it and does not copy it. None where only
        ``tensors`` hold them.
    epoch, index : int
        The batch is row ``index`` of the plan of this epoch.
    lengths : int64 array, shape (num_rows,), optional
        How many inputs of each row count, in [0, seq_len]; all by default.
    tensors : Tensors, optional
        What the windows say, where that was made already.

    Attributes
    ----------
    epoch, index : int
    """

    __slots__ = ("_lengths", "_tensors", "_windows", "epoch", "index")

    def __init__(
        self,
        windows: Ids | None,
        *,
        epoch: int,
        index: int,
        lengths: IntArray | None = None,
        tensors: Tensors | None = None,
    ) -> None:
        self._windows = windows
        self._lengths = lengths
        self._tensors = tensors
        self.epoch = epoch
        self.index = index

    @property
    def inputs(self) -> torch.Tensor:
        """Token ids: int64 tensor, shape (num_rows, seq_len); 0 where padded."""
        return self._widened().inputs

    @property
    def targets(self) -> torch.Tensor:
        """The token after each input: int64 tensor, shape (num_rows, seq_len).

        -100, which PyTorch's losses ignore, where padded.
        """
        return self._widened().targets

    @property
    def mask(self) -> torch.Tensor:
        """True where there is something to learn: bool tensor, shape (num_rows, seq_len)."""
        tensors = self._widened()
        if tensors.mask is None:
            mask = torch.ones_like(tensors.inputs, dtype=torch.bool)
            self._tensors = tensors = tensors._replace(mask=mask)
        return cast("torch.Tensor", tensors.mask)

    @property
    def num_targets(self) -> int:
        """How many targets there are to learn: all but the padding."""
        if self._lengths is None:
            num_rows, seq_len = self._shape
            return num_rows * seq_len
        return int(self._lengths.sum())

    def to(self, device: torch.device | str | int, *, non_blocking: bool = False) -> "Batch":
        """Return this batch with its tensors on a device.

        Parameters
        ----------
        device : torch.device, str or int
        non_blocking : bool
            Whether a copy from pinned memory may go on in the background.
        """
        return self._with(self._widened().to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """Return this batch with its tensors in page-locked memory.

        PyTorch's DataLoader calls it where ``pin_memory=True``.
        """
        return self._with(self._widened().pin_memory())

    def __iter__(self) -> Iterator[torch.Tensor]:
        tensors = self._widened()
        yield tensors.inputs
        yield tensors.targets

    def __getitem__(self, position: int) -> torch.Tensor:
        return (self.inputs, self.targets)[position]

    def __len__(self) -> int:
        return 2

    def __repr__(self) -> str:
        num_rows, seq_len = self._shape
        return f"Batch({num_rows} x {seq_len}, epoch={self.epoch}, index={self.index})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _make_batch, (self._narrow(), self.epoch, self.index, self._lengths)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Batch":
        return self._with(self._widened().map(torch.Tensor.clone))

    @property
    def _shape(self) -> tuple[int, int]:
        if self._windows is None:
            num_rows, seq_len = self._widened().inputs.shape
            return num_rows, seq_len
        num_rows, width = self._windows.shape
        return num_rows, width - 1

    def _widened(self) -> Tensors:
        if self._tensors is None:
            self._tensors = widen(cast("Ids", self._windows), self._lengths)
        return self._tensors

    def _narrow(self) -> Ids:
        if self._windows is not None:
            return self._windows
        # Padding becomes 0 here, and -100 again where it is widened.
        inputs, targets = self
        windows = torch.cat([inputs[:, :1], targets], dim=1).clamp(min=0).cpu().numpy()
        narrow: Ids = windows.astype(narrow_dtype(int(windows.max()) + 1))
        return narrow

    def _with(self, tensors: Tensors) -> "Batch":
        return Batch(
            self._windows,
            epoch=self.epoch,
            index=self.index,
            lengths=self._lengths,
            tensors=tensors,
        )


def _make_batch(windows: Ids, epoch: int, index: int, lengths: IntArray | None) -> Batch:
    return Batch(windows, epoch=epoch, index=index, lengths=lengths)


def _refuse_to_collate(_: Sequence[Batch], **__: object) -> NoReturn:
    msg = (
        "the windows yield whole batches already, so DataLoader must not collate "
        "them: use DataLoader(windows, batch_size=None, ...)"
    )
    raise UsageError(msg)


# PyTorch's documented way to say how a type is collated. Without it, forgetting
# batch_size=None would end in an error that does not name the cure.
default_collate_fn_map[Batch] = _refuse_to_collate
