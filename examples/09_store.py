"""Keep a corpus in a store, open it at once, cut it between documents, and verify it."""

import tempfile
from pathlib import Path

import numpy as np

import tokenloom as tl

POEMS = (
    "Tell me where is fancy bred, or in the heart or in the head?",
    "Full fathom five thy father lies; of his bones are coral made.",
    "Under the greenwood tree, who loves to lie with me.",
    "Blow, blow, thou winter wind, thou art not so unkind.",
)


def make_corpus() -> tl.Corpus:
    """Return the poems as words, one document each."""
    corpus = tl.Corpus.from_text("\n".join(POEMS), tokenizer="word")
    lengths = [len(poem.split()) for poem in POEMS]
    return tl.Corpus.from_tokens(
        corpus.tokens, vocab=corpus.vocab, documents=np.cumsum([0, *lengths])
    )


def main() -> None:
    """Write a store, read it, damage it."""
    corpus = make_corpus()
    with tempfile.TemporaryDirectory() as folder:
        train, _ = corpus.split(0.8, by="document")
        splits = {"train": (0, len(train)), "valid": (len(train), len(corpus))}
        path = corpus.save(Path(folder, "poems"), splits=splits, shard_tokens=16)
        print("files:", *sorted(file.name for file in path.iterdir()))

        opened = tl.Corpus.open(path)
        print(f"{len(opened)} tokens in {opened.num_documents} documents")
        print("the third:", opened.document(2).decode(opened.document(2).tokens))
        print("held out:", tl.Corpus.open(path, split="valid").num_documents, "document")

        windows = tl.SequentialWindows(opened, batch_size=2, seq_len=6)
        same = next(iter(tl.SequentialWindows(corpus, batch_size=2, seq_len=6)))
        print("batches are those of the memory:", (next(iter(windows)).inputs == same.inputs).all())

        shard = path / "tokens-00001.npy"
        shard.write_bytes(shard.read_bytes()[:-1] + b"\x01")
        try:
            tl.Corpus.open(path, verify=True)
        except tl.StoreError as error:
            print("after a byte was changed:", str(error).replace(folder, "...")[:72])


if __name__ == "__main__":
    main()
