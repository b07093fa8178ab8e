"""Train on ranks with torch.distributed.checkpoint, killed at any moment and started again.

torchrun --nproc-per-node 2 examples/trainers/distributed_checkpoint.py my-states
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import tokenloom as tl


class Batches:
    """Batches as torchtitan reads them; its BaseDataLoader asks for these three methods."""

    def __init__(self, loader: tl.Loader) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
        return (({"input": batch.inputs}, batch.targets) for batch in self.loader)

    def state_dict(self) -> dict[str, Any]:
        """Return the position, the same on each rank."""
        return self.loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue there, also on another number of ranks."""
        self.loader.load_state_dict(state_dict)


class Weights:
    """The model and its optimiser, as torch.distributed.checkpoint saves them."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.parts = model, optimizer

    def state_dict(self) -> dict[str, Any]:
        """Return both states, with names that do not depend on the ranks."""
        return dict(zip(("model", "optimizer"), get_state_dict(*self.parts), strict=True))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load both."""
        states = {
            "model_state_dict": state_dict["model"],
            "optim_state_dict": state_dict["optimizer"],
        }
        set_state_dict(*self.parts, **states)


def train(folder: Path) -> None:
    """Train for three epochs, from the newest whole state in the folder if there is one."""
    torch.manual_seed(0)
    corpus = tl.load("python_docs", tokenizer="char", max_tokens=3_000)
    windows = tl.RandomWindows(corpus, batch_size=8, seq_len=16, seed=0)
    batches = Batches(tl.Loader(windows, num_workers=2, num_epochs=3))
    model: nn.Module = tl.RNNModel(nn.GRU(corpus.vocab_size, 32), corpus.vocab_size)
    if torch.distributed.is_initialized():
        model = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    states = {"weights": Weights(model, optimizer), "batches": batches}
    # The file .metadata is written last, when all ranks have written theirs.
    whole = sorted(path.parent for path in folder.glob("step-*/.metadata"))
    if whole:
        dcp.load(states, checkpoint_id=whole[-1])

    for inputs, targets in batches:
        logits, _ = model(inputs["input"])
        loss = functional.cross_entropy(logits, targets.T.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step = len(batches.loader) - batches.loader.remaining
        if step % 5 == 0:
            dcp.save(states, checkpoint_id=folder / f"step-{step:06d}")
    print(f"{step} steps on {windows.shard}, loss {float(loss.detach()):.3f}")


def main(folder: Path) -> None:
    """Join the other ranks, if there are any, and train."""
    if "RANK" not in os.environ:
        train(folder)
        return
    torch.distributed.init_process_group("gloo")
    train(folder)
    # Only now, when the model is freed: PyTorch can hang if a DistributedDataParallel is
    # the last that holds its group.
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))
