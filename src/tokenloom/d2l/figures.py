"""The textbook's figures: curves, and a curve that grows while a model trains.

Nothing here imports matplotlib before something is drawn.
"""

import functools
import importlib
import importlib.util
import itertools
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tokenloom._figures import import_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Limits = Sequence[float] | None

_FORMATS = ("-", "m--", "g-.", "r:")
_FIGURE_SIZE = (3.5, 2.5)


def pyplot() -> ModuleType:
    """Return matplotlib.pyplot, imported at the first call.

    Raises
    ------
    UsageError
        matplotlib is not installed.
    """
    module: ModuleType = import_matplotlib("pyplot")
    return module


def use_svg_display() -> None:
    """Let a notebook show figures as SVG; does nothing outside one."""
    if _can_show():
        # Comes with the notebook's kernel only.
        inline = importlib.import_module("matplotlib_inline.backend_inline")
        inline.set_matplotlib_formats("svg")


def set_figsize(figsize: tuple[float, float] = _FIGURE_SIZE) -> None:
    """Set the size in inches of the figures that pyplot makes from now on.

    Raises
    ------
    UsageError
        matplotlib is not installed.
    """
    use_svg_display()
    pyplot().rcParams["figure.figsize"] = figsize


def set_axes(
    axes: "Axes",
    xlabel: str | None,
    ylabel: str | None,
    xlim: Limits,
    ylim: Limits,
    xscale: str,
    yscale: str,
    legend: Sequence[str] | None,
) -> None:
    """Label and scale the axes of a figure.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    xlabel, ylabel : str, optional
    xlim, ylim : pair of float, optional
        Both ends of an axis; matplotlib chooses them by default.
    xscale, yscale : "linear", "log" or another scale of matplotlib
    legend : sequence of str, optional
        One name per curve.
    """
    axes.set_xlabel(xlabel or "")
    axes.set_ylabel(ylabel or "")
    axes.set_xscale(xscale)
    axes.set_yscale(yscale)
    # An axis that begins where it ends, as after 10 epochs of 10, makes matplotlib warn.
    if xlim is not None and xlim[0] != xlim[1]:
        axes.set_xlim(*xlim)
    if ylim is not None and ylim[0] != ylim[1]:
        axes.set_ylim(*ylim)
    # Names without curves make matplotlib warn.
    if legend and axes.has_data():
        axes.legend(legend)
    axes.grid(visible=True)


def plot(
    X: Any,
    Y: Any = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
    legend: Sequence[str] | None = None,
    xlim: Limits = None,
    ylim: Limits = None,
    xscale: str = "linear",
    yscale: str = "linear",
    fmts: Sequence[str] = _FORMATS,
    figsize: tuple[float, float] = _FIGURE_SIZE,
    axes: "Axes | None" = None,
) -> None:
    """Draw curves into pyplot's current axes, which are cleared first.

    Parameters
    ----------
    X, Y : sequence of numbers, or sequence of such sequences
        One curve or several; one ``X`` serves every ``Y``. Without ``Y`` the
        curves are ``X``, over the positions 0, 1, ...
    xlabel, ylabel, xlim, ylim, xscale, yscale, legend
        See `set_axes`.
    fmts : sequence of str
        matplotlib's formats of the curves, used in turn.
    figsize : (width, height) in inches
        Size of a new figure, and of later ones.
    axes : matplotlib.axes.Axes, optional
        Where to draw instead.

    Raises
    ------
    UsageError
        matplotlib is not installed.
    """
    set_figsize(figsize)
    chosen = pyplot().gca() if axes is None else axes
    curves_x, curves_y = _as_curves(X), _as_curves(Y)
    if Y is None:
        curves_x, curves_y = [range(len(curve)) for curve in curves_x], curves_x
    elif len(curves_x) == 1:
        curves_x = curves_x * len(curves_y)
    chosen.clear()
    curves = zip(curves_x, curves_y, strict=True)
    for (x, y), fmt in zip(curves, itertools.cycle(fmts), strict=False):
        chosen.plot(x, y, fmt)
    set_axes(chosen, xlabel, ylabel, xlim, ylim, xscale, yscale, legend)


class Animator:
    """Curves that a notebook redraws with every point.

    Outside a notebook, or without matplotlib, the points are only kept; ``fig``
    draws them.

    Parameters
    ----------
    xlabel, ylabel, legend, xlim, ylim, xscale, yscale
        See `set_axes`; they go to the first axes.
    fmts : sequence of str
        matplotlib's formats of the curves, used in turn.
    nrows, ncols : int
        How many axes the figure has.
    figsize : (width, height) in inches

    Attributes
    ----------
    X : list
        x of the points so far, one list per curve.
    Y : list
        y of the points so far, one list per curve.
    """

    def __init__(
        self,
        xlabel: str | None = None,
        ylabel: str | None = None,
        legend: Sequence[str] | None = None,
        xlim: Limits = None,
        ylim: Limits = None,
        xscale: str = "linear",
        yscale: str = "linear",
        fmts: Sequence[str] = _FORMATS,
        nrows: int = 1,
        ncols: int = 1,
        figsize: tuple[float, float] = _FIGURE_SIZE,
    ) -> None:
        self.X: list[list[float]] = []
        self.Y: list[list[float]] = []
        self.fmts = fmts
        self._settings = xlabel, ylabel, xlim, ylim, xscale, yscale, legend
        self._shape = nrows, ncols
        self._figsize = figsize
        self._shown: Any = None

    def add(self, x: Any, y: Any) -> None:
        """Add a point to each curve, and draw where there is a notebook.

        Parameters
        ----------
        x : float or sequence of float
            One for all curves, or one per curve.
        y : float or sequence of float or None
            One per curve; None adds no point to its curve.
        """
        values = list(y) if _has_length(y) else [y]
        places = list(x) if _has_length(x) else [x] * len(values)
        for curves in (self.X, self.Y):
            curves.extend([] for _ in range(len(values) - len(curves)))
        points = zip(places, values, self.X, self.Y, strict=False)
        for place, value, curve_x, curve_y in points:
            if place is not None and value is not None:
                curve_x.append(_as_float(place))
                curve_y.append(_as_float(value))
        if _can_show():
            self._show()

    @property
    def fig(self) -> "Figure":
        """The figure, with every point so far.

        Raises
        ------
        UsageError
            matplotlib is not installed.
        """
        axes = self._figure.axes[0]
        axes.clear()
        for x, y, fmt in zip(self.X, self.Y, itertools.cycle(self.fmts), strict=False):
            axes.plot(x, y, fmt)
        set_axes(axes, *self._settings)
        return self._figure

    @property
    def axes(self) -> "list[Axes]":
        """The axes of ``fig``, row by row."""
        return list(self.fig.axes)

    @functools.cached_property
    def _figure(self) -> "Figure":
        # Not pyplot's: that one would be shown again at the end of the cell,
        # and kept for ever outside a notebook.
        figure: Figure = import_matplotlib("figure").Figure(
            figsize=self._figsize, layout="constrained"
        )
        figure.subplots(*self._shape)
        return figure

    def _show(self) -> None:
        if self._shown is None:
            use_svg_display()
            # A notebook has IPython.
            display = importlib.import_module("IPython.display").display
            self._shown = display(self.fig, display_id=True)
        else:
            # In place: what the cell printed stays.
            self._shown.update(self.fig)


def _can_show() -> bool:
    """Return whether the program runs in a notebook's kernel, and can draw."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    is_notebook = getattr(shell, "kernel", None) is not None
    return is_notebook and importlib.util.find_spec("matplotlib") is not None


def _as_curves(values: Any) -> list[Any]:
    """Return several curves unchanged, and a single curve as a list of one."""
    if values is None or len(values) == 0:
        return []
    return list(values) if _has_length(values[0]) else [values]


def _as_float(value: Any) -> float:
    # float() of a tensor with a gradient warns, item() does not.
    return float(value.item() if hasattr(value, "item") else value)


def _has_length(value: Any) -> bool:
    # A zero-dimensional array or tensor has a __len__ that raises.
    return hasattr(value, "__len__") and getattr(value, "ndim", 1) > 0
