"""Many documents to ids in one call."""

import itertools
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.text.documents import TextSegment
from tokenloom.text.encode import add_counts
from tokenloom.text.normalize import GAP, LETTER, NOTHING, PREFIXES
from tokenloom.text.tokenizers import CharTokenizer, CountedTokenizer, WordTokenizer
from tokenloom.text.vocab import Vocab

texts = st.lists(st.text("aB \n\r.é時"), min_size=1, max_size=5)


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
        ids, stops = tokenizer.encode_segments(segments)
        assert list(itertools.chain(*each)) == ids.tolist()
        assert np.cumsum([len(document) for document in each]).tolist() == stops.tolist()


@given(
    texts,
    st.sampled_from([NOTHING, LETTER, GAP]),
    st.sampled_from([CharTokenizer, WordTokenizer]),
    st.booleans(),
)
def test_what_is_learned_are_the_ids_of_any_vocabulary(
    parts: list[str], state: int, kind: type[CountedTokenizer], normalize: bool
) -> None:
    """Numbers stand for tokens, and those for ids."""
    segments = [TextSegment(part, state, ends=True) for part in parts]
    vocab = Vocab(list("aab ."))
    tokenizer = kind(vocab, normalize)
    numbers, stops, counts = kind(Vocab(), normalize).count_segments(segments)
    ids, expected = tokenizer.encode_segments(segments)
    assert ids.tolist() == vocab.to_ids(list(counts))[numbers].tolist()
    assert expected.tolist() == stops.tolist()
    tokens = list(counts)
    assert list(Counter(tokens[index] for index in numbers).items()) == list(counts.items())


@given(texts, texts)
def test_counts_of_parts_are_those_of_the_whole(parts: list[str], more: list[str]) -> None:
    """In order of first appearance over both, which decides on ties."""

    def count(texts: list[str]) -> dict[str, int]:
        segments = [TextSegment(text, NOTHING, ends=True) for text in texts]
        return CharTokenizer(Vocab(), normalize=False).count_segments(segments).counts

    counts = count(parts)
    add_counts(counts, count(more))
    assert list(count([*parts, *more]).items()) == list(counts.items())
