"""A run's training, opened again: its texts, its windows, its model and its options."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from tokenloom._checks import as_integer
from tokenloom._wording import count, join_choices, show
from tokenloom.corpus.corpus import Corpus
from tokenloom.corpus.mixture import Mixture
from tokenloom.errors import ArgumentError, CorpusError, RunError, StoreError
from tokenloom.hub.catalogue import find_entry
from tokenloom.hub.load import StoreName, find_parts, find_store, load, name_split
from tokenloom.loading.dataset import Windows
from tokenloom.loading.device import choose_device
from tokenloom.loading.loader import Loader
from tokenloom.loading.shard import Shard
from tokenloom.plan.batch_sizes import BatchSize, BatchSizes
from tokenloom.plan.mixture import VERSION as MIXTURE_VERSION
from tokenloom.plan.mixture import MixtureOrder
from tokenloom.plan.order import order_version
from tokenloom.plan.packed import PackedOrder
from tokenloom.plan.plan import ORDERS
from tokenloom.plan.seeds import torch_seed
from tokenloom.store.reader import read_store
from tokenloom.text.identity import Identity
from tokenloom.training.checkpoint import build_model
from tokenloom.training.loop import Training
from tokenloom.training.options import RunOptions, TrainingOptions
from tokenloom.training.run import Run
from tokenloom.training.settings import WINDOW_SETTINGS, check_kinds, check_resumable

HELD_OUT, TRAINED = "held-out", "trained"
"""The splits that every run knows of the corpus that it was trained on."""

# What the settings hold since version 2.
_NEEDED = ("corpus_hash", "order_version", "rank", "world_size")


def reopen_training(  # noqa: PLR0913  what a caller may choose, flat
    run: Run,
    *,
    corpus: Corpus | Mixture | None = None,
    held_out: Corpus | Mapping[str, Corpus] | None = None,
    num_epochs: int | None = None,
    num_workers: int = 0,
    device: torch.device | str | int | None = None,
    resident: bool = False,
    encoding: str = "utf-8",
) -> Training:
    """Return the training of a run, as it was begun; its method ``train`` resumes it.

    Its texts are loaded by the names or paths in the settings, its windows,
    loader and model are made anew, and all options are those of the run. To
    change options that do not shape the weights, use ``dataclasses.replace``.

    Parameters
    ----------
    run : Run
    corpus, held_out : Corpus, or a mixture and its held-out texts by name; optional
        The tokens that the run was trained on, and those that it held out, if they
        cannot be loaded: a text that was never a file, or one with a tokenizer of yours.
    num_epochs : int, optional
        How many epochs to train in all, by default as many as the run was begun with.
    num_workers : int
        Of the loader.
    device : torch.device, str or int, optional
        See `tokenloom.train`; the best at hand by default.
    resident : bool
        Whether the loader keeps the text on the device.
    encoding : str
        How a text file is encoded.

    Returns
    -------
    Training
        Its model has its first weights; the checkpoint is loaded by ``train``.

    Raises
    ------
    ArgumentError
        A value is out of range, or the device is not at hand.
    RunError
        An older release made the run, its text is missing or has changed, or only
        the program that began the run can resume it.
    """
    check_resumable(run)
    check_kinds(run)
    settings = run.settings
    if corpus is None:
        corpus, held_out = reopen_corpora(run, encoding=encoding)
    # If the run saved world_size=1, its batches are whole, and a process group here divides them.
    shard = Shard.detect() if settings["world_size"] == 1 else None
    windows = reopen_windows(run, corpus, shard=shard)
    windows.set_epoch(settings["first_epoch"])
    if num_epochs is None and settings["num_epochs"] is None:
        msg = f"the run {str(run.path)!r} has no last epoch: resume it in the program that began it"
        raise RunError(msg)
    loader = Loader(
        windows,
        num_workers=num_workers,
        num_epochs=settings["num_epochs"] if num_epochs is None else num_epochs,
        device=choose_device(device) if resident else None,
        resident=resident,
    )
    seed = as_integer("seed", settings["seed"], stop=1 << 64)
    with torch.random.fork_rng(devices=[]):
        # The first weights, for a run that was killed before its first checkpoint.
        torch.default_generator.manual_seed(torch_seed(seed))
        model = build_model(settings["model"])
    return Training(
        model=model,
        loader=loader,
        lr=settings["lr"],
        max_grad_norm=settings["max_grad_norm"],
        options=_read_options(run),
        held_out=held_out,
        run=run.path,
        resume=True,
        run_options=_read_run_options(run),
        device=device,
        seed=seed,
    )


def _read_options(run: Run) -> TrainingOptions:
    settings = run.settings
    if "." in settings["optimizer"]:
        msg = (
            f"the optimizer of the run {str(run.path)!r} is {settings['optimizer']}, a function of "
            "the program that began it: resume it in that program"
        )
        raise RunError(msg)
    values = {name: settings[name] for name in TrainingOptions().describe()}
    if "across_documents" in settings:
        check_kinds(run, ["across_documents"])
        values["across_documents"] = settings["across_documents"]
    return TrainingOptions(**values)


def _read_run_options(run: Run) -> RunOptions:
    saved = run.settings["run_options"]
    try:
        return RunOptions(**saved)
    except TypeError as error:
        msg = f"the settings of {str(run.path)!r} are damaged: run_options cannot be {show(saved)}"
        raise RunError(msg) from error


def reopen_windows(
    run: Run,
    corpus: Corpus | Mixture | None = None,
    *,
    encoding: str = "utf-8",
    shard: Shard | None = None,
) -> Windows:
    """Return the windows that a run was trained on.

    Parameters
    ----------
    run : Run
    corpus : Corpus or Mixture, optional
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
        An older release made the run, or its text is missing or has changed.
    """
    settings = run.settings
    _check_settings(run)
    if corpus is None and "mixture" in settings:
        corpus, _ = reopen_corpora(run, encoding=encoding)
    elif corpus is None:
        corpus = _load(run, settings["corpus"], encoding).slice(0, settings["num_tokens"])
    _check_corpus(run, corpus.corpus if isinstance(corpus, Mixture) else corpus)
    return Windows(
        settings["order"],
        corpus,
        batch_size=_read_batch_size(run),
        seq_len=settings["seq_len"],
        seed=settings["order_seed"],
        tail=settings["tail"],
        resets=None if settings.get("resets", True) else False,
        shard=shard or Shard(rank=settings["rank"], world_size=settings["world_size"]),
    )


def _read_batch_size(run: Run) -> BatchSize:
    size: int | str = run.settings["batch_size"]
    try:
        return BatchSizes.parse(size) if isinstance(size, str) else size
    except ArgumentError as error:
        msg = f"the settings of {str(run.path)!r} are damaged: {error}"
        raise RunError(msg) from error


def reopen_corpora(
    run: Run, *, encoding: str = "utf-8"
) -> tuple[Corpus | Mixture, Corpus | Mapping[str, Corpus] | None]:
    """Return the training text of a run, and the text that it held out.

    For a mixture: the mixture, and the held-out text of each part by its name.

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
    if "mixture" in run.settings:
        return _reopen_mixture(run, encoding)
    return _reopen_corpus(run, encoding)


def _reopen_mixture(run: Run, encoding: str) -> tuple[Mixture, Mapping[str, Corpus] | None]:
    pairs = {name: _reopen_corpus(part, encoding) for name, part in _runs_of_parts(run).items()}
    saved = run.settings["mixture"]
    try:
        mixture = Mixture(
            {name: train for name, (train, _) in pairs.items()},
            stages=[(int(first), weights) for first, weights in saved["stages"].items()],
            num_tokens=saved["num_tokens"],
            max_repeats=saved["max_repeats"],
        )
    except (ArgumentError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged_mixture(run, error) from error
    return mixture, {name: text for name, (_, text) in pairs.items() if text is not None} or None


def _runs_of_parts(run: Run) -> dict[str, Run]:
    """Return a run of each part of a mixture, by its name, as if it had been trained alone."""
    settings = {name: value for name, value in run.settings.items() if name != "mixture"}
    try:
        parts, places = run.settings["mixture"]["parts"], run.settings["places"]
        return {
            name: Run(run.path, {**settings, **part, **places[name]})
            for name, part in parts.items()
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise _damaged_mixture(run, error) from error


def _damaged_mixture(run: Run, error: Exception) -> RunError:
    return RunError(
        f"the settings of {str(run.path)!r} are damaged: no mixture can be made of them: {error}"
    )


def _reopen_corpus(run: Run, encoding: str) -> tuple[Corpus, Corpus | None]:
    check_kinds(run, ["corpus", "num_tokens", "num_held_out_tokens"])
    settings = run.settings
    corpus, stop = _load(run, settings["corpus"], encoding), settings["num_tokens"]
    num_held_out = settings["num_held_out_tokens"]
    train = corpus.slice(0, stop)
    if not num_held_out:
        return train, None
    if _is_apart(run):
        held_out = _load(run, settings["held_out"], encoding)
        return train, _as_measured(run, held_out.slice(0, num_held_out))
    if len(corpus) < stop + num_held_out:
        msg = (
            f"the run {str(run.path)!r} held out {count(num_held_out, 'token')} after the first "
            f"{stop:,} of {corpus.name}, which has {len(corpus):,}: resume it in the program that "
            "began it"
        )
        raise RunError(msg)
    held_out = corpus.slice(stop, stop + num_held_out)
    return train, _as_measured(run, held_out)


def read_as(run: Run, name: str, *, split: str | None = None, encoding: str = "utf-8") -> Corpus:
    """Return a corpus in the ids that the model of a run knows.

    Parameters
    ----------
    run : Run
    name : str
        A name in the catalogue or the path of a text file, which is encoded by
        the run's tokenizer; or a store, or STORE/SPLIT, which must have been
        written with it.
    split : str, optional
        Only a part: the name of one of the store's or the named corpus's
        splits; else "held-out" or "trained", the tokens that the run measured
        its held-out perplexity on, or was trained on.
    encoding : str
        How a text file is encoded.

    Raises
    ------
    ArgumentError
        There is nothing of that name, or no such split.
    CorpusError
        The store was written with another tokenizer, the text cannot be
        decoded, or its beginning is not what the run was trained on.
    RunError
        The run's tokenizer came from elsewhere, or its settings are damaged.
    """
    named_split = None if split in (None, HELD_OUT, TRAINED) else split
    if split != named_split and "mixture" in run.settings:
        run = _find_run_of_part(run, name)
    if split == HELD_OUT and _is_apart(run):
        return _read_held_out(run, name, encoding)
    store = find_store(name)
    if store is None:
        instead = (
            f"use {join_choices([HELD_OUT, TRAINED])}, which are parts of the run's text, or "
            "leave the split out"
        )
        name = name_split(name, named_split, instead=instead)
        if any(isinstance(part, StoreName) for part in find_parts(name)):
            corpus = load(name, encoding=encoding)
            _check_tokenizer(run, corpus)
        else:
            corpus = load(name, tokenizer=run.load_tokenizer(), encoding=encoding)
    else:
        if split is not None and store.split is not None:
            msg = f"{name} names a split already: leave out split={split!r}"
            raise ArgumentError(msg)
        corpus = load(name) if named_split is None else Corpus.open(name, split=named_split)
        _check_tokenizer(run, corpus)
    return corpus if split == named_split else _slice_split(run, corpus, split)


def _find_run_of_part(run: Run, name: str) -> Run:
    """Return the run of the part of a mixture that a corpus, or a split of its store, is."""
    parts = _runs_of_parts(run)
    store = find_store(name)
    for part in parts.values():
        its = part.settings.get("corpus")
        its_store = find_store(its)
        if its == name or (store is not None and its_store and store.path == its_store.path):
            return part
    known = ", ".join(f"{each}: {part.settings.get('corpus')!r}" for each, part in parts.items())
    msg = f"{name} must be the text of a part of the run {str(run.path)!r} ({known})"
    raise CorpusError(msg)


def count_trained(run: Run, corpus: Corpus) -> int:
    """Return how many tokens of a corpus the run was trained on, as far as that is known.

    It is known for the text that the run took its first tokens from, of a
    copy of it, and for any part of the store that the run took them from.
    """
    if "mixture" in run.settings:
        return max(count_trained(part, corpus) for part in _runs_of_parts(run).values())
    first, whole = 0, corpus
    if corpus.origin is not None:
        first, whole = corpus.origin.start, Corpus.open(corpus.origin.path)
    start = _find_trained(run, whole)
    if start is None:
        return 0
    stop = min(first + len(corpus), start + run.settings["num_tokens"])
    return int(max(0, stop - max(first, start)))


def _read_held_out(run: Run, name: str, encoding: str) -> Corpus:
    """Return the split that a run held out; ``name`` may be any part of its corpus."""
    check_kinds(run, ["num_held_out_tokens"])
    store, held_out = find_store(name), run.settings["held_out"]
    split = os.path.basename(held_out)  # noqa: PTH119  of a name that may be no path
    if store is not None and store.split != split:
        name = str(store._replace(split=split))
    elif store is None and name != held_out:
        name = held_out if held_out.partition("/")[0] == name.partition("/")[0] else name
    corpus = read_as(run, name, encoding=encoding)
    found = _as_measured(run, corpus.first(run.settings["num_held_out_tokens"] or None))
    if found.hash != run.settings.get("held_out_hash"):
        msg = (
            f"the run {str(run.path)!r} held out {held_out}, but {name} is another text: "
            "name the one that it held out, and leave the split out"
        )
        raise CorpusError(msg)
    return found


def _slice_split(run: Run, corpus: Corpus, split: str | None) -> Corpus:
    """Return the tokens that the run was trained on, or those that it held out."""
    # Older releases did not write down what they held out.
    check_kinds(run, ["num_tokens", *{"num_held_out_tokens"}.intersection(run.settings)])
    num_trained = run.settings["num_tokens"]
    num_held_out = run.settings.get("num_held_out_tokens", 0)
    start = _find_trained(run, corpus)
    needed = num_trained + (num_held_out if split == HELD_OUT else 0)
    if start is None or len(corpus) < start + needed:
        msg = (
            f"the first {num_trained:,} tokens of {corpus.name} must be those that the run "
            f"{str(run.path)!r} was trained on, but they are others: name its corpus, or "
            "leave the split out"
        )
        raise CorpusError(msg)
    if split == TRAINED:
        return corpus.slice(start, start + num_trained)
    if num_held_out < 2:
        msg = f"the run {str(run.path)!r} held out no text: name another split"
        raise CorpusError(msg)
    stop = start + num_trained
    return _as_measured(run, corpus.slice(stop, stop + num_held_out))


def _find_trained(run: Run, corpus: Corpus) -> int | None:
    """Return where the tokens that a run was trained on begin in a corpus, or None.

    That is its first token, or the first one of a split where it is a store.
    """
    num_tokens, expected = run.settings.get("num_tokens"), run.settings.get("corpus_hash")
    if type(num_tokens) is not int or num_tokens < 1:
        return None
    starts = {0}
    if corpus.origin is not None:
        first, splits = corpus.origin.start, read_store(corpus.origin.path).manifest.splits
        starts |= {start - first for start, _ in splits.values()}
    for start in sorted(starts):
        if 0 <= start <= len(corpus) - num_tokens:
            trained = corpus.slice(start, start + num_tokens)
            if trained.hash == expected:
                return start
    return None


def _is_apart(run: Run) -> bool:
    """Return whether a run held out a text of another name than the one it was trained on."""
    name = run.settings.get("held_out")
    return isinstance(name, str) and name != run.settings.get("corpus")


def _as_measured(run: Run, held_out: Corpus) -> Corpus:
    """Return the held-out text of a run with documents only where the run had them.

    The release that made it may have read the same text without its documents.
    """
    had_documents = run.settings.get("held_out_documents_hash") is not None
    return held_out if had_documents else held_out.undivided()


def _load(run: Run, name: str, encoding: str) -> Corpus:
    # A path of the same name was saved as a path, so this name is that of the catalogue.
    is_named = find_entry(name) is not None
    try:
        return read_as(run, f"dataset:{name}" if is_named else name, encoding=encoding)
    except (ArgumentError, CorpusError, StoreError) as error:
        is_relative = not is_named and not Path(name).is_absolute() and not os.path.lexists(name)
        where = "; a relative path is one from the working directory of the training: go there"
        msg = (
            f"the text of the run {str(run.path)!r} cannot be read again: {error}"
            f"{where if is_relative else ''}"
        )
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
    orders = (*ORDERS, PackedOrder.kind, MixtureOrder.kind)
    if settings["order"] not in orders:
        msg = (
            f"the run {str(run.path)!r} was trained in {settings['order']!r} order, and this "
            f"release knows {' and '.join(map(repr, orders))}: use the release that made it"
        )
        raise RunError(msg)
    version = order_version(settings["order_seed"], settings.get("first_epoch", 0))
    if settings["order"] == MixtureOrder.kind:
        version = MIXTURE_VERSION
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


def _check_tokenizer(run: Run, corpus: Corpus) -> None:
    expected = run.identity(corpus.vocab_size)
    name = _tokenizer_name(run)
    if name is not None:
        tokenizer = run.load_tokenizer()
        if tokenizer == corpus.tokenizer:
            return
        expected = Identity.of(tokenizer)
    made_by = corpus.identity
    is_known = made_by is not None and expected is not None
    if not is_known and name is None:
        return
    if made_by is not None and name in (None, made_by.name) and not made_by.differs(expected):
        return
    msg = (
        f"{corpus.name} must have been written with the run's tokenizer ({expected or name}), got "
        f"ids of another ({made_by or f'unknown, {corpus.vocab_size:,} ids'}): give the text itself"
    )
    raise CorpusError(msg)


def _tokenizer_name(run: Run) -> str | None:
    described = run.settings.get("tokenizer") or {}
    name = described.get("name") if isinstance(described, dict) else described
    if not isinstance(name, str | None):
        msg = (
            f"the settings of {str(run.path)!r} are damaged: tokenizer cannot be {show(described)}"
        )
        raise RunError(msg)
    return name
