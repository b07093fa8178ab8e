"""Tasks to counts, and to ids.

The two functions are called in any process, thread or machine, for any task in
any order: what they return depends on their arguments alone.
"""

import functools
import json
from collections import Counter
from typing import Any, Literal, NamedTuple

import numpy as np

from tokenloom.cuts import Rule
from tokenloom.errors import StoreError
from tokenloom.hashing import hash_file
from tokenloom.numbering import Kind, add_counts, count_texts, group, number
from tokenloom.stretches import Reading, Stretch, find_stretches
from tokenloom.tasks import Task
from tokenloom.tokenizers import (
    ByteTokenizer,
    CharTokenizer,
    Tokenizer,
    WordTokenizer,
)
from tokenloom.vocab import UNKNOWN_ID, Vocab


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
    for texts, prefix in group(stretches, uses_state=kind == "char" and normalize):
        add_counts(counts, count_texts(kind, texts, prefix, normalize=normalize))
    return Result({}, [json.dumps(counts).encode("ascii")])


def find_texts(task: Task, reading: Reading, problems: Counter[str]) -> list[Stretch]:
    """Return the stretches of all slices of a task; see `find_stretches`."""
    return [s for piece in task.slices for s in find_stretches(piece, reading, problems)]


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


def count_text(text: str | bytes) -> int:
    """Return the number of characters, of bytes as if they were UTF-8.

    >>> count_text("é"), count_text("é".encode())
    (1, 1)
    """
    if isinstance(text, str):
        return len(text)
    return int(np.count_nonzero((np.frombuffer(text, np.uint8) & 0xC0) != 0x80))


def restore(tokenizer: "Tokenizer | StoredTokenizer") -> Tokenizer:
    """Return the tokenizer itself.

    Raises
    ------
    StoreError
        The file with its vocabulary was changed.
    """
    return _load(*tokenizer) if isinstance(tokenizer, StoredTokenizer) else tokenizer


@functools.lru_cache(maxsize=1)
def _load(kind: Kind, normalize: bool, path: str, hash_: str) -> Tokenizer:  # noqa: FBT001  a NamedTuple's
    if (found := hash_file(path)) != hash_:
        msg = (
            f"{path} must have the hash {hash_}, as this run wrote it, got {found}: run the same "
            "again, and leave its folder alone meanwhile"
        )
        raise StoreError(msg)
    vocab = Vocab.load(path)
    return CharTokenizer(vocab, normalize) if kind == "char" else WordTokenizer(vocab, normalize)
