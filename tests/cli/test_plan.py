"""The command that shows who reads what."""

from pathlib import Path

import pytest

import tokenloom as tl
from tests.cli.printing import SHAPE, facts, printed
from tests.support.preparation.stores import make_store
from tokenloom.cli.main import main
from tokenloom.plan.plan import Plan


def test_plan_prints_who_reads_what(book: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The accounting, each rank's rows, each worker's batches, and the first starts."""
    options = ["--order", "random", "--seed", "7", "--epoch", "2", "--ranks", "2", "--workers", "3"]
    lines = printed(["plan", book, *SHAPE, *options], capsys)
    num_tokens = len(tl.load(book))
    plan = Plan(kind="random", num_tokens=num_tokens, seq_len=10, batch_size=4, seed=7, epoch=2)
    assert "random order, seed 7, epoch 2, 4 rows x 10 tokens, tail drop" in lines[0]
    rows = [line.split() for line in lines]
    for name in ("num_batches", "num_inputs", "num_dropped", "phase"):
        (row,) = (row for row in rows if row[:1] == [name.removeprefix("num_")])
        assert f"{getattr(plan, name):,}" == row[1]
    assert ["1", "[2,", "4)"] in rows
    assert ["1", "1,", "4,", "7,", "..."] in [row[:5] for row in rows]
    starts = [f"{start:,}" for start in plan.starts(range(1, 2))[0]]
    assert ["1", *starts] in rows


@pytest.mark.parametrize(
    ("text", "options", "cure"),
    [
        ("long", [], "reads only 10,000 of the 20,000 tokens; --max-tokens 10000 shows the"),
        (
            "long",
            ["--held-out", "0.2"],
            "reads only 10,000 of the 16,000 tokens; --max-tokens 10000 shows",
        ),
        ("long", ["--max-tokens", "5000"], None),
        ("long", ["--max-tokens", "10000"], None),
        ("short", [], "reads only 900 of the 1,000 tokens; --held-out 0.1 shows"),
        ("short", ["--held-out", "0.1"], None),
        ("short", ["--held-out", "0"], None),
    ],
)
@pytest.mark.parametrize("command", ["plan", "show"])
def test_what_a_training_leaves_out_is_reported(
    command: str,
    text: str,
    options: list[str],
    cure: str | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without options these commands read all of a text, and a training a part of it."""
    path = tmp_path / "text.txt"
    path.write_text("ab" * (500 if text == "short" else 10_000), encoding="utf-8")
    assert main([command, str(path), *SHAPE, *options]) == 0
    shown = capsys.readouterr()
    assert "" == shown.err
    note = shown.out.partition("note: ")[2].replace("\n", " ")
    assert "" == note if cure is None else cure in note


def test_plan_for_programs(book: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The keys are stable."""
    found = facts(["plan", book, *SHAPE, "--ranks", "4", "--workers", "2"], capsys)
    expected = {
        "corpus", "order", "seed", "epoch", "batch_size", "seq_len", "tail", "num_tokens",
        "num_batches", "num_windows", "num_inputs", "num_dropped", "fill", "phase", "num_phases",
        "parts",
        "world_size", "num_workers", "block_size", "ranks", "workers", "first_starts", "plot",
    }  # fmt: skip
    assert expected == set(found)
    assert [3, 3, 4] == list(found["ranks"][3].values())
    counts = [worker["dataloader"]["num_batches"] for worker in found["workers"]]
    assert sum(counts) == found["num_batches"]
    assert {"first_batch": 1, "step": 2} == {
        name: found["workers"][1]["dataloader"][name] for name in ("first_batch", "step")
    }


def test_plan_of_packed_documents_prints_how_full_rows_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no phase, and the picture is of rows and documents."""
    store = str(make_store(tmp_path / "store"))
    shape = ["--order", "packed", "--seq-len", "3", "--batch-size", "1"]
    path = tmp_path / "packed.svg"
    lines = printed(["plan", store, *shape, "--plot", str(path)], capsys)
    rows = {line.split()[0]: line for line in lines if line}
    assert "% of all positions have an input" in " ".join(rows["fill"].split())
    assert "of whole documents" in rows["rows"]
    assert "phase" not in rows
    assert path.read_text().startswith("<?xml")


def test_packed_order_needs_documents(book: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A text that has none is refused by name."""
    assert main(["plan", book, "--order", "packed"]) == 1
    assert "packed order needs documents" in capsys.readouterr().err


def test_plan_draws_both_orders(
    book: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Side by side, in the file that was named."""
    path = tmp_path / "plan.svg"
    assert printed(["plan", book, *SHAPE, "--plot", str(path)], capsys)[-1] == f"plot: {path}"
    assert path.read_text().startswith("<?xml")
    assert main(["plan", book, *SHAPE, "--plot", "plan.doc"]) == 1
    assert "must end in .png, .svg or .pdf, got 'plan.doc'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ranks", "3"], "--ranks must divide --batch-size 4, got 3: use 2 or 4 processes"),
        (["--workers", "-1"], "--workers must be an integer in [0, 4096), got -1"),
        (["--epoch", "-1"], "epoch must be an integer in [0, "),
    ],
)
def test_a_plan_that_cannot_be_is_one_line(
    options: list[str], message: str, book: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and nothing on stdout."""
    assert main(["plan", book, *SHAPE, *options]) == 1
    shown = capsys.readouterr()
    assert (shown.out, 1) == ("", len(shown.err.splitlines()))
    assert message in shown.err


def test_nouns_agree_with_their_numbers(book: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An epoch may be a single batch of a single row."""
    shown = "\n".join(printed(["plan", book, "--batch-size", "1", "--seq-len", "1500"], capsys))
    for words in ("1 row x 1,500 tokens", "these rows of 1 batch\n", "blocks of 1 batch, each"):
        assert words in shown


SIZES = ["--order", "random", "--batch-size", "0:4,30:6", "--seq-len", "10"]


def test_batches_that_grow_are_planned(book: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The sizes of the epoch, the rows of its first batch, and the text for programs."""
    lines = printed(["plan", book, *SIZES, "--ranks", "2"], capsys)
    assert "epoch 0, 4, then 6 rows x 10 tokens" in lines[0]
    rows = [line.split() for line in lines]
    assert ["1", "[2,", "4)"] in rows
    (batches,) = (row for row in rows if row[:1] == ["batches"])
    assert ["in", "this", "epoch"] == batches[2:]
    found = facts(["plan", book, *SIZES], capsys)
    assert "0:4,30:6" == found["batch_size"]
    num_windows = found["num_windows"]
    assert 8 + (num_windows - 32) // 6 == found["num_batches"]
    assert 3 == len(found["first_starts"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch-size", "0:4,30"], "--batch-size: must be an integer of at least 1, or pairs of"),
        (["--batch-size", "30:4"], "ascend from window 0, such as 0:32,10000:64, got '30:4'"),
        (["--batch-size", "0:4,30:6", "--order", "sequential"], "must be an integer in sequential"),
        (["--batch-size", "0:4,30:6", "--ranks", "4"], "--ranks must divide --batch-size 6, got 4"),
        (
            ["--batch-size", "0:4,30:6", "--plot", "p.png"],
            "leave out --plot: a picture has batches",
        ),
    ],
)
def test_sizes_that_cannot_be_are_one_line(
    options: list[str], message: str, book: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was typed is named."""
    shape = ["--order", "random", "--seq-len", "10"]
    is_usage = options[-1] in ("0:4,30", "30:4")
    assert main(["plan", book, *shape, *options]) == (2 if is_usage else 1)
    assert message in capsys.readouterr().err


def test_batches_that_grow_are_shown(book: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each with its own number of rows."""
    for batch, num_rows in ((7, 4), (8, 6)):
        lines = printed(["show", book, *SIZES, "--batch", str(batch)], capsys)
        assert f"{num_rows} rows x 10 tokens" in lines[0]
        assert 4 == sum(line.startswith("row ") for line in lines)
