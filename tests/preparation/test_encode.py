"""Chunks to ids."""

import json
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest

from tokenloom.errors import CorpusError
from tokenloom.preparation.chunks import Chunk
from tokenloom.preparation.encode import (
    BuildVocab,
    EncodeWith,
    encode_chunk,
    find_segments,
    read_counts,
    read_ids,
)
from tokenloom.preparation.forms import Cursor, FormName, Reading, Slice
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
    """Over all documents of a chunk; the number after the last one ends a document."""
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


def find(
    content: bytes,
    form: FormName,
    *,
    start: Cursor | None = None,
    goes_on: bool = False,
    **reading: Any,
) -> tuple[list[tuple[Any, bool]], dict[str, int]]:
    """Return texts with whether their documents end, and the problems."""
    problems: Counter[str] = Counter()
    piece = Slice(start or Cursor(offset=100), "a.txt", form, content, goes_on)
    chosen = Reading(**{"field": "text", "on_error": "stop", **reading})
    found = [(s.text, s.ends) for s in find_segments(piece, chosen, problems)]
    return found, dict(problems)


@pytest.mark.parametrize(
    ("content", "inside", "goes_on", "expected"),
    [
        (b"a\n\nb\n", False, False, [("a", True), ("b", True)]),
        (b"\n \na\nb\r\n\r\n\n c ", False, False, [("a\nb", True), (" c ", True)]),
        (b"a\n\nb", False, True, [("a", True), ("b", False)]),
        (b"\n\nb\n\n", True, False, [("", True), ("b", True)]),
        (b"\nb", True, False, [("\nb", True)]),
        (b"  \n\n", True, False, [("  ", True)]),
        (b"\n", True, False, [("", True)]),
        (b"b", True, True, [("b", False)]),
        (b"b\n \t", False, False, [("b", True)]),
        (b"\n ", True, False, [("", True)]),
        (b"b\n ", False, True, [("b\n ", False)]),
        (b"\n\n \n", False, False, []),
    ],
)
def test_paragraphs(
    content: bytes, inside: bool, goes_on: bool, expected: list[tuple[str, bool]]
) -> None:
    """They end with a blank line, also where they began before."""
    start = Cursor(offset=100, is_inside=inside)
    assert expected == find(content, "paragraph", start=start, goes_on=goes_on)[0]


def test_records() -> None:
    """Each line that is not blank is a document."""
    lines = [{"text": "a\nb"}, {"id": 3, "text": "é😀"}]
    content = b"\n\n".join(json.dumps(line).encode() for line in lines)
    assert [("a\nb", True), ("é😀", True)] == find(content, "record")[0]
    assert [(b"a\nb", True)] == find(content.partition(b"\n")[0], "record", as_bytes=True)[0]


def test_lines() -> None:
    """Each line is a document, whatever ends it; after the last line end there is none."""
    assert [("a", True), (" b", True), ("c", True)] == find(b"a\r\n b\nc", "line")[0]
    assert [("a", True)] == find(b"a\n", "line")[0]
    found = find(b"a\n\n b\n", "line", on_error="replace")
    assert ([("a", True), ("", True), (" b", True)], {"an empty document": 1}) == found


BAD = [
    ("line", b"good\n \n", "an empty document", 105, ""),
    ("line", b"good\nab\xffcd", "undecodable bytes", 107, "ab\ufffdcd"),
    ("file", b"ab\xffcd", "undecodable bytes", 102, "ab\ufffdcd"),
    ("paragraph", b"good\n\nab\xffcd", "undecodable bytes", 108, "ab\ufffdcd"),
    ("record", b'{"text": "good"}\n{"text": "\xff"}', "undecodable bytes", 127, "\ufffd"),
    ("record", b'{"text": "good"}\n{"text": \xff}', "undecodable bytes", 126, ""),
    ("record", b'{"text": "good"}\n{"text": oh}', "invalid JSON", 126, ""),
    ("record", b'{"text": "good"}\n' + b"[" * 100_000, "invalid JSON", 117, ""),
    ("record", b'{"text": "good"}\n{"body": "a"}', "a missing field", 117, ""),
    ("record", b'{"text": "good"}\n{"text": 3}', "a missing field", 117, ""),
    ("record", b'{"text": "good"}\n{"text": null}', "a null value", 117, ""),
    ("record", b'{"text": "good"}\n"text"', "a missing field", 117, ""),
    ("record", b'{"text": "good"}\n{"text": " "}', "an empty document", 117, ""),
    (
        "record",
        b'{"text": "good"}\n{"text": "\\\\ud83d\\ud83d\\ude00\\ud83d"}',
        "undecodable text",
        146,
        "\\ud83d😀\ufffd",
    ),
    ("record", b'{"text": "good"}\n{"text": "a\\uDE00b"}', "undecodable text", 128, "a\ufffdb"),
    ("file", "\u2028\u3000\x1c".encode(), "an empty document", 100, ""),
    ("file", b" \n ", "an empty document", 100, ""),
    ("file", b"", "an empty document", 100, ""),
]


@pytest.mark.parametrize(("form", "content", "what", "offset", "instead"), BAD)
def test_bad_documents_stop(
    form: FormName, content: bytes, what: str, offset: int, instead: str
) -> None:
    """The message has the source, the offset in bytes and the cure."""
    del instead
    with pytest.raises(CorpusError, match=rf"^a.txt has {what} at byte {offset}: .*on_error='"):
        find(content, form)


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (
            b'{"body": "a", "n": 3, "title": "b"}',
            "got one with the strings 'body', 'title': name one with",
        ),
        (b'{"texts": "a"}', "got one with the strings 'texts': name one, such as field='texts'; "),
        (b'{"text": 3, "body": "a"}', "got int; "),
        (b'{"n": 3}', "got one without strings; "),
        (b'["a"]', "got list; "),
    ],
)
def test_the_fields_of_a_line_are_named(content: bytes, got: str) -> None:
    """So that the right one can be named."""
    with pytest.raises(CorpusError, match=f"a string as 'text', {got}"):
        find(content, "record")


@pytest.mark.parametrize(("form", "content", "what", "offset", "instead"), BAD)
@pytest.mark.parametrize("on_error", ["skip", "replace"])
def test_bad_documents_are_left_out_or_replaced(
    form: FormName, content: bytes, what: str, offset: int, instead: str, on_error: str
) -> None:
    """The others are as they were, and each bad one is counted."""
    del offset
    found, problems = find(content, form, on_error=on_error)
    good = [("good", True)] if b"good" in content else []
    assert [*good, *([(instead, True)] if on_error == "replace" else [])] == found
    assert {what: 1} == problems


def test_what_is_left_out_of_a_document_that_began_before() -> None:
    """The document ends all the same."""
    inside = Cursor(offset=100, is_inside=True)
    assert ([("", True)], {"undecodable bytes": 1}) == find(
        b"\xff", "file", start=inside, on_error="skip"
    )


def test_bytes_are_not_decoded() -> None:
    """Any bytes are a text."""
    assert ([(b"\xff", True)], {}) == find(b"\xff", "file", as_bytes=True)


def test_the_line_is_told_too() -> None:
    """From the beginning of the source; of an iterable the document is."""
    start = Cursor(offset=100, line=7)
    with pytest.raises(CorpusError, match=r"at byte 119: in line 11, Expecting value; "):
        find(b'{"text": "good"}\n\n\noh', "record", start=start)
    with pytest.raises(CorpusError, match=r"^a.txt has an empty document in document 8: "):
        find(b'"good"\n" "\n', "string", start=start)


def test_a_worker_imports_little() -> None:
    """Each process that encodes would import the rest before its first chunk."""
    program = """
import sys
import tokenloom.preparation.encode
rooms = {name.split(".")[1] for name in sys.modules if name.startswith("tokenloom.")}
print(sorted(name for name in rooms if not name.startswith("_")), "tqdm" in sys.modules)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert f"{['errors', 'preparation', 'store', 'text']} False\n" == result.stdout
