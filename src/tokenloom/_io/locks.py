"""Files and folders that one process at a time holds."""

import contextlib
import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

# Neither waits for a pipe nor follows a link, where the system has these flags.
_TO_HOLD = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
# Descriptors of the files and folders that this process holds.
_HELD: set[int] = set()


@contextlib.contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold a file or a folder for the length of the block, without a file beside it.

    The kernel releases it when this process ends, in whatever way, even while
    workers that it forked live on. Yields whether it is held: False where the
    system has no such locks, and where this user may not read it.

    Raises
    ------
    BlockingIOError
        It is held already, by this process or another; or its holder has
        removed or renamed it before it was free.
    OSError
        It is missing, or is a link.
    """
    descriptor = _open(path)
    if descriptor is None:
        yield False
        return
    _let_go_in_children()
    _HELD.add(descriptor)
    try:
        yield _lock(descriptor, path)
    finally:
        # In a forked child this number may belong to another file.
        if descriptor in _HELD:
            _HELD.remove(descriptor)
            os.close(descriptor)


@functools.cache
def _let_go_in_children() -> None:
    """Let forked processes close their copies, which would keep the lock."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_let_go)


def _let_go() -> None:
    for descriptor in _HELD:
        os.close(descriptor)
    _HELD.clear()


def _open(path: Path) -> int | None:
    if sys.platform == "win32":
        # Windows has no such locks, and cannot rename an open file.
        return None
    try:
        return os.open(path, _TO_HOLD)
    except PermissionError:
        return None


def _lock(descriptor: int, path: Path) -> bool:
    """Lock an open file or folder until it is closed, or its process ends."""
    # Only Unix has this module.
    import fcntl  # noqa: PLC0415

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        # Some network drives have no such locks.
        return False
    if not (os.path.lexists(path) and os.path.samestat(os.fstat(descriptor), path.lstat())):
        raise BlockingIOError
    return True
