"""Mixtures as they are typed: parts with their weights, stages, and texts to measure on."""

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tokenloom._wording import show
from tokenloom.corpus.corpus import Corpus
from tokenloom.corpus.mixture import Mixture
from tokenloom.errors import ArgumentError

_PART = re.compile(r"(?P<name>[^=:/]+)=(?P<weight>[^:]*):(?P<corpus>.+)", re.DOTALL)
_FORM = "NAME=WEIGHT:CORPUS, such as web=0.7:web-store"
_STAGE_FORM = "TOKENS:NAME=WEIGHT,NAME=WEIGHT, such as 2000000000:web=0.5,code=0.5"


class TypedPart(NamedTuple):
    """A part of a mixture as it was typed: NAME=WEIGHT:CORPUS."""

    name: str
    weight: float
    corpus: str


class TypedStage(NamedTuple):
    """A stage as it was typed: TOKENS:NAME=WEIGHT,NAME=WEIGHT."""

    first_token: int
    weights: dict[str, float]


class TakeCorpora(argparse.Action):
    """Takes one corpus, or the parts of a mixture, which become ``parts`` of the namespace."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Keep what was typed in one string, and its parts."""
        del parser, option_string
        typed = [values] if isinstance(values, str) else list(values)
        is_mixture = len(typed) > 1 or is_part(typed[0])
        parts = [_parse_part(self, text) for text in typed] if is_mixture else []
        setattr(namespace, self.dest, " ".join(typed))
        namespace.parts = tuple(parts)


def one_corpus(typed: str) -> str:
    """Return one corpus as it was typed, and refuse a part of a mixture."""
    if is_part(typed):
        corpus = typed.partition(":")[2]
        msg = f"must be one corpus, no part of a mixture, got {show(typed)}: type {corpus}"
        raise argparse.ArgumentTypeError(msg)
    return typed


def add_mixture(command: argparse.ArgumentParser) -> None:
    """Add the options of how the parts of a mixture are read."""
    group = command.add_argument_group("mixture, of parts that are typed as NAME=WEIGHT:CORPUS")
    group.add_argument(
        "--stage",
        type=parse_stage,
        action="append",
        metavar="TOKENS:NAME=WEIGHT,...",
        help="other weights after this number of tokens of the whole training; may be repeated",
    )
    group.add_argument(
        "--epoch-tokens",
        type=_parse_tokens,
        metavar="N",
        help="length of an epoch in tokens; by default the longest that reads no part twice",
    )
    group.add_argument(
        "--max-repeats",
        type=float,
        metavar="N",
        help="refuse a training that reads a part more often than this",
    )


def parse_stage(text: str) -> TypedStage:
    """Return a stage."""
    first, colon, weights = text.partition(":")
    pairs = [pair.rpartition("=") for pair in weights.split(",")]
    try:
        stage = TypedStage(_parse_tokens(first), {name: float(weight) for name, _, weight in pairs})
    except ValueError:
        stage = None
    if not colon or stage is None or not all(stage.weights):
        msg = f"must be {_STAGE_FORM}, got {show(text)}"
        raise argparse.ArgumentTypeError(msg)
    if len(stage.weights) < len(pairs):
        msg = f"must name each part once, got {show(text)}"
        raise argparse.ArgumentTypeError(msg)
    return stage


def parts_of(arguments: argparse.Namespace) -> tuple[TypedPart, ...]:
    """Return the parts of the mixture that was typed; none where it was a corpus."""
    parts: tuple[TypedPart, ...] = getattr(arguments, "parts", ())
    return parts


def as_corpus(arguments: argparse.Namespace, part: TypedPart) -> argparse.Namespace:
    """Return the arguments as if the corpus of a part had been typed alone."""
    its = {"corpus": part.corpus, "part": part.name, "parts": ()}
    given = {*arguments.given, "corpus"}.difference(("stage", "epoch_tokens", "max_repeats"))
    return argparse.Namespace(**{**vars(arguments), **its, "given": given})


def make_mixture(arguments: argparse.Namespace, corpora: Mapping[str, Corpus]) -> Mixture:
    """Return the mixture of the parts that were typed.

    Parameters
    ----------
    arguments : Namespace
    corpora : mapping of str to Corpus
        The text of each part that is read, by its name.
    """
    weights = {part.name: part.weight for part in parts_of(arguments)}
    return Mixture(
        corpora,
        stages=[(0, weights), *(arguments.stage or [])],
        num_tokens=arguments.epoch_tokens,
        max_repeats=arguments.max_repeats,
    )


def check_names(parts: Sequence[TypedPart]) -> None:
    """Check that no two parts have the same name.

    Raises
    ------
    ArgumentError
        Two parts have the same name.
    """
    names = [part.name for part in parts]
    if twice := [name for at, name in enumerate(names) if name in names[:at]]:
        msg = f"the names of parts must differ, got {twice[0]!r} twice"
        raise ArgumentError(msg)


def is_part(text: str) -> bool:
    """Return whether a corpus that was typed alone has the form of a part of a mixture."""
    found = _PART.fullmatch(text)
    if found is None:
        return False
    # The name of a file may have that form too.
    return _is_number(found["weight"]) or not os.path.lexists(text)


def _parse_part(action: argparse.Action, text: str) -> TypedPart:
    found = _PART.fullmatch(text)
    if found is None:
        reason = f"several corpora make a mixture: each must be {_FORM}, got {show(text)}"
        raise argparse.ArgumentError(action, reason)
    if not _is_number(found["weight"]):
        reason = (
            f"a part of a mixture must be {_FORM}, got the weight {show(found['weight'])}, which "
            f"is no number, in {show(text)}"
        )
        raise argparse.ArgumentError(action, reason)
    return TypedPart(found["name"], float(found["weight"]), found["corpus"])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parse_tokens(text: str) -> int:
    digits = text.replace("_", "").replace(",", "")
    if digits.isdecimal():
        return int(digits)
    msg = f"must be a number of tokens, got {show(text)}"
    raise argparse.ArgumentTypeError(msg)
