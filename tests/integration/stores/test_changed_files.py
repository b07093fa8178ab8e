"""Files of a corpus that change on the disk while loaders read them, through every door."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

import tokenloom as tl
from tests.support.loading.worker_errors import raises_from_worker
from tokenloom.corpus.statistics import count_lengths
from tokenloom.store.npy import HEADER_BYTES

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")

NUM_TOKENS, NUM_DOCUMENTS = 3_000, 40


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return a store of two shards, with documents."""
    corpus = tl.Corpus.from_tokens(
        np.arange(NUM_TOKENS, dtype=np.uint16),
        documents=np.linspace(0, NUM_TOKENS, NUM_DOCUMENTS + 1).astype(np.int64),
    )
    return corpus.save(tmp_path / "store", shard_tokens=2_000)


def replace(path: Path) -> None:
    """Put another file of the same size and time in the place of one."""
    status = path.stat()
    other = path.with_name("other")
    content = bytearray(path.read_bytes())
    content[HEADER_BYTES + 100 :] = content[HEADER_BYTES + 100 :][::-1]
    other.write_bytes(content)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


def cut(path: Path) -> None:
    """Take some bytes off, inside of the last page."""
    os.truncate(path, path.stat().st_size - 86)


LOADERS: dict[str, Any] = {
    "windows": lambda windows: windows,
    "DataLoader": lambda windows: DataLoader(windows, batch_size=None),
    "fork": lambda windows: DataLoader(windows, batch_size=None, num_workers=2),
    "StatefulDataLoader": lambda windows: StatefulDataLoader(
        windows, batch_size=None, num_workers=2
    ),
    "Loader": lambda windows: tl.Loader(windows, num_epochs=1),
    "Loader ahead": lambda windows: tl.Loader(windows, num_workers=2, num_epochs=1),
}
SLOW = {
    name: lambda windows, name=name: DataLoader(
        windows, batch_size=None, num_workers=1, multiprocessing_context=name
    )
    for name in ("forkserver", "spawn")
} | {
    # PyTorch waits five seconds for each persistent worker that an error has reached.
    "persistent": lambda windows: DataLoader(
        windows, batch_size=None, num_workers=2, persistent_workers=True
    )
}


@pytest.fixture(
    params=[*LOADERS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)],
)
def make_loader(request: pytest.FixtureRequest) -> Any:
    """Return what makes a loader of windows."""
    return {**LOADERS, **SLOW}[request.param]


@pytest.mark.parametrize("change", [replace, cut], ids=["replaced", "cut"])
@pytest.mark.parametrize("name", ["tokens-00001.npy", "documents.npy"])
def test_the_next_epoch_is_refused(make_loader: Any, name: str, change: Any, store: Path) -> None:
    """In any reader: the one hash of the corpus would stand for two texts."""
    windows = tl.RandomWindows(tl.Corpus.open(store), batch_size=4, seq_len=5)
    loader = make_loader(windows)
    assert len(windows) == sum(1 for batch in loader if batch.inputs.shape == (4, 5))
    change(store / name)
    windows.set_epoch(1)
    with raises_from_worker(tl.StoreError, match=rf"{name} must stay as it was when it was opened"):
        list(loader)


@pytest.mark.parametrize("kind", [tl.RandomWindows, tl.SequentialWindows])
def test_a_file_that_is_cut_in_the_middle_of_an_epoch(kind: Any, tmp_path: Path) -> None:
    """Zeros that stood in no file do not come to the end of an epoch in silence."""
    # The first block that is read has 8,192 tokens.
    corpus = tl.Corpus.from_tokens(np.arange(30_000, dtype=np.uint16))
    store = corpus.save(tmp_path / "store", shard_tokens=20_000)
    windows = kind(tl.Corpus.open(store), batch_size=4, seq_len=5)
    iterators = [iter(windows), iter(tl.Loader(windows, num_epochs=3))]
    for batches in iterators:
        next(batches)
    cut(store / "tokens-00001.npy")
    for batches in iterators:
        with pytest.raises(tl.StoreError, match="number of bytes was 20,128, is 20,042"):
            list(batches)


def damage(store: Path, number: int, value: int) -> None:
    """Change one offset of the documents."""
    with (store / "documents.npy").open("r+b") as file:
        file.seek(HEADER_BYTES + 8 * number)
        file.write(np.int64(value).tobytes())


@pytest.mark.parametrize("value", [-150, 20, 2**40, 2_999], ids=str)
@pytest.mark.parametrize(
    "door", ["show", "trace", "document", "evaluate", "info", "split", "slice", "hash", "save"]
)
def test_damaged_offsets_are_found_where_they_are_read(
    door: str, value: int, store: Path, tmp_path: Path
) -> None:
    """Wrong document starts, splits and lengths are never told as if they were right."""
    damage(store, 20, value)
    corpus = tl.Corpus.open(store)
    windows = tl.SequentialWindows(corpus, batch_size=4, seq_len=5)
    model = tl.RNNModel(torch.nn.RNN(NUM_TOKENS, 8), NUM_TOKENS)
    doors: dict[str, Any] = {
        "show": lambda: [batch.resets for batch in windows],
        "trace": lambda: tl.trace(corpus, 1_500),
        "document": lambda: corpus.document(20),
        "evaluate": lambda: tl.evaluate(model, corpus),
        "info": lambda: count_lengths(corpus),
        "split": lambda: corpus.split(0.5, by="document"),
        "slice": lambda: corpus.slice(1_450, 1_550).num_documents,
        "hash": lambda: corpus.document_offsets and corpus.document_offsets.hash(),
        "save": lambda: corpus.save(tmp_path / "copy"),
    }
    with pytest.raises(tl.StoreError, match=r"documents.npy must never fall, got .* at number"):
        doors[door]()
