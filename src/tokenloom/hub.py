"""Corpora by name: what there is, where it comes from, where it is kept."""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal
from urllib.parse import urlsplit

from tokenloom.corpus import Corpus
from tokenloom.download import download
from tokenloom.errors import ArgumentError, DownloadError
from tokenloom.hashing import hash_file
from tokenloom.sources import read_file, read_python_docs
from tokenloom.text import decode
from tokenloom.tokenizers import Tokenizer

Where = Literal["built in", "cached", "to download"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A corpus that has a name.

    Attributes
    ----------
    name, description, licence : str
    prompt : str
        A beginning that the text goes on from well.
    filename : str
        Its name in the cache, and on a mirror; empty for a text that Python
        carries.
    urls : tuple of str
        Where to download it, tried in this order.
    num_bytes : int
        Size of the file in bytes; 0 where it differs between Python versions.
    sha256 : str
        64 hexadecimal digits; empty likewise.
    read : callable, optional
        Returns the bytes of a text that needs no download.
    """

    name: str
    description: str
    licence: str
    prompt: str
    filename: str = ""
    urls: tuple[str, ...] = ()
    num_bytes: int = 0
    sha256: str = ""
    read: Callable[[], bytes] | None = None


_ENTRIES = (
    Entry(
        name="python_docs",
        description="the language reference in every CPython, 0.5 MB of English",
        licence="PSF-2.0",
        prompt="the statement",
        read=read_python_docs,
    ),
    Entry(
        name="time_machine",
        description="The Time Machine by H. G. Wells (1898)",
        licence="public domain",
        prompt="time traveller",
        filename="timemachine.txt",
        urls=(
            "https://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt",
            "http://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt",
        ),
        num_bytes=178_979,
        sha256="8424dbd9532ac81f7e5f0b6add90e6952baea29158309d7d1bf3884f4e12c516",
    ),
)
CATALOGUE: Mapping[str, Entry] = MappingProxyType({entry.name: entry for entry in _ENTRIES})


def load(
    name: str | os.PathLike[str],
    *,
    tokenizer: str | Tokenizer = "char",
    normalize: bool = True,
    min_freq: int = 0,
    reserved_tokens: Iterable[str] = (),
    max_tokens: int | None = None,
    encoding: str = "utf-8",
) -> Corpus:
    """Return a corpus by its name in the catalogue, or from a text file.

    Parameters
    ----------
    name : str or path
        A name that ``tokenloom datasets`` lists, else the path of a text file.
        A named text is downloaded once, verified and kept.
    tokenizer, normalize, min_freq, reserved_tokens, max_tokens
        See `Corpus.from_text`.
    encoding : str
        How a text file is encoded.

    Raises
    ------
    ArgumentError
        The name is neither in the catalogue nor a file; or see
        `Corpus.from_text`.
    ChecksumError, DownloadError
        The text could not be fetched.
    CorpusError
        The text cannot be read or decoded, or it holds no token.

    >>> load("python_docs", max_tokens=3)
    Corpus('python_docs', 3 tokens, vocab_size=28)
    """
    entry = find(name)
    if isinstance(entry, Path):
        content, label = read_file(entry), str(entry)
    else:
        content, label = read(entry), entry.name
    return Corpus.from_text(
        content if tokenizer == "byte" else decode(content, name=label, encoding=encoding),
        tokenizer=tokenizer,
        normalize=normalize,
        min_freq=min_freq,
        reserved_tokens=reserved_tokens,
        max_tokens=max_tokens,
        name=label,
    )


def find(name: str | os.PathLike[str]) -> Entry | Path:
    """Return the catalogue's entry of a name, or the path of an existing file.

    Raises
    ------
    ArgumentError
        It is neither.
    """
    if isinstance(name, str) and name in CATALOGUE:
        return CATALOGUE[name]
    path = Path(name)
    # os.path says no, where Path would raise, to a name that no file can have.
    if os.path.exists(path):  # noqa: PTH110
        return path
    known = ", ".join(sorted(CATALOGUE))
    msg = (
        f"a corpus must be one of {known} or the path of a text file, "
        f"got {os.fspath(name)!r}, which is neither"
    )
    raise ArgumentError(msg)


def read(entry: Entry) -> bytes:
    """Return the bytes of a named text, downloaded first where it must be.

    Raises
    ------
    ChecksumError, DownloadError
        The text could not be fetched.
    """
    return read_file(fetch(entry)) if entry.read is None else entry.read()


def fetch(entry: Entry, *, progress: bool | None = None) -> Path:
    """Return the path of a named text in the cache, downloaded where it must be.

    A file in the cache, also one that was placed there by hand, is used if its
    SHA-256 is right, and downloaded again if not. With ``TOKENLOOM_MIRROR`` set
    the file is asked from ``$TOKENLOOM_MIRROR/<filename>`` and from nowhere
    else. With ``TOKENLOOM_OFFLINE`` set nothing is downloaded.

    Raises
    ------
    ArgumentError
        Python carries the text; there is no file to fetch.
    ChecksumError, DownloadError
        The text could not be fetched.
    """
    if entry.read is not None:
        msg = f"{entry.name!r} comes with Python and is no file: use load or read"
        raise ArgumentError(msg)
    path = cache_folder() / entry.filename
    if locate(entry) == "cached" and hash_file(path) == entry.sha256:
        return path
    if os.environ.get("TOKENLOOM_OFFLINE", "0") not in ("", "0"):
        msg = (
            f"{entry.name!r} is not in the cache, or not whole, and TOKENLOOM_OFFLINE is set: "
            f"put the file at {path}, or unset the variable"
        )
        raise DownloadError(msg)
    return download(
        _urls(entry),
        path,
        num_bytes=entry.num_bytes,
        sha256=entry.sha256,
        progress=progress,
    )


def locate(entry: Entry) -> Where:
    """Return whether a named text is at hand; its content is not looked at."""
    if entry.read is not None:
        return "built in"
    return "cached" if (cache_folder() / entry.filename).is_file() else "to download"


def cache_folder() -> Path:
    """Return the folder of downloaded texts, which need not exist yet.

    ``TOKENLOOM_CACHE`` if set; else ``tokenloom`` in ``~/Library/Caches``
    (macOS), ``%LOCALAPPDATA%`` (Windows) or ``$XDG_CACHE_HOME``, by default
    ``~/.cache``.
    """
    if chosen := os.environ.get("TOKENLOOM_CACHE"):
        return Path(chosen).expanduser()
    home = Path.home()
    match sys.platform:
        case "darwin":
            base = home / "Library" / "Caches"
        case "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
        case _:
            base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "tokenloom"


def _urls(entry: Entry) -> tuple[str, ...]:
    mirror = os.environ.get("TOKENLOOM_MIRROR")
    if not mirror:
        return entry.urls
    try:
        scheme = urlsplit(mirror).scheme
    except ValueError:
        scheme = ""
    if scheme not in ("http", "https"):
        msg = f"TOKENLOOM_MIRROR must be an http or https address, got {mirror!r}"
        raise ArgumentError(msg)
    return (f"{mirror.rstrip('/')}/{entry.filename}",)
