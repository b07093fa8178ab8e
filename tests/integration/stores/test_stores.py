"""Stores under the windows: many shards, workers, 10^12 tokens."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokenloom as tl
from tokenloom.store.manifest import Manifest, ShardFile, write_manifest
from tokenloom.store.npy import npy_header

NUM_TOKENS = 500
# The lengths of files: a row of a batch may reach over three of them.
SHARD_TOKENS = [1, 7, 64, 1_000]


@pytest.fixture(scope="module")
def corpus() -> tl.Corpus:
    """Return a corpus in which every token is its position."""
    return tl.Corpus.from_tokens(np.arange(NUM_TOKENS, dtype=np.uint16), vocab_size=NUM_TOKENS)


def digest(batches: Any) -> list[Any]:
    """Return all that batches say."""
    return [
        (batch.index, batch.inputs.tolist(), batch.targets.tolist(), batch.mask.tolist())
        for batch in batches
    ]


@pytest.mark.parametrize("kind", [tl.RandomWindows, tl.SequentialWindows])
@pytest.mark.parametrize("tail", ["drop", "pad"])
@pytest.mark.parametrize("shard_tokens", SHARD_TOKENS)
def test_batches_do_not_depend_on_the_files(
    tmp_path: Path, corpus: tl.Corpus, kind: Any, tail: str, shard_tokens: int
) -> None:
    """However the tokens lie in files, the stream is that of the array in memory."""
    opened = tl.Corpus.open(corpus.save(tmp_path / "store", shard_tokens=shard_tokens))
    options: dict[str, Any] = {"batch_size": 4, "seq_len": 15, "tail": tail}

    assert digest(kind(corpus, **options)) == digest(kind(opened, **options))


def test_workers_read_the_files_side_by_side(tmp_path: Path, corpus: tl.Corpus) -> None:
    """Two workers give the stream of the array in memory, and a saved position fits both."""
    opened = tl.Corpus.open(corpus.save(tmp_path / "store", shard_tokens=64))
    options = tl.WorkerOptions(block_size=1)
    streams = [
        tl.Loader(tl.RandomWindows(corpus, batch_size=4, seq_len=15)),
        tl.Loader(
            tl.RandomWindows(opened, batch_size=4, seq_len=15),
            num_workers=2,
            worker_options=options,
        ),
    ]

    assert streams[0].state_dict() == streams[1].state_dict()
    assert digest(streams[0]) == digest(streams[1])


def test_the_whole_corpus_can_be_put_on_a_device(tmp_path: Path, corpus: tl.Corpus) -> None:
    """Joined files are gathered there like any other corpus."""
    opened = tl.Corpus.open(corpus.save(tmp_path / "store", shard_tokens=64))
    windows = tl.RandomWindows(opened, batch_size=4, seq_len=15)

    resident = tl.Loader(windows, device="cpu", resident=True)
    assert digest(tl.Loader(windows)) == digest(resident)


def make_huge(folder: Path, num_shards: int, shard_tokens: int) -> Path:
    """Make a store of sparse files, all of whose ids are 0 and whose hashes are none."""
    folder.mkdir()
    for index in range(num_shards):
        path = folder / f"tokens-{index:05}.npy"
        path.write_bytes(npy_header(np.dtype("<u2"), shard_tokens))
        try:
            os.truncate(path, 128 + 2 * shard_tokens)
        except OSError as error:
            pytest.skip(f"this file system has no such sparse files: {error}")
    shards = (ShardFile(shard_tokens, "0" * 64),) * num_shards
    write_manifest(folder, Manifest(dtype="uint16", vocab_size=50_257, shards=shards))
    return folder


@pytest.mark.parametrize(("num_shards", "shard_tokens"), [(1, 10**12), (1000, 10**9)])
def test_no_token_of_a_huge_store_is_read_to_open_it(
    tmp_path: Path, num_shards: int, shard_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10^12 tokens are opened, hashed, cut, and sent to a worker, by their names alone."""
    folder = make_huge(tmp_path / "store", num_shards, shard_tokens)
    read: list[object] = []
    # Whatever reads a token goes through one of these.
    monkeypatch.setattr(
        "tokenloom.store.memmap._check_read", lambda *arguments: read.append(arguments)
    )
    monkeypatch.setattr(
        "tokenloom.corpus.corpus.hash_tokens", lambda *arguments: read.append(arguments)
    )

    corpus = tl.Corpus.open(folder)
    assert 10**12 == len(corpus)
    assert corpus.hash.startswith("sha256:")
    train, valid = corpus.split(0.9)
    assert len(train) == 9 * len(valid)
    assert len(pickle.dumps(train)) < 200 * num_shards + 1000
    assert [] == read
    windows = tl.RandomWindows(valid, batch_size=8, seq_len=1024)
    assert next(iter(windows)).inputs.sum() == 0
    assert read


def bytes_read() -> int:
    """Return how many bytes this thread has asked files for; others of a process may read too."""
    path = Path("/proc/thread-self/io")
    if not path.exists():
        pytest.skip("Linux counts what is read, in /proc")
    return int(dict(line.split(": ") for line in path.read_text().splitlines())["rchar"])


def test_an_open_reads_as_much_of_many_tokens_as_of_few(tmp_path: Path) -> None:
    """What is read of a file is its header, however many tokens it has."""
    costs = []
    for num_tokens in (10**6, 10**12):
        folder = make_huge(tmp_path / str(num_tokens), 1, num_tokens)
        tl.Corpus.open(folder)
        before = bytes_read()
        tl.Corpus.open(folder)
        costs.append(bytes_read() - before)

    # The numbers in the manifest and in the paths have some more digits.
    assert abs(costs[1] - costs[0]) < 100
    assert json.loads((folder / "manifest.json").read_text())["num_tokens"] == 10**12
