"""The command ``tokenloom``: one function per subcommand that parses, calls, prints."""

import argparse
import io
import json
import multiprocessing
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenloom.arguments import make_parser
from tokenloom.errors import ArgumentError, TokenloomError
from tokenloom.hub import CATALOGUE, load, locate
from tokenloom.store import is_store

if TYPE_CHECKING:
    # These rooms import torch, which takes seconds: the functions below import
    # them when they are called, so that --help and wrong usage answer at once.
    from tokenloom.corpus import Corpus
    from tokenloom.model import RNNModel
    from tokenloom.runs import EpochMetrics
    from tokenloom.tokenizers import Tokenizer
    from tokenloom.windows import Windows


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0: done. 1: an error, told in one line on stderr, or Ctrl-C. 2: wrong usage.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the program's name; those of this process by default.
    """
    try:
        arguments = make_parser().parse_args(argv)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 2
    # What a terminal's encoding lacks is shown as its code point.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        warnings.simplefilter("default", UserWarning)
        try:
            code = _COMMANDS[arguments.command](arguments)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader, such as head, has seen enough. Without this, Python
            # would complain once more when it flushes stdout at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except KeyboardInterrupt as interrupt:
            _say(" ".join(["stopped by Ctrl-C", *interrupt.args]))
            return 1
        except TokenloomError as error:
            _say("error: " + " ".join(str(error).split()))
            return 1
        # PyTorch tells of dead workers and full memory by RuntimeError, and its
        # messages go on with the places in its own code.
        except (OSError, RuntimeError) as error:
            _say(f"error: {str(error).strip().partition(chr(10))[0]}")
            return 1
    return code or 0


def _train(arguments: argparse.Namespace) -> None:
    from tokenloom.generation import generate
    from tokenloom.loader import Loader
    from tokenloom.runs import Run
    from tokenloom.training import train

    corpus = _load(arguments)
    train_corpus, held_out = corpus.hold_out(arguments.held_out, max_tokens=arguments.max_tokens)
    windows = _windows(arguments, train_corpus)
    model = _build_model(arguments, corpus)
    run = Path(arguments.run) if arguments.run else _run_folder(corpus.name)
    # Here, since a prompt of no token would be found out after the training.
    tokenizer, prompt = _tokenizer(corpus), _prompt(arguments, corpus)
    generate(model, tokenizer, prompt, num_tokens=0)
    loader = Loader(windows, num_workers=arguments.workers, num_epochs=arguments.epochs)
    _say(
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
    _report(history, run, model.linear.weight.device)
    print(f"generated: {generate(model, tokenizer, prompt, num_tokens=100)}")


def _generate(arguments: argparse.Namespace) -> None:
    from tokenloom.devices import choose_device
    from tokenloom.generation import generate
    from tokenloom.runs import Run

    run = Run.open(arguments.run)
    tokenizer = run.load_tokenizer()
    model = run.load_model().to(choose_device(arguments.device))
    print(
        generate(
            model,
            tokenizer,
            arguments.prompt,
            num_tokens=arguments.num_tokens,
            temperature=arguments.temperature,
            top_k=arguments.top_k,
            seed=arguments.seed,
        )
    )


def _datasets(_: argparse.Namespace) -> None:
    rows = [("NAME", "BYTES", "WHERE", "LICENCE", "WHAT")]
    for entry in CATALOGUE.values():
        size = f"{entry.num_bytes:,}" if entry.num_bytes else "-"
        rows.append((entry.name, size, locate(entry), entry.licence, entry.description))
    _print_table(rows)


def _show(arguments: argparse.Namespace) -> None:
    from tokenloom.inspection import describe_batch

    windows = _windows(arguments, _load(arguments))
    windows.set_epoch(arguments.epoch)
    rows = arguments.rows or range(min(4, arguments.batch_size))
    for line in describe_batch(windows, index=arguments.batch, rows=rows):
        print(line)


def _selftest(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from tokenloom import selftest

    # Its server imports PyTorch once, and not each worker anew.
    if "forkserver" in arguments.start_methods:
        multiprocessing.get_context("forkserver").set_forkserver_preload(["tokenloom.workers"])
    settings = selftest.Settings(
        corpus=_load(arguments),
        batch_size=arguments.batch_size,
        seq_len=arguments.seq_len,
        seed=arguments.seed,
        num_workers=arguments.workers,
        start_methods=arguments.start_methods,
    )
    outcomes = []
    with tqdm(selftest.make_checks(settings), disable=arguments.quiet or None) as bar:
        for check in bar:
            bar.set_description(f"law {check.law}")
            outcomes.append(selftest.run_check(check))
    _print_table(list(selftest.tabulate(outcomes)))
    broken = [outcome for outcome in outcomes if outcome.problem]
    if not broken:
        print(f"every law holds in {len(outcomes)} checks")
        return 0
    print("\nreport, to paste into an issue:")
    for line in selftest.describe_machine(settings):
        print(f"  {line}")
    for outcome in broken:
        print(f"  law {outcome.law} ({outcome.what}): {outcome.problem}")
    return 1


def _verify(arguments: argparse.Namespace) -> int:
    from tokenloom.verification import verify_store

    problems = verify_store(arguments.store, progress=False if arguments.quiet else None)
    for problem in problems:
        print(problem)
    if not problems:
        print(f"{arguments.store} is as it was written")
    return int(bool(problems))


def _info(arguments: argparse.Namespace) -> None:
    from tokenloom.corpus import Corpus
    from tokenloom.inventory import describe_store, most_frequent, tabulate

    description = describe_store(arguments.store)
    top = most_frequent(Corpus.open(arguments.store), arguments.top) if arguments.top else []
    if arguments.json:
        print(json.dumps({**description, **({"most_frequent": top} if top else {})}, indent=2))
        return
    _print_table(list(tabulate(description)))
    if top:
        print()
        rows = [(str(row["id"]), repr(row["token"]), f"{row['count']:,}") for row in top]
        _print_table([("ID", "TOKEN", "COUNT"), *rows])


def _load(arguments: argparse.Namespace) -> "Corpus":
    if is_store(arguments.corpus):
        from tokenloom.corpus import Corpus

        return Corpus.open(arguments.corpus)
    return load(
        arguments.corpus,
        tokenizer=arguments.tokenizer,
        normalize=not arguments.raw,
        encoding=arguments.encoding,
    )


def _windows(arguments: argparse.Namespace, corpus: "Corpus") -> "Windows":
    from tokenloom.sharding import Shard
    from tokenloom.windows import RandomWindows, SequentialWindows

    kind = RandomWindows if arguments.order == "random" else SequentialWindows
    return kind(
        corpus,
        batch_size=arguments.batch_size,
        seq_len=arguments.seq_len,
        seed=arguments.seed,
        # These commands run in one process, also where a launcher's variables are set.
        shard=Shard(),
    )


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


def _report(history: "list[EpochMetrics]", run: Path, device: object) -> None:
    last = history[-1]
    # The median epoch, since any single one may have met a slow moment.
    speed = statistics.median(metrics.tokens_per_second for metrics in history)
    print(f"perplexity {last.perplexity:.2f} after {last.epoch + 1:,} epochs")
    if last.held_out_perplexity is not None:
        print(f"held-out perplexity {last.held_out_perplexity:.2f}")
    print(f"{speed:,.0f} tokens per second on {device}")
    plot = run / "perplexity.png"
    if plot.is_file():
        print(f"plot: {plot}")
    else:
        _say("no plot: install matplotlib with: python -m pip install 'tokenloom[plot]'")
    print(f"run: {run}")


def _prompt(arguments: argparse.Namespace, corpus: "Corpus") -> str:
    if arguments.prompt is not None:
        return str(arguments.prompt)
    entry = CATALOGUE.get(corpus.name)
    return corpus.decode(corpus.tokens[:12]) if entry is None else entry.prompt


def _tokenizer(corpus: "Corpus") -> "Tokenizer":
    if corpus.tokenizer is None:
        msg = f"{corpus.name} has no tokenizer that could write text"
        raise ArgumentError(msg)
    return corpus.tokenizer


def _run_folder(corpus_name: str) -> Path:
    """Return a folder that does not exist yet."""
    name = f"{Path(corpus_name).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    candidates = (Path("runs", name + suffix) for suffix in ("", *(f"-{n}" for n in range(2, 100))))
    return next(path for path in candidates if not path.exists())


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _say(message: str) -> None:
    print(f"tokenloom: {message}", file=sys.stderr)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    _say("warning: " + " ".join(str(message).split()))


_COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "datasets": _datasets,
    "generate": _generate,
    "info": _info,
    "selftest": _selftest,
    "show": _show,
    "train": _train,
    "verify": _verify,
}
