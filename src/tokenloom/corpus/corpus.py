"""A text as one array of token ids, with what is needed to read it again."""

import contextlib
import functools
import importlib
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenloom._checks import (
    as_flag,
    as_integer,
    as_integers,
    as_number,
    require_type,
    to_integer,
)
from tokenloom._io.digest import NUM_BLOCKS, WHOLE_BYTES, hash_json, hash_tokens
from tokenloom._optional import panics_as_errors
from tokenloom._wording import as_html, count, show
from tokenloom.corpus.document_lengths import DocumentsByLength
from tokenloom.corpus.loss_mask import as_loss_mask
from tokenloom.corpus.offsets import DocumentOffsets, as_offsets
from tokenloom.errors import (
    AbsentFromCorpusError,
    ArgumentError,
    CorpusError,
    StoreError,
    TokenloomError,
)
from tokenloom.store.manifest import Source
from tokenloom.store.memmap import (
    Repeated,
    Tokens,
    advise,
    check_reads,
    close,
    concatenate,
    confirm,
    pack,
    slice_tokens,
)
from tokenloom.store.reader import (
    StoredTokenizer,
    find_stored_tokenizer,
    open_store,
    read_store,
)
from tokenloom.store.verify import check_store
from tokenloom.store.writer import SHARD_TOKENS, save_store
from tokenloom.text.documents import Document
from tokenloom.text.encode import encode, encode_documents, report_unknown
from tokenloom.text.identity import Identity, describe_identity
from tokenloom.text.ids import MASK_LIMIT, Offsets, as_ids, is_memory_map
from tokenloom.text.interface import Tokenizer, vocab_of
from tokenloom.text.normalize import report_lost, why_empty
from tokenloom.text.tokenizers import (
    complete,
    is_counted,
    take_tokenizer,
    tokenizer_for,
)
from tokenloom.text.vocab import Vocab

# The least number of blocks of each part that the hash of a concatenation reads.
_MIN_BLOCKS = 16
# Tokens that a notebook shows.
_NUM_SHOWN = 100


class Origin(NamedTuple):
    """The tokens [start, start + len(corpus)) of a store's ``num_tokens``."""

    hash: str
    num_tokens: int
    start: int = 0
    path: str = ""
    # Of its loss mask, where it has one.
    mask_hash: str = ""


class Corpus:
    """Token ids in one array, and the tokenizer or vocabulary that made them.

    Make one with `Corpus.from_text`, `Corpus.from_documents`,
    `Corpus.from_tokens`, `Corpus.open`, `Corpus.concatenate` or
    `tokenloom.load`. A corpus does not change after it was made.

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

    @staticmethod
    def from_text(  # noqa: PLR0913  each is a setting of its own
        text: str | bytes,
        *,
        tokenizer: object = "char",
        vocab_size: int | None = None,
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
        tokenizer : str, path, Vocab, Tokenizer, or an object of another package
            "char", "word" or "byte"; "bpe", which learns a byte-level BPE of
            whole documents; "tiktoken:NAME"; the path of a
            ``tokenizer.json``, a ``*.tiktoken``, a ``*.model``, or a
            ``vocab.json`` of tokenloom; or the folder of a store, whose
            tokenizer is meant. Objects may be of the packages
            tokenizers, tiktoken and sentencepiece, or fast ones of
            transformers: the corpus keeps them by value, and takes special
            tokens that are written out in a text for ordinary text.
        vocab_size : int, optional
            The most ids that there may be, of a tokenizer that learns them:
            "char" and "word" keep the most frequent tokens, of equally frequent
            ones those that appear first, and the others become the unknown token.
            Ids of the unknown token and of reserved ones count.
            For "bpe" it is 16,384 by default.
        normalize : bool
            Whether "char" and "word" begin with the textbook's normalisation:
            letters a-z and single spaces only, no line ends. False takes the
            text as it is.
        min_freq : int
            Rarer tokens become the unknown token, id 0 ("char" and "word").
        reserved_tokens : iterable of str
            Tokens that get the ids from 1 on ("char" and "word"), or are special
            tokens beside the end of a document ("bpe").
        max_tokens : int, optional
            The most tokens that are kept; the vocabulary still counts all of them.
        name : str
            Where the text came from, for messages.

        Raises
        ------
        ArgumentError
            The tokenizer is unknown, or ``max_tokens`` is below 1.
        CorpusError
            Bytes are no UTF-8 (the message has the offset), the text holds no
            token, or the tokenizer refuses it; or the tokenizer's file holds
            something else.
        DownloadError
            The encoding of "tiktoken:NAME" cannot be downloaded.
        UsageError
            The package that the tokenizer needs is not installed.

        >>> corpus = Corpus.from_text("Time flies")
        >>> corpus.tokens.tolist(), corpus.vocab.to_tokens([1, 2])
        ([3, 1, 4, 2, 5, 6, 7, 1, 2, 8], ['i', 'e'])
        """
        tokens, made = encode(
            text,
            tokenizer=find_stored_tokenizer(tokenizer),
            vocab_size=vocab_size,
            normalize=normalize,
            min_freq=min_freq,
            reserved_tokens=reserved_tokens,
            name=name,
        )
        size = complete(made).vocab_size
        corpus = Corpus(tokens, tokenizer=made, vocab_size=size, name=name)
        return corpus.first(max_tokens)

    @staticmethod
    def from_documents(  # noqa: PLR0913  each is a setting of its own
        texts: Iterable[str | Document],
        *,
        tokenizer: object = "char",
        vocab_size: int | None = None,
        normalize: bool = True,
        min_freq: int = 0,
        reserved_tokens: Iterable[str] = (),
        max_tokens: int | None = None,
        name: str = "documents",
    ) -> "Corpus":
        """Tokenise documents in memory, each by itself, and number their tokens.

        Nothing stands between them; the vocabulary counts all of them. Texts
        that do not fit into memory are for `tokenloom.prepare`.

        Parameters
        ----------
        texts : iterable of str or Document
            A prompt of a `tokenloom.Document` stands before its text, and is not
            learnt: where there is one the corpus has a loss mask. Both are encoded
            each by itself.
        tokenizer, vocab_size, normalize, min_freq, reserved_tokens, max_tokens, name
            See `from_text`.

        Raises
        ------
        ArgumentError
            The tokenizer is unknown, a document is neither a str nor a Document,
            or ``max_tokens`` is below 1.
        CorpusError
            There is no token in any of them; or see `from_text`.
        DownloadError, UsageError
            See `from_text`.

        >>> corpus = Corpus.from_documents(["To be", "or not"], tokenizer="word")
        >>> corpus.num_documents, corpus.decode(corpus.document(1).tokens)
        (2, 'or not')
        """
        ids, offsets, made, lost, learnt = encode_documents(
            texts,
            tokenizer=find_stored_tokenizer(tokenizer),
            vocab_size=vocab_size,
            normalize=normalize,
            min_freq=min_freq,
            reserved_tokens=reserved_tokens,
        )
        is_learned = is_counted(tokenizer)
        if not len(ids):
            where = count(len(offsets) - 1, "document")
            why = why_empty(lost, is_learned=is_learned)
            msg = f"{name} must hold at least one token, got none in {where}: {why}"
            raise CorpusError(msg)
        report_lost(lost, name=name, is_learned=is_learned)
        known = complete(made)
        if not is_learned:
            report_unknown(ids, known, name=name)
        corpus = Corpus(
            ids,
            tokenizer=made,
            vocab_size=known.vocab_size,
            name=name,
            documents=DocumentOffsets(offsets),
            loss_mask=learnt,
        )
        return corpus.first(max_tokens)

    @staticmethod
    def from_tokens(
        tokens: npt.ArrayLike,
        *,
        vocab: Vocab | None = None,
        vocab_size: int | None = None,
        documents: npt.ArrayLike | None = None,
        loss_mask: npt.ArrayLike | None = None,
        name: str = "tokens",
    ) -> "Corpus":
        """Wrap token ids that exist already.

        Parameters
        ----------
        tokens : array_like of int, shape (num_tokens,)
            A memory map or an unsigned array is used as it is, without a
            copy. A memory map is not searched for ids out of range: whatever
            batches read of it is checked then, and raises a `StoreError`.
        vocab : Vocab, optional
            Characters, or words, of the ids.
        vocab_size : int, optional
            Ids are in [0, vocab_size). By default the length of ``vocab``, else
            one more than the largest id; of a memory map, unknown.
        documents : array_like of int, shape (num_documents + 1,), optional
            Document i is the tokens [documents[i], documents[i + 1]).
        loss_mask : array_like of bool or int, shape (num_tokens,), optional
            1 where a token is learnt, 0 where it is only read: as a target it is -100.
            A memory map and an array of bool or uint8 are used without a copy.
        name : str
            Where the tokens came from, for messages.

        Raises
        ------
        ArgumentError
            ``vocab_size`` differs from the length of ``vocab``.
        CorpusError
            The ids are none at all, not one-dimensional, no integers or out
            of range; the documents do not go from 0 to the number of tokens; or the loss
            mask has another length, or other values than 0 and 1.

        >>> Corpus.from_tokens([3, 1, 2]).tokens.dtype
        dtype('uint8')
        """
        require_type("vocab", vocab, Vocab | None, "a Vocab or None")
        if vocab is not None and vocab_size not in (None, len(vocab)):
            msg = (
                f"vocab_size must be len(vocab)={len(vocab)} or be left out, got {show(vocab_size)}"
            )
            raise ArgumentError(msg)
        num_ids = vocab_size if vocab is None else len(vocab)
        if num_ids is not None:
            num_ids = as_integer("vocab_size", num_ids, start=1)
        ids = as_ids(tokens, num_ids=num_ids)
        if not len(ids):
            msg = f"{name} must hold at least one token, got none"
            raise CorpusError(msg)
        if is_memory_map(ids):
            ids = check_reads(ids, num_ids=num_ids)
        elif num_ids is None:
            num_ids = int(ids.max()) + 1
        tokenizer = None if vocab is None else tokenizer_for(vocab)
        return Corpus(
            ids,
            tokenizer=tokenizer,
            vocab_size=num_ids,
            name=name,
            documents=None
            if documents is None
            else DocumentOffsets(as_offsets(documents, num_tokens=len(ids))),
            loss_mask=None if loss_mask is None else as_loss_mask(loss_mask, num_tokens=len(ids)),
        )

    @staticmethod
    def open(
        path: str | os.PathLike[str],
        *,
        split: str | None = None,
        tokenizer: object = None,
        verify: bool = False,
    ) -> "Corpus":
        """Open a store without reading its tokens, however many there are.

        Its files have the right sizes, and whatever is read of them later has
        ids below the vocabulary size. Its tokenizer is read, and its hash compared,
        when it is first asked for: `vocab`, `tokenizer`, `decode` and `identity`
        raise a `StoreError` if it is damaged.

        Parameters
        ----------
        path : str or path
            The folder of a store, which `save` made.
        split : str, optional
            Only the tokens that the store keeps under this name.
        tokenizer : optional
            What made the ids, where that came from elsewhere: see `from_text`,
            but for names of what learns its ids. It is compared with what the
            store knows of it.
        verify : bool
            Whether to read every byte and compare its hash.

        Raises
        ------
        ArgumentError
            There is no such split, or another tokenizer made the ids.
        StoreError
            There is no store, or one of its files is missing or damaged.
        """
        as_flag("verify", verify)
        given = None if tokenizer is None else take_tokenizer(find_stored_tokenizer(tokenizer))
        if verify:
            check_store(path)
        store = open_store(path)
        if given is not None:
            whose = f"the store {str(store.name)!r}"
            size = store.manifest.vocab_size
            _check_tokenizer(given.given, store.identity(), vocab_size=size, whose=whose)
        manifest, offsets = store.manifest, store.documents()
        corpus = Corpus(
            store.tokens(),
            tokenizer=StoredTokenizer(store) if given is None else given.given,
            vocab_size=manifest.vocab_size,
            name=os.fspath(path),
            documents=None if offsets is None else DocumentOffsets(offsets),
            origin=Origin(
                manifest.hash,
                manifest.num_tokens,
                path=str(store.path),
                mask_hash=manifest.mask_hash,
            ),
            made_by=store.describe_identity(),
            loss_mask=store.loss_mask(),
            end_id=manifest.end_id,
        )
        return corpus if split is None else corpus.slice(*store.bounds(split))

    @staticmethod
    def concatenate(corpora: Iterable["Corpus"], *, name: str | None = None) -> "Corpus":
        """Return several corpora as one, each after the other, without copying their tokens.

        They may lie in stores, memory maps, files of other projects or memory,
        at any mix, and have ids of different widths. What was joined before is
        taken apart: to join two and then a third is to join all three.

        Parameters
        ----------
        corpora : iterable of Corpus
            At least one, all with ids of the same tokenizer, as far as that is known.
        name : str, optional
            What messages call it; by default the names of its parts.

        Returns
        -------
        Corpus
            With the documents of all parts, whose offsets stay where they are; a
            part without offsets is one document, unless no part has any. With
            the first tokenizer that a part has. Its hash is made of those of
            its parts, in their order. Of a part without a loss mask all tokens are learnt.

        Raises
        ------
        ArgumentError
            There is no corpus, or two have ids of different tokenizers.

        >>> first, second = Corpus.from_tokens([1, 2]), Corpus.from_tokens([700])
        >>> Corpus.concatenate([first, second]).tokens[:].tolist()
        [1, 2, 700]
        """
        given = _as_corpora(corpora)
        known = _check_same_ids(given)
        parts = [part.closed() for corpus in given for part in corpus.parts or (corpus,)]
        size = None if known is None else known.vocab_size
        if size is None:
            size = _largest([part._vocab_size for part in parts])  # noqa: SLF001  it may be unknown
        joined = Corpus(
            concatenate([part.tokens for part in parts], num_ids=size),
            tokenizer=next((part.tokenizer for part in parts if part.tokenizer is not None), None),
            vocab_size=size,
            name=name or _join_names([part.name for part in parts]),
            documents=_join_documents(parts),
            made_by=next((part._made_by for part in parts if part.identity is not None), None),  # noqa: SLF001
            loss_mask=_join_masks(parts),
            end_id=parts[0].end_id if len({part.end_id for part in parts}) == 1 else None,
        )
        joined._parts = tuple(parts)
        return joined

    def __init__(  # noqa: PLR0913  what it is made of
        self,
        tokens: Tokens,
        *,
        tokenizer: Tokenizer | StoredTokenizer | None,
        vocab_size: int | None,
        name: str,
        documents: DocumentOffsets | None = None,
        origin: Origin | None = None,
        made_by: Mapping[str, Any] | None = None,
        loss_mask: Tokens | None = None,
        end_id: int | None = None,
    ) -> None:
        self.tokens = tokens
        self._tokenizer = tokenizer
        self.name = name
        self._vocab_size = vocab_size
        self._documents = documents
        self._origin = origin
        # What is known of a tokenizer that is not at hand.
        self._made_by = made_by
        self._loss_mask = loss_mask
        self._end_id = end_id
        self._parts: tuple[Corpus, ...] = ()

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        splits: Mapping[str, tuple[int, int]] | None = None,
        shard_tokens: int = SHARD_TOKENS,
    ) -> Path:
        """Write the corpus to a new or empty folder, whole or not at all.

        A tokenizer of tokenloom, tokenizers, tiktoken or sentencepiece is written
        too. One of your own is not: pass it to `open` again.

        Parameters
        ----------
        path : str or path
        splits : mapping of str to (int, int), optional
            Half-open ranges of tokens to be opened by name.
        shard_tokens : int
            Tokens per file.

        Raises
        ------
        ArgumentError
            No folder can have that path.
        CorpusError
            An id of a memory map is not below the vocabulary size.
        StoreError
            There is something in the folder, it cannot be written, or a split
            lies outside of the corpus.
        """
        return save_store(
            path,
            tokens=self.tokens,
            vocab_size=self._vocab_size,
            tokenizer=self.tokenizer,
            made_by=self.describe_identity(),
            offsets=self.documents,
            splits={} if splits is None else splits,
            shard_tokens=shard_tokens,
            sources=self._list_sources(),
            loss_mask=self._loss_mask,
            end_id=self._end_id,
        )

    def _list_sources(self) -> list[Source]:
        """Return where the documents came from: the sources of stores, and other parts by name."""
        if self._documents is None:
            return []
        sources: list[Source] = []
        for part in self._parts or (self,):
            origin = part._origin  # noqa: SLF001  a part is a corpus
            kept: Sequence[Source] = ()
            # Sources are kept only for a whole store: a slice would need its documents counted by
            # source.
            if origin is not None and len(part) == origin.num_tokens:
                # The store may have been removed meanwhile.
                with contextlib.suppress(StoreError):
                    kept = read_store(origin.path).manifest.sources
            if not kept and self._parts:
                number = 1 if part.document_offsets is None else part.num_documents
                kept = [Source(name=part.name, num_documents=number)]
            sources += kept
        return sources

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        vocab_size = "?" if self._vocab_size is None else f"{self._vocab_size:,}"
        return f"Corpus({self.name!r}, {count(len(self), 'token')}, vocab_size={vocab_size})"

    def _repr_html_(self) -> str:
        size = "not known" if self._vocab_size is None else f"{self._vocab_size:,}"
        documents = None if self.document_offsets is None else len(self.document_offsets)
        facts = [
            ("tokens", f"{len(self):,}"),
            ("vocabulary", size),
            ("tokenizer", _show_or_reason(lambda: self.identity or "not known")),
            ("documents", "not known" if documents is None else f"{documents:,}"),
            ("begins with", _show_or_reason(self._show_beginning)),
        ]
        return as_html(f"Corpus {self.name}", facts)

    def _show_beginning(self) -> str:
        text = self.decode(self.tokens[:_NUM_SHOWN])
        return text + " ..." * (len(self) > _NUM_SHOWN)

    # "or Any" in place of "or None": who made the corpus knows whether there is one, and a type
    # checker need not be told.
    @property
    def tokenizer(self) -> Tokenizer | Any:
        """The tokenizer that made the ids, or None where it is not at hand."""
        given = self._tokenizer
        return given.value if isinstance(given, StoredTokenizer) else given

    @property
    def vocab(self) -> Vocab | Any:
        """The vocabulary of the ids, or None where there is none."""
        vocab = vocab_of(self.tokenizer)
        return vocab if isinstance(vocab, Vocab) else None

    @property
    def vocab_size(self) -> int:
        """Number of different ids: each is in [0, vocab_size).

        Raises
        ------
        AbsentFromCorpusError
            The tokens are a memory map whose number of ids was not given; to look
            for the largest one would read it all.
        """
        if self._vocab_size is None:
            msg = (
                f"the vocabulary size of {self.name}, a memory map, is not known: "
                "pass vocab_size=... to Corpus.from_tokens"
            )
            raise AbsentFromCorpusError(msg, name="vocab_size")
        return self._vocab_size

    def decode(self, ids: Any) -> str:
        """Return the text of ids, or the ids themselves where nothing decodes them.

        Parameters
        ----------
        ids : one-dimensional list, array or tensor of int

        Raises
        ------
        ArgumentError
            They are something else.
        """
        numbers = _as_numbers(ids)
        if self.tokenizer is None:
            return " ".join(map(str, numbers))
        with panics_as_errors():
            return self.tokenizer.decode(numbers)

    def slice(self, start: int, stop: int) -> "Corpus":
        """Return the tokens [start, stop) as a corpus, without a copy.

        ``stop`` may lie past the end. The vocabulary stays that of the whole.

        Raises
        ------
        ArgumentError
            The slice would hold no token.
        """
        # Sums of NumPy's narrow integers would wrap around.
        start, stop = as_integers(start=start, stop=stop)
        if not 0 <= start < min(stop, len(self)):
            msg = (
                f"a slice must have 0 <= start < stop and start < {count(len(self), 'token')}, "
                f"got start={show(start)} and stop={show(stop)}"
            )
            raise ArgumentError(msg)
        stop = min(stop, len(self))
        documents, origin, mask = self._documents, self._origin, self._loss_mask
        parts = tuple(
            part.slice(max(start - first, 0), stop - first)
            for first, part in self._placed_parts()
            if start < first + len(part) and first < stop
        )
        if mask is not None:
            mask = _join_masks(parts) if parts else slice_tokens(mask, start, stop)
        sliced = Corpus(
            slice_tokens(self.tokens, start, stop),
            tokenizer=self._tokenizer,
            vocab_size=self._vocab_size,
            name=self.name,
            documents=None if documents is None else documents.slice(start, stop),
            origin=None if origin is None else origin._replace(start=origin.start + start),
            made_by=self._made_by,
            loss_mask=mask,
            end_id=self._end_id,
        )
        sliced._parts = parts
        return sliced

    def first(self, max_tokens: int | None) -> "Corpus":
        """Return the first tokens as a corpus, or all of them where no number is given.

        Raises
        ------
        ArgumentError
            The number is below 1.
        """
        if max_tokens is None:
            return self
        (max_tokens,) = as_integers(max_tokens=max_tokens)
        if max_tokens < 1:
            msg = f"max_tokens must be at least 1, or None for all, got {show(max_tokens)}"
            raise ArgumentError(msg)
        return self.slice(0, max_tokens)

    def split(
        self, fraction: float, *, by: Literal["token", "document"] = "token"
    ) -> tuple["Corpus", "Corpus"]:
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
            The corpus has no document offsets.

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
        return self.slice(0, stop), self.slice(stop, len(self))

    def hold_out(
        self, fraction: float, *, max_tokens: int | None = None
    ) -> tuple["Corpus", "Corpus | None"]:
        """Return a training corpus and the held-out text right after it.

        Parameters
        ----------
        fraction : float
            Of the tokens that are used, how many are held out, in [0, 1).
        max_tokens : int, optional
            The most tokens to train on. The held-out text then follows
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
            (max_tokens,) = as_integers(max_tokens=max_tokens)
        if not 0 <= fraction < 1:
            msg = f"the held-out fraction must be in [0, 1), got {fraction}"
            raise ArgumentError(msg)
        stop, held_out_stop = round(len(self) * (1 - fraction)), len(self)
        if max_tokens is not None and max_tokens < stop:
            stop, held_out_stop = max_tokens, round(max_tokens / (1 - fraction))
        train = self.slice(0, stop)
        # A single token has no successor that could be predicted.
        return train, self.slice(stop, held_out_stop) if held_out_stop - stop > 1 else None

    def undivided(self) -> "Corpus":
        """Return the same tokens as a corpus that knows no documents, without a copy."""
        whole = self.slice(0, len(self))
        whole._documents = None  # noqa: SLF001  made here
        whole._parts = tuple(part.undivided() for part in self._parts)  # noqa: SLF001
        return whole

    @property
    def parts(self) -> tuple["Corpus", ...]:
        """The corpora that this one was concatenated of, as far as it reaches; else none.

        >>> from tokenloom import Corpus
        >>> first, second = Corpus.from_tokens([1, 2]), Corpus.from_tokens([3, 4])
        >>> [len(part) for part in Corpus.concatenate([first, second]).slice(1, 4).parts]
        [1, 2]
        """
        return self._parts

    def find_part(self, token: int) -> tuple["Corpus", int]:
        """Return the part that a token lies in, and its number there.

        Parameters
        ----------
        token : int
            In [0, len(corpus)).
        """
        for first, part in self._placed_parts():
            if first <= token < first + len(part):
                return part, token - first
        return self, token

    def _placed_parts(self) -> Iterable[tuple[int, "Corpus"]]:
        first = 0
        for part in self._parts:
            yield first, part
            first += len(part)

    @property
    def documents(self) -> Offsets | Any:
        """Offsets of the documents: int64 array, shape (num_documents + 1,), or None."""
        return None if self._documents is None else self._documents.offsets()

    @property
    def document_offsets(self) -> DocumentOffsets | None:
        """What finds the documents of a range of tokens, however many there are, or None."""
        return self._documents

    @functools.cached_property
    def documents_by_length(self) -> DocumentsByLength:
        """The documents, sorted by their lengths at the first use.

        Of a store with many documents the result is kept in its folder, in a file of
        its own, where that can be written to.

        Raises
        ------
        AbsentFromCorpusError
            The corpus has no document offsets.
        """
        documents, origin = self._known_documents(), self._origin
        if origin is None or not origin.path:
            return DocumentsByLength.of(documents)
        proof = (origin.hash, origin.start)
        return DocumentsByLength.of(documents, folder=Path(origin.path), proof=proof)

    @property
    def loss_mask(self) -> Tokens | None:
        """Which tokens are learnt: uint8 array, shape (num_tokens,), of 0 and 1.

        None where all are. It reads as ``tokens`` does.

        >>> from tokenloom import Corpus
        >>> Corpus.from_tokens([5, 6, 7], loss_mask=[False, True, True]).slice(0, 2).loss_mask
        array([0, 1], dtype=uint8)
        """
        return self._loss_mask

    @property
    def end_id(self) -> int | None:
        """The id that `tokenloom.prepare` put after each document, or None where it put none.

        A concatenation has one if all its parts have the same.
        """
        return self._end_id

    @property
    def num_documents(self) -> int:
        """Number of documents; those at the ends of a slice may be cut.

        Raises
        ------
        AbsentFromCorpusError
            The corpus has no document offsets.
        """
        return len(self._known_documents())

    def document(self, index: int) -> "Corpus":
        """Return a document as a corpus, without a copy.

        Raises
        ------
        ArgumentError
            There is no such document, or it holds no token.
        CorpusError
            The corpus has no document offsets.

        >>> from tokenloom import Corpus
        >>> Corpus.from_tokens([5, 6, 7], documents=[0, 1, 3]).document(1).tokens.tolist()
        [6, 7]
        """
        (index,) = as_integers(index=index)
        start, stop = self._known_documents().bounds(index)
        if start == stop:
            msg = f"a document must hold a token to be a corpus, document {index} has no tokens"
            raise ArgumentError(msg)
        document = self.slice(start, stop)
        # A search would also find the empty documents before it.
        document._documents = DocumentOffsets(np.array([0, len(document)], np.int64))  # noqa: SLF001
        return document

    def _known_documents(self) -> DocumentOffsets:
        if self._documents is None:
            msg = f"{self.name} has no documents: pass documents=... to Corpus.from_tokens"
            raise AbsentFromCorpusError(msg, name="documents")
        return self._documents

    @functools.cached_property
    def identity(self) -> Identity | None:
        """Which tokenizer made the ids, or None where that is not known."""
        if self.tokenizer is not None:
            return Identity.of(self.tokenizer)
        return Identity.read(self.describe_identity(), vocab_size=self._vocab_size)

    def describe_identity(self) -> dict[str, Any]:
        """Return what makes the tokenizer again, or identifies one of another package."""
        if self.tokenizer is not None:
            return describe_identity(complete(self.tokenizer))
        return {"name": None, "type": "NoneType"} if self._made_by is None else dict(self._made_by)

    @functools.cached_property
    def hash(self) -> str:
        """``"sha256:..."`` of the tokens; see `tokenloom._io.digest.hash_tokens`.

        Computed at the first use: whole up to 4 MiB. Beyond, sampled; but of a
        store it is its manifest's, which covers every byte, and of a
        concatenation it is made of those of its parts. With a loss mask it is
        made of that hash and the same of the mask.
        """
        return self._hash(NUM_BLOCKS)

    @functools.cached_property
    def whole_hash(self) -> str:
        """``"sha256:..."`` of all tokens in memory; `hash` for those that are not.

        So it sees what `hash` does not see in a long array. It takes about a
        second per gigabyte, when it is first asked for.
        """
        return self._hash(NUM_BLOCKS, reads_memory=True)

    def _hash(self, num_blocks: int, *, reads_memory: bool = False) -> str:
        """Return the hash of the tokens.

        Parameters
        ----------
        num_blocks : int
            How many blocks of a file are looked at, where it is sampled.
        reads_memory : bool
            Whether all tokens in memory are looked at.
        """
        if self._parts and self.tokens.nbytes > WHOLE_BYTES:
            # All parts share the blocks of one file: there may be a thousand files.
            share = max(_MIN_BLOCKS, num_blocks // len(self._parts))
            hashes = [part._hash(share, reads_memory=reads_memory) for part in self._parts]  # noqa: SLF001
            return hashes[0] if len(hashes) == 1 else hash_json(["parts", *hashes])

        def hash_array(array: Tokens, known: str) -> str:
            if known and array.nbytes > WHOLE_BYTES:
                return known
            confirm(array)
            advise(array, is_random=True)
            is_in_memory = isinstance(array, np.ndarray) and not is_memory_map(array)
            is_whole = reads_memory and is_in_memory
            return hash_tokens(array, is_whole=is_whole, num_blocks=num_blocks)

        tokens = hash_array(self.tokens, self._hash_of_origin("hash"))
        if self._loss_mask is None:
            return tokens
        mask = hash_array(self._loss_mask, self._hash_of_origin("mask_hash"))
        return hash_json({"tokens": tokens, "loss_mask": mask})

    def _hash_of_origin(self, field: Literal["hash", "mask_hash"]) -> str:
        """Return what follows from a hash of the store these tokens are of; empty if of none."""
        if self._origin is None:
            return ""
        whole: str = getattr(self._origin, field)
        if len(self) == self._origin.num_tokens:
            return whole
        return hash_json([whole, self._origin.start, len(self)])

    @property
    def origin(self) -> Origin | None:
        """Which tokens of a store these are, or None where they came from elsewhere."""
        return self._origin

    def num_shared(self, other: "Corpus") -> int:
        """Return how many tokens of the same store two corpora share.

        >>> from tokenloom import Corpus
        >>> Corpus.from_tokens(range(9)).num_shared(Corpus.from_tokens(range(9)))
        0
        """
        if self._parts:
            return sum(part.num_shared(other) for part in self._parts)
        if other.parts:
            return other.num_shared(self)
        mine, its = self.origin, other.origin
        if mine is None or its is None or mine.hash != its.hash:
            return 0
        stop = min(mine.start + len(self), its.start + len(other))
        return max(0, stop - max(mine.start, its.start))

    def check_files(self) -> None:
        """Check that the files which the corpus lies in are as they were when it was opened.

        Each iteration begins and each epoch ends with it, and pickling too.

        Raises
        ------
        StoreError
            One is gone, or was changed or replaced since; what differs is named.
        """
        confirm(self.tokens)
        if self._loss_mask is not None:
            confirm(self._loss_mask)
        if self._documents is not None:
            self._documents.check_file()

    def section(self, start: int, stop: int) -> "Corpus":
        """Return the tokens [start, stop) as a corpus; deprecated: call `slice`."""
        msg = "Corpus.section is deprecated: call Corpus.slice(start, stop) instead"
        warnings.warn(msg, DeprecationWarning, stacklevel=2)
        return self.slice(start, stop)

    @property
    def boundaries(self) -> DocumentOffsets | None:
        """What finds the documents of a range of tokens; deprecated: use `document_offsets`."""
        msg = "Corpus.boundaries is deprecated: use Corpus.document_offsets instead"
        warnings.warn(msg, DeprecationWarning, stacklevel=2)
        return self.document_offsets

    def trace(self, token: int) -> Any:
        """Return where a token came from; deprecated: call `tokenloom.trace`.

        Parameters
        ----------
        token : int
            In [0, len(corpus)).
        """
        msg = "Corpus.trace is deprecated: call tokenloom.trace(corpus, token) instead"
        warnings.warn(msg, DeprecationWarning, stacklevel=2)
        # Tracing reads sources, and stands above the corpus: it is imported where it is asked for.
        return importlib.import_module("tokenloom.preparation.trace").trace(self, token)

    def with_name(self, name: str) -> "Corpus":
        """Return the same corpus under another name, without a copy."""
        return self._replace(name=name)

    def with_tokenizer(self, tokenizer: object) -> "Corpus":
        """Return the same tokens with the tokenizer that made them, without a copy.

        Parameters
        ----------
        tokenizer : str, path, Vocab, Tokenizer, or an object of another package
            See `open`.

        Raises
        ------
        ArgumentError
            It has another number of ids, or it is known that another one made the tokens.
        CorpusError
            The number of ids of the corpus is not known.

        >>> from tokenloom import Corpus, Vocab
        >>> corpus = Corpus.from_tokens([0, 1, 2]).with_tokenizer(Vocab(["a", "b"]))
        >>> corpus.decode(corpus.tokens[1:])
        'ab'
        """
        given = take_tokenizer(find_stored_tokenizer(tokenizer)).given
        _check_tokenizer(given, self.identity, vocab_size=self.vocab_size, whose=self.name)
        known = Identity.of(given)
        parts = [part._replace(_tokenizer=given, identity=known) for part in self._parts]
        return self._replace(_tokenizer=given, identity=known, _parts=tuple(parts))

    def closed(self) -> "Corpus":
        """Return the same corpus with its file closed, and opened again when it is read.

        So that many corpora need not have as many open files.
        """
        mask = None if self._loss_mask is None else close(self._loss_mask)
        return self._replace(tokens=close(self.tokens), _loss_mask=mask)

    def _replace(self, **values: object) -> "Corpus":
        """Return a copy with other values, and with the proofs that were computed of this one."""
        changed = object.__new__(Corpus)
        changed.__dict__.update(self.__dict__, **values)
        return changed

    def __getstate__(self) -> dict[str, Any]:
        if self._parts:
            # The pickled parts hold the tokens and masks.
            return {**self.__dict__, "tokens": None, "_loss_mask": None}
        mask = None if self._loss_mask is None else pack(self._loss_mask)
        return {**self.__dict__, "tokens": pack(self.tokens), "_loss_mask": mask}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Corpora that were pickled before there was an `end_id` have none.
        self.__dict__.update({"_end_id": None} | state)
        # Older releases pickled the tokenizer itself, under this name.
        if "tokenizer" in state:
            self._tokenizer = self.__dict__.pop("tokenizer")
        if self._parts:
            parts = [part.tokens for part in self._parts]
            self.tokens = concatenate(parts, num_ids=self._vocab_size)
            self._loss_mask = _join_masks(self._parts)
            return
        make_tokens, arguments = state["tokens"]
        self.tokens = make_tokens(*arguments)
        # Corpora that were pickled before there were masks have none.
        self._loss_mask = None
        if state.get("_loss_mask") is not None:
            make_mask, arguments = state["_loss_mask"]
            self._loss_mask = make_mask(*arguments)


def _show_or_reason(find: Callable[[], object]) -> str:
    """Return what is shown, or in parentheses why it cannot be read."""
    try:
        return str(find())
    except (TokenloomError, OSError) as error:
        return f"({error})"


def _as_corpora(corpora: object) -> list[Corpus]:
    expected = "corpora must be a list of at least one Corpus"
    if not isinstance(corpora, Iterable):
        msg = f"{expected}, got {show(corpora)}"
        raise ArgumentError(msg)
    given = list(corpora)
    wrong = [f"{show(each)} at {at}" for at, each in enumerate(given) if type(each) is not Corpus]
    if wrong or not given:
        got = next(iter(wrong), "none")
        msg = f"{expected}, got {got} (Corpus.open opens a store, tokenloom.open_foreign a file)"
        raise ArgumentError(msg)
    return given


def _join_names(names: Sequence[str]) -> str:
    """Return what messages call a concatenation: its names, or the first where they are many."""
    num_more = len(names) - 1
    return " + ".join(names) if num_more < 2 else f"{names[0]} + {num_more} more"


def _check_same_ids(corpora: Sequence[Corpus]) -> Identity | None:
    """Return which tokenizer made the ids of all, as far as that is known.

    Raises
    ------
    ArgumentError
        Two are known to have ids that mean different tokens.
    """
    known = next((corpus for corpus in corpora if corpus.identity is not None), None)
    if known is None or known.identity is None:
        return None
    size = known.identity.vocab_size
    for corpus in corpora:
        too_many = size is not None and (corpus._vocab_size or 0) > size  # noqa: SLF001
        if not too_many and not known.identity.differs(corpus.identity):
            continue
        others = corpus.identity or f"unknown, {count(corpus.vocab_size, 'id')}"
        msg = (
            f"corpora must have ids of the same tokenizer: that of {known.name} is "
            f"{known.identity}, that of {corpus.name} is {others}: "
            "pass that of one as the tokenizer= of the other"
        )
        raise ArgumentError(msg)
    return known.identity


def _largest(sizes: Sequence[int | None]) -> int | None:
    """Return the largest number of ids, or None where one of them is not known."""
    known = [size for size in sizes if size is not None]
    return max(known) if len(known) == len(sizes) else None


def _join_documents(parts: Sequence[Corpus]) -> DocumentOffsets | None:
    """Return the documents of all parts, or None where no part has any."""
    if all(part.document_offsets is None for part in parts):
        return None
    known = (part.document_offsets for part in parts)
    return DocumentOffsets.join(
        [
            DocumentOffsets(np.array([0, len(part)], np.int64)) if offsets is None else offsets
            for part, offsets in zip(parts, known, strict=True)
        ]
    )


def _join_masks(parts: Sequence[Corpus]) -> Tokens | None:
    """Return the loss masks of all parts as one, or None where no part has any."""
    masks = [part.loss_mask for part in parts]
    if all(mask is None for mask in masks):
        return None
    known = [
        Repeated(1, len(part)) if mask is None else mask
        for part, mask in zip(parts, masks, strict=True)
    ]
    return concatenate(known, num_ids=MASK_LIMIT)


def _as_numbers(ids: Any) -> list[int]:
    values = ids.tolist() if hasattr(ids, "tolist") else ids
    try:
        return [to_integer(id_) for id_ in values]
    except TypeError:
        msg = f"ids must be a one-dimensional list, array or tensor of integers, got {show(ids)}"
        raise ArgumentError(msg) from None


def _check_tokenizer(
    tokenizer: Tokenizer, made_by: Identity | None, *, vocab_size: int, whose: str
) -> None:
    """Refuse a tokenizer that is known not to have made the ids of a corpus."""
    given = Identity.of(tokenizer)
    if tokenizer.vocab_size == vocab_size and not given.differs(made_by):
        return
    expected = count(vocab_size, "id") if made_by is None else made_by
    msg = (
        f"tokenizer must be the one that made the ids of {whose} ({expected}), got another "
        f"({given}): give that one, or leave tokenizer out"
    )
    raise ArgumentError(msg)
