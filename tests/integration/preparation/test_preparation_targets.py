"""Stores in places that are taken, or become so."""

from pathlib import Path
from typing import Any

import pytest

import tokenloom as tl
from tokenloom.preparation import prepare as prepare_module
from tokenloom.preparation.options import PrepareOptions
from tokenloom.preparation.prepare import prepare
from tokenloom.preparation.workdir import open_work_dir


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Return the path of a text."""
    path = tmp_path / "book.txt"
    path.write_text("to be, or not to be", encoding="utf-8")
    return path


def test_links_and_mount_points_are_not_replaced(
    book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are refused before the work, not after it."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    for name in ("link", "lost"):
        with pytest.raises(tl.StoreError, match=r"is a link or a mount point.*a folder in it"):
            prepare(book, tmp_path / name)
    monkeypatch.setattr("os.path.ismount", lambda path: Path(path).name == "folder")
    with pytest.raises(tl.StoreError, match="is a link or a mount point"):
        prepare(book, tmp_path / "folder")
    assert not list(tmp_path.glob(".*"))
    prepare(book, tmp_path / "store")
    (tmp_path / "lost").unlink()
    (tmp_path / "lost").symlink_to(tmp_path / "store")
    assert not prepare(book, tmp_path / "lost").is_new


@pytest.mark.parametrize("is_same", [True, False])
def test_another_process_may_be_faster(
    book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_same: bool
) -> None:
    """It finishes the store before this one has the folder; no second one is made."""
    target = tmp_path / "store"
    first = PrepareOptions(min_freq=0 if is_same else 3)

    def be_late(path: Path) -> Any:
        monkeypatch.undo()
        prepare(book, target, options=first)
        return open_work_dir(path)

    monkeypatch.setattr(prepare_module, "open_work_dir", be_late)
    if is_same:
        assert not prepare(book, target).is_new
        assert ["book.txt", "store"] == sorted(path.name for path in tmp_path.iterdir())
    else:
        with pytest.raises(tl.StoreError, match="min_freq was 3, now 0"):
            prepare(book, target)
