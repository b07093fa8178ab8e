"""What a batch is."""

import copy
import pickle
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate, default_convert

import tokenloom as tl
from tokenloom.errors import ArgumentError, UsageError
from tokenloom.loading.batch import Tensors, widen

WINDOWS = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint16)


def make_batch() -> tl.Batch:
    """Return a batch of two rows, of which the second counts for one input."""
    return tl.Batch(WINDOWS, epoch=3, index=7, lengths=np.array([2, 1]))


def test_it_unpacks_as_inputs_and_targets() -> None:
    """Targets are the inputs moved on by one."""
    inputs, targets = tl.Batch(WINDOWS, epoch=0, index=0)
    assert ([[1, 2], [4, 5]], [[2, 3], [5, 6]]) == (inputs.tolist(), targets.tolist())


def test_it_can_be_indexed_like_a_pair() -> None:
    """batch[0] are the inputs, batch[1] and batch[-1] the targets; len is 2."""
    batch = make_batch()
    assert batch[0] is batch.inputs
    assert batch[1] is batch.targets
    assert batch[-1] is batch.targets
    assert len(batch) == 2


def test_indexing_past_the_end_is_an_index_error() -> None:
    """There are two items."""
    with pytest.raises(IndexError):
        make_batch()[2]


def test_tensors_are_int64_and_contiguous() -> None:
    """Losses take the targets as they are, also after view(-1)."""
    inputs, targets = make_batch()
    assert {(torch.int64, True)} == {(t.dtype, t.is_contiguous()) for t in (inputs, targets)}


def test_inputs_and_targets_share_no_memory() -> None:
    """Changing the inputs in place leaves the targets and the windows alone."""
    batch = tl.Batch(WINDOWS.copy(), epoch=0, index=0)
    batch.inputs.zero_()
    assert [[2, 3], [5, 6]] == batch.targets.tolist()


def test_padding_is_masked_and_ignored() -> None:
    """Where a row is shorter, inputs are 0, targets -100 and the mask is False."""
    batch = make_batch()
    expected = [[1, 2], [4, 0]], [[2, 3], [5, -100]], [[True, True], [True, False]]
    assert expected == (batch.inputs.tolist(), batch.targets.tolist(), batch.mask.tolist())


def test_the_mask_of_a_full_batch_is_all_true() -> None:
    """Without padding everything counts."""
    batch = tl.Batch(WINDOWS, epoch=0, index=0)
    assert ([[True] * 2] * 2, 4) == (batch.mask.tolist(), batch.num_targets)


def test_padding_is_no_target() -> None:
    """num_targets leaves the padding out."""
    assert make_batch().num_targets == 3


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<u4", "<i8", "<u8"])
@pytest.mark.parametrize("lengths", [None, [4, 2]])
def test_what_is_not_learnt_is_ignored(dtype: str, lengths: list[int] | None) -> None:
    """Target by target, with ids of any width up to the largest."""
    most = min(np.iinfo(dtype).max, 2**63 - 1)
    ids = np.array([[1, 0, most, most - 1, 99], [most, 2, 100, 101, 1]], dtype)
    mask = np.array([[True, False, True, False], [False, True, False, False]])
    made = widen(ids, None if lengths is None else np.array(lengths), mask)
    targets = [
        [int(id_) if is_learnt else -100 for id_, is_learnt in zip(row[1:], its, strict=True)]
        for row, its in zip(ids, mask, strict=True)
    ]
    inputs = [
        [int(id_) if column < length else 0 for column, id_ in enumerate(row[:-1])]
        for row, length in zip(ids, lengths or [4, 4], strict=True)
    ]
    assert (inputs, targets) == (made.inputs.tolist(), made.targets.tolist())
    assert made.mask is not None
    assert mask.tolist() == made.mask.tolist()
    assert {torch.int64} == {made.inputs.dtype, made.targets.dtype}


def test_a_pickle_is_small_and_whole() -> None:
    """A batch of 1,000 x 36 ids travels as its uint16 array, also after widening."""
    batch = tl.Batch(np.ones((1000, 36), np.uint16), epoch=3, index=7)
    _ = batch.inputs, batch.targets
    sent = pickle.dumps(batch)
    received = pickle.loads(sent)  # noqa: S301  our own bytes
    assert len(sent) < 2 * 1000 * 36 + 500
    assert (3, 7, batch.inputs.tolist()) == (
        received.epoch,
        received.index,
        received.inputs.tolist(),
    )


def test_a_pickle_keeps_the_padding() -> None:
    """Lengths travel with the windows."""
    received = pickle.loads(pickle.dumps(make_batch()))  # noqa: S301  our own bytes
    assert make_batch().targets.tolist() == received.targets.tolist()


def test_a_batch_of_tensors_only_pickles_as_a_narrow_array() -> None:
    """A batch that was gathered on a device has no windows, and travels like any other."""
    ids = torch.arange(1000 * 36).reshape(1000, 36) % 300
    batch = tl.Batch(None, epoch=3, index=7, tensors=Tensors(ids[:, :-1], ids[:, 1:]))
    sent = pickle.dumps(batch)
    received = pickle.loads(sent)  # noqa: S301  our own bytes
    assert len(sent) < 2 * 1000 * 36 + 500
    assert (batch.inputs.tolist(), batch.targets.tolist()) == tuple(t.tolist() for t in received)


def test_a_batch_without_ids_is_refused() -> None:
    """At once, rather than where its inputs are asked for."""
    with pytest.raises(ArgumentError, match="must have ids, got none: pass windows"):
        tl.Batch(None, epoch=0, index=0)


def test_a_padded_batch_of_tensors_only_keeps_every_target() -> None:
    """The last target of a short row is no input, and travels all the same."""
    wide = make_batch()
    batch = tl.Batch(
        None,
        epoch=3,
        index=7,
        lengths=np.array([2, 1]),
        tensors=Tensors(wide.inputs, wide.targets, wide.mask),
    )
    received = pickle.loads(pickle.dumps(batch))  # noqa: S301  our own bytes
    for name in ("inputs", "targets", "mask"):
        assert torch.equal(getattr(wide, name), getattr(received, name))


def test_default_convert_leaves_it_alone() -> None:
    """A DataLoader with batch_size=None hands on the very same object."""
    batch = make_batch()
    assert batch is default_convert(batch)  # type: ignore[no-untyped-call]  # PyTorch's


def test_collating_names_the_cure() -> None:
    """Forgetting batch_size=None raises our own error."""
    with pytest.raises(UsageError, match=r"use DataLoader\(windows, batch_size=None"):
        default_collate([make_batch()])


def test_it_moves_to_a_device() -> None:
    """to() moves inputs, targets and mask, and keeps what is known of the batch."""
    moved = make_batch().to("meta")
    devices = {tensor.device.type for tensor in (*moved, moved.mask)}
    assert ({"meta"}, 3, 7) == (devices, moved.epoch, moved.index)


def test_moving_leaves_the_original() -> None:
    """to() returns another batch."""
    batch = make_batch()
    batch.to("meta")
    assert batch.inputs.device.type == "cpu"


def test_a_copy_is_equal() -> None:
    """copy.deepcopy works and keeps everything."""
    assert make_batch().targets.tolist() == copy.deepcopy(make_batch()).targets.tolist()


def test_it_says_what_it_is() -> None:
    """repr() has size and position."""
    assert repr(make_batch()) == "Batch(2 x 2, epoch=3, index=7)"
    shown = make_batch()._repr_html_()
    assert " ".join(map(str, make_batch().inputs[1].tolist())) in shown


def test_a_pickle_of_resets_is_small() -> None:
    """Only the positions travel, in the smallest type that holds them."""
    windows = np.ones((1000, 36), np.uint16)
    sizes = [
        len(pickle.dumps(tl.Batch(windows, epoch=3, index=7, resets=resets)))
        for resets in (None, np.arange(0, 36_000, 360))
    ]
    assert sizes[1] - sizes[0] < 2 * 100 + 200


def test_resets_follow_the_batch_to_a_device() -> None:
    """All that is known of documents lies where the inputs do."""
    batch = tl.Batch(WINDOWS, epoch=3, index=7, resets=np.array([1, 3])).to("meta")
    names = ("resets", "document_ids", "position_ids", "cu_seqlens")
    assert {"meta"} == {getattr(batch, name).device.type for name in names}
    assert [[False, True], [True, False]] == batch.resets_on("cpu").tolist()


def test_bounds_are_what_attention_kernels_take() -> None:
    """Offsets in int32, from 0 to the number of inputs."""
    batch = tl.Batch(WINDOWS, epoch=3, index=7, resets=np.array([1, 3]))
    assert (torch.int32, [0, 1, 2, 4], 2) == (
        batch.cu_seqlens.dtype,
        batch.cu_seqlens.tolist(),
        batch.max_seqlen,
    )


def test_a_dict_has_the_names_of_transformers() -> None:
    """Labels are -100 where there is nothing to learn."""
    named = make_batch().as_dict()
    assert {"input_ids": [[1, 2], [4, 0]], "labels": [[2, 3], [5, -100]]} == {
        name: tensor.tolist() for name, tensor in named.items()
    }


def test_models_that_shift_get_the_whole_windows() -> None:
    """They learn labels[:, 1:] from input_ids[:, :-1], which are the targets and inputs."""
    named = make_batch().as_dict(is_shifted=False)
    assert {"input_ids": [[1, 2, 3], [4, 5, 0]], "labels": [[-100, 2, 3], [-100, 5, -100]]} == {
        name: tensor.tolist() for name, tensor in named.items()
    }


def test_a_batch_is_the_arguments_of_a_model_that_shifts() -> None:
    """And unpacks as inputs and targets all the same."""
    batch = make_batch()
    named = batch.as_dict(is_shifted=False)
    assert ["input_ids", "labels"] == list(dict(**batch))
    assert all(named[name].equal(tensor) for name, tensor in dict(**batch).items())
    assert batch["labels"].equal(named["labels"])
    inputs, targets = batch
    assert batch[0].equal(inputs)
    assert batch[-1].equal(targets)
    assert (True, False) == ("labels" in batch, "mask" in batch)
    assert batch.get("labels") is not None
    assert (None, 3) == (batch.get("mask"), batch.get("mask", 3))
    assert (True, False) == (inputs in batch, torch.zeros(1) in batch)
    with pytest.raises(KeyError, match=r"^the key must be .* 'input_ids' and 'labels', got 'mask'"):
        batch["mask"]


def test_the_first_token_of_a_document_need_not_be_learned() -> None:
    """Also where it is the target of the last input of a row."""
    batch = tl.Batch(WINDOWS, epoch=3, index=7, resets=np.array([2, 4]))
    labels = batch.as_dict(across_documents=False)["labels"]
    assert [[2, -100], [-100, 6]] == labels.tolist()


@pytest.mark.parametrize("lengths", [None, [4, 2]])
def test_targets_of_other_documents_can_be_left_out(lengths: list[int] | None) -> None:
    """They are in no loss, in no mask and in no count; also where the batch was sent."""
    windows = np.array([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]], np.uint8)
    batch = tl.Batch(
        windows,
        epoch=0,
        index=0,
        lengths=None if lengths is None else np.array(lengths),
        resets=np.array([0, 2, 4, 6]),
    )
    within = batch.within_documents()
    expected = [[2, -100, 4, -100], [-100, 8, 9, 10]]
    if lengths is not None:
        expected[1][2:] = [-100, -100]
    for each in (within, pickle.loads(pickle.dumps(within)), within.to("cpu")):  # noqa: S301  its own
        assert expected == each.targets.tolist()
        assert [[token >= 0 for token in row] for row in expected] == each.mask.tolist()
        assert int(each.mask.sum()) == each.num_targets
        assert batch.inputs.tolist() == each.inputs.tolist()
    tensors = Tensors(within.inputs, within.targets, within.mask)
    only = tl.Batch(None, epoch=0, index=0, tensors=tensors)
    assert batch.targets.shape == pickle.loads(pickle.dumps(only)).targets.shape  # noqa: S301  its own


# In a process of its own: one that has freed a large array before keeps memory anyway.
_COUNT_NEW_PAGES = """
import resource
import numpy as np, torch
import tokenloom as tl

corpus = tl.Corpus.from_tokens(np.zeros(1 << 20, np.uint16), vocab_size=9)
batches = iter(tl.Loader(tl.RandomWindows(corpus, batch_size=64, seq_len=2048), num_epochs=None))
for number in range(60):
    if number == 20:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    inputs, targets = next(batches)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 40)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries differ")
def test_large_batches_are_written_to_memory_that_is_kept() -> None:
    """The tensors of a batch have 512 pages, which are not new to the process each time."""
    command = [sys.executable, "-c", _COUNT_NEW_PAGES]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 50
