# The types of what __init__.py imports lazily.
from tokenloom import (
    corpus as corpus,
    d2l as d2l,
    errors as errors,
    hub as hub,
    model as model,
    plan as plan,
    preparation as preparation,
    testing as testing,
    text as text,
    training as training,
)
from tokenloom.corpus.corpus import Corpus as Corpus
from tokenloom.corpus.formats import open_foreign as open_foreign
from tokenloom.corpus.mixture import Mixture as Mixture
from tokenloom.errors import (
    ChecksumError as ChecksumError,
    DownloadError as DownloadError,
    StateMismatchError as StateMismatchError,
    StoreError as StoreError,
    TokenloomError as TokenloomError,
)
from tokenloom.hub.load import load as load, read_documents as read_documents
from tokenloom.loading.batch import Batch as Batch
from tokenloom.loading.dataset import (
    PackedWindows as PackedWindows,
    RandomWindows as RandomWindows,
    SequentialWindows as SequentialWindows,
    Windows as Windows,
)
from tokenloom.loading.loader import Loader as Loader
from tokenloom.loading.read_ahead import WorkerOptions as WorkerOptions
from tokenloom.loading.shard import Shard as Shard
from tokenloom.model.evaluation import evaluate as evaluate
from tokenloom.model.generation import generate as generate, stream as stream
from tokenloom.model.rnn import RNNModel as RNNModel
from tokenloom.plan.plan import Plan as Plan
from tokenloom.preparation.options import PrepareOptions as PrepareOptions
from tokenloom.preparation.prepare import prepare as prepare
from tokenloom.preparation.trace import trace as trace
from tokenloom.text.documents import Document as Document
from tokenloom.text.interface import Tokenizer as Tokenizer
from tokenloom.text.vocab import Vocab as Vocab
from tokenloom.training.loop import train as train
from tokenloom.training.options import RunOptions as RunOptions, TrainingOptions as TrainingOptions
from tokenloom.training.run import Run as Run

__all__: list[str]  # noqa: PYI035  # the imports above are the list
__version__: str

# Where these were before; they go with the next release.
Archive = hub.Archive
ArchiveError = errors.ArchiveError
ArgumentError = errors.ArgumentError
BuiltIn = hub.BuiltIn
CorpusError = errors.CorpusError
Entry = hub.Entry
EpochMetrics = training.EpochMetrics
Evaluation = model.Evaluation
GeneratedToken = model.GeneratedToken
LawError = errors.LawError
Prepared = preparation.Prepared
RemoteFile = hub.RemoteFile
RunError = errors.RunError
StepLosses = training.StepLosses
Trace = preparation.Trace
UsageError = errors.UsageError
WorkerError = errors.WorkerError
laws = testing.laws
register = hub.register
write_megatron = corpus.write_megatron
write_nanogpt = corpus.write_nanogpt
