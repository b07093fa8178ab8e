"""The command that measures streams."""

import json
from pathlib import Path

import pytest

from tokenloom.cli.main import main

BENCH = ["bench", "python_docs", "--workers", "0", "--seconds", "0.01", "--quiet"]


def test_bench_marks_what_it_recommends(capsys: pytest.CaptureFixture[str]) -> None:
    """One row of the table, and the Python that makes such a reader."""
    assert main([*BENCH, "--order", "random", "--tail", "pad"]) == 0
    shown = capsys.readouterr()
    header, *rows, _, recommended = shown.out.splitlines()
    assert ["READER", "WORKERS", "BLOCK", "PINNED", "MTOKENS/S", "WAITS"] == header.split()[:6]
    (best,) = (row.split() for row in rows if row.startswith("*"))
    assert recommended.startswith(f"recommended: {best[1]}(windows")
    assert shown.err == ""


def test_bench_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every setting with its medians; one is recommended; the picture is where it was asked for."""
    path = tmp_path / "bench.png"
    assert main([*BENCH, "--json", "--plot", str(path), "--batch-size", "8"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"windows", "measurements", "plot"} == set(found)
    assert (8, "python_docs") == (found["windows"]["batch_size"], found["windows"]["corpus"])
    names = ["setting", "tokens_per_second", "first_batch_seconds", "wait_seconds", "num_samples"]
    assert [[*names, "recommended"]] * len(found["measurements"]) == [
        list(row) for row in found["measurements"]
    ]
    assert sum(row["recommended"] for row in found["measurements"]) == 1
    assert {"Loader", "DataLoader"} == {r["setting"]["reader"] for r in found["measurements"]}
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seconds", "0"], "seconds must be in (0, inf), got 0.0"),
        (["--seconds", "nan"], "seconds must be in (0, inf), got nan"),
        (["--plot", "bench.doc"], "must end in .png, .svg or .pdf"),
    ],
)
def test_bench_refuses_in_one_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is measured."""
    assert main([*BENCH, *options]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
