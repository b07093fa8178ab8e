"""What the commands print."""

import json
import math

import pytest

from tokenloom.cli.output import (
    as_options,
    print_error,
    print_json,
    print_line,
    print_message,
    print_table,
)
from tokenloom.errors import ArgumentError, StateMismatchError


def test_numbers_that_are_not_finite_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    """However deep: JSON has no NaN, and other languages' readers refuse it."""
    print_json({"a": [math.nan, {"b": -math.inf}], "c": [1.5, 2, None, True, "é"]})
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert {"a": [None, {"b": None}], "c": [1.5, 2, None, True, "é"]} == found


def test_columns_are_as_wide_as_their_widest_cell(capsys: pytest.CaptureFixture[str]) -> None:
    """Two spaces between them, none at the end."""
    print_table([("A", "LONG", ""), ("wide", "b", "")])
    assert capsys.readouterr().out == "A     LONG\nwide  b\n"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("seq_len must be below 9", "--seq-len must be below 9"),
        ("use num_workers=0, got 2", "use --workers 0, got 2"),
        ("use normalize=False", "use --raw"),
        ("lower num_workers= or wait", "lower --workers or wait"),
        (
            (
                "make it with prepare or Corpus.from_documents, pass documents=... to "
                "Corpus.from_tokens, or use RandomWindows"
            ),
            "make a store of it with tokenloom prepare and its --documents, or use --order random",
        ),
        ("resets=False has no meaning in packed", "--across-documents has no meaning in packed"),
        ("which field= or --field names", "which --field names"),
        ("ids in [0, vocab_size=400), got 400", "ids in [0, 400), got 400"),
        ("name one with seq_len=; or", "name one with --seq-len; or"),
        ("in UTF-8: leave seq_len= out", "in UTF-8: leave --seq-len out"),
        ("name one with seq_len=: they", "name one with --seq-len: they"),
        ("choose on_error='skip' or on_error='replace'", "choose on_error='skip' or "),
        ("use Shard(rank=0): seq_len must fit", "use Shard(rank=0): --seq-len must fit"),
        ("other: seq_len: saved 3, now 4", "other: --seq-len: saved 3, now 4"),
        ("lower batch_size or seq_len, or wait", "lower batch_size or --seq-len, or wait"),
        ("the seq_len must fit; x.seq_len=3", "the --seq-len must fit; x.seq_len=3"),
        ("see 'seq_len', seq_len.md, f(seq_len)", "see 'seq_len', seq_len.md, f(seq_len)"),
        ("across_documents=False needs", "--within-documents needs"),
    ],
)
def test_a_shell_reads_options(message: str, expected: str) -> None:
    """What the command takes is named as it is typed, and nothing else."""
    options = {"seq_len": "--seq-len", "workers": "--workers", "raw": "--raw"}
    assert as_options(message, options).startswith(expected)


def test_a_list_of_differences_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Each is separate from the next, and from what to do."""
    error = StateMismatchError(
        "cannot resume.\n  seq_len: saved 3, now 4\n  lr: saved 1\nUse both."
    )
    print_error(error, options={"seq_len": "--seq-len", "lr": "--lr"})
    line = "cannot resume: --seq-len: saved 3, now 4, --lr: saved 1. Use both.\n"
    assert f"tokenloom: error: {line}" == capsys.readouterr().err


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "a\rb"])
def test_a_terminal_gets_no_orders(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever stands in names of files, errors and texts, on stdout as on stderr."""
    print_line(text)
    print_table([(text, "x")])
    print_message(text)
    print_error(ArgumentError(text))
    shown = capsys.readouterr()
    assert not {"\x1b", "\r"} & set(shown.out + shown.err)
    assert 2 == shown.err.count("a\\x1b[2Jb") + shown.err.count("a b")


def test_messages_are_no_results(capsys: pytest.CaptureFixture[str]) -> None:
    """They go to stderr, with the program's name."""
    print_message("done")
    assert ("", "tokenloom: done\n") == capsys.readouterr()
