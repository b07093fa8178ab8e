"""Texts as they come: files, and what every Python carries."""

import importlib
import os
from pathlib import Path

# Packages that bring corpora import it from here.
from tokenloom.documents import Document as Document  # noqa: PLC0414
from tokenloom.errors import CorpusError


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
