"""Time ways to read batches in workers, which are threads or processes.

python benchmarks/transport.py [--workers N] [--tokens N] [--repetitions N]

Each way reads the same windows of one memory map and ends with the same int64
tensors. Times are medians of interleaved repetitions, in one run on one
machine: compare their ratios only.
"""

import argparse
import itertools
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torchdata.nodes

import tokenloom as tl
from loading import write_drawn
from results import SHAPES
from systems import SYSTEMS, Batches, Task, make_windows
from tokenloom.loading.blocks import Block, read_block, split_rows
from tokenloom.plan.division import rows_per_block


class ReadBlock:
    """What torchdata's nodes run in a worker: rows of the plan to a block."""

    def __init__(self, windows: tl.RandomWindows) -> None:
        self._windows = windows

    def __call__(self, rows: range) -> Block:
        """Return the block of these rows."""
        windows = self._windows
        references = windows.plan.references(rows, windows.columns)
        return read_block(windows.corpus.tokens, references)


def nodes(method: str) -> Callable[[Task], Batches]:
    """Send blocks through torchdata.nodes.ParallelMapper, by processes or threads."""

    def make(task: Task) -> Batches:
        windows = make_windows(task, "random")
        size = rows_per_block(windows.plan, windows.columns)
        parts = list(split_rows(range(len(windows)), size))
        node: Any = torchdata.nodes.ParallelMapper(
            torchdata.nodes.IterableWrapper(itertools.cycle(parts)),
            map_fn=ReadBlock(windows),
            num_workers=task.num_workers,
            method=method,
        )
        node.reset()
        for block in node:
            yield from block.batches(block.widen())

    return make


WAYS = {
    "in process": SYSTEMS["random"].batches,
    "tl.Loader": SYSTEMS["random-loader"].batches,
    "DataLoader": SYSTEMS["random-dataloader"].batches,
    "StatefulDataLoader": SYSTEMS["random-stateful"].batches,
    "nodes, processes": nodes("process"),
    "nodes, threads": nodes("thread"),
}


def measure(batches: Iterator[Any], num_batches: int, step_seconds: float) -> tuple[float, float]:
    """Return seconds to the first batch, and seconds per batch beyond the step, after it."""
    began_at = time.perf_counter()
    next(batches)
    first = time.perf_counter() - began_at
    began_at = time.perf_counter()
    for _inputs, _targets in itertools.islice(batches, num_batches):
        stop_at = time.perf_counter() + step_seconds
        while time.perf_counter() < stop_at:
            pass
    return first, (time.perf_counter() - began_at) / num_batches - step_seconds


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=20_000_000)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = write_drawn(Path(folder, "tokens.npy"), arguments.tokens)
        for batch_size, seq_len in SHAPES:
            task = Task(
                path=path,
                folder=Path(folder),
                batch_size=batch_size,
                seq_len=seq_len,
                num_workers=arguments.workers,
            )
            for step_seconds, num_batches in ((0.0, 3000), (0.002, 300)):
                times: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
                for _ in range(arguments.repetitions):
                    for name, make in WAYS.items():
                        batches = make(task)
                        times[name].append(measure(batches, num_batches, step_seconds))
                        del batches
                report(
                    f"{batch_size} x {seq_len}, {arguments.workers} workers, a busy step of "
                    f"{step_seconds * 1e3:.0f} ms",
                    times,
                )


def report(title: str, times: dict[str, list[tuple[float, float]]]) -> None:
    """Print medians, and ratios to tl.Loader."""
    medians = {
        name: tuple(map(statistics.median, zip(*of_way, strict=True)))
        for name, of_way in times.items()
    }
    own = medians["tl.Loader"][1]
    print(f"\n{title}\n{'way':20} {'us per batch':>13} {'x tl.Loader':>12} {'first, ms':>10}")
    for name, (first, each) in medians.items():
        print(f"{name:20} {each * 1e6:13.1f} {each / own:12.1f} {first * 1e3:10.1f}")


if __name__ == "__main__":
    main()
