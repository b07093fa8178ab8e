"""A saved position in a plan, with the proof of which plan it belongs to.

There are two kinds. A `tokenloom.Loader` counts batches of the whole stream.
An iterator inside a DataLoader's worker counts the rows of that worker, so its
state names the worker, and neither kind can be loaded as the other.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from tokenloom._wording import show
from tokenloom.errors import ArgumentError, CorpusError, StateMismatchError
from tokenloom.plan.batch_sizes import BatchSizes
from tokenloom.plan.order import MAX_EPOCH, ShuffledOrder
from tokenloom.plan.plan import Plan

STATE_VERSION = 1
# The version of a position in an epoch whose first batch begins at a later window. Older releases,
# which would begin at the first window, refuse it.
_WINDOW_VERSION = 2

# What a StatefulDataLoader looks for in a state, without and with workers.
_TORCHDATA_KEYS = ("_num_yielded", "_snapshot")

_POSITION = ("epoch", "next_batch")
_LOADER, _STATEFUL = "a tokenloom.Loader", "a torchdata StatefulDataLoader"
_OPTIONAL = {"tail": "drop"}
# Older releases ignore this key, and lose only the count.
_SKIPPED = "num_skipped"
_FIRST_WINDOW = "first_window"
# How many levels of a checkpoint are searched for a position.
_MAX_DEPTH = 4


class Position(NamedTuple):
    """The place in a stream from which it continues.

    Attributes
    ----------
    epoch : int
    next_batch : int
        The first row of the epoch's plan that was not consumed.
    num_skipped : int
        Batches that were passed over on purpose, on the way there.
    first_window : int
        As of the epoch's plan.
    """

    epoch: int
    next_batch: int
    num_skipped: int = 0
    first_window: int = 0


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
        Its epoch, and its first window, are those of the position.
    proof : mapping of str to str
        ``"corpus"``, the hash of the tokens, and what else identifies them.
    next_batch : int
        The first row of the plan that was not consumed.
    num_skipped : int
        Batches that were passed over on purpose.
    worker : (worker_index, num_workers), optional
        Whose rows are counted; those of the whole stream by default.
    """
    of_plan = {**plan.order.proof(plan), "batch_size": plan.described_size}
    state: dict[str, Any] = {
        "version": _WINDOW_VERSION if plan.first_window else STATE_VERSION,
        "kind": plan.kind,
        "order_version": plan.order.version(plan.seed, plan.epoch),
        **proof,
        **{name: value for name, value in of_plan.items() if value != _OPTIONAL.get(name)},
        "epoch": plan.epoch,
        "next_batch": next_batch,
    }
    if plan.first_window:
        state[_FIRST_WINDOW] = plan.first_window
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
    changed: Collection[str] = (),
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
    changed : collection of str
        Settings that may differ from the saved plan: only "batch_size". The position
        is then converted to that of the same window.

    Raises
    ------
    ArgumentError
        ``changed`` has another name, or the windows depend on the batch size.
    StateMismatchError
        The state is no mapping, of an unknown version, incomplete, of the
        other kind, of another plan or corpus, or its position is out of range.
    """
    _check_changed(changed, plan)
    current = describe_position(plan.at(0), proof=proof, next_batch=0, worker=worker)
    saved = _check_form(state, current)
    epoch = saved["epoch"]
    if type(epoch) is int:
        current["order_version"] = plan.order.version(plan.seed, epoch)
    if "batch_size" in changed and saved["batch_size"] != current["batch_size"]:
        _check_proof({**saved, "batch_size": current["batch_size"]}, _OPTIONAL | current)
        before = _resize(plan, saved["batch_size"])
        return _convert(_check_range(saved, before), before=before, now=plan)
    _check_proof(saved, _OPTIONAL | current)
    return _check_range(saved, plan, worker=worker)


def _check_changed(changed: object, plan: Plan) -> None:
    if (
        not isinstance(changed, Collection)
        or isinstance(changed, str)
        or any(name != "batch_size" for name in changed)
    ):
        msg = (
            f'changed must be ("batch_size",) or nothing, got {show(changed)}: with any other '
            "change the windows are others, and a position among them means nothing"
        )
        raise ArgumentError(msg)
    if changed and not isinstance(plan.order, ShuffledOrder):
        msg = (
            f'changed=("batch_size",) needs windows that do not depend on the batch size, got '
            f"{plan.kind} order, whose windows do: load into windows with the saved batch_size"
        )
        raise ArgumentError(msg)


def _resize(plan: Plan, batch_size: Any) -> Plan:
    """Return a plan with the batch size of a saved position."""
    try:
        size: Any = BatchSizes.parse(batch_size) if isinstance(batch_size, str) else batch_size
        before = dataclasses.replace(plan.at(0), batch_size=size, batch_sizes=None)
    except (ArgumentError, CorpusError) as error:
        msg = f"cannot resume: the saved batch_size cannot be {show(batch_size)}: {error}"
        raise StateMismatchError(msg) from error
    if before.num_windows != plan.num_windows:
        msg = (
            f"cannot resume with another batch_size: saved {show(batch_size)}, now "
            f"{show(plan.described_size)}. The corpus holds barely one batch of the larger size, "
            "and its windows are cut otherwise then. Use the saved batch_size, or start from the "
            "beginning."
        )
        raise StateMismatchError(msg)
    return before


def _convert(position: Position, *, before: Plan, now: Plan) -> Position:
    """Return the position of the window at which a position of another batch size stands."""
    epoch, row, _, first_window = position
    window = before.at(epoch, first_window=first_window).window_of(row)
    of_epoch, first_window = now.at(epoch), 0
    place = of_epoch.row_at(window)
    if place is None:
        # The rest of the epoch is cut into batches from this window on.
        place, first_window = 0, window
        of_epoch = now.at(epoch, first_window=window)
    if place == of_epoch.num_batches:
        epoch, place, first_window = epoch + 1, 0, 0
    return position._replace(epoch=epoch, next_batch=place, first_window=first_window)


def _check_range(
    saved: dict[str, Any], plan: Plan, *, worker: tuple[int, int] | None = None
) -> Position:
    """Return the position of a state of this plan, of any epoch, after a check of its range."""
    first = 1 if saved["version"] == _WINDOW_VERSION else 0
    values = {_SKIPPED: 0, _FIRST_WINDOW: 0, **saved}
    _require(values, "epoch", MAX_EPOCH)
    _require(values, _SKIPPED, MAX_EPOCH)
    num_windows = plan.num_windows if isinstance(plan.order, ShuffledOrder) else 1
    _require(values, _FIRST_WINDOW, num_windows, start=first)
    of_epoch = plan.at(values["epoch"], first_window=values[_FIRST_WINDOW])
    # A finished iterator of one of W workers is at most W rows past the end.
    past_end = 0 if worker is None else worker[1]
    _require(values, "next_batch", of_epoch.num_batches + past_end)
    return Position(**{name: values[name] for name in Position._fields})


def _require(values: Mapping[str, Any], name: str, stop: int, *, start: int = 0) -> None:
    value = values[name]
    if type(value) is not int or not start <= value < stop:
        msg = (
            f"cannot resume: {name} of the saved position must be an integer in "
            f"[{start}, {stop}), got {show(value)}: the state was changed or damaged"
        )
        raise StateMismatchError(msg)


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
    version = _WINDOW_VERSION if _FIRST_WINDOW in state else STATE_VERSION
    if not _is_same(state.get("version"), version):
        msg = (
            f"cannot resume: this release reads positions of version {version}, "
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
        # Its version is checked before anything else of it.
        if name not in (*_POSITION, "version") and not _is_same(saved.get(name), value)
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
