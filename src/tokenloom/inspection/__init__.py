"""Looking into the stream: batches as text, steps of a run, pictures, benchmarks."""

from tokenloom.inspection.batches import Division, read_batch
from tokenloom.inspection.steps import find_spikes, read_spikes, read_step

__all__ = ["Division", "find_spikes", "read_batch", "read_spikes", "read_step"]
