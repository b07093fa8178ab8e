"""Other projects' token files, byte for byte."""

import gzip
import importlib.util
import os
import pickle
import random
import re
import struct
import subprocess
import sys
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tokenloom as tl
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.preparation.trace import Trace

# Documents of 3, 2 and 4 tokens in uint16: the index of Megatron, 102 bytes.
MEGATRON_INDEX = bytes.fromhex(
    "4d4d494449445800 00"
    "0100000000000000"
    "08"
    "0300000000000000"
    "0400000000000000"
    "03000000 02000000 04000000"
    "0000000000000000 0600000000000000 0a00000000000000"
    "0000000000000000 0100000000000000 0200000000000000 0300000000000000"
)
IDS = [1, 2, 3, 4, 5, 6, 7, 8, 300]


def make_corpus() -> tl.Corpus:
    """Return nine ids in three documents."""
    return tl.Corpus.from_tokens(IDS, documents=[0, 3, 5, 9])


def write_meta(folder: Path, meta: Any) -> None:
    """Write what nanoGPT keeps beside its tokens."""
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))


def make_megatron(folder: Path, index: bytes = MEGATRON_INDEX, code: str = "<u2") -> Path:
    """Write Megatron's two files."""
    (folder / "x.bin").write_bytes(np.array(IDS, code).tobytes())
    (folder / "x.idx").write_bytes(index)
    return folder / "x.bin"


def offsets_of(corpus: tl.Corpus) -> list[int]:
    """Return the offsets of the documents."""
    assert corpus.documents is not None
    offsets: list[int] = corpus.documents.tolist()
    return offsets


def test_bare_tokens_are_mapped(tmp_path: Path) -> None:
    """Without a header a file is uint16 tokens, as nanoGPT writes them."""
    (tmp_path / "train.bin").write_bytes(b"\x01\x00\x2c\x01")
    corpus = tl.open_foreign(tmp_path / "train.bin")

    assert [1, 300] == corpus.tokens.tolist()
    assert isinstance(corpus.tokens, np.memmap)
    assert (None, None) == (corpus.documents, corpus.tokenizer)


@pytest.mark.parametrize("dtype", ["uint8", "uint32", "int64"])
def test_bare_tokens_of_another_type(tmp_path: Path, dtype: str) -> None:
    """The type of bare tokens is what the caller says."""
    np.array([1, 2, 99]).astype(dtype).tofile(tmp_path / "x.bin")

    corpus = tl.open_foreign(tmp_path / "x.bin", dtype=dtype)
    assert ([1, 2, 99], dtype) == (corpus.tokens.tolist(), corpus.tokens.dtype.name)


def test_the_loader_reads_them_in_one_line(tmp_path: Path) -> None:
    """A corpus of another project has batches like any other, also in workers."""
    np.arange(200, dtype=np.uint16).tofile(tmp_path / "train.bin")
    windows = tl.SequentialWindows(tl.open_foreign(tmp_path / "train.bin"), batch_size=2, seq_len=9)

    batches = [batch.inputs.tolist() for batch in tl.Loader(windows, num_workers=1)]
    assert batches == [batch.inputs.tolist() for batch in windows]
    assert all(row[1] == row[0] + 1 for rows in batches for row in rows)


@pytest.mark.parametrize(("dtype", "wrong"), [("uint16", 9), ("int16", -1), ("int16", 9)])
def test_ids_are_checked_when_they_are_read(tmp_path: Path, dtype: str, wrong: int) -> None:
    """Nobody searched the file, but for a sample, so what comes out of it is looked at."""
    ids = np.ones(200_000, dtype)
    ids[100_500] = wrong
    ids.tofile(tmp_path / "x.bin")
    corpus = tl.open_foreign(tmp_path / "x.bin", dtype=dtype, vocab_size=9)

    with pytest.raises(tl.StoreError, match=rf"x.bin must hold ids in \[0, 9\), got {wrong}: "):
        list(tl.RandomWindows(corpus, batch_size=1, seq_len=9_000))


def test_negative_ids_are_found_without_a_vocabulary(tmp_path: Path) -> None:
    """No vocabulary has them."""
    np.array([1, -2, 3], np.int32).tofile(tmp_path / "x.bin")
    corpus = tl.open_foreign(tmp_path / "x.bin", dtype="int32")

    with pytest.raises(tl.StoreError, match="got -2: "):
        list(tl.RandomWindows(corpus, batch_size=1, seq_len=2))
    with pytest.raises(CorpusError, match="is not known"):
        _ = corpus.vocab_size


def test_nanogpts_characters_are_the_vocabulary(tmp_path: Path) -> None:
    """Each id keeps its character."""
    characters = ["\n", " ", "!", "a", "b"]
    itos = dict(enumerate(characters))
    write_meta(tmp_path, {"vocab_size": 5, "itos": itos, "stoi": {}})
    np.array([3, 4, 1, 0], np.uint16).tofile(tmp_path / "val.bin")
    corpus = tl.open_foreign(tmp_path / "val.bin")

    assert corpus.vocab is not None
    assert tuple(characters) == corpus.vocab.tokens
    assert (5, "ab \n") == (corpus.vocab_size, corpus.decode(corpus.tokens))
    with pytest.raises(ArgumentError, match=r"^vocab_size must be 5, as in .*meta.pkl, got 6$"):
        tl.open_foreign(tmp_path / "val.bin", vocab_size=6)


class Evil:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return exec, ("raise SystemExit('it ran')",)


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        (Evil(), "it names builtins.exec, and may hold dicts, lists, strings and integers only"),
        (OrderedDict(a=1), "it names collections.OrderedDict"),
        ({"vocab_size": np.int64(2)}, "it names numpy"),
        ({}, "vocab_size must be an integer of at least 1, got None"),
        ({"vocab_size": 2, "itos": {0: "a"}}, "itos must have a str for each id"),
        ({"vocab_size": 0, "itos": {}}, "an integer of at least 1, got 0"),
        ({"vocab_size": 2, "itos": {0: "a", 1: 3}}, "itos must have a str for each id"),
        ({"vocab_size": 2, "itos": {0: "a", 1: "a"}}, "each token once"),
        ({"vocab_size": 2, "itos": {0: "a", 1: "b"}, "stoi": {"a": 1, "b": 0}}, "each token once"),
        ({"vocab_size": 1, "itos": {0: "a"}, "tokenizer": "char"}, "one of tokenloom's"),
        ([1], "it must be a dict, got list"),
        (3, "it must be a dict, got int"),
        ({"vocab_size": "2", "itos": {}}, "an integer of at least 1, got '2'"),
        ({"vocab_size": True, "itos": {0: "a"}}, "an integer of at least 1, got True"),
        ({"vocab_size": 1 << 60, "itos": {0: "a"}}, "itos must have a str for each id"),
    ],
)
def test_a_foreign_pickle_runs_no_code(tmp_path: Path, meta: Any, message: str) -> None:
    """Whatever is more than data, or other data, is refused."""
    write_meta(tmp_path, meta)
    (tmp_path / "train.bin").write_bytes(b"\0\0")

    with pytest.raises(
        CorpusError,
        match=rf"meta.pkl must have nanoGPT's vocab_size, itos and stoi, got .*{message}",
    ):
        tl.open_foreign(tmp_path / "train.bin")


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_pickle_is_an_error_of_ours(tmp_path: Path, data: st.DataObject) -> None:
    """Any bytes at all can stand in such a file."""
    content = bytearray(pickle.dumps({"vocab_size": 2, "itos": {0: "a", 1: "b"}}))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "meta.pkl").write_bytes(content)
    (tmp_path / "train.bin").write_bytes(b"\0\0")
    try:
        corpus = tl.open_foreign(tmp_path / "train.bin")
    except CorpusError:
        return
    assert corpus.vocab is not None


@pytest.mark.parametrize(
    ("magic", "version", "dtype"), [(20240520, 1, "<u2"), (20240801, 7, "<u4")]
)
def test_the_header_of_llm_c(tmp_path: Path, magic: int, version: int, dtype: str) -> None:
    """Tokens follow 1,024 bytes, of the type that the magic number says."""
    header = np.zeros(256, "<i4")
    header[:3] = magic, version, 9
    path = tmp_path / "x.bin"
    path.write_bytes(header.tobytes() + np.array(IDS, dtype).tobytes())

    corpus = tl.open_foreign(path, vocab_size=301)
    assert (IDS, dtype, 301) == (corpus.tokens.tolist(), corpus.tokens.dtype.str, corpus.vocab_size)
    with pytest.raises(ArgumentError, match=r"^dtype must be uint\d\d, which .* says itself"):
        tl.open_foreign(path, dtype="uint8")


@pytest.mark.parametrize(
    ("change", "rest", "message"),
    [
        ((20240521, 1, 9), 18, "llm.c's 20240520 in version 1 or .*, got 20240521 in version 1"),
        ((20240520, 2, 9), 18, "llm.c's .*, got 20240520 in version 2"),
        ((20240520, 1, 8), 18, "8 tokens, as llm.c's header says, got 9"),
        ((20240520, 1, 5000), 200, "5,000 tokens, as llm.c's header says, got 100"),
        ((20240520, 1, -9), 18, "-9 tokens, as llm.c's header says, got 9"),
        ((20240801, 7, 9), 35, "9 tokens, as llm.c's header says, got 8.75"),
        ((20240801, 1, 9), 36, "llm.c's .*, got 20240801 in version 1"),
        ((20240520, 1, 9), -500, "llm.c's header of 1,024 bytes, got 524 bytes"),
        ((20240520, 1, 0), 0, "at least one token"),
    ],
)
def test_what_begins_like_llm_c_must_agree(
    tmp_path: Path, change: tuple[int, int, int], rest: int, message: str
) -> None:
    """The header of a file that was cut does not become 512 tokens."""
    header = np.zeros(256, "<i4")
    header[:3] = change
    (tmp_path / "x.bin").write_bytes((header.tobytes() + bytes(range(1, 201)))[: 1024 + rest])

    with pytest.raises(CorpusError, match=f"x.bin must have {message}"):
        tl.open_foreign(tmp_path / "x.bin")


def test_megatrons_index_byte_by_byte(tmp_path: Path) -> None:
    """The example of 102 bytes is what is written."""
    index = tl.corpus.write_megatron(make_corpus(), tmp_path / "x")

    assert (102, MEGATRON_INDEX) == (len(MEGATRON_INDEX), index.read_bytes())
    assert np.array(IDS, "<u2").tobytes() == (tmp_path / "x.bin").read_bytes()


@pytest.mark.parametrize("name", ["x", "x.bin", "x.idx"])
def test_megatrons_files_are_mapped(tmp_path: Path, name: str) -> None:
    """Tokens lie where they are, and documents are kept."""
    make_megatron(tmp_path)
    corpus = tl.open_foreign(tmp_path / name)

    assert (IDS, [0, 3, 5, 9]) == (corpus.tokens.tolist(), offsets_of(corpus))
    assert isinstance(corpus.tokens, np.memmap)


@pytest.mark.parametrize(
    ("code", "dtype"), [(1, "|u1"), (2, "|i1"), (3, "<i2"), (4, "<i4"), (5, "<i8"), (8, "<u2")]
)
def test_megatrons_types(tmp_path: Path, code: int, dtype: str) -> None:
    """Every type that can hold ids is read."""
    ids = [1, 2, 3]
    item = np.dtype(dtype).itemsize
    (tmp_path / "x.bin").write_bytes(np.array(ids, dtype).tobytes())
    (tmp_path / "x.idx").write_bytes(
        struct.pack("<9sQBQQ", b"MMIDIDX\0\0", 1, code, 2, 2)
        + struct.pack("<2i2q2q", 1, 2, 0, item, 0, 2)
    )
    corpus = tl.open_foreign(tmp_path / "x")

    expected = (ids, dtype, [0, 3])
    assert expected == (corpus.tokens.tolist(), corpus.tokens.dtype.str, offsets_of(corpus))


def test_megatrons_modes_are_passed_over(tmp_path: Path) -> None:
    """Indices of text and images have one byte more per sequence."""
    make_megatron(tmp_path, MEGATRON_INDEX + b"\0\0\0")

    assert [0, 3, 5, 9] == offsets_of(tl.open_foreign(tmp_path / "x"))


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, b"TNTIDX\0\0\0", "Megatron's header, which begins with"),
        (9, b"\2", "version 1 and a type of .*, got version 2 and type 8"),
        (17, b"\7", "version 1 and a type of .*, got version 1 and type 7"),
        (18, b"\4", "114 bytes, got 102 bytes"),
        (18, b"\xff" * 8, "bytes, got 102 bytes"),
        (34, b"\xff\xff\xff\xff", "sequences that lie one after the other"),
        (46, b"\2", "sequences that lie one after the other"),
        (54, b"\7", "sequences that lie one after the other"),
        (70, b"\1", "document_indices from 0 to the number of sequences"),
        (78, b"\3", "document_indices from 0 to the number of sequences"),
        (94, b"\2", "document_indices from 0 to the number of sequences"),
        (42, b"\5", "9 tokens"),
    ],
)
def test_an_index_that_lies(tmp_path: Path, at: int, value: bytes, message: str) -> None:
    """Each field is checked against the others and against the tokens."""
    index = bytearray(MEGATRON_INDEX)
    index[at : at + len(value)] = value
    make_megatron(tmp_path, bytes(index))

    if message == "9 tokens":
        message = r"x.bin must have 10 tokens of uint16, as its .idx says, got 18 bytes"
    with pytest.raises(CorpusError, match=message):
        tl.open_foreign(tmp_path / "x")


@given(at=st.integers(0, 101), byte=st.integers(0, 255), size=st.integers(0, 101))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_index_is_an_error_of_ours(tmp_path: Path, at: int, byte: int, size: int) -> None:
    """Wherever it is damaged or cut, the index is read or refused."""
    index = bytearray(MEGATRON_INDEX)
    index[at] = byte
    for content in (bytes(index), MEGATRON_INDEX[:size]):
        make_megatron(tmp_path, content)
        try:
            corpus = tl.open_foreign(tmp_path / "x")
        except (CorpusError, ArgumentError):
            continue
        assert len(corpus) in (9, 18)


def test_large_ids_for_megatron_are_int32(tmp_path: Path) -> None:
    """The type follows the largest id."""
    corpus = tl.Corpus.from_tokens([1, 65_536, 3])
    tl.corpus.write_megatron(corpus, tmp_path / "y")

    read = tl.open_foreign(tmp_path / "y")
    assert ([1, 65_536, 3], "<i4", [0, 3]) == (
        read.tokens.tolist(),
        read.tokens.dtype.str,
        offsets_of(read),
    )


@given(st.lists(st.integers(0, 4), min_size=1, max_size=9).filter(any))
def test_what_is_written_for_megatron_is_read(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int]
) -> None:
    """Tokens and documents come back, also those without any token."""
    corpus = tl.Corpus.from_tokens(range(sum(lengths)), documents=np.cumsum([0, *lengths]))
    path = tl.corpus.write_megatron(corpus, tmp_path_factory.mktemp("megatron") / "a.b")

    read = tl.open_foreign(path)
    assert path.name == "a.b.idx"
    assert corpus.tokens.tolist() == read.tokens.tolist()
    assert offsets_of(corpus) == offsets_of(read)


@pytest.mark.skipif(
    importlib.util.find_spec("megatron") is None,
    reason="needs: pip install --no-deps megatron-core",
)
def test_megatrons_own_reader_and_writer(tmp_path: Path) -> None:
    """Megatron reads what is written for it, and what it writes is read."""
    tl.corpus.write_megatron(make_corpus(), tmp_path / "ours")
    program = f"""
import numpy, torch
from megatron.core.datasets.indexed_dataset import IndexedDataset, IndexedDatasetBuilder
ours = IndexedDataset({str(tmp_path / "ours")!r})
print([ours[i].tolist() for i in range(len(ours))], ours.document_indices.tolist())
builder = IndexedDatasetBuilder({str(tmp_path / "theirs.bin")!r}, dtype=numpy.int32)
builder.add_document(torch.tensor([7, 70_000, 9]), [1, 2])
builder.add_document(torch.tensor([5]), [1])
builder.finalize({str(tmp_path / "theirs.idx")!r})
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    result = subprocess.run(command, check=True, capture_output=True, text=True)

    assert "[[1, 2, 3], [4, 5], [6, 7, 8, 300]] [0, 1, 2, 3]\n" == result.stdout
    theirs = tl.open_foreign(tmp_path / "theirs")
    assert ([7, 70_000, 9, 5], [0, 3, 4]) == (theirs.tokens.tolist(), offsets_of(theirs))


def test_a_numpy_file_says_its_type(tmp_path: Path) -> None:
    """A real .npy file is what its header says."""
    np.save(tmp_path / "x.npy", np.array([1, 70_000], np.uint32))

    corpus = tl.open_foreign(tmp_path / "x.npy")
    assert ([1, 70_000], "uint32") == (corpus.tokens.tolist(), corpus.tokens.dtype.name)
    with pytest.raises(ArgumentError, match=r"^dtype must be uint32, which .* says itself, or"):
        tl.open_foreign(tmp_path / "x.npy", dtype="uint16")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 2), np.uint16), r"one-dimensional integers, got <u2 of shape \(2, 2\)"),
        (np.zeros(2), r"one-dimensional integers, got <f8 of shape \(2,\)"),
        (np.array([{}]), r"one-dimensional integers, got \|O of shape \(1,\)"),
        (np.zeros(3, [("a", "i4")]), "its header must have descr, fortran_order and shape"),
        (np.arange(3, dtype=">u2"), "little-endian integers, got >u2: Corpus.from_tokens"),
        (np.zeros(3, np.bool_), "one-dimensional integers"),
        (np.zeros(0, np.uint16), "at least one token, got none|NumPy can map"),
    ],
)
def test_numpy_files_that_are_no_ids(tmp_path: Path, array: Any, message: str) -> None:
    """Other arrays are refused by type and shape, and no pickle in them is read."""
    np.save(tmp_path / "x.npy", array)

    with pytest.raises(CorpusError, match=message):
        tl.open_foreign(tmp_path / "x.npy")


def test_olmos_npy_is_bare(tmp_path: Path) -> None:
    """Despite its name it has no header."""
    np.array(IDS, "<u4").tofile(tmp_path / "part-0.npy")

    assert IDS == tl.open_foreign(tmp_path / "part-0.npy", dtype="uint32").tokens.tolist()


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("0,3\n3,5\n5,9\n", [0, 3, 5, 9]),
        ("0,3,id,a.txt\n3,9,id,b.txt\n", [0, 3, 9]),
        ("0,3\n4,9\n", None),
        ("1,9\n", None),
        ("", None),
    ],
)
def test_olmos_documents(tmp_path: Path, lines: str, expected: list[int] | None) -> None:
    """Documents without gaps between them are kept."""
    np.array(IDS, "<u2").tofile(tmp_path / "part-0.npy")
    (tmp_path / "part-0.csv.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))

    corpus = tl.open_foreign(tmp_path / "part-0.npy")
    assert expected == (None if corpus.documents is None else offsets_of(corpus))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            gzip.compress(b"start,end\n", mtime=0),
            "two numbers of tokens in each line",
        ),
        (gzip.compress(b"3\n", mtime=0), "two numbers of tokens in each line"),
        (gzip.compress(b"\xff,3\n", mtime=0), "two numbers of tokens in each line"),
        (gzip.compress(b"0,99999999999999999999\n", mtime=0), "two numbers of tokens in each line"),
        (gzip.compress(b"0,5\n", mtime=0), "documents must be .* from 0 to the 9 tokens"),
        (b"no gzip", r"part-0.csv.gz must have .*: Not a gzipped file"),
        (
            gzip.compress(b"0,9\n", mtime=0)[:-6],
            r"part-0.csv.gz must have .*: Compressed file ended",
        ),
    ],
)
def test_documents_that_cannot_be(tmp_path: Path, content: bytes, message: str) -> None:
    """A file beside the tokens that says something else is refused."""
    np.array(IDS, "<u2").tofile(tmp_path / "part-0.npy")
    (tmp_path / "part-0.csv.gz").write_bytes(content)

    with pytest.raises(CorpusError, match=message):
        tl.open_foreign(tmp_path / "part-0.npy")


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"", {}, "x.bin must have at least one token, got none"),
        (b"123", {}, "whole tokens of uint16, or another dtype must be named, got 3 bytes"),
        (b"12", {"dtype": "float32"}, "dtype must be one of uint8, .*, got 'float32'"),
    ],
)
def test_files_that_cannot_be(
    tmp_path: Path, content: bytes, options: dict[str, Any], message: str
) -> None:
    """An empty file, half a token, and no type of integers are refused."""
    (tmp_path / "x.bin").write_bytes(content)

    with pytest.raises((CorpusError, ArgumentError), match=message):
        tl.open_foreign(tmp_path / "x.bin", **options)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The name and the reason stand in the message."""
    with pytest.raises(CorpusError, match=r"^cannot read '.*x.bin': No such file or directory$"):
        tl.open_foreign(tmp_path / "x.bin")


def test_what_is_written_for_nanogpt(tmp_path: Path) -> None:
    """Bare uint16 tokens, and a pickle of its three fields."""
    corpus = tl.Corpus.from_text("the time machine")
    path = tl.corpus.write_nanogpt(corpus, tmp_path / "train.bin")
    # nanoGPT's own way to read both.
    tokens = np.memmap(path, dtype=np.uint16, mode="r")
    meta = pickle.loads((tmp_path / "meta.pkl").read_bytes())  # noqa: S301  our own bytes

    assert corpus.tokens.tolist() == tokens.tolist()
    assert ["itos", "stoi", "tokenizer", "vocab_size"] == sorted(meta)
    assert corpus.vocab_size == meta["vocab_size"]
    assert "the time machine" == "".join(meta["itos"][id_] for id_ in tokens.tolist())
    assert all(meta["stoi"][token] == id_ for id_, token in meta["itos"].items())
    assert corpus.tokenizer == tl.open_foreign(path).tokenizer


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("the cat sat on the mat", {"tokenizer": "word"}),
        ("The cat: sat!", {"tokenizer": "word", "normalize": False}),
        ("a b a c", {"tokenizer": "word"}),
        ("the cat", {"tokenizer": "char", "reserved_tokens": ["<pad>", "<eod>"]}),
        ("The\ncat", {"tokenizer": "char", "normalize": False, "reserved_tokens": ["abc"]}),
        ("caf\xe9 \u6642", {"tokenizer": "byte"}),
    ],
)
def test_nanogpts_files_mean_the_same_when_they_are_read_back(
    tmp_path: Path, text: str, options: dict[str, Any]
) -> None:
    """Words stay words, bytes bytes, and whatever is normalised stays so."""
    corpus = tl.Corpus.from_text(text, **options)
    read = tl.open_foreign(tl.corpus.write_nanogpt(corpus, tmp_path / "train.bin"))

    assert corpus.decode(corpus.tokens) == read.decode(read.tokens)
    assert read.tokenizer is not None
    assert corpus.tokenizer is not None
    new = "the Mat, caf\xe9"
    assert np.array_equal(corpus.tokenizer.encode(new), read.tokenizer.encode(new))
    assert corpus.vocab_size == read.vocab_size


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (["<unk>", "cat", "the"], "the cat"),
        (["<unk>", "a", "b"], "ba"),
        (["<unk>", "<pad>", "b"], "b<pad>"),
        (["\n", "a", "<eos>"], "<eos>a"),
    ],
)
def test_a_vocabulary_that_does_not_say_what_its_tokens_are(
    tmp_path: Path, tokens: list[str], expected: str
) -> None:
    """It has words, if a token has several characters and is no special one."""
    write_meta(tmp_path, {"vocab_size": 3, "itos": dict(enumerate(tokens))})
    np.array([2, 1], np.uint16).tofile(tmp_path / "x.bin")
    corpus = tl.open_foreign(tmp_path / "x.bin")

    assert expected == corpus.decode(corpus.tokens)
    assert corpus.tokenizer is not None
    if "cat" in tokens:
        assert [2, 1] == np.asarray(corpus.tokenizer.encode("the cat")).tolist()


def test_one_vocabulary_does_not_speak_for_two(tmp_path: Path) -> None:
    """What would change the meaning of a file beside, or be read wrongly, is refused."""
    chars, words = (tl.Corpus.from_text("the cat", tokenizer=kind) for kind in ("char", "word"))
    for name in ("train.bin", "val.bin"):
        tl.corpus.write_nanogpt(chars, tmp_path / name)
    for other in (words, make_corpus()):
        with pytest.raises(ArgumentError, match=r"meta.pkl must say what train.bin holds"):
            tl.corpus.write_nanogpt(other, tmp_path / "train.bin")
    assert "the cat" == "".join(chars.decode(tl.open_foreign(tmp_path / "val.bin").tokens))


def test_tokens_without_a_vocabulary_for_nanogpt(tmp_path: Path) -> None:
    """There is nothing to say beside them."""
    tl.corpus.write_nanogpt(make_corpus(), tmp_path / "deep" / "train.bin")

    assert ["train.bin"] == [path.name for path in (tmp_path / "deep").iterdir()]


@pytest.mark.parametrize(
    ("write", "largest"), [(tl.corpus.write_nanogpt, 1 << 16), (tl.corpus.write_megatron, 1 << 31)]
)
def test_ids_that_do_not_fit_leave_no_file(tmp_path: Path, write: Any, largest: int) -> None:
    """No id is cut to fit the type of another project."""
    with pytest.raises(
        ArgumentError, match=rf"holds u?int\d\d: .* must be in \[0, {largest}\), got {largest}"
    ):
        write(tl.Corpus.from_tokens([1, largest]), tmp_path / "x.bin")

    assert [] == list(tmp_path.iterdir())


def test_documents_that_are_too_long_for_megatron(tmp_path: Path) -> None:
    """The length of a sequence is an int32."""
    path = tmp_path / "x.bin"
    path.touch()
    try:
        with path.open("r+b") as file:
            file.truncate(1 << 32)
    except OSError as error:
        pytest.skip(f"this file system has no such sparse files: {error}")
    with pytest.raises(ArgumentError, match=r"shorter than 2\*\*31 tokens, got 2,147,483,648"):
        tl.corpus.write_megatron(tl.open_foreign(path), tmp_path / "y")


def test_a_large_vocabulary_is_read_as_uint32(tmp_path: Path) -> None:
    """No id above 65,535 fits uint16, so a guess follows the vocabulary, and is tried."""
    path = tmp_path / "u.bin"
    np.array([128_000, 5, 0, 70_000] * 50, np.uint32).tofile(path)
    corpus = tl.open_foreign(path, vocab_size=128_256)
    assert ("uint32", [128_000, 5]) == (corpus.tokens.dtype.name, corpus.tokens[:2].tolist())

    np.arange(400, dtype=np.uint16).tofile(path)
    with pytest.raises(CorpusError, match=r"\[0, vocab_size=128,256\), .* as uint32 in a s"):
        tl.open_foreign(path, vocab_size=128_256)
    assert 400 == len(tl.open_foreign(path, vocab_size=128_256, dtype="uint16"))
    path.write_bytes(bytes(402))
    with pytest.raises(CorpusError, match="whole tokens of uint32"):
        tl.open_foreign(path, vocab_size=128_256)


@pytest.mark.parametrize("dtype", [None, "uint16"])
def test_a_sample_must_fit_the_vocabulary(tmp_path: Path, dtype: str | None) -> None:
    """Whether the type was guessed, named, or stands in a header."""
    ids = np.array([7, 300, 5] * 50, np.uint16)
    ids.tofile(tmp_path / "a.bin")
    np.save(tmp_path / "a.npy", ids)
    for name in ("a.bin", "a.npy"):
        message = rf"{name} must .*in \[0, vocab_size=300\), or its dtype .* 300 as uint16 in a s"
        with pytest.raises(CorpusError, match=message):
            tl.open_foreign(tmp_path / name, vocab_size=300, dtype=dtype)
        assert 150 == len(tl.open_foreign(tmp_path / name, vocab_size=301, dtype=dtype))


@pytest.mark.parametrize("dtype", ["uint32", "int32", "int64"])
@pytest.mark.parametrize("vocab_size", [None, 50_257])
def test_wider_ids_are_not_taken_for_uint16(
    tmp_path: Path, dtype: str, vocab_size: int | None
) -> None:
    """Every second half of them would be a token that nobody wrote."""
    path = tmp_path / "x.ds"
    np.random.default_rng(0).integers(0, 50_257, 3000).astype(dtype).tofile(path)
    advice = 'dtype="int64"' if dtype == "int64" else 'dtype="uint32" or "int32"'
    message = f"tokens of uint16, or its dtype must be named, got .*: {advice}"
    with pytest.raises(CorpusError, match=message):
        tl.open_foreign(path, vocab_size=vocab_size)
    assert 3000 == len(tl.open_foreign(path, vocab_size=vocab_size, dtype=dtype))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"to be, or not to be, " * 9, 'a text: .*tokenloom prepare.*dtype="uint8"'),
        (gzip.compress(bytes(99), mtime=0), "compressed by gzip: decompress it first"),
        (b"PAR1\x15\x04" + bytes(90), "a Parquet file"),
        (b"PK\x03\x04" + bytes(90), "a zip archive"),
        (MEGATRON_INDEX, "an index of Megatron: name it .idx"),
        (b"MMIDXDX\0\0" + MEGATRON_INDEX[9:], "an index of Megatron: name it .idx"),
    ],
)
def test_what_is_no_token_file(tmp_path: Path, content: bytes, message: str) -> None:
    """Any bytes could be taken as bare tokens, so they are recognised."""
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        tl.open_foreign(tmp_path / "x.bin")


@pytest.mark.parametrize("name", ["x.bin", "meta.pkl", "y.npy", "y.csv.gz", "z.idx", "z.bin"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
def test_only_regular_files_are_opened(tmp_path: Path, name: str, kind: str) -> None:
    """Nothing waits for a pipe, and nothing is passed over as if it were not there."""
    np.array(IDS, "<u2").tofile(tmp_path / "x.bin")
    np.array(IDS, "<u2").tofile(tmp_path / "y.npy")
    make_megatron(tmp_path)
    for suffix in (".bin", ".idx"):
        (tmp_path / f"x{suffix}").rename(tmp_path / f"z{suffix}")
    np.array(IDS, "<u2").tofile(tmp_path / "x.bin")
    path = tmp_path / name
    path.unlink(missing_ok=True)
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to(tmp_path / "nowhere")
    opened = {"meta.pkl": "x.bin", "y.csv.gz": "y.npy", "z.bin": "z.idx"}.get(name, name)
    with pytest.raises(CorpusError, match=rf"cannot read .*{re.escape(name)}'"):
        tl.open_foreign(tmp_path / opened)


def test_ids_of_eight_bytes_are_not_guessed_as_four(tmp_path: Path) -> None:
    """Their upper halves would be ids of zero between the others."""
    np.array([70_000, 1, 2, 300], "<i8").tofile(tmp_path / "x.bin")
    with pytest.raises(CorpusError, match=r"every second one 0.*dtype=\"int64\""):
        tl.open_foreign(tmp_path / "x.bin", vocab_size=128_256)
    corpus = tl.open_foreign(tmp_path / "x.bin", vocab_size=128_256, dtype="int64")
    assert corpus.tokens[:].tolist() == [70_000, 1, 2, 300]


@pytest.mark.parametrize("magic", [20240326, 20240327, 20240328, 20240522, 20240803])
def test_other_files_of_llmc_hold_no_tokens(tmp_path: Path, magic: int) -> None:
    """Their headers have more numbers than that of tokens."""
    np.array([magic, 3, 1024, 50257, *[0] * 252], "<i4").tofile(tmp_path / "x.bin")
    with pytest.raises(CorpusError, match=f"must have llm.c's 20240520 .*, got {magic}"):
        tl.open_foreign(tmp_path / "x.bin")


@pytest.mark.parametrize("path", [[], None, 3, b"a.bin", ["a.bin", 3]])
def test_what_is_no_path_is_refused(path: Any) -> None:
    """It says what a path is, and what it is not."""
    with pytest.raises(ArgumentError, match=r"^path must be that of a file, or a list of paths"):
        tl.open_foreign(path)


def write_llmc(path: Path, ids: list[int], *, is_wide: bool = False) -> Path:
    """Write a file as llm.c does."""
    magic, version, dtype = (20240801, 7, "<u4") if is_wide else (20240520, 1, "<u2")
    header = np.zeros(256, "<i4")
    header[:3] = magic, version, len(ids)
    path.write_bytes(header.tobytes() + np.array(ids, dtype).tobytes())
    return path


def test_shards_of_llmc_are_one_corpus(tmp_path: Path) -> None:
    """Whether they are listed or match a pattern; each has its own header and its own width."""
    write_llmc(tmp_path / "train_0.bin", [1, 2, 3])
    write_llmc(tmp_path / "train_1.bin", [70_000, 5], is_wide=True)
    write_llmc(tmp_path / "val_0.bin", [9])
    corpus = tl.open_foreign(str(tmp_path / "train_*.bin"))
    listed = tl.open_foreign([tmp_path / "train_0.bin", tmp_path / "train_1.bin"])

    assert [1, 2, 3, 70_000, 5] == corpus.tokens[:].tolist() == listed.tokens[:].tolist()
    assert corpus.hash == listed.hash
    assert (str(tmp_path / "train_*.bin"), None) == (corpus.name, corpus.documents)
    found = tl.trace(corpus, 3)
    assert Trace(str(tmp_path / "train_1.bin"), 0, None) == found


def test_megatrons_files_match_a_pattern_once(tmp_path: Path) -> None:
    """Of two files of one name the index is not another one."""
    for name in "xy":
        (tmp_path / name).mkdir()
        make_megatron(tmp_path / name)
        for file in (tmp_path / name).iterdir():
            file.rename(tmp_path / f"{name}{file.suffix}")
        (tmp_path / name).rmdir()
    corpus = tl.open_foreign(str(tmp_path / "*"))

    assert 2 * IDS == corpus.tokens[:].tolist()
    assert [0, 3, 5, 9, 12, 14, 18] == offsets_of(corpus)
    assert 2 * IDS == tl.open_foreign([tmp_path / "x", tmp_path / "y"]).tokens[:].tolist()


def test_nanogpts_files_share_their_vocabulary(tmp_path: Path) -> None:
    """Its two files are decoded by the one beside them."""
    corpus = tl.Corpus.from_text("time flies")
    for name in ("train", "val"):
        tl.corpus.write_nanogpt(corpus, tmp_path / f"{name}.bin")
    joined = tl.open_foreign([tmp_path / "train.bin", tmp_path / "val.bin"])

    assert "time fliestime flies" == joined.decode(joined.tokens[:])


def test_shards_of_olmo_have_documents_where_one_has(tmp_path: Path) -> None:
    """A file without a sidecar is one document."""
    np.array([1, 2, 3], "<u2").tofile(tmp_path / "a.npy")
    np.array([4, 5], "<u2").tofile(tmp_path / "b.npy")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"0,1\n1,3\n"))

    assert [0, 1, 3, 5] == offsets_of(tl.open_foreign(str(tmp_path / "*.npy")))


def test_several_files_are_refused_where_they_differ(tmp_path: Path) -> None:
    """Both are named, and so is what joins them all the same."""
    write_llmc(tmp_path / "a.bin", [1, 2])
    np.save(tmp_path / "b.npy", np.array([3], np.uint16))
    for paths, message in [
        (["a.bin", "b.npy"], "one format, got llm.c in .*a.bin' and NumPy in .*b.npy': open them"),
        (["a.bin", "a.bin"], "each file once, got .*a.bin' twice"),
        (["a.bin", "*.npz"], "pattern of files, got .*npz', which matches none"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            tl.open_foreign([tmp_path / path for path in paths])


def test_a_file_may_have_the_name_of_a_pattern(tmp_path: Path) -> None:
    """What is there is not looked for."""
    np.array([7], "<u2").tofile(tmp_path / "a[1].bin")
    np.array([8], "<u2").tofile(tmp_path / "a1.bin")

    assert [7] == tl.open_foreign(tmp_path / "a[1].bin").tokens.tolist()


def test_many_files_need_not_be_open(tmp_path: Path) -> None:
    """A process may have fewer files open than a corpus has shards."""
    resource = pytest.importorskip("resource")
    for number in range(64):
        np.array([number], "<u2").tofile(tmp_path / f"{number:02}.bin")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    num_open = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 64  # noqa: PTH112, PTH208
    resource.setrlimit(resource.RLIMIT_NOFILE, (num_open + 32, hard))
    try:
        corpus = tl.open_foreign(str(tmp_path / "*.bin"))
        assert 64 == len(corpus.parts)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert list(range(64)) == corpus.tokens[:].tolist()


@pytest.mark.parametrize("content", [b"\x80\x04}r\xff\xff\xff\x0f.", b"\x80\x04\x8d" + b"\xff" * 8])
def test_small_files_take_little_memory(tmp_path: Path, content: bytes) -> None:
    """A pickle of nine bytes may ask for gigabytes, and a sidecar become some."""
    np.array(IDS, "<u2").tofile(tmp_path / "x.npy")
    (tmp_path / "meta.pkl").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(CorpusError, match=r"meta.pkl must have nanoGPT's"):
            tl.open_foreign(tmp_path / "x.npy")
        (tmp_path / "meta.pkl").unlink()
        for line in (b"0,1\n", b"\n", b"0,0\n", b"0"):
            (tmp_path / "x.csv.gz").write_bytes(gzip.compress(line * (1 << 22), 9, mtime=0))
            tracemalloc.reset_peak()
            with pytest.raises(CorpusError, match=r"x.csv.gz must have start and end of at most"):
                tl.open_foreign(tmp_path / "x.npy")
            (tmp_path / "x.csv.gz").unlink()
        assert tracemalloc.get_traced_memory()[1] < 1 << 25
    finally:
        tracemalloc.stop()


def make_llmc(folder: Path) -> list[Path]:
    """Write a file of llm.c."""
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, 9
    (folder / "x.bin").write_bytes(header.tobytes() + np.array(IDS, "<u2").tobytes())
    return [folder / "x.bin"]


def make_npy(folder: Path) -> list[Path]:
    """Write a file of NumPy."""
    np.save(folder / "x.npy", np.array(IDS, "<u2"))
    return [folder / "x.npy"]


def make_olmo(folder: Path) -> list[Path]:
    """Write OLMo's tokens and documents."""
    np.array(IDS, "<u2").tofile(folder / "x.npy")
    (folder / "x.csv.gz").write_bytes(gzip.compress(b"0,3\n3,5\n5,9\n", mtime=0))
    return [folder / "x.npy", folder / "x.csv.gz"]


def make_nanogpt(folder: Path) -> list[Path]:
    """Write nanoGPT's tokens and vocabulary."""
    path = tl.corpus.write_nanogpt(
        tl.Corpus.from_text("abcabbcbc", tokenizer="char"), folder / "x.bin"
    )
    return [path, folder / "meta.pkl"]


def make_index(folder: Path) -> list[Path]:
    """Write Megatron's tokens and index."""
    return [make_megatron(folder), folder / "x.idx"]


@pytest.mark.parametrize("make", [make_llmc, make_npy, make_olmo, make_nanogpt, make_index])
def test_damaged_files_are_read_or_refused(
    tmp_path: Path, make: Callable[[Path], list[Path]]
) -> None:
    """A damaged byte, a cut and an extension of any file raise no error but ours.

    Where the structure of a file is damaged, no other tokens come out of it:
    the file of tokens itself is the one whose values nothing proves.
    """
    data, *beside = make(tmp_path)
    damaged = (beside or [data])[0]
    content, size = damaged.read_bytes(), damaged.stat().st_size
    expected = tl.open_foreign(data).tokens.tolist()
    num_structure = size if beside else size - 18
    rng = random.Random(0)  # noqa: S311
    for number in range(600):
        changed = bytearray(content)
        match number % 6:
            case 0:
                changed = changed[: rng.randrange(size)]
            case 1:
                changed += bytes(rng.randrange(1, 9))
            case 2:
                changed[rng.randrange(num_structure)] ^= 1 << rng.randrange(8)
            case _:
                changed[rng.randrange(num_structure)] = rng.randrange(256)
        damaged.write_bytes(changed)
        try:
            corpus = tl.open_foreign(data)
            batches = list(tl.SequentialWindows(corpus, batch_size=1, seq_len=8))
        except tl.TokenloomError:
            continue
        assert expected == corpus.tokens.tolist(), bytes(changed)
        assert len(batches) == 1
