"""Commands that schedulers, containers and terminals ask to end, in processes of their own."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # it is there

import tokenloom as tl
from tests.support.preparation.preparations import contents
from tests.support.training.trainings import BOOK, SMALL, outcome_of
from tokenloom.cli.main import main

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
SECONDS = 240

# The command, which gets a signal in the middle of a step of one rank, or of other work.
SIGNALLED = """
import os, sys
from tokenloom import __main__
from tokenloom.model import evaluation
from tokenloom.preparation import executor
from tokenloom.training.optimizer import ScheduledOptimizer

PLACES = {
    "train": (ScheduledOptimizer, "step"),
    "evaluate": (evaluation, "_add_losses"),
    "prepare": (executor, "_take"),
}

if __name__ == "__main__":
    number, step, rank = map(int, sys.argv[1:4])
    sys.argv[1:4] = []
    room, name = PLACES[sys.argv[1]]
    count, do = 0, getattr(room, name)

    def interrupted(*arguments, **options):
        global count
        count += 1
        if count == step and int(os.environ.get("RANK", "0")) == rank:
            os.kill(os.getpid(), number)
        return do(*arguments, **options)

    setattr(room, name, interrupted)
    sys.exit(__main__.main())
"""


OTHER_SIGNALS = ("SIGUSR1", "SIGHUP", "SIGINT")


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Return the path of a text."""
    path = tmp_path / "book.txt"
    path.write_text(BOOK, encoding="utf-8")
    return path


def start(arguments: list[str], **environment: str) -> "subprocess.Popen[str]":
    """Start Python with some arguments."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", *arguments],
        env={**ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Return the exit code and the text of stderr, which has no traceback."""
    _, said = process.communicate(timeout=SECONDS)
    assert "Traceback" not in said
    return process.returncode, said


@pytest.fixture
def program(tmp_path: Path) -> str:
    """Return the path of the command that gets a signal."""
    path = tmp_path / "signalled.py"
    path.write_text(SIGNALLED, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    "name",
    ["SIGTERM", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHER_SIGNALS)],
)
def test_a_training_saves_and_resumes_exactly(
    name: str, book: Path, program: str, tmp_path: Path
) -> None:
    """The step is finished, the code is the shell's, and the weights end bit by bit the same."""
    number = signal.Signals[name]
    assert 0 == main(["train", str(book), *SMALL, "--run", str(tmp_path / "whole")])
    run = tmp_path / "run"
    arguments = ["train", str(book), *SMALL, "--run", str(run)]
    code, said = finish(start([program, str(int(number)), "30", "0", *arguments]))
    assert 128 + number == code, said
    called = "Ctrl-C" if name == "SIGINT" else name
    assert f"tokenloom: stopped by {called} after the usual files were written" in said
    assert f"resume with: tokenloom train --resume {run}" in said
    checkpoint = tl.Run.open(run).load_checkpoint()
    assert checkpoint is not None
    assert 30 == checkpoint.step
    assert 0 == main(["train", "--resume", str(run), "--device", "cpu"])
    assert outcome_of(tmp_path / "whole") == outcome_of(run)


@pytest.mark.slow
def test_a_signal_of_one_rank_stops_all_after_the_same_step(
    book: Path, program: str, tmp_path: Path
) -> None:
    """One of them saves and says so."""
    run = tmp_path / "run"
    arguments = ["train", str(book), *SMALL, "--run", str(run)]
    # As torchrun does: a port that is free now could be taken by the time the first rank listens.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "WORLD_SIZE": "2",
        "TORCHELASTIC_RUN_ID": "test",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    ranks = [
        start(
            [program, str(int(signal.SIGTERM)), "30", "1", *arguments],
            **shared,
            RANK=str(rank),
            LOCAL_RANK=str(rank),
        )
        for rank in range(2)
    ]
    try:
        ends = [finish(process) for process in ranks]
    finally:
        for process in ranks:
            process.kill()
            process.communicate()
    assert [143, 143] == [code for code, _ in ends], ends
    assert [1, 0] == [said.count("stopped by SIGTERM") for _, said in ends]
    checkpoint = tl.Run.open(run).load_checkpoint()
    assert checkpoint is not None
    assert 30 == checkpoint.step


@pytest.mark.slow
def test_an_evaluation_ends_without_a_traceback(book: Path, program: str, tmp_path: Path) -> None:
    """Nothing is printed as its result."""
    run = str(tmp_path / "run")
    assert 0 == main(["train", str(book), *SMALL, "--run", run])
    arguments = ["evaluate", run, str(book), "--device", "cpu"]
    process = start([program, str(int(signal.SIGTERM)), "1", "0", *arguments])
    code, said = finish(process)
    assert (143, "tokenloom: stopped by SIGTERM") == (code, said.splitlines()[-1])
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_preparation_keeps_what_is_finished(program: str, tmp_path: Path) -> None:
    """There is no store, and the same call ends with the same bytes."""
    text, target = tmp_path / "text.txt", tmp_path / "store"
    text.write_text("To be, or not to be: that is the question.\n" * 300_000, encoding="utf-8")
    arguments = ["prepare", str(text), "-o", str(target), "--workers", "2"]
    code, said = finish(start([program, str(int(signal.SIGTERM)), "2", "0", *arguments]))
    assert 143 == code, said
    assert "stopped by SIGTERM (what is finished is kept" in said
    assert not target.exists()
    assert 0 == main(arguments)
    whole = tmp_path / "whole"
    assert 0 == main(["prepare", str(text), "-o", str(whole), "--workers", "1"])
    assert contents(whole) == contents(target)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_download_leaves_no_text_behind(name: str, tmp_path: Path) -> None:
    """Even while a server does not answer."""
    number, cache = signal.Signals[name], tmp_path / "cache"
    with socket.create_server(("127.0.0.1", 0)) as server:
        environment: dict[str, Any] = {
            "TOKENLOOM_MIRROR": f"http://127.0.0.1:{server.getsockname()[1]}/",
            "TOKENLOOM_CACHE": str(cache),
        }
        process = start(["-m", "tokenloom", "fetch", "time_machine"], **environment)
        server.settimeout(SECONDS)
        connection, _ = server.accept()
        with connection:
            process.send_signal(number)
            assert (128 + number, f"tokenloom: stopped by {name}\n") == finish(process)
    assert [] == [path.name for path in cache.rglob("*.txt")]
