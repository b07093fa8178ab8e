"""Memory and speed of preparations, as ratios of one run.

python benchmarks/preparing.py TEXT [--megabytes 200 2000] [--tokenizers char word]

TEXT is a file in UTF-8, which is repeated until it has the size that is asked
for. Each preparation is the command `tokenloom prepare` in a process of its
own. Its memory is the sum, over it and its workers, of the largest resident
set that each had. Speeds are of two and of one worker in turn, and their ratio
is the median over pairs.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

MAX_MEMORY_RATIO = 1.2
MIN_SPEED_RATIO = 1.5
_POLL_SECONDS = 0.01


class Run(NamedTuple):
    """What a preparation took.

    Attributes
    ----------
    seconds : float
        As it tells itself, without the start of Python.
    peak_megabytes : float
        Of all its processes.
    """

    seconds: float
    peak_megabytes: float


def repeat_text(text: Path, path: Path, num_bytes: int) -> Path:
    """Write a text again and again, up to the first line end after a size; return the path."""
    content = text.read_bytes()
    content += b"" if content.endswith(b"\n") else b"\n"
    block = content * max(1, (1 << 24) // len(content))
    with path.open("wb") as file:
        left = num_bytes
        while left > 0:
            stop = len(block) if left >= len(block) else block.find(b"\n", left - 1) + 1
            left -= file.write(block[:stop])
    return path


def prepare(source: Path, tokenizer: str, num_workers: int) -> Run:
    """Prepare a store, throw it away, and return what it took."""
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        command = [
            *(sys.executable, "-m", "tokenloom", "prepare", str(source)),
            *("-o", str(Path(folder, "store")), "--tokenizer", tokenizer),
            *("--workers", str(num_workers), "--json", "--quiet"),
        ]
        printed, peak_megabytes = run_watched(command, name="tokenloom prepare")
    return Run(json.loads(printed)["seconds"], peak_megabytes)


def run_watched(
    command: Sequence[str], *, name: str, env: Mapping[str, str] | None = None
) -> tuple[str, float]:
    """Return what a command prints, and the peak memory of all its processes, in MB."""
    program = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    peaks: dict[int, int] = {}
    while program.poll() is None:
        for pid in tree(program.pid):
            # It only grows, but for a process that begins as a copy of another one.
            peaks[pid] = read_peak(pid) or peaks.get(pid, 0)
        time.sleep(_POLL_SECONDS)
    printed, _ = program.communicate()
    if program.returncode:
        msg = f"{name} ended with {program.returncode}"
        raise SystemExit(msg)
    return printed, sum(peaks.values()) / 1e6


def read_peak(pid: int) -> int:
    """Return the largest resident set that a process had, in bytes."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


def tree(root: int) -> Iterator[int]:
    """Yield a process and its descendants."""
    yield root
    for tasks in Path(f"/proc/{root}/task").glob("*/children"):
        try:
            children = tasks.read_text(encoding="ascii").split()
        except OSError:
            continue
        for child in children:
            yield from tree(int(child))


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Return samples by what they are of."""
    samples: dict[str, list[float]] = {}
    for megabytes in arguments.megabytes:
        source = repeat_text(arguments.text, folder / "text.txt", megabytes * 1_000_000)
        for tokenizer in arguments.tokenizers:
            run = prepare(source, tokenizer, arguments.workers)
            name = f"{tokenizer}, {megabytes:,} MB, {arguments.workers} workers"
            samples[f"{name}: peak MB"] = [run.peak_megabytes]
            samples[f"{name}: MB/s"] = [megabytes / run.seconds]
            print(f"{name}: {run.peak_megabytes:,.0f} MB, {megabytes / run.seconds:,.1f} MB/s")
    size = arguments.speed_megabytes
    source = repeat_text(arguments.text, folder / "text.txt", size * 1_000_000)
    for _ in range(arguments.repetitions):
        for tokenizer in arguments.tokenizers:
            for num_workers in (1, 2):
                run = prepare(source, tokenizer, num_workers)
                name = f"{tokenizer}, {size:,} MB, {num_workers} workers: speed"
                samples.setdefault(name, []).append(size / run.seconds)
    return samples


def tabulate(samples: dict[str, list[float]], arguments: argparse.Namespace) -> Iterator[str]:
    """Yield the rows of a table of ratios, in Markdown."""
    yield "| what | against | asked | reached | |"
    yield "|---|---|---|---|---|"
    small, large = min(arguments.megabytes), max(arguments.megabytes)
    for tokenizer in arguments.tokenizers:
        above, below = (
            samples[f"{tokenizer}, {size:,} MB, {arguments.workers} workers: peak MB"][0]
            for size in (large, small)
        )
        ratio = above / below
        verdict = "yes" if ratio <= MAX_MEMORY_RATIO else "no"
        what = f"{tokenizer}: peak memory of {large:,} MB"
        yield f"| {what} | {small:,} MB | {MAX_MEMORY_RATIO} x | {ratio:.2f} x | {verdict} |"
        name = f"{tokenizer}, {arguments.speed_megabytes:,} MB"
        one, two = (samples[f"{name}, {number} workers: speed"] for number in (1, 2))
        ratio = statistics.median(t / o for t, o in zip(two, one, strict=True))
        asked = MIN_SPEED_RATIO if tokenizer == "word" else None
        verdict = "" if asked is None else "yes" if ratio >= asked else "no"
        wanted = "" if asked is None else f"{asked} x"
        speeds = f"{statistics.median(one):,.1f} and {statistics.median(two):,.1f} MB/s"
        what = f"{tokenizer}: 2 workers ({speeds})"
        yield f"| {what} | 1 worker | {wanted} | {ratio:.2f} x | {verdict} |"


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what was typed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("text", type=Path, metavar="TEXT", help="a file that is repeated")
    parser.add_argument("--megabytes", type=int, nargs=2, default=[200, 2000], metavar="N")
    parser.add_argument("--tokenizers", nargs="+", default=["char", "word"])
    parser.add_argument("--workers", type=int, default=2, help="of the runs for memory")
    parser.add_argument("--speed-megabytes", type=int, default=300, metavar="N")
    parser.add_argument("--repetitions", type=int, default=3, help="of the runs for speed")
    parser.add_argument("--folder", type=Path, help="where there is room for text and stores")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the samples")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, keep the samples."""
    arguments = parse(argv)
    with tempfile.TemporaryDirectory(prefix="tokenloom-", dir=arguments.folder) as folder:
        samples = measure(arguments, Path(folder))
    print("\n".join(tabulate(samples, arguments)))
    if arguments.json is not None:
        machine: dict[str, Any] = {
            "system": platform.system(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        }
        value = {"machine": machine, "samples": samples}
        arguments.json.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
