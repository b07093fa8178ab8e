"""Byte-level BPE of a tokenizer.json, encoded by the package ``tiktoken`` where it is installed.

It makes the same ids several times faster, of the texts and tokenizers of which
that is certain. tiktoken merges two neighbours wherever their bytes are a token,
while a tokenizer.json lists which two are merged. That is the same where each
token comes of one merge, whose parts are bytes or tokens of earlier merges, and
where its own bytes, on their own, become it: then the neighbours that have its
bytes when its turn comes are always the same two.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tokenloom._optional import import_optional
from tokenloom.errors import UsageError
from tokenloom.text.ids import Ids

# How the models of OpenAI, Meta and Alibaba split a text. The two packages interpret some regular
# expressions differently, but not these.
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3, _QWEN2 = (
    rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    for digits in (r"\p{N}{1,3}", r"\p{N}")
)
_PATTERNS = (_GPT2, _LLAMA3, _QWEN2)
# Characters whose kinds the Unicode versions of both packages agree on: Latin, but for the long
# s that is also an s, and common punctuation.
_find_other = re.compile("[^\0-\u017e\u0180-\u024f\u2010-\u2027\u2030-\u205e\u20ac]").search
# tiktoken is slow on long words.
_MAX_RUN = 1000
_find_long_space = re.compile(rf"\s{{{_MAX_RUN}}}").search
_NUM_BYTES = 256


class ByteMerges(NamedTuple):
    """The encoder of plain texts.

    Attributes
    ----------
    encoding : tiktoken.Encoding
        Its ids are the numbers of bytes, then of merges.
    id_of : array of int, shape (256 + num_merges,)
        The id of each of these in the tokenizer.
    """

    encoding: Any
    id_of: Ids

    def encode(self, text: str) -> Ids | None:
        """Return the ids of a text, or None if tiktoken might give other ids."""
        if not is_plain(text):
            return None
        return self.id_of[np.asarray(self.encoding.encode_ordinary(text), np.int64)]


def is_plain(text: str) -> bool:
    r"""Return whether a text has common characters only, and no long words or spaces.

    >>> is_plain("a caf\u00e9"), is_plain("\u4e2d"), is_plain("a" * 10_000)
    (True, False, False)
    """
    if not text.isascii() and _find_other(text):
        return False
    words = text.split()
    if max(map(len, words), default=0) > _MAX_RUN:
        return False
    spare = len(text) - sum(map(len, words)) - len(words)
    return spare < _MAX_RUN or not _find_long_space(text)


def find_byte_merges(
    content: str, byte_of: Mapping[str, int], special: Sequence[str], added: Sequence[str]
) -> ByteMerges | None:
    """Return an encoder that gives the ids of a tokenizer.json, or None.

    Parameters
    ----------
    content : str
        The JSON.
    byte_of : mapping of str to int
        Which byte each character of a byte-level vocabulary stands for.
    special, added : sequence of str
        Tokens that are special, and all that were added to the model.
    """
    value = json.loads(content)
    model, pattern = value["model"], _find_pattern(value)
    if pattern is None or not _is_simple(model) or set(added) - set(special):
        return None
    ids, merges = model["vocab"], [_pair(merge) for merge in model["merges"]]
    tokens = [*byte_of, *("".join(pair) for pair in merges)]
    is_known = len(set(tokens)) == len(tokens) and all(token in ids for token in tokens)
    if (
        not is_known
        or not _are_in_order(byte_of, merges)
        or (model.get("ignore_merges") and ids.keys() - set(tokens))
    ):
        return None
    try:
        tiktoken = import_optional("tiktoken", purpose="encoding faster", extra="tiktoken")
        package = import_optional("tokenizers", purpose="encoding", extra="tokenizers")
    except UsageError:
        return None
    if not _become_themselves(package, value, tokens[_NUM_BYTES:]):
        return None
    ranks = {
        bytes(byte_of[character] for character in token): rank for rank, token in enumerate(tokens)
    }
    encoding = tiktoken.Encoding(
        "tokenizer.json", pat_str=pattern, mergeable_ranks=ranks, special_tokens={}
    )
    return ByteMerges(encoding, np.array([ids[token] for token in tokens], np.int64))


def _is_simple(model: Mapping[str, Any]) -> bool:
    """Return whether a model merges bytes, and does nothing else."""
    others = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
    return model.get("type") == "BPE" and not any(model.get(name) for name in others)


def _find_pattern(value: Mapping[str, Any]) -> str | None:
    """Return how a tokenizer.json splits texts, or None for an unknown pattern."""
    if value.get("normalizer") is not None:
        return None
    match value.get("pre_tokenizer"):
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}:
            return _GPT2
        case {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": str(pattern)},
                    "behavior": "Isolated",
                    "invert": False,
                },
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        } if pattern in _PATTERNS:
            return pattern
    return None


def _pair(merge: str | list[str]) -> list[str]:
    """Return the two tokens of a merge, which older files write with a space between."""
    return merge.split(" ") if isinstance(merge, str) else merge


def _are_in_order(first: Iterable[str], merges: Sequence[list[str]]) -> bool:
    """Return whether each part of a merge is a byte or the token of an earlier merge.

    >>> _are_in_order("abc", [["a", "b"], ["ab", "c"]]), _are_in_order("abc", [["ab", "c"]])
    (True, False)
    """
    tokens = set(first)
    for pair in merges:
        if not tokens.issuperset(pair):
            return False
        tokens.add("".join(pair))
    return True


def _become_themselves(package: Any, value: dict[str, Any], tokens: Sequence[str]) -> bool:
    """Return whether each token, on its own, is merged to itself."""
    merging = {**value, "model": {**value["model"], "ignore_merges": False}}
    tokenize = package.Tokenizer.from_str(json.dumps(merging)).model.tokenize
    return all(len(tokenize(token)) == 1 for token in tokens)
