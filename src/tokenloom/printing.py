"""What the commands print: tables and JSON on stdout, messages on stderr."""

import json
import math
import sys
from collections.abc import Sequence
from typing import Any

from tokenloom.errors import TokenloomError


def print_json(value: Any) -> None:
    """Print a JSON-able value; numbers that are not finite, which JSON lacks, as null."""
    print(json.dumps(_finite(value), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    match value:
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list():
            return [_finite(item) for item in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows of cells, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def say(message: str) -> None:
    """Print a message to people, which is no result."""
    print(f"tokenloom: {message}", file=sys.stderr)


def say_error(error: Exception) -> None:
    """Print an error in one line: all of one of ours, the first line of another."""
    text = str(error)
    # PyTorch's messages go on with the places in its own code.
    is_ours = isinstance(error, TokenloomError)
    say("error: " + " ".join((text if is_ours else text.strip().partition("\n")[0]).split()))
