"""Characters and words as numbers, and how often each of them appears."""

import pytest

from tokenloom.text.counting import count_characters, look_up, number_characters, number_words


def test_count_characters_is_in_order_of_first_appearance() -> None:
    """Ties in the vocabulary depend on this order."""
    expected = [("é", 2), ("b", 1), ("a", 3)]
    assert expected == list(count_characters("ébaéaa").items())


@pytest.mark.parametrize("text", ["banana", "éb時é", ""])
def test_numbers_are_places_in_the_counts(text: str) -> None:
    """Of characters, ASCII or not."""
    numbers, counts = number_characters(text)
    assert text == "".join(list(counts)[number] for number in numbers)


def test_numbers_of_words_are_places_in_the_counts() -> None:
    """Over all pieces of a long text."""
    words = [word for number in range(100_000) for word in (f"w{number % 7}", "x")]
    pieces, counts = number_words(" ".join(words), normalize=False)
    tokens = list(counts)
    assert len(pieces) > 1
    assert words == [tokens[number] for piece in pieces for number in piece]
    assert (100_000, 14_286) == (counts["x"], counts["w0"])


@pytest.mark.parametrize("text", ["abz", "abzé"])
def test_characters_that_are_no_token(text: str) -> None:
    """They are 0, and a token of several characters is none of them."""
    assert [1, 2, 0] == look_up(text, ["<unk>", "a", "b", "é"])[:3].tolist()
