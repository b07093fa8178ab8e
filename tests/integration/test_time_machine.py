"""The real Time Machine text has the textbook's numbers, whichever way it comes in."""

import hashlib
from pathlib import Path

import pytest

from tests.support.hub.file_server import Answer, serving
from tests.support.hub.time_machine import TIME_MACHINE, needs_time_machine
from tokenloom import Corpus, Vocab
from tokenloom.hub.catalogue import CATALOGUE
from tokenloom.hub.load import load
from tokenloom.text.tokenizers import CharTokenizer

pytestmark = needs_time_machine


@pytest.fixture(scope="module", params=["char", "word"])
def real(request: pytest.FixtureRequest) -> Corpus:
    """Return the real text as characters and as words."""
    return Corpus.from_text(TIME_MACHINE.read_bytes(), tokenizer=request.param)


def vocab_of(corpus: Corpus) -> Vocab:
    """Return the vocabulary, which every text has."""
    assert corpus.vocab is not None
    return corpus.vocab


def kind_of(corpus: Corpus) -> str:
    """Return which column of expected numbers is the corpus's."""
    return "char" if isinstance(corpus.tokenizer, CharTokenizer) else "word"


def test_number_of_real_tokens(real: Corpus) -> None:
    """The real text has the textbook's number of characters and words."""
    expected = {"char": 170_580, "word": 32_775}
    assert expected[kind_of(real)] == len(real)


def test_size_of_the_real_vocabulary(real: Corpus) -> None:
    """The real text has the textbook's vocabulary, with the unknown token."""
    expected = {"char": 28, "word": 4580}
    assert expected[kind_of(real)] == real.vocab_size == len(vocab_of(real))


def test_most_frequent_real_tokens(real: Corpus) -> None:
    """The most frequent tokens of the real text have the textbook's counts."""
    expected = {
        "char": [(" ", 29_927), ("e", 17_838), ("t", 13_515), ("a", 11_704), ("i", 10_138)],
        "word": [("the", 2261), ("i", 1267), ("and", 1245), ("of", 1155), ("a", 816)],
    }
    assert expected[kind_of(real)] == list(vocab_of(real).frequencies.items())[:5]


def test_most_frequent_real_tokens_have_the_first_ids(real: Corpus) -> None:
    """The ids from 1 on are those of the most frequent tokens."""
    expected = {"char": [" ", "e", "t", "a", "i"], "word": ["the", "i", "and", "of", "a"]}
    assert expected[kind_of(real)] == vocab_of(real).to_tokens([1, 2, 3, 4, 5])


def test_first_real_ids() -> None:
    """The real text begins with the ids of "the time machine"."""
    corpus = Corpus.from_text(TIME_MACHINE.read_bytes())

    expected = [3, 9, 2, 1, 3, 5, 13, 2, 1, 13, 4, 15, 9, 5, 6, 2]
    assert expected == corpus.tokens[:16].tolist()


def test_every_real_id() -> None:
    """All ids of the real text, one byte each, have the pinned SHA-256."""
    corpus = Corpus.from_text(TIME_MACHINE.read_bytes())

    expected = "6e4b58fb6d0d894ec6448ca8521d4a42f763afc5409d9b2478fc9b46d36a439d"
    assert expected == hashlib.sha256(corpus.tokens[:].tobytes()).hexdigest()


def test_type_of_real_ids(real: Corpus) -> None:
    """28 characters fit in one byte, 4,580 words in two."""
    expected = {"char": "uint8", "word": "uint16"}
    assert expected[kind_of(real)] == real.tokens.dtype.name


def test_time_machine_is_the_real_text() -> None:
    """The catalogue expects the size and the hash that the real text has."""
    file = CATALOGUE["time_machine"].file
    assert file
    content = TIME_MACHINE.read_bytes()

    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"

    assert (len(content), digest) == (file.num_bytes, file.digest)


def test_load_the_real_text_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real text, placed in the cache, is loaded without a network."""
    monkeypatch.setenv("TOKENLOOM_OFFLINE", "1")
    monkeypatch.setenv("TOKENLOOM_CACHE", str(tmp_path))
    (tmp_path / "timemachine.txt").write_bytes(TIME_MACHINE.read_bytes())

    expected = "Corpus('time_machine', 170,580 tokens, vocab_size=28)"
    assert expected == repr(load("time_machine"))


def test_load_the_real_text_from_a_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real text is downloaded from a mirror under the name of its file."""
    monkeypatch.setenv("TOKENLOOM_CACHE", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("TOKENLOOM_OFFLINE", raising=False)
    with serving({"/timemachine.txt": Answer(body=TIME_MACHINE.read_bytes())}) as mirror:
        monkeypatch.setenv("TOKENLOOM_MIRROR", mirror.url)
        corpus = load("time_machine", tokenizer="word")

    expected = "Corpus('time_machine', 32,775 tokens, vocab_size=4,580)"
    assert expected == repr(corpus)
