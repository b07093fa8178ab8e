"""Pictures."""

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokenloom as tl
from tests.support.plan.packing import packed_plan
from tokenloom._figures import check_picture, save_figure, save_picture
from tokenloom.errors import ArgumentError, UsageError
from tokenloom.inspection.benchmark import Measurement, Setting
from tokenloom.inspection.plots import (
    plot_measurements,
    plot_mixture,
    plot_orders,
    plot_packing,
    plot_plans,
)
from tokenloom.plan.plan import Plan
from tokenloom.training.metrics import plot_perplexity

METRICS = [
    tl.training.EpochMetrics(epoch=0, step=8, perplexity=20.0, tokens_per_second=1.0),
    tl.training.EpochMetrics(
        epoch=1, step=16, perplexity=10.0, tokens_per_second=1.0, held_out_perplexity=12.0
    ),
]


def lines_of(figure: Any) -> dict[str, tuple[list[float], list[float]]]:
    """Return the curves of a figure by their labels."""
    (axes,) = figure.axes
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines
    }


def test_perplexity_is_drawn_over_epochs() -> None:
    """Epochs count from 1; what was not measured leaves a gap."""
    curves = lines_of(plot_perplexity(METRICS))
    assert ([1, 2], [20.0, 10.0]) == curves["training: 10 at the end"]
    held_out = curves["held out: 12 at the end"][1]
    assert math.isnan(held_out[0])
    assert held_out[1] == 12.0
    assert ([2], [12.0]) == curves["best held out: 12 at epoch 2"]


def test_the_plot_of_perplexity_can_be_read() -> None:
    """It has a title and plain numbers; a scale per character where tokens are longer."""
    longer = [replace(entry, perplexity_per_character=2.0) for entry in METRICS]
    figure = plot_perplexity([*longer, replace(longer[1], perplexity=500.0)], title="A book")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert "A book" == axes.get_title()
    labels = [label.get_text() for label in axes.get_yticklabels() if label.get_text()]
    assert {"10", "20", "50", "100", "200", "500"} <= set(labels)
    (per_character,) = axes.child_axes
    assert "perplexity per character" == per_character.get_ylabel()
    assert () == tuple(plot_perplexity(METRICS).axes[0].child_axes)


def test_without_held_out_text_there_is_one_curve() -> None:
    """No empty entry stands in the legend."""
    assert ["training: 20 at the end"] == list(lines_of(plot_perplexity(METRICS[:1])))


@pytest.mark.parametrize("tail", ["drop", "pad"])
def test_a_plan_is_drawn_window_by_window(tail: Any) -> None:
    """Each bar stands in its batch's row and spans its inputs."""
    plan = Plan(kind="random", num_tokens=100, seq_len=7, batch_size=3, tail=tail)
    figure: Any = plot_plans([plan])
    (axes,) = figure.axes
    bars = {(round(b.get_y() + 0.4), b.get_x(), b.get_width()) for b in axes.patches}
    starts = plan.starts(range(plan.num_batches))
    lengths = plan.lengths(starts)
    expected = {
        (row, starts[row, column], lengths[row, column])
        for row in range(plan.num_batches)
        for column in range(3)
    }
    assert expected == bars


def test_plans_stand_side_by_side() -> None:
    """Each has a panel with its name."""
    plans = [
        Plan(kind=kind, num_tokens=100, seq_len=7, batch_size=3)
        for kind in ("random", "sequential")
    ]
    titles = [axes.get_title() for axes in plot_plans(plans).axes]
    assert ["random, epoch 0", "sequential, epoch 0"] == titles


def test_an_order_is_drawn_window_by_window_and_pair_by_pair() -> None:
    """Above, a dot per position; below, a dot per pair of successive windows."""
    figure: Any = plot_orders({"odd": np.array([1, 0, 2]), "even": np.array([2, 1, 0, 3])})
    dots = [axes.collections[0].get_offsets().tolist() for axes in figure.axes]
    expected = [
        [[0, 1], [1, 0], [2, 2]],
        [[0, 2], [1, 1], [2, 0], [3, 3]],
        [[1, 0], [0, 2]],
        [[2, 1], [1, 0], [0, 3]],
    ]
    assert expected == dots
    assert ["odd", "even", "", ""] == [axes.get_title() for axes in figure.axes]


def test_an_order_that_cannot_be_seen_is_refused() -> None:
    """The message says which, how many windows it has and how many it may have."""
    with pytest.raises(ArgumentError, match=r"at most 20,000 windows, got 20,001 in 'long'"):
        plot_orders({"short": np.arange(2), "long": np.arange(20_001)})


def test_no_orders_are_refused() -> None:
    """There is nothing to draw."""
    with pytest.raises(ArgumentError, match="at least one order, got none"):
        plot_orders({})


def test_figures_are_saved_twice(tmp_path: Path) -> None:
    """As pixels and as curves."""
    paths = save_figure(plot_perplexity(METRICS), tmp_path / "perplexity")
    assert ["perplexity.png", "perplexity.svg"] == [path.name for path in paths]
    assert all(path.stat().st_size > 1000 for path in paths)


def test_a_large_plan_is_drawn_as_a_sample() -> None:
    """Some batches and rows, both ends among them, long enough to be seen; the title says so."""
    plan = Plan(kind="sequential", num_tokens=10**9, seq_len=7, batch_size=300)
    figure: Any = plot_plans([plan])
    axes, scale = figure.axes
    bars = {(round(bar.get_y() + bar.get_height() / 2), bar.get_x()) for bar in axes.patches}
    assert len(bars) == 48 * 32
    last = plan.num_batches - 1
    rows = plan.starts(range(0, plan.num_batches, last))
    assert {(0, rows[0, 0]), (0, rows[0, -1]), (last, rows[1, 0]), (last, rows[1, -1])} <= bars
    assert {10**9 / 250} == {bar.get_width() for bar in axes.patches}
    title = "48 of 476,190 batches, 32 of 300 rows, windows drawn longer than they are"
    assert f"sequential, epoch 0\n{title}" == axes.get_title()
    assert scale.get_ylabel() == "row of the batch"


def test_padding_is_not_drawn() -> None:
    """Nor made long enough to be seen."""
    plan = Plan(kind="random", num_tokens=100_000, seq_len=7, batch_size=100, tail="pad")
    figure: Any = plot_plans([plan])
    starts = plan.starts(range(plan.num_batches - 1, plan.num_batches))
    num_empty = sum(bar.get_width() == 0 for bar in figure.axes[0].patches)
    assert 0 < num_empty <= (plan.lengths(starts) == 0).sum()


def test_speeds_are_drawn_setting_by_setting() -> None:
    """Rates and waits side by side; the recommended setting has another colour."""
    measurements = [
        Measurement(
            setting=Setting(reader="Loader", num_workers=number, block_size=size),
            tokens_per_second=1e6 * (number + 1),
            first_batch_seconds=1.0,
            wait_seconds=1e-4 / (number + 1),
            num_samples=1,
        )
        for number, size in ((0, None), (1, 8), (2, None))
    ]
    figure: Any = plot_measurements(measurements)
    rates, waits = (axes.collections[0] for axes in figure.axes)
    assert [1e6, 2e6, 3e6] == [x for x, _ in rates.get_offsets().tolist()]
    assert pytest.approx([100, 50, 100 / 3]) == [x for x, _ in waits.get_offsets().tolist()]
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert ["Loader, 0 workers", "Loader, 1 worker, blocks of 8", "Loader, 2 workers"] == names
    colours = [tuple(colour) for colour in rates.get_facecolors()]
    assert colours[0] == colours[1] != colours[2]


def test_a_picture_has_the_format_of_its_name(tmp_path: Path) -> None:
    """Whatever the case of its end."""
    path = check_picture(tmp_path / "plan.PNG")
    save_picture(plot_perplexity(METRICS), path)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["plan", "plan.txt", ".png"])
def test_a_name_that_is_no_picture_is_refused(name: str) -> None:
    """Before anything is measured."""
    with pytest.raises(ArgumentError, match=r"must end in \.png, \.svg or \.pdf, got"):
        check_picture(name)


def test_no_metrics_are_refused() -> None:
    """There is nothing to draw."""
    with pytest.raises(ArgumentError, match="at least one epoch, got none"):
        plot_perplexity([])


def test_without_matplotlib_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r"pip install 'tokenloom\[plot\]'"):
        plot_perplexity(METRICS)


def test_packed_rows_are_drawn_with_their_documents() -> None:
    """A bar is a piece, and the title has the fill."""
    lengths = [4, 3, 2, 5, 1, 3]
    plan = packed_plan(lengths, seq_len=4, batch_size=2)
    rows, ways = plot_packing(plan, np.array(lengths)).axes
    patches: list[Any] = list(rows.patches)
    widths = [patch.get_width() for patch in patches]
    assert sorted(length - 1 for length in lengths if length > 1) == sorted(widths)
    assert f"fill {plan.fill:.2%}" in rows.get_title()
    assert "best-fit decreasing" == ways.get_yticklabels()[-1].get_text()


def test_a_mixture_is_drawn_over_its_stages() -> None:
    """Shares above, and below how often each part is read."""
    parts = {"web": tl.Corpus.from_tokens(range(4000)), "code": tl.Corpus.from_tokens(range(900))}
    stages = [(0, {"web": 0.9, "code": 0.1}), (3000, {"web": 0.5, "code": 0.5})]
    windows = tl.RandomWindows(
        tl.Mixture(parts, stages=stages, num_tokens=2000), batch_size=4, seq_len=5, shard=tl.Shard()
    )
    figure: Any = plot_mixture(windows.plan)
    upper, lower = figure.axes
    web, _ = upper.collections
    heights = {round(float(y)) for y in web.get_paths()[0].vertices[:, 1]}
    assert {60, 80, 100} <= heights or {90, 50} <= heights
    # Up to the double of the second stage's begin: 300 + 1,500 tokens of code are 2 times 900.
    assert [0.0, 2.0] == [round(float(lower.lines[1].get_ydata()[at]), 1) for at in (0, -1)]
    with pytest.raises(ArgumentError, match="plan must be that of a mixture"):
        plot_mixture(Plan(kind="random", num_tokens=100, seq_len=5, batch_size=2))


def test_only_packed_rows_are_drawn_with_their_documents() -> None:
    """The rows of another order are not made of pieces."""
    plan = Plan(kind="random", num_tokens=100, seq_len=5, batch_size=2)
    with pytest.raises(ArgumentError, match=r"must be in packed order, got one in random order"):
        plot_packing(plan, np.array([60, 40]))
