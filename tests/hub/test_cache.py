"""Named texts on this machine: the cache, and what the environment changes."""

import contextlib
import dataclasses
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hub.conftest import REVIEWS, TEXT
from tests.support.hub.file_server import FileServer, refusing
from tokenloom import ChecksumError, DownloadError, TokenloomError
from tokenloom.errors import ArchiveError, ArgumentError
from tokenloom.hub import Archive, Entry, RemoteFile, download
from tokenloom.hub.cache import cache_folder, fetch, locate
from tokenloom.hub.catalogue import CATALOGUE


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


def test_locate_what_is_built_in() -> None:
    """A text that Python carries is always at hand."""
    expected = "built in"
    assert expected == locate(CATALOGUE["python_docs"])


def test_locate_asks_nobody(server: FileServer, entry: Entry) -> None:
    """Looking for a text uses no network."""
    locate(entry)

    expected: list[str] = []
    assert expected == server.asked


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
