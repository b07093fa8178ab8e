"""The folder on disk: what it takes, what it gives, what it refuses."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokenloom as tl
from tests.stores import lie, make_corpus, make_store
from tokenloom._io.digest import hash_file
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.store.manifest import Manifest, ShardFile
from tokenloom.store.memmap import ConcatenatedMemmap
from tokenloom.store.npy import write_npy
from tokenloom.store.reader import (
    enter_file,
    open_store,
    write_documents,
    write_manifest,
    write_shard,
    write_tokenizer,
)
from tokenloom.text.ids import Ids
from tokenloom.text.tokenizers import ByteTokenizer


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
    description, files = write_tokenizer(tmp_path, ByteTokenizer())
    with pytest.raises(tl.StoreError, match=r"with manifest.json in it, which is written last"):
        open_store(tmp_path)
    manifest = Manifest(
        dtype="uint8",
        vocab_size=256,
        shards=(first, second),
        files=(documents, *files, enter_file(tmp_path, "notes.txt")),
        tokenizer=description,
    )
    write_manifest(tmp_path, manifest)

    corpus = tl.Corpus.open(tmp_path, verify=True)
    assert [1, 2, 3, 98, 0] == corpus.tokens.tolist()
    assert ([0, 2, 5], ByteTokenizer()) == (corpus.documents.tolist(), corpus.tokenizer)  # type: ignore[union-attr]  # it has some


def test_a_store_of_one_shard_is_a_memory_map(tmp_path: Path) -> None:
    """Nothing stands between it and NumPy."""
    tokens = open_store(make_store(tmp_path / "store", shard_tokens=10)).tokens()

    assert isinstance(tokens, np.memmap)
    assert not tokens.flags.writeable


def test_a_store_of_several_shards_reads_like_one_array(tmp_path: Path) -> None:
    """Its files are joined."""
    tokens = open_store(make_store(tmp_path / "store")).tokens()

    assert isinstance(tokens, ConcatenatedMemmap)
    assert make_corpus().tokens.tolist() == tokens.tolist()


@pytest.mark.parametrize("shard_tokens", [4, 10])
def test_ids_are_checked_when_they_are_read(tmp_path: Path, shard_tokens: int) -> None:
    """A store that was damaged since gives an error, and no id that no model has."""
    folder = make_store(tmp_path / "store", shard_tokens=shard_tokens)
    path = folder / "tokens-00000.npy"
    content = bytearray(path.read_bytes())
    content[128 + 2] = 9
    path.write_bytes(content)
    windows = tl.SequentialWindows(tl.Corpus.open(folder), batch_size=1, seq_len=3)

    with pytest.raises(
        tl.StoreError,
        match=r"tokens-00000.npy.* must hold ids in \[0, 9\), got 9: .*verify",
    ):
        list(windows)


def test_bytes_need_no_check(tmp_path: Path) -> None:
    """Where every value of the type is an id, none is looked at."""
    folder = tl.Corpus.from_text(b"\xff\x00" * 9, tokenizer="byte").save(tmp_path / "store")

    assert getattr(tl.Corpus.open(folder).tokens, "num_ids", 0) is None


def _remove(path: Path) -> None:
    path.unlink()


def _link(path: Path) -> None:
    # A name as long as the file, since that is the size of a link.
    name = "x" * min(path.stat().st_size, 250)
    path.rename(path.with_name(name))
    path.symlink_to(name)


def _make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
@pytest.mark.parametrize(
    "name", ["tokens-00001.npy", "documents.npy", "vocab.json", "manifest.json"]
)
@pytest.mark.parametrize("damage", [_remove, _link, _make_folder, _cut, _grow])
def test_an_open_sees_what_costs_nothing_to_see(tmp_path: Path, name: str, damage: Any) -> None:
    """A file that is missing, a link, or of another size is named, without reading any token."""
    folder = make_store(tmp_path / "store")
    damage(folder / name)

    with pytest.raises(tl.StoreError, match=f"store.{name} |store must be the folder of a store"):
        open_store(folder)


def test_a_shard_of_another_type_is_seen(tmp_path: Path) -> None:
    """The header is compared."""
    folder = make_store(tmp_path / "store")
    write_npy(folder / "tokens-00001.npy", [np.arange(4)], dtype=np.dtype("|i1"), length=4)

    with pytest.raises(tl.StoreError, match=r"must begin with the header .*'\|u1'.*, got .*'\|i1'"):
        open_store(folder)


def test_documents_that_end_elsewhere(tmp_path: Path) -> None:
    """Both ends of the documents are read when a store is opened."""
    folder = make_store(tmp_path / "store")
    write_documents(folder, [np.array([0, 6, 6, 9])], num_documents=3)

    with pytest.raises(tl.StoreError, match=r"documents.npy must go from 0 to 10, got \(0, 9\)"):
        tl.Corpus.open(folder)


def test_a_vocabulary_that_was_changed(tmp_path: Path) -> None:
    """The vocabulary is read, so its hash is compared."""
    folder = make_store(tmp_path / "store")
    path = folder / "vocab.json"
    path.write_bytes(path.read_bytes().replace(b'"question"', b'"ques7ion"'))

    with pytest.raises(tl.StoreError, match=r"vocab.json must have the SHA-256 \w+, got \w+: make"):
        tl.Corpus.open(folder)


def test_a_file_that_is_no_vocabulary(tmp_path: Path) -> None:
    """A signed store with something else as its vocabulary is refused as a store."""
    folder = make_store(tmp_path / "store")
    (folder / "vocab.json").write_bytes(b"[]")
    entry = {"num_bytes": 2, "sha256": hash_file(folder / "vocab.json").removeprefix("sha256:")}
    lie(folder, lambda value: value["files"][1].update(entry))

    with pytest.raises(tl.StoreError, match="must be a vocabulary in the format"):
        tl.Corpus.open(folder)


def test_a_store_without_its_vocabulary(tmp_path: Path) -> None:
    """A tokenizer that needs a vocabulary, and a manifest that has none."""
    folder = make_store(tmp_path / "store")
    lie(folder, lambda value: value["files"].pop())

    with pytest.raises(tl.StoreError, match=r"a file 'vocab.json', got"):
        tl.Corpus.open(folder)


@pytest.mark.parametrize("name", ["", "nowhere", "a\0b", "file"])
def test_what_is_no_store(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without a manifest, a file, or no name at all is refused with the cure."""
    monkeypatch.chdir(tmp_path)
    Path("file").touch()

    with pytest.raises(tl.StoreError, match=r"must be the folder of a store, with manifest.json"):
        open_store(name)


def test_a_manifest_in_another_encoding(tmp_path: Path) -> None:
    """Bytes that are no text are refused like any other manifest."""
    folder = make_store(tmp_path / "store")
    (folder / "manifest.json").write_bytes(b"\xff{}")

    with pytest.raises(tl.StoreError, match=r"manifest.json cannot be used: 'utf-8' codec"):
        open_store(folder)


def test_a_store_may_move(tmp_path: Path) -> None:
    """Nothing in it says where it is."""
    folder = make_store(tmp_path / "store")
    before = tl.Corpus.open(folder).hash
    shutil.move(folder, tmp_path / "elsewhere")

    assert before == tl.Corpus.open(tmp_path / "elsewhere", verify=True).hash


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    """The names that there are stand in the message."""
    with pytest.raises(
        ArgumentError, match=r"^split must be one of the store's \('train'\), got 'test'$"
    ):
        tl.Corpus.open(make_store(tmp_path / "store"), split="test")
