"""The command that checks the laws."""

import json
from typing import Any

import pytest

from tokenloom.cli.main import main
from tokenloom.errors import LawError
from tokenloom.testing import selftest

SELFTEST = ["selftest", "python_docs", "--batch-size", "2", "--seq-len", "3", "--quiet"]


SELFTEST += ["--workers", "1", "--start-methods", "fork"]


@pytest.mark.slow
def test_selftest_for_programs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every check with what it found; a broken law is told, and the exit code is 1."""

    def break_law(*_: Any) -> None:
        msg = "on purpose"
        raise LawError(msg)

    monkeypatch.setattr(selftest, "check_seeds", break_law)
    assert main([*SELFTEST, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert ["holds", "machine", "checks"] == list(found)
    broken = [check for check in found["checks"] if check["problem"]]
    assert found["holds"] is False
    assert [{"8 seeds"}, {"LawError: on purpose"}] == [
        {check[name] for check in broken} for name in ("law", "problem")
    ]
    assert len(found["checks"]) > len(broken)
