"""Time what makes ids out of text, and what opens them again, next to other ways.

    python benchmarks/texts.py [TEXT] [--megabytes 100] [--repetitions 3]

TEXT is a file in UTF-8, or a corpus name; by default `time_machine`. It is
repeated until it is long enough, or cut. Characters and words, of the text in
memory and of a file that becomes a store, are compared with the textbook's
pipeline on the same text in memory, by CPU time on one thread, and words once
more with pyarrow, where that is installed; opening a store, up to its first
batch, with HF datasets, where that is installed. The ways take turns, and
ratios are medians over pairs of the same repetition.
"""

import argparse
import contextlib
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import textbook
import tokenloom as tl
from peers import hf, prepare_hf
from processes import Processes
from systems import Task

KINDS = ("char", "word")
WITH_ARROW = "word, pyarrow"
ASKED = {"char": 25, "word": 7, WITH_ARROW: 10, "opening": 5}
_BATCH_SIZE, _SEQ_LEN = 32, 35


def read_text(name: str, num_bytes: int) -> str:
    """Return the first bytes of a text, which is repeated if it is too short."""
    path = Path(name)
    text = path.read_text(encoding="utf-8") if path.is_file() else tl.load(name, tokenizer="byte")
    content = text.encode() if isinstance(text, str) else text.tokens.tobytes()
    content = (content * (num_bytes // len(content) + 1))[:num_bytes]
    return content.decode("utf-8", errors="ignore")


def ours(text: str, kind: str) -> tuple[Any, int]:
    """Return ids and the size of the vocabulary, by tokenloom."""
    corpus = tl.Corpus.from_text(text, tokenizer=kind)
    return corpus.tokens, corpus.vocab_size


def theirs(text: str, kind: str) -> tuple[Any, int]:
    """Return ids and the size of the vocabulary, as in the textbook."""
    ids, vocab = textbook.number(text, kind)
    return ids, len(vocab)


def measure(make: Callable[[str, str], tuple[Any, int]], text: str, kind: str) -> float:
    """Return the seconds of CPU time that a way takes."""
    began_at = time.process_time()
    make(text, kind)
    return time.process_time() - began_at


def measure_prepare(text: str, kind: str) -> float:
    """Return the seconds of CPU time from a file to a store, without workers, by tokenloom."""
    with tempfile.TemporaryDirectory(prefix="tokenloom-benchmark-") as folder:
        source = Path(folder, "text.txt")
        source.write_text(text, encoding="utf-8", newline="")
        began_at = time.process_time()
        tl.prepare(source, Path(folder, "store"), tokenizer=kind, num_workers=1)
        return time.process_time() - began_at


@contextlib.contextmanager
def without_arrow() -> Iterator[None]:
    """Let nothing import pyarrow meanwhile."""
    modules: dict[str, Any] = sys.modules
    found = modules.get("pyarrow")
    modules["pyarrow"] = None
    try:
        yield
    finally:
        del modules["pyarrow"]
        if found is not None:
            modules["pyarrow"] = found


def measure_ours(text: str, kind: str, *, arrow: bool) -> tuple[float, float]:
    """Return the seconds of tokenloom from memory and of `measure_prepare`, with pyarrow or not."""
    with contextlib.nullcontext() if arrow else without_arrow():
        return measure(ours, text, kind), measure_prepare(text, kind)


def check(text: str, kind: str) -> None:
    """Refuse to time two ways that do not make the same ids."""
    (ids, size), (other_ids, other_size) = ours(text, kind), theirs(text, kind)
    if size != other_size or not np.array_equal(ids, other_ids):
        msg = f"the ids of {kind} tokens differ from the textbook's"
        raise ValueError(msg)


def open_ours(path: Path) -> float:
    """Return the seconds from a store to its first batch."""
    began_at = time.perf_counter()
    corpus = tl.Corpus.open(path)
    windows = tl.RandomWindows(corpus, batch_size=_BATCH_SIZE, seq_len=_SEQ_LEN)
    _inputs, _targets = next(iter(tl.Loader(windows)))
    return time.perf_counter() - began_at


def open_theirs(task: Task) -> float:
    """Return the seconds from a dataset on the disk to its first batch, by HF datasets."""
    began_at = time.perf_counter()
    _inputs, _targets = next(hf(task))
    return time.perf_counter() - began_at


def time_texts(text: str, repetitions: int) -> None:
    """Time both kinds of tokens, and print a table."""
    num_megabytes = len(text.encode()) / 1e6
    print(f"{num_megabytes:.0f} MB of text, one thread, medians of {repetitions}")
    print(f"{'':24}{'textbook MB/s':>16}{'tokenloom MB/s':>16}{'ratio':>8}{'asked':>8}")
    has_arrow = importlib.util.find_spec("pyarrow") is not None
    for kind in KINDS:
        names = (kind, WITH_ARROW) if kind == "word" and has_arrow else (kind,)
        check(text[:5_000_000], kind)
        samples = [
            (
                measure(theirs, text, kind),
                *(measure_ours(text, kind, arrow=name == WITH_ARROW) for name in names),
            )
            for _ in tqdm(range(repetitions), desc=kind, leave=False)
        ]
        for column, name in enumerate(names, start=1):
            for place, way in enumerate((name, f"{name}, prepare")):
                pairs = [(sample[0], sample[column][place]) for sample in samples]
                _print_row(way, pairs, num_megabytes, asked=ASKED[name])


def time_opening(text: str, repetitions: int, folder: Path) -> None:
    """Time the way from a corpus on the disk to its first batch, and print a row."""
    corpus = tl.Corpus.from_text(text)
    corpus.save(folder / "store")
    np.save(folder / "tokens.npy", corpus.tokens)
    task = Task(
        path=folder / "tokens.npy",
        folder=folder / "peer",
        batch_size=_BATCH_SIZE,
        seq_len=_SEQ_LEN,
    )
    task.folder.mkdir()
    prepare_hf(task)
    with Processes() as processes:
        pairs = [
            (
                processes.call("hf", open_theirs, task),
                processes.call("tokenloom", open_ours, folder / "store"),
            )
            # The first of each process imports.
            for _ in range(4 * repetitions + 1)
        ][1:]
    print(f"open and read the first batch, medians of {len(pairs)}")
    print(f"{'':24}{'HF datasets ms':>16}{'tokenloom ms':>16}{'ratio':>8}{'asked':>8}")
    _print_row("opening", pairs, None, asked=ASKED["opening"])


def _print_row(
    name: str, pairs: Sequence[tuple[float, float]], num_megabytes: float | None, *, asked: int
) -> None:
    values = []
    for column in zip(*pairs, strict=True):
        seconds = statistics.median(column)
        values.append(1e3 * seconds if num_megabytes is None else num_megabytes / seconds)
    ratio = statistics.median(other / our for other, our in pairs)
    print(f"{name:24}{values[0]:16.1f}{values[1]:16.1f}{ratio:7.1f}x{asked:7}x")


def main(argv: Sequence[str] | None = None) -> None:
    """Time everything and print tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("text", nargs="?", default="time_machine")
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args(argv)
    text = read_text(arguments.text, int(1e6 * arguments.megabytes))
    time_texts(text, arguments.repetitions)
    if importlib.util.find_spec("datasets") is None:
        print("HF datasets are not installed: opening is not compared")
        return
    with tempfile.TemporaryDirectory(prefix="tokenloom-benchmark-") as folder:
        time_opening(text, arguments.repetitions, Path(folder))


if __name__ == "__main__":
    main()
