"""A transformer on packed documents: attention over sequences of variable length."""

import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

import tokenloom as tl


class Transformer(nn.Module):
    """One layer of attention within documents."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, 16)
        self.mix = nn.Linear(16, 48)
        self.head = nn.Linear(16, vocab_size)

    def forward(self, inputs: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
        """Return logits: shape (num_tokens, vocab_size)."""
        vectors = self.tokens(inputs)
        # Kernels for variable lengths take the bounds as cu_seqlens, with batch.max_seqlen.
        attend = functional.scaled_dot_product_attention
        pieces = self.mix(vectors).split(bounds.diff().tolist())
        attended = [attend(*piece.chunk(3, -1), is_causal=True) for piece in pieces]
        return self.head(vectors + torch.cat(attended))


def check(model: Transformer, batch: tl.Batch) -> None:
    """Compare each document of a batch with the same document alone."""
    with torch.no_grad():
        inputs, targets = (part.flatten() for part in batch)
        whole = model(inputs, batch.cu_seqlens)
        sizes = batch.cu_seqlens.diff().tolist()
        pieces = (each.split(sizes) for each in (inputs, whole, targets))
        for piece, logits, learnt in zip(*pieces, strict=True):
            torch.testing.assert_close(logits, model(piece, torch.tensor([0, len(piece)])))
            # No target is of another document than its input; in the padding there is none.
            if learnt[0] >= 0:
                torch.testing.assert_close(piece[1:], learnt[:-1])


def train(path: Path | None) -> None:
    """Train for two epochs, from the checkpoint if there is one."""
    torch.manual_seed(0)
    text = "one two three four five six seven eight nine ten eleven twelve "
    corpus = tl.Corpus.from_documents([text[n % 37 :] * (1 + n % 3) for n in range(70)])
    windows = tl.PackedWindows(corpus, batch_size=4, seq_len=192, seed=0, tail="pad")
    loader = tl.Loader(windows, num_workers=1, num_epochs=2)
    model = Transformer(corpus.vocab_size)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    if path is not None and path.exists():
        saved = torch.load(path, weights_only=True)
        model.load_state_dict(saved["model"])
        loader.load_state_dict(saved["position"])
    for batch in loader:
        optimizer.zero_grad()
        logits, targets = model(batch.inputs.flatten(), batch.cu_seqlens), batch.targets.flatten()
        loss = functional.cross_entropy(logits, targets)
        loss.backward()
        optimizer.step()
        if path is not None and batch.index % 5 == 4:
            state = {"model": model.state_dict(), "position": loader.state_dict()}
            torch.save(state, path.with_suffix(".unfinished"))
            path.with_suffix(".unfinished").replace(path)
    check(model, batch)
    print(f"{len(loader)} batches, {windows.plan.fill:.1%} full, last loss {loss.detach():.3f}")


def main() -> None:
    """Train, with a checkpoint where its path is given."""
    train(Path(sys.argv[1]) if len(sys.argv) > 1 else None)


if __name__ == "__main__":
    main()
