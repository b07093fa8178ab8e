"""The one harness for resuming, for a loader of a single rank."""

from collections.abc import Callable
from typing import Any

import tokenloom as tl
from tokenloom.testing import laws


def rows_of(batch: tl.Batch) -> tuple[Any, ...]:
    """Return everything that a batch says, to be compared."""
    return batch.epoch, batch.index, batch.inputs.tolist(), batch.targets.tolist()


def assert_resumes_everywhere(
    make_saved: Callable[[], tl.Loader], make_restored: Callable[[], tl.Loader] | None = None
) -> None:
    """Check that a loader resumes after each batch; see `tokenloom.testing.laws`."""
    restored = make_saved if make_restored is None else make_restored
    laws.assert_resumes_everywhere(lambda: [make_saved()], lambda: [restored()])
