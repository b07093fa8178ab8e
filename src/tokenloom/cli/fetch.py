"""The command ``tokenloom fetch``: corpora, downloaded before they are needed."""

import argparse
from typing import Any

from tokenloom._wording import show, suggest
from tokenloom.cli import options
from tokenloom.cli.output import print_error, print_json, print_line
from tokenloom.cli.parser import add_parser
from tokenloom.errors import ArgumentError, TokenloomError
from tokenloom.hub.cache import fetch
from tokenloom.hub.catalogue import Entry
from tokenloom.hub.load import find_named, known_names

_EXAMPLES = """\
examples:
  tokenloom fetch time_machine tiny_shakespeare
      download two texts, so that later commands need no network
  tokenloom fetch imdb
      84 MB, unpacked into 100,000 files
  tokenloom fetch time_machine --offline
      check that it is there and undamaged, and download nothing

Files that are there already are verified and not downloaded again.
TOKENLOOM_CACHE names the folder, which can be copied to another machine.
TOKENLOOM_MIRROR names an address to download from instead of the usual ones.
"""


def add_command(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_parser(
        commands,
        "fetch",
        _run,
        epilog=_EXAMPLES,
    )
    command.add_argument(
        "names", metavar="NAME", nargs="+", help="a name from 'tokenloom datasets'"
    )
    options.add_offline(command)
    options.add_json(command)
    options.add_quiet(command)


def _run(arguments: argparse.Namespace) -> int:
    code = 0
    entries = [_find(name) for name in arguments.names]
    facts = []
    for name, entry in zip(arguments.names, entries, strict=True):
        if entry.file is None:
            where, path = "built in", None
        else:
            try:
                path = fetch(entry, progress=False if arguments.quiet else None)
            except TokenloomError as error:
                # The other corpora are fetched all the same.
                print_error(error)
                code = 1
                continue
            where = "cached"
        facts.append({"name": name, "where": where, "path": path and str(path)})
        if not arguments.json:
            print_line(f"{name}: {path if where == 'cached' else where}")
    if arguments.json:
        print_json(facts)
    return code


def _find(name: str) -> Entry:
    entry = find_named(name)
    if entry is None:
        known = known_names()
        msg = (
            f"only texts of 'tokenloom datasets' can be fetched, {', '.join(known)}, "
            f"got {show(name)}{suggest(name, known)}"
        )
        raise ArgumentError(msg)
    return entry
