"""Text to ids, and ids to text."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tokenloom._wording import show
from tokenloom.errors import ArgumentError
from tokenloom.text.counting import count_characters, look_up, number_words
from tokenloom.text.ids import Ids, as_ids, narrow_dtype
from tokenloom.text.normalize import clean_characters, clean_prompt, clean_words, split_words
from tokenloom.text.vocab import Vocab

MakeVocab = Callable[[dict[str, int]], Vocab]


class Tokenizer(Protocol):
    """What tokenloom asks of a tokenizer: any object with these will do."""

    @property
    def vocab_size(self) -> int:
        """Number of different ids: each is in [0, vocab_size)."""

    def encode(self, text: str, /) -> npt.ArrayLike:
        """Return the ids of a text, one-dimensional."""

    def decode(self, ids: list[int], /) -> str:
        """Return the text of ids."""


def require_tokenizer(value: object, *, name: str = "tokenizer", expected: str = "") -> None:
    """Refuse what has not the parts of a tokenizer.

    Parameters
    ----------
    value : object
    name : str
        That of the argument.
    expected : str
        What it may be besides, before "an object with ...".

    Raises
    ------
    ArgumentError
        It lacks one of them.
    """
    needed = ("vocab_size", "encode", "decode")
    if isinstance(value, str | type) or not all(hasattr(value, part) for part in needed):
        msg = (
            f"{name} must be {expected}an object with vocab_size, encode(text) and decode(ids), "
            f"got {show(value)}"
        )
        raise ArgumentError(msg)


@dataclass(frozen=True, slots=True)
class CharTokenizer:
    """One token per character.

    Parameters
    ----------
    vocab : Vocab
        A character that is not in it becomes id 0.
    normalize : bool
        Whether texts go through the textbook's normalisation first, in which
        line ends vanish.

    >>> tokenizer = CharTokenizer(Vocab(["b", "a", "a"]))
    >>> tokenizer.encode("Abc?").tolist(), tokenizer.decode([1, 2])
    ([1, 2, 0], 'ab')
    """

    vocab: Vocab
    normalize: bool = True

    def __post_init__(self) -> None:
        # So that the vocabulary alone makes the same tokenizer again.
        vocab = self.vocab.of_kind("char", normalize=self.normalize)
        object.__setattr__(self, "vocab", vocab)

    @property
    def vocab_size(self) -> int:
        """Number of different ids."""
        return len(self.vocab)

    def encode(self, text: str, /) -> Ids:
        """Return the ids of a text's characters, in the smallest unsigned dtype."""
        return self._encode_cleaned(clean_characters(text) if self.normalize else text)

    def encode_prompt(self, prompt: str, /) -> Ids:
        """Return the ids of a text that generation goes on from.

        Unlike `encode` this keeps the outer spaces.
        """
        return self._encode_cleaned(clean_prompt(prompt) if self.normalize else prompt)

    def decode(self, ids: list[int], /) -> str:
        """Return the characters of ids, joined by nothing."""
        return "".join(self.vocab.to_tokens(ids))

    @classmethod
    def learn(
        cls, text: str, *, normalize: bool, make_vocab: MakeVocab
    ) -> tuple[Ids, "CharTokenizer"]:
        """Return the ids of a text and the tokenizer made from its characters."""
        cleaned = clean_characters(text) if normalize else text
        tokenizer = cls(make_vocab(count_characters(cleaned)), normalize)
        return tokenizer._encode_cleaned(cleaned), tokenizer

    def _encode_cleaned(self, text: str) -> Ids:
        return look_up(text, self.vocab)


@dataclass(frozen=True, slots=True)
class WordTokenizer:
    """One token per word: whatever stands between white space.

    Parameters
    ----------
    vocab : Vocab
        A word that is not in it becomes id 0.
    normalize : bool
        Whether texts go through the textbook's normalisation first.

    >>> tokenizer = WordTokenizer(Vocab(["time", "machine"]))
    >>> tokenizer.encode("The TIME machine").tolist()
    [0, 1, 2]
    """

    vocab: Vocab
    normalize: bool = True

    def __post_init__(self) -> None:
        # So that the vocabulary alone makes the same tokenizer again.
        vocab = self.vocab.of_kind("word", normalize=self.normalize)
        object.__setattr__(self, "vocab", vocab)

    @property
    def vocab_size(self) -> int:
        """Number of different ids."""
        return len(self.vocab)

    def encode(self, text: str, /) -> Ids:
        """Return the ids of a text's words, in the smallest unsigned dtype."""
        pieces = split_words(text, normalize=self.normalize)
        return _join([self.vocab.to_ids(words) for words in pieces], len(self.vocab))

    encode_prompt = encode

    def decode(self, ids: list[int], /) -> str:
        """Return the words of ids, joined by one space."""
        return " ".join(self.vocab.to_tokens(ids))

    @classmethod
    def learn(
        cls, text: str, *, normalize: bool, make_vocab: MakeVocab
    ) -> tuple[Ids, "WordTokenizer"]:
        """Return the ids of a text and the tokenizer made from its words."""
        pieces, counts = number_words(text, normalize=normalize)
        vocab = make_vocab(counts)
        ids = vocab.to_ids(list(counts))
        return _join([ids[piece] for piece in pieces], len(vocab)), cls(vocab, normalize)


@dataclass(frozen=True, slots=True)
class ByteTokenizer:
    """One token per byte of the text in UTF-8; the id is the byte.

    >>> ByteTokenizer().encode("é").tolist(), ByteTokenizer().decode([195, 169])
    ([195, 169], 'é')
    """

    @property
    def vocab_size(self) -> int:
        """Number of different ids: 256."""
        return 256

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
        return (
            as_ids(ids, num_ids=self.vocab_size)
            .astype(np.uint8)
            .tobytes()
            .decode("utf-8", "replace")
        )


_Learned = tuple[Ids, CharTokenizer] | tuple[Ids, WordTokenizer]

_LEARNERS: dict[str, Callable[..., _Learned]] = {
    "char": CharTokenizer.learn,
    "word": WordTokenizer.learn,
}
TOKENIZER_NAMES = (*_LEARNERS, "byte")


def takes_bytes(tokenizer: object) -> bool:
    """Return whether what was given as tokenizer takes the bytes of a text as they are.

    >>> takes_bytes("byte"), takes_bytes(ByteTokenizer()), takes_bytes("char")
    (True, True, False)
    """
    return isinstance(tokenizer, ByteTokenizer) or (
        isinstance(tokenizer, str) and tokenizer == "byte"
    )


def tokenize(
    text: str,
    *,
    tokenizer: str | Vocab | Tokenizer,
    normalize: bool = True,
    make_vocab: MakeVocab = Vocab,
) -> tuple[Ids, Tokenizer]:
    """Return the ids of a text, and the tokenizer that encodes more like it.

    Parameters
    ----------
    text : str
    tokenizer : "char", "word", "byte", a Vocab or a Tokenizer
        A name builds the vocabulary from the text; a Tokenizer is used as it
        is, and so is that of a Vocab; see `tokenizer_for`.
    normalize : bool
        Whether "char" and "word" begin with the textbook's normalisation.
    make_vocab : callable
        Makes the vocabulary from counts in order of first appearance.

    Returns
    -------
    integer array, shape (num_tokens,), and a Tokenizer

    Raises
    ------
    ArgumentError
        The tokenizer is unknown.
    CorpusError
        A Tokenizer returned ids that are not one-dimensional or out of range.
    """
    if isinstance(tokenizer, str) and tokenizer in _LEARNERS:
        return _LEARNERS[tokenizer](text, normalize=normalize, make_vocab=make_vocab)
    if isinstance(tokenizer, Vocab):
        tokenizer = tokenizer_for(tokenizer)
    elif isinstance(tokenizer, str) and tokenizer == "byte":
        tokenizer = ByteTokenizer()
    if isinstance(tokenizer, str) or not _is_tokenizer(tokenizer):
        expected = ", ".join(map(repr, TOKENIZER_NAMES))
        msg = (
            f"tokenizer must be {expected}, a Vocab, or an object with vocab_size, "
            f"encode(text) and decode(ids), got {show(tokenizer)}"
        )
        raise ArgumentError(msg)
    ids = as_ids(tokenizer.encode(text), num_ids=tokenizer.vocab_size)
    return ids, tokenizer


def tokenizer_for(vocab: Vocab) -> CharTokenizer | WordTokenizer:
    """Return the tokenizer of a vocabulary.

    It is the one that made the vocabulary, where that is known. Else it takes
    text without normalising; a vocabulary of single characters encodes
    characters, any other words.

    >>> type(tokenizer_for(Vocab(["a", "b"]))).__name__
    'CharTokenizer'
    """
    kind = vocab.kind or ("char" if vocab.has_only_characters else "word")
    normalize = bool(vocab.normalize)
    return CharTokenizer(vocab, normalize) if kind == "char" else WordTokenizer(vocab, normalize)


def find_unknown(tokenizer: Tokenizer, prompt: str) -> list[str]:
    """Return the tokens of a prompt that are not in the vocabulary, each once.

    Of a tokenizer that came from elsewhere nobody knows any.

    >>> find_unknown(CharTokenizer(Vocab(["a", "b"])), "Abc, ABC!")
    ['c', ' ']
    """
    match tokenizer:
        case CharTokenizer(vocab=vocab, normalize=normalize):
            tokens: Iterable[str] = clean_prompt(prompt) if normalize else prompt
        case WordTokenizer(vocab=vocab, normalize=normalize):
            tokens = (clean_words(prompt) if normalize else prompt).split()
        case _:
            return []
    return [token for token in dict.fromkeys(tokens) if token not in vocab]


def describe_tokenizer(tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Return what, beside its vocabulary, makes a tokenizer again: JSON-able.

    >>> describe_tokenizer(ByteTokenizer()), describe_tokenizer(None)
    ({'name': 'byte'}, {'name': None, 'type': 'NoneType'})
    """
    match tokenizer:
        case ByteTokenizer():
            return {"name": "byte"}
        case CharTokenizer(normalize=normalize):
            return {"name": "char", "normalize": normalize}
        case WordTokenizer(normalize=normalize):
            return {"name": "word", "normalize": normalize}
        case _:
            return {"name": None, "type": type(tokenizer).__name__}


def restore_tokenizer(description: object, *, load_vocab: Callable[[], Vocab]) -> Tokenizer | None:
    """Return the tokenizer of a description, or None where it came from elsewhere.

    Parameters
    ----------
    description : object
        What `describe_tokenizer` returned; of anything else None comes back.
    load_vocab : callable
        Returns the tokenizer's vocabulary; it is called where there is one.
    """
    match description:
        case {"name": "byte"}:
            return ByteTokenizer()
        case {"name": "char", "normalize": bool(normalize)}:
            return CharTokenizer(load_vocab(), normalize)
        case {"name": "word", "normalize": bool(normalize)}:
            return WordTokenizer(load_vocab(), normalize)
        case _:
            return None


def _join(pieces: list[Ids], num_ids: int) -> Ids:
    return np.concatenate(pieces) if pieces else np.empty(0, narrow_dtype(num_ids))


def _is_tokenizer(value: object) -> bool:
    return not isinstance(value, type) and all(
        hasattr(value, name) for name in ("vocab_size", "encode", "decode")
    )
