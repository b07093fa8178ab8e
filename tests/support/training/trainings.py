"""Small trainings, which tests break off and go on with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import tokenloom as tl
from tokenloom.training.checkpoint import Checkpoint, describe_model

CORPUS = tl.Corpus.from_text("the time traveller for so it will be convenient to speak of him " * 8)
TRAIN, HELD_OUT = CORPUS.split(0.8)
LAYERS: dict[str, Any] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
ORDERS: dict[str, Any] = {"sequential": tl.SequentialWindows, "random": tl.RandomWindows}
# Batches of an epoch, and epochs.
NUM_BATCHES, NUM_EPOCHS = 9, 3
# What the command line trains on, and how.
BOOK = "The Time Traveller (for so it will be convenient to speak of him)\n" * 30
SMALL = (
    *("--batch-size", "4", "--seq-len", "10", "--hidden", "16"),
    *("--epochs", "3", "--device", "cpu"),
)


class StoppedError(Exception):
    """What ends a training in these tests, in the middle of a step."""


def make_model(layer: str = "rnn", **options: Any) -> tl.RNNModel:
    """Return a small model, always with the same weights."""
    torch.manual_seed(0)
    size = CORPUS.vocab_size
    return tl.RNNModel(LAYERS[layer](size, 8, **options), size)


def make_loader(order: str = "sequential", **options: Any) -> tl.Loader:
    """Return a loader of some epochs of nine batches, in blocks of two."""
    shape = {"batch_size": 4, "seq_len": 10, "tail": options.pop("tail", "drop")}
    windows = ORDERS[order](TRAIN, **shape)
    blocks = tl.WorkerOptions(block_size=2)
    return tl.Loader(windows, **{"num_epochs": NUM_EPOCHS, "worker_options": blocks, **options})


def stop_in_step(model: tl.RNNModel, step: int) -> None:
    """Let a training fail while it computes in a step, counted from 1."""
    steps: list[int] = []

    def stop(_: Any, inputs: Any) -> None:
        # Text that is held out comes in other batches, and without training.
        if model.training:
            steps.append(len(inputs))
        if len(steps) == step:
            raise StoppedError

    model.register_forward_pre_hook(stop)


def checkpoint_of(
    model: tl.RNNModel, *, epoch: int, step: int, training: dict[str, Any] | None = None
) -> Checkpoint:
    """Return the checkpoint of a model as it is now."""
    return Checkpoint(
        model=describe_model(model),
        weights=model.state_dict(),
        epoch=epoch,
        step=step,
        training=training,
    )


def weights_of(model: nn.Module) -> dict[str, Any]:
    """Return the weights as lists, to be compared bit by bit."""
    return {name: value.tolist() for name, value in model.state_dict().items()}


def records_of(run: Path) -> list[Any]:
    """Return what a run wrote down, but for the times."""
    opened = tl.Run.open(run)
    metrics = [
        (entry.epoch, entry.step, entry.perplexity, entry.held_out_perplexity)
        for entry in opened.metrics()
    ]
    return [metrics, (run / "losses.jsonl").read_text(encoding="utf-8")]


def outcome_of(run: Path) -> list[Any]:
    """Return the weights and the records that a run ended with."""
    return [weights_of(tl.Run.open(run).load_model()), *records_of(run)]


def train_in_pieces(
    run: Path, model: dict[str, Any], stops: Sequence[int], **options: Any
) -> list[tl.training.EpochMetrics]:
    """Train, fail in the given steps of each piece, resume each time, and finish."""
    order, tail = options.pop("order", "sequential"), options.pop("tail", "drop")
    for piece, stop in enumerate([*stops, None]):
        fresh = make_model(**model)
        if stop is not None:
            stop_in_step(fresh, stop)
        loader = make_loader(order, tail=tail, num_workers=piece % 2)
        try:
            return tl.train(fresh, loader, run=run, resume=True, device="cpu", **options)
        except StoppedError:
            continue
    raise AssertionError
