"""Texts of any size to a store, in chunks that any number of processes encode.

A name is imported when it is first used: each process that encodes chunks
imports this folder, and needs none of the names.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenloom.preparation.options import PrepareOptions
    from tokenloom.preparation.prepare import Prepared, PreparedSplit
    from tokenloom.preparation.trace import Trace

__all__ = ["PrepareOptions", "Prepared", "PreparedSplit", "Trace"]

# Each name with the file that it is imported from.
_FILES = {
    "PrepareOptions": "options",
    "Prepared": "prepare",
    "PreparedSplit": "prepare",
    "Trace": "trace",
}


def __getattr__(name: str) -> object:
    if name not in _FILES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value: object = getattr(importlib.import_module(f"{__name__}.{_FILES[name]}"), name)
    # The next look-up does not come here.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
