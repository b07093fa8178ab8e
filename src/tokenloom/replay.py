"""What the model of a run saw: the batch of a step, read again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tokenloom.catalogue import find_entry
from tokenloom.corpus import Corpus
from tokenloom.errors import ArgumentError, CorpusError, RunError, StoreError
from tokenloom.inspection import describe_batch
from tokenloom.plans import order_version
from tokenloom.records import StepLosses
from tokenloom.rereading import as_measured, is_apart, read_as
from tokenloom.runs import Run
from tokenloom.settings import WINDOW_SETTINGS, check_kinds
from tokenloom.sharding import Shard
from tokenloom.spikes import NUM_BEFORE, NUM_DEVIATIONS, find_spikes
from tokenloom.windows import RandomWindows, SequentialWindows, Windows
from tokenloom.wording import count

# What the settings hold since version 2.
_NEEDED = ("corpus_hash", "order_version", "rank", "world_size")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step of a training.

    Attributes
    ----------
    step : int
        Which one, counted from 1 over the whole run.
    epoch, batch : int
        What the model was trained on, both from 0.
    loss : float
        Of the batch before the step, in nats per token; NaN if not finite.
    """

    step: int
    epoch: int
    batch: int
    loss: float


def find_step(run: Run, step: int) -> Step:
    """Return which batch a step was, and its loss.

    Raises
    ------
    ArgumentError
        The run has no such step.
    RunError
        The run's losses are missing or damaged.
    """
    return _find(_records(run), step)


def reopen_windows(
    run: Run, corpus: Corpus | None = None, *, encoding: str = "utf-8", shard: Shard | None = None
) -> Windows:
    """Return the windows that a run was trained on.

    Parameters
    ----------
    run : Run
    corpus : Corpus, optional
        The tokens that the run was trained on. By default the corpus is loaded
        by the name or path in the settings, with the run's tokenizer, and
        its first tokens are taken, as many as the run was trained on.
    encoding : str
        How a text file is encoded.
    shard : Shard, optional
        Which part of each batch to read; by default that of the training.

    Raises
    ------
    RunError
        An older release made the run, its text is not at hand, or the text at
        hand is another one.
    """
    settings = run.settings
    _check_settings(run)
    if corpus is None:
        corpus = _load(run, settings["corpus"], encoding).section(0, settings["num_tokens"])
    _check_corpus(run, corpus)
    kind = RandomWindows if settings["order"] == "random" else SequentialWindows
    return kind(
        corpus,
        batch_size=settings["batch_size"],
        seq_len=settings["seq_len"],
        seed=settings["order_seed"],
        tail=settings["tail"],
        resets=None if settings.get("resets", True) else False,
        shard=shard or Shard(rank=settings["rank"], world_size=settings["world_size"]),
    )


def reopen_corpora(run: Run, *, encoding: str = "utf-8") -> tuple[Corpus, Corpus | None]:
    """Return the training text of a run, and the text behind it, which it held out.

    They are loaded by the names or paths in the settings, with the run's
    tokenizer: as many tokens from the first one on as the run was trained on,
    then as many as it held out, or those of the split that it held out; or
    None for none.

    Raises
    ------
    RunError
        An older release made the run, or its text is not at hand.
    """
    _check_settings(run)
    check_kinds(run, ["num_held_out_tokens"])
    settings = run.settings
    corpus, stop = _load(run, settings["corpus"], encoding), settings["num_tokens"]
    num_held_out = settings["num_held_out_tokens"]
    train = corpus.section(0, stop)
    if not num_held_out:
        return train, None
    if is_apart(run):
        held_out = _load(run, settings["held_out"], encoding)
        return train, as_measured(run, held_out.section(0, num_held_out))
    if len(corpus) < stop + num_held_out:
        msg = (
            f"the run {str(run.path)!r} held out {count(num_held_out, 'token')} after the first "
            f"{stop:,} of {corpus.name}, which has {len(corpus):,}: resume it in the program that "
            "began it"
        )
        raise RunError(msg)
    held_out = corpus.section(stop, stop + num_held_out)
    return train, as_measured(run, held_out)


def describe_step(run: Run, windows: Windows, *, step: int, rows: Sequence[int]) -> dict[str, Any]:
    """Return the text that the model saw in a step, JSON-able.

    Parameters
    ----------
    run : Run
    windows : RandomWindows or SequentialWindows
        What `reopen_windows` returned; their epoch is set.
    step : int
        Which one, counted from 1 over the whole run.
    rows : sequence of int
        Which rows of the batch.

    Raises
    ------
    ArgumentError
        The run has no such step, or the batch no such row.
    RunError
        The run's losses are missing or damaged.
    """
    return {"run": str(run.path), **_describe(find_step(run, step), windows, rows)}


def describe_spikes(run: Run, windows: Windows, *, top: int, rows: Sequence[int]) -> dict[str, Any]:
    """Return the spikes of a run's loss, the strongest first, with their text, JSON-able.

    See `tokenloom.spikes.find_spikes` for what a spike is, and `describe_step`.

    Raises
    ------
    ArgumentError
        The batch has no such row.
    RunError
        The run's losses are missing or damaged.
    """
    records = _records(run)
    losses = np.concatenate([np.array(record.losses, float) for record in records])
    first_step = records[0].step
    spikes = find_spikes(losses)
    return {
        "run": str(run.path),
        "num_steps": len(losses),
        "method": {"num_before": NUM_BEFORE, "num_deviations": NUM_DEVIATIONS},
        "num_spikes": len(spikes),
        "spikes": [
            {
                "first_step": first_step + spike.first,
                "stop_step": first_step + spike.stop,
                "usual_loss": spike.usual,
                "deviations": spike.deviations,
                **_describe(_find(records, first_step + spike.first), windows, rows),
            }
            for spike in spikes[:top]
        ],
    }


def _describe(step: Step, windows: Windows, rows: Sequence[int]) -> dict[str, Any]:
    windows.set_epoch(step.epoch)
    batch = describe_batch(windows, index=step.batch, rows=rows)
    return {"step": step.step, "loss": step.loss, **batch}


def _records(run: Run) -> list[StepLosses]:
    records = [record for record in run.losses() if record.losses]
    if not records:
        msg = f"the run {str(run.path)!r} has no step: train longer"
        raise RunError(msg)
    return records


def _find(records: Sequence[StepLosses], step: int) -> Step:
    for record in records:
        position = step - record.step
        if 0 <= position < len(record.losses):
            return Step(
                step=step,
                epoch=record.epoch,
                batch=record.batch + position,
                loss=record.losses[position],
            )
    last = records[-1].step + len(records[-1].losses) - 1
    msg = f"step must be in [{records[0].step}, {last + 1}), got {step}"
    raise ArgumentError(msg)


def _load(run: Run, name: str, encoding: str) -> Corpus:
    try:
        # A path of that name stands there as one.
        is_named = find_entry(name) is not None
        return read_as(run, f"dataset:{name}" if is_named else name, encoding=encoding)
    except (ArgumentError, CorpusError, StoreError) as error:
        msg = f"the text of the run {str(run.path)!r} cannot be read again: {error}"
        raise RunError(msg) from error


def _check_settings(run: Run) -> None:
    settings = run.settings
    missing = [name for name in _NEEDED if name not in settings]
    if missing:
        msg = (
            f"the settings of {str(run.path)!r} lack {', '.join(missing)}: an older release "
            "made the run, which did not write down what it read: train anew"
        )
        raise RunError(msg)
    check_kinds(run, WINDOW_SETTINGS)
    if "first_epoch" in settings:
        check_kinds(run, ["first_epoch"])
    version = order_version(settings["order_seed"], settings.get("first_epoch", 0))
    if settings["order_version"] != version:
        msg = (
            f"this release knows order version {version}, the run {str(run.path)!r} has "
            f"{settings['order_version']!r}: use the release that made it"
        )
        raise RunError(msg)


def _check_corpus(run: Run, corpus: Corpus) -> None:
    expected = run.settings["num_tokens"], run.settings["corpus_hash"]
    if (len(corpus), corpus.hash) == expected:
        return
    msg = (
        f"the run {str(run.path)!r} was trained on {expected[0]:,} tokens of {expected[1]}, "
        f"the first of {corpus.name} are {len(corpus):,} of {corpus.hash}: "
        "put the text there that it was trained on"
    )
    raise RunError(msg)
