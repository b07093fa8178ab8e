"""The options of a training, as values: optimizer, schedule of the learning rate, checkpoints."""

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import nn

from tokenloom._checks import as_flag, as_integer, as_number, require_choice, require_type
from tokenloom._wording import show
from tokenloom.errors import ArgumentError

OptimizerFactory = Callable[[Iterable[nn.Parameter], float], torch.optim.Optimizer]

OPTIMIZERS: dict[str, OptimizerFactory] = {
    "sgd": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr),
    "adamw": lambda parameters, lr: torch.optim.AdamW(parameters, lr=lr),
}
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
    "linear": lambda progress: 1.0 - progress,
}
PRECISIONS: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """How a model is trained, beyond the textbook's recipe; all of it shapes the weights.

    An *update* is one step of the optimiser.

    Parameters
    ----------
    optimizer : "sgd", "adamw" or callable
        Plain stochastic gradient descent, AdamW with PyTorch's defaults, or
        ``optimizer(parameters, lr)`` that returns a `torch.optim.Optimizer`.
    schedule : "constant", "cosine" or "linear"
        How the learning rate changes up to the last update: it stays, or falls to 0
        along half a cosine or a line, which needs a training with an end.
    warmup_updates : int
        The number of updates over which the learning rate first rises in a line.
    batches_per_update : int
        The number of batches in a row that make one update, with the mean over
        all their targets as its loss. The last update of an epoch takes the rest.
    precision : "float32" or "bfloat16"
        Of the computation, by `torch.autocast`; the weights stay as they are.
    across_documents : bool
        Whether the first token of a document is learnt, and measured on the held-out
        text, as the successor of the document before it. False needs a corpus that
        knows where its documents start.

    Raises
    ------
    ArgumentError
        A value is invalid.

    >>> TrainingOptions(schedule="cosine", warmup_updates=2).factor(0, num_updates=10)
    0.5
    """

    optimizer: Literal["sgd", "adamw"] | OptimizerFactory = "sgd"
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    warmup_updates: int = 0
    batches_per_update: int = 1
    precision: Literal["float32", "bfloat16"] = "float32"
    across_documents: bool = True

    def __post_init__(self) -> None:
        if not callable(self.optimizer):
            require_choice("optimizer", self.optimizer, tuple(OPTIMIZERS))
        require_choice("schedule", self.schedule, tuple(SCHEDULES))
        precision: object = self.precision
        # An array answers a comparison with an array.
        if isinstance(precision, str) and precision == "float16":
            msg = (
                "precision must be 'float32' or 'bfloat16', got 'float16', in which small "
                "gradients vanish: use 'bfloat16'"
            )
            raise ArgumentError(msg)
        require_choice("precision", precision, tuple(PRECISIONS))
        object.__setattr__(
            self, "across_documents", as_flag("across_documents", self.across_documents)
        )
        # Plain integers, since they are written down as JSON.
        for name, start in (("warmup_updates", 0), ("batches_per_update", 1)):
            object.__setattr__(self, name, as_integer(name, getattr(self, name), start=start))

    def make_optimizer(
        self, parameters: Iterable[nn.Parameter], lr: float
    ) -> torch.optim.Optimizer:
        """Return a new optimiser of the parameters.

        Raises
        ------
        ArgumentError
            A function of the caller's returns something else.
        """
        make = OPTIMIZERS[self.optimizer] if isinstance(self.optimizer, str) else self.optimizer
        made: object = make(parameters, lr)
        if not isinstance(made, torch.optim.Optimizer):
            msg = (
                "optimizer must be a function that returns a torch.optim.Optimizer, got one that "
                f"returns {show(made)}"
            )
            raise ArgumentError(msg)
        return made

    def factor(self, update: int, *, num_updates: int | None) -> float:
        """Return the factor of the learning rate in an update, counted from 0.

        Parameters
        ----------
        update : int
        num_updates : int, optional
            Of the whole training; None for one without end.

        Raises
        ------
        ArgumentError
            The schedule falls, and the training has no end.
        """
        self.check_end(num_updates)
        if update < self.warmup_updates:
            return (update + 1) / self.warmup_updates
        if num_updates is None:
            return 1.0
        falling = max(num_updates - self.warmup_updates, 1)
        return SCHEDULES[self.schedule](min((update - self.warmup_updates) / falling, 1.0))

    def check_end(self, number: int | None) -> None:
        """Check that a training has an end where its schedule falls up to it.

        Parameters
        ----------
        number : int, optional
            Of its epochs, or of its updates; None for one without end.

        Raises
        ------
        ArgumentError
            It has no end.
        """
        if number is None and self.schedule != "constant":
            msg = (
                f"schedule={self.schedule!r} needs a last update, and a training with "
                "num_epochs=None has none: give the loader num_epochs, or use schedule='constant'"
            )
            raise ArgumentError(msg)

    @property
    def is_scheduled(self) -> bool:
        """Whether the learning rate changes at all."""
        return self.schedule != "constant" or self.warmup_updates > 0

    def describe(self) -> dict[str, Any]:
        """Return the options, JSON-able; a callable by its name."""
        optimizer = self.optimizer
        name = optimizer if isinstance(optimizer, str) else _name(optimizer)
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.across_documents:
            # Left out, as older releases wrote it, which had no other way.
            del values["across_documents"]
        return {**values, "optimizer": name}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The settings of a training that shape the weights.

    Parameters
    ----------
    lr : float
        Learning rate, per update.
    max_grad_norm : float
        A longer gradient is scaled to this Euclidean norm.
    seed : int
        Of PyTorch's global generators.
    options : TrainingOptions

    Raises
    ------
    ArgumentError
        A value is out of range.
    """

    lr: float
    max_grad_norm: float
    seed: int
    options: TrainingOptions

    def __post_init__(self) -> None:
        # Plain numbers, since they are written down as JSON.
        for name in ("lr", "max_grad_norm"):
            value = getattr(self, name)
            if not 0 < as_number(name, value) < math.inf:
                msg = f"{name} must be a number in (0, inf), got {show(value)}"
                raise ArgumentError(msg)
            object.__setattr__(self, name, float(value))
        object.__setattr__(self, "seed", as_integer("seed", self.seed, stop=1 << 64))

    def describe(self) -> dict[str, Any]:
        """Return the recipe, flat and JSON-able."""
        own = {"lr": self.lr, "max_grad_norm": self.max_grad_norm, "seed": self.seed}
        return {**own, **self.options.describe()}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What is saved and shown while a model is trained; none of it shapes the weights.

    Parameters
    ----------
    checkpoint_steps : int, optional
        The number of batches from one checkpoint to the next.
    checkpoint_seconds : float, optional
        The age of the last checkpoint, in seconds, at which a new one is saved.
    keep : int
        How many of the last checkpoints stay.
    sample_epochs : int, optional
        Text of the model is printed each time after this number of epochs.
    sample_prompt : str, optional
        The prompt that this text continues; by default the beginning of the corpus.

    Raises
    ------
    ArgumentError
        A value is out of range.
    """

    checkpoint_steps: int | None = None
    checkpoint_seconds: float | None = 30.0
    keep: int = 2
    sample_epochs: int | None = None
    sample_prompt: str | None = None

    def __post_init__(self) -> None:
        for name in ("checkpoint_steps", "keep", "sample_epochs"):
            value = getattr(self, name)
            if value is not None or name == "keep":
                object.__setattr__(self, name, as_integer(name, value, start=1))
        require_type("sample_prompt", self.sample_prompt, str | None, "a str or None")
        seconds = self.checkpoint_seconds
        if seconds is None:
            return
        number = as_number("checkpoint_seconds", seconds)
        # Written so that NaN is refused too.
        if not number >= 0:
            msg = f"checkpoint_seconds must be at least 0, got {show(seconds)}"
            raise ArgumentError(msg)
        object.__setattr__(self, "checkpoint_seconds", number)


def _name(function: Callable[..., Any]) -> str:
    """Return a name that is the same in every process."""
    if isinstance(function, functools.partial):
        keywords = (f"{name}={value!r}" for name, value in sorted(function.keywords.items()))
        return f"{_name(function.func)}({', '.join([*map(repr, function.args), *keywords])})"
    named: Any = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"
