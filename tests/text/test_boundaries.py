"""Where texts may be cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.text.boundaries import (
    LETTERS,
    WORDS,
    cut_characters,
    cut_in_paragraph,
    cut_paragraphs,
)
from tokenloom.text.normalize import NOTHING, PREFIXES, clean_characters, clean_words, state_after

texts = st.text("aB \n\r.é\u3000\u2029時😀")


@given(texts, texts)
def test_characters_are_cut_whole(text: str, more: str) -> None:
    """Both sides are UTF-8, and nothing is lost."""
    whole = (text + more).encode("utf-8")
    window = whole[: len(text.encode("utf-8"))]
    place = cut_characters(window)

    assert text + more == whole[:place].decode("utf-8") + whole[place:].decode("utf-8")


@given(st.binary(min_size=1))
def test_what_is_no_utf8_is_cut_somewhere(window: bytes) -> None:
    """Each piece has at most three bytes less than the window, so work goes on."""
    place = cut_characters(window + b"\xff")

    assert place > 0


@pytest.mark.parametrize("character", ["é", "時", "🙂"])
@pytest.mark.parametrize("num_stray", [1, 2, 3])
def test_stray_bytes_split_no_character(character: str, num_stray: int) -> None:
    """Replaced bytes are the same in number, wherever chunks end."""
    window = b"ab" + character.encode() + b"\x80" * num_stray
    place = cut_characters(window)

    pieces = window[:place], window[place:]
    assert window.decode(errors="replace") == "".join(
        piece.decode(errors="replace") for piece in pieces
    )


@given(texts, texts)
def test_words_are_cut_whole(text: str, more: str) -> None:
    """The words of both sides are the words of the whole."""
    whole = (text + more).encode("utf-8")
    window = whole[: len(text.encode("utf-8"))]
    for boundary, split in ((WORDS, str.split), (LETTERS, lambda text: clean_words(text).split())):
        place = boundary.cut(window)
        first, second = whole[:place].decode("utf-8"), whole[place:].decode("utf-8")
        assert split(text + more) == split(first) + split(second)


@given(st.lists(texts, max_size=5))
def test_the_state_carries_the_normalisation_on(pieces: list[str]) -> None:
    """A text that is cut anywhere is normalised piece by piece."""
    state, cleaned = NOTHING, ""
    for piece in pieces:
        prefix = PREFIXES[state]
        cleaned += clean_characters(prefix + piece)[bool(prefix) :]
        state = state_after(piece.encode("utf-8"), state)

    assert clean_characters("".join(pieces)) == cleaned


@pytest.mark.parametrize(
    ("text", "expected"),
    [(b"", 0), (b"a", 0), (b"a\n", 0), (b"a\n\n", 3), (b"a\n\nb\n \t\nc\nd", 8), (b" \nb", 0)],
)
def test_paragraphs_are_cut_behind_blank_lines(text: bytes, expected: int) -> None:
    """The last blank line that follows a line end belongs to what is before it."""
    assert expected == cut_paragraphs(text)


@pytest.mark.parametrize(
    ("text", "is_inside", "expected"),
    [
        (b"ab\ncd", False, 2),
        (b"ab cd", False, 5),
        (b"   ", False, 0),
        (b"   ", True, 3),
        (b"\n   ", True, 0),
        (b"\nab", True, 3),
        (b"\r\n\r", True, 0),
    ],
)
def test_a_line_that_may_be_blank_is_not_cut(text: bytes, is_inside: bool, expected: int) -> None:
    """Whether it ends a paragraph is not known before its end."""
    assert expected == cut_in_paragraph(text, len, is_inside=is_inside)
