"""The command that measures a model."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import tokenloom as tl
from tests.support.training.trainings import SMALL
from tokenloom.cli.main import main


def test_evaluate_says_what_was_trained_on(
    split_store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr for people, and as a number for programs."""
    words = ["train", split_store, *SMALL, "--max-tokens", "all", "--run", "run", "--quiet"]
    assert main(words) == 0
    num_trained = len(tl.load("store/train"))
    seen = {}
    for name in ("store", "store/train", "store/valid", "book.txt"):
        capsys.readouterr()
        assert main(["evaluate", "run", name, "--json", "--quiet"]) == 0
        shown = capsys.readouterr()
        seen[name] = json.loads(shown.out)["num_trained_tokens"]
        assert bool(seen[name]) == ("the model was trained on" in shown.err)
    assert list(seen.values()) == [num_trained, num_trained, 0, num_trained]
    assert main(["evaluate", "run", "store", "--split", "held-out", "--json", "--quiet"]) == 0
    measured = json.loads(capsys.readouterr().out)
    last = tl.Run.open("run").metrics()[-1].held_out_perplexity
    assert last == pytest.approx(measured["perplexity"])
    assert ("store/valid", 0) == (measured["corpus"], measured["num_trained_tokens"])


def test_evaluate_prints_a_table(run: Path, book: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Perplexity, nats and bits of a token, of a character and of a byte."""
    assert main(["evaluate", str(run), book, "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    num_tokens = len(tl.load(book)) - 1
    assert f"book.txt: {num_tokens:,} tokens were predicted, once each\n" in shown
    token, character, byte = (line.split()[2:] for line in shown.splitlines()[2:5])
    assert token == character == byte


def test_words_have_fewer_bits_per_byte_than_per_token(
    book: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown word has no length: both say so, and why."""
    run = str(tmp_path / "run")
    assert main(["train", book, *SMALL, "--tokenizer", "word", "--run", run, "--json"]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert trained["held_out_perplexity"] > trained["held_out_perplexity_per_byte"] > 1
    assert main(["evaluate", run, book, "--split", "held-out", "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    for unit in ("character", "byte"):
        expected = trained[f"held_out_perplexity_per_{unit}"]
        assert pytest.approx(expected) == found[f"perplexity_per_{unit}"]
    other = tmp_path / "other.txt"
    other.write_text("the zyzzyva of the book", encoding="utf-8")
    assert main(["evaluate", run, str(other)]) == 0
    shown = capsys.readouterr()
    assert re.search("per byte +unknown +unknown +unknown", shown.out)
    assert "no perplexity per character and per byte: some tokens are unknown" in shown.err


def test_evaluate_gives_the_held_out_perplexity_again(
    run: Path, book: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last of the run's metrics, for programs too."""
    options = ["--split", "held-out", "--device", "cpu", "--json"]
    assert main(["evaluate", str(run), book, *options]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = tl.Run.open(run).metrics()[-1].held_out_perplexity
    assert (pytest.approx(expected), "held-out") == (found["perplexity"], found["split"])


def test_evaluate_reports_errors_in_a_line(
    run: Path, book: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A split that is none ends without a traceback, and those of the run are named."""
    assert main(["evaluate", str(run), book, "--split", "nowhere"]) == 1
    error = (
        f"tokenloom: error: {book!r} is a file, which has no split 'nowhere': use 'held-out' or "
        "'trained', which are parts of the run's text, or leave the split out\n"
    )
    assert error == capsys.readouterr().err


@pytest.mark.parametrize("name", ["num_tokens", "num_held_out_tokens"])
@pytest.mark.parametrize("value", [None, "x", [], {}])
def test_what_a_run_held_out_is_not_counted_with_damaged_settings(
    name: str, value: Any, run: Path, book: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the setting."""
    settings = json.loads((run / "settings.json").read_text())
    (run / "settings.json").write_text(json.dumps({**settings, name: value}))
    assert main(["evaluate", str(run), book, "--split", "held-out"]) == 1
    assert f"are damaged: {name} must be an integer, got" in capsys.readouterr().err
