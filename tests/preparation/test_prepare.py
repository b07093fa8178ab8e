"""Texts of any size to a store."""

import bz2
import gzip
import io
import itertools
import json
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tokenloom as tl
from tests.support.packages import require_package
from tests.support.preparation.preparations import HereExecutor, Shifted, contents
from tokenloom.errors import ArgumentError, CorpusError, StoreError
from tokenloom.preparation.chunks import Chunk
from tokenloom.preparation.options import PrepareOptions
from tokenloom.preparation.prepare import Prepared, check_finished, prepare
from tokenloom.preparation.sources import resolve_sources
from tokenloom.preparation.trace import Trace
from tokenloom.preparation.workdir import work_path
from tokenloom.store.verify import verify_store

LINES = "To be, or not to be:\nthat is the question.\n" * 20
SMALL = PrepareOptions(task_bytes=100)


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Return the path of a text."""
    path = tmp_path / "book.txt"
    path.write_text(LINES, encoding="utf-8")
    return path


class Stops(HereExecutor):
    """Counts the chunks it does, and after a given number acts as if Ctrl-C was pressed."""

    def __init__(self, num_chunks: int = sys.maxsize) -> None:
        self.num_done = 0
        self._num_chunks = num_chunks

    def submit(self, do: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Do it, or stop."""
        if not any(isinstance(argument, Chunk) for argument in args):
            return super().submit(do, *args, **kwargs)
        if self.num_done == self._num_chunks:
            raise KeyboardInterrupt
        self.num_done += 1
        return super().submit(do, *args, **kwargs)


def interrupt(*args: Any, num_chunks: int = 3, **kwargs: Any) -> int:
    """Prepare a store until some chunks are done, and return how many were."""
    executor = Stops(num_chunks)
    with pytest.raises(KeyboardInterrupt, match="the same call resumes from there"):
        prepare(*args, executor=executor, num_workers=1, **kwargs)
    return executor.num_done


def do_all(*args: Any, **kwargs: Any) -> int:
    """Prepare a store, and return how many chunks were done."""
    executor = Stops()
    prepare(*args, executor=executor, num_workers=1, **kwargs)
    return executor.num_done


class Vowels:
    """One token per word: how many vowels it has. What it sees is what counts."""

    vocab_size = 300

    def __init__(self) -> None:
        self.cannot_be_sent = lambda: None

    def encode(self, text: str, /) -> list[int]:
        """Return the numbers, and the length of the text."""
        return [*(sum(map(word.count, "aeiou")) for word in text.split()), len(text)]

    def decode(self, ids: list[int], /) -> str:
        """Return words of a number of vowels."""
        return " ".join("a" * id_ for id_ in ids)


def test_what_is_prepared_is_told(book: Path, tmp_path: Path) -> None:
    """Counts are those of the corpus."""
    made = prepare([book, iter(["be", "é be"])], tmp_path / "store", tokenizer="word")
    corpus = tl.Corpus.open(tmp_path / "store")
    assert (True, 3, len(corpus), 9) == (
        made.is_new,
        made.num_documents,
        made.num_tokens,
        made.vocab_size,
    )
    assert (len(LINES) + 6, 0) == (made.num_characters, made.num_unknown)
    assert ((len(LINES) + 6) / len(corpus), 0.0) == (made.characters_per_token, made.unknown_rate)
    assert book.stat().st_size + len('"be"\n"\\u00e9 be"\n') == made.num_bytes


def executors() -> Iterator[tuple[Executor | None, int]]:
    """Yield ways to do the same."""
    yield None, 1
    yield None, 2
    yield HereExecutor(), 1
    with ThreadPoolExecutor(3) as threads:
        yield threads, 3


@pytest.mark.parametrize("tokenizer", ["word", "byte"])
def test_executors_change_nothing(book: Path, tmp_path: Path, tokenizer: str) -> None:
    """The same bytes come of any, with any number of chunks on their way."""
    made = []
    for number, (executor, num_workers) in enumerate(executors()):
        path = tmp_path / str(number)
        prepare(
            book,
            path,
            tokenizer=tokenizer,
            options=SMALL,
            executor=executor,
            num_workers=num_workers,
        )
        made.append(contents(path))
    assert all(made[0] == other for other in made)


@pytest.mark.parametrize("tokenizer", ["char", "word", "byte"])
@pytest.mark.parametrize("num_chunks", [0, 1, 6, 10])
def test_an_interrupted_run_goes_on(
    book: Path, tmp_path: Path, num_chunks: int, tokenizer: str
) -> None:
    """What was finished is not done again, and the bytes are the same."""
    sources, target = [book, iter([LINES] * 2)], tmp_path / "store"
    how: dict[str, Any] = {"tokenizer": tokenizer, "options": SMALL}
    whole = do_all([book, iter([LINES] * 2)], tmp_path / "whole", **how)
    first = interrupt(sources, target, num_chunks=num_chunks, **how)
    assert num_chunks == first < whole
    kept = len(list(work_path(target).glob("tokens-*")))
    # Also those that were done and not yet asked for.
    assert kept == first
    second = do_all([book, iter([LINES] * 2)], target, **how)
    assert whole == first + second
    assert contents(tmp_path / "whole") == contents(tmp_path / "store")
    assert ["book.txt", "store", "whole"] == sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.parametrize(("num_chunks", "kept"), [(0, 0), (3, 860), (14, 2 * 860)])
def test_bytes_of_an_interrupted_run_are_not_read(
    book: Path, tmp_path: Path, num_chunks: int, kept: int
) -> None:
    """So small a file is read at once, of which each has ten chunks."""
    books = [book, *(tmp_path / f"{number}.txt" for number in range(2))]
    for other in books[1:]:
        other.write_bytes(book.read_bytes())
    interrupt(books, tmp_path / "store", num_chunks=num_chunks, options=SMALL)
    made = prepare(books, tmp_path / "store", options=SMALL, num_workers=1)
    assert (3 * 860, 3 * 860 - kept) == (made.num_bytes, made.num_bytes_read)


def test_damaged_parts_are_made_again(book: Path, tmp_path: Path) -> None:
    """A power cut may leave parts that are not whole."""
    interrupt(book, tmp_path / "store", num_chunks=4, options=SMALL)
    parts = sorted(work_path(tmp_path / "store").glob("tokens-*"))
    parts[1].write_bytes(parts[1].read_bytes()[:-3])
    prepare(book, tmp_path / "store", options=SMALL, num_workers=1)
    prepare(book, tmp_path / "whole", options=SMALL, num_workers=1)
    assert contents(tmp_path / "whole") == contents(tmp_path / "store")


def _swap(first: Path, second: Path) -> None:
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def _edit(path: Path, old: bytes, new: bytes) -> None:
    """Change a file, and nothing that its entry tells of it."""
    status = path.stat()
    content = path.read_bytes()
    assert len(old) == len(new)
    assert old in content
    path.write_bytes(content.replace(old, new))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("how", ["swapped", "of other settings", "of other bytes"])
@pytest.mark.parametrize("tokenizer", ["char", "word", "byte"])
def test_parts_that_do_not_belong_are_made_again(
    book: Path, tmp_path: Path, how: str, tokenizer: str
) -> None:
    """Each is whole by itself, and was made for another place, run or text."""
    target, other = tmp_path / "store", tmp_path / "other"
    options = SMALL
    if how == "of other settings":
        wrong = PrepareOptions(task_bytes=100, normalize=tokenizer == "byte", field="other")
        interrupt(book, other, num_chunks=6, tokenizer=tokenizer, options=wrong)
    elif how == "of other bytes":
        _edit(book, b"question", b"ANSWER!!")
        interrupt(book, other, num_chunks=6, tokenizer=tokenizer, options=options)
        _edit(book, b"ANSWER!!", b"question")
    interrupt(book, target, num_chunks=6, tokenizer=tokenizer, options=options)
    parts = sorted(work_path(target).glob("tokens-*"))
    if how == "swapped":
        _swap(parts[1], parts[2])
    else:
        parts[1].write_bytes((work_path(other) / parts[1].name).read_bytes())
    prepare(book, target, tokenizer=tokenizer, options=options, num_workers=1)
    prepare(book, tmp_path / "whole", tokenizer=tokenizer, options=options, num_workers=1)
    assert contents(tmp_path / "whole") == contents(target)


@pytest.mark.parametrize("edited", ["ended", "begun", "to come"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_source_that_was_edited_in_secret_is_read_again(
    tmp_path: Path, edited: str, suffix: str
) -> None:
    """Its size and time are the same; the store is that of the bytes of now."""
    lines = "To be, or not to be:\nthat is the question.\n"
    books = [tmp_path / f"{name}.txt{suffix}" for name in ("ended", "begun", "to come")]
    pack = (lambda text: gzip.compress(text, 0)) if suffix else bytes
    for path in books:
        path.write_bytes(pack(lines.encode() * 20))
    target = tmp_path / "store"
    how: dict[str, Any] = {"tokenizer": "word", "options": SMALL}
    interrupt(books, target, num_chunks=16, **how)
    (path,) = (path for path in books if path.name.startswith(edited))
    status = path.stat()
    path.write_bytes(pack(lines.replace("question", "ANSWER!!").encode() * 20))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert status.st_size == path.stat().st_size

    prepare(books, target, num_workers=1, **how)
    prepare(books, tmp_path / "whole", num_workers=1, **how)
    assert contents(tmp_path / "whole") == contents(target)
    corpus = tl.Corpus.open(target)
    assert corpus.vocab is not None
    assert (20, 40) == tuple(corpus.vocab.frequencies[word] for word in ("answer", "question"))


def test_shards_of_other_parts_are_written_again(
    book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was finished before a source was edited in secret holds the old tokens."""
    target = tmp_path / "store"
    options = PrepareOptions(task_bytes=100, shard_tokens=50)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tokenloom.preparation.assemble.write_manifest", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare(book, target, options=options, num_workers=1)
    monkeypatch.undo()
    _edit(book, b"question", b"noitseuq")
    prepare(book, target, options=options, num_workers=1)
    prepare(book, tmp_path / "whole", options=options, num_workers=1)
    assert contents(tmp_path / "whole") == contents(target)


def test_a_preparation_reports_that_it_resumes(
    book: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The message says how much is kept; a first preparation reports nothing."""
    caplog.set_level("INFO", "tokenloom.preparation.prepare")
    num_done = interrupt(book, tmp_path / "store", options=SMALL)
    assert not caplog.messages
    prepare(book, tmp_path / "store", options=SMALL, num_workers=1)
    assert [f"resumes an interrupted preparation, keeps {num_done} chunks, 0.0 MB of 0.0"] == (
        caplog.messages
    )


def test_a_kept_stream_is_proved_by_its_bytes(tmp_path: Path) -> None:
    """One that was damaged in the work folder is kept again."""
    texts, target = [f"{LINES[:80]} {number}" for number in range(40)], tmp_path / "store"
    interrupt(iter(texts), target, num_chunks=6, tokenizer="byte", options=SMALL)
    _edit(work_path(target) / "source-0000000", b"question", b"ANSWER!!")
    prepare(iter(texts), target, tokenizer="byte", options=SMALL, num_workers=1)
    prepare(iter(texts), tmp_path / "whole", tokenizer="byte", options=SMALL, num_workers=1)
    assert contents(tmp_path / "whole") == contents(target)


@pytest.mark.parametrize("name", ["", "store", "source-0000000", "store/tokens-00000.npy"])
def test_links_in_the_way_lead_nowhere(book: Path, tmp_path: Path, name: str) -> None:
    """No file that they lead to is changed or removed, and no store becomes a link."""
    docs, target = tmp_path / "docs", tmp_path / "store"
    docs.mkdir()
    (docs / "thesis.txt").write_text("years", encoding="utf-8")
    link = work_path(target) / name
    link.parent.mkdir(parents=True, exist_ok=True)
    if name:
        (work_path(target) / "settings.json").write_text("{}", encoding="utf-8")
    link.symlink_to(docs / "thesis.txt" if name.endswith(("npy", "0")) else docs)
    try:
        prepare([book, iter(["b"])], target, num_workers=1)
    except tl.StoreError:
        assert name in ("", "store")
    else:
        assert name not in ("", "store")
        assert [] == [path for path in target.rglob("*") if path.is_symlink()]
    assert not target.is_symlink()
    assert ["thesis.txt"] == [path.name for path in docs.iterdir()]
    assert "years" == (docs / "thesis.txt").read_text(encoding="utf-8")


def test_other_settings_do_not_go_on(book: Path, tmp_path: Path) -> None:
    """Each difference is named; only splits may be others."""
    interrupt(book, tmp_path / "store", options=SMALL)
    others = PrepareOptions(task_bytes=100, min_freq=2, field="body")
    with pytest.raises(
        tl.StoreError, match=r"field was 'text', now 'body'; min_freq was 0, now 2; give those"
    ):
        prepare(book, tmp_path / "store", options=others)
    with pytest.raises(
        tl.StoreError, match="the tokenizer was 'char', now 'char' with vocab_size=9;"
    ):
        prepare(book, tmp_path / "store", vocab_size=9, options=SMALL)
    with pytest.raises(tl.StoreError, match="the tokenizer was 'char', now 'word';"):
        prepare(book, tmp_path / "store", tokenizer="word", options=SMALL)
    os.utime(book, ns=(1, 1))
    with pytest.raises(tl.StoreError, match=r"the source '.*book.txt' was changed;"):
        prepare(book, tmp_path / "store", options=SMALL)
    assert not (tmp_path / "store").exists()


def test_a_store_knows_what_was_cut(book: Path, tmp_path: Path) -> None:
    """How many different tokens got no id, and how often they appear; also a finished one."""
    whole = tl.Corpus.from_text(book.read_text(encoding="utf-8"), tokenizer="word")
    assert whole.vocab is not None
    counts = list(whole.vocab.frequencies.values())
    for is_new in (True, False):
        made = prepare(book, tmp_path / "store", tokenizer="word", vocab_size=3, options=SMALL)
        assert (is_new, 3, len(counts) - 2) == (
            made.is_new,
            made.vocab_size,
            made.num_unknown_types,
        )
        assert sum(counts[2:]) == made.num_unknown
    with pytest.raises(
        tl.StoreError, match="'word' with vocab_size=3, now 'word' with vocab_size=4;"
    ):
        prepare(book, tmp_path / "store", tokenizer="word", vocab_size=4, options=SMALL)
    uncut = prepare(book, tmp_path / "uncut", tokenizer="word", options=SMALL)
    assert (0, None) == (uncut.num_unknown, uncut.num_unknown_types)


def test_splits_may_be_others(tmp_path: Path) -> None:
    """They are cut at the end, so a bad one costs nothing."""
    target = tmp_path / "store"
    with pytest.raises(tl.StoreError, match=r"each split must hold a token, got none in 'train'"):
        prepare(iter(["one document"]), target, options=PrepareOptions(splits={"valid": 0.5}))
    better = PrepareOptions(splits={"valid": 0.5}, split_by="block")
    prepare(iter(["one document"]), target, options=better)
    assert "cument" == "".join(
        tl.Corpus.open(target).decode(tl.Corpus.open(target, split="valid").tokens)
    )


TRAIN, VALID, TEST = "time flies like an arrow " * 12, "fruit flies too " * 9, "so be it " * 20


def _write_splits(folder: Path) -> dict[str, Any]:
    """Write files of three splits, of which "train" is not named first."""
    if not folder.exists():
        folder.mkdir()
        for name, text in {"a": TRAIN, "b": TRAIN[:50], "c": VALID}.items():
            (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return {
        "valid": folder / "c.txt",
        "train": [folder / "a.txt", folder / "b.txt"],
        "test": [iter([TEST])],
    }


def test_splits_are_named_by_their_sources(tmp_path: Path) -> None:
    """With the documents of each; the vocabulary is that of "train", which comes first."""
    made = prepare(_write_splits(tmp_path / "texts"), tmp_path / "store", tokenizer="word")
    corpora = {name: tl.Corpus.open(tmp_path / "store", split=name) for name in made.splits}

    assert ["train", "valid", "test"] == list(made.splits)
    vocab = tl.Corpus.from_documents([TRAIN, TRAIN[:50]], tokenizer="word").vocab
    assert vocab == corpora["train"].vocab
    for name, texts in {"train": [TRAIN, TRAIN[:50]], "valid": [VALID], "test": [TEST]}.items():
        expected = tl.Corpus.from_documents(texts, tokenizer=vocab or "word")
        assert expected.tokens.tolist() == corpora[name].tokens.tolist()
        assert len(texts) == corpora[name].num_documents
    assert [(70, 0), (27, 18), (60, 60)] == list(made.splits.values())
    assert (78, None) == (made.num_unknown, made.num_unknown_types)
    assert 2 / 3 == made.splits["valid"].unknown_rate
    again = prepare(_write_splits(tmp_path / "texts"), tmp_path / "store", tokenizer="word")
    assert (False, made.splits) == (again.is_new, again.splits)


@pytest.mark.parametrize("tokenizer", ["word", "byte"])
@pytest.mark.parametrize("num_chunks", [0, 1, 4, 9])
def test_interrupted_splits_go_on(tmp_path: Path, num_chunks: int, tokenizer: str) -> None:
    """With the same bytes, which do not depend on workers; other splits are refused."""
    options = PrepareOptions(task_bytes=40)
    how: dict[str, Any] = {"tokenizer": tokenizer, "options": options}
    whole = do_all(_write_splits(tmp_path / "texts"), tmp_path / "whole", **how)
    sources = _write_splits(tmp_path / "texts")
    assert num_chunks == interrupt(sources, tmp_path / "store", num_chunks=num_chunks, **how)
    if num_chunks > 2:
        flat = [tmp_path / "texts" / f"{name}.txt" for name in "abc"]
        with pytest.raises(StoreError, match="the split 'valid' was of 1 source, now none"):
            prepare([*flat, iter([TEST])], tmp_path / "store", num_workers=1, **how)
    sources = _write_splits(tmp_path / "texts")
    prepare(sources, tmp_path / "store", num_workers=2 if num_chunks == 4 else 1, **how)

    assert contents(tmp_path / "whole") == contents(tmp_path / "store")
    assert whole > 9
    prepare(
        _write_splits(tmp_path / "texts"), tmp_path / "large", tokenizer=tokenizer, num_workers=1
    )
    tokens = [tl.Corpus.open(tmp_path / name).tokens.tolist() for name in ("whole", "large")]
    assert tokens[0] == tokens[1]


def test_a_split_is_traced_to_its_source(tmp_path: Path) -> None:
    """Also where a chunk ends with a split, long before it is full."""
    prepare(_write_splits(tmp_path / "texts"), tmp_path / "store", tokenizer="word")
    valid = tl.Corpus.open(tmp_path / "store", split="valid")
    train = tl.Corpus.open(tmp_path / "store", split="train")

    where = (tmp_path / "texts" / "c.txt").as_posix()
    assert Trace(where, 2, 6) == tl.trace(valid, 1)
    where = (tmp_path / "texts" / "a.txt").as_posix()
    assert Trace(where, 0, TRAIN.index("an")) == tl.trace(train, 3)


def test_splits_of_bytes_may_be_learned_of_nothing(tmp_path: Path) -> None:
    """A split without a token is refused, and named."""
    (tmp_path / "a.txt").write_text("time", encoding="utf-8")
    (tmp_path / "b.txt").write_text("1 2 3", encoding="utf-8")
    with pytest.raises(StoreError, match="got none in 'valid': name other sources for it"):
        prepare({"train": tmp_path / "a.txt", "valid": tmp_path / "b.txt"}, tmp_path / "store")


@pytest.mark.parametrize(
    ("sources", "options", "message"),
    [
        ({"train": []}, {}, "names of splits to at least one source each, got \\[\\] for 'train'"),
        ({"": "a.txt"}, {}, "names of splits to at least one source each"),
        ({}, {}, "sources must be at least one"),
        ({"a": "a.txt", "b": "./a.txt"}, {}, "in one split, a.txt is in 'a' and in 'b'"),
        ({"a": "a.txt"}, {"splits": {"b": 0.1}}, "splits must be left out where .* are 'a', got"),
        ({"a": "a.txt"}, {"split_by": "block"}, "split_by must be left out where"),
    ],
)
def test_splits_by_sources_that_cannot_be(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sources: Any,
    options: dict[str, Any],
    message: str,
) -> None:
    """Before anything is read."""
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("time flies", encoding="utf-8")
    with pytest.raises(ArgumentError, match=message):
        prepare(sources, "store", options=PrepareOptions(**options))
    assert not Path("store").exists()


def test_a_finished_store_is_left_alone(book: Path, tmp_path: Path) -> None:
    """The same call says so, whatever the time of the sources."""
    first = prepare([book, iter(["b"])], tmp_path / "store")
    before = contents(tmp_path / "store")
    os.utime(book)
    work_path(tmp_path / "store").mkdir()
    again = prepare([book, iter(["b"])], tmp_path / "store")
    assert (True, False) == (first.is_new, again.is_new)
    assert not work_path(tmp_path / "store").exists()
    assert (first.num_tokens, first.num_characters) == (again.num_tokens, again.num_characters)
    assert before == contents(tmp_path / "store")


def test_another_store_is_not_replaced(book: Path, tmp_path: Path) -> None:
    """What differs is told: settings, sources, or their bytes."""
    target = tmp_path / "store"
    prepare([book, iter(["b"])], target)
    before = contents(target)
    with pytest.raises(tl.StoreError, match=r"is a store already, and not .*: min_freq was 0"):
        prepare([book, iter(["b"])], target, options=PrepareOptions(min_freq=3))
    with pytest.raises(tl.StoreError, match=r"source 2 was 'iterable', now none"):
        prepare([book], target)
    with pytest.raises(tl.StoreError, match=r"iterable has other bytes now"):
        prepare([book, iter(["c"])], target)
    book.write_text(LINES.upper(), encoding="utf-8")
    with pytest.raises(tl.StoreError, match=r"book.txt has other bytes now"):
        prepare([book, iter(["b"])], target)
    assert before == contents(target)


def test_a_saved_store_is_not_replaced(book: Path, tmp_path: Path) -> None:
    """Nor is a folder with anything else in it."""
    tl.Corpus.from_text("a").save(tmp_path / "saved")
    with pytest.raises(tl.StoreError, match="it was saved from a corpus"):
        prepare(book, tmp_path / "saved")
    with pytest.raises(tl.StoreError, match="needs a new or an empty folder"):
        prepare(book, tmp_path)


def test_sources_of_every_kind(book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They follow each other, and each counts its documents."""
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one\n\ntwo"))
    records = "\n".join(json.dumps({"body": text}) for text in ("three", "four"))
    (tmp_path / "b.jsonl.bz2").write_bytes(bz2.compress(records.encode()))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"five\n\n\nsix")))
    sources = [tmp_path / "a.txt.gz", str(tmp_path / "*.bz2"), "-", "python_docs", book]
    options = PrepareOptions(documents="paragraph", field="body")
    prepare(sources, tmp_path / "store", tokenizer="word", options=options)

    corpus = tl.Corpus.open(tmp_path / "store")
    found = [corpus.decode(corpus.document(number).tokens) for number in range(6)]
    assert ["one", "two", "three", "four", "five", "six"] == found
    facts = json.loads((tmp_path / "store" / "manifest.json").read_text())["sources"]
    assert [2, 2, 2] == [source["num_documents"] for source in facts[:3]]
    assert ["-", "python_docs"] == [source["name"] for source in facts[2:4]]
    assert [] == verify_store(tmp_path / "store")


@pytest.mark.parametrize(("on_error", "num_documents"), [("skip", 1), ("replace", 4)])
def test_bad_documents_are_counted(tmp_path: Path, on_error: Any, num_documents: int) -> None:
    """In the summary and in the store."""
    lines = [b'{"text": "good"}', b'{"text": oh}', b'{"text": ""}', b"{}"]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    made = prepare(
        tmp_path / "a.jsonl", tmp_path / "store", options=PrepareOptions(on_error=on_error)
    )
    problems = {"invalid JSON": 1, "an empty document": 1, "a missing field": 1}
    assert (num_documents, problems) == (made.num_documents, made.problems)
    assert "good" == tl.Corpus.open(tmp_path / "store").decode(
        tl.Corpus.open(tmp_path / "store").tokens
    )


def test_the_first_bad_document_is_told(tmp_path: Path) -> None:
    """Also where a later one is found sooner; what was finished is kept."""
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "good"}\n' * 30 + b"oh\n" * 30)
    with pytest.raises(CorpusError, match=r"a.jsonl has invalid JSON at byte 510"):
        prepare(tmp_path / "a.jsonl", tmp_path / "store", options=SMALL, num_workers=2)
    assert not (tmp_path / "store").exists()


def test_nothing_to_tokenise(tmp_path: Path) -> None:
    """A store holds at least one token."""
    with pytest.raises(CorpusError, match="at least one token, got none in 1 document"):
        prepare(iter(["123"]), tmp_path / "store")


def test_a_given_vocabulary_is_used(tmp_path: Path) -> None:
    """In one pass; what it lacks is unknown."""
    vocab = tl.Vocab(["to", "be"], reserved_tokens=["<eod>"])
    made = prepare(
        iter(["to be", "or"]),
        tmp_path / "store",
        tokenizer=vocab,
        options=PrepareOptions(end_of_document="<eod>"),
    )
    corpus = tl.Corpus.open(tmp_path / "store")
    assert ([2, 3, 1, 0, 1], vocab) == (corpus.tokens.tolist(), corpus.vocab)
    assert (1, 0.2) == (made.num_unknown, made.unknown_rate)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("kind", ["char", "word"])
@pytest.mark.parametrize("saved", [True, False])
def test_a_vocabulary_brings_its_normalisation(
    book: Path, tmp_path: Path, kind: str, normalize: bool, saved: bool
) -> None:
    """The tokens are those of the corpus that it comes from."""
    corpus = tl.Corpus.from_text(LINES, tokenizer=kind, normalize=normalize)
    vocab = corpus.vocab
    assert vocab is not None
    if saved:
        vocab = tl.Vocab.load(vocab.save(tmp_path / "words.json"))
    prepare(book, tmp_path / "store", tokenizer=vocab, options=SMALL, num_workers=1)
    again = tl.Corpus.open(tmp_path / "store")
    assert corpus.tokens.tolist() == again.tokens[:].tolist()
    assert corpus.tokenizer == again.tokenizer


def test_no_worker_is_this_process(book: Path, tmp_path: Path) -> None:
    """An own tokenizer that cannot be sent anywhere works there."""
    sources = [iter(["to be"] * 30)]
    prepare(sources, tmp_path / "store", tokenizer=Vowels(), options=SMALL, num_workers=0)
    with pytest.raises(ArgumentError, match=r"num_workers must be an integer in \[0, 4096\)"):
        prepare(book, tmp_path / "store", num_workers=-1)


def test_own_tokenizers_see_whole_documents(tmp_path: Path) -> None:
    """However small the chunks are; one that cannot be sent to processes is refused before."""
    text = "To be, or not to be:\nthat is the question.\n"
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    options = PrepareOptions(task_bytes=8)
    sources = [tmp_path / "a.txt", tmp_path / "a.txt"]
    with pytest.raises(ArgumentError, match=r"can be pickled.*pass num_workers=1"):
        prepare(sources, tmp_path / "s", tokenizer=Vowels(), options=options, num_workers=2)
    prepare(sources, tmp_path / "s", tokenizer=Vowels(), options=options, num_workers=1)
    whole = tl.Corpus.from_text(text, tokenizer=Vowels())
    made = tl.Corpus.open(tmp_path / "s", tokenizer=Vowels())
    assert 2 * whole.tokens.tolist() == made.tokens.tolist()
    assert 2 == made.num_documents
    found = tl.trace(made, 3)
    assert found is not None
    assert (0, None) == (found.document, found.character)


def test_own_tokenizers_are_told_apart(book: Path, tmp_path: Path) -> None:
    """By what they make of a text, while a run goes on and when it is finished."""
    books, store = [book] * 4, tmp_path / "store"
    interrupt(books, store, tokenizer=Shifted(1), options=SMALL)
    with pytest.raises(
        tl.StoreError,
        match=r"settings is kept.* one of your own, Shifted with 256 ids, now another",
    ):
        prepare(books, store, tokenizer=Shifted(2), options=SMALL)
    assert prepare(books, store, tokenizer=Shifted(1), options=SMALL, num_workers=1).is_new
    with pytest.raises(tl.StoreError, match=r"a store already.* was one of your own, Shifted with"):
        prepare(books, store, tokenizer=Shifted(2), options=SMALL)
    assert not prepare(books, store, tokenizer=Shifted(1), options=SMALL).is_new


def test_splits_leak_nothing(tmp_path: Path) -> None:
    """By document none is on both sides; by block the tokens go on."""
    texts = ["aaaa", "bbb", "cc", "d"]
    splits = {"valid": 0.3, "test": 0.1}
    for split_by, expected in (
        ("document", ["aaaa", "bbbcc", "d"]),
        ("block", ["aaaabb", "bcc", "d"]),
    ):
        target = tmp_path / split_by
        options = PrepareOptions(splits=splits, split_by=split_by)  # type: ignore[arg-type]  # a word
        prepare(iter(texts), target, options=options)
        whole = tl.Corpus.open(target)
        parts = [tl.Corpus.open(target, split=name) for name in ("train", "valid", "test")]
        assert expected == [whole.decode(part.tokens) for part in parts]


def test_bars_go_over_bytes_and_tokens(
    book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of the sources, and those of the store."""
    made = prepare(book, tmp_path / "store", options=SMALL, num_workers=1, progress=True)
    shown = capsys.readouterr().err
    assert re.search(rf"encode: 100%.* {book.stat().st_size}/{book.stat().st_size} ", shown)
    assert re.search(rf"write: 100%.* {made.num_tokens}/{made.num_tokens} ", shown)
    prepare(book, tmp_path / "other", options=SMALL, num_workers=1)
    assert "" == capsys.readouterr().err


@pytest.mark.parametrize(
    ("documents", "space"),
    [
        ("file", " "),
        ("file", "\t \n"),
        ("file", "\u2028"),
        ("paragraph", "\x1c"),
        ("paragraph", "\u3000 "),
    ],
)
@pytest.mark.parametrize("task_bytes", [1, 7, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "tokenizer",
    ["char", *(pytest.param(name, marks=pytest.mark.slow) for name in ("word", "byte"))],
)
def test_white_space_is_empty_however_large_tasks_are(
    tmp_path: Path, space: str, task_bytes: int, tokenizer: str, documents: Any
) -> None:
    """White space before a text is no empty document."""
    for name, text in (("a", space * 40), ("b", f"{space * 40}b")):
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8", newline="")
    sources = [tmp_path / "a.txt", tmp_path / "b.txt"]
    how: dict[str, Any] = {"documents": documents, "task_bytes": task_bytes}
    raw: dict[str, Any] = {} if tokenizer == "byte" else {"normalize": False}
    with pytest.raises(CorpusError, match=r"a.txt has an empty document at byte 0: in line 1"):
        prepare(sources, tmp_path / "s", tokenizer=tokenizer, options=PrepareOptions(**how, **raw))
    for on_error, num_documents in (("skip", 1), ("replace", 2)):
        options = PrepareOptions(**how, **raw, on_error=on_error)  # type: ignore[arg-type]  # a word
        made = prepare(sources, tmp_path / on_error, tokenizer=tokenizer, options=options)
        assert (num_documents, {"an empty document": 1}) == (made.num_documents, made.problems)
        corpus = tl.Corpus.open(tmp_path / on_error)
        whole = tl.Corpus.from_text(f"{space * 40}b", tokenizer=tokenizer, **raw)
        assert corpus.decode(corpus.tokens[:]) == whole.decode(whole.tokens)


class Refuses:
    """One token per character; some texts are too much for it."""

    vocab_size = 1000

    def encode(self, text: str, /) -> list[int]:
        """Return the codes, or raise what nobody expects."""
        if "!" in text:
            raise ZeroDivisionError(text)
        return [*map(ord, text)]

    def decode(self, ids: list[int], /) -> str:
        """Return the characters."""
        return "".join(map(chr, ids))


@pytest.mark.parametrize("bad", ["oh!", "\u4e00"])
def test_an_own_tokenizer_that_fails_obeys(tmp_path: Path, bad: str) -> None:
    """Whether it raises or returns ids that are none; source, offset and reason are told."""
    path = tmp_path / "a.jsonl"
    texts = ["good", bad, "better"]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    reason = r"ZeroDivisionError: oh!" if bad == "oh!" else r"must be in \[0, 1000\), got 19968"
    how: dict[str, Any] = {"tokenizer": Refuses(), "num_workers": 1}
    expected = rf"a.jsonl has text that the tokenizer refuses at byte 17: in line 2, .*{reason}"
    with pytest.raises(CorpusError, match=expected):
        prepare(path, tmp_path / "s", **how)
    for on_error, found in (("skip", ["good", "better"]), ("replace", ["good", "", "better"])):
        options = PrepareOptions(on_error=on_error)  # type: ignore[arg-type]  # a word
        made = prepare(path, tmp_path / on_error, options=options, **how)
        assert {"text that the tokenizer refuses": 1} == made.problems
        corpus = tl.Corpus.open(tmp_path / on_error, tokenizer=Refuses())
        assert corpus.documents is not None
        assert found == [
            corpus.decode(corpus.tokens[start:stop])
            for start, stop in itertools.pairwise(corpus.documents.tolist())
        ]
    with pytest.raises(CorpusError, match=rf"failed at document 1: .*{reason}"):
        tl.Corpus.from_documents(texts, tokenizer=Refuses())


@pytest.mark.parametrize("tokenizer", ["char", "word", "byte", Shifted(1)])
def test_half_a_pair_is_no_text(tmp_path: Path, tokenizer: Any) -> None:
    """In JSON it can be written; every tokenizer gets U+FFFD instead, or nothing."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "good"}\n{"text": "b\\ud83db"}\n')
    how: dict[str, Any] = {"tokenizer": tokenizer, "num_workers": 1}
    raw: dict[str, Any] = {"normalize": False} if tokenizer in ("char", "word") else {}
    expected = r"a.jsonl has undecodable text at byte 28: in line 2, the lone surrogate '\\ud83d'"
    with pytest.raises(CorpusError, match=expected):
        prepare(path, tmp_path / "s", options=PrepareOptions(**raw), **how)
    with pytest.raises(CorpusError, match="iterable has undecodable text in document 1: "):
        prepare(iter(["a", "\ud83d"]), tmp_path / "i", options=PrepareOptions(**raw), **how)
    for on_error, found in (("skip", "good"), ("replace", "goodb\ufffdb")):
        options = PrepareOptions(on_error=on_error, **raw)  # type: ignore[arg-type]  # a word
        made = prepare(path, tmp_path / on_error, options=options, **how)
        assert {"undecodable text": 1} == made.problems
        given = tokenizer if isinstance(tokenizer, Shifted) else None
        corpus = tl.Corpus.open(tmp_path / on_error, tokenizer=given)
        assert found == corpus.decode(corpus.tokens[:]).replace(" ", "")
    with pytest.raises(CorpusError, match=r"text must be text, got the lone surrogate"):
        tl.Corpus.from_text("a\ud83d", tokenizer=tokenizer)
    with pytest.raises(CorpusError, match=r"document 1 must be text, got the lone surrogate"):
        tl.Corpus.from_documents(["a", "a\ud83d"], tokenizer=tokenizer)


_RAW = {"normalize": False}
RESERVED: list[tuple[Any, dict[str, Any], str, str, int]] = [
    (
        "word",
        {"normalize": False, "end_of_document": "<eod>"},
        "a\nb <eod> c <eod>",
        "token '<eod>'",
        2,
    ),
    ("word", {"normalize": False, "reserved_tokens": ["<x>"]}, "a\nb <x>", "token '<x>'", 1),
    ("word", {"normalize": False}, "a\nb <unk>", "token '<unk>'", 1),
    ("word", {"end_of_document": "eod"}, "a\nb eod", "token 'eod'", 1),
    ("char", {"normalize": False, "end_of_document": "\x03"}, "a\nb \x03", "token '\\x03'", 1),
    ("byte", {"end_of_document": 3}, "a\nb \x03", "id 3", 1),
    (Refuses(), {"end_of_document": 3}, "a\nb \x03", "id 3", 1),
    (
        tl.Vocab(["a"], reserved_tokens=["<eod>"]).of_kind("word", normalize=False),
        {"end_of_document": "<eod>"},
        "a\nb <eod> a",
        "token '<eod>'",
        1,
    ),
    (
        tl.Vocab(["a"], reserved_tokens=["<x>"]).of_kind("word", normalize=False),
        {},
        "a\nb <unk> a",
        "token '<unk>'",
        1,
    ),
]


@pytest.mark.parametrize(("tokenizer", "how", "text", "name", "times"), RESERVED)
def test_reserved_tokens_in_a_text_are_counted(
    tmp_path: Path, tokenizer: Any, how: dict[str, Any], text: str, name: str, times: int
) -> None:
    """They seem to be what they are not; by option they are an error."""
    path = tmp_path / "a.txt"
    path.write_text(text)
    again: dict[str, Any] = {"tokenizer": tokenizer, "num_workers": 1}
    made = prepare(path, tmp_path / "store", options=PrepareOptions(**how), **again)
    assert {f"the reserved {name}": times} == made.problems
    stop = PrepareOptions(**how, on_reserved="stop")
    expected = (
        rf"a.txt has the reserved {re.escape(name)} at byte 4: in line 2, .*on_reserved='count'"
    )
    with pytest.raises(CorpusError, match=expected):
        prepare(path, tmp_path / "other", options=stop, **again)
    path.write_text("a\na")
    assert {} == prepare(path, tmp_path / "other", options=stop, **again).problems
    with pytest.raises(tl.StoreError, match="on_reserved was 'stop', now none"):
        prepare(path, tmp_path / "other", options=PrepareOptions(**how), **again)


ACCENTS = "Être, ou ne pas être\n\nTelle est la question: \u6642\u9593\n" * 15


def in_encoding(folder: Path, encoding: str) -> Path:
    """Write a folder of a text and of records in an encoding."""
    folder.mkdir()
    (folder / "a.txt.gz").write_bytes(gzip.compress(ACCENTS.encode(encoding)))
    records = "".join(json.dumps({"text": "é"}, ensure_ascii=False) + "\n" for _ in range(9))
    (folder / "b.jsonl").write_bytes(records.encode(encoding))
    return folder


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32-be", "gb18030", "utf-8-sig"])
@pytest.mark.parametrize("tokenizer", ["char", "word", "byte", Shifted(1)])
def test_other_encodings_make_the_same_tokens(
    tmp_path: Path, encoding: str, tokenizer: Any
) -> None:
    """They are those of the same text in UTF-8, and each is traced to its character."""
    stores = []
    for name in ("utf-8", encoding):
        options = PrepareOptions(
            encoding=name, normalize=tokenizer not in ("char", "word"), task_bytes=100
        )
        folder = in_encoding(tmp_path / f"in-{name}", name)
        prepare(folder, tmp_path / name, tokenizer=tokenizer, options=options, num_workers=1)
        own = tokenizer if isinstance(tokenizer, Shifted) else None
        stores.append(tl.Corpus.open(tmp_path / name, tokenizer=own))
    expected, got = stores
    assert expected.tokens[:].tolist() == got.tokens[:].tolist()
    assert expected.documents is not None
    assert got.documents is not None
    assert expected.documents.tolist() == got.documents.tolist()
    assert not isinstance(tokenizer, str) or expected.vocab == got.vocab
    for token in range(0, len(got), 17):
        places = (tl.trace(corpus, token) for corpus in (expected, got))
        assert len({(place.document, place.character) for place in places if place}) == 1


def test_an_encoding_is_kept_and_compared(tmp_path: Path) -> None:
    """A store of UTF-8 says nothing of it, as those of before there was a choice."""
    folder = in_encoding(tmp_path / "in", "utf-16")
    options = PrepareOptions(encoding="UTF_16", task_bytes=100)
    assert interrupt(folder, tmp_path / "store", options=options) < do_all(
        folder, tmp_path / "other", options=options
    )
    assert do_all(folder, tmp_path / "store", options=options) > 0
    assert contents(tmp_path / "store") == contents(tmp_path / "other")
    manifest = json.loads((tmp_path / "store" / "manifest.json").read_text("utf-8"))
    assert "utf-16" == manifest["facts"]["preparation"]["encoding"]
    assert "encoding" not in PrepareOptions().describe()
    with pytest.raises(tl.StoreError, match="encoding was 'utf-16', now 'utf-16-le'"):
        prepare(
            folder, tmp_path / "store", options=PrepareOptions(encoding="utf-16-le", task_bytes=100)
        )


@pytest.mark.parametrize(
    ("on_error", "tokenizer", "expected"),
    [
        ("skip", "char", ["good", "fine"]),
        ("replace", "char", ["good", "a\ufffdb", "fine"]),
        ("replace", "byte", ["good", "a\ufffdb", "fine"]),
    ],
)
def test_bytes_that_are_not_in_an_encoding(
    tmp_path: Path, on_error: Any, tokenizer: str, expected: list[str]
) -> None:
    """Documents with such bytes are found, as in UTF-8."""
    content = "good\n\na#b\n\nfine".encode("utf-16").replace(b"#\0", b"\x00\xd8")
    (tmp_path / "a.txt").write_bytes(content)
    options = PrepareOptions(
        documents="paragraph", encoding="utf-16", on_error=on_error, normalize=tokenizer == "byte"
    )
    made = prepare(tmp_path / "a.txt", tmp_path / "store", tokenizer=tokenizer, options=options)
    corpus = tl.Corpus.open(tmp_path / "store")
    texts = [corpus.decode(corpus.document(i).tokens) for i in range(corpus.num_documents)]
    assert expected == texts
    assert tokenizer == "byte" or {"undecodable bytes": 1} == dict(made.problems)
    with pytest.raises(CorpusError, match="byte 0x00 at offset 16 is not text in utf-16"):
        prepare(tmp_path / "a.txt", tmp_path / "x", options=PrepareOptions(encoding="utf-16"))


@pytest.mark.parametrize("tokenizer", ["char", "byte"])
def test_what_is_no_text_is_refused_at_once(tmp_path: Path, tokenizer: str) -> None:
    """Nothing is left of the try, whatever becomes of bad documents."""
    (tmp_path / "a.txt").write_bytes("To be".encode("utf-16"))
    for on_error in ("stop", "skip", "replace"):
        with pytest.raises(CorpusError, match="it is text in UTF-16: name it: encoding='utf-16"):
            prepare(
                tmp_path / "a.txt",
                tmp_path / "store",
                tokenizer=tokenizer,
                options=PrepareOptions(on_error=on_error),
            )
    assert ["a.txt"] == [path.name for path in tmp_path.iterdir()]
    options = PrepareOptions(encoding="utf-16")
    prepare(tmp_path / "a.txt", tmp_path / "store", tokenizer=tokenizer, options=options)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """Return a store of one small file."""
    (tmp_path / "a.txt").write_text("some text", encoding="utf-8")
    prepare(tmp_path / "a.txt", tmp_path / "store")
    return tmp_path / "store"


def check_again(finished: Path, name: str = "a.txt", **settings: object) -> None:
    """Compare the store with another call."""
    found = resolve_sources(finished.parent / name, documents="file")
    told = {"tokenizer": {"name": "char"}, **PrepareOptions().describe(), **settings}
    check_finished(finished, found, told)


def test_the_same_call_is_finished(finished: Path) -> None:
    """Nothing is said."""
    check_again(finished)


def test_other_calls_are_not(finished: Path) -> None:
    """Settings, names, sizes and bytes count."""
    with pytest.raises(tl.StoreError, match="min_freq was 0, now 1"):
        check_again(finished, min_freq=1)
    (finished.parent / "b.txt").write_text("some text", encoding="utf-8")
    with pytest.raises(tl.StoreError, match=r"source 1 was '.*a.txt', now '.*b.txt'"):
        check_again(finished, "b.txt")
    for text in ("some more text", "same text"):
        (finished.parent / "a.txt").write_text(text, encoding="utf-8")
        with pytest.raises(tl.StoreError, match=r"a.txt has other bytes now"):
            check_again(finished)


def test_a_file_that_was_written_again_is_compared(finished: Path) -> None:
    """It may be the same."""
    (finished.parent / "a.txt").write_text("some text", encoding="utf-8")
    check_again(finished)


def test_an_older_file_is_compared(finished: Path) -> None:
    """Though it was written before the store, it has the name since."""
    other = finished.parent / "older.txt"
    other.write_text("same text", encoding="utf-8")
    os.utime(other, ns=(1, 1))
    other.replace(finished.parent / "a.txt")
    with pytest.raises(tl.StoreError, match=r"a.txt has other bytes now"):
        check_again(finished)


def test_a_summary() -> None:
    """Rates follow from counts."""
    made = Prepared(
        path=Path("store"),
        is_new=True,
        num_documents=1,
        num_tokens=8,
        vocab_size=9,
        num_characters=20,
        num_unknown=None,
        num_bytes=21,
        num_bytes_read=20,
        seconds=1.5,
    )
    assert (2.5, None) == (made.characters_per_token, made.unknown_rate)


def test_a_summary_of_a_finished_store(finished: Path) -> None:
    """The manifest has all of it but the time, and nothing was read."""
    made = prepare(finished.parent / "a.txt", finished)
    assert (finished, False, 1, 9, 9, 0, 9, 0) == (
        made.path,
        made.is_new,
        made.num_documents,
        made.num_tokens,
        made.num_characters,
        made.num_unknown,
        made.num_bytes,
        made.num_bytes_read,
    )
    assert made.seconds > 0


def test_sub_words_are_learned_of_the_training_split(tmp_path: Path) -> None:
    """What is measured on decides nothing; and the store is the same after an interruption."""
    require_package("tokenizers")
    how: dict[str, Any] = {"tokenizer": "bpe", "vocab_size": 270}
    prepare(_write_splits(tmp_path / "texts"), tmp_path / "whole", options=SMALL, **how)
    prepare([tmp_path / "texts" / name for name in ("a.txt", "b.txt")], tmp_path / "train", **how)
    whole, train = (tl.Corpus.open(tmp_path / name) for name in ("whole", "train"))

    assert train.tokens.tolist() == whole.tokens[: len(train)].tolist()
    valid = tl.Corpus.open(tmp_path / "whole", split="valid")
    assert VALID == valid.decode(valid.tokens)
    interrupt(_write_splits(tmp_path / "texts"), tmp_path / "store", options=SMALL, **how)
    prepare(_write_splits(tmp_path / "texts"), tmp_path / "store", options=SMALL, **how)
    assert contents(tmp_path / "whole") == contents(tmp_path / "store")


def test_what_an_interrupted_run_learnt_must_be_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another release may have a tokenizer that this one does not have."""
    require_package("tokenizers")
    monkeypatch.setattr(
        "tokenloom.preparation.prepare.restore_tokenizer", lambda *_args, **_options: None
    )
    with pytest.raises(StoreError, match="a tokenizer that this release does not know: resume"):
        prepare(iter(["a text"]), tmp_path / "store", tokenizer="bpe", vocab_size=270)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_document_that_one_worker_encodes_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, num_workers: int
) -> None:
    """Where others could help, and its tokenizer does not say where it may be cut."""
    (tmp_path / "a.txt").write_text("to be or not to be, " * 40)
    for tokenizer, documents, is_said in (
        (Refuses(), "file", num_workers > 1),
        (Refuses(), "line", False),
        ("word", "file", False),
    ):
        how: Any = {"documents": documents, "task_bytes": 100}
        caplog.clear()
        prepare(
            tmp_path / "a.txt",
            tmp_path / f"{documents} {type(tokenizer).__name__}",
            tokenizer=tokenizer,
            options=PrepareOptions(**how),
            executor=HereExecutor(),
            num_workers=num_workers,
        )
        said = [one.getMessage() for one in caplog.records if "encodes as a whole" in one.message]
        assert [is_said] * len(said) == [one.startswith(str(tmp_path)) for one in said]
        assert is_said == bool(said)
