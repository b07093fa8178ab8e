"""Save a position in the middle of an epoch, and go on from it in a fresh loader."""

import json

import torch

import tokenloom as tl


def make_loader(*, num_workers: int) -> tl.Loader:
    """Build everything anew, as another process would."""
    corpus = tl.load("python_docs", tokenizer="char", max_tokens=20_000)
    windows = tl.RandomWindows(corpus, batch_size=16, seq_len=35, seed=7)
    return tl.Loader(windows, num_workers=num_workers, num_epochs=2)


def main() -> None:
    """Stop after 50 batches with two workers, and resume with none."""
    loader = make_loader(num_workers=2)
    batches = iter(loader)
    for _ in range(50):
        next(batches)
    saved = json.dumps(loader.state_dict())
    print(f"saved after 50 of {len(loader)} batches:\n{saved}\n")
    rest = list(batches)

    resumed = make_loader(num_workers=0)
    resumed.load_state_dict(json.loads(saved))
    print(f"resumed, {resumed.remaining} batches remain")
    again = list(resumed)

    same = [
        (a.epoch, a.index) == (b.epoch, b.index) and torch.equal(a.inputs, b.inputs)
        for a, b in zip(rest, again, strict=True)
    ]
    print(f"{sum(same)} of {len(same)} batches are exactly the same")


if __name__ == "__main__":
    main()
