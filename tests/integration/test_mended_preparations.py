"""Preparations that stopped at a bad document, and the ways out that the error names."""

from pathlib import Path

import pytest

import tokenloom as tl
from tests.preparing import contents
from tokenloom.preparation import prepare
from tokenloom.prepare_options import PrepareOptions

GOOD, BAD = '{"text": "good"}\n', "oh\n"
STOP = PrepareOptions(task_bytes=100)
SKIP = PrepareOptions(task_bytes=100, on_error="skip")


@pytest.mark.parametrize("num_good", [0, 30])
def test_what_stopped_goes_on_with_skip(tmp_path: Path, num_good: int) -> None:
    """Whether something was kept or not, and the store is that of a run that never stopped."""
    source = tmp_path / "a.jsonl"
    source.write_text(GOOD * num_good + BAD * 3 + GOOD, encoding="utf-8")
    with pytest.raises(tl.CorpusError, match="on_error='skip'"):
        prepare(source, tmp_path / "store", tokenizer="byte", options=STOP, num_workers=1)
    made = prepare(source, tmp_path / "store", tokenizer="byte", options=SKIP, num_workers=1)
    assert (num_good + 1, {"invalid JSON": 3}) == (made.num_documents, made.problems)
    prepare(source, tmp_path / "whole", tokenizer="byte", options=SKIP, num_workers=1)
    assert contents(tmp_path / "whole") == contents(tmp_path / "store")


def test_a_mended_file_begins_anew(tmp_path: Path) -> None:
    """Where nothing was kept; else the folder to remove is named."""
    source, target = tmp_path / "a.jsonl", tmp_path / "store"
    source.write_text(BAD, encoding="utf-8")
    with pytest.raises(tl.CorpusError, match="invalid JSON"):
        prepare(source, target, options=STOP, num_workers=1)
    source.write_text(GOOD * 30 + BAD, encoding="utf-8")
    with pytest.raises(tl.CorpusError, match="invalid JSON"):
        prepare(source, target, options=STOP, num_workers=1)
    source.write_text(GOOD * 30, encoding="utf-8")
    with pytest.raises(tl.StoreError, match=r"a.jsonl: num_bytes .* remove that folder"):
        prepare(source, target, options=STOP, num_workers=1)


def test_a_stream_is_not_read_twice_to_be_skipped(tmp_path: Path) -> None:
    """It is at its end, and what it held is kept."""
    texts = iter(["", "good"])
    with pytest.raises(tl.CorpusError, match="an empty document"):
        prepare(texts, tmp_path / "store", options=STOP)
    assert 1 == prepare(texts, tmp_path / "store", options=SKIP).num_documents
