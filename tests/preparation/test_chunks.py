"""Sources cut into chunks."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenloom._io.compressed import read_status
from tokenloom.errors import CorpusError
from tokenloom.preparation.chunks import cut_chunks
from tokenloom.preparation.forms import Cursor, Cutting, FormName, SourceFile
from tokenloom.text.boundaries import BYTES, CHARACTERS, DOCUMENTS, LETTERS, WORDS, Boundary


def make_sources(folder: Path, contents: list[bytes], form: FormName = "file") -> list[SourceFile]:
    """Write files, and return them as sources."""
    sources = []
    for number, content in enumerate(contents):
        path = folder / f"{number}.txt"
        path.write_bytes(content)
        num_bytes, changed_ns = read_status(path)
        sources.append(
            SourceFile(
                name=path.name, path=path, form=form, num_bytes=num_bytes, changed_ns=changed_ns
            )
        )
    return sources


contents = st.lists(st.text("aB \n\ré時").map(str.encode), min_size=1, max_size=4)
boundaries = st.sampled_from([BYTES, CHARACTERS, LETTERS, WORDS, DOCUMENTS])
forms: st.SearchStrategy[FormName] = st.sampled_from(["file", "paragraph", "line", "record"])


@given(contents, boundaries, forms, st.integers(1, 30))
def test_nothing_is_lost_between_chunks(
    tmp_path_factory: pytest.TempPathFactory,
    contents: list[bytes],
    boundary: Boundary,
    form: FormName,
    size: int,
) -> None:
    """The slices of all chunks, side by side, are the sources."""
    sources = make_sources(tmp_path_factory.mktemp("chunks"), contents, form)
    cut = list(cut_chunks(sources, Cutting(boundary, size), hashes=True))

    joined = [b""] * len(contents)
    for chunk in cut:
        for piece in chunk.slices:
            assert piece.start.offset == len(joined[piece.start.source])
            joined[piece.start.source] += piece.content
    assert contents == joined
    assert list(range(len(cut))) == [chunk.number for chunk in cut]
    assert sum(map(len, contents)) == cut[-1].position
    assert set(range(len(contents))) == {number for chunk in cut for number in chunk.digests}


@given(contents, boundaries, forms, st.integers(1, 30), st.booleans())
def test_tasks_go_on_from_any_place(
    tmp_path_factory: pytest.TempPathFactory,
    contents: list[bytes],
    boundary: Boundary,
    form: FormName,
    size: int,
    hashes: bool,
) -> None:
    """Each chunk knows where the next one begins, and those are the same chunks."""
    sources = make_sources(tmp_path_factory.mktemp("chunks"), contents, form)
    cut = list(cut_chunks(sources, Cutting(boundary, size), hashes=hashes))

    for number, chunk in enumerate(cut):
        rest = cut_chunks(
            sources,
            Cutting(boundary, size),
            start=chunk.stop,
            first=number + 1,
            hashes=hashes,
        )
        # Other bytes may have been read ahead.
        expected, again = ([one._replace(position=0) for one in x] for x in (cut, rest))
        assert expected[number + 1 :] == again


def test_tasks_are_of_about_one_size(tmp_path: Path) -> None:
    """Large sources are cut, and small ones stand together."""
    sources = make_sources(tmp_path, [b"ab cd\n" * 100, *[b"short"] * 30])
    cut = list(cut_chunks(sources, Cutting(CHARACTERS, 50)))

    sizes = [sum(len(piece.content) for piece in chunk.slices) for chunk in cut]
    assert max(sizes[:-1]) <= 75
    assert min(sizes[:-1]) >= 25


def test_a_chunk_has_no_end_of_tiny_sources(tmp_path: Path) -> None:
    """Empty files fill no chunk by their bytes: it ends after 10,000 of them."""
    sources = make_sources(tmp_path, [b""]) * 10_001
    cut = list(cut_chunks(sources, Cutting(BYTES, 50)))

    assert [10_000, 1] == [len(chunk.slices) for chunk in cut]


@pytest.mark.parametrize("task_bytes", [1, 2, 3, 50])
@pytest.mark.parametrize(
    ("reads_bytes", "form", "offset"),
    [
        (False, "file", 3),
        (True, "file", 0),
        (True, "paragraph", 0),
        (True, "line", 0),
        (True, "record", 3),
    ],
)
def test_a_byte_order_mark_is_no_text(
    tmp_path: Path, reads_bytes: bool, form: FormName, offset: int, task_bytes: int
) -> None:
    """But bytes are taken as they are, where they are no record."""
    sources = make_sources(tmp_path, [b"\xef\xbb\xbfabc"], form)
    slices = [
        piece
        for chunk in cut_chunks(sources, Cutting(BYTES, task_bytes, reads_bytes))
        for piece in chunk.slices
    ]

    assert Cursor(offset=offset) == slices[0].start
    assert b"\xef\xbb\xbfabc"[offset:] == b"".join(piece.content for piece in slices)


def test_a_source_that_changes_is_told(tmp_path: Path) -> None:
    """Between two passes, or while it is read."""
    sources = make_sources(tmp_path, [b"abc" * 100])
    reading = cut_chunks(sources, Cutting(BYTES, 50))
    next(reading)
    (tmp_path / "0.txt").write_bytes(b"abc")
    with pytest.raises(CorpusError, match=r"^0.txt must not change while it is read, got 3 b"):
        list(reading)
