"""A corpus to a store, whole or not at all."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tokenloom._checks import as_integer, to_integer
from tokenloom._io.atomic import filling
from tokenloom._wording import show
from tokenloom.errors import ArgumentError, StoreError
from tokenloom.store.manifest import Manifest, ShardFile
from tokenloom.store.memmap import Tokens, advise, confirm
from tokenloom.store.reader import write_documents, write_manifest, write_shard, write_tokenizer
from tokenloom.text.ids import Ids, Offsets, check_range, narrow_dtype
from tokenloom.text.tokenizers import Tokenizer

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
) -> Path:
    """Write tokens, documents and tokenizer to a new or empty folder.

    Parameters and errors are those of `tokenloom.Corpus.save`. Where nobody
    knows the vocabulary size, the tokens are searched for the largest id.
    """
    shard_tokens = as_integer("shard_tokens", shard_tokens, start=1)
    ranges = _as_ranges(splits)
    advise(tokens, is_random=False)
    size = vocab_size or max(check_range(tokens, None) for tokens in cut(tokens)) + 1
    # What is unsigned stays as it is; files of others are signed or big-endian.
    dtype = tokens.dtype if tokens.dtype.kind == "u" else narrow_dtype(size)
    try:
        with filling(path) as folder:
            description, files = write_tokenizer(folder, tokenizer)
            if description is None and made_by.get("type") != "NoneType":
                # The tokenizer is not at hand; what is known of it goes on with the ids.
                description = dict(made_by) or None
            if offsets is not None:
                files += (write_documents(folder, [offsets], num_documents=len(offsets) - 1),)
            manifest = Manifest(
                dtype=dtype.name,
                vocab_size=size,
                shards=tuple(_write_shards(folder, tokens, dtype.name, size, shard_tokens)),
                files=files,
                tokenizer=description,
                splits=ranges,
            )
            write_manifest(folder, manifest)
    except FileExistsError as error:
        msg = f"a store needs a new or an empty folder, {os.fspath(path)!r} is not: name another"
        raise StoreError(msg) from error
    except StoreError:
        raise
    except OSError as error:
        msg = f"cannot write the store {os.fspath(path)!r}: {error.strerror or error}"
        raise StoreError(msg) from error
    return Path(path)


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


def cut(tokens: Tokens, start: int = 0, stop: int | None = None) -> Iterator[Ids]:
    """Yield the tokens [start, stop) in pieces that fit into memory."""
    end = len(tokens) if stop is None else stop
    for at in range(start, end, _PIECE_TOKENS):
        yield np.asarray(tokens[at : min(at + _PIECE_TOKENS, end)])
        # By now it was written: what a file that was cut holds no more would be zeros.
        confirm(tokens)
