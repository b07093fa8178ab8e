"""The command ``tokenloom train``: its options, the training it runs, and its results."""

import argparse
import functools
import importlib.util
import re
import shlex
import signal
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenloom._checks import as_integer
from tokenloom._io.interrupts import Stopped
from tokenloom._wording import count
from tokenloom.cli import options
from tokenloom.cli.output import make_reporter, print_json, print_line, print_message
from tokenloom.cli.parser import add_parser
from tokenloom.corpus.corpus import Corpus
from tokenloom.corpus.mixture import Mixture
from tokenloom.errors import ArgumentError, UsageError
from tokenloom.hub.catalogue import find_entry
from tokenloom.hub.load import find_store

if TYPE_CHECKING:
    from tokenloom.loading.distributed import Ranks
    from tokenloom.loading.loader import Loader
    from tokenloom.model.rnn import RNNModel
    from tokenloom.training.loop import Training
    from tokenloom.training.metrics import EpochMetrics
    from tokenloom.training.options import RunOptions, TrainingOptions

_EXAMPLES = """\
examples:
  tokenloom train
      train the textbook's model on the language reference of this Python
  tokenloom train time_machine --model gru
      download The Time Machine once, and train a GRU on it
  tokenloom train web=0.7:web-store code=0.3:code-store
      train on a mixture, 70 % of whose tokens are of web-store
  tokenloom train my-book.txt --raw --max-tokens all --epochs 10
      train on a file of your own, all of it, with capitals and punctuation

  tokenloom train --resume runs/time_machine-20260102-030405
      resume a run that was interrupted or killed, as if nothing had happened
  torchrun --nproc-per-node 2 -m tokenloom train --run-dir my-run
      train with two processes, each on half of every batch

A run leaves a folder with its settings, metrics, checkpoints and a plot.
Ctrl-C stops it early and leaves the same. Write text with: tokenloom generate RUN
"""


# The options that --resume accepts: none of them changes the weights, except for more epochs.
_FREE = {
    *("resume", "workers", "threads", "epochs", "device", "resident", "encoding", "offline"),
    *("checkpoint_steps", "checkpoint_seconds", "keep", "sample_every", "prompt", "timeout"),
    *("json", "quiet"),
}
_PROMPT_CHARACTERS = 40
_RUN_OPTIONS = {
    "checkpoint_steps": "checkpoint_steps",
    "checkpoint_seconds": "checkpoint_seconds",
    "keep": "keep",
    "sample_every": "sample_epochs",
    "prompt": "sample_prompt",
}


def add_command(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_parser(commands, "train", _run, epilog=_EXAMPLES)
    options.add_corpus(command, default="python_docs")
    options.add_batches(command)
    options.add_amount(command, max_tokens=options.MAX_TOKENS, held_out=options.HELD_OUT)
    _add_model(command)
    _add_training(command)
    _add_checkpoints(command)
    output = command.add_argument_group("output")
    output.add_argument(
        "--run",
        # torchrun takes --run for the beginning of an option of its own.
        "--run-dir",
        type=options.parse_name,
        metavar="DIR",
        help="new folder for the results, by default runs/CORPUS-TIME",
    )
    options.add_count(output, "--sample-every", "print text of the model every N epochs")
    output.add_argument(
        "--prompt",
        type=options.parse_name,
        help="text that the model continues, for --sample-every and at the end",
    )
    options.add_json(output)
    options.add_quiet(output)


def _add_model(command: argparse.ArgumentParser) -> None:
    model = command.add_argument_group("model")
    model.add_argument(
        "--model", choices=("rnn", "gru", "lstm"), default="rnn", help="kind of the layers"
    )
    options.add_count(model, "--hidden", "number of hidden units", default=256)
    options.add_count(model, "--layers", "number of layers", default=1)
    model.add_argument(
        "--bidirectional",
        action="store_true",
        help="read in both directions: such a model sees the tokens that it has to predict",
    )


def _add_training(command: argparse.ArgumentParser) -> None:
    training = command.add_argument_group("training")
    options.add_count(training, "--epochs", "number of epochs", default=500)
    training.add_argument("--lr", type=float, default=1.0, help="learning rate")
    training.add_argument(
        "--max-grad-norm",
        type=float,
        default=1.0,
        metavar="NORM",
        help="clip the norm of the gradients",
    )
    options.add_across_documents(training)
    options.add_within_documents(training, "learn")
    _add_updates(training)
    options.add_workers(training, "number of threads that read ahead")
    options.add_device(training)
    training.add_argument(
        "--resident",
        action="store_true",
        help="keep the whole text on the device and gather batches there, without workers",
    )
    options.add_count(
        training,
        "--threads",
        "threads of PyTorch on the CPU; more do not speed up models as small as the default",
        default=1,
    )
    options.add_timeout(training, seconds=300.0)


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
    options.add_count(training, "--accumulate", "make one update from every N batches", default=1)
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
        type=options.parse_name,
        metavar="RUN",
        help="resume this run with its own settings; accepts more --epochs, and options that do "
        "not change the weights",
    )
    options.add_count(checkpoints, "--checkpoint-steps", "save a checkpoint every N batches")
    checkpoints.add_argument(
        "--checkpoint-seconds",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="save a checkpoint when the last one is older",
    )
    options.add_count(checkpoints, "--keep", "number of recent checkpoints to keep", default=2)


def _run(arguments: argparse.Namespace) -> None:
    from tokenloom.loading.distributed import joined

    with joined(timeout_seconds=arguments.timeout, report=make_reporter(arguments)) as ranks:
        corpus, training = _make_training(arguments, ranks)
        # Before the training, since a prompt without tokens would be found only after it.
        write = _make_writer(corpus, training, reports=ranks.is_first)

        def announce() -> None:
            if ranks.is_first:
                step = _find_step(training)
                is_at_end = arguments.resume is not None and step == _count_batches(training.loader)
                announced = _announce(arguments, corpus, training)
                if training.resume:
                    announced += f"; {_explain_start(training, step)}"
                print_message(_explain_end(training) if is_at_end else announced)

        try:
            history = training.train(progress=not arguments.quiet, on_start=announce)
        except (KeyboardInterrupt, Stopped) as stop:
            raise _what_ends(stop, _folder(training), is_first=ranks.is_first) from stop
    if not ranks.is_first:
        return
    facts = _facts(history, _folder(training), training.model.linear.weight.device)
    facts["generated"] = None if write is None else write(num_tokens=100)
    if arguments.json:
        print_json(facts)
        return
    _print_facts(facts)
    if write is not None and training.run_options is not None:
        _print_next(facts, _prompt(corpus, training.run_options))


def _make_training(arguments: argparse.Namespace, ranks: "Ranks") -> "tuple[Corpus, Training]":
    """Return the training that the arguments describe, and the corpus that was named."""
    import torch

    from tokenloom.loading.distributed import is_restarted
    from tokenloom.training.loop import Training
    from tokenloom.training.options import RunOptions

    # A fixed number, since it decides the order of sums, and so how they round: the
    # weights do not depend on the number of cores.
    torch.set_num_threads(arguments.threads)
    if arguments.resume is not None:
        training = _reopen_training(arguments)
        return training.loader.windows.corpus, training
    text = options.load_text(arguments)
    train, held_out = options.hold_out(arguments, text)
    corpus = _name_whole(text, train)
    folder = ranks.share(arguments.run or str(_new_folder(corpus.name)))
    return corpus, Training(
        model=_build_model(arguments, corpus),
        loader=_make_loader(arguments, text, train, ranks),
        lr=arguments.lr,
        max_grad_norm=arguments.max_grad_norm,
        options=_training_options(arguments),
        held_out=held_out,
        run=folder,
        resume=is_restarted(),
        run_options=_run_options(arguments, RunOptions()),
        device=arguments.device,
        seed=arguments.seed,
    )


def _make_loader(
    arguments: argparse.Namespace,
    text: Corpus | dict[str, Corpus],
    train: Corpus | Mixture,
    ranks: "Ranks",
) -> "Loader":
    """Return the loader of this rank's rows."""
    from tokenloom.loading.device import choose_device
    from tokenloom.loading.loader import Loader
    from tokenloom.loading.shard import Shard

    windows = options.make_windows(
        arguments,
        train,
        text=text,
        shard=Shard(rank=ranks.rank, world_size=ranks.world_size),
        resets=False if arguments.across_documents else None,
    )
    return Loader(
        windows,
        num_workers=arguments.workers,
        num_epochs=arguments.epochs,
        device=choose_device(arguments.device) if arguments.resident else None,
        resident=arguments.resident,
    )


def _name_whole(text: Corpus | dict[str, Corpus], train: Corpus | Mixture) -> Corpus:
    """Return the whole text that was typed, a part of which is trained on."""
    if isinstance(text, Corpus):
        return text
    whole = Corpus.concatenate(text.values())
    return whole.with_name(train.corpus.name) if isinstance(train, Mixture) else whole


def _refuse_settings(arguments: argparse.Namespace) -> None:
    """Refuse options that the settings of a run decide."""
    wrong = sorted(arguments.given - _FREE)
    if wrong:
        names = ", ".join(
            "CORPUS" if name == "corpus" else "--" + name.replace("_", "-") for name in wrong
        )
        msg = f"a run is resumed with its own settings: leave out {names} beside --resume"
        if "batch_size" in wrong:
            msg += (
                "; with another batch size its steps, records and schedule would be others: only "
                "a loop of your own, in Python, resumes with one"
            )
        raise ArgumentError(msg)


def _reopen_training(arguments: argparse.Namespace) -> "Training":
    """Return the training of a run, with typed options in place of its settings."""
    import torch

    from tokenloom.training.reopen import reopen_training
    from tokenloom.training.run import Run

    _refuse_settings(arguments)
    run = Run.open(arguments.resume)
    training = reopen_training(
        run,
        num_epochs=arguments.epochs if "epochs" in arguments.given else None,
        num_workers=arguments.workers,
        device=arguments.device,
        resident=arguments.resident,
        encoding=arguments.encoding,
    )
    if "threads" not in arguments.given:
        num_threads = as_integer("num_threads", run.settings["num_threads"], start=1, stop=1 << 31)
        torch.set_num_threads(num_threads)
    return replace(training, run_options=_run_options(arguments, training.run_options))


def _training_options(arguments: argparse.Namespace) -> "TrainingOptions":
    from tokenloom.training.options import TrainingOptions

    return TrainingOptions(
        optimizer=arguments.optimizer,
        schedule=arguments.schedule,
        warmup_updates=arguments.warmup,
        batches_per_update=arguments.accumulate,
        precision=arguments.precision,
        across_documents=not arguments.within_documents,
    )


def _run_options(arguments: argparse.Namespace, saved: "RunOptions") -> "RunOptions":
    """Return the saved options, replaced by those that were typed."""
    typed = {
        option: getattr(arguments, name)
        for name, option in _RUN_OPTIONS.items()
        if name in arguments.given
    }
    return replace(saved, **typed)


def _build_model(arguments: argparse.Namespace, corpus: Corpus) -> "RNNModel":
    import torch

    from tokenloom.model.rnn import RNNModel
    from tokenloom.plan.seeds import torch_seed

    torch.manual_seed(torch_seed(arguments.seed))
    # A model of more layers takes too long to build, and no checkpoint holds one.
    num_layers = as_integer("layers", arguments.layers, start=1, stop=1 << 12)
    try:
        layer = getattr(torch.nn, arguments.model.upper())(
            corpus.vocab_size,
            arguments.hidden,
            num_layers=num_layers,
            bidirectional=arguments.bidirectional,
        )
    except RuntimeError as error:
        msg = (
            f"a model of --hidden {arguments.hidden} and --layers {arguments.layers} must fit into "
            f"the memory, and does not: lower one of them ({error})"
        )
        raise ArgumentError(msg) from error
    return RNNModel(layer, corpus.vocab_size)


def _new_folder(corpus_name: str) -> Path:
    """Return a folder that does not exist yet."""
    from tokenloom.loading.shard import read_number

    if read_number("TORCHELASTIC_MAX_RESTARTS", default=0) > 0:
        msg = "torchrun --max-restarts needs --run: a restart resumes in the folder of that name"
        raise ArgumentError(msg)
    path = Path(corpus_name)
    if path.exists():
        stem = path.stem
    else:
        store = find_store(path)
        stem = f"{Path(store.path).stem}-{store.split}" if store else corpus_name.replace("/", "-")
        stem = stem.replace(" + ", "+")
        # Replace the characters of a pattern, so that the name is no pattern.
        stem = re.sub(r"[*?\[\]]+", "_", stem)
    name = f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    candidates = (Path("runs", name + suffix) for suffix in ("", *(f"-{n}" for n in range(2, 100))))
    return next(path for path in candidates if not path.exists())


def _what_ends(
    stop: KeyboardInterrupt | Stopped, run: Path, *, is_first: bool
) -> KeyboardInterrupt | SystemExit:
    """Return the exception that ends the command after a signal, with a message on one rank."""
    from tokenloom.training.run import Run

    if not is_first:
        return SystemExit(stop.code if isinstance(stop, Stopped) else 128 + signal.SIGINT)
    if not Run(run, {}).has_checkpoint:
        return stop
    message = (
        f"after the usual files were written; a usable checkpoint is in {run}; "
        f"resume with: tokenloom train --resume {run}"
    )
    return (
        Stopped(stop.number, message) if isinstance(stop, Stopped) else KeyboardInterrupt(message)
    )


def _announce(arguments: argparse.Namespace, corpus: Corpus, training: "Training") -> str:
    """Return the message that says which text is trained on."""
    loader, held_out, measured = training.loader, training.held_out, ""
    num_tokens, num_whole = loader.plan.num_tokens, len(corpus)
    how_much, fraction, num_held_out = count(num_tokens, "token"), arguments.held_out, 0
    if isinstance(held_out, Mapping):
        texts = [f"{len(text):,} of {name}" for name, text in held_out.items()]
        measured, fraction = f"; held out: {', '.join(texts)}", 0.0
    elif held_out is not None and held_out.name != corpus.name:
        measured = f"; held out: {held_out.name}, {count(len(held_out), 'token')}"
        # A split to measure on takes nothing from the text that is trained on.
        fraction = 0.0
    elif held_out is not None:
        num_held_out = len(held_out)
        measured = f"; held out: the {count(num_held_out, 'token')} after them"
    if arguments.resume is None and num_tokens + num_held_out == num_whole and num_held_out:
        share = f"the last {100 * fraction:g} %, {count(num_held_out, 'token')}"
        how_much, measured = f"{num_tokens:,} of {num_whole:,} tokens", f"; held out: {share}"
    elif arguments.resume is None and num_tokens == arguments.max_tokens:
        is_cut = num_tokens < round(num_whole * (1 - fraction))
        rest = f"{num_tokens:,} of {count(num_whole, 'token')}; --max-tokens all for the rest"
        how_much = rest if is_cut else how_much
    return (
        f"training on {corpus.name}: {how_much}{measured}; "
        f"{count(_count_batches(loader), 'batch', 'batches')}; results go to {training.run}"
    )


def _folder(training: "Training") -> Path:
    """Return the folder of the run, which each training of this command has."""
    return Path(training.run or "")


def _find_step(training: "Training") -> int:
    """Return after how many steps a training resumes, 0 for its beginning."""
    from tokenloom.training.run import Run

    checkpoint = Run.open(_folder(training)).load_checkpoint() if training.resume else None
    return 0 if checkpoint is None else checkpoint.step


def _count_batches(loader: "Loader") -> int:
    """Return the number of batches of a whole training, 0 where it has no end."""
    first = loader.first_epoch
    return loader.plan.at(first).count_until(first + (loader.num_epochs or 0))


def _explain_start(training: "Training", step: int) -> str:
    """Return the end of the message about a run that is resumed."""
    if step == 0:
        return "begins at the first step, since the run has no later checkpoint"
    loader = training.loader
    num_epochs = loader.num_epochs or 0
    first = loader.first_epoch
    epoch = min(loader.windows.plan.at(first).find_batch(step)[0] - first + 1, num_epochs)
    num_steps = _count_batches(loader)
    return f"resumes after step {step:,} of {num_steps:,} (epoch {epoch:,} of {num_epochs:,})"


def _explain_end(training: "Training") -> str:
    """Return the message about a run that was trained for all its epochs."""
    num_epochs = training.loader.num_epochs or 0
    more = f"to train longer: tokenloom train --resume {training.run} --epochs {2 * num_epochs}"
    if training.options.schedule != "constant":
        schedule = training.options.schedule
        more = f"its schedule {schedule!r} ends there, so longer training needs a new run"
    num_tokens = count(training.loader.plan.num_tokens, "token")
    return (
        f"nothing is left to train: the run has completed {count(num_epochs, 'epoch')}; {more}; "
        f"to train on more text than {num_tokens}, start a new run with --max-tokens N or all"
    )


def _facts(history: "list[EpochMetrics]", run: Path, device: object) -> dict[str, Any]:
    from tokenloom.training.metrics import find_best

    last, best = history[-1], find_best(history)
    plot = run / "perplexity.png"
    return {
        "num_epochs": last.epoch + 1,
        "perplexity": last.perplexity,
        "perplexity_per_character": last.perplexity_per_character,
        "perplexity_per_byte": last.perplexity_per_byte,
        "held_out_perplexity": last.held_out_perplexity,
        "held_out_perplexity_per_character": last.held_out_perplexity_per_character,
        "held_out_perplexity_per_byte": last.held_out_perplexity_per_byte,
        "held_out_perplexity_by_part": last.held_out_perplexity_by_part,
        "best_epoch": None if best is None else best.epoch,
        "best_held_out_perplexity": None if best is None else best.held_out_perplexity,
        # The median, since any single epoch may be slow by chance.
        "tokens_per_second": statistics.median(metrics.tokens_per_second for metrics in history),
        "device": str(device),
        "plot": str(plot) if plot.is_file() else None,
        "run": str(run),
    }


def _print_facts(facts: dict[str, Any]) -> None:
    epochs = count(facts["num_epochs"], "epoch")
    print_line(f"perplexity {_format_units(facts, 'perplexity')} after {epochs}")
    if facts["held_out_perplexity"] is not None:
        print_line(f"held-out perplexity {_format_units(facts, 'held_out_perplexity')}")
    if (by_part := facts["held_out_perplexity_by_part"]) is not None:
        parts = [f"{name} {value:.2f}" for name, value in by_part.items()]
        print_line(f"held-out perplexity of each part: {', '.join(parts)}")
    print_line(f"{facts['tokens_per_second']:,.0f} tokens per second on {facts['device']}")
    if facts["plot"] is not None:
        print_line(f"plot: {facts['plot']}")
    elif importlib.util.find_spec("matplotlib") is None:
        print_message("no plot: install matplotlib with: python -m pip install 'tokenloom[plot]'")
    print_line(f"run: {facts['run']}")
    if facts["generated"] is not None:
        print_line(f"generated: {facts['generated']}")


def _format_units(facts: dict[str, Any], name: str) -> str:
    """Return a perplexity per token, and per character and byte where these differ."""
    shown = [f"{facts[name]:.2f}"]
    for unit in ("character", "byte"):
        value = facts[f"{name}_per_{unit}"]
        if value is not None and f"{value:.2f}" != shown[0]:
            shown.append(f"{value:.2f} per {unit}")
    return ", ".join(shown)


def _print_next(facts: dict[str, Any], prompt: str) -> None:
    """Print the next command: text of the model, that of the best epoch if there is one."""
    # In one line that a shell can read.
    begin = " ".join(prompt.split())[:_PROMPT_CHARACTERS] or "TEXT"
    command = ["tokenloom", "generate", facts["run"]]
    if facts["best_epoch"] in (None, facts["num_epochs"] - 1):
        print_line(f"next: {shlex.join([*command, '--prompt', begin])}")
        return
    best, epoch = facts["best_held_out_perplexity"], facts["best_epoch"] + 1
    command = [*command, "--best", "--prompt", begin]
    print_line(f"best held-out perplexity {best:.2f} at epoch {epoch:,}: {shlex.join(command)}")


def _make_writer(
    corpus: Corpus, training: "Training", *, reports: bool
) -> Callable[..., str] | None:
    """Return a function that writes text with the model, or None without the tokenizer's package.

    Parameters
    ----------
    corpus : Corpus
    training : Training
    reports : bool
        Whether to print that no text will be written.
    """
    from tokenloom.model.generation import generate

    tokenizer = corpus.tokenizer
    if tokenizer is None:
        if reports:
            cure = "give it to tokenloom.generate in Python"
            print_message(f"no text will be generated: {options.explain_ids(corpus, cure)}")
        return None
    try:
        prompt = _prompt(corpus, training.run_options)
        write = functools.partial(generate, training.model, tokenizer, prompt)
        write(num_tokens=0)
    except UsageError as error:
        if reports:
            print_message(f"no text will be generated: {error}")
        return None
    return write


def _prompt(corpus: Corpus, run_options: "RunOptions") -> str:
    """Return the prompt that was typed, or that of the run, or one that suits the text."""
    if run_options.sample_prompt:
        return run_options.sample_prompt
    from tokenloom.training.progress import begin

    entry = find_entry(corpus.name)
    return entry.prompt if entry and entry.prompt else begin(corpus)
