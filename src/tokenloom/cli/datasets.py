"""The command ``tokenloom datasets``: the corpora that have a name."""

import argparse
from typing import Any
from urllib.parse import urlsplit

from tokenloom.cli.options import add_json
from tokenloom.cli.output import format_table, print_json, print_line
from tokenloom.cli.parser import add_parser
from tokenloom.hub.cache import locate
from tokenloom.hub.catalogue import Archive, Entry, list_entries

_EXAMPLES = """\
Any command that takes a CORPUS takes a store, a text file or one of these; of a
corpus with splits also NAME/SPLIT, such as imdb/test.
Downloads are verified and kept in the folder that TOKENLOOM_CACHE names.

examples:
  tokenloom datasets
      a table: which corpora are on this machine, and which have to be downloaded
  tokenloom datasets --json
      the same as JSON, with all addresses and hashes
"""


def add_command(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_parser(commands, "datasets", _run, epilog=_EXAMPLES)
    add_json(command)


def _run(arguments: argparse.Namespace) -> None:
    entries = list_entries()
    if arguments.json:
        print_json([_facts(entry) for entry in entries])
        return
    rows, notes = [("NAME", "BYTES", "WHERE", "LICENCE")], [""]
    for entry in entries:
        size, note = "-", entry.description
        if entry.file is not None:
            size = "?" if entry.file.num_bytes is None else f"{entry.file.num_bytes:,}"
            note += f", {urlsplit(entry.file.urls[0]).netloc.rpartition('@')[2]}"
        licence = entry.licence.partition(";")[0]
        rows.append((entry.name, size, locate(entry), licence))
        notes.append(note)
    # All in one row would not fit into a terminal.
    for line, note in zip(format_table(rows), notes, strict=True):
        print_line(f"{line}\n    {note}" if note else line)


def _facts(entry: Entry) -> dict[str, Any]:
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
