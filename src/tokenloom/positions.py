"""A saved position in a plan, with the proof of which plan it belongs to.

There are two kinds. A `tokenloom.Loader` counts batches of the whole stream.
An iterator inside a DataLoader's worker counts the rows of that worker, so its
state names the worker, and neither kind can be loaded as the other.
"""

from collections.abc import Mapping
from typing import Any

from tokenloom.errors import StateMismatchError
from tokenloom.plans import ORDER_VERSION, Plan

STATE_VERSION = 1

_POSITION = ("epoch", "next_batch")
_OPTIONAL = {"tail": "drop"}


def describe(
    plan: Plan,
    *,
    corpus_hash: str,
    next_batch: int,
    worker: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Return a flat, JSON-able state: position and proof.

    Parameters
    ----------
    plan : Plan
        Its epoch is the epoch of the position.
    corpus_hash : str
        ``"sha256:..."`` of the tokens.
    next_batch : int
        The first row of the plan that was not consumed.
    worker : (worker_index, num_workers), optional
        Whose rows are counted; those of the whole stream by default.
    """
    state: dict[str, Any] = {
        "version": STATE_VERSION,
        "kind": plan.kind,
        "order_version": ORDER_VERSION,
        "corpus": corpus_hash,
        "num_tokens": plan.num_tokens,
        "seq_len": plan.seq_len,
        "batch_size": plan.batch_size,
        "seed": plan.seed,
        "epoch": plan.epoch,
        "next_batch": next_batch,
    }
    if plan.tail != _OPTIONAL["tail"]:
        state["tail"] = plan.tail
    if worker is not None:
        state["worker"], state["num_workers"] = worker
    return state


def restore(
    state: Mapping[str, Any],
    *,
    plan: Plan,
    corpus_hash: str,
    worker: tuple[int, int] | None = None,
) -> tuple[int, int]:
    """Return the epoch and the next batch of a state, after checking all of it.

    Parameters
    ----------
    state : mapping
        What `describe` returned, perhaps in another process.
    plan : Plan
        The plan, of any epoch, that the state must belong to.
    corpus_hash : str
        ``"sha256:..."`` of the tokens at hand.
    worker : (worker_index, num_workers), optional
        As in `describe`.

    Raises
    ------
    StateMismatchError
        The state is no mapping, of an unknown version, incomplete, of the
        other kind, of another plan or corpus, or its position is out of range.
    """
    current = describe(plan, corpus_hash=corpus_hash, next_batch=0, worker=worker)
    saved = _check_form(state, current)
    _check_proof(saved, _OPTIONAL | current)
    # An iterator of worker w of W that is done stands at most W rows past the end.
    past_end = 0 if worker is None else worker[1]
    stops = {"epoch": 1 << 63, "next_batch": plan.num_batches + past_end}
    for name, stop in stops.items():
        if type(saved[name]) is not int or not 0 <= saved[name] < stop:
            msg = (
                f"cannot resume: {name} of the saved position must be an integer in "
                f"[0, {stop}), got {saved[name]!r}: the state was changed or damaged"
            )
            raise StateMismatchError(msg)
    return saved["epoch"], saved["next_batch"]


def _check_form(state: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(state, Mapping):
        msg = f"a saved position must be a dict, got {state!r}"
        raise StateMismatchError(msg)
    if state.get("version") != STATE_VERSION:
        msg = (
            f"cannot resume: this release reads positions of version {STATE_VERSION}, "
            f"got version {state.get('version')!r}: resume with the release that saved it"
        )
        raise StateMismatchError(msg)
    if ("num_workers" in state) != ("num_workers" in current):
        saver, loader = "an iterator under StatefulDataLoader", "a tokenloom.Loader"
        if "num_workers" in current:
            saver, loader = loader, saver
        msg = (
            f"cannot resume: the position was saved by {saver} and cannot be loaded "
            f"into {loader}: load it into what saved it"
        )
        raise StateMismatchError(msg)
    missing = [name for name in current if name not in state and name not in _OPTIONAL]
    if missing:
        msg = (
            f"cannot resume: the saved position lacks {', '.join(missing)}: "
            "load a whole state, as state_dict() returned it"
        )
        raise StateMismatchError(msg)
    return {**_OPTIONAL, **state}


def _check_proof(saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    different = [
        name for name, value in current.items() if name not in _POSITION and saved[name] != value
    ]
    if different:
        lines = [f"  {name}: saved {saved[name]!r}, now {current[name]!r}" for name in different]
        msg = "\n".join(
            [
                "cannot resume: the saved position belongs to another plan.",
                *lines,
                f"Use the saved {' and '.join(different)}, or start from the beginning.",
            ]
        )
        raise StateMismatchError(msg)
