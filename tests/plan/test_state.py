"""The format of saved positions."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tokenloom as tl
from tests.support.plan.strategies import plans
from tokenloom.plan.plan import Plan
from tokenloom.plan.state import Position, describe_position, restore_position

PLAN = Plan(kind="random", num_tokens=10_000, seq_len=35, batch_size=4, epoch=3)
STATE = describe_position(PLAN, proof={"corpus": "sha256:c0ffee"}, next_batch=12)


def restore_changed(**changes: Any) -> Position:
    """Restore the state with some fields changed."""
    return restore_position({**STATE, **changes}, plan=PLAN, proof={"corpus": "sha256:c0ffee"})


def test_a_state_is_exactly_position_and_proof() -> None:
    """The fields of version 1 are pinned."""
    expected = {
        "version": 1,
        "kind": "random",
        "order_version": 1,
        "corpus": "sha256:c0ffee",
        "num_tokens": 10_000,
        "seq_len": 35,
        "batch_size": 4,
        "seed": 0,
        "epoch": 3,
        "next_batch": 12,
    }
    assert expected == STATE


@pytest.mark.parametrize(("seed", "epoch"), [(2**32, 3), (7, 2**32), (2**64 - 1, 2**62 - 1)])
def test_a_position_of_more_than_32_bits_has_another_version(seed: int, epoch: int) -> None:
    """Older releases ordered such epochs otherwise, so their positions are refused."""
    plan = dataclasses.replace(PLAN, seed=seed, epoch=epoch)
    state = describe_position(plan, proof={"corpus": "h"}, next_batch=5)
    assert 2 == state["order_version"]
    assert Position(epoch, 5) == restore_position(state, plan=plan.at(0), proof={"corpus": "h"})
    older = {**state, "order_version": 1}
    cure = r"order_version: saved 1, now 2\nResume with the release that saved it"
    with pytest.raises(tl.StateMismatchError, match=cure):
        restore_position(older, plan=plan, proof={"corpus": "h"})


@given(plans(), st.data())
def test_a_state_survives_json(plan: Plan, data: st.DataObject) -> None:
    """Any position of any plan comes back from JSON as it was."""
    next_batch = data.draw(st.integers(0, plan.num_batches - 1))
    state = json.loads(
        json.dumps(describe_position(plan, proof={"corpus": "h"}, next_batch=next_batch))
    )
    other_epoch = dataclasses.replace(plan, epoch=0)
    restored = restore_position(state, plan=other_epoch, proof={"corpus": "h"})
    assert Position(plan.epoch, next_batch) == restored


def test_each_field_that_differs_is_named_with_both_values() -> None:
    """The message lists saved and current values, and nothing that agrees."""
    with pytest.raises(tl.StateMismatchError) as caught:
        restore_changed(seq_len=64, seed=9, corpus="sha256:bad")
    expected = (
        "cannot resume: the saved position belongs to another plan.\n"
        "  corpus: saved 'sha256:bad', now 'sha256:c0ffee'\n"
        "  seq_len: saved 64, now 35\n"
        "  seed: saved 9, now 0\n"
        "Use the saved corpus and seq_len and seed, or start from the beginning."
    )
    assert expected == str(caught.value)


@pytest.mark.parametrize(
    ("saved", "now"), [({"tail": "pad"}, {}), ({}, {"tail": "pad"})], ids=["saved", "now"]
)
def test_another_tail_is_refused(saved: dict[str, Any], now: dict[str, Any]) -> None:
    """A state without a tail is one with the default, and that is compared too."""
    plan = dataclasses.replace(PLAN, **now)
    with pytest.raises(tl.StateMismatchError, match=r"tail: saved '(drop|pad)', now"):
        restore_position({**STATE, **saved}, plan=plan, proof={"corpus": "sha256:c0ffee"})


def test_an_unknown_version_is_refused() -> None:
    """The message says which version this release reads."""
    with pytest.raises(tl.StateMismatchError, match="reads positions of version 1, got version 2"):
        restore_changed(version=2)


def test_an_incomplete_state_is_refused() -> None:
    """The message names what is missing."""
    state = {name: value for name, value in STATE.items() if name not in ("seed", "epoch")}
    with pytest.raises(tl.StateMismatchError, match="the saved position lacks seed, epoch"):
        restore_position(state, plan=PLAN, proof={"corpus": "sha256:c0ffee"})


@pytest.mark.parametrize("next_batch", [-1, 71, 1.5, None, True])
def test_a_position_out_of_range_is_refused(next_batch: object) -> None:
    """The message has the range and the value."""
    with pytest.raises(tl.StateMismatchError, match=r"next_batch .* integer in \[0, 71\), got"):
        restore_changed(next_batch=next_batch)


def test_skipped_batches_are_a_field_of_their_own() -> None:
    """A state without them has none, so that older states and releases lose nothing."""
    state = describe_position(PLAN, proof={"corpus": "sha256:c0ffee"}, next_batch=12, num_skipped=5)
    assert {**STATE, "num_skipped": 5} == state
    assert (Position(3, 12, 5), Position(3, 12, 0)) == (
        restore_changed(num_skipped=5),
        restore_changed(),
    )
    for wrong in (-1, 1.5, "5", 1 << 62):
        with pytest.raises(tl.StateMismatchError, match=r"num_skipped of the saved position must"):
            restore_changed(num_skipped=wrong)


def test_a_state_is_a_mapping() -> None:
    """Anything else is refused as such."""
    with pytest.raises(tl.StateMismatchError, match=r"must be a dict, got \[1, 2\]"):
        restore_position([1, 2], plan=PLAN, proof={"corpus": ""})  # type: ignore[arg-type]  # on purpose


def test_a_worker_refuses_the_state_of_a_loader() -> None:
    """The message says who saved it and where it belongs."""
    with pytest.raises(tl.StateMismatchError, match=r"saved by a tokenloom\.Loader and cannot"):
        restore_position(STATE, plan=PLAN, proof={"corpus": "sha256:c0ffee"}, worker=(0, 2))


def test_a_loader_refuses_the_state_of_a_worker() -> None:
    """The message says who saved it and where it belongs."""
    with pytest.raises(tl.StateMismatchError, match="a torchdata StatefulDataLoader"):
        restore_changed(worker=0, num_workers=2)


def test_a_worker_refuses_the_state_of_another_number_of_workers() -> None:
    """The message names num_workers with both values."""
    state = {**STATE, "worker": 0, "num_workers": 2}
    with pytest.raises(tl.StateMismatchError, match="num_workers: saved 2, now 3"):
        restore_position(state, plan=PLAN, proof={"corpus": "sha256:c0ffee"}, worker=(0, 3))


@pytest.mark.parametrize("name", ["loader", "position"])
def test_a_whole_checkpoint_is_answered_with_what_to_pass(name: str) -> None:
    """Wherever in it the position stands."""
    for whole, keys in (
        ({"model": {"weight": [0.0]}, name: dict(STATE)}, f"['{name}']"),
        ({"version": 2, "training": {"updates": {}, name: STATE}}, f"['training']['{name}']"),
    ):
        with pytest.raises(tl.StateMismatchError) as caught:
            restore_position(whole, plan=PLAN, proof={"corpus": "sha256:c0ffee"})
        assert str(caught.value).endswith(f"holds one: load_state_dict(checkpoint{keys})")


WRONG = [
    *(None, True, 1.0, -1, 2**70, "1", b"1", [], {}, float("nan"), object()),
    *(np.arange(3), np.int64(1), np.array([["x"]], object), torch.arange(3), torch.tensor(1)),
]


@pytest.mark.parametrize("name", [*STATE, "tail"])
@pytest.mark.parametrize("value", WRONG, ids=lambda value: f"{type(value).__name__}")
def test_a_value_of_another_type_is_refused(name: str, value: Any) -> None:
    """Arrays too, which answer a comparison with an array."""
    with pytest.raises(tl.StateMismatchError, match="cannot resume"):
        restore_changed(**{name: value})


@pytest.mark.parametrize("value", WRONG, ids=lambda value: f"{type(value).__name__}")
def test_what_is_no_position_is_refused(value: Any) -> None:
    """Alone, and as the value of some key."""
    states: list[Any] = [value, {"state": value}, {value if value.__hash__ else 3: 1}]
    for state in states:
        with pytest.raises(tl.StateMismatchError, match="position"):
            restore_position(state, plan=PLAN, proof={"corpus": "sha256:c0ffee"})
