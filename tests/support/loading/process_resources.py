"""What a process holds: to be counted before and after."""

import gc
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

PROC = Path("/proc/self")

needs_proc = pytest.mark.skipif(
    not (PROC / "fd").exists(), reason="what a process holds is counted in Linux's /proc"
)


class Census(NamedTuple):
    """What this process holds."""

    children: frozenset[int]
    num_threads: int
    num_files: int
    num_shared_mappings: int
    temporary: frozenset[str]

    def beyond(self, before: "Census", times: int = 1) -> dict[str, object]:
        """Return what is more than it was; what an earlier test had left may be gone since.

        Files and mappings count once there is one more for each of these
        times: PyTorch and the C library keep a few of their own, and how many
        depends on what else the machine does.
        """
        least = {"num_threads": 1, "num_files": times, "num_shared_mappings": times}
        counts = {
            name: (getattr(before, name), getattr(self, name))
            for name in least
            if getattr(self, name) - getattr(before, name) >= least[name]
        }
        sets = {
            name: more
            for name in ("children", "temporary")
            if (more := getattr(self, name) - getattr(before, name))
        }
        return {**counts, **sets}


def left_since(before: Census, times: int = 1) -> dict[str, object]:
    """Return what a number of runs have left, once this process has come to rest.

    A thread or a process that has ended is listed by the system a moment longer.
    """
    wait_for(lambda: not take_census().beyond(before, times))
    return take_census().beyond(before, times)


def take_census() -> Census:
    """Return what this process holds now, garbage aside.

    PyTorch and multiprocessing unlink their shared memory at once, so it is
    mapped from a file that is deleted.
    """
    gc.collect()
    maps = (PROC / "maps").read_text(encoding="utf-8").splitlines()
    folders = [path for path in (Path(tempfile.gettempdir()), Path("/dev/shm")) if path.is_dir()]  # noqa: S108  to be counted
    return Census(
        children=frozenset(children_of(os.getpid())),
        num_threads=max(threading.active_count(), len(list((PROC / "task").iterdir()))),
        num_files=len(list((PROC / "fd").iterdir())),
        num_shared_mappings=sum(line.endswith(" (deleted)") for line in maps),
        temporary=frozenset(
            str(path) for folder in folders for path in folder.iterdir() if _is_ours(path)
        ),
    )


def children_of(pid: int) -> list[int]:
    """Return the living processes that a process has started, also through others."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                # After the name, which may hold anything: state and parent.
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if state != "Z":
                parents[int(folder.name)] = int(parent)
    found: list[int] = []
    for child in [child for child, parent in parents.items() if parent == pid]:
        found += [child, *children_of(child)]
    return found


def _is_ours(path: Path) -> bool:
    # Other processes of the machine have files there too, with any digits in their names: those
    # of PyTorch and of multiprocessing have the number of their process as a part.
    return str(os.getpid()) in re.split(r"[_-]", path.name)


def loader_threads() -> list[str]:
    """Return the names of the threads of loaders that live in this process."""
    return sorted(t.name for t in threading.enumerate() if t.name.startswith("tokenloom-loader"))


def wait_for(claim: Callable[[], bool]) -> bool:
    """Return whether a claim becomes true within two minutes."""
    deadline = time.monotonic() + 120
    while not (holds := claim()) and time.monotonic() < deadline:
        time.sleep(0.002)
    return holds


def end_rank() -> None:
    """End this process, one of a group, in order, but without the end of the interpreter.

    On a busy machine threads of PyTorch have been seen to outlive the process
    group, and to abort the interpreter as it ends ("terminate called without an
    active exception"), whereupon torchrun ends the other processes too.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
