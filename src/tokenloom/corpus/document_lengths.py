"""The documents of a corpus by their lengths, sorted once and kept beside a store."""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self, final

import numpy as np
import numpy.typing as npt

from tokenloom._io.atomic import replacing
from tokenloom._io.digest import hash_json
from tokenloom._io.regular import open_regular
from tokenloom.corpus.offsets import DocumentOffsets
from tokenloom.errors import ArgumentError, StoreError
from tokenloom.store.memmap import pack
from tokenloom.text.ids import Ids, Offsets

_LOGGER = logging.getLogger(__name__)
_MAGIC = b"tokenloom documents by length, version 1\n"
_HEADER_BYTES = 512
_READ_BYTES = 1 << 22
# Fewer are sorted sooner than a file is read.
_MIN_KEPT = 1 << 16


@final
class DocumentsByLength:
    """The documents of a corpus, sorted by their lengths.

    Parameters
    ----------
    documents : DocumentOffsets
    lengths : int64 array, shape (num_lengths,)
        The different lengths, in tokens, ascending.
    counts : int64 array, shape (num_lengths,)
        How many documents have each length.
    numbers : integer array, shape (num_documents,)
        The documents, the shortest first; those of one length in their own order.

    >>> documents = DocumentsByLength.of(DocumentOffsets(np.array([0, 3, 5, 8])))
    >>> documents.lengths.tolist(), documents.counts.tolist()
    ([2, 3], [1, 2])
    >>> documents.starts(np.array([0, 1, 2])).tolist()
    [3, 0, 5]
    """

    __slots__ = ("_documents", "_hash", "_numbers", "counts", "lengths")

    def __init__(
        self, documents: DocumentOffsets, *, lengths: Offsets, counts: Offsets, numbers: Ids
    ) -> None:
        self._documents, self._numbers = documents, numbers
        self.lengths, self.counts = lengths, counts
        self._hash: str | None = None

    @classmethod
    def of(
        cls,
        documents: DocumentOffsets,
        *,
        folder: Path | None = None,
        proof: Sequence[str | int] = (),
        min_kept: int = _MIN_KEPT,
    ) -> Self:
        """Return the documents of a corpus by length.

        Parameters
        ----------
        documents : DocumentOffsets
        folder : Path, optional
            The folder of the store that they lie in. What was sorted is kept there in
            a file, where the folder can be written to, and read the next time.
        proof : sequence of str or int
            Hashes of what the documents depend on: the file is used only if they are equal.
        min_kept : int
            Fewer documents are sorted each time.
        """
        if folder is None or len(documents) < min_kept:
            return cls._sort(documents)
        key = hash_json([*proof, len(documents), documents.num_tokens])
        path = folder / f"documents-by-length-{key[7:23]}.bin"
        try:
            return cls._read(path, documents, key)
        except (OSError, ValueError) as error:
            if not isinstance(error, FileNotFoundError):
                _LOGGER.info("the documents are sorted again, since of %s: %s", path, error)
        made = cls._sort(documents)
        # If the file cannot be written, for example on a full disk, the next call sorts again.
        with contextlib.suppress(OSError, ArgumentError):
            made._write(path, key)  # noqa: SLF001  made here
        return made

    @property
    def num_tokens(self) -> int:
        """Tokens of the corpus."""
        return self._documents.num_tokens

    def starts(self, ranks: Offsets) -> Offsets:
        """Return where documents start in the corpus.

        Parameters
        ----------
        ranks : int64 array, shape (num_asked,)
            Places among all documents by length.

        Raises
        ------
        StoreError
            The offsets come from a file and decrease there.
        """
        return self._documents.starts_of(np.asarray(self._numbers[ranks]))

    def hash(self) -> str:
        """Return ``"sha256:..."`` of the offsets; see `DocumentOffsets.hash`."""
        if self._hash is None:
            self._hash = self._documents.hash()
        return self._hash

    @classmethod
    def _sort(cls, documents: DocumentOffsets) -> Self:
        all_lengths = documents.lengths()
        numbers = _sort_stably(all_lengths)
        ascending = all_lengths[numbers]
        # Of lengths [2, 3, 3] the first of each are at [0, 1].
        firsts = np.flatnonzero(np.diff(ascending, prepend=ascending[:1] + 1))
        return cls(
            documents,
            lengths=ascending[firsts].astype(np.int64),
            counts=np.diff(np.append(firsts, len(numbers))),
            numbers=numbers.astype(_number_dtype(len(numbers))),
        )

    @classmethod
    def _read(cls, path: Path, documents: DocumentOffsets, key: str) -> Self:
        """Return what `_write` wrote.

        Raises
        ------
        OSError, ValueError
            There is no such file, or it is not as it was written.
        """
        with open_regular(path, follow_links=False) as file:
            num_lengths = _check_file(file, len(documents), key)
            file.seek(_HEADER_BYTES)
            table = np.frombuffer(file.read(16 * num_lengths), "<i8").astype(np.int64)
            numbers = np.memmap(
                file,
                _number_dtype(len(documents)),
                mode="r",
                offset=_HEADER_BYTES + table.nbytes,
                shape=(len(documents),),
            )
        # So that another process opens it by its name.
        numbers.filename = str(path)
        lengths, counts = table[:num_lengths], table[num_lengths:]
        return cls(documents, lengths=lengths, counts=counts, numbers=numbers)

    def _write(self, path: Path, key: str) -> None:
        table = np.concatenate([self.lengths, self.counts]).astype("<i8")
        parts = [table, self._numbers.astype(self._numbers.dtype.newbyteorder("<"))]
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part.data)
        facts = {"key": key, "num_lengths": len(self.lengths), "sha256": digest.hexdigest()}
        header = _MAGIC + json.dumps(facts).encode("ascii")
        with replacing(path) as temporary, temporary.open("wb") as file:
            file.write(header.ljust(_HEADER_BYTES - 1) + b"\n")
            for part in parts:
                file.write(part.data)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._documents, self.lengths, self.counts, *pack(self._numbers))


def _restore(
    documents: DocumentOffsets, lengths: Offsets, counts: Offsets, make: Any, arguments: Any
) -> DocumentsByLength:
    try:
        numbers = make(*arguments)
    except StoreError as error:
        # The file only saves time: it may be deleted or damaged at any moment.
        _LOGGER.info("the documents are sorted again: %s", error)
        return DocumentsByLength.of(documents)
    return DocumentsByLength(documents, lengths=lengths, counts=counts, numbers=numbers)


def _check_file(file: BinaryIO, num_documents: int, key: str) -> int:
    """Return how many lengths a file has, after a check of every byte.

    Raises
    ------
    ValueError
        It is not as it was written, or of other documents.
    """
    header = file.read(_HEADER_BYTES)
    is_ours = header.startswith(_MAGIC)
    facts = json.loads(header[len(_MAGIC) :]) if is_ours else None
    if not isinstance(facts, dict) or facts.get("key") != key:
        msg = "it is of other documents"
        raise ValueError(msg)
    num_lengths = facts.get("num_lengths")
    if type(num_lengths) is not int:
        msg = "it is damaged"
        raise ValueError(msg)
    num_bytes = _HEADER_BYTES + 16 * num_lengths
    num_bytes += _number_dtype(num_documents).itemsize * num_documents
    digest = hashlib.sha256()
    while piece := file.read(_READ_BYTES):
        digest.update(piece)
    is_whole = os.fstat(file.fileno()).st_size == num_bytes and num_lengths >= 0
    if not is_whole or digest.hexdigest() != facts.get("sha256"):
        msg = "it is damaged"
        raise ValueError(msg)
    return num_lengths


def _number_dtype(num_documents: int) -> np.dtype[Any]:
    return np.dtype("<u4" if num_documents < 1 << 32 else "<i8")


def _sort_stably(values: Ids) -> npt.NDArray[np.intp]:
    """Return ``np.argsort(values, kind="stable")`` of values that are not negative.

    By digits of 16 bits, which NumPy sorts in linear time.

    >>> _sort_stably(np.array([70000, 5, 70000, 3])).tolist()
    [3, 1, 0, 2]
    """
    largest = int(values.max(initial=0))
    order = np.argsort(values.astype(np.uint16), kind="stable")
    for shift in range(16, largest.bit_length(), 16):
        digits = (values[order] >> shift).astype(np.uint16)
        order = order[np.argsort(digits, kind="stable")]
    return order
