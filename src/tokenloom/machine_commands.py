"""The subcommands that try a stream on this machine."""

import argparse
import multiprocessing
from typing import Any

from tokenloom.arguments import (
    add_command,
    add_corpus,
    add_shape,
    load_corpus,
    parse_counts,
    parse_words,
)
from tokenloom.printing import print_table

_SELFTEST_EXAMPLES = """\
examples:
  tokenloom selftest
      check the ten laws on text that Python carries: a minute or two
  tokenloom selftest my-book.txt --tokenizer word --batch-size 16 --seq-len 64
      check them on a corpus and settings of your own
  tokenloom selftest --start-methods fork
      seconds: most of the time goes into starting workers by spawning

Each law is a promise about the batches, such as: workers change nothing, and
a stream resumes after any batch. Streams are read in ways that cover each two
of the settings: order, ranks, workers, how these start, whether they stay.
Exit code 0: every law holds. 1: one is broken, and a report follows.
"""


def add_commands(commands: Any) -> None:
    """Add the subcommands of this room to the parser."""
    _add_selftest(commands)


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
        help="ways to start workers",
    )
    command.add_argument("--quiet", action="store_true", help="show no progress bar")


def _selftest(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from tokenloom import selftest

    # Its server imports PyTorch once, and not each worker anew.
    if "forkserver" in arguments.start_methods:
        multiprocessing.get_context("forkserver").set_forkserver_preload(["tokenloom.workers"])
    settings = selftest.Settings(
        corpus=load_corpus(arguments),
        batch_size=arguments.batch_size,
        seq_len=arguments.seq_len,
        seed=arguments.seed,
        num_workers=arguments.workers,
        start_methods=arguments.start_methods,
    )
    outcomes = []
    with tqdm(selftest.make_checks(settings), disable=arguments.quiet or None) as bar:
        for check in bar:
            bar.set_description(f"law {check.law}")
            outcomes.append(selftest.run_check(check))
    print_table(list(selftest.tabulate(outcomes)))
    broken = [outcome for outcome in outcomes if outcome.problem]
    if not broken:
        print(f"every law holds in {len(outcomes)} checks")
        return 0
    print("\nreport, to paste into an issue:")
    for line in selftest.describe_machine(settings):
        print(f"  {line}")
    for outcome in broken:
        print(f"  law {outcome.law} ({outcome.what}): {outcome.problem}")
    return 1
