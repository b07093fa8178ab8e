"""Preparations by other people's executors, whose workers or scheduler die on the way."""

import itertools
import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import tokenloom as tl
from tests.support.packages import require_package
from tests.support.preparation.dask import DaskProcesses, dask_cluster
from tests.support.preparation.preparations import contents
from tokenloom.errors import WorkerError
from tokenloom.preparation import executor as executor_module
from tokenloom.preparation.options import PrepareOptions
from tokenloom.preparation.workdir import work_path

pytestmark = pytest.mark.slow

LINES = "It is a truth universally acknowledged, that a single man\nmust be in want.\n"
# About 300 chunks.
OPTIONS = PrepareOptions(task_bytes=20_000, documents="line", end_of_document="<eod>")
_NUM_KEPT = 8
# A call that ends by itself ends within these seconds, on a busy machine too.
_BOUND = 240

# The command, which sends a signal to a process, itself if that is 0, once two chunks were done.
HARMED = """
import os, sys
from tokenloom import __main__
from tokenloom.preparation import executor

def take(*arguments, do=executor._take):
    taken.append(1)
    if len(taken) == 3:
        os.kill(process or os.getpid(), number)
    return do(*arguments)

if __name__ == "__main__":
    taken = []
    number, process = map(int, sys.argv[1:3])
    sys.argv[1:3] = []
    executor._take = take
    sys.exit(__main__.main())
"""


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a text of 6 MB."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(LINES * (6_000_000 // len(LINES)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def whole(text: Path) -> dict[str, bytes]:
    """Return the bytes of the store that one process makes."""
    tl.prepare(text, text.with_name("whole"), tokenizer="word", options=OPTIONS, num_workers=1)
    return contents(text.with_name("whole"))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DaskProcesses]:
    """Return a Dask cluster of two workers."""
    require_package("distributed")
    with dask_cluster(tmp_path / "cluster") as made:
        yield made


def prepare(text: Path, target: Path, executor: Executor) -> dict[str, bytes]:
    """Return the bytes of a store that an executor made."""
    tl.prepare(text, target, tokenizer="word", options=OPTIONS, executor=executor, num_workers=2)
    return contents(target)


def count_kept(target: Path) -> int:
    """Return how many chunks were done so far."""
    return len(list(work_path(target).glob("tokens-*[0-9]")))


def do_after_some(do: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let something be done once some chunks were done, and while few others are on their way."""
    numbers, take = itertools.count(), executor_module._take

    def done(*arguments: Any) -> Any:
        if next(numbers) == _NUM_KEPT:
            do()
        return take(*arguments)

    monkeypatch.setattr(executor_module, "_take", done)


def connect(cluster: DaskProcesses) -> Any:
    """Return a client of a cluster."""
    distributed = require_package("distributed")
    return distributed.Client(cluster.address, timeout=_BOUND, set_as_default=False)


def test_a_dask_cluster_makes_the_same_bytes(
    cluster: DaskProcesses, text: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """As one process does."""
    with connect(cluster) as client:
        made = prepare(text, tmp_path / "store", client.get_executor(pure=False))
    assert whole == made


def test_a_worker_of_dask_may_die(
    cluster: DaskProcesses,
    text: Path,
    whole: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its tasks are done again by another worker, and the bytes are the same."""
    killed = []

    def kill() -> None:
        cluster.workers[0].kill()
        killed.append(count_kept(tmp_path / "store"))

    with connect(cluster) as client:
        client.wait_for_workers(2, timeout=_BOUND)
        do_after_some(kill, monkeypatch)
        made = prepare(text, tmp_path / "store", client.get_executor(pure=False))
    assert _NUM_KEPT <= killed[0] < 250
    assert whole == made


def test_the_scheduler_of_dask_may_die(
    cluster: DaskProcesses,
    text: Path,
    whole: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One error; the next call, with anything that works, resumes."""
    target = tmp_path / "store"
    with connect(cluster) as client:
        do_after_some(cluster.scheduler.kill, monkeypatch)
        message = "the executor ended with CancelledError: .* the same call resumes from there"
        began_at = time.monotonic()
        with pytest.raises(WorkerError, match=message):
            prepare(text, target, client.get_executor(pure=False))
        assert time.monotonic() - began_at < _BOUND
    assert _NUM_KEPT <= count_kept(target) < 250
    made = tl.prepare(text, target, tokenizer="word", options=OPTIONS, num_workers=1)
    assert made.num_bytes_read < made.num_bytes
    assert whole == contents(target)


def run_command(
    *arguments: object, program: Sequence[object] = ("-m", "tokenloom")
) -> "subprocess.Popen[str]":
    """Start tokenloom in a process of its own."""
    command = [sys.executable, *map(str, program), *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture(scope="module")
def long_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a text of 60 MB, which is 15 chunks of the command's size."""
    path = tmp_path_factory.mktemp("long") / "text.txt"
    path.write_text(LINES * (60_000_000 // len(LINES)), encoding="utf-8")
    return path


@pytest.mark.parametrize("what", ["scheduler", "client"])
def test_the_command_ends_in_one_line(
    cluster: DaskProcesses, long_text: Path, tmp_path: Path, what: str
) -> None:
    """Whether the scheduler dies or Ctrl-C is pressed; the next command resumes."""
    target, program = tmp_path / "store", tmp_path / "harmed.py"
    program.write_text(HARMED, encoding="utf-8")
    command = ["prepare", long_text, "-o", target, "--tokenizer", "word"]
    if what == "scheduler":
        harm = (program, int(signal.SIGKILL), cluster.scheduler.pid)
    else:
        harm = (program, int(signal.SIGINT), 0)
    process = run_command(*command, "--dask", cluster.address, program=harm)
    _, errors = process.communicate(timeout=_BOUND)
    # A bar begins its line anew each time; and the workers may be slower to start than this.
    passing = r"\S+: +\d+%|.* has no workers yet: waiting for one$"
    lines = [line for line in errors.splitlines() if line and not re.match(passing, line)]
    assert "Traceback" not in errors
    assert 1 == len(lines), errors
    assert "resumes from there" in lines[0]
    if what == "scheduler":
        assert f"--dask {cluster.address}: the executor ended with" in lines[0]
    else:
        assert lines[0].startswith("tokenloom: stopped by Ctrl-C (")
    assert (1 if what == "scheduler" else 130) == process.returncode
    again = run_command(*command, "--workers", "1", "--quiet")
    again.communicate(timeout=480)
    tl.prepare(long_text, tmp_path / "whole", tokenizer="word", num_workers=1)
    assert contents(tmp_path / "whole") == contents(target)


def test_the_command_works_with_a_cluster(
    cluster: DaskProcesses, text: Path, tmp_path: Path
) -> None:
    """It prints what it prints otherwise, and nothing of Dask."""
    command = ["prepare", text, "-o", tmp_path / "store", "--quiet", "--dask", cluster.address]
    process = run_command(*command)
    output, errors = process.communicate(timeout=_BOUND)
    assert (0, "") == (
        process.returncode,
        re.sub("tokenloom: the scheduler at .* waiting for one\n", "", errors),
    )
    assert f"{tmp_path / 'store'}" in output
    tl.prepare(text, tmp_path / "whole", num_workers=1)
    assert contents(tmp_path / "whole") == contents(tmp_path / "store")


@pytest.mark.parametrize("listens", [False, True])
def test_a_wrong_address_is_one_line(text: Path, tmp_path: Path, *, listens: bool) -> None:
    """Within seconds, whether nobody listens there or something that is no scheduler."""
    require_package("distributed")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        if listens:
            server.listen()
        address = f"tcp://127.0.0.1:{port}"
        process = run_command("prepare", text, "-o", tmp_path / "store", "--dask", address)
        _, errors = process.communicate(timeout=_BOUND)
    assert 1 == process.returncode
    assert 1 == len(errors.splitlines()), errors
    assert f"--dask must be the address of a running scheduler, '{address}' is not: " in errors
    assert not work_path(tmp_path / "store").exists()


def test_a_worker_that_does_not_see_the_folder_is_refused(text: Path, tmp_path: Path) -> None:
    """One line, which names the folder and the cure."""
    require_package("distributed")
    program = shutil.which("unshare") or "false"
    if subprocess.run([program, "-rm", "true"], check=False).returncode:
        pytest.skip("this system gives a process no file systems of its own")
    target = tmp_path / "out" / "store"
    target.parent.mkdir()
    with dask_cluster(tmp_path / "cluster", num_workers=0) as cluster:
        cluster.add_worker(hides=target.parent)
        process = run_command("prepare", text, "-o", target, "--dask", cluster.address, "--quiet")
        _, errors = process.communicate(timeout=_BOUND)
    errors = re.sub("tokenloom: the scheduler at .* waiting for one\n", "", errors)
    assert 1 == process.returncode
    assert 1 == len(errors.splitlines()), errors
    assert f"all workers must see the folder {work_path(target)}, the one on " in errors


def test_a_worker_of_loky_may_die(
    text: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One error, since loky gives up then; the next call resumes."""
    loky = require_package("loky")
    target = tmp_path / "store"
    with loky.ProcessPoolExecutor(2) as executor:
        pid = executor.submit(os.getpid).result()
        do_after_some(lambda: os.kill(pid, signal.SIGKILL), monkeypatch)
        with pytest.raises(WorkerError, match="a worker process died"):
            prepare(text, target, executor)
    assert count_kept(target) >= _NUM_KEPT
    with loky.ProcessPoolExecutor(2) as executor:
        assert whole == prepare(text, target, executor)


@pytest.mark.parametrize("method", ["fork", "spawn", "threads"])
def test_executors_of_the_standard_library(
    text: Path, whole: dict[str, bytes], tmp_path: Path, method: str
) -> None:
    """They make the same bytes."""
    executor: Executor
    if method == "threads":
        executor = ThreadPoolExecutor(2)
    else:
        executor = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method))
    with executor:
        assert whole == prepare(text, tmp_path / "store", executor)
