"""The command that writes text."""

import json
from pathlib import Path
from typing import cast

import pytest
import torch

import tokenloom as tl
from tests.support.training.trainings import SMALL
from tokenloom.cli.main import main
from tokenloom.model.generation import Stepper


def test_the_best_checkpoint_is_taken_when_asked_for(
    book: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last one by default; without held-out text none is the best."""
    run, plain = tmp_path / "run", tmp_path / "plain"
    # So steep that the last epoch is not the best.
    arguments = ["train", book, *SMALL, "--epochs", "12", "--lr", "20", "--quiet"]
    assert main([*arguments, "--run", str(run)]) == 0
    assert main([*arguments, "--run", str(plain), "--held-out", "0", "--epochs", "1"]) == 0
    perplexities = [entry.held_out_perplexity for entry in tl.Run.open(run).metrics()]
    assert perplexities[-1] != min(filter(None, perplexities))
    capsys.readouterr()
    for best in ([], ["--best"]):
        assert main(["generate", str(run), "--prompt", "time", *best]) == 0
    last, best_text = capsys.readouterr().out.splitlines()
    assert last != best_text
    assert main(["generate", str(plain), "--prompt", "time", "--best"]) == 1
    assert "expected a best checkpoint in" in capsys.readouterr().err


def test_generate_goes_on_from_the_prompt(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So many characters are written after it."""
    assert main(["generate", str(run), "--prompt", "Time ", "--num-tokens", "7"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Time ")
    assert len(text) == len("Time ") + 7 + len("\n")


def test_generate_draws_by_seed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same seed writes the same text."""
    texts = []
    for seed in ("1", "1", "2"):
        options = ["--temperature", "2", "--top-k", "9", "--seed", seed]
        assert main(["generate", str(run), "--prompt", "time", *options]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]


def test_generate_prints_as_it_comes(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each token is shown before the next one is written."""
    shown: list[str] = []
    step = Stepper.step

    def spy(self: Stepper, ids: torch.Tensor) -> None:
        shown.append(capsys.readouterr().out)
        step(self, ids)

    monkeypatch.setattr(Stepper, "step", spy)
    assert main(["generate", str(run), "--prompt", "time", "--num-tokens", "4"]) == 0
    assert [5, 1, 1] == [len(text) for text in shown]
    assert shown[0].startswith("time")


def test_generate_takes_several_prompts(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each text has a line, and is the one that its prompt has alone."""
    options = ["--num-tokens", "9", "--temperature", "1", "--top-p", "0.9"]
    lines = []
    for prompts in (["--prompt", "time"], ["--prompt", "so"]):
        assert main(["generate", str(run), *prompts, *options]) == 0
        lines.append(capsys.readouterr().out)
    assert main(["generate", str(run), "--prompt", "time", "--prompt", "so", *options]) == 0
    assert "".join(lines) == capsys.readouterr().out


def test_generate_prints_how_likely_each_token_was(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a table, and for programs."""
    options = [str(run), "--prompt", "time", "--num-tokens", "3", "--log-probs"]
    assert main(["generate", *options]) == 0
    text, header, *rows = capsys.readouterr().out.splitlines()
    assert (len("time") + 3, ["TOKEN", "LOG-PROBABILITY"]) == (len(text), header.split())
    assert main(["generate", *options, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["texts"]
    assert text == found["prompt"] + found["generated"]
    assert [row.split()[-1] for row in rows] == [f"{value:.4f}" for value in found["log_probs"]]


def test_generate_names_what_the_model_does_not_know(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr, and the text comes all the same."""
    assert main(["generate", str(run), "--prompt", "zq", "--num-tokens", "2"]) == 0
    shown = capsys.readouterr()
    assert "warning: the model does not know 'z', 'q' in the prompt 'zq'" in shown.err
    assert shown.out.startswith("zq")


def test_generate_stops_where_documents_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A store has put a token after each document, and the run knows it; both may be overruled."""
    (tmp_path / "lines.txt").write_text("abcde\n" * 300)
    store, run = str(tmp_path / "store"), str(tmp_path / "run")
    options = ["--documents", "line", "--end-of-document", "<eod>", "--workers", "0", "--quiet"]
    assert main(["prepare", str(tmp_path / "lines.txt"), *options, "-o", store]) == 0
    assert main(["train", store, *SMALL, "--epochs", "6", "--quiet", "--run", run]) == 0
    trained = capsys.readouterr().out
    assert tl.Run.open(run).settings["end_id"] == tl.Run.open(run).load_model().end_id == 1
    assert "generated: abcde\n" in trained
    assert "--prompt abc\n" in trained
    command = ["generate", run, "--num-tokens", "9"]
    id_of_d = cast("tl.Vocab", tl.load(store).vocab)["d"]
    for more, expected in (
        (["--prompt", "ab"], "abcde\n"),
        (["--prompt", "ab", "--prompt", "d"], "abcde\nde\n"),
        (["--prompt", "ab", "--stop-at", "d"], "abc\n"),
        (["--prompt", "ab", "--stop-at", str(id_of_d)], "abc\n"),
        (["--prompt", "ab", "--no-stop"], "abcde<eod>abcde\n"),
    ):
        assert main([*command, *more]) == 0
        assert capsys.readouterr().out == expected
    assert main([*command, "--prompt", "ab", "--prompt", "bc", "--json", "--log-probs"]) == 0
    found = json.loads(capsys.readouterr().out)["texts"]
    assert ["cde", "de"] == [text["generated"] for text in found]
    assert [4, 3] == [len(text["ids"]) for text in found] == [len(t["log_probs"]) for t in found]
    assert {"stop"} == {text["finish_reason"] for text in found}
    assert main([*command, "--prompt", "ab", "--stop-at", "x"]) == 1
    assert "--stop-at must be an id in [0, 7), or a token of the" in capsys.readouterr().err
