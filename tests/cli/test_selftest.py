"""The command that checks the laws."""

import json

import numpy as np
import pytest

import tokenloom as tl
from tokenloom.cli.main import main
from tokenloom.cli.selftest import print_outcomes
from tokenloom.testing.selftest import Outcome, Settings

SETTINGS = Settings(
    corpus=tl.Corpus.from_tokens(np.arange(200, dtype=np.uint16)), batch_size=4, seq_len=5, seed=7
)
HOLD = Outcome("3 workers", "one way", 0.25, "")
BROKEN = Outcome("3 workers", "another", 0.5, "LawError: law 3 is broken: it differs")


def test_a_table_has_a_row_for_each_law(capsys: pytest.CaptureFixture[str]) -> None:
    """It shows how often a law was checked, and in how many checks it is broken."""
    print_outcomes([HOLD, BROKEN, Outcome("9 state", "x", 1.0, "")], SETTINGS)
    header, *rows = capsys.readouterr().out.splitlines()[:3]
    assert ["LAW", "CHECKS", "SECONDS", "RESULT"] == header.split()
    assert [
        ["3", "workers", "2", "0.8", "BROKEN", "in", "1", "check"],
        ["9", "state", "1", "1.0", "holds"],
    ] == [row.split() for row in rows]


def test_a_broken_law_brings_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    """The report has versions, settings and each problem."""
    print_outcomes([HOLD, BROKEN], SETTINGS)
    shown = capsys.readouterr().out
    assert "report, to paste into an issue:" in shown
    assert f"tokenloom {tl.__version__}, torch " in shown
    assert "seed=7" in shown
    assert "law 3 workers (another): LawError: law 3 is broken: it differs" in shown


def test_a_broken_law_is_in_the_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Programs read the same."""
    print_outcomes([HOLD, BROKEN], SETTINGS, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert ["holds", "machine", "checks"] == list(found)
    assert found["holds"] is False
    assert [HOLD._asdict(), BROKEN._asdict()] == found["checks"]


def test_laws_that_hold_have_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The last line says so, with a number that its noun agrees with."""
    print_outcomes([HOLD], SETTINGS)
    assert "every law holds in 1 check" == capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_broken_law_is_exit_code_1(as_json: bool) -> None:
    """And where every law holds, the code is 0."""
    assert 0 == print_outcomes([HOLD], SETTINGS, as_json=as_json)
    assert 1 == print_outcomes([HOLD, BROKEN], SETTINGS, as_json=as_json)


@pytest.mark.slow
def test_the_laws_hold_on_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    """All of them are checked, for programs."""
    words = ["selftest", "python_docs", "--batch-size", "2", "--seq-len", "3", "--workers", "1"]
    assert main([*words, "--start-methods", "fork", "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["holds"] is True
    assert "10 cost" in {check["law"] for check in found["checks"]}
