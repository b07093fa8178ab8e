"""Words of long texts as few different ones: with and without pyarrow the same."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import tokenloom as tl
from tests.support.packages import require_package
from tokenloom.text import distinct
from tokenloom.text.distinct import distinguish_words
from tokenloom.text.normalize import split_words

# White space of every kind, what only looks like it, letters, and half of a surrogate pair.
_CHARACTERS = st.sampled_from(
    "aBc. \t\n\r\v\f\x1c\x1f\x00\x85\xa0\u2003\u200b\u3000é\U0001f600\ud83d"
)
_TEXTS = st.text(_CHARACTERS) | st.text()


def _expand(text: str, *, normalize: bool, piece: int) -> tuple[list[str], list[str]]:
    """Return the words of a text by pyarrow, and its entries, each once."""
    words: list[str] = []
    entries: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distinct, "_WORTH_CALL", 0)
        patch.setattr(distinct, "_WORTH_IMPORT", 0)
        for found, places in distinguish_words(text, normalize=normalize, piece=piece):
            assert places is not None
            words += [found[place] for place in places]
            entries += found
    return words, list(dict.fromkeys(entries))


@given(_TEXTS, st.booleans(), st.integers(1, 20))
@example("a\u3000b \u3000 c", False, 100)  # noqa: FBT003  of hypothesis
@example("a\x1fb\x85c", False, 100)  # noqa: FBT003
@example(" . ", True, 1)  # noqa: FBT003
def test_words_are_those_of_python(text: str, normalize: bool, piece: int) -> None:
    """Normalised or not, in order of first appearance, wherever a text is cut."""
    require_package("pyarrow")
    expected = [*itertools.chain(*split_words(text, normalize=normalize))]
    words, entries = _expand(text, normalize=normalize, piece=piece)
    assert expected == words
    assert [*dict.fromkeys(expected)] == entries


def _make_text() -> str:
    generator = np.random.default_rng(0)
    words = np.array([f"w{chr(97 + number % 26)}{'x' * (number % 7)}" for number in range(2_000)])
    gaps = np.array([" ", "  ", ", ", "\n", ".\n\n"])
    pieces = np.char.add(generator.choice(words, 40_000), generator.choice(gaps, 40_000))
    return "".join(pieces.tolist())


@pytest.mark.parametrize("normalize", [True, False])
def test_long_texts_have_the_same_ids(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, normalize: bool
) -> None:
    """Of a text, of documents, and byte by byte in a store, without pyarrow and with it."""
    text = _make_text()
    (tmp_path / "text.txt").write_text(text)
    made: list[tuple[list[int], list[int], dict[str, bytes]]] = []
    for name in ("without", "with"):
        with monkeypatch.context() as patch:
            if name == "without":
                patch.setitem(sys.modules, "pyarrow", None)
            else:
                patch.setattr(distinct, "_WORTH_IMPORT", 0)
            corpus = tl.Corpus.from_text(text, tokenizer="word", normalize=normalize)
            more = tl.Corpus.from_documents([text, text[::-1], ""], tokenizer=corpus.vocab)
            store = tmp_path / name
            options = tl.PrepareOptions(normalize=normalize)
            source = tmp_path / "text.txt"
            tl.prepare(source, store, tokenizer="word", options=options, num_workers=1)
        files = {path.name: path.read_bytes() for path in store.iterdir() if path.is_file()}
        made.append((corpus.tokens.tolist(), more.tokens.tolist(), files))
    assert made[0] == made[1]


def test_short_texts_do_not_import_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which would take longer than it saves; where it is there already they may use it."""
    monkeypatch.delitem(sys.modules, "pyarrow", raising=False)
    text = "to be " * 20_000
    (words,) = distinguish_words(text, normalize=True)
    assert words.places is None
    assert "pyarrow" not in sys.modules
    monkeypatch.undo()
    require_package("pyarrow")
    (words,) = distinguish_words(text, normalize=True)
    assert set(words.entries) == {"to", "be"}
    assert words.places is not None
