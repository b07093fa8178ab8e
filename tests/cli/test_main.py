"""What all commands do alike: errors, messages and exit codes."""

import json
import math
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from tests.support.hub.file_server import FileServer
from tests.support.preparation.stores import make_store
from tests.support.training.trainings import BOOK, SMALL
from tokenloom.cli.main import main, make_parser
from tokenloom.cli.parser import COMMANDS


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


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (["show", "my-bok.txt"], "no such file or folder: did you mean 'my-book.txt'?"),
        (["show", "texts/chapter.txt"], "did you mean 'texts/chapter-1.txt'?"),
        (["train", "time_machin"], "no such file or folder: did you mean 'time_machine'?"),
        (["plan", "imdb/tset"], "no such file or folder: did you mean 'imdb/test'?"),
        (["fetch", "pyhton_docs"], "did you mean python_docs?"),
        (["bench", "texts"], "'tokenloom prepare texts -o my-store'"),
        (["selftest", "nothing-like-it"], "which is neither: no such file or folder"),
        (["prepare", "my-bok.txt", "-o", "new"], "did you mean 'my-book.txt'?"),
        (["prepare", "time_machin", "-o", "new"], "did you mean 'time_machine'?"),
        (["plan", "dataset:time_machin"], "did you mean time_machine?"),
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
    assert "?;" not in line


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
    """Also where it asks for what is done anyway: a user who types it expects that it acts."""
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
        "tokenloom: error: leave out --field: no source holds JSON objects or rows; "
        "--documents jsonl reads each line as one\n"
    )
    assert expected == capsys.readouterr().err


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
def test_text_that_vanishes_is_reported(
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
def test_text_of_which_nothing_is_left_is_reported(
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
    assert "dropped characters    270\n" in capsys.readouterr().out


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


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """The whole of it, on stdout, with the exit code of wrong usage."""
    assert main([]) == 2
    bare = capsys.readouterr()
    assert main(["--help"]) == 0
    assert (bare.out, "") == (capsys.readouterr().out, bare.err)
    assert "show a batch as text" in bare.out


@pytest.mark.parametrize("command", ["", *COMMANDS])
@pytest.mark.parametrize("columns", [80, 100])
def test_the_help_fits_the_terminal(
    command: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of any width, with commands that a shell can still read."""
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert [] == [line for line in shown.splitlines() if len(line) > columns]
    joined = shown.replace(" \\\n", " ")
    for line in joined.splitlines():
        if line.startswith("  tokenloom "):
            shlex.split(line)


@pytest.mark.parametrize(
    ("environment", "is_coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_the_help_has_colours_where_they_are_wanted(
    environment: dict[str, str],
    is_coloured: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And nowhere else, such as in a file."""
    if is_coloured and sys.version_info < (3, 14):
        pytest.importorskip("rich_argparse")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["plan", "--help"]) == 0
    assert is_coloured == ("\x1b[" in capsys.readouterr().out)


def test_shells_complete_the_names_of_files() -> None:
    """Where an argument is one: shtab looks for that at each of them."""
    (commands,) = (action for action in make_parser()._actions if action.choices)
    assert isinstance(commands.choices, dict)
    found = {
        action.dest
        for command in commands.choices.values()
        for action in command._actions
        if hasattr(action, "complete")
    }
    assert {"corpus", "run", "store", "sources", "plot", "output", "tokenizer", "resume"} == found


@pytest.mark.parametrize(
    ("arguments", "usage", "cure"),
    [
        (["trian"], "tokenloom COMMAND [options]; see 'tokenloom --help'", "did you mean train?"),
        (["--json", "datasets"], "tokenloom COMMAND [options]; ", "tokenloom COMMAND --json"),
        (["train", "--epoch", "3"], "tokenloom train [CORPUS ...] [options]; ", "--epochs?"),
        (["train", "--epoch=3"], "tokenloom train [CORPUS ...] [options]; ", "--epochs?"),
        (["show", "x", "--batch-siz", "3"], "tokenloom show CORPUS ", "--batch-size?"),
        (["train", "--model", "gruu"], "tokenloom train ", "got 'gruu': did you mean gru?"),
        (["prepare", "a", "-o", "b", "c"], "tokenloom prepare [SOURCE ...] ", "argument 'c'"),
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


@pytest.mark.parametrize("command", ["verify", "info", "show"])
def test_a_store_that_cannot_be_used_is_one_line(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A manifest that was changed is reported without a traceback."""
    folder = make_store(tmp_path / "store")
    (folder / "manifest.json").write_bytes(b"{}")
    assert main([command, str(folder)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"tokenloom: error: {folder / 'manifest.json'} cannot be used: ")
    assert 1 == len(error.splitlines())


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
    error = capsys.readouterr().err
    assert (1, True) == (len(error.splitlines()), message in error)
    assert sorted(path.name for path in Path().iterdir()) == ["book.txt", split_store]


@pytest.mark.slow
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


# What a typed command may be refused for, with the files of `refusing`; {} is a run.
REFUSED = """
plan book.txt --seq-len 1000
plan book.txt --max-tokens 20
plan book.txt --order random --batch-size 0:4,100:8000
plan book.txt --batch-size 0:4,100:8
plan book.txt --ranks 5
plan book.txt --workers -1
plan book.txt --epoch -1
plan book.txt --seed -1
plan book.txt --vocab-size 1
plan book.txt --tokenizer bpe --vocab-size 10
plan book.txt --tokenizer byte --vocab-size 10
plan book.txt --allow-special
plan book.txt --encoding utf-99
plan book.txt --held-out 2
plan book.txt --held-out foo
plan book.txt --split foo
plan book.txt --order packed
plan zh.txt
plan zh.txt --raw --encoding ascii
plan empty.txt
plan store/foo
plan store --split foo
plan store --held-out foo
plan store --held-out train
plan store --order packed --seq-len 1000
plan store --raw
plan {}
plan a=x:book.txt
plan a=1:book.txt b=2:zh.txt
plan a=1:book.txt b=2:zh.txt --raw --epoch-tokens 100
plan a=1:book.txt b=2:zh.txt --raw --seq-len 100000
plan a=1:book.txt b=2:zh.txt --raw --epoch-tokens 100000 --max-repeats 0.5
plan a=1:book.txt b=2:zh.txt --raw --held-out valid
plan a=1:book.txt b=2:zh.txt --raw --tail pad
plan a=1:book.txt b=2:zh.txt --raw --order sequential
plan a=1:book.txt --stage 9:b=1
plan a=-1:book.txt
show store --batch 1000
show store --rows 99
show {} --step 1000
show {} --spikes --threshold -1
show {} --seed 1 --step 1
evaluate {} bytes
evaluate {} a=0.5:store
evaluate {} zh.txt
evaluate {} book.txt --split foo
evaluate {} book.txt --within-documents
evaluate {} book.txt --workers 100000
evaluate {} book.txt --device foo
evaluate {} book.txt --seq-len 10000000000
evaluate nothing book.txt
generate {} --prompt ''
generate {} --prompt 中文
generate {} --prompt a --temperature -1
generate {} --prompt a --temperature 1 --top-p 2
generate {} --prompt a --seed 1
generate {} --prompt a --temperature 1 --seed -1
train book.txt --batch-size 4 --seq-len 10 --warmup -1
train book.txt --batch-size 4 --seq-len 10 --lr nan
train book.txt --batch-size 4 --seq-len 10 --max-grad-norm 0
train book.txt --batch-size 4 --seq-len 10 --layers 100000
train book.txt --batch-size 4 --seq-len 10 --resident --workers 2
train book.txt --batch-size 4 --seq-len 10 --prompt 中文
train book.txt --batch-size 4 --seq-len 10 --checkpoint-seconds -1
train book.txt --batch-size 4 --seq-len 10 --within-documents
train store --batch-size 4 --seq-len 10 --within-documents --across-documents
train book.txt --batch-size 4 --seq-len 10 --run store
train book.txt --batch-size 4 --seq-len 10 --order packed
train store --batch-size 4 --seq-len 10 --order packed --across-documents
train --resume {} --epochs 1
train --resume {} --batch-size 2
train --resume {} --workers -1
train --resume nothing
prepare book.txt -o store
prepare book.txt -o new --tokenizer byte --reserved-tokens a
prepare book.txt -o new --split valid=2
prepare book.txt -o new --split valid=0.5 --split-by block --split test=0.6
prepare book.txt -o new --field x
prepare book.txt -o new --tokenizer byte --end-of-document '<eod>'
prepare book.txt -o new --documents jsonl
prepare zh.txt -o new
prepare zh.txt -o new --encoding ascii
prepare zh.txt -o new --raw --reserved-tokens 红 --on-reserved stop
prepare table.csv -o new --field x
bench book.txt --workers 100000
bench book.txt --seconds -1
selftest book.txt --workers 0
selftest book.txt --start-methods foo
selftest book.txt --seq-len 1000
info nothing
info store/foo
info store --plot a.txt
verify store/foo
"""


@pytest.fixture(name="refusing", scope="module")
def fixture_refusing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what the commands of `REFUSED` read."""
    folder = tmp_path_factory.mktemp("refusing")
    (folder / "book.txt").write_text(BOOK, encoding="utf-8")
    (folder / "zh.txt").write_text("红楼梦第一回 甄士隐梦幻识通灵\n" * 60, encoding="utf-8")
    (folder / "table.csv").write_text("text\nabc\n", encoding="utf-8")
    (folder / "empty.txt").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        documents = ["--documents", "line", "--split", "valid=0.1", "--quiet"]
        assert main(["prepare", "book.txt", "-o", "store", *documents]) == 0
        byte = ["--tokenizer", "byte", "--quiet"]
        assert main(["prepare", "book.txt", "-o", "bytes", *byte]) == 0
        assert main(["train", "book.txt", *SMALL, "--run", "run", "--quiet"]) == 0
    return folder


def test_too_little_memory_is_one_line(
    book: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """NumPy and Python have an error of their own for it."""
    error = MemoryError("Unable to allocate 9 GiB")
    monkeypatch.setattr("tokenloom.inspection.batches.read_block", Mock(side_effect=error))
    assert 1 == main(["show", book, "--batch-size", "4", "--seq-len", "10"])
    message = "this needs more memory than there is (Unable to allocate 9 GiB)"
    assert f"tokenloom: error: {message}\n" == capsys.readouterr().err


@pytest.mark.parametrize("line", REFUSED.strip().splitlines())
def test_a_refusal_names_no_argument_of_python(
    line: str, refusing: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is typed wrongly, the message has options, and no value of Python."""
    monkeypatch.chdir(refusing)
    assert main(shlex.split(line.format("run"))) in {1, 2}
    shown = capsys.readouterr().err
    assert "error: " in shown
    names = {"python_docs", "time_machine", "tiny_shakespeare"}
    in_python = r"[a-z]+(?:_[a-z]+)+|None|True|False|\w+\(\.\.\.\)"
    assert set() == set(re.findall(rf"\b(?:{in_python})\b", shown)) - names, shown
