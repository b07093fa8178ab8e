"""Tokenizers of other packages: their objects and their files."""

import os
import sys
from collections.abc import Callable
from typing import Any

from tokenloom._io.kinds import HEAD_BYTES, recognise_container
from tokenloom._io.regular import read_bounded
from tokenloom._wording import join_choices, show
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.text.by_value import SubwordTokenizer
from tokenloom.text.encodings import TOKENIZER_RANKS, TiktokenTokenizer, read_ranks
from tokenloom.text.huggingface import TOKENIZER_JSON, HuggingFaceTokenizer, write_json
from tokenloom.text.sentencepieces import TOKENIZER_MODEL, SentencePieceTokenizer, read_model
from tokenloom.text.vocab import Vocab, is_vocab

FILE_NAMES = (TOKENIZER_JSON, TOKENIZER_RANKS, TOKENIZER_MODEL)
# More than any tokenizer's file.
_MAX_BYTES = 1 << 30


def adopt(value: object, *, allow_special: bool = False) -> SubwordTokenizer | None:
    """Return the tokenizer of an object of another package, or None for any other object.

    Parameters
    ----------
    value : object
        A ``tokenizers.Tokenizer``, a fast tokenizer of transformers, a
        ``tiktoken.Encoding`` or a ``sentencepiece.SentencePieceProcessor``.
    allow_special : bool
        Whether special tokens that are written out in a text become their ids.

    Raises
    ------
    ArgumentError
        It is a slow tokenizer of transformers, or has parts in Python.
    """
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(value).__mro__}
    if ("transformers", "PreTrainedTokenizerBase") in kinds:
        inner = getattr(value, "backend_tokenizer", None)
        if not _is_of(inner, "tokenizers", "Tokenizer"):
            msg = (
                "tokenizer must be a fast one of transformers, got the slow "
                f"{type(value).__name__}: load it with AutoTokenizer, or pass an object with "
                "vocab_size, encode(text) and decode(ids) that calls it"
            )
            raise ArgumentError(msg)
        value = inner
    is_wrapped = ("tokenizers", "BaseTokenizer") in kinds
    if is_wrapped or _is_of(value, "tokenizers", "Tokenizer"):
        return HuggingFaceTokenizer.of(write_json(value), allow_special=allow_special)
    if _is_of(value, "tiktoken", "Encoding"):
        return TiktokenTokenizer.of_encoding(value, allow_special=allow_special)
    if _is_of(value, "sentencepiece", "SentencePieceProcessor"):
        processor: Any = value
        return SentencePieceTokenizer.of(processor.serialized_model_proto())
    return None


def _is_of(value: object, module: str, kind: str) -> bool:
    """Return whether a value is of a class, whose module its maker has imported then."""
    return isinstance(value, getattr(sys.modules.get(module), kind, ()))


def _read_json(content: bytes, name: str, *, allow_special: bool) -> SubwordTokenizer | Vocab:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        msg = f"{name} must be text in UTF-8, got {error.reason} at byte {error.start:,}"
        raise CorpusError(msg) from error
    if is_vocab(text):
        return Vocab.load(name)
    return HuggingFaceTokenizer.of(text, allow_special=allow_special, name=name)


def _check_content(content: bytes, name: str) -> None:
    """Refuse a file that is empty, or that certainly is of another kind."""
    kind = recognise_container(content[:HEAD_BYTES])
    if content and kind is None:
        return
    found = "an empty one" if kind is None else kind.name
    # What is to be done with other kinds is meant for texts.
    is_pointer = kind is not None and kind.name.endswith("Git LFS")
    cure = f": {kind.cure}" if kind is not None and is_pointer else ""
    msg = f"{name} must be the file of a tokenizer, got {found}{cure}"
    raise CorpusError(msg)


def propose_file(folder: str) -> str:
    """Return the end of a message that proposes a tokenizer's file in a folder, or nothing."""
    paths = [os.path.join(folder, name) for name in FILE_NAMES]  # noqa: PTH118  any text may come
    found = [path for path in paths if os.path.isfile(path)]  # noqa: PTH113
    return f": name {show(found[0])}" if found else ""


def read_file(
    path: str | os.PathLike[str], *, allow_special: bool = False
) -> SubwordTokenizer | Vocab:
    """Return the tokenizer that lies in a file.

    Parameters
    ----------
    path : str or path
        A tokenizer.json of the package tokenizers, a file of tiktoken that ends
        with .tiktoken, a .model of sentencepiece, or a vocab.json of tokenloom.
    allow_special : bool
        Whether special tokens that are written out in a text become their ids.

    Raises
    ------
    ArgumentError
        The name has another suffix.
    CorpusError
        The file holds something else.
    OSError
        It cannot be read.
    UsageError
        The package that reads it is not installed.
    """
    name = os.fspath(path)
    for end, read in READERS.items():
        if name.endswith(end):
            content = read_bounded(path, max_bytes=_MAX_BYTES)
            _check_content(content, name)
            return read(content, name, allow_special=allow_special)
    msg = f"a tokenizer's file must end with {join_choices(list(READERS))}, got {show(name)}"
    raise ArgumentError(msg)


READERS: dict[str, Callable[..., SubwordTokenizer | Vocab]] = {
    ".json": _read_json,
    ".tiktoken": read_ranks,
    ".model": read_model,
}
