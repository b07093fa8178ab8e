"""Who reads what: a plan divided among ranks, and each rank's part among workers."""

from dataclasses import dataclass
from typing import Any

from tokenloom.blocks import rows_per_block
from tokenloom.errors import ArgumentError
from tokenloom.plans import Plan
from tokenloom.sharding import Shard


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """A plan, and how many processes read it.

    Every rank reads some rows of all batches. Of a rank's workers each reads
    some of the batches under a plain DataLoader; under a `Loader` blocks of
    several batches are read by whichever worker is free.

    Parameters
    ----------
    plan : Plan
    world_size : int
        How many ranks.
    num_workers : int
        How many workers each of them has; without any it reads by itself.

    Raises
    ------
    ArgumentError
        ``world_size`` does not divide the batch, or a number is too small.

    >>> plan = Plan(kind="random", num_tokens=100, seq_len=4, batch_size=4)
    >>> division = Division(plan=plan, world_size=2, num_workers=4)
    >>> division.columns(rank=1), division.rows(worker=1)
    (range(2, 4), range(1, 6, 4))
    """

    plan: Plan
    world_size: int = 1
    num_workers: int = 0

    def __post_init__(self) -> None:
        self.columns(rank=0)
        if self.num_workers < 0:
            msg = f"num_workers must be at least 0, got {self.num_workers}"
            raise ArgumentError(msg)

    def columns(self, rank: int) -> range:
        """Return which rows of each batch a rank reads, half-open.

        Raises
        ------
        ArgumentError
            ``rank`` is out of range.
        """
        return Shard(rank=rank, world_size=self.world_size).columns(self.plan.batch_size)

    @property
    def readers(self) -> range:
        """The workers of a rank, from 0; without workers the rank itself."""
        return range(max(1, self.num_workers))

    def rows(self, worker: int) -> range:
        """Return the batches that a worker of a plain DataLoader reads."""
        return range(self.plan.num_batches)[worker :: len(self.readers)]

    @property
    def block_size(self) -> int:
        """How many batches a `Loader` reads at once, by default."""
        return min(rows_per_block(self.plan, self.columns(rank=0)), self.plan.num_batches)


def describe_division(division: Division, *, num_first: int = 3) -> dict[str, Any]:
    """Return a plan, its accounting and who reads what, JSON-able.

    Parameters
    ----------
    division : Division
    num_first : int
        Of so many batches the window starts are listed.
    """
    plan = division.plan
    first = range(min(num_first, plan.num_batches))
    return {
        "order": plan.kind,
        "seed": plan.seed,
        "epoch": plan.epoch,
        "batch_size": plan.batch_size,
        "seq_len": plan.seq_len,
        "tail": plan.tail,
        "num_tokens": plan.num_tokens,
        "num_batches": plan.num_batches,
        "num_windows": min(plan.num_windows, plan.num_batches * plan.batch_size),
        "num_inputs": plan.num_inputs,
        "num_dropped": plan.num_dropped,
        "phase": plan.phase,
        "num_phases": plan.num_phases,
        "world_size": division.world_size,
        "num_workers": division.num_workers,
        "block_size": division.block_size,
        "ranks": [_describe_rank(division, rank) for rank in range(division.world_size)],
        "workers": [_describe_worker(division, worker) for worker in division.readers],
        "first_starts": plan.starts(first).tolist(),
    }


def _describe_rank(division: Division, rank: int) -> dict[str, Any]:
    columns = division.columns(rank)
    return {"rank": rank, "rows_start": columns.start, "rows_stop": columns.stop}


def _describe_worker(division: Division, worker: int) -> dict[str, Any]:
    """Return a worker's batches as the first, the step and the count: they may be many."""
    rows = division.rows(worker)
    return {
        "worker": worker,
        "dataloader": {"first_batch": worker, "step": rows.step, "num_batches": len(rows)},
    }
