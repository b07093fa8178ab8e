"""Documents in a batch: a mask for attention, so that none sees another."""

import torch
from torch.nn import functional

import tokenloom as tl

TEXTS = ["the time traveller", "for so it will be convenient to speak of him", "was expounding"]
SEQ_LEN, WIDTH = 16, 8


def make_corpus() -> tl.Corpus:
    """Return the texts one behind the other, with the places where they start."""
    tokens = [tl.Corpus.from_text(text, tokenizer="byte") for text in TEXTS]
    offsets = [0]
    for part in tokens:
        offsets.append(offsets[-1] + len(part))
    ids = [int(id_) for part in tokens for id_ in part.tokens]
    return tl.Corpus.from_tokens(ids, vocab_size=256, documents=offsets)


def attend(vectors: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return causal attention of vectors to themselves, where the mask allows it."""
    causal = torch.ones(mask.shape[-2:], dtype=torch.bool).tril()
    return functional.scaled_dot_product_attention(vectors, vectors, vectors, mask & causal)


def main() -> None:
    """Attend within documents, in rows and piece by piece, and compare."""
    windows = tl.SequentialWindows(make_corpus(), batch_size=2, seq_len=SEQ_LEN, tail="pad")
    table = torch.randn(256, WIDTH, generator=torch.Generator().manual_seed(0))
    for batch in windows:
        vectors = table[batch.inputs]
        # Whole rows: two tokens see each other if they are of the same document.
        same = batch.document_ids[:, :, None] == batch.document_ids[:, None, :]
        in_rows = attend(vectors, same)

        # The same without a mask: each piece of a document is a sequence of its own.
        # cu_seqlens and max_seqlen are what kernels for variable lengths take.
        pieces = vectors.flatten(0, 1).split(batch.cu_seqlens.diff().tolist())
        alone = [attend(piece, torch.ones(len(piece), len(piece)).bool()) for piece in pieces]
        torch.testing.assert_close(in_rows.flatten(0, 1), torch.cat(alone))

        starts = batch.resets.nonzero().tolist()
        print(f"batch {batch.index}: {len(pieces)} pieces, documents start at {starts}")

    named = batch.as_dict(across_documents=False)
    print({name: tuple(tensor.shape) for name, tensor in named.items()})
    print("nothing to learn at", int((named["labels"] == -100).sum()), "of the last batch's inputs")


if __name__ == "__main__":
    main()
