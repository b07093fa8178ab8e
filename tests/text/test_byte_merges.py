"""Byte-level BPE, encoded by tiktoken."""

import functools
import itertools
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.text import huggingface
from tokenloom.text.byte_merges import _PATTERNS, ByteMerges
from tokenloom.text.huggingface import BpeLearner, HuggingFaceTokenizer

WORDS = "the then café It's we'll THEY'VE 2025 12 1234 ab abc abcd aaa aaaa === -> \n\n \t x\r\n"
LEARNED = BpeLearner(400).learn([WORDS * 3, "banana bandana can't, won't; l'œuvre ½ 10%"] * 5)
Changes = Callable[[dict[str, Any]], object]


def split_by(value: dict[str, Any], pattern: str) -> None:
    """Let a tokenizer.json split texts by a pattern, as those of Llama 3 and Qwen 2 do."""
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    parts = [{**split, "invert": False}, {**level, "use_regex": False}]
    value["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": parts}


def change(changes: Changes) -> HuggingFaceTokenizer:
    """Return the tokenizer with another JSON."""
    value = json.loads(LEARNED.content)
    changes(value)
    return HuggingFaceTokenizer.of(json.dumps(value))


def find(tokenizer: HuggingFaceTokenizer) -> ByteMerges | None:
    """Return what encodes faster, found anew."""
    return huggingface._find_merges.__wrapped__(tokenizer)


def encode_directly(tokenizer: HuggingFaceTokenizer, text: str) -> list[int]:
    """Return what the package tokenizers makes of a text."""
    ids: list[int] = tokenizer.encoder.encode(text, add_special_tokens=False).ids
    return ids


TOKENIZERS = [
    LEARNED,
    *(change(functools.partial(split_by, pattern=pattern)) for pattern in _PATTERNS),
]


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=["learned", "GPT-2", "Llama 3", "Qwen 2"])
def test_common_characters_have_equal_ids(tokenizer: HuggingFaceTokenizer) -> None:
    """Each common character, alone and beside others, is split as by the package tokenizers."""
    merges = find(tokenizer)
    assert merges is not None
    numbers = itertools.chain(range(0x17F), range(0x180, 0x250), range(0x2010, 0x2028))
    for character in map(chr, numbers):
        text = "".join(f"{character}{other}" for other in ("", "a", " ", "1", "'s", "\n", " ."))
        ids = merges.encode(text)
        assert ids is not None
        assert encode_directly(tokenizer, text) == ids.tolist()


@given(st.text(st.sampled_from("abcdn 's'LVEt12\n\r\té½-=\u2019\u00a0\x1c\x85")))
def test_texts_have_equal_ids(text: str) -> None:
    """Words of tokens that overlap, and white space, have the ids of the package tokenizers."""
    for tokenizer in TOKENIZERS:
        merges = huggingface._find_merges(tokenizer)
        assert merges is not None
        ids = merges.encode(text)
        assert ids is not None
        assert encode_directly(tokenizer, text) == ids.tolist()


@given(st.data())
@settings(max_examples=300)
def test_any_merges_are_refused_or_equal(data: st.DataObject) -> None:
    """Where some tokens are out of reach of the merges, tiktoken would reach them."""

    def merge_anything(value: dict[str, Any]) -> None:
        tokens, merges = list("abc"), []
        for _ in range(data.draw(st.integers(2, 7))):
            pair = [data.draw(st.sampled_from(tokens)) for _ in range(2)]
            if (token := "".join(pair)) not in tokens:
                tokens.append(token)
                merges.append(pair)
        ids = value["model"]["vocab"]
        for token in tokens:
            ids.setdefault(token, len(ids))
        value["model"]["merges"] = merges

    tokenizer = change(merge_anything)
    merges = find(tokenizer)
    text = data.draw(st.text("abc", min_size=1, max_size=60))
    if merges is not None:
        ids = merges.encode(text)
        assert ids is not None
        assert encode_directly(tokenizer, text) == ids.tolist()


def _repeat_token(value: dict[str, Any]) -> None:
    # "aaa" of "aa" and "a", and of "a" and "aa".
    ids, merges = value["model"]["vocab"], value["model"]["merges"]
    for token in ("aa", "aaa"):
        ids.setdefault(token, len(ids))
    value["model"]["merges"] = [["a", "a"], ["aa", "a"], ["a", "aa"], *merges]


def _use_later_token(value: dict[str, Any]) -> None:
    # "qxz" becomes itself, although it is merged of what comes later.
    ids = value["model"]["vocab"]
    for token in ("qx", "qxz"):
        ids.setdefault(token, len(ids))
    value["model"]["merges"] = [["qx", "z"], ["q", "x"]]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(lambda value: value.update(normalizer={"type": "NFC"}), id="normalizer"),
        pytest.param(
            lambda value: value["pre_tokenizer"].update(add_prefix_space=True), id="prefix"
        ),
        pytest.param(lambda value: split_by(value, r"\s+|\S+"), id="pattern"),
        pytest.param(lambda value: value["added_tokens"][0].update(special=False), id="added"),
        pytest.param(lambda value: value["model"].update(ignore_merges=True), id="whole words"),
        pytest.param(lambda value: value["model"]["merges"].reverse(), id="out of reach"),
        pytest.param(_repeat_token, id="two merges"),
        pytest.param(_use_later_token, id="out of order"),
    ],
)
def test_other_tokenizers_are_left_to_their_package(changes: Changes) -> None:
    """What might have other ids is not encoded by tiktoken."""
    assert find(change(changes)) is None


def test_other_texts_are_left_to_their_package() -> None:
    """So are rarer characters, halves of surrogate pairs, and long words and white space."""
    merges = find(LEARNED)
    assert merges is not None
    for text in ("中", "\u017f", "\ud800", "a" * 1001, "a" + "\n " * 501):
        assert merges.encode(text) is None


def test_it_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without tiktoken the package tokenizers encodes."""
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    assert find(LEARNED) is None


def test_long_lists_of_texts_have_equal_ids() -> None:
    """Texts that tiktoken encodes stand among those that it does not, each at its place."""
    texts = [f"{number} {WORDS * 40}" + "中" * (number % 3 == 1) for number in range(200)]
    assert sum(map(len, texts)) >= huggingface._MANY_CHARACTERS
    found = list(LEARNED.encode_texts(texts))
    assert huggingface._find_merges.cache_info().currsize
    assert len(found) == len(texts)
    for text, ids in list(zip(texts, found, strict=True))[::13]:
        assert encode_directly(LEARNED, text) == ids.tolist()


def test_special_tokens_are_text_or_allowed() -> None:
    """A special token that is spelled out is text, unless allowed, in long lists too."""
    texts = [f"<|endoftext|>{WORDS * 100}"] * 80
    allowing = HuggingFaceTokenizer.of(LEARNED.content, allow_special=True)
    assert next(LEARNED.encode_texts(texts))[0] != LEARNED.find_token("<|endoftext|>")
    assert next(allowing.encode_texts(texts))[0] == allowing.find_token("<|endoftext|>")
