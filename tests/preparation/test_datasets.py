"""Data sets of Hugging Face."""

import os
from pathlib import Path
from typing import Any

import pytest

import tokenloom as tl
from tests.support.packages import require_package
from tests.support.preparation.preparations import contents
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
    datasets = require_package("datasets")
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


def transform(dataset: Any) -> Any:
    """Return it with texts that are made as they are read."""

    def make(rows: dict[str, list[str]]) -> dict[str, list[str]]:
        # How many there are at a time shows.
        return {"text": [f"{len(rows['id'])} times {text} {text}" for text in rows["text"]]}

    return dataset.with_transform(make).select(range(50, 120))


CHANGES = [change_nothing, shuffle, filter_rows, add_format, transform]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("is_on_disk", [False, True])
def test_rows_in_their_order(tmp_path: Path, change: Any, is_on_disk: bool) -> None:
    """That of ``dataset[i]``, for any number of workers; nothing is copied first."""
    dataset = make_dataset()
    if is_on_disk:
        dataset.save_to_disk(str(tmp_path / "saved"), num_shards=3)
        dataset = require_package("datasets").load_from_disk(str(tmp_path / "saved"))
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


def make_stream(name: str = "a", num_rows: int = 20, num_shards: int = 4) -> Any:
    """Return a stream of texts that are all different."""
    texts = [f"{name}{number}" for number in range(num_rows)]
    return make_dataset(texts).to_iterable_dataset(num_shards=num_shards)


def interleave(stream: Any, **options: Any) -> Any:
    """Return the rows of a stream and those of another one in turn."""
    datasets = require_package("datasets")
    return datasets.interleave_datasets([stream, make_stream("b", 6, 2)], **options)


def take_part(stream: Any, num_parts: int) -> Any:
    """Return what one of some machines reads."""
    distributed = require_package("datasets.distributed")
    return distributed.split_dataset_by_node(stream, rank=1, world_size=num_parts)


def number_rows(row: dict[str, str], number: int) -> dict[str, str]:
    """Put the number of a row before its text."""
    return {"text": f"{number}:{row['text']}"}


def join(rows: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return the texts of a batch as one."""
    return {"text": ["+".join(rows["text"])]}


STREAMS: dict[str, Any] = {
    "plain": change_nothing,
    "take": lambda stream: stream.take(3),
    "skip": lambda stream: stream.skip(3),
    "repeat": lambda stream: stream.take(3).repeat(2),
    "shuffle": lambda stream: stream.shuffle(seed=1, buffer_size=5),
    "filter": lambda stream: stream.filter(lambda row: row["text"][-1] == "3"),
    "numbers": lambda stream: stream.map(number_rows, with_indices=True),
    "batches": lambda stream: stream.map(
        join, batched=True, batch_size=7, remove_columns=["id", "text"]
    ),
    "interleave": interleave,
    "interleave all": lambda stream: interleave(stream, stopping_strategy="all_exhausted"),
    "interleave by chance": lambda stream: interleave(stream, probabilities=[0.7, 0.3], seed=4),
    "a third": lambda stream: take_part(stream, 3),
    "a half": lambda stream: take_part(stream, 2),
}


@pytest.mark.parametrize("change", STREAMS.values(), ids=STREAMS)
def test_streams_as_they_yield(tmp_path: Path, change: Any) -> None:
    """The store has the rows that a loop over the stream has, in their order."""
    stream = change(make_stream())
    made = prepare(stream, tmp_path / "store", tokenizer="byte", options=OPTIONS)
    expected = [row["text"] for row in stream]
    corpus = tl.Corpus.open(tmp_path / "store")
    assert ("".join(expected).encode(), len(expected)) == (
        bytes(corpus.tokens.tolist()),
        made.num_documents,
    )
    found = tl.trace(corpus, len(corpus) - 1)
    assert ("dataset", len(expected) - 1) == (found and found[:2])


def test_splits(tmp_path: Path) -> None:
    """Of several data sets have their names."""
    datasets = require_package("datasets")
    each = {"test": make_dataset(TEXTS[200:]), "train": make_dataset(TEXTS[:200])}
    prepare(datasets.DatasetDict(each), tmp_path / "store", tokenizer="word", options=OPTIONS)
    corpus = tl.Corpus.open(tmp_path / "store", split="test")
    assert corpus.num_documents == 100


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"body": ["a"]}, "must have the column 'text'.*columns of texts are body$"),
        ({"text": [1], "body": ["a"]}, "of type int64.*columns of texts are body"),
        ({"text": [["a"]]}, "of type list.*columns of texts are none"),
        ({"text": ["a", None]}, "dataset has a null value in row 1: "),
    ],
)
def test_columns_that_hold_no_text(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    """Are refused by name."""
    dataset = require_package("datasets").Dataset.from_dict(columns)
    with pytest.raises(CorpusError, match=message):
        prepare(dataset, tmp_path / "store")


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"body": "a"}, "must have the column 'text'.*columns of texts are body"),
        ({"text": object()}, "one column 'text'.*columns of texts are none"),
        ({"text": 1, "body": "a"}, "one column 'text'.*of type int64.*columns of texts are body"),
    ],
)
def test_transforms_that_make_no_text(tmp_path: Path, made: dict[str, Any], message: str) -> None:
    """Are refused by what they make."""
    dataset = make_dataset().with_transform(
        lambda rows: {name: [value] * len(rows["id"]) for name, value in made.items()}
    )
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
