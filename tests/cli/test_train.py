"""The command that trains."""

import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

import tokenloom as tl
from tests.support.text.subwords import END, write_bpe
from tests.support.training.trainings import SMALL, weights_of
from tokenloom.cli.main import main
from tokenloom.text import by_value
from tokenloom.text.huggingface import HuggingFaceTokenizer


def test_train_prints_what_came_of_it(
    book: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Results go to stdout, messages to stderr."""
    code = main(["train", book, *SMALL, "--run", str(tmp_path / "run"), "--prompt", "time"])
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    beginnings = ["perplexity ", "held-out perplexity ", "", "plot: ", "run: ", "generated: time"]
    assert code == 0
    assert [True] * 6 == [a.startswith(b) for a, b in zip(lines, beginnings, strict=False)]
    assert "tokens per second on cpu" in lines[2]
    assert shown.err.startswith("tokenloom: training on ")
    epochs = [line.split(":")[0] for line in shown.err.splitlines()[1:]]
    assert [f"epoch {number} of {len(epochs)}" for number in range(1, len(epochs) + 1)] == epochs


def test_the_last_line_says_what_to_do_next(
    book: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is a command that works: with the best model, where that is not the last one."""
    run = str(tmp_path / "run")
    words = ["train", book, *SMALL, "--run", run, "--quiet"]
    assert main(words) == 0
    assert f"next: tokenloom generate {run} --prompt " in capsys.readouterr().out.splitlines()[-1]
    # The more it knows of the training text, the less of the other one.
    assert main(["train", "--resume", run, "--epochs", "60", "--quiet"]) == 0
    history = tl.Run.open(run).metrics()
    best = min(history, key=lambda entry: entry.held_out_perplexity or math.inf)
    assert best.epoch < 59
    line = capsys.readouterr().out.splitlines()[-1]
    expected = f"best held-out perplexity {best.held_out_perplexity:.2f} at epoch {best.epoch + 1}"
    assert line.startswith(f"{expected}: tokenloom generate {run} --best --prompt ")
    assert main(shlex.split(line.partition(": tokenloom ")[2])) == 0


def test_training_is_measured_per_character_too(
    book: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that words can be compared with characters, also before the last epoch."""
    run = str(tmp_path / "run")
    assert main(["train", book, *SMALL, "--tokenizer", "word", "--run", run]) == 0
    shown = capsys.readouterr()
    last = tl.Run.open(run).metrics()[-1]
    per_character = last.perplexity_per_character
    corpus = tl.load(book, tokenizer="word")
    train = corpus.first(tl.Run.open(run).settings["num_tokens"])
    num_characters = tl.corpus.measure_text(train).num_characters
    assert num_characters is not None
    assert per_character is not None
    nats = math.log(last.perplexity) * len(train) / num_characters
    assert pytest.approx(math.exp(nats)) == per_character
    assert f"perplexity {last.perplexity:.2f} ({per_character:.2f} per character)" in shown.err
    assert f"perplexity {last.perplexity:.2f}, {per_character:.2f} per character" in shown.out


def test_train_on_the_most_frequent_tokens(
    book: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run keeps the vocabulary; where nothing is learnt the number is refused."""
    run = str(tmp_path / "run")
    assert main(["train", book, *SMALL, "--vocab-size", "9", "--run", run]) == 0
    assert 9 == tl.Run.open(run).load_model().vocab_size
    capsys.readouterr()
    assert main(["train", book, *SMALL, "--tokenizer", "byte", "--vocab-size", "9"]) == 1
    assert "leave out --vocab-size: --tokenizer byte learns no ids" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", [["--resume", "{run}", "--epochs", "1"], [*SMALL, "--run", "{run}"]]
)
def test_a_training_that_is_refused_is_not_announced(
    wrong: list[str], book: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither where the run must have more epochs, nor where its folder is taken."""
    run = str(tmp_path / "run")
    assert main(["train", book, *SMALL, "--run", run]) == 0
    capsys.readouterr()
    words = [word.format(run=run) for word in wrong]
    assert main(["train", *([] if "--resume" in words else [book]), *words]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("tokenloom: error: "), shown.err
    assert "training on" not in shown.err


@pytest.mark.parametrize(
    ("options", "how_much"),
    [
        (
            ["--max-tokens", "500"],
            "500 of 1,890 tokens; --max-tokens all for the rest; held out: the 56 tokens",
        ),
        (["--max-tokens", "500", "--held-out", "0"], "500 of 1,890 tokens; --max-tokens all for "),
        (["--max-tokens", "all"], "1,701 of 1,890 tokens; held out: the last 10 %, 189 tokens; "),
        (["--max-tokens", "1701"], "1,701 of 1,890 tokens; held out: the last 10 %, 189 tokens; "),
        (["--held-out", "0"], "1,890 tokens; "),
        ([], "1,701 of 1,890 tokens; held out: the last 10 %, 189 tokens; "),
    ],
)
def test_train_says_how_much_it_leaves_out(
    options: list[str],
    how_much: str,
    book: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And how to train on the rest; where it leaves out nothing, it says nothing."""
    folder = str(tmp_path / "run")
    assert main(["train", book, *SMALL, *options, "--epochs", "1", "--run", folder]) == 0
    shown = capsys.readouterr()
    assert shown.err.startswith(f"tokenloom: training on {book}: {how_much}")
    assert shown.err.splitlines()[0].endswith(f"; results go to {folder}")
    assert " after 1 epoch\n" in shown.out


@pytest.mark.parametrize("model", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("order", ["sequential", "random"])
def test_every_model_trains_in_every_order(
    model: str, order: str, book: str, tmp_path: Path
) -> None:
    """The settings hold what was chosen."""
    folder = tmp_path / "run"
    choice = ["--model", model, "--order", order, "--layers", "2", "--tokenizer", "byte"]
    assert main(["train", book, *SMALL, *choice, "--run", str(folder)]) == 0
    settings = json.loads((folder / "settings.json").read_text())
    chosen = settings["order"], settings["model"]["rnn"].lower(), settings["model"]["num_layers"]
    assert (order, model, 2) == chosen


def test_two_directions_warn_in_one_line(
    book: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The training completes, and its user is warned that the model sees the future."""
    folder = str(tmp_path / "run")
    assert main(["train", book, *SMALL, "--bidirectional", "--run", folder]) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith("tokenloom: warning: a model with two directions sees the future")


def test_training_is_seeded(book: str, tmp_path: Path) -> None:
    """The same seed gives the same weights, another seed others."""
    weights = []
    for number, seed in enumerate(("1", "1", "2")):
        folder = tmp_path / f"run-{number}"
        assert main(["train", book, *SMALL, "--seed", seed, "--run", str(folder)]) == 0
        weights.append(tl.Run.open(folder).load_model().linear.weight)
    assert [True, False] == [torch.equal(weights[0], other) for other in weights[1:]]


def test_a_resident_text_trains_the_same_model(book: str, tmp_path: Path) -> None:
    """Where the batches are gathered changes none, nor where a run goes on."""
    command = ["train", book, *SMALL, "--device", "cpu", "--quiet", "--run"]
    assert main([*command, str(tmp_path / "copied")]) == 0
    assert main([*command, str(tmp_path / "resident"), "--resident", "--epochs", "2"]) == 0
    resumed = ["train", "--resume", str(tmp_path / "resident"), "--epochs", "3"]
    assert main([*resumed, "--resident", "--device", "cpu", "--quiet"]) == 0
    models = [tl.Run.open(tmp_path / name).load_model() for name in ("copied", "resident")]
    assert weights_of(models[0]) == weights_of(models[1])


def test_a_resident_text_needs_no_workers(book: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody could help to gather it."""
    assert main(["train", book, *SMALL, "--resident", "--workers", "2"]) == 1
    assert "no worker can help: use --workers 0, got 2" in capsys.readouterr().err


def test_a_run_is_named_after_its_corpus_by_default(
    book: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lies in the folder runs, with the time in its name."""
    monkeypatch.chdir(tmp_path)
    assert main(["train", book, *SMALL]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("book-2")


def test_train_for_programs(book: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What came of it, and nothing else, on stdout."""
    folder = tmp_path / "run"
    assert main(["train", book, *SMALL, "--run", str(folder), "--json", "--prompt", "time"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [
        "num_epochs",
        "perplexity",
        "perplexity_per_character",
        "perplexity_per_byte",
        "held_out_perplexity",
        "held_out_perplexity_per_character",
        "held_out_perplexity_per_byte",
        "held_out_perplexity_by_part",
        "best_epoch",
        "best_held_out_perplexity",
        "tokens_per_second",
        "device",
        "plot",
        "run",
        "generated",
    ] == list(found)
    last = tl.Run.open(folder).metrics()[-1]
    assert (3, last.perplexity, str(folder)) == (
        found["num_epochs"],
        found["perplexity"],
        found["run"],
    )
    assert found["generated"].startswith("time")


def test_resume_goes_on_with_more_epochs(
    book: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder holds all the rest; the weights are those of one long run."""
    recipe = ["--optimizer", "adamw", "--lr", "0.01", "--accumulate", "2", "--model", "gru"]
    folders = [tmp_path / "whole", tmp_path / "run"]
    for folder in folders:
        assert main(["train", book, *SMALL, *recipe, "--run", str(folder)]) == 0
    whole, run = folders
    assert main(["train", "--resume", str(whole), "--epochs", "5"]) == 0
    assert main(["train", "--resume", str(run), "--epochs", "4", "--workers", "1"]) == 0
    assert main(["train", "--resume", str(run), "--epochs", "5", "--threads", "1"]) == 0
    first, second = (tl.Run.open(folder) for folder in folders)
    assert [0, 1, 2, 3, 4] == [entry.epoch for entry in second.metrics()]
    assert first.load_model().linear.weight.equal(second.load_model().linear.weight)
    assert "after 5 epochs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (
            [],
            "to train longer: tokenloom train --resume run --epochs 6; to train on more",
        ),
        (
            ["--schedule", "cosine"],
            "schedule 'cosine' ends there, so longer training needs a new run",
        ),
    ],
)
def test_a_run_at_its_end_says_how_to_go_on(
    options: list[str],
    hint: str,
    book: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Only where nothing was left to train."""
    monkeypatch.chdir(tmp_path)
    expected = "nothing is left to train: the run has completed 3 epochs; "
    recipe = [*SMALL, *options, "--epochs", "3"]
    assert main(["train", book, *recipe, "--run", "run", "--quiet"]) == 0
    assert expected not in capsys.readouterr().err
    assert main(["train", "--resume", "run", "--quiet"]) == 0
    error = capsys.readouterr().err
    assert expected in error
    assert "training on" not in error
    assert hint in error
    assert "start a new run with --max-tokens N or all" in error
    if not options:
        assert main(["train", "--resume", "run", "--epochs", "4", "--quiet"]) == 0
        assert "nothing is left" not in capsys.readouterr().err


def test_documents_are_kept_apart_by_default(tmp_path: Path) -> None:
    """The hidden state begins afresh where one starts; a run goes on as it was begun."""
    store = tmp_path / "store"
    tl.Corpus.from_documents(["the time traveller for so"] * 30).save(store)
    found = {}
    for name, options in (("apart", []), ("across", ["--across-documents"])):
        run = tmp_path / name
        assert main(["train", str(store), *SMALL, *options, "--run", str(run)]) == 0
        losses = tl.Run.open(run).losses()[0].losses
        assert main(["train", "--resume", str(run), "--epochs", "4"]) == 0
        found[name] = losses, tl.Run.open(run).settings["resets"]
    assert [True, False] == [resets for _, resets in found.values()]
    assert found["apart"][0] != found["across"][0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--across-documents"], "leave out --across-documents beside --resume"),
        (["--lr", "1.0"], "leave out --lr beside --resume"),
        (["--hidden", "8", "--order", "random"], "leave out --hidden, --order beside --resume"),
        (["time_machine"], "leave out CORPUS beside --resume"),
        (["python_docs", "--lr", "1.0"], "leave out CORPUS, --lr beside --resume"),
        (["--epochs", "2"], "begun with --epochs 3, got --epochs 2: a run can be made longer"),
    ],
)
def test_resume_refuses_what_the_settings_say(
    options: list[str], message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where it is the same: what was typed is meant to have an effect."""
    assert main(["train", "--resume", str(run), *options]) == 1
    assert message in capsys.readouterr().err


def test_resume_refuses_another_text(
    book: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file was changed since; nothing is trained."""
    Path(book).write_text("The Time Machine, by somebody else\n" * 60, encoding="utf-8")
    assert main(["train", "--resume", str(run), "--epochs", "5"]) == 1
    assert "put the text there that it was trained on" in capsys.readouterr().err


def test_resume_refuses_a_run_of_an_older_release(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its settings lack what is needed."""
    settings = json.loads((run / "settings.json").read_text())
    (run / "settings.json").write_text(json.dumps({**settings, "version": 2}))
    assert main(["train", "--resume", str(run)]) == 1
    assert "cannot be resumed: an older release made it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 4}, "reads settings of version 3, got 4: use the release that made it"),
        ({"version": "3"}, "reads settings of version 3, got '3'"),
        ({"lr": None}, "lr must be a number, there is none"),
        ({"model": None}, "model must be an object, there is none"),
        ({"num_epochs": 1 << 62}, "num_epochs must be at most "),
        ({"model": {"rnn": "GRU"}}, "the description of the model cannot be used"),
        ({"num_held_out_tokens": None}, "num_held_out_tokens must be an integer, there is none"),
        ({"corpus": 5}, "corpus must be a string, got 5"),
        ({"batch_size": "4"}, "batch sizes that change must be such as '0:32,10000:64', got '4'"),
        ({"num_threads": 0}, "num_threads must be an integer in [1, "),
        ({"seed": -1}, "seed must be an integer in [0, "),
        ({"run_options": {"often": True}}, "run_options cannot be {'often': True}"),
        ({"optimizer": "lion"}, "optimizer must be 'sgd' or 'adamw', got 'lion'"),
    ],
)
def test_resume_names_the_setting_that_cannot_be_used(
    change: dict[str, Any], message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever was written into the file, or left out: one line, and no traceback."""
    settings = {**json.loads((run / "settings.json").read_text()), **change}
    kept = {name: value for name, value in settings.items() if value is not None}
    (run / "settings.json").write_text(json.dumps(kept))
    assert main(["train", "--resume", str(run)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_resume_refuses_a_run_without_end(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A program may begin one, and can go on with it."""
    settings = json.loads((run / "settings.json").read_text())
    (run / "settings.json").write_text(json.dumps({**settings, "num_epochs": None}))
    assert main(["train", "--resume", str(run)]) == 1
    assert "resume it in the program that began it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("count", "more", "message"),
    [
        ("0", [], "must be new or empty"),
        ("1", [], ""),
        ("1", ["--lr", "0.5"], "the run is of another training"),
    ],
)
def test_a_restart_resumes_the_same_training_alone(
    count: str,
    more: list[str],
    message: str,
    book: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the first start the folder must be new; a restart resumes no other training."""
    folder = tmp_path / "run"
    arguments = ["train", book, *SMALL, "--run", str(folder)]
    assert main(arguments) == 0
    capsys.readouterr()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", count)
    before = (folder / "settings.json").read_bytes()
    assert main([*arguments, *more]) == bool(message)
    assert message in capsys.readouterr().err
    assert before == (folder / "settings.json").read_bytes()


def test_a_killed_run_is_resumed(book: str, tmp_path: Path) -> None:
    """SIGKILL from outside, then --resume: the weights are those of a run that was not killed."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    arguments = ["train", book, *SMALL, "--epochs", "40", "--checkpoint-steps", "3", "--quiet"]
    assert main([*arguments, "--run", str(whole)]) == 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tokenloom", *arguments, "--run", str(killed)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment) as process:
        while not list(killed.glob("checkpoints/step-*[1-9]-*.pt")):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    assert main(["train", "--resume", str(killed), "--quiet"]) == 0
    assert (whole / "losses.jsonl").read_text() == (killed / "losses.jsonl").read_text()
    models = [tl.Run.open(folder).load_model() for folder in (whole, killed)]
    assert models[0].linear.weight.equal(models[1].linear.weight)


@pytest.mark.usefixtures("poem")
def test_a_text_without_a_prompt_begins_with_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where nobody knows a good beginning, generated text begins as the corpus does."""
    assert main(["train", "poem", *SMALL, "--run", str(tmp_path / "run")]) == 0
    assert "generated: the time tra" in capsys.readouterr().out


@pytest.mark.slow
def test_ctrl_c_leaves_a_usable_checkpoint(book: str, tmp_path: Path) -> None:
    """A real SIGINT ends the process with its exit code and a run that generates."""
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "tokenloom", "train", book, *SMALL, "--run", str(folder)]
    command[command.index("3")] = "1000000"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        while not (folder / "metrics.jsonl").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        try:
            _, messages = process.communicate(timeout=240)
        finally:
            process.kill()
    assert process.returncode == 130
    assert f"a usable checkpoint is in {folder}" in messages
    assert messages.count("stopped by Ctrl-C") == 1
    assert "Traceback" not in messages
    assert (folder / "perplexity.png").exists()
    assert main(["generate", str(folder), "--prompt", "time"]) == 0


def test_a_prompt_of_no_token_is_found_before_training(
    book: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody trains for an hour to learn that."""
    folder = tmp_path / "run"
    assert main(["train", book, *SMALL, "--prompt", "!!!", "--run", str(folder)]) == 1
    assert "prompt must hold at least one token, got '!!!'" in capsys.readouterr().err
    assert not folder.exists()


def settings_of(run: str) -> dict[str, Any]:
    """Return the settings of a run."""
    return tl.Run.open(run).settings


@pytest.mark.parametrize(
    ("options", "trained", "held_out"),
    [
        ([], "store/train", "store/valid"),
        (["--held-out", "test"], "store/train", "store/test"),
        (["--held-out", "0"], "store/train", None),
        (["--held-out", "0.25"], "store/train", "store/train"),
        (["--split", "test"], "store/test", "store/valid"),
        (["--split", "valid"], "store/valid", "store/valid"),
    ],
)
def test_train_takes_the_splits_of_a_store(
    options: list[str], trained: str, held_out: str | None, split_store: str
) -> None:
    """It trains on "train" and measures on "valid", unless others are named."""
    words = ["train", split_store, *SMALL, "--max-tokens", "all", "--run", "run", "--quiet"]
    assert main([*words, *options]) == 0
    settings = settings_of("run")
    assert (trained, held_out) == (settings["corpus"], settings["held_out"])
    if trained != held_out:
        assert tl.load(trained).hash == settings["corpus_hash"]
        assert held_out is None or tl.load(held_out).hash == settings["held_out_hash"]
    assert main(["train", "--resume", "run", "--epochs", "4", "--quiet"]) == 0


def test_max_tokens_shortens_the_training_split_only(
    split_store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is measured on is all of its split, and the command reports both."""
    words = ["train", f"{split_store}/train", *SMALL, "--max-tokens", "300", "--run", "run"]
    assert main([*words, "--quiet"]) == 0
    settings = settings_of("run")
    num_valid = len(tl.load("store/valid"))
    assert (300, num_valid) == (settings["num_tokens"], settings["num_held_out_tokens"])
    messages = capsys.readouterr().err
    assert f"held out: store/valid, {num_valid} tokens" in messages
    assert "300 of 1,323 tokens; --max-tokens all for the rest" in messages


def test_many_files_are_trained_on_as_one(
    book: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a pattern, which the run keeps: by that it is resumed and evaluated."""
    monkeypatch.chdir(tmp_path)
    corpus = tl.load(book, tokenizer="char")
    for number, part in enumerate(corpus.split(0.31)):
        tl.corpus.write_nanogpt(part, f"shard_{number}.bin")
    assert main(["train", "shard_*.bin", *SMALL, "--epochs", "1"]) == 0
    (run,) = Path("runs").iterdir()
    assert run.name.startswith("shard__.bin-")
    assert main(["train", "--resume", str(run), "--epochs", "2"]) == 0
    shown = capsys.readouterr()
    assert "training on shard_*.bin: 1,701 tokens" in shown.err
    assert "; resumes after step 42 of 84 (epoch 2 of 2)" in shown.err
    assert main(["evaluate", str(run), "shard_*.bin", "--split", "held-out"]) == 0
    assert main(["show", "shard_*.bin", "--rows", "0"]) == 0
    assert "shard_0.bin" in capsys.readouterr().out

    Path("shard_2.bin").write_bytes(Path("shard_0.bin").read_bytes())
    Path("shard_0.bin").unlink()
    assert main(["train", "--resume", str(run), "--epochs", "3"]) == 1
    assert "was trained on 1,701 tokens of sha256:" in capsys.readouterr().err
    assert main(["train", "shard_*.bin", "--tokenizer", "word"]) == 1
    assert "--tokenizer must be left out for 'shard_1.bin'" in capsys.readouterr().err
    assert main(["train", "shard_*.bin", "--raw"]) == 1
    assert "leave out --raw: shard_*.bin means several token files" in capsys.readouterr().err


def test_a_token_file_is_trained_on_by_its_name(
    book: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the tokenizer beside it, or with one that is named; without any it is refused."""
    monkeypatch.chdir(tmp_path)
    corpus = tl.load(book, tokenizer="char")
    corpus.save("store")
    tl.corpus.write_nanogpt(corpus, "train.bin")
    assert main(["train", "train.bin", *SMALL, "--run", "run"]) == 0
    assert main(["show", "run", "--step", "1", "--rows", "0"]) == 0
    assert corpus.decode(corpus.tokens[5:15]) in capsys.readouterr().out
    Path("meta.pkl").unlink()
    assert main(["train", "train.bin", *SMALL]) == 1
    assert "name the tokenizer that made it with --tokenizer" in capsys.readouterr().err
    assert main(["train", "train.bin", *SMALL, "--tokenizer", "store", "--run", "named"]) == 0
    assert main(["evaluate", "named", "train.bin", "--split", "held-out"]) == 0
    assert "train.bin, split held-out" in capsys.readouterr().out
    assert main(["prepare", "train.bin", "-o", "new"]) == 1
    assert "train.bin must be text in utf-8, but it is a file of token ids" in (
        capsys.readouterr().err
    )


def test_a_restart_needs_a_folder_with_a_name(
    book: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that is made up would be another one after the restart."""
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    assert main(["train", book, *SMALL]) == 1
    assert "torchrun --max-restarts needs --run" in capsys.readouterr().err


class Pairs:
    """A tokenizer of one's own: a token for each pair of characters."""

    vocab_size = 1 << 16

    def encode(self, text: str) -> list[int]:
        """Return ids."""
        return [id_ % 256 for id_ in map(ord, text[::2])]

    def decode(self, ids: list[int]) -> str:
        """Return what is left of a text."""
        return " ".join(map(chr, ids))


def test_ids_without_a_tokenizer_are_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command says why it writes no text, and what writes it or measures the model."""
    monkeypatch.chdir(tmp_path)
    tl.Corpus.from_tokens(list(range(9)) * 99).save("ids")
    tl.Corpus.from_text("to be or not " * 99, tokenizer=Pairs()).save("own")
    for name, why in (
        ("ids", "ids holds ids, and no tokenizer that could turn them into text"),
        ("own", "own was made with a tokenizer of your own, Pairs, which no store holds: give it"),
    ):
        run = f"run-{name}"
        words = [*SMALL, "--epochs", "1", "--quiet", "--run", run]
        assert main(["train", name, *words, "--sample-every", "1"]) == 1
        assert "needs a tokenizer that can write text" in capsys.readouterr().err
        assert main(["train", name, *words]) == 0
        shown = capsys.readouterr()
        assert f"no text will be generated: {why}" in shown.err
        assert "generate" not in shown.out
        assert main(["train", "--resume", run, "--epochs", "2", "--quiet"]) == 0
        assert main(["evaluate", run, name, "--quiet"]) == 0
        capsys.readouterr()
        assert main(["generate", run, "--prompt", "to"]) == 1
        kind = "none" if name == "ids" else "one of your own, Pairs, which no run holds"
        assert f"'{run}' must hold its tokenizer, got {kind}: in Python" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_ids_are_trained_on_where_the_tokenizers_package_is_missing(
    words: list[str],
    book: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A message says what to install, and no text is generated."""
    corpus = tl.load(book, tokenizer="bpe", vocab_size=270)
    store = str(corpus.save(tmp_path / "store"))
    monkeypatch.setattr(by_value, "_encoders", {})
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    run = str(tmp_path / "run")
    assert main(["train", store, *SMALL, "--run", run, *words]) == 0
    shown = capsys.readouterr()
    assert shown.err.count("no text will be generated: encoding or decoding text with this") == 1
    assert "python -m pip install 'tokenloom[tokenizers]'" in shown.err
    if words:
        assert json.loads(shown.out)["generated"] is None
    else:
        assert "generated:" not in shown.out
        assert "perplexity" in shown.out
    assert main(["train", "--resume", run, "--epochs", "4"]) == 0


@pytest.mark.parametrize("tokenizer", ["tokenizer.json", "bpe", "my-store"])
def test_special_tokens_are_allowed_in_texts(
    tokenizer: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The run and the store remember it, and a run without is another one."""
    monkeypatch.chdir(tmp_path)
    text = f"to be{END}or not to be. " * 99
    Path("book.txt").write_text(text)
    write_bpe(Path("tokenizer.json"))
    tl.Corpus.from_text(text, tokenizer="tokenizer.json").save("my-store")
    words = ["--tokenizer", tokenizer, "--allow-special"]
    assert main(["prepare", "book.txt", "-o", "store", *words, "--quiet"]) == 0
    assert main(["train", "book.txt", *SMALL, *words, "--run", "run"]) == 0
    for made in (tl.Corpus.open("store").tokenizer, tl.Run.open("run").load_tokenizer()):
        assert isinstance(made, HuggingFaceTokenizer)
        assert made.allow_special
        assert 99 == made.encode(text).tolist().count(made.find_token(END))
    assert main(["train", "--resume", "run", "--epochs", "4", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "run", "store", "--quiet"]) == 0
    assert main(["prepare", "book.txt", "-o", "plain", *words[:-1], "--quiet"]) == 0
    assert main(["evaluate", "run", "plain", "--quiet"]) == 1
    assert "must have been written with the run's tokenizer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["book.txt"], "--allow-special must be left out where the tokenizer cannot read special"),
        (["book.txt", "--tokenizer", "byte"], "with byte"),
        (["book.txt", "--tokenizer", "vocab.json"], "with word"),
        (["store"], "leave out --allow-special: store is a store, whose text is already"),
    ],
)
def test_special_tokens_that_cannot_be_allowed(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An option that would change nothing is refused."""
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text("to be or not to be")
    tl.Vocab(["to", "be"]).save("vocab.json")
    tl.Corpus.from_text("to be or not").save("store")
    assert main(["plan", *words, "--allow-special"]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_run_without_a_step_begins_anew(
    is_killed: bool,
    book: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whether it left a checkpoint from before its first step, or was killed and left none."""
    run = str(tmp_path / "run")
    with monkeypatch.context() as patch:
        step = "tokenloom.training.optimizer.ScheduledOptimizer.step"
        patch.setattr(step, Mock(side_effect=KeyboardInterrupt))
        assert main(["train", book, *SMALL, "--run", run]) == 130
    if is_killed:
        shutil.rmtree(Path(run, "checkpoints"))
    assert main(["train", "--resume", run]) == 0
    assert (
        "begins at the first step, since the run has no later checkpoint" in capsys.readouterr().err
    )


def test_too_short_a_text_says_what_left_so_little(
    book: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An option that was typed or its default, of a text and of the parts of a mixture."""
    for options, cause in (
        (["--max-tokens", "20"], f"--max-tokens 20 leaves 20 of the 1,890 tokens of {book}"),
        (["--seq-len", "100"], f"--held-out 0.1 leaves 1,701 of the 1,890 tokens of {book}"),
        (["--held-out", "0", "--seq-len", "100"], "--tail pad or give more text"),
    ):
        assert main(["train", book, *options]) == 1
        assert capsys.readouterr().err.endswith(f"{cause}\n")
    assert main(["plan", f"a=1:{book}", f"b=1:{book}", "--max-tokens", "9"]) == 1
    assert "; --max-tokens 9 leaves 9 of the 1,890 tokens of b\n" in capsys.readouterr().err
