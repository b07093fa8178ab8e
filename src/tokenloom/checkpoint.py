"""A checkpoint: a model with its weights, and where its training stands."""

import hashlib
import io
import os
import pickle
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tokenloom.errors import RunError
from tokenloom.model import RNNModel
from tokenloom.wording import show

_FORMAT = "tokenloom-checkpoint"
_FORMAT_VERSION = 2
# Version 1 held the model alone.
_READABLE_VERSIONS = (1, 2)

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


def describe_weights(model: nn.Module) -> dict[str, str]:
    """Return type and shape of each of a model's tensors, and a hash of all their values."""
    digest, shapes = hashlib.sha256(), {}
    for name, value in model.state_dict().items():
        if isinstance(value, torch.Tensor):
            shapes[f"model.{name}"] = f"{value.dtype} {tuple(value.shape)}".removeprefix("torch.")
            # As bytes, since NumPy does not know every type.
            content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            digest.update(content.data)
    return {**shapes, "model.weights": f"sha256:{digest.hexdigest()}"}


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
        msg = f"the description of the model cannot be used, got {show(description)}: {error}"
        raise RunError(msg) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a checkpoint's file says.

    Attributes
    ----------
    model : dict
        The description that `build_model` takes.
    weights : dict of str to torch.Tensor
        On the CPU.
    epoch : int
        The epoch, from 0, of the last batch that the model was trained on.
    step : int
        Batches that the model was trained on.
    training : dict, optional
        What the rest of the training depends on; an older release saved none.
    owner : dict of str, optional
        What it belongs to: the id of its run, and the digests of the last
        lines of its records. An older release saved none.
    """

    model: dict[str, Any]
    weights: dict[str, torch.Tensor]
    epoch: int
    step: int
    training: dict[str, Any] | None = None
    owner: dict[str, str] | None = None

    @classmethod
    def of(
        cls, model: RNNModel, *, epoch: int, step: int, training: dict[str, Any] | None = None
    ) -> "Checkpoint":
        """Return the checkpoint of a model as it is now."""
        weights = {name: value.cpu() for name, value in model.state_dict().items()}
        return cls(
            model=describe_model(model), weights=weights, epoch=epoch, step=step, training=training
        )

    def build(self) -> RNNModel:
        """Return the model, on the CPU.

        Raises
        ------
        RunError
            The weights do not fit the description, or it cannot be used.
        """
        model = build_model(self.model)
        self.load_into(model)
        return model

    def load_into(self, model: RNNModel) -> None:
        """Give a model the weights.

        Raises
        ------
        RunError
            They are another model's.
        """
        try:
            model.load_state_dict(self.weights)
        except (AttributeError, KeyError, RuntimeError, TypeError) as error:
            msg = "the checkpoint's weights do not fit the model"
            raise RunError(msg) from error


def pack(checkpoint: Checkpoint) -> bytes:
    """Return the bytes of a checkpoint's file."""
    content = {
        "format": _FORMAT,
        "version": _FORMAT_VERSION,
        "model": checkpoint.model,
        "weights": checkpoint.weights,
        "epoch": checkpoint.epoch,
        "step": checkpoint.step,
        "training": checkpoint.training,
        "owner": checkpoint.owner,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def unpack(content: bytes, *, name: str | os.PathLike[str]) -> Checkpoint:
    """Return the checkpoint of a file's bytes.

    They are read with ``weights_only=True``: they cannot run code.

    Parameters
    ----------
    content : bytes
    name : path
        What messages call the file.

    Raises
    ------
    RunError
        The bytes are damaged, or of another format or version.
    """
    name = os.fspath(name)
    try:
        values = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        msg = f"the checkpoint {name!r} is damaged or no checkpoint: {type(error).__name__}"
        raise RunError(msg) from error
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        msg = f"expected a checkpoint of tokenloom at {name!r}, got another file"
        raise RunError(msg)
    if values.get("version") not in _READABLE_VERSIONS:
        msg = (
            f"this release reads checkpoints of the versions 1 and {_FORMAT_VERSION}, {name!r} "
            f"has version {values.get('version')!r}: use the release that wrote it"
        )
        raise RunError(msg)
    try:
        return Checkpoint(
            model=values["model"],
            weights=values["weights"],
            epoch=values["epoch"],
            step=values["step"],
            training=values.get("training"),
            owner=values.get("owner"),
        )
    except KeyError as error:
        msg = f"the checkpoint {name!r} is damaged: it lacks {error}"
        raise RunError(msg) from error
