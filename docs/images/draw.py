"""Draw the pictures of the pages that show plans, orders and speeds.

python docs/images/draw.py [FOLDER]

Run it when a picture has to change: the pages show the files as they are, so that they can be
read without a build. The same release of matplotlib draws the same bytes.
"""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import tokenloom
from tokenloom._figures import save_picture
from tokenloom.inspection.plots import plot_mixture, plot_orders, plot_packing, plot_plans
from tokenloom.plan.mixture import MixtureOrder, Stage, grid_weights
from tokenloom.plan.order import IntArray
from tokenloom.plan.plan import Plan

HERE = Path(__file__).parent
BENCHMARKS = HERE.parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))
report = importlib.import_module("report")
results = importlib.import_module("results")


def draw(folder: Path) -> None:
    """Draw all of them into a folder."""
    # The names of parts, and the date, would be others each time.
    mpl.rcParams["svg.hashsalt"] = "tokenloom"
    os.environ["SOURCE_DATE_EPOCH"] = "0"
    folder.mkdir(parents=True, exist_ok=True)
    small: dict[str, Any] = {"num_tokens": 200, "seq_len": 6, "batch_size": 4, "seed": 1}
    whole: dict[str, Any] = {"num_tokens": 367_504, "seq_len": 35, "batch_size": 32}
    for kind in ("random", "sequential"):
        figures = {"small": plot_plans([Plan(kind=kind, **small)])}
        figures["whole"] = plot_plans([Plan(kind=kind, **whole)])
        for name, figure in figures.items():
            save_picture(figure, folder / f"plan-{kind}-{name}.svg")
    for index, (title, order) in enumerate(_orders().items()):
        save_picture(plot_orders({title: order}), folder / f"permutation-{index}.svg")
    save_picture(_draw_shards(), folder / "shards.svg")
    save_picture(_draw_mixture(), folder / "mixture.svg")
    save_picture(_draw_packing(), folder / "packed.svg")
    report.plot(results.Results.read(BENCHMARKS / "results" / "loading.json"), folder)


def _draw_mixture() -> Any:
    """Return a picture of three parts, whose shares change twice."""
    names, lengths = ("web", "books", "code"), (70_000_000, 14_000_000, 9_000_000)
    weights = ((0.8, 0.15, 0.05), (0.6, 0.25, 0.15), (0.3, 0.3, 0.4))
    order = MixtureOrder(
        names=names,
        part_lengths=lengths,
        stages=tuple(
            Stage(first, grid_weights(each))
            for first, each in zip((0, 40_000_000, 70_000_000), weights, strict=True)
        ),
        num_epoch_tokens=50_000_000,
    )
    plan = Plan.of(order, num_tokens=sum(lengths), seq_len=1024, batch_size=32)
    return plot_mixture(plan, num_epochs=2)


def _orders() -> dict[str, IntArray]:
    """Return the windows of two epochs in their order, and what an affine map would give."""
    plan = Plan(kind="random", num_tokens=2503 * 8, seq_len=8, batch_size=1, seed=0)
    orders = {}
    for epoch in range(2):
        starts = plan.at(epoch).starts(range(plan.num_batches)).ravel()
        orders[f"tokenloom, epoch {epoch}"] = starts // plan.seq_len
    affine = (1031 * np.arange(plan.num_batches) + 7) % plan.num_batches
    return {**orders, f"affine: (1031 x + 7) mod {plan.num_batches}": affine}


def _draw_packing() -> Figure:
    """Draw packed rows of documents whose lengths are drawn as those of web pages are."""
    draw = np.random.default_rng(0)
    lengths = np.exp(draw.normal(6.2, 1.2, 20_000)).astype(np.int64) + 2
    documents = np.concatenate(([0], np.cumsum(lengths)))
    tokens = np.zeros(documents[-1], np.uint8)
    corpus = tokenloom.Corpus.from_tokens(tokens, documents=documents)
    plan = tokenloom.PackedWindows(corpus, batch_size=8, seq_len=2048).plan
    return plot_packing(plan, lengths)


def _draw_shards() -> Figure:
    """Draw a plan of five batches, read by two ranks with two workers each."""
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_xlim(-1.1, 5.9)
    axes.set_ylim(5, -1)
    for column in range(4):
        rank = column // 2
        for batch in range(5):
            worker = batch % 2
            colour = ("tab:blue", "tab:orange")[rank]
            place = (column + 0.04, batch + 0.08)
            axes.add_patch(Rectangle(place, 0.92, 0.84, color=colour, alpha=(0.45, 0.8)[worker]))
            axes.text(column + 0.5, batch + 0.5, f"s{batch}{column}", ha="center", va="center")
    for rank in range(2):
        columns = f"rank {rank}\ncolumns {2 * rank} and {2 * rank + 1}"
        axes.text(2 * rank + 1, -0.1, columns, ha="center", va="bottom")
    for batch in range(5):
        axes.text(-0.1, batch + 0.5, f"batch {batch}", ha="right", va="center")
        axes.text(4.1, batch + 0.5, f"worker {batch % 2}", va="center")
    axes.plot([-1.1, 5.9], [3, 3], color="tab:red", linestyle="--", linewidth=1.5)
    axes.text(5.85, 2.93, "resume", color="tab:red", ha="right", va="bottom")
    return figure


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
