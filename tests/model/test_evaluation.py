"""How well a model predicts."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import tokenloom as tl
from tokenloom.errors import CorpusError

CORPUS = tl.Corpus.from_tokens(np.arange(200) % 7, vocab_size=7)


def make_model() -> tl.RNNModel:
    """Return a small random model."""
    torch.manual_seed(0)
    return tl.RNNModel(nn.GRU(7, 8), 7)


def test_one_lane_is_one_long_forward_pass() -> None:
    """With batch_size=1 the loss is that of the whole text with the state carried."""
    model = make_model()
    ids = torch.as_tensor(np.asarray(CORPUS.tokens, np.int64))
    with torch.inference_mode():
        expected = functional.cross_entropy(model(ids[None, :-1])[0], ids[1:]).item()
    result = tl.evaluate(model, CORPUS, batch_size=1, seq_len=9)
    assert result.num_tokens == 199
    assert result.nats_per_token == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("seq_len", "num_workers"), [(1, 0), (4, 1), (300, 0)])
def test_only_the_lanes_change_the_number(seq_len: int, num_workers: int) -> None:
    """Windows of any length, read by any number of workers, give the same loss."""
    expected = tl.evaluate(make_model(), CORPUS, batch_size=4, seq_len=9)
    got = tl.evaluate(make_model(), CORPUS, batch_size=4, seq_len=seq_len, num_workers=num_workers)
    assert expected.num_tokens == got.num_tokens
    assert pytest.approx(expected.nats_per_token, rel=1e-6) == got.nats_per_token


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
def test_parts_weigh_to_the_whole(world_size: int) -> None:
    """The sum over shards is the number of one process."""
    expected = tl.evaluate(make_model(), CORPUS, batch_size=8)
    shards = [tl.Shard(rank=rank, world_size=world_size) for rank in range(world_size)]
    parts = [tl.evaluate(make_model(), CORPUS, batch_size=8, shard=shard) for shard in shards]
    total = sum(part.nats_per_token * part.num_tokens for part in parts)
    num_tokens = sum(part.num_tokens for part in parts)
    assert num_tokens == 199
    assert pytest.approx(expected.nats_per_token, rel=1e-6) == total / num_tokens


def test_bits_are_nats_by_the_logarithm_of_two() -> None:
    """A loss of log(2) nats is one bit, and is spread over the characters of a token."""
    result = tl.model.Evaluation(num_tokens=10, nats_per_token=math.log(2), num_characters=40)
    assert (1.0, 4.0, 0.25) == (
        result.bits_per_token,
        result.characters_per_token,
        result.bits_per_character,
    )
    assert pytest.approx(math.log(2) / 4) == result.nats_per_character


def test_a_loss_is_spread_over_the_text() -> None:
    """Perplexities per character and per byte are those of the same sum of losses."""
    nats = math.log(64)
    result = tl.model.Evaluation(num_tokens=9, nats_per_token=nats, num_characters=18, num_bytes=27)
    found = result.perplexity, result.perplexity_per_character, result.perplexity_per_byte
    assert pytest.approx((64.0, 8.0, 4.0)) == found
    assert pytest.approx((6.0, 3.0, 2.0)) == (
        result.bits_per_token,
        result.bits_per_character,
        result.bits_per_byte,
    )
    assert pytest.approx((3.0, nats / 3)) == (result.bytes_per_token, result.nats_per_byte)


@pytest.mark.parametrize("tokenizer", ["char", "word", "byte"])
def test_perplexity_per_byte_is_that_of_the_text(tokenizer: str) -> None:
    """It is the total loss, by a loop of its own, over the bytes after the first token."""
    text = "\u00e9t\u00e9 of the time machine, \u6642\u9593 of the machine"
    corpus = tl.Corpus.from_text(text, tokenizer=tokenizer, normalize=tokenizer == "byte")
    torch.manual_seed(0)
    model = tl.RNNModel(nn.GRU(corpus.vocab_size, 8), corpus.vocab_size)
    ids = torch.as_tensor(np.asarray(corpus.tokens, np.int64))
    with torch.inference_mode():
        nats = functional.cross_entropy(model(ids[None, :-1])[0], ids[1:], reduction="sum").item()
    result = tl.evaluate(model, corpus, batch_size=1)
    first = {"char": text[:1], "word": text.split(maxsplit=1)[0], "byte": ""}[tokenizer]
    # The first byte is half of the first character, and the character begins with it.
    num_bytes = len(text.encode()) - (1 if tokenizer == "byte" else len(first.encode()))
    num_characters = len(text) - max(len(first), 1)
    assert pytest.approx(math.exp(nats / num_bytes), rel=1e-5) == result.perplexity_per_byte
    per_character = math.exp(nats / num_characters)
    assert pytest.approx(per_character, rel=1e-5) == result.perplexity_per_character


def test_characters_may_be_unknown() -> None:
    """Ids without a tokenizer stand for nothing that could be counted."""
    result = tl.evaluate(make_model(), CORPUS)
    assert {None} == {
        result.num_characters,
        result.characters_per_token,
        result.nats_per_character,
        result.bits_per_character,
        result.perplexity_per_character,
        result.num_bytes,
        result.bytes_per_token,
        result.nats_per_byte,
        result.bits_per_byte,
        result.perplexity_per_byte,
    }


def test_the_characters_of_the_predicted_tokens_count() -> None:
    """The first word is not predicted, so its characters are none."""
    corpus = tl.Corpus.from_text("time flies like an arrow", tokenizer="word")
    model = tl.RNNModel(nn.RNN(6, 4), 6)
    assert tl.evaluate(model, corpus).num_characters == len(" flies like an arrow")


@pytest.mark.parametrize("batch_size", [1, 3, 32, 300])
def test_every_token_counts_once(batch_size: int) -> None:
    """A model that knows nothing has log(7) nats per token, whatever the batch."""
    model = make_model()
    nn.init.zeros_(model.linear.weight)
    nn.init.zeros_(model.linear.bias)
    result = tl.evaluate(model, CORPUS, batch_size=batch_size, seq_len=5)
    assert result.num_tokens == 199
    assert result.nats_per_token == pytest.approx(math.log(7))
    assert pytest.approx(7.0) == result.perplexity


def test_the_mode_of_the_model_is_kept() -> None:
    """Dropout is off while it is evaluated, and on again afterwards."""
    model = tl.RNNModel(nn.GRU(7, 8, num_layers=2, dropout=0.5), 7).train()
    results = {tl.evaluate(model, CORPUS).nats_per_token for _ in range(2)}
    assert (1, True) == (len(results), model.training)


def test_a_rank_evaluates_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a launcher the number is that of the whole corpus too."""
    expected = tl.evaluate(make_model(), CORPUS)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert expected == tl.evaluate(make_model(), CORPUS)


def test_a_hopeless_model_has_infinite_perplexity() -> None:
    """exp() of a huge loss does not raise."""
    result = tl.model.Evaluation(num_tokens=1, nats_per_token=1e9)
    assert math.inf == result.perplexity


def test_a_single_token_cannot_be_evaluated() -> None:
    """There is nothing to predict."""
    corpus: Any = tl.Corpus.from_tokens([1])
    with pytest.raises(CorpusError, match="at least 2 tokens, the corpus has 1"):
        tl.evaluate(make_model(), corpus)


DOCUMENTS = [0, 30, 30, 31, 90, 200]


def test_documents_are_predicted_as_if_each_stood_alone() -> None:
    """Only the first token of each is predicted from the text before it."""
    model = make_model()
    ids = torch.as_tensor(np.asarray(CORPUS.tokens, np.int64))
    corpus = tl.Corpus.from_tokens(CORPUS.tokens, vocab_size=7, documents=DOCUMENTS)
    total = 0.0
    for start, stop in ((0, 30), (30, 31), (31, 90), (90, 200)):
        targets = ids[start + 1 : stop + 1]
        logits, _ = model(ids[None, start : start + len(targets)])
        total += functional.cross_entropy(logits, targets, reduction="sum").item()
    result = tl.evaluate(model, corpus, batch_size=1, seq_len=9)
    assert pytest.approx(total / 199, rel=1e-5) == result.nats_per_token


def test_a_part_may_hold_no_token() -> None:
    """It weighs nothing."""
    corpus = tl.Corpus.from_tokens([1, 2, 3], vocab_size=7)
    part = tl.evaluate(make_model(), corpus, shard=tl.Shard(rank=1, world_size=4))
    assert (0, 0.0) == (part.num_tokens, part.nats_per_token)


def test_documents_may_be_left_out() -> None:
    """Without resets the number is that of the same tokens without documents."""
    corpus = tl.Corpus.from_tokens(CORPUS.tokens, vocab_size=7, documents=DOCUMENTS)
    plain, whole = (tl.evaluate(make_model(), tokens) for tokens in (CORPUS, corpus))
    assert plain == tl.evaluate(make_model(), corpus, resets=False)
    assert plain != whole


def test_no_loss_crosses_documents_where_that_is_asked_for() -> None:
    """The first tokens of documents are not predicted; the others are as in the document alone."""
    model = make_model()
    bounds = [0, 40, 41, 41, 130, 200]
    corpus = tl.Corpus.from_tokens(np.arange(200) % 7, vocab_size=7, documents=bounds)
    result = tl.evaluate(model, corpus, batch_size=1, seq_len=9, across_documents=False)
    alone = [
        tl.evaluate(model, corpus.slice(start, stop), batch_size=1)
        for start, stop in itertools.pairwise(bounds)
        if stop - start > 1
    ]
    assert sum(each.num_tokens for each in alone) == result.num_tokens
    expected = sum(each.nats_per_token * each.num_tokens for each in alone)
    assert expected / result.num_tokens == pytest.approx(result.nats_per_token, rel=1e-5)


def test_what_is_not_learnt_is_not_predicted() -> None:
    """The loss is the mean over the tokens whose mask is 1, with all others read before them."""
    model, mask = make_model(), np.arange(200) % 5 < 2
    ids = torch.as_tensor(np.asarray(CORPUS.tokens, np.int64))
    with torch.inference_mode():
        losses = functional.cross_entropy(model(ids[None, :-1])[0], ids[1:], reduction="none")
    corpus = tl.Corpus.from_tokens(CORPUS.tokens, vocab_size=7, loss_mask=mask)
    result = tl.evaluate(model, corpus, batch_size=1, seq_len=9)
    assert result.num_tokens == int(mask[1:].sum())
    assert result.nats_per_token == pytest.approx(losses[mask[1:]].mean().item(), rel=1e-5)
    assert result.num_bytes is None


@pytest.mark.parametrize("first", [0, 1])
def test_nothing_to_predict_is_refused(first: int) -> None:
    """Else the perplexity would be 1; the first token of a corpus is never predicted."""
    corpus = tl.Corpus.from_tokens([1, 2, 3], vocab_size=7, loss_mask=[first, 0, 0])
    with pytest.raises(CorpusError, match="no 1 after the first token"):
        tl.evaluate(make_model(), corpus)
    loader = tl.Loader(tl.RandomWindows(CORPUS, batch_size=2))
    with pytest.raises(CorpusError, match="no 1 after the first token"):
        tl.train(make_model(), loader, held_out=corpus)


def test_first_tokens_of_documents_alone_are_nothing_to_predict() -> None:
    """Where nothing crosses documents; in packed order nothing ever does."""
    documents, mask = [0, 2, 2, 200], np.zeros(200, np.uint8)
    mask[[0, 2]] = 1
    corpus, more = (
        tl.Corpus.from_tokens(
            CORPUS.tokens, vocab_size=7, documents=documents, loss_mask=mask | extra
        )
        for extra in (np.uint8(0), np.arange(200) == 199)
    )
    message = "no 1 after the first token of each document: give another mask"
    packed, random = (
        kind(corpus, batch_size=2, seq_len=9) for kind in (tl.PackedWindows, tl.RandomWindows)
    )
    within = tl.TrainingOptions(across_documents=False)
    with pytest.raises(CorpusError, match=message):
        tl.evaluate(make_model(), corpus, across_documents=False)
    with pytest.raises(CorpusError, match=message):
        tl.train(make_model(), tl.Loader(packed))
    with pytest.raises(CorpusError, match=message):
        tl.train(make_model(), tl.Loader(random), options=within)
    assert tl.evaluate(make_model(), corpus).num_tokens == 1
    assert tl.evaluate(make_model(), more, across_documents=False).num_tokens == 1


@pytest.mark.parametrize(
    ("documents", "resets", "message"),
    [
        (None, True, "across_documents=False needs documents, and tokens has none"),
        ([0, 7], False, "across_documents=False and resets=False exclude each other"),
    ],
)
def test_unknown_documents_are_refused(
    documents: list[int] | None,
    resets: bool,
    message: str,
) -> None:
    """Where documents start must be known, and matter to the state too."""
    corpus = tl.Corpus.from_tokens(np.arange(7), vocab_size=7, documents=documents)
    with pytest.raises(ValueError, match=message):
        tl.evaluate(make_model(), corpus, resets=resets, across_documents=False)
