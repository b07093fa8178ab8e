"""The command ``tokenloom bench``: the fastest settings on this machine."""

import argparse
import dataclasses
import multiprocessing
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tokenloom._progress import open_bar
from tokenloom._wording import count
from tokenloom.cli import options
from tokenloom.cli.output import print_json, print_line, print_table
from tokenloom.cli.parser import add_parser
from tokenloom.plan.order import PlanSettings

if TYPE_CHECKING:
    from tokenloom.inspection.benchmark import Measurement, Sample
    from tokenloom.loading.dataset import Windows

_EXAMPLES = """\
examples:
  tokenloom bench time_machine
      find the fastest settings for batches of 32 x 35 characters
  tokenloom bench my-book.txt --tokenizer word --batch-size 8 --seq-len 1024
      the same for your own windows
  tokenloom bench time_machine --workers 0,2,8 --seconds 120 --plot speed.png
      other numbers of workers, measured for longer, with a picture

Each setting is measured several times, in turn with the others, and the table
shows the medians. WAITS is how long a training waits for a batch after each step
of a millisecond. The recommended setting is the simplest one whose wait is the
shortest, within a hundredth of a step.
"""


def add_command(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_parser(
        commands,
        "bench",
        _run,
        epilog=_EXAMPLES,
    )
    options.add_corpus(command)
    options.add_batches(command)
    what = command.add_argument_group("what to measure")
    what.add_argument(
        "--workers",
        type=options.parse_indices,
        default="0,1,2,4",
        metavar="N,N",
        help="numbers of workers to try",
    )
    what.add_argument(
        "--seconds", type=float, default=30.0, help="approximate duration of the measurement"
    )
    output = command.add_argument_group("output")
    options.add_json(output)
    options.add_quiet(output)
    options.add_plot(output)


def _run(arguments: argparse.Namespace) -> None:
    from tokenloom._figures import check_picture, save_picture
    from tokenloom.inspection.benchmark import recommend, summarize
    from tokenloom.inspection.plots import plot_measurements
    from tokenloom.plan.division import default_block_size

    path = None if arguments.plot is None else check_picture(arguments.plot)
    if multiprocessing.get_start_method() == "forkserver":
        options.preload_workers()
    windows = options.make_windows(arguments, options.load_whole(arguments))
    measurements = summarize(_measure(windows, arguments))
    best = recommend(measurements)
    if path is not None:
        save_picture(plot_measurements(measurements), path)
    if arguments.json:
        rows = [{**dataclasses.asdict(each), "recommended": each is best} for each in measurements]
        names = [field.name for field in dataclasses.fields(PlanSettings)]
        settings = {name: getattr(windows.plan, name) for name in names}
        windows_of = {"corpus": windows.corpus.name, **settings}
        picture = None if path is None else str(path)
        print_json({"windows": windows_of, "measurements": rows, "plot": picture})
        return
    print_table(
        list(_tabulate(measurements, best, default_block_size(windows.plan, windows.columns)))
    )
    print_line(f"\nrecommended: {best.setting}")
    if path is not None:
        print_line(f"plot: {path}")


def _measure(windows: "Windows", arguments: argparse.Namespace) -> Iterator["Sample"]:
    """Yield the samples as they are taken, under a bar that names what is measured."""
    from tokenloom.inspection.benchmark import NUM_REPETITIONS, choose_settings, take_samples

    settings = choose_settings(windows, num_workers=arguments.workers)
    with open_bar(
        take_samples(windows, settings, seconds=arguments.seconds),
        total=len(settings) * NUM_REPETITIONS,
        progress=False if arguments.quiet else None,
    ) as bar:
        for sample in bar:
            workers = count(sample.setting.num_workers, "worker")
            bar.set_description(f"{sample.setting.reader}, {workers}")
            yield sample


def _tabulate(
    measurements: "Sequence[Measurement]", best: "Measurement", block_size: int
) -> Iterator[tuple[str, ...]]:
    yield "", "READER", "WORKERS", "BLOCK", "PINNED", "MTOKENS/S", "WAITS", "FIRST BATCH"
    for each in measurements:
        setting = each.setting
        block = f"{setting.block_size or block_size:,}" if setting.reader == "Loader" else "-"
        yield (
            "*" if each is best else "",
            setting.reader,
            f"{setting.num_workers:>7}",
            f"{block:>5}",
            "yes" if setting.pin_memory else "no",
            f"{each.tokens_per_second / 1e6:>9.1f}",
            f"{each.wait_seconds * 1e6:>6,.0f} us",
            f"{each.first_batch_seconds * 1e3:>8,.1f} ms",
        )
