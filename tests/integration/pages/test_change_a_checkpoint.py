"""The page about checkpoints: what it says is done in a copy of the source tree, and works."""

import re
from pathlib import Path

import pytest
import torch

from tests.support.loading.process_resources import needs_proc
from tests.support.source_copy import PAGES, ROOT, copy_source, read_blocks
from tests.support.training.killed_recipes import assert_survives

PAGE = PAGES / "change-a-checkpoint.md"
FILES = {"src/tokenloom/training/state.py", "src/tokenloom/training/checkpoint.py"}


def _changes() -> list[tuple[str, str, str]]:
    """Return the file that each difference names, what stands there, and what is to stand there."""
    changes = []
    for block in read_blocks(PAGE, "diff"):
        head, *lines = block.splitlines(keepends=True)
        before, after = (
            "".join(line[1:] for line in lines if line[0] in signs) for signs in (" -", " +")
        )
        changes.append((head.removeprefix("--- ").strip(), before, after))
    return changes


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the source with the page's changes, which new processes import."""
    tree = copy_source(tmp_path / "tree")
    for name, before, after in _changes():
        text = (tree / name).read_text("utf-8")
        assert 1 == text.count(before), (name, before)
        (tree / name).write_text(text.replace(before, after), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tree / "src"))
    return tree


def test_page_names_two_files() -> None:
    """A new value takes a change of two files."""
    assert FILES == {name for name, _, _ in _changes()}
    assert FILES == set(re.findall(r"^- `(src/[\w/]+\.py)`", PAGE.read_text("utf-8"), re.MULTILINE))


def test_changes_fit_the_source() -> None:
    """What a difference of the page replaces stands once in the file that it names."""
    for name, before, _ in _changes():
        assert 1 == (ROOT / name).read_text("utf-8").count(before), (name, before)


@needs_proc
@pytest.mark.slow
def test_new_value_is_restored(tree: Path) -> None:
    """The page's program is killed in mid-epoch and started again, and ends bit by bit the same."""
    (program,) = read_blocks(PAGE, "python")
    (tree / "program.py").write_text(program, encoding="utf-8")

    runs = tree / "runs"
    runs.mkdir()
    assert_survives(runs, str(tree / "program.py"), "{}", kill_at=25, most_repeated=3)

    saved = max((runs / "killed" / "checkpoints").glob("step-*.pt"))
    (states,) = torch.load(saved, weights_only=True)["training"]["random"]
    assert {"cpu", "cuda", "python"} == set(states)
