"""How well a model predicts a text that it was not trained on."""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from tokenloom.batch import IGNORED_TARGET
from tokenloom.corpus import Corpus
from tokenloom.errors import ArgumentError
from tokenloom.model import RNNModel, State
from tokenloom.sharding import Shard
from tokenloom.windows import SequentialWindows


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The loss over a corpus.

    Attributes
    ----------
    num_tokens : int
        Tokens that were predicted: all but the first of the corpus.
    nats_per_token : float
        Mean cross-entropy, natural logarithm.

    >>> Evaluation(num_tokens=2, nats_per_token=0.0).perplexity
    1.0
    """

    num_tokens: int
    nats_per_token: float

    @property
    def perplexity(self) -> float:
        """``exp(nats_per_token)``; infinite where that overflows."""
        return perplexity(self.nats_per_token)


@torch.inference_mode()
def evaluate(
    model: RNNModel, corpus: Corpus, *, batch_size: int = 32, seq_len: int = 35
) -> Evaluation:
    """Return the loss of a model over a corpus, every token predicted once.

    The corpus is cut into ``batch_size`` lanes, and the hidden state is
    carried along each; it begins at zero in each. The model is evaluated on
    the device on which it is, without dropout.

    Parameters
    ----------
    model : RNNModel
    corpus : Corpus
        At least two tokens.
    batch_size, seq_len : int
        More lanes are quicker, and cut the text more often.

    Raises
    ------
    ArgumentError, CorpusError
        A size is below 1, the corpus is shorter than two tokens, or its
        vocabulary is larger than the model's or unknown.
    """
    windows = SequentialWindows(
        corpus, batch_size=batch_size, seq_len=seq_len, tail="pad", shard=Shard()
    )
    check_vocab_size(model, corpus)
    was_training = model.training
    model.eval()
    try:
        total = _total_loss(model, windows)
    finally:
        model.train(was_training)
    num_tokens = windows.plan.num_inputs
    return Evaluation(num_tokens=num_tokens, nats_per_token=total / num_tokens)


def check_vocab_size(model: RNNModel, corpus: Corpus) -> None:
    """Refuse a corpus with ids that the model does not know.

    Raises
    ------
    ArgumentError
        The corpus's vocabulary is larger than the model's.
    CorpusError
        The corpus's vocabulary size is not known.
    """
    if model.vocab_size < corpus.vocab_size:
        msg = (
            f"model.vocab_size must be at least the corpus's {corpus.vocab_size}, "
            f"got {model.vocab_size}"
        )
        raise ArgumentError(msg)


def _total_loss(model: RNNModel, windows: SequentialWindows) -> float:
    device = model.linear.weight.device
    total = 0.0
    state: State | None = None
    for batch in windows:
        inputs, targets = batch.to(device)
        logits, state = model(inputs, state)
        total += functional.cross_entropy(
            logits, targets.T.reshape(-1), ignore_index=IGNORED_TARGET, reduction="sum"
        ).item()
    return total


def perplexity(nats_per_token: float) -> float:
    """Return ``exp(nats_per_token)``, infinite where that overflows.

    >>> perplexity(0.0), perplexity(1000.0)
    (1.0, inf)
    """
    try:
        return math.exp(nats_per_token)
    except OverflowError:
        return math.inf
