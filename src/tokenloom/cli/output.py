"""What the commands print: tables and JSON on stdout, errors and messages on stderr."""

import argparse
import contextlib
import functools
import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tokenloom._wording import escape, redact
from tokenloom.errors import TokenloomError

# Arguments of the library, with their names at the command line, without "--".
_OPTIONS = {
    "batches_per_update": "accumulate",
    "normalize": "raw",
    "num_epochs": "epochs",
    "num_threads": "threads",
    "num_tokens": "epoch_tokens",
    "num_workers": "workers",
    "sample_epochs": "sample_every",
    "sample_prompt": "prompt",
    "splits": "split",
    "warmup_updates": "warmup",
    "world_size": "ranks",
}
# An argument with or without its value, as the subject of a sentence, or anywhere if it is
# no English word, but not as a part of a name of Python or of a file.
_ARGUMENT = re.compile(
    r"(?<![\w.-])(?P<name>[a-z][a-z_]*)=(?P<value>'[^']*'|\"[^\"]*\"|[\w.+-]*\w|(?=[ ,:;]))"
    r"|(?:^|(?<=[:;,] ))(?P<subject>[a-z][a-z_]*)(?= must |: saved | was [^ ]+, now )"
    r"|(?<![\w./'\"-])(?<!\w\()(?P<word>[a-z]+(?:_[a-z]+)+)(?![\w/('\"-]|\.\w)"
)
# What the library advises in Python, and what takes its place at the command line.
_ADVICE = {
    "normalize=False (--raw)": "--raw",
    ", or None for no limit": "",
    "field= or --field": "--field",
    "[0, vocab_size=": "[0, ",
    "across_documents=False": "--within-documents",
    "resets=False": "--across-documents",
    "make it with prepare or Corpus.from_documents, pass documents=... to Corpus.from_tokens, or "
    "use RandomWindows": "make a store of it with tokenloom prepare and its --documents, or use "
    "--order random",
    "use RandomWindows(mixture), or join the corpora with Corpus.concatenate": "use --order random",
    "; texts in memory are passed as iter(texts)": "",
    "pass vocab_size=... to Corpus.from_tokens": "put its meta.pkl beside it, name the tokenizer "
    "that made it with --tokenizer, or make a store of it in Python with Corpus.from_tokens and "
    "Corpus.save",
}
_SWITCHES = ("True", "False")
_QUOTES = "'\""


def print_json(value: Any) -> None:
    """Print a JSON-able value; numbers that are not finite, which JSON lacks, as null."""
    print(json.dumps(_finite(value), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    match value:
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows of cells, each column as wide as its widest cell."""
    for line in format_table(rows):
        print_line(line)


def format_table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the lines that `print_table` prints."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def print_line(text: str, *, end: str = "\n") -> None:
    """Print a result, with control characters other than line ends and tabs made visible."""
    print(escape(text), end=end, flush=not end)


def print_message(message: str) -> None:
    """Print a message, which is no result, to stderr in one line."""
    # A closed stderr is no error.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(escape(redact(f"tokenloom: {' '.join(message.split())}")), file=sys.stderr)


def print_usage(usage: str) -> None:
    """Print how a command is used to stderr."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(escape(f"usage: {usage}"), file=sys.stderr)


def name_options(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the options by the names of their arguments, which a message may contain."""
    options: dict[str, str] = arguments.options
    if getattr(arguments, "resume", None) is None:
        return options
    # The other options come from the settings of the run, and keep their names.
    return {name: typed for name, typed in options.items() if name in arguments.given}


def as_options(message: str, options: Mapping[str, str]) -> str:
    """Return a message of the library with options in place of arguments.

    Parameters
    ----------
    message : str
    options : mapping of str to str
        The option that is typed for each argument of the command.

    >>> as_options("use num_workers=0", {"workers": "--workers"})
    'use --workers 0'
    """
    for in_python, here in _ADVICE.items():
        message = message.replace(in_python, here)
    names = {name: options[option] for name, option in _OPTIONS.items() if option in options}
    names = {**options, **names}

    def replace(found: re.Match[str]) -> str:
        option = names.get(found["name"] or found["subject"] or found["word"])
        if option is None:
            return found[0]
        value = found["value"]
        if not value or value in _SWITCHES:
            return option
        return f"{option} {value.strip(_QUOTES)}"

    return _ARGUMENT.sub(replace, message)


def _join_lines(text: str) -> str:
    r"""Return a message in one line, in which commas separate its indented lines.

    >>> _join_lines("They differ.\n  a: saved 1, now 2\n  b: saved 3, now 4\nUse the saved ones.")
    'They differ: a: saved 1, now 2, b: saved 3, now 4. Use the saved ones.'
    """
    head, *lines = text.split("\n")
    items = [line.strip() for line in lines if line.startswith("  ")]
    if not items or items != [line.strip() for line in lines[: len(items)]]:
        return text
    rest = " ".join(lines[len(items) :])
    return f"{head.rstrip('.')}: {', '.join(items)}. {rest}".rstrip()


def print_error(error: Exception, *, options: Mapping[str, str] | None = None) -> None:
    """Print an error in one line; of errors of other libraries only the first line."""
    text = _join_lines(str(error))
    # PyTorch's messages continue with places in its own code.
    is_ours = isinstance(error, TokenloomError)
    line = as_options(text, options or {}) if is_ours else text.strip().partition("\n")[0]
    print_message(f"error: {line or type(error).__name__}")


def make_reporter(arguments: argparse.Namespace) -> Callable[[Exception], None]:
    """Return a function that prints an error in the words of the options of a command."""
    return functools.partial(print_error, options=name_options(arguments))
