"""Corpora by name: what a name means, texts and documents."""

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokenloom as tl
from tests.hub.conftest import TEXT
from tokenloom import Corpus, Document
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.hub import BuiltIn, Entry
from tokenloom.hub.catalogue import CATALOGUE
from tokenloom.hub.load import find, load, read, read_documents
from tokenloom.text.identity import Identity


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Work beside a store with two splits."""
    monkeypatch.chdir(tmp_path)
    corpus = Corpus.from_text("the time machine", tokenizer="word")
    corpus.save("store", splits={"train": (0, 2), "valid": (2, 3)})
    return "store"


@pytest.mark.parametrize("content", ["text", None])
def test_built_in_text_that_is_no_bytes(content: object) -> None:
    """An entry whose function returns something else is named."""
    source = BuiltIn(read=lambda: content)  # type: ignore[arg-type, return-value]  # what a user may write
    entry = Entry(name="mine", description="a text", licence="ours", source=source)
    with pytest.raises(CorpusError, match=r"^read of 'mine' must return bytes, got (str|NoneType)"):
        read(entry)


@pytest.mark.parametrize("split", [None, "train"])
def test_a_store_has_no_documents_to_read(split: str | None, tmp_path: Path) -> None:
    """It holds tokens, and the message does not call it a folder without a store."""
    store = tmp_path / "store"
    Corpus.from_text("to be or not").save(store, splits={"train": (0, 5)})
    name = store if split is None else store / split
    with pytest.raises(ArgumentError, match=r"' is a store, which holds tokens and no text: name"):
        next(iter(read_documents(name)))


def test_read_downloads(entry: Entry) -> None:
    """The bytes of a named text are those of its file."""
    assert read(entry) == TEXT


def test_read_what_is_built_in(cache: Path) -> None:
    """A text that Python carries needs no cache."""
    read(CATALOGUE["python_docs"])

    assert not cache.exists()


def test_find_an_entry() -> None:
    """A name of the catalogue is that entry."""
    assert CATALOGUE["time_machine"] is find("time_machine")


@pytest.mark.parametrize("make", [str, Path])
def test_find_a_file(tmp_path: Path, make: type[str] | type[Path]) -> None:
    """Any other name is the path of a file."""
    path = tmp_path / "mine.txt"
    path.write_bytes(b"text")

    assert path == find(make(path))


@pytest.mark.parametrize("name", ["time_machine", "imdb", "imdb/test"])
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_name_that_is_also_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    """Nobody can know which one is meant, so both spellings are named."""
    monkeypatch.chdir(tmp_path)
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    match kind:
        case "file":
            path.write_bytes(b"text")
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to("nowhere")
    with pytest.raises(
        ArgumentError, match=rf"is both .* write './{name}' for the .*, or 'dataset:{name}'"
    ):
        find(name)
    found = find(f"dataset:{name}")
    assert isinstance(found, tl.hub.Entry)
    assert name == found.name
    if kind == "file":
        assert Path(name) == find(f"./{name}") == find(Path(name))
        assert f"./{name}" == tl.load(f"./{name}").name


def test_a_dataset_of_no_such_name() -> None:
    """The prefix is only for names of the catalogue."""
    with pytest.raises(ArgumentError, match="'dataset:none' must be one of imdb, imdb/train"):
        find("dataset:none")


def test_find_a_path_that_looks_like_an_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Path is always a file."""
    monkeypatch.chdir(tmp_path)
    Path("time_machine").write_bytes(b"text")

    assert Path("time_machine") == find(Path("time_machine"))


def test_find_nothing(tmp_path: Path) -> None:
    """A name that is neither is refused with the names there are."""
    with pytest.raises(
        ArgumentError,
        match=r"^a corpus must be one of imdb, imdb/train, imdb/test, imdb/unsup, python_docs, "
        r"time_machine, tiny_shakespeare or the path of a text file or a store, "
        r"got '.*war', which is neither: no such file or folder$",
    ):
        find(str(tmp_path / "war"))


@pytest.mark.usefixtures("registered")
def test_load_a_name() -> None:
    """A named text is fetched and tokenised."""
    corpus = load("book", tokenizer="word")

    expected = "the time machine by h g wells"
    assert expected == corpus.decode(corpus.tokens)


@pytest.mark.usefixtures("registered")
def test_load_a_name_as_bytes() -> None:
    """Byte tokens are the bytes of the file."""
    assert list(TEXT) == load("book", tokenizer="byte").tokens.tolist()


@pytest.mark.usefixtures("registered")
def test_load_is_named_after_the_entry() -> None:
    """The corpus has the name that it was loaded by."""
    expected = "book"
    assert expected == load("book").name


def test_load_passes_every_option_on(tmp_path: Path) -> None:
    """Options mean what they mean to Corpus.from_text."""
    path = tmp_path / "mine.txt"
    path.write_bytes(b"B b a a c")
    corpus = load(
        path, tokenizer="word", normalize=False, min_freq=2, reserved_tokens=["b"], max_tokens=4
    )

    expected = ("<unk> b a a", 3)
    assert expected == (corpus.decode(corpus.tokens), corpus.vocab_size)
    cut = load(path, tokenizer="word", normalize=False, vocab_size=2)
    assert "<unk> <unk> a a <unk>" == cut.decode(cut.tokens)


def test_load_a_file_is_named_after_its_path(tmp_path: Path) -> None:
    """Messages about the corpus name the file."""
    path = tmp_path / "mine.txt"
    path.write_bytes(b"text")

    assert str(path) == load(path).name


def test_load_in_another_encoding(tmp_path: Path) -> None:
    """A file that is not in UTF-8 is read in its own encoding."""
    path = tmp_path / "menu.txt"
    path.write_bytes(b"caf\xe9")
    corpus = load(path, normalize=False, encoding="latin-1")

    expected = "café"
    assert expected == corpus.decode(corpus.tokens)


def test_load_in_the_wrong_encoding(tmp_path: Path) -> None:
    """A file that is not in UTF-8 is refused with its name and the offset."""
    path = tmp_path / "menu.txt"
    path.write_bytes(b"caf\xe9")

    with pytest.raises(CorpusError, match=r"menu\.txt must be text in utf-8, .* at offset 3 "):
        load(path)


def test_load_any_bytes(tmp_path: Path) -> None:
    """With byte tokens no encoding matters."""
    path = tmp_path / "image.raw"
    path.write_bytes(b"\xef\xbb\xbf\xff")

    expected = [239, 187, 191, 255]
    assert expected == load(path, tokenizer="byte").tokens.tolist()


def test_load_a_folder(tmp_path: Path) -> None:
    """A folder is no text, and the message has the command that makes a store of it."""
    folder = tmp_path / "two words"
    folder.mkdir()
    cure = f"by 'tokenloom prepare '{folder}' -o my-store' or tokenloom.prepare('{folder}', 'my-"

    with pytest.raises(ArgumentError) as refused:
        load(folder)

    assert cure in str(refused.value)


def test_an_address_is_no_corpus() -> None:
    """What lies there can be prepared."""
    with pytest.raises(ArgumentError, match="which is neither: it is an address: make a store of"):
        load("s3://texts/war.txt")


@pytest.mark.parametrize("name", ["", ".", os.devnull, Path()])
def test_names_that_are_no_files(name: str | Path) -> None:
    """Neither nothing nor a folder nor a device is a text file."""
    with pytest.raises(ArgumentError, match=f"got {os.fspath(name)!r}, which is neither: "):
        find(name)


@pytest.mark.usefixtures("reviews")
def test_documents_of_reviews() -> None:
    """Reviews come in the order of their numbers, with what is known about them."""
    documents = list(read_documents("small"))

    expected = [
        ("neg", 0, 3, "Story of a man<br />who sleeps"),
        ("neg", 2, 4, "Too long"),
        ("neg", 10, 1, "Dull"),
        ("pos", 0, 9, "Tr\u00e8s bien"),
    ]
    keys = "label", "number", "rating"
    assert expected == [(*(d.metadata[key] for key in keys), d.text) for d in documents]
    assert {"train"} == {document.metadata["split"] for document in documents}


@pytest.mark.usefixtures("reviews")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("small", ["Story of a man<br />who sleeps", "Too long", "Dull", "Tr\u00e8s bien"]),
        ("small/train", ["Story of a man<br />who sleeps", "Too long", "Dull", "Tr\u00e8s bien"]),
        ("small/test", ["Bad", "Great film"]),
        ("small/unsup", ["Who knows"]),
    ],
)
def test_load_a_split(name: str, expected: list[str]) -> None:
    """A split is named after a slash; its documents are joined by line ends."""
    corpus = load(name, normalize=False)

    assert (name, "\n".join(expected)) == (corpus.name, corpus.decode(corpus.tokens))


@pytest.mark.usefixtures("reviews")
@pytest.mark.parametrize(
    ("tokenizer", "normalize"),
    [("char", True), ("char", False), ("word", True), ("word", False), ("byte", True)],
)
def test_load_keeps_documents_apart(tokenizer: str, normalize: bool) -> None:
    """The tokens are those of the joined texts, and each document is known."""
    texts = [document.text for document in read_documents("small/train")]
    corpus = load("small/train", tokenizer=tokenizer, normalize=normalize)
    joined = Corpus.from_text("\n".join(texts), tokenizer=tokenizer, normalize=normalize)
    assert (joined.hash, joined.vocab) == (corpus.hash, corpus.vocab)
    assert len(texts) == corpus.num_documents
    assert corpus.tokenizer is not None
    for index, text in enumerate(texts):
        document = corpus.document(index)
        expected = corpus.tokenizer.decode(np.asarray(corpus.tokenizer.encode(text)).tolist())
        assert expected == document.decode(document.tokens).rstrip("\n")


@pytest.mark.usefixtures("reviews")
def test_load_of_documents_stops_after_max_tokens() -> None:
    """The last document is cut, and the vocabulary counts all of them."""
    corpus = load("small/train", tokenizer="word", max_tokens=8)
    assert (8, 2) == (len(corpus), corpus.num_documents)
    assert load("small/train", tokenizer="word").vocab == corpus.vocab
    with pytest.raises(ArgumentError, match="max_tokens must be at least 1"):
        load("small/train", max_tokens=0)


@pytest.mark.usefixtures("reviews")
def test_documents_that_were_read_become_a_corpus() -> None:
    """A Document is as good as its text."""
    corpus = Corpus.from_documents(read_documents("small/test"), tokenizer="word")
    assert ["bad", "great film"] == [
        corpus.decode(corpus.document(index).tokens) for index in range(corpus.num_documents)
    ]
    mixed = Corpus.from_documents([Document(text="Bad"), "Great film"], tokenizer="word")
    assert mixed.hash == corpus.hash


@pytest.mark.usefixtures("reviews")
def test_load_a_split_that_is_none() -> None:
    """The message names the splits there are."""
    with pytest.raises(ArgumentError, match=r"small, small/train, small/test, small/unsup, time"):
        load("small/valid")


@pytest.mark.usefixtures("reviews")
def test_split_of_a_text_with_another_vocabulary() -> None:
    """The ids of a test split can be those of the training split."""
    train = load("small/train", tokenizer="word")
    assert train.tokenizer
    test = load("small/test", tokenizer=train.tokenizer)

    assert train.vocab_size == test.vocab_size


def test_a_file_hides_no_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has the form of a split and is none may be a file."""
    monkeypatch.chdir(tmp_path)
    Path("imdb").mkdir()
    Path("imdb", "mine.txt").write_bytes(b"text")

    assert Path("imdb/mine.txt") == find("imdb/mine.txt")


def test_documents_of_a_file(tmp_path: Path) -> None:
    """A text file is one document, of which nothing else is known."""
    path = tmp_path / "menu.txt"
    path.write_bytes(b"caf\xe9")

    assert [Document(text="caf\u00e9")] == list(read_documents(path, encoding="latin-1"))


@pytest.mark.usefixtures("registered")
def test_documents_of_a_named_text() -> None:
    """So is a text that has a name."""
    assert [Document(text=TEXT.decode())] == list(read_documents("book"))


def test_load_a_store(store: str) -> None:
    """It is what Corpus.open opens; its split is named after a slash."""
    assert Corpus.open(store).hash == load(store).hash == load(Path(store)).hash
    assert Corpus.open(store).hash == load(store, tokenizer="word").hash
    valid = load("store/valid")
    assert ("store/valid", "machine") == (valid.name, valid.decode(valid.tokens))
    assert 1 == len(load(store, max_tokens=1))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("store/vald", {}, r"split must be .*'valid'\), got 'vald': did you mean valid\?"),
        ("store", {"normalize": False}, "^normalize must be left out for the store 'store'"),
        ("store", {"min_freq": 2}, "^min_freq must be left out"),
        ("store", {"vocab_size": 2}, "^vocab_size must be left out"),
        ("store", {"reserved_tokens": ["a"]}, "^reserved_tokens must be left out"),
        ("store", {"encoding": "latin-1"}, "^encoding must be left out"),
        ("store", {"tokenizer": "byte"}, "^tokenizer must be left out .* made by word, got 'byte'"),
        ("store", {"max_tokens": 0}, "^max_tokens must be at least 1"),
    ],
)
def test_load_of_a_store_refuses(
    store: str, name: str, options: dict[str, Any], message: str
) -> None:
    """What a store cannot obey is not ignored."""
    assert store in name
    with pytest.raises(ArgumentError, match=message):
        load(name, **options)


def test_a_store_and_something_else_of_one_name(store: str) -> None:
    """Nothing is chosen in silence."""
    Path(store, "valid").write_text("a text", encoding="utf-8")
    with pytest.raises(ArgumentError, match="is a file, and also a split of the store"):
        load("store/valid")
    Path(store, "notes.txt").write_text("a text", encoding="utf-8")
    assert "a text" == load("store/notes.txt").decode(load("store/notes.txt").tokens)
    Path(store).rename("python_docs")
    with pytest.raises(ArgumentError, match=r"write '\./python_docs' for the store"):
        load("python_docs")
    assert 3 == len(load("./python_docs")) == len(load(Path("python_docs")))


def test_a_folder_in_a_store_hides_no_split(store: str) -> None:
    """A folder is no text."""
    Path(store, "valid").mkdir()
    assert 1 == len(load("store/valid"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.txt",
            gzip.compress(b"abc", mtime=0),
            "compressed by gzip: decompress it first, or give its n",
        ),
        ("a.txt.gz", gzip.compress(gzip.compress(b"abc", mtime=0), mtime=0), "compressed by gzip"),
        ("a.txt", b"PK\3\4" + bytes(99), "a zip archive"),
        (
            "a.tar.gz",
            gzip.compress(bytes(257) + b"ustar\00000" + bytes(500), mtime=0),
            "a tar archive",
        ),
        ("a.txt", "abc".encode("utf-16"), "text in UTF-16: name it: encoding='utf-16'"),
        ("a.jsonl", b'{"text": "a"}\n', "JSON Lines: .*/a.jsonl -o my-store' makes"),
        (
            "a.json.gz",
            gzip.compress(b'{"text": "a"}\n{"text": "b"}\n', mtime=0),
            "JSON Lines: 'tokenloom pr",
        ),
        ("a", b'{"text": "a"}\n{"text": "b"}\n', "JSON Lines: .*/a --documents jsonl -o my"),
        ("a.json", b'{\n"text": "a"}\n', "one JSON document"),
        ("a.csv", b"a,b\n1,2\n", r"a table \(.csv\)"),
    ],
)
@pytest.mark.parametrize("tokenizer", ["char", "byte"])
def test_files_that_are_no_text(
    tmp_path: Path, name: str, content: bytes, message: str, tokenizer: str
) -> None:
    """Each is called what it is, with the cure, and becomes no tokens."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=rf"{name} must be .*text.*but it is {message}"):
        tl.load(tmp_path / name, tokenizer=tokenizer)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be", "latin-1"])
def test_texts_are_decompressed_and_decoded(tmp_path: Path, encoding: str) -> None:
    """As prepare reads them; bytes are those of UTF-8."""
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress("caf\xe9".encode(encoding), mtime=0))
    corpus = tl.load(path, normalize=False, encoding=encoding)
    assert "caf\xe9" == corpus.decode(corpus.tokens)
    assert "caf\xe9".encode() == bytes(tl.load(path, tokenizer="byte", encoding=encoding).tokens[:])
    (document,) = tl.read_documents(path, encoding=encoding)
    assert "caf\xe9" == document.text


@pytest.mark.parametrize("name", [None, 3, ["a.txt"]])
def test_what_is_no_name_is_refused(name: Any) -> None:
    """The message says what was expected, and what came."""
    with pytest.raises(
        ArgumentError, match=r"named by a str or a path, got .*: Corpus.from_text and"
    ):
        load(name)


def _write_parts(folder: Path) -> Corpus:
    words = Corpus.from_text("time flies like an arrow", tokenizer="word")
    for number in range(2):
        words.save(folder / f"store{number}", splits={"train": (number, 3)})
        tl.corpus.write_nanogpt(words, folder / f"{number}.bin")
    return words


def test_a_pattern_means_many_stores_or_files(tmp_path: Path) -> None:
    """As one corpus that has the name of the pattern; or a split of each store."""
    words = _write_parts(tmp_path)
    whole, files = load(tmp_path / "store?"), load(f"{tmp_path}/*.bin")
    again = words.decode(words.tokens)

    assert [f"{again} {again}"] * 2 == [each.decode(each.tokens[:]) for each in (whole, files)]
    assert [f"{tmp_path}/store?", f"{tmp_path}/*.bin"] == [whole.name, files.name]
    assert "time flies like flies like" == whole.decode(load(f"{tmp_path}/store?/train").tokens[:])
    assert 3 == len(load(f"{tmp_path}/store?", max_tokens=3))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("**/*.bin", "time flies like an arrow " * 4),
        ("**/**/*.bin", "time flies like an arrow " * 4),
        ("**/store?", "time flies like an arrow " * 4),
        ("deep/**", "time flies like an arrow " * 2),
        ("**/store0/train", "time flies like " * 2),
        ("**/store?/train", "time flies like flies like " * 2),
    ],
)
def test_two_stars_mean_any_number_of_folders(tmp_path: Path, pattern: str, expected: str) -> None:
    """As in `prepare` and `open_foreign`; files of stores are left out."""
    words = _write_parts(tmp_path)
    _write_parts(tmp_path / "deep" / "er")
    for path in (tmp_path / "deep" / "er").glob("*.*") if pattern == "deep/**" else ():
        path.unlink()

    assert expected.strip() == words.decode(load(f"{tmp_path}/{pattern}").tokens[:])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("n*", {}, "must match stores, or token files .*, which matches .*note.txt': of several"),
        ("*.bin", {"tokenizer": "char", "normalize": False}, "normalize must be left out for"),
        ("*.bin", {"tokenizer": "byte"}, "tokenizer must be left out for .*0.bin', which holds"),
        ("store?", {"tokenizer": "byte"}, "tokenizer must be left out for the store"),
        ("*.npy", {}, "a corpus must be one of .*no such file"),
    ],
)
def test_what_a_pattern_cannot_mean(
    tmp_path: Path, name: str, options: dict[str, Any], message: str
) -> None:
    """Texts become a store first; what is tokenised is not tokenised again."""
    _write_parts(tmp_path)
    (tmp_path / "note.txt").write_text("text", encoding="utf-8")

    with pytest.raises(ArgumentError, match=message):
        load(f"{tmp_path}/{name}", **options)


@pytest.mark.parametrize("name", ["x", "x.bin", "x.idx", "x.*", "a.npy", "llmc.bin", "bare.bin"])
def test_a_token_file_is_opened_by_its_name(tmp_path: Path, name: str) -> None:
    """Of each format, alone as in a pattern."""
    ids = np.arange(100, dtype=np.uint16) % 30
    corpus = Corpus.from_tokens(ids, vocab_size=30)
    tl.corpus.write_megatron(corpus, tmp_path / "x")
    np.save(tmp_path / "a.npy", ids)
    header = np.zeros(256, np.int32)
    header[:3] = 20240520, 1, 100
    (tmp_path / "llmc.bin").write_bytes(header.tobytes() + ids.tobytes())
    (tmp_path / "bare.bin").write_bytes(ids.tobytes())
    found = load(f"{tmp_path}/{name}")
    np.testing.assert_array_equal(ids, found.tokens[:])
    assert f"{tmp_path}/{name}" == found.name


def test_what_only_looks_like_a_token_file_is_text(tmp_path: Path) -> None:
    """By its name; and bytes are what byte tokens read, unless the file says what it is."""
    text, other = tmp_path / "book.bin", tmp_path / "program.bin"
    for content in ("to be or not to be", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"):
        text.write_text(content, encoding="latin-1" if content[0] == "c" else "utf-8")
        encoding = "latin-1" if content[0] == "c" else "utf-8"
        found = load(text, normalize=False, encoding=encoding)
        assert content == found.decode(found.tokens[:])
    other.write_bytes(bytes(range(256)))
    assert list(range(256)) == load(other, tokenizer="byte").tokens[:].tolist()
    tl.corpus.write_nanogpt(Corpus.from_text("abc", tokenizer="byte"), tmp_path / "train.bin")
    assert list(b"abc") == load(tmp_path / "train.bin").tokens[:].tolist()
    with pytest.raises(ArgumentError, match=r"tokenizer must be left out for .*train.bin'"):
        load(tmp_path / "train.bin", tokenizer="byte")


def test_files_of_a_pattern_have_their_own_tokenizer(tmp_path: Path) -> None:
    """Where it is known; else the one that is given."""
    words = _write_parts(tmp_path).tokenizer
    other = Corpus.from_text("life arrows in mean an", tokenizer="word").tokenizer
    assert words is not None
    assert other is not None
    with pytest.raises(ArgumentError, match=r"must be the one that made the ids of .*0.bin'"):
        load(f"{tmp_path}/*.bin", tokenizer=other)
    assert 10 == len(load(f"{tmp_path}/*.bin", tokenizer=words))
    (tmp_path / "meta.pkl").unlink()

    found = load(f"{tmp_path}/*.bin", tokenizer=other)
    assert other is found.tokenizer
    assert words.vocab_size == other.vocab_size
    assert Identity.of(other) == found.identity
    with pytest.raises(ArgumentError, match="corpora must have ids of the same tokenizer"):
        Corpus.concatenate([found, load(tmp_path / "store0")])
    whole = Corpus.concatenate([found, found])
    assert other is whole.tokenizer
    assert {id(other)} == {id(part.tokenizer) for part in whole.parts}
