"""Looking into the stream: batches as text, steps of a run, pictures, benchmarks."""

from tokenloom.inspection.batches import describe_batch, describe_division
from tokenloom.inspection.steps import describe_spikes, describe_step

__all__ = ["describe_batch", "describe_division", "describe_spikes", "describe_step"]
