"""Corpora by name: downloaded if necessary, kept, and read."""

import glob
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tokenloom._checks import as_flag, as_strings
from tokenloom._io.compressed import find_encoding
from tokenloom._io.regular import match_pattern
from tokenloom._io.remote import is_address
from tokenloom._wording import describe_missing, show, suggest
from tokenloom.corpus.corpus import Corpus
from tokenloom.corpus.formats import TOKEN_FILES, open_foreign, recognise_tokens
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.hub.cache import fetch
from tokenloom.hub.catalogue import Archive, BuiltIn, Entry, find_entry, list_entries
from tokenloom.hub.texts import read_file, read_text_file
from tokenloom.store.reader import find_stored_tokenizer, is_store, read_store
from tokenloom.text.documents import Document
from tokenloom.text.encode import decode
from tokenloom.text.identity import Identity
from tokenloom.text.tokenizers import (
    TOKENIZER_NAMES,
    ByteTokenizer,
    complete,
    make_tokenizer,
    take_tokenizer,
)

# Before the name of an entry, where a file or a folder has the same name.
_DATASET = "dataset:"

TRAIN, VALID = "train", "valid"
"""The splits that are trained on, and measured on meanwhile, where others are not named."""


def load(  # noqa: PLR0913  each is a setting of its own
    name: str | os.PathLike[str],
    *,
    tokenizer: object = "char",
    vocab_size: int | None = None,
    normalize: bool = True,
    min_freq: int = 0,
    reserved_tokens: Iterable[str] = (),
    max_tokens: int | None = None,
    encoding: str = "utf-8",
) -> Corpus:
    """Return a corpus by its name in the catalogue, or from a text file.

    Parameters
    ----------
    name : str or path
        A name that ``tokenloom datasets`` lists, or ``NAME/SPLIT`` such as
        "imdb/test"; the folder of a store, all of it, or ``STORE/SPLIT``; else
        the path of a text file, which is decompressed where its name ends with
        .gz, .bz2, .xz or .zst. Where there is also a file or folder of a name
        of the list, write ``dataset:NAME`` or ``./NAME``. A token file of another
        project (.bin, .idx, .npy, .ds) is opened by `tokenloom.open_foreign`,
        unless it holds text; with byte tokens, bare ones are read as bytes.
        A pattern, if
        no file has that name, means all stores, or all token files of another project
        (.bin, .npy), that match, as one corpus: ``"shards/*.bin"``, or
        ``"stores/*/train"`` for a split of each; ``**`` means any number of folders.
        A named text is downloaded once, verified and kept. A corpus of documents, such
        as the reviews of "imdb", knows where each document begins; a line end follows
        each document but the last.
    tokenizer, vocab_size, normalize, min_freq, reserved_tokens, max_tokens
        See `Corpus.from_text`.
    encoding : str
        Encoding of a text file. With byte tokens, a file in "utf-8" is taken byte
        by byte, even if it is not valid UTF-8; a file in another encoding is
        converted to UTF-8.

    Raises
    ------
    ArgumentError
        The name is neither in the catalogue nor a file; or see
        `Corpus.from_text`.
    ArchiveError, ChecksumError, DownloadError
        The text could not be fetched.
    CorpusError
        The text cannot be read or decoded, or it holds no token; or see
        `Corpus.from_text`.
    UsageError
        See `Corpus.from_text`.

    >>> load("python_docs", max_tokens=3)
    Corpus('python_docs', 3 tokens, vocab_size=28)
    """
    tokenizer = find_stored_tokenizer(tokenizer)
    store, parts = find_store(name), find_parts(name, tokenizer=tokenizer)
    if store is not None or parts:
        as_flag("normalize", normalize)
        asked = {
            "vocab_size": vocab_size is not None,
            "normalize": not normalize,
            "min_freq": min_freq != 0,
            "reserved_tokens": bool(as_strings("reserved_tokens", reserved_tokens)),
            "encoding": encoding != "utf-8",
        }
        refused = [option for option, is_asked in asked.items() if is_asked]
        return _open_tokens(name, store or parts, tokenizer, refused).first(max_tokens)
    found, encoding = find(name), find_encoding(encoding)
    if (documents := _documents(found)) is not None:
        return Corpus.from_documents(
            _end_lines(documents),
            tokenizer=tokenizer,
            vocab_size=vocab_size,
            normalize=normalize,
            min_freq=min_freq,
            reserved_tokens=reserved_tokens,
            max_tokens=max_tokens,
            name=found.name,
        )
    text = _read_text(found, encoding)
    # In another encoding the bytes are those of the same text in UTF-8.
    is_bytes = make_tokenizer(tokenizer).reads_bytes and text.encoding == "utf-8"
    return Corpus.from_text(
        text.content if is_bytes else decode(text.content, name=text.name, encoding=text.encoding),
        tokenizer=tokenizer,
        vocab_size=vocab_size,
        normalize=normalize,
        min_freq=min_freq,
        reserved_tokens=reserved_tokens,
        max_tokens=max_tokens,
        name=text.name,
    )


class StoreName(NamedTuple):
    """A store, and the name of one of its splits."""

    path: str
    split: str | None = None

    def __str__(self) -> str:
        return self.path if self.split is None else os.path.join(self.path, self.split)  # noqa: PTH118


def find_store(name: object) -> StoreName | None:
    """Return the store, or the split ``STORE/SPLIT``, that a name means, or None.

    The store may lack that split.

    Raises
    ------
    ArgumentError
        The name also means something else.
    StoreError
        The manifest cannot be used.
    """
    if not isinstance(name, str | os.PathLike):
        return None
    path = os.fspath(name)
    found = _find_store(path)
    if found is None:
        return None
    # A split of a store is no path, and may have the name of a split of a text.
    if find_named(name) is not None:
        raise _ambiguous(path, "store")
    return found


def name_split(name: str, split: str | None, *, instead: str = "leave the split out") -> str:
    """Return the name of a split of a named corpus, and the name itself where there is none.

    Parameters
    ----------
    name : str
    split : str, optional
    instead : str
        Advice for a file, which has no splits.

    Raises
    ------
    ArgumentError
        A file has no splits.
    """
    if split is None:
        return name
    if find_entry(name) is None and os.path.isfile(name):  # noqa: PTH113
        msg = f"{name!r} is a file, which has no split {split!r}: {instead}"
        raise ArgumentError(msg)
    return f"{name}/{split}"


def _find_store(path: str) -> StoreName | None:
    if is_store(path):
        return StoreName(path)
    folder, split = os.path.split(path)
    if not folder or not split or not is_store(folder):
        return None
    # os.path returns False for a name that no file can have; Path raises.
    if not os.path.isfile(path):  # noqa: PTH113
        return StoreName(folder, split)
    if split not in read_store(folder).manifest.splits:
        return None
    msg = (
        f"{path!r} is a file, and also a split of the store {folder!r}: move the file out of the "
        "store, which holds only its own"
    )
    raise ArgumentError(msg)


def _open_tokens(
    name: str | os.PathLike[str],
    found: "StoreName | Sequence[StoreName | Path]",
    tokenizer: object,
    asked: list[str],
) -> Corpus:
    """Return a store, or the files that match a pattern, as a corpus."""
    if isinstance(found, StoreName):
        corpus = _open(found, tokenizer, asked)
    else:
        corpus = _open_parts(found, tokenizer, asked)
    return corpus.with_name(os.fspath(name))


def _open(store: StoreName, tokenizer: object, asked: list[str]) -> Corpus:
    if asked:
        msg = (
            f"{asked[0]} must be left out for the store {store.path!r}, which holds tokens, no text"
        )
        raise ArgumentError(msg)
    is_named = isinstance(tokenizer, str) and tokenizer in TOKENIZER_NAMES
    given = None if is_named else tokenizer
    corpus = Corpus.open(store.path, split=store.split, tokenizer=given)
    # The default asks for nothing.
    if is_named and tokenizer != "char":
        name = None if corpus.tokenizer is None else complete(corpus.tokenizer).name
        if tokenizer != name:
            msg = (
                f"tokenizer must be left out for the store {store.path!r}, whose tokens are there "
                f"already, made by {name or 'a tokenizer of your own'}, got {tokenizer!r}"
            )
            raise ArgumentError(msg)
    return corpus


def _open_parts(parts: "Sequence[StoreName | Path]", tokenizer: object, asked: list[str]) -> Corpus:
    stores = [part for part in parts if isinstance(part, StoreName)]
    if stores:
        return Corpus.concatenate([_open(store, tokenizer, asked) for store in stores])
    files = [part for part in parts if isinstance(part, Path)]
    given = None
    if isinstance(tokenizer, str) and tokenizer in TOKENIZER_NAMES:
        # The default asks for nothing.
        asked = asked if tokenizer == "char" else [*asked, "tokenizer"]
    else:
        given = take_tokenizer(tokenizer).given
    if asked:
        msg = f"{asked[0]} must be left out for {str(files[0])!r}, which holds tokens, no text"
        raise ArgumentError(msg)
    corpus = open_foreign(files, vocab_size=None if given is None else given.vocab_size)
    if given is None:
        return corpus
    if Identity.of(given).differs(corpus.identity):
        msg = (
            f"tokenizer must be the one that made the ids of {str(files[0])!r} "
            f"({corpus.identity}), got another ({Identity.of(given)}): leave tokenizer out"
        )
        raise ArgumentError(msg)
    return corpus if corpus.tokenizer is not None else corpus.with_tokenizer(given)


def find_parts(
    name: object, *, tokenizer: object = "char"
) -> "Sequence[StoreName] | Sequence[Path]":
    """Return the token file of a name, or the stores or token files that match a pattern.

    Empty if it is neither.

    Parameters
    ----------
    name : str or path
    tokenizer : object
        Byte tokens take a file of bare tokens for bytes.

    Raises
    ------
    ArgumentError
        A pattern matches something else.
    """
    if not isinstance(name, str | os.PathLike):
        return ()
    pattern = os.fspath(name)
    if find_entry(pattern):
        return ()
    if not glob.has_magic(pattern) or os.path.lexists(pattern):
        form = recognise_tokens(pattern)
        is_bytes = form == "bare tokens" and (
            tokenizer == "byte" or isinstance(tokenizer, ByteTokenizer)
        )
        return () if form is None or is_bytes else [Path(pattern)]
    matches = _match(pattern)
    if not matches:
        # Names of splits are no paths.
        folder, split = os.path.split(pattern)
        stores = [each for each in _match(folder) if is_store(each)]
        return [StoreName(store, split) for store in stores if not glob.has_magic(split)]
    if all(map(is_store, matches)):
        return [StoreName(store) for store in matches]
    wrong = [each for each in matches if not each.endswith(TOKEN_FILES)]
    if wrong:
        msg = (
            f"a pattern must match stores, or token files (.bin, .npy), got {pattern!r}, which "
            f"matches {wrong[0]!r}: of several texts 'tokenloom prepare' makes a store"
        )
        raise ArgumentError(msg)
    # Either of Megatron's two files means both.
    return [
        Path(each)
        for each in matches
        if not (each.endswith(".idx") and f"{each.removesuffix('.idx')}.bin" in matches)
    ]


def _match(pattern: str) -> list[str]:
    """Return what a pattern matches, but for what ``**`` matches beside stores and token files.

    Those are folders on the way, and the files of stores.
    """
    matches = match_pattern(pattern)
    if "**" not in pattern:
        return matches
    return [
        each
        for each in matches
        if is_store(each) or not (os.path.isdir(each) or is_store(os.path.dirname(each)))  # noqa: PTH112, PTH120
    ]


def _label(path: Path) -> str:
    """Return the name of a text file; a path that looks like a named text begins with ./."""
    return f"./{path}" if find_entry(str(path)) else str(path)


def _end_lines(documents: Iterable[Document]) -> list[str]:
    """Return the texts of documents, with a line end after each but the last."""
    texts = [document.text for document in documents]
    return [*(f"{text}\n" for text in texts[:-1]), *texts[-1:]]


def read_documents(name: str | os.PathLike[str], *, encoding: str = "utf-8") -> Iterator[Document]:
    """Yield the documents of a corpus by its name, or a text file as one document.

    Parameters
    ----------
    name : str or path
        See `load`.
    encoding : str
        How a text file is encoded.

    Yields
    ------
    Document
        A text and its metadata. Reviews of "imdb" have ``split``,
        ``number``, ``label`` and ``rating``.

    Raises
    ------
    ArgumentError
        The name is neither in the catalogue nor a file.
    ArchiveError, ChecksumError, DownloadError
        The text could not be fetched.
    CorpusError
        The text cannot be read or decoded.

    >>> [document.text[:14] for document in read_documents("python_docs")]
    ['The "assert" s']
    """
    found, encoding = find(name), find_encoding(encoding)
    if (documents := _documents(found)) is not None:
        yield from documents
    else:
        text = _read_text(found, encoding)
        yield Document(text=decode(text.content, name=text.name, encoding=text.encoding))


def find_named(name: object) -> Entry | None:
    """Return the entry of the catalogue that a name means, or None where it means a path.

    ``dataset:NAME`` always means an entry, and a `pathlib.Path`, or a str that
    begins with ``./``, always a path.

    Raises
    ------
    ArgumentError
        There are both an entry and a file or folder of that name; or there is no
        entry of the name after ``dataset:``.

    >>> find_named("dataset:python_docs").name, find_named("./python_docs")
    ('python_docs', None)
    """
    if not isinstance(name, str):
        return None
    if name.startswith(_DATASET) and not os.path.lexists(name):
        named = name.removeprefix(_DATASET)
        if entry := find_entry(named):
            return entry
        known = ", ".join(known_names())
        msg = f"{name!r} must be one of {known} after {_DATASET!r}, which it is not"
        msg += suggest(named, known_names())
        raise ArgumentError(msg)
    entry = find_entry(name)
    if entry is not None and os.path.lexists(name):
        raise _ambiguous(name, "folder" if os.path.isdir(name) else "file")  # noqa: PTH112
    return entry


def look_up(name: str | os.PathLike[str]) -> Entry | StoreName | None:
    """Return the entry of the catalogue or the store that a name means, or None for a path.

    See `find_named` and `find_store`, whose errors it raises.
    """
    return find_named(name) or find_store(name)


def _ambiguous(name: str, what: str) -> ArgumentError:
    what = "store" if is_store(name) else what
    msg = (
        f"{name!r} is both a text of 'tokenloom datasets' and a {what} here: write "
        f"{os.path.join(os.curdir, name)!r} for the {what}, "  # noqa: PTH118  Path drops the dot
        f"or '{_DATASET}{name}' for the text that has this name"
    )
    return ArgumentError(msg)


def find(name: str | os.PathLike[str]) -> Entry | Path:
    """Return the catalogue's entry of a name, or the path of an existing file.

    Raises
    ------
    ArgumentError
        It is neither, such as a store; or it is both, see `find_named`.
    """
    if entry := find_named(name):
        return entry
    if not isinstance(name, str | os.PathLike):
        msg = (
            f"a corpus must be named by a str or a path, got {show(name)}: Corpus.from_text and "
            "Corpus.from_documents take texts in memory, prepare a data set of another package"
        )
        raise ArgumentError(msg)
    # To Path an empty name is the current folder. See `download` for os.path.
    if os.path.isfile(name):  # noqa: PTH113
        return Path(name)
    if (store := find_store(name)) is not None:
        msg = (
            f"{str(store)!r} is a store, which holds tokens and no text: name a text of "
            "'tokenloom datasets' or a text file"
        )
        raise ArgumentError(msg)
    known = known_names()
    msg = (
        f"a corpus must be one of {', '.join(known)} or the path of a text file or a store, "
        f"got {show(os.fspath(name))}, which is neither: {_describe_none(name, known)}"
    )
    raise ArgumentError(msg)


def _describe_none(name: str | os.PathLike[str], known: list[str]) -> str:
    if os.path.isfile(os.path.join(name, "settings.json")):  # noqa: PTH113, PTH118  see above
        return "it is a run, which 'tokenloom show RUN --step N' shows with its text"
    if os.path.isdir(name):  # noqa: PTH112  see above
        folder = os.fspath(name)
        return (
            f"it is a folder: make a store of it, by 'tokenloom prepare {shlex.quote(folder)} -o "
            f"my-store' or tokenloom.prepare({folder!r}, 'my-store'), and name that"
        )
    if is_address(os.fspath(name)):
        return (
            "it is an address: make a store of what lies there, by 'tokenloom prepare ADDRESS -o "
            "my-store' or tokenloom.prepare, and name that"
        )
    return describe_missing(name, known)


def known_names() -> list[str]:
    """Return the names that `find_entry` knows, with those of splits."""
    names = []
    for entry in list_entries():
        splits = entry.source.splits if isinstance(entry.source, Archive) else ()
        names += [entry.name, *(f"{entry.name}/{split}" for split in splits)]
    return names


def read(entry: Entry) -> bytes:
    """Return the bytes of a named text that is no archive, downloaded if necessary.

    Raises
    ------
    ArchiveError, ChecksumError, DownloadError
        The text could not be fetched.
    CorpusError
        It cannot be read.
    """
    if not isinstance(entry.source, BuiltIn):
        return read_file(fetch(entry))
    content = entry.source.read()
    if not isinstance(content, bytes):
        msg = (
            f"read of {entry.name!r} must return bytes, got {type(content).__name__}: "
            "mend the entry"
        )
        raise CorpusError(msg)
    return content


class _Text(NamedTuple):
    """A text before it is decoded, and the name that messages use."""

    content: bytes
    encoding: str
    name: str


def _read_text(found: Entry | Path, encoding: str) -> _Text:
    if isinstance(found, Path):
        return _Text(read_text_file(found, encoding=encoding), encoding, _label(found))
    # Texts with a name are in UTF-8.
    return _Text(read(found), "utf-8", found.name)


def _documents(found: Entry | Path) -> Iterable[Document] | None:
    """Return the documents of an archive, or None for a source that is one text."""
    if isinstance(found, Entry) and isinstance(found.source, Archive):
        return found.source.read(fetch(found), found.source.splits[0])
    return None
