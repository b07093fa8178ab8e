"""A training loop of one's own: killed at any moment and started again, it ends the same.

python examples/12_killed_and_resumed.py my-checkpoint.pt
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

import tokenloom as tl


def save(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint whole: a kill or a power cut leaves the one before it."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    with unfinished.open("wb") as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def train(path: Path) -> None:
    """Train for three epochs, from the checkpoint if there is one."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    corpus = tl.load("python_docs", tokenizer="char", max_tokens=4_000)
    windows = tl.SequentialWindows(corpus, batch_size=8, seq_len=16, seed=0)
    loader = tl.Loader(windows, num_workers=2, num_epochs=3)
    layer = nn.GRU(corpus.vocab_size, 32, num_layers=2, dropout=0.2)
    model = tl.RNNModel(layer, corpus.vocab_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    hidden: Any = None

    if path.exists():
        saved = torch.load(path, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        loader.load_state_dict(saved["position"])
        hidden = saved["hidden"]
        torch.set_rng_state(saved["random"])

    for batch in loader:
        if batch.index == 0:
            hidden = None
        logits, hidden = model(batch.inputs, hidden)
        hidden = hidden.detach()
        loss = functional.cross_entropy(logits, batch.targets.T.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if batch.index % 10 == 9:
            checkpoint = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "position": loader.state_dict(),
                "hidden": hidden,
                "random": torch.get_rng_state(),
            }
            save(checkpoint, path)
    print(f"{len(loader)} batches, the last loss is {float(loss.detach()):.3f}")


def main() -> None:
    """Train, in a folder that goes away where no path is given."""
    with tempfile.TemporaryDirectory() as folder:
        train(Path(sys.argv[1] if len(sys.argv) > 1 else f"{folder}/checkpoint.pt"))


if __name__ == "__main__":
    main()
