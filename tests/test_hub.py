"""Corpora by name: the catalogue, the cache, and what the environment changes."""

import dataclasses
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import Answer, FileServer, refusing, serving
from tokenloom import ArgumentError, ChecksumError, CorpusError, DownloadError, hub
from tokenloom.hub import CATALOGUE, Entry, cache_folder, fetch, find, load, locate, read

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
        filename="book.txt",
        urls=(f"{server.url}/book.txt",),
        num_bytes=len(TEXT),
        digest=f"sha256:{hashlib.sha256(TEXT).hexdigest()}",
    )


@pytest.fixture
def catalogue(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the catalogue have that entry, and no other."""
    monkeypatch.setattr(hub, "CATALOGUE", {entry.name: entry})


def _place(cache: Path, content: bytes) -> Path:
    cache.mkdir()
    path = cache / "book.txt"
    path.write_bytes(content)
    return path


def test_catalogue_is_sorted() -> None:
    """Names are listed in their order."""
    assert sorted(CATALOGUE) == list(CATALOGUE)


@pytest.mark.parametrize("name", CATALOGUE)
def test_catalogue_entry_has_its_name(name: str) -> None:
    """An entry is found under its own name."""
    assert name == CATALOGUE[name].name


@pytest.mark.parametrize("name", CATALOGUE)
def test_catalogue_entry_is_read_or_downloaded(name: str) -> None:
    """An entry is either built in, or has all that a verified download needs."""
    entry = CATALOGUE[name]
    needs = (entry.filename, entry.urls, entry.num_bytes, entry.digest)

    assert (entry.read is None) == all(needs) == any(needs)


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
        fetch(dataclasses.replace(entry, urls=(server.url + page,)))

    expected: list[Path] = []
    assert expected == list(cache.iterdir())


def test_fetch_where_nobody_answers(cache: Path, entry: Entry) -> None:
    """Without a connection nothing is in the cache afterwards."""
    with refusing() as url, pytest.raises(DownloadError, match="no connection"):
        fetch(dataclasses.replace(entry, urls=(f"{url}/book.txt",)))

    expected: list[Path] = []
    assert expected == list(cache.iterdir())


def test_fetch_tries_every_address(server: FileServer, entry: Entry) -> None:
    """The addresses of an entry are asked in turn."""
    fetch(dataclasses.replace(entry, urls=(f"{server.url}/login", *entry.urls)))

    expected = ["/login", "/book.txt"]
    assert expected == server.asked


def test_fetch_into_a_folder_that_cannot_be_made(cache: Path, entry: Entry) -> None:
    """A cache that cannot be written to is named, with the cure."""
    cache.write_bytes(b"a file, no folder")

    with pytest.raises(DownloadError, match=r"cannot write '.*book\.txt': .* TOKENLOOM_CACHE$"):
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
        DownloadError, match=r"^'book' is not in .*: put the file at .*book\.txt, or"
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

    with pytest.raises(DownloadError, match="TOKENLOOM_OFFLINE is set"):
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
        fetch(dataclasses.replace(entry, filename="login"))


def test_empty_mirror_is_none(
    server: FileServer, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty TOKENLOOM_MIRROR leaves the entry's addresses."""
    monkeypatch.setenv("TOKENLOOM_MIRROR", "")
    fetch(entry)

    expected = ["/book.txt"]
    assert expected == server.asked


@pytest.mark.parametrize("mirror", ["mirror.example", "/srv/mirror", "ftp://mirror.example"])
def test_mirror_that_is_no_address(
    entry: Entry, monkeypatch: pytest.MonkeyPatch, mirror: str
) -> None:
    """A mirror must be a web address."""
    monkeypatch.setenv("TOKENLOOM_MIRROR", mirror)

    with pytest.raises(
        ArgumentError, match=f"^TOKENLOOM_MIRROR must be an http or https address, got '{mirror}'$"
    ):
        fetch(entry)


def test_locate_what_must_be_downloaded(entry: Entry) -> None:
    """A text that is not in the cache is to be downloaded."""
    expected = "to download"
    assert expected == locate(entry)


def test_locate_what_is_in_the_cache(cache: Path, entry: Entry) -> None:
    """A text in the cache is at hand; its content is not looked at."""
    _place(cache, b"anything")

    expected = "cached"
    assert expected == locate(entry)


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


def test_find_prefers_the_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that happens to have the name of an entry does not hide it."""
    monkeypatch.chdir(tmp_path)
    Path("time_machine").write_bytes(b"text")

    assert CATALOGUE["time_machine"] is find("time_machine")


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
        match=r"^a corpus must be one of python_docs, time_machine or the path of a text file, "
        r"got '.*war', which is neither$",
    ):
        find(str(tmp_path / "war"))


@pytest.mark.usefixtures("catalogue")
def test_load_a_name() -> None:
    """A named text is fetched and tokenised."""
    corpus = load("book", tokenizer="word")

    expected = "the time machine by h g wells"
    assert expected == corpus.decode(corpus.tokens)


@pytest.mark.usefixtures("catalogue")
def test_load_a_name_as_bytes() -> None:
    """Byte tokens are the bytes of the file."""
    assert list(TEXT) == load("book", tokenizer="byte").tokens.tolist()


@pytest.mark.usefixtures("catalogue")
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
    with pytest.raises(CorpusError, match=r"^cannot read "):
        load(tmp_path)


def test_cache_folder_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """TOKENLOOM_CACHE is the folder itself."""
    monkeypatch.setenv("TOKENLOOM_CACHE", str(tmp_path))

    assert tmp_path == cache_folder()


def test_cache_folder_of_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """TOKENLOOM_CACHE may begin with a tilde."""
    monkeypatch.setenv("TOKENLOOM_CACHE", "~/texts")

    assert Path("~/texts").expanduser() == cache_folder()


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
