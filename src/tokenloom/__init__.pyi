# The types of the names that __init__.py imports lazily.
from tokenloom.corpus.corpus import Corpus
from tokenloom.corpus.formats import open_foreign, write_megatron, write_nanogpt
from tokenloom.errors import (
    ArchiveError,
    ArgumentError,
    ChecksumError,
    CorpusError,
    DownloadError,
    LawError,
    RunError,
    StateMismatchError,
    StoreError,
    TokenloomError,
    UsageError,
    WorkerError,
)
from tokenloom.hub.catalogue import Archive, BuiltIn, Entry, RemoteFile, register
from tokenloom.hub.load import load, read_documents
from tokenloom.loading.batch import Batch
from tokenloom.loading.dataset import RandomWindows, SequentialWindows
from tokenloom.loading.loader import Loader
from tokenloom.loading.read_ahead import WorkerOptions
from tokenloom.loading.shard import Shard
from tokenloom.model.evaluation import Evaluation, evaluate
from tokenloom.model.generation import GeneratedToken, generate, stream
from tokenloom.model.rnn import RNNModel
from tokenloom.plan.order import Plan
from tokenloom.preparation.finished import Prepared
from tokenloom.preparation.options import PrepareOptions
from tokenloom.preparation.prepare import prepare
from tokenloom.preparation.trace import Trace, trace
from tokenloom.text.documents import Document
from tokenloom.text.tokenizers import Tokenizer
from tokenloom.text.vocab import Vocab
from tokenloom.training.loop import train
from tokenloom.training.metrics import EpochMetrics, StepLosses
from tokenloom.training.options import RunOptions, TrainingOptions
from tokenloom.training.run import Run

__version__: str

__all__ = [
    "Archive",
    "ArchiveError",
    "ArgumentError",
    "Batch",
    "BuiltIn",
    "ChecksumError",
    "Corpus",
    "CorpusError",
    "Document",
    "DownloadError",
    "Entry",
    "EpochMetrics",
    "Evaluation",
    "GeneratedToken",
    "LawError",
    "Loader",
    "Plan",
    "PrepareOptions",
    "Prepared",
    "RNNModel",
    "RandomWindows",
    "RemoteFile",
    "Run",
    "RunError",
    "RunOptions",
    "SequentialWindows",
    "Shard",
    "StateMismatchError",
    "StepLosses",
    "StoreError",
    "Tokenizer",
    "TokenloomError",
    "Trace",
    "TrainingOptions",
    "UsageError",
    "Vocab",
    "WorkerError",
    "WorkerOptions",
    "__version__",
    "evaluate",
    "generate",
    "load",
    "open_foreign",
    "prepare",
    "read_documents",
    "register",
    "stream",
    "trace",
    "train",
    "write_megatron",
    "write_nanogpt",
]
