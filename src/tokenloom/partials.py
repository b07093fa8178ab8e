"""Files and folders on their way to a name, each written by one process only.

A partial lies beside its target, under a hidden name of its own. Its process
holds a lock on it, which the kernel frees when the process ends, however it
ends. So a partial without a lock is an orphan: the next process adopts it, or
removes it. There are no lock files. Where the system has no such locks nothing
is adopted, and orphans are removed by their age.
"""

import contextlib
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from tokenloom.files import try_lock

# Longer than any transfer that is still wanted.
_STALE_SECONDS = 7 * 24 * 3600.0
_FILE, _FOLDER = "download", "unpack"


class PartialFile:
    """A file that takes the name ``target`` once it is whole.

    It is an adopted orphan, or new. When the block ends it is kept for the next
    process, unless it was published, is empty, or the disk refused it.

    Parameters
    ----------
    target : path
        Its folder is made if it is missing.

    Raises
    ------
    OSError
        The folder cannot be made or written to.
    """

    def __init__(self, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(target.parent)
        self._target = target
        self._path, self._file = _adopt(target) or _create(target)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file.closed:
            return
        # What filled the disk must not stay; where there are no locks nobody
        # could adopt it.
        if isinstance(error, OSError) or self.size == 0 or not _has_locks():
            self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._file.close()

    @property
    def path(self) -> Path:
        """Where it is now."""
        return self._path

    @property
    def size(self) -> int:
        """How many bytes it holds."""
        return os.fstat(self._file.fileno()).st_size

    def append(self, content: bytes) -> None:
        """Write bytes at its end; another process sees them at once."""
        self._file.seek(0, os.SEEK_END)
        self._file.write(content)
        self._file.flush()

    def restart(self) -> None:
        """Forget all bytes."""
        self._file.truncate(0)

    def publish(self) -> None:
        """Give it the name of the target, with its bytes on the disk before."""
        os.fsync(self._file.fileno())
        if sys.platform == "win32":
            # Windows renames no open file; nobody there adopts a closed one.
            self._file.close()
        # Still locked: nobody can take it for an orphan and write to it.
        self._path.replace(self._target)
        self._file.close()


@contextlib.contextmanager
def partial_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the name ``target`` if the block succeeds.

    If another process was faster its folder stays, and this one is removed.

    Raises
    ------
    OSError
        The folder cannot be made or renamed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(target.parent)
    for orphan in _partials(target, _FOLDER):
        _remove(orphan, _claim(orphan))
    path, descriptor = _create_folder(target)
    try:
        yield path
        if hasattr(os, "sync"):
            # One call, where a file at a time would take minutes for many files.
            os.sync()
        try:
            path.rename(target)
        except OSError:
            # Systems name it differently that another process was faster.
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def _hidden(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(8)}.{kind}")


def _partials(target: Path, kind: str) -> list[Path]:
    pattern = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{16}}\.{kind}")
    return [path for path in target.parent.iterdir() if pattern.fullmatch(path.name)]


def _create(target: Path) -> tuple[Path, BinaryIO]:
    while True:
        path = _hidden(target, _FILE)
        file = path.open("xb+")
        if try_lock(file.fileno(), path) != "lost":
            return path, file
        file.close()


def _create_folder(target: Path) -> tuple[Path, int | None]:
    while True:
        path = _hidden(target, _FOLDER)
        path.mkdir()
        if not _has_locks():
            return path, None
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY)
            if try_lock(descriptor, path) != "lost":
                return path, descriptor
            os.close(descriptor)


def _adopt(target: Path) -> tuple[Path, BinaryIO] | None:
    """Return the longest orphan, and remove the others."""
    found = ((path, _claim(path)) for path in _partials(target, _FILE))
    claimed = {path: descriptor for path, descriptor in found if descriptor is not None}
    if not claimed:
        return None
    longest = max(claimed, key=lambda path: os.fstat(claimed[path]).st_size)
    file = os.fdopen(claimed.pop(longest), "rb+")
    for path, descriptor in claimed.items():
        _remove(path, descriptor)
    return longest, file


def _remove_stale(folder: Path) -> None:
    """Remove orphans, of any target, that nobody came back for."""
    pattern = re.compile(rf"\..+\.[0-9a-f]{{16}}\.({_FILE}|{_FOLDER})")
    for path in folder.iterdir():
        if pattern.fullmatch(path.name):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                    _remove(path, _claim(path, needs_lock=False))


def _claim(path: Path, *, needs_lock: bool = True) -> int | None:
    """Return a descriptor of a partial that no living process holds, else None."""
    try:
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except OSError:
        return None
    outcome = try_lock(descriptor, path)
    if outcome == "locked" or (outcome == "no locks here" and not needs_lock):
        return descriptor
    os.close(descriptor)
    return None


def _remove(path: Path, descriptor: int | None) -> None:
    """Remove an orphan that was claimed."""
    if descriptor is None:
        return
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            os.close(descriptor)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _has_locks() -> bool:
    return sys.platform != "win32"
