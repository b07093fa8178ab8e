"""Files that are written whole or not at all."""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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


def _partial_name(target: Path) -> str:
    return f".{target.name}.{secrets.token_hex(8)}.part"
