"""From gradients to weights: the updates of a training."""

import contextlib
import functools
import math
from typing import Any, NoReturn

import torch
from torch import nn

from tokenloom._io.interrupts import Interrupt
from tokenloom._wording import show
from tokenloom.errors import RunError
from tokenloom.loading.batch import Batch
from tokenloom.loading.distributed import Ranks
from tokenloom.loading.loader import Loader
from tokenloom.model.loss import summed_loss
from tokenloom.model.rnn import RNNModel, State, detach
from tokenloom.training.options import PRECISIONS, Recipe

# The numbers of an optimiser that a schedule changes.
_SCHEDULED = {"lr", "initial_lr"}
# Numbers of a training are smaller; the limit keeps out integers that are too large for a float.
_MAX_NUMBER = 2.0**63


class ScheduledOptimizer:
    """The optimiser with its schedule and its precision, and the batches of its next update.

    The loss of an update is the mean over all targets of its batches, on all
    ranks; padding counts nowhere.

    Parameters
    ----------
    model : RNNModel
        On its device.
    loader : Loader
        Its plan has the last batch of each epoch.
    recipe : Recipe
    ranks : Ranks
    interrupt : Interrupt
        Is told at each update which signals any rank received.

    Attributes
    ----------
    device : torch.device
        Where the model is.
    is_complete : bool
        Whether no batch is waiting for its update.
    across_documents : bool
        Whether the first tokens of documents are targets; see `TrainingOptions`.
    """

    def __init__(
        self,
        model: RNNModel,
        loader: Loader,
        *,
        recipe: Recipe,
        ranks: Ranks,
        interrupt: Interrupt,
    ) -> None:
        self._module = ranks.wrap(_ModelWithLoss(model))
        self._parameters = list(self._module.parameters())
        self.device = self._parameters[0].device
        self.is_complete = True
        self.across_documents = recipe.options.across_documents
        self._loader = loader
        self._options = recipe.options
        self._max_grad_norm = recipe.max_grad_norm
        self._ranks = ranks
        self._interrupt = interrupt
        # The optimiser may be made by code of the caller, which may fail on one rank alone.
        with ranks.together():
            self._optimizer = recipe.options.make_optimizer(self._parameters, recipe.lr)
            is_scheduled = recipe.options.is_scheduled
            self._scheduler = self._make_scheduler() if is_scheduled else None
        # How many targets an update has where nothing is padded, at the beginning: gradients
        # round by it, so it is the same wherever a training resumes.
        plan = loader.plan.at(loader.first_epoch)
        self._usual = plan.batch_size * plan.seq_len * recipe.options.batches_per_update
        self._num_targets = 0
        self._optimizer.zero_grad()

    def step(self, batch: Batch, hidden: State | None) -> tuple[torch.Tensor, State]:
        """Compute a batch's gradients, and make the update if the batch is its last.

        Parameters
        ----------
        batch : Batch
        hidden : State or None
            The hidden state that the batch begins with, through which no gradient
            flows back; None for zeros.

        Returns
        -------
        loss : float tensor, shape ()
            The sum of the losses of this rank's targets.
        hidden : State
            The hidden state after the batch.
        """
        batch = batch.to(self.device)
        done = batch.index + 1
        is_last = done % self._options.batches_per_update == 0 or done == self._loader.num_batches
        with self._sharing_gradients(is_last=is_last):
            with self._autocast():
                loss, state = self._module(batch, None if hidden is None else detach(hidden))
            # The gradients of several ranks are averaged, and are to be added up.
            (loss * (self._ranks.world_size / self._usual)).backward()
        self._num_targets += batch.num_targets
        if is_last:
            self._update()
        self.is_complete = is_last
        return loss.detach(), state

    def share_signals(self) -> int:
        """Tell all ranks which signals any of them received; return how many targets wait.

        Each update does so, in the message that it sends anyway, so that all ranks
        stop after the same update.
        """
        if self._ranks.world_size == 1:
            return self._num_targets
        values = torch.tensor([self._num_targets, *self._interrupt.flags])
        num_targets, *counts = self._ranks.total(values).tolist()
        self._interrupt.agree(counts)
        return int(num_targets)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the optimiser and of the schedule."""
        return {
            "optimizer": self._optimizer.state_dict(),
            "scheduler": None if self._scheduler is None else self._scheduler.state_dict(),
            # Older releases, which scaled the gradients of float16, expect this key.
            "scaler": None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned, of a training with the same options.

        Raises
        ------
        RunError
            A value cannot have been saved by this training.
        """
        fresh = self.state_dict()
        for name in ("scheduler", "scaler"):
            _check_like(state[name], fresh[name], name)
        groups = state["optimizer"]["param_groups"]
        _check_like(groups, fresh["optimizer"]["param_groups"], "optimizer.param_groups")
        if isinstance(self._options.optimizer, str):
            for group, now in zip(groups, fresh["optimizer"]["param_groups"], strict=True):
                for name in group.keys() - _SCHEDULED:
                    if group[name] != now[name]:
                        _refuse(f"optimizer.param_groups.{name}", group[name])
            self._check_moments(state["optimizer"]["state"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._scheduler is not None:
            self._scheduler.load_state_dict(state["scheduler"])

    def _check_moments(self, state: dict[int, dict[str, Any]]) -> None:
        """Check the state that an optimiser keeps for each parameter: its shape, or a number."""
        for index, moments in state.items():
            if type(index) is not int or not 0 <= index < len(self._parameters):
                _refuse("optimizer.state", index)
            shape = self._parameters[index].shape
            for name, value in moments.items():
                is_tensor = isinstance(value, torch.Tensor) and value.is_floating_point()
                fits = is_tensor and value.shape in (shape, torch.Size([]))
                # The SGD of PyTorch saves None where it has no momentum.
                is_nothing = value is None and name == "momentum_buffer"
                if not is_nothing and not (fits and (name == "step") == (value.ndim == 0)):
                    _refuse(f"optimizer.state.{name}", value)
        if self._options.optimizer == "adamw" and any(
            set(moments) != {"step", "exp_avg", "exp_avg_sq"} for moments in state.values()
        ):
            _refuse("optimizer.state", state)

    def _sharing_gradients(self, *, is_last: bool) -> contextlib.AbstractContextManager[object]:
        """Return the context of a batch, so that ranks share gradients once per update."""
        if isinstance(self._module, nn.parallel.DistributedDataParallel) and not is_last:
            return self._module.no_sync()
        return contextlib.nullcontext()

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return the context in which a loss is computed in the chosen precision."""
        if self._options.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=PRECISIONS[self._options.precision])

    def _update(self) -> None:
        num_targets = self.share_signals()
        if num_targets != self._usual:
            gradients = [p.grad for p in self._parameters if p.grad is not None]
            # Without any target all gradients are 0.
            torch._foreach_mul_(gradients, self._usual / max(1, num_targets))
        nn.utils.clip_grad_norm_(self._parameters, self._max_grad_norm)
        self._optimizer.step()
        if self._scheduler is not None:
            self._scheduler.step()
        self._optimizer.zero_grad()
        self._num_targets = 0

    def _make_scheduler(self) -> torch.optim.lr_scheduler.LambdaLR:
        factor = functools.partial(self._options.factor, num_updates=self._count_updates())
        return torch.optim.lr_scheduler.LambdaLR(self._optimizer, factor)

    def _count_updates(self) -> int | None:
        """Return how many updates the whole training has; None if it has no end."""
        first, num_epochs = self._loader.first_epoch, self._loader.num_epochs
        if num_epochs is None:
            return None
        groups = self._loader.plan.at(first).equal_epochs(first + num_epochs)
        per_update = self._options.batches_per_update
        # An epoch's last update may have fewer batches.
        return sum(
            ((first if stop is None else stop) - first) * math.ceil(num_batches / per_update)
            for first, stop, num_batches in groups
        )


class _ModelWithLoss(nn.Module):
    """A model together with its loss, so that several ranks can share its gradients."""

    def __init__(self, model: RNNModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, state: State | None) -> tuple[torch.Tensor, State]:
        """Return the sum of the losses of a batch's targets, and the state after it."""
        return summed_loss(self.model, batch, state)


def _check_like(value: object, example: object, name: str) -> None:
    """Check that a value has the parts and types of another one."""
    number = (int, float)
    if type(example) in number:
        is_like = type(value) in number and abs(value) < _MAX_NUMBER  # type: ignore[arg-type]
    elif isinstance(example, dict):
        is_like = isinstance(value, dict) and set(value) == set(example)
    elif isinstance(example, list | tuple):
        is_like = isinstance(value, list | tuple) and len(value) == len(example)
    else:
        is_like = type(value) is type(example)
    if not is_like:
        _refuse(name, value)
    if isinstance(example, dict) and isinstance(value, dict):
        for key, part in example.items():
            _check_like(value[key], part, f"{name}.{key}")
    elif isinstance(example, list | tuple) and isinstance(value, list | tuple):
        for index, (mine, part) in enumerate(zip(value, example, strict=True)):
            _check_like(mine, part, f"{name}[{index}]")


def _refuse(name: str, value: object) -> NoReturn:
    msg = f"the checkpoint is damaged: {name} cannot be {show(value)}"
    raise RunError(msg)
