"""What a preparation is told, checked before it begins."""

import dataclasses
import operator
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any, Literal, NamedTuple, get_args

from tokenloom._checks import (
    Check,
    as_flag,
    as_integer,
    as_special_token,
    as_special_tokens,
    as_text,
    check_all,
    require_choice,
)
from tokenloom._io.compressed import Undecodable, find_encoding
from tokenloom._wording import show
from tokenloom.errors import ArgumentError
from tokenloom.preparation.encode import BuildVocab, EncodeWith
from tokenloom.preparation.forms import Cutting, OnError, OnReserved, Reading
from tokenloom.preparation.sources import DocumentsAre, OlderWord, check_split_name, form_of
from tokenloom.store.reader import find_stored_tokenizer
from tokenloom.store.writer import SHARD_TOKENS
from tokenloom.text.identity import probe
from tokenloom.text.interface import CompleteTokenizer, LearnedTokenizer, vocab_of
from tokenloom.text.tokenizers import (
    UNCOUNTED,
    CountedTokenizer,
    find_end_id,
    make_tokenizer,
    refuse_settings,
)
from tokenloom.text.vocab import UNKNOWN_TOKEN, Vocab

SplitBy = Literal["document", "block"]
# What the rest of the corpus is called, before the splits that are named.
REST = "train"
TASK_BYTES = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareOptions:
    """How `tokenloom.prepare` makes a store.

    Attributes
    ----------
    documents : "file", "paragraph", "line" or "jsonl"
        What a document is: a whole file, what stands between blank lines, a
        line, or a JSON object on a line, which is a record. A blank line is an
        empty document, see ``on_error``. Files that end with .jsonl
        or .ndjson always hold records; in CSV, Parquet and Arrow files and in
        data sets each row is a document. "record", the older word for "jsonl",
        is accepted up to the next release, with a warning.
    field : str
        The field of a record that holds the text; of CSV, Parquet and Arrow
        files and of data sets, the column.
    prompt_field : str or None
        The field that holds a prompt, which is read before the text and not learnt; None
        if documents have no prompts. The store gets a loss mask, in which tokens of
        prompts are 0. Both are encoded by themselves, and nothing stands between them.
        Iterables then yield dicts with both fields; files of text have no fields, and
        are refused.
    encoding : str
        How files and stdin are encoded. A text in another encoding than UTF-8
        is read as if it had been written in UTF-8: offsets in it, of records
        and in messages about them, are those of the UTF-8 bytes.
    on_error : "stop", "skip" or "replace"
        What to do with a document that cannot be read or is empty. "skip"
        leaves it out; of a document that is cut into several chunks, only the
        chunk is left out. "replace" puts U+FFFD for undecodable bytes, and keeps
        any other as a document without text. Both count the documents; of a
        document that is cut into several chunks each chunk with a problem counts.
    normalize : bool
        Whether "char" and "word" begin with the textbook's normalisation.
    on_reserved : "count" or "stop"
        What to do with a text that holds the ``end_of_document`` token, another
        reserved token, or the unknown one ("word" without normalising), which
        mean something else than that text. "count" keeps it, and counts each
        occurrence.
    min_freq : int
        Rarer tokens become the unknown token ("char" and "word").
    reserved_tokens : sequence of str
        Tokens that get the ids from 1 on ("char" and "word").
    end_of_document : str, int or None
        A token that follows each document: for "char" and "word" it is
        reserved; of any other tokenizer it is a token of its vocabulary, or an id.
    splits : mapping of str to float
        Fractions of the corpus, at its end and in this order, that get a name;
        what comes before them is called "train".
    split_by : "document" or "block"
        Whether splits begin where a document ends, or at that token.
    task_bytes : int
        About how many bytes are read at a time and given to a worker. The
        tokens do not depend on it.
    shard_tokens : int
        Tokens per file of the store.

    Raises
    ------
    ArgumentError
        A value cannot work.
    """

    documents: DocumentsAre | OlderWord = "file"
    field: str = "text"
    prompt_field: str | None = None
    encoding: str = "utf-8"
    on_error: OnError = "stop"
    on_reserved: OnReserved = "count"
    normalize: bool = True
    min_freq: int = 0
    reserved_tokens: Sequence[str] = ()
    end_of_document: str | int | None = None
    splits: Mapping[str, float] = dataclasses.field(default_factory=dict)
    split_by: SplitBy = "document"
    task_bytes: int = TASK_BYTES
    shard_tokens: int = SHARD_TOKENS

    def __post_init__(self) -> None:
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        given["documents"] = rename_documents(self.documents)
        checks = dict(_CHECKS)
        if self.end_of_document is None:
            del checks["end_of_document"]
        elif isinstance(self.end_of_document, str):
            checks["end_of_document"] = as_special_token
        if self.prompt_field is None:
            del checks["prompt_field"]
        elif self.prompt_field == self.field:
            msg = f"prompt_field must be another field than field={show(self.field)}, got the same"
            raise ArgumentError(msg)
        checked = check_all(given, checks)
        checked["encoding"] = find_encoding(checked["encoding"])
        checked["splits"] = _fractions(self.splits)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def describe(self) -> dict[str, Any]:
        """Return all options, JSON-able."""
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        values["documents"] = form_of(self.documents)
        values.update(reserved_tokens=list(self.reserved_tokens), splits=dict(self.splits))
        # Older manifests lack these keys; defaults are left out so that bytes stay equal.
        if self.on_reserved == "count":
            del values["on_reserved"]
        if self.prompt_field is None:
            del values["prompt_field"]
        encoding = values.pop("encoding")
        return values if encoding == "utf-8" else {**values, "encoding": encoding}


_CHECKS: dict[str, Check] = {
    "documents": partial(require_choice, choices=get_args(DocumentsAre)),
    "on_error": partial(require_choice, choices=get_args(OnError)),
    "on_reserved": partial(require_choice, choices=get_args(OnReserved)),
    "normalize": as_flag,
    "split_by": partial(require_choice, choices=get_args(SplitBy)),
    # Where it is an id.
    "end_of_document": as_integer,
    "field": as_text,
    "prompt_field": as_text,
    "encoding": as_text,
    "min_freq": as_integer,
    "reserved_tokens": as_special_tokens,
    "task_bytes": partial(as_integer, start=1, stop=1 << 31),
    "shard_tokens": partial(as_integer, start=1),
}


class Method(NamedTuple):
    """How tokens are made, as far as it is known before anything is read.

    Attributes
    ----------
    tokenizer : CompleteTokenizer
    cutting : Cutting
    reading : Reading
    undecodable : "stop", "replace" or "mark"
        What to do with bytes that are not in the encoding of a source.
    how : EncodeWith or BuildVocab
        What is done with each chunk; the second where the vocabulary is counted.
    end_id : int or None
        The id that follows each document.
    vocab_size : int or None
        The most ids that it may learn.
    settings : dict
        The tokenizer and all options, which are compared before a run is
        resumed: JSON-able.
    """

    tokenizer: CompleteTokenizer
    cutting: Cutting
    reading: Reading
    undecodable: Undecodable
    how: EncodeWith | BuildVocab
    end_id: int | None
    vocab_size: int | None
    settings: dict[str, Any]


def choose_method(
    tokenizer: object, options: PrepareOptions, *, vocab_size: int | None = None
) -> Method:
    """Return how a tokenizer works, after a check that it can do what the options ask for.

    Parameters
    ----------
    tokenizer : object
        See `tokenloom.Corpus.from_text`.
    options : PrepareOptions
    vocab_size : int, optional
        The most ids that it may learn.

    Raises
    ------
    ArgumentError
        It is no tokenizer, or it cannot do what an option asks for.
    """
    tokenizer = find_stored_tokenizer(tokenizer)
    made = make_tokenizer(tokenizer, normalize=options.normalize, vocab_size=vocab_size)
    refuse_settings(
        made,
        tokenizer,
        normalize=options.normalize,
        min_freq=options.min_freq,
        reserved_tokens=options.reserved_tokens,
    )
    # It was checked already; JSON needs a plain integer.
    limit = None if vocab_size is None else operator.index(vocab_size)
    as_bytes = made.reads_bytes
    prompt_field = options.prompt_field
    cutting = Cutting(made.boundary, options.task_bytes, as_bytes, options.field, prompt_field)
    reading = Reading(options.field, options.on_error, as_bytes, options.on_reserved, prompt_field)
    undecodable = choose_undecodable(options.on_error, reads_bytes=as_bytes)
    how: EncodeWith | BuildVocab
    description: dict[str, Any]
    if isinstance(made, CountedTokenizer) and made.vocab is UNCOUNTED:
        how = _build_vocab(made, options, vocab_size=limit)
        # The reserved tokens have the first ids, in their order.
        end_id = how.reserved.index(str(options.end_of_document)) if how.marks_ends else None
        description = {"name": made.name}
        if limit is not None:
            description["vocab_size"] = limit
    elif isinstance(made, LearnedTokenizer):
        made = made.with_special(reserve(options, only_tokens=True))
        how, end_id = EncodeWith(made), None
        description = made.describe()
    else:
        how = _encode_with(made, options)
        end_id, description = how.end_id, _describe(made)
    settings = {"tokenizer": description, **options.describe()}
    return Method(made, cutting, reading, undecodable, how, end_id, limit, settings)


def choose_undecodable(on_error: str, *, reads_bytes: bool) -> Undecodable:
    """Return what to do with bytes that are not in the encoding of a source.

    A document with a byte that is no UTF-8 is found when it is decoded, so that
    it is left out or counted like any other; bytes as tokens are not decoded.

    >>> choose_undecodable("skip", reads_bytes=False)
    'mark'
    """
    if on_error == "stop":
        return "stop"
    return "replace" if reads_bytes else "mark"


def use_learned(method: Method, tokenizer: CompleteTokenizer, options: PrepareOptions) -> Method:
    """Return how tokens are made with the tokenizer that was learnt.

    Raises
    ------
    ArgumentError
        It has no id for the end of a document that the options ask for.
    """
    how = _encode_with(tokenizer, options)
    cutting = method.cutting._replace(boundary=tokenizer.boundary)
    return method._replace(tokenizer=tokenizer, cutting=cutting, how=how, end_id=how.end_id)


def _build_vocab(
    tokenizer: CountedTokenizer, options: PrepareOptions, *, vocab_size: int | None
) -> BuildVocab:
    end, reserved = options.end_of_document, reserve(options)
    if end is not None and not isinstance(end, str):
        expected = "a token such as '<eod>', since ids are counted"
        msg = f"end_of_document must be {expected}, got {show(end)}"
        raise ArgumentError(msg)
    if reserved or vocab_size is not None:
        # The vocabulary raises if these tokens cannot be reserved, or if vocab_size is too small
        # for them.
        Vocab(reserved_tokens=reserved, vocab_size=vocab_size)
    return BuildVocab(tokenizer, end is not None, (UNKNOWN_TOKEN, *reserved))


def _encode_with(tokenizer: CompleteTokenizer, options: PrepareOptions) -> EncodeWith:
    vocab, end = vocab_of(tokenizer), options.end_of_document
    reserved: dict[int, str | int] = {}
    if vocab is not None:
        reserved = {vocab[token]: token for token in vocab.reserved_tokens}
    end_id = find_end_id(end, tokenizer)
    if end is not None and end_id is not None:
        reserved.setdefault(end_id, end)
    return EncodeWith(tokenizer, end_id, reserved)


def _describe(tokenizer: CompleteTokenizer) -> dict[str, Any]:
    """Return values that distinguish a tokenizer from others, JSON-able."""
    vocab = vocab_of(tokenizer)
    proof = None if vocab is None else vocab.hash
    description = {**tokenizer.describe(), "vocab_size": tokenizer.vocab_size, "vocab": proof}
    if description["name"] is None:
        # Two objects of one type may have learned different tokens.
        description["probe"] = probe(tokenizer)
    return description


def reserve(options: PrepareOptions, *, only_tokens: bool = False) -> list[str]:
    """Return the reserved tokens, with the one that follows each document.

    Parameters
    ----------
    options : PrepareOptions
    only_tokens : bool
        Whether to leave out what follows each document where that is an id.

    >>> reserve(PrepareOptions(end_of_document="<eod>"))
    ['<eod>']
    """
    reserved = list(options.reserved_tokens)
    end = options.end_of_document
    is_out = end is None or end in reserved or (only_tokens and not isinstance(end, str))
    return reserved if is_out else [*reserved, str(end)]


def rename_documents(word: object) -> object:
    """Return "jsonl" for its older word, with a warning, and anything else as it is.

    >>> rename_documents("jsonl"), rename_documents("file")
    ('jsonl', 'file')
    """
    if not isinstance(word, str) or word not in get_args(OlderWord):
        return word
    msg = f"documents={word!r} is now documents='jsonl', its only name from the next release on"
    # The warning names the line that makes the options.
    warnings.warn(msg, DeprecationWarning, stacklevel=4)
    return "jsonl"


def _fractions(splits: object) -> dict[str, float]:
    """Return splits as plain values, after a check of their type and range."""
    parts: Iterable[tuple[Any, Any]] = (
        splits.items() if isinstance(splits, Mapping) else [(None, None)]
    )
    if not all(
        isinstance(name, str) and name and isinstance(fraction, Real) for name, fraction in parts
    ):
        msg = f"splits must be a mapping of names to fractions, got {show(splits)}"
        raise ArgumentError(msg)
    plain = {str(name): fraction for name, fraction in parts}
    for name in plain:
        check_split_name(name)
    if not all(0 < fraction < 1 for fraction in plain.values()) or sum(plain.values()) >= 1:
        msg = (
            "splits must be fractions above 0 whose sum is below 1, since the rest is "
            f"{REST!r}, got {show(plain)}"
        )
        raise ArgumentError(msg)
    if REST in plain:
        msg = f"splits must have other names than {REST!r}, which is the rest of the corpus"
        raise ArgumentError(msg)
    return {name: float(fraction) for name, fraction in plain.items()}
