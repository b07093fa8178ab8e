"""What a user waits for, as ratios of computing time that were taken in turns in one run.

    python benchmarks/everyday.py [--repetitions 7] [--only gather vocabulary]

Each line compares a way of tokenloom with the other way that is named beside it. The loop in C
needs a compiler, `cc`, and is left out where there is none.
"""

import argparse
import ctypes
import json
import operator
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

import tokenloom as tl
from tokenloom.store.memmap import gather_windows

Way = Callable[[], object]
SHAPES = ((32, 35), (8, 1024), (1, 131_072), (65_536, 1))
NUM_TOKENS = 50_000_000
NUM_WORDS = 1_000_000
PROMPTS = ["time"] * 16
C_SOURCE = """
#include <stdint.h>
void copy(const uint16_t *ids, const int64_t *starts, long rows, long len, int64_t *x, int64_t *y) {
    for (long row = 0; row < rows; row++)
        for (long at = 0; at < len; at++) {
            x[row * len + at] = ids[starts[row] + at];
            y[row * len + at] = ids[starts[row] + at + 1];
        }
}
"""


def gather(_: Path) -> Iterator[tuple[str, Way, Way]]:
    """Take windows out of a corpus, and rows of a view of windows."""
    corpus = make_corpus()
    tokens = np.asarray(corpus.tokens)
    for kind in (tl.RandomWindows, tl.SequentialWindows):
        for batch_size, seq_len in SHAPES[:2]:
            plan = kind(corpus, batch_size=batch_size, seq_len=seq_len).plan
            starts = plan.starts(range((1 << 18) // (batch_size * (seq_len + 1))))
            yield (
                f"windows of {batch_size} x {seq_len} gathered in {plan.kind} order / of a view",
                lambda s=starts, w=seq_len + 1: sliding_window_view(tokens, w)[s],
                lambda s=starts, w=seq_len + 1: gather_windows(tokens, s, width=w),
            )


def batches(folder: Path) -> Iterator[tuple[str, Way, Way]]:
    """Read batches by a Loader, and by a loop in C over starts that are known."""
    copy = compile_loop(folder)
    corpus = make_corpus()
    tokens = np.asarray(corpus.tokens)
    for batch_size, seq_len in SHAPES:
        starts, load = load_batches(corpus, batch_size, seq_len)

        def loop(starts: Any = starts, seq_len: int = seq_len) -> None:
            ids, place, shape = tokens.ctypes.data, starts.ctypes.data, (starts.shape[1], seq_len)
            for _ in range(len(starts)):
                inputs, targets = np.empty(shape, np.int64), np.empty(shape, np.int64)
                x, y = torch.from_numpy(inputs), torch.from_numpy(targets)
                copy(ids, place, *shape, x.data_ptr(), y.data_ptr())
                place += starts.strides[0]

        yield f"batches of {batch_size} x {seq_len} in process / a loop in C", loop, load


def wide_batches(_: Path) -> Iterator[tuple[str, Way, Way]]:
    """Read batches of one long row and of many short ones, and gather them by NumPy.

    The gather knows its starts, and makes int64 inputs and targets in arrays of their own.
    """
    corpus = make_corpus(2 * NUM_TOKENS)
    tokens = np.asarray(corpus.tokens)
    for batch_size, seq_len in SHAPES[2:]:
        starts, load = load_batches(corpus, batch_size, seq_len)

        def take(starts: Any = starts, seq_len: int = seq_len) -> None:
            view = sliding_window_view(tokens, seq_len + 1)
            for row in starts:
                ids = view[row]
                ids[:, :-1].astype(np.int64), ids[:, 1:].astype(np.int64)

        yield f"batches of {batch_size:,} x {seq_len:,} in process / gathered by NumPy", take, load


def vocabulary(folder: Path) -> Iterator[tuple[str, Way, Way]]:
    """Save a vocabulary of a million words, and its JSON."""
    words = count_words()
    vocab, other = tl.Vocab(words), folder / "other.json"
    yield (
        "vocabulary saved / json.dumps",
        lambda: other.write_text(json.dumps(list(words.items()))),
        lambda: vocab.save(other),
    )
    yield "repr / hash computed anew", lambda: tl.Vocab(words).hash, lambda: repr(vocab)


def loading(folder: Path) -> Iterator[tuple[str, Way, Way]]:
    """Load a vocabulary of a million words, and its JSON.

    Nothing else is in memory: while json makes a million lists, the garbage
    collector goes through all there is.
    """
    store, path = folder / "store", folder / "vocab.json"
    tl.Corpus.from_tokens(np.arange(100), vocab=tl.Vocab(count_words())).save(store)
    tl.Corpus.open(store).vocab.save(path)
    load = lambda: json.loads(path.read_bytes())  # noqa: E731  shorter than a function
    yield "vocabulary loaded / json.loads", load, lambda: tl.Vocab.load(path)
    yield "store opened / json.loads", load, lambda: tl.Corpus.open(store)


def count_words() -> dict[str, int]:
    """Return a million words with their counts."""
    return {f"w{number:07}": NUM_WORDS - number for number in range(NUM_WORDS)}


def sampling(_: Path) -> Iterator[tuple[str, Way, Way]]:
    """Draw texts for 16 prompts, and take the most likely ones."""
    letters = list("abcdefghijklmnopqrstuvwxyz ")
    words = ["time", *map(str, range(49_999))]
    for tokens in (letters, words[:5_000], words):
        vocab = tl.Vocab(tokens).of_kind("word" if len(tokens) > len(letters) else "char")
        model = tl.RNNModel(torch.nn.RNN(len(vocab), 256), len(vocab))

        def write(vocab: Any = vocab, model: Any = model, **how: Any) -> None:
            tl.generate(model, vocab, PROMPTS, num_tokens=200, **how)

        yield (
            f"16 prompts drawn of {len(vocab):,} ids / greedy",
            write,
            lambda write=write: write(temperature=1.0),
        )


def tracing(folder: Path) -> Iterator[tuple[str, Way, Way]]:
    """Trace tokens of ten thousand sources, of ten with the same text, and of one document."""
    text = "the time machine by h g wells " * 700_000
    corpora = []
    for num_sources in (10, 10_000, 1):
        texts = folder / f"{num_sources}"
        texts.mkdir()
        size = len(text) // num_sources
        for number in range(num_sources):
            part = text[size * number : size * (number + 1)]
            (texts / f"{number:05}.txt").write_text(part)
        tl.prepare(texts, folder / f"{num_sources}-store", num_workers=0, progress=False)
        corpora.append(tl.Corpus.open(folder / f"{num_sources}-store"))

    def trace(corpus: tl.Corpus) -> None:
        for token in range(0, len(corpus), len(corpus) // 1000):
            tl.trace(corpus, token)

    few, *others = corpora
    for name, corpus in zip(("10,000 sources", "1 document"), others, strict=True):
        what = f"1,000 tokens of {name} traced / of 10 sources"
        yield what, lambda: trace(few), lambda corpus=corpus: trace(corpus)


def prepare_sources(folder: Path) -> Iterator[tuple[str, Way, Way]]:
    """Prepare ten thousand files, and one file of the same bytes."""
    text = "the time machine by h g wells " * 667
    (folder / "one").write_text(text * 10_000)
    many = folder / "files"
    many.mkdir()
    for number in range(10_000):
        (many / f"{number:05}.txt").write_text(text)

    def prepare(source: Path) -> None:
        tl.prepare(source, folder / "made", num_workers=0, progress=False)
        shutil.rmtree(folder / "made")

    (folder / "one").rename(folder / "one-file.txt")
    yield (
        "10,000 files of 20 kB prepared / one file",
        lambda: prepare(folder / "one-file.txt"),
        lambda: prepare(many),
    )


def starting(_: Path) -> Iterator[tuple[str, Way, Way]]:
    """Start commands, and import NumPy."""
    python = lambda *words: subprocess.run(  # noqa: E731
        [sys.executable, *words], check=True, stdout=subprocess.DEVNULL
    )
    for words in (["--help"], ["datasets"], ["plan", "python_docs"]):
        yield (
            f"tokenloom {' '.join(words)} / import numpy",
            lambda: python("-c", "import numpy"),
            lambda words=words: python("-m", "tokenloom", *words),
        )


def load_batches(corpus: tl.Corpus, batch_size: int, seq_len: int) -> tuple[Any, Way]:
    """Return where the windows of some batches start, and what reads the same by a Loader."""
    windows = tl.RandomWindows(corpus, batch_size=batch_size, seq_len=seq_len)
    num_batches = (1 << 23) // (batch_size * seq_len)

    def load() -> None:
        for _, (_, _) in zip(range(num_batches), tl.Loader(windows), strict=False):
            pass

    return windows.plan.starts(range(num_batches)), load


def make_corpus(num_tokens: int = NUM_TOKENS) -> tl.Corpus:
    """Return a corpus of random ids, longer than any cache."""
    ids = np.random.default_rng(0).integers(0, 50_257, num_tokens, np.uint16)
    return tl.Corpus.from_tokens(ids, vocab_size=50_257)


def compile_loop(folder: Path) -> Any:
    """Return the loop in C as a function of addresses and lengths."""
    source, library = folder / "loop.c", folder / "loop.so"
    source.write_text(C_SOURCE)
    flags = ["-O3", "-march=native", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, "-o", str(library), str(source)], check=True)  # noqa: S607
    copy = ctypes.CDLL(str(library)).copy
    copy.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_long] * 2 + [ctypes.c_void_p] * 2
    return copy


def computing_seconds() -> float:
    """Return the computing time of this process and of those that it has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + used.ru_utime + used.ru_stime


def compare(other: Way, ours: Way, repetitions: int) -> float:
    """Return how many times as long ours takes, after a turn that does not count."""
    seconds: dict[Way, list[float]] = {other: [], ours: []}
    for repetition in range(-1, repetitions):
        for way, taken in seconds.items():
            began_at = computing_seconds()
            way()
            if repetition >= 0:
                taken.append(computing_seconds() - began_at)
    return statistics.median(map(operator.truediv, seconds[ours], seconds[other]))


ROOMS = {
    room.__name__: room
    for room in (
        gather,
        batches,
        wide_batches,
        vocabulary,
        loading,
        sampling,
        tracing,
        prepare_sources,
        starting,
    )
}


def main() -> None:
    """Measure what was asked for and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--only", nargs="+", choices=ROOMS, default=[*ROOMS])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.only:
        if name == "batches" and shutil.which("cc") is None:
            print("batches: left out, there is no C compiler")
            continue
        with tempfile.TemporaryDirectory() as folder:
            for what, other, ours in ROOMS[name](Path(folder)):
                ratio = compare(other, ours, arguments.repetitions)
                print(f"{what}: {ratio:.2f} x the time", flush=True)


if __name__ == "__main__":
    main()
