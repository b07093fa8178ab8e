"""Integers that arguments must be."""

from typing import Any

import numpy as np
import pytest

from tokenloom.errors import ArgumentError
from tokenloom.integers import as_integer


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_an_integer_of_any_kind_becomes_a_plain_one(value: Any) -> None:
    """So that it can be written as JSON."""
    assert (3, int) == (as_integer("n", value), type(as_integer("n", value)))


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        (2.0, {}, "n must be an integer of at least 0, got 2.0"),
        ("2", {}, "n must be an integer of at least 0, got '2'"),
        (-1, {}, "n must be an integer of at least 0, got -1"),
        (0, {"start": 1}, "n must be an integer of at least 1, got 0"),
        (9, {"stop": 9}, r"n must be an integer in \[0, 9\), got 9"),
        (None, {"start": 2, "stop": 9}, r"n must be an integer in \[2, 9\), got None"),
    ],
)
def test_what_is_none_or_out_of_range_is_refused(
    value: Any, bounds: dict[str, int], message: str
) -> None:
    """The message names the argument, the range and the value."""
    with pytest.raises(ArgumentError, match=message):
        as_integer("n", value, **bounds)
