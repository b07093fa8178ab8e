"""Tokenizers of other packages, made by their own writers."""

import contextlib
import io
from pathlib import Path
from typing import Any

import sentencepiece
import tiktoken
import tokenizers
from tiktoken._educational import bpe_train

from tokenloom.text.huggingface import BpeLearner

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


def make_encoding(num_ids: int = 290) -> Any:
    """Return an encoding of tiktoken, learnt by its own code."""
    pattern = r"'(?i:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+"
    with contextlib.redirect_stdout(io.StringIO()):
        ranks = bpe_train("\n".join(TEXTS), num_ids - 1, pattern, visualise=None)
    return tiktoken.Encoding(
        "mine", pat_str=pattern, mergeable_ranks=ranks, special_tokens={END: num_ids + 5}
    )


def train_model(**named: Any) -> Any:
    """Return a processor of sentencepiece, with a model that its trainer made."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text for text in TEXTS * 9 if text]),
        model_writer=model,
        vocab_size=320,
        hard_vocab_limit=False,
        byte_fallback=True,
        minloglevel=2,
        num_threads=1,
        **named,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
