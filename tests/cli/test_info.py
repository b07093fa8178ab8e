"""The command that describes stores."""

import json
import re
import sys
from pathlib import Path
from unicodedata import east_asian_width

import pytest

import tokenloom as tl
from tests.cli.printing import printed
from tests.support.preparation.stores import make_store, make_store_of_sources
from tests.support.text.subwords import make_bpe, write_bpe
from tokenloom.cli.main import main
from tokenloom.preparation.options import PrepareOptions
from tokenloom.preparation.prepare import prepare
from tokenloom.text import by_value


def test_info_prints_what_is_in_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers come in a table, and the most frequent tokens on demand."""
    folder = str(make_store(tmp_path / "store"))
    assert main(["info", folder, "--top", "2"]) == 0
    out = capsys.readouterr().out
    rows = [line.split(maxsplit=1) for line in out.splitlines()]
    assert [["tokens", "10"], ["vocabulary", "9"], ["documents", "3"]] == rows[1:4]
    most, rarest = out.split("\n\n")[1:]
    header = "COUNT  SHARE     ID  TOKEN, THE "
    lines = ["2      20.0000%  1   'to'", "2      20.0000%  2   'be'"]
    assert [f"{header}MOST FREQUENT", *lines] == most.splitlines()
    lines = ["1      10.0000%  3   'or'", "1      10.0000%  4   'not'"]
    assert [f"{header}RAREST", *lines] == rarest.splitlines()


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_package_that_is_missing_is_named(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Numbers are printed all the same, and a message says what shows the tokens."""
    corpus = tl.Corpus.from_text("to be or not to be", tokenizer=make_bpe())
    store = str(corpus.save(tmp_path / "store"))
    assert main(["info", store, *words]) == 0
    assert not capsys.readouterr().err
    monkeypatch.setattr(by_value, "_encoders", {})
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert main(["info", store, *words]) == 0
    shown = capsys.readouterr()
    assert "no texts of tokens: encoding or decoding text" in shown.err
    assert "python -m pip install 'tokenloom[tokenizers]'" in shown.err
    assert ("null" if words else "?") in shown.out


def test_a_table_of_tokens_fits_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Long tokens are cut, wide ones sooner, and control characters are not obeyed."""
    words = ["a" * 200, "\u6642" * 200, "\x1b[31mred\u202e", "\U0001f600" * 30]
    corpus = tl.Corpus.from_text(" ".join(words), tokenizer="word", normalize=False)
    corpus.save(tmp_path / "store")
    lines = printed(["info", str(tmp_path / "store")], capsys)
    tokens = [line for line in lines if "%  " in line]
    assert 8 == len(tokens)
    widths = [sum(1 + (east_asian_width(char) in "WF") for char in line) for line in tokens]
    assert max(widths) <= 80
    assert sum(line.endswith("...") for line in tokens) == 6
    assert any(line.endswith(r"'\x1b[31mred\u202e'") for line in tokens)


def test_a_large_store_is_counted_on_demand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that the command answers at once, however many ids there are."""
    folder = str(tl.Corpus.from_tokens(range(9), vocab_size=(1 << 20) + 1).save(tmp_path / "store"))
    assert main(["info", folder]) == 0
    assert "TOKEN" not in capsys.readouterr().out
    assert main(["info", folder, "--top", "1"]) == 0
    assert "TOKEN, THE RAREST" in capsys.readouterr().out


def test_a_split_has_its_own_unknown_tokens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are counted, as of a store that was not prepared."""
    corpus = tl.Corpus.from_text("a a b b c d", tokenizer="word", min_freq=2)
    folder = corpus.save(tmp_path / "store", splits={"rest": (3, 6)})
    assert main(["info", f"{folder}/rest", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (2 / 3, None, 1) == (
        found["unknown_rate"],
        found["decoded_bytes_per_token"],
        found["num_unused_ids"],
    )
    assert [0, 2] == [row["id"] for row in found["most_frequent"]]


@pytest.mark.parametrize("top", [["--top", "0"], ["--top", "1"]])
def test_info_in_json(tmp_path: Path, top: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A program reads the same."""
    folder = str(make_store(tmp_path / "store"))
    assert main(["info", folder, "--json", *top]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (10, 3) == (result["num_tokens"], result["num_shards"])
    assert (top[1] == "1") == ("most_frequent" in result) == ("rarest" in result)


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
    assert main(["info", f"{folder}/train"]) == 0
    assert "\nbytes of the store " in capsys.readouterr().out
    assert main(["info", folder]) == 0
    assert "\nbytes  " in capsys.readouterr().out
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
    rows = dict(
        re.split("  +", line) for line in printed(["info", str(folder), "--top", "0"], capsys)
    )
    assert expected == rows["sources"]
    assert ("2.50", "10", "12.5000%", "by line") == (
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
    rows = dict(
        re.split("  +", line) for line in printed(["info", str(folder), "--top", "0"], capsys)
    )
    assert ("1 token from 0", "2 tokens from 1") == (rows["split first"], rows["split rest"])


def test_a_split_without_documents_is_described(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has no row of documents, as its store has none."""
    tl.Corpus.from_tokens([1, 2, 3]).save(tmp_path / "store", splits={"first": (0, 1)})
    lines = printed(["info", str(tmp_path / "store" / "first")], capsys)
    assert ["tokens", "1"] in [line.split() for line in lines]
    assert not any(line.startswith("documents") for line in lines)


def test_facts_are_shown_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No JSON, and no value as Python writes it."""
    reserved = [f"<{number}>" for number in range(9)]
    options = PrepareOptions(reserved_tokens=reserved, encoding="utf-16", on_error="replace")
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("to be or not", encoding="utf-16")
    sources = {"train": tmp_path / "a.txt", "valid": tmp_path / "b.txt"}
    prepare(sources, tmp_path / "store", tokenizer="word", options=options)
    write_bpe(tmp_path / "tokenizer.json")
    (tmp_path / "c.txt").write_text("to be or not")
    prepare(tmp_path / "c.txt", tmp_path / "bpe", tokenizer=tmp_path / "tokenizer.json")
    shown = ""
    for name in ("store", "bpe"):
        assert main(["info", str(tmp_path / name), "--top", "0"]) == 0
        shown += capsys.readouterr().out
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    expected = [
        "tokenizer word, normalize yes",
        "unknown of splits train 0, valid 0",
        "option reserved_tokens <0>, <1>, <2>, <3>, <4>, <5>, and 3 more",
        "option task_bytes 4,194,304",
        "option sources_of_splits train 1, valid 1",
    ]
    assert [line for line in expected if line not in lines] == []
    described = r"tokenizer tokenizers, vocab size \d+, sha256:\w+, allow special no"
    assert any(re.fullmatch(described, line) for line in lines)
    assert not set("{}[]\"'") & set(shown.replace(str(tmp_path), ""))
