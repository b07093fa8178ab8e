"""The command that lists corpora."""

import json
import os
import re
from pathlib import Path

import pytest

from tokenloom.cli.main import main


def test_datasets_lists_names(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table with size, licence, source and place of each."""
    monkeypatch.setenv("TOKENLOOM_CACHE", str(tmp_path))
    (tmp_path / "tinyshakespeare.txt").touch()
    os.truncate(tmp_path / "tinyshakespeare.txt", 1_115_394)
    (tmp_path / "timemachine.txt").write_bytes(b"no")
    assert main(["datasets"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    rows, notes = lines[::2], lines[1::2]
    assert ["NAME", "BYTES", "WHERE", "LICENCE"] == header.split()
    names = ["imdb", "python_docs", "time_machine", "tiny_shakespeare"]
    assert names == [row.split()[0] for row in rows]
    assert re.search(r"84,125,825  to download  none stated$", rows[0])
    assert re.search(r"^    50,000 film .*, ai\.stanford\.edu$", notes[0])
    assert re.search(r"python_docs  +-  +built in  +PSF-2\.0$", rows[1])
    assert "    the language" == notes[1][:16]
    assert re.search(r"178,979 +to download  public domain$", rows[2])
    assert ", d2l-data.s3-acc" in notes[2]
    assert re.search(r"1,115,394 +cached  +public domain$", rows[3])


def test_datasets_as_json(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program gets every field, by its name."""
    monkeypatch.setenv("TOKENLOOM_CACHE", str(tmp_path))
    assert main(["datasets", "--json"]) == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert ["train", "test", "unsup"] == entries["imdb"]["splits"]
    expected = {
        "name": "time_machine",
        "description": "The Time Machine by H. G. Wells (1898)",
        "licence": "public domain",
        "where": "to download",
        "splits": [],
        "bytes": 178_979,
        "digest": "sha256:8424dbd9532ac81f7e5f0b6add90e6952baea29158309d7d1bf3884f4e12c516",
        "filename": "timemachine.txt",
        "urls": [
            "https://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt",
            "http://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt",
        ],
    }
    assert expected == entries["time_machine"]
    assert entries["python_docs"]["urls"] is None
