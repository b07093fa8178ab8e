"""A text as the model of a run reads it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tokenloom as tl
from tokenloom.replay import reopen_corpora
from tokenloom.rereading import read_as

BOOK = "the time traveller for so it will be convenient to speak of him " * 4


@pytest.fixture
def book(tmp_path: Path) -> str:
    """Return the path of a small text file."""
    path = tmp_path / "book.txt"
    path.write_text(BOOK, encoding="utf-8")
    return str(path)


def make_run(folder: Path, corpus: tl.Corpus, held_out: float = 0.2) -> tl.Run:
    """Return a run that was trained on the first tokens of a corpus."""
    train, valid = corpus.hold_out(held_out)
    torch.manual_seed(0)
    model = tl.RNNModel(nn.RNN(corpus.vocab_size, 4), corpus.vocab_size)
    loader = tl.Loader(tl.SequentialWindows(train, batch_size=2, seq_len=4))
    tl.train(model, loader, held_out=valid, run=folder, device="cpu")
    return tl.Run.open(folder)


@pytest.mark.parametrize("tokenizer", ["char", "word", "byte"])
def test_a_text_is_encoded_as_the_run_was(tokenizer: str, book: str, tmp_path: Path) -> None:
    """The ids are those of the run's vocabulary, not of a new one."""
    corpus = tl.load(book, tokenizer=tokenizer)
    other = tmp_path / "other.txt"
    other.write_text("him for the time", encoding="utf-8")
    read = read_as(make_run(tmp_path / "run", corpus), str(other))
    assert corpus.tokenizer is not None
    expected = np.asarray(corpus.tokenizer.encode("him for the time"))
    assert expected.tolist() == read.tokens.tolist()


def test_a_run_knows_what_it_held_out(book: str, tmp_path: Path) -> None:
    """Both parts of the corpus can be had again, and measured."""
    corpus = tl.load(book)
    train, valid = corpus.hold_out(0.2)
    run = make_run(tmp_path / "run", corpus)
    parts = [read_as(run, book, split=split) for split in ("trained", "held-out")]
    assert valid is not None
    assert [train.tokens.tolist(), valid.tokens.tolist()] == [
        part.tokens.tolist() for part in parts
    ]
    perplexity = tl.evaluate(run.load_model(), parts[1]).perplexity
    assert run.metrics()[-1].held_out_perplexity == pytest.approx(perplexity)


def test_a_split_of_a_store_is_read(book: str, tmp_path: Path) -> None:
    """A store that was written with the same vocabulary has the right ids already."""
    corpus = tl.load(book)
    store = corpus.save(tmp_path / "store", splits={"end": (100, 150)})
    read = read_as(make_run(tmp_path / "run", corpus), str(store), split="end")
    assert corpus.tokens[100:150].tolist() == read.tokens.tolist()


def test_a_store_of_other_ids_is_refused(book: str, tmp_path: Path) -> None:
    """Its numbers would mean other tokens."""
    run = make_run(tmp_path / "run", tl.load(book))
    words = tl.load(book, tokenizer="word").save(tmp_path / "words")
    with pytest.raises(tl.CorpusError, match="run's tokenizer, 'char', got 'word' with 14 ids"):
        read_as(run, str(words))
    others = tl.Corpus.from_text("zyx").save(tmp_path / "others")
    with pytest.raises(tl.CorpusError, match="tokenizer, its very vocabulary, got 'char'"):
        read_as(run, str(others))


def test_another_text_was_not_held_out(book: str, tmp_path: Path) -> None:
    """The split of a run is cut out of its own corpus only."""
    run = make_run(tmp_path / "run", tl.load(book))
    Path(book).write_text("him " * 90, encoding="utf-8")
    with pytest.raises(tl.CorpusError, match="was trained on, but they are others: name its"):
        read_as(run, book, split="held-out")


def test_a_run_without_held_out_text_says_so(book: str, tmp_path: Path) -> None:
    """There is nothing to cut out."""
    run = make_run(tmp_path / "run", tl.load(book), held_out=0)
    with pytest.raises(tl.CorpusError, match="held out no text: name another split"):
        read_as(run, book, split="held-out")


@pytest.mark.parametrize("had_documents", [True, False])
def test_a_held_out_text_has_documents_where_the_run_had_them(
    had_documents: bool, tmp_path: Path
) -> None:
    """An older release read the same tokens of a named corpus without its documents."""
    whole = tl.Corpus.from_documents(BOOK[at : at + 40] for at in range(0, 240, 40))
    whole.save(tmp_path / "store")
    corpus = tl.Corpus.open(tmp_path / "store")
    run = make_run(tmp_path / "run", corpus if had_documents else corpus.undivided())
    held_out = read_as(run, str(tmp_path / "store"), split="held-out")
    assert had_documents == (held_out.documents is not None)
    _, again = reopen_corpora(run)
    assert again is not None
    assert had_documents == (again.documents is not None)
