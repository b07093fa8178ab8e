"""Tokenizers of other packages, made by their own writers."""

from pathlib import Path
from typing import Any

import tokenizers

from tokenloom.text.subwords import BpeLearner

TEXTS = (
    "The time traveller (for so it will be convenient to speak of him)",
    "was expounding a recondite matter to us. <|endoftext|> 時間 🙂 café",
    "the time, the place, the time of the time traveller's lecture",
    "",
    "a\n\n\tb\r\n  c\0d",
)
END = "<|endoftext|>"


def make_bpe(num_ids: int = 300) -> Any:
    """Return a byte-level BPE of the package ``tokenizers``, with a special token."""
    made = BpeLearner(num_ids).learn(TEXTS)
    return tokenizers.Tokenizer.from_str(made.content)


def write_bpe(path: Path, *, truncates: bool = False, pads: bool = False) -> Any:
    """Write a tokenizer.json, and return what lies in it."""
    inner = make_bpe()
    if truncates:
        inner.enable_truncation(3)
    if pads:
        inner.enable_padding(length=50)
    inner.save(str(path))
    return inner


def encode_with(inner: Any, text: str) -> list[int]:
    """Return the ids that the package itself gives a text, one call for each."""
    inner.no_truncation()
    inner.no_padding()
    inner.encode_special_tokens = True
    ids: list[int] = inner.encode(text, add_special_tokens=False).ids
    return ids
