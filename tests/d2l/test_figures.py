"""The textbook's figures."""

import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from tokenloom import d2l
from tokenloom.d2l.figures import _can_show
from tokenloom.errors import UsageError


@pytest.fixture(autouse=True)
def _figures() -> Iterator[None]:
    """Draw into memory, and forget every figure and size afterwards."""
    plt = d2l.plt
    with plt.rc_context():
        plt.switch_backend("agg")
        yield
        plt.close("all")


class Handle:
    """What IPython gives for a display that can be changed."""

    def __init__(self) -> None:
        self.updates: list[Any] = []

    def update(self, figure: Any) -> None:
        """Keep what is shown."""
        self.updates.append([len(line.get_xdata()) for line in figure.axes[0].lines])


class Notebook:
    """What a notebook's kernel offers; keeps what was shown."""

    def __init__(self) -> None:
        self.handles: list[Handle] = []
        self.formats: list[str] = []

    def display(self, figure: Any, *, display_id: bool) -> Handle:
        """Show a figure in a new place."""
        assert display_id
        self.handles.append(Handle())
        self.handles[-1].update(figure)
        return self.handles[-1]


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    """Pretend that the program runs in a notebook."""
    running = Notebook()
    ipython, display, inline = (ModuleType(name) for name in ("IPython", "display", "inline"))
    # The first figure of a process asks for the version.
    vars(ipython)["version_info"] = (9, 0)
    vars(ipython)["get_ipython"] = lambda: SimpleNamespace(kernel=object())
    vars(display)["display"] = running.display
    vars(inline)["set_matplotlib_formats"] = running.formats.append
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setitem(sys.modules, "matplotlib_inline.backend_inline", inline)
    return running


def curves(axes: Any) -> list[tuple[list[float], list[float]]]:
    """Return the points of each curve."""
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]


def test_one_curve_stands_over_its_positions() -> None:
    """As for the frequencies of words."""
    d2l.plot([9, 5, 2], xlabel="token", ylabel="frequency", xscale="log", yscale="log")
    axes = d2l.plt.gca()
    assert [([0, 1, 2], [9, 5, 2])] == curves(axes)
    assert ("token", "frequency") == (axes.get_xlabel(), axes.get_ylabel())
    assert ("log", "log") == (axes.get_xscale(), axes.get_yscale())


def test_curves_of_different_lengths() -> None:
    """As for words, pairs and triples, with a legend."""
    d2l.plot([[9, 5, 2], [4, 1], range(2)], legend=["one", "two", "three"])
    axes = d2l.plt.gca()
    assert [([0, 1, 2], [9, 5, 2]), ([0, 1], [4, 1]), ([0, 1], [0, 1])] == curves(axes)
    legend = axes.get_legend()
    assert legend is not None
    assert ["one", "two", "three"] == [text.get_text() for text in legend.get_texts()]


def test_one_x_serves_every_y() -> None:
    """Tensors are curves too."""
    d2l.plot(torch.arange(2), [torch.zeros(2), torch.ones(2)], xlim=[0, 2], ylim=(0, 3))
    axes = d2l.plt.gca()
    assert [([0, 1], [0, 0]), ([0, 1], [1, 1])] == curves(axes)
    assert ((0, 2), (0, 3)) == (axes.get_xlim(), axes.get_ylim())


def test_more_curves_than_formats() -> None:
    """Repaired: the textbook drops the fifth curve without a word."""
    d2l.plot([[1, 2]] * 5)
    assert 5 == len(d2l.plt.gca().lines)


def test_curves_need_as_many_xs_as_ys() -> None:
    """Repaired: the textbook draws the shorter list."""
    with pytest.raises(ValueError, match="zip"):
        d2l.plot([[1], [2]], [[1], [2], [3]])


def test_a_plot_replaces_what_was_there() -> None:
    """In given axes, or in the current ones."""
    axes = d2l.plt.figure().subplots()
    for _ in range(2):
        d2l.plot([1, 2], axes=axes)
    assert [([0, 1], [1, 2])] == curves(axes)


def test_a_size_is_for_new_figures() -> None:
    """In inches."""
    d2l.set_figsize((4, 3))
    assert [4, 3] == list(d2l.plt.figure().get_size_inches())


def test_points_are_kept_outside_a_notebook() -> None:
    """And drawn when somebody asks for the figure; the limits are the given ones."""
    animator = d2l.Animator("epoch", "loss", ["train", "test"], xlim=[1, 5], yscale="log")
    animator.add(1, (torch.tensor(0.5, requires_grad=True) * 2, None))
    animator.add(2, [0.5, 3])
    assert ([[1, 2], [2]], [[1.0, 0.5], [3]]) == (animator.X, animator.Y)
    axes = animator.axes[0]
    assert [([1, 2], [1.0, 0.5]), ([2], [3])] == curves(axes)
    assert (1, 5) == axes.get_xlim()
    assert ("epoch", "loss", "log") == (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale())


def test_an_axis_of_no_length_is_left_to_matplotlib() -> None:
    """The chapter's limits are 10 and the number of epochs, which may be 10."""
    animator = d2l.Animator(xlim=[10, 10], ylim=[1, 1])
    animator.add(10, 3)
    assert 10 < animator.axes[0].get_xlim()[1] < 12


def test_a_number_is_a_point_of_one_curve() -> None:
    """As well as a list of one."""
    animator = d2l.Animator()
    animator.add(1, 2.0)
    assert ([[1]], [[2]]) == (animator.X, animator.Y)


def test_a_figure_before_any_point_is_empty() -> None:
    """Its legend has nothing to name."""
    animator = d2l.Animator(legend=["train"], nrows=2, ncols=3, figsize=(6, 4))
    assert 6 == len(animator.axes)
    assert [6, 4] == list(animator.fig.get_size_inches())
    assert [] == animator.axes[0].lines[:]


def test_no_figure_is_left_behind() -> None:
    """In pyplot it would be shown, with a warning from the twenty-first on."""
    for _ in range(25):
        animator = d2l.Animator()
        animator.add(1, 1)
        assert animator.fig is not None
    assert [] == d2l.plt.get_fignums()


def test_a_notebook_sees_every_point(notebook: Notebook) -> None:
    """In one place of the cell, as SVG."""
    animator = d2l.Animator()
    for epoch in range(3):
        animator.add(epoch, epoch)
    assert [[[1], [2], [3]]] == [handle.updates for handle in notebook.handles]
    assert ["svg"] == notebook.formats


def test_two_animators_have_two_places(notebook: Notebook) -> None:
    """The second training of a cell leaves the first one's curve."""
    for _ in range(2):
        d2l.Animator().add(1, 1)
    assert 2 == len(notebook.handles)


def test_a_script_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a shell of IPython in a terminal."""
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not _can_show()
    for shell in (None, SimpleNamespace()):
        ipython = ModuleType("IPython")
        vars(ipython)["get_ipython"] = lambda shell=shell: shell
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        assert not _can_show()
    d2l.use_svg_display()


def test_without_matplotlib_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install; points are kept all the same."""
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r"pip install 'tokenloom\[plot\]'"):
        d2l.plot([1, 2])
    with pytest.raises(UsageError, match=r"pip install 'tokenloom\[plot\]'"):
        _ = d2l.plt
    animator = d2l.Animator()
    animator.add(1, 1)
    with pytest.raises(UsageError, match=r"pip install 'tokenloom\[plot\]'"):
        _ = animator.fig


def test_a_notebook_without_matplotlib_trains(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no curve, and no error."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    d2l.use_svg_display()
    animator = d2l.Animator()
    animator.add(1, 1)
    assert ([], []) == (notebook.handles, notebook.formats)


def test_matplotlib_waits_for_the_first_figure() -> None:
    """Neither the import nor an animator outside a notebook loads it."""
    program = """
import sys
from tokenloom import d2l
d2l.Animator(legend=["train"]).add(1, 2)
d2l.use_svg_display()
print("matplotlib" in sys.modules)
d2l.plt
print("matplotlib" in sys.modules)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert "False\nTrue\n" == result.stdout
