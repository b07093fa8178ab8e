"""Every law over the whole matrix: order, ranks, workers, how they start, whether they stay."""

import itertools
import multiprocessing
from typing import Any

import numpy as np
import pytest

import tokenloom as tl
from tokenloom.testing.selftest import (
    Check,
    Settings,
    choose_configs,
    choose_process_configs,
    make_checks,
)

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
    """The configs cover every pair of levels of every two factors."""
    common: dict[str, list[Any]] = {"kind": ["random", "sequential"], "tail": ["drop", "pad"]}
    common["world_size"] = [1, 2, 4]
    threads = {**common, "num_workers": [0, 1, 2, 4], "block_size": [1, 2]}
    processes = {
        **common,
        "num_workers": [1, 2, 4],
        "start_method": multiprocessing.get_all_start_methods(),
        "persistent": [False, True],
    }
    configs: Any
    for configs, factors in (
        (choose_configs(SETTINGS), threads),
        (choose_process_configs(SETTINGS), processes),
    ):
        missing = [
            (one, a, other, b)
            for (one, levels), (other, other_levels) in itertools.combinations(factors.items(), 2)
            for a, b in itertools.product(levels, other_levels)
            if not any(
                getattr(config, one) == a and getattr(config, other) == b for config in configs
            )
        ]
        assert [] == missing
