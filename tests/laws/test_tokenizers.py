"""What each built-in tokenizer answers, against what it encodes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.text.tokenizing import tokenize
from tokenloom.text.documents import TextSegment
from tokenloom.text.interface import CompleteTokenizer, vocab_of
from tokenloom.text.normalize import NOTHING, state_after
from tokenloom.text.tokenizers import (
    COUNTED_NAMES,
    TOKENIZERS,
    CountedTokenizer,
    complete,
    make_tokenizer,
    restore_tokenizer,
)
from tokenloom.text.vocab import Vocab

TEXT = "To be,\nor not\n\nto be.\t'Tis\u3000the \u00e9t\u00e9 of 1898 \u6642\u9593\n"
texts = st.text("aB \n\r.\u00e9\u3000\u6642")
each_name = pytest.mark.parametrize("name", TOKENIZERS)


def make(name: str, *, normalize: bool) -> CompleteTokenizer:
    """Return the tokenizer of a name, which knows some tokens."""
    _, made = tokenize(TEXT, tokenizer=name, normalize=normalize)
    return complete(made)


def segment(tokenizer: CompleteTokenizer, content: bytes, state: int = NOTHING) -> TextSegment:
    """Return a segment as the tokenizer takes it."""
    return TextSegment(content if tokenizer.reads_bytes else content.decode(), state, ends=True)


@each_name
@given(st.lists(texts, max_size=5), st.booleans())
@settings(max_examples=60)
def test_many_segments_have_the_ids_of_each(name: str, parts: list[str], normalize: bool) -> None:
    """The ids of many, side by side, and where each ends."""
    tokenizer = make(name, normalize=normalize)
    each = [np.asarray(tokenizer.encode(part)).tolist() for part in parts]
    segments = [segment(tokenizer, part.encode()) for part in parts]
    ids, stops = tokenizer.encode_segments(segments)
    assert [id_ for part in each for id_ in part] == ids.tolist()
    assert np.cumsum(list(map(len, each)), dtype=np.int64).tolist() == stops.tolist()


@each_name
@given(texts, texts, st.booleans())
@settings(max_examples=60)
def test_a_cut_changes_no_ids(name: str, text: str, more: str, normalize: bool) -> None:
    """Where the tokenizer says that a text may be cut, both parts have the ids of the whole."""
    tokenizer = make(name, normalize=normalize)
    whole = (text + more).encode()
    stop = tokenizer.boundary.cut(text.encode())
    state = state_after(whole[:stop], NOTHING) if tokenizer.boundary.has_state else NOTHING
    parts = segment(tokenizer, whole[:stop]), segment(tokenizer, whole[stop:], state)
    each = [tokenizer.encode_segments([part])[0].tolist() for part in parts]
    assert np.asarray(tokenizer.encode(text + more)).tolist() == each[0] + each[1]


@pytest.mark.parametrize("name", COUNTED_NAMES)
@given(st.lists(texts, max_size=5), st.booleans())
@settings(max_examples=60)
def test_counted_tokens_are_those_that_are_encoded(
    name: str, parts: list[str], normalize: bool
) -> None:
    """Before there is a vocabulary, the tokens are numbered as it would have them."""
    tokenizer = make_tokenizer(name, normalize=normalize)
    assert isinstance(tokenizer, CountedTokenizer)
    segments = [segment(tokenizer, part.encode()) for part in parts]
    numbers, stops, counts = tokenizer.count_segments(segments)
    vocab = Vocab(counts)
    ids, expected = tokenizer.with_vocab(vocab).encode_segments(segments)
    assert ids.tolist() == vocab.to_ids(list(counts))[numbers].tolist()
    assert expected.tolist() == stops.tolist()
    assert list(counts.values()) == np.bincount(numbers, minlength=len(counts)).tolist()


@each_name
@pytest.mark.parametrize("normalize", [True, False])
def test_a_description_makes_the_tokenizer_again(name: str, normalize: bool) -> None:
    """With its vocabulary, if it has one."""
    tokenizer = make(name, normalize=normalize)
    description = tokenizer.describe()
    assert name == description["name"]
    vocab = vocab_of(tokenizer) or Vocab()
    assert tokenizer == restore_tokenizer(description, load_vocab=lambda: vocab)
    for key in description:
        damaged = {**description, key: None}
        assert restore_tokenizer(damaged, load_vocab=lambda: vocab) is None


@each_name
def test_tokens_are_found_in_their_text(name: str) -> None:
    """From one token to the next the character goes up, and it is inside the text."""
    tokenizer = make(name, normalize=True)
    part = segment(tokenizer, TEXT.encode())
    ids, _ = tokenizer.encode_segments([part])
    found = tokenizer.find_characters(part)
    known = [] if found is None else list(found)
    assert found is None or len(found) == len(ids)
    assert known == sorted(set(known))
    assert all(0 <= place < len(part.text) for place in known)


@each_name
def test_each_id_has_a_length_and_a_token(name: str) -> None:
    """Or nothing is known of any."""
    tokenizer = make(name, normalize=True)
    tokens = tokenizer.list_tokens()
    for lengths in (tokenizer.token_lengths(), tokenizer.token_byte_lengths()):
        assert lengths is None or len(lengths) == tokenizer.vocab_size
    assert tokens is None or len(set(tokens)) == tokenizer.vocab_size


@each_name
@given(texts, st.booleans())
@settings(max_examples=60)
def test_lengths_add_up_to_the_text(name: str, text: str, normalize: bool) -> None:
    """Where all tokens are known, the lengths are those of the decoded text and its joints."""
    _, made = tokenize(text + "\n a", tokenizer=name, normalize=normalize)
    tokenizer = complete(made)
    ids = np.asarray(tokenizer.encode(text))
    decoded = tokenizer.decode(ids.tolist())
    # A joint stands before each token, also before the first one.
    whole = decoded + getattr(tokenizer, "joint", "") * (len(ids) > 0)
    characters, num_bytes = tokenizer.token_lengths(), tokenizer.token_byte_lengths()
    assert characters is None or len(whole) == characters[ids].sum()
    assert num_bytes is None or len(whole.encode()) == num_bytes[ids].sum()
