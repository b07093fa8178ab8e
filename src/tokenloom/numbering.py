"""Many documents to ids in one call, which is much quicker than one by one."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tokenloom.arrays import Ids, as_ids
from tokenloom.cuts import GAP, LETTER, NOTHING
from tokenloom.errors import ArgumentError
from tokenloom.normalize import clean_characters, split_words
from tokenloom.stretches import Stretch
from tokenloom.tokenizers import (
    ByteTokenizer,
    CharTokenizer,
    MakeVocab,
    Tokenizer,
    WordTokenizer,
    count_characters,
    tokenize,
)

# A letter in its place, of which the token is taken away again.
PREFIXES = {NOTHING: "", LETTER: "a", GAP: "a "}
_IS_LETTER = np.array([chr(code).isalpha() and code < 0x80 for code in range(256)])
_IS_LINE_END = np.array([code in b"\r\n" for code in range(256)])

Kind = Literal["char", "word"]


def encode_documents(
    texts: Iterable[str],
    *,
    tokenizer: str | Tokenizer,
    normalize: bool,
    make_vocab: MakeVocab,
) -> tuple[Ids, npt.NDArray[np.int64], Tokenizer]:
    """Return the ids of documents in memory, their offsets, and what encodes more like them.

    Parameters and errors are those of `tokenloom.Corpus.from_documents`.

    >>> from tokenloom.vocab import Vocab
    >>> make = {"tokenizer": "word", "normalize": True, "make_vocab": Vocab}
    >>> encode_documents(["to be", "", "be"], **make)[:2]
    (array([2, 1, 1], dtype=uint8), array([0, 2, 2, 3]))
    """
    documents = list(texts)
    for number_, text in enumerate(documents):
        if not isinstance(text, str):
            msg = f"document {number_} must be a str, got {type(text).__name__}"
            raise ArgumentError(msg)
    # It tells of what is no tokenizer; a vocabulary without tokens encodes nothing yet.
    _, made = tokenize("", tokenizer=tokenizer, normalize=normalize, make_vocab=make_vocab)
    if isinstance(made, CharTokenizer | WordTokenizer) and isinstance(tokenizer, str):
        kind: Kind = "char" if tokenizer == "char" else "word"
        vocab = make_vocab(count_texts(kind, documents, "", normalize=normalize))
        made = dataclasses.replace(made, vocab=vocab)
    is_bytes = isinstance(made, ByteTokenizer)
    ids, stops = number(
        [
            Stretch(text.encode("utf-8", "surrogatepass") if is_bytes else text, NOTHING, ends=True)
            for text in documents
        ],
        made,
    )
    return ids, np.concatenate([[0], stops]), made


def number(stretches: list[Stretch], tokenizer: Tokenizer) -> tuple[Ids, npt.NDArray[np.int64]]:
    """Return the ids of stretches, and how many come before the end of each.

    Many documents are tokenised in one call, which is much quicker than one by one.
    """
    uses_state = isinstance(tokenizer, CharTokenizer) and tokenizer.normalize
    pieces, lengths = [], []
    for texts, prefix in group(stretches, uses_state=uses_state):
        ids, lengths_of_texts = _encode(tokenizer, texts, prefix)
        pieces.append(ids)
        lengths.append(lengths_of_texts)
    if not pieces:
        return np.empty(0, np.uint8), np.empty(0, np.int64)
    return np.concatenate(pieces), np.cumsum(np.concatenate(lengths), dtype=np.int64)


def count_texts(kind: Kind, texts: list[str], prefix: str, *, normalize: bool) -> dict[str, int]:
    """Return how often each character or word is in texts, in order of first appearance.

    Parameters
    ----------
    kind : "char" or "word"
    texts : list of str
    prefix : str
        What comes before the first; it does not count.
    normalize : bool

    >>> count_texts("word", ["b a", "c B"], "", normalize=True)
    {'b': 2, 'a': 1, 'c': 1}
    """
    match kind, normalize:
        case "char", True:
            cleaned = clean_characters(prefix + "\n".join(texts))
            return count_characters(cleaned[1:] if prefix else cleaned)
        case "char", False:
            return count_characters("".join(texts))
        case _:
            counts: Counter[str] = Counter()
            for words in split_words("\n".join(texts), normalize=normalize):
                counts.update(words)
            return dict(counts)


def add_counts(counts: dict[str, int], more: dict[str, int]) -> None:
    """Add counts to counts; those that are new come behind, in their order.

    >>> counts = {"b": 1}; add_counts(counts, {"a": 2, "b": 1}); counts
    {'b': 2, 'a': 2}
    """
    for token, count in more.items():
        counts[token] = counts.get(token, 0) + count


def count_normalized(
    text: str, stops: npt.NDArray[np.int64], *, counts_characters: bool
) -> npt.NDArray[np.int64]:
    r"""Return how many words, or characters, of a text come out of each of its parts.

    Parameters
    ----------
    text : str
        Before it is normalised.
    stops : int64 array, shape (num_parts,)
        Where each part ends, in bytes of UTF-8: behind a line end, or at the end.
    counts_characters : bool

    >>> count_normalized("a bc\n.\nd", np.array([5, 7, 8]), counts_characters=True)
    array([4, 0, 1])
    """
    codes = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    is_letter = _IS_LETTER[codes]
    is_start = is_letter.copy()
    is_start[1:] &= ~is_letter[:-1]
    parts = np.concatenate([[0], stops[:-1]])
    words = _count_from(parts, is_start)
    if not counts_characters:
        return words
    lines = np.concatenate([[0], np.flatnonzero(_IS_LINE_END[codes]) + 1])
    has_words = _count_from(lines, is_letter) > 0
    # A space stands before each word that is not the first of its line.
    spaces = words - _count_from(np.searchsorted(lines, parts), has_words)
    return _count_from(parts, is_letter) + spaces


def group(stretches: Iterable[Stretch], *, uses_state: bool) -> Iterator[tuple[list[Any], str]]:
    """Yield texts that can be tokenised in one call, each with what comes before them."""
    texts: list[str | bytes] = []
    prefix = ""
    for stretch in stretches:
        if uses_state and stretch.state != NOTHING:
            if texts:
                yield texts, prefix
            texts, prefix = [], PREFIXES[stretch.state]
        texts.append(stretch.text)
    if texts:
        yield texts, prefix


def _encode(
    tokenizer: Tokenizer, texts: list[Any], prefix: str
) -> tuple[Ids, npt.NDArray[np.int64] | list[int]]:
    """Return the ids of texts, one behind the other, and how many each has."""
    match tokenizer:
        case ByteTokenizer():
            joined = b"".join(texts)
            return np.frombuffer(joined, np.uint8), list(map(len, texts))
        case CharTokenizer(normalize=False):
            return tokenizer.encode("".join(texts)), list(map(len, texts))
        case CharTokenizer():
            text = prefix + "\n".join(texts)
            ids = tokenizer.encode(text)[bool(prefix) :]
            return ids, _share_out(len(ids), texts, text, prefix=prefix, counts_characters=True)
        case WordTokenizer(normalize=True):
            text = "\n".join(texts)
            ids = tokenizer.encode(text)
            return ids, _share_out(len(ids), texts, text)
        case WordTokenizer():
            ids = tokenizer.encode("\n".join(texts))
            return ids, [len(text.split()) for text in texts]
        case _:
            size = tokenizer.vocab_size
            each = [as_ids(tokenizer.encode(text), num_ids=size) for text in texts]
            return np.concatenate(each), list(map(len, each))


def _share_out(
    num_tokens: int,
    texts: list[str],
    joined: str,
    *,
    prefix: str = "",
    counts_characters: bool = False,
) -> npt.NDArray[np.int64] | list[int]:
    """Return how many of the normalised tokens each text has."""
    if len(texts) == 1:
        return [num_tokens]
    sizes = np.array([len(text) for text in texts]) if joined.isascii() else _sizes(texts)
    # The line end behind each text belongs to it.
    stops = np.cumsum(sizes + 1)
    stops += len(prefix)
    counts = count_normalized(joined, stops, counts_characters=counts_characters)
    counts[0] -= bool(prefix)
    return counts


def _sizes(texts: list[str]) -> npt.NDArray[np.int64]:
    return np.array([len(text.encode("utf-8", "surrogatepass")) for text in texts])


def _count_from(
    starts: npt.NDArray[np.int64], is_counted: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Return how many are True from each start to the next; these rise."""
    counts = np.zeros(len(starts), np.int64)
    # The last one may lie at the end.
    inner = starts[starts < len(is_counted)]
    if len(inner):
        counts[: len(inner)] = np.add.reduceat(is_counted, inner, dtype=np.int64)
    return counts
