"""Peak memory of a training step over 50,000 words: the textbook's one-hot model and tokenloom's.

    python benchmarks/memory.py [--vocab 50000] [--repetitions 3]

What counts is what the process holds at most while it trains, above what it
held when the parameters were there: VmHWM of Linux, in a process of its own for
each measurement. Both train the concise RNN: batch 32, 35 steps, 256 hidden
units, plain SGD, gradient norm 1.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import tokenloom as tl
from processes import Processes
from training import BATCH_SIZE, NUM_HIDDENS, SEQ_LEN, TextbookModel, clip_gradients

NUM_STEPS = 3


def make_corpus(vocab_size: int) -> tl.Corpus:
    """Return as many tokens as the steps read, drawn like words: rank r as often as 1 / r."""
    chances = 1 / np.arange(1, vocab_size + 1)
    num_tokens = NUM_STEPS * BATCH_SIZE * SEQ_LEN + SEQ_LEN + 1
    generator = np.random.default_rng(0)
    ids = generator.choice(vocab_size, num_tokens, p=chances / chances.sum())
    return tl.Corpus.from_tokens(ids, vocab_size=vocab_size)


def train_textbook(vocab_size: int) -> tuple[float, float]:
    """Return megabytes above the parameters, and seconds per step, of the textbook's loop."""
    model, corpus = TextbookModel(vocab_size), make_corpus(vocab_size)
    updater = torch.optim.SGD(model.parameters(), lr=1.0)
    batches = list(tl.SequentialWindows(corpus, batch_size=BATCH_SIZE, seq_len=SEQ_LEN))

    def train() -> None:
        state = torch.zeros(1, BATCH_SIZE, NUM_HIDDENS)
        for inputs, targets in batches:
            logits, state = model(inputs, state.detach())
            loss = functional.cross_entropy(logits, targets.T.reshape(-1)).mean()
            updater.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # PyTorch leaves it unannotated
            clip_gradients(model, 1.0)
            updater.step()

    return _measure(train, len(batches))


def train_tokenloom(vocab_size: int) -> tuple[float, float]:
    """Return the same of `tokenloom.train`."""
    model = tl.RNNModel(nn.RNN(vocab_size, NUM_HIDDENS), vocab_size)
    windows = tl.SequentialWindows(make_corpus(vocab_size), batch_size=BATCH_SIZE, seq_len=SEQ_LEN)
    loader = tl.Loader(windows)
    return _measure(lambda: tl.train(model, loader, device="cpu", progress=False), len(loader))


def _measure(train: Callable[[], object], num_steps: int) -> tuple[float, float]:
    # Writing 5 sets the peak back to what is held now, see proc(5).
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before, began_at = _read("VmRSS"), time.perf_counter()
    train()
    seconds = time.perf_counter() - began_at
    return _read("VmHWM") - before, seconds / num_steps


def _read(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(value) / 1024


def main() -> None:
    """Measure both in turns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--vocab", type=int, default=50_000)
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()

    ways = {"textbook": train_textbook, "tokenloom": train_tokenloom}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with Processes() as processes:
        for repetition in range(arguments.repetitions):
            for name, way in ways.items():
                process = f"{name} {repetition}"
                found[name].append(processes.call(process, way, arguments.vocab))

    num_weights = sum(weight.numel() for weight in TextbookModel(arguments.vocab).parameters())
    print(f"parameters: {num_weights * 4 / 2**20:,.0f} MB, and their gradients as much")
    print(f"{'':12}{'above the parameters':>22}{'per step':>12}")
    peaks = {}
    for name, values in found.items():
        peaks[name], seconds = map(statistics.median, zip(*values, strict=True))
        print(f"{name:12}{peaks[name]:19,.0f} MB{seconds:10.2f} s")
    print(f"tokenloom / textbook: {peaks['tokenloom'] / peaks['textbook']:.2f}")


if __name__ == "__main__":
    main()
