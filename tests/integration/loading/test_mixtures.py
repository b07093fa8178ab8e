"""Mixtures, read in every way: workers, ranks, resumes, processes, devices, and 10^12 tokens."""

import functools
import itertools
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

import tokenloom as tl
from tokenloom.testing import assert_resumes_everywhere, laws

PARTS = {
    "web": tl.Corpus.from_tokens(np.arange(700, dtype=np.uint16)),
    "code": tl.Corpus.from_tokens(np.arange(700, 1000, dtype=np.uint32)),
    "books": tl.Corpus.from_tokens(np.arange(1000, 1060, dtype=np.int64)),
}
STAGES = [
    (0, {"web": 0.7, "code": 0.3}),
    (130, {"web": 0.2, "code": 0.3, "books": 0.5}),
    (300, {"books": 1.0, "web": 1.0}),
]
HUGE = 10**12


def make_windows(rank: int = 0, world_size: int = 1) -> tl.RandomWindows:
    """Return windows whose stages change within the epochs, and one of whose parts is short."""
    mixture = tl.Mixture(PARTS, stages=STAGES, num_tokens=200)
    shard = tl.Shard(rank=rank, world_size=world_size)
    return tl.RandomWindows(mixture, batch_size=4, seq_len=5, seed=2, shard=shard)


def make_loaders(world_size: int, num_workers: int, **options: Any) -> list[tl.Loader]:
    """Return the loaders of all ranks."""
    block = tl.WorkerOptions(block_size=options.pop("block_size", 3))
    return [
        tl.Loader(
            make_windows(rank, world_size),
            num_workers=num_workers,
            num_epochs=2,
            worker_options=block,
            **options,
        )
        for rank in range(world_size)
    ]


def read(batches: Any) -> list[Any]:
    """Return what batches say."""
    return [
        (batch.epoch, batch.index, batch.inputs.tolist(), batch.sources.tolist())
        for batch in batches
    ]


@functools.cache
def whole() -> list[Any]:
    """Return two epochs as one process reads them."""
    return read(tl.Loader(make_windows(), num_epochs=2))


def test_ids_are_those_of_the_sources() -> None:
    """The parts have ids of their own."""
    edges = np.array([700, 1000])
    for _, _, inputs, sources in whole():
        assert np.searchsorted(edges, np.array(inputs)[:, 0], side="right").tolist() == sources
    assert {0, 1, 2} == {source for *_, sources in whole() for source in sources}


@pytest.mark.parametrize(
    ("saved", "restored"),
    [((1, 0), (2, 2)), ((2, 1), (1, 3)), pytest.param((4, 2), (1, 0), marks=pytest.mark.slow)],
)
def test_it_resumes_everywhere(saved: tuple[int, int], restored: tuple[int, int]) -> None:
    """After each batch, on other ranks and workers: the rest, and the epoch after."""
    make_saved, make_restored = (
        functools.partial(make_loaders, *each) for each in (saved, restored)
    )
    assert_resumes_everywhere(make_saved, make_restored)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world_size", "num_workers", "block_size"),
    list(itertools.product((1, 2, 4), (0, 1, 2, 4), (1, 2, 7))),
)
def test_all_workers_and_ranks_read_the_same(
    world_size: int, num_workers: int, block_size: int
) -> None:
    """Side by side the ranks are one process."""
    loaders = make_loaders(world_size, num_workers, block_size=block_size)
    for expected, parts in zip(whole(), zip(*map(read, loaders), strict=True), strict=True):
        inputs, sources = ([row for part in parts for row in part[at]] for at in (2, 3))
        assert expected == (*parts[0][:2], inputs, sources)


@pytest.mark.slow
@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_processes_read_the_same(method: str, persistent: bool) -> None:
    """By any start method, persistent or not; sources travel with the batches."""
    windows = make_windows()
    loader = DataLoader(
        windows,
        batch_size=None,
        num_workers=2,
        persistent_workers=persistent,
        multiprocessing_context=method,
    )
    seen = []
    for epoch in range(2):
        windows.set_epoch(epoch)
        seen += read(loader)
    assert whole() == seen


def test_one_process_of_a_data_loader_reads_the_same() -> None:
    """Without workers."""
    loader = DataLoader(make_windows(), batch_size=None)
    assert whole()[: len(whole()) // 2] == read(loader)


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_stateful_data_loader_resumes(num_workers: int) -> None:
    """In the middle of the epoch."""

    def make() -> Any:
        return StatefulDataLoader(make_windows(), batch_size=None, num_workers=num_workers)

    loader = make()
    before = read(itertools.islice(loader, 4))
    state = loader.state_dict()
    fresh = make()
    fresh.load_state_dict(state)
    assert whole()[: len(whole()) // 2] == before + read(fresh)


@pytest.mark.parametrize("resident", [False, True])
def test_a_device_reads_the_same(resident: bool) -> None:
    """Copied there, or gathered there."""
    (loader,) = make_loaders(1, 0, device="cpu", resident=resident)
    assert whole() == read(loader)


@pytest.mark.filterwarnings("ignore:torch.distributed is:UserWarning")
# PyTorch 2.6 calls what it deprecates.
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")
def test_a_distributed_checkpoint_holds_the_position(tmp_path: Path) -> None:
    """Saved and loaded by PyTorch's distributed checkpoints, without a group."""
    (loader,) = make_loaders(1, 0)
    for _ in zip(range(7), loader, strict=False):
        pass
    state = {"loader": loader.state_dict(), "weights": torch.zeros(2)}
    save(state, checkpoint_id=tmp_path / "checkpoint")
    (fresh,) = make_loaders(1, 2)
    loaded: dict[str, Any] = {"loader": fresh.state_dict(), "weights": torch.zeros(2)}
    load(loaded, checkpoint_id=tmp_path / "checkpoint")
    fresh.load_state_dict(loaded["loader"])
    assert whole()[7:] == read(fresh)


def test_sizes_may_change(tmp_path: Path) -> None:
    """Batches of other sizes hold the same windows, in their order."""
    del tmp_path
    mixture = tl.Mixture(PARTS, stages=STAGES, num_tokens=200)
    options = {"seq_len": 5, "seed": 2, "shard": tl.Shard()}
    changing = tl.RandomWindows(mixture, batch_size=[(0, 4), (20, 8)], **options)  # type: ignore[arg-type]
    rows = [row for _, _, inputs, _ in whole() for row in inputs]
    seen = [row for batch in tl.Loader(changing) for row in batch.inputs.tolist()]
    assert rows[: len(seen)] == seen
    accounts = changing.plan.accounting().values()
    assert len(seen) == sum(account.windows for account in accounts)


@pytest.mark.slow
def test_the_laws_hold() -> None:
    """Each of them, as `tokenloom selftest` checks them."""
    windows = make_windows()
    laws.check_batches(windows, range(len(windows)))
    laws.check_ranks(make_windows, 2)
    laws.check_world_sizes(make_windows)
    laws.check_length(windows)
    laws.check_shares(windows)
    laws.check_seeds(windows.plan)
    laws.check_state(tl.Loader(windows))
    laws.check_cost(windows.plan)


def make_sparse(folder: Path, num_tokens: int) -> tl.Corpus:
    """Return a file of zeros that takes no room."""
    path = folder / f"{num_tokens}.bin"
    path.touch()
    try:
        os.truncate(path, 2 * num_tokens)
        ids = np.memmap(path, dtype=np.uint16, mode="r")
    except OSError as error:
        pytest.skip(f"this file system has no such sparse files: {error}")
    return tl.Corpus.from_tokens(ids, vocab_size=50_000)


def time_first_batch(parts: dict[str, tl.Corpus]) -> tuple[float, tl.Batch]:
    """Return the shortest of several times to a batch in the middle of an epoch, and the batch."""
    times = []
    for _ in range(5):
        began_at = time.perf_counter()
        mixture = tl.Mixture({name: (part, 1 + len(name)) for name, part in parts.items()})
        loader = tl.Loader(tl.RandomWindows(mixture, batch_size=8, seq_len=64, shard=tl.Shard()))
        state = {**loader.state_dict(), "next_batch": len(loader) // 2}
        loader.load_state_dict(state)
        batch = next(iter(loader))
        times.append(time.perf_counter() - began_at)
    return min(times), batch


def test_a_trillion_tokens_are_read_at_once(tmp_path: Path) -> None:
    """From a position in the middle, as soon as a million are."""
    sizes = {"web": HUGE, "code": HUGE // 10, "books": HUGE // 100}
    huge = {name: make_sparse(tmp_path, size) for name, size in sizes.items()}
    small = {name: make_sparse(tmp_path, size // 10**6) for name, size in sizes.items()}
    seconds, batch = time_first_batch(huge)
    assert (8, 64) == tuple(batch.inputs.shape)
    assert seconds < 5 * time_first_batch(small)[0] + 0.5


def test_documents_are_not_copied() -> None:
    """Nothing as long as all documents is made, also where their starts are asked for."""
    num_documents = 300_000
    offsets = np.arange(num_documents + 1) * 3
    tokens = np.zeros(3 * num_documents, np.uint8)
    corpus = tl.Corpus.from_tokens(tokens, documents=offsets)
    mixture = tl.Mixture({"web": (corpus, 1), "code": (corpus, 1)})
    windows = tl.RandomWindows(mixture, batch_size=4, seq_len=30, shard=tl.Shard())
    batch = next(iter(windows))
    assert (batch.resets.sum(1) == 10).all()
