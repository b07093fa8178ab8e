"""How well a model predicts a text that it was not trained on."""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed

from tokenloom._checks import (
    MAX_WORKERS,
    as_flag,
    as_flag_or_none,
    as_integer,
    require_type,
)
from tokenloom._progress import open_bar
from tokenloom.corpus.corpus import Corpus
from tokenloom.corpus.loss_mask import has_learnt
from tokenloom.corpus.statistics import TextSize, measure_text
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.loading.dataset import SequentialWindows
from tokenloom.loading.distributed import Ranks, describe_weights
from tokenloom.loading.loader import Loader
from tokenloom.loading.shard import Shard
from tokenloom.model.loss import token_losses
from tokenloom.model.rnn import RNNModel, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The loss over a corpus.

    Attributes
    ----------
    num_tokens : int
        Tokens that were predicted: all but the first of the corpus, or of each
        document with ``across_documents=False``, and but those that its loss mask
        leaves out.
    nats_per_token : float
        Mean cross-entropy, natural logarithm.
    num_characters, num_bytes : int or None
        Size of the text that these tokens stand for, where that is known; see
        `tokenloom.corpus.statistics.measure_text`.

    >>> Evaluation(num_tokens=2, nats_per_token=0.0).perplexity
    1.0
    """

    num_tokens: int
    nats_per_token: float
    num_characters: int | None = None
    num_bytes: int | None = None

    @property
    def perplexity(self) -> float:
        """Per token: ``exp(nats_per_token)``; infinite where that overflows."""
        return perplexity(self.nats_per_token)

    @property
    def perplexity_per_character(self) -> float | Any:
        """``exp(nats_per_character)``, which compares models of different tokens."""
        return _perplexity_or_none(self.nats_per_character)

    @property
    def perplexity_per_byte(self) -> float | Any:
        """``exp(nats_per_byte)``, which compares models of different tokens."""
        return _perplexity_or_none(self.nats_per_byte)

    @property
    def characters_per_token(self) -> float | Any:
        """Mean length of a token in characters, where that is known."""
        return None if self.num_characters is None else self.num_characters / self.num_tokens

    @property
    def bytes_per_token(self) -> float | Any:
        """The same, in bytes of UTF-8."""
        return None if self.num_bytes is None else self.num_bytes / self.num_tokens

    @property
    def nats_per_character(self) -> float | Any:
        """The loss spread over the characters of the text."""
        return self._spread(self.num_characters)

    @property
    def nats_per_byte(self) -> float | Any:
        """The loss spread over the bytes of the text in UTF-8."""
        return self._spread(self.num_bytes)

    @property
    def bits_per_token(self) -> float:
        """Mean cross-entropy, logarithm to the base 2."""
        return self.nats_per_token / math.log(2)

    @property
    def bits_per_character(self) -> float | Any:
        """``nats_per_character``, logarithm to the base 2."""
        return _bits_or_none(self.nats_per_character)

    @property
    def bits_per_byte(self) -> float | Any:
        """``nats_per_byte``, logarithm to the base 2."""
        return _bits_or_none(self.nats_per_byte)

    def _spread(self, num_units: int | None) -> float | None:
        return self.nats_per_token * self.num_tokens / num_units if num_units else None


def evaluate(  # noqa: PLR0913  each is one way to do the same
    model: RNNModel,
    corpus: Corpus,
    *,
    batch_size: int = 32,
    seq_len: int = 35,
    num_workers: int = 0,
    shard: Shard | None = None,
    resets: bool = True,
    across_documents: bool = True,
    progress: bool | None = None,
) -> Evaluation:
    """Return the loss of a model over a corpus, every token predicted exactly once.

    The first token of the corpus has no context and is not predicted, and neither
    are those that its loss mask leaves out. The corpus
    is cut into ``batch_size`` lanes; the hidden state begins at zero and is
    carried along each lane. So the loss depends on the lanes, but, except for the
    rounding of floats, not on ``seq_len``, ``num_workers`` or the number of
    ranks. (A model with two directions sees the end of the window, so its loss
    also depends on ``seq_len``.) Losses are summed in float64. The model is
    evaluated on its own device, without dropout.

    If `torch.distributed` is initialised, each rank evaluates some lanes and the
    sums are added, so all ranks must call this, and each gets the loss of the
    whole corpus. If the number of ranks does not divide ``batch_size``, only
    a number of ranks that divides it works.

    Parameters
    ----------
    model : RNNModel
    corpus : Corpus
        At least two tokens.
    batch_size : int
        Lanes over all ranks. More lanes are faster, and cut the text more often.
    seq_len : int
        Tokens that are read at once.
    num_workers : int
        Threads that read ahead; 0 reads in this one.
    shard : Shard, optional
        Evaluate only this part of the lanes, and do not add other ranks' sums.
        The ``num_tokens`` of the result, which may be 0, are its weight.
    resets : bool
        Whether the hidden state is reset to zero where documents start, if the
        corpus has document offsets.
    across_documents : bool
        Whether the first token of a document is predicted from the text before it;
        else it is not predicted. False needs document offsets, and ``resets``.
    progress : bool, optional
        Whether to show a bar on stderr; by default if that is a terminal.

    Raises
    ------
    ArgumentError, CorpusError
        A size is below 1, the corpus is shorter than two tokens, its vocabulary
        is larger than the model's or unknown, its loss mask leaves nothing to
        predict, or the number of parts does not divide the lanes.
    UsageError
        The ranks have different models, texts or sizes; each difference is named.
    """
    is_group = shard is None and _has_group()
    ranks = Ranks.detect() if is_group else Ranks()
    with ranks.together():
        as_flag("resets", resets)
        _check_documents(corpus, resets=resets, across_documents=across_documents)
        as_flag_or_none("progress", progress)
        check_ids(model, corpus)
        check_learnt(corpus, across_documents=bool(across_documents))
        batch_size = as_integer("batch_size", batch_size, start=1)
        seq_len = as_integer("seq_len", seq_len, start=1)
        num_workers = as_integer("num_workers", num_workers, stop=MAX_WORKERS)
    shape = {"batch_size": batch_size, "seq_len": seq_len, "resets": bool(resets)}
    shape["across_documents"] = bool(across_documents)
    _confirm_ranks(ranks, model, corpus, shape=shape)
    windows = divide_lanes(
        corpus, batch_size=batch_size, seq_len=seq_len, shard=shard, resets=resets
    )
    nats, num_tokens = sum_losses(
        model,
        windows,
        is_group=is_group,
        num_workers=num_workers,
        across_documents=across_documents,
        progress=progress,
    )
    is_whole = num_tokens == len(corpus) - 1
    text = measure_predicted(corpus) if is_whole else TextSize()
    return Evaluation(
        num_tokens=num_tokens,
        nats_per_token=nats / num_tokens if num_tokens else 0.0,
        num_characters=text.num_characters,
        num_bytes=text.num_bytes,
    )


def measure_predicted(corpus: Corpus) -> TextSize:
    """Return the size of the text that an evaluation predicts: all but the first token."""
    return measure_text(corpus.slice(1, len(corpus)), progress=False)


def divide_lanes(
    corpus: Corpus,
    *,
    batch_size: int = 32,
    seq_len: int = 35,
    shard: Shard | None = None,
    resets: bool = True,
) -> SequentialWindows | None:
    """Return the lanes of a corpus that this process evaluates, or None for none of them.

    Parameters
    ----------
    corpus, batch_size, seq_len, shard, resets
        As in `evaluate`.
    """
    is_group = shard is None and _has_group()
    part = shard or (_divide(batch_size, Shard.detect()) if is_group else Shard())
    if part is None:
        return None
    return SequentialWindows(
        corpus,
        batch_size=batch_size,
        seq_len=seq_len,
        tail="pad",
        shard=part,
        resets=None if resets else False,
    )


def sum_losses(
    model: RNNModel,
    windows: SequentialWindows | None,
    *,
    is_group: bool,
    num_workers: int = 0,
    across_documents: bool = True,
    progress: bool | None = False,
) -> tuple[float, int]:
    """Return the summed losses of a model, in nats, and how many tokens it predicted.

    Parameters
    ----------
    model : RNNModel
        Evaluated without dropout, on the device on which it is.
    windows : SequentialWindows or None
        What `divide_lanes` returned.
    is_group : bool
        Whether the sums of all ranks are added.
    num_workers, across_documents, progress
        As in `evaluate`.
    """
    device = model.linear.weight.device
    total = torch.zeros(2, dtype=torch.float64)
    was_training = model.training
    model.eval()
    try:
        if windows is not None:
            loader = Loader(windows, num_workers=num_workers, device=device)
            total = _add_losses(model, loader, across_documents=across_documents, progress=progress)
    finally:
        model.train(was_training)
    nats, num_tokens = (_add_ranks(total, device) if is_group else total).tolist()
    return nats, int(num_tokens)


def _check_documents(corpus: Corpus, *, resets: bool, across_documents: bool) -> None:
    """Check that it is known where documents start, if no loss is to cross them."""
    as_flag("across_documents", across_documents)
    if across_documents or (resets and corpus.document_offsets is not None):
        return
    if resets:
        msg = (
            f"across_documents=False needs documents, and {corpus.name} has none: leave it out, "
            "or give a corpus that has some"
        )
        raise CorpusError(msg)
    msg = (
        "across_documents=False and resets=False exclude each other: the state must not cross "
        "documents where no loss does"
    )
    raise ArgumentError(msg)


def _has_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _confirm_ranks(ranks: Ranks, model: RNNModel, corpus: Corpus, *, shape: dict[str, Any]) -> None:
    """Check on every rank that all of them evaluate the same model, corpus and sizes."""
    facts: dict[str, Any] = {}
    with ranks.together():
        if ranks.world_size > 1:
            vocab, documents = corpus.vocab, corpus.document_offsets if shape["resets"] else None
            facts = {
                **shape,
                "corpus": corpus.whole_hash,
                "num_tokens": len(corpus),
                "vocab": None if vocab is None else vocab.hash,
                "documents": None if documents is None else documents.hash(),
                **describe_weights(model),
            }
    ranks.confirm(facts)


def check_learnt(corpus: Corpus, *, across_documents: bool = True) -> None:
    """Refuse a corpus of which nothing is learnt, or predicted.

    Parameters
    ----------
    corpus : Corpus
    across_documents : bool
        Whether the first token of a document is predicted from the text before it.

    Raises
    ------
    CorpusError
        Its loss mask has a 1 only for tokens that are not predicted, or for none.
    """
    if corpus.loss_mask is None:
        return
    documents = None if across_documents else corpus.document_offsets
    if has_learnt(corpus.loss_mask, documents=documents):
        return
    where = "the first token" if documents is None else "the first token of each document"
    msg = (
        f"{corpus.name} must have a token to predict, but its loss mask has no 1 after {where}: "
        "give another mask, or another text"
    )
    raise CorpusError(msg)


def check_ids(model: RNNModel, corpus: Corpus) -> None:
    """Refuse a corpus whose ids the model does not have, or has for other tokens.

    Raises
    ------
    ArgumentError
        The corpus's vocabulary is larger than the model's, or is known to be
        another one.
    CorpusError
        The corpus's vocabulary size is not known.
    """
    require_type("model", model, RNNModel, "an RNNModel")
    require_type("corpus", corpus, Corpus, "a Corpus")
    if model.vocab_size < corpus.vocab_size:
        msg = (
            f"model.vocab_size must be at least the corpus's {corpus.vocab_size}, "
            f"got {model.vocab_size}"
        )
        raise ArgumentError(msg)
    made_by = corpus.identity
    if made_by is None:
        return
    if model.vocab_size != corpus.vocab_size:
        msg = (
            f"model.vocab_size must be {corpus.vocab_size}, as {corpus.name} is of the tokenizer "
            f"{made_by}, got {model.vocab_size}: such ids mean other tokens"
        )
        raise ArgumentError(msg)
    if made_by.differs(model.trained_with):
        msg = (
            f"the ids of {corpus.name} must be of the tokenizer that the model was trained with "
            f"({model.trained_with}), got another ({made_by}): encode the text with that one"
        )
        raise ArgumentError(msg)


def _divide(batch_size: int, rank: Shard) -> Shard | None:
    """Return the part of a rank, or None if it has no work.

    >>> [_divide(4, Shard(rank=rank, world_size=3)) for rank in (1, 2)]
    [Shard(rank=1, world_size=2), None]
    """
    num_parts = max(n for n in range(1, rank.world_size + 1) if batch_size % n == 0)
    return Shard(rank=rank.rank, world_size=num_parts) if rank.rank < num_parts else None


@torch.inference_mode()
def _add_losses(
    model: RNNModel, loader: Loader, *, across_documents: bool, progress: bool | None
) -> torch.Tensor:
    """Return nats and predicted tokens: float64, shape (2,), on the CPU."""
    nats, num_tokens = 0.0, 0
    state: State | None = None
    total = loader.plan.num_inputs
    with open_bar(total=total, unit="token", unit_scale=True, progress=progress) as bar:
        for whole in loader:
            batch = whole if across_documents else whole.within_documents()
            losses, state = token_losses(model, batch, state)
            # To the CPU first: Apple's GPUs have no float64.
            nats += losses.cpu().double().sum().item()
            num_tokens += batch.num_targets
            bar.update(batch.num_inputs * loader.windows.shard.world_size)
    return torch.tensor([nats, num_tokens], dtype=torch.float64)


def _add_ranks(total: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return the sum over the ranks of the default group."""
    # NCCL adds on the GPU only.
    is_nccl = torch.distributed.get_backend() == "nccl"
    total = total.to(device) if is_nccl else total
    torch.distributed.all_reduce(total)
    return total.cpu()


def perplexity(nats_per_token: float) -> float:
    """Return ``exp(nats_per_token)``, infinite where that overflows.

    >>> perplexity(0.0), perplexity(1000.0)
    (1.0, inf)
    """
    try:
        return math.exp(nats_per_token)
    except OverflowError:
        return math.inf


def _perplexity_or_none(nats: float | None) -> float | None:
    return None if nats is None else perplexity(nats)


def _bits_or_none(nats: float | None) -> float | None:
    return None if nats is None else nats / math.log(2)
