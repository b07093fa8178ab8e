"""Losses that stand out."""

import math

import numpy as np
import pytest

from tokenloom.inspection.steps import find_spikes


def noise(num_steps: int, seed: int = 0) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return losses that fall, with noise."""
    generator = np.random.default_rng(seed)
    falling = 3 * np.exp(-np.arange(num_steps) / 200) + 1
    return falling + generator.normal(0, 0.05, num_steps)


def test_a_training_without_spikes_has_none() -> None:
    """Neither its high beginning nor its noise stands out."""
    assert [] == [spike for seed in range(20) for spike in find_spikes(noise(2000, seed))]


def test_spikes_come_strongest_first() -> None:
    """Each with its steps, its loss and what was usual before it."""
    losses = noise(2000)
    losses[700], losses[1500:1503] = 3.0, [4.0, 9.0, 4.0]
    first, second = find_spikes(losses)
    assert [(1500, 1503, 4.0), (700, 701, 3.0)] == [
        (spike.first, spike.stop, spike.loss) for spike in (first, second)
    ]
    assert np.median(losses[600:700]) == second.usual
    mad = np.median(np.abs(losses[600:700] - second.usual))
    assert pytest.approx((3.0 - second.usual) / (1.4826 * mad)) == second.deviations


def test_earlier_spikes_do_not_hide_later_ones() -> None:
    """Median and MAD are not moved by what stood out before."""
    losses = noise(1000)
    losses[500:600:5] = 9.0
    losses[590] = 5.0
    assert 590 in [spike.first for spike in find_spikes(losses)]


def test_what_is_not_finite_stands_out() -> None:
    """Also at the very beginning, and it spoils no median."""
    losses = noise(300)
    losses[3] = losses[200] = math.nan
    losses[250] = 9.0
    assert [3, 200, 250] == [spike.first for spike in find_spikes(losses)]


def test_rounding_is_no_spike() -> None:
    """Where all losses are equal the MAD is 0; what is a bit higher does not stand out."""
    losses = np.full(300, 2.0)
    losses[200], losses[250] = 2.001, 2.1
    assert [250] == [spike.first for spike in find_spikes(losses)]


@pytest.mark.parametrize("num_steps", [0, 1, 5])
def test_a_short_training_has_none(num_steps: int) -> None:
    """There is nothing to compare with."""
    assert [] == find_spikes(np.full(num_steps, 5.0))


def test_long_trainings_are_looked_at_in_parts() -> None:
    """What is found does not depend on where a part ends."""
    losses = noise(10_000)
    places = [4095, 4096, 4097, 8192, 9999]
    losses[places] = 9.0
    found = find_spikes(losses)
    assert [(4095, 4098), (8192, 8193), (9999, 10_000)] == sorted((s.first, s.stop) for s in found)
