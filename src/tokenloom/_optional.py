"""Optional packages, imported when they are needed."""

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from tokenloom.errors import CorpusError, UsageError


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
        The package is not installed, or cannot be imported.

    >>> import_optional("json", purpose="reading", extra="reading").__name__
    'json'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        cure = ", ".join(filter(None, [f"python -m pip install 'tokenloom[{extra}]'", instead]))
        msg = f"{purpose} needs {package} ({error}): {cure}"
        raise UsageError(msg) from error


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
