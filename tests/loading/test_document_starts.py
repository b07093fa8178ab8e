"""Where documents start in batches."""

import numpy as np

from tokenloom.corpus.offsets import DocumentOffsets
from tokenloom.loading.document_starts import BlockResets, find_segments
from tokenloom.plan.plan import Plan

PLAN = Plan(kind="sequential", num_tokens=40, seq_len=4, batch_size=2, tail="pad")


class Counting(DocumentOffsets):
    """Offsets that count how often they are searched."""

    __slots__ = ("num_searches",)

    def starts_within(self, *arguments: object, **options: object) -> object:  # type: ignore[override]  # a spy
        """Count, then search."""
        self.num_searches = getattr(self, "num_searches", 0) + 1
        return super().starts_within(*arguments, **options)  # type: ignore[arg-type]  # handed on


def test_a_block_is_searched_once_and_when_it_is_asked() -> None:
    """Where no resets are asked for, none are computed."""
    documents = Counting(np.array([0, 10, 40]))
    resets = BlockResets(documents, PLAN.references(range(1, 4), range(2)))
    assert getattr(documents, "num_searches", 0) == 0
    assert [resets.of(row).tolist() for row in (1, 2, 3)] == [[], [2], []]
    assert documents.num_searches == 1


def test_a_row_is_one_piece_where_nothing_starts() -> None:
    """A window begins a piece, whatever stands before it."""
    segments = find_segments(np.zeros((2, 3), bool), None)
    assert ([0, 3, 6], [[0, 1, 2]] * 2) == (
        segments.bounds.tolist(),
        segments.position_ids.tolist(),
    )
