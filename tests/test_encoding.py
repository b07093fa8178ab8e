"""Tasks to counts and to ids."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokenloom as tl
from tokenloom.encoding import (
    Numbering,
    StoredTokenizer,
    count_task,
    encode_task,
    restore,
    rule_for,
)
from tokenloom.hashing import hash_file
from tokenloom.stretches import Reading
from tokenloom.tasks import Place, Slice, Task
from tokenloom.tokenizers import ByteTokenizer, CharTokenizer, WordTokenizer
from tokenloom.vocab import Vocab

READING = Reading("text", "stop")


def make_task(*contents: str, **changes: Any) -> Task:
    """Return a task of one slice for each file."""
    slices = [
        Slice(Place(number), f"{number}.txt", "file", content.encode(), goes_on=False)
        for number, content in enumerate(contents)
    ]
    if changes:
        slices[-1] = slices[-1]._replace(**changes)
    return Task(0, tuple(slices), Place(9), 0, {})


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


def test_a_vocabulary_that_was_changed_is_refused(tmp_path: Path) -> None:
    """Its ids would be others than those of the tasks before."""
    path = Vocab(["a", "b"]).save(tmp_path / "vocab.json")
    stored = StoredTokenizer("char", normalize=False, path=str(path), hash=hash_file(path))
    Vocab(["b", "a", "a"]).save(path)
    with pytest.raises(
        tl.StoreError, match=r"vocab\.json must have the hash sha256:.* run the same"
    ):
        restore(stored)
