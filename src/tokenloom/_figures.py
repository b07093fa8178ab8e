"""Figures: matplotlib, which is optional, and files of pictures."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenloom._io.atomic import as_file_path, as_stem, replacing
from tokenloom._optional import import_optional
from tokenloom._wording import show
from tokenloom.errors import ArgumentError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150


def check_picture(path: str | os.PathLike[str]) -> Path:
    """Return the path of a picture, after a check before the work begins.

    Raises
    ------
    ArgumentError
        No file can have that path, or its name ends in no format of pictures.
    UsageError
        matplotlib is not installed.
    """
    target = as_file_path(path)
    known = import_matplotlib("backend_bases").FigureCanvasBase.get_supported_filetypes()
    if target.suffix[1:].lower() not in known:
        msg = f"a picture's name must end in .png, .svg or .pdf, got {show(os.fspath(path))}"
        raise ArgumentError(msg)
    return target


def save_picture(figure: "Figure", path: Path) -> None:
    """Write a figure in the format of the suffix of its name."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=DPI, format=path.suffix[1:].lower())


def save_figure(figure: "Figure", stem: str | os.PathLike[str]) -> list[Path]:
    """Write a figure as ``<stem>.png`` and ``<stem>.svg``; return the paths."""
    paths = [Path(f"{as_stem(stem)}.{suffix}") for suffix in ("png", "svg")]
    for path in paths:
        save_picture(figure, path)
    return paths


def import_matplotlib(module: str) -> Any:
    """Return a module of matplotlib, which is slow to import and optional.

    Raises
    ------
    UsageError
        matplotlib is not installed.
    """
    return import_optional(f"matplotlib.{module}", purpose="drawing", extra="plot")


def new_figure(*, width: float, height: float) -> "Figure":
    # A Figure of its own needs no display.
    figure: Figure = import_matplotlib("figure").Figure(
        figsize=(width, height), layout="constrained"
    )
    return figure
