"""Parts of a corpus: sections, splits, documents, their proof, their way to workers."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stores import make_corpus, make_store
from tokenloom import ArgumentError, Corpus, CorpusError
from tokenloom.corpus import corpus as passages
from tokenloom.store.reader import open_store

NUM_MAPPED = 100_000


@pytest.fixture
def mapped(tmp_path: Path) -> npt.NDArray[Any]:
    """Return a memory map in which every token is its position, modulo 65,536."""
    path = tmp_path / "tokens.npy"
    np.save(path, np.arange(NUM_MAPPED).astype(np.uint16))
    tokens: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    return tokens


def _copy(corpus: Corpus) -> Corpus:
    copied: Corpus = pickle.loads(pickle.dumps(corpus))  # noqa: S301  our own bytes
    return copied


@pytest.mark.parametrize(("start", "stop"), [(0, 9), (3, 5), (8, 9), (0, 100)])
def test_section_is_a_slice(start: int, stop: int) -> None:
    """A section has the tokens of the half-open range, cut at the end."""
    assert (
        list(range(9))[start:stop]
        == Corpus.from_tokens(range(9)).section(start, stop).tokens.tolist()
    )


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (5, 5), (5, 3), (9, 12), (-3, 5), (0, -1)])
def test_section_without_a_token(start: int, stop: int) -> None:
    """A range that is empty or begins before the corpus is refused with both ends."""
    with pytest.raises(ArgumentError, match=f"< 9 tokens, got start={start} and stop={stop}$"):
        Corpus.from_tokens(range(9)).section(start, stop)


def test_section_keeps_the_rest() -> None:
    """A section has the vocabulary, size, tokenizer and name of the whole."""
    whole = Corpus.from_text("abc", name="alphabet")
    part = whole.section(1, 2)

    assert (whole.tokenizer, whole.vocab, whole.vocab_size, whole.name) == (
        part.tokenizer,
        part.vocab,
        part.vocab_size,
        part.name,
    )


def test_section_is_not_copied() -> None:
    """A section is a view of the tokens."""
    whole = Corpus.from_tokens(range(9))

    assert np.shares_memory(whole.tokens, whole.section(3, 5).tokens)


@given(st.integers(2, 200), st.floats(0, 1))
def test_split_parts_are_the_whole(num_tokens: int, fraction: float) -> None:
    """Both parts together are all tokens, wherever the cut is."""
    corpus = Corpus.from_tokens(range(num_tokens))
    try:
        parts = corpus.split(fraction)
    except ArgumentError:
        # There is no room for a cut.
        parts = corpus.split(0.5)

    assert list(range(num_tokens)) == [id_ for part in parts for id_ in part.tokens.tolist()]


@pytest.mark.parametrize(("fraction", "expected"), [(0.9, 9), (0.5, 5), (0.99, 9), (0.1, 1)])
def test_split_rounds_down(fraction: float, expected: int) -> None:
    """The first part has at most the fraction of the tokens."""
    assert expected == len(Corpus.from_tokens(range(10)).split(fraction)[0])


@pytest.mark.parametrize("fraction", [0.0, 1.0, 0.05, -0.5, 1.5])
def test_split_that_leaves_nothing(fraction: float) -> None:
    """A cut that leaves one part empty is refused."""
    with pytest.raises(
        ArgumentError,
        match=f"^fraction must leave tokens on both sides of 10 tokens, got {fraction}$",
    ):
        Corpus.from_tokens(range(10)).split(fraction)


@pytest.mark.parametrize("fraction", [float("nan"), float("inf")])
def test_split_by_no_number(fraction: float) -> None:
    """A fraction that is no finite number is refused like any other."""
    with pytest.raises(ArgumentError, match=f"got {fraction}$"):
        Corpus.from_tokens(range(10)).split(fraction)


@pytest.mark.parametrize(
    ("fraction", "max_tokens", "expected"),
    [
        (0.1, None, [(0, 89), (90, 99)]),
        (0.1, 45, [(0, 44), (45, 49)]),
        (0.1, 90, [(0, 89), (90, 99)]),
        (0.1, 95, [(0, 89), (90, 99)]),
        (0.5, None, [(0, 49), (50, 99)]),
        (0.5, 80, [(0, 49), (50, 99)]),
    ],
)
def test_hold_out_follows_the_training_text(
    fraction: float, max_tokens: int | None, expected: list[tuple[int, int]]
) -> None:
    """The held-out text is right behind the training text, in the right proportion."""
    parts = [
        part
        for part in Corpus.from_tokens(range(100)).hold_out(fraction, max_tokens=max_tokens)
        if part is not None
    ]

    assert expected == [(int(part.tokens[0]), int(part.tokens[-1])) for part in parts]


@pytest.mark.parametrize(("fraction", "max_tokens"), [(0.0, None), (0.01, None), (0.1, 9)])
def test_hold_out_nothing(fraction: float, max_tokens: int | None) -> None:
    """Less than two held-out tokens are none, since nothing could be predicted."""
    assert Corpus.from_tokens(range(100)).hold_out(fraction, max_tokens=max_tokens)[1] is None


@pytest.mark.parametrize("fraction", [1.0, -0.1, float("nan")])
def test_hold_out_of_no_fraction(fraction: float) -> None:
    """A fraction outside [0, 1) is refused."""
    with pytest.raises(
        ArgumentError, match=rf"^the held-out fraction must be in \[0, 1\), got {fraction}$"
    ):
        Corpus.from_tokens(range(100)).hold_out(fraction)


def test_hold_out_everything() -> None:
    """A fraction that leaves nothing to train on is refused."""
    with pytest.raises(ArgumentError, match="got start=0 and stop=0"):
        Corpus.from_tokens(range(3)).hold_out(0.9)


def test_hash_is_that_of_the_ids() -> None:
    """Equal ids have equal hashes, whatever made them."""
    assert Corpus.from_tokens([1, 1, 2]).hash == Corpus.from_text("aab").hash


def test_repr_of_a_text() -> None:
    """People see name, length and number of ids."""
    expected = "Corpus('alphabet', 1,000 tokens, vocab_size=2)"
    assert expected == repr(Corpus.from_text("a" * 1000, name="alphabet"))


def test_repr_of_a_memory_map(mapped: npt.NDArray[Any]) -> None:
    """People see where the number of ids is not known."""
    expected = "Corpus('tokens', 100,000 tokens, vocab_size=?)"
    assert expected == repr(Corpus.from_tokens(mapped))


@pytest.mark.parametrize("tokenizer", ["char", "word", "byte"])
def test_pickle_keeps_the_tokens(tokenizer: str) -> None:
    """Worker processes get the same ids."""
    corpus = Corpus.from_text("the time machine", tokenizer=tokenizer)

    assert corpus.tokens.tolist() == _copy(corpus).tokens.tolist()


@pytest.mark.parametrize("tokenizer", ["char", "word", "byte"])
def test_pickle_keeps_the_rest(tokenizer: str) -> None:
    """Worker processes get the same tokenizer, size and name."""
    corpus = Corpus.from_text("the time machine", tokenizer=tokenizer, name="book")
    copied = _copy(corpus)

    assert (corpus.tokenizer, corpus.vocab_size, corpus.name) == (
        copied.tokenizer,
        copied.vocab_size,
        copied.name,
    )


def test_pickle_changes_nothing() -> None:
    """A corpus that was sent to a worker works on."""
    corpus = Corpus.from_tokens(range(9))
    _copy(corpus)

    assert list(range(9)) == corpus.tokens.tolist()


def test_deep_copy_has_the_tokens() -> None:
    """A copy has the same ids."""
    corpus = Corpus.from_tokens(range(9))

    assert corpus.tokens.tolist() == copy.deepcopy(corpus).tokens.tolist()


def test_pickle_of_a_section_has_the_section_only() -> None:
    """The tokens around a section do not travel to the workers."""
    assert len(pickle.dumps(Corpus.from_tokens(np.zeros(100_000, np.uint8)).section(5, 9))) < 2000


def _whole(corpus: Corpus) -> Corpus:
    return corpus


def _section(corpus: Corpus) -> Corpus:
    return corpus.section(70_000, 90_001)


def _validation(corpus: Corpus) -> Corpus:
    return corpus.split(0.75)[1]


def _section_of_split(corpus: Corpus) -> Corpus:
    return corpus.split(0.75)[1].section(10, 15_000)


parts = pytest.mark.parametrize("part", [_whole, _section, _validation, _section_of_split])


@parts
def test_pickle_over_a_memory_map_is_small(mapped: npt.NDArray[Any], part: Any) -> None:
    """The data of a memory map does not travel to the workers."""
    assert len(pickle.dumps(part(Corpus.from_tokens(mapped)))) < 2000


@parts
def test_pickle_over_a_memory_map_opens_its_range(mapped: npt.NDArray[Any], part: Any) -> None:
    """A worker reads the same tokens of the same file."""
    corpus = part(Corpus.from_tokens(mapped))

    assert corpus.tokens.tolist() == _copy(corpus).tokens.tolist()


@parts
def test_part_of_a_memory_map_is_one(mapped: npt.NDArray[Any], part: Any) -> None:
    """No part of a mapped corpus is read into memory, here or in a worker."""
    assert isinstance(_copy(part(Corpus.from_tokens(mapped))).tokens, np.memmap)


@parts
def test_hash_over_a_memory_map(mapped: npt.NDArray[Any], part: Any) -> None:
    """A mapped corpus has the hash of the same ids in memory."""
    corpus = part(Corpus.from_tokens(mapped))

    assert Corpus.from_tokens(np.array(corpus.tokens)).hash == corpus.hash


@pytest.mark.parametrize("fraction", [0.9, 0.5, 0.1])
def test_hold_out_loses_nothing(fraction: float) -> None:
    """Without a limit the two parts are the whole."""
    parts = Corpus.from_tokens(range(100)).hold_out(fraction)
    expected = [100 - round(100 * fraction), round(100 * fraction)]
    assert expected == [len(part) for part in parts if part is not None]


def test_documents_of_ids() -> None:
    """A document is a section; their offsets come back."""
    corpus = Corpus.from_tokens(range(9), documents=[0, 4, 4, 9])

    assert ([0, 4, 4, 9], 3) == (_offsets(corpus), corpus.num_documents)
    assert [4, 5, 6, 7, 8] == corpus.document(2).tokens.tolist()
    assert ([0, 5], 1) == (_offsets(corpus.document(2)), corpus.document(2).num_documents)


def _offsets(corpus: Corpus) -> list[int]:
    assert corpus.documents is not None
    offsets: list[int] = corpus.documents.tolist()
    return offsets


def test_an_empty_document_is_no_corpus() -> None:
    """A corpus has at least one token."""
    corpus = Corpus.from_tokens(range(9), documents=[0, 4, 4, 9])

    with pytest.raises(ArgumentError, match="document 1 has no tokens"):
        corpus.document(1)


def test_parts_keep_the_documents() -> None:
    """Sections, splits and held-out text have the documents that lie in them, cut at the ends."""
    corpus = Corpus.from_tokens(range(20), documents=[0, 6, 12, 20])
    train, valid = corpus.split(0.5)
    trained, held_out = corpus.hold_out(0.2)
    assert held_out is not None

    expected = [[0, 6, 10], [0, 2, 10], [0, 6, 12, 16], [0, 4], [0, 1, 7, 8]]
    parts = (train, valid, trained, held_out, corpus.section(5, 13))
    assert expected == [_offsets(part) for part in parts]


@given(st.lists(st.integers(0, 9), min_size=2, max_size=20), st.floats(0.01, 0.99))
def test_a_split_by_document_leaks_nothing(lengths: list[int], fraction: float) -> None:
    """Each document is whole on one side, and the first side has at most its share, if it can."""
    num_tokens = sum(lengths)
    if sum(map(bool, lengths)) < 2:
        return
    corpus = Corpus.from_tokens(np.arange(num_tokens), documents=np.cumsum([0, *lengths]))
    train, valid = corpus.split(fraction, by="document")

    assert lengths == [*np.diff(_offsets(train)), *np.diff(_offsets(valid))]
    first = next(length for length in lengths if length)
    assert len(train) <= max(num_tokens * fraction + 1e-9, first)


def test_a_split_by_document_of_one_document() -> None:
    """Where there is no boundary there is no such split."""
    with pytest.raises(ArgumentError, match=r"^fraction must leave tokens on both sides"):
        Corpus.from_tokens(range(9), documents=[0, 9]).split(0.5, by="document")


def test_a_split_by_anything_else() -> None:
    """Only tokens and documents can be counted."""
    by: Any = "sentence"
    with pytest.raises(ArgumentError, match=r"^by must be 'token' or 'document', got 'sentence'$"):
        Corpus.from_tokens(range(9)).split(0.5, by=by)


def test_documents_that_nobody_knows() -> None:
    """A corpus without documents says so, and how to get some."""
    corpus = Corpus.from_tokens(range(9), name="mine")
    assert corpus.documents is None
    for ask in (
        lambda: corpus.num_documents,
        lambda: corpus.document(0),
        lambda: corpus.split(0.5, by="document"),
    ):
        with pytest.raises(CorpusError, match=r"^mine has no documents: pass documents=\.\.\. to"):
            ask()


def test_documents_travel_with_the_corpus() -> None:
    """A copy in another process has them."""
    expected = [0, 6, 6, 10]
    assert expected == _offsets(_copy(make_corpus()))


def test_a_store_travels_by_name(tmp_path: Path) -> None:
    """Neither tokens nor offsets of a store are in a pickle, and the copy reads the same."""
    corpus = Corpus.from_tokens(np.arange(90_000), documents=np.arange(90_001))
    opened = Corpus.open(corpus.save(tmp_path / "store", shard_tokens=40_000)).section(7, 80_000)
    packed = pickle.dumps(opened)
    copied: Corpus = pickle.loads(packed)  # noqa: S301  our own bytes

    assert len(packed) < 2000
    assert opened.tokens.tolist() == copied.tokens.tolist()
    assert (opened.hash, _offsets(opened)) == (copied.hash, _offsets(copied))


def test_the_hash_of_a_small_store_is_that_of_its_tokens(tmp_path: Path) -> None:
    """Up to 4 MiB a corpus has one hash, in memory and on the disk."""
    corpus = make_corpus()
    opened = Corpus.open(make_store(tmp_path / "store"))

    assert corpus.hash == opened.hash
    assert corpus.section(2, 9).hash == opened.section(2, 9).hash


def test_the_hash_of_a_large_store_is_its_manifests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond 4 MiB no token is read for it; a part has one of its own, however it was cut."""
    folder = make_store(tmp_path / "store")
    monkeypatch.setattr(passages, "WHOLE_BYTES", 3)
    monkeypatch.setattr(passages, "hash_tokens", lambda _: "read")
    corpus = Corpus.open(folder)

    assert open_store(folder).manifest.hash == corpus.hash
    assert corpus.hash == corpus.section(0, 10).hash
    parts = [corpus.section(2, 8), corpus.section(1, 9).section(1, 7), corpus.section(2, 9)]
    hashes = [part.hash for part in parts]
    assert hashes[0] == hashes[1]
    # As long as the first, and elsewhere.
    hashes.append(corpus.section(1, 7).hash)
    assert 4 == len({corpus.hash, *hashes})
    assert "read" == corpus.section(2, 5).hash


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda corpus: corpus.section(None, 3), "start must be an integer, got None"),
        (lambda corpus: corpus.section(0, "3"), "stop must be an integer, got '3'"),
        (lambda corpus: corpus.split([0.5]), r"fraction must be a number, got \[0.5\]"),
        (lambda corpus: corpus.hold_out(0.1, max_tokens=1.5), "max_tokens must be an integer"),
        (lambda corpus: corpus.document("a"), "index must be an integer, got 'a'"),
    ],
)
def test_wrong_types_are_named(call: Callable[[Any], object], message: str) -> None:
    """No comparison or slice fails instead."""
    with pytest.raises(ArgumentError, match=message):
        call(Corpus.from_tokens([1, 2, 3], documents=[0, 3]))
