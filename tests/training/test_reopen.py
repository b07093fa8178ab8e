"""A text as the model of a run reads it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tokenloom as tl
from tokenloom.errors import ArgumentError, CorpusError, RunError
from tokenloom.training import reopen_training
from tokenloom.training.reopen import count_trained, read_as, reopen_corpora

LETTERS = "".join("abcde"[number * number // 7 % 5] for number in range(100))
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


@pytest.fixture
def store(tmp_path: Path) -> str:
    """Return the path of a store of 100 tokens with three splits."""
    corpus = tl.Corpus.from_text(LETTERS)
    splits = {"train": (0, 60), "valid": (60, 80), "test": (80, 100)}
    return str(corpus.save(tmp_path / "store", splits=splits))


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
    with pytest.raises(CorpusError, match=r"tokenizer \('char', .* another \('word', 14 ids"):
        read_as(run, str(words))
    others = tl.Corpus.from_text("zyx").save(tmp_path / "others")
    with pytest.raises(CorpusError, match=r"tokenizer \('char', .* got ids of another \('char', "):
        read_as(run, str(others))


def test_another_text_was_not_held_out(book: str, tmp_path: Path) -> None:
    """The split of a run is cut out of its own corpus only."""
    run = make_run(tmp_path / "run", tl.load(book))
    Path(book).write_text("him " * 90, encoding="utf-8")
    with pytest.raises(CorpusError, match="was trained on, but they are others: name its"):
        read_as(run, book, split="held-out")


def test_a_run_without_held_out_text_says_so(book: str, tmp_path: Path) -> None:
    """There is nothing to cut out."""
    run = make_run(tmp_path / "run", tl.load(book), held_out=0)
    with pytest.raises(CorpusError, match="held out no text: name another split"):
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
    assert isinstance(again, tl.Corpus)
    assert had_documents == (again.documents is not None)


def test_tokens_that_a_run_was_trained_on_are_counted(store: str, tmp_path: Path) -> None:
    """In the whole store, in any of its splits, and in a copy of the text."""
    run = make_run(tmp_path / "run", tl.load(f"{store}/test"), held_out=0)
    names = ("", "/train", "/test")
    seen = {name: count_trained(run, read_as(run, store + name)) for name in names}
    assert seen == {"": 20, "/train": 0, "/test": 20}
    assert 20 == count_trained(run, read_as(run, store, split="trained"))
    copy = tmp_path / "copy.txt"
    copy.write_text(LETTERS[80:] + "abc", encoding="utf-8")
    assert 20 == count_trained(run, read_as(run, str(copy)))
    copy.write_text(LETTERS[79:] + "abc", encoding="utf-8")
    assert 0 == count_trained(run, read_as(run, str(copy)))


def test_a_run_of_the_whole_store_was_trained_on_its_splits(store: str, tmp_path: Path) -> None:
    """Older releases did so without a word."""
    run = make_run(tmp_path / "run", tl.Corpus.open(store), held_out=0.3)
    seen = [count_trained(run, read_as(run, store, split=name)) for name in ("train", "valid")]
    assert [60, 10] == seen


def test_the_held_out_split_of_a_store_is_found_again(store: str, tmp_path: Path) -> None:
    """It need not lie after what was trained on, and the store may have moved."""
    train, held_out = tl.load(f"{store}/train"), tl.load(f"{store}/test")
    model = tl.RNNModel(nn.RNN(train.vocab_size, 4), train.vocab_size)
    loader = tl.Loader(tl.SequentialWindows(train, batch_size=2, seq_len=4))
    tl.train(model, loader, held_out=held_out, run=tmp_path / "run", device="cpu")
    run = tl.Run.open(tmp_path / "run")
    assert [60, 20] == [
        len(corpus) for corpus in reopen_corpora(run) if isinstance(corpus, tl.Corpus)
    ]
    moved = Path(store).rename(tmp_path / "moved")
    for name in (str(moved), f"{moved}/train", f"{moved}/test"):
        assert held_out.hash == read_as(run, name, split="held-out").hash
    with pytest.raises(RunError, match="cannot be read again"):
        reopen_corpora(run)


def test_a_split_is_named_once(store: str, tmp_path: Path) -> None:
    """Two names could be two splits."""
    run = make_run(tmp_path / "run", tl.Corpus.open(store))
    with pytest.raises(ArgumentError, match="names a split already"):
        read_as(run, f"{store}/train", split="valid")


def test_a_reopened_training_continues_as_the_program_would(book: str, tmp_path: Path) -> None:
    """Text, windows, model and options come out of the folder; the weights are the same."""
    corpus, options = tl.load(book), tl.TrainingOptions(optimizer="adamw", batches_per_update=2)
    train, valid = corpus.hold_out(0.2)

    def run(name: str, num_epochs: int) -> tl.Run:
        torch.manual_seed(5)
        model = tl.RNNModel(
            nn.GRU(corpus.vocab_size, 4, dropout=0.1, num_layers=2), corpus.vocab_size
        )
        windows = tl.RandomWindows(train, batch_size=2, seq_len=4, seed=3)
        windows.set_epoch(2)
        loader = tl.Loader(windows, num_epochs=num_epochs)
        folder, often = tmp_path / name, tl.RunOptions(keep=7)
        tl.train(
            model,
            loader,
            lr=0.01,
            options=options,
            held_out=valid,
            run=folder,
            run_options=often,
            device="cpu",
            seed=4,
        )
        return tl.Run.open(folder)

    whole, part = run("whole", 3), run("part", 1)
    training = reopen_training(part, num_epochs=3, num_workers=1, device="cpu")
    history = training.train()
    assert options == training.options
    assert training.run_options.keep == 7
    assert [entry.held_out_perplexity for entry in whole.metrics()] == [
        entry.held_out_perplexity for entry in history
    ]
    assert whole.load_model().linear.weight.equal(part.load_model().linear.weight)


def test_a_reopened_training_leaves_the_random_numbers_alone(book: str, tmp_path: Path) -> None:
    """Until it is trained; the weights of a run without a checkpoint are those of its seed."""
    run = make_run(tmp_path / "run", tl.load(book))
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, second = (reopen_training(run, device="cpu") for _ in range(2))
    assert before.equal(torch.get_rng_state())
    assert first.model.linear.weight.equal(second.model.linear.weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "my.program.make"}, "is my.program.make, a function of the program that"),
        ({"num_epochs": None}, "has no last epoch: resume it in the program that began it"),
        ({"version": 2}, "an older release made it; train anew"),
    ],
)
def test_a_training_that_only_its_program_can_resume_is_refused(
    change: dict[str, object], message: str, book: str, tmp_path: Path
) -> None:
    """The folder does not hold all of it."""
    run = make_run(tmp_path / "run", tl.load(book))
    run.settings.update(change)
    with pytest.raises(RunError, match=message):
        reopen_training(run)


def test_a_part_of_each_batch_is_reopened_as_that_part(book: str, tmp_path: Path) -> None:
    """A run of one rank without a group has its part in its settings."""
    corpus, shard = tl.load(book), tl.Shard(rank=1, world_size=2)
    windows = tl.SequentialWindows(corpus, batch_size=4, seq_len=4, shard=shard)
    model = tl.RNNModel(nn.RNN(corpus.vocab_size, 4), corpus.vocab_size)
    tl.train(model, tl.Loader(windows), run=tmp_path / "run", device="cpu")
    training = reopen_training(tl.Run.open(tmp_path / "run"), num_epochs=2, device="cpu")
    assert shard == training.loader.windows.shard
    assert len(training.train()) == 2


def test_a_training_on_a_text_that_was_no_file_is_reopened_with_it(tmp_path: Path) -> None:
    """The program gives both parts; another text is refused."""
    train, valid = tl.Corpus.from_text(BOOK).hold_out(0.2)
    run = make_run(tmp_path / "run", tl.Corpus.from_text(BOOK))
    with pytest.raises(RunError, match="cannot be read again"):
        reopen_training(run)
    with pytest.raises(RunError, match="put the text there that it was trained on"):
        reopen_training(run, corpus=valid, held_out=train)
    training = reopen_training(run, corpus=train, held_out=valid, num_epochs=2, device="cpu")
    assert len(training.train()) == 2
