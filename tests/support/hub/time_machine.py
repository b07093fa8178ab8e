"""The real Time Machine text, where it lies beside the project."""

from pathlib import Path

import pytest

TIME_MACHINE = Path(__file__).resolve().parents[4] / "shared" / "data" / "timemachine.txt"

needs_time_machine = pytest.mark.skipif(
    not TIME_MACHINE.is_file(),
    reason="the real text is not at ../shared/data/timemachine.txt",
)
