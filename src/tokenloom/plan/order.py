"""Where the windows of each batch start: the order of an epoch as arithmetic.

A plan is a virtual int64 array of window starts, shape ``(num_batches,
batch_size)``. Any block of it can be asked for; none of it is stored. Ranks
take columns of it, workers take rows, and a position in it is a row number.
"""

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tokenloom._checks import as_integer, require_type
from tokenloom._wording import show
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.plan.permutation import MAX_SIZE, NUM_KEYS, permute
from tokenloom.plan.seeds import mix_epoch

ORDER_VERSION = 1
# Of epochs of which the seed or the number needs more than 32 bits: until this
# version they shared their orders with others.
WIDE_ORDER_VERSION = 2
# So far below 2**63 that any number of epochs more is an int64.
MAX_EPOCH = 1 << 62

Kind = Literal["random", "sequential"]
Tail = Literal["drop", "pad"]
IntArray = npt.NDArray[np.int64]

_KINDS: tuple[Kind, ...] = ("random", "sequential")
_TAILS: tuple[Tail, ...] = ("drop", "pad")
_INTEGER_RANGES = (
    ("num_tokens", 0, MAX_SIZE),
    ("seq_len", 1, MAX_SIZE),
    ("batch_size", 1, MAX_SIZE),
    ("seed", 0, 1 << 64),
    ("epoch", 0, MAX_EPOCH),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The window starts of one epoch, computed on demand.

    A window is ``seq_len`` inputs and the one token after them. Targets are
    the inputs moved on by one, so a window that starts at ``start`` reads the
    half-open range ``[start, start + seq_len + 1)`` of the corpus.

    Parameters
    ----------
    kind : "random" or "sequential"
        "random": disjoint windows from a random phase on, in the order of a
        pseudo-random permutation. "sequential": ``batch_size`` lanes of
        contiguous text from a random phase on; row ``k + 1`` of a column
        continues row ``k``, so a recurrent model may carry its hidden state.
    num_tokens : int
        Length of the corpus in tokens.
    seq_len : int
        Inputs per window, in tokens.
    batch_size : int
        Windows per batch over all ranks.
    seed, epoch : int
        ``seed`` in [0, 2**64) and ``epoch`` in [0, 2**62). They are mixed, and
        no two pairs share an order; see ``tokenloom.plan.seeds.mix_epoch``.
    tail : "drop" or "pad"
        "drop": only whole windows in whole batches; the phase is drawn from
        what is left over. "pad": every token that has a successor is an input
        exactly once, so nothing is left to draw a phase from: it is 0, and
        the last windows are shorter or empty.

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

    kind: Kind
    num_tokens: int
    seq_len: int
    batch_size: int
    seed: int = 0
    epoch: int = 0
    tail: Tail = "drop"

    def __post_init__(self) -> None:
        _check_choice("kind", self.kind, _KINDS)
        _check_choice("tail", self.tail, _TAILS)
        for name, start, stop in _INTEGER_RANGES:
            value = as_integer(name, getattr(self, name), start=start, stop=stop)
            object.__setattr__(self, name, value)
        self._check_enough_tokens()

    def _check_enough_tokens(self) -> None:
        if self.tail == "pad":
            needed, what = 2, 'one input and its target (tail="pad")'
            cure = "give more text"
        else:
            needed = self._inputs_per_batch + 1
            what = f"one batch of {self.batch_size:,} x {self.seq_len:,} inputs"
            cure = 'lower batch_size or seq_len, use tail="pad" or give more text'
        if self.num_tokens < needed:
            msg = (
                f"{what} needs at least {needed:,} tokens, "
                f"the corpus has {self.num_tokens:,}: {cure}"
            )
            raise CorpusError(msg)

    def at(self, epoch: int) -> "Plan":
        """Return the same plan of another epoch.

        Raises
        ------
        ArgumentError
            ``epoch`` is out of its range.
        """
        return dataclasses.replace(self, epoch=epoch)

    @property
    def carries_state(self) -> bool:
        """Whether each row continues the text of the row before it."""
        return self.kind == "sequential"

    @property
    def num_batches(self) -> int:
        """Rows of the plan: batches per epoch, the same in every epoch."""
        if self.tail == "pad":
            return -(-(self.num_tokens - 1) // self._inputs_per_batch)
        # seq_len tokens are set aside for the phase, unless that would cost a
        # short corpus its only batch.
        return max(1, (self.num_tokens - self.seq_len) // self._inputs_per_batch)

    @property
    def num_inputs(self) -> int:
        """Tokens that are an input in an epoch, each of them once."""
        if self.tail == "pad":
            return self.num_tokens - 1
        return self.num_batches * self._inputs_per_batch

    @property
    def num_dropped(self) -> int:
        """Tokens that are no input in an epoch.

        At most ``(batch_size + 1) * seq_len``; with ``tail="pad"`` it is one,
        the last token of the corpus, which is only a target.
        """
        return self.num_tokens - self.num_inputs

    @property
    def phase(self) -> int:
        """The first token that may be an input in this epoch.

        Uniform in [0, num_phases), from the first raw word of the seed.
        """
        return (int(_epoch_words(self.seed, self.epoch)[0]) * self.num_phases) >> 64

    @property
    def num_phases(self) -> int:
        """How many values the phase can take.

        ``seq_len`` of them; fewer where the corpus holds barely one batch, and
        only 0 with ``tail="pad"``.
        """
        if self.tail == "pad":
            return 1
        return min(self.seq_len, self.num_dropped)

    @property
    def num_windows(self) -> int:
        """Windows from which the batches of an epoch are made.

        Random order permutes all of them and drops the last few of the
        permutation, so what is dropped is random too.
        """
        if self.tail == "pad":
            return -(-(self.num_tokens - 1) // self.seq_len)
        return (self.num_tokens - self.num_phases) // self.seq_len

    @property
    def _inputs_per_batch(self) -> int:
        return self.batch_size * self.seq_len

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
            ``rows`` or ``columns`` reach outside the plan.
        """
        columns = range(self.batch_size) if columns is None else columns
        _check_range("rows", rows, self.num_batches)
        _check_range("columns", columns, self.batch_size)
        row = np.arange(rows.start, rows.stop, rows.step, dtype=np.int64)[:, None]
        column = np.arange(columns.start, columns.stop, columns.step, dtype=np.int64)
        if self.kind == "random":
            return self._random_starts(row * self.batch_size + column)
        lane_start, lane_stop = self._lanes(column)
        starts: IntArray = np.minimum(lane_start + row * self.seq_len, lane_stop)
        return starts

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
        if self.tail == "drop":
            return np.full_like(starts, self.seq_len)
        stop: int | IntArray = self.num_tokens - 1
        if self.kind == "sequential":
            columns = range(self.batch_size) if columns is None else columns
            column = np.arange(columns.start, columns.stop, columns.step, dtype=np.int64)
            stop = self._lanes(column)[1]
        lengths: IntArray = np.minimum(stop - starts, self.seq_len)
        return lengths

    def _random_starts(self, positions: IntArray) -> IntArray:
        num_windows = self.num_windows
        keys = _epoch_words(self.seed, self.epoch)[1:]
        # Positions past the last window are the padding of the last batch.
        windows = permute(np.minimum(positions, num_windows - 1), size=num_windows, keys=keys)
        starts = windows * self.seq_len + self.phase
        if self.tail == "pad":
            starts[positions >= num_windows] = self.num_tokens - 1
        return starts

    def _lanes(self, column: IntArray) -> tuple[IntArray, IntArray]:
        """Return the half-open token ranges of lanes: starts and stops."""
        if self.tail == "pad":
            # Lanes differ by one token at most, so padding is the last row only.
            lane_len, num_longer = divmod(self.num_tokens - 1, self.batch_size)
            starts = column * lane_len + np.minimum(column, num_longer)
            return starts, starts + lane_len + (column < num_longer)
        # The textbook's lanes: what the phase leaves, cut into equal parts.
        starts = self.phase + column * ((self.num_tokens - 1 - self.phase) // self.batch_size)
        return starts, starts + self.num_batches * self.seq_len


def order_version(seed: int, epoch: int) -> int:
    """Return the version of the arithmetic that orders an epoch.

    >>> order_version(0, 3), order_version(2**32, 3), order_version(0, 2**32)
    (1, 2, 2)
    """
    return WIDE_ORDER_VERSION if max(seed, epoch) >= 1 << 32 else ORDER_VERSION


@functools.lru_cache(maxsize=64)
def _epoch_words(seed: int, epoch: int) -> npt.NDArray[np.uint64]:
    """Return raw random words, shape (17,): one for the phase, then the round keys.

    Raw words of a seed sequence are stable across NumPy versions (NEP 19);
    the methods of a Generator are not.
    """
    words = mix_epoch(seed, epoch).generate_state(1 + NUM_KEYS, np.uint64).astype(np.uint64)
    words.setflags(write=False)
    return words


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        expected = " or ".join(map(repr, choices))
        msg = f"{name} must be {expected}, got {show(value)}"
        raise ArgumentError(msg)


def _check_range(name: str, values: range, size: int) -> None:
    require_type(name, values, range, "a range")
    inside = not values or (0 <= values[0] <= values[-1] < size)
    if not inside or values.step < 1:
        msg = f"{name} must go up within [0, {size}), got {show(values)}"
        raise ArgumentError(msg)
