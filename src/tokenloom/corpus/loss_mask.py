"""Loss masks: which tokens of a corpus are learnt, and which are only read."""

import numpy as np
import numpy.typing as npt

from tokenloom._wording import count, show
from tokenloom.corpus.offsets import DocumentOffsets
from tokenloom.errors import CorpusError
from tokenloom.store.memmap import Tokens, advise, check_reads
from tokenloom.text.ids import MASK_LIMIT, Ids, is_memory_map

# Values that are looked at in one go.
_CHUNK = 1 << 22
_EXPECTED = "loss_mask must be a one-dimensional array of bool, or of the integers 0 and 1"


def as_loss_mask(values: npt.ArrayLike, *, num_tokens: int) -> Ids:
    """Return a loss mask as a uint8 array, without a copy where it has that width.

    Parameters
    ----------
    values : array_like of bool or int, shape (num_tokens,)
        A memory map of bool or uint8 is not searched for other values than 0 and 1:
        whatever batches read of it is checked then, and raises a `StoreError`.
    num_tokens : int

    Raises
    ------
    CorpusError
        The values are something else.

    >>> as_loss_mask([False, True], num_tokens=2)
    array([0, 1], dtype=uint8)
    """
    try:
        array = np.asanyarray(values)
    except ValueError as error:
        msg = f"{_EXPECTED}: {error}"
        raise CorpusError(msg) from error
    if array.ndim != 1 or array.dtype.kind not in "biu":
        msg = f"{_EXPECTED}, got {array.dtype} of shape {array.shape}"
        raise CorpusError(msg)
    if len(array) != num_tokens:
        msg = (
            f"loss_mask must have a value for each of the {count(num_tokens, 'token')}, got "
            f"{len(array):,}"
        )
        raise CorpusError(msg)
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
    if is_memory_map(array) and array.dtype == np.uint8:
        return check_reads(array, num_ids=MASK_LIMIT)
    wrong = array[(array != 0) & (array != 1)]
    if len(wrong):
        msg = f"{_EXPECTED}, got {show(wrong[0].item())} among the values"
        raise CorpusError(msg)
    return np.asarray(array).astype(np.uint8, copy=False)


def has_learnt(loss_mask: Tokens, *, documents: DocumentOffsets | None = None) -> bool:
    """Return whether a token but the first is learnt; the mask is read up to there.

    Parameters
    ----------
    loss_mask : uint8 array, shape (num_tokens,)
    documents : DocumentOffsets, optional
        Where the first token of each document does not count either.

    >>> mask = np.array([1, 0, 1, 0], np.uint8)
    >>> has_learnt(mask), has_learnt(mask, documents=DocumentOffsets(np.array([0, 2, 4])))
    (True, False)
    """
    for start in range(1, len(loss_mask), _CHUNK):
        learnt = np.array(loss_mask[start : start + _CHUNK])
        if documents is not None and learnt.any():
            bounds = np.array([start, start + len(learnt)], np.int64)
            first, stop = documents.search(bounds, side="left").tolist()
            learnt[documents.take(np.arange(first, stop, dtype=np.int64)) - start] = 0
        if learnt.any():
            return True
    return False


def count_learnt(loss_mask: Tokens) -> int:
    """Return how many tokens are learnt.

    >>> count_learnt(np.array([0, 1, 1], np.uint8))
    2
    """
    advise(loss_mask, is_random=False)
    chunks = range(0, len(loss_mask), _CHUNK)
    return sum(int(np.count_nonzero(loss_mask[at : at + _CHUNK])) for at in chunks)
