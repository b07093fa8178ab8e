"""The textbook's batches: windows of ids, in random or in sequential order."""

import copy
import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch

from tokenloom.corpus import Corpus
from tokenloom.d2l_text import Vocab, load_corpus_time_machine
from tokenloom.plans import Plan
from tokenloom.sharding import Shard
from tokenloom.windows import RandomWindows, SequentialWindows

Pairs = Iterator[tuple[torch.Tensor, torch.Tensor]]

_Windows = RandomWindows | SequentialWindows

# How often the functions were called with each plan of each corpus.
_num_calls: Counter[tuple[str, Plan]] = Counter()


def seq_data_iter_random(corpus: Any, batch_size: int, num_steps: int, *, seed: int = 0) -> Pairs:
    """Return batches (X, Y) of disjoint windows in random order, for one epoch.

    The first call with these arguments reads epoch 0 of
    `tokenloom.RandomWindows`, each further call the next epoch.

    Parameters
    ----------
    corpus : sequence of int
        Token ids.
    batch_size, num_steps : int
        Windows per batch, tokens per window.
    seed : int
        In [0, 2**64).

    Returns
    -------
    iterator of pairs
        (X, Y), int64 tensors, shape (batch_size, num_steps); ``Y`` is ``X`` moved on
        by one token.

    Raises
    ------
    ArgumentError, CorpusError
        A value is out of range, or the corpus is shorter than one batch.
    """
    return _next_epoch(RandomWindows, corpus, batch_size, num_steps, seed)


def seq_data_iter_sequential(
    corpus: Any, batch_size: int, num_steps: int, *, seed: int = 0
) -> Pairs:
    """Return batches (X, Y) whose rows continue those of the batch before.

    The first call with these arguments reads epoch 0 of
    `tokenloom.SequentialWindows`, each further call the next epoch.

    Parameters
    ----------
    corpus, batch_size, num_steps, seed
        As in `seq_data_iter_random`.

    Returns
    -------
    iterator of pairs
        As in `seq_data_iter_random`.

    Raises
    ------
    ArgumentError, CorpusError
        As in `seq_data_iter_random`.
    """
    return _next_epoch(SequentialWindows, corpus, batch_size, num_steps, seed)


class SeqDataLoader:
    """Batches of The Time Machine; each iteration reads the next epoch.

    Parameters
    ----------
    batch_size, num_steps : int
        Windows per batch, tokens per window.
    use_random_iter : bool
        Random order, else sequential.
    max_tokens : int
        See `load_corpus_time_machine`.

    Attributes
    ----------
    corpus : list of int
    vocab : Vocab

    Raises
    ------
    ArgumentError, ChecksumError, CorpusError, DownloadError
        See `load_corpus_time_machine` and `seq_data_iter_random`.
    """

    def __init__(
        self, batch_size: int, num_steps: int, use_random_iter: bool, max_tokens: int
    ) -> None:
        self.corpus, self.vocab = load_corpus_time_machine(max_tokens)
        self.batch_size, self.num_steps = batch_size, num_steps
        kind = RandomWindows if use_random_iter else SequentialWindows
        self._windows = _make_windows(kind, self.corpus, batch_size, num_steps)
        self._epochs = itertools.count()

    def __iter__(self) -> Pairs:
        return _read(self._windows, epoch=next(self._epochs))


def load_data_time_machine(
    batch_size: int, num_steps: int, use_random_iter: bool = False, max_tokens: int = 10000
) -> tuple[SeqDataLoader, Vocab]:
    """Return batches of The Time Machine, and its vocabulary.

    Parameters
    ----------
    batch_size, num_steps, use_random_iter, max_tokens
        See `SeqDataLoader`.

    Raises
    ------
    ArgumentError, ChecksumError, CorpusError, DownloadError
        See `SeqDataLoader`.
    """
    data_iter = SeqDataLoader(batch_size, num_steps, use_random_iter, max_tokens)
    return data_iter, data_iter.vocab


def _make_windows(
    kind: type[_Windows], corpus: Any, batch_size: int, num_steps: int, seed: int = 0
) -> _Windows:
    return kind(
        Corpus.from_tokens(corpus, name="corpus"),
        batch_size=batch_size,
        seq_len=num_steps,
        seed=seed,
        # The textbook trains in one process, whatever the environment says.
        shard=Shard(),
    )


def _next_epoch(
    kind: type[_Windows], corpus: Any, batch_size: int, num_steps: int, seed: int
) -> Pairs:
    windows = _make_windows(kind, corpus, batch_size, num_steps, seed)
    call = windows.corpus.hash, windows.plan
    epoch = _num_calls[call]
    _num_calls[call] += 1
    return _read(windows, epoch=epoch)


def _read(windows: _Windows, *, epoch: int) -> Pairs:
    # Of a copy, so that two iterations over one loader do not disturb each other.
    windows = copy.deepcopy(windows)
    windows.set_epoch(epoch)
    return ((batch.inputs, batch.targets) for batch in windows)
