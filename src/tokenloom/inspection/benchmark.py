"""How fast this machine reads a stream in each of several settings."""

import contextlib
import copy
import itertools
import statistics
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch.utils.data import DataLoader

from tokenloom.errors import ArgumentError
from tokenloom.loading.batch import Batch
from tokenloom.loading.dataset import Windows
from tokenloom.loading.loader import Loader
from tokenloom.loading.read_ahead import WorkerOptions
from tokenloom.plan.division import default_block_size

T = TypeVar("T")

STEP_SECONDS = 1e-3
NUM_REPETITIONS = 5

# A wait that is shorter by this share of a step is not worth another worker.
_WORTH = 0.01
_BLOCK_SIZES = (1, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Settings with which windows are read.

    Attributes
    ----------
    reader : "Loader" or "DataLoader"
        `tokenloom.Loader`, or PyTorch's with ``batch_size=None``.
    num_workers : int
    block_size : int or None
        Batches that a `Loader` reads at once; None: its default, or a DataLoader.
    pin_memory : bool
    """

    reader: Literal["Loader", "DataLoader"]
    num_workers: int
    block_size: int | None = None
    pin_memory: bool = False

    def __str__(self) -> str:
        """Return the Python code that makes such a reader of ``windows``."""
        words = ["windows"]
        if self.reader == "DataLoader":
            words.append("batch_size=None")
        if self.num_workers:
            words.append(f"num_workers={self.num_workers}")
        if self.pin_memory:
            words.append("pin_memory=True")
        if self.block_size is not None:
            words.append(f"worker_options=WorkerOptions(block_size={self.block_size})")
        return f"{self.reader}({', '.join(words)})"


class Sample(NamedTuple):
    """One measurement of a setting; times in seconds."""

    setting: Setting
    tokens_per_second: float
    first_batch_seconds: float
    wait_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The medians of the samples of a setting.

    Attributes
    ----------
    setting : Setting
    tokens_per_second : float
        Inputs per second of a loop that only reads.
    first_batch_seconds : float
        From the start of an iteration, including its workers, to the first batch.
    wait_seconds : float
        Mean time until the next batch arrives, after each step of a millisecond.
    num_samples : int
    """

    setting: Setting
    tokens_per_second: float
    first_batch_seconds: float
    wait_seconds: float
    num_samples: int


def choose_settings(
    windows: Windows, *, num_workers: Sequence[int] = (0, 1, 2, 4), has_gpu: bool | None = None
) -> list[Setting]:
    """Return the settings that are worth trying for these windows.

    Each number of workers is tried with `Loader` in blocks of the default
    size, of 8 batches and of one, and with a plain DataLoader. Where there is
    a GPU, the default blocks and the DataLoader are tried pinned too.

    Parameters
    ----------
    windows : RandomWindows or SequentialWindows
    num_workers : sequence of int
    has_gpu : bool, optional
        By default whether there is one.

    Raises
    ------
    ArgumentError
        There are no numbers of workers, or one is negative.
    """
    if not num_workers or min(num_workers) < 0:
        msg = f"numbers of workers must be at least 0, got {list(num_workers)}"
        raise ArgumentError(msg)
    has_gpu = torch.cuda.is_available() if has_gpu is None else has_gpu
    usual = default_block_size(windows.plan, windows.columns)
    sizes: list[int | None] = [None, *(size for size in _BLOCK_SIZES if size < usual)]
    numbers = list(dict.fromkeys(num_workers))
    settings = [
        Setting(reader="Loader", num_workers=number, block_size=size)
        for number in numbers
        for size in sizes
    ]
    settings += [Setting(reader="DataLoader", num_workers=number) for number in numbers]
    if has_gpu:
        settings += [
            Setting(reader=reader, num_workers=number, pin_memory=True)
            for reader in ("Loader", "DataLoader")
            for number in numbers
        ]
    return settings


def take_samples(
    windows: Windows, settings: Sequence[Setting], *, seconds: float
) -> Iterator[Sample]:
    """Yield samples of the settings in turn, so that a slow moment hits all of them.

    Parameters
    ----------
    windows : RandomWindows or SequentialWindows
        Copied, and not changed.
    settings : sequence of Setting
    seconds : float
        Approximate duration. Each setting is measured at least once, however long
        that takes, and at most five times.

    Raises
    ------
    ArgumentError
        ``seconds`` is not above 0.
    """
    if not 0 < seconds < float("inf"):
        msg = f"seconds must be in (0, inf), got {seconds}"
        raise ArgumentError(msg)
    # Starting workers, and what is drained before it counts, takes as long again.
    part = seconds / (NUM_REPETITIONS * len(settings)) / 4
    deadline = time.perf_counter() + seconds
    for repetition, setting in itertools.product(range(NUM_REPETITIONS), settings):
        if repetition and time.perf_counter() > deadline:
            return
        yield _take_sample(windows, setting, part)


def summarize(samples: Iterable[Sample]) -> list[Measurement]:
    """Return the medians of each setting, in order of first appearance."""
    groups: dict[Setting, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.setting, []).append(sample)
    return [
        Measurement(
            setting=setting,
            tokens_per_second=statistics.median(sample.tokens_per_second for sample in group),
            first_batch_seconds=statistics.median(sample.first_batch_seconds for sample in group),
            wait_seconds=statistics.median(sample.wait_seconds for sample in group),
            num_samples=len(group),
        )
        for setting, group in groups.items()
    ]


def recommend(measurements: Sequence[Measurement]) -> Measurement:
    """Return the simplest setting whose wait is about the shortest.

    "About" means within a hundredth of a step. Simpler means fewer workers, then
    no pinning, then a `Loader`, then blocks of the default size; among equals,
    the one with the shortest wait is returned.

    >>> fast = Measurement(setting=Setting(reader="Loader", num_workers=2), num_samples=1,
    ...     tokens_per_second=9e6, first_batch_seconds=0.1, wait_seconds=2e-6)
    >>> slow = Measurement(setting=Setting(reader="Loader", num_workers=0), num_samples=1,
    ...     tokens_per_second=9e6, first_batch_seconds=0.0, wait_seconds=9e-6)
    >>> recommend([fast, slow]) is slow
    True
    """
    least = min(measurement.wait_seconds for measurement in measurements)
    good = [
        measurement
        for measurement in measurements
        if measurement.wait_seconds <= least + _WORTH * STEP_SECONDS
    ]

    def complexity(measurement: Measurement) -> tuple[Any, ...]:
        setting = measurement.setting
        is_default = setting.block_size is None
        is_ours = setting.reader == "Loader"
        return (
            setting.num_workers,
            setting.pin_memory,
            not is_ours,
            not is_default,
            measurement.wait_seconds,
        )

    return min(good, key=complexity)


def _take_sample(windows: Windows, setting: Setting, seconds: float) -> Sample:
    with warnings.catch_warnings():
        # More workers than cores are tried on purpose.
        warnings.filterwarnings("ignore", "This DataLoader will create")
        began_at = time.perf_counter()
        with contextlib.closing(_read(windows, setting)) as batches:
            _use(next(batches))
            first_batch_seconds = time.perf_counter() - began_at
            # Batches that were read ahead during the start would distort the rate.
            _drain(batches, seconds)
            num_batches, spent = _drain(batches, seconds)
            wait_seconds = _wait(batches, seconds)
    plan = windows.plan
    # Batches may differ in size, and padding is no input: the mean number of inputs is counted.
    num_inputs = num_batches * plan.num_inputs / plan.num_batches / windows.shard.world_size
    return Sample(setting, num_inputs / spent, first_batch_seconds, wait_seconds)


def _read(windows: Windows, setting: Setting) -> Generator[Batch, None, None]:
    """Yield batches without end."""
    windows = copy.deepcopy(windows)
    if setting.reader == "Loader":
        options = WorkerOptions(block_size=setting.block_size)
        yield from Loader(
            windows,
            num_workers=setting.num_workers,
            num_epochs=None,
            pin_memory=setting.pin_memory,
            worker_options=options,
        )
    loader: DataLoader[Batch] = DataLoader(
        windows,
        batch_size=None,
        num_workers=setting.num_workers,
        pin_memory=setting.pin_memory,
        persistent_workers=setting.num_workers > 0,
        generator=torch.Generator(),
    )
    for epoch in itertools.count():
        windows.set_epoch(epoch)
        yield from loader


def count_batches(
    batches: Iterator[T], seconds: float, *, use: Callable[[T], object], num_at_once: int = 1
) -> tuple[int, float]:
    """Return how many batches were read in about ``seconds``, and the seconds spent.

    Parameters
    ----------
    batches : iterator
        Without end.
    seconds : float
    use : callable
        Called with each batch.
    num_at_once : int
        Batches that are read between two readings of the clock, which take long
        compared to a batch of microseconds.
    """
    num_batches, spent = 0, 0.0
    began_at = time.perf_counter()
    while not num_batches or spent < seconds:
        for batch in itertools.islice(batches, num_at_once):
            use(batch)
        num_batches += num_at_once
        spent = time.perf_counter() - began_at
    return num_batches, spent


def measure_wait(
    batches: Iterator[T],
    *,
    num_steps: int,
    step_seconds: float,
    use: Callable[[T], object],
    compute: Callable[[float], None],
) -> tuple[float, float]:
    """Return the cost of each batch to a loop whose steps compute for some time.

    Parameters
    ----------
    batches : iterator
    num_steps : int
    step_seconds : float
        Duration of each step.
    use : callable
        Called with each batch, as part of the wait.
    compute : callable
        Computes until `time.perf_counter` has reached its argument.

    Returns
    -------
    tuple of float
        Seconds that a step waits for its batch, and seconds of these in which
        this thread computed; means over the steps.
    """
    waited = computed = 0.0
    for _ in range(num_steps):
        compute(time.perf_counter() + step_seconds)
        began_at, computed_before = time.perf_counter(), time.thread_time()
        use(next(batches))
        waited += time.perf_counter() - began_at
        computed += time.thread_time() - computed_before
    return waited / num_steps, computed / num_steps


def _drain(batches: Iterator[Batch], seconds: float) -> tuple[int, float]:
    """Return how many batches came in how many seconds, copies to the GPU included."""
    began_at = time.perf_counter()
    num_batches, _ = count_batches(batches, seconds, use=_use)
    _finish_copies()
    return num_batches, time.perf_counter() - began_at


def _wait(batches: Iterator[Batch], seconds: float) -> float:
    """Return the mean seconds until the next batch arrives, between busy steps."""
    matrix, product = torch.ones(64, 64), torch.empty(64, 64)

    def compute(until: float) -> None:
        # PyTorch computes without Python's lock, as in a training.
        while time.perf_counter() < until:
            torch.mm(matrix, matrix, out=product)

    num_steps = max(1, round(seconds / STEP_SECONDS))
    waited, _ = measure_wait(
        batches, num_steps=num_steps, step_seconds=STEP_SECONDS, use=_use, compute=compute
    )
    return waited


def _use(batch: Batch) -> None:
    """Make the tensors of a batch, on the GPU if there is one."""
    if torch.cuda.is_available():
        batch.to("cuda", non_blocking=True)
    else:
        _ = batch.inputs, batch.targets


def _finish_copies() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
