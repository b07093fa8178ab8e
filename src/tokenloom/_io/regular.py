"""Files that came from elsewhere, opened only where they are regular, read within a bound.

All of these that take a path raise ArgumentError for a path that no file can have.
"""

import errno
import glob
import io
import os
import stat
from pathlib import Path
from typing import BinaryIO

from tokenloom._io.atomic import as_path, require_own

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFDIR: "a folder",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a symbolic link",
}


def match_pattern(pattern: str) -> list[str]:
    """Return the files and folders that match a pattern, sorted, each once.

    ``**`` means any number of folders.
    """
    # With "**" twice a file matches once for each way to divide its folders.
    return sorted(set(glob.glob(pattern, recursive=True)))  # noqa: PTH207  absolute ones too


def open_regular(path: str | os.PathLike[str], *, follow_links: bool = True) -> BinaryIO:
    """Open a regular file to read bytes, as in `open_raw`, through a buffer."""
    return io.BufferedReader(open_raw(path, follow_links=follow_links))


def open_raw(path: str | os.PathLike[str], *, follow_links: bool = True) -> io.FileIO:
    """Open a regular file to read bytes; anything else is refused without waiting for it.

    Parameters
    ----------
    path : str or path
    follow_links : bool
        Whether a symbolic link that leads to a regular file may stand for it.

    Raises
    ------
    OSError
        It is missing, cannot be read, or is a pipe, a device, a folder, a
        socket, or a link that must not be followed; the message names which.
    """
    path = path if isinstance(path, Path) else as_path(path)
    try:
        # Check before opening: opening a pipe may wait, and opening a device may act.
        status = path.stat(follow_symlinks=follow_links)
    except ValueError:
        # No system allows such a name: as_path raises an error that explains it.
        as_path(path)
        raise
    _refuse_irregular(path, status)
    # Another file may have taken the name since the check; for a regular file these flags have no
    # effect.
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    if not follow_links:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags)
    try:
        _refuse_irregular(path, os.fstat(descriptor))
    except OSError:
        os.close(descriptor)
        raise
    return io.FileIO(descriptor)


def read_bounded(
    path: str | os.PathLike[str], *, max_bytes: int, follow_links: bool = True
) -> bytes:
    """Return the bytes of a regular file that holds at most ``max_bytes``.

    Raises
    ------
    OSError
        As for `open_regular`, or the file holds more.
    """
    with open_regular(path, follow_links=follow_links) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        reason = f"must hold at most {max_bytes:,} bytes, holds more"
        raise OSError(errno.EFBIG, reason, os.fspath(path))
    return content


def append_regular(path: str | os.PathLike[str], content: bytes) -> None:
    """Append to a regular file of this user, which is made if it is missing.

    Raises
    ------
    OSError
        It is a link, or no regular file, or another user's, or cannot be written.
    """
    path = as_path(path)
    require_own(path)
    if path.exists():
        _refuse_irregular(path, path.lstat())
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, flags, 0o666), "ab") as file:
        _refuse_irregular(path, os.fstat(file.fileno()))
        file.write(content)


def _refuse_irregular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no file")
    code = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL
    raise OSError(code, f"must be a regular file, is {kind}", os.fspath(path))
