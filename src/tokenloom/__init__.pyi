# The types of the names that __init__.py imports lazily.
from tokenloom.batch import Batch as Batch
from tokenloom.catalogue import Archive as Archive
from tokenloom.catalogue import BuiltIn as BuiltIn
from tokenloom.catalogue import Entry as Entry
from tokenloom.catalogue import RemoteFile as RemoteFile
from tokenloom.catalogue import register as register
from tokenloom.corpus import Corpus as Corpus
from tokenloom.documents import Document as Document
from tokenloom.errors import ArchiveError as ArchiveError
from tokenloom.errors import ArgumentError as ArgumentError
from tokenloom.errors import ChecksumError as ChecksumError
from tokenloom.errors import CorpusError as CorpusError
from tokenloom.errors import DownloadError as DownloadError
from tokenloom.errors import LawError as LawError
from tokenloom.errors import RunError as RunError
from tokenloom.errors import StateMismatchError as StateMismatchError
from tokenloom.errors import StoreError as StoreError
from tokenloom.errors import TokenloomError as TokenloomError
from tokenloom.errors import UsageError as UsageError
from tokenloom.errors import WorkerError as WorkerError
from tokenloom.evaluation import Evaluation as Evaluation
from tokenloom.evaluation import evaluate as evaluate
from tokenloom.finished import Prepared as Prepared
from tokenloom.foreign import open_foreign as open_foreign
from tokenloom.foreign import write_megatron as write_megatron
from tokenloom.foreign import write_nanogpt as write_nanogpt
from tokenloom.generation import GeneratedToken as GeneratedToken
from tokenloom.generation import generate as generate
from tokenloom.generation import stream as stream
from tokenloom.hub import load as load
from tokenloom.hub import read_documents as read_documents
from tokenloom.loader import Loader as Loader
from tokenloom.model import RNNModel as RNNModel
from tokenloom.plans import Plan as Plan
from tokenloom.preparation import prepare as prepare
from tokenloom.prepare_options import PrepareOptions as PrepareOptions
from tokenloom.recipe import RunOptions as RunOptions
from tokenloom.recipe import TrainingOptions as TrainingOptions
from tokenloom.records import EpochMetrics as EpochMetrics
from tokenloom.records import StepLosses as StepLosses
from tokenloom.runs import Run as Run
from tokenloom.sharding import Shard as Shard
from tokenloom.tokenizers import Tokenizer as Tokenizer
from tokenloom.tracing import Trace as Trace
from tokenloom.tracing import trace as trace
from tokenloom.training import train as train
from tokenloom.vocab import Vocab as Vocab
from tokenloom.windows import RandomWindows as RandomWindows
from tokenloom.windows import SequentialWindows as SequentialWindows
from tokenloom.workers import WorkerOptions as WorkerOptions

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
