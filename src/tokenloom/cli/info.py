"""The command ``tokenloom info``: what is in a store."""

import argparse
import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tokenloom._wording import count
from tokenloom.cli.options import add_json, add_parser, add_plot, name_store, parse_count
from tokenloom.cli.output import print_json, print_line, print_table
from tokenloom.corpus.corpus import Corpus
from tokenloom.corpus.statistics import (
    StoreDescription,
    count_lengths,
    describe_store,
    most_frequent,
)

_EXAMPLES = """\
examples:
  tokenloom info my-store
      documents, tokens, vocabulary, splits and sources; no token is read
  tokenloom info my-store/valid
      tokens and documents of one split
  tokenloom info my-store --top 10 --json
      also count the tokens, and print all of it as JSON
  tokenloom info my-store --plot lengths.png
      draw how many documents have which length
"""

# As 'tokenloom prepare' calls them, which counted them.
_LABELS = {"num_dropped": "dropped characters", "num_unknown": "unknown tokens"}


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
    from tokenloom._figures import check_picture, save_picture

    store = name_store(arguments.store)
    path = None if arguments.plot is None else check_picture(arguments.plot)
    description = describe_store(store.path, split=store.split)
    corpus = Corpus.open(store.path, split=store.split)
    top = most_frequent(corpus, arguments.top) if arguments.top else []
    lengths = []
    if path is not None:
        from tokenloom.inspection.plots import plot_lengths

        lengths = count_lengths(corpus)
        save_picture(plot_lengths(lengths), path)
    if arguments.json:
        facts = {**_facts(description), "path": str(store)}
        if top:
            facts["most_frequent"] = [dataclasses.asdict(each) for each in top]
        if path is not None:
            facts["document_lengths"] = [dataclasses.asdict(each) for each in lengths]
            facts["plot"] = str(path)
        print_json(facts)
        return
    print_table([("path", str(store)), *_tabulate(description)])
    if top:
        print()
        tokens = [(str(each.id), repr(each.token), f"{each.count:,}") for each in top]
        print_table([("ID", "TOKEN", "COUNT"), *tokens])
    if path is not None:
        print()
        ranges = [(f"[{one.start:,}, {one.stop:,})", f"{one.num_documents:,}") for one in lengths]
        print_table([("TOKENS", "DOCUMENTS"), *ranges])
        print_line(f"plot: {path}")


def _facts(description: StoreDescription) -> dict[str, Any]:
    facts = dataclasses.asdict(description)
    sources = [
        {"name": source.name, "num_documents": source.num_documents}
        for source in description.sources
    ]
    facts["sources"] = sources
    if description.split is None:
        facts.pop("split")
    return facts


def _tabulate(description: StoreDescription) -> Iterator[tuple[str, str]]:
    """Yield a row for each fact that is known."""
    yield "tokens", f"{description.num_tokens:,}"
    yield "vocabulary", f"{description.vocab_size:,}"
    if description.num_documents is not None:
        yield "documents", f"{description.num_documents:,}"
    if description.characters_per_token is not None:
        yield "characters per token", f"{description.characters_per_token:.2f}"
    if description.unknown_rate is not None:
        yield "unknown rate", f"{description.unknown_rate:.4%}"
    if description.tokenizer:
        yield "tokenizer", json.dumps(description.tokenizer)
    yield "dtype", description.dtype
    yield "shards", f"{description.num_shards:,}"
    yield "bytes", f"{description.num_bytes:,}"
    for name, (start, stop) in description.splits.items():
        yield f"split {name}", f"{count(stop - start, 'token')} from {start:,}"
    if names := [source.name for source in description.sources[:3]]:
        num_more = len(description.sources) - len(names)
        yield "sources", ", ".join(names) + f" and {num_more:,} more" * bool(num_more)
    yield from _tabulate_facts(description.facts)
    yield "hash", description.hash
    if description.split is not None:
        yield "split", description.split


def _tabulate_facts(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what a preparation counted, and its options, except what the table has already."""
    for name, value in facts.items():
        if name == "preparation" and isinstance(value, dict):
            continue
        if (cell := _format(name, value)) is not None:
            yield _LABELS.get(name, name.removeprefix("num_").replace("_", " ")), cell
    options = facts.get("preparation")
    for name, value in (options if isinstance(options, dict) else {}).items():
        # Of the forms there is one for each source, which may be millions.
        if name not in ("tokenizer", "forms", "splits") and value not in (None, []):
            yield f"option {name}", str(value)


def _format(name: str, value: Any) -> str | None:
    """Return the cell of a fact, which may be any JSON; None where it is empty."""
    match value:
        case bool() | str():
            return str(value)
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.4%}" if name == "unknown_rate" else f"{value:.2f}"
        case dict() | list() if value:
            return json.dumps(value)
        case _:
            return None
