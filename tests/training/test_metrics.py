"""What a run writes down, as lines of JSON."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.training.metrics import EpochMetrics, Records, StepLosses


def test_what_comes_after_a_step_is_forgotten(tmp_path: Path) -> None:
    """Whole lines stay as they were written; a line that was broken off goes too."""
    path = tmp_path / "metrics.jsonl"
    records = Records(path, EpochMetrics)
    metrics = [
        EpochMetrics(epoch=epoch, step=8 * epoch + 8, perplexity=2.5, tokens_per_second=1.0)
        for epoch in range(3)
    ]
    for entry in metrics:
        records.append(entry)
    before = path.read_text().splitlines(keepends=True)
    with path.open("a") as file:
        file.write('{"epo')
    assert metrics[:2] == records.cut(step=23)
    assert "".join(before[:2]) == path.read_text()
    assert metrics[:2] == records.read()


def test_losses_of_which_one_comes_after_are_forgotten(tmp_path: Path) -> None:
    """A record stays only where all its steps are before."""
    records = Records(tmp_path / "losses.jsonl", StepLosses)
    parts = [
        StepLosses(step=1, epoch=0, batch=0, losses=[2.5, 1.5]),
        StepLosses(step=3, epoch=1, batch=0, losses=[2.0, 1.0]),
    ]
    for part in parts:
        records.append(part)
    assert parts == records.cut(step=4)
    assert parts[:1] == records.cut(step=3)
    assert parts[:1] == records.read()


def test_nothing_is_cut_where_there_is_nothing(tmp_path: Path) -> None:
    """A run that was killed before its first epoch has no such file, and gets none."""
    assert [] == Records(tmp_path / "metrics.jsonl", EpochMetrics).cut(step=0)
    assert [] == list(tmp_path.iterdir())


def write_epochs(path: Path, num_epochs: int = 4) -> list[str]:
    """Write the metrics of some epochs, and return the lines."""
    records = Records(path, EpochMetrics)
    for epoch in range(num_epochs):
        metrics = EpochMetrics(epoch=epoch, step=8 * epoch + 8, perplexity=2, tokens_per_second=1)
        records.append(metrics)
    assert records.last_digest == Records(path, EpochMetrics).last_digest
    return path.read_text(encoding="utf-8").splitlines(keepends=True)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda lines: lines[1:], "line 1 of metrics.jsonl is not the first"),
        (lambda lines: [lines[0], *lines[2:]], "line 2 of metrics.jsonl does not follow line 1"),
        (lambda lines: [*lines[:2], *lines[1:]], "line 3 of metrics.jsonl does not follow line 2"),
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], "line 2 .* does not follow"),
        (
            lambda lines: [lines[0].replace("2", "3"), *lines[1:]],
            "line 2 of metrics.jsonl does not follow line 1",
        ),
        (
            lambda lines: [*lines[:3], json.dumps({"epoch": 3, "step": 32}) + "\n"],
            "line 4 of metrics.jsonl lacks",
        ),
    ],
    ids=["first lost", "lost", "doubled", "swapped", "changed", "without digest"],
)
def test_lines_that_are_not_as_they_were_written_are_refused(
    harm: Callable[[list[str]], list[str]], message: str, tmp_path: Path
) -> None:
    """Each line names the one before it, so that none can go or come unseen."""
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(harm(write_epochs(path))), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        Records(path, EpochMetrics).read()


def test_lines_lost_at_the_end_are_refused(tmp_path: Path) -> None:
    """The digest that a checkpoint keeps is that of the last line of its time."""
    path = tmp_path / "metrics.jsonl"
    lines = write_epochs(path)
    records = Records(path, EpochMetrics)
    last = records.last_digest
    assert len(records.cut(step=32, last=last)) == 4
    path.write_text("".join(lines[:3]), encoding="utf-8")
    with pytest.raises(ValueError, match="must hold all lines up to the checkpoint, 3 of them"):
        records.cut(step=32, last=last)
    assert "".join(lines[:3]) == path.read_text(encoding="utf-8")


def test_lines_of_older_releases_are_read(tmp_path: Path) -> None:
    """They have no digests, and lines that have follow them."""
    path = tmp_path / "metrics.jsonl"
    lines = [json.loads(line) for line in write_epochs(path, 2)]
    for line in lines:
        del line["after"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    metrics = EpochMetrics(epoch=2, step=24, perplexity=2, tokens_per_second=1)
    records = Records(path, EpochMetrics)
    records.append(metrics)
    assert [0, 1, 2] == [entry.epoch for entry in records.read()]


@given(
    wrong=st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists), at=st.data()
)
def test_lines_of_other_values_are_value_errors(wrong: Any, at: st.DataObject) -> None:
    """Whatever a part of a line is: it is read as what it must be, or the line is named."""
    good = {"step": 1, "epoch": 0, "batch": 0, "losses": [0.5], "perplexity": 2.0}
    good |= {"tokens_per_second": 1.0, "held_out_perplexity": None}
    good |= {"held_out_perplexity_per_byte": None}
    name = at.draw(st.sampled_from([*good, "other"]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "records.jsonl")
        path.write_text(json.dumps({**good, name: wrong}) + "\n" + json.dumps(wrong) + "\n")
        for records in (Records(path, EpochMetrics), Records(path, StepLosses)):
            with pytest.raises(ValueError, match=r"line [12] of records"):
                records.read()
