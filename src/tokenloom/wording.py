"""The wording of messages: values in few characters, names that were meant, plurals."""

import difflib
import os
import reprlib
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_MAX_CHARACTERS = 100
# What turns the direction of writing can show a name's end as its middle.
_DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


class _Short(reprlib.Repr):
    """Shows the beginning of what is long, without making the whole of it."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = _MAX_CHARACTERS

    def repr_ndarray(self, array: Any, _: int) -> str:
        return f"an array of {array.dtype}, shape {tuple(array.shape)}"

    def repr_Tensor(self, tensor: Any, _: int) -> str:  # noqa: N802  named by the type
        return f"a tensor of {tensor.dtype}, shape {tuple(tensor.shape)}"

    def repr_int(self, value: int, _: int) -> str:
        # Python refuses to write out thousands of digits.
        is_short = value.bit_length() < 256
        return repr(value) if is_short else f"an integer of {value.bit_length():,} bits"

    def repr_instance(self, value: object, level: int) -> str:
        if isinstance(value, type):
            return f"the class {value.__name__}"
        text = super().repr_instance(value, level)  # type: ignore[arg-type]  # any object has one
        is_long = len(text) >= _MAX_CHARACTERS or "\n" in text
        return f"an object of type {type(value).__name__}" if is_long else text


_SHORT = _Short()


def show(value: object) -> str:
    """Return what a message shows of a value: its repr, of what is long a part or its type.

    >>> show("byte"), show(1.5), show([0] * 9)
    ("'byte'", '1.5', '[0, 0, 0, 0, 0, 0, ...]')
    """
    return _SHORT.repr(value)


def suggest(name: str, known: Iterable[str]) -> str:
    """Return the end of a message that asks for the name that was meant, or nothing.

    >>> suggest("--epoch", ["--epochs", "--lr"]), suggest("--speed", ["--lr"])
    (': did you mean --epochs?', '')
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f": did you mean {near[0]}?" if near else ""


def suggest_path(path: str | os.PathLike[str]) -> str:
    """Return the end of a message that asks for the neighbour that a path may mean, or nothing."""
    wanted = Path(path)
    try:
        names = [entry.name for entry in wanted.parent.iterdir()]
    except (OSError, ValueError):
        return ""
    near = difflib.get_close_matches(wanted.name, names, n=1)
    return f": did you mean {str(wanted.with_name(near[0]))!r}?" if near else ""


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun.

    >>> count(1, "epoch"), count(1200, "batch", "batches")
    ('1 epoch', '1,200 batches')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def escape(text: str) -> str:
    r"""Return a text whose control characters are visible, but for line ends and tabs.

    A terminal obeys control characters, also those in the name of a file.

    >>> escape("a\x1b[31m.txt\n")
    'a\\x1b[31m.txt\n'
    """
    if text.isprintable():
        return text
    return "".join(
        character if character in "\n\t" or not _is_control(character) else ascii(character)[1:-1]
        for character in text
    )


def _is_control(character: str) -> bool:
    is_obeyed = unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
    return is_obeyed or unicodedata.bidirectional(character) in _DIRECTIONS
