"""Loss masks: which tokens of a corpus are learnt, and which are only read."""

import numpy as np
import numpy.typing as npt

from tokenloom._wording import count, show
from tokenloom.errors import CorpusError
from tokenloom.store.memmap import check_reads
from tokenloom.text.ids import Ids, is_memory_map

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
