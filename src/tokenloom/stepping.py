"""Texts that a model reads on, one token of each at a time."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from tokenloom.model import RNNModel, State

_CELLS: dict[str, Callable[..., Any]] = {
    "RNN_TANH": torch.rnn_tanh_cell,
    "RNN_RELU": torch.rnn_relu_cell,
    "GRU": torch.gru_cell,
    "LSTM": torch.lstm_cell,
}


class Stepper:
    """Several texts that were read, and go on together.

    A step of few rows is so little work that a recurrent layer's call would
    take most of its time. So the layers' cells are called, with the same
    weights. Models of another make, with two directions or with projections
    are called as they are, text by text.

    Parameters
    ----------
    model : RNNModel
        Used without dropout; its mode stays as it is.
    prompts : sequence of sequence of int
        At least one token each.

    Attributes
    ----------
    logits : float tensor, shape (num_prompts, vocab_size)
        Of the next token of each text.
    """

    def __init__(self, model: RNNModel, prompts: Sequence[Sequence[int]]) -> None:
        self._model = model
        self._has_cells = _has_cells(model)
        device = model.linear.weight.device
        read = [self._read(torch.tensor([prompt], device=device), None) for prompt in prompts]
        self.logits = torch.cat([logits for logits, _ in read])
        self._states = [state for _, state in read]
        if self._has_cells:
            self._prepare()

    @torch.inference_mode()
    def step(self, ids: torch.Tensor) -> None:
        """Read one more token of each text.

        Parameters
        ----------
        ids : int64 tensor, shape (num_prompts,)
            On the model's device.
        """
        if not self._has_cells:
            read = [
                self._read(row[None, None], state)
                for row, state in zip(ids, self._states, strict=True)
            ]
            self.logits = torch.cat([logits for logits, _ in read])
            self._states = [state for _, state in read]
            return
        if self._model.embedding is None:
            # Each row has an input of its own, with the weights of its token.
            vectors = self._eye
            weights = [self._table.index_select(0, ids).T, *self._weights[0][1:]]
        else:
            vectors, weights = self._model.embedding.weight[ids], self._weights[0]
        for layer, state in enumerate(self._layers):
            after = self._cell(vectors, state, *(self._weights[layer] if layer else weights))
            self._layers[layer] = after
            vectors = after[0] if isinstance(after, tuple) else after
        self.logits = functional.linear(vectors, *self._linear)

    @torch.inference_mode()
    def _prepare(self) -> None:
        rnn = self._model.rnn
        self._cell = _CELLS[rnn.mode]
        self._weights: list[list[torch.Tensor]] = [
            [_by_columns(weight.detach()) for weight in weights] for weights in rnn.all_weights
        ]
        self._linear = self._model.linear.weight.detach(), self._model.linear.bias.detach()
        self._table = self._weights[0][0].T.contiguous()
        self._eye = torch.eye(len(self._states), device=self.logits.device, dtype=self.logits.dtype)
        parts = [state if isinstance(state, tuple) else (state,) for state in self._states]
        joined = [torch.cat(rows, dim=1) for rows in zip(*parts, strict=True)]
        # One state per layer; of an LSTM the pair (hidden, cell).
        self._layers: list[Any] = list(joined[0])
        if len(joined) > 1:
            self._layers = list(zip(*joined, strict=True))

    @torch.inference_mode()
    def _read(self, inputs: torch.Tensor, state: State | None) -> tuple[torch.Tensor, State]:
        model = self._model
        was_training = model.training
        model.eval()
        try:
            if self._has_cells:
                outputs, state = model.read(inputs, state)
                return model.linear(outputs[-1:]), state
            logits, state = model(inputs, state)
            return logits[-1:], state
        finally:
            model.train(was_training)


def _by_columns(weight: torch.Tensor) -> torch.Tensor:
    """Return weights that lie column by column: so the product of one row is quicker."""
    return weight.t().contiguous().t()


def _has_cells(model: RNNModel) -> bool:
    is_ours = type(model).forward is RNNModel.forward and type(model).read is RNNModel.read
    return is_ours and model.num_directions == 1 and not model.rnn.proj_size
