"""What is in a store, for people and for programs."""

import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from tokenloom.corpus.corpus import Corpus
from tokenloom.errors import ArgumentError
from tokenloom.store.memmap import advise, read_whole
from tokenloom.store.reader import MANIFEST, open_store
from tokenloom.text.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer, WordTokenizer
from tokenloom.text.vocab import UNKNOWN_ID

_CHUNK = 1 << 22
# The counts of so many ids take half a gigabyte.
_MAX_IDS = 1 << 26


def describe_store(path: str | os.PathLike[str], *, split: str | None = None) -> dict[str, Any]:
    """Return what a store says of itself, JSON-able.

    Tokens are read for the hash only, and of those 4 MiB at most.

    Parameters
    ----------
    path : str or path
    split : str, optional
        Of whose tokens, documents and hash to tell, instead of those of the
        whole store; how many characters and unknown tokens it has, no store says.

    Raises
    ------
    ArgumentError
        There is no such split.
    StoreError
        There is no store that can be used.
    """
    store = open_store(path)
    manifest = store.manifest
    num_characters: Any = manifest.facts.get("num_characters")
    is_known = type(num_characters) is int and 0 <= num_characters < 1 << 63
    num_unknown: Any = manifest.facts.get("num_unknown")
    description = {
        "path": os.fspath(path),
        "num_tokens": manifest.num_tokens,
        "vocab_size": manifest.vocab_size,
        "num_documents": manifest.num_documents,
        "characters_per_token": num_characters / manifest.num_tokens if is_known else None,
        "unknown_rate": num_unknown / manifest.num_tokens
        if type(num_unknown) is int and 0 <= num_unknown < 1 << 63
        else None,
        "tokenizer": manifest.tokenizer,
        "dtype": manifest.dtype,
        "num_shards": len(manifest.shards),
        "num_bytes": sum(file.num_bytes for file in store.files())
        + (store.path / MANIFEST).stat().st_size,
        "splits": {name: list(bounds) for name, bounds in manifest.splits.items()},
        "sources": [
            {"name": source.name, "num_documents": source.num_documents}
            for source in manifest.sources
        ],
        "facts": dict(manifest.facts),
        "hash": Corpus.open(path).hash,
    }
    if split is None:
        return description
    corpus = Corpus.open(path, split=split)
    unknown = dict.fromkeys(("characters_per_token", "unknown_rate"))
    tokens = {"num_tokens": len(corpus), "num_documents": corpus.num_documents}
    return {**description, "split": split, **tokens, **unknown, "hash": corpus.hash}


def tabulate(description: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the rows of a table of what `describe_store` returned.

    >>> dict(tabulate({"num_tokens": 1200, "sources": [], "splits": {"train": [0, 900]}}))
    {'tokens': '1,200', 'split train': '900 tokens from 0'}
    """
    for key, value in description.items():
        label = key.removeprefix("num_").replace("_", " ")
        match value:
            case bool() | str():
                yield label, str(value)
            case int():
                yield label, f"{value:,}"
            case float():
                yield label, f"{value:.4%}" if key == "unknown_rate" else f"{value:.2f}"
            case dict() if key == "splits":
                for name, (start, stop) in value.items():
                    yield f"split {name}", f"{stop - start:,} tokens from {start:,}"
            case dict() if key == "facts":
                yield from _tabulate_facts(value)
            case list() if key == "sources" and value:
                others = f" and {len(value) - 3:,} more" if len(value) > 3 else ""
                yield label, ", ".join(source["name"] for source in value[:3]) + others
            case dict() | list() if value:
                yield label, json.dumps(value)
            case _:
                pass


def _tabulate_facts(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield facts, and what a preparation was told, but for what the table has already."""
    told = facts.get("preparation")
    if not isinstance(told, dict):
        yield from tabulate(facts)
        return
    yield from tabulate({name: value for name, value in facts.items() if name != "preparation"})
    for name, value in told.items():
        # Of the forms there is one for each source, which may be millions.
        if name not in ("tokenizer", "forms", "splits") and value not in (None, []):
            yield f"option {name}", str(value)


def count_lengths(corpus: Corpus) -> list[dict[str, int]]:
    """Return how many documents have which length, in tokens, by powers of two.

    Parameters
    ----------
    corpus : Corpus

    Returns
    -------
    list of dict
        ``start`` and ``stop`` of a half-open range of lengths, and
        ``num_documents``; empty where nobody knows of documents.

    >>> count_lengths(Corpus.from_tokens([1, 2, 3, 4], documents=[0, 0, 1, 4]))[1]
    {'start': 1, 'stop': 2, 'num_documents': 1}
    """
    offsets = corpus.documents
    counts = np.zeros(65, np.int64)
    for start in range(0, 0 if offsets is None else len(offsets) - 1, _CHUNK):
        assert offsets is not None  # noqa: S101  else there was nothing to count
        lengths = np.diff(offsets[start : start + _CHUNK + 1])
        # The exponent of a length is how many bits it has.
        counts += np.bincount(np.frexp(lengths.astype(np.float64))[1], minlength=len(counts))
    stop = int(np.flatnonzero(counts)[-1]) + 1 if counts.any() else 0
    return [
        {"start": (1 << bits) >> 1, "stop": 1 << bits, "num_documents": int(counts[bits])}
        for bits in range(stop)
    ]


def count_ids(corpus: Corpus, *, progress: bool | None = None) -> npt.NDArray[np.int64]:
    """Return how often each id appears: int64 array, shape (vocab_size,).

    All tokens are read.

    Parameters
    ----------
    corpus : Corpus
    progress : bool, optional
        Whether to show a bar; by default where stderr is a terminal.

    Raises
    ------
    ArgumentError
        There are too many different ids to count them in memory.
    StoreError
        An id is not below the vocabulary size.

    >>> count_ids(Corpus.from_tokens([1, 3, 1]))
    array([0, 2, 0, 1])
    """
    if corpus.vocab_size > _MAX_IDS:
        msg = f"ids are counted for up to {_MAX_IDS:,} of them, got {corpus.vocab_size:,}"
        raise ArgumentError(msg)
    counts = np.zeros(corpus.vocab_size, np.int64)
    advise(corpus.tokens, is_random=False)
    disable = None if progress is None else not progress
    with tqdm(total=len(corpus), unit="token", unit_scale=True, disable=disable) as bar:
        for start in range(0, len(corpus), _CHUNK):
            piece = corpus.slice(start, start + _CHUNK)
            counts += np.bincount(read_whole(piece.tokens), minlength=len(counts))
            bar.update(len(piece))
    return counts


def most_frequent(
    corpus: Corpus, num_ids: int, *, progress: bool | None = None
) -> list[dict[str, Any]]:
    """Return the ids that appear most often, with what they stand for.

    Parameters
    ----------
    corpus : Corpus
    num_ids : int
        How many.
    progress : bool, optional
        As in `count_ids`, whose errors this raises.

    >>> most_frequent(Corpus.from_text("a rose is a rose", tokenizer="word"), 1)
    [{'id': 1, 'token': 'a', 'count': 2}]
    """
    counts = count_ids(corpus, progress=progress)
    order = np.argsort(-counts, kind="stable")[:num_ids]
    return [
        {"id": id_, "token": corpus.decode([id_]), "count": int(counts[id_])}
        for id_ in order.tolist()
        if counts[id_]
    ]


def count_text_characters(corpus: Corpus, *, progress: bool | None = None) -> int | None:
    """Return how many characters the tokens of a corpus stand for, where that is known.

    A character counts once, whichever bytes it is made of; a word counts with
    the space before it. Not known are the characters of a tokenizer that came
    from elsewhere, and those of a word that is not in the vocabulary. All
    tokens are read.

    Parameters
    ----------
    corpus : Corpus
    progress : bool, optional
        As in `count_ids`, whose errors this raises.

    >>> count_text_characters(Corpus.from_text("a rose is a rose", tokenizer="word"))
    17
    """
    lengths = _character_lengths(corpus.tokenizer)
    if lengths is None:
        return None
    counts = count_ids(corpus, progress=progress)
    if counts[lengths < 0].any():
        return None
    return int(counts[: len(lengths)] @ lengths)


def _character_lengths(tokenizer: Tokenizer | None) -> npt.NDArray[np.int64] | None:
    """Return the characters of each id, -1 where they are not known."""
    match tokenizer:
        case CharTokenizer():
            return np.ones(tokenizer.vocab_size, np.int64)
        case ByteTokenizer():
            lengths = np.ones(256, np.int64)
            # These go on with a character that began before (RFC 3629).
            lengths[0x80:0xC0] = 0
            return lengths
        case WordTokenizer(vocab=vocab):
            lengths = np.array([len(token) + 1 for token in vocab], np.int64)
            lengths[UNKNOWN_ID] = -1
            return lengths
        case _:
            return None
