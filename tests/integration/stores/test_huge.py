"""A corpus of 10^12 tokens, in a sparse file of two terabytes that takes no room."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokenloom as tl

NUM_TOKENS = 10**12
WIDTH = 1025
# What a stream of these settings may add to the memory of the process, in bytes.
MAX_GROWTH = 256 << 20

Kind = type[tl.RandomWindows] | type[tl.SequentialWindows]
KINDS: list[Kind] = [tl.RandomWindows, tl.SequentialWindows]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a memory map of 10^12 ids, all 0 so far."""
    path: Path = tmp_path_factory.mktemp("huge") / "tokens.bin"
    path.touch()
    try:
        os.truncate(path, 2 * NUM_TOKENS)
        ids = np.memmap(path, dtype=np.uint16, mode="r+")
    except OSError as error:
        pytest.skip(f"this file system has no such sparse files: {error}")
    yield ids
    del ids
    path.unlink()


def memory() -> int:
    """Return the memory of this process that no other shares, in bytes."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("memory is measured in Linux's /proc")
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) * 1024


def mark(tokens: Any, starts: Any) -> None:
    """Write ids that tell the position in the windows that start there."""
    for start in starts.ravel().tolist():
        stop = min(start + WIDTH, NUM_TOKENS)
        tokens[start:stop] = np.arange(start, stop) % 65_521


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_workers", [0, 2])
def test_any_batch_is_read_at_once(tokens: Any, kind: Kind, num_workers: int) -> None:
    """The first, the middle and the last batch are exact, also in workers and after a resume."""
    corpus = tl.Corpus.from_tokens(tokens)
    windows = kind(corpus, batch_size=8, seq_len=WIDTH - 1)
    plan = windows.plan
    assert plan.num_dropped <= 9 * (WIDTH - 1)
    rows = [0, 1, plan.num_batches // 2, plan.num_batches - 1]
    for row in rows:
        mark(tokens, plan.starts(range(row, row + 1)))
    before = memory()
    # Blocks of one batch: the others of larger blocks would make holes into zeros.
    options = tl.WorkerOptions(block_size=1)
    loader = tl.Loader(windows, num_workers=num_workers, worker_options=options)
    state = {**loader.state_dict(), "epoch": 0}
    for row in rows:
        loader.load_state_dict({**state, "next_batch": row})
        batch = next(iter(loader))
        starts = plan.starts(range(row, row + 1))[0]
        expected = (starts[:, None] + np.arange(WIDTH)) % 65_521
        assert (0, row) == (batch.epoch, batch.index)
        assert expected[:, :-1].tolist() == batch.inputs.tolist()
        assert expected[:, 1:].tolist() == batch.targets.tolist()
    assert memory() - before < MAX_GROWTH


def test_it_is_shown_and_hashed_at_once(tokens: Any) -> None:
    """Neither the hash of the corpus nor its repr reads all of it."""
    corpus = tl.Corpus.from_tokens(tokens)
    assert "1,000,000,000,000 tokens" in repr(corpus)
    assert corpus.hash.startswith("sha256:")
