"""The command that describes stores."""

import json
import re
from pathlib import Path

import pytest

import tokenloom as tl
from tests.cli.printing import printed
from tests.support.stores import make_store, make_store_of_sources
from tokenloom.cli.main import main


def test_info_prints_what_is_in_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers come in a table, and the most frequent tokens on demand."""
    folder = str(make_store(tmp_path / "store"))
    assert main(["info", folder, "--top", "2"]) == 0
    out = capsys.readouterr().out
    assert "tokens       10\nvocabulary   9\ndocuments    3\n" in out
    assert out.endswith("\n\nID  TOKEN  COUNT\n1   'to'   2\n2   'be'   2\n")


@pytest.mark.parametrize("top", [[], ["--top", "1"]])
def test_info_in_json(tmp_path: Path, top: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A program reads the same."""
    folder = str(make_store(tmp_path / "store"))
    assert main(["info", folder, "--json", *top]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (10, 3) == (result["num_tokens"], result["num_shards"])
    assert bool(top) == ("most_frequent" in result)


def test_a_split_of_a_store_is_verified_and_described(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files hold all splits; tokens and documents are those of the split."""
    folder = str(make_store(tmp_path / "store"))
    assert main(["verify", f"{folder}/train"]) == 0
    assert f"{folder} is as it was written\n" == capsys.readouterr().out
    assert main(["info", f"{folder}/train", "--json", "--top", "1"]) == 0
    result = json.loads(capsys.readouterr().out)
    expected = tl.Corpus.open(folder, split="train")
    found = [result[name] for name in ("path", "split", "num_tokens", "num_documents", "hash")]
    assert [f"{folder}/train", "train", 6, expected.num_documents, expected.hash] == found
    assert result["most_frequent"][0]["count"] <= 6
    for command in ("verify", "info"):
        assert main([command, f"{folder}/valid"]) == 1
        assert "one of the store's ('train'), got 'valid'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("num_sources", "expected"),
    [(1, "0.txt"), (3, "0.txt, 1.txt, 2.txt"), (1005, "0.txt, 1.txt, 2.txt and 1,002 more")],
)
def test_sources_fit_into_a_line(
    num_sources: int, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first ones stand for all; facts that somebody else wrote have a line each."""
    facts = {"num_characters": 10, "unknown_rate": 0.125, "settings": {"by": "line"}, "none": []}
    folder = make_store_of_sources(tmp_path, num_sources, facts)
    rows = dict(re.split("  +", line) for line in printed(["info", str(folder)], capsys))
    assert expected == rows["sources"]
    assert ("2.50", "10", "12.5000%", '{"by": "line"}') == (
        rows["characters per token"],
        rows["characters"],
        rows["unknown rate"],
        rows["settings"],
    )
    assert not {"none", "documents", "facts"} & set(rows)


def test_a_split_of_one_token_is_called_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Plurals agree with their number."""
    corpus = tl.Corpus.from_tokens([1, 2, 3])
    folder = corpus.save(tmp_path / "store", splits={"first": (0, 1), "rest": (1, 3)})
    rows = dict(re.split("  +", line) for line in printed(["info", str(folder)], capsys))
    assert ("1 token from 0", "2 tokens from 1") == (rows["split first"], rows["split rest"])


def test_a_split_without_documents_is_described(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has no row of documents, as its store has none."""
    tl.Corpus.from_tokens([1, 2, 3]).save(tmp_path / "store", splits={"first": (0, 1)})
    lines = printed(["info", str(tmp_path / "store" / "first")], capsys)
    assert ["tokens", "1"] in [line.split() for line in lines]
    assert not any(line.startswith("documents") for line in lines)
