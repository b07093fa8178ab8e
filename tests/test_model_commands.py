"""The commands about trained models, as their users meet them."""

import json
from pathlib import Path

import pytest

import tokenloom as tl
from tokenloom.cli import main

BOOK = "The Time Traveller (for so it will be convenient to speak of him)\n" * 30
SMALL = ["--batch-size", "4", "--seq-len", "10", "--hidden", "16", "--epochs", "2"]


@pytest.fixture
def book(tmp_path: Path) -> str:
    """Return the path of a small text file."""
    path = tmp_path / "book.txt"
    path.write_text(BOOK, encoding="utf-8")
    return str(path)


@pytest.fixture
def run(book: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Return the folder of a small run."""
    folder = tmp_path / "run"
    assert main(["train", book, *SMALL, "--device", "cpu", "--run", str(folder)]) == 0
    capsys.readouterr()
    return folder


def test_evaluate_prints_a_table(run: Path, book: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Perplexity, and nats and bits of a token and of a character."""
    assert main(["evaluate", str(run), book, "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    num_tokens = len(tl.load(book)) - 1
    assert f"book.txt: {num_tokens:,} tokens were predicted, once each\nperplexity " in shown
    token, character = (line.split()[2:] for line in shown.splitlines()[3:5])
    assert token == character


def test_evaluate_gives_the_held_out_perplexity_again(
    run: Path, book: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last of the run's metrics, for programs too."""
    options = ["--split", "held-out", "--device", "cpu", "--json"]
    assert main(["evaluate", str(run), book, *options]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = tl.Run.open(run).metrics()[-1].held_out_perplexity
    assert (pytest.approx(expected), "held-out") == (found["perplexity"], found["split"])


def test_evaluate_tells_errors_in_a_line(
    run: Path, book: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A split that is none ends without a traceback."""
    assert main(["evaluate", str(run), book, "--split", "nowhere"]) == 1
    assert capsys.readouterr().err.startswith("tokenloom: error: a corpus must be one of ")
