"""Which device to compute on."""

import torch

from tokenloom.errors import ArgumentError
from tokenloom.wording import show


def choose_device(device: torch.device | str | int | None = None) -> torch.device:
    """Return the named device, or by default the best at hand: cuda, mps, cpu.

    Raises
    ------
    ArgumentError
        PyTorch does not know the device, or it is not at hand.
    """
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    # CUDA builds raise AssertionError for a device that the build lacks.
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        msg = f"device must be one that PyTorch can use here, got {show(device)}: {reason}"
        raise ArgumentError(msg) from error
    return chosen
