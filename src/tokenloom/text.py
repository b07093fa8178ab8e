"""A text in memory, as characters or as bytes, to ids."""

import functools
import logging
from collections.abc import Iterable

import numpy as np

from tokenloom.arrays import Ids
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.integers import require_flags
from tokenloom.normalize import Lost, count_lost
from tokenloom.tokenizers import (
    ByteTokenizer,
    CharTokenizer,
    Tokenizer,
    WordTokenizer,
    takes_bytes,
    tokenize,
)
from tokenloom.vocab import Vocab, keep_tokens
from tokenloom.wording import count, show

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
