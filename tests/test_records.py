"""What a run writes down, as lines of JSON."""

from pathlib import Path

from tokenloom.records import (
    EpochMetrics,
    StepLosses,
    append_losses,
    append_metrics,
    cut_losses,
    cut_metrics,
    read_losses,
    read_metrics,
)


def test_what_comes_after_a_step_is_forgotten(tmp_path: Path) -> None:
    """Whole lines stay as they were written; a line that was broken off goes too."""
    path = tmp_path / "metrics.jsonl"
    metrics = [
        EpochMetrics(epoch=epoch, step=8 * epoch + 8, perplexity=2.5, tokens_per_second=1.0)
        for epoch in range(3)
    ]
    for entry in metrics:
        append_metrics(path, entry)
    before = path.read_text().splitlines(keepends=True)
    with path.open("a") as file:
        file.write('{"epo')
    assert metrics[:2] == cut_metrics(path, step=23)
    assert "".join(before[:2]) == path.read_text()
    assert metrics[:2] == read_metrics(path)


def test_losses_of_which_one_comes_after_are_forgotten(tmp_path: Path) -> None:
    """A record stays only where all its steps are before."""
    path = tmp_path / "losses.jsonl"
    parts = [
        StepLosses(step=1, epoch=0, batch=0, losses=[2.5, 1.5]),
        StepLosses(step=3, epoch=1, batch=0, losses=[2.0, 1.0]),
    ]
    for part in parts:
        append_losses(path, part)
    assert parts == cut_losses(path, step=4)
    assert parts[:1] == cut_losses(path, step=3)
    assert parts[:1] == read_losses(path)


def test_nothing_is_cut_where_there_is_nothing(tmp_path: Path) -> None:
    """A run that was killed before its first epoch has no such file, and gets none."""
    assert [] == cut_metrics(tmp_path / "metrics.jsonl", step=0)
    assert [] == list(tmp_path.iterdir())
