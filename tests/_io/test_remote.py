"""Files at addresses."""

import asyncio
import contextlib
import gzip
import http.server
import io
import os
import socket
import socketserver
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tokenloom as tl
from tests.support.packages import require_package
from tests.support.preparation.preparations import contents
from tokenloom._io import remote
from tokenloom._io.remote import RemoteFile, RemoteReader, find_remote, is_address
from tokenloom._wording import redact
from tokenloom.errors import ArgumentError, CorpusError, DownloadError, UsageError
from tokenloom.preparation.copies import fetch_copy
from tokenloom.preparation.forms import SourceFile
from tokenloom.preparation.options import PrepareOptions
from tokenloom.preparation.prepare import prepare
from tokenloom.preparation.trace import Trace
from tokenloom.preparation.workdir import Part, WorkDir

fsspec = require_package("fsspec")
memory = require_package("fsspec.implementations.memory")

TEXT = "Tell me where is fancy bred,\nor in the heart or in the head?\n" * 9


@pytest.fixture(autouse=True)
def _files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put files into the file system in memory, and wait for nothing."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    # What users call has no parameter for it; each file that fails would take three seconds.
    monkeypatch.setattr(remote, "_FIRST_PAUSE", 0)
    system = memory.MemoryFileSystem()
    system.store.clear()
    for name in ("a.txt", "b.txt", "sub/c.txt", ".hidden.txt"):
        system.pipe_file(f"/texts/{name}", TEXT.encode())
    system.pipe_file("/texts/d.txt.gz", gzip.compress(TEXT.encode(), mtime=0))
    yield
    system.store.clear()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("memory://texts/a.txt", ["a.txt"]),
        ("memory://texts/*.txt", [".hidden.txt", "a.txt", "b.txt"]),
        ("memory://texts/[ab].txt", ["[ab].txt"]),
        ("memory://texts", ["a.txt", "b.txt", "d.txt.gz", "sub/c.txt"]),
        ("memory://texts/**/c.txt", ["sub/c.txt"]),
    ],
)
def test_files_are_found(address: str, expected: list[str]) -> None:
    """One, those of a pattern, or those in a folder that are not hidden."""
    names = [file.as_posix().partition("texts/")[2] for file in find_remote(address)]
    assert expected == names


@pytest.fixture
def archive(tmp_path: Path) -> str:
    """Return the address of an archive of tables and texts."""
    with zipfile.ZipFile(tmp_path / "texts.zip", "w") as file:
        for name in ("sub/a.tsv", "sub/b.txt", "sub/c.txt.gz"):
            text = "text\tn\nTell me, where\t1\n" if name.endswith(".tsv") else TEXT
            content = text.encode()
            file.writestr(name, gzip.compress(content) if name.endswith(".gz") else content)
    return f"file://{tmp_path}/texts.zip"


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("zip://sub/a.tsv", ["sub/a.tsv"]),
        ("zip://sub/*.txt*", ["sub/b.txt", "sub/c.txt.gz"]),
        ("zip://sub", ["sub/a.tsv", "sub/b.txt", "sub/c.txt.gz"]),
        ("simplecache::zip://sub/*.gz", ["sub/c.txt.gz"]),
    ],
)
def test_files_of_a_chain_are_found(archive: str, link: str, expected: list[str]) -> None:
    """Each is a chain itself, and has the name of its first link."""
    found = find_remote(f"{link}::{archive}")
    before = link.partition("zip://")[0]
    assert [f"{before}zip://{name}::{archive}" for name in expected] == [
        file.as_posix() for file in found
    ]
    assert [file.name for file in found] == [name.partition("/")[2] for name in expected]


def test_a_chain_is_prepared(tmp_path: Path, archive: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the form of the file in the archive, offline too; trace finds the character."""
    monkeypatch.setenv("TOKENLOOM_OFFLINE", "1")
    made = prepare(f"zip://sub::{archive}", tmp_path / "store")
    assert made.num_documents == 3
    corpus = tl.Corpus.open(tmp_path / "store")
    assert corpus.decode(corpus.document(0).tokens) == "tell me where"
    found = tl.trace(corpus, len(corpus) - 2)
    assert (found.source, found.character) == (f"zip://sub/c.txt.gz::{archive}", len(TEXT) - 4)
    for link in ("zip://a.txt::https://a.invalid/b.zip", "simplecache::s3://bucket/a.txt"):
        with pytest.raises(DownloadError, match="downloads are forbidden"):
            prepare(link, tmp_path / "other")


@pytest.mark.parametrize("address", ["memory://texts/sub", "memory://texts/sub/*"])
def test_what_stands_beside_tables_is_left_out(address: str) -> None:
    """As in a folder of this machine."""
    system = memory.MemoryFileSystem()
    for name, content in (("_SUCCESS", b""), ("_metadata", b"PAR1"), ("_common_metadata", b"To")):
        system.pipe_file(f"/texts/sub/{name}", content)
    assert ["_common_metadata", "c.txt"] == [file.name for file in find_remote(address)]


@pytest.mark.parametrize("address", ["memory://texts/sub", "memory://texts/**"])
def test_rows_that_no_job_has_committed_are_refused(address: str) -> None:
    """As in a folder of this machine."""
    path = "/texts/sub/_temporary/0/part-0.txt"
    memory.MemoryFileSystem().pipe_file(path, b"To be")
    with pytest.raises(ArgumentError, match=r"must hold the texts .* left rows in '_temporary'"):
        find_remote(address)
    assert ["part-0.txt"] == [file.name for file in find_remote(f"memory:/{path}")]


def test_a_pattern_means_files_and_no_folders() -> None:
    """As one of local files."""
    assert ["c.txt"] == [file.name for file in find_remote("memory://texts/*/c*")]
    assert "sub" not in [file.name for file in find_remote("memory://texts/*")]


def test_a_pattern_without_files() -> None:
    """Is refused as that of local files is."""
    with pytest.raises(ArgumentError, match=r"'memory://texts/\*.pdf' must hold at least one"):
        find_remote("memory://texts/*.pdf")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_same_tokens_as_of_local_files(tmp_path: Path, num_workers: int) -> None:
    """Compressed or not; the second call finds the store finished, and tokens are traced."""
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(TEXT)
    options = PrepareOptions(task_bytes=100)
    sources = ["memory://texts/a.txt", "memory://texts/d.txt.gz"]
    made = prepare(sources, tmp_path / "far", options=options, num_workers=num_workers)
    local = [tmp_path / "a.txt", tmp_path / "b.txt"]
    prepare(local, tmp_path / "near", options=options)
    far, near = tl.Corpus.open(tmp_path / "far"), tl.Corpus.open(tmp_path / "near")
    assert far.tokens.tolist() == near.tokens.tolist()
    assert made.is_new
    assert not prepare(sources, tmp_path / "far", options=options).is_new
    found = tl.trace(far, len(far) - 1)
    assert ("memory://texts/d.txt.gz", 1, TEXT.rindex("d")) == (found and found[:3])


def test_an_address_in_a_store_is_opened_only_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store may come from somebody else, and the credentials are the user's."""
    prepare("memory://texts/a.txt", tmp_path / "store")
    corpus = tl.Corpus.open(tmp_path / "store")
    asked = []

    def record(file: RemoteFile) -> tuple[int, int]:
        asked.append(str(file))
        return 0, 0

    monkeypatch.setattr(RemoteFile, "status", record)
    assert tl.trace(corpus, 3, remote=False) == Trace("memory://texts/a.txt", 0, None)
    both = tl.Corpus.concatenate([corpus, corpus])
    assert tl.trace(both, 3, remote=False) == Trace("memory://texts/a.txt", 0, None)
    assert not asked
    tl.trace(both, 3)
    assert asked == ["memory://texts/a.txt"]


def test_a_file_that_was_changed(tmp_path: Path) -> None:
    """Is another source, and is not traced."""
    prepare("memory://texts/a.txt", tmp_path / "store")
    memory.MemoryFileSystem().pipe_file("/texts/a.txt", TEXT.upper().encode())
    with pytest.raises(tl.StoreError, match=r"memory://texts/a\.txt has other bytes now"):
        prepare("memory://texts/a.txt", tmp_path / "store")


def test_a_file_whose_time_was_set_back(tmp_path: Path) -> None:
    """Is another source: the latest of its times counts."""
    path = tmp_path / "a.txt"
    path.write_text("aaaa")
    prepare(f"file://{path}", tmp_path / "store", tokenizer="byte")
    path.write_text("bbbb")
    os.utime(path, (1, 1))
    with pytest.raises(tl.StoreError, match=r"a\.txt has other bytes now"):
        prepare(f"file://{path}", tmp_path / "store", tokenizer="byte")


def test_what_is_older(monkeypatch: pytest.MonkeyPatch) -> None:
    """By all times that a server says; not where a query may have chosen another file."""
    old, new = 1e6, 2e9
    facts = {"size": 1, "mtime": old}
    monkeypatch.setattr(RemoteFile, "_facts", lambda _: facts)
    made_ns = int(1.9e9) * 10**9
    assert RemoteFile("https://example.invalid/get").is_older(made_ns)
    assert not RemoteFile("https://example.invalid/get?id=2").is_older(made_ns)
    facts["created"] = new
    assert not RemoteFile("https://example.invalid/get").is_older(made_ns)
    del facts["mtime"], facts["created"]
    assert not RemoteFile("https://example.invalid/get").is_older(made_ns)


class Broken:
    """A file whose connection breaks after some bytes."""

    def __init__(self, file: Any, num_bytes: int, error: Exception) -> None:
        self._file, self._left, self._error = file, num_bytes, error

    def read(self, size: int) -> bytes:
        """Return fewer bytes, or raise."""
        if self._left <= 0:
            raise self._error
        piece: bytes = self._file.read(min(size, self._left))
        self._left -= len(piece)
        return piece

    def seek(self, offset: int) -> None:
        """Go to a place."""
        self._file.seek(offset)

    def close(self) -> None:
        """Do nothing."""


def break_connections(
    monkeypatch: pytest.MonkeyPatch, num_bytes: int, error: Exception
) -> list[int]:
    """Let each connection break after some bytes; return what counts them."""
    opened: list[int] = []
    really = memory.MemoryFileSystem.open

    def open_broken(self: Any, path: str, *arguments: Any, **named: Any) -> Broken:
        opened.append(num_bytes)
        return Broken(really(self, path, *arguments, **named), num_bytes, error)

    monkeypatch.setattr(memory.MemoryFileSystem, "open", open_broken)
    return opened


def test_broken_connections_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the byte on where they broke."""
    opened = break_connections(monkeypatch, 100, ConnectionResetError("reset"))
    with RemoteFile("memory://texts/a.txt").open() as file:
        assert TEXT.encode() == file.read()
    assert len(opened) == -(-len(TEXT) // 100)


def test_a_connection_that_stays_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends with an error that names the address, after a bounded number of tries."""
    opened = break_connections(monkeypatch, 0, ConnectionResetError("reset"))
    with pytest.raises(CorpusError, match=r"'memory://texts/a.txt', asked 5 times: Conn.*reset"):
        prepare("memory://texts/a.txt", tmp_path / "store")
    assert len(opened) == 5


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    """Is asked for once."""
    with pytest.raises(CorpusError, match=r"cannot read 'memory://texts/x.txt': .*no such file$"):
        prepare("memory://texts/x.txt", tmp_path / "store")


@pytest.mark.parametrize("scheme", ["https", "s3", "hf"])
def test_nothing_is_asked_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """But what lies on this machine is read, the address of a file among it."""
    monkeypatch.setenv("TOKENLOOM_OFFLINE", "1")
    (tmp_path / "a.txt").write_text(TEXT)
    sources = [f"file://{tmp_path}/a.txt", "memory://texts/a.txt"]
    assert prepare(sources, tmp_path / "near").num_documents == 2
    with pytest.raises(DownloadError, match=r"forbidden by TOKENLOOM_OFFLINE or --offline"):
        prepare(f"{scheme}://example.invalid/a.txt", tmp_path / "far")


@pytest.mark.parametrize("folder", ["memory://signs", "file://{}"])
def test_names_with_signs(tmp_path: Path, folder: str) -> None:
    """Keep them, and their end says what a file is: only web addresses have queries."""
    folder = folder.format(tmp_path / "in")
    system, path = fsspec.core.url_to_fs(folder)
    system.makedirs(path, exist_ok=True)
    contents = {
        "C#1.jsonl": b'{"text": "a"}\n{"text": "b"}\n',
        "C#2.jsonl": b'{"text": "c"}\n',
        "d?.txt.gz": gzip.compress(b"d"),
    }
    for name, content in contents.items():
        system.pipe_file(f"{path}/{name}", content)
    made = prepare(folder, tmp_path / "store", tokenizer="byte")
    corpus = tl.Corpus.open(made.path)
    assert (made.num_documents, bytes(corpus.tokens[:])) == (4, b"abcd")
    found = tl.trace(corpus, 2)
    assert found is not None
    assert str(found[0]).endswith("/C#2.jsonl")
    one = prepare(f"{folder}/C#1.jsonl", tmp_path / "one", tokenizer="byte")
    assert one.num_documents == 2


class AnswerError(OSError):
    """What a server answers, as the errors of packages for the web have it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status}, message='Sorry'")
        self.status = status


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (AnswerError(404), "txt': FileNotFoundError, there is no such file"),
        (AnswerError(403), "txt': AnswerError, 403, message='Sorry'"),
        (AnswerError(503), "txt', asked 5 times: AnswerError, 503, message='Sorry'"),
        (ConnectionRefusedError("no"), "txt', asked 5 times: ConnectionRefusedError, no"),
        (TimeoutError("late"), "txt', asked 2 times: TimeoutError, late"),
        (KeyError("a"), "txt': FileNotFoundError, there is no such file"),
    ],
)
def test_the_cause_of_a_missing_file(
    monkeypatch: pytest.MonkeyPatch, cause: Exception, expected: str
) -> None:
    """Is named and asked for again, since fsspec calls each failure a missing file."""

    def refuse(self: Any, path: str, **named: Any) -> Any:
        del self, named
        raise FileNotFoundError(path) from cause

    monkeypatch.setattr(memory.MemoryFileSystem, "info", refuse)
    with pytest.raises(CorpusError) as raised:
        RemoteFile("memory://texts/a.txt").status()
    assert f"cannot read 'memory://texts/a.{expected}" == str(raised.value)


class CodeError(Exception):
    """What gcsfs raises."""

    code = 401


def test_credentials_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Are not asked for again."""

    def refuse(self: Any, path: str, **named: Any) -> Any:
        del self, path, named
        msg = "Anonymous caller"
        raise CodeError(msg)

    monkeypatch.setattr(memory.MemoryFileSystem, "info", refuse)
    with pytest.raises(CorpusError, match=r"cannot read 'memory://texts/a.txt': CodeError, Anon"):
        RemoteFile("memory://texts/a.txt").status()


def test_a_server_that_answers_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message says what is waited for, and what a package repeated for long is not repeated."""
    reported, said = threading.Event(), []

    def wait(self: Any, path: str, **named: Any) -> Any:
        del self, path, named
        assert reported.wait(60)
        msg = "no route"
        raise ConnectionError(msg)

    monkeypatch.setattr(memory.MemoryFileSystem, "info", wait)
    monkeypatch.setattr(remote, "_SILENT_SECONDS", 0)
    monkeypatch.setattr(remote, "_MOST_SECONDS", 0)

    def report(message: str, *words: object) -> None:
        said.append(message % words)
        reported.set()

    monkeypatch.setattr(remote._logger, "warning", report)
    with pytest.raises(CorpusError, match=r"'memory://texts/a.txt': ConnectionError, no route"):
        RemoteFile("memory://texts/a.txt").status()
    # It may look more than once before the answer comes.
    assert {"memory://texts/a.txt has not answered for 0 seconds: waiting"} == set(said)


def test_a_file_system_that_connects_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is tried again too; the message has the address without secrets."""
    core = require_package("fsspec.core")

    def refuse(_: str) -> Any:
        msg = "refused by sftp://me:hush@a.org"
        raise ConnectionRefusedError(msg)

    monkeypatch.setattr(core, "url_to_fs", refuse)
    with pytest.raises(CorpusError, match=r"'sftp://a.org/b', asked 5 times: Conn.*/a.org$"):
        find_remote("sftp://me:hush@a.org/b")


def test_a_web_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is given up after a bounded time."""
    require_package("aiohttp")
    monkeypatch.setattr(remote, "_READ_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.txt"
        with pytest.raises(CorpusError, match=r"a.txt', asked 2 times: \w*Timeout\w*Error"):
            RemoteFile(address).status()


WHOLE = bytes(range(256)) * 1_000


class Crooked(http.server.BaseHTTPRequestHandler):
    """A web server whose answers are not those that were asked for, as its path says."""

    def do_HEAD(self) -> None:
        """Report the size of the file."""
        length = len(WHOLE) - 1_000 * self.path.startswith("/longer")
        self.answer(200, {"Content-Length": str(length)}, b"")

    def do_GET(self) -> None:
        """Answer with the file."""
        self.server.asked.append(self.headers.get("Accept-Encoding"))  # type: ignore[attr-defined]
        packed = gzip.compress(WHOLE)
        match self.path.split(".")[0]:
            case "/compressing" if "gzip" not in (self.headers.get("Accept-Encoding") or ""):
                self.answer(200, {"Content-Length": str(len(WHOLE))}, WHOLE)
            case "/compressing" | "/compressed":
                headers = {"Content-Encoding": "gzip", "Content-Length": str(len(packed))}
                self.answer(200, headers, packed)
            case "/forgetful" if "Range" in self.headers:
                headers = {"Content-Range": f"bytes 0-99/{len(WHOLE)}", "Content-Length": "100"}
                self.answer(206, headers, WHOLE[:100])
            case _:
                self.answer(200, {"Content-Length": str(len(WHOLE))}, WHOLE)

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """Send an answer; a client that has read enough hangs up."""
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def crooked() -> Iterator[str]:
    """Return the address of a web server of that kind."""
    require_package("aiohttp")
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Crooked) as server:
        server.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
            assert {"identity"} == set(server.asked)  # type: ignore[attr-defined]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("name", ["compressing", "compressed", "forgetful", "plain"])
def test_web_servers_that_answer_with_other_bytes(crooked: str, name: str) -> None:
    """The bytes are those of the file, also where a server compresses them or confuses ranges."""
    with RemoteFile(f"{crooked}/{name}.txt").open() as file:
        assert file.readall() == WHOLE
        file.seek(100_000)
        assert file.read(1_000) == WHOLE[100_000:101_000]


@pytest.mark.parametrize(
    ("asked", "given"), [("bytes=0-3", "Bytes 0-3/80"), ("bytes=-20", "bytes 60-79/80")]
)
def test_ranges_in_other_words(asked: str, given: str) -> None:
    """These are the ranges that were asked for."""
    response = SimpleNamespace(
        request_info=SimpleNamespace(headers={"Range": asked}),
        status=206,
        headers={"Content-Range": given},
    )
    asyncio.run(remote._check_range(response))


def test_a_file_that_is_longer_than_reported(crooked: str) -> None:
    """Its end is not lost in silence."""
    with (
        RemoteFile(f"{crooked}/longer.txt").open() as file,
        pytest.raises(CorpusError, match=r"OSError, there are more bytes than the 255,000 that"),
    ):
        file.readall()


@pytest.mark.parametrize(
    ("address", "schemes"),
    [
        ("https://a.org/b", ["https"]),
        ("simplecache::HTTP://a.org/b", ["HTTP"]),
        ("zip://b.txt::https://a.org/b.zip", ["https"]),
        ("s3://bucket/https://a.org", []),
    ],
)
def test_the_options_of_web_servers(address: str, schemes: list[str]) -> None:
    """Reach the servers of a chain too."""
    require_package("aiohttp")
    assert schemes == list(remote._configure_web(address))


SIGNED = "https://me:hush@example.invalid/a.txt?X-Amz-Signature=hush#hush"


def test_secrets_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of names, of messages, and of what another program says."""
    assert "https://example.invalid/a.txt" == RemoteFile(SIGNED).as_posix() == redact(SIGNED)
    assert "hush" not in repr(RemoteFile(SIGNED))
    really = memory.MemoryFileSystem.info
    address = "memory://texts/a.txt"

    def refuse(self: Any, path: str, **named: Any) -> Any:
        del self, path, named
        raise OSError(f"cannot open {SIGNED}, nor 'https://u:hush@b.org/?hush' of 'u:hush@b'")  # noqa: TRY003, EM102

    monkeypatch.setattr(memory.MemoryFileSystem, "info", refuse)
    with pytest.raises(CorpusError) as raised:
        prepare(address, tmp_path / "store")
    assert "hush" not in str(raised.value)
    assert raised.value.__cause__ is None
    monkeypatch.setattr(memory.MemoryFileSystem, "info", really)


def test_what_is_an_address() -> None:
    """A scheme, of no path and of no name of the catalogue."""
    names = ["s3://a/b", "hf://datasets/a", "a/b", "dataset:imdb", "c:/a", "C:\\a", "://"]
    assert [True, True, *[False] * 5] == [is_address(name) for name in names]


def test_an_address_that_nobody_knows(tmp_path: Path) -> None:
    """The message has what is wrong."""
    with pytest.raises(ArgumentError, match=r"or an address that fsspec knows, got 'what://a'"):
        prepare("what://a", tmp_path / "store")


def test_a_package_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has what to install."""
    core = require_package("fsspec.core")

    def refuse(_: str) -> Any:
        msg = "Install s3fs to access S3"
        raise ImportError(msg)

    monkeypatch.setattr(core, "url_to_fs", refuse)
    with pytest.raises(UsageError, match=r"needs another package \(Install s3fs.*\[remote\]"):
        prepare("s3://bucket/missing.txt", tmp_path / "store")


def test_parquet_at_an_address(tmp_path: Path) -> None:
    """Makes the bytes of the same file here, but for its name."""
    pa, pq = require_package("pyarrow"), require_package("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": TEXT.splitlines()}), path, row_group_size=5)
    memory.MemoryFileSystem().pipe_file("/texts/a.parquet", path.read_bytes())
    prepare("memory://texts/a.parquet", tmp_path / "far")
    prepare(path, tmp_path / "near")
    far, near = (contents(tmp_path / name) for name in ("far", "near"))
    assert {k: v for k, v in far.items() if k != "manifest.json"} == {
        k: v for k, v in near.items() if k != "manifest.json"
    }
    found = tl.trace(tl.Corpus.open(tmp_path / "far"), 30)
    assert ("memory://texts/a.parquet", 1, 0) == (found and (found[0], found.row, found.row_group))


class _Interrupted:
    """A preparation from an address that was interrupted after some parts."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pa, self._pq = require_package("pyarrow"), require_package("pyarrow.parquet")
        self.table = pa.table({"text": TEXT.splitlines()})
        self.store, self.work = folder / "store", folder / ".store.prepare"
        self.opened: list[str] = []
        opened = self.opened

        def open_and_count(file: RemoteFile) -> RemoteReader:
            opened.append(str(file))
            return RemoteReader(file)

        monkeypatch.setattr(RemoteFile, "open", open_and_count)
        self.put(self.table)
        write = WorkDir.write

        def write_and_stop(work: WorkDir, kind: str, index: int, part: Part) -> None:
            write(work, kind, index, part)
            if (kind, index) == ("tokens", 1):
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(WorkDir, "write", write_and_stop)
            with pytest.raises(KeyboardInterrupt):
                self.prepare()

    def put(self, table: Any) -> None:
        """Put a table at the address."""
        sink = io.BytesIO()
        self._pq.write_table(table, sink, row_group_size=5)
        memory.MemoryFileSystem().pipe_file("/texts/a.parquet", sink.getvalue())

    def prepare(self) -> None:
        """Prepare it, in this process."""
        options = PrepareOptions(task_bytes=200)
        prepare("memory://texts/a.parquet", self.store, options=options, num_workers=0)


def test_an_interrupted_preparation_uses_its_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lies in the work folder, is not fetched again, and goes with the folder."""
    made = _Interrupted(tmp_path, monkeypatch)
    assert {"remote-0000000", "fetched-0000000"} <= {path.name for path in made.work.iterdir()}
    made.opened.clear()
    made.prepare()
    assert [] == made.opened
    assert ["store"] == [path.name for path in tmp_path.iterdir()]
    corpus = tl.Corpus.from_documents(TEXT.splitlines())
    assert corpus.tokens.tolist() == tl.Corpus.open(made.store).tokens.tolist()


@pytest.mark.parametrize("harm", ["copy", "facts", "link", "file"])
def test_a_copy_of_other_bytes_is_fetched_again(
    harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the two was changed meanwhile."""
    made = _Interrupted(tmp_path, monkeypatch)
    copy, lines = made.work / "remote-0000000", TEXT.splitlines()
    match harm:
        case "copy":
            copy.write_bytes(copy.read_bytes()[:-1] + b"x")
        case "facts":
            (made.work / "fetched-0000000").write_bytes(b"{}")
        case "link":
            copy.rename(tmp_path / "elsewhere")
            copy.symlink_to(tmp_path / "elsewhere")
        case _:
            lines = lines[::-1]
            made.put(made.table.take(list(range(len(lines)))[::-1]))
            (made.work / "failed").touch()
    made.opened.clear()
    made.prepare()
    assert ["memory://texts/a.parquet"] == made.opened
    expected = tl.Corpus.from_documents(lines).tokens.tolist()
    assert expected == tl.Corpus.open(made.store).tokens.tolist()


def test_copies_of_several_files_do_not_add_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is removed when its rows are read."""
    pa, pq = require_package("pyarrow"), require_package("pyarrow.parquet")
    for name in "abc":
        sink = io.BytesIO()
        pq.write_table(pa.table({"text": TEXT.splitlines()}), sink)
        memory.MemoryFileSystem().pipe_file(f"/tables/{name}.parquet", sink.getvalue())
    seen: list[int] = []
    write = WorkDir.write

    def count_and_write(work: WorkDir, kind: str, index: int, part: Part) -> None:
        seen.append(len(list(work.path.glob("remote-*"))))
        write(work, kind, index, part)

    monkeypatch.setattr(WorkDir, "write", count_and_write)
    options = PrepareOptions(task_bytes=200)
    prepare("memory://tables/*.parquet", tmp_path / "store", options=options, num_workers=0)
    assert {0, 1} >= set(seen)
    assert 1 in seen


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are listed on Linux")
def test_a_copy_outside_of_a_preparation_is_closed() -> None:
    """So that pyarrow can open it by its name on any system; nothing is left of it."""
    source = SourceFile(name="a", path=RemoteFile("memory://texts/a.txt"), form="parquet")
    copy = fetch_copy(source)
    opened = [fd.resolve() for fd in Path("/proc/self/fd").iterdir()]
    assert copy.path.resolve() not in opened
    assert TEXT == copy.path.read_text()
    copy.remove()
    assert not copy.path.exists()
