"""Optional packages, imported when they are needed."""

import contextlib
import importlib
import re
from collections.abc import Iterator
from typing import Any

from tokenloom.errors import CorpusError, UsageError

# Older releases make other ids of some texts: tiktoken takes a special token that a text spells
# for that token, and tokenizers replaces half of a surrogate pair.
OLDEST = {"tiktoken": "0.11", "tokenizers": "0.20.2"}


def import_optional(module: str, *, purpose: str, extra: str, instead: str = "") -> Any:
    """Return a module of a package that tokenloom does not depend on.

    Parameters
    ----------
    module : str
        Such as "matplotlib.figure".
    purpose : str
        What needs it, which begins the message: "drawing".
    extra : str
        The extra of tokenloom that installs it.
    instead : str
        What can be done without it, after a comma: "or decompress the file first".

    Raises
    ------
    UsageError
        The package is not installed, cannot be imported, or is older than `OLDEST` has it.

    >>> import_optional("json", purpose="reading", extra="reading").__name__
    'json'
    """
    package = module.partition(".")[0]
    try:
        found = importlib.import_module(module)
        _require_new(package)
    except ImportError as error:
        cure = ", ".join(filter(None, [f"python -m pip install 'tokenloom[{extra}]'", instead]))
        msg = f"{purpose} needs {package} ({error}): {cure}"
        raise UsageError(msg) from error
    return found


def _require_new(package: str) -> None:
    """Raise an ImportError if a package is older than `OLDEST` has it.

    >>> _require_new("tokenizers")
    """
    if package not in OLDEST:
        return
    metadata = importlib.import_module("importlib.metadata")
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        # Such as a copy in the folder of a program.
        return
    # Damaged metadata have none.
    numbers = _numbers(version or "")
    if numbers and numbers < _numbers(OLDEST[package]):
        msg = f"version {OLDEST[package]} or newer, got {version}"
        raise ImportError(msg)


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with.

    >>> _numbers("0.20.2rc1")
    (0, 20, 2)
    """
    begins = re.match(r"[\d.]*", version)
    return tuple(map(int, re.findall(r"\d+", begins[0]))) if begins else ()


@contextlib.contextmanager
def panics_as_errors() -> Iterator[None]:
    """Raise a `CorpusError` where a package in Rust panics, which is no Exception in Python.

    It is also a decorator of functions, but not of generators.

    >>> with panics_as_errors():
    ...     "nothing of Rust"
    'nothing of Rust'
    """
    try:
        yield
    except BaseException as error:
        # Each package has a class of its own, which cannot be imported.
        if type(error).__name__ != "PanicException":
            raise
        msg = f"the package that encodes and decodes failed with a panic: {error}"
        raise CorpusError(msg) from error
