"""Whatever the documents, chunks and executors: a store is what its documents are as one text."""

import functools
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenloom as tl
from tests.support.preparation.preparations import (
    HereExecutor,
    contents,
    number_documents,
    split_paragraphs,
)
from tokenloom.errors import CorpusError
from tokenloom.preparation import prepare as prepare_module
from tokenloom.preparation.options import PrepareOptions
from tokenloom.store.verify import verify_store

# Letters, line ends and other space, and characters of two to four bytes.
ALPHABET = "aabBcz  \n\n\r\t.1é　時😀\u2028\x1c"
texts = st.text(ALPHABET, max_size=40)
documents = st.lists(texts.filter(str.strip), min_size=1, max_size=6)


# None of these needs processes of its own.
prepare = functools.partial(prepare_module.prepare, num_workers=1)


@pytest.fixture(scope="module", autouse=True)
def _no_waiting_for_disks() -> Iterator[None]:
    """Leave out what only a power cut would show."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    """Return three threads."""
    with ThreadPoolExecutor(3) as threads:
        yield threads


@st.composite
def options(draw: st.DrawFn, /, **fixed: Any) -> PrepareOptions:
    """Options that work for a vocabulary that is counted."""
    return PrepareOptions(
        normalize=draw(st.booleans()),
        min_freq=draw(st.integers(0, 2)),
        reserved_tokens=draw(st.sampled_from([(), ("<pad>", "a")])),
        end_of_document=draw(st.sampled_from([None, "<eod>", "b"])),
        task_bytes=draw(st.integers(1, 60)),
        shard_tokens=draw(st.integers(1, 40)),
        **fixed,
    )


def check(
    folder: Path,
    sources: Any,
    expected: list[str],
    tokenizer: str,
    chosen: PrepareOptions,
    ex: Any,
    *,
    vocab_size: int | None = None,
) -> None:
    """Prepare a store, and compare it with what the documents come to."""
    ids, offsets, made = number_documents(expected, tokenizer, chosen, vocab_size=vocab_size)
    how: dict[str, Any] = {"tokenizer": tokenizer, "options": chosen, "executor": ex}
    if not ids:
        with pytest.raises(CorpusError, match="at least one token"):
            prepare(sources, folder / "store", vocab_size=vocab_size, **how)
        return
    prepare(sources, folder / "store", vocab_size=vocab_size, **how)

    corpus = tl.Corpus.open(folder / "store")
    assert corpus.documents is not None
    assert (ids, offsets) == (corpus.tokens[:].tolist(), corpus.documents.tolist())
    assert made == corpus.tokenizer
    assert [] == verify_store(folder / "store")
    assert ["store"] == [path.name for path in folder.iterdir() if "store" in path.name]


def fresh(factory: pytest.TempPathFactory) -> Path:
    """Return a new folder."""
    return factory.mktemp("prepare")


@given(documents, st.sampled_from(["char", "word"]), options(), st.integers(0, 2))
def test_documents_of_an_iterable(
    tmp_path_factory: pytest.TempPathFactory,
    pool: ThreadPoolExecutor,
    documents: list[str],
    tokenizer: str,
    options: PrepareOptions,
    executor: int,
) -> None:
    """Documents stay documents, and their tokens are numbered as those of one text."""
    chosen = [None, HereExecutor(), pool][executor]
    folder = fresh(tmp_path_factory)
    check(folder, iter(documents), documents, tokenizer, options, chosen)


@given(documents, st.sampled_from(["char", "word"]), options(), st.none() | st.integers(5, 9))
def test_documents_of_files(
    tmp_path_factory: pytest.TempPathFactory,
    documents: list[str],
    tokenizer: str,
    options: PrepareOptions,
    vocab_size: int | None,
) -> None:
    """Each file is a document, wherever it is cut; its tokens are counted over all of them."""
    folder = fresh(tmp_path_factory)
    (folder / "texts").mkdir()
    for number, text in enumerate(documents):
        (folder / "texts" / f"{number}.txt").write_bytes(text.encode("utf-8"))
    check(
        folder,
        folder / "texts",
        documents,
        tokenizer,
        options,
        HereExecutor(),
        vocab_size=vocab_size,
    )


# A paragraph of white space that stands on no blank line is an empty document.
@given(
    texts.filter(lambda text: all(map(str.strip, split_paragraphs(text) or [""]))),
    st.sampled_from(["char", "word"]),
    options(documents="paragraph"),
)
def test_documents_of_paragraphs(
    tmp_path_factory: pytest.TempPathFactory,
    text: str,
    tokenizer: str,
    options: PrepareOptions,
) -> None:
    """What stands between blank lines is a document, wherever it is cut."""
    folder = fresh(tmp_path_factory)
    (folder / "text.txt").write_bytes(text.encode("utf-8"))
    check(folder, folder / "text.txt", split_paragraphs(text), tokenizer, options, HereExecutor())


@given(documents, st.integers(1, 60), st.sampled_from(["file", "record"]))
def test_documents_in_bytes(
    tmp_path_factory: pytest.TempPathFactory, documents: list[str], size: int, form: str
) -> None:
    """Bytes are taken as they are."""
    folder = fresh(tmp_path_factory)
    (folder / "texts").mkdir()
    if form == "record":
        lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in documents]
        (folder / "texts" / "all.jsonl").write_text("".join(lines), encoding="utf-8")
    else:
        for number, text in enumerate(documents):
            (folder / "texts" / f"{number}.txt").write_bytes(text.encode("utf-8"))
    chosen = PrepareOptions(task_bytes=size, end_of_document=0)
    check(folder, str(folder / "texts"), documents, "byte", chosen, None)


@given(texts.filter(str.strip), st.sampled_from(["char", "word", "byte"]), st.integers(1, 30))
def test_one_document_is_the_corpus_of_its_text(
    tmp_path_factory: pytest.TempPathFactory, text: str, tokenizer: str, size: int
) -> None:
    """A file is cut so that its ids are those of the whole text."""
    folder = fresh(tmp_path_factory)
    (folder / "text.txt").write_bytes(text.encode("utf-8"))
    normalize = any(letter in text for letter in "aabBcz")
    chosen = PrepareOptions(task_bytes=size, normalize=normalize or tokenizer == "byte")
    whole = tl.Corpus.from_text(text, tokenizer=tokenizer, normalize=chosen.normalize)

    prepare(folder / "text.txt", folder / "store", tokenizer=tokenizer, options=chosen)
    opened = tl.Corpus.open(folder / "store")
    assert (whole.hash, whole.vocab) == (opened.hash, opened.vocab)
    assert whole.tokens.dtype == opened.tokens.dtype


@settings(max_examples=20)
@given(documents, st.integers(1, 60), st.integers(0, 12))
def test_an_interrupted_run_ends_with_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, documents: list[str], size: int, moment: int
) -> None:
    """Whatever was finished when the tokenising stopped is used again."""
    folder = fresh(tmp_path_factory)
    chosen = PrepareOptions(task_bytes=size, normalize=False)

    class Stops(HereExecutor):
        left = moment

        def submit(self, do: Any, /, *args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().submit(do, *args, **kwargs)

    prepare(iter(documents), folder / "whole", options=chosen)
    try:
        prepare(iter(documents), folder / "again", options=chosen, executor=Stops())
    except KeyboardInterrupt:
        prepare(iter(documents), folder / "again", options=chosen)
    assert contents(folder / "whole") == contents(folder / "again")
