"""Where a token of a corpus came from: its source, document and character."""

import contextlib
import weakref
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenloom._checks import as_flag, as_integers, require_type
from tokenloom._io.compressed import find_encoding
from tokenloom._io.remote import RemoteFile, is_address
from tokenloom._wording import show
from tokenloom.corpus.corpus import Corpus
from tokenloom.corpus.offsets import DocumentOffsets
from tokenloom.errors import ArgumentError, CorpusError, StoreError, TokenloomError, UsageError
from tokenloom.preparation.chunks import FORMS, cut_chunks
from tokenloom.preparation.encode import find_segments
from tokenloom.preparation.forms import Cursor, Cutting, FormName, Reading, Slice, SourceFile
from tokenloom.preparation.options import choose_undecodable
from tokenloom.preparation.texts import TextForm
from tokenloom.store.manifest import (
    MANIFEST,
    NUM_PLACE_FIELDS,
    OFFSETS,
    PLACES,
    Preparation,
    Source,
)
from tokenloom.store.memmap import FileIdentity, FileRange, confirm, open_range
from tokenloom.store.npy import HEADER_BYTES
from tokenloom.store.reader import CURE, Store, open_store
from tokenloom.store.verify import find_wrong_place
from tokenloom.text.documents import TextSegment
from tokenloom.text.ids import Offsets
from tokenloom.text.interface import CompleteTokenizer, Places

# Counting the lines of this number of bytes takes about a second.
_MOST_COUNTED = 1 << 30
_READ_BYTES = 1 << 20
# Where the tokens of shorter segments begin is found again for each token.
_MANY_TOKENS = 1 << 10
_MARK_EVERY = 1 << 8


class Trace(NamedTuple):
    """Where a token came from.

    Attributes
    ----------
    source : str or None
        The name of the source when the store was prepared. For a corpus that was
        not prepared None; but for a part of a concatenation the name of that part.
    document : int
        Which document, from 0: of the store, or of the corpus where that was
        not prepared; of a concatenation, in the part that the token lies in.
    character : int or None
        Which character of the document's text the token begins with, from 0, a
        prompt before it included; which byte, where bytes are tokens. None where
        that is not known: the source is gone, was changed, was a stream, or lies at
        an address that may not be opened; the tokenizer came from elsewhere; the
        package that reads or encodes the text is not installed; or the token
        stands for the end of a document.
    line : int or None
        Which line of the source holds the document, from 1, where each line is
        a document; and where documents were left out also of JSON Lines, and of
        CSV the line in which the record begins. None of other sources. Where
        documents were left out the lines before are counted: None beyond the
        first gigabyte of a source, and at an address; and where the character
        is None.
    row : int or None
        Which row of a table holds the document, from 0 and without the header.
        None of other sources; where the character is None, but for CSV; and of
        CSV where rows were left out, which has the line.
    row_group : int or None
        Which row group of Parquet, or record batch of Arrow, holds that row.
    """

    source: str | Any
    document: int
    character: int | None
    line: int | None = None
    row: int | None = None
    row_group: int | None = None


def trace(corpus: Corpus, token: int, *, remote: bool = True) -> Trace | Any:
    """Return where a token came from, or None where that is not known.

    Of a store that `tokenloom.prepare` made this is the source, the document
    and the character, for which a chunk of the source is read and tokenised
    again; of a compressed source all that comes before is read, too. A source
    that has changed is not read. Of any other corpus with documents it is
    the document, and of one that was concatenated what is known of the part that
    the token lies in. What was read is kept for the next token of the same corpus.

    Parameters
    ----------
    corpus : Corpus
    token : int
        In [0, len(corpus)).
    remote : bool
        Whether to open a source that lies at an address, such as one of S3, with
        your credentials. Use False for a store from elsewhere, which may name any
        address; then the character of its tokens is None.

    Raises
    ------
    ArgumentError
        There is no such token, or the first argument is no corpus.
    StoreError
        The store that the corpus lies in cannot be used any more, or was changed
        since the corpus was opened.

    >>> trace(Corpus.from_tokens([5, 6, 7], documents=[0, 1, 3]), 2).document
    1
    """
    require_type("corpus", corpus, Corpus, "a Corpus (Corpus.open opens a store)")
    (token,) = as_integers(token=token)
    remote = as_flag("remote", remote)
    if not 0 <= token < len(corpus):
        msg = f"a token must be in [0, {len(corpus)}), got {show(token)}"
        raise ArgumentError(msg)
    if corpus.parts:
        part, number = corpus.find_part(token)
        found = trace(part, number, remote=remote) or Trace(part.name, 0, None)
        return found if found.source is not None else found._replace(source=part.name)
    if corpus.origin is not None:
        corpus.check_files()
        prepared = _open_prepared(corpus, Path(corpus.origin.path))
        if prepared is not None:
            return prepared.trace(corpus.origin.start + token, remote=remote)
    documents = corpus.document_offsets
    return None if documents is None else Trace(None, documents.number(token), None)


# How much text is kept for the next tokens.
_KEPT_BYTES = 1 << 26

# What was opened to trace tokens of a corpus, and the identity of the manifest at that time. An
# entry is dropped together with its corpus.
_OPENED: weakref.WeakKeyDictionary[Corpus, tuple[FileIdentity, "_PreparedStore | _Saved | None"]]
_OPENED = weakref.WeakKeyDictionary()


def _open_prepared(corpus: Corpus, path: Path) -> "_PreparedStore | _Saved | None":
    """Return the store of a corpus, opened once, or None where it has no sources."""
    manifest = path / MANIFEST
    # If the manifest is gone, open_store raises.
    now = FileIdentity.of(manifest.stat()) if manifest.exists() else None
    identity, prepared = _OPENED.get(corpus, (None, None))
    if now is None or identity != now:
        store = open_store(path)
        preparation, offsets = store.manifest.preparation, store.documents()
        prepared = None
        if preparation is not None and offsets is not None:
            prepared = _PreparedStore(store, preparation, offsets)
        elif store.manifest.sources and offsets is not None:
            prepared = _Saved(DocumentOffsets(offsets), store.manifest.sources)
        _OPENED[corpus] = FileIdentity.of(manifest.stat()) if now is None else now, prepared
    return prepared


class _KeptPlaces:
    """Where the tokens of a segment begin: of most texts in a byte for each token.

    Parameters
    ----------
    places : int64 array, shape (num_tokens,)
    """

    def __init__(self, places: npt.NDArray[np.int64]) -> None:
        steps = np.diff(places, prepend=0)
        bounds = (int(steps.min()), int(steps.max())) if len(steps) else (0, 0)
        # Places such as [0, 3, 7, 9] are the steps [0, 3, 4, 2], and of every second one [0, 7].
        self._steps = steps.astype(np.result_type(*map(np.min_scalar_type, bounds)))
        self._marks = places[::_MARK_EVERY].copy()

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, index: int) -> int:
        mark, rest = divmod(index, _MARK_EVERY)
        steps = self._steps[index + 1 - rest : index + 1]
        return int(self._marks[mark]) + int(steps.sum(dtype=np.int64))


class _ReadChunk(NamedTuple):
    """A chunk of a preparation that was read and tokenised again.

    Attributes
    ----------
    first : int
        Its first token, of the store.
    num_tokens : int
        With those that stand for the end of a document.
    marks : int64 array, shape (num_marks,)
        Which of its tokens, from 0, stand for the end of a document.
    segments : list of TextSegment
    stops : int64 array, shape (num_segments,)
        How many tokens come before the end of each segment, without marks.
    befores : list of int
        How many characters of its document come before each segment.
    slices : list of Slice
        The slice that each segment lies in; without its content, unless lines are known.
    knows_lines : bool
        Whether the lines before the chunk were counted.
    places : dict of int to places
        Where the tokens of long segments begin, of those that were asked for.
    """

    first: int
    num_tokens: int
    marks: npt.NDArray[np.int64]
    segments: list[TextSegment]
    stops: npt.NDArray[np.int64]
    befores: list[int]
    slices: list[Slice]
    knows_lines: bool
    places: dict[int, "_KeptPlaces"]

    def find(self, token: int, tokenizer: CompleteTokenizer) -> dict[str, int]:
        """Return with which character of its document a token of the store begins.

        For a table also the row of that document.
        """
        at = token - self.first
        if at >= self.num_tokens or at in self.marks:
            return {}
        at -= int(np.searchsorted(self.marks, at))
        index = int(np.searchsorted(self.stops, at, side="right"))
        at -= int(self.stops[index - 1]) if index else 0
        places = self._find_places(index, tokenizer)
        if places is None or at >= len(places):
            return {}
        inside = int(places[at])
        piece, offset = self.slices[index], self.segments[index].offset
        return {
            "character": self.befores[index] + inside,
            **FORMS[piece.form].place(piece, offset),
        }

    def _find_places(
        self, index: int, tokenizer: CompleteTokenizer
    ) -> "Places | _KeptPlaces | None":
        """Return where the tokens of a segment begin, which is kept of a long one."""
        if index in self.places:
            return self.places[index]
        places = tokenizer.find_characters(self.segments[index])
        if not isinstance(places, np.ndarray) or len(places) < _MANY_TOKENS:
            return places
        self.places[index] = _KeptPlaces(places)
        return self.places[index]


class _KeptChunk(NamedTuple):
    """A chunk that was read, with the identities of its sources at that time."""

    identities: list[FileIdentity]
    chunk: _ReadChunk


class _Saved(NamedTuple):
    """A store that was saved of corpora with sources.

    Attributes
    ----------
    documents : DocumentOffsets
    sources : sequence of Source
    """

    documents: DocumentOffsets
    sources: Sequence[Source]

    def trace(self, token: int, *, remote: bool) -> Trace:
        """Return the source and the document of a token, since no more is known."""
        del remote
        document = self.documents.number(token)
        source = _find_source(
            np.cumsum([one.num_documents for one in self.sources], dtype=np.int64), document
        )
        return Trace(self.sources[source].name, document, None)


def _find_source(stops: npt.NDArray[np.int64], document: int) -> int:
    """Return the source of a document, from the number of documents up to each source's end."""
    # Of sources with 2, 0 and 3 documents the stops are 2, 2 and 5: document 2 is the third's.
    return int(np.searchsorted(stops, document, side="right"))


class _PreparedStore:
    """A store that a preparation made, with the parts that tracing reads repeatedly.

    Parameters
    ----------
    store : Store
    preparation : Preparation
    offsets : int64 array, shape (num_documents + 1,)
    """

    def __init__(self, store: Store, preparation: Preparation, offsets: Offsets) -> None:
        self._preparation = preparation
        # Whether each document of the sources is there.
        self._is_whole = preparation.on_error != "skip" or not any(
            not problem.startswith("the reserved ") for problem in preparation.problems
        )
        self._tokens = store.tokens()
        self._documents = DocumentOffsets(offsets)
        self._sources = store.manifest.sources
        self._source_stops = np.cumsum(
            [source.num_documents for source in self._sources], dtype=np.int64
        )
        self._tokenizer = store.tokenizer()
        if self._tokenizer is not None:
            self._places = _read_places(store)
            self._files = _list_files(self._sources, preparation, self._tokenizer)
        # How many line ends of a source come before an offset: the last that were counted.
        self._counted = (-1, 0), 0
        # The last chunks that were read, the newest at the end. It is never changed but replaced,
        # since several threads may trace.
        self._kept: dict[int, _KeptChunk] = {}
        # The last sources of which no chunk came.
        self._failed: tuple[int, list[FileIdentity]] | None = None

    def trace(self, token: int, *, remote: bool) -> Trace:
        """Return where a token of the store came from."""
        document = self._documents.number(token)
        source = _find_source(self._source_stops, document)
        found: dict[str, int] = {}
        chunk = None
        if self._tokenizer is not None:
            chunk = self._read_chunk(self._tokenizer, token, source, remote=remote)
            found = {} if chunk is None else chunk.find(token, self._tokenizer)
        form = self._preparation.forms[source]
        if chunk is None or not chunk.knows_lines:
            found.pop("line", None)
        # Where none was left out, as many lines or rows come before as documents.
        if form in ("line", "csv", "dataset") and self._is_whole:
            number = document - int(self._source_stops[source - 1] if source else 0)
            found |= {"line": number + 1} if form == "line" else {"row": number}
        return Trace(self._sources[source].name, document, found.pop("character", None), **found)

    def _read_chunk(
        self, tokenizer: CompleteTokenizer, token: int, source: int, *, remote: bool
    ) -> _ReadChunk | None:
        """Return the chunk of a token, read at least to the end of a source.

        None where that source, or one that has to be read, is not as it was.
        """
        index = int(np.searchsorted(self._places[:, 0], token, side="right")) - 1
        first_source = int(self._places[index, 1])
        position = source - first_source
        kept = self._kept.get(index)
        if kept is not None and position < len(kept.identities):
            # Sources before this one may have changed since they were read; this one has not.
            now = self._identify_all(range(source, source + 1), source, remote=remote)
            if now == [kept.identities[position]]:
                return kept.chunk
        files = range(first_source, self._last_source(index) + 1)
        identities = self._identify_all(files, source, remote=remote)
        asked = index, identities[: position + 1]
        if position >= len(identities) or asked == self._failed:
            return None
        chunk = None
        # The sources after it, which other tokens of the chunk lie in, may hold another text.
        for num_sources in sorted({len(identities), position + 1}, reverse=True):
            # Where a package is missing, the source and the document are known all the same.
            with contextlib.suppress(CorpusError, UsageError):
                chunk = self._encode_again(tokenizer, index, first_source + num_sources - 1)
            if chunk is not None:
                break
        if chunk is None:
            self._failed = asked
            return None
        newest = {**self._kept, index: _KeptChunk(identities[:num_sources], chunk)}
        num_kept = max(_KEPT_BYTES // self._preparation.task_bytes, 1)
        self._kept = dict(list(newest.items())[-num_kept:])
        return chunk

    def _last_source(self, index: int) -> int:
        """Return the last source that a chunk reads."""
        if index + 1 == len(self._places):
            return len(self._sources) - 1
        _, *cursor, _ = self._places[index + 1].tolist()
        # Another one begins with the next chunk.
        return Cursor(*cursor).source - (Cursor(*cursor).offset == 0)

    def _identify_all(self, numbers: range, needed: int, *, remote: bool) -> list[FileIdentity]:
        """Return the identities of some sources, up to the first that has changed.

        Sources at an address are identified only up to the one that is needed, since
        each costs a request, and not at all without ``remote``.
        """
        identities: list[FileIdentity] = []
        for number in numbers:
            path = self._files[number].path
            if isinstance(path, RemoteFile) and (not remote or number > needed):
                break
            try:
                identity = _identify(path)
            # Some sources have names that no file can have.
            except (OSError, ValueError, TokenloomError):
                break
            if identity.num_bytes != self._sources[number].num_bytes:
                break
            identities.append(identity)
        return identities

    def _encode_again(
        self, tokenizer: CompleteTokenizer, index: int, source: int
    ) -> _ReadChunk | None:
        """Return a chunk of the preparation, or None where the store holds other tokens.

        Raises
        ------
        CorpusError
            A source cannot be read.
        UsageError
            The package that reads it, or that encodes its text, is not installed.
        """
        preparation = self._preparation
        first, *cursor, before = self._places[index].tolist()
        cutting, reading = _read_as(preparation, tokenizer)
        line = None if self._is_whole else self._count_lines(*cursor[:2])
        start = Cursor(*cursor)._replace(line=line or 0)
        chunks = cut_chunks(self._files[: source + 1], cutting, start=start)
        with contextlib.closing(chunks):
            slices = next(chunks).slices
        segments: list[TextSegment] = []
        slice_of: list[Slice] = []
        for piece in slices:
            segments.extend(find_segments(piece, reading, Counter()))
            # Its content is needed only to count lines.
            light = piece._replace(content=b"") if line is None else piece
            slice_of.extend([light] * (len(segments) - len(slice_of)))
        ids, stops = tokenizer.encode_segments(segments)
        marks = np.empty(0, np.int64)
        if preparation.end_id is not None:
            # Documents that end after 2 and 3 of [7, 8, 9] are [7, 8, end, 9, end]: marks 2 and 4.
            ends = stops[[segment.ends for segment in segments]]
            marks = ends + np.arange(len(ends), dtype=np.int64)
        num_tokens = len(ids) + len(marks)
        confirm(self._tokens)
        stored = self._tokens[first : first + num_tokens]
        if len(stored) != num_tokens or not np.array_equal(np.delete(stored, marks), ids):
            return None
        if (stored[marks] != preparation.end_id).any():
            return None
        befores = []
        for segment in segments:
            befores.append(before)
            before = 0 if segment.ends else before + len(segment.text)
        return _ReadChunk(
            first, num_tokens, marks, segments, stops, befores, slice_of, line is not None, {}
        )

    def _count_lines(self, source: int, offset: int) -> int | None:
        """Return how many line ends come before an offset, or None where it takes too long.

        Raises
        ------
        CorpusError
            The source cannot be read.
        """
        file = self._files[source]
        form = FORMS[file.form]
        if offset and (
            not isinstance(form, TextForm)
            or isinstance(file.path, RemoteFile)
            or offset > _MOST_COUNTED
        ):
            return None
        # Read once, since another thread may replace it.
        (of_source, position), line = self._counted
        if of_source != source or position > offset:
            position = line = 0
        if position < offset:
            with form.open(file, offset=position) as stream:
                while piece := stream.read(min(offset - position, _READ_BYTES)):
                    line += piece.count(b"\n")
                    position += len(piece)
        self._counted = (source, offset), line
        return line


def _locate(name: str, form: FormName) -> Path | RemoteFile:
    if form == "dataset":
        # A data set is no file, even if there is a file of its name.
        return Path("\0")
    return RemoteFile(name) if is_address(name) else Path(name)


def _read_as(preparation: Preparation, tokenizer: CompleteTokenizer) -> tuple[Cutting, Reading]:
    """Return how the sources of a store were cut and read."""
    field, prompt_field = preparation.field, preparation.prompt_field
    as_bytes = tokenizer.reads_bytes
    return (
        Cutting(tokenizer.boundary, preparation.task_bytes, as_bytes, field, prompt_field),
        Reading(field, preparation.on_error, as_bytes, prompt_field=prompt_field),
    )


def _identify(path: Path | RemoteFile) -> FileIdentity:
    if isinstance(path, RemoteFile):
        num_bytes, tag = path.status()
        return FileIdentity(None, 0, num_bytes, tag)
    return FileIdentity.of(path.stat())


def _read_places(store: Store) -> npt.NDArray[np.int64]:
    """Return where the chunks begin: int64 array, shape (num_chunks, NUM_PLACE_FIELDS)."""
    num_bytes = store.manifest.file(PLACES).num_bytes
    length = (num_bytes - HEADER_BYTES) // OFFSETS.itemsize
    path = str(store.path / PLACES)
    values = np.array(open_range(FileRange(path, OFFSETS.str, HEADER_BYTES, length)))
    if wrong := find_wrong_place(store, values.tobytes()):
        msg = f"{path} must hold {wrong}: {CURE}"
        raise StoreError(msg)
    return values.view(np.int64).reshape(-1, NUM_PLACE_FIELDS)


def _list_files(
    sources: Sequence[Source], preparation: Preparation, tokenizer: CompleteTokenizer
) -> list[SourceFile]:
    """Return the sources of a store as the files that were read."""
    encoding = find_encoding(str(preparation.settings.get("encoding", "utf-8")))
    # Undecodable bytes are handled as the preparation handled them.
    undecodable = choose_undecodable(preparation.on_error, reads_bytes=tokenizer.reads_bytes)
    return [
        SourceFile(
            name=source.name,
            path=_locate(source.name, form),
            form=form,
            encoding=encoding,
            undecodable=undecodable,
        )
        for source, form in zip(sources, preparation.forms, strict=True)
    ]
