"""Tokenizers of other packages: ids, texts, and what they are made again of."""

import base64
import contextlib
import importlib
import json
import logging
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken.load import load_tiktoken_bpe

import tokenloom as tl
from tests.support.text.native import NativeCall
from tests.support.text.subwords import (
    END,
    TEXTS,
    encode_with,
    make_bpe,
    make_encoding,
    train_model,
    write_bpe,
)
from tokenloom import Corpus, PrepareOptions, Vocab, load, prepare
from tokenloom.cli.main import main
from tokenloom.corpus import TextSize, count_tokens
from tokenloom.errors import ArgumentError, CorpusError, DownloadError, StoreError, UsageError
from tokenloom.text import by_value, encodings, huggingface, sentencepieces
from tokenloom.text.by_value import SubwordTokenizer
from tokenloom.text.documents import TextSegment
from tokenloom.text.encodings import TiktokenTokenizer
from tokenloom.text.huggingface import PARALLELISM, BpeLearner, HuggingFaceTokenizer, in_one_thread
from tokenloom.text.identity import Identity, describe_identity
from tokenloom.text.subwords import FILE_NAMES, adopt
from tokenloom.text.tokenizers import (
    complete,
    find_end_id,
    make_tokenizer,
    read_tokenizer,
    restore_tokenizer,
)

BPE = BpeLearner(400).learn(TEXTS)
ENCODING, PROCESSOR = make_encoding(), train_model()
INNER: dict[str, Any] = {"tokenizers": make_bpe(), "tiktoken": ENCODING, "sentencepiece": PROCESSOR}
HALF = {"half": 0.5}
FULL = [text for text in TEXTS if text]
LOSSLESS = [BPE, adopt(ENCODING)]
each_package = pytest.mark.parametrize("name", INNER)
each_lossless = pytest.mark.parametrize("tokenizer", LOSSLESS, ids=["tokenizers", "tiktoken"])
# Whatever a file in UTF-8 can hold.
characters = st.characters(exclude_categories=["Cs"])


EACH_BYTE = b"".join(b"%b %d\n" % (base64.b64encode(bytes([byte])), byte) for byte in range(256))


class UserBytes:
    """A tokenizer of one's own: ids count down from 255."""

    vocab_size = 256

    def encode(self, text: str, /) -> list[int]:
        """Return the complements of bytes."""
        return [255 - byte for byte in text.encode()]

    def decode(self, ids: list[int], /) -> str:
        """Return the text of complements."""
        return bytes(255 - id_ for id_ in ids).decode("utf-8", "replace")


def segments(texts: tuple[str, ...]) -> list[TextSegment]:
    """Return whole documents."""
    return [TextSegment(text, 0, ends=True) for text in texts]


@each_lossless
@given(st.text(characters))
@settings(max_examples=150)
def test_any_text_comes_back(tokenizer: SubwordTokenizer, text: str) -> None:
    """Byte-level tokenizers lose nothing, and add nothing."""
    assert text == tokenizer.decode(tokenizer.encode(text).tolist())


@each_lossless
@given(st.lists(st.text(characters), max_size=4))
@settings(max_examples=100)
def test_lengths_add_up(tokenizer: SubwordTokenizer, texts: list[str]) -> None:
    """Characters and bytes of the ids are those of the text."""
    ids, _ = tokenizer.encode_segments(segments(tuple(texts)))
    characters_of, bytes_of = tokenizer.token_lengths(), tokenizer.token_byte_lengths()
    assert characters_of is not None
    assert bytes_of is not None
    assert sum(map(len, texts)) == characters_of[ids].sum()
    assert len("".join(texts).encode()) == bytes_of[ids].sum()


@each_package
def test_ids_are_those_of_the_package(name: str) -> None:
    """Document by document, and the corpus knows where each ends."""
    inner = INNER[name]
    corpus = Corpus.from_documents(TEXTS, tokenizer=inner)
    encode = getattr(inner, "encode_ordinary", inner.encode)
    expected = [
        encode_with(inner, text) if name == "tokenizers" else encode(text) for text in TEXTS
    ]
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
    assert end is not None
    assert END == as_text.decode([end])
    assert allowed == pickle.loads(pickle.dumps(allowed))  # noqa: S301  made here


@each_package
def test_an_object_is_read_as_its_file_is(name: str, tmp_path: Path) -> None:
    """The public way to allow special tokens takes both, and a vocabulary too."""
    made = adopt(INNER[name], allow_special=True)
    assert made is not None
    assert made == tl.text.read_tokenizer(INNER[name], allow_special=True)
    ((file, content),) = made.files().items()
    (tmp_path / file).write_bytes(content)
    found = tl.text.read_tokenizer(tmp_path / file, allow_special=True)
    # The file of tiktoken has neither a pattern nor special tokens.
    assert made == found or name == "tiktoken"
    Vocab(["a"]).save(tmp_path / "vocab.json")
    assert 2 == tl.text.read_tokenizer(str(tmp_path / "vocab.json")).vocab_size


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (3, r"^tokenizer must be 'bpe', 'tiktoken:NAME', the path of .*, got 3$"),
        ("none.json", r"^tokenizer must be a file that can be read, got 'none.json'"),
        ("char", r"^a tokenizer's file must end with '.json', '.tiktoken' or '.model', got 'char'"),
        ("tiktoken:cl999", r"^tokenizer must be 'tiktoken:' and one of"),
    ],
)
def test_what_is_no_tokenizer_is_not_read(source: object, message: str) -> None:
    """What was expected is named."""
    with pytest.raises(ArgumentError, match=message):
        tl.text.read_tokenizer(source)


def test_nothing_is_cut_or_padded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A tokenizer.json that truncates and pads does neither, and that is logged."""
    inner = write_bpe(tmp_path / "tokenizer.json", truncates=True, pads=True)
    with caplog.at_level(logging.WARNING, "tokenloom"):
        tokenizer = make_tokenizer(str(tmp_path / "tokenizer.json"))
    assert encode_with(inner, TEXTS[0]) == np.asarray(tokenizer.encode(TEXTS[0])).tolist()
    assert "truncates texts and pads texts: that is switched off" in caplog.text
    assert complete(tokenizer) == adopt(make_bpe())


def test_a_post_processor_adds_nothing(tmp_path: Path) -> None:
    """A tokenizer.json that puts tokens around each text, as that of BERT, does not here."""
    inner = make_bpe()
    inner.add_special_tokens(["[CLS]", "[SEP]"])
    ends = [(token, inner.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=ends
    )
    inner.save(str(tmp_path / "tokenizer.json"))
    tokenizer = read_tokenizer(tmp_path / "tokenizer.json")
    assert isinstance(tokenizer, HuggingFaceTokenizer)
    expected = adopt(make_bpe())
    assert expected is not None
    added = {id_ for _, id_ in ends}
    assert added <= set(inner.encode(TEXTS[0]).ids)
    for text in TEXTS:
        assert expected.encode(text).tolist() == tokenizer.encode(text).tolist()
        assert expected.find_starts(text) == tokenizer.find_starts(text)


def test_a_pair_is_merged_that_was_seen_twice() -> None:
    """One that was seen once is not, however many ids are left."""
    learned = BpeLearner(300).learn(["ab ab cd"])
    assert 257 + 1 == learned.vocab_size
    assert learned.find_token("ab") is not None


@pytest.mark.parametrize("tokenizer", [*LOSSLESS, adopt(PROCESSOR)])
def test_half_of_a_character_ends_no_document(tokenizer: SubwordTokenizer) -> None:
    """The packages raise errors of their own at it."""
    with pytest.raises(ArgumentError, match=r"^stop_at must be an id in .* got '\\ud83d'"):
        find_end_id("\ud83d", tokenizer, name="stop_at")


def test_few_encoders_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were made last."""
    kept: dict[object, Any] = {}
    monkeypatch.setattr(by_value, "_encoders", kept)
    made = [adopt(make_bpe(size)) for size in range(260, 266)]
    for tokenizer in made:
        assert tokenizer is not None
        tokenizer.encode("a")
    digests = [tokenizer.digest for tokenizer in made if tokenizer is not None]
    assert digests[-4:] == [key[1] for key in kept if isinstance(key, tuple)]


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
    encoding = adopt(ENCODING)
    assert encoding is not None
    assert [296, 295] == [encoding.vocab_size, encoding.find_token(END)]
    assert "\ufffda" == encoding.decode([293, int(encoding.encode("a")[0])])
    content = json.loads(BPE.content)
    content["added_tokens"][0]["id"] = 999
    content["model"]["vocab"][END] = 999
    tokenizer = HuggingFaceTokenizer.of(json.dumps(content))
    assert 1000 == tokenizer.vocab_size
    assert 999 == tokenizer.find_token(END)


@each_package
def test_a_store_keeps_the_tokenizer(name: str, tmp_path: Path) -> None:
    """It opens complete, also beside the object itself."""
    corpus = Corpus.from_documents(TEXTS, tokenizer=INNER[name])
    corpus.save(tmp_path / "store")
    opened = Corpus.open(tmp_path / "store", verify=True)
    assert corpus.tokenizer == opened.tokenizer
    assert TEXTS[0] == opened.decode(opened.document(0).tokens)
    assert opened.identity == Corpus.open(tmp_path / "store", tokenizer=INNER[name]).identity
    assert opened.tokenizer == pickle.loads(pickle.dumps(opened)).tokenizer  # noqa: S301


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    """Even of equal size, by name."""
    Corpus.from_documents(TEXTS, tokenizer=make_bpe()).save(tmp_path / "store")
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
    corpus = Corpus.open(tmp_path / "store")
    with pytest.raises(StoreError, match=r"tokenizer\.json must have the SHA-256"):
        corpus.decode([1])
    path.unlink()
    with pytest.raises(StoreError, match=r"tokenizer\.json"):
        Corpus.open(tmp_path / "store")


@each_package
def test_a_description_makes_it_again(name: str) -> None:
    """With its file; where a value is missing, or the file is another's, it does not."""
    tokenizer = adopt(INNER[name])
    assert tokenizer is not None
    description = json.loads(json.dumps(tokenizer.describe()))
    files = tokenizer.files()

    def restore(description: object, files: dict[str, bytes]) -> object:
        return restore_tokenizer(description, load_vocab=Vocab, load_file=files.__getitem__)

    assert restore(description, files) == tokenizer
    for key in description:
        assert restore({**description, key: None}, files) is None
    with pytest.raises(CorpusError, match=r"^tokenizer\.\w+ must be that of the tokenizer"):
        restore(description, dict.fromkeys(files, b"{}"))


BLOCKED = """
import sys
sys.modules[sys.argv[2]] = None
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


@each_package
def test_tokens_are_read_where_the_package_is_missing(name: str, tmp_path: Path) -> None:
    """Only where text is asked for, an error says what to install."""
    pytest.importorskip("torch")
    corpus = Corpus.from_documents(TEXTS, tokenizer=INNER[name])
    corpus.save(tmp_path / "store")
    command = [sys.executable, "-c", BLOCKED, str(tmp_path / "store"), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    first, second = done.stdout.splitlines()
    assert first.endswith(f" {corpus.vocab_size} {name}")
    assert f"encoding or decoding text with this tokenizer needs {name}" in second
    assert f"python -m pip install 'tokenloom[{name}]'" in second


def test_nothing_is_imported_before_it_is_needed() -> None:
    """Not even by a tokenizer that is at hand."""
    find = f"print(any(name in sys.modules for name in {[*INNER]}))"
    program = f"import sys, tokenloom.text.tokenizers; {find}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert b"False" == done.stdout.strip()


def test_a_learned_bpe_does_not_depend_on_order_or_threads() -> None:
    """The same documents, the same tokenizer."""
    learner = BpeLearner(400)
    assert BPE == learner.learn(reversed(TEXTS), in_threads=True)
    assert END == BPE.decode([0])
    assert 0 == BPE.find_token(END)
    assert BPE.vocab_size <= 400


def test_reserved_tokens_of_a_learnt_bpe() -> None:
    """They are special tokens with ids of their own, however the texts come."""
    options: dict[str, Any] = {"vocab_size": 280, "reserved_tokens": ["<pad>"]}
    read = Corpus.from_documents(TEXTS, tokenizer="bpe", **options)
    text = Corpus.from_text("".join(TEXTS), tokenizer="bpe", **options)
    for corpus in (read, text):
        assert isinstance(corpus.tokenizer, HuggingFaceTokenizer)
        assert {END: 0, "<pad>": 1} == corpus.tokenizer.special_tokens()


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


@each_package
def test_characters_are_found(name: str) -> None:
    """A token of a document begins with this character, also where it is a part of one."""
    segment = TextSegment("the time 時間", 0, ends=True)
    tokenizer = adopt(INNER[name])
    assert tokenizer is not None
    ids, _ = tokenizer.encode_segments([segment])
    found = tokenizer.find_characters(segment)
    assert found is not None
    if name == "sentencepiece" and not len(found):
        pytest.skip("this release of sentencepiece does not say it")
    places = list(found)
    assert len(ids) == len(places)
    assert 0 == places[0]
    assert places == sorted(places)
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


@pytest.mark.parametrize("num_documents", [1, 2])
def test_a_package_that_panics(num_documents: int) -> None:
    """Its panic, which is no Exception, names the tokenizer and the document."""
    inner = make_bpe()
    pattern = tokenizers.Regex("((((a+)+)+)+)$")
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Split(pattern, "isolated")
    tokenizer = adopt(inner)
    assert tokenizer is not None
    texts = ("b", "a" * 30 + "b")[-num_documents:]
    with pytest.raises(CorpusError, match=r"HuggingFaceTokenizer must .* failed at .*: .*panic"):
        tokenizer.encode_segments(segments(texts))


class _Panicking:
    """An encoder that panics whatever it is asked for."""

    def __getattr__(self, name: str) -> Any:
        raise type("PanicException", (BaseException,), {})(name)


@pytest.mark.parametrize("name", ["tokenizers", "tiktoken"])
@pytest.mark.parametrize(
    "call",
    [
        lambda made: made.encode("a"),
        lambda made: made.decode([1]),
        lambda made: made.find_starts("a"),
        lambda made: made.find_characters(TextSegment("a", 0, ends=True)),
        lambda made: made.find_token("a"),
        lambda made: (
            Corpus.from_tokens([1], vocab_size=made.vocab_size).with_tokenizer(made).decode([1])
        ),
    ],
)
def test_a_panic_is_an_error_wherever_the_package_is_asked(
    name: str, call: Callable[[SubwordTokenizer], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no Exception, so that ``except Exception`` would not catch it."""
    made = adopt(INNER[name])
    assert made is not None
    monkeypatch.setattr(SubwordTokenizer, "encoder", _Panicking())
    with pytest.raises(CorpusError, match="failed with a panic"):
        call(made)


def test_an_id_of_a_json_that_no_memory_could_hold(tmp_path: Path) -> None:
    """It is refused as the file is read."""
    value = json.loads(BPE.content)
    value["model"]["vocab"]["zz"] = 1 << 30
    (tmp_path / "tokenizer.json").write_text(json.dumps(value))
    with pytest.raises(CorpusError, match=r"must have ids below 16,777,216, got 1,073,741,824"):
        Corpus.from_text("a", tokenizer=tmp_path / "tokenizer.json")


def test_a_panic_while_a_bpe_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error too."""
    monkeypatch.setattr(tokenizers, "Tokenizer", lambda _: _Panicking())
    with pytest.raises(CorpusError, match="failed with a panic"):
        BpeLearner().learn(TEXTS)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no masks of signals")
def test_ctrl_c_while_a_bpe_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    """It need not wait for the package, which may take minutes."""
    native = NativeCall()
    encoder = SimpleNamespace(train_from_iterator=native)
    monkeypatch.setattr(tokenizers, "Tokenizer", lambda _: encoder)
    with pytest.raises(KeyboardInterrupt):
        BpeLearner().learn(TEXTS)
    assert not native.ended.is_set()
    native.is_over.set()


def test_texts_that_fail_while_a_bpe_is_learnt() -> None:
    """Their error is raised after the end of the thread that waits for more of them."""

    def fail() -> Iterator[str]:
        yield from TEXTS
        msg = "no text"
        raise CorpusError(msg)

    before = set(threading.enumerate())
    with pytest.raises(CorpusError, match="no text"):
        BpeLearner().learn(fail())
    for thread in set(threading.enumerate()) - before:
        # All but its last few steps are done.
        thread.join(60)
        assert not thread.is_alive()


def test_texts_that_fail_are_not_learnt_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package learns from those that it has, for minutes, before it raises an error."""
    is_over, ended = threading.Event(), threading.Event()

    def learn(texts: Iterator[str], _: object) -> None:
        with contextlib.suppress(InterruptedError):
            list(texts)
        is_over.wait(30)
        ended.set()

    def fail() -> Iterator[str]:
        yield from TEXTS
        msg = "no text"
        raise CorpusError(msg)

    monkeypatch.setattr(huggingface, "_PATIENCE_SECONDS", 600)
    encoder = SimpleNamespace(train_from_iterator=learn)
    monkeypatch.setattr(tokenizers, "Tokenizer", lambda _: encoder)
    with pytest.raises(CorpusError, match="no text"):
        BpeLearner().learn(fail())
    assert not ended.is_set()
    is_over.set()


def test_a_package_that_fails_while_a_bpe_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts are not read to their end, which may be hours away."""

    def fail(texts: Iterator[str], _: object) -> None:
        next(texts)
        msg = "no text"
        raise CorpusError(msg)

    encoder = SimpleNamespace(train_from_iterator=fail)
    monkeypatch.setattr(tokenizers, "Tokenizer", lambda _: encoder)
    unread = iter(range(1000))
    with pytest.raises(CorpusError, match="no text"):
        BpeLearner().learn("a" * (1 << 18) for _ in unread)
    # Those that were waiting for the package were read in vain.
    assert len(list(unread)) > 900


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no masks of signals")
def test_ctrl_c_while_a_long_text_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package takes a document as a whole."""
    native, text = NativeCall(), "a" * by_value._MANY_CHARACTERS
    monkeypatch.setattr(SubwordTokenizer, "_encode_all", native)
    with pytest.raises(KeyboardInterrupt):
        BPE.encode_segments(segments((text,)))
    assert not native.ended.is_set()
    native.is_over.set()


def test_too_many_ids_to_learn() -> None:
    """Are refused before the package makes room for them."""
    with pytest.raises(ArgumentError, match="vocab_size must be at most 16,777,216 for 'bpe'"):
        Corpus.from_text("hello", tokenizer="bpe", vocab_size=2**62)


@pytest.mark.parametrize("allow_special", [False, True])
def test_a_literal_special_token_of_tiktoken(*, allow_special: bool) -> None:
    """It is text, unless it is allowed."""
    tokenizer = adopt(ENCODING, allow_special=allow_special)
    assert tokenizer is not None
    allowed = {END} if allow_special else set()
    expected = ENCODING.encode(END, allowed_special=allowed, disallowed_special=())
    assert expected == tokenizer.encode(END).tolist()
    assert allow_special == (tokenizer.find_token(END) in expected)


@each_package
def test_half_of_a_surrogate_pair_is_no_text(name: str) -> None:
    """It is neither replaced nor dropped in silence."""
    tokenizer = adopt(INNER[name])
    assert tokenizer is not None
    for texts in (["a\ud83d"], ["b", "a\ud83d"]):
        with pytest.raises(CorpusError, match=r"must encode every text, but failed at"):
            tokenizer.encode_segments(segments(tuple(texts)))
    with pytest.raises(CorpusError, match=r"^text must be text, got .*ud83d' at character 1"):
        tokenizer.encode("a\ud83d")


@each_package
@pytest.mark.parametrize("given", [None, 5, b"To be"])
def test_what_is_no_text_is_not_encoded(name: str, given: Any) -> None:
    """Each package would raise an error of its own, and sentencepiece would take bytes."""
    tokenizer = adopt(INNER[name])
    assert tokenizer is not None
    with pytest.raises(ArgumentError, match=r"^text must be a str, got "):
        tokenizer.encode(given)


def write_ranks(path: Path) -> None:
    """Write the file that tiktoken reads."""
    ranks = ENCODING._mergeable_ranks
    lines = [base64.b64encode(token) + b" %d" % id_ for token, id_ in ranks.items()]
    path.write_bytes(b"\n".join(lines) + b"\n")
    # Before 0.12 it needs another package to read a file.
    with contextlib.suppress(ImportError):
        assert ranks == load_tiktoken_bpe(str(path))


def test_a_file_of_tiktoken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its name says how a text is split; else that of cl100k is used, and that is logged."""
    for stem in ("o200k_base", "mine"):
        write_ranks(tmp_path / f"{stem}.tiktoken")
    with caplog.at_level(logging.WARNING, "tokenloom"):
        named = make_tokenizer(tmp_path / "o200k_base.tiktoken")
        assert not caplog.records
        mine = make_tokenizer(str(tmp_path / "mine.tiktoken"))
    assert isinstance(named, TiktokenTokenizer)
    assert isinstance(mine, TiktokenTokenizer)
    assert "mine.tiktoken does not hold the pattern that splits a text" in caplog.text
    assert {END: 199_999, "<|endofprompt|>": 200_018} == named.special_tokens()
    assert ({}, 289) == (mine.special_tokens(), mine.vocab_size)
    assert mine.pattern != named.pattern
    text = "THE Time's 12345"
    assert text == mine.decode(np.asarray(mine.encode(text)).tolist())


def test_a_file_of_sentencepiece(tmp_path: Path) -> None:
    """It is the model of the object, which normalises."""
    (tmp_path / "my.model").write_bytes(PROCESSOR.serialized_model_proto())
    tokenizer = make_tokenizer(tmp_path / "my.model")
    assert adopt(PROCESSOR) == tokenizer
    assert "a b" == tokenizer.decode(np.asarray(tokenizer.encode(" a\n b")).tolist())
    assert (2, None) == (tokenizer.find_token("</s>"), tokenizer.find_token("no piece"))
    lengths, num_bytes = tokenizer.token_lengths(), tokenizer.token_byte_lengths()
    assert lengths is not None
    assert num_bytes is not None
    ids = np.asarray(tokenizer.encode("時間 a"))
    # A space is put before the text.
    assert (5, 9) == (lengths[ids].sum(), num_bytes[ids].sum())
    assert 0 == tokenizer.unknown_id


@pytest.mark.parametrize("kind", ["WordLevel", "Unigram", "BPE"])
def test_the_unknown_token_is_counted(kind: str, tmp_path: Path) -> None:
    """Whatever the model calls it; a model without one has no rate."""
    known = {"a": 0, "[UNK]": 1}
    values: dict[str, Any] = {
        "WordLevel": {"vocab": known, "unk_token": "[UNK]"},
        "Unigram": {"vocab": [("a", -1.0), ("<unk>", -9.0)], "unk_id": 1},
        "BPE": {"vocab": {"a": 0, "b": 1}, "merges": []},
    }
    model = getattr(tokenizers.models, kind)(**values[kind])
    given = tokenizers.Tokenizer(model)
    made = prepare([["a"], ["b"]], tmp_path / "s", tokenizer=given)
    rate = None if kind == "BPE" else 0.5
    corpus = Corpus.open(tmp_path / "s")
    assert (rate, rate) == (made.unknown_rate, count_tokens(corpus).unknown_rate)
    # Nothing is known of the text of these tokens.
    assert TextSize() == count_tokens(corpus).text


@pytest.mark.parametrize("is_complete", [False, True])
def test_the_text_of_the_unknown_token(*, is_complete: bool) -> None:
    """Is not known, unless there is a token for each byte, so that nothing is unknown."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: id_ for id_, token in enumerate(alphabet if is_complete else "ab")}
    model = tokenizers.models.BPE({**vocab, "<unk>": len(vocab)}, [], unk_token="<unk>")  # noqa: S106
    given = tokenizers.Tokenizer(model)
    given.add_special_tokens(["<unk>"])
    given.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    given.decoder = tokenizers.decoders.ByteLevel()
    corpus = Corpus.from_documents(["abc"], tokenizer=given)
    assert corpus.tokenizer is not None
    lengths = complete(corpus.tokenizer).token_byte_lengths()
    assert lengths is not None
    assert (0 if is_complete else -1) == lengths[-1]
    assert (TextSize(num_characters=3, num_bytes=3) if is_complete else TextSize()) == count_tokens(
        corpus
    ).text


@pytest.mark.parametrize("name", ["tokenizers", "tiktoken"])
def test_allowed_special_tokens_make_another_tokenizer(name: str, tmp_path: Path) -> None:
    """A store of one is not opened with the other, nor joined to it."""
    plain, allowing = (adopt(INNER[name], allow_special=value) for value in (False, True))
    assert plain is not None
    assert allowing is not None
    assert plain.digest == plain.hash != allowing.hash
    for made in (plain, allowing):
        described = Identity.read(describe_identity(made), vocab_size=made.vocab_size)
        assert Identity.of(made) == described
    for folder, tokenizer in (("plain", plain), ("allowing", allowing)):
        prepare([[f"a {END} b"]], tmp_path / folder, tokenizer=tokenizer)
        assert Corpus.open(tmp_path / folder, tokenizer=tokenizer).tokenizer == tokenizer
    with pytest.raises(ArgumentError, match="tokenizer"):
        Corpus.open(tmp_path / "plain", tokenizer=allowing)
    with pytest.raises(ArgumentError, match="tokenizer"):
        Corpus.open(tmp_path / "allowing", tokenizer=plain)
    with pytest.raises(ArgumentError, match="tokenizer"):
        Corpus.concatenate([Corpus.open(tmp_path / name) for name in ("plain", "allowing")])


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4f\nsize 3\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tiktoken", b"YQ== 0\nYg==\n", "must have a token in base64 and its id on each line"),
        ("a.tiktoken", b"", "must be the file of a tokenizer, got an empty one$"),
        ("a.model", b"", "must be the file of a tokenizer, got an empty one$"),
        ("a.json", b"", "must be the file of a tokenizer, got an empty one$"),
        ("a.json", POINTER, "got a pointer of Git LFS: run 'git lfs pull' first$"),
        ("a.model", POINTER, "got a pointer of Git LFS: run 'git lfs pull' first$"),
        ("a.tiktoken", b"PK\3\4", "must be the file of a tokenizer, got a zip archive"),
        ("a.json", b'{"a": 1, "b": 2}', "it has no 'model', as vocab.json .* name tokenizer.json$"),
        ("a.tiktoken", b"YQ== 0\nYg== 0\n", "each token must have an id of its own"),
        ("a.tiktoken", EACH_BYTE + b"YWI= 999999999999\n", "ids below 16,777,216, got 999,999"),
        ("a.tiktoken", b"YQ== 0\nYg== 1\n", "must have an id for each of the 256 bytes"),
        ("a.model", b"YQ== 0\nYg== 1\n", "is a file of tiktoken: give it a name that ends"),
        ("a.model", b"text", "must be a model of sentencepiece, which cannot read it"),
    ],
)
def test_a_file_of_another_kind(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """It is named, with what it is to be."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        Corpus.from_text("a", tokenizer=tmp_path / name)


def test_a_folder_that_holds_a_tokenizer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Is no tokenizer itself; the message names the file in it."""
    folder = tmp_path / "model"
    folder.mkdir()
    write_bpe(folder / "tokenizer.json")
    with pytest.raises(ArgumentError, match=r"got '.*model': name '.*model.tokenizer.json'$"):
        Corpus.from_text("a", tokenizer=str(folder))
    with pytest.raises(ArgumentError, match=r": name '.*model.tokenizer.json'$"):
        Corpus.from_text("a", tokenizer=folder)
    (tmp_path / "a.txt").write_text("a")
    words = [str(tmp_path / "a.txt"), "--tokenizer", str(folder), "-o", str(tmp_path / "store")]
    assert main(["prepare", *words]) == 1
    assert "model/tokenizer.json'\n" in capsys.readouterr().err


def test_an_encoding_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is none, or it cannot be downloaded, the error says what to do."""
    with pytest.raises(ArgumentError, match=r"^tokenizer must be 'tiktoken:' and one of 'gpt2'"):
        make_tokenizer("tiktoken:cl999")

    def refuse(*_: Any) -> bytes:
        raise ConnectionError

    monkeypatch.setattr("tiktoken.get_encoding", refuse)
    with pytest.raises(DownloadError, match="set TIKTOKEN_CACHE_DIR to a folder that has it"):
        make_tokenizer("tiktoken:gpt2")
    monkeypatch.setattr("tiktoken.get_encoding", lambda _: ENCODING)
    assert adopt(ENCODING) == make_tokenizer("tiktoken:gpt2")


def test_special_tokens_and_patterns_are_those_of_tiktoken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Patterns as its newer releases have them, which mean the same as the older ones."""
    public: Any = importlib.import_module("tiktoken_ext.openai_public")
    monkeypatch.setattr(public, "load_tiktoken_bpe", lambda *_, **__: {})
    for name, (pattern, special) in encodings._ENCODINGS.items():
        expected = getattr(public, f"{name}_base")()
        assert special == expected["special_tokens"]
        if "++" in expected["pat_str"] or name == "o200k":
            assert pattern == expected["pat_str"]


def test_nothing_is_downloaded_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What tiktoken has kept is found all the same."""
    load_module: Any = importlib.import_module("tiktoken.load")
    registry: Any = importlib.import_module("tiktoken.registry")
    monkeypatch.setattr(registry, "ENCODINGS", {})
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TOKENLOOM_OFFLINE", "1")
    before = load_module.read_file
    with pytest.raises(DownloadError, match="forbidden by TOKENLOOM_OFFLINE or --offline"):
        make_tokenizer("tiktoken:cl100k_base")
    assert before is load_module.read_file
    registry.ENCODINGS["cl100k_base"] = ENCODING
    assert adopt(ENCODING) == make_tokenizer("tiktoken:cl100k_base")


@pytest.fixture
def stores(tmp_path: Path) -> dict[str, Path]:
    """Return stores, one of each tokenizer that a store can hold."""
    made: dict[str, Any] = {
        **INNER,
        "allowing": adopt(INNER["tiktoken"], allow_special=True),
        "char": "char",
        "bpe": "bpe",
    }
    for name, tokenizer in made.items():
        prepare([FULL], tmp_path / name, tokenizer=tokenizer, options=PrepareOptions(splits=HALF))
    return {name: tmp_path / name for name in made}


def test_a_store_is_a_tokenizer_at_each_door(stores: dict[str, Path], tmp_path: Path) -> None:
    """Its folder, a split of it, and its file; the file of tiktoken alone lacks its pattern."""
    (tmp_path / "a.txt").write_text(TEXTS[0])
    for name, folder in stores.items():
        expected = Corpus.open(folder).tokenizer
        assert expected is not None
        files = (*FILE_NAMES, "vocab.json")
        file = next(folder / one for one in files if (folder / one).exists())
        for named in (folder, str(folder), f"{folder}/half", file):
            assert expected == Corpus.from_text(TEXTS[0], tokenizer=named).tokenizer
            assert expected == Corpus.from_documents(TEXTS, tokenizer=named).tokenizer
            assert expected == load(tmp_path / "a.txt", tokenizer=named).tokenizer
            assert expected == load(folder, tokenizer=named).tokenizer
            assert expected == Corpus.open(folder, tokenizer=named).tokenizer
        prepare([FULL], tmp_path / f"{name}-again", tokenizer=folder)
        assert expected == Corpus.open(tmp_path / f"{name}-again", tokenizer=file).tokenizer


def test_a_store_is_opened_with_whatever_names_its_tokenizer(tmp_path: Path) -> None:
    """A path, a name and an object, as at any other door."""
    write_bpe(tmp_path / "tokenizer.json")
    prepare([FULL], tmp_path / "bpe", tokenizer=tmp_path / "tokenizer.json")
    prepare([FULL], tmp_path / "bytes", tokenizer="byte")
    for named in (tmp_path / "tokenizer.json", str(tmp_path / "tokenizer.json"), make_bpe()):
        corpus = Corpus.open(tmp_path / "bpe", tokenizer=named)
        assert TEXTS[0] == corpus.decode(corpus.document(0).tokens)
    assert make_tokenizer("byte") == Corpus.open(tmp_path / "bytes", tokenizer="byte").tokenizer
    with pytest.raises(ArgumentError, match=r"^tokenizer must be the one that made the ids"):
        Corpus.open(tmp_path / "bytes", tokenizer=UserBytes())
    for name in ("char", "word", "bpe"):
        with pytest.raises(ArgumentError, match=f"must be one that has its ids .* got '{name}'"):
            Corpus.open(tmp_path / "bpe", tokenizer=name)


def test_a_store_without_a_tokenizer_is_none(tmp_path: Path) -> None:
    """That of one's own lies in no store, and a missing split is named."""
    prepare([FULL], tmp_path / "own", tokenizer=UserBytes())
    with pytest.raises(ArgumentError, match=r"^tokenizer must be a store that holds its tokenizer"):
        Corpus.from_text("a", tokenizer=tmp_path / "own")
    prepare([FULL], tmp_path / "chars")
    with pytest.raises(ArgumentError, match=r"^split must be left out, .* got 'none'$"):
        Corpus.from_text("a", tokenizer=tmp_path / "chars" / "none")


def test_a_bpe_that_allows_special_tokens(tmp_path: Path) -> None:
    """It is learnt like any other, and its store says that they are allowed."""
    learner = read_tokenizer("bpe", allow_special=True)
    texts = [*FULL, f"a {END} b"]
    prepare(
        {"train": iter(texts)},
        tmp_path / "allowing",
        tokenizer=learner,
        vocab_size=300,
    )
    made = Corpus.open(tmp_path / "allowing").tokenizer
    plain = Corpus.from_documents(texts, tokenizer="bpe", vocab_size=300).tokenizer
    assert isinstance(made, HuggingFaceTokenizer)
    assert isinstance(plain, HuggingFaceTokenizer)
    assert (True, plain.content) == (made.allow_special, made.content)
    assert made.find_token(END) in made.encode(f"a {END} b").tolist()


def _exhaust(*_: object, **__: object) -> None:
    raise MemoryError


@pytest.mark.parametrize(
    ("module", "package", "read"),
    [
        (
            huggingface,
            SimpleNamespace(Tokenizer=SimpleNamespace(from_str=_exhaust)),
            lambda: huggingface.HuggingFaceTokenizer.of('{"model": {}}'),
        ),
        (
            sentencepieces,
            SimpleNamespace(SentencePieceProcessor=_exhaust),
            lambda: sentencepieces.SentencePieceTokenizer.of(b"a model"),
        ),
    ],
)
def test_missing_memory_is_no_fault_of_the_file(
    monkeypatch: pytest.MonkeyPatch, module: Any, package: Any, read: Callable[[], object]
) -> None:
    """It would be called a file of another kind."""
    monkeypatch.setattr(module, "import_optional", lambda *_, **__: package)
    with pytest.raises(MemoryError):
        read()


def test_missing_memory_is_no_fault_of_an_object() -> None:
    """It would be called one that is written in Python."""
    with pytest.raises(MemoryError):
        huggingface.write_json(SimpleNamespace(to_str=_exhaust))
