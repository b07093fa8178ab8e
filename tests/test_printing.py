"""What the commands print."""

import json
import math

import pytest

from tokenloom.printing import print_json, print_table, say


def test_numbers_that_are_not_finite_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    """However deep: JSON has no NaN, and other languages' readers refuse it."""
    print_json({"a": [math.nan, {"b": -math.inf}], "c": [1.5, 2, None, True, "é"]})
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert {"a": [None, {"b": None}], "c": [1.5, 2, None, True, "é"]} == found


def test_columns_are_as_wide_as_their_widest_cell(capsys: pytest.CaptureFixture[str]) -> None:
    """Two spaces between them, none at the end."""
    print_table([("A", "LONG", ""), ("wide", "b", "")])
    assert capsys.readouterr().out == "A     LONG\nwide  b\n"


def test_messages_are_no_results(capsys: pytest.CaptureFixture[str]) -> None:
    """They go to stderr, with the program's name."""
    say("done")
    assert ("", "tokenloom: done\n") == capsys.readouterr()
