"""The words of messages."""

import contextlib
import re
from collections import UserDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import tokenloom as tl
from tokenloom._wording import count, escape, redact, show, suggest_path
from tokenloom.cli.main import main


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


def test_a_folder_of_many_files_is_closed(tmp_path: Path) -> None:
    """Though not all of them are looked at: otherwise Python would warn."""
    for number in range(1_001):
        (tmp_path / f"{number:04}").touch()
    assert "did you mean" in suggest_path(tmp_path / "00000")


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://me:p@hush@a.org/b.txt", "https://a.org/b.txt"),
        ("HTTPS://me:it's hush@a.org/it's b.txt?sig=1,hush", "HTTPS://a.org/it's b.txt"),
        ("train=https://me:hush@a.org/x?sig=hush", "train=https://a.org/x"),
        ("https:/me:hush@a.org/x?sig=hush", "https:/a.org/x"),
        (
            "no 'https://a.org/x?sig=hush', nor s3://u:hush@b/c",
            "no 'https://a.org/x', nor s3://b/c",
        ),
        ("s3://key:hush@texts/C#.jsonl", "s3://texts/C#.jsonl"),
        ("is it C#, or a@b.org?", "is it C#, or a@b.org?"),
    ],
)
def test_secrets_of_addresses(text: str, expected: str) -> None:
    """Are left out, also where a message shows a value."""
    assert expected == redact(text)
    assert "hush" not in show({"a": [text]}) + show(text)


ADDRESS = "https://me:p@hush@example.invalid/x.txt?sig=hush"


@pytest.mark.parametrize(
    "use",
    [
        tl.load,
        tl.Corpus.open,
        tl.open_foreign,
        lambda address: tl.Corpus.from_text("a", tokenizer=address),
        lambda address: tl.prepare({"": [address]}, "store"),
        lambda address: tl.prepare(iter("a"), "store", tokenizer=address),
        lambda address: tl.prepare(Path(address), "store"),
    ],
)
def test_no_door_shows_secrets(use: Callable[[str], object]) -> None:
    """Whatever an address is given for."""
    with pytest.raises(tl.TokenloomError) as raised:
        use(ADDRESS)
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize(
    "command",
    [
        ["train", ADDRESS],
        ["info", ADDRESS],
        ["verify", ADDRESS],
        ["evaluate", ADDRESS, "store"],
        ["fetch", ADDRESS],
        ["generate", ADDRESS],
        ["prepare", "x", "--tokenizer", ADDRESS, "-o", "store"],
        ["prepare", "--split", "valid=0.1", "--split", f"train={ADDRESS}", "-o", "store"],
        ["prepare", "--split", f"={ADDRESS}", "-o", "store"],
        ["prepare", "x", "--dask", ADDRESS, "-o", "store"],
    ],
)
def test_no_command_shows_secrets(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever an address is given for."""
    with contextlib.suppress(SystemExit):
        main(command)
    printed = capsys.readouterr()
    assert "error:" in printed.err
    assert "hush" not in printed.out + printed.err
