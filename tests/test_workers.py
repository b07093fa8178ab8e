"""Blocks that workers read ahead. Their death is tested in integration/test_nothing_left.py."""

import copy
import gc
import multiprocessing
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tokenloom as tl
from tests.resume import rows_of
from tests.strategies import make_windows
from tokenloom import blocks, sharedmemory, workers
from tokenloom.plans import Plan
from tokenloom.workers import BlockReader, Stretch, WorkerOptions

PLAN = Plan(kind="random", num_tokens=400, seq_len=5, batch_size=4, tail="pad")


def make_loader(num_workers: int = 2, **options: Any) -> tl.Loader:
    """Return an endless loader of 20 batches per epoch, the last one padded."""
    return tl.Loader(
        make_windows(PLAN),
        num_workers=num_workers,
        num_epochs=3,
        worker_options=WorkerOptions(**options),
    )


EXPECTED = [rows_of(batch) for batch in make_loader(0)]


@pytest.mark.parametrize("num_workers", [1, 2, 4])
@pytest.mark.parametrize("prefetch_factor", [1, 2, 5])
@pytest.mark.parametrize("block_size", [1, 3, 1000])
def test_any_read_ahead_gives_the_same_stream(
    num_workers: int, prefetch_factor: int, block_size: int
) -> None:
    """Slots of the ring are used again and again, and nothing is mixed up."""
    loader = make_loader(num_workers, prefetch_factor=prefetch_factor, block_size=block_size)
    assert EXPECTED == [rows_of(batch) for batch in loader]


def test_batches_that_are_kept_pickle_as_they_were() -> None:
    """What a batch says does not change when its slot of the ring is used again."""
    batches = list(make_loader(2, block_size=1))
    sent = [pickle.loads(pickle.dumps(batch)) for batch in batches]  # noqa: S301  our own bytes
    assert EXPECTED == [rows_of(batch) for batch in sent]


def test_a_context_says_how_workers_start() -> None:
    """As with PyTorch's DataLoader it may be a name or a context."""
    context = multiprocessing.get_context("fork")
    loader = make_loader(multiprocessing_context=context)
    assert EXPECTED == [rows_of(batch) for batch in loader]


def test_workers_leave_the_objects_of_a_fork_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was there at the fork is no longer collected, which would copy all of it."""
    read_block = blocks.read_block

    def read(*arguments: Any, **more: Any) -> blocks.Block:
        (tmp_path / str(os.getpid())).write_text(str(gc.get_freeze_count()), encoding="ascii")
        return read_block(*arguments, **more)

    monkeypatch.setattr(workers, "read_block", read)
    assert EXPECTED == [rows_of(batch) for batch in make_loader(multiprocessing_context="fork")]
    counts = [int(path.read_text(encoding="ascii")) for path in tmp_path.iterdir()]
    assert len(counts) == 2
    assert min(counts) > 10_000
    assert gc.get_freeze_count() == 0


def test_persistent_workers_go_to_any_position() -> None:
    """Living workers follow break, load_state_dict and the next iteration."""
    loader = make_loader(persistent_workers=True, block_size=2)
    start = loader.state_dict()
    for batch in loader:
        if batch.index == 5:
            break
    processes = multiprocessing.active_children()
    assert EXPECTED == [rows_of(batch) for batch in loader]
    assert [3, 3] == [next(iter(loader)).epoch for _ in range(2)]
    loader.load_state_dict({**start, "epoch": 1, "next_batch": 7})
    assert EXPECTED[27:] == [rows_of(batch) for batch in loader]
    assert {p.pid for p in processes} == {p.pid for p in multiprocessing.active_children()}


def test_an_older_iterator_takes_nothing_from_persistent_workers() -> None:
    """It is refused before it could take a block of the newer one."""
    loader = make_loader(persistent_workers=True, block_size=1)
    older = iter(loader)
    next(older)
    newer = iter(loader)
    said = [rows_of(next(newer))]
    with pytest.raises(tl.UsageError, match="replaced by a newer one"):
        next(older)
    assert EXPECTED == said + [rows_of(batch) for batch in newer]


def test_an_error_in_a_worker_keeps_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """What went wrong there is told here, and the next iteration starts afresh."""
    read = blocks.read_block

    def fail(*arguments: Any, rows: range, **options: Any) -> Any:
        if rows.start == 4:
            msg = "the disk is gone"
            raise OSError(msg)
        return read(*arguments, rows=rows, **options)

    loader = make_loader(persistent_workers=True, block_size=2, multiprocessing_context="fork")
    with monkeypatch.context() as patch:
        patch.setattr(workers, "read_block", fail)
        with pytest.raises(OSError, match="the disk is gone"):
            list(loader)
    assert EXPECTED == [rows_of(batch) for batch in loader]


def test_a_block_that_was_written_over_is_refused() -> None:
    """Should PyTorch read further ahead than it says, no wrong batch comes of it."""
    options = WorkerOptions(block_size=1)
    stream, _ = BlockReader(make_windows(PLAN), num_workers=1, options=options)._start()
    stream._stamps[0, 1] = 4
    message = workers._Message(0, 1, 1, 0, range(1))
    with pytest.raises(tl.UsageError, match="wrote over a block before it was read"):
        stream.take(message, epoch=0, rows=range(1))


def test_a_block_out_of_turn_is_refused() -> None:
    """Each block must be the one that comes next; no stream goes on with another."""
    options = WorkerOptions(block_size=1)
    stream, _ = BlockReader(make_windows(PLAN), num_workers=1, options=options)._start()
    for message in (workers._Message(0, 0, 0, 0, range(1)), None):
        with pytest.raises(tl.UsageError, match=r"expected batches range\(1, 2\) of epoch 0"):
            stream.take(message, epoch=0, rows=range(1, 2))


def test_a_stale_iterator_does_not_lead_living_workers_away() -> None:
    """An iterator that was replaced before it began is refused, and changes nothing."""
    loader = make_loader(persistent_workers=True, block_size=1)
    stale, newer = iter(loader), iter(loader)
    said = [rows_of(next(newer)) for _ in range(2)]
    with pytest.raises(tl.UsageError, match="replaced by a newer one"):
        next(stale)
    assert EXPECTED == said + [rows_of(batch) for batch in newer]
    assert loader.remaining == 0


def test_a_loader_with_living_workers_can_be_copied() -> None:
    """The copy starts workers of its own."""
    loader = make_loader(persistent_workers=True)
    next(iter(loader))
    copied = copy.deepcopy(loader)
    assert EXPECTED == [rows_of(batch) for batch in copied]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_modes_of_pytorch_change_nothing(num_workers: int) -> None:
    """Neither a default device nor inference mode, where the loader is made, matters later."""
    with torch.device("meta"), torch.inference_mode():
        windows = make_windows(PLAN)
        loader = tl.Loader(windows, num_workers=num_workers, num_epochs=3)
        next(iter(loader))
    windows.set_epoch(0)
    assert EXPECTED == [rows_of(batch) for batch in loader]


def test_a_message_is_taken_by_a_pipe_whole_or_not_at_all() -> None:
    """It is far below 4,096 bytes, whatever the numbers."""
    huge = 2**62
    message = workers._Message(huge, huge, huge, huge, range(huge - 1, huge))
    assert len(pickle.dumps((huge, message))) < 512


def test_workers_are_sent_no_vocabulary() -> None:
    """They need the ids only, so a tokenizer that cannot be pickled is no obstacle."""

    class Odd:
        vocab_size = 400
        odd = staticmethod(lambda: None)

        def encode(self, text: str) -> list[int]:
            return [ord(c) for c in text]

        def decode(self, ids: Any) -> str:
            return "".join(map(chr, ids))

    corpus = tl.Corpus.from_text("the time machine " * 30, tokenizer=Odd())
    windows = tl.RandomWindows(corpus, batch_size=4, seq_len=5)
    expected = [rows_of(batch) for batch in windows]
    options = WorkerOptions(multiprocessing_context="forkserver")
    loader = tl.Loader(windows, num_workers=1, worker_options=options)
    assert expected == [rows_of(batch) for batch in loader]


def test_a_stretch_without_end_goes_on() -> None:
    """None as stop_epoch has no last part."""
    parts = Stretch(first_epoch=2**40, next_batch=1, stop_epoch=None).parts(
        num_batches=2, num_rows=9
    )
    assert [(2**40, range(1, 2)), (2**40 + 1, range(2))] == [next(parts) for _ in range(2)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"multiprocessing_context": "magic"}, "must be one of .*spawn.*, got 'magic'"),
        ({"prefetch_factor": 0}, "prefetch_factor must be an integer of at least 1, got 0"),
        ({"block_size": 0}, "block_size must be an integer of at least 1, got 0"),
        ({"block_size": 2.5}, "block_size must be an integer of at least 1, got 2.5"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    """The message names the argument and its value."""
    with pytest.raises(tl.ArgumentError, match=message):
        WorkerOptions(**options)


def test_memory_is_shared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that are forked read the corpus of the main process: no copy is made."""
    made = []

    def noting(*shape: int, dtype: Any) -> Any:
        made.append(tensor := sharedmemory.share_zeros(*shape, dtype=dtype))
        return tensor

    monkeypatch.setattr(workers, "share_zeros", noting)
    corpus = tl.Corpus.from_tokens(np.zeros(1_000_000, np.uint16))
    windows = tl.RandomWindows(corpus, batch_size=4, seq_len=5)
    options = WorkerOptions(multiprocessing_context="fork")
    next(iter(tl.Loader(windows, num_workers=2, worker_options=options)))
    # Two workers, three slots each, of four batches of 4 x 6 ids of two bytes.
    assert max(tensor.nbytes for tensor in made) == 2 * 3 * 4 * 4 * 6 * 2
