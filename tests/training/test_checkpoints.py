"""The checkpoints of a run: the last few, and the best."""

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

import tokenloom as tl
from tokenloom.errors import RunError
from tokenloom.training.checkpoint import (
    Checkpoint,
    read_checkpoint,
    remove_later,
    write_checkpoint,
)

MODEL = tl.RNNModel(nn.RNN(5, 8), 5)


def write(folder: Path, step: int, *, keep: int = 2, is_best: bool = False) -> Path:
    """Write the checkpoint of a step."""
    checkpoint = Checkpoint.of(MODEL, epoch=0, step=step)
    return write_checkpoint(folder, checkpoint, keep=keep, is_best=is_best)


def steps(folder: Path) -> list[str]:
    """Return the marks and steps of the files in a folder."""
    return sorted(path.name.rpartition("-")[0] for path in folder.iterdir())


def test_the_last_few_stay(tmp_path: Path) -> None:
    """As many as asked for, and nothing else lies in the folder."""
    for step in (0, 5, 10, 15):
        write(tmp_path, step)
    assert ["step-000000010", "step-000000015"] == steps(tmp_path)


def test_a_step_has_one_checkpoint(tmp_path: Path) -> None:
    """A second one of a step replaces the first, and takes no place of another step."""
    write(tmp_path, 5)
    write(tmp_path, 10)
    checkpoint = Checkpoint.of(MODEL, epoch=1, step=10)
    write_checkpoint(tmp_path, checkpoint, keep=2)
    assert ["step-000000005", "step-000000010"] == steps(tmp_path)
    found = read_checkpoint(tmp_path)
    assert found is not None
    assert 1 == found.epoch


def test_the_best_stays(tmp_path: Path) -> None:
    """However many come after it; a better one takes its place."""
    write(tmp_path, 5, is_best=True)
    for step in (10, 15, 20):
        write(tmp_path, step)
    best = read_checkpoint(tmp_path, "best")
    assert best is not None
    assert 5 == best.step
    write(tmp_path, 25, is_best=True)
    assert ["best-000000025", "step-000000020", "step-000000025"] == steps(tmp_path)


def test_where_there_is_none(tmp_path: Path) -> None:
    """Nothing is found, in an empty folder and in one that does not exist."""
    assert read_checkpoint(tmp_path) is None
    assert read_checkpoint(tmp_path / "nothing") is None


def flip(content: bytes) -> bytes:
    """Turn over one bit in the middle."""
    half = len(content) // 2
    return content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]


@pytest.mark.parametrize(
    "spoil",
    [flip, lambda content: content[:-1], lambda _: b"", lambda content: content + b"\0"],
    ids=["bit", "cut", "empty", "longer"],
)
def test_a_damaged_one_falls_back_to_the_one_before(
    spoil: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    """A warning names the damaged file."""
    write(tmp_path, 5)
    newest = write(tmp_path, 10)
    newest.write_bytes(spoil(newest.read_bytes()))
    with pytest.warns(UserWarning, match=f"{newest.name}' is damaged.* the one before it"):
        found = read_checkpoint(tmp_path)
    assert found is not None
    assert 5 == found.step


def test_the_best_is_what_is_left(tmp_path: Path) -> None:
    """Where the last ones are damaged, the best goes before nothing."""
    write(tmp_path, 5, is_best=True)
    damaged = [write(tmp_path, step) for step in (10, 15)]
    for path in damaged:
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="is damaged"):
        found = read_checkpoint(tmp_path)
    assert found is not None
    assert 5 == found.step


def test_where_all_are_damaged(tmp_path: Path) -> None:
    """That is an error, since a training must not begin anew in silence."""
    write(tmp_path, 5).write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="is damaged"),
        pytest.raises(RunError, match=r"none of the 1 checkpoints in .* is whole"),
    ):
        read_checkpoint(tmp_path)


def test_what_comes_later_is_removed(tmp_path: Path) -> None:
    """With what a killed process left half-written; other files stay."""
    for step in (5, 10):
        write(tmp_path, step, is_best=True)
    (tmp_path / f".step-000000015.pt.{'0' * 16}.part").touch()
    (tmp_path / "notes.txt").touch()
    remove_later(tmp_path, step=5)
    assert ["", "step-000000005"] == steps(tmp_path)
