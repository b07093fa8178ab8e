"""A plain DataLoader: the same batches from none and from two workers."""

import torch
from torch.utils.data import DataLoader

import tokenloom as tl


def read(windows: tl.RandomWindows, *, epoch: int, num_workers: int) -> torch.Tensor:
    """Return all inputs of an epoch: int64 tensor, shape (num_batches, batch_size, seq_len)."""
    # Without this call, a DataLoader repeats the epoch.
    windows.set_epoch(epoch)
    loader = DataLoader(windows, batch_size=None, num_workers=num_workers)
    return torch.stack([inputs for inputs, _ in loader])


def main() -> None:
    """Read two epochs with different numbers of workers and compare."""
    corpus = tl.load("python_docs", tokenizer="char", max_tokens=20_000)
    windows = tl.RandomWindows(corpus, batch_size=16, seq_len=35, seed=0)
    print(windows)

    alone = read(windows, epoch=0, num_workers=0)
    with_workers = read(windows, epoch=0, num_workers=2)
    print("0 and 2 workers give the same epoch:", torch.equal(alone, with_workers))

    following = read(windows, epoch=1, num_workers=2)
    print("epoch 1 is another order:", not torch.equal(alone, following))


if __name__ == "__main__":
    main()
