"""Chunks to ids.

A chunk is done in any process, thread or machine, in any order: what comes of it
depends on its arguments alone. Where the vocabulary is not known before all
chunks are done, each numbers its own tokens as they come and lists them, and the
ids of all follow from that.
"""

import functools
import json
import secrets
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenloom.errors import CorpusError, WorkerError
from tokenloom.preparation.chunks import FORMS, Chunk
from tokenloom.preparation.cluster import SharedFolder
from tokenloom.preparation.forms import BadInput, Found, Reading, Slice
from tokenloom.preparation.texts import NO_TEXT
from tokenloom.preparation.workdir import IDS, SHARED_SECONDS, TOKENIZER, Part, WorkDir
from tokenloom.store.manifest import VOCAB
from tokenloom.text.boundaries import is_blank
from tokenloom.text.documents import TextSegment
from tokenloom.text.ids import Ids, Offsets, narrow_dtype, renumber
from tokenloom.text.interface import CompleteTokenizer, join_ids, vocab_of
from tokenloom.text.normalize import state_after_prompt
from tokenloom.text.tokenizers import CountedTokenizer, is_restorable, restore_tokenizer
from tokenloom.text.vocab import Vocab, parse_vocab

# Of those that follow a fault, and of which nothing is known.
LOST_LINE = "a line that is lost with another"
REFUSED, EMPTY = "text that the tokenizer refuses", "an empty document"
NO_ANSWER = "a prompt without a text"


class EncodeWith(NamedTuple):
    """Text becomes the ids of a tokenizer.

    Attributes
    ----------
    tokenizer : CompleteTokenizer
    end_id : int or None
        Follows each document.
    reserved : dict of int to (str or int), optional
        Ids that stand for something else than text, each with its token, or
        itself; those that a text has are counted.
    """

    tokenizer: CompleteTokenizer
    end_id: int | None = None
    reserved: dict[int, str | int] | None = None


class BuildVocab(NamedTuple):
    """Text becomes numbers of tokens, from which a vocabulary is built.

    Attributes
    ----------
    tokenizer : CountedTokenizer
        Its vocabulary does not matter.
    marks_ends : bool
        Whether a token follows each document.
    reserved : tuple of str
        Tokens that stand for something else than text.
    """

    tokenizer: CountedTokenizer
    marks_ends: bool = False
    reserved: tuple[str, ...] = ()


class SentOnce(NamedTuple):
    """How text becomes ids, by a tokenizer that lies in the work folder.

    So it is not sent with each chunk: it may be larger than the chunk.

    Attributes
    ----------
    work : WorkDir
    token : str
        A word that only the file of this tokenizer holds.
    end_id, reserved
        See `EncodeWith`.
    """

    work: WorkDir
    token: str
    end_id: int | None
    reserved: dict[int, str | int] | None

    def read(self, *, patience: float) -> EncodeWith:
        """Return how to encode, with the tokenizer, which each process reads once.

        Raises
        ------
        WorkerError
            The file does not appear within ``patience`` seconds, or is damaged.
        """
        tokenizer = _read_tokenizer(self.work, self.token, patience)
        return EncodeWith(tokenizer, self.end_id, self.reserved)


def send_once(how: EncodeWith | BuildVocab, work: WorkDir) -> EncodeWith | BuildVocab | SentOnce:
    """Write a tokenizer into the work folder, and return what is sent in its place.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    if not isinstance(how, EncodeWith) or not is_restorable(how.tokenizer):
        return how
    files, vocab = dict(how.tokenizer.files()), vocab_of(how.tokenizer)
    if vocab is not None:
        files[VOCAB] = vocab.to_json().encode("ascii")
    if not files:
        return how
    token = secrets.token_hex(16)
    facts = {"token": token, "names": list(files), "tokenizer": how.tokenizer.describe()}
    work.write(TOKENIZER, 0, Part(facts, list(files.values())))
    return SentOnce(work, token, how.end_id, how.reserved)


@functools.lru_cache(maxsize=2)
def _read_tokenizer(work: WorkDir, token: str, patience: float) -> CompleteTokenizer:
    part = work.wait_for(TOKENIZER, 0, with_blobs=True, patience=patience)
    files = dict(zip(part.facts["names"], part.blobs, strict=True))
    tokenizer = restore_tokenizer(
        part.facts["tokenizer"],
        load_vocab=lambda: parse_vocab(files[VOCAB], VOCAB),
        load_file=files.__getitem__,
    )
    if tokenizer is None or part.facts["token"] != token:
        msg = f"{work.part(TOKENIZER, 0)} was written by another run: end it, and run this again"
        raise WorkerError(msg)
    return tokenizer


class Result(NamedTuple):
    """The result of a chunk.

    Attributes
    ----------
    facts : dict
        JSON-able.
    blobs : list of bytes
        blobs[0]: token ids. blobs[1]: int64 document end offsets. blobs[2], only
        while the vocabulary is being built, else empty or missing: JSON object token
        -> count, in the order of the ids of this chunk; the id after the last stands
        for the end of a document. blobs[3], only where there are prompts: for each
        token a byte, 1 where it is learnt.
    """

    facts: dict[str, Any]
    blobs: list[bytes]


def encode_chunk(chunk: Chunk, reading: Reading, how: EncodeWith | BuildVocab) -> Result:
    """Return the ids of a chunk, and where documents end in them.

    Raises
    ------
    CorpusError
        A document cannot be read, and ``on_error`` is "stop"; or a tokenizer returned
        ids that are out of range, or could not read one of its files.
    """
    problems: Counter[str] = Counter()
    found = _find(chunk, reading, problems)
    if isinstance(how, BuildVocab):
        made = _count(found, how)
    else:
        found, made = _encode(found, how, reading, problems)
    _look_for_reserved(made, found, reading, problems)
    segments = found.segments
    is_end = np.array([segment.ends for segment in segments], np.bool_)
    ids, ends = made.ids, made.stops[is_end]
    learnt = None
    if reading.prompt_field is not None:
        # A document ends with its text; what stands before is the prompt.
        learnt = np.repeat(is_end.astype(np.uint8), np.diff(made.stops, prepend=0))
    if made.end_id is not None:
        ids = np.insert(ids, ends, made.end_id)
        learnt = None if learnt is None else np.insert(learnt, ends, 1)
        ends += np.arange(1, len(ends) + 1, dtype=np.int64)
    last_end = int(np.flatnonzero(is_end)[-1]) + 1 if is_end.any() else 0
    texts = [segment.text for segment in segments]
    dtype = ids.dtype.newbyteorder("<")
    facts = {
        "num_tokens": len(ids),
        "dtype": dtype.str,
        "num_characters": sum(map(count_text, texts)),
        "num_unknown": made.num_unknown,
        "lost": list(how.tokenizer.count_lost([text for text in texts if isinstance(text, str)])),
        "problems": dict(+problems),
        "documents": _count_documents(found, is_end),
        "has_end": bool(is_end.any()),
        "open_characters": sum(map(len, texts[last_end:])),
    }
    blobs = [ids.astype(dtype, copy=False).tobytes(), ends.astype("<i8").tobytes()]
    if made.counts is not None:
        blobs.append(json.dumps(made.counts).encode("ascii"))
    if learnt is not None:
        facts["num_learnt"] = int(learnt.sum())
        blobs = [*blobs, *[b""] * (3 - len(blobs)), learnt.tobytes()]
    return Result(facts, blobs)


def write_part(
    chunk: Chunk,
    *,
    work: WorkDir,
    shared: SharedFolder | None,
    reading: Reading,
    how: EncodeWith | BuildVocab | SentOnce,
) -> Part | None:
    """Write the ids and the facts of a chunk into the work folder.

    The returned part has no ids, which need not be sent between processes. If the
    folder is shared, None is returned, since the part is read from there anyway. A
    chunk that is done twice, because a worker was lost, makes the same part.

    Raises
    ------
    CorpusError
        As for `encode_chunk`.
    OSError
        The part cannot be written.
    WorkerError
        The folder must be shared, and this process does not see it.
    """
    if shared is not None:
        shared.require()
    if isinstance(how, SentOnce):
        how = how.read(patience=0 if shared is None else SHARED_SECONDS)
    result = encode_chunk(chunk, reading, how)
    facts = {
        **result.facts,
        "start": chunk.slices[0].start,
        "stop": chunk.stop,
        "position": chunk.position,
        "digests": {str(source): digest for source, digest in chunk.digests.items()},
        "prefix": chunk.prefix,
    }
    work.write(IDS, chunk.number, Part(facts, result.blobs))
    return Part(facts, [b"", b"", *result.blobs[2:3]]) if shared is None else None


def read_counts(blobs: list[bytes]) -> dict[str, int]:
    """Return how often each token of a chunk appears, where a vocabulary is learned.

    Empty for a chunk whose ids are known.
    """
    counts: dict[str, int] = json.loads(blobs[2]) if _has_counts(blobs) else {}
    return counts


def _has_counts(blobs: list[bytes]) -> bool:
    return len(blobs) > 2 and blobs[2] != b""


def read_ids(
    facts: dict[str, Any], blobs: list[bytes], vocab: Vocab | None, end: str | int | None
) -> Ids:
    """Return the ids of a chunk.

    Parameters
    ----------
    facts, blobs : dict, list of bytes
        Its result.
    vocab : Vocab or None
        The vocabulary that was learned from all chunks.
    end : str, int or None
        The id after each document; a token, where a vocabulary is learned.
    """
    ids: Ids = np.frombuffer(blobs[0], facts["dtype"])
    if vocab is None or not _has_counts(blobs):
        return ids
    tokens = list(read_counts(blobs))
    if isinstance(end, str):
        tokens.append(end)
    return renumber(ids, vocab.to_ids(tokens))


class _Encoded(NamedTuple):
    ids: Ids
    stops: Offsets
    end_id: int | None
    num_unknown: int | None = None
    counts: dict[str, int] | None = None
    reserved: dict[int, str | int] = {}  # noqa: RUF012  never changed
    words: tuple[str, ...] = ()


class _Segments(NamedTuple):
    """The slices of a chunk, its segments, and which slice each segment lies in."""

    slices: tuple[Slice, ...]
    segments: list[TextSegment]
    slice_of: list[int]


def find_segments(piece: Slice, reading: Reading, problems: Counter[str]) -> list[TextSegment]:
    """Return the segments of a slice in order.

    Parameters
    ----------
    piece : Slice
    reading : Reading
    problems : Counter
        Counts what was left out or replaced, by its reason.

    Raises
    ------
    CorpusError
        Something cannot be read, and ``on_error`` is "stop"; the message has the
        source and the offset in bytes.
    """
    segments = []
    for found in FORMS[piece.form].find(piece):
        state = 0 if found.starts else piece.start.state
        texts = _read_texts(found, piece, reading, problems)
        for prompt in texts[:-1]:
            segments.append(TextSegment(prompt, state, ends=False, offset=found.offset))
            state = state_after_prompt(prompt)
        segments += [TextSegment(text, state, found.ends, found.offset) for text in texts[-1:]]
    return segments


def _read_texts(
    found: Found, piece: Slice, reading: Reading, problems: Counter[str]
) -> list[str | bytes]:
    """Return the text of a document, with its prompt before it; none where it is left out."""
    texts: list[str | bytes] = []
    has_failed = False
    for each in reading.each():
        try:
            text = _read(found, piece, each, before=texts)
        except BadInput as bad:
            if reading.on_error == "stop":
                raise CorpusError(describe(bad, piece)) from bad
            # Once for a document.
            if not has_failed:
                problems[bad.what] += 1
                if found.num_lost:
                    problems[LOST_LINE] += found.num_lost
            has_failed = True
            is_left_out = reading.on_error == "skip"
            if is_left_out and found.starts:
                return []
            # A document that began before may end here all the same.
            text = "" if is_left_out else bad.instead
        texts.append(text.encode("utf-8") if reading.as_bytes and isinstance(text, str) else text)
    return texts


def describe(bad: BadInput, piece: Slice) -> str:
    """Return the message of an error: the source, the place in it, the reason and the cure."""
    why = " ".join(bad.why.split())
    place = FORMS[piece.form].locate(piece, bad.offset)
    return f"{piece.name} has {bad.what} {place}{why}; {bad.cure}"


def _read(
    found: Found, piece: Slice, reading: Reading, *, before: Sequence[str | bytes]
) -> str | bytes:
    """Return a text of a document, whose prompt, if it has one, was read before."""
    if found.fault is not None:
        what, why = found.fault
        if found.fault == NO_TEXT and reading.prompt_field is not None:
            why = f"there is no {reading.prompt_field!r} or no {reading.field!r}"
        raise BadInput(what, why, offset=found.offset)
    text = FORMS[piece.form].read(found, piece, reading)
    # Of the segments of a long document none is looked at, and a prompt may be empty.
    is_whole = found.starts and found.ends and not reading.is_prompt
    if is_whole and _is_empty(text):
        what, why = EMPTY, "nothing but white space"
        if before:
            why = f"nothing but white space in {reading.field!r}"
            if all(map(_is_empty, before)):
                why += f" and in {reading.prompt_field!r}"
            else:
                what = NO_ANSWER
        raise BadInput(what, why, offset=found.offset)
    return text


def _is_empty(text: str | bytes) -> bool:
    return is_blank(text) if isinstance(text, bytes) else not text or text.isspace()


def _find(chunk: Chunk, reading: Reading, problems: Counter[str]) -> _Segments:
    found = _Segments(chunk.slices, [], [])
    for number, piece in enumerate(chunk.slices):
        segments = find_segments(piece, reading, problems)
        found.segments.extend(segments)
        found.slice_of.extend([number] * len(segments))
    return found


def _count_documents(found: _Segments, is_end: npt.NDArray[np.bool_]) -> list[list[int]]:
    """Return the source of each slice, and how many documents end in it."""
    ends = np.array(found.slice_of, np.int64)[is_end]
    counts = np.bincount(ends, minlength=len(found.slices)).tolist()
    sources = [piece.start.source for piece in found.slices]
    return [list(pair) for pair in zip(sources, counts, strict=True)]


def _encode(
    found: _Segments, how: EncodeWith, reading: Reading, problems: Counter[str]
) -> tuple[_Segments, _Encoded]:
    """Return the segments that the tokenizer did not refuse, and their ids."""
    tokenizer = how.tokenizer
    try:
        ids, stops = tokenizer.encode_segments(found.segments)
    except CorpusError:
        # The tokenizer refuses at least one of them.
        found, each = _encode_each(found, tokenizer, reading, problems)
        ids, stops = join_ids(each)
    vocab, unknown_id = vocab_of(tokenizer), tokenizer.unknown_id
    num_unknown = None if unknown_id is None else int(np.count_nonzero(ids == unknown_id))
    ids = ids.astype(narrow_dtype(tokenizer.vocab_size), copy=False)
    reserved = how.reserved or {}
    words = (vocab.unknown_token,) if reserved and vocab is not None else ()
    return found, _Encoded(ids, stops, how.end_id, num_unknown, reserved=reserved, words=words)


def _encode_each(
    found: _Segments, tokenizer: CompleteTokenizer, reading: Reading, problems: Counter[str]
) -> tuple[_Segments, list[Ids]]:
    """Return the segments one by one, without those that the tokenizer refuses, and their ids."""
    kept, each = _Segments(found.slices, [], []), []
    # A prompt and its text are kept or left out together.
    size = len(list(reading.each()))
    for first in range(0, len(found.segments), size):
        segments, number = found.segments[first : first + size], found.slice_of[first]
        try:
            ids = [tokenizer.encode_one(str(one.text), name="this document") for one in segments]
        except CorpusError as error:
            bad = BadInput(REFUSED, str(error), offset=segments[0].offset)
            if reading.on_error == "stop":
                raise CorpusError(describe(bad, found.slices[number])) from error
            problems[bad.what] += 1
            if reading.on_error == "skip":
                continue
            ids = [np.empty(0, np.uint8)] * size
            segments = [one._replace(text="") for one in segments]
        kept.segments.extend(segments)
        kept.slice_of.extend([number] * size)
        each.extend(ids)
    return kept, each


def _count(found: _Segments, how: BuildVocab) -> _Encoded:
    numbers, stops, counts = how.tokenizer.count_segments(found.segments)
    reserved: dict[int, str | int] = {}
    if not counts.keys().isdisjoint(how.reserved):
        reserved = {n: token for n, token in enumerate(counts) if token in how.reserved}
    if not how.marks_ends:
        return _Encoded(numbers, stops, None, counts=counts, reserved=reserved)
    numbers = numbers.astype(narrow_dtype(len(counts) + 1))
    return _Encoded(numbers, stops, len(counts), counts=counts, reserved=reserved)


def _look_for_reserved(
    made: _Encoded, found: _Segments, reading: Reading, problems: Counter[str]
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
    # The id alone does not show whether the unknown token itself stands in the text.
    for word in made.words:
        for index, segment in enumerate(found.segments):
            if word in segment.text:
                times = str(segment.text).split().count(word)
                problems[_name(word)] += times
                if times:
                    _stop_at(word, found, index, reading)


def _name(token: str | int) -> str:
    return f"the reserved {'id' if isinstance(token, int) else 'token'} {token!r}"


def _stop_at(token: str | int, found: _Segments, index: int, reading: Reading) -> None:
    if reading.on_reserved == "count":
        return
    segment, piece = found.segments[index], found.slices[found.slice_of[index]]
    offset = segment.offset
    if FORMS[piece.form].is_plain:
        text = segment.text.encode() if isinstance(segment.text, str) else segment.text
        offset += max(text.find(token.encode() if isinstance(token, str) else bytes([token])), 0)
    why = "text there would be read as what the token stands for"
    cure = "mend it, choose another token, or on_reserved='count'"
    bad = BadInput(_name(token), why, offset=offset, cure=cure)
    raise CorpusError(describe(bad, piece))


def count_text(text: str | bytes) -> int:
    """Return the number of characters; bytes are counted as if they were UTF-8.

    >>> count_text("é"), count_text("é".encode())
    (1, 1)
    """
    if isinstance(text, str):
        return len(text)
    return int(np.count_nonzero((np.frombuffer(text, np.uint8) & 0xC0) != 0x80))
