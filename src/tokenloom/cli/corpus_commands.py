"""The subcommands about corpora that have a name."""

import argparse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tokenloom.cli.options import add_command, add_json, add_offline, add_quiet
from tokenloom.cli.output import print_json, print_line, print_table, say_error
from tokenloom.errors import TokenloomError
from tokenloom.hub.catalogue import Archive, Entry, list_entries
from tokenloom.hub.load import fetch, find, locate

_DATASETS_EXAMPLES = """\
Any command that takes a CORPUS takes a store, a text file or one of these; of a
corpus with splits also NAME/SPLIT, such as imdb/test.
Downloads are verified and kept in the folder that TOKENLOOM_CACHE names.

examples:
  tokenloom datasets
      a table: what is at hand, and what would have to be downloaded
  tokenloom datasets --json
      the same for programs, with every address and hash
"""


_FETCH_EXAMPLES = """\
examples:
  tokenloom fetch time_machine tiny_shakespeare
      download two texts, so that later commands need no network
  tokenloom fetch imdb
      84 MB, unpacked into 100,000 files; an interrupted download goes on
  tokenloom fetch time_machine --offline
      check that it is there and whole, and download nothing

What is at hand already is verified and not downloaded again.
TOKENLOOM_CACHE names the folder, which can be copied to another machine.
TOKENLOOM_MIRROR names an address to ask instead of the usual ones.
"""


def add_commands(commands: Any) -> None:
    """Add the subcommands of this room to the parser."""
    _add_datasets(commands)
    _add_fetch(commands)


def _add_datasets(commands: Any) -> None:
    command = add_command(
        commands, _datasets, summary="list the corpora that have a name", epilog=_DATASETS_EXAMPLES
    )
    add_json(command)


def _add_fetch(commands: Any) -> None:
    command = add_command(
        commands,
        _fetch,
        summary="download corpora before the network is gone",
        epilog=_FETCH_EXAMPLES,
    )
    command.add_argument(
        "names", metavar="NAME", nargs="+", help="a name from 'tokenloom datasets'"
    )
    add_offline(command)
    add_json(command)
    add_quiet(command)


def _datasets(arguments: argparse.Namespace) -> None:
    entries = list_entries()
    if arguments.json:
        print_json([_describe(entry) for entry in entries])
        return
    rows = [("NAME", "BYTES", "WHERE", "LICENCE", "SOURCE", "WHAT")]
    for entry in entries:
        size, host = "-", "-"
        if entry.file is not None:
            size = "?" if entry.file.num_bytes is None else f"{entry.file.num_bytes:,}"
            host = urlsplit(entry.file.urls[0]).netloc.rpartition("@")[2]
        licence = entry.licence.partition(";")[0]
        rows.append((entry.name, size, locate(entry), licence, host, entry.description))
    print_table(rows)


def _fetch(arguments: argparse.Namespace) -> int:
    code = 0
    entries = [find(name) for name in arguments.names]
    facts = []
    for name, entry in zip(arguments.names, entries, strict=True):
        if isinstance(entry, Path):
            where, path = "a file of yours", entry
        elif entry.file is None:
            where, path = "built in", None
        else:
            try:
                path = fetch(entry, progress=False if arguments.quiet else None)
            except TokenloomError as error:
                # The others may be had all the same.
                say_error(error)
                code = 1
                continue
            where = "cached"
        facts.append({"name": name, "where": where, "path": path and str(path)})
        if not arguments.json:
            print_line(f"{name}: {path if where == 'cached' else where}")
    if arguments.json:
        print_json(facts)
    return code


def _describe(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "description": entry.description,
        "licence": entry.licence,
        "where": locate(entry),
        "splits": list(entry.source.splits) if isinstance(entry.source, Archive) else [],
        "bytes": entry.file and entry.file.num_bytes,
        "digest": entry.file and entry.file.digest,
        "filename": entry.file and entry.file.filename,
        "urls": entry.file and list(entry.file.urls),
    }
