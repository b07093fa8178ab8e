"""The laws of the stream, checked on this machine with a given corpus and given settings."""

import contextlib
import itertools
import multiprocessing
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader

from tokenloom._io.interrupts import Interrupt
from tokenloom._wording import count, show
from tokenloom.corpus.corpus import Corpus
from tokenloom.corpus.mixture import Mixture
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.loading.batch import Batch
from tokenloom.loading.dataset import Windows
from tokenloom.loading.loader import Loader
from tokenloom.loading.read_ahead import WorkerOptions
from tokenloom.loading.shard import Shard
from tokenloom.plan.batch_sizes import BatchSizes
from tokenloom.plan.mixture import MixtureOrder
from tokenloom.plan.order import ShuffledOrder, Tail
from tokenloom.plan.packed import PackedOrder
from tokenloom.plan.plan import ORDERS
from tokenloom.testing.laws import (
    assert_resumes_everywhere,
    check_batches,
    check_cost,
    check_length,
    check_ranks,
    check_seeds,
    check_shares,
    check_state,
    check_stream,
    check_world_sizes,
    digest,
)

_MIXTURE = MixtureOrder.kind
_TAILS: tuple[Tail, ...] = ("drop", "pad")
# The number of batches of a whole corpus that are read, spread over an epoch.
_NUM_SAMPLES = 64
# Whole epochs are read only from a part of the corpus.
_BATCHES_PER_EPOCH = 12
# After each batch of such an epoch a stream is resumed.
_BATCHES_TO_RESUME = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The corpus and the settings with which the laws are checked.

    Parameters
    ----------
    corpus : Corpus
    mixture : Mixture, optional
        The mixture that is checked too; by default one of two halves of the corpus.
    batch_size, seq_len, seed
        As for `RandomWindows`. Where the batch size changes, each short epoch that is
        read has all sizes, and sequential order, which has only one, is left out.
    num_workers : sequence of int
        Numbers of workers that are tried, in addition to 0.
    start_methods : sequence of str
        Start methods that are tried for the worker processes of a DataLoader.
    """

    corpus: Corpus
    mixture: Mixture | None = None
    batch_size: int | BatchSizes = 32
    seq_len: int = 35
    seed: int = 0
    num_workers: Sequence[int] = (1, 2, 4)
    start_methods: Sequence[str] = tuple(multiprocessing.get_all_start_methods())

    def __post_init__(self) -> None:
        known = multiprocessing.get_all_start_methods()
        unknown = [method for method in self.start_methods if method not in known]
        if unknown or not self.start_methods:
            msg = f"start methods must be among {', '.join(known)}, got {show(self.start_methods)}"
            raise ArgumentError(msg)
        if not self.num_workers or min(self.num_workers) < 1:
            msg = f"numbers of workers must be at least 1, got {show(self.num_workers)}"
            raise ArgumentError(msg)
        if self.mixture is None and len(self.corpus) > 1:
            first, second = self.corpus.split(0.5)
            halves = {"first half": (first, 0.6), "second half": (second, 0.4)}
            object.__setattr__(self, "mixture", Mixture(halves))
        for kind, tail in self.streams:
            self.windows(kind, tail=tail)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The orders that are tried; a mixture and packed order only if they have a batch."""
        changes = isinstance(self.batch_size, BatchSizes)
        kinds = tuple(
            kind
            for kind, order in ORDERS.items()
            if isinstance(order, ShuffledOrder) or not changes
        )
        with contextlib.suppress(CorpusError):
            self.windows(_MIXTURE)
            kinds += (_MIXTURE,)
        if self.corpus.document_offsets is None:
            return kinds
        with contextlib.suppress(CorpusError):
            self.windows(PackedOrder.kind, num_batches=1)
            kinds += (PackedOrder.kind,)
        return kinds

    @property
    def streams(self) -> list[tuple[str, Tail]]:
        """The orders that are tried, each with the tails that it can have."""
        return list(filter(_is_possible, itertools.product(self.kinds, _TAILS)))

    @property
    def world_sizes(self) -> list[int]:
        """World sizes up to 4 that divide the batch."""
        return [
            size for size in range(1, 5) if not any(number % size for number in self._all_sizes)
        ]

    @property
    def _all_sizes(self) -> list[int]:
        sizes = self.batch_size
        return [size for _, size in sizes.steps] if isinstance(sizes, BatchSizes) else [sizes]

    def _fit_sizes(self, num_windows: int) -> int | BatchSizes:
        """Return the batch size, whose changes are spread over an epoch of ``num_windows``."""
        if not isinstance(self.batch_size, BatchSizes):
            return self.batch_size
        sizes = self._all_sizes
        step = max(1, num_windows // len(sizes))
        return BatchSizes(tuple((step * at, size) for at, size in enumerate(sizes)))

    def windows(
        self,
        kind: str,
        *,
        tail: Tail = "drop",
        num_batches: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> Windows:
        """Return windows over the whole corpus, or over a part that makes ``num_batches``."""
        corpus: Corpus | Mixture = self.corpus
        batch_size, inputs = self.batch_size, None
        if num_batches is not None:
            num_windows = num_batches * max(self._all_sizes)
            batch_size, inputs = self._fit_sizes(num_windows), num_windows * self.seq_len
        if kind == _MIXTURE:
            if self.mixture is None:
                msg = "a corpus of one token has no halves"
                raise CorpusError(msg)
            corpus = self.mixture if inputs is None else self.mixture.with_epoch(inputs)
        elif inputs is not None:
            corpus = self.corpus.first(inputs + self.seq_len + 1)
        return Windows(
            kind,
            corpus,
            batch_size=batch_size,
            seq_len=self.seq_len,
            seed=self.seed,
            tail=tail,
            shard=Shard(rank=rank, world_size=world_size),
        )


class ReadConfig(NamedTuple):
    """How a stream is read with a `Loader`, whose workers are threads."""

    kind: str
    tail: Tail
    world_size: int
    num_workers: int
    block_size: int

    def __str__(self) -> str:
        return f"{_describe(self)}, {count(self.num_workers, 'worker')}"

    def loader(self, windows: Windows) -> Loader:
        """Return a loader of windows."""
        options = WorkerOptions(block_size=self.block_size)
        return Loader(windows, num_workers=self.num_workers, worker_options=options)

    def loaders(self, settings: Settings) -> list[Loader]:
        """Return the loaders of all ranks, of few batches per epoch."""
        return [
            self.loader(
                settings.windows(
                    self.kind,
                    tail=self.tail,
                    num_batches=_BATCHES_TO_RESUME,
                    rank=rank,
                    world_size=self.world_size,
                )
            )
            for rank in range(self.world_size)
        ]


class ProcessReadConfig(NamedTuple):
    """How a stream is read with PyTorch's DataLoader, whose workers are processes."""

    kind: str
    tail: Tail
    world_size: int
    num_workers: int
    start_method: str
    persistent: bool

    def __str__(self) -> str:
        text = f"{_describe(self)}, {count(self.num_workers, 'process', 'processes')}"
        return f"{text}, {self.start_method}{', persistent' * self.persistent}"

    def loader(self, windows: Windows) -> "DataLoader[Any]":
        """Return PyTorch's loader of windows."""
        return DataLoader(
            windows,
            batch_size=None,
            num_workers=self.num_workers,
            persistent_workers=self.persistent,
            multiprocessing_context=self.start_method,
        )


def choose_configs(settings: Settings) -> list[ReadConfig]:
    """Return configurations of a `Loader` in which each pair of settings occurs."""
    numbers = (0, *settings.num_workers)
    factors = settings.kinds, _TAILS, settings.world_sizes, numbers, (1, 2)
    rows = cover_pairs(*factors, possible=_is_possible)
    return list(itertools.starmap(ReadConfig, rows))


def choose_process_configs(settings: Settings) -> list[ProcessReadConfig]:
    """Return configurations of a DataLoader in which each pair of settings occurs."""
    sizes, numbers, methods = settings.world_sizes, settings.num_workers, settings.start_methods
    factors = settings.kinds, _TAILS, sizes, numbers, methods, (True, False)
    rows = cover_pairs(*factors, possible=_is_possible)
    return list(itertools.starmap(ProcessReadConfig, rows))


def _is_possible(row: Sequence[Any]) -> bool:
    """Return whether a row begins with an order and a tail that it can have."""
    return tuple(row[:2]) != (_MIXTURE, "pad")


def cover_pairs(
    *factors: Sequence[Any], possible: Callable[[Sequence[Any]], bool] = bool
) -> list[tuple[Any, ...]]:
    """Return rows of one level per factor, such that each pair of levels occurs in a row.

    Rows that are not ``possible`` are left out, and so are pairs that occur only in them.

    Greedy: the row that covers most new pairs comes next (the idea of AETG,
    Cohen, Dalal, Fredman and Patton, 1997).

    >>> len(cover_pairs("ab", "cd", "ef"))
    4
    """
    rows = list(filter(possible, itertools.product(*factors)))

    def pairs(row: tuple[Any, ...]) -> set[tuple[Any, Any]]:
        return set(itertools.combinations(enumerate(row), 2))

    missing = set().union(*map(pairs, rows))
    chosen = []
    while missing:
        best = max(rows, key=lambda row: len(pairs(row) & missing))
        missing -= pairs(best)
        chosen.append(best)
    return chosen


class Check(NamedTuple):
    """A law, what it is checked on, and a function that raises if it is broken."""

    law: str
    what: str
    run: Callable[[], None]


class Outcome(NamedTuple):
    """The outcome of a check; ``problem`` is empty if the law holds."""

    law: str
    what: str
    seconds: float
    problem: str


def make_checks(settings: Settings) -> list[Check]:
    """Return the checks of all laws."""
    kinds_and_tails = settings.streams
    sampled = [_check_tokens(settings, *pair) for pair in kinds_and_tails]
    counted = [_check_counts(settings, *pair) for pair in kinds_and_tails]
    configs = choose_configs(settings)
    all_configs: list[ReadConfig | ProcessReadConfig] = [
        *configs,
        *choose_process_configs(settings),
    ]
    whole = [settings.windows(kind) for kind in settings.kinds]
    return [
        *sampled,
        *(_check_workers(settings, config) for config in all_configs),
        *(_check_devices(settings, *pair) for pair in kinds_and_tails),
        *_check_ranks(settings),
        *(_check_resume(settings, *pair) for pair in _in_pairs(configs, settings.streams)),
        *counted,
        *(_check_shares(settings, epoch) for epoch in (0, 3) if _MIXTURE in settings.kinds),
        *(Check("8 seeds", w.plan.kind, partial(check_seeds, w.plan)) for w in whole),
        *(Check("9 state", w.plan.kind, partial(check_state, Loader(w))) for w in whole),
        *(Check("10 cost", w.plan.kind, partial(check_cost, w.plan)) for w in whole),
    ]


def run_check(check: Check) -> Outcome:
    """Run a check and return its outcome."""
    began_at = time.perf_counter()
    problem = ""
    with warnings.catch_warnings():
        # More workers than cores are slow, which does not matter here.
        warnings.filterwarnings("ignore", "This DataLoader will create")
        try:
            check.run()
        except Exception as error:  # noqa: BLE001  whatever goes wrong here is what is reported
            problem = f"{type(error).__name__}: {error}"
    return Outcome(check.law, check.what, time.perf_counter() - began_at, problem)


def describe_machine(settings: Settings) -> Iterator[str]:
    """Yield the lines about machine and settings for the report of a failure."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("tokenloom", "torch", "numpy"))
    yield f"{versions}, Python {platform.python_version()}"
    yield f"{platform.platform()}, {count(os.cpu_count() or 1, 'core')}"
    yield (
        f"{settings.corpus!r} of {settings.corpus.tokens.dtype}, batch_size={settings.batch_size}, "
        f"seq_len={settings.seq_len}, seed={settings.seed}"
    )


def _describe(config: ReadConfig | ProcessReadConfig) -> str:
    return f"{config.kind}, tail={config.tail}, {count(config.world_size, 'rank')}"


def _check_tokens(settings: Settings, kind: str, tail: Tail) -> Check:
    windows = settings.windows(kind, tail=tail)
    last = windows.plan.num_batches - 1
    rows = [last * step // _NUM_SAMPLES for step in range(_NUM_SAMPLES + 1)]
    run = partial(check_batches, windows, rows)
    return Check("1, 2 tokens", f"{kind}, tail={tail}", run)


def _check_counts(settings: Settings, kind: str, tail: Tail) -> Check:
    windows = settings.windows(kind, tail=tail, num_batches=_BATCHES_PER_EPOCH)
    return Check("6, 7 counts", f"{kind}, tail={tail}", partial(check_length, windows))


def _check_shares(settings: Settings, epoch: int) -> Check:
    windows = settings.windows(_MIXTURE, num_batches=_BATCHES_PER_EPOCH)
    windows.set_epoch(epoch)
    what = f"shares of a mixture, epoch {epoch}"
    return Check("6, 7 counts", what, partial(check_shares, windows))


def _check_workers(settings: Settings, config: ReadConfig | ProcessReadConfig) -> Check:
    def run() -> None:
        windows = settings.windows(
            config.kind,
            tail=config.tail,
            num_batches=_BATCHES_PER_EPOCH,
            rank=config.world_size - 1,
            world_size=config.world_size,
        )
        loader = config.loader(windows)
        for epoch in (0, 1):
            # A Loader goes there by itself.
            windows.set_epoch(epoch)
            expected = [digest(batch) for batch in windows]
            check_stream(expected, map(digest, _start(loader)), law="law 3", what=str(config))

    return Check("3 workers", f"the last of {config}", run)


def _start(loader: "Loader | DataLoader[Any]") -> Iterator[Batch]:
    """Return the batches of a loader; a signal waits until all of its workers have been started."""
    with Interrupt(saves=True) as interrupt:
        batches = iter(loader)
    interrupt.end()
    return batches


def _check_devices(settings: Settings, kind: str, tail: Tail) -> Check:
    def run() -> None:
        windows = settings.windows(kind, tail=tail, num_batches=_BATCHES_PER_EPOCH)
        expected = [digest(batch) for batch in windows]
        devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        for device, resident in itertools.product(devices, (False, True)):
            loader = Loader(windows, device=device, resident=resident, pin_memory=True)
            what = f"on {device}, resident={resident}"
            check_stream(expected, map(digest, loader), law="law 3", what=what)

    return Check("3 devices", f"{kind}, tail={tail}", run)


def _check_ranks(settings: Settings) -> Iterator[Check]:
    for kind in settings.kinds:
        make = partial(_part, settings, kind)
        yield Check("4 ranks", f"{kind}, refused", partial(check_world_sizes, make))
        for size in settings.world_sizes:
            run = partial(check_ranks, make, size)
            yield Check("4 ranks", f"{kind}, {count(size, 'rank')}", run)


def _part(settings: Settings, kind: str, rank: int, world_size: int) -> Windows:
    return settings.windows(kind, num_batches=_BATCHES_PER_EPOCH, rank=rank, world_size=world_size)


def _check_resume(settings: Settings, saved: ReadConfig, restored: ReadConfig) -> Check:
    run = partial(
        assert_resumes_everywhere,
        partial(saved.loaders, settings),
        partial(restored.loaders, settings),
    )
    return Check("5 resume", f"{saved} -> {restored}", run)


def _in_pairs(
    configs: Sequence[ReadConfig], streams: Sequence[tuple[str, Tail]]
) -> Iterator[tuple[ReadConfig, ReadConfig]]:
    """Yield each configuration with the next one of its stream: one saves, one restores."""
    for stream in streams:
        mine = [config for config in configs if (config.kind, config.tail) == stream]
        yield from zip(mine, [*mine[1:], *mine[:1]], strict=True)
