"""What a packed plan must be: slow, obvious, in Python's own integers.

Nothing here is shared with the package.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from tokenloom.corpus.document_lengths import DocumentsByLength
from tokenloom.corpus.offsets import DocumentOffsets
from tokenloom.plan.order import Tail
from tokenloom.plan.packed import PackedOrder
from tokenloom.plan.plan import Plan


def cut(num_pairs: int, seq_len: int) -> list[int]:
    """Return the lengths of the pieces of a document: whole windows, and a rest."""
    pieces = []
    while num_pairs > 0:
        pieces.append(min(num_pairs, seq_len))
        num_pairs -= pieces[-1]
    return pieces


def count_best_fit_bins(pieces: Iterable[int], capacity: int) -> int:
    """Return how many bins best-fit decreasing fills, one piece after the other."""
    rooms: list[int] = []
    for piece in sorted(pieces, reverse=True):
        fitting = [room for room in rooms if room >= piece]
        if fitting:
            rooms.remove(min(fitting))
            rooms.append(min(fitting) - piece)
        else:
            rooms.append(capacity - piece)
    return len(rooms)


def count_first_fit_bins(pieces: Iterable[int], capacity: int) -> int:
    """Return how many bins first-fit fills, in the order of the pieces."""
    rooms: list[int] = []
    for piece in pieces:
        at = next((at for at, room in enumerate(rooms) if room >= piece), None)
        if at is None:
            rooms.append(capacity - piece)
        else:
            rooms[at] -= piece
    return len(rooms)


def offsets_of(lengths: Sequence[int]) -> list[int]:
    """Return where documents of these lengths start, and the end."""
    offsets = [0]
    for length in lengths:
        offsets.append(offsets[-1] + length)
    return offsets


def pairs_of(lengths: Sequence[int]) -> list[int]:
    """Return the inputs of all pairs of a token and its successor in its document."""
    offsets = offsets_of(lengths)
    return [
        token
        for start, length in zip(offsets, lengths, strict=False)
        for token in range(start, start + length - 1)
    ]


def packed_plan(
    lengths: Sequence[int],
    *,
    seq_len: int,
    batch_size: int = 1,
    seed: int = 0,
    epoch: int = 0,
    tail: Tail = "pad",
) -> Plan:
    """Return the packed plan of documents of these lengths."""
    offsets = np.array(offsets_of(lengths))
    order = PackedOrder(DocumentsByLength.of(DocumentOffsets(offsets)))
    return Plan.of(
        order,
        num_tokens=int(offsets[-1]),
        seq_len=seq_len,
        batch_size=batch_size,
        seed=seed,
        epoch=epoch,
        tail=tail,
    )


def read_rows(plan: Plan) -> list[list[tuple[int, int]]]:
    """Return the pieces of each row of an epoch: where each starts, and its length."""
    pieces = plan.references(range(plan.num_batches), range(plan.batch_size)).pieces
    assert pieces is not None
    left = iter(zip(pieces.starts.tolist(), pieces.lengths.tolist(), strict=True))
    return [[next(left) for _ in range(number)] for number in pieces.counts.ravel().tolist()]


def inputs_of(rows: Iterable[Iterable[tuple[int, int]]]) -> list[int]:
    """Return all tokens that are an input, ascending, as often as they are one."""
    return sorted(
        token for row in rows for start, length in row for token in range(start, start + length)
    )


def find_crossing(
    rows: Iterable[Iterable[tuple[int, int]]], lengths: Sequence[int]
) -> list[tuple[int, int]]:
    """Return the pieces whose inputs and targets are not all of one document."""
    document = [number for number, length in enumerate(lengths) for _ in range(length)]
    return [
        (start, length)
        for row in rows
        for start, length in row
        if len(set(document[start : start + length + 1])) != 1 or start + length + 1 > len(document)
    ]


def lengths_by_row(rows: Iterable[Iterable[tuple[int, int]]]) -> Counter[tuple[int, ...]]:
    """Return which lengths lie side by side, and how often."""
    return Counter(tuple(sorted(length for _, length in row)) for row in rows)
