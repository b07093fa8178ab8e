"""What a batch is."""

import functools
import itertools
from collections.abc import Callable, Iterator, KeysView, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data._utils.collate import default_collate_fn_map

from tokenloom._wording import as_html, show
from tokenloom.errors import AbsentError, ArgumentError, UnknownKeyError, UsageError
from tokenloom.loading.document_starts import BlockResets, Segments, find_segments
from tokenloom.loading.piece_rows import PieceLayout, PieceRows
from tokenloom.loading.sources import BlockSources
from tokenloom.plan.order import IntArray, find_filled
from tokenloom.text.ids import Ids, narrow_dtype

IGNORED_TARGET = -100
"""The target where there is nothing to learn: PyTorch's default ignore_index."""

Mask = npt.NDArray[np.bool_]

# The least and the most that the C library is to keep of freed memory; above 32 MiB it keeps none.
_LEAST_KEPT, _MOST_KEPT = 1 << 23, 31 << 20
# How many rows, and tokens of each, a notebook shows.
_NUM_ROWS_SHOWN, _NUM_SHOWN = 4, 16


class Tensors(NamedTuple):
    """The content of one or more batches, as int64 tensors.

    Attributes
    ----------
    inputs, targets : int64 tensor, shape (..., num_rows, seq_len)
        Contiguous; they share no memory with each other.
    mask : bool tensor of that shape, or None
        True where a target counts; None: wherever there is no padding.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    mask: torch.Tensor | None = None

    def map(self, move: Callable[[torch.Tensor], torch.Tensor]) -> "Tensors":
        """Return the result of ``move`` for each tensor."""
        mask = None if self.mask is None else move(self.mask)
        return Tensors(move(self.inputs), move(self.targets), mask)

    def to(self, device: torch.device | str | int, *, non_blocking: bool = False) -> "Tensors":
        """Return the tensors on a device; see `torch.Tensor.to`."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Tensors":
        """Return the tensors in page-locked memory."""
        return self.map(torch.Tensor.pin_memory)

    def unbind(self) -> "Iterator[Tensors]":
        """Yield the parts along the first dimension, as views."""
        masks = itertools.repeat(None) if self.mask is None else self.mask.unbind()
        return map(Tensors, self.inputs.unbind(), self.targets.unbind(), masks)


@functools.lru_cache
def _keep_memory(num_bytes: int) -> None:
    """Make the C library keep the memory of inputs or targets of this size for the next ones.

    The GNU C library returns freed memory of 128 KiB or more to the system, and a new page
    costs more than the ids that are written to it. Once a program has freed a larger piece,
    whose pages need not be touched, it keeps pieces of up to that size.
    """
    np.empty(min(max(4 * num_bytes, _LEAST_KEPT), _MOST_KEPT), np.uint8)


def widen(ids: Ids | PieceRows, lengths: IntArray | None, learnt: Mask | None = None) -> Tensors:
    """Return the inputs and targets of windows, or of rows that are made of pieces.

    Parameters
    ----------
    ids : integer array, shape (..., seq_len + 1), or PieceRows
    lengths : int64 array, shape (...), optional
        How many inputs of each window count, in [0, seq_len]; all by default. The
        others are padding: inputs 0 and targets `IGNORED_TARGET`. Rows of pieces
        know it themselves.
    learnt : bool array, shape (..., seq_len), optional
        Which targets count, none in the padding; the others are `IGNORED_TARGET`.
    """
    targets: Ids
    if isinstance(ids, PieceRows):
        inputs, targets = ids.widen(padding=IGNORED_TARGET)
    else:
        inputs, targets = ids[..., :-1].astype(np.int64), ids[..., 1:]
        if learnt is None:
            targets = targets.astype(np.int64)
        if lengths is not None:
            is_padded = ~find_filled(lengths, inputs.shape[-1])
            inputs[is_padded] = 0
            if learnt is None:
                targets[is_padded] = IGNORED_TARGET
    _keep_memory(inputs.nbytes)
    if learnt is None:
        return Tensors(torch.from_numpy(inputs), torch.from_numpy(targets))
    return Tensors(*map(torch.from_numpy, (inputs, _mark_ignored(targets, learnt), learnt)))


def _mark_ignored(targets: Ids, learnt: Mask) -> IntArray:
    """Return targets as int64, with `IGNORED_TARGET` where they are not learnt.

    >>> _mark_ignored(np.array([7, 8], np.uint16), np.array([True, False])).tolist()
    [7, -100]
    """
    # Multiplied by 0 or 1: an assignment through the mask costs ten times as much where the mask
    # changes from token to token, since the processor guesses wrong. In 32 bits it is cheapest.
    # uint64 and int32 together would be floats, which round large ids.
    is_wide = targets.dtype.itemsize == np.dtype(np.int64).itemsize
    values = targets.astype(np.int64 if is_wide else np.promote_types(targets.dtype, np.int32))
    values -= IGNORED_TARGET
    values *= learnt
    values += IGNORED_TARGET
    return values.astype(np.int64, copy=False)


class Batch:
    """The inputs and targets of one step; unpacks as ``inputs, targets``.

    A batch is pickled as its windows, one narrow array, so a worker of a plain
    DataLoader sends one small message. The tensors are made once, at their first
    use; changes to them are not pickled.

    Parameters
    ----------
    windows : integer array, shape (num_rows, seq_len + 1), or None
        Token ids; kept without a copy. None if only ``tensors`` hold them.
    epoch, index : int
        The batch is row ``index`` of the plan of this epoch.
    lengths : int64 array, shape (num_rows,), optional
        How many inputs of each row count, in [0, seq_len]; all by default.
    tensors : Tensors, optional
        Inputs, targets and mask of the windows, if they were already made.
    resets : int64 array, shape (num_found,), or BlockResets, optional
        Where documents start: ascending positions in the flattened windows, or an
        object that finds them.
    pieces : PieceRows or PieceLayout, optional
        The pieces that the rows are made of, in place of windows, with counts of the
        shape (num_rows,); only their layout if ``tensors`` hold the ids.
    sources : integer array, shape (num_rows,), or BlockSources, optional
        The part of a mixture that each row comes from, or an object that finds them.
    learnt : bool array, shape (num_rows, seq_len), optional
        Which targets count, none in the padding, where the corpus has a loss mask.

    Attributes
    ----------
    epoch, index : int

    Raises
    ------
    ArgumentError
        There are no windows, no tensors, and no pieces with ids.
    """

    __slots__ = (
        *("_held", "_is_within", "_layout", "_learnt", "_lengths", "_resets", "_segments"),
        *("_sources", "_tensors", "epoch", "index"),
    )

    def __init__(  # noqa: PLR0913  what a block knows of a batch
        self,
        windows: Ids | None,
        *,
        epoch: int,
        index: int,
        lengths: IntArray | None = None,
        tensors: Tensors | None = None,
        resets: IntArray | BlockResets | None = None,
        pieces: PieceRows | PieceLayout | None = None,
        sources: Ids | BlockSources | None = None,
        learnt: Mask | None = None,
    ) -> None:
        held: Ids | PieceRows | Tensors | None = windows
        self._layout: PieceLayout | None
        if isinstance(pieces, PieceRows):
            held, self._layout = pieces, pieces.layout
        else:
            self._layout = pieces
        held = tensors if held is None else held
        if held is None:
            msg = "a batch must have ids, got none: pass windows, tensors or PieceRows"
            raise ArgumentError(msg)
        # What holds the ids.
        self._held = held
        self._learnt = learnt
        self._lengths = lengths
        self._tensors = tensors
        self._resets = resets
        self._sources = sources
        self._segments: Segments | None = None
        # Whether the first tokens of documents are no targets.
        self._is_within = False
        self.epoch = epoch
        self.index = index

    @property
    def inputs(self) -> torch.Tensor:
        """Token ids: int64 tensor, shape (num_rows, seq_len); 0 where padded."""
        return self._widened().inputs

    @property
    def targets(self) -> torch.Tensor:
        """The token after each input: int64 tensor, shape (num_rows, seq_len).

        -100, which PyTorch's losses ignore, where padded, and where the loss mask of the
        corpus says that the token is not learnt.
        """
        return self._widened().targets

    @property
    def mask(self) -> torch.Tensor:
        """True where there is something to learn: bool tensor, shape (num_rows, seq_len)."""
        tensors = self._widened()
        if tensors.mask is not None:
            return tensors.mask
        mask = torch.ones_like(tensors.inputs, dtype=torch.bool)
        if self._lengths is not None:
            lengths = torch.from_numpy(self._lengths).to(mask.device)
            mask &= torch.arange(mask.shape[1], device=mask.device) < lengths[:, None]
        self._tensors = tensors._replace(mask=mask)
        return mask

    @property
    def num_targets(self) -> int:
        """Number of targets that count: where `mask` is true."""
        if self._learnt is not None:
            learnt = self._learnt & ~self._find_crossings() if self._is_within else self._learnt
            return int(np.count_nonzero(learnt))
        return self.num_inputs - (int(self._find_crossings().sum()) if self._is_within else 0)

    @property
    def num_inputs(self) -> int:
        """Number of inputs that are no padding, whether their targets count or not."""
        num_rows, seq_len = self._shape
        return num_rows * seq_len if self._lengths is None else int(self._lengths.sum())

    @property
    def has_resets(self) -> bool:
        """Whether it is known that a document starts at one of the inputs."""
        positions = self._reset_positions()
        return positions is not None and len(positions) > 0 and bool(self._reset_mask().any())

    @property
    def resets(self) -> torch.Tensor:
        """True where a document starts: bool tensor, shape (num_rows, seq_len).

        Also true at the first token of the corpus, even inside a document, and in
        packed order where a piece of a document starts. Never true in the padding.

        Raises
        ------
        AbsentError
            The corpus has no document offsets, or the windows were made with
            ``resets=False``. It is a UsageError and an AttributeError.
        """
        return self.resets_on(self.inputs.device)

    def resets_on(self, device: torch.device | str | int) -> torch.Tensor:
        """Return `resets` on a device; on the CPU, without waiting for a GPU."""
        return torch.from_numpy(self._reset_mask()).to(device)

    @property
    def has_sources(self) -> bool:
        """Whether the rows come from parts of a mixture."""
        return self._sources is not None

    @property
    def sources(self) -> torch.Tensor:
        """The part of a mixture that each row comes from: int64 tensor, shape (num_rows,).

        Positions in the mixture's ``names``.

        Raises
        ------
        AbsentError
            The windows are not those of a mixture. It is a UsageError and an AttributeError.
        """
        found = self._find_sources()
        if found is None:
            msg = (
                "this batch has no sources: only rows of a mixture come from parts; make one "
                "with tokenloom.Mixture"
            )
            raise AbsentError(msg, name="sources")
        return torch.from_numpy(found.astype(np.int64)).to(self.inputs.device)

    @property
    def document_ids(self) -> torch.Tensor:
        """The number of each input's document within its row, from 0; -1 where padded.

        Int64 tensor, shape (num_rows, seq_len). Raises as `resets`.
        """
        return torch.tensor(self._find_segments().document_ids, device=self.inputs.device)

    @property
    def position_ids(self) -> torch.Tensor:
        """Positions within the document: int64 tensor, shape (num_rows, seq_len).

        Counted from 0 at the start of each document, of the row (a window does
        not see the tokens before it) and of the padding. Raises as `resets`.
        """
        return torch.tensor(self._find_segments().position_ids, device=self.inputs.device)

    @property
    def cu_seqlens(self) -> torch.Tensor:
        """Bounds of the documents' pieces in the flattened batch, from 0 to its size.

        Int32 tensor, shape (num_pieces + 1,), as attention over sequences of
        variable length takes it. The padding of a row is a piece of its own.
        Raises as `resets`.
        """
        bounds = self._find_segments().bounds.astype(np.int32)
        return torch.from_numpy(bounds).to(self.inputs.device)

    @property
    def max_seqlen(self) -> int:
        """How long the longest of these pieces is, in tokens."""
        return int(np.diff(self._find_segments().bounds).max())

    def as_dict(
        self, *, is_shifted: bool = True, across_documents: bool = True
    ) -> dict[str, torch.Tensor]:
        """Return the arguments of models of transformers: ``input_ids`` and ``labels``.

        Labels are -100 where a target is ignored. In packed order there are
        ``position_ids`` too, from which these models see where documents start if they
        are called with ``use_cache=False``, as by Trainer; with their cache they do not.

        Parameters
        ----------
        is_shifted : bool
            Whether a label is the token after its input, as in `targets`. False
            is for models that shift the labels themselves, as those of Hugging
            Face do: the tensors are then one token longer, and such a model learns
            the same targets from them.
        across_documents : bool
            Whether the first token of a document is a target of the last token of
            the document before it. False raises as `resets`.

        Returns
        -------
        dict of int64 tensors, shape (num_rows, seq_len), or one longer
        """
        inputs, labels = self
        if self._layout is not None:
            return self._pieces_as_dict(is_shifted=is_shifted)
        if not across_documents:
            labels = self.within_documents().targets
        if is_shifted:
            return {"input_ids": inputs, "labels": labels}
        first = torch.full_like(labels[:, :1], IGNORED_TARGET)
        windows = torch.cat([inputs[:, :1], self._next_tokens()], dim=1)
        return {"input_ids": windows, "labels": torch.cat([first, labels], dim=1)}

    def within_documents(self) -> "Batch":
        """Return this batch without the targets that lie in another document than their input.

        The first token of a document is then no target of the last one before it: it
        is -100 in `targets`, and neither in `mask` nor in `num_targets`. Packed documents
        have no such targets. Raises as `resets`.
        """
        if self._layout is not None or self._is_within:
            return self
        crosses = torch.from_numpy(self._find_crossings()).to(self.inputs.device)
        inputs, targets = self
        tensors = Tensors(
            inputs, targets.masked_fill(crosses, IGNORED_TARGET), self.mask & ~crosses
        )
        batch = self._with(tensors)
        batch._is_within = True  # noqa: SLF001  made here
        return batch

    def _as_arguments(self) -> dict[str, torch.Tensor]:
        if self._layout is not None:
            msg = (
                "a model of Hugging Face keeps packed documents apart only without its cache: call "
                "model(**batch.as_dict(is_shifted=False), use_cache=False)"
            )
            raise UsageError(msg)
        return self.as_dict(is_shifted=False)

    def _pieces_as_dict(self, *, is_shifted: bool) -> dict[str, torch.Tensor]:
        inputs, labels, positions = self.inputs, self.targets, self.position_ids
        if not is_shifted:
            # A label need not be the next input: that of the last input of a piece is the token
            # after it in its document, though another piece follows. The last column, which no
            # label is learnt from, is a document of its own.
            column = torch.zeros_like(labels[:, :1])
            labels = torch.cat([column + IGNORED_TARGET, labels], dim=1)
            inputs = torch.cat([inputs, column], dim=1)
            positions = torch.cat([positions, column], dim=1)
        return {"input_ids": inputs, "labels": labels, "position_ids": positions}

    def to(self, device: torch.device | str | int, *, non_blocking: bool = False) -> "Batch":
        """Return this batch with its tensors on a device.

        Parameters
        ----------
        device : torch.device, str or int
        non_blocking : bool
            Whether a copy from pinned memory may continue in the background.
        """
        return self._with(self._widened().to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """Return this batch with its tensors in page-locked memory.

        PyTorch's DataLoader calls it where ``pin_memory=True``.
        """
        return self._with(self._widened().pin_memory())

    def __iter__(self) -> Iterator[torch.Tensor]:
        tensors = self._widened()
        yield tensors.inputs
        yield tensors.targets

    def __getitem__(self, position: int | str) -> torch.Tensor:
        if not isinstance(position, str):
            return (self.inputs, self.targets)[position]
        found = self._as_arguments()
        if position not in found:
            keys = " and ".join(map(repr, found))
            msg = f"the key must be one that a batch has, {keys}, got {show(position)}"
            raise UnknownKeyError(msg)
        return found[position]

    def __contains__(self, key: object) -> bool:
        if isinstance(key, str):
            return key in self._as_arguments()
        return any(tensor is key for tensor in self)

    def get(self, key: str, default: Any = None) -> Any:
        """Return ``batch[key]``, or the default if there is no such key; see `keys`."""
        return self._as_arguments().get(key, default)

    def keys(self) -> KeysView[str]:
        """Return ``input_ids`` and ``labels``, so that ``model(**batch)`` works.

        It calls a model of Hugging Face, which shifts labels itself, as with
        ``as_dict(is_shifted=False)``. As there, the tensors of the keys are made anew
        each time: to change them, take the dict.

        Raises
        ------
        UsageError
            The rows are packed: such a model keeps documents apart only where it is
            called with ``use_cache=False``.
        """
        return self._as_arguments().keys()

    def __len__(self) -> int:
        return 2

    def __repr__(self) -> str:
        num_rows, seq_len = self._shape
        return f"Batch({num_rows} x {seq_len}, epoch={self.epoch}, index={self.index})"

    def _repr_html_(self) -> str:
        num_rows, seq_len = self._shape
        facts = [
            (f"{name} of row {row}", " ".join(map(str, ids[row, :_NUM_SHOWN].tolist())) + more)
            for row in range(min(num_rows, _NUM_ROWS_SHOWN))
            for name, ids in (("inputs", self.inputs), ("targets", self.targets))
            for more in [" ..." * (seq_len > _NUM_SHOWN)]
        ]
        return as_html(repr(self), facts)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._layout is not None:
            ids, layout = self._narrow_pieces(self._layout), self._layout
            lengths = layout.lengths.astype(narrow_dtype(layout.seq_len + 1))
            shape = (layout.counts, lengths, layout.seq_len)
            return _make_packed_batch, (ids, *shape, self.epoch, self.index, self._learnt)
        resets = self._reset_positions()
        if resets is not None:
            resets = resets.astype(narrow_dtype(int(resets[-1]) + 1 if len(resets) else 1))
        sources = self._find_sources()
        if sources is not None:
            sources = sources.astype(narrow_dtype(int(sources.max(initial=0)) + 1))
        place = self.epoch, self.index
        known = self._lengths, resets, sources
        return _make_batch, (self._narrow(), *place, *known, self._is_within, self._learnt)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Batch":
        return self._with(self._widened().map(torch.Tensor.clone))

    @property
    def _shape(self) -> tuple[int, int]:
        if self._layout is not None:
            return len(self._layout.counts), self._layout.seq_len
        if isinstance(self._held, np.ndarray):
            num_rows, width = self._held.shape
            return num_rows, width - 1
        num_rows, seq_len = self._widened().inputs.shape
        return num_rows, seq_len

    def _widened(self) -> Tensors:
        if self._tensors is None:
            held = self._held
            self._tensors = (
                held if isinstance(held, Tensors) else widen(held, self._lengths, self._learnt)
            )
        return self._tensors

    def _reset_positions(self) -> IntArray | None:
        if self._layout is not None and self._resets is None:
            self._resets = self._layout.begins()
        if isinstance(self._resets, BlockResets):
            self._resets = self._resets.of(self.index)
        return self._resets

    def _find_sources(self) -> Ids | None:
        if isinstance(self._sources, BlockSources):
            self._sources = self._sources.of(self.index)
        return self._sources

    def _find_starts(self) -> npt.NDArray[np.bool_]:
        """Return where documents start in the windows: bool array, (num_rows, seq_len + 1)."""
        positions = self._reset_positions()
        if positions is None:
            msg = (
                "this batch does not know where documents start: use a corpus that does, such "
                "as Corpus.from_tokens(..., documents=...), and no resets=False of the windows"
            )
            raise AbsentError(msg, name="resets")
        num_rows, seq_len = self._shape
        starts = np.zeros((num_rows, seq_len + 1), np.bool_)
        starts.flat[positions] = True
        return starts

    def _reset_mask(self) -> npt.NDArray[np.bool_]:
        mask = self._find_starts()[:, :-1]
        if self._lengths is not None:
            mask &= find_filled(self._lengths, mask.shape[1])
        return np.ascontiguousarray(mask)

    def _find_crossings(self) -> npt.NDArray[np.bool_]:
        """Return which targets begin a document: bool array, shape (num_rows, seq_len)."""
        crosses = self._find_starts()[:, 1:]
        if self._lengths is not None:
            crosses &= find_filled(self._lengths, crosses.shape[1])
        return crosses

    def _next_tokens(self) -> torch.Tensor:
        """Return the token after each input, also where it is no target; 0 in the padding."""
        inputs, targets = self
        following = torch.cat([inputs[:, 1:], targets[:, -1:]], dim=1)
        return torch.where(targets < 0, following, targets).clamp(min=0)

    def _find_segments(self) -> Segments:
        if self._segments is None:
            self._segments = find_segments(self._reset_mask(), self._lengths)
        return self._segments

    def _narrow(self) -> Ids:
        if isinstance(self._held, np.ndarray):
            return self._held
        # Padding becomes 0 here, and -100 again where it is widened.
        inputs = self.inputs
        windows = torch.cat([inputs[:, :1], self._next_tokens()], dim=1).cpu().numpy()
        narrow: Ids = windows.astype(narrow_dtype(int(windows.max()) + 1))
        return narrow

    def _narrow_pieces(self, layout: PieceLayout) -> tuple[Ids, Ids]:
        """Return the inputs of pieces, and the token after each."""
        if isinstance(self._held, PieceRows):
            inputs, after = self._held.inputs, self._held.after
        else:
            inputs, after = layout.collect_ids(*(part.cpu().numpy() for part in self))
        if inputs.dtype != np.int64:
            return inputs, after
        dtype = narrow_dtype(max(int(ids.max(initial=0)) for ids in (inputs, after)) + 1)
        return inputs.astype(dtype), after.astype(dtype)

    def _with(self, tensors: Tensors) -> "Batch":
        batch = Batch.__new__(Batch)
        held = tensors if isinstance(self._held, Tensors) else self._held
        for name in Batch.__slots__:
            setattr(batch, name, getattr(self, name))
        batch._tensors, batch._held = tensors, held  # noqa: SLF001  made here
        return batch


def _make_packed_batch(
    ids: tuple[Ids, Ids],
    counts: IntArray,
    lengths: Ids,
    seq_len: int,
    epoch: int,
    index: int,
    learnt: Mask | None = None,
) -> Batch:
    layout = PieceLayout.of(counts=counts, lengths=lengths.astype(np.int64), seq_len=seq_len)
    rows = PieceRows(layout, *ids)
    return Batch(None, epoch=epoch, index=index, lengths=layout.fills, pieces=rows, learnt=learnt)


def _make_batch(  # noqa: PLR0913, PLR0917  what a pickle holds
    windows: Ids,
    epoch: int,
    index: int,
    lengths: IntArray | None,
    resets: Ids | None,
    sources: Ids | None = None,
    is_within: bool = False,  # noqa: FBT001, FBT002  what a pickle holds
    learnt: Mask | None = None,
) -> Batch:
    batch = Batch(
        windows,
        epoch=epoch,
        index=index,
        lengths=lengths,
        resets=None if resets is None else resets.astype(np.int64),
        sources=sources,
        learnt=learnt,
    )
    return batch.within_documents() if is_within else batch


def _refuse_to_collate(_: Sequence[Batch], **__: object) -> NoReturn:
    msg = (
        "the windows yield whole batches already, so DataLoader must not collate "
        "them: use DataLoader(windows, batch_size=None, ...)"
    )
    raise UsageError(msg)


# PyTorch's documented way to say how a type is collated. Without it, forgetting
# batch_size=None would end in an error that does not name the cure.
default_collate_fn_map[Batch] = _refuse_to_collate
