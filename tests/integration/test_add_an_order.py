"""The page about new orders: what it says is done in a copy of the source tree, and works."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/contributing/add-an-order.md"
ORDER, PLAN = "src/tokenloom/plan/rotated.py", "src/tokenloom/plan/plan.py"
# What the page says in words: what to import at the top of the file.
IMPORT = "from tokenloom.plan.rotated import RotatedOrder\n"
LIST = "_ORDERS: tuple[Order, ...] = (\n"


def _blocks() -> list[tuple[str, str]]:
    """Return the file that each Python block of the page names, which may be none, and its code."""
    blocks = re.findall(
        r"^```python\n(?:# (\S+\.py)[^\n]*\n)?(.*?)^```$",
        PAGE.read_text("utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    return [(name, code) for name, code in blocks]


def _block(word: str) -> str:
    (code,) = [code for name, code in _blocks() if not name and word in code]
    return code


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the source, with what the page adds."""
    tree = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "src", tree / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name, code in _blocks():
        path = tree / name
        if name == ORDER:
            path.write_text(code, encoding="utf-8")
        elif name == PLAN:
            plan = path.read_text("utf-8")
            assert LIST in plan
            plan = plan.replace(LIST, f"{LIST}    {code.rstrip()},\n").replace(
                '"""\n\n', f'"""\n\n{IMPORT}', 1
            )
            path.write_text(plan, encoding="utf-8")
    return tree


def _run(tree: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree / "src"), "TOKENLOOM_CACHE": str(tree / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_names_two_files() -> None:
    """An order takes a new file and a line."""
    assert [ORDER, PLAN] == [name for name, _ in _blocks() if name]


def test_the_order_has_the_hash_that_pins_it(tree: Path) -> None:
    """What the page prints is what the page pins."""
    (code,) = [code for name, code in _blocks() if name == ORDER]
    assert _run(tree, "-c", _block("digest_plan")).strip() in code


def test_the_order_keeps_the_laws(tree: Path) -> None:
    """The page's own lines run: tokens, counts, ranks, seeds, state, cost, workers and resume."""
    _run(tree, "-W", "error", "-c", _block("assert_resumes_everywhere"))


def test_commands_know_the_order(tree: Path) -> None:
    """It can be chosen, and its plan is printed."""
    (tree / "book.txt").write_text("the time traveller smiled\n" * 40, encoding="utf-8")
    options = ["--order", "rotated", "--batch-size", "4", "--seq-len", "10", "--json"]
    plan = json.loads(_run(tree, "-m", "tokenloom", "plan", "book.txt", *options))
    assert "rotated" == plan["order"]


@pytest.mark.slow
def test_the_selftest_checks_the_order(tree: Path) -> None:
    """All laws, in all ways to read, also by the workers of a DataLoader."""
    options = ["--start-methods", "fork", "--workers", "2", "--batch-size", "4", "--seq-len", "8"]
    found = json.loads(_run(tree, "-m", "tokenloom", "selftest", *options, "--quiet", "--json"))
    assert found["holds"]
    laws = {check["law"] for check in found["checks"] if "rotated" in check["what"]}
    assert {check["law"] for check in found["checks"]} == laws
