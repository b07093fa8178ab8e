"""Files that are written whole or not at all.

All of these raise ArgumentError for a path that no file can have, and OSError
where the system refuses.
"""

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from tokenloom._io.locks import held
from tokenloom._io.remote import is_address
from tokenloom._wording import redact, show
from tokenloom.errors import ArgumentError

# An unfinished file that is older than this belongs to no process that still writes it.
_STALE_SECONDS = 7 * 24 * 3600.0


def as_path(path: str | os.PathLike[str]) -> Path:
    """Return a path that a file or a folder can have.

    Raises
    ------
    ArgumentError
        It is no path, or empty, or an address, or holds a NUL character, or half of a
        surrogate pair, which no system allows.
    """
    require_path(path)
    name = os.fspath(path)
    if "://" in name and is_address(name):
        msg = (
            "a path must name a file or a folder on this machine, got the address "
            f"{redact(name)!r}: name a local one, and copy it from or to the address"
        )
        raise ArgumentError(msg)
    if not name:
        msg = "a path must not be empty, got '': name a file or a folder ('.' is this one)"
        raise ArgumentError(msg)
    if "\0" in name:
        msg = f"a path must hold no NUL character, got {show(name)}: name another"
        raise ArgumentError(msg)
    try:
        os.fsencode(name)
    except UnicodeEncodeError as error:
        msg = f"a path must hold characters that can be written, got {show(name)}: name another"
        raise ArgumentError(msg) from error
    return Path(path)


def as_file_path(path: str | os.PathLike[str]) -> Path:
    """Return a path at which a file can be written.

    Raises
    ------
    ArgumentError
        As for `as_path`; or it is the path of a folder, as one is that ends in a
        separator, ``.`` or ``..``.

    >>> as_file_path("runs/plan.png").name
    'plan.png'
    """
    target = as_path(path)
    # os.path returns False for a name that is too long; Path raises.
    if not _ends_in_name(path) or os.path.isdir(path):  # noqa: PTH112
        _refuse_folder(path)
    return target


def as_stem(path: str | os.PathLike[str]) -> Path:
    """Return what the paths of several files begin with, which differ in their suffix.

    Raises
    ------
    ArgumentError
        As for `as_path`; or it ends in a separator, ``.`` or ``..``.
    """
    stem = as_path(path)
    if not _ends_in_name(path):
        _refuse_folder(path)
    return stem


def require_path(path: object) -> None:
    """Refuse a value that is no path.

    Raises
    ------
    ArgumentError
        It is neither a str nor an object such as `pathlib.Path`.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        msg = f"a path must be a str or an object such as pathlib.Path, got {show(path)}"
        raise ArgumentError(msg)


def require_own(path: str | os.PathLike[str]) -> None:
    """Refuse a name that was taken by a link, or by a file or folder of another user.

    Anyone who may write to a folder can plant either under a name that tokenloom
    is going to use, so this comes before a file or folder that was there
    already is written to, emptied, removed or trusted. A name that is free is
    fine, and so are links among the folders before the name.

    The owner must be the one that a new file gets there: on some network
    drives and container mounts that is another user than the process has.

    Raises
    ------
    PermissionError
        It is a link, or it belongs to another user; the message says which.
    """
    target = as_path(path)
    try:
        status = target.lstat()
    except FileNotFoundError:
        return
    if _is_link(status):
        _refuse(target, "must be no link, since tokenloom must not change the target of one")
    # Windows knows other owners than numbers.
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        beside = target if stat.S_ISDIR(status.st_mode) and target.is_mount() else target.parent
        if status.st_uid != _owner_of_new_files(beside):
            _refuse(target, f"must belong to this user, belongs to user {status.st_uid}")


def follow_own(path: str | os.PathLike[str]) -> Path:
    """Return the target of a link that this user owns, and any other path as it is.

    Nobody else can plant such a link, so its target was meant.
    """
    target = as_path(path)
    try:
        status = target.lstat()
    except OSError:
        return target
    is_own = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
    # Unlike Path.resolve it raises nothing where links lead in a circle.
    return Path(os.path.realpath(target)) if _is_link(status) and is_own else target


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path that takes the name ``path`` if the block succeeds.

    The temporary file is empty and lies in the folder of ``path``, which is
    made if it is missing. Its bytes are on the disk before it is renamed, so
    a reader sees the old file or the whole new one. If the block raises, the
    temporary file is removed and ``path`` is as before. What a killed process
    left of the same name is removed first.
    """
    target = as_file_path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(target, is_folder=False) as temporary:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
        synchronize_folder(target.parent)


@contextmanager
def filling(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder that takes the name ``path`` if the block succeeds.

    Until then it lies in another one that only this user can enter. If the
    block raises, both are removed and ``path`` is as before. What a killed
    process left of the same name is removed first.

    Raises
    ------
    FileExistsError
        There is a file or a link of that name, or a folder that is not empty.
    """
    target = as_path(path).absolute()
    if obstacle := find_obstacle(target):
        reason = f"must be a new or an empty folder, but {obstacle}"
        raise FileExistsError(errno.EEXIST, reason, str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(target, is_folder=True) as private:
        folder = private / target.name
        folder.mkdir()
        yield folder
        take_name(folder, target)


def find_obstacle(target: Path) -> str | None:
    """Return why a folder cannot take a name; None if it is free or names an empty folder.

    A link is in the way too, wherever it leads.
    """
    # As in `as_file_path`: a name that is too long is refused where the folder is made.
    if os.path.islink(target) or os.path.ismount(target):  # noqa: PTH114
        return "is a link or a mount point, which cannot be replaced: name a folder in it"
    if os.path.lexists(target) and not (target.is_dir() and not any(target.iterdir())):
        return "is not: name another"
    return None


def take_name(folder: Path, target: Path) -> None:
    """Give a folder a name that is free, or that of an empty folder.

    Raises
    ------
    OSError
        Something else has taken that name meanwhile.
    """
    if target.exists():
        # Windows renames only to names that do not exist.
        target.rmdir()
    folder.rename(target)


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove what killed processes left of `replacing` and `filling` for a path.

    Their process holds a lock on it, which ends with the process. What another
    process still writes, a link, and what belongs to another user stay. Where
    the system has no such locks, only what is older than a week is removed.
    """
    target = as_path(path)
    with contextlib.suppress(OSError):
        for found in _find_leftovers(target.parent, re.escape(target.name)):
            # Files of other users, and files that are still held, are no leftovers.
            with contextlib.suppress(OSError):
                require_own(found)
                _remove_leftover(found)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` to ``path`` in UTF-8, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def synchronize_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can be asked for it."""
    # Windows opens no folders, and some network drives synchronise none.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_partial(folder: Path) -> None:
    """Remove the temporary files in a folder, which killed processes left.

    No living process may be writing there.
    """
    for path in _find_leftovers(folder, ".+"):
        # Folders, and files of other users, are no leftovers.
        with contextlib.suppress(OSError):
            require_own(path)
            path.unlink(missing_ok=True)


def _find_leftovers(folder: Path, name: str) -> list[Path]:
    """Return the temporary files and folders for names that a regular expression matches."""
    pattern = re.compile(rf"\.{name}\.[0-9a-f]{{16}}\.part")
    return [path for path in folder.iterdir() if pattern.fullmatch(path.name)]


def _ends_in_name(path: str | os.PathLike[str]) -> bool:
    # Path leaves out a separator at the end, and a dot.
    return os.path.basename(os.fspath(path)) not in {"", os.curdir, os.pardir}  # noqa: PTH119


def _refuse_folder(path: str | os.PathLike[str]) -> NoReturn:
    got = show(os.fspath(path))
    msg = f"a path must be that of a file, got {got}, which names a folder: add a file's name"
    raise ArgumentError(msg)


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


@contextmanager
def _temporary(target: Path, *, is_folder: bool) -> Iterator[Path]:
    """Yield a new file or private folder beside a target, held, and remove it at the end."""
    remove_leftovers(target)
    with contextlib.ExitStack() as stack:
        path = _make_held(target, stack, is_folder=is_folder)
        try:
            yield path
        finally:
            if is_folder:
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _make_held(target: Path, stack: contextlib.ExitStack, *, is_folder: bool) -> Path:
    while True:
        path = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
        if is_folder:
            path.mkdir(mode=0o700)
        else:
            path.touch(exist_ok=False)
        # Another process may take the new file for a leftover, and remove it before it is held.
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            stack.enter_context(held(path))
            return path


def _remove_leftover(path: Path) -> None:
    with held(path) as is_held:
        age = time.time() - path.lstat().st_mtime
        if not is_held and age < _STALE_SECONDS:
            return
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
