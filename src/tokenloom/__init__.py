"""Weave text into exactly reproducible language-model batches.

.. code-block:: text

    text --> load, Corpus --> RandomWindows, SequentialWindows --> Loader
             tokens, vocab    a plan: which tokens each batch reads  workers, resume
                                        |                              |
                              torch.utils.data.DataLoader      train --> evaluate
                              (batch_size=None)                      --> generate

Batch k of epoch e is a pure function of the corpus, the plan, e and k. So the
stream is the same for every number of workers, ranks put side by side give the
whole batch, and a position is a row number that can be resumed anywhere.

>>> import tokenloom as tl
>>> corpus = tl.load("python_docs", tokenizer="char", max_tokens=10_000)
>>> windows = tl.SequentialWindows(corpus, batch_size=32, seq_len=35, seed=0)
>>> loader = tl.Loader(windows, num_workers=0, num_epochs=2)
>>> for inputs, targets in loader:
...     assert inputs.shape == targets.shape == (32, 35)
>>> loader.state_dict()["epoch"], len(loader)
(2, 16)

A name is imported from its room when it is first used, so that
``import tokenloom`` is quick and its lower half runs without torch.
``tokenloom.d2l`` has the names of the textbook "Dive into Deep Learning".
"""

import importlib

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

_ROOMS = {
    "Archive": "hub.catalogue",
    "ArchiveError": "errors",
    "ArgumentError": "errors",
    "Batch": "loading.batch",
    "BuiltIn": "hub.catalogue",
    "ChecksumError": "errors",
    "Corpus": "corpus.corpus",
    "CorpusError": "errors",
    "Document": "text.documents",
    "DownloadError": "errors",
    "Entry": "hub.catalogue",
    "EpochMetrics": "training.metrics",
    "Evaluation": "model.evaluation",
    "GeneratedToken": "model.generation",
    "LawError": "errors",
    "Loader": "loading.loader",
    "Plan": "plan.order",
    "PrepareOptions": "preparation.options",
    "Prepared": "preparation.finished",
    "RNNModel": "model.rnn",
    "RandomWindows": "loading.dataset",
    "RemoteFile": "hub.catalogue",
    "Run": "training.run",
    "RunError": "errors",
    "RunOptions": "training.options",
    "SequentialWindows": "loading.dataset",
    "Shard": "loading.shard",
    "StateMismatchError": "errors",
    "StepLosses": "training.metrics",
    "StoreError": "errors",
    "Tokenizer": "text.tokenizers",
    "TokenloomError": "errors",
    "Trace": "preparation.trace",
    "TrainingOptions": "training.options",
    "UsageError": "errors",
    "Vocab": "text.vocab",
    "WorkerError": "errors",
    "WorkerOptions": "loading.read_ahead",
    "evaluate": "model.evaluation",
    "generate": "model.generation",
    "load": "hub.load",
    "open_foreign": "corpus.formats",
    "prepare": "preparation.prepare",
    "read_documents": "hub.load",
    "register": "hub.catalogue",
    "stream": "model.generation",
    "trace": "preparation.trace",
    "train": "training.loop",
    "write_megatron": "corpus.formats",
    "write_nanogpt": "corpus.formats",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        # Slow to import, so that a Ctrl-C might fall into it before anything is ready for one.
        value: object = importlib.import_module("importlib.metadata").version("tokenloom")
    elif name in _ROOMS:
        room = importlib.import_module(f"tokenloom.{_ROOMS[name]}")
        value = getattr(room, name)
    elif name == "d2l":
        value = importlib.import_module("tokenloom.d2l")
    else:
        msg = f"module 'tokenloom' has no attribute {name!r}"
        raise AttributeError(msg)
    # The next look-up does not come here.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(__all__) | set(globals()))
