"""Train with Lightning and a plain DataLoader, which resumes at the start of an epoch only.

python examples/trainers/lightning_dataloader.py my-checkpoints
"""

import sys
import tempfile
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

import tokenloom as tl


class MoveEpoch(lightning.Callback):
    """Sets the epoch of the windows, which Lightning itself does for samplers only."""

    def __init__(self, windows: tl.RandomWindows) -> None:
        self.windows = windows
        self.epoch, self.next_batch = windows.epoch, 0

    def on_train_batch_end(self, *arguments: Any) -> None:
        """Count the batches of the epoch."""
        batch: tl.Batch = arguments[3]
        epochs, self.next_batch = divmod(batch.index + 1, len(self.windows))
        self.epoch = batch.epoch + epochs

    def on_train_epoch_end(self, *_: Any) -> None:
        """Set the next epoch, before its iterator is made."""
        self.windows.set_epoch(self.epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return what Lightning writes into its checkpoints."""
        return {"epoch": self.epoch, "next_batch": self.next_batch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Start with the epoch after the checkpoint's."""
        if state_dict["next_batch"]:
            msg = "this checkpoint was saved in the middle of an epoch: use tl.Loader to resume it"
            raise ValueError(msg)
        self.windows.set_epoch(state_dict["epoch"])


class LanguageModel(lightning.LightningModule):
    """A small recurrent model, with its loss and its optimiser."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.model = tl.RNNModel(nn.GRU(vocab_size, 32), vocab_size)

    def training_step(self, batch: tl.Batch, _: int) -> torch.Tensor:
        """Return the loss of a batch; in random order each begins without a state."""
        logits, _ = self.model(batch.inputs)
        return functional.cross_entropy(logits, batch.targets.T.reshape(-1))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser."""
        return torch.optim.AdamW(self.parameters(), lr=0.01)


def main(folder: str) -> None:
    """Train for three epochs, from the last checkpoint in the folder if there is one."""
    torch.manual_seed(0)
    corpus = tl.load("python_docs", tokenizer="char", max_tokens=3_000)
    windows = tl.RandomWindows(corpus, batch_size=8, seq_len=16, seed=0)
    trainer = lightning.Trainer(
        max_epochs=3,
        # Lightning saves at the end of each epoch where nothing else is said.
        callbacks=[MoveEpoch(windows), ModelCheckpoint(folder, save_last=True)],
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(windows, batch_size=None, num_workers=2)
    trainer.fit(LanguageModel(corpus.vocab_size), loader, ckpt_path="last")
    print(f"{trainer.global_step} steps of {len(windows)} per epoch")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
