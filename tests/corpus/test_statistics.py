"""What is in a store, in numbers."""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenloom as tl
from tests.support.preparation.stores import make_corpus, make_store, make_store_of_sources
from tokenloom.corpus.offsets import DocumentOffsets
from tokenloom.corpus.statistics import (
    StoreDescription,
    TextSize,
    count_ids,
    count_lengths,
    count_tokens,
    describe_store,
    find_smallest,
    measure_text,
    most_frequent,
)
from tokenloom.errors import ArgumentError, UsageError
from tokenloom.text.tokenizers import CharTokenizer
from tokenloom.text.vocab import Vocab


def test_a_store_is_described(tmp_path: Path) -> None:
    """Numbers, splits and tokenizer are those of the corpus, the hash is what a position proves."""
    folder = make_store(tmp_path / "store")

    expected = StoreDescription(
        path=str(folder),
        num_tokens=10,
        vocab_size=9,
        num_documents=3,
        characters_per_token=None,
        unknown_rate=None,
        tokenizer={"name": "word", "normalize": True},
        dtype="uint8",
        num_shards=3,
        num_bytes=sum(path.stat().st_size for path in folder.iterdir()),
        splits={"train": (0, 6)},
        sources=(),
        facts={},
        hash=make_corpus().hash,
    )
    assert expected == describe_store(folder)


@pytest.mark.parametrize(("split", "expected"), [(None, 3), ("train", 1)])
def test_documents_are_counted_without_reading_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str | None, expected: int
) -> None:
    """There may be very many."""
    folder = make_store(tmp_path / "store")
    monkeypatch.delattr(DocumentOffsets, "offsets")
    assert expected == describe_store(folder, split=split).num_documents


@pytest.mark.parametrize(
    ("facts", "expected"),
    [({"num_characters": 10}, 2.5), ({}, None), ({"num_characters": "many"}, None)],
)
def test_characters_per_token(
    tmp_path: Path, facts: dict[str, Any], expected: float | None
) -> None:
    """What a preparation counted is divided by the tokens."""
    folder = make_store_of_sources(tmp_path, 0, facts)
    assert expected == describe_store(folder).characters_per_token


@pytest.mark.parametrize("shard_tokens", [3, 100])
def test_every_token_is_counted(tmp_path: Path, shard_tokens: int) -> None:
    """However the tokens are cut, the counts are those of the whole."""
    ids = [0, 5, 5, 1, 0, 5] * 5
    path = tl.Corpus.from_tokens(ids, vocab_size=8).save(tmp_path / "s", shard_tokens=shard_tokens)

    counts = count_ids(tl.Corpus.open(path), chunk_size=7)
    assert [10, 5, 0, 0, 0, 15, 0, 0] == counts.tolist()


def test_the_most_frequent_come_first() -> None:
    """Ties stand in the order of ids; what does not appear is left out."""
    corpus = tl.Corpus.from_text("b a c b", tokenizer="word")

    top = [(row.token, row.count) for row in most_frequent(corpus, 10)]
    assert [("b", 2), ("a", 1), ("c", 1)] == top
    assert [("b", 2)] == [(row.token, row.count) for row in most_frequent(corpus, 1)]


@given(st.lists(st.integers(-4, 4), min_size=1), st.integers(0, 12))
def test_the_smallest_are_those_of_a_sort(values: list[int], number: int) -> None:
    """Ties stand in order of place."""
    expected = sorted(range(len(values)), key=lambda place: values[place])[:number]
    assert expected == find_smallest(np.array(values), number).tolist()


@given(st.text("aab \u00e9\u6642", min_size=1).filter(str.strip), st.integers(1, 4))
def test_tokens_are_counted_as_one_by_one(text: str, number: int) -> None:
    """Frequencies, the text's size, and what is unknown are those of a plain count."""
    corpus = tl.Corpus.from_text(text, tokenizer="word", normalize=False, min_freq=2)
    found = count_tokens(corpus, number)
    assert corpus.vocab is not None
    words = [word if word in corpus.vocab else "<unk>" for word in text.split()]
    counts = Counter(words)
    by_id = sorted(counts, key=lambda word: corpus.vocab[word])
    falling = sorted(by_id, key=lambda word: -counts[word])[:number]
    rising = sorted(by_id, key=lambda word: counts[word])[:number]
    assert falling == [one.token for one in found.most_frequent]
    assert rising == [one.token for one in found.rarest]
    assert counts["<unk>"] / len(words) == found.unknown_rate
    assert len(corpus.vocab) - len(counts) == found.num_unused_ids
    whole = None if counts["<unk>"] else "".join(f" {word}" for word in words)
    assert (whole and len(whole) / len(words)) == found.characters_per_token
    assert (whole and len(whole.encode()) / len(words)) == found.bytes_per_token


class _Absent(CharTokenizer):
    """A tokenizer whose package is not installed."""

    def decode(self, _: list[int], /) -> str:
        """Raise what a missing package raises."""
        raise UsageError

    def token_lengths(self) -> npt.NDArray[np.int64]:
        """Raise it here, too."""
        raise UsageError


def test_without_the_package_ids_are_counted() -> None:
    """Only their text is not known."""
    ids, tokenizer = tl.Corpus.from_text("aab").tokens, _Absent(Vocab(list("aab")))
    corpus = tl.Corpus(ids, tokenizer=tokenizer, vocab_size=3, name="text")
    assert TextSize() == measure_text(corpus)
    found = count_tokens(corpus, 1)
    assert (TextSize(), None, 2) == (
        found.text,
        found.most_frequent[0].token,
        found.most_frequent[0].count,
    )


def test_too_many_ids_are_not_counted() -> None:
    """Where the counts would fill the memory, the error says so."""
    with pytest.raises(ArgumentError, match="counted for up to 67,108,864 of them, got 1,000"):
        count_ids(tl.Corpus.from_tokens([1], vocab_size=10**12))


def test_counting_shows_progress_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    """The bar goes to stderr."""
    count_ids(tl.Corpus.from_tokens([1]), progress=True)
    assert "100%" in capsys.readouterr().err


@pytest.mark.parametrize("tokenizer", ["char", "byte"])
def test_a_character_counts_once(tokenizer: str) -> None:
    """However many bytes it has."""
    text = "na\u00efve \U0001f600!"
    corpus = tl.Corpus.from_text(text, tokenizer=tokenizer, normalize=tokenizer == "byte")
    assert TextSize(num_characters=8, num_bytes=12) == measure_text(corpus)


def test_the_text_of_an_unknown_token_is_not_known() -> None:
    """An unknown word may have been any; an unknown character is one of any number of bytes."""
    words = tl.Corpus.from_text("a rose is a rose", tokenizer="word", min_freq=2)
    assert TextSize() == measure_text(words)
    characters = tl.Corpus.from_text("aab", normalize=False, min_freq=2)
    assert TextSize(num_characters=3) == measure_text(characters)
    letters = tl.Corpus.from_text("aab", min_freq=2)
    assert TextSize(num_characters=3, num_bytes=3) == measure_text(letters)


def test_what_follows_a_document_is_no_text(tmp_path: Path) -> None:
    """Neither a mark of its own, nor documents without text."""
    options = tl.PrepareOptions(end_of_document="<eod>", documents="paragraph")
    (tmp_path / "book.txt").write_text("to be\n\nor not\n", encoding="utf-8")
    tl.prepare(tmp_path / "book.txt", tmp_path / "s", tokenizer="word", options=options)
    corpus = tl.Corpus.open(tmp_path / "s")
    assert (6, 13) == (len(corpus), measure_text(corpus).num_characters)


def test_ids_alone_are_no_text() -> None:
    """Without a tokenizer, or with one that does not say how long its tokens are."""
    assert TextSize() == measure_text(tl.Corpus.from_tokens([1, 2]))


def test_lengths_of_documents() -> None:
    """By powers of two, however they are read."""
    lengths = [0, 1, 1, 2, 3, 4, 7, 8]
    corpus = tl.Corpus.from_tokens(range(26), documents=np.cumsum([0, *lengths]))
    expected = [(0, 1, 1), (1, 2, 2), (2, 4, 2), (4, 8, 2), (8, 16, 1)]
    for chunk_size in (1, 3, 100):
        counted = count_lengths(corpus, chunk_size=chunk_size)
        assert expected == [dataclasses.astuple(entry) for entry in counted]
    assert [] == count_lengths(tl.Corpus.from_tokens([1]))
