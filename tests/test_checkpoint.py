"""A model on the disk."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tokenloom as tl
from tokenloom.checkpoint import build_model, describe_model, load_checkpoint, save_checkpoint

LAYERS = [
    nn.RNN(5, 8, nonlinearity="relu"),
    nn.GRU(3, 8, num_layers=2, dropout=0.25),
    nn.LSTM(5, 8, bidirectional=True, bias=False, proj_size=4),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_a_loaded_model_is_the_saved_one(layer: nn.RNNBase, tmp_path: Path) -> None:
    """It gives bitwise the same logits."""
    model = tl.RNNModel(layer, 5).eval()
    loaded = load_checkpoint(save_checkpoint(tmp_path / "c.pt", model, epoch=3, step=4)).eval()
    inputs = torch.tensor([[1, 2, 3, 4]])
    assert torch.equal(model(inputs)[0], loaded(inputs)[0])


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_a_description_survives_json(layer: nn.RNNBase) -> None:
    """A model can be built again from what stands in a settings file."""
    description = describe_model(tl.RNNModel(layer, 5))
    rebuilt = build_model(json.loads(json.dumps(description)))
    assert description == describe_model(rebuilt)


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    """It is plain data that weights_only=True accepts."""
    path = save_checkpoint(tmp_path / "c.pt", tl.RNNModel(LAYERS[0], 5), epoch=3, step=4)
    content = torch.load(path, weights_only=True)
    assert (3, 4) == (content["epoch"], content["step"])


def damage(path: Path, change: str) -> None:
    """Spoil a checkpoint in one of several ways."""
    content: Any = torch.load(path, weights_only=True)
    match change:
        case "missing":
            path.unlink()
        case "cut":
            path.write_bytes(path.read_bytes()[:-100])
        case "text":
            path.write_text("no checkpoint")
        case "pickle":
            torch.save({"format": nn.RNN}, path)
        case "foreign":
            torch.save({"weights": {}}, path)
        case "newer":
            torch.save({**content, "version": 2}, path)
        case "layer":
            torch.save({**content, "model": {**content["model"], "rnn": "Linear"}}, path)
        case "weights":
            torch.save({**content, "model": {**content["model"], "hidden_size": 9}}, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", "found none: train first"),
        ("cut", "is damaged or no checkpoint"),
        ("text", "is damaged or no checkpoint"),
        ("pickle", "is damaged or no checkpoint"),
        ("foreign", "got another file"),
        ("newer", "reads checkpoints of version 1, .* has version 2"),
        ("layer", "the description of the model cannot be used"),
        ("weights", "do not fit the model that it describes"),
    ],
)
def test_a_damaged_checkpoint_is_refused(change: str, message: str, tmp_path: Path) -> None:
    """Each kind of damage is a typed error that says what is wrong."""
    path = save_checkpoint(tmp_path / "c.pt", tl.RNNModel(nn.RNN(5, 8), 5), epoch=0, step=0)
    damage(path, change)
    with pytest.raises(tl.RunError, match=message):
        load_checkpoint(path)
