"""Train with Lightning: its Trainer reads the windows, and a callback moves their epochs."""

from typing import Any

import lightning
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

import tokenloom as tl


class MoveEpoch(lightning.Callback):
    """Tells the windows which epoch comes, which Lightning itself does for samplers only."""

    def __init__(self, windows: tl.RandomWindows) -> None:
        self.windows = windows

    def on_train_epoch_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Go to the next one, before its iterator is made."""
        self.windows.set_epoch(trainer.current_epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """Return what Lightning writes into its checkpoints."""
        return {"epoch": self.windows.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Begin with the epoch at whose start a checkpoint was written."""
        self.windows.set_epoch(state_dict["epoch"])


class LanguageModel(lightning.LightningModule):
    """A small recurrent model, with its loss and its optimiser."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.model = tl.RNNModel(nn.GRU(vocab_size, 32), vocab_size)
        self.losses: dict[int, list[float]] = {}

    def training_step(self, batch: tl.Batch, _: int) -> torch.Tensor:
        """Return the loss of a batch; in random order each begins without a state."""
        inputs, targets = batch
        logits, _ = self.model(inputs)
        loss = functional.cross_entropy(logits, targets.T.reshape(-1))
        self.losses.setdefault(batch.epoch, []).append(loss.item())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser."""
        return torch.optim.AdamW(self.parameters(), lr=0.01)


def main() -> None:
    """Train for three epochs, and tell which batches came."""
    torch.manual_seed(0)
    corpus = tl.load("python_docs", tokenizer="char", max_tokens=3_000)
    windows = tl.RandomWindows(corpus, batch_size=8, seq_len=16, seed=0)
    model = LanguageModel(corpus.vocab_size)
    trainer = lightning.Trainer(
        max_epochs=3,
        callbacks=[MoveEpoch(windows)],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(windows, batch_size=None, num_workers=2))
    for epoch, losses in model.losses.items():
        print(f"epoch {epoch}: {len(losses)} batches, mean loss {sum(losses) / len(losses):.3f}")


if __name__ == "__main__":
    main()
