"""The command ``tokenloom``: its parser, and what becomes of errors and warnings."""

import argparse
import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence

from tokenloom import (
    __version__,
    corpus_commands,
    machine_commands,
    model_commands,
    preparation_commands,
    store_commands,
    stream_commands,
    training_commands,
)
from tokenloom.arguments import CommandParser
from tokenloom.errors import TokenloomError
from tokenloom.printing import say, say_error

_OFFLINE = "TOKENLOOM_OFFLINE"


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
    with warnings.catch_warnings(), _offline(wanted=getattr(arguments, "offline", False)):
        warnings.showwarning = _show_warning
        warnings.simplefilter("default", UserWarning)
        try:
            code = arguments.do(arguments)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader, such as head, has seen enough. Without this, Python
            # would complain once more when it flushes stdout at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except KeyboardInterrupt as interrupt:
            say(" ".join(["stopped by Ctrl-C", *interrupt.args]))
            return 1
        # PyTorch tells of dead workers and full memory by RuntimeError.
        except (TokenloomError, OSError, RuntimeError) as error:
            say_error(error)
            return 1
        except SystemExit:
            # One of the processes that torchrun started has told why.
            return 1
    return code or 0


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; ``command`` of what it parses is the subcommand's name."""
    parser = argparse.ArgumentParser(
        prog="tokenloom",
        description="Weave text into exactly reproducible language-model batches.",
        epilog="'tokenloom COMMAND --help' shows the options of a command, with examples.",
    )
    parser.add_argument("--version", action="version", version=f"tokenloom {__version__}")
    commands = parser.add_subparsers(
        metavar="COMMAND", dest="command", required=True, parser_class=CommandParser
    )
    for room in (
        training_commands,
        model_commands,
        stream_commands,
        machine_commands,
        preparation_commands,
        store_commands,
        corpus_commands,
    ):
        room.add_commands(commands)
    return parser


@contextlib.contextmanager
def _offline(*, wanted: bool) -> Iterator[None]:
    """Forbid downloads while a command runs, also to the processes that it starts."""
    before = os.environ.get(_OFFLINE)
    if wanted:
        os.environ[_OFFLINE] = "1"
    try:
        yield
    finally:
        if wanted:
            os.environ.pop(_OFFLINE)
            os.environ.update({} if before is None else {_OFFLINE: before})


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    say("warning: " + " ".join(str(message).split()))
