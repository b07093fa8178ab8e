"""Normalisation: the textbook's, at the corners that matter.

That it is the textbook's on any text is proved in properties/test_text.py.
"""

import pytest

from tokenloom.normalize import clean_characters, clean_prompt, clean_words


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
