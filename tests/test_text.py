"""A text in memory, as characters or as bytes."""

import pytest

from tokenloom import ArgumentError
from tokenloom.text import decode


@pytest.mark.parametrize(
    ("content", "encoding", "expected"),
    [
        (b"", "utf-8", ""),
        ("é\r\n".encode(), "utf-8", "é\r\n"),
        (b"\xef\xbb\xbfa\xef\xbb\xbf", "utf-8", "a\ufeff"),
        (b"\xe9", "latin-1", "é"),
        ("é".encode("utf-16"), "utf-16", "é"),
        ("\ufeffé".encode("utf-16-le"), "utf-16-le", "é"),
    ],
)
def test_decode(content: bytes, encoding: str, expected: str) -> None:
    """Bytes are read in their encoding, without one byte order mark at the beginning."""
    assert expected == decode(content, name="page", encoding=encoding)


@pytest.mark.parametrize("encoding", ["no-such", "rot13"])
def test_decode_in_an_unknown_encoding(encoding: str) -> None:
    """An encoding that is none of text is refused by name."""
    with pytest.raises(
        ArgumentError, match=f"^encoding must be one that Python knows, got '{encoding}'$"
    ):
        decode(b"a", name="page", encoding=encoding)
