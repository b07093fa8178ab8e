"""The laws of the stream, as checks of any corpus and any settings.

Each function returns nothing where a law holds, and raises `LawError` where
it is broken. They compare the stream with the tokens that its plan names, and
the ways to read it with each other.
"""

import dataclasses
import hashlib
import itertools
import json
import os
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch

from tokenloom._wording import count
from tokenloom.corpus.document_lengths import DocumentsByLength
from tokenloom.corpus.offsets import DocumentOffsets
from tokenloom.errors import ArgumentError, LawError, StateMismatchError
from tokenloom.loading.batch import IGNORED_TARGET, Batch
from tokenloom.loading.dataset import Windows
from tokenloom.loading.loader import Loader
from tokenloom.plan.mixture import MixtureOrder
from tokenloom.plan.packed import PackedOrder
from tokenloom.plan.plan import CORPUS_ORDERS, Plan, digest_plan

MakeLoaders = Callable[[], Sequence[Loader]]

_HUGE_NUM_TOKENS = 10**12
_MAX_PLAN_BYTES = 1 << 20
# The digest of `_pack_example`.
_PACKED_DIGEST = "5d420aad7758a47833b0e9d4d16061502c8b4a37df59644ad974215456ed8efa"
# What to do about an order of the caller's own that ignores its seed or epoch.
_IGNORES_SEED = (
    "; let its starts() depend on settings.seed and settings.epoch, by the words that "
    "tokenloom.plan.order.draw_words(settings.seed, settings.epoch) returns, or leave "
    "check_seeds out if the order is meant to be the same"
)
# Without PyTorch, which takes seconds to import.
_PLAN_PROGRAM = """
import pickle, sys
from tokenloom.plan.plan import digest_plan
sys.path[:] = pickle.load(sys.stdin.buffer)
print(digest_plan(pickle.load(sys.stdin.buffer)))
"""


class Fingerprint(NamedTuple):
    """The epoch, the row and the hash of the content of a batch."""

    epoch: int
    row: int
    digest: str


def digest(batch: Batch, *others: Batch) -> Fingerprint:
    """Return the fingerprint of a batch; further arguments are the rows of other ranks."""
    sha256 = hashlib.sha256()
    for tensors in zip(*map(_tensors, (batch, *others)), strict=True):
        sha256.update(torch.cat([tensor.cpu() for tensor in tensors]).numpy().tobytes())
    positions = {(other.epoch, other.index) for other in others}
    if not positions <= {(batch.epoch, batch.index)}:
        _fail("law 4", f"ranks stand at {(batch.epoch, batch.index)} and {positions}")
    return Fingerprint(batch.epoch, batch.index, sha256.hexdigest())


def _tensors(batch: Batch) -> tuple[torch.Tensor, ...]:
    resets = batch.resets if batch.has_resets else torch.zeros_like(batch.mask)
    sources = (batch.sources,) if batch.has_sources else ()
    return batch.inputs, batch.targets, batch.mask, resets, *sources


def check_batches(windows: Windows, rows: Iterable[int]) -> None:
    """Check laws 1 and 2: in range, disjoint, shifted, and the tokens of the plan.

    Parameters
    ----------
    windows : RandomWindows or SequentialWindows
        Their current epoch is checked, for one process.
    rows : iterable of int
        Which batches are checked.
    """
    tokens, loss_mask, plan = windows.corpus.tokens, windows.corpus.loss_mask, windows.plan
    inputs_seen: list[tuple[int, int]] = []
    batches = {batch.index: batch for batch in _at_rows(windows, sorted(set(rows)))}
    for row, batch in batches.items():
        _check_sources(batch, plan)
        for column, pieces in enumerate(_read_pieces(plan, row)):
            where = f"epoch {plan.epoch}, batch {row}, row {column}"
            expected, learnt = [], list[bool]()
            for start, length in pieces:
                if not 0 <= start <= start + length < plan.num_tokens:
                    problem = f"{where} reads [{start}, {start + length}] of {plan.num_tokens}"
                    _fail("law 1", problem)
                inputs_seen.append((start, start + length))
                expected.append(np.asarray(tokens[start : start + length + 1], dtype=np.int64))
                if loss_mask is not None:
                    learnt += (loss_mask[start + 1 : start + length + 1] != 0).tolist()
            _check_row(batch, column, expected, learnt, where=where)
    for (_, stop), (start, _) in itertools.pairwise(sorted(inputs_seen)):
        if start < stop and not _may_read_twice(plan):
            _fail("law 1", f"epoch {plan.epoch}: tokens [{start}, {stop}) are inputs twice")


def check_stream(
    expected: Iterable[Fingerprint], got: Iterable[Fingerprint], *, law: str, what: str
) -> None:
    """Check that a stream yields the expected batches, and then ends."""
    pairs = itertools.zip_longest(expected, got)
    for position, (wanted, found) in enumerate(pairs):
        if wanted is None or found is None:
            much = "more" if wanted is None else "fewer"
            _fail(law, f"{what} gave {much} batches than expected, from batch {position} on")
        if wanted != found:
            _fail(law, f"{what} differs at batch {position}: expected {wanted}, got {found}")


def check_ranks(make_windows: Callable[[int, int], Windows], world_size: int) -> None:
    """Check law 4: the ranks' rows side by side are the batches of one process.

    Parameters
    ----------
    make_windows : callable
        ``make_windows(rank, world_size)`` returns the windows of a rank.
    world_size : int
        A world size that divides the batch.
    """
    ranks = [make_windows(rank, world_size) for rank in range(world_size)]
    whole = map(digest, make_windows(0, 1))
    what = f"{count(world_size, 'rank')} side by side"
    check_stream(whole, _side_by_side(ranks), law="law 4", what=what)


def check_world_sizes(make_windows: Callable[[int, int], Windows]) -> None:
    """Check law 4: a world size that does not divide the batch is refused."""
    world_size = max(make_windows(0, 1).plan.all_sizes) + 1
    try:
        make_windows(0, world_size)
    except ArgumentError:
        return
    _fail("law 4", f"{world_size} processes were accepted, which do not divide the batch")


def check_length(windows: Windows) -> None:
    """Check laws 6 and 7: as many batches and inputs as the plan has."""
    plan, num_batches, num_inputs = windows.plan, 0, 0
    for batch in windows:
        num_batches += 1
        # What is not learnt is no target, but an input.
        has_all = windows.corpus.loss_mask is None
        num_inputs += int(batch.mask.sum()) if has_all else batch.num_inputs
    for law, name, wanted, got in (
        ("law 6", "len()", len(windows), num_batches),
        ("law 6", "plan.num_batches", plan.num_batches, num_batches),
        ("law 7", "plan.num_inputs", plan.num_inputs, num_inputs),
        ("law 7", "plan.num_dropped", plan.num_dropped, _epoch_tokens(plan) - num_inputs),
    ):
        if wanted != got:
            _fail(law, f"epoch {plan.epoch}: {name} is {wanted}, counted {got}")
    # Tokens that are only targets: the last of the corpus, or of each document.
    limit = 1 if plan.is_mixture else dataclasses.replace(plan, tail="pad").num_dropped
    if plan.tail == "drop":
        limit += (max(plan.all_sizes) + 1) * plan.seq_len - 1
    if plan.num_dropped > limit:
        _fail("law 7", f"dropped {count(plan.num_dropped, 'token')}, at most {limit:,} may be")


def check_shares(windows: Windows) -> None:
    """Check that the batches of a mixture agree with its accounting, in exact shares.

    Parameters
    ----------
    windows : RandomWindows
        Of a mixture; their current epoch is read, for one process.
    """
    plan = windows.plan
    order = plan.order
    if not isinstance(order, MixtureOrder):
        msg = f"windows must be those of a mixture, got {plan.kind} order"
        raise ArgumentError(msg)
    counts = np.zeros(len(order.names), np.int64)
    for batch in windows:
        counts += np.bincount(batch.sources.numpy(), minlength=len(counts))
    for (name, account), got in zip(plan.accounting().items(), counts.tolist(), strict=True):
        if account.windows != got:
            _fail(
                "law 7", f"epoch {plan.epoch}: {account.windows} windows of {name}, counted {got}"
            )
    # The windows of an epoch have the shares of its stages, up to the rounding of the shares.
    num_windows = plan.num_windows
    whole = dataclasses.replace(plan, batch_size=1, batch_sizes=None).accounting()
    stages = zip(order.stages, [*order.stages[1:], None], strict=True)
    exact = np.zeros(len(counts))
    for stage, after in stages:
        first, stop = ((plan.epoch + step) * num_windows * plan.seq_len for step in (0, 1))
        begin, end = max(first, stage.first_token), min(stop, after.first_token if after else stop)
        exact += max(0, end - begin) / plan.seq_len * np.array(stage.weights) / sum(stage.weights)
    most = len(order.names) + len(order.stages)
    for (name, account), share in zip(whole.items(), exact.tolist(), strict=True):
        if abs(account.windows - share) > most:
            _fail("law 7", f"{name} has {account.windows} windows of an epoch, not {share:,.1f}")


def check_seeds(plan: Plan) -> None:
    """Check law 8: seed and epoch decide the order, and nothing else does.

    If the order has a pinned hash, its plan must be the same on every platform.
    This plan must be the same in processes with other hash seeds. Another seed,
    and another epoch, must have another order.

    Other processes must be able to import an order of your own. One that is
    defined in a script or a notebook is not tried there.
    """
    pinned, golden_digest = plan, plan.order.golden_digest
    if plan.kind == PackedOrder.kind:
        pinned, golden_digest = _pack_example(), _PACKED_DIGEST
    elif plan.own_order is None or golden_digest is not None:
        pinned = Plan.of(plan.order, num_tokens=10**6, seq_len=35, batch_size=32)
    if golden_digest not in (None, digest_plan(pinned)):
        problem = f"this platform orders {plan.kind} plans differently: {digest_plan(pinned)}"
        _fail("law 8", problem)
    seen = {digest_plan(pinned): f"seed {pinned.seed} in epoch {pinned.epoch}"}
    # Compare plans of a pinned size, since a short or padded plan may have only one order.
    for name, other in (
        ("seed", dataclasses.replace(pinned, seed=pinned.seed ^ 1)),
        ("epoch", dataclasses.replace(pinned, epoch=pinned.epoch + 1)),
        ("seed of more than 32 bits", dataclasses.replace(pinned, seed=pinned.seed ^ (1 << 32))),
    ):
        who = f"seed {other.seed} in epoch {other.epoch}"
        same = seen.setdefault(digest_plan(other), who)
        if same != who:
            is_own = plan.own_order is not None and not plan.is_mixture
            problem = f"another {name} gives the same order: {who} has that of {same}"
            _fail("law 8", problem + _IGNORES_SEED * is_own)
    pickled = _pickle_for_others(plan)
    if pickled is None:
        return
    for hash_seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", _PLAN_PROGRAM],
            check=False,
            capture_output=True,
            input=pickled,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
        output = there.stdout.decode().strip()
        if there.returncode or output != digest_plan(plan):
            reason = there.stderr.decode().strip() or output
            _fail("law 8", f"another process makes another plan, or none: {reason}")


def _pack_example() -> Plan:
    """Return a plan of packed documents, the same on every platform."""
    lengths = np.arange(4000, dtype=np.int64) ** 2 % 97
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    order = PackedOrder(DocumentsByLength.of(DocumentOffsets(offsets)))
    return Plan.of(order, num_tokens=int(offsets[-1]), seq_len=64, batch_size=32)


def _pickle_for_others(plan: Plan) -> bytes | None:
    """Return the search path and the plan; None if its order is not defined in a module."""
    module = sys.modules.get(type(plan.order).__module__)
    if module is None or module.__name__ == "__main__":
        return None
    if getattr(module, type(plan.order).__qualname__, None) is not type(plan.order):
        return None
    return pickle.dumps(sys.path) + pickle.dumps(plan)


def check_state(loader: Loader) -> None:
    """Check law 9: a state is JSON, flat, and refused where any proof differs."""
    state = loader.state_dict()
    if json.loads(json.dumps(state)) != state or any(
        not isinstance(value, int | str) for value in state.values()
    ):
        _fail("law 9", f"the state is not flat JSON: {state}")
    for name, value in state.items():
        changed = {**state, name: value + 1 if isinstance(value, int) else value + "?"}
        if name in ("epoch", "next_batch", "num_skipped", "first_window"):
            continue
        try:
            loader.load_state_dict(changed)
        except StateMismatchError as error:
            if name not in str(error):
                _fail("law 9", f"another {name} was refused without naming it: {error}")
        else:
            _fail("law 9", f"a state with another {name} was taken")
    if loader.state_dict() != state:
        _fail("law 9", "a refused state changed the loader")


def check_cost(plan: Plan) -> None:
    """Check law 10: a row of this plan, and of one over 10^12 tokens, takes less than 1 MiB.

    That is the memory of its arithmetic; the time is not measured. If an order depends
    on more of a corpus than its length, only this plan is tried.
    """
    plans = [plan]
    if isinstance(plan.order, MixtureOrder):
        lengths = tuple(length + _HUGE_NUM_TOKENS for length in plan.order.part_lengths)
        order = dataclasses.replace(plan.order, part_lengths=lengths)
        plans.append(dataclasses.replace(plan, own_order=order, num_tokens=sum(lengths)))
    elif plan.kind not in CORPUS_ORDERS:
        huge = dataclasses.replace(plan, num_tokens=_HUGE_NUM_TOKENS + plan.num_tokens)
        plans.append(huge)
    peaks = []
    for each in plans:
        row = range(each.num_batches - 1, each.num_batches)
        columns = range(min(64, each.size_of(row)))
        tracemalloc.start()
        each.starts(row, columns)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    if max(peaks) > _MAX_PLAN_BYTES:
        _fail("law 10", f"a row of 10^12 tokens' plan took {peaks[-1]:,} bytes, here {peaks[0]:,}")


def assert_resumes_everywhere(
    make_saved: MakeLoaders, make_restored: MakeLoaders | None = None
) -> None:
    """Check law 5: a stream resumes after each of its batches.

    The position is saved before the first batch and after each one, passes
    through JSON, and is loaded into fresh loaders. The whole rest of the
    iteration and the whole next epoch must be the same.

    Parameters
    ----------
    make_saved : callable
        Returns the loaders whose positions are saved: one per rank, in the order
        of the ranks.
    make_restored : callable, optional
        Returns the loaders that resume, perhaps with another number of workers or
        another world size; by default ``make_saved``.

    Raises
    ------
    LawError
        A resumed stream differs, or the ranks' states do.
    """
    saved = make_saved()
    num_next = saved[0].plan.num_batches
    expected, states = [], [_state(saved)]
    for fingerprint in _side_by_side(saved):
        expected.append(fingerprint)
        states.append(_state(saved))
    if len(expected) != len(saved[0]):
        _fail("law 6", f"len() is {len(saved[0])}, got {count(len(expected), 'batch', 'batches')}")
    epoch_after = list(itertools.islice(_side_by_side(saved), num_next))
    for num_consumed, state in enumerate(states):
        restored = (make_restored or make_saved)()
        for loader in restored:
            loader.load_state_dict(state)
        what = f"the stream that was resumed after {count(num_consumed, 'batch', 'batches')}"
        rest = expected[num_consumed:]
        if rest:
            if restored[0].remaining != len(rest):
                _fail("law 5", f"{what}: remaining is {restored[0].remaining}, not {len(rest)}")
            check_stream(rest, _side_by_side(restored), law="law 5", what=what)
        after = itertools.islice(_side_by_side(restored), num_next)
        check_stream(epoch_after, after, law="law 5", what=f"the epoch after, of {what}")


def _side_by_side(ranks: Sequence[Iterable[Batch]]) -> Iterator[Fingerprint]:
    """Yield the fingerprint of each batch, from the rows of all ranks."""
    for parts in itertools.zip_longest(*ranks):
        if any(part is None for part in parts):
            _fail("law 4", f"{count(len(ranks), 'rank')} give different numbers of batches")
        yield digest(*parts)


def _state(ranks: Sequence[Loader]) -> dict[str, Any]:
    states = [json.loads(json.dumps(loader.state_dict())) for loader in ranks]
    if any(state != states[0] for state in states):
        _fail("law 5", f"the ranks' states differ: {states}")
    return dict(states[0])


def _at_rows(windows: Windows, rows: Sequence[int]) -> Iterator[Batch]:
    loader = Loader(windows)
    state = loader.state_dict()
    for row in rows:
        loader.load_state_dict({**state, "next_batch": row})
        yield next(iter(loader))


def _read_pieces(plan: Plan, row: int) -> Iterator[list[tuple[int, int]]]:
    """Yield where the pieces of each row of a batch start, and how many inputs they have."""
    references = plan.references(range(row, row + 1))
    pieces = references.pieces
    if pieces is None:
        starts = references.starts[0].tolist()
        lengths = references.lengths
        counted = [plan.seq_len] * len(starts) if lengths is None else lengths[0].tolist()
        yield from ([each] for each in zip(starts, counted, strict=True))
        return
    left = iter(zip(pieces.starts.tolist(), pieces.lengths.tolist(), strict=True))
    for number in pieces.counts[0].tolist():
        yield list(itertools.islice(left, number))


def _check_sources(batch: Batch, plan: Plan) -> None:
    """Check that the rows of a mixture come from the parts that they say, and lie within them."""
    order = plan.order
    if not isinstance(order, MixtureOrder):
        return
    starts = plan.starts(range(batch.index, batch.index + 1))[0]
    sources, where = order.sources_of(starts), f"epoch {plan.epoch}, batch {batch.index}"
    if batch.sources.tolist() != sources.tolist():
        _fail("law 1", f"{where}: the sources are not the parts that the plan names")
    if (starts + plan.seq_len >= order.bounds[sources + 1]).any():
        _fail("law 1", f"{where}: a window does not lie within its part")


def _may_read_twice(plan: Plan) -> bool:
    """Return whether a part of a mixture may be in two of its own epochs."""
    if not isinstance(plan.order, MixtureOrder):
        return False
    is_repeated = any(account.times_read > 1 for account in plan.accounting().values())
    return plan.epoch > 0 or is_repeated


def _epoch_tokens(plan: Plan) -> int:
    """Return the length of an epoch: that of a mixture need not be all of its parts."""
    order = plan.order
    return order.epoch_tokens(plan) if isinstance(order, MixtureOrder) else plan.num_tokens


def _check_row(
    batch: Batch, column: int, expected: Sequence[Any], learnt: Sequence[bool], *, where: str
) -> None:
    """Check that a row holds pieces of tokens, side by side, and nothing else.

    ``learnt`` has a value for each target where the corpus has a loss mask; else it is empty.
    """
    length = sum(len(piece) - 1 for piece in expected)
    learnt = learnt or [True] * length
    inputs, targets = batch.inputs[column].tolist(), batch.targets[column].tolist()
    if inputs[:length] != [token for piece in expected for token in piece[:-1].tolist()]:
        _fail("law 1", f"{where}: the inputs are not the tokens that the plan names")
    after = [token for piece in expected for token in piece[1:].tolist()]
    pairs = zip(after, learnt, strict=True)
    if targets[:length] != [token if counts else IGNORED_TARGET for token, counts in pairs]:
        _fail("law 2", f"{where}: the targets are not the tokens after the inputs")
    mask = [*learnt, *[False] * (len(targets) - length)]
    if set(targets[length:]) - {IGNORED_TARGET} or batch.mask[column].tolist() != mask:
        num_learnt = sum(learnt)
        problem = f"the mask or the padding does not leave {count(num_learnt, 'target')}"
        _fail("law 7", f"{where}: {problem}")


def _fail(law: str, problem: str) -> NoReturn:
    msg = f"{law} is broken: {problem}"
    raise LawError(msg)
