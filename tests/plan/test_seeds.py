"""Seeds, and what is computed from them."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tokenloom as tl
from tokenloom.errors import ArgumentError
from tokenloom.plan.order import MAX_EPOCH
from tokenloom.plan.plan import Plan
from tokenloom.plan.seeds import mix_epoch, mix_rank, torch_seed

# Around the ends of 32, 62 and 64 bits, and multiples that share their low words.
EDGES = [0, 1, 5, 7, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 7 + 5 * 2**32, 5 + 7 * 2**32]
EDGES += [2**48, 2**62 - 1, 2**63, 2**64 - 2**32, 2**64 - 1]
short = st.integers(0, 2**32 - 1)
numbers = st.one_of(st.sampled_from(EDGES), short, st.integers(0, 2**64 - 1))
pairs = st.tuples(numbers, numbers)


def words_of(seed: int, epoch: int) -> tuple[int, ...]:
    """Return the first random words of an epoch."""
    return tuple(mix_epoch(seed, epoch).generate_state(4, np.uint64).tolist())


@given(short, short)
def test_numbers_below_2_to_the_32_give_what_they_always_gave(seed: int, epoch: int) -> None:
    """Orders of today's seeds never change."""
    before = np.random.SeedSequence((seed, epoch)).generate_state(17, np.uint64)
    assert before.tolist() == mix_epoch(seed, epoch).generate_state(17, np.uint64).tolist()


def test_no_two_pairs_at_the_edges_share_their_words() -> None:
    """Also where the words of one, filled up with zeros, begin like those of another."""
    cases = list(itertools.product(EDGES, repeat=2))
    assert len(cases) == len({words_of(*case) for case in cases})


@given(pairs, pairs)
def test_no_two_pairs_share_their_words(first: tuple[int, int], second: tuple[int, int]) -> None:
    """Pairs agree exactly where they are equal."""
    assert (first == second) == (words_of(*first) == words_of(*second))


@given(pairs)
def test_the_words_of_a_pair_say_which_pair_it_is(pair: tuple[int, int]) -> None:
    """Both numbers can be read from the four words, which are all that is mixed."""
    entropy: tuple[int, ...] = mix_epoch(*pair).entropy  # type: ignore[assignment]
    seed, epoch, high_seed, high_epoch = entropy
    assert all(0 <= word < 2**32 for word in entropy)
    assert pair == (seed + (high_seed << 32), epoch + (high_epoch << 32))


@pytest.mark.parametrize("kind", ["random", "sequential"])
def test_a_large_seed_has_an_order_of_its_own(kind: str) -> None:
    """Seed 7 + 5 * 2**32 at epoch 0 is not seed 7 at epoch 5."""
    cases = [(7, 5), (7 + 5 * 2**32, 0), (7, 5 * 2**32), (7 + 2**32, 5), (5, 7), (0, MAX_EPOCH - 1)]
    sizes = {"num_tokens": 2**61, "seq_len": 2**40, "batch_size": 4}
    orders = {
        str(Plan(kind=kind, seed=seed, epoch=epoch, **sizes).starts(range(4)).tolist())  # type: ignore[arg-type]
        for seed, epoch in cases
    }
    assert len(cases) == len(orders)


@pytest.mark.parametrize("seed", [2**64, 2**96, -1])
def test_seeds_that_do_not_fit_are_refused(seed: int) -> None:
    """No bit of a seed is left out in silence."""
    with pytest.raises(ArgumentError, match="seed must be an integer in"):
        Plan(kind="random", num_tokens=100, seq_len=5, batch_size=2, seed=seed)


def test_ranks_and_steps_of_large_seeds_differ() -> None:
    """A seed's high words are not read as a rank or a step."""
    cases = list(itertools.product([7, 7 + 2**32, 7 + 2**33], [0, 1, 2], [0, 1, 2]))
    mixed = {mix_rank(seed, rank=rank, step=step) for seed, rank, step in cases}
    assert len(cases) == len(mixed)


def test_seeds_of_generators_differ_in_what_pytorch_reads() -> None:
    """Its generator on the CPU reads 32 bits, so seeds above are mixed first."""
    seeds = [7, 7 + 2**32, 7 + 2**33, 7 + 2**63]
    drawn = {
        float(torch.rand((), generator=torch.Generator().manual_seed(torch_seed(seed))))
        for seed in seeds
    }
    assert len(seeds) == len(drawn)


def test_generated_text_depends_on_all_bits_of_the_seed() -> None:
    """Two seeds that agree in 32 bits write two texts."""
    torch.manual_seed(0)
    vocab = tl.Vocab(list("abcdefgh"))
    model = tl.RNNModel(torch.nn.GRU(len(vocab), 8), len(vocab))
    prompts = ["abc"] * 4
    seeds = [7, 7 + 2**32, 7 + 2**40, 8]
    texts = tl.generate(model, vocab, prompts, num_tokens=20, temperature=1.0, seed=seeds)
    assert len(seeds) == len(set(texts))
