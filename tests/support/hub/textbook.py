"""The textbook's text on a server of this machine, for tests of `tokenloom.d2l`."""

import hashlib
import random
from pathlib import Path

import pytest

from tests.support.hub.file_server import Answer, FileServer
from tests.support.hub.time_machine import TIME_MACHINE
from tokenloom import d2l

IS_REAL = TIME_MACHINE.is_file()

# As in English, a few words are most of the text.
_WORDS = (
    ("the", 4),
    ("of", 2),
    ("and", 2),
    ("i", 2),
    ("time", 2),
    ("traveller", 2),
    *((word, 1) for word in ("machine", "said", "was", "little", "future", "moon", "psychologist")),
)


def book() -> bytes:
    """Return the real text where it lies beside the project, else one like it."""
    if IS_REAL:
        return TIME_MACHINE.read_bytes()
    draw = random.Random(0)  # noqa: S311  a text, no secret
    words, weights = zip(*_WORDS, strict=True)
    lines = [" ".join(draw.choices(words, weights, k=draw.randint(8, 12))) for _ in range(600)]
    return "\n\n".join(line.capitalize() + "." for line in lines).encode()


def offer(
    server: FileServer,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    *,
    name: str = "time_machine",
) -> None:
    """Point a name of DATA_HUB to ``/timemachine.txt`` on a server, with the SHA-1 of content."""
    sha1 = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    monkeypatch.setitem(d2l.DATA_HUB, name, (f"{server.url}/timemachine.txt", sha1))


def answers(content: bytes) -> dict[str, Answer]:
    """Return what a server says that has the text."""
    return {"/timemachine.txt": Answer(body=content)}


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, and let nothing outside the test decide."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("TOKENLOOM_CACHE", raising=False)
    monkeypatch.delenv("TOKENLOOM_MIRROR", raising=False)
    monkeypatch.delenv("TOKENLOOM_OFFLINE", raising=False)
