"""The textbook's training loop over a stream of batches."""

import logging
import math
import os
import time
import warnings
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from tokenloom.batch import Batch
from tokenloom.checkpoint import describe_model
from tokenloom.corpus import Corpus
from tokenloom.devices import choose_device
from tokenloom.errors import ArgumentError, UsageError
from tokenloom.evaluation import check_vocab_size, evaluate, perplexity
from tokenloom.loader import Loader
from tokenloom.losses import summed_loss
from tokenloom.model import RNNModel, State, detach
from tokenloom.plans import ORDER_VERSION
from tokenloom.plotting import plot_perplexity, save_figure
from tokenloom.runs import EpochMetrics, Run, StepLosses

_LOGGER = logging.getLogger(__name__)

_CHECKPOINT_SECONDS = 30.0
_SETTINGS_VERSION = 2


def train(  # noqa: PLR0913  a flat recipe is easier to read than a nested one
    model: RNNModel,
    loader: Loader,
    *,
    lr: float = 1.0,
    max_grad_norm: float = 1.0,
    held_out: Corpus | None = None,
    run: str | os.PathLike[str] | None = None,
    device: torch.device | str | int | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> list[EpochMetrics]:
    """Train a model on the loader's epochs and return what was measured.

    Plain stochastic gradient descent on the mean cross-entropy of each batch.
    The hidden state is carried from batch to batch and detached where
    ``loader.plan.carries_state``, and begins at zero everywhere else: also
    where documents start, if the corpus knows and the windows were not made
    with ``resets=False``.

    Parameters
    ----------
    model : RNNModel
        Trained in place, on the device.
    loader : Loader
        Its ``num_epochs`` says how long to train.
    lr : float
        Learning rate, per batch.
    max_grad_norm : float
        A longer gradient is scaled to this Euclidean norm.
    held_out : Corpus, optional
        Text that is not trained on; its perplexity is measured per epoch.
    run : path, optional
        A new folder for settings, metrics, checkpoint and plot; see
        `tokenloom.runs.Run`.
    device : torch.device, str or int, optional
        By default the loader's, else the best at hand: cuda, mps, cpu.
    seed : int
        Of PyTorch's global generators, which dropout draws from. The weights
        that the model begins with are its maker's.
    progress : bool, optional
        Whether to show a bar on stderr; by default where that is a terminal.

    Returns
    -------
    list of EpochMetrics
        One per epoch that was finished.

    Raises
    ------
    ArgumentError
        A value is out of range, or the device is not at hand.
    KeyboardInterrupt
        Ctrl-C; the run's checkpoint, metrics and plot are written first.
    RunError
        The run's folder is in use or cannot be written.
    """
    _check(model, loader, held_out)
    _check_numbers(lr=lr, max_grad_norm=max_grad_norm, seed=seed)
    place = choose_device(loader.device if device is None else device)
    folder = None
    if run is not None:
        recipe = {"lr": lr, "max_grad_norm": max_grad_norm, "seed": seed}
        settings = _describe(model, loader, held_out) | recipe
        folder = Run.create(run, corpus=loader.windows.corpus, settings=settings)
    torch.manual_seed(seed)
    model.to(place).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    epochs = _Epochs(model, held_out=held_out, run=folder)
    carries_state, num_batches = loader.plan.carries_state, loader.plan.num_batches
    state: State | None = None
    with _progress_bar(loader, progress=progress) as bar:
        try:
            for batch in loader:
                begins = batch.index == 0 or not carries_state
                state = None if begins or state is None else detach(state)
                loss, state = _step(model, optimizer, batch, state, max_grad_norm)
                epochs.add(loss, batch)
                bar.update()
                if batch.index + 1 == num_batches:
                    bar.set_postfix_str(_summary(epochs.finish()))
        finally:
            epochs.close()
    return epochs.history


def _step(
    model: RNNModel,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    state: State | None,
    max_grad_norm: float,
) -> tuple[torch.Tensor, State]:
    loss, state = summed_loss(model, batch.to(model.linear.weight.device), state)
    loss = loss / batch.num_targets
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # PyTorch leaves it unannotated
    nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
    optimizer.step()
    return loss.detach(), state


class _Epochs:
    """Adds up the losses of the running epoch, and writes down finished ones."""

    def __init__(self, model: RNNModel, *, held_out: Corpus | None, run: Run | None) -> None:
        self.history: list[EpochMetrics] = []
        self._model = model
        self._held_out = held_out
        self._run = run
        self._epoch = 0
        self._step = 0
        self._first_batch = 0
        self._saved_at = time.monotonic()
        self._begin()

    def _begin(self) -> None:
        self._losses: list[torch.Tensor] = []
        self._num_targets: list[int] = []
        self._began_at = time.perf_counter()

    def add(self, loss: torch.Tensor, batch: Batch) -> None:
        """Take the mean loss of a batch; it is not waited for."""
        if not self._losses:
            self._first_batch = batch.index
        self._losses.append(loss)
        self._num_targets.append(batch.num_targets)
        self._epoch = batch.epoch
        self._step += 1

    def finish(self) -> EpochMetrics:
        """Measure the epoch that its last batch was added to."""
        weights = torch.tensor(self._num_targets, dtype=torch.float64)
        # The first wait for the device in this epoch.
        losses = torch.stack(self._losses).cpu().double()
        seconds = time.perf_counter() - self._began_at
        held_out = None
        if self._held_out is not None:
            held_out = evaluate(self._model, self._held_out, progress=False).perplexity
        metrics = EpochMetrics(
            epoch=self._epoch,
            step=self._step,
            perplexity=perplexity(float((losses * weights).sum() / weights.sum())),
            tokens_per_second=float(weights.sum()) / seconds,
            held_out_perplexity=held_out,
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
            self._record_losses(self._run, losses)
            if time.monotonic() - self._saved_at > _CHECKPOINT_SECONDS:
                self._save(self._run)
        self._begin()
        return metrics

    def close(self) -> None:
        """Leave a checkpoint and the plot, also after an interruption."""
        if self._run is None:
            return
        self._save(self._run)
        if self._losses:
            # Of an epoch that was broken off.
            self._record_losses(self._run, torch.stack(self._losses).cpu())
        if self.history:
            try:
                save_figure(plot_perplexity(self.history), self._run.path / "perplexity")
            # Without a plot the run is whole all the same.
            except (UsageError, OSError) as error:
                _LOGGER.info("no plot: %s", error)

    def _record_losses(self, run: Run, losses: torch.Tensor) -> None:
        record = StepLosses(
            step=self._step - len(losses) + 1,
            epoch=self._epoch,
            batch=self._first_batch,
            losses=losses.tolist(),
        )
        self._losses = []
        run.record_losses(record)

    def _save(self, run: Run) -> None:
        run.save(self._model, epoch=self._epoch, step=self._step)
        self._saved_at = time.monotonic()


def _progress_bar(loader: Loader, *, progress: bool | None) -> "tqdm[Any]":
    return tqdm(
        total=None if loader.num_epochs is None else loader.remaining,
        unit="batch",
        # tqdm takes None for "only where stderr is a terminal".
        disable=None if progress is None else not progress,
    )


def _summary(metrics: EpochMetrics) -> str:
    return f"epoch {metrics.epoch + 1}, perplexity {metrics.perplexity:.2f}"


def _describe(model: RNNModel, loader: Loader, held_out: Corpus | None) -> dict[str, Any]:
    plan, windows = loader.plan, loader.windows
    return {
        "version": _SETTINGS_VERSION,
        "corpus": windows.corpus.name,
        "num_tokens": plan.num_tokens,
        "corpus_hash": windows.corpus.hash,
        "num_held_out_tokens": 0 if held_out is None else len(held_out),
        "order": plan.kind,
        "batch_size": plan.batch_size,
        "seq_len": plan.seq_len,
        "tail": plan.tail,
        "resets": windows.documents is not None,
        "order_seed": plan.seed,
        "order_version": ORDER_VERSION,
        "rank": windows.shard.rank,
        "world_size": windows.shard.world_size,
        "num_epochs": loader.num_epochs,
        "model": describe_model(model),
    }


def _check(model: RNNModel, loader: Loader, held_out: Corpus | None) -> None:
    for name, value, kind, cure in (
        ("model", model, RNNModel, "make one with RNNModel(rnn_layer, vocab_size)"),
        ("loader", loader, Loader, "wrap the windows in Loader(windows, num_epochs=...)"),
        ("held_out", held_out, Corpus | None, "give the corpus itself"),
    ):
        if not isinstance(value, kind):
            msg = f"{name} cannot be of the type {type(value).__name__}: {cure}"
            raise ArgumentError(msg)
    for corpus in (loader.windows.corpus, held_out):
        if corpus is not None:
            check_vocab_size(model, corpus)
    if held_out is not None and len(held_out) < 2:
        msg = f"held_out must hold at least 2 tokens, got {len(held_out)}"
        raise ArgumentError(msg)
    if model.num_directions > 1:
        warnings.warn(
            "a model with two directions sees the future: it reads the very tokens "
            "that it is to predict, so its perplexity is no measure of prediction "
            "and the text that it generates is poor",
            stacklevel=3,
        )


def _check_numbers(*, lr: float, max_grad_norm: float, seed: int) -> None:
    for name, value in (("lr", lr), ("max_grad_norm", max_grad_norm)):
        if not 0 < value < math.inf:
            msg = f"{name} must be in (0, inf), got {value}"
            raise ArgumentError(msg)
    if not 0 <= seed < 1 << 64:
        msg = f"seed must be in [0, 2**64), got {seed}"
        raise ArgumentError(msg)
