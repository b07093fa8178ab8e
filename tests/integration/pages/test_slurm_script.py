"""The job script of the page on long trainings, with a bash of its own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.training.trainings import BOOK, SMALL, outcome_of
from tokenloom.cli.main import main

ROOT = Path(__file__).parents[3]
BASH = shutil.which("bash")
PAGE = ROOT / "docs" / "howto" / "long-training.md"
SECONDS = 240

# The command, whose first job waits in its thirtieth step for the signal.
HELD = """
import os, sys, time
from tokenloom import __main__
from tokenloom._io.interrupts import Interrupt
from tokenloom.training.optimizer import ScheduledOptimizer

num_steps, came, note, step = 0, [], Interrupt._note, ScheduledOptimizer.step

def noted(interrupt, number, frame):
    came.append(number)
    note(interrupt, number, frame)

def held(*arguments, **options):
    global num_steps
    num_steps += 1
    for _ in range(60_000):
        if num_steps != 30 or came or os.path.exists("requeued"):
            break
        time.sleep(0.01)
    return step(*arguments, **options)

Interrupt._note, ScheduledOptimizer.step = noted, held
sys.exit(__main__.main())
"""


def read_script() -> str:
    """Return the script, with a small training in the place of a long one."""
    page = PAGE.read_text(encoding="utf-8")
    script = page.partition("### Slurm")[2].partition("```bash\n")[2].partition("```")[0]
    long = "tokenloom train book.txt --raw --max-tokens all --epochs 500 "
    assert long in script
    options = " ".join([*SMALL, "--epochs", "12"])
    return script.replace(long, f"tokenloom train book.txt {options} ")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return an environment with the commands that a job has."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "held.py").write_text(HELD, encoding="utf-8")
    commands = {
        "tokenloom": f'exec {sys.executable} {folder / "held.py"} "$@"',
        "scontrol": f'echo "$@" >> {tmp_path / "requeued"}',
    }
    for name, line in commands.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "SLURM_JOB_ID": "17",
    }


@pytest.mark.slow
@pytest.mark.skipif(BASH is None, reason="job scripts are written for bash")
def test_a_job_saves_requeues_itself_and_goes_on(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """Two minutes before its time is up Slurm says so; the next job ends where one would have."""
    (tmp_path / "book.txt").write_text(BOOK, encoding="utf-8")
    (tmp_path / "job.sh").write_text(read_script(), encoding="utf-8")
    assert BASH is not None
    run, jobs = tmp_path / "runs" / "book", []
    for number in range(2):
        job = subprocess.Popen(
            [BASH, "job.sh"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
        )
        while number == 0 and job.poll() is None and not list(run.glob("checkpoints/step*")):
            time.sleep(0.01)
        if number == 0:
            job.send_signal(signal.SIGUSR1)
        said = job.communicate(timeout=SECONDS)[1]
        jobs.append((job.returncode, said.count("stopped by SIGTERM"), "Traceback" in said))
    assert [(143, 1, False), (0, 0, False)] == jobs
    assert "requeue 17\n" == (tmp_path / "requeued").read_text(encoding="utf-8")
    arguments = [str(tmp_path / "book.txt"), *SMALL, "--epochs", "12"]
    whole = tmp_path / "whole"
    assert 0 == main(["train", *arguments, "--run", str(whole)])
    assert outcome_of(whole) == outcome_of(run)
