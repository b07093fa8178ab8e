"""How far predictions are from a batch."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import tokenloom as tl
from tokenloom.model import loss as loss_module
from tokenloom.model import rnn as rnn_module
from tokenloom.model.loss import summed_linear_loss, summed_loss, token_losses

LAYERS: list[Any] = [nn.RNN, nn.GRU, nn.LSTM]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every vocabulary for a large one, and 3 rows of 7 logits at once."""
    monkeypatch.setattr(loss_module, "_CHUNK", 21)
    monkeypatch.setattr(rnn_module, "_LARGE", 1)


def make_batch() -> tl.Batch:
    """Return a batch of two rows, one padded, in which documents start."""
    windows = np.array([[1, 2, 3, 4, 5], [6, 1, 4, 0, 0]])
    return tl.Batch(windows, epoch=0, index=0, lengths=np.array([4, 2]), resets=np.array([2, 6]))


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_are_exact(bias: bool) -> None:
    """PyTorch's check by finite differences agrees, also where targets are ignored."""
    torch.manual_seed(0)
    linear = nn.Linear(4, 7, bias=bias).double()
    outputs = torch.randn(8, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 6, -100, 3, 3, 1, -100, 2])

    def loss(outputs: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return summed_linear_loss(outputs, linear, targets)

    assert torch.autograd.gradcheck(loss, (outputs, *linear.parameters()))


@pytest.mark.usefixtures("small_chunks")
def test_it_is_cross_entropy_of_the_logits() -> None:
    """The value and the gradients are those of the plain way, scaled by what comes after."""
    torch.manual_seed(0)
    linear, outputs = nn.Linear(4, 7), torch.randn(8, 4, requires_grad=True)
    targets = torch.tensor([0, 6, -100, 3, 3, 1, -100, 2])
    both = (
        functional.cross_entropy(linear(outputs), targets, reduction="sum"),
        summed_linear_loss(outputs, linear, targets),
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


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bidirectional": True}])
def test_a_large_vocabulary_changes_nothing(
    layer: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses, state and gradients of a batch are those of a small one, to rounding."""
    torch.manual_seed(0)
    rnn = tl.RNNModel(layer(7, 5, **options), 7)
    state = rnn.begin_state(batch_size=2)
    found = []
    for is_large in (False, True):
        monkeypatch.setattr(loss_module, "_CHUNK", 21)
        monkeypatch.setattr(rnn_module, "_LARGE", 1 if is_large else 1 << 24)
        loss, after = summed_loss(rnn, make_batch(), state)
        each, _ = token_losses(rnn, make_batch(), None)
        gradients = torch.autograd.grad(loss, list(rnn.parameters()))
        parts = after if isinstance(after, tuple) else (after,)
        found.append([loss, each, *parts, *gradients])
    for small, large in zip(*found, strict=True):
        torch.testing.assert_close(small, large)


@pytest.mark.usefixtures("small_chunks")
def test_the_logits_are_never_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more rows than fit are multiplied with the weights of the vocabulary."""
    lengths: list[int] = []
    linear = functional.linear

    def spy(outputs: torch.Tensor, *arguments: Any) -> torch.Tensor:
        lengths.append(len(outputs))
        return linear(outputs, *arguments)

    monkeypatch.setattr(functional, "linear", spy)
    rnn = tl.RNNModel(nn.GRU(7, 5), 7)
    summed_loss(rnn, make_batch(), None)
    token_losses(rnn, make_batch(), None)
    assert lengths == [3, 3, 2] * 2


@pytest.mark.usefixtures("small_chunks")
def test_padding_costs_nothing() -> None:
    """The losses of what was padded are 0, and the sum leaves them out."""
    rnn = tl.RNNModel(nn.GRU(7, 5), 7)
    each, _ = token_losses(rnn, make_batch(), None)
    loss, _ = summed_loss(rnn, make_batch(), None)
    padded = ~make_batch().mask.T.reshape(-1)
    assert [0.0, 0.0] == each[padded].tolist()
    torch.testing.assert_close(loss, each.sum())


@pytest.mark.usefixtures("small_chunks")
def test_a_model_of_another_make_is_called() -> None:
    """Its logits are its own affair, however many there are."""

    class Certain(tl.RNNModel):
        def forward(self, inputs: Any, state: Any = None, resets: Any = None) -> Any:
            del resets
            logits = functional.one_hot((inputs.T.reshape(-1) + 1) % 7, 7).float() * 99
            return logits, self.begin_state(batch_size=2) if state is None else state

    certain = Certain(nn.RNN(7, 5), 7)
    batch = tl.Batch(np.array([[1, 2, 3], [4, 5, 6]]), epoch=0, index=0)
    assert summed_loss(certain, batch, None)[0].item() == pytest.approx(0)


def make_narrow(dtype: torch.dtype) -> tuple[tl.RNNModel, tl.RNNModel, tl.Batch]:
    """Return a model of 3,000 types, the same in float32, and a batch of 2,048 targets."""
    torch.manual_seed(0)
    narrow, wide = (tl.RNNModel(nn.GRU(3000, 16), 3000) for _ in range(2))
    narrow = narrow.to(dtype)
    wide.load_state_dict(narrow.state_dict())
    ids = np.random.default_rng(0).integers(0, 3000, (16, 129))
    return narrow, wide, tl.Batch(ids, epoch=0, index=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("limit", [1, 1 << 24], ids=["chunks", "whole"])
def test_losses_of_a_narrow_model_are_float32(
    dtype: torch.dtype, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sum and parts differ from those of the same weights in float32 in the fourth digit only."""
    monkeypatch.setattr(loss_module, "_CHUNK", 3000 * 100)
    monkeypatch.setattr(rnn_module, "_LARGE", limit)
    narrow, wide, batch = make_narrow(dtype)
    with torch.no_grad():
        total, _ = summed_loss(narrow, batch, None)
        each, _ = token_losses(narrow, batch, None)
        expected, _ = token_losses(wide, batch, None)
    assert torch.float32 == total.dtype == each.dtype
    # The logits themselves are rounded to three digits, each in its own way.
    torch.testing.assert_close(expected.mean(), each.mean(), rtol=1e-4, atol=0)
    torch.testing.assert_close(each.sum(), total, rtol=1e-5, atol=0)


def test_gradients_of_a_narrow_model_are_as_exact_as_pytorchs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Many small chunks lose nothing that one product in bfloat16 keeps."""
    monkeypatch.setattr(loss_module, "_CHUNK", 3000 * 16)
    torch.manual_seed(0)
    linear = nn.Linear(16, 3000).bfloat16()
    exact = nn.Linear(16, 3000).double()
    exact.load_state_dict({name: value.double() for name, value in linear.state_dict().items()})
    outputs, targets = torch.randn(2048, 16).bfloat16(), torch.randint(3000, (2048,))

    def gradients_of(ours: bool, layer: nn.Linear) -> list[torch.Tensor]:
        rows = outputs.to(layer.weight.dtype).requires_grad_()
        if ours:
            loss = summed_linear_loss(rows, layer, targets)
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


def test_gradients_beyond_float16_are_scaled_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum above 65,504 is finite once it is divided by the number of targets."""
    monkeypatch.setattr(loss_module, "_CHUNK", 7 * 512)
    linear = nn.Linear(4, 7).half()
    outputs = torch.full((4096, 4), 60.0, dtype=torch.float16)
    targets = torch.zeros(4096, dtype=torch.int64)
    loss = summed_linear_loss(outputs, linear, targets) / len(targets)
    gradient, _ = torch.autograd.grad(loss, list(linear.parameters()))
    assert bool(gradient.isfinite().all())
