"""Files that are written whole or not at all."""

import errno
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from tokenloom.errors import ArgumentError


def as_path(path: str | os.PathLike[str]) -> Path:
    """Return a path that a file or a folder can have.

    Raises
    ------
    ArgumentError
        It holds a NUL character, which no system allows.
    """
    if "\0" in os.fspath(path):
        msg = f"a path must hold no NUL character, got {os.fspath(path)!r}: name another"
        raise ArgumentError(msg)
    return Path(path)


def require_own(path: str | os.PathLike[str]) -> None:
    """Refuse a name that was taken by a link, or by a file or folder of another user.

    Whoever may write to a folder can plant either under a name that tokenloom
    is going to use, so this comes before a file or folder that was there
    already is written to, emptied, removed or trusted. A name that is free is
    fine, and so are links among the folders before the name.

    The owner must be the one that a new file gets there: on some network
    drives and container mounts that is another user than the process has.

    Raises
    ------
    ArgumentError
        No file can have that path.
    PermissionError
        It is a link, or it belongs to another user; the message says which.
    OSError
        The path cannot be looked at.
    """
    target = as_path(path)
    try:
        status = target.lstat()
    except FileNotFoundError:
        return
    if _is_link(status):
        _refuse(target, "must be no link, since what it leads to may not be tokenloom's to change")
    # Windows knows other owners than numbers.
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        beside = target if stat.S_ISDIR(status.st_mode) and target.is_mount() else target.parent
        if status.st_uid != _owner_of_new_files(beside):
            _refuse(target, f"must belong to this user, belongs to user {status.st_uid}")


def make_private(path: str | os.PathLike[str]) -> None:
    """Make a folder that only this user can enter, unless there is one of this user.

    Folders before it are made as usual.

    Raises
    ------
    ArgumentError
        No folder can have that path.
    FileExistsError
        There is a file of that name.
    PermissionError
        There is a link, or a folder of another user; see `require_own`.
    OSError
        It cannot be made.
    """
    target = as_path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.mkdir(mode=0o700)
    except FileExistsError:
        require_own(target)
        if not target.is_dir():
            raise


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path that takes the name ``path`` if the block succeeds.

    The temporary file is empty and lies in the folder of ``path``, which is
    made if it is missing. Its bytes are on the disk before it is renamed, so
    a reader sees the old file or the whole new one. If the block raises, the
    temporary file is removed and ``path`` is as before.

    Raises
    ------
    ArgumentError
        No file can have that path.
    OSError
        The folder cannot be made or written to.
    """
    target = as_path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(_partial_name(target))
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def filling(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder that takes the name ``path`` if the block succeeds.

    If the block raises, the temporary folder is removed and ``path`` is as before.

    Raises
    ------
    ArgumentError
        No folder can have that path.
    FileExistsError
        There is a file of that name, or a folder that is not empty.
    OSError
        The folder cannot be made or written to.
    """
    target = as_path(path).absolute()
    # lexists, since a link that leads nowhere is in the way too.
    if os.path.lexists(target) and not (target.is_dir() and not any(target.iterdir())):
        raise FileExistsError(errno.EEXIST, "must be a new or an empty folder", str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(_partial_name(target))
    temporary.mkdir()
    try:
        yield temporary
        if target.exists():
            # Windows renames to new names only.
            target.rmdir()
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` to ``path`` in UTF-8, whole or not at all.

    Raises
    ------
    OSError
        The folder cannot be made or written to.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def remove_partial(folder: Path) -> None:
    """Remove the temporary files in a folder, which killed processes left.

    No living process may be writing there.
    """
    for path in folder.iterdir():
        if re.fullmatch(r"\..+\.[0-9a-f]{16}\.part", path.name):
            path.unlink(missing_ok=True)


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


def _is_link(status: os.stat_result) -> bool:
    # A junction of Windows leads elsewhere like a link.
    junction = getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", None)
    is_junction = junction is not None and getattr(status, "st_reparse_tag", 0) == junction
    return stat.S_ISLNK(status.st_mode) or is_junction


def _owner_of_new_files(folder: Path) -> int | None:
    """Return the user that a new file in a folder belongs to, or None where none can be made."""
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".") as file:
            return os.fstat(file.fileno()).st_uid
    except OSError:
        return None


def _refuse(path: Path, reason: str) -> NoReturn:
    message = f"{reason}: remove it, or name another"
    raise PermissionError(errno.EPERM, message, os.fspath(path))


def _partial_name(target: Path) -> str:
    return f".{target.name}.{secrets.token_hex(8)}.part"
