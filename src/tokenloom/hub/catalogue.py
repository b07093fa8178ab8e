"""The corpora that have a name, and where each comes from."""

import importlib.metadata
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from tokenloom._checks import as_integer, as_strings, require_type
from tokenloom._io.digest import parse_digest
from tokenloom._wording import show
from tokenloom.errors import ArgumentError
from tokenloom.hub.addresses import is_address
from tokenloom.hub.archive import check_kind
from tokenloom.hub.imdb import REVIEW_FOLDERS, REVIEW_SPLITS, read_reviews
from tokenloom.hub.texts import read_python_docs
from tokenloom.text.documents import Document

# Other packages name their entries under this group of entry points.
ENTRY_POINT_GROUP = "tokenloom.corpora"
# File systems allow 255, and the name of a partial file is a little longer.
_MAX_FILENAME_BYTES = 200
_NAME = r"\w[\w.-]*"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltIn:
    """A text that needs no download.

    Attributes
    ----------
    read : callable
        Returns its bytes.
    """

    read: Callable[[], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file that is downloaded, verified and kept.

    Attributes
    ----------
    filename : str
        Its name in the cache, and on a mirror; at most 200 bytes. No other
        entry may have a file of that name and another digest.
    urls : tuple of str
        Where to download it, tried in this order.
    digest : str
        ``"sha256:"`` and 64 hexadecimal digits, or ``"sha1:"`` and 40, or
        ``"md5:"`` and 32.
    num_bytes : int or None
        Its size in bytes, or None if that is not known.

    Raises
    ------
    ArgumentError
        A value has another form.
    """

    filename: str
    urls: tuple[str, ...]
    digest: str
    num_bytes: int | None = None

    def __post_init__(self) -> None:
        require_type("filename", self.filename, str, "a str")
        object.__setattr__(self, "urls", as_strings("urls", self.urls))
        # A name with a folder, or a hidden one, could meet files of others.
        is_plain = re.fullmatch(r"\w[\w.+-]*", self.filename)
        if not is_plain or len(self.filename.encode()) > _MAX_FILENAME_BYTES:
            msg = (
                f"filename must be a plain name of a file, of at most {_MAX_FILENAME_BYTES} "
                f"bytes, got {show(self.filename)}"
            )
            raise ArgumentError(msg)
        if not self.urls:
            msg = f"urls of {self.filename!r} must hold at least one address, got none"
            raise ArgumentError(msg)
        for url in self.urls:
            if not is_address(url):
                msg = f"an address must begin with https:// or http:// and a host, got {show(url)}"
                raise ArgumentError(msg)
        parse_digest(self.digest)
        if self.num_bytes is not None:
            num_bytes = as_integer(f"num_bytes of {self.filename!r}", self.num_bytes, start=1)
            object.__setattr__(self, "num_bytes", num_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A tar, tar.gz, zip or gz file that is unpacked and read as documents.

    Attributes
    ----------
    file : RemoteFile
    read : callable
        ``read(folder, split)`` returns the documents of a split; ``folder`` is
        where the members are.
    splits : tuple of str
        Its parts; the first is the default.
    required : tuple of str
        Members that the archive must have, as paths in it.

    Raises
    ------
    ArgumentError
        The end of the file's name is not that of an archive, or there is no
        split, or one whose name has other characters than that of an entry.
    """

    file: RemoteFile
    read: Callable[[Path, str], Iterable[Document]]
    splits: tuple[str, ...] = ("all",)
    required: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_type("file", self.file, RemoteFile, "a RemoteFile")
        object.__setattr__(self, "splits", as_strings("splits", self.splits))
        check_kind(self.file.filename)
        if not self.splits or not all(re.fullmatch(_NAME, split) for split in self.splits):
            msg = (
                f"splits of {self.file.filename!r} must be at least one name of letters, digits, "
                f"'_', '-' and '.', got {show(self.splits)}"
            )
            raise ArgumentError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A corpus that has a name.

    Attributes
    ----------
    name : str
        Letters, digits, ``_``, ``-`` and ``.``.
    description : str
    licence : str
    source : BuiltIn, RemoteFile or Archive
        Where it comes from.
    prompt : str
        The start of a generated text, for models that are trained on this corpus.

    Raises
    ------
    ArgumentError
        The name has another form, or the source is none.
    """

    name: str
    description: str
    licence: str
    source: BuiltIn | RemoteFile | Archive
    prompt: str = ""

    def __post_init__(self) -> None:
        require_type("name", self.name, str, "a str")
        if not re.fullmatch(rf"{_NAME}(/{_NAME})?", self.name):
            msg = f"name must be letters, digits, '_', '-' and '.', got {show(self.name)}"
            raise ArgumentError(msg)
        if not isinstance(self.source, BuiltIn | RemoteFile | Archive):
            msg = (
                f"source of {self.name!r} must be a BuiltIn, a RemoteFile or an Archive, "
                f"got {type(self.source).__name__}"
            )
            raise ArgumentError(msg)

    @property
    def file(self) -> RemoteFile | None:
        """The file that is downloaded, None for a built-in text."""
        match self.source:
            case BuiltIn():
                return None
            case RemoteFile():
                return self.source
            case Archive():
                return self.source.file


_GITHUB = "https://raw.githubusercontent.com"
_ENTRIES = (
    Entry(
        name="imdb",
        description="50,000 film reviews with ratings, and 50,000 without",
        licence="none stated; cite Maas et al. 2011",
        prompt="this film",
        source=Archive(
            file=RemoteFile(
                filename="aclImdb_v1.tar.gz",
                urls=("https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",),
                num_bytes=84_125_825,
                digest="md5:7c2ac02c03563afcf9b574c7e56c153a",
            ),
            read=read_reviews,
            splits=REVIEW_SPLITS,
            required=REVIEW_FOLDERS,
        ),
    ),
    Entry(
        name="python_docs",
        description="the language reference in every CPython, 0.5 MB of English",
        licence="PSF-2.0",
        prompt="the statement",
        source=BuiltIn(read=read_python_docs),
    ),
    Entry(
        name="time_machine",
        description="The Time Machine by H. G. Wells (1898)",
        licence="public domain",
        prompt="time traveller",
        source=RemoteFile(
            filename="timemachine.txt",
            urls=(
                "https://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt",
                "http://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt",
            ),
            num_bytes=178_979,
            digest="sha256:8424dbd9532ac81f7e5f0b6add90e6952baea29158309d7d1bf3884f4e12c516",
        ),
    ),
    Entry(
        name="tiny_shakespeare",
        description="40,000 lines of Shakespeare's plays",
        licence="public domain",
        prompt="first citizen",
        source=RemoteFile(
            filename="tinyshakespeare.txt",
            urls=(f"{_GITHUB}/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",),
            num_bytes=1_115_394,
            digest="sha256:86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        ),
    ),
)
CATALOGUE: Mapping[str, Entry] = MappingProxyType({entry.name: entry for entry in _ENTRIES})
_registered: dict[str, Entry] = {}


def register(entry: Entry) -> None:
    """Give a corpus a name, for the life of this process.

    An earlier entry of this name is replaced, so that a cell of a notebook may be
    run again. A package with corpora lists each entry under the entry points
    ``tokenloom.corpora`` instead, so that the command line finds them too.

    Parameters
    ----------
    entry : Entry

    Raises
    ------
    ArgumentError
        It is no entry, a corpus of tokenloom itself has this name, the name
        contains ``/``, or another entry's file has the same name but another
        digest.
    """
    if not isinstance(entry, Entry):
        msg = f"entry must be an Entry, got {type(entry).__name__}"
        raise ArgumentError(msg)
    if "/" in entry.name:
        msg = f"the name of an entry must have no '/', which splits are named by: {entry.name!r}"
        raise ArgumentError(msg)
    if entry.name in CATALOGUE:
        msg = f"a corpus named {entry.name!r} exists already: choose another name"
        raise ArgumentError(msg)
    _check_filename(entry, [*CATALOGUE.values(), *_registered.values()])
    _registered[entry.name] = entry


def _check_filename(entry: Entry, others: Iterable[Entry]) -> None:
    """Refuse an entry whose file has the name of another entry's file, but another digest."""
    if entry.file is None:
        return
    # Some file systems ignore the case of letters.
    filename, digest = entry.file.filename.casefold(), entry.file.digest.lower()
    for other in others:
        if other.file is None or other.name == entry.name:
            continue
        if other.file.filename.casefold() == filename and other.file.digest.lower() != digest:
            msg = (
                f"the file of {entry.name!r} must have a name of its own in the cache, got "
                f"{entry.file.filename!r}, under which {other.name!r} has another file: "
                "choose another filename"
            )
            raise ArgumentError(msg)


def find_entry(name: str) -> Entry | None:
    """Return the entry of a name, for ``NAME/SPLIT`` with only that split, or None.

    Raises
    ------
    ArgumentError
        The entry point of another package that has this name is broken.

    >>> find_entry("imdb/test").source.splits
    ('test',)
    """
    base, slash, split = name.partition("/")
    entry = CATALOGUE.get(base) or _registered.get(base)
    if entry is None:
        points = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP, name=base)
        entry = next(map(_load, points), None)
        if entry is not None:
            _check_filename(entry, [*CATALOGUE.values(), *_registered.values()])
    if entry is None or not slash:
        return entry
    if isinstance(entry.source, Archive) and split in entry.source.splits:
        return replace(entry, name=name, source=replace(entry.source, splits=(split,)))
    return None


def list_entries() -> list[Entry]:
    """Return every entry by its name: our own, registered ones, and other packages'.

    An entry point that is broken is left out, with a warning.
    """
    entries = {**_registered, **CATALOGUE}
    for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        if point.name not in entries:
            try:
                entry = _load(point)
                _check_filename(entry, entries.values())
                entries[point.name] = entry
            except ArgumentError as error:
                warnings.warn(str(error), stacklevel=2)
    return [entries[name] for name in sorted(entries)]


def _load(point: importlib.metadata.EntryPoint) -> Entry:
    try:
        entry = point.load()
    # Loading runs code of another package, which may raise anything.
    except (Exception, SystemExit) as error:
        msg = (
            f"the entry point {point.name!r} = {point.value!r} of {ENTRY_POINT_GROUP} cannot be "
            f"loaded: {type(error).__name__}: {error}: mend or remove the package it comes from"
        )
        raise ArgumentError(msg) from error
    if not isinstance(entry, Entry) or entry.name != point.name or "/" in point.name:
        got = repr(entry.name) if isinstance(entry, Entry) else type(entry).__name__
        msg = (
            f"the entry point {point.name!r} = {point.value!r} of {ENTRY_POINT_GROUP} must be an "
            f"Entry of that name, which has no '/', got {got}"
        )
        raise ArgumentError(msg)
    return entry
