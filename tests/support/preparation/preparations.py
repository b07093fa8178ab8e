"""What a preparation must come to, slowly, and executors of every kind."""

import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np

import tokenloom as tl
from tokenloom.preparation.options import PrepareOptions, reserve
from tokenloom.text.interface import Tokenizer
from tokenloom.text.tokenizers import ByteTokenizer, CharTokenizer, WordTokenizer
from tokenloom.text.vocab import UNKNOWN_TOKEN, Vocab


class HereExecutor(Executor):
    """Does each chunk when it is submitted, in this thread."""

    def submit(self, do: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Call the function, and return what came of it as a future."""
        future: Future[Any] = Future()
        try:
            future.set_result(do(*args, **kwargs))
        except tl.TokenloomError as error:
            future.set_exception(error)
        return future


class Shifted:
    """The bytes of a text, and a number added to each."""

    vocab_size = 256

    def __init__(self, by: int) -> None:
        self.by = by

    def encode(self, text: str, /) -> list[int]:
        """Return the sums."""
        return [(byte + self.by) % 256 for byte in text.encode()]

    def decode(self, ids: list[int], /) -> str:
        """Return the text."""
        return bytes((id_ - self.by) % 256 for id_ in ids).decode()


def split_paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text, line by line."""
    paragraphs: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.strip(" \t\r\f\v"):
            paragraphs[-1].append(line)
        else:
            paragraphs.append([])
    return ["\n".join(lines).rstrip("\r\n") for lines in paragraphs if lines]


def clean(line: str) -> str:
    """Return a line as the textbook normalises it."""
    return re.sub("[^A-Za-z]+", " ", line).strip().lower()


def tokens_of(text: str, tokenizer: str, *, normalize: bool) -> list[str]:
    """Return the tokens of a document, without any of our own code."""
    if normalize:
        lines = [clean(line) for line in re.split("[\r\n]", text)]
        return list("".join(lines)) if tokenizer == "char" else " ".join(lines).split()
    return list(text) if tokenizer == "char" else text.split()


def number_documents(
    texts: list[str], tokenizer: str, options: PrepareOptions, *, vocab_size: int | None = None
) -> tuple[list[int], list[int], Tokenizer]:
    """Return ids, offsets of the documents and the tokenizer."""
    made: Tokenizer = ByteTokenizer()
    if tokenizer != "byte":
        each = [tokens_of(text, tokenizer, normalize=options.normalize) for text in texts]
        counts = Counter(token for tokens in each for token in tokens)
        if vocab_size is not None:
            special = {UNKNOWN_TOKEN, *reserve(options)}
            others = [token for token in counts if token not in special]
            others = [token for token in others if counts[token] >= options.min_freq]
            # Sorting is stable, and a Counter keeps the order of first appearance.
            others.sort(key=lambda token: -counts[token])
            known = {*special, *others[: vocab_size - len(special)]}
            counts = Counter({token: num for token, num in counts.items() if token in known})
        vocab = Vocab(dict(counts), min_freq=options.min_freq, reserved_tokens=reserve(options))
        kind = CharTokenizer if tokenizer == "char" else WordTokenizer
        made, ids = kind(vocab, options.normalize), [vocab[tokens] for tokens in each]
        end = [] if options.end_of_document is None else [vocab[str(options.end_of_document)]]
    else:
        ids = [list(text.encode("utf-8")) for text in texts]
        end = [] if options.end_of_document is None else [int(options.end_of_document)]
    whole = [document + end for document in ids]
    offsets = np.cumsum([0, *map(len, whole)]).tolist()
    return [id_ for document in whole for id_ in document], offsets, made


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file of a store."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
