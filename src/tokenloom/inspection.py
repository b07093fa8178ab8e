"""What a batch says: its rows as text, with where it came from."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tokenloom.blocks import read_block
from tokenloom.errors import ArgumentError
from tokenloom.tracing import trace
from tokenloom.windows import Windows
from tokenloom.wording import count


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
        Where its first token came from; see `tokenloom.Trace`.
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
