"""Batches as text."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from tokenloom._checks import as_integers
from tokenloom.corpus.corpus import Corpus
from tokenloom.errors import ArgumentError
from tokenloom.loading.batch import Batch
from tokenloom.loading.blocks import read_block
from tokenloom.loading.dataset import Windows
from tokenloom.plan.plan import References
from tokenloom.preparation.trace import trace


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceText:
    """A piece of a row as text: a document or a part of one, or a whole window.

    Attributes
    ----------
    start, stop : int
        Half-open range of the corpus's tokens that the piece reads, its last target
        included; of a mixture, of the part's tokens.
    inputs, targets : str
        The text of its inputs and targets; their ids if there is no tokenizer.
    source : str or None
        Source of its first token; see `tokenloom.preparation.Trace`.
    document, character : int or None
        Document and character of its first token; see
        `tokenloom.preparation.Trace`.
    learnt : str or None
        The text of those targets that are learnt; None if the corpus has no loss mask.
    """

    start: int
    stop: int
    inputs: str
    targets: str
    source: str | None
    document: int | None
    character: int | None
    learnt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowText(PieceText):
    """A row of a batch as text.

    Attributes
    ----------
    row : int
        Its index in the batch, from 0.
    start, stop, inputs, targets, source, document, character
        As in `PieceText`; for packed documents, those of the first piece, with the
        inputs and targets of the whole row.
    learnt
        As in `PieceText`, of the whole row.
    pieces : tuple of PieceText
        The pieces of a row of packed documents; else none.
    part : str or None
        The part of a mixture that the row comes from.
    """

    row: int
    pieces: tuple[PieceText, ...] = ()
    part: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchText:
    """A batch with some of its rows as text.

    Attributes
    ----------
    corpus : str
        Its name.
    order : str
        "random", "sequential", "packed" or "mixture".
    epoch, batch : int
        Which batch of which epoch, both from 0.
    num_batches : int
        Batches of each epoch.
    num_rows, seq_len : int
        Shape of the batch; if there are several ranks, of the part of one of them.
    rows : tuple of RowText
        Those that were asked for.
    """

    corpus: str
    order: str
    epoch: int
    batch: int
    num_batches: int
    num_rows: int
    seq_len: int
    rows: tuple[RowText, ...]


def read_batch(windows: Windows, *, index: int, rows: Sequence[int] | None = None) -> BatchText:
    """Return a batch, and some of its rows as text.

    Parameters
    ----------
    windows : RandomWindows or SequentialWindows
        The batch is one of their current epoch.
    index : int
        Which batch, in [0, len(windows)).
    rows : sequence of int, optional
        Which rows of it; each in [0, batch_size // world_size). By default all.

    Raises
    ------
    ArgumentError
        ``index`` or a row is out of range.
    """
    plan = windows.plan
    (index,) = as_integers(batch=index)
    if not 0 <= index < plan.num_batches:
        msg = f"batch must be in [0, {plan.num_batches}), got {index}"
        raise ArgumentError(msg)
    columns = _columns_of(windows, index)
    rows = range(len(columns)) if rows is None else [as_integers(row=row)[0] for row in rows]
    wrong = [row for row in rows if not 0 <= row < len(columns)]
    if wrong:
        msg = f"rows must be in [0, {len(columns)}), got {wrong[0]}"
        raise ArgumentError(msg)
    return BatchText(
        corpus=windows.corpus.name,
        order=plan.kind,
        epoch=plan.epoch,
        batch=index,
        num_batches=plan.num_batches,
        num_rows=len(columns),
        seq_len=plan.seq_len,
        rows=tuple(_read_rows(windows, index, rows)),
    )


def _columns_of(windows: Windows, index: int) -> range:
    return windows.shard.columns(windows.plan.size_of(range(index, index + 1)))


def _read_rows(windows: Windows, index: int, rows: Sequence[int]) -> list[RowText]:
    corpus, plan, columns = windows.corpus, windows.plan, _columns_of(windows, index)
    references = plan.references(range(index, index + 1), columns)
    (batch,) = read_block(corpus.tokens, references).narrow_batches()
    split = _split_rows(references)
    is_packed = references.pieces is not None
    if windows.mixture is None:
        return [_read_row(corpus, batch, row, split[row], is_packed=is_packed) for row in rows]
    # Each row is one window, which lies within one part.
    sources, texts = batch.sources.tolist(), []
    for row in rows:
        name = windows.mixture.names[sources[row]]
        before = sum(map(len, itertools.islice(windows.mixture.parts.values(), sources[row])))
        pieces = [(start - before, length) for start, length in split[row]]
        text = _read_row(windows.mixture.parts[name], batch, row, pieces, is_packed=False)
        texts.append(replace(text, part=name))
    return texts


def _split_rows(references: References) -> list[list[tuple[int, int]]]:
    """Return where the pieces of each row start, and how many inputs they have."""
    pieces, starts = references.pieces, references.starts[0].tolist()
    if pieces is None:
        lengths = references.lengths
        counted = [references.plan.seq_len] * len(starts) if lengths is None else lengths[0]
        return [[(start, int(length))] for start, length in zip(starts, counted, strict=True)]
    left = iter(zip(pieces.starts.tolist(), pieces.lengths.tolist(), strict=True))
    return [list(itertools.islice(left, number)) for number in pieces.counts[0].tolist()]


def _read_row(
    corpus: Corpus, batch: Batch, row: int, pieces: list[tuple[int, int]], *, is_packed: bool
) -> RowText:
    inputs, targets = (part[row].tolist() for part in batch)
    texts, stop = [], 0
    learnt: list[int] = []
    for start, length in pieces:
        begin, stop = stop, stop + length
        origin = trace(corpus, start, remote=False)
        counted = _choose_learnt(corpus, start, targets[begin:stop])
        learnt += counted or []
        texts.append(
            PieceText(
                start=start,
                stop=start + length + 1,
                inputs=corpus.decode(inputs[begin:stop]),
                targets=corpus.decode(targets[begin:stop]),
                source=origin and origin.source,
                document=origin and origin.document,
                character=origin and origin.character,
                learnt=None if counted is None else corpus.decode(counted),
            )
        )
    end = len(corpus)
    nothing = {"start": end, "stop": end, "source": None, "document": None, "character": None}
    whole = {"inputs": corpus.decode(inputs[:stop]), "targets": corpus.decode(targets[:stop])}
    if corpus.loss_mask is not None:
        whole["learnt"] = corpus.decode(learnt)
    first = asdict(texts[0]) if texts else nothing
    return RowText(row=row, pieces=tuple(texts) if is_packed else (), **{**first, **whole})


def _choose_learnt(corpus: Corpus, start: int, targets: list[int]) -> list[int] | None:
    """Return those targets of a piece that are learnt, or None if the corpus has no loss mask."""
    if corpus.loss_mask is None:
        return None
    counts = corpus.loss_mask[start + 1 : start + 1 + len(targets)]
    return list(itertools.compress(targets, counts.tolist()))
