"""The command ``tokenloom plan``: which text each rank and worker reads."""

import argparse
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tokenloom._figures import check_picture, save_picture
from tokenloom._wording import count
from tokenloom.cli import options
from tokenloom.cli.output import print_json, print_line, print_table
from tokenloom.cli.parser import add_parser
from tokenloom.corpus.mixture import Mixture
from tokenloom.plan.batch_sizes import BatchSizes
from tokenloom.plan.division import Division
from tokenloom.plan.plan import ORDERS, Plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tokenloom.corpus.corpus import Corpus

# The number of batches whose starts are listed.
_NUM_LISTED = 3
_FACTS_OF_PLAN = (
    *("seed", "epoch", "batch_size", "seq_len", "tail", "num_tokens", "num_batches"),
    *("num_inputs", "num_dropped", "fill", "phase", "num_phases"),
)
_EVERY = "and in every epoch"
_FACTS_OF_DIVISION = ("num_windows", "world_size", "num_workers", "block_size")

_EXAMPLES = """\
examples:
  tokenloom plan time_machine --ranks 8 --workers 4
      which rows of the batches each rank reads, which batches each worker
  tokenloom plan my-book.txt --order random --epoch 3 --tail pad
      the accounting and the first windows of another order and epoch
  tokenloom plan time_machine --plot plan.png
      draw which text each batch reads, both orders side by side
  tokenloom plan web=0.7:web-store code=0.3:code-store --plot shares.png
      what an epoch reads of each part of a mixture; draw the shares over the training
  tokenloom plan my-store --order packed --seq-len 2048 --plot packed.png
      draw rows with their documents, and how full they are beside other ways
"""


def add_command(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_parser(
        commands,
        "plan",
        _run,
        epilog=_EXAMPLES,
    )
    options.add_corpus(command)
    options.add_batches(command)
    options.add_amount(command)
    options.add_epoch(command)
    readers = command.add_argument_group("readers")
    options.add_count(readers, "--ranks", "number of processes that train together", default=1)
    options.add_workers(readers, "number of DataLoader workers of each process")
    output = command.add_argument_group("output")
    options.add_json(output)
    options.add_plot(output)


def _run(arguments: argparse.Namespace) -> None:
    if isinstance(arguments.batch_size, BatchSizes):
        why = "a picture has batches of one size; choose one with --batch-size"
        options.refuse_options(arguments, ("plot",), why)
    path = None if arguments.plot is None else check_picture(arguments.plot)
    corpus = options.load_text(arguments)
    train, _ = options.hold_out(arguments, corpus)
    plan = options.make_typed_plan(arguments, train, text=corpus).at(arguments.epoch)
    division = Division(plan=plan, world_size=arguments.ranks, num_workers=arguments.workers)
    if path is not None:
        save_picture(_draw(plan, train), path)
    name = train.corpus.name if isinstance(train, Mixture) else train.name
    if arguments.json:
        facts = {"corpus": name, **_facts(division)}
        print_json({**facts, "plot": None if path is None else str(path)})
        return
    _print_division(division, corpus_name=name)
    options.print_amount(arguments, corpus, train)
    if path is not None:
        print_line(f"\nplot: {path}")


def _draw(plan: Plan, corpus: "Corpus | Mixture") -> "Figure":
    from tokenloom.inspection.plots import plot_mixture, plot_packing, plot_plans

    if isinstance(corpus, Mixture):
        return plot_mixture(plan)
    documents = corpus.document_offsets
    if plan.order.has_pieces and documents is not None:
        return plot_packing(plan, documents.lengths())
    return plot_plans([dataclasses.replace(plan, kind=kind) for kind in ORDERS])


def _facts(division: Division) -> dict[str, Any]:
    plan = division.plan
    ranks = [(rank, division.columns(rank)) for rank in range(division.world_size)]
    facts = {name: getattr(plan, name) for name in _FACTS_OF_PLAN}
    facts["parts"] = None
    if plan.is_mixture:
        # Each part has phases of its own.
        facts |= {"phase": None, "num_phases": None}
        facts["parts"] = {name: part._asdict() for name, part in plan.accounting().items()}
    return {
        "order": plan.kind,
        **facts,
        "batch_size": plan.described_size,
        **{name: getattr(division, name) for name in _FACTS_OF_DIVISION},
        "ranks": [
            {"rank": rank, "rows_start": rows.start, "rows_stop": rows.stop} for rank, rows in ranks
        ],
        "workers": [_facts_of_worker(division, worker) for worker in division.readers],
        "first_starts": plan.starts(_listed(division)).tolist(),
    }


def _facts_of_worker(division: Division, worker: int) -> dict[str, Any]:
    """Return a worker's batches as the first, the step and the count, since they may be many."""
    rows = division.rows(worker)
    return {
        "worker": worker,
        "dataloader": {"first_batch": worker, "step": rows.step, "num_batches": len(rows)},
    }


def _listed(division: Division) -> range:
    return division.plan.stretches[0].rows[:_NUM_LISTED]


def _print_division(division: Division, *, corpus_name: str) -> None:
    plan = division.plan
    print_line(
        f"{corpus_name}: {_describe_order(plan)}, seed {plan.seed}, epoch {plan.epoch}, "
        f"{_describe_sizes(plan)} x {count(plan.seq_len, 'token')}, tail {plan.tail}\n"
    )
    print_table(list(_tabulate_counts(division)))
    if plan.is_mixture:
        print_line("\nPARTS: what this epoch reads of each")
        print_table(list(_tabulate_parts(plan)))
    batches = count(plan.num_batches, "batch", "batches")
    whose = f"the first of {batches}" if len(plan.stretches) > 1 else batches
    print_line(f"\nRANKS: each reads these rows of {whose}")
    print_table(list(_tabulate_ranks(division)))
    whose = "each rank's" if division.world_size > 1 else "the process's"
    print_line(f"\nWORKERS of a DataLoader: {whose} rows, in these batches")
    print_table(list(_tabulate_workers(division)))
    blocks = count(division.block_size, "batch", "batches")
    print_line(f"a Loader reads blocks of {blocks}, each by the next worker in turn")
    whose = " of all parts, one part after another" if plan.is_mixture else ""
    print_line(f"\nFIRST STARTS: where the windows begin, in tokens{whose}")
    print_table(list(_tabulate_starts(division)))


def _describe_order(plan: Plan) -> str:
    return "random order of a mixture" if plan.is_mixture else f"{plan.kind} order"


def _describe_sizes(plan: Plan) -> str:
    """Return the rows of the epoch's batches, such as "32 rows" or "32, then 64 rows"."""
    *before, last = [stretch.batch_size for stretch in plan.stretches]
    return "".join(f"{size:,}, then " for size in before) + count(last, "row")


def _tabulate_counts(division: Division) -> Iterator[tuple[str, ...]]:
    plan = division.plan
    phases = f"first token that may be an input, drawn from [0, {plan.num_phases:,})"
    windows = ("windows", division.num_windows, "that these batches read, each its own text")
    if plan.order.has_pieces:
        windows = ("rows", division.num_windows, "that these batches read, of whole documents")
    inputs = "tokens that are an input, each once"
    dropped = "tokens that are no input in this epoch"
    if plan.is_mixture:
        inputs = "tokens that are an input, as often as each part is read"
        windows = ("windows", division.num_windows, "that these batches read, of all parts")
        dropped = "tokens at the end of the epoch, which fill no batch"
    for name, number, what in (
        ("tokens", plan.num_tokens, "of all parts" if plan.is_mixture else "of the corpus"),
        ("batches", plan.num_batches, f"in this {'epoch' if plan.batch_sizes else _EVERY}"),
        windows,
        ("inputs", plan.num_inputs, inputs),
        ("dropped", plan.num_dropped, dropped),
    ):
        yield name, f"{number:>15,}", what
    if plan.is_mixture:
        return
    if plan.order.has_pieces:
        yield "fill", f"{plan.fill:>15.2%}", "of all positions have an input"
    else:
        yield "phase", f"{plan.phase:>15,}", phases


def _tabulate_parts(plan: Plan) -> Iterator[tuple[str, ...]]:
    yield "part", "share", "windows", "tokens", "times read"
    accounts = plan.accounting()
    num_windows = sum(part.windows for part in accounts.values())
    for name, part in accounts.items():
        share = f"{part.windows / num_windows:>7.2%}"
        read = f"{part.times_read:>10.3f}"
        yield name, share, f"{part.windows:>10,}", f"{part.tokens:>15,}", read


def _tabulate_ranks(division: Division) -> Iterator[tuple[str, ...]]:
    yield "rank", "rows"
    for rank in range(division.world_size):
        rows = division.columns(rank)
        yield str(rank), f"[{rows.start:,}, {rows.stop:,})"


def _tabulate_workers(division: Division) -> Iterator[tuple[str, ...]]:
    yield "worker", "batches", "number"
    for worker in division.readers:
        rows = division.rows(worker)
        listed = [f"{row:,}" for row in rows[:3]] + ["..."] * (len(rows) > 3)
        yield (
            str(worker) if division.num_workers else "none",
            ", ".join(listed) or "nothing",
            f"{len(rows):>6,}",
        )


def _tabulate_starts(division: Division) -> Iterator[tuple[str, ...]]:
    shown = range(division.plan.batch_size)[:6]
    more = ("...",) * (division.plan.batch_size > len(shown))
    yield "batch", *(f"row {row}" for row in shown), *more
    for batch, starts in enumerate(division.plan.starts(_listed(division))):
        yield str(batch), *(f"{starts[row]:,}" for row in shown), *more
