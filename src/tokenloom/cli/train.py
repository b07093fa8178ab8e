"""The command ``tokenloom train``: its options, the training it runs, and its results."""

import argparse
import importlib.util
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenloom._io.interrupts import Stopped
from tokenloom._wording import count
from tokenloom.cli.options import (
    add_across_documents,
    add_batches,
    add_corpus,
    add_device,
    add_json,
    add_parser,
    add_quiet,
    add_timeout,
    parse_count,
    parse_count_or_all,
    parse_held_out,
)
from tokenloom.cli.output import print_error, print_json, print_line, print_message
from tokenloom.errors import ArgumentError
from tokenloom.hub.catalogue import find_entry

if TYPE_CHECKING:
    from tokenloom.cli.job import Job
    from tokenloom.corpus.corpus import Corpus
    from tokenloom.text.tokenizers import Tokenizer
    from tokenloom.training.metrics import EpochMetrics

_EXAMPLES = """\
examples:
  tokenloom train
      train the textbook's model on the language reference of this Python
  tokenloom train time_machine --model gru
      download The Time Machine once, and train a GRU on it
  tokenloom train my-book.txt --raw --max-tokens all --epochs 10
      train on a file of your own, all of it, with capitals and punctuation

  tokenloom train --resume runs/time_machine-20260102-030405
      resume a run that was interrupted or killed, as if nothing had happened
  torchrun --nproc-per-node 2 -m tokenloom train --run-dir my-run
      train with two processes, each on half of every batch

A run leaves a folder with its settings, metrics, checkpoints and a plot.
Ctrl-C stops it early and leaves the same. Write text with: tokenloom generate RUN
"""


def add_command(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_parser(
        commands, "train", _run, summary="train a recurrent model on a text", epilog=_EXAMPLES
    )
    add_corpus(command, default="python_docs")
    add_batches(command)
    _add_amount(command)
    _add_model(command)
    _add_training(command)
    _add_checkpoints(command)
    output = command.add_argument_group("output")
    output.add_argument(
        "--run",
        # torchrun takes --run for the beginning of an option of its own.
        "--run-dir",
        metavar="DIR",
        help="new folder for the results, by default runs/CORPUS-TIME",
    )
    output.add_argument(
        "--sample-every",
        type=parse_count,
        metavar="N",
        help="print text of the model every N epochs",
    )
    output.add_argument(
        "--prompt", help="text that the model continues, for --sample-every and at the end"
    )
    add_json(output)
    add_quiet(output)


def _add_amount(command: argparse.ArgumentParser) -> None:
    text = command.add_argument_group("how much of the text")
    text.add_argument(
        "--max-tokens",
        type=parse_count_or_all,
        default=10_000,
        metavar="N",
        help="train on the first N tokens; 'all' for the whole text",
    )
    text.add_argument(
        "--held-out",
        type=parse_held_out,
        default=0.1,
        metavar="FRACTION|SPLIT",
        help="fraction of the text to measure on, which follows the training text, 0 for none; or "
        "a split of CORPUS to measure on, by default 'valid' if a store has it",
    )


def _add_model(command: argparse.ArgumentParser) -> None:
    model = command.add_argument_group("model")
    model.add_argument(
        "--model", choices=("rnn", "gru", "lstm"), default="rnn", help="kind of the layers"
    )
    model.add_argument(
        "--hidden", type=parse_count, default=256, metavar="N", help="number of hidden units"
    )
    model.add_argument(
        "--layers", type=parse_count, default=1, metavar="N", help="number of layers"
    )
    model.add_argument(
        "--bidirectional",
        action="store_true",
        help="read in both directions: such a model sees the tokens that it has to predict",
    )


def _add_training(command: argparse.ArgumentParser) -> None:
    training = command.add_argument_group("training")
    training.add_argument(
        "--epochs", type=parse_count, default=500, metavar="N", help="number of epochs"
    )
    training.add_argument("--lr", type=float, default=1.0, help="learning rate")
    training.add_argument(
        "--max-grad-norm",
        type=float,
        default=1.0,
        metavar="NORM",
        help="clip the norm of the gradients",
    )
    add_across_documents(training)
    _add_updates(training)
    training.add_argument(
        "--workers", type=int, default=0, metavar="N", help="number of threads that read ahead"
    )
    add_device(training)
    training.add_argument(
        "--resident",
        action="store_true",
        help="keep the whole text on the device and gather batches there, without workers",
    )
    training.add_argument(
        "--threads",
        type=parse_count,
        default=1,
        metavar="N",
        help="threads of PyTorch on the CPU; more do not speed up models as small as the default",
    )
    add_timeout(training, seconds=300.0)


def _add_updates(training: argparse._ActionsContainer) -> None:
    training.add_argument(
        "--optimizer", choices=("sgd", "adamw"), default="sgd", help="how the weights are updated"
    )
    training.add_argument(
        "--schedule",
        choices=("constant", "cosine", "linear"),
        default="constant",
        help="how the learning rate changes: not at all, or falling to 0 at the last update",
    )
    training.add_argument(
        "--warmup",
        type=int,
        default=0,
        metavar="N",
        help="raise the learning rate from near 0 over the first N updates",
    )
    training.add_argument(
        "--accumulate",
        type=parse_count,
        default=1,
        metavar="N",
        help="make one update from every N batches",
    )
    training.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="number format of the computation; the weights stay float32",
    )


def _add_checkpoints(command: argparse.ArgumentParser) -> None:
    checkpoints = command.add_argument_group("checkpoints")
    checkpoints.add_argument(
        "--resume",
        metavar="RUN",
        help="resume this run with its own settings; accepts more --epochs, and options that do "
        "not change the weights",
    )
    checkpoints.add_argument(
        "--checkpoint-steps",
        type=parse_count,
        metavar="N",
        help="save a checkpoint every N batches",
    )
    checkpoints.add_argument(
        "--checkpoint-seconds",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="save a checkpoint when the last one is older",
    )
    checkpoints.add_argument(
        "--keep",
        type=parse_count,
        default=2,
        metavar="N",
        help="number of recent checkpoints to keep",
    )


def _run(arguments: argparse.Namespace) -> None:
    from tokenloom.cli.job import make_job
    from tokenloom.loading.distributed import joined
    from tokenloom.model.generation import generate
    from tokenloom.training.loop import train

    with joined(timeout_seconds=arguments.timeout, tell=print_error) as ranks:
        job = make_job(arguments, ranks)
        # Before the training, since a prompt without tokens would be found only after it.
        tokenizer, prompt = _tokenizer(job.corpus), _prompt(arguments, job)
        generate(job.model, tokenizer, prompt, num_tokens=0)
        is_at_end = arguments.resume is not None and ranks.is_first and _is_at_end(job)

        def announce() -> None:
            if ranks.is_first:
                print_message(_announce(arguments, job))

        try:
            history = train(
                job.model,
                job.loader,
                **job.recipe,
                run=job.run,
                device=arguments.device,
                progress=False if arguments.quiet else None,
                on_start=announce,
            )
        except (KeyboardInterrupt, Stopped) as stop:
            raise _what_ends(stop, job.run, is_first=ranks.is_first) from stop
    if not ranks.is_first:
        return
    if is_at_end:
        print_message(_explain_end(job))
    facts = _describe(history, job.run, job.model.linear.weight.device)
    facts["generated"] = generate(job.model, tokenizer, prompt, num_tokens=100)
    (print_json if arguments.json else _print_facts)(facts)


def _what_ends(
    stop: KeyboardInterrupt | Stopped, run: Path, *, is_first: bool
) -> KeyboardInterrupt | SystemExit:
    """Return the exception that ends the command after a signal, with a message on one rank."""
    from tokenloom.training.run import Run

    if not is_first:
        return SystemExit(stop.code if isinstance(stop, Stopped) else 1)
    if not Run(run, {}).has_checkpoint:
        return stop
    message = (
        f"after the usual files were written; a usable checkpoint is in {run}; "
        f"resume with: tokenloom train --resume {run}"
    )
    return (
        Stopped(stop.number, message) if isinstance(stop, Stopped) else KeyboardInterrupt(message)
    )


def _announce(arguments: argparse.Namespace, job: "Job") -> str:
    """Return the message that says which text is trained on."""
    num_tokens, num_whole = job.loader.plan.num_tokens, len(job.corpus)
    how_much = count(num_tokens, "token")
    held_out = job.recipe["held_out"]
    # A split to measure on takes nothing from the text that is trained on.
    is_other = held_out is not None and held_out.name != job.corpus.name
    if arguments.resume is None and num_tokens == arguments.max_tokens:
        fraction = 0.0 if is_other else arguments.held_out
        is_cut = num_tokens < round(num_whole * (1 - fraction))
        rest = f"{num_tokens:,} of {count(num_whole, 'token')}; --max-tokens all for the rest"
        how_much = rest if is_cut else how_much
    measured = f"; held out: {held_out.name}, {count(len(held_out), 'token')}" if is_other else ""
    return (
        f"training on {job.corpus.name}: {how_much}{measured}; "
        f"{count(len(job.loader), 'batch', 'batches')}; results go to {job.run}"
    )


def _is_at_end(job: "Job") -> bool:
    """Return whether the run has been trained for all its epochs."""
    from tokenloom.training.run import Run

    checkpoint, num_epochs = Run.open(job.run).load_checkpoint(), job.loader.num_epochs
    num_steps = 0 if num_epochs is None else num_epochs * job.loader.plan.num_batches
    return checkpoint is not None and checkpoint.step == num_steps


def _explain_end(job: "Job") -> str:
    """Return the message about a run that was trained for all its epochs."""
    num_epochs = job.loader.num_epochs or 0
    schedule = job.recipe["options"].schedule
    more = f"to train longer: tokenloom train --resume {job.run} --epochs {2 * num_epochs}"
    if schedule != "constant":
        more = f"its schedule {schedule!r} ends there, so longer training needs a new run"
    return (
        f"nothing is left to train: the run has completed {count(num_epochs, 'epoch')}; {more}; "
        f"to train on more text than {count(job.loader.plan.num_tokens, 'token')}, start a new run "
        "with --max-tokens N or all"
    )


def _describe(history: "list[EpochMetrics]", run: Path, device: object) -> dict[str, Any]:
    last = history[-1]
    plot = run / "perplexity.png"
    return {
        "num_epochs": last.epoch + 1,
        "perplexity": last.perplexity,
        "held_out_perplexity": last.held_out_perplexity,
        # The median, since any single epoch may be slow by chance.
        "tokens_per_second": statistics.median(metrics.tokens_per_second for metrics in history),
        "device": str(device),
        "plot": str(plot) if plot.is_file() else None,
        "run": str(run),
    }


def _print_facts(facts: dict[str, Any]) -> None:
    print_line(f"perplexity {facts['perplexity']:.2f} after {count(facts['num_epochs'], 'epoch')}")
    if facts["held_out_perplexity"] is not None:
        print_line(f"held-out perplexity {facts['held_out_perplexity']:.2f}")
    print_line(f"{facts['tokens_per_second']:,.0f} tokens per second on {facts['device']}")
    if facts["plot"] is not None:
        print_line(f"plot: {facts['plot']}")
    elif importlib.util.find_spec("matplotlib") is None:
        print_message("no plot: install matplotlib with: python -m pip install matplotlib")
    print_line(f"run: {facts['run']}")
    print_line(f"generated: {facts['generated']}")


def _prompt(arguments: argparse.Namespace, job: "Job") -> str:
    """Return the prompt that was typed, or that of the run, or one that suits the text."""
    if prompt := arguments.prompt or job.recipe["run_options"].sample_prompt:
        return str(prompt)
    entry = find_entry(job.corpus.name)
    return entry.prompt if entry and entry.prompt else job.corpus.decode(job.corpus.tokens[:12])


def _tokenizer(corpus: "Corpus") -> "Tokenizer":
    if corpus.tokenizer is None:
        msg = f"{corpus.name} must have a tokenizer, so that the model can write text, got none"
        raise ArgumentError(msg)
    return corpus.tokenizer
