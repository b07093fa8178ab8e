"""An iteration that stops early leaves no thread, process or file."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

import tokenloom as tl
from tests.support.loading.process_resources import children_of, left_since, needs_proc, take_census

pytestmark = [needs_proc, pytest.mark.alone]

CORPUS = tl.Corpus.from_tokens(np.arange(4000, dtype=np.uint16))
TIMES = 100


def make_windows() -> tl.RandomWindows:
    """Return windows of 199 batches."""
    return tl.RandomWindows(CORPUS, batch_size=4, seq_len=5)


def make_loader() -> tl.Loader:
    """Return a loader with two workers, and many blocks."""
    options = tl.WorkerOptions(block_size=4)
    return tl.Loader(make_windows(), num_workers=2, worker_options=options)


def make_data_loader() -> "DataLoader[Any]":
    """Return PyTorch's loader likewise, whose workers are processes that are forked."""
    return DataLoader(
        make_windows(), batch_size=None, num_workers=2, multiprocessing_context="fork"
    )


class StopError(Exception):
    """What a consumer raises in these tests."""


def stop_at_the_fourth(batches: Any, stop: Callable[[], None]) -> None:
    """Use three batches, and call ``stop`` with the fourth."""
    for position, _ in enumerate(batches):
        if position == 3:
            stop()


def throw(error: Exception) -> None:
    """Raise an error."""
    raise error


def leave_early(make: Callable[[], Any]) -> None:
    """Break out of the loop."""
    for _ in make():
        break


def raise_inside(make: Callable[[], Any]) -> None:
    """Let the consumer fail, and keep its traceback while the loader goes."""
    with pytest.raises(StopError):
        stop_at_the_fourth(make(), lambda: throw(StopError()))


def interrupt(make: Callable[[], Any]) -> None:
    """Press Ctrl-C while a batch is used."""
    with pytest.raises(KeyboardInterrupt):
        stop_at_the_fourth(make(), lambda: signal.raise_signal(signal.SIGINT))


def drop(make: Callable[[], Any]) -> None:
    """Forget an iterator in the middle."""
    batches = iter(make())
    next(batches)
    del batches


def finish(make: Callable[[], Any]) -> None:
    """Read to the end."""
    assert sum(1 for _ in make()) == 199


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123  short
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("stop", [leave_early, raise_inside, interrupt, drop, finish])
@pytest.mark.parametrize(
    "make", [make_loader, pytest.param(make_data_loader, marks=pytest.mark.slow)]
)
def test_a_hundred_stops_leave_nothing(
    stop: Callable[[Callable[[], Any]], None], make: Callable[[], Any]
) -> None:
    """No process, thread, file, shared memory or temporary file is left."""
    stop(make)
    before = take_census()
    # PyTorch's own loader is slower, and is not what is to be proved here.
    times = TIMES if make is make_loader else TIMES // 10
    for _ in range(times):
        stop(make)
    assert {} == left_since(before, times)


@pytest.mark.slow
def test_stops_of_all_kinds_at_any_moment_leave_nothing(tmp_path: Path) -> None:
    """Breaks, errors, Ctrl-C, threads and forks: no thread, file or map is left.

    And the position is always that of the last batch that came.
    """
    command = [sys.executable, "-W", "error", "-m", "tests.support.loading.stopped_loaders"]
    command += ["400", "1", str(tmp_path / "ids.npy")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    said = json.loads(done.stdout)
    assert {"leave_early", "fail", "drop", "interrupt", "fork", "use_thread"} == set(said["counts"])
    assert said["misplaced"] == 0
    left = {name: said["after"][name] - number for name, number in said["before"].items()}
    assert not any(number > 0 for number in left.values()), left


@pytest.fixture(params=["loader", "data_loader"])
def program(request: pytest.FixtureRequest) -> Iterator["subprocess.Popen[str]"]:
    """Start a process that reads for ever with two workers, in a session of its own."""
    source = f"""
import numpy, torch, tokenloom as tl
from torch.utils.data import DataLoader
# Long epochs: a worker that has just begun another one leaves no Ctrl-C to the main process.
corpus = tl.Corpus.from_tokens(numpy.zeros(40_000_000, numpy.uint16))
windows = tl.RandomWindows(corpus, batch_size=4, seq_len=5)
options = tl.WorkerOptions(block_size=1)
loader = tl.Loader(windows, num_workers=2, num_epochs=None, worker_options=options)
if {request.param == "data_loader"}:
    loader = DataLoader(windows, batch_size=None, num_workers=2)
num_read = 0
while True:
    for batch in loader:
        num_read += 1
        # By then both workers run: PyTorch's do not see that they are orphans
        # if they become so before they have begun.
        if num_read == 50:
            print("reading", flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", source],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "reading\n"
        yield process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def wait_until_gone(pids: list[int]) -> list[int]:
    """Wait for processes to end, two minutes at most; return those that did not."""
    deadline = time.monotonic() + 120
    left = pids
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [pid for pid in left if _is_alive(pid)]
    return left


@pytest.mark.slow
def test_ctrl_c_ends_the_workers(program: "subprocess.Popen[str]") -> None:
    """A terminal interrupts all processes at once; only the main one reports it."""
    workers = children_of(program.pid)
    os.killpg(program.pid, signal.SIGINT)
    _, messages = program.communicate(timeout=240)
    assert [] == wait_until_gone(workers)
    assert messages.count("KeyboardInterrupt") == 1, messages


@pytest.mark.slow
def test_workers_do_not_outlive_a_killed_main_process(program: "subprocess.Popen[str]") -> None:
    """Threads go with it, and processes see that they are orphans, and end."""
    workers = children_of(program.pid)
    program.kill()
    assert [] == wait_until_gone(workers)


def test_a_program_ends_with_an_iteration_under_way() -> None:
    """It waits for no worker, in whatever order its objects go."""
    source = """
import numpy, tokenloom as tl
windows = tl.RandomWindows(tl.Corpus.from_tokens(numpy.arange(99_000)), batch_size=4, seq_len=5)
loaders = [tl.Loader(windows, num_workers=3) for _ in range(3)]
batches = [iter(loader) for loader in loaders]
batches.append(batches)
for each in batches[:3]:
    next(each)
"""
    command = [sys.executable, "-W", "error", "-c", source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
