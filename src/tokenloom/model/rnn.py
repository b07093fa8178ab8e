"""The textbook's recurrent language model."""

import functools
import itertools
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from tokenloom._checks import as_integer
from tokenloom.errors import ArgumentError
from tokenloom.text.identity import Identity

State = torch.Tensor | tuple[torch.Tensor, ...]
"""A hidden state: a tensor, for an LSTM a pair (hidden, cell).

A tuple of any length where the textbook's readers write the model themselves.
"""

_Run = Callable[[torch.Tensor, State | None], tuple[torch.Tensor, State]]

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "RNN_TANH": torch.rnn_tanh,
    "RNN_RELU": torch.rnn_relu,
    "GRU": torch.gru,
    "LSTM": torch.lstm,
}
# Above this size (64 MiB of float32) no array with a number per input and id is made.
_LARGE = 1 << 24


class RNNModel(nn.Module):
    """A recurrent layer, and a linear layer that gives a logit per token.

    If ``rnn_layer.input_size == vocab_size``, the recurrent layer reads one-hot
    vectors, as in the textbook; else it reads an embedding.

    Parameters
    ----------
    rnn_layer : torch.nn.RNN, torch.nn.GRU or torch.nn.LSTM
        Any number of layers, one or two directions, time first
        (``batch_first=False``).
    vocab_size : int
        Number of different token ids.

    Attributes
    ----------
    trained_with : Identity or None
        The tokenizer of the ids that the model was trained on, if it is known;
        `tokenloom.train` and `tokenloom.Run.load_model` set it.
    end_id : int or None
        The id that followed each document of the text that the model was trained on, at
        which `tokenloom.generate` stops by default; set as ``trained_with`` is.

    Raises
    ------
    ArgumentError
        ``rnn_layer`` is of another kind or has ``batch_first=True``,
        ``vocab_size`` is below 1, or the weights do not fit into the memory.

    Notes
    -----
    The model of Zhang, Lipton, Li and Smola, "Dive into Deep Learning",
    chapter on the concise implementation of recurrent neural networks.

    >>> model = RNNModel(nn.GRU(28, 16), vocab_size=28)
    >>> state = model.begin_state(batch_size=2)
    >>> logits, state = model(torch.zeros(2, 5, dtype=torch.int64), state)
    >>> tuple(logits.shape), tuple(state.shape)
    ((10, 28), (1, 2, 16))
    """

    trained_with: Identity | None
    end_id: int | None = None

    def __init__(self, rnn_layer: nn.RNNBase, vocab_size: int) -> None:
        super().__init__()
        if not isinstance(rnn_layer, nn.RNN | nn.GRU | nn.LSTM):
            msg = (
                "rnn_layer must be torch.nn.RNN, torch.nn.GRU or torch.nn.LSTM, "
                f"got {type(rnn_layer).__name__}"
            )
            raise ArgumentError(msg)
        if rnn_layer.batch_first:
            msg = "rnn_layer must have batch_first=False: the model feeds it time first"
            raise ArgumentError(msg)
        vocab_size = as_integer("vocab_size", vocab_size, start=1)
        self.trained_with = None
        self.rnn = rnn_layer
        self.vocab_size = vocab_size
        self.num_hiddens = rnn_layer.hidden_size
        self.num_directions = 2 if rnn_layer.bidirectional else 1
        self.embedding: nn.Embedding | None = None
        try:
            if rnn_layer.input_size != vocab_size:
                self.embedding = nn.Embedding(vocab_size, rnn_layer.input_size)
            self.linear = nn.Linear(self._output_size * self.num_directions, vocab_size)
        except RuntimeError as error:
            msg = (
                f"a model with vocab_size={vocab_size} and a layer of {rnn_layer.input_size} "
                f"inputs and {rnn_layer.hidden_size} hidden units must fit into the memory, and "
                f"does not: lower one of them ({error})"
            )
            raise ArgumentError(msg) from error

    @property
    def _output_size(self) -> int:
        # An LSTM with projections puts out fewer values than it has cells.
        return self.rnn.proj_size or self.rnn.hidden_size

    def forward(
        self,
        inputs: torch.Tensor,
        state: State | None = None,
        resets: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, State]:
        """Return the logits of every position, and the state after the last.

        Parameters
        ----------
        inputs : integer tensor, shape (batch_size, num_steps)
            Token ids in [0, vocab_size).
        state : State, optional
            As `begin_state` or the last call returned it; zeros by default.
        resets : bool tensor, shape (batch_size, num_steps), optional
            True where the state is reset to zero, as in `Batch.resets`. The layer
            runs once more for each different step with a reset. A tensor on the
            CPU avoids waiting for the GPU.

        Returns
        -------
        logits : float tensor, shape (num_steps * batch_size, vocab_size)
            Time first: row ``t * batch_size + b`` belongs to ``inputs[b, t]``.
        state : State

        Raises
        ------
        ArgumentError
            There are resets, and the model has two directions.
        """
        outputs, state = self.read(inputs, state, resets)
        return self.linear(outputs), state

    def read(
        self,
        inputs: torch.Tensor,
        state: State | None = None,
        resets: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, State]:
        """Return the outputs that ``linear`` turns into logits, and the state.

        Parameters, errors and the order of rows are those of `forward`.

        Returns
        -------
        outputs : float tensor, shape (num_steps * batch_size, num_hiddens)
            ``num_hiddens`` is ``linear.in_features``.
        state : State
        """
        vectors, run = self._embed(inputs.T.long())
        steps = [] if resets is None else resets.any(dim=0).nonzero().flatten().tolist()
        if steps and self.num_directions > 1:
            msg = "resets need a model with one direction: the other one reads from the end"
            raise ArgumentError(msg)
        pieces = []
        for start, stop in itertools.pairwise(sorted({0, *steps, len(vectors)})):
            if start in steps and resets is not None and state is not None:
                state = _zero(state, resets[:, start])
            outputs, state = run(vectors[start:stop], state)
            pieces.append(outputs)
        outputs = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        return outputs.reshape(-1, outputs.shape[-1]), cast("State", state)

    def _embed(self, steps: torch.Tensor) -> tuple[torch.Tensor, _Run]:
        """Return the vectors of ids, shape (num_steps, batch_size), and what reads them."""
        if self.embedding is not None:
            return self.embedding(steps), self.rnn
        dtype = self.linear.weight.dtype
        if steps.device.type == "cpu" and is_large(steps, self.vocab_size):
            # Nearly all of a vector would be zeros. The product is the same if
            # only ids that are there have a place in it, and a weight.
            known, places = torch.unique(steps, return_inverse=True)
            run = functools.partial(self._run, columns=known)
            return functional.one_hot(places, len(known)).to(dtype), run
        return functional.one_hot(steps, self.vocab_size).to(dtype), self.rnn

    def _run(
        self, vectors: torch.Tensor, state: State | None, *, columns: torch.Tensor
    ) -> tuple[torch.Tensor, State]:
        """Return the result of ``rnn`` with only some columns of its input weights."""
        rnn = self.rnn
        parts: list[list[torch.Tensor]] = [list(weights) for weights in rnn.all_weights]
        for part in parts[: self.num_directions]:
            part[0] = part[0][:, columns]
        weights = list(itertools.chain.from_iterable(parts))
        if state is None:
            state = self.begin_state(vectors.device, vectors.shape[1])
        outputs, *after = _FUNCTIONS[rnn.mode](
            vectors,
            state,
            weights,
            rnn.bias,
            rnn.num_layers,
            rnn.dropout,
            self.training,
            rnn.bidirectional,
            False,  # noqa: FBT003  batch_first; PyTorch takes no names here
        )
        return outputs, after[0] if len(after) == 1 else tuple(after)

    def begin_state(self, device: torch.device | str | None = None, batch_size: int = 1) -> State:
        """Return the initial hidden state: zeros.

        Returns
        -------
        State
            Tensor of shape (num_layers * num_directions, batch_size,
            num_hiddens); for an LSTM the pair of it and the cells.

        Raises
        ------
        ArgumentError
            ``batch_size`` is no integer in [0, 2**31).
        """
        batch_size = as_integer("batch_size", batch_size, stop=1 << 31)
        weight = self.linear.weight
        place = weight.device if device is None else torch.device(device)
        num_states = self.rnn.num_layers * self.num_directions

        def zeros(size: int) -> torch.Tensor:
            return torch.zeros(num_states, batch_size, size, device=place, dtype=weight.dtype)

        if isinstance(self.rnn, nn.LSTM):
            return zeros(self._output_size), zeros(self.num_hiddens)
        return zeros(self.num_hiddens)


def is_large(inputs: torch.Tensor, vocab_size: int) -> bool:
    """Return whether an array of all inputs by all ids would take too much memory."""
    return inputs.numel() * vocab_size >= _LARGE


def _zero(state: State, rows: torch.Tensor) -> State:
    """Return the state with some rows of the batch set to zero."""
    if isinstance(state, tuple | list):
        return tuple(cast("torch.Tensor", _zero(part, rows)) for part in state)
    return state.masked_fill(rows[None, :, None].to(state.device), 0)


def detach(state: State) -> State:
    """Return a state through which no gradient flows back: truncated BPTT."""
    # Models of others carry lists as well.
    if isinstance(state, tuple | list):
        return tuple(part.detach() for part in state)
    return state.detach()
