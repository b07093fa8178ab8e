"""Pictures, drawn with matplotlib, which is optional."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tokenloom._figures import import_matplotlib, new_figure
from tokenloom._wording import count
from tokenloom.corpus.statistics import LengthCount
from tokenloom.errors import ArgumentError
from tokenloom.inspection.benchmark import Measurement, recommend
from tokenloom.inspection.packings import compare_packings
from tokenloom.inspection.steps import RunSpikes
from tokenloom.plan.mixture import MixtureOrder
from tokenloom.plan.order import IntArray, Pieces
from tokenloom.plan.plan import Plan
from tokenloom.text.ids import Ids

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_WINDOWS = 20_000
# How many steps the shares of a mixture are drawn in, and how many epochs are marked at most.
_NUM_SHARES, _MAX_EPOCH_LINES = 240, 24
_MAX_POINTS = 10_000
# More batches, rows or bars than these run into each other.
_MAX_BATCHES, _MAX_ROWS, _BARS_ACROSS = 48, 32, 250


def plot_plans(plans: Sequence[Plan]) -> "Figure":
    """Draw which tokens each batch reads, one panel per plan, side by side.

    A bar is a window; its colour is its row in the batch. For a large plan, only
    some batches and rows are drawn, evenly spaced, and windows that would be too
    short to be seen are drawn longer; the title states this.

    Parameters
    ----------
    plans : sequence of Plan

    Raises
    ------
    UsageError
        matplotlib is not installed.
    """
    figure = new_figure(width=5.5 * len(plans), height=4.6)
    panels = figure.subplots(1, len(plans), squeeze=False)[0]
    for plan, axes in zip(plans, panels, strict=True):
        _draw_plan(plan, axes)
    if plans and plans[0].batch_size <= 8:
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=8)
    elif plans:
        _add_row_scale(figure, panels, plans[0].batch_size)
    return figure


def plot_mixture(plan: Plan, *, num_epochs: int | None = None) -> "Figure":
    """Draw the shares of a mixture over a training, and how often its parts are read.

    Above, the share of each part in the windows, one on top of the other; below, how
    often each part was read up to there. Both over the tokens of the whole training.

    Parameters
    ----------
    plan : Plan
        Of a mixture.
    num_epochs : int, optional
        How many epochs are drawn; by default up to the plan's epoch, and far enough to
        see the last stage.

    Raises
    ------
    ArgumentError
        The plan is not that of a mixture.
    UsageError
        matplotlib is not installed.
    """
    order = plan.order
    if not isinstance(order, MixtureOrder):
        msg = f"plan must be that of a mixture, got one in {plan.kind} order"
        raise ArgumentError(msg)
    last_stage = -(-order.stages[-1].first_token // plan.seq_len)
    if num_epochs is None:
        num_epochs = max(plan.epoch, last_stage // plan.num_windows) + 1
    stop = max(num_epochs * plan.num_windows, min(2, len(order.stages)) * last_stage)
    edges = np.unique(np.linspace(0, stop, _NUM_SHARES + 1).astype(np.int64))
    counts = np.array([order.counts(plan, window) for window in edges.tolist()])
    shares = np.diff(counts, axis=0) / np.diff(edges)[:, None]
    figure = new_figure(width=7.0, height=5.4)
    upper, lower = figure.subplots(2, 1, sharex=True)
    tokens = edges * plan.seq_len
    upper.stackplot(tokens[:-1], shares.T * 100, labels=order.names, step="post")
    upper.set_ylabel("share of the windows, %")
    upper.set_ylim(0, 100)
    upper.set_title(f"{count(len(order.names), 'part')}, {count(len(order.stages), 'stage')}")
    for read in (counts / order.part_windows(plan)).T:
        lower.plot(tokens, read)
    lower.set_ylabel("times read")
    lower.set_xlabel("tokens of the training")
    lower.axhline(1, color="0.7", linewidth=0.8, zorder=0)
    num_epochs = -(-stop // plan.num_windows)
    for epoch in range(1, num_epochs if num_epochs <= _MAX_EPOCH_LINES else 1):
        for axes in (upper, lower):
            axes.axvline(epoch * plan.num_windows * plan.seq_len, color="0.5", linewidth=0.6)
    figure.legend(*upper.get_legend_handles_labels(), loc="outside right upper")
    return figure


def plot_packing(plan: Plan, lengths: Ids) -> "Figure":
    """Draw the rows of packed documents, and how full they are beside other ways.

    Above, the first rows of the epoch: a bar is a piece of a document, and white
    space is padding. Below, for four ways to lay these documents into rows, the share of
    positions that hold no input, and of documents that are cut though they would fit.

    Parameters
    ----------
    plan : Plan
        In packed order.
    lengths : integer array, shape (num_documents,)
        Of the documents, in tokens.

    Raises
    ------
    ArgumentError
        The plan is in another order, whose rows are not made of pieces.
    UsageError
        matplotlib is not installed.
    """
    num_batches = min(plan.num_batches, -(-_MAX_ROWS // plan.batch_size))
    pieces = plan.references(range(num_batches), range(plan.batch_size)).pieces
    if pieces is None:
        msg = f"plan must be in packed order, got one in {plan.kind} order: use plot_plans"
        raise ArgumentError(msg)
    figure = new_figure(width=6.5, height=7.5)
    rows, ways = figure.subplots(2, 1, height_ratios=(3, 2))
    _draw_rows(plan, pieces, rows)
    packings = compare_packings(lengths, seq_len=plan.seq_len)
    names = [packing.name for packing in packings]
    places = np.arange(len(names), dtype=np.int64)
    for shift, label, values in (
        (-0.2, "padding", [100 * (1 - packing.fill) for packing in packings]),
        (0.2, "documents that are cut", [100 * packing.cut for packing in packings]),
    ):
        bars = ways.barh(places + shift, values, height=0.36, label=label)
        ways.bar_label(bars, fmt="%.2f %%", padding=3, fontsize="small")
    ways.set_yticks(places, names)
    ways.invert_yaxis()
    ways.margins(x=0.25)
    ways.set_xlabel("percent")
    ways.legend(loc="lower right", fontsize="small")
    return figure


def _draw_rows(plan: Plan, pieces: Pieces, axes: "Axes") -> None:
    counts = pieces.counts.ravel()[:_MAX_ROWS].tolist()
    first = 0
    for row, number in enumerate(counts):
        lengths = pieces.lengths[first : first + number]
        ends = np.cumsum(lengths, dtype=np.int64)
        colours = [_row_colour((row * 5 + piece * 3) % 8, 8) for piece in range(number)]
        axes.barh(
            [row] * number,
            lengths,
            left=ends - lengths,
            height=0.8,
            color=colours,
            edgecolor="white",
            linewidth=0.5,
        )
        first += number
    axes.set_xlim(0, plan.seq_len)
    axes.set_ylim(len(counts) - 0.4, -0.6)
    title = f"packed, epoch {plan.epoch}: the first {count(len(counts), 'row')}"
    axes.set_title(f"{title}, fill {plan.fill:.2%}", fontsize="medium")
    axes.set_xlabel("position in the row (tokens)")
    axes.set_ylabel("row")


def plot_lengths(lengths: Sequence[LengthCount]) -> "Figure":
    """Draw the distribution of document lengths.

    Parameters
    ----------
    lengths : sequence of LengthCount
        What `tokenloom.corpus.statistics.count_lengths` returned.

    Raises
    ------
    ArgumentError
        There are no documents.
    UsageError
        matplotlib is not installed.
    """
    if not lengths:
        msg = "a store must have documents, so that their lengths can be drawn, got none"
        raise ArgumentError(msg)
    figure = new_figure(width=7.0, height=4.0)
    axes = figure.add_subplot()
    axes.bar(range(len(lengths)), [each.num_documents for each in lengths], width=0.9)
    labels = [f"{each.start:,}" for each in lengths]
    axes.set_xticks(range(len(lengths)), labels, rotation=45)
    axes.set_xlabel("tokens of a document, at least")
    axes.set_ylabel("documents")
    axes.grid(visible=True, axis="y", alpha=0.3)
    return figure


def _draw_plan(plan: Plan, axes: "Axes") -> None:
    batches = _spread(plan.num_batches, _MAX_BATCHES)
    columns = _spread(plan.batch_size, _MAX_ROWS)
    starts = np.concatenate([plan.starts(range(batch, batch + 1)) for batch in batches])
    least = plan.num_tokens / _BARS_ACROSS
    lengths = plan.lengths(starts)
    # Empty windows stay empty.
    widths = np.where(lengths > 0, np.maximum(lengths, least), 0)
    step = (plan.num_batches - 1) / max(1, len(batches) - 1) or 1
    for column in columns:
        axes.barh(
            batches,
            widths[:, column],
            left=starts[:, column],
            height=0.8 * step,
            color=_row_colour(column, plan.batch_size),
            edgecolor="white",
            linewidth=0.5 if least <= plan.seq_len else 0.0,
            label=f"row {column}",
        )
    axes.set_xlim(0, plan.num_tokens)
    axes.set_ylim(plan.num_batches - 1 + 0.6 * step, -0.6 * step)
    title = "\n".join([f"{plan.kind}, epoch {plan.epoch}", *_describe_sample(plan, least)])
    axes.set_title(title, fontsize="medium")
    axes.set_xlabel("position in the corpus (tokens)")
    axes.set_ylabel("batch")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(
            import_matplotlib("ticker").MaxNLocator(nbins=6, integer=True, min_n_ticks=1)
        )
        axis.set_major_formatter(import_matplotlib("ticker").StrMethodFormatter("{x:,.0f}"))


def _describe_sample(plan: Plan, least: float) -> Iterator[str]:
    parts = [
        f"{limit} of {number:,} {noun}"
        for number, limit, noun in (
            (plan.num_batches, _MAX_BATCHES, "batches"),
            (plan.batch_size, _MAX_ROWS, "rows"),
        )
        if number > limit
    ]
    if least > plan.seq_len:
        parts.append("windows drawn longer than they are")
    if parts:
        yield ", ".join(parts)


def _spread(size: int, limit: int) -> list[int]:
    """Return at most ``limit`` integers of [0, size), evenly spaced, both ends among them."""
    if size <= limit:
        return list(range(size))
    return [position * (size - 1) // (limit - 1) for position in range(limit)]


def _add_row_scale(figure: "Figure", panels: Sequence["Axes"], batch_size: int) -> None:
    cm = import_matplotlib("cm")
    num_colours = min(batch_size, 256)
    colours = import_matplotlib("colors").ListedColormap(
        [_row_colour(colour, num_colours) for colour in range(num_colours)]
    )
    scale = import_matplotlib("colors").Normalize(0, batch_size - 1)
    figure.colorbar(cm.ScalarMappable(scale, colours), ax=list(panels), label="row of the batch")


def plot_orders(orders: Mapping[str, IntArray]) -> "Figure":
    """Draw the order of windows, two panels per order, one above the other.

    The upper one has a dot per position, at the window that is read there. The
    lower one has a dot per pair of successive windows, the second one over the
    first.

    Parameters
    ----------
    orders : mapping of str to int64 array, shape (num_windows,)
        Title -> windows in the order in which they are read. At most 20,000
        windows each: more would be a grey square.

    Raises
    ------
    ArgumentError
        There are no orders, or one is too large to be seen.
    UsageError
        matplotlib is not installed.
    """
    if not orders:
        msg = "orders must hold at least one order, got none"
        raise ArgumentError(msg)
    figure = new_figure(width=4.0 * len(orders), height=8.0)
    upper, lower = figure.subplots(2, len(orders), squeeze=False)
    for (title, windows), above, below in zip(orders.items(), upper, lower, strict=True):
        if len(windows) > _MAX_WINDOWS:
            msg = (
                f"an order to draw must have at most {_MAX_WINDOWS:,} windows, "
                f"got {len(windows):,} in {title!r}"
            )
            raise ArgumentError(msg)
        # As pixels, also within a drawing of curves: thousands of dots are many bytes.
        options: dict[str, Any] = {"s": 2.0, "linewidths": 0.0, "rasterized": True}
        above.scatter(np.arange(len(windows), dtype=np.int64), windows, **options)
        above.set_title(title)
        above.set_xlabel("position in the epoch")
        above.set_ylabel("window")
        below.scatter(windows[:-1], windows[1:], **options)
        below.set_xlabel("window")
        below.set_ylabel("window after it")
        for axes in (above, below):
            axes.set_aspect("equal")
    return figure


def plot_measurements(measurements: Sequence[Measurement]) -> "Figure":
    """Draw how fast a stream is read in each setting; the recommended one stands out.

    Parameters
    ----------
    measurements : sequence of Measurement
        At least one.

    Raises
    ------
    UsageError
        matplotlib is not installed.
    """
    figure = new_figure(width=11.0, height=1.2 + 0.26 * len(measurements))
    rates, waits = figure.subplots(1, 2, sharey=True)
    names = [_name_setting(measurement) for measurement in measurements]
    best = recommend(measurements)
    colours = ["tab:orange" if each is best else "tab:blue" for each in measurements]
    rates.scatter([each.tokens_per_second for each in measurements], names, c=colours)
    rates.set_xlabel("tokens per second, reading only")
    waits.scatter([each.wait_seconds * 1e6 for each in measurements], names, c=colours)
    waits.set_xlabel("microseconds that a step of 1 ms waits for its batch")
    # A plain DataLoader can be a hundred times slower.
    for axes in (rates, waits):
        axes.set_xscale("log")
        axes.grid(visible=True, which="both", alpha=0.3)
    rates.invert_yaxis()
    figure.suptitle(f"recommended: {best.setting}", fontsize="medium")
    return figure


def plot_spikes(found: RunSpikes, *, title: str) -> "Figure":
    """Draw the loss of each step of a run, with its running median, and mark steps that stand out.

    Parameters
    ----------
    found : RunSpikes
        What `tokenloom.inspection.read_spikes` returned.
    title : str

    Raises
    ------
    UsageError
        matplotlib is not installed.
    """
    figure = new_figure(width=9.0, height=4.5)
    axes = figure.add_subplot()
    steps = found.first_step + np.arange(found.num_steps, dtype=np.int64)
    shown = _thin(found.losses)
    axes.plot(steps[shown], found.losses[shown], linewidth=0.7, alpha=0.7, label="loss")
    axes.plot(steps[shown], found.usual[shown], label="running median")
    strong, weak = (
        [text for spike, text in found.spikes if (spike.deviations > found.threshold) == is_strong]
        for is_strong in (True, False)
    )
    for texts, inside, label in (
        (strong, "tab:red", f"above {found.threshold:g} deviations"),
        (weak, "none", "the highest below"),
    ):
        # What is not finite has no place on the axis.
        places = [(text.step, text.loss) for text in texts if np.isfinite(text.loss)]
        if places:
            heights = [loss for _, loss in places]
            at = [step for step, _ in places]
            axes.plot(at, heights, "o", color="tab:red", markerfacecolor=inside, label=label)
        for step, loss in places:
            axes.annotate(
                f"{step:,}", (step, loss), textcoords="offset points", xytext=(5, 5), fontsize=9
            )
    axes.set_title(title)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per token)")
    axes.xaxis.set_major_formatter(import_matplotlib("ticker").StrMethodFormatter("{x:,.0f}"))
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    return figure


def _thin(losses: "np.typing.NDArray[np.float64]") -> "np.typing.NDArray[np.int64]":
    """Return the positions to draw: all, or the highest loss of each part of a long run."""
    width = -(-len(losses) // _MAX_POINTS)
    starts = range(0, len(losses), max(1, width))
    known = np.where(np.isfinite(losses), losses, -np.inf)
    return np.array([start + int(known[start : start + width].argmax()) for start in starts])


def _name_setting(measurement: Measurement) -> str:
    setting = measurement.setting
    name = f"{setting.reader}, {count(setting.num_workers, 'worker')}"
    if setting.block_size is not None:
        name += f", blocks of {setting.block_size}"
    return name + ", pinned" * setting.pin_memory


def _row_colour(column: int, batch_size: int) -> tuple[float, float, float, float]:
    # Slow to import and optional.
    from matplotlib import colormaps

    # The ends of the map are hard to see: yellow on white paper, violet on a dark screen.
    place = 0.1 + 0.7 * column / max(1, batch_size - 1)
    red, green, blue, alpha = colormaps["viridis"](place)
    return red, green, blue, alpha
