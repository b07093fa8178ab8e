"""Several batches at once."""

import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.plan.strategies import plans
from tokenloom.loading import blocks
from tokenloom.loading.blocks import (
    Block,
    BlockFacts,
    first_rows,
    plan_epochs,
    read_block,
    split_rows,
)
from tokenloom.loading.shard import Shard
from tokenloom.plan.division import rows_per_block
from tokenloom.plan.plan import Plan


def make_block(num_batches: int = 64, batch_size: int = 10) -> Block:
    """Return a block of batches of 35 tokens in each row, each with other ids."""
    shape = (num_batches, batch_size, 36)
    ids = np.arange(math.prod(shape), dtype=np.uint16).reshape(shape)
    plan = Plan(kind="random", num_tokens=100_000, seq_len=35, batch_size=batch_size)
    references = plan.references(range(5, 5 + num_batches), range(batch_size))
    return Block(ids=ids, facts=BlockFacts(references=references))


def test_a_batch_of_a_block_pickles_alone() -> None:
    """The other batches of the block do not travel along."""
    block = make_block()
    for batches in (block.narrow_batches(), block.batches(block.widen())):
        batch = list(batches)[2]
        assert len(pickle.dumps(batch)) < 2 * 10 * 36 + 500
        assert (0, 7) == (batch.epoch, batch.index)


def test_batches_are_views_of_the_blocks_tensors() -> None:
    """Splitting copies nothing, and each part is contiguous."""
    block = make_block()
    tensors = block.widen()
    storages = {
        (batch.inputs.untyped_storage().data_ptr(), batch.inputs.is_contiguous())
        for batch in block.batches(tensors)
    }
    assert {(tensors.inputs.untyped_storage().data_ptr(), True)} == storages


def test_batches_of_a_block_share_no_element() -> None:
    """Changing one batch in place leaves the others, and its own targets, alone."""
    block = make_block()
    batches = list(block.batches(block.widen()))
    expected = [(batch.inputs.clone(), batch.targets.clone()) for batch in batches]
    batches[3].inputs.zero_()
    for index, (batch, (inputs, targets)) in enumerate(zip(batches, expected, strict=True)):
        assert torch.equal(batch.targets, targets)
        assert torch.equal(batch.inputs, inputs) == (index != 3)


@given(plans())
def test_wide_and_narrow_batches_say_the_same(plan: Plan) -> None:
    """Widening a block at once gives what each of its batches gives alone."""
    tokens = np.arange(plan.num_tokens, dtype=np.uint16)
    columns, rows = range(plan.batch_size), range(plan.num_batches)
    block = read_block(tokens, plan.references(rows, columns))
    pairs = zip(block.wide_batches(), block.narrow_batches(), strict=True)
    for wide, narrow in pairs:
        assert (wide.epoch, wide.index) == (narrow.epoch, narrow.index)
        for name in ("inputs", "targets", "mask"):
            assert torch.equal(getattr(wide, name), getattr(narrow, name))


@pytest.mark.parametrize(
    ("batch_size", "seq_len", "expected"),
    [(1, 1023, 512), (2, 1023, 256), (4, 99_999, 1), (1, 600_000, 1)],
)
def test_a_block_has_one_batch_or_as_many_as_fit(
    batch_size: int, seq_len: int, expected: int
) -> None:
    """It holds at most 524,288 tokens; batches that are larger than that come one by one."""
    plan = Plan(kind="random", num_tokens=10**6, seq_len=seq_len, batch_size=batch_size)
    assert expected == rows_per_block(plan, range(batch_size))


@pytest.mark.parametrize(
    ("batch_size", "seq_len", "expected"), [(32, 35, 7), (8, 1024, 1), (16, 35, 14)]
)
def test_the_first_block_is_short(batch_size: int, seq_len: int, expected: int) -> None:
    """It holds about 8,192 tokens of this process's rows, and one batch at least."""
    plan = Plan(kind="random", num_tokens=100_000, seq_len=seq_len, batch_size=32)
    assert expected == first_rows(plan, range(batch_size))


@pytest.mark.parametrize(
    ("num_batches", "batch_size", "num_storages"), [(4, 228, 4), (64, 10, 2), (45, 10, 1)]
)
def test_wide_batches_are_made_several_at_once(
    num_batches: int, batch_size: int, num_storages: int
) -> None:
    """As many share memory as hold 16,384 tokens, or each has its own, and they say the same."""
    block = make_block(num_batches, batch_size)
    batches = list(block.wide_batches())
    assert num_storages == len({batch.inputs.untyped_storage().data_ptr() for batch in batches})
    for batch, narrow in zip(batches, block.narrow_batches(), strict=True):
        assert (batch.epoch, batch.index) == (narrow.epoch, narrow.index)
        assert torch.equal(batch.targets, narrow.targets)


def test_parts_of_rows_keep_the_step() -> None:
    """The rows of one worker are split as they are."""
    assert [range(1, 7, 3), range(7, 10, 3)] == list(split_rows(range(1, 9, 3), 2))


@given(st.integers(0, 300), st.integers(1, 100), st.integers(1, 4))
def test_parts_of_rows_are_short_at_first(num_rows: int, size: int, step: int) -> None:
    """The parts are the rows in order, and no part holds up the first batch."""
    rows = range(5, 5 + num_rows * step, step)
    parts = list(split_rows(rows, size, first=8))
    assert list(rows) == [row for part in parts for row in part]
    lengths = [len(part) for part in parts]
    assert all(length <= min(size, 8 << index) for index, length in enumerate(lengths))
    assert len(lengths) <= num_rows // size + 6


@pytest.mark.parametrize(
    ("kind", "seq_len", "expected"),
    [("random", 5, True), ("sequential", 5, False), ("random", 40_000, False)],
)
def test_only_short_random_windows_are_read_without_read_ahead(
    kind: str, seq_len: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long windows, and lanes of contiguous text, gain by what the system reads ahead."""
    advice = []
    monkeypatch.setattr(blocks, "advise", lambda _, *, is_random: advice.append(is_random))
    plan = Plan(kind=kind, num_tokens=100_000, seq_len=seq_len, batch_size=1)
    read_block(np.zeros(100_000, np.uint16), plan.references(range(1), range(1)))
    assert [expected] == advice


def test_a_range_of_epochs_without_end_goes_on() -> None:
    """None as stop_epoch has no last block."""
    plan = Plan(kind="random", num_tokens=25, seq_len=4, batch_size=2, epoch=2**40)
    parts = plan_epochs(plan, next_batch=1, stop_epoch=None, shard=Shard())
    read = [(part.plan.epoch, part.rows) for part in itertools.islice(parts, 2)]
    assert [(2**40, range(1, 2)), (2**40 + 1, range(2))] == read
