"""The textbook's pipeline: ids from a text, and batches from a Python list of ids."""

import collections
import io
import random
import re
from collections.abc import Iterator

import torch

Pair = tuple[torch.Tensor, torch.Tensor]


class Vocab:
    """Numbers tokens by falling frequency, behind the unknown token."""

    def __init__(self, tokens: list[list[str]]) -> None:
        counter = collections.Counter([token for line in tokens for token in line])
        frequencies = sorted(counter.items(), key=lambda pair: pair[1], reverse=True)
        self.tokens = ["<unk>"]
        self.ids = {"<unk>": 0}
        for token, _ in frequencies:
            if token not in self.ids:
                self.tokens.append(token)
                self.ids[token] = len(self.tokens) - 1

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, tokens: str | list[str]) -> int | list[int]:
        if not isinstance(tokens, list | tuple):
            return self.ids.get(tokens, 0)
        return [self[token] for token in tokens]


def number(text: str, kind: str) -> tuple[list[int], Vocab]:
    """Return a text's ids and its vocabulary; ``kind`` is "char" or "word"."""
    lines = io.StringIO(text, newline=None)
    cleaned = [re.sub("[^A-Za-z]+", " ", line).strip().lower() for line in lines]
    tokens = [list(line) if kind == "char" else line.split() for line in cleaned]
    vocab = Vocab(tokens)
    return [vocab[token] for line in tokens for token in line], vocab


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
