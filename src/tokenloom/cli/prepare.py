"""The command ``tokenloom prepare``: a store of texts of any size."""

import argparse
import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, get_args

from tokenloom._wording import count, show
from tokenloom.cli import options
from tokenloom.cli.output import print_json, print_message, print_table
from tokenloom.cli.parser import add_parser
from tokenloom.errors import ArgumentError, WorkerError
from tokenloom.hub.load import TRAIN
from tokenloom.preparation.chunks import FORMS
from tokenloom.preparation.cluster import Cluster, open_dask
from tokenloom.preparation.forms import OnError, OnReserved
from tokenloom.preparation.options import PrepareOptions, SplitBy
from tokenloom.preparation.prepare import Prepared, prepare
from tokenloom.preparation.sources import DocumentsAre, resolve_sources
from tokenloom.text.tokenizers import COUNTED_NAMES

_EXAMPLES = """\
A SOURCE is a text file, a folder, a pattern in quotes such as 'texts/**/*.txt', - for
stdin, a name from 'tokenloom datasets', or an address such as s3://texts/a.jsonl. Files
that end with .jsonl or .ndjson hold a JSON object per line; .csv, .tsv, .parquet, .arrow
and .feather hold a table, each row a document. All but .parquet, .arrow and .feather may
be compressed: .gz, .bz2, .xz or .zst.

examples:
  tokenloom prepare book.txt -o my-store
      one document, characters a-z and spaces
  tokenloom prepare texts/ --tokenizer word --min-freq 5 -o my-store
      each file in a folder is a document; rare words become the unknown token
  tokenloom prepare wiki.jsonl.gz --field text --end-of-document '<eod>' -o my-store
      each line is a document, followed by a token of its own
  tokenloom prepare 's3://texts/*.parquet' --field body --tokenizer byte -o my-store
      the column 'body' of tables in an object store; or of .csv, .tsv and .arrow files
  tokenloom prepare qa.jsonl --prompt-field question --field answer -o my-store
      questions are read and answers learnt: a loss mask lies beside the tokens
  zcat *.gz | tokenloom prepare - --documents paragraph --split valid=0.01 -o my-store
      stdin, cut at blank lines; the last hundredth can be opened as split 'valid'
  tokenloom prepare --split train='a/*.txt' --split valid=b.txt --tokenizer word -o my-store
      splits by their files; the vocabulary is that of 'train'
  tokenloom prepare texts/ --tokenizer bpe --vocab-size 8000 -o my-store
      sub-words: a byte-level BPE that is learnt from the texts, which are read twice
  tokenloom prepare texts/ --tokenizer tokenizer.json -o my-store
      sub-words of an existing tokenizer; or tiktoken:o200k_base, x.tiktoken, x.model
  tokenloom prepare more.txt --tokenizer my-store -o more-store
      with the tokenizer of another store, in one pass

If the command is interrupted, the same command resumes where it stopped, and makes the
same bytes. Until it ends, finished parts lie in the hidden folder .STORE.prepare.
"""


def add_command(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_parser(
        commands,
        "prepare",
        _run,
        epilog=_EXAMPLES,
    )
    command.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="*",
        help="what to read; see below. Beside --split NAME=SOURCE it is the split 'train'",
    )
    command.add_argument(
        "-o", "--output", metavar="STORE", required=True, help="folder of the store, new or empty"
    )
    documents = command.add_argument_group("documents")
    _add_documents(documents)
    _add_splits(documents)
    _add_tokens(command.add_argument_group("tokens"))
    command.add_argument(
        "--workers",
        type=options.parse_count_or_zero,
        metavar="N",
        help="number of worker processes, by default as many as make it faster; 0: work in this "
        "process",
    )
    command.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="let the workers of a Dask cluster do the work, such as tcp://10.0.0.1:8786; STORE "
        "must lie in a folder that they share; --workers: how many work at once",
    )
    options.add_offline(command)
    options.add_json(command)
    options.add_quiet(command)


def _add_documents(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--documents",
        choices=get_args(DocumentsAre),
        type=_parse_documents,
        default="file",
        help="what a document is: a file, a paragraph between blank lines, a line, or a JSON line",
    )
    group.add_argument(
        "--field", default="text", metavar="NAME", help="key or column that holds the text"
    )
    group.add_argument(
        "--prompt-field",
        metavar="NAME",
        help="key or column that holds a prompt, which is read before the text and not learnt",
    )
    group.add_argument(
        "--encoding",
        default="utf-8",
        help="encoding of files and stdin, such as utf-16; named corpora are in UTF-8",
    )
    group.add_argument(
        "--on-error",
        choices=get_args(OnError),
        default="stop",
        help="what to do with a document that cannot be read or is empty",
    )
    group.add_argument(
        "--on-reserved",
        choices=get_args(OnReserved),
        default="count",
        help="what to do with a text that holds a reserved token, or --end-of-document",
    )


def _add_splits(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--split",
        action="append",
        type=_parse_split,
        metavar="NAME=FRACTION|SOURCE",
        help="name a part at the end, such as valid=0.1, and the rest 'train'; or what to read for "
        "a split, such as valid=b.txt; may be repeated",
    )
    group.add_argument(
        "--split-by",
        choices=get_args(SplitBy),
        default="document",
        help="whether fractions begin where a document begins, or at any token",
    )


def _add_tokens(group: argparse._ActionsContainer) -> None:
    options.add_tokenizer(group)
    group.add_argument(
        "--min-freq",
        type=options.parse_count,
        metavar="N",
        help="replace tokens that appear fewer than N times by the unknown token",
    )
    group.add_argument(
        "--reserved-tokens",
        type=options.parse_words,
        metavar="A,B",
        help="tokens that get the ids from 1 on, separated by commas",
    )
    group.add_argument(
        "--end-of-document",
        metavar="TOKEN",
        help="token to add after each document; an id where tokens are bytes, or as well where "
        "the tokenizer is given; of sub-words a token such as '<|endoftext|>'",
    )


def _parse_documents(text: str) -> str:
    if text == "record":
        print_message("warning: --documents record is now --documents jsonl")
        return "jsonl"
    return text


def _parse_split(text: str) -> tuple[str, float | str]:
    """Return the name of a split with its fraction or one of its sources."""
    name, _, value = text.partition("=")
    if not name or not value:
        msg = (
            "must be a name and a fraction, like valid=0.1, or a name and a source, like "
            f"valid=b.txt, got {show(text)}"
        )
        raise argparse.ArgumentTypeError(msg)
    with contextlib.suppress(ValueError):
        return name, float(value)
    return name, value


def _run(arguments: argparse.Namespace) -> None:
    sources = _sources(arguments)
    if isinstance(sources, dict) or not arguments.split:
        why = "it chooses where fractions begin; add --split NAME=FRACTION"
        options.refuse_options(arguments, ("split_by",), why)
    if {"field", "prompt_field"} & set(arguments.given):
        found = resolve_sources(sources, documents=arguments.documents)
        if not any(FORMS[one.form].has_field for one in found):
            why = "no source holds JSON objects or rows; --documents jsonl reads each line as one"
            options.refuse_options(arguments, ("field", "prompt_field"), why)
    tokenizer, chosen = options.find_tokenizer(arguments), _options(arguments)
    with _open_cluster(arguments) as cluster:
        made = prepare(
            sources,
            arguments.output,
            tokenizer=tokenizer,
            vocab_size=arguments.vocab_size,
            options=chosen,
            executor=cluster.executor,
            num_workers=cluster.num_workers,
            progress=False if arguments.quiet else None,
        )
    if arguments.json:
        print_json(_facts(made))
        return
    if not made.is_new:
        print_message(f"{made.path} is finished already, of the same sources and options")
    print_table(list(_tabulate(made)))


@contextlib.contextmanager
def _open_cluster(arguments: argparse.Namespace) -> Iterator[Cluster]:
    """Yield the workers: by default processes of this machine."""
    if arguments.dask is None:
        yield Cluster(None, arguments.workers)
        return
    if arguments.workers == 0:
        options.refuse_options(arguments, ("workers",), "0 works in this process, --dask in others")
    with open_dask(arguments.dask, quiet=True) as cluster:
        if not cluster.num_workers:
            print_message(f"the scheduler at {arguments.dask} has no workers yet: waiting for one")
        num_workers = arguments.workers or max(cluster.num_workers or 0, 1)
        try:
            yield cluster._replace(num_workers=num_workers)
        except WorkerError as error:
            msg = f"--dask {arguments.dask}: {error}"
            raise WorkerError(msg) from error


def _options(arguments: argparse.Namespace) -> PrepareOptions:
    is_counted = arguments.tokenizer in COUNTED_NAMES
    end = options.as_token(arguments.end_of_document, digits_are_token=is_counted)
    return PrepareOptions(
        documents=arguments.documents,
        field=arguments.field,
        prompt_field=arguments.prompt_field,
        encoding=arguments.encoding,
        on_error=arguments.on_error,
        on_reserved=arguments.on_reserved,
        normalize=not arguments.raw,
        min_freq=arguments.min_freq or 0,
        reserved_tokens=arguments.reserved_tokens or (),
        end_of_document=end,
        splits=_fractions(arguments.split or []),
        split_by=arguments.split_by,
    )


def _sources(arguments: argparse.Namespace) -> list[str] | dict[str, list[str]]:
    """Return the sources, by split where splits are named by their sources."""
    named = [(name, value) for name, value in arguments.split or [] if isinstance(value, str)]
    fractions = [name for name, value in arguments.split or [] if isinstance(value, float)]
    if named and fractions:
        msg = (
            f"--split must name fractions or sources, got a fraction for {show(fractions[0])} and "
            f"the source {show(named[0][1])} for {show(named[0][0])}: a file of such a name is "
            f"written {fractions[0]}=./FILE"
        )
        raise ArgumentError(msg)
    if not named:
        if not arguments.sources:
            msg = "there must be a SOURCE, or a --split NAME=SOURCE, got none"
            raise ArgumentError(msg)
        return list(arguments.sources)
    splits: dict[str, list[str]] = {TRAIN: arguments.sources} if arguments.sources else {}
    for name, value in named:
        splits[name] = [*splits.get(name, []), value]
    return splits


def _fractions(named: list[tuple[str, float | str]]) -> dict[str, float]:
    splits = {name: value for name, value in named if isinstance(value, float)}
    if splits and len(splits) < len(named):
        names = ", ".join(name for name, _ in named)
        msg = f"--split must name each part once, got {names}"
        raise ArgumentError(msg)
    return splits


def _facts(made: Prepared) -> dict[str, Any]:
    return {
        **{each.name: getattr(made, each.name) for each in dataclasses.fields(made)},
        "path": str(made.path),
        "characters_per_token": made.characters_per_token,
        "unknown_rate": made.unknown_rate,
        "problems": dict(made.problems),
        "splits": {
            name: {**split._asdict(), "unknown_rate": split.unknown_rate}
            for name, split in made.splits.items()
        },
        "megabytes_per_second": made.num_bytes_read / 1e6 / made.seconds if made.is_new else None,
    }


def _tabulate(made: Prepared) -> Iterator[tuple[str, str]]:
    yield "store", str(made.path)
    yield "documents", f"{made.num_documents:,}"
    yield "tokens", f"{made.num_tokens:,}"
    yield "vocabulary", f"{made.vocab_size:,}"
    yield "characters per token", f"{made.characters_per_token:.2f}"
    if made.unknown_rate is not None:
        yield "unknown rate", f"{made.unknown_rate:.4%}"
    if made.num_learnt is not None:
        yield "learnt rate", f"{made.num_learnt / made.num_tokens:.4%}"
    for name, split in made.splits.items():
        rate = "" if split.unknown_rate is None else f", {split.unknown_rate:.4%} unknown"
        yield f"split {name}", f"{count(split.num_tokens, 'token')}{rate}"
    if made.num_unknown_types is not None:
        yield "unknown types", f"{made.num_unknown_types:,}"
    if made.num_dropped:
        yield "dropped characters", f"{made.num_dropped:,} of {made.num_characters:,}"
    for what, number in made.problems.items():
        yield f"places with {what}", f"{number:,}"
    if made.is_new:
        yield "read", _format_bytes(made.num_bytes_read)
        yield "time", f"{made.seconds:,.1f} s"
        yield "speed", f"{_format_bytes(made.num_bytes_read / made.seconds)}/s"


def _format_bytes(number: float) -> str:
    """Return a number of bytes in the unit in which it can be read.

    >>> _format_bytes(60), _format_bytes(12_345), _format_bytes(5e8)
    ('60 bytes', '12.3 kB', '500.0 MB')
    """
    if number < 1e3:
        return f"{number:,.0f} bytes"
    return f"{number / 1e3:,.1f} kB" if number < 1e6 else f"{number / 1e6:,.1f} MB"
