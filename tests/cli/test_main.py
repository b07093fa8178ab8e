"""The command line, as its users meet it."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tokenloom as tl
from tests.server import Answer, FileServer, serving
from tests.stores import make_store
from tests.trainings import BOOK, SMALL, weights_of
from tokenloom.cli.main import main
from tokenloom.hub import catalogue


def test_train_prints_what_came_of_it(
    book: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Results go to stdout, messages to stderr."""
    code = main(["train", book, *SMALL, "--run", str(tmp_path / "run"), "--prompt", "time"])
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    beginnings = ["perplexity ", "held-out perplexity ", "", "plot: ", "run: ", "generated: time"]
    assert code == 0
    assert [True] * 6 == [a.startswith(b) for a, b in zip(lines, beginnings, strict=True)]
    assert "tokens per second on cpu" in lines[2]
    assert shown.err.startswith("tokenloom: training on ")


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
        (["--max-tokens", "500"], "500 of 1,890 tokens; --max-tokens all for the rest; "),
        (["--max-tokens", "all"], "1,701 tokens; "),
        (["--max-tokens", "1701"], "1,701 tokens; "),
        ([], "1,701 tokens; "),
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
    assert shown.err.endswith(f"; results go to {folder}\n")
    assert " after 1 epoch\n" in shown.out


@pytest.mark.parametrize("model", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("order", ["sequential", "random"])
def test_every_model_trains_in_every_order(
    model: str, order: str, book: str, tmp_path: Path
) -> None:
    """The settings tell what was chosen."""
    folder = tmp_path / "run"
    choice = ["--model", model, "--order", order, "--layers", "2", "--tokenizer", "byte"]
    assert main(["train", book, *SMALL, *choice, "--run", str(folder)]) == 0
    settings = json.loads((folder / "settings.json").read_text())
    chosen = settings["order"], settings["model"]["rnn"].lower(), settings["model"]["num_layers"]
    assert (order, model, 2) == chosen


def test_two_directions_warn_in_one_line(
    book: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The training completes, and its user is told that the model sees the future."""
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
        "held_out_perplexity",
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


def test_resume_goes_on_with_more_epochs(
    book: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder says all the rest; the weights are those of one long run."""
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
        ([], "--resume run --epochs 6; more text than these"),
        (["--schedule", "cosine"], "its schedule 'cosine' ends there, so more of them need a new"),
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
    said = "nothing is left to train: the run has all its 3 epochs; "
    recipe = [*SMALL, *options, "--epochs", "3"]
    assert main(["train", book, *recipe, "--run", "run", "--quiet"]) == 0
    assert said not in capsys.readouterr().err
    assert main(["train", "--resume", "run", "--quiet"]) == 0
    error = capsys.readouterr().err
    assert said in error
    assert hint in error
    assert "needs a new run, with --max-tokens N or all" in error
    if not options:
        assert main(["train", "--resume", "run", "--epochs", "4", "--quiet"]) == 0
        assert "nothing is left" not in capsys.readouterr().err


def test_documents_are_kept_apart_unless_told_otherwise(tmp_path: Path) -> None:
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
        (["--epochs", "2"], "num_epochs: saved 3, now 2"),
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
    """Its settings do not say enough."""
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
        ({"batch_size": "4"}, "batch_size must be an integer, got '4'"),
        ({"num_threads": 0}, "num_threads must be an integer in [1, "),
        ({"seed": -1}, "seed must be an integer in [0, "),
        ({"run_options": {"often": True}}, "run_options cannot be {'often': True}"),
        ({"optimizer": "lion"}, "optimizer must be one of sgd, adamw, got 'lion'"),
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


@pytest.mark.parametrize(("launch", "is_refused"), [("mine", False), ("other", True)])
def test_a_restart_goes_on_with_what_its_launch_began(
    launch: str,
    is_refused: bool,
    book: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run of another launch is not gone on with: its folder must be new, as always."""
    folder = tmp_path / "run"
    arguments = ["train", book, *SMALL, "--run", str(folder)]
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", launch)
    assert main(arguments) == 0
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "mine")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    before = (folder / "settings.json").read_bytes()
    assert main(arguments) == is_refused
    assert is_refused == ("must be new or empty" in capsys.readouterr().err)
    assert before == (folder / "settings.json").read_bytes()


@pytest.mark.slow
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


def test_datasets_lists_names(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table with size, licence, source and place of each."""
    monkeypatch.setenv("TOKENLOOM_CACHE", str(tmp_path))
    (tmp_path / "tinyshakespeare.txt").touch()
    os.truncate(tmp_path / "tinyshakespeare.txt", 1_115_394)
    (tmp_path / "timemachine.txt").write_bytes(b"no")
    assert main(["datasets"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert ["NAME", "BYTES", "WHERE", "LICENCE", "SOURCE", "WHAT"] == header.split()
    names = ["imdb", "python_docs", "time_machine", "tiny_shakespeare"]
    assert names == [row.split()[0] for row in rows]
    assert re.search(r"84,125,825  to download  none stated +ai\.stanford\.edu +50,000", rows[0])
    assert re.search(r"python_docs  +-  +built in  +PSF-2\.0  +-  +the language", rows[1])
    assert re.search(r"178,979 +to download  public domain  d2l-data\.s3-acc", rows[2])
    assert re.search(r"1,115,394 +cached  +public domain  raw\.githubuser", rows[3])


def test_datasets_as_json(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program gets every field, by its name."""
    monkeypatch.setenv("TOKENLOOM_CACHE", str(tmp_path))
    assert main(["datasets", "--json"]) == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert ["train", "test", "unsup"] == entries["imdb"]["splits"]
    expected = {
        "name": "time_machine",
        "description": "The Time Machine by H. G. Wells (1898)",
        "licence": "public domain",
        "where": "to download",
        "splits": [],
        "bytes": 178_979,
        "digest": "sha256:8424dbd9532ac81f7e5f0b6add90e6952baea29158309d7d1bf3884f4e12c516",
        "filename": "timemachine.txt",
        "urls": [
            "https://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt",
            "http://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt",
        ],
    }
    assert expected == entries["time_machine"]
    assert entries["python_docs"]["urls"] is None


@pytest.fixture
def poem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """Register a text under the name "poem", and run the server that has it."""
    monkeypatch.setenv("TOKENLOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(catalogue, "_registered", {})
    digest = f"sha256:{hashlib.sha256(BOOK.encode()).hexdigest()}"
    with serving({"/poem.txt": Answer(body=BOOK.encode())}) as server:
        file = tl.RemoteFile(filename="poem.txt", urls=(f"{server.url}/poem.txt",), digest=digest)
        tl.register(tl.Entry(name="poem", description="a poem", licence="ours", source=file))
        yield server


def test_fetch_prepares_for_the_time_without_a_network(
    poem: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was fetched is used offline, and its path is printed."""
    assert main(["fetch", "poem", "python_docs", "--quiet"]) == 0
    path = tmp_path / "cache" / "poem.txt"
    assert (f"poem: {path}\npython_docs: built in\n", "") == capsys.readouterr()
    assert main(["fetch", "poem", "python_docs", "--json"]) == 0
    expected = [
        {"name": "poem", "where": "cached", "path": str(path)},
        {"name": "python_docs", "where": "built in", "path": None},
    ]
    assert expected == json.loads(capsys.readouterr().out)
    assert main(["fetch", "poem", "--offline"]) == 0
    assert main(["show", "poem", "--offline", "--batch-size", "4", "--seq-len", "10"]) == 0
    assert ["/poem.txt"] == poem.asked


@pytest.mark.parametrize(
    "command", [["fetch", "poem"], ["show", "poem"], ["train", "poem", "--epochs", "1"]]
)
def test_offline_asks_nobody(
    poem: FileServer, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """With --offline what is not at hand is an error at once, in one line."""
    assert main([*command, "--offline"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "downloads are forbidden by TOKENLOOM_OFFLINE or --offline: put the file at" in line
    expected: list[str] = []
    assert expected == poem.asked


@pytest.mark.parametrize("before", [None, "0", "yes"])
def test_offline_lasts_as_long_as_the_command(
    before: str | None, book: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that calls the command finds its environment as it was."""
    monkeypatch.delenv("TOKENLOOM_OFFLINE", raising=False)
    if before is not None:
        monkeypatch.setenv("TOKENLOOM_OFFLINE", before)
    assert main(["show", book, "--offline", "--batch-size", "4", "--seq-len", "10"]) == 0
    assert before == os.environ.get("TOKENLOOM_OFFLINE")


def test_fetch_goes_on(
    poem: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One text that cannot be had does not keep the others away; the exit code tells of it."""
    file = tl.RemoteFile(
        filename="lost.txt", urls=(f"{poem.url}/lost.txt",), digest="sha256:" + "0" * 64
    )
    tl.register(tl.Entry(name="lost", description="a text", licence="ours", source=file))
    assert main(["fetch", "lost", "poem", "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert f"poem: {tmp_path / 'cache' / 'poem.txt'}\n" == out
    assert re.fullmatch(r"tokenloom: error: cannot download 'lost.txt': .*got 404 .*\n", err)


@pytest.mark.parametrize("name", ["", ".", os.devnull])
def test_fetch_of_what_is_no_file(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither nothing nor a folder nor a device is a file of yours."""
    assert main(["fetch", name]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"got {name!r}, which is neither" in err


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (["show", "my-bok.txt"], "no such file or folder: did you mean 'my-book.txt'?"),
        (["show", "texts/chapter.txt"], "did you mean 'texts/chapter-1.txt'?"),
        (["train", "time_machin"], "no such file or folder: did you mean 'time_machine'?"),
        (["plan", "imdb/tset"], "no such file or folder: did you mean 'imdb/test'?"),
        (["fetch", "pyhton_docs"], "did you mean 'python_docs'?"),
        (["bench", "texts"], "it is a folder, of which 'tokenloom prepare'"),
        (["selftest", "nothing-like-it"], "which is neither: no such file or folder"),
        (["prepare", "my-bok.txt", "-o", "new"], "did you mean 'my-book.txt'?"),
        (["prepare", "time_machin", "-o", "new"], "did you mean 'time_machine'?"),
        (["info", "stroe"], "/store'?"),
        (["verify", "stroe"], "/store'?"),
        (["info", "texts"], "it is a folder of another kind"),
        (["verify", "my-book.txt"], "it is a file"),
        (["generate", "stroe", "--prompt", "a"], "did you mean 'store'?"),
        (["evaluate", "run", "my-book.txt"], "no such file or folder"),
        (["prepare", "my-book.txt", "-o", "new", "--tokenizer", "stroe"], "did you mean 'store'?"),
        (["prepare", "my-book.txt", "-o", "new", "--tokenizer", "wrod"], "did you mean 'word'?"),
    ],
)
def test_a_misspelt_name_brings_the_one_that_was_meant(
    arguments: list[str],
    cure: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of files and folders nearby, and of corpora that have a name."""
    monkeypatch.chdir(tmp_path)
    Path("my-book.txt").write_text(BOOK, encoding="utf-8")
    Path("texts").mkdir()
    Path("texts/chapter-1.txt").write_text(BOOK, encoding="utf-8")
    make_store(tmp_path / "store")
    assert main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert cure in line


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["train", "store", "--tokenizer", "char"], "--tokenizer"),
        (["show", "store", "--raw"], "--raw"),
        (["plan", "store", "--raw", "--encoding", "latin-1"], "--raw and --encoding"),
        (["bench", "store", "--encoding", "utf-8"], "--encoding"),
        (["selftest", "store", "--tokenizer", "word"], "--tokenizer"),
        (["evaluate", "run", "store", "--encoding", "latin-1"], "--encoding"),
        (["show", "book.txt", "--tokenizer", "byte", "--raw"], "--raw"),
        (["train", "book.txt", "--tokenizer", "byte", "--encoding", "utf-8"], "--encoding"),
        (["plan", "python_docs", "--encoding", "latin-1"], "--encoding"),
        (["show", "book.txt", "--top", "3"], "--top"),
        (["show", "run", "--step", "1", "--top", "3"], "--top"),
        (["show", "run", "--step", "1", "--batch-size", "32"], "--batch-size"),
        (["show", "run", "--spikes", "--epoch", "0", "--raw"], "--raw and --epoch"),
        (["generate", "run", "--prompt", "time", "--top-k", "3"], "--top-k"),
        (["generate", "run", "--prompt", "time", "--seed", "3"], "--seed"),
        (["prepare", "book.txt", "-o", "new", "--split-by", "block"], "--split-by"),
    ],
)
def test_an_option_that_changes_nothing_is_refused(
    arguments: list[str],
    options: str,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also where it asks for what is done anyway: whoever typed it expects that it acts."""
    assert run.name == "run"
    monkeypatch.chdir(tmp_path)
    make_store(tmp_path / "store")
    assert main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"tokenloom: error: leave out {options}: ")


def test_a_field_needs_records(
    book: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message is in the words of the shell."""
    assert main(["prepare", book, "-o", str(tmp_path / "new"), "--field", "body"]) == 1
    expected = (
        "tokenloom: error: leave out --field: no source holds JSON records; "
        "--documents jsonl takes each line for one\n"
    )
    assert expected == capsys.readouterr().err


@pytest.mark.usefixtures("poem")
def test_fetch_of_a_name_that_nobody_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong name among several is found before anything is downloaded."""
    assert main(["fetch", "poem", "peom"]) == 1
    assert "a corpus must be one of imdb, imdb/train" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("poem")
def test_a_text_without_a_prompt_begins_with_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where nobody knows a good beginning, generated text begins as the corpus does."""
    assert main(["train", "poem", *SMALL, "--run", str(tmp_path / "run")]) == 0
    assert "generated: the time tra" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["train", "no-such-book.txt"],
            "a corpus must be one of imdb, imdb/train, imdb/test, imdb/unsup, python_docs, ",
        ),
        (["train", "--held-out", "1.5"], "the held-out fraction must be in [0, 1), got 1.5"),
        (["train", "--device", "abacus"], "device must be one that PyTorch can use here"),
        (["train", "--workers", "-1"], "--workers must be an integer in [0, 4096), got -1"),
        (
            ["train", "--layers", "5000"],
            "--layers must be an integer in [1, 4096), got 5000",
        ),
        (
            ["train", "--hidden", "2000000000"],
            "a model of --hidden 2000000000 and --layers 1 must fit into the memory, and does not",
        ),
        (["train", "--lr", "0"], "--lr must be a number in (0, inf), got 0.0"),
        (["train", "--seed", "-1"], "seed must be an integer in [0, "),
        (["show", "python_docs", "--batch", "99999999"], "batch must be in [0, "),
        (["generate", "nowhere", "--prompt", "a"], "expected the folder of a run"),
    ],
)
def test_an_error_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, nothing on stdout, no traceback."""
    assert main(arguments) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    last = shown.err.splitlines()[-1]
    assert last.startswith("tokenloom: error: ")
    assert message in last
    assert "Traceback" not in shown.err


FRENCH = "L'\u00e9t\u00e9 dernier, nous avons visit\u00e9 12 for\u00eats.\n" * 30
OF_TEXT = {
    "train": ["--quiet", *SMALL],
    "plan": ["--batch-size", "2", "--seq-len", "5"],
    "show": ["--batch-size", "2", "--seq-len", "5"],
    "bench": ["--batch-size", "2", "--seq-len", "5", "--workers", "0", "--seconds", "0.1"],
    "selftest": ["--workers", "1", "--start-methods", "fork"],
    "prepare": ["-o", "store", "--quiet"],
}


@pytest.mark.parametrize("command", ["plan", "show", "prepare", "train"])
def test_text_that_vanishes_is_told(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In one line on stderr, with the option that keeps it; with that option in none."""
    monkeypatch.chdir(tmp_path)
    Path("page.txt").write_text(FRENCH, encoding="utf-8")
    assert main([command, "page.txt", *OF_TEXT[command]]) == 0
    lines = capsys.readouterr().err.splitlines()
    expected = (
        "tokenloom: page.txt: 270 of 1,320 characters (20 %) are not in a-z and were dropped or "
        "replaced by spaces, among them 60 digits and 120 letters of other alphabets; to keep them "
        "use --raw"
    )
    assert expected == lines[0]
    assert (2 if command == "train" else 1) == len(lines)
    keeps = ["page.txt", *OF_TEXT[command], "--raw"]
    assert main([command, *[word.replace("store", "other") for word in keeps]]) == 0
    assert "dropped" not in capsys.readouterr().err


@pytest.mark.parametrize("command", OF_TEXT)
def test_text_of_which_nothing_is_left_is_told(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In one line, with the option that keeps it."""
    monkeypatch.chdir(tmp_path)
    Path("page.txt").write_text("\u65f6\u95f4\u65c5\u884c\u8005\n" * 40, encoding="utf-8")
    assert main([command, "page.txt", *OF_TEXT[command]]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tokenloom: error: ")
    assert "must hold at least one token, got none" in line
    assert line.endswith("use --raw")


def test_a_store_says_what_it_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Long after it was made."""
    monkeypatch.chdir(tmp_path)
    Path("page.txt").write_text(FRENCH, encoding="utf-8")
    assert main(["prepare", "page.txt", "-o", "store"]) == 0
    assert "dropped characters    270 of 1,320\n" in capsys.readouterr().out
    assert main(["info", "store"]) == 0
    assert "dropped               270\n" in capsys.readouterr().out


def test_a_binary_file_is_refused_with_the_offset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message says which byte, and what to do."""
    path = tmp_path / "book.bin"
    path.write_bytes(b"abc\xff")
    assert main(["train", str(path)]) == 1
    assert "got byte 0xff at offset 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["weave"], "got 'weave'"),
        (["generate", "x"], "the following arguments are required: --prompt"),
        (
            ["train", "--hidden", "0"],
            "--hidden: must be an integer of at least 1 and below 2**31, got '0'",
        ),
        (["train", "--batch-size", "many"], "below 2**31, got 'many'"),
        (["train", "--max-tokens=-5"], "below 2**31, got '-5'"),
        (["show", "x", "--rows", "1-3"], "separated by commas, like 0,5, got '1-3'"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The usage, and what is wrong with it, are shown on stderr, in a line each."""
    assert main(arguments) == 2
    shown = capsys.readouterr()
    usage, error = shown.err.splitlines()
    assert shown.out == ""
    assert usage.startswith("usage: tokenloom ")
    assert error.startswith("tokenloom: error: ")
    assert message in error


@pytest.mark.parametrize(
    ("arguments", "usage", "cure"),
    [
        (["trian"], "tokenloom COMMAND [options]; see 'tokenloom --help'", "did you mean train?"),
        (["--json", "datasets"], "tokenloom COMMAND [options]; ", "tokenloom COMMAND --json"),
        (["train", "--epoch", "3"], "tokenloom train [CORPUS] [options]; ", "--epochs?"),
        (["train", "--epoch=3"], "tokenloom train [CORPUS] [options]; ", "--epochs?"),
        (["show", "x", "--batch-siz", "3"], "tokenloom show CORPUS ", "--batch-size?"),
        (["train", "--model", "gruu"], "tokenloom train ", "got 'gruu': did you mean gru?"),
        (["prepare", "a", "-o", "b", "c"], "tokenloom prepare SOURCE ... ", "argument 'c'"),
        (["fetch", "x", "--ofline"], "tokenloom fetch NAME ... ", "mean --offline?"),
    ],
)
def test_wrong_usage_names_what_was_meant(
    arguments: list[str], usage: str, cure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No option may be abbreviated, since a new one would change what it means."""
    assert main(arguments) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"usage: {usage}")
    assert cure in second


def test_help_is_exit_code_0(capsys: pytest.CaptureFixture[str]) -> None:
    """And goes to stdout."""
    assert main(["--help"]) == 0
    assert "tokenloom COMMAND --help" in capsys.readouterr().out


@pytest.mark.slow
def test_ctrl_c_leaves_a_usable_checkpoint(book: str, tmp_path: Path) -> None:
    """A real SIGINT ends the process with exit code 1 and a run that generates."""
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
            _, messages = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 1
    assert f"a usable checkpoint is in {folder}" in messages
    assert messages.count("stopped by Ctrl-C") == 1
    assert "Traceback" not in messages
    assert (folder / "perplexity.png").exists()
    assert main(["generate", str(folder), "--prompt", "time"]) == 0


def test_a_prompt_of_no_token_is_found_before_training(
    book: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody trains for an hour to be told that."""
    folder = tmp_path / "run"
    assert main(["train", book, *SMALL, "--prompt", "!!!", "--run", str(folder)]) == 1
    assert "prompt must hold at least one token, got '!!!'" in capsys.readouterr().err
    assert not folder.exists()


def test_a_launcher_does_not_halve_the_batch(
    book: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands run in one process and show whole batches."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["show", book, "--batch-size", "4", "--seq-len", "10"]) == 0
    assert "4 rows x 10 tokens" in capsys.readouterr().out


def test_text_that_the_terminal_cannot_show_is_escaped(tmp_path: Path) -> None:
    """A narrow encoding of stdout is no error."""
    path = tmp_path / "book.txt"
    path.write_text("caf\u00e9 " * 30, encoding="utf-8")
    command = [sys.executable, "-m", "tokenloom", "show", str(path)]
    result = subprocess.run(
        [*command, "--raw", "--batch-size", "2", "--seq-len", "9"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert (0, "") == (result.returncode, result.stderr)
    assert "caf\\xe9" in result.stdout


def test_a_reader_that_leaves_is_no_error(book: str) -> None:
    """Piping into head prints no traceback."""
    command = f"{sys.executable} -m tokenloom show {book} --batch-size 4 --rows 0,1,2,3 | true"
    result = subprocess.run(  # noqa: S602  a pipe is the point
        command, shell=True, check=False, capture_output=True, text=True
    )
    assert (0, "") == (result.returncode, result.stderr)


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


@pytest.mark.parametrize("command", ["verify", "info", "show"])
def test_a_store_that_cannot_be_used_is_one_line(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A manifest that was changed is told without a traceback."""
    folder = make_store(tmp_path / "store")
    (folder / "manifest.json").write_bytes(b"{}")
    assert main([command, str(folder)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"tokenloom: error: {folder / 'manifest.json'} cannot be used: ")
    assert 1 == len(error.splitlines())


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


def test_a_store_is_a_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Commands that take a corpus take the folder of a store."""
    folder = str(make_store(tmp_path / "store"))
    assert main(["show", folder, "--batch-size", "1", "--seq-len", "3"]) == 0
    assert "inputs   'or not" in capsys.readouterr().out


def test_under_torchrun_the_process_ends_at_once() -> None:
    """With all that was printed, the code, and nothing that the interpreter's end would do."""
    program = (
        "import atexit, sys, tokenloom.__main__ as main; atexit.register(print, 'late');"
        "sys.argv = ['tokenloom', 'datasets']; sys.exit(main.main())"
    )
    for launch, is_late in (({}, True), ({"TORCHELASTIC_RUN_ID": "7"}, False)):
        result = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, **launch},
            check=False,
            capture_output=True,
            text=True,
        )
        assert "python_docs" in result.stdout
        assert (0, is_late) == (result.returncode, "late" in result.stdout), result.stderr


@pytest.mark.parametrize("module", ["argparse", "numpy", "torch", "tokenloom.inspection.batches"])
def test_ctrl_c_amid_imports_is_quiet(module: str, book: str) -> None:
    """Whatever is imported: exit code 130, no traceback, also where an import swallows it."""
    program = (
        "import signal, sys, tokenloom.__main__ as main\n"
        "class Finder:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {module!r}:\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        f"sys.modules.pop({module!r}, None)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"sys.argv = ['tokenloom', 'show', {book!r}, '--batch-size', '2', '--seq-len', '5']\n"
        "sys.exit(main.main())"
    )
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (130, "") == (result.returncode, result.stdout)
    assert result.stderr in ("", "tokenloom: stopped by Ctrl-C\n")


@pytest.mark.parametrize("arguments", [["--help"], ["datasets"], ["train", "--help"]])
@pytest.mark.parametrize("reader", ["true", "exec 1>&-"])
def test_nobody_has_to_listen(arguments: list[str], reader: str) -> None:
    """A reader that has left, or that never was, is no reason for a traceback."""
    command = f"{sys.executable} -m tokenloom {' '.join(arguments)}"
    shell = f"{command} | {reader}" if reader == "true" else f"{reader}; {command}"
    result = subprocess.run(  # noqa: S602  a pipe is the point
        shell, shell=True, check=False, capture_output=True, text=True
    )
    assert "Traceback" not in result.stderr
    assert "Exception" not in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full disk to try")
def test_a_full_disk_is_one_line() -> None:
    """Where stdout cannot be written to, the exit code says so too."""
    result = subprocess.run(  # noqa: S602  a redirection is the point
        f"{sys.executable} -m tokenloom datasets > /dev/full",
        shell=True,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (1, 1) == (result.returncode, len(result.stderr.splitlines()))
    assert result.stderr.startswith("tokenloom: error: ")


@pytest.fixture
def split_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Work beside a store that was prepared with three splits."""
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text(BOOK, encoding="utf-8")
    options = ["--split", "valid=0.2", "--split", "test=0.1", "--split-by", "block", "--quiet"]
    assert main(["prepare", "book.txt", "-o", "store", *options]) == 0
    return "store"


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
    """What is measured on is all of its split, and the command says both."""
    words = ["train", f"{split_store}/train", *SMALL, "--max-tokens", "300", "--run", "run"]
    assert main([*words, "--quiet"]) == 0
    settings = settings_of("run")
    num_valid = len(tl.load("store/valid"))
    assert (300, num_valid) == (settings["num_tokens"], settings["num_held_out_tokens"])
    said = capsys.readouterr().err
    assert f"held out: store/valid, {num_valid} tokens" in said
    assert "300 of 1,323 tokens; --max-tokens all for the rest" in said


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
        assert bool(seen[name]) == ("the run was trained on" in shown.err)
    assert list(seen.values()) == [num_trained, num_trained, 0, num_trained]
    assert main(["evaluate", "run", "store", "--split", "held-out", "--json", "--quiet"]) == 0
    measured = json.loads(capsys.readouterr().out)
    last = tl.Run.open("run").metrics()[-1].held_out_perplexity
    assert last == pytest.approx(measured["perplexity"])
    assert ("store/valid", 0) == (measured["corpus"], measured["num_trained_tokens"])


@pytest.mark.parametrize("command", ["plan", "show"])
def test_commands_take_the_split_that_train_takes(
    command: str, split_store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What they show is what train reads."""
    shape = ["--batch-size", "4", "--seq-len", "10"]
    for words, name in (
        ([split_store], "store/train"),
        ([f"{split_store}/test"], "store/test"),
        ([split_store, "--split", "valid"], "store/valid"),
    ):
        assert main([command, *words, *shape]) == 0
        assert capsys.readouterr().out.startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "store/vald"], "got 'vald': did you mean valid?"),
        (["plan", "store", "--split", "tran"], "got 'tran': did you mean train?"),
        (["train", "store/train", "--split", "valid"], "names a split already"),
        (["train", "store", "--held-out", "train"], "must not be trained on: 1,323 tokens"),
        (["train", "store", "--held-out", "tst"], "got 'tst': did you mean test?"),
        (["train", "store", "--raw"], "leave out --raw: store is a store"),
        (["show", "store", "--tokenizer", "word"], "leave out --tokenizer: store is a store"),
        (["train", "book.txt", "--split", "train"], "is a file, which has no split"),
        (["train", "book.txt", "--held-out", "valid"], "is a file, which has no split"),
    ],
)
def test_splits_that_cannot_be_had(
    words: list[str], message: str, split_store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says why, and nothing is written."""
    assert main(words) == 1
    said = capsys.readouterr().err
    assert (1, True) == (len(said.splitlines()), message in said)
    assert sorted(path.name for path in Path().iterdir()) == ["book.txt", split_store]
