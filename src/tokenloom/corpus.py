"""A text as one array of token ids, with what is needed to read it again."""

import functools
import importlib
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from tokenloom.arrays import as_ids, is_memory_map
from tokenloom.documents import Document, DocumentOffsets, as_offsets
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.identity import Identity
from tokenloom.integers import as_integer, require_flags, require_type, to_integer
from tokenloom.maps import check_reads
from tokenloom.numbering import encode_documents
from tokenloom.passages import Origin, Passage
from tokenloom.saving import SHARD_TOKENS, save_store
from tokenloom.store import Store, open_store
from tokenloom.text import encode, report_lost, why_empty
from tokenloom.tokenizers import Tokenizer, require_tokenizer, tokenizer_for
from tokenloom.verification import check_store
from tokenloom.vocab import Vocab, keep_tokens
from tokenloom.wording import count, show


class Corpus(Passage):
    """Token ids in one array, and the tokenizer or vocabulary that made them.

    Make one with `Corpus.from_text`, `Corpus.from_documents`,
    `Corpus.from_tokens`, `Corpus.open` or `tokenloom.load`. A corpus does not
    change after it was made.

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
    def from_text(
        text: str | bytes,
        *,
        tokenizer: str | Vocab | Tokenizer = "char",
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
        tokenizer : "char", "word", "byte", a Vocab or a Tokenizer
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
        tokens, made = encode(
            text,
            tokenizer=tokenizer,
            normalize=normalize,
            min_freq=min_freq,
            reserved_tokens=reserved_tokens,
            name=name,
        )
        corpus = Corpus(tokens, tokenizer=made, vocab_size=made.vocab_size, name=name)
        return corpus.first(max_tokens)

    @staticmethod
    def from_documents(
        texts: Iterable[str | Document],
        *,
        tokenizer: str | Vocab | Tokenizer = "char",
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
        tokenizer, normalize, min_freq, reserved_tokens, max_tokens, name
            See `from_text`.

        Raises
        ------
        ArgumentError
            The tokenizer is unknown, a document is neither a str nor a Document,
            or ``max_tokens`` is below 1.
        CorpusError
            There is no token in any of them.

        >>> corpus = Corpus.from_documents(["To be", "or not"], tokenizer="word")
        >>> corpus.num_documents, corpus.decode(corpus.document(1).tokens)
        (2, 'or not')
        """
        ids, offsets, made, lost = encode_documents(
            texts,
            tokenizer=tokenizer,
            normalize=normalize,
            make_vocab=functools.partial(
                Vocab, min_freq=min_freq, reserved_tokens=keep_tokens(reserved_tokens)
            ),
        )
        is_learned = isinstance(tokenizer, str)
        if not len(ids):
            where = count(len(offsets) - 1, "document")
            why = why_empty(lost, is_learned=is_learned)
            msg = f"{name} must hold at least one token, got none in {where}: {why}"
            raise CorpusError(msg)
        report_lost(lost, name=name, is_learned=is_learned)
        size = made.vocab_size
        documents = DocumentOffsets(offsets)
        corpus = Corpus(ids, tokenizer=made, vocab_size=size, name=name, documents=documents)
        return corpus.first(max_tokens)

    @staticmethod
    def from_tokens(
        tokens: npt.ArrayLike,
        *,
        vocab: Vocab | None = None,
        vocab_size: int | None = None,
        documents: npt.ArrayLike | None = None,
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
        name : str
            Where the tokens came from, for messages.

        Raises
        ------
        ArgumentError
            ``vocab_size`` differs from the length of ``vocab``.
        CorpusError
            The ids are none at all, not one-dimensional, no integers or out
            of range; or the documents do not go from 0 to the number of tokens.

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
        )

    @staticmethod
    def open(
        path: str | os.PathLike[str],
        *,
        split: str | None = None,
        tokenizer: Tokenizer | None = None,
        verify: bool = False,
    ) -> "Corpus":
        """Open a store without reading its tokens, however many there are.

        Its files have the right sizes, and whatever is read of them later has
        ids below the vocabulary size.

        Parameters
        ----------
        path : str or path
            The folder of a store, which `save` made.
        split : str, optional
            Only the tokens that the store keeps under this name.
        tokenizer : Tokenizer, optional
            What made the ids, where that came from elsewhere. It is compared with
            what the store knows of it.
        verify : bool
            Whether to read every byte and compare its hash.

        Raises
        ------
        ArgumentError
            There is no such split, or another tokenizer made the ids.
        StoreError
            There is no store, or one of its files is missing or damaged.
        """
        require_flags(verify=verify)
        if tokenizer is not None:
            require_tokenizer(tokenizer)
        if verify:
            check_store(path)
        store = open_store(path)
        if tokenizer is not None:
            _check_tokenizer(store, tokenizer)
        manifest, offsets = store.manifest, store.documents()
        corpus = Corpus(
            store.tokens(),
            tokenizer=store.tokenizer() if tokenizer is None else tokenizer,
            vocab_size=manifest.vocab_size,
            name=os.fspath(path),
            documents=None if offsets is None else DocumentOffsets(offsets),
            origin=Origin(manifest.hash, manifest.num_tokens, path=str(store.path)),
            made_by=store.describe_identity(),
        )
        return corpus if split is None else corpus.section(*store.bounds(split))

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        splits: Mapping[str, tuple[int, int]] | None = None,
        shard_tokens: int = SHARD_TOKENS,
    ) -> Path:
        """Write the corpus to a new or empty folder, whole or not at all.

        A tokenizer that is not one of tokenloom's is not written: pass it to
        `open` again.

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
        )

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
        return importlib.import_module("tokenloom.tracing").trace(self, token)

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
        return self.tokenizer.decode(numbers)


def _as_numbers(ids: Any) -> list[int]:
    values = ids.tolist() if hasattr(ids, "tolist") else ids
    try:
        return [to_integer(id_) for id_ in values]
    except TypeError:
        msg = f"ids must be a one-dimensional list, array or tensor of integers, got {show(ids)}"
        raise ArgumentError(msg) from None


def _check_tokenizer(store: Store, tokenizer: Tokenizer) -> None:
    """Refuse a tokenizer that is known not to have made the ids of a store."""
    size = store.manifest.vocab_size
    if tokenizer.vocab_size != size:
        msg = f"vocab_size must be the store's {size}, got {tokenizer.vocab_size}"
        raise ArgumentError(msg)
    made_by, given = store.identity(), Identity.of(tokenizer)
    if given.differs(made_by):
        msg = (
            f"tokenizer must be the one that made the ids of the store {str(store.path)!r} "
            f"({made_by}), got another ({given}): give that one, or leave tokenizer out"
        )
        raise ArgumentError(msg)
