"""Tokenizers: the three that are built in, and anybody's own.

Their ids are compared with the plain description in laws/test_text.py.
"""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.support.text.tokenizing import tokenize
from tokenloom import Corpus, Vocab, load, prepare
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.text.boundaries import BYTES, CHARACTERS, DOCUMENTS, LETTERS, WORDS, Boundary
from tokenloom.text.documents import TextSegment
from tokenloom.text.ids import Ids
from tokenloom.text.interface import CompleteTokenizer, vocab_of
from tokenloom.text.normalize import NOTHING
from tokenloom.text.tokenizers import (
    TOKENIZER_NAMES,
    ByteTokenizer,
    CharTokenizer,
    Counted,
    CountedTokenizer,
    WordTokenizer,
    complete,
    count_characters,
    look_up,
    make_tokenizer,
    tokenizer_for,
)


@dataclass(frozen=True)
class OddTokenizer:
    """A tokenizer of somebody else, which returns what it is told to."""

    ids: npt.ArrayLike
    vocab_size: int = 10

    def encode(self, text: str, /) -> npt.ArrayLike:
        """Return ids that have nothing to do with the text."""
        del text
        return self.ids

    def decode(self, ids: list[int], /) -> str:
        """Return the ids themselves."""
        return repr(ids)


def count(name: str, text: str) -> Counted:
    """Return the tokens of a text, counted."""
    tokenizer = make_tokenizer(name, normalize=False)
    assert isinstance(tokenizer, CountedTokenizer)
    return tokenizer.count_segments([TextSegment(text, NOTHING, ends=True)])


ABC = Vocab(["a", "b", " "])
ASKING = Vocab(["a"], unknown_token="?")  # noqa: S106  no password, a token of text
TIMES = Vocab(["time", "machine"])


@pytest.mark.parametrize(
    ("tokenizer", "text", "expected"),
    [
        (CharTokenizer(ABC), "", []),
        (CharTokenizer(ABC), "A-b\nb?", [1, 3, 2, 2]),
        (CharTokenizer(ABC), "c", [0]),
        (CharTokenizer(ABC), "é", []),
        (CharTokenizer(ABC, normalize=False), "aA\né b", [1, 0, 0, 0, 3, 2]),
        (CharTokenizer(Vocab(["é", "\U0001f600"]), normalize=False), "\U0001f600éa", [2, 1, 0]),
        (CharTokenizer(Vocab(["long", "a"])), "along", [2, 0, 0, 0, 0]),
        (CharTokenizer(ASKING, normalize=False), "?a", [0, 1]),
        (CharTokenizer(Vocab(["a"], reserved_tokens=["b"])), "ab", [2, 1]),
        (WordTokenizer(TIMES), "", []),
        (WordTokenizer(TIMES), "The Time\nmachine.", [0, 1, 2]),
        (WordTokenizer(TIMES, normalize=False), "Time time\u2028machine.", [0, 1, 0]),
        (ByteTokenizer(), "", []),
        (ByteTokenizer(), "Aé\r\n", [65, 195, 169, 13, 10]),
    ],
)
def test_encode(tokenizer: Any, text: str, expected: list[int]) -> None:
    """Each character, word or byte is its id; the vocabulary's strangers are 0."""
    assert expected == tokenizer.encode(text).tolist()


@pytest.mark.parametrize(
    ("tokenizer", "ids", "expected"),
    [
        (CharTokenizer(ABC), [], ""),
        (CharTokenizer(ABC), [1, 3, 2], "a b"),
        (CharTokenizer(ABC), [0, 1], "<unk>a"),
        (WordTokenizer(TIMES), [], ""),
        (WordTokenizer(TIMES), [1, 2, 0], "time machine <unk>"),
        (ByteTokenizer(), [], ""),
        (ByteTokenizer(), [195, 169], "é"),
        (ByteTokenizer(), [65, 195], "A\ufffd"),
    ],
)
def test_decode(tokenizer: Any, ids: list[int], expected: str) -> None:
    """Characters and bytes are joined by nothing, words by a space."""
    assert expected == tokenizer.decode(ids)


@pytest.mark.parametrize(
    ("tokenizer", "prompt", "expected"),
    [
        (CharTokenizer(ABC), "A ", [1, 3]),
        (CharTokenizer(ABC), " a", [3, 1]),
        (CharTokenizer(ABC, normalize=False), "a\n", [1, 0]),
        (WordTokenizer(TIMES), "Time ", [1]),
        (WordTokenizer(TIMES, normalize=False), "Time machine", [0, 2]),
    ],
)
def test_encode_prompt(tokenizer: Any, prompt: str, expected: list[int]) -> None:
    """A prompt of characters keeps its outer spaces; words have none."""
    assert expected == tokenizer.encode_prompt(prompt).tolist()


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [(CharTokenizer(ABC), 4), (WordTokenizer(TIMES), 3), (ByteTokenizer(), 256)],
)
def test_vocab_size(tokenizer: Any, expected: int) -> None:
    """The number of ids includes the unknown token."""
    assert expected == tokenizer.vocab_size


@pytest.mark.parametrize(("num_words", "expected"), [(255, "uint8"), (256, "uint16")])
@pytest.mark.parametrize("kind", ["char", "word"])
def test_type_follows_the_vocabulary(kind: str, num_words: int, expected: str) -> None:
    """With the unknown token, 255 tokens fit in a byte and 256 do not."""
    text = " ".join(chr(0x4E00 + number) for number in range(num_words))
    text = text.replace(" ", "") if kind == "char" else text
    ids, _ = tokenize(text, tokenizer=kind, normalize=False)

    assert expected == ids.dtype.name


def test_decode_of_an_id_out_of_range() -> None:
    """An id that the vocabulary does not have is refused."""
    with pytest.raises(ArgumentError, match=r"an id must be in \[0, 4\), got 4"):
        CharTokenizer(ABC).decode([4])


@pytest.mark.parametrize("tokenizer", [CharTokenizer(ABC), WordTokenizer(ABC), ByteTokenizer()])
def test_pickle_round_trip(tokenizer: Any) -> None:
    """Worker processes get an equal tokenizer."""
    copied = pickle.loads(pickle.dumps(tokenizer))  # noqa: S301  our own bytes

    assert tokenizer == copied


@pytest.mark.parametrize(
    ("name", "expected"),
    [("char", CharTokenizer), ("word", WordTokenizer), ("byte", ByteTokenizer)],
)
def test_tokenize_by_name(name: str, expected: type) -> None:
    """A name stands for a built-in tokenizer."""
    _, tokenizer = tokenize("a text", tokenizer=name)

    assert expected is type(tokenizer)


def test_names_are_complete() -> None:
    """The names that messages and the command line offer are those that work."""
    expected = ("char", "word", "byte", "bpe")
    assert expected == TOKENIZER_NAMES


@pytest.mark.parametrize("kind", ["char", "word"])
def test_tokenize_makes_the_vocabulary_from_counts(kind: str) -> None:
    """The vocabulary has the counts of all tokens, ties in order of first appearance."""
    _, made = tokenize("b a b", tokenizer=kind)

    expected = {"char": [("b", 2), (" ", 2), ("a", 1)], "word": [("b", 2), ("a", 1)]}
    vocab = vocab_of(made)
    assert vocab is not None
    assert expected[kind] == list(vocab.frequencies.items())


def test_tokenize_with_a_tokenizer_uses_its_vocabulary() -> None:
    """A tokenizer that exists already learns nothing from the text."""
    ids, _ = tokenize("abc", tokenizer=CharTokenizer(ABC))

    expected = [1, 2, 0]
    assert expected == ids.tolist()


def test_tokenize_returns_the_given_tokenizer() -> None:
    """A tokenizer that exists already comes back itself."""
    given = OddTokenizer([1])
    _, tokenizer = tokenize("a", tokenizer=given)

    assert given is tokenizer


@pytest.mark.parametrize(
    "ids", [[3, 9], (3, 9), np.array([3, 9]), np.array([3, 9], np.uint16)], ids=repr
)
def test_foreign_ids_are_an_array(ids: npt.ArrayLike) -> None:
    """Whatever array-like a foreign tokenizer returns becomes an array of the same ids."""
    made, _ = tokenize("any", tokenizer=OddTokenizer(ids))

    expected = [3, 9]
    assert expected == made.tolist()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([0, 10], r"token ids must be in \[0, 10\), got 10 at position 1"),
        ([-1], r"token ids must be in \[0, 10\), got -1 at position 0"),
        ([[1, 2]], r"must be a one-dimensional array of integers, got int64 of shape \(1, 2\)"),
        ([0.5], r"must be a one-dimensional array of integers, got float64 of shape \(1,\)"),
    ],
)
def test_foreign_ids_that_are_wrong(ids: npt.ArrayLike, message: str) -> None:
    """A foreign tokenizer that breaks its own promise is refused at once."""
    with pytest.raises(CorpusError, match=message):
        tokenize("any", tokenizer=OddTokenizer(ids))


@pytest.mark.parametrize("tokenizer", ["bpf", "", "Char", None, 3, len], ids=repr)
def test_unknown_tokenizer(tokenizer: Any) -> None:
    """A name or an object that is no tokenizer is refused with what there is."""
    with pytest.raises(
        ArgumentError,
        match=r"^tokenizer must be 'char', 'word', 'byte', 'bpe', 'tiktoken:NAME', the path .*, "
        r"a Vocab, or an object with vocab_size, encode\(text\) and decode\(ids\), got ",
    ):
        tokenize("any", tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("tokens", "expected"), [(["a", "\n"], CharTokenizer), (["a", "bc"], WordTokenizer)]
)
def test_tokenizer_for_a_vocabulary(tokens: Sequence[str], expected: type) -> None:
    """Single characters are encoded as characters, anything else as words."""
    assert expected is type(tokenizer_for(Vocab(tokens)))


def test_tokenizer_for_a_vocabulary_does_not_normalise() -> None:
    """A vocabulary may hold what normalisation would remove."""
    expected = [1, 2]
    assert expected == tokenizer_for(Vocab(["A", "?"])).encode("A?").tolist()


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        (CharTokenizer(Vocab(list("a"))), CHARACTERS),
        (WordTokenizer(Vocab(list("a"))), LETTERS),
        (WordTokenizer(Vocab(list("a")), normalize=False), WORDS),
        (ByteTokenizer(), BYTES),
        (OddTokenizer([1]), DOCUMENTS),
    ],
)
def test_where_documents_may_be_cut(tokenizer: Any, expected: Boundary) -> None:
    """Nothing is known of what another tokenizer does at a cut."""
    assert expected == complete(tokenizer).boundary


def test_count_characters_is_in_order_of_first_appearance() -> None:
    """Ties in the vocabulary depend on this order."""
    expected = [("é", 2), ("b", 1), ("a", 3)]
    assert expected == list(count_characters("ébaéaa").items())


@pytest.mark.parametrize("text", ["banana", "éb時é", ""])
def test_numbers_are_places_in_the_counts(text: str) -> None:
    """Of characters, ASCII or not."""
    numbers, _, counts = count("char", text)
    assert text == "".join(list(counts)[number] for number in numbers)


def test_numbers_of_words_are_places_in_the_counts() -> None:
    """Over all pieces of a long text."""
    words = [word for number in range(100_000) for word in (f"w{number % 7}", "x")]
    numbers, _, counts = count("word", " ".join(words))
    tokens = list(counts)
    assert words == [tokens[number] for number in numbers]
    assert (100_000, 14_286) == (counts["x"], counts["w0"])


@pytest.mark.parametrize("text", ["abz", "abzé"])
def test_characters_that_are_no_token(text: str) -> None:
    """They are 0, and a token of several characters is none of them."""
    assert [1, 2, 0] == look_up(text, ["<unk>", "a", "b", "é"])[:3].tolist()


def test_a_vocabulary_of_a_tokenizer_that_is_not_there() -> None:
    """It is refused by name, since its texts would become other tokens."""
    vocab = Vocab(["a"]).of_kind("syllable", normalize=True)
    message = "must be of the tokenizer 'char' or 'word', got one of 'syllable', which .*: update"
    with pytest.raises(ArgumentError, match=message):
        tokenizer_for(vocab)


def test_a_tokenizer_that_fails_is_named() -> None:
    """By an error of tokenloom, wherever a text is given."""

    class Failing(OddTokenizer):
        def encode(self, text: str, /) -> npt.ArrayLike:
            raise KeyError(text[0])

    message = (
        "^the tokenizer Failing must encode every text, but failed at the text: KeyError: 'a'$"
    )
    with pytest.raises(CorpusError, match=message):
        Corpus.from_text("abc", tokenizer=Failing([]))


@pytest.mark.parametrize("vocab_size", [len, 0, -1, 2.5, None])
def test_a_vocabulary_size_that_is_none(vocab_size: Any) -> None:
    """Some packages have a method of that name; it is refused before a text is encoded."""
    tokenizer = OddTokenizer([1], vocab_size)
    with pytest.raises(ArgumentError, match=r"^vocab_size of the tokenizer must be"):
        tokenize("any", tokenizer=tokenizer)


def test_a_vocabulary_size_of_numpy(tmp_path: Path) -> None:
    """It is written as a plain integer, by all that write a store."""
    tokenizer = OddTokenizer([1], np.int64(10))  # type: ignore[arg-type]  # it is as good as one
    corpora = (
        Corpus.from_text("any", tokenizer=tokenizer),
        Corpus.from_documents(["any"], tokenizer=tokenizer),
    )
    for number, corpus in enumerate(corpora):
        assert type(corpus.vocab_size) is int
        assert Corpus.open(corpus.save(tmp_path / str(number))).vocab_size == 10
    source = tmp_path / "any.txt"
    source.write_text("any", encoding="utf-8")
    prepare(source, tmp_path / "store", tokenizer=tokenizer, num_workers=0)
    assert Corpus.open(tmp_path / "store", tokenizer=tokenizer).vocab_size == 10


class Backwards(CharTokenizer):
    """A built-in tokenizer whose class was derived from, to read texts from their end."""

    def encode(self, text: str, /) -> Ids:
        """Return the ids of the last character first."""
        return CharTokenizer.encode(self, text[::-1])


def test_an_encode_of_its_own_is_used_everywhere(tmp_path: Path) -> None:
    """A class with a built-in one as its base is not taken for that."""
    tokenizer = Backwards(ABC, normalize=False)
    expected = ABC.to_ids("cba").tolist()
    assert expected == Corpus.from_text("abc", tokenizer=tokenizer).tokens.tolist()
    assert expected == Corpus.from_documents(["abc"], tokenizer=tokenizer).tokens.tolist()
    source = tmp_path / "abc.txt"
    source.write_text("abc", encoding="utf-8")
    prepare(source, tmp_path / "store", tokenizer=tokenizer, num_workers=0)
    assert Corpus.open(tmp_path / "store").tokenizer is None
    assert expected == Corpus.open(tmp_path / "store", tokenizer=tokenizer).tokens.tolist()


@pytest.mark.parametrize(
    ("tokenizer", "characters", "num_bytes"),
    [
        # The unknown character is one character; a normalised one is a letter or a space.
        (CharTokenizer(Vocab(["a", "\u00e9"]), normalize=False), [1, 1, 1], [-1, 1, 2]),
        (CharTokenizer(Vocab(["a"])), [1, 1], [1, 1]),
        # What is added after a document is no text.
        (CharTokenizer(Vocab(["a"], reserved_tokens=["<eod>", "z"])), [1, 0, 1, 1], [1, 0, 1, 1]),
        (
            WordTokenizer(Vocab(["\u00e9t\u00e9"], reserved_tokens=["<eod>"])),
            [-1, 0, 4],
            [-1, 0, 6],
        ),
        # A reserved token that was counted is text.
        (WordTokenizer(Vocab(["the"], reserved_tokens=["the"])), [-1, 4], [-1, 4]),
    ],
    ids=["raw characters", "characters", "reserved", "words", "a reserved word"],
)
def test_lengths_of_tokens(
    tokenizer: CompleteTokenizer, characters: list[int], num_bytes: list[int]
) -> None:
    """Characters and bytes for each id, -1 where that differs from text to text."""
    lengths = tokenizer.token_lengths(), tokenizer.token_byte_lengths()
    assert (characters, num_bytes) == tuple(each.tolist() for each in lengths if each is not None)


def test_lengths_of_bytes() -> None:
    """A byte that continues a character is none of its own."""
    characters, num_bytes = ByteTokenizer().token_lengths(), ByteTokenizer().token_byte_lengths()
    ids = ByteTokenizer().encode("\u00e9a\u6642")
    assert (3, 6) == (characters[ids].sum(), num_bytes[ids].sum())


@pytest.mark.parametrize("tokenizer", ["byte", ByteTokenizer(), Vocab(["a"])])
def test_a_vocabulary_size_is_for_tokenizers_that_learn(tokenizer: Any, tmp_path: Path) -> None:
    """Every door refuses it where the ids are fixed."""
    (tmp_path / "a.txt").write_text("a")
    doors: list[Callable[[], object]] = [
        lambda: Corpus.from_text("a", tokenizer=tokenizer, vocab_size=9),
        lambda: Corpus.from_documents(["a"], tokenizer=tokenizer, vocab_size=9),
        lambda: load(tmp_path / "a.txt", tokenizer=tokenizer, vocab_size=9),
        lambda: prepare([["a"]], tmp_path / "s", tokenizer=tokenizer, vocab_size=9),
    ]
    for door in doors:
        with pytest.raises(ArgumentError, match=r"^vocab_size must be left out where"):
            door()


class Measured:
    """A tokenizer of somebody else that says how long its tokens are."""

    vocab_size = 3

    def __init__(self, lengths: object) -> None:
        self.lengths = lengths

    def encode(self, text: str) -> list[int]:
        """Return the places of letters."""
        return ["abc".index(letter) for letter in text]

    def decode(self, ids: list[int]) -> str:
        """Return letters."""
        return "".join("abc"[id_] for id_ in ids)

    def token_byte_lengths(self) -> object:
        """Return what it was given."""
        return self.lengths


def test_a_tokenizer_of_somebody_else_may_say_its_lengths() -> None:
    """What it does not say is not known, and it may say that too."""
    found = complete(Measured([1, 2, -1])).token_byte_lengths()
    assert found is not None
    assert ([1, 2, -1], "int64") == (found.tolist(), str(found.dtype))
    assert complete(Measured([1, 2, 3])).token_lengths() is None
    assert complete(Measured(None)).token_byte_lengths() is None


@pytest.mark.parametrize("lengths", [[1, 2], [1.0, 2.0, 3.0], [[1, 2, 3]], "abc"])
def test_lengths_that_are_none(lengths: object) -> None:
    """One integer for each id."""
    message = r"^token_byte_lengths\(\) of the tokenizer Measured must return 3 integers"
    with pytest.raises(CorpusError, match=message):
        complete(Measured(lengths)).token_byte_lengths()


def test_lengths_of_a_base_are_not_those_of_another_encode() -> None:
    """A built-in tokenizer with an encode of its own says nothing of its tokens."""

    class Doubled(ByteTokenizer):
        def encode(self, text: str, /) -> Ids:
            return ByteTokenizer.encode(self, text + text)

    assert complete(Doubled()).token_byte_lengths() is None


DOORS: dict[str, Callable[..., object]] = {
    "from_text": lambda _, **given: Corpus.from_text("a b", **given),
    "from_documents": lambda _, **given: Corpus.from_documents(["a b"], **given),
    "load": lambda folder, **given: load(folder / "a.txt", **given),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("tokenizer", "given", "name"),
    [
        ("byte", {"min_freq": 2}, "min_freq"),
        ("byte", {"reserved_tokens": ["<a>"]}, "reserved_tokens"),
        ("byte", {"normalize": False}, "normalize"),
        ("bpe", {"min_freq": 2}, "min_freq"),
        ("bpe", {"normalize": False}, "normalize"),
        (Vocab(["a"]), {"min_freq": 2}, "min_freq"),
        (Vocab(["a"]), {"normalize": False}, "normalize"),
        (CharTokenizer(ABC), {"reserved_tokens": ["<a>"]}, "reserved_tokens"),
        ("vocab.json", {"min_freq": 2}, "min_freq"),
        ("vocab.json", {"vocab_size": 2}, "vocab_size"),
    ],
)
def test_settings_that_mean_nothing(
    door: str,
    tokenizer: object,
    given: dict[str, Any],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are refused by name, as `prepare` does."""
    monkeypatch.chdir(tmp_path)
    Vocab(["a"]).save("vocab.json")
    Path("a.txt").write_text("a b")
    with pytest.raises(ArgumentError, match=rf"^{name} must be left out where the tokenizer"):
        DOORS[door](tmp_path, tokenizer=tokenizer, **given)


def test_reserved_tokens_are_several_strings() -> None:
    """A str would be one special token for each of its characters."""
    for tokenizer in ("char", "bpe"):
        with pytest.raises(ArgumentError, match="reserved_tokens must be a sequence of str"):
            Corpus.from_text("a b", tokenizer=tokenizer, reserved_tokens="<pad>")


def test_a_panic_of_your_own_tokenizer_is_an_error() -> None:
    """It may call a package in Rust, whose panic is no Exception."""
    panic = type("PanicException", (BaseException,), {})

    class Panicking:
        vocab_size = 3

        def encode(self, _: str, /) -> list[int]:
            msg = "index out of bounds"
            raise panic(msg)

        def decode(self, ids: list[int], /) -> str:
            return str(self.encode(str(ids)))

    with pytest.raises(CorpusError, match="failed with a panic: index out of bounds"):
        Corpus.from_text("a", tokenizer=Panicking())
    corpus = Corpus.from_tokens([0, 1, 2]).with_tokenizer(Panicking())
    with pytest.raises(CorpusError, match="failed with a panic: index out of bounds"):
        corpus.decode([1])
