"""Text to ids, and ids to text: all that is known of each tokenizer."""

import dataclasses
import itertools
import os
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self, cast

import numpy as np
import numpy.typing as npt

from tokenloom._checks import as_flag, as_integer, find_surrogate
from tokenloom._wording import describe_missing, join_choices, show
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.text.boundaries import BYTES, CHARACTERS, LETTERS, WORDS, Boundary
from tokenloom.text.distinct import distinguish_words
from tokenloom.text.documents import TextSegment
from tokenloom.text.encodings import ENCODING, TiktokenTokenizer, load_encoding
from tokenloom.text.huggingface import BpeLearner, HuggingFaceTokenizer
from tokenloom.text.ids import Ids, Offsets, as_ids, narrow_dtype
from tokenloom.text.interface import (
    CompleteTokenizer,
    LearnedTokenizer,
    Places,
    Tokenizer,
    UserTokenizer,
    vocab_of,
)
from tokenloom.text.normalize import (
    PREFIXES,
    Lost,
    clean_characters,
    clean_prompt,
    clean_segments,
    count_lost,
    count_words,
    find_characters,
    find_words,
    split_words,
)
from tokenloom.text.sentencepieces import SentencePieceTokenizer
from tokenloom.text.subwords import READERS, adopt, propose_file, read_file
from tokenloom.text.vocab import UNKNOWN_ID, Vocab

_NUM_BYTES = 256
# The number of special tokens that a message proposes.
_NUM_SPECIAL = 5
_NUM_CODE_POINTS = 0x110000
_CHUNK = 1 << 18
# The placeholder for a vocabulary that is still to be counted.
UNCOUNTED = Vocab()


class Counted(NamedTuple):
    """Tokens whose vocabulary is not known yet.

    Attributes
    ----------
    numbers : unsigned integer array, shape (num_tokens,)
        For each token its place in ``counts``.
    stops : int64 array, shape (num_segments,)
        How many tokens come before the end of each segment.
    counts : dict of str to int
        How often each token appears, in order of first appearance.
    """

    numbers: Ids
    stops: Offsets
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class CountedTokenizer(CompleteTokenizer):
    """A tokenizer whose vocabulary is counted: its tokens are pieces of the text.

    A subclass says how a text is split, and what joins tokens again.

    Parameters
    ----------
    vocab : Vocab
        A token that is not in it becomes id 0.
    normalize : bool
        Whether texts go through the textbook's normalisation first.
    """

    joint: ClassVar[str] = ""
    vocab: Vocab
    normalize: bool = True

    def __post_init__(self) -> None:
        if self.vocab is not UNCOUNTED:
            # With its kind the vocabulary alone makes the same tokenizer again.
            vocab = self.vocab.of_kind(self.name, normalize=self.normalize)
            object.__setattr__(self, "vocab", vocab)

    def with_vocab(self, vocab: Vocab) -> Self:
        """Return the same tokenizer with another vocabulary."""
        return dataclasses.replace(self, vocab=vocab)

    @abstractmethod
    def split(self, text: str) -> Iterator[list[str]]:
        """Yield the tokens of a text in order, many at once."""

    def split_prompt(self, prompt: str) -> Collection[str]:
        """Return the tokens of a text that a model continues."""
        return list(itertools.chain.from_iterable(self.split(prompt)))

    @property
    def vocab_size(self) -> int:
        """Number of different ids."""
        return len(self.vocab)

    def encode(self, text: str, /) -> Ids:
        """Return the ids of a text, in the smallest unsigned dtype."""
        return self._concatenate(self._map_text(text, self.vocab.to_ids))

    def decode(self, ids: list[int], /) -> str:
        """Return the tokens of ids, joined."""
        return self.joint.join(self.vocab.to_tokens(ids))

    def encode_prompt(self, prompt: str, /) -> Ids:
        """Return the ids of a prompt."""
        return self.vocab.to_ids(self.split_prompt(prompt))

    def find_unknown(self, prompt: str, /) -> list[str]:
        """Return the tokens of a prompt that are not in the vocabulary, each once.

        >>> CharTokenizer(Vocab(["a", "b"])).find_unknown("Abc, ABC!")
        ['c', ' ']
        """
        tokens = dict.fromkeys(self.split_prompt(prompt))
        return [token for token in tokens if token not in self.vocab]

    def encode_segments(self, segments: Sequence[TextSegment]) -> tuple[Ids, Offsets]:
        """Return the ids of many segments, and how many come before the end of each."""
        pieces, lengths = self._map_tokens(segments, self.vocab.to_ids)
        return self._concatenate(pieces), np.cumsum(lengths, dtype=np.int64)

    def count_segments(self, segments: Sequence[TextSegment]) -> Counted:
        """Return the tokens of many segments as numbers, and what they stand for.

        >>> segments = [TextSegment("b a", 0, ends=True), TextSegment("c B", 0, ends=True)]
        >>> numbers, stops, counts = WordTokenizer(Vocab()).count_segments(segments)
        >>> numbers.tolist(), stops.tolist(), counts
        ([0, 1, 2, 0], [2, 4], {'b': 2, 'a': 1, 'c': 1})
        """
        number_of: dict[str, int] = defaultdict(itertools.count().__next__)
        pieces, lengths = self._map_tokens(
            segments,
            lambda tokens: np.fromiter(map(number_of.__getitem__, tokens), np.uint32, len(tokens)),
        )
        dtype = narrow_dtype(len(number_of))
        nothing: Ids = np.empty(0, dtype)
        numbers = np.concatenate([nothing, *pieces], dtype=dtype, casting="unsafe")
        counts = np.zeros(len(number_of), np.int64)
        for start in range(0, len(numbers), _CHUNK):
            counts += np.bincount(numbers[start : start + _CHUNK], minlength=len(counts))
        return Counted(
            numbers,
            np.cumsum(lengths, dtype=np.int64),
            dict(zip(number_of, counts.tolist(), strict=True)),
        )

    def count_lost(self, texts: Iterable[str], /) -> Lost:
        """Return how much of texts is lost by normalising, which may be nothing."""
        # One call for many small texts.
        return count_lost("".join(texts)) if self.normalize else Lost()

    def token_lengths(self) -> npt.NDArray[np.int64]:
        """Return how many characters each id stands for, with what joins it to the one before.

        A reserved token that was not counted in a text stands for none.
        """
        return self._measure_tokens(len)

    def token_byte_lengths(self) -> npt.NDArray[np.int64]:
        """Return how many bytes each id stands for, with what joins it to the one before."""
        return self._measure_tokens(_count_bytes)

    def _measure_tokens(self, measure: Callable[[str], int]) -> npt.NDArray[np.int64]:
        vocab = self.vocab
        lengths = np.array([measure(token + self.joint) for token in vocab], np.int64)
        lengths[UNKNOWN_ID] = -1
        counted = vocab.frequencies if vocab.reserved_tokens else {}
        for token in vocab.reserved_tokens:
            if token not in counted:
                lengths[vocab[token]] = 0
        return lengths

    def list_tokens(self) -> tuple[str, ...]:
        """Return the vocabulary."""
        return self.vocab.tokens

    def _map_tokens(
        self, segments: Sequence[TextSegment], to_ids: Callable[[list[str]], Ids]
    ) -> tuple[list[Ids], npt.NDArray[np.int64]]:
        """Return the ids of all segments, in pieces, and how many each segment has."""
        pieces: list[Ids] = []
        lengths = []
        for segment in segments:
            each = self._map_text(str(segment.text), to_ids)
            pieces += each
            lengths.append(sum(map(len, each)))
        return pieces, np.array(lengths, np.int64)

    def _map_text(self, text: str, to_ids: Callable[[list[str]], Ids]) -> list[Ids]:
        """Return the ids of a text, in pieces."""
        return [to_ids(tokens) for tokens in self.split(text)]

    def _concatenate(self, pieces: list[Ids]) -> Ids:
        return np.concatenate(pieces) if pieces else np.empty(0, narrow_dtype(len(self.vocab)))


@dataclass(frozen=True, slots=True)
class CharTokenizer(CountedTokenizer):
    """One token per character; normalising makes line ends vanish.

    >>> tokenizer = CharTokenizer(Vocab(["b", "a", "a"]))
    >>> tokenizer.encode("Abc?").tolist(), tokenizer.decode([1, 2])
    ([1, 2, 0], 'ab')
    """

    name: ClassVar[str] = "char"
    boundary: ClassVar[Boundary] = CHARACTERS

    def split(self, text: str) -> Iterator[list[str]]:
        """Yield the characters of a text."""
        yield list(self._clean(text))

    def split_prompt(self, prompt: str) -> str:
        """Return the characters of a prompt; unlike those of a text they keep the outer spaces."""
        return clean_prompt(prompt) if self.normalize else prompt

    def encode(self, text: str, /) -> Ids:
        """Return the ids of a text's characters, in the smallest unsigned dtype."""
        return look_up(self._clean(text), self.vocab)

    def encode_segments(self, segments: Sequence[TextSegment]) -> tuple[Ids, Offsets]:
        """Return the ids of many segments, and how many come before the end of each."""
        text, lengths = self._join(segments)
        return look_up(text, self.vocab), np.cumsum(lengths, dtype=np.int64)

    def count_segments(self, segments: Sequence[TextSegment]) -> Counted:
        """Return the characters of many segments as numbers, and what they stand for."""
        text, lengths = self._join(segments)
        counts = count_characters(text)
        return Counted(look_up(text, counts), np.cumsum(lengths, dtype=np.int64), counts)

    def find_characters(self, segment: TextSegment, /) -> Places:
        """Return with which character of a segment each token of it begins."""
        if not self.normalize:
            return range(len(segment.text))
        # The text before the segment is represented by "a" or "a ", and its "a" is no token of the
        # segment.
        prefix = PREFIXES[segment.state]
        places = find_characters(prefix + str(segment.text))
        return places[bool(prefix) :] - len(prefix)

    def token_lengths(self) -> npt.NDArray[np.int64]:
        """Return 1 for each character, known or not, and 0 for reserved tokens that are none."""
        special = self.vocab.reserved_tokens
        lengths = np.ones(self.vocab_size, np.int64)
        lengths[[self.vocab[token] for token in special if len(token) != 1]] = 0
        return lengths

    def token_byte_lengths(self) -> npt.NDArray[np.int64]:
        """Return how many bytes each character has in UTF-8; -1 for the unknown one."""
        lengths = np.array([_count_bytes(token) for token in self.vocab], np.int64)
        lengths[self.token_lengths() == 0] = 0
        # Normalised text holds nothing but letters a-z and spaces.
        lengths[UNKNOWN_ID] = 1 if self.normalize else -1
        return lengths

    def _clean(self, text: str) -> str:
        return clean_characters(text) if self.normalize else text

    def _join(self, segments: Sequence[TextSegment]) -> tuple[str, npt.NDArray[np.int64]]:
        """Return the characters of segments, one after the other, and how many each has."""
        if self.normalize:
            return clean_segments(segments)
        texts = [str(segment.text) for segment in segments]
        return "".join(texts), np.array(list(map(len, texts)), np.int64)


@dataclass(frozen=True, slots=True)
class WordTokenizer(CountedTokenizer):
    """One token per word, which is text between white space.

    >>> tokenizer = WordTokenizer(Vocab(["time", "machine"]))
    >>> tokenizer.encode("The TIME machine").tolist()
    [0, 1, 2]
    """

    name: ClassVar[str] = "word"
    joint: ClassVar[str] = " "

    @property
    def boundary(self) -> Boundary:
        """Between words."""
        return LETTERS if self.normalize else WORDS

    def split(self, text: str) -> Iterator[list[str]]:
        """Yield the words of a text, many at once."""
        return split_words(text, normalize=self.normalize)

    def find_characters(self, segment: TextSegment, /) -> Places:
        """Return with which character of a segment each word of it begins."""
        return find_words(str(segment.text), normalize=self.normalize)

    def _map_tokens(
        self, segments: Sequence[TextSegment], to_ids: Callable[[list[str]], Ids]
    ) -> tuple[list[Ids], npt.NDArray[np.int64]]:
        """Return the ids of all segments, in pieces, and how many each segment has.

        Normalised words of many segments are split in one call, which is
        quicker than one by one.
        """
        if not self.normalize or len(segments) < 2:
            return CountedTokenizer._map_tokens(self, segments, to_ids)  # noqa: SLF001  the base's
        texts = [str(segment.text) for segment in segments]
        return self._map_text("\n".join(texts), to_ids), count_words(texts)

    def _map_text(self, text: str, to_ids: Callable[[list[str]], Ids]) -> list[Ids]:
        """Return the ids of a text, in pieces; each is looked up once for many words."""
        return [
            to_ids(entries) if places is None else to_ids(entries)[places]
            for entries, places in distinguish_words(text, normalize=self.normalize)
        ]


@dataclass(frozen=True, slots=True)
class ByteTokenizer(CompleteTokenizer):
    """One token per byte of the text in UTF-8; the id is the byte.

    >>> ByteTokenizer().encode("é").tolist(), ByteTokenizer().decode([195, 169])
    ([195, 169], 'é')
    """

    name: ClassVar[str] = "byte"
    reads_bytes: ClassVar[bool] = True
    boundary: ClassVar[Boundary] = BYTES

    @property
    def vocab_size(self) -> int:
        """Number of different ids: 256."""
        return _NUM_BYTES

    def encode(self, text: str, /) -> Ids:
        """Return the bytes of a text: uint8 array, shape (num_bytes,)."""
        return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)

    def decode(self, ids: list[int], /) -> str:
        """Return the text of bytes; what is no UTF-8 becomes U+FFFD.

        Raises
        ------
        CorpusError
            An id is outside [0, 256).
        """
        content = as_ids(ids, num_ids=self.vocab_size).astype(np.uint8).tobytes()
        return content.decode("utf-8", "replace")

    def encode_segments(self, segments: Sequence[TextSegment]) -> tuple[Ids, Offsets]:
        """Return the bytes of many segments, and how many come before the end of each."""
        contents = [cast("bytes", segment.text) for segment in segments]
        stops = np.cumsum(list(map(len, contents)), dtype=np.int64)
        return np.frombuffer(b"".join(contents), np.uint8), stops

    def find_characters(self, segment: TextSegment, /) -> Places:
        """Return which byte of a segment each token of it is."""
        return range(len(segment.text))

    def token_lengths(self) -> npt.NDArray[np.int64]:
        """Return 1 for the first byte of a character, and 0 for the others."""
        lengths = np.ones(_NUM_BYTES, np.int64)
        # These continue a character that began before (RFC 3629).
        lengths[0x80:0xC0] = 0
        return lengths

    def token_byte_lengths(self) -> npt.NDArray[np.int64]:
        """Return 1 for each id."""
        return np.ones(_NUM_BYTES, np.int64)

    def list_tokens(self) -> tuple[str, ...]:
        """Return the first 256 characters."""
        return tuple(map(chr, range(_NUM_BYTES)))


# Every built-in tokenizer, by its name: the one list of them.
TOKENIZERS: dict[str, type[CompleteTokenizer]] = {
    kind.name: kind for kind in (CharTokenizer, WordTokenizer, ByteTokenizer)
}
TOKENIZER_NAMES = (*TOKENIZERS, BpeLearner.name)
COUNTED_NAMES = tuple(
    name for name, kind in TOKENIZERS.items() if issubclass(kind, CountedTokenizer)
)
# Tokenizers that learn as many ids as vocab_size asks for.
LEARNED_NAMES = (*COUNTED_NAMES, BpeLearner.name)
# Tokenizers of other packages, by their names in manifests.
_SUBWORDS: dict[str, type[CompleteTokenizer]] = {
    kind.name: kind for kind in (HuggingFaceTokenizer, TiktokenTokenizer, SentencePieceTokenizer)
}


def make_tokenizer(
    given: object,
    *,
    normalize: bool = True,
    vocab_size: int | None = None,
    name: str = "tokenizer",
    names: Sequence[str] = TOKENIZER_NAMES,
) -> CompleteTokenizer:
    """Return the tokenizer that was named or given.

    A name whose vocabulary is to be counted stands for a tokenizer that has an
    empty one, and "bpe" for what learns one. A Vocab stands for the tokenizer
    that made it. What means a store is resolved before, see
    `tokenloom.store.reader.find_stored_tokenizer`.

    Parameters
    ----------
    given : "char", "word", "byte", "bpe", a path, a Vocab, a Tokenizer, or one of another package
        See `tokenloom.Corpus.from_text`.
    normalize : bool
        Whether a tokenizer whose vocabulary is to be counted normalises.
    vocab_size : int, optional
        The most ids that "bpe" may learn.
    name : str
        Of the argument, for messages.
    names : sequence of str
        Names of built-in tokenizers that messages list.

    Raises
    ------
    ArgumentError
        It is none of these, or ``vocab_size`` was given for a tokenizer whose ids are fixed.
    CorpusError
        A file holds no tokenizer.
    UsageError
        The package is not installed that the tokenizer needs.

    >>> make_tokenizer("byte"), make_tokenizer("char").vocab_size
    (ByteTokenizer(), 1)
    """
    size = check_vocab_size(vocab_size, given)
    if isinstance(given, str) and given in TOKENIZERS:
        kind = TOKENIZERS[given]
        return kind(UNCOUNTED, normalize) if issubclass(kind, CountedTokenizer) else kind()
    learner = BpeLearner() if isinstance(given, str) and given == BpeLearner.name else given
    if isinstance(learner, BpeLearner):
        return learner if size is None else dataclasses.replace(learner, max_ids=size)
    if isinstance(given, Vocab):
        return tokenizer_for(given)
    if _is_encoding(given) or _is_file(given):
        return read_tokenizer(given)
    expected = ", ".join(map(repr, names))
    return _take_object(given, expected=f"{name} must be {expected}, {_OTHERS}")


def take_tokenizer(given: object, *, name: str = "tokenizer") -> CompleteTokenizer:
    """Return a tokenizer that has its ids already; it is given as for `make_tokenizer`.

    Raises
    ------
    ArgumentError
        It is a name whose ids are learnt from a text; or see `make_tokenizer`.

    >>> take_tokenizer("byte")
    ByteTokenizer()
    """
    made = make_tokenizer(given, name=name, names=[ByteTokenizer.name])
    if isinstance(made, LearnedTokenizer) or vocab_of(made) is UNCOUNTED:
        msg = (
            f"{name} must be one that has its ids already, got {show(given)}, which learns them "
            "from a text: pass a Vocab, the path of its file, or the object itself"
        )
        raise ArgumentError(msg)
    return made


def allow_special_tokens(tokenizer: CompleteTokenizer) -> CompleteTokenizer:
    """Return the same tokenizer, which turns special tokens that a text spells into their ids.

    Raises
    ------
    ArgumentError
        It cannot read them in a text.

    >>> allow_special_tokens(BpeLearner()).allow_special
    True
    """
    if isinstance(tokenizer, HuggingFaceTokenizer | TiktokenTokenizer | BpeLearner):
        return dataclasses.replace(tokenizer, allow_special=True)
    msg = (
        "allow_special must be left out where the tokenizer cannot read special tokens in a text, "
        f"got it with {tokenizer.name or show(tokenizer.given)}"
    )
    raise ArgumentError(msg)


def refuse_settings(
    tokenizer: CompleteTokenizer,
    given: object,
    *,
    normalize: bool,
    min_freq: int,
    reserved_tokens: Collection[str],
) -> None:
    """Refuse settings that have no effect with a tokenizer.

    Parameters
    ----------
    tokenizer : CompleteTokenizer
        What `make_tokenizer` returned.
    given : object
        What the caller passed, for messages.
    normalize, min_freq, reserved_tokens
        See `tokenloom.Corpus.from_text`.

    Raises
    ------
    ArgumentError
        One of them is not its default, and only a vocabulary that is counted
        depends on it; "bpe" takes reserved tokens, too.

    >>> usual = {"normalize": True, "min_freq": 0, "reserved_tokens": ()}
    >>> refuse_settings(make_tokenizer("byte"), "byte", **usual)
    """
    if vocab_of(tokenizer) is UNCOUNTED:
        return
    learns = isinstance(tokenizer, LearnedTokenizer)
    refused = {
        "normalize": (not normalize, "gets each text as it is"),
        "min_freq": (min_freq > 0, "counts no characters or words"),
        "reserved_tokens": (len(reserved_tokens) > 0 and not learns, "has its ids already"),
    }
    for setting, (is_asked, why) in refused.items():
        if is_asked:
            msg = f"{setting} must be left out where the tokenizer {why}, got {show(given)}"
            raise ArgumentError(msg)


_OTHERS = "'tiktoken:NAME', the path of a tokenizer.json, a *.tiktoken or a *.model"


def read_tokenizer(source: object, *, allow_special: bool = False) -> CompleteTokenizer:
    """Return a tokenizer of another package from its file, its name or its object, by value.

    Parameters
    ----------
    source : path, str, or an object of another package
        The path of a ``tokenizer.json``, a ``*.tiktoken``, a ``*.model``, or a
        ``vocab.json`` of tokenloom; "tiktoken:NAME"; "bpe", which then learns
        of the documents that it is given for; or an object of the packages
        tokenizers, tiktoken and sentencepiece, or a fast one of transformers.
    allow_special : bool
        Whether special tokens that are written out in a text become their ids.
        They are ordinary text otherwise; so they always are in a model of
        sentencepiece, and in a ``vocab.json``.

    Returns
    -------
    tokenizer, which `tokenloom.load`, `tokenloom.prepare` and others take

    Raises
    ------
    ArgumentError
        It is none of these, or the file cannot be read.
    CorpusError
        The file holds something else.
    DownloadError
        The encoding of "tiktoken:NAME" cannot be downloaded.
    UsageError
        The package that reads it is not installed.
    """
    allow_special = as_flag("allow_special", allow_special)
    if isinstance(source, str) and source == BpeLearner.name:
        return BpeLearner(allow_special=allow_special)
    if _is_encoding(source):
        return load_encoding(str(source).removeprefix(ENCODING), allow_special=allow_special)
    if isinstance(source, str | os.PathLike):
        return _read_file(os.fspath(source), allow_special=allow_special)
    found = adopt(source, allow_special=allow_special)
    if found is None:
        expected = f"'bpe', {_OTHERS}, or an object of another package"
        msg = f"tokenizer must be {expected}, got {show(source)}"
        raise ArgumentError(msg)
    return found


def _is_encoding(source: object) -> bool:
    return isinstance(source, str) and source.startswith(ENCODING)


def _is_file(source: object) -> bool:
    return isinstance(source, str | os.PathLike) and str(source).endswith(tuple(READERS))


def _read_file(path: str, *, allow_special: bool) -> CompleteTokenizer:
    try:
        found = read_file(path, allow_special=allow_special)
    except OSError as error:
        why = describe_missing(path) if isinstance(error, FileNotFoundError) else error.strerror
        msg = f"tokenizer must be a file that can be read, got {show(path)}: {why}"
        raise ArgumentError(msg) from error
    return tokenizer_for(found) if isinstance(found, Vocab) else found


def check_vocab_size(vocab_size: int | None, tokenizer: object) -> int | None:
    """Return the most ids that a tokenizer may learn, as a plain integer.

    Parameters
    ----------
    vocab_size : int or None
    tokenizer : object
        What was named or given.

    Raises
    ------
    ArgumentError
        It is below 1, or the tokenizer's ids are fixed.

    >>> check_vocab_size(None, "byte") is None
    True
    """
    if vocab_size is None:
        return None
    is_named = isinstance(tokenizer, str) and tokenizer in LEARNED_NAMES
    if is_named or isinstance(tokenizer, LearnedTokenizer):
        return as_integer("vocab_size", vocab_size, start=1)
    msg = (
        "vocab_size must be left out where the tokenizer learns none, got "
        f"{show(vocab_size)} with {show(tokenizer)}"
    )
    raise ArgumentError(msg)


def complete(tokenizer: Tokenizer) -> CompleteTokenizer:
    """Return a tokenizer with the whole interface; of one from elsewhere little is known.

    A class that has a built-in one as its base and an ``encode`` of its own is
    one from elsewhere: the methods of its base would give other ids.
    """
    kinds = TOKENIZERS.values()
    is_changed = type(tokenizer) not in kinds and any(
        isinstance(tokenizer, kind) and type(tokenizer).encode is not kind.encode for kind in kinds
    )
    if isinstance(tokenizer, CompleteTokenizer) and not is_changed:
        return tokenizer
    return adopt(tokenizer) or UserTokenizer(tokenizer)


def find_end_id(
    token: str | int | None, tokenizer: Tokenizer, *, name: str = "end_of_document"
) -> int | None:
    """Return the id of a token that ends documents, or None where none is given.

    Parameters
    ----------
    token : str, int or None
        A token, or its id.
    tokenizer : Tokenizer
    name : str
        What messages call it.

    Raises
    ------
    ArgumentError
        The tokenizer has no such token or id.

    >>> find_end_id(0, ByteTokenizer())
    0
    """
    if token is None:
        return None
    if not isinstance(token, str):
        return as_integer(name, token, stop=tokenizer.vocab_size)
    known = complete(tokenizer)
    # Packages raise errors of their own at half of a surrogate pair.
    if find_surrogate(token) is None and (found := known.find_token(token)) is not None:
        return found
    special = ", ".join(map(repr, [*known.special_tokens()][:_NUM_SPECIAL]))
    msg = (
        f"{name} must be an id in [0, {tokenizer.vocab_size}), or a token of the "
        f"tokenizer's vocabulary{special and f', such as {special}'}, got {show(token)}"
    )
    raise ArgumentError(msg)


def is_counted(given: object) -> bool:
    """Return whether a name of a tokenizer whose vocabulary is to be counted was given.

    >>> is_counted("char"), is_counted("byte"), is_counted(Vocab(["a"]))
    (True, False, False)
    """
    return isinstance(given, str) and given in COUNTED_NAMES


def _take_object(value: object, *, expected: str) -> CompleteTokenizer:
    """Return an object that is a tokenizer, of tokenloom, of another package or of the caller.

    Raises
    ------
    ArgumentError
        It lacks a part, or its ``vocab_size`` is no number, such as a method.
    """
    if found := adopt(value):
        return found
    needed = ("vocab_size", "encode", "decode")
    if isinstance(value, str | type) or not all(hasattr(value, part) for part in needed):
        msg = (
            f"{expected}, the folder of a store, a Vocab, or an object with vocab_size, "
            f"encode(text) and decode(ids), got {show(value)}"
        )
        msg += propose_file(os.fspath(value)) if isinstance(value, str | os.PathLike) else ""
        raise ArgumentError(msg)
    as_integer("vocab_size of the tokenizer", getattr(value, "vocab_size"), start=1)  # noqa: B009
    return complete(cast("Tokenizer", value))


def tokenizer_for(vocab: Vocab) -> CountedTokenizer:
    """Return the tokenizer of a vocabulary.

    It is the one that made the vocabulary, where that is known. Else it takes
    text without normalising; a vocabulary of single characters encodes
    characters, any other words.

    Raises
    ------
    ArgumentError
        It was made by a tokenizer that this release does not have.

    >>> type(tokenizer_for(Vocab(["a", "b"]))).__name__
    'CharTokenizer'
    """
    if vocab.kind is None:
        kind: type = CharTokenizer if vocab.has_only_characters else WordTokenizer
    else:
        kind = TOKENIZERS.get(vocab.kind, object)
    if not issubclass(kind, CountedTokenizer):
        msg = (
            f"a vocabulary must be of the tokenizer {join_choices(COUNTED_NAMES)}, got one of "
            f"{show(vocab.kind)}, which this release does not have: update tokenloom"
        )
        raise ArgumentError(msg)
    return kind(vocab, bool(vocab.normalize))


def _no_file(name: str) -> bytes:
    msg = f"no file {name!r} is at hand"
    raise CorpusError(msg)


def restore_tokenizer(
    description: object,
    *,
    load_vocab: Callable[[], Vocab],
    load_file: Callable[[str], bytes] = _no_file,
) -> CompleteTokenizer | None:
    """Return the tokenizer of a description, or None where it came from elsewhere.

    Parameters
    ----------
    description : object
        What `CompleteTokenizer.describe` returned; anything else returns None.
    load_vocab : callable
        Returns the tokenizer's vocabulary; it is called where there is one.
    load_file : callable
        Returns the content of one of its files, by the name that
        `CompleteTokenizer.files` gives it; it is called where there is one.
    """
    if not isinstance(description, Mapping):
        return None
    name = description.get("name")
    kind = (TOKENIZERS | _SUBWORDS).get(name) if isinstance(name, str) else None
    if kind is None:
        return None
    return kind.restore(description, load_vocab=load_vocab, load_file=load_file)


def is_restorable(tokenizer: CompleteTokenizer) -> bool:
    """Return whether `restore_tokenizer` can make a tokenizer again from its description.

    >>> is_restorable(ByteTokenizer()), is_restorable(BpeLearner())
    (True, False)
    """
    return type(tokenizer) in (*TOKENIZERS.values(), *_SUBWORDS.values())


def count_characters(text: str, *, chunk: int = _CHUNK) -> dict[str, int]:
    """Return how often each character appears, in order of first appearance.

    Parameters
    ----------
    text : str
    chunk : int
        The number of characters counted at once; the result does not depend on it.

    >>> count_characters("noon")
    {'n': 2, 'o': 2}
    """
    codes = _code_points(text)
    size, length = (_NUM_BYTES, chunk) if text.isascii() else (_NUM_CODE_POINTS, 16 * chunk)
    counts = np.zeros(size, np.int64)
    order: list[int] = []
    for start in range(0, len(codes), length):
        # "noon": codes 110, 111, 111, 110; bincount has 2 at 110 and 2 at 111.
        codes_here = codes[start : start + length]
        more = np.bincount(codes_here, minlength=size)
        if ((counts == 0) & (more > 0)).any():
            # New characters: values 110, 111, first seen at 0, 1.
            values, first = np.unique(codes_here[counts[codes_here] == 0], return_index=True)
            order.extend(values[np.argsort(first)].tolist())
        counts += more
    return {chr(code): int(counts[code]) for code in order}


def look_up(text: str, tokens: Collection[str]) -> Ids:
    """Return which of some tokens each character is, from 0 on; 0 too where it is none.

    Returns
    -------
    array of the smallest unsigned dtype that holds all ids, shape (len(text),)

    >>> look_up("cab", ["?", "a", "b"])
    array([0, 1, 2], dtype=uint8)
    """
    size = _NUM_BYTES if text.isascii() else _NUM_CODE_POINTS
    # At each code the id of its character: here 1 at 97, 2 at 98, 0 elsewhere.
    table = np.zeros(size, narrow_dtype(len(tokens)))
    for id_, token in enumerate(tokens):
        if len(token) == 1 and ord(token) < size:
            table[ord(token)] = id_
    if table.nbytes == _NUM_BYTES:
        return np.frombuffer(text.encode("ascii").translate(table.tobytes()), np.uint8)
    return table[_code_points(text)]


def _count_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _code_points(text: str) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint32]:
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
