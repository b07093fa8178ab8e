"""The command that verifies stores."""

from pathlib import Path

import pytest

from tests.support.preparation.stores import make_store
from tokenloom.cli.main import main


def test_verify_is_silent_about_a_whole_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says that nothing is wrong."""
    folder = str(make_store(tmp_path / "store"))
    assert main(["verify", folder]) == 0
    expected = (f"{folder} is as it was written\n", "")
    assert expected == tuple(capsys.readouterr())


def test_verify_names_each_bad_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each stands in a line of its own, and the exit code is 1."""
    folder = make_store(tmp_path / "store")
    (folder / "documents.npy").unlink()
    (folder / "tokens-00002.npy").write_bytes(b"")
    assert main(["verify", str(folder), "--quiet"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [str(folder / "tokens-00002.npy"), str(folder / "documents.npy")] == [
        line.split(" ")[0] for line in lines
    ]
