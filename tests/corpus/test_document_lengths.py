"""Documents by length, and the file that keeps them."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenloom as tl
from tokenloom.corpus import document_lengths
from tokenloom.corpus.document_lengths import DocumentsByLength
from tokenloom.corpus.offsets import DocumentOffsets


def _documents(lengths: "list[int]") -> DocumentOffsets:
    return DocumentOffsets(np.concatenate(([0], np.cumsum(lengths))))


def _table(documents: DocumentsByLength) -> list[list[int]]:
    ranks = np.arange(int(documents.counts.sum()))
    return [
        each.tolist() for each in (documents.lengths, documents.counts, documents.starts(ranks))
    ]


@given(lengths=st.lists(st.integers(0, 9) | st.integers(0, 2**20), min_size=1, max_size=50))
def test_documents_are_sorted_by_length_and_then_by_number(lengths: list[int]) -> None:
    """The slow way gives the same."""
    if not sum(lengths):
        lengths = [*lengths, 1]
    starts = np.concatenate(([0], np.cumsum(lengths)))
    by_length = sorted(range(len(lengths)), key=lambda number: lengths[number])
    expected = [
        sorted(set(lengths)),
        [lengths.count(length) for length in sorted(set(lengths))],
        [int(starts[number]) for number in by_length],
    ]
    assert expected == _table(DocumentsByLength.of(_documents(lengths)))


@given(values=st.lists(st.integers(0, 2**50), max_size=60))
def test_sorting_by_digits_is_a_stable_sort(values: list[int]) -> None:
    """It gives what NumPy's slower one does."""
    array = np.array(values, np.int64)
    assert (
        np.argsort(array, kind="stable").tolist() == document_lengths._sort_stably(array).tolist()
    )


def _keep(folder: Path, lengths: "list[int]") -> DocumentsByLength:
    return DocumentsByLength.of(_documents(lengths), folder=folder, proof=["a"], min_kept=1)


def test_what_was_sorted_is_read_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second reader sorts nothing."""
    first = _keep(tmp_path, [3, 9, 3, 70_000, 0])
    assert 1 == len(list(tmp_path.iterdir()))
    monkeypatch.delattr(document_lengths, "_sort_stably")
    second = _keep(tmp_path, [3, 9, 3, 70_000, 0])
    assert _table(first) == _table(second)
    assert _table(first) == _table(pickle.loads(pickle.dumps(second)))  # noqa: S301  its own


def test_other_documents_have_another_file(tmp_path: Path) -> None:
    """A file belongs to what it was made of."""
    _keep(tmp_path, [3, 9])
    assert [[4, 8], [1, 1], [0, 4]] == _table(
        DocumentsByLength.of(_documents([4, 8]), folder=tmp_path, proof=["b"], min_kept=1)
    )
    assert 2 == len(list(tmp_path.iterdir()))


@pytest.mark.parametrize("place", [3, 60, 520, -1])
def test_a_damaged_file_is_made_again(tmp_path: Path, place: int) -> None:
    """Each byte is verified when the file is read."""
    expected = _table(_keep(tmp_path, [3, 9, 3]))
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[place] ^= 1
    path.write_bytes(damaged)
    assert expected == _table(_keep(tmp_path, [3, 9, 3]))
    assert whole == path.read_bytes()
    path.write_bytes(whole[:place])
    assert expected == _table(_keep(tmp_path, [3, 9, 3]))
    assert whole == path.read_bytes()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """What somebody planted is neither read nor written to."""
    expected = _table(_keep(tmp_path, [3, 9, 3]))
    (path,) = tmp_path.iterdir()
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    before = elsewhere.read_bytes()
    path.symlink_to(elsewhere)
    assert expected == _table(_keep(tmp_path, [3, 9, 3]))
    assert not path.is_symlink()
    assert before == elsewhere.read_bytes()


def test_a_folder_that_cannot_be_written_to_is_fine(tmp_path: Path) -> None:
    """Then the documents are sorted each time."""
    gone = tmp_path / "file"
    gone.write_bytes(b"")
    assert [[3, 9], [1, 1], [0, 3]] == _table(_keep(gone, [3, 9]))
    assert [gone] == list(tmp_path.iterdir())


def test_a_store_keeps_the_documents_of_each_of_its_parts(tmp_path: Path) -> None:
    """The file lies beside the tokens, and the store is as it was to all who read it."""
    num_documents = 1 << 16
    corpus = tl.Corpus.from_tokens(
        np.zeros(2 * num_documents, np.uint8), documents=np.arange(0, 2 * num_documents + 1, 2)
    )
    path = corpus.save(tmp_path / "store")
    before = set(path.iterdir())
    opened = tl.Corpus.open(path)
    assert [2] == opened.documents_by_length.lengths.tolist()
    (kept,) = set(path.iterdir()) - before
    assert "documents-by-length-" == kept.name[:20]
    again = tl.Corpus.open(path, verify=True)
    assert [num_documents] == again.documents_by_length.counts.tolist()
    assert {*before, kept} == set(path.iterdir())


def test_a_folder_with_the_name_of_the_file_is_left_alone(tmp_path: Path) -> None:
    """The documents are sorted each time."""
    _keep(tmp_path, [3, 1, 2])
    (file,) = tmp_path.iterdir()
    file.unlink()
    file.mkdir()
    assert [[1, 2, 3], [1, 1, 1], [3, 4, 0]] == _table(_keep(tmp_path, [3, 1, 2]))
    assert file.is_dir()


@pytest.mark.parametrize("wrong", [None, [1], "3", 3.0])
def test_a_wrong_header_is_made_again(tmp_path: Path, wrong: object) -> None:
    """Whatever it holds in place of a number."""
    _keep(tmp_path, [3, 1, 2])
    (file,) = tmp_path.iterdir()
    written = file.read_bytes()
    number = json.dumps(wrong).encode("ascii")
    head = written[:512].replace(b'"num_lengths": 3', b'"num_lengths": ' + number)
    file.write_bytes(head.rstrip().ljust(511) + b"\n" + written[512:])
    assert [[1, 2, 3], [1, 1, 1], [3, 4, 0]] == _table(_keep(tmp_path, [3, 1, 2]))
    assert written == file.read_bytes()


def test_a_process_without_the_file_sorts_again(tmp_path: Path) -> None:
    """It may be deleted after the documents were sent to the process."""
    _keep(tmp_path, [3, 1, 2])
    sent = pickle.dumps(_keep(tmp_path, [3, 1, 2]))
    (file,) = tmp_path.iterdir()
    file.unlink()
    assert [[1, 2, 3], [1, 1, 1], [3, 4, 0]] == _table(pickle.loads(sent))  # noqa: S301  made above
