"""The textbook's loaders: batches from a Python list of ids."""

import random
from collections.abc import Iterator

import torch

Pair = tuple[torch.Tensor, torch.Tensor]


def random_batches(
    corpus: list[int], *, batch_size: int, seq_len: int, generator: random.Random
) -> Iterator[Pair]:
    """Yield an epoch of the textbook's batches in random order."""
    corpus = corpus[generator.randint(0, seq_len - 1) :]
    num_windows = (len(corpus) - 1) // seq_len
    starts = list(range(0, num_windows * seq_len, seq_len))
    generator.shuffle(starts)
    for first in range(0, num_windows // batch_size * batch_size, batch_size):
        chosen = starts[first : first + batch_size]
        inputs = [corpus[start : start + seq_len] for start in chosen]
        targets = [corpus[start + 1 : start + 1 + seq_len] for start in chosen]
        yield torch.tensor(inputs), torch.tensor(targets)


def sequential_batches(
    corpus: list[int], *, batch_size: int, seq_len: int, generator: random.Random
) -> Iterator[Pair]:
    """Yield an epoch of the textbook's batches in sequential order."""
    offset = generator.randint(0, seq_len)
    num_tokens = (len(corpus) - offset - 1) // batch_size * batch_size
    inputs = torch.tensor(corpus[offset : offset + num_tokens]).reshape(batch_size, -1)
    targets = torch.tensor(corpus[offset + 1 : offset + 1 + num_tokens]).reshape(batch_size, -1)
    for start in range(0, inputs.shape[1] // seq_len * seq_len, seq_len):
        yield inputs[:, start : start + seq_len], targets[:, start : start + seq_len]
