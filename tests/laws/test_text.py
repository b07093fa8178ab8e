"""Text to tokens, against what the textbook says in the slowest and plainest way."""

import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenloom as tl
from tests.support.hub.time_machine import TIME_MACHINE, needs_time_machine
from tests.support.text.tokenizing import tokenize
from tokenloom.text.normalize import clean_characters, clean_prompt, clean_words, split_words
from tokenloom.text.tokenizers import TOKENIZER_NAMES, count_characters

UNKNOWN = "<unk>"
LETTERS = ["a", "B", "z", "Z", "the", "Time", f" {UNKNOWN} "]
# Around the letters in ASCII, look-alikes, and letters whose lower case is ASCII.
OTHERS = [
    " ",
    "  ",
    "\t",
    "-",
    "'",
    "_",
    "0",
    "@",
    "[",
    "`",
    "{",
    "é",
    "\uff21",
    "\u212a",
    "\u0130",
]
LINE_ENDS = ["\n", "\r", "\r\n"]
# These end a line for str.splitlines, but neither in a file nor for the textbook.
NO_LINE_ENDS = ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"]

pieces = st.one_of(
    st.sampled_from(LETTERS),
    # Twice, so that letters stand around most of the rest.
    st.sampled_from(LETTERS),
    st.sampled_from(LINE_ENDS),
    st.sampled_from(OTHERS + NO_LINE_ENDS),
    st.text(max_size=4),
)
texts = st.lists(pieces, max_size=25).map("".join)
# What os.fsdecode makes of file names, for example, is no valid Unicode.
surrogates = st.characters(min_codepoint=0xD800, max_codepoint=0xDFFF)
any_texts = st.lists(st.one_of(pieces, surrogates), max_size=25).map("".join)


def slow_lines(text: str) -> list[str]:
    """Return the lines of a text as the textbook reads and cleans them."""
    lines = io.StringIO(text, newline=None)
    return [re.sub("[^A-Za-z]+", " ", line).strip().lower() for line in lines]


def slow_characters(text: str) -> list[str]:
    """Return the textbook's characters: those of each line, one after the other."""
    return [character for line in slow_lines(text) for character in line]


def slow_words(text: str) -> list[str]:
    """Return the textbook's words: those of each line, one after the other."""
    return [word for line in slow_lines(text) for word in line.split()]


@dataclass(frozen=True, slots=True)
class SlowCorpus:
    """What a corpus of tokens is: every token's id, and the token of each id."""

    ids: list[int]
    table: list[str]


def slow_corpus(
    tokens: Sequence[str], *, min_freq: int = 0, vocab_size: int | None = None
) -> SlowCorpus:
    """Return tokens numbered by falling frequency, ties in order of first appearance."""
    counts = Counter(tokens)
    falling = sorted(counts, key=lambda token: (-counts[token], tokens.index(token)))
    table = [UNKNOWN]
    table += [token for token in falling if counts[token] >= min_freq and token not in table]
    table = table[:vocab_size]
    ids = [table.index(token) if token in table else 0 for token in tokens]
    return SlowCorpus(ids, table)


def split_into(kind: str, text: str, *, normalize: bool) -> list[str]:
    """Return the tokens of a text, slowly."""
    match kind, normalize:
        case "char", True:
            return slow_characters(text)
        case "char", False:
            return list(text)
        case "word", True:
            return slow_words(text)
        case _:
            return text.split()


def seen(corpus: tl.Corpus) -> SlowCorpus:
    """Return a corpus in the terms of the slow one."""
    table = [] if corpus.vocab is None else list(corpus.vocab.tokens)
    return SlowCorpus(corpus.tokens.tolist(), table)


kinds = pytest.mark.parametrize("kind", ["char", "word"])
normalizes = pytest.mark.parametrize("normalize", [True, False])


@given(any_texts)
@settings(max_examples=120)
def test_clean_characters_is_the_textbook(text: str) -> None:
    """Characters are those of the textbook's lines, whatever the text."""
    assert "".join(slow_characters(text)) == clean_characters(text)


@given(any_texts)
@settings(max_examples=120)
def test_clean_words_is_the_textbook(text: str) -> None:
    """Words are those of the textbook's lines, whatever the text."""
    assert " ".join(slow_words(text)) == clean_words(text)


@pytest.mark.parametrize("normalize", [True, False])
@given(text=any_texts, length=st.integers(1, 9))
@settings(max_examples=120)
def test_a_text_may_be_cut_into_pieces(text: str, length: int, *, normalize: bool) -> None:
    """Whatever the length of the pieces that are worked on, the result is the same."""
    words = slow_words(text) if normalize else text.split()
    pieces = list(split_words(text, normalize=normalize, piece=length))

    assert "".join(slow_characters(text)) == clean_characters(text, piece=length)
    assert words == [word for piece in pieces for word in piece]


@given(any_texts)
def test_clean_prompt_is_the_words_with_outer_spaces(prompt: str) -> None:
    """A prompt is its words, and one space at each end that is no letter."""
    words = " ".join(slow_words(prompt))
    before = "" if re.match("[A-Za-z]", prompt) else " "
    after = "" if re.search(r"[A-Za-z]\Z", prompt) else " "

    assert (f"{before}{words}{after}" if words else "") == clean_prompt(prompt)


@needs_time_machine
def test_clean_characters_of_the_real_text() -> None:
    """The whole Time Machine comes out as the textbook has it."""
    text = TIME_MACHINE.read_text(encoding="utf-8")

    assert "".join(slow_characters(text)) == clean_characters(text)


@needs_time_machine
def test_clean_words_of_the_real_text() -> None:
    """The whole Time Machine comes out as the textbook has it."""
    text = TIME_MACHINE.read_text(encoding="utf-8")

    assert " ".join(slow_words(text)) == clean_words(text)


@given(any_texts)
@settings(max_examples=40)
def test_count_characters_is_a_counter(text: str) -> None:
    """Counts, and the order of first appearance, are those of a Counter."""
    assert list(Counter(text).items()) == list(count_characters(text).items())


@given(any_texts, st.integers(1, 5))
@settings(max_examples=40)
def test_count_characters_in_many_chunks_is_a_counter(text: str, chunk: int) -> None:
    """A text that is counted chunk by chunk gives the same counts in the same order."""
    counts = count_characters(text, chunk=chunk)

    assert list(Counter(text).items()) == list(counts.items())


@kinds
@normalizes
@given(text=texts, min_freq=st.integers(0, 3), vocab_size=st.none() | st.integers(2, 6))
@settings(max_examples=40)
def test_corpus_from_text_is_the_slow_one(
    kind: str, text: str, min_freq: int, vocab_size: int | None, *, normalize: bool
) -> None:
    """Ids and vocabulary of a text are those of the plain description."""
    tokens = split_into(kind, text, normalize=normalize)
    # A text without a token is refused, which test_corpus.py covers.
    text, tokens = (text, tokens) if tokens else ("a", ["a"])
    how: dict[str, Any] = {"tokenizer": kind, "normalize": normalize, "min_freq": min_freq}
    expected = slow_corpus(tokens, min_freq=min_freq, vocab_size=vocab_size)
    assert expected == seen(tl.Corpus.from_text(text, vocab_size=vocab_size, **how))
    assert expected == seen(tl.Corpus.from_documents([text], vocab_size=vocab_size, **how))


@kinds
@normalizes
@given(text=texts)
@settings(max_examples=25)
def test_encode_gives_the_ids_of_the_corpus(kind: str, text: str, *, normalize: bool) -> None:
    """The tokenizer that a text made encodes that text to the same ids."""
    ids, tokenizer = tokenize(text, tokenizer=kind, normalize=normalize)

    assert ids.tolist() == list(tokenizer.encode(text))  # type: ignore[arg-type]  # array_like


@given(texts)
@settings(max_examples=25)
def test_characters_round_trip(text: str) -> None:
    """Characters that are not normalised decode to the text itself."""
    ids, tokenizer = tokenize(text, tokenizer="char", normalize=False)

    assert text == tokenizer.decode(ids.tolist())


@kinds
@given(text=texts)
@settings(max_examples=25)
def test_normalised_text_round_trips(kind: str, text: str) -> None:
    """Normalised tokens decode to the normalised text."""
    ids, tokenizer = tokenize(text, tokenizer=kind)
    clean = clean_characters if kind == "char" else clean_words

    assert clean(text) == tokenizer.decode(ids.tolist())


@given(st.text())
def test_bytes_of_a_text_are_its_utf8(text: str) -> None:
    """The ids of byte tokens are the bytes of the text in UTF-8."""
    ids, _ = tokenize(text, tokenizer="byte")

    assert list(text.encode("utf-8")) == ids.tolist()


@given(st.text())
def test_bytes_round_trip(text: str) -> None:
    """Byte tokens decode to the text itself."""
    ids, tokenizer = tokenize(text, tokenizer="byte")

    assert text == tokenizer.decode(ids.tolist())


@given(st.binary(min_size=1))
def test_bytes_that_are_no_text_are_kept(content: bytes) -> None:
    """With byte tokens any bytes are a corpus, and the ids are those bytes."""
    assert list(content) == tl.Corpus.from_text(content, tokenizer="byte").tokens.tolist()


@pytest.mark.parametrize("kind", TOKENIZER_NAMES)
@given(text=texts)
@settings(max_examples=25)
def test_bytes_in_utf8_are_the_text(kind: str, text: str) -> None:
    """A text and its bytes in UTF-8 are the same corpus."""
    text += "a"
    corpus = tl.Corpus.from_text(text.encode("utf-8"), tokenizer=kind)

    assert seen(tl.Corpus.from_text(text, tokenizer=kind)) == seen(corpus)
