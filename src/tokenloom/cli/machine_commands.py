"""The subcommands that try a stream on this machine."""

import argparse
import dataclasses
import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tokenloom._wording import count
from tokenloom.cli.options import (
    add_batches,
    add_command,
    add_corpus,
    add_json,
    add_plot,
    add_quiet,
    add_shape,
    load_corpus,
    make_windows,
    parse_counts,
    parse_indices,
    parse_words,
)
from tokenloom.cli.output import print_json, print_line, print_table

if TYPE_CHECKING:
    from tokenloom.inspection.benchmark import Measurement, Sample
    from tokenloom.loading.dataset import Windows
    from tokenloom.testing.selftest import Outcome, Settings

_SELFTEST_EXAMPLES = """\
examples:
  tokenloom selftest
      check the ten laws on text that Python carries: a minute or two
  tokenloom selftest my-book.txt --tokenizer word --batch-size 16 --seq-len 64
      check them on a corpus and settings of your own
  tokenloom selftest --start-methods fork
      seconds: most of the time goes into starting a DataLoader's workers by spawning

Each law is a promise about the batches, such as: workers change nothing, and
a stream resumes after any batch. Streams are read in ways that cover each two
of the settings: order, ranks, workers; of a DataLoader how these start and stay.
Exit code 0: every law holds. 1: one is broken, and a report follows.
"""

_BENCH_EXAMPLES = """\
examples:
  tokenloom bench time_machine
      which settings are fastest here, for batches of 32 x 35 characters
  tokenloom bench my-book.txt --tokenizer word --batch-size 8 --seq-len 1024
      the same for your own windows
  tokenloom bench time_machine --workers 0,2,8 --seconds 120 --plot speed.png
      other numbers of workers, measured for longer, with a picture

A setting is measured several times, in turn with the others; the medians are
shown. WAITS is what a step that computes for a millisecond pays for its batch
beyond that. Recommended is the simplest setting for which a step waits as good
as least, within a hundredth of it.
"""


def add_commands(commands: Any) -> None:
    """Add the subcommands of this room to the parser."""
    _add_selftest(commands)
    _add_bench(commands)


def _add_selftest(commands: Any) -> None:
    summary = "check on this machine that the batches keep their laws"
    command = add_command(commands, _selftest, summary=summary, epilog=_SELFTEST_EXAMPLES)
    add_corpus(command, default="python_docs")
    add_shape(command.add_argument_group("batches"))
    ways = command.add_argument_group("ways to read")
    ways.add_argument(
        "--workers",
        type=parse_counts,
        default="1,2,4",
        metavar="N,N",
        help="numbers of workers to try",
    )
    ways.add_argument(
        "--start-methods",
        type=parse_words,
        default=",".join(multiprocessing.get_all_start_methods()),
        metavar="HOW,HOW",
        help="ways to start a DataLoader's workers",
    )
    _add_output(command)


def _add_bench(commands: Any) -> None:
    command = add_command(
        commands,
        _bench,
        summary="find the fastest settings on this machine",
        epilog=_BENCH_EXAMPLES,
    )
    add_corpus(command)
    add_batches(command)
    what = command.add_argument_group("what to measure")
    what.add_argument(
        "--workers", type=parse_indices, default="0,1,2,4", metavar="N,N", help="numbers of workers"
    )
    what.add_argument("--seconds", type=float, default=30.0, help="about how long to measure")
    add_plot(_add_output(command))


def _add_output(command: argparse.ArgumentParser) -> argparse._ActionsContainer:
    output = command.add_argument_group("output")
    add_json(output)
    add_quiet(output)
    return output


def _selftest(arguments: argparse.Namespace) -> int:
    from tokenloom.testing.selftest import Settings, describe_machine, tabulate

    if "forkserver" in arguments.start_methods:
        _preload()
    settings = Settings(
        corpus=load_corpus(arguments),
        batch_size=arguments.batch_size,
        seq_len=arguments.seq_len,
        seed=arguments.seed,
        num_workers=arguments.workers,
        start_methods=arguments.start_methods,
    )
    outcomes = _run_checks(settings, is_quiet=arguments.quiet)
    broken = [outcome for outcome in outcomes if outcome.problem]
    if arguments.json:
        print_json(
            {
                "holds": not broken,
                "machine": list(describe_machine(settings)),
                "checks": [outcome._asdict() for outcome in outcomes],
            }
        )
        return 1 if broken else 0
    print_table(list(tabulate(outcomes)))
    if not broken:
        print_line(f"every law holds in {count(len(outcomes), 'check')}")
        return 0
    _print_report(describe_machine(settings), broken)
    return 1


def _run_checks(settings: "Settings", *, is_quiet: bool) -> "list[Outcome]":
    from tqdm import tqdm

    from tokenloom.testing.selftest import make_checks, run_check

    outcomes = []
    with tqdm(make_checks(settings), disable=is_quiet or None) as bar:
        for check in bar:
            bar.set_description(f"law {check.law}")
            outcomes.append(run_check(check))
    return outcomes


def _print_report(machine: Iterable[str], broken: "Iterable[Outcome]") -> None:
    """Print what somebody else needs to see the same."""
    print_line("\nreport, to paste into an issue:")
    for line in machine:
        print_line(f"  {line}")
    for outcome in broken:
        print_line(f"  law {outcome.law} ({outcome.what}): {outcome.problem}")


def _bench(arguments: argparse.Namespace) -> None:
    from tokenloom._figures import check_picture, save_picture
    from tokenloom.inspection.benchmark import default_block_size, recommend, summarize
    from tokenloom.inspection.plots import plot_measurements

    path = None if arguments.plot is None else check_picture(arguments.plot)
    if multiprocessing.get_start_method() == "forkserver":
        _preload()
    windows = make_windows(arguments, load_corpus(arguments))
    measurements = summarize(_measure(windows, arguments))
    best = recommend(measurements)
    if path is not None:
        save_picture(plot_measurements(measurements), path)
    if arguments.json:
        rows = [{**dataclasses.asdict(each), "recommended": each is best} for each in measurements]
        windows_of = {"corpus": windows.corpus.name, **dataclasses.asdict(windows.plan)}
        picture = None if path is None else str(path)
        print_json({"windows": windows_of, "measurements": rows, "plot": picture})
        return
    print_table(list(_tabulate(measurements, best, default_block_size(windows))))
    print_line(f"\nrecommended: {best.setting}")
    if path is not None:
        print_line(f"plot: {path}")


def _measure(windows: "Windows", arguments: argparse.Namespace) -> Iterator["Sample"]:
    """Yield the samples as they are taken, under a bar that names what is measured."""
    from tqdm import tqdm

    from tokenloom.inspection.benchmark import NUM_REPETITIONS, choose_settings, take_samples

    settings = choose_settings(windows, num_workers=arguments.workers)
    with tqdm(
        take_samples(windows, settings, seconds=arguments.seconds),
        total=len(settings) * NUM_REPETITIONS,
        disable=arguments.quiet or None,
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


def _preload() -> None:
    # Its server imports PyTorch once, and not each worker anew.
    multiprocessing.get_context("forkserver").set_forkserver_preload(["tokenloom.loading.dataset"])
