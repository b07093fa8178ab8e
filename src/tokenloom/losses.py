"""How far a model's predictions are from a batch."""

import torch
from torch.nn import functional

from tokenloom.batch import Batch
from tokenloom.model import RNNModel, State
from tokenloom.tensors import IGNORED_TARGET


def mean_loss(model: RNNModel, batch: Batch, state: State | None) -> tuple[torch.Tensor, State]:
    """Return the mean cross-entropy of a batch, in nats per token, and the state after it.

    The hidden state begins at zero where the batch knows that documents start,
    but not in a model with two directions, which has no such place.

    Parameters
    ----------
    model : RNNModel
    batch : Batch
        On the model's device.
    state : State or None
        None begins at zero.
    """
    logits, state = _predict(model, batch, state)
    targets = batch.targets.T.reshape(-1)
    return functional.cross_entropy(logits, targets, ignore_index=IGNORED_TARGET), state


def token_losses(model: RNNModel, batch: Batch, state: State | None) -> tuple[torch.Tensor, State]:
    """Return the cross-entropy of every target, in nats, and the state after the batch.

    Parameters
    ----------
    model, batch, state
        As in `mean_loss`.

    Returns
    -------
    losses : float tensor, shape (seq_len * num_rows,)
        Time first; 0 where there is nothing to learn.
    state : State
    """
    logits, state = _predict(model, batch, state)
    losses = functional.cross_entropy(
        logits, batch.targets.T.reshape(-1), ignore_index=IGNORED_TARGET, reduction="none"
    )
    return losses, state


def _predict(model: RNNModel, batch: Batch, state: State | None) -> tuple[torch.Tensor, State]:
    logits: torch.Tensor
    # A model of someone else's may know nothing of resets.
    if model.num_directions > 1 or not batch.has_resets:
        logits, state = model(batch.inputs, state)
    else:
        logits, state = model(batch.inputs, state, batch.resets_on("cpu"))
    return logits, state
