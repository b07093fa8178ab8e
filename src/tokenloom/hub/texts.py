"""The bytes of texts: files, and the text that is part of every Python."""

import importlib
import os
import shlex
from pathlib import Path

from tokenloom._io.compressed import Stream, check_text
from tokenloom._io.kinds import Kind, bare_suffix, holds_records, recognise_structure
from tokenloom._io.regular import open_regular
from tokenloom.errors import CorpusError

# Ends of names of files with a JSON object on each line.
RECORDS = (".jsonl", ".ndjson")
_READ_BYTES = 1 << 22


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Return a text file's bytes.

    Raises
    ------
    CorpusError
        There is no such file, it cannot be read, or it is a pipe or a device.
    """
    try:
        with open_regular(path) as file:
            return file.read()
    except OSError as error:
        msg = f"cannot read {os.fspath(path)!r}: {error.strerror or error}"
        raise CorpusError(msg) from error


def read_text_file(path: Path, *, encoding: str = "utf-8") -> bytes:
    """Return the bytes of a text file, decompressed if its name asks for that.

    Raises
    ------
    CorpusError
        It cannot be read, or it is no text; the message names what it is and what
        to do.
    UsageError
        The package that decompresses it is not installed.
    """
    name = str(path)
    head = check_text(path, name=name, encoding=encoding)
    text, suffix = head.decode(encoding, "replace"), bare_suffix(path.name)
    if suffix in RECORDS or holds_records(text, fewest=1 if suffix == ".json" else 2):
        option = "" if suffix in (*RECORDS, ".json") else " --documents jsonl"
        command = f"tokenloom prepare {shlex.quote(name)}{option} -o my-store"
        kind: Kind | None = Kind("JSON Lines", f"'{command}' makes a store of it")
    else:
        kind = recognise_structure(text, name=path.name)
    if kind is not None:
        msg = f"{name} must be a plain text, but it is {kind.name}: {kind.cure}"
        raise CorpusError(msg)
    with Stream(path, name=name) as stream:
        return b"".join(iter(lambda: stream.read(_READ_BYTES), b""))


def read_python_docs() -> bytes:
    """Return the language reference that is part of CPython, for its ``help()``.

    About half a megabyte of English in UTF-8, sorted by topic. It differs between
    versions of Python.

    Raises
    ------
    CorpusError
        This Python has no ``pydoc_data``.
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
