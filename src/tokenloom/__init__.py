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

What is needed every day is here; the rest is under its noun: ``tokenloom.hub``,
``tokenloom.errors``, ``tokenloom.corpus``, ``tokenloom.preparation``,
``tokenloom.text``, ``tokenloom.plan``, ``tokenloom.model``, ``tokenloom.training``
and ``tokenloom.testing``.
``tokenloom.d2l`` has the names of the textbook "Dive into Deep Learning".
A name is imported when it is first used, so that ``import tokenloom`` is quick
and its lower half runs without torch.
"""

import importlib
import warnings

# Each name with the file that it is imported from.
_NAMES = {
    "Batch": "loading.batch",
    "ChecksumError": "errors",
    "Corpus": "corpus.corpus",
    "Document": "text.documents",
    "DownloadError": "errors",
    "Loader": "loading.loader",
    "Mixture": "corpus.mixture",
    "PackedWindows": "loading.dataset",
    "Plan": "plan.plan",
    "PrepareOptions": "preparation.options",
    "RNNModel": "model.rnn",
    "RandomWindows": "loading.dataset",
    "Run": "training.run",
    "RunOptions": "training.options",
    "SequentialWindows": "loading.dataset",
    "Shard": "loading.shard",
    "StateMismatchError": "errors",
    "StoreError": "errors",
    "Tokenizer": "text.interface",
    "TokenloomError": "errors",
    "TrainingOptions": "training.options",
    "Vocab": "text.vocab",
    "Windows": "loading.dataset",
    "WorkerOptions": "loading.read_ahead",
    "evaluate": "model.evaluation",
    "generate": "model.generation",
    "load": "hub.load",
    "open_foreign": "corpus.formats",
    "prepare": "preparation.prepare",
    "read_documents": "hub.load",
    "stream": "model.generation",
    "trace": "preparation.trace",
    "train": "training.loop",
}

# The rooms whose own names are public.
_ROOMS = {
    "corpus",
    "d2l",
    "errors",
    "hub",
    "model",
    "plan",
    "preparation",
    "testing",
    "text",
    "training",
}

# Names that were here before, each with its new place; they go with the next release.
_MOVED = {
    "Archive": "hub",
    "ArchiveError": "errors",
    "ArgumentError": "errors",
    "BuiltIn": "hub",
    "CorpusError": "errors",
    "Entry": "hub",
    "EpochMetrics": "training",
    "Evaluation": "model",
    "GeneratedToken": "model",
    "LawError": "errors",
    "Prepared": "preparation",
    "RemoteFile": "hub",
    "RunError": "errors",
    "StepLosses": "training",
    "Trace": "preparation",
    "UsageError": "errors",
    "WorkerError": "errors",
    "laws": "testing",
    "register": "hub",
    "write_megatron": "corpus",
    "write_nanogpt": "corpus",
}

__all__ = sorted([*_NAMES, "__version__"])  # noqa: PLE0605  # __init__.pyi has it in full


def __getattr__(name: str) -> object:
    if name in _MOVED:
        place = f"tokenloom.{_MOVED[name]}"
        message = f"tokenloom.{name} is now {place}.{name}, its only place from the next release on"
        # Not kept in globals(): each line that uses the old name shall be warned of.
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(place), name)
    if name == "__version__":
        # Slow to import, so that a Ctrl-C might fall into it before anything is ready for one.
        value: object = importlib.import_module("importlib.metadata").version("tokenloom")
    elif name in _NAMES:
        value = getattr(importlib.import_module(f"tokenloom.{_NAMES[name]}"), name)
    elif name in _ROOMS:
        value = importlib.import_module(f"tokenloom.{name}")
    else:
        msg = f"module 'tokenloom' has no attribute {name!r}"
        raise AttributeError(msg)
    # The next look-up does not come here.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_ROOMS})
