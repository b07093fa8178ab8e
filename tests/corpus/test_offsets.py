"""Documents: their bounds in ranges of tokens, and where a cut may fall."""

import hashlib
import pickle
import tempfile
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenloom import StoreError
from tokenloom.corpus.offsets import DocumentOffsets, _Order, as_offsets
from tokenloom.errors import ArgumentError, CorpusError

lengths = st.lists(st.integers(0, 5), min_size=1, max_size=12).filter(any)


def _documents(lengths: list[int]) -> DocumentOffsets:
    return DocumentOffsets(np.cumsum([0, *lengths]))


def _tokens_of(documents: DocumentOffsets) -> list[list[int]]:
    return [list(range(*documents.bounds(index))) for index in range(len(documents))]


@given(lengths)
def test_documents_follow_each_other(lengths: list[int]) -> None:
    """All documents together are all tokens, also those without any."""
    documents = _documents(lengths)

    assert lengths == [len(tokens) for tokens in _tokens_of(documents)]
    assert list(range(sum(lengths))) == list(chain(*_tokens_of(documents)))


@given(lengths, st.data())
def test_slices_of_slices_are_those_of_the_offsets(lengths: list[int], data: st.DataObject) -> None:
    """A slice has the parts of documents in it, counted from its start."""
    total = sum(lengths)
    owners = np.repeat(np.arange(len(lengths)), lengths)
    documents, first = _documents(lengths), 0
    for _ in range(2):
        start = data.draw(st.integers(0, total - 1))
        stop = data.draw(st.integers(start + 1, total))
        documents, first, total = documents.slice(start, stop), first + start, stop - start

    parts = [tokens for tokens in _tokens_of(documents) if tokens]
    assert list(range(total)) == list(chain(*parts))
    assert len(set(owners[first : first + total].tolist())) == len(parts)
    assert documents.offsets().tolist() == [0, *np.cumsum([*map(len, _tokens_of(documents))])]


@given(lengths, st.data())
def test_no_document_is_lost_at_a_boundary(lengths: list[int], data: st.DataObject) -> None:
    """Where a cut falls between documents, both sides together have them all, once."""
    offsets = np.cumsum([0, *lengths])
    inner = sorted(set(offsets.tolist()) - {0, sum(lengths)})
    if not inner:
        return
    cut = data.draw(st.sampled_from(inner))
    documents = _documents(lengths)
    sides = documents.slice(0, cut), documents.slice(cut, sum(lengths))

    got = [len(tokens) for side in sides for tokens in _tokens_of(side)]
    assert lengths == got


@given(lengths, st.integers(0, 60))
def test_a_boundary_is_at_or_before_else_after(lengths: list[int], position: int) -> None:
    """The last inner boundary up to a position, or the first one after it, or none."""
    total = sum(lengths)
    inner = sorted(set(np.cumsum(lengths).tolist()) - {0, total})
    before = [boundary for boundary in inner if boundary <= position]
    expected = before[-1] if before else inner[0] if inner else 0

    assert expected == _documents(lengths).boundary(min(position, total))


def test_a_boundary_is_counted_from_the_start_of_the_range() -> None:
    """In a slice, boundaries are those of the slice."""
    documents = _documents([3, 3, 3]).slice(2, 8)

    assert [1, 1, 4] == [documents.boundary(position) for position in (0, 3, 5)]


@pytest.mark.parametrize("index", [-1, 3])
def test_a_number_out_of_range(index: int) -> None:
    """There are as many documents as the range has."""
    with pytest.raises(
        ArgumentError, match=rf"^a document's number must be in \[0, 3\), got {index}$"
    ):
        _documents([1, 2, 1]).bounds(index)


def test_offsets_that_fall_are_found_where_they_are_read() -> None:
    """Offsets out of a file may be anything."""
    documents = DocumentOffsets(np.array([0, 5, 2, 9]))

    with pytest.raises(StoreError, match=r"^document 1 must be a range of tokens, got \[5, 2\)"):
        documents.bounds(1)


def test_whole_offsets_are_not_copied() -> None:
    """The offsets of all documents may be far too many to copy."""
    offsets = np.array([0, 2, 5])

    assert np.shares_memory(offsets, DocumentOffsets(offsets).offsets())


def test_offsets_in_a_file_travel_by_name(tmp_path: Path) -> None:
    """Another process maps the file for itself."""
    np.save(tmp_path / "documents.npy", np.arange(50_001))
    offsets: Any = np.load(tmp_path / "documents.npy", mmap_mode="r")
    packed = pickle.dumps(DocumentOffsets(offsets).slice(7, 9_999))

    copied: DocumentOffsets = pickle.loads(packed)  # noqa: S301  our own bytes
    assert len(packed) < 1000
    assert (9_992, (0, 1)) == (len(copied), copied.bounds(0))


@pytest.mark.parametrize(
    "values",
    [[], [0], [1, 3], [0, 2], [0, 2, 1, 3], [0, 4], [-1, 3], [[0, 3]], [0.0, 3.0], ["0", "3"], 3],
)
def test_offsets_must_go_from_0_to_the_end(values: Any) -> None:
    """Anything else is refused, with what was got."""
    with pytest.raises(CorpusError, match=r"^documents must be .* from 0 to the 3 tokens, got "):
        as_offsets(values, num_tokens=3)


def test_any_integers_will_do_as_offsets() -> None:
    """Offsets become int64."""
    offsets = as_offsets(np.array([0, 200], np.uint8), num_tokens=200)

    expected = ("int64", [0, 200])
    assert expected == (offsets.dtype.name, offsets.tolist())


@given(lengths=lengths, others=lengths)
def test_documents_of_the_same_lengths_have_the_same_hash(
    lengths: list[int], others: list[int]
) -> None:
    """And no others: the hash is that of the offsets."""
    one, other = _documents(lengths), _documents(others)
    assert (lengths == others) == (one.hash() == other.hash())
    before = _documents([4, *lengths]).slice(4, 4 + sum(lengths))
    assert (before.offsets().tolist() == one.offsets().tolist()) == (before.hash() == one.hash())


def test_all_offsets_are_hashed() -> None:
    """Also where they are more than are hashed at once, which are 2^20."""
    offsets = np.arange(2**20 + 3) * 3
    expected = hashlib.sha256(offsets.astype("<i8").tobytes()).hexdigest()
    assert f"sha256:{expected}" == DocumentOffsets(offsets).hash()


@pytest.mark.parametrize("num_documents", [1, 2, 30, 31, 2_000])
@given(st.data())
def test_the_proof_of_many_offsets_finds_what_numpy_finds(
    num_documents: int, data: st.DataObject
) -> None:
    """In a file, in cells of a few offsets each, also for empty documents and any slice."""
    with tempfile.TemporaryDirectory() as folder:
        lengths = data.draw(
            st.lists(st.integers(0, 3), min_size=num_documents, max_size=num_documents)
        )
        offsets = np.cumsum([0, *lengths])
        np.save(f"{folder}/documents.npy", offsets)
        mapped: Any = np.load(f"{folder}/documents.npy", mmap_mode="r")
        in_file = DocumentOffsets(mapped, order=_Order(mapped, cell=3, num_cells=40))
        in_memory = DocumentOffsets(offsets)
        end = int(offsets[-1])
        starts = np.array(data.draw(st.lists(st.integers(0, end), min_size=1, max_size=9)))
        widths = np.minimum(end - starts, 5)
        found = [
            documents.starts_within(starts, widths, width=5).tolist()
            for documents in (in_file, in_memory)
        ]
        assert found[0] == found[1]
        start, stop = sorted(data.draw(st.tuples(st.integers(0, end), st.integers(0, end))))
        parts = [documents.slice(start, stop) for documents in (in_file, in_memory)]
        assert parts[0].offsets().tolist() == parts[1].offsets().tolist()
        assert parts[0].boundary(1) == parts[1].boundary(1)


@pytest.mark.parametrize("stop", [0, 5, 37])
@pytest.mark.parametrize("value", [-1, 0, 7, 10**9])
def test_damaged_offsets_never_lead_a_search_away(value: int, stop: int, tmp_path: Path) -> None:
    """Whatever is damaged, a search finds what it would have found, or refuses."""
    offsets = np.arange(0, 1_010, 10)
    damaged = offsets.copy()
    damaged[40 : 41 + stop] = value
    np.save(tmp_path / "documents.npy", damaged)
    mapped: Any = np.load(tmp_path / "documents.npy", mmap_mode="r")
    num_refused = 0
    for start in range(990):
        expected = DocumentOffsets(offsets).starts_within(np.array([start]), np.array([9]), width=9)
        try:
            opened = DocumentOffsets(mapped, order=_Order(mapped, cell=4))
            found = opened.starts_within(np.array([start]), np.array([9]), width=9)
        except StoreError:
            num_refused += 1
        else:
            assert expected.tolist() == found.tolist()
    assert num_refused


@st.composite
def ranges_of_documents(draw: st.DrawFn) -> DocumentOffsets:
    """Documents of a few tokens each, some of them empty, the first and the last perhaps cut."""
    lengths = draw(st.lists(st.integers(0, 4), min_size=1, max_size=6).filter(any))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    start = draw(st.integers(0, sum(lengths) - 1))
    stop = draw(st.integers(start + 1, sum(lengths)))
    return DocumentOffsets(offsets).slice(start, stop)


@given(st.lists(ranges_of_documents(), min_size=1, max_size=4), st.data())
def test_joined_ranges_are_like_their_offsets_in_one_array(
    parts: list[DocumentOffsets], data: st.DataObject
) -> None:
    """Whole or cut, pickled or not, nothing tells them apart."""
    ends = np.cumsum([0, *(part.num_tokens for part in parts)])
    pieces = [part.offsets()[1:] + first for part, first in zip(parts, ends, strict=False)]
    whole = DocumentOffsets(np.concatenate([[0], *pieces]))
    joined: DocumentOffsets = pickle.loads(pickle.dumps(DocumentOffsets.join(parts)))  # noqa: S301
    start = data.draw(st.integers(0, int(ends[-1]) - 1))
    stop = data.draw(st.integers(start + 1, int(ends[-1])))
    for got, expected in ((joined, whole), (joined.slice(start, stop), whole.slice(start, stop))):
        positions = range(expected.num_tokens)
        starts = np.array(positions)
        lengths = np.minimum(3, expected.num_tokens - starts)
        assert [got.hash(), len(got)] == [expected.hash(), len(expected)]
        assert [*map(got.number, positions)] == [*map(expected.number, positions)]
        assert [*map(got.boundary, positions)] == [*map(expected.boundary, positions)]
        assert [*map(got.bounds, range(len(got)))] == [*map(expected.bounds, range(len(got)))]
        assert got.lengths().tolist() == expected.lengths().tolist()
        within = [each.starts_within(starts, lengths, width=3).tolist() for each in (got, expected)]
        assert within[0] == within[1]
