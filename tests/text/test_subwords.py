"""Tokenizers of other packages: ids, texts, and what they are made again of."""

import json
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.subwords import END, TEXTS, encode_with, make_bpe, write_bpe
from tokenloom import Corpus, Vocab, load
from tokenloom.errors import ArgumentError, CorpusError, StoreError, UsageError
from tokenloom.text.documents import TextSegment
from tokenloom.text.subwords import (
    PARALLELISM,
    BpeLearner,
    HuggingFaceTokenizer,
    adopt,
    in_one_thread,
    read_tokenizer,
)
from tokenloom.text.tokenizers import complete, make_tokenizer, restore_tokenizer

BPE = BpeLearner(400).learn(TEXTS)
# Whatever a file in UTF-8 can hold.
characters = st.characters(exclude_categories=["Cs"])


def segments(texts: tuple[str, ...]) -> list[TextSegment]:
    """Return whole documents."""
    return [TextSegment(text, 0, ends=True) for text in texts]


@given(st.text(characters))
@settings(max_examples=200)
def test_any_text_comes_back(text: str) -> None:
    """Byte-level BPE loses nothing, and adds nothing."""
    assert text == BPE.decode(BPE.encode(text).tolist())


@given(st.lists(st.text(characters), max_size=4))
@settings(max_examples=100)
def test_lengths_add_up(texts: list[str]) -> None:
    """Characters and bytes of the ids are those of the text."""
    ids, _ = BPE.encode_segments(segments(tuple(texts)))
    characters_of, bytes_of = BPE.token_lengths(), BPE.token_byte_lengths()
    assert characters_of is not None
    assert bytes_of is not None
    assert sum(map(len, texts)) == characters_of[ids].sum()
    assert len("".join(texts).encode()) == bytes_of[ids].sum()


def test_ids_are_those_of_the_package() -> None:
    """Document by document, and the corpus knows where each ends."""
    inner = make_bpe()
    corpus = Corpus.from_documents(TEXTS, tokenizer=make_bpe())
    expected = [encode_with(inner, text) for text in TEXTS]
    documents = [corpus.document(number).tokens[:].tolist() for number in (0, 1, 2, 4)]
    assert [ids for ids in expected if ids] == documents
    assert np.uint16 == corpus.tokens.dtype


def test_a_literal_special_token_is_text_unless_it_is_allowed(tmp_path: Path) -> None:
    """What an author typed does not end a document."""
    write_bpe(tmp_path / "tokenizer.json")
    as_text = make_tokenizer(tmp_path / "tokenizer.json")
    allowed = read_tokenizer(tmp_path / "tokenizer.json", allow_special=True)
    assert isinstance(allowed, HuggingFaceTokenizer)
    end = as_text.find_token(END)
    assert end not in np.asarray(as_text.encode(f"a{END}b")).tolist()
    assert [end] == allowed.encode(END).tolist()
    assert END == as_text.decode([end]) if end is not None else False
    assert allowed == pickle.loads(pickle.dumps(allowed))  # noqa: S301  made here


def test_nothing_is_cut_or_padded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A tokenizer.json that truncates and pads does neither, and that is logged."""
    inner = write_bpe(tmp_path / "tokenizer.json", truncates=True, pads=True)
    with caplog.at_level(logging.WARNING, "tokenloom"):
        tokenizer = make_tokenizer(str(tmp_path / "tokenizer.json"))
    assert encode_with(inner, TEXTS[0]) == np.asarray(tokenizer.encode(TEXTS[0])).tolist()
    assert "truncates texts and pads texts: that is switched off" in caplog.text
    assert complete(tokenizer) == adopt(make_bpe())


def test_merges_are_not_dropped_at_random(caplog: pytest.LogCaptureFixture) -> None:
    """Dropout would give other ids each time."""
    inner = make_bpe()
    inner.model.dropout = 0.5
    with caplog.at_level(logging.WARNING, "tokenloom"):
        tokenizer = adopt(inner)
    assert tokenizer == adopt(make_bpe())
    assert "drops merges at random" in caplog.text


def test_added_tokens_count(tmp_path: Path) -> None:
    """Ids beyond the model's vocabulary fit into the store."""
    inner = make_bpe(280)
    for number in range(70_000 - inner.get_vocab_size()):
        inner.add_tokens([f"<extra-{number}>"]) if number > 69_000 else None
    inner.add_tokens(["<last>"])
    corpus = Corpus.from_text("the <last> one", tokenizer=inner)
    assert inner.get_vocab_size(with_added_tokens=True) == corpus.vocab_size
    assert inner.token_to_id("<last>") == corpus.tokens[:].max()
    corpus.save(tmp_path / "store")
    assert "the <last> one" == Corpus.open(tmp_path / "store").decode(corpus.tokens)


def test_the_largest_id_matters_not_the_number_of_tokens() -> None:
    """A vocabulary with gaps has ids that its size does not reach."""
    content = json.loads(BPE.content)
    content["added_tokens"][0]["id"] = 999
    content["model"]["vocab"][END] = 999
    tokenizer = HuggingFaceTokenizer.of(json.dumps(content))
    assert 1000 == tokenizer.vocab_size
    assert 999 == tokenizer.find_token(END)


def test_a_store_keeps_the_tokenizer(tmp_path: Path) -> None:
    """It opens complete, and another tokenizer is refused by name."""
    corpus = Corpus.from_documents(TEXTS, tokenizer=make_bpe())
    corpus.save(tmp_path / "store")
    opened = Corpus.open(tmp_path / "store", verify=True)
    assert corpus.tokenizer == opened.tokenizer
    assert "".join(TEXTS) == opened.decode(opened.tokens)
    assert opened.identity == Corpus.open(tmp_path / "store", tokenizer=make_bpe()).identity
    other = make_bpe()
    other.normalizer = tokenizers.normalizers.Lowercase()
    with pytest.raises(ArgumentError, match=r"^tokenizer must be the one that made .*'tokenizers'"):
        Corpus.open(tmp_path / "store", tokenizer=other)


def test_a_damaged_file_is_found(tmp_path: Path) -> None:
    """The manifest has its hash."""
    Corpus.from_documents(TEXTS, tokenizer=make_bpe()).save(tmp_path / "store")
    path = tmp_path / "store" / "tokenizer.json"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"ByteLevel", b"ByteLevvl"))
    with pytest.raises(StoreError, match=r"tokenizer\.json must have the SHA-256"):
        Corpus.open(tmp_path / "store")
    path.unlink()
    with pytest.raises(StoreError, match=r"tokenizer\.json"):
        Corpus.open(tmp_path / "store")


def test_a_description_makes_it_again() -> None:
    """With its file; where a value is missing, or the file is another's, it does not."""
    description, files = BPE.describe(), BPE.files()

    def restore(description: object, files: dict[str, bytes]) -> object:
        return restore_tokenizer(description, load_vocab=Vocab, load_file=files.__getitem__)

    assert restore(description, files) == BPE
    for name in description:
        assert restore({**description, name: None}, files) is None
    with pytest.raises(CorpusError, match=r"^tokenizer\.json must be that of the tokenizer"):
        restore(description, dict.fromkeys(files, b"{}"))


BLOCKED = """
import sys
sys.modules["tokenizers"] = None
import tokenloom as tl

corpus = tl.Corpus.open(sys.argv[1], verify=True)
windows = tl.RandomWindows(corpus, batch_size=1, seq_len=4)
print(len(list(tl.Loader(windows))), corpus.vocab_size, corpus.identity.name)
other = tl.Corpus.open(sys.argv[1])
assert other.identity == corpus.identity
try:
    corpus.decode(corpus.tokens[:3])
except tl.UsageError as error:
    print(error)
"""


def test_tokens_are_read_where_the_package_is_missing(tmp_path: Path) -> None:
    """Only where text is asked for is it said what to install."""
    Corpus.from_documents(TEXTS, tokenizer=make_bpe()).save(tmp_path / "store")
    command = [sys.executable, "-c", BLOCKED, str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    first, second = done.stdout.splitlines()
    assert first.endswith(" 282 tokenizers")
    assert "encoding or decoding text with this tokenizer needs tokenizers" in second
    assert "python -m pip install 'tokenloom[tokenizers]'" in second


def test_nothing_is_imported_before_it_is_needed() -> None:
    """Not even by a tokenizer that is at hand."""
    program = "import sys, tokenloom.text.tokenizers; print('tokenizers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert b"False" == done.stdout.strip()


def test_a_learned_bpe_does_not_depend_on_order_or_threads() -> None:
    """The same documents, the same tokenizer."""
    learner = BpeLearner(400)
    assert BPE == learner.learn(reversed(TEXTS), in_threads=True)
    assert END == BPE.decode([0])
    assert 0 == BPE.find_token(END)
    assert BPE.vocab_size <= 400


def test_bpe_is_learnt_by_name() -> None:
    """Of the documents, with as many ids as are asked for."""
    corpus = Corpus.from_documents(TEXTS * 2, tokenizer="bpe", vocab_size=280)
    assert 280 == corpus.vocab_size
    assert TEXTS[1] == corpus.decode(corpus.document(1).tokens)
    with pytest.raises(ArgumentError, match=r"^vocab_size must be at least 257 for 'bpe'"):
        Corpus.from_text("a", tokenizer="bpe", vocab_size=256)


def test_a_learner_encodes_nothing_yet() -> None:
    """It says what does."""
    with pytest.raises(UsageError, match=r"^'bpe' must learn first"):
        BpeLearner().encode("a")


def test_characters_are_found() -> None:
    """A token of a document begins with this character, also where it is a part of one."""
    segment = TextSegment("the time 時間", 0, ends=True)
    ids, _ = BPE.encode_segments([segment])
    places = [BPE.find_character(segment, index) for index in range(len(ids))]
    assert 0 == places[0]
    assert places == sorted(places)  # type: ignore[type-var]
    assert len(segment.text) - 1 == places[-1]


def test_threads_are_left_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the block there are none, unless the user has chosen."""
    monkeypatch.delenv(PARALLELISM, raising=False)
    with in_one_thread(), in_one_thread():
        assert "false" == os.environ[PARALLELISM]
    assert PARALLELISM not in os.environ
    monkeypatch.setenv(PARALLELISM, "true")
    with in_one_thread():
        assert "true" == os.environ[PARALLELISM]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}', "must be JSON of the package tokenizers"),
        (b"[1]", "must be JSON of the package tokenizers"),
        (b"a", "must be JSON of the package tokenizers"),
        (b"\xff", "must be text in UTF-8"),
    ],
)
def test_a_file_that_is_no_tokenizer(tmp_path: Path, content: bytes, message: str) -> None:
    """It is named, with what it is to be."""
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        Corpus.from_text("a", tokenizer=str(tmp_path / "x.json"))


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    """It is named."""
    with pytest.raises(ArgumentError, match=r"^tokenizer must be a file that can be read"):
        load("python_docs", tokenizer=tmp_path / "none.json", max_tokens=1)


def test_a_vocabulary_of_tokenloom_is_a_path_too(tmp_path: Path) -> None:
    """It is not counted anew."""
    corpus = Corpus.from_text("b a")
    assert corpus.vocab is not None
    corpus.vocab.save(tmp_path / "vocab.json")
    other = Corpus.from_text("a c", tokenizer=tmp_path / "vocab.json")
    assert (corpus.vocab, [3, 2, 0]) == (other.vocab, other.tokens.tolist())


class BertTokenizer:
    """Stands for a slow tokenizer of transformers."""

    vocab_size = 3

    def encode(self, text: str) -> list[int]:
        """Return ids, with some that were added."""
        return [0] * len(text)

    def decode(self, ids: list[int]) -> str:
        """Return a text."""
        return "a" * len(ids)


def test_transformers() -> None:
    """A fast one is taken for what is in it; a slow one is refused by name."""
    base = type("PreTrainedTokenizerBase", (), {"__module__": "transformers.tokenization_base"})
    fast: Any = type("Fast", (base,), {"backend_tokenizer": make_bpe()})()
    assert adopt(make_bpe()) == adopt(fast)
    slow: Any = type("BertTokenizer", (base, BertTokenizer), {})()
    with pytest.raises(ArgumentError, match=r"must be a fast one .* got the slow BertTokenizer"):
        Corpus.from_text("a", tokenizer=slow)


def test_parts_in_python_are_refused() -> None:
    """They cannot be kept by value."""
    inner = make_bpe()

    class Split:
        """Splits nothing."""

    inner.pre_tokenizer = tokenizers.pre_tokenizers.PreTokenizer.custom(Split())
    with pytest.raises(ArgumentError, match=r"^tokenizer must be one that to_str\(\) can write"):
        Corpus.from_text("a", tokenizer=inner)
