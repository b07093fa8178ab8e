"""Whoever stops early leaves nothing behind."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

import tokenloom as tl
from tests.census import children_of, needs_proc, take_census

pytestmark = [needs_proc, pytest.mark.slow, pytest.mark.alone]

CORPUS = tl.Corpus.from_tokens(np.arange(4000, dtype=np.uint16))
TIMES = 100


def make_windows() -> tl.RandomWindows:
    """Return windows of 199 batches, in many blocks."""
    return tl.RandomWindows(CORPUS, batch_size=4, seq_len=5)


def make_loader(**options: Any) -> tl.Loader:
    """Return a loader with two workers that are forked."""
    return tl.Loader(
        make_windows(),
        num_workers=2,
        worker_options=tl.WorkerOptions(multiprocessing_context="fork", **options),
    )


def make_data_loader() -> "DataLoader[Any]":
    """Return PyTorch's loader likewise."""
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


@pytest.mark.parametrize("stop", [leave_early, raise_inside, interrupt, drop, finish])
@pytest.mark.parametrize("make", [make_loader, make_data_loader])
def test_a_hundred_stops_leave_nothing(
    stop: Callable[[Callable[[], Any]], None], make: Callable[[], Any]
) -> None:
    """No process, thread, file, shared memory or temporary file is left."""
    stop(make)
    before = take_census()
    # PyTorch's own loader is slower, and is not what is to be proved here.
    for _ in range(TIMES if make is make_loader else TIMES // 5):
        stop(make)
    assert not take_census().beyond(before)


def test_a_hundred_iterations_with_persistent_workers_leave_nothing() -> None:
    """Workers stay for the next iteration, are never more, and go with the loader."""
    leave_early(make_loader)
    before = take_census()
    loader = make_loader(persistent_workers=True)
    list(loader)
    workers = take_census()
    assert len(workers.children) == len(before.children) + 2
    for position in range(TIMES):
        for batch in loader:
            if position % 2 and batch.index == position:
                break
    assert not take_census().beyond(workers)
    del loader
    gc.collect()
    assert not take_census().beyond(before)


@pytest.fixture(params=["loader", "persistent", "data_loader"])
def program(request: pytest.FixtureRequest) -> Iterator["subprocess.Popen[str]"]:
    """Start a process that reads for ever with two workers, in a session of its own."""
    source = f"""
import numpy, torch, tokenloom as tl
from torch.utils.data import DataLoader
corpus = tl.Corpus.from_tokens(numpy.arange(90_000) % 999)
windows = tl.RandomWindows(corpus, batch_size=4, seq_len=5)
persistent = {request.param == "persistent"}
options = tl.WorkerOptions(persistent_workers=persistent, block_size=1)
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
    """Wait for processes to end, a minute at most; return those that did not."""
    deadline = time.monotonic() + 60
    left = pids
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [pid for pid in left if _is_alive(pid)]
    return left


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123  short
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_ctrl_c_ends_the_workers(program: "subprocess.Popen[str]") -> None:
    """A terminal interrupts all processes at once; only the main one tells of it."""
    workers = children_of(program.pid)
    os.killpg(program.pid, signal.SIGINT)
    _, messages = program.communicate(timeout=60)
    assert len(workers) >= 2
    assert [] == wait_until_gone(workers)
    assert messages.count("KeyboardInterrupt") == 1, messages


def test_workers_do_not_outlive_a_killed_main_process(program: "subprocess.Popen[str]") -> None:
    """They see that they are orphans, and end."""
    workers = children_of(program.pid)
    program.kill()
    assert len(workers) >= 2
    assert [] == wait_until_gone(workers)


def test_workers_do_not_outlive_a_main_process_that_dies_before_they_begin() -> None:
    """A worker that finds itself an orphan when it begins ends at once."""
    source = """
import os, signal, threading, time, numpy, tokenloom as tl
windows = tl.RandomWindows(tl.Corpus.from_tokens(numpy.arange(999)), batch_size=4, seq_len=5)
options = tl.WorkerOptions(multiprocessing_context="fork")
loader = tl.Loader(windows, num_workers=1, worker_options=options)

def wait():
    print(os.getpid(), flush=True)
    while os.getppid() == main:
        time.sleep(0.01)

main = os.getpid()
os.register_at_fork(after_in_child=wait)
threading.Timer(1, os.kill, (main, signal.SIGKILL)).start()
next(iter(loader))
"""
    command = [sys.executable, "-W", "ignore", "-c", source]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        assert -signal.SIGKILL == process.wait(timeout=60)
        left = wait_until_gone([worker])
        if left:
            os.kill(worker, signal.SIGKILL)
    assert [] == left


def kill_one_worker_while_reading(loader: tl.Loader, outcome: dict[str, Any]) -> None:
    """Read for ever, let a worker be killed, and note the error and who was killed."""
    known = set(multiprocessing.active_children())
    batches = iter(loader)
    next(batches)
    (victim, *_) = set(multiprocessing.active_children()) - known
    outcome["pid"] = victim.pid
    timer = threading.Timer(0.01, os.kill, (victim.pid, signal.SIGKILL))
    timer.start()
    try:
        for _ in batches:
            pass
    except RuntimeError as error:
        outcome["error"] = str(error)
        outcome["kind"] = type(error)
    timer.join()


@pytest.mark.parametrize(
    ("start_method", "in_thread", "times"),
    [("fork", False, 12), ("fork", True, 3), ("forkserver", False, 3), ("spawn", False, 2)],
)
def test_twenty_killed_workers_are_named(start_method: str, in_thread: bool, times: int) -> None:
    """An error names the process, nothing hangs, and nothing is left."""
    options = tl.WorkerOptions(multiprocessing_context=start_method)
    windows = make_windows()

    def run() -> None:
        outcome: dict[str, Any] = {}
        loader = tl.Loader(windows, num_workers=3, num_epochs=None, worker_options=options)
        arguments = loader, outcome
        if in_thread:
            thread = threading.Thread(target=kill_one_worker_while_reading, args=arguments)
            thread.start()
            thread.join(120)
            assert not thread.is_alive()
        else:
            kill_one_worker_while_reading(*arguments)
        assert str(outcome["pid"]) in outcome["error"], outcome
        # PyTorch's handler of SIGCHLD may tell of it first, wherever the main thread is.
        if in_thread or start_method == "forkserver":
            assert outcome["kind"] is tl.WorkerError
            assert "was killed by SIGKILL" in outcome["error"]

    run()
    before = take_census()
    for _ in range(times - 1):
        run()
    assert not take_census().beyond(before)


def test_a_loader_goes_on_after_a_killed_worker() -> None:
    """The position is the consumer's, so the rest is exact; also with persistent workers."""
    expected = [(b.epoch, b.index, b.inputs.tolist()) for b in tl.Loader(make_windows())]
    loader = make_loader(persistent_workers=True, block_size=1)
    said: list[Any] = []
    while len(said) < len(expected):
        known = set(multiprocessing.active_children())
        loader.load_state_dict(loader.state_dict())
        try:
            for batch in loader:
                said.append((batch.epoch, batch.index, batch.inputs.tolist()))
                if batch.index == 20:
                    (victim, *_) = set(multiprocessing.active_children()) - known
                    os.kill(victim.pid or 0, signal.SIGKILL)
        except RuntimeError as error:
            assert "killed" in str(error) or "exited unexpectedly" in str(error)  # noqa: PT017  it may come or not
    assert expected == said


def kill_and_wait(pid: int) -> None:
    """Kill a process and do something else."""
    os.kill(pid, signal.SIGKILL)
    time.sleep(60)


@pytest.mark.parametrize("in_thread", [False, True])
def test_a_death_between_two_iterations_is_told_once(in_thread: bool) -> None:
    """Persistent workers of which one died are named, and the next iteration has new ones."""
    loader = make_loader(persistent_workers=True)
    outcome: dict[str, Any] = {}

    def run() -> None:
        known = set(multiprocessing.active_children())
        list(loader)
        (victim, *_) = set(multiprocessing.active_children()) - known
        try:
            os.kill(victim.pid or 0, signal.SIGKILL)
            victim.join()
            list(loader)
        except RuntimeError as error:
            outcome["error"] = str(error)
        outcome["pid"] = victim.pid
        outcome["count"] = sum(1 for _ in loader)

    if in_thread:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(120)
        assert not thread.is_alive()
    else:
        run()
    assert f"pid {outcome['pid']}" in outcome["error"]
    assert outcome["count"] == 199


def test_a_death_that_pytorch_tells_in_the_consumers_code_is_not_forgotten() -> None:
    """Persistent workers of which one is dead are not used again."""
    loader = make_loader(persistent_workers=True)
    known = set(multiprocessing.active_children())
    for _ in loader:
        (victim, *_) = set(multiprocessing.active_children()) - known
        # The handler of SIGCHLD raises here.
        with pytest.raises(RuntimeError, match=f"pid {victim.pid}"):
            kill_and_wait(victim.pid or 0)
        break
    assert sum(1 for _ in loader) == 199
