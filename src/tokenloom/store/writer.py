"""A corpus to a store, whole or not at all.

Every file is written whole or not at all, and ``manifest.json`` last.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tokenloom._checks import as_integer, to_integer
from tokenloom._io.atomic import as_path, filling, find_obstacle, write_bytes
from tokenloom._wording import show
from tokenloom.errors import ArgumentError, StoreError
from tokenloom.store.manifest import (
    DOCUMENTS,
    LEARNT,
    OFFSETS,
    PLACES,
    VOCAB,
    Manifest,
    ShardFile,
    Source,
    StoreFile,
    mask_name,
    shard_name,
    write_manifest,
)
from tokenloom.store.memmap import Tokens, advise, confirm
from tokenloom.store.npy import Piece, write_npy
from tokenloom.text.identity import describe_identity
from tokenloom.text.ids import MASK_LIMIT, Ids, Offsets, check_range, narrow_dtype
from tokenloom.text.interface import Tokenizer, vocab_of
from tokenloom.text.tokenizers import complete

# Files of up to half a gigabyte where ids take two bytes.
SHARD_TOKENS = 1 << 28

_PIECE_TOKENS = 1 << 20


def save_store(  # noqa: PLR0913  each is a part of a store
    path: str | os.PathLike[str],
    *,
    tokens: Tokens,
    vocab_size: int | None,
    tokenizer: Tokenizer | None,
    made_by: Mapping[str, Any],
    offsets: Offsets | None,
    splits: Mapping[str, tuple[int, int]],
    shard_tokens: int,
    sources: Sequence[Source] = (),
    loss_mask: Tokens | None = None,
    end_id: int | None = None,
) -> Path:
    """Write tokens, documents and tokenizer to a new or empty folder.

    Parameters and errors are those of `tokenloom.Corpus.save`. Where the
    vocabulary size is not known, the tokens are searched for the largest id.
    ``sources`` are where the documents came from, as far as that is known;
    ``loss_mask``, a uint8 array, has a 1 for each token that is learnt; ``end_id`` is the
    id after each document, if there is one.
    """
    shard_tokens = as_integer("shard_tokens", shard_tokens, start=1)
    ranges = _as_ranges(splits)
    advise(tokens, is_random=False)
    size = vocab_size or max(check_range(tokens, None) for tokens in cut(tokens)) + 1
    # Unsigned ids keep their type; token files of other projects may be signed or big-endian.
    dtype = tokens.dtype if tokens.dtype.kind == "u" else narrow_dtype(size)
    require_free(as_path(path))
    try:
        with filling(path) as folder:
            description, files = write_tokenizer(folder, tokenizer)
            if description is None and made_by.get("type") != "NoneType":
                # The tokenizer is not at hand; what is known of it is kept with the ids.
                description = dict(made_by) or None
            if offsets is not None:
                files += (write_documents(folder, [offsets], num_documents=len(offsets) - 1),)
            if loss_mask is not None:
                advise(loss_mask, is_random=False)
                files += tuple(_write_masks(folder, loss_mask, shard_tokens))
            manifest = Manifest(
                dtype=dtype.name,
                vocab_size=size,
                shards=tuple(_write_shards(folder, tokens, dtype.name, size, shard_tokens)),
                files=files,
                tokenizer=description,
                splits=ranges,
                sources=tuple(sources),
                facts={} if end_id is None else {"end_id": end_id},
            )
            write_manifest(folder, manifest)
    except StoreError:
        raise
    except OSError as error:
        msg = f"cannot write the store {os.fspath(path)!r}: {error.strerror or error}"
        raise StoreError(msg) from error
    return Path(path)


def require_free(path: Path) -> None:
    """Refuse a path that no new store can take.

    Raises
    ------
    StoreError
        There is something else than an empty folder.
    """
    if obstacle := find_obstacle(path):
        msg = f"a store needs a new or an empty folder, {os.fspath(path)!r} {obstacle}"
        raise StoreError(msg)


def _as_ranges(splits: Mapping[Any, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    try:
        pairs = {
            name: (to_integer(start), to_integer(stop)) for name, (start, stop) in splits.items()
        }
    except (AttributeError, TypeError, ValueError):
        pairs = {"": (0, 0)}
    # A manifest holds no larger numbers.
    is_usual = all(abs(number) < 1 << 63 for pair in pairs.values() for number in pair)
    if not is_usual or not all(isinstance(name, str) and name for name in pairs):
        msg = f"splits must be a mapping of names to pairs (start, stop), got {show(splits)}"
        raise ArgumentError(msg)
    return pairs


def _write_shards(
    folder: Path, tokens: Tokens, dtype: str, vocab_size: int, shard_tokens: int
) -> Iterator[ShardFile]:
    for index, start in enumerate(range(0, len(tokens), shard_tokens)):
        stop = min(start + shard_tokens, len(tokens))
        yield write_shard(
            folder,
            index,
            cut(tokens, start, stop),
            num_tokens=stop - start,
            dtype=dtype,
            vocab_size=vocab_size,
        )


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
    ArgumentError, CorpusError, OSError
        See `tokenloom.store.npy.write_npy`.
    """
    path, little_endian = folder / shard_name(index), np.dtype(dtype).newbyteorder("<")
    file = write_npy(path, pieces, dtype=little_endian, length=num_tokens, num_ids=vocab_size)
    return ShardFile(num_tokens, file.digest.hexdigest())


def _write_masks(folder: Path, loss_mask: Tokens, shard_tokens: int) -> Iterator[StoreFile]:
    for index, start in enumerate(range(0, len(loss_mask), shard_tokens)):
        stop = min(start + shard_tokens, len(loss_mask))
        yield write_mask(folder, index, cut(loss_mask, start, stop), num_tokens=stop - start)


def write_mask(folder: Path, index: int, pieces: Iterable[Ids], *, num_tokens: int) -> StoreFile:
    """Write which tokens of a shard are learnt, whole or not at all, and return its entry.

    Parameters
    ----------
    folder : Path
    index : int
        Place of the shard in the store, from 0.
    pieces : iterable of uint8 arrays
        A 1 for each token that is learnt, a 0 for each other, one array after the other.
    num_tokens : int
        How many there are together.

    Raises
    ------
    ArgumentError, CorpusError, OSError
        See `tokenloom.store.npy.write_npy`.
    """
    path = folder / mask_name(index)
    file = write_npy(path, pieces, dtype=LEARNT, length=num_tokens, num_ids=MASK_LIMIT)
    return StoreFile(path.name, file.num_bytes, file.digest.hexdigest())


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
    ArgumentError, OSError
        See `tokenloom.store.npy.write_npy`.
    """
    file = write_npy(folder / DOCUMENTS, pieces, dtype=OFFSETS, length=num_documents + 1)
    return StoreFile(DOCUMENTS, file.num_bytes, file.digest.hexdigest())


def write_places(folder: Path, places: Sequence[Sequence[int]]) -> StoreFile:
    """Write where the chunks of a preparation begin, whole or not at all.

    Parameters
    ----------
    folder : Path
    places : sequence of sequences of int
        `tokenloom.store.manifest.NUM_PLACE_FIELDS` integers for each chunk.

    Raises
    ------
    OSError
        See `tokenloom.store.npy.write_npy`.
    """
    values = np.array(places, OFFSETS).ravel()
    file = write_npy(folder / PLACES, [values], dtype=OFFSETS, length=len(values))
    return StoreFile(PLACES, file.num_bytes, file.digest.hexdigest())


def write_tokenizer(
    folder: Path, tokenizer: Tokenizer | None
) -> tuple[dict[str, Any] | None, tuple[StoreFile, ...]]:
    """Write a tokenizer's vocabulary or files, and return its description and their entries.

    Of a tokenizer of the caller's own only the name of its type and its proofs are
    described.

    Raises
    ------
    OSError
        A file cannot be written.
    """
    if tokenizer is None:
        return None, ()
    vocab, known = vocab_of(tokenizer), complete(tokenizer)
    contents = known.files()
    if vocab is not None:
        # The manifest says how texts become its tokens.
        contents = {VOCAB: vocab.to_json(with_kind=False).encode("ascii"), **contents}
    files = []
    for name, content in contents.items():
        write_bytes(folder / name, content)
        files.append(StoreFile(name, len(content), hashlib.sha256(content).hexdigest()))
    return describe_identity(known), tuple(files)


def cut(tokens: Tokens, start: int = 0, stop: int | None = None) -> Iterator[Ids]:
    """Yield the tokens [start, stop) in pieces that fit into memory."""
    end = len(tokens) if stop is None else stop
    for at in range(start, end, _PIECE_TOKENS):
        yield np.asarray(tokens[at : min(at + _PIECE_TOKENS, end)])
        # Checked after the piece was written: the part that a truncated file has lost would read as
        # zeros.
        confirm(tokens)
