"""The run of a training: begun or opened again, and its checkpoints in time."""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenloom._io.atomic import as_path
from tokenloom._io.locks import held
from tokenloom.corpus.corpus import Corpus
from tokenloom.errors import ArgumentError, RunError, TokenloomError
from tokenloom.loading.distributed import Ranks
from tokenloom.training.checkpoint import Checkpoint
from tokenloom.training.metrics import EpochMetrics
from tokenloom.training.options import RunOptions
from tokenloom.training.run import Run, is_run
from tokenloom.training.settings import (
    bound_settings,
    check_kinds,
    check_resumable,
    check_same,
    check_unchanged,
)
from tokenloom.training.state import TrainingState

# With several ranks, the fewest steps between two looks at the first rank's clock.
_STEPS_PER_CLOCK = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRun:
    """A run that was begun or opened again.

    Attributes
    ----------
    run : Run or None
        None on all ranks but the first, and where there is no run.
    checkpoint : Checkpoint or None
        From which to resume; None for the beginning.
    history : sequence of EpochMetrics
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
) -> Iterator[OpenRun]:
    """Begin a run, or open it again at its newest checkpoint; all ranks do it together.

    While the block lasts no other process can open the run. An error of the
    first rank is raised on all ranks.

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
            msg = "resume=True needs run: name the folder of the run to resume"
            raise ArgumentError(msg)
        yield OpenRun()
        return
    mine = OpenRun()
    with contextlib.ExitStack() as locks:
        # The other ranks wait for a report if the first one refuses.
        with ranks.together():
            if ranks.is_first:
                path = as_path(path)
                if resume and is_run(path):
                    mine = _reopen(path, settings, locks)
                else:
                    mine = OpenRun(run=_begin(path, corpus, settings, locks))
        checkpoint, history = ranks.share((mine.checkpoint, mine.history))
        yield OpenRun(run=mine.run, checkpoint=checkpoint, history=history)


def _begin(
    path: Path, corpus: Corpus, settings: dict[str, Any], locks: contextlib.ExitStack
) -> Run:
    # Files that a killed process has left are removed only while no other process writes.
    # os.path returns False for a name that is too long; Path raises.
    is_left = os.path.isdir(path) and not is_run(path)  # noqa: PTH112
    if is_left:
        locks.enter_context(_held_alone(path))
    run = Run.create(path, corpus=corpus, settings=settings, again=is_left)
    if not is_left:
        locks.enter_context(_held_alone(run.path))
    return run


def _reopen(path: Path, settings: dict[str, Any], locks: contextlib.ExitStack) -> OpenRun:
    run = Run.open(path)
    locks.enter_context(_held_alone(run.path))
    check_resumable(run)
    check_kinds(run, ["num_epochs"])
    check_same(run.settings, settings)
    checkpoint = run.load_checkpoint()
    if checkpoint is not None:
        if checkpoint.training is None:
            msg = (
                f"the run {str(run.path)!r} cannot be resumed: an older release made it, whose "
                "checkpoints hold the model alone; train anew"
            )
            raise RunError(msg)
        check_unchanged(run, checkpoint.training.get("settings"))
    history = run.rewind(checkpoint, settings={**run.settings, **settings})
    return OpenRun(run=run, checkpoint=checkpoint, history=history)


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


class CheckpointSaver:
    """Loads the checkpoint of a run that is resumed, and saves new ones when they are due.

    Its methods are called between two updates, by all ranks together; the first one writes.

    Parameters
    ----------
    state : TrainingState
    opened : OpenRun
    options : RunOptions, optional
        When to save, and how many checkpoints stay; None for never.
    ranks : Ranks
    """

    def __init__(
        self, state: TrainingState, opened: OpenRun, *, options: RunOptions | None, ranks: Ranks
    ) -> None:
        self._state = state
        self._opened = opened
        self._options = options
        self._ranks = ranks
        self._saved_step: int | None = None
        self._saved_at = time.monotonic()
        # The step at which the first rank's clock was asked, the same on all ranks.
        self._asked_step = 0

    def begin(self) -> None:
        """Load the checkpoint, if there is one, else save the first one.

        Raises
        ------
        RunError
            The checkpoint is damaged.
        StateMismatchError
            The position is of another plan.
        """
        checkpoint = self._opened.checkpoint
        if checkpoint is None:
            self.save()
            return
        with self._ranks.together():
            try:
                self._state.load_state_dict(checkpoint.state_dict())
            except TokenloomError:
                raise
            # Loading a state into parts of PyTorch may raise any error.
            except Exception as error:
                msg = (
                    f"the checkpoint of step {checkpoint.step} cannot be used: "
                    f"{type(error).__name__}: {error}"
                )
                raise RunError(msg) from error
        self._saved_step = self._asked_step = checkpoint.step

    def save_if_due(self) -> None:
        """Save a checkpoint if it is time for one, or if the model is the best so far."""
        if self._options is None:
            return
        is_best = self._state.meter.is_best
        if is_best or self._is_due(self._options):
            self.save(is_best=is_best)

    def save(self, *, is_best: bool = False) -> None:
        """Save a checkpoint, unless this step has one."""
        step = self._state.meter.step
        if self._options is None or (self._saved_step == step and not is_best):
            return
        content, run = self._state.state_dict(), self._opened.run
        if run is not None:
            content["training"]["settings"] = bound_settings(run)
            run.save(Checkpoint(**content), keep=self._options.keep, is_best=is_best)
        self._saved_step, self._saved_at = step, time.monotonic()

    def _is_due(self, options: RunOptions) -> bool:
        step = self._state.meter.step
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
