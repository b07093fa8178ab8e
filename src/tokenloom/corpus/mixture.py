"""Mixtures: several corpora, read together in shares that are given."""

import copy
import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self, final

from tokenloom._checks import as_integer, as_number
from tokenloom._wording import count, show, suggest
from tokenloom.corpus.corpus import Corpus
from tokenloom.errors import ArgumentError
from tokenloom.plan.mixture import MixtureOrder, Stage, grid_weights
from tokenloom.plan.order import Order
from tokenloom.plan.permutation import MAX_SIZE

_PARTS = 'parts must be a dict such as {"web": (web, 0.7), "code": (code, 0.3)}'
_STAGES = (
    'stages must be a list such as [(0, {"web": 1.0}), (1_000_000, {"web": 0.5, "code": 0.5})]'
)


@final
class Mixture:
    """Several corpora that are read together, each with a share of the tokens.

    Give it to `RandomWindows` in place of a corpus. Shares are exact: after any
    block of 4,096 windows, and at the end of each epoch and stage, each part has
    been read as often as its weight says, to within a few windows. Each part is
    read in epochs of its own, each in another order.

    Parameters
    ----------
    parts : mapping of str to (Corpus, float)
        The corpora by name, each with its weight: its share of the tokens, relative
        to the sum of all weights. A part of weight 0 is never read. With
        ``stages``, a part is the corpus alone; a weight beside it is ignored.
    stages : sequence of (int, mapping of str to float), optional
        Weights that change: each stage begins at a number of tokens of the whole
        training, all epochs counted, and has the weights of the parts; one that is
        left out is 0. The first begins at 0.
    num_tokens : int, optional
        The length of an epoch in tokens. By default the longest in which no part is
        read more than once, whatever the stage.
    max_repeats : float, optional
        Refuse a training that reads a part more often than this, in the epochs that
        windows and loaders are asked for.

    Attributes
    ----------
    names : tuple of str
        `Batch.sources` are positions in it.
    parts : mapping of str to Corpus
    stages : tuple of (int, dict of str to float)
        As they were given; without ``stages`` one, from token 0 on.
    corpus : Corpus
        The parts one after another, as `Corpus.concatenate` joins them: starts of
        windows are positions in it.
    order : MixtureOrder
        The order of its windows.

    Raises
    ------
    ArgumentError
        There is no part; a name, a weight or a stage is invalid; or two parts, which
        the message names, have ids of different tokenizers.

    Notes
    -----
    Weights are rounded to whole numbers on a grid of 2**20, never to percent: the
    least share is one in a million.

    >>> web, code = Corpus.from_tokens(range(100)), Corpus.from_tokens(range(50))
    >>> Mixture({"web": (web, 0.75), "code": (code, 0.25)})
    Mixture(web 75 % of 100 tokens, code 25 % of 50 tokens)
    """

    def __init__(
        self,
        parts: Mapping[str, tuple[Corpus, float]] | Mapping[str, Corpus],
        *,
        stages: Sequence[tuple[int, Mapping[str, float]]] | None = None,
        num_tokens: int | None = None,
        max_repeats: float | None = None,
    ) -> None:
        given = _as_parts(parts, needs_weights=stages is None)
        if stages is None:
            weights = {name: weight for name, (_, weight) in given.items()}
            stages = [(0, weights)]
        if num_tokens is not None:
            num_tokens = as_integer("num_tokens", num_tokens, start=1, stop=MAX_SIZE)
        self.names = tuple(given)
        self.stages, checked = _as_stages(stages, self.names)
        self.parts = MappingProxyType({name: corpus for name, (corpus, _) in given.items()})
        named = [corpus.with_name(name) for name, corpus in self.parts.items()]
        self.corpus = Corpus.concatenate(named, name=" + ".join(self.names))
        self.order = MixtureOrder(
            names=self.names,
            part_lengths=tuple(len(corpus) for corpus in named),
            stages=checked,
            num_epoch_tokens=num_tokens,
            max_repeats=_as_repeats(max_repeats),
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "parts": dict(self.parts)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, parts=MappingProxyType(state["parts"]))

    def __repr__(self) -> str:
        weights = self.order.stages[0].weights
        parts = [
            f"{name} {100 * weight / sum(weights):.4g} % of {count(len(corpus), 'token')}"
            for (name, corpus), weight in zip(self.parts.items(), weights, strict=True)
        ]
        num_more = len(self.order.stages) - 1
        more = f"; {count(num_more, 'more stage')}" if num_more else ""
        return f"Mixture({', '.join(parts)}{more})"

    def with_epoch(self, num_tokens: int | None) -> Self:
        """Return the same mixture with epochs of another length, without a copy.

        Parameters
        ----------
        num_tokens : int or None
            As for the class.
        """
        if num_tokens is not None:
            num_tokens = as_integer("num_tokens", num_tokens, start=1, stop=MAX_SIZE)
        changed = copy.copy(self)
        changed.order = dataclasses.replace(self.order, num_epoch_tokens=num_tokens)
        return changed

    def order_for(self, order: str | Order) -> MixtureOrder:
        """Return the order of the mixture, after a check that random order was asked for.

        Raises
        ------
        ArgumentError
            It was another one.
        """
        if order in ("random", MixtureOrder.kind) or order is self.order:
            return self.order
        name = order if isinstance(order, str) else type(order).__name__
        why = "has no place for parts"
        if name == "sequential":
            why = "carries a hidden state from each batch to the next, which means nothing in "
            why += "another part"
        msg = (
            f"a mixture is read in random order, and {name} order {why}: use "
            "RandomWindows(mixture), or join the corpora with Corpus.concatenate"
        )
        raise ArgumentError(msg)

    @functools.cached_property
    def proof(self) -> dict[str, str]:
        """What a saved position keeps of the tokens: the hash of the join and of each part."""
        return prove_parts(self.corpus, self.parts)


def prove_parts(corpus: Corpus, parts: Mapping[str, Corpus]) -> dict[str, str]:
    """Return what a saved position keeps of the tokens of a mixture; see `Mixture.proof`."""
    return {
        "corpus": corpus.hash,
        **{f"part.{name}.corpus": part.hash for name, part in parts.items()},
    }


def _as_parts(parts: object, *, needs_weights: bool) -> dict[str, tuple[Corpus, float]]:
    if not isinstance(parts, Mapping) or not parts:
        msg = f"{_PARTS}, of at least one part, got {show(parts)}"
        raise ArgumentError(msg)
    given = {}
    for name, part in parts.items():
        if not isinstance(name, str) or not name:
            msg = f"the name of a part must be a str that is not empty, got {show(name)}"
            raise ArgumentError(msg)
        pair = tuple(part) if isinstance(part, tuple | list) else (part, None)
        corpus, weight = pair if len(pair) == 2 else (part, None)
        if type(corpus) is not Corpus or (needs_weights and weight is None):
            expected = "a corpus and its weight" if needs_weights else "a corpus"
            cure = _PARTS
            if isinstance(corpus, Mixture):
                cure = "name the parts of that mixture instead, with the products of the weights"
            msg = f"the part {name!r} must be {expected}, got {show(part)}: {cure}"
            raise ArgumentError(msg)
        given[name] = (corpus, 0.0 if weight is None else weight)
    return given


def _as_stages(
    stages: object, names: Sequence[str]
) -> tuple[tuple[tuple[int, dict[str, float]], ...], tuple[Stage, ...]]:
    """Return the stages as they were given, and with weights on the grid."""
    if not isinstance(stages, Iterable) or isinstance(stages, str | Mapping):
        msg = f"{_STAGES}, got {show(stages)}"
        raise ArgumentError(msg)
    given, made = [], list[Stage]()
    stages = list(stages)
    for stage in stages:
        if not isinstance(stage, tuple | list) or len(stage) != 2:
            msg = f"{_STAGES}, got {show(stage)} in it"
            raise ArgumentError(msg)
        first, weights = stage
        first = as_integer("the first token of a stage", first, stop=MAX_SIZE)
        if not made and first != 0:
            msg = f"the first stage must begin at token 0, got {first:,}"
            raise ArgumentError(msg)
        if made and first <= made[-1].first_token:
            msg = (
                f"each stage must begin after the one before it, got one at token {first:,} "
                f"after one at {made[-1].first_token:,}"
            )
            raise ArgumentError(msg)
        where = f"the stage at token {first:,}" if made or len(stages) > 1 else "the mixture"
        made.append(Stage(first, _as_weights(weights, names, where=where)))
        given.append((first, {name: float(weight) for name, weight in weights.items()}))
    if not made:
        msg = f"{_STAGES}, of at least one stage, got none"
        raise ArgumentError(msg)
    return tuple(given), tuple(made)


def _as_weights(weights: object, names: Sequence[str], *, where: str) -> tuple[int, ...]:
    if not isinstance(weights, Mapping):
        msg = f"the weights of {where} must be a dict by names of parts, got {show(weights)}"
        raise ArgumentError(msg)
    for name, weight in weights.items():
        if name not in names:
            msg = (
                f"{where} has a weight of {show(name)}, and the parts are "
                f"{', '.join(map(repr, names))}{suggest(str(name), names)}"
            )
            raise ArgumentError(msg)
        number = as_number(f"the weight of {name!r}", weight)
        if not 0 <= number < math.inf:
            msg = f"the weight of {name!r} must be a number of at least 0, got {show(weight)}"
            raise ArgumentError(msg)
    numbers = [float(weights.get(name, 0.0)) for name in names]
    if not any(numbers):
        msg = f"{where} must have a weight of more than 0, got 0 for each of {', '.join(names)}"
        raise ArgumentError(msg)
    return grid_weights(numbers)


def _as_repeats(max_repeats: float | None) -> float | None:
    if max_repeats is None:
        return None
    number = as_number("max_repeats", max_repeats)
    if not number > 0:
        msg = f"max_repeats must be more than 0, or None for no limit, got {show(max_repeats)}"
        raise ArgumentError(msg)
    # What is kept of a run is JSON, which has no infinity.
    return None if number == math.inf else number
