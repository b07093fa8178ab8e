"""The subcommands that show what a stream of batches reads."""

import argparse
from typing import Any

from tokenloom.arguments import (
    add_batches,
    add_command,
    add_corpus,
    load_corpus,
    make_windows,
    parse_indices,
)

_SHOW_EXAMPLES = """\
examples:
  tokenloom show time_machine
      the first rows of the first batch: inputs, and targets moved on by one
  tokenloom show my-book.txt --order random --epoch 3 --batch 7 --rows 0,5
      two rows of another batch, as every run with this seed reads it
"""


def add_commands(commands: Any) -> None:
    """Add the subcommands of this room to the parser."""
    _add_show(commands)


def _add_show(commands: Any) -> None:
    command = add_command(commands, _show, summary="show a batch as text", epilog=_SHOW_EXAMPLES)
    add_corpus(command)
    add_batches(command)
    place = command.add_argument_group("which batch")
    place.add_argument("--epoch", type=int, default=0, metavar="N", help="epoch, from 0")
    place.add_argument("--batch", type=int, default=0, metavar="N", help="batch, from 0")
    place.add_argument(
        "--rows",
        type=parse_indices,
        metavar="N,N",
        help="rows of the batch, from 0; the first four by default",
    )


def _show(arguments: argparse.Namespace) -> None:
    from tokenloom.inspection import describe_batch

    windows = make_windows(arguments, load_corpus(arguments))
    windows.set_epoch(arguments.epoch)
    rows = arguments.rows or range(min(4, arguments.batch_size))
    for line in describe_batch(windows, index=arguments.batch, rows=rows):
        print(line)
