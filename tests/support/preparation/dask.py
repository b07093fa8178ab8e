"""A Dask cluster on loopback, of a scheduler and workers that are processes of their own."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_ROOT = Path(__file__).parents[3]


@dataclass
class DaskProcesses:
    """The processes of a cluster; each can be killed.

    Attributes
    ----------
    address : str
        Of the scheduler.
    folder : Path
        Where they work and log.
    scheduler : subprocess.Popen
    workers : list of subprocess.Popen
    """

    address: str
    folder: Path
    scheduler: "subprocess.Popen[bytes]"
    workers: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def add_worker(self, *, hides: Path | None = None) -> None:
        """Start a worker of one thread, perhaps with a file system of its own at a folder."""
        command = ["dask_worker", self.address, "--no-nanny", "--nthreads", "1"]
        prefix = []
        if hides is not None:
            script = 'mount -t tmpfs none "$0" && exec "$@"'
            prefix = ["unshare", "-rm", "sh", "-c", script, str(hides)]
        self.workers.append(_start(self.folder, *command, prefix=prefix))

    def kill(self) -> None:
        """Kill what is left of it."""
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@contextlib.contextmanager
def dask_cluster(folder: Path, *, num_workers: int = 2) -> Iterator[DaskProcesses]:
    """Yield a cluster whose scheduler answers; its workers may still be starting."""
    folder.mkdir()
    file = folder / "scheduler.json"
    command = ["dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", file]
    scheduler = _start(folder, *map(str, command))
    cluster = DaskProcesses("", folder, scheduler)
    try:
        cluster.address = _wait_for_address(folder / "0.log", scheduler)
        for _ in range(num_workers):
            cluster.add_worker()
        yield cluster
    finally:
        cluster.kill()


def _start(
    folder: Path, module: str, *arguments: str, prefix: Sequence[str] = ()
) -> "subprocess.Popen[bytes]":
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    number = len(list(folder.glob("*.log")))
    program = [sys.executable, "-m", f"distributed.cli.{module}", *arguments, "--no-dashboard"]
    with (folder / f"{number}.log").open("wb") as log:
        return subprocess.Popen(
            [*prefix, *program],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _wait_for_address(log: Path, scheduler: "subprocess.Popen[bytes]") -> str:
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and scheduler.poll() is None:
        for line in log.read_text(errors="replace").splitlines():
            if "Scheduler at:" in line:
                return line.rpartition(" ")[2]
        time.sleep(0.05)
    msg = f"the scheduler did not start: {log.read_text(errors='replace')}"
    raise AssertionError(msg)
