"""Tokens with their documents and their proof, which can be cut."""

import functools
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from tokenloom.arrays import is_memory_map
from tokenloom.documents import DocumentOffsets, Offsets
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.hashing import WHOLE_BYTES, hash_json, hash_tokens
from tokenloom.identity import Identity, describe_identity
from tokenloom.integers import as_number, require_integers, require_type
from tokenloom.maps import Tokens, advise, confirm, pack, section
from tokenloom.tokenizers import Tokenizer
from tokenloom.vocab import Vocab
from tokenloom.wording import count, name_methods, show


class Origin(NamedTuple):
    """The tokens [start, start + len(corpus)) of a store's ``num_tokens``."""

    hash: str
    num_tokens: int
    start: int = 0
    path: str = ""


class Passage:
    """What a `tokenloom.Corpus` is, however it was made.

    Attributes
    ----------
    tokens : integer array, shape (num_tokens,)
        In memory, a memory map, or several that read like one array; slices
        give NumPy arrays.
    tokenizer : Tokenizer or None
    vocab : Vocab or None
        The tokenizer's vocabulary; bytes and foreign tokenizers have none.
    name : str
        Where the text came from, for people.
    """

    def __init__(
        self,
        tokens: Tokens,
        *,
        tokenizer: Tokenizer | None,
        vocab_size: int | None,
        name: str,
        documents: DocumentOffsets | None = None,
        origin: Origin | None = None,
        made_by: Mapping[str, Any] | None = None,
    ) -> None:
        self.tokens = tokens
        self.tokenizer = tokenizer
        self.name = name
        self._vocab_size = vocab_size
        self._documents = documents
        self._origin = origin
        # What is known of a tokenizer that is not at hand.
        self._made_by = made_by

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
    def whole_hash(self) -> str:
        """``"sha256:..."`` of all tokens in memory; `hash` for those that are not.

        So it sees what `hash` does not see in a long array. It takes about a
        second per gigabyte, when it is first asked for.
        """
        is_in_memory = isinstance(self.tokens, np.ndarray) and not is_memory_map(self.tokens)
        if not is_in_memory or self.tokens.nbytes <= WHOLE_BYTES:
            return self.hash
        return hash_tokens(self.tokens, is_whole=True)

    @functools.cached_property
    def hash(self) -> str:
        """``"sha256:..."`` of the tokens; see `tokenloom.hashing.hash_tokens`.

        Computed at the first use: whole up to 4 MiB. Beyond, sampled; but of a
        store it is its manifest's, which covers every byte.
        """
        if self._origin is not None and self.tokens.nbytes > WHOLE_BYTES:
            whole, num_tokens, start, _ = self._origin
            is_whole = len(self) == num_tokens
            return whole if is_whole else hash_json([whole, start, len(self)])
        confirm(self.tokens)
        advise(self.tokens, is_random=True)
        return hash_tokens(self.tokens)

    def check_files(self) -> None:
        """Check that the files which the corpus lies in are as they were when it was opened.

        Each iteration begins and each epoch ends with it, and pickling too.

        Raises
        ------
        StoreError
            One is gone, or was changed or replaced since; what differs is named.
        """
        confirm(self.tokens)
        if self._documents is not None:
            self._documents.check_file()

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        vocab_size = "?" if self._vocab_size is None else f"{self._vocab_size:,}"
        return f"Corpus({self.name!r}, {count(len(self), 'token')}, vocab_size={vocab_size})"

    def section(self, start: int, stop: int) -> Self:
        """Return the tokens [start, stop) as a corpus, without a copy.

        ``stop`` may lie past the end. The vocabulary stays that of the whole.

        Raises
        ------
        ArgumentError
            The section would hold no token.
        """
        require_integers(start=start, stop=stop)
        if not 0 <= start < min(stop, len(self)):
            msg = (
                f"a section must have 0 <= start < stop and start < {count(len(self), 'token')}, "
                f"got start={show(start)} and stop={show(stop)}"
            )
            raise ArgumentError(msg)
        stop = min(stop, len(self))
        documents, origin = self._documents, self._origin
        return type(self)(
            section(self.tokens, start, stop),
            tokenizer=self.tokenizer,
            vocab_size=self._vocab_size,
            name=self.name,
            documents=None if documents is None else documents.section(start, stop),
            origin=None if origin is None else origin._replace(start=origin.start + start),
            made_by=self._made_by,
        )

    def first(self, max_tokens: int | None) -> Self:
        """Return the first tokens as a corpus, or all of them where no number is given.

        Raises
        ------
        ArgumentError
            The number is below 1.
        """
        if max_tokens is None:
            return self
        require_integers(max_tokens=max_tokens)
        if max_tokens < 1:
            msg = f"max_tokens must be at least 1, or None for all, got {show(max_tokens)}"
            raise ArgumentError(msg)
        return self.section(0, max_tokens)

    def split(
        self, fraction: float, *, by: Literal["token", "document"] = "token"
    ) -> tuple[Self, Self]:
        """Return the first ``fraction`` of the tokens and the rest, without a copy.

        Parameters
        ----------
        fraction : float
            In (0, 1).
        by : "token" or "document"
            Whether to cut at that token, or where a document ends: the last
            one before it, else the first one after it. So no document is on
            both sides.

        Raises
        ------
        ArgumentError
            One of the parts would hold no token, or ``by`` is another word.
        CorpusError
            Nobody said where documents begin and end.

        >>> from tokenloom import Corpus
        >>> train, valid = Corpus.from_tokens(range(10)).split(0.8)
        >>> len(train), valid.tokens.tolist()
        (8, [8, 9])
        """
        require_type("by", by, str, "'token' or 'document'")
        if by not in ("token", "document"):
            msg = f"by must be 'token' or 'document', got {show(by)}"
            raise ArgumentError(msg)
        fraction = as_number("fraction", fraction)
        # 0.29 * 100 is a little less than 29.
        stop = int(len(self) * fraction + 1e-9) if 0 < fraction < 1 else 0
        if by == "document" and 0 < fraction < 1:
            stop = self._known_documents().boundary(stop)
        if not 0 < stop < len(self):
            msg = (
                f"fraction must leave tokens on both sides of {count(len(self), 'token')}, "
                f"got {fraction}"
            )
            raise ArgumentError(msg)
        return self.section(0, stop), self.section(stop, len(self))

    def hold_out(
        self, fraction: float, *, max_tokens: int | None = None
    ) -> tuple[Self, Self | None]:
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

        >>> from tokenloom import Corpus
        >>> corpus = Corpus.from_tokens(range(100))
        >>> [len(part) for part in corpus.hold_out(0.1, max_tokens=45)]
        [45, 5]
        """
        fraction = as_number("fraction", fraction)
        if max_tokens is not None:
            require_integers(max_tokens=max_tokens)
        if not 0 <= fraction < 1:
            msg = f"the held-out fraction must be in [0, 1), got {fraction}"
            raise ArgumentError(msg)
        stop, held_out_stop = round(len(self) * (1 - fraction)), len(self)
        if max_tokens is not None and max_tokens < stop:
            stop, held_out_stop = max_tokens, round(max_tokens / (1 - fraction))
        train = self.section(0, stop)
        # A single token has no successor that could be predicted.
        return train, self.section(stop, held_out_stop) if held_out_stop - stop > 1 else None

    def undivided(self) -> Self:
        """Return the same tokens as a corpus that knows no documents, without a copy."""
        whole = self.section(0, len(self))
        whole._documents = None  # noqa: SLF001  made here
        return whole

    @functools.cached_property
    def identity(self) -> Identity | None:
        """Which tokenizer made the ids, or None where that is not known."""
        if self.tokenizer is not None:
            return Identity.of(self.tokenizer)
        return Identity.read(self.describe_identity(), vocab_size=self._vocab_size)

    def describe_identity(self) -> dict[str, Any]:
        """Return what makes the tokenizer again, or tells one of another package apart."""
        if self.tokenizer is None and self._made_by is not None:
            return dict(self._made_by)
        return describe_identity(self.tokenizer)

    @property
    def origin(self) -> Origin | None:
        """Which tokens of a store these are, or None where they came from elsewhere."""
        return self._origin

    def num_shared(self, other: "Passage") -> int:
        """Return how many tokens of the same store two corpora share.

        >>> from tokenloom import Corpus
        >>> Corpus.from_tokens(range(9)).num_shared(Corpus.from_tokens(range(9)))
        0
        """
        mine, its = self.origin, other.origin
        if mine is None or its is None or mine.hash != its.hash:
            return 0
        stop = min(mine.start + len(self), its.start + len(other))
        return max(0, stop - max(mine.start, its.start))

    @property
    def documents(self) -> Offsets | None:
        """Offsets of the documents: int64 array, shape (num_documents + 1,), or None."""
        return None if self._documents is None else self._documents.offsets()

    @property
    def boundaries(self) -> DocumentOffsets | None:
        """What finds the documents of a range of tokens, however many there are, or None."""
        return self._documents

    @property
    def num_documents(self) -> int:
        """Number of documents; those at the ends of a section may be cut.

        Raises
        ------
        CorpusError
            Nobody said where documents begin and end.
        """
        return len(self._known_documents())

    def document(self, index: int) -> Self:
        """Return a document as a corpus, without a copy.

        Raises
        ------
        ArgumentError
            There is no such document, or it holds no token.
        CorpusError
            Nobody said where documents begin and end.

        >>> from tokenloom import Corpus
        >>> Corpus.from_tokens([5, 6, 7], documents=[0, 1, 3]).document(1).tokens.tolist()
        [6, 7]
        """
        require_integers(index=index)
        start, stop = self._known_documents().bounds(index)
        if start == stop:
            msg = f"a document must hold a token to be a corpus, document {index} has no tokens"
            raise ArgumentError(msg)
        document = self.section(start, stop)
        # Without the empty ones before it.
        document._documents = DocumentOffsets(np.array([0, len(document)]))  # noqa: SLF001  made here
        return document

    def _known_documents(self) -> DocumentOffsets:
        if self._documents is None:
            msg = f"{self.name} has no documents: pass documents=... to Corpus.from_tokens"
            raise CorpusError(msg)
        return self._documents

    def __getstate__(self) -> dict[str, Any]:
        make_tokens, arguments = pack(self.tokens)
        return {**self.__dict__, "tokens": (make_tokens, arguments)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        make_tokens, arguments = state["tokens"]
        self.__dict__.update(state, tokens=make_tokens(*arguments))


# Nobody can import a Passage from tokenloom.
name_methods(Passage, "Corpus")
