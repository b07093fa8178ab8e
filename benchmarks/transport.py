"""Time ways to bring batches from worker processes to the main process.

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

import numpy as np
import torch
import torchdata.nodes
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

import tokenloom as tl
from tokenloom.blocks import Block, read_block, rows_per_block, split_rows

SHAPES = ((32, 35), (8, 1024))
Make = Callable[[tl.RandomWindows, int], Any]


def in_process(windows: tl.RandomWindows, _: int) -> Iterator[tl.Batch]:
    """Read without workers."""
    return iter(tl.Loader(windows, num_epochs=None))


def our_loader(windows: tl.RandomWindows, num_workers: int) -> Iterator[tl.Batch]:
    """Read blocks through a ring of shared memory: tl.Loader."""
    return iter(tl.Loader(windows, num_workers=num_workers, num_epochs=None))


def data_loader(windows: tl.RandomWindows, num_workers: int) -> Iterator[tl.Batch]:
    """Send one message per batch: PyTorch's DataLoader."""
    loader = DataLoader(windows, batch_size=None, num_workers=num_workers)
    return itertools.chain.from_iterable(itertools.repeat(loader))


def stateful_data_loader(windows: tl.RandomWindows, num_workers: int) -> Iterator[tl.Batch]:
    """Send one message per batch, with states: torchdata's StatefulDataLoader."""
    loader: Any = StatefulDataLoader(windows, batch_size=None, num_workers=num_workers)
    return itertools.chain.from_iterable(itertools.repeat(loader))


class ReadBlock:
    """What torchdata's nodes run in a worker: rows of the plan to a block."""

    def __init__(self, windows: tl.RandomWindows) -> None:
        self._windows = windows

    def __call__(self, rows: range) -> Block:
        """Return the block of these rows."""
        windows = self._windows
        return read_block(windows.corpus.tokens, windows.plan, rows=rows, columns=windows.columns)


def nodes(method: str) -> Make:
    """Send blocks through torchdata.nodes.ParallelMapper, by processes or threads."""

    def make(windows: tl.RandomWindows, num_workers: int) -> Iterator[tl.Batch]:
        size = rows_per_block(windows.plan, windows.columns)
        parts = list(split_rows(range(len(windows)), size))
        node: Any = torchdata.nodes.ParallelMapper(
            torchdata.nodes.IterableWrapper(itertools.cycle(parts)),
            map_fn=ReadBlock(windows),
            num_workers=num_workers,
            method=method,
        )
        node.reset()
        for block in node:
            yield from block.batches(block.widen())

    return make


WAYS: dict[str, Make] = {
    "in process": in_process,
    "tl.Loader": our_loader,
    "DataLoader": data_loader,
    "StatefulDataLoader": stateful_data_loader,
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
        path = Path(folder, "tokens.npy")
        np.save(path, np.random.default_rng(0).integers(0, 50_000, arguments.tokens, np.uint16))
        corpus = tl.Corpus.from_tokens(np.load(path, mmap_mode="r"))
        for batch_size, seq_len in SHAPES:
            for step_seconds, num_batches in ((0.0, 3000), (0.002, 300)):
                windows = tl.RandomWindows(corpus, batch_size=batch_size, seq_len=seq_len)
                times: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
                for _ in range(arguments.repetitions):
                    for name, make in WAYS.items():
                        batches = make(windows, arguments.workers)
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
