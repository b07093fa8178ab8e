"""Text out of a model."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tokenloom as tl
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.model.generation import Stepper, _Sampler
from tokenloom.plan.seeds import torch_seed
from tokenloom.text.tokenizers import ByteTokenizer, CharTokenizer, WordTokenizer

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


class Failing:
    """A tokenizer of somebody else that gives some texts odd ids, and others none."""

    vocab_size = 5

    def encode(self, text: str, /) -> list[float]:
        """Return the length of a word, as a float."""
        return [float(len(text.removeprefix("a")) or 1 / 0)]

    def decode(self, ids: list[int], /) -> str:
        """Return the ids themselves."""
        return repr(ids)


@pytest.mark.parametrize(("prompt", "kind"), [("a", "ZeroDivisionError"), ("b", "CorpusError")])
def test_a_tokenizer_that_fails_at_a_prompt(prompt: str, kind: str) -> None:
    """It is named, with its own error."""
    message = f"^the tokenizer Failing must encode every text, but failed at the prompt: {kind}: "
    with pytest.raises(CorpusError, match=message):
        tl.generate(Successor(), Failing(), prompt)
    with pytest.raises(CorpusError, match=message):
        next(tl.stream(Successor(), Failing(), prompt))


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
        ({"num_tokens": -1}, "num_tokens must be an integer of at least 0, got -1"),
        ({"temperature": -0.5}, r"temperature must be in \[0, inf\), got -0.5"),
        ({"temperature": float("nan")}, r"temperature must be in \[0, inf\), got nan"),
        ({"top_k": 0}, "top_k must be an integer of at least 1, got 0"),
        ({"top_p": 0.0}, r"top_p must be in \(0, 1\], got 0.0"),
        ({"top_p": 1.5}, r"top_p must be in \(0, 1\], got 1.5"),
        ({"seed": -1}, r"seed must be an integer in \[0, 18446744073709551616\), got -1"),
        ({"seed": [1, 2]}, "seed must be one, or one for each of 1 prompt, got 2"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    """The message names the argument and its value."""
    with pytest.raises(ArgumentError, match=message):
        tl.generate(Successor(), VOCAB, "a", **options)


def test_an_empty_prompt_is_refused() -> None:
    """A model needs something to go on from."""
    with pytest.raises(ArgumentError, match="prompt must hold at least one token, got ''"):
        tl.generate(Successor(), VOCAB, "")


def test_prompt_of_which_nothing_is_left_is_refused_with_the_reason() -> None:
    """The textbook's normalisation drops what is no letter a-z, and the error says so."""
    corpus = tl.Corpus.from_text("the time machine", tokenizer="word")
    model = tl.RNNModel(torch.nn.GRU(corpus.vocab_size, 4), corpus.vocab_size)
    assert corpus.tokenizer is not None
    with pytest.raises(ArgumentError, match="got '时间', of which the tokenizer keeps nothing"):
        tl.generate(model, corpus.tokenizer, "时间")


def make_model(layer: Any = nn.GRU, **options: Any) -> tl.RNNModel:
    """Return a small random model of the letters."""
    torch.manual_seed(0)
    return tl.RNNModel(layer(5, 8, **options), 5)


@pytest.mark.parametrize("layer", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bias": False}])
def test_prompts_go_on_together_as_alone(layer: Any, options: dict[str, Any]) -> None:
    """A text does not depend on the others in its batch, drawn or not."""
    model, prompts = make_model(layer, **options), ["abcd", "a", "bb", "a"]
    ways: list[dict[str, Any]] = [
        {},
        {"temperature": 1.0, "seed": 7},
        {"temperature": 0.8, "top_p": 0.9},
    ]
    for how in ways:
        alone = [tl.generate(model, VOCAB, prompt, num_tokens=30, **how) for prompt in prompts]
        assert alone == tl.generate(model, VOCAB, prompts, num_tokens=30, **how)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(
    "model",
    [
        Successor(),
        tl.RNNModel(nn.GRU(5, 8, bidirectional=True), 5),
        tl.RNNModel(nn.LSTM(5, 8, proj_size=3), 5),
    ],
)
def test_any_model_takes_several_prompts(model: tl.RNNModel) -> None:
    """What has no cells to step with is called as it is."""
    prompts = ["ab", "a"]
    alone = [tl.generate(model, VOCAB, prompt, num_tokens=3) for prompt in prompts]
    assert alone == tl.generate(model, VOCAB, prompts, num_tokens=3)


def test_no_prompts_give_no_texts() -> None:
    """An empty list is a list too."""
    assert tl.generate(make_model(), VOCAB, []) == []


def test_each_prompt_may_have_a_seed() -> None:
    """The same prompt has other texts with other seeds."""
    options: dict[str, Any] = {"num_tokens": 30, "temperature": 1.0}
    texts = tl.generate(make_model(), VOCAB, ["a", "a", "a"], seed=[1, 2, 1], **options)
    assert texts[0] == texts[2] != texts[1]


def test_top_p_leaves_the_unlikely_out() -> None:
    """A token that is likely enough by itself is the only one that is drawn."""
    text = tl.generate(Successor(), VOCAB, "a", num_tokens=30, temperature=1.0, top_p=0.9)
    assert text == tl.generate(Successor(), VOCAB, "a", num_tokens=30)


def test_top_p_keeps_the_fewest_that_suffice() -> None:
    """Of chances 0.5, 0.3 and 0.2 two are drawn where 0.6 are asked for, three for 0.9."""
    logits = torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64).log()
    for top_p, expected in ((0.4, {1}), (0.6, {1, 2}), (0.9, {0, 1, 2})):
        sampler = _Sampler(temperature=1.0, top_k=None, top_p=top_p, seeds=[0])
        assert expected == {int(sampler.draw(logits)) for _ in range(200)}


def test_top_p_of_1_leaves_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the chances of 32 bits add up to more than 1."""
    logits = 2 * torch.randn(8, 50_000, generator=torch.Generator().manual_seed(0))
    sampler = _Sampler(temperature=1.0, top_k=None, top_p=1.0, seeds=range(8))
    numbers = torch.full((8,), 1 - 2**-53, dtype=torch.float64)
    monkeypatch.setattr(sampler, "_next_numbers", lambda: numbers)
    assert logits.argmin(1).tolist() == sampler.draw(logits).tolist()


def make_sampler(
    *, seeds: Sequence[int] = (0,), temperature: float = 1.0, top_k: int | None = None
) -> _Sampler:
    """Return a sampler without top_p."""
    return _Sampler(temperature=temperature, top_k=top_k, top_p=None, seeds=seeds)


@pytest.mark.parametrize("num_ids", [5, 5_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_each_text_takes_one_number_of_its_own_for_each_token(
    num_ids: int, dtype: torch.dtype
) -> None:
    """Its number is put to the sums of the chances, whatever stands beside it in the batch."""
    source = torch.Generator().manual_seed(1)
    logits = torch.randn(3, num_ids, dtype=dtype, generator=source)
    seeds = (4, 5, 4)
    sampler = make_sampler(seeds=seeds, temperature=0.7)
    alone = [make_sampler(seeds=[seed], temperature=0.7) for seed in seeds]
    sums = np.cumsum((logits.double() / 0.7).softmax(1).numpy(), axis=1)
    sources = [torch.Generator().manual_seed(torch_seed(seed)) for seed in seeds]
    for _ in range(150):
        numbers = [torch.rand((), generator=one, dtype=torch.float64).item() for one in sources]
        expected = [
            int(np.searchsorted(row, number * row[-1], side="right"))
            for row, number in zip(sums, numbers, strict=True)
        ]
        assert expected == sampler.draw(logits).tolist()
        assert expected == [
            int(one.draw(row[None])) for one, row in zip(alone, logits, strict=True)
        ]


@pytest.mark.parametrize("top_k", [None, 12])
def test_ids_are_drawn_as_often_as_their_chances_say(top_k: int | None) -> None:
    """By the test of chi squared, of 40,000 draws for 500 seeds."""
    logits = torch.linspace(-2, 1, 30, dtype=torch.float64).view(5, 6).T.flatten()
    kept = logits.topk(top_k or 30).indices
    chances = torch.zeros(30, dtype=torch.float64)
    chances[kept] = (logits[kept] / 0.8).softmax(0)
    sampler = make_sampler(seeds=range(500), temperature=0.8, top_k=top_k)
    drawn = torch.cat([sampler.draw(logits.expand(500, 30)) for _ in range(80)])
    counts, expected = drawn.bincount(minlength=30)[kept], chances[kept] * len(drawn)
    assert int(counts.sum()) == len(drawn)
    freedom = len(kept) - 1
    # Three deviations of the distribution of chi squared.
    limit = freedom + 3 * (2 * freedom) ** 0.5
    assert float(((counts - expected) ** 2 / expected).sum()) < limit


@pytest.mark.parametrize(
    ("row", "possible"),
    [
        ([-math.inf, -math.inf, 0.0, -math.inf, 0.0, -math.inf], {2, 4}),
        ([-math.inf] * 5 + [3.0], {5}),
        ([1e38, 0.0, -1e38, 0.0], {0}),
        ([0.0, 1e38, 1e38, -1e38, -math.inf], {1, 2}),
        ([-1e38] * 3, {0, 1, 2}),
        ([0.1] * 50_257 + [-800.0], set(range(50_257))),
    ],
)
@pytest.mark.parametrize("temperature", [5e-324, 1.0, 1e308])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("top_k", [None, 3, 100_000])
def test_no_id_without_a_chance_is_drawn(
    row: list[float],
    possible: set[int],
    temperature: float,
    dtype: torch.dtype,
    top_k: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither by the least number nor by the largest, nor one past the last id."""
    logits = torch.tensor([row, row[::-1]], dtype=dtype)
    chances = ((logits.double() - logits.double().amax(1, keepdim=True)) / temperature).softmax(1)
    sampler = make_sampler(seeds=[0, 0], temperature=temperature, top_k=top_k)
    for number in (0.0, 0.5, 1 - 2**-53):
        numbers = torch.full((2,), number, dtype=torch.float64)
        monkeypatch.setattr(sampler, "_next_numbers", lambda numbers=numbers: numbers)
        first, second = sampler.draw(logits).tolist()
        assert chances[0, first] > 0
        assert chances[1, second] > 0
        if temperature <= 1:
            assert {first, len(row) - 1 - second} <= possible


def test_a_longer_text_begins_with_the_shorter_one() -> None:
    """How many tokens are asked for changes none of them."""
    options: dict[str, Any] = {"temperature": 1.0, "seed": 3}
    short, long = (
        tl.generate(make_model(), VOCAB, "a", num_tokens=number, **options) for number in (40, 200)
    )
    assert long.startswith(short)


@pytest.mark.parametrize(
    ("tokenizer", "prompt"),
    [
        (CharTokenizer(VOCAB), "ab"),
        (WordTokenizer(tl.Vocab(["time", "flies", "like", "arrows"])), "Time flies"),
        (ByteTokenizer(), "na\u00efve"),
    ],
)
def test_a_stream_adds_up_to_the_text(tokenizer: Any, prompt: str) -> None:
    """Also where a character has several bytes, and where bytes are no characters."""
    torch.manual_seed(0)
    model = tl.RNNModel(nn.GRU(tokenizer.vocab_size, 8), tokenizer.vocab_size)
    options: dict[str, Any] = {"num_tokens": 60, "temperature": 1.0, "seed": 3}
    pieces = [token.text for token in tl.stream(model, tokenizer, prompt, **options)]
    assert len(pieces) == 60
    assert prompt + "".join(pieces) == tl.generate(model, tokenizer, prompt, **options)


def test_a_character_comes_when_it_is_whole() -> None:
    """Its first byte adds nothing, its second one all."""

    class Bytes(Successor):
        def forward(self, inputs: Any, state: Any = None, resets: Any = None) -> Any:
            _, seen = super().forward(inputs, state, resets)
            following = torch.tensor([list("x\u00e9y".encode())[seen.shape[1] - 1]])
            return nn.functional.one_hot(following, 256).float(), seen

    texts = [token.text for token in tl.stream(Bytes(256), ByteTokenizer(), "a", num_tokens=4)]
    assert texts == ["x", "", "\u00e9", "y"]


def test_a_stream_comes_as_it_is_written() -> None:
    """The first token is there before the second is computed."""
    model, calls = Successor(), []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    next(tl.stream(model, VOCAB, "a", num_tokens=1000))
    assert len(calls) == 1


def test_log_probabilities_are_the_models() -> None:
    """They are those of one long forward pass, whatever was drawn how."""
    model = make_model()
    options: dict[str, Any] = {"num_tokens": 12, "temperature": 0.5, "top_k": 3, "log_probs": True}
    tokens = list(tl.stream(model, VOCAB, "ab", **options))
    ids = [*VOCAB[list("ab")], *(token.id for token in tokens)]
    expected = model(torch.tensor([ids]))[0].log_softmax(dim=1)
    for position, token in enumerate(tokens, start=1):
        assert token.log_prob == pytest.approx(expected[position, token.id].item(), abs=1e-5)


def test_log_probabilities_are_asked_for() -> None:
    """Otherwise there are none, and each token says whose it is."""
    tokens = list(tl.stream(Successor(), VOCAB, ["a", "b"], num_tokens=2))
    assert [(0, "b"), (1, "c"), (0, "c"), (1, "d")] == [
        (token.prompt_index, token.text) for token in tokens
    ]
    assert {None} == {token.log_prob for token in tokens}


@pytest.mark.parametrize(
    ("tokenizer", "prompt", "named"),
    [
        (CharTokenizer(VOCAB, normalize=False), "aX?Xb", "'X', '[?]'"),
        (WordTokenizer(tl.Vocab(["time"])), "Time flies", "'flies'"),
    ],
)
def test_unknown_tokens_of_a_prompt_are_named(tokenizer: Any, prompt: str, named: str) -> None:
    """The model reads something else there, and a warning says so."""
    model = Successor(tokenizer.vocab_size)
    with pytest.warns(UserWarning, match=f"the model does not know {named} in the prompt "):
        assert tl.generate(model, tokenizer, prompt, num_tokens=1).startswith(prompt)


def test_a_model_that_diverged_is_refused() -> None:
    """There is no likeliest token among what is no number."""
    model = make_model()
    nn.init.constant_(model.linear.bias, torch.nan)
    with pytest.raises(ArgumentError, match="logits must be finite"):
        tl.generate(model, VOCAB, "a")


@pytest.mark.parametrize("layer", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("input_size", [5, 3])
def test_steps_are_those_of_the_layer(layer: Any, input_size: int) -> None:
    """One-hot or embedded, the logits of each step are those of one long forward pass."""
    torch.manual_seed(0)
    model = tl.RNNModel(layer(input_size, 8, num_layers=2), 5).eval()
    inputs = torch.randint(5, (3, 9))
    expected = model(inputs)[0].reshape(9, 3, 5)
    stepper = Stepper(model, inputs[:, :4].tolist())
    for step in range(4, 9):
        torch.testing.assert_close(expected[step - 1], stepper.logits)
        stepper.step(inputs[:, step])
    torch.testing.assert_close(expected[8], stepper.logits)


def test_dropout_is_off_and_the_mode_is_kept() -> None:
    """A model in training is read as it will be used, and goes on training."""
    model = tl.RNNModel(nn.GRU(5, 8, num_layers=2, dropout=0.5), 5).train()
    first, second = (Stepper(model, [[1, 2, 3]]).logits for _ in range(2))
    assert torch.equal(first, second)
    assert model.training


@pytest.mark.parametrize("stop_at", ["d", VOCAB["d"]])
def test_a_text_stops_at_a_token_that_is_not_part_of_it(stop_at: Any) -> None:
    """Each prompt by itself; the number of tokens is the most that are written."""
    prompts = ["a", "c", "d"]
    texts = tl.generate(Successor(), VOCAB, prompts, num_tokens=5, stop_at=stop_at)
    # After "d" the unknown token comes, then the alphabet begins anew.
    assert texts == ["abc", "c", "d<unk>abc"]
    assert tl.generate(Successor(), VOCAB, "a", num_tokens=1, stop_at=stop_at) == "ab"


def test_a_model_that_knows_where_documents_end_stops_there() -> None:
    """Unless another token is given, or none."""
    model = Successor()
    model.end_id = VOCAB["c"]
    assert tl.generate(model, VOCAB, "a", num_tokens=3) == "ab"
    assert tl.generate(model, VOCAB, "a", num_tokens=3, stop_at="d") == "abc"
    assert tl.generate(model, VOCAB, "a", num_tokens=3, stop_at=False) == "abcd"


def test_a_stream_ends_with_the_token_at_which_it_stops() -> None:
    """It adds no text, and others go on."""
    tokens = list(tl.stream(Successor(), VOCAB, ["c", "a"], num_tokens=4, stop_at="d"))
    assert [(0, "", True), (1, "b", False), (1, "c", False), (1, "", True)] == [
        (token.prompt_index, token.text, token.is_end) for token in tokens
    ]
    assert {VOCAB["d"]} == {token.id for token in tokens if token.is_end}


def test_texts_that_stop_early_leave_the_others_as_they_are() -> None:
    """Drawn texts are the same in a batch as alone, and the beginnings of those without a stop."""
    prompts = ["abcd", "a", "bb", "c"]
    options: dict[str, Any] = {"temperature": 1.0, "seed": [1, 2, 3, 4]}
    texts = tl.generate(make_model(), VOCAB, prompts, stop_at="d", **options)
    whole = tl.generate(make_model(), VOCAB, prompts, **options)
    assert len(set(map(len, texts))) > 1
    for prompt, text, long, seed in zip(prompts, texts, whole, (1, 2, 3, 4), strict=True):
        assert text == prompt + long[len(prompt) :].partition("d")[0]
        alone = tl.generate(make_model(), VOCAB, prompt, temperature=1.0, seed=seed, stop_at="d")
        assert text == alone


def test_a_character_without_its_last_byte_is_written_where_a_text_stops() -> None:
    """So the texts of a stream still add up to what `generate` returns."""

    class Bytes(Successor):
        def forward(self, inputs: Any, state: Any = None, resets: Any = None) -> Any:
            _, seen = super().forward(inputs, state, resets)
            following = torch.tensor([[ord("x"), 0xC3, 0][seen.shape[1] - 1]])
            return nn.functional.one_hot(following, 256).float(), seen

    tokens = list(tl.stream(Bytes(256), ByteTokenizer(), "a", stop_at=0))
    assert [token.text for token in tokens] == ["x", "", "\ufffd"]
    assert tl.generate(Bytes(256), ByteTokenizer(), "a", stop_at=0) == "ax\ufffd"


@pytest.mark.parametrize(
    ("stop_at", "message"),
    [
        ("e", r"^stop_at must be an id in \[0, 5\), or a token of the tokenizer's vocabulary, got"),
        (5, r"^stop_at must be an integer in \[0, 5\), got 5"),
        (True, r"^stop_at must be an integer in \[0, 5\), got True"),
    ],
)
def test_a_token_to_stop_at_that_there_is_not_is_refused(stop_at: Any, message: str) -> None:
    """The message has the argument's name."""
    for write in (tl.generate, lambda *given, **how: next(tl.stream(*given, **how))):
        with pytest.raises(ArgumentError, match=message):
            write(Successor(), VOCAB, "a", stop_at=stop_at)
