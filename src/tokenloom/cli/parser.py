"""The parser of the command line, which explains wrong usage in two lines."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

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

Run = Callable[[argparse.Namespace], int | None]


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps examples as they are written, and shows defaults that are not empty."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if any(action.default is empty for empty in (None, False, argparse.SUPPRESS)):
            return action.help
        return f"{action.help} (default: %(default)s)"


class CommandParser(argparse.ArgumentParser):
    """A parser that takes options by their whole names, and explains wrong usage in two lines.

    The namespace that it returns also has ``given``, the names of what was
    typed, and ``options``, what is typed for each name.
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
        """Parse without defaults, which shows what was typed, and fill them in afterwards."""
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
        formatter_class=_HelpFormatter,
    )
    command.set_defaults(run_command=run)
    return command
