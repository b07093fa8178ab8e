"""Copies of files at addresses whose texts lie anywhere in them."""

import contextlib
import functools
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tokenloom._io.digest import hash_file
from tokenloom._io.remote import RemoteFile
from tokenloom.preparation.forms import SourceFile, hash_bytes, open_bytes
from tokenloom.preparation.workdir import FETCHED, PART, REMOTE, Part


@dataclass(frozen=True, slots=True)
class LocalCopy:
    """A file of this machine with the bytes of one at an address.

    Attributes
    ----------
    path : Path
    sha256 : str
        Of its bytes.
    remove : callable
        Removes the copy.
    keeps : bool
        Whether a later preparation can use it, so that it stays where reading
        it was interrupted.
    """

    path: Path
    sha256: str
    remove: Callable[[], None]
    keeps: bool


def fetch_copy(source: SourceFile) -> LocalCopy:
    """Return a copy of a file at an address, perhaps one that an interrupted preparation made.

    An earlier copy is used if the size and the tag, or time, of the file have not
    changed, nor have the bytes of the copy. The copy lies in the work folder;
    outside of a preparation, as for a trace, in the folder of temporary files.

    Raises
    ------
    CorpusError
        The file cannot be read.
    OSError
        There is no room for the copy, or it cannot be written.
    """
    if source.copies is None:
        return _fetch_for_now(source)
    work, number = source.copies
    path = work.part(REMOTE, number)

    def remove() -> None:
        for kind in (FETCHED, REMOTE):
            work.part(kind, number).unlink(missing_ok=True)

    sha256 = _find_kept(source, path, work.read(FETCHED, number))
    if sha256 is None:
        remove()
        sha256 = _fetch(source, path)
        facts = {"sha256": sha256, **_identify(source)}
        work.write(FETCHED, number, Part(facts, []))
    return LocalCopy(path, sha256, remove, keeps=True)


def _fetch_for_now(source: SourceFile) -> LocalCopy:
    descriptor, name = tempfile.mkstemp(prefix="tokenloom-")
    remove = functools.partial(Path(name).unlink, missing_ok=True)
    with contextlib.ExitStack() as made:
        made.callback(remove)
        # pyarrow opens the file by its name, which Windows refuses while it is open here.
        with os.fdopen(descriptor, "wb") as file, open_bytes(source.path) as there:
            sha256 = hash_bytes(there, file)
        made.pop_all()
    return LocalCopy(Path(name), sha256, remove, keeps=False)


def _fetch(source: SourceFile, path: Path) -> str:
    """Copy the file, and return its hash."""
    temporary = path.with_name(f"{path.name}{PART}")
    try:
        # No fsync: the hash shows whether the file is whole.
        with open_bytes(source.path) as there, temporary.open("xb") as file:
            sha256 = hash_bytes(there, file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return sha256


def _find_kept(source: SourceFile, path: Path, kept: Part | None) -> str | None:
    """Return the hash of a copy that is still that of the file, or None."""
    if kept is None or path.is_symlink() or not path.is_file():
        return None
    sha256 = str(kept.facts.get("sha256"))
    same = all(kept.facts.get(name) == value for name, value in _identify(source).items())
    # Without a tag or a time of change, only the size is known, which another file may share.
    if not same or not isinstance(source.path, RemoteFile) or not source.path.shows_changes:
        return None
    return sha256 if hash_file(path) == f"sha256:{sha256}" else None


def _identify(source: SourceFile) -> dict[str, str | int]:
    """Return the facts that a server reports about a file."""
    facts = {"num_bytes": source.num_bytes, "changed_ns": source.changed_ns}
    return {"name": source.name, **facts}
