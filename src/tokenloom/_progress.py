"""Progress bars, on a terminal or in a notebook."""

import sys
import warnings
from collections.abc import Iterable
from typing import Any

from tqdm import TqdmWarning, tqdm


def open_bar(
    iterable: Iterable[Any] | None = None, *, progress: bool | None, **options: Any
) -> "tqdm[Any]":
    """Return a bar of tqdm, drawn by the browser where this is a notebook.

    Parameters
    ----------
    iterable : iterable, optional
        What the bar counts as it is iterated over.
    progress : bool, optional
        Whether to show it; by default where stderr is a terminal, and in a notebook.
    options
        Of tqdm.
    """
    if not is_notebook():
        # tqdm takes None for "only where stderr is a terminal".
        return tqdm(iterable, disable=None if progress is None else not progress, **options)
    with warnings.catch_warnings():
        # Without ipywidgets it draws with characters, and warns.
        warnings.simplefilter("ignore", TqdmWarning)
        # Slow to import.
        from tqdm.auto import tqdm as tqdm_auto  # noqa: PLC0415

        is_hidden = progress is not None and not progress
        return tqdm_auto(iterable, disable=is_hidden, **options)


def is_notebook() -> bool:
    """Return whether this process is the kernel of a Jupyter notebook."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = None if get_ipython is None else get_ipython()
    return "IPKernelApp" in getattr(shell, "config", ())
