"""A text in memory, as characters or as bytes, to ids."""

import dataclasses
import functools
import logging
from collections.abc import Iterable, Iterator, Sized
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenloom._checks import require_flags
from tokenloom._wording import count, show
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.text.counting import number_characters, number_words
from tokenloom.text.documents import Document, TextSegment
from tokenloom.text.ids import Ids, as_ids, narrow_dtype
from tokenloom.text.normalize import NOTHING, PREFIXES, Lost, clean_characters, count_lost
from tokenloom.text.tokenizers import (
    ByteTokenizer,
    CharTokenizer,
    MakeVocab,
    Tokenizer,
    WordTokenizer,
    takes_bytes,
    tokenize,
)
from tokenloom.text.vocab import Vocab, keep_tokens

_logger = logging.getLogger(__name__)
_CURES = {
    True: "to keep them use normalize=False",
    False: "the tokenizer that was given normalizes",
}


def encode(
    text: str | bytes,
    *,
    tokenizer: str | Vocab | Tokenizer,
    normalize: bool,
    min_freq: int,
    reserved_tokens: Iterable[str],
    name: str,
) -> tuple[Ids, Tokenizer]:
    """Return the ids of a text, at least one, and what encodes more like it.

    Parameters and errors are those of `tokenloom.Corpus.from_text`.

    >>> encode("ab", tokenizer="byte", normalize=True, min_freq=0, reserved_tokens=(), name="")
    (array([97, 98], dtype=uint8), ByteTokenizer())
    """
    require_flags(normalize=normalize)
    if not isinstance(text, str | bytes):
        msg = f"text must be str or bytes, got {type(text).__name__}"
        raise ArgumentError(msg)
    if isinstance(text, str):
        require_characters(text, name=name)
    if isinstance(text, bytes) and takes_bytes(tokenizer):
        ids: Ids = np.frombuffer(text, np.uint8)
        made: Tokenizer = ByteTokenizer()
    else:
        text = decode(text, name=name) if isinstance(text, bytes) else text
        ids, made = tokenize(
            text,
            tokenizer=tokenizer,
            normalize=normalize,
            make_vocab=functools.partial(
                Vocab, min_freq=min_freq, reserved_tokens=keep_tokens(reserved_tokens)
            ),
        )
    is_learned = isinstance(tokenizer, str)
    lost = count_lost_by(made, [text] if isinstance(text, str) else [])
    if not len(ids):
        why = why_empty(lost, is_learned=is_learned) if text else "the text is empty"
        msg = f"{name} must hold at least one token, got none: {why}"
        raise CorpusError(msg)
    report_lost(lost, name=name, is_learned=is_learned)
    return ids, made


def count_lost_by(tokenizer: Tokenizer | None, texts: Iterable[str]) -> Lost:
    """Return how much of texts a tokenizer loses by normalising, which may be nothing."""
    if not isinstance(tokenizer, CharTokenizer | WordTokenizer) or not tokenizer.normalize:
        return Lost()
    # One call for many small texts.
    return count_lost("".join(texts))


def report_lost(lost: Lost, *, name: str, is_learned: bool) -> None:
    """Log how much of a text was lost, where it is more than the punctuation of English.

    Parameters
    ----------
    lost : Lost
    name : str
        Whose text it was.
    is_learned : bool
        Whether the tokenizer was made for the text, and so could keep all of it.
    """
    if lost.is_much:
        _logger.warning("%s: %s; %s", name, lost.tell(), _CURES[is_learned])


def why_empty(lost: Lost, *, is_learned: bool) -> str:
    """Return why a text has no token, and what to do."""
    if lost.num_lost:
        return (
            "nothing but letters a-z survives normalising, and of "
            f"{count(lost.num_characters, 'character')} none is one; {_CURES[is_learned]}"
        )
    return "the tokenizer found none in it"


def find_surrogate(text: str) -> int | None:
    r"""Return where a text holds half of a surrogate pair, which is no character, if it does.

    >>> find_surrogate("caf\u00e9"), find_surrogate("a\ud83d")
    (None, 1)
    """
    if text.isascii():
        return None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return error.start
    return None


def require_characters(text: str, *, name: str) -> None:
    """Refuse a text that no file in UTF-8 can hold.

    Raises
    ------
    CorpusError
        It holds half of a surrogate pair; the message has its place.
    """
    place = find_surrogate(text)
    if place is not None:
        msg = (
            f"{name} must be text, got the lone surrogate {text[place]!r} at character {place:,}, "
            "which is no character: decode it with errors='replace', or mend it"
        )
        raise CorpusError(msg)


def decode(content: bytes, *, name: str, encoding: str = "utf-8") -> str:
    r"""Return the text of a file's bytes, without a byte order mark.

    Raises
    ------
    CorpusError
        The bytes are not in the encoding; the message has the first offset.

    >>> decode(b"caf\xe9", name="menu.txt", encoding="latin-1")
    'café'
    """
    try:
        return content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content[: error.start].decode(encoding, "ignore").count("\n") + 1
        msg = (
            f"{name} must be text in {encoding}, got byte 0x{content[error.start]:02x} "
            f"at offset {error.start} ({error.reason}), in line {line:,}: convert it, name its "
            'encoding, or read it as bytes with tokenizer="byte"'
        )
        raise CorpusError(msg) from error
    except (LookupError, TypeError, ValueError) as error:
        msg = f"encoding must be one that Python knows, got {show(encoding)}"
        raise ArgumentError(msg) from error


_IS_LETTER = np.array([chr(code).isalpha() and code < 0x80 for code in range(256)])
_IS_LINE_END = np.array([code in b"\r\n" for code in range(256)])

Kind = Literal["char", "word"]


def encode_documents(
    texts: Iterable[str | Document],
    *,
    tokenizer: str | Vocab | Tokenizer,
    normalize: bool,
    make_vocab: MakeVocab,
) -> tuple[Ids, npt.NDArray[np.int64], Tokenizer, Lost]:
    """Return the ids of documents, their offsets, what encodes more like them, and what is lost.

    Parameters and errors are those of `tokenloom.Corpus.from_documents`.

    >>> from tokenloom.text.vocab import Vocab
    >>> make = {"tokenizer": "word", "normalize": True, "make_vocab": Vocab}
    >>> encode_documents(["to be", "", "be"], **make)[:2]
    (array([2, 1, 1], dtype=uint8), array([0, 2, 2, 3]))
    """
    require_flags(normalize=normalize)
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        msg = (
            f"texts must be an iterable of str or Document, got {show(texts)}: "
            "pass [text], or use Corpus.from_text"
        )
        raise ArgumentError(msg)
    documents = [text.text if isinstance(text, Document) else text for text in texts]
    for number_, text in enumerate(documents):
        if not isinstance(text, str):
            msg = f"document {number_} must be a str, got {type(text).__name__}"
            raise ArgumentError(msg)
        require_characters(text, name=f"document {number_}")
    # It tells of what is no tokenizer; a vocabulary without tokens encodes nothing yet.
    _, made = tokenize("", tokenizer=tokenizer, normalize=normalize, make_vocab=make_vocab)
    is_bytes = isinstance(made, ByteTokenizer)
    segments = [
        TextSegment(text.encode("utf-8", "surrogatepass") if is_bytes else text, NOTHING, ends=True)
        for text in documents
    ]
    if isinstance(made, CharTokenizer | WordTokenizer) and isinstance(tokenizer, str):
        kind: Kind = "char" if tokenizer == "char" else "word"
        numbers, stops, counts = learn(segments, kind, normalize=normalize)
        made = dataclasses.replace(made, vocab=make_vocab(counts))
        ids: Ids = made.vocab.to_ids(list(counts))[numbers]
    else:
        ids, stops = number(segments, made)
    return ids, np.concatenate([[0], stops]), made, count_lost_by(made, documents)


def number(segments: list[TextSegment], tokenizer: Tokenizer) -> tuple[Ids, npt.NDArray[np.int64]]:
    """Return the ids of segments, and how many come before the end of each.

    Many documents are tokenised in one call, which is much quicker than one by one.
    """
    texts: list[Any] = [segment.text for segment in segments]
    match tokenizer:
        case ByteTokenizer():
            ids: Ids = np.frombuffer(b"".join(texts), np.uint8)
            lengths = _lengths(texts)
        case CharTokenizer(vocab, normalize):
            text, lengths = _join_characters(segments, normalize=normalize)
            ids = CharTokenizer(vocab, normalize=False).encode(text)
        case WordTokenizer(normalize=normalize):
            ids = tokenizer.encode("\n".join(texts))
            lengths = _count_words(texts, len(ids), normalize=normalize)
        case _:
            size = tokenizer.vocab_size
            each = [
                encode_with(tokenizer, text, size, name=f"document {index}")
                for index, text in enumerate(texts)
            ]
            ids = np.concatenate(each) if each else np.empty(0, np.uint8)
            lengths = _lengths(each)
    return ids, np.cumsum(lengths)


def encode_with(tokenizer: Tokenizer, text: str, num_ids: int, *, name: str) -> Ids:
    """Return the ids that a tokenizer of somebody else gives a text.

    Raises
    ------
    CorpusError
        It raises an error of any kind, or its ids are out of range.
    """
    try:
        return as_ids(tokenizer.encode(text), num_ids=num_ids)
    except MemoryError:
        raise
    # What refuses a text says so by an error of any kind.
    except Exception as error:
        kind = type(tokenizer).__name__
        msg = (
            f"the tokenizer {kind} must encode every text, but failed at {name}: "
            f"{type(error).__name__}: {error}"
        )
        raise CorpusError(msg) from error


class Learned(NamedTuple):
    """Tokens whose vocabulary is not known yet.

    Attributes
    ----------
    numbers : unsigned integer array, shape (num_tokens,)
        For each token its place in ``counts``.
    stops : int64 array, shape (num_segments,)
        How many tokens come before the end of each segment.
    counts : dict of str to int
        How often each token appears, in order of first appearance.
    """

    numbers: Ids
    stops: npt.NDArray[np.int64]
    counts: dict[str, int]


def learn(segments: list[TextSegment], kind: Kind, *, normalize: bool) -> Learned:
    """Return the tokens of segments as numbers, and what they stand for.

    >>> segments = [TextSegment("b a", NOTHING, ends=True), TextSegment("c B", NOTHING, ends=True)]
    >>> numbers, stops, counts = learn(segments, "word", normalize=True)
    >>> numbers.tolist(), stops.tolist(), counts
    ([0, 1, 2, 0], [2, 4], {'b': 2, 'a': 1, 'c': 1})
    """
    if kind == "char":
        text, lengths = _join_characters(segments, normalize=normalize)
        numbers, counts = number_characters(text)
    else:
        texts: list[Any] = [segment.text for segment in segments]
        pieces, counts = number_words("\n".join(texts), normalize=normalize)
        dtype = narrow_dtype(len(counts))
        nothing: Ids = np.empty(0, dtype)
        numbers = np.concatenate([nothing, *pieces], dtype=dtype, casting="unsafe")
        lengths = _count_words(texts, len(numbers), normalize=normalize)
    return Learned(numbers, np.cumsum(lengths), counts)


def add_counts(counts: dict[str, int], more: dict[str, int]) -> None:
    """Add counts to counts; those that are new come behind, in their order.

    >>> counts = {"b": 1}; add_counts(counts, {"a": 2, "b": 1}); counts
    {'b': 2, 'a': 2}
    """
    for token, num in more.items():
        counts[token] = counts.get(token, 0) + num


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


def group(segments: Iterable[TextSegment]) -> Iterator[tuple[list[Any], str]]:
    """Yield texts that can be normalised in one call, each with what comes before them."""
    texts: list[str | bytes] = []
    prefix = ""
    for segment in segments:
        if segment.state != NOTHING:
            if texts:
                yield texts, prefix
            texts, prefix = [], PREFIXES[segment.state]
        texts.append(segment.text)
    if texts:
        yield texts, prefix


def _join_characters(
    segments: list[TextSegment], *, normalize: bool
) -> tuple[str, npt.NDArray[np.int64]]:
    """Return the characters of segments, one behind the other, and how many each has."""
    if not normalize:
        texts = [str(segment.text) for segment in segments]
        return "".join(texts), _lengths(texts)
    pieces, lengths = [], []
    for texts, prefix in group(segments):
        text = prefix + "\n".join(texts)
        cleaned = clean_characters(text)[bool(prefix) :]
        pieces.append(cleaned)
        if len(texts) == 1:
            lengths.append(np.array([len(cleaned)]))
            continue
        stops = _stops(texts, text) + len(prefix)
        each = count_normalized(text, stops, counts_characters=True)
        each[0] -= bool(prefix)
        lengths.append(each)
    return "".join(pieces), np.concatenate(lengths) if lengths else np.empty(0, np.int64)


def _count_words(texts: list[str], num_words: int, *, normalize: bool) -> npt.NDArray[np.int64]:
    """Return how many of the words of texts each of them has."""
    if len(texts) < 2:
        return np.full(len(texts), num_words)
    if not normalize:
        return _lengths([text.split() for text in texts])
    joined = "\n".join(texts)
    return count_normalized(joined, _stops(texts, joined), counts_characters=False)


def _lengths(values: Iterable[Sized]) -> npt.NDArray[np.int64]:
    return np.array(list(map(len, values)), np.int64)


def _stops(texts: list[str], joined: str) -> npt.NDArray[np.int64]:
    """Return where each text ends in bytes of UTF-8, with the line end behind it."""
    if joined.isascii():
        return np.cumsum(_lengths(texts) + 1)
    return np.cumsum([len(text.encode("utf-8", "surrogatepass")) + 1 for text in texts])


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
