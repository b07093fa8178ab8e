"""Which tokenizer made some ids, and who asks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tokenloom as tl
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.text.identity import Identity, describe_identity
from tokenloom.text.tokenizers import ByteTokenizer, CharTokenizer, WordTokenizer, complete
from tokenloom.training.reopen import read_as

TEXT = "the time traveller for so it will be convenient to speak of him " * 4


class Words:
    """A tokenizer of another package, which knows some words."""

    def __init__(self, *words: str) -> None:
        self.words = ["?", *words]
        self.vocab_size = len(self.words)

    def encode(self, text: str) -> list[int]:
        """Return the number of each word, 0 where it is unknown."""
        return [self.words.index(w) if w in self.words else 0 for w in text.split()]

    def decode(self, ids: list[int]) -> str:
        """Return the words."""
        return " ".join(self.words[id_] for id_ in ids)


FIRST, SECOND = Words("the", "time", "for"), Words("time", "the", "for")


def make_model(size: int) -> tl.RNNModel:
    """Return a small model with random weights."""
    torch.manual_seed(0)
    return tl.RNNModel(nn.RNN(size, 4), size)


def train(corpus: tl.Corpus, **options: Any) -> tl.RNNModel:
    """Return a model that was trained on a corpus."""
    model = make_model(corpus.vocab_size)
    loader = tl.Loader(tl.SequentialWindows(corpus, batch_size=2, seq_len=4))
    tl.train(model, loader, device="cpu", progress=False, **options)
    return model


@pytest.mark.parametrize(
    ("first", "second", "differs"),
    [
        (CharTokenizer(tl.Vocab(["a", "b"])), CharTokenizer(tl.Vocab(["b", "a"])), True),
        (CharTokenizer(tl.Vocab(["a"])), CharTokenizer(tl.Vocab(["a"]), normalize=False), False),
        (CharTokenizer(tl.Vocab(["a"])), WordTokenizer(tl.Vocab(["a"])), True),
        (FIRST, Words("the", "time", "for"), False),
        (FIRST, SECOND, True),
        (FIRST, Words("the", "time"), True),
        (ByteTokenizer(), ByteTokenizer(), False),
    ],
)
def test_tokenizers_are_told_apart(first: Any, second: Any, differs: bool) -> None:
    """By what their ids mean; no order of the two matters."""
    mine, its = Identity.of(first), Identity.of(second)
    assert (differs, differs) == (mine.differs(its), its.differs(mine))
    assert not mine.differs(None)


@pytest.mark.parametrize("value", [None, 3, [], {}, {"name": None, "type": "X"}, {"name": 7}])
def test_a_file_may_know_no_tokenizer(value: object) -> None:
    """Nor is one made up of values of other types."""
    assert Identity.read(value, vocab_size=4) is None


def test_what_is_written_tells_tokenizers_apart() -> None:
    """What a tokenizer of another package leaves in a file is enough."""
    read = Identity.read(json.loads(json.dumps(describe_identity(complete(FIRST)))), vocab_size=4)
    assert read is not None
    assert (False, True) == (read.differs(Identity.of(FIRST)), read.differs(Identity.of(SECOND)))


@pytest.mark.parametrize("how", ["save", "prepare", "again", "section"])
def test_a_store_is_opened_with_its_tokenizer_only(how: str, tmp_path: Path) -> None:
    """A store of a store still knows, though the tokenizer was not at hand."""
    store = tmp_path / "store"
    if how == "prepare":
        tl.prepare(iter([TEXT]), store, tokenizer=FIRST)
    else:
        tl.Corpus.from_text(TEXT, tokenizer=FIRST).save(store)
    if how in ("again", "section"):
        corpus = tl.Corpus.open(store)
        corpus = corpus.slice(3, 20) if how == "section" else corpus
        store = corpus.save(tmp_path / "again")
    same = tl.Corpus.open(store, tokenizer=Words("the", "time", "for"))
    assert "the time" == same.decode([1, 2])
    message = r"must be the one that made the ids of the store .*4 ids, proof sha256:.*got another"
    with pytest.raises(ArgumentError, match=message):
        tl.Corpus.open(store, tokenizer=SECOND)
    with pytest.raises(ArgumentError, match=message):
        tl.load(store, tokenizer=SECOND)


def test_a_probe_of_an_older_release_is_compared(tmp_path: Path) -> None:
    """It lies with what the preparation was told."""
    store = tmp_path / "store"
    text = "".join(map(chr, range(97, 123)))
    first, second = (tl.Vocab(list(letters)) for letters in (text, text[::-1]))

    class Foreign:
        """Characters, by another class."""

        def __init__(self, vocab: tl.Vocab) -> None:
            self.own = CharTokenizer(vocab)
            self.vocab_size = len(vocab)
            self.encode, self.decode = self.own.encode, self.own.decode

    tl.prepare(iter([text]), store, tokenizer=Foreign(first))
    opened = tl.Corpus.open(store)
    manifest = json.loads((store / "manifest.json").read_text(encoding="utf-8"))
    assert opened.identity is not None
    old = manifest["facts"]["preparation"]["tokenizer"]["probe"]
    assert old == opened.identity.probe == Identity.of(Foreign(first)).probe
    with pytest.raises(ArgumentError, match="must be the one that made the ids"):
        tl.Corpus.open(store, tokenizer=Foreign(second))


@pytest.mark.parametrize("tokenizer", ["char", "word"])
def test_a_store_of_our_own_tokenizer_is_opened_with_no_other(
    tokenizer: str, tmp_path: Path
) -> None:
    """Equal in size is not equal."""
    corpus = tl.Corpus.from_text(TEXT, tokenizer=tokenizer)
    corpus.save(tmp_path / "store")
    assert corpus.vocab is not None
    kind = CharTokenizer if tokenizer == "char" else WordTokenizer
    others = [kind(tl.Vocab(list(corpus.vocab.tokens[:0:-1]))), Words(*corpus.vocab.tokens[:0:-1])]
    for other in others:
        assert other.vocab_size == corpus.vocab_size
        with pytest.raises(ArgumentError, match=f"'{tokenizer}', .*got another"):
            tl.Corpus.open(tmp_path / "store", tokenizer=other)
    again = tl.Corpus.open(tmp_path / "store", tokenizer=corpus.tokenizer)
    assert again.hash == corpus.hash


def test_a_model_measures_no_text_of_another_vocabulary(tmp_path: Path) -> None:
    """Neither one of another size, nor one of the same size."""
    words, chars = (tl.Corpus.from_text(TEXT, tokenizer=name) for name in ("word", "char"))
    large = make_model(527)
    with pytest.raises(ArgumentError, match=r"must be \d+, as text is of the tokenizer 'char'"):
        tl.evaluate(large, chars)
    with pytest.raises(ArgumentError, match=r"got 527: such ids mean other tokens"):
        tl.train(large, tl.Loader(tl.SequentialWindows(words, batch_size=2, seq_len=4)))
    model = train(chars, run=tmp_path / "run")
    mixed = tl.Corpus.from_text(TEXT[::-1].replace("e", "zz"), tokenizer="char", normalize=False)
    other = tl.Corpus.from_text("z" * 40 + TEXT.replace("v", ""), tokenizer="char")
    assert other.vocab_size == chars.vocab_size
    for trained in (model, tl.Run.open(tmp_path / "run").load_model()):
        assert tl.evaluate(trained, chars, progress=False).num_tokens == len(chars) - 1
        for corpus in (other, mixed):
            with pytest.raises(ArgumentError, match="tokenizer"):
                tl.evaluate(trained, corpus)


def test_a_held_out_text_is_of_the_same_vocabulary() -> None:
    """Its perplexity would be that of other tokens."""
    corpus = tl.Corpus.from_text(TEXT)
    other = tl.Corpus.from_text("z" * 40 + TEXT.replace("v", ""))
    assert other.vocab_size == corpus.vocab_size
    with pytest.raises(ArgumentError, match="of the tokenizer of the training text"):
        train(corpus, held_out=other)


def test_text_is_written_with_the_models_own_tokenizer(tmp_path: Path) -> None:
    """Another one would read the prompt as other tokens."""
    corpus = tl.Corpus.from_text(TEXT, tokenizer=FIRST)
    model = train(corpus, run=tmp_path / "run")
    for trained in (model, tl.Run.open(tmp_path / "run").load_model()):
        assert tl.generate(trained, FIRST, "the", num_tokens=2).startswith("the")
        for other in (SECOND, Words("the", "time"), Words("the", "time", "for", "so")):
            with pytest.raises(ArgumentError, match="must be the one that the model was"):
                tl.generate(trained, other, "the", num_tokens=2)
            with pytest.raises(ArgumentError, match="must be the one that the model was"):
                list(tl.stream(trained, other, "the", num_tokens=2))


def test_a_run_reads_no_store_of_another_tokenizer(tmp_path: Path) -> None:
    """Though both are of another package, and of one size."""
    for name, tokenizer in (("first", FIRST), ("second", SECOND)):
        tl.Corpus.from_text(TEXT, tokenizer=tokenizer).save(tmp_path / name)
    train(tl.Corpus.open(tmp_path / "first"), run=tmp_path / "run")
    run = tl.Run.open(tmp_path / "run")
    assert len(read_as(run, str(tmp_path / "first"))) == len(TEXT.split())
    with pytest.raises(CorpusError, match="must have been written with the run's tokenizer"):
        read_as(run, str(tmp_path / "second"))
    # A pattern of stores, too, needs no tokenizer but those of the stores.
    assert len(read_as(run, str(tmp_path / "fir*"))) == len(TEXT.split())
    with pytest.raises(CorpusError, match="must have been written with the run's tokenizer"):
        read_as(run, str(tmp_path / "sec*"))


def test_a_training_is_not_resumed_with_another_tokenizer(tmp_path: Path) -> None:
    """The tokens may be equal, and mean something else."""
    ids = np.arange(64) % 4
    for name, tokenizer in (("first", FIRST), ("second", SECOND)):
        tl.Corpus.from_text(tokenizer.decode(ids.tolist()), tokenizer=tokenizer).save(
            tmp_path / name
        )
    first, second = (tl.Corpus.open(tmp_path / name) for name in ("first", "second"))
    assert first.hash == second.hash
    train(first, run=tmp_path / "run")
    train(first, run=tmp_path / "run", resume=True)
    with pytest.raises(tl.StateMismatchError, match=r"tokenizer\.probe|tokenizer\.decoded"):
        train(second, run=tmp_path / "run", resume=True)
    path = tmp_path / "run" / "settings.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["tokenizer"] = {"name": None, "type": "Words"}
    path.write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(tl.StateMismatchError, match="not those of its checkpoint"):
        train(first, run=tmp_path / "run", resume=True)


class Exhausted:
    """A tokenizer for which memory is missing."""

    vocab_size = 3

    def __init__(self, *, at: str) -> None:
        self._at = at

    def encode(self, text: str, /) -> list[int]:
        """Return no ids, or fail."""
        self._fail_at("encode")
        return [0] * (not text)

    def decode(self, ids: list[int], /) -> str:
        """Return some text, or fail."""
        self._fail_at("decode")
        return str(ids)

    def _fail_at(self, what: str) -> None:
        if what == self._at:
            raise MemoryError


@pytest.mark.parametrize("at", ["encode", "decode"])
def test_missing_memory_makes_no_other_tokenizer(at: str) -> None:
    """What it encodes is then not known: it was taken for a tokenizer that refuses the text."""
    with pytest.raises(MemoryError):
        Identity.of(Exhausted(at=at))
