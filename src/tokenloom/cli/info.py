"""The command ``tokenloom info``: what is in a store."""

import argparse
from typing import Any

from tokenloom.cli.options import add_json, add_parser, add_plot, name_store, parse_count
from tokenloom.cli.output import print_json, print_line, print_table
from tokenloom.corpus.corpus import Corpus
from tokenloom.corpus.statistics import count_lengths, describe_store, most_frequent, tabulate

_EXAMPLES = """\
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


def add_command(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_parser(
        commands, "info", _run, summary="print what is in a store", epilog=_EXAMPLES
    )
    command.add_argument("store", metavar="STORE", help="folder of a store, or STORE/SPLIT")
    command.add_argument(
        "--top",
        type=parse_count,
        metavar="N",
        help="count all tokens, and list the N most frequent",
    )
    add_json(command)
    add_plot(command)


def _run(arguments: argparse.Namespace) -> None:
    store = name_store(arguments.store)
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
