"""Sequential order: lanes of contiguous text, one for each row of a batch."""

from typing import final

import numpy as np

from tokenloom.plan.order import IntArray, Order, PlanSettings, count_batches, draw_phase


@final
class SequentialOrder(Order):
    """``batch_size`` lanes of contiguous text; row ``k + 1`` of a column continues row ``k``."""

    kind = "sequential"
    carries_state = True
    golden_digest = "47371566dad3b86edb6adc1dd1387b559613eaee9423addec0ceea694ef4d3db"

    def starts(self, settings: PlanSettings, rows: IntArray, columns: IntArray) -> IntArray:
        """Return where windows start; see `Order.starts`."""
        lane_start, lane_stop = _lanes(settings, columns)
        # Lanes that start at 3 and 13, rows 0 and 1 of 5 tokens: [[3, 13], [8, 18]].
        starts: IntArray = np.minimum(lane_start + rows * settings.seq_len, lane_stop)
        return starts

    def lengths(self, settings: PlanSettings, starts: IntArray, columns: IntArray) -> IntArray:
        """Return how many inputs of each window count; see `Order.lengths`."""
        lengths: IntArray = np.minimum(_lanes(settings, columns)[1] - starts, settings.seq_len)
        return lengths

    def num_windows(self, settings: PlanSettings) -> int:
        """Return how many windows with an input an epoch is made from; see `Order.num_windows`.

        With ``tail="pad"`` the last window of each lane may be shorter than the others.
        """
        if settings.tail == "drop":
            return super().num_windows(settings)
        lane_len, num_longer = divmod(settings.num_tokens - 1, settings.batch_size)
        # 11 inputs in 3 lanes of 4, 4 and 3, windows of 3 tokens: 2 + 2 + 1.
        num_windows = num_longer * -(-(lane_len + 1) // settings.seq_len)
        return num_windows + (settings.batch_size - num_longer) * -(-lane_len // settings.seq_len)


def _lanes(settings: PlanSettings, columns: IntArray) -> tuple[IntArray, IntArray]:
    """Return the half-open token ranges of lanes: starts and stops."""
    num_inputs = settings.num_tokens - 1
    if settings.tail == "pad":
        # Lanes differ by one token at most, so padding is the last row only:
        # 11 inputs in 3 lanes are [0, 4), [4, 8) and [8, 11).
        lane_len, num_longer = divmod(num_inputs, settings.batch_size)
        starts = columns * lane_len + np.minimum(columns, num_longer)
        return starts, starts + lane_len + (columns < num_longer)
    # The textbook's lanes: what the phase leaves, cut into equal parts.
    phase = draw_phase(settings)
    starts = phase + columns * ((num_inputs - phase) // settings.batch_size)
    return starts, starts + count_batches(settings) * settings.seq_len
