"""The folder that holds a corpus on disk: write it, open it, verify it.

Every file is written whole or not at all, and ``manifest.json`` last.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenloom._checks import require_type
from tokenloom._io.atomic import require_path, write_text
from tokenloom._io.digest import hash_file
from tokenloom._io.regular import read_bounded
from tokenloom._wording import describe_missing, suggest
from tokenloom.errors import ArgumentError, CorpusError, StoreError
from tokenloom.store.manifest import (
    DOCUMENTS,
    PLACES,
    Manifest,
    ShardFile,
    StoreFile,
    read_json,
    shard_name,
    write_json,
)
from tokenloom.store.memmap import FileRange, Tokens, open_range, open_ranges
from tokenloom.store.npy import HEADER_BYTES, Piece, npy_header, write_npy
from tokenloom.text.identity import Identity, describe_identity
from tokenloom.text.ids import Ids, check_range
from tokenloom.text.tokenizers import Tokenizer, restore_tokenizer
from tokenloom.text.vocab import Vocab, read_vocab

MANIFEST = "manifest.json"
VOCAB = "vocab.json"
# It names each source; so many bytes are millions of sources.
_MAX_MANIFEST_BYTES = 1 << 31
CURE = "make the store again, or copy it again from where it is whole"

OFFSETS = np.dtype("<i8")


def write_shard(
    folder: Path,
    index: int,
    pieces: Iterable[Ids],
    *,
    num_tokens: int,
    dtype: str,
    vocab_size: int,
) -> ShardFile:
    """Write a file of tokens, whole or not at all, and return its entry.

    May be called in any process, for any shard of a store, in any order.

    Parameters
    ----------
    folder : Path
        Made if it is missing.
    index : int
        Place of the shard in the store, from 0.
    pieces : iterable of integer arrays
        The tokens, one array after the other.
    num_tokens : int
        How many there are together.
    dtype : str
        One of `tokenloom.store.manifest.DTYPES`.
    vocab_size : int
        Ids must be in [0, vocab_size).

    Raises
    ------
    ArgumentError
        The pieces do not hold ``num_tokens`` tokens.
    CorpusError
        An id is out of range.
    OSError
        The file cannot be written; nothing is left of it.
    """
    little_endian = np.dtype(dtype).newbyteorder("<")
    # None of them is larger than what check_range lets through.
    checked = (piece for piece in pieces if check_range(piece, vocab_size) < vocab_size)
    path = folder / shard_name(index)
    return ShardFile(num_tokens, write_npy(path, checked, dtype=little_endian, length=num_tokens))


def write_documents(folder: Path, pieces: Iterable[Piece], *, num_documents: int) -> StoreFile:
    """Write the offsets of the documents, whole or not at all.

    Parameters
    ----------
    folder : Path
    pieces : iterable of integer arrays
        One after the other: num_documents + 1 offsets, from 0 to the number of
        tokens. Document i is the tokens [offsets[i], offsets[i + 1]).
    num_documents : int

    Raises
    ------
    ArgumentError
        The pieces do not hold so many offsets.
    OSError
        The file cannot be written; nothing is left of it.
    """
    length = num_documents + 1
    sha256 = write_npy(folder / DOCUMENTS, pieces, dtype=OFFSETS, length=length)
    return StoreFile(DOCUMENTS, HEADER_BYTES + 8 * length, sha256)


def write_tokenizer(
    folder: Path, tokenizer: Tokenizer | None
) -> tuple[dict[str, Any] | None, tuple[StoreFile, ...]]:
    """Write a tokenizer's vocabulary, and return its description and the files.

    A tokenizer that came from elsewhere leaves the name of its type, and what
    tells it from others.

    Raises
    ------
    OSError
        A file cannot be written.
    """
    if tokenizer is None:
        return None, ()
    vocab = getattr(tokenizer, "vocab", None)
    files: tuple[StoreFile, ...] = ()
    if isinstance(vocab, Vocab):
        # The manifest says how texts become its tokens.
        vocab.of_kind(None).save(folder / VOCAB)
        files = (enter_file(folder, VOCAB),)
    return describe_identity(tokenizer), files


def enter_file(folder: Path, name: str) -> StoreFile:
    """Return the manifest's entry of a file that was written already.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    path = folder / name
    return StoreFile(name, path.stat().st_size, _sha256(path))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, after all other files: now the folder is a store.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    write_text(folder / MANIFEST, write_json(manifest))


class StoredFile(NamedTuple):
    """A file of a store, as its manifest has it; ``header`` is how it begins."""

    path: Path
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
    manifest : Manifest
    """

    path: Path
    manifest: Manifest

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the tokens, little-endian."""
        return np.dtype(self.manifest.dtype).newbyteorder("<")

    def files(self) -> Iterator[StoredFile]:
        """Yield every file but the manifest."""
        for index, shard in enumerate(self.manifest.shards):
            yield StoredFile(
                self.path / shard_name(index),
                HEADER_BYTES + shard.num_tokens * self.dtype.itemsize,
                npy_header(self.dtype, shard.num_tokens),
                shard.sha256,
            )
        for file in self.manifest.files:
            header = b""
            if file.name in (DOCUMENTS, PLACES):
                header = npy_header(OFFSETS, (file.num_bytes - HEADER_BYTES) // OFFSETS.itemsize)
            yield StoredFile(self.path / file.name, file.num_bytes, header, file.sha256)

    def tokens(self) -> Tokens:
        """Return the tokens, mapped: one memory map, or several as one array."""
        manifest, dtype = self.manifest, self.dtype
        # Where every value of the type is an id, none needs to be looked at.
        is_safe = manifest.vocab_size > np.iinfo(dtype).max
        num_ids = None if is_safe else manifest.vocab_size
        names = (str(self.path / shard_name(index)) for index in range(len(manifest.shards)))
        return open_ranges(
            [
                FileRange(name, dtype.str, HEADER_BYTES, shard.num_tokens, num_ids)
                for name, shard in zip(names, manifest.shards, strict=True)
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
            known = ", ".join(map(repr, splits)) or "none"
            msg = (
                f"split must be one of the store's ({known}), got {split!r}{suggest(split, splits)}"
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
        if self.manifest.num_documents is None:
            return None
        path = str(self.path / DOCUMENTS)
        offsets = open_range(
            FileRange(path, OFFSETS.str, HEADER_BYTES, self.manifest.num_documents + 1)
        )
        ends = int(offsets[0]), int(offsets[-1])
        if ends != (0, self.manifest.num_tokens):
            msg = f"{path} must go from 0 to {self.manifest.num_tokens}, got {ends}: {CURE}"
            raise StoreError(msg)
        return offsets.view(np.int64)

    def tokenizer(self) -> Tokenizer | None:
        """Return the tokenizer, or None where it came from elsewhere.

        Raises
        ------
        StoreError
            The vocabulary is damaged, or has another size than the store.
        """
        try:
            tokenizer = restore_tokenizer(self.manifest.tokenizer, load_vocab=self._load_vocab)
        except CorpusError as error:
            raise StoreError(str(error)) from error
        except StoreError:
            raise
        except OSError as error:
            msg = f"{self.path / VOCAB} {error.strerror or error}: {CURE}"
            raise StoreError(msg) from error
        size = self.manifest.vocab_size
        if tokenizer is not None and tokenizer.vocab_size != size:
            msg = (
                f"the tokenizer of {self.path} must have vocab_size={size}, "
                f"got {tokenizer.vocab_size}: {CURE}"
            )
            raise StoreError(msg)
        return tokenizer

    def describe_identity(self) -> dict[str, Any]:
        """Return what the manifest says of a tokenizer that came from elsewhere."""
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
        path, expected = self.path / VOCAB, self.manifest.file(VOCAB).sha256
        if (sha256 := _sha256(path)) != expected:
            msg = f"{path} must have the SHA-256 {expected}, got {sha256}: {CURE}"
            raise StoreError(msg)
        return read_vocab(path)


def open_store(path: str | os.PathLike[str]) -> Store:
    """Read the manifest of a store, and look at each file's kind, size and header.

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
    """Return whether there is a folder with a manifest; it is not looked at."""
    # os.path says no, where Path would raise, to a name that no file can have.
    return os.path.isfile(os.path.join(path, MANIFEST))  # noqa: PTH113, PTH118


def read_store(path: str | os.PathLike[str]) -> Store:
    """Read the manifest of a store; its other files are not looked at.

    Raises
    ------
    StoreError
        There is no manifest, or it cannot be used.
    """
    require_path(path)
    folder = Path(path).absolute()
    return Store(path=folder, manifest=_read_manifest(folder))


def find_problem(file: StoredFile) -> str | None:
    """Return what is wrong with a file's kind, size or header, without reading on."""
    try:
        status = file.path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return (
                f"{file.path} must be a regular file, got {stat.filemode(status.st_mode)}: {CURE}"
            )
        if status.st_size != file.num_bytes:
            return f"{file.path} must have {file.num_bytes:,} bytes, got {status.st_size:,}: {CURE}"
        with file.path.open("rb") as opened:
            header = opened.read(len(file.header))
    except OSError as error:
        return f"{file.path} must be a file of the store, got: {error.strerror or error}: {CURE}"
    if header != file.header:
        return f"{file.path} must begin with the header {file.header!r}, got {header!r}: {CURE}"
    return None


def _sha256(path: Path) -> str:
    return hash_file(path).removeprefix("sha256:")


def _read_manifest(folder: Path) -> Manifest:
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
        cure = "name another, or make the store to its end"
        if is_store(folder.parent):
            cure = f"the store is {folder.parent}, of which {folder.name!r} may be a split"
        msg = (
            f"{folder} must be the folder of a store, with {MANIFEST} in it, which is written "
            f"last: {why}; {cure}"
        )
        raise StoreError(msg) from error
    if not is_regular:
        msg = f"{path} must be a regular file: {CURE}"
        raise StoreError(msg)
    try:
        return read_json(content.decode("utf-8"))
    except (StoreError, UnicodeDecodeError) as error:
        msg = f"{path} cannot be used: {error}; {CURE}"
        raise StoreError(msg) from error
