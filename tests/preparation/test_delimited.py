"""CSV and TSV files."""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenloom as tl
from tests.support.preparation.preparations import contents
from tokenloom._io.compressed import read_status
from tokenloom.errors import CorpusError
from tokenloom.preparation.chunks import cut_chunks
from tokenloom.preparation.encode import find_segments
from tokenloom.preparation.forms import Cutting, Reading, SourceFile
from tokenloom.preparation.options import PrepareOptions
from tokenloom.preparation.prepare import prepare
from tokenloom.preparation.trace import Trace
from tokenloom.text.boundaries import DOCUMENTS


@pytest.fixture(scope="module", autouse=True)
def _no_waiting_for_disks() -> Iterator[None]:
    """Leave out what only a power cut would show."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


def cut(path: Path, size: int, **options: Any) -> list[Any]:
    """Return the chunks of a file."""
    num_bytes, changed_ns = read_status(path)
    source = SourceFile(
        name=path.name, path=path, form="csv", num_bytes=num_bytes, changed_ns=changed_ns
    )
    return list(cut_chunks([source], Cutting(DOCUMENTS, size), hashes=True, **options))


def read(chunks: list[Any], on_error: Any = "replace") -> list[Any]:
    """Return the texts of chunks."""
    reading = Reading("text", on_error)
    pieces = [piece for chunk in chunks for piece in chunk.slices]
    return [s.text for piece in pieces for s in find_segments(piece, reading, Counter())]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.text('ab",;\t\né', max_size=9), st.text('ab",\r\n ', max_size=9))),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.integers(1, 60),
)
def test_what_pythons_writer_writes(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str]],
    delimiter: str,
    end: str,
    has_mark: bool,
    size: int,
) -> None:
    """Comes back, wherever the file is cut; and from any cut on."""
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end)
    writer.writerows([("text", "id"), *rows])
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(b"\xef\xbb\xbf" * has_mark + file.getvalue().encode())
    chunks = cut(path, size)
    assert [text if text.strip() else "" for text, _ in rows] == read(chunks)
    for chunk in chunks[:-1]:
        again = cut(path, size, start=chunk.stop, first=chunk.number + 1)
        rest = [one._replace(position=0) for one in chunks[chunk.number + 1 :]]
        assert rest == [one._replace(position=0) for one in again]


@given(st.binary(max_size=40).map(lambda b: bytes(b'a",\r\n\xff'[x % 6] for x in b)), st.data())
def test_any_bytes_are_read_alike(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, data: st.DataObject
) -> None:
    """In slices of any size no byte is lost, and cuts follow from the place alone."""
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(b"text,b\n" + content)
    chunks = cut(path, data.draw(st.integers(1, 30)))
    assert path.read_bytes() == b"".join(p.content for chunk in chunks for p in chunk.slices)
    read(chunks)


@pytest.mark.parametrize("size", [1, 1_000])
def test_one_line_end_is_no_part_of_a_field(tmp_path: Path, size: int) -> None:
    """A carriage return before it is one, whether the field has quotes or not."""
    path = tmp_path / "a.csv"
    path.write_bytes(b'id,text\r\n1,abc\r\r\n2,"abc\r"\r\n3,abc\r\n4,abc\n5,abc')
    assert ["abc\r", "abc\r", "abc", "abc", "abc"] == read(cut(path, size))


BAD = [
    (b'text,b\ngood,1\n"a"b,2\n', "invalid CSV at byte 14: in line 3, something follows"),
    (b'text,b\ngood,1\n"ab,2\n', "invalid CSV at byte 14: in line 3, quotes are not closed"),
    (b"text,b\ngood,1\na\n", "a missing field at byte 14: in line 3, .*2 fields, got 1"),
    (b"text,b\ngood,1\na,2,3\n", "a missing field at byte 14: in line 3, .*2 fields, got 3"),
    (b"text,b\ngood,1\n \t,2\n", "an empty document at byte 14: in line 3"),
    (b"text,b\ngood,1\na\xff,2\n", "undecodable bytes at byte 14: in line 3"),
]


def test_lines_after_quotes_that_are_not_closed_are_counted(tmp_path: Path) -> None:
    """They are lost, since they may be part of a text or records."""
    (tmp_path / "a.csv").write_bytes(b'id,text\n1,good\n2,"ab\n3,c\n4,d\n')
    message = r"line 3, quotes are not closed up to the end of the file, 2 lines after that; mend"
    with pytest.raises(CorpusError, match=message):
        prepare(tmp_path / "a.csv", tmp_path / "store")
    options = PrepareOptions(on_error="skip")
    made = prepare(tmp_path / "a.csv", tmp_path / "store", options=options)
    assert {"invalid CSV": 1, "a line that is lost with another": 2} == dict(made.problems)


def test_lines_that_are_lost_are_counted_once_where_there_are_prompts(tmp_path: Path) -> None:
    """A document is read twice then, for its prompt and for its text."""
    (tmp_path / "a.csv").write_bytes(b'id,text\n1,good\n2,"ab\n3,c\n4,d\n')
    options = PrepareOptions(prompt_field="id", on_error="replace")
    made = prepare(tmp_path / "a.csv", tmp_path / "store", options=options)
    assert {"invalid CSV": 1, "a line that is lost with another": 2} == dict(made.problems)


@pytest.mark.parametrize(("content", "message"), BAD)
def test_bad_records(tmp_path: Path, content: bytes, message: str) -> None:
    """The message has the place; leaving it out keeps the others."""
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(CorpusError, match=f"a.csv has {message}"):
        prepare(tmp_path / "a.csv", tmp_path / "store")
    options = PrepareOptions(on_error="skip")
    made = prepare(tmp_path / "a.csv", tmp_path / "store", options=options)
    assert (made.num_documents, sum(made.problems.values())) == (1, 1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"body,id\na,1\n", "one column 'text', got 0.*names 'body', 'id'"),
        ("a.csv", b"texts;id\na;1\n", "such as field='texts'; .*names 'texts', 'id'"),
        ("a.csv", b"id,body\n1,a\n", "that name: name one with field=; .*names 'id', 'body'"),
        ("a.csv", b"text,text\na,1\n", "got 2 columns of that name: give them different names"),
        ("a.tsv", b"text,id\na,1\n", "names 'text,id'"),
        ("a.csv", b"", "must begin with a line that names its columns, got an empty one"),
        ("a.csv", b"PAR1\x15\x04\x15", "it is a Parquet file"),
    ],
)
def test_files_without_the_column(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """The message names the columns that there are."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        prepare(tmp_path / name, tmp_path / "store")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("header", ["a\n", "ab\n", "a\r\n", "abc\n"])
def test_a_first_document_after_a_short_header(tmp_path: Path, header: str, mark: bytes) -> None:
    """Is read where the header is a slice of its own, however few bytes that has."""
    path = tmp_path / "a.csv"
    path.write_bytes(mark + header.encode() + b"x" * 200 + b"\nsecond\n")
    for task_bytes in (100, 1000):
        options = PrepareOptions(field=header.strip(), task_bytes=task_bytes)
        store = tmp_path / f"store-{task_bytes}"
        made = prepare(path, store, tokenizer="byte", options=options, num_workers=0)
        assert (made.num_documents, made.num_tokens) == (2, 206)


def test_workers_make_the_same_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one process does; compressed and in another encoding the tokens are the same."""
    monkeypatch.chdir(tmp_path)
    rows = [(str(number), f"tell me,\nwhere {'is ' * (number % 9)}") for number in range(300)]
    with Path("a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "text"), *rows])
    Path("b.tsv").write_bytes(
        b"\n".join(f'{i}\t"{text}"'.encode() for i, text in [("id", "text"), *rows])
    )
    Path("c.csv").write_text(Path("a.csv").read_text(), encoding="utf-16", newline="")
    options = PrepareOptions(task_bytes=512)
    for workers in (0, 2):
        prepare("a.csv", str(workers), tokenizer="word", options=options, num_workers=workers)
    assert contents(Path("0")) == contents(Path("2"))
    wide = PrepareOptions(task_bytes=512, encoding="utf-16")
    prepare("b.tsv", "b", tokenizer="word", options=options)
    prepare("c.csv", "c", tokenizer="word", options=wide)
    expected = tl.Corpus.from_documents([text for _, text in rows], tokenizer="word")
    for store in ("0", "b", "c"):
        assert expected.tokens.tolist() == tl.Corpus.open(store).tokens.tolist()


def test_rows_are_traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the row, which is not counted in lines."""
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text('id,text\n1,"tell\nme"\n\n2,where is\n3,fancy\n')
    options = PrepareOptions(task_bytes=8)
    prepare("a.csv", "store", tokenizer="word", options=options)
    corpus = tl.Corpus.open("store")
    expected = [Trace("a.csv", 0, 5, row=0), Trace("a.csv", 1, 6, row=1)]
    assert expected == [tl.trace(corpus, token) for token in (1, 3)]
