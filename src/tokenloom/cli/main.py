"""The command ``tokenloom``: its parser, its exit codes, and the errors that it reports."""

import argparse
import contextlib
import functools
import importlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import tokenloom
from tokenloom._io.interrupts import Stopped, ending_in_order
from tokenloom.cli.output import as_options, name_options, print_error, print_line, print_message
from tokenloom.cli.parser import COMMANDS, CommandParser, complete_files, make_formatter
from tokenloom.errors import TokenloomError

_OFFLINE = "TOKENLOOM_OFFLINE"
# What a shell reports of a program that the signals SIGINT and SIGPIPE ended.
_INTERRUPTED, _PIPE_CLOSED = 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0: done. 1: an error, reported in one line on stderr. 2: wrong usage, or no
    command. 130: Ctrl-C. 128 + n: signal n, such as 143 for SIGTERM, and 141 where
    the reader of stdout, such as head, has ended.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the program's name; those of this process by default.
    """
    # Characters that the terminal's encoding lacks are shown as their code points.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with ending_in_order():
            code = _run(argv)
            # It is None where the command was started with stdout closed.
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as head, has stopped reading.
        _discard_stdout()
        return _PIPE_CLOSED
    except KeyboardInterrupt as interrupt:
        print_message(" ".join(["stopped by Ctrl-C", *interrupt.args]))
        return _INTERRUPTED
    except Stopped as stop:
        print_message(" ".join([f"stopped by {stop.name}", *stop.notes]))
        _discard_stdout()
        return 128 + stop.number
    except OSError as error:
        print_error(error)
        _discard_stdout()
        return 1
    return code


def _run(argv: Sequence[str] | None) -> int:
    try:
        words = sys.argv[1:] if argv is None else argv
        if not words:
            make_parser("--help").print_help()
            return 2
        arguments = make_parser(*words[:1]).parse_args(words)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 2
    with (
        warnings.catch_warnings(),
        _offline(wanted=getattr(arguments, "offline", False)),
        _logging(options := name_options(arguments)),
    ):
        warnings.showwarning = functools.partial(_show_warning, options)
        warnings.simplefilter("default", UserWarning)
        try:
            return arguments.run_command(arguments) or 0
        except BrokenPipeError:
            raise
        # PyTorch reports dead workers and full memory as RuntimeError.
        except (TokenloomError, OSError, RuntimeError) as error:
            print_error(error, options=options)
            return 1
        except MemoryError as error:
            print_message(f"error: this needs more memory than there is{_in_brackets(error)}")
            return 1
        except Stopped:
            raise
        except SystemExit as exit_:
            # Another process of torchrun has reported the reason.
            return exit_.code if isinstance(exit_.code, int) else 1


def _in_brackets(error: Exception) -> str:
    return f" ({error})" if str(error) else ""


def _discard_stdout() -> None:
    """Discard the rest of stdout, so that Python reports no second error at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_parser(first_word: str | None = None) -> argparse.ArgumentParser:
    """Return the parser; ``command`` of what it parses is the subcommand's name.

    Parameters
    ----------
    first_word : str, optional
        The first of the arguments. If it is a command, or asks for the list of
        commands, the others are named in the help but not imported.
    """
    parser = CommandParser(
        prog="tokenloom",
        description="Weave text into exactly reproducible language-model batches.",
        epilog="'tokenloom COMMAND --help' shows the options of a command, with examples.",
        formatter_class=make_formatter,
    )
    parser.add_argument(
        "--version", action=_PrintVersion, help="show program's version number and exit"
    )
    commands = parser.add_subparsers(
        metavar="COMMAND",
        dest="command",
        required=True,
        parser_class=CommandParser,
        # Made by argparse it would take a formatter of help, which is slow to import.
        prog="tokenloom",
    )
    for name, summary in COMMANDS.items():
        if first_word == name or first_word not in (*COMMANDS, "-h", "--help", "--version"):
            importlib.import_module(f"tokenloom.cli.{name}").add_command(commands)
        else:
            commands.add_parser(name, help=summary)
    for command in commands.choices.values():
        complete_files(command)
    return parser


class _PrintVersion(argparse.Action):
    """Prints the version, which takes long to find, only where it is asked for."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**{**keywords, "nargs": 0, "dest": argparse.SUPPRESS})

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print_line(f"tokenloom {tokenloom.__version__}")
        parser.exit()


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


@contextlib.contextmanager
def _logging(options: Mapping[str, str]) -> Iterator[None]:
    """Print the library's log messages in the words of the command line."""
    handler = _MessageHandler(options)
    logger = logging.getLogger("tokenloom")
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    # It reports that work resumes, which is no warning.
    preparing = logging.getLogger("tokenloom.preparation.prepare")
    level = preparing.level
    preparing.setLevel(logging.INFO)
    try:
        yield
    finally:
        preparing.setLevel(level)
        logger.removeHandler(handler)
        logger.propagate = propagates


class _MessageHandler(logging.Handler):
    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__(logging.INFO)
        self._options = options

    def emit(self, record: logging.LogRecord) -> None:
        print_message(as_options(record.getMessage(), self._options))


def _show_warning(
    options: Mapping[str, str], message: Warning | str, *_: object, **__: object
) -> None:
    print_message(f"warning: {as_options(str(message), options)}")
