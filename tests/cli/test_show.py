"""The command that shows batches as text."""

import itertools
import json
import shutil
from pathlib import Path

import pytest

import tokenloom as tl
from tests.cli.printing import SHAPE, facts, printed
from tests.support.preparation.stores import make_store
from tests.support.training.trainings import BOOK
from tokenloom.cli.main import main


def test_a_launcher_does_not_halve_the_batch(
    book: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands run in one process and show whole batches."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["show", book, "--batch-size", "4", "--seq-len", "10"]) == 0
    assert "4 rows x 10 tokens" in capsys.readouterr().out


def test_a_store_is_a_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Commands that take a corpus take the folder of a store."""
    folder = str(make_store(tmp_path / "store"))
    assert main(["show", folder, "--batch-size", "1", "--seq-len", "3"]) == 0
    assert "inputs   'or not" in capsys.readouterr().out


class Letters:
    """A tokenizer of one's own."""

    vocab_size = 128

    def encode(self, text: str) -> list[int]:
        """Return ids."""
        return [*map(ord, text)]

    def decode(self, ids: list[int]) -> str:
        """Return the text of ids."""
        return "".join(map(chr, ids))


def test_ids_in_place_of_text_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A store holds no tokenizer of one's own, and ids may have none at all."""
    monkeypatch.chdir(tmp_path)
    tl.Corpus.from_text("to be or not " * 9, tokenizer=Letters()).save("own")
    tl.Corpus.from_tokens(list(range(9)) * 9).save("ids")
    assert main(["show", "own", *SHAPE]) == 0
    shown = capsys.readouterr()
    assert "inputs   '32 110 111" in shown.out
    expected = "own was made with a tokenizer of your own, Letters, which no store holds: in Python"
    assert f"tokenloom: ids are shown in place of text: {expected}, " in shown.err
    assert main(["show", "ids", *SHAPE]) == 0
    assert "ids holds ids, and no tokenizer that could turn" in capsys.readouterr().err
    cells = [
        "one of your own",
        "type Letters",
        "not in the store: give it to Corpus.open in Python",
    ]
    assert f"tokenizer   {', '.join(cells)}" in printed(["info", "own"], capsys)


def test_show_prints_the_documents_of_packed_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each piece has its document, and nothing of another one."""
    folder = make_store(tmp_path / "store")
    shape = ["--order", "packed", "--seq-len", "40", "--batch-size", "1", "--tail", "pad"]
    lines = printed(["show", str(folder), *shape], capsys)
    found = facts(["show", str(folder), *shape], capsys)
    corpus = tl.Corpus.open(folder, split="train")
    assert corpus.documents is not None
    bounds = itertools.pairwise(corpus.documents.tolist())
    texts = {corpus.decode(corpus.tokens[start : stop - 1]) for start, stop in bounds} - {""}
    pieces = [piece for row in found["rows"] for piece in row["pieces"]]
    assert texts == {piece["inputs"] for piece in pieces}
    assert lines[1].startswith(f"row 0: {len(pieces)} piece")
    # The last lines say what a training reads of it.
    assert "" == lines[2 + 3 * len(pieces)]


def test_show_prints_rows_of_a_batch(book: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Inputs, and targets moved on by one."""
    options = ["--order", "random", "--epoch", "3", "--batch", "7", "--rows", "0,2"]
    lines = printed(["show", book, *SHAPE, *options], capsys)
    assert "random order, epoch 3, batch 7 of " in lines[0]
    assert ["row 0", "row 2"] == [line.split(":")[0] for line in lines[1:-3:3]]
    inputs, targets = (line.split("'")[1] for line in lines[2:4])
    assert inputs[1:] == targets[:-1]


def test_show_for_programs(book: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The text is that of the tokens that are named."""
    found = facts(["show", book, *SHAPE, "--rows", "2", "--tail", "pad"], capsys)
    assert {
        "corpus", "order", "epoch", "batch", "num_batches", "num_rows", "seq_len", "rows"
    } == set(found)  # fmt: skip
    (row,) = found["rows"]
    corpus = tl.load(book)
    assert corpus.decode(corpus.tokens[row["start"] : row["stop"] - 1]) == row["inputs"]
    assert corpus.decode(corpus.tokens[row["start"] + 1 : row["stop"]]) == row["targets"]


def test_show_goes_back_to_a_step_of_a_run(
    run: Path, book: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is printed is the batch that the plan has for that step."""
    num_batches = len(tl.Run.open(run).losses()[0].losses)
    step = num_batches + 3
    first, *lines = printed(["show", str(run), "--step", str(step), "--rows", "1"], capsys)
    assert first.startswith(f"step {step}: loss ")
    assert f"{book}: sequential order, epoch 1, batch 2 of {num_batches}, 4 rows" in lines[0]
    found = facts(["show", str(run), "--step", str(step), "--rows", "1"], capsys)
    assert {"run", "step", "loss"} <= set(found)
    assert f"  inputs   {found['rows'][0]['inputs']!r}" == lines[2]


def test_show_reads_the_batches_of_a_run_where_it_holds_out_the_same_text(
    book: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The options of train choose the same part of the text, which by default is all of it."""
    run = str(tmp_path / "run")
    assert main(["train", book, *SHAPE, "--epochs", "1", "--run", run, "--quiet"]) == 0
    capsys.readouterr()
    _, *of_run = printed(["show", run, "--step", "2", "--rows", "0,1,2,3"], capsys)
    batch = ["show", book, *SHAPE, "--batch", "1"]
    assert printed([*batch, "--max-tokens", "10000", "--held-out", "0.1"], capsys) == of_run
    assert printed(batch, capsys) != of_run
    assert main(["show", run, "--step", "2", "--held-out", "0.1"]) == 1
    assert "leave out --held-out" in capsys.readouterr().err


def test_show_finds_the_spikes_of_a_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The step whose loss stands out, with its text; no more than were asked for."""
    path = run / "losses.jsonl"
    first, second, third = map(json.loads, path.read_text().splitlines())
    second["losses"][1], third["losses"][2:4] = 40.0, [90.0, 91.0]
    for line in (first, second, third):
        # Lines of older releases do not name the line before.
        line.pop("after", None)
    path.write_text("".join(json.dumps(line) + "\n" for line in (first, second, third)))
    # It would know that these are not its losses.
    shutil.rmtree(run / "checkpoints")
    spikes = ["show", str(run), "--spikes", "--threshold", "9"]
    lines = printed([*spikes, "--rows", "0"], capsys)
    assert "2 spikes in " in lines[0]
    shown = [line for line in lines if line.startswith("step ")]
    assert [
        f"step {third['step'] + 2}: loss 90.000",
        f"step {second['step'] + 1}: loss 40.000",
    ] == [line.split(",")[0] for line in shown[:2]]
    assert shown[0].endswith("and 1 step after it")
    assert shown[2].endswith("deviations, below the threshold")
    found = facts([*spikes, "--top", "1"], capsys)
    assert (2, 1) == (found["num_spikes"], len(found["spikes"]))
    assert {"first_step", "stop_step", "usual_loss", "deviations", "is_spike", "rows"} <= set(
        found["spikes"][0]
    )


def test_show_lists_what_comes_closest_to_a_spike(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its score, where nothing is above the threshold; and marks it on the curve."""
    picture = tmp_path / "loss.svg"
    options = ["--spikes", "--threshold", "99", "--rows", "0", "--top", "2"]
    lines = printed(["show", str(run), *options, "--plot", str(picture)], capsys)
    assert lines[0].startswith("no spike in ")
    assert lines[0].endswith("no loss lies 99 deviations above the running median")
    assert lines[1] == "those that come closest:"
    assert 2 == sum(line.startswith("step ") and "deviations" in line for line in lines)
    assert f"plot: {picture}" == lines[-1]
    assert picture.read_text(encoding="utf-8").startswith("<?xml")
    assert 1 == main(["show", str(run), "--spikes", "--threshold", "0"])
    assert "--threshold must be above 0" in capsys.readouterr().err
    assert 1 == main(["show", str(run), "--step", "1", "--plot", str(picture)])
    assert "leave out --plot: only --spikes of a run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "is a run: choose its text with --step N or --spikes"),
        (["--step", "1", "--epoch", "1"], "leave out --epoch: a run has its own text and batches"),
        (["--spikes", "--batch-size", "5"], "leave out --batch-size: a run has its own"),
        (["--step", "0"], "step must be in [1, "),
        (["--step", "1", "--rows", "4"], "rows must be in [0, 4), got 4"),
    ],
)
def test_what_a_run_cannot_show_is_one_line(
    options: list[str], message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An option that would have no effect is an error too."""
    assert main(["show", str(run), *options]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_steps_are_of_runs(book: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A corpus has none."""
    assert main(["show", book, "--step", "3"]) == 1
    assert "--step and --spikes need the folder of a run" in capsys.readouterr().err


def test_a_named_corpus_is_not_hidden_by_a_run(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a run's folder is called like it, the steps are the run's and the batches its own."""
    run.rename(run.with_name("python_docs"))
    monkeypatch.chdir(run.parent)
    assert main(["show", "python_docs", *SHAPE]) == 1
    assert "'./python_docs' for the folder, or 'dataset:python_docs'" in capsys.readouterr().err
    shown = printed(["show", "dataset:python_docs", *SHAPE], capsys)
    assert "python_docs: sequential order" in shown[0]
    assert printed(["show", "python_docs", "--step", "1"], capsys)[0].startswith("step 1: loss ")


def test_another_text_is_one_line(run: Path, book: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is shown that the model did not see."""
    Path(book).write_text(BOOK.replace("Time", "Mite"))
    assert main(["show", str(run), "--step", "3"]) == 1
    shown = capsys.readouterr()
    assert (shown.out, 1) == ("", len(shown.err.splitlines()))
    assert "put the text there that it was trained on" in shown.err
