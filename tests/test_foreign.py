"""Other projects' token files, byte for byte."""

import gzip
import importlib.util
import pickle
import struct
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tokenloom as tl

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
    """Nobody searched the file, so what comes out of it is looked at."""
    np.array([1, 2, 3, wrong]).astype(dtype).tofile(tmp_path / "x.bin")
    corpus = tl.open_foreign(tmp_path / "x.bin", dtype=dtype, vocab_size=9)

    with pytest.raises(tl.StoreError, match=rf"x.bin must hold ids in \[0, 9\), got {wrong}: "):
        list(tl.RandomWindows(corpus, batch_size=1, seq_len=3))


def test_negative_ids_are_found_without_a_vocabulary(tmp_path: Path) -> None:
    """No vocabulary has them."""
    np.array([1, -2, 3], np.int32).tofile(tmp_path / "x.bin")
    corpus = tl.open_foreign(tmp_path / "x.bin", dtype="int32")

    with pytest.raises(tl.StoreError, match="got -2: "):
        list(tl.RandomWindows(corpus, batch_size=1, seq_len=2))
    with pytest.raises(tl.CorpusError, match="is not known"):
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
    with pytest.raises(tl.ArgumentError, match=r"^vocab_size must be 5, as in .*meta.pkl, got 6$"):
        tl.open_foreign(tmp_path / "val.bin", vocab_size=6)


class Evil:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return exec, ("raise SystemExit('it ran')",)


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        (Evil(), "it names builtins.exec, and may hold dicts, strings and integers only"),
        (OrderedDict(a=1), "it names collections.OrderedDict"),
        ({"vocab_size": np.int64(2)}, "it names numpy"),
        ({}, "KeyError: 'vocab_size'"),
        ({"vocab_size": 2, "itos": {0: "a"}}, "KeyError: 1"),
        ({"vocab_size": 0, "itos": {}}, "index out of range"),
        ({"vocab_size": 2, "itos": {0: "a", 1: 3}}, "expected an iterable of str"),
        ({"vocab_size": 2, "itos": {0: "a", 1: "a"}}, "must differ"),
        ([1], "list indices"),
        (3, "not subscriptable"),
        ({"vocab_size": "2", "itos": {}}, "as an integer"),
    ],
)
def test_a_foreign_pickle_runs_no_code(tmp_path: Path, meta: Any, message: str) -> None:
    """Whatever is more than data, or other data, is refused."""
    write_meta(tmp_path, meta)
    (tmp_path / "train.bin").write_bytes(b"\0\0")

    with pytest.raises(
        tl.CorpusError, match=rf"meta.pkl must have nanoGPT's vocab_size and itos, got .*{message}"
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
    except tl.CorpusError:
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
    with pytest.raises(tl.ArgumentError, match=r"^dtype must be uint\d\d, which .* says itself"):
        tl.open_foreign(path, dtype="uint8")


@pytest.mark.parametrize("change", [(20240521, 1, 9), (20240520, 2, 9), (20240520, 1, 8)])
def test_what_only_looks_like_llm_c_is_bare(tmp_path: Path, change: tuple[int, int, int]) -> None:
    """Magic, version and size must all fit, else a file is bare tokens."""
    header = np.zeros(256, "<i4")
    header[:3] = change
    (tmp_path / "x.bin").write_bytes(header.tobytes() + np.array(IDS, "<u2").tobytes())

    assert 512 + 9 == len(tl.open_foreign(tmp_path / "x.bin"))


def test_megatrons_index_byte_by_byte(tmp_path: Path) -> None:
    """The example of 102 bytes is what is written."""
    index = tl.write_megatron(make_corpus(), tmp_path / "x")

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
        (34, b"\xff\xff\xff\xff", "sequences that lie one behind the other"),
        (46, b"\2", "sequences that lie one behind the other"),
        (54, b"\7", "sequences that lie one behind the other"),
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
    with pytest.raises(tl.CorpusError, match=message):
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
        except (tl.CorpusError, tl.ArgumentError):
            continue
        assert len(corpus) in (9, 18)


def test_large_ids_for_megatron_are_int32(tmp_path: Path) -> None:
    """The type follows the largest id."""
    corpus = tl.Corpus.from_tokens([1, 65_536, 3])
    tl.write_megatron(corpus, tmp_path / "y")

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
    path = tl.write_megatron(corpus, tmp_path_factory.mktemp("megatron") / "a.b")

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
    tl.write_megatron(make_corpus(), tmp_path / "ours")
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
    with pytest.raises(tl.ArgumentError, match=r"^dtype must be uint32, which .* says itself, or"):
        tl.open_foreign(tmp_path / "x.npy", dtype="uint16")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 2), np.uint16), r"one-dimensional integers, got uint16 of shape \(2, 2\)"),
        (np.zeros(2), r"one-dimensional integers, got float64 of shape \(2,\)"),
        (np.array([{}]), "an array that NumPy can map"),
        (np.zeros(0, np.uint16), "at least one token, got none|NumPy can map"),
    ],
)
def test_numpy_files_that_are_no_ids(tmp_path: Path, array: Any, message: str) -> None:
    """Other arrays are refused by type and shape, and no pickle in them is read."""
    np.save(tmp_path / "x.npy", array)

    with pytest.raises(tl.CorpusError, match=message):
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
    (tmp_path / "part-0.csv.gz").write_bytes(gzip.compress(lines.encode()))

    corpus = tl.open_foreign(tmp_path / "part-0.npy")
    assert expected == (None if corpus.documents is None else offsets_of(corpus))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            gzip.compress(b"start,end\n", mtime=0),
            "two numbers of tokens, start and end, in each line",
        ),
        (gzip.compress(b"3\n", mtime=0), "two numbers of tokens"),
        (gzip.compress(b"\xff,3\n", mtime=0), "two numbers of tokens"),
        (gzip.compress(b"0,99999999999999999999\n", mtime=0), "two numbers of tokens"),
        (gzip.compress(b"0,5\n", mtime=0), "documents must be .* from 0 to the 9 tokens"),
        (b"no gzip", "cannot read .*: Not a gzipped file"),
        (gzip.compress(b"0,9\n", mtime=0)[:-6], "cannot read .*: Compressed file ended"),
    ],
)
def test_documents_that_cannot_be(tmp_path: Path, content: bytes, message: str) -> None:
    """A file beside the tokens that says something else is refused."""
    np.array(IDS, "<u2").tofile(tmp_path / "part-0.npy")
    (tmp_path / "part-0.csv.gz").write_bytes(content)

    with pytest.raises(tl.CorpusError, match=message):
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

    with pytest.raises((tl.CorpusError, tl.ArgumentError), match=message):
        tl.open_foreign(tmp_path / "x.bin", **options)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The name and the reason stand in the message."""
    with pytest.raises(tl.CorpusError, match=r"^cannot read '.*x.bin': No such file or directory$"):
        tl.open_foreign(tmp_path / "x.bin")


def test_what_is_written_for_nanogpt(tmp_path: Path) -> None:
    """Bare uint16 tokens, and a pickle of its three fields."""
    corpus = tl.Corpus.from_text("the time machine")
    path = tl.write_nanogpt(corpus, tmp_path / "train.bin")
    # nanoGPT's own way to read both.
    tokens = np.memmap(path, dtype=np.uint16, mode="r")
    meta = pickle.loads((tmp_path / "meta.pkl").read_bytes())  # noqa: S301  our own bytes

    assert corpus.tokens.tolist() == tokens.tolist()
    assert ["itos", "stoi", "vocab_size"] == sorted(meta)
    assert corpus.vocab_size == meta["vocab_size"]
    assert "the time machine" == "".join(meta["itos"][id_] for id_ in tokens.tolist())
    assert all(meta["stoi"][token] == id_ for id_, token in meta["itos"].items())
    assert corpus.vocab == tl.open_foreign(path).vocab


def test_tokens_without_a_vocabulary_for_nanogpt(tmp_path: Path) -> None:
    """There is nothing to say beside them."""
    tl.write_nanogpt(make_corpus(), tmp_path / "deep" / "train.bin")

    assert ["train.bin"] == [path.name for path in (tmp_path / "deep").iterdir()]


@pytest.mark.parametrize(
    ("write", "largest"), [(tl.write_nanogpt, 1 << 16), (tl.write_megatron, 1 << 31)]
)
def test_ids_that_do_not_fit_leave_no_file(tmp_path: Path, write: Any, largest: int) -> None:
    """No id is cut to fit the type of another project."""
    with pytest.raises(
        tl.ArgumentError, match=rf"holds u?int\d\d: .* must be in \[0, {largest}\), got {largest}"
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
    with pytest.raises(tl.ArgumentError, match=r"shorter than 2\*\*31 tokens, got 2,147,483,648"):
        tl.write_megatron(tl.open_foreign(path), tmp_path / "y")
