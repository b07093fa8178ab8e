"""A text in memory, as characters or as bytes, to ids."""

import functools
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenloom._checks import as_flag, as_integer, as_special_tokens, require_characters
from tokenloom._wording import count, show
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.text.documents import Document, TextSegment, find_cure
from tokenloom.text.ids import Ids, Offsets, renumber
from tokenloom.text.interface import CompleteTokenizer, LearnedTokenizer, Tokenizer
from tokenloom.text.normalize import (
    NOTHING,
    Lost,
    report_lost,
    state_after_prompt,
    why_empty,
)
from tokenloom.text.tokenizers import (
    CountedTokenizer,
    is_counted,
    make_tokenizer,
    refuse_settings,
)
from tokenloom.text.vocab import Vocab

MakeVocab = Callable[[dict[str, int]], Vocab]

_logger = logging.getLogger(__name__)
# The largest share of unknown tokens that is not worth a message.
_MOST_UNKNOWN = 0.01


class _Method(NamedTuple):
    """How texts become ids.

    Attributes
    ----------
    tokenizer : CompleteTokenizer
    make_vocab : callable or None
        Makes the vocabulary of the counts of its tokens in order of first
        appearance, where it is counted.
    """

    tokenizer: CompleteTokenizer
    make_vocab: MakeVocab | None


def encode(
    text: str | bytes,
    *,
    tokenizer: object,
    normalize: bool,
    min_freq: int,
    reserved_tokens: Iterable[str],
    vocab_size: int | None = None,
    name: str,
) -> tuple[Ids, Tokenizer]:
    """Return the ids of a text, at least one, and the tokenizer that made them.

    Parameters and errors are those of `tokenloom.Corpus.from_text`.

    >>> encode("ab", tokenizer="byte", normalize=True, min_freq=0, reserved_tokens=(), name="")
    (array([97, 98], dtype=uint8), ByteTokenizer())
    """
    normalize = as_flag("normalize", normalize)
    if not isinstance(text, str | bytes):
        msg = f"text must be str or bytes, got {type(text).__name__}"
        raise ArgumentError(msg)
    if isinstance(text, str):
        require_characters(text, name=name)
    method = _choose_method(
        tokenizer,
        normalize=normalize,
        min_freq=min_freq,
        reserved_tokens=reserved_tokens,
        vocab_size=vocab_size,
    )
    if isinstance(text, bytes) and not method.tokenizer.reads_bytes:
        text = decode(text, name=name)
    is_learned = is_counted(tokenizer)
    ids, _, made = _encode([text], method)
    lost = made.count_lost([text] if isinstance(text, str) else [])
    if not len(ids):
        why = why_empty(lost, is_learned=is_learned) if text else "the text is empty"
        msg = f"{name} must hold at least one token, got none: {why}"
        raise CorpusError(msg)
    report_lost(lost, name=name, is_learned=is_learned)
    if not is_learned:
        report_unknown(ids, made, name=name)
    return ids, made.given


class EncodedDocuments(NamedTuple):
    """Documents as ids.

    Attributes
    ----------
    ids : integer array, shape (num_tokens,)
    offsets : int64 array, shape (num_documents + 1,)
    tokenizer : Tokenizer
        What encodes more like them.
    lost : Lost
    learnt : uint8 array, shape (num_tokens,), or None
        0 for the tokens of prompts, 1 for the others; None if no document has a prompt.
    """

    ids: Ids
    offsets: Offsets
    tokenizer: Tokenizer
    lost: Lost
    learnt: npt.NDArray[np.uint8] | None


def encode_documents(
    texts: Iterable[str | Document],
    *,
    tokenizer: object,
    normalize: bool,
    min_freq: int = 0,
    reserved_tokens: Iterable[str] = (),
    vocab_size: int | None = None,
) -> EncodedDocuments:
    """Return the ids of documents, their offsets, the tokenizer, and what is lost.

    Parameters and errors are those of `tokenloom.Corpus.from_documents`.

    >>> encode_documents(["to be", "", "be"], tokenizer="word", normalize=True)[:2]
    (array([2, 1, 1], dtype=uint8), array([0, 2, 2, 3]))
    """
    normalize = as_flag("normalize", normalize)
    cure = find_cure(texts)
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        cure = "pass [text], or use Corpus.from_text"
    if cure is not None:
        msg = f"texts must be an iterable of str or Document, got {show(texts)}: {cure}"
        raise ArgumentError(msg)
    given = list(texts)
    documents = [text.text if isinstance(text, Document) else text for text in given]
    prompts = {
        number: document.prompt
        for number, document in enumerate(given)
        if isinstance(document, Document) and document.prompt is not None
    }
    for number, text in (*enumerate(documents), *prompts.items()):
        if not isinstance(text, str):
            cure = ": give its text alone" if isinstance(text, Mapping) else ""
            msg = f"document {number} must be a str, got {type(text).__name__}{cure}"
            raise ArgumentError(msg)
        require_characters(text, name=f"document {number}")
    method = _choose_method(
        tokenizer,
        normalize=normalize,
        min_freq=min_freq,
        reserved_tokens=reserved_tokens,
        vocab_size=vocab_size,
    )
    learnt = None
    if prompts:
        parts = [part for pair in enumerate(documents) for part in _divide(*pair, prompts)]
        ids, stops, made = _encode([part.text for part in parts], method, parts)
        is_end = np.array([part.ends for part in parts], np.bool_)
        learnt = np.repeat(is_end.astype(np.uint8), np.diff(stops, prepend=0))
        stops = stops[is_end]
    else:
        ids, stops, made = _encode(documents, method)
    lost = made.count_lost([*documents, *prompts.values()])
    return EncodedDocuments(ids, np.concatenate([[0], stops]), made.given, lost, learnt)


def _divide(number: int, text: str, prompts: Mapping[int, str]) -> Iterator[TextSegment]:
    """Yield a document, after its prompt where it has one."""
    prompt = prompts.get(number)
    if prompt is None:
        yield TextSegment(text, NOTHING, ends=True)
        return
    yield TextSegment(prompt, NOTHING, ends=False)
    yield TextSegment(text, state_after_prompt(prompt), ends=True)


def _choose_method(
    tokenizer: object,
    *,
    normalize: bool,
    min_freq: int,
    reserved_tokens: Iterable[str],
    vocab_size: int | None,
) -> _Method:
    """Return how texts become ids, after a check that each setting has an effect."""
    made = make_tokenizer(tokenizer, normalize=normalize, vocab_size=vocab_size)
    settings: dict[str, Any] = {
        "min_freq": as_integer("min_freq", min_freq),
        "reserved_tokens": as_special_tokens("reserved_tokens", reserved_tokens),
    }
    refuse_settings(made, tokenizer, normalize=normalize, **settings)
    if isinstance(made, LearnedTokenizer):
        made = made.with_special(settings["reserved_tokens"])
    if not is_counted(tokenizer):
        return _Method(made, None)
    return _Method(made, functools.partial(Vocab, vocab_size=vocab_size, **settings))


def _encode(
    texts: Sequence[str | bytes], method: _Method, parts: Iterable[TextSegment] = ()
) -> tuple[Ids, Offsets, CompleteTokenizer]:
    """Return the ids of texts, how many come before the end of each, and the tokenizer.

    Texts may be bytes where the tokenizer reads those. Each is a document, unless
    ``parts`` say of each whether one ends with it.
    """
    tokenizer, make_vocab = method
    states = [(part.state, part.ends) for part in parts] or itertools.repeat((NOTHING, True))
    segments = [
        TextSegment(
            text.encode("utf-8", "surrogatepass")
            if tokenizer.reads_bytes and isinstance(text, str)
            else text,
            *state,
        )
        # There may be endlessly many states.
        for text, state in zip(texts, states)  # noqa: B905
    ]
    if isinstance(tokenizer, LearnedTokenizer):
        tokenizer = tokenizer.learn([str(segment.text) for segment in segments])
    if make_vocab is None or not isinstance(tokenizer, CountedTokenizer):
        return (*tokenizer.encode_segments(segments), tokenizer)
    numbers, stops, counts = tokenizer.count_segments(segments)
    vocab = make_vocab(counts)
    ids = renumber(numbers, vocab.to_ids(list(counts)))
    return ids, stops, tokenizer.with_vocab(vocab)


def report_unknown(ids: Ids, tokenizer: CompleteTokenizer, *, name: str) -> None:
    """Log how many tokens of a text a tokenizer does not know, where they are not few.

    Parameters
    ----------
    ids : array of int, shape (num_tokens,)
    tokenizer : CompleteTokenizer
        What made them, and was not learnt from this text.
    name : str
        Whose text it was.
    """
    unknown_id = tokenizer.unknown_id
    num_unknown = 0 if unknown_id is None else int(np.count_nonzero(ids == unknown_id))
    if num_unknown > _MOST_UNKNOWN * len(ids):
        _logger.warning(
            "%s: %s of %s (%.3g %%) are unknown to the tokenizer that was given, and all have one "
            "id; one that was learnt from this text too, or that reads bytes, knows them",
            name,
            f"{num_unknown:,}",
            count(len(ids), "token"),
            100 * num_unknown / len(ids),
        )


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
            'encoding with encoding=, or read it as bytes with tokenizer="byte"'
        )
        raise CorpusError(msg) from error
    except (LookupError, TypeError, ValueError) as error:
        msg = f"encoding must be one that Python knows, got {show(encoding)}"
        raise ArgumentError(msg) from error
