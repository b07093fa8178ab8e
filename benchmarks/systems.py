"""What can be timed: tokenloom, what PyTorch users write by hand, and the limits.

A system turns a `Task` into endless batches that unpack as ``inputs, targets``,
int64 tensors of shape (batch_size, seq_len).
"""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.stride_tricks import as_strided, sliding_window_view
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler
from torchdata.stateful_dataloader import StatefulDataLoader

import textbook
import tokenloom as tl

Batches = Iterator[Any]
NUM_TEXTBOOK_TOKENS = 2_000_000
NUM_AT_ONCE = 64
_MAX_STARTS = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a system is asked for.

    Attributes
    ----------
    path : Path
        A .npy file of token ids, of any unsigned dtype.
    folder : Path
        Where a system may keep files of its own, for this shape only.
    """

    path: Path
    folder: Path
    batch_size: int
    seq_len: int
    num_workers: int = 0

    def tokens(self) -> "np.memmap[Any, Any]":
        """Open the ids as a memory map, shape (num_tokens,)."""
        tokens: np.memmap[Any, Any] = np.load(self.path, mmap_mode="r")
        return tokens

    def windows(self) -> npt.NDArray[Any]:
        """Return every window as a view, shape (num_starts, seq_len + 1)."""
        return sliding_window_view(np.asarray(self.tokens()), self.seq_len + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedTask:
    """Several corpora that are read together, each with a share of the rows.

    Attributes
    ----------
    parts : tuple of Task
        All of one shape and one number of workers.
    weights : tuple of float
        Of each part; their sum is 1.
    """

    parts: tuple[Task, ...]
    weights: tuple[float, ...]

    @property
    def batch_size(self) -> int:
        """The number of rows of a batch, of all parts together."""
        return self.parts[0].batch_size

    @property
    def seq_len(self) -> int:
        """The number of inputs of a row."""
        return self.parts[0].seq_len

    @property
    def num_workers(self) -> int:
        """The number of workers, of all parts together."""
        return self.parts[0].num_workers


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One way to load batches.

    Attributes
    ----------
    title : str
        Its name in tables.
    kind : str
        "tokenloom", "peer" (what a user could pick instead) or "limit".
    batches : callable
        Task to endless batches.
    order : str
        "random" or "sequential".
    takes_workers : bool
        Whether ``num_workers`` above 0 means anything.
    needs_workers : bool
        Whether 0 means nothing.
    module : str, optional
        What must be installed.
    prepare : callable, optional
        Writes the system's own files of the corpus, once per shape.
    """

    title: str
    kind: str
    batches: Callable[[Task], Batches]
    order: str = "random"
    takes_workers: bool = True
    needs_workers: bool = False
    module: str | None = None
    prepare: Callable[[Task], None] | None = None

    def takes(self, num_workers: int) -> bool:
        """Return whether the system takes this number of workers."""
        return self.takes_workers if num_workers else not self.needs_workers


def endless(epochs: Any) -> Batches:
    """Repeat what yields an epoch each time that it is iterated."""
    return itertools.chain.from_iterable(itertools.repeat(epochs))


def split(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs and targets of int64 rows of seq_len + 1 ids, as views."""
    return rows[:, :-1], rows[:, 1:]


def make_windows(task: Task, order: str) -> Any:
    """Return tokenloom's windows for a task."""
    corpus = tl.Corpus.from_tokens(task.tokens())
    make = tl.RandomWindows if order == "random" else tl.SequentialWindows
    return make(corpus, batch_size=task.batch_size, seq_len=task.seq_len)


def _ours(order: str) -> dict[str, System]:
    def bare(task: Task) -> Batches:
        return endless(make_windows(task, order))

    def loader(task: Task) -> Batches:
        windows = make_windows(task, order)
        return iter(tl.Loader(windows, num_workers=task.num_workers, num_epochs=None))

    def data_loader(task: Task) -> Batches:
        windows = make_windows(task, order)
        return endless(DataLoader(windows, batch_size=None, num_workers=task.num_workers))

    def stateful(task: Task) -> Batches:
        windows = make_windows(task, order)
        return endless(StatefulDataLoader(windows, batch_size=None, num_workers=task.num_workers))

    def ours(title: str, batches: Callable[[Task], Batches], **more: bool) -> System:
        title = f"tokenloom, {order}, {title}"
        return System(title=title, kind="tokenloom", batches=batches, order=order, **more)

    return {
        order: ours("bare", bare, takes_workers=False),
        f"{order}-loader": ours("Loader", loader),
        f"{order}-dataloader": ours("DataLoader", data_loader),
        f"{order}-stateful": ours("StatefulDataLoader", stateful),
    }


def _textbook(epoch: Callable[..., Batches]) -> Callable[[Task], Batches]:
    def batches(task: Task) -> Batches:
        corpus = task.tokens()[:NUM_TEXTBOOK_TOKENS].tolist()
        generator = random.Random(0)  # noqa: S311  no cryptography
        while True:
            yield from epoch(
                corpus, batch_size=task.batch_size, seq_len=task.seq_len, generator=generator
            )

    return batches


def nanogpt(task: Task) -> Batches:
    """Draw starts with replacement, as nanoGPT's get_batch does."""
    header, seq_len = task.tokens(), task.seq_len
    while True:
        # nanoGPT opens its file for each batch, against a leak of memory.
        data = np.memmap(task.path, dtype=header.dtype, mode="r", offset=header.offset)
        starts = torch.randint(len(data) - seq_len, (task.batch_size,))
        yield (
            torch.stack([torch.from_numpy(data[i : i + seq_len].astype(np.int64)) for i in starts]),
            torch.stack(
                [torch.from_numpy(data[i + 1 : i + 1 + seq_len].astype(np.int64)) for i in starts]
            ),
        )


class MapStyle(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """The dataset that most people write: one window per index."""

    def __init__(self, task: Task) -> None:
        self._tokens = task.tokens()
        self._seq_len = task.seq_len

    def __len__(self) -> int:
        return (len(self._tokens) - 1) // self._seq_len

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        start = index * self._seq_len
        ids = self._tokens[start : start + self._seq_len + 1].astype(np.int64)
        window = torch.from_numpy(ids)
        return window[:-1], window[1:]


def _map_style(loader: Callable[..., Any]) -> Callable[[Task], Batches]:
    def batches(task: Task) -> Batches:
        dataset = MapStyle(task)
        return endless(
            loader(
                dataset,
                sampler=RandomSampler(dataset),
                batch_size=task.batch_size,
                num_workers=task.num_workers,
                drop_last=True,
            )
        )

    return batches


def _draw_starts(task: Task, num_windows: int) -> npt.NDArray[np.int64]:
    """Return drawn starts for whole blocks of batches, so that the order costs nothing."""
    num_blocks = max(1, min(num_windows // task.seq_len, _MAX_STARTS) // task.batch_size)
    num_blocks = -(-num_blocks // NUM_AT_ONCE)
    shape = num_blocks, NUM_AT_ONCE, task.batch_size
    return np.random.default_rng(0).integers(num_windows, size=shape)


def gather(task: Task) -> Batches:
    """Gather each batch by one call of NumPy; its starts are known."""
    windows = task.windows()
    starts = _draw_starts(task, len(windows)).reshape(-1, task.batch_size)
    for of_batch in itertools.cycle(starts):
        yield split(torch.from_numpy(windows[of_batch].astype(np.int64)))


def gather_many(task: Task) -> Batches:
    """Gather 64 batches by one call of NumPy; their starts are known."""
    windows = task.windows()
    for of_block in itertools.cycle(_draw_starts(task, len(windows))):
        rows = torch.from_numpy(windows[of_block].astype(np.int64))
        yield from map(split, rows.unbind())


def gather_lanes(task: Task) -> Batches:
    """Gather the next window of each lane by one call of NumPy per batch."""
    windows = task.windows()
    lane_len = len(windows) // task.batch_size
    lanes = np.arange(task.batch_size) * lane_len
    num_batches = max(1, lane_len // task.seq_len)
    while True:
        for start in range(0, num_batches * task.seq_len, task.seq_len):
            yield split(torch.from_numpy(windows[lanes + start].astype(np.int64)))


def copy_lanes(task: Task) -> Batches:
    """Copy the next window of each lane out of a strided view: nothing is looked up."""
    tokens = np.asarray(task.tokens())
    lane_len = (len(tokens) - 1) // task.batch_size
    shape = lane_len // task.seq_len, task.batch_size, task.seq_len + 1
    strides = tuple(tokens.itemsize * step for step in (task.seq_len, lane_len, 1))
    batches = as_strided(tokens, shape, strides)
    for batch in itertools.cycle(range(len(batches))):
        yield split(torch.from_numpy(batches[batch].astype(np.int64)))


def memcpy(task: Task) -> Batches:
    """Copy int64 inputs and targets that lie ready."""
    inputs = np.zeros((task.batch_size, task.seq_len), np.int64)
    targets = np.zeros_like(inputs)
    while True:
        yield torch.from_numpy(inputs.copy()), torch.from_numpy(targets.copy())


class _SameArray(IterableDataset[npt.NDArray[Any]]):
    """The same narrow array again and again: a message with nothing behind it."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array = array

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return itertools.repeat(self._array)


def _as_it_is(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Keep DataLoader from making a tensor, which is a slower message."""
    return array


def message(task: Task) -> Batches:
    """Send a narrow array per batch through a DataLoader, and widen it here."""
    array = np.array(task.windows()[: task.batch_size])
    loader: Any = DataLoader(
        _SameArray(array), batch_size=None, num_workers=task.num_workers, collate_fn=_as_it_is
    )
    for ids in endless(loader):
        yield split(torch.from_numpy(ids.astype(np.int64)))


def _peer(title: str, batches: Callable[[Task], Batches], **more: Any) -> System:
    return System(title=title, kind="peer", batches=batches, **more)


def _limit(title: str, batches: Callable[[Task], Batches], **more: Any) -> System:
    return System(title=title, kind="limit", batches=batches, **more)


SYSTEMS: dict[str, System] = {
    **_ours("random"),
    **_ours("sequential"),
    "textbook-random": _peer(
        "textbook, random", _textbook(textbook.random_batches), takes_workers=False
    ),
    "textbook-sequential": _peer(
        "textbook, sequential",
        _textbook(textbook.sequential_batches),
        order="sequential",
        takes_workers=False,
    ),
    "nanogpt": _peer("nanoGPT-style get_batch", nanogpt, takes_workers=False),
    "map-style": _peer("map-style + RandomSampler, DataLoader", _map_style(DataLoader)),
    "map-style-stateful": _peer(
        "map-style + RandomSampler, StatefulDataLoader", _map_style(StatefulDataLoader)
    ),
    "gather": _limit("limit: a gather per batch", gather, takes_workers=False),
    "gather-64": _limit("limit: a gather per 64 batches", gather_many, takes_workers=False),
    "gather-lanes": _limit(
        "limit: a gather of lanes per batch", gather_lanes, order="sequential", takes_workers=False
    ),
    "copy-lanes": _limit(
        "limit: a strided copy of lanes per batch",
        copy_lanes,
        order="sequential",
        takes_workers=False,
    ),
    "memcpy": _limit("limit: memcpy of both tensors", memcpy, takes_workers=False),
    "message": _limit("limit: a narrow DataLoader message per batch", message, needs_workers=True),
}
