"""The selftest: what is checked, and what a user is told. The checks run in test_every_way."""

import json
from typing import Any

import numpy as np
import pytest

import tokenloom as tl
from tokenloom.cli.main import main
from tokenloom.errors import LawError
from tokenloom.testing import selftest
from tokenloom.testing.selftest import Check, Outcome, Settings, cover_pairs, run_check, tabulate

CORPUS = tl.Corpus.from_tokens(np.arange(2000, dtype=np.uint16))


def break_law() -> None:
    """Do what a check does that finds a law broken."""
    msg = "law 3 is broken: it differs"
    raise LawError(msg)


def hold() -> None:
    """Do what a check does that finds nothing."""


@pytest.fixture
def two_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the selftest have two checks of one law, of which one fails."""
    checks = [Check("3 workers", "one way", hold), Check("3 workers", "another", break_law)]
    monkeypatch.setattr(selftest, "make_checks", lambda _: checks)


def test_a_table_has_a_row_per_law() -> None:
    """It tells how often a law was checked and in how many checks it is broken."""
    outcomes = [
        Outcome("1 a", "x", 0.25, ""),
        Outcome("1 a", "y", 0.5, "LawError: law 1"),
        Outcome("2 b", "x", 1.0, ""),
    ]
    assert [
        ("LAW", "CHECKS", "SECONDS", "RESULT"),
        ("1 a", "2", "0.8", "BROKEN in 1 check"),
        ("2 b", "1", "1.0", "holds"),
    ] == list(tabulate(outcomes))


@pytest.mark.parametrize(
    ("run", "problem"), [(hold, ""), (break_law, "LawError: law 3 is broken: it differs")]
)
def test_a_check_tells_how_it_went(run: Any, problem: str) -> None:
    """An error does not end the selftest: it is what is reported."""
    assert problem == run_check(Check("3", "x", run)).problem


@pytest.mark.usefixtures("two_checks")
def test_a_broken_law_is_exit_code_1_with_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    """The report has versions, settings and each problem."""
    assert main(["selftest", "python_docs", "--seed", "7"]) == 1
    shown = capsys.readouterr().out
    assert "BROKEN in 1 check" in shown
    assert "report, to paste into an issue:" in shown
    assert f"tokenloom {tl.__version__}, torch " in shown
    assert "seed=7" in shown
    assert "law 3 workers (another): LawError: law 3 is broken: it differs" in shown


@pytest.mark.usefixtures("two_checks")
def test_a_broken_law_is_exit_code_1_in_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Programs read the same."""
    assert main(["selftest", "python_docs", "--json"]) == 1
    assert "law 3 is broken: it differs" in json.dumps(json.loads(capsys.readouterr().out))


def test_laws_that_hold_are_exit_code_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last line says so."""
    monkeypatch.setattr(selftest, "make_checks", lambda _: [Check("9 state", "x", hold)])
    assert main(["selftest"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "every law holds in 1 check"


def test_every_law_is_checked() -> None:
    """Over both orders and both tails, on several epochs' batches."""
    checks = selftest.make_checks(Settings(corpus=CORPUS, batch_size=4, seq_len=5))
    laws = {int(n) for check in checks for n in check.law.split(" ")[0].split(",") if n}
    assert {1, 3, 4, 5, 6, 8, 9, 10} <= laws
    for word in ("random", "sequential", "tail=drop", "tail=pad"):
        assert any(word in check.what for check in checks)


def test_resumed_epochs_have_several_batches() -> None:
    """A stream of one batch could not be resumed in its middle."""
    settings = Settings(corpus=CORPUS, batch_size=4, seq_len=5)
    for way in selftest.choose_ways(settings)[:4]:
        assert all(len(loader) >= 2 for loader in way.loaders(settings))


def test_pairs_are_covered_by_fewer_rows_than_there_are() -> None:
    """Each two levels of two factors stand in some row."""
    rows = cover_pairs("ab", "cde", "fg", "hi")
    for first in range(4):
        for second in range(first):
            levels = {(row[first], row[second]) for row in rows}
            expected = {
                (x, y)
                for x in ("ab", "cde", "fg", "hi")[first]
                for y in ("ab", "cde", "fg", "hi")[second]
            }
            assert expected == levels
    assert len(rows) < 24


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start_methods": ["magic"]}, r"start methods must be of .*spawn.*, got \['magic'\]"),
        ({"num_workers": [0]}, r"numbers of workers must be of at least 1, got \[0\]"),
        ({"batch_size": 1000}, "needs at least 35,001 tokens, the corpus has 2,000"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    """Before any check runs."""
    with pytest.raises(ValueError, match=message):
        Settings(corpus=CORPUS, **options)
