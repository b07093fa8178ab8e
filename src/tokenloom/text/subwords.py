"""Tokenizers of sub-words, by value: those of tokenizers, tiktoken and sentencepiece.

None of these packages is imported before a text is encoded or decoded, and each
process builds an encoder once, of a state that is plain text or bytes.
"""

import base64
import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import operator
import os
import re
import sys
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from tokenloom._io.digest import hash_json
from tokenloom._io.regular import read_bounded
from tokenloom._optional import import_optional
from tokenloom._wording import count, join_choices, show, suggest
from tokenloom.errors import ArgumentError, CorpusError, DownloadError, UsageError
from tokenloom.text.documents import TextSegment
from tokenloom.text.ids import Ids, Offsets, as_ids, narrow_dtype
from tokenloom.text.interface import CompleteTokenizer, LearnedTokenizer, join_ids
from tokenloom.text.vocab import Vocab, is_vocab

END_OF_TEXT = "<|endoftext|>"
DEFAULT_VOCAB_SIZE = 16_384
# Where a file lies in a store or a run.
TOKENIZER_JSON = "tokenizer.json"
TOKENIZER_RANKS = "tokenizer.tiktoken"
TOKENIZER_MODEL = "tokenizer.model"
FILE_NAMES = (TOKENIZER_JSON, TOKENIZER_RANKS, TOKENIZER_MODEL)
# Before the name of an encoding of tiktoken.
ENCODING = "tiktoken:"
OFFLINE = "TOKENLOOM_OFFLINE"
# The switch of the package tokenizers that lets batches use threads.
PARALLELISM = "TOKENIZERS_PARALLELISM"

_NUM_BYTES = 256
# So much text is encoded in one call; more would only take memory.
_BATCH_CHARACTERS = 1 << 18
_NUM_ENCODERS = 4
# More than any tokenizer's file.
_MAX_BYTES = 1 << 30

# How the encodings of OpenAI split a text, and their special tokens, by how the names of
# their files begin: the files hold neither.
GPT2_PATTERN = (
    r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
)
_CL100K_PATTERN = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"""
    r"""| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
)
_O200K_END = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_O200K_PATTERN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}]*[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}]+{_O200K_END}"
    rf"|[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}]+[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}]*{_O200K_END}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_ENCODINGS: dict[str, tuple[str, dict[str, int]]] = {
    "r50k": (GPT2_PATTERN, {"<|endoftext|>": 50_256}),
    "p50k": (GPT2_PATTERN, {"<|endoftext|>": 50_256}),
    "cl100k": (
        _CL100K_PATTERN,
        {
            "<|endoftext|>": 100_257,
            "<|fim_prefix|>": 100_258,
            "<|fim_middle|>": 100_259,
            "<|fim_suffix|>": 100_260,
            "<|endofprompt|>": 100_276,
        },
    ),
    "o200k": (_O200K_PATTERN, {"<|endoftext|>": 199_999, "<|endofprompt|>": 200_018}),
}

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

    @abstractmethod
    def find_starts(self, text: str, /) -> list[int]:
        """Return with which character of a text each token begins; nothing if that is unknown."""

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

    def find_character(self, segment: TextSegment, index: int, /) -> int | None:
        """Return which character of a segment a token of it begins with, if the package says it."""
        starts = _find_starts(self, str(segment.text))
        return starts[index] if index < len(starts) else None

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


@functools.lru_cache(maxsize=1)
def _find_starts(tokenizer: SubwordTokenizer, text: str) -> list[int]:
    """Return what `find_starts` returns, which is kept for the next token of the same text."""
    return tokenizer.find_starts(text)


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

    def find_starts(self, text: str, /) -> list[int]:
        """Return with which character of a text each token begins."""
        encoding = self.encoder.encode(text, add_special_tokens=False)
        return [start for start, _ in encoding.offsets]

    def find_token(self, token: str, /) -> int | None:
        """Return the id of a token, as the vocabulary spells it."""
        found: int | None = self.encoder.token_to_id(token)
        return found

    def special_tokens(self) -> dict[str, int]:
        """Return the tokens that stand for something else than text, each with its id."""
        added = self.encoder.get_added_tokens_decoder()
        return {token.content: id_ for id_, token in sorted(added.items()) if token.special}

    @property
    def unknown_id(self) -> int | None:
        """The id of what the model has no token for; byte-level ones have a token for anything."""
        token = _find_unknown(self.content)
        return self.find_token(token) if isinstance(token, str) else token

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


@functools.lru_cache(maxsize=4)
def _find_unknown(content: str) -> str | int | None:
    """Return the unknown token of a tokenizer.json, or its id, or None where it has none.

    >>> _find_unknown('{"model": {"type": "WordPiece", "unk_token": "[UNK]"}}')
    '[UNK]'
    """
    model = json.loads(content)["model"]
    found = model.get("unk_token") or model.get("unk_id")
    return found if isinstance(found, str | int) else None


@dataclass(frozen=True, slots=True, repr=False)
class TiktokenTokenizer(SubwordTokenizer):
    """An encoding of the package ``tiktoken``.

    Attributes
    ----------
    ranks : bytes
        The content of a .tiktoken file: a line for each token, its bytes in
        base64 and its id.
    pattern : str
        The regular expression that splits a text first.
    special : tuple of (str, int)
        Tokens that stand for something else than text, each with its id.
    allow_special : bool
        Whether special tokens that are written out in a text become their ids,
        rather than those of their bytes.
    """

    name: ClassVar[str] = "tiktoken"
    package: ClassVar[str] = "tiktoken"
    ranks: bytes
    pattern: str
    special: tuple[tuple[str, int], ...]
    allow_special: bool = False

    @classmethod
    def of(
        cls,
        id_of: Mapping[bytes, int],
        pattern: str,
        special: Mapping[str, int],
        *,
        allow_special: bool = False,
    ) -> Self:
        """Return the tokenizer of the ids of tokens, a pattern and special tokens."""
        ranks = b"".join(
            b"%b %d\n" % (base64.b64encode(token), id_)
            for token, id_ in sorted(id_of.items(), key=operator.itemgetter(1))
        )
        pairs = tuple(sorted(special.items(), key=operator.itemgetter(1)))
        num_ids = max([*id_of.values(), *special.values()]) + 1
        digest = _digest_encoding(ranks, pattern, pairs)
        return cls(num_ids, digest, ranks, pattern, pairs, allow_special)

    def make_encoder(self, module: Any, /) -> Any:
        """Return an Encoding."""
        return module.Encoding(
            name=self.digest,
            pat_str=self.pattern,
            mergeable_ranks=_parse_ranks(self.ranks),
            special_tokens=dict(self.special),
        )

    def encode_texts(self, texts: Sequence[str], /) -> Iterator[Ids]:
        """Yield the ids of each text."""
        encode = self.encoder.encode_to_numpy
        allowed = {token for token, _ in self.special} if self.allow_special else set()
        for text in texts:
            if not text.isascii():
                # The package would replace half of a surrogate pair in silence.
                text.encode("utf-8")
            ids = encode(text, allowed_special=allowed, disallowed_special=())
            yield ids.astype(narrow_dtype(self.num_ids), copy=False)

    def decode(self, ids: list[int], /) -> str:
        """Return the text of ids; bytes that are no UTF-8 and ids without a token become U+FFFD."""
        numbers, decode = self._check(ids), self.encoder.decode_bytes
        try:
            content: bytes = decode(numbers)
        except KeyError:
            known = self.token_bytes()
            content = b"".join(
                "\ufffd".encode() if known[id_] is None else decode([id_]) for id_ in numbers
            )
        return content.decode("utf-8", "replace")

    def find_starts(self, text: str, /) -> list[int]:
        """Return with which character of a text each token begins, or which it continues."""
        _, starts = self.encoder.decode_with_offsets(self.encode(text).tolist())
        return list(starts)

    def find_token(self, token: str, /) -> int | None:
        """Return the id of a special token, or of a text that is one token."""
        if token in (special := dict(self.special)):
            return special[token]
        ids = self.encode(token)
        return int(ids[0]) if len(ids) == 1 else None

    def special_tokens(self) -> dict[str, int]:
        """Return the tokens that stand for something else than text, each with its id."""
        return dict(self.special)

    def token_bytes(self) -> list[bytes | None]:
        """Return the bytes of each id."""
        tokens: list[bytes | None] = [None] * self.num_ids
        for token, id_ in _parse_ranks(self.ranks).items():
            tokens[id_] = token
        for _, id_ in self.special:
            tokens[id_] = b""
        return tokens

    def files(self) -> dict[str, bytes]:
        """Return the file of ranks."""
        return {TOKENIZER_RANKS: self.ranks}

    def describe(self) -> dict[str, Any]:
        """Return what, beside its file, makes the tokenizer again: JSON-able."""
        return {
            **SubwordTokenizer.describe(self),
            "pattern": self.pattern,
            "special_tokens": dict(self.special),
            "allow_special": self.allow_special,
        }

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
                "pattern": str(pattern),
                "special_tokens": dict(special),
                "allow_special": bool(allow_special),
            } if num_ids > 0 and all(type(id_) is int for id_ in special.values()):
                ranks = load_file(TOKENIZER_RANKS)
                pairs = tuple(sorted(special.items(), key=operator.itemgetter(1)))
                _require_digest(TOKENIZER_RANKS, _digest_encoding(ranks, pattern, pairs), digest)
                return cls(num_ids, digest, ranks, pattern, pairs, allow_special)
        return None


@dataclass(frozen=True, slots=True, repr=False)
class SentencePieceTokenizer(SubwordTokenizer):
    """A model of the package ``sentencepiece``.

    It normalises: runs of spaces, line ends and some characters do not come
    back. It adds neither a beginning nor an end.

    Attributes
    ----------
    model : bytes
        The content of a .model file.
    """

    name: ClassVar[str] = "sentencepiece"
    package: ClassVar[str] = "sentencepiece"
    model: bytes

    @classmethod
    def of(cls, model: bytes, *, name: str = "the tokenizer") -> Self:
        """Return the tokenizer of a model's bytes.

        Raises
        ------
        CorpusError
            The package cannot read it.
        UsageError
            The package is not installed.
        """
        package = import_optional("sentencepiece", purpose=f"reading {name}", extra="sentencepiece")
        try:
            processor = package.SentencePieceProcessor(model_proto=model)
            num_ids = processor.vocab_size()
        # The package has no errors of its own.
        except Exception as error:
            msg = f"{name} must be a model of sentencepiece, which cannot read it: {error}"
            raise CorpusError(msg) from error
        return cls(num_ids, _digest(model), model)

    def make_encoder(self, module: Any, /) -> Any:
        """Return a SentencePieceProcessor."""
        return module.SentencePieceProcessor(model_proto=self.model)

    def encode_texts(self, texts: Sequence[str], /) -> Iterator[Ids]:
        """Yield the ids of each text."""
        encode = self.encoder.encode
        for batch in _cut_batches(texts):
            for ids in encode(batch, out_type=int, num_threads=1):
                yield self._narrow(ids)

    def decode(self, ids: list[int], /) -> str:
        """Return the text of ids."""
        text: str = self.encoder.decode(self._check(ids))
        return text

    def find_starts(self, text: str, /) -> list[int]:
        """Return with which character of a text each token begins; nothing of older releases."""
        try:
            found = self.encoder.encode(text, out_type="offset_mapping")
        # They do not know the word.
        except (RuntimeError, ValueError):
            return []
        return [start for start, _ in found["offsets"]]

    def find_token(self, token: str, /) -> int | None:
        """Return the id of a piece, as the model spells it."""
        id_ = int(self.encoder.piece_to_id(token))
        # What it does not know has the id of the unknown piece.
        return id_ if self.encoder.id_to_piece(id_) == token else None

    def special_tokens(self) -> dict[str, int]:
        """Return the pieces that stand for something else than text, each with its id."""
        encoder = self.encoder
        ids = filter(encoder.is_control, range(self.num_ids))
        return {encoder.id_to_piece(id_): id_ for id_ in ids}

    @property
    def unknown_id(self) -> int | None:
        """The id of the unknown piece."""
        return int(self.encoder.unk_id())

    def token_bytes(self) -> list[bytes | None]:
        """Return the bytes of each id, of the text as it is after the normalisation."""
        encoder = self.encoder

        def read(id_: int) -> bytes | None:
            piece: str = encoder.id_to_piece(id_)
            if encoder.is_unknown(id_):
                return None
            if encoder.is_control(id_):
                return b""
            if encoder.is_byte(id_):
                return bytes([int(piece[3:5], 16)])
            return piece.replace("\u2581", " ").encode("utf-8")

        return [read(id_) for id_ in range(self.num_ids)]

    def files(self) -> dict[str, bytes]:
        """Return the model."""
        return {TOKENIZER_MODEL: self.model}

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
            case {"vocab_size": int(num_ids), "sha256": str(digest)} if num_ids > 0:
                model = load_file(TOKENIZER_MODEL)
                _require_digest(TOKENIZER_MODEL, _digest(model), digest)
                return cls(num_ids, digest, model)
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
        A ``tokenizers.Tokenizer``, a fast tokenizer of transformers, a
        ``tiktoken.Encoding`` or a ``sentencepiece.SentencePieceProcessor``.
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
    if _is_of(value, "tiktoken", "Encoding"):
        encoding: Any = value
        parts = encoding._mergeable_ranks, encoding._pat_str, encoding._special_tokens  # noqa: SLF001  there is no other way
        return TiktokenTokenizer.of(*parts, allow_special=allow_special)
    if _is_of(value, "sentencepiece", "SentencePieceProcessor"):
        processor: Any = value
        return SentencePieceTokenizer.of(processor.serialized_model_proto())
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


def load_encoding(name: str, *, allow_special: bool = False) -> TiktokenTokenizer:
    """Return an encoding that tiktoken has under a name, such as "o200k_base".

    At its first use tiktoken downloads it, to the folder that the environment
    names as TIKTOKEN_CACHE_DIR.

    Raises
    ------
    ArgumentError
        There is none of that name.
    DownloadError
        It cannot be downloaded.
    UsageError
        The package is not installed.
    """
    package = import_optional("tiktoken", purpose=f"the encoding {name!r}", extra="tiktoken")
    known = package.list_encoding_names()
    if name not in known:
        msg = (
            f"tokenizer must be 'tiktoken:' and one of {join_choices(known)}, got {show(name)}"
            f"{suggest(name, known)}"
        )
        raise ArgumentError(msg)
    is_offline = os.environ.get(OFFLINE, "0") not in ("", "0")
    try:
        with _without_downloads() if is_offline else contextlib.nullcontext():
            found = adopt(package.get_encoding(name), allow_special=allow_special)
    except (OSError, ValueError) as error:
        why = error if isinstance(error, _OfflineError) else type(error).__name__
        msg = (
            f"tiktoken cannot download the encoding {name!r} ({why}): set "
            f"TIKTOKEN_CACHE_DIR to a folder that has it, or pass the path of {name}.tiktoken"
        )
        raise DownloadError(msg) from error
    assert isinstance(found, TiktokenTokenizer)  # noqa: S101  an Encoding is one
    return found


class _OfflineError(OSError):
    """What tiktoken gets instead of a download."""


@contextlib.contextmanager
def _without_downloads() -> Iterator[None]:
    """Let tiktoken, which has no switch for it, use only what it has kept."""
    load = import_optional("tiktoken.load", purpose="a named encoding", extra="tiktoken")
    read_file = load.read_file

    def refuse(_: str) -> bytes:
        msg = f"downloads are forbidden by {OFFLINE} or --offline"
        raise _OfflineError(msg)

    load.read_file = refuse
    try:
        yield
    finally:
        load.read_file = read_file


def _read_json(content: bytes, name: str, *, allow_special: bool) -> SubwordTokenizer | Vocab:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        msg = f"{name} must be text in UTF-8, got {error.reason} at byte {error.start:,}"
        raise CorpusError(msg) from error
    if is_vocab(text):
        return Vocab.load(name)
    return HuggingFaceTokenizer.of(text, allow_special=allow_special, name=name)


def _read_ranks(content: bytes, name: str, *, allow_special: bool) -> TiktokenTokenizer:
    """Return the tokenizer of a .tiktoken file, which says nothing of how a text is split."""
    stem = PurePath(name).stem
    try:
        id_of = _parse_ranks(content)
    except ValueError as error:
        msg = (
            f"{name} must have a token in base64 and its id on each line, as the files of tiktoken "
            f"have it: {error}"
        )
        raise CorpusError(msg) from error
    known = next((prefix for prefix in _ENCODINGS if stem.startswith(prefix)), None)
    pattern, special = _ENCODINGS[known or "cl100k"]
    if known is None:
        special = {}
        _logger.warning(
            "%s does not say how a text is split, nor its name (%s): the pattern of cl100k is "
            "used, and there are no special tokens",
            name,
            ", ".join(_ENCODINGS),
        )
    taken = set(id_of.values())
    special = {token: id_ for token, id_ in special.items() if id_ not in taken}
    return TiktokenTokenizer.of(id_of, pattern, special, allow_special=allow_special)


def _read_model(content: bytes, name: str, *, allow_special: bool) -> SentencePieceTokenizer:
    del allow_special
    if re.match(rb"[A-Za-z0-9+/]+={0,2} [0-9]+\r?\n", content):
        msg = f"{name} is a file of tiktoken: give it a name that ends with .tiktoken"
        raise CorpusError(msg)
    return SentencePieceTokenizer.of(content, name=name)


def _parse_ranks(content: bytes) -> dict[bytes, int]:
    r"""Return the id of each token of a .tiktoken file.

    Raises
    ------
    ValueError
        A line has another form, or there is none.

    >>> _parse_ranks(b"YQ== 0\nYg== 1\n")
    {b'a': 0, b'b': 1}
    """
    lines = [line.split() for line in content.splitlines() if line.strip()]
    id_of = {base64.b64decode(token, validate=True): int(id_) for token, id_ in lines}
    if not id_of or min(id_of.values()) < 0 or len(set(id_of.values())) < len(lines):
        msg = "each token must have an id of its own, from 0 on"
        raise ValueError(msg)
    return id_of


def _digest_encoding(ranks: bytes, pattern: str, special: Sequence[tuple[str, int]]) -> str:
    return hash_json([_digest(ranks), pattern, [list(pair) for pair in special]])


def read_tokenizer(
    path: str | os.PathLike[str], *, allow_special: bool = False
) -> SubwordTokenizer | Vocab:
    """Return the tokenizer that lies in a file.

    Parameters
    ----------
    path : str or path
        A tokenizer.json of the package tokenizers, a file of tiktoken that ends
        with .tiktoken, a .model of sentencepiece, or a vocab.json of tokenloom.
    allow_special : bool
        Whether special tokens that are written out in a text become their ids.

    Raises
    ------
    ArgumentError
        The name has another end than these.
    CorpusError
        The file holds something else.
    OSError
        It cannot be read.
    UsageError
        The package that reads it is not installed.
    """
    name = os.fspath(path)
    for end, read in READERS.items():
        if name.endswith(end):
            content = read_bounded(path, max_bytes=_MAX_BYTES)
            return read(content, name, allow_special=allow_special)
    msg = f"a tokenizer's file must end with {join_choices(list(READERS))}, got {show(name)}"
    raise ArgumentError(msg)


READERS: dict[str, Callable[..., SubwordTokenizer | Vocab]] = {
    ".json": _read_json,
    ".tiktoken": _read_ranks,
    ".model": _read_model,
}
