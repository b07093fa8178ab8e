"""Batches on a device. The CPU is a device too; a GPU is used where one is at hand."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenloom as tl
from tests.support.loading.resume import assert_resumes_everywhere
from tests.support.plan.strategies import make_windows, plans
from tokenloom.errors import ArgumentError
from tokenloom.loading.blocks import Block
from tokenloom.loading.device import choose_device
from tokenloom.plan.plan import Plan


def test_a_device_can_be_named() -> None:
    """The CPU is always there."""
    assert torch.device("cpu") == choose_device("cpu")


@pytest.mark.parametrize("name", ["abacus", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    """The message names the device."""
    with pytest.raises(ArgumentError, match=f"device must be one .* got '{name}'"):
        choose_device(name)


DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
        ],
    ),
]
CORPUS = tl.Corpus.from_tokens(np.arange(400, dtype=np.uint16))


def say(batches: Any) -> list[Any]:
    """Return what batches say, wherever they lie."""
    return [
        (b.epoch, b.index, *(t.tolist() for t in (b.inputs, b.targets, b.mask))) for b in batches
    ]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"pin_memory": True}])
def test_a_device_changes_nothing(device: str, options: dict[str, Any]) -> None:
    """The stream that is copied to a device is the stream."""
    windows = tl.RandomWindows(CORPUS, batch_size=4, seq_len=5, tail="pad")
    expected = say(tl.Loader(windows, num_epochs=2))
    loader = tl.Loader(windows, num_epochs=2, device=device, **options)
    batches = list(loader)
    assert expected == say(batches)
    assert {device} == {t.device.type for b in batches for t in (b.inputs, b.targets, b.mask)}


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=40)
@given(plan=plans())
def test_a_resident_corpus_gives_the_same_stream(device: str, plan: Plan) -> None:
    """Windows gathered on the device are bitwise those that were copied there."""
    windows = make_windows(plan)
    expected = say(tl.Loader(windows, num_epochs=2))
    assert expected == say(tl.Loader(windows, num_epochs=2, device=device, resident=True))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("resident", [False, True])
def test_a_loader_on_a_device_resumes_everywhere(device: str, resident: bool) -> None:
    """What was copied ahead does not count as consumed."""
    windows = tl.SequentialWindows(CORPUS, batch_size=4, seq_len=5)
    assert_resumes_everywhere(lambda: tl.Loader(windows, device=device, resident=resident))


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i2", "i4", "i8", ">u2"])
def test_every_kind_of_id_can_be_resident(dtype: str, tmp_path: Any) -> None:
    """Ids in the upper half of an unsigned type are no negative numbers."""
    largest = min(np.iinfo(np.dtype(dtype)).max, 2**62)
    ids = np.arange(largest - 99, largest + 1, dtype=np.dtype(dtype))
    np.save(tmp_path / "ids.npy", ids)
    corpus = tl.Corpus.from_tokens(np.load(tmp_path / "ids.npy", mmap_mode="r"))
    windows = tl.RandomWindows(corpus, batch_size=4, seq_len=5)
    assert say(windows) == say(tl.Loader(windows, device="cpu", resident=True))


@given(st.sampled_from(["random", "sequential"]), st.integers(1, 4))
def test_ranks_share_a_resident_corpus(kind: Any, world_size: int) -> None:
    """Each rank gathers its own rows."""
    world_size = {3: 2}.get(world_size, world_size)
    plan = Plan(kind=kind, num_tokens=400, seq_len=5, batch_size=4)
    for rank in range(world_size):
        windows = make_windows(plan, shard=tl.Shard(rank=rank, world_size=world_size))
        assert say(windows) == say(tl.Loader(windows, device="cpu", resident=True))


def test_a_corpus_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how much would have had to fit, and what to do."""

    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch, "tensor", fail)
    windows = tl.RandomWindows(CORPUS, batch_size=4, seq_len=5)
    with pytest.raises(ArgumentError, match="must put 800 bytes of tokens on cpu"):
        tl.Loader(windows, device="cpu", resident=True)


def test_only_one_block_is_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """The very first batch waits for one block only; later ones have the next on its way."""
    read = []
    widen = Block.widen

    def noting(block: Block) -> Any:
        read.append(block.facts.references.rows)
        return widen(block)

    monkeypatch.setattr(Block, "widen", noting)
    windows = tl.RandomWindows(CORPUS, batch_size=4, seq_len=5)
    options = tl.WorkerOptions(block_size=3)
    batches = iter(tl.Loader(windows, device="cpu", worker_options=options))
    counts = []
    for _ in range(5):
        next(batches)
        counts.append(len(read))
    assert [1, 2, 2, 3, 3] == counts


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_batches_for_a_gpu_come_pinned() -> None:
    """With pin_memory=True tensors lie in page-locked memory."""
    windows = tl.RandomWindows(CORPUS, batch_size=4, seq_len=5)
    assert all(t.is_pinned() for batch in tl.Loader(windows, pin_memory=True) for t in batch)
