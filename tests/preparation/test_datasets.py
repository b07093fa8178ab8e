"""Data sets of Hugging Face."""

import os
from pathlib import Path
from typing import Any

import pytest

import tokenloom as tl
from tests.support.preparations import contents
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.preparation.datasets import kind_of_dataset
from tokenloom.preparation.options import PrepareOptions
from tokenloom.preparation.prepare import prepare
from tokenloom.preparation.workdir import WorkDir

pytestmark = pytest.mark.slow
TEXTS = [f"To be, or not to be, that is question {'ab'[n % 2] * (n % 7)}" for n in range(300)]
OPTIONS = PrepareOptions(task_bytes=1_000, on_error="replace")


def make_dataset(texts: Any = TEXTS) -> Any:
    """Return a data set in memory."""
    datasets = pytest.importorskip("datasets")
    return datasets.Dataset.from_dict({"id": list(range(len(texts))), "text": list(texts)})


def tokens_of(texts: list[str]) -> list[int]:
    """Return what a corpus of texts holds."""
    tokens: list[int] = tl.Corpus.from_documents(texts, tokenizer="word").tokens.tolist()
    return tokens


def change_nothing(dataset: Any) -> Any:
    """Return it as it is."""
    return dataset


def shuffle(dataset: Any) -> Any:
    """Return its rows in another order, without some."""
    return dataset.shuffle(seed=3).select(range(10, 250))


def filter_rows(dataset: Any) -> Any:
    """Return every third row."""
    return dataset.filter(lambda row: row["id"] % 3 == 0)


def add_format(dataset: Any) -> Any:
    """Return it in the form of another package."""
    return dataset.with_format("numpy").select([5, 3, 9])


CHANGES = [change_nothing, shuffle, filter_rows, add_format]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("is_on_disk", [False, True])
def test_rows_in_their_order(tmp_path: Path, change: Any, is_on_disk: bool) -> None:
    """That of ``dataset[i]``, for any number of workers; nothing is copied first."""
    dataset = make_dataset()
    if is_on_disk:
        dataset.save_to_disk(str(tmp_path / "saved"), num_shards=3)
        dataset = pytest.importorskip("datasets").load_from_disk(str(tmp_path / "saved"))
    dataset = change(dataset)
    for workers in (0, 2):
        prepare(
            dataset, tmp_path / f"{workers}", tokenizer="word", options=OPTIONS, num_workers=workers
        )
    assert contents(tmp_path / "0") == contents(tmp_path / "2")
    expected = [str(dataset[index]["text"]) for index in range(len(dataset))]
    corpus = tl.Corpus.open(tmp_path / "0")
    assert tokens_of(expected) == corpus.tokens.tolist()
    found = tl.trace(corpus, len(corpus) - 1)
    assert (len(dataset) - 1, None) == (found and (found.row, found.character))
    again = prepare(change(make_dataset()), tmp_path / "0", tokenizer="word", options=OPTIONS)
    assert again.is_new is False


def test_another_data_set(tmp_path: Path) -> None:
    """Of as many rows is refused."""
    prepare(make_dataset(), tmp_path / "store", tokenizer="word", options=OPTIONS)
    with pytest.raises(tl.StoreError, match="dataset has other bytes now"):
        prepare(make_dataset(TEXTS[::-1]), tmp_path / "store", tokenizer="word", options=OPTIONS)


class Stop(BaseException):
    """Stops a preparation as a kill would."""


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("limit", [1, 4, 9])
def test_stopped_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_stream: bool, limit: int
) -> None:
    """The bytes are those of a run that was left alone."""

    def make() -> Any:
        dataset = make_dataset().shuffle(seed=1)
        return dataset.to_iterable_dataset(num_shards=4) if is_stream else dataset

    prepare(make(), tmp_path / "whole", tokenizer="word", options=OPTIONS)
    really, written = WorkDir.write, []

    def write(self: WorkDir, kind: str, *rest: Any) -> None:
        really(self, kind, *rest)
        written.append(kind)
        # Of a stream, also while it is copied.
        if len(written) == limit:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(WorkDir, "write", write)
        with pytest.raises(Stop):
            prepare(make(), tmp_path / "store", tokenizer="word", options=OPTIONS, num_workers=1)
    made = prepare(make(), tmp_path / "store", tokenizer="word", options=OPTIONS)
    assert made.num_documents == len(TEXTS)
    assert contents(tmp_path / "whole") == contents(tmp_path / "store")
    assert ["store", "whole"] == sorted(os.listdir(tmp_path))  # noqa: PTH208


def test_streams_by_shards(tmp_path: Path) -> None:
    """In their order, each a source of its own."""
    stream = make_dataset().to_iterable_dataset(num_shards=4)
    prepare(stream, tmp_path / "store", tokenizer="word", options=OPTIONS)
    corpus = tl.Corpus.open(tmp_path / "store")
    assert tokens_of(TEXTS) == corpus.tokens.tolist()
    found = tl.trace(corpus, len(corpus) - 1)
    assert ("dataset (shard 4 of 4)", 299, None) == (found and found[:3])


def test_splits(tmp_path: Path) -> None:
    """Of several data sets have their names."""
    datasets = pytest.importorskip("datasets")
    each = {"test": make_dataset(TEXTS[200:]), "train": make_dataset(TEXTS[:200])}
    prepare(datasets.DatasetDict(each), tmp_path / "store", tokenizer="word", options=OPTIONS)
    corpus = tl.Corpus.open(tmp_path / "store", split="test")
    assert corpus.num_documents == 100


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"body": ["a"]}, "must have the column 'text'.*columns of texts are body, of body"),
        ({"text": [1], "body": ["a"]}, "of type int64.*columns of texts are body"),
        ({"text": [["a"]]}, "of type list.*columns of texts are none"),
        ({"text": ["a", None]}, "dataset has a null value in row 1: "),
    ],
)
def test_columns_that_hold_no_text(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    """Are refused by name."""
    dataset = pytest.importorskip("datasets").Dataset.from_dict(columns)
    with pytest.raises(CorpusError, match=message):
        prepare(dataset, tmp_path / "store")


def test_a_stream_without_the_column(tmp_path: Path) -> None:
    """Is refused as its first row comes."""
    stream = make_dataset().to_iterable_dataset()
    with pytest.raises(ArgumentError, match="'body', which it has not: name one of 'id', 'text'"):
        prepare(stream, tmp_path / "store", options=PrepareOptions(field="body"))


def test_what_is_no_data_set() -> None:
    """Whatever its class is called."""
    assert kind_of_dataset(type("Dataset", (), {})()) is None
