"""Names, patterns, folders, streams and iterables."""

import gzip
import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tokenloom as tl
from tests.support.preparation.stores import make_store
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.preparation import sources as sources_module
from tokenloom.preparation.forms import SourceFile
from tokenloom.preparation.options import PrepareOptions
from tokenloom.preparation.prepare import prepare
from tokenloom.preparation.sources import (
    ResolvedSource,
    check_kinds,
    describe,
    hash_content,
    open_sources,
    resolve_sources,
)
from tokenloom.preparation.workdir import WorkDir


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of texts, in which this process works."""
    for name in ("b.txt", "a.txt", "sub/c.jsonl.gz", "sub/d.md", ".hidden/e.txt", ".f.txt"):
        (tmp_path / "texts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "texts" / name).write_text("text")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(sources: Any) -> list[tuple[str, str]]:
    """Return names and forms of the sources that are found."""
    return [(found.name, found.form) for found in resolve_sources(sources, documents="paragraph")]


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ("texts/b.txt", [("texts/b.txt", "paragraph")]),
        (
            "texts",
            [
                ("texts/a.txt", "paragraph"),
                ("texts/b.txt", "paragraph"),
                ("texts/sub/c.jsonl.gz", "record"),
                ("texts/sub/d.md", "paragraph"),
            ],
        ),
        (
            ["texts/*.txt", Path("texts/sub/d.md")],
            [
                ("texts/a.txt", "paragraph"),
                ("texts/b.txt", "paragraph"),
                ("texts/sub/d.md", "paragraph"),
            ],
        ),
        (
            "texts/**/*.*",
            [
                ("texts/a.txt", "paragraph"),
                ("texts/b.txt", "paragraph"),
                ("texts/sub/c.jsonl.gz", "record"),
                ("texts/sub/d.md", "paragraph"),
            ],
        ),
        (("-", "python_docs"), [("-", "paragraph"), ("python_docs", "paragraph")]),
        (iter(["a"]), [("iterable", "string")]),
        ([["a"], "texts/a.txt"], [("iterable", "string"), ("texts/a.txt", "paragraph")]),
    ],
)
def test_sources_are_found(folder: Path, sources: Any, expected: list[tuple[str, str]]) -> None:
    """In the order in which they are named; files are sorted, hidden ones left out."""
    del folder
    assert expected == names(sources)


@pytest.mark.parametrize("pattern", ["texts/**/**/*.*", "**/texts/**/*.*", "texts/**/**"])
def test_a_file_that_matches_in_several_ways_is_read_once(folder: Path, pattern: str) -> None:
    """A pattern with ``**`` twice matches it once for each way to divide its folders."""
    del folder
    assert names("texts") == names(pattern)


def test_documents_of_an_archive(
    tmp_path: Path, register_entry: Callable[[tl.hub.Entry], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each text that it yields is a document; others than the first split are named."""

    def read(folder: Path, split: str) -> list[tl.Document]:
        assert folder == tmp_path / "unpacked"
        return [tl.Document(text=f"{split} {number}") for number in range(2)]

    file = tl.hub.RemoteFile(
        filename="a.zip", urls=("https://a.org/a.zip",), digest="md5:" + "0" * 32
    )
    source = tl.hub.Archive(file=file, read=read, splits=("train", "test"))
    entry = tl.hub.Entry(name="pair", description="", licence="", source=source)
    register_entry(entry)
    monkeypatch.setattr(sources_module, "fetch", lambda _: tmp_path / "unpacked")
    for name, split in (("pair", "train"), ("pair/test", "test")):
        (found,) = resolve_sources(name, documents="file")
        assert (name, "string") == (found.name, found.form)
        assert callable(found.origin)
        assert f'"{split} 0"\n"{split} 1"\n' == b"".join(found.origin()).decode()


def test_links_to_folders_are_not_followed(folder: Path) -> None:
    """They might lead round in circles."""
    (folder / "texts" / "loop").symlink_to(folder / "texts")
    (folder / "texts" / "itself.txt").symlink_to("itself.txt")
    assert len(names("texts")) == 4


class DataFrame:
    """Like one of pandas, which yields the names of its columns."""

    def __iter__(self) -> Iterator[str]:
        """Yield them."""
        yield "text"


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ("nowhere", r"^a source must be a file, a folder.*got 'nowhere'.*iter\(texts\)"),
        (["To be, or not to be\n" * 900], "a source must be a file"),
        ("", "a source must be a file"),
        ("texts/*.pdf", r"that is not hidden, got none; texts in memory .* iter\(texts\)$"),
        (["What is this?", "Is it *this*?"], r"'What is this\?'.* iter\(texts\)$"),
        (["To be, or not to be?\n" * 900], r"^the source '.{,60}\.\.\..{,60}' must hold"),
        ("empty", "must hold at least one file that is not hidden, got none$"),
        ([], "^sources must be at least one"),
        (["-", "-"], "^sources must hold '-', stdin, once at most"),
        (b"text", "^a source must be a name, a path or an iterable of texts, got b'text'"),
        (3, "^a source must be a name, a path or an iterable of texts, got 3"),
        ([[]], r"^a source must be .*, got \[\]: leave out an empty one"),
        ([["a"], ()], r"^a source must be .*, got \(\): leave out an empty one"),
        ({"a", "b"}, "^a source must be .*: a set has another order in each process"),
        (DataFrame(), r"^a source must be .*: a table yields its columns, .* frame\['text'\]$"),
        ([DataFrame()], "^a source must be .*: a table yields its columns"),
        ({"train": DataFrame()}, "^a source must be .*: a table yields its columns"),
        ([{"text": "a"}], "^a source must be .*: a mapping of splits stands alone"),
        (bytearray(b"text"), "^a source must be a name"),
    ],
)
def test_what_is_no_source(folder: Path, sources: Any, message: str) -> None:
    """The message says what would be."""
    (folder / "empty").mkdir()
    with pytest.raises(ArgumentError, match=message):
        resolve_sources(sources, documents="file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_no_source(tmp_path: Path) -> None:
    """It cannot be read twice, and nothing waits for it; a pattern passes it over."""
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(ArgumentError, match=r"must be a regular file.*pipe it to stdin"):
        resolve_sources(tmp_path / "pipe.txt", documents="file")
    (tmp_path / "a.txt").touch()
    for source in (tmp_path, str(tmp_path / "*.txt")):
        assert [(tmp_path / "a.txt").as_posix()] == [
            found.name for found in resolve_sources(source, documents="file")
        ]


def test_a_store_is_no_source(tmp_path: Path) -> None:
    """It has no text."""
    make_store(tmp_path / "store")
    with pytest.raises(ArgumentError, match="is a store already"):
        resolve_sources(tmp_path / "store", documents="file")


def keep(work: Path, *sources: Any) -> list[SourceFile]:
    """Find sources, and open them."""
    return open_sources(resolve_sources(list(sources), documents="file"), WorkDir(work))


@pytest.mark.parametrize("sources", ["texts", "texts/**/*"])
def test_the_files_of_a_store_are_no_sources(folder: Path, sources: str) -> None:
    """The store that is made may lie beside its texts: the next run finds the same."""
    before = names(sources)
    make_store(folder / "texts" / "store")
    assert (folder / "texts" / "store" / "manifest.json").is_file()
    assert before == names(sources)


@pytest.mark.parametrize("sources", ["texts", "texts/**/*"])
def test_what_stands_beside_tables_is_no_source(folder: Path, sources: str) -> None:
    """Spark and others write it; a text of that name is one."""
    before = names(sources)
    (folder / "texts" / "_SUCCESS").touch()
    (folder / "texts" / "sub" / "_metadata").write_bytes(b"PAR1\x15\x04")
    (folder / "texts" / "_started_7162532").touch()
    (folder / "texts" / "_committed_7162532").write_text('{"added":["part-0.json"],"removed":[]}')
    assert before == names(sources)
    (folder / "texts" / "_common_metadata").write_text("To be")
    assert len(names(sources)) == len(before) + 1
    assert names("texts/_SUCCESS") == [("texts/_SUCCESS", "paragraph")]


@pytest.mark.parametrize("sources", ["texts", "texts/**/*"])
@pytest.mark.parametrize(
    ("inside", "cure"),
    [
        ("_temporary/0/part-0.txt", "let the job end, or run it again, and remove that folder"),
        ("_delta_log/00000000000000000000.json", r"which DeltaTable\(...\).file_uris\(\)"),
    ],
)
def test_what_holds_other_rows_than_its_table_is_refused(
    folder: Path, sources: str, inside: str, cure: str
) -> None:
    """Rows would come twice, or come back; each file may be named by itself."""
    file = folder / "texts" / "sub" / inside
    file.parent.mkdir(parents=True)
    assert names(sources)
    file.write_text("To be\n")
    with pytest.raises(ArgumentError, match=f"the source '{re.escape(sources)}' must .*{cure}"):
        names(sources)
    assert len(names(f"texts/sub/{inside}")) == 1


def test_a_saved_dataset_is_no_folder_of_texts(folder: Path) -> None:
    """It may hold caches of other rows; the message names its tables."""
    saved = folder / "texts" / "saved"
    saved.mkdir()
    for name in ("dataset_info.json", "state.json", "data-00000-of-00001.arrow"):
        (saved / name).touch()
    message = r"folder 'texts/saved' of a saved data set .*: name its tables, '.*/data-\*.arrow'$"
    with pytest.raises(ArgumentError, match=message):
        resolve_sources("texts", documents="file")
    assert names("texts/saved/data-*.arrow") == [("texts/saved/data-00000-of-00001.arrow", "arrow")]


def test_iterables_are_kept(tmp_path: Path) -> None:
    """As JSON strings, so that they can be read twice; the next run compares them."""
    texts = ["a\nb", tl.Document(text="é\ud83d")]
    (source,) = keep(tmp_path, iter(texts))
    assert '"a\\nb"\n"\\u00e9\\ud83d"\n' == Path(str(source.path)).read_text("ascii")
    assert [source] == keep(tmp_path, iter(texts))
    with pytest.raises(CorpusError, match=r"^iterable must be what it was in the run that"):
        keep(tmp_path, iter(["other"]))


def test_an_iterable_of_something_else(tmp_path: Path) -> None:
    """Which one it is, is told; nothing is kept."""
    with pytest.raises(ArgumentError, match=r"^document 1 of an iterable must be a str, got int"):
        keep(tmp_path, iter(["a", 3]))
    with pytest.raises(ArgumentError, match=r"got dict: .* name its fields with prompt_field="):
        keep(tmp_path, iter([{"question": "a", "answer": "b"}]))
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("on_error", "tokens"), [("skip", b"ab"), ("replace", b"ab"), ("stop", None)]
)
def test_a_null_in_an_iterable(tmp_path: Path, on_error: Any, tokens: bytes | None) -> None:
    """Is a problem of that document, as in a table."""
    options, texts = PrepareOptions(on_error=on_error), ["a", None, "b"]
    source: Any = iter(texts)
    if tokens is None:
        with pytest.raises(CorpusError, match=r"^iterable has a null value in document 1: "):
            prepare(source, tmp_path / "store", tokenizer="byte", options=options)
        return
    made = prepare(source, tmp_path / "store", tokenizer="byte", options=options)
    assert tokens == bytes(tl.Corpus.open(made.path).tokens[:])
    assert made.num_documents == (2 if on_error == "skip" else 3)
    assert dict(made.problems) == {"a null value": 1}


@pytest.mark.parametrize("name", ["../evil", "a/b", "a\\b", ".", "..", "", "held-out"])
def test_splits_that_could_not_be_opened(tmp_path: Path, name: str) -> None:
    """Are refused, named by their sources or by fractions."""
    (tmp_path / "a.txt").write_text("a")
    sources = {"train": tmp_path / "a.txt", name: iter("b")}
    with pytest.raises(ArgumentError, match=r"splits must|names of splits"):
        prepare(sources, tmp_path / "store", tokenizer="byte")
    with pytest.raises(ArgumentError, match=r"splits must"):
        PrepareOptions(splits={name: 0.1})


def test_stdin_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that is at its end already does not have to come twice."""

    def feed(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))

    feed(b"some text")
    (source,) = keep(tmp_path, "-")
    assert b"some text" == Path(str(source.path)).read_bytes()
    for content in (b"some text", b""):
        feed(content)
        assert [source] == keep(tmp_path, "-")
    feed(b"other")
    with pytest.raises(CorpusError, match=r"^- must be what it was"):
        keep(tmp_path, "-")
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ArgumentError, match="must be an open stdin, got a closed one"):
        keep(tmp_path, "-")


def test_what_is_described(tmp_path: Path) -> None:
    """A file by its size and time, a stream by its name; its content by its hash."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"text")
    (found,) = resolve_sources(path, documents="file")
    stream = ResolvedSource("-", "file", lambda: iter([b"te", b"xt"]))
    status = {"num_bytes": 4, "changed_ns": path.stat().st_mtime_ns}
    assert {
        path.as_posix(): {"number": 0, "form": "file", **status},
        "-": {"number": 1, "form": "file"},
        "- (2)": {"number": 2, "form": "file"},
    } == describe([found, stream, stream])
    assert hash_content([b"te", b"xt"]).startswith("982d9e3eb996f559e633f4d194def3761d909f5a3b64")
    path.unlink()
    with pytest.raises(CorpusError, match="No such file"):
        describe([found])


RECORDS = b'{"text": "a"}\n{"text": "b"}\n'


@pytest.mark.parametrize(
    ("name", "content", "form"),
    [
        ("c4.json", RECORDS, "record"),
        ("c4.json.gz", gzip.compress(RECORDS, mtime=0), "record"),
        ("c4.json", b'{"text": "' + b"long " * 9_999 + b'"}\n', "record"),
        ("c4.JSON", "\ufeff".encode() + RECORDS, "record"),
        ("a.json", b'{\n  "text": "a"\n}\n', "file"),
        ("a.json", b"[1, 2]", "file"),
        ("a.txt", RECORDS, "file"),
    ],
)
def test_json_lines_by_their_content(tmp_path: Path, name: str, content: bytes, form: str) -> None:
    """Files of objects are often named like single documents."""
    (tmp_path / name).write_bytes(content)
    (found,) = resolve_sources(tmp_path / name, documents="file")
    assert form == found.form
    if form == "record":
        check_kinds([found])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b'{\n  "text": "a"\n}\n', "one JSON document, not an object on each line"),
        ("a.json.gz", gzip.compress(b"[1,\n2]", mtime=0), "one JSON document"),
        ("a.csv", b"a,b\n1,2\n", "must have one column 'text', got 0 columns"),
        ("a.csv", b"\na,b\n", "must begin with a line that names its columns, got an empty one"),
        ("a.tsv.gz", gzip.compress(b"a\tb\n", mtime=0), "its first line names 'a', 'b'"),
        ("a.txt", RECORDS, "a JSON object on each line: .*documents='jsonl'"),
        ("part-0", b'{"text": "' + b"long " * 9_999, "a JSON object on each line"),
        ("a.txt", "To be".encode("utf-16"), "text in UTF-16: .*encoding='utf-16'"),
        ("a.txt", b"PAR1\x15\x04", "a Parquet file"),
        ("a.jsonl", b"PAR1\x15\x04", "a Parquet file"),
        ("a.gz", gzip.compress(bytes(257) + b"ustar", mtime=0), "a tar archive"),
    ],
)
def test_files_that_are_no_texts(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """They are refused by name, with the cure, whatever becomes of errors in documents."""
    (tmp_path / name).write_bytes(content)
    found = resolve_sources(tmp_path / name, documents="file")
    with pytest.raises(CorpusError, match=message):
        check_kinds(found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"abc", mtime=0), "^- must be text in utf-8, but it is compressed by gzip"),
        (RECORDS, "^- must be a text, but it is JSON Lines, with a JSON object on each line"),
        (b'{"a":\n1}', "^- must be a text, but it is one JSON document.*documents='jsonl'"),
        (b'[\n  {\n    "a": "to be' + b" or not" * 999, "it is one JSON document"),
        (b'["to be", "or not' + b" to be" * 999, "it is one JSON document"),
        (b'{"a": 1}', "^- must be a text, but it is JSON Lines, with a JSON object on each line"),
        (b"[[1, 2], [3]]", "it is one JSON document"),
        (b'id,text\r\n1,"to be, or"\r\n2,not\r\n', r"it is a table \(CSV\): .*ends in .txt"),
        (b"id,text\n" + b'7,"to be,\nor not"\n' * 999, r"it is a table \(CSV\)"),
        (b"id;text\n1;to be\n2;not to be", r"it is a table \(CSV\)"),
        (b'id\ttext\n1\t"to be\n2\tnot\n', r"it is a table \(TSV\)"),
    ],
)
def test_stdin_that_is_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    """It is looked at when it comes."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    with pytest.raises(CorpusError, match=message):
        keep(tmp_path, "-")


@pytest.mark.parametrize(
    "content",
    [
        "To be,\nor not to be,\nthat is\n",
        "Yes, he said.\nNo, she said.\nWell, said he.\n",
        "[1] is the first note\n[2] is the second\n",
        "{never} was a word\nso odd\n",
        "a,b",
        '"To be," he said, "or not,"\n"that is," he said, "so."\n' * 9,
    ],
)
def test_prose_from_stdin_is_a_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    """Commas, tabs and brackets alone make no table."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content.encode())))
    (source,) = keep(tmp_path, "-")
    assert content == Path(str(source.path)).read_text()


def test_a_folder_named_like_a_text(folder: Path) -> None:
    """Which of both is meant must be said."""
    (folder / "python_docs").mkdir()
    (folder / "python_docs" / "mine.txt").write_text("mine")
    with pytest.raises(ArgumentError, match=r"'./python_docs' for the folder, or 'dataset:py"):
        names("python_docs")
    assert [("python_docs", "paragraph")] == names("dataset:python_docs")
    for path in ("./python_docs", Path("python_docs"), "python_docs/*"):
        assert [("python_docs/mine.txt", "paragraph")] == names(path)
