"""Time how long a busy loop waits for batches that are read ahead.

python benchmarks/read_ahead.py [--against PATH] [--workers 0 1 2 4] [--cold]

Compares `tokenloom.Loader`, whose threads read ahead, with a plain DataLoader,
whose processes do, and with tensors that lie ready, which show what the loop and
the clock take. PATH is another checkout of tokenloom, such as a git worktree of
the commit before a change: its Loader is measured too. Each system has a process
of its own; they take turns, and figures are medians over the repetitions of one
run. Between two batches the loop does nothing, or is busy for some milliseconds,
in Python or in PyTorch, which computes without Python's lock. With ``--cold`` the
file's pages are dropped before each measurement.
"""

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

SHAPES = ("32x35", "8x1024", "64x2048")
STEPS = ("none", "python", "torch")
_HERE = Path(__file__).resolve().parent.parent


def drop_pages(path: Path) -> None:
    """Let the system forget a file's pages, so that they are read from the disk again."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def make_step(kind: str, seconds: float) -> Any:
    """Return a function that is busy for ``seconds``."""
    matrix, product = torch.ones(128, 128), torch.empty(128, 128)

    def python() -> None:
        stop_at = time.perf_counter() + seconds
        while time.perf_counter() < stop_at:
            pass

    def in_torch() -> None:
        stop_at = time.perf_counter() + seconds
        while time.perf_counter() < stop_at:
            torch.mm(matrix, matrix, out=product)

    return {"python": python, "torch": in_torch, "none": lambda: None}[kind]


def open_batches(job: dict[str, Any]) -> Any:
    """Return endless batches, as a job says."""
    import tokenloom as tl  # noqa: PLC0415  the process's own, see PYTHONPATH

    batch_size, seq_len = map(int, job["shape"].split("x"))
    if job["system"] == "ready":
        return itertools.cycle([torch.zeros(2, batch_size, seq_len, dtype=torch.int64).unbind()])
    corpus = tl.Corpus.from_tokens(np.load(job["path"], mmap_mode="r"))
    order = tl.RandomWindows if job["order"] == "random" else tl.SequentialWindows
    windows = order(corpus, batch_size=batch_size, seq_len=seq_len)
    if job["system"] == "DataLoader":
        loader = DataLoader(windows, batch_size=None, num_workers=job["workers"])
        return itertools.chain.from_iterable(itertools.repeat(loader))
    return iter(tl.Loader(windows, num_workers=job["workers"], num_epochs=None))


def measure(job: dict[str, Any]) -> dict[str, float]:
    """Return microseconds per batch beyond the step, without and with those to the first batch."""
    step = make_step(job["step"], job["step_seconds"])
    path = Path(job["path"])
    if job["cold"]:
        drop_pages(path)
    else:
        path.read_bytes()
    began_at = time.perf_counter()
    batches = open_batches(job)
    _inputs, _targets = next(batches)
    first = time.perf_counter() - began_at
    if not job["cold"]:
        for _inputs, _targets in itertools.islice(batches, job["num_batches"] // 4):
            step()
    waits = []
    for _ in range(job["num_batches"]):
        step()
        began_at = time.perf_counter()
        _inputs, _targets = next(batches)
        waits.append(time.perf_counter() - began_at)
    mean = 1e6 * sum(waits) / len(waits)
    # Who starts late has read more by then: of a cold file only all of it is a fair measure.
    whole = 1e6 * (first + sum(waits)) / len(waits)
    return {"wait": mean, "whole": whole, "longest": 1e6 * max(waits), "first": 1e6 * first}


def serve() -> None:
    """Do jobs that come as lines of JSON."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for line in sys.stdin:
        print(json.dumps(measure(json.loads(line))), flush=True)


class Server:
    """A process that measures with the tokenloom of one checkout."""

    def __init__(self, checkout: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C is the main process's business.
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(checkout / "src")},
        )

    def do(self, job: dict[str, Any]) -> dict[str, float]:
        """Return what a job measured."""
        assert self._process.stdin is not None  # noqa: S101  as it was started
        assert self._process.stdout is not None  # noqa: S101
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        found: dict[str, float] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def make_jobs(arguments: argparse.Namespace, path: Path) -> Iterator[dict[str, Any]]:
    """Yield the jobs of one repetition, but for the system."""
    for shape, step in itertools.product(arguments.shapes, arguments.steps):
        batch_size, seq_len = map(int, shape.split("x"))
        num_tokens = batch_size * seq_len
        busy = max(64, min(1_000 if arguments.cold else 400, 4_000_000 // num_tokens))
        for workers in arguments.workers:
            yield {
                "shape": shape,
                "step": step,
                "step_seconds": arguments.milliseconds / 1e3,
                "workers": workers,
                "num_batches": busy if step != "none" else max(64, 30_000_000 // num_tokens),
                "path": str(path),
                "order": arguments.order,
                "cold": arguments.cold,
            }


def run(arguments: argparse.Namespace, path: Path) -> dict[tuple[Any, ...], list[dict[str, float]]]:
    """Return the samples of each case and system."""
    with contextlib.ExitStack() as stack:
        jobs = list(make_jobs(arguments, path))
        servers = {"Loader": Server(_HERE)}
        servers["DataLoader"] = servers["ready"] = servers["Loader"]
        if arguments.against is not None:
            servers["against"] = Server(arguments.against)
        for server in set(servers.values()):
            stack.callback(server.close)
        samples: dict[tuple[Any, ...], list[dict[str, float]]] = {}
        # Ctrl-C ends the run with what was measured so far.
        with contextlib.suppress(KeyboardInterrupt):
            for _, job in itertools.product(range(arguments.repetitions), jobs):
                for system in arguments.systems or servers:
                    case = job["shape"], job["step"], job["workers"], system
                    found = servers[system].do({**job, "system": system})
                    samples.setdefault(case, []).append(found)
    return samples


def report(samples: dict[tuple[Any, ...], list[dict[str, float]]], *, is_cold: bool) -> None:
    """Print medians, and the median of the ratios to this Loader."""
    print(f"{'batch':8} {'step':7} {'workers':>7} {'system':11} ", end="")
    print(f"{'us, wait':>9} {'whole':>9} {'longest':>9} {'first':>9} {'x Loader':>9}")
    for case, found in samples.items():
        medians = [statistics.median(one[key] for one in found) for key in found[0]]
        ours = samples[*case[:3], "Loader"]
        key = "whole" if is_cold else "wait"
        ratio = statistics.median(a[key] / b[key] for a, b in zip(found, ours, strict=False))
        shape, step, workers, system = case
        print(f"{shape:8} {step:7} {workers:7} {system:11} ", end="")
        print("".join(f"{value:9.0f} " for value in medians) + f"{ratio:9.2f}")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--against", type=Path, metavar="PATH", help="another checkout")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--shapes", nargs="+", default=SHAPES, metavar="ROWSxTOKENS")
    parser.add_argument("--steps", nargs="+", default=STEPS, choices=STEPS)
    parser.add_argument(
        "--systems", nargs="+", choices=("Loader", "DataLoader", "ready", "against")
    )
    parser.add_argument("--order", choices=("random", "sequential"), default="random")
    parser.add_argument("--milliseconds", type=float, default=2.0, help="of a busy step")
    parser.add_argument("--tokens", type=int, default=50_000_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--cold", action="store_true", help="drop the file's pages before")
    parser.add_argument("--folder", type=Path, help="where the file is written")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder, "tokens.npy")
        ids = np.random.default_rng(0).integers(0, 50_000, arguments.tokens, np.uint16)
        with path.open("wb") as file:
            np.save(file, ids)
            file.flush()
            # Pages that are not on the disk yet cannot be dropped.
            os.fsync(file.fileno())
        report(run(arguments, path), is_cold=arguments.cold)


if __name__ == "__main__":
    main()
