"""The checkpoints of a run: the files of the last few and the best, checked as they are read."""

import dataclasses
import hashlib
import io
import json
import math
import os
import re
import warnings
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from tokenloom._io.atomic import remove_partial, replacing
from tokenloom._io.regular import open_regular
from tokenloom._wording import count, show
from tokenloom.errors import RunError
from tokenloom.model.rnn import RNNModel

_FORMAT = "tokenloom-checkpoint"
_FORMAT_VERSION = 2
# Version 1 held the model alone.
_READABLE_VERSIONS = (1, 2)

_RNN_KINDS: dict[str, type[nn.RNNBase]] = {"RNN": nn.RNN, "GRU": nn.GRU, "LSTM": nn.LSTM}
_DTYPES = {name: getattr(torch, name) for name in ("float16", "bfloat16", "float32", "float64")}
_DESCRIBED = {
    *("rnn", "vocab_size", "input_size", "hidden_size", "num_layers", "bias", "dropout"),
    *("bidirectional", "dtype", "nonlinearity", "proj_size"),
}
_NO_FIT = "the checkpoint's weights do not fit the model"
# Bounds of sizes; a model of more layers would take too long to build, even without weights.
_STOPS = {
    **dict.fromkeys(("vocab_size", "input_size", "hidden_size", "proj_size"), 1 << 31),
    "num_layers": 1 << 12,
}
# The largest number of values in a checkpoint; a value that stands in several places counts for
# each.
_MAX_VALUES = 1 << 20

Mark = Literal["step", "best"]
# The key of the mark that a checkpoint was written as.
_MARK = "mark"

_NAME = re.compile(r"(step|best)-(\d+)-([0-9a-f]{16})\.pt")


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
        unknown = sorted(map(str, set(options) - _DESCRIBED))
        _require(not unknown, "its parts", unknown)
        for name, stop in _STOPS.items():
            value = options.get(name, 1)
            _require(type(value) is int and 0 <= value < stop, name, value)
        for name in ("bias", "bidirectional"):
            # PyTorch takes 0 and 1 too, and fails in the first step.
            _require(type(options.get(name, True)) is bool, name, options.get(name))
        kind = _RNN_KINDS[options.pop("rnn")]
        vocab_size, dtype = options.pop("vocab_size"), options.pop("dtype")
        return RNNModel(kind(**options), vocab_size).to(_DTYPES[dtype])
    except (KeyError, RuntimeError, TypeError, ValueError, OverflowError) as error:
        msg = f"the description of the model cannot be used, got {show(description)}: {error}"
        raise RunError(msg) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The content of a checkpoint's file.

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
        All that the rest of the training depends on; older releases saved none.
    owner : dict of str, optional
        The id of the run that it belongs to, and the digests of the last lines of
        its records. Older releases saved none.
    """

    model: dict[str, Any]
    weights: dict[str, torch.Tensor]
    epoch: int
    step: int
    training: dict[str, Any] | None = None
    owner: dict[str, str] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the fields that describe the training: all but ``owner``."""
        return {
            "model": self.model,
            "weights": self.weights,
            "epoch": self.epoch,
            "step": self.step,
            "training": self.training,
        }

    def build(self) -> RNNModel:
        """Return the model, on the CPU.

        Raises
        ------
        RunError
            The weights do not fit the description, or it cannot be used.
        """
        # Checked before memory is allocated for what the description asks for.
        if not _fits(self.weights, _make_shapes(self.model)):
            raise RunError(_NO_FIT)
        model = build_model(self.model)
        load_weights(model, self.weights)
        return model


def load_weights(model: RNNModel, weights: dict[str, torch.Tensor]) -> None:
    """Give a model the weights of a checkpoint.

    Raises
    ------
    RunError
        They are another model's.
    """
    try:
        model.load_state_dict(weights)
    except (AttributeError, KeyError, RuntimeError, TypeError) as error:
        raise RunError(_NO_FIT) from error


def pack(checkpoint: Checkpoint) -> bytes:
    """Return the bytes of a checkpoint's file."""
    content = {
        "format": _FORMAT,
        "version": _FORMAT_VERSION,
        **checkpoint.state_dict(),
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
        # torch.load also reads other kinds of files, which no release has written.
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            num_bytes = sum(entry.file_size for entry in archive.infolist())
            _require(num_bytes <= 2 * len(content), "the size of its parts", num_bytes)
        values = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    # A damaged file can make the unpickler fail in any way.
    except Exception as error:
        msg = f"the checkpoint {name!r} is damaged or no checkpoint: {type(error).__name__}"
        raise RunError(msg) from error
    _check_form(values, name)
    checkpoint = Checkpoint(
        model=values["model"],
        weights=values["weights"],
        epoch=values["epoch"],
        step=values["step"],
        training=values.get("training"),
        owner=values.get("owner"),
    )
    try:
        _check_tree(values)
        _check_values(checkpoint)
    # What has the wrong type can fail in any way too.
    except Exception as error:
        msg = f"the checkpoint {name!r} is damaged: {error}"
        raise RunError(msg) from error
    return checkpoint


def write_checkpoint(
    folder: Path, checkpoint: Checkpoint, *, keep: int, is_best: bool = False
) -> Path:
    """Write a checkpoint, whole or not at all, and remove surplus ones.

    Its name has the step and the first 16 digits of the SHA-256 of its
    bytes, so that damage is seen when it is read. See `Run.save`.
    """
    owner = {**(checkpoint.owner or {}), _MARK: "best" if is_best else "step"}
    content = pack(dataclasses.replace(checkpoint, owner=owner))
    name = f"{checkpoint.step:09d}-{hashlib.sha256(content).hexdigest()[:16]}.pt"
    path, best = folder / f"step-{name}", folder / f"best-{name}"
    _write(path, content)
    if is_best:
        _write(best, content)
        _remove(file for file in _list(folder, "best") if file.path != best)
    files = [file for file in _list(folder, "step") if file.path != path]
    # Older ones of the same step.
    _remove(file for file in files if file.step == checkpoint.step)
    _remove(_list(folder, "step")[keep:])
    return path


def read_checkpoint(folder: Path, mark: Mark = "step") -> Checkpoint | None:
    """Return the newest checkpoint that is whole, or None if there are none at all.

    A damaged one is named in a warning, and the one before it is read.

    Raises
    ------
    RunError
        There are checkpoints, and none is whole.
    """
    files = _list(folder, mark)
    if mark == "step":
        # If all of the last checkpoints are damaged, the best one may be whole.
        files = sorted([*files, *_list(folder, "best")], key=lambda file: file.step, reverse=True)
    for file in files:
        try:
            return _read(file)
        except OSError as error:
            warnings.warn(f"{error}; going back to the one before it", stacklevel=2)
    if files:
        msg = f"none of the {len(files)} checkpoints in {str(folder)!r} is whole: train anew"
        raise RunError(msg)
    return None


def remove_later(folder: Path, *, step: int) -> None:
    """Remove checkpoints of later steps, and files that a killed process left unfinished."""
    _remove(file for mark in ("step", "best") for file in _list(folder, mark) if file.step > step)
    if folder.is_dir():
        remove_partial(folder)


def has_checkpoint(folder: Path) -> bool:
    """Return whether there is a checkpoint, whole or not."""
    return bool(_list(folder, "step"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    path: Path
    mark: str
    step: int
    digest: str


def _read(file: _File) -> Checkpoint:
    with open_regular(file.path) as opened:
        # Hash the file before it is read into memory: a sparse file may be larger than memory.
        digest = hashlib.file_digest(opened, "sha256").hexdigest()[:16]  # type: ignore[arg-type]  # it reads into buffers
        if digest != file.digest:
            size = count(os.fstat(opened.fileno()).st_size, "byte")
            msg = (
                f"the checkpoint {str(file.path)!r} is damaged: its {size} are not those that "
                "were written"
            )
            raise RunError(msg)
        opened.seek(0)
        checkpoint = unpack(opened.read(), name=file.path)
    if checkpoint.step != file.step:
        msg = (
            f"the checkpoint {str(file.path)!r} is of step {checkpoint.step}, and its name says "
            f"step {file.step}: it was renamed"
        )
        raise RunError(msg)
    if file.mark == "best" and (checkpoint.owner or {}).get(_MARK) == "step":
        msg = f"the checkpoint {str(file.path)!r} was not the best one: it was renamed"
        raise RunError(msg)
    return checkpoint


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _list(folder: Path, mark: str) -> list[_File]:
    """Return the files of a mark, the latest step first."""
    matches = [
        (path, match)
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (match := _NAME.fullmatch(path.name)) and match[1] == mark
    ]
    files = [
        _File(path=path, mark=match[1], step=int(match[2]), digest=match[3])
        for path, match in matches
    ]
    return sorted(files, key=lambda file: (file.step, file.path.name), reverse=True)


def _remove(files: Iterable[_File]) -> None:
    for file in files:
        file.path.unlink(missing_ok=True)


def _check_form(values: Any, name: str) -> None:
    """Check that the values of a file are a complete checkpoint of a known version."""
    # Check the type first: a tensor answers a comparison with a tensor.
    head = values if isinstance(values, dict) else {}
    if not isinstance(head.get("format"), str) or head["format"] != _FORMAT:
        msg = f"expected a checkpoint of tokenloom at {name!r}, got another file"
        raise RunError(msg)
    if type(head.get("version")) is not int or head["version"] not in _READABLE_VERSIONS:
        msg = (
            f"this release reads checkpoints of the versions 1 and {_FORMAT_VERSION}, {name!r} "
            f"has version {show(head.get('version'))}: use the release that wrote it"
        )
        raise RunError(msg)
    missing = [each for each in ("model", "weights", "epoch", "step") if each not in values]
    if missing:
        msg = f"the checkpoint {name!r} is damaged: it lacks {missing[0]!r}"
        raise RunError(msg)


def _check_values(checkpoint: Checkpoint) -> None:
    """Check types, ranges and shapes of all values in a checkpoint.

    Raises
    ------
    Exception
        Of any type, if a value is wrong.
    """
    for name, value in (("epoch", checkpoint.epoch), ("step", checkpoint.step)):
        _require(type(value) is int and 0 <= value < 1 << 62, name, value)
    weights: Any = checkpoint.weights
    are_tensors = isinstance(weights, dict) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in weights.items()
    )
    _require(are_tensors, "weights", weights)
    shapes = _make_shapes(checkpoint.model)
    # A model of a class derived from RNNModel may have more weights, or others.
    is_ours = set(weights) == set(shapes)
    for name, weight in weights.items() if is_ours else ():
        _require(_is_like(weight, shapes[name]), f"weights.{name}", weight)
    owner, training = checkpoint.owner, checkpoint.training
    plain = (str, bool, type(None))
    is_plain = isinstance(owner, dict) and all(type(each) in plain for each in owner.values())
    _require(owner is None or is_plain, "owner", owner)
    if training is not None:
        _require(isinstance(training, dict), "training", training)
        _check_training(training, checkpoint.model if is_ours else None)


def _check_tree(values: object) -> None:
    """Check that values are few and plain, and that no two numbers of a tensor share memory.

    A file of a few bytes can name one number a billion times, or one list.
    """
    waiting, num_values = [values], 0
    while waiting:
        value = waiting.pop()
        num_values += 1
        _require(num_values <= _MAX_VALUES, "the number of its values", "so large")
        if isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, torch.Tensor):
            _require(_is_plain(value), "a tensor", value)


def _is_plain(tensor: torch.Tensor) -> bool:
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        return False
    reach = 0
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1 and stride <= reach:
            return False
        reach += (size - 1) * stride
    return True


def _make_shapes(description: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the weights of a described model, without memory for their numbers."""
    with torch.device("meta"):
        return build_model(description).state_dict()


def _fits(weights: dict[str, torch.Tensor], shapes: dict[str, torch.Tensor]) -> bool:
    return set(weights) == set(shapes) and all(
        _is_like(weights[name], expected) for name, expected in shapes.items()
    )


def _is_like(tensor: torch.Tensor, example: torch.Tensor) -> bool:
    return (tensor.shape, tensor.dtype) == (example.shape, example.dtype)


def _check_training(training: dict[str, Any], model: dict[str, Any] | None) -> None:
    """Check a state of `TrainingState.state_dict`, except the parts that check themselves."""
    for name in ("position", "updates", "epochs"):
        _require(isinstance(training[name], dict), f"training.{name}", training[name])
    # This raises for values that are no JSON, since they cannot be compared.
    json.dumps(training.get("settings"))
    _check_meter(training["epochs"])
    if training["hidden"] is not None:
        # A training of one part of each batch, without a group, saves the rows of its part.
        batch_size = training["position"]["batch_size"]
        _require(type(batch_size) is int, "training.position.batch_size", batch_size)
        num_parts = (training.get("settings") or {}).get("world_size", 1)
        _check_hidden(training["hidden"], batch_size // num_parts, model)
    random = training["random"]
    _require(isinstance(random, list) and len(random) > 0, "training.random", random)
    for state in random:
        _check_random(state)


def _check_meter(epochs: dict[str, Any]) -> None:
    losses, num_targets = epochs["losses"], epochs["num_targets"]
    are_pairs = losses.ndim == 1 and losses.shape == num_targets.shape
    are_numbers = losses.is_floating_point() and num_targets.dtype == torch.int64
    _require(are_pairs and are_numbers, "training.epochs.losses", losses)
    first, seconds = epochs["first_batch"], epochs["seconds"]
    _require(type(first) is int and first >= 0, "training.epochs.first_batch", first)
    is_time = type(seconds) in (int, float) and 0 <= seconds < math.inf
    _require(is_time, "training.epochs.seconds", seconds)


def _check_hidden(hidden: list[torch.Tensor], num_rows: int, model: dict[str, Any] | None) -> None:
    if model is None:
        _require(all(part.shape[1] == num_rows for part in hidden), "hidden", hidden)
        return
    size = model.get("proj_size") or model["hidden_size"]
    num_states = model["num_layers"] * (2 if model["bidirectional"] else 1)
    widths = [size, model["hidden_size"]] if model["rnn"] == "LSTM" else [size]
    fits = [tuple(part.shape) for part in hidden] == [(num_states, num_rows, n) for n in widths]
    _require(fits and all(part.is_floating_point() for part in hidden), "hidden", hidden)


def _check_random(state: dict[str, Any]) -> None:
    # set_state raises an error if the value is not a generator state.
    torch.Generator().set_state(state["cpu"])
    on_gpu = state["cuda"]
    is_state = on_gpu is None or (on_gpu.dtype == torch.uint8 and on_gpu.ndim == 1)
    _require(is_state, "training.random.cuda", on_gpu)


def _require(condition: bool, name: str, value: object) -> None:  # noqa: FBT001  it reads well
    if not condition:
        msg = f"{name} cannot be {show(value)}"
        raise ValueError(msg)
