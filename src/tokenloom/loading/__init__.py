"""Windows, batches and the Loader: a corpus in some order, as PyTorch takes it."""

from tokenloom.loading.batch import Batch
from tokenloom.loading.dataset import (
    PackedWindows,
    RandomWindows,
    SequentialWindows,
    Windows,
)
from tokenloom.loading.loader import Loader
from tokenloom.loading.read_ahead import WorkerOptions
from tokenloom.loading.shard import Shard

__all__ = [
    "Batch",
    "Loader",
    "PackedWindows",
    "RandomWindows",
    "SequentialWindows",
    "Shard",
    "Windows",
    "WorkerOptions",
]
