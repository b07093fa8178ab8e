"""Who reads which part of a plan: the rows of a rank, the batches of a worker, blocks."""

from dataclasses import dataclass

from tokenloom._checks import MAX_WORKERS, as_integer
from tokenloom.errors import ArgumentError
from tokenloom.plan.plan import Plan

_BLOCK_TOKENS = 1 << 19
# How far from a number of processes a message looks for numbers that fit.
_MAX_STEPS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """A plan, and how many processes read it.

    Each rank reads some rows of all batches. Each worker of a plain DataLoader
    reads some of the batches; with a `Loader`, the workers read the blocks of
    batches in turn.

    Parameters
    ----------
    plan : Plan
    world_size : int
        How many ranks.
    num_workers : int
        Workers of each rank; a rank without workers reads by itself.

    Raises
    ------
    ArgumentError
        ``world_size`` does not divide the batch, or a number is out of range.

    >>> plan = Plan(kind="random", num_tokens=100, seq_len=4, batch_size=4)
    >>> division = Division(plan=plan, world_size=2, num_workers=4)
    >>> division.columns(rank=1), division.rows(worker=1)
    (range(2, 4), range(1, 6, 4))
    """

    plan: Plan
    world_size: int = 1
    num_workers: int = 0

    def __post_init__(self) -> None:
        world_size = as_integer("world_size", self.world_size, start=1)
        object.__setattr__(self, "world_size", world_size)
        for size in self.plan.all_sizes:
            divide_batch(size, rank=0, world_size=self.world_size)
        num_workers = as_integer("num_workers", self.num_workers, stop=MAX_WORKERS)
        object.__setattr__(self, "num_workers", num_workers)

    def columns(self, rank: int) -> range:
        """Return which rows of each batch a rank reads, half-open.

        Of the first batch, if the batch size changes in the epoch.

        Raises
        ------
        ArgumentError
            ``rank`` is out of range.
        """
        rank = as_integer("rank", rank, stop=self.world_size)
        return divide_batch(self.plan.batch_size, rank=rank, world_size=self.world_size)

    @property
    def readers(self) -> range:
        """Indices of a rank's readers, from 0: its workers, or the rank itself."""
        return range(max(1, self.num_workers))

    def rows(self, worker: int) -> range:
        """Return the batches that a worker of a plain DataLoader reads."""
        return range(self.plan.num_batches)[worker :: len(self.readers)]

    @property
    def num_windows(self) -> int:
        """Windows that the batches of an epoch read, without those that are all padding."""
        return min(self.plan.num_windows, self.plan.num_rows)

    @property
    def block_size(self) -> int:
        """How many batches a `Loader` reads at once, by default."""
        return default_block_size(self.plan, self.columns(rank=0))


def default_block_size(plan: Plan, columns: range) -> int:
    """Return how many batches with these columns a `Loader` reads at once by default."""
    return min(rows_per_block(plan, columns), plan.num_batches)


def divide_batch(batch_size: int, *, rank: int, world_size: int) -> range:
    """Return the rows of a batch that one of several ranks reads, half-open.

    Raises
    ------
    ArgumentError
        ``world_size`` does not divide ``batch_size``.

    >>> divide_batch(32, rank=1, world_size=4)
    range(8, 16)
    """
    num_columns, rest = divmod(batch_size, world_size)
    if rest:
        below = batch_size - rest
        divisors = _near_divisors(batch_size, world_size)
        sizes = [size for size in (below, below + world_size) if size]
        msg = (
            f"world_size must divide batch_size={batch_size}, got {world_size}: "
            f"use {_join(divisors)} process{'es' * (divisors != [1])}, "
            f"or batch_size={_join(sizes)}"
        )
        raise ArgumentError(msg)
    return range(rank * num_columns, (rank + 1) * num_columns)


def _near_divisors(number: int, near: int) -> list[int]:
    """Return the divisors of a number nearest to another one, if they are close."""
    start = min(near, number)
    below = range(start, max(start - _MAX_STEPS, 0), -1)
    above = range(near + 1, min(near + _MAX_STEPS, number) + 1)
    found = (next((n for n in numbers if number % n == 0), None) for numbers in (below, above))
    return [divisor for divisor in found if divisor is not None] or [1]


def _join(numbers: list[int]) -> str:
    return " or ".join(map(str, numbers))


def rows_per_block(plan: Plan, columns: range) -> int:
    """Return how many batches to read at once, so that NumPy calls are few.

    About 524,288 tokens. With blocks of half that size a batch takes up to a tenth
    longer: each block has its calls around the gather, and its worker and the consumer
    wait for each other's use of Python's lock. With larger blocks nothing is gained,
    since their ids no longer fit into a processor's cache.
    """
    return max(1, _BLOCK_TOKENS // (len(columns) * (plan.seq_len + 1)))
