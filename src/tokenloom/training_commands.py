"""The subcommand that trains a model."""

import argparse
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenloom.arguments import (
    add_batches,
    add_command,
    add_corpus,
    add_device,
    add_json,
    add_quiet,
    load_corpus,
    make_windows,
    parse_count,
    parse_count_or_all,
)
from tokenloom.catalogue import find_entry
from tokenloom.errors import ArgumentError
from tokenloom.printing import print_json, say

if TYPE_CHECKING:
    # These import torch, which takes seconds: imported where they are used.
    from tokenloom.corpus import Corpus
    from tokenloom.model import RNNModel
    from tokenloom.runs import EpochMetrics
    from tokenloom.tokenizers import Tokenizer


_TRAIN_EXAMPLES = """\
examples:
  tokenloom train
      train the textbook's model on the language reference of this Python
  tokenloom train time_machine --model gru
      download The Time Machine once, and train a GRU on it
  tokenloom train my-book.txt --raw --max-tokens all --epochs 10
      train on a file of your own, all of it, with capitals and punctuation

What is left: a folder with settings, metrics, a checkpoint and a plot.
Ctrl-C stops early and leaves the same. Go on with: tokenloom generate RUN
"""


def add_commands(commands: Any) -> None:
    """Add the subcommands of this room to the parser."""
    _add_train(commands)


def _add_train(commands: Any) -> None:
    command = add_command(
        commands, _train, summary="train a recurrent model on a text", epilog=_TRAIN_EXAMPLES
    )
    add_corpus(command, default="python_docs")
    add_batches(command)
    text = command.add_argument_group("how much of the text")
    text.add_argument(
        "--max-tokens",
        type=parse_count_or_all,
        default=10_000,
        metavar="N",
        help="train on the first N tokens, or on 'all'",
    )
    text.add_argument(
        "--held-out",
        type=float,
        default=0.1,
        metavar="FRACTION",
        help="measure on so much text behind the training text, 0 for none",
    )
    _add_model(command)
    _add_training(command)
    output = command.add_argument_group("output")
    output.add_argument(
        "--run", metavar="DIR", help="new folder for the results, by default runs/CORPUS-TIME"
    )
    output.add_argument("--prompt", help="end by generating text after this")
    add_json(output)
    add_quiet(output)


def _add_model(command: argparse.ArgumentParser) -> None:
    model = command.add_argument_group("model")
    model.add_argument(
        "--model", choices=("rnn", "gru", "lstm"), default="rnn", help="kind of layer"
    )
    model.add_argument("--hidden", type=parse_count, default=256, metavar="N", help="hidden units")
    model.add_argument(
        "--layers", type=parse_count, default=1, metavar="N", help="number of layers"
    )
    model.add_argument(
        "--bidirectional",
        action="store_true",
        help="two directions: such a model sees the future that it is to predict",
    )


def _add_training(command: argparse.ArgumentParser) -> None:
    training = command.add_argument_group("training")
    training.add_argument("--epochs", type=parse_count, default=500, metavar="N", help="epochs")
    training.add_argument("--lr", type=float, default=1.0, help="learning rate")
    training.add_argument(
        "--max-grad-norm", type=float, default=1.0, metavar="NORM", help="clip gradients to this"
    )
    training.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes that read ahead"
    )
    add_device(training)
    training.add_argument(
        "--threads",
        type=parse_count,
        default=1,
        metavar="N",
        help="threads of PyTorch on the CPU; models as small as the default gain nothing by more",
    )


def _train(arguments: argparse.Namespace) -> None:
    from tokenloom.generation import generate
    from tokenloom.loader import Loader
    from tokenloom.runs import Run
    from tokenloom.training import train

    corpus = load_corpus(arguments)
    train_corpus, held_out = corpus.hold_out(arguments.held_out, max_tokens=arguments.max_tokens)
    windows = make_windows(arguments, train_corpus)
    model = _build_model(arguments, corpus)
    run = Path(arguments.run) if arguments.run else _run_folder(corpus.name)
    # Here, since a prompt of no token would be found out after the training.
    tokenizer, prompt = _tokenizer(corpus), _prompt(arguments, corpus)
    generate(model, tokenizer, prompt, num_tokens=0)
    loader = Loader(windows, num_workers=arguments.workers, num_epochs=arguments.epochs)
    say(
        f"training on {len(train_corpus):,} tokens of {corpus.name}, "
        f"{len(loader):,} batches; results go to {run}"
    )
    try:
        history = train(
            model,
            loader,
            lr=arguments.lr,
            max_grad_norm=arguments.max_grad_norm,
            held_out=held_out,
            run=run,
            device=arguments.device,
            seed=arguments.seed,
            progress=False if arguments.quiet else None,
        )
    except KeyboardInterrupt as interrupt:
        if not Run(run, {}).has_checkpoint:
            raise
        message = f"after the usual files were written; a usable checkpoint is in {run}"
        raise KeyboardInterrupt(message) from interrupt
    facts = _describe(history, run, model.linear.weight.device)
    facts["generated"] = generate(model, tokenizer, prompt, num_tokens=100)
    (print_json if arguments.json else _print_facts)(facts)


def _build_model(arguments: argparse.Namespace, corpus: "Corpus") -> "RNNModel":
    import torch

    from tokenloom.model import RNNModel

    kinds: dict[str, Any] = {
        "gru": torch.nn.GRU,
        "lstm": torch.nn.LSTM,
        "rnn": torch.nn.RNN,
    }
    # A fixed number, since sums in another order round in another way: what is
    # trained does not depend on the number of cores.
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    layer = kinds[arguments.model](
        corpus.vocab_size,
        arguments.hidden,
        num_layers=arguments.layers,
        bidirectional=arguments.bidirectional,
    )
    return RNNModel(layer, corpus.vocab_size)


def _describe(history: "list[EpochMetrics]", run: Path, device: object) -> dict[str, Any]:
    last = history[-1]
    plot = run / "perplexity.png"
    return {
        "num_epochs": last.epoch + 1,
        "perplexity": last.perplexity,
        "held_out_perplexity": last.held_out_perplexity,
        # The median epoch, since any single one may have met a slow moment.
        "tokens_per_second": statistics.median(metrics.tokens_per_second for metrics in history),
        "device": str(device),
        "plot": str(plot) if plot.is_file() else None,
        "run": str(run),
    }


def _print_facts(facts: dict[str, Any]) -> None:
    print(f"perplexity {facts['perplexity']:.2f} after {facts['num_epochs']:,} epochs")
    if facts["held_out_perplexity"] is not None:
        print(f"held-out perplexity {facts['held_out_perplexity']:.2f}")
    print(f"{facts['tokens_per_second']:,.0f} tokens per second on {facts['device']}")
    if facts["plot"] is not None:
        print(f"plot: {facts['plot']}")
    else:
        say("no plot: install matplotlib with: python -m pip install 'tokenloom[plot]'")
    print(f"run: {facts['run']}")
    print(f"generated: {facts['generated']}")


def _prompt(arguments: argparse.Namespace, corpus: "Corpus") -> str:
    if arguments.prompt is not None:
        return str(arguments.prompt)
    entry = find_entry(str(arguments.corpus))
    return entry.prompt if entry and entry.prompt else corpus.decode(corpus.tokens[:12])


def _tokenizer(corpus: "Corpus") -> "Tokenizer":
    if corpus.tokenizer is None:
        msg = f"{corpus.name} has no tokenizer that could write text"
        raise ArgumentError(msg)
    return corpus.tokenizer


def _run_folder(corpus_name: str) -> Path:
    """Return a folder that does not exist yet."""
    stem = Path(corpus_name).stem if Path(corpus_name).exists() else corpus_name.replace("/", "-")
    name = f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    candidates = (Path("runs", name + suffix) for suffix in ("", *(f"-{n}" for n in range(2, 100))))
    return next(path for path in candidates if not path.exists())
