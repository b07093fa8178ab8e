"""Files that an older state of the main branch wrote stay readable.

``tests/data/first`` was written before this test: three stores, a run that
Ctrl-C ended after 13 of its 66 steps, and saved positions with the batch that
came next.
``tests/data/float16`` is a finished run of the time when there was a float16,
whose gradients were scaled.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchdata.stateful_dataloader import StatefulDataLoader

import tokenloom as tl
from tokenloom.cli.main import main
from tokenloom.errors import RunError

DATA = Path(__file__).parents[2] / "data"
FIRST = DATA / "first"
POSITIONS: dict[str, Any] = json.loads((FIRST / "positions.json").read_text(encoding="utf-8"))
BOOK = (FIRST / "book.txt").read_text(encoding="utf-8")
ORDERS: dict[str, Any] = {"random": tl.RandomWindows, "sequential": tl.SequentialWindows}


@pytest.fixture
def first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a copy of the older files."""
    folder = tmp_path / "first"
    shutil.copytree(FIRST, folder)
    monkeypatch.chdir(folder)
    return folder


def open_corpus(name: str) -> tl.Corpus:
    """Return a store of the older files, or its text as a corpus in memory."""
    return tl.Corpus.from_text(BOOK) if name == "memory" else tl.Corpus.open(FIRST / name)


@pytest.mark.parametrize("name", ["char-store", "word-store", "byte-store"])
def test_a_store_is_whole(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every byte of it is as it was, by its own hashes."""
    assert main(["verify", str(FIRST / name)]) == 0
    assert "damaged" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "options"),
    [("char-store", {}), ("byte-store", {"tokenizer": "byte"})],
)
def test_a_store_holds_the_same_tokens(name: str, options: dict[str, Any]) -> None:
    """The text gives the ids that lie in the store."""
    expected = tl.Corpus.from_text(BOOK, **options).tokens
    found = tl.Corpus.open(FIRST / name).tokens
    assert np.array_equal(expected[:], found[:])


def test_a_split_of_a_store_opens() -> None:
    """A named part of an older store is a quarter of it, cut at a document."""
    assert len(tl.Corpus.open(FIRST / "char-store", split="valid").tokens) == 400


@pytest.mark.parametrize("key", [key for key in POSITIONS if key != "stateful"])
def test_a_position_is_resumed(key: str) -> None:
    """The batch after a saved position is the one that came then."""
    name, order, tail = key.split("/")
    windows = ORDERS[order](open_corpus(name), batch_size=4, seq_len=8, seed=5, tail=tail)
    loader = tl.Loader(windows, num_epochs=3)
    loader.load_state_dict(POSITIONS[key]["state"])
    inputs, targets = next(iter(loader))
    assert POSITIONS[key]["next_inputs"] == inputs.tolist()
    assert POSITIONS[key]["next_targets"] == targets.tolist()


# torchdata 0.11 calls a function that newer versions of torch deprecate.
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
def test_a_position_of_a_stateful_loader_is_resumed() -> None:
    """What StatefulDataLoader kept of the iterator leads to the same batch."""
    windows = tl.SequentialWindows(open_corpus("memory"), batch_size=4, seq_len=8, seed=5)
    loader: Any = StatefulDataLoader(windows, batch_size=None)
    loader.load_state_dict(POSITIONS["stateful"]["state"])
    assert POSITIONS["stateful"]["next_inputs"] == next(iter(loader)).inputs.tolist()


def test_a_run_is_resumed(first: Path) -> None:
    """It ends as it did when the branch that wrote it resumed it."""
    assert main(["train", "--resume", "run", "--quiet", "--device", "cpu"]) == 0
    run = tl.Run.open(first / "run")
    measured = [
        (entry.step, entry.perplexity, entry.held_out_perplexity) for entry in run.metrics()
    ]
    # Other processors round sums differently, so the last digits are free.
    expected = [
        (22, 19.457951, 17.448561),
        (44, 17.561498, 16.999561),
        (66, 17.282067, 16.564879),
    ]
    assert [pytest.approx(entry, rel=1e-4) for entry in expected] == measured


def test_a_model_that_was_trained_in_float16_is_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its run opens, evaluates as it did and generates."""
    text = "the time traveller for so it will be convenient to speak of him\n" * 12
    run = tl.Run.open(DATA / "float16")
    corpus = tl.Corpus.from_text(text, tokenizer=run.load_tokenizer())
    found = tl.evaluate(run.load_model(), corpus.slice(680, len(corpus)))
    assert pytest.approx(run.metrics()[-1].held_out_perplexity, rel=1e-4) == found.perplexity
    assert main(["generate", str(run.path), "--prompt", "the", "--num-tokens", "5"]) == 0
    assert capsys.readouterr().out.startswith("the")


def test_a_run_in_float16_is_not_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message says what can be done with it, in the shell and in Python."""
    run = tmp_path / "run"
    shutil.copytree(DATA / "float16", run)
    told = "trained in float16, .* its model can be loaded; train anew in bfloat16"
    assert main(["train", "--resume", str(run), "--quiet"]) == 1
    assert re.search(told, capsys.readouterr().err)
    corpus = tl.Corpus.from_text(BOOK)
    model = tl.RNNModel(torch.nn.GRU(corpus.vocab_size, 4), corpus.vocab_size)
    loader = tl.Loader(tl.SequentialWindows(corpus, batch_size=4, seq_len=16))
    with pytest.raises(RunError, match=told):
        tl.train(model, loader, run=run, resume=True, device="cpu")
