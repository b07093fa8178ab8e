"""How fast windows are read out of many files, compared with few files of the same tokens.

    python benchmarks/many_files.py

Prints, for each number of files, the speed as a multiple of that of one file and of 256 files in
the same run, by the time that is computed. A process keeps half of the files open that the system
lets it (ulimit -n): of more, those that were read last stay open.
"""

import operator
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import tokenloom as tl

Windows = tl.RandomWindows | tl.SequentialWindows
NUM_TOKENS = 1 << 25
NUM_FILES = (1, 2, 16, 256, 257, 600, 3000)
SHAPES = ((32, 35), (8, 1024))
NUM_REPETITIONS = 5


def main() -> None:
    """Measure all, each number of files in turn, and print a table."""
    ids = (np.arange(NUM_TOKENS) % 50_257).astype(np.uint16)
    speeds: dict[tuple[Any, int, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        corpora = {num_files: write(Path(folder), ids, num_files) for num_files in NUM_FILES}
        for _ in range(NUM_REPETITIONS):
            for kind in (tl.RandomWindows, tl.SequentialWindows):
                for batch_size, seq_len in SHAPES:
                    for num_files, corpus in corpora.items():
                        windows = kind(corpus, batch_size=batch_size, seq_len=seq_len)
                        speeds.setdefault((kind, seq_len, num_files), []).append(measure(windows))
    for (order, width, num_files), values in speeds.items():
        one, many = (
            statistics.median(map(operator.truediv, values, speeds[order, width, other]))
            for other in (1, 256)
        )
        print(
            f"{order.__name__}, seq_len={width}, {num_files:,} files: {one:.2f} x one file, "
            f"{many:.2f} x 256 files"
        )


def write(folder: Path, ids: npt.NDArray[np.uint16], num_files: int) -> tl.Corpus:
    """Write ids into a number of files, and open them as one corpus."""
    here = folder / str(num_files)
    here.mkdir()
    for number, part in enumerate(np.array_split(ids, num_files)):
        part.tofile(here / f"{number:04}.bin")
    return tl.open_foreign(str(here / "*.bin"), dtype="uint16", vocab_size=50_257)


def measure(windows: Windows) -> float:
    """Return how many tokens are read in a second."""
    start, num_tokens = time.process_time(), 0
    for inputs, _ in windows:
        num_tokens += inputs.numel()
    return num_tokens / (time.process_time() - start)


if __name__ == "__main__":
    main()
