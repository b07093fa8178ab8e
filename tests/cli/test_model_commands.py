"""The commands about trained models, as their users meet them."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import tokenloom as tl
from tokenloom.cli.main import main
from tokenloom.model.generation import Stepper


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
    error = f"tokenloom: error: {book!r} is a file, which has no split 'nowhere': "
    assert capsys.readouterr().err.startswith(error)


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


def test_generate_tells_how_likely_each_token_was(
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


def test_settings_of_other_values_are_refused_in_words_wherever_a_run_is_read(
    run: Path, book: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each setting in turn is missing or something else: an error, or it does not matter."""
    settings = json.loads((run / "settings.json").read_text())
    values: list[Any] = [None, "x", -1, [], {"x": 1}, math.nan, True, 10**30]
    doors = [
        ["show", str(run), "--step", "3"],
        ["evaluate", str(run), book, "--split", "held-out", "--quiet"],
        ["evaluate", str(run), book, "--quiet"],
        ["generate", str(run), "--prompt", "time", "--num-tokens", "1"],
    ]
    for number, name in enumerate(settings):
        kept = {other: value for other, value in settings.items() if other != name}
        wrong = [{**kept, name: values[(number + step) % 8]} for step in (0, 3)]
        for changed in (kept, *wrong):
            (run / "settings.json").write_text(json.dumps(changed))
            for door in doors:
                code = main(door)
                assert code == 0 or "error: " in capsys.readouterr().err, (door[0], changed)


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
