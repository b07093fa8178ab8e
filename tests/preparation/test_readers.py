"""The documents in a chunk's bytes."""

import json
from collections import Counter
from typing import Any

import pytest

from tokenloom.errors import CorpusError
from tokenloom.preparation.forms import Cursor, FormName, Reading, Slice
from tokenloom.preparation.readers import find_segments


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
