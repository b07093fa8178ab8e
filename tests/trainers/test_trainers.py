"""Other people's trainers, where they are installed: ``nox -s trainers``."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lightning")
pytest.importorskip("accelerate")

EXAMPLES = Path(__file__).parents[2] / "examples" / "trainers"


def run(*command: str) -> str:
    """Run a program of an example and return what it prints."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", *command],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def losses_of(printed: str) -> list[float]:
    """Return the mean losses that were printed."""
    return [float(value) for value in re.findall(r"mean loss ([0-9.]+)", printed)]


def test_lightning_moves_through_the_epochs() -> None:
    """Every batch is of the epoch that the trainer is in, all of them come, and the loss falls."""
    printed = run(str(EXAMPLES / "lightning_trainer.py"))
    assert ["0", "1", "2"] == re.findall(r"epoch (\d+): 23 batches", printed), printed
    losses = losses_of(printed)
    assert losses == sorted(losses, reverse=True)


def test_accelerate_trains_the_same_on_two_processes() -> None:
    """Each reads half of every batch; the losses are those of one process."""
    script = str(EXAMPLES / "accelerate_ranks.py")
    one = run(script)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    two = run(*launch, script)
    assert "of 1 x 8 rows" in one
    assert "of 2 x 4 rows" in two
    assert losses_of(one) == pytest.approx(losses_of(two), abs=2e-3)
