"""What is in a store: its description, and counts of its tokens and documents."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenloom._progress import open_bar
from tokenloom.corpus.corpus import Corpus
from tokenloom.corpus.loss_mask import count_learnt
from tokenloom.errors import ArgumentError, UsageError
from tokenloom.store.manifest import MANIFEST, Manifest, Source
from tokenloom.store.memmap import advise, read_whole
from tokenloom.store.reader import open_store
from tokenloom.text.tokenizers import complete

_CHUNK_SIZE = 1 << 22
# The counts of this many ids take half a gigabyte.
_MAX_IDS = 1 << 26


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreDescription:
    """What is in a store, or in a split of it.

    Attributes
    ----------
    path : str
    num_tokens, vocab_size : int
    num_documents : int or None
        None if the store has no document offsets.
    characters_per_token : float or None
        Over the whole store, before normalisation. None if it was not counted,
        as for a split.
    unknown_rate : float or None
        Fraction of unknown tokens in the whole store. None if it was not
        counted, as for a split.
    learnt_rate : float or None
        Fraction of the tokens of the whole store that are learnt. None without a
        loss mask, or if it was not counted, as for a split.
    tokenizer : dict or None
        Its description in the manifest.
    dtype : str
    num_shards, num_bytes : int
        Of the whole store, all its files.
    splits : mapping of str to tuple of int
        Half-open ranges of tokens.
    sources : tuple of Source
    facts : mapping of str to object
        What else the manifest holds.
    hash : str
        Of the tokens, as in `tokenloom.Corpus.hash`.
    split : str or None
        The split that is described; None for the whole store.
    """

    path: str
    num_tokens: int
    vocab_size: int
    num_documents: int | None
    characters_per_token: float | None
    unknown_rate: float | None
    tokenizer: Mapping[str, Any] | None
    dtype: str
    num_shards: int
    num_bytes: int
    splits: Mapping[str, tuple[int, int]]
    sources: tuple[Source, ...]
    facts: Mapping[str, Any]
    hash: str
    split: str | None = None
    learnt_rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthCount:
    """How many documents have a length, in tokens, in the half-open range [start, stop)."""

    start: int
    stop: int
    num_documents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCount:
    """How often a token appears.

    Attributes
    ----------
    id : int
    token : str or None
        None where the package that decodes it is not installed.
    count : int
    """

    id: int
    token: str | None
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSize:
    """How much text tokens stand for; None where that is not known.

    Attributes
    ----------
    num_characters : int or None
    num_bytes : int or None
        In UTF-8.
    """

    num_characters: int | None = None
    num_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStatistics:
    """Counts of the tokens of a corpus.

    Attributes
    ----------
    num_tokens : int
    num_unknown : int or None
        Tokens that are the unknown one; None for a tokenizer without an unknown
        token, such as that of bytes.
    num_learnt : int or None
        Tokens that are learnt, by the loss mask; None without one.
    num_unused_ids : int
        Ids that do not appear.
    text : TextSize
        What the tokens stand for; see `measure_text`.
    most_frequent : tuple of TokenCount
        From the most frequent on; ties stand in the order of ids.
    rarest : tuple of TokenCount
        From the rarest of those that appear on; ties likewise.
    """

    num_tokens: int
    num_unknown: int | None
    num_unused_ids: int
    text: TextSize
    most_frequent: tuple[TokenCount, ...]
    rarest: tuple[TokenCount, ...]
    num_learnt: int | None = None

    @property
    def unknown_rate(self) -> float | None:
        """Fraction of the tokens that are the unknown one."""
        return None if self.num_unknown is None else self.num_unknown / self.num_tokens

    @property
    def learnt_rate(self) -> float | None:
        """Fraction of the tokens that are learnt; None without a loss mask."""
        return None if self.num_learnt is None else self.num_learnt / self.num_tokens

    @property
    def characters_per_token(self) -> float | None:
        """Mean number of characters of the text that a token stands for."""
        number = self.text.num_characters
        return None if number is None else number / self.num_tokens

    @property
    def bytes_per_token(self) -> float | None:
        """The same, in bytes of UTF-8."""
        number = self.text.num_bytes
        return None if number is None else number / self.num_tokens


def describe_store(path: str | os.PathLike[str], *, split: str | None = None) -> StoreDescription:
    """Return what is in a store.

    Tokens are read for the hash only, and of those 4 MiB at most.

    Parameters
    ----------
    path : str or path
    split : str, optional
        Describe the tokens, documents and hash of this split instead of those
        of the whole store.

    Raises
    ------
    ArgumentError
        There is no such split.
    StoreError
        There is no store that can be used.
    """
    store = open_store(path)
    manifest = store.manifest
    corpus = Corpus.open(path, split=split)
    is_whole = split is None
    return StoreDescription(
        path=os.fspath(path),
        num_tokens=len(corpus),
        vocab_size=manifest.vocab_size,
        num_documents=None if corpus.document_offsets is None else corpus.num_documents,
        characters_per_token=_per_token(manifest, "num_characters") if is_whole else None,
        unknown_rate=_per_token(manifest, "num_unknown") if is_whole else None,
        tokenizer=manifest.tokenizer,
        dtype=manifest.dtype,
        num_shards=len(manifest.shards),
        num_bytes=sum(file.num_bytes for file in store.files())
        + (store.path / MANIFEST).stat().st_size,
        splits=manifest.splits,
        sources=manifest.sources,
        facts=manifest.facts,
        hash=corpus.hash,
        split=split,
        learnt_rate=_per_token(manifest, "num_learnt") if is_whole else None,
    )


def _per_token(manifest: Manifest, fact: str) -> float | None:
    """Return a counted fact for each token; None where it is missing, or no count."""
    counted: Any = manifest.facts.get(fact)
    is_count = type(counted) is int and 0 <= counted < 1 << 63
    return counted / manifest.num_tokens if is_count else None


def count_lengths(corpus: Corpus, *, chunk_size: int = _CHUNK_SIZE) -> list[LengthCount]:
    """Return how many documents have which length, in tokens, by powers of two.

    Parameters
    ----------
    corpus : Corpus
    chunk_size : int, optional
        Documents that are read at a time.

    Returns
    -------
    list of LengthCount
        From the shortest on, without gaps; empty where the corpus has no
        document offsets.

    >>> count_lengths(Corpus.from_tokens([1, 2, 3, 4], documents=[0, 0, 1, 4]))[1]
    LengthCount(start=1, stop=2, num_documents=1)
    """
    offsets = corpus.documents
    if offsets is None:
        return []
    counts = np.zeros(65, np.int64)
    for start in range(0, len(offsets) - 1, chunk_size):
        lengths = np.diff(offsets[start : start + chunk_size + 1])
        # The exponent of a length is how many bits it has.
        counts += np.bincount(np.frexp(lengths.astype(np.float64))[1], minlength=len(counts))
    stop = int(np.flatnonzero(counts)[-1]) + 1 if counts.any() else 0
    return [
        LengthCount(start=(1 << bits) >> 1, stop=1 << bits, num_documents=int(counts[bits]))
        for bits in range(stop)
    ]


def count_ids(
    corpus: Corpus, *, progress: bool | None = None, chunk_size: int = _CHUNK_SIZE
) -> npt.NDArray[np.int64]:
    """Return how often each id appears: int64 array, shape (vocab_size,).

    All tokens are read.

    Parameters
    ----------
    corpus : Corpus
    progress : bool, optional
        Whether to show a bar; by default where stderr is a terminal.
    chunk_size : int, optional
        Tokens that are read at once.

    Raises
    ------
    ArgumentError
        There are too many different ids to count them in memory.
    StoreError
        An id is not below the vocabulary size.

    >>> count_ids(Corpus.from_tokens([1, 3, 1]))
    array([0, 2, 0, 1])
    """
    if corpus.vocab_size > _MAX_IDS:
        msg = f"ids are counted for up to {_MAX_IDS:,} of them, got {corpus.vocab_size:,}"
        raise ArgumentError(msg)
    counts = np.zeros(corpus.vocab_size, np.int64)
    advise(corpus.tokens, is_random=False)
    with open_bar(total=len(corpus), unit="token", unit_scale=True, progress=progress) as bar:
        for start in range(0, len(corpus), chunk_size):
            piece = corpus.slice(start, start + chunk_size)
            counts += np.bincount(read_whole(piece.tokens), minlength=len(counts))
            bar.update(len(piece))
    return counts


def most_frequent(
    corpus: Corpus, num_ids: int, *, progress: bool | None = None
) -> list[TokenCount]:
    """Return the ids that appear most often, with their tokens.

    Parameters
    ----------
    corpus : Corpus
    num_ids : int
        How many.
    progress : bool, optional
        As in `count_ids`, whose errors this raises.

    >>> most_frequent(Corpus.from_text("a rose is a rose", tokenizer="word"), 1)
    [TokenCount(id=1, token='a', count=2)]
    """
    return list(count_tokens(corpus, num_ids, progress=progress).most_frequent)


def count_tokens(
    corpus: Corpus, num_ids: int = 10, *, progress: bool | None = None
) -> TokenStatistics:
    """Return how much text the tokens stand for, and which are the most frequent and the rarest.

    All tokens are read.

    Parameters
    ----------
    corpus : Corpus
    num_ids : int
        How many of the most frequent, and of the rarest, are listed.
    progress : bool, optional
        As in `count_ids`, whose errors this raises.

    >>> found = count_tokens(Corpus.from_text("a rose is a rose", tokenizer="word"), 1)
    >>> found.bytes_per_token, found.most_frequent[0].token, found.rarest[0].token
    (3.4, 'a', 'is')
    """
    counts = count_ids(corpus, progress=progress)
    used = np.flatnonzero(counts)

    def list_tokens(order: npt.NDArray[np.int64]) -> tuple[TokenCount, ...]:
        ids = used[find_smallest(order, num_ids)].tolist()
        return tuple(
            TokenCount(id=id_, token=_decode(corpus, id_), count=int(counts[id_])) for id_ in ids
        )

    unknown_id = _unknown_id(corpus)
    return TokenStatistics(
        num_tokens=len(corpus),
        num_unknown=None if unknown_id is None else int(counts[unknown_id]),
        num_unused_ids=len(counts) - len(used),
        text=_measure(counts, *_token_lengths(corpus)),
        most_frequent=list_tokens(-counts[used]),
        rarest=list_tokens(counts[used]),
        num_learnt=None if corpus.loss_mask is None else count_learnt(corpus.loss_mask),
    )


def find_smallest(values: npt.NDArray[np.int64], number: int) -> npt.NDArray[np.int64]:
    """Return where the smallest values are, in rising order, ties in order of place.

    Only those are sorted, since there may be many millions of values.

    >>> find_smallest(np.array([5, 1, 3, 1, 9]), 3).tolist()
    [1, 3, 2]
    """
    places = np.arange(len(values), dtype=np.int64)
    if number < len(values):
        # Of [5, 1, 3, 1, 9] and 3: 3 is the third smallest, and 1, 2, 3 have at most that.
        places = np.flatnonzero(values <= np.partition(values, number - 1)[number - 1])
    return places[np.argsort(values[places], kind="stable")][:number]


def _unknown_id(corpus: Corpus) -> int | None:
    try:
        return None if corpus.tokenizer is None else complete(corpus.tokenizer).unknown_id
    # The package of the tokenizer is not installed.
    except UsageError:
        return None


def _decode(corpus: Corpus, id_: int) -> str | None:
    try:
        return corpus.decode([id_])
    except UsageError:
        return None


def measure_text(corpus: Corpus, *, progress: bool | None = None) -> TextSize:
    """Return how many characters and bytes of text the tokens of a corpus stand for.

    It is the text as the tokenizer reads it: after normalisation, where it
    normalises. A character counts once, even if several tokens make it; a
    word counts with the space before it; a token without text, such as the end of
    a document, counts as none. The text of the unknown token is not known (but an
    unknown character is one character), nor is that of a tokenizer which does not
    report how long its tokens are. All tokens are read.

    Parameters
    ----------
    corpus : Corpus
    progress : bool, optional
        As in `count_ids`, whose errors this raises.

    >>> measure_text(Corpus.from_text("a rose is a rose", tokenizer="word"))
    TextSize(num_characters=17, num_bytes=17)
    """
    lengths = _token_lengths(corpus)
    # Where no length is known, nothing has to be read.
    if all(each is None for each in lengths):
        return TextSize()
    return _measure(count_ids(corpus, progress=progress), *lengths)


def _measure(
    counts: npt.NDArray[np.int64],
    in_characters: npt.NDArray[np.int64] | None,
    in_bytes: npt.NDArray[np.int64] | None,
) -> TextSize:
    """Return the size of the text of ids that were counted, by the lengths of each id."""
    return TextSize(
        num_characters=_add_lengths(counts, in_characters),
        num_bytes=_add_lengths(counts, in_bytes),
    )


def _token_lengths(corpus: Corpus) -> list[npt.NDArray[np.int64] | None]:
    """Return the characters and the bytes of each id, None where they are not known."""
    if corpus.tokenizer is None:
        return [None, None]
    tokenizer = complete(corpus.tokenizer)
    try:
        return [tokenizer.token_lengths(), tokenizer.token_byte_lengths()]
    # The package of the tokenizer is not installed; the tokens can be used all the same.
    except UsageError:
        return [None, None]


def _add_lengths(
    counts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64] | None
) -> int | None:
    """Return the length of all tokens, or None if the length of one is not known.

    >>> _add_lengths(np.array([0, 2, 1]), np.array([-1, 4, 1]))
    9
    """
    if lengths is None or counts[lengths < 0].any():
        return None
    return int(counts @ lengths)
