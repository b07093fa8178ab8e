"""The command ``tokenloom selftest``: the laws of the stream, checked on this machine."""

import argparse
import multiprocessing
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tokenloom._wording import count
from tokenloom.cli.options import (
    add_corpus,
    add_json,
    add_parser,
    add_quiet,
    add_shape,
    load_corpus,
    parse_counts,
    parse_words,
    preload_workers,
)
from tokenloom.cli.output import print_json, print_line, print_table

if TYPE_CHECKING:
    from tokenloom.testing.selftest import Outcome, Settings

_EXAMPLES = """\
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


def add_command(commands: Any) -> None:
    """Add the command to the parser."""
    summary = "check on this machine that the batches keep their laws"
    command = add_parser(commands, "selftest", _run, summary=summary, epilog=_EXAMPLES)
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
    output = command.add_argument_group("output")
    add_json(output)
    add_quiet(output)


def _run(arguments: argparse.Namespace) -> int:
    from tokenloom.testing.selftest import Settings, describe_machine, tabulate

    if "forkserver" in arguments.start_methods:
        preload_workers()
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
