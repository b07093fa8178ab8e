"""Train with Accelerate on any number of processes, killed at any moment and started again.

accelerate launch --cpu --num_processes 2 examples/trainers/accelerate_ranks.py my-states
"""

import sys
import tempfile
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional

import tokenloom as tl


def save(accelerator: Accelerator, folder: Path, step: int) -> None:
    """Save a state whole: it has its name only when all of it is there."""
    accelerator.save_state(str(folder / "unfinished"))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (folder / "unfinished").rename(folder / f"step-{step:06d}")
    accelerator.wait_for_everyone()


def train(accelerator: Accelerator, folder: Path) -> None:
    """Train for three epochs, from the newest state in the folder if there is one."""
    torch.manual_seed(0)
    corpus = tl.load("python_docs", tokenizer="char", max_tokens=3_000)
    # Made after the Accelerator, which makes the process group: so each process
    # finds its rows of every batch.
    windows = tl.RandomWindows(corpus, batch_size=8, seq_len=16, seed=0)
    loader = tl.Loader(windows, num_workers=2, num_epochs=3)
    plain = tl.RNNModel(nn.GRU(corpus.vocab_size, 32), corpus.vocab_size)
    model, optimizer = accelerator.prepare(plain, torch.optim.AdamW(plain.parameters(), lr=0.01))
    # Saved with the rest, and restored; the position is the same on every process.
    accelerator.register_for_checkpointing(loader)
    if states := sorted(folder.glob("step-*")):
        accelerator.load_state(str(states[-1]))

    losses: dict[int, list[float]] = {}
    for batch in loader:
        inputs, targets = batch.to(accelerator.device)
        logits, _ = model(inputs)
        loss = functional.cross_entropy(logits, targets.T.reshape(-1))
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        mean = accelerator.reduce(loss.detach(), reduction="mean")
        losses.setdefault(batch.epoch, []).append(float(mean))
        step = batch.epoch * len(windows) + batch.index + 1
        if step % 5 == 0:
            save(accelerator, folder, step)

    rows = len(inputs)
    for epoch, values in losses.items():
        accelerator.print(
            f"epoch {epoch}: {len(values)} batches of {accelerator.num_processes} x {rows} rows, "
            f"mean loss {sum(values) / len(values):.3f}"
        )


def main(folder: Path) -> None:
    """Join the other processes, if there are any, and train."""
    accelerator = Accelerator(cpu=True)
    train(accelerator, folder)
    # The model is freed before its process group ends: PyTorch can hang if a
    # DistributedDataParallel is the last that holds its group.
    accelerator.free_memory()
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))
