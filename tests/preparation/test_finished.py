"""What a finished preparation made."""

import os
from pathlib import Path

import pytest

import tokenloom as tl
from tokenloom.preparation.finished import Prepared, check_finished, summarize
from tokenloom.preparation.options import PrepareOptions
from tokenloom.preparation.prepare import prepare
from tokenloom.preparation.sources import resolve_sources


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return a store of one small file."""
    (tmp_path / "a.txt").write_text("some text", encoding="utf-8")
    prepare(tmp_path / "a.txt", tmp_path / "store")
    return tmp_path / "store"


def check(store: Path, name: str = "a.txt", **settings: object) -> None:
    """Compare the store with another call."""
    found = resolve_sources(store.parent / name, documents="file")
    told = {"tokenizer": {"name": "char"}, **PrepareOptions().describe(), **settings}
    check_finished(store, found, told)


def test_the_same_call_is_finished(store: Path) -> None:
    """Nothing is said."""
    check(store)


def test_other_calls_are_not(store: Path) -> None:
    """Settings, names, sizes and bytes count."""
    with pytest.raises(tl.StoreError, match="min_freq was 0, now 1"):
        check(store, min_freq=1)
    (store.parent / "b.txt").write_text("some text", encoding="utf-8")
    with pytest.raises(tl.StoreError, match=r"sources: 0 was '.*a.txt', now '.*b.txt'"):
        check(store, "b.txt")
    for text in ("some more text", "same text"):
        (store.parent / "a.txt").write_text(text, encoding="utf-8")
        with pytest.raises(tl.StoreError, match=r"a.txt has other bytes now"):
            check(store)


def test_a_file_that_was_written_again_is_compared(store: Path) -> None:
    """It may be the same."""
    (store.parent / "a.txt").write_text("some text", encoding="utf-8")
    check(store)


def test_an_older_file_is_compared(store: Path) -> None:
    """Though it was written before the store, it has the name since."""
    other = store.parent / "older.txt"
    other.write_text("same text", encoding="utf-8")
    os.utime(other, ns=(1, 1))
    other.replace(store.parent / "a.txt")
    with pytest.raises(tl.StoreError, match=r"a.txt has other bytes now"):
        check(store)


def test_a_summary() -> None:
    """Rates follow from counts."""
    made = Prepared(
        path=Path("store"),
        is_new=True,
        num_documents=1,
        num_tokens=8,
        vocab_size=9,
        num_characters=20,
        num_unknown=None,
        num_bytes=21,
        num_bytes_read=20,
        seconds=1.5,
    )
    assert (2.5, None) == (made.characters_per_token, made.unknown_rate)


def test_a_summary_of_a_store(store: Path) -> None:
    """The manifest has all of it but the time."""
    found = resolve_sources(store.parent / "a.txt", documents="file")
    told = {"tokenizer": {"name": "char"}, **PrepareOptions().describe()}
    made = summarize(
        store, check_finished(store, found, told), is_new=False, num_bytes_read=5, seconds=0.5
    )
    assert (store, False, 1, 9, 9, 0, 9, 5, 0.5) == (
        made.path,
        made.is_new,
        made.num_documents,
        made.num_tokens,
        made.num_characters,
        made.num_unknown,
        made.num_bytes,
        made.num_bytes_read,
        made.seconds,
    )
