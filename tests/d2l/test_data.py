"""The textbook's way from a download to token ids and batches."""

import io
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tokenloom as tl
from tests.support.hub.file_server import Answer, FileServer, serving
from tests.support.hub.textbook import IS_REAL, answers, book, enter, offer
from tokenloom import d2l
from tokenloom.errors import ArgumentError, CorpusError

Pairs = Iterator[tuple[torch.Tensor, torch.Tensor]]
KINDS = [
    (d2l.seq_data_iter_random, tl.RandomWindows),
    (d2l.seq_data_iter_sequential, tl.SequentialWindows),
]
each_kind = pytest.mark.parametrize(("iterate", "windows_kind"), KINDS)


@pytest.fixture
def _served_book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve the whole book."""
    enter(tmp_path, monkeypatch)
    content = book()
    with serving(answers(content)) as server:
        offer(server, monkeypatch, content)
        yield


def listed(pairs: Pairs) -> list[tuple[list[list[int]], list[list[int]]]]:
    """Return pairs of tensors as pairs of lists."""
    return [(X.tolist(), Y.tolist()) for X, Y in pairs]


def epochs_of(windows_kind: Any, num_tokens: int, *, seed: int, num_epochs: int) -> list[Any]:
    """Return what `listed` is to return for the first epochs, three windows of five at a time.

    The calls of a process are counted for each seed, so each test has its own.
    """
    corpus = tl.Corpus.from_tokens(range(num_tokens))
    windows = windows_kind(corpus, batch_size=3, seq_len=5, seed=seed, shard=tl.Shard())
    epochs = []
    for epoch in range(num_epochs):
        windows.set_epoch(epoch)
        epochs.append([(batch.inputs.tolist(), batch.targets.tolist()) for batch in windows])
    return epochs


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """Run a server that has a short text under the textbook's name."""
    with serving(answers(TEXT)) as running:
        offer(running, monkeypatch, TEXT)
        yield running


@each_kind
def test_each_call_is_the_next_epoch(iterate: Callable[..., Pairs], windows_kind: type) -> None:
    """The n-th call gives the batches of epoch n - 1 of the windows."""
    expected = epochs_of(windows_kind, 100, seed=7, num_epochs=4)
    assert expected == [listed(iterate(list(range(100)), 3, 5, seed=7)) for _ in range(4)]


@each_kind
def test_pairs_are_shifted_by_one(iterate: Callable[..., Pairs], windows_kind: type) -> None:
    """Tuples of int64 tensors, the second one token ahead."""
    del windows_kind
    pairs = list(iterate(list(range(35)), batch_size=2, num_steps=5))
    assert 3 == len(pairs)
    for pair in pairs:
        assert isinstance(pair, tuple)
        X, Y = pair
        assert (2, 5) == tuple(X.shape) == tuple(Y.shape)
        assert torch.int64 == X.dtype == Y.dtype
        assert torch.equal(X + 1, Y)


@each_kind
def test_the_call_counts_not_the_reading(iterate: Callable[..., Pairs], windows_kind: type) -> None:
    """An iterator that is made first reads the earlier epoch, whenever it is read."""
    expected = epochs_of(windows_kind, 200, seed=8, num_epochs=2)
    first, second = (iterate(list(range(200)), 3, 5, seed=8) for _ in range(2))
    assert expected[0] != expected[1]
    assert expected[1] == listed(second)
    assert expected[0] == listed(first)


@each_kind
def test_calls_with_other_arguments_do_not_count(
    iterate: Callable[..., Pairs], windows_kind: type
) -> None:
    """Another corpus, size or seed has epochs of its own."""
    list(iterate(list(range(1, 101)), 3, 5, seed=9))
    list(iterate(list(range(100)), 2, 5, seed=9))
    list(iterate(list(range(100)), 3, 5, seed=10))
    (expected,) = epochs_of(windows_kind, 100, seed=9, num_epochs=1)
    assert expected == listed(iterate(list(range(100)), 3, 5, seed=9))


def test_the_order_is_the_same_in_every_process() -> None:
    """Repaired: the textbook seeds nothing."""
    program = """
from tokenloom import d2l
for iterate in (d2l.seq_data_iter_random, d2l.seq_data_iter_sequential):
    for _ in range(2):
        print([X.tolist() for X, Y in iterate(list(range(50)), 2, 4)])
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True
        ).stdout
        for _ in range(2)
    }
    assert 1 == len(outputs)
    assert 4 == len(set(outputs.pop().splitlines()))


def test_sequential_rows_continue() -> None:
    """Each row of a batch goes on where the batch before it ended."""
    pairs = list(d2l.seq_data_iter_sequential(list(range(35)), 2, 5))
    for (before, _), (after, _) in zip(pairs[:-1], pairs[1:], strict=True):
        assert torch.equal(before[:, -1] + 1, after[:, 0])


def test_the_sequential_offset_is_below_num_steps() -> None:
    """Repaired: the textbook draws it from one value too many, and loses a batch then."""
    firsts, counts = set(), set()
    for _ in range(200):
        pairs = list(d2l.seq_data_iter_sequential(list(range(35)), 2, 5))
        firsts.add(int(pairs[0][0][0, 0]))
        counts.add(len(pairs))
    assert set(range(5)) == firsts
    assert {3} == counts


def test_the_last_window_has_its_target() -> None:
    """Repaired: the newer edition counts a window too many where num_steps divides the rest."""
    for _ in range(50):
        for X, Y in d2l.seq_data_iter_random(list(range(31)), 1, 5):
            assert torch.equal(X + 1, Y)


@each_kind
def test_errors_come_with_the_call(iterate: Callable[..., Pairs], windows_kind: type) -> None:
    """Not with the first batch."""
    del windows_kind
    with pytest.raises(CorpusError, match="needs at least 11 tokens, the corpus has 10"):
        iterate(list(range(10)), 2, 5)


@each_kind
def test_corpora_may_be_tensors(iterate: Callable[..., Pairs], windows_kind: type) -> None:
    """As well as lists."""
    del windows_kind
    X, _ = next(iterate(torch.arange(50), 2, 5))
    assert (2, 5) == tuple(X.shape)


def test_other_processes_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The textbook trains in one process: the batch is not split over ranks."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    X, _ = next(d2l.seq_data_iter_random(list(range(50)), 2, 5))
    assert 2 == len(X)


@pytest.mark.usefixtures("_served_book")
@pytest.mark.parametrize("use_random_iter", [False, True])
def test_the_loader_reads_the_next_epoch_each_time(use_random_iter: bool) -> None:
    """Its epochs are those of the functions, whatever else was iterated."""
    loader = d2l.SeqDataLoader(4, 10, use_random_iter, 1000)
    iterate = d2l.seq_data_iter_random if use_random_iter else d2l.seq_data_iter_sequential
    for _ in range(3):
        assert listed(iterate(loader.corpus, 4, 10)) == listed(iter(loader))
    fresh = d2l.SeqDataLoader(4, 10, use_random_iter, 1000)
    assert listed(iter(fresh)) != listed(iter(loader))


@pytest.mark.usefixtures("_served_book")
def test_iterations_over_one_loader_do_not_disturb_each_other() -> None:
    """A peek at the first batch in the middle of a loop is no error."""
    loader, _ = d2l.load_data_time_machine(4, 10, max_tokens=500)
    expected = len(list(loader))
    num_batches = 0
    for _ in loader:
        next(iter(loader))
        num_batches += 1
    assert expected == num_batches


@pytest.mark.usefixtures("_served_book")
def test_the_loader_has_corpus_and_vocab() -> None:
    """By default the first 10,000 characters, in sequential order."""
    loader, vocab = d2l.load_data_time_machine(32, 35)
    corpus, _ = d2l.load_corpus_time_machine(10_000)
    assert corpus == loader.corpus
    assert vocab is loader.vocab
    (before, _), (after, _) = list(loader)[:2]
    row = torch.cat([before[3], after[3]]).tolist()
    text = "".join(vocab.to_tokens(corpus))
    assert "".join(vocab.to_tokens(row)) in text


TEXT = b"The Time Machine\r\n\r\nby H. G. Wells [1898]\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder."""
    enter(tmp_path, monkeypatch)


def test_the_hub_knows_the_time_machine() -> None:
    """Address and SHA-1 are the textbook's."""
    assert d2l.DATA_URL == "http://d2l-data.s3-accelerate.amazonaws.com/"
    assert d2l.DATA_HUB["time_machine"] == (
        d2l.DATA_URL + "timemachine.txt",
        "090b5e7e70c295757f55df93cb0a180b9691891a",
    )


def test_a_download_goes_to_the_folder_data(server: FileServer) -> None:
    """The path is a string, as the textbook's readers expect."""
    path = d2l.download("time_machine")
    assert Path("data", "timemachine.txt") == Path(path)
    assert isinstance(path, str)
    assert TEXT == Path(path).read_bytes()
    assert ["/timemachine.txt"] == server.asked


def test_a_download_goes_where_it_is_told(server: FileServer, tmp_path: Path) -> None:
    """The folder is made where it is missing."""
    path = d2l.download("time_machine", tmp_path / "a" / "b")
    assert str(tmp_path / "a" / "b" / "timemachine.txt") == path
    assert server.asked


def test_a_download_goes_to_the_cache_that_the_environment_names(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies there is used, and a folder that is named in the call wins."""
    monkeypatch.setenv("TOKENLOOM_CACHE", str(tmp_path / "cache"))
    path = d2l.download("time_machine")
    assert (str(tmp_path / "cache" / "timemachine.txt"), 1) == (path, len(server.asked))
    monkeypatch.setenv("TOKENLOOM_OFFLINE", "1")
    assert path == d2l.download("time_machine")
    assert ["the time machine", "", "by h g wells"] == d2l.read_time_machine()
    with pytest.raises(tl.DownloadError, match="TOKENLOOM_OFFLINE"):
        d2l.download("time_machine", tmp_path / "other")
    assert not Path("data").exists()


def test_a_download_is_asked_from_the_mirror_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address in DATA_HUB is not asked."""
    mirrored = {"/texts/timemachine.txt": Answer(body=TEXT)}
    with serving(answers(TEXT)) as usual, serving(mirrored) as mirror:
        offer(usual, monkeypatch, TEXT)
        monkeypatch.setenv("TOKENLOOM_MIRROR", mirror.url + "/texts/")
        assert TEXT == Path(d2l.download("time_machine")).read_bytes()
        assert ([], ["/texts/timemachine.txt"]) == (usual.asked, mirror.asked)
    monkeypatch.setenv("TOKENLOOM_MIRROR", "ftp://nowhere")
    with pytest.raises(tl.TokenloomError, match="TOKENLOOM_MIRROR must be"):
        d2l.download("time_machine")


def test_a_file_with_the_right_hash_needs_no_network(server: FileServer) -> None:
    """Also one that was put there by hand."""
    Path("data").mkdir()
    Path("data/timemachine.txt").write_bytes(TEXT)
    d2l.download("time_machine")
    assert [] == server.asked


def test_a_file_with_a_wrong_hash_is_replaced(server: FileServer) -> None:
    """Half a file of an earlier attempt does no harm."""
    Path("data").mkdir()
    Path("data/timemachine.txt").write_bytes(TEXT[:9])
    assert TEXT == Path(d2l.download("time_machine")).read_bytes()
    assert 1 == len(server.asked)


@pytest.mark.parametrize("status", [200, 404])
def test_an_error_page_is_never_kept(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Repaired: the textbook keeps whatever came, and reads it for ever after."""
    page = Answer(body=b"<html>Sorry</html>", status=status, content_type="text/html")
    with serving({"/timemachine.txt": page}) as server:
        offer(server, monkeypatch, TEXT)
        with pytest.raises((tl.ChecksumError, tl.DownloadError), match=r"timemachine\.txt"):
            d2l.download("time_machine")
    assert not Path("data/timemachine.txt").exists()


def test_errors_name_cures_that_help(monkeypatch: pytest.MonkeyPatch) -> None:
    """The textbook's download has no mirror and no cache of the environment."""
    with serving({}) as server:
        offer(server, monkeypatch, TEXT)
        with pytest.raises(tl.DownloadError, match=r"or name another url in DATA_HUB$"):
            d2l.download("time_machine")
    Path("file").touch()
    with pytest.raises(tl.DownloadError, match=r"^cannot write .*, or name another cache_dir$"):
        d2l.download("time_machine", cache_dir="file")


def test_a_url_without_a_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is named like the end of its url."""
    monkeypatch.setitem(d2l.DATA_HUB, "mine", ("http://127.0.0.1:9/x/", "0" * 40))
    with pytest.raises(ArgumentError, match=r"^the url of 'mine' in DATA_HUB must end in the"):
        d2l.download("mine")


def test_offline_nothing_is_asked(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is there is used; for another one the message says where to put it."""
    monkeypatch.setenv("TOKENLOOM_OFFLINE", "1")
    with pytest.raises(tl.DownloadError, match=r"put the file at data.timemachine\.txt"):
        d2l.download("time_machine")
    Path("data").mkdir()
    Path("data/timemachine.txt").write_bytes(TEXT)
    d2l.download("time_machine")
    assert [] == server.asked


def test_entries_are_read_at_each_call(monkeypatch: pytest.MonkeyPatch, server: FileServer) -> None:
    """A reader adds names of his own."""
    offer(server, monkeypatch, TEXT, name="mine")
    assert ["the time machine", "", "by h g wells"] == d2l.read_time_machine("mine")


def test_an_unknown_name_is_refused() -> None:
    """The message lists the known ones."""
    with pytest.raises(ArgumentError, match=r"DATA_HUB, which has time_machine, got 'moon'"):
        d2l.download("moon")


def test_a_hash_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be verified is not downloaded."""
    monkeypatch.setitem(d2l.DATA_HUB, "mine", ("http://127.0.0.1:9/x", "abc"))
    with pytest.raises(ArgumentError, match="got 'sha1:abc'"):
        d2l.download("mine")


@pytest.mark.usefixtures("server")
def test_lines_are_normalised() -> None:
    """Empty lines stay; an end of line in the style of Windows is one."""
    assert ["the time machine", "", "by h g wells"] == d2l.read_time_machine()


@pytest.mark.usefixtures("server")
def test_timemachine_is_an_alias() -> None:
    """Of the name of the text, and of the function."""
    assert d2l.read_time_machine("timemachine") == d2l.timemachine() == d2l.read_time_machine()


def test_the_name_is_not_ignored(monkeypatch: pytest.MonkeyPatch, server: FileServer) -> None:
    """Repaired: the textbook reads The Time Machine whatever it is asked for."""
    other = b"A different book"
    with serving({"/other.txt": Answer(body=other)}) as second:
        offer(second, monkeypatch, other, name="other")
        url, sha1 = d2l.DATA_HUB["other"]
        d2l.DATA_HUB["other"] = (url.replace("timemachine", "other"), sha1)
        assert ["a different book"] == d2l.read_time_machine("other")
    assert [] == server.asked


@given(st.text(alphabet="ab Z\n\r\x0b\x0c\x85\u2028-9é"))
def test_lines_are_the_textbooks(text: str) -> None:
    """Lines end where a text file's do, and each is normalised as the textbook does."""
    expected = [
        re.sub("[^A-Za-z]+", " ", line).strip().lower() for line in io.StringIO(text, newline=None)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tokenloom.d2l.data.download", lambda *_: "book.txt")
        patch.setattr("tokenloom.d2l.data.read_file", lambda _: text.encode())
        assert expected == d2l.read_time_machine()


def test_words_and_characters() -> None:
    """An empty line has no tokens."""
    lines = ["the time", ""]
    assert [["the", "time"], []] == d2l.tokenize(lines)
    assert [list("the time"), []] == d2l.tokenize(lines, "char")


def test_an_unknown_kind_of_token_is_refused() -> None:
    """Repaired: the textbook prints that it does not know it and returns None."""
    with pytest.raises(ArgumentError, match="'word' or 'char', got 'syllable'"):
        d2l.tokenize(["a"], token="syllable")  # noqa: S106  no password


@pytest.mark.parametrize(
    "tokens", [["b", "a", "b"], [["b"], [], ["a", "b"]], Counter(["b", "a", "b"])]
)
def test_tokens_are_counted_flat_or_nested(tokens: list[str]) -> None:
    """In order of first appearance."""
    counts = d2l.count_corpus(tokens)
    assert isinstance(counts, Counter)
    assert [("b", 2), ("a", 1)] == list(counts.items())


def test_nothing_is_counted() -> None:
    """An empty text is no error here."""
    assert Counter() == d2l.count_corpus([])


def test_ids_follow_frequency() -> None:
    """The unknown token, reserved tokens, then falling counts, ties as they appear."""
    vocab = d2l.Vocab(list("cabbage"), min_freq=0, reserved_tokens=["<pad>", "<bos>"])
    assert ["<unk>", "<pad>", "<bos>", "a", "b", "c", "g", "e"] == vocab.idx_to_token
    assert {token: id_ for id_, token in enumerate(vocab.idx_to_token)} == vocab.token_to_idx
    assert [("a", 2), ("b", 2), ("c", 1), ("g", 1), ("e", 1)] == vocab.token_freqs
    assert (8, 0) == (len(vocab), vocab.unk)


def test_rare_tokens_are_unknown() -> None:
    """They keep their counts."""
    vocab = d2l.Vocab(list("cabbage"), 2)
    assert [0, 1, 2] == vocab[["c", "a", "b"]]
    assert ("e", 1) in vocab.token_freqs


def test_a_vocabulary_of_nothing_has_the_unknown_token() -> None:
    """As where a reader fills it later."""
    assert (["<unk>"], []) == (d2l.Vocab().idx_to_token, d2l.Vocab().token_freqs)


def test_nested_tokens_have_nested_ids() -> None:
    """Lists and tuples, and back again."""
    vocab = d2l.Vocab(["the", "the", "time"])
    assert [[1, 2], [0]] == vocab[[["the", "time"], ["x"]]]
    assert [1, 2] == vocab["the", "time"]
    assert [["the", "time"], ["<unk>"]] == vocab.to_tokens([[1, 2], [0]])


@pytest.mark.parametrize(
    "indices", [[1, 0], (1, 0), np.array([1, 0]), torch.tensor([1, 0])], ids=type
)
def test_ids_may_come_in_any_shape(indices: object) -> None:
    """Also as an array or a tensor."""
    assert ["a", "<unk>"] == d2l.Vocab(["a"]).to_tokens(indices)


def test_one_id_has_one_token() -> None:
    """Also where it is a tensor of no dimension."""
    vocab = d2l.Vocab(["a"])
    assert "a" == vocab.to_tokens(1) == vocab.to_tokens(torch.tensor(1))


def test_pairs_are_tokens() -> None:
    """The chapter on language models counts pairs and triples of words."""
    words = ["the", "time", "the", "time", "machine"]
    vocab = d2l.Vocab(list(zip(words[:-1], words[1:], strict=True)))
    assert (("the", "time"), 2) == vocab.token_freqs[0]
    assert 1 == vocab["the", "time"]
    assert [1, 2] == vocab[[("the", "time"), ("time", "the")]]
    assert ("the", "time") == vocab.to_tokens(1)


@given(st.text(alphabet="abcdé ", min_size=1), st.integers(0, 3))
def test_ids_are_those_of_the_packages_vocabulary(text: str, min_freq: int) -> None:
    """One order of ids, whichever class a reader takes."""
    theirs = d2l.Vocab(list(text), min_freq, ["<pad>"])
    ours = tl.Vocab(list(text), min_freq=min_freq, reserved_tokens=["<pad>"])
    assert list(ours.tokens) == theirs.idx_to_token
    assert list(ours.frequencies.items()) == theirs.token_freqs


@pytest.mark.usefixtures("_served_book")
def test_the_corpus_is_a_list_of_the_textbooks_ids() -> None:
    """Ids of characters, line after line, as a list."""
    corpus, vocab = d2l.load_corpus_time_machine()
    characters = [c for line in d2l.read_time_machine() for c in line]
    assert isinstance(corpus, list)
    assert d2l.Vocab(characters).token_freqs == vocab.token_freqs
    assert vocab[characters] == corpus
    assert corpus[:10] == vocab[characters[:10]]


@pytest.mark.usefixtures("_served_book")
@pytest.mark.parametrize("max_tokens", [-1, 0, 1, 500])
def test_the_vocabulary_comes_before_the_cut(max_tokens: int) -> None:
    """It is the whole text's, however few tokens are kept."""
    whole, expected = d2l.load_corpus_time_machine()
    corpus, vocab = d2l.load_corpus_time_machine(max_tokens)
    assert expected.token_freqs == vocab.token_freqs
    assert (whole if max_tokens < 1 else whole[:max_tokens]) == corpus


@pytest.mark.skipif(not IS_REAL, reason="the real text is not beside the project")
@pytest.mark.usefixtures("_served_book")
def test_the_real_text_has_the_textbooks_numbers() -> None:
    """Lines, characters, words and their most frequent ones."""
    lines = d2l.read_time_machine()
    corpus, vocab = d2l.load_corpus_time_machine()
    words = d2l.Vocab(d2l.tokenize(lines))
    assert (3221, 170_580, 28, 4580) == (len(lines), len(corpus), len(vocab), len(words))
    assert [3, 9, 2, 1, 3, 5, 13, 2] == corpus[:8]
    assert [("the", 2261), ("i", 1267), ("and", 1245)] == words.token_freqs[:3]
