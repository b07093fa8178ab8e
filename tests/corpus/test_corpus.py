"""The corpus: from text and from ids, its parts, its proof, its way to workers."""

import copy
import functools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from tests.support.loading.resume import assert_resumes_everywhere, rows_of
from tests.support.preparation.stores import make_corpus, make_store
from tokenloom import (
    Corpus,
    Loader,
    PrepareOptions,
    RandomWindows,
    RNNModel,
    SequentialWindows,
    StateMismatchError,
    StoreError,
    Vocab,
    evaluate,
    prepare,
)
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.store.reader import open_store
from tokenloom.text.identity import Identity
from tokenloom.text.tokenizers import ByteTokenizer, CharTokenizer, WordTokenizer

NUM_MAPPED = 100_000


class OddTokenizer:
    """A tokenizer of somebody else: the length of each word, up to 9 letters."""

    vocab_size = 10

    def encode(self, text: str, /) -> list[int]:
        """Return the lengths of words."""
        return [len(word) for word in text.split()]

    def decode(self, ids: list[int], /) -> str:
        """Return words of x."""
        return " ".join("x" * id_ for id_ in ids)


@pytest.fixture
def mapped(tmp_path: Path) -> npt.NDArray[Any]:
    """Return a memory map in which every token is its position, modulo 65,536."""
    path = tmp_path / "tokens.npy"
    np.save(path, np.arange(NUM_MAPPED).astype(np.uint16))
    tokens: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    return tokens


def _vocab(corpus: Corpus) -> Vocab:
    assert corpus.vocab is not None
    return corpus.vocab


def _copy(corpus: Corpus) -> Corpus:
    copied: Corpus = pickle.loads(pickle.dumps(corpus))  # noqa: S301  our own bytes
    return copied


def _offsets(corpus: Corpus) -> list[int]:
    assert corpus.documents is not None
    offsets: list[int] = corpus.documents.tolist()
    return offsets


def test_from_text_counts_before_it_cuts() -> None:
    """``max_tokens`` keeps the beginning; the vocabulary is that of the whole text."""
    corpus = Corpus.from_text("abbb", max_tokens=1)

    expected = ([2], ("<unk>", "b", "a"))
    assert expected == (corpus.tokens.tolist(), _vocab(corpus).tokens)


def test_from_text_may_be_shorter_than_max_tokens() -> None:
    """``max_tokens`` is an upper bound."""
    expected = 4
    assert expected == len(Corpus.from_text("abbb", max_tokens=100))


@pytest.mark.parametrize("max_tokens", [0, -1])
def test_from_text_of_no_tokens_at_all(max_tokens: int) -> None:
    """``max_tokens`` below 1 is refused."""
    with pytest.raises(ArgumentError, match=str(max_tokens)):
        Corpus.from_text("abbb", max_tokens=max_tokens)


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        ("char", ("<unk>", "<pad>", " ", "a")),
        ("word", ("<unk>", "<pad>", "a", "b")),
    ],
)
def test_from_text_passes_on_what_the_vocabulary_needs(
    tokenizer: str, expected: tuple[str, ...]
) -> None:
    """Rare tokens get no id, reserved ones get the first."""
    text = "a b c b a" if tokenizer == "word" else "a b c a"
    corpus = Corpus.from_text(text, tokenizer=tokenizer, min_freq=2, reserved_tokens=["<pad>"])

    assert expected == _vocab(corpus).tokens


def test_from_text_takes_reserved_tokens_once() -> None:
    """Reserved tokens may come from an iterator."""
    corpus = Corpus.from_text("a", reserved_tokens=iter(["<pad>"]))

    expected = ("<unk>", "<pad>", "a")
    assert expected == _vocab(corpus).tokens


def test_from_text_without_normalising() -> None:
    """Without normalisation every character is a token."""
    corpus = Corpus.from_text("A\na", normalize=False)

    expected = ("<unk>", "A", "\n", "a")
    assert expected == _vocab(corpus).tokens


@pytest.mark.parametrize("tokenizer", ["char", "word"])
def test_from_bytes_drops_a_byte_order_mark(tokenizer: str) -> None:
    """What some editors put before a text is no token of it."""
    corpus = Corpus.from_text(b"\xef\xbb\xbfab", tokenizer=tokenizer, normalize=False)

    expected = "ab"
    assert expected == corpus.decode(corpus.tokens)


def test_from_bytes_keeps_every_byte() -> None:
    """Byte tokens are the bytes, text or not."""
    expected = [239, 187, 191, 255, 13, 10]
    actual = Corpus.from_text(b"\xef\xbb\xbf\xff\r\n", tokenizer="byte").tokens.tolist()
    assert expected == actual


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "got byte 0xff at offset 0 "),
        (b"caf\xe9 au lait", r"got byte 0xe9 at offset 3 \(invalid continuation byte\)"),
        (b"\xef\xbb\xbfab\x80", "got byte 0x80 at offset 5 "),
        (b"abc\xe2\x82", r"got byte 0xe2 at offset 3 \(unexpected end of data\)"),
    ],
)
def test_from_bytes_that_are_no_text(content: bytes, message: str) -> None:
    """Bytes that are no UTF-8 are refused with the first wrong byte and the cure."""
    with pytest.raises(
        CorpusError, match=rf'^menu must be text in utf-8, {message}.*tokenizer="byte"$'
    ):
        Corpus.from_text(content, name="menu")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "the text is empty"),
        (b"", {}, "the text is empty"),
        ("", {"tokenizer": "byte"}, "the text is empty"),
        (b"", {"tokenizer": "byte"}, "the text is empty"),
        ("", {"tokenizer": OddTokenizer()}, "the text is empty"),
        ("1898 ...\n", {}, "nothing but letters a-z survives .* use normalize=False"),
        ("1898", {"tokenizer": "word"}, "nothing but letters a-z survives .* use normalize=False"),
        (" \n", {"tokenizer": "word", "normalize": False}, "the tokenizer found none in it"),
        (" ", {"tokenizer": OddTokenizer()}, "the tokenizer found none in it"),
    ],
)
def test_from_text_without_a_token(text: str | bytes, options: Any, message: str) -> None:
    """A text that holds no token is refused with the reason."""
    with pytest.raises(
        CorpusError, match=f"^page must hold at least one token, got none: {message}$"
    ):
        Corpus.from_text(text, name="page", **options)


def test_from_text_with_an_unknown_tokenizer() -> None:
    """A name that no tokenizer has is refused with those there are."""
    with pytest.raises(ArgumentError, match=r"must be 'char', 'word', 'byte', .*got 'bpf'$"):
        Corpus.from_text("abc", tokenizer="bpf")


def test_foreign_tokenizer_makes_the_ids() -> None:
    """Any object with encode, decode and vocab_size will do."""
    expected = [3, 4, 7]
    actual = Corpus.from_text("the time machine", tokenizer=OddTokenizer()).tokens.tolist()
    assert expected == actual


def test_foreign_tokenizer_reads_bytes_as_text() -> None:
    """A foreign tokenizer gets str, also where the text came as bytes."""
    expected = [1, 2]
    assert expected == Corpus.from_text("é ab".encode(), tokenizer=OddTokenizer()).tokens.tolist()


def test_foreign_tokenizer_decodes() -> None:
    """The corpus decodes with the tokenizer that made it."""
    corpus = Corpus.from_text("the time", tokenizer=OddTokenizer())

    expected = "xxx xxxx"
    assert expected == corpus.decode(corpus.tokens)


def test_foreign_tokenizer_has_no_vocabulary() -> None:
    """Only its size is known."""
    corpus = Corpus.from_text("the time", tokenizer=OddTokenizer())

    expected = (None, 10)
    assert expected == (corpus.vocab, corpus.vocab_size)


def test_foreign_tokenizer_with_ids_out_of_range() -> None:
    """A tokenizer whose ids are not below its vocab_size is refused."""
    with pytest.raises(CorpusError, match=r"must be in \[0, 10\), got 11 at position 1$"):
        Corpus.from_text("my grandfather clockmaking", tokenizer=OddTokenizer())


def test_from_tokens_has_the_smallest_type() -> None:
    """Ids in a list are stored in as few bytes as they need."""
    expected = ("uint16", [3, 256])
    tokens = Corpus.from_tokens([3, 256]).tokens
    assert expected == (tokens.dtype.name, tokens.tolist())


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [
        ([3, -1], {}, r"\[0, the vocabulary size\), got -1 at position 1"),
        ([3, 4], {"vocab_size": 4}, r"\[0, 4\), got 4 at position 1"),
        (np.array([4], np.uint8), {"vocab_size": 4}, r"\[0, 4\), got 4 at position 0"),
        ([1, 3], {"vocab": Vocab(["a", "b"])}, r"\[0, 3\), got 3 at position 1"),
        ([[1, 2]], {}, r"got int64 of shape \(1, 2\)"),
        ([0.5], {}, r"got float64 of shape \(1,\)"),
        (torch.zeros(2, 2), {}, r"got float32 of shape \(2, 2\)"),
    ],
)
def test_from_tokens_that_are_wrong(tokens: Any, options: Any, message: str) -> None:
    """Ids that are negative, too large, nested or no integers are refused by name."""
    with pytest.raises(CorpusError, match=f"^token ids must be .*{message}$"):
        Corpus.from_tokens(tokens, **options)


@pytest.mark.parametrize("tokens", [[], (), np.array([], np.uint8), np.array([], np.int64)])
def test_from_no_tokens(tokens: npt.ArrayLike) -> None:
    """A corpus without a token is refused."""
    with pytest.raises(CorpusError, match=r"^mine must hold at least one token, got none$"):
        Corpus.from_tokens(tokens, name="mine")


def test_from_tokens_with_two_sizes() -> None:
    """A size that is not the vocabulary's is refused with both."""
    with pytest.raises(
        ArgumentError, match=r"^vocab_size must be len\(vocab\)=3 or be left out, got 4$"
    ):
        Corpus.from_tokens([1], vocab=Vocab(["a", "b"]), vocab_size=4)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 2),
        ({"vocab_size": 9}, 9),
        ({"vocab": Vocab(["a", "b"])}, 3),
        ({"vocab": Vocab(["a", "b"]), "vocab_size": 3}, 3),
    ],
)
def test_vocab_size_of_tokens(options: Any, expected: int) -> None:
    """The size is the one given, else the vocabulary's, else one more than the largest id."""
    assert expected == Corpus.from_tokens([1, 0], **options).vocab_size


@pytest.mark.parametrize("options", [{"vocab_size": 7}, {"vocab": Vocab(list("abcdef"))}])
@pytest.mark.parametrize("dtype", ["uint16", "int32"])
def test_ids_of_a_memory_map_are_checked_where_batches_read_them(
    tmp_path: Path, options: Any, dtype: str
) -> None:
    """As those of a store, in every part of the corpus and in workers."""
    ids = np.arange(200) % 7
    ids[150] = 50_256 if dtype == "uint16" else -1
    ids.astype(dtype).tofile(tmp_path / "x.bin")
    corpus = Corpus.from_tokens(np.memmap(tmp_path / "x.bin", dtype, "r"), **options)

    first, second = corpus.split(0.5)
    assert 9 == len(list(SequentialWindows(first, batch_size=1, seq_len=10)))
    for part in (corpus, second, pickle.loads(pickle.dumps(second))):  # noqa: S301  our own bytes
        windows = SequentialWindows(part, batch_size=1, seq_len=10)
        with pytest.raises(StoreError, match=rf"x.bin must hold ids in \[0, 7\), got {ids[150]}: "):
            list(windows)
        with pytest.raises(StoreError, match=r"x.bin must hold ids in \[0, 7\)"):
            list(Loader(windows, device="cpu", resident=True))
    with pytest.raises(StoreError, match=r"x.bin must hold ids in \[0, 7\)"):
        evaluate(RNNModel(torch.nn.RNN(7, 4), 7), second)


@pytest.mark.parametrize("vocab_size", [0, -1, "7", 1.5])
def test_a_vocabulary_size_is_an_integer(vocab_size: Any) -> None:
    """Of at least one."""
    with pytest.raises(ArgumentError, match=r"^vocab_size must be an integer of at least 1, got"):
        Corpus.from_tokens([0], vocab_size=vocab_size)


def test_vocab_size_of_a_memory_map(mapped: npt.NDArray[Any]) -> None:
    """The size of a memory map is what the caller says."""
    assert NUM_MAPPED == Corpus.from_tokens(mapped, vocab_size=NUM_MAPPED).vocab_size


@pytest.mark.parametrize("num_copies", [0, 1])
def test_unknown_vocab_size_of_a_memory_map(mapped: npt.NDArray[Any], num_copies: int) -> None:
    """A memory map is not read through for its largest id, here or in a worker."""
    corpus = Corpus.from_tokens(mapped, name="mine").slice(5, 9)
    for _ in range(num_copies):
        corpus = _copy(corpus)

    with pytest.raises(
        CorpusError,
        match=r"^the vocabulary size of mine, a memory map, .*pass vocab_size=\.\.\. to Corpus",
    ):
        _ = corpus.vocab_size


@pytest.mark.parametrize(
    ("vocab", "expected"),
    [(None, "1 2"), (Vocab(["a", "b"]), "ab"), (Vocab(["to", "be"]), "to be")],
)
@pytest.mark.parametrize("make", [list, np.array, torch.tensor])
def test_decode_of_tokens(vocab: Vocab | None, expected: str, make: Any) -> None:
    """Ids are read with the vocabulary; without one they stay numbers."""
    assert expected == Corpus.from_tokens([1, 2], vocab=vocab).decode(make([1, 2]))


def test_vocabulary_of_tokens_comes_back() -> None:
    """The corpus has the vocabulary that it was given."""
    vocab = Vocab(["to", "be"])

    assert vocab == Corpus.from_tokens([1, 2], vocab=vocab).vocab


def test_unsigned_array_is_not_copied() -> None:
    """The corpus reads the caller's array."""
    tokens = np.arange(9, dtype=np.uint16)

    assert tokens is Corpus.from_tokens(tokens).tokens


def test_memory_map_is_not_copied(mapped: npt.NDArray[Any]) -> None:
    """The corpus reads the caller's memory map."""
    assert np.shares_memory(mapped, Corpus.from_tokens(mapped, vocab_size=NUM_MAPPED).tokens)


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [("char", CharTokenizer), ("word", WordTokenizer), ("byte", ByteTokenizer)],
)
@pytest.mark.parametrize("text", ["ab", b"ab"])
def test_tokenizer_of_a_text(text: str | bytes, tokenizer: str, expected: type) -> None:
    """The corpus has the tokenizer that encodes more text like it."""
    assert expected is type(Corpus.from_text(text, tokenizer=tokenizer).tokenizer)


@pytest.mark.parametrize("shard_tokens", [4, 10])
def test_open_has_all_of_the_corpus(tmp_path: Path, shard_tokens: int) -> None:
    """Tokens, vocabulary and tokenizer are those that were saved; the name is the path."""
    corpus, folder = make_corpus(), make_store(tmp_path / "store", shard_tokens=shard_tokens)
    opened = Corpus.open(folder, verify=True)

    assert corpus.tokens.tolist() == opened.tokens.tolist()
    assert (corpus.vocab, corpus.tokenizer) == (opened.vocab, opened.tokenizer)
    assert f"Corpus({str(folder)!r}, 10 tokens, vocab_size=9)" == repr(opened)


def test_open_of_a_split(tmp_path: Path) -> None:
    """Only the tokens that the store keeps under that name."""
    opened = Corpus.open(make_store(tmp_path / "store"), split="train")

    assert make_corpus().tokens[:6].tolist() == opened.tokens.tolist()


def test_documents_must_fit_the_tokens() -> None:
    """Offsets that end elsewhere are refused."""
    with pytest.raises(CorpusError, match=r"from 0 to the 3 tokens, got \[0 4\]$"):
        Corpus.from_tokens([1, 2, 3], documents=[0, 4])


@pytest.mark.parametrize(
    ("tokenizer", "normalize"),
    [("char", True), ("char", False), ("word", True), ("word", False), ("byte", True)],
)
def test_documents_in_memory(tokenizer: str, normalize: bool) -> None:
    """They are numbered together, and each is what its text is."""
    texts, reserved = ["To be, or", "", "not to\nbé"], [] if tokenizer == "byte" else ["<pad>"]
    corpus = Corpus.from_documents(
        iter(texts), tokenizer=tokenizer, normalize=normalize, reserved_tokens=reserved
    )
    assert corpus.tokenizer is not None
    encoded = [np.asarray(corpus.tokenizer.encode(text)) for text in texts]
    assert np.concatenate(encoded).tolist() == corpus.tokens.tolist()
    assert corpus.documents is not None
    assert np.cumsum([0, *map(len, encoded)]).tolist() == corpus.documents.tolist()
    if corpus.vocab is not None:
        joined = ("\n" if normalize or tokenizer == "word" else "").join(texts)
        whole = Corpus.from_text(
            joined, tokenizer=tokenizer, normalize=normalize, reserved_tokens=["<pad>"]
        )
        assert (whole.vocab, whole.hash) == (corpus.vocab, corpus.hash)


def test_documents_that_are_none() -> None:
    """Each error says which."""
    with pytest.raises(ArgumentError, match=r"^document 1 must be a str, got int"):
        Corpus.from_documents(["a", 3])  # type: ignore[list-item]  # on purpose
    with pytest.raises(ArgumentError, match=r"must be a str, got dict: give its text alone$"):
        Corpus.from_documents([{"text": "a"}])  # type: ignore[list-item]  # on purpose
    with pytest.raises(CorpusError, match="at least one token, got none in 2 documents"):
        Corpus.from_documents(["1", "2"])
    with pytest.raises(ArgumentError, match="tokenizer must be 'char', 'word', 'byte'"):
        Corpus.from_documents(["a"], tokenizer="bpf")


TEXT = "To be, or\nnot to be?"


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("kind", ["char", "word"])
def test_a_vocabulary_encodes_as_its_tokenizer_does(kind: str, normalize: bool) -> None:
    """Whatever text comes through which door."""
    corpus = Corpus.from_text(TEXT, tokenizer=kind, normalize=normalize)
    vocab = corpus.vocab
    assert vocab is not None
    expected = corpus.tokens.tolist()
    assert expected == Corpus.from_text(TEXT, tokenizer=vocab).tokens.tolist()
    assert expected == Corpus.from_documents([TEXT], tokenizer=vocab).tokens.tolist()
    again = Corpus.from_tokens(corpus.tokens, vocab=vocab)
    assert corpus.tokenizer == again.tokenizer


@pytest.mark.parametrize("normalize", [True, False])
def test_a_vocabulary_of_short_words_stays_one_of_words(normalize: bool) -> None:
    """Each is a single character, as those of characters are."""
    corpus = Corpus.from_text("a b a", tokenizer="word", normalize=normalize)
    again = Corpus.from_text("b  a", tokenizer=corpus.vocab or "char")
    assert [2, 1] == again.tokens.tolist()


@pytest.mark.parametrize("texts", ["abc", b"abc"])
def test_one_text_is_no_iterable_of_documents(texts: Any) -> None:
    """Its characters would be documents."""
    with pytest.raises(ArgumentError, match=r"got b?'abc': pass \[text\]"):
        Corpus.from_documents(texts)


@pytest.mark.parametrize("make", [Corpus.from_text, Corpus.from_documents])
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"min_freq": -1}, "min_freq must be an integer of at least 0, got -1"),
        ({"min_freq": 1.5}, "min_freq must be an integer of at least 0, got 1.5"),
        ({"reserved_tokens": "<pad>"}, "reserved_tokens must be a sequence of str, got '<pad>'"),
    ],
)
def test_options_of_a_vocabulary_that_cannot_be(make: Any, how: Any, message: str) -> None:
    """A str of reserved tokens would be its characters."""
    with pytest.raises(ArgumentError, match=message):
        make("abc" if make is Corpus.from_text else ["abc"], **how)


def test_pickles_of_older_releases_are_read(tmp_path: Path) -> None:
    """They have the tokenizer itself, and no loss mask."""
    opened = Corpus.open(make_corpus().save(tmp_path / "store"))
    for corpus in (opened, Corpus.concatenate([opened, make_corpus()])):
        state = corpus.__getstate__()
        del state["_tokenizer"], state["_loss_mask"]
        older = object.__new__(Corpus)
        older.__setstate__({**state, "tokenizer": corpus.tokenizer})
        assert older.loss_mask is None
        assert older.hash == corpus.hash
        assert older.decode(older.tokens[:]) == corpus.decode(corpus.tokens[:])


def test_the_older_name_of_a_slice() -> None:
    """It gives the same tokens, and names its successor where it was called."""
    corpus = Corpus.from_tokens(range(9))
    with pytest.warns(DeprecationWarning, match=r"call Corpus.slice\(start, stop\)") as noted:
        part = corpus.section(3, 5)
    assert corpus.slice(3, 5).tokens.tolist() == part.tokens.tolist()
    assert __file__ == noted[0].filename


def test_the_older_name_of_the_offsets_still_works() -> None:
    """It warns, at the caller's line, and gives the same."""
    corpus = Corpus.from_tokens(range(9), documents=[0, 4, 9])
    with pytest.warns(DeprecationWarning, match=r"use Corpus.document_offsets") as noted:
        assert corpus.document_offsets is corpus.boundaries
    assert __file__ == noted[0].filename


@pytest.mark.parametrize(("start", "stop"), [(0, 9), (3, 5), (8, 9), (0, 100)])
def test_slice_is_that_of_the_tokens(start: int, stop: int) -> None:
    """A slice has the tokens of the half-open range, cut at the end."""
    assert (
        list(range(9))[start:stop]
        == Corpus.from_tokens(range(9)).slice(start, stop).tokens.tolist()
    )


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (5, 5), (5, 3), (9, 12), (-3, 5), (0, -1)])
def test_slice_without_a_token(start: int, stop: int) -> None:
    """A range that is empty or begins before the corpus is refused with both ends."""
    with pytest.raises(ArgumentError, match=f"< 9 tokens, got start={start} and stop={stop}$"):
        Corpus.from_tokens(range(9)).slice(start, stop)


def test_slice_keeps_the_rest() -> None:
    """A slice has the vocabulary, size, tokenizer and name of the whole."""
    whole = Corpus.from_text("abc", name="alphabet")
    part = whole.slice(1, 2)

    assert (whole.tokenizer, whole.vocab, whole.vocab_size, whole.name) == (
        part.tokenizer,
        part.vocab,
        part.vocab_size,
        part.name,
    )


def test_slice_is_not_copied() -> None:
    """A slice is a view of the tokens."""
    whole = Corpus.from_tokens(range(9))

    assert np.shares_memory(whole.tokens, whole.slice(3, 5).tokens)


@given(st.integers(2, 200), st.floats(0, 1))
def test_split_parts_are_the_whole(num_tokens: int, fraction: float) -> None:
    """Both parts together are all tokens, wherever the cut is."""
    corpus = Corpus.from_tokens(range(num_tokens))
    try:
        parts = corpus.split(fraction)
    except ArgumentError:
        # There is no room for a cut.
        parts = corpus.split(0.5)

    assert list(range(num_tokens)) == [id_ for part in parts for id_ in part.tokens.tolist()]


@pytest.mark.parametrize(("fraction", "expected"), [(0.9, 9), (0.5, 5), (0.99, 9), (0.1, 1)])
def test_split_rounds_down(fraction: float, expected: int) -> None:
    """The first part has at most the fraction of the tokens."""
    assert expected == len(Corpus.from_tokens(range(10)).split(fraction)[0])


@pytest.mark.parametrize("fraction", [0.0, 1.0, 0.05, -0.5, 1.5])
def test_split_that_leaves_nothing(fraction: float) -> None:
    """A cut that leaves one part empty is refused."""
    with pytest.raises(
        ArgumentError,
        match=f"^fraction must leave tokens on both sides of 10 tokens, got {fraction}$",
    ):
        Corpus.from_tokens(range(10)).split(fraction)


@pytest.mark.parametrize("fraction", [float("nan"), float("inf")])
def test_split_by_no_number(fraction: float) -> None:
    """A fraction that is no finite number is refused like any other."""
    with pytest.raises(ArgumentError, match=f"got {fraction}$"):
        Corpus.from_tokens(range(10)).split(fraction)


@pytest.mark.parametrize(
    ("fraction", "max_tokens", "expected"),
    [
        (0.1, None, [(0, 89), (90, 99)]),
        (0.1, 45, [(0, 44), (45, 49)]),
        (0.1, 90, [(0, 89), (90, 99)]),
        (0.1, 95, [(0, 89), (90, 99)]),
        (0.5, None, [(0, 49), (50, 99)]),
        (0.5, 80, [(0, 49), (50, 99)]),
    ],
)
def test_hold_out_follows_the_training_text(
    fraction: float, max_tokens: int | None, expected: list[tuple[int, int]]
) -> None:
    """The held-out text begins where the training text ends, in the right proportion."""
    parts = [
        part
        for part in Corpus.from_tokens(range(100)).hold_out(fraction, max_tokens=max_tokens)
        if part is not None
    ]

    assert expected == [(int(part.tokens[0]), int(part.tokens[-1])) for part in parts]


@pytest.mark.parametrize(("fraction", "max_tokens"), [(0.0, None), (0.01, None), (0.1, 9)])
def test_hold_out_nothing(fraction: float, max_tokens: int | None) -> None:
    """Less than two held-out tokens are none, since nothing could be predicted."""
    assert Corpus.from_tokens(range(100)).hold_out(fraction, max_tokens=max_tokens)[1] is None


@pytest.mark.parametrize("fraction", [1.0, -0.1, float("nan")])
def test_hold_out_of_no_fraction(fraction: float) -> None:
    """A fraction outside [0, 1) is refused."""
    with pytest.raises(
        ArgumentError, match=rf"^the held-out fraction must be in \[0, 1\), got {fraction}$"
    ):
        Corpus.from_tokens(range(100)).hold_out(fraction)


def test_hold_out_everything() -> None:
    """A fraction that leaves nothing to train on is refused."""
    with pytest.raises(ArgumentError, match="got start=0 and stop=0"):
        Corpus.from_tokens(range(3)).hold_out(0.9)


def test_hash_is_that_of_the_ids() -> None:
    """Equal ids have equal hashes, whatever made them."""
    assert Corpus.from_tokens([1, 1, 2]).hash == Corpus.from_text("aab").hash


def test_repr_of_a_text() -> None:
    """People see name, length and number of ids."""
    expected = "Corpus('alphabet', 1,000 tokens, vocab_size=2)"
    assert expected == repr(Corpus.from_text("a" * 1000, name="alphabet"))
    shown = Corpus.from_text("a" * 1000, name="<alphabet>")._repr_html_()
    assert "<b>Corpus &lt;alphabet&gt;</b>" in shown
    assert f"<td>{'a' * 100} ...</td>" in shown


def test_a_notebook_shows_why_a_vocabulary_cannot_be_read(tmp_path: Path) -> None:
    """The vocabulary of a store is read when it is first asked for."""
    folder = Corpus.from_text("the time machine").save(tmp_path / "store")
    corpus = Corpus.open(folder)
    vocab = folder / "vocab.json"
    vocab.write_bytes(b"{" * vocab.stat().st_size)
    assert "<td>16</td>" in corpus._repr_html_()
    assert "vocab.json must have the SHA-256" in corpus._repr_html_()


def test_repr_of_a_memory_map(mapped: npt.NDArray[Any]) -> None:
    """People see where the number of ids is not known."""
    expected = "Corpus('tokens', 100,000 tokens, vocab_size=?)"
    assert expected == repr(Corpus.from_tokens(mapped))


@pytest.mark.parametrize("tokenizer", ["char", "word", "byte"])
def test_pickle_keeps_the_tokens(tokenizer: str) -> None:
    """Worker processes get the same ids."""
    corpus = Corpus.from_text("the time machine", tokenizer=tokenizer)

    assert corpus.tokens.tolist() == _copy(corpus).tokens.tolist()


@pytest.mark.parametrize("tokenizer", ["char", "word", "byte"])
def test_pickle_keeps_the_rest(tokenizer: str) -> None:
    """Worker processes get the same tokenizer, size and name."""
    corpus = Corpus.from_text("the time machine", tokenizer=tokenizer, name="book")
    copied = _copy(corpus)

    assert (corpus.tokenizer, corpus.vocab_size, corpus.name) == (
        copied.tokenizer,
        copied.vocab_size,
        copied.name,
    )


def test_pickle_changes_nothing() -> None:
    """A corpus that was sent to a worker works on."""
    corpus = Corpus.from_tokens(range(9))
    _copy(corpus)

    assert list(range(9)) == corpus.tokens.tolist()


def test_deep_copy_has_the_tokens() -> None:
    """A copy has the same ids."""
    corpus = Corpus.from_tokens(range(9))

    assert corpus.tokens.tolist() == copy.deepcopy(corpus).tokens.tolist()


def test_pickle_of_a_slice_has_the_slice_only() -> None:
    """The tokens around a slice do not travel to the workers."""
    assert len(pickle.dumps(Corpus.from_tokens(np.zeros(100_000, np.uint8)).slice(5, 9))) < 2000


def _whole(corpus: Corpus) -> Corpus:
    return corpus


def _slice(corpus: Corpus) -> Corpus:
    return corpus.slice(70_000, 90_001)


def _validation(corpus: Corpus) -> Corpus:
    return corpus.split(0.75)[1]


def _slice_of_split(corpus: Corpus) -> Corpus:
    return corpus.split(0.75)[1].slice(10, 15_000)


parts = pytest.mark.parametrize("part", [_whole, _slice, _validation, _slice_of_split])


@parts
def test_pickle_over_a_memory_map_is_small(mapped: npt.NDArray[Any], part: Any) -> None:
    """The data of a memory map does not travel to the workers."""
    assert len(pickle.dumps(part(Corpus.from_tokens(mapped)))) < 2000


@parts
def test_pickle_over_a_memory_map_opens_its_range(mapped: npt.NDArray[Any], part: Any) -> None:
    """A worker reads the same tokens of the same file."""
    corpus = part(Corpus.from_tokens(mapped))

    assert corpus.tokens.tolist() == _copy(corpus).tokens.tolist()


@parts
def test_part_of_a_memory_map_is_one(mapped: npt.NDArray[Any], part: Any) -> None:
    """No part of a mapped corpus is read into memory, here or in a worker."""
    assert isinstance(_copy(part(Corpus.from_tokens(mapped))).tokens, np.memmap)


@parts
def test_hash_over_a_memory_map(mapped: npt.NDArray[Any], part: Any) -> None:
    """A mapped corpus has the hash of the same ids in memory."""
    corpus = part(Corpus.from_tokens(mapped))

    assert Corpus.from_tokens(np.array(corpus.tokens)).hash == corpus.hash


@pytest.mark.parametrize("fraction", [0.9, 0.5, 0.1])
def test_hold_out_loses_nothing(fraction: float) -> None:
    """Without a limit the two parts are the whole."""
    parts = Corpus.from_tokens(range(100)).hold_out(fraction)
    expected = [100 - round(100 * fraction), round(100 * fraction)]
    assert expected == [len(part) for part in parts if part is not None]


def test_documents_of_ids() -> None:
    """A document is a slice; their offsets come back."""
    corpus = Corpus.from_tokens(range(9), documents=[0, 4, 4, 9])

    assert ([0, 4, 4, 9], 3) == (_offsets(corpus), corpus.num_documents)
    assert [4, 5, 6, 7, 8] == corpus.document(2).tokens.tolist()
    assert ([0, 5], 1) == (_offsets(corpus.document(2)), corpus.document(2).num_documents)


def test_an_empty_document_is_no_corpus() -> None:
    """A corpus has at least one token."""
    corpus = Corpus.from_tokens(range(9), documents=[0, 4, 4, 9])

    with pytest.raises(ArgumentError, match="document 1 has no tokens"):
        corpus.document(1)


def test_parts_keep_the_documents() -> None:
    """Sections, splits and held-out text have the documents that lie in them, cut at the ends."""
    corpus = Corpus.from_tokens(range(20), documents=[0, 6, 12, 20])
    train, valid = corpus.split(0.5)
    trained, held_out = corpus.hold_out(0.2)
    assert held_out is not None

    expected = [[0, 6, 10], [0, 2, 10], [0, 6, 12, 16], [0, 4], [0, 1, 7, 8]]
    parts = (train, valid, trained, held_out, corpus.slice(5, 13))
    assert expected == [_offsets(part) for part in parts]


@given(st.lists(st.integers(0, 9), min_size=2, max_size=20), st.floats(0.01, 0.99))
def test_a_split_by_document_leaks_nothing(lengths: list[int], fraction: float) -> None:
    """Each document is whole on one side, and the first side has at most its share, if it can."""
    num_tokens = sum(lengths)
    if sum(map(bool, lengths)) < 2:
        return
    corpus = Corpus.from_tokens(np.arange(num_tokens), documents=np.cumsum([0, *lengths]))
    train, valid = corpus.split(fraction, by="document")

    assert lengths == [*np.diff(_offsets(train)), *np.diff(_offsets(valid))]
    first = next(length for length in lengths if length)
    assert len(train) <= max(num_tokens * fraction + 1e-9, first)


def test_a_split_by_document_of_one_document() -> None:
    """Where there is no boundary there is no such split."""
    with pytest.raises(ArgumentError, match=r"^fraction must leave tokens on both sides"):
        Corpus.from_tokens(range(9), documents=[0, 9]).split(0.5, by="document")


def test_a_split_by_anything_else() -> None:
    """Only tokens and documents can be counted."""
    by: Any = "sentence"
    with pytest.raises(ArgumentError, match=r"^by must be 'token' or 'document', got 'sentence'$"):
        Corpus.from_tokens(range(9)).split(0.5, by=by)


def test_documents_that_nobody_knows() -> None:
    """A corpus without documents says so, and how to get some."""
    corpus = Corpus.from_tokens(range(9), name="mine")
    assert corpus.documents is None
    for ask in (
        lambda: corpus.num_documents,
        lambda: corpus.document(0),
        lambda: corpus.split(0.5, by="document"),
    ):
        with pytest.raises(CorpusError, match=r"^mine has no documents: pass documents=\.\.\. to"):
            ask()


def test_documents_travel_with_the_corpus() -> None:
    """A copy in another process has them."""
    expected = [0, 6, 6, 10]
    assert expected == _offsets(_copy(make_corpus()))


def test_a_store_travels_by_name(tmp_path: Path) -> None:
    """Neither tokens nor offsets of a store are in a pickle, and the copy reads the same."""
    corpus = Corpus.from_tokens(np.arange(90_000), documents=np.arange(90_001))
    opened = Corpus.open(corpus.save(tmp_path / "store", shard_tokens=40_000)).slice(7, 80_000)
    packed = pickle.dumps(opened)
    copied: Corpus = pickle.loads(packed)  # noqa: S301  our own bytes

    assert len(packed) < 2000
    assert opened.tokens.tolist() == copied.tokens.tolist()
    assert (opened.hash, _offsets(opened)) == (copied.hash, _offsets(copied))


def test_the_hash_of_a_small_store_is_that_of_its_tokens(tmp_path: Path) -> None:
    """Up to 4 MiB a corpus has one hash, in memory and on the disk."""
    corpus = make_corpus()
    opened = Corpus.open(make_store(tmp_path / "store"))

    assert corpus.hash == opened.hash
    assert corpus.slice(2, 9).hash == opened.slice(2, 9).hash


def test_the_hash_of_a_large_store_is_its_manifests(tmp_path: Path) -> None:
    """Beyond 4 MiB no token is read for it; a part has one of its own, however it was cut."""
    large, length = (1 << 21) + 100, (1 << 21) + 1
    tokens = np.arange(large) % 60_000
    folder = Corpus.from_tokens(tokens).save(tmp_path / "store")
    corpus, expected = Corpus.open(folder), open_store(folder).manifest.hash
    assert Corpus.from_tokens(tokens[300:350]).hash == corpus.slice(300, 350).hash

    # What reads a token from now on raises an error.
    (folder / "tokens-00000.npy").unlink()
    assert expected == corpus.hash == corpus.slice(0, large).hash
    # The first two are the same part, and the others another length and another place.
    parts = [corpus.slice(2, 2 + length), corpus.slice(1, large).slice(1, 1 + length)]
    parts += [corpus.slice(2, 3 + length), corpus.slice(1, 1 + length)]
    hashes = [part.hash for part in parts]
    assert hashes[0] == hashes[1]
    assert 4 == len({corpus.hash, *hashes})
    with pytest.raises(StoreError):
        _ = corpus.slice(300, 350).hash


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda corpus: corpus.slice(None, 3), "start must be an integer, got None"),
        (lambda corpus: corpus.slice(0, "3"), "stop must be an integer, got '3'"),
        (lambda corpus: corpus.split([0.5]), r"fraction must be a number, got \[0.5\]"),
        (lambda corpus: corpus.hold_out(0.1, max_tokens=1.5), "max_tokens must be an integer"),
        (lambda corpus: corpus.document("a"), "index must be an integer, got 'a'"),
    ],
)
def test_wrong_types_are_named(call: Callable[[Any], object], message: str) -> None:
    """No comparison or slice fails instead."""
    with pytest.raises(ArgumentError, match=message):
        call(Corpus.from_tokens([1, 2, 3], documents=[0, 3]))


def _mix(folder: Path) -> tuple[list[Corpus], list[int]]:
    """Make parts of each kind: a store, memory, a wide memory map, a signed one; and all ids."""
    stored = Corpus.from_tokens(np.arange(300) % 251, documents=[0, 7, 7, 120, 300])
    stored.save(folder / "store", shard_tokens=128)
    (np.arange(200) + 70_000).astype("<u4").tofile(folder / "wide")
    (np.arange(90) + 5_000).astype("<i2").tofile(folder / "signed")
    parts = [
        Corpus.open(folder / "store"),
        Corpus.from_tokens([1, 2, 300], documents=[0, 1, 3]),
        Corpus.from_tokens(np.memmap(folder / "wide", "<u4", "r"), vocab_size=70_200),
        Corpus.from_tokens(np.memmap(folder / "signed", "<i2", "r"), vocab_size=6_000),
        Corpus.open(folder / "store").slice(5, 150),
    ]
    ids = [*(np.arange(300) % 251), 1, 2, 300, *range(70_000, 70_200), *range(5_000, 5_090)]
    return parts, [int(id_) for id_ in [*ids, *range(5, 150)]]


def test_corpora_of_any_kind_are_one(tmp_path: Path) -> None:
    """Stores, memory, memory maps of any width: ids, documents and size are joined."""
    parts, ids = _mix(tmp_path)
    corpus = Corpus.concatenate(parts)

    assert ids == corpus.tokens[:].tolist()
    # The maps have no documents, so each is one.
    documents = [0, 7, 7, 120, 300, 301, 303, 503, 593, 595, 595, 708, 738]
    assert corpus.documents is not None
    assert documents == corpus.documents.tolist()
    assert (70_200, f"{parts[0].name} + 4 more") == (corpus.vocab_size, corpus.name)
    assert [len(part) for part in parts] == [len(part) for part in corpus.parts]
    assert ids[290:310] == corpus.slice(290, 310).tokens[:].tolist()
    assert [10, 3, 7] == [len(part) for part in corpus.slice(290, 310).parts]
    train, valid = corpus.split(0.5, by="document")
    assert ids == [*train.tokens[:].tolist(), *valid.tokens[:].tolist()]
    assert 303 == len(train)
    corpus.save(tmp_path / "joined", splits={"train": (0, 303)})
    opened = Corpus.open(tmp_path / "joined", verify=True)
    assert ids == opened.tokens[:].tolist()
    assert opened.documents is not None
    assert documents == opened.documents.tolist()


@pytest.mark.parametrize("kind", [SequentialWindows, RandomWindows])
def test_windows_of_joined_corpora_are_those_of_one(tmp_path: Path, kind: Any) -> None:
    """Across every boundary, also where documents start, and in worker processes."""
    parts, ids = _mix(tmp_path)
    joined = Corpus.concatenate(parts)
    whole = Corpus.from_tokens(ids, documents=joined.documents)
    size: dict[str, Any] = {"batch_size": 4, "seq_len": 9, "seed": 5}
    expected = [rows_of(batch) for batch in kind(whole, **size)]
    assert expected == [rows_of(batch) for batch in kind(joined, **size)]
    if kind is SequentialWindows:
        starts = [batch.resets.tolist() for batch in kind(whole, **size)]
        assert starts == [batch.resets.tolist() for batch in kind(joined, **size)]
    loader = DataLoader(
        kind(joined, **size),
        batch_size=None,
        num_workers=2,
        multiprocessing_context="forkserver",
    )
    assert expected == [rows_of(batch) for batch in loader]


def test_a_loader_of_joined_corpora_resumes(tmp_path: Path) -> None:
    """After each batch, as of any other corpus; parts that were exchanged are refused."""
    parts, _ = _mix(tmp_path)
    make = functools.partial(RandomWindows, batch_size=8, seq_len=9)
    assert_resumes_everywhere(lambda: Loader(make(Corpus.concatenate(parts)), num_epochs=2))
    state = Loader(make(Corpus.concatenate(parts))).state_dict()

    exchanged = Loader(make(Corpus.concatenate(parts[::-1])))
    with pytest.raises(StateMismatchError, match="corpus: saved 'sha256:"):
        exchanged.load_state_dict(state)


def test_the_hash_of_many_is_made_of_theirs(tmp_path: Path) -> None:
    """Of much text; and the same for each way to join the same parts."""
    ids = np.arange(3 << 20).astype(np.uint16)
    store = Corpus.from_tokens(ids[: 1 << 20]).save(tmp_path / "store")
    ids.tofile(tmp_path / "map")
    mapped = Corpus.from_tokens(np.memmap(tmp_path / "map", "<u2", "r"))
    parts = [Corpus.open(store), mapped, Corpus.from_tokens(ids[:9])]
    joined = Corpus.concatenate(parts)

    nested = Corpus.concatenate([Corpus.concatenate(parts[:2]), parts[2]])
    assert joined.hash == nested.hash == _copy(joined).hash == joined.whole_hash
    others = [Corpus.concatenate(each) for each in (parts[:2], parts[::-1], [*parts, parts[2]])]
    assert 4 == len({joined.hash, *(other.hash for other in others)})
    # What is in one part only is known by that.
    assert mapped.slice(5, len(mapped)).hash == joined.slice((1 << 20) + 5, 1 << 22).parts[0].hash
    assert mapped.hash == Corpus.concatenate([mapped]).hash
    changed = ids.copy()
    changed[0] = 9
    changed.tofile(tmp_path / "map")
    with pytest.raises(StoreError, match="must stay as it was"):
        next(iter(SequentialWindows(joined, batch_size=1, seq_len=4)))
    again = Corpus.from_tokens(np.memmap(tmp_path / "map", "<u2", "r"))
    assert joined.hash != Corpus.concatenate([parts[0], again, parts[2]]).hash


def test_joined_corpora_travel_by_the_names_of_their_files(tmp_path: Path) -> None:
    """A worker process opens them for itself; what lies in memory is sent once."""
    parts, ids = _mix(tmp_path)
    corpus = Corpus.concatenate(parts)
    assert ids == _copy(corpus).tokens[:].tolist()
    assert ids[290:310] == _copy(corpus.slice(290, 310)).tokens[:].tolist()

    big = Corpus.concatenate([Corpus.from_tokens(np.zeros(100_000, np.uint8)) for _ in range(2)])
    assert 200_000 < len(pickle.dumps(big)) < 250_000


def test_joined_corpora_share_what_their_parts_share(tmp_path: Path) -> None:
    """What is trained on and measured on is compared part by part."""
    store = Corpus.open(make_store(tmp_path / "store"))
    other = Corpus.from_tokens([1, 2])
    joined = Corpus.concatenate([store.slice(0, 5), other, store.slice(7, 9)])

    middle = store.slice(1, 8)
    assert [5, 5] == [joined.num_shared(middle), middle.num_shared(joined)]
    assert 0 == joined.num_shared(other)


def test_joined_corpora_without_documents_have_none() -> None:
    """Where none has any; and where they were left out."""
    first, second = Corpus.from_tokens([1, 2], documents=[0, 1, 2]), Corpus.from_tokens([3])

    assert Corpus.concatenate([second, second]).documents is None
    undivided = Corpus.concatenate([first, second]).undivided()
    assert Corpus.concatenate([undivided, second]).documents is None


def test_the_tokenizer_of_joined_corpora() -> None:
    """Is that of the first part that has one; what has none must fit into its vocabulary."""
    text = Corpus.from_text("time flies")
    ids = Corpus.from_tokens(text.tokens, vocab_size=text.vocab_size)
    joined = Corpus.concatenate([ids, text])

    assert "time fliestime flies" == joined.decode(joined.tokens[:])
    assert (text.tokenizer, text.vocab_size) == (joined.tokenizer, joined.vocab_size)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (list, "at least one Corpus, got none"),
        (lambda: Corpus.from_tokens([1]), "a list of at least one Corpus, got Corpus"),
        (lambda: [Corpus.from_tokens([1]), "store"], "at least one Corpus, got 'store' at 1"),
        (
            lambda: [Corpus.from_text("ab", name="a"), Corpus.from_text("cd", name="b")],
            "that of a is 'char', 3 ids, .*, that of b is 'char', 3 ids, .*: pass that of one",
        ),
        (
            lambda: [Corpus.from_text("ab", name="a"), Corpus.from_tokens([900], name="b")],
            "that of a is 'char', 3 ids, .*, that of b is unknown, 901 ids: pass that of one",
        ),
    ],
)
def test_what_cannot_be_joined_is_named(make: Callable[[], Any], message: str) -> None:
    """Both parts of another tokenizer, or what is no corpus."""
    with pytest.raises(ArgumentError, match=f"^corpora must .*{message}"):
        Corpus.concatenate(make())


def test_parts_of_unknown_size_have_no_vocabulary_size(tmp_path: Path) -> None:
    """The largest of what is known could be too small."""
    np.arange(9, dtype="<u2").tofile(tmp_path / "map")
    mapped = Corpus.from_tokens(np.memmap(tmp_path / "map", "<u2", "r"))
    joined = Corpus.concatenate([Corpus.from_tokens([1, 2]), mapped])

    with pytest.raises(CorpusError, match=r"vocabulary size of tokens \+ tokens, a memory map"):
        joined.vocab_size  # noqa: B018
    assert [1, 2, *range(9)] == joined.tokens[:].tolist()


def test_with_tokenizer_makes_a_new_corpus() -> None:
    """What was known of the old one does not stay, and a wrong tokenizer is refused."""
    bare = Corpus.from_tokens([0, 1, 2])
    assert bare.identity is None
    corpus = bare.with_tokenizer(Vocab(["a", "b"])).with_name("letters")
    assert (None, None, "tokens") == (bare.tokenizer, bare.identity, bare.name)
    assert ("letters", "ab") == (corpus.name, corpus.decode(corpus.tokens[1:]))
    assert corpus.tokenizer is not None
    assert Identity.of(corpus.tokenizer) == corpus.identity
    with pytest.raises(ArgumentError, match=r"ids of tokens \(3 ids\), got another \('"):
        bare.with_tokenizer(Vocab(["a"]))
    with pytest.raises(ArgumentError, match=r"^tokenizer must be the one that made .* letters"):
        corpus.with_tokenizer(Vocab(["b", "a"]))


def test_what_ends_documents_stays_known(tmp_path: Path) -> None:
    """Of a store that was prepared with it, in all that is made of its corpus."""
    options = PrepareOptions(end_of_document=0)
    prepare(iter(["ab", "cd"]), tmp_path / "a", tokenizer="byte", options=options, num_workers=0)
    prepare(iter(["ab"]), tmp_path / "b", tokenizer="byte", num_workers=0)
    corpus, other = Corpus.open(tmp_path / "a"), Corpus.open(tmp_path / "b")
    corpus.save(tmp_path / "c")
    kept = [
        corpus.split(0.5)[1],
        corpus.document(1),
        corpus.with_tokenizer("byte"),
        copy.deepcopy(corpus),
        Corpus.open(tmp_path / "c"),
        Corpus.concatenate([corpus, corpus.slice(0, 2)]).slice(1, 8),
    ]
    assert [0] * len(kept) == [each.end_id for each in kept]
    assert other.end_id is None
    assert Corpus.concatenate([corpus, other]).end_id is None
    assert Corpus.from_text("ab").end_id is None
