"""The folder that holds a corpus on disk: open it, look at its files."""

import functools
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenloom._checks import require_type
from tokenloom._io.atomic import require_path
from tokenloom._io.digest import hash_file
from tokenloom._io.regular import read_bounded
from tokenloom._io.remote import is_address
from tokenloom._wording import count, describe_missing, redact, suggest
from tokenloom.errors import ArgumentError, CorpusError, StoreError
from tokenloom.store.manifest import (
    DOCUMENTS,
    LEARNT,
    MANIFEST,
    OFFSETS,
    PLACES,
    VOCAB,
    Manifest,
    is_loss_mask,
    mask_name,
    read_json,
    shard_name,
)
from tokenloom.store.memmap import FileRange, Tokens, open_range, open_ranges
from tokenloom.store.npy import HEADER_BYTES, npy_header
from tokenloom.text.identity import Identity
from tokenloom.text.ids import MASK_LIMIT
from tokenloom.text.interface import CompleteTokenizer
from tokenloom.text.subwords import FILE_NAMES
from tokenloom.text.tokenizers import TOKENIZER_NAMES, restore_tokenizer
from tokenloom.text.vocab import Vocab, read_vocab

# A manifest names each source: this limit leaves room for millions of sources.
_MAX_MANIFEST_BYTES = 1 << 31
CURE = "make the store again, or copy it again from where it is whole"


class StoredFile(NamedTuple):
    """A file of a store, as described by its manifest; the file begins with ``header``."""

    path: Path
    # What messages call it.
    name: Path
    num_bytes: int
    header: bytes
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A store whose manifest was read and whose files have the right sizes.

    Attributes
    ----------
    path : Path
        Absolute.
    name : Path
        As it was given, for messages.
    manifest : Manifest
    """

    path: Path
    name: Path
    manifest: Manifest

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the tokens, little-endian."""
        return np.dtype(self.manifest.dtype).newbyteorder("<")

    def shards(self) -> list[FileRange]:
        """Return where the tokens lie, in order."""
        manifest, dtype = self.manifest, self.dtype
        # If every value of the type is an id, no token needs to be checked.
        is_safe = manifest.vocab_size > np.iinfo(dtype).max
        num_ids = None if is_safe else manifest.vocab_size
        return [
            FileRange(
                str(self.path / shard_name(index)),
                dtype.str,
                HEADER_BYTES,
                shard.num_tokens,
                num_ids,
            )
            for index, shard in enumerate(manifest.shards)
        ]

    def files(self) -> Iterator[StoredFile]:
        """Yield every file but the manifest."""
        dtype = self.dtype
        for index, entry in enumerate(self.manifest.shards):
            num_bytes = HEADER_BYTES + entry.num_tokens * dtype.itemsize
            header = npy_header(dtype, entry.num_tokens)
            yield self._file(shard_name(index), num_bytes, header, entry.sha256)
        for file in self.manifest.files:
            header = b""
            if is_loss_mask(file.name):
                header = npy_header(LEARNT, file.num_bytes - HEADER_BYTES)
            if file.name in (DOCUMENTS, PLACES):
                header = npy_header(OFFSETS, (file.num_bytes - HEADER_BYTES) // OFFSETS.itemsize)
            yield self._file(file.name, file.num_bytes, header, file.sha256)

    def _file(self, name: str, num_bytes: int, header: bytes, sha256: str) -> StoredFile:
        return StoredFile(self.path / name, self.name / name, num_bytes, header, sha256)

    def tokens(self) -> Tokens:
        """Return the tokens, mapped: one memory map, or several as one array."""
        return open_ranges(self.shards())

    def loss_mask(self) -> Tokens | None:
        """Return which tokens are learnt, mapped, where the store knows: uint8, 0 or 1."""
        if not self.manifest.has_loss_mask:
            return None
        return open_ranges(
            [
                FileRange(
                    str(self.path / mask_name(index)),
                    LEARNT.str,
                    HEADER_BYTES,
                    shard.num_tokens,
                    MASK_LIMIT,
                )
                for index, shard in enumerate(self.manifest.shards)
            ]
        )

    def bounds(self, split: str) -> tuple[int, int]:
        """Return start and stop of a split, in tokens.

        Raises
        ------
        ArgumentError
            The store has no split of that name.
        """
        splits = self.manifest.splits
        require_type("split", split, str, "the name of a split")
        if split not in splits:
            known = ", ".join(map(repr, splits))
            msg = (
                f"split must be one of the store's ({known}), got {split!r}{suggest(split, splits)}"
            )
            if not splits:
                msg = (
                    f"split must be left out, also as STORE/NAME, for a store that has no splits, "
                    f"got {split!r}"
                )
            raise ArgumentError(msg)
        return splits[split]

    def documents(self) -> npt.NDArray[np.int64] | None:
        """Return the offsets of the documents, mapped, where the store has them.

        Raises
        ------
        StoreError
            They do not begin at 0 and end at the number of tokens.
        """
        num_documents = self.manifest.num_documents
        if num_documents is None:
            return None
        path = str(self.path / DOCUMENTS)
        offsets = open_range(FileRange(path, OFFSETS.str, HEADER_BYTES, num_documents + 1))
        ends = int(offsets[0]), int(offsets[-1])
        if ends != (0, self.manifest.num_tokens):
            name = self.name / DOCUMENTS
            msg = f"{name} must go from 0 to {self.manifest.num_tokens}, got {ends}: {CURE}"
            raise StoreError(msg)
        return offsets.view(np.int64)

    def tokenizer(self) -> CompleteTokenizer | None:
        """Return the tokenizer, or None where it was one of the caller's own.

        Raises
        ------
        StoreError
            A file of it is damaged, or has another size than the store.
        """
        try:
            tokenizer = restore_tokenizer(
                self.manifest.tokenizer, load_vocab=self._load_vocab, load_file=self._load_file
            )
        except CorpusError as error:
            raise StoreError(str(error)) from error
        except StoreError:
            raise
        except OSError as error:
            path = Path(error.filename or self.path)
            name = self.name / path.name if path.parent == self.path else path
            msg = f"{self.name if path == self.path else name} {error.strerror or error}: {CURE}"
            raise StoreError(msg) from error
        size = self.manifest.vocab_size
        if tokenizer is not None and tokenizer.vocab_size != size:
            msg = (
                f"the tokenizer of {self.name} must have vocab_size={size}, "
                f"got {tokenizer.vocab_size}: {CURE}"
            )
            raise StoreError(msg)
        return tokenizer

    def describe_identity(self) -> dict[str, Any]:
        """Return how the manifest describes a tokenizer that came from elsewhere."""
        description = dict(self.manifest.tokenizer or {})
        preparation = self.manifest.facts.get("preparation")
        prepared = preparation.get("tokenizer") if isinstance(preparation, Mapping) else None
        # Where earlier releases left it.
        old = prepared.get("probe") if isinstance(prepared, Mapping) else None
        return {"probe": old, **description} if old is not None else description

    def identity(self) -> Identity | None:
        """Return which tokenizer made the ids, or None where that is not known.

        Raises
        ------
        StoreError
            The vocabulary is damaged.
        """
        tokenizer = self.tokenizer()
        if tokenizer is not None:
            return Identity.of(tokenizer)
        return Identity.read(self.describe_identity(), vocab_size=self.manifest.vocab_size)

    def _load_vocab(self) -> Vocab:
        return read_vocab(self._check_file(VOCAB), name=self.name / VOCAB)

    def _load_file(self, name: str) -> bytes:
        return self._check_file(name).read_bytes()

    def _check_file(self, name: str) -> Path:
        """Return the path of a file whose bytes are as they were written."""
        path, expected = self.path / name, self.manifest.file(name).sha256
        if (sha256 := hash_file(path).removeprefix("sha256:")) != expected:
            msg = f"{self.name / name} must have the SHA-256 {expected}, got {sha256}: {CURE}"
            raise StoreError(msg)
        return path


class StoredTokenizer:
    """The tokenizer of a store: read when it is first asked for, once for all that share it.

    A vocabulary may be large, and to train on its ids needs none of it.
    """

    def __init__(self, store: Store) -> None:
        self._path, self._name = store.path, store.name
        self._proof = (store.manifest.tokenizer, store.manifest.files)
        self._store: Store | None = store

    @functools.cached_property
    def value(self) -> CompleteTokenizer | None:
        """The tokenizer, or None where it was one of the caller's own.

        Raises
        ------
        StoreError
            A file of it is damaged, or the store is another one by now.
        """
        store = self._store or read_store(self._path)
        if self._proof != (store.manifest.tokenizer, store.manifest.files):
            msg = f"{self._name} must be the store that was opened, got another: open it again"
            raise StoreError(msg)
        return store.tokenizer()

    def __getstate__(self) -> dict[str, Any]:
        # The manifest names every source of the store: there may be a million.
        return {**self.__dict__, "_store": None}


def open_store(path: str | os.PathLike[str]) -> Store:
    """Read the manifest of a store, and check the kind, size and header of each file.

    No token is read, so the cost does not grow with their number.

    Raises
    ------
    StoreError
        There is no store, or one of its files is missing or not as it was.
    """
    store = read_store(path)
    for file in store.files():
        if problem := find_problem(file):
            raise StoreError(problem)
    return store


def is_store(path: str | os.PathLike[str]) -> bool:
    """Return whether there is a folder with a manifest, without reading it."""
    # os.path returns False for a name that no file can have; Path raises.
    return os.path.isfile(os.path.join(path, MANIFEST))  # noqa: PTH113, PTH118


def find_stored_tokenizer(given: object) -> object:
    """Return the tokenizer of the store that a value names, and any other value as it is.

    Parameters
    ----------
    given : object
        What `tokenloom.Corpus.from_text` takes. A store is named by its folder,
        by STORE/SPLIT, or by the file of its tokenizer, which alone need not
        describe all of the tokenizer.

    Raises
    ------
    ArgumentError
        The store holds no tokenizer, or has no such split.
    StoreError
        Its manifest or its tokenizer is damaged.

    >>> find_stored_tokenizer("char")
    'char'
    """
    if not isinstance(given, str | os.PathLike) or given in TOKENIZER_NAMES:
        return given
    path, split = os.fspath(given), None
    if not is_store(path):
        path, split = os.path.split(path)
        is_file = split in (*FILE_NAMES, VOCAB)
        if not path or not is_store(path) or (is_file != os.path.isfile(given)):  # noqa: PTH113
            return given
        split = None if is_file else split
    store = read_store(path)
    if split is not None:
        store.bounds(split)
    tokenizer = store.tokenizer()
    if tokenizer is None:
        msg = (
            f"tokenizer must be a store that holds its tokenizer, that of {path!r} was one of "
            "your own, which no store holds: in Python give the object itself"
        )
        raise ArgumentError(msg)
    return tokenizer


def read_store(path: str | os.PathLike[str]) -> Store:
    """Read the manifest of a store, but none of its other files.

    Raises
    ------
    StoreError
        There is no manifest, or it cannot be used; or the path is an address.
    """
    require_path(path)
    if is_address(os.fspath(path)):
        msg = (
            "a store must be a folder on this machine, got the address "
            f"{redact(os.fspath(path))!r}: copy the folder here, and open the copy"
        )
        raise StoreError(msg)
    folder = Path(path).absolute()
    return Store(path=folder, name=Path(path), manifest=_read_manifest(folder, Path(path)))


def find_problem(file: StoredFile) -> str | None:
    """Return what is wrong with a file's kind, size or header, without reading on."""
    try:
        status = file.path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return (
                f"{file.name} must be a regular file, got {stat.filemode(status.st_mode)}: {CURE}"
            )
        if status.st_size != file.num_bytes:
            num_bytes = count(file.num_bytes, "byte")
            return f"{file.name} must have {num_bytes}, got {status.st_size:,}: {CURE}"
        with file.path.open("rb") as opened:
            header = opened.read(len(file.header))
    except OSError as error:
        return f"{file.name} must be a file of the store, got: {error.strerror or error}: {CURE}"
    if header != file.header:
        return f"{file.name} must begin with the header {file.header!r}, got {header!r}: {CURE}"
    return None


def _read_manifest(folder: Path, name: Path) -> Manifest:
    """Return the manifest in a folder, which messages call by a name."""
    path = folder / MANIFEST
    try:
        is_regular = stat.S_ISREG(path.lstat().st_mode)
        content = (
            read_bounded(path, max_bytes=_MAX_MANIFEST_BYTES, follow_links=False)
            if is_regular
            else b""
        )
    except (OSError, ValueError) as error:
        is_missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        why = describe_missing(folder) if is_missing else str(error)
        cure = "; name another, or make one with 'tokenloom prepare'"
        if folder.name != ".." and is_store(folder.parent):
            store = name.parent if name.parent.name else folder.parent
            cure = f"; the store is {store}, of which {folder.name!r} may be a split"
        elif why.endswith("?"):
            cure = ""
        msg = (
            f"{redact(str(name))} must be the folder of a store, with {MANIFEST} in it, which is "
            f"written last: {why}{cure}"
        )
        raise StoreError(msg) from error
    if not is_regular:
        msg = f"{name / MANIFEST} must be a regular file: {CURE}"
        raise StoreError(msg)
    try:
        return read_json(content.decode("utf-8"))
    except (StoreError, UnicodeDecodeError) as error:
        msg = f"{name / MANIFEST} cannot be used: {error}; {CURE}"
        raise StoreError(msg) from error
