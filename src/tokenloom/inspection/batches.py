"""What a batch holds, and which rank and worker reads it."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tokenloom._wording import count
from tokenloom.errors import ArgumentError
from tokenloom.loading.blocks import read_block, rows_per_block
from tokenloom.loading.dataset import Windows
from tokenloom.loading.shard import Shard
from tokenloom.plan.order import Plan
from tokenloom.preparation.trace import trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of a batch.

    Attributes
    ----------
    row : int
        Which one, from 0.
    start, stop : int
        The tokens of the corpus that it reads, targets too, half-open.
    inputs, targets : str
        What they spell; ids where nothing decodes them. Padding is left out.
    source : str or None
        Where its first token came from; see `tokenloom.preparation.Trace`.
    document, character : int or None
        Likewise.
    """

    row: int
    start: int
    stop: int
    inputs: str
    targets: str
    source: str | None = None
    document: int | None = None
    character: int | None = None


def read_rows(windows: Windows, *, index: int, rows: Sequence[int]) -> list[Row]:
    """Return rows of one batch as text.

    Parameters
    ----------
    windows : RandomWindows or SequentialWindows
        Their current epoch is read.
    index : int
        Which batch, in [0, len(windows)).
    rows : sequence of int
        Which rows of it; each in [0, batch_size // world_size).

    Raises
    ------
    ArgumentError
        ``index`` or a row is out of range.
    """
    plan = windows.plan
    columns = windows.columns
    if not 0 <= index < plan.num_batches:
        msg = f"batch must be in [0, {plan.num_batches}), got {index}"
        raise ArgumentError(msg)
    wrong = [row for row in rows if not 0 <= row < len(columns)]
    if wrong:
        msg = f"rows must be in [0, {len(columns)}), got {wrong[0]}"
        raise ArgumentError(msg)
    batch_rows = range(index, index + 1)
    starts = plan.starts(batch_rows, columns)
    lengths = plan.lengths(starts, columns)[0]
    block = read_block(windows.corpus.tokens, plan, rows=batch_rows, columns=columns)
    (batch,) = block.narrow_batches()
    decode = windows.corpus.decode
    return [
        Row(
            row=row,
            start=int(starts[0, row]),
            stop=int(starts[0, row] + lengths[row] + 1),
            inputs=decode(batch.inputs[row, : lengths[row]].tolist()),
            targets=decode(batch.targets[row, : lengths[row]].tolist()),
            **_trace(windows, int(starts[0, row])),
        )
        for row in rows
    ]


def _trace(windows: Windows, token: int) -> dict[str, Any]:
    found = trace(windows.corpus, token)
    return {} if found is None else found._asdict()


def describe_batch(windows: Windows, *, index: int, rows: Sequence[int]) -> dict[str, Any]:
    """Return a batch and some of its rows, JSON-able; see `read_rows`."""
    plan = windows.plan
    return {
        "corpus": windows.corpus.name,
        "order": plan.kind,
        "epoch": plan.epoch,
        "batch": index,
        "num_batches": plan.num_batches,
        "num_rows": len(windows.columns),
        "seq_len": plan.seq_len,
        "rows": [asdict(row) for row in read_rows(windows, index=index, rows=rows)],
    }


def tell_batch(batch: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that tell people what `describe_batch` returned."""
    yield (
        f"{batch['corpus']}: {batch['order']} order, epoch {batch['epoch']}, batch "
        f"{batch['batch']} of {batch['num_batches']:,}, "
        f"{count(batch['num_rows'], 'row')} x {count(batch['seq_len'], 'token')}"
    )
    for row in batch["rows"]:
        where = [f"row {row['row']}: tokens [{row['start']:,}, {row['stop']:,})"]
        where += [row["source"]] if row["source"] is not None else []
        for name in ("document", "character"):
            where += [f"{name} {row[name]:,}"] if row[name] is not None else []
        yield ", ".join(where)
        yield f"  inputs   {row['inputs']!r}"
        yield f"  targets  {row['targets']!r}"


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
