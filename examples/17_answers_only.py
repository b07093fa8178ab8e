"""Questions are read, and only answers are learnt: a loss mask, prepared from JSON Lines."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

import tokenloom as tl

ROWS = [{"question": f"{a}+{b}=", "answer": f"{a + b}"} for a in range(10) for b in range(10)]


def main(folder: Path) -> None:
    """Prepare sums as pairs, train on their results alone, and ask for all of them."""
    source = folder / "sums.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    options = tl.PrepareOptions(
        prompt_field="question", field="answer", normalize=False, end_of_document="\n"
    )
    tl.prepare(source, folder / "sums", tokenizer="char", options=options)
    corpus = tl.Corpus.open(folder / "sums")

    windows = tl.PackedWindows(corpus, batch_size=4, seq_len=36, tail="pad")
    batch = next(iter(windows))
    print(f"{batch.num_targets} of {batch.num_inputs} targets of the first batch are learnt")

    torch.manual_seed(0)
    model = tl.RNNModel(nn.GRU(corpus.vocab_size, 64), corpus.vocab_size)
    adamw = tl.TrainingOptions(optimizer="adamw")
    tl.train(model, tl.Loader(windows, num_epochs=100), lr=0.01, options=adamw, device="cpu")
    right = 0
    for row in ROWS:
        text = tl.generate(model, corpus.vocab, row["question"], num_tokens=3)
        right += text.startswith(row["question"] + row["answer"] + "\n")
    print(f"{right} of {len(ROWS)} sums are right")


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        main(Path(temporary))
