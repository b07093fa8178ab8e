"""What a training does beyond the textbook's."""

import functools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tokenloom as tl
from tokenloom.errors import ArgumentError


def factors(num_updates: int | None = 10, **options: Any) -> list[float]:
    """Return the factors of the learning rate in the first ten updates, rounded."""
    chosen = tl.TrainingOptions(**options)
    return [round(chosen.factor(update, num_updates=num_updates), 6) for update in range(10)]


def test_schedules_fall_to_nothing() -> None:
    """A line and half a cosine over all updates; the constant one stays."""
    assert [1.0] * 10 == factors()
    assert [round(1 - update / 10, 6) for update in range(10)] == factors(schedule="linear")
    cosine = [round(0.5 + 0.5 * math.cos(math.pi * update / 10), 6) for update in range(10)]
    assert cosine == factors(schedule="cosine")


def test_warm_up_rises_in_a_line() -> None:
    """Up to the whole learning rate, from which the schedule falls."""
    assert [0.25, 0.5, 0.75, 1.0, 1.0] == factors(warmup_updates=4)[:5]
    assert [0.5, 1.0, 1.0, 0.875, 0.75] == factors(schedule="linear", warmup_updates=2)[:5]


def test_without_an_end_nothing_falls() -> None:
    """Of an endless training only the warm-up is known; what would fall is refused."""
    assert [0.5] + [1.0] * 9 == factors(None, warmup_updates=2)
    for schedule in ("cosine", "linear"):
        with pytest.raises(ArgumentError, match=f"schedule='{schedule}' needs a last update"):
            factors(None, schedule=schedule, warmup_updates=2)


def test_optimisers() -> None:
    """Two by name, others by a function; a description names it."""
    parameters = [nn.Parameter(torch.zeros(2))]

    def momentum(parameters: Any, lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=lr, momentum=0.9)

    chosen = [tl.TrainingOptions(optimizer=name) for name in ("sgd", "adamw", momentum)]
    made = [options.make_optimizer(parameters, 0.5) for options in chosen]
    assert ["SGD", "AdamW", "SGD"] == [type(optimizer).__name__ for optimizer in made]
    assert [0.5] * 3 == [optimizer.param_groups[0]["lr"] for optimizer in made]
    assert str(chosen[2].describe()["optimizer"]).endswith("momentum")


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (tl.TrainingOptions, {"optimizer": "magic"}, "optimizer must be 'sgd' or 'adamw', got"),
        (tl.TrainingOptions, {"schedule": "cubic"}, "schedule must be 'constant', 'cosine' or 'l"),
        (tl.TrainingOptions, {"precision": 16}, "precision must be 'float32' or 'bfloat16', g"),
        (tl.TrainingOptions, {"precision": np.zeros(2)}, "precision must be 'float32' or 'bfl"),
        (tl.TrainingOptions, {"precision": "float16"}, "got 'float16', .*: use 'bfloat16'"),
        (tl.TrainingOptions, {"warmup_updates": -1}, "warmup_updates must be an integer of at"),
        (tl.TrainingOptions, {"batches_per_update": 0}, "batches_per_update must be an integer"),
        (tl.RunOptions, {"keep": 0}, "keep must be an integer of at least 1, got 0"),
        (tl.RunOptions, {"checkpoint_steps": 0}, "checkpoint_steps must be an integer of at l"),
        (tl.RunOptions, {"sample_epochs": 1.5}, "sample_epochs must be an integer of at least"),
        (tl.RunOptions, {"checkpoint_seconds": math.nan}, "checkpoint_seconds must be at least 0"),
    ],
)
def test_values_that_cannot_work_are_refused(
    kind: Any, values: dict[str, Any], message: str
) -> None:
    """When they are made, with the name and the value."""
    with pytest.raises(ArgumentError, match=message):
        kind(**values)


class _Maker:
    def __call__(self, parameters: Any, lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=lr)


def _make(parameters: Any, lr: float, momentum: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr, momentum=momentum)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (_make, f"{__name__}._make"),
        (functools.partial(_make, momentum=0.9), f"{__name__}._make(momentum=0.9)"),
        (_Maker(), f"{__name__}._Maker"),
    ],
)
def test_an_optimiser_has_the_same_name_in_every_process(optimizer: Any, expected: str) -> None:
    """So that a run with an own one can be resumed, and not with another one."""
    described = tl.TrainingOptions(optimizer=optimizer).describe()
    assert expected == described["optimizer"]


def test_a_function_that_makes_no_optimiser_is_refused() -> None:
    """The message shows what it made."""
    wrong: Any = lambda *_: "adam"  # noqa: E731
    options = tl.TrainingOptions(optimizer=wrong)
    with pytest.raises(ArgumentError, match=r"returns a torch.optim.Optimizer, got .* 'adam'"):
        options.make_optimizer(torch.nn.Linear(1, 1).parameters(), 0.5)
