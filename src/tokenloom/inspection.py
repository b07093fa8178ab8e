"""What a batch says: its rows as text."""

from collections.abc import Iterator, Sequence

from tokenloom.blocks import read_block
from tokenloom.errors import ArgumentError
from tokenloom.windows import Windows


def describe_batch(windows: Windows, *, index: int, rows: Sequence[int]) -> Iterator[str]:
    """Yield lines that show the inputs and targets of rows of one batch as text.

    Parameters
    ----------
    windows : RandomWindows or SequentialWindows
        Their current epoch is shown.
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
    yield (
        f"{windows.corpus.name}: {plan.kind} order, epoch {plan.epoch}, "
        f"batch {index} of {plan.num_batches:,}, {len(columns)} rows x {plan.seq_len} tokens"
    )
    for row in rows:
        start, length = int(starts[0, row]), int(lengths[row])
        yield f"row {row}: tokens [{start:,}, {start + length + 1:,})"
        yield f"  inputs   {_quote(windows, batch.inputs[row, :length].tolist())}"
        yield f"  targets  {_quote(windows, batch.targets[row, :length].tolist())}"


def _quote(windows: Windows, ids: list[int]) -> str:
    return repr(windows.corpus.decode(ids))
