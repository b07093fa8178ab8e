"""Named texts that a server on this machine has, and an empty cache."""

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.hub.file_server import Answer, FileServer, serving
from tokenloom.hub import Archive, Entry, RemoteFile
from tokenloom.hub.imdb import REVIEW_FOLDERS, REVIEW_SPLITS, read_reviews

TEXT = b"The Time Machine\nby H. G. Wells\n"


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
def registered(entry: Entry, register_entry: Callable[[Entry], None]) -> None:
    """Let the catalogue have that entry too."""
    register_entry(entry)


def _tar(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
    return content.getvalue()


@pytest.fixture
def reviews(register_entry: Callable[[Entry], None]) -> Iterator[Entry]:
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
        register_entry(entry)
        yield entry
