"""Ways to lay documents into rows of equal length, compared by what they waste and cut."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tokenloom.plan.best_fit import pack
from tokenloom.text.ids import Ids

# Of more documents only the first ones are compared: first-fit looks at all open rows for each.
_MAX_DOCUMENTS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """How much a way to lay documents into rows wastes and cuts.

    Attributes
    ----------
    name : str
    fill : float
        The share of positions of all rows that hold an input.
    cut : float
        The share of the documents that are cut, though they would fit into a row.
    """

    name: str
    fill: float
    cut: float


def compare_packings(lengths: Ids, *, seq_len: int) -> list[Packing]:
    """Return how much four ways to lay documents into rows waste and cut, tokenloom's last.

    Parameters
    ----------
    lengths : integer array, shape (num_documents,)
        Lengths of documents in tokens; only the first 20,000 count.
    seq_len : int
        Inputs of a row.

    >>> [packing.fill for packing in compare_packings(np.array([4, 5, 3, 2]), seq_len=4)]
    [0.625, 1.0, 0.8333333333333334, 0.8333333333333334]
    """
    pairs = np.maximum(lengths[:_MAX_DOCUMENTS].astype(np.int64) - 1, 0)
    whole, rests = int((pairs // seq_len).sum()), pairs % seq_len
    pieces: list[int] = rests[rests > 0].tolist()
    num_pairs = int(pairs.sum())

    num_rows = {
        "one document per row": len(pieces),
        "first-fit": _count_first_fit(pieces, seq_len),
        "best-fit decreasing": pack(Counter(pieces), capacity=seq_len).num_bins,
    }
    uncut = [
        Packing(name=name, fill=num_pairs / max(1, (whole + number) * seq_len), cut=0.0)
        for name, number in num_rows.items()
    ]
    joined = Packing(name="joined, then cut", fill=1.0, cut=_share_cut(pairs, seq_len))
    return [uncut[0], joined, *uncut[1:]]


def _share_cut(pairs: npt.NDArray[np.int64], seq_len: int) -> float:
    """Return the share of documents that lie in two rows, though they would fit into one."""
    pairs = pairs[pairs > 0]
    stops = np.cumsum(pairs, dtype=np.int64)
    is_cut = ((stops - pairs) // seq_len != (stops - 1) // seq_len) & (pairs <= seq_len)
    return float(is_cut.mean()) if len(pairs) else 0.0


def _count_first_fit(pieces: Iterable[int], seq_len: int) -> int:
    rooms = np.zeros(0, np.int64)
    num_open = 0
    for piece in pieces:
        fitting = rooms[:num_open] >= piece
        at = int(fitting.argmax()) if num_open else 0
        if num_open and fitting[at]:
            rooms[at] -= piece
            continue
        if num_open == len(rooms):
            rooms = np.append(rooms, np.zeros(max(64, num_open), np.int64))
        rooms[num_open] = seq_len - piece
        num_open += 1
    return num_open
