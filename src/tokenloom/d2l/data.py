"""The textbook's texts, vocabularies and iterators."""

import contextlib
import copy
import io
import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tokenloom._io.digest import hash_file, parse_digest
from tokenloom._wording import show
from tokenloom.corpus.corpus import Corpus
from tokenloom.errors import ArgumentError
from tokenloom.hub.cache import addresses, cache_folder
from tokenloom.hub.download import Cures
from tokenloom.hub.download import download as download_file
from tokenloom.hub.texts import read_file
from tokenloom.loading.dataset import RandomWindows, SequentialWindows
from tokenloom.loading.shard import Shard
from tokenloom.plan.plan import Plan
from tokenloom.text.encode import decode
from tokenloom.text.normalize import clean_words
from tokenloom.text.vocab import UNKNOWN_ID, number_tokens, sort_counts

DATA_URL = "http://d2l-data.s3-accelerate.amazonaws.com/"
"""Where the textbook keeps its data."""

DATA_HUB: dict[str, tuple[str, str]] = {
    "time_machine": (DATA_URL + "timemachine.txt", "090b5e7e70c295757f55df93cb0a180b9691891a"),
}
"""Name -> (url, SHA-1) of what `download` knows; read at each call, so add to it."""

_ALIASES = {"timemachine": "time_machine"}
_FOLDER = "./data"
_CURES = Cures(source="name another url in DATA_HUB", folder="name another cache_dir")


def download(name: str, cache_dir: str | os.PathLike[str] | None = None) -> str:
    """Return the path of a file that ``DATA_HUB`` names, downloaded if necessary.

    An existing file is used, without the network, if its SHA-1 is right. A
    download gets the file's name only after it was verified. If
    ``TOKENLOOM_MIRROR`` is set, the file is downloaded only from there, by its
    name. If ``TOKENLOOM_OFFLINE`` is set, nothing is downloaded.

    Parameters
    ----------
    name : str
        A key of ``DATA_HUB``; the file gets the last part of its url as its name.
    cache_dir : path, optional
        The folder of the file; it is made if it is missing. By default ``./data``
        if the file is there, else the folder that ``TOKENLOOM_CACHE`` names, or
        ``./data`` if that is not set.

    Raises
    ------
    ArgumentError
        The name is not in ``DATA_HUB``, its SHA-1 is not valid, its url ends with
        a slash, or an environment variable cannot be used.
    ChecksumError, DownloadError
        The file could not be fetched.
    """
    if name not in DATA_HUB and _ALIASES.get(name) in DATA_HUB:
        name = _ALIASES[name]
    if name not in DATA_HUB:
        known = ", ".join(sorted(DATA_HUB))
        msg = (
            f"name must be in DATA_HUB, which has {known}, got {show(name)}: add (url, sha1) to it"
        )
        raise ArgumentError(msg)
    url, sha1 = DATA_HUB[name]
    filename = url.rsplit("/", 1)[-1]
    if not filename:
        msg = f"the url of {name!r} in DATA_HUB must end in the name of a file, got {show(url)}"
        raise ArgumentError(msg)
    digest = ":".join(parse_digest(f"sha1:{sha1}"))
    path = _choose_folder(filename, digest) if cache_dir is None else Path(cache_dir)
    path /= filename
    download_file(addresses(filename, (url,)), path, num_bytes=None, digest=digest, cures=_CURES)
    # The textbook's path is a str, and its readers add to it.
    return str(path)


def _choose_folder(filename: str, digest: str) -> Path:
    folder = Path(_FOLDER)
    if not os.environ.get("TOKENLOOM_CACHE"):
        return folder
    path = folder / filename
    # Use a file that a reader of the book put there by hand.
    with contextlib.suppress(OSError):
        if path.is_file() and hash_file(path, "sha1") == digest:
            return folder
    return cache_folder()


def read_time_machine(
    name: str = "time_machine", cache_dir: str | os.PathLike[str] | None = None
) -> list[str]:
    """Return a text's lines, normalised: letters a-z and single spaces.

    The file is that of `download`. Raises the errors of `download`, and a
    `tokenloom.errors.CorpusError` if the file is no text in UTF-8.
    """
    path = download(name, cache_dir)
    text = decode(read_file(path), name=path)
    # Ends lines where a text file does, and nowhere else.
    return [clean_words(line) for line in io.StringIO(text, newline=None)]


timemachine = read_time_machine


def tokenize(
    lines: Iterable[str],
    token: str = "word",  # noqa: S107  no password, a kind of token
) -> list[list[str]]:
    """Return the tokens of each line.

    Parameters
    ----------
    lines : iterable of str
    token : "word" or "char"

    Raises
    ------
    ArgumentError
        ``token`` is neither.

    >>> tokenize(["the time", "machine"]), tokenize(["by"], "char")
    ([['the', 'time'], ['machine']], [['b', 'y']])
    """
    match token:
        case "word":
            return [line.split() for line in lines]
        case "char":
            return [list(line) for line in lines]
        case _:
            msg = f"token must be 'word' or 'char', got {show(token)}"
            raise ArgumentError(msg)


def count_corpus(tokens: Sequence[Any] | Mapping[Any, int]) -> Counter[Any]:
    """Return how often each token appears, in order of first appearance.

    Parameters
    ----------
    tokens : list of tokens, list of lists of tokens, or finished counts
        A token is anything hashable: a tuple of words is one.

    >>> count_corpus([["the", "time"], ["the"]])
    Counter({'the': 2, 'time': 1})
    """
    if not isinstance(tokens, Mapping) and len(tokens) and isinstance(tokens[0], list):
        tokens = list(itertools.chain.from_iterable(tokens))
    return Counter(tokens)


class Vocab:
    """The textbook's table between tokens and ids.

    The order of the ids is that of `tokenloom.Vocab`; here a token may be
    anything hashable, such as the pair of words of a bigram.

    Parameters
    ----------
    tokens : list of tokens, list of lists of tokens, or counts, optional
        See `count_corpus`.
    min_freq : int
        Tokens that appear less often become the unknown token.
    reserved_tokens : list of str, optional
        They get the ids from 1 on.

    Attributes
    ----------
    unk : int
        0, the id of every other token.
    idx_to_token : list
        The tokens; the position of each is its id.
    token_to_idx : dict
        Token -> id.
    token_freqs : list of tuple
        (token, count), in falling order; tokens below ``min_freq`` are in it too.

    >>> vocab = Vocab([["the", "time"], ["the"]], reserved_tokens=["<pad>"])
    >>> len(vocab), vocab["the"], vocab[["time", "flies"]], vocab.to_tokens([0, 2])
    (4, 2, [3, 0], ['<unk>', 'the'])
    """

    def __init__(
        self,
        tokens: Sequence[Any] | Mapping[Any, int] | None = None,
        min_freq: int = 0,
        reserved_tokens: Iterable[str] | None = None,
    ) -> None:
        frequencies = sort_counts(count_corpus([] if tokens is None else tokens))
        special = ["<unk>", *(reserved_tokens or [])]
        self.unk = UNKNOWN_ID
        self.token_to_idx = number_tokens(frequencies, special=special, min_freq=min_freq)
        self.idx_to_token = list(self.token_to_idx)
        self.token_freqs = list(frequencies.items())

    def __len__(self) -> int:
        return len(self.idx_to_token)

    def __getitem__(self, tokens: Any) -> Any:
        """Return the id of a token, or nested lists of ids for nested tokens."""
        if isinstance(tokens, list):
            return [self[token] for token in tokens]
        if isinstance(tokens, tuple) and tokens not in self.token_to_idx:
            return [self[token] for token in tokens]
        return self.token_to_idx.get(tokens, self.unk)

    def to_tokens(self, indices: Any) -> Any:
        """Return the token of an id, or nested lists of tokens.

        Parameters
        ----------
        indices : int, nested lists of int, integer array or integer tensor

        Raises
        ------
        IndexError
            An id is not below ``len(vocab)``.
        """
        if hasattr(indices, "tolist"):
            indices = indices.tolist()
        if isinstance(indices, list | tuple):
            return [self.to_tokens(index) for index in indices]
        return self.idx_to_token[indices]


def load_corpus_time_machine(max_tokens: int = -1) -> tuple[list[int], Vocab]:
    """Return The Time Machine as ids of characters, and their vocabulary.

    Parameters
    ----------
    max_tokens : int
        The most tokens that are kept, all if it is not positive; the vocabulary
        still counts the whole text.

    Raises
    ------
    ArgumentError, ChecksumError, CorpusError, DownloadError
        See `read_time_machine`; or the text holds no letter.
    """
    corpus = Corpus.from_text("\n".join(read_time_machine()), name="time_machine")
    counts = corpus.vocab.frequencies if corpus.vocab is not None else {}
    kept = corpus.tokens[:max_tokens] if max_tokens > 0 else corpus.tokens
    return kept.tolist(), Vocab(counts)


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
        (X, Y), int64 tensors, shape (batch_size, num_steps); ``Y`` is ``X``
        shifted by one token.

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
    `tokenloom.SequentialWindows`, each further call the next epoch. Parameters,
    pairs and errors are those of `seq_data_iter_random`.
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
    """Return a `SeqDataLoader`, with its parameters and errors, and its vocabulary."""
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
