"""Random order: disjoint windows, visited in a pseudo-random permutation."""

from typing import final

import numpy as np

from tokenloom.plan.order import (
    IntArray,
    PlanSettings,
    ShuffledOrder,
    draw_phase,
    draw_words,
)
from tokenloom.plan.permutation import permute


@final
class RandomOrder(ShuffledOrder):
    """Disjoint windows from the phase on, in the order of a permutation of the epoch.

    All windows are permuted, and the last few of the permutation, which fill no
    batch, are dropped: so what is dropped is random too.
    """

    kind = "random"
    carries_state = False
    golden_digest = "f0b7d291a821f0c26dafd01dbecbc9d6065dcf201b9eeed3771753cab79344c1"

    def starts_at(self, settings: PlanSettings, positions: IntArray) -> IntArray:
        """Return where windows start; see `ShuffledOrder.starts_at`."""
        num_windows = self.num_windows(settings)
        keys = draw_words(settings.seed, settings.epoch)[1:]
        # Positions past the last window are the padding of the last batch.
        windows = permute(np.minimum(positions, num_windows - 1), size=num_windows, keys=keys)
        starts = windows * settings.seq_len + draw_phase(settings)
        if settings.tail == "pad":
            starts[positions >= num_windows] = settings.num_tokens - 1
        return starts
