"""Memory that processes share."""

import itertools
import os
import weakref
from multiprocessing.reduction import ForkingPickler
from typing import Any, Self

import torch

# Each piece of shared memory keeps a file open, of which a process may have 1,024 on many
# systems: so many integers lie in one.
_PER_PAGE = 8_192


def share_zeros(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    """Return zeros in shared memory, which goes with the last process that maps it.

    Whatever default device or mode the caller has set: the tensor is on the
    CPU, and may be written to later.
    """
    with torch.inference_mode(mode=False):
        tensor = torch.zeros(shape, dtype=dtype, device="cpu")
        tensor.share_memory_()  # type: ignore[no-untyped-call]  # PyTorch leaves it unannotated
        return tensor


class SharedInteger:
    """An integer that a process shares with the workers that it starts, by any method.

    A worker that is forked inherits it; to one that is started afresh, or
    through a queue of multiprocessing, its place in shared memory is sent. A
    plain pickle holds the number, and what comes out of it is shared anew.

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
        """Return the integer that lies at a place which exists already."""
        cell = cls.__new__(cls)
        cell.page, cell.index = page, index
        return cell

    @property
    def value(self) -> int:
        """What it is now, whichever process has set it."""
        return int(self.page.values[self.index])

    @value.setter
    def value(self, value: int) -> None:
        self.page.values[self.index] = value

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedInteger, (self.value,)


class _Page:
    """Memory for many integers, which goes with the last of them.

    A place is never used twice, since a worker may still look at it.
    """

    def __init__(self, tensor: torch.Tensor | None = None) -> None:
        self._tensor = share_zeros(_PER_PAGE, dtype=torch.int64) if tensor is None else tensor
        # Through NumPy: nothing that the caller does in inference mode matters.
        self.values = self._tensor.numpy()
        # One that was received or inherited is given out by the process that made it.
        self._maker = os.getpid() if tensor is None else None
        self._indices = itertools.count()

    def take_index(self) -> int | None:
        """Return a free place, or None where another page is needed."""
        index = next(self._indices)
        return index if index < _PER_PAGE and self._maker == os.getpid() else None

    def __reduce__(self) -> tuple[Any, ...]:
        return _Page, (self._tensor,)


class _Newest:
    """The page that has free places, as long as one of its integers is used."""

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
