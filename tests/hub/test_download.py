"""Downloads from a real server: verified before they take their name, or not at all."""

import contextlib
import gc
import hashlib
import itertools
import os
import re
import select
import shutil
import socket
import socketserver
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.hub import harmed, misbehaving
from tests.support.hub.file_server import Answer, FileServer, refusing, serving
from tests.support.hub.misbehaving import CONTENT, ROWS, TESTED_ROWS, Row
from tests.support.hub.misbehaving import GOOD as GOOD_FILE
from tokenloom import ChecksumError, DownloadError, TokenloomError
from tokenloom.errors import ArgumentError
from tokenloom.hub import transfer
from tokenloom.hub.addresses import Patience, hide_password, is_address
from tokenloom.hub.download import download

GOOD = b"The Time Traveller (for so it will be convenient to speak of him)\n" * 3000
SHA256 = hashlib.sha256(GOOD).hexdigest()
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
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
        ("/html", f"expected {len(GOOD):,} bytes, got {len(ERROR_PAGE)} bytes"),
        ("/short", f"expected {len(GOOD):,} bytes, got {len(GOOD) - 1:,} bytes"),
        ("/empty", f"expected {len(GOOD):,} bytes, got 0 bytes"),
        ("/long", f"expected {len(GOOD):,} bytes, got {len(GOOD) + 1:,} bytes"),
        ("/endless", f"expected {len(GOOD):,} bytes, got {len(GOOD) * 10:,} bytes"),
    ],
)
def test_bad_bytes_are_named(server: FileServer, path: Path, page: str, message: str) -> None:
    """Other bytes than expected raise ChecksumError with both sides of the difference."""
    url = f"{server.url}{page}"

    with pytest.raises(ChecksumError, match=f"^cannot download 'text.txt': {url}: {message} .text"):
        _download(path, url)


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("/lost", "expected status 200, got 404 Not Found"),
        ("/error", "expected status 200, got 500 Internal Server Error"),
        ("/broken", r"the connection .*"),
    ],
)
def test_failure_is_named(server: FileServer, path: Path, page: str, message: str) -> None:
    """A server that does not give the file raises DownloadError with what it said."""
    url = f"{server.url}{page}"

    with pytest.raises(DownloadError, match=f"^cannot download 'text.txt': {url}: {message}. What"):
        _download(path, url)


def test_refused_connection(path: Path) -> None:
    """An address where nobody answers raises DownloadError."""
    with (
        refusing() as url,
        pytest.raises(DownloadError, match=f"^cannot download 'text.txt': {url}/good: no conn"),
    ):
        _download(path, f"{url}/good")


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


def test_progress_is_shown(
    server: FileServer, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bar on stderr has the name of the file and reaches its end."""
    _download(path, f"{server.url}/good", progress=True)

    assert "text.txt: 100%" in capsys.readouterr().err


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


def _outcome(row: Row, path: Path, urls: list[str], patience: Patience) -> tuple[str, str]:
    """Return how a download ends, and what its error says."""
    try:
        download(urls, path, num_bytes=row.num_bytes, digest=DIGEST, patience=patience)
    except TokenloomError as error:
        return f"`{type(error).__name__}`", str(error)
    return GOOD_FILE, ""


# One row makes urllib3 lose a connection that it refused.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize(
    "row",
    # Every third one without `slow`: each group of rows has some of these.
    [pytest.param(row, marks=[pytest.mark.slow] * bool(n % 3)) for n, row in enumerate(ROWS)],
    ids=lambda row: row.happened,
)
def test_row(row: Row, path: Path) -> None:
    """Whatever happens, it ends with the good file or a typed error, as the page says."""
    paused: list[float] = []
    patience = replace(row.patience, sleep=paused.append)
    path.parent.mkdir()
    with misbehaving.misbehaving({"": row.answers, "/second": row.second}) as server:
        urls = [f"{server.url}/file", *[f"{server.url}/second"] * bool(row.second)]
        ends, message = _outcome(row, path, urls, patience)
    gc.collect()
    left = {other.name: other.read_bytes() for other in path.parent.iterdir()}

    requests = ", ".join("part" if asked else "whole" for asked in server.asked)

    assert (row.ends, row.requests) == (ends, requests or "none"), message
    assert re.search(row.message, message)
    assert row.pause <= max(paused, default=0.0) <= row.patience.max_pause_seconds
    if ends == GOOD_FILE:
        assert {path.name: CONTENT} == left
    else:
        assert {} == left
        assert "What to do: " in message


def test_rows_are_many_and_different() -> None:
    """At least forty ways to misbehave are tried, each once."""
    happened = [*(row.happened for row in ROWS), *(row.happened for row in TESTED_ROWS)]

    assert len(happened) == len(set(happened)) >= 40


@pytest.mark.parametrize("row", TESTED_ROWS, ids=lambda row: row.happened)
def test_rows_are_tested(row: misbehaving.TestedRow) -> None:
    """What needs more than a server has a test here."""
    assert callable(globals()[row.test])


@pytest.mark.parametrize("stop", [*range(0, 200_000, 13_337), 65_536, 199_999])
def test_reset_anywhere(path: Path, stop: int) -> None:
    """A connection that breaks after any number of bytes costs few of them, and is made up for."""
    answers = (partial(misbehaving.cut, stop=stop, reset=False), misbehaving.part)
    with misbehaving.misbehaving({"": answers}) as server:
        download([server.url], path, num_bytes=len(CONTENT), digest=DIGEST)

    first = int(re.findall(r"\d+", server.asked[1] + "0")[0])
    assert path.read_bytes() == CONTENT
    assert stop - 8192 < first <= stop


def test_endless_file_of_unknown_size(path: Path) -> None:
    """Where only the hash is known, a file without an end is not read for ever."""
    patience = Patience(max_bytes=100_000)
    with (
        misbehaving.misbehaving({"": (misbehaving.endless,)}) as server,
        pytest.raises(ChecksumError, match="expected at most 100,000 bytes, got more than"),
    ):
        download([server.url], path, num_bytes=None, digest=DIGEST, patience=patience)

    expected: list[Path] = []
    assert expected == list(path.parent.iterdir())


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256"])
@pytest.mark.parametrize("num_bytes", [None, len(CONTENT)])
def test_every_kind_of_hash(path: Path, algorithm: str, num_bytes: int | None) -> None:
    """A file is verified by whatever hash is known, with its size or without."""
    digest = f"{algorithm}:{hashlib.new(algorithm, CONTENT).hexdigest().upper()}"
    with misbehaving.misbehaving({"": (misbehaving.part,)}) as server:
        download([server.url], path, num_bytes=num_bytes, digest=digest)

    assert path.read_bytes() == CONTENT


def test_digest_that_is_none(path: Path) -> None:
    """A hash without its algorithm is refused before any server is asked."""
    with pytest.raises(ArgumentError, match=f"^a digest must be .* got '{SHA256}'"):
        download(["http://127.0.0.1:9/"], path, num_bytes=None, digest=SHA256)


@pytest.mark.parametrize("attempts", [1, 2, 4])
def test_attempts_are_counted(path: Path, attempts: int) -> None:
    """An address is asked as often as patience says, and not once more."""
    patience = Patience(num_attempts=attempts, pause_seconds=0.001)
    answers = {"": (partial(misbehaving.status, line="500 Internal Server Error"),)}
    with misbehaving.misbehaving(answers) as server, pytest.raises(DownloadError, match="got 500"):
        download([server.url], path, num_bytes=None, digest=DIGEST, patience=patience)

    assert attempts == len(server.asked)


def test_failures_are_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who wonders why it takes so long can have every failure told, also where it ends well."""
    answers = (partial(misbehaving.status, line="500 Internal Server Error"), misbehaving.part)
    with caplog.at_level("INFO"), misbehaving.misbehaving({"": answers}) as server:
        download([server.url], path, num_bytes=None, digest=DIGEST)

    (told,) = [record for record in caplog.records if record.name == "tokenloom.download"]
    expected = f"{server.url}: expected status 200, got 500 Internal Server Error"
    assert expected == told.getMessage()


def test_pauses_grow_and_differ() -> None:
    """Each pause is drawn from the upper half of twice the one before, up to the longest."""
    patience = Patience(num_attempts=8, pause_seconds=1.0, max_pause_seconds=10.0)
    draws = [list(transfer.pauses(patience)) for _ in range(50)]
    longest = [0.0, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]

    assert all(
        most / 2 <= pause <= most
        for draw in draws
        for pause, most in zip(draw, longest, strict=True)
    )
    assert len({draw[1] for draw in draws}) > 40


def _unreliable(talk: misbehaving.Talk) -> None:
    """Break the first connection of each process, and serve the second."""
    if talk.start:
        misbehaving.part(talk)
    else:
        misbehaving.cut(talk, stop=100_000, reset=False)


posix = pytest.mark.skipif(sys.platform == "win32", reason="processes are harmed by POSIX signals")


@posix
@pytest.mark.slow
def test_killed_at_any_moment(tmp_path: Path) -> None:
    """Before whatever line it is killed, no bad file has the name, and the next one mends."""
    with misbehaving.misbehaving({"": (_unreliable,)}) as server:
        _, result = harmed.run(harmed.kill_downloads, server.url, tmp_path)

    assert {"moments": True, "bad": [], "unrecovered": []} == result


@posix
def test_processes_that_race(tmp_path: Path) -> None:
    """Eight processes at once end with one good file, and nothing else."""
    with misbehaving.misbehaving({"": (_unreliable,)}) as server:
        _, result = harmed.run(harmed.race, server.url, tmp_path)

    assert [[0] * 8, ["text.txt"], True] == result


@posix
def test_processes_that_race_and_die(tmp_path: Path) -> None:
    """Where half of them are killed the others are not disturbed, and nothing is left."""
    with misbehaving.misbehaving({"": (_unreliable,)}) as server:
        _, result = harmed.run(harmed.race_and_die, server.url, tmp_path)

    survivors, *rest = result
    assert [0] * len(survivors) == survivors
    assert len(survivors) >= 4
    assert [True, 0, ["text.txt"]] == rest


@posix
def test_suspended_process(tmp_path: Path) -> None:
    """A process that sleeps on its partial file is neither robbed nor harmed."""
    with misbehaving.misbehaving({"": (misbehaving.part,)}) as server:
        _, result = harmed.run(harmed.suspend, server.url, tmp_path)

    assert [[0, 0, True], 2, ["text.txt"]] == result


@posix
def test_interrupted_download(tmp_path: Path) -> None:
    """Ctrl-C leaves nothing."""
    with misbehaving.misbehaving({"": (_unreliable,)}) as server:
        _, result = harmed.run(harmed.interrupt, server.url, tmp_path)

    assert [0, False, 0] == result


@posix
def test_full_disk(tmp_path: Path) -> None:
    """A disk that is full raises DownloadError with what to do, and is not kept full."""
    with misbehaving.misbehaving({"": (misbehaving.part,)}) as server:
        said, result = harmed.run(harmed.fill_the_disk, server.url, tmp_path)

    assert re.match(r"DownloadError: cannot write .*text\.txt': File too large: make room", said)
    assert [1, []] == result


@posix
def test_read_only_folder() -> None:
    """A folder that is read-only raises DownloadError with the reason."""
    # Not tmp_path: others than its owner may not enter that.
    with (
        tempfile.TemporaryDirectory(prefix="tokenloom-") as folder,
        misbehaving.misbehaving({"": (misbehaving.part,)}) as server,
    ):
        said, result = harmed.run(harmed.forbid_to_write, server.url, Path(folder))

    assert re.match(r"DownloadError: cannot write .*: Permission denied: make room there, or", said)
    assert [1, []] == result


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a key, and a certificate of this machine that nobody else signed."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("there is no openssl to make a certificate with")
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    options = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1"
    alternative = ["-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(path), "-out", str(path.with_suffix(".crt"))]
    subprocess.run(
        [program, *options.split(), *alternative, *files], check=True, capture_output=True
    )
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


def _secure(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_unknown_certificate(path: Path, certificate: Path) -> None:
    """A server that cannot prove who it is gets no second chance, and its bytes are not taken."""
    answers = {"": (misbehaving.part,)}
    with misbehaving.misbehaving(answers, secure=_secure(certificate)) as server:
        assert server.url.startswith("https:")
        with pytest.raises(DownloadError, match=r"SSLError: .*certificate verify failed"):
            download([server.url], path, num_bytes=None, digest=DIGEST)

    expected: list[str] = []
    assert expected == server.asked


@contextlib.contextmanager
def _damaging(url: str, *, place: int) -> Iterator[str]:
    """Pass connections on to a server, and change a byte that comes back on the first one."""
    host, _, port = url.rpartition("/")[2].partition(":")
    numbers = itertools.count()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            left = place if next(numbers) == 0 else sys.maxsize
            with socket.create_connection((host, int(port))) as server:
                sides = {self.request: server, server: self.request}
                while True:
                    for side in select.select(list(sides), [], [], 60)[0]:
                        content = bytearray(side.recv(1 << 14))
                        if not content:
                            return
                        if side is server:
                            if 0 <= left < len(content):
                                content[left] ^= 1
                            left -= len(content)
                        with contextlib.suppress(OSError):
                            sides[side].sendall(content)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"https://127.0.0.1:{running.server_address[1]}"
        finally:
            running.shutdown()
            thread.join()


def test_damaged_secure_connection(
    path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What TLS finds damaged is asked for again; it says nothing of who the server is."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.with_suffix(".crt")))
    answers = {"": (misbehaving.part,)}
    with (
        misbehaving.misbehaving(answers, secure=_secure(certificate)) as server,
        _damaging(server.url, place=150_000) as url,
    ):
        download([url], path, num_bytes=len(CONTENT), digest=DIGEST)

    assert path.read_bytes() == CONTENT
    assert ["whole", "part"] == ["part" if asked else "whole" for asked in server.asked]


def test_known_certificate(path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose certificate is trusted is asked over TLS, with ranges as ever."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.with_suffix(".crt")))
    with misbehaving.misbehaving({"": (_unreliable,)}, secure=_secure(certificate)) as server:
        download([server.url], path, num_bytes=len(CONTENT), digest=DIGEST)

    assert path.read_bytes() == CONTENT


def test_redirect_to_a_connection_that_is_not_secure(
    path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From https nobody is led to http, not even to the right bytes."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.with_suffix(".crt")))
    with misbehaving.misbehaving({"": (misbehaving.part,)}) as plain:
        answers = {"": (partial(misbehaving.redirect, to=plain.url),)}
        with (
            misbehaving.misbehaving(answers, secure=_secure(certificate)) as server,
            pytest.raises(
                DownloadError, match="redirect to another https address, got one to 'http:"
            ),
        ):
            download([server.url], path, num_bytes=None, digest=DIGEST)

    expected: list[str] = []
    assert expected == plain.asked


def _plant_link(path: Path) -> None:
    (path.parent / "precious").write_bytes(b"mine")
    path.symlink_to("precious")


def _plant_pipe(path: Path) -> None:
    os.mkfifo(path)


@posix
@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (_plant_link, "must be no link"),
        (_plant_pipe, "it exists, and is not a file"),
        (Path.mkdir, "it exists, and is not a file"),
    ],
)
def test_what_is_in_the_way_is_left_alone(
    server: FileServer, path: Path, plant: Callable[[Path], None], message: str
) -> None:
    """A link, a pipe or a folder under the name is neither waited for nor replaced."""
    path.parent.mkdir()
    plant(path)
    before = path.lstat()
    with pytest.raises(DownloadError, match=f"^cannot write .*{message}"):
        _download(path, f"{server.url}/good")

    assert os.path.samestat(before, path.lstat())
    precious = path.parent / "precious"
    assert not precious.exists() or precious.read_bytes() == b"mine"


@posix
def test_link_to_the_right_file_may_stand_for_it(server: FileServer, path: Path) -> None:
    """What is only read may lie elsewhere, since its hash is known."""
    path.parent.mkdir()
    (path.parent / "elsewhere").write_bytes(GOOD)
    path.symlink_to("elsewhere")
    _download(path, f"{server.url}/lost")

    assert path.is_symlink()


@posix
def test_planted_partial_file_is_not_written_through(server: FileServer, path: Path) -> None:
    """A link, also a hard one, that is named like what a killed process left harms nothing."""
    path.parent.mkdir()
    precious = path.parent / "precious"
    precious.write_bytes(b"mine")
    for number, end in enumerate(("part", "download")):
        path.with_name(f".text.txt.{number:016x}.{end}").symlink_to(precious)
        path.with_name(f".text.txt.{number + 7:016x}.{end}").hardlink_to(precious)
    _download(path, f"{server.url}/good")

    assert (GOOD, b"mine") == (path.read_bytes(), precious.read_bytes())


NOON = "Thu, 01 Jan 1970 12:00:00 GMT"
QUICK = Patience(connect_seconds=10, stall_seconds=0.2, num_attempts=1)


def _ask(path: Path, *urls: str, patience: Patience = QUICK) -> Path:
    return download(urls, path, num_bytes=None, digest=DIGEST, patience=patience)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://me:secret@example.org/a: no", "http://example.org/a: no"),
        ("https://me@example.org/", "https://example.org/"),
        ("http://me:se@cret@a.org/b; http://me:x@b.org", "http://a.org/b; http://b.org"),
        ("http://example.org/@a?b=//c@d", "http://example.org/@a?b=//d"),
        ("nobody listens at //", "nobody listens at //"),
    ],
)
def test_password_is_hidden(text: str, expected: str) -> None:
    """An error shows no password; nothing else is taken away but what looks like one."""
    assert expected == hide_password(text)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://example.org", True),
        ("HTTPS://example.org:8443/a?b", True),
        ("http://[::1]/", True),
        ("http://", False),
        ("http://:80/", False),
        ("http://a:b/", False),
        ("http://a:0/", False),
        ("http://[::1", False),
        ("ftp://example.org", False),
        ("example.org/a", False),
        ("", False),
    ],
)
def test_addresses(url: str, *, expected: bool) -> None:
    """An address has a host that the web can be asked of."""
    assert expected == is_address(url)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("b", "http://example.org/a/b"),
        ("/b", "http://example.org/b"),
        ("//example.net/b", "http://example.net/b"),
        ("http://example.net:8080/b?c", "http://example.net:8080/b?c"),
        ("https://example.org/b", "https://example.org/b"),
        # As a header is read that a server wrote in UTF-8.
        ("/caf\u00c3\u00a9", "http://example.org/caf\u00e9"),
    ],
)
def test_redirects_that_are_followed(location: str, expected: str) -> None:
    """To the same scheme, and to a connection that is secure."""
    assert expected == transfer._next_address("http://example.org/a/", location)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "location",
    ["", "file:///etc/hostname", "ftp://a.org/", "data:,a", "http://[::1", "/caf\u00e9", "/\u20ac"],
)
def test_redirects_that_are_refused(scheme: str, location: str) -> None:
    """To another scheme, and to nowhere; the address is not asked again."""
    message = f"^expected a redirect to another {scheme} address, got one to "
    with pytest.raises(transfer.FetchError, match=message) as caught:
        transfer._next_address(f"{scheme}://example.org/", location)

    assert caught.value.retry_seconds is None


def _reply(status: int, **headers: str) -> requests.Response:
    reply = requests.Response()
    reply.status_code = status
    reply.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return reply


@pytest.mark.parametrize(("status", "start"), [(200, 0), (200, 5), (206, 5)])
def test_statuses_of_a_file(status: int, start: int) -> None:
    """The whole file is always welcome, a part of it if it was asked for."""
    transfer._check_status(_reply(status), asked_start=start)


@pytest.mark.parametrize(
    ("status", "headers", "retry_seconds"),
    [
        *((status, {}, None) for status in (201, 203, 204, 300, 304, 401, 404, 410, 416, 501, 505)),
        *((status, {}, 0.0) for status in (206, 408, 425, 429, 500, 502, 503, 504)),
        (503, {"Retry_After": "7"}, 7.0),
        (503, {"Retry_After": " 7 "}, 7.0),
        (503, {"Retry_After": "soon"}, 0.0),
        (503, {"Retry_After": "-5"}, 0.0),
        (503, {"Retry_After": "9" * 5000}, 0.0),
        (503, {"Retry_After": "Thu, 01 Jan 99999 00:00:00 GMT"}, 0.0),
        (503, {"Retry_After": NOON}, 0.0),
        (404, {"Retry_After": "7"}, None),
    ],
)
def test_statuses_of_no_file(
    status: int, headers: dict[str, str], retry_seconds: float | None
) -> None:
    """Whether the same address is asked again depends on the status, and when on its wish."""
    with pytest.raises(transfer.FetchError, match=f"^expected status 200, got {status}") as caught:
        transfer._check_status(_reply(status, **headers), asked_start=0)

    assert retry_seconds == caught.value.retry_seconds


@pytest.mark.parametrize("length", [None, 60])
def test_range_that_was_asked_for(length: int | None) -> None:
    """The rest, to the last byte."""
    expected = 100
    assert expected == transfer._parse_range("bytes 40-99/100", start=40, length=length)


@pytest.mark.parametrize(
    ("content_range", "length"),
    [
        ("", None),
        ("bytes 39-99/100", None),
        ("bytes 40-98/100", None),
        ("bytes 40-100/100", None),
        ("bytes 40-99/*", None),
        ("bytes */100", None),
        ("lines 40-99/100", None),
        ("bytes -40-99/100", None),
        ("bytes 40-" + "9" * 5000 + "/1" + "0" * 5000, None),
        ("bytes 40-99/100", 59),
        ("bytes 40-99/100", 100),
    ],
)
def test_range_that_was_not_asked_for(content_range: str, length: int | None) -> None:
    """Anything else is a lie: the bytes from before are forgotten, and all are asked for."""
    with pytest.raises(
        transfer.FetchError, match=r"^asked for the bytes from 40 on, got "
    ) as caught:
        transfer._parse_range(content_range, start=40, length=length)

    assert (0.0, True) == (caught.value.retry_seconds, caught.value.spoils)


@pytest.mark.parametrize(
    ("etag", "last_modified", "expected"),
    [('"1"', NOON, '"1"'), ('W/"1"', NOON, NOON), ('W/"1"', "", ""), ("", NOON, NOON)],
)
def test_edition(etag: str, last_modified: str, expected: str) -> None:
    """A weak ETag says that two editions are about the same, which is not enough."""
    assert expected == transfer._find_edition({"ETag": etag, "Last-Modified": last_modified})


@pytest.mark.parametrize("tag", ['"1"', ""])
def test_rest_is_asked_for_by_its_edition(path: Path, tag: str) -> None:
    """The server is asked for the rest of the edition that it sent, and never for a compression."""
    seen: list[dict[str, str]] = []

    def look(talk: misbehaving.Talk) -> None:
        seen.append(dict(talk.headers))
        misbehaving.part(talk, tag=tag)

    answers = (partial(misbehaving.cut, stop=100_000, tag=tag), look)
    with misbehaving.misbehaving({"": answers}) as server:
        _ask(path, server.url, patience=Patience(num_attempts=2, pause_seconds=0.001))

    (headers,) = seen
    assert ("identity", tag) == (headers["accept-encoding"], headers.get("if-range", ""))


@pytest.mark.parametrize(
    ("also", "kind"),
    [
        ("Content-Type: text/html; charset=utf-8", r" \(text/html\)"),
        ("Content-Encoding: gzip", r" \(gzip-encoded\)"),
        ("Content-Type: text/plain\r\nContent-Encoding: br", r" \(br-encoded text/plain\)"),
        ("", ""),
    ],
)
def test_kind_of_another_file(path: Path, also: str, kind: str) -> None:
    """A message names what the server called the bytes."""
    answers = {"": (partial(misbehaving.whole, body=b"other", also=also),)}
    with (
        misbehaving.misbehaving(answers) as server,
        pytest.raises(ChecksumError, match=rf"got sha256:\w+{kind}\."),
    ):
        _ask(path, server.url, patience=Patience(num_attempts=1))


def test_message_that_a_server_wrote() -> None:
    """No terminal obeys it, also not by the controls of 8 bits, and it is short."""
    failure = transfer.FetchError("got \x1b]0;gone\x07 \x9b2J\x85\u202e\r\n" + "x" * 70_000)

    assert str(failure).startswith(r"got \x1b]0;gone\x07 \x9b2J\x85\u202e\r\nxxx")
    assert len(str(failure)) < 1_000


@pytest.mark.parametrize(
    "changes",
    [
        {"connect_seconds": 0},
        {"stall_seconds": -1.0},
        {"stall_seconds": float("inf")},
        {"stall_seconds": float("nan")},
        {"total_seconds": float("inf")},
        {"max_pause_seconds": float("inf")},
        {"pause_seconds": -1.0},
        {"num_attempts": 0},
    ],
)
def test_patience_that_cannot_work(changes: dict[str, Any]) -> None:
    """No wait may be endless, and there must be an attempt."""
    with pytest.raises(ArgumentError, match=r"^patience must be above 0 and finite, with at least"):
        Patience(**changes)


@pytest.mark.parametrize(
    ("error", "message", "retry_seconds"),
    [
        (requests.ConnectTimeout(), "no connection within 10 seconds", 0),
        (requests.ConnectionError("odd"), "the connection broke: odd", 0),
        (ConnectionResetError(104, "reset"), "the connection broke: [Errno 104] reset", 0),
        (requests.exceptions.ProxyError("no"), "the proxy failed: no", 0),
        (requests.exceptions.SSLError("bad"), "the secure connection failed: bad", 0),
        (
            requests.exceptions.SSLError(ssl.SSLCertVerificationError("who")),
            "SSLError: ('who',)",
            None,
        ),
        (requests.exceptions.InvalidURL("bad"), "InvalidURL: bad", None),
    ],
)
def test_errors_in_plain_words(error: Exception, message: str, retry_seconds: float | None) -> None:
    """Each says what happened, and whether another attempt may end otherwise."""
    failure = transfer._describe(error, Patience())

    assert (message, retry_seconds) == (str(failure), failure.retry_seconds)


_HEAD = b"HTTP/1.1 %s\r\n%s\r\n\r\n"


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (_HEAD % (b"302 Found", b"Location: /next"), bytes(1 << 16)),
        (_HEAD % (b"302 Found", b"Location: ftp://example.org/"), bytes(1 << 16)),
        (_HEAD % (b"404 Not Found", b"X: y"), bytes(1 << 16)),
        (_HEAD % (b"500 Oh", b"Transfer-Encoding: chunked"), b"10000\r\n%s\r\n" % bytes(1 << 16)),
        (_HEAD % (b"206 Partial Content", b"Content-Range: bytes 7-9/10"), bytes(1 << 16)),
        (_HEAD % (b"200 OK", b"Content-Encoding: gzip"), bytes(1 << 16)),
        (_HEAD % (b"200 OK", b"Transfer-Encoding: chunked"), b"0" * (1 << 16)),
        (_HEAD % (b"200 OK", b"Transfer-Encoding: chunked"), b"1;%s\r\nx\r\n" % (b"x" * 60_000)),
        (b"HTTP/1.1 200 OK\r\n", b"X-Header: %s\r\n" % (b"x" * 60_000)),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
        (b"", bytes(1 << 16)),
    ],
)
def test_no_answer_is_read_without_end(path: Path, begin: bytes, piece: bytes) -> None:
    """Little is taken of an answer without an end, and its connection is closed."""
    sent: list[int] = []
    is_closed = threading.Event()

    def flood(talk: misbehaving.Talk) -> None:
        try:
            talk.send(begin)
            while not talk.over.is_set():
                talk.send(piece)
                sent.append(len(piece))
        except OSError:
            is_closed.set()
            raise

    patience = Patience(connect_seconds=20, stall_seconds=20, num_attempts=1)
    with misbehaving.misbehaving({"": (flood, misbehaving.part)}) as server:
        with contextlib.suppress(TokenloomError):
            download([server.url], path, num_bytes=200_000, digest=DIGEST, patience=patience)
        assert is_closed.wait(120)

    # What the system takes on its own account is some MiB.
    assert sum(sent) < 32 << 20


@pytest.mark.parametrize("answer", [misbehaving.drip_headers, misbehaving.drip_chunks])
def test_slow_connection_is_closed(path: Path, answer: misbehaving.Answer) -> None:
    """The server cannot send on to a download that is over."""
    is_closed = threading.Event()

    def watched(talk: misbehaving.Talk) -> None:
        try:
            answer(talk)
            misbehaving.wait(talk)
        finally:
            is_closed.set()

    with misbehaving.misbehaving({"": (watched,)}) as server:
        with pytest.raises(DownloadError, match=r"too slow|nothing came"):
            _ask(path, server.url)
        assert is_closed.wait(120)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "reply", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 407 \x1b[2J\r\n\r\n", b"\x16\x03\x03\x40"]
)
def test_stalling_proxy(
    path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, reply: bytes
) -> None:
    """The replies of a proxy are bounded like those of a server, and shown without controls."""

    def answer(talk: misbehaving.Talk) -> None:
        talk.send(reply)
        misbehaving.wait(talk)

    with misbehaving.misbehaving({"": (answer,)}) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("NO_PROXY", "")
        with pytest.raises(DownloadError) as caught:
            _ask(path, f"{scheme}://example.invalid/file")

    assert str(caught.value).isprintable()


def test_proxy_that_drips(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The headers of a proxy, before the server is reached, are bounded too."""
    with misbehaving.misbehaving({"": (misbehaving.drip_headers,)}) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("NO_PROXY", "")
        with pytest.raises(DownloadError, match=r"too slow|nothing came"):
            _ask(path, "https://example.invalid/file")


def test_stalling_handshake(path: Path) -> None:
    """A server that accepts a connection, and says nothing of who it is, is given up."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        patience = Patience(connect_seconds=0.2, num_attempts=1)
        with pytest.raises(DownloadError, match=r"no connection within 0\.2 seconds"):
            _ask(path, f"https://127.0.0.1:{server.getsockname()[1]}/", patience=patience)


def test_name_that_nobody_knows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the resolver's reason."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(DownloadError, match=r"no connection: .*Name or service not known"):
        _ask(path, "http://example.invalid/")
