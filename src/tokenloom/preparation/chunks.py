"""Sources cut into chunks, by a rule that depends on nothing but the sources.

A chunk is some slices: runs of bytes, each of one source. Where a slice
may end depends on what a document is, and on what a token is.
"""

from collections.abc import Callable, Container, Generator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tokenloom._wording import count
from tokenloom.errors import CorpusError
from tokenloom.preparation import datasets, delimited, tables, texts
from tokenloom.preparation.forms import Cursor, Cutting, Form, FormName, Opened, Slice, SourceFile

FORMS: dict[FormName, Form] = {
    "file": texts.WholeFile(),
    "paragraph": texts.Paragraphs(),
    "line": texts.Lines(),
    "record": texts.Records(),
    "string": texts.Strings(),
    "csv": delimited.Delimited(),
    "parquet": tables.Parquet(),
    "arrow": tables.Arrow(),
    "dataset": datasets.Dataset(),
}
"""What reads sources of each form."""

# The largest number of slices of a chunk, which matters for very small sources.
_MAX_SLICES = 10_000


class Chunk(NamedTuple):
    """The work of one call.

    Attributes
    ----------
    number : int
        Number of the chunk, from 0.
    slices : tuple of Slice
    stop : Cursor
        Where the next chunk begins.
    position : int
        Bytes, before decompression, that were read of all sources so far.
    digests : dict of int to str
        SHA-256 of each source that ends in it, where they are computed.
    prefix : (int, int, str) or None
        For a source that does not end in it: its number, how many of its bytes
        were read so far, before decompression, and their SHA-256.
    """

    number: int
    slices: tuple[Slice, ...]
    stop: Cursor
    position: int
    digests: dict[int, str]
    prefix: tuple[int, int, str] | None = None


def cut_chunks(
    sources: Sequence[SourceFile],
    cutting: Cutting,
    *,
    start: Cursor = Cursor(),  # noqa: B008  it is frozen
    first: int = 0,
    hashes: bool = False,
    breaks: Container[int] = (),
) -> Generator[Chunk, None, None]:
    """Yield the chunks of some sources, from a cursor on.

    Only one of them is held at a time, and in it at most one and a half times
    ``cutting.size`` bytes, unless a token, a record or what may not be cut is
    longer. A chunk ends with the slice that brings it to half of that size, so
    that most slices of large sources are whole chunks.

    Parameters
    ----------
    sources : sequence of SourceFile
    cutting : Cutting
    start : Cursor
        Where a chunk begins.
    first : int
        Number of that chunk.
    hashes : bool
        Whether to compute the hash of each source.
    breaks : container of int
        Sources with which a chunk begins, however small the one before is.

    Raises
    ------
    CorpusError
        A source cannot be read, or was changed meanwhile.
    """
    slices: list[Slice] = []
    digests: dict[int, str] = {}
    num_bytes, number = 0, first
    read_before = sum(source.num_bytes for source in sources[: start.source])
    for index in range(start.source, len(sources)):
        source = sources[index]
        cursor = start if index == start.source else Cursor(index)
        form = FORMS[source.form]
        opened: Opened
        with form.open(source, offset=cursor.offset, hashes=hashes) as opened:
            _check_unchanged(source, opened)
            position = 0
            for piece, stop in form.cut(opened, source, cursor, cutting):
                slices.append(piece)
                num_bytes += len(piece.content)
                is_over = stop.source > index
                position, digest = opened.finish() if is_over else (opened.position, None)
                if digest is not None:
                    digests[index] = digest
                if num_bytes >= cutting.size / 2 or len(slices) == _MAX_SLICES:
                    so_far = None if is_over else opened.prefix()
                    prefix = None if so_far is None else (index, *so_far)
                    at = read_before + position
                    yield Chunk(number, tuple(slices), stop, at, digests, prefix)
                    slices, digests, num_bytes, number = [], {}, 0, number + 1
            _check_unchanged(source, opened)
            read_before += position
        if slices and index + 1 in breaks:
            yield Chunk(number, tuple(slices), Cursor(index + 1), read_before, digests)
            slices, digests, num_bytes, number = [], {}, 0, number + 1
    if slices:
        yield Chunk(number, tuple(slices), Cursor(len(sources)), read_before, digests)


def prove_parts(
    sources: Sequence[SourceFile],
    parts: Iterable[Mapping[str, Any]],
    *,
    report: Callable[[int], object],
) -> int:
    """Return how many of the first parts were made of the bytes that the sources hold now.

    Bytes are compared before decompression: the whole hash of a source that was
    read to its end, else the hash of the bytes that were read up to each part.

    Parameters
    ----------
    sources : sequence of SourceFile
    parts : iterable of mapping
        The facts of each part, in their order: ``start``, ``stop``,
        ``digests`` and ``prefix`` of its chunk, and the ``documents`` of sources.
    report : callable
        Called with the number of bytes after each piece that was compared.

    Raises
    ------
    CorpusError
        A source cannot be read.
    """
    first_parts: dict[int, int] = {}
    prefixes: list[tuple[int, int, str]] = []
    num_parts, stop = 0, list(Cursor())
    for number, facts in enumerate(parts):
        # Parts that were kept before the sources changed may be cut in other places.
        if facts["start"] not in (stop, list(Cursor(stop[0], len(texts.BYTE_ORDER_MARK)))):
            break
        for index, _ in facts["documents"]:
            first_parts.setdefault(index, number)
        for ended, sha256 in facts["digests"].items():
            source = sources[int(ended)]
            if not FORMS[source.form].count_equal(source, [(None, sha256)], report):
                return first_parts[int(ended)]
            prefixes = []
        if facts["prefix"] is not None:
            prefixes.append((number, *facts["prefix"][1:]))
        num_parts, stop = number + 1, facts["stop"]
    if not prefixes:
        return num_parts
    source = sources[stop[0]]
    equal = FORMS[source.form].count_equal(source, [prefix[1:] for prefix in prefixes], report)
    return num_parts if equal == len(prefixes) else prefixes[equal][0]


def _check_unchanged(source: SourceFile, opened: Opened) -> None:
    expected = source.num_bytes, source.changed_ns
    if -1 not in expected and (actual := opened.status()) != expected:
        msg = (
            f"{source.name} must not change while it is read, got {count(actual[0], 'byte')} "
            f"after {source.num_bytes:,}, or a later change: begin again when it is finished"
        )
        raise CorpusError(msg)
