"""Many documents to ids in one call."""

import itertools
from collections import Counter
from typing import Literal

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.text.documents import TextSegment
from tokenloom.text.encode import add_counts, count_normalized, learn, number
from tokenloom.text.normalize import GAP, LETTER, NOTHING, PREFIXES, clean_characters, clean_words
from tokenloom.text.tokenizers import CharTokenizer, WordTokenizer
from tokenloom.text.vocab import Vocab

texts = st.lists(st.text("aB \n\r.é時"), min_size=1, max_size=5)


@given(texts)
def test_normalised_tokens_of_each_part(parts: list[str]) -> None:
    """The counts are those of the parts, one by one."""
    joined = "\n".join(parts)
    stops = np.cumsum([len(part.encode()) + 1 for part in parts])
    for clean, counts_characters in ((clean_characters, True), (clean_words, False)):
        each = [clean(part) for part in parts]
        expected = [len(text if counts_characters else text.split()) for text in each]
        counts = count_normalized(joined, stops, counts_characters=counts_characters)
        assert expected == counts.tolist()


@given(texts, st.sampled_from([NOTHING, LETTER, GAP]), st.booleans())
def test_many_documents_in_one_call(parts: list[str], state: int, normalize: bool) -> None:
    """The ids are those of the documents, one by one, and so is where each ends."""
    vocab = Vocab(list("aab ."))
    segments = [
        TextSegment(parts[0], state, ends=True),
        *(TextSegment(p, 0, ends=True) for p in parts[1:]),
    ]
    words, characters = WordTokenizer(vocab, normalize), CharTokenizer(vocab, normalize)
    prefix = PREFIXES[state] if normalize else ""
    for tokenizer, before in ((words, ""), (characters, prefix)):
        each = [tokenizer.encode(part).tolist() for part in parts]
        each[0] = tokenizer.encode(before + parts[0]).tolist()[bool(before) :]
        ids, stops = number(segments, tokenizer)
        assert list(itertools.chain(*each)) == ids.tolist()
        assert np.cumsum([len(document) for document in each]).tolist() == stops.tolist()


@given(
    texts,
    st.sampled_from([NOTHING, LETTER, GAP]),
    st.sampled_from(["char", "word"]),
    st.booleans(),
)
def test_what_is_learned_are_the_ids_of_any_vocabulary(
    parts: list[str], state: int, kind: Literal["char", "word"], normalize: bool
) -> None:
    """Numbers stand for tokens, and those for ids."""
    segments = [TextSegment(part, state, ends=True) for part in parts]
    numbers, stops, counts = learn(segments, kind, normalize=normalize)
    vocab = Vocab(list("aab ."))
    tokenizer = (CharTokenizer if kind == "char" else WordTokenizer)(vocab, normalize)
    ids, expected = number(segments, tokenizer)
    assert ids.tolist() == vocab.to_ids(list(counts))[numbers].tolist()
    assert expected.tolist() == stops.tolist()
    tokens = list(counts)
    assert list(Counter(tokens[index] for index in numbers).items()) == list(counts.items())


@given(texts, texts)
def test_counts_of_parts_are_those_of_the_whole(parts: list[str], more: list[str]) -> None:
    """In order of first appearance over both, which decides on ties."""

    def count(texts: list[str]) -> dict[str, int]:
        segments = [TextSegment(text, NOTHING, ends=True) for text in texts]
        return learn(segments, "char", normalize=False).counts

    counts = count(parts)
    add_counts(counts, count(more))
    assert list(count([*parts, *more]).items()) == list(counts.items())
