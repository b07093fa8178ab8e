"""A pseudo-random permutation of ``range(size)`` that is computed, never stored.

An index is split into two digits, ``left * b + right`` with ``a * b >= size``
and ``a`` and ``b`` next to the square root of ``size``. Feistel rounds add to
one digit, in turn, a keyed hash of the other, modulo its base. That is a
bijection of ``range(a * b)`` for any hash. The few values that land outside
``range(size)``, at most one in ``b``, are enciphered again until they land
inside (cycle walking), which keeps it a bijection of ``range(size)``.

Methods: the Feistel network over two integer bases is FE2 of Bellare,
Ristenpart, Rogaway and Stegers, "Format-Preserving Encryption" (SAC 2009);
cycle walking is from Black and Rogaway, "Ciphers with Arbitrary Finite
Domains" (CT-RSA 2002); the hash is the finaliser of MurmurHash3 cut to 32
bits. Eight rounds leave no bias that a million permuted indices would show,
except below about 50 elements, where the digits are so small that it takes 12;
sizes below 1,024 get 16. It is a shuffle, not cryptography.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenloom.errors import ArgumentError

NUM_KEYS = 16
MAX_SIZE = 1 << 62

_SMALL_SIZE = 1024
_NUM_ROUNDS = 8
_NUM_ROUNDS_SMALL = 16
# Indices whose keys are looked up in one go.
_FEW = 1024
# Up to this number of values are enciphered one by one: a call of NumPy takes longer.
_VERY_FEW = 4
# With at most this number of digits the hashes are computed once for all indices, where there are
# that many of them.
_MAX_TABLE = 128
_MANY = 1 << 11
# Values that are enciphered at once: their few arrays stay in a processor's cache.
_CHUNK = 1 << 14

_Words = npt.NDArray[np.uint64]
_Bytes = npt.NDArray[np.uint8]
# Of one permutation, each without dimensions, or of the one of each index.
_Bases = tuple[_Words, _Words]

# Of the finaliser of MurmurHash3. NumPy takes arrays without dimensions in half the time that it
# needs for its scalars.
MULTIPLIER_1 = np.array(0xFF51AFD7ED558CCD, np.uint64)
MULTIPLIER_2 = np.array(0xC4CEB9FE1A85EC53, np.uint64)
SHIFT = np.array(33, np.uint64)
_HALF = np.array(32, np.uint64)
_FACTOR_1, _FACTOR_2, _WORD = int(MULTIPLIER_1), int(MULTIPLIER_2), (1 << 64) - 1


def permute(
    indices: npt.NDArray[np.integer[Any]], *, size: int, keys: _Words, num_rounds: int | None = None
) -> npt.NDArray[np.int64]:
    """Return where a keyed permutation of ``range(size)`` sends each index.

    The cost per index does not depend on ``size``.

    Parameters
    ----------
    indices : integer array, any shape
        Values in the half-open range [0, size).
    size : int
        Number of elements that are permuted, in [1, 2**62].
    keys : uint64 array, shape (16,)
        Raw random words, one per round; other words give another permutation.
    num_rounds : int, optional
        Even, and at most 16; by default as many as leave no bias.

    Returns
    -------
    int64 array, shape of ``indices``
        Values in the half-open range [0, size).

    Raises
    ------
    ArgumentError
        ``size`` is out of range or the number of keys is not 16.

    >>> keys = np.arange(16, dtype=np.uint64)
    >>> sorted(permute(np.arange(5), size=5, keys=keys).tolist())
    [0, 1, 2, 3, 4]
    """
    if not 1 <= size <= MAX_SIZE:
        msg = f"size must be in [1, 2**62], got {size}"
        raise ArgumentError(msg)
    if keys.shape != (NUM_KEYS,):
        msg = f"keys must have shape ({NUM_KEYS},), got {keys.shape}"
        raise ArgumentError(msg)
    keys = _fold(keys[: _count_rounds(size) if num_rounds is None else num_rounds])
    left_base, right_base = _find_bases(size)
    bases = _as_words(left_base), _as_words(right_base)
    values = indices.astype(np.uint64).ravel()
    if left_base <= _MAX_TABLE and len(values) >= _MANY:
        left, right = (each.astype(np.uint8)[None] for each in _split(values, bases[1]))
        (values,) = _encipher_by_tables(
            left, right, bases=(left_base, right_base), keys=keys[:, None]
        )
    else:
        for start in range(0, len(values), _CHUNK):
            chunk = values[start : start + _CHUNK]
            chunk[:] = _encipher(chunk, bases=bases, keys=keys)
    outside = (values >= _as_words(size)).nonzero()[0]
    while outside.size:
        walked = _encipher(values[outside], bases=bases, keys=keys)
        values[outside] = walked
        outside = outside[walked >= size]
    return values.view(np.int64).reshape(indices.shape)


def permute_all(*, size: int, keys: _Words) -> npt.NDArray[np.int64]:
    """Return where several keyed permutations of one size send each of the elements.

    Parameters
    ----------
    size : int
        As for `permute`.
    keys : uint64 array, shape (16, num_permutations)
        The keys of each.

    Returns
    -------
    int64 array, shape (num_permutations, size)

    >>> permute_all(size=3, keys=np.arange(32, dtype=np.uint64).reshape(16, 2))[0].tolist()
    [2, 0, 1]
    """
    left_base, right_base = _find_bases(size)
    elements = np.arange(size, dtype=np.int64)
    if left_base > _MAX_TABLE:
        return np.stack([permute(elements, size=size, keys=each) for each in keys.T])
    keys = _fold(keys[: _count_rounds(size)])
    left, right = (
        np.tile(digits.astype(np.uint8), (keys.shape[1], 1))
        for digits in np.divmod(elements, right_base)
    )
    values = _encipher_by_tables(left, right, bases=(left_base, right_base), keys=keys)
    # Without values past the last one nothing is walked on.
    outside = np.flatnonzero(values >= size) if left_base * right_base > size else elements[:0]
    bases = _as_words(left_base), _as_words(right_base)
    while outside.size:
        walked = _encipher(values.flat[outside], bases=bases, keys=keys[:, outside // size])
        values.flat[outside] = walked
        outside = outside[walked >= size]
    return values.view(np.int64)


class Permutations:
    """Several keyed permutations, each of a size of its own; see `permute`.

    Parameters
    ----------
    sizes : int64 array, shape (num_permutations,)
        How many elements each permutes, at most 2**62. One of size 0 is never used.
    keys : uint64 array, shape (16, num_permutations)
        The keys of each.

    >>> keys = np.arange(32, dtype=np.uint64).reshape(16, 2)
    >>> permutations = Permutations(np.array([3, 2]), keys)
    >>> permutations.permute(np.array([0, 1, 2]), np.array([0, 0, 0])).tolist()
    [2, 0, 1]
    """

    __slots__ = ("_is_even", "_keys", "_left_bases", "_right_bases", "_sizes")

    def __init__(self, sizes: npt.NDArray[np.int64], keys: _Words) -> None:
        # In each round the keys of all permutations stand side by side.
        self._sizes, self._keys = sizes, _fold(np.ascontiguousarray(keys))
        last = np.maximum(sizes, 1) - 1
        root = np.sqrt(last).astype(np.int64)
        # The root of a float may be one too large, or too small.
        root -= root * root > last
        root += (root + 1) * (root + 1) <= last
        left_bases = root + 1
        self._left_bases = left_bases.astype(np.uint64)
        self._right_bases = (-(-(last + 1) // left_bases)).astype(np.uint64)
        # One base for all is a division by a constant, which is much quicker.
        self._is_even = bool((last == last[:1]).all())

    def permute(
        self, indices: npt.NDArray[np.int64], which: npt.NDArray[np.integer[Any]]
    ) -> npt.NDArray[np.int64]:
        """Return where permutations send indices.

        Parameters
        ----------
        indices : int64 array, shape (num_indices,)
            Each in [0, size) of its permutation.
        which : integer array, shape (num_indices,)
            The permutation of each.

        Returns
        -------
        int64 array, shape (num_indices,)
            The same as `permute` returns with the size and the keys of each.
        """
        if len(indices) > _CHUNK:
            starts = range(0, len(indices), _CHUNK)
            parts = [slice(start, start + _CHUNK) for start in starts]
            return np.concatenate([self.permute(indices[part], which[part]) for part in parts])
        sizes = self._sizes[which]
        values = self._encipher(indices.astype(np.uint64), which, sizes)
        outside = (values >= sizes.view(np.uint64)).nonzero()[0]
        while outside.size:
            walked = self._encipher(values[outside], which[outside], sizes[outside])
            values[outside] = walked
            outside = outside[walked >= sizes[outside].view(np.uint64)]
        return values.view(np.int64)

    def _encipher(
        self,
        values: _Words,
        which: npt.NDArray[np.integer[Any]],
        sizes: npt.NDArray[np.int64],
    ) -> _Words:
        if len(values) <= _VERY_FEW:
            return self._encipher_one_by_one(values, which)
        left_base, right_base = (
            bases[0, ...] if self._is_even else bases[which]
            for bases in (self._left_bases, self._right_bases)
        )
        left, right = _split(values, right_base)
        _mix(left, right, (left_base, right_base), self._draw_keys(which, 0, _NUM_ROUNDS))
        more = (sizes < _SMALL_SIZE).nonzero()[0]
        if more.size:
            # Small permutations have as many rounds again.
            its = which[more]
            digits = left[more], right[more]
            bases = self._left_bases[its], self._right_bases[its]
            _mix(*digits, bases, self._draw_keys(its, _NUM_ROUNDS, _NUM_ROUNDS_SMALL))
            left[more], right[more] = digits
        return _join(left, right, right_base)

    def _encipher_one_by_one(self, values: _Words, which: npt.NDArray[np.integer[Any]]) -> _Words:
        left_bases, right_bases, sizes = (
            each[which].tolist() for each in (self._left_bases, self._right_bases, self._sizes)
        )
        of_values = zip(self._keys[:, which].T.tolist(), sizes, strict=True)
        keys = [its[: _count_rounds(size)] for its, size in of_values]
        return _encipher_each(values, zip(left_bases, right_bases, strict=True), keys)

    def _draw_keys(
        self, which: npt.NDArray[np.integer[Any]], start: int, stop: int
    ) -> Iterable[_Words]:
        """Return the keys of rounds [start, stop) for each index."""
        if len(which) < _FEW:
            return self._keys[start:stop, which]
        # With many permutations the keys are taken one round at a time, so that they stay in the
        # processor's cache.
        return (row[which] for row in self._keys[start:stop])


def _find_bases(size: int) -> tuple[int, int]:
    # Size 10 has the bases 4 and 3: a permutation of 12 values, of which 10 and 11 are walked on.
    left_base = math.isqrt(size - 1) + 1
    return left_base, -(-size // left_base)


def _count_rounds(size: int) -> int:
    return _NUM_ROUNDS_SMALL if size < _SMALL_SIZE else _NUM_ROUNDS


def _as_words(number: int) -> _Words:
    return np.array(number, np.uint64)


def _fold(keys: _Words) -> _Words:
    """Return keys after the first shift of the finaliser.

    A digit has at most 31 bits, so the shift changes the key alone.
    """
    folded: _Words = keys ^ (keys >> SHIFT)
    return folded


def _encipher(values: _Words, *, bases: _Bases, keys: _Words) -> _Words:
    """Encipher values with the same bases, and with keys of the shape (num_rounds,) or each its."""
    if len(values) <= _VERY_FEW:
        numbers = int(bases[0]), int(bases[1])
        of_values = [keys.tolist()] * len(values) if keys.ndim == 1 else keys.T.tolist()
        return _encipher_each(values, [numbers] * len(values), of_values)
    left, right = _split(values, bases[1])
    _mix(left, right, bases, (keys[at, ...] for at in range(len(keys))))
    return _join(left, right, bases[1])


def _encipher_each(
    values: _Words, bases: Iterable[tuple[int, int]], keys: Iterable[Sequence[int]]
) -> _Words:
    """Return the same as `_encipher`, of few values each with its own bases and keys."""
    enciphered = [
        _encipher_one(value, bases=its_bases, keys=its_keys)
        for value, its_bases, its_keys in zip(values.tolist(), bases, keys, strict=True)
    ]
    return np.array(enciphered, np.uint64)


def _encipher_one(value: int, *, bases: tuple[int, int], keys: Sequence[int]) -> int:
    """Return the same as `_encipher` of one value, by Python's integers."""
    digits = list(divmod(value, bases[1]))
    for number, key in enumerate(keys):
        at = number % 2
        mixed = (digits[1 - at] ^ key) * _FACTOR_1 & _WORD
        mixed ^= mixed >> 33
        mixed = (mixed * _FACTOR_2 & _WORD) >> 32
        digits[at] = (digits[at] + (mixed * bases[at] >> 32)) % bases[at]
    return digits[0] * bases[1] + digits[1]


def _split(values: _Words, right_base: _Words) -> tuple[_Words, _Words]:
    # With the bases 4 and 3, value 7 has the digits left 2 and right 1: 2 * 3 + 1.
    left = values // right_base
    return left, values - left * right_base


def _join(left: _Words, right: _Words, right_base: _Words) -> _Words:
    left *= right_base
    left += right
    return left


def _mix(left: _Words, right: _Words, bases: _Bases, keys: Iterable[_Words]) -> None:
    """Run rounds on the digits, in place."""
    left_base, right_base = bases
    scratch = np.empty_like(left), np.empty_like(left)
    of_rounds = iter(keys)
    for even_key, odd_key in zip(of_rounds, of_rounds, strict=True):
        _add_hash(left, right, key=even_key, base=left_base, scratch=scratch)
        _add_hash(right, left, key=odd_key, base=right_base, scratch=scratch)


def _encipher_by_tables(
    left: _Bytes, right: _Bytes, *, bases: tuple[int, int], keys: _Words
) -> _Words:
    """Encipher values of few different digits, the hashes of which are computed once for all.

    A table of 256 bytes translates each digit to its hash.

    Parameters
    ----------
    left, right : uint8 array, shape (num_permutations, num_values)
        Their digits, which are overwritten.
    bases : tuple of int
    keys : uint64 array, shape (num_rounds, num_permutations)

    Returns
    -------
    uint64 array, shape (num_permutations, num_values)
    """
    of_rounds = np.array(bases * (len(keys) // 2), np.uint64)[:, None, None]
    hashes = np.zeros((*keys.shape, max(bases)), np.uint64)
    digits = np.arange(max(bases), dtype=np.int64).view(np.uint64)
    scratch = np.empty_like(hashes), np.empty_like(hashes)
    _add_hash(hashes, digits, key=keys[..., None], base=of_rounds, scratch=scratch)
    tables = np.zeros((*keys.shape, 256), np.uint8)
    tables[..., : max(bases)] = hashes
    for number, of_round in enumerate(tables):
        digit, other = (left, right) if number % 2 == 0 else (right, left)
        translated = [
            row.tobytes().translate(table.tobytes())
            for row, table in zip(other, of_round, strict=True)
        ]
        digit += np.frombuffer(b"".join(translated), np.uint8).reshape(digit.shape)
        # As in `_add_hash`: at most 127 + 127 is a byte.
        np.minimum(digit, digit - np.uint8(bases[number % 2]), out=digit)
    return (left.astype(np.uint16) * np.uint16(bases[1]) + right).astype(np.uint64)


def _add_hash(
    digit: _Words, other: _Words, *, key: _Words, base: _Words, scratch: tuple[_Words, _Words]
) -> None:
    """Add a keyed hash of ``other`` to ``digit`` in place, modulo ``base``.

    The key is one that `_fold` returned. Memory in ``scratch``, of the shape of ``digit``, is
    written over: to ask for new memory takes as long as the arithmetic.
    """
    mixed, shifted = scratch
    np.bitwise_xor(other, key, out=mixed)
    mixed *= MULTIPLIER_1
    mixed ^= np.right_shift(mixed, SHIFT, out=shifted)
    mixed *= MULTIPLIER_2
    mixed >>= _HALF
    # Multiply and shift maps 32 random bits to [0, base) without a division
    # (Lemire, "Fast Random Integer Generation in an Interval", 2019).
    mixed *= base
    mixed >>= _HALF
    digit += mixed
    # digit < 2 * base: where digit < base the subtraction wraps round to a
    # huge value, so the minimum is digit modulo base. Of base 7: min(9, 2) is 2,
    # and min(4, 2**64 - 3) is 4.
    np.minimum(digit, np.subtract(digit, base, out=mixed), out=digit)
