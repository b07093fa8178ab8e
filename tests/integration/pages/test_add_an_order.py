"""The page about new orders: what it says is done in a copy of the source tree, and works."""

import json
from pathlib import Path

import pytest

from tests.support.source_copy import PAGES, copy_source, read_named_blocks, run_python

PAGE = PAGES / "add-an-order.md"
ORDER, PLAN = "src/tokenloom/plan/rotated.py", "src/tokenloom/plan/plan.py"
# What the page says in words: what to import at the top of the file.
IMPORT = "from tokenloom.plan.rotated import RotatedOrder\n"
BLOCKS = read_named_blocks(PAGE, "python")
LIST = "_ORDERS: tuple[Order, ...] = (\n"


def _block(word: str) -> str:
    (code,) = [code for name, code in BLOCKS if not name and word in code]
    return code


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the source, with what the page adds."""
    tree = copy_source(tmp_path_factory.mktemp("tree"))
    for name, code in BLOCKS:
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


def test_the_page_names_two_files() -> None:
    """An order takes a new file and a line."""
    assert [ORDER, PLAN] == [name for name, _ in BLOCKS if name]


def test_the_order_has_the_hash_that_pins_it(tree: Path) -> None:
    """What the page prints is what the page pins."""
    (code,) = [code for name, code in BLOCKS if name == ORDER]
    assert run_python(tree, "-c", _block("digest_plan")).strip() in code


def test_the_order_keeps_the_laws(tree: Path) -> None:
    """The page's own lines run: tokens, counts, ranks, seeds, state, cost, workers and resume."""
    run_python(tree, "-W", "error", "-c", _block("assert_resumes_everywhere"))


def test_commands_know_the_order(tree: Path) -> None:
    """It can be chosen, and its plan is printed."""
    (tree / "book.txt").write_text("the time traveller smiled\n" * 40, encoding="utf-8")
    options = ["--order", "rotated", "--batch-size", "4", "--seq-len", "10", "--json"]
    plan = json.loads(run_python(tree, "-m", "tokenloom", "plan", "book.txt", *options))
    assert "rotated" == plan["order"]


@pytest.mark.slow
def test_the_selftest_checks_the_order(tree: Path) -> None:
    """All laws, in all ways to read, also by the workers of a DataLoader."""
    options = ["--start-methods", "fork", "--workers", "2", "--batch-size", "4", "--seq-len", "8"]
    found = json.loads(
        run_python(tree, "-m", "tokenloom", "selftest", *options, "--quiet", "--json")
    )
    assert found["holds"]
    laws = {check["law"] for check in found["checks"] if "rotated" in check["what"]}
    assert {check["law"] for check in found["checks"]} == laws
