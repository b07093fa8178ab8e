"""Tables with a column of texts."""

import gzip
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenloom as tl
from tests.support.packages import require_package
from tests.support.preparation.preparations import contents
from tokenloom._io.compressed import read_status
from tokenloom.errors import CorpusError
from tokenloom.preparation.chunks import cut_chunks
from tokenloom.preparation.encode import find_segments
from tokenloom.preparation.forms import Cutting, FormName, Reading, SourceFile
from tokenloom.preparation.options import PrepareOptions
from tokenloom.preparation.prepare import prepare
from tokenloom.preparation.tables import Parquet, _ParquetFile
from tokenloom.text.boundaries import DOCUMENTS

pa = require_package("pyarrow")
pq = require_package("pyarrow.parquet")
feather = require_package("pyarrow.feather")

WORDS = ["tell me", "where", "is fancy bred", "é 😀", "or in the heart", "x" * 40, "or", "head"]


@pytest.fixture(scope="module", autouse=True)
def _no_waiting_for_disks() -> Iterator[None]:
    """Leave out what only a power cut would show."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


def write_parquet(table: Any, path: Path, rows: int) -> None:
    """Write a file with row groups of some rows."""
    pq.write_table(table, path, row_group_size=rows)


def write_file(table: Any, path: Path, rows: int) -> None:
    """Write an Arrow file with record batches of some rows."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)


def write_stream(table: Any, path: Path, rows: int) -> None:
    """Write an Arrow stream with record batches of some rows."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)


def write_feather(table: Any, path: Path, rows: int) -> None:
    """Write a Feather file, which is compressed."""
    feather.write_feather(table, str(path), chunksize=rows, compression="zstd")


Write = Callable[[Any, Path, int], None]
WRITERS: list[tuple[Write, str, FormName]] = [
    (write_parquet, "a.parquet", "parquet"),
    (write_file, "a.arrow", "arrow"),
    (write_stream, "a.arrow", "arrow"),
    (write_feather, "a.feather", "arrow"),
]
each_kind = pytest.mark.parametrize(("write", "name", "form"), WRITERS)


def make_table(texts: list[str | None], kind: Any = None) -> Any:
    """Return a table with two columns."""
    return pa.table(
        {
            "id": pa.array(range(len(texts)), pa.int64()),
            "text": pa.array(texts, kind or pa.string()),
        }
    )


def cut(path: Path, form: FormName, size: int, **options: Any) -> list[Any]:
    """Return the chunks of a file."""
    num_bytes, changed_ns = read_status(path)
    source = SourceFile(name="a", path=path, form=form, num_bytes=num_bytes, changed_ns=changed_ns)
    return list(cut_chunks([source], Cutting(DOCUMENTS, size), hashes=True, **options))


@each_kind
@settings(max_examples=25)
@given(
    st.lists(st.text(max_size=12), max_size=30),
    st.integers(1, 9),
    st.integers(1, 80),
)
def test_each_row_is_in_one_slice(
    tmp_path_factory: pytest.TempPathFactory,
    write: Write,
    name: str,
    form: FormName,
    texts: list[str],
    rows: int,
    size: int,
) -> None:
    """In order, and the cuts are the same from any of them on."""
    path = tmp_path_factory.mktemp("table") / name
    write(make_table(list(texts)), path, rows)
    chunks = cut(path, form, size)
    reading = Reading("text", "replace", as_bytes=True)
    pieces = [piece for chunk in chunks for piece in chunk.slices]
    found = [s for piece in pieces for s in find_segments(piece, reading, Counter())]
    expected = [text.encode() if text.strip() else b"" for text in texts]
    assert expected == [segment.text for segment in found]
    assert list(range(len(texts))) == [segment.offset for segment in found]
    assert [text // rows for text in range(len(texts))] == [
        piece.layout[0] for piece in pieces for _ in range(piece.layout[1])
    ]
    for chunk in chunks[:-1]:
        again = cut(path, form, size, start=chunk.stop, first=chunk.number + 1)
        expected_rest = [one._replace(position=0) for one in chunks[chunk.number + 1 :]]
        assert expected_rest == [one._replace(position=0) for one in again]


KINDS = [
    pa.string(),
    pa.large_string(),
    pa.binary(),
    pa.large_binary(),
    pa.dictionary(pa.int32(), pa.string()),
]
# The oldest pyarrow that is allowed has no views.
KINDS += [pa.string_view()] if hasattr(pa, "string_view") else []


@pytest.mark.parametrize("kind", KINDS, ids=str)
@each_kind
def test_every_type_of_text(
    tmp_path: Path, write: Write, name: str, form: FormName, kind: Any
) -> None:
    """Makes the same tokens as the texts themselves."""
    del form
    if str(kind) == "string_view" and write is write_parquet:
        pytest.skip("pyarrow writes no views to Parquet")
    array = pa.array(WORDS * 3).cast(kind) if "dict" not in str(kind) else None
    array = pa.array(WORDS * 3).dictionary_encode() if array is None else array
    path = tmp_path / name
    write(pa.table({"id": pa.array(range(24)), "text": array}), path, 5)
    made = prepare(
        path, tmp_path / "store", tokenizer="byte", options=PrepareOptions(task_bytes=64)
    )
    assert made.num_documents == 24
    corpus = tl.Corpus.open(tmp_path / "store")
    assert "".join(WORDS * 3).encode() == bytes(corpus.tokens.tolist())


@each_kind
def test_workers_make_the_same_store(
    tmp_path: Path, write: Write, name: str, form: FormName
) -> None:
    """As one process does, and as JSON Lines of the same texts have the same tokens."""
    del form
    path = tmp_path / name
    write(make_table(list(WORDS * 40)), path, 70)
    options = PrepareOptions(task_bytes=512)
    for workers in (0, 2):
        made = prepare(
            path, tmp_path / f"{workers}", tokenizer="word", options=options, num_workers=workers
        )
        assert made.num_documents == 320
    assert contents(tmp_path / "0") == contents(tmp_path / "2")
    plain = tl.Corpus.from_documents(WORDS * 40, tokenizer="word")
    assert plain.tokens.tolist() == tl.Corpus.open(tmp_path / "0").tokens.tolist()


@each_kind
def test_rows_are_traced(
    tmp_path: Path, write: Write, name: str, form: FormName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the row and its row group, also where rows were left out."""
    del form
    monkeypatch.chdir(tmp_path)
    write(make_table([*WORDS[:2], None, " ", *WORDS[2:]]), Path(name), 3)
    options = PrepareOptions(task_bytes=30, on_error="skip", normalize=False)
    made = prepare(name, "store", tokenizer="char", options=options)
    assert made.problems == {"a null value": 1, "an empty document": 1}
    corpus = tl.Corpus.open("store")
    found = tl.trace(corpus, len("tell mewhereis f"))
    assert (name, 2, 4, 4, 1) == (
        found and (found.source, found.document, found.character, found.row, found.row_group)
    )


BAD: list[tuple[Any, str]] = [
    (pa.array(["a", None]), r"has a null value in row 1 \((row group|record batch) 0\): there is"),
    (pa.array(["a", " "]), r"has an empty document in row 1 \("),
    (pa.array([b"a", b"a\xff"]), r"has undecodable bytes in row 1 \(.*byte 0xff, number 1 of"),
    (pa.array([["a"], ["b"]]), "one column 'text' of texts, got 1 column of type list<.*: string>"),
    (pa.array([{"a": "b"}] * 2), "of type struct<a: string>.*columns of texts are other"),
    (pa.array([1, 2]), "of type int64; name one, such as field='other': the columns of texts are"),
    (None, "must have the column 'text', which it has not.*columns of texts are other$"),
]


@pytest.mark.parametrize(("column", "message"), BAD)
@each_kind
def test_bad_columns(
    tmp_path: Path, write: Write, name: str, form: FormName, column: Any, message: str
) -> None:
    """The message has the place, or what columns would do."""
    del form
    columns = {"other": pa.array(["a", "b"])}
    if column is not None:
        columns["text"] = column
    write(pa.table(columns), tmp_path / name, 5)
    with pytest.raises(CorpusError, match=message):
        prepare(tmp_path / name, tmp_path / "store")


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.feather"])
@pytest.mark.parametrize("content", [b"", b"Tell me where", b"PAR1" * 9, b"ARROW1\0\0" * 9])
def test_files_of_another_kind(tmp_path: Path, name: str, content: bytes) -> None:
    """Are refused by what their names say."""
    (tmp_path / name).write_bytes(content)
    kind = "a Parquet file" if name == "a.parquet" else "an Arrow file"
    with pytest.raises(CorpusError, match=f"{name} must be {kind} by its name, but "):
        prepare(tmp_path / name, tmp_path / "store")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.feather", b"FEA1" + bytes(12), "it is a Feather file of version 1: write its table in"),
        ("a.arrow", b"PAR1\x15\x04", "it is a Parquet file: prepare reads a column of it"),
        ("a.parquet", gzip.compress(b"a", mtime=0), "it is compressed by gzip: "),
    ],
)
def test_the_kind_of_another_file(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """Is named where it is known, with what to do."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=f"by its name, but {message}"):
        prepare(tmp_path / name, tmp_path / "store")


def test_compressed_tables_are_refused(tmp_path: Path) -> None:
    """Since they cannot be read from any place on."""
    (tmp_path / "a.parquet.gz").write_bytes(b"")
    with pytest.raises(CorpusError, match="but it is compressed: decompress it first"):
        prepare(tmp_path / "a.parquet.gz", tmp_path / "store")


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_table_under_another_name(tmp_path: Path, name: str) -> None:
    """Gets its name, and the cure."""
    pq.write_table(make_table(["a"]), tmp_path / name)
    with pytest.raises(CorpusError, match=r"it is a Parquet file: .*--field names.*\.parquet"):
        prepare(tmp_path / name, tmp_path / "store")


NUM_ROWS = 40_000
ROW = "some words in row {:,}"


def test_a_row_group_of_several_batches(tmp_path: Path) -> None:
    """Each cursor inside it resumes at its row, whose trace is right, and the store is the same."""
    texts = [ROW.format(row) for row in range(NUM_ROWS)]
    path = tmp_path / "a.parquet"
    write_parquet(make_table(list(texts)), path, NUM_ROWS)
    chunks = cut(path, "parquet", 200_000)
    reading = Reading("text", "stop", as_bytes=True)
    rows = 0
    for chunk in chunks:
        found = [s for piece in chunk.slices for s in find_segments(piece, reading, Counter())]
        assert [text.encode() for text in texts[rows : rows + len(found)]] == [
            segment.text for segment in found
        ]
        rows += len(found)
        rest = cut(path, "parquet", 200_000, start=chunk.stop, first=chunk.number + 1)
        assert [one.slices for one in chunks[chunk.number + 1 :]] == [one.slices for one in rest]
    assert rows == NUM_ROWS
    assert len(chunks) > 4
    positions = [chunk.position for chunk in chunks]
    assert positions == sorted(positions)
    assert positions[0] < path.stat().st_size / 2


def test_a_store_of_a_row_group_of_several_batches(tmp_path: Path) -> None:
    """Is that of JSON Lines of the same texts, and its last tokens are traced."""
    texts = [ROW.format(row) for row in range(NUM_ROWS)]
    write_parquet(make_table(list(texts)), tmp_path / "a.parquet", NUM_ROWS)
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (tmp_path / "a.jsonl").write_text(lines)
    options = PrepareOptions(task_bytes=200_000)
    for name in ("a.parquet", "a.jsonl"):
        prepare(tmp_path / name, tmp_path / f"{name}.store", tokenizer="byte", options=options)
    corpus, plain = (tl.Corpus.open(tmp_path / f"a.{end}.store") for end in ("parquet", "jsonl"))
    assert bytes(corpus.tokens[:]) == bytes(plain.tokens[:])
    for row in (0, 16_383, 16_384, 30_000, NUM_ROWS - 1):
        start = sum(map(len, texts[:row]))
        found = tl.trace(corpus, start + 5)
        assert (row, 5, row) == (found and (found.document, found.character, found.row))


def test_a_row_group_is_read_in_parts(tmp_path: Path) -> None:
    """The first texts take a fraction of the memory of all."""
    letters = hashlib.shake_256(b"").hexdigest(1 << 15)
    texts = [letters[row : row + 4_000] for row in range(10_000)]
    path = tmp_path / "a.parquet"
    table = make_table(list(texts))
    pq.write_table(table, path, compression="none", use_dictionary=False, row_group_size=10_000)
    del table
    before = pa.total_allocated_bytes()
    source = SourceFile(name="a", path=path, form="parquet", num_bytes=path.stat().st_size)
    with Parquet().open(source) as opened:
        arrays = opened.arrays([1], 0)
        next(arrays)
        assert pa.total_allocated_bytes() - before < path.stat().st_size / 3


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_a_file_that_cannot_be_opened_is_closed(tmp_path: Path, name: str) -> None:
    """Also while the error is held."""
    (tmp_path / name).write_bytes(b"PAR1 or ARROW1, but no more than that" * 3)
    with pytest.raises(CorpusError) as caught:
        prepare(tmp_path / name, tmp_path / "store")
    assert caught.value.__cause__ is not None
    if Path("/proc/self/fd").is_dir():
        links = [os.path.realpath(one) for one in Path("/proc/self/fd").iterdir()]
        assert str(tmp_path / name) not in links


def damage_offsets(offsets: list[int]) -> Any:
    """Return three texts whose ends are these."""
    ends = pa.py_buffer(np.array(offsets, np.int32).tobytes())
    return pa.Array.from_buffers(pa.string(), 3, [None, ends, pa.py_buffer(b"abcdefgh")])


DAMAGED = {
    "far": lambda: damage_offsets([0, 3, 1_000_000, 5]),
    "out of order": lambda: damage_offsets([0, 6, 2, 8]),
    "negative": lambda: damage_offsets([0, -6, 2, 8]),
    "no such word": lambda: pa.DictionaryArray.from_arrays(
        pa.array([0, 7], pa.int32()), pa.array(["a"]), safe=False
    ),
    "words": lambda: pa.DictionaryArray.from_arrays(
        pa.array([0, 1], pa.int32()), damage_offsets([0, 6, 2, 8]), safe=False
    ),
}


@pytest.mark.parametrize("make", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("write", [write_file, write_stream])
def test_damaged_arrow_files(tmp_path: Path, write: Write, make: Callable[[], Any]) -> None:
    """Are refused rather than read as other texts."""
    write(pa.table({"text": make()}), tmp_path / "a.arrow", 9)
    options = PrepareOptions(on_error="replace")
    with pytest.raises(CorpusError, match=r"cannot read '.*a\.arrow': "):
        prepare(tmp_path / "a.arrow", tmp_path / "store", tokenizer="byte", options=options)


@pytest.mark.parametrize("is_older", [False, True])
def test_a_stream_cut_between_batches(tmp_path: Path, *, is_older: bool) -> None:
    """Is refused: it would have fewer rows; a whole one is read, with bytes after it or none."""
    options = pa.ipc.IpcWriteOptions(use_legacy_format=is_older)
    file, table = io.BytesIO(), make_table(list(WORDS))
    with pa.ipc.new_stream(file, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=3)
        cut_at = file.tell()
        writer.write_table(table)
    path = tmp_path / "a.arrow"
    path.write_bytes(file.getvalue() + b"more")
    assert prepare(path, tmp_path / "whole", tokenizer="byte").num_documents == 16
    path.write_bytes(file.getvalue()[:cut_at])
    with pytest.raises(CorpusError, match="must end with the end marker of an Arrow stream"):
        prepare(path, tmp_path / "store", tokenizer="byte")


def test_batches_are_chosen_without_facts_about_columns(tmp_path: Path) -> None:
    """Those of a damaged Parquet file end the process within pyarrow."""
    pq.write_table(make_table(["a", "b"]), tmp_path / "a.parquet")
    source = SourceFile(name="a", path=tmp_path / "a.parquet", form="parquet")
    facts = SimpleNamespace(num_rows=1_000, total_byte_size=1 << 30)
    with _ParquetFile(source, offset=0, hashes=False) as opened:
        assert opened._choose_batch(facts) == 3


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["id", "body"], "name one with field=: the columns of texts are id, body$"),
        (["id", "texts"], "such as field='texts': the columns of texts are id, texts"),
        (["text", "text", "id"], "2 columns of type string; give them different names; the col"),
    ],
)
def test_the_cure_is_of_use(tmp_path: Path, names: list[str], message: str) -> None:
    """It does not propose what cannot work, or is no better than another column."""
    path = tmp_path / "a.arrow"
    write_file(pa.table([pa.array(["a"])] * len(names), names=names), path, 5)
    with pytest.raises(CorpusError, match=message):
        prepare(path, tmp_path / "store")
