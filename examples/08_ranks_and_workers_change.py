"""Save a position on two ranks with workers, and go on from it on one rank without."""

import json

import torch

import tokenloom as tl


def make_loader(*, rank: int, world_size: int, num_workers: int) -> tl.Loader:
    """Build one rank's loader anew; under torchrun the shard would be detected."""
    corpus = tl.load("python_docs", tokenizer="char", max_tokens=20_000)
    shard = tl.Shard(rank=rank, world_size=world_size)
    windows = tl.SequentialWindows(corpus, batch_size=16, seq_len=35, seed=7, shard=shard)
    return tl.Loader(windows, num_workers=num_workers, num_epochs=2)


def main() -> None:
    """Read 20 batches on two ranks, and the rest on one."""
    ranks = [make_loader(rank=rank, world_size=2, num_workers=2) for rank in range(2)]
    streams = [iter(loader) for loader in ranks]
    for _ in range(20):
        parts = [next(stream) for stream in streams]
    print("after 20 batches each rank has", tuple(parts[0].inputs.shape), "of the last one")

    states = [json.dumps(loader.state_dict()) for loader in ranks]
    print("the ranks' positions are the same:", states[0] == states[1])

    alone = make_loader(rank=0, world_size=1, num_workers=0)
    alone.load_state_dict(json.loads(states[0]))
    print(f"resumed alone, {alone.remaining} batches remain")
    same = [
        torch.equal(whole.inputs, torch.cat([part.inputs for part in parts]))
        for whole, *parts in zip(alone, *streams, strict=True)
    ]
    print(f"{sum(same)} of {len(same)} are the two ranks' rows side by side")


if __name__ == "__main__":
    main()
