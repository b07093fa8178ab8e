"""How well a model predicts."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import tokenloom as tl

CORPUS = tl.Corpus.from_tokens(np.arange(200) % 7, vocab_size=7)


def make_model() -> tl.RNNModel:
    """Return a small random model."""
    torch.manual_seed(0)
    return tl.RNNModel(nn.GRU(7, 8), 7)


def test_one_lane_is_one_long_forward_pass() -> None:
    """With batch_size=1 the loss is that of the whole text with the state carried."""
    model = make_model()
    ids = torch.as_tensor(np.asarray(CORPUS.tokens, np.int64))
    with torch.inference_mode():
        expected = functional.cross_entropy(model(ids[None, :-1])[0], ids[1:]).item()
    result = tl.evaluate(model, CORPUS, batch_size=1, seq_len=9)
    assert result.num_tokens == 199
    assert result.nats_per_token == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 32, 300])
def test_every_token_counts_once(batch_size: int) -> None:
    """A model that knows nothing has log(7) nats per token, whatever the batch."""
    model = make_model()
    nn.init.zeros_(model.linear.weight)
    nn.init.zeros_(model.linear.bias)
    result = tl.evaluate(model, CORPUS, batch_size=batch_size, seq_len=5)
    assert result.num_tokens == 199
    assert result.nats_per_token == pytest.approx(math.log(7))
    assert pytest.approx(7.0) == result.perplexity


def test_the_mode_of_the_model_is_kept() -> None:
    """Dropout is off while it is evaluated, and on again afterwards."""
    model = tl.RNNModel(nn.GRU(7, 8, num_layers=2, dropout=0.5), 7).train()
    results = {tl.evaluate(model, CORPUS).nats_per_token for _ in range(2)}
    assert (1, True) == (len(results), model.training)


def test_a_rank_evaluates_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a launcher the number is that of the whole corpus too."""
    expected = tl.evaluate(make_model(), CORPUS)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert expected == tl.evaluate(make_model(), CORPUS)


def test_a_hopeless_model_has_infinite_perplexity() -> None:
    """exp() of a huge loss does not raise."""
    result = tl.Evaluation(num_tokens=1, nats_per_token=1e9)
    assert math.inf == result.perplexity


def test_a_single_token_cannot_be_evaluated() -> None:
    """There is nothing to predict."""
    corpus: Any = tl.Corpus.from_tokens([1])
    with pytest.raises(tl.CorpusError, match="at least 2 tokens, the corpus has 1"):
        tl.evaluate(make_model(), corpus)
