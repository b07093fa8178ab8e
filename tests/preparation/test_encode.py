"""Chunks to ids."""

from typing import Any

import numpy as np
import pytest

from tokenloom.errors import CorpusError
from tokenloom.preparation.chunks import Chunk
from tokenloom.preparation.encode import (
    BuildVocab,
    EncodeWith,
    encode_chunk,
    read_counts,
    read_ids,
)
from tokenloom.preparation.forms import Cursor, Reading, Slice
from tokenloom.text.tokenizers import (
    ByteTokenizer,
    CharTokenizer,
    CountedTokenizer,
    complete,
    make_tokenizer,
    tokenizer_for,
)
from tokenloom.text.vocab import Vocab

READING = Reading("text", "stop")


def counting(name: str) -> CountedTokenizer:
    """Return a tokenizer that is to count its vocabulary, without normalising."""
    tokenizer = make_tokenizer(name, normalize=False)
    assert isinstance(tokenizer, CountedTokenizer)
    return tokenizer


def make_task(*contents: str, **changes: Any) -> Chunk:
    """Return a chunk of one slice for each file."""
    slices = [
        Slice(Cursor(number), f"{number}.txt", "file", content.encode(), goes_on=False)
        for number, content in enumerate(contents)
    ]
    if changes:
        slices[-1] = slices[-1]._replace(**changes)
    return Chunk(0, tuple(slices), Cursor(9), 0, {})


@pytest.mark.parametrize(
    ("name", "counts", "numbers"),
    [
        ("word", {"b": 2, "a": 1, "c": 1}, [0, 1, 3, 2, 0, 3]),
        ("char", {"b": 2, " ": 2, "a": 1, "c": 1}, [0, 1, 2, 4, 3, 1, 0, 4]),
    ],
)
def test_tokens_are_numbered_as_they_come(
    name: str, counts: dict[str, int], numbers: list[int]
) -> None:
    """Over all documents of a chunk; the number behind the last ends a document."""
    how = BuildVocab(counting(name), marks_ends=True)
    facts, blobs = encode_chunk(make_task("b a", "c b"), READING, how)
    assert (numbers, None) == (list(blobs[0]), facts["num_unknown"])
    assert list(counts.items()) == list(read_counts(blobs).items())


def test_numbers_become_ids() -> None:
    """Of the vocabulary that was learned of all chunks."""
    chunk = make_task("b a", "c b")
    vocab = Vocab({"c": 9, "b": 8, "a": 1}, min_freq=2, reserved_tokens=["<eod>"])
    with_ends = encode_chunk(chunk, READING, BuildVocab(counting("word"), marks_ends=True))
    without = encode_chunk(chunk, READING, BuildVocab(counting("word")))
    assert [3, 0, 1, 2, 3, 1] == read_ids(*with_ends, vocab, "<eod>").tolist()
    assert [3, 0, 2, 3] == read_ids(*without, vocab, None).tolist()


def test_ids_that_are_known_stay() -> None:
    """There is nothing to learn."""
    vocab = Vocab(["a", "b"])
    result = encode_chunk(make_task("ab?"), READING, EncodeWith(tokenizer_for(vocab)))
    assert [1, 2, 0] == read_ids(*result, vocab, None).tolist()
    assert {} == read_counts(result.blobs)


def test_the_end_of_a_document_may_need_a_wider_type() -> None:
    """Of 256 tokens the numbers fit in a byte, that of the end does not."""
    text = "".join(chr(0x100 + code) for code in range(256))
    how = BuildVocab(counting("char"), marks_ends=True)
    facts, blobs = encode_chunk(make_task(text), READING, how)
    assert [*range(257)] == np.frombuffer(blobs[0], facts["dtype"]).tolist()
    facts, blobs = encode_chunk(make_task(text), READING, how._replace(marks_ends=False))
    assert [*range(256)] == np.frombuffer(blobs[0], facts["dtype"]).tolist()
    assert "|u1" == facts["dtype"]


def test_what_a_chunk_tells() -> None:
    """Ids, ends of documents, and what is counted."""
    tokenizer = CharTokenizer(Vocab(list("ab")))
    how = EncodeWith(tokenizer, end_id=2)
    chunk = make_task("ab c", "b", "aé", goes_on=True)
    result = encode_chunk(chunk, READING, how)

    assert [1, 2, 0, 0, 2, 2, 2, 1] == list(result.blobs[0])
    assert [5, 7] == np.frombuffer(result.blobs[1], "<i8").tolist()
    assert {
        "num_tokens": 8,
        "dtype": "|u1",
        "num_characters": 7,
        "num_unknown": 2,
        "lost": [7, 1, 1, 0, 0],
        "problems": {},
        "documents": [[0, 1], [1, 1], [2, 0]],
        "has_end": True,
        "open_characters": 2,
    } == result.facts


def test_bytes_count_characters_too() -> None:
    """There is no unknown byte."""
    reading = Reading("text", "stop", as_bytes=True)
    result = encode_chunk(make_task("é\x00"), reading, EncodeWith(ByteTokenizer()))
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
    result = encode_chunk(make_task("to be", "or"), READING, EncodeWith(complete(Lengths())))
    assert [2, 2, 2] == np.frombuffer(result.blobs[0], "<u2").tolist()
    assert [2, 3] == np.frombuffer(result.blobs[1], "<i8").tolist()


class Unread(Lengths):
    """Has lost its file."""

    def encode(self, _: str, /) -> list[int]:
        """Try to read it."""
        raise FileNotFoundError(2, "No such file", "merges.txt")


def test_an_own_tokenizer_that_cannot_read_is_named() -> None:
    """It is not the store that could not be written."""
    expected = r"tokenizer Unread must encode .*: \[Errno 2\] No such file: 'merges\.txt'"
    with pytest.raises(CorpusError, match=expected):
        encode_chunk(make_task("to be"), READING, EncodeWith(complete(Unread())))


def test_a_chunk_without_documents() -> None:
    """Is no error."""
    chunk = make_task("\n", form="paragraph")
    result = encode_chunk(chunk, READING, EncodeWith(ByteTokenizer()))
    assert [b"", b""] == result.blobs
