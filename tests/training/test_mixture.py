"""Training on a mixture: what is measured of each part, and how a run is opened again."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tokenloom as tl
from tokenloom.errors import CorpusError, RunError, StateMismatchError
from tokenloom.training.reopen import (
    count_trained,
    read_as,
    reopen_corpora,
    reopen_training,
    reopen_windows,
)

WORDS = {"web": "the time machine ", "code": "name then chain it "}


@pytest.fixture(name="stores")
def fixture_stores(tmp_path: Path) -> dict[str, str]:
    """Return two stores of one tokenizer, each with a split to measure on."""
    whole = tl.Corpus.from_text("".join(WORDS.values()))
    paths = {}
    for name, words in WORDS.items():
        corpus = tl.Corpus.from_text(words * 40, tokenizer=whole.tokenizer)
        stop = len(corpus) - 60
        splits = {"train": (0, stop), "valid": (stop, len(corpus))}
        paths[name] = str(corpus.save(tmp_path / name, splits=splits))
    return paths


def train(stores: dict[str, str], run: Path, *, num_epochs: int = 2, **options: Any) -> Any:
    """Train a small model on a mixture whose shares change."""
    parts = {name: tl.load(f"{path}/train") for name, path in stores.items()}
    held_out = {name: tl.load(f"{path}/valid") for name, path in stores.items()}
    mixture = tl.Mixture(
        parts, stages=[(0, {"web": 0.7, "code": 0.3}), (900, {"web": 0.2, "code": 0.8})]
    )
    windows = tl.RandomWindows(mixture, batch_size=4, seq_len=8, seed=3, shard=tl.Shard())
    torch.manual_seed(0)
    model = tl.RNNModel(nn.RNN(mixture.corpus.vocab_size, 4), mixture.corpus.vocab_size)
    return tl.train(
        model,
        tl.Loader(windows, num_epochs=num_epochs),
        held_out=held_out,
        run=run,
        device="cpu",
        **options,
    )


def test_each_part_has_a_perplexity(stores: dict[str, str], tmp_path: Path) -> None:
    """And all of them together, each token counted once."""
    history = train(stores, tmp_path / "run")
    run = tl.Run.open(tmp_path / "run")
    assert history == run.metrics()
    model = run.load_model()
    each = {name: tl.evaluate(model, tl.load(f"{path}/valid")) for name, path in stores.items()}
    by_part = history[-1].held_out_perplexity_by_part
    assert {name: pytest.approx(found.perplexity) for name, found in each.items()} == by_part
    low, whole, high = sorted([*by_part.values(), history[-1].held_out_perplexity])
    assert low < whole < high


def test_a_run_is_resumed(stores: dict[str, str], tmp_path: Path) -> None:
    """With the texts, the shares and the stages of its settings: as if it had not been broken."""
    whole = train(stores, tmp_path / "whole", num_epochs=3)
    train(stores, tmp_path / "run", num_epochs=1)
    training = reopen_training(tl.Run.open(tmp_path / "run"), num_epochs=3, device="cpu")
    mixture = training.loader.windows.mixture
    assert mixture is not None
    assert ((0, {"web": 0.7, "code": 0.3}), (900, {"web": 0.2, "code": 0.8})) == mixture.stages
    history = training.train()
    last = (history[-1].perplexity, history[-1].held_out_perplexity_by_part)
    assert (whole[-1].perplexity, whole[-1].held_out_perplexity_by_part) == last


def test_texts_of_the_parts_are_found_again(stores: dict[str, str], tmp_path: Path) -> None:
    """By the names in the settings: what was trained on, and what was held out of each."""
    train(stores, tmp_path / "run", num_epochs=1)
    run = tl.Run.open(tmp_path / "run")
    mixture, held_out = reopen_corpora(run)
    assert isinstance(mixture, tl.Mixture)
    assert isinstance(held_out, dict)
    assert ["web", "code"] == [*mixture.names] == [*held_out]
    assert reopen_windows(run).plan.accounting()["web"].windows > 0
    for name, path in stores.items():
        valid = read_as(run, path, split="held-out")
        assert held_out[name].hash == valid.hash
        assert 60 == len(valid)
        assert len(mixture.parts[name]) == count_trained(run, read_as(run, path))
        assert 0 == count_trained(run, valid)
    tl.Corpus.from_text("other", tokenizer=run.load_tokenizer()).save(tmp_path / "other")
    with pytest.raises(CorpusError, match="must be the text of a part of the run"):
        read_as(run, str(tmp_path / "other"), split="trained")


def test_another_mixture_is_refused_by_the_name_of_the_part(
    stores: dict[str, str], tmp_path: Path
) -> None:
    """Each difference has the name of its part."""
    train(stores, tmp_path / "run", num_epochs=1)
    run = tl.Run.open(tmp_path / "run")
    training = reopen_training(run, num_epochs=2, device="cpu")
    windows = training.loader.windows
    assert windows.mixture is not None
    parts = {name: (corpus, 0.5) for name, corpus in windows.mixture.parts.items()}
    other = tl.RandomWindows(tl.Mixture(parts), batch_size=4, seq_len=8, seed=3, shard=tl.Shard())
    with pytest.raises(StateMismatchError, match=r"mixture\.stages\.0\.web: saved 0\.7, now 0\.5"):
        tl.train(
            training.model,
            tl.Loader(other, num_epochs=2),
            held_out=training.held_out,
            run=tmp_path / "run",
            resume=True,
            device="cpu",
        )


def test_a_held_out_text_that_is_of_no_part_is_written_down(
    stores: dict[str, str], tmp_path: Path
) -> None:
    """So a run is not resumed with another one."""
    parts = {name: (tl.load(f"{path}/train"), 1.0) for name, path in stores.items()}
    windows = tl.RandomWindows(tl.Mixture(parts), batch_size=4, seq_len=8, shard=tl.Shard())
    valid = {name: tl.load(f"{path}/valid") for name, path in stores.items()}
    model = tl.RNNModel(nn.RNN(windows.corpus.vocab_size, 4), windows.corpus.vocab_size)
    options: Any = {"run": tmp_path / "run", "device": "cpu"}
    tl.train(model, tl.Loader(windows), held_out={"other": valid["web"]}, **options)
    settings = tl.Run.open(tmp_path / "run").settings
    assert valid["web"].hash == settings["held_out_texts"]["other"]["held_out_hash"]
    with pytest.raises(StateMismatchError, match=r"held_out_texts\.other\.held_out_hash: saved"):
        tl.train(
            model,
            tl.Loader(windows, num_epochs=2),
            held_out={"other": valid["code"]},
            resume=True,
            **options,
        )


@pytest.mark.parametrize("damage", [None, {}, {"parts": {"web": {}}}, {"parts": 5}])
def test_damaged_settings_are_refused(damage: Any, stores: dict[str, str], tmp_path: Path) -> None:
    """The message has the run."""
    train(stores, tmp_path / "run", num_epochs=1)
    path = tmp_path / "run" / "settings.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**settings, "mixture": damage}), encoding="utf-8")
    with pytest.raises(RunError, match=r"the settings of .* are damaged"):
        reopen_windows(tl.Run.open(tmp_path / "run"))
