"""The folder on disk: what it takes, what it gives, what it refuses."""

import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokenloom as tl
from tests.support.preparation.stores import lie, make_corpus, make_store
from tokenloom._io.digest import hash_file
from tokenloom.errors import ArgumentError
from tokenloom.store.memmap import ConcatenatedMemmap
from tokenloom.store.npy import write_npy
from tokenloom.store.reader import open_store
from tokenloom.store.verify import check_store
from tokenloom.store.writer import write_documents
from tokenloom.text.vocab import read_vocab


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
    """Its hash is compared when it is read."""
    folder = make_store(tmp_path / "store")
    path = folder / "vocab.json"
    path.write_bytes(path.read_bytes().replace(b'"question"', b'"ques7ion"'))

    corpus = tl.Corpus.open(folder)
    with pytest.raises(tl.StoreError, match=r"vocab.json must have the SHA-256 \w+, got \w+: make"):
        corpus.decode([1])
    with pytest.raises(tl.StoreError, match=r"vocab.json must have the SHA-256 \w+, got \w+"):
        tl.Corpus.open(folder, verify=True)


def test_the_vocabulary_is_read_when_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not to open a store nor to read batches, and once for all that is cut of the corpus."""
    folder = make_store(tmp_path / "store")
    read: list[Path] = []

    def note(path: Path, *, name: Path) -> tl.Vocab:
        read.append(path)
        return read_vocab(path, name=name)

    monkeypatch.setattr("tokenloom.store.reader.read_vocab", note)
    corpus = tl.load(str(folder))
    windows = tl.RandomWindows(corpus, batch_size=1, seq_len=2, shard=tl.Shard())
    assert len(list(windows)) == len(windows)
    sent = pickle.loads(pickle.dumps(corpus))  # noqa: S301  made here
    assert [] == read
    parts = [corpus, corpus.first(3), *corpus.split(0.5)]
    assert 1 == len({id(part.vocab) for part in parts})
    assert [folder / "vocab.json"] == read
    # Another process reads it for itself, if at all.
    assert corpus.vocab == sent.vocab
    assert 2 == len(read)


def test_a_store_that_was_replaced_lends_no_vocabulary(tmp_path: Path) -> None:
    """The ids that were opened have the one that they had then."""
    folder = make_store(tmp_path / "store")
    sent = pickle.dumps(tl.Corpus.open(folder).first(2))
    lie(
        folder,
        lambda value: value["tokenizer"].update(normalize=not value["tokenizer"]["normalize"]),
    )
    corpus = pickle.loads(sent)  # noqa: S301  made here

    with pytest.raises(tl.StoreError, match="must be the store that was opened, got another"):
        _ = corpus.vocab


def test_a_file_that_is_no_vocabulary(tmp_path: Path) -> None:
    """A signed store with something else as its vocabulary is refused as a store."""
    folder = make_store(tmp_path / "store")
    (folder / "vocab.json").write_bytes(b"[]")
    entry = {"num_bytes": 2, "sha256": hash_file(folder / "vocab.json").removeprefix("sha256:")}
    lie(folder, lambda value: value["files"][1].update(entry))

    corpus = tl.Corpus.open(folder)
    with pytest.raises(tl.StoreError, match="must be a vocabulary in the format"):
        _ = corpus.vocab


def test_a_store_without_its_vocabulary(tmp_path: Path) -> None:
    """A tokenizer that needs a vocabulary, and a manifest that has none."""
    folder = make_store(tmp_path / "store")
    lie(folder, lambda value: value["files"].pop())

    corpus = tl.Corpus.open(folder)
    with pytest.raises(tl.StoreError, match=r"a file 'vocab.json', got"):
        _ = corpus.vocab


@pytest.mark.parametrize("name", ["", "nowhere", "a\0b", "file"])
def test_what_is_no_store(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without a manifest, a file, or no name at all is refused with the cure."""
    monkeypatch.chdir(tmp_path)
    Path("file").touch()

    with pytest.raises(tl.StoreError, match=r"must be the folder of a store, with manifest.json"):
        open_store(name)


def test_a_store_lies_on_this_machine() -> None:
    """An address is named as one, without the secrets in it, which a path would show."""
    with pytest.raises(tl.StoreError, match="got the address 's3://texts/store': copy the folder"):
        open_store("s3://me:secret@texts/store")


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
    plain = tl.Corpus.from_tokens([1, 2, 3]).save(tmp_path / "plain")

    with pytest.raises(ArgumentError, match=r"^split must be left out, .* has no splits, got 'te"):
        tl.Corpus.open(plain, split="test")


def test_a_vocabulary_that_goes_after_the_open_is_missed(tmp_path: Path) -> None:
    """By an error of ours, with its cure."""
    store = open_store(make_store(tmp_path / "store"))
    (tmp_path / "store" / "vocab.json").unlink()
    with pytest.raises(tl.StoreError, match=r"vocab.json No such file or directory: make "):
        store.tokenizer()


def _change(name: str, at: int) -> Callable[[Path], object]:
    """Return what changes a byte of a file of a store."""

    def change(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[at] ^= 1
        (folder / name).write_bytes(content)

    return change


def _prepare(path: str) -> None:
    tl.prepare(iter(["a text"]), path, tokenizer="char", num_workers=0, progress=False)


@pytest.mark.parametrize(
    ("harm", "ask", "named"),
    [
        (shutil.rmtree, tl.Corpus.open, "stores/mine"),
        (lambda folder: (folder / "manifest.json").unlink(), tl.Corpus.open, "stores/mine"),
        (_change("manifest.json", 0), tl.Corpus.open, "stores/mine/manifest.json"),
        (_change("tokens-00000.npy", 0), tl.Corpus.open, "stores/mine/tokens-00000.npy"),
        (
            lambda folder: (folder / "tokens-00000.npy").unlink(),
            tl.Corpus.open,
            "stores/mine/tokens-00000.npy",
        ),
        (_change("tokens-00000.npy", -1), check_store, "stores/mine/tokens-00000.npy"),
        (
            _change("vocab.json", -2),
            lambda path: tl.Corpus.open(path).vocab,
            "stores/mine/vocab.json",
        ),
        (lambda folder: folder, _prepare, "stores/mine"),
        (lambda folder: (folder / "manifest.json").unlink(), _prepare, "stores/mine"),
        (lambda folder: folder, lambda path: tl.Corpus.open(f"{path}/valid"), "stores/mine"),
    ],
)
def test_messages_name_a_store_as_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Any, ask: Any, named: str
) -> None:
    """A relative path is not made absolute, which would hide what was typed."""
    monkeypatch.chdir(tmp_path)
    harm(make_store(Path("stores/mine")))
    with pytest.raises(tl.StoreError) as raised:
        ask("stores/mine")
    assert named in str(raised.value).replace("\\", "/")
    assert str(tmp_path) not in str(raised.value)


def test_a_store_of_a_relative_path_is_read_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is for messages: its files are found wherever the process goes."""
    monkeypatch.chdir(tmp_path)
    corpus = tl.Corpus.open(make_store(Path("mine")))
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert make_corpus().tokens.tolist() == corpus.tokens[:].tolist()
    assert make_corpus().vocab.tokens == corpus.vocab.tokens
