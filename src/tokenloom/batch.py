"""What a batch is."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data._utils.collate import default_collate_fn_map

from tokenloom.arrays import Ids
from tokenloom.errors import UsageError
from tokenloom.plans import IntArray

IGNORED_TARGET = -100
"""The target where there is nothing to learn: PyTorch's default ignore_index."""


class Batch:
    """The inputs and targets of one step; unpacks as ``inputs, targets``.

    A batch holds its windows as the narrow array that they were copied to, and
    that is what it pickles: a worker sends one small message. The tensors are
    made, once, when they are asked for; changes to them do not travel.

    Parameters
    ----------
    windows : integer array, shape (num_rows, seq_len + 1)
        Token ids. The batch keeps it and does not copy it.
    epoch, index : int
        The batch is row ``index`` of the plan of this epoch.
    lengths : int64 array, shape (num_rows,), optional
        How many inputs of each row count, in [0, seq_len]; all by default.

    Attributes
    ----------
    epoch, index : int
    """

    __slots__ = ("_inputs", "_lengths", "_mask", "_targets", "_windows", "epoch", "index")

    def __init__(
        self, windows: Ids, *, epoch: int, index: int, lengths: IntArray | None = None
    ) -> None:
        self._windows = windows
        self._lengths = lengths
        self._inputs: torch.Tensor | None = None
        self._targets: torch.Tensor | None = None
        self._mask: torch.Tensor | None = None
        self.epoch = epoch
        self.index = index

    @property
    def inputs(self) -> torch.Tensor:
        """Token ids: int64 tensor, shape (num_rows, seq_len); 0 where padded."""
        if self._inputs is None:
            self._inputs = self._widen(self._windows[:, :-1], padding=0)
        return self._inputs

    @property
    def targets(self) -> torch.Tensor:
        """The token after each input: int64 tensor, shape (num_rows, seq_len).

        -100, which PyTorch's losses ignore, where padded.
        """
        if self._targets is None:
            self._targets = self._widen(self._windows[:, 1:], padding=IGNORED_TARGET)
        return self._targets

    @property
    def mask(self) -> torch.Tensor:
        """True where there is something to learn: bool tensor, shape (num_rows, seq_len)."""
        if self._mask is None:
            self._mask = torch.from_numpy(self._counts()).to(self.inputs.device)
        return self._mask

    @property
    def num_targets(self) -> int:
        """How many targets there are to learn: all but the padding."""
        if self._lengths is None:
            num_rows, width = self._windows.shape
            return int(num_rows * (width - 1))
        return int(self._lengths.sum())

    def to(self, device: torch.device | str | int, *, non_blocking: bool = False) -> "Batch":
        """Return this batch with its tensors on a device.

        Parameters
        ----------
        device : torch.device, str or int
        non_blocking : bool
            Whether a copy from pinned memory may go on in the background.
        """
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """Return this batch with its tensors in page-locked memory.

        PyTorch's DataLoader calls it where ``pin_memory=True``.
        """
        return self._map(lambda tensor: tensor.pin_memory())

    def __iter__(self) -> Iterator[torch.Tensor]:
        yield self.inputs
        yield self.targets

    def __getitem__(self, position: int) -> torch.Tensor:
        return (self.inputs, self.targets)[position]

    def __len__(self) -> int:
        return 2

    def __repr__(self) -> str:
        num_rows, width = self._windows.shape
        return f"Batch({num_rows} x {width - 1}, epoch={self.epoch}, index={self.index})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _make_batch, (self._windows, self.epoch, self.index, self._lengths)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Batch":
        return self._map(torch.Tensor.clone)

    def _map(self, move: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        moved = copy.copy(self)
        moved._inputs = move(self.inputs)  # noqa: SLF001  another batch, but our own class
        moved._targets = move(self.targets)  # noqa: SLF001  likewise
        return moved

    def _widen(self, ids: Ids, *, padding: int) -> torch.Tensor:
        wide = ids.astype(np.int64)
        if self._lengths is not None:
            wide[~self._counts()] = padding
        return torch.from_numpy(wide)

    def _counts(self) -> npt.NDArray[np.bool_]:
        num_rows, width = self._windows.shape
        if self._lengths is None:
            return np.ones((num_rows, width - 1), np.bool_)
        return np.arange(width - 1) < self._lengths[:, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Several batches of one epoch in one array: what a worker of `Loader` sends.

    Attributes
    ----------
    windows : integer array, shape (num_batches, num_rows, seq_len + 1)
    lengths : int64 array, shape (num_batches, num_rows), or None
        As in `Batch`.
    epoch : int
    rows : range
        The rows of the plan, one per batch.
    """

    windows: Ids
    lengths: IntArray | None
    epoch: int
    rows: range

    def batch(self, position: int) -> Batch:
        """Return one batch, which shares this block's memory."""
        lengths = None if self.lengths is None else self.lengths[position]
        return Batch(
            self.windows[position], epoch=self.epoch, index=self.rows[position], lengths=lengths
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
