"""How far predictions are from a batch."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import tokenloom as tl
from tokenloom.model.loss import summed_linear_loss, summed_loss, token_losses

# With all these ids a batch of 1,024 targets has 2^24 logits, which are never there at once: 2^22
# are. Half of the batch is small.
VOCAB_SIZE = 1 << 14


def make_batch(rows: range = range(64)) -> tl.Batch:
    """Return rows of 16 targets, one padded and two in which documents start."""
    windows = np.random.default_rng(0).integers(VOCAB_SIZE, size=(64, 17))
    lengths = np.array([16] * 63 + [2])
    resets = np.array([2, 890]) - 17 * rows.start
    return tl.Batch(
        windows[rows.start : rows.stop],
        epoch=0,
        index=0,
        lengths=lengths[rows.start : rows.stop],
        resets=resets[(resets >= 0) & (resets < 17 * len(rows))],
    )


@pytest.mark.parametrize("bias", [True, False])
def test_gradients_are_exact(bias: bool) -> None:
    """PyTorch's check by finite differences agrees, also where targets are ignored."""
    torch.manual_seed(0)
    linear = nn.Linear(4, 7, bias=bias).double()
    outputs = torch.randn(8, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 6, -100, 3, 3, 1, -100, 2])

    def loss(outputs: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return summed_linear_loss(outputs, linear, targets, chunk=21)

    assert torch.autograd.gradcheck(loss, (outputs, *linear.parameters()))


def test_it_is_cross_entropy_of_the_logits() -> None:
    """The value and the gradients are those of the plain way, scaled by what comes after."""
    torch.manual_seed(0)
    linear, outputs = nn.Linear(4, 7), torch.randn(8, 4, requires_grad=True)
    targets = torch.tensor([0, 6, -100, 3, 3, 1, -100, 2])
    both = (
        functional.cross_entropy(linear(outputs), targets, reduction="sum"),
        summed_linear_loss(outputs, linear, targets, chunk=21),
    )
    found = [
        [loss, *torch.autograd.grad(3 * loss, [outputs, *linear.parameters()])] for loss in both
    ]
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(expected, got)


def test_only_what_is_asked_for_is_computed() -> None:
    """Weights that are frozen have no gradient, and nothing needs one under no_grad."""
    linear, outputs = nn.Linear(4, 7).requires_grad_(False), torch.randn(8, 4, requires_grad=True)  # noqa: FBT003  PyTorch's
    summed_linear_loss(outputs, linear, torch.zeros(8, dtype=torch.int64)).backward()  # type: ignore[no-untyped-call]  # PyTorch leaves it unannotated
    assert outputs.grad is not None
    assert linear.weight.grad is None
    with torch.no_grad():
        assert not summed_linear_loss(outputs, linear, torch.zeros(8).long()).requires_grad


def measure(
    rnn: tl.RNNModel, batch: tl.Batch
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...]]:
    """Return the sum of a batch's losses, each of them, the states after it and the gradients."""
    loss, after = summed_loss(rnn, batch, rnn.begin_state(batch_size=len(batch.inputs)))
    each, _ = token_losses(rnn, batch, None)
    states = torch.stack(after if isinstance(after, tuple) else (after,))
    gradients = torch.autograd.grad(loss, list(rnn.parameters()))
    return loss, each.view(16, -1), states, gradients


@pytest.mark.parametrize(
    ("layer", "options"),
    [(nn.RNN, {}), (nn.GRU, {"num_layers": 2}), (nn.LSTM, {}), (nn.LSTM, {"bidirectional": True})],
)
def test_a_large_vocabulary_changes_nothing(layer: Any, options: dict[str, Any]) -> None:
    """Losses, state and gradients of a batch are those of its halves, which are small."""
    torch.manual_seed(0)
    rnn = tl.RNNModel(layer(VOCAB_SIZE, 5, **options), VOCAB_SIZE)
    loss, each, state, gradients = measure(rnn, make_batch())

    halves = [measure(rnn, make_batch(rows)) for rows in (range(32), range(32, 64))]
    for expected, got in (
        (halves[0][0] + halves[1][0], loss),
        (torch.cat([half[1] for half in halves], dim=1), each),
        (torch.cat([half[2] for half in halves], dim=2), state),
    ):
        torch.testing.assert_close(expected, got)
    for first, second, got in zip(halves[0][3], halves[1][3], gradients, strict=True):
        torch.testing.assert_close(first + second, got)


def test_the_logits_are_never_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more rows than fit are multiplied with the weights of the vocabulary."""
    lengths: list[int] = []
    linear = functional.linear

    def spy(outputs: torch.Tensor, *arguments: Any) -> torch.Tensor:
        lengths.append(len(outputs))
        return linear(outputs, *arguments)

    monkeypatch.setattr(functional, "linear", spy)
    rnn = tl.RNNModel(nn.GRU(VOCAB_SIZE, 5), VOCAB_SIZE)
    summed_loss(rnn, make_batch(), None)
    token_losses(rnn, make_batch(), None)
    assert lengths == [256] * 8


def test_padding_costs_nothing() -> None:
    """The losses of what was padded are 0, and the sum leaves them out."""
    rnn = tl.RNNModel(nn.GRU(VOCAB_SIZE, 5), VOCAB_SIZE)
    each, _ = token_losses(rnn, make_batch(), None)
    loss, _ = summed_loss(rnn, make_batch(), None)
    padded = ~make_batch().mask.T.reshape(-1)
    assert [0.0] * 14 == each[padded].tolist()
    torch.testing.assert_close(loss, each.sum())


def test_a_model_of_another_make_is_called() -> None:
    """Its logits are its own affair, however many there are."""

    class Certain(tl.RNNModel):
        def forward(self, inputs: Any, state: Any = None, resets: Any = None) -> Any:
            del resets
            following = (inputs.T.reshape(-1) + 1) % VOCAB_SIZE
            logits = functional.one_hot(following, VOCAB_SIZE).float() * 99
            return logits, self.begin_state(batch_size=64) if state is None else state

    certain = Certain(nn.RNN(VOCAB_SIZE, 5), VOCAB_SIZE)
    batch = tl.Batch(np.arange(64 * 17).reshape(64, 17), epoch=0, index=0)
    assert summed_loss(certain, batch, None)[0].item() == pytest.approx(0)


def make_narrow(dtype: torch.dtype, *, size: int) -> tuple[tl.RNNModel, tl.RNNModel, tl.Batch]:
    """Return a model of some ids, the same in float32, and a batch of 2,048 targets."""
    torch.manual_seed(0)
    narrow, wide = (tl.RNNModel(nn.GRU(size, 16), size) for _ in range(2))
    narrow = narrow.to(dtype)
    wide.load_state_dict(narrow.state_dict())
    ids = np.random.default_rng(0).integers(0, size, (16, 129))
    return narrow, wide, tl.Batch(ids, epoch=0, index=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [1 << 13, 3000], ids=["chunks", "whole"])
def test_losses_of_a_narrow_model_are_float32(dtype: torch.dtype, size: int) -> None:
    """Sum and parts differ from those of the same weights in float32 in the fourth digit only."""
    narrow, wide, batch = make_narrow(dtype, size=size)
    with torch.no_grad():
        total, _ = summed_loss(narrow, batch, None)
        each, _ = token_losses(narrow, batch, None)
        expected, _ = token_losses(wide, batch, None)
    assert torch.float32 == total.dtype == each.dtype
    # The logits themselves are rounded to three digits, each in its own way.
    torch.testing.assert_close(expected.mean(), each.mean(), rtol=1e-4, atol=0)
    torch.testing.assert_close(each.sum(), total, rtol=1e-5, atol=0)


def test_gradients_of_a_narrow_model_are_as_exact_as_pytorchs() -> None:
    """Many small chunks lose nothing that one product in bfloat16 keeps."""
    torch.manual_seed(0)
    linear = nn.Linear(16, 3000).bfloat16()
    exact = nn.Linear(16, 3000).double()
    exact.load_state_dict({name: value.double() for name, value in linear.state_dict().items()})
    outputs, targets = torch.randn(2048, 16).bfloat16(), torch.randint(3000, (2048,))

    def gradients_of(ours: bool, layer: nn.Linear) -> list[torch.Tensor]:
        rows = outputs.to(layer.weight.dtype).requires_grad_()
        if ours:
            loss = summed_linear_loss(rows, layer, targets, chunk=3000 * 16)
        else:
            logits = layer(rows)
            logits = logits if logits.dtype == torch.float64 else logits.float()
            loss = functional.cross_entropy(logits, targets, reduction="sum")
        found = torch.autograd.grad(loss / len(targets), [rows, *layer.parameters()])
        return [gradient.double() for gradient in found]

    right = gradients_of(False, exact)  # noqa: FBT003
    errors = [
        [float((got - true).norm() / true.norm()) for got, true in zip(found, right, strict=True)]
        for found in (gradients_of(True, linear), gradients_of(False, linear))  # noqa: FBT003
    ]
    for ours, theirs in zip(*errors, strict=True):
        assert ours < 1.5 * theirs


def test_gradients_beyond_float16_are_scaled_first() -> None:
    """A sum above 65,504 is finite once it is divided by the number of targets."""
    linear = nn.Linear(4, 7).half()
    outputs = torch.full((4096, 4), 60.0, dtype=torch.float16)
    targets = torch.zeros(4096, dtype=torch.int64)
    loss = summed_linear_loss(outputs, linear, targets, chunk=7 * 512) / len(targets)
    gradient, _ = torch.autograd.grad(loss, list(linear.parameters()))
    assert bool(gradient.isfinite().all())
