"""The interface of an order of windows, and the arithmetic that orders share."""

import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from tokenloom._checks import as_integer, require_choice
from tokenloom.errors import CorpusError
from tokenloom.plan.permutation import MAX_SIZE, NUM_KEYS
from tokenloom.plan.seeds import mix_epoch

ORDER_VERSION = 1
# The version of epochs whose seed or number needs more than 32 bits: before it they shared their
# orders with other epochs.
WIDE_ORDER_VERSION = 2
# Far enough below 2**63 that adding epochs never leaves int64.
MAX_EPOCH = 1 << 62

Tail = Literal["drop", "pad"]
IntArray = npt.NDArray[np.int64]

_TAILS: tuple[Tail, ...] = ("drop", "pad")
_INTEGER_RANGES = (
    ("num_tokens", 0, MAX_SIZE),
    ("seq_len", 1, MAX_SIZE),
    ("batch_size", 1, MAX_SIZE),
    ("seed", 0, 1 << 64),
    ("epoch", 0, MAX_EPOCH),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSettings:
    """The settings of one epoch, from which its order is computed.

    Parameters
    ----------
    kind : str
        The name of the order.
    num_tokens, seq_len, batch_size, seed, epoch, tail
        As in `tokenloom.Plan`.

    Raises
    ------
    ArgumentError
        A value is out of its range.
    """

    kind: str
    num_tokens: int
    seq_len: int
    batch_size: int
    seed: int = 0
    epoch: int = 0
    tail: Tail = "drop"

    def __post_init__(self) -> None:
        require_choice("tail", self.tail, _TAILS)
        for name, start, stop in _INTEGER_RANGES:
            value = as_integer(name, getattr(self, name), start=start, stop=stop)
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """The pieces that rows are made of, where a row is more than one window.

    The pieces of a row lie side by side from its first position on, and what
    they leave of it is padding. All pieces of all rows lie one after the other,
    row by row.

    Attributes
    ----------
    counts : int64 array, shape (num_rows, num_columns)
        How many pieces each row of each batch has.
    starts : int64 array, shape (num_pieces,)
        Where they start in the corpus.
    lengths : int64 array, shape (num_pieces,)
        How many inputs each of them has, at least one. The target of the last is
        the token after it, so a piece reads ``[start, start + length + 1)``.
    """

    counts: IntArray
    starts: IntArray
    lengths: IntArray

    def fills(self) -> IntArray:
        """Return how many inputs each row has: int64 array, shape of ``counts``.

        >>> pieces = Pieces(
        ...     counts=np.array([[2, 0], [1, 1]]),
        ...     starts=np.array([0, 9, 4, 6]),
        ...     lengths=np.array([3, 1, 4, 2]),
        ... )
        >>> pieces.fills().tolist(), pieces.first_starts(-1).tolist()
        ([[4, 0], [4, 2]], [[0, -1], [4, 6]])
        """
        return fill_rows(self.counts, self.lengths)

    def first_starts(self, empty: int) -> IntArray:
        """Return where the first piece of each row starts; ``empty`` for one without any."""
        counts = self.counts.ravel()
        starts = np.full(counts.shape, empty, np.int64)
        starts[counts > 0] = self.starts[(np.cumsum(counts, dtype=np.int64) - counts)[counts > 0]]
        return starts.reshape(self.counts.shape)

    def split(self, size: int) -> Iterator[Self]:
        """Yield the pieces of ``size`` batches at a time, of fewer at the end."""
        ends = edges_of(self.counts.sum(axis=1)).tolist()
        for start in range(0, len(self.counts), size):
            part = slice(ends[start], ends[min(start + size, len(self.counts))])
            yield dataclasses.replace(
                self,
                counts=self.counts[start : start + size],
                starts=self.starts[part],
                lengths=self.lengths[part],
            )


@runtime_checkable
class Order(Protocol):
    """The order of windows of a `tokenloom.Plan`.

    An order is a value and keeps nothing between calls: equal orders give equal
    plans. A subclass must define `kind`, `carries_state` and `starts`. The
    defaults of the other methods hold for windows of ``seq_len`` inputs that are
    cut from the corpus one after the other, from the phase on.
    """

    kind: str
    """Name of the order in options and in saved positions."""

    carries_state: bool
    """Whether each row continues the text of the row before it."""

    @property
    def has_pieces(self) -> bool:
        """Whether rows are made of several pieces, which `pieces` returns."""
        return False

    @property
    def golden_digest(self) -> str | None:
        """The hash of its pinned plan, by which ``tokenloom.testing`` checks a platform.

        It is that of ``tokenloom.testing.laws.digest_plan``. None pins nothing.
        """
        return None

    def starts(self, settings: PlanSettings, rows: IntArray, columns: IntArray) -> IntArray:
        """Return where windows start.

        Parameters
        ----------
        settings : PlanSettings
        rows : int64 array, shape (num_rows, 1)
            Batches, within [0, num_batches).
        columns : int64 array, shape (num_columns,)
            Rows of each batch, within [0, batch_size).

        Returns
        -------
        int64 array, shape (num_rows, num_columns)
            Every window lies within the corpus with its length, and no token is
            an input twice.
        """

    def lengths(self, settings: PlanSettings, starts: IntArray, columns: IntArray) -> IntArray:
        """Return how many inputs of each window count, with ``tail="pad"``.

        Parameters
        ----------
        settings : PlanSettings
        starts : int64 array, shape (num_rows, num_columns)
            What `starts` returned.
        columns : int64 array, shape (num_columns,)
            The columns that were passed to `starts`.

        Returns
        -------
        int64 array, shape of ``starts``
            In [0, seq_len].
        """
        del columns
        lengths: IntArray = np.minimum(settings.num_tokens - 1 - starts, settings.seq_len)
        return lengths

    def pieces(self, settings: PlanSettings, rows: IntArray, columns: IntArray) -> Pieces | None:
        """Return the pieces of rows; None, the default, where each row is one window.

        Where there are pieces, `starts` are those of the first piece of each row.

        Parameters
        ----------
        settings, rows, columns
            As in `starts`.
        """
        del settings, rows, columns
        return None

    def check(self, settings: PlanSettings) -> None:
        """Check that the corpus is long enough for an epoch.

        Raises
        ------
        CorpusError
            It is too short; the message says how many tokens are needed.
        """
        check_enough_tokens(settings)

    def check_epochs(self, settings: PlanSettings, num_epochs: int | None) -> None:
        """Check that a number of epochs may be read from this one on; by default any may.

        Parameters
        ----------
        settings : PlanSettings
            Of the first epoch.
        num_epochs : int or None
            None is without end.

        Raises
        ------
        ArgumentError
            They may not; the message gives the reason.
        """
        del settings, num_epochs

    def num_windows(self, settings: PlanSettings) -> int:
        """Return how many windows with an input an epoch is made from, the same in every epoch.

        With ``tail="drop"`` those that fill no batch at its end are dropped. An order whose
        windows are not cut from the corpus one after another must say how many it has.
        """
        return count_windows(settings)

    def num_batches(self, settings: PlanSettings) -> int:
        """Return the number of batches of an epoch, the same in every epoch."""
        return count_batches(settings)

    def num_inputs(self, settings: PlanSettings) -> int:
        """Return the number of tokens that are an input in an epoch, each of them once."""
        return count_inputs(settings)

    def num_dropped(self, settings: PlanSettings) -> int:
        """Return the number of tokens that are no input in an epoch, with those that never are."""
        return settings.num_tokens - self.num_inputs(settings)

    def version(self, seed: int, epoch: int) -> int:
        """Return the version of the arithmetic that orders an epoch.

        A position that another version saved is refused.
        """
        return order_version(seed, epoch)

    def proof(self, settings: PlanSettings) -> dict[str, int | str]:
        """Return the fields that a saved position must share with the plan that loads it.

        Flat, JSON-able, and the same in every epoch. An order that has settings of
        its own adds them.
        """
        names = ("num_tokens", "seq_len", "batch_size", "seed", "tail")
        return {name: getattr(settings, name) for name in names}


@runtime_checkable
class ShuffledOrder(Order, Protocol):
    """An order in which the windows of an epoch come one after another.

    Whatever the batch size is, the windows stand in one line, and batches are cut
    from it. A subclass must define ``kind``, ``carries_state`` and `starts_at` in place
    of `starts`.
    """

    def starts_at(self, settings: PlanSettings, positions: IntArray) -> IntArray:
        """Return where the windows at some positions of the epoch start.

        Parameters
        ----------
        settings : PlanSettings
            Its ``batch_size`` makes no difference, but where the corpus holds
            barely one batch; see `Order.num_windows`.
        positions : int64 array, any shape
            Places of windows in the epoch, counted from 0. Those past the last
            window are the padding of the last batch, with ``tail="pad"``.

        Returns
        -------
        int64 array, shape of ``positions``
            Every start with its length lies within the corpus, and no token is
            an input twice. Padding starts at the last token of the corpus, where
            ``lengths`` counts no input.
        """

    def pieces_at(self, settings: PlanSettings, positions: IntArray) -> Pieces | None:
        """Return the pieces of the rows at some positions; None where each is one window.

        Parameters
        ----------
        settings, positions
            As in `starts_at`; ``positions`` have the shape (num_rows, num_columns).
        """
        del settings, positions
        return None

    def starts(self, settings: PlanSettings, rows: IntArray, columns: IntArray) -> IntArray:
        """Return where windows start; see `Order.starts`."""
        # Batches 0 and 2 of 4 rows each: [[0, 1, 2, 3], [8, 9, 10, 11]].
        return self.starts_at(settings, rows * settings.batch_size + columns)

    def pieces(self, settings: PlanSettings, rows: IntArray, columns: IntArray) -> Pieces | None:
        """Return the pieces of rows; see `Order.pieces`."""
        return self.pieces_at(settings, rows * settings.batch_size + columns)

    def num_batches(self, settings: PlanSettings) -> int:
        """Return the number of batches of an epoch, the same in every epoch."""
        num_windows = self.num_windows(settings)
        if settings.tail == "pad":
            return -(-num_windows // settings.batch_size)
        return num_windows // settings.batch_size

    def num_inputs(self, settings: PlanSettings) -> int:
        """Return the number of tokens that are an input in an epoch, each of them once."""
        return self.inputs_until(settings, self.num_batches(settings) * settings.batch_size)

    def inputs_until(self, settings: PlanSettings, stop: int) -> int:
        """Return how many tokens are an input in the first windows of the epoch.

        Parameters
        ----------
        settings : PlanSettings
        stop : int
            How many windows; with ``tail="pad"`` all, and the padding after them.
        """
        if settings.tail == "pad":
            return settings.num_tokens - 1
        return stop * settings.seq_len


def edges_of(counts: npt.ArrayLike) -> IntArray:
    """Return where successive groups begin, and the end of all: int64, one longer.

    >>> edges_of([2, 0, 3]).tolist()
    [0, 2, 2, 5]
    """
    counts = np.asarray(counts, np.int64)
    edges = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=edges[1:])
    return edges


def fill_rows(counts: IntArray, lengths: IntArray) -> IntArray:
    """Return how many inputs rows have, in the shape of ``counts``.

    Parameters
    ----------
    counts : int64 array, any shape
        How many pieces each row has.
    lengths : int64 array, shape (num_pieces,)
        How many inputs each piece has, row by row.

    >>> fill_rows(np.array([[2, 0], [1, 1]]), np.array([3, 1, 4, 2])).tolist()
    [[4, 0], [4, 2]]
    """
    # Inputs up to each piece [0, 3, 4, 8, 10], at the ends of the rows [0, 2, 2, 3, 4].
    inputs = edges_of(lengths)[edges_of(counts.ravel())]
    fills: IntArray = np.diff(inputs).reshape(counts.shape)
    return fills


def find_filled(fills: IntArray, seq_len: int) -> npt.NDArray[np.bool_]:
    """Return which inputs of rows are no padding: bool array, shape (..., seq_len).

    Parameters
    ----------
    fills : int64 array, shape (...)
        How many inputs each row has before its padding.
    seq_len : int

    >>> find_filled(np.array([2, 0]), 3).tolist()
    [[True, True, False], [False, False, False]]
    """
    is_filled: npt.NDArray[np.bool_] = np.arange(seq_len, dtype=np.int64) < fills[..., None]
    return is_filled


def list_ranges(starts: IntArray, stops: IntArray) -> tuple[IntArray, IntArray]:
    """Return which of several half-open ranges each of their values is of, and the values.

    >>> of_range, values = list_ranges(np.array([5, 0]), np.array([7, 3]))
    >>> of_range.tolist(), values.tolist()
    ([0, 0, 1, 1, 1], [5, 6, 0, 1, 2])
    """
    sizes = stops - starts
    of_range = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)
    # Ranges [5, 7) and [0, 3) begin at 0 and 2 in the list: 5 - 0 and 0 - 2 are added to it.
    shifts = starts - np.cumsum(sizes, dtype=np.int64) + sizes
    return of_range, np.arange(len(of_range), dtype=np.int64) + shifts[of_range]


def order_version(seed: int, epoch: int) -> int:
    """Return the version of the arithmetic that mixes a seed with an epoch.

    >>> order_version(0, 3), order_version(2**32, 3), order_version(0, 2**32)
    (1, 2, 2)
    """
    return WIDE_ORDER_VERSION if max(seed, epoch) >= 1 << 32 else ORDER_VERSION


@functools.lru_cache(maxsize=64)
def draw_words(seed: int, epoch: int) -> npt.NDArray[np.uint64]:
    """Return raw random words, shape (17,): one for the phase, then the round keys.

    Raw words of a seed sequence are stable across NumPy versions (NEP 19);
    the methods of a Generator are not.
    """
    words = mix_epoch(seed, epoch).generate_state(1 + NUM_KEYS, np.uint64).astype(np.uint64)
    words.setflags(write=False)
    return words


def count_batches(settings: PlanSettings) -> int:
    """Return how many batches an epoch of windows has."""
    inputs_per_batch = settings.batch_size * settings.seq_len
    if settings.tail == "pad":
        return -(-(settings.num_tokens - 1) // inputs_per_batch)
    # seq_len tokens are set aside for the phase, unless that would cost a
    # short corpus its only batch.
    return max(1, (settings.num_tokens - settings.seq_len) // inputs_per_batch)


def count_inputs(settings: PlanSettings) -> int:
    """Return how many tokens are an input in an epoch of windows."""
    if settings.tail == "pad":
        return settings.num_tokens - 1
    return count_batches(settings) * settings.batch_size * settings.seq_len


def count_phases(settings: PlanSettings) -> int:
    """Return how many values the phase can take.

    ``seq_len`` of them; fewer where the corpus holds barely one batch, and
    only 0 with ``tail="pad"``.
    """
    if settings.tail == "pad":
        return 1
    return min(settings.seq_len, settings.num_tokens - count_inputs(settings))


def count_windows(settings: PlanSettings) -> int:
    """Return how many windows of consecutive text the batches of an epoch are made from."""
    if settings.tail == "pad":
        return -(-(settings.num_tokens - 1) // settings.seq_len)
    return (settings.num_tokens - count_phases(settings)) // settings.seq_len


def draw_phase(settings: PlanSettings) -> int:
    """Return the first token that may be an input, uniform in [0, num_phases)."""
    word = int(draw_words(settings.seed, settings.epoch)[0])
    return (word * count_phases(settings)) >> 64


def check_enough_tokens(settings: PlanSettings) -> None:
    """Check that a corpus holds a batch of windows, or with padding at least one input.

    Raises
    ------
    CorpusError
        It does not.
    """
    if settings.tail == "pad":
        needed, what = 2, 'one input and its target (tail="pad")'
        cure = "give more text"
    else:
        needed = settings.batch_size * settings.seq_len + 1
        what = f"one batch of {settings.batch_size:,} x {settings.seq_len:,} inputs"
        cure = 'lower batch_size or seq_len, use tail="pad" or give more text'
    if settings.num_tokens < needed:
        msg = (
            f"{what} needs at least {needed:,} tokens, "
            f"the corpus has {settings.num_tokens:,}: {cure}"
        )
        raise CorpusError(msg)
