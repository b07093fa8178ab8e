"""The selftest: what is checked. The checks run in test_every_way."""

from typing import Any

import numpy as np
import pytest

import tokenloom as tl
from tokenloom.errors import LawError
from tokenloom.plan import BatchSizes
from tokenloom.testing import selftest
from tokenloom.testing.selftest import Check, Settings, cover_pairs, run_check

CORPUS = tl.Corpus.from_tokens(np.arange(2000, dtype=np.uint16))


def break_law() -> None:
    """Do what a check does that finds a law broken."""
    msg = "law 3 is broken: it differs"
    raise LawError(msg)


def hold() -> None:
    """Do what a check does that finds nothing."""


@pytest.mark.parametrize(
    ("run", "problem"), [(hold, ""), (break_law, "LawError: law 3 is broken: it differs")]
)
def test_an_outcome_has_the_problem(run: Any, problem: str) -> None:
    """An error does not end the selftest: it is reported."""
    assert problem == run_check(Check("3", "x", run)).problem


def test_every_law_is_checked() -> None:
    """Over both orders and both tails, on several epochs' batches."""
    checks = selftest.make_checks(Settings(corpus=CORPUS, batch_size=4, seq_len=5))
    laws = {int(n) for check in checks for n in check.law.split(" ")[0].split(",") if n}
    assert {1, 3, 4, 5, 6, 8, 9, 10} <= laws
    for word in ("random", "sequential", "tail=drop", "tail=pad"):
        assert any(word in check.what for check in checks)


def test_packed_order_is_tried_where_there_are_documents() -> None:
    """And where they fill a batch."""
    lengths = [7] * 200, [1] * 1400
    kinds = [
        Settings(
            corpus=tl.Corpus.from_tokens(
                np.arange(1400, dtype=np.uint16), documents=np.cumsum([0, *each])
            ),
            batch_size=4,
            seq_len=5,
        ).kinds
        for each in lengths
    ]
    every = ("random", "sequential", "mixture", "packed")
    assert [every, every[:3]] == kinds


def make_growing() -> Settings:
    """Return settings with a batch size that changes."""
    corpus = tl.Corpus.from_documents(["to be or not"] * 99)
    sizes = BatchSizes(((0, 2), (50, 4), (70, 2)))
    return Settings(corpus=corpus, batch_size=sizes, seq_len=5, num_workers=(1,))


def test_a_batch_size_that_changes_does_so_in_each_short_epoch() -> None:
    """And only the orders are tried that can have it."""
    settings = make_growing()
    assert ("random", "mixture", "packed") == settings.kinds
    assert [1, 2] == settings.world_sizes
    assert [2, 4, 2] == [
        stretch.batch_size for stretch in settings.windows("random", num_batches=12).plan.stretches
    ]


@pytest.mark.slow
def test_the_laws_hold_where_the_batch_size_changes() -> None:
    """All but those that start other processes, which have tests of their own."""
    checks = [
        check
        for check in selftest.make_checks(make_growing())
        if check.law != "8 seeds" and "process" not in check.what
    ]
    assert {""} == {run_check(check).problem for check in checks}
    assert {"3 workers", "5 resume", "6, 7 counts"} <= {check.law for check in checks}


def test_a_mixture_is_tried_where_its_parts_fill_a_batch() -> None:
    """Of two halves of the corpus, or one that was given; with one tail."""
    settings = Settings(corpus=CORPUS, batch_size=4, seq_len=5)
    assert ("mixture", "drop") in settings.streams
    assert ("mixture", "pad") not in settings.streams
    assert any("shares of a mixture" in check.what for check in selftest.make_checks(settings))
    short = Settings(corpus=CORPUS.first(22), batch_size=4, seq_len=5)
    assert "mixture" not in short.kinds
    given = tl.Mixture({"web": (CORPUS, 1)})
    windows = Settings(corpus=CORPUS, mixture=given, batch_size=4, seq_len=5).windows("mixture")
    assert given is windows.mixture


def test_resumed_epochs_have_several_batches() -> None:
    """A stream of one batch could not be resumed in its middle."""
    settings = Settings(corpus=CORPUS, batch_size=4, seq_len=5)
    for config in selftest.choose_configs(settings)[:4]:
        assert all(len(loader) >= 2 for loader in config.loaders(settings))


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
        ({"start_methods": ["magic"]}, r"start methods must be among .*spawn.*, got \['magic'\]"),
        ({"num_workers": [0]}, r"numbers of workers must be at least 1, got \[0\]"),
        ({"batch_size": 1000}, "needs at least 35,001 tokens, the corpus has 2,000"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    """Before any check runs."""
    with pytest.raises(ValueError, match=message):
        Settings(corpus=CORPUS, **options)
