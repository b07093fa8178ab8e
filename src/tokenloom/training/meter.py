"""What is measured while a model is trained, epoch by epoch."""

import logging
import math
import time
import warnings
from typing import Any

import torch

from tokenloom._figures import save_figure
from tokenloom.corpus.corpus import Corpus
from tokenloom.errors import UsageError
from tokenloom.loading.batch import Batch
from tokenloom.loading.distributed import Ranks
from tokenloom.model.evaluation import evaluate_confirmed, perplexity
from tokenloom.model.rnn import RNNModel
from tokenloom.training.metrics import EpochMetrics, StepLosses, plot_perplexity
from tokenloom.training.run import Run

_LOGGER = logging.getLogger(__name__)


class Epochs:
    """Adds up the losses of the running epoch, and writes down finished ones.

    Parameters
    ----------
    model : RNNModel
    held_out : Corpus, optional
        Text whose perplexity is measured after each epoch, on every rank.
    resets : bool
        Whether that begins anew where documents start, as the training does.
    ranks : Ranks
    run : Run, optional
        Where they are written, on the first rank.

    Attributes
    ----------
    history : list of EpochMetrics
        One per finished epoch.
    step : int
        Batches that the model was trained on.
    epoch : int
        The epoch of the last one.
    """

    def __init__(
        self,
        model: RNNModel,
        held_out: Corpus | None,
        *,
        resets: bool,
        ranks: Ranks,
        run: Run | None,
    ) -> None:
        self.history: list[EpochMetrics] = []
        self.step = 0
        self.epoch = 0
        self._ranks = ranks
        self._run = run
        self._model = model
        self._held_out = held_out
        self._resets = resets
        self._begin()

    def _begin(self) -> None:
        # Of the steps before the last `_gather`, over all ranks.
        self._known_losses = torch.zeros(0)
        self._known_targets = torch.zeros(0, dtype=torch.int64)
        self._losses: list[torch.Tensor] = []
        self._num_targets: list[int] = []
        self._first_batch = 0
        self._seconds = 0.0
        self._began_at = time.perf_counter()

    @property
    def has_just_finished(self) -> bool:
        """Whether the last batch was the last one of its epoch."""
        return bool(self.history) and self.history[-1].step == self.step

    @property
    def is_best(self) -> bool:
        """Whether the last finished epoch has the lowest held-out perplexity of all."""
        held_out = [metrics.held_out_perplexity for metrics in self.history]
        finite = [value for value in held_out if value is not None and math.isfinite(value)]
        is_finite = bool(finite) and held_out[-1] == finite[-1]
        return is_finite and finite[-1] < min(finite[:-1], default=math.inf)

    def add(self, loss: torch.Tensor, batch: Batch) -> None:
        """Take the summed loss of this rank's targets; it is not waited for."""
        if not self._losses and not len(self._known_losses):
            self._first_batch = batch.index
        self._losses.append(loss)
        self._num_targets.append(batch.num_targets)
        self.epoch = batch.epoch
        self.step += 1

    def finish(self) -> EpochMetrics:
        """Measure the epoch that its last batch was added to."""
        # The first wait for the device in this epoch.
        losses, num_targets = self._gather()
        seconds = self._seconds + time.perf_counter() - self._began_at
        metrics = EpochMetrics(
            epoch=self.epoch,
            step=self.step,
            perplexity=perplexity(float(losses.double().sum() / num_targets.sum())),
            tokens_per_second=float(num_targets.sum()) / seconds,
            held_out_perplexity=self._evaluate(),
        )
        if not math.isfinite(metrics.perplexity):
            warnings.warn(
                f"the perplexity of epoch {metrics.epoch} is {metrics.perplexity}: the training "
                "diverges; lower lr or max_grad_norm",
                stacklevel=3,
            )
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
        self._run.record_losses(
            StepLosses(
                step=self.step - len(losses) + 1,
                epoch=self.epoch,
                batch=self._first_batch,
                losses=(losses.double() / num_targets).tolist(),
            )
        )

    def close(self) -> None:
        """Write down the losses of an epoch that was broken off, and draw the plot."""
        self._record_losses()
        if self._run is None or not self.history:
            return
        try:
            save_figure(plot_perplexity(self.history), self._run.path / "perplexity")
        # Without a plot the run is whole all the same.
        except UsageError as error:
            _LOGGER.info("no plot: %s", error)
        # Whatever a drawing library fails with, the numbers are there.
        except Exception as error:  # noqa: BLE001
            reason = (isinstance(error, OSError) and error.strerror) or error
            warnings.warn(f"the plot could not be drawn: {reason}", stacklevel=3)

    def _evaluate(self) -> float | None:
        if self._held_out is None:
            return None
        # The first rank's, should machines differ in the last digit.
        evaluation = evaluate_confirmed(
            self._model, self._held_out, resets=self._resets, progress=False
        )
        return float(self._ranks.share(evaluation.perplexity))

    def state_dict(self) -> dict[str, Any]:
        """Return what is known of the running epoch, the same on every rank."""
        losses, num_targets = self._gather()
        return {
            "losses": losses,
            "num_targets": num_targets,
            "first_batch": self._first_batch,
            "seconds": self._seconds + time.perf_counter() - self._began_at,
        }

    def load_state_dict(
        self, state: dict[str, Any], *, history: list[EpochMetrics], epoch: int, step: int
    ) -> None:
        """Go on from a saved state, after a number of steps."""
        self._begin()
        self.history, self.epoch, self.step = history, epoch, step
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
