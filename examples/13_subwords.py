"""Learn a byte-level BPE of texts, train on it, and open both folders elsewhere."""

import tempfile
from pathlib import Path

import torch

import tokenloom as tl

POEM = """\
It was many and many a year ago,
In a kingdom by the sea,
That a maiden there lived whom you may know
By the name of Annabel Lee;

And this maiden she lived with no other thought
Than to love and be loved by me.

I was a child and she was a child,
In this kingdom by the sea,
But we loved with a love that was more than love,
I and my Annabel Lee;
"""
END = "<|endoftext|>"


def prepare(folder: Path) -> tl.Corpus:
    """Make a store of the poem, whose tokenizer is learnt from it."""
    (folder / "poem.txt").write_text(POEM * 20, encoding="utf-8")
    options = tl.PrepareOptions(documents="paragraph", end_of_document=END)
    made = tl.prepare(
        folder / "poem.txt",
        folder / "store",
        tokenizer="bpe",
        vocab_size=300,
        options=options,
        num_workers=0,
    )
    print(f"{made.num_tokens:,} tokens, {made.characters_per_token:.2f} characters each")
    return tl.Corpus.open(folder / "store")


def main() -> None:
    """Print what the model writes, with the tokenizer that lies in its folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            corpus = prepare(folder)
        except tl.UsageError as error:
            # It needs the package tokenizers, which is optional.
            print(error)
            return
        print(corpus.decode(corpus.tokens[:12]).encode())
        print(tl.trace(corpus, 12))
        model = tl.RNNModel(torch.nn.GRU(32, 64), vocab_size=corpus.vocab_size)
        windows = tl.SequentialWindows(corpus, batch_size=8, seq_len=16)
        loader = tl.Loader(windows, num_epochs=3)
        tl.train(model, loader, run=folder / "run", device="cpu", progress=False)
        run = tl.Run.open(folder / "run")
        print(tl.generate(run.load_model(), run.load_tokenizer(), "In a", num_tokens=20))


if __name__ == "__main__":
    main()
