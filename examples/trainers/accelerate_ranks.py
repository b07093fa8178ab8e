"""Train with Accelerate, on one process or more: the loader is not prepared, sharding is ours.

accelerate launch --cpu --num_processes 2 examples/trainers/accelerate_ranks.py
"""

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional

import tokenloom as tl


def main() -> None:
    """Train for three epochs, and tell the loss over all processes."""
    accelerator = Accelerator(cpu=True)
    torch.manual_seed(0)
    corpus = tl.load("python_docs", tokenizer="char", max_tokens=3_000)
    # Made after the Accelerator, which makes the process group: so each process
    # finds its rows of every batch.
    windows = tl.RandomWindows(corpus, batch_size=8, seq_len=16, seed=0)
    loader = tl.Loader(windows, num_epochs=3)
    plain = tl.RNNModel(nn.GRU(corpus.vocab_size, 32), corpus.vocab_size)
    model, optimizer = accelerator.prepare(plain, torch.optim.AdamW(plain.parameters(), lr=0.01))

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

    rows = len(inputs)
    for epoch, values in losses.items():
        accelerator.print(
            f"epoch {epoch}: {len(values)} batches of {accelerator.num_processes} x {rows} rows, "
            f"mean loss {sum(values) / len(values):.3f}"
        )
    accelerator.end_training()


if __name__ == "__main__":
    main()
