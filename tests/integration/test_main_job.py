"""From a name to a trained model and its text, as somebody on a fresh machine does it."""

import json
from pathlib import Path

import pytest

from tests.support.hub.file_server import Answer, serving
from tests.support.hub.time_machine import TIME_MACHINE, needs_time_machine
from tokenloom.cli.main import main

# A tenth of the textbook's units, and a few of its epochs.
SMALL = ["--hidden", "24", "--epochs", "30", "--device", "cpu"]


@needs_time_machine
@pytest.mark.slow
def test_the_time_machine_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real text comes over HTTP once, is learned from, and is gone on from."""
    monkeypatch.setenv("TOKENLOOM_CACHE", str(tmp_path / "cache"))
    run = tmp_path / "run"
    with serving({"/timemachine.txt": Answer(body=TIME_MACHINE.read_bytes())}) as server:
        monkeypatch.setenv("TOKENLOOM_MIRROR", server.url)
        assert main(["train", "time_machine", *SMALL, "--run", str(run)]) == 0
        assert main(["show", "time_machine", "--rows", "0"]) == 0
        assert server.asked == ["/timemachine.txt"]
    assert "generated: time traveller" in capsys.readouterr().out

    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    perplexities = [entry["perplexity"] for entry in metrics]
    assert (30, 240) == (len(metrics), metrics[-1]["step"])
    assert perplexities[-1] < 15 < perplexities[0]

    assert main(["generate", str(run), "--prompt", "time traveller", "--num-tokens", "20"]) == 0
    text = capsys.readouterr().out.rstrip("\n")
    assert (True, 34) == (text.startswith("time traveller"), len(text))


def test_without_a_network_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, exit code 1, nothing in the cache."""
    monkeypatch.setenv("TOKENLOOM_CACHE", str(tmp_path))
    with serving({}) as server:
        monkeypatch.setenv("TOKENLOOM_MIRROR", server.url)
        assert main(["train", "time_machine", "--run", str(tmp_path / "run")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected status 200, got 404" in line
    assert f"put the file at '{tmp_path / 'timemachine.txt'}' by hand" in line
    assert [] == list(tmp_path.iterdir())
