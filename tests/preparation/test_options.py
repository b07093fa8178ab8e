"""What a preparation is told."""

import json
from fractions import Fraction
from typing import Any, cast

import numpy as np
import pytest

from tokenloom.errors import ArgumentError
from tokenloom.preparation.encode import BuildVocab, EncodeWith
from tokenloom.preparation.options import PrepareOptions, choose_method, reserve
from tokenloom.text.tokenizers import ByteTokenizer, CharTokenizer, WordTokenizer
from tokenloom.text.vocab import Vocab

VOCAB = Vocab(["a", "b"], reserved_tokens=["<eod>"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"documents": "page"},
            "^documents must be 'file', 'paragraph', 'line' or 'jsonl', got 'page'",
        ),
        ({"on_error": "ignore"}, "^on_error must be 'stop', 'skip' or 'replace', got 'ignore'"),
        ({"split_by": "token"}, "^split_by must be 'document' or 'block', got 'token'"),
        ({"min_freq": -1}, "^min_freq must be"),
        ({"task_bytes": 0}, "^task_bytes must be"),
        ({"shard_tokens": 0}, "^shard_tokens must be"),
        ({"reserved_tokens": "<pad>"}, "^reserved_tokens must be a sequence of str"),
        ({"splits": {"valid": 0}}, "^splits must be fractions above 0"),
        ({"splits": {"valid": 0.6, "test": 0.4}}, "sum is below 1"),
        ({"splits": {"train": 0.6}}, "^splits must have other names than 'train'"),
        ({"splits": {"valid": "x"}}, r"^splits must be a mapping of names .* got {'valid': 'x'}"),
        ({"splits": {1: 0.3}}, "^splits must be a mapping of names"),
        ({"splits": {"": 0.3}}, "^splits must be a mapping of names"),
        ({"splits": [("a", 0.1)]}, "^splits must be a mapping of names"),
        ({"splits": {"valid": float("nan")}}, "^splits must be fractions above 0"),
        ({"field": 5}, "^field must be a str, got 5"),
        ({"normalize": "no"}, "^normalize must be True or False, got 'no'"),
        ({"min_freq": True}, "^min_freq must be an integer of at least 0, got True"),
        ({"end_of_document": True}, "^end_of_document must be an integer of at least 0, got True"),
        ({"end_of_document": 1.5}, "^end_of_document must be an integer"),
        ({"reserved_tokens": ["<pad>", ""]}, "^reserved_tokens must .* got an empty one: ''"),
        ({"reserved_tokens": ["\udc00"]}, "^reserved_tokens must .* got half of a character"),
        ({"end_of_document": ""}, "^end_of_document must have .* got an empty one"),
        ({"end_of_document": "a\ud83d"}, "^end_of_document must have .* got half of a character"),
        ({"reserved_tokens": [1]}, "^reserved_tokens must be a sequence of str"),
        ({"reserved_tokens": {"a", "b"}}, "^reserved_tokens must be a sequence of str"),
        ({"reserved_tokens": None}, "^reserved_tokens must be a sequence of str"),
        ({"documents": np.array(["file", "record"])}, "^documents must be"),
    ],
)
def test_options_are_checked(changes: dict[str, Any], message: str) -> None:
    """When they are made, not hours later."""
    with pytest.raises(ArgumentError, match=message):
        PrepareOptions(**changes)


def test_the_older_word_for_jsonl_means_the_same() -> None:
    """Scripts written before still work, with a warning; stores still say "record"."""
    with pytest.warns(DeprecationWarning, match="documents='record' is now documents='jsonl'") as w:
        options = PrepareOptions(documents="record")
    assert __file__ == w[0].filename
    assert PrepareOptions(documents="jsonl") == options
    assert ("jsonl", "record") == (options.documents, options.describe()["documents"])


def test_options_of_other_packages_are_plain() -> None:
    """So that they can be stored, and compared."""
    options = PrepareOptions(
        normalize=cast("bool", np.True_),
        min_freq=cast("int", np.int32(2)),
        reserved_tokens=cast("list[str]", np.array(["<pad>"])),
        end_of_document=cast("int", np.int64(7)),
        splits={"valid": cast("float", np.float32(0.5)), "test": cast("float", Fraction(1, 4))},
        task_bytes=cast("int", np.int64(7)),
    )
    plain = PrepareOptions(
        min_freq=2,
        reserved_tokens=["<pad>"],
        end_of_document=7,
        splits={"valid": 0.5, "test": 0.25},
        task_bytes=7,
    )
    assert plain == options
    assert json.dumps(plain.describe()) == json.dumps(options.describe())


@pytest.mark.parametrize(
    ("tokenizer", "changes", "message"),
    [
        ("bpf", {}, "^tokenizer must be 'char', 'word', 'byte', 'bpe', 'tiktoken:NAME', the path"),
        ("bpe", {"min_freq": 2}, "^min_freq must be left out where the tokenizer counts no"),
        ("bpe", {"normalize": False}, "^normalize must be left out"),
        (CharTokenizer, {}, "^tokenizer must be"),
        (3, {}, "^tokenizer must be"),
        (np.array([1, 2]), {}, "^tokenizer must be"),
        ("byte", {"min_freq": 2}, "^min_freq must be left out where the tokenizer counts no"),
        (VOCAB, {"normalize": False}, "^normalize must be left out"),
        (VOCAB, {"reserved_tokens": ["<pad>"]}, "^reserved_tokens must be left out"),
        ("byte", {"end_of_document": "<eod>"}, r"must be an id in \[0, 256\)"),
        ("byte", {"end_of_document": 256}, r"^end_of_document must be an integer in \[0, 256\)"),
        (VOCAB, {"end_of_document": "<end>"}, "or a token of the tokenizer's vocabulary"),
        ("char", {"end_of_document": 3}, "^end_of_document must be a token such as '<eod>'"),
        ("word", {"reserved_tokens": ["<unk>"]}, "^reserved_tokens must differ"),
    ],
)
def test_tokenizers_are_checked(tokenizer: Any, changes: dict[str, Any], message: str) -> None:
    """What a tokenizer cannot do is told before anything is read."""
    with pytest.raises(ArgumentError, match=message):
        choose_method(tokenizer, PrepareOptions(**changes))


@pytest.mark.parametrize(("tokenizer", "vocab_size"), [("char", 3), ("word", 1)])
def test_too_few_ids_are_refused_before_anything_is_read(tokenizer: str, vocab_size: int) -> None:
    """The token after each document needs one too."""
    options = PrepareOptions(end_of_document="<eod>", reserved_tokens=["<pad>"])
    with pytest.raises(ArgumentError, match=r"^vocab_size must be at least 4, for <unk>, 2 "):
        choose_method(tokenizer, options, vocab_size=vocab_size)


def test_methods() -> None:
    """The vocabularies of two kinds are counted, all others exist."""
    options = PrepareOptions(normalize=False, end_of_document="<eod>")
    word = WordTokenizer(Vocab(), normalize=False)
    method = choose_method("word", options)
    assert (word, BuildVocab(word, True, ("<unk>", "<eod>")), 1) == (  # noqa: FBT003  one of three
        method.tokenizer,
        method.how,
        method.end_id,
    )
    for given, made in (("byte", ByteTokenizer()), (VOCAB, CharTokenizer(VOCAB, normalize=False))):
        method = choose_method(given, PrepareOptions())
        reserved: dict[int, str | int] = {} if given == "byte" else {1: "<eod>"}
        assert (made, EncodeWith(made, None, reserved)) == (method.tokenizer, method.how)
    own = WordTokenizer(VOCAB)
    method = choose_method(own, PrepareOptions(end_of_document="a"))
    assert own is method.tokenizer
    assert (EncodeWith(own, 2, {1: "<eod>", 2: "a"}), 2) == (method.how, method.end_id)


def describe(tokenizer: object) -> object:
    """Return what is compared of a tokenizer before a run is resumed."""
    return choose_method(tokenizer, PrepareOptions()).settings["tokenizer"]


def test_a_method_is_described() -> None:
    """By what makes its ids, and by all options."""
    assert {"name": "char"} == describe("char")
    assert {
        "name": "char",
        "normalize": False,
        "vocab_size": 4,
        "vocab": VOCAB.hash,
    } == describe(VOCAB)
    options = PrepareOptions(min_freq=2)
    assert {"tokenizer": {"name": "word"}, **options.describe()} == choose_method(
        "word", options
    ).settings


class Bases:
    """Knows some letters, and no others."""

    vocab_size = 4

    def __init__(self, letters: str) -> None:
        self.letters = letters

    def encode(self, text: str, /) -> list[int]:
        """Return their numbers."""
        return [self.letters.index(letter) for letter in text]

    def decode(self, ids: list[int], /) -> str:
        """Return the letters."""
        return "".join(self.letters[id_] for id_ in ids)


def test_tokenizers_of_few_characters_are_told_apart() -> None:
    """Though they cannot encode what others can."""
    first, again, other = (describe(Bases(letters)) for letters in ("ACGT", "ACGT", "TGCA"))
    assert first == again
    assert first != other


def test_the_end_of_a_document_is_reserved_once() -> None:
    """It may be among the reserved tokens already."""
    options = PrepareOptions(reserved_tokens=["<eod>", "<pad>"], end_of_document="<eod>")
    assert ["<eod>", "<pad>"] == reserve(options)
