"""Normalisation: the textbook's, at the corners that matter.

That it is the textbook's on any text is proved in laws/test_text.py.
"""

import string
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.hub.texts import read_python_docs
from tokenloom.text import normalize
from tokenloom.text.documents import TextSegment
from tokenloom.text.normalize import (
    GAP,
    LETTER,
    NOTHING,
    PREFIXES,
    clean_characters,
    clean_prompt,
    clean_segments,
    clean_words,
    count_lost,
    count_words,
    find_characters,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("...", ""),
        ("\n", ""),
        ("a", "a"),
        ("AZ", "az"),
        (" a ", "a"),
        ("a-b", "a b"),
        ("a - b", "a b"),
        ("a_b9c", "a b c"),
        ("a\nb", "ab"),
        ("a \n b", "ab"),
        ("a\r\nb", "ab"),
        ("a\rb", "ab"),
        ("a\n\n\nb", "ab"),
        ("a\x0bb\x0cc", "a b c"),
        ("a\u2028b\x85c", "a b c"),
        ("\ufeffcafé au lait", "caf au lait"),
        ("\u212aelvin", "elvin"),
        ("[`{@", ""),
    ],
)
def test_clean_characters(text: str, expected: str) -> None:
    """Letters and single spaces inside a line stay; line ends vanish."""
    assert expected == clean_characters(text)


@given(st.text("aB \r\n.é時\U0001f600"))
def test_each_character_is_found_where_it_stood(text: str) -> None:
    """A letter at itself, and a space at the first character that is none after a letter."""
    cleaned, places = clean_characters(text), find_characters(text).tolist()
    assert len(cleaned) == len(places)
    assert places == sorted(set(places))
    for character, place in zip(cleaned, places, strict=True):
        if character == " ":
            assert clean_characters(text[place - 1 : place + 1]).isalpha()
            assert not clean_characters(text[place])
        else:
            assert character == text[place].lower()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("...", ""),
        ("\n", ""),
        ("a", "a"),
        ("a\nb", "a b"),
        ("a \n b", "a b"),
        ("a\r\nb", "a b"),
        ("a\rb", "a b"),
        ("a,\n\n--b", "a b"),
        ("\na\n", "a"),
        ("Don't", "don t"),
        ("a\x0bb", "a b"),
    ],
)
def test_clean_words(text: str, expected: str) -> None:
    """Words are separated by one space, within a line and between lines."""
    assert expected == clean_words(text)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", ""),
        (" ", ""),
        ("?!", ""),
        ("time", "time"),
        ("Time  Traveller", "time traveller"),
        ("time ", "time "),
        ("  time", " time"),
        ("time,", "time "),
        ("time\nmachine", "time machine"),
        ("é", ""),
        ("été", " t "),
    ],
)
def test_clean_prompt(prompt: str, expected: str) -> None:
    """A prompt keeps one space at each end where it had something there."""
    assert expected == clean_prompt(prompt)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("", (0, 0, 0, 0, 0)),
        ("Time flies.\n", (12, 2, 0, 0, 1)),
        ("a\u00e9\u65f6\U0001f642 7", (6, 1, 3, 1, 0)),
        ("\u201cOh\u201d \u2014 no\u2026", (10, 2, 0, 0, 4)),
        ("\ud800", (1, 0, 1, 0, 0)),
    ],
)
def test_what_is_lost_is_counted_by_kind(text: str, kinds: tuple[int, ...]) -> None:
    """All characters, white space, letters of other alphabets, digits, signs."""
    assert kinds == tuple(count_lost(text))


@given(st.text())
def test_the_kinds_are_all_there_is(text: str) -> None:
    """A letter a-z, white space of ASCII, or lost."""
    lost = count_lost(text)
    num_letters = sum(character in string.ascii_letters for character in text)
    num_spaces = sum(character in "\t\n\v\f\r " for character in text)
    assert (len(text), num_spaces) == (lost.num_characters, lost.num_spaces)
    assert len(text) - num_spaces - num_letters == lost.num_lost
    assert min(lost) >= 0


@pytest.mark.parametrize(
    ("text", "is_much"),
    [
        (
            "It was, he said, at ten or so that we dined; \u201cYes?\u201d I said \u2014 at last.",
            False,
        ),
        (" \n" * 99, False),
        ("In 1895 the 3rd edition cost 6s.", True),
        ("L'\u00e9t\u00e9 dernier nous avons visit\u00e9 la for\u00eat", True),
        ("El ni\u00f1o comi\u00f3 una manzana en la monta\u00f1a y no dijo nada", True),
        ("\u65f6\u95f4\u65c5\u884c\u8005", True),
        ("for (i = 0; i < n; ++i) { x[i] += f(y[i]); }", True),
    ],
)
def test_english_prose_loses_little(text: str, is_much: bool) -> None:
    """What any other text loses is worth a word."""
    assert is_much == count_lost(text).is_much


def test_the_textbooks_own_text_loses_little() -> None:
    """Nor does the one that Python carries, which is half code."""
    assert not count_lost(read_python_docs().decode()).is_much


@given(st.lists(st.text("aB \n\r.é時"), min_size=1, max_size=5))
def test_normalised_words_of_each_part(parts: list[str]) -> None:
    """The counts are those of the parts, one by one."""
    assert [len(clean_words(part).split()) for part in parts] == count_words(parts).tolist()


@pytest.mark.parametrize("piece", [1, 6, 1 << 18])
@given(
    parts=st.lists(
        st.tuples(st.text("aB \n\r.é時"), st.sampled_from([NOTHING, NOTHING, LETTER, GAP])),
        min_size=1,
        max_size=6,
    )
)
def test_normalised_characters_of_each_part(piece: int, parts: list[tuple[str, int]]) -> None:
    """They are those of the parts, one by one, however many are normalised in one call."""
    segments = [TextSegment(text, state, ends=True) for text, state in parts]
    each = [clean_characters(PREFIXES[state] + text)[bool(state) :] for text, state in parts]
    with mock.patch.object(normalize, "_PIECE", piece):
        joined, lengths = clean_segments(segments)
    assert (joined, lengths.tolist()) == ("".join(each), list(map(len, each)))
