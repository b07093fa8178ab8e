"""What this package promises, checked against tokenloom as it is installed."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenloom_fables import PieceTokenizer
from tokenloom_fables.train import main, make_windows, train
from torch.utils.data import DataLoader

import tokenloom as tl


def test_tokenloom_is_the_installed_one() -> None:
    """No file of a checkout is used."""
    assert "site-packages" in Path(tl.__file__).parts


def test_the_data_set_has_a_name() -> None:
    """Anybody who has both packages loads it, and sees it in a shell."""
    result = subprocess.run(
        [sys.executable, "-m", "tokenloom", "datasets"], check=True, capture_output=True, text=True
    )

    assert "fables" in result.stdout
    assert tl.load("fables", tokenizer="word").vocab_size > 100


def test_the_tokenizer_keeps_capitals_and_marks() -> None:
    """What it knows comes back as it was."""
    tokenizer = PieceTokenizer("The fox, the crow. The fox, the crow.")

    assert tokenizer.decode(tokenizer.encode("The crow, the fox.")) == "The crow, the fox."
    assert tokenizer.encode("lion") == [0]


def test_workers_change_nothing() -> None:
    """Four processes yield the batches of none."""
    windows = make_windows()

    alone = [batch.inputs for batch in DataLoader(windows, batch_size=None)]
    with_workers = [batch.inputs for batch in DataLoader(windows, batch_size=None, num_workers=4)]

    assert len(windows) == len(alone) == len(with_workers)
    assert all(map(torch.equal, alone, with_workers))
    assert windows.corpus.decode(alone[0][0])


def test_a_training_that_ended_early_is_continued(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two epochs and one more are three epochs, bit by bit."""
    whole = train(tmp_path / "whole.pt", num_epochs=3)
    train(tmp_path / "parts.pt", num_epochs=2, num_workers=0)
    main([str(tmp_path / "parts.pt"), "--epochs", "3"])

    weights = [torch.load(tmp_path / name, weights_only=True) for name in ("whole.pt", "parts.pt")]
    assert weights[0]["model"].keys() == weights[1]["model"].keys()
    assert all(map(torch.equal, *(one["model"].values() for one in weights)))
    assert capsys.readouterr().out == f"{whole:.3f} nats per token after 3 epochs\n"
