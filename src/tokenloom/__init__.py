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
    "Archive": "catalogue",
    "ArchiveError": "errors",
    "ArgumentError": "errors",
    "Batch": "batch",
    "BuiltIn": "catalogue",
    "ChecksumError": "errors",
    "Corpus": "corpus",
    "CorpusError": "errors",
    "Document": "documents",
    "DownloadError": "errors",
    "Entry": "catalogue",
    "EpochMetrics": "records",
    "Evaluation": "evaluation",
    "GeneratedToken": "generation",
    "LawError": "errors",
    "Loader": "loader",
    "Plan": "plans",
    "PrepareOptions": "prepare_options",
    "Prepared": "finished",
    "RNNModel": "model",
    "RandomWindows": "windows",
    "RemoteFile": "catalogue",
    "Run": "runs",
    "RunError": "errors",
    "RunOptions": "recipe",
    "SequentialWindows": "windows",
    "Shard": "sharding",
    "StateMismatchError": "errors",
    "StepLosses": "records",
    "StoreError": "errors",
    "Tokenizer": "tokenizers",
    "TokenloomError": "errors",
    "Trace": "tracing",
    "TrainingOptions": "recipe",
    "UsageError": "errors",
    "Vocab": "vocab",
    "WorkerError": "errors",
    "WorkerOptions": "workers",
    "evaluate": "evaluation",
    "generate": "generation",
    "load": "hub",
    "open_foreign": "foreign",
    "prepare": "preparation",
    "read_documents": "hub",
    "register": "catalogue",
    "stream": "generation",
    "trace": "tracing",
    "train": "training",
    "write_megatron": "foreign",
    "write_nanogpt": "foreign",
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
