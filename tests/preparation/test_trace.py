"""Where a token came from."""

import dataclasses
import gzip
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tokenloom as tl
from tests.support.preparation.preparations import clean, split_paragraphs
from tokenloom.errors import ArgumentError
from tokenloom.preparation import trace
from tokenloom.preparation.options import PrepareOptions
from tokenloom.preparation.prepare import prepare
from tokenloom.preparation.trace import Trace
from tokenloom.store.manifest import write_manifest
from tokenloom.store.reader import open_store
from tokenloom.text import by_value
from tokenloom.text.documents import TextSegment
from tokenloom.text.interface import CompleteTokenizer

texts = st.text("aabB  \n\r.é時\u2028", min_size=1, max_size=30).filter(
    lambda text: any(letter in text for letter in "abB")
)


@pytest.fixture(scope="module", autouse=True)
def _no_waiting_for_disks() -> Iterator[None]:
    """Leave out what only a power cut would show."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


def begins_with(text: str, spelled: str, *, normalize: bool) -> bool:
    """Return whether a token can stand at the beginning of a text."""
    if not normalize:
        return text.startswith(spelled)
    if spelled == " ":
        return clean(text[:1]) == ""
    return text[: len(spelled)].lower() == spelled


@settings(max_examples=30)
@given(
    st.lists(texts, min_size=1, max_size=3),
    st.sampled_from(["char", "word", "byte"]),
    st.booleans(),
    st.sampled_from([None, "<eod>"]),
    st.sampled_from(["file", "paragraph", "record"]),
    st.integers(1, 50),
)
def test_each_token_is_found_where_it_was_read(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[str],
    tokenizer: str,
    normalize: bool,
    end: Any,
    form: Any,
    size: int,
) -> None:
    """Its source, its document, and a character with which the token begins."""
    folder = tmp_path_factory.mktemp("tracing")
    documents = []
    for number, text in enumerate(texts):
        content = json.dumps({"text": text}) if form == "record" else text
        (folder / f"{number}.txt").write_bytes(content.encode())
        parts = split_paragraphs(text) if form == "paragraph" else [text]
        # A paragraph of white space beyond ASCII is refused as empty.
        assume(all(part.strip() for part in parts))
        documents += [(f"{number}.txt", document) for document in parts]
    is_byte = tokenizer == "byte"
    options = PrepareOptions(
        documents="jsonl" if form == "record" else form,
        normalize=normalize or is_byte,
        end_of_document=(0 if is_byte else end) if end else None,
        task_bytes=size,
    )
    sources = [folder / f"{number}.txt" for number in range(len(texts))]
    prepare(sources, folder / "store", tokenizer=tokenizer, options=options, num_workers=1)

    corpus = tl.Corpus.open(folder / "store")
    assert corpus.documents is not None
    for token in range(len(corpus)):
        found = tl.trace(corpus, token)
        assert found is not None
        name, text = documents[found.document]
        assert corpus.documents[found.document] <= token < corpus.documents[found.document + 1]
        assert found.source == (folder / name).as_posix()
        is_end = token == corpus.documents[found.document + 1] - 1
        if end and is_end:
            assert found.character is None
            continue
        assert found.character is not None
        id_ = int(corpus.tokens[token])
        if is_byte:
            assert id_ == text.encode()[found.character]
        else:
            assert corpus.vocab is not None
            spelled = corpus.vocab.to_tokens(id_)
            assert begins_with(text[found.character :], spelled, normalize=normalize)
    # The last documents may have no token.
    starts = {start for start in corpus.documents[:-1].tolist() if start < len(corpus)}
    first = [tl.trace(corpus, start) for start in starts]
    assert len(first) == len({found.document for found in first if found})


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a store of a text, a compressed text and an iterable."""
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("To be, or not", encoding="utf-8")
    Path("b.txt.gz").write_bytes(gzip.compress(b"to be: that is the question"))
    sources = ["a.txt", "b.txt.gz", iter(["whether"])]
    options = PrepareOptions(task_bytes=8, splits={"valid": 0.4})
    prepare(sources, "store", tokenizer="word", options=options, num_workers=1)
    return tmp_path / "store"


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (0, Trace("a.txt", 0, 0)),
        (2, Trace("a.txt", 0, 7)),
        (4, Trace("b.txt.gz", 1, 0)),
        (9, Trace("b.txt.gz", 1, 19)),
        (10, Trace("iterable", 2, None)),
    ],
)
def test_sources_of_every_kind(store: Path, token: int, expected: Trace) -> None:
    """A stream is gone when the store is made."""
    assert expected == tl.trace(tl.Corpus.open(store), token)


def test_splits_count_from_their_start(store: Path) -> None:
    """A part of a store knows where it lies."""
    whole, valid = tl.Corpus.open(store), tl.Corpus.open(store, split="valid")
    start = len(whole) - len(valid)
    assert tl.trace(whole, start) == tl.trace(valid, 0)
    assert tl.trace(whole, start + 1) == tl.trace(whole.slice(start + 1, start + 2), 0)


@pytest.mark.parametrize("content", [None, "To be, or", "To be, or nut"])
def test_what_was_changed_is_not_trusted(store: Path, content: str | None) -> None:
    """Not even where the size is the same."""
    corpus = tl.Corpus.open(store)
    assert Trace("a.txt", 0, 10) == tl.trace(corpus, 3)
    path = store.parent / "a.txt"
    path.unlink()
    if content is not None:
        path.write_text(content, encoding="utf-8")
    assert Trace("a.txt", 0, None) == tl.trace(corpus, 3)
    assert Trace("b.txt.gz", 1, 3) == tl.trace(corpus, 5)
    path.write_text("To be, or not", encoding="utf-8")
    assert Trace("a.txt", 0, 10) == tl.trace(corpus, 3)


def test_another_source_of_the_same_size_and_time_is_noticed(store: Path) -> None:
    """As a copy that keeps times is."""
    corpus = tl.Corpus.open(store)
    assert Trace("a.txt", 0, 10) == tl.trace(corpus, 3)
    path, other = store.parent / "a.txt", store.parent / "other"
    other.write_text("To be, or nut", encoding="utf-8")
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    os.utime(other, ns=times)
    other.replace(path)
    assert Trace("a.txt", 0, None) == tl.trace(corpus, 3)


@pytest.mark.parametrize("name", ["a\ud800.txt", "a\0.txt"])
def test_a_source_with_a_name_that_no_file_has(store: Path, name: str) -> None:
    """It is gone like any other."""
    manifest = open_store(store).manifest
    first, *others = manifest.sources
    sources = (dataclasses.replace(first, name=name), *others)
    write_manifest(store, dataclasses.replace(manifest, sources=sources))
    assert Trace(name, 0, None) == tl.trace(tl.Corpus.open(store), 3)


def test_a_store_is_opened_once(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tokens are traced; a corpus and its slices are each one."""
    opened = []

    def note(path: Path) -> Any:
        opened.append(path)
        return open_store(path)

    monkeypatch.setattr(trace, "open_store", note)
    corpus = tl.Corpus.open(store)
    assert [7, 10, 0] == [tl.trace(corpus, token).character for token in (2, 3, 4)]
    assert [store] == opened


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tl.Corpus:
    """Return a corpus of three small sources, read in one chunk or two."""
    monkeypatch.chdir(tmp_path)
    for name in "abcd":
        Path(f"{name}.txt").write_text(f"{name} or not {name}", encoding="utf-8")
    sources = {"train": ["a.txt", "b.txt", "c.txt"], "valid": "d.txt"}
    prepare(sources, "small", tokenizer="char", num_workers=1)
    return tl.Corpus.open("small")


def test_a_chunk_is_read_once(small: tl.Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tokens of all of its sources, in whatever order, and beside another chunk."""
    read = []
    encode_again = trace._PreparedStore._encode_again

    def note(self: Any, tokenizer: CompleteTokenizer, index: int, source: int) -> Any:
        read.append((index, source))
        return encode_again(self, tokenizer, index, source)

    monkeypatch.setattr(trace._PreparedStore, "_encode_again", note)
    found = [tl.trace(small, 10 * number) for number in (1, 3, 0, 2, 3, 1)]
    assert ["b.txt", "d.txt", "a.txt", "c.txt", "d.txt", "b.txt"] == [one.source for one in found]
    assert [0] * 6 == [one.character for one in found]
    assert [(0, 2), (1, 3)] == read


@pytest.mark.parametrize("name", ["char", "word"])
def test_a_long_document_is_searched_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For all of its tokens, also where much of the text between two of them is no token."""
    text = "".join(f"caf\u00e9 or {'8' * (number % 400)} not\n" for number in range(1500))
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    prepare(tmp_path / "a.txt", tmp_path / "store", tokenizer=name, num_workers=1)
    corpus = tl.Corpus.open(tmp_path / "store")
    kind: Any = type(corpus.tokenizer)
    searched: list[TextSegment] = []
    find = kind.find_characters
    expected = find(corpus.tokenizer, TextSegment(text, 0, ends=True))

    def note(self: Any, segment: TextSegment) -> Any:
        searched.append(segment)
        return find(self, segment)

    monkeypatch.setattr(kind, "find_characters", note)
    tokens = [*range(0, len(corpus), 97), 256, 255, len(corpus) - 1]
    assert [expected[token] for token in tokens] == [tl.trace(corpus, token)[2] for token in tokens]
    assert 1 == len(searched)


def test_what_follows_in_a_chunk_may_have_changed(small: tl.Corpus) -> None:
    """The sources before it are read as they were; only its own tokens are not found."""
    Path("c.txt").write_text("x or not x", encoding="utf-8")
    Path("b.txt").touch()
    assert [0, 0, None] == [tl.trace(small, token).character for token in (0, 10, 20)]
    Path("c.txt").unlink()
    assert [0, 0, None] == [tl.trace(small, token).character for token in (0, 10, 20)]


@pytest.mark.parametrize("name", ["tokens-00000.npy", "documents.npy"])
def test_a_store_that_was_changed_is_noticed(store: Path, name: str) -> None:
    """Also where it was traced before."""
    corpus = tl.Corpus.open(store)
    tl.trace(corpus, 3)
    other = store / "other"
    other.write_bytes((store / name).read_bytes())
    other.replace(store / name)
    with pytest.raises(tl.StoreError, match=f"{name} must stay as it was when it was opened"):
        tl.trace(corpus, 3)


def test_another_manifest_is_read(store: Path) -> None:
    """What is kept of a store is kept with its manifest."""
    corpus = tl.Corpus.open(store)
    tl.trace(corpus, 3)
    (store / "manifest.json").write_text("{}", encoding="utf-8")
    with pytest.raises(tl.StoreError, match=r"manifest.json cannot be used"):
        tl.trace(corpus, 3)
    (store / "manifest.json").unlink()
    with pytest.raises(tl.StoreError, match="must be the folder of a store"):
        tl.trace(corpus, 3)


def test_what_was_not_prepared(tmp_path: Path) -> None:
    """Documents may be known, sources are not."""
    corpus = tl.Corpus.from_tokens([1, 2, 3], documents=[0, 1, 1, 3])
    assert [0, 2, 2] == [tl.trace(corpus, token).document for token in range(3)]
    saved = tl.Corpus.open(corpus.save(tmp_path / "store"))
    assert Trace(None, 2, None) == tl.trace(saved, 2)
    assert tl.trace(tl.Corpus.from_text("abc"), 1) is None


@pytest.mark.parametrize("token", [-1, 11])
def test_tokens_out_of_range(store: Path, token: int) -> None:
    """There is no such token."""
    with pytest.raises(ArgumentError, match=r"a token must be in \[0, 11\)"):
        tl.trace(tl.Corpus.open(store), token)


def test_a_token_is_an_integer() -> None:
    """No comparison or search fails instead."""
    with pytest.raises(ArgumentError, match=r"token must be an integer, got 1.5"):
        tl.trace(tl.Corpus.from_tokens([1, 2]), 1.5)  # type: ignore[arg-type]  # on purpose


def test_a_path_is_no_corpus(store: Path) -> None:
    """The message says how to make one of a store."""
    with pytest.raises(ArgumentError, match=r"a Corpus \(Corpus.open opens a store\), got "):
        tl.trace(str(store), 0)  # type: ignore[arg-type]  # on purpose


def test_the_method_of_before_still_works(store: Path) -> None:
    """It names what to call instead."""
    corpus = tl.Corpus.open(store)
    with pytest.warns(DeprecationWarning, match=r"call tokenloom.trace\(corpus, token\)") as noted:
        assert tl.trace(corpus, 5) == corpus.trace(5)
    assert __file__ == noted[0].filename


@pytest.mark.parametrize("on_error", ["replace", "skip"])
def test_lines_are_traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_error: Any) -> None:
    """To their numbers, also where lines were left out."""
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("Tell me\n\nwhere is\nfancy bred\n")
    Path("b.txt").write_text("Or in the heart\n")
    options = PrepareOptions(documents="line", on_error=on_error, task_bytes=4)
    made = prepare(["a.txt", "b.txt"], "store", tokenizer="word", options=options)
    assert made.problems == {"an empty document": 1}
    corpus = tl.Corpus.open("store")
    blank = on_error == "replace"
    expected = [
        Trace("a.txt", 1 + blank, 6, 3),
        Trace("a.txt", 2 + blank, 0, 4),
        Trace("b.txt", 3 + blank, 0, 1),
    ]
    assert expected == [tl.trace(corpus, token) for token in (3, 4, 6)]


@pytest.mark.parametrize("task_bytes", [8, 1 << 22])
def test_lines_are_traced_after_records_that_were_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task_bytes: int
) -> None:
    """Of JSON Lines and of CSV, whose rows nobody knows then."""
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_text('{"text": "Tell me"}\n\n{"text": 3}\n{"text": "where is"}\n')
    Path("a.csv").write_text('id,text\n1,"Tell\nme"\n2\n3,where is\n')
    options = PrepareOptions(on_error="skip", task_bytes=task_bytes)
    prepare(["a.jsonl", "a.csv"], "store", tokenizer="word", options=options)
    corpus = tl.Corpus.open("store")
    expected = [
        Trace("a.jsonl", 0, 5, line=1),
        Trace("a.jsonl", 1, 0, line=4),
        Trace("a.csv", 2, 5, line=2),
        Trace("a.csv", 3, 6, line=5),
    ]
    assert expected == [tl.trace(corpus, token) for token in (1, 2, 5, 7)]


def test_rows_are_known_where_some_might_have_been_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But none was."""
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("id,text\n1,Tell me\n2,where is\n")
    prepare("a.csv", "store", tokenizer="word", options=PrepareOptions(on_error="skip"))
    assert Trace("a.csv", 1, 6, row=1) == tl.trace(tl.Corpus.open("store"), 3)


def test_tokens_of_joined_corpora_are_found_in_their_parts(tmp_path: Path) -> None:
    """Sources, documents and characters are those of the store that the part lies in."""
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(f"time {name}\n\nflies {name}", encoding="utf-8")
        options = PrepareOptions(documents="paragraph")
        prepare(tmp_path / f"{name}.txt", tmp_path / name, tokenizer="byte", options=options)
    first, second = (tl.Corpus.open(tmp_path / name) for name in "ab")
    other = tl.Corpus.from_tokens([1, 2], name="other", documents=[0, 1, 2])
    joined = tl.Corpus.concatenate([first.slice(3, len(first)), other, second])
    start = len(first) - 3

    expected = Trace((tmp_path / "a.txt").as_posix(), 1, 0)
    assert joined.documents is not None
    assert expected == tl.trace(joined, int(joined.documents[1]))
    assert Trace("other", 1, None) == tl.trace(joined, start + 1)
    expected = Trace((tmp_path / "b.txt").as_posix(), 0, 2)
    assert expected == tl.trace(joined, start + 4)
    assert expected == tl.trace(joined.slice(start + 3, len(joined)), 1)


def test_sources_are_kept_where_joined_corpora_are_saved(tmp_path: Path) -> None:
    """Those of whole stores, and else the names of the parts."""
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(f"time {name}\n\nflies {name}", encoding="utf-8")
    options = PrepareOptions(documents="paragraph")
    sources = [tmp_path / "a.txt", tmp_path / "b.txt"]
    prepare(sources, tmp_path / "ab", tokenizer="byte", options=options)
    prepare(tmp_path / "c.txt", tmp_path / "c", tokenizer="byte", options=options)
    first, second = (tl.Corpus.open(tmp_path / name) for name in ("ab", "c"))
    other = tl.Corpus.from_tokens([1, 2], name="other")
    joined = tl.Corpus.concatenate([first, other, second.slice(0, 6)])
    saved = tl.Corpus.open(joined.save(tmp_path / "saved"))
    assert saved.documents is not None
    found = [tl.trace(saved, int(token)) for token in saved.documents[:-1]]
    names = [(tmp_path / f"{name}.txt").as_posix() for name in "aabb"]
    expected = [*names, "other", str(tmp_path / "c")]
    assert [Trace(name, number, None) for number, name in enumerate(expected)] == found
    again = tl.Corpus.open(tl.Corpus.open(tmp_path / "ab").save(tmp_path / "again"))
    assert Trace(names[2], 2, None) == tl.trace(again, int(saved.documents[2]))


def test_the_document_is_known_where_the_tokenizers_package_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the character is not."""
    Path(tmp_path / "a.txt").write_text("to be\n\nor not to be", encoding="utf-8")
    options = PrepareOptions(documents="paragraph")
    prepare(tmp_path / "a.txt", tmp_path / "s", tokenizer="bpe", vocab_size=260, options=options)
    corpus = tl.Corpus.open(tmp_path / "s")
    found = tl.trace(corpus, len(corpus) - 1)
    assert found is not None
    assert found.character is not None
    monkeypatch.setattr(by_value, "_encoders", {})
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    again = tl.trace(tl.Corpus.open(tmp_path / "s"), len(corpus) - 1)
    assert found._replace(character=None) == again
