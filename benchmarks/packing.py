"""How fast packed documents are read and planned, compared with what a user could do instead.

    python benchmarks/packing.py [--documents N] [--repetitions N]

Prints ratios of one run, with those that are asked for; what is compared takes turns.
Times are those that the process computes. The lengths of documents are drawn as those of
web pages are. Grain is left out where it is not installed. "Least" is the time to the first
batch of random order with one more permutation, of the pieces of its rows.
"""

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import tokenloom as tl
from tokenloom.corpus.document_lengths import DocumentsByLength
from tokenloom.corpus.offsets import DocumentOffsets
from tokenloom.plan import PlanSettings, ShuffledOrder
from tokenloom.plan.order import IntArray
from tokenloom.plan.packed import PackedOrder
from tokenloom.plan.permutation import NUM_KEYS, Permutations
from tokenloom.plan.plan import Plan
from tokenloom.plan.random import RandomOrder

BATCH_SIZE, SEQ_LEN = 8, 2048
VOCAB_SIZE = 50_257
# Batches that are read in one sample.
NUM_BATCHES = 2000
NUM_GRAIN_BATCHES = 10
# The least ratio of the speeds of packed rows and the gather, and the largest ratios of the times
# to the first batch and to make a plan.
ASKED, ASKED_FIRST, ASKED_PLAN = 0.5, 1.2, 3.0
CLOCK = time.process_time
Offsets = IntArray
Ids = npt.NDArray[np.uint16]


def main() -> None:
    """Measure all, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--documents", type=int, default=1_000_000, help="of the plan")
    parser.add_argument("--read", type=int, default=40_000, help="documents that are read")
    parser.add_argument("--repetitions", type=int, default=7)
    arguments = parser.parse_args()
    corpus = make_corpus(draw_offsets(arguments.read))
    print_reading(corpus, arguments.repetitions)
    print_starts(corpus, arguments.repetitions)
    print_planning(draw_offsets(arguments.documents), arguments.repetitions)


def draw_offsets(num_documents: int) -> Offsets:
    """Return the offsets of documents of log-normal lengths."""
    lengths = np.exp(np.random.default_rng(0).normal(6.2, 1.2, num_documents)).astype(np.int64) + 1
    return np.concatenate(([0], np.cumsum(lengths)))


def make_corpus(offsets: Offsets) -> tl.Corpus:
    """Return a corpus of random ids."""
    ids = np.random.default_rng(1).integers(0, VOCAB_SIZE, offsets[-1], np.uint16)
    return tl.Corpus.from_tokens(ids, vocab_size=VOCAB_SIZE, documents=offsets)


def print_reading(corpus: tl.Corpus, repetitions: int) -> None:
    """Compare the reading of rows with a plain gather, and with Grain's packing."""
    windows = tl.PackedWindows(corpus, batch_size=BATCH_SIZE, seq_len=SEQ_LEN)
    num_batches = min(NUM_BATCHES, len(windows))
    pieces = list_pieces(windows.plan, num_batches)
    tokens = np.asarray(corpus.tokens)
    systems: dict[str, Callable[[], float]] = {
        "packed": lambda: rate(iter(windows), num_batches),
        "a gather with known starts": lambda: rate(gather(tokens, pieces), num_batches),
    }
    if importlib.util.find_spec("grain") is not None:
        systems["Grain, best fit"] = lambda: rate(pack_with_grain(corpus), NUM_GRAIN_BATCHES)
    samples: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(repetitions):
        for name, measure in systems.items():
            samples[name].append(measure())
    print(f"fill {windows.plan.fill:.4f}, {BATCH_SIZE} x {SEQ_LEN}, in process; asked {ASKED} x")
    for name, rates in samples.items():
        ratio = ratio_of(samples["packed"], rates)
        print(f"  {name}: {statistics.median(rates) / 1e6:.2f} M tokens/s, packed {ratio:.2f} x")


def list_pieces(plan: Plan, num_batches: int) -> list[list[tuple[int, int]]]:
    """Return where the pieces of batches start and stop."""
    batches = []
    for row in range(num_batches):
        pieces = plan.references(range(row, row + 1), range(plan.batch_size)).pieces
        if pieces is not None:
            stops = pieces.starts + pieces.lengths
            batches.append(list(zip(pieces.starts.tolist(), stops.tolist(), strict=True)))
    return batches


def gather(tokens: Ids, batches: list[list[tuple[int, int]]]) -> Iterator[tuple[Any, Any]]:
    """Yield inputs and targets as int64 tensors, of pieces that are known beforehand."""
    for pieces in batches:
        inputs = np.concatenate([tokens[start:stop] for start, stop in pieces])
        targets = np.concatenate([tokens[start + 1 : stop + 1] for start, stop in pieces])
        yield (
            torch.from_numpy(inputs.astype(np.int64)),
            torch.from_numpy(targets.astype(np.int64)),
        )


def pack_with_grain(corpus: tl.Corpus) -> Iterator[tuple[Any, Any]]:
    """Yield the rows that Grain packs of the same documents."""
    import grain
    from grain.experimental import BestFitPackIterDataset

    bounds = np.asarray(corpus.documents).tolist()
    tokens = np.asarray(corpus.tokens)

    def read(number: int) -> dict[str, Any]:
        ids = tokens[bounds[number] : bounds[number + 1]].astype(np.int64)[: SEQ_LEN + 1]
        return {"inputs": ids[:-1], "targets": ids[1:]}

    documents = grain.MapDataset.range(len(bounds) - 1).shuffle(seed=0).map(read).to_iter_dataset()
    packed = BestFitPackIterDataset(
        documents.filter(lambda each: len(each["inputs"]) > 0),
        length_struct={"inputs": SEQ_LEN, "targets": SEQ_LEN},
        num_packing_bins=4 * BATCH_SIZE,
    )
    for rows in packed.batch(BATCH_SIZE):
        yield torch.from_numpy(rows["inputs"]), torch.from_numpy(rows["targets"])


def rate(batches: Iterator[Any], num_batches: int) -> float:
    """Return how many positions of rows are read in a second, after the first batch."""
    inputs, _ = next(batches)
    start, num_tokens = CLOCK(), 0
    for _ in range(num_batches - 1):
        inputs, _ = next(batches)
        num_tokens += inputs.numel()
    return num_tokens / (CLOCK() - start)


class LeastOrder(ShuffledOrder):
    """Random order, which also permutes the pieces of as many rows of documents.

    Few documents have the same length.
    """

    kind = "least"
    carries_state = False

    def __init__(self, num_pieces: int) -> None:
        keys = np.random.default_rng(0).integers(0, 1 << 64, (NUM_KEYS, num_pieces), np.uint64)
        self._which = np.arange(num_pieces)
        self._of_lengths, self._random = Permutations(self._which + 10, keys), RandomOrder()

    def starts_at(self, settings: PlanSettings, positions: IntArray) -> IntArray:
        """Return where windows start; see `ShuffledOrder.starts_at`."""
        self._of_lengths.permute(self._which, self._which)
        return self._random.starts_at(settings, positions)


def print_starts(corpus: tl.Corpus, repetitions: int) -> None:
    """Compare the first batch, and a resume anywhere, with random order."""
    order: dict[str, tl.Windows] = {
        "packed": tl.PackedWindows(corpus, batch_size=BATCH_SIZE, seq_len=SEQ_LEN),
        "random": tl.RandomWindows(corpus, batch_size=BATCH_SIZE, seq_len=SEQ_LEN),
    }
    (pieces,) = list_pieces(order["packed"].plan, 1)
    order["least"] = tl.Windows(
        LeastOrder(len(pieces)), corpus, batch_size=BATCH_SIZE, seq_len=SEQ_LEN
    )
    for share in (0.0, 0.5, 0.9):
        samples: dict[str, list[float]] = {name: [] for name in order}
        for _ in range(4 * repetitions):
            for name, windows in order.items():
                loader = tl.Loader(windows)
                state = {**loader.state_dict(), "next_batch": int(share * len(windows))}
                start = CLOCK()
                loader.load_state_dict(state)
                next(iter(loader)).inputs  # noqa: B018  it is made now
                samples[name].append(CLOCK() - start)
        ratio = ratio_of(samples["packed"], samples["random"])
        seconds = statistics.median(samples["packed"])
        print(f"first batch at {share:.0%}: {seconds * 1e6:.0f} us, ", end="")
        least = ratio_of(samples["least"], samples["random"])
        print(f"{ratio:.2f} x random order, least {least:.2f} x, asked {ASKED_FIRST}")


def print_planning(offsets: Offsets, repetitions: int) -> None:
    """Compare the making of a plan with the sorting of the lengths of documents."""
    lengths = np.diff(offsets)
    samples: dict[str, list[float]] = {"plan": [], "argsort": []}
    for _ in range(repetitions):
        start = CLOCK()
        order = PackedOrder(DocumentsByLength.of(DocumentOffsets(offsets)))
        plan = Plan.of(order, num_tokens=int(offsets[-1]), seq_len=SEQ_LEN, batch_size=BATCH_SIZE)
        samples["plan"].append(CLOCK() - start)
        start = CLOCK()
        np.argsort(lengths, kind="stable")
        samples["argsort"].append(CLOCK() - start)
    seconds, ratio = statistics.median(samples["plan"]), ratio_of(*samples.values())
    print(f"plan of {len(lengths):,} documents: {seconds:.3f} s, {ratio:.2f} x argsort, ", end="")
    print(f"asked {ASKED_PLAN}, fill {plan.fill:.4f}")


def ratio_of(first: list[float], second: list[float]) -> float:
    """Return the median of ratios of samples that were taken one after the other."""
    return statistics.median(a / b for a, b in zip(first, second, strict=True))


if __name__ == "__main__":
    main()
