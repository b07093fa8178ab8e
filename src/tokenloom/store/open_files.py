"""How many files all corpora of a process keep open together, and how many each of them."""

import os
import threading
import weakref
from collections.abc import Sequence
from typing import Protocol

# A system may have no more maps in a process than four times as many.
_MOST = 1 << 14
# Where the system has no limit of open files that Python knows.
_WITHOUT_LIMIT = 512


class Keeper(Protocol):
    """What keeps files open."""

    @property
    def num_files(self) -> int:
        """How many files it would keep open, if it could."""

    @property
    def num_open(self) -> int:
        """How many files it keeps open."""

    def keep(self, max_open: int) -> None:
        """Keep at most this number of files open from now on, and close others."""


class OpenFiles:
    """The shares of all keepers in the files that a process may have open.

    Together they keep at most half of the number that the system allows a process. A
    process that is forked has its own limit, and the same shares.

    Attributes
    ----------
    lock : RLock
        Held where a keeper changes what it keeps.
    num_closings : int
        How often files were closed since no other could be opened.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._keepers: weakref.WeakSet[Keeper] = weakref.WeakSet()
        self._num_keepers = 0
        self.num_closings = 0
        # Less than the system allows where the rest of the process has many files open.
        self._most = _MOST

    def join(self, keeper: Keeper) -> None:
        """Give a keeper its share, and divide anew where others have come or gone."""
        with self.lock:
            is_new = keeper not in self._keepers
            self._keepers.add(keeper)
            if not is_new and len(self._keepers) == self._num_keepers:
                return
            self._divide()

    def close_half(self, num_closings: int) -> None:
        """Let keepers close half of their files, and keep no more of them open from now on.

        For a process that can open no file any more: others of its files, or a limit that
        was lowered, leave less room than the share of the keepers.

        Parameters
        ----------
        num_closings : int
            The attribute of this name before a file could not be opened. Where another
            thread has closed files since then, none is closed.
        """
        with self.lock:
            if num_closings == self.num_closings:
                self.num_closings += 1
                self._most = sum(keeper.num_open for keeper in self._keepers) // 2
                self._divide()

    def _divide(self) -> None:
        keepers = list(self._keepers)
        self._num_keepers = len(keepers)
        total = min(count_allowed(), self._most)
        for each, share in zip(
            keepers, divide(total, [one.num_files for one in keepers]), strict=True
        ):
            each.keep(share)

    def renew_lock(self) -> None:
        """Make the lock anew in a forked process, where no thread is left that holds it."""
        self.lock = threading.RLock()


def count_allowed() -> int:
    """Return how many files all keepers may have open: each map holds its file open."""
    try:
        import resource  # noqa: PLC0415  Windows has none
    except ImportError:
        return _WITHOUT_LIMIT
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else min(soft // 2, _MOST)


def divide(total: int, wanted: Sequence[int]) -> list[int]:
    """Return equal shares of a number, but to nobody more than is wanted, and at least 1.

    >>> divide(10, [9, 2, 7]), divide(2, [5, 5, 5])
    ([4, 2, 4], [1, 1, 1])
    """
    shares = [1] * len(wanted)
    # Who wants least comes first, and leaves the rest to the others.
    for num_served, index in enumerate(sorted(range(len(wanted)), key=wanted.__getitem__)):
        shares[index] = max(min(wanted[index], total // (len(wanted) - num_served)), 1)
        total -= shares[index]
    return shares


OPEN_FILES = OpenFiles()
"""Those of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=OPEN_FILES.renew_lock)
