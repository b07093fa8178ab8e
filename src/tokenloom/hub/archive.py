"""Archives, each unpacked into a new folder, whole or not at all."""

import functools
import gzip
import math
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar, cast

from tokenloom._io.atomic import as_path, filling, remove_leftovers
from tokenloom._progress import open_bar
from tokenloom.errors import ArchiveError, ArgumentError

try:
    from lzma import LZMAError
except ImportError:
    # Some Pythons are built without it, and their zipfile refuses what needs it.
    LZMAError = NotImplementedError  # type: ignore[assignment, misc]

_T = TypeVar("_T")
# zipfile decompresses all of the bzip2 or LZMA bytes that it reads at once, which may become
# thousands of times as many.
_PIECE_BYTES = 1 << 14
# A genuine member has smaller headers; tarfile reads all of them into memory.
_MAX_HEADER_BYTES = 1 << 20
# Functions that make, read or remove folders recurse into nested folders.
_MAX_DEPTH = 100
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    LZMAError,
    EOFError,
    # The header of a compression may ask for any amount of memory.
    MemoryError,
    # Raised for the header of a sparse file that ends early.
    IndexError,
    # Raised for a compression that this Python lacks, and by zipfile for odd headers.
    NotImplementedError,
    ValueError,
    RuntimeError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The largest archive that is unpacked.

    Attributes
    ----------
    num_members : int
        Files and folders.
    num_bytes : int
        Of all files together, unpacked.
    """

    num_members: int = 1_000_000
    num_bytes: int = 1 << 32


class _Member(NamedTuple):
    """A member of an archive: its header, in the form of tar, and how its content is opened."""

    header: tarfile.TarInfo
    open: Callable[[], IO[bytes]]


def unpack(
    archive: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    required: Sequence[str] = (),
    limits: Limits | None = None,
    progress: bool | None = None,
) -> Path:
    """Unpack a tar, tar.gz, zip or gz file into a new folder.

    Only plain files and folders are accepted, all below the folder. They are
    written like any new file: owners, times and permissions are not copied. If
    the folder exists, it is complete, and nothing is done.

    Parameters
    ----------
    archive : path
        Its kind is that of the end of its name.
    folder : path
        Gets its name when all members are on the disk.
    required : sequence of str
        Files or folders that must be among the members.
    limits : Limits, optional
    progress : bool, optional
        Whether to show a bar on stderr; by default if that is a terminal.

    Returns
    -------
    Path
        ``folder``.

    Raises
    ------
    ArchiveError
        The archive is damaged or too large, lacks a required member, or has a
        member that is no file or folder or whose name leads outside the folder;
        or the folder cannot be written; or this Python is older than 3.11.4.
    ArgumentError
        The name of the archive has none of the four ends.
    """
    source, target = as_path(archive), as_path(folder)
    read_members = _find_reader(source)
    if target.is_dir():
        remove_leftovers(target)
        return target
    if not hasattr(tarfile, "data_filter"):
        msg = (
            f"cannot unpack {source.name!r}: this Python has no tarfile.data_filter, which keeps "
            "members in their folder: install Python 3.11.4 or newer"
        )
        raise ArchiveError(msg)
    try:
        with filling(target) as partial:
            members = _guard(read_members(source))
            bar = open_bar(members, desc=source.name, unit=" members", progress=progress)
            _write(bar, partial, limits or Limits())
            _check_required(partial, required)
            if hasattr(os, "sync"):
                # One call for all files: one for each would take minutes.
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
    """Refuse the name of an archive that `unpack` cannot read, by its end.

    Raises
    ------
    ArgumentError
        It has none of the four ends.
    """
    _find_reader(Path(name))


def _guard(items: Iterable[_T]) -> Iterator[_T]:
    """Yield items of an archive, and raise its errors as `ArchiveError`."""
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


def _write(members: Iterable[_Member], folder: Path, limits: Limits) -> None:
    """Write members below a folder, within limits."""
    left = limits.num_bytes
    for number, member in enumerate(members, start=1):
        if number > limits.num_members:
            msg = f"expected at most {limits.num_members:,} members, got more"
            raise ArchiveError(msg)
        header = _check_header(member.header, folder)
        path = folder / header.name
        # The announced size is checked before, the actual one while it is written.
        _check_left(left - header.size, limits)
        try:
            if header.isdir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                for piece in _guard(_read_pieces(member)):
                    left -= len(piece)
                    _check_left(left, limits)
                    file.write(piece)
        except (FileExistsError, NotADirectoryError) as error:
            msg = f"expected members with different names, got {header.name!r}, which is there"
            raise ArchiveError(msg) from error


def _check_header(header: tarfile.TarInfo, folder: Path) -> tarfile.TarInfo:
    """Return a member's header with a name that is relative to the folder, and safe."""
    if not (header.isfile() or header.isdir()) or header.issparse():
        msg = f"expected files and folders only, got {header.name!r}, which is neither"
        raise ArchiveError(msg)
    if (depth := header.name.count("/")) > _MAX_DEPTH:
        msg = (
            f"expected at most {_MAX_DEPTH} folders in each other, "
            f"got {depth:,}: '{header.name[:40]}...'"
        )
        raise ArchiveError(msg)
    try:
        return tarfile.data_filter(header, os.fspath(folder))
    except (tarfile.FilterError, ValueError) as error:
        msg = f"expected members below the folder, got the name {header.name!r}"
        raise ArchiveError(msg) from error


def _read_pieces(member: _Member) -> Iterator[bytes]:
    with member.open() as content:
        while piece := content.read(_PIECE_BYTES):
            yield piece


def _check_left(left: int, limits: Limits) -> None:
    if left < 0:
        msg = f"expected at most {limits.num_bytes:,} bytes of files, got more"
        raise ArchiveError(msg)


def _check_required(folder: Path, required: Sequence[str]) -> None:
    for name in required:
        if not (folder / name).exists():
            msg = f"expected a member {name!r}, got none"
            raise ArchiveError(msg)


class _HeaderReader:
    """A file from which headers are read, with a limit of their size.

    A few bytes of gzip may expand to a header of gigabytes, or to a member with
    very many headers.

    Attributes
    ----------
    left : float
        Bytes that may still be read.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.left: float = _MAX_HEADER_BYTES
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            msg = f"expected headers of at most {_MAX_HEADER_BYTES:,} bytes, got more"
            raise ArchiveError(msg)
        return self._file.read(size)


def _read_tar(source: Path, open_file: Callable[[Path, str], IO[bytes]]) -> Iterator[_Member]:
    with (
        open_file(source, "rb") as file,
        tarfile.open(fileobj=cast("IO[bytes]", reader := _HeaderReader(file)), mode="r:") as tar,
    ):
        for header in tar:
            # The content has limits of its own.
            reader.left = math.inf
            yield _Member(header, cast("Any", functools.partial(tar.extractfile, header)))
            reader.left = _MAX_HEADER_BYTES
        _check_tar_end(file, tar.offset)


def _check_tar_end(file: IO[bytes], offset: int) -> None:
    """Read the rest of the file, to find out whether anything is missing."""
    file.seek(offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        msg = "its end is missing"
        raise EOFError(msg)
    while file.read(_PIECE_BYTES):
        pass


def _read_zip(source: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(source) as archive:
        for info in archive.infolist():
            # ``filename`` is what zipfile made of it.
            header = tarfile.TarInfo(info.orig_filename)
            header.size = info.file_size
            # Where archives were made on Unix these bits are the file's mode.
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                header.type = tarfile.FIFOTYPE
            elif info.is_dir():
                header.type = tarfile.DIRTYPE
            yield _Member(header, functools.partial(archive.open, info))


def _read_gz(source: Path) -> Iterator[_Member]:
    if source.stat().st_size == 0:
        # gzip reads an empty file as an empty content, without an error.
        msg = "it is empty"
        raise EOFError(msg)
    content = functools.partial(gzip.open, source, "rb")
    yield _Member(tarfile.TarInfo(source.stem), cast("Any", content))


# The first matching suffix is used.
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
