"""The parser of the command line, which explains wrong usage in two lines."""

import argparse
import importlib.util
import itertools
import os
import shlex
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from tokenloom._optional import import_optional
from tokenloom._wording import show, suggest
from tokenloom.cli.output import print_message, print_usage

COMMANDS = {
    "train": "train a recurrent model on a text",
    "generate": "generate text with a trained model",
    "evaluate": "measure how well a model predicts",
    "plan": "print which text each rank and worker reads",
    "show": "show a batch as text",
    "selftest": "check on this machine that the batches keep their laws",
    "bench": "find the fastest settings on this machine",
    "prepare": "prepare a store from texts of any size",
    "verify": "check every byte of a store",
    "info": "print what is in a store",
    "datasets": "list the corpora that have a name",
    "fetch": "download corpora that have a name",
}
"""What each subcommand does, in the order in which the help lists them."""

_COMMAND_INDENT = 2
# Arguments that may be a file or a folder.
_FILES = {"corpus", "run", "store", "sources", "plot", "output", "tokenizer", "resume"}

Run = Callable[[argparse.Namespace], int | None]


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Breaks examples as a shell reads them, and shows defaults that are not empty."""

    def add_text(self, text: str | None) -> None:
        """Add a description, or an epilog, in lines that fit."""
        width = self._width - self._current_indent
        super().add_text(text and (text if text is argparse.SUPPRESS else fill(text, width)))

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if any(action.default is empty for empty in (None, False, argparse.SUPPRESS)):
            return action.help
        return f"{action.help} (default: %(default)s)"


def make_formatter(prog: str) -> argparse.HelpFormatter:
    """Return the formatter of the help: in colour if the terminal and the packages allow.

    Since Python 3.14 argparse has colours itself; before, rich-argparse adds them.
    """
    is_old = sys.version_info < (3, 14)
    if not (is_old and _wants_colour() and importlib.util.find_spec("rich_argparse")):
        return _HelpFormatter(prog)
    rich: Any = import_optional("rich_argparse", purpose="help in colour", extra="cli")

    class _RichFormatter(_HelpFormatter, rich.RawDescriptionRichHelpFormatter):  # type: ignore[misc]  # found now
        group_name_formatter = str

    formatter: argparse.HelpFormatter = _RichFormatter(prog)
    return formatter


def _wants_colour() -> bool:
    """Return whether stdout shows colours; see https://no-color.org and force-color.org."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    return is_terminal and os.environ.get("TERM") != "dumb"


def fill(text: str, width: int) -> str:
    r"""Return a text in lines of at most this width: paragraphs, commands, and their explanations.

    Lines that are indented by two spaces are commands, which a backslash breaks.

    >>> print(fill("  tokenloom show my-book.txt\n      a few words more", 20))
      tokenloom show \
          my-book.txt
          a few words
          more
    """
    lines: list[str] = []
    for indent, group in itertools.groupby(text.splitlines(), key=_measure_indent):
        if indent == _COMMAND_INDENT:
            for line in group:
                # Nothing within quotes is broken.
                first, *more = _wrap(shlex.split(line, posix=False), width - 2, indent)
                lines += [f"{part} \\" for part in (first, *more)[:-1]] + [(first, *more)[-1]]
        elif indent is None:
            lines += group
        else:
            words = " ".join(group).split()
            lines += textwrap.wrap(
                " ".join(words), width, initial_indent=" " * indent, subsequent_indent=" " * indent
            )
    return "\n".join(lines)


def _measure_indent(line: str) -> int | None:
    """Return the number of spaces before a line, None for an empty one."""
    return len(line) - len(line.lstrip()) if line.strip() else None


def _wrap(words: list[str], width: int, indent: int) -> list[str]:
    """Return words in lines, of which those after the first are indented by four more."""
    lines = [" " * indent + words[0]]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) > width:
            lines.append(" " * (indent + 4) + word)
        else:
            lines[-1] += f" {word}"
    return lines


def complete_files(parser: argparse.ArgumentParser) -> None:
    """Let the completion that shtab writes name files where an argument is one."""
    for action in parser._actions:  # noqa: SLF001  there is no other way
        if action.dest in _FILES:
            # What shtab.FILE is.
            action.complete = {  # type: ignore[attr-defined]  # shtab looks there
                "bash": "_shtab_compgen_files",
                "zsh": "_files",
                "tcsh": "f",
            }


class CommandParser(argparse.ArgumentParser):
    """A parser that takes options by their whole names, and explains wrong usage in two lines.

    The namespace that it returns also has ``given``, the names of the arguments that
    were typed, and ``options``, the option of each name.
    """

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**{**keywords, "allow_abbrev": False})
        self._hidden_defaults: dict[argparse.Action, Any] = {}

    def format_help(self) -> str:
        """Return the help with its defaults, which are taken away while --help is parsed."""
        for action, default in self._hidden_defaults.items():
            action.default = default
        return super().format_help()

    def parse_known_args(  # type: ignore[override]  # the overloads are argparse's own
        self,
        args: Sequence[str] | None = None,
        namespace: argparse.Namespace | None = None,
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse without defaults, to see what was typed, and fill the defaults in afterwards."""
        defaults = {action: action.default for action in self._actions}
        self._hidden_defaults = defaults
        try:
            for action in defaults:
                action.default = argparse.SUPPRESS
            found, rest = super().parse_known_args(args, namespace)
        finally:
            for action, default in defaults.items():
                action.default = default
        if rest:
            self.error(self._explain_unknown(rest))
        if hasattr(found, "given"):
            # The parser of the subcommand has filled them in.
            return found, rest
        found.given = {action.dest for action in defaults if hasattr(found, action.dest)}
        for action, default in defaults.items():
            if action.dest in found.given or default is argparse.SUPPRESS:
                continue
            if isinstance(default, str) and callable(action.type):
                setattr(found, action.dest, action.type(default))
            else:
                setattr(found, action.dest, default)
        found.options = {
            action.dest: action.option_strings[-1]
            for action in self._actions
            if action.option_strings
        }
        return found, rest

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error, each in one line, and exit with code 2."""
        forms = {"?": "[{}]", "+": "{} ...", "*": "[{} ...]"}
        names = [
            forms.get(str(action.nargs), "{}").format(action.metavar)
            for action in self._get_positional_actions()
        ]
        print_usage(f"{' '.join([self.prog, *names])} [options]; see '{self.prog} --help'")
        print_message(f"error: {message.removeprefix('argument ')}")
        sys.exit(2)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse a word that is no choice, and suggest the most similar one."""
        if action.choices is None or value in action.choices:
            return
        words = [str(choice) for choice in action.choices]
        raise argparse.ArgumentError(
            action, f"must be one of {', '.join(words)}, got {show(value)}{suggest(value, words)}"
        )

    def _explain_unknown(self, rest: list[str]) -> str:
        """Return the message about arguments that no option or position accepts."""
        typed = next((text for text in rest if text.startswith("-")), None)
        if typed is None:
            cure = "values that belong together must stand next to each other"
            return f"unexpected argument {show(rest[0])}: {cure}"
        name = typed.partition("=")[0]
        if name in self._options_of_commands():
            return f"{name} belongs after the command: {self.prog} COMMAND {name}"
        return f"unknown option {name}{suggest(name, self._option_string_actions)}"

    def _options_of_commands(self) -> set[str]:
        commands = [
            command
            for action in self._actions
            if isinstance(action, argparse._SubParsersAction)  # noqa: SLF001  there is no other
            for command in action.choices.values()
        ]
        return {name for command in commands for name in command._option_string_actions}  # noqa: SLF001


def add_parser(commands: Any, name: str, run: Run, *, epilog: str) -> argparse.ArgumentParser:
    """Return the new parser of a subcommand, which ``run`` runs."""
    summary = COMMANDS[name]
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=epilog,
        formatter_class=make_formatter,
    )
    command.set_defaults(run_command=run)
    return command
