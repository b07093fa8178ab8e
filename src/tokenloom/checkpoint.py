"""A model on the disk: how it is built, and its weights."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tokenloom.errors import RunError
from tokenloom.files import replacing
from tokenloom.model import RNNModel

_FORMAT = "tokenloom-checkpoint"
_FORMAT_VERSION = 1

_RNN_KINDS: dict[str, type[nn.RNNBase]] = {"RNN": nn.RNN, "GRU": nn.GRU, "LSTM": nn.LSTM}


def describe_model(model: RNNModel) -> dict[str, Any]:
    """Return a JSON-able description from which `build_model` makes the same model."""
    rnn = model.rnn
    description = {
        "rnn": next(name for name, kind in _RNN_KINDS.items() if isinstance(rnn, kind)),
        "vocab_size": model.vocab_size,
        "input_size": rnn.input_size,
        "hidden_size": rnn.hidden_size,
        "num_layers": rnn.num_layers,
        "bias": rnn.bias,
        "dropout": rnn.dropout,
        "bidirectional": rnn.bidirectional,
        "dtype": str(model.linear.weight.dtype).removeprefix("torch."),
    }
    if isinstance(rnn, nn.RNN):
        description["nonlinearity"] = rnn.nonlinearity
    if isinstance(rnn, nn.LSTM):
        description["proj_size"] = rnn.proj_size
    return description


def build_model(description: dict[str, Any]) -> RNNModel:
    """Return a new model with random weights.

    Raises
    ------
    RunError
        The description is incomplete or of an unknown kind of layer.
    """
    try:
        options = dict(description)
        kind = _RNN_KINDS[options.pop("rnn")]
        vocab_size, dtype = options.pop("vocab_size"), options.pop("dtype")
        return RNNModel(kind(**options), vocab_size).to(getattr(torch, dtype))
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        msg = f"the description of the model cannot be used, got {description!r}: {error}"
        raise RunError(msg) from error


def save_checkpoint(
    path: str | os.PathLike[str], model: RNNModel, *, epoch: int, step: int
) -> Path:
    """Write a model's description and weights, whole or not at all.

    Parameters
    ----------
    path : path
    model : RNNModel
    epoch : int
        The epoch, from 0, of the last batch that the model was trained on.
    step : int
        Batches that the model was trained on.
    """
    content = {
        "format": _FORMAT,
        "version": _FORMAT_VERSION,
        "model": describe_model(model),
        "weights": {name: value.cpu() for name, value in model.state_dict().items()},
        "epoch": epoch,
        "step": step,
    }
    with replacing(path) as temporary:
        torch.save(content, temporary)
    return Path(path)


def load_checkpoint(path: str | os.PathLike[str]) -> RNNModel:
    """Return the model of a checkpoint, on the CPU.

    The file is read with ``weights_only=True``: it cannot run code.

    Raises
    ------
    RunError
        The file is missing, damaged, or of another format or version.
    """
    name = os.fspath(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        msg = f"expected a checkpoint at {name!r}, found none: train first"
        raise RunError(msg) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        msg = f"the checkpoint {name!r} is damaged or no checkpoint: {type(error).__name__}"
        raise RunError(msg) from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        msg = f"expected a checkpoint of tokenloom at {name!r}, got another file"
        raise RunError(msg)
    if content.get("version") != _FORMAT_VERSION:
        msg = (
            f"this release reads checkpoints of version {_FORMAT_VERSION}, {name!r} has "
            f"version {content.get('version')!r}: use the release that wrote it"
        )
        raise RunError(msg)
    model = build_model(content.get("model", {}))
    try:
        model.load_state_dict(content["weights"])
    except (AttributeError, KeyError, RuntimeError, TypeError) as error:
        msg = f"the weights in {name!r} do not fit the model that it describes"
        raise RunError(msg) from error
    return model
