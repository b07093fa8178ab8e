"""The textbook's training loop and tokenloom's, epoch by epoch in one run.

    python benchmarks/training.py [TEXT] [--epochs 500] [--seed 0]

Both train the concise RNN of the textbook: characters, 10,000 tokens, batch
32, 35 steps, 256 hidden units, learning rate 1, gradient norm 1. They take
turns, so that a slow moment of the machine meets both. TEXT is a corpus name or
a file, by default `time_machine`.
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


def main() -> None:
    """Run both and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("text", nargs="?", default="time_machine")
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    corpus = tl.load(arguments.text, max_tokens=10_000)
    vocab_size = corpus.vocab_size
    torch.manual_seed(arguments.seed)
    theirs = TextbookModel(vocab_size)
    ours = tl.RNNModel(nn.RNN(vocab_size, NUM_HIDDENS), vocab_size)
    ours.load_state_dict(theirs.state_dict())

    ids = corpus.tokens.tolist()
    updater = torch.optim.SGD(theirs.parameters(), lr=1.0)
    generator = random.Random(arguments.seed)  # noqa: S311  no cryptography
    windows = tl.SequentialWindows(
        corpus, batch_size=BATCH_SIZE, seq_len=SEQ_LEN, seed=arguments.seed
    )
    loader = tl.Loader(windows, device="cpu")

    results = []
    for _ in tqdm(range(arguments.epochs), unit="epoch"):
        perplexity, speed = textbook_epoch(theirs, ids, updater, generator)
        metrics = tl.train(ours, loader, progress=False)[-1]
        results.append((perplexity, speed, metrics.perplexity, metrics.tokens_per_second))

    columns = list(zip(*results, strict=True))
    speeds = statistics.median(columns[1]), statistics.median(columns[3])
    ratio = statistics.median(our / their for _, their, _, our in results)
    print(f"{'':12}{'perplexity':>12}{'last 10':>10}{'tokens per second':>20}")
    for name, perplexities, speed in (
        ("textbook", columns[0], speeds[0]),
        ("tokenloom", columns[2], speeds[1]),
    ):
        last = statistics.mean(perplexities[-10:])
        print(f"{name:12}{perplexities[-1]:12.3f}{last:10.3f}{speed:20,.0f}")
    print(f"tokenloom / textbook, median of {len(results)} pairs: {ratio:.2f} x")


if __name__ == "__main__":
    main()
