"""The table between tokens and their ids."""

import contextlib
import copy
import itertools
import json
import math
import operator
import os
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar, overload, runtime_checkable

import numpy as np

from tokenloom._checks import as_integer, as_number, to_integer
from tokenloom._io.atomic import write_text
from tokenloom._io.digest import hash_json
from tokenloom._io.regular import read_bounded
from tokenloom._wording import count, show
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.text.ids import Ids, narrow_dtype

UNKNOWN_ID = 0
UNKNOWN_TOKEN = "<unk>"  # noqa: S105  no password, a token of text

_FORMAT = "tokenloom-vocab"
_FORMAT_VERSION = 1
# How the tokens and their frequencies stand in a file: each on a line of its own.
_NO_PAIRS = '"frequencies": []'
_BEFORE_PAIRS, _AFTER_PAIRS = '"frequencies": [\n[\n', "\n]\n]"
_BETWEEN_PAIRS, _IN_A_PAIR = "\n],\n[\n", ",\n"
# No vocabulary that fits into memory has a larger file.
_MAX_BYTES = 1 << 32

_Token = TypeVar("_Token", bound=Hashable)


@runtime_checkable
class _HasToList(Protocol):
    def tolist(self) -> Any:
        """Return an array's or a tensor's values as nested lists of numbers."""


class Vocab:
    """The tokens of a corpus, each with its id.

    Id 0 is the unknown token; then come the reserved tokens, then the tokens
    by falling frequency, ties in order of first appearance. A vocabulary does
    not change after it was made.

    Parameters
    ----------
    tokens : iterable of str, of nested iterables of str, or mapping str -> int
        The text, token by token, to be counted; or the finished counts, whose
        ties then stand in the order of the mapping.
    min_freq : int
        Tokens that appear less often get no id of their own; at least 0.
    reserved_tokens : iterable of str
        Tokens that get the ids from 1 on, in this order, counted or not.
        `frequencies` has those that were counted too.
    vocab_size : int, optional
        The most ids that there may be, with those of the unknown token and of
        the reserved ones. The most frequent tokens get them; the others are
        not in `frequencies` either.
    unknown_token : str
        What id 0 is called.

    Raises
    ------
    ArgumentError
        A token is no string, a count is no finite number, the reserved tokens name one
        twice, ``min_freq`` is no integer of at least 0, or ``vocab_size`` leaves no
        id for a token of the text.

    >>> vocab = Vocab(["a", "b", "b"], reserved_tokens=["<pad>"])
    >>> len(vocab), vocab["b"], vocab[["a", ["z"]]], vocab.to_tokens([0, 2])
    (4, 2, [3, [0]], ['<unk>', 'b'])
    """

    __slots__ = (
        "_counted",
        "_counts",
        "_hash",
        "_ids",
        "_kind",
        "_min_freq",
        "_normalize",
        "_reserved_tokens",
        "_tokens",
    )

    _ids: dict[str, int]
    _tokens: tuple[str, ...]
    _counted: tuple[str, ...]
    _counts: tuple[int, ...]
    _kind: str | None
    _normalize: bool | None

    def __init__(
        self,
        tokens: Iterable[Any] | Mapping[str, int] = (),
        *,
        min_freq: int = 0,
        reserved_tokens: Iterable[str] = (),
        vocab_size: int | None = None,
        unknown_token: str = UNKNOWN_TOKEN,
    ) -> None:
        for name, given in (("tokens", tokens), ("reserved_tokens", reserved_tokens)):
            if isinstance(given, set | frozenset):
                msg = f"{name} must have an order, got {show(given)}: a set has another one in "
                raise ArgumentError(msg + "each process, pass a list")
        min_freq = as_integer("min_freq", min_freq)
        counts = tokens if isinstance(tokens, Mapping) else Counter(_flatten(tokens))
        wrong = [token for token in (unknown_token, *counts) if not isinstance(token, str)]
        if wrong:
            msg = f"a token must be a str, got {show(wrong[0])}"
            raise ArgumentError(msg)
        if not set(map(type, counts.values())) <= {int}:
            _check_counts(counts)
        special = [unknown_token, *_flatten(reserved_tokens)]
        if len(set(special)) < len(special):
            msg = (
                "reserved_tokens must differ from each other and from the unknown "
                f"token {unknown_token!r}, got {show(special[1:])}"
            )
            raise ArgumentError(msg)
        if vocab_size is not None:
            vocab_size = as_integer("vocab_size", vocab_size)
            _check_room(vocab_size, special)
        frequencies = sort_counts(counts)
        self._ids = number_tokens(
            frequencies, special=special, min_freq=min_freq, vocab_size=vocab_size
        )
        self._tokens = tuple(self._ids)
        self._hash: str | None = None
        if vocab_size is not None:
            frequencies = {token: num for token, num in frequencies.items() if token in self._ids}
        # Not as a dict, which takes a while to make of a million tokens and is seldom asked for.
        self._counted, self._counts = tuple(frequencies), tuple(frequencies.values())
        self._min_freq = min_freq
        self._reserved_tokens = tuple(special[1:])
        self._kind, self._normalize = None, None

    @classmethod
    def _of_sorted(
        cls, tokens: list[str], counts: list[int], *, min_freq: int, **special: Any
    ) -> "Vocab | None":
        """Return the vocabulary of tokens with their counts, as most files hold them.

        None where a count rises or is below ``min_freq``, where a token is there
        twice, and where something has another type.
        """
        vocab = cls(min_freq=min_freq, **special)
        if set(map(type, tokens)) != {str} or set(map(type, counts)) != {int}:
            return None
        names = (*vocab.tokens, *tokens)
        ids = dict(zip(names, itertools.count(), strict=False))
        are_sorted = all(map(operator.ge, counts, counts[1:])) and counts[-1] >= min_freq
        if not are_sorted or len(ids) < len(names):
            return None
        vocab._ids, vocab._tokens = ids, names
        vocab._counted, vocab._counts = tuple(tokens), tuple(counts)
        return vocab

    def __setstate__(self, state: tuple[None, dict[str, Any]]) -> None:
        # Older releases pickled a dict of the counts, and the first of them no hash.
        values = {"_hash": None} | state[1]
        if (frequencies := values.pop("_frequencies", None)) is not None:
            values["_counted"] = tuple(frequencies)
            values["_counts"] = tuple(frequencies.values())
        for name, value in values.items():
            setattr(self, name, value)

    @property
    def tokens(self) -> tuple[str, ...]:
        """All tokens; the position of each is its id."""
        return self._tokens

    @property
    def frequencies(self) -> dict[str, int]:
        """How often each counted token appears, in falling order.

        Tokens below ``min_freq`` are in it too, unless a ``vocab_size`` was given.
        """
        return dict(zip(self._counted, self._counts, strict=True))

    @property
    def unknown_token(self) -> str:
        """What id 0 is called."""
        return self._tokens[UNKNOWN_ID]

    @property
    def hash(self) -> str:
        """``"sha256:..."`` of the tokens in order: equal hashes, equal ids."""
        if self._hash is None:
            self._hash = hash_json(self._tokens)
        return self._hash

    @property
    def reserved_tokens(self) -> tuple[str, ...]:
        """The tokens with the ids from 1 on, which were reserved."""
        return self._reserved_tokens

    @property
    def kind(self) -> str | None:
        """The name of its tokenizer, "char" or "word"; None if that is not known."""
        return self._kind

    @property
    def normalize(self) -> bool | None:
        """Whether texts are normalised before they become its tokens, where that is known."""
        return self._normalize

    def of_kind(self, kind: str | None, *, normalize: bool | None = None) -> Self:
        """Return the same vocabulary with another kind and normalisation, or with neither."""
        if (self._kind, self._normalize) == (kind, normalize):
            return self
        vocab = copy.copy(self)
        vocab._kind, vocab._normalize = kind, normalize  # noqa: SLF001  made here
        return vocab

    @property
    def has_only_characters(self) -> bool:
        """Whether every token that is not special is a single character."""
        num_special = 1 + len(self._reserved_tokens)
        return all(len(token) == 1 for token in self._tokens[num_special:])

    def __len__(self) -> int:
        return len(self._tokens)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._ids

    def __eq__(self, other: object) -> bool:
        return self._tokens == other._tokens if isinstance(other, Vocab) else False

    def __hash__(self) -> int:
        return hash(self._tokens)

    def __repr__(self) -> str:
        return f"Vocab({count(len(self), 'token')}, {self.hash[:15]}...)"

    @overload
    def __getitem__(self, tokens: str) -> int: ...
    @overload
    def __getitem__(self, tokens: Iterable[Any]) -> list[Any]: ...
    def __getitem__(self, tokens: str | Iterable[Any]) -> int | list[Any]:
        """Return the id of a token, or nested lists of ids for nested tokens."""
        if isinstance(tokens, str):
            return self._ids.get(tokens, UNKNOWN_ID)
        if isinstance(tokens, Iterable):
            return [self[token] for token in tokens]
        msg = f"tokens must be a str or nested lists of str, got {show(tokens)}"
        raise ArgumentError(msg)

    def to_ids(self, tokens: Collection[str]) -> Ids:
        """Return the ids of many tokens as one array.

        Parameters
        ----------
        tokens : collection of str

        Returns
        -------
        unsigned integer array, shape (len(tokens),)
            In the smallest dtype that holds every id of the vocabulary.

        >>> Vocab(["a", "b", "b"]).to_ids(["a", "z", "b"])
        array([2, 0, 1], dtype=uint8)
        """
        if getattr(tokens, "ndim", 1) != 1 or not isinstance(tokens, Collection):
            msg = f"tokens must be a collection of str, got {show(tokens)}"
            raise ArgumentError(msg)
        ids = map(self._ids.get, tokens, itertools.repeat(UNKNOWN_ID))
        return np.fromiter(ids, narrow_dtype(len(self)), len(tokens))

    @overload
    def to_tokens(self, ids: int) -> str: ...
    @overload
    def to_tokens(self, ids: Iterable[Any]) -> list[Any]: ...
    def to_tokens(self, ids: Any) -> Any:
        """Return the token of an id, or nested lists of tokens.

        Parameters
        ----------
        ids : int, nested lists of int, integer array or integer tensor

        Raises
        ------
        ArgumentError
            An id is outside [0, len(vocab)) or no integer.
        """
        # Test for int first: isinstance with a protocol is slow.
        is_array = not isinstance(ids, int) and isinstance(ids, _HasToList)
        values = ids.tolist() if is_array else ids
        if isinstance(values, Iterable) and not isinstance(values, str):
            return [self.to_tokens(value) for value in values]
        try:
            position = to_integer(values)
        except TypeError:
            msg = f"an id must be an integer, got {show(values)}"
            raise ArgumentError(msg) from None
        if not 0 <= position < len(self):
            msg = f"an id must be in [0, {len(self)}), got {show(position)}"
            raise ArgumentError(msg)
        return self._tokens[position]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the vocabulary to a JSON file, whole or not at all.

        Raises
        ------
        ArgumentError
            No file can have that path.
        OSError
            The file cannot be written.
        """
        write_text(path, self.to_json())
        return Path(path)

    def to_json(self, *, with_kind: bool = True) -> str:
        """Return the text of the file that `save` writes, in ASCII.

        The file does not hold how texts become its tokens.
        """
        value: dict[str, Any] = {
            "format": _FORMAT,
            "version": _FORMAT_VERSION,
            "unknown_token": self.unknown_token,
            "reserved_tokens": self._reserved_tokens,
            "min_freq": self._min_freq,
            "frequencies": [],
        }
        if with_kind and self._kind is not None:
            value["tokenizer"] = {"name": self._kind, "normalize": self._normalize}
        text = json.dumps(value, indent=0) + "\n"
        if not self._counted:
            return text
        # The lines that json makes of the pairs [["a", 2], ["b", 1]], many times as fast.
        pairs = _BETWEEN_PAIRS.join(
            f"{encode_basestring_ascii(token)}{_IN_A_PAIR}{int(number)}"
            for token, number in zip(self._counted, self._counts, strict=True)
        )
        return text.replace(_NO_PAIRS, f"{_BEFORE_PAIRS}{pairs}{_AFTER_PAIRS}", 1)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Vocab":
        """Read a vocabulary that `save` wrote, or that lies in a store or a run.

        Raises
        ------
        CorpusError
            The file is no vocabulary of a version that this release reads.
        OSError
            The file cannot be read, or is no regular file.
        """
        vocab = read_vocab(path)
        return vocab if vocab.kind is not None else _of_tokenizer(vocab, _read_beside(Path(path)))


def read_vocab(path: str | os.PathLike[str], *, name: str | os.PathLike[str] = "") -> Vocab:
    """Return what `Vocab.load` returns, without reading the files beside it.

    Messages call the file by ``name``, by default by its path.
    """
    return parse_vocab(read_bounded(path, max_bytes=_MAX_BYTES), name or path)


def parse_vocab(content: bytes, path: str | os.PathLike[str]) -> Vocab:
    """Return the vocabulary of the content of a file, whose path messages have.

    Raises
    ------
    CorpusError
        It is no vocabulary of a version that this release reads.
    """
    try:
        value = _parse(content)
        kind = value["format"], value["version"]
        given = {
            # Older releases accepted numbers below 0.
            "min_freq": max(int(value["min_freq"]), 0),
            "reserved_tokens": value["reserved_tokens"],
            "unknown_token": value["unknown_token"],
        }
        frequencies = value["frequencies"]
        vocab = None
        if isinstance(frequencies, tuple):
            vocab = Vocab._of_sorted(*frequencies, **given)  # noqa: SLF001  it is read here
            frequencies = zip(*frequencies, strict=True)
        if vocab is None:
            vocab = Vocab({token: int(count) for token, count in frequencies}, **given)
        made_by = value.get("tokenizer")
    except (KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise CorpusError(_wrong_file(path)) from error
    if kind != (_FORMAT, _FORMAT_VERSION):
        raise CorpusError(_wrong_file(path))
    return _of_tokenizer(vocab, made_by)


def _parse(content: bytes) -> Any:
    """Return the JSON value of a vocabulary's file, or None if it holds anything but pairs."""
    text = content.decode(json.detect_encoding(content), "surrogatepass")
    head, begins, rest = text.partition(_BEFORE_PAIRS)
    pairs, ends, tail = rest.partition(_AFTER_PAIRS)
    if not (begins and ends):
        return json.loads(text)
    value = json.loads(f"{head}{_NO_PAIRS}{tail}")
    # As `Vocab.to_json` writes them. One flat list is read several times as fast as a million
    # short ones, through which the garbage collector would go again and again.
    flat = json.loads(f"[{pairs.replace(_BETWEEN_PAIRS, _IN_A_PAIR)}]")
    if len(flat) != 2 * (pairs.count(_BETWEEN_PAIRS) + 1):
        return None
    value["frequencies"] = flat[::2], flat[1::2]
    return value


def is_vocab(text: str) -> bool:
    """Return whether the text of a file is a vocabulary, of any version."""
    try:
        value = json.loads(text)
    except (RecursionError, ValueError):
        return False
    return isinstance(value, dict) and value.get("format") == _FORMAT


def _of_tokenizer(vocab: Vocab, description: object) -> Vocab:
    """Return a vocabulary with the kind and normalisation of a description, if there is one."""
    match description:
        case {"name": str(name), "normalize": bool(normalize)}:
            return vocab.of_kind(name, normalize=normalize)
    return vocab


def _read_beside(path: Path) -> object:
    """Return how a store or a run describes the tokenizer of a vocabulary that lies in it."""
    for name in ("manifest.json", "settings.json"):
        with contextlib.suppress(OSError, KeyError, RecursionError, TypeError, ValueError):
            content = read_bounded(path.with_name(name), max_bytes=_MAX_BYTES)
            return json.loads(content)["tokenizer"]
    return None


def sort_counts(counts: Mapping[_Token, int]) -> dict[_Token, int]:
    """Return counts in falling order, ties in the order of the mapping.

    >>> sort_counts({"a": 1, "b": 2, "c": 1})
    {'b': 2, 'a': 1, 'c': 1}
    """
    numbers = list(counts.values())
    if all(map(operator.ge, numbers, numbers[1:])):
        # Those of a file are sorted already, and a copy takes a tenth of the time.
        return dict(counts)
    # sorted() is stable and a Counter keeps the order of insertion, so ties
    # stay in order of first appearance.
    return dict(sorted(counts.items(), key=operator.itemgetter(1), reverse=True))


def number_tokens(
    frequencies: Mapping[_Token, int],
    *,
    special: Iterable[_Token],
    min_freq: int,
    vocab_size: int | None = None,
) -> dict[_Token, int]:
    """Return the id of each token: the special ones, then the others in their order.

    Parameters
    ----------
    frequencies : mapping of token to int
        In falling order, as from `sort_counts`.
    special : iterable of tokens
        They get the ids from 0 on, counted or not.
    min_freq : int
        Tokens that appear less often get no id.
    vocab_size : int, optional
        The largest number of ids.

    >>> number_tokens({"c": 3, "b": 2, "a": 1}, special=["<unk>"], min_freq=2)
    {'<unk>': 0, 'c': 1, 'b': 2}
    """
    tokens = list(special)
    taken = set(tokens)
    tokens += (
        token for token, count in frequencies.items() if count >= min_freq and token not in taken
    )
    return dict(zip(tokens[:vocab_size], itertools.count(), strict=False))


def _check_counts(counts: Mapping[str, object]) -> None:
    """Refuse counts that are no finite numbers, which have no order."""
    for token, number in counts.items():
        name = f"the count of {show(token)}"
        if not math.isfinite(as_number(name, number)):
            msg = f"{name} must be finite, got {show(number)}"
            raise ArgumentError(msg)


def _check_room(vocab_size: int, special: Sequence[str]) -> None:
    """Refuse a number of ids that leaves none for a token of the text."""
    needed = len(special) + 1
    if vocab_size < needed:
        num_reserved = len(special) - 1
        reserved = f", {count(num_reserved, 'reserved token')}" if num_reserved else ""
        msg = (
            f"vocab_size must be at least {needed}, for {special[0]}{reserved} and one token of "
            f"the text, got {vocab_size}"
        )
        raise ArgumentError(msg)


def _wrong_file(path: str | os.PathLike[str]) -> str:
    return (
        f"{os.fspath(path)!r} must be a vocabulary in the format {_FORMAT!r} "
        f"version {_FORMAT_VERSION}: write it again with Vocab.save"
    )


def _flatten(tokens: Iterable[Any]) -> Iterator[str]:
    # A zero-dimensional tensor has an __iter__ that raises.
    is_scalar = getattr(tokens, "ndim", 1) == 0
    if is_scalar or isinstance(tokens, str) or not isinstance(tokens, Iterable):
        msg = f"expected an iterable of str tokens (or of such iterables), got {show(tokens)}"
        raise ArgumentError(msg)
    for token in tokens:
        if isinstance(token, str):
            yield token
        else:
            yield from _flatten(token)
