"""A saved position in a plan, with the proof of which plan it belongs to.

There are two kinds. A `tokenloom.Loader` counts batches of the whole stream.
An iterator inside a DataLoader's worker counts the rows of that worker, so its
state names the worker, and neither kind can be loaded as the other.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from tokenloom._wording import show
from tokenloom.errors import StateMismatchError
from tokenloom.plan.order import MAX_EPOCH
from tokenloom.plan.plan import Plan

STATE_VERSION = 1

# What a StatefulDataLoader looks for in a state, without and with workers.
_TORCHDATA_KEYS = ("_num_yielded", "_snapshot")

_POSITION = ("epoch", "next_batch")
_LOADER, _STATEFUL = "a tokenloom.Loader", "a torchdata StatefulDataLoader"
_OPTIONAL = {"tail": "drop"}
# Not read by releases that know nothing of it, which lose the count and nothing else.
_SKIPPED = "num_skipped"
# How deep in a checkpoint a position is looked for.
_MAX_DEPTH = 4


class Position(NamedTuple):
    """Where a stream stands.

    Attributes
    ----------
    epoch : int
    next_batch : int
        The first row of the epoch's plan that was not consumed.
    num_skipped : int
        Batches that were passed over on purpose, on the way there.
    """

    epoch: int
    next_batch: int
    num_skipped: int = 0


def describe_position(
    plan: Plan,
    *,
    proof: Mapping[str, str],
    next_batch: int,
    num_skipped: int = 0,
    worker: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Return a flat, JSON-able state: position and proof.

    Parameters
    ----------
    plan : Plan
        Its epoch is the epoch of the position.
    proof : mapping of str to str
        ``"corpus"``, the hash of the tokens, and what else identifies them.
    next_batch : int
        The first row of the plan that was not consumed.
    num_skipped : int
        Batches that were passed over on purpose.
    worker : (worker_index, num_workers), optional
        Whose rows are counted; those of the whole stream by default.
    """
    of_plan = plan.order.proof(plan)
    state: dict[str, Any] = {
        "version": STATE_VERSION,
        "kind": plan.kind,
        "order_version": plan.order.version(plan.seed, plan.epoch),
        **proof,
        **{name: value for name, value in of_plan.items() if value != _OPTIONAL.get(name)},
        "epoch": plan.epoch,
        "next_batch": next_batch,
    }
    if num_skipped:
        state[_SKIPPED] = num_skipped
    if worker is not None:
        state["worker"], state["num_workers"] = worker
    return state


def restore_position(
    state: Mapping[str, Any],
    *,
    plan: Plan,
    proof: Mapping[str, str],
    worker: tuple[int, int] | None = None,
) -> Position:
    """Return the position of a state, after checking all of it.

    Parameters
    ----------
    state : mapping
        What `describe_position` returned, perhaps in another process.
    plan : Plan
        The plan, of any epoch, that the state must belong to.
    proof : mapping of str to str
        As in `describe_position`, of the tokens at hand.
    worker : (worker_index, num_workers), optional
        As in `describe_position`.

    Raises
    ------
    StateMismatchError
        The state is no mapping, of an unknown version, incomplete, of the
        other kind, of another plan or corpus, or its position is out of range.
    """
    current = describe_position(plan, proof=proof, next_batch=0, worker=worker)
    saved = _check_form(state, current)
    epoch = saved["epoch"]
    if type(epoch) is int:
        current["order_version"] = plan.order.version(plan.seed, epoch)
    _check_proof(saved, _OPTIONAL | current)
    # An iterator of worker w of W that is done stands at most W rows past the end.
    past_end = 0 if worker is None else worker[1]
    stops = {
        "epoch": MAX_EPOCH,
        "next_batch": plan.num_batches + past_end,
        _SKIPPED: MAX_EPOCH,
    }
    saved.setdefault(_SKIPPED, 0)
    for name, stop in stops.items():
        if type(saved[name]) is not int or not 0 <= saved[name] < stop:
            msg = (
                f"cannot resume: {name} of the saved position must be an integer in "
                f"[0, {stop}), got {show(saved[name])}: the state was changed or damaged"
            )
            raise StateMismatchError(msg)
    return Position(saved["epoch"], saved["next_batch"], saved[_SKIPPED])


def _other_kind(*, saver: str, loader: str) -> StateMismatchError:
    return StateMismatchError(
        f"cannot resume: the position was saved by {saver} and cannot be loaded "
        f"into {loader}: load it into what saved it"
    )


def _check_form(state: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(state, Mapping):
        msg = (
            f"a saved position must be a dict, got {show(state)}: load what state_dict() of a "
            "Loader returned"
        )
        raise StateMismatchError(msg)
    if any(key in state for key in _TORCHDATA_KEYS):
        raise _other_kind(saver=_STATEFUL, loader=_LOADER)
    if not _is_position(state):
        _refuse_whole(state)
    if not _is_same(state.get("version"), STATE_VERSION):
        msg = (
            f"cannot resume: this release reads positions of version {STATE_VERSION}, "
            f"got version {show(state.get('version'))}: resume with the release that saved it"
        )
        raise StateMismatchError(msg)
    if ("num_workers" in state) != ("num_workers" in current):
        kinds = (_STATEFUL, _LOADER) if "num_workers" in state else (_LOADER, _STATEFUL)
        raise _other_kind(saver=kinds[0], loader=kinds[1])
    # Another order, or another mixture, has fields of its own: `_check_proof` names them.
    is_other = any(
        name in state and not _is_same(state[name], current.get(name)) for name in ("kind", "parts")
    )
    needed = ("corpus", *_POSITION) if is_other else current
    missing = [name for name in needed if name not in state and name not in _OPTIONAL]
    if missing:
        msg = (
            f"cannot resume: the saved position lacks {', '.join(missing)}: "
            "load a whole state, as state_dict() returned it"
        )
        raise StateMismatchError(msg)
    return {**_OPTIONAL, **state}


def _is_same(saved: object, now: object) -> bool:
    # Arrays and tensors answer a comparison with another of them.
    return type(saved) is type(now) and bool(saved == now)


def _is_position(value: object) -> bool:
    return isinstance(value, Mapping) and any(name in value for name in _POSITION)


def _refuse_whole(state: Mapping[Any, Any]) -> None:
    """Refuse a checkpoint that contains a position, and name the keys of the position."""
    found = _find_position(state, depth=_MAX_DEPTH)
    if found is not None:
        keys = "".join(f"[{show(key)}]" for key in found)
        msg = (
            "cannot resume: this is no saved position, it is a checkpoint that holds one: "
            f"load_state_dict(checkpoint{keys})"
        )
        raise StateMismatchError(msg)


def _find_position(value: Mapping[Any, Any], *, depth: int) -> list[object] | None:
    """Return the keys that lead to the first position within a mapping, or None."""
    nested = [(key, each) for key, each in value.items() if isinstance(each, Mapping)]
    for key, each in nested:
        if _is_position(each):
            return [key]
    for key, each in nested if depth else ():
        found = _find_position(each, depth=depth - 1)
        if found is not None:
            return [key, *found]
    return None


def _check_proof(saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    different = [
        name
        for name, value in current.items()
        if name not in _POSITION and not _is_same(saved.get(name), value)
    ]
    if different:
        lines = [
            f"  {name}: saved {show(saved.get(name))}, now {show(current[name])}"
            for name in different
        ]
        cure = f"Use the saved {' and '.join(different)}"
        if "order_version" in different:
            cure = "Resume with the release that saved it"
        msg = "\n".join(
            [
                "cannot resume: the saved position belongs to another plan.",
                *lines,
                f"{cure}, or start from the beginning.",
            ]
        )
        raise StateMismatchError(msg)
