"""Put a pipeline of torchdata.nodes behind a Loader, killed at any moment and started again.

python examples/trainers/torchdata_nodes.py my-checkpoint.pt
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torchdata import nodes

import tokenloom as tl


def hide_some(batch: tl.Batch) -> dict[str, Any]:
    """Replace a tenth of the inputs by the unknown token, others in each batch: a step of yours."""
    generator = torch.Generator().manual_seed(batch.epoch * 1_000_003 + batch.index)
    hidden = torch.rand(batch.inputs.shape, generator=generator) < 0.1
    inputs = batch.inputs.masked_fill(hidden, 0)
    return {"inputs": inputs, "targets": batch.targets, "index": batch.index}


def make_pipeline(corpus: tl.Corpus) -> "nodes.Loader[dict[str, Any]]":
    """Return the nodes: a Loader is a source with state, so the whole pipeline has one."""
    windows = tl.RandomWindows(corpus, batch_size=8, seq_len=16, seed=0)
    source = nodes.IterableWrapper(tl.Loader(windows, num_epochs=3))
    mapped = nodes.ParallelMapper(source, hide_some, num_workers=2, method="thread")
    return nodes.Loader(nodes.Prefetcher(mapped, prefetch_factor=4))


def main(path: Path) -> None:
    """Train for three epochs, from the checkpoint if there is one."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    corpus = tl.load("python_docs", tokenizer="char", max_tokens=3_000)
    pipeline = make_pipeline(corpus)
    model = tl.RNNModel(nn.GRU(corpus.vocab_size, 32), corpus.vocab_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    if path.exists():
        saved = torch.load(path, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        pipeline.load_state_dict(saved["pipeline"])

    for batch in pipeline:
        logits, _ = model(batch["inputs"])
        loss = functional.cross_entropy(logits, batch["targets"].T.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if batch["index"] % 5 == 4:
            checkpoint = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "pipeline": pipeline.state_dict(),
            }
            torch.save(checkpoint, path.with_suffix(".unfinished"))
            path.with_suffix(".unfinished").replace(path)
    print(f"the last loss is {float(loss.detach()):.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else f"{tempfile.mkdtemp()}/checkpoint.pt"))
