"""Loss masks: which tokens of a corpus are learnt, and which are only read."""

import numpy as np
import numpy.typing as npt

from tokenloom._wording import count, show
from tokenloom.errors import CorpusError
from tokenloom.store.memmap import Tokens, advise, check_reads
from tokenloom.text.ids import Ids, is_memory_map

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
        return check_reads(array, num_ids=2)
    wrong = array[(array != 0) & (array != 1)]
    if len(wrong):
        msg = f"{_EXPECTED}, got {show(wrong[0].item())} among the values"
        raise CorpusError(msg)
    return np.asarray(array).astype(np.uint8, copy=False)


def has_learnt(loss_mask: Tokens, *, start: int = 0) -> bool:
    """Return whether a token from ``start`` on is learnt; it is read up to the first."""
    chunks = range(start, len(loss_mask), _CHUNK)
    return any(bool(loss_mask[at : at + _CHUNK].any()) for at in chunks)


def count_learnt(loss_mask: Tokens) -> int:
    """Return how many tokens are learnt.

    >>> count_learnt(np.array([0, 1, 1], np.uint8))
    2
    """
    advise(loss_mask, is_random=False)
    chunks = range(0, len(loss_mask), _CHUNK)
    return sum(int(np.count_nonzero(loss_mask[at : at + _CHUNK])) for at in chunks)
