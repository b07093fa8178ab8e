"""The command ``tokenloom selftest``: the laws of the stream, checked on this machine."""

import argparse
import itertools
import multiprocessing
import signal
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tokenloom._io.interrupts import Stopped
from tokenloom._progress import open_bar
from tokenloom._wording import count
from tokenloom.cli import options
from tokenloom.cli.output import print_json, print_line, print_table
from tokenloom.cli.parser import add_parser
from tokenloom.corpus.mixture import Mixture

if TYPE_CHECKING:
    from tokenloom.testing.selftest import Outcome, Settings

_EXAMPLES = """\
examples:
  tokenloom selftest
      check the ten laws on a text that comes with Python, in a minute or two
  tokenloom selftest my-book.txt --tokenizer word --batch-size 16 --seq-len 64
      check them on a corpus and settings of your own
  tokenloom selftest my-book.txt --batch-size 0:16,10000:64
      batches that grow, in the orders that can have them
  tokenloom selftest --start-methods fork
      takes seconds, since most of the time goes into spawning a DataLoader's workers

Each law is a promise about the batches, for example that workers change nothing
and that a stream resumes after any batch. The streams are read in combinations of
settings that include each pair of values: of order, tail, ranks and workers, and
for a DataLoader of how its workers start and whether they persist.
Exit code 0: every law holds. 1: a law is broken, and a report follows.
"""


def add_command(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_parser(commands, "selftest", _run, epilog=_EXAMPLES)
    options.add_corpus(command, default="python_docs")
    batches = command.add_argument_group("batches")
    options.add_changing_shape(batches)
    options.add_seed(batches)
    ways = command.add_argument_group("ways to read")
    ways.add_argument(
        "--workers",
        type=options.parse_counts,
        default="1,2,4",
        metavar="N,N",
        help="numbers of workers to try",
    )
    ways.add_argument(
        "--start-methods",
        type=options.parse_words,
        default=",".join(multiprocessing.get_all_start_methods()),
        metavar="METHOD,METHOD",
        help="start methods of a DataLoader's workers to try",
    )
    output = command.add_argument_group("output")
    options.add_json(output)
    options.add_quiet(output)


def _run(arguments: argparse.Namespace) -> int:
    from tokenloom.testing.selftest import Settings

    if "forkserver" in arguments.start_methods:
        options.preload_workers()
    text = options.load_whole(arguments)
    settings = Settings(
        corpus=text.corpus if isinstance(text, Mixture) else text,
        mixture=text if isinstance(text, Mixture) else None,
        batch_size=arguments.batch_size,
        seq_len=arguments.seq_len,
        seed=arguments.seed,
        num_workers=arguments.workers,
        start_methods=arguments.start_methods,
    )
    outcomes = _run_checks(settings, is_quiet=arguments.quiet)
    return print_outcomes(outcomes, settings, as_json=arguments.json)


def _run_checks(settings: "Settings", *, is_quiet: bool) -> "list[Outcome]":
    from tokenloom.testing.selftest import make_checks, run_check

    outcomes = []
    with open_bar(make_checks(settings), progress=False if is_quiet else None) as bar:
        for check in bar:
            bar.set_description(f"law {check.law}")
            try:
                outcomes.append(run_check(check))
            except (KeyboardInterrupt, Stopped):
                _end_workers()
                raise
    return outcomes


def _end_workers() -> None:
    """End the workers of a DataLoader at once, also those that are still starting.

    These would print a traceback where the loader is gone, and the loader waits
    seconds for them.
    """
    number = getattr(signal, "SIGCHLD", None)
    # PyTorch's handler would raise that a worker was killed.
    before = None if number is None else signal.signal(number, signal.SIG_DFL)
    workers = multiprocessing.active_children()
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.join()
    if number is not None and before is not None:
        signal.signal(number, before)


def print_outcomes(
    outcomes: "Sequence[Outcome]", settings: "Settings", *, as_json: bool = False
) -> int:
    """Print which laws hold, and return the exit code.

    For a broken law it prints all that another person needs to reproduce it.
    """
    from tokenloom.testing.selftest import describe_machine

    broken = [outcome for outcome in outcomes if outcome.problem]
    machine = list(describe_machine(settings))
    if as_json:
        checks = [outcome._asdict() for outcome in outcomes]
        print_json({"holds": not broken, "machine": machine, "checks": checks})
        return int(bool(broken))
    print_table(list(_tabulate(outcomes)))
    if not broken:
        print_line(f"every law holds in {count(len(outcomes), 'check')}")
        return 0
    print_line("\nreport, to paste into an issue:")
    for line in machine:
        print_line(f"  {line}")
    for outcome in broken:
        print_line(f"  law {outcome.law} ({outcome.what}): {outcome.problem}")
    return 1


def _tabulate(outcomes: "Iterable[Outcome]") -> Iterator[tuple[str, ...]]:
    yield "LAW", "CHECKS", "SECONDS", "RESULT"
    for law, group in itertools.groupby(outcomes, key=lambda outcome: outcome.law):
        of_law = list(group)
        num_broken = sum(bool(outcome.problem) for outcome in of_law)
        seconds = sum(outcome.seconds for outcome in of_law)
        result = f"BROKEN in {count(num_broken, 'check')}" if num_broken else "holds"
        yield law, str(len(of_law)), f"{seconds:.1f}", result
