"""The plan of an epoch: which windows each of its batches reads.

A plan is a virtual int64 array of window starts, shape ``(num_batches,
batch_size)``. Any block of it can be asked for; none of it is stored. Ranks
take columns of it, workers take rows, and a position in it is a row number.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self, final

import numpy as np

from tokenloom._checks import as_integer, require_choice, require_type
from tokenloom._wording import show
from tokenloom.errors import ArgumentError, CorpusError, UsageError
from tokenloom.plan.batch_sizes import (
    BatchSizes,
    Stretch,
    as_batch_size,
    divide_epoch,
    find_changes,
)
from tokenloom.plan.mixture import MixtureOrder, PartAccount
from tokenloom.plan.order import (
    MAX_EPOCH,
    IntArray,
    Order,
    Pieces,
    PlanSettings,
    ShuffledOrder,
    count_phases,
    draw_phase,
)
from tokenloom.plan.packed import PackedOrder
from tokenloom.plan.random import RandomOrder
from tokenloom.plan.sequential import SequentialOrder

_ORDERS: tuple[Order, ...] = (
    RandomOrder(),
    SequentialOrder(),
)
ORDERS: Mapping[str, Order] = MappingProxyType({order.kind: order for order in _ORDERS})
"""The orders that need nothing but the settings of a plan, by their names."""

CORPUS_ORDERS: Mapping[str, type[Order]] = MappingProxyType(
    {PackedOrder.kind: PackedOrder, MixtureOrder.kind: MixtureOrder}
)
"""The orders that depend on more of a corpus than its length, by their names."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(PlanSettings):
    """The window starts of one epoch, computed on demand.

    A window is ``seq_len`` inputs and the one token after them. Targets are the
    inputs shifted by one, so a window that starts at ``start`` reads the half-
    open range ``[start, start + seq_len + 1)`` of the corpus.

    Parameters
    ----------
    kind : str
        The name of the order. "random": disjoint windows from a random phase
        on, in the order of a pseudo-random permutation. "sequential":
        ``batch_size`` lanes of contiguous text from a random phase on; row
        ``k + 1`` of a column continues row ``k``, so a recurrent model may
        carry its hidden state.
    num_tokens : int
        Length of the corpus in tokens.
    seq_len : int
        Inputs per window, in tokens.
    batch_size : int
        Windows per batch over all ranks. A list of pairs, such as ``[(0, 32), (10_000,
        64)]``, makes it change: see `RandomWindows`. The attribute is then the size of
        the epoch's first batch, and ``batch_sizes`` has all.
    seed, epoch : int
        ``seed`` in [0, 2**64) and ``epoch`` in [0, 2**62). They are mixed, and
        no two pairs share an order; see ``tokenloom.plan.seeds.mix_epoch``.
    tail : "drop" or "pad"
        "drop": only whole windows in whole batches; the phase is drawn from
        what is left over. "pad": every token that has a successor is an input
        exactly once, so nothing is left to draw a phase from: it is 0, and
        the last windows are shorter or empty.
    own_order : Order, optional
        An order that is not in `tokenloom.plan.ORDERS`; ``kind`` is its name.

    Raises
    ------
    ArgumentError
        A value is out of its range.
    CorpusError
        The corpus is shorter than one batch ("drop") or than two tokens
        ("pad").

    >>> plan = Plan(kind="sequential", num_tokens=21, seq_len=2, batch_size=2)
    >>> plan.num_batches, plan.num_inputs, plan.num_dropped
    (4, 16, 5)
    >>> (plan.starts(range(1, 4)) - plan.starts(range(0, 3))).tolist()
    [[2, 2], [2, 2], [2, 2]]
    """

    own_order: Order | None = field(default=None, repr=False)
    batch_sizes: BatchSizes | None = None
    first_window: int = 0

    def __post_init__(self) -> None:
        if self.batch_sizes is None:
            self._take_sizes(self.batch_size)
        if self.own_order is None:
            _refuse_unmade(self.kind)
            require_choice("kind", self.kind, tuple(ORDERS))
        else:
            _check_own(self.own_order, self.kind)
        # No super(): the class that slots=True makes is another one.
        PlanSettings.__post_init__(self)
        if self._is_plain:
            self.order.check(self)
        else:
            self._check_sizes()

    @classmethod
    def of(cls, order: object, **settings: Any) -> Self:
        """Return the plan of an order, which is given by name or as an object.

        Parameters
        ----------
        order : str or Order
            A name in `tokenloom.plan.ORDERS`, or the order itself.
        **settings
            Those of a plan, without ``kind`` and ``own_order``.

        Raises
        ------
        ArgumentError, CorpusError
            As for a plan; or ``order`` is neither a name nor an order.
        """
        if isinstance(order, str):
            return cls(kind=order, **settings)
        if not isinstance(order, Order) or isinstance(order, type):
            names = ", ".join(map(repr, ORDERS))
            msg = (
                f"order must be {names}, or an order of your own, an object of a class that "
                f"derives from tokenloom.plan.Order, got {show(order)}"
            )
            raise ArgumentError(msg)
        _check_class(order)
        is_listed = ORDERS.get(order.kind) is order
        return cls(kind=order.kind, own_order=None if is_listed else order, **settings)

    def _take_sizes(self, batch_size: object) -> None:
        taken = as_batch_size(batch_size)
        if isinstance(taken, BatchSizes):
            object.__setattr__(self, "batch_sizes", taken)
            object.__setattr__(self, "batch_size", taken.largest)
        else:
            object.__setattr__(self, "batch_size", taken)

    def _check_sizes(self) -> None:
        """Check that sizes may change, and set the one of the epoch's first batch."""
        order, sizes = self.order, self._sizes
        if not isinstance(order, ShuffledOrder):
            msg = (
                f"batch_size must be an integer in {self.kind} order, whose windows are others "
                f"with each size, got {sizes}: use one size, or random order"
            )
            raise ArgumentError(msg)
        names = [each.name for each in dataclasses.fields(PlanSettings)]
        values = {name: getattr(self, name) for name in names}
        settings = [
            PlanSettings(**{**values, "batch_size": size})
            for size in sorted({size for _, size in sizes.steps})
        ]
        order.check(settings[-1])
        num_windows = order.num_windows(settings[-1])
        if len({order.num_windows(each) for each in settings}) > 1 or (
            self.tail == "drop" and num_windows < sizes.largest
        ):
            msg = (
                f"a batch_size that changes needs more text than barely one batch of "
                f"{sizes.largest:,} x {self.seq_len:,} inputs, the corpus has "
                f"{self.num_tokens:,} tokens: lower the largest size, or give more text"
            )
            raise CorpusError(msg)
        first = as_integer("first_window", self.first_window, stop=num_windows)
        object.__setattr__(self, "first_window", first)
        object.__setattr__(self, "batch_size", sizes.at(self.epoch * num_windows + first))

    @property
    def _is_plain(self) -> bool:
        return self.batch_sizes is None and self.first_window == 0

    @property
    def _sizes(self) -> BatchSizes:
        return self.batch_sizes or BatchSizes(((0, self.batch_size),))

    @property
    def all_sizes(self) -> tuple[int, ...]:
        """The sizes that batches have, in any epoch."""
        return tuple(size for _, size in self._sizes.steps)

    @property
    def described_size(self) -> int | str:
        """The batch size as saved positions and settings have it: 32, or ``"0:32,10000:64"``."""
        return self.batch_size if self.batch_sizes is None else str(self.batch_sizes)

    @property
    def order(self) -> Order:
        """The order that computes the plan."""
        return ORDERS[self.kind] if self.own_order is None else self.own_order

    def at(self, epoch: int, *, first_window: int = 0) -> Self:
        """Return the same plan of another epoch.

        Parameters
        ----------
        epoch : int
        first_window : int
            As of a plan.

        Raises
        ------
        ArgumentError
            ``epoch`` is out of its range.
        """
        return dataclasses.replace(self, epoch=epoch, first_window=first_window)

    @property
    def carries_state(self) -> bool:
        """Whether each row continues the text of the row before it."""
        return self.order.carries_state

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """The batches of the epoch, grouped by size; a single stretch if there is one size."""
        if self._is_plain:
            return (Stretch(range(self.order.num_batches(self)), 0, self.batch_size),)
        return divide_epoch(
            self._sizes,
            epoch=self.epoch,
            num_windows=self.num_windows,
            first_window=self.first_window,
            is_padded=self.tail == "pad",
        )

    @property
    def num_batches(self) -> int:
        """Rows of the plan: batches per epoch.

        The same in every epoch, unless the batch size changes.
        """
        if self._is_plain:
            return self.order.num_batches(self)
        stretches = self.stretches
        return stretches[-1].rows.stop if stretches else 0

    @property
    def num_rows(self) -> int:
        """Rows of all batches of the epoch, with those before its ``first_window``."""
        stretches = self.stretches
        return stretches[-1].stop_window if stretches else self.first_window

    @property
    def num_inputs(self) -> int:
        """Tokens that are an input in the epoch, each of them once.

        Those of the windows before its ``first_window`` are among them.
        """
        order = self.order
        if self._is_plain or not isinstance(order, ShuffledOrder):
            return order.num_inputs(self)
        return order.inputs_until(self, self.num_rows)

    @property
    def num_dropped(self) -> int:
        """Tokens that are no input in an epoch.

        At most ``(batch_size + 1) * seq_len``; with ``tail="pad"`` it is one,
        the last token of the corpus, which is only a target. In packed order the
        last token of each document is only a target.
        """
        order = self.order
        if self._is_plain:
            return order.num_dropped(self)
        return order.num_inputs(self) + order.num_dropped(self) - self.num_inputs

    @property
    def fill(self) -> float:
        """The share of positions of all batches that hold an input, in [0, 1]."""
        return self.num_inputs / (self.num_rows * self.seq_len)

    @property
    def phase(self) -> int:
        """The first token that may be an input in this epoch.

        Uniform in [0, num_phases), from the first raw word of the seed; 0 where rows
        are made of pieces.
        """
        return 0 if self.order.has_pieces else draw_phase(self)

    @property
    def num_phases(self) -> int:
        """How many values the phase can take.

        ``seq_len`` of them; fewer where the corpus holds barely one batch, and
        only 0 with ``tail="pad"`` or where rows are made of pieces.
        """
        return 1 if self.order.has_pieces else count_phases(self)

    @property
    def num_windows(self) -> int:
        """Windows with an input, from which the batches of an epoch are made.

        Random order permutes all of them and drops the last few of the
        permutation, so what is dropped is random too.
        """
        return self.order.num_windows(self)

    @property
    def is_mixture(self) -> bool:
        """Whether the windows come from the parts of a mixture."""
        return isinstance(self.own_order, MixtureOrder)

    def accounting(self) -> dict[str, PartAccount]:
        """Return what this epoch reads of each part of a mixture, by its name.

        Returns
        -------
        dict of str to PartAccount
            ``windows``, ``tokens`` (that are an input) and ``times_read``: 0.5 is half of
            the part's windows, 2.0 is each of them twice.

        Raises
        ------
        UsageError
            The plan is not that of a mixture.
        """
        if not isinstance(self.order, MixtureOrder):
            msg = (
                f"only a mixture has parts to account for, and this plan is of {self.kind} order: "
                "num_inputs and num_dropped are its accounting"
            )
            raise UsageError(msg)
        return self.order.accounting(self, self.num_rows)

    def starts(self, rows: range, columns: range | None = None) -> IntArray:
        """Return the window starts of a block of the plan.

        Parameters
        ----------
        rows : range
            Batches, within [0, num_batches); any positive step.
        columns : range, optional
            Rows of each batch, within [0, batch_size); all by default.

        Returns
        -------
        int64 array, shape (len(rows), len(columns))
            Half-open windows ``[start, start + seq_len + 1)``. With
            ``tail="pad"`` see `lengths` for how much of them counts.

        Raises
        ------
        ArgumentError
            ``rows`` or ``columns`` reach outside the plan, or ``rows`` are batches of
            several sizes: ask for those of one of the `stretches` at a time.
        """
        row_array, column_array = self._select(rows, columns)
        order = self.order
        if self._is_plain or not isinstance(order, ShuffledOrder):
            return order.starts(self, row_array, column_array)
        return order.starts_at(self, self._positions(rows) + column_array)

    def _select(self, rows: range, columns: range | None) -> tuple[IntArray, IntArray]:
        """Return rows, shape (num_rows, 1), and columns, after a check of their range."""
        _check_range("rows", rows, self.num_batches)
        size = self.size_of(rows)
        columns = range(size) if columns is None else columns
        _check_range("columns", columns, size)
        return _as_array(rows)[:, None], _as_array(columns)

    def size_of(self, rows: range) -> int:
        """Return the size of some batches.

        Raises
        ------
        ArgumentError
            They differ in size.
        """
        stretch = None if self._is_plain else self._stretch_of(rows)
        return self.batch_size if stretch is None else stretch.batch_size

    def _stretch_of(self, rows: range) -> Stretch | None:
        """Return the stretch that some rows belong to, None for no rows."""
        if not rows:
            return None
        stretch = next(stretch for stretch in self.stretches if rows[0] in stretch.rows)
        if rows[-1] not in stretch.rows:
            msg = (
                f"rows must be batches of one size, got {show(rows)}: batches "
                f"[{stretch.rows.start}, {stretch.rows.stop}) have {stretch.batch_size} rows, "
                "those after them another number"
            )
            raise ArgumentError(msg)
        return stretch

    def _positions(self, rows: range) -> IntArray:
        """Return the places of the first windows of batches, shape (num_rows, 1)."""
        stretch = self._stretch_of(rows)
        if stretch is None:
            return np.zeros((0, 1), np.int64)
        row_array = _as_array(rows)[:, None] - stretch.rows.start
        positions: IntArray = row_array * stretch.batch_size + stretch.first_window
        return positions

    def window_of(self, row: int) -> int:
        """Return the place in the epoch of the first window of a batch.

        Parameters
        ----------
        row : int
            In [0, num_batches]: after the last batch it is the place after its windows.
        """
        for stretch in self.stretches:
            if row in stretch.rows:
                return stretch.first_window + (row - stretch.rows.start) * stretch.batch_size
        return self.num_rows

    def row_at(self, window: int) -> int | None:
        """Return the batch that begins with the window at a place in the epoch, or None.

        After the last batch it is `num_batches`.
        """
        if window == self.num_rows:
            return self.num_batches
        for stretch in self.stretches:
            number, rest = divmod(window - stretch.first_window, stretch.batch_size)
            if number in range(len(stretch.rows)):
                return None if rest else stretch.rows[number]
        return None

    def equal_epochs(self, stop: int | None) -> Iterator[tuple[int, int | None, int]]:
        """Yield the epochs from this one on, grouped by their number of batches.

        Parameters
        ----------
        stop : int or None
            The epoch before which the last ones end; None is without end.

        Yields
        ------
        first, stop, num_batches : int
            The epochs [first, stop) have ``num_batches`` batches each; None is without end.
        """
        firsts = [self.epoch]
        if not self._is_plain:
            after = {self.epoch + 1, *find_changes(self._sizes, num_windows=self.num_windows)}
            last = MAX_EPOCH if stop is None else stop
            firsts += sorted(epoch for epoch in after if self.epoch < epoch < last)
        for first, end in zip(firsts, [*firsts[1:], stop], strict=True):
            if end is None or first < end:
                of_epoch = self if first == self.epoch else self.at(first)
                yield first, end, of_epoch.num_batches

    def count_until(self, epoch: int) -> int:
        """Return the number of batches of this plan and of the epochs after it, before an epoch."""
        return sum(
            (epoch if end is None else end - first) * num_batches
            for first, end, num_batches in self.equal_epochs(epoch)
        )

    def find_batch(self, number: int) -> tuple[int, int]:
        """Return the epoch and the row of a batch, counted from this plan's first over epochs."""
        for first, end, num_batches in self.equal_epochs(None):
            if end is None or number < (end - first) * num_batches:
                epochs, row = divmod(number, num_batches)
                return first + epochs, row
            number -= (end - first) * num_batches
        raise AssertionError  # the last epochs have no end

    def lengths(self, starts: IntArray, columns: range | None = None) -> IntArray:
        """Return how many inputs of each window count.

        Parameters
        ----------
        starts : int64 array, shape (num_rows, num_columns)
            What `starts` returned.
        columns : range, optional
            The columns given to `starts`.

        Returns
        -------
        int64 array, shape of ``starts``
            In [0, seq_len]; ``seq_len`` everywhere with ``tail="drop"``.
        """
        if self.tail == "drop" and not self.order.has_pieces:
            return np.full_like(starts, self.seq_len)
        columns = range(starts.shape[1]) if columns is None else columns
        return self.order.lengths(self, starts, _as_array(columns))

    def references(self, rows: range, columns: range | None = None) -> "References":
        """Return which tokens a block of the plan reads; the arguments are those of `starts`."""
        columns = range(self.size_of(rows)) if columns is None else columns
        row_array, column_array = self._select(rows, columns)
        order = self.order
        if self._is_plain or not isinstance(order, ShuffledOrder):
            pieces = order.pieces(self, row_array, column_array)
        else:
            pieces = order.pieces_at(self, self._positions(rows) + column_array)
        if pieces is None:
            starts = self.starts(rows, columns)
            lengths = self.lengths(starts, columns) if self.tail == "pad" else None
        else:
            starts, lengths = pieces.first_starts(self.num_tokens - 1), pieces.fills()
        return References(
            plan=self, rows=rows, columns=columns, starts=starts, lengths=lengths, pieces=pieces
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """The tokens that some rows of some batches read.

    Attributes
    ----------
    plan : Plan
    rows : range
        Which batches.
    columns : range
        Which rows of each.
    starts : int64 array, shape (num_rows, num_columns)
        Where the windows start.
    lengths : int64 array, shape (num_rows, num_columns), or None
        How many inputs of each row count; None: all ``seq_len`` of them.
    pieces : Pieces or None
        What the rows are made of; None: each of one window.
    """

    plan: Plan
    rows: range
    columns: range
    starts: IntArray
    lengths: IntArray | None
    pieces: Pieces | None = None

    def split(self, size: int) -> Iterator[Self]:
        """Yield the references of ``size`` batches at a time, of fewer at the end."""
        parts = itertools.repeat(None) if self.pieces is None else self.pieces.split(size)
        for start, pieces in zip(range(0, len(self.rows), size), parts, strict=False):
            yield dataclasses.replace(
                self,
                rows=self.rows[start : start + size],
                starts=self.starts[start : start + size],
                lengths=None if self.lengths is None else self.lengths[start : start + size],
                pieces=pieces,
            )


def _refuse_unmade(kind: str) -> None:
    if kind in CORPUS_ORDERS:
        msg = (
            f"a plan in {kind} order needs more of the corpus than its length, got only the name: "
            "make windows of the corpus, and take their plan"
        )
        raise ArgumentError(msg)


def _check_class(order: Order) -> None:
    """Check that the class of an order names its kind, and says whether rows continue each other.

    Raises
    ------
    ArgumentError
        It does not.
    """
    for name, kind, expected in (
        ("kind", str, "a str, its name in saved positions"),
        ("carries_state", bool, "True or False: whether each row continues the row before it"),
    ):
        value = getattr(order, name, None)
        if not isinstance(value, kind) or value == "":
            what = "none" if value is None else show(value)
            msg = f"the order {type(order).__name__} must have {name}, {expected}, got {what}"
            raise ArgumentError(msg)


def check_first_row(plan: Plan) -> None:
    """Check that the starts of a plan's first batch are what `Order.starts` promises.

    Raises
    ------
    ArgumentError
        They have another type or shape.
    """
    expected = (1, plan.batch_size)
    starts: Any = plan.starts(range(1))
    if isinstance(starts, np.ndarray) and (starts.dtype, starts.shape) == (np.int64, expected):
        return
    method = "starts_at" if isinstance(plan.order, ShuffledOrder) else "starts"
    msg = (
        f"{type(plan.order).__name__}.{method} must return an int64 array of a start for each row "
        f"of each batch that is asked for, of shape {expected} for the first batch, got "
        f"{show(starts)}"
    )
    raise ArgumentError(msg)


def _check_own(order: Order, kind: str) -> None:
    _check_class(order)
    if order.kind in ORDERS or type(order) is not CORPUS_ORDERS.get(order.kind, type(order)):
        msg = (
            f"the kind of an order of your own must not be one of tokenloom's, got "
            f"{show(order.kind)}: saved positions tell orders apart by it"
        )
        raise ArgumentError(msg)
    if kind != order.kind:
        msg = f"kind must be that of the order, {show(order.kind)}, got {show(kind)}"
        raise ArgumentError(msg)


def _as_array(values: range) -> IntArray:
    return np.arange(values.start, values.stop, values.step, dtype=np.int64)


def _check_range(name: str, values: range, size: int) -> None:
    require_type(name, values, range, "a range")
    inside = not values or (0 <= values[0] <= values[-1] < size)
    if not inside or values.step < 1:
        msg = f"{name} must go up within [0, {size}), got {show(values)}"
        raise ArgumentError(msg)


def digest_plan(plan: Plan) -> str:
    """Return the SHA-256 of the starts of the first 64 batches, 64 hexadecimal digits.

    For an order whose rows are made of pieces, the hash of their counts, starts and
    lengths.
    """
    sha256 = hashlib.sha256()
    for stretch in plan.stretches:
        rows = stretch.rows[: max(0, 64 - stretch.rows.start)]
        pieces = plan.references(rows).pieces
        arrays = [plan.starts(rows)] if pieces is None else [pieces.counts, pieces.starts]
        arrays += [] if pieces is None else [pieces.lengths]
        sha256.update(b"".join(each.astype("<i8").tobytes() for each in arrays))
    return sha256.hexdigest()
