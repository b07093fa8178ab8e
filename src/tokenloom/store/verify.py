"""Whether a store is still as it was written: every byte is read and compared."""

import hashlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenloom._progress import open_bar
from tokenloom.errors import StoreError
from tokenloom.store.manifest import (
    DOCUMENTS,
    LEARNT,
    NUM_PLACE_FIELDS,
    OFFSETS,
    PLACES,
    is_loss_mask,
)
from tokenloom.store.npy import HEADER_BYTES
from tokenloom.store.reader import CURE, Store, StoredFile, find_problem, read_store

_READ_BYTES = 1 << 22

# Given the values of the next piece of a file, returns what is wrong with them.
_Check = Callable[[bytes], str | None]


def verify_store(path: str | os.PathLike[str], *, progress: bool | None = None) -> list[str]:
    """Read every byte of a store, and return what is wrong, file by file.

    Checks the SHA-256 of each file, that ids are below the vocabulary size, that the
    values of a loss mask are 0 or 1, that documents follow each other, that the places
    of the chunks of a preparation do, that the facts of a preparation are consistent,
    and that the vocabulary can be read.

    Parameters
    ----------
    path : str or path
    progress : bool, optional
        Whether to show a bar; by default where stderr is a terminal.

    Returns
    -------
    list of str
        One per bad file; empty where the store is as it was written.

    Raises
    ------
    StoreError
        The manifest cannot be used, so there is nothing to compare with.
    """
    store = read_store(path)
    files = list(store.files())
    problems = []
    with open_bar(
        total=sum(file.num_bytes for file in files),
        unit="B",
        unit_scale=True,
        desc="verify",
        progress=progress,
    ) as bar:
        for file in files:
            problem = find_problem(file) or _compare(file, _check_of(store, file), bar.update)
            if problem:
                problems.append(problem)
    if not problems:
        try:
            store.tokenizer()
            store.manifest.preparation  # noqa: B018  it is checked
        except StoreError as error:
            problems.append(str(error))
    return problems


def check_store(path: str | os.PathLike[str], *, progress: bool | None = None) -> None:
    """Raise an error that names each bad file of a store; see `verify_store`.

    Raises
    ------
    StoreError
        The store is not as it was written.
    """
    if problems := verify_store(path, progress=progress):
        msg = f"{os.fspath(path)} is damaged: " + "; ".join(problems)
        raise StoreError(msg)


def _compare(file: StoredFile, check: _Check, advance: Callable[[int], Any]) -> str | None:
    """Return what is wrong with the bytes of a file."""
    digest = hashlib.sha256()
    problem = None
    try:
        with file.path.open("rb") as opened:
            digest.update(opened.read(len(file.header)))
            advance(len(file.header))
            while piece := opened.read(_READ_BYTES):
                digest.update(piece)
                problem = problem or check(piece)
                advance(len(piece))
    except OSError as error:
        return f"{file.name} cannot be read: {error.strerror or error}"
    if digest.hexdigest() != file.sha256:
        return f"{file.name} must have the SHA-256 {file.sha256}, got {digest.hexdigest()}: {CURE}"
    return problem and f"{file.name} must hold {problem}: {CURE}"


def _check_of(store: Store, file: StoredFile) -> _Check:
    if file.path.name == DOCUMENTS:
        return _OffsetsCheck(store.manifest.num_tokens, file.num_bytes - HEADER_BYTES)
    if file.path.name == PLACES:
        return _PlacesCheck(store, file.num_bytes - HEADER_BYTES)
    if is_loss_mask(file.path.name):
        return _check_mask
    if not file.header:
        return lambda _: None

    def check_ids(piece: bytes) -> str | None:
        largest = int(np.frombuffer(piece, store.dtype).max())
        size = store.manifest.vocab_size
        return None if largest < size else f"ids below vocab_size={size}, got {largest}"

    return check_ids


def _check_mask(piece: bytes) -> str | None:
    largest = int(np.frombuffer(piece, LEARNT).max())
    return None if largest < 2 else f"0 or 1 for each token, got {largest}"


class _OffsetsCheck:
    """Offsets of documents begin at 0, never fall, and end at the number of tokens."""

    def __init__(self, num_tokens: int, num_bytes: int) -> None:
        self._num_tokens = num_tokens
        self._left = num_bytes
        self._last: int | None = None

    def __call__(self, piece: bytes) -> str | None:
        offsets: npt.NDArray[np.int64] = np.frombuffer(piece, OFFSETS)
        first = 0 if self._last is None else self._last
        falls = bool((np.diff(offsets, prepend=first) < 0).any())
        starts_wrong = self._last is None and offsets[0] != 0
        self._last, self._left = int(offsets[-1]), self._left - len(piece)
        if falls or starts_wrong or (not self._left and self._last != self._num_tokens):
            return f"offsets that never fall, from 0 to {self._num_tokens}"
        return None


class _PlacesCheck:
    """Places of chunks follow each other, from the first token and the first source on."""

    def __init__(self, store: Store, num_bytes: int) -> None:
        self._store, self._left = store, num_bytes
        self._held = b""

    def __call__(self, piece: bytes) -> str | None:
        # The places are held in memory: there is one row for some megabytes of text.
        self._held += piece
        self._left -= len(piece)
        return None if self._left else find_wrong_place(self._store, self._held)


def find_wrong_place(store: Store, content: bytes) -> str | None:
    """Return what is wrong with the places of a preparation's chunks, or None.

    Parameters
    ----------
    store : Store
    content : bytes
        What the file holds after its header.
    """
    places = np.frombuffer(content, OFFSETS).reshape(-1, NUM_PLACE_FIELDS)
    start, source, offset, state, is_inside, characters = places.T
    # Compared without subtraction, which could overflow.
    is_same_source = source[1:] == source[:-1]
    follows = (
        (start[1:] >= start[:-1])
        & (source[1:] >= source[:-1])
        & ((offset[1:] >= offset[:-1]) | ~is_same_source)
    )
    is_right = (
        (start >= 0)
        & (start <= store.manifest.num_tokens)
        & (source >= 0)
        & (source < len(store.manifest.sources))
        & (offset >= 0)
        & (state >= 0)
        & (state < 3)
        & (is_inside >= 0)
        & (is_inside < 2)
        & (characters >= 0)
    )
    if follows.all() and is_right.all() and start[0] == 0 and source[0] == 0:
        return None
    return "places of chunks that follow each other within the sources and tokens"
