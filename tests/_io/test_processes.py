"""Workers whose main process was killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tokenloom._io.processes import end_with_parent

PROGRAM = """
import json, os, sys, time
import numpy as np
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader
import tokenloom as tl

def main():
    corpus = tl.Corpus.from_tokens(np.zeros(400_000, np.uint16))
    large = tl.RandomWindows(corpus, batch_size=64, seq_len=2_000)
    small = tl.SequentialWindows(corpus, batch_size=4, seq_len=5)
    options = {"batch_size": None, "num_workers": 1, "multiprocessing_context": sys.argv[1]}
    loaders = [
        # Its batches are larger than a pipe: the worker is blocked as it sends the second one.
        DataLoader(large, **options),
        DataLoader(small, persistent_workers=True, **options),
        StatefulDataLoader(small, **options),
    ]
    iterators = [iter(loader) for loader in loaders]
    for iterator in iterators:
        next(iterator)
    workers = [worker.pid for iterator in iterators for worker in iterator._workers]
    # It inherits what tells the workers of this process' end, and does not end with it.
    idle = os.fork()
    if idle == 0:
        time.sleep(600)
    print(json.dumps([workers, idle]), flush=True)
    time.sleep(600)

if __name__ == "__main__":
    main()
"""


def is_alive(pid: int) -> bool:
    """Return whether a process still runs; one that nobody has waited for does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        # Without /proc nobody can say more.
        return not Path("/proc/self").exists()
    except ProcessLookupError:
        return False
    return state != "Z"


class Main:
    """A main process of its own, with its workers."""

    def __init__(self, folder: Path, start_method: str) -> None:
        program = folder / "program.py"
        program.write_text(PROGRAM, encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, str(program), start_method],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.workers, self.idle = json.loads(self.process.stdout.readline())

    def end(self) -> None:
        """Leave nothing of it."""
        for pid in (self.process.pid, self.idle, *self.workers):
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def main(tmp_path: Path, request: Any) -> Iterator[Main]:
    """Start a main process, and end it with all that it has started."""
    pytest.importorskip("torch")
    started = Main(tmp_path, request.param)
    yield started
    started.end()


@pytest.mark.parametrize(
    "main",
    ["fork", *(pytest.param(name, marks=pytest.mark.slow) for name in ("forkserver", "spawn"))],
    indirect=True,
)
def test_workers_end_after_their_main_process_was_killed(main: Main) -> None:
    """Also where one is blocked, waits for the next epoch, or is a StatefulDataLoader's."""
    assert [True] * 3 == [is_alive(pid) for pid in main.workers]
    # Ctrl-C, which a terminal sends to all of them, is the main process' business.
    for pid in main.workers:
        os.kill(pid, signal.SIGINT)
    time.sleep(0.2)
    assert [True] * 3 == [is_alive(pid) for pid in main.workers]
    main.process.kill()
    # Far below the limit, on a machine that is not busy: within some hundredths of a second.
    deadline = time.monotonic() + 120
    while any(map(is_alive, main.workers)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [False] * 3 == [is_alive(pid) for pid in main.workers]


def test_a_process_of_ones_own_waits_for_nobody() -> None:
    """Where multiprocessing did not start it, no thread is begun."""
    program = (
        "import threading\n"
        "from tokenloom._io.processes import end_with_parent\n"
        "end_with_parent()\n"
        "print(threading.active_count())"
    )
    command = [sys.executable, "-c", program]
    assert "1\n" == subprocess.run(command, check=True, capture_output=True, text=True).stdout
    end_with_parent()
