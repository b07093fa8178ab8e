"""Types that arguments must have."""

import operator
from collections.abc import Iterable
from numbers import Real
from types import UnionType
from typing import SupportsIndex

import numpy as np

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


def require_type(name: str, value: object, types: type | UnionType, expected: str) -> None:
    """Refuse an argument of another type.

    Parameters
    ----------
    name : str
    value : object
    types : type or union of types
    expected : str
        What it must be, for people.

    Raises
    ------
    ArgumentError
        It has none of the types.

    >>> require_type("name", "corpus", str, "a str")
    """
    if not isinstance(value, types):
        msg = f"{name} must be {expected}, got {show(value)}"
        raise ArgumentError(msg)


def require_flags(**values: object) -> None:
    """Refuse arguments that are neither True nor False, by their names.

    Raises
    ------
    ArgumentError
        One of them is neither.
    """
    for name, value in values.items():
        require_type(name, value, bool | np.bool_, "True or False")


def require_bar(progress: object) -> None:
    """Refuse a ``progress`` that does not say whether to show a bar.

    Raises
    ------
    ArgumentError
        It is neither True, False nor None.
    """
    require_type("progress", progress, bool | np.bool_ | None, "True, False or None")


def as_strings(name: str, values: object) -> tuple[str, ...]:
    """Return an argument as a tuple of its strings.

    Raises
    ------
    ArgumentError
        It is no iterable of str, a str itself, or a set, which has no order.

    >>> as_strings("reserved_tokens", ["<pad>", "<eod>"])
    ('<pad>', '<eod>')
    """
    # A set has another order in each process. A tensor, or array, of no dimension has none.
    is_one = isinstance(values, str | set | frozenset) or getattr(values, "ndim", 1) == 0
    is_some = isinstance(values, Iterable) and not is_one
    each = tuple(values) if is_some else (None,)  # type: ignore[arg-type]  # just looked at
    if not all(isinstance(value, str) for value in each):
        msg = f"{name} must be a sequence of str, got {show(values)}"
        raise ArgumentError(msg)
    return tuple(map(str, each))
