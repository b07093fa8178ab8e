"""Text in, batches out: the first batches of both orders, shown as text."""

import tokenloom as tl

TEXT = """\
The Time Traveller (for so it will be convenient to speak of him)
was expounding a recondite matter to us. His grey eyes shone and
twinkled, and his usually pale face was flushed and animated. The
fire burned brightly, and the soft radiance of the incandescent
lights in the lilies of silver caught the bubbles that flashed and
passed in our glasses.
"""


def show(windows: tl.RandomWindows | tl.SequentialWindows, *, num_batches: int) -> None:
    """Print the inputs of the first batches, one line per batch, and their length."""
    print(f"\n{windows.plan.kind}, {len(windows)} batches per epoch")
    for batch in windows:
        rows = " | ".join(windows.corpus.decode(row) for row in batch.inputs)
        print(f"  batch {batch.index}: {rows}")
        if batch.index + 1 == num_batches:
            break


def main() -> None:
    """Make a corpus of characters and look at it through windows."""
    corpus = tl.Corpus.from_text(TEXT, tokenizer="char")
    vocab = corpus.vocab
    if vocab is not None:
        print(f"{len(corpus)} tokens, {len(vocab)} in the vocabulary")
        print("most frequent:", list(vocab.frequencies.items())[:4])
    print("first ids:", corpus.tokens[:8], "text:", repr(corpus.decode(corpus.tokens[:8])))

    show(tl.SequentialWindows(corpus, batch_size=3, seq_len=18, seed=0), num_batches=3)
    show(tl.RandomWindows(corpus, batch_size=3, seq_len=18, seed=0), num_batches=3)


if __name__ == "__main__":
    main()
