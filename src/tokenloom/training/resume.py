"""Where a training stands: all that the rest of it depends on, taken and put back."""

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tokenloom._io.atomic import as_path
from tokenloom._io.locks import held
from tokenloom.corpus.corpus import Corpus
from tokenloom.errors import ArgumentError, RunError, TokenloomError
from tokenloom.loading.batch import Batch
from tokenloom.loading.distributed import Ranks
from tokenloom.loading.loader import Loader
from tokenloom.model.rnn import RNNModel, State
from tokenloom.training.checkpoint import Checkpoint
from tokenloom.training.meter import Epochs
from tokenloom.training.metrics import EpochMetrics
from tokenloom.training.optimizer import Updates
from tokenloom.training.options import RunOptions
from tokenloom.training.run import Run, is_run
from tokenloom.training.settings import (
    bound_settings,
    check_kinds,
    check_resumable,
    check_same,
    check_unchanged,
)

# With several ranks the first one's clock is asked after at least so many steps.
_STEPS_PER_CLOCK = 16


class Opened(NamedTuple):
    """A run that was begun or opened again.

    Attributes
    ----------
    run : Run or None
        None on all ranks but the first, and where there is no run.
    checkpoint : Checkpoint or None
        From which to go on; None for the beginning.
    history : list of EpochMetrics
        The epochs that were finished.
    """

    run: Run | None = None
    checkpoint: Checkpoint | None = None
    history: Sequence[EpochMetrics] = ()


@contextlib.contextmanager
def open_run(
    path: str | os.PathLike[str] | None,
    corpus: Corpus,
    settings: dict[str, Any],
    *,
    resume: bool,
    ranks: Ranks,
) -> Iterator[Opened]:
    """Begin a run, or open it again at its newest checkpoint; all ranks do it together.

    While the block lasts nobody else can do so. What the first rank refuses is
    raised on all of them.

    Raises
    ------
    ArgumentError
        There is no path to resume from.
    RunError
        The folder is in use or cannot be written, or the run cannot be resumed.
    StateMismatchError
        The run to resume is of another training; each difference is named.
    """
    if path is None:
        if resume:
            msg = "resume=True needs run: say the folder of the run to go on with"
            raise ArgumentError(msg)
        yield Opened()
        return
    run: Run | None = None
    found: Any = None
    with contextlib.ExitStack() as stack:
        # The others wait to hear of whatever the first one refuses.
        with ranks.together():
            if ranks.is_first:
                path = as_path(path)
                is_new = not (resume and is_run(path))
                # What a process left that was killed here is taken only while nobody writes.
                # os.path says no, where Path would raise, to a name that is too long.
                is_left = is_new and not is_run(path) and os.path.isdir(path)  # noqa: PTH112
                if is_left:
                    stack.enter_context(_held_alone(path))
                if is_new:
                    run = Run.create(path, corpus=corpus, settings=settings, again=is_left)
                else:
                    run = Run.open(path)
                if not is_left:
                    stack.enter_context(_held_alone(run.path))
                found = (None, ()) if is_new else _reopen(run, settings)
        found = ranks.share(found)
        yield Opened(run, *found)


@contextlib.contextmanager
def _held_alone(folder: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            # Whether a link may stand for the folder is decided later.
            stack.enter_context(held(Path(os.path.realpath(folder))))
        except BlockingIOError as error:
            msg = (
                f"the run's folder {str(folder)!r} is in use: another training writes to it; "
                "end that one, or wait for it"
            )
            raise RunError(msg) from error
        yield


def _reopen(run: Run, settings: dict[str, Any]) -> tuple[Checkpoint | None, list[EpochMetrics]]:
    """Return the newest checkpoint of a run, and the epochs that were finished before it."""
    check_resumable(run)
    check_kinds(run, ["num_epochs"])
    check_same(run.settings, settings)
    checkpoint = run.load_checkpoint()
    if checkpoint is not None and checkpoint.training is None:
        msg = (
            f"the run {str(run.path)!r} cannot be resumed: an older release made it, whose "
            "checkpoints hold the model alone; train anew"
        )
        raise RunError(msg)
    if checkpoint is not None and checkpoint.training is not None:
        check_unchanged(run, checkpoint.training.get("settings"))
    return checkpoint, run.rewind(checkpoint, settings={**run.settings, **settings})


class Snapshots:
    """Takes and writes the checkpoints of a training, and puts one back.

    Its methods are called between two updates, by all ranks together; the first one writes.

    Parameters
    ----------
    model : RNNModel
    loader : Loader
    updates : Updates
    epochs : Epochs
    ranks : Ranks
    run : Run, optional
        Where they are written; None on all ranks but the first.
    options : RunOptions, optional
        When, and how many stay; None for never.
    """

    def __init__(
        self,
        model: RNNModel,
        loader: Loader,
        updates: Updates,
        epochs: Epochs,
        *,
        ranks: Ranks,
        run: Run | None,
        options: RunOptions | None,
    ) -> None:
        self._model = model
        self._loader = loader
        self._updates = updates
        self._epochs = epochs
        self._ranks = ranks
        self._run = run
        self._options = options
        self._saved_step: int | None = None
        self._saved_at = time.monotonic()
        # The step at which the first rank's clock was asked, the same on all ranks.
        self._asked_step = 0
        self._is_done = False

    def save(self, state: State | None, *, is_best: bool = False) -> None:
        """Write a checkpoint, unless this step has one."""
        if self._options is None or (self._saved_step == self._epochs.step and not is_best):
            return
        checkpoint = self._take(state)
        if self._run is not None:
            self._run.save(checkpoint, keep=self._options.keep, is_best=is_best)
        self._saved_step, self._saved_at = self._epochs.step, time.monotonic()

    def save_if_due(self, state: State | None) -> None:
        """Write a checkpoint where it is time for one, or the model is the best so far.

        Not while batches wait for their update: their gradients are not saved.
        """
        if not self._updates.is_complete:
            return
        is_best = self._epochs.has_just_finished and self._epochs.is_best
        if self._options is not None and (is_best or self._is_due(self._options)):
            self.save(state, is_best=is_best)

    def begin(self, opened: Opened, *, seed: int) -> State | None:
        """Put back the checkpoint, if there is one, else write the first one.

        Returns the hidden state that the next batch begins with: that of this
        rank's rows.

        Raises
        ------
        RunError
            The checkpoint is damaged.
        StateMismatchError
            The position is of another plan.
        """
        self._model.trained_with = self._loader.windows.corpus.identity or self._model.trained_with
        if opened.checkpoint is None:
            self.save(None)
            return None
        with self._ranks.together():
            try:
                return self._put_back(opened.checkpoint, list(opened.history), seed=seed)
            except TokenloomError:
                raise
            # PyTorch's own parts check what they are given in any way, or not at all.
            except Exception as error:
                msg = (
                    f"the checkpoint of step {opened.checkpoint.step} cannot be used: "
                    f"{type(error).__name__}: {error}"
                )
                raise RunError(msg) from error

    @property
    def batches(self) -> Iterable[Batch]:
        """The batches that remain to be trained on."""
        return () if self._is_done else self._loader

    def _take(self, state: State | None) -> Checkpoint:
        carried = state if self._loader.plan.carries_state else None
        training = {
            "position": self._loader.state_dict(),
            "updates": self._updates.state_dict(),
            "epochs": self._epochs.state_dict(),
            "hidden": None if carried is None else _gather_rows(carried, self._ranks),
            "settings": None if self._run is None else bound_settings(self._run),
            "random": self._ranks.gather(_random_state(self._model.linear.weight.device)),
        }
        return Checkpoint.of(
            self._model, epoch=self._epochs.epoch, step=self._epochs.step, training=training
        )

    def _put_back(
        self, checkpoint: Checkpoint, history: list[EpochMetrics], *, seed: int
    ) -> State | None:
        training, ranks, loader = checkpoint.training or {}, self._ranks, self._loader
        checkpoint.load_into(self._model)
        loader.load_state_dict(training["position"])
        self._updates.load_state_dict(training["updates"])
        self._epochs.load_state_dict(
            training["epochs"], history=history, epoch=checkpoint.epoch, step=checkpoint.step
        )
        self._saved_step = self._asked_step = checkpoint.step
        # Behind the last batch of an iteration a loader stands before the next one.
        is_at_end = loader.num_epochs is not None and loader.remaining == len(loader)
        self._is_done = is_at_end and checkpoint.step > 0
        device, random = self._model.linear.weight.device, training["random"]
        if len(random) == ranks.world_size:
            _set_random_state(random[ranks.rank], device)
        else:
            # Other ranks draw other numbers, but from this step on always the same.
            torch.manual_seed(ranks.mix_seed(seed, checkpoint.step))
        if training["hidden"] is None:
            return None
        return _take_rows(training["hidden"], loader.windows.columns, device)

    def _is_due(self, options: RunOptions) -> bool:
        step = self._epochs.step
        if options.checkpoint_steps is not None:
            since = step - (self._saved_step or 0)
            if since >= options.checkpoint_steps:
                return True
        pause = 1 if self._ranks.world_size == 1 else _STEPS_PER_CLOCK
        if options.checkpoint_seconds is None or step - self._asked_step < pause:
            return False
        self._asked_step = step
        is_old = time.monotonic() - self._saved_at > options.checkpoint_seconds
        return bool(self._ranks.share(is_old))


def _gather_rows(state: State, ranks: Ranks) -> list[torch.Tensor]:
    """Return the parts of a hidden state, shape (num_states, batch_size, size), on the CPU."""
    parts = state if isinstance(state, tuple) else (state,)
    mine = [part.detach().cpu() for part in parts]
    return [torch.cat(rows, dim=1) for rows in zip(*ranks.gather(mine), strict=True)]


def _take_rows(parts: list[torch.Tensor], rows: range, device: torch.device) -> State:
    """Return some rows of what `_gather_rows` returned."""
    mine = tuple(part[:, rows.start : rows.stop].contiguous().to(device) for part in parts)
    return mine if len(mine) > 1 else mine[0]


def _random_state(device: torch.device) -> dict[str, Any]:
    is_cuda = device.type == "cuda"
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if is_cuda else None,
    }


def _set_random_state(state: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
