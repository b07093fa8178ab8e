"""The command ``tokenloom show``: batches as text, of a corpus or of a run."""

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from tokenloom._wording import count, show
from tokenloom.cli import options
from tokenloom.cli.output import print_json, print_line, print_message
from tokenloom.cli.parser import add_parser
from tokenloom.errors import ArgumentError
from tokenloom.hub.load import find_named
from tokenloom.plan.mixture import MixtureOrder
from tokenloom.plan.packed import PackedOrder

if TYPE_CHECKING:
    from tokenloom.inspection.batches import BatchText, PieceText
    from tokenloom.inspection.steps import RunSpikes, StepText
    from tokenloom.loading.dataset import Windows

_EXAMPLES = """\
examples:
  tokenloom show time_machine
      the first rows of the first batch: inputs, and targets shifted by one
  tokenloom show my-book.txt --order random --epoch 3 --batch 7 --rows 0,5
      two rows of another batch of the whole text
  tokenloom show web=0.7:web-store code=0.3:code-store
      rows of a mixture, each with the part that it comes from
  tokenloom show my-store --order packed --seq-len 2048 --batch-size 8
      the documents that lie side by side in each row
  tokenloom show my-book.txt --max-tokens 10000 --held-out 0.1 --batch 1
      the second batch that 'tokenloom train my-book.txt' reads
  tokenloom show runs/time_machine-20260102-030405 --step 118
      the text that the model of a run read in its 118th step
  tokenloom show runs/time_machine-20260102-030405 --spikes --top 3
      the steps whose loss stands out most, with their text
  tokenloom show runs/time_machine-20260102-030405 --spikes --threshold 6 --plot loss.png
      what lies above another threshold, marked on the curve of the loss
"""


# Options that do not go with a run, which has its own; the place of the batch follows from the
# step.
_OF_TEXT = ("split", "tokenizer", "vocab_size", "raw", "max_tokens", "held_out")
_OF_CORPUS = ("order", "batch_size", "seq_len", "seed", "tail", *_OF_TEXT)


_OF_PLACE = ("epoch", "batch")
_OF_SPIKES = ("top", "threshold", "plot")
_NO_SPIKES = "only --spikes of a run has a use for that, and --spikes is missing"


def add_command(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_parser(commands, "show", _run, epilog=_EXAMPLES)
    options.add_corpus(command, or_else="; or the folder of a run, with --step or --spikes")
    options.add_batches(command)
    options.add_amount(command)
    place = command.add_argument_group("which batch")
    options.add_epoch(place)
    place.add_argument(
        "--batch", type=int, default=0, metavar="N", help="index of the batch, from 0"
    )
    place.add_argument(
        "--rows",
        type=options.parse_indices,
        metavar="N,N",
        help="rows of the batch, from 0; by default the first four, or all rows for a run",
    )
    run = command.add_argument_group("what the model of a run read")
    which = run.add_mutually_exclusive_group()
    which.add_argument("--step", type=int, metavar="N", help="the batch of this step, from 1")
    which.add_argument(
        "--spikes", action="store_true", help="the batches of the steps with an unusually high loss"
    )
    options.add_count(run, "--top", "show the N steps that stand out most", default=3)
    run.add_argument(
        "--threshold",
        type=float,
        default=4.5,
        metavar="X",
        help="deviations above the running median from which a loss counts as a spike",
    )
    output = command.add_argument_group("output")
    options.add_json(output)
    options.add_plot(output)


def _run(arguments: argparse.Namespace) -> None:
    # Slow to import: it needs torch.
    from tokenloom.inspection.batches import read_batch
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
        msg = f"{arguments.corpus!r} is a run: choose its text with --step N or --spikes"
        raise ArgumentError(msg)
    options.refuse_options(arguments, _OF_SPIKES, _NO_SPIKES)
    corpus = options.load_text(arguments)
    train, _ = options.hold_out(arguments, corpus)
    windows = options.make_windows(arguments, train, text=corpus)
    windows.set_epoch(arguments.epoch)
    rows = arguments.rows or range(min(4, *windows.plan.all_sizes))
    batch = read_batch(windows, index=arguments.batch, rows=rows)
    _report_ids(windows)
    if arguments.json:
        print_json(dataclasses.asdict(batch))
        return
    _print_batch(batch)
    options.print_amount(arguments, corpus, train)


def _report_ids(windows: "Windows") -> None:
    """Print why ids are shown, where there is no text to show."""
    corpus = windows.corpus
    if corpus.tokenizer is None:
        cure = (
            "in Python, tokenloom.inspection.read_batch shows the text of windows of "
            "Corpus.open(STORE, tokenizer=...)"
        )
        print_message(f"ids are shown in place of text: {options.explain_ids(corpus, cure)}")


def _show_run(arguments: argparse.Namespace) -> None:
    from tokenloom._figures import check_picture, save_picture
    from tokenloom.inspection.plots import plot_spikes
    from tokenloom.inspection.steps import read_spikes, read_step
    from tokenloom.training.reopen import reopen_windows
    from tokenloom.training.run import Run

    _check_options_of_run(arguments)
    run = Run.open(arguments.corpus)
    windows = reopen_windows(run, encoding=arguments.encoding)
    rows = arguments.rows or None
    _report_ids(windows)
    if arguments.spikes:
        path = None if arguments.plot is None else check_picture(arguments.plot)
        spikes = read_spikes(
            run, windows, top=arguments.top, rows=rows, threshold=arguments.threshold
        )
        if path is not None:
            save_picture(plot_spikes(spikes, title=f"Loss of {run.path.name}"), path)
        if arguments.json:
            plot = None if path is None else str(path)
            print_json({"run": str(run.path), **_facts_of_spikes(spikes), "plot": plot})
            return
        _print_spikes(spikes)
        if path is not None:
            print_line(f"\nplot: {path}")
        return
    step = read_step(run, windows, step=arguments.step, rows=rows)
    if arguments.json:
        print_json({"run": str(run.path), **_facts_of_step(step)})
        return
    print_line(_format_step(step))
    _print_batch(step.batch)


def _facts_of_step(step: "StepText") -> dict[str, Any]:
    facts = {"step": step.step, "loss": step.loss, "has_targets": step.has_targets}
    return {**facts, **dataclasses.asdict(step.batch)}


def _facts_of_spikes(found: "RunSpikes") -> dict[str, Any]:
    from tokenloom.inspection.steps import NUM_AROUND, NUM_OF_SCALE

    return {
        "num_steps": found.num_steps,
        "method": {
            "num_around": NUM_AROUND,
            "num_of_scale": NUM_OF_SCALE,
            "threshold": found.threshold,
        },
        "num_spikes": found.num_spikes,
        "spikes": [
            {
                "first_step": text.step,
                "stop_step": text.step + spike.stop - spike.first,
                "usual_loss": spike.usual,
                "deviations": spike.deviations,
                "is_spike": spike.deviations > found.threshold,
                **_facts_of_step(text),
            }
            for spike, text in found.spikes
        ],
    }


def _print_spikes(found: "RunSpikes") -> None:
    steps, limit = count(found.num_steps, "step"), f"{found.threshold:g} deviations"
    if found.num_spikes:
        spikes = count(found.num_spikes, "spike")
        print_line(f"{spikes} in {steps}: losses more than {limit} above the running median")
    else:
        print_line(f"no spike in {steps}: no loss lies {limit} above the running median")
        if found.spikes:
            print_line("those that come closest:")
    for spike, text in found.spikes:
        num_more = spike.stop - spike.first - 1
        line = f"{_format_step(text)}, usual {spike.usual:.3f}, "
        line += f"{spike.deviations:.1f} deviations"
        line += f", and {count(num_more, 'step')} after it" * bool(num_more)
        is_weak = found.num_spikes > 0 and spike.deviations <= found.threshold
        print_line(f"\n{line}" + ", below the threshold" * is_weak)
        _print_batch(text.batch)


def _format_step(step: "StepText") -> str:
    loss = f"loss {step.loss:.3f}" if step.has_targets else "no target is learnt"
    return f"step {step.step:,}: {loss}"


def _print_batch(batch: "BatchText") -> None:
    is_mixture = batch.order == MixtureOrder.kind
    order = "random order of a mixture" if is_mixture else f"{batch.order} order"
    print_line(
        f"{batch.corpus}: {order}, epoch {batch.epoch}, batch {batch.batch} of "
        f"{batch.num_batches:,}, {count(batch.num_rows, 'row')} x {count(batch.seq_len, 'token')}"
    )
    for row in batch.rows:
        if batch.order != PackedOrder.kind:
            part = "" if row.part is None else f"{row.part}, "
            _print_piece(row, f"row {row.row}: {part}")
            continue
        num_inputs = sum(piece.stop - piece.start - 1 for piece in row.pieces)
        pieces = count(len(row.pieces), "piece")
        print_line(f"row {row.row}: {pieces}, {num_inputs:,} of {count(batch.seq_len, 'input')}")
        for piece in row.pieces:
            _print_piece(piece, "  ")


def _print_piece(piece: "PieceText", begins: str) -> None:
    words = [f"{begins}tokens [{piece.start:,}, {piece.stop:,})"]
    words += [piece.source] if piece.source is not None else []
    words += [f"document {piece.document:,}"] if piece.document is not None else []
    words += [f"character {piece.character:,}"] if piece.character is not None else []
    print_line(", ".join(words))
    indent = " " * (len(begins) - len(begins.lstrip())) + "  "
    print_line(f"{indent}inputs   {piece.inputs!r}")
    print_line(f"{indent}targets  {piece.targets!r}")
    if piece.learnt is not None:
        print_line(f"{indent}learnt   {piece.learnt!r}")


def _check_options_of_run(arguments: argparse.Namespace) -> None:
    why = "a run has its own text and batches; to see others, name a corpus"
    options.refuse_options(arguments, (*_OF_CORPUS, *_OF_PLACE), why)
    if not arguments.spikes:
        options.refuse_options(arguments, _OF_SPIKES, _NO_SPIKES)
