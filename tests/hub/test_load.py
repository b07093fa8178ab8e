"""Corpora by name: the cache, documents, and what the environment changes."""

import contextlib
import dataclasses
import gzip
import hashlib
import io
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokenloom as tl
from tests.support.file_server import Answer, FileServer, refusing, serving
from tokenloom import ChecksumError, Corpus, Document, DownloadError, TokenloomError
from tokenloom.errors import ArchiveError, ArgumentError, CorpusError
from tokenloom.hub import Archive, BuiltIn, Entry, RemoteFile, catalogue, download, register
from tokenloom.hub.catalogue import CATALOGUE
from tokenloom.hub.imdb import REVIEW_FOLDERS, REVIEW_SPLITS, read_reviews
from tokenloom.hub.load import cache_folder, fetch, find, load, locate, read, read_documents

TEXT = b"The Time Machine\nby H. G. Wells\n"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Return the cache folder, which does not exist yet."""
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def _environment(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing outside the test decide."""
    monkeypatch.setenv("TOKENLOOM_CACHE", str(cache))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("TOKENLOOM_MIRROR", raising=False)
    monkeypatch.delenv("TOKENLOOM_OFFLINE", raising=False)


@pytest.fixture
def server() -> Iterator[FileServer]:
    """Run a server that has the text, and a page that is not it."""
    answers = {
        "/book.txt": Answer(body=TEXT),
        "/mirror/book.txt": Answer(body=TEXT),
        "/login": Answer(body=b"<html>Please log in</html>", content_type="text/html"),
    }
    with serving(answers) as running:
        yield running


@pytest.fixture
def entry(server: FileServer) -> Entry:
    """Return an entry that the server has."""
    return Entry(
        name="book",
        description="a beginning",
        licence="public domain",
        prompt="time",
        source=RemoteFile(
            filename="book.txt",
            urls=(f"{server.url}/book.txt",),
            num_bytes=len(TEXT),
            digest=f"sha256:{hashlib.sha256(TEXT).hexdigest()}",
        ),
    )


@pytest.fixture
def registered(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the catalogue have that entry too."""
    monkeypatch.setattr(catalogue, "_registered", {})
    register(entry)


def _changed(entry: Entry, **changes: object) -> Entry:
    """Return an entry whose file differs."""
    assert isinstance(entry.source, RemoteFile)
    changed: RemoteFile = dataclasses.replace(entry.source, **changes)  # type: ignore[arg-type]  # names of fields
    return dataclasses.replace(entry, source=changed)


def _place(cache: Path, content: bytes) -> Path:
    cache.mkdir()
    path = cache / "book.txt"
    path.write_bytes(content)
    return path


def test_fetch_downloads_into_the_cache(cache: Path, entry: Entry) -> None:
    """A text that is not there is downloaded to its name in the cache."""
    assert cache / "book.txt" == fetch(entry)


def test_fetch_brings_the_text(entry: Entry) -> None:
    """What is downloaded is what the server has."""
    assert fetch(entry).read_bytes() == TEXT


def test_fetch_leaves_only_the_text(cache: Path, entry: Entry) -> None:
    """Nothing but the text is in the cache."""
    fetch(entry)

    expected = ["book.txt"]
    assert expected == [path.name for path in cache.iterdir()]


def test_fetch_asks_once(server: FileServer, entry: Entry) -> None:
    """A text that was downloaded is not downloaded again."""
    fetch(entry)
    fetch(entry)

    expected = ["/book.txt"]
    assert expected == server.asked


def test_fetch_uses_a_file_placed_by_hand(server: FileServer, cache: Path, entry: Entry) -> None:
    """A good file that is in the cache already needs no network."""
    _place(cache, TEXT)
    fetch(entry)

    expected: list[str] = []
    assert expected == server.asked


@pytest.mark.parametrize("content", [b"", TEXT[:-1], TEXT.upper()])
def test_fetch_replaces_a_bad_file(cache: Path, entry: Entry, content: bytes) -> None:
    """A file in the cache whose hash is wrong is downloaded again."""
    path = _place(cache, content)
    fetch(entry)

    assert path.read_bytes() == TEXT


@pytest.mark.parametrize("page", ["/login", "/nowhere"])
def test_fetch_caches_no_error_page(
    server: FileServer, cache: Path, entry: Entry, page: str
) -> None:
    """An error page, with status 404 or 200, is not in the cache afterwards."""
    with pytest.raises((ChecksumError, DownloadError)):
        fetch(_changed(entry, urls=(server.url + page,)))

    expected: list[Path] = []
    assert expected == list(cache.iterdir())


def test_fetch_where_nobody_answers(cache: Path, entry: Entry) -> None:
    """Without a connection nothing is in the cache afterwards."""
    with refusing() as url, pytest.raises(DownloadError, match="no connection"):
        fetch(_changed(entry, urls=(f"{url}/book.txt",)))

    expected: list[Path] = []
    assert expected == list(cache.iterdir())


def test_fetch_tries_every_address(server: FileServer, entry: Entry) -> None:
    """The addresses of an entry are asked in turn."""
    fetch(_changed(entry, urls=(f"{server.url}/login", f"{server.url}/book.txt")))

    expected = ["/login", "/book.txt"]
    assert expected == server.asked


def test_fetch_into_a_folder_that_cannot_be_made(cache: Path, entry: Entry) -> None:
    """A cache that cannot be written to is named, with the cure."""
    cache.write_bytes(b"a file, no folder")

    with pytest.raises(DownloadError, match=r"cannot write '.*book\.txt': .* TOKENLOOM_CACHE$"):
        fetch(entry)


def test_fetch_of_a_file_that_cannot_be_read(
    cache: Path, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the cache that belongs to somebody else is named, and not replaced."""
    _place(cache, TEXT)

    def refuse(*_: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(download, "hash_file", refuse)
    with pytest.raises(
        DownloadError, match=r"cannot read '.*book\.txt': Permission denied: let it"
    ):
        fetch(entry)


def test_fetch_shows_progress(entry: Entry, capsys: pytest.CaptureFixture[str]) -> None:
    """The bar is there if it is wanted."""
    fetch(entry, progress=True)

    assert "book.txt: 100%" in capsys.readouterr().err


def test_fetch_of_a_built_in_text() -> None:
    """A text that Python carries has no file, and the message says so."""
    with pytest.raises((ArgumentError, DownloadError), match="python_docs"):
        fetch(CATALOGUE["python_docs"])


@pytest.mark.parametrize("value", ["1", "true", "yes"])
def test_offline_downloads_nothing(
    server: FileServer, entry: Entry, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """With TOKENLOOM_OFFLINE set the server is not asked."""
    monkeypatch.setenv("TOKENLOOM_OFFLINE", value)
    with pytest.raises(DownloadError):
        fetch(entry)

    expected: list[str] = []
    assert expected == server.asked


def test_offline_says_what_to_do(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the place where the file would be found."""
    monkeypatch.setenv("TOKENLOOM_OFFLINE", "1")

    with pytest.raises(
        DownloadError, match=r"^'book\.txt' is not in .*: put the file at .*book\.txt, or"
    ):
        fetch(entry)


def test_offline_uses_the_cache(cache: Path, entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    """With TOKENLOOM_OFFLINE set a good file in the cache is used."""
    monkeypatch.setenv("TOKENLOOM_OFFLINE", "1")
    path = _place(cache, TEXT)

    assert path == fetch(entry)


def test_offline_refuses_a_bad_file(
    cache: Path, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With TOKENLOOM_OFFLINE set a file whose hash is wrong is not used."""
    monkeypatch.setenv("TOKENLOOM_OFFLINE", "1")
    _place(cache, TEXT.upper())

    with pytest.raises(DownloadError, match="forbidden by TOKENLOOM_OFFLINE"):
        fetch(entry)


@pytest.mark.parametrize("value", ["", "0"])
def test_not_offline(entry: Entry, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """An empty TOKENLOOM_OFFLINE, or 0, allows downloads."""
    monkeypatch.setenv("TOKENLOOM_OFFLINE", value)

    assert fetch(entry).read_bytes() == TEXT


@pytest.mark.parametrize("slash", ["", "/"])
def test_mirror_is_asked_for_the_filename(
    server: FileServer, entry: Entry, monkeypatch: pytest.MonkeyPatch, slash: str
) -> None:
    """With TOKENLOOM_MIRROR set the file is asked from there."""
    monkeypatch.setenv("TOKENLOOM_MIRROR", f"{server.url}/mirror{slash}")
    fetch(entry)

    expected = ["/mirror/book.txt"]
    assert expected == server.asked


def test_nobody_but_the_mirror_is_asked(
    server: FileServer, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With TOKENLOOM_MIRROR set the entry's own addresses are not used, come what may."""
    monkeypatch.setenv("TOKENLOOM_MIRROR", f"{server.url}/empty")
    with pytest.raises(DownloadError):
        fetch(entry)

    expected = ["/empty/book.txt"]
    assert expected == server.asked


def test_mirror_is_verified(
    server: FileServer, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a mirror gives must have the right hash too."""
    monkeypatch.setenv("TOKENLOOM_MIRROR", server.url)

    with pytest.raises(ChecksumError, match=f"{server.url}/login: expected "):
        fetch(_changed(entry, filename="login"))


def test_empty_mirror_is_none(
    server: FileServer, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty TOKENLOOM_MIRROR leaves the entry's addresses."""
    monkeypatch.setenv("TOKENLOOM_MIRROR", "")
    fetch(entry)

    expected = ["/book.txt"]
    assert expected == server.asked


@pytest.mark.parametrize(
    "mirror",
    [
        "mirror.example",
        "/srv/mirror",
        "ftp://mirror.example",
        "http://",
        "https:///texts",
        "http://mirror.example/?file=",
        "http://mirror.example/#",
        "http://mirror.example:port",
    ],
)
def test_mirror_that_is_no_address(
    entry: Entry, monkeypatch: pytest.MonkeyPatch, mirror: str
) -> None:
    """A mirror must be a web address."""
    monkeypatch.setenv("TOKENLOOM_MIRROR", mirror)

    message = (
        f"^TOKENLOOM_MIRROR must be an http or https address .*, got {re.escape(repr(mirror))}$"
    )
    with pytest.raises(ArgumentError, match=message):
        fetch(entry)


@pytest.mark.parametrize("end", ["", "?"])
def test_password_of_a_mirror_is_not_shown(
    entry: Entry,
    monkeypatch: pytest.MonkeyPatch,
    server: FileServer,
    caplog: pytest.LogCaptureFixture,
    end: str,
) -> None:
    """It is used, and neither told in an error nor logged."""
    host = server.url.removeprefix("http://")
    monkeypatch.setenv("TOKENLOOM_MIRROR", f"http://me:secret@{host}/nowhere{end}")
    with caplog.at_level("INFO"), pytest.raises(TokenloomError, match=f"http://{host}") as caught:
        fetch(entry)

    assert "secret" not in str(caught.value) + caplog.text


def test_locate_what_must_be_downloaded(entry: Entry) -> None:
    """A text that is not in the cache is to be downloaded."""
    expected = "to download"
    assert expected == locate(entry)


def test_locate_what_is_in_the_cache(cache: Path, entry: Entry) -> None:
    """A text in the cache is at hand; its content is not looked at."""
    _place(cache, TEXT.upper())

    expected = "cached"
    assert expected == locate(entry)


def test_locate_a_part(cache: Path, entry: Entry) -> None:
    """A file of another size is not the text."""
    _place(cache, TEXT[:2])

    expected = "to download"
    assert expected == locate(entry)


def test_locate_a_file_of_unknown_size(cache: Path, entry: Entry) -> None:
    """Where the size is not known any will do."""
    _place(cache, b"anything")

    expected = "cached"
    assert expected == locate(_changed(entry, num_bytes=None))


def test_cache_whose_name_is_too_long(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file can be there, and none can be written."""
    monkeypatch.setenv("TOKENLOOM_CACHE", "/" + "x" * 300)

    assert "to download" == locate(entry)
    with pytest.raises(DownloadError, match=r"cannot write .*: File name too long: make room"):
        fetch(entry)


@pytest.mark.parametrize("what", [locate, fetch])
def test_archive_in_a_cache_whose_name_is_too_long(
    reviews: Entry, monkeypatch: pytest.MonkeyPatch, what: Callable[[Entry], object]
) -> None:
    """An archive's folder cannot be there either."""
    monkeypatch.setenv("TOKENLOOM_CACHE", "/" + "x" * 300)

    with contextlib.suppress(DownloadError):
        assert "to download" == what(reviews)


@pytest.mark.parametrize("content", ["text", None])
def test_built_in_text_that_is_no_bytes(content: object) -> None:
    """An entry whose function returns something else is named."""
    source = BuiltIn(read=lambda: content)  # type: ignore[arg-type, return-value]  # what a user may write
    entry = Entry(name="mine", description="a text", licence="ours", source=source)
    with pytest.raises(CorpusError, match=r"^read of 'mine' must return bytes, got (str|NoneType)"):
        read(entry)


def test_locate_what_is_built_in() -> None:
    """A text that Python carries is always at hand."""
    expected = "built in"
    assert expected == locate(CATALOGUE["python_docs"])


def test_locate_asks_nobody(server: FileServer, entry: Entry) -> None:
    """Looking for a text uses no network."""
    locate(entry)

    expected: list[str] = []
    assert expected == server.asked


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
    """A folder is no text."""
    with pytest.raises(
        ArgumentError, match=r"which is neither: it is a folder, of which .*prepare"
    ):
        load(tmp_path)


@pytest.mark.parametrize("name", ["", ".", os.devnull, Path()])
def test_names_that_are_no_files(name: str | Path) -> None:
    """Neither nothing nor a folder nor a device is a text file."""
    with pytest.raises(ArgumentError, match=f"got {os.fspath(name)!r}, which is neither: "):
        find(name)


REVIEWS = {
    "aclImdb/README": b"Large Movie Review Dataset",
    "aclImdb/train/neg/0_3.txt": b"Story of a man<br />who sleeps",
    "aclImdb/train/neg/10_1.txt": b"Dull",
    "aclImdb/train/neg/2_4.txt": b"Too long",
    "aclImdb/train/pos/0_9.txt": "Tr\u00e8s bien".encode(),
    "aclImdb/train/unsup/0_0.txt": b"Who knows",
    "aclImdb/test/neg/0_2.txt": b"Bad",
    "aclImdb/test/pos/0_10.txt": b"Great film",
}


def _tar(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
    return content.getvalue()


@pytest.fixture
def reviews(monkeypatch: pytest.MonkeyPatch) -> Iterator[Entry]:
    """Serve a small archive that is laid out like the real one, and register it."""
    content = _tar(REVIEWS)
    with serving({"/small.tar.gz": Answer(body=content)}) as server:
        file = RemoteFile(
            filename="small.tar.gz",
            urls=(f"{server.url}/small.tar.gz",),
            num_bytes=len(content),
            digest=f"md5:{hashlib.md5(content).hexdigest()}",  # noqa: S324  as the real one
        )
        source = Archive(
            file=file, read=read_reviews, splits=REVIEW_SPLITS, required=REVIEW_FOLDERS
        )
        entry = Entry(name="small", description="reviews", licence="ours", source=source)
        monkeypatch.setattr(catalogue, "_registered", {})
        register(entry)
        yield entry


def test_fetch_unpacks_an_archive(reviews: Entry, cache: Path) -> None:
    """The folder beside the archive has its hash in its name, and all members."""
    folder = fetch(reviews)
    assert reviews.file
    name = f"small-{reviews.file.digest[4:20]}"

    assert cache / name == folder
    assert sorted([name, "small.tar.gz"]) == sorted(path.name for path in cache.iterdir())
    assert REVIEWS == {name: (folder / name).read_bytes() for name in REVIEWS}


def test_fetch_unpacks_once(reviews: Entry, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is unpacked neither the network nor the archive is needed."""
    folder = fetch(reviews)
    (cache / "small.tar.gz").unlink()
    monkeypatch.setenv("TOKENLOOM_OFFLINE", "1")

    assert folder == fetch(reviews)


def test_fetch_unpacks_an_archive_placed_by_hand(
    reviews: Entry, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive that lies in the cache is verified and unpacked without a network."""
    folder = fetch(reviews)
    shutil.rmtree(folder)
    monkeypatch.setenv("TOKENLOOM_OFFLINE", "1")
    assert REVIEWS.keys() == {name for name in REVIEWS if (fetch(reviews) / name).is_file()}

    shutil.rmtree(folder)
    archive = cache / "small.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-1])
    with pytest.raises(DownloadError, match="not whole"):
        fetch(reviews)


def test_fetch_of_an_archive_that_lacks_a_folder(cache: Path, reviews: Entry) -> None:
    """An archive with the right hash and other members is refused, and nothing is unpacked."""
    assert isinstance(reviews.source, Archive)
    source = dataclasses.replace(reviews.source, required=("aclImdb/valid",))
    with pytest.raises(ArchiveError, match=r"'small.tar.gz': expected a member 'aclImdb/valid'"):
        fetch(dataclasses.replace(reviews, source=source))

    expected = ["small.tar.gz"]
    assert expected == [path.name for path in cache.iterdir()]


@pytest.mark.parametrize("what", ["the folder", "the archive", "both"])
def test_locate_an_archive(reviews: Entry, cache: Path, what: str) -> None:
    """The archive, or what was unpacked, is at hand."""
    folder = fetch(reviews)
    if what == "the archive":
        folder.rename(cache / "elsewhere")
    if what == "the folder":
        (cache / "small.tar.gz").unlink()

    expected = "cached"
    assert expected == locate(reviews)


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
@pytest.mark.parametrize("tokenizer", ["char", "word", "byte"])
@pytest.mark.parametrize("normalize", [True, False])
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


def test_cache_folder_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """TOKENLOOM_CACHE is the folder itself."""
    monkeypatch.setenv("TOKENLOOM_CACHE", str(tmp_path))

    assert tmp_path == cache_folder()


def test_cache_folder_of_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """TOKENLOOM_CACHE may begin with a tilde."""
    monkeypatch.setenv("TOKENLOOM_CACHE", "~/texts")

    assert Path("~/texts").expanduser() == cache_folder()


def test_cache_folder_of_nobodys_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that nobody has is refused, and no folder of that name is made."""
    monkeypatch.setenv("TOKENLOOM_CACHE", "~nobody-has-this-name/texts")

    with pytest.raises(ArgumentError, match=r"^TOKENLOOM_CACHE must be a folder, .*got '~nobody-"):
        cache_folder()


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "home/.cache/tokenloom"),
        ("linux", {"XDG_CACHE_HOME": ""}, "home/.cache/tokenloom"),
        ("linux", {"XDG_CACHE_HOME": "xdg"}, "xdg/tokenloom"),
        ("linux", {"LOCALAPPDATA": "local"}, "home/.cache/tokenloom"),
        ("freebsd14", {"XDG_CACHE_HOME": "xdg"}, "xdg/tokenloom"),
        ("darwin", {}, "home/Library/Caches/tokenloom"),
        ("darwin", {"XDG_CACHE_HOME": "xdg"}, "home/Library/Caches/tokenloom"),
        ("win32", {}, "home/AppData/Local/tokenloom"),
        ("win32", {"LOCALAPPDATA": ""}, "home/AppData/Local/tokenloom"),
        ("win32", {"LOCALAPPDATA": "local"}, "local/tokenloom"),
    ],
)
@pytest.mark.parametrize("chosen", [None, ""])
def test_cache_folder_of_the_platform(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    platform: str,
    variables: dict[str, str],
    expected: str,
    chosen: str | None,
) -> None:
    """Without TOKENLOOM_CACHE texts are where the platform keeps such files."""
    for name in ("TOKENLOOM_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    if chosen is not None:
        monkeypatch.setenv("TOKENLOOM_CACHE", chosen)
    for name, folder in variables.items():
        monkeypatch.setenv(name, str(tmp_path / folder) if folder else "")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setattr(sys, "platform", platform)

    assert tmp_path / expected == cache_folder()


def test_cache_folder_is_not_made(cache: Path) -> None:
    """Asking where the folder is does not make it."""
    cache_folder()

    assert not cache.exists()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Work beside a store with two splits."""
    monkeypatch.chdir(tmp_path)
    corpus = Corpus.from_text("the time machine", tokenizer="word")
    corpus.save("store", splits={"train": (0, 2), "valid": (2, 3)})
    return "store"


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
        ("a.jsonl", b'{"text": "a"}\n', "JSON Lines: 'tokenloom prepare' makes a store of it"),
        (
            "a.json.gz",
            gzip.compress(b'{"text": "a"}\n{"text": "b"}\n', mtime=0),
            "JSON Lines: 'tokenloom pr",
        ),
        ("a", b'{"text": "a"}\n{"text": "b"}\n', "JSON Lines: 'tokenloom prepare --documents jso"),
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
    """What was expected is said, and what came."""
    with pytest.raises(ArgumentError, match="a corpus must be named by a str or a path, got "):
        load(name)
