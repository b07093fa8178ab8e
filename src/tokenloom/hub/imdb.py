"""The Large Movie Review Dataset, read from its unpacked archive.

Source: Maas, Daly, Pham, Huang, Ng and Potts, "Learning Word Vectors for
Sentiment Analysis", ACL 2011, and the README in its archive.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from tokenloom.errors import CorpusError
from tokenloom.hub.texts import read_file
from tokenloom.text.documents import Document
from tokenloom.text.encode import decode

_ROOT = "aclImdb"
# Folders of each split, and what the reviews in them are labelled.
_FOLDERS: dict[str, dict[str, str | None]] = {
    "train": {"train/neg": "neg", "train/pos": "pos"},
    "test": {"test/neg": "neg", "test/pos": "pos"},
    "unsup": {"train/unsup": None},
}
REVIEW_SPLITS = tuple(_FOLDERS)
REVIEW_FOLDERS = tuple(f"{_ROOT}/{name}" for folders in _FOLDERS.values() for name in folders)


def read_reviews(folder: Path, split: str) -> Iterator[Document]:
    """Yield the reviews of a split: negative ones, then positive ones, by number.

    Parameters
    ----------
    folder : Path
        Where the archive was unpacked.
    split : str
        "train", "test" or "unsup".

    Yields
    ------
    Document
        Its text is as the author wrote it, with ``<br />`` for line ends. Its
        metadata are ``split``; ``number``, which the dataset counts from 0 in
        each folder; ``label``, "neg" or "pos"; and ``rating``, from 1 to 10
        stars. Label and rating of the unsupervised split are None.

    Raises
    ------
    CorpusError
        A folder is missing, or a file's name or bytes are not those of a review.
    """
    for name, label in _FOLDERS[split].items():
        paths = {parse_name(path): path for path in _list(folder / _ROOT / name)}
        for number, rating in sorted(paths):
            path = paths[number, rating]
            yield Document(
                text=decode(read_file(path), name=str(path)),
                metadata={
                    "split": split,
                    "number": number,
                    "label": label,
                    "rating": None if label is None else rating,
                },
            )


def _list(folder: Path) -> list[Path]:
    """Return the files of a folder, except hidden ones, which some systems add."""
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        msg = (
            f"expected reviews in {str(folder)!r}, got {error.strerror}: "
            "remove the whole folder of the archive, so that it is unpacked again"
        )
        raise CorpusError(msg) from error


def parse_name(path: Path) -> tuple[int, int]:
    """Return number and rating of a review by the name of its file.

    Raises
    ------
    CorpusError
        It is not the name of a review's file.

    >>> parse_name(Path("aclImdb/test/pos/127_10.txt"))
    (127, 10)
    """
    match = re.fullmatch(r"(\d+)_(\d+)\.txt", path.name)
    if match is None:
        msg = f"expected a review named like 127_10.txt, got {str(path)!r}: remove the folder"
        raise CorpusError(msg)
    return int(match[1]), int(match[2])
