"""Train with Lightning: killed at any moment and started again, it ends bit by bit the same.

python examples/trainers/lightning_trainer.py my-checkpoints
"""

import sys
import tempfile
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.nn import functional

import tokenloom as tl


class KeepPosition(lightning.Callback):
    """Keeps the loader's position; without it Lightning drops that of an epoch's end."""

    def __init__(self, loader: tl.Loader) -> None:
        self.loader = loader

    def state_dict(self) -> dict[str, Any]:
        """Return what Lightning writes into its checkpoints."""
        return self.loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue after the last batch that the checkpoint has learnt from."""
        self.loader.load_state_dict(state_dict)


class LanguageModel(lightning.LightningModule):
    """A small recurrent model that carries its hidden state from batch to batch."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.model = tl.RNNModel(nn.GRU(vocab_size, 32), vocab_size)
        self.hidden: torch.Tensor | None = None

    def training_step(self, batch: tl.Batch, _: int) -> torch.Tensor:
        """Return the loss of a batch."""
        if batch.index == 0:
            self.hidden = None
        logits, hidden = self.model(batch.inputs, self.hidden)
        self.hidden = hidden.detach()
        return functional.cross_entropy(logits, batch.targets.T.reshape(-1))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save what Lightning does not: the hidden state, and the state of the random numbers."""
        checkpoint["ours"] = {"hidden": self.hidden, "random": torch.get_rng_state()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore both."""
        self.hidden = checkpoint["ours"]["hidden"]
        torch.set_rng_state(checkpoint["ours"]["random"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser."""
        return torch.optim.AdamW(self.parameters(), lr=0.01)


def main(folder: str) -> None:
    """Train for three epochs, from the last checkpoint in the folder if there is one."""
    torch.manual_seed(0)
    corpus = tl.load("python_docs", tokenizer="char", max_tokens=3_000)
    windows = tl.SequentialWindows(corpus, batch_size=8, seq_len=16, seed=0)
    loader = tl.Loader(windows, num_workers=2)
    trainer = lightning.Trainer(
        max_epochs=3,
        callbacks=[
            KeepPosition(loader),
            ModelCheckpoint(folder, every_n_train_steps=5, save_last=True),
        ],
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(LanguageModel(corpus.vocab_size), loader, ckpt_path="last")
    print(f"{trainer.global_step} steps of {len(windows)} per epoch")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
