"""Trainings that are killed, again and again."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.loading.process_resources import needs_proc
from tests.support.training.trainings import LAYERS, ORDERS

pytestmark = [needs_proc, pytest.mark.slow]


def test_a_killed_training_ends_as_one_that_was_not(tmp_path: Path) -> None:
    """SIGKILL at random moments, also while files are written: the same weights bit by bit.

    Every layer in both orders, with dropout, and with another number of
    workers after each kill; metrics and losses are those of one piece too.
    """
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "tests.support.training.killed_trainings",
        str(tmp_path),
        "0",
    ]
    root, said = Path(__file__).parents[3], tmp_path / "said.txt"
    with (
        said.open("w", encoding="utf-8") as file,
        subprocess.Popen(command, cwd=root, stdout=file, stderr=file, start_new_session=True) as it,
    ):
        try:
            code = it.wait(timeout=1200)
        finally:
            # Whatever it started and left.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(it.pid, signal.SIGKILL)
    assert code == 0, said.read_text(encoding="utf-8")
    found = json.loads(said.read_text(encoding="utf-8"))
    expected = {f"{layer}-{order}-killed": True for layer in LAYERS for order in ORDERS}
    assert expected == {name: is_same for name, (_, is_same) in found.items()}
    assert all(kills for kills, _ in found.values())
