"""A small store, and ways to damage it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tokenloom as tl
from tokenloom._io.digest import hash_json
from tokenloom.store.manifest import Manifest, Source, write_manifest
from tokenloom.store.memmap import gather_windows
from tokenloom.store.writer import write_shard

TEXT = "to be or not to be that is the question"


def make_corpus() -> tl.Corpus:
    """Return ten words in three documents, of which the second is empty."""
    words = tl.Corpus.from_text(TEXT, tokenizer="word")
    return tl.Corpus.from_tokens(words.tokens, vocab=words.vocab, documents=[0, 6, 6, 10])


def make_store(folder: Path, *, shard_tokens: int = 4) -> Path:
    """Write the small corpus in shards of 4, 4 and 2 tokens."""
    return make_corpus().save(folder, splits={"train": (0, 6)}, shard_tokens=shard_tokens)


def make_store_of_sources(folder: Path, num_sources: int, facts: dict[str, Any]) -> Path:
    """Make a store of 4 tokens from some sources."""
    shard = write_shard(
        folder, 0, [np.array([0, 1, 2, 1])], num_tokens=4, dtype="uint8", vocab_size=3
    )
    sources = [Source(name=f"{n}.txt", num_documents=1) for n in range(num_sources)]
    manifest = Manifest(
        dtype="uint8", vocab_size=3, shards=(shard,), sources=tuple(sources), facts=facts
    )
    write_manifest(folder, manifest)
    return folder


def read_all(path: Path) -> list[int]:
    """Open a store and read all that there is to read in it."""
    corpus = tl.Corpus.open(path)
    gather_windows(corpus.tokens, np.array([0, 3, len(corpus) - 1]), width=2)
    ids: list[int] = corpus.tokens[:].tolist()
    corpus.decode(ids)
    assert corpus.documents is not None
    for index, length in enumerate(np.diff(corpus.documents).tolist()):
        if length > 0:
            corpus.document(index)
    return ids


def lie(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what the manifest of a store says, and sign it anew."""
    manifest = path / "manifest.json"
    value = json.loads(manifest.read_text(encoding="utf-8"))
    del value["checksum"]
    change(value)
    sign(path, value)


def sign(path: Path, value: dict[str, Any]) -> None:
    """Write a value as the manifest of a store, with the right checksum."""
    signed = {**value, "checksum": hash_json(value)}
    (path / "manifest.json").write_text(json.dumps(signed, indent=1) + "\n", encoding="utf-8")
