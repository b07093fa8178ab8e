"""Two ranks: each reads its rows of every batch, side by side the whole batch."""

import torch

import tokenloom as tl


def make_windows(corpus: tl.Corpus, *, shard: tl.Shard) -> tl.SequentialWindows:
    """Return the windows of one rank; batch_size is that of the whole batch."""
    return tl.SequentialWindows(corpus, batch_size=8, seq_len=12, seed=3, shard=shard)


def main() -> None:
    """Read an epoch as one process and as two, and compare."""
    corpus = tl.load("python_docs", tokenizer="char", max_tokens=2_000)
    whole = list(make_windows(corpus, shard=tl.Shard()))
    # In a real job each process has one of these; under torchrun it is detected.
    ranks = [
        list(make_windows(corpus, shard=tl.Shard(rank=rank, world_size=2))) for rank in range(2)
    ]
    print("batches:", len(whole), "whole,", [len(batches) for batches in ranks], "per rank")
    print("shapes:", tuple(whole[0].inputs.shape), [tuple(r[0].inputs.shape) for r in ranks])

    same = [
        torch.equal(batch.inputs, torch.cat([left.inputs, right.inputs]))
        for batch, left, right in zip(whole, *ranks, strict=True)
    ]
    print(f"side by side, {sum(same)} of {len(same)} are the whole batch")

    try:
        make_windows(corpus, shard=tl.Shard(rank=0, world_size=3))
    except tl.errors.ArgumentError as error:
        print("three ranks:", error)


if __name__ == "__main__":
    main()
