"""Tasks to counts, and to ids.

The two functions are called in any process, thread or machine, for any task in
any order: what they return depends on their arguments alone.
"""

import functools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenloom.arrays import Ids, as_ids
from tokenloom.cuts import GAP, LETTER, NOTHING, Rule
from tokenloom.hashing import hash_file
from tokenloom.normalize import clean_characters, clean_words
from tokenloom.stretches import Reading, Stretch, find_stretches
from tokenloom.tasks import Task
from tokenloom.tokenizers import (
    ByteTokenizer,
    CharTokenizer,
    Tokenizer,
    WordTokenizer,
    count_characters,
)
from tokenloom.vocab import UNKNOWN_ID, Vocab

# A letter in its place, of which the token is taken away again.
PREFIXES = {NOTHING: "", LETTER: "a", GAP: "a "}
_IS_LETTER = np.array([chr(code).isalpha() and code < 0x80 for code in range(256)])
_IS_LINE_END = np.array([code in b"\r\n" for code in range(256)])

Kind = Literal["char", "word"]


class Numbering(NamedTuple):
    """How text becomes ids.

    Attributes
    ----------
    tokenizer : Tokenizer or StoredTokenizer
    dtype : str
        Of the ids.
    end_id : int or None
        Stands behind each document.
    """

    tokenizer: "Tokenizer | StoredTokenizer"
    dtype: str
    end_id: int | None = None


class StoredTokenizer(NamedTuple):
    """A tokenizer whose vocabulary lies in a file, which each process reads once.

    Attributes
    ----------
    kind : "char" or "word"
    normalize : bool
    path : str
    hash : str
        Of the file.
    """

    kind: Kind
    normalize: bool
    path: str
    hash: str


class Result(NamedTuple):
    """What came of a task.

    Attributes
    ----------
    facts : dict
        JSON-able.
    blobs : list of bytes
        Of a count, the JSON of the counts in order of first appearance. Of ids,
        these, and as int64 how many of them come before the end of each document.
    """

    facts: dict[str, Any]
    blobs: list[bytes]


def rule_for(tokenizer: Tokenizer | Literal["char", "word"], *, normalize: bool = True) -> Rule:
    """Return where documents may be cut for a tokenizer.

    >>> rule_for("word"), rule_for(ByteTokenizer())
    ('letters', 'byte')
    """
    match tokenizer:
        case "char" | CharTokenizer():
            return "character"
        case "word":
            return "letters" if normalize else "word"
        case WordTokenizer(normalize=normalize):
            return "letters" if normalize else "word"
        case ByteTokenizer():
            return "byte"
        case _:
            return "whole"


def count_task(task: Task, reading: Reading, kind: Kind, normalize: bool) -> Result:  # noqa: FBT001  sent to other processes
    """Count the characters or words of a task, in order of first appearance.

    Raises
    ------
    CorpusError
        A document cannot be read, and that is to stop.
    """
    counts: dict[str, int] = {}
    problems: Counter[str] = Counter()
    stretches = find_texts(task, reading, problems)
    for texts, prefix in _groups(stretches, uses_state=kind == "char" and normalize):
        add_counts(counts, _count(kind, texts, prefix, normalize=normalize))
    return Result({}, [json.dumps(counts).encode("ascii")])


def find_texts(task: Task, reading: Reading, problems: Counter[str]) -> list[Stretch]:
    """Return the stretches of all slices of a task; see `find_stretches`."""
    return [s for piece in task.slices for s in find_stretches(piece, reading, problems)]


def add_counts(counts: dict[str, int], more: dict[str, int]) -> None:
    """Add counts to counts; those that are new come behind, in their order.

    >>> counts = {"b": 1}; add_counts(counts, {"a": 2, "b": 1}); counts
    {'b': 2, 'a': 2}
    """
    for token, count in more.items():
        counts[token] = counts.get(token, 0) + count


def encode_task(task: Task, reading: Reading, numbering: Numbering) -> Result:
    """Return the ids of a task, and where documents end in them.

    Raises
    ------
    CorpusError
        A document cannot be read, and that is to stop; or a tokenizer returned
        ids that are out of range.
    """
    problems: Counter[str] = Counter()
    stretches: list[Stretch] = []
    documents = []
    for piece in task.slices:
        found = list(find_stretches(piece, reading, problems))
        stretches += found
        documents.append([piece.place.source, sum(stretch.ends for stretch in found)])
    tokenizer = restore(numbering.tokenizer)
    ids, stops = number(stretches, tokenizer)
    has_vocab = isinstance(getattr(tokenizer, "vocab", None), Vocab)
    num_unknown = int(np.count_nonzero(ids == UNKNOWN_ID)) if has_vocab else None
    is_end = np.array([stretch.ends for stretch in stretches], np.bool_)
    ends = stops[is_end]
    if numbering.end_id is not None:
        ids = np.insert(ids.astype(numbering.dtype), ends, numbering.end_id)
        ends += np.arange(1, len(ends) + 1)
    lengths = [count_text(stretch.text) for stretch in stretches]
    last_end = int(np.flatnonzero(is_end)[-1]) + 1 if is_end.any() else 0
    facts = {
        "num_tokens": len(ids),
        "num_characters": sum(lengths),
        "num_unknown": num_unknown,
        "problems": dict(problems),
        "documents": documents,
        "has_end": bool(is_end.any()),
        "open_characters": sum(len(stretch.text) for stretch in stretches[last_end:]),
    }
    dtype = np.dtype(numbering.dtype).newbyteorder("<")
    return Result(facts, [ids.astype(dtype).tobytes(), ends.astype("<i8").tobytes()])


def number(stretches: list[Stretch], tokenizer: Tokenizer) -> tuple[Ids, npt.NDArray[np.int64]]:
    """Return the ids of stretches, and how many come before the end of each.

    Many documents are tokenised in one call, which is much quicker than one by one.
    """
    uses_state = isinstance(tokenizer, CharTokenizer) and tokenizer.normalize
    pieces, lengths = [], []
    for texts, prefix in _groups(stretches, uses_state=uses_state):
        ids, lengths_of_texts = _encode(tokenizer, texts, prefix)
        pieces.append(ids)
        lengths.append(lengths_of_texts)
    if not pieces:
        return np.empty(0, np.uint8), np.empty(0, np.int64)
    return np.concatenate(pieces), np.cumsum(np.concatenate(lengths), dtype=np.int64)


def count_text(text: str | bytes) -> int:
    """Return the number of characters, of bytes as if they were UTF-8.

    >>> count_text("é"), count_text("é".encode())
    (1, 1)
    """
    if isinstance(text, str):
        return len(text)
    return int(np.count_nonzero((np.frombuffer(text, np.uint8) & 0xC0) != 0x80))


def restore(tokenizer: "Tokenizer | StoredTokenizer") -> Tokenizer:
    """Return the tokenizer itself."""
    return _load(*tokenizer) if isinstance(tokenizer, StoredTokenizer) else tokenizer


@functools.lru_cache(maxsize=1)
def _load(kind: Kind, normalize: bool, path: str, hash_: str) -> Tokenizer:  # noqa: FBT001  a NamedTuple's
    assert hash_file(path) == hash_, path  # noqa: S101  this run wrote it
    vocab = Vocab.load(path)
    return CharTokenizer(vocab, normalize) if kind == "char" else WordTokenizer(vocab, normalize)


def _groups(stretches: Iterable[Stretch], *, uses_state: bool) -> Iterator[tuple[list[Any], str]]:
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


def _count(kind: Kind, texts: list[str], prefix: str, *, normalize: bool) -> dict[str, int]:
    match kind, normalize:
        case "char", True:
            cleaned = clean_characters(prefix + "\n".join(texts))
            return count_characters(cleaned[1:] if prefix else cleaned)
        case "char", False:
            return count_characters("".join(texts))
        case _, True:
            return dict(Counter(clean_words("\n".join(texts)).split()))
        case _:
            return dict(Counter("\n".join(texts).split()))


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
