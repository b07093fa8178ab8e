"""Preparations that stopped at a bad document, and the ways out that the error names."""

from pathlib import Path

import pytest

from tests.support.preparation.preparations import contents
from tokenloom.errors import CorpusError
from tokenloom.preparation.options import PrepareOptions
from tokenloom.preparation.prepare import prepare

GOOD, BAD = '{"text": "good"}\n', "oh\n"
STOP = PrepareOptions(task_bytes=100)
SKIP = PrepareOptions(task_bytes=100, on_error="skip")


@pytest.mark.parametrize("num_good", [0, 30])
def test_what_stopped_goes_on_with_skip(tmp_path: Path, num_good: int) -> None:
    """Whether something was kept or not, and the store is that of a run that never stopped."""
    source = tmp_path / "a.jsonl"
    source.write_text(GOOD * num_good + BAD * 3 + GOOD, encoding="utf-8")
    with pytest.raises(CorpusError, match="on_error='skip'"):
        prepare(source, tmp_path / "store", tokenizer="byte", options=STOP, num_workers=1)
    made = prepare(source, tmp_path / "store", tokenizer="byte", options=SKIP, num_workers=1)
    assert (num_good + 1, {"invalid JSON": 3}) == (made.num_documents, made.problems)
    prepare(source, tmp_path / "whole", tokenizer="byte", options=SKIP, num_workers=1)
    assert contents(tmp_path / "whole") == contents(tmp_path / "store")


def test_a_mended_file_begins_anew(tmp_path: Path) -> None:
    """Whether something was kept or not, since the run ended with an error."""
    source, target = tmp_path / "a.jsonl", tmp_path / "store"
    for content in (BAD, GOOD * 30 + BAD):
        source.write_text(content, encoding="utf-8")
        with pytest.raises(CorpusError, match="invalid JSON"):
            prepare(source, target, options=STOP, num_workers=1)
    source.write_text(GOOD * 30, encoding="utf-8")
    assert 30 == prepare(source, target, options=STOP, num_workers=1).num_documents


@pytest.mark.parametrize(
    "right",
    [
        PrepareOptions(task_bytes=100, field="body"),
        PrepareOptions(task_bytes=100, documents="paragraph", field="body"),
        PrepareOptions(task_bytes=100, normalize=False, field="body"),
    ],
)
def test_a_failed_run_does_not_refuse_other_options(tmp_path: Path, right: PrepareOptions) -> None:
    """What it kept is removed, and the store is that of a run with these options alone."""
    source, target = tmp_path / "a.jsonl", tmp_path / "store"
    both = '{"text": "good", "body": "better"}\n'
    source.write_text(both * 30 + '{"body": "best"}\n', encoding="utf-8")
    with pytest.raises(CorpusError, match="a missing field"):
        prepare(source, target, options=STOP, num_workers=1)
    prepare(source, target, options=right, num_workers=1)
    prepare(source, tmp_path / "whole", options=right, num_workers=1)
    assert contents(tmp_path / "whole") == contents(target)


def test_text_without_a_token_may_be_prepared_raw(tmp_path: Path) -> None:
    """The command that failed is run again with the option that the message names."""
    source, target = tmp_path / "a.txt", tmp_path / "store"
    source.write_text("時間機器\n" * 30, encoding="utf-8")
    with pytest.raises(CorpusError, match="must hold at least one token"):
        prepare(source, target, options=STOP, num_workers=1)
    raw = PrepareOptions(task_bytes=100, normalize=False)
    assert 150 == prepare(source, target, options=raw, num_workers=1).num_tokens


@pytest.mark.parametrize("mended", [["good"] * 30, ["good"] * 29 + ["", "better"]])
def test_a_mended_stream_begins_anew(tmp_path: Path, mended: list[str]) -> None:
    """After an error other texts may come, and those that were kept are forgotten."""
    target = tmp_path / "store"
    with pytest.raises(CorpusError, match="an empty document"):
        prepare(iter(["good"] * 30 + [""]), target, options=STOP, num_workers=1)
    prepare(iter(mended), target, options=SKIP, num_workers=1)
    prepare(iter(mended), tmp_path / "whole", options=SKIP, num_workers=1)
    assert contents(tmp_path / "whole") == contents(target)


def test_a_stream_is_not_read_twice_to_be_skipped(tmp_path: Path) -> None:
    """It is at its end, and what it held is kept."""
    texts = iter(["", "good"])
    with pytest.raises(CorpusError, match="an empty document"):
        prepare(texts, tmp_path / "store", options=STOP)
    assert 1 == prepare(texts, tmp_path / "store", options=SKIP).num_documents
