"""A checkpoint on the disk, and the last few and the best of a run."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tokenloom as tl
from tests.support.training.trainings import checkpoint_of
from tokenloom.errors import RunError
from tokenloom.training.checkpoint import (
    Checkpoint,
    build_model,
    describe_model,
    pack,
    read_checkpoint,
    remove_later,
    unpack,
    write_checkpoint,
)

MODEL = tl.RNNModel(nn.RNN(5, 8), 5)
LAYERS = [
    nn.RNN(5, 8, nonlinearity="relu"),
    nn.GRU(3, 8, num_layers=2, dropout=0.25),
    nn.LSTM(5, 8, bidirectional=True, bias=False, proj_size=4),
]


def make_content() -> bytes:
    """Return the bytes of a small checkpoint."""
    model = tl.RNNModel(nn.RNN(5, 8), 5)
    return pack(checkpoint_of(model, epoch=3, step=4, training={"hidden": None}))


def save(values: Any) -> bytes:
    """Return what torch.save writes."""
    buffer = io.BytesIO()
    torch.save(values, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_a_loaded_model_is_the_saved_one(layer: nn.RNNBase) -> None:
    """It gives bitwise the same logits."""
    model = tl.RNNModel(layer, 5).eval()
    content = pack(checkpoint_of(model, epoch=3, step=4))
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


def damage(content: bytes, change: str) -> bytes:
    """Spoil a checkpoint in one of several ways."""
    values: Any = torch.load(io.BytesIO(content), weights_only=True)
    changes: dict[str, Any] = {
        "pickle": {"format": nn.RNN},
        "foreign": {"weights": {}},
        "newer": {**values, "version": 3},
        "tensor": {**values, "version": torch.zeros(3)},
        "tensors": {**values, "format": torch.zeros(3)},
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
        ("tensor", "'c.pt' has version a tensor of"),
        ("tensors", "got another file"),
        ("lacking", "is damaged: it lacks 'step'"),
        ("layer", "the description of the model cannot be used"),
        ("weights", "is damaged: weights.rnn.weight_ih_l0 cannot"),
    ],
)
def test_a_damaged_checkpoint_is_refused(change: str, message: str) -> None:
    """Each kind of damage is a typed error that says what is wrong."""
    content = damage(make_content(), change)
    with pytest.raises(RunError, match=message):
        unpack(content, name="c.pt").build()


def describe_large() -> dict[str, Any]:
    """Return the description of a model of 600 million weights."""
    model = tl.RNNModel(nn.RNN(5, 8), 5)
    return {**describe_model(model), "vocab_size": 60_000, "input_size": 4, "hidden_size": 10_000}


def test_one_number_does_not_stand_for_many() -> None:
    """A file of a few bytes can name it a billion times, and would take gigabytes."""
    with torch.device("meta"):
        shapes = build_model(describe_large()).state_dict()
    weights = {name: torch.zeros(1).expand(value.shape) for name, value in shapes.items()}
    large = Checkpoint(model=describe_large(), weights=weights, epoch=0, step=1)
    with pytest.raises(RunError, match=r"'c\.pt' is damaged: a tensor cannot be a tensor of"):
        unpack(pack(large), name="c.pt")


def test_a_description_asks_for_no_more_than_the_weights_fill() -> None:
    """There is no memory for a model before its weights are known to fit it."""
    small = checkpoint_of(tl.RNNModel(nn.RNN(5, 8), 5), epoch=0, step=1)
    large = Checkpoint(model=describe_large(), weights=small.weights, epoch=0, step=1)
    with pytest.raises(RunError, match="do not fit the model"):
        large.build()


@pytest.mark.parametrize(
    "change",
    [
        *({"num_layers": 10**9}, {"hidden_size": 2**40}, {"vocab_size": "5"}, {"input_size": True}),
        *({"dropout": "x"}, {"dropout": 2}, {"rnn": []}, {"dtype": "int64"}, {"mode": "RNN"}),
    ],
    ids=str,
)
def test_sizes_that_no_model_has_are_refused(change: dict[str, Any]) -> None:
    """A billion layers would be made for ever."""
    description = describe_model(tl.RNNModel(nn.RNN(5, 8), 5))
    with pytest.raises(RunError, match="the description of the model cannot be used"):
        build_model({**description, **change})


def test_one_list_does_not_stand_for_many() -> None:
    """Lists that hold one list twice, and so on, are endless to walk through."""
    values: list[Any] = []
    for _ in range(60):
        values = [values, values]
    model = tl.RNNModel(nn.RNN(5, 8), 5)
    content = pack(checkpoint_of(model, epoch=0, step=1, training={"settings": values}))
    with pytest.raises(RunError, match="the number of its values"):
        unpack(content, name="c.pt")


@pytest.mark.parametrize(
    "content",
    [b"\x80\x02K\x01.", b"cos\nsystem\n.", b"\x80\x02q\x00.", b"\x80\x02]s.", b".", b"}s."],
    ids=str,
)
def test_a_tiny_pickle_is_no_checkpoint(content: bytes) -> None:
    """Whatever the unpickler makes of it."""
    with pytest.raises(RunError, match=r"c\.pt"):
        unpack(content, name="c.pt")


@pytest.mark.parametrize("name", ["bias", "bidirectional"])
@pytest.mark.parametrize("value", [0, 1, None, "yes"])
def test_a_flag_of_the_model_is_true_or_false(name: str, value: object) -> None:
    """PyTorch would make the layer, and fail in the first step."""
    description = {**describe_model(tl.RNNModel(nn.GRU(5, 8), 5)), name: value}
    with pytest.raises(RunError, match=f"cannot be used, .*: {name} cannot be"):
        build_model(description)


def write(folder: Path, step: int, *, keep: int = 2, is_best: bool = False) -> Path:
    """Write the checkpoint of a step."""
    checkpoint = checkpoint_of(MODEL, epoch=0, step=step)
    return write_checkpoint(folder, checkpoint, keep=keep, is_best=is_best)


def steps(folder: Path) -> list[str]:
    """Return the marks and steps of the files in a folder."""
    return sorted(path.name.rpartition("-")[0] for path in folder.iterdir())


def test_the_last_few_stay(tmp_path: Path) -> None:
    """As many as asked for, and nothing else lies in the folder."""
    for step in (0, 5, 10, 15):
        write(tmp_path, step)
    assert ["step-000000010", "step-000000015"] == steps(tmp_path)


def test_a_step_has_one_checkpoint(tmp_path: Path) -> None:
    """A second one of a step replaces the first, and takes no place of another step."""
    write(tmp_path, 5)
    write(tmp_path, 10)
    checkpoint = checkpoint_of(MODEL, epoch=1, step=10)
    write_checkpoint(tmp_path, checkpoint, keep=2)
    assert ["step-000000005", "step-000000010"] == steps(tmp_path)
    found = read_checkpoint(tmp_path)
    assert found is not None
    assert 1 == found.epoch


def test_the_best_stays(tmp_path: Path) -> None:
    """However many come after it; a better one takes its place."""
    write(tmp_path, 5, is_best=True)
    for step in (10, 15, 20):
        write(tmp_path, step)
    best = read_checkpoint(tmp_path, "best")
    assert best is not None
    assert 5 == best.step
    write(tmp_path, 25, is_best=True)
    assert ["best-000000025", "step-000000020", "step-000000025"] == steps(tmp_path)


def test_the_best_is_a_file_of_its_own(tmp_path: Path) -> None:
    """What damages the newest checkpoint where it lies does not reach it."""
    write(tmp_path, 5, is_best=True).write_bytes(b"")
    with pytest.warns(UserWarning, match="step-000000005-.* is damaged"):
        found = read_checkpoint(tmp_path)
    assert found is not None
    assert 5 == found.step


def test_where_there_is_none(tmp_path: Path) -> None:
    """Nothing is found, in an empty folder and in one that does not exist."""
    assert read_checkpoint(tmp_path) is None
    assert read_checkpoint(tmp_path / "nothing") is None


def flip(content: bytes) -> bytes:
    """Turn over one bit in the middle."""
    half = len(content) // 2
    return content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]


@pytest.mark.parametrize(
    "spoil",
    [flip, lambda content: content[:-1], lambda _: b"", lambda content: content + b"\0"],
    ids=["bit", "cut", "empty", "longer"],
)
def test_a_damaged_one_falls_back_to_the_one_before(
    spoil: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    """A warning names the damaged file."""
    write(tmp_path, 5)
    newest = write(tmp_path, 10)
    newest.write_bytes(spoil(newest.read_bytes()))
    with pytest.warns(UserWarning, match=f"{newest.name}' is damaged.* the one before it"):
        found = read_checkpoint(tmp_path)
    assert found is not None
    assert 5 == found.step


def test_the_best_is_what_is_left(tmp_path: Path) -> None:
    """Where the last ones are damaged, the best goes before nothing."""
    write(tmp_path, 5, is_best=True)
    damaged = [write(tmp_path, step) for step in (10, 15)]
    for path in damaged:
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="is damaged"):
        found = read_checkpoint(tmp_path)
    assert found is not None
    assert 5 == found.step


def test_where_all_are_damaged(tmp_path: Path) -> None:
    """That is an error, since a training must not begin anew in silence."""
    write(tmp_path, 5).write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="is damaged"),
        pytest.raises(RunError, match=r"none of the 1 checkpoints in .* is whole"),
    ):
        read_checkpoint(tmp_path)


def test_what_comes_later_is_removed(tmp_path: Path) -> None:
    """With what a killed process left half-written; other files stay."""
    for step in (5, 10):
        write(tmp_path, step, is_best=True)
    (tmp_path / f".step-000000015.pt.{'0' * 16}.part").touch()
    (tmp_path / "notes.txt").touch()
    remove_later(tmp_path, step=5)
    assert ["", "step-000000005"] == steps(tmp_path)
