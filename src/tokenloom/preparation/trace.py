"""Where a token of a corpus came from: its source, document and character."""

import bisect
import itertools
import os
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenloom._checks import require_integers, require_type
from tokenloom._io.compressed import find_encoding
from tokenloom._wording import show
from tokenloom.corpus.corpus import Corpus
from tokenloom.corpus.offsets import DocumentOffsets
from tokenloom.errors import ArgumentError, CorpusError, StoreError
from tokenloom.preparation.chunks import Chunk, Cursor, SourceFile, choose_undecodable, cut_chunks
from tokenloom.preparation.encode import Numbering, encode_chunk, find_boundary, find_texts
from tokenloom.preparation.readers import Reading
from tokenloom.store.manifest import NUM_PLACE_FIELDS, PLACES, Preparation
from tokenloom.store.memmap import FileRange, open_range
from tokenloom.store.npy import HEADER_BYTES
from tokenloom.store.reader import CURE, OFFSETS, Store, open_store
from tokenloom.store.verify import find_wrong_place
from tokenloom.text.documents import TextSegment
from tokenloom.text.encode import number
from tokenloom.text.normalize import PREFIXES, clean_characters
from tokenloom.text.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer, WordTokenizer

_LETTERS = re.compile("[A-Za-z]+")
_WORD = re.compile(r"\S+")


class Trace(NamedTuple):
    """Where a token came from.

    Attributes
    ----------
    source : str or None
        The name of the source, as it was called when the store was prepared.
        None of a corpus that was not prepared.
    document : int
        Which document, from 0: of the store, or of the corpus where that was
        not prepared.
    character : int or None
        Which character of the document's text the token begins with, from 0;
        which byte, where bytes are tokens. None where nobody can tell: the
        source is gone, was changed or was a stream, the tokenizer is somebody
        else's, or the token stands for the end of a document.
    """

    source: str | None
    document: int
    character: int | None


def trace(corpus: Corpus, token: int) -> Trace | None:
    """Return where a token came from, or None where that is not known.

    Of a store that `tokenloom.prepare` made this is the source, the document
    and the character, for which a part of the source is read and tokenised
    again. Of any other corpus with documents it is the document.

    Parameters
    ----------
    corpus : Corpus
    token : int
        In [0, len(corpus)).

    Raises
    ------
    ArgumentError
        There is no such token, or the first argument is no corpus.
    StoreError
        The store that the corpus lies in cannot be used any more.

    >>> trace(Corpus.from_tokens([5, 6, 7], documents=[0, 1, 3]), 2).document
    1
    """
    require_type("corpus", corpus, Corpus, "a Corpus (Corpus.open opens a store)")
    require_integers(token=token)
    if not 0 <= token < len(corpus):
        msg = f"a token must be in [0, {len(corpus)}), got {show(token)}"
        raise ArgumentError(msg)
    if corpus.origin is not None:
        found = trace_in_store(corpus.origin.path, corpus.origin.start + token)
        if found is not None:
            return found
    return (
        None
        if corpus.document_offsets is None
        else Trace(None, corpus.document_offsets.number(token), None)
    )


def trace_in_store(path: str | os.PathLike[str], token: int) -> Trace | None:
    """Return where a token of a store came from, or None where it was not prepared.

    A chunk's bytes of the source are read and tokenised again; of a compressed
    source all that comes before is read, too. What is no longer what it was is
    not trusted.

    Parameters
    ----------
    path : str or path
    token : int
        In [0, num_tokens).

    Raises
    ------
    ArgumentError
        There is no such token.
    StoreError
        The store cannot be used.
    """
    store = open_store(path)
    manifest = store.manifest
    if not 0 <= token < manifest.num_tokens:
        msg = f"a token must be in [0, {manifest.num_tokens}), got {show(token)}"
        raise ArgumentError(msg)
    offsets = store.documents()
    preparation = manifest.preparation
    if offsets is None or preparation is None:
        return None
    document = DocumentOffsets(offsets).number(token)
    stops = np.cumsum([source.num_documents for source in manifest.sources])
    source = int(np.searchsorted(stops, document, side="right"))
    character = _find_character(store, preparation, token, source)
    return Trace(manifest.sources[source].name, document, character)


def _find_character(store: Store, preparation: Preparation, token: int, source: int) -> int | None:
    """Return which character of its document a token begins with."""
    tokenizer = store.tokenizer()
    if tokenizer is None:
        return None
    places = _places(store)
    index = int(np.searchsorted(places[:, 0], token, side="right")) - 1
    first, *cursor, character = places[index].tolist()
    reads_bytes = isinstance(tokenizer, ByteTokenizer)
    reading = Reading(preparation.field, preparation.on_error, reads_bytes)
    numbering = Numbering(tokenizer, preparation.end_id)
    try:
        chunk = _read_chunk(store, preparation, tokenizer, Cursor(*cursor), source)
        result = encode_chunk(chunk, reading, numbering)
    except CorpusError:
        return None
    ids = np.frombuffer(result.blobs[0], store.dtype)
    at = token - first
    if at >= len(ids) or not np.array_equal(ids, store.tokens()[first : first + len(ids)]):
        return None
    if numbering.end_id is not None:
        last_tokens = np.frombuffer(result.blobs[1], OFFSETS) - 1
        if at in last_tokens:
            return None
        at -= int(np.searchsorted(last_tokens, at))
    return _walk(find_texts(chunk, reading, Counter()), tokenizer, at, character)


def _places(store: Store) -> npt.NDArray[np.int64]:
    num_bytes = store.manifest.file(PLACES).num_bytes
    length = (num_bytes - HEADER_BYTES) // OFFSETS.itemsize
    path = str(store.path / PLACES)
    values = np.asarray(open_range(FileRange(path, OFFSETS.str, HEADER_BYTES, length)))
    if wrong := find_wrong_place(store, values.tobytes()):
        msg = f"{path} must hold {wrong}: {CURE}"
        raise StoreError(msg)
    return values.view(np.int64).reshape(-1, NUM_PLACE_FIELDS)


def _read_chunk(
    store: Store, preparation: Preparation, tokenizer: Tokenizer, start: Cursor, last: int
) -> Chunk:
    """Return a chunk again, up to the end of a source.

    Raises
    ------
    CorpusError
        A source is gone, or has another size.
    """
    sources = []
    reads_bytes = isinstance(tokenizer, ByteTokenizer)
    encoding = find_encoding(str(preparation.settings.get("encoding", "utf-8")))
    for entry, form in zip(store.manifest.sources, preparation.forms, strict=True):
        path = Path(entry.name)
        # What could not be decoded was dealt with: the same again.
        sources.append(
            SourceFile(
                name=entry.name,
                path=path,
                form=form,
                encoding=encoding,
                undecodable=choose_undecodable(preparation.on_error, reads_bytes=reads_bytes),
            )
        )
    sources = sources[: last + 1]
    for one, entry in list(zip(sources, store.manifest.sources, strict=False))[start.source :]:
        if not one.path.is_file() or one.path.stat().st_size != entry.num_bytes:
            msg = f"{one.name} is not as it was"
            raise CorpusError(msg)
    size = preparation.task_bytes
    chunks = cut_chunks(
        sources,
        boundary=find_boundary(tokenizer),
        reads_bytes=reads_bytes,
        task_bytes=size,
        start=start,
    )
    chunk = next(chunks, None)
    if chunk is None:
        msg = f"no chunk begins at {start}"
        raise CorpusError(msg)
    return chunk


def _walk(segments: list[TextSegment], tokenizer: Tokenizer, at: int, before: int) -> int | None:
    """Return which character of its document a token of a chunk begins with.

    Parameters
    ----------
    segments : list of TextSegment
    tokenizer : Tokenizer
    at : int
        Which token of the chunk, those that end documents left out.
    before : int
        Characters, of the document that goes on, before the chunk.
    """
    _, stops = number(segments, tokenizer)
    index = int(np.searchsorted(stops, at, side="right"))
    for segment in segments[:index]:
        before = 0 if segment.ends else before + len(segment.text)
    at -= int(stops[index - 1]) if index else 0
    inside = find_in_text(segments[index], tokenizer, at)
    return None if inside is None else before + inside


def find_in_text(segment: TextSegment, tokenizer: Tokenizer, at: int) -> int | None:
    """Return which character of a segment a token of it begins with.

    -1 is the last character before it: a space that lies there.

    >>> from tokenloom.text.vocab import Vocab
    >>> find_in_text(TextSegment("To be, or", 0, ends=True), WordTokenizer(Vocab()), 2)
    7
    """
    text = segment.text
    if isinstance(text, bytes):
        return at
    match tokenizer:
        case WordTokenizer(normalize=normalize):
            words = (_LETTERS if normalize else _WORD).finditer(text)
            return next(itertools.islice(words, at, None)).start()
        case CharTokenizer(normalize=True):
            return _find_letter(text, at, PREFIXES[segment.state])
        case CharTokenizer():
            return at
        case _:
            return None


def _find_letter(text: str, at: int, prefix: str) -> int:
    def count(length: int) -> int:
        return len(clean_characters(prefix + text[:length])) - bool(prefix)

    place = bisect.bisect_right(range(len(text) + 1), at, key=count) - 1
    # With a letter comes the space before it, which begins behind the letter before.
    if count(place + 1) == at + 2:
        letter = place
        while place > 0 and not (text[place - 1].isascii() and text[place - 1].isalpha()):
            place -= 1
        # The whole gap may have been at the end of what comes before.
        return place - (place == letter)
    return place
