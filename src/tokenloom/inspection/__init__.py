"""Looking into the stream: batches as text, steps of a run, pictures, benchmarks."""

from tokenloom.inspection.batches import read_batch
from tokenloom.inspection.steps import find_spikes, read_spikes, read_step
from tokenloom.plan.division import Division

__all__ = ["Division", "find_spikes", "read_batch", "read_spikes", "read_step"]
