"""Bytes to texts, and texts to ids."""

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenloom as tl
from tokenloom.cli.main import main
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.text.documents import TextSegment
from tokenloom.text.encode import decode
from tokenloom.text.normalize import GAP, LETTER, NOTHING, PREFIXES
from tokenloom.text.tokenizers import ByteTokenizer, CharTokenizer, CountedTokenizer, WordTokenizer
from tokenloom.text.vocab import Vocab

texts = st.lists(st.text("aB \n\r.é時"), min_size=1, max_size=5)


@given(texts, st.sampled_from([NOTHING, LETTER, GAP]), st.booleans())
def test_many_documents_in_one_call(parts: list[str], state: int, normalize: bool) -> None:
    """The ids are those of the documents, one by one, and so is where each ends."""
    vocab = Vocab(list("aab ."))
    segments = [
        TextSegment(parts[0], state, ends=True),
        *(TextSegment(p, 0, ends=True) for p in parts[1:]),
    ]
    words, characters = WordTokenizer(vocab, normalize), CharTokenizer(vocab, normalize)
    prefix = PREFIXES[state] if normalize else ""
    for tokenizer, before in ((words, ""), (characters, prefix)):
        each = [tokenizer.encode(part).tolist() for part in parts]
        each[0] = tokenizer.encode(before + parts[0]).tolist()[bool(before) :]
        ids, stops = tokenizer.encode_segments(segments)
        assert list(itertools.chain(*each)) == ids.tolist()
        assert np.cumsum([len(document) for document in each]).tolist() == stops.tolist()


@given(
    texts,
    st.sampled_from([NOTHING, LETTER, GAP]),
    st.sampled_from([CharTokenizer, WordTokenizer]),
    st.booleans(),
)
def test_what_is_learned_are_the_ids_of_any_vocabulary(
    parts: list[str], state: int, kind: type[CountedTokenizer], normalize: bool
) -> None:
    """Numbers stand for tokens, and those for ids."""
    segments = [TextSegment(part, state, ends=True) for part in parts]
    vocab = Vocab(list("aab ."))
    tokenizer = kind(vocab, normalize)
    numbers, stops, counts = kind(Vocab(), normalize).count_segments(segments)
    ids, expected = tokenizer.encode_segments(segments)
    assert ids.tolist() == vocab.to_ids(list(counts))[numbers].tolist()
    assert expected.tolist() == stops.tolist()
    tokens = list(counts)
    assert list(Counter(tokens[index] for index in numbers).items()) == list(counts.items())


@pytest.mark.parametrize(
    ("content", "encoding", "expected"),
    [
        (b"", "utf-8", ""),
        ("é\r\n".encode(), "utf-8", "é\r\n"),
        (b"\xef\xbb\xbfa\xef\xbb\xbf", "utf-8", "a\ufeff"),
        (b"\xe9", "latin-1", "é"),
        ("é".encode("utf-16"), "utf-16", "é"),
        ("\ufeffé".encode("utf-16-le"), "utf-16-le", "é"),
    ],
)
def test_decode(content: bytes, encoding: str, expected: str) -> None:
    """Bytes are read in their encoding, without one byte order mark at the beginning."""
    assert expected == decode(content, name="page", encoding=encoding)


@pytest.mark.parametrize("encoding", ["no-such", "rot13"])
def test_decode_in_an_unknown_encoding(encoding: str) -> None:
    """An encoding that is none of text is refused by name."""
    with pytest.raises(
        ArgumentError, match=f"^encoding must be one that Python knows, got '{encoding}'$"
    ):
        decode(b"a", name="page", encoding=encoding)


@pytest.mark.parametrize(
    ("content", "encoding", "where"),
    [
        (b"a\xff", "utf-8", r"offset 1 \(invalid start byte\), in line 1: .*encoding=, or"),
        (b"a\n\xc3\xa9\r\n\nb\xff", "utf-8", r"offset 8 \(invalid start byte\), in line 4:"),
        ("a\n".encode("utf-16-le") + b"\x00\xd8", "utf-16-le", r"offset 4 \(.*\), in line 2:"),
    ],
)
def test_what_cannot_be_decoded_is_found_by_its_line(
    content: bytes, encoding: str, where: str
) -> None:
    """An editor goes to lines, a program to offsets."""
    with pytest.raises(CorpusError, match=where):
        decode(content, name="page", encoding=encoding)


PROSE = "L'\u00e9t\u00e9 dernier, nous avons visit\u00e9 12 for\u00eats. "


def test_a_text_that_loses_much_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """By the library's logger, with the argument that keeps it; other texts are not."""
    tl.Corpus.from_text("The Time Traveller (for so it will be convenient to speak of him)")
    tl.Corpus.from_text(PROSE, normalize=False)
    tl.Corpus.from_text(PROSE, tokenizer="byte")
    assert [] == caplog.messages
    made = tl.Corpus.from_text(PROSE, name="page")
    tl.Corpus.from_documents([PROSE, PROSE], tokenizer="word", name="pages")
    tl.Corpus.from_text(PROSE, tokenizer=made.tokenizer or "", name="again")
    beginnings = [
        "page: 9 of 44 characters (20 %) are not in a-z and were dropped",
        "pages: 18 of 88 characters",
        "again: 9 of 44 characters",
    ]
    pairs = zip(caplog.messages, beginnings, strict=True)
    ends = ["use normalize=False", "use normalize=False", "(--raw) keeps them"]
    assert [True] * 3 == [
        message.endswith(end) for message, end in zip(caplog.messages, ends, strict=True)
    ]
    assert [True] * 3 == [message.startswith(beginning) for message, beginning in pairs]


def test_many_unknown_tokens_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    """Of a tokenizer that was given, with their share; of one that was made for a text none."""
    made = tl.Corpus.from_text("to be or not", min_freq=2)
    given: Any = {"tokenizer": made.tokenizer}
    tl.Corpus.from_text("to to to " * 99, **given)
    # One in 198.
    tl.Corpus.from_text("to " * 65 + "z", name="few", **given)
    assert [] == caplog.messages
    tl.Corpus.from_text("to xyz", name="page", **given)
    tl.Corpus.from_documents(["to", "xyz"], name="pages", **given)
    tl.Corpus.from_text("xyz", name="all", **given)
    messages = [message.partition(" are unknown")[0] for message in caplog.messages]
    assert [
        "page: 3 of 6 tokens (50 %)",
        "pages: 3 of 5 tokens (60 %)",
        "all: 3 of 3 tokens (100 %)",
    ] == messages


@pytest.mark.parametrize(
    "make", [tl.Corpus.from_text, lambda text: tl.Corpus.from_documents([text])]
)
def test_a_text_that_loses_everything_is_an_error(make: Callable[[str], object]) -> None:
    """It says what is in the text, and what keeps it."""
    message = "none is among the 5 characters; to keep them use normalize=False"
    with pytest.raises(CorpusError, match=message):
        make("\u65f6\u95f4\u65c5\u884c\u8005")


@pytest.mark.parametrize("tokenizer", ["byte", ByteTokenizer()])
def test_every_door_takes_bytes_as_they_are_or_transcodes(tmp_path: Path, tokenizer: Any) -> None:
    """Bytes that are no UTF-8 are tokens too; named in their encoding they become UTF-8."""
    path, content = tmp_path / "a.txt", "na\xefve".encode("latin-1")
    path.write_bytes(content)
    tl.prepare(path, tmp_path / "as-is", tokenizer=tokenizer)
    for corpus in (
        tl.load(path, tokenizer=tokenizer),
        tl.Corpus.from_text(content, tokenizer=tokenizer),
        tl.Corpus.open(tmp_path / "as-is"),
    ):
        assert list(content) == corpus.tokens[:].tolist()
    options = tl.PrepareOptions(encoding="latin-1")
    tl.prepare(path, tmp_path / "utf-8", tokenizer=tokenizer, options=options)
    for corpus in (
        tl.load(path, tokenizer=tokenizer, encoding="latin-1"),
        tl.Corpus.open(tmp_path / "utf-8"),
    ):
        assert list("na\xefve".encode()) == corpus.tokens[:].tolist()
    words = ["show", str(path), "--tokenizer", "byte", "--batch-size", "1", "--seq-len", "3"]
    assert [0, 0] == [main([*words, *more]) for more in ([], ["--encoding", "latin-1"])]
