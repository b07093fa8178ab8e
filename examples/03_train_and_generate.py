"""Train a tiny model on a verse of William Blake, and let it write it down."""

import torch

import tokenloom as tl

TEXT = """\
Tyger Tyger, burning bright,
In the forests of the night;
What immortal hand or eye,
Could frame thy fearful symmetry?
"""


def main() -> None:
    """Train, report the perplexity, generate."""
    # A model this small is slower on several threads.
    torch.set_num_threads(1)
    torch.manual_seed(0)

    corpus = tl.Corpus.from_text(TEXT, tokenizer="char", normalize=False)
    windows = tl.SequentialWindows(corpus, batch_size=2, seq_len=16, seed=0)
    size = corpus.vocab_size
    model = tl.RNNModel(torch.nn.GRU(size, 64), vocab_size=size)

    loader = tl.Loader(windows, num_epochs=60)
    history = tl.train(model, loader, lr=1.5, device="cpu", progress=False)
    for entry in history[:: len(history) // 4]:
        print(f"epoch {entry.epoch:2d}: perplexity {entry.perplexity:6.2f}")
    print(f"   last  : perplexity {history[-1].perplexity:6.2f}\n")

    if corpus.tokenizer is not None:
        print(tl.generate(model, corpus.tokenizer, "Tyger", num_tokens=108))


if __name__ == "__main__":
    main()
