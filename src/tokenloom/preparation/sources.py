"""Names, patterns, folders, streams and iterables to files that can be read again."""

import contextlib
import functools
import glob
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, TypeAlias

from tokenloom._io.atomic import replacing
from tokenloom._io.compressed import (
    Stream,
    Undecodable,
    check_text,
    refuse_other_kinds,
)
from tokenloom._io.digest import hash_file
from tokenloom._io.kinds import (
    HEAD_BYTES,
    bare_suffix,
    holds_records,
    is_marker,
    recognise_piped,
    recognise_structure,
    refuse_unfit,
)
from tokenloom._io.regular import match_pattern
from tokenloom._io.remote import RemoteFile, find_remote, is_address
from tokenloom._wording import describe_missing, show
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.hub.cache import fetch
from tokenloom.hub.catalogue import Archive, BuiltIn, Entry, list_entries
from tokenloom.hub.load import TRAIN, StoreName, look_up, read
from tokenloom.hub.texts import RECORDS
from tokenloom.preparation.chunks import FORMS
from tokenloom.preparation.datasets import (
    DatasetRows,
    kind_of_dataset,
    name_dataset,
    read_rows,
    read_stream,
)
from tokenloom.preparation.forms import FormName, SourceFile
from tokenloom.preparation.tables import TableForm
from tokenloom.preparation.workdir import Part, WorkDir
from tokenloom.store.reader import is_store
from tokenloom.text.documents import Document, find_cure

SourceName: TypeAlias = str | os.PathLike[str]
Texts: TypeAlias = Iterable[str | Document]
# A dict for each document, of which the fields of the prompt and of the text are read.
Rows: TypeAlias = Iterable[Mapping[str, Any]]
Sources: TypeAlias = SourceName | Texts | Rows | list[Any] | tuple[Any, ...] | Mapping[str, Any]
DocumentsAre = Literal["file", "paragraph", "line", "jsonl"]
# What "jsonl" was called before. Stores hold this word, so that their bytes stay the same.
OlderWord = Literal["record"]

_READ_BYTES = 1 << 20
_STDIN = "-"
# The command line leaves this part of a message out.
_IN_MEMORY = "; texts in memory are passed as iter(texts)"
# Forms of files by the end of their name, before that of a compression.
_FORMS: dict[str, FormName] = {
    **dict.fromkeys(RECORDS, "record"),
    **dict.fromkeys((".csv", ".tsv"), "csv"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".arrow", ".feather"), "arrow"),
}
_NOTHING = hashlib.sha256().hexdigest()


# What a data set leaves beside its tables; tables of other names there are its caches.
_SAVED_DATASET = {"dataset_info.json", "state.json"}


class ResolvedSource(NamedTuple):
    """A source that was found.

    Attributes
    ----------
    name : str
    form : FormName
    origin : Path, RemoteFile, DatasetRows or callable
        A file, the rows of a data set, or a function that yields the bytes of a stream
        or an iterable, which is first copied to the work folder because it can be read
        only once.
    encoding : str
        Of its text.
    split : str or None
        The split that it was named for, where splits are named by their sources.
    """

    name: str
    form: FormName
    origin: Path | RemoteFile | DatasetRows | Callable[[], Iterator[bytes]]
    encoding: str = "utf-8"
    split: str | None = None


def resolve_sources(
    sources: Sources,
    *,
    documents: DocumentsAre | OlderWord,
    encoding: str = "utf-8",
    field: str = "text",
    prompt_field: str | None = None,
) -> list[ResolvedSource]:
    """Return the sources in their order; files of a folder or pattern are sorted.

    Parameters
    ----------
    sources : one source, a list or tuple of them, or a mapping of splits to such
        Those of the split "train" come first, then those of the others as they
        were given.
        A source is a str or a path: "-" for stdin, a name from the catalogue,
        a file, a folder, of which all files are taken that are not hidden, or
        a pattern with ``*``, ``?`` or ``**``, or an address such as
        ``s3://bucket/*.jsonl``; the files of a store are left out, and links to
        folders are not followed. Any other iterable yields the texts of documents.
    documents : "file", "paragraph", "line" or "jsonl"
        The documents of a text. Files that end with .jsonl or .ndjson,
        before the end of a compressed file, always hold records, and so do
        those that end with .json and have an object on each line. Those that
        end with .csv, .tsv, .parquet, .pq, .arrow or .feather are tables.
    encoding : str
        Of files and stdin; see `tokenloom._io.compressed.find_encoding`.
    field : str
        Which column of a data set of Hugging Face holds the text.
    prompt_field : str, optional
        Which column holds a prompt. Any other iterable then yields dicts with both.

    Raises
    ------
    ArgumentError
        A name is none of these, nothing fits a pattern, or a split has no source
        or shares one with another split.
    ArchiveError, ChecksumError, DownloadError
        A named text could not be fetched.
    """
    form = form_of(documents)
    found = [
        one._replace(split=split)
        for split, each in _list_splits(sources)
        for source in each
        for one in _find(source, form, encoding, list_fields(field, prompt_field))
    ]
    _refuse_shared(found)
    if not found:
        msg = "sources must be at least one file, folder, name or iterable, got none"
        raise ArgumentError(msg)
    if sum(one.name == _STDIN for one in found) > 1:
        msg = "sources must hold '-', stdin, once at most"
        raise ArgumentError(msg)
    return found


def _list_splits(sources: Sources) -> list[tuple[str | None, Sequence[Any]]]:
    """Return the sources of each split, "train" first; or all sources without a split."""
    if not isinstance(sources, Mapping):
        return [(None, sources if isinstance(sources, list | tuple) else [sources])]
    splits = []
    for name, given in sources.items():
        each = given if isinstance(given, list | tuple) else [given]
        if not isinstance(name, str) or not name or not each:
            msg = (
                "sources must be a mapping of names of splits to at least one source each, got "
                f"{show(given)} for {show(name)}"
            )
            raise ArgumentError(msg)
        check_split_name(name)
        splits.append((name, each))
    # The training split comes first: the vocabulary is counted over it.
    return sorted(splits, key=lambda split: split[0] != TRAIN)


def check_split_name(name: str) -> None:
    """Refuse a name of a split that cannot be opened as STORE/SPLIT.

    Raises
    ------
    ArgumentError
        It is such a name.

    >>> check_split_name("valid")
    """
    if name in ("", ".", "..", "held-out") or any(sign in name for sign in "/\\\0"):
        msg = (
            "splits must have names that can be opened as STORE/SPLIT, without slashes, and other "
            f"than '.', '..' and 'held-out', got {show(name)}: choose another, such as 'valid'"
        )
        raise ArgumentError(msg)


def _refuse_shared(found: list[ResolvedSource]) -> None:
    """Refuse a file that is in two splits: one of them may be for measuring."""
    splits: dict[Path | RemoteFile, str | None] = {}
    for one in found:
        if one.split is None or not isinstance(one.origin, Path | RemoteFile):
            continue
        where = one.origin.resolve() if isinstance(one.origin, Path) else one.origin
        other = splits.setdefault(where, one.split)
        if other != one.split:
            msg = (
                f"a source must be in one split, {one.name} is in {other!r} and in "
                f"{one.split!r}: leave it out of one of them"
            )
            raise ArgumentError(msg)


def form_of(documents: DocumentsAre | OlderWord) -> FormName:
    """Return the word that a store uses for these documents.

    >>> form_of("jsonl"), form_of("record"), form_of("file")
    ('record', 'record', 'file')
    """
    return "record" if documents == "jsonl" else documents


def list_fields(field: str, prompt_field: str | None) -> tuple[str, ...]:
    """Return the fields that hold the texts of a document, in their order.

    >>> list_fields("completion", "prompt")
    ('prompt', 'completion')
    """
    return (field,) if prompt_field is None else (prompt_field, field)


def _find(
    source: Any, documents: FormName, encoding: str, fields: tuple[str, ...]
) -> Iterator[ResolvedSource]:
    if not isinstance(source, str | os.PathLike):
        _refuse_no_texts(source)
        yield from _find_texts(source, fields)
        return
    name = os.fspath(source)
    if name == _STDIN:
        read_stdin = functools.partial(_read_stdin, documents, encoding)
        yield ResolvedSource(_STDIN, documents, read_stdin, encoding)
    elif not os.path.lexists(name) and is_address(name):
        for remote in find_remote(name):
            form = _find_form(remote, documents, encoding)
            yield ResolvedSource(remote.as_posix(), form, remote, encoding)
    elif (known := look_up(source)) is not None:
        if isinstance(known, StoreName):
            what = "a store" if known.split is None else "a split of a store"
            msg = f"{name!r} is {what} already: its sources are what can be prepared"
            raise ArgumentError(msg)
        yield _find_entry(known, documents)
    else:
        for path in _find_files(name):
            form = _find_form(path, documents, encoding)
            yield ResolvedSource(path.as_posix(), form, path, encoding)


def _refuse_no_texts(source: object) -> None:
    """Refuse a value that is no iterable of texts, or would yield other texts than were meant.

    Raises
    ------
    ArgumentError
        The value is one of these.
    """
    cure = find_cure(source)
    match source:
        case Mapping():
            # Its keys would be texts.
            cure = "a mapping of splits stands alone, and of one with texts pass the values"
        case list() | tuple() if not source:
            cure = "leave out an empty one"
        case Iterable() if cure is None and not isinstance(source, bytes | bytearray | memoryview):
            return
    msg = f"a source must be a name, a path or an iterable of texts, got {show(source)}"
    raise ArgumentError(msg if cure is None else f"{msg}: {cure}")


def _find_texts(source: Any, fields: tuple[str, ...]) -> Iterator[ResolvedSource]:
    """Yield the source of a data set or another iterable of texts."""
    has_prompts = len(fields) > 1
    match kind_of_dataset(source):
        case "Dataset":
            rows = DatasetRows(source, *fields)
            yield ResolvedSource(rows.name, "dataset", rows)
        case "IterableDataset" if has_prompts:
            pairs = functools.partial(_write_pairs, read_rows(source, *fields), fields)
            yield ResolvedSource(name_dataset(source), "record", pairs)
        case "IterableDataset":
            name, (field,) = name_dataset(source), fields
            yield ResolvedSource(name, "string", lambda: _write_texts(read_stream(source, field)))
        case _ if has_prompts:
            write = functools.partial(_write_pairs, source, fields)
            yield ResolvedSource("iterable", "record", write)
        case _:
            write = functools.partial(_write_texts, source)
            yield ResolvedSource("iterable", "string", write)


def _find_form(path: Path | RemoteFile, documents: FormName, encoding: str) -> FormName:
    suffix = bare_suffix(path.name)
    if suffix in _FORMS:
        return _FORMS[suffix]
    # C4 and others name files of objects, one on each line, like single documents.
    if suffix == ".json":
        name = path.as_posix()
        with Stream(path, name=name, encoding=encoding, undecodable="replace") as stream:
            text = stream.read(_READ_BYTES).decode("utf-8", "replace")
            if holds_records(text, fewest=1):
                return "record"
    return documents


def check_kinds(
    found: list[ResolvedSource], *, field: str = "text", prompt_field: str | None = None
) -> None:
    """Refuse files that are no texts, before anything else is done.

    Parameters
    ----------
    found : list of ResolvedSource
    field : str
        Which column of a table holds the text.
    prompt_field : str, optional
        Which column holds a prompt.

    Raises
    ------
    ArgumentError
        A prompt is to be read of a source that has no fields.
    CorpusError
        A file cannot be read, or is something else; the message names its kind and
        the cure.
    """
    fields = list_fields(field, prompt_field)
    for one in found:
        form, origin = FORMS[one.form], one.origin
        if prompt_field is not None and not form.has_field:
            msg = (
                f"prompt_field must be left out where a source has no fields, as the text "
                f"{one.name}: prompts come from JSON Lines, tables and data sets"
            )
            raise ArgumentError(msg)
        if isinstance(origin, DatasetRows):
            form.check(_open_rows(one.name, origin), *fields)
        if not isinstance(origin, Path | RemoteFile):
            continue
        if not isinstance(form, TableForm):
            head = check_text(origin, name=one.name, encoding=one.encoding)
            _check_structure(head, one.name, one.form, one.encoding)
        if form.has_field:
            source = SourceFile(name=one.name, path=origin, form=one.form, encoding=one.encoding)
            form.check(source, *fields)


def _open_rows(name: str, rows: DatasetRows) -> SourceFile:
    num_bytes, num_rows = rows.status()
    # No file has such a name.
    return SourceFile(
        name=name,
        path=Path("\0"),
        form="dataset",
        num_bytes=num_bytes,
        changed_ns=num_rows,
        rows=rows,
    )


def _check_structure(head: bytes, name: str, form: FormName, encoding: str) -> None:
    if FORMS[form].has_field:
        return
    text = head.decode(encoding, "replace")
    kind = recognise_structure(text, name=name, is_one=form == "file")
    if kind is None and name == _STDIN and not (form == "paragraph" and holds_records(text)):
        kind = recognise_piped(text)
    if kind is not None:
        msg = f"{name} must be a text, but it is {kind.name}: {kind.cure}"
        raise CorpusError(msg)


def _find_entry(entry: Entry, documents: FormName) -> ResolvedSource:
    match entry.source:
        case BuiltIn():
            return ResolvedSource(entry.name, documents, lambda: iter([read(entry)]))
        case Archive(read=read_split, splits=splits):
            folder = fetch(entry)
            texts = functools.partial(read_split, folder, splits[0])
            return ResolvedSource(entry.name, "string", lambda: _write_texts(texts()))
        case _:
            return ResolvedSource(entry.name, documents, fetch(entry))


def _find_files(name: str) -> list[Path]:
    # os.path returns False for a name that no file can have; Path raises.
    if os.path.isdir(name):  # noqa: PTH112
        paths = _list_files(name)
    elif os.path.isfile(name):  # noqa: PTH113
        return [Path(name)]
    elif os.path.exists(name):  # noqa: PTH110
        msg = (
            f"a source must be a regular file, got {show(name)}, which is read once only: pipe it "
            "to stdin, and name '-'"
        )
        raise ArgumentError(msg)
    elif name and glob.has_magic(name):
        matches = map(Path, match_pattern(name))
        paths = [path for path in matches if path.is_file() and not is_store(path.parent)]
    else:
        missing = describe_missing(name, (entry.name for entry in list_entries()))
        msg = (
            "a source must be a file, a folder, a pattern, '-' or a name from 'tokenloom "
            f"datasets', got {show(name)}, which is none{_IN_MEMORY}; {missing}"
        )
        raise ArgumentError(msg)
    paths = [path for path in paths if not is_marker(path.name, functools.partial(_head, path))]
    if not paths:
        is_text = not os.path.isdir(name)  # noqa: PTH112  see above
        msg = (
            f"the source {show(name)} must hold at least one file that is not hidden, got none"
            f"{_IN_MEMORY if is_text else ''}"
        )
        raise ArgumentError(msg)
    refuse_unfit(show(name), (path.parts for path in paths), Path(name).parts)
    return sorted(paths, key=lambda path: path.parts)


def _list_files(folder: str) -> list[Path]:
    try:
        return list(_walk(Path(folder)))
    except OSError as error:
        at = error.filename or folder
        msg = f"cannot read the folder {str(at)!r}: {error.strerror or error}"
        raise CorpusError(msg) from error


def _head(path: Path) -> bytes | None:
    # What cannot be read is refused where it is opened.
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(4)
    return None


def _walk(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as found:
        entries = [entry for entry in found if not entry.name.startswith(".")]
    if {entry.name for entry in entries} >= _SAVED_DATASET:
        tables = (folder / "data-*.arrow").as_posix()
        msg = (
            f"a source must hold texts or tables, got the folder {show(folder.as_posix())} of a "
            f"saved data set of Hugging Face: name its tables, {show(tables)}"
        )
        raise ArgumentError(msg)
    for entry in entries:
        path = folder / entry.name
        if entry.is_dir(follow_symlinks=False):
            # The store that is being made may be in the folder of its sources.
            if not is_store(path):
                yield from _walk(path)
        # An entry most often knows already whether it is a file; a link may lead to itself.
        elif path.is_file() if entry.is_symlink() else entry.is_file():
            yield path


def _read_stdin(documents: FormName, encoding: str) -> Iterator[bytes]:
    if sys.stdin is None:
        msg = "the source '-' must be an open stdin, got a closed one: pipe a text to it"
        raise ArgumentError(msg)
    is_first = True
    while piece := sys.stdin.buffer.read(_READ_BYTES):
        if is_first:
            refuse_other_kinds(piece[:HEAD_BYTES], name=_STDIN, encoding=encoding)
            _check_structure(piece[:HEAD_BYTES], _STDIN, documents, encoding)
            is_first = False
        yield piece


def _write_texts(texts: Texts) -> Iterator[bytes]:
    """Yield texts as JSON strings, one per line."""
    for number, document in enumerate(texts):
        text: object = document
        if isinstance(document, Document):
            text = document.text
            if document.prompt is not None:
                msg = (
                    f"document {number} of an iterable must have no prompt, which would be left "
                    "out: name the prompts with prompt_field, as in PrepareOptions("
                    "prompt_field='prompt')"
                )
                raise ArgumentError(msg)
        # Data sets have null values, which on_error deals with.
        if text is not None and not isinstance(text, str):
            cure = (
                ": give its text alone, or name its fields with prompt_field= and field="
                if isinstance(text, Mapping)
                else ""
            )
            msg = f"document {number} of an iterable must be a str, got {type(text).__name__}{cure}"
            raise ArgumentError(msg)
        yield json.dumps(text).encode("ascii") + b"\n"


def _write_pairs(rows: Iterable[object], fields: tuple[str, ...]) -> Iterator[bytes]:
    """Yield rows as JSON objects with these fields, one per line."""
    for number, row in enumerate(rows):
        if isinstance(row, Document):
            row = dict(zip(fields, (row.prompt or "", row.text), strict=True))  # noqa: PLW2901
        if not isinstance(row, Mapping) or not all(field in row for field in fields):
            names = " and ".join(map(repr, fields))
            msg = f"document {number} of an iterable must be a dict with {names}, got {show(row)}"
            raise ArgumentError(msg)
        pair = {field: row[field] for field in fields}
        wrong = [text for text in pair.values() if not isinstance(text, str | None)]
        if wrong:
            what = type(wrong[0]).__name__
            msg = f"document {number} of an iterable must have texts of the type str, got {what}"
            raise ArgumentError(msg)
        yield json.dumps(pair).encode("ascii") + b"\n"


def describe(
    found: list[ResolvedSource], *, field: str = "text", prompt_field: str | None = None
) -> dict[str, Any]:
    """Return facts about each source, by name, that are compared at a resume: JSON-able.

    Parameters and errors are those of `check_kinds`, which is asked first.
    """
    check_kinds(found, field=field, prompt_field=prompt_field)
    described = {}
    for number, one in enumerate(found):
        name = f"{one.name} ({number})" if one.name in described else one.name
        described[name] = {"number": number, "form": one.form, **_describe_file(one)}
    return described


def _describe_file(found: ResolvedSource) -> dict[str, int]:
    origin = found.origin
    if isinstance(origin, DatasetRows):
        num_bytes, num_rows = origin.status()
        return {"num_bytes": num_bytes, "num_rows": num_rows}
    if not isinstance(origin, Path | RemoteFile):
        return {}
    num_bytes, changed_ns = stat(origin)
    return {"num_bytes": num_bytes, "changed_ns": changed_ns}


def open_sources(
    found: list[ResolvedSource], work: WorkDir, *, undecodable: Undecodable = "stop"
) -> list[SourceFile]:
    """Return the files to read; sources that can be read only once are copied first.

    Parameters
    ----------
    found : list of ResolvedSource
    work : WorkDir
    undecodable : "stop", "replace" or "mark"
        See `tokenloom._io.compressed.Stream`.

    Raises
    ------
    CorpusError
        A file is gone, or a stream differs from that of the interrupted run.
    OSError
        The work folder cannot be written to.
    """
    return [_open(one, index, work, undecodable) for index, one in enumerate(found)]


def hash_content(content: Iterable[bytes], *, to: BinaryIO | None = None) -> str:
    """Return the SHA-256 of a stream or an iterable, and write its bytes if asked for."""
    digest = hashlib.sha256()
    for piece in content:
        digest.update(piece)
        if to is not None:
            to.write(piece)
    return digest.hexdigest()


def _open(found: ResolvedSource, index: int, work: WorkDir, undecodable: Undecodable) -> SourceFile:
    path = found.origin
    if isinstance(path, DatasetRows):
        return _open_rows(found.name, path)
    if not isinstance(path, Path | RemoteFile):
        read, path = path, work.path / f"source-{index:07}"
        _keep(found.name, read, index, work, path)
    num_bytes, changed_ns = stat(path)
    return SourceFile(
        name=found.name,
        path=path,
        form=found.form,
        num_bytes=num_bytes,
        changed_ns=changed_ns,
        encoding=found.encoding,
        undecodable=undecodable,
        copies=(work, index),
    )


def _keep(
    name: str, read: Callable[[], Iterator[bytes]], index: int, work: WorkDir, path: Path
) -> None:
    kept = work.read("kept", index)
    is_file = path.is_file() and not path.is_symlink()
    if kept is not None and not (is_file and hash_file(path) == f"sha256:{kept.facts['sha256']}"):
        kept = None
    if kept is not None and not work.has_failed:
        again = hash_content(read())
        # A stream that was read to its end cannot be read again.
        if again not in (kept.facts["sha256"], _NOTHING):
            msg = (
                f"{name} must be what it was in the run that was interrupted, got other "
                f"bytes: pass the same again, or remove {work.path}"
            )
            raise CorpusError(msg)
        return
    new = work.path / f"new-{path.name}.part"
    with replacing(new) as temporary, temporary.open("wb") as file:
        digest = hash_content(read(), to=file)
    if kept is not None:
        if digest in (kept.facts["sha256"], _NOTHING):
            new.unlink()
            return
        # After an error the user may have mended the stream.
        work.remove_parts()
    new.replace(path)
    work.write("kept", index, Part({"sha256": digest}, []))


def stat(path: Path | RemoteFile) -> tuple[int, int]:
    """Return size in bytes and time of the last change, in ns, of a source.

    Raises
    ------
    CorpusError
        There is no such file any more.
    """
    if isinstance(path, RemoteFile):
        return path.status()
    try:
        status = path.stat()
    except OSError as error:
        msg = f"cannot read {str(path)!r}: {error.strerror or error}"
        raise CorpusError(msg) from error
    return status.st_size, status.st_mtime_ns
