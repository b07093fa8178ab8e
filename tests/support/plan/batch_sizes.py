"""Batches of sizes that change: slow, obvious, batch by batch, in Python's own integers."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

Steps = Sequence[tuple[int, int]]


def cut_slowly(
    steps: Steps, *, num_windows: int, epoch: int, first: int = 0, is_padded: bool = False
) -> list[range]:
    """Return the places of the windows of each batch of an epoch, padding included."""
    batches, place = [], first
    while place < num_windows:
        size = 0
        for window, new_size in steps:
            if window <= epoch * num_windows + place:
                size = new_size
        if place + size > num_windows and not is_padded:
            break
        batches.append(range(place, place + size))
        place += size
    return batches


@st.composite
def all_steps(draw: st.DrawFn, *, sizes: Sequence[int] = (1, 2, 3, 4, 6, 8, 12)) -> Any:
    """Sizes that change up to four times, within some hundred windows."""
    windows = sorted({0, *draw(st.lists(st.integers(1, 150), max_size=4))})
    return [(window, draw(st.sampled_from(sizes))) for window in windows]
