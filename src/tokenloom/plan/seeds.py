"""Seeds: the numbers that randomness is computed from."""

import numpy as np

_WORD = (1 << 32) - 1


def mix_epoch(seed: int, epoch: int) -> np.random.SeedSequence:
    """Return the random words of a pair of seed and epoch; no two pairs share them.

    Parameters
    ----------
    seed, epoch : int
        In [0, 2**64).

    Notes
    -----
    A `SeedSequence` mixes four words of 32 bits one to one, and pads shorter
    input with zeros. So each number is passed as two words, low words first:
    numbers below 2**32 give the same as ``SeedSequence((seed, epoch))``.

    >>> mix_epoch(7 + 5 * 2**32, 0).entropy, mix_epoch(7, 5).entropy
    ((7, 0, 5, 0), (7, 5, 0, 0))
    """
    return np.random.SeedSequence((seed & _WORD, epoch & _WORD, seed >> 32, epoch >> 32))


def mix_number(seed: int, role: int, number: int) -> np.random.SeedSequence:
    """Return the random words of a number in some role, apart from those of all epochs.

    Parameters
    ----------
    seed, number : int
        In [0, 2**64).
    role : int
        In [0, 2**32).

    >>> words = [mix_number(0, role, 0).generate_state(1)[0] for role in (0, 1)]
    >>> len({*words, mix_epoch(0, 0).generate_state(1)[0]})
    3
    """
    # A fifth word, unlike padding, changes the pool also where it is 0.
    words = (seed & _WORD, number & _WORD, seed >> 32, number >> 32, role)
    # NumPy takes words of this type as they are, in half the time.
    return np.random.SeedSequence(np.array(words, np.uint32))


def mix_rank(seed: int, *, rank: int, step: int = 0) -> int:
    """Return a seed of 64 bits for a rank that begins, or resumes after a step.

    >>> len({mix_rank(seed, rank=1, step=step) for seed in (7, 7 + 2**32) for step in (0, 1)})
    4
    """
    sequence = np.random.SeedSequence((seed & _WORD, rank, step, seed >> 32))
    return int(sequence.generate_state(1, np.uint64)[0])


def torch_seed(seed: int) -> int:
    """Return the seed for PyTorch's generators, in [0, 2**64).

    Notes
    -----
    PyTorch's generator on the CPU reads only the lowest 32 bits, so larger seeds
    are mixed. Seeds below 2**32 are not changed.

    >>> torch_seed(7), torch_seed(7 + 2**32) & 0xFFFFFFFF == 7
    (7, False)
    """
    if seed <= _WORD:
        return seed
    return int(mix_epoch(seed, 0).generate_state(1, np.uint64)[0])
