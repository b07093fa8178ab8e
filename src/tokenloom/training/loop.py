"""The textbook's training loop over a stream of batches."""

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from tokenloom._checks import as_flag, as_flag_or_none, require_type
from tokenloom._io.interrupts import Interrupt
from tokenloom._wording import show
from tokenloom.corpus.corpus import Corpus
from tokenloom.errors import ArgumentError, UsageError
from tokenloom.loading.device import choose_device
from tokenloom.loading.distributed import Ranks
from tokenloom.loading.loader import Loader
from tokenloom.model.evaluation import check_ids, check_learnt
from tokenloom.model.rnn import RNNModel
from tokenloom.plan.packed import PackedOrder
from tokenloom.training.meter import Meter
from tokenloom.training.metrics import EpochMetrics
from tokenloom.training.optimizer import ScheduledOptimizer
from tokenloom.training.options import Recipe, RunOptions, TrainingOptions
from tokenloom.training.progress import Progress
from tokenloom.training.resume import CheckpointSaver, OpenRun, open_run
from tokenloom.training.settings import confirm_ranks, describe_training
from tokenloom.training.state import TrainingState

# The advice to a rank that has lost contact with another one.
_CURE = "resume from the last checkpoint"


def train(  # noqa: PLR0913  a flat recipe is easier to read than a nested one
    model: RNNModel,
    loader: Loader,
    *,
    lr: float = 1.0,
    max_grad_norm: float = 1.0,
    options: TrainingOptions | None = None,
    held_out: Corpus | Mapping[str, Corpus] | None = None,
    run: str | os.PathLike[str] | None = None,
    resume: bool = False,
    run_options: RunOptions | None = None,
    device: torch.device | str | int | None = None,
    seed: int = 0,
    progress: bool | None = None,
    on_start: Callable[[], None] | None = None,
) -> list[EpochMetrics]:
    """Train a model on the loader's epochs and return what was measured.

    Plain stochastic gradient descent on the mean cross-entropy of each batch,
    unless ``options`` say otherwise. The hidden state is carried from batch to
    batch and detached where ``loader.carries_state``, and begins at zero
    everywhere else. It is also zero where documents start, if the corpus knows that
    and the windows were not made with ``resets=False``.

    Where `torch.distributed` has a group of several processes, each trains on
    its rows of every batch, and the weights stay the same on all of them.

    Parameters
    ----------
    model : RNNModel
        Trained in place, on the device.
    loader : Loader
        Its ``num_epochs`` says how long to train.
    lr : float
        Learning rate, per update.
    max_grad_norm : float
        A longer gradient is scaled to this Euclidean norm.
    options : TrainingOptions, optional
        Optimiser, schedule, batches per update, precision.
    held_out : Corpus or mapping of str to Corpus, optional
        Text that is not trained on; its perplexity is measured per epoch. With several
        texts, such as those of the parts of a mixture, that of each is measured too.
    run : path, optional
        A new folder for settings, metrics, checkpoints and plot; see
        `tokenloom.training.run.Run`.
    resume : bool
        Whether to resume from the newest checkpoint in ``run``, or to begin
        there if there is none. The number of workers and of ranks may differ,
        and ``num_epochs`` may be higher where the schedule is constant.
    run_options : RunOptions, optional
        When checkpoints are saved, how many stay, when text is shown.
    device : torch.device, str or int, optional
        By default the loader's, else the best at hand: cuda, mps, cpu.
    seed : int
        Of PyTorch's global generators, which dropout draws from. The weights
        that the model begins with are its maker's.
    progress : bool, optional
        Whether to show a bar on stderr; by default where that is a terminal, and
        in a notebook. True shows one line per epoch elsewhere, as in a log.
    on_start : callable, optional
        Called without arguments before the first step, after all checks.

    Returns
    -------
    list of EpochMetrics
        One per epoch that was finished, also before a resume.

    Raises
    ------
    ArgumentError
        A value is out of range, the device is not at hand, or the schedule falls
        and the loader is endless.
    KeyboardInterrupt
        Ctrl-C; all ranks finish the same step, and the checkpoint, metrics and plot
        of the run are written first.
    RunError
        The run's folder is in use, cannot be written, or cannot be resumed.
    StateMismatchError
        The run to resume is of another training; each difference is named.
    SystemExit
        With a run: SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 or SIGXCPU was received, and the
        program has no handler of its own. The same is done as for Ctrl-C; the exit
        code is 128 + the number of the signal.
    UsageError
        The loader reads another part of the batch than this process's, or the
        ranks do not train on the same stream; each difference is named. Or
        ``on_start`` skipped batches.
    WorkerError
        Another rank died or does not answer.
    """
    ranks = Ranks.detect()
    with ranks.together():
        resume, progress = as_flag("resume", resume), as_flag_or_none("progress", progress)
        options, run_options = _take_options(options, run_options)
        recipe = Recipe(lr=lr, max_grad_norm=max_grad_norm, seed=seed, options=options)
        _check(model, loader, held_out, recipe, on_start)
        device = choose_device(loader.device if device is None else device)
        bar = Progress(model, loader, options=run_options, progress=progress, ranks=ranks)
        settings = describe_training(
            model, loader, held_out=held_out, recipe=recipe, run_options=run_options, ranks=ranks
        )
        facts = {**settings, "run": run is not None, "resume": resume, "device": device.type}
    confirm_ranks(ranks, facts, model, loader, held_out=held_out)
    torch.manual_seed(ranks.mix_seed(recipe.seed))
    corpus = loader.windows.corpus
    opening = open_run(run, corpus, settings, resume=resume, ranks=ranks)
    interrupt = Interrupt(saves=run is not None, num_ranks=ranks.world_size)
    with ranks.watched(cure=_CURE), opening as opened, interrupt:
        model.to(device).train()
        model.trained_with = corpus.identity or model.trained_with
        model.end_id = model.end_id if corpus.end_id is None else corpus.end_id
        state = _make_state(
            model, loader, held_out, recipe=recipe, opened=opened, ranks=ranks, interrupt=interrupt
        )
        saver = CheckpointSaver(
            state, opened, options=None if run is None else run_options, ranks=ranks
        )
        saver.begin()
        if on_start is not None:
            _call(on_start, loader)
        with bar:
            _train_on(state, saver=saver, bar=bar, interrupt=interrupt)
            saver.save()
            state.meter.close()
        state.optimizer.share_signals()
    interrupt.end()
    return state.meter.history


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Training:
    """A training that is ready to begin or to be resumed: the arguments of `train`, as one value.

    Each attribute is the argument of that name.
    """

    model: RNNModel
    loader: Loader
    lr: float = 1.0
    max_grad_norm: float = 1.0
    options: TrainingOptions = field(default_factory=TrainingOptions)
    held_out: Corpus | Mapping[str, Corpus] | None = None
    run: str | os.PathLike[str] | None = None
    resume: bool = False
    run_options: RunOptions = field(default_factory=RunOptions)
    device: torch.device | str | int | None = None
    seed: int = 0

    def train(
        self, *, progress: bool | None = None, on_start: Callable[[], None] | None = None
    ) -> list[EpochMetrics]:
        """Call `train` with these arguments, and return what it returns."""
        return train(
            self.model,
            self.loader,
            lr=self.lr,
            max_grad_norm=self.max_grad_norm,
            options=self.options,
            held_out=self.held_out,
            run=self.run,
            resume=self.resume,
            run_options=self.run_options,
            device=self.device,
            seed=self.seed,
            progress=progress,
            on_start=on_start,
        )


def _make_state(
    model: RNNModel,
    loader: Loader,
    held_out: Corpus | Mapping[str, Corpus] | None,
    *,
    recipe: Recipe,
    opened: OpenRun,
    ranks: Ranks,
    interrupt: Interrupt,
) -> TrainingState:
    """Return the state of a training that begins, or resumes from what a run holds."""
    optimizer = ScheduledOptimizer(model, loader, recipe=recipe, ranks=ranks, interrupt=interrupt)
    meter = Meter(
        model,
        loader,
        held_out,
        across_documents=recipe.options.across_documents,
        ranks=ranks,
        run=opened.run,
        history=opened.history,
    )
    return TrainingState(
        model, loader, optimizer=optimizer, meter=meter, ranks=ranks, seed=recipe.seed
    )


def _train_on(
    state: TrainingState, *, saver: CheckpointSaver, bar: Progress, interrupt: Interrupt
) -> None:
    """Train on the batches that remain, up to the last one or until a signal is received."""
    loader, optimizer, meter = state.loader, state.optimizer, state.meter
    for whole in state.batches:
        batch = whole if optimizer.across_documents else whole.within_documents()
        is_carried = loader.carries_state and batch.index > 0
        loss, state.hidden = optimizer.step(batch, state.hidden if is_carried else None)
        meter.add(loss, batch)
        bar.update()
        if batch.index + 1 == loader.num_batches:
            bar.show(meter.finish())
        if optimizer.is_complete:
            saver.save_if_due()
            if interrupt.number is not None:
                return


def _call(on_start: Callable[[], None], loader: Loader) -> None:
    """Call ``on_start``, and check that the loader still is where the training resumes."""
    num_skipped = loader.num_skipped
    on_start()
    if loader.num_skipped != num_skipped:
        msg = (
            "on_start must not skip batches of a training that is about to begin, since its "
            "records number them one after another: skip in your own training loop"
        )
        raise UsageError(msg)


def _check(
    model: RNNModel,
    loader: Loader,
    held_out: Corpus | Mapping[str, Corpus] | None,
    recipe: Recipe,
    on_start: Callable[[], None] | None,
) -> None:
    for name, value, kind, cure in (
        ("model", model, RNNModel, "make one with RNNModel(rnn_layer, vocab_size)"),
        ("loader", loader, Loader, "wrap the windows in Loader(windows, num_epochs=...)"),
        ("held_out", held_out, Corpus | Mapping | None, "give the corpus itself"),
    ):
        if not isinstance(value, kind):
            msg = f"{name} cannot be of the type {type(value).__name__}: {cure}"
            raise ArgumentError(msg)
    if on_start is not None and not callable(on_start):
        msg = f"on_start must be a function without parameters, got {show(on_start)}"
        raise ArgumentError(msg)
    texts = _list_held_out(held_out)
    for text in texts:
        _check_ids(model, loader, text, across_documents=recipe.options.across_documents)
        if text is not None and len(text) < 2:
            msg = f"held_out must hold at least 2 tokens, got {len(text)}"
            raise ArgumentError(msg)
    recipe.options.check_end(loader.num_epochs)
    for text in texts:
        _check_documents(loader, text, recipe.options)
    if model.num_directions > 1:
        warnings.warn(
            "a model with two directions sees the future: it reads the very tokens "
            "that it is to predict, so its perplexity is no measure of prediction "
            "and the text that it generates is poor",
            stacklevel=3,
        )


def _list_held_out(held_out: Corpus | Mapping[Any, Any] | None) -> list[Corpus | None]:
    """Return the held-out texts, or None alone where there is none."""
    if not isinstance(held_out, Mapping):
        return [held_out]
    for name, text in held_out.items():
        if not isinstance(name, str) or not isinstance(text, Corpus):
            msg = (
                "held_out must be a Corpus, or a dict of corpora by their names, got "
                f"{show(text)} for {show(name)}"
            )
            raise ArgumentError(msg)
    return [*held_out.values()] or [None]


def _check_documents(loader: Loader, held_out: Corpus | None, options: TrainingOptions) -> None:
    """Check that it is known where documents start, if no loss is to cross them."""
    if options.across_documents:
        return
    corpora = [loader.windows.corpus, *([] if held_out is None else [held_out])]
    if missing := [corpus.name for corpus in corpora if corpus.document_offsets is None]:
        msg = (
            f"across_documents=False needs documents, and {missing[0]} has none: leave it out, or "
            "give a corpus that has some"
        )
        raise ArgumentError(msg)
    if loader.windows.documents is None:
        msg = (
            "across_documents=False and resets=False exclude each other: the state must not cross "
            "documents where no loss does"
        )
        raise ArgumentError(msg)


def _take_options(
    options: TrainingOptions | None, run_options: RunOptions | None
) -> tuple[TrainingOptions, RunOptions]:
    require_type("options", options, TrainingOptions | None, "TrainingOptions(...) or None")
    require_type("run_options", run_options, RunOptions | None, "RunOptions(...) or None")
    return options or TrainingOptions(), run_options or RunOptions()


def _check_ids(
    model: RNNModel, loader: Loader, held_out: Corpus | None, *, across_documents: bool
) -> None:
    """Check that the ids of both texts mean what the model takes them for, and are learnt."""
    corpus, is_packed = loader.windows.corpus, loader.plan.kind == PackedOrder.kind
    check_ids(model, corpus)
    # Packed documents do not see each other, so nothing predicts the first token of one.
    check_learnt(corpus, across_documents=across_documents and not is_packed)
    if held_out is None:
        return
    check_ids(model, held_out)
    check_learnt(held_out, across_documents=across_documents)
    if held_out.identity is not None and held_out.identity.differs(corpus.identity):
        msg = (
            f"the ids of the held-out text must be of the tokenizer of the training text "
            f"({corpus.identity}), got another ({held_out.identity}): encode it with that one"
        )
        raise ArgumentError(msg)
