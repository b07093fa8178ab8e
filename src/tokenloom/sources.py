"""Texts as they come: documents, files, and what every Python carries."""

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenloom.errors import CorpusError


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text that stands for itself, such as a review.

    Attributes
    ----------
    text : str
    metadata : mapping of str
        What is known about it; which keys there are depends on the corpus.
    """

    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Return a text file's bytes.

    Raises
    ------
    CorpusError
        There is no such file, or it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        msg = f"cannot read {os.fspath(path)!r}: {error.strerror or error}"
        raise CorpusError(msg) from error


def read_python_docs() -> bytes:
    """Return the language reference that CPython carries for its ``help()``.

    About half a megabyte of English in UTF-8. It differs between versions of
    Python. The topics stand in the order of their names.

    Raises
    ------
    CorpusError
        This Python came without ``pydoc_data``.
    """
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except ImportError as error:
        msg = (
            "this Python has no module pydoc_data.topics, which holds the corpus "
            "'python_docs': use a text file or another name from 'tokenloom datasets'"
        )
        raise CorpusError(msg) from error
    return "\n".join(topics[name] for name in sorted(topics)).encode("utf-8")
