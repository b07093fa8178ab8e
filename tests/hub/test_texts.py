"""Texts as they come."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tokenloom import Document
from tokenloom.errors import CorpusError
from tokenloom.hub.texts import read_file, read_python_docs


def test_document_knows_nothing_by_default() -> None:
    """A text alone has no metadata, and shares none with another."""
    first, second = Document(text="a"), Document(text="a")

    assert {} == first.metadata
    assert first.metadata is not second.metadata


def test_read_file_returns_its_bytes(tmp_path: Path) -> None:
    """Nothing in a file is translated."""
    expected = b"\xef\xbb\xbfa\r\n\xff"
    path = tmp_path / "text.txt"
    path.write_bytes(expected)

    assert expected == read_file(path)


def test_read_file_takes_a_str(tmp_path: Path) -> None:
    """A path may be a str."""
    expected = b"text"
    path = tmp_path / "text.txt"
    path.write_bytes(expected)

    assert expected == read_file(str(path))


def test_read_file_that_is_missing(tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(CorpusError, match=r"^cannot read '.*missing\.txt': No such file"):
        read_file(tmp_path / "missing.txt")


def test_read_file_that_is_a_folder(tmp_path: Path) -> None:
    """A folder is no text, and the message says so."""
    message = r"^cannot read '.*': must be a regular file, is a folder$"
    with pytest.raises(CorpusError, match=message):
        read_file(tmp_path)


def test_python_docs_are_english() -> None:
    """The text that Python carries is long enough to train on."""
    assert read_python_docs().count(b" the ") > 1000


def test_python_docs_are_utf8() -> None:
    """The text decodes."""
    assert read_python_docs().decode("utf-8")


def test_python_docs_are_in_order_of_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of topics does not depend on how Python stores them."""
    topics = {"with": "c\u2019", "assert": "a", "if": "b"}
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", SimpleNamespace(topics=topics))

    expected = "a\nb\nc\u2019".encode()
    assert expected == read_python_docs()


def test_python_without_docs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that came without its docs says what to use instead."""
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)

    with pytest.raises(CorpusError, match=r"no module pydoc_data\.topics.*use a text file"):
        read_python_docs()
