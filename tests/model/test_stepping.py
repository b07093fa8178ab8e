"""Texts that a model reads on, one token of each at a time."""

from typing import Any

import pytest
import torch
from torch import nn

import tokenloom as tl
from tokenloom.model.generation import Stepper


@pytest.mark.parametrize("layer", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("input_size", [5, 3])
def test_steps_are_those_of_the_layer(layer: Any, input_size: int) -> None:
    """One-hot or embedded, the logits of each step are those of one long forward pass."""
    torch.manual_seed(0)
    model = tl.RNNModel(layer(input_size, 8, num_layers=2), 5).eval()
    inputs = torch.randint(5, (3, 9))
    expected = model(inputs)[0].reshape(9, 3, 5)
    stepper = Stepper(model, inputs[:, :4].tolist())
    for step in range(4, 9):
        torch.testing.assert_close(expected[step - 1], stepper.logits)
        stepper.step(inputs[:, step])
    torch.testing.assert_close(expected[8], stepper.logits)


def test_dropout_is_off_and_the_mode_is_kept() -> None:
    """A model in training is read as it will be used, and goes on training."""
    model = tl.RNNModel(nn.GRU(5, 8, num_layers=2, dropout=0.5), 5).train()
    first, second = (Stepper(model, [[1, 2, 3]]).logits for _ in range(2))
    assert torch.equal(first, second)
    assert model.training
