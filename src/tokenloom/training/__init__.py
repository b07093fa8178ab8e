"""Training the reference model: the loop, what it keeps, and how it is resumed."""

from tokenloom.training.loop import Training, train
from tokenloom.training.metrics import EpochMetrics, StepLosses
from tokenloom.training.options import RunOptions, TrainingOptions
from tokenloom.training.reopen import reopen_training
from tokenloom.training.run import Run

__all__ = [
    "EpochMetrics",
    "Run",
    "RunOptions",
    "StepLosses",
    "Training",
    "TrainingOptions",
    "reopen_training",
    "train",
]
