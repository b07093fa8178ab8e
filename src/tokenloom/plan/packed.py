"""Packed order: whole documents side by side in each row, none of them learnt twice."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Protocol, final

import numpy as np
import numpy.typing as npt

from tokenloom._wording import count
from tokenloom.errors import CorpusError, UsageError
from tokenloom.plan.best_fit import Patterns, pack
from tokenloom.plan.order import (
    IntArray,
    Pieces,
    PlanSettings,
    ShuffledOrder,
    draw_words,
    list_ranges,
)
from tokenloom.plan.permutation import (
    MULTIPLIER_1,
    MULTIPLIER_2,
    NUM_KEYS,
    SHIFT,
    Permutations,
    permute,
)
from tokenloom.plan.seeds import mix_epoch

_GOLDEN_RATIO = np.uint64(0x9E3779B97F4A7C15)


class SortedDocuments(Protocol):
    """The documents of a corpus, by their lengths."""

    @property
    def num_tokens(self) -> int:
        """Tokens of the corpus."""

    @property
    def lengths(self) -> IntArray:
        """The different lengths of documents in tokens, ascending: int64 array."""

    @property
    def counts(self) -> IntArray:
        """How many documents have each length: int64 array of that shape."""

    def starts(self, ranks: IntArray) -> IntArray:
        """Return where documents start in the corpus.

        Parameters
        ----------
        ranks : int64 array, shape (num_asked,)
            Places among all documents by length; those of a length are in the order
            of the corpus.
        """

    def hash(self) -> str:
        """Return ``"sha256:..."`` of where the documents start and end."""


@final
class PackedOrder(ShuffledOrder):
    """Rows that are filled with whole documents, by best-fit decreasing.

    A document of n tokens has n - 1 pairs of a token and its successor. Each pair of
    each document is learnt once in an epoch, and none crosses documents. A document
    of more than ``seq_len`` pairs is cut into rows of its own and a rest. Which
    lengths lie side by side follows from how many documents there are of each; which
    documents these are, and which row comes when, is drawn anew for each epoch.

    Parameters
    ----------
    documents : SortedDocuments
    """

    kind = "packed"
    carries_state = False
    has_pieces = True

    __slots__ = ("_documents", "_drawn", "_packings")

    def __init__(self, documents: SortedDocuments) -> None:
        self._documents = documents
        # Values that follow from the lengths alone, by ``seq_len``; each is computed once.
        self._packings: dict[int, _Packing] = {}
        # The permutations of the epoch that was asked for last.
        self._drawn: tuple[object, Permutations | None] = (None, None)

    def pieces_at(self, settings: PlanSettings, positions: IntArray) -> Pieces:
        """Return the pieces of the rows at some positions; see `ShuffledOrder.pieces_at`."""
        packing, places = self._packing(settings), positions.ravel()
        counts = np.zeros(places.shape, np.int64)
        is_row = places < packing.num_bins
        bins = _permute_bins(settings, places[is_row], packing.num_bins)
        of_row, kinds, ranks = packing.slots(bins)
        counts[is_row] = np.bincount(of_row, minlength=len(bins))
        ranks = self._permutations(settings, packing).permute(ranks, kinds)
        documents, skipped = packing.locate(kinds, ranks)
        return Pieces(
            counts=counts.reshape(positions.shape),
            starts=self._documents.starts(documents) + skipped,
            lengths=packing.piece_lengths[kinds],
        )

    def starts_at(self, settings: PlanSettings, positions: IntArray) -> IntArray:
        """Return where the first pieces of rows start; see `ShuffledOrder.starts_at`."""
        return self.pieces_at(settings, positions).first_starts(settings.num_tokens - 1)

    def lengths(self, settings: PlanSettings, starts: IntArray, columns: IntArray) -> IntArray:
        """Refuse: the start of its first piece does not show how full a row is.

        Raises
        ------
        UsageError
            Always.
        """
        del settings, starts, columns
        msg = (
            "rows of packed documents are not one window each, so their lengths do not follow "
            "from starts: ask plan.references(rows, columns).lengths"
        )
        raise UsageError(msg)

    def num_windows(self, settings: PlanSettings) -> int:
        """Return how many rows an epoch has, the same in every epoch."""
        return self._packing(settings).num_bins

    def inputs_until(self, settings: PlanSettings, stop: int) -> int:
        """Return how many tokens are an input in the first rows of the epoch.

        With ``tail="drop"`` this differs a little between epochs: the rows that fill
        no batch are others each time, and hold more or fewer documents.
        """
        packing = self._packing(settings)
        if settings.tail == "pad":
            return packing.num_pairs
        dropped = np.arange(stop, packing.num_bins, dtype=np.int64)
        bins = _permute_bins(settings, dropped, packing.num_bins)
        return packing.num_pairs - int(packing.fills(bins).sum())

    def check(self, settings: PlanSettings) -> None:
        """Check that the documents are those of the corpus and fill a batch; see `Order.check`."""
        if settings.num_tokens != self._documents.num_tokens:
            msg = (
                "a plan of packed documents must have the tokens of its documents, "
                f"{self._documents.num_tokens:,}, got num_tokens={settings.num_tokens:,}"
            )
            raise CorpusError(msg)
        num_bins = self._packing(settings).num_bins
        if not num_bins:
            msg = (
                "packed order needs a document of at least 2 tokens, an input and its target, "
                f"got none in {count(self._num_documents, 'document')}: give longer documents"
            )
            raise CorpusError(msg)
        if settings.tail == "drop" and num_bins < settings.batch_size:
            msg = (
                f"one batch of {settings.batch_size:,} rows of {settings.seq_len:,} inputs needs "
                f"more documents: those of the corpus fill {count(num_bins, 'row')}: lower "
                'batch_size or seq_len, use tail="pad" or give more text'
            )
            raise CorpusError(msg)

    def proof(self, settings: PlanSettings) -> dict[str, int | str]:
        """Return the fields that a saved position must share; see `Order.proof`."""
        return {**super().proof(settings), "documents": self._documents.hash()}

    @property
    def _num_documents(self) -> int:
        return int(self._documents.counts.sum())

    def _packing(self, settings: PlanSettings) -> "_Packing":
        packing = self._packings.get(settings.seq_len)
        if packing is None:
            packing = _Packing.of(self._documents, settings.seq_len)
            self._packings[settings.seq_len] = packing
        return packing

    def _permutations(self, settings: PlanSettings, packing: "_Packing") -> Permutations:
        asked = (settings.seq_len, settings.seed, settings.epoch)
        known, drawn = self._drawn
        if known != asked or drawn is None:
            drawn = Permutations(packing.num_pieces, _draw_keys(settings, packing.piece_lengths))
            self._drawn = asked, drawn
        return drawn

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PackedOrder):
            return NotImplemented
        mine, its = self._documents, other._documents
        return mine is its or (mine.num_tokens == its.num_tokens and mine.hash() == its.hash())

    def __hash__(self) -> int:
        return hash((self.kind, self._documents.num_tokens))

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedOrder, (self._documents,)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Packing:
    """Values that follow from the lengths of documents and ``seq_len`` alone.

    A kind of pieces are those of one length.

    Attributes
    ----------
    piece_lengths, num_pieces : int64 array, shape (num_kinds,)
        The different lengths of pieces, ascending, and how many there are of each.
    patterns : Patterns
        Their bins, with kinds in place of lengths.
    first_pieces : int64 array, shape (num_kinds,)
        Where the pieces of a kind begin in the list of all rests, by length.
    rest_groups, rest_stops : int64 array, shape (num_groups,)
        The documents of one length are a group. Groups that leave a rest, by the
        length of the rest, and how many documents there are up to each.
    whole_stops : int64 array, shape (num_groups,)
        Rows that groups fill by themselves, up to each group.
    num_whole : int64 array, shape (num_groups,)
        How many of them each of its documents fills.
    first_ranks : int64 array, shape (num_groups,)
        Documents before those of each group, by length.
    seq_len, num_pairs : int
    """

    piece_lengths: IntArray
    num_pieces: IntArray
    patterns: Patterns
    first_pieces: IntArray
    rest_groups: IntArray
    rest_stops: IntArray
    whole_stops: IntArray
    num_whole: IntArray
    first_ranks: IntArray
    seq_len: int
    num_pairs: int

    @classmethod
    def of(cls, documents: SortedDocuments, seq_len: int) -> "_Packing":
        """Return the packing of documents."""
        lengths, counts = documents.lengths, documents.counts
        # Documents of 0 and 1 tokens have no pairs.
        pairs = np.maximum(lengths - 1, 0)
        num_whole, rests = np.divmod(pairs, seq_len)
        whole_stops = np.cumsum(num_whole * counts, dtype=np.int64)
        has_rest = np.flatnonzero(rests)
        rest_groups = has_rest[np.argsort(rests[has_rest], kind="stable")]
        # Rests [1, 1, 3] of [5, 2, 4] documents: 7 pieces of length 1, and 4 of length 3.
        piece_lengths, first_groups = np.unique(rests[rest_groups], return_index=True)
        rest_stops = np.cumsum(counts[rest_groups], dtype=np.int64)
        before = np.append(0, rest_stops)
        first_pieces = before[first_groups]
        num_pieces = np.diff(np.append(first_pieces, before[-1]))
        if len(whole_stops) and whole_stops[-1]:
            piece_lengths = np.append(piece_lengths, seq_len)
            num_pieces = np.append(num_pieces, whole_stops[-1])
            first_pieces = np.append(first_pieces, 0)
        return cls(
            piece_lengths=piece_lengths,
            num_pieces=num_pieces,
            patterns=_pack_kinds(piece_lengths, num_pieces, seq_len),
            first_pieces=first_pieces,
            rest_groups=rest_groups,
            rest_stops=rest_stops,
            whole_stops=whole_stops,
            num_whole=num_whole,
            first_ranks=np.cumsum(counts, dtype=np.int64) - counts,
            seq_len=seq_len,
            num_pairs=int((pairs * counts).sum()),
        )

    @property
    def num_bins(self) -> int:
        """How many rows an epoch has."""
        return self.patterns.num_bins

    def fills(self, bins: IntArray) -> IntArray:
        """Return how many inputs bins hold."""
        fills: IntArray = self.patterns.fills[self._find_patterns(bins)]
        return fills

    def slots(self, bins: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """Return the pieces of bins, as one list.

        Parameters
        ----------
        bins : int64 array, shape (num_rows,)

        Returns
        -------
        rows, kinds, ranks : int64 array, shape (num_pieces,)
            The row that each piece lies in, its kind, and its rank in that kind.
        """
        patterns = self.patterns
        pattern = self._find_patterns(bins)
        number = bins - patterns.stops[pattern] + patterns.counts[pattern]
        row, run = list_ranges(patterns.firsts[pattern], patterns.firsts[pattern + 1])
        repeats = patterns.repeats[run]
        # The second bin of a pattern takes the pieces [3, 6) of a run of 3 from base 0 on.
        first = patterns.bases[run] + number[row] * repeats
        slot, ranks = list_ranges(first, first + repeats)
        return row[slot], patterns.lengths[run[slot]], ranks

    def locate(self, kinds: IntArray, ranks: IntArray) -> tuple[IntArray, IntArray]:
        """Return the document of each piece, and how many tokens come before the piece in it.

        Parameters
        ----------
        kinds, ranks : int64 array, shape (num_pieces,)

        Returns
        -------
        documents, skipped : int64 array, shape (num_pieces,)
            Ranks of documents by length, and tokens.
        """
        documents, skipped = np.empty_like(ranks), np.empty_like(ranks)
        is_whole = self.piece_lengths[kinds] == self.seq_len
        whole = ranks[is_whole]
        group = np.searchsorted(self.whole_stops, whole, side="right")
        each = self.num_whole[group]
        # The number before a group is the total up to the end of the group before it, if there is
        # one.
        before = self.whole_stops[group - 1] * (group > 0)
        number, part = np.divmod(whole - before, each)
        documents[is_whole] = self.first_ranks[group] + number
        skipped[is_whole] = part * self.seq_len
        rest = (self.first_pieces[kinds] + ranks)[~is_whole]
        place = np.searchsorted(self.rest_stops, rest, side="right")
        group = self.rest_groups[place]
        before = self.rest_stops[place - 1] * (place > 0)
        documents[~is_whole] = self.first_ranks[group] + rest - before
        skipped[~is_whole] = self.num_whole[group] * self.seq_len
        return documents, skipped

    def _find_patterns(self, bins: IntArray) -> IntArray:
        return np.searchsorted(self.patterns.stops, bins, side="right")


def _pack_kinds(piece_lengths: IntArray, num_pieces: IntArray, seq_len: int) -> Patterns:
    """Return the patterns of bins, with kinds in place of lengths."""
    pieces = dict(zip(piece_lengths.tolist(), num_pieces.tolist(), strict=True))
    patterns = pack(pieces, capacity=seq_len)
    return dataclasses.replace(patterns, lengths=np.searchsorted(piece_lengths, patterns.lengths))


def _permute_bins(settings: PlanSettings, positions: IntArray, num_bins: int) -> IntArray:
    keys = draw_words(settings.seed, settings.epoch)[1:]
    return permute(positions, size=num_bins, keys=keys)


def _draw_keys(settings: PlanSettings, lengths: IntArray) -> npt.NDArray[np.uint64]:
    """Return the keys of the permutation of each length, shape (16, num_lengths).

    Words that the permutation of rows does not use, each mixed with the length by the
    finaliser of MurmurHash3.
    """
    sequence = mix_epoch(settings.seed, settings.epoch)
    words = sequence.generate_state(1 + 2 * NUM_KEYS, np.uint64)[1 + NUM_KEYS :]
    keys = words.astype(np.uint64)[:, None] ^ (lengths.astype(np.uint64) * _GOLDEN_RATIO)
    for multiplier in (MULTIPLIER_1, MULTIPLIER_2):
        keys ^= keys >> SHIFT
        keys *= multiplier
    keys ^= keys >> SHIFT
    return keys
