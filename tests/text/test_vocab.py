"""The vocabulary: order, look-up both ways, and its file."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom import Corpus, Vocab
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.text.vocab import UNKNOWN_ID, parse_vocab

# Ids: <unk> 0, <pad> 1, <eos> 2, t 3 (3 times), e 4 (2 times), m 5, i 6.
TOKENS = ["t", "e", "m", "t", "i", "e", "t"]


@pytest.fixture
def vocab() -> Vocab:
    """Return a vocabulary with every kind of token."""
    return Vocab(TOKENS, reserved_tokens=["<pad>", "<eos>"])


@st.composite
def vocabs(draw: st.DrawFn) -> Vocab:
    """Vocabularies of any tokens, also empty ones and line ends."""
    names = st.text(max_size=3)
    special = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    counts = draw(st.dictionaries(names, st.integers(0, 5), max_size=20))
    return Vocab(
        counts,
        min_freq=draw(st.integers(0, 3)),
        reserved_tokens=special[1:],
        unknown_token=special[0],
    )


def _saved(folder: Path, **changes: Any) -> Path:
    """Return the file of a vocabulary with some of its values replaced."""
    path = Vocab(TOKENS).save(folder / "vocab.json")
    value = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_ids_are_in_order(vocab: Vocab) -> None:
    """The unknown token, then reserved ones, then the rest by falling frequency."""
    expected = ("<unk>", "<pad>", "<eos>", "t", "e", "m", "i")
    assert expected == vocab.tokens


def test_ties_stand_in_order_of_first_appearance() -> None:
    """Tokens that are equally frequent are never sorted by their letters."""
    expected = ("<unk>", "b", "c", "a", "d")
    assert expected == Vocab(["c", "b", "a", "d", "b"]).tokens


def test_counts_keep_the_order_of_the_mapping() -> None:
    """Finished counts give the ids that the counted tokens would give."""
    assert Vocab(["c", "b", "a", "b"]) == Vocab({"c": 1, "b": 2, "a": 1})


def test_nested_tokens_are_counted() -> None:
    """Lines of tokens are counted like one line."""
    assert Vocab(TOKENS).frequencies == Vocab([TOKENS[:3], [TOKENS[3:]]]).frequencies


def test_a_generator_of_tokens_is_counted() -> None:
    """Tokens may come from anything that can be iterated over."""
    assert Vocab(TOKENS) == Vocab(token for token in TOKENS)


@pytest.mark.parametrize(
    ("min_freq", "expected"),
    [
        (0, ("<unk>", "t", "e", "m", "i")),
        (1, ("<unk>", "t", "e", "m", "i")),
        (2, ("<unk>", "t", "e")),
        (3, ("<unk>", "t")),
        (4, ("<unk>",)),
    ],
)
def test_rare_tokens_get_no_id(min_freq: int, expected: tuple[str, ...]) -> None:
    """A token that appears exactly ``min_freq`` times is kept."""
    assert expected == Vocab(TOKENS, min_freq=min_freq).tokens


@pytest.mark.parametrize("vocab_size", [3, 4, 5, 6, 100])
def test_the_most_frequent_tokens_get_the_ids(vocab_size: int) -> None:
    """Special tokens count; of equally frequent ones the first get an id."""
    expected = ("<unk>", "<pad>", "t", "e", "m", "i")[:vocab_size]
    assert expected == Vocab(TOKENS, reserved_tokens=["<pad>"], vocab_size=vocab_size).tokens


def test_what_has_no_id_is_forgotten(tmp_path: Path) -> None:
    """So a file of a million rare words stays small, and older releases read the same ids."""
    vocab = Vocab(TOKENS, reserved_tokens=["m"], vocab_size=3)
    assert {"t": 3, "m": 1} == vocab.frequencies
    loaded = Vocab.load(vocab.save(tmp_path / "vocab.json"))
    assert (vocab.tokens, vocab.frequencies) == (loaded.tokens, loaded.frequencies)


@pytest.mark.parametrize("vocab_size", [0, 1, 2])
def test_too_few_ids_are_refused(vocab_size: int) -> None:
    """The message says what needs one."""
    message = (
        "^vocab_size must be at least 3, for <unk>, 1 reserved token and one token of the text, "
        f"got {vocab_size}$"
    )
    with pytest.raises(ArgumentError, match=message):
        Vocab(TOKENS, reserved_tokens=["<pad>"], vocab_size=vocab_size)


def test_rare_reserved_tokens_keep_their_ids() -> None:
    """``min_freq`` does not concern reserved tokens."""
    expected = ("<unk>", "m", "t")
    assert expected == Vocab(TOKENS, min_freq=3, reserved_tokens=["m"]).tokens


def test_reserved_token_in_the_text_has_one_id() -> None:
    """A reserved token that the text holds too keeps the reserved id only."""
    expected = ("<unk>", "e", "t", "m", "i")
    assert expected == Vocab(TOKENS, reserved_tokens=["e"]).tokens


def test_unknown_token_in_the_text_has_id_0() -> None:
    """A text that spells the unknown token does not get a second one."""
    expected = ("<unk>", "a")
    assert expected == Vocab(["<unk>", "a", "<unk>"]).tokens


def test_unknown_token_has_a_name() -> None:
    """Id 0 is called what the caller wants."""
    expected = "?"
    assert expected == Vocab(TOKENS, unknown_token="?").unknown_token  # noqa: S106  no password


def test_empty_vocabulary_knows_one_token() -> None:
    """Without tokens there is the unknown one."""
    expected = ("<unk>",)
    assert expected == Vocab().tokens


def test_frequencies_are_in_falling_order() -> None:
    """Frequencies list all counted tokens, the rare ones too."""
    expected = [("t", 3), ("e", 2), ("m", 1), ("i", 1)]
    assert expected == list(Vocab(TOKENS, min_freq=2).frequencies.items())


def test_frequencies_are_a_copy(vocab: Vocab) -> None:
    """A change of the returned dictionary does not change the vocabulary."""
    vocab.frequencies.clear()

    expected = 3
    assert expected == vocab.frequencies["t"]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ("t", 3),
        ("<unk>", UNKNOWN_ID),
        ("<eos>", 2),
        ("z", UNKNOWN_ID),
        ("time", UNKNOWN_ID),
        ("", UNKNOWN_ID),
        ([], []),
        (["t", "z"], [3, 0]),
        (("t", "e"), [3, 4]),
        ([["t"], [], ["e", ["z"]]], [[3], [], [4, [0]]]),
        (np.array([["t", "e"]]), [[3, 4]]),
    ],
)
def test_look_up_ids(vocab: Vocab, tokens: Any, expected: Any) -> None:
    """A token gives its id or 0, nested tokens give nested ids."""
    assert expected == vocab[tokens]


@pytest.mark.parametrize("tokens", [3, None, ["t", 3]])
def test_look_up_of_what_is_no_token(vocab: Vocab, tokens: Any) -> None:
    """Anything but str is refused, and named."""
    with pytest.raises(ArgumentError, match=r"must be a str or nested lists of str, got (3|None)"):
        vocab[tokens]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (3, "t"),
        (0, "<unk>"),
        ([], []),
        ([3, 0], ["t", "<unk>"]),
        ((3, 4), ["t", "e"]),
        (range(2), ["<unk>", "<pad>"]),
        ([[3], [], [4, [0]]], [["t"], [], ["e", ["<unk>"]]]),
        (np.uint8(3), "t"),
        (np.array(3), "t"),
        (np.array([3, 4], np.uint16), ["t", "e"]),
        (np.array([[3], [4]]), [["t"], ["e"]]),
        ([np.int64(3), np.array([4])], ["t", ["e"]]),
        (torch.tensor(3), "t"),
        (torch.tensor([3, 4]), ["t", "e"]),
        (torch.tensor([[3], [4]], dtype=torch.uint8), [["t"], ["e"]]),
        ([torch.tensor(3), torch.tensor([4])], ["t", ["e"]]),
    ],
)
def test_look_up_tokens(vocab: Vocab, ids: Any, expected: Any) -> None:
    """Ids in lists, arrays and tensors of any shape give tokens in that shape."""
    assert expected == vocab.to_tokens(ids)


@pytest.mark.parametrize(
    "ids", [7, -1, [0, 7], np.array([-1]), torch.tensor(7), torch.tensor([[-1]]), 10**30]
)
def test_id_out_of_range(vocab: Vocab, ids: Any) -> None:
    """An id that no token has is refused with the range; a negative one does not wrap."""
    with pytest.raises(ArgumentError, match=r"^an id must be in \[0, 7\), got (7|-1|10{30})$"):
        vocab.to_tokens(ids)


@pytest.mark.parametrize("ids", [1.0, "1", None, ["t"], np.array([1.0]), torch.tensor(1.0)])
def test_id_that_is_no_integer(vocab: Vocab, ids: Any) -> None:
    """Anything but an integer is refused, and named."""
    with pytest.raises(ArgumentError, match=r"^an id must be an integer, got (1\.0|'1'|None|'t')$"):
        vocab.to_tokens(ids)


@pytest.mark.parametrize("tokens", ["time", 5, [["t"], 5], [b"t"]])
def test_tokens_that_are_no_strings(tokens: Any) -> None:
    """A single str, or anything in the nest that is no str, is refused."""
    with pytest.raises(
        ArgumentError, match=r"expected an iterable of str tokens .*got ('time'|5|116)$"
    ):
        Vocab(tokens)


def test_counts_of_what_is_no_string() -> None:
    """Finished counts of anything but str are refused."""
    counts: Any = {1: 2}

    with pytest.raises(ArgumentError, match="got 1"):
        Vocab(counts)


@pytest.mark.parametrize("reserved", [["a", "a"], ["<unk>"]])
def test_reserved_tokens_that_repeat(reserved: list[str]) -> None:
    """A reserved token that would have two ids is refused."""
    with pytest.raises(ArgumentError, match=r"reserved_tokens must differ .*'<unk>'"):
        Vocab(TOKENS, reserved_tokens=reserved)


def test_reserved_tokens_are_no_str() -> None:
    """A forgotten pair of brackets does not reserve single letters."""
    with pytest.raises(ArgumentError, match="got '<pad>'"):
        Vocab(TOKENS, reserved_tokens="<pad>")


def test_len_counts_every_token(vocab: Vocab) -> None:
    """The length is the number of different ids."""
    expected = 7
    assert expected == len(vocab)


def test_iteration_is_in_order_of_ids(vocab: Vocab) -> None:
    """Iterating gives the tokens."""
    assert list(vocab.tokens) == list(vocab)


@pytest.mark.parametrize(
    ("token", "expected"), [("t", True), ("<pad>", True), ("<unk>", True), ("z", False), (3, False)]
)
def test_contains(vocab: Vocab, token: object, *, expected: bool) -> None:
    """A token that has an id of its own is in the vocabulary."""
    assert expected == (token in vocab)


def test_equal_vocabularies_have_equal_ids(vocab: Vocab) -> None:
    """Counts do not matter for equality, the order of tokens does."""
    assert vocab == Vocab({"t": 9, "e": 8, "m": 7, "i": 6}, reserved_tokens=["<pad>", "<eos>"])


def test_other_ids_are_another_vocabulary(vocab: Vocab) -> None:
    """The same tokens with other ids are not equal."""
    assert vocab != Vocab(TOKENS, reserved_tokens=["<eos>", "<pad>"])


def test_a_vocabulary_is_no_tuple(vocab: Vocab) -> None:
    """Something else is never equal to a vocabulary."""
    assert vocab != vocab.tokens


def test_equal_vocabularies_are_one_key(vocab: Vocab) -> None:
    """Equal vocabularies hash alike."""
    expected = 1
    assert expected == len({vocab, Vocab(TOKENS, reserved_tokens=["<pad>", "<eos>"])})


def test_repr_has_size_and_hash(vocab: Vocab) -> None:
    """People see how many tokens there are and which vocabulary it is."""
    assert f"Vocab(7 tokens, {vocab.hash[:15]}...)" == repr(vocab)


@pytest.mark.parametrize(
    ("tokens", "reserved", "expected"),
    [
        ([], [], True),
        (["a", "\n"], [], True),
        (["a"], ["<pad>"], True),
        (["a", "bc"], [], False),
        ([""], [], False),
    ],
)
def test_has_only_characters(tokens: list[str], reserved: list[str], *, expected: bool) -> None:
    """Special tokens aside, one longer token makes it no vocabulary of characters."""
    assert expected == Vocab(tokens, reserved_tokens=reserved).has_only_characters


def test_hash_is_pinned() -> None:
    """The hash is the same in every release."""
    expected = "sha256:ea73e47b4148205272efeb1f4ff491b96fea31dbc04afe63ad9cee2c3e2138a9"
    assert expected == Vocab(["b", "é", "é"]).hash


@pytest.mark.parametrize("seed", ["0", "1"])
def test_hash_is_the_same_in_every_process(vocab: Vocab, seed: str) -> None:
    """Python's random hashes of str change neither order nor hash."""
    program = (
        "from tokenloom import Vocab\n"
        f"print(Vocab({TOKENS!r}, reserved_tokens=['<pad>', '<eos>']).hash)"
    )
    process = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONHASHSEED": seed},
        capture_output=True,
        check=True,
        encoding="utf-8",
    )

    assert vocab.hash == process.stdout.strip()


@given(vocabs())
def test_ids_and_tokens_are_inverse(vocab: Vocab) -> None:
    """Every id is the id of its token."""
    ids = list(range(len(vocab)))

    assert ids == vocab[vocab.to_tokens(ids)]


def _content(vocab: Vocab) -> list[object]:
    return [vocab.tokens, list(vocab.frequencies.items()), vocab.hash, vocab.has_only_characters]


def test_save_and_load_round_trip(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A loaded vocabulary has the tokens, counts and hash of the saved one."""
    path = tmp_path_factory.mktemp("vocab") / "vocab.json"

    @given(vocabs())
    @settings(max_examples=30)
    def check(vocab: Vocab) -> None:
        vocab.save(path)
        assert _content(vocab) == _content(Vocab.load(path))

    check()


@pytest.mark.parametrize("token", ["\ud800", "\u2028", "\x00", "\U0001f600", "\r\n", '"\\'])
def test_strange_tokens_round_trip(tmp_path: Path, token: str) -> None:
    """Tokens that need care in JSON come back as they were."""
    path = Vocab([token]).save(tmp_path / "vocab.json")

    expected = ("<unk>", token)
    assert expected == Vocab.load(path).tokens


def test_pickle_round_trip(vocab: Vocab) -> None:
    """Worker processes get the same vocabulary."""
    copied = pickle.loads(pickle.dumps(vocab))  # noqa: S301  our own bytes

    assert _content(vocab) == _content(copied)


@pytest.mark.parametrize("has_hash", [True, False])
def test_pickles_of_older_releases_are_read(vocab: Vocab, *, has_hash: bool) -> None:
    """They have a dict of the counts, and those of 0.1.0 no hash."""
    left_out = {"_counted", "_counts"} | ({"_hash"} if not has_hash else set())
    older = {name: getattr(vocab, name) for name in Vocab.__slots__ if name not in left_out}
    copied = object.__new__(Vocab)
    copied.__setstate__((None, {**older, "_frequencies": vocab.frequencies}))

    assert _content(vocab) == _content(copied)
    assert copied.hash == vocab.hash
    assert pickle.loads(pickle.dumps(copied)).hash == vocab.hash  # noqa: S301  our own bytes


def test_file_is_ascii_with_a_format_and_a_version(vocab: Vocab, tmp_path: Path) -> None:
    """Any tool can tell what the file is."""
    value = json.loads(vocab.save(tmp_path / "vocab.json").read_text(encoding="ascii"))

    expected = ("tokenloom-vocab", 1)
    assert expected == (value["format"], value["version"])


@pytest.mark.parametrize(
    "tokens",
    [
        [],
        ["a"],
        ['"frequencies": []', "\n],\n[\n", ",\n", "\n]\n]", "\0", "\u00e9", "\ud800", "\\", '"'],
    ],
)
def test_file_has_a_line_for_each_token_and_number(tmp_path: Path, tokens: list[str]) -> None:
    """As json.dumps writes with indent=0, which is the form of every release; and it is read."""
    vocab = Vocab({token: 9 - number for number, token in enumerate(tokens)}).of_kind("word")
    value = json.loads(vocab.to_json())

    assert json.dumps(value, indent=0) + "\n" == vocab.to_json()
    assert [[token, 9 - number] for number, token in enumerate(tokens)] == value["frequencies"]
    assert _content(vocab) == _content(Vocab.load(vocab.save(tmp_path / "vocab.json")))


@pytest.mark.parametrize(
    "pair", ["", '"a"', '"a",\n1,\n2', '"a",\n1,\n"b",\n2', "1,\n2", '"a",\n1\n],\n[\n"b"']
)
def test_file_with_a_line_too_many_or_too_few(tmp_path: Path, pair: str) -> None:
    """What is no pair of a token and a number is refused in that form too."""
    path = Vocab(["a"]).save(tmp_path / "vocab.json")
    text = path.read_text("utf-8")
    assert '"a",\n1' in text
    path.write_text(text.replace('"a",\n1', pair), "utf-8")

    with pytest.raises(CorpusError, match=r"vocab\.json' must be a vocabulary"):
        Vocab.load(path)


def test_hash_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A repr of a large vocabulary does not hash it again."""
    vocab = Vocab(["a"])
    expected = vocab.hash
    monkeypatch.setattr("tokenloom.text.vocab.hash_json", None)

    assert expected == vocab.hash
    assert expected[:15] in repr(vocab)


def test_save_returns_the_path(vocab: Vocab, tmp_path: Path) -> None:
    """A path that was a str comes back as a Path."""
    path = tmp_path / "vocab.json"

    assert path == vocab.save(str(path))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"3",
        b"null",
        b'"tokenloom-vocab"',
        b"\xff\xfe",
        b"\x80\x04pickle",
        pytest.param(b"[" * 100_000, id="deep"),
    ],
)
def test_file_of_something_else(tmp_path: Path, content: bytes) -> None:
    """A file that is no vocabulary is refused by name."""
    path = tmp_path / "other.json"
    path.write_bytes(content)

    with pytest.raises(CorpusError, match=r"other\.json' must be a vocabulary in the format"):
        Vocab.load(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "tokenloom-plan"},
        {"version": 2},
        {"version": None},
        {"frequencies": [["a"]]},
        {"frequencies": [["a", "often"]]},
        {"frequencies": 3},
        {"frequencies": None},
        {"min_freq": None},
        {"min_freq": "often"},
        {"min_freq": float("inf")},
        {"reserved_tokens": None},
        {"reserved_tokens": "<pad>"},
        {"reserved_tokens": ["<pad>", "<pad>"]},
        {"reserved_tokens": ["<unk>"]},
        {"reserved_tokens": [3]},
    ],
    ids=str,
)
def test_file_with_a_wrong_value(tmp_path: Path, changes: dict[str, Any]) -> None:
    """A file whose values cannot be right is refused, with the cure."""
    path = _saved(tmp_path, **changes)

    with pytest.raises(CorpusError, match=r"version 1: write it again with Vocab\.save$"):
        Vocab.load(path)


@pytest.mark.parametrize(
    "key",
    ["format", "version", "unknown_token", "reserved_tokens", "min_freq", "frequencies"],
)
def test_file_without_a_value(tmp_path: Path, key: str) -> None:
    """A file in which a value is missing is refused."""
    path = Vocab(TOKENS).save(tmp_path / "vocab.json")
    value = json.loads(path.read_text(encoding="utf-8"))
    del value[key]
    path.write_text(json.dumps(value), encoding="utf-8")

    with pytest.raises(CorpusError, match=r"vocab\.json' must be a vocabulary"):
        Vocab.load(path)


def test_truncated_file_is_refused(vocab: Vocab, tmp_path: Path) -> None:
    """No beginning of the file is taken for a vocabulary."""
    path = vocab.save(tmp_path / "vocab.json")
    content = path.read_bytes().rstrip()
    accepted = []
    for num_bytes in range(0, len(content), 5):
        path.write_bytes(content[:num_bytes])
        try:
            Vocab.load(path)
        except CorpusError:
            continue
        accepted.append(num_bytes)

    expected: list[int] = []
    assert expected == accepted


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there raises what opening it raises."""
    with pytest.raises(FileNotFoundError, match="missing"):
        Vocab.load(tmp_path / "missing.json")


@pytest.mark.parametrize(
    ("num_tokens", "dtype"), [(0, "u1"), (255, "u1"), (256, "u2"), (65_536, "u4")]
)
def test_ids_of_many_tokens_are_one_narrow_array(num_tokens: int, dtype: str) -> None:
    """Every token has the id that it has alone, and the dtype follows the vocabulary."""
    vocab = Vocab(map(str, range(num_tokens)))
    tokens = ["0", "nowhere", str(num_tokens - 1), "0"]
    ids = vocab.to_ids(tokens)
    assert ids.dtype == np.dtype(dtype)
    assert ids.tolist() == [vocab[token] for token in tokens]
    assert vocab.to_ids([]).shape == (0,)


def test_a_vocabulary_knows_what_made_it(tmp_path: Path) -> None:
    """Also out of a file; one that nobody made says so."""
    vocab = Vocab(["to", "be"])
    known = vocab.of_kind("word", normalize=True)
    assert (None, None) == (vocab.kind, vocab.normalize)
    assert (vocab, "word", True) == (known, known.kind, known.normalize)
    assert known is known.of_kind("word", normalize=True)
    again = Vocab.load(known.save(tmp_path / "known.json"))
    assert (vocab, "word", True) == (again, again.kind, again.normalize)
    again = Vocab.load(vocab.save(tmp_path / "unknown.json"))
    assert (vocab, None, None) == (again, again.kind, again.normalize)


@pytest.mark.parametrize("tokenizer", ["word", ["word"], {"name": "bpe"}, {"name": "word"}, 3])
def test_files_that_do_not_say_what_made_them(tmp_path: Path, tokenizer: object) -> None:
    """Their tokens are read all the same."""
    path = Vocab(["a"]).save(tmp_path / "vocab.json")
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, "tokenizer": tokenizer}))
    assert (("<unk>", "a"), None) == (Vocab.load(path).tokens, Vocab.load(path).kind)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("kind", ["char", "word"])
def test_a_vocabulary_in_a_store_is_that_of_its_tokenizer(
    tmp_path: Path, kind: str, normalize: bool
) -> None:
    """Its manifest knows it; the vocabulary's file holds tokens only, as always."""
    corpus = Corpus.from_text("To be, or", tokenizer=kind, normalize=normalize)
    corpus.save(tmp_path / "store")
    assert "tokenizer" not in json.loads((tmp_path / "store" / "vocab.json").read_text())
    vocab = Vocab.load(tmp_path / "store" / "vocab.json")
    assert (kind, normalize) == (vocab.kind, vocab.normalize)
    opened = Corpus.open(tmp_path / "store").vocab
    assert opened is not None
    assert (kind, normalize) == (opened.kind, opened.normalize)


def test_numbers_of_older_releases_are_read(tmp_path: Path) -> None:
    """They took a least frequency below 0, which meant none."""
    path = Vocab(["a"]).save(tmp_path / "vocab.json")
    path.write_text(path.read_text().replace('"min_freq": 0', '"min_freq": -1'))
    assert ("<unk>", "a") == Vocab.load(path).tokens


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_is_no_vocabulary(tmp_path: Path) -> None:
    """It is not waited for."""
    os.mkfifo(tmp_path / "vocab.json")
    with pytest.raises(OSError, match="is a named pipe"):
        Vocab.load(tmp_path / "vocab.json")


@given(
    st.lists(
        st.tuples(st.sampled_from([*"abcdefgh", "<unk>", "<eod>"]), st.integers(0, 4)), max_size=4
    ),
    st.integers(0, 3),
)
def test_a_file_of_any_order_is_what_its_counts_say(
    pairs: list[tuple[str, int]], min_freq: int
) -> None:
    """Also where a token is there twice, is special or is rare, and where counts rise."""
    value = json.loads(Vocab(reserved_tokens=["<eod>"], min_freq=min_freq).to_json())
    text = json.dumps({**value, "frequencies": pairs}, indent=0) + "\n"
    loaded = parse_vocab(text.encode(), "vocab.json")
    expected = Vocab(dict(pairs), reserved_tokens=["<eod>"], min_freq=min_freq)
    assert (expected.tokens, expected.to_json()) == (loaded.tokens, loaded.to_json())
    assert [*range(len(loaded))] == loaded[loaded.tokens]
