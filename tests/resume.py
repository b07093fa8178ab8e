"""The one harness for resuming: save at every step, restore into fresh objects."""

import json
from collections.abc import Callable
from typing import Any

import tokenloom as tl


def rows_of(batch: tl.Batch) -> tuple[Any, ...]:
    """Return everything that a batch says, to be compared."""
    return batch.epoch, batch.index, batch.inputs.tolist(), batch.targets.tolist()


def assert_resumes_everywhere(
    make_saved: Callable[[], tl.Loader], make_restored: Callable[[], tl.Loader] | None = None
) -> None:
    """Check that a loader resumes after each batch of its next epoch.

    Parameters
    ----------
    make_saved : callable
        Makes the loader whose position is saved; one epoch per iteration.
    make_restored : callable, optional
        Makes the loader that goes on, perhaps with other workers; the same by
        default. What it yields, in the rest of this epoch and in the next one,
        must be what the saved one yields.
    """
    saved = make_saved()
    expected, states = [], [saved.state_dict()]
    for batch in saved:
        expected.append(rows_of(batch))
        states.append(json.loads(json.dumps(saved.state_dict())))
    expected.extend(rows_of(batch) for batch in saved)
    for num_consumed, state in enumerate(states):
        restored = (make_restored or make_saved)()
        restored.load_state_dict(state)
        rest = [rows_of(batch) for batch in restored]
        if num_consumed < len(saved):
            rest.extend(rows_of(batch) for batch in restored)
        assert expected[num_consumed:] == rest
