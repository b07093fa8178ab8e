"""The command that describes stores."""

import json
from pathlib import Path

import pytest

import tokenloom as tl
from tests.stores import make_store
from tokenloom.cli.main import main


def test_info_tells_what_is_in_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers come in a table, and the most frequent tokens on demand."""
    folder = str(make_store(tmp_path / "store"))
    assert main(["info", folder, "--top", "2"]) == 0
    out = capsys.readouterr().out
    assert "tokens       10\nvocab size   9\ndocuments    3\n" in out
    assert out.endswith("\n\nID  TOKEN  COUNT\n1   'to'   2\n2   'be'   2\n")


@pytest.mark.parametrize("top", [[], ["--top", "1"]])
def test_info_in_json(tmp_path: Path, top: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A program reads the same."""
    folder = str(make_store(tmp_path / "store"))
    assert main(["info", folder, "--json", *top]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (10, 3) == (told["num_tokens"], told["num_shards"])
    assert bool(top) == ("most_frequent" in told)


def test_a_split_of_a_store_is_verified_and_described(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files hold all splits; tokens and documents are those of the split."""
    folder = str(make_store(tmp_path / "store"))
    assert main(["verify", f"{folder}/train"]) == 0
    assert f"{folder} is as it was written\n" == capsys.readouterr().out
    assert main(["info", f"{folder}/train", "--json", "--top", "1"]) == 0
    told = json.loads(capsys.readouterr().out)
    expected = tl.Corpus.open(folder, split="train")
    found = [told[name] for name in ("path", "split", "num_tokens", "num_documents", "hash")]
    assert [f"{folder}/train", "train", 6, expected.num_documents, expected.hash] == found
    assert told["most_frequent"][0]["count"] <= 6
    for command in ("verify", "info"):
        assert main([command, f"{folder}/valid"]) == 1
        assert "one of the store's ('train'), got 'valid'" in capsys.readouterr().err
