"""The subcommands about corpora on disk."""

import argparse
from typing import Any

from tokenloom.cli.options import add_command, add_json, add_plot, add_quiet, parse_count
from tokenloom.cli.output import print_json, print_line, print_table
from tokenloom.corpus.corpus import Corpus
from tokenloom.corpus.statistics import count_lengths, describe_store, most_frequent, tabulate
from tokenloom.hub.load import StoreName, find_store
from tokenloom.store.reader import is_store, read_store
from tokenloom.store.verify import verify_store

_VERIFY_EXAMPLES = """\
examples:
  tokenloom verify my-store
      compare the hash of every file, and name each that is missing or damaged
  tokenloom verify my-store/valid
      the same, since the files of a store hold all of its splits

Exit code 0: the store is as it was written. 1: it is not.
"""

_INFO_EXAMPLES = """\
examples:
  tokenloom info my-store
      documents, tokens, vocabulary, splits and sources; no token is read
  tokenloom info my-store/valid
      tokens and documents of one split
  tokenloom info my-store --top 10 --json
      count the tokens too, and print all of it for a program
  tokenloom info my-store --plot lengths.png
      draw how many documents have which length
"""


def add_commands(commands: Any) -> None:
    """Add the subcommands of this room to the parser."""
    verify = add_command(
        commands, _verify, summary="check every byte of a store", epilog=_VERIFY_EXAMPLES
    )
    verify.add_argument("store", metavar="STORE", help="folder of a store, or STORE/SPLIT")
    add_json(verify)
    add_quiet(verify)
    info = add_command(commands, _info, summary="print what is in a store", epilog=_INFO_EXAMPLES)
    info.add_argument("store", metavar="STORE", help="folder of a store, or STORE/SPLIT")
    info.add_argument(
        "--top",
        type=parse_count,
        metavar="N",
        help="count all tokens, and list the N most frequent",
    )
    add_json(info)
    add_plot(info)


def _find(name: str) -> StoreName:
    """Return the store, and maybe its split, that was typed; here no text can be meant."""
    found = None if is_store(name) else find_store(name)
    return found or StoreName(name)


def _verify(arguments: argparse.Namespace) -> int:
    store = _find(arguments.store)
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


def _info(arguments: argparse.Namespace) -> None:
    store = _find(arguments.store)
    description = {**describe_store(store.path, split=store.split), "path": str(store)}
    corpus = Corpus.open(store.path, split=store.split)
    top = most_frequent(corpus, arguments.top) if arguments.top else []
    drawn = _draw(corpus, arguments.plot) if arguments.plot else {}
    if arguments.json:
        print_json({**description, **({"most_frequent": top} if top else {}), **drawn})
        return
    print_table(list(tabulate(description)))
    if top:
        print()
        rows = [(str(row["id"]), repr(row["token"]), f"{row['count']:,}") for row in top]
        print_table([("ID", "TOKEN", "COUNT"), *rows])
    if drawn:
        print()
        ranges = [
            (f"[{one['start']:,}, {one['stop']:,})", f"{one['num_documents']:,}")
            for one in drawn["document_lengths"]
        ]
        print_table([("TOKENS", "DOCUMENTS"), *ranges])
        print_line(f"plot: {drawn['plot']}")


def _draw(corpus: Corpus, picture: str) -> dict[str, Any]:
    from tokenloom._figures import check_picture, save_picture
    from tokenloom.inspection.plots import plot_lengths

    path = check_picture(picture)
    lengths = count_lengths(corpus)
    save_picture(plot_lengths(lengths), path)
    return {"document_lengths": lengths, "plot": str(path)}
