"""Integers that arguments must be."""

import operator
from numbers import Real
from typing import SupportsIndex

from tokenloom.errors import ArgumentError
from tokenloom.wording import show


def as_integer(name: str, value: SupportsIndex, *, start: int = 0, stop: int | None = None) -> int:
    """Return an argument as a plain integer in the half-open range [start, stop).

    Raises
    ------
    ArgumentError
        It is no integer, or out of the range.

    >>> as_integer("num_workers", 2), as_integer("seed", 5, stop=9)
    (2, 5)
    """
    bounds = f"of at least {start}" if stop is None else f"in [{start}, {stop})"
    try:
        integer = operator.index(value)
    except TypeError:
        msg = f"{name} must be an integer {bounds}, got {show(value)}"
        raise ArgumentError(msg) from None
    if integer < start or (stop is not None and integer >= stop):
        msg = f"{name} must be an integer {bounds}, got {show(integer)}"
        raise ArgumentError(msg)
    return integer


def require_integers(**values: object) -> None:
    """Refuse arguments that are no integers, by their names.

    Raises
    ------
    ArgumentError
        One of them is none.
    """
    for name, value in values.items():
        try:
            operator.index(value)  # type: ignore[arg-type]  # that is the question
        except TypeError:
            msg = f"{name} must be an integer, got {show(value)}"
            raise ArgumentError(msg) from None


def require_number(name: str, value: object) -> None:
    """Refuse an argument that is no real number.

    Raises
    ------
    ArgumentError
        It is none.
    """
    if not isinstance(value, Real):
        msg = f"{name} must be a number, got {show(value)}"
        raise ArgumentError(msg)
