"""The command ``tokenloom info``: what is in a store."""

import argparse
import dataclasses
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tokenloom._wording import count
from tokenloom.cli import options
from tokenloom.cli.output import print_json, print_line, print_message, print_table
from tokenloom.cli.parser import add_parser
from tokenloom.corpus.corpus import Corpus
from tokenloom.corpus.statistics import (
    StoreDescription,
    TokenCount,
    TokenStatistics,
    count_lengths,
    count_tokens,
    describe_store,
)
from tokenloom.errors import UsageError

_EXAMPLES = """\
examples:
  tokenloom info my-store
      documents, tokens, vocabulary, splits and sources, and the most frequent and the
      rarest tokens, if the store is small
  tokenloom info my-store/valid
      tokens and documents of one split
  tokenloom info my-store --top 10 --json
      count the tokens of a store of any size, and print all of it as JSON
  tokenloom info my-store --plot lengths.png
      draw how many documents have which length
"""

# Counting this number of tokens, or ids, takes about a second.
_NUM_COUNTED = 100_000_000
_NUM_IDS_COUNTED = 1 << 20
_NUM_LISTED = 5
# How many values of a long fact are shown.
_NUM_SHOWN = 6
# The width of a token in a table, in columns of a terminal.
_TOKEN_COLUMNS = 40

# The names that 'tokenloom prepare' prints for these counts.
_LABELS = {
    "end_id": "end of document",
    "num_dropped": "dropped characters",
    "num_learnt": "learnt tokens",
    "num_unknown": "unknown tokens",
}


def add_command(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_parser(commands, "info", _run, epilog=_EXAMPLES)
    options.add_store(command)
    command.add_argument(
        "--top",
        type=options.parse_count_or_zero,
        metavar="N",
        help="count all tokens, and list the N most frequent and the N rarest; 0: count none; by "
        f"default {_NUM_LISTED}, where there are at most {_NUM_COUNTED:,} tokens",
    )
    options.add_json(command)
    options.add_quiet(command)
    options.add_plot(command)


def _run(arguments: argparse.Namespace) -> None:
    from tokenloom._figures import check_picture, save_picture

    store = options.name_store(arguments.store)
    path = None if arguments.plot is None else check_picture(arguments.plot)
    description = describe_store(store.path, split=store.split)
    corpus = Corpus.open(store.path, split=store.split)
    counted = _count(corpus, arguments.top, is_quiet=arguments.quiet)
    if counted is not None and description.unknown_rate is None:
        description = dataclasses.replace(description, unknown_rate=counted.unknown_rate)
    if counted is not None and description.learnt_rate is None:
        description = dataclasses.replace(description, learnt_rate=counted.learnt_rate)
    lengths = []
    if path is not None:
        from tokenloom.inspection.plots import plot_lengths

        lengths = count_lengths(corpus)
        save_picture(plot_lengths(lengths), path)
    if counted is not None and (why := _explain_tokens(corpus, counted)):
        print_message(f"no texts of tokens: {why}")
    if arguments.json:
        facts = {**_facts(description, counted), "path": str(store)}
        if path is not None:
            facts["document_lengths"] = [dataclasses.asdict(each) for each in lengths]
            facts["plot"] = str(path)
        print_json(facts)
        return
    print_table([("path", str(store)), *_tabulate(description, counted)])
    if counted is not None:
        _print_tokens("most frequent", counted.most_frequent, len(corpus))
        _print_tokens("rarest", counted.rarest, len(corpus))
    if path is not None:
        print()
        ranges = [(f"[{one.start:,}, {one.stop:,})", f"{one.num_documents:,}") for one in lengths]
        print_table([("TOKENS", "DOCUMENTS"), *ranges])
        print_line(f"plot: {path}")


def _count(corpus: Corpus, num_listed: int | None, *, is_quiet: bool) -> TokenStatistics | None:
    """Return the statistics of the tokens, if they are to be counted."""
    if num_listed is None:
        is_small = len(corpus) <= _NUM_COUNTED and corpus.vocab_size <= _NUM_IDS_COUNTED
        num_listed = _NUM_LISTED if is_small else 0
    progress = False if is_quiet else None
    return count_tokens(corpus, num_listed, progress=progress) if num_listed else None


def _explain_tokens(corpus: Corpus, counted: TokenStatistics) -> str | None:
    """Return why the text of a token is not known, if a package would know it."""
    missing = [each.id for each in counted.most_frequent if each.token is None]
    if not missing or corpus.tokenizer is None:
        return None
    try:
        corpus.decode(missing[:1])
    except UsageError as error:
        return str(error)
    return None


def _print_tokens(which: str, tokens: Sequence[TokenCount], num_tokens: int) -> None:
    print()
    rows = [
        (f"{each.count:,}", f"{each.count / num_tokens:.4%}", str(each.id), _show(each.token))
        for each in tokens
    ]
    print_table([("COUNT", "SHARE", "ID", f"TOKEN, THE {which.upper()}"), *rows])


def _show(token: str | None) -> str:
    """Return a token as Python writes it, cut to the columns that a table has for it.

    >>> _show("a "), _show("a" * 99), len(_show("時" * 99))
    ("'a '", "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...", 22)
    """
    if token is None:
        return "?"
    shown = repr(token[:_TOKEN_COLUMNS])
    # East Asian characters take two columns.
    widths = [1 + (unicodedata.east_asian_width(character) in "WF") for character in shown]
    if len(token) <= _TOKEN_COLUMNS and sum(widths) <= _TOKEN_COLUMNS:
        return shown
    room = _TOKEN_COLUMNS - len("...")
    stop = next((n for n in range(len(shown)) if sum(widths[: n + 1]) > room), len(shown))
    return f"{shown[:stop]}..."


def _facts(description: StoreDescription, counted: TokenStatistics | None) -> dict[str, Any]:
    facts = dataclasses.asdict(description)
    if counted is not None:
        facts |= {
            "decoded_characters_per_token": counted.characters_per_token,
            "decoded_bytes_per_token": counted.bytes_per_token,
            "num_unused_ids": counted.num_unused_ids,
            "most_frequent": [dataclasses.asdict(each) for each in counted.most_frequent],
            "rarest": [dataclasses.asdict(each) for each in counted.rarest],
        }
    sources = [
        {"name": source.name, "num_documents": source.num_documents}
        for source in description.sources
    ]
    facts["sources"] = sources
    if description.split is None:
        facts.pop("split")
    return facts


def _tabulate(
    description: StoreDescription, counted: TokenStatistics | None
) -> Iterator[tuple[str, str]]:
    """Yield a row for each fact that is known."""
    yield "tokens", f"{description.num_tokens:,}"
    yield "vocabulary", f"{description.vocab_size:,}"
    if description.num_documents is not None:
        yield "documents", f"{description.num_documents:,}"
    if description.characters_per_token is not None:
        yield "characters per token", f"{description.characters_per_token:.2f}"
    if counted is not None:
        yield from _tabulate_text(counted)
    if description.unknown_rate is not None:
        yield "unknown rate", f"{description.unknown_rate:.4%}"
    if description.learnt_rate is not None:
        yield "learnt rate", f"{description.learnt_rate:.4%}"
    if description.tokenizer:
        # The proofs of one of your own say nothing to people.
        facts = {
            name: value
            for name, value in description.tokenizer.items()
            if name not in ("probe", "decoded")
        }
        name = facts.pop("name", None)
        cells = [str(name or "one of your own"), *([_list_facts(facts)] if facts else [])]
        cure = [] if name else ["not in the store: give it to Corpus.open in Python"]
        yield "tokenizer", ", ".join([*cells, *cure])
    yield "dtype", description.dtype
    yield from _tabulate_store(description)
    yield "hash", description.hash
    if description.split is not None:
        yield "split", description.split


def _tabulate_store(description: StoreDescription) -> Iterator[tuple[str, str]]:
    """Yield what is known of the whole store only, also where a split is described."""
    whole = "" if description.split is None else " of the store"
    yield f"shards{whole}", f"{description.num_shards:,}"
    yield f"bytes{whole}", f"{description.num_bytes:,}"
    for name, (start, stop) in description.splits.items():
        yield f"split {name}", f"{count(stop - start, 'token')} from {start:,}"
    if names := [source.name for source in description.sources[:3]]:
        num_more = len(description.sources) - len(names)
        yield f"sources{whole}", ", ".join(names) + f" and {num_more:,} more" * bool(num_more)
    for label, cell in _tabulate_facts(description.facts):
        yield label if label.startswith("option ") else f"{label}{whole}", cell


def _tabulate_text(counted: TokenStatistics) -> Iterator[tuple[str, str]]:
    """Yield how much text a token stands for, as far as that is known."""
    known = {"characters": counted.characters_per_token, "bytes": counted.bytes_per_token}
    cells = [f"{number:.2f} {unit}" for unit, number in known.items() if number is not None]
    if cells:
        yield "decoded per token", ", ".join(cells)
    if counted.num_unused_ids:
        yield "unused ids", f"{counted.num_unused_ids:,}"


def _tabulate_facts(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the counts and options of a preparation that the table does not have yet."""
    for name, value in facts.items():
        if name == "preparation" and isinstance(value, dict):
            continue
        if (cell := _format(name, value)) is not None:
            yield _LABELS.get(name, name.removeprefix("num_").replace("_", " ")), cell
    chosen = facts.get("preparation")
    for name, value in (chosen if isinstance(chosen, dict) else {}).items():
        # There is a form for each source, of which there may be millions. The tokenizer
        # says whether it normalises.
        hidden = ("tokenizer", "forms", "splits", "normalize")
        if name not in hidden and value not in (None, []):
            yield f"option {name}", _show_fact(value)


def _format(name: str, value: Any) -> str | None:
    """Return the cell of a fact, which may be any JSON; None where it is empty."""
    match value:
        case float():
            return f"{value:.4%}" if name == "unknown_rate" else f"{value:.2f}"
        case bool() | str() | int():
            return _show_fact(value)
        case dict() | list() if value:
            return _show_fact(value)
        case _:
            return None


def _show_fact(value: object) -> str:
    """Return a JSON value in words.

    >>> _show_fact(True), _show_fact(65_536), _show_fact(["<pad>", "<eod>"])
    ('yes', '65,536', '<pad>, <eod>')
    >>> _show_fact({"train": 2, "valid": {"allow_special": False}})
    'train 2, valid (allow special no)'
    """
    match value:
        case bool():
            return "yes" if value else "no"
        case None:
            return "none"
        case int():
            return f"{value:,}"
        case list():
            return _shorten([_show_fact(each) for each in value])
        case dict():
            return _list_facts(value)
        case _:
            return str(value)


def _list_facts(facts: Mapping[str, Any]) -> str:
    cells = []
    for name, value in facts.items():
        cell = f"({_show_fact(value)})" if isinstance(value, dict) else _show_fact(value)
        # A hash begins with the name of its kind.
        cells.append(cell if cell.startswith(f"{name}:") else f"{name.replace('_', ' ')} {cell}")
    return _shorten(cells)


def _shorten(cells: Sequence[str]) -> str:
    """Return the first of many cells as one cell."""
    num_more = len(cells) - _NUM_SHOWN
    more = [f"and {num_more:,} more"] if num_more > 0 else []
    return ", ".join([*cells[:_NUM_SHOWN], *more])
