"""What tokenloom asks of a tokenizer."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, Protocol, Self

import numpy as np
import numpy.typing as npt

from tokenloom._checks import as_integer
from tokenloom._optional import panics_as_errors
from tokenloom._wording import count, show
from tokenloom.errors import CorpusError, UsageError
from tokenloom.text.boundaries import DOCUMENTS, Boundary
from tokenloom.text.documents import TextSegment
from tokenloom.text.ids import Ids, Offsets, as_ids
from tokenloom.text.normalize import Lost
from tokenloom.text.vocab import UNKNOWN_ID, Vocab

# Which character of a text each of its tokens begins with.
Places = range | npt.NDArray[np.int64]


class Tokenizer(Protocol):
    """The interface of a tokenizer of yours: any object with these members."""

    @property
    def vocab_size(self) -> int:
        """Number of different ids: each is in [0, vocab_size)."""

    def encode(self, text: str, /) -> npt.ArrayLike:
        """Return the ids of a text, one-dimensional."""

    def decode(self, ids: list[int], /) -> str:
        """Return the text of ids."""


@dataclass(frozen=True, slots=True)
class CompleteTokenizer(ABC):
    """The whole interface of a tokenizer, with defaults that are right for any.

    A built-in tokenizer is a subclass that gives better answers. Its fields,
    but for a vocabulary, are JSON-able and have defaults: with its name they
    stand in manifests and make it again.

    Attributes
    ----------
    name : str or None
        What users and manifests call it; None for a tokenizer from elsewhere.
    reads_bytes : bool
        Whether it takes texts as bytes, which need not be UTF-8. The segments
        that it encodes hold bytes then.
    """

    name: ClassVar[str | None] = None
    reads_bytes: ClassVar[bool] = False

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Number of different ids."""

    @abstractmethod
    def encode(self, text: str, /) -> npt.ArrayLike:
        """Return the ids of a text, one-dimensional."""

    @abstractmethod
    def decode(self, ids: list[int], /) -> str:
        """Return the text of ids."""

    @property
    def given(self) -> Tokenizer:
        """The tokenizer as it was given to tokenloom."""
        return self

    @property
    def hash(self) -> str | None:
        """``"sha256:..."`` of all that its ids depend on, beside its vocabulary; else None."""
        return None

    @property
    def boundary(self) -> Boundary:
        """Where a document may be cut so that its ids stay the same."""
        return DOCUMENTS

    def encode_prompt(self, prompt: str, /) -> npt.ArrayLike:
        """Return the ids of a text that a model continues."""
        return self.encode(prompt)

    def find_unknown(self, _: str, /) -> list[str]:
        """Return the tokens of a prompt that have no id of their own, each once."""
        return []

    def encode_one(self, text: str, *, name: str, is_prompt: bool = False) -> Ids:
        """Return the ids of a text, or of a prompt, after a check of their type and range.

        Raises
        ------
        CorpusError
            The tokenizer raises an error of any kind, or its ids are out of range.
        """
        encode = self.encode_prompt if is_prompt else self.encode
        try:
            with panics_as_errors():
                return as_ids(encode(text), num_ids=self.vocab_size)
        # Nothing is wrong with the text where memory, or a package, is missing.
        except (MemoryError, UsageError):
            raise
        # A tokenizer that refuses a text may raise any error.
        except Exception as error:
            kind = type(self.given).__name__
            msg = (
                f"the tokenizer {kind} must encode every text, but failed at {name}: "
                f"{type(error).__name__}: {error}"
            )
            raise CorpusError(msg) from error

    def encode_segments(self, segments: Sequence[TextSegment]) -> tuple[Ids, Offsets]:
        """Return the ids of many segments, and how many come before the end of each.

        Raises
        ------
        CorpusError
            The tokenizer refuses one of them; see `encode_one`.
        """
        is_alone = len(segments) == 1
        each = [
            self.encode_one(
                str(segment.text), name="the text" if is_alone else f"document {number}"
            )
            for number, segment in enumerate(segments)
        ]
        return join_ids(each)

    def find_characters(self, segment: TextSegment, /) -> Places | None:
        """Return with which character of a segment each token of it begins, if that is known.

        -1 is the last character before the segment. Where `reads_bytes`, bytes are
        counted.
        """
        del segment
        return None

    def count_lost(self, _: Iterable[str], /) -> Lost:
        """Return how many characters normalising drops from texts."""
        return Lost()

    def token_lengths(self) -> npt.NDArray[np.int64] | None:
        """Return how many characters of text each id stands for, -1 where that is not known.

        Returns None if the length of no id is known. The lengths of a text's ids add up to
        the characters of the text as the tokenizer reads it, after
        normalisation. So a character that is made of several tokens counts
        once, in the token with its first byte: the length of a token of bytes
        is the number of its bytes that do not continue a character. An id that
        stands for no text, such as the end of a document, has length 0.
        """
        return None

    def token_byte_lengths(self) -> npt.NDArray[np.int64] | None:
        """Return how many bytes of text in UTF-8 each id stands for, like `token_lengths`.

        A byte-level tokenizer has the number of bytes of each token.
        """
        return None

    def list_tokens(self) -> tuple[str, ...] | None:
        """Return the token of each id, as a file of another project lists them, if there are any.

        Different ids have different tokens.
        """
        return None

    def find_token(self, token: str, /) -> int | None:
        """Return the id of a token that is given as a str, or None where there is none."""
        vocab = vocab_of(self)
        return vocab[token] if vocab is not None and token in vocab else None

    def special_tokens(self) -> dict[str, int]:
        """Return the tokens that stand for something else than text, each with its id."""
        vocab = vocab_of(self)
        return {} if vocab is None else {token: vocab[token] for token in vocab.reserved_tokens}

    @property
    def unknown_id(self) -> int | None:
        """The id of any text that has no other id, or None if there is no such id."""
        return None if vocab_of(self) is None else UNKNOWN_ID

    def files(self) -> dict[str, bytes]:
        """Return the files, beside a vocabulary, that a store or a run keeps of the tokenizer."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Return the values that make it again with its vocabulary and files: JSON-able."""
        values = {name: getattr(self, name) for name, _ in self._parameters()}
        return {"name": self.name, **values}

    @classmethod
    def restore(
        cls,
        description: Mapping[str, object],
        *,
        load_vocab: Callable[[], Vocab],
        load_file: Callable[[str], bytes],
    ) -> Self | None:
        """Return the tokenizer that `describe` described, or None where a value is missing."""
        del load_file
        values: dict[str, Any] = {name: description.get(name) for name, _ in cls._parameters()}
        if any(type(values[name]) is not type(default) for name, default in cls._parameters()):
            return None
        if any(field.name == "vocab" for field in dataclasses.fields(cls)):
            values["vocab"] = load_vocab()
        return cls(**values)

    @classmethod
    def _parameters(cls) -> list[tuple[str, object]]:
        """Return the names and defaults of what a description holds."""
        fields = dataclasses.fields(cls)
        return [(field.name, field.default) for field in fields if field.name != "vocab"]


@dataclass(frozen=True, slots=True)
class LearnedTokenizer(CompleteTokenizer):
    """A tokenizer that is still to be learnt from whole documents.

    Until then it encodes nothing.
    """

    @abstractmethod
    def with_special(self, tokens: Sequence[str], /) -> Self:
        """Return the same with more tokens that stand for something else than text."""

    @abstractmethod
    def learn(self, texts: Iterable[str], /, *, in_threads: bool = False) -> CompleteTokenizer:
        """Return the tokenizer that is learnt from whole documents."""

    def encode(self, _: str, /) -> NoReturn:
        """Refuse to encode: the tokenizer that `learn` returns does.

        Raises
        ------
        UsageError
            Always.
        """
        msg = f"{self.name!r} must learn first: call learn(texts), which returns the tokenizer"
        raise UsageError(msg)

    def decode(self, _: list[int], /) -> NoReturn:
        """Refuse to decode, as `encode` does."""
        self.encode("")


@dataclass(frozen=True, slots=True)
class UserTokenizer(CompleteTokenizer):
    """A tokenizer from elsewhere: only its own attributes are known."""

    inner: Tokenizer

    @property
    def vocab_size(self) -> int:
        """Number of different ids, as a plain integer, since JSON takes none of NumPy's."""
        return as_integer("vocab_size of the tokenizer", self.inner.vocab_size, start=1)

    @property
    def vocab(self) -> Vocab | None:
        """The vocabulary, where the tokenizer has one of tokenloom's."""
        return vocab_of(self.inner)

    def encode(self, text: str, /) -> npt.ArrayLike:
        """Return the ids of a text."""
        return self.inner.encode(text)

    @panics_as_errors()
    def decode(self, ids: list[int], /) -> str:
        """Return the text of ids."""
        return self.inner.decode(ids)

    @property
    def given(self) -> Tokenizer:
        """The object itself."""
        return self.inner

    def encode_prompt(self, prompt: str, /) -> npt.ArrayLike:
        """Return the ids of a prompt."""
        encode: Callable[[str], npt.ArrayLike]
        encode = getattr(self.inner, "encode_prompt", self.inner.encode)
        return encode(prompt)

    def token_lengths(self) -> npt.NDArray[np.int64] | None:
        """Return how many characters each id stands for, where the object has such a method."""
        return self._measure_tokens("token_lengths")

    def token_byte_lengths(self) -> npt.NDArray[np.int64] | None:
        """Return how many bytes each id stands for, where the object has such a method."""
        return self._measure_tokens("token_byte_lengths")

    def _measure_tokens(self, name: str) -> npt.NDArray[np.int64] | None:
        # The method of a built-in tokenizer whose encode was replaced would describe its old ids.
        method = None if isinstance(self.inner, CompleteTokenizer) else getattr(self.inner, name, 0)
        lengths = method() if callable(method) else None
        if lengths is None:
            return None
        array = np.asarray(lengths)
        if array.shape != (self.vocab_size,) or array.dtype.kind not in "iu":
            msg = (
                f"{name}() of the tokenizer {type(self.inner).__name__} must return "
                f"{count(self.vocab_size, 'integer')}, one for each id, got {show(lengths)}"
            )
            raise CorpusError(msg)
        return array.astype(np.int64)

    def describe(self) -> dict[str, Any]:
        """Return the name of its type, which does not make it again."""
        return {"name": None, "type": type(self.inner).__name__}


def vocab_of(tokenizer: object) -> Vocab | None:
    """Return the vocabulary of a tokenizer, if it has one.

    >>> vocab_of(object()) is None
    True
    """
    vocab = getattr(tokenizer, "vocab", None)
    return vocab if isinstance(vocab, Vocab) else None


def join_ids(each: Sequence[Ids]) -> tuple[Ids, Offsets]:
    """Return ids in one array, and how many come before the end of each part.

    >>> join_ids([np.array([7, 8]), np.array([9])])
    (array([7, 8, 9]), array([2, 3]))
    """
    ids = np.concatenate(each) if each else np.empty(0, np.uint8)
    return ids, np.cumsum(list(map(len, each)), dtype=np.int64)
