"""Train on shards of llm.c or of Megatron, killed at any moment and started again.

python examples/coming_from/token_shards.py llm.c my-run
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import tokenloom as tl


def write_shards(folder: Path, kind: str) -> None:
    """Write three shards as the project does, instead of a download."""
    corpus = tl.load("python_docs", max_tokens=3_600)
    for number in range(3):
        part = corpus.slice(1_200 * number, 1_200 * (number + 1))
        if kind == "megatron":
            tl.corpus.write_megatron(part, folder / f"shard_{number}")
            continue
        header = np.zeros(256, np.int32)
        header[:3] = 20240520, 1, len(part)
        content = header.tobytes() + part.tokens.astype(np.uint16).tobytes()
        (folder / f"shard_{number}.bin").write_bytes(content)


def main(kind: str, folder: Path) -> None:
    """Train for two epochs, from the checkpoint in the folder if there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    path, unfinished = folder / "checkpoint.pt", folder / "unfinished.pt"
    if not path.is_file():
        write_shards(folder, kind)
    torch.manual_seed(0)
    model = tl.RNNModel(nn.GRU(28, 32), 28)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

    corpus = tl.open_foreign(folder / "shard_*.bin", vocab_size=28)
    windows = tl.RandomWindows(corpus, batch_size=8, seq_len=16, seed=0)
    loader = tl.Loader(windows, num_workers=2, num_epochs=2)
    if path.is_file():
        saved = torch.load(path)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        loader.load_state_dict(saved["loader"])
    for batch in loader:
        logits, _ = model(batch.inputs)
        loss = functional.cross_entropy(logits, batch.targets.T.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if batch.index % 10 == 9:
            saved = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "loader": loader.state_dict(),
            }
            torch.save(saved, unfinished)
            unfinished.replace(path)
    print(f"{len(corpus):,} tokens in {len(corpus.parts)} shards, loss {loss.item():.3f}")


if __name__ == "__main__":
    main(
        sys.argv[1] if len(sys.argv) > 1 else "llm.c",
        Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp()),
    )
