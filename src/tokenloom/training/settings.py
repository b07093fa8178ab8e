"""What a run's settings say of its training, and how two of them differ."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import torch

from tokenloom._wording import show
from tokenloom.corpus.corpus import Corpus
from tokenloom.corpus.offsets import DocumentOffsets
from tokenloom.errors import RunError, StateMismatchError
from tokenloom.loading.dataset import Windows
from tokenloom.loading.distributed import Ranks, describe_weights
from tokenloom.loading.loader import Loader
from tokenloom.model.rnn import RNNModel
from tokenloom.training.checkpoint import describe_model
from tokenloom.training.options import Recipe, RunOptions
from tokenloom.training.run import Run

SETTINGS_VERSION = 3

# Settings that may differ after a resume: the number of epochs, the place of the text, the release.
_FREE = (
    "version",
    "corpus",
    "end_id",
    "held_out",
    "places",
    "num_epochs",
    "num_threads",
    "run_options",
)

# Settings that are not written down where they have these values.
_ABSENT = {"across_documents": True}

# Settings that identify a tokenizer of another package; the name of its class does not.
_PROOFS = ("tokenizer.probe", "tokenizer.decoded")
# Settings that may differ between ranks: the place of the text, and the number of cores.
_LOCAL = ("corpus", "held_out", "places", "num_threads")

# The types of the settings from which a run is opened again.
_KINDS: dict[str, tuple[Any, str]] = {
    **dict.fromkeys(("corpus", "order", "tail"), (str, "a string")),
    **dict.fromkeys(("optimizer", "schedule", "precision"), (str, "a string")),
    **dict.fromkeys(("num_tokens", "num_held_out_tokens"), (int, "an integer")),
    "batch_size": (int | str, 'an integer or such as "0:32,10000:64"'),
    **dict.fromkeys(("seq_len", "order_seed", "rank", "world_size"), (int, "an integer")),
    **dict.fromkeys(("first_epoch", "seed", "num_threads"), (int, "an integer")),
    **dict.fromkeys(("warmup_updates", "batches_per_update"), (int, "an integer")),
    **dict.fromkeys(("lr", "max_grad_norm"), (int | float, "a number")),
    **dict.fromkeys(("run_options", "model"), (dict, "an object")),
    "num_epochs": (int | None, "an integer or null"),
    "resets": (bool, "true or false"),
    "across_documents": (bool, "true or false"),
}
_ALWAYS_THERE = tuple(name for name in _KINDS if name != "across_documents")
# Settings of the windows that a run was trained on.
WINDOW_SETTINGS = (
    *("corpus", "num_tokens", "order", "batch_size", "seq_len", "tail"),
    *("order_seed", "rank", "world_size"),
)


def check_resumable(run: Run) -> None:
    """Check that this release can resume a run.

    Raises
    ------
    RunError
        An older or a newer release made it, or it was trained in float16.
    """
    version = run.settings.get("version")
    is_half = run.settings.get("precision") == "float16"
    if version == SETTINGS_VERSION and not is_half:
        return
    reason = (
        f"this release reads settings of version {SETTINGS_VERSION}, got {show(version)}: "
        "use the release that made it"
    )
    if version is None or (isinstance(version, int) and version < SETTINGS_VERSION):
        reason = "an older release made it; train anew"
    elif version == SETTINGS_VERSION:
        reason = (
            "it was trained in float16, in which this release does not train; its model can be "
            "loaded; train anew in bfloat16, or resume it with the release that made it"
        )
    msg = f"the run {str(run.path)!r} cannot be resumed: {reason}"
    raise RunError(msg)


def check_kinds(run: Run, names: Iterable[str] = _ALWAYS_THERE) -> None:
    """Check that some of a run's settings are there and have the right types.

    Raises
    ------
    RunError
        A setting is missing or of another type; the first one is named.
    """
    for name in names:
        kind, words = _KINDS[name]
        value = run.settings.get(name)
        # True and false are integers to Python.
        is_kind = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if name not in run.settings or not is_kind:
            got = f"got {show(value)}" if name in run.settings else "there is none"
            msg = f"the settings of {str(run.path)!r} are damaged: {name} must be {words}, {got}"
            raise RunError(msg)


def describe_training(
    model: RNNModel,
    loader: Loader,
    *,
    held_out: Corpus | Mapping[str, Corpus] | None,
    recipe: Recipe,
    run_options: RunOptions,
    ranks: Ranks,
) -> dict[str, Any]:
    """Return all that a training depends on, JSON-able.

    Parameters
    ----------
    model : RNNModel
    loader : Loader
    held_out : Corpus or mapping of str to Corpus, optional
    recipe : Recipe
    run_options : RunOptions
    ranks : Ranks
        Ranks that train on a batch together.
    """
    plan, corpus, shard = loader.plan, loader.windows.corpus, loader.windows.shard
    is_whole = ranks.world_size > 1
    return {
        "version": SETTINGS_VERSION,
        "corpus": corpus.name,
        "num_tokens": plan.num_tokens,
        "corpus_hash": corpus.hash,
        "vocab_hash": None if corpus.vocab is None else corpus.vocab.hash,
        "tokenizer": corpus.describe_identity(),
        **({} if corpus.end_id is None else {"end_id": corpus.end_id}),
        **_describe_held_out(held_out),
        **_describe_mixture(loader.windows, held_out),
        "documents_hash": _hash(loader.windows.documents),
        "order": plan.kind,
        "batch_size": plan.described_size,
        "seq_len": plan.seq_len,
        "tail": plan.tail,
        "resets": loader.windows.documents is not None,
        "order_seed": plan.seed,
        "order_version": plan.order.version(plan.seed, loader.first_epoch),
        "rank": 0 if is_whole else shard.rank,
        "world_size": 1 if is_whole else shard.world_size,
        "first_epoch": loader.first_epoch,
        "num_epochs": loader.num_epochs,
        **recipe.describe(),
        "num_threads": torch.get_num_threads(),
        "run_options": asdict(run_options),
        "model": describe_model(model),
    }


def _describe_held_out(held_out: Corpus | Mapping[str, Corpus] | None) -> dict[str, Any]:
    """Return facts about a held-out text; several texts are described with their parts."""
    one = held_out if isinstance(held_out, Corpus) else None
    return {
        "num_held_out_tokens": 0 if one is None else len(one),
        "held_out": None if one is None else one.name,
        "held_out_hash": None if one is None else one.hash,
        "held_out_documents_hash": None if one is None else _hash(one.document_offsets),
    }


def _describe_mixture(
    windows: Windows, held_out: Corpus | Mapping[str, Corpus] | None
) -> dict[str, Any]:
    """Return the parts of a mixture and the held-out text of each; else nothing."""
    mixture, texts = windows.mixture, held_out if isinstance(held_out, Mapping) else {}
    of_parts = {} if mixture is None else mixture.parts
    others = {
        name: _describe_held_out(text) for name, text in texts.items() if name not in of_parts
    }
    described_others = {"held_out_texts": others} if others else {}
    if mixture is None:
        return described_others
    parts, places = {}, {}
    for name, corpus in mixture.parts.items():
        described = _describe_held_out(texts.get(name))
        places[name] = {"corpus": corpus.name, "held_out": described.pop("held_out")}
        parts[name] = {"num_tokens": len(corpus), "corpus_hash": corpus.hash, **described}
    stages = {str(first): dict(weights) for first, weights in mixture.stages}
    order = mixture.order
    return {
        **described_others,
        "mixture": {
            "parts": parts,
            "stages": stages,
            "num_tokens": order.num_epoch_tokens,
            "max_repeats": order.max_repeats,
        },
        "places": places,
    }


def confirm_ranks(
    ranks: Ranks,
    settings: dict[str, Any],
    model: RNNModel,
    loader: Loader,
    *,
    held_out: Corpus | Mapping[str, Corpus] | None,
) -> None:
    """Check that all ranks have the same training.

    Parameters
    ----------
    ranks : Ranks
    settings : dict
        What `describe_training` returned, and other facts that must be the same.
    model : RNNModel
    loader : Loader
    held_out : Corpus or mapping of str to Corpus, optional

    Raises
    ------
    UsageError
        A rank reads another part of the batch than its own; or ranks differ, and
        each field is named with its values and their ranks.
    """
    if ranks.world_size == 1:
        return
    with ranks.together():
        ranks.check_shard(loader.windows.shard)
        alike = {name: value for name, value in settings.items() if name not in _LOCAL}
        whole = {
            "corpus_hash": loader.windows.corpus.whole_hash,
            "held_out_hash": _hash_whole(held_out),
        }
        position = loader.state_dict()
        told = {
            **_flatten({**alike, **whole}),
            **{name: position[name] for name in ("epoch", "next_batch")},
            **describe_weights(model),
        }
    ranks.confirm(told)


def _hash_whole(held_out: Corpus | Mapping[str, Corpus] | None) -> str | dict[str, str] | None:
    if isinstance(held_out, Mapping):
        return {name: text.whole_hash for name, text in held_out.items()}
    return None if held_out is None else held_out.whole_hash


def bound_settings(run: Run) -> dict[str, Any]:
    """Return the settings of a run that must not change, as JSON holds them."""
    kept: dict[str, Any] = json.loads(json.dumps(run.settings))
    return {name: value for name, value in kept.items() if name not in _FREE}


def check_unchanged(run: Run, saved: object) -> None:
    """Check that a run's settings are those that a checkpoint was written with.

    Parameters
    ----------
    run : Run
    saved : dict or None
        What `bound_settings` returned then; older releases saved none.

    Raises
    ------
    StateMismatchError
        They were changed since; each field is named.
    """
    if not isinstance(saved, dict):
        return
    before, now = _flatten(saved), _flatten(bound_settings(run))
    lines = [
        f"  {name}: then {show(value)}, now {show(now.get(name))}"
        for name, value in before.items()
        if now.get(name) != value
    ]
    if lines:
        head = f"cannot resume: the settings of {str(run.path)!r} are not those of its checkpoint."
        raise StateMismatchError("\n".join([head, *lines, "Put the right settings.json there."]))


def check_same(saved: dict[str, Any], now: dict[str, Any]) -> None:
    """Check that a training may resume from the settings that another one saved.

    Raises
    ------
    StateMismatchError
        It is another training; each field that differs is named.
    """
    flat_saved, flat_now = _flatten(saved), _flatten(now)
    different = [
        name
        for name, value in {**_ABSENT, **flat_now}.items()
        if name.partition(".")[0] not in _FREE
        and flat_saved.get(name, _ABSENT.get(name)) != value
        # Older releases wrote no proof, and the tokenizer need not be at hand.
        and not (name in _PROOFS and (name not in flat_saved or value is None))
    ]
    if _is_shorter(saved.get("num_epochs"), now["num_epochs"]) or (
        # A schedule depends on the number of epochs.
        now["schedule"] != "constant" and saved.get("num_epochs") != now["num_epochs"]
    ):
        different.append("num_epochs")
    if not different:
        return
    if different == ["num_epochs"]:
        raise StateMismatchError(_explain_epochs(saved.get("num_epochs"), now))
    lines = [
        f"  {name}: saved {flat_saved.get(name, _ABSENT.get(name))!r}, "
        f"now {flat_now.get(name, _ABSENT.get(name))!r}"
        for name in different
    ]
    msg = "\n".join(
        [
            "cannot resume: the run is of another training.",
            *lines,
            "Use the saved values, or begin a new run.",
        ]
    )
    raise StateMismatchError(msg)


def _explain_epochs(saved: int | None, now: dict[str, Any]) -> str:
    """Return the message about a number of epochs with which a run cannot be resumed."""
    begun, cure = f"with num_epochs={saved}", f"use num_epochs={saved} or more, leave it out"
    why = "a run can be made longer, not shorter"
    if saved is None:
        begun, cure = "without an end", "leave num_epochs out"
    elif now["schedule"] != "constant":
        why = f"the schedule {now['schedule']!r} is laid out over all epochs"
        cure = f"use num_epochs={saved}, leave it out"
    return (
        f"cannot resume: the run was begun {begun}, got num_epochs={now['num_epochs']}: "
        f"{why}; {cure}, or begin a new run"
    )


def _is_shorter(saved: int | None, now: int | None) -> bool:
    """Return whether there are fewer epochs now; None means no end."""
    return now is not None and (saved is None or now < saved)


def _hash(documents: DocumentOffsets | None) -> str | None:
    return None if documents is None else documents.hash()


def _flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the settings with nested names joined by a dot.

    >>> _flatten({"lr": 1.0, "model": {"rnn": "GRU"}})
    {'lr': 1.0, 'model.rnn': 'GRU'}
    """
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
