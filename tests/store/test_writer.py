"""A corpus to a store and back."""

import errno
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenloom as tl
from tests.support.preparation.stores import make_corpus, make_store
from tokenloom._io.digest import hash_file
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.store import writer
from tokenloom.store.manifest import Manifest, ShardFile, StoreFile, write_manifest
from tokenloom.store.reader import open_store
from tokenloom.store.verify import verify_store
from tokenloom.store.writer import (
    write_documents,
    write_shard,
    write_tokenizer,
)
from tokenloom.text.ids import Ids
from tokenloom.text.tokenizers import ByteTokenizer


def equal(first: tl.Corpus, second: tl.Corpus) -> bool:
    """Return whether two corpora are the same, but for their names."""
    documents = [None if c.documents is None else c.documents.tolist() for c in (first, second)]
    return (
        first.tokens.tolist() == second.tokens.tolist()
        and first.tokens.dtype == second.tokens.dtype
        and first.vocab == second.vocab
        and first.vocab_size == second.vocab_size
        and first.tokenizer == second.tokenizer
        and documents[0] == documents[1]
        and first.hash == second.hash
    )


@pytest.mark.parametrize(
    "corpus",
    [
        make_corpus(),
        tl.Corpus.from_text("the time machine"),
        tl.Corpus.from_text("The Time\nMachine, é", normalize=False, reserved_tokens=["<pad>"]),
        tl.Corpus.from_text("to be or not to be", tokenizer="word", min_freq=2),
        tl.Corpus.from_text(b"\xff\x00 bytes", tokenizer="byte"),
        tl.Corpus.from_tokens([1, 2, 3], vocab_size=300),
        tl.Corpus.from_tokens(np.array([1, 2, 70_000], np.uint32), documents=[0, 0, 3]),
        tl.Corpus.from_tokens([2**40]),
    ],
)
@pytest.mark.parametrize("shard_tokens", [1, 3, 100])
def test_what_is_saved_is_opened(tmp_path: Path, corpus: tl.Corpus, shard_tokens: int) -> None:
    """Tokens, vocabulary, tokenizer, documents and hash come back, and the store is whole."""
    path = corpus.save(tmp_path / "store", shard_tokens=shard_tokens)

    assert equal(corpus, tl.Corpus.open(path))
    assert [] == verify_store(path)


@given(st.lists(st.integers(0, 300), min_size=1, max_size=40), st.integers(1, 41), st.data())
def test_sections_are_saved_too(
    tmp_path_factory: pytest.TempPathFactory,
    ids: list[int],
    shard_tokens: int,
    data: st.DataObject,
) -> None:
    """Any part of a corpus in any number of files can be saved again."""
    folder = tmp_path_factory.mktemp("stores")
    middle = data.draw(st.integers(0, len(ids)))
    corpus = tl.Corpus.from_tokens(ids, documents=[0, middle, len(ids)])
    opened = tl.Corpus.open(corpus.save(folder / "whole", shard_tokens=shard_tokens))
    start = data.draw(st.integers(0, len(ids) - 1))
    section = opened.slice(start, data.draw(st.integers(start + 1, len(ids))))

    again = tl.Corpus.open(section.save(folder / "part", shard_tokens=7), verify=True)
    assert equal(section, again)


def test_the_same_corpus_gives_the_same_bytes(tmp_path: Path) -> None:
    """No time, no name and no place is in a store."""
    first, second = make_store(tmp_path / "a"), make_store(tmp_path / "elsewhere" / "b")

    contents = [{f.name: f.read_bytes() for f in folder.iterdir()} for folder in (first, second)]
    assert contents[0] == contents[1]


def test_a_memory_map_of_signed_integers(tmp_path: Path) -> None:
    """Ids out of any file become the smallest unsigned type, little-endian."""
    np.arange(300, dtype=">i8").tofile(tmp_path / "ids.bin")
    tokens = np.memmap(tmp_path / "ids.bin", dtype=">i8", mode="r")

    opened = tl.Corpus.open(tl.Corpus.from_tokens(tokens).save(tmp_path / "store"), verify=True)
    assert ("<u2", 300) == (opened.tokens.dtype.str, opened.vocab_size)
    assert list(range(300)) == opened.tokens.tolist()


def test_a_memory_map_that_lies_about_its_size(tmp_path: Path) -> None:
    """What could not be checked before is checked when it is written."""
    np.array([5, 3], np.uint8).tofile(tmp_path / "ids.bin")
    corpus = tl.Corpus.from_tokens(
        np.memmap(tmp_path / "ids.bin", dtype=np.uint8, mode="r"), vocab_size=5
    )

    with pytest.raises(CorpusError, match=r"must be in \[0, 5\), got 5 at position 0"):
        corpus.save(tmp_path / "store")
    assert ["ids.bin"] == [path.name for path in tmp_path.iterdir()]


class OwnTokenizer:
    """A tokenizer of somebody else."""

    vocab_size = 3

    def encode(self, text: str, /) -> list[int]:
        """Return how many e there are in each word."""
        return [min(word.count("e"), 2) for word in text.split()]

    def decode(self, ids: list[int], /) -> str:
        """Return words of e."""
        return " ".join("e" * id_ for id_ in ids)


def test_a_tokenizer_from_elsewhere_is_passed_again(tmp_path: Path) -> None:
    """It is not written; a store knows its size."""
    path = tl.Corpus.from_text("we see", tokenizer=OwnTokenizer()).save(tmp_path / "store")
    assert tl.Corpus.open(path).tokenizer is None
    assert "1 2" == tl.Corpus.open(path).decode([1, 2])
    assert "e ee" == tl.Corpus.open(path, tokenizer=OwnTokenizer()).decode([1, 2])
    with pytest.raises(ArgumentError, match=r"^tokenizer must be the one that made the ids of"):
        tl.Corpus.open(path, tokenizer=tl.Corpus.from_text(b"a", tokenizer="byte").tokenizer)


def test_splits_are_opened_by_name(tmp_path: Path) -> None:
    """A stored split is the section of the same range."""
    corpus = make_corpus()
    train, valid = corpus.split(0.7, by="document")
    splits = {"train": (0, len(train)), "valid": (len(train), len(corpus))}
    path = corpus.save(tmp_path / "store", splits=splits, shard_tokens=4)

    assert equal(train, tl.Corpus.open(path, split="train"))
    assert equal(valid, tl.Corpus.open(path, split="valid"))


@pytest.mark.parametrize("bounds", [(0, 11), (5, 5), (-1, 5)])
def test_splits_outside_leave_nothing(tmp_path: Path, bounds: tuple[int, int]) -> None:
    """A range that is none of the corpus is refused before anything has its final name."""
    with pytest.raises(tl.StoreError, match="split"):
        make_corpus().save(tmp_path / "store", splits={"a": bounds})

    assert [] == list(tmp_path.iterdir())


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    """A folder that somebody made before is filled."""
    (tmp_path / "store").mkdir()

    assert equal(make_corpus(), tl.Corpus.open(make_corpus().save(tmp_path / "store")))


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    """Nothing is overwritten, not even a store."""
    make_store(tmp_path / "store")
    before = {path: path.read_bytes() for path in (tmp_path / "store").iterdir()}

    with pytest.raises(
        tl.StoreError, match=r"^a store needs a new or an empty folder, '.*' is not: name another$"
    ):
        tl.Corpus.from_tokens([1]).save(tmp_path / "store")
    assert before == {path: path.read_bytes() for path in (tmp_path / "store").iterdir()}
    assert ["store"] == [path.name for path in tmp_path.iterdir()]


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what is wrong, and what was written so far is removed."""

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer, "write_manifest", fail)

    with pytest.raises(tl.StoreError, match=r"^cannot write the store '.*': No space left on dev"):
        make_corpus().save(tmp_path / "store")
    assert [] == list(tmp_path.iterdir())


def test_shards_of_no_tokens_are_refused(tmp_path: Path) -> None:
    """A file holds at least one token."""
    with pytest.raises(
        ArgumentError, match=r"^shard_tokens must be an integer of at least 1, got 0$"
    ):
        make_corpus().save(tmp_path / "store", shard_tokens=0)


def test_large_corpora_are_copied_in_pieces(tmp_path: Path) -> None:
    """Pieces of 2^20 tokens and shards end in different places, and the store is the same."""
    corpus = tl.Corpus.from_tokens(np.arange(2_400_000) % 251)
    folder = corpus.save(tmp_path / "store", shard_tokens=1_700_000)

    assert np.array_equal(corpus.tokens, tl.Corpus.open(folder).tokens[:])


def write(folder: Path, pieces: list[Ids], **changes: Any) -> ShardFile:
    """Write a shard of ids below 9."""
    num_tokens = sum(map(len, pieces))
    options: dict[str, Any] = {"num_tokens": num_tokens, "dtype": "uint8", "vocab_size": 9}
    return write_shard(folder, 0, pieces, **{**options, **changes})


def test_a_shard_is_numpys_file(tmp_path: Path) -> None:
    """Any tool reads it; its entry has its length and hash."""
    entry = write(tmp_path, [np.array([1, 2]), np.array([8])], dtype="uint16")
    path = tmp_path / "tokens-00000.npy"

    assert ShardFile(3, hash_file(path).removeprefix("sha256:")) == entry
    assert ("<u2", [1, 2, 8]) == (np.load(path).dtype.str, np.load(path).tolist())


@pytest.mark.parametrize("wrong", [9, -1, 300])
def test_ids_out_of_range_leave_no_shard(tmp_path: Path, wrong: int) -> None:
    """Each id is checked when it is written, so none is cut to fit the type."""
    with pytest.raises(CorpusError, match=rf"must be in \[0, 9\), got {wrong} at position 1"):
        write(tmp_path, [np.array([1, 2]), np.array([3, wrong])])

    assert [] == list(tmp_path.iterdir())


def test_an_error_in_the_middle_leaves_no_shard(tmp_path: Path) -> None:
    """Pieces may come out of anything that can fail."""

    def pieces() -> Any:
        yield np.array([1])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path, 0, pieces(), num_tokens=2, dtype="uint8", vocab_size=9)

    assert [] == list(tmp_path.iterdir())


def test_a_store_piece_by_piece(tmp_path: Path) -> None:
    """What a preparation does, in any order, makes a store when the manifest is written."""
    second = write_shard(
        tmp_path, 1, [np.array([98, 0])], num_tokens=2, dtype="uint8", vocab_size=256
    )
    documents = write_documents(tmp_path, [np.array([0, 2]), np.array([5])], num_documents=2)
    first = write_shard(
        tmp_path, 0, [np.array([1, 2, 3])], num_tokens=3, dtype="uint8", vocab_size=256
    )
    (tmp_path / "notes.txt").write_bytes(b"anything")
    notes = StoreFile("notes.txt", 8, hashlib.sha256(b"anything").hexdigest())
    description, files = write_tokenizer(tmp_path, ByteTokenizer())
    with pytest.raises(tl.StoreError, match=r"with manifest.json in it, which is written last"):
        open_store(tmp_path)
    manifest = Manifest(
        dtype="uint8",
        vocab_size=256,
        shards=(first, second),
        files=(documents, *files, notes),
        tokenizer=description,
    )
    write_manifest(tmp_path, manifest)

    corpus = tl.Corpus.open(tmp_path, verify=True)
    assert [1, 2, 3, 98, 0] == corpus.tokens.tolist()
    assert ([0, 2, 5], ByteTokenizer()) == (corpus.documents.tolist(), corpus.tokenizer)
