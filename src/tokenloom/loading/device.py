"""Batches on a device, copied there ahead of their use or gathered there."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from tokenloom._wording import show
from tokenloom.corpus.offsets import DocumentOffsets
from tokenloom.errors import ArgumentError
from tokenloom.loading.batch import IGNORED_TARGET, Batch, Mask, Tensors
from tokenloom.loading.blocks import Block, BlockFacts, lay_out
from tokenloom.loading.piece_rows import PieceLayout
from tokenloom.plan.order import Pieces, find_filled, list_ranges
from tokenloom.plan.plan import References
from tokenloom.store.memmap import Tokens, read_whole


def choose_device(device: torch.device | str | int | None = None) -> torch.device:
    """Return the named device, or by default the best at hand: cuda, mps, cpu.

    Raises
    ------
    ArgumentError
        PyTorch does not know the device, or it is not at hand.
    """
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    # CUDA builds raise AssertionError for a device that the build lacks.
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        msg = f"device must be one that PyTorch can use here, got {show(device)}: {reason}"
        raise ArgumentError(msg) from error
    return chosen


def prefetch(
    blocks: Iterator[Block], *, device: torch.device | None, pin_memory: bool
) -> Iterator[Batch]:
    """Yield the batches of blocks, with their tensors on a device.

    A block is copied whole. If the device has streams, the next block is copied
    from page-locked memory, on a separate stream, while the batches of the
    current block are used. The tensors are ready for the stream that is current
    when the first batch of their block is requested.

    Parameters
    ----------
    blocks : iterator of Block
    device : torch.device or None
        None leaves the tensors in the CPU's memory.
    pin_memory : bool
        Whether that memory is page-locked, where there is a GPU.
    """
    if device is not None:
        return _copy_ahead(blocks, _Copier(device))
    if pin_memory and torch.cuda.is_available():
        pinned = (block.batches(block.widen().pin_memory()) for block in blocks)
        return itertools.chain.from_iterable(pinned)
    return itertools.chain.from_iterable(map(Block.wide_batches, blocks))


def _copy_ahead(blocks: Iterator[Block], copier: "_Copier") -> Iterator[Batch]:
    coming = _start(copier, blocks)
    is_first = True
    while coming is not None:
        block, transfer = coming
        batches = block.batches(copier.finish(transfer))
        if is_first:
            # The first batch must not wait until a second block is read.
            yield next(batches)
            is_first = False
        error = None
        try:
            coming = _start(copier, blocks)
        except Exception as raised:  # noqa: BLE001  it belongs after the batches of this block
            error = raised
        yield from batches
        if error is not None:
            raise error


def _start(copier: "_Copier", blocks: Iterator[Block]) -> "tuple[Block, _Transfer] | None":
    block = next(blocks, None)
    return None if block is None else (block, copier.start(block.widen()))


class _Transfer(NamedTuple):
    tensors: Tensors
    done: Any


class _Copier:
    """Copies to a device, on a separate stream if the device has streams."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # ROCm goes by this name too. Other devices copy at once.
        self._module: Any = torch.cuda if device.type == "cuda" else None
        self._stream: Any = None if self._module is None else self._module.Stream(device)

    def start(self, tensors: Tensors) -> _Transfer:
        if self._stream is None:
            return _Transfer(tensors.to(self._device), None)
        pinned = tensors.pin_memory()
        with self._module.stream(self._stream):
            moved = pinned.to(self._device, non_blocking=True)
        return _Transfer(moved, self._stream.record_event())

    def finish(self, transfer: _Transfer) -> Tensors:
        """Return the tensors, ready for the stream that is current here."""
        if self._stream is not None:
            current = self._module.current_stream(self._device)
            current.wait_event(transfer.done)
            for tensor in transfer.tensors:
                if tensor is not None:
                    # Their memory must not be reused before this stream is done with them.
                    tensor.record_stream(current)
        return transfer.tensors


class ResidentTokens:
    """A whole corpus on a device, where its windows are gathered.

    Parameters
    ----------
    tokens : integer array, shape (num_tokens,)
        Copied to the device.
    device : torch.device

    Raises
    ------
    ArgumentError
        The device has too little memory.
    """

    def __init__(self, tokens: Tokens, *, device: torch.device) -> None:
        # Not every device gathers unsigned integers, all gather signed ones.
        # The mask undoes the sign where they are widened.
        bits = 8 * tokens.itemsize
        self._mask = (1 << bits) - 1 if tokens.dtype.kind == "u" and bits < 64 else -1
        signed = np.ascontiguousarray(read_whole(tokens), tokens.dtype.newbyteorder("=")).view(
            f"i{bits // 8}"
        )
        try:
            # torch.tensor copies; torch.from_numpy would warn of a memory map that cannot be
            # written to.
            self._tokens = torch.tensor(signed, device=device)
        except torch.OutOfMemoryError as error:
            msg = (
                f"resident=True must put {tokens.nbytes:,} bytes of tokens on {device}, "
                "which has too little memory: leave resident out"
            )
            raise ArgumentError(msg) from error

    def read(
        self,
        references: References,
        *,
        documents: DocumentOffsets | None = None,
        loss_mask: Tokens | None = None,
    ) -> Iterator[Batch]:
        """Return some rows of several batches, gathered on the device; see `read_block`.

        What is learnt is gathered on the CPU, which counts it without waiting for the device.
        """
        layout = lay_out(references)
        facts = BlockFacts.of(references, layout=layout, documents=documents, loss_mask=loss_mask)
        if references.pieces is not None and layout is not None:
            return self._read_pieces(references.pieces, layout, facts)
        device, seq_len = self._tokens.device, references.plan.seq_len
        steps = torch.arange(seq_len + 1, device=device)
        positions = torch.from_numpy(references.starts).to(device)[..., None] + steps
        if references.lengths is not None:
            positions.clamp_(max=len(self._tokens) - 1)
        windows = self._tokens[positions].long() & self._mask
        # clone copies even where a slice of a single row is contiguous already.
        inputs, targets = (
            part.clone(memory_format=torch.contiguous_format)
            for part in (windows[..., :-1], windows[..., 1:])
        )
        is_filled = None
        if references.lengths is not None:
            is_filled = steps[:-1] < torch.from_numpy(references.lengths).to(device)[..., None]
        parts = _mark(inputs, targets, is_filled, facts.learnt).unbind()
        return (facts.make_batch(number, tensors=part) for number, part in enumerate(parts))

    def _read_pieces(
        self, pieces: Pieces, layout: PieceLayout, facts: BlockFacts
    ) -> Iterator[Batch]:
        """Return batches whose rows are made of pieces."""
        # Pieces of 2 and 3 inputs from 4 and 0 on read the positions [4, 5, 0, 1, 2].
        _, read = list_ranges(pieces.starts, pieces.starts + pieces.lengths)
        placed = torch.from_numpy(layout.lay_out(read)).to(self._tokens.device)
        inputs, targets = (self._tokens[placed + step].long() & self._mask for step in (0, 1))
        is_filled = torch.from_numpy(find_filled(layout.fills, layout.seq_len))
        mask = None if bool(is_filled.all()) else is_filled.to(self._tokens.device)
        parts = _mark(inputs, targets, mask, facts.learnt).unbind()
        return (
            facts.make_batch(number, pieces=of_batch, tensors=part)
            for number, (of_batch, part) in enumerate(zip(layout.unbind(), parts, strict=True))
        )


def _mark(
    inputs: torch.Tensor,
    targets: torch.Tensor,
    is_filled: torch.Tensor | None,
    learnt: Mask | None,
) -> Tensors:
    """Return inputs and targets with what is padded and what is not learnt marked, in place."""
    if is_filled is not None:
        inputs.masked_fill_(~is_filled, 0)
    mask = is_filled if learnt is None else torch.from_numpy(learnt).to(targets.device)
    if mask is not None:
        targets.masked_fill_(~mask, IGNORED_TARGET)
    return Tensors(inputs, targets, mask)
