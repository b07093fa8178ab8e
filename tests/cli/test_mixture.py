"""Mixtures that are typed: their parts, stages, and how they are read."""

from pathlib import Path

import pytest

import tokenloom as tl
from tests.cli.printing import facts, printed
from tokenloom.cli.main import main

SHAPE = ["--batch-size", "4", "--seq-len", "10"]


@pytest.fixture(name="parts")
def fixture_parts(tmp_path: Path) -> list[str]:
    """Return two parts as they are typed: texts of different words."""
    for name, words in (("web", "the time machine "), ("code", "def return yield ")):
        (tmp_path / f"{name}.txt").write_text(words * 300, encoding="utf-8")
    return [f"web=0.7:{tmp_path / 'web.txt'}", f"code=0.3:{tmp_path / 'code.txt'}"]


def test_plan_accounts_for_each_part(parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Windows, tokens, and how often each is read, as the library says it."""
    rows = [line.split() for line in printed(["plan", *parts, *SHAPE], capsys)]
    found = facts(["plan", *parts, *SHAPE], capsys)
    corpora = {name: tl.Corpus.from_tokens([0] * 5099) for name in ("web", "code")}
    mixture = tl.Mixture({"web": (corpora["web"], 0.7), "code": (corpora["code"], 0.3)})
    windows = tl.RandomWindows(mixture, batch_size=4, seq_len=10, shard=tl.Shard())
    expected = {name: part._asdict() for name, part in windows.plan.accounting().items()}
    assert expected == found["parts"]
    assert "mixture" == found["order"]
    (row,) = (row for row in rows if row[0:1] == ["code"])
    assert f"{expected['code']['windows']:,}" == row[2]


@pytest.mark.parametrize("command", ["plan", "show"])
def test_what_a_training_leaves_out_of_the_parts_is_reported(
    command: str, parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of one text, with the options that read exactly what the training reads."""
    long = f"long=1:{tmp_path / 'long.txt'}"
    (tmp_path / "long.txt").write_text("the time machine " * 900, encoding="utf-8")
    for typed, note in (
        (parts, "reads only 9,178 of the 10,198 tokens;\n--held-out 0.1 shows the batches"),
        ([parts[0], long], "of the 20,398 tokens;\n--max-tokens 10000 --held-out 0.1 shows"),
    ):
        shown = "\n".join(printed([command, *typed, *SHAPE], capsys))
        assert note in shown
        options = shown.split(";\n")[1].split(" shows")[0].split()
        assert "note" not in "\n".join(printed([command, *typed, *SHAPE, *options], capsys))


def test_stages_and_epochs_are_typed(parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Weights that change, the length of an epoch, and a limit."""
    options = ["--stage", "1_000:web=0,code=1", "--epoch-tokens", "2000"]
    found = facts(["plan", *parts, *SHAPE, *options], capsys)
    # 70 % of 100 windows, rounded down.
    assert [69, 131] == [found["parts"][name]["windows"] for name in ("web", "code")]
    assert 1 == main(["plan", *parts, *SHAPE, *options, "--max-repeats", "0.1"])
    assert "the part 'web' would be read 0.14 times in 1 epoch" in capsys.readouterr().err


def test_show_prints_the_part_of_each_row(
    parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """As a word, and in JSON."""
    found = facts(["show", *parts, *SHAPE, "--rows", "0,1,2,3"], capsys)
    for row in found["rows"]:
        is_web = row["inputs"].strip() in "the time machine " * 3
        assert ("web" if is_web else "code") == row["part"]
        # Where it lies in its own text, and in no document of it.
        text = Path(dict(typed.split("=0.", 1) for typed in parts)[row["part"]][2:]).read_text()
        assert text[row["start"] : row["stop"] - 1] == row["inputs"]
        assert row["document"] is None
    lines = printed(["show", *parts, *SHAPE, "--rows", "0"], capsys)
    assert "web + code: random order of a mixture, epoch 0" in lines[0]
    begin = f"row 0: {found['rows'][0]['part']}, tokens [{found['rows'][0]['start']:,}, "
    assert lines[1].startswith(begin)


def test_a_document_of_a_part_counts_within_its_store(
    parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its tokens and its documents are those that the store alone has."""
    documents = ["the time machine"] * 99
    store = tl.Corpus.from_documents(documents).save(tmp_path / "store")
    found = facts(["show", parts[0], f"more=1:{store}", *SHAPE], capsys)
    for row in found["rows"]:
        if row["part"] == "more":
            assert row["start"] // len(documents[0]) == row["document"]
    assert {"more"} <= {row["part"] for row in found["rows"]}


def test_parts_may_be_stores_and_texts(
    parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A text gets the tokenizer of the store beside it."""
    store = tl.Corpus.from_text("the time machine " * 100, tokenizer="word").save(
        tmp_path / "store"
    )
    found = facts(["plan", f"web=1:{store}", parts[1], *SHAPE], capsys)
    assert 300 + 900 == found["num_tokens"]


def test_a_mixture_is_drawn(parts: list[str], tmp_path: Path) -> None:
    """Its shares over the training."""
    picture = tmp_path / "shares.svg"
    assert 0 == main(["plan", *parts, *SHAPE, "--plot", str(picture)])
    assert "times read" in picture.read_text(encoding="utf-8")


def test_the_speed_of_a_mixture_is_measured(
    parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Like that of a corpus."""
    found = facts(
        ["bench", *parts, *SHAPE, "--workers", "0", "--seconds", "0.1", "--quiet"], capsys
    )
    assert "web + code" == found["windows"]["corpus"]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (
            ["web=1:a.txt", "b.txt"],
            "several corpora make a mixture: each must be NAME=WEIGHT:CORPUS",
        ),
        (
            ["web=x:a.txt", "b=1:b.txt"],
            "must be NAME=WEIGHT:CORPUS, such as web=0.7:web-store, got the weight 'x'",
        ),
        (["web=x:a.txt"], "got the weight 'x', which is no number, in 'web=x:a.txt'"),
        (["--stage", "5:web", "web=1:a.txt"], "--stage: must be TOKENS:NAME=WEIGHT,NAME=WEIGHT"),
        (["--stage", "5:a=1,a=2", "web=1:a.txt"], "--stage: must name each part once"),
    ],
)
def test_what_is_no_mixture_is_wrong_usage(
    typed: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message shows the form."""
    assert 2 == main(["plan", *typed])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda parts: [parts[0], parts[0]], "the names of parts must differ, got 'web' twice"),
        (lambda parts: [*parts, "--order", "sequential"], "a mixture is read in random order"),
        (lambda parts: [*parts, "--order", "packed"], "no place for parts: use --order random\n"),
        (lambda parts: [*parts, "--epoch-tokens", "0"], "error: --epoch-tokens must be an integer"),
        (lambda parts: [*parts, "--epoch-tokens", "5"], "which --epoch-tokens 5 decides: lower"),
        (
            lambda parts: [*parts, "--held-out", "a"],
            "no split 'a': let --held-out be a fraction",
        ),
        (lambda parts: [*parts, "--max-repeats", "0"], "must be more than 0, got 0.0"),
        (lambda parts: [*parts, "--tail", "pad"], "a mixture takes --tail drop only"),
        (lambda parts: [*parts, "--stage", "9:books=1"], "has a weight of 'books', and the parts"),
        (
            lambda parts: [parts[0].partition(":")[2], "--epoch-tokens", "9"],
            "leave out --epoch-",
        ),
    ],
)
def test_what_a_mixture_cannot_be_is_refused(
    change: object, message: str, parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """By one line."""
    assert callable(change)
    assert 1 == main(["plan", *change(parts), *SHAPE])
    assert message in capsys.readouterr().err


def test_no_part_trains_on_what_another_holds_out(
    split_store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By default a store holds out its split valid, which another part may be."""
    parts = [f"all=1:{split_store}", f"last=1:{split_store}/valid"]
    assert 1 == main(["train", *parts, *SHAPE, "--max-tokens", "all"])
    num_shared = len(tl.load(f"{split_store}/valid").hold_out(0.1)[0])
    expected = f"on: {num_shared} tokens of store/valid, held out for the part 'all', lie in"
    assert expected in capsys.readouterr().err
    assert not Path("runs").exists()
    assert 0 == main(["plan", *parts, *SHAPE, "--held-out", "0.1"])
    parts[1] = f"last=1:{split_store}/test"
    assert 0 == main(["plan", *parts, *SHAPE, "--held-out", "valid"])


def test_a_run_of_a_mixture_is_trained_resumed_shown_and_evaluated(
    parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All commands find its parts again."""
    run = str(tmp_path / "run")
    small = ["--hidden", "4", "--device", "cpu", "--quiet", "--max-tokens", "900"]
    first = facts(["train", *parts, *SHAPE, *small, "--epochs", "1", "--run", run], capsys)
    assert ["web", "code"] == [*first["held_out_perplexity_by_part"]]
    assert "part: web " in "".join(
        printed(["train", "--resume", run, "--epochs", "2", "--device", "cpu", "--quiet"], capsys)
    )
    shown = facts(["show", run, "--step", "2"], capsys)
    assert {"web", "code"} >= {row["part"] for row in shown["rows"]} > set()
    for part in parts:
        name = part.partition(":")[2]
        found = facts(["evaluate", run, name, "--split", "held-out", "--quiet"], capsys)
        assert 99 == found["num_tokens"]
        assert 900 == facts(["evaluate", run, name, "--quiet"], capsys)["num_trained_tokens"]
