"""The state of a training."""

import io
from collections.abc import Iterator
from typing import Any

import torch

import tokenloom as tl
from tests.support.training.trainings import HELD_OUT, make_loader, make_model, weights_of
from tokenloom._io.interrupts import Interrupt
from tokenloom.loading.distributed import Ranks
from tokenloom.training.meter import Meter
from tokenloom.training.optimizer import ScheduledOptimizer
from tokenloom.training.options import Recipe
from tokenloom.training.state import TrainingState

OPTIONS = tl.TrainingOptions(optimizer="adamw", schedule="cosine", batches_per_update=2)


def make_state() -> TrainingState:
    """Return the state of a training that has not begun."""
    model, loader, ranks = make_model("lstm", num_layers=2, dropout=0.5), make_loader(), Ranks()
    recipe = Recipe(lr=0.1, max_grad_norm=1.0, seed=0, options=OPTIONS)
    optimizer = ScheduledOptimizer(model, loader, recipe=recipe, ranks=ranks, interrupt=Interrupt())
    meter = Meter(model, loader, HELD_OUT, ranks=ranks, run=None, history=())
    return TrainingState(model, loader, optimizer=optimizer, meter=meter, ranks=ranks, seed=0)


def train(state: TrainingState) -> Iterator[int]:
    """Train on the batches that remain, and yield the number of each step."""
    for batch in state.batches:
        loss, state.hidden = state.optimizer.step(batch, state.hidden)
        state.meter.add(loss, batch)
        yield state.meter.step


def plain(value: Any) -> Any:
    """Return nested values with lists in the place of tensors, and without the time."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items() if name != "seconds"}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


def _save(content: dict[str, Any]) -> Any:
    """Return a file of a state."""
    file = io.BytesIO()
    torch.save(content, file)
    file.seek(0)
    return file


def test_a_state_that_was_loaded_is_the_saved_one() -> None:
    """All of it, whatever was trained in between, and both train on in the same way."""
    torch.manual_seed(3)
    state = make_state()
    steps = train(state)
    assert 4 == [next(steps) for _ in range(4)][-1]
    saved = plain(state.state_dict())
    content = torch.load(_save(state.state_dict()), weights_only=True)
    rest = [*steps]

    other = make_state()
    [*train(other)]
    other.load_state_dict(content)

    assert saved == plain(other.state_dict())
    assert rest == [*train(other)]
    assert weights_of(state.model) == weights_of(other.model)
    assert plain(state.state_dict()) == plain(other.state_dict())


def test_nothing_is_left_after_the_last_batch() -> None:
    """A loader that stands before its next iteration is not trained on."""
    state = make_state()
    assert len(state.loader) == len([*train(state)])
    other = make_state()
    other.load_state_dict(state.state_dict())
    assert [] == [*other.batches]
