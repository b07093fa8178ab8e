"""The command ``tokenloom plan``: which text each rank and worker reads."""

import argparse
import dataclasses
from collections.abc import Iterator
from typing import Any

from tokenloom._wording import count
from tokenloom.cli.options import (
    add_batches,
    add_corpus,
    add_json,
    add_parser,
    add_plot,
    load_corpus,
    make_windows,
    parse_count,
)
from tokenloom.cli.output import print_json, print_line, print_table

_EXAMPLES = """\
examples:
  tokenloom plan time_machine --ranks 8 --workers 4
      which rows of the batches each rank reads, which batches each worker
  tokenloom plan my-book.txt --order random --epoch 3 --tail pad
      the accounting and the first windows of another order and epoch
  tokenloom plan time_machine --plot plan.png
      draw which text each batch reads, both orders side by side
"""


def add_command(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_parser(
        commands,
        "plan",
        _run,
        summary="print which text each rank and worker reads",
        epilog=_EXAMPLES,
    )
    add_corpus(command)
    add_batches(command)
    command.add_argument("--epoch", type=int, default=0, metavar="N", help="epoch, from 0")
    readers = command.add_argument_group("who reads")
    readers.add_argument(
        "--ranks", type=parse_count, default=1, metavar="N", help="processes that train together"
    )
    readers.add_argument(
        "--workers", type=int, default=0, metavar="N", help="workers of each of them"
    )
    output = command.add_argument_group("output")
    add_json(output)
    add_plot(output)


def _run(arguments: argparse.Namespace) -> None:
    from tokenloom._figures import check_picture, save_picture
    from tokenloom.inspection.batches import Division, describe_division
    from tokenloom.inspection.plots import plot_plans

    path = None if arguments.plot is None else check_picture(arguments.plot)
    windows = make_windows(arguments, load_corpus(arguments))
    plan = windows.plan.at(arguments.epoch)
    division = Division(plan=plan, world_size=arguments.ranks, num_workers=arguments.workers)
    description = {"corpus": windows.corpus.name, **describe_division(division)}
    description["plot"] = None if path is None else str(path)
    if path is not None:
        orders = [
            dataclasses.replace(plan, kind="random"),
            dataclasses.replace(plan, kind="sequential"),
        ]
        save_picture(plot_plans(orders), path)
    if arguments.json:
        print_json(description)
        return
    _print_plan(description)
    if path is not None:
        print_line(f"\nplot: {path}")


def _print_plan(plan: dict[str, Any]) -> None:
    print_line(
        f"{plan['corpus']}: {plan['order']} order, seed {plan['seed']}, epoch {plan['epoch']}, "
        f"{count(plan['batch_size'], 'row')} x {count(plan['seq_len'], 'token')}, "
        f"tail {plan['tail']}\n"
    )
    print_table(list(_accounting(plan)))
    batches = count(plan["num_batches"], "batch", "batches")
    print_line(f"\nRANKS: each reads these rows of {batches}")
    print_table(
        [
            ("rank", "rows"),
            *(
                (str(rank["rank"]), f"[{rank['rows_start']:,}, {rank['rows_stop']:,})")
                for rank in plan["ranks"]
            ),
        ]
    )
    of_whom = "each rank's" if plan["world_size"] > 1 else "the process's"
    print_line(f"\nWORKERS of a DataLoader: {of_whom} rows, in these batches")
    print_table(list(_workers(plan)))
    print_line(
        f"a Loader reads blocks of {plan['block_size']:,} batches, each by the worker that is free"
    )
    print_line("\nFIRST STARTS: where the windows begin, in tokens")
    print_table(list(_first_starts(plan)))


def _accounting(plan: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    explained = {
        "num_tokens": "of the corpus",
        "num_batches": "in this and in every epoch",
        "num_windows": "that these batches read, each its own text",
        "num_inputs": "tokens that are an input, each once",
        "num_dropped": "tokens that are no input in this epoch",
        "phase": f"first token that may be an input, drawn from [0, {plan['num_phases']:,})",
    }
    for name, what in explained.items():
        yield name.removeprefix("num_"), f"{plan[name]:>15,}", what


def _workers(plan: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    yield "worker", "batches", "number"
    for worker in plan["workers"]:
        single = worker["dataloader"]
        rows = range(single["first_batch"], plan["num_batches"], single["step"])
        yield (
            str(worker["worker"]) if plan["num_workers"] else "none",
            _shorten([f"{row:,}" for row in rows[:3]], len(rows)),
            f"{single['num_batches']:>6,}",
        )


def _shorten(first: list[str], number: int) -> str:
    return ", ".join([*first, *["..."] * (number > len(first))]) or "nothing"


def _first_starts(plan: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    shown = range(plan["batch_size"])[:6]
    more = ("...",) * (plan["batch_size"] > len(shown))
    yield "batch", *(f"row {row}" for row in shown), *more
    for batch, starts in enumerate(plan["first_starts"]):
        yield str(batch), *(f"{starts[row]:,}" for row in shown), *more
