"""Tables and plots of a run.

python benchmarks/report.py RESULTS.json [--plot FOLDER]
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from measuring import ALL
from results import SHAPES, Results, Shape, name_shape
from targets import Row, rows

_COLOURS = {"tokenloom": "#1f6f8b", "peer": "#b8b8b8", "limit": "#e3b04b"}


def render(results: Results) -> str:
    """Return every table, in Markdown."""
    parts = [_summary_table(results), _targets_table(list(rows(results)))]
    parts += [_speed_table(results, shape) for shape in SHAPES if _columns(results, shape)]
    parts.append(_costs_table(results))
    for name, note in sorted(results.notes.items()):
        parts.append(f"{ALL[name].title if name in ALL else name}: {note}.")
    return "\n\n".join(part for part in parts if part) + "\n"


# What most people use or might use instead, and the loaders of tokenloom that take its place.
_SUMMARY = (
    *("random-loader", "random-dataloader", "textbook-random", "nanogpt", "map-style"),
    *("hf", "hf-iterable", "mosaicml", "litdata", "grain"),
)


def _summary_table(results: Results) -> str:
    """Return the speeds that a reader looks for first, in random order."""
    columns = [(shape, num_workers) for shape in SHAPES for num_workers in (0, 4)]
    header = ["million tokens per second"]
    header += [
        f"{name_shape(shape)}, {f'{num_workers} workers' if num_workers else 'in process'}"
        for shape, num_workers in columns
    ]
    lines = []
    for slug in _SUMMARY:
        speeds = [results.speed(slug, *column) for column in columns]
        if any(speeds):
            cells = ["" if speed is None else _number(speed / 1e6) for speed in speeds]
            lines.append((ALL[slug].title, *cells))
    return _table(header, lines)


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table, or nothing where it would be empty."""
    if not lines:
        return ""
    ruler = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, ruler, *lines))


def _number(value: float) -> str:
    """Return three digits, or the whole number above.

    >>> [_number(value) for value in (0.0312, 1.234, 56.78, 1234.5)]
    ['0.031', '1.23', '56.8', '1,234']
    """
    if value >= 100 or value == 0:
        return f"{value:,.0f}"
    digits = 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"


def _targets_table(found: Sequence[Row]) -> str:
    header = ("measured", "against", "asked", "reached", "", "limit")
    return _table(
        header,
        [
            (
                row.what,
                row.against,
                f"{'at most' if row.at_most else 'at least'} {_number(row.asked)} {row.unit}",
                f"{_number(row.reached)} {row.unit}",
                "yes" if row.is_reached else "**no**",
                "" if row.limit is None else f"{_number(row.limit)} {row.unit} ({row.limit_name})",
            )
            for row in found
        ],
    )


def _columns(results: Results, shape: Shape) -> list[int]:
    return [
        num_workers
        for num_workers in results.workers
        if any(results.speed(slug, shape, num_workers) for slug in ALL)
    ]


def _speed_table(results: Results, shape: Shape) -> str:
    columns = _columns(results, shape)
    header = [f"{name_shape(shape)}: million tokens per second, x best peer"]
    header += [f"{num_workers} workers" if num_workers else "in process" for num_workers in columns]
    lines = []
    for slug, system in ALL.items():
        cells = [_speed_cell(results, slug, shape, num_workers) for num_workers in columns]
        if any(cells):
            lines.append((system.title, *cells))
    return _table(header, lines)


def _speed_cell(results: Results, slug: str, shape: Shape, num_workers: int) -> str:
    speed = results.speed(slug, shape, num_workers)
    if speed is None:
        return ""
    faster = results.faster(slug, results.best_peer(shape, num_workers), shape, num_workers)
    ratio = "" if faster is None else f" ({_number(faster)} x)"
    return f"{_number(speed / 1e6)}{ratio}"


_COSTS = (
    ("step", "us per batch beyond a busy step of 2 ms", 1e6),
    ("step-computed", "of which computed in the main process, us", 1e6),
    ("first", "first batch, ms", 1e3),
    ("first-sparse", "first batch of 10^12 tokens, ms", 1e3),
    ("start", "first batch of a corpus that is open, ms", 1e3),
    ("resume", "the same resumed at the middle, ms", 1e3),
    ("resume-known", "resumed, the corpus' hash being known, ms", 1e3),
    ("hash", "SHA-256 of 4 MiB, ms", 1e3),
    ("memory", "memory of all processes, without pages of files, MB", 1.0),
    ("memory-files", "memory of all processes, with pages of files, MB", 1.0),
    ("growth", "memory gained in ten epochs, MB", 1.0),
)


def _costs_table(results: Results) -> str:
    lines = list(_cost_lines(results))
    return _table(("cost", "workers", *map(name_shape, SHAPES)), lines)


def _cost_lines(results: Results) -> Iterator[tuple[str, ...]]:
    for quantity, title, factor in _COSTS:
        for slug, system in ALL.items():
            for num_workers in range(max(results.workers) + 1):
                values = [results.median(quantity, slug, shape, num_workers) for shape in SHAPES]
                cells = ["" if value is None else _number(value * factor) for value in values]
                if any(cells):
                    yield (f"{title}: {system.title}", str(num_workers), *cells)


def plot(results: Results, folder: Path) -> list[Path]:
    """Draw speeds, and what was asked and reached; return the files.

    Parameters
    ----------
    results : Results
    folder : Path
        Where ``speed.svg`` and ``speed-targets.svg`` go.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, draw in (("speed", _draw_speeds), ("speed-targets", _draw_targets)):
        figure = draw(results)
        if figure is not None:
            files.append(folder / f"{name}.svg")
            figure.savefig(files[-1])
    return files


def _draw_speeds(results: Results) -> Any:
    panels = [(shape, workers) for shape in SHAPES for workers in (0, max(results.workers))]
    panels = [panel for panel in dict.fromkeys(panels) if panel[1] in _columns(results, panel[0])]
    bars = {}
    for shape, num_workers in panels:
        where = f"{num_workers} workers" if num_workers else "in process"
        speeds = {slug: results.speed(slug, shape, num_workers) for slug in ALL}
        bars[f"{name_shape(shape)}, {where}"] = [
            (ALL[slug].title, speed / 1e6, _COLOURS[ALL[slug].kind])
            for speed, slug in sorted((speed, slug) for slug, speed in speeds.items() if speed)
        ]
    return _draw_bars(bars, "million tokens per second") if bars else None


def _draw_targets(results: Results) -> Any:
    bars = [
        (
            f"{row.what} / {row.against}",
            row.asked / row.reached if row.at_most else row.reached / row.asked,
            _COLOURS["tokenloom" if row.is_reached else "limit"],
        )
        for row in rows(results)
        if row.reached > 0
    ][::-1]
    if not bars:
        return None
    figure = _draw_bars({"": bars}, "how many times better than asked")
    figure.axes[0].axvline(1.0, color="black", linewidth=1, linestyle=":", zorder=0)
    return figure


def _draw_bars(panels: Mapping[str, Sequence[tuple[str, float, str]]], unit: str) -> Any:
    """Draw bars, the first lowest, each under its name: a phone has no room for both in a line."""
    from matplotlib.figure import Figure  # optional, and slow to import

    sizes = [len(bars) for bars in panels.values()]
    figure = Figure(figsize=(6, 0.7 * len(sizes) + 0.3 * sum(sizes)), layout="constrained")
    heights = [2 + size for size in sizes]
    every = figure.subplots(len(sizes), 1, squeeze=False, height_ratios=heights)
    for axes, (title, bars) in zip(every.flat, panels.items(), strict=True):
        for place, (name, value, colour) in enumerate(bars):
            axes.barh(place, value, height=0.35, color=colour)
            at = axes.get_yaxis_transform()
            label = axes.text(0.01, place + 0.22, name, transform=at, fontsize=7.5, va="bottom")
            # A long name would make the bars shorter.
            label.set_in_layout(False)
        axes.set_ylim(-0.5, len(bars) - 0.2)
        axes.set_yticks([])
        axes.set_xscale("log")
        axes.set_xlabel(unit)
        axes.set_title(title)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    """Print the tables of a run that was kept, and draw it anew."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--plot", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    results = Results.read(arguments.results)
    print(render(results), end="")
    if arguments.plot is not None:
        plot(results, arguments.plot)


if __name__ == "__main__":
    main()
