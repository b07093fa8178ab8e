"""Tokenizers of the package ``tokenizers``, and byte-level BPE that is learnt with it."""

import contextlib
import dataclasses
import functools
import itertools
import json
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from tokenloom._io.interrupts import start_call, wait_for_call
from tokenloom._optional import import_optional, panics_as_errors
from tokenloom._wording import show
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.text.by_value import (
    MAX_IDS,
    SubwordTokenizer,
    cut_batches,
    hash_content,
    require_digest,
    require_few_ids,
)
from tokenloom.text.byte_merges import ByteMerges, find_byte_merges
from tokenloom.text.ids import Ids
from tokenloom.text.interface import LearnedTokenizer
from tokenloom.text.vocab import Vocab

END_OF_TEXT = "<|endoftext|>"
DEFAULT_VOCAB_SIZE = 16_384
# Where a file lies in a store or a run.
TOKENIZER_JSON = "tokenizer.json"
# The switch of the package tokenizers that lets batches use threads.
PARALLELISM = "TOKENIZERS_PARALLELISM"
_NUM_BYTES = 256
_MANY_CHARACTERS = 1 << 19
# Batches of texts that were read before the training takes them.
_NUM_BATCHES_AHEAD = 4
_WAIT_SECONDS = 0.1
# How long the package may take to ask for the next text.
_PATIENCE_SECONDS = 2.0
_logger = logging.getLogger(__name__)


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
        """Return the tokenizer of a JSON text; truncation and padding are switched off.

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
            with panics_as_errors():
                encoder = package.Tokenizer.from_str(_without_surprises(content, name))
            num_ids = max(encoder.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        # Nothing is wrong with the file where memory is missing.
        except MemoryError:
            raise
        # The package raises Exception itself, and no class of its own.
        except Exception as error:
            reason = _explain_json(content) or error
            msg = f"{name} must be JSON of the package tokenizers, which cannot read it: {reason}"
            raise CorpusError(msg) from error
        if not num_ids:
            msg = f"{name} must have a vocabulary, got one without tokens: train it first"
            raise CorpusError(msg)
        require_few_ids(name, num_ids)
        content = encoder.to_str()
        return cls(num_ids, hash_content(content.encode("utf-8")), content, allow_special)

    def make_encoder(self, module: Any, /) -> Any:
        """Return a Tokenizer."""
        encoder = module.Tokenizer.from_str(self.content)
        # The JSON has no such key.
        encoder.encode_special_tokens = not self.allow_special
        return encoder

    def encode_texts(self, texts: Sequence[str], /) -> Iterator[Ids]:
        """Yield the ids of each text."""
        encoder = self.encoder
        merges = None
        # For fewer characters, finding the merges takes longer than encoding.
        if sum(map(len, texts)) >= _MANY_CHARACTERS and not self.allow_special:
            merges = _find_merges(self)
        for batch in cut_batches(texts):
            made = [None if merges is None else merges.encode(text) for text in batch]
            rest = [text for text, ids in zip(batch, made, strict=True) if ids is None]
            with in_one_thread():
                encodings = iter(encoder.encode_batch_fast(rest, add_special_tokens=False))
            for ids in made:
                yield self._narrow(next(encodings).ids if ids is None else ids)

    @panics_as_errors()
    def decode(self, ids: list[int], /) -> str:
        """Return the text of ids, with special tokens."""
        text: str = self.encoder.decode(self._check(ids), skip_special_tokens=False)
        return text

    @panics_as_errors()
    def find_starts(self, text: str, /) -> list[int]:
        """Return with which character of a text each token begins."""
        encoding = self.encoder.encode(text, add_special_tokens=False)
        return [start for start, _ in encoding.offsets]

    @panics_as_errors()
    def find_token(self, token: str, /) -> int | None:
        """Return the id of a token, as the vocabulary spells it."""
        found: int | None = self.encoder.token_to_id(token)
        return found

    @panics_as_errors()
    def special_tokens(self) -> dict[str, int]:
        """Return the tokens that stand for something else than text, each with its id."""
        added = self.encoder.get_added_tokens_decoder()
        return {token.content: id_ for id_, token in sorted(added.items()) if token.special}

    @property
    def unknown_id(self) -> int | None:
        """The id of text without a token; byte-level models have tokens for any text."""
        token = _find_unknown(self.content)
        return self.find_token(token) if isinstance(token, str) else token

    @panics_as_errors()
    def token_bytes(self) -> list[bytes | None] | None:
        """Return the bytes of each id, where the tokenizer is byte-level."""
        if (json.loads(self.content).get("decoder") or {}).get("type") != "ByteLevel":
            return None
        encoder, byte_of = self.encoder, _byte_of_character()
        added = encoder.get_added_tokens_decoder()
        unknown = None if _has_all_bytes(self.content) else self.unknown_id
        tokens: list[bytes | None] = []
        for id_ in range(self.num_ids):
            token = encoder.id_to_token(id_)
            if id_ == unknown:
                tokens.append(None)
            elif id_ in added:
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
        """Return the values that make the tokenizer again with its file: JSON-able."""
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
                require_digest(TOKENIZER_JSON, hash_content(content), digest)
                return cls(num_ids, digest, content.decode("utf-8"), allow_special)
        return None


@functools.lru_cache(maxsize=4)
def _find_merges(tokenizer: HuggingFaceTokenizer) -> ByteMerges | None:
    """Return a faster encoder of plain texts, if there is one."""
    added = [token.content for token in tokenizer.encoder.get_added_tokens_decoder().values()]
    special = [*tokenizer.special_tokens()]
    return find_byte_merges(tokenizer.content, _byte_of_character(), special, added)


@functools.lru_cache(maxsize=4)
def _find_unknown(content: str) -> str | int | None:
    """Return the unknown token of a tokenizer.json, or its id, or None where it has none.

    >>> _find_unknown('{"model": {"type": "WordPiece", "unk_token": "[UNK]"}}')
    '[UNK]'
    """
    model = json.loads(content)["model"]
    found = model.get("unk_token") or model.get("unk_id")
    return found if isinstance(found, str | int) else None


def _has_all_bytes(content: str) -> bool:
    """Return whether a tokenizer.json has tokens for any text, so that nothing is unknown."""
    value = json.loads(content)
    model, splits = value["model"], [value.get("pre_tokenizer"), value.get("normalizer")]
    is_of_bytes = model.get("type") == "BPE" and '"ByteLevel"' in json.dumps(splits)
    return is_of_bytes and model["vocab"].keys() >= _byte_of_character().keys()


@dataclass(frozen=True, slots=True)
class BpeLearner(LearnedTokenizer):
    """A byte-level BPE that is to be learnt from documents.

    Parameters
    ----------
    max_ids : int
        The most ids that there may be: one for each byte, for each special
        token, and for each merge of two tokens that was seen more than once.
    special : tuple of str
        Tokens that stand for something else than text; they get the first ids.
    allow_special : bool
        Whether those that are written out in a text become their ids.
    """

    name: ClassVar[str] = "bpe"
    max_ids: int = DEFAULT_VOCAB_SIZE
    special: tuple[str, ...] = (END_OF_TEXT,)
    allow_special: bool = False

    def __post_init__(self) -> None:
        least = _NUM_BYTES + len(self.special)
        if self.max_ids < least:
            msg = (
                f"vocab_size must be at least {least} for 'bpe', an id for each byte and special "
                f"token, got {show(self.max_ids)}"
            )
            raise ArgumentError(msg)
        # The package allocates memory for all ids, and aborts the process if there is not enough.
        if self.max_ids > MAX_IDS:
            msg = f"vocab_size must be at most {MAX_IDS:,} for 'bpe', got {show(self.max_ids)}"
            raise ArgumentError(msg)

    @property
    def vocab_size(self) -> int:
        """The most ids that there may be."""
        return self.max_ids

    def with_special(self, tokens: Sequence[str], /) -> Self:
        """Return the same with more tokens that stand for something else than text."""
        return dataclasses.replace(self, special=tuple(dict.fromkeys([*self.special, *tokens])))

    def describe(self) -> dict[str, Any]:
        """Return the settings of what is to be learnt: JSON-able."""
        # Left out by default, as earlier releases wrote it.
        allows = {"allow_special": True} if self.allow_special else {}
        return {"name": self.name, "vocab_size": self.max_ids, **allows}

    @panics_as_errors()
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
            # A pair that was seen once need not occur in other texts.
            min_frequency=2,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=list(self.special),
            show_progress=False,
        )
        with contextlib.nullcontext() if in_threads else in_one_thread():
            _train(encoder, trainer, texts)
        return HuggingFaceTokenizer.of(encoder.to_str(), allow_special=self.allow_special)


def _train(encoder: Any, trainer: Any, texts: Iterable[str]) -> None:
    """Let an encoder learn from texts, in a thread for whose end a signal need not wait."""
    batches: queue.Queue[list[str] | None] = queue.Queue(_NUM_BATCHES_AHEAD)
    stopped, takes_no_more = threading.Event(), threading.Event()

    def take() -> Iterator[str]:
        try:
            while not stopped.is_set():
                with contextlib.suppress(queue.Empty):
                    batch = batches.get(timeout=_WAIT_SECONDS)
                    if batch is None:
                        return
                    yield from batch
            msg = "the caller was stopped"
            raise InterruptedError(msg)
        finally:
            takes_no_more.set()

    def learn() -> None:
        try:
            encoder.train_from_iterator(take(), trainer)
        finally:
            takes_no_more.set()

    training = start_call(learn)
    try:
        for batch in itertools.chain(cut_batches(texts), [None]):
            while not training.done():
                with contextlib.suppress(queue.Full):
                    batches.put(batch, timeout=_WAIT_SECONDS)
                    break
            # An encoder that has failed takes no more, and the rest need not be read.
            if training.done():
                break
        wait_for_call(training)
    finally:
        stopped.set()
        # A thread that comes back to Python while the process ends would abort it. The package
        # learns from the texts that it has before it raises the error, which may take minutes.
        takes_no_more.wait(_PATIENCE_SECONDS)


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


def write_json(tokenizer: Any) -> str:
    """Return the JSON of an object of the package.

    Raises
    ------
    ArgumentError
        A part of it is written in Python.
    """
    try:
        with panics_as_errors():
            content: str = tokenizer.to_str()
    except MemoryError:
        raise
    # As above: the package raises Exception itself.
    except Exception as error:
        msg = (
            f"tokenizer must be one that to_str() can write, got {type(tokenizer).__name__} with "
            f"parts that it cannot ({error}): pass an object with vocab_size, encode(text) and "
            "decode(ids) that calls it"
        )
        raise ArgumentError(msg) from error
    return content


def _explain_json(content: str) -> str | None:
    """Return why JSON is no tokenizer, where it is a file that often lies beside one."""
    try:
        found = json.loads(content)
    except ValueError:
        return None
    if isinstance(found, dict) and "model" in found:
        return None
    return (
        "it has no 'model', as vocab.json and tokenizer_config.json have none; name tokenizer.json"
    )


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
