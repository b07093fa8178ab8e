"""Which device to compute on."""

import pytest
import torch

from tokenloom.errors import ArgumentError
from tokenloom.loading.device import choose_device


def test_a_device_can_be_named() -> None:
    """The CPU is always there."""
    assert torch.device("cpu") == choose_device("cpu")


@pytest.mark.parametrize("name", ["abacus", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    """The message names the device."""
    with pytest.raises(ArgumentError, match=f"device must be one .* got '{name}'"):
        choose_device(name)
