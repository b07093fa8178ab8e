"""An integer that a process shares with the workers that it starts."""

import itertools
import os
import weakref
from multiprocessing.reduction import ForkingPickler
from typing import Any, Self

import torch

# Integers in one piece of shared memory. Each piece keeps a file open, and many systems allow a
# process 1,024 open files.
_PER_PAGE = 8_192


def share_zeros(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    """Return zeros in shared memory, which is freed with the last process that maps it.

    The tensor is on the CPU and may be written to, whatever default device or
    mode the caller has set.
    """
    with torch.inference_mode(mode=False):
        tensor = torch.zeros(shape, dtype=dtype, device="cpu")
        tensor.share_memory_()  # type: ignore[no-untyped-call]  # PyTorch leaves it unannotated
        return tensor


class SharedInteger:
    """An integer that a process shares with the workers that it starts, by any method.

    A forked worker inherits it. A spawned worker, or a queue of multiprocessing,
    is sent its place in shared memory. A plain pickle holds the number, and
    unpickling makes a new shared integer.

    Parameters
    ----------
    value : int
        In [-2**63, 2**63).

    >>> cell = SharedInteger(3)
    >>> cell.value += 1
    >>> cell.value
    4
    """

    __slots__ = ("index", "page")

    def __init__(self, value: int = 0) -> None:
        self.page, self.index = _take_place()
        self.value = value

    @classmethod
    def at(cls, page: "_Page", index: int) -> Self:
        """Return the integer at a place that already exists."""
        cell = cls.__new__(cls)
        cell.page, cell.index = page, index
        return cell

    @property
    def value(self) -> int:
        """Current value, which any of the processes may have set."""
        return int(self.page.values[self.index])

    @value.setter
    def value(self, value: int) -> None:
        self.page.values[self.index] = value

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedInteger, (self.value,)


class _Page:
    """Shared memory for many integers, which is freed with the last of them.

    A place is never used twice, because a worker may still read it.
    """

    def __init__(self, tensor: torch.Tensor | None = None) -> None:
        self._tensor = share_zeros(_PER_PAGE, dtype=torch.int64) if tensor is None else tensor
        # Through NumPy: nothing that the caller does in inference mode matters.
        self.values = self._tensor.numpy()
        # Only the process that made a page gives out its places.
        self._maker = os.getpid() if tensor is None else None
        self._indices = itertools.count()

    def take_index(self) -> int | None:
        """Return a free place, or None if the page is full."""
        index = next(self._indices)
        return index if index < _PER_PAGE and self._maker == os.getpid() else None

    def __reduce__(self) -> tuple[Any, ...]:
        return _Page, (self._tensor,)


class _Newest:
    """The page that has free places, kept while one of its integers is in use."""

    page: "weakref.ref[_Page] | None" = None


def _take_place() -> tuple[_Page, int]:
    page = None if _Newest.page is None else _Newest.page()
    index = None if page is None else page.take_index()
    if page is None or index is None:
        page, index = _Page(), 0
        page.take_index()
        _Newest.page = weakref.ref(page)
    return page, index


def _send(cell: SharedInteger) -> tuple[Any, ...]:
    return SharedInteger.at, (cell.page, cell.index)


ForkingPickler.register(SharedInteger, _send)
