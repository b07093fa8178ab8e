"""The textbook's training loop and tokenloom's, epoch by epoch in one run.

    python benchmarks/training.py [TEXT] [--epochs 500] [--steps 500] [--seed 0]

Both train the concise RNN of the textbook: characters, 10,000 tokens, batch
32, 35 steps, 256 hidden units, learning rate 1, gradient norm 1. They take
turns, so that a slow moment of the machine meets both. TEXT is a corpus name or
a file, by default `time_machine`.

Then it tells which share of a training step is spent on waiting for its batch
and on making tensors of it, without workers and with four.
"""

import argparse
import math
import random
import statistics
import time

import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

import tokenloom as tl
from textbook import sequential_batches

BATCH_SIZE, SEQ_LEN, NUM_HIDDENS = 32, 35, 256
# The targets: the least ratio of speeds, and the largest share of a step.
ASKED_RATIO, ASKED_SHARES = 1.1, {0: 0.01, 4: 0.02}


class TextbookModel(nn.Module):
    """One-hot inputs, a recurrent layer, a linear layer."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.rnn = nn.RNN(vocab_size, NUM_HIDDENS)
        self.linear = nn.Linear(NUM_HIDDENS, vocab_size)
        self.vocab_size = vocab_size

    def forward(self, inputs: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return logits and state."""
        vectors = functional.one_hot(inputs.T.long(), self.vocab_size).to(torch.float32)
        outputs, state = self.rnn(vectors, state)
        return self.linear(outputs.reshape((-1, outputs.shape[-1]))), state


def clip_gradients(model: nn.Module, limit: float) -> None:
    """Scale the gradients to a norm of at most ``limit``."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norm = torch.sqrt(sum((torch.sum(gradient**2) for gradient in gradients), torch.zeros(())))
    if norm > limit:
        for gradient in gradients:
            gradient[:] *= limit / norm


def textbook_epoch(
    model: TextbookModel,
    corpus: list[int],
    updater: torch.optim.Optimizer,
    generator: random.Random,
) -> tuple[float, float]:
    """Train for an epoch and return perplexity and tokens per second."""
    state, total, count, began_at = None, 0.0, 0, time.perf_counter()
    batches = sequential_batches(
        corpus, batch_size=BATCH_SIZE, seq_len=SEQ_LEN, generator=generator
    )
    for inputs, targets in batches:
        state = torch.zeros(1, BATCH_SIZE, NUM_HIDDENS) if state is None else state.detach_()
        logits, state = model(inputs, state)
        loss = functional.cross_entropy(logits, targets.T.reshape(-1).long()).mean()
        updater.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # PyTorch leaves it unannotated
        clip_gradients(model, 1.0)
        updater.step()
        total += loss.item() * targets.numel()
        count += targets.numel()
    return math.exp(total / count), count / (time.perf_counter() - began_at)


def step(
    model: tl.RNNModel,
    optimizer: torch.optim.Optimizer,
    inputs: torch.Tensor,
    targets: torch.Tensor,
) -> None:
    """Train on a batch and measure nothing: what every loop must do."""
    logits, _ = model(inputs)
    loss = functional.cross_entropy(logits, targets.T.reshape(-1))
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # PyTorch leaves it unannotated
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def bare_epoch(model: tl.RNNModel, batch: tl.Batch, *, num_batches: int) -> float:
    """Return tokens per second of nothing but steps, all on one batch: the limit."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    inputs, targets = batch
    began_at = time.perf_counter()
    for _ in range(num_batches):
        step(model, optimizer, inputs, targets)
    return num_batches * targets.numel() / (time.perf_counter() - began_at)


def compare(
    corpus: tl.Corpus, *, num_epochs: int, seed: int
) -> list[tuple[float, float, float, float, float]]:
    """Train both in turns; per epoch return perplexity and speed of both, and the limit."""
    vocab_size = corpus.vocab_size
    torch.manual_seed(seed)
    theirs = TextbookModel(vocab_size)
    ours = tl.RNNModel(nn.RNN(vocab_size, NUM_HIDDENS), vocab_size)
    ours.load_state_dict(theirs.state_dict())

    ids = corpus.tokens.tolist()
    updater = torch.optim.SGD(theirs.parameters(), lr=1.0)
    generator = random.Random(seed)  # noqa: S311  no cryptography
    windows = tl.SequentialWindows(corpus, batch_size=BATCH_SIZE, seq_len=SEQ_LEN, seed=seed)
    loader = tl.Loader(windows, device="cpu")
    batch, spare = next(iter(windows)), tl.RNNModel(nn.RNN(vocab_size, NUM_HIDDENS), vocab_size)

    results = []
    for _ in tqdm(range(num_epochs), unit="epoch"):
        perplexity, speed = textbook_epoch(theirs, ids, updater, generator)
        metrics = tl.train(ours, loader, progress=False)[-1]
        limit = bare_epoch(spare, batch, num_batches=len(windows))
        results.append((perplexity, speed, metrics.perplexity, metrics.tokens_per_second, limit))
    return results


def data_share(corpus: tl.Corpus, *, num_workers: int, num_steps: int) -> float:
    """Return the share of training steps that is spent on data."""
    windows = tl.SequentialWindows(corpus, batch_size=BATCH_SIZE, seq_len=SEQ_LEN)
    model = tl.RNNModel(nn.RNN(corpus.vocab_size, NUM_HIDDENS), corpus.vocab_size)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = iter(tl.Loader(windows, num_workers=num_workers, num_epochs=None))
    # The first one waits for the workers to start.
    next(batches)
    spent, began_at = 0.0, time.perf_counter()
    for _ in range(num_steps):
        asked_at = time.perf_counter()
        inputs, targets = next(batches)
        spent += time.perf_counter() - asked_at
        step(model, optimizer, inputs, targets)
    return spent / (time.perf_counter() - began_at)


def main() -> None:
    """Run both and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("text", nargs="?", default="time_machine")
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    corpus = tl.load(arguments.text, max_tokens=10_000)
    results = compare(corpus, num_epochs=arguments.epochs, seed=arguments.seed)

    columns = list(zip(*results, strict=True))
    speeds = statistics.median(columns[1]), statistics.median(columns[3])
    ratio = statistics.median(our / their for _, their, _, our, _ in results)
    limit = statistics.median(bare / their for _, their, _, _, bare in results)
    print(f"{'':12}{'perplexity':>12}{'last 10':>10}{'tokens per second':>20}")
    for name, perplexities, speed in (
        ("textbook", columns[0], speeds[0]),
        ("tokenloom", columns[2], speeds[1]),
    ):
        last = statistics.mean(perplexities[-10:])
        print(f"{name:12}{perplexities[-1]:12.3f}{last:10.3f}{speed:20,.0f}")
    print(
        f"tokenloom / textbook, median of {len(results)} pairs: {ratio:.2f} x "
        f"(asked {ASKED_RATIO:.1f}; nothing but steps on one batch: {limit:.2f} x)"
    )
    for num_workers, asked in ASKED_SHARES.items():
        share = data_share(corpus, num_workers=num_workers, num_steps=arguments.steps)
        print(
            f"share of a step spent on data, {num_workers} workers: {share:.2%} (asked {asked:.0%})"
        )


if __name__ == "__main__":
    main()
