"""The command that downloads corpora."""

import json
import os
import re
from pathlib import Path

import pytest

import tokenloom as tl
from tests.support.hub.file_server import FileServer
from tokenloom.cli.main import main


def test_fetch_prepares_for_the_time_without_a_network(
    poem: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was fetched is used offline, and its path is printed."""
    assert main(["fetch", "poem", "python_docs", "--quiet"]) == 0
    path = tmp_path / "cache" / "poem.txt"
    assert (f"poem: {path}\npython_docs: built in\n", "") == capsys.readouterr()
    assert main(["fetch", "poem", "python_docs", "--json"]) == 0
    expected = [
        {"name": "poem", "where": "cached", "path": str(path)},
        {"name": "python_docs", "where": "built in", "path": None},
    ]
    assert expected == json.loads(capsys.readouterr().out)
    assert main(["fetch", "poem", "--offline"]) == 0
    assert main(["show", "poem", "--offline", "--batch-size", "4", "--seq-len", "10"]) == 0
    assert ["/poem.txt"] == poem.asked


def test_fetch_goes_on(
    poem: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One text that cannot be had does not keep the others away; the exit code is 1."""
    file = tl.hub.RemoteFile(
        filename="lost.txt", urls=(f"{poem.url}/lost.txt",), digest="sha256:" + "0" * 64
    )
    tl.hub.register(tl.hub.Entry(name="lost", description="a text", licence="ours", source=file))
    assert main(["fetch", "lost", "poem", "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert f"poem: {tmp_path / 'cache' / 'poem.txt'}\n" == out
    assert re.fullmatch(r"tokenloom: error: cannot download 'lost.txt': .*got 404 .*\n", err)


@pytest.mark.parametrize("name", ["", ".", os.devnull, __file__, "nope"])
def test_only_texts_with_a_name_are_fetched(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No path is, nor does the message offer one."""
    assert main(["fetch", name]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(f"can be fetched, imdb, .*, tiny_shakespeare, got {name!r}\n", err)
    assert "path" not in err.replace(name, "")


@pytest.mark.usefixtures("poem")
def test_fetch_of_a_name_that_nobody_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong name among several is found before anything is downloaded."""
    assert main(["fetch", "poem", "peom"]) == 1
    assert "got 'peom': did you mean poem?" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()
