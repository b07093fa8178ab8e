"""The subcommands that show what a stream of batches reads."""

import argparse
import dataclasses
from collections.abc import Iterator
from typing import Any

from tokenloom._wording import count, show
from tokenloom.cli.options import (
    add_batches,
    add_command,
    add_corpus,
    add_json,
    add_plot,
    load_corpus,
    make_windows,
    parse_count,
    parse_indices,
    refuse_options,
)
from tokenloom.cli.output import print_json, print_line, print_table
from tokenloom.errors import ArgumentError
from tokenloom.hub.load import find_named

_PLAN_EXAMPLES = """\
examples:
  tokenloom plan time_machine --ranks 8 --workers 4
      which rows of the batches each rank reads, which batches each worker
  tokenloom plan my-book.txt --order random --epoch 3 --tail pad
      the accounting and the first windows of another order and epoch
  tokenloom plan time_machine --plot plan.png
      draw which text each batch reads, both orders side by side
"""

_SHOW_EXAMPLES = """\
examples:
  tokenloom show time_machine
      the first rows of the first batch: inputs, and targets moved on by one
  tokenloom show my-book.txt --order random --epoch 3 --batch 7 --rows 0,5
      two rows of another batch, as every run with this seed reads it
  tokenloom show runs/time_machine-20260102-030405 --step 118
      the text that the model of a run saw in its 118th step
  tokenloom show runs/time_machine-20260102-030405 --spikes --top 3
      the steps whose loss stands out, with their text
"""

# A run has its own; the batch's place follows from the step.
_OF_CORPUS = ("order", "batch_size", "seq_len", "seed", "tail", "split", "tokenizer", "raw")
_OF_PLACE = ("epoch", "batch")


def add_commands(commands: Any) -> None:
    """Add the subcommands of this room to the parser."""
    _add_plan(commands)
    _add_show(commands)


def _add_plan(commands: Any) -> None:
    command = add_command(
        commands,
        _plan,
        summary="print which text each rank and worker reads",
        epilog=_PLAN_EXAMPLES,
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


def _add_show(commands: Any) -> None:
    command = add_command(commands, _show, summary="show a batch as text", epilog=_SHOW_EXAMPLES)
    add_corpus(command, or_else="; or the folder of a run, with --step or --spikes")
    add_batches(command)
    place = command.add_argument_group("which batch")
    place.add_argument("--epoch", type=int, default=0, metavar="N", help="epoch, from 0")
    place.add_argument("--batch", type=int, default=0, metavar="N", help="batch, from 0")
    place.add_argument(
        "--rows",
        type=parse_indices,
        metavar="N,N",
        help="rows of the batch, from 0; by default the first four, of a run all",
    )
    run = command.add_argument_group("what the model of a run saw")
    which = run.add_mutually_exclusive_group()
    which.add_argument("--step", type=int, metavar="N", help="in this step, from 1")
    which.add_argument(
        "--spikes", action="store_true", help="in the steps with an unusually high loss"
    )
    run.add_argument("--top", type=parse_count, default=3, metavar="N", help="at most N spikes")
    add_json(command.add_argument_group("output"))


def _plan(arguments: argparse.Namespace) -> None:
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


def _show(arguments: argparse.Namespace) -> None:
    # Slow to import: it needs torch.
    from tokenloom.inspection.batches import describe_batch, tell_batch
    from tokenloom.training.run import is_run

    wants_run = arguments.spikes or arguments.step is not None
    if wants_run and not is_run(arguments.corpus):
        msg = (
            "--step and --spikes need the folder of a run, which 'tokenloom train' made, "
            f"got {show(arguments.corpus)}"
        )
        raise ArgumentError(msg)
    if wants_run:
        _show_run(arguments)
        return
    # A folder may happen to be called like a named corpus.
    if find_named(arguments.corpus) is None and is_run(arguments.corpus):
        msg = f"of the run {arguments.corpus!r} say which text: --step N or --spikes"
        raise ArgumentError(msg)
    refuse_options(arguments, ("top",), "it says how many spikes of a run, and --spikes is missing")
    windows = make_windows(arguments, load_corpus(arguments))
    windows.set_epoch(arguments.epoch)
    rows = arguments.rows or windows.columns[:4]
    batch = describe_batch(windows, index=arguments.batch, rows=rows)
    if arguments.json:
        print_json(batch)
        return
    for line in tell_batch(batch):
        print_line(line)


def _show_run(arguments: argparse.Namespace) -> None:
    from tokenloom.inspection.batches import tell_batch
    from tokenloom.inspection.steps import describe_spikes, describe_step
    from tokenloom.training.reopen import reopen_windows
    from tokenloom.training.run import Run

    _check_options_of_run(arguments)
    run = Run.open(arguments.corpus)
    windows = reopen_windows(run, encoding=arguments.encoding)
    rows = arguments.rows or range(len(windows.columns))
    if arguments.spikes:
        description = describe_spikes(run, windows, top=arguments.top, rows=rows)
        steps = description["spikes"]
    else:
        description = describe_step(run, windows, step=arguments.step, rows=rows)
        steps = [description]
    if arguments.json:
        print_json(description)
        return
    if arguments.spikes:
        print_line(
            f"{count(description['num_spikes'], 'spike')} in "
            f"{count(description['num_steps'], 'step')}: losses "
            f"more than {description['method']['num_deviations']:g} deviations above the median "
            f"of the {description['method']['num_before']} before"
        )
    for step in steps:
        print_line(_tell_step(step))
        for line in tell_batch(step):
            print_line(line)


def _tell_step(step: dict[str, Any]) -> str:
    line = f"step {step['step']:,}: loss {step['loss']:.3f}"
    if "deviations" not in step:
        return line
    num_more = step["stop_step"] - step["first_step"] - 1
    usual = f", usual {step['usual_loss']:.3f}, {step['deviations']:.1f} deviations"
    return f"\n{line}{usual}" + f", and {count(num_more, 'step')} after it" * bool(num_more)


def _check_options_of_run(arguments: argparse.Namespace) -> None:
    why = "a run has its own text and batches; to see others, name a corpus"
    refuse_options(arguments, (*_OF_CORPUS, *_OF_PLACE), why)
    if not arguments.spikes:
        refuse_options(arguments, ("top",), "it says how many spikes, and --spikes is missing")
