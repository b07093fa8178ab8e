"""Train on windows that a map-style dataset had, killed at any moment and started again.

python examples/coming_from/map_style.py my-run
"""

import sys
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

import tokenloom as tl


def main(folder: Path) -> None:
    """Train for three epochs, from the checkpoint in the folder if there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    path, unfinished = folder / "checkpoint.pt", folder / "unfinished.pt"
    torch.manual_seed(0)
    tokens = tl.load("python_docs", max_tokens=3_000).tokens
    model = tl.RNNModel(nn.GRU(28, 32), 28)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

    # In place of a data set of windows, its RandomSampler and its DataLoader.
    corpus = tl.Corpus.from_tokens(tokens, vocab_size=28)
    windows = tl.RandomWindows(corpus, batch_size=8, seq_len=16, seed=0)
    loader = tl.Loader(windows, num_workers=2, num_epochs=3)

    step = 0
    if path.is_file():
        saved = torch.load(path)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        loader.load_state_dict(saved["loader"])
        step = saved["step"]
    for inputs, targets in loader:
        logits, _ = model(inputs)
        loss = functional.cross_entropy(logits, targets.T.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % 10 == 0:
            saved = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "loader": loader.state_dict(),
                "step": step,
            }
            torch.save(saved, unfinished)
            unfinished.replace(path)
    print(f"{step} steps, loss {loss.item():.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))
