"""How far predictions are from a batch."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import tokenloom as tl
from tokenloom import losses, model
from tokenloom.losses import summed_linear_loss, summed_loss, token_losses

LAYERS: list[Any] = [nn.RNN, nn.GRU, nn.LSTM]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every vocabulary for a large one, and 3 rows of 7 logits at once."""
    monkeypatch.setattr(losses, "_CHUNK", 21)
    monkeypatch.setattr(model, "_LARGE", 1)


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
        monkeypatch.setattr(losses, "_CHUNK", 21)
        monkeypatch.setattr(model, "_LARGE", 1 if is_large else 1 << 24)
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
