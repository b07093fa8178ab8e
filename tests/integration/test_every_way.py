"""Every law over the whole matrix: order, ranks, workers, how they start, whether they stay."""

import multiprocessing
from typing import Any

import numpy as np
import pytest

import tokenloom as tl
from tokenloom.selftest import Check, Settings, choose_ways, make_checks

SETTINGS = Settings(
    corpus=tl.Corpus.from_tokens(np.arange(60_000, dtype=np.uint16)), batch_size=4, seq_len=5
)
CHECKS = make_checks(SETTINGS)


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"law {check.law}: {check.what}")
def test_every_law_holds_in_every_way(check: Check) -> None:
    """No check finds a law broken."""
    check.run()


def test_each_two_settings_meet() -> None:
    """The ways cover every pair of levels of every two factors."""
    ways = choose_ways(SETTINGS)
    factors: dict[str, list[Any]] = {
        "kind": ["random", "sequential"],
        "world_size": [1, 2, 4],
        "num_workers": [0, 1, 2, 4],
        "start_method": multiprocessing.get_all_start_methods(),
        "persistent": [False, True],
    }
    missing = [
        (one, a, other, b)
        for one, levels in factors.items()
        for other, other_levels in factors.items()
        for a in levels
        for b in other_levels
        # Without workers there is nothing to start or to keep.
        if one != other and 0 not in (a, b)
        if not any(getattr(way, one) == a and getattr(way, other) == b for way in ways)
    ]
    assert [] == missing
