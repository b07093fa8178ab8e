"""What a run measured: medians by system, shape and workers, kept as JSON."""

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from measuring import ALL

Shape = tuple[int, int]
SHAPES: tuple[Shape, ...] = ((32, 35), (8, 1024))


def name_shape(shape: Shape) -> str:
    """Return how a shape is written.

    >>> name_shape((32, 35))
    '32 x 35'
    """
    return f"{shape[0]} x {shape[1]}"


@dataclass(slots=True, kw_only=True)
class Results:
    """Samples of one run.

    Attributes
    ----------
    machine, settings : dict
        Where and how they were taken.
    notes : dict
        Why a system has no samples.
    samples : dict
        Lists of values by "quantity | system | shape | workers". Speeds are
        tokens per second, times seconds, memory megabytes.
    """

    machine: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    samples: dict[str, list[float]] = field(default_factory=dict)

    def add(self, quantity: str, slug: str, shape: Shape, num_workers: int, value: float) -> None:
        """Keep a value."""
        self.samples.setdefault(_key(quantity, slug, shape, num_workers), []).append(value)

    def median(self, quantity: str, slug: str, shape: Shape, num_workers: int) -> float | None:
        """Return the median of the values, None if there are none."""
        values = self.samples.get(_key(quantity, slug, shape, num_workers))
        return None if values is None else statistics.median(values)

    def speed(self, slug: str, shape: Shape, num_workers: int) -> float | None:
        """Return tokens per second."""
        return self.median("speed", slug, shape, num_workers)

    def ratio(
        self,
        above: tuple[str, str],
        below: tuple[str, str],
        shape: Shape,
        num_workers: int,
    ) -> float | None:
        """Return the median ratio of two values, None where one is missing.

        Each is a quantity and a system. The ratios are of values that were
        measured one after the other: what slows the machine down for a while
        slows both.
        """
        values, others = (
            self.samples.get(_key(*each, shape, num_workers), []) for each in (above, below)
        )
        ratios = [value / other for value, other in zip(values, others, strict=False)]
        return statistics.median(ratios) if ratios else None

    def faster(self, slug: str, other: str | None, shape: Shape, num_workers: int) -> float | None:
        """Return how many times as fast as another a system is."""
        if other is None:
            return None
        return self.ratio(("speed", slug), ("speed", other), shape, num_workers)

    def best_peer(self, shape: Shape, num_workers: int) -> str | None:
        """Return the fastest of what a user could pick instead, in random order."""
        speeds = {
            slug: speed
            for slug, system in ALL.items()
            if system.kind == "peer"
            and system.order == "random"
            and (speed := self.speed(slug, shape, num_workers)) is not None
        }
        return max(speeds, key=lambda slug: speeds[slug]) if speeds else None

    @property
    def workers(self) -> list[int]:
        """The numbers of workers that were asked for."""
        workers: list[int] = self.settings["workers"]
        return workers

    def write(self, path: Path) -> None:
        """Write everything as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))


def _key(quantity: str, slug: str, shape: Shape, num_workers: int) -> str:
    return f"{quantity} | {slug} | {name_shape(shape)} | {num_workers}"
