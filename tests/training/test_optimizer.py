"""From gradients to weights."""

from typing import Any

import pytest
import torch
from torch import nn

import tokenloom as tl
from tests.support.training.trainings import CORPUS, HELD_OUT, make_loader, make_model, weights_of


def train(model: tl.RNNModel, batch_size: int, **options: Any) -> list[tl.training.EpochMetrics]:
    """Train on windows in random order, of which the last batch is padded."""
    windows = tl.RandomWindows(CORPUS, batch_size=batch_size, seq_len=10, tail="pad")
    loader = tl.Loader(windows, num_epochs=2)
    chosen = tl.TrainingOptions(**options)
    return tl.train(model, loader, options=chosen, lr=0.1, max_grad_norm=100.0, device="cpu")


@pytest.mark.parametrize("batches", [2, 4, 5])
def test_accumulated_batches_are_a_large_one(batches: int) -> None:
    """Small batches with one update train like one batch of all their rows, padding too."""
    large, small = make_model("gru"), make_model("gru")
    expected = train(large, batch_size=4 * batches)
    found = train(small, batch_size=4, batches_per_update=batches)
    for mine, other in zip(large.parameters(), small.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)
    assert [entry.perplexity for entry in expected] == pytest.approx(
        [entry.perplexity for entry in found], rel=1e-4
    )


def test_padding_counts_nowhere() -> None:
    """Each update follows the mean over the targets that there are, as in a plain loop."""
    plain, model = make_model(), make_model()
    train(model, batch_size=8)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    windows = tl.RandomWindows(CORPUS, batch_size=8, seq_len=10, tail="pad")
    for inputs, targets in tl.Loader(windows, num_epochs=2):
        logits, _ = plain(inputs)
        loss = nn.functional.cross_entropy(logits, targets.T.reshape(-1))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # PyTorch leaves it unannotated
        optimizer.step()
    for mine, other in zip(plain.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_adamw_is_pytorchs() -> None:
    """The first update moves every weight by about the learning rate."""
    before, model = make_model(), make_model()
    windows = tl.RandomWindows(CORPUS, batch_size=len(CORPUS) // 12, seq_len=10)
    options = tl.TrainingOptions(optimizer="adamw")
    tl.train(model, tl.Loader(windows), options=options, lr=0.01, device="cpu")
    moved = (model.linear.weight - before.linear.weight).detach().abs()
    assert 0.005 < float(moved.median()) < 0.011


def test_a_schedule_ends_at_nothing() -> None:
    """The learning rate is what the schedule says in every update."""
    rates: list[float] = []

    def record(parameters: Any, lr: float) -> torch.optim.Optimizer:
        optimizer = torch.optim.SGD(parameters, lr=lr)
        optimizer.register_step_pre_hook(
            lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"])
        )
        return optimizer

    options = tl.TrainingOptions(optimizer=record, schedule="linear", warmup_updates=1)
    tl.train(make_model(), make_loader(num_epochs=1), options=options, lr=2.0, device="cpu")
    assert pytest.approx([2.0, *(2.0 - 0.25 * update for update in range(8))]) == rates


def test_bfloat16_learns_about_the_same() -> None:
    """Weights stay float32, and perplexities are near those of float32."""
    exact, coarse = make_model("gru"), make_model("gru")
    loader = make_loader(num_epochs=10)
    expected = tl.train(exact, loader, held_out=HELD_OUT, device="cpu")[-1]
    options = tl.TrainingOptions(precision="bfloat16")
    found = tl.train(
        coarse, make_loader(num_epochs=10), options=options, held_out=HELD_OUT, device="cpu"
    )[-1]
    assert {torch.float32} == {parameter.dtype for parameter in coarse.parameters()}
    assert weights_of(exact) != weights_of(coarse)
    assert found.perplexity == pytest.approx(expected.perplexity, rel=0.1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_trains_in_every_precision(precision: Any) -> None:
    """The perplexity falls."""
    options = tl.TrainingOptions(precision=precision)
    model = tl.RNNModel(nn.GRU(CORPUS.vocab_size, 32), CORPUS.vocab_size)
    history = tl.train(model, make_loader(num_epochs=20), options=options, device="cuda")
    assert history[-1].perplexity < 0.7 * history[0].perplexity
