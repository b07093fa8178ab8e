"""Tasks to ids.

A task is done in any process, thread or machine, in any order: what comes of it
depends on its arguments alone. Where the vocabulary is not known before all
tasks are done, each numbers its own tokens as they come and tells which they
are, and the ids of all follow from that.
"""

import hashlib
import json
from collections import Counter
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenloom.arrays import Ids, narrow_dtype
from tokenloom.cuts import Rule
from tokenloom.errors import CorpusError
from tokenloom.normalize import Lost, count_lost
from tokenloom.numbering import Kind, learn, number
from tokenloom.stretches import Reading, Stretch, find_stretches
from tokenloom.tasks import Range, Slice, Task
from tokenloom.text import count_lost_by
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
    tokenizer : Tokenizer
    end_id : int or None
        Stands behind each document.
    """

    tokenizer: Tokenizer
    end_id: int | None = None


class Learning(NamedTuple):
    """How text becomes numbers of tokens, of which the vocabulary is learned.

    Attributes
    ----------
    kind : "char" or "word"
    normalize : bool
    marks_ends : bool
        Whether a token stands behind each document.
    """

    kind: Kind
    normalize: bool
    marks_ends: bool = False


class Result(NamedTuple):
    """What came of a task.

    Attributes
    ----------
    facts : dict
        JSON-able.
    blobs : list of bytes
        The ids, and as int64 how many of them come before the end of each
        document. Where a vocabulary is learned the ids are numbers of tokens,
        and a third is the JSON of how often each appears, in the order of the
        numbers. The number behind the last stands for the end of a document.
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


def find_texts(task: Task, reading: Reading, problems: Counter[str]) -> list[Stretch]:
    """Return the stretches of all slices of a task; see `find_stretches`."""
    return [s for piece in task.slices for s in find_stretches(piece, reading, problems)]


def encode_task(task: Task, reading: Reading, how: Numbering | Learning) -> Result:
    """Return the ids of a task, and where documents end in them.

    Raises
    ------
    CorpusError
        A document cannot be read, and that is to stop; or a tokenizer returned
        ids that are out of range, or could not read a file of its own.
    """
    problems: Counter[str] = Counter()
    stretches: list[Stretch] = []
    documents = []
    for piece in task.slices:
        found = list(find_stretches(piece, reading, problems))
        stretches += found
        documents.append([piece.place.source, sum(stretch.ends for stretch in found)])
    made = _learn(stretches, how) if isinstance(how, Learning) else _number(stretches, how)
    is_end = np.array([stretch.ends for stretch in stretches], np.bool_)
    ids, ends = made.ids, made.stops[is_end]
    if made.end_id is not None:
        ids = np.insert(ids, ends, made.end_id)
        ends += np.arange(1, len(ends) + 1)
    lengths = [count_text(stretch.text) for stretch in stretches]
    last_end = int(np.flatnonzero(is_end)[-1]) + 1 if is_end.any() else 0
    dtype = ids.dtype.newbyteorder("<")
    facts = {
        "num_tokens": len(ids),
        "dtype": dtype.str,
        "num_characters": sum(lengths),
        "num_unknown": made.num_unknown,
        "lost": list(_count_lost(stretches, how)),
        "problems": dict(problems),
        "documents": documents,
        "ranges": [_range(piece) for piece in task.slices],
        "has_end": bool(is_end.any()),
        "open_characters": sum(len(stretch.text) for stretch in stretches[last_end:]),
    }
    blobs = [ids.astype(dtype, copy=False).tobytes(), ends.astype("<i8").tobytes()]
    if made.counts is not None:
        blobs.append(json.dumps(made.counts).encode("ascii"))
    return Result(facts, blobs)


def _range(piece: Slice) -> Range:
    sha256 = hashlib.sha256(piece.content).hexdigest()
    return Range(piece.place.source, piece.place.offset, len(piece.content), sha256)


def read_counts(blobs: list[bytes]) -> dict[str, int]:
    """Return how often each token of a task appears whose vocabulary is learned.

    Those of a task whose ids are known are not told.
    """
    counts: dict[str, int] = json.loads(blobs[2]) if len(blobs) > 2 else {}
    return counts


def read_ids(
    facts: dict[str, Any], blobs: list[bytes], vocab: Vocab | None, end: str | int | None
) -> Ids:
    """Return the ids of a task.

    Parameters
    ----------
    facts, blobs : dict, list of bytes
        Its result.
    vocab : Vocab or None
        What was learned of all tasks.
    end : str, int or None
        What stands behind each document: a token, where a vocabulary is learned.
    """
    ids: Ids = np.frombuffer(blobs[0], facts["dtype"])
    if vocab is None or len(blobs) < 3:
        return ids
    tokens = list(read_counts(blobs))
    if isinstance(end, str):
        tokens.append(end)
    return vocab.to_ids(tokens)[ids]


def _count_lost(stretches: list[Stretch], how: Numbering | Learning) -> Lost:
    texts = (stretch.text for stretch in stretches if isinstance(stretch.text, str))
    if isinstance(how, Numbering):
        return count_lost_by(how.tokenizer, texts)
    return count_lost("".join(texts)) if how.normalize else Lost()


class _Made(NamedTuple):
    ids: Ids
    stops: npt.NDArray[np.int64]
    end_id: int | None
    num_unknown: int | None = None
    counts: dict[str, int] | None = None


def _number(stretches: list[Stretch], how: Numbering) -> _Made:
    try:
        ids, stops = number(stretches, how.tokenizer)
    except OSError as error:
        # Those of the store's own files tell of a full disk.
        kind = type(how.tokenizer).__name__
        msg = f"the tokenizer {kind} must encode every text, but failed: {error}"
        raise CorpusError(msg) from error
    has_vocab = isinstance(getattr(how.tokenizer, "vocab", None), Vocab)
    num_unknown = int(np.count_nonzero(ids == UNKNOWN_ID)) if has_vocab else None
    ids = ids.astype(narrow_dtype(how.tokenizer.vocab_size), copy=False)
    return _Made(ids, stops, how.end_id, num_unknown)


def _learn(stretches: list[Stretch], how: Learning) -> _Made:
    numbers, stops, counts = learn(stretches, how.kind, normalize=how.normalize)
    if not how.marks_ends:
        return _Made(numbers, stops, None, counts=counts)
    numbers = numbers.astype(narrow_dtype(len(counts) + 1))
    return _Made(numbers, stops, len(counts), counts=counts)


def count_text(text: str | bytes) -> int:
    """Return the number of characters, of bytes as if they were UTF-8.

    >>> count_text("é"), count_text("é".encode())
    (1, 1)
    """
    if isinstance(text, str):
        return len(text)
    return int(np.count_nonzero((np.frombuffer(text, np.uint8) & 0xC0) != 0x80))
