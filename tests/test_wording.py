"""The words of messages."""

import re
from collections import UserDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import tokenloom as tl
from tokenloom._wording import count, escape, show, suggest_path


class Tokenizers:
    """Has a representation of thousands of characters, as some of other packages have."""

    def __repr__(self) -> str:
        return f"Tokenizers({'x' * 4000})"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Tokenizers(), "an object of type Tokenizers"),
        (Tokenizers, "the class Tokenizers"),
        (np.zeros((3, 4)), "an array of float64, shape (3, 4)"),
        (torch.ones(2), "a tensor of torch.float32, shape (2,)"),
        (1 << 999, "an integer of 1,000 bits"),
        (UserDict(a=1), "{'a': 1}"),
        (None, "None"),
    ],
)
def test_what_is_shown_of_a_value(value: object, expected: str) -> None:
    """Its type, where all of it would fill the screen."""
    assert expected == show(value)


@pytest.mark.parametrize(
    "value",
    ["x" * 9999, b"x" * 9999, list(range(9999)), dict.fromkeys(range(999)), [["x" * 999]]],
)
def test_no_value_fills_the_screen(value: object) -> None:
    """However long it is."""
    assert len(show(value)) <= 130


def test_the_neighbour_that_was_meant(tmp_path: Path) -> None:
    """Found where there is one, in a folder that exists."""
    (tmp_path / "my-book.txt").touch()
    expected = f": did you mean {str(tmp_path / 'my-book.txt')!r}?"
    assert expected == suggest_path(tmp_path / "my-bok.txt")
    assert ["", "", ""] == [
        suggest_path(path) for path in (tmp_path / "x", tmp_path / "no" / "book.txt", "a\0b")
    ]


def test_what_a_terminal_would_obey_is_visible() -> None:
    """Control characters, and those that turn the direction of writing."""
    assert r"a\x1b[2Jb\r\x9b\u202ec\x7f" == escape("a\x1b[2Jb\r\x9b\u202ec\x7f")
    assert "tab\tline\n\u00e9 \u65f6\u95f4 \U0001f642" == escape(
        "tab\tline\n\u00e9 \u65f6\u95f4 \U0001f642"
    )


def test_nouns_agree_with_their_number() -> None:
    """Also those whose plural has another form."""
    assert ["0 epochs", "1 epoch", "2 batches"] == [
        count(0, "epoch"),
        count(1, "epoch"),
        count(2, "batch", "batches"),
    ]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: tl.RandomWindows(None, batch=3), "RandomWindows.__init__"),  # type: ignore[call-arg,arg-type]
        (tl.SequentialWindows, "SequentialWindows.__init__"),
        (lambda: tl.Corpus.from_tokens([1]).slice(), "Corpus.slice"),  # type: ignore[call-arg]
        (lambda: tl.Corpus(1), "Corpus.__init__"),  # type: ignore[call-arg,arg-type]
    ],
)
def test_errors_name_classes_that_people_know(call: Callable[[], object], name: str) -> None:
    """Also those of Python itself, where an argument is missing or unknown."""
    with pytest.raises(TypeError, match=rf"^{re.escape(name)}\(\) "):
        call()
