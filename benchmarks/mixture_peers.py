"""Time a mixture read by a Loader with workers next to the mixtures of other libraries.

python benchmarks/mixture_peers.py [--tokens N] [--parts 2 8 64] [--libraries NAME ...]

All read the same parts, whose weights fall as 1, 1/2, 1/3 and so on, and end with
the same int64 tensors. Each part is a file of ids, or has the library's own format,
which is written before the clock starts. Each library has a process of its own; they
take turns. Figures are medians, ratios medians over pairs of the same repetition.
Libraries that are not installed are named and left out.
"""

import argparse
import importlib.util
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import measuring
import peers
import tokenloom as tl
from loading import environment, write_drawn
from processes import Processes
from systems import Batches, MixedTask, Task

SHAPES = ((32, 35), (8, 1024))
ASKED = 20


def mix_tokenloom(mixed: MixedTask) -> Batches:
    """Load windows of a mixture by a Loader."""
    parts = {
        part.path.stem: (tl.Corpus.from_tokens(part.tokens()), weight)
        for part, weight in zip(mixed.parts, mixed.weights, strict=True)
    }
    # An epoch of all tokens reads some parts more than once.
    mixture = tl.Mixture(parts, num_tokens=sum(len(part.tokens()) for part in mixed.parts))
    windows = tl.RandomWindows(mixture, batch_size=mixed.batch_size, seq_len=mixed.seq_len)
    return iter(tl.Loader(windows, num_workers=mixed.num_workers, num_epochs=None))


WAYS = {
    "tokenloom": mix_tokenloom,
    "grain": peers.mix_grain,
    "litdata": peers.mix_litdata,
    "mosaicml": peers.mix_mosaicml,
}


def choose_ways(asked: Sequence[str]) -> list[str]:
    """Return the names of what is installed; print what must be installed for the others."""
    chosen = []
    for name in ("tokenloom", *asked):
        peer = peers.PEERS.get(name)
        if peer is not None and importlib.util.find_spec(str(peer.module)) is None:
            print(f"{peer.title} is left out: install {peers.PACKAGES[name]} to compare it")
        else:
            chosen.append(name)
    return chosen


def split(path: Path, num_parts: int, folder: Path) -> list[Path]:
    """Write equal parts of a file of ids to files of their own."""
    paths = []
    for number, part in enumerate(np.array_split(np.load(path, mmap_mode="r"), num_parts)):
        paths.append(folder / f"{num_parts}-{number}.npy")
        np.save(paths[-1], part)
    return paths


def make_task(
    name: str, paths: Sequence[Path], shape: tuple[int, int], num_workers: int
) -> MixedTask:
    """Return the task to mix parts, each of which has a folder for the library's own files."""
    weights = 1 / np.arange(1, len(paths) + 1)
    parts = [
        Task(
            path=path,
            folder=path.with_name(f"{path.stem}-{name}-{shape[0]}-{shape[1]}"),
            batch_size=shape[0],
            seq_len=shape[1],
            num_workers=num_workers,
        )
        for path in paths
    ]
    return MixedTask(parts=tuple(parts), weights=tuple((weights / weights.sum()).tolist()))


def measure(name: str, mixed: MixedTask, seconds: float) -> float:
    """Return tokens per second."""
    return measuring.measure_mixture(WAYS[name], mixed, seconds)[0]


def compare(
    processes: Processes, tasks: dict[str, MixedTask], *, repetitions: int, seconds: float
) -> dict[str, list[float]]:
    """Return the speeds of each library; one that fails is named, and left out."""
    samples: dict[str, list[float]] = {name: [] for name in tasks}
    for repetition in range(-1, repetitions):
        for name in list(samples):
            try:
                if repetition >= 0:
                    speed = processes.call(name, measure, name, tasks[name], seconds)
                    samples[name].append(speed)
                elif name in peers.PEERS:
                    for part in tasks[name].parts:
                        processes.call(name, measuring.prepare, name, part)
            except Exception as error:  # noqa: BLE001  whatever a peer raises is its result
                print(f"{name} failed: {type(error).__name__}: {error}"[:300])
                del samples[name]
    return samples


def report(num_parts: int, shape: tuple[int, int], samples: dict[str, list[float]]) -> None:
    """Print a line for each library."""
    ours = samples["tokenloom"]
    for name, speeds in samples.items():
        ratio = statistics.median(a / b for a, b in zip(ours, speeds, strict=True))
        print(
            f"{num_parts:>5}  {shape[0]:>2} x {shape[1]:<5}  {name:10}"
            f"  {statistics.median(speeds) / 1e6:>9.2f}  {ratio:>9.1f}",
            flush=True,
        )


def run(arguments: argparse.Namespace, folder: Path) -> None:
    """Measure all, and print a table."""
    names = choose_ways(arguments.libraries)
    tokens = write_drawn(folder / "tokens.npy", arguments.tokens)
    print(f"PARTS  SHAPE       LIBRARY     MTOKENS/S  TOKENLOOM (asked: {ASKED} x the best)")
    # LitData takes some seconds to write each part.
    with Processes(patience=900) as processes:
        for num_parts in arguments.parts:
            paths = split(tokens, num_parts, folder)
            for shape in SHAPES:
                tasks = {name: make_task(name, paths, shape, arguments.workers) for name in names}
                samples = compare(
                    processes,
                    tasks,
                    repetitions=arguments.repetitions,
                    seconds=arguments.seconds,
                )
                report(num_parts, shape, samples)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tokens", type=int, default=20_000_000)
    parser.add_argument("--parts", type=int, nargs="+", default=[2, 8, 64])
    libraries = [name for name in WAYS if name in peers.PEERS]
    parser.add_argument("--libraries", nargs="+", choices=libraries, default=libraries)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    arguments = parser.parse_args(argv)
    # Some libraries keep files of their own wherever this says.
    with (
        tempfile.TemporaryDirectory(prefix="tokenloom-benchmark-") as folder,
        environment(TMPDIR=folder),
    ):
        run(arguments, Path(folder))


if __name__ == "__main__":
    main()
