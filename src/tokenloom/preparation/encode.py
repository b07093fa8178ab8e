"""Chunks to ids.

A chunk is done in any process, thread or machine, in any order: what comes of it
depends on its arguments alone. Where the vocabulary is not known before all
chunks are done, each numbers its own tokens as they come and tells which they
are, and the ids of all follow from that.
"""

import json
from collections import Counter
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenloom.errors import CorpusError
from tokenloom.preparation.chunks import Chunk, Slice
from tokenloom.preparation.readers import REFUSED, BadInput, Reading, find_segments
from tokenloom.text.boundaries import BYTES, CHARACTERS, DOCUMENTS, LETTERS, WORDS, Boundary
from tokenloom.text.documents import TextSegment
from tokenloom.text.encode import Kind, count_lost_by, encode_with, learn, number
from tokenloom.text.ids import Ids, narrow_dtype
from tokenloom.text.normalize import Lost, count_lost
from tokenloom.text.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer, WordTokenizer
from tokenloom.text.vocab import UNKNOWN_ID, Vocab


class Numbering(NamedTuple):
    """How text becomes ids.

    Attributes
    ----------
    tokenizer : Tokenizer
    end_id : int or None
        Stands behind each document.
    reserved : dict of int to (str or int), optional
        Ids that stand for something else than text, each with its token, or
        itself; those that a text has are counted.
    """

    tokenizer: Tokenizer
    end_id: int | None = None
    reserved: dict[int, str | int] | None = None


class Learning(NamedTuple):
    """How text becomes numbers of tokens, of which the vocabulary is learned.

    Attributes
    ----------
    kind : "char" or "word"
    normalize : bool
    marks_ends : bool
        Whether a token stands behind each document.
    reserved : tuple of str
        Tokens that stand for something else than text.
    """

    kind: Kind
    normalize: bool
    marks_ends: bool = False
    reserved: tuple[str, ...] = ()


class Result(NamedTuple):
    """What came of a chunk.

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


def find_boundary(
    tokenizer: Tokenizer | Literal["char", "word"], *, normalize: bool = True
) -> Boundary:
    """Return where documents may be cut for a tokenizer.

    >>> find_boundary("word").cut(b"the time ma")
    8
    """
    match tokenizer:
        case "char" | CharTokenizer():
            return CHARACTERS
        case "word":
            return LETTERS if normalize else WORDS
        case WordTokenizer(normalize=normalize):
            return LETTERS if normalize else WORDS
        case ByteTokenizer():
            return BYTES
        case _:
            return DOCUMENTS


def encode_chunk(chunk: Chunk, reading: Reading, how: Numbering | Learning) -> Result:
    """Return the ids of a chunk, and where documents end in them.

    Raises
    ------
    CorpusError
        A document cannot be read, and that is to stop; or a tokenizer returned
        ids that are out of range, or could not read a file of its own.
    """
    problems: Counter[str] = Counter()
    found = _find(chunk, reading, how, problems)
    segments = found.segments
    made = _learn(segments, how) if isinstance(how, Learning) else _number(found, how)
    _look_for_reserved(made, found, reading, problems)
    is_end = np.array([segment.ends for segment in segments], np.bool_)
    ids, ends = made.ids, made.stops[is_end]
    if made.end_id is not None:
        ids = np.insert(ids, ends, made.end_id)
        ends += np.arange(1, len(ends) + 1)
    lengths = [count_text(segment.text) for segment in segments]
    last_end = int(np.flatnonzero(is_end)[-1]) + 1 if is_end.any() else 0
    dtype = ids.dtype.newbyteorder("<")
    facts = {
        "num_tokens": len(ids),
        "dtype": dtype.str,
        "num_characters": sum(lengths),
        "num_unknown": made.num_unknown,
        "lost": list(_count_lost(segments, how)),
        "problems": dict(+problems),
        "documents": found.documents,
        "has_end": bool(is_end.any()),
        "open_characters": sum(len(segment.text) for segment in segments[last_end:]),
    }
    blobs = [ids.astype(dtype, copy=False).tobytes(), ends.astype("<i8").tobytes()]
    if made.counts is not None:
        blobs.append(json.dumps(made.counts).encode("ascii"))
    return Result(facts, blobs)


def read_counts(blobs: list[bytes]) -> dict[str, int]:
    """Return how often each token of a chunk appears whose vocabulary is learned.

    Those of a chunk whose ids are known are not told.
    """
    counts: dict[str, int] = json.loads(blobs[2]) if len(blobs) > 2 else {}
    return counts


def read_ids(
    facts: dict[str, Any], blobs: list[bytes], vocab: Vocab | None, end: str | int | None
) -> Ids:
    """Return the ids of a chunk.

    Parameters
    ----------
    facts, blobs : dict, list of bytes
        Its result.
    vocab : Vocab or None
        What was learned of all chunks.
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


def _count_lost(segments: list[TextSegment], how: Numbering | Learning) -> Lost:
    texts = (segment.text for segment in segments if isinstance(segment.text, str))
    if isinstance(how, Numbering):
        return count_lost_by(how.tokenizer, texts)
    return count_lost("".join(texts)) if how.normalize else Lost()


class _Made(NamedTuple):
    ids: Ids
    stops: npt.NDArray[np.int64]
    end_id: int | None
    num_unknown: int | None = None
    counts: dict[str, int] | None = None
    reserved: dict[int, str | int] = {}  # noqa: RUF012  never changed
    words: tuple[str, ...] = ()


class _Found(NamedTuple):
    """The segments of a chunk, the slice of each, and how many documents end in which source.

    ``ids`` are those of each segment where the tokenizer is somebody else's.
    """

    segments: list[TextSegment]
    pieces: list[Slice]
    documents: list[list[int]]
    ids: list[Ids] | None


def _find(
    chunk: Chunk, reading: Reading, how: Numbering | Learning, problems: Counter[str]
) -> _Found:
    is_own = isinstance(how, Numbering) and find_boundary(how.tokenizer) == DOCUMENTS
    found = _Found([], [], [], [] if is_own else None)
    for piece in chunk.slices:
        segments = list(find_segments(piece, reading, problems))
        if isinstance(how, Numbering) and found.ids is not None:
            segments, ids = _encode_own(segments, piece, reading, how.tokenizer, problems)
            found.ids.extend(ids)
        found.segments.extend(segments)
        found.pieces.extend([piece] * len(segments))
        num_ends = sum(segment.ends for segment in segments)
        found.documents.append([piece.start.source, num_ends])
    return found


def _encode_own(
    segments: list[TextSegment],
    piece: Slice,
    reading: Reading,
    tokenizer: Tokenizer,
    problems: Counter[str],
) -> tuple[list[TextSegment], list[Ids]]:
    """Return the segments that a tokenizer of somebody else encodes, and the ids of each."""
    kept, each = [], []
    for segment in segments:
        try:
            ids = encode_with(
                tokenizer, str(segment.text), tokenizer.vocab_size, name="this document"
            )
        except CorpusError as error:
            bad = BadInput(REFUSED, str(error), offset=segment.offset)
            if reading.on_error == "stop":
                raise CorpusError(bad.tell(piece)) from error
            problems[bad.what] += 1
            if reading.on_error == "skip":
                continue
            ids, segment = np.empty(0, np.uint8), segment._replace(text="")  # noqa: PLW2901
        kept.append(segment)
        each.append(ids)
    return kept, each


def _number(found: _Found, how: Numbering) -> _Made:
    tokenizer = how.tokenizer
    if found.ids is None:
        ids, stops = number(found.segments, tokenizer)
    else:
        ids = np.concatenate([np.empty(0, np.uint8), *found.ids])
        stops = np.cumsum([len(one) for one in found.ids], dtype=np.int64)
    vocab = getattr(tokenizer, "vocab", None)
    num_unknown = int(np.count_nonzero(ids == UNKNOWN_ID)) if isinstance(vocab, Vocab) else None
    ids = ids.astype(narrow_dtype(tokenizer.vocab_size), copy=False)
    reserved = how.reserved or {}
    words = (vocab.unknown_token,) if reserved and isinstance(vocab, Vocab) else ()
    return _Made(ids, stops, how.end_id, num_unknown, reserved=reserved, words=words)


def _learn(segments: list[TextSegment], how: Learning) -> _Made:
    numbers, stops, counts = learn(segments, how.kind, normalize=how.normalize)
    reserved: dict[int, str | int] = {}
    if not counts.keys().isdisjoint(how.reserved):
        reserved = {n: token for n, token in enumerate(counts) if token in how.reserved}
    if not how.marks_ends:
        return _Made(numbers, stops, None, counts=counts, reserved=reserved)
    numbers = numbers.astype(narrow_dtype(len(counts) + 1))
    return _Made(numbers, stops, len(counts), counts=counts, reserved=reserved)


def _look_for_reserved(
    made: _Made, found: "_Found", reading: Reading, problems: Counter[str]
) -> None:
    """Count the reserved tokens that stand in texts, or raise."""
    if made.reserved and len(made.ids):
        is_reserved = np.zeros(max(*made.reserved, int(made.ids.max())) + 1, np.bool_)
        is_reserved[list(made.reserved)] = True
        places = np.flatnonzero(is_reserved[made.ids])
        ids, firsts, counts = np.unique(made.ids[places], return_index=True, return_counts=True)
        for id_, first, times in zip(ids, firsts, counts, strict=True):
            index = int(np.searchsorted(made.stops, places[first], side="right"))
            problems[_name(made.reserved[int(id_)])] += int(times)
            _stop_at(made.reserved[int(id_)], found, index, reading)
    # The id of the unknown token does not tell whether it stands in the text.
    for word in made.words:
        for index, segment in enumerate(found.segments):
            if word in segment.text:
                times = str(segment.text).split().count(word)
                problems[_name(word)] += times
                if times:
                    _stop_at(word, found, index, reading)


def _name(token: str | int) -> str:
    return f"the reserved {'id' if isinstance(token, int) else 'token'} {token!r}"


def _stop_at(token: str | int, found: "_Found", index: int, reading: Reading) -> None:
    if reading.on_reserved == "count":
        return
    segment, piece = found.segments[index], found.pieces[index]
    offset = segment.offset
    if piece.form in ("file", "paragraph"):
        text = segment.text.encode() if isinstance(segment.text, str) else segment.text
        offset += max(text.find(token.encode() if isinstance(token, str) else bytes([token])), 0)
    why = "text there would be read as what the token stands for"
    cure = "mend it, choose another token, or on_reserved='count'"
    raise CorpusError(BadInput(_name(token), why, offset=offset, cure=cure).tell(piece))


def count_text(text: str | bytes) -> int:
    """Return the number of characters, of bytes as if they were UTF-8.

    >>> count_text("é"), count_text("é".encode())
    (1, 1)
    """
    if isinstance(text, str):
        return len(text)
    return int(np.count_nonzero((np.frombuffer(text, np.uint8) & 0xC0) != 0x80))
