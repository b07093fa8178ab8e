"""The wording of messages: values in few characters, names that were meant, plurals."""

import difflib
import html
import itertools
import os
import re
import reprlib
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

_MAX_CHARACTERS = 100
_MAX_ENTRIES = 1000
# Characters that change the direction of writing can show the end of a name in its middle.
_DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}

# The beginning of an address; pathlib removes one of its slashes.
_BEGIN = r"(?:[A-Za-z][A-Za-z0-9+.-]*://|https?:/)"
# Where an address inside another begins, as that of an archive does after the name of a member.
_LINK = re.compile(r"::(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_WHOLE = re.compile(rf"(?P<before>(?:[\w-]+=)?{_BEGIN})(?:[^/]*@)?(?P<rest>.*)", re.DOTALL)
_USER = re.compile(r"(://|https?:/)[^/\s'\"]*@", re.IGNORECASE)
_QUERY = re.compile(r"(https?:/[^\s?#]*)[?#][^\s'\"]*", re.IGNORECASE)


class _Short(reprlib.Repr):
    """Shows the beginning of a long value, without building its whole repr."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = _MAX_CHARACTERS

    def repr_str(self, text: str, level: int) -> str:
        return super().repr_str(redact(text) if ":/" in text else text, level)

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
        text = redact(super().repr_instance(value, level))
        is_long = len(text) >= _MAX_CHARACTERS or "\n" in text
        return f"an object of type {type(value).__name__}" if is_long else text


_SHORT = _Short()


def show(value: object) -> str:
    """Return how a message shows a value: by its repr, or by a part or the type of a long one.

    Addresses are shown as by `redact`.

    >>> show("byte"), show(1.5), show([0] * 9)
    ("'byte'", '1.5', '[0, 0, 0, 0, 0, 0, ...]')
    """
    return _SHORT.repr(value)


def redact(text: str) -> str:
    """Return a text without secrets: users, passwords and queries of addresses.

    Queries are those of http and https: elsewhere ``?`` and ``#`` belong to names.

    >>> redact("https://me:secret@a.org/b.txt?X-Amz-Signature=4f"), redact("s3://a/C#.txt")
    ('https://a.org/b.txt', 's3://a/C#.txt')
    >>> redact("zip://C#.txt::https://me:secret@a.org/b.zip?X-Amz-Signature=4f")
    'zip://C#.txt::https://a.org/b.zip'
    """
    if len(links := _LINK.split(text)) > 1:
        return "::".join(map(redact, links))
    if not (whole := _WHOLE.fullmatch(text)):
        return _QUERY.sub(r"\1", _USER.sub(r"\1", text))
    before, rest = whole["before"], whole["rest"]
    if "http" in before.lower():
        rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    return before + rest


def suggest(name: str, known: Iterable[str]) -> str:
    """Return the end of a message that suggests a known name, or nothing.

    >>> suggest("--epoch", ["--epochs", "--lr"]), suggest("--speed", ["--lr"])
    (': did you mean --epochs?', '')
    >>> suggest("--laws", ["--raw"])
    ''
    """
    # Compare without dashes, which all options share.
    names = {one.lstrip("-"): one for one in known}
    near = difflib.get_close_matches(name.lstrip("-"), names, n=1)
    return f": did you mean {names[near[0]]}?" if near else ""


def suggest_path(path: str | os.PathLike[str], names: Iterable[str] = ()) -> str:
    """Return the end of a message that suggests a path or a name, or nothing.

    Parameters
    ----------
    path : str or path
        The missing path; a file or folder beside it may be meant.
    names : iterable of str
        Names that may be meant.
    """
    wanted = Path(path)
    try:
        # Not sorted, and bounded, since a folder may hold millions.
        with os.scandir(wanted.parent) as entries:
            names_there = [entry.name for entry in itertools.islice(entries, _MAX_ENTRIES)]
        neighbours = {name: str(wanted.parent / name) for name in names_there}
    except (OSError, ValueError):
        neighbours = {}
    near = [
        *difflib.get_close_matches(os.fspath(path), list(names), n=1),
        *map(neighbours.get, difflib.get_close_matches(wanted.name, neighbours, n=1)),
    ]
    return f": did you mean {near[0]!r}?" if near else ""


def describe_missing(path: str | os.PathLike[str], names: Iterable[str] = ()) -> str:
    """Return what is wrong with a path that has to be a file or a folder of another kind.

    >>> describe_missing("no-such-folder/book.txt")
    'no such file or folder'
    """
    # os.path returns False for a name that no file can have; Path raises.
    if os.path.isdir(path):  # noqa: PTH112
        return "it is a folder of another kind"
    if os.path.lexists(path):
        is_file = os.path.isfile(path)  # noqa: PTH113
        return "it is a file" if is_file else "it is no regular file, or a link to nothing"
    return f"no such file or folder{suggest_path(path, names)}"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun.

    >>> count(1, "epoch"), count(1200, "batch", "batches")
    ('1 epoch', '1,200 batches')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def join_choices(choices: Sequence[str]) -> str:
    """Return the strings that an argument may be, as a message names them.

    >>> join_choices(["drop", "pad"]), join_choices(["stop", "skip", "replace"])
    ("'drop' or 'pad'", "'stop', 'skip' or 'replace'")
    """
    *others, last = map(repr, choices)
    return f"{', '.join(others)} or {last}" if others else last


def as_html(title: str, facts: Iterable[tuple[str, object]], *, below: str = "") -> str:
    """Return what a notebook shows of an object: a title, a table of facts, and HTML below it.

    >>> as_html("Batch", [("rows", 3)])
    '<b>Batch</b><table><tr><th>rows</th><td>3</td></tr></table>'
    """
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(escape(str(value)))}</td></tr>"
        for name, value in facts
    )
    return f"<b>{html.escape(escape(title))}</b><table>{rows}</table>{below}"


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
