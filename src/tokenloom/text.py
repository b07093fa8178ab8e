"""A text in memory, as characters or as bytes, to ids."""

import functools
from collections.abc import Iterable

import numpy as np

from tokenloom.arrays import Ids
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.tokenizers import ByteTokenizer, Tokenizer, tokenize
from tokenloom.vocab import Vocab


def encode(
    text: str | bytes,
    *,
    tokenizer: str | Tokenizer,
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
    if not isinstance(text, str | bytes):
        msg = f"text must be str or bytes, got {type(text).__name__}"
        raise ArgumentError(msg)
    if isinstance(text, bytes) and tokenizer == "byte":
        learned: tuple[Ids, Tokenizer] = np.frombuffer(text, np.uint8), ByteTokenizer()
    else:
        learned = tokenize(
            decode(text, name=name) if isinstance(text, bytes) else text,
            tokenizer=tokenizer,
            normalize=normalize,
            make_vocab=functools.partial(
                Vocab, min_freq=min_freq, reserved_tokens=tuple(reserved_tokens)
            ),
        )
    if not len(learned[0]):
        msg = f"{name} must hold at least one token, got none: {_why_empty(text, learned[1])}"
        raise CorpusError(msg)
    return learned


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
        msg = (
            f"{name} must be text in {encoding}, got byte 0x{content[error.start]:02x} "
            f"at offset {error.start} ({error.reason}): convert it, name its encoding, "
            'or read it as bytes with tokenizer="byte"'
        )
        raise CorpusError(msg) from error
    except (LookupError, ValueError) as error:
        msg = f"encoding must be one that Python knows, got {encoding!r}"
        raise ArgumentError(msg) from error


def _why_empty(text: str | bytes, tokenizer: Tokenizer) -> str:
    if not text:
        return "the text is empty"
    if getattr(tokenizer, "normalize", False):
        return "nothing but letters a-z survives normalising; use normalize=False"
    return "the tokenizer found none in it"
