"""What the tests of several commands begin with."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tokenloom as tl
from tests.support.hub.file_server import Answer, FileServer, serving
from tests.support.training.trainings import BOOK
from tokenloom.cli.main import main


@pytest.fixture
def poem(
    tmp_path: Path, register_entry: Callable[[tl.hub.Entry], None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[FileServer]:
    """Register a text under the name "poem", and run the server that has it."""
    monkeypatch.setenv("TOKENLOOM_CACHE", str(tmp_path / "cache"))
    digest = f"sha256:{hashlib.sha256(BOOK.encode()).hexdigest()}"
    with serving({"/poem.txt": Answer(body=BOOK.encode())}) as server:
        file = tl.hub.RemoteFile(
            filename="poem.txt", urls=(f"{server.url}/poem.txt",), digest=digest
        )
        register_entry(tl.hub.Entry(name="poem", description="a poem", licence="ours", source=file))
        yield server


@pytest.fixture
def split_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Work beside a store that was prepared with three splits."""
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text(BOOK, encoding="utf-8")
    options = ["--split", "valid=0.2", "--split", "test=0.1", "--split-by", "block", "--quiet"]
    assert main(["prepare", "book.txt", "-o", "store", *options]) == 0
    return "store"
