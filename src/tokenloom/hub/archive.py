"""Archives, unpacked whole into a folder of their own or not at all."""

import functools
import gzip
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, TypeVar, cast

from tqdm import tqdm

from tokenloom._io.atomic import as_path, filling, remove_leftovers
from tokenloom.errors import ArchiveError, ArgumentError

try:
    from lzma import LZMAError
except ImportError:
    # Some Pythons are built without it, and their zipfile refuses what needs it.
    LZMAError = NotImplementedError  # type: ignore[assignment, misc]

_T = TypeVar("_T")
_PIECE_BYTES = 1 << 16
# Of bzip2 and LZMA zipfile unpacks at once all that it reads, which may be
# thousands of times as much.
_SMALL_PIECE_BYTES = 1 << 12
# No honest member has more before its content; tarfile would take it all into memory.
_MAX_HEADER_BYTES = 1 << 20
# Whoever makes, reads or removes folders does so one within the other.
_MAX_DEPTH = 100
_UNLIMITED = 1 << 62
_BLOCK_BYTES = tarfile.BLOCKSIZE
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    LZMAError,
    EOFError,
    # A compression may ask for as much as it likes.
    MemoryError,
    # From a header of a sparse file that ends early.
    IndexError,
    # A compression that this Python lacks, and what zipfile makes of odd headers.
    NotImplementedError,
    ValueError,
    RuntimeError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an archive may hold at most.

    Attributes
    ----------
    num_members : int
        Files and folders.
    num_bytes : int
        Of all files together, unpacked.
    """

    num_members: int = 1_000_000
    num_bytes: int = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """A file of an archive, or a folder, which has no content."""

    name: str
    num_bytes: int
    open: Callable[[], IO[bytes]] | None
    piece_bytes: int = _PIECE_BYTES


def unpack(
    archive: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    required: Sequence[str] = (),
    limits: Limits | None = None,
    progress: bool | None = None,
) -> Path:
    """Unpack a tar, tar.gz, zip or gz file into a new folder.

    Only plain files and folders are admitted, all below the folder. They are
    written as any new file is: owners, times and permissions are not taken
    over. If the folder is there already it is whole, and nothing is done.

    Parameters
    ----------
    archive : path
        The end of its name tells its kind.
    folder : path
        Takes the members once all of them are on the disk.
    required : sequence of str
        Files or folders that must be among the members.
    limits : Limits, optional
    progress : bool, optional
        Whether to show a bar on stderr; by default where that is a terminal.

    Returns
    -------
    Path
        ``folder``.

    Raises
    ------
    ArchiveError
        The archive is damaged, too large, lacks a required member, or has one
        that is no file or folder, or would lie elsewhere; or the folder cannot
        be written.
    ArgumentError
        The name of the archive has none of the four ends.
    """
    source, target = as_path(archive), as_path(folder)
    read_members = _find_reader(source)
    if target.is_dir():
        remove_leftovers(target)
        return target
    try:
        with filling(target) as partial:
            disable = None if progress is None else not progress
            members = _guard(read_members(source))
            bar = tqdm(members, source.name, unit=" members", disable=disable)
            _write(bar, partial, limits or Limits())
            _check_required(partial, required)
            if hasattr(os, "sync"):
                # One call, where a file at a time would take minutes for many files.
                os.sync()
    except ArchiveError as error:
        msg = f"cannot unpack {source.name!r}: {error}. Nothing was unpacked; download it anew"
        raise ArchiveError(msg) from error
    except OSError as error:
        if target.is_dir() and not target.is_symlink() and any(target.iterdir()):
            # Another process was faster.
            return target
        msg = (
            f"cannot unpack {source.name!r} into {os.fspath(folder)!r}: "
            f"{error.strerror or error}: make room there, or name another folder"
        )
        raise ArchiveError(msg) from error
    return target


def check_kind(name: str) -> None:
    """Let pass the name of an archive that `unpack` can read, by its end.

    Raises
    ------
    ArgumentError
        It has none of the four ends.
    """
    _find_reader(Path(name))


def check_name(name: str) -> PurePosixPath:
    """Return where a member goes, below the folder.

    Raises
    ------
    ArchiveError
        It would lie elsewhere, here or on another system.

    >>> check_name("./texts/a.txt")
    PurePosixPath('texts/a.txt')
    """
    path, windows_path = PurePosixPath(name), PureWindowsPath(name)
    is_elsewhere = path.is_absolute() or windows_path.drive or windows_path.root
    if not name or is_elsewhere or ".." in path.parts or "\\" in name or "\0" in name:
        msg = f"expected members below the folder, got the name {name!r}"
        raise ArchiveError(msg)
    if len(path.parts) > _MAX_DEPTH:
        shown = f"{name[:40]}..."
        msg = (
            f"expected at most {_MAX_DEPTH} folders in each other, "
            f"got {len(path.parts):,}: {shown!r}"
        )
        raise ArchiveError(msg)
    return path


def _guard(items: Iterable[_T]) -> Iterator[_T]:
    """Yield what comes of an archive; what goes wrong with it is no fault of the folder."""
    try:
        yield from items
    except ArchiveError:
        raise
    except (FileNotFoundError, PermissionError) as error:
        msg = f"it cannot be read: {error.strerror}"
        raise ArchiveError(msg) from error
    # Damage may also lead to places that no file has, and bz2 calls it an OSError.
    except (*_DAMAGE, OSError) as error:
        msg = f"it is damaged: {str(error) or type(error).__name__}"
        raise ArchiveError(msg) from error


def _read_pieces(member: _Member, open_member: Callable[[], IO[bytes]]) -> Iterator[bytes]:
    with open_member() as content:
        while piece := content.read(member.piece_bytes):
            yield piece


def _write(members: Iterable[_Member], folder: Path, limits: Limits) -> None:
    """Write members below a folder, within limits."""
    left = limits.num_bytes
    for number, member in enumerate(members, start=1):
        if number > limits.num_members:
            msg = f"expected at most {limits.num_members:,} members, got more"
            raise ArchiveError(msg)
        path = folder / check_name(member.name)
        if member.open is not None and path == folder:
            msg = f"expected files below the folder, got one named {member.name!r}"
            raise ArchiveError(msg)
        # What a member announces is checked before, what it holds while it is written.
        _check_left(left - member.num_bytes, limits)
        try:
            if member.open is None:
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                for piece in _guard(_read_pieces(member, member.open)):
                    left -= len(piece)
                    _check_left(left, limits)
                    file.write(piece)
        except (FileExistsError, NotADirectoryError) as error:
            msg = f"expected members with different names, got {member.name!r} twice"
            raise ArchiveError(msg) from error


def _check_left(left: int, limits: Limits) -> None:
    if left < 0:
        msg = f"expected at most {limits.num_bytes:,} bytes of files, got more"
        raise ArchiveError(msg)


def _check_required(folder: Path, required: Sequence[str]) -> None:
    for name in required:
        if not (folder / name).exists():
            msg = f"expected a member {name!r}, got none"
            raise ArchiveError(msg)


class _Careful:
    """A file that refuses what no honest archive asks of it.

    A few bytes of gzip may stand for a header of gigabytes, or for a member
    with very many headers.

    Attributes
    ----------
    left : int
        Bytes that may still be read.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.left = _MAX_HEADER_BYTES
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if size > self.left:
            msg = f"expected headers of at most {_MAX_HEADER_BYTES:,} bytes, got more"
            raise ArchiveError(msg)
        self.left -= size
        return self._file.read(size)


def _read_tar(source: Path, open_file: Callable[[Path, str], IO[bytes]]) -> Iterator[_Member]:
    with (
        open_file(source, "rb") as file,
        tarfile.open(fileobj=cast("IO[bytes]", careful := _Careful(file)), mode="r:") as tar,
    ):
        for member in tar:
            if not (member.isdir() or member.isfile()) or member.issparse():
                msg = f"expected files and folders only, got {member.name!r}, which is neither"
                raise ArchiveError(msg)
            check_name(member.name)
            # A second opinion: the standard library's own.
            tarfile.data_filter(member, os.fspath(source.parent))
            content = functools.partial(tar.extractfile, member) if member.isfile() else None
            # The content has limits of its own.
            careful.left = _UNLIMITED
            yield _Member(name=member.name, num_bytes=member.size, open=cast("Any", content))
            careful.left = _MAX_HEADER_BYTES
        _check_tar_end(file, tar.offset)


def _check_tar_end(file: IO[bytes], offset: int) -> None:
    """Read the rest, which says whether anything is missing."""
    file.seek(offset)
    if file.read(_BLOCK_BYTES) != bytes(_BLOCK_BYTES):
        msg = "its end is missing"
        raise EOFError(msg)
    while file.read(_PIECE_BYTES):
        pass


def _read_zip(source: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(source) as archive:
        for info in archive.infolist():
            # Where archives were made on Unix these bits are the file's mode.
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                msg = f"expected files and folders only, got {info.filename!r}, which is neither"
                raise ArchiveError(msg)
            # ``filename`` is what zipfile made of it.
            check_name(info.orig_filename)
            content = None if info.is_dir() else functools.partial(archive.open, info)
            is_bounded = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            yield _Member(
                name=info.orig_filename,
                num_bytes=info.file_size,
                open=content,
                piece_bytes=_PIECE_BYTES if is_bounded else _SMALL_PIECE_BYTES,
            )


def _read_gz(source: Path) -> Iterator[_Member]:
    if source.stat().st_size == 0:
        # To gzip nothing is the compressed form of nothing.
        msg = "it is empty"
        raise EOFError(msg)
    content = functools.partial(gzip.open, source, "rb")
    yield _Member(name=source.stem, num_bytes=0, open=cast("Any", content))


# The first end that fits counts.
_READERS: dict[tuple[str, ...], Callable[[Path], Iterator[_Member]]] = {
    (".tar.gz", ".tgz"): functools.partial(_read_tar, open_file=cast("Any", gzip.open)),
    (".tar",): functools.partial(_read_tar, open_file=cast("Any", open)),
    (".zip",): _read_zip,
    (".gz",): _read_gz,
}


def _find_reader(source: Path) -> Callable[[Path], Iterator[_Member]]:
    for ends, reader in _READERS.items():
        if source.name.lower().endswith(ends):
            return reader
    known = ", ".join(end for ends in _READERS for end in ends)
    msg = f"the name of an archive must end in one of {known}, got {source.name!r}"
    raise ArgumentError(msg)
