"""What a training shows while it goes on."""

import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import tokenloom as tl
from tests.support.training.trainings import make_loader, make_model
from tokenloom.errors import ArgumentError
from tokenloom.training.progress import begin


def test_text_is_shown_every_few_epochs(capfd: pytest.CaptureFixture[str]) -> None:
    """It goes on from the prompt, below the bar; no random number is drawn."""
    options = tl.RunOptions(sample_epochs=2, sample_prompt="time")
    model, plain = make_model(), make_model()
    loader = make_loader(num_epochs=5)
    tl.train(model, loader, run_options=options, progress=True, device="cpu")
    shown = capfd.readouterr()
    assert ["epoch 2: time", "epoch 4: time"] == re.findall("epoch [0-9]+: time", shown.err)
    assert "" == shown.out
    tl.train(plain, make_loader(num_epochs=5), device="cpu")
    assert plain.linear.weight.equal(model.linear.weight)


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_training_goes_on_without_stderr(
    is_closed: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It may be closed, or missing from the beginning; no text goes elsewhere."""
    stderr = io.StringIO()
    stderr.close()
    monkeypatch.setattr(sys, "stderr", stderr if is_closed else None)
    options = tl.RunOptions(sample_epochs=1)
    history = tl.train(make_model(), make_loader(), run_options=options, progress=False)
    assert make_loader().num_epochs == len(history)
    assert ("", "") == capfd.readouterr()


def test_text_begins_as_the_corpus_does(capfd: pytest.CaptureFixture[str]) -> None:
    """Where no prompt is given."""
    options = tl.RunOptions(sample_epochs=3)
    tl.train(make_model(), make_loader(), run_options=options, device="cpu")
    assert "epoch 3: the time tra" in capfd.readouterr().err


def test_a_prompt_has_no_unknown_tokens() -> None:
    """A model would read their names as other words; a text of nothing else is taken as it is."""
    corpus = tl.Corpus.from_text("a b a c " * 9, tokenizer="word", vocab_size=2)
    assert "a a a a a a" == begin(corpus)
    assert "<unk>" == begin(corpus.slice(1, 2))
    assert "3 4" == begin(tl.Corpus.from_tokens([3, 4]))


@pytest.mark.parametrize(
    ("prompt", "message"), [("!!", "prompt must hold at least one token"), (None, "a tokenizer")]
)
def test_text_that_cannot_be_written_is_found_before_training(
    prompt: str | None, message: str, tmp_path: Path
) -> None:
    """Without a token to go on from, or without a tokenizer; no folder is left."""
    corpus = tl.Corpus.from_tokens(np.arange(200) % 7, vocab_size=20)
    loader = tl.Loader(tl.RandomWindows(corpus, batch_size=4, seq_len=5)) if not prompt else None
    options = tl.RunOptions(sample_epochs=1, sample_prompt=prompt)
    model = make_model() if prompt else tl.RNNModel(nn.RNN(20, 8), 20)
    with pytest.raises(ArgumentError, match=message):
        tl.train(
            model,
            loader or make_loader(),
            run=tmp_path / "run",
            run_options=options,
            device="cpu",
        )
    assert not (tmp_path / "run").exists()
