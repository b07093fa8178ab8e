"""What can be typed after ``tokenloom``: subcommands, options, help."""

import argparse
import multiprocessing
from typing import Any

from tokenloom import __version__
from tokenloom.tokenizers import TOKENIZER_NAMES

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

_GENERATE_EXAMPLES = """\
examples:
  tokenloom generate runs/time_machine-20260102-030405 --prompt "time traveller"
      the most likely characters, one after the other
  tokenloom generate RUN --prompt "the " --num-tokens 300 --temperature 0.7 --top-k 8
      draw each from the 8 most likely; another --seed gives another text
"""

_SHOW_EXAMPLES = """\
examples:
  tokenloom show time_machine
      the first rows of the first batch: inputs, and targets moved on by one
  tokenloom show my-book.txt --order random --epoch 3 --batch 7 --rows 0,5
      two rows of another batch, as every run with this seed reads it
"""

_SELFTEST_EXAMPLES = """\
examples:
  tokenloom selftest
      check the ten laws on text that Python carries: a minute or two
  tokenloom selftest my-book.txt --tokenizer word --batch-size 16 --seq-len 64
      check them on a corpus and settings of your own
  tokenloom selftest --start-methods fork
      seconds: most of the time goes into starting workers by spawning

Each law is a promise about the batches, such as: workers change nothing, and
a stream resumes after any batch. Streams are read in ways that cover each two
of the settings: order, ranks, workers, how these start, whether they stay.
Exit code 0: every law holds. 1: one is broken, and a report follows.
"""

_VERIFY_EXAMPLES = """\
examples:
  tokenloom verify my-store
      compare the hash of every file, and name each that is missing or damaged

Exit code 0: the store is as it was written. 1: it is not.
"""

_INFO_EXAMPLES = """\
examples:
  tokenloom info my-store
      documents, tokens, vocabulary, splits and sources; no token is read
  tokenloom info my-store --top 10 --json
      count the tokens too, and print all of it for a program
"""

_DATASETS_EXAMPLES = """\
Any command that takes a CORPUS takes one of these names, a text file or a store.
Downloads are verified and kept in the folder that TOKENLOOM_CACHE names.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; ``command`` of what it parses is the subcommand's name."""
    parser = argparse.ArgumentParser(
        prog="tokenloom",
        description="Weave text into exactly reproducible language-model batches.",
        epilog="'tokenloom COMMAND --help' shows the options of a command, with examples.",
    )
    parser.add_argument("--version", action="version", version=f"tokenloom {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    _add_train(commands)
    _add_generate(commands)
    _add_show(commands)
    _add_selftest(commands)
    _add_verify(commands)
    _add_info(commands)
    _add_command(commands, "datasets", "list the corpora that have a name", _DATASETS_EXAMPLES)
    return parser


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps examples as they are written, and tells defaults that say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if any(action.default is nothing for nothing in (None, False, argparse.SUPPRESS)):
            return action.help
        return f"{action.help} (default: %(default)s)"


def _add_command(commands: Any, name: str, summary: str, epilog: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=epilog,
        formatter_class=_HelpFormatter,
    )
    return command


def _add_train(commands: Any) -> None:
    command = _add_command(commands, "train", "train a recurrent model on a text", _TRAIN_EXAMPLES)
    _add_corpus(command, default="python_docs")
    _add_batches(command)
    text = command.add_argument_group("how much of the text")
    text.add_argument(
        "--max-tokens",
        type=_count_or_all,
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
    output.add_argument("--quiet", action="store_true", help="show no progress bar")


def _add_model(command: argparse.ArgumentParser) -> None:
    model = command.add_argument_group("model")
    model.add_argument(
        "--model", choices=("rnn", "gru", "lstm"), default="rnn", help="kind of layer"
    )
    model.add_argument("--hidden", type=_count, default=256, metavar="N", help="hidden units")
    model.add_argument("--layers", type=_count, default=1, metavar="N", help="number of layers")
    model.add_argument(
        "--bidirectional",
        action="store_true",
        help="two directions: such a model sees the future that it is to predict",
    )


def _add_training(command: argparse.ArgumentParser) -> None:
    training = command.add_argument_group("training")
    training.add_argument("--epochs", type=_count, default=500, metavar="N", help="epochs")
    training.add_argument("--lr", type=float, default=1.0, help="learning rate")
    training.add_argument(
        "--max-grad-norm", type=float, default=1.0, metavar="NORM", help="clip gradients to this"
    )
    training.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes that read ahead"
    )
    _add_device(training)
    training.add_argument(
        "--threads",
        type=_count,
        default=1,
        metavar="N",
        help="threads of PyTorch on the CPU; models as small as the default gain nothing by more",
    )


def _add_generate(commands: Any) -> None:
    command = _add_command(
        commands, "generate", "write text with a trained model", _GENERATE_EXAMPLES
    )
    command.add_argument("run", metavar="RUN", help="folder that 'tokenloom train' made")
    command.add_argument("--prompt", required=True, help="text to go on from")
    command.add_argument(
        "--num-tokens", type=_count, default=200, metavar="N", help="how many tokens to write"
    )
    command.add_argument(
        "--temperature",
        type=float,
        default=0.0,
        help="0: always the likeliest token; 1: as likely as the model says",
    )
    command.add_argument(
        "--top-k", type=_count, metavar="K", help="draw from the K likeliest tokens only"
    )
    command.add_argument("--seed", type=int, default=0, help="of the draws")
    _add_device(command)


def _add_show(commands: Any) -> None:
    command = _add_command(commands, "show", "show a batch as text", _SHOW_EXAMPLES)
    _add_corpus(command)
    _add_batches(command)
    place = command.add_argument_group("which batch")
    place.add_argument("--epoch", type=int, default=0, metavar="N", help="epoch, from 0")
    place.add_argument("--batch", type=int, default=0, metavar="N", help="batch, from 0")
    place.add_argument(
        "--rows",
        type=_rows,
        metavar="N,N",
        help="rows of the batch, from 0; the first four by default",
    )


def _add_selftest(commands: Any) -> None:
    summary = "check on this machine that the batches keep their laws"
    command = _add_command(commands, "selftest", summary, _SELFTEST_EXAMPLES)
    _add_corpus(command, default="python_docs")
    _add_shape(command.add_argument_group("batches"))
    ways = command.add_argument_group("ways to read")
    ways.add_argument(
        "--workers", type=_counts, default="1,2,4", metavar="N,N", help="numbers of workers to try"
    )
    ways.add_argument(
        "--start-methods",
        type=_words,
        default=",".join(multiprocessing.get_all_start_methods()),
        metavar="HOW,HOW",
        help="ways to start workers",
    )
    command.add_argument("--quiet", action="store_true", help="show no progress bar")


def _add_verify(commands: Any) -> None:
    command = _add_command(commands, "verify", "check every byte of a store", _VERIFY_EXAMPLES)
    command.add_argument("store", metavar="STORE", help="folder of a store")
    command.add_argument("--quiet", action="store_true", help="show no progress bar")


def _add_info(commands: Any) -> None:
    command = _add_command(commands, "info", "tell what is in a store", _INFO_EXAMPLES)
    command.add_argument("store", metavar="STORE", help="folder of a store")
    command.add_argument(
        "--top", type=_count, metavar="N", help="count all tokens, and list the N most frequent"
    )
    command.add_argument("--json", action="store_true", help="print JSON")


def _add_corpus(command: argparse.ArgumentParser, *, default: str | None = None) -> None:
    command.add_argument(
        "corpus",
        metavar="CORPUS",
        nargs="?" if default else None,
        default=default,
        help="a name from 'tokenloom datasets', a text file, or the folder of a store",
    )
    text = command.add_argument_group("text")
    text.add_argument(
        "--tokenizer", choices=TOKENIZER_NAMES, default="char", help="what a token is"
    )
    text.add_argument(
        "--raw",
        action="store_true",
        help="keep the text as it is, instead of lower-case letters and spaces only",
    )
    text.add_argument("--encoding", default="utf-8", help="of a text file")


def _add_batches(command: argparse.ArgumentParser) -> None:
    batches = command.add_argument_group("batches")
    batches.add_argument(
        "--order",
        choices=("sequential", "random"),
        default="sequential",
        help="whether rows go on from batch to batch, or are drawn at random",
    )
    _add_shape(batches)


def _add_shape(batches: argparse._ActionsContainer) -> None:
    batches.add_argument(
        "--batch-size", type=_count, default=32, metavar="N", help="rows per batch"
    )
    batches.add_argument("--seq-len", type=_count, default=35, metavar="N", help="tokens per row")
    batches.add_argument(
        "--seed", type=int, default=0, help="of the batches' order, and of all other randomness"
    )


def _add_device(command: argparse._ActionsContainer) -> None:
    command.add_argument("--device", help="cuda, mps or cpu; by default the best at hand")


def _count(text: str) -> int:
    if text.isdecimal() and 0 < int(text) < 1 << 31:
        return int(text)
    msg = f"must be an integer of at least 1 and below 2**31, got {text!r}"
    raise argparse.ArgumentTypeError(msg)


def _count_or_all(text: str) -> int | None:
    return None if text == "all" else _count(text)


def _counts(text: str) -> list[int]:
    return [_count(number) for number in text.split(",")]


def _words(text: str) -> list[str]:
    return text.split(",")


def _rows(text: str) -> list[int]:
    numbers = text.split(",")
    if all(number.isdecimal() for number in numbers):
        return [int(number) for number in numbers]
    msg = f"must be integers separated by commas, like 0,5, got {text!r}"
    raise argparse.ArgumentTypeError(msg)
