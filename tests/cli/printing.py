"""What commands printed."""

import json
from typing import Any

import pytest

from tokenloom.cli.main import main

SHAPE = ["--batch-size", "4", "--seq-len", "10"]


def printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the lines that a command printed."""
    assert main(arguments) == 0
    return capsys.readouterr().out.splitlines()


def facts(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    """Return what a command printed for programs."""
    return json.loads("\n".join(printed([*arguments, "--json"], capsys)))
