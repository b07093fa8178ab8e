"""Train as nanoGPT's train.py does, killed at any moment and started again.

python examples/coming_from/nanogpt.py my-run
"""

import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import tokenloom as tl

BATCH_SIZE, BLOCK_SIZE, MAX_ITERS, EVAL_INTERVAL, EVAL_ITERS = 8, 16, 60, 10, 4


def main(out_dir: Path) -> None:
    """Train, from the checkpoint in the folder if there is one."""
    out_dir.mkdir(parents=True, exist_ok=True)
    for name, start, stop in [("train", 0, 3_000), ("val", 3_000, 4_000)]:
        ids = tl.load("python_docs", max_tokens=4_000).tokens[start:stop]
        ids.astype(np.uint16).tofile(out_dir / f"{name}.bin")  # what prepare.py writes
    torch.manual_seed(1337)
    model = tl.RNNModel(nn.GRU(28, 32), 28)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

    # --- in place of get_batch -----------------------------------------------------------
    shape: dict[str, Any] = {"batch_size": BATCH_SIZE, "seq_len": BLOCK_SIZE, "seed": 1337}
    windows = {
        split: tl.RandomWindows(tl.open_foreign(out_dir / f"{split}.bin", vocab_size=28), **shape)
        for split in ("train", "val")
    }
    loader = tl.Loader(windows["train"], num_workers=1, num_epochs=None)  # device=device on a GPU

    def get_batch() -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
        position = loader.state_dict()  # of the batch that comes now, which is fetched ahead
        inputs, targets = next(batches)
        return inputs, targets, position

    # ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def estimate_loss() -> dict[str, float]:
        """Measure on the same batches each time; the training's position stays as it is."""
        losses = {}
        for split, its_windows in windows.items():
            first = itertools.islice(tl.Loader(its_windows), EVAL_ITERS)
            losses[split] = sum(float(find_loss(model, *batch)) for batch in first) / EVAL_ITERS
        return losses

    iter_num, path = 0, out_dir / "ckpt.pt"
    if path.is_file():  # init_from == "resume"
        checkpoint = torch.load(path)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        iter_num = checkpoint["iter_num"]
        loader.load_state_dict(checkpoint["position"])
    batches = iter(loader)
    inputs, targets, position = get_batch()  # fetch the very first batch
    while iter_num < MAX_ITERS:
        if iter_num % EVAL_INTERVAL == 0:
            losses = estimate_loss()
            print(f"step {iter_num}: train {losses['train']:.4f}, val {losses['val']:.4f}")
            checkpoint = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "iter_num": iter_num,
                "position": position,  # not that of the loader, which is one batch ahead
            }
            torch.save(checkpoint, out_dir / "unfinished.pt")
            (out_dir / "unfinished.pt").replace(path)  # whole, or not at all
        loss = find_loss(model, inputs, targets)
        inputs, targets, position = get_batch()  # while the GPU is still busy with the last one
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        iter_num += 1


def find_loss(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean loss of a batch."""
    logits, _ = model(inputs)
    return functional.cross_entropy(logits, targets.T.reshape(-1))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))
