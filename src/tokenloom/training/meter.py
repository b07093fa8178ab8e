"""What is measured while a model is trained, epoch by epoch."""

import logging
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from tokenloom._figures import save_figure
from tokenloom.corpus.corpus import Corpus
from tokenloom.corpus.statistics import TextSize, measure_text
from tokenloom.errors import UsageError
from tokenloom.loading.batch import Batch
from tokenloom.loading.dataset import SequentialWindows
from tokenloom.loading.distributed import Ranks
from tokenloom.loading.loader import Loader
from tokenloom.model.evaluation import (
    Evaluation,
    divide_lanes,
    measure_predicted,
    perplexity,
    sum_losses,
)
from tokenloom.model.rnn import RNNModel
from tokenloom.training.metrics import EpochMetrics, StepLosses, plot_perplexity
from tokenloom.training.run import Run

# Parts of the training text whose size is measured, and the tokens of each.
_NUM_MEASURED, _MEASURED_TOKENS = 64, 1 << 16

_LOGGER = logging.getLogger(__name__)


class Meter:
    """Adds up the losses of the running epoch, and writes down finished ones.

    Parameters
    ----------
    model : RNNModel
    loader : Loader
        What the model is trained on: the held-out text is read in the same way,
        with a hidden state that begins anew where documents start, or not.
    held_out : Corpus or mapping of str to Corpus, optional
        Text, or texts by name, whose perplexity is measured after each epoch, on every rank.
    across_documents : bool
        Whether the first token of a document counts in the held-out text.
    ranks : Ranks
    run : Run, optional
        Where the metrics are written, on the first rank.
    history : sequence of EpochMetrics
        The epochs that were finished before.

    Attributes
    ----------
    history : list of EpochMetrics
        One per finished epoch.
    step : int
        Batches that the model was trained on.
    epoch : int
        The epoch of the last one.
    is_best : bool
        Whether the last batch ended an epoch with the lowest held-out perplexity so far.
    """

    def __init__(
        self,
        model: RNNModel,
        loader: Loader,
        held_out: Corpus | Mapping[str, Corpus] | None,
        *,
        across_documents: bool = True,
        ranks: Ranks,
        run: Run | None,
        history: Sequence[EpochMetrics],
    ) -> None:
        self.history = list(history)
        self.step = 0
        self.epoch = 0
        self.is_best = False
        self._ranks = ranks
        self._run = run
        self._model = model
        resets = loader.windows.documents is not None
        self._across_documents = across_documents
        self._has_parts = isinstance(held_out, Mapping)
        self._held_out = {
            name: _HeldOut(
                divide_lanes(text, resets=resets),
                # If only some targets count, it is not known how much text they stand for.
                measure_predicted(text)
                if across_documents and text.loss_mask is None
                else TextSize(),
            )
            for name, text in _by_name(held_out).items()
        }
        self._corpus_name = loader.windows.corpus.name
        # If only some targets count, it is not known how much text a token stands for.
        counts_all = across_documents and loader.windows.corpus.loss_mask is None
        self._token_size = _mean_size(loader.windows.corpus) if counts_all else (None, None)
        self._begin()

    def _begin(self) -> None:
        # Losses and targets of the steps before the last `_gather`, over all ranks.
        self._known_losses = torch.zeros(0)
        self._known_targets = torch.zeros(0, dtype=torch.int64)
        self._losses: list[torch.Tensor] = []
        self._num_targets: list[int] = []
        self._first_batch = 0
        self._seconds = 0.0
        self._began_at = time.perf_counter()

    def add(self, loss: torch.Tensor, batch: Batch) -> None:
        """Note the summed loss of this rank's targets, without waiting for it."""
        if not self._losses and not len(self._known_losses):
            self._first_batch = batch.index
        self._losses.append(loss)
        self._num_targets.append(batch.num_targets)
        self.epoch = batch.epoch
        self.step += 1
        self.is_best = False

    def finish(self) -> EpochMetrics:
        """Measure the epoch, after its last batch was added."""
        # The first wait for the device in this epoch.
        losses, num_targets = self._gather()
        seconds = self._seconds + time.perf_counter() - self._began_at
        held_out = self._evaluate()
        # NaN where nothing was learnt.
        nats = float(losses.double().sum() / num_targets.sum())
        per_character, per_byte = (size and perplexity(nats / size) for size in self._token_size)
        metrics = EpochMetrics(
            epoch=self.epoch,
            step=self.step,
            perplexity=perplexity(nats),
            perplexity_per_character=per_character,
            perplexity_per_byte=per_byte,
            tokens_per_second=float(num_targets.sum()) / seconds,
            **_describe(held_out, has_parts=self._has_parts),
        )
        if not math.isfinite(metrics.perplexity):
            why = "the training diverges; lower lr or max_grad_norm"
            if not num_targets.any():
                why = "no target of its batches is learnt; see the loss mask of the corpus"
            warnings.warn(
                f"the perplexity of epoch {metrics.epoch} is {metrics.perplexity}: {why}",
                stacklevel=3,
            )
        self.is_best = _is_best(metrics, self.history)
        self.history.append(metrics)
        if self._run is not None:
            self._run.record(metrics)
        self._record_losses()
        self._begin()
        return metrics

    def _record_losses(self) -> None:
        losses, num_targets = self._gather()
        if self._run is None or not len(losses):
            return
        self._run.record(
            StepLosses(
                step=self.step - len(losses) + 1,
                epoch=self.epoch,
                batch=self._first_batch,
                # NaN where nothing is learnt.
                losses=(losses.double() / num_targets).tolist(),
                without_targets=(num_targets == 0).nonzero().flatten().tolist() or None,
            )
        )

    def close(self) -> None:
        """Write down the losses of an unfinished epoch, and draw the plot."""
        self._record_losses()
        if self._run is None or not self.history:
            return
        try:
            title = f"Perplexity of {self._run.path.name}, trained on {self._corpus_name}"
            save_figure(plot_perplexity(self.history, title=title), self._run.path / "perplexity")
        # A run is complete without a plot.
        except UsageError as error:
            _LOGGER.info("no plot: %s", error)
        # Whatever error the drawing raises, the numbers are saved.
        except Exception as error:  # noqa: BLE001
            reason = (isinstance(error, OSError) and error.strerror) or error
            warnings.warn(f"the plot could not be drawn: {reason}", stacklevel=3)

    def _evaluate(self) -> dict[str, Evaluation]:
        """Return how well each of the held-out texts is predicted."""
        is_group = self._ranks.world_size > 1
        found = {}
        for name, (lanes, text) in self._held_out.items():
            nats, num_tokens = sum_losses(
                self._model, lanes, is_group=is_group, across_documents=self._across_documents
            )
            found[name] = Evaluation(
                num_tokens=num_tokens,
                # Taken from the first rank, since machines may differ in the last digit.
                nats_per_token=float(self._ranks.share(nats / max(1, num_tokens))),
                num_characters=text.num_characters,
                num_bytes=text.num_bytes,
            )
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the running epoch, the same on every rank."""
        losses, num_targets = self._gather()
        return {
            "losses": losses,
            "num_targets": num_targets,
            "first_batch": self._first_batch,
            "seconds": self._seconds + time.perf_counter() - self._began_at,
        }

    def load_state_dict(self, state: dict[str, Any], *, epoch: int, step: int) -> None:
        """Take over a saved state of the running epoch, after a number of steps."""
        self._begin()
        self.epoch, self.step = epoch, step
        self._known_losses, self._known_targets = state["losses"], state["num_targets"]
        self._first_batch, self._seconds = state["first_batch"], state["seconds"]

    def _gather(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the summed losses and the numbers of targets of all steps, over all ranks."""
        if self._losses:
            losses = self._ranks.total(torch.stack(self._losses).float())
            num_targets = self._ranks.total(torch.tensor(self._num_targets))
            self._known_losses = torch.cat([self._known_losses, losses])
            self._known_targets = torch.cat([self._known_targets, num_targets])
            self._losses, self._num_targets = [], []
        return self._known_losses, self._known_targets


def _mean_size(corpus: object) -> tuple[float | None, float | None]:
    """Return the mean characters and bytes of a token, None where they are not known.

    Only parts of a long text are measured, so that a training begins at once.
    """
    if not isinstance(corpus, Corpus):
        return None, None
    starts = range(0, len(corpus), max(_MEASURED_TOKENS, len(corpus) // _NUM_MEASURED))
    parts = [corpus.slice(start, min(start + _MEASURED_TOKENS, len(corpus))) for start in starts]
    sizes = [measure_text(part, progress=False) for part in parts]
    num_tokens = sum(map(len, parts))
    characters = [size.num_characters for size in sizes]
    bytes_ = [size.num_bytes for size in sizes]
    return _divide(characters, num_tokens), _divide(bytes_, num_tokens)


def _divide(sizes: Sequence[int | None], num_tokens: int) -> float | None:
    known = [size for size in sizes if size is not None]
    # Tokens that stand for no text have no perplexity per character.
    return sum(known) / num_tokens or None if len(known) == len(sizes) else None


class _HeldOut(NamedTuple):
    """A held-out text: its lanes that this rank reads, and its size."""

    lanes: SequentialWindows | None
    text: TextSize


def _by_name(held_out: Corpus | Mapping[str, Corpus] | None) -> Mapping[str, Corpus]:
    if isinstance(held_out, Mapping):
        return held_out
    return {} if held_out is None else {"": held_out}


def _describe(held_out: Mapping[str, Evaluation], *, has_parts: bool) -> dict[str, Any]:
    """Return the metrics of an epoch for each held-out text, and for all together."""
    if not held_out:
        return {}
    whole = _add_up([*held_out.values()])
    by_part = {name: each.perplexity for name, each in held_out.items()}
    return {
        "held_out_perplexity": whole.perplexity,
        "held_out_perplexity_per_character": whole.perplexity_per_character,
        "held_out_perplexity_per_byte": whole.perplexity_per_byte,
        "held_out_perplexity_by_part": by_part if has_parts else None,
    }


def _add_up(parts: Sequence[Evaluation]) -> Evaluation:
    """Return the evaluation of several texts as one, in which each token counts the same."""
    if len(parts) == 1:
        return parts[0]
    num_tokens = sum(part.num_tokens for part in parts)
    nats = sum(part.nats_per_token * part.num_tokens for part in parts)
    characters = [part.num_characters for part in parts]
    num_bytes = [part.num_bytes for part in parts]
    return Evaluation(
        num_tokens=num_tokens,
        nats_per_token=nats / max(1, num_tokens),
        num_characters=None if None in characters else sum(filter(None, characters)),
        num_bytes=None if None in num_bytes else sum(filter(None, num_bytes)),
    )


def _is_best(metrics: EpochMetrics, before: Sequence[EpochMetrics]) -> bool:
    """Return whether an epoch has a lower held-out perplexity than all before it."""
    held_out = [one.held_out_perplexity for one in (*before, metrics)]
    *others, last = [math.inf if value is None else value for value in held_out]
    return last < min((value for value in others if not math.isnan(value)), default=math.inf)
