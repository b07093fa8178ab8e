"""Downloads from a real server: verified before they take their name, or not at all."""

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.server import Answer, FileServer, refusing, serving
from tokenloom import ChecksumError, DownloadError, TokenloomError
from tokenloom.download import download

GOOD = b"The Time Traveller (for so it will be convenient to speak of him)\n" * 3000
SHA256 = hashlib.sha256(GOOD).hexdigest()
ERROR_PAGE = b"<html><body>Please log in</body></html>"
# Half of the bytes are other ones, so that size cannot tell.
WRONG = GOOD[: len(GOOD) // 2] + b"?" * (len(GOOD) - len(GOOD) // 2)

ANSWERS = {
    "/good": Answer(body=GOOD),
    "/wrong": Answer(body=WRONG),
    "/html": Answer(body=ERROR_PAGE, content_type="text/html"),
    "/short": Answer(body=GOOD[:-1]),
    "/empty": Answer(),
    "/long": Answer(body=GOOD + b"!"),
    "/endless": Answer(body=GOOD * 10),
    "/broken": Answer(body=GOOD[:100], promised_bytes=len(GOOD)),
    "/error": Answer(status=500, body=b"The server is not well"),
    # An error page of the right bytes is still an error.
    "/lost": Answer(status=404, body=GOOD),
}
BAD_BYTES = ["/wrong", "/html", "/short", "/empty", "/long", "/endless"]
BAD = [*BAD_BYTES, "/broken", "/error", "/lost"]


@pytest.fixture(scope="module")
def server() -> Iterator[FileServer]:
    """Run one server for all tests of this file."""
    with serving(ANSWERS) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the file shall go, in a folder that does not exist yet."""
    return tmp_path / "cache" / "text.txt"


def _download(path: Path, *urls: str, progress: bool | None = None) -> Path:
    return download(urls, path, num_bytes=len(GOOD), digest=f"sha256:{SHA256}", progress=progress)


def _try(path: Path, *urls: str) -> None:
    with pytest.raises(TokenloomError):
        _download(path, *urls)


def test_good_file_arrives(server: FileServer, path: Path) -> None:
    """A file with the right size and hash takes its name."""
    _download(path, f"{server.url}/good")

    assert path.read_bytes() == GOOD


def test_good_file_is_alone(server: FileServer, path: Path) -> None:
    """Nothing else is left in the folder."""
    _download(path, f"{server.url}/good")

    assert [path] == list(path.parent.iterdir())


def test_download_returns_the_path(server: FileServer, path: Path) -> None:
    """The caller gets the path of the file."""
    assert path == _download(path, f"{server.url}/good")


def test_download_replaces_an_old_file(server: FileServer, path: Path) -> None:
    """What had the name before is replaced."""
    path.parent.mkdir()
    path.write_bytes(b"old")
    _download(path, f"{server.url}/good")

    assert path.read_bytes() == GOOD


@pytest.mark.parametrize("page", BAD)
def test_bad_file_leaves_nothing(server: FileServer, path: Path, page: str) -> None:
    """No error page, half file or other edition is ever in the folder."""
    _try(path, f"{server.url}{page}")

    expected: list[Path] = []
    assert expected == list(path.parent.iterdir())


def test_no_connection_leaves_nothing(path: Path) -> None:
    """Where nobody answers the folder stays empty."""
    with refusing() as url:
        _try(path, f"{url}/good")

    expected: list[Path] = []
    assert expected == list(path.parent.iterdir())


@pytest.mark.parametrize("page", BAD)
def test_bad_file_keeps_the_old_one(server: FileServer, path: Path, page: str) -> None:
    """What had the name before is not lost to a bad download."""
    path.parent.mkdir()
    path.write_bytes(b"old")
    _try(path, f"{server.url}{page}")

    expected = b"old"
    assert expected == path.read_bytes()


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("/wrong", f"expected sha256:{SHA256}, got sha256:{hashlib.sha256(WRONG).hexdigest()}"),
        ("/html", f"expected {len(GOOD):,} bytes, got {len(ERROR_PAGE)}"),
        ("/short", f"expected {len(GOOD):,} bytes, got {len(GOOD) - 1:,}"),
        ("/empty", f"expected {len(GOOD):,} bytes, got 0"),
        ("/long", f"expected {len(GOOD):,} bytes, got more than {len(GOOD):,}"),
        ("/endless", f"expected {len(GOOD):,} bytes, got more than {len(GOOD):,}"),
    ],
)
def test_bad_bytes_are_named(server: FileServer, path: Path, page: str, message: str) -> None:
    """Other bytes than expected raise ChecksumError with both sides of the difference."""
    url = f"{server.url}{page}"

    with pytest.raises(ChecksumError, match=f"^cannot download 'text.txt': {url}: {message}. What"):
        _download(path, url)


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("/lost", "expected status 200, got 404 Not Found"),
        ("/error", "expected status 200, got 500 Internal Server Error"),
        ("/broken", ".*IncompleteRead.*"),
    ],
)
def test_failure_is_named(server: FileServer, path: Path, page: str, message: str) -> None:
    """A server that does not give the file raises DownloadError with what it said."""
    url = f"{server.url}{page}"

    with pytest.raises(DownloadError, match=f"^cannot download 'text.txt': {url}: {message}. What"):
        _download(path, url)


def test_no_connection_is_named(path: Path) -> None:
    """An address where nobody answers raises DownloadError."""
    with (
        refusing() as url,
        pytest.raises(DownloadError, match=f"^cannot download 'text.txt': {url}/good: no conn"),
    ):
        _download(path, f"{url}/good")


def test_no_answer_in_time_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that keeps silent raises DownloadError."""

    def time_out(*_: object, **__: object) -> None:
        raise requests.ReadTimeout

    monkeypatch.setattr(requests, "get", time_out)

    with pytest.raises(DownloadError, match=r"text: no answer within 30 seconds. What to do"):
        _download(path, "http://127.0.0.1/text")


@pytest.mark.parametrize("url", ["text", "gopher://127.0.0.1/text", "http://", "http://[::1"])
def test_address_that_is_none(path: Path, url: str) -> None:
    """An address that cannot be asked raises DownloadError, not an error of requests."""
    with pytest.raises(DownloadError, match=r"^cannot download 'text\.txt': "):
        _download(path, url)


def test_no_address(path: Path) -> None:
    """Without any address there is nothing to download from, and the message says so."""
    with pytest.raises(DownloadError, match=r"^cannot download 'text\.txt': "):
        _download(path)


@pytest.mark.parametrize("page", ["/wrong", "/lost"])
def test_message_has_the_cures(server: FileServer, path: Path, page: str) -> None:
    """A message ends with what to do: try again, place the file, or name a mirror."""
    with pytest.raises(
        TokenloomError,
        match=r"again, or put the file at '.*text\.txt' by hand, .* TOKENLOOM_MIRROR$",
    ):
        _download(path, f"{server.url}{page}")


@pytest.mark.parametrize("page", BAD)
def test_second_address_helps(server: FileServer, path: Path, page: str) -> None:
    """If the first address does not have the file the second one is asked."""
    _download(path, f"{server.url}{page}", f"{server.url}/good")

    assert path.read_bytes() == GOOD


def test_second_address_helps_where_nobody_answers(server: FileServer, path: Path) -> None:
    """An address without a server does not end the download."""
    with refusing() as url:
        _download(path, f"{url}/good", f"{server.url}/good")

    assert path.read_bytes() == GOOD


def test_first_good_address_is_the_last_one_asked(path: Path) -> None:
    """Once the file is there no other address is bothered."""
    with serving(ANSWERS) as server:
        _download(path, *(f"{server.url}{page}" for page in ("/lost", "/good", "/wrong")))

    expected = ["/lost", "/good"]
    assert expected == server.asked


def test_every_failure_is_named(server: FileServer, path: Path) -> None:
    """If no address has the file the message says what each of them did."""
    urls = [f"{server.url}{page}" for page in ("/lost", "/wrong")]

    with pytest.raises(ChecksumError, match=f"{urls[0]}: .* got 404 .*; {urls[1]}: .* sha256"):
        _download(path, *urls)


def test_folder_that_cannot_be_made(server: FileServer, tmp_path: Path) -> None:
    """A folder that cannot be written to raises DownloadError with another way."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(
        DownloadError,
        match=r"^cannot write '.*text\.txt': .*name another folder in TOKENLOOM_CACHE$",
    ):
        _download(tmp_path / "file" / "text.txt", f"{server.url}/good")


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0,
    reason="root, and anybody on Windows, may write to a read-only folder",
)
def test_read_only_folder(server: FileServer, tmp_path: Path) -> None:
    """A folder that is read-only raises DownloadError with the reason."""
    tmp_path.chmod(0o500)

    with pytest.raises(DownloadError, match=r"^cannot write .*: Permission denied: make room"):
        _download(tmp_path / "text.txt", f"{server.url}/good")


def test_endless_file_is_not_read_to_its_end(
    server: FileServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading stops soon after the expected size."""
    received = []
    iter_content = requests.Response.iter_content

    def count(reply: requests.Response, size: int) -> Iterator[Any]:
        for chunk in iter_content(reply, size):
            received.append(len(chunk))
            yield chunk

    monkeypatch.setattr(requests.Response, "iter_content", count)
    _try(path, f"{server.url}/endless")

    assert len(GOOD) < sum(received) < 2 * len(GOOD)


def test_progress_is_shown(
    server: FileServer, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bar on stderr has the name of the file and reaches its end."""
    _download(path, f"{server.url}/good", progress=True)

    assert "good: 100%" in capsys.readouterr().err


@pytest.mark.parametrize("progress", [False, None])
def test_progress_is_not_shown(
    server: FileServer, path: Path, capsys: pytest.CaptureFixture[str], *, progress: bool | None
) -> None:
    """Nothing is printed if nobody wants it, or where stderr is no terminal."""
    _download(path, f"{server.url}/good", progress=progress)

    expected = ("", "")
    assert expected == capsys.readouterr()


def test_progress_prints_nothing_to_stdout(
    server: FileServer, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a program prints as its result is not mixed with the bar."""
    _download(path, f"{server.url}/good", progress=True)

    expected = ""
    assert expected == capsys.readouterr().out
