"""The number of files that all corpora of a process keep open."""

import gc
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.store import open_files
from tokenloom.store.open_files import OpenFiles, divide


@given(st.integers(0, 100), st.lists(st.integers(1, 40), max_size=8))
def test_shares_are_fair(total: int, wanted: list[int]) -> None:
    """Nobody has more than it wants; who has less has no less than any other."""
    shares = divide(total, wanted)
    assert sum(shares) <= max(total, len(wanted))
    for share, want in zip(shares, wanted, strict=True):
        assert 1 <= share <= want
        assert share == want or share + 1 >= max(shares)
    if sum(wanted) <= total:
        assert shares == wanted


class Keeper:
    """Something that would keep files open."""

    def __init__(self, num_files: int) -> None:
        self.num_files = num_files
        self.share = 0

    @property
    def num_open(self) -> int:
        """All that it may."""
        return self.share

    def keep(self, max_open: int) -> None:
        """Note the share."""
        self.share = max_open


def test_shares_follow_who_comes_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is gone leaves its share, even where another comes in its place."""
    monkeypatch.setattr(open_files, "count_allowed", lambda: 15)
    files = OpenFiles()

    def shares(keepers: Sequence[Keeper]) -> list[int]:
        gc.collect()
        for keeper in keepers:
            files.join(keeper)
        return [keeper.share for keeper in keepers]

    first, second, third = Keeper(20), Keeper(3), Keeper(20)
    assert shares([first]) == [15]
    assert shares([first, second]) == [12, 3]
    assert shares([first, second, third]) == [6, 3, 6]
    del second
    assert sorted(shares([first, third])) == [7, 8]
    del third
    assert shares([Keeper(2), first]) == [2, 13]


def test_half_is_closed_where_nothing_can_be_opened() -> None:
    """And no more than that is kept open later."""
    files = OpenFiles()
    first, second = Keeper(20), Keeper(4)
    for keeper in (first, second):
        files.join(keeper)
    for _ in range(3):
        # Threads that fail at the same time close half once.
        files.close_half(0)
    assert [8, 4] == [first.share, second.share]
    third = Keeper(9)
    files.join(third)
    assert [4, 4, 4] == [first.share, second.share, third.share]


def test_all_corpora_together_keep_half_of_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is for whatever else the process opens."""
    resource = pytest.importorskip("resource")
    for limit, expected in ((256, 128), (1 << 20, 1 << 14), (resource.RLIM_INFINITY, 1 << 14)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        assert expected == open_files.count_allowed()


_PROGRAM = """
import os, resource, sys
import numpy as np
import torch
import tokenloom as tl

# PyTorch's own threads do not outlive a fork.
torch.set_num_threads(1)
NUM_FILES, NUM_CORPORA = 70, 4
folder, limit, num_others = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
corpora = []
for number in range(NUM_CORPORA):
    for file in range(NUM_FILES):
        ids = np.arange(100, dtype=np.uint16) + number
        ids.tofile(f"{folder}/{number}-{file:03}.bin")
    corpora.append(
        tl.open_foreign(f"{folder}/{number}-*.bin", dtype="uint16", vocab_size=1000)
    )
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
others = [open(os.devnull) for _ in range(num_others)]

def read():
    mixture = tl.Mixture({str(n): (corpus, 1) for n, corpus in enumerate(corpora)})
    several = [tl.RandomWindows(mixture, batch_size=8, seq_len=9)]
    several += [tl.SequentialWindows(corpus, batch_size=8, seq_len=9) for corpus in corpora]
    # At the same time, and in threads.
    loaders = [iter(tl.Loader(windows, num_workers=2, num_epochs=1)) for windows in several]
    while loaders:
        loaders = [loader for loader in loaders if check(next(loader, None))]
    for number, corpus in enumerate(corpora):
        whole = np.tile(np.arange(100) + number, NUM_FILES)
        # A window over many files, and all of them as one array.
        assert (np.asarray(corpus.tokens) == whole).all()
        (long,) = tl.SequentialWindows(corpus, batch_size=1, seq_len=6500)
        assert (long.targets - long.inputs)[0, :90].eq(1).sum() >= 89

def check(batch):
    if batch is not None:
        # Numbers rise but at the end of a file.
        steps = (batch.targets - batch.inputs).flatten()
        assert set(steps.tolist()) <= {1, -99}
    return batch is not None

read()
if child := os.fork():
    _, status = os.waitpid(child, 0)
    read()
    sys.exit(os.waitstatus_to_exitcode(status))
read()
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the limit is of POSIX")
@pytest.mark.parametrize(("limit", "num_others"), [("96", "0"), ("160", "90")])
def test_many_corpora_of_many_files_are_read_at_the_same_time(
    limit: str, num_others: str, tmp_path: Path
) -> None:
    """In threads and in a forked process, although the system lets fewer files be open.

    Also where other files of the process leave less than the half that corpora keep.
    """
    pytest.importorskip("torch")
    command = [sys.executable, "-W", "ignore", "-c", _PROGRAM, str(tmp_path), limit, num_others]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (0, "") == (ended.returncode, ended.stderr)


_PIECES = """
import os, resource, sys
import numpy as np
from tokenloom.store.memmap import ConcatenatedMemmap, FileRange, gather_pieces

parts = []
for number in range(70):
    np.arange(50, dtype=np.uint16).tofile(f"{sys.argv[1]}/{number}.bin")
    parts.append(FileRange(f"{sys.argv[1]}/{number}.bin", "<u2", 0, 50))
tokens = ConcatenatedMemmap(parts)
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (160, hard))
others = [open(os.devnull) for _ in range(110)]
pieces = gather_pieces(tokens, np.arange(70) * 50, np.full(70, 40))
assert (pieces == np.tile(np.arange(40), 70)).all()
"""


def test_pieces_of_more_files_than_there_is_room_for(tmp_path: Path) -> None:
    """Those that were read are let go before others are opened."""
    pytest.importorskip("resource")
    command = [sys.executable, "-c", _PIECES, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (0, "") == (ended.returncode, ended.stderr)
