"""The recurrent language model."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import tokenloom as tl
from tokenloom.errors import ArgumentError
from tokenloom.model.rnn import detach

LAYERS: list[Any] = [nn.RNN, nn.GRU, nn.LSTM]


def test_shapes_are_the_textbooks() -> None:
    """State (1, 32, 256) and logits (35 * 32, 28) for the concise RNN."""
    model = tl.RNNModel(nn.RNN(28, 256), vocab_size=28)
    state = model.begin_state(batch_size=32)
    logits, after = model(torch.zeros(32, 35, dtype=torch.int64), state)
    assert isinstance(state, torch.Tensor)
    assert ((1, 32, 256), (35 * 32, 28), (1, 32, 256)) == (state.shape, logits.shape, after.shape)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_begin_state_fits_every_layer(layer: Any, num_layers: int, bidirectional: bool) -> None:
    """The zeros that begin_state returns give what no state at all gives."""
    rnn = layer(5, 8, num_layers=num_layers, bidirectional=bidirectional)
    model = tl.RNNModel(rnn, vocab_size=5)
    inputs = torch.tensor([[1, 2, 0], [3, 4, 1]])
    expected, _ = model(inputs)
    logits, state = model(inputs, model.begin_state(batch_size=2))
    assert torch.equal(expected, logits)
    assert isinstance(state, tuple) == (layer is nn.LSTM)


def test_ids_may_be_of_any_integer_type() -> None:
    """As they come out of NumPy or the textbook's programs."""
    model = tl.RNNModel(nn.RNN(5, 8), vocab_size=5)
    inputs = torch.tensor([[1, 2, 0], [3, 4, 1]])
    assert torch.equal(model(inputs)[0], model(inputs.to(torch.int32))[0])


@pytest.mark.parametrize("kind", [tuple, list])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_state_of_any_length_is_detached(length: int, kind: type[Any]) -> None:
    """The textbook's models from scratch have states of one tensor, in a tuple."""
    state = (torch.ones(1, requires_grad=True) * 2,) * length
    detached = detach(kind(state))
    assert length == len(detached)
    assert not any(part.requires_grad for part in detached)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_an_lstm_may_project() -> None:
    """The state of an LSTM with projections has two sizes."""
    model = tl.RNNModel(nn.LSTM(5, 8, proj_size=3), vocab_size=5)
    logits, _ = model(torch.zeros(2, 4, dtype=torch.int64), model.begin_state(batch_size=2))
    assert (8, 5) == tuple(logits.shape)


def test_inputs_are_one_hot_where_the_sizes_agree() -> None:
    """The recurrent layer reads the vectors of the textbook, time first."""
    model = tl.RNNModel(nn.RNN(5, 8), vocab_size=5)
    inputs = torch.tensor([[1, 2, 0], [3, 4, 1]])
    outputs, _ = model.rnn(functional.one_hot(inputs.T, 5).float())
    assert torch.equal(model.linear(outputs.reshape(-1, 8)), model(inputs)[0])
    assert model.embedding is None


def test_inputs_are_embedded_where_the_sizes_differ() -> None:
    """The layer's input size is the embedding's."""
    model = tl.RNNModel(nn.RNN(3, 8), vocab_size=5)
    assert model.embedding is not None
    assert (5, 3) == tuple(model.embedding.weight.shape)
    assert (6, 5) == tuple(model(torch.zeros(2, 3, dtype=torch.int64))[0].shape)


def test_logits_are_time_first() -> None:
    """Row t * batch_size + b belongs to inputs[b, t]."""
    model = tl.RNNModel(nn.RNN(5, 8), vocab_size=5)
    inputs = torch.tensor([[1, 2, 0], [3, 4, 1]])
    together = model(inputs)[0].reshape(3, 2, 5)
    alone = model(inputs[1:])[0]
    torch.testing.assert_close(alone, together[:, 1])


def test_a_carried_state_continues_the_text() -> None:
    """Two halves with the state carried give the logits of the whole."""
    model = tl.RNNModel(nn.GRU(5, 8), vocab_size=5)
    inputs = torch.tensor([[1, 2, 0, 4]])
    first, state = model(inputs[:, :2])
    second, _ = model(inputs[:, 2:], state)
    torch.testing.assert_close(model(inputs)[0], torch.cat([first, second]))


@pytest.mark.parametrize("layer", LAYERS)
def test_detach_cuts_the_gradient(layer: Any) -> None:
    """No part of a detached state asks for a gradient."""
    model = tl.RNNModel(layer(5, 8), vocab_size=5)
    _, state = model(torch.zeros(1, 2, dtype=torch.int64))
    detached = detach(state)
    parts = detached if isinstance(detached, tuple) else (detached,)
    assert [False] * len(parts) == [part.requires_grad for part in parts]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tl.RNNModel(nn.Linear(3, 3), 3), "got Linear"),  # type: ignore[arg-type]  # on purpose
        (lambda: tl.RNNModel(nn.RNN(3, 3, batch_first=True), 3), "batch_first=False"),
        (
            lambda: tl.RNNModel(nn.RNN(3, 3), 0),
            "vocab_size must be an integer of at least 1, got 0",
        ),
    ],
)
def test_what_cannot_work_is_refused(make: Any, message: str) -> None:
    """The message says what was expected."""
    with pytest.raises(ArgumentError, match=message):
        make()


RESETS = torch.tensor([[0, 0, 1, 0, 0, 1, 0], [1, 0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 0]]).bool()
# The same documents, each as (row, start, stop) of its tokens.
PIECES = [(0, 0, 2), (0, 2, 5), (0, 5, 7), (1, 0, 5), (1, 5, 7), (2, 0, 7)]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("num_layers", [1, 2])
def test_resets_are_as_if_each_document_stood_alone(layer: Any, num_layers: int) -> None:
    """Logits and state are those of each document by itself, from zeros where it starts."""
    torch.manual_seed(0)
    model = tl.RNNModel(layer(5, 8, num_layers=num_layers), vocab_size=5)
    inputs = torch.randint(5, (3, 7))
    _, before = model(torch.randint(5, (3, 4)))
    logits, _ = model(inputs, before, RESETS)
    for row, start, stop in PIECES:
        begins = bool(RESETS[row, start])
        parts = before if isinstance(before, tuple) else (before,)
        row_state: Any = tuple(part[:, row : row + 1].contiguous() for part in parts)
        state = None if begins else row_state if isinstance(before, tuple) else row_state[0]
        alone, _ = model(inputs[row : row + 1, start:stop], state)
        torch.testing.assert_close(alone, logits.reshape(7, 3, 5)[start:stop, row])


@pytest.mark.parametrize("layer", LAYERS)
def test_the_state_after_resets_goes_on(layer: Any) -> None:
    """What is carried to the next batch is the state of the last document of each row."""
    model = tl.RNNModel(layer(5, 8), vocab_size=5)
    inputs = torch.randint(5, (3, 7))
    _, state = model(inputs, None, RESETS)
    _, alone = model(inputs[:1, 5:])
    for part, expected in zip(
        state if isinstance(state, tuple) else (state,),
        alone if isinstance(alone, tuple) else (alone,),
        strict=True,
    ):
        torch.testing.assert_close(expected[:, 0], part[:, 0])


def test_gradients_do_not_cross_resets() -> None:
    """The loss of a document knows nothing of the text before it."""
    model = tl.RNNModel(nn.GRU(3, 8), vocab_size=5)
    assert model.embedding is not None
    inputs = torch.tensor([[0, 1, 2, 3]])
    logits, _ = model(inputs, None, torch.tensor([[False, False, True, False]]))
    logits[2:].sum().backward()
    gradient = model.embedding.weight.grad
    assert gradient is not None
    assert [False, False, True, True, False] == (gradient != 0).any(dim=1).tolist()


def test_a_state_that_is_not_finite_ends_at_a_reset() -> None:
    """Zero is zero, whatever stood there."""
    model = tl.RNNModel(nn.RNN(5, 8), vocab_size=5)
    broken = torch.full((1, 1, 8), torch.inf)
    logits, _ = model(torch.zeros(1, 2, dtype=torch.int64), broken, torch.tensor([[True, False]]))
    assert logits.isfinite().all()


def test_the_layer_runs_once_more_per_step_with_a_reset() -> None:
    """Rows that reset at the same step share the cut, and none costs nothing."""
    model = tl.RNNModel(nn.RNN(5, 8), vocab_size=5)
    lengths: list[int] = []
    model.rnn.register_forward_pre_hook(lambda _, arguments: lengths.append(len(arguments[0])))
    inputs = torch.zeros(3, 7, dtype=torch.int64)
    model(inputs, None, RESETS)
    model(inputs, None, torch.zeros_like(RESETS))
    assert lengths == [2, 3, 2, 7]


def test_two_directions_have_no_resets() -> None:
    """The direction from the end would have to begin there."""
    model = tl.RNNModel(nn.RNN(5, 8, bidirectional=True), vocab_size=5)
    with pytest.raises(ArgumentError, match="resets need a model with one direction"):
        model(torch.zeros(3, 7, dtype=torch.int64), None, RESETS)
