"""The list of what a run measures."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measuring
from measuring import ALL
from results import SHAPES, Shape
from systems import Task
from targets import ORDERS

STEP_SECONDS = 0.002
_NUM_STEPS = 200
_NUM_EPOCHS = 11
_NUM_MEMORY_BATCHES = 500
_LOADERS = tuple(f"{order}-loader" for order in ORDERS)
# The first measurements of a fresh process are slow, and short ones are noisy.
_NUM_SHORT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One measurement.

    Attributes
    ----------
    quantities : tuple of str
        What the function's values are.
    function : callable
        Of `measuring`; takes the slug, the task and ``arguments``.
    process : str
        The process in which it runs.
    """

    quantities: tuple[str, ...]
    slug: str
    task: Task
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    process: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The files and the settings of a run, from which its jobs follow.

    Attributes
    ----------
    tokens, sparse, small : Path
        Files of ids: the corpus, one of 10^12 tokens, and a short one.
    folder : Path
        Where systems keep their own files.
    slugs : sequence of str
        The systems.
    workers : sequence of int
    """

    tokens: Path
    sparse: Path
    small: Path
    folder: Path
    slugs: Sequence[str]
    workers: Sequence[int]

    def prepare(self) -> Iterator[Job]:
        """Yield what makes the systems' own files."""
        for slug in self.slugs:
            for shape in SHAPES:
                yield self._job((), slug, shape, 0, measuring.prepare)

    def speeds(self, seconds: float) -> Iterator[Job]:
        """Yield the measurements of speed of one repetition."""
        for shape in SHAPES:
            for num_workers in self.workers:
                for slug in self.slugs:
                    if ALL[slug].takes(num_workers):
                        names = "speed", "speed-first"
                        function = measuring.measure_speed
                        yield self._job(names, slug, shape, num_workers, function, seconds)

    def costs(self) -> Iterator[Job]:
        """Yield the other measurements of one repetition."""
        ends = sorted({0, max(self.workers)})
        for shape in SHAPES:
            for quantity, slug, path in (
                ("first", "random", self.tokens),
                ("first-sparse", "random", self.sparse),
                ("first", "map-style", self.tokens),
                ("first", "copy-lanes", self.tokens),
            ):
                for _ in range(_NUM_SHORT):
                    function = measuring.measure_first
                    yield self._job((quantity,), slug, shape, 0, function, path=path)
            for num_workers in ends:
                yield from self._waits(shape, num_workers)
        if measuring.can_measure_memory():
            yield from self._memory(SHAPES[0], ends[-1])

    def _waits(self, shape: Shape, num_workers: int) -> Iterator[Job]:
        for slug in (*_LOADERS, "random-dataloader", "map-style"):
            names = "step", "step-computed"
            how = measuring.measure_step, STEP_SECONDS, _NUM_STEPS
            yield self._job(names, slug, shape, num_workers, *how)
        for slug in _LOADERS * _NUM_SHORT:
            names = "start", "resume", "resume-known", "hash"
            yield self._job(names, slug, shape, num_workers, measuring.measure_resume)

    def _memory(self, shape: Shape, most: int) -> Iterator[Job]:
        names = "memory", "memory-files"
        for slug, num_workers in (("random", 0), *((slug, most) for slug in _MEASURED_MEMORY)):
            how = measuring.measure_memory, _NUM_MEMORY_BATCHES
            yield self._job(names, slug, shape, num_workers, *how, process=f"memory {slug}")
        for slug in _LOADERS:
            how = measuring.measure_growth, _NUM_EPOCHS
            yield self._job(
                ("growth",), slug, shape, most, *how, path=self.small, process=f"growth {slug}"
            )

    def _job(
        self,
        quantities: tuple[str, ...],
        slug: str,
        shape: Shape,
        num_workers: int,
        function: Callable[..., Any],
        *arguments: Any,
        path: Path | None = None,
        process: str | None = None,
    ) -> Job:
        batch_size, seq_len = shape
        task = Task(
            path=path or self.tokens,
            folder=self.folder / f"{slug}-{batch_size}-{seq_len}",
            batch_size=batch_size,
            seq_len=seq_len,
            num_workers=num_workers,
        )
        return Job(
            quantities=quantities,
            slug=slug,
            task=task,
            function=function,
            arguments=arguments,
            process=process or slug,
        )


_MEASURED_MEMORY = (*_LOADERS, "message", "random-dataloader", "map-style")
