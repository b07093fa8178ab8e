"""Data sets of Hugging Face, without importing their package: those at hand, and streams."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np

from tokenloom.errors import ArgumentError
from tokenloom.preparation.forms import Slice, SourceFile, name_fields
from tokenloom.preparation.tables import (
    Held,
    Rows,
    Table,
    TableForm,
    find_columns,
    import_arrow,
    join_texts,
    translating,
)

# The number of rows that are asked for at a time.
_NUM_ROWS = 1_000


class DatasetRows:
    """A column of a data set, or two, whose rows can be read in any order.

    Parameters
    ----------
    dataset : datasets.Dataset
        Rows are read as ``dataset[i]``, also after ``select``, ``shuffle`` and
        ``with_transform``.
    fields : str
        Which columns; texts of two are joined by `join_texts`.
    """

    def __init__(self, dataset: Any, *fields: str) -> None:
        self.dataset, self.fields = dataset, list(fields)

    @property
    def name(self) -> str:
        """What people call it."""
        return name_dataset(self.dataset)

    def status(self) -> tuple[int, int]:
        """Return about how many bytes it has, and the number of its rows."""
        data, num_rows = self.dataset.data, len(self.dataset)
        return data.nbytes * num_rows // max(data.num_rows, 1), num_rows

    @property
    def schema(self) -> Any:
        """The columns; if a transform makes rows, those of the first row."""
        if not (self._has_transform and len(self.dataset)):
            return self.dataset.features.arrow_schema
        row = self.dataset[0]
        return import_arrow().schema([(name, _find_type(value)) for name, value in row.items()])

    @property
    def _has_transform(self) -> bool:
        return bool(self.dataset.format["type"] == "custom")

    def arrays(self, start: int) -> Iterator[Any]:
        """Yield the texts from a row on."""
        if self._has_transform:
            pa = import_arrow()
            for first in range(start, len(self.dataset), _NUM_ROWS):
                rows = range(first, min(first + _NUM_ROWS, len(self.dataset)))
                # Not many at a time: a transform may join or compare the rows that it gets.
                made = [self.dataset[row] for row in rows]
                texts = [[row[field] for row in made] for field in self.fields]
                yield join_texts([pa.array(column, pa.large_string()) for column in texts])
            return
        view = self.dataset.select_columns(self.fields).with_format("arrow")
        for first in range(start, len(view), _NUM_ROWS):
            for batch in view[first : first + _NUM_ROWS].to_batches():
                yield join_texts([batch.column(field) for field in self.fields])

    def read(self, start: int, stop: int) -> Iterator[Rows]:
        """Yield the texts of some rows."""
        with translating(self.name):
            for array in self.arrays(start):
                if start >= stop:
                    return
                yield Rows.of(array.slice(0, stop - start))
                start += len(array)

    def hash(self) -> str:
        """Return the SHA-256 of all texts."""
        digest = _Digest()
        for rows in self.read(0, len(self.dataset)):
            digest.add(rows)
        return digest.hexdigest()


def _find_type(value: object) -> Any:
    """Return what type of column would hold a value."""
    pa = import_arrow()
    try:
        return pa.array([value]).type
    except pa.ArrowException:
        # Any type that is no text will do here.
        return pa.struct([])


class _Digest:
    """A hash of texts that does not depend on how many are read at a time."""

    def __init__(self) -> None:
        self.num_rows = 0
        self._lengths, self._data = hashlib.sha256(), hashlib.sha256()

    def add(self, rows: Rows) -> None:
        lengths = np.where(rows.is_null, -1, np.diff(rows.stops))
        self._lengths.update(lengths.astype("<i8").tobytes())
        self._data.update(rows.data)
        self.num_rows += len(rows.is_null)

    def hexdigest(self) -> str:
        return hashlib.sha256(self._lengths.digest() + self._data.digest()).hexdigest()


class _Opened(Table):
    """A data set that is read; its hash is that of the texts, since it is no file."""

    def _begin(self, *, offset: int, hashes: bool) -> None:
        self._rows = cast("DatasetRows", self._source.rows)
        self._running = _Digest() if hashes else None
        if self._running is not None:
            for rows in self._rows.read(0, offset):
                self._running.add(rows)

    @property
    def schema(self) -> Any:
        return self._rows.schema

    def arrays(self, columns: Sequence[int], start: int) -> Iterator[tuple[int, Any]]:
        del columns
        num_rows, row = max(len(self._rows.dataset), 1), start
        for array in self._rows.arrays(start):
            row += len(array)
            self.pass_over(row / num_rows)
            yield 0, array

    def note(self, held: Held) -> None:
        if self._running is not None:
            for rows in held.parts:
                self._running.add(rows)

    def status(self) -> tuple[int, int]:
        return self._rows.status()

    def prefix(self) -> tuple[int, str] | None:
        if self._running is None:
            return None
        return self._running.num_rows, self._running.hexdigest()

    def finish(self) -> tuple[int, str | None]:
        digest = None if self._running is None else self._running.hexdigest()
        return self._source.num_bytes, digest

    def close(self) -> None:
        """Do nothing: the data set belongs to the caller."""


class Dataset(TableForm):
    """A data set, a column of which holds texts."""

    kind = "a data set"
    opens = _Opened

    def check(self, source: SourceFile, *fields: str) -> None:
        """Refuse a data set that has no such columns of texts."""
        find_columns(cast("DatasetRows", source.rows).schema, fields, name=source.name)

    def place(self, piece: Slice, offset: int) -> dict[str, int]:
        """Return the row."""
        del piece
        return {"row": offset}

    def locate(self, piece: Slice, offset: int) -> str:
        """Name the row."""
        del piece
        return f"in row {offset:,}: "

    def count_equal(
        self,
        source: SourceFile,
        prefixes: Sequence[tuple[int | None, str]],
        report: Callable[[int], object],
    ) -> int:
        """Compare the texts."""
        rows, digest = cast("DatasetRows", source.rows), _Digest()
        for number, (end, sha256) in enumerate(prefixes):
            stop = len(rows.dataset) if end is None else end
            for each in rows.read(digest.num_rows, stop):
                digest.add(each)
                report(len(each.data))
            if digest.num_rows != stop or digest.hexdigest() != sha256:
                return number
        return len(prefixes)


def kind_of_dataset(value: object) -> str | None:
    """Return "Dataset", "IterableDataset", or None if it is no data set of Hugging Face.

    >>> kind_of_dataset([]) is None
    True
    """
    names = {base.__name__ for base in type(value).__mro__ if base.__module__[:9] == "datasets."}
    return next((name for name in ("Dataset", "IterableDataset") if name in names), None)


def name_dataset(dataset: Any) -> str:
    """Return what people call a data set, as far as it knows."""
    name = getattr(dataset.info, "dataset_name", None) or "dataset"
    return f"{name}/{dataset.split}" if dataset.split is not None else str(name)


def read_stream(dataset: Any, field: str) -> Iterator[str]:
    """Yield the texts of a data set that can be read only from its beginning."""
    return (row[field] for row in read_rows(dataset, field))


def read_rows(dataset: Any, *fields: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of such a data set, each with these columns."""
    # Shards cannot be read apart: skipping, numbering and mixing go over all of them.
    for row in dataset:
        for field, argument in name_fields(fields):
            if field not in row:
                msg = (
                    f"{name_dataset(dataset)} must have the column {field!r}, which it has not: "
                    f"name one of {', '.join(map(repr, row))} with {argument}="
                )
                raise ArgumentError(msg)
        yield row
