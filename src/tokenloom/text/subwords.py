"""Tokenizers of sub-words, by value: those of tokenizers, tiktoken and sentencepiece.

None of these packages is imported before a text is encoded or decoded, and each
process builds an encoder once, of a state that is plain text or bytes.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import sys
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from tokenloom._io.regular import read_bounded
from tokenloom._optional import import_optional
from tokenloom._wording import count, show
from tokenloom.errors import ArgumentError, CorpusError, UsageError
from tokenloom.text.documents import TextSegment
from tokenloom.text.ids import Ids, Offsets, as_ids, narrow_dtype
from tokenloom.text.interface import CompleteTokenizer, LearnedTokenizer, join_ids
from tokenloom.text.vocab import Vocab, is_vocab

END_OF_TEXT = "<|endoftext|>"
DEFAULT_VOCAB_SIZE = 16_384
# Where a file lies in a store or a run.
TOKENIZER_JSON = "tokenizer.json"
FILE_NAMES = (TOKENIZER_JSON,)
# The switch of the package tokenizers that lets batches use threads.
PARALLELISM = "TOKENIZERS_PARALLELISM"

_NUM_BYTES = 256
# So much text is encoded in one call; more would only take memory.
_BATCH_CHARACTERS = 1 << 18
_NUM_ENCODERS = 4
# More than any tokenizer's file.
_MAX_BYTES = 1 << 30

_logger = logging.getLogger(__name__)
# What each process has built, by what it was built of.
_encoders: dict[object, Any] = {}


@dataclass(frozen=True, slots=True, repr=False)
class SubwordTokenizer(CompleteTokenizer):
    """A tokenizer of another package, whose state is kept by value.

    Attributes
    ----------
    package : str
        Which encodes and decodes; the extra that installs it has the same name.
    num_ids : int
        One more than the largest id.
    digest : str
        ``"sha256:..."`` of its state: equal digests, equal ids.
    """

    package: ClassVar[str]
    num_ids: int
    digest: str

    @abstractmethod
    def make_encoder(self, module: Any, /) -> Any:
        """Return what encodes, of the package's module."""

    @abstractmethod
    def encode_texts(self, texts: Sequence[str], /) -> Iterator[Ids]:
        """Yield the ids of each text."""

    @abstractmethod
    def special_tokens(self) -> dict[str, int]:
        """Return the tokens that stand for something else than text, each with its id."""

    @abstractmethod
    def token_bytes(self) -> list[bytes | None] | None:
        """Return the bytes of text that each id stands for, None where they are not known.

        None where they are known of no id. A special token stands for no text.
        """

    @property
    def encoder(self) -> Any:
        """What encodes: an object of the package.

        Raises
        ------
        UsageError
            The package is not installed.
        """
        key = type(self), self.digest, getattr(self, "allow_special", False)
        encoder = _encoders.get(key)
        if encoder is None:
            what = "encoding or decoding text with this tokenizer"
            module = import_optional(self.package, purpose=what, extra=self.package)
            encoder = _encoders[key] = self.make_encoder(module)
            for old in list(_encoders)[:-_NUM_ENCODERS]:
                _encoders.pop(old, None)
        return encoder

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return self.num_ids

    @property
    def hash(self) -> str:
        """``"sha256:..."`` of the tokenizer's state."""
        return self.digest

    def encode(self, text: str, /) -> Ids:
        """Return the ids of a text, without any that the package would add."""
        return next(self.encode_texts([text]))

    def encode_segments(self, segments: Sequence[TextSegment]) -> tuple[Ids, Offsets]:
        """Return the ids of many segments, and how many come before the end of each.

        Raises
        ------
        CorpusError
            The tokenizer refuses one of them.
        UsageError
            The package is not installed.
        """
        texts = [str(segment.text) for segment in segments]
        try:
            return join_ids(list(self.encode_texts(texts)))
        except (MemoryError, UsageError):
            raise
        # Each package has errors of its own. One by one, the text that it refuses gets a name.
        except Exception:  # noqa: BLE001
            return CompleteTokenizer.encode_segments(self, segments)

    def token_lengths(self) -> npt.NDArray[np.int64] | None:
        """Return how many characters each id stands for, where its bytes are known."""
        return self._measure_tokens(lambda token: sum(byte & 0xC0 != 0x80 for byte in token))

    def token_byte_lengths(self) -> npt.NDArray[np.int64] | None:
        """Return how many bytes each id stands for, where they are known."""
        return self._measure_tokens(len)

    def _measure_tokens(self, measure: Callable[[bytes], int]) -> npt.NDArray[np.int64] | None:
        tokens = self.token_bytes()
        if tokens is None:
            return None
        return np.array([-1 if token is None else measure(token) for token in tokens], np.int64)

    def describe(self) -> dict[str, Any]:
        """Return what, beside its file, makes the tokenizer again: JSON-able."""
        return {"name": self.name, "vocab_size": self.num_ids, "sha256": self.digest}

    def _narrow(self, ids: npt.ArrayLike) -> Ids:
        return np.asarray(ids, narrow_dtype(self.num_ids))

    def _check(self, ids: list[int]) -> list[int]:
        numbers: list[int] = as_ids(ids, num_ids=self.num_ids).tolist()
        return numbers

    def __repr__(self) -> str:
        return f"{type(self).__name__}({count(self.num_ids, 'id')}, {self.digest[:15]}...)"


@dataclass(frozen=True, slots=True, repr=False)
class HuggingFaceTokenizer(SubwordTokenizer):
    """A tokenizer of the package ``tokenizers``, which is also in every fast one of transformers.

    It adds no special tokens, and neither truncates nor pads.

    Attributes
    ----------
    content : str
        What its ``to_str`` returns: the JSON of a tokenizer.json.
    allow_special : bool
        Whether special tokens that are written out in a text become their ids,
        rather than those of their characters.
    """

    name: ClassVar[str] = "tokenizers"
    package: ClassVar[str] = "tokenizers"
    content: str
    allow_special: bool = False

    @classmethod
    def of(cls, content: str, *, allow_special: bool = False, name: str = "the tokenizer") -> Self:
        """Return the tokenizer of a JSON text; what would cut or pad texts is switched off.

        Raises
        ------
        CorpusError
            The package cannot read it, or it has no ids.
        UsageError
            The package is not installed.
        """
        purpose = f"reading {name}"
        package = import_optional("tokenizers", purpose=purpose, extra="tokenizers")
        try:
            encoder = package.Tokenizer.from_str(_without_surprises(content, name))
            num_ids = max(encoder.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        # The package has no errors of its own.
        except Exception as error:
            msg = f"{name} must be JSON of the package tokenizers, which cannot read it: {error}"
            raise CorpusError(msg) from error
        if not num_ids:
            msg = f"{name} must have a vocabulary, got one without tokens: train it first"
            raise CorpusError(msg)
        content = encoder.to_str()
        return cls(num_ids, _digest(content.encode("utf-8")), content, allow_special)

    def make_encoder(self, module: Any, /) -> Any:
        """Return a Tokenizer."""
        encoder = module.Tokenizer.from_str(self.content)
        # It is not part of the JSON.
        encoder.encode_special_tokens = not self.allow_special
        return encoder

    def encode_texts(self, texts: Sequence[str], /) -> Iterator[Ids]:
        """Yield the ids of each text."""
        encoder = self.encoder
        for batch in _cut_batches(texts):
            with in_one_thread():
                encodings = encoder.encode_batch_fast(batch, add_special_tokens=False)
            for encoding in encodings:
                yield self._narrow(encoding.ids)

    def decode(self, ids: list[int], /) -> str:
        """Return the text of ids, special tokens among it."""
        text: str = self.encoder.decode(self._check(ids), skip_special_tokens=False)
        return text

    def find_character(self, segment: TextSegment, index: int, /) -> int | None:
        """Return which character of a segment a token of it begins with."""
        encoding = self.encoder.encode(str(segment.text), add_special_tokens=False)
        return int(encoding.offsets[index][0]) if index < len(encoding.offsets) else None

    def find_token(self, token: str, /) -> int | None:
        """Return the id of a token, as the vocabulary spells it."""
        found: int | None = self.encoder.token_to_id(token)
        return found

    def special_tokens(self) -> dict[str, int]:
        """Return the tokens that stand for something else than text, each with its id."""
        added = self.encoder.get_added_tokens_decoder()
        return {token.content: id_ for id_, token in sorted(added.items()) if token.special}

    def token_bytes(self) -> list[bytes | None] | None:
        """Return the bytes of each id, where the tokenizer is byte-level."""
        if (json.loads(self.content).get("decoder") or {}).get("type") != "ByteLevel":
            return None
        encoder, byte_of = self.encoder, _byte_of_character()
        added = encoder.get_added_tokens_decoder()
        tokens: list[bytes | None] = []
        for id_ in range(self.num_ids):
            token = encoder.id_to_token(id_)
            if id_ in added:
                tokens.append(b"" if added[id_].special else added[id_].content.encode("utf-8"))
            elif token is None or not byte_of.keys() >= set(token):
                tokens.append(None)
            else:
                tokens.append(bytes(byte_of[character] for character in token))
        return tokens

    def files(self) -> dict[str, bytes]:
        """Return the tokenizer.json."""
        return {TOKENIZER_JSON: self.content.encode("utf-8")}

    def describe(self) -> dict[str, Any]:
        """Return what, beside its file, makes the tokenizer again: JSON-able."""
        return {**SubwordTokenizer.describe(self), "allow_special": self.allow_special}

    @classmethod
    def restore(
        cls,
        description: Mapping[str, object],
        *,
        load_vocab: Callable[[], Vocab],
        load_file: Callable[[str], bytes],
    ) -> Self | None:
        """Return the tokenizer that `describe` described, or None where a value is missing."""
        del load_vocab
        match description:
            case {
                "vocab_size": int(num_ids),
                "sha256": str(digest),
                "allow_special": bool(allow_special),
            } if num_ids > 0:
                content = load_file(TOKENIZER_JSON)
                _require_digest(TOKENIZER_JSON, _digest(content), digest)
                return cls(num_ids, digest, content.decode("utf-8"), allow_special)
        return None


@dataclass(frozen=True, slots=True)
class BpeLearner(LearnedTokenizer):
    """What learns a byte-level BPE of documents.

    Parameters
    ----------
    max_ids : int
        The most ids that there may be: one for each byte, for each special
        token, and for each merge of two tokens that was seen more than once.
    special : tuple of str
        Tokens that stand for something else than text; they get the first ids.
    """

    name: ClassVar[str] = "bpe"
    max_ids: int = DEFAULT_VOCAB_SIZE
    special: tuple[str, ...] = (END_OF_TEXT,)

    def __post_init__(self) -> None:
        least = _NUM_BYTES + len(self.special)
        if self.max_ids < least:
            msg = (
                f"vocab_size must be at least {least} for 'bpe', an id for each byte and special "
                f"token, got {show(self.max_ids)}"
            )
            raise ArgumentError(msg)

    @property
    def vocab_size(self) -> int:
        """The most ids that there may be."""
        return self.max_ids

    def with_special(self, tokens: Sequence[str], /) -> Self:
        """Return the same with more tokens that stand for something else than text."""
        return dataclasses.replace(self, special=tuple(dict.fromkeys([*self.special, *tokens])))

    def learn(self, texts: Iterable[str], /, *, in_threads: bool = False) -> HuggingFaceTokenizer:
        """Return the tokenizer that is learnt from whole documents.

        It depends neither on their order nor on threads.

        Parameters
        ----------
        texts : iterable of str
        in_threads : bool
            Whether to use all cores.

        Raises
        ------
        UsageError
            The package tokenizers is not installed.
        """
        package, models, pre_tokenizers, decoders, trainers = (
            import_optional(name, purpose="tokenizer='bpe'", extra="tokenizers")
            for name in (
                "tokenizers",
                "tokenizers.models",
                "tokenizers.pre_tokenizers",
                "tokenizers.decoders",
                "tokenizers.trainers",
            )
        )
        encoder = package.Tokenizer(models.BPE())
        encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        encoder.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.max_ids,
            # A pair that was seen once says nothing of other texts.
            min_frequency=2,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=list(self.special),
            show_progress=False,
        )
        with contextlib.nullcontext() if in_threads else in_one_thread():
            encoder.train_from_iterator(texts, trainer)
        return HuggingFaceTokenizer.of(encoder.to_str())


@contextlib.contextmanager
def in_one_thread() -> Iterator[None]:
    """Let the package ``tokenizers`` use no threads in the block, unless the user has chosen.

    So work that is divided among processes is not divided again, and a process
    that forks later has no threads of it.
    """
    with _block.lock:
        _block.depth += 1
        if _block.depth == 1 and PARALLELISM not in os.environ:
            os.environ[PARALLELISM], _block.is_ours = "false", True
    try:
        yield
    finally:
        with _block.lock:
            _block.depth -= 1
            if not _block.depth and _block.is_ours:
                os.environ.pop(PARALLELISM, None)
                _block.is_ours = False


class _Block:
    """How many blocks of `in_one_thread` are entered, in all threads."""

    def __init__(self) -> None:
        self.lock, self.depth, self.is_ours = threading.Lock(), 0, False


_block = _Block()


def adopt(value: object, *, allow_special: bool = False) -> SubwordTokenizer | None:
    """Return an object of another package by value, or None for what is none.

    Parameters
    ----------
    value : object
        A ``tokenizers.Tokenizer``, or a fast tokenizer of transformers.
    allow_special : bool
        Whether special tokens that are written out in a text become their ids.

    Raises
    ------
    ArgumentError
        It is a slow tokenizer of transformers, or has parts in Python.
    """
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(value).__mro__}
    if ("transformers", "PreTrainedTokenizerBase") in kinds:
        inner = getattr(value, "backend_tokenizer", None)
        if not _is_of(inner, "tokenizers", "Tokenizer"):
            msg = (
                "tokenizer must be a fast one of transformers, got the slow "
                f"{type(value).__name__}: load it with AutoTokenizer, or pass an object with "
                "vocab_size, encode(text) and decode(ids) that calls it"
            )
            raise ArgumentError(msg)
        value = inner
    is_wrapped = ("tokenizers", "BaseTokenizer") in kinds
    if is_wrapped or _is_of(value, "tokenizers", "Tokenizer"):
        return HuggingFaceTokenizer.of(_write_json(value), allow_special=allow_special)
    return None


def _is_of(value: object, module: str, kind: str) -> bool:
    """Return whether a value is of a class, whose module its maker has imported then."""
    return isinstance(value, getattr(sys.modules.get(module), kind, ()))


def _write_json(tokenizer: Any) -> str:
    try:
        content: str = tokenizer.to_str()
    # The package has no errors of its own.
    except Exception as error:
        msg = (
            f"tokenizer must be one that to_str() can write, got {type(tokenizer).__name__} with "
            f"parts that it cannot ({error}): pass an object with vocab_size, encode(text) and "
            "decode(ids) that calls it"
        )
        raise ArgumentError(msg) from error
    return content


def _without_surprises(content: str, name: str) -> str:
    """Return the JSON of a tokenizer that encodes all of each text, and always alike."""
    value = json.loads(content)
    model = value.get("model") or {}
    found = {
        "truncates texts": value.get("truncation") is not None,
        "pads texts": value.get("padding") is not None,
        "drops merges at random": model.get("dropout") is not None,
    }
    surprises = [what for what, is_there in found.items() if is_there]
    if not surprises:
        return content
    _logger.warning("%s %s: that is switched off", name, " and ".join(surprises))
    value["truncation"] = value["padding"] = None
    if found["drops merges at random"]:
        model["dropout"] = None
    return json.dumps(value)


def _cut_batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield texts in lists, of which each holds a bounded number of characters, or one text.

    >>> list(_cut_batches(["ab", "c" * (1 << 18), "d"])) == [["ab"], ["c" * (1 << 18)], ["d"]]
    True
    """
    batch: list[str] = []
    left = _BATCH_CHARACTERS
    for text in texts:
        if batch and len(text) > left:
            yield batch
            batch, left = [], _BATCH_CHARACTERS
        batch.append(text)
        left -= len(text)
    if batch:
        yield batch


def _byte_of_character() -> dict[str, int]:
    """Return which byte each character of a byte-level vocabulary stands for.

    >>> table = _byte_of_character()
    >>> len(table), table["a"], table["\u0120"]
    (256, 97, 32)
    """
    # Those that print stand for themselves; the others follow from U+0100 on.
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(_NUM_BYTES) if byte not in plain]
    table = {chr(byte): byte for byte in plain}
    return table | {chr(_NUM_BYTES + place): byte for place, byte in enumerate(others)}


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _require_digest(name: str, found: str, expected: str) -> None:
    if found != expected:
        msg = (
            f"{name} must be that of the tokenizer with the hash {expected}, got one with {found}: "
            "put the right file back"
        )
        raise CorpusError(msg)


def read_tokenizer(
    path: str | os.PathLike[str], *, allow_special: bool = False
) -> SubwordTokenizer | Vocab:
    """Return the tokenizer that lies in a file.

    Parameters
    ----------
    path : str or path
        ``tokenizer.json`` of the package tokenizers, or a vocab.json of tokenloom.
    allow_special : bool
        Whether special tokens that are written out in a text become their ids.

    Raises
    ------
    ArgumentError
        The name has another end.
    CorpusError
        The file holds something else.
    OSError
        It cannot be read.
    UsageError
        The package that reads it is not installed.
    """
    content = read_bounded(path, max_bytes=_MAX_BYTES)
    name = os.fspath(path)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        msg = f"{name} must be text in UTF-8, got {error.reason} at byte {error.start:,}"
        raise CorpusError(msg) from error
    if is_vocab(text):
        return Vocab.load(path)
    return HuggingFaceTokenizer.of(text, allow_special=allow_special, name=name)
