"""Text out of a model."""

import itertools
from typing import Any

import pytest
import torch
from torch import nn

import tokenloom as tl
from tokenloom.tokenizers import ByteTokenizer, CharTokenizer, WordTokenizer

VOCAB = tl.Vocab(list("abcd"))


class Successor(tl.RNNModel):
    """A model that is sure that the next letter of the alphabet comes."""

    def __init__(self, vocab_size: int = 5) -> None:
        super().__init__(nn.RNN(vocab_size, 2), vocab_size)

    def forward(
        self, inputs: torch.Tensor, state: Any = None, resets: Any = None
    ) -> tuple[torch.Tensor, Any]:
        """Return logits that favour the next id, and the inputs so far as state."""
        assert resets is None
        seen = inputs if state is None else torch.cat([state, inputs], dim=1)
        following = (inputs.T.reshape(-1) + 1) % self.vocab_size
        return 5.0 * nn.functional.one_hot(following, self.vocab_size), seen


def test_greedy_takes_the_likeliest_token() -> None:
    """From "a" the alphabet goes on, and the prompt stands before it."""
    assert tl.generate(Successor(), VOCAB, "ab", num_tokens=2) == "abcd"


def test_the_prompt_is_kept_as_it_is_written() -> None:
    """Normalising is for the model's eyes only."""
    tokenizer = CharTokenizer(VOCAB)
    assert tl.generate(Successor(), tokenizer, "AB", num_tokens=2) == "ABcd"


def test_outer_spaces_of_a_prompt_count() -> None:
    """A model of characters sees that the last word has ended."""
    vocab = tl.Vocab(list("aaa  b"))
    assert tl.generate(Successor(4), CharTokenizer(vocab), "a ", num_tokens=1) == "a b"


def test_words_are_joined_by_spaces() -> None:
    """A vocabulary of words writes words."""
    vocab = tl.Vocab(["time", "flies", "like", "arrows"])
    assert tl.generate(Successor(), vocab, "time", num_tokens=2) == "time flies like"


def test_a_word_tokenizer_generates_too() -> None:
    """What a corpus of words carries can be handed over."""
    tokenizer = WordTokenizer(tl.Vocab(["time", "flies"]))
    assert tl.generate(Successor(3), tokenizer, "Time", num_tokens=1) == "Time flies"


def test_bytes_are_generated() -> None:
    """A byte model goes on in bytes."""
    assert tl.generate(Successor(256), ByteTokenizer(), "a", num_tokens=3) == "abcd"


def test_the_state_is_carried() -> None:
    """Token by token the model's words are those of one long forward pass."""
    torch.manual_seed(0)
    model = tl.RNNModel(nn.GRU(5, 8), 5)
    ids = VOCAB[list("ab")]
    for _ in range(10):
        logits, _ = model(torch.tensor([ids]))
        ids.append(int(logits[-1].argmax()))
    assert "".join(VOCAB.to_tokens(ids)) == tl.generate(model, VOCAB, "ab", num_tokens=10)


def test_a_seed_gives_the_same_draws() -> None:
    """Drawing is reproducible, and another seed gives another text."""
    model = tl.RNNModel(nn.RNN(5, 8), 5)
    texts = [
        tl.generate(model, VOCAB, "a", num_tokens=40, temperature=1.0, seed=seed)
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_drawing_leaves_the_global_random_numbers_alone() -> None:
    """The seed is an argument, not a side effect."""
    model, before = Successor(), torch.get_rng_state()
    tl.generate(model, VOCAB, "a", num_tokens=5, temperature=1.0)
    assert torch.equal(before, torch.get_rng_state())


def test_the_temperature_flattens() -> None:
    """Draws from softmax(5 / 2.5) of four others hit the favourite as often as they should."""
    text = tl.generate(Successor(), VOCAB, "a", num_tokens=4000, temperature=2.5)
    ids = VOCAB[list(text.replace("<unk>", "?"))]
    hits = sum((after - before) % 5 == 1 for before, after in itertools.pairwise(ids))
    share = float(torch.tensor([2.0, 0, 0, 0, 0]).softmax(0)[0])
    assert abs(hits / 4000 - share) < 6 * (share * (1 - share) / 4000) ** 0.5


def test_top_1_is_greedy_at_any_temperature() -> None:
    """Drawing from one candidate is no draw."""
    text = tl.generate(Successor(), VOCAB, "a", num_tokens=3, temperature=9.0, top_k=1)
    assert text == "abcd"


def test_no_tokens_return_the_prompt() -> None:
    """Nothing is asked, nothing is written."""
    assert tl.generate(Successor(), VOCAB, "ab", num_tokens=0) == "ab"


def test_the_model_goes_on_training() -> None:
    """Generation leaves the model in the mode in which it was."""
    model = Successor().train()
    tl.generate(model, VOCAB, "a", num_tokens=1)
    assert model.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_tokens": -1}, "num_tokens must be at least 0, got -1"),
        ({"temperature": -0.5}, r"temperature must be in \[0, inf\), got -0.5"),
        ({"temperature": float("nan")}, r"temperature must be in \[0, inf\), got nan"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    """The message names the argument and its value."""
    with pytest.raises(tl.ArgumentError, match=message):
        tl.generate(Successor(), VOCAB, "a", **options)


def test_an_empty_prompt_is_refused() -> None:
    """A model needs something to go on from."""
    with pytest.raises(tl.ArgumentError, match="prompt must hold at least one token, got ''"):
        tl.generate(Successor(), VOCAB, "")
