"""Questions are read, and only answers are learnt: a loss mask, prepared from dicts."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

import tokenloom as tl

SUMS = [{"question": f"{a}+{b}=", "answer": f"{a + b}"} for a in range(10) for b in range(10)]


def prepare(store: Path) -> tl.Corpus:
    """Write sums to a store, their results learnt and the rest read."""
    options = tl.PrepareOptions(
        prompt_field="question", field="answer", normalize=False, end_of_document="\n"
    )
    tl.prepare(iter(SUMS), store, tokenizer="char", options=options, num_workers=0)
    return tl.Corpus.open(store)


def main() -> None:
    """Train on the results, and ask for all of them."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        corpus = prepare(Path(folder, "sums"))
        windows = tl.PackedWindows(corpus, batch_size=50, seq_len=6)
        batch = next(iter(windows))
        print(f"{batch.num_targets} of {batch.num_inputs} targets of a batch are learnt")
        model = tl.RNNModel(nn.GRU(corpus.vocab_size, 64), corpus.vocab_size)
        loader = tl.Loader(windows, num_epochs=150)
        adamw = tl.TrainingOptions(optimizer="adamw")
        tl.train(model, loader, lr=0.01, options=adamw, device="cpu", progress=False)
    prompts = [row["question"] for row in SUMS]
    # Each text stops at the token that ends its document.
    texts = tl.generate(model, corpus.vocab, prompts, num_tokens=3)
    expected = [f"{row['question']}{row['answer']}" for row in SUMS]
    right = sum(text == row for text, row in zip(texts, expected, strict=True))
    print(f"{right} of {len(SUMS)} sums are right")


if __name__ == "__main__":
    main()
