"""Time mixtures next to one corpus of the same size in random order, in one run.

python benchmarks/mixtures.py [--tokens N] [--repetitions N] [--json FILE]

Both read the same ids in this process and end with the same int64 tensors. A
mixture's parts lie in memory or in memory maps of their own. Times are those that
this thread computes. Figures are medians of repetitions that take turns; ratios are
medians over pairs of the same repetition. Compare ratios of one run only.

LEAST is the time to the first batch of an order that computes no more than any order
with exact shares must, next to that of random order.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import tokenloom as tl
from tokenloom.plan import PlanSettings, ShuffledOrder
from tokenloom.plan.order import IntArray
from tokenloom.plan.permutation import NUM_KEYS, Permutations, permute

_BLOCK = 4096
_SHAPES = ((32, 35), (8, 1024))
_NUM_PARTS = (2, 8, 64)
# The least ratio of the speeds, by the number of parts, and the largest of the times to the first
# batch.
_ASKED = {2: 0.9, 8: 0.8, 64: 0.5}
_ASKED_FIRST = 1.2


class LeastOrder(ShuffledOrder):
    """Two permutations and the part of each window, where all else is known beforehand.

    It has one block and no epochs, so it is no order to train with.
    """

    kind = "least"
    carries_state = False

    def __init__(self, num_parts: int, num_tokens: int, seq_len: int) -> None:
        keys = np.random.default_rng(0).integers(0, 1 << 64, (NUM_KEYS, num_parts), np.uint64)
        # Parts of different sizes, as those of a mixture are.
        sizes = num_tokens // (num_parts * seq_len) - np.arange(num_parts) - 1
        self._keys, self._of_parts = keys[:, 0], Permutations(sizes, keys)
        self._stops = np.linspace(0, _BLOCK, num_parts + 1).astype(np.int64)[1:]
        self._shifts = np.append(0, -self._stops[:-1])
        self._first_tokens = np.arange(num_parts) * (num_tokens // num_parts)

    def starts_at(self, settings: PlanSettings, positions: IntArray) -> IntArray:
        """Return where windows start; see `ShuffledOrder.starts_at`."""
        places = permute(positions.ravel() % _BLOCK, size=_BLOCK, keys=self._keys)
        part = self._stops.searchsorted(places, side="right")
        starts = self._of_parts.permute(places + self._shifts[part], part)
        starts *= settings.seq_len
        starts += self._first_tokens[part]
        return starts.reshape(positions.shape)


def make_mixture(ids: Any, num_parts: int, folder: Path | None) -> tl.Mixture:
    """Return a mixture of equal parts of ids, whose weights fall as 1, 1/2, 1/3 and so on."""
    parts = {}
    for number, part in enumerate(np.array_split(ids, num_parts)):
        if folder is not None:
            path = folder / f"{num_parts}-{number}.npy"
            np.save(path, part)
            part = np.load(path, mmap_mode="r")  # noqa: PLW2901  the same ids in a file
        corpus = tl.Corpus.from_tokens(part, vocab_size=1 << 16)
        parts[f"part-{number}"] = (corpus, 1 / (number + 1))
    # As many tokens per epoch as the corpus has, which reads some parts more than once.
    return tl.Mixture(parts, num_tokens=len(ids))


def make_windows(corpus: Any, shape: tuple[int, int], order: Any = "random") -> tl.Windows:
    """Return windows of a shape for this process."""
    batch_size, seq_len = shape
    return tl.Windows(order, corpus, batch_size=batch_size, seq_len=seq_len, shard=tl.Shard())


def measure_speed(corpus: Any, shape: tuple[int, int], num_tokens: int) -> float:
    """Return tokens per second, after as many that are not counted."""
    batches = iter(tl.Loader(make_windows(corpus, shape), num_epochs=None))
    num_batches = num_tokens // (shape[0] * shape[1])
    read(batches, num_batches)
    began_at = time.thread_time()
    read(batches, num_batches)
    return num_batches * shape[0] * shape[1] / (time.thread_time() - began_at)


def read(batches: Iterator[tl.Batch], num_batches: int) -> None:
    """Unpack some batches."""
    for batch in itertools.islice(batches, num_batches):
        _inputs, _targets = batch


def measure_first(windows: tl.Windows, *, place: float | None) -> float:
    """Return seconds to the first batch: of the epoch, or of a position in it.

    The proof of the tokens is known, and so are the layout of the mixture and the keys of
    its parts.
    """
    state = tl.Loader(windows).state_dict()
    began_at = time.thread_time()
    loader = tl.Loader(windows)
    if place is not None:
        loader.load_state_dict({**state, "next_batch": int(place * (len(loader) - 1))})
    _inputs, _targets = next(iter(loader))
    return time.thread_time() - began_at


def compare(
    measure: Callable[[Any], float], mixture: Any, corpus: Any, repetitions: int
) -> dict[str, float]:
    """Return the medians of both, and the median ratio of the pairs."""
    pairs = [(measure(mixture), measure(corpus)) for _ in range(repetitions)]
    mine, its = zip(*pairs, strict=True)
    return {
        "mixture": statistics.median(mine),
        "corpus": statistics.median(its),
        "ratio": statistics.median(a / b for a, b in pairs),
    }


def run(ids: Any, repetitions: int, num_tokens: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield a row for each place of the parts, number of parts and shape."""
    np.save(folder / "whole.npy", ids)
    mapped = np.load(folder / "whole.npy", mmap_mode="r")
    for place, whole in (("memory", ids), ("files", mapped)):
        corpus = tl.Corpus.from_tokens(whole, vocab_size=1 << 16)
        for num_parts in _NUM_PARTS:
            mixture = make_mixture(ids, num_parts, folder if place == "files" else None)
            for shape in _SHAPES:
                row = {"place": place, "parts": num_parts, "shape": f"{shape[0]} x {shape[1]}"}
                row["speed"] = compare(
                    lambda each, shape=shape: measure_speed(each, shape, num_tokens),
                    mixture,
                    corpus,
                    repetitions,
                )
                least = LeastOrder(num_parts, len(ids), shape[1])
                orders = {
                    mixture: make_windows(mixture, shape),
                    corpus: make_windows(corpus, shape),
                    least: make_windows(corpus, shape, least),
                }
                for name, first, at in (
                    ("first", mixture, None),
                    ("resumed", mixture, 0.7),
                    ("least", least, None),
                ):
                    row[name] = compare(
                        lambda each, orders=orders, at=at: measure_first(orders[each], place=at),
                        first,
                        corpus,
                        5 * repetitions,
                    )
                yield row


def main() -> None:
    """Measure, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tokens", type=int, default=100_000_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--read", type=int, default=16_000_000, help="tokens of a measurement")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    ids = np.random.default_rng(0).integers(0, 50_000, arguments.tokens, np.uint16)
    rows = []
    print("PARTS  SHAPE       IN      MTOKENS/S  RATIO  ASKED  FIRST  RESUMED  LEAST  ASKED")
    with tempfile.TemporaryDirectory() as folder:
        for row in run(ids, arguments.repetitions, arguments.read, Path(folder)):
            rows.append(row)
            speed = row["speed"]
            print(
                f"{row['parts']:>5}  {row['shape']:10}  {row['place']:6}  "
                f"{speed['mixture'] / 1e6:>9,.1f}  {speed['ratio']:>5.2f}  "
                f"{_ASKED[row['parts']]:>5.2f}  {row['first']['ratio']:>5.2f}  "
                f"{row['resumed']['ratio']:>7.2f}  {row['least']['ratio']:>5.2f}  "
                f"{_ASKED_FIRST:>5.2f}",
                flush=True,
            )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
