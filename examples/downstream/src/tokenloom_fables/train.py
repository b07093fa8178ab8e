"""The training: a model of this package, and PyTorch's own DataLoader."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

import tokenloom as tl
from tokenloom_fables.data import read_fables
from tokenloom_fables.tokenizer import PieceTokenizer


class Model(nn.Module):
    """A small language model."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, 32)
        self.rnn = nn.GRU(32, 64, batch_first=True)
        self.head = nn.Linear(64, vocab_size)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits, shape (rows, seq_len, vocab_size), of ids, shape (rows, seq_len)."""
        hidden, _ = self.rnn(self.embedding(inputs))
        logits: torch.Tensor = self.head(hidden)
        return logits


def make_windows() -> tl.RandomWindows:
    """Return the batches: the data set by its name, with the tokenizer of this package."""
    tokenizer = PieceTokenizer(read_fables().decode("utf-8"))
    corpus = tl.load("fables", tokenizer=tokenizer)
    return tl.RandomWindows(corpus, batch_size=4, seq_len=16, seed=0)


def train(checkpoint: Path, *, num_epochs: int, num_workers: int = 4) -> float:
    """Train, after the epochs that the checkpoint has learnt; return the loss of the last one."""
    torch.manual_seed(0)
    windows = make_windows()
    loader = DataLoader(windows, batch_size=None, num_workers=num_workers)
    model = Model(windows.corpus.vocab_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    first, mean = 0, float("nan")
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first, mean = saved["epoch"], saved["loss"]
    for epoch in range(first, num_epochs):
        windows.set_epoch(epoch)
        losses = []
        for inputs, targets in loader:
            loss = functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # PyTorch leaves it unannotated
            optimizer.step()
            losses.append(float(loss.detach()))
        mean = sum(losses) / len(losses)
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        unfinished = checkpoint.with_suffix(".unfinished")
        torch.save({**state, "epoch": epoch + 1, "loss": mean}, unfinished)
        unfinished.replace(checkpoint)
    return mean


def main(argv: Sequence[str] | None = None) -> None:
    """Train from a shell."""
    parser = argparse.ArgumentParser(description="Train a small model on fables.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args(argv)
    loss = train(arguments.checkpoint, num_epochs=arguments.epochs)
    print(f"{loss:.3f} nats per token after {arguments.epochs} epochs")
