"""Folders that are held."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tokenloom._io.locks import held

HOLDS = """
import os, sys, time
from pathlib import Path
from tokenloom._io.locks import held

with held(Path(sys.argv[1])):
    if not os.fork():
        # Not the parent: it goes on before its child runs at all.
        print(os.getpid(), flush=True)
        time.sleep(60)
        os._exit(0)
    time.sleep(60)
"""


def test_a_folder_is_held_once(tmp_path: Path) -> None:
    """It is free again when the block ends, and nothing was written into it."""
    with held(tmp_path):
        with pytest.raises(BlockingIOError), held(tmp_path):
            raise AssertionError
        with pytest.raises(BlockingIOError), held(tmp_path):
            raise AssertionError
    with held(tmp_path):
        assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
def test_a_folder_that_lost_its_name_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that held it before has removed it, and another file may have the name."""
    import fcntl  # noqa: PLC0415  it is not everywhere

    def be_late(_: int, __: int) -> None:
        (tmp_path / "folder").rename(tmp_path / "old")
        (tmp_path / "folder").mkdir()

    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(fcntl, "flock", be_late)
    with pytest.raises(BlockingIOError), held(tmp_path / "folder"):
        raise AssertionError


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is nothing to fork")
def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    """Even while a process that it forked still lives."""
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        try:
            with pytest.raises(BlockingIOError), held(tmp_path):
                raise AssertionError
            process.kill()
            process.wait()
            with held(tmp_path):
                os.kill(worker, 0)
        finally:
            process.kill()
            os.kill(worker, 9)
