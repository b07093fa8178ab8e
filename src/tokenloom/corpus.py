"""A text as one array of token ids, with what is needed to read it again."""

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenloom.arrays import Ids, as_ids, is_memory_map
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.hashing import hash_tokens
from tokenloom.maps import Tokens, advise, pack, section
from tokenloom.tokenizers import ByteTokenizer, Tokenizer, tokenize, tokenizer_for
from tokenloom.vocab import Vocab


class Corpus:
    """Token ids in one array, and the tokenizer or vocabulary that made them.

    Make one with `Corpus.from_text`, `Corpus.from_tokens` or `tokenloom.load`.
    A corpus does not change after it was made.

    Attributes
    ----------
    tokens : integer array, shape (num_tokens,)
        In memory or a memory map; slices give NumPy arrays.
    tokenizer : Tokenizer or None
    vocab : Vocab or None
        The tokenizer's vocabulary; bytes and foreign tokenizers have none.
    name : str
        Where the text came from, for people.
    """

    def __init__(
        self, tokens: Tokens, *, tokenizer: Tokenizer | None, vocab_size: int | None, name: str
    ) -> None:
        self.tokens = tokens
        self.tokenizer = tokenizer
        self.name = name
        self._vocab_size = vocab_size

    @staticmethod
    def from_text(
        text: str | bytes,
        *,
        tokenizer: str | Tokenizer = "char",
        normalize: bool = True,
        min_freq: int = 0,
        reserved_tokens: Iterable[str] = (),
        max_tokens: int | None = None,
        name: str = "text",
    ) -> "Corpus":
        """Tokenise a text and number its tokens.

        Parameters
        ----------
        text : str, or bytes in UTF-8
        tokenizer : "char", "word", "byte" or a Tokenizer
        normalize : bool
            Whether "char" and "word" begin with the textbook's normalisation:
            letters a-z and single spaces only, no line ends. False takes the
            text as it is.
        min_freq : int
            Rarer tokens become the unknown token, id 0 ("char" and "word").
        reserved_tokens : iterable of str
            Tokens that get the ids from 1 on ("char" and "word").
        max_tokens : int, optional
            Keep only so many tokens; the vocabulary still counts all of them.
        name : str
            Where the text came from, for messages.

        Raises
        ------
        ArgumentError
            The tokenizer is unknown, or ``max_tokens`` is below 1.
        CorpusError
            Bytes are no UTF-8 (the message has the offset), or the text holds
            no token.

        >>> corpus = Corpus.from_text("Time flies")
        >>> corpus.tokens.tolist(), corpus.vocab.to_tokens([1, 2])
        ([3, 1, 4, 2, 5, 6, 7, 1, 2, 8], ['i', 'e'])
        """
        if not isinstance(text, str | bytes):
            msg = f"text must be str or bytes, got {type(text).__name__}"
            raise ArgumentError(msg)
        if isinstance(text, bytes) and tokenizer == "byte":
            learned: tuple[Ids, Tokenizer] = np.frombuffer(text, np.uint8), ByteTokenizer()
        else:
            learned = tokenize(
                decode(text, name=name) if isinstance(text, bytes) else text,
                tokenizer=tokenizer,
                normalize=normalize,
                make_vocab=functools.partial(
                    Vocab, min_freq=min_freq, reserved_tokens=tuple(reserved_tokens)
                ),
            )
        tokens, made = learned
        if not len(tokens):
            msg = f"{name} must hold at least one token, got none: {_why_empty(text, made)}"
            raise CorpusError(msg)
        if max_tokens is not None and max_tokens < 1:
            msg = f"max_tokens must be at least 1, or None for all, got {max_tokens}"
            raise ArgumentError(msg)
        corpus = Corpus(tokens, tokenizer=made, vocab_size=made.vocab_size, name=name)
        return corpus if max_tokens is None else corpus.section(0, max_tokens)

    @staticmethod
    def from_tokens(
        tokens: npt.ArrayLike,
        *,
        vocab: Vocab | None = None,
        vocab_size: int | None = None,
        name: str = "tokens",
    ) -> "Corpus":
        """Wrap token ids that exist already.

        Parameters
        ----------
        tokens : array_like of int, shape (num_tokens,)
            A memory map or an unsigned array is used as it is, without a
            copy. A memory map is not searched for ids out of range.
        vocab : Vocab, optional
            Characters, or words, of the ids.
        vocab_size : int, optional
            Ids are in [0, vocab_size). By default the length of ``vocab``, else
            one more than the largest id; of a memory map, unknown.
        name : str
            Where the tokens came from, for messages.

        Raises
        ------
        ArgumentError
            ``vocab_size`` differs from the length of ``vocab``.
        CorpusError
            The ids are none at all, not one-dimensional, no integers or out
            of range.

        >>> Corpus.from_tokens([3, 1, 2]).tokens.dtype
        dtype('uint8')
        """
        if vocab is not None and vocab_size not in (None, len(vocab)):
            msg = f"vocab_size must be len(vocab)={len(vocab)} or be left out, got {vocab_size}"
            raise ArgumentError(msg)
        num_ids = vocab_size if vocab is None else len(vocab)
        ids = as_ids(tokens, num_ids=num_ids)
        if not len(ids):
            msg = f"{name} must hold at least one token, got none"
            raise CorpusError(msg)
        if num_ids is None and not is_memory_map(ids):
            num_ids = int(ids.max()) + 1
        tokenizer = None if vocab is None else tokenizer_for(vocab)
        return Corpus(ids, tokenizer=tokenizer, vocab_size=num_ids, name=name)

    @property
    def vocab(self) -> Vocab | None:
        """The vocabulary of the ids, where there is one."""
        vocab = getattr(self.tokenizer, "vocab", None)
        return vocab if isinstance(vocab, Vocab) else None

    @property
    def vocab_size(self) -> int:
        """Number of different ids: each is in [0, vocab_size).

        Raises
        ------
        CorpusError
            Nobody said how many ids a memory map has; looking would read it all.
        """
        if self._vocab_size is None:
            msg = (
                f"the vocabulary size of {self.name}, a memory map, is not known: "
                "pass vocab_size=... to Corpus.from_tokens"
            )
            raise CorpusError(msg)
        return self._vocab_size

    @functools.cached_property
    def hash(self) -> str:
        """``"sha256:..."`` of the tokens; see `tokenloom.hashing.hash_tokens`.

        Computed at the first use: whole up to 4 MiB, sampled beyond.
        """
        advise(self.tokens, is_random=True)
        return hash_tokens(self.tokens)

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        vocab_size = "?" if self._vocab_size is None else f"{self._vocab_size:,}"
        return f"Corpus({self.name!r}, {len(self):,} tokens, vocab_size={vocab_size})"

    def section(self, start: int, stop: int) -> "Corpus":
        """Return the tokens [start, stop) as a corpus, without a copy.

        ``stop`` may lie past the end. The vocabulary stays that of the whole.

        Raises
        ------
        ArgumentError
            The section would hold no token.
        """
        if not 0 <= start < min(stop, len(self)):
            msg = (
                f"a section must have 0 <= start < stop and start < {len(self):,} tokens, "
                f"got start={start} and stop={stop}"
            )
            raise ArgumentError(msg)
        return Corpus(
            section(self.tokens, start, min(stop, len(self))),
            tokenizer=self.tokenizer,
            vocab_size=self._vocab_size,
            name=self.name,
        )

    def split(self, fraction: float) -> tuple["Corpus", "Corpus"]:
        """Return the first ``fraction`` of the tokens and the rest, without a copy.

        Raises
        ------
        ArgumentError
            One of the parts would hold no token.

        >>> train, valid = Corpus.from_tokens(range(10)).split(0.8)
        >>> len(train), valid.tokens.tolist()
        (8, [8, 9])
        """
        # 0.29 * 100 is a little less than 29.
        stop = int(len(self) * fraction + 1e-9) if 0 < fraction < 1 else 0
        if not 0 < stop < len(self):
            msg = (
                f"fraction must leave tokens on both sides of {len(self):,} tokens, got {fraction}"
            )
            raise ArgumentError(msg)
        return self.section(0, stop), self.section(stop, len(self))

    def hold_out(
        self, fraction: float, *, max_tokens: int | None = None
    ) -> tuple["Corpus", "Corpus | None"]:
        """Return a training corpus and the held-out text right behind it.

        Parameters
        ----------
        fraction : float
            Of the tokens that are used, how many are held out, in [0, 1).
        max_tokens : int, optional
            Train on so many tokens at most. The held-out text then lies behind
            them, so that it takes nothing from them where the corpus is longer.

        Returns
        -------
        training corpus, and the held-out corpus, or None where that is empty

        Raises
        ------
        ArgumentError
            A value is out of range, or no token is left to train on.

        >>> corpus = Corpus.from_tokens(range(100))
        >>> [len(part) for part in corpus.hold_out(0.1, max_tokens=45)]
        [45, 5]
        """
        if not 0 <= fraction < 1:
            msg = f"the held-out fraction must be in [0, 1), got {fraction}"
            raise ArgumentError(msg)
        stop, held_out_stop = round(len(self) * (1 - fraction)), len(self)
        if max_tokens is not None and max_tokens < stop:
            stop, held_out_stop = max_tokens, round(max_tokens / (1 - fraction))
        train = self.section(0, stop)
        # A single token has no successor that could be predicted.
        return train, self.section(stop, held_out_stop) if held_out_stop - stop > 1 else None

    def decode(self, ids: Any) -> str:
        """Return the text of ids, or the ids themselves where nothing decodes them.

        Parameters
        ----------
        ids : one-dimensional list, array or tensor of int
        """
        numbers = [int(id_) for id_ in ids]
        if self.tokenizer is None:
            return " ".join(map(str, numbers))
        return self.tokenizer.decode(numbers)

    def __getstate__(self) -> dict[str, Any]:
        make_tokens, arguments = pack(self.tokens)
        return {**self.__dict__, "tokens": (make_tokens, arguments)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        make_tokens, arguments = state["tokens"]
        self.__dict__.update(state, tokens=make_tokens(*arguments))


def decode(content: bytes, *, name: str, encoding: str = "utf-8") -> str:
    r"""Return the text of a file's bytes, without a byte order mark.

    Raises
    ------
    CorpusError
        The bytes are not in the encoding; the message has the first offset.

    >>> decode(b"caf\xe9", name="menu.txt", encoding="latin-1")
    'café'
    """
    try:
        return content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        msg = (
            f"{name} must be text in {encoding}, got byte 0x{content[error.start]:02x} "
            f"at offset {error.start} ({error.reason}): convert it, name its encoding, "
            'or read it as bytes with tokenizer="byte"'
        )
        raise CorpusError(msg) from error
    except (LookupError, ValueError) as error:
        msg = f"encoding must be one that Python knows, got {encoding!r}"
        raise ArgumentError(msg) from error


def _why_empty(text: str | bytes, tokenizer: Tokenizer) -> str:
    if not text:
        return "the text is empty"
    if getattr(tokenizer, "normalize", False):
        return "nothing but letters a-z survives normalising; use normalize=False"
    return "the tokenizer found none in it"
