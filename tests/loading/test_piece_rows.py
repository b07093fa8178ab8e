"""Rows of pieces: placed, cut apart and made narrow again."""

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.errors import UsageError
from tokenloom.loading.batch import IGNORED_TARGET, Batch, Tensors, widen
from tokenloom.loading.piece_rows import PieceLayout, PieceRows

SEQ_LEN = 6
# Two batches of two rows, as the lengths of pieces in each row.
BATCHES = st.lists(
    st.lists(
        st.lists(st.integers(1, SEQ_LEN), max_size=4).filter(lambda row: sum(row) <= SEQ_LEN),
        min_size=2,
        max_size=2,
    ),
    min_size=1,
    max_size=3,
)


def _make(batches: list[list[list[int]]]) -> PieceRows:
    lengths = [length for batch in batches for row in batch for length in row]
    layout = PieceLayout.of(
        counts=np.array([[len(row) for row in batch] for batch in batches]),
        lengths=np.array(lengths, np.int64),
        seq_len=SEQ_LEN,
    )
    ids = np.arange(1, 1 + sum(lengths) + len(lengths), dtype=np.uint16)
    ends = np.cumsum(layout.lengths + 1) - 1
    return PieceRows(layout=layout, inputs=np.delete(ids, ends), after=ids[ends])


def _widen(rows: PieceRows) -> Tensors:
    return widen(rows, None)


def _place_slowly(batches: list[list[list[int]]]) -> tuple[list[int], list[int], list[int]]:
    """Return inputs, targets and where pieces begin, flat."""
    inputs: list[int] = []
    targets: list[int] = []
    begins: list[int] = []
    next_id = 1
    for row in (row for batch in batches for row in batch):
        for length in row:
            inputs += range(next_id, next_id + length)
            targets += range(next_id + 1, next_id + length + 1)
            begins += [1] + [0] * (length - 1)
            next_id += length + 1
        padding = SEQ_LEN - sum(row)
        inputs += [0] * padding
        targets += [IGNORED_TARGET] * padding
        begins += [0] * padding
    return inputs, targets, begins


@given(batches=BATCHES)
def test_pieces_lie_side_by_side_and_the_rest_is_padding(batches: list[list[list[int]]]) -> None:
    """Inputs, targets, mask and fills are those of the slow way."""
    rows = _make(batches)
    inputs, targets, _ = _place_slowly(batches)
    tensors = _widen(rows)
    assert inputs == tensors.inputs.flatten().tolist()
    assert targets == tensors.targets.flatten().tolist()
    assert (len(batches), 2, SEQ_LEN) == tuple(tensors.inputs.shape)
    if tensors.mask is not None:
        assert [token != IGNORED_TARGET for token in targets] == tensors.mask.flatten().tolist()
    assert [[sum(row) for row in batch] for batch in batches] == rows.layout.fills.tolist()


@given(batches=BATCHES)
def test_parts_are_those_of_the_whole(batches: list[list[list[int]]]) -> None:
    """A batch, or several, of a block have the rows that the block has."""
    rows = _make(batches)
    whole = _widen(rows).inputs
    for at, part in enumerate(rows.unbind()):
        assert whole[at].tolist() == _widen(part).inputs.tolist()
        both = rows.slice(at, at + 2)
        assert whole[at : at + 2].tolist() == _widen(both).inputs.tolist()


@given(batches=BATCHES)
def test_ids_come_back_from_rows(batches: list[list[list[int]]]) -> None:
    """What only tensors hold can be sent as narrow ids again."""
    rows = _make(batches)
    tensors = _widen(rows)
    inputs, after = rows.layout.collect_ids(tensors.inputs.numpy(), tensors.targets.numpy())
    assert rows.inputs.tolist() == inputs.tolist()
    assert rows.after.tolist() == after.tolist()


def _batch(batches: list[list[list[int]]]) -> Batch:
    rows = _make(batches).unbind()[0]
    return Batch(None, epoch=3, index=5, lengths=rows.layout.fills, pieces=rows)


def _send(batch: Batch) -> Batch:
    sent: Batch = pickle.loads(pickle.dumps(batch))  # noqa: S301  its own
    return sent


def _only_tensors(batch: Batch) -> Batch:
    layout = batch._layout
    assert layout is not None
    tensors = Tensors(batch.inputs, batch.targets, batch.mask)
    return Batch(None, epoch=3, index=5, lengths=layout.fills, pieces=layout, tensors=tensors)


@pytest.mark.parametrize(
    "change",
    [lambda batch: batch, _send, copy.deepcopy, _only_tensors, lambda b: _send(_only_tensors(b))],
    ids=["itself", "sent", "copied", "tensors", "tensors, sent"],
)
def test_a_batch_knows_its_pieces(change: Callable[[Batch], Batch]) -> None:
    """What attention over documents needs follows from the pieces, wherever the batch was."""
    batch = change(_batch([[[2, 3], [4]]]))
    assert [[1, 2, 4, 5, 6, 0], [8, 9, 10, 11, 0, 0]] == batch.inputs.tolist()
    assert [[2, 3, 5, 6, 7, -100], [9, 10, 11, 12, -100, -100]] == batch.targets.tolist()
    assert [[1, 0, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]] == batch.resets.int().tolist()
    assert [[0, 0, 1, 1, 1, -1], [0, 0, 0, 0, -1, -1]] == batch.document_ids.tolist()
    assert [[0, 1, 0, 1, 2, 0], [0, 1, 2, 3, 0, 1]] == batch.position_ids.tolist()
    assert [0, 2, 5, 6, 10, 12] == batch.cu_seqlens.tolist()
    assert (4, 9, 3, 5) == (batch.max_seqlen, batch.num_targets, batch.epoch, batch.index)
    assert 9 == int(batch.mask.sum())
    assert batch.has_resets


def test_a_batch_is_sent_as_narrow_ids() -> None:
    """Neither its tensors nor int64 ids travel."""
    batch = _batch([[[2, 3], [4]]])
    batch.inputs  # noqa: B018  they are made now
    make, arguments = batch.__reduce__()
    (inputs, after), counts, lengths, *_ = arguments
    dtypes = [each.dtype for each in (inputs, after, counts, lengths)]
    assert [np.uint16, np.uint16, np.int64, np.uint8] == dtypes
    assert batch.targets.tolist() == make(*arguments).targets.tolist()


def test_an_empty_row_is_all_padding() -> None:
    """The last batch may have some."""
    batch = _batch([[[6], []]])
    assert [[0] * 6, [-1] * 6] == batch.document_ids.tolist()
    assert [0, 6, 12] == batch.cu_seqlens.tolist()
    assert [False] * 6 == batch.mask[1].tolist()


def test_packed_rows_are_no_arguments_themselves() -> None:
    """With its cache a model of Hugging Face would read across documents, silently."""
    batch = _batch([[[2, 3], [4]]])
    with pytest.raises(UsageError, match=r"is_shifted=False\), use_cache=False\)"):
        dict(**batch)
    with pytest.raises(UsageError, match="use_cache=False"):
        batch["input_ids"]
    with pytest.raises(UsageError, match="use_cache=False"):
        batch.get("labels")


@pytest.mark.parametrize("is_shifted", [True, False])
def test_labels_of_a_shifting_model_are_the_same_targets(is_shifted: bool) -> None:
    """Whichever side shifts, each input predicts the token after it in its document."""
    batch = _batch([[[2, 3], [4]]])
    arguments = batch.as_dict(is_shifted=is_shifted, across_documents=False)
    labels = arguments["labels"] if is_shifted else arguments["labels"][:, 1:]
    assert batch.targets.tolist() == labels.tolist()
    length = SEQ_LEN + (not is_shifted)
    assert {(2, length)} == {tuple(each.shape) for each in arguments.values()}
    assert batch.inputs.tolist() == arguments["input_ids"][:, :SEQ_LEN].tolist()
    positions = arguments["position_ids"]
    assert batch.position_ids.tolist() == positions[:, :SEQ_LEN].tolist()
    # What a model of transformers takes for the start of a document: a column of its own too.
    assert torch.all(positions[:, SEQ_LEN:] == 0)
