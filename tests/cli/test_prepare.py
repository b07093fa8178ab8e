"""The command that prepares a store."""

import io
import json
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import tokenloom as tl
from tokenloom.cli.main import main

LINES = "To be, or not to be:\nthat is the question.\n" * 20


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a text in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text(LINES, encoding="utf-8")
    return "book.txt"


def test_a_summary_is_printed(book: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Results go to stdout; a second time it says that there is nothing to do."""
    assert main(["prepare", book, "-o", "store", "--tokenizer", "word"]) == 0
    shown = capsys.readouterr()
    for row in (
        "documents             1\n",
        "tokens                200\n",
        "vocabulary            9\n",
    ):
        assert row in shown.out
    assert "characters per token  4.30\nunknown rate          0.0000%\n" in shown.out
    assert "read                  860 bytes\n" in shown.out
    assert re.search(r"speed                 [\d.]+ kB/s\n", shown.out)
    assert "" == shown.err

    assert main(["prepare", book, "-o", "store", "--tokenizer", "word"]) == 0
    shown = capsys.readouterr()
    assert "tokens                200\n" in shown.out
    assert "read" not in shown.out
    assert main(["prepare", book, "-o", "store", "--tokenizer", "word", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (0, None) == (result["num_bytes_read"], result["megabytes_per_second"])
    assert "tokenloom: store is finished already, of the same sources and options\n" == shown.err


def test_the_older_word_for_jsonl_is_named(book: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is accepted up to the next release."""
    Path(book).write_text('{"text": "a b"}\n', encoding="utf-8")
    assert main(["prepare", book, "-o", "store", "--documents", "record"]) == 0
    expected = "tokenloom: warning: --documents record is now --documents jsonl\n"
    assert expected == capsys.readouterr().err


def test_every_option_is_used(
    book: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each changes the store as Python's option of that name does."""
    del book
    content = b'{"body": "To be, be"}\n{"body": 3}\n{"body": "or not"}'
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    options = "--documents jsonl --field body --on-error skip --tokenizer word --raw --min-freq 2"
    more = "--reserved-tokens <pad>,x --end-of-document <eod> --split valid=0.4 --split-by block"
    words = ["prepare", "-", "-o", "store", *options.split(), *more.split(), "--workers", "1"]
    assert main([*words, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert {"a missing field": 1} == made["problems"]
    assert (2, 7, 5) == (made["num_documents"], made["num_tokens"], made["num_unknown"])
    corpus = tl.Corpus.open("store")
    assert corpus.vocab is not None
    assert ("<unk>", "<pad>", "x", "<eod>") == corpus.vocab.tokens
    assert 3 == len(tl.Corpus.open("store", split="valid"))


def test_the_most_frequent_words_get_an_id(book: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The store says how many others there are, and a size that is too small is refused."""
    words = ["prepare", book, "--tokenizer", "word", "--quiet", "--vocab-size"]
    assert main([*words, "5", "-o", "store", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    num_types = tl.Corpus.from_text(Path(book).read_text(), tokenizer="word").vocab_size
    assert (5, num_types - 5) == (made["vocab_size"], made["num_unknown_types"])
    assert main(["info", "store"]) == 0
    assert f"unknown types         {made['num_unknown_types']}\n" in capsys.readouterr().out
    assert main([*words, "1", "-o", "small"]) == 1
    assert "error: --vocab-size must be at least 2, for <unk>" in capsys.readouterr().err
    assert main(["prepare", book, "--tokenizer", "byte", "--vocab-size", "9", "-o", "b"]) == 1
    assert "--vocab-size must be left out" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["jsonl", "record"], ["record", "jsonl"]])
def test_the_older_word_for_records_makes_the_same_store(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whichever of the two was typed, and the other one finds the store finished."""
    source = tmp_path / "a.txt"
    source.write_text('{"text": "To be"}\n{"text": "or not"}\n', encoding="utf-8")
    for number, word in enumerate(words):
        options = ["--documents", word, "--workers", "0"]
        assert main(["prepare", str(source), "-o", str(tmp_path / str(number)), *options]) == 0
    one, other = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "01"
    )
    assert one == other
    assert b'"documents": "record"' in one["manifest.json"]
    assert 2 == tl.Corpus.open(tmp_path / "0").num_documents
    capsys.readouterr()
    options = ["--documents", words[1]]
    assert main(["prepare", str(source), "-o", str(tmp_path / "0"), *options]) == 0
    assert "is finished already, of the same sources and options" in capsys.readouterr().err


def test_a_split_without_tokens_names_the_option_once(
    book: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what to type."""
    assert main(["prepare", book, "-o", "store", "--split", "valid=0.3"]) == 1
    expected = "choose other fractions, or --split-by block; nothing has to be tokenised again"
    assert expected in capsys.readouterr().err


def test_the_tokenizer_of_another_store(book: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Or a vocabulary in a file; ids of documents' ends are numbers then."""
    assert main(["prepare", book, "-o", "first", "--tokenizer", "word"]) == 0
    Path("more.txt").write_text("to be or what", encoding="utf-8")
    second = ["prepare", "more.txt", "-o", "second", "--tokenizer", "first"]
    assert main([*second, "--end-of-document", "0"]) == 0
    first, made = tl.Corpus.open("first"), tl.Corpus.open("second")
    assert first.tokenizer == made.tokenizer
    assert "to be or <unk> <unk>" == made.decode(made.tokens)
    assert main(["prepare", "more.txt", "-o", "third", "--tokenizer", "first/vocab.json"]) == 0
    assert first.vocab == tl.Corpus.open("third").vocab
    capsys.readouterr()
    assert main(["prepare", "more.txt", "-o", "fourth", "--tokenizer", "bpf"]) == 1
    names = "char, word, byte, bpe"
    assert f"--tokenizer must be {names}, the folder of a store" in capsys.readouterr().err


def test_places_with_a_problem_are_counted(book: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Under the problem's name."""
    Path("bad.txt").write_bytes(b"abc\xff")
    assert main(["prepare", book, "bad.txt", "-o", "store", "--on-error", "skip"]) == 0
    assert "places with undecodable bytes  1\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.txt"], "a source must be a file, a folder"),
        (["bad.txt"], "bad.txt has undecodable bytes at byte 3"),
        (["book.txt", "--split", "valid=2"], "--split must be fractions above 0"),
        (["book.txt", "--split", "a=0.1", "--split", "a=0.2"], "--split must name each part once"),
        (
            ["book.txt", "--tokenizer", "byte", "--raw"],
            "--raw must be left out",
        ),
        (
            ["book.txt", "--tokenizer", "byte", "--end-of-document", "9" * 5000],
            "--end-of-document must be an id in [0, 256)",
        ),
    ],
)
def test_errors_are_one_line(
    book: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a traceback, and without a store."""
    del book
    Path("bad.txt").write_bytes(b"abc\xff")
    assert main(["prepare", *arguments, "-o", "store"]) == 1
    shown = capsys.readouterr()
    assert "" == shown.out
    assert shown.err.startswith("tokenloom: error: ")
    assert message in shown.err
    assert 1 == shown.err.count("\n")
    assert not Path("store").exists()


@pytest.mark.parametrize("split", ["valid", "=0.5", "valid=", "=b.txt"])
def test_a_split_has_a_name_and_a_value(split: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Else the usage is wrong."""
    assert main(["prepare", "a", "-o", "b", "--split", split]) == 2
    assert "must be a name and a fraction, like valid=0.1" in capsys.readouterr().err


def test_info_prints_it_again(book: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With the lengths of documents, drawn."""
    words = ["prepare", book, book, "-o", "store", "--tokenizer", "word", "--quiet"]
    assert main(words) == 0
    capsys.readouterr()
    assert main(["info", "store", "--top", "1", "--plot", "lengths.png"]) == 0
    shown = capsys.readouterr().out
    for row in (
        "characters per token  4.30",
        "vocabulary            ",
        "unknown rate",
        "unknown tokens        0\n",
        "option on_error",
        "book.txt, book.txt",
    ):
        assert row in shown
    assert "[128, 256)  2\n" in shown
    assert Path("lengths.png").read_bytes().startswith(b"\x89PNG")
    assert main(["info", "store", "--json", "--plot", "lengths.svg"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {"start": 128, "stop": 256, "num_documents": 2} == result["document_lengths"][-1]
    assert ("lengths.svg", 0.0) == (result["plot"], result["unknown_rate"])


def test_show_prints_where_rows_begin(book: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The source, the document and the character."""
    assert main(["prepare", book, "-o", "store"]) == 0
    capsys.readouterr()
    shape = ["--batch-size", "2", "--seq-len", "8"]
    assert main(["show", "store", *shape, "--json"]) == 0
    for row in json.loads(capsys.readouterr().out)["rows"]:
        assert ("book.txt", 0) == (row["source"], row["document"])
        first = row["inputs"][0]
        assert first in (LINES[row["character"]].lower(), " ")
    assert main(["show", "store", *shape]) == 0
    assert ", book.txt, document 0, character " in capsys.readouterr().out


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_is_no_vocabulary(book: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is not waited for, and the option is named."""
    os.mkfifo("vocab.json")
    assert 1 == main(["prepare", book, "-o", "store", "--tokenizer", "vocab.json"])
    assert "--tokenizer must be a file that can be read" in capsys.readouterr().err


@pytest.mark.usefixtures("book")
def test_reserved_tokens_may_stop(capsys: pytest.CaptureFixture[str]) -> None:
    """By default they are counted."""
    Path("text.txt").write_text("to be <eod> or", encoding="utf-8")
    how = ["text.txt", "--tokenizer", "word", "--raw", "--end-of-document", "<eod>"]
    assert 0 == main(["prepare", *how, "-o", "counted"])
    assert "places with the reserved token '<eod>'  1" in capsys.readouterr().out
    assert 1 == main(["prepare", *how, "-o", "stopped", "--on-reserved", "stop"])
    shown = capsys.readouterr().err
    assert "text.txt has the reserved token '<eod>' at byte 6: in line 1" in shown
    assert "--on-reserved count" in shown


def test_a_split_of_a_store_has_its_tokenizer_and_is_no_source(
    book: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A split is known wherever a store is."""
    split = ["--split", "valid=0.2", "--split-by", "block"]
    assert main(["prepare", book, "-o", "store", *split, "--quiet"]) == 0
    assert main(["prepare", book, "-o", "new", "--tokenizer", "store/valid", "--quiet"]) == 0
    assert tl.Corpus.open("store").vocab == tl.Corpus.open("new").vocab
    assert main(["prepare", "store/valid", "-o", "third", "--quiet"]) == 1
    assert "'store/valid' is a split of a store already" in capsys.readouterr().err


def test_splits_are_named_by_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By patterns, and more than once; sources without a name are those of 'train'."""
    monkeypatch.chdir(tmp_path)
    for name in ("a1", "a2", "b", "c"):
        Path(f"{name}.txt").write_text(f"time flies {name}", encoding="utf-8")
    how = ["--tokenizer", "byte", "--quiet", "--json"]
    named = ["--split", "valid=b.txt", "--split", "train=a*.txt", "--split", "valid=c.txt"]
    assert main(["prepare", *named, "-o", "named", *how]) == 0
    told = json.loads(capsys.readouterr().out)["splits"]
    beside = ["a1.txt", "a2.txt", "--split", "valid=b.txt", "--split", "valid=c.txt"]
    assert main(["prepare", *beside, "-o", "beside", *how]) == 0
    assert main(["prepare", *beside, "-o", "beside", *how[:-1]]) == 0

    assert {"train": 26, "valid": 24} == {name: each["num_tokens"] for name, each in told.items()}
    assert "split valid           24 tokens\n" in capsys.readouterr().out
    corpora = [tl.load(f"{store}/valid") for store in ("named", "beside")]
    assert ["time flies btime flies c"] * 2 == [each.decode(each.tokens) for each in corpora]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "there must be a SOURCE, or a --split NAME=SOURCE, got none"),
        (["a.txt", "--split", "x=0.1", "--split", "y=b.txt"], "fractions or sources, got a fract"),
        (["a.txt", "--split", "x=b.txt", "--split-by", "block"], "leave out --split-by: it choos"),
        (["a.txt", "--split", "x=a.txt"], "in one split, a.txt is in 'train' and in 'x': leave"),
        (["--split", "x=?.csv"], "'?.csv' must hold at least one file"),
    ],
)
def test_splits_that_cannot_be(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    """The message says which."""
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        Path(f"{name}.txt").write_text("time flies", encoding="utf-8")
    assert main(["prepare", *words, "-o", "store", "--quiet"]) == 1
    assert message in capsys.readouterr().err


def test_the_tokenizer_of_a_store_without_one_is_refused(
    book: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ids alone say nothing of how texts are encoded."""
    tl.Corpus.from_tokens(range(9)).save("ids")
    assert main(["prepare", book, "-o", "store", "--tokenizer", "ids"]) == 1
    assert "--tokenizer must be a store that holds its tokenizer" in capsys.readouterr().err


def test_messages_about_sources_do_not_speak_of_python(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a call in Python would be given is no advice at the command line."""
    for source in ("nowhere", "What is this?"):
        assert main(["prepare", source, "-o", str(tmp_path / "store")]) == 1
        error = capsys.readouterr().err
        assert "got " in error
        assert "iter" not in error


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ("", "--vocab-size 9", "the tokenizer was 'char', now 'char' with --vocab-size 9"),
        ("--tokenizer word", "", "the tokenizer was 'word', now 'char'"),
        (
            "--tokenizer byte",
            "--raw",
            "the tokenizer was 'byte', now 'char'; normalisation was on, ",
        ),
        (
            "",
            "--min-freq 2 --documents line",
            "--documents was 'file', now 'line'; --min-freq was ",
        ),
        ("--split valid=0.1 --split-by block", "", "the split 'valid' was 0.1, now none"),
        ("", "--end-of-document <e>", "--end-of-document was none, now '<e>'"),
    ],
)
def test_what_a_store_was_made_of_is_compared_in_words(
    book: str, before: str, now: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the options of the shell, or the words of people, and never by hashes."""
    command = ["prepare", book, "-o", "store", "--workers", "0", "--quiet"]
    assert main([*command, *before.split()]) == 0
    capsys.readouterr()
    assert main([*command, *now.split()]) == 1
    error = capsys.readouterr().err
    assert f"store is a store already, and not of these sources and settings: {expected}" in error
    assert error.endswith("; name another folder, or remove the store\n")
