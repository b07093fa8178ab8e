"""Tasks to counts and to ids."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.cuts import GAP, LETTER, NOTHING
from tokenloom.encoding import (
    Numbering,
    StoredTokenizer,
    count_normalized,
    count_task,
    encode_task,
    number,
    restore,
    rule_for,
)
from tokenloom.hashing import hash_file
from tokenloom.normalize import clean_characters, clean_words
from tokenloom.stretches import Reading, Stretch
from tokenloom.tasks import Place, Slice, Task
from tokenloom.tokenizers import ByteTokenizer, CharTokenizer, WordTokenizer
from tokenloom.vocab import Vocab

READING = Reading("text", "stop")
texts = st.lists(st.text("aB \n\r.é時"), min_size=1, max_size=5)


def make_task(*contents: str, **changes: Any) -> Task:
    """Return a task of one slice for each file."""
    slices = [
        Slice(Place(number), f"{number}.txt", "file", content.encode(), goes_on=False)
        for number, content in enumerate(contents)
    ]
    if changes:
        slices[-1] = slices[-1]._replace(**changes)
    return Task(0, tuple(slices), Place(9), 0, {})


@given(texts)
def test_normalised_tokens_of_each_part(parts: list[str]) -> None:
    """The counts are those of the parts, one by one."""
    joined = "\n".join(parts)
    stops = np.cumsum([len(part.encode()) + 1 for part in parts])
    for clean, counts_characters in ((clean_characters, True), (clean_words, False)):
        each = [clean(part) for part in parts]
        expected = [len(text if counts_characters else text.split()) for text in each]
        counts = count_normalized(joined, stops, counts_characters=counts_characters)
        assert expected == counts.tolist()


@given(texts, st.sampled_from([NOTHING, LETTER, GAP]), st.booleans())
def test_many_documents_in_one_call(parts: list[str], state: int, normalize: bool) -> None:
    """The ids are those of the documents, one by one, and so is where each ends."""
    vocab = Vocab(list("aab ."))
    stretches = [
        Stretch(parts[0], state, ends=True),
        *(Stretch(p, 0, ends=True) for p in parts[1:]),
    ]
    words, characters = WordTokenizer(vocab, normalize), CharTokenizer(vocab, normalize)
    prefix = {NOTHING: "", LETTER: "a", GAP: "a "}[state] if normalize else ""
    for tokenizer, before in ((words, ""), (characters, prefix)):
        each = [tokenizer.encode(part).tolist() for part in parts]
        each[0] = tokenizer.encode(before + parts[0]).tolist()[bool(before) :]
        ids, stops = number(stretches, tokenizer)
        assert list(itertools.chain(*each)) == ids.tolist()
        assert np.cumsum([len(document) for document in each]).tolist() == stops.tolist()


def test_counts_stand_in_order_of_first_appearance() -> None:
    """Over all documents of a task."""
    result = count_task(make_task("b a", "c b"), READING, "word", normalize=True)
    assert ["b", "a", "c"] == list(json.loads(result.blobs[0]))
    result = count_task(make_task("b a", "c b"), READING, "char", normalize=False)
    assert {"b": 2, " ": 2, "a": 1, "c": 1} == json.loads(result.blobs[0])


def test_what_a_task_tells() -> None:
    """Ids, ends of documents, and what is counted."""
    tokenizer = CharTokenizer(Vocab(list("ab")))
    numbering = Numbering(tokenizer, "uint16", end_id=2)
    task = make_task("ab c", "b", "aé", goes_on=True)
    result = encode_task(task, READING, numbering)

    assert [1, 2, 0, 0, 2, 2, 2, 1] == np.frombuffer(result.blobs[0], "<u2").tolist()
    assert [5, 7] == np.frombuffer(result.blobs[1], "<i8").tolist()
    assert {
        "num_tokens": 8,
        "num_characters": 7,
        "num_unknown": 2,
        "problems": {},
        "documents": [[0, 1], [1, 1], [2, 0]],
        "has_end": True,
        "open_characters": 2,
    } == result.facts


def test_bytes_count_characters_too() -> None:
    """There is no unknown byte."""
    reading = Reading("text", "stop", as_bytes=True)
    result = encode_task(make_task("é\x00"), reading, Numbering(ByteTokenizer(), "uint8"))
    assert ("é\x00".encode(), 2, None) == (
        result.blobs[0],
        result.facts["num_characters"],
        result.facts["num_unknown"],
    )


class Lengths:
    """One token per word: how long it is."""

    vocab_size = 300

    def encode(self, text: str, /) -> list[int]:
        """Return the lengths."""
        return [len(word) for word in text.split()]

    def decode(self, ids: list[int], /) -> str:
        """Return words of that length."""
        return " ".join("x" * id_ for id_ in ids)


def test_own_tokenizers_see_whole_documents() -> None:
    """One call for each."""
    result = encode_task(make_task("to be", "or"), READING, Numbering(Lengths(), "uint16"))
    assert [2, 2, 2] == np.frombuffer(result.blobs[0], "<u2").tolist()
    assert [2, 3] == np.frombuffer(result.blobs[1], "<i8").tolist()


def test_a_task_without_documents() -> None:
    """Is no error."""
    task = make_task("\n", form="paragraph")
    result = encode_task(task, READING, Numbering(ByteTokenizer(), "uint8"))
    assert [b"", b""] == result.blobs


@pytest.mark.parametrize("kind", ["char", "word"])
def test_a_stored_tokenizer_is_read(tmp_path: Path, kind: Any) -> None:
    """Each process reads it once."""
    path = Vocab(list("ab")).save(tmp_path / "vocab.json")
    stored = StoredTokenizer(kind, normalize=False, path=str(path), hash=hash_file(path))
    made = restore(stored)
    assert made is restore(stored)
    made_of = CharTokenizer if kind == "char" else WordTokenizer
    assert made_of(Vocab(list("ab")), normalize=False) == made


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        (CharTokenizer(Vocab(list("a"))), "character"),
        (WordTokenizer(Vocab(list("a"))), "letters"),
        (WordTokenizer(Vocab(list("a")), normalize=False), "word"),
        (ByteTokenizer(), "byte"),
        (Lengths(), "whole"),
    ],
)
def test_where_documents_may_be_cut(tokenizer: Any, expected: str) -> None:
    """Nobody knows what another tokenizer does at a cut."""
    assert expected == rule_for(tokenizer)
