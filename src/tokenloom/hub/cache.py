"""Named texts on this machine: the cache folder, and what is downloaded into it."""

import os
import sys
from pathlib import Path
from typing import Literal

from tokenloom._wording import show
from tokenloom.errors import ArgumentError
from tokenloom.hub.addresses import hide_password, is_address
from tokenloom.hub.archive import unpack
from tokenloom.hub.catalogue import Archive, BuiltIn, Entry, RemoteFile
from tokenloom.hub.download import download

Where = Literal["built in", "cached", "to download"]


def fetch(entry: Entry, *, progress: bool | None = None) -> Path:
    """Return the path of a named text in the cache, downloaded if necessary.

    A file in the cache, even if you put it there, is used if its hash is right,
    and downloaded again otherwise. If ``TOKENLOOM_MIRROR`` is set, the file is
    downloaded only from ``$TOKENLOOM_MIRROR/<filename>``. If
    ``TOKENLOOM_OFFLINE`` is set, nothing is downloaded. An archive is unpacked
    once, into a folder next to it with its hash in the name; the archive itself
    is not needed afterwards.

    Raises
    ------
    ArchiveError
        The archive cannot be unpacked.
    ArgumentError
        The text is built in; there is no file to fetch.
    ChecksumError, DownloadError
        The text could not be fetched.
    """
    match entry.source:
        case BuiltIn():
            msg = f"{entry.name!r} is built in and is no file: use load or read_documents"
            raise ArgumentError(msg)
        case RemoteFile() as file:
            return _fetch_file(file, progress=progress)
        case Archive(file=file, required=required):
            folder = _folder(file)
            # See `download`.
            if os.path.isdir(folder):  # noqa: PTH112
                return folder
            archive = _fetch_file(file, progress=progress)
            return unpack(archive, folder, required=required, progress=progress)


def _fetch_file(file: RemoteFile, *, progress: bool | None) -> Path:
    return download(
        addresses(file.filename, file.urls),
        cache_folder() / file.filename,
        num_bytes=file.num_bytes,
        digest=file.digest,
        progress=progress,
    )


def _folder(file: RemoteFile) -> Path:
    # Another edition of the archive gets another folder.
    digits = file.digest.partition(":")[2].lower()
    return cache_folder() / f"{file.filename.partition('.')[0]}-{digits[:16]}"


def locate(entry: Entry) -> Where:
    """Return whether a named text is in the cache; only the size of its file is compared."""
    if entry.file is None:
        return "built in"
    # os.path returns False for a name that no file can have; Path raises.
    if isinstance(entry.source, Archive) and os.path.isdir(_folder(entry.file)):  # noqa: PTH112
        return "cached"
    try:
        size = (cache_folder() / entry.file.filename).stat().st_size
    except OSError:
        return "to download"
    return "cached" if entry.file.num_bytes in (None, size) else "to download"


def cache_folder() -> Path:
    """Return the folder of downloaded texts, which need not exist yet.

    ``TOKENLOOM_CACHE`` if set; else ``tokenloom`` in ``~/Library/Caches``
    (macOS), ``%LOCALAPPDATA%`` (Windows) or ``$XDG_CACHE_HOME``, by default
    ``~/.cache``.

    Raises
    ------
    ArgumentError
        The home folder with which it begins cannot be found.
    """
    chosen = os.environ.get("TOKENLOOM_CACHE")
    try:
        if chosen:
            return Path(chosen).expanduser()
        home = Path.home()
    except RuntimeError as error:
        msg = (
            "TOKENLOOM_CACHE must be a folder, without '~' where there is no home of that name, "
            f"got {show(chosen)}"
        )
        raise ArgumentError(msg) from error
    match sys.platform:
        case "darwin":
            base = home / "Library" / "Caches"
        case "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
        case _:
            base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "tokenloom"


def addresses(filename: str, urls: tuple[str, ...]) -> tuple[str, ...]:
    """Return the addresses of a file: only that at ``TOKENLOOM_MIRROR``, if that is set.

    Raises
    ------
    ArgumentError
        ``TOKENLOOM_MIRROR`` is no address to which the name of a file can be
        appended.
    """
    mirror = os.environ.get("TOKENLOOM_MIRROR")
    if not mirror:
        return urls
    if not is_address(mirror) or "?" in mirror or "#" in mirror:
        msg = (
            "TOKENLOOM_MIRROR must be an http or https address with a host, and without '?' and "
            f"'#', got {hide_password(mirror)!r}"
        )
        raise ArgumentError(msg)
    return (f"{mirror.rstrip('/')}/{filename}",)
