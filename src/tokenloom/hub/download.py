"""One file over HTTP, verified before it takes its name."""

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenloom._io.atomic import as_path, replacing, require_own
from tokenloom._io.digest import hash_file, parse_digest
from tokenloom._io.remote import is_offline
from tokenloom.errors import ChecksumError, DownloadError
from tokenloom.hub.addresses import Patience

# The default; read at each call.
PATIENCE = Patience()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cures:
    """The advice of error messages, in the caller's words.

    Attributes
    ----------
    source : str
        If no address has the file.
    folder : str
        If the folder cannot be written, or the file in it cannot be read.
    """

    source: str = "name a mirror in TOKENLOOM_MIRROR"
    folder: str = "name another folder in TOKENLOOM_CACHE"


_CURES = Cures()


def download(
    urls: Sequence[str],
    path: str | os.PathLike[str],
    *,
    num_bytes: int | None,
    digest: str,
    progress: bool | None = None,
    patience: Patience | None = None,
    cures: Cures = _CURES,
) -> Path:
    """Return the path of a file, downloaded if it is not there with the right hash.

    The addresses are tried in turn, and again after a pause if they failed with a
    temporary error. Bytes that arrived before a connection broke are kept for the
    next attempt, which requests only the rest. Nothing is kept between two calls.
    If ``TOKENLOOM_OFFLINE`` is set, nothing is downloaded.

    Parameters
    ----------
    urls : sequence of str
        Tried in this order.
    path : path
        Path of the file, which is written whole and verified, or not at all.
    num_bytes : int, optional
        Size that the file must have; None if only its hash is known.
    digest : str
        Hash that the file must have: ``"sha256:"`` and 64 hexadecimal digits,
        or ``"sha1:"`` and 40, or ``"md5:"`` and 32.
    progress : bool, optional
        Whether to show a bar on stderr; by default where that is a terminal.
    patience : Patience, optional
        How long to wait and how often to try, by default `PATIENCE`.
    cures : Cures
        For messages.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    ArgumentError
        The digest has none of these forms.
    ChecksumError
        The last address returned other bytes than expected.
    DownloadError
        The last address returned no file, the file cannot be read or written, or
        it must not be downloaded.
    """
    target = as_path(path)
    digest = ":".join(parse_digest(digest))
    if _is_there(target, digest, cures):
        return target
    patience = patience or PATIENCE
    if not urls:
        msg = f"cannot download {target.name!r}: no address is known"
        raise DownloadError(msg)
    # Slow to import, and not needed for a file that is there.
    from tokenloom.hub import transfer  # noqa: PLC0415

    try:
        _require_replaceable(target)
        with (
            replacing(target) as temporary,
            temporary.open("rb+") as file,
            transfer.make_bar(target.name, num_bytes=num_bytes, progress=progress) as bar,
        ):
            partial = transfer.PartialFile(
                file,
                temporary,
                bar,
                num_bytes=num_bytes,
                max_bytes=patience.max_bytes,
                digest=digest,
            )
            if failures := transfer.ask_in_turn(urls, partial, patience):
                raise transfer.summarise(list(failures.items()), path, cure=cures.source)
    except (ChecksumError, DownloadError):
        raise
    except OSError as error:
        msg = (
            f"cannot write {os.fspath(path)!r}: {error.strerror or error}: "
            f"make room there, or {cures.folder}"
        )
        raise DownloadError(msg) from error
    return target


def _is_there(target: Path, digest: str, cures: Cures) -> bool:
    """Return whether a file has the right hash; raise if not and TOKENLOOM_OFFLINE is set."""
    try:
        # os.path returns False for a name that no file can have; Path raises.
        if os.path.isfile(target) and hash_file(target, digest.partition(":")[0]) == digest:  # noqa: PTH113
            return True
    except OSError as error:
        msg = (
            f"cannot read {str(target)!r}: {error.strerror or error}: let it be read, "
            f"or {cures.folder}"
        )
        raise DownloadError(msg) from error
    if is_offline():
        msg = (
            f"{target.name!r} is not in {str(target.parent)!r}, or not whole, and downloads are "
            f"forbidden by TOKENLOOM_OFFLINE or --offline: put the file at {target}, or allow them"
        )
        raise DownloadError(msg)
    return False


def _require_replaceable(target: Path) -> None:
    """Refuse a name that something else than a file of this user has."""
    require_own(target)
    if target.exists() and not target.is_file():
        raise OSError(errno.EEXIST, "it exists, and is not a file", os.fspath(target))
