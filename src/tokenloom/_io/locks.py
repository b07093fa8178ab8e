"""A folder in which one process at a time works."""

import contextlib
import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

# Descriptors of the folders that this process holds.
_HELD: set[int] = set()


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder for the length of the block, without a file in it.

    The kernel lets it go when this process ends, however it ends, whatever
    becomes of the workers that it forked. Where the system has no such locks
    nothing is held.

    Raises
    ------
    BlockingIOError
        It is held already, by this process or another.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        # Not every system opens folders.
        yield
        return
    _let_go_in_children()
    _HELD.add(descriptor)
    try:
        try:
            lock(descriptor)
        except BlockingIOError:
            raise
        except OSError:
            # There are no such locks here.
            pass
        yield
    finally:
        # In a child it may be another file by now.
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


def lock(descriptor: int) -> None:
    """Lock an open file or folder until it is closed, or its process ends.

    Raises
    ------
    BlockingIOError
        Another process has locked it.
    OSError
        There are no such locks here.
    """
    if sys.platform == "win32":
        raise OSError
    # It exists on no other system.
    import fcntl  # noqa: PLC0415

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def try_lock(descriptor: int, path: Path) -> Literal["locked", "lost", "no locks here"]:
    """Lock an open file or folder, unless another process has it or its name.

    Returns
    -------
    "locked", "lost" or "no locks here"
        Lost: another process holds the lock, or has removed or renamed the path
        before it was locked here.
    """
    try:
        lock(descriptor)
    except BlockingIOError:
        return "lost"
    except OSError:
        return "no locks here"
    try:
        # Whoever held it may have renamed or removed it before it was free.
        is_same = os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return "lost"
    return "locked" if is_same else "lost"
