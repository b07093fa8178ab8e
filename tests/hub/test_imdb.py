"""The layout of the film reviews."""

import os
import shutil
from pathlib import Path

import pytest

from tokenloom import Document
from tokenloom.errors import CorpusError
from tokenloom.hub.imdb import REVIEW_FOLDERS, REVIEW_SPLITS, parse_name, read_reviews


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder in which each folder of the layout has two reviews."""
    for place in REVIEW_FOLDERS:
        (tmp_path / place).mkdir(parents=True)
        for name in ("10_2.txt", "9_8.txt"):
            (tmp_path / place / name).write_text(f"{place} {name}", encoding="utf-8")
    return tmp_path


def test_folders_of_the_layout() -> None:
    """These are the folders of the real archive that hold reviews."""
    expected = {"test/neg", "test/pos", "train/neg", "train/pos", "train/unsup"}
    assert {f"aclImdb/{name}" for name in expected} == set(REVIEW_FOLDERS)


@pytest.mark.parametrize("split", ["train", "test"])
def test_labelled_split(folder: Path, split: str) -> None:
    """Negative reviews come first, each by its number, with label and rating."""
    expected = [
        Document(
            text=f"aclImdb/{split}/{label}/{number}_{rating}.txt".replace(
                f"/{number}_", f" {number}_"
            ),
            metadata={"split": split, "number": number, "label": label, "rating": rating},
        )
        for label in ("neg", "pos")
        for number, rating in ((9, 8), (10, 2))
    ]
    assert expected == list(read_reviews(folder, split))


def test_unsupervised_split(folder: Path) -> None:
    """Reviews whose rating is not told have neither rating nor label."""
    metadata = [document.metadata for document in read_reviews(folder, "unsup")]

    expected = [
        {"split": "unsup", "number": number, "label": None, "rating": None} for number in (9, 10)
    ]
    assert expected == metadata


def test_splits_share_no_review(folder: Path) -> None:
    """Each file is in one split."""
    texts = [document.text for split in REVIEW_SPLITS for document in read_reviews(folder, split)]

    assert 10 == len(texts) == len(set(texts))


def test_review_in_another_encoding(folder: Path) -> None:
    """A review that is not in UTF-8 is named."""
    (folder / "aclImdb/test/pos/9_8.txt").write_bytes(b"caf\xe9")

    with pytest.raises(CorpusError, match=r"test.pos.9_8\.txt must be text in utf-8"):
        list(read_reviews(folder, "test"))


@pytest.mark.parametrize("split", REVIEW_SPLITS)
def test_hidden_files_are_no_reviews(folder: Path, split: str) -> None:
    """What a system adds to every folder that is looked at is passed over."""
    documents = list(read_reviews(folder, split))
    for place in REVIEW_FOLDERS:
        (folder / place / ".DS_Store").touch()

    assert documents == list(read_reviews(folder, split))


def test_folder_that_is_missing(folder: Path) -> None:
    """Who removed a part is told to remove the rest, so that it is unpacked again."""
    shutil.rmtree(folder / "aclImdb/test/pos")

    with pytest.raises(CorpusError, match=r"expected reviews in '.*pos', got No such .*: remove"):
        list(read_reviews(folder, "test"))


@pytest.mark.parametrize("name", ["urls.txt", "1_2.txt.part", "_1.txt", "1_2", ".1_2.txt"])
def test_name_of_no_review(name: str) -> None:
    """Another file among the reviews is refused by its name."""
    with pytest.raises(CorpusError, match=f"expected a review named like 127_10.txt, got '{name}'"):
        parse_name(Path(name))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_pipe_in_the_place_of_a_review(folder: Path) -> None:
    """Nobody waits for who might write to it."""
    path = folder / "aclImdb/test/pos/9_8.txt"
    path.unlink()
    os.mkfifo(path)

    with pytest.raises(CorpusError, match=r"9_8\.txt': must be a regular file, is a named pipe"):
        list(read_reviews(folder, "test"))
