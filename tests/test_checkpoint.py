"""A model on the disk."""

import io
import json
from typing import Any

import pytest
import torch
from torch import nn

import tokenloom as tl
from tokenloom.checkpoint import Checkpoint, build_model, describe_model, pack, unpack

LAYERS = [
    nn.RNN(5, 8, nonlinearity="relu"),
    nn.GRU(3, 8, num_layers=2, dropout=0.25),
    nn.LSTM(5, 8, bidirectional=True, bias=False, proj_size=4),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_a_loaded_model_is_the_saved_one(layer: nn.RNNBase) -> None:
    """It gives bitwise the same logits."""
    model = tl.RNNModel(layer, 5).eval()
    content = pack(Checkpoint.of(model, epoch=3, step=4))
    loaded = unpack(content, name="c.pt").build().eval()
    inputs = torch.tensor([[1, 2, 3, 4]])
    assert torch.equal(model(inputs)[0], loaded(inputs)[0])


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_a_description_survives_json(layer: nn.RNNBase) -> None:
    """A model can be built again from what stands in a settings file."""
    description = describe_model(tl.RNNModel(layer, 5))
    rebuilt = build_model(json.loads(json.dumps(description)))
    assert description == describe_model(rebuilt)


def test_a_checkpoint_cannot_run_code() -> None:
    """It is plain data that weights_only=True accepts."""
    content = torch.load(io.BytesIO(make_content()), weights_only=True)
    assert (3, 4) == (content["epoch"], content["step"])


def test_a_checkpoint_of_an_older_release_is_read() -> None:
    """Version 1 held the model alone."""
    values: Any = torch.load(io.BytesIO(make_content()), weights_only=True)
    del values["training"]
    checkpoint = unpack(save({**values, "version": 1}), name="c.pt")
    assert (4, None) == (checkpoint.step, checkpoint.training)
    assert 5 == checkpoint.build().vocab_size


def make_content() -> bytes:
    """Return the bytes of a small checkpoint."""
    model = tl.RNNModel(nn.RNN(5, 8), 5)
    return pack(Checkpoint.of(model, epoch=3, step=4, training={"hidden": None}))


def save(values: Any) -> bytes:
    """Return what torch.save writes."""
    buffer = io.BytesIO()
    torch.save(values, buffer)
    return buffer.getvalue()


def damage(content: bytes, change: str) -> bytes:
    """Spoil a checkpoint in one of several ways."""
    values: Any = torch.load(io.BytesIO(content), weights_only=True)
    changes: dict[str, Any] = {
        "pickle": {"format": nn.RNN},
        "foreign": {"weights": {}},
        "newer": {**values, "version": 3},
        "lacking": {name: value for name, value in values.items() if name != "step"},
        "layer": {**values, "model": {**values["model"], "rnn": "Linear"}},
        "weights": {**values, "model": {**values["model"], "hidden_size": 9}},
    }
    texts = {"empty": b"", "cut": content[:-100], "text": b"no checkpoint"}
    return texts[change] if change in texts else save(changes[change])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("empty", "is damaged or no checkpoint"),
        ("cut", "is damaged or no checkpoint"),
        ("text", "is damaged or no checkpoint"),
        ("pickle", "is damaged or no checkpoint"),
        ("foreign", "got another file"),
        ("newer", "reads checkpoints of the versions 1 and 2, 'c.pt' has version 3"),
        ("lacking", "is damaged: it lacks 'step'"),
        ("layer", "the description of the model cannot be used"),
        ("weights", "is damaged: weights.rnn.weight_ih_l0 cannot"),
    ],
)
def test_a_damaged_checkpoint_is_refused(change: str, message: str) -> None:
    """Each kind of damage is a typed error that says what is wrong."""
    content = damage(make_content(), change)
    with pytest.raises(tl.RunError, match=message):
        unpack(content, name="c.pt").build()
