"""Time tokenloom's loaders next to what a user could pick instead, in one run.

python benchmarks/loading.py [--store PATH | --tokens N] [--workers 0 2 4]

Every system reads the same ids from a memory map and ends with the same int64
tensors. Figures are medians of repetitions that take turns; each system has a
process of its own. Ratios are medians over pairs of the same repetition.
Absolute figures move from machine to machine: compare ratios of one run only.
Peers that are not installed are left out.
"""

import argparse
import contextlib
import importlib.util
import os
import platform
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from jobs import Bench, Job
from measuring import ALL
from processes import Processes
from report import plot, render
from results import Results, name_shape

_SPARSE_TOKENS = 10**12
# An epoch fills what four workers read ahead.
_SMALL_TOKENS = 8_000_000
_PACKAGES = ("torch", "numpy", "torchdata", "datasets", "mosaicml-streaming", "litdata", "grain")


def write_drawn(path: Path, num_tokens: int) -> Path:
    """Write uint16 ids that are drawn at random, and return the path."""
    ids = np.random.default_rng(0).integers(0, 50_000, num_tokens, np.uint16)
    np.save(path, ids)
    return path


def write_sparse(path: Path, num_tokens: int) -> Path:
    """Write a file of zeros that takes no room on the disk, and return the path."""
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint16, shape=(num_tokens,))
    return path


def find_tokens(store: Path) -> Path:
    """Return the file of ids of a store: itself, or the largest that a folder holds."""
    files = sorted(store.glob("tokens-*.npy")) if store.is_dir() else [store]
    if not files or not files[0].is_file():
        msg = f"{store} is neither a .npy file of token ids nor a folder with tokens-*.npy"
        raise SystemExit(msg)
    return max(files, key=lambda path: path.stat().st_size)


def describe_machine() -> dict[str, Any]:
    """Return what a reader of the figures must know, and nothing that names the machine."""
    versions = {}
    for name in _PACKAGES:
        if importlib.util.find_spec(name.removeprefix("mosaicml-")) is not None:
            versions[name] = metadata.version(name)
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **versions,
    }


def choose_systems(asked: Sequence[str] | None, results: Results) -> list[str]:
    """Return the systems that can be timed; the others get a note."""
    chosen = []
    for slug in asked or ALL:
        module = ALL[slug].module
        if module is not None and importlib.util.find_spec(module) is None:
            results.notes[slug] = f"not installed (module {module})"
        else:
            chosen.append(slug)
    return chosen


def run(jobs: Iterable[Job], results: Results, processes: Processes) -> None:
    """Do the jobs in turn, until Ctrl-C; one that fails is noted, and not tried again."""
    failed = set()
    progress = tqdm(list(jobs), unit="measurement", smoothing=0)
    for job in progress:
        shape = job.task.batch_size, job.task.seq_len
        attempt = job.slug, job.function, shape, job.task.num_workers
        progress.set_postfix_str(f"{job.slug}, {name_shape(shape)}, {job.task.num_workers}")
        if attempt in failed:
            continue
        try:
            values = processes.call(job.process, job.function, job.slug, job.task, *job.arguments)
        except KeyboardInterrupt:
            results.notes["run"] = "stopped early"
            return
        except Exception as error:  # noqa: BLE001  whatever a peer raises is its result
            failed.add(attempt)
            where = f"{name_shape(shape)}, {job.task.num_workers} workers, {job.function.__name__}"
            results.notes[job.slug] = f"failed ({where}): {type(error).__name__}: {error}"[:300]
            continue
        measured = values if isinstance(values, tuple) else (values,)
        for quantity, value in zip(job.quantities, measured, strict=False):
            results.add(quantity, job.slug, shape, job.task.num_workers, value)


def measure(arguments: argparse.Namespace, folder: Path) -> Results:
    """Write the files, measure everything and return the results."""
    results = Results(machine=describe_machine())
    tokens = write_drawn(folder / "tokens.npy", arguments.tokens)
    if arguments.store is not None:
        tokens = find_tokens(arguments.store)
    header = np.load(tokens, mmap_mode="r")
    results.settings = {
        "num_tokens": len(header),
        "corpus_bytes": header.nbytes,
        "workers": sorted(set(arguments.workers)),
        "repetitions": arguments.repetitions,
        "seconds": arguments.seconds,
    }
    bench = Bench(
        tokens=tokens,
        sparse=write_sparse(folder / "sparse.npy", _SPARSE_TOKENS),
        small=write_drawn(folder / "small.npy", _SMALL_TOKENS),
        folder=folder,
        slugs=choose_systems(arguments.systems, results),
        workers=results.workers,
    )
    jobs = []
    for _ in range(arguments.repetitions):
        if arguments.only != "costs":
            jobs += bench.speeds(arguments.seconds)
        if arguments.only != "speeds":
            jobs += bench.costs()
    with Processes() as processes:
        if arguments.only != "costs":
            run(bench.prepare(), results, processes)
        run(jobs, results, processes)
    return results


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set variables for the processes that are started meanwhile."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what was typed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    corpus = parser.add_mutually_exclusive_group()
    corpus.add_argument("--store", type=Path, help="a .npy file of token ids, or a store")
    corpus.add_argument("--tokens", type=int, default=100_000_000, help="how many to draw")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2, 4])
    parser.add_argument("--systems", nargs="+", choices=sorted(ALL), metavar="NAME")
    parser.add_argument("--only", choices=("speeds", "costs"), help="measure a half")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement of speed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the samples")
    parser.add_argument("--plot", type=Path, metavar="FOLDER", help="draw speeds and targets")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print tables, keep and draw."""
    arguments = parse(argv)
    # Some libraries keep files of their own wherever this says.
    with (
        tempfile.TemporaryDirectory(prefix="tokenloom-benchmark-") as folder,
        environment(HF_HOME=folder, TMPDIR=folder),
    ):
        results = measure(arguments, Path(folder))
    print(render(results), end="")
    if arguments.json is not None:
        results.write(arguments.json)
    if arguments.plot is not None:
        plot(results, arguments.plot)


if __name__ == "__main__":
    main()
