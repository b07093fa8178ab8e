"""A training as the command line tells it: a new one, or one to go on with."""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tokenloom._checks import as_integer
from tokenloom._wording import count, show
from tokenloom.cli.options import load_corpus, load_split, make_windows
from tokenloom.corpus.corpus import Corpus
from tokenloom.errors import ArgumentError, RunError
from tokenloom.hub.load import VALID, find_store
from tokenloom.loading.dataset import Windows
from tokenloom.loading.device import choose_device
from tokenloom.loading.distributed import Ranks, is_restarted
from tokenloom.loading.loader import Loader
from tokenloom.loading.shard import Shard, read_number
from tokenloom.model.rnn import RNNModel
from tokenloom.plan.seeds import torch_seed
from tokenloom.store.reader import read_store
from tokenloom.training.checkpoint import build_model
from tokenloom.training.options import RunOptions, TrainingOptions
from tokenloom.training.reopen import reopen_corpora, reopen_windows
from tokenloom.training.run import Run
from tokenloom.training.settings import check_kinds, check_resumable

_LAYERS: dict[str, Any] = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM, "rnn": torch.nn.RNN}

# What may be said beside --resume: none of it shapes the weights, but for more epochs.
_FREE = {
    *("resume", "workers", "threads", "epochs", "device", "resident", "encoding", "offline"),
    *("checkpoint_steps", "checkpoint_seconds", "keep", "sample_every", "prompt", "timeout"),
    *("json", "quiet"),
}
_RUN_OPTIONS = {
    "checkpoint_steps": "checkpoint_steps",
    "checkpoint_seconds": "checkpoint_seconds",
    "keep": "keep",
    "sample_every": "sample_epochs",
    "prompt": "sample_prompt",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What `tokenloom.train` is called with.

    Attributes
    ----------
    corpus : Corpus
        Where the tokenizer and the name are.
    model : RNNModel
    loader : Loader
    recipe : dict
        Further arguments, by name.
    run : Path
    """

    corpus: Corpus
    model: RNNModel
    loader: Loader
    recipe: dict[str, Any]
    run: Path


def make_job(arguments: argparse.Namespace, ranks: Ranks) -> Job:
    """Return the training that the arguments of ``tokenloom train`` tell of.

    Raises
    ------
    ArgumentError, CorpusError, RunError, StoreError
        An argument, a text or a run cannot be used.
    """
    # A fixed number, since sums in another order round in another way: what is
    # trained does not depend on the number of cores.
    torch.set_num_threads(arguments.threads)
    shard = Shard(rank=ranks.rank, world_size=ranks.world_size)
    if arguments.resume is not None:
        return _go_on(arguments, Run.open(arguments.resume), shard)
    corpus = load_corpus(arguments)
    train, held_out = _hold_out(arguments, corpus)
    resets = False if arguments.across_documents else None
    windows = make_windows(arguments, train, shard=shard, resets=resets)
    folder = ranks.share(arguments.run or str(_new_folder(corpus.name)))
    return Job(
        corpus=corpus,
        model=_build_model(arguments, corpus),
        loader=_make_loader(arguments, windows, num_epochs=arguments.epochs),
        recipe={
            "lr": arguments.lr,
            "max_grad_norm": arguments.max_grad_norm,
            "seed": arguments.seed,
            "options": _training_options(arguments),
            "run_options": _run_options(arguments, RunOptions()),
            "held_out": held_out,
            "resume": is_restarted(),
        },
        run=Path(folder),
    )


def _hold_out(arguments: argparse.Namespace, corpus: Corpus) -> tuple[Corpus, Corpus | None]:
    """Return the tokens to train on, and those to measure on."""
    wanted = arguments.held_out
    store = find_store(arguments.corpus)
    if store is not None and "held_out" not in arguments.given:
        splits = read_store(store.path).manifest.splits
        # What is trained on may be this very split, or all of the store.
        is_apart = VALID in splits and not corpus.num_shared(load_split(arguments, corpus, VALID))
        wanted = VALID if is_apart else wanted
    if not isinstance(wanted, str):
        return corpus.hold_out(wanted, max_tokens=arguments.max_tokens)
    held_out = load_split(arguments, corpus, wanted)
    train = corpus.first(arguments.max_tokens)
    if num_shared := train.num_shared(held_out):
        msg = (
            f"the held-out text must not be trained on: {count(num_shared, 'token')} of "
            f"{held_out.name} lie in {corpus.name} too: name another split with --held-out"
        )
        raise ArgumentError(msg)
    return train, held_out


def _go_on(arguments: argparse.Namespace, run: Run, shard: Shard) -> Job:
    """Return the training of a run, as its settings tell it."""
    settings, given = run.settings, arguments.given
    wrong = sorted(given - _FREE)
    if wrong:
        names = ", ".join(
            "CORPUS" if name == "corpus" else "--" + name.replace("_", "-") for name in wrong
        )
        msg = f"the settings of the run say how to go on: leave out {names} beside --resume"
        raise ArgumentError(msg)
    check_resumable(run)
    check_kinds(run)
    if "threads" not in given:
        num_threads = as_integer("num_threads", settings["num_threads"], start=1, stop=1 << 31)
        torch.set_num_threads(num_threads)
    corpus, held_out = reopen_corpora(run, encoding=arguments.encoding)
    windows = reopen_windows(run, corpus, shard=shard)
    windows.set_epoch(settings["first_epoch"])
    num_epochs = arguments.epochs if "epochs" in given else settings["num_epochs"]
    if num_epochs is None:
        msg = f"the run {str(run.path)!r} has no last epoch: resume it in the program that began it"
        raise RunError(msg)
    torch.manual_seed(torch_seed(as_integer("seed", settings["seed"], stop=1 << 64)))
    options = {name: settings[name] for name in TrainingOptions().describe()}
    return Job(
        corpus=corpus,
        model=build_model(settings["model"]),
        loader=_make_loader(arguments, windows, num_epochs=num_epochs),
        recipe={
            **{name: settings[name] for name in ("lr", "max_grad_norm", "seed")},
            "options": TrainingOptions(**options),
            "run_options": _run_options(arguments, _saved_options(run)),
            "held_out": held_out,
            "resume": True,
        },
        run=run.path,
    )


def _make_loader(arguments: argparse.Namespace, windows: Windows, *, num_epochs: int) -> Loader:
    return Loader(
        windows,
        num_workers=arguments.workers,
        num_epochs=num_epochs,
        device=choose_device(arguments.device) if arguments.resident else None,
        resident=arguments.resident,
    )


def _training_options(arguments: argparse.Namespace) -> TrainingOptions:
    return TrainingOptions(
        optimizer=arguments.optimizer,
        schedule=arguments.schedule,
        warmup_updates=arguments.warmup,
        batches_per_update=arguments.accumulate,
        precision=arguments.precision,
    )


def _run_options(arguments: argparse.Namespace, saved: RunOptions) -> RunOptions:
    """Return the saved options, with those instead that were typed."""
    typed = {
        option: getattr(arguments, name)
        for name, option in _RUN_OPTIONS.items()
        if name in arguments.given
    }
    return RunOptions(**{**saved.describe(), **typed})


def _saved_options(run: Run) -> RunOptions:
    saved = run.settings["run_options"]
    try:
        return RunOptions(**saved)
    except TypeError as error:
        msg = f"the settings of {str(run.path)!r} are damaged: run_options cannot be {show(saved)}"
        raise RunError(msg) from error


def _build_model(arguments: argparse.Namespace, corpus: Corpus) -> RNNModel:
    torch.manual_seed(torch_seed(arguments.seed))
    # More would take for ever to be made; a checkpoint holds no more.
    num_layers = as_integer("layers", arguments.layers, start=1, stop=1 << 12)
    try:
        layer = _LAYERS[arguments.model](
            corpus.vocab_size,
            arguments.hidden,
            num_layers=num_layers,
            bidirectional=arguments.bidirectional,
        )
    except RuntimeError as error:
        msg = (
            f"a model of --hidden {arguments.hidden} and --layers {arguments.layers} must fit into "
            f"the memory, and does not: lower one of them ({error})"
        )
        raise ArgumentError(msg) from error
    return RNNModel(layer, corpus.vocab_size)


def _new_folder(corpus_name: str) -> Path:
    """Return a folder that does not exist yet."""
    if read_number("TORCHELASTIC_MAX_RESTARTS", default=0) > 0:
        msg = "torchrun --max-restarts needs --run: a restart goes on in the folder of that name"
        raise ArgumentError(msg)
    path = Path(corpus_name)
    if path.exists():
        stem = path.stem
    else:
        store = find_store(path)
        stem = f"{Path(store.path).stem}-{store.split}" if store else corpus_name.replace("/", "-")
    name = f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    candidates = (Path("runs", name + suffix) for suffix in ("", *(f"-{n}" for n in range(2, 100))))
    return next(path for path in candidates if not path.exists())
