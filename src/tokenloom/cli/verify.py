"""The command ``tokenloom verify``: every byte of a store, checked."""

import argparse
from typing import Any

from tokenloom.cli import options
from tokenloom.cli.output import print_json, print_line
from tokenloom.cli.parser import add_parser
from tokenloom.store.reader import read_store
from tokenloom.store.verify import verify_store

_EXAMPLES = """\
examples:
  tokenloom verify my-store
      compare the hash of every file, and name each that is missing or damaged
  tokenloom verify my-store/valid
      the same, since the files of a store hold all of its splits

Exit code 0: the store is as it was written. 1: it is not.
"""


def add_command(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_parser(commands, "verify", _run, epilog=_EXAMPLES)
    options.add_store(command)
    options.add_json(command)
    options.add_quiet(command)


def _run(arguments: argparse.Namespace) -> int:
    store = options.name_store(arguments.store)
    if store.split is not None:
        read_store(store.path).bounds(store.split)
    problems = verify_store(store.path, progress=False if arguments.quiet else None)
    if arguments.json:
        print_json({"store": arguments.store, "problems": list(problems)})
        return int(bool(problems))
    for problem in problems:
        print_line(problem)
    if not problems:
        print_line(f"{store.path} is as it was written")
    return int(bool(problems))
