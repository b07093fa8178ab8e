"""The laws of the stream, each against slow and obvious code.

Every token of the test corpora is its own position, so a batch says which
tokens it holds.
"""

import itertools
import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import tokenloom as tl
from tests.support.plan.strategies import kinds, make_windows, plans, seeds
from tokenloom.errors import ArgumentError
from tokenloom.plan.plan import Plan

WORKERS = (0, 1, 3, 4)


def rows_of(batch: tl.Batch) -> tuple[Any, ...]:
    """Return everything that a batch says, to be compared."""
    tensors = batch.inputs, batch.targets, batch.mask
    return batch.epoch, batch.index, *(tensor.tolist() for tensor in tensors)


def global_numpy_state() -> Any:
    """Return the words of NumPy's global generator."""
    state: Any = np.random.get_state()  # noqa: NPY002  the global one is the point
    return state[1]


@given(plans())
def test_law_1_windows_are_in_range_and_disjoint(plan: Plan) -> None:
    """Windows and targets lie in the corpus; no token is an input twice."""
    inputs: list[int] = []
    for batch in make_windows(plan):
        inputs.extend(batch.inputs[batch.mask].tolist())
        targets = batch.targets[batch.mask]
        assert bool(((targets >= 0) & (targets < plan.num_tokens)).all())
    assert len(inputs) == len(set(inputs))


@given(plans())
def test_law_2_targets_are_the_tokens_after_the_inputs(plan: Plan) -> None:
    """Where there is a target it is the input's successor; elsewhere it is -100."""
    for batch in make_windows(plan):
        expected = torch.where(batch.mask, batch.inputs + 1, -100)
        assert expected.tolist() == batch.targets.tolist()


@given(plans(kind=st.just("sequential")))
def test_law_2_rows_of_sequential_batches_go_on(plan: Plan) -> None:
    """Each row begins with the last target of the same row of the batch before."""
    for before, after in itertools.pairwise(make_windows(plan)):
        whole = before.mask.all(dim=1) & after.mask[:, 0]
        assert before.targets[whole, -1].tolist() == after.inputs[whole, 0].tolist()


@pytest.mark.parametrize("num_workers", WORKERS[1:])
@settings(max_examples=4)
@given(plan=plans())
def test_law_3_workers_change_nothing(num_workers: int, plan: Plan) -> None:
    """PyTorch's DataLoader gives the same stream with any number of workers."""
    windows = make_windows(plan)
    expected = [rows_of(batch) for batch in DataLoader(windows, batch_size=None)]
    loader = DataLoader(windows, batch_size=None, num_workers=num_workers)
    assert expected == [rows_of(batch) for batch in loader]


@pytest.mark.parametrize("num_workers", WORKERS)
@settings(max_examples=4)
@given(plan=plans(), block_size=st.integers(1, 9))
def test_law_3_holds_for_our_loader(num_workers: int, plan: Plan, block_size: int) -> None:
    """Loader gives the stream of the bare windows with any workers, and blocks of any size."""
    windows = make_windows(plan)
    options = tl.WorkerOptions(block_size=block_size)
    loader = tl.Loader(windows, num_workers=num_workers, worker_options=options)
    assert [rows_of(batch) for batch in windows] == [rows_of(batch) for batch in loader]


@given(plans())
def test_law_4_ranks_side_by_side_are_the_whole_batch(plan: Plan) -> None:
    """For every world size that divides the batch the ranks' rows tile it."""
    whole = [rows_of(batch) for batch in make_windows(plan)]
    for world_size in (n for n in range(1, plan.batch_size + 1) if plan.batch_size % n == 0):
        shards = [tl.Shard(rank=rank, world_size=world_size) for rank in range(world_size)]
        ranks = [[rows_of(b) for b in make_windows(plan, shard=shard)] for shard in shards]
        tiled = [
            (*parts[0][:2], *(list(itertools.chain(*rows)) for rows in zip(*tensors, strict=True)))
            for parts in zip(*ranks, strict=True)
            for tensors in [[part[2:] for part in parts]]
        ]
        assert whole == tiled


@given(plans(), st.data())
def test_law_4_other_world_sizes_are_refused(plan: Plan, data: st.DataObject) -> None:
    """The message names divisors of the batch size next to it."""
    wrong = [n for n in range(1, 20) if plan.batch_size % n]
    if not wrong:
        return
    world_size = data.draw(st.sampled_from(wrong))
    divisors = [n for n in range(1, plan.batch_size + 1) if plan.batch_size % n == 0]
    below, above = ([n for n in divisors if (n > world_size) == is_above] for is_above in (0, 1))
    near = " or ".join(map(str, below[-1:] + above[:1]))
    with pytest.raises(ArgumentError, match=f"use {near} process"):
        make_windows(plan, shard=tl.Shard(rank=0, world_size=world_size))


@given(plans(), st.integers(0, 100))
def test_law_6_the_length_is_exact(plan: Plan, epoch: int) -> None:
    """As many batches come as len() says, in every epoch."""
    windows = make_windows(plan)
    length = len(windows)
    windows.set_epoch(epoch)
    assert [length] * 3 == [len(list(windows)), len(windows), len(list(tl.Loader(windows)))]


@given(plans())
def test_law_7_nothing_is_lost_in_silence(plan: Plan) -> None:
    """Inputs and dropped tokens add up to the corpus, and few are dropped."""
    num_inputs = sum(int(batch.mask.sum()) for batch in make_windows(plan))
    accounted = plan.num_inputs, plan.num_dropped
    assert (num_inputs, plan.num_tokens - num_inputs) == accounted
    limit = 1 if plan.tail == "pad" else (plan.batch_size + 1) * plan.seq_len
    assert plan.num_dropped <= limit


@given(plans(tail=st.just("pad")))
def test_law_7_padding_leaves_out_the_last_token_only(plan: Plan) -> None:
    """With tail="pad" every token that has a successor is an input once."""
    inputs = [token for batch in make_windows(plan) for token in batch.inputs[batch.mask].tolist()]
    assert list(range(plan.num_tokens - 1)) == sorted(inputs)


@given(plans())
def test_law_7_no_padded_row_is_worth_a_batch(plan: Plan) -> None:
    """Every batch has something to learn."""
    assert all(bool(batch.mask.any()) for batch in make_windows(plan))


@given(kinds, seeds, seeds)
def test_law_8_other_seeds_give_other_streams(kind: str, seed: int, other: int) -> None:
    """Two seeds agree exactly where they are equal."""
    first, second = (
        Plan(kind=kind, num_tokens=2**61, seq_len=2**40, batch_size=4, seed=value)
        for value in (seed, other)
    )
    same = first.starts(range(4)).tolist() == second.starts(range(4)).tolist()
    assert (seed == other) == same


@given(kinds, seeds, st.integers(0, 2**31))
def test_law_8_seed_and_epoch_are_not_added(kind: str, seed: int, epoch: int) -> None:
    """Seed s + 1 at epoch e is not seed s at epoch e + 1."""
    seed = min(seed, 2**32 - 2)
    first, second = (
        Plan(kind=kind, num_tokens=2**61, seq_len=2**40, batch_size=4, seed=s, epoch=e)
        for s, e in ((seed + 1, epoch), (seed, epoch + 1))
    )
    assert first.starts(range(4)).tolist() != second.starts(range(4)).tolist()


def test_law_8_nothing_else_matters() -> None:
    """Processes with other hash seeds and other global random numbers agree."""
    program = """
import json, random, numpy, torch, tokenloom as tl
random.seed(); numpy.random.seed(); torch.seed()
corpus = tl.Corpus.from_tokens(numpy.arange(2000) % 251)
streams = [
    [batch.inputs.tolist() for batch in kind(corpus, batch_size=4, seq_len=9, seed=5)]
    for kind in (tl.RandomWindows, tl.SequentialWindows)
]
print(json.dumps([corpus.hash, streams]))
"""
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert json.loads(outputs[0]) == json.loads(outputs[1])


def test_law_8_the_loader_leaves_the_global_random_numbers_alone() -> None:
    """Iterating draws nothing from PyTorch's, NumPy's or Python's generators."""
    windows = make_windows(Plan(kind="random", num_tokens=100, seq_len=3, batch_size=2))
    states = torch.get_rng_state(), global_numpy_state()
    list(tl.Loader(windows, num_workers=1))
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], global_numpy_state())
