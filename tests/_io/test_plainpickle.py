"""Pickles that hold nothing but data."""

import pickle
import random
import tracemalloc
from typing import Any

import pytest

from tokenloom._io.plainpickle import read_plain

META = {
    "vocab_size": 3,
    "itos": {0: "a", 1: "\n", 300: "é"},
    "more": [1, -2, [1 << 70, None], True],
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", [META, {}, [], "a", {"a": {}}, [[], {"b": "b"}], [META, META]])
def test_plain_values_come_back(value: Any, protocol: int) -> None:
    """In every protocol of Python's own writer."""
    assert value == read_plain(pickle.dumps(value, protocol))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(print), "names builtins.print, and may hold dicts"),
        (pickle.dumps(print, 0), "names __builtin__.print, and may hold dicts"),
        (pickle.dumps(1.5), "names 1.5, and may hold"),
        (pickle.dumps((1,)), "and may hold dicts"),
        (b"", "exhausted"),
        (b".", "must end with one value"),
        (b"(.", "must end with one value"),
        (pickle.dumps({}) + b".", "must end with one value"),
        (b"}}}s.", "unhashable"),
        (b"K\1\x94h\5.", "KeyError: 5"),
        (b"s.", "IndexError"),
        (b"K\1K\2K\3s.", "AttributeError"),
        (b"(K\1d.", "argument 2 is shorter"),
        (b"\xff.", "opcode"),
    ],
)
def test_whatever_else_is_refused(content: bytes, message: str) -> None:
    """Classes, other values, and what is damaged."""
    with pytest.raises(ValueError, match=message):
        read_plain(content)


def test_a_damaged_pickle_raises_one_kind_of_error() -> None:
    """Whatever is changed in it; and little memory is taken."""
    rng = random.Random(0)  # noqa: S311
    tracemalloc.start()
    try:
        for protocol in (0, 2, 4):
            content = pickle.dumps(META, protocol)
            for _ in range(1000):
                changed = bytearray(content)
                changed[rng.randrange(len(changed))] = rng.randrange(256)
                try:
                    read_plain(bytes(changed[: rng.choice([None, rng.randrange(len(changed))])]))
                except ValueError:
                    continue
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()
