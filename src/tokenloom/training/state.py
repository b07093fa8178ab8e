"""The state of a training, which a checkpoint holds: all that the rest of it depends on."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from tokenloom.loading.batch import Batch
from tokenloom.loading.distributed import Ranks
from tokenloom.loading.loader import Loader
from tokenloom.model.rnn import RNNModel, State
from tokenloom.training.checkpoint import describe_model, load_weights
from tokenloom.training.meter import Meter
from tokenloom.training.optimizer import ScheduledOptimizer


class TrainingState:
    """A model, its loader, its optimiser, its meter and random numbers, saved and loaded as one.

    A value that the rest of the training depends on is saved in `state_dict`
    and loaded in `load_state_dict`. All ranks call both together, between two
    updates: the gradients of batches that wait for their update are not saved.

    Parameters
    ----------
    model : RNNModel
    loader : Loader
    optimizer : ScheduledOptimizer
    meter : Meter
    ranks : Ranks
    seed : int
        Seeds PyTorch's generators if another number of ranks was saved.

    Attributes
    ----------
    model, loader, optimizer, meter
    hidden : State or None
        The hidden state after the last batch, of this rank's rows; None for zeros.
    """

    def __init__(
        self,
        model: RNNModel,
        loader: Loader,
        *,
        optimizer: ScheduledOptimizer,
        meter: Meter,
        ranks: Ranks,
        seed: int,
    ) -> None:
        self.model = model
        self.loader = loader
        self.optimizer = optimizer
        self.meter = meter
        self.hidden: State | None = None
        self._ranks = ranks
        self._seed = seed

    @property
    def batches(self) -> Iterable[Batch]:
        """The batches that remain to be trained on."""
        # After the last batch of an iteration a loader is at the beginning of the next one.
        is_at_end = self.loader.num_epochs is not None and self.loader.is_at_start
        return () if is_at_end and self.meter.step > 0 else self.loader

    def state_dict(self) -> dict[str, Any]:
        """Return all that the rest of the training depends on: the fields of a `Checkpoint`.

        Only the random numbers depend on the number of ranks.
        """
        return {
            "model": describe_model(self.model),
            "weights": {name: value.cpu() for name, value in self.model.state_dict().items()},
            "epoch": self.meter.epoch,
            "step": self.meter.step,
            "training": {
                "position": self.loader.state_dict(),
                "updates": self.optimizer.state_dict(),
                "epochs": self.meter.state_dict(),
                "hidden": self._gather_hidden(),
                "random": self._ranks.all_gather(_random_state(self.optimizer.device)),
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned, of any number of ranks.

        Raises
        ------
        RunError
            The weights are those of another model, or an optimiser cannot have saved a value.
        StateMismatchError
            The position is of another plan.
        """
        training = state["training"]
        load_weights(self.model, state["weights"])
        self.loader.load_state_dict(training["position"])
        self.optimizer.load_state_dict(training["updates"])
        self.meter.load_state_dict(training["epochs"], epoch=state["epoch"], step=state["step"])
        self.hidden = self._take_hidden(training["hidden"])
        self._set_random_state(training["random"])

    def _gather_hidden(self) -> list[torch.Tensor] | None:
        """Return the hidden state of all rows, on the CPU: shape (num_states, batch_size, size).

        None where no batch begins with it.
        """
        if self.hidden is None or not self.loader.carries_state:
            return None
        parts = self.hidden if isinstance(self.hidden, tuple) else (self.hidden,)
        mine = [part.detach().cpu() for part in parts]
        return [torch.cat(rows, dim=1) for rows in zip(*self._ranks.all_gather(mine), strict=True)]

    def _take_hidden(self, parts: list[torch.Tensor] | None) -> State | None:
        """Return this rank's rows of what `_gather_hidden` returned."""
        if parts is None:
            return None
        rows, device = self.loader.windows.columns, self.optimizer.device
        if parts[0].shape[1] == len(rows):
            # A process that trained on one part of each batch, without a group, saved only its own
            # rows.
            rows = range(len(rows))
        mine = tuple(part[:, rows.start : rows.stop].contiguous().to(device) for part in parts)
        return mine if len(mine) > 1 else mine[0]

    def _set_random_state(self, states: list[dict[str, Any]]) -> None:
        ranks, device = self._ranks, self.optimizer.device
        if len(states) != ranks.world_size:
            # Other ranks draw other numbers, but from this step on always the same.
            torch.manual_seed(ranks.mix_seed(self._seed, self.meter.step))
            return
        mine = states[ranks.rank]
        torch.set_rng_state(mine["cpu"])
        if device.type == "cuda" and mine["cuda"] is not None:
            torch.cuda.set_rng_state(mine["cuda"], device)


def _random_state(device: torch.device) -> dict[str, Any]:
    is_cuda = device.type == "cuda"
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if is_cuda else None,
    }
