"""The names of the textbook 'Dive into Deep Learning', over the package.

For the code of its chapters on recurrent networks, which runs after
``from tokenloom import d2l``. The names, the order of arguments and what is
printed are the textbook's. Where that has a defect this has the repair; see
"Coming from d2l" in the documentation.

Source: Zhang, Lipton, Li and Smola, "Dive into Deep Learning", the edition for
PyTorch with ``train_ch8``.
"""

from typing import Any

from tokenloom.d2l.data import (
    DATA_HUB,
    DATA_URL,
    SeqDataLoader,
    Vocab,
    count_corpus,
    download,
    load_corpus_time_machine,
    load_data_time_machine,
    read_time_machine,
    seq_data_iter_random,
    seq_data_iter_sequential,
    timemachine,
    tokenize,
)
from tokenloom.d2l.figures import Animator, plot, pyplot, set_axes, set_figsize, use_svg_display
from tokenloom.d2l.training import (
    Accumulator,
    RNNModelScratch,
    Timer,
    grad_clipping,
    predict_ch8,
    sgd,
    train_ch8,
    train_epoch_ch8,
    try_gpu,
)
from tokenloom.model.rnn import RNNModel

__all__ = [
    "DATA_HUB",
    "DATA_URL",
    "Accumulator",
    "Animator",
    "RNNModel",
    "RNNModelScratch",
    "SeqDataLoader",
    "Timer",
    "Vocab",
    "count_corpus",
    "download",
    "grad_clipping",
    "load_corpus_time_machine",
    "load_data_time_machine",
    "plot",
    "plt",
    "predict_ch8",
    "read_time_machine",
    "seq_data_iter_random",
    "seq_data_iter_sequential",
    "set_axes",
    "set_figsize",
    "sgd",
    "timemachine",
    "tokenize",
    "train_ch8",
    "train_epoch_ch8",
    "try_gpu",
    "use_svg_display",
]


def __getattr__(name: str) -> Any:
    if name == "plt":
        return pyplot()
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
