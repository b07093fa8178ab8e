"""Types that arguments must have."""

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from types import UnionType
from typing import Any, SupportsIndex, TypeVar, cast

import numpy as np

from tokenloom._wording import join_choices, show
from tokenloom.errors import ArgumentError, CorpusError

# More workers than a few per core only wait, and thousands fill the memory with their stacks.
MAX_WORKERS = 1 << 12
# The first integer that no array and no file of 64 bits holds.
_TOO_LARGE = 1 << 63

_Value = TypeVar("_Value")
# Takes the name of an argument and its value; returns the value as it is used from there on.
Check = Callable[[str, Any], Any]


def check_all(values: Mapping[str, object], checks: Mapping[str, Check]) -> dict[str, Any]:
    """Return arguments by name, each as its check returns it.

    Raises
    ------
    ArgumentError
        A check refuses its argument; the first of them, in the order of ``checks``.

    >>> check_all({"seed": np.int64(5), "name": "a"}, {"seed": as_integer, "name": as_text})
    {'seed': 5, 'name': 'a'}
    """
    return {name: check(name, values[name]) for name, check in checks.items()}


def to_integer(value: object) -> int:
    """Return an integer of Python, NumPy or PyTorch as a plain one.

    Raises
    ------
    TypeError
        It is no integer; floats, True and False are none either.

    >>> to_integer(np.uint8(3))
    3
    """
    # NumPy 1 takes its own booleans for integers, with a warning.
    if isinstance(value, bool | np.bool_):
        msg = f"expected an integer, got {value}"
        raise TypeError(msg)
    return operator.index(value)  # type: ignore[arg-type]  # that is the question


def as_integer(name: str, value: SupportsIndex, *, start: int = 0, stop: int | None = None) -> int:
    """Return an argument as a plain integer in the half-open range [start, stop).

    Without a ``stop`` it is below 2**63, as all numbers of tokens are.

    Raises
    ------
    ArgumentError
        It is no integer, or out of the range.

    >>> as_integer("num_workers", 2), as_integer("seed", 5, stop=9)
    (2, 5)
    """
    bounds = f"of at least {start}" if stop is None else f"in [{start}, {stop})"
    try:
        integer = to_integer(value)
    except TypeError:
        msg = f"{name} must be an integer {bounds}, got {show(value)}"
        raise ArgumentError(msg) from None
    if integer < start or (stop is not None and integer >= stop):
        msg = f"{name} must be an integer {bounds}, got {show(integer)}"
        raise ArgumentError(msg)
    if stop is None and integer >= _TOO_LARGE:
        msg = f"{name} must be an integer {bounds} and below 2**63, got {show(integer)}"
        raise ArgumentError(msg)
    return integer


def as_integers(**values: object) -> tuple[int, ...]:
    """Return arguments as plain integers of any size, in their order.

    Raises
    ------
    ArgumentError
        One of them is no integer.

    >>> as_integers(start=np.uint8(200), stop=300)
    (200, 300)
    """
    integers = []
    for name, value in values.items():
        try:
            integers.append(to_integer(value))
        except TypeError:
            msg = f"{name} must be an integer, got {show(value)}"
            raise ArgumentError(msg) from None
    return tuple(integers)


def as_number(name: str, value: object) -> float:
    """Return an argument as a plain number; an integer that no float can hold is infinite.

    Raises
    ------
    ArgumentError
        It is no real number.

    >>> as_number("fraction", np.float32(0.5)), as_number("lr", -(10**400))
    (0.5, -inf)
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        msg = f"{name} must be a number, got {show(value)}"
        raise ArgumentError(msg)
    try:
        return float(value)
    except OverflowError:
        return math.inf if cast("int", value) > 0 else -math.inf


def require_type(name: str, value: _Value, types: type | UnionType, expected: str) -> _Value:
    """Return an argument, and refuse one of another type.

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
    'corpus'
    """
    if not isinstance(value, types):
        msg = f"{name} must be {expected}, got {show(value)}"
        raise ArgumentError(msg)
    return value


def as_text(name: str, value: object) -> str:
    """Return an argument as a plain str.

    Raises
    ------
    ArgumentError
        It is no str.
    """
    return str(require_type(name, value, str, "a str"))


def require_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """Return an argument, and refuse one that is none of several strings.

    Raises
    ------
    ArgumentError
        It is something else.

    >>> require_choice("tail", "pad", ("drop", "pad"))
    'pad'
    """
    if not isinstance(value, str) or value not in choices:
        msg = f"{name} must be {join_choices(choices)}, got {show(value)}"
        raise ArgumentError(msg)
    return value


def as_flag(name: str, value: object) -> bool:
    """Return an argument as a plain True or False.

    Raises
    ------
    ArgumentError
        It is neither.
    """
    return bool(require_type(name, value, bool | np.bool_, "True or False"))


def as_flag_or_none(name: str, value: object) -> bool | None:
    """Return an argument as a plain True or False, or None as it is.

    Raises
    ------
    ArgumentError
        It is something else.
    """
    require_type(name, value, bool | np.bool_ | None, "True, False or None")
    return None if value is None else bool(value)


def as_special_tokens(name: str, values: object) -> tuple[str, ...]:
    """Return an argument as a tuple of its strings, each of which can be a token.

    Raises
    ------
    ArgumentError
        It is no sequence of str, or one of them is empty or no text.
    """
    return tuple(as_special_token(name, value) for value in as_strings(name, values))


def as_special_token(name: str, value: str) -> str:
    """Return a str that can be a token.

    Raises
    ------
    ArgumentError
        It is empty, or has half of a surrogate pair, which no file in UTF-8 can hold.

    >>> as_special_token("end_of_document", "<eod>")
    '<eod>'
    """
    if value and find_surrogate(value) is None:
        return value
    what = "half of a character" if value else "an empty one"
    msg = f"{name} must have tokens of whole characters, got {what}: {show(value)}"
    raise ArgumentError(msg)


def find_surrogate(text: str) -> int | None:
    r"""Return the place of half of a surrogate pair, which is no character, or None.

    >>> find_surrogate("caf\u00e9"), find_surrogate("a\ud83d")
    (None, 1)
    """
    if text.isascii():
        return None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return error.start
    return None


def require_characters(text: str, *, name: str) -> None:
    """Refuse a text that no file in UTF-8 can hold.

    Raises
    ------
    CorpusError
        It holds half of a surrogate pair; the message has its place.
    """
    place = find_surrogate(text)
    if place is not None:
        msg = (
            f"{name} must be text, got the lone surrogate {text[place]!r} at character {place:,}, "
            "which is no character: decode it with errors='replace', or mend it"
        )
        raise CorpusError(msg)


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
