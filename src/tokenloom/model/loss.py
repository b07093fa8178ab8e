"""The loss of a model's predictions on a batch."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tokenloom.loading.batch import IGNORED_TARGET, Batch
from tokenloom.model.rnn import RNNModel, State, is_large

# How many logits are computed at once: 16 MiB of float32.
_CHUNK = 1 << 22


def summed_loss(model: RNNModel, batch: Batch, state: State | None) -> tuple[torch.Tensor, State]:
    """Return the sum of the cross-entropies of a batch's targets, and the state after it.

    The hidden state is reset to zero where documents start, if the batch knows
    where; that of a model with two directions is not. With a large vocabulary,
    the logits are never all in memory at once. Losses and gradients are summed in
    at least float32, whatever the model's dtype.

    Parameters
    ----------
    model : RNNModel
    batch : Batch
        On the model's device.
    state : State or None
        None begins at zero.
    """
    inputs, targets = batch.inputs, batch.targets.T.reshape(-1)
    resets = _find_resets(model, batch)
    if not _is_chunked(model, inputs):
        logits, state = model(inputs, state, *resets)
        return _cross_entropy(logits, targets, reduction="sum"), state
    outputs, state = model.read(inputs, state, *resets)
    return summed_linear_loss(outputs, model.linear, targets), state


def token_losses(model: RNNModel, batch: Batch, state: State | None) -> tuple[torch.Tensor, State]:
    """Return the cross-entropy of every target, in nats, and the state after the batch.

    With a large vocabulary, the losses have no gradient.

    Parameters
    ----------
    model, batch, state
        As in `summed_loss`.

    Returns
    -------
    losses : float32 or float64 tensor, shape (seq_len * num_rows,)
        Time is the first axis; 0 where a target is ignored.
    state : State
    """
    inputs, targets = batch.inputs, batch.targets.T.reshape(-1)
    resets = _find_resets(model, batch)
    if not _is_chunked(model, inputs):
        logits, state = model(inputs, state, *resets)
        return _cross_entropy(logits, targets, reduction="none"), state
    outputs, state = model.read(inputs, state, *resets)
    with torch.no_grad():
        losses = [
            _cross_entropy(model.linear(outputs[rows]), targets[rows], reduction="none")
            for rows in _chunks(len(targets), model.vocab_size, _CHUNK)
        ]
    return torch.cat(losses), state


def summed_linear_loss(
    outputs: torch.Tensor, linear: nn.Linear, targets: torch.Tensor, *, chunk: int = _CHUNK
) -> torch.Tensor:
    """Return the summed cross-entropy of a linear layer's logits, computed in chunks.

    The value and the gradients are those of ``cross_entropy(linear(outputs),
    targets, reduction="sum")``, with logits of bfloat16 or float16 converted to
    float32 first; the value is float32 then. Logits are computed for some rows at
    a time, turned into gradients at once and dropped, so the array of all logits
    is never made. The gradients cannot be differentiated again.

    Parameters
    ----------
    outputs : float tensor, shape (num_rows, num_hiddens)
    linear : torch.nn.Linear
    targets : int64 tensor, shape (num_rows,)
        In [0, vocab_size), or `tokenloom.loading.batch.IGNORED_TARGET`.
    chunk : int
        The most logits that are computed at once, but at least those of one row.

    Notes
    -----
    The gradient in the forward pass is that of Hsu et al., "Liger Kernel:
    Efficient Triton Kernels for LLM Training" (2024); see also Wijmans et al.,
    "Cut Your Losses in Large-Vocabulary Language Models" (2024).
    """
    loss: torch.Tensor = _SummedLinearLoss.apply(  # type: ignore[no-untyped-call]  # PyTorch's
        outputs.to(linear.weight.dtype), linear.weight, linear.bias, targets, chunk
    )
    return loss


class _SummedLinearLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        outputs: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        chunk: int,
    ) -> torch.Tensor:
        wide = _sum_dtype(weight)
        is_learned = (targets != IGNORED_TARGET).to(wide)[:, None]
        places = targets.clamp(min=0)[:, None]
        needs = context.needs_input_grad
        gradients = [
            torch.zeros_like(tensor, dtype=wide) if is_needed and tensor is not None else None
            for tensor, is_needed in zip((outputs, weight, bias), needs, strict=False)
        ]
        loss = outputs.new_zeros((), dtype=wide)
        # Mixed precision would cast some of these operations and not others.
        with torch.autocast(outputs.device.type, enabled=False):
            for rows in _chunks(len(targets), len(weight), chunk):
                logits = functional.linear(outputs[rows], weight, bias)
                log_chances = logits.log_softmax(dim=1, dtype=wide)
                del logits
                loss -= (log_chances.gather(1, places[rows]) * is_learned[rows]).sum()
                if any(needs):
                    # The gradient of the logits is the prediction minus the target (one-hot).
                    wrong = log_chances.exp_()
                    wrong.scatter_add_(1, places[rows], -torch.ones_like(is_learned[rows]))
                    wrong *= is_learned[rows]
                    _add_gradients(gradients, wrong, outputs[rows], weight, rows)
        context.save_for_backward(*gradients)
        context.dtype = weight.dtype
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # Scale before rounding: the sums may be too large for float16.
        saved = (
            None if part is None else (part * gradient).to(context.dtype)
            for part in context.saved_tensors
        )
        return *saved, None, None


def _add_gradients(
    gradients: list[torch.Tensor | None],
    wrong: torch.Tensor,
    outputs: torch.Tensor,
    weight: torch.Tensor,
    rows: slice,
) -> None:
    """Add the gradients of some rows to those of outputs, weight and bias.

    The gradients, and ``wrong``, are at least float32. The products are computed
    in the model's own dtype, as PyTorch does; their sum over the chunks is not
    rounded to it.
    """
    of_outputs, of_weight, of_bias = gradients
    if of_bias is not None:
        of_bias += wrong.sum(dim=0)
    wrong = wrong.to(weight.dtype)
    if of_outputs is not None:
        of_outputs[rows] = torch.mm(wrong, weight)
    if of_weight is not None and of_weight.dtype == weight.dtype:
        of_weight.addmm_(wrong.T, outputs)
    elif of_weight is not None:
        of_weight += torch.mm(wrong.T, outputs)


def _sum_dtype(tensor: torch.Tensor) -> torch.dtype:
    """Return the dtype of sums: that of the tensor, but at least float32."""
    return torch.promote_types(tensor.dtype, torch.float32)


def _is_chunked(model: RNNModel, inputs: torch.Tensor) -> bool:
    """Return whether the logits are computed in chunks: many logits of `RNNModel` itself."""
    is_ours = type(model).forward is RNNModel.forward
    return is_ours and is_large(inputs, model.vocab_size)


def _chunks(num_rows: int, vocab_size: int, chunk: int) -> Iterator[slice]:
    size = max(1, chunk // vocab_size)
    for start in range(0, num_rows, size):
        yield slice(start, start + size)


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor, *, reduction: str) -> torch.Tensor:
    # In bfloat16 a sum of thousands of losses would keep three digits.
    return functional.cross_entropy(
        logits.to(_sum_dtype(logits)), targets, ignore_index=IGNORED_TARGET, reduction=reduction
    )


def _find_resets(model: RNNModel, batch: Batch) -> tuple[torch.Tensor, ...]:
    """Return the last argument of `RNNModel.forward`, or None if nothing is reset."""
    # A model of another class may not take `resets`.
    has_any = model.num_directions == 1 and batch.has_resets
    return (batch.resets_on("cpu"),) if has_any else ()
