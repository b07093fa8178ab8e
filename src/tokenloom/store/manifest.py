"""The manifest of a store: what its ``manifest.json`` says of the other files."""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np

from tokenloom._io.atomic import write_text
from tokenloom._io.digest import hash_json
from tokenloom._wording import count
from tokenloom.errors import StoreError
from tokenloom.store.npy import HEADER_BYTES

FORMAT = "tokenloom-store"
# Of stores with a loss mask; others are of version 1, byte for byte.
VERSION = 2
DTYPES = ("uint8", "uint16", "uint32", "uint64")
MANIFEST = "manifest.json"
VOCAB = "vocab.json"
DOCUMENTS = "documents.npy"
PLACES = "places.npy"
# Six integers for each chunk of a preparation, which docs/reference/preparation.md explains.
NUM_PLACE_FIELDS = 6
# The type of the integers in documents.npy and places.npy.
OFFSETS = np.dtype("<i8")
# That of the values of a loss mask: 0 or 1.
LEARNT = np.dtype("|u1")

# What the names of the files of a loss mask begin with.
_LOSS_MASK = "loss_mask-"
_MAX_COUNT = 2**63
_HEX = re.compile(r"[0-9a-f]{64}")
# A name of a file that lies in the folder itself, on any system.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")

# Settings of a preparation that follow from the others once the sources were read.
_FOUND_LATER = ("forms", "end_id")

_TAKEN = (MANIFEST, "tokens-")


@dataclass(frozen=True, slots=True)
class ShardFile:
    """A file of tokens; its name follows from its place.

    Attributes
    ----------
    num_tokens : int
        At least 1.
    sha256 : str
        Of the whole file, 64 hexadecimal digits.
    """

    num_tokens: int
    sha256: str

    def __post_init__(self) -> None:
        _check_count("num_tokens of a shard", self.num_tokens, least=1)
        _check_sha256(self.sha256)


@dataclass(frozen=True, slots=True)
class StoreFile:
    """A file of a store that holds no tokens.

    Attributes
    ----------
    name : str
        Letters, digits, ``_``, ``-`` and single dots; no folder.
    num_bytes : int
    sha256 : str
        64 hexadecimal digits.
    """

    name: str
    num_bytes: int
    sha256: str

    def __post_init__(self) -> None:
        name = str(self.name)
        if name != self.name or not _NAME.fullmatch(name) or name.startswith(_TAKEN):
            _refuse("file names without a folder, of letters, digits, _, - and .", self.name)
        _check_count("num_bytes of a file", self.num_bytes)
        _check_sha256(self.sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where some documents of a store came from, in the order of the documents.

    Attributes
    ----------
    name : str
        A path, an address, or what people call it.
    num_documents : int
    num_bytes : int or None
        Before decompression; None where they were not counted.
    sha256 : str or None
        Of those bytes, 64 hexadecimal digits.
    """

    name: str
    num_documents: int
    num_bytes: int | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            _refuse("a name for each source", self.name)
        _check_count("num_documents of a source", self.num_documents)
        if self.num_bytes is not None:
            _check_count("num_bytes of a source", self.num_bytes)
        if self.sha256 is not None:
            _check_sha256(self.sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What is in a store; the fields of ``manifest.json`` are these, in this order.

    Attributes
    ----------
    dtype : "uint8", "uint16", "uint32" or "uint64"
        Of the tokens, which are little-endian.
    vocab_size : int
        Ids are in [0, vocab_size).
    num_tokens : int
        Number of tokens in all shards.
    num_documents : int or None
        Number of documents, where their offsets are kept.
    tokenizer : mapping or None
        JSON-able; see `tokenloom.text.identity.describe_identity`.
    shards : tuple of ShardFile
        The files of tokens, in order.
    files : tuple of StoreFile
        All other files, sorted by name: documents, vocabulary, files of a preparation.
    splits : mapping of str to (int, int)
        Half-open ranges of tokens that have a name.
    sources : tuple of Source
    facts : mapping
        JSON-able: what else is known, such as ``num_characters``.

    Raises
    ------
    StoreError
        A value has a wrong type, is out of range, or contradicts another.
    """

    dtype: str
    vocab_size: int
    num_tokens: int = field(init=False)
    num_documents: int | None = field(init=False)
    tokenizer: Mapping[str, Any] | None = None
    shards: tuple[ShardFile, ...]
    files: tuple[StoreFile, ...] = ()
    splits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            _refuse(f"a dtype of {', '.join(DTYPES)}", self.dtype)
        _check_count("vocab_size", self.vocab_size, least=1)
        if not self.shards:
            _refuse("at least one shard", "none")
        derived = {
            "num_tokens": sum(shard.num_tokens for shard in self.shards),
            "num_documents": _count_documents(self.files),
            "files": tuple(sorted(self.files, key=lambda file: file.name)),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)
        _check_count("num_tokens", self.num_tokens)
        _check_files(self)
        if not isinstance(self.tokenizer, Mapping | None):
            _refuse("an object or null as tokenizer", self.tokenizer)
        if not isinstance(self.facts, Mapping):
            _refuse("an object of facts", self.facts)
        for name, (start, stop) in self.splits.items():
            _check_count(f"the start of split {name!r}", start)
            _check_count(f"the stop of split {name!r}", stop)
            if not start < stop <= self.num_tokens:
                expected = f"0 <= start < stop <= num_tokens={self.num_tokens} for each split"
                _refuse(expected, f"{name!r}: {[start, stop]}")

    @property
    def preparation(self) -> "Preparation | None":
        """What is known of the preparation that made the store; None if none did.

        Raises
        ------
        StoreError
            It is not what a preparation writes.
        """
        stated = self.facts.get("preparation")
        if stated is None:
            return None
        if not isinstance(stated, Mapping):
            _refuse("an object as preparation", stated)
        names: tuple[str, ...] = ("field", "prompt_field", "on_error", "task_bytes", "end_id")
        values: dict[str, Any] = {name: stated.get(name) for name in (*names, "forms")}
        counted = ("num_characters", "num_unknown", "num_unknown_types", "num_dropped")
        names = (*counted, "num_learnt", "problems")
        values.update((name, self.facts.get(name)) for name in names)
        settings = {name: stated[name] for name in stated if name not in _FOUND_LATER}
        preparation = Preparation(**values, settings=settings)
        if len(preparation.forms) != len(self.sources):
            _refuse("a form for each source", preparation.forms)
        return preparation

    def require_preparation(self) -> "Preparation":
        """Return what is known of the preparation that made the store.

        Raises
        ------
        StoreError
            None made it, or it is not what a preparation writes.
        """
        preparation = self.preparation
        if preparation is None:
            _refuse("a preparation", None)
        return preparation

    @property
    def end_id(self) -> int | None:
        """The id after each document, where a preparation put one there."""
        preparation = self.facts.get("preparation")
        found = preparation if isinstance(preparation, Mapping) else self.facts
        end_id = found.get("end_id")
        return end_id if type(end_id) is int and 0 <= end_id < self.vocab_size else None

    @property
    def hash(self) -> str:
        """``"sha256:..."`` of the type of the tokens and of each shard's hash."""
        shards = [[shard.num_tokens, shard.sha256] for shard in self.shards]
        return hash_json({"dtype": self.dtype, "shards": shards})

    @property
    def has_loss_mask(self) -> bool:
        """Whether there are files that say which tokens are learnt, one beside each shard."""
        return any(is_loss_mask(file.name) for file in self.files)

    @property
    def mask_hash(self) -> str:
        """``"sha256:..."`` of the hashes of these files; empty where there are none."""
        hashes = [file.sha256 for file in self.files if is_loss_mask(file.name)]
        shards = [[each.num_tokens, sha256] for each, sha256 in zip(self.shards, hashes)]  # noqa: B905  there may be no hashes
        return hash_json({"loss_mask": shards}) if shards else ""

    def file(self, name: str) -> StoreFile:
        """Return the entry of a file that holds no tokens.

        Raises
        ------
        StoreError
            There is none of that name.
        """
        for file in self.files:
            if file.name == name:
                return file
        return _refuse(f"a file {name!r}", [file.name for file in self.files])


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """How a store was prepared, and what was counted.

    Attributes
    ----------
    field, prompt_field, on_error, task_bytes
        See `tokenloom.PrepareOptions`.
    end_id : int or None
        The id after each document.
    forms : list of str
        What a document of each source is.
    settings : mapping
        The tokenizer and all options.
    num_characters, num_unknown, num_unknown_types, num_dropped, num_learnt, problems
        See `tokenloom.preparation.Prepared`.
    """

    field: Any
    prompt_field: Any
    on_error: Any
    task_bytes: int
    end_id: int | None
    forms: Any
    settings: Mapping[str, Any]
    num_characters: int
    num_unknown: int | None
    num_unknown_types: int | None
    num_dropped: int | None
    num_learnt: int | None
    problems: Mapping[str, int]

    def __post_init__(self) -> None:
        if not isinstance(self.field, str):
            _refuse("a str as field", self.field)
        if not isinstance(self.prompt_field, str | None):
            _refuse("a str or null as prompt_field", self.prompt_field)
        if self.on_error not in ("stop", "skip", "replace"):
            _refuse("'stop', 'skip' or 'replace' as on_error", self.on_error)
        forms = (
            "file",
            "paragraph",
            "line",
            "record",
            "string",
            "csv",
            "parquet",
            "arrow",
            "dataset",
        )
        if not isinstance(self.forms, list) or any(form not in forms for form in self.forms):
            _refuse(f"a list of {', '.join(forms)} as forms", self.forms)
        _check_count("task_bytes", self.task_bytes, least=1, stop=1 << 31)
        _check_count("num_characters", self.num_characters)
        for name in ("end_id", "num_unknown", "num_unknown_types", "num_dropped", "num_learnt"):
            if getattr(self, name) is not None:
                _check_count(name, getattr(self, name))
        if not isinstance(self.problems, Mapping):
            _refuse("an object of problems", self.problems)
        for what, number in self.problems.items():
            _check_count(f"the number of {what!r}", number)


def shard_name(index: int) -> str:
    """Return the name of the file of a shard.

    >>> shard_name(7)
    'tokens-00007.npy'
    """
    return f"tokens-{index:05}.npy"


def mask_name(index: int) -> str:
    """Return the name of the file that says which tokens of a shard are learnt.

    >>> mask_name(7)
    'loss_mask-00007.npy'
    """
    return f"{_LOSS_MASK}{index:05}.npy"


def is_loss_mask(name: str) -> bool:
    """Return whether a file of this name says which tokens are learnt."""
    return name.startswith(_LOSS_MASK)


def write_json(manifest: Manifest) -> str:
    """Return the text of ``manifest.json``, which ends with its own checksum.

    >>> manifest = Manifest(dtype="uint8", vocab_size=9, shards=(ShardFile(5, "0" * 64),))
    >>> read_json(write_json(manifest)) == manifest
    True
    """
    value = {
        "format": FORMAT,
        "version": VERSION if manifest.has_loss_mask else 1,
        **_fields(manifest),
        "shards": [
            {"name": shard_name(index), **_fields(shard)}
            for index, shard in enumerate(manifest.shards)
        ],
        "files": [_fields(file) for file in manifest.files],
        "sources": [_fields(source) for source in manifest.sources],
    }
    return json.dumps({**value, "checksum": hash_json(value)}, indent=1, allow_nan=False) + "\n"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, after all other files: now the folder is a store.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    write_text(folder / MANIFEST, write_json(manifest))


def read_json(text: str) -> Manifest:
    """Return the manifest in the text of a ``manifest.json``.

    Raises
    ------
    StoreError
        It is no manifest of a version that this release reads, or it is not
        as it was written.
    """
    value = _parse(text)
    if value.get("format") != FORMAT:
        _refuse(f'the format "{FORMAT}"', value.get("format"))
    version = value.get("version")
    if type(version) is int and version > VERSION:
        _refuse(f"a version up to {VERSION}; a newer tokenloom wrote it: update", version)
    if type(version) is not int or version < 1:
        _refuse(f"a version from 1 to {VERSION}", version)
    try:
        checksum = value.pop("checksum", None)
        if checksum != (actual := hash_json(value)):
            _refuse(f"the checksum {actual}: it was changed after it was written", checksum)
        manifest = _build(value)
        written = write_json(manifest)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        _refuse("the fields of its version", f"{type(error).__name__}: {error}")
    if written != text:
        _refuse("what tokenloom wrote, byte for byte, and counts that agree", "something else")
    return manifest


def _fields(entry: Any) -> dict[str, Any]:
    """Return the fields of a dataclass by name, in their order.

    >>> _fields(StoreFile("vocab.json", 3, "0" * 64))["num_bytes"]
    3
    """
    return {each.name: getattr(entry, each.name) for each in dataclasses.fields(entry)}


def _build(value: object) -> Manifest:
    """Return the manifest of a JSON object; its derived fields are compared later."""
    given = _arguments(Manifest, value, "format", "version")
    return Manifest(
        **{
            **given,
            "shards": tuple(ShardFile(**_arguments(ShardFile, s, "name")) for s in given["shards"]),
            "files": tuple(StoreFile(**_arguments(StoreFile, file)) for file in given["files"]),
            "sources": tuple(Source(**_arguments(Source, one)) for one in given["sources"]),
            "splits": {name: (start, stop) for name, (start, stop) in given["splits"].items()},
        }
    )


def _arguments(kind: Any, value: object, *others: str) -> dict[str, Any]:
    """Return the arguments of a dataclass from the JSON object that `_fields` gave.

    The object must have those fields and ``others``, and no more.
    """
    fields = dataclasses.fields(kind)
    names = [*others, *(each.name for each in fields)]
    if not isinstance(value, dict) or value.keys() != set(names):
        _refuse(f"the fields {', '.join(names)}", list(value) if isinstance(value, dict) else value)
    return {each.name: value[each.name] for each in fields if each.init}


def _parse(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (RecursionError, ValueError) as error:
        _refuse("one JSON object", error)
    if not isinstance(value, dict):
        _refuse("one JSON object", value)
    return cast("dict[str, Any]", value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        _refuse("each key once", [key for key, _ in pairs])
    return value


def _refuse_constant(constant: str) -> NoReturn:
    _refuse("finite numbers", constant)


def _count_documents(files: Iterable[StoreFile]) -> int | None:
    sizes = [file.num_bytes for file in files if file.name == DOCUMENTS]
    return (sizes[0] - HEADER_BYTES) // 8 - 1 if sizes else None


def _check_files(manifest: Manifest) -> None:
    names = [file.name for file in manifest.files]
    if len(set(names)) < len(names):
        _refuse("each file once", names)
    for file in manifest.files:
        rows, rest = divmod(file.num_bytes - HEADER_BYTES, 8 * NUM_PLACE_FIELDS)
        if file.name == PLACES and (rest or rows < 1):
            _refuse(f"a header and six int64 per chunk in {PLACES}", count(file.num_bytes, "byte"))
    if manifest.has_loss_mask:
        expected = {
            mask_name(index): HEADER_BYTES + shard.num_tokens
            for index, shard in enumerate(manifest.shards)
        }
        got = {file.name: file.num_bytes for file in manifest.files if is_loss_mask(file.name)}
        if got != expected:
            _refuse("a file of the loss mask for each shard, with a byte for each token", got)
    num_documents = manifest.num_documents
    if num_documents is None:
        return
    num_bytes = manifest.file(DOCUMENTS).num_bytes
    if num_documents < 1 or num_bytes != HEADER_BYTES + 8 * (num_documents + 1):
        _refuse(f"a header and at least two int64 offsets in {DOCUMENTS}", count(num_bytes, "byte"))
    of_sources = sum(source.num_documents for source in manifest.sources)
    if manifest.sources and of_sources != num_documents:
        _refuse(f"{count(num_documents, 'document')} in all sources", of_sources)


def _check_count(what: str, value: Any, *, least: int = 0, stop: int = _MAX_COUNT) -> None:
    if type(value) is not int or not least <= value < stop:
        _refuse(f"an integer in [{least}, 2**{stop.bit_length() - 1}) as {what}", value)


def _check_sha256(value: Any) -> None:
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        _refuse("64 hexadecimal digits as sha256", value)


def _refuse(expected: str, got: object) -> NoReturn:
    shown = repr(got) if isinstance(got, str) else str(got)
    shown = shown if len(shown) <= 200 else shown[:200] + "..."
    msg = f"a manifest must have {expected}, got {shown}"
    raise StoreError(msg)
