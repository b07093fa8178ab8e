"""Prompts that are read and not learnt: prepared from sources of every form, into one store."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

import tokenloom as tl
from tests.support.packages import require_package
from tests.support.preparation.preparations import contents
from tokenloom.cli.main import main
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.preparation.options import PrepareOptions


@pytest.fixture(scope="module", autouse=True)
def _no_waiting_for_disks() -> Iterator[None]:
    """Leave out what only a power cut would show."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


Row = dict[str, Any]
ROWS: list[Row] = [
    {"number": a, "prompt": f"What are {a} and {b}? " * (b % 3), "answer": f"Né {a + b}, of course"}
    for a in range(20)
    for b in range(6)
]


def options_of(**changes: Any) -> PrepareOptions:
    """Return options for many chunks and some files of tokens."""
    given = {"field": "answer", "prompt_field": "prompt", "task_bytes": 700, "shard_tokens": 3_000}
    return PrepareOptions(**{**given, **changes})


def write_jsonl(path: Path, rows: list[Row]) -> Path:
    """Write a JSON object on each line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_source(folder: Path, form: str, rows: list[Row] = ROWS) -> Any:
    """Return a source with the rows, in which columns stand in another order."""
    path = folder / f"rows.{form}"
    table = pa.Table.from_pylist(rows).select(["answer", "number", "prompt"])
    match form:
        case "jsonl":
            return write_jsonl(path, rows)
        case "csv" | "tsv":
            with path.open("w", newline="", encoding="utf-8") as file:
                sign = "\t" if form == "tsv" else ";"
                writer = csv.DictWriter(file, ["answer", "number", "prompt"], delimiter=sign)
                writer.writeheader()
                writer.writerows(rows)
        case "parquet":
            parquet.write_table(table, path, row_group_size=50)
        case "arrow":
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table, max_chunksize=40)
        case "dictionary":
            coded = table.set_column(2, "prompt", table["prompt"].dictionary_encode())
            path = path.with_suffix(".parquet")
            parquet.write_table(coded, path)
        case "iterable":
            return iter(rows)
        case _:
            datasets = require_package("datasets")
            made = datasets.Dataset.from_list(rows)
            return made if form == "dataset" else made.to_iterable_dataset()
    return path


def prepare(source: Any, path: Path, tokenizer: Any = "byte", **options: Any) -> tl.Corpus:
    """Return the store of a source."""
    how = options.pop("how", {"num_workers": 0})
    made = tl.prepare(
        source, path, tokenizer=tokenizer, options=options_of(**options), progress=False, **how
    )
    corpus = tl.Corpus.open(path, verify=True)
    assert corpus.loss_mask is not None
    assert made.num_learnt == int(corpus.loss_mask[:].sum())
    return corpus


def learnt_of(corpus: tl.Corpus) -> list[tuple[str, str]]:
    """Return the text of each document that is not learnt, and the text that is."""
    found = []
    for number in range(corpus.num_documents):
        document = corpus.document(number)
        assert document.loss_mask is not None
        mask = document.loss_mask[:] == 1
        assert not (np.diff(mask.astype(int)) < 0).any()
        tokens = document.tokens[:]
        found.append((corpus.decode(tokens[~mask]), corpus.decode(tokens[mask])))
    return found


PAIRS = [(row["prompt"], row["answer"]) for row in ROWS]
FORMS = ["jsonl", "csv", "tsv", "parquet", "arrow", "dictionary", "iterable"]


@pytest.mark.parametrize("form", FORMS)
def test_prompts_are_stored_and_not_learnt(tmp_path: Path, form: str) -> None:
    """Whatever the form, and however the rows are divided into chunks."""
    corpus = prepare(write_source(tmp_path, form), tmp_path / "store", end_of_document=0)
    assert learnt_of(corpus) == [(prompt, text + "\0") for prompt, text in PAIRS]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["dataset", "stream"])
def test_prompts_of_data_sets(tmp_path: Path, form: str) -> None:
    """Data sets of Hugging Face, at hand and streamed, and rows that a transform makes."""
    source = write_source(tmp_path, form)
    assert learnt_of(prepare(source, tmp_path / "store")) == PAIRS
    if form == "dataset":
        changed = source.with_transform(
            lambda rows: {"prompt": [text.upper() for text in rows["prompt"]], **_answers(rows)}
        )
        expected = [(prompt.upper(), text) for prompt, text in PAIRS]
        assert learnt_of(prepare(changed, tmp_path / "changed")) == expected
    source = write_source(tmp_path, form)
    with pytest.raises((ArgumentError, CorpusError), match="column 'question'"):
        prepare(source, tmp_path / "other", prompt_field="question")


def _answers(rows: Any) -> Row:
    return {"answer": rows["answer"]}


@pytest.mark.parametrize("tokenizer", ["char", "word", "bpe"])
def test_each_is_encoded_by_itself(tmp_path: Path, tokenizer: str) -> None:
    """As a model sees a prompt alone; characters are normalised as those of one text."""
    source = write_source(tmp_path, "jsonl")
    how: Any = {"num_workers": 0, "vocab_size": 300} if tokenizer == "bpe" else {"num_workers": 0}
    corpus = prepare(source, tmp_path / "store", tokenizer, how=how)
    for (prompt, text), (before, after) in zip(PAIRS, learnt_of(corpus), strict=True):
        encode = corpus.tokenizer.encode
        if tokenizer == "char":
            assert corpus.decode(np.asarray(encode(prompt + text))) == before + after
            assert not before.endswith(" ")
        else:
            assert corpus.decode(np.asarray(encode(prompt))) == before
            assert corpus.decode(np.asarray(encode(text))) == after


texts = st.text("ab \n,;\"'é時0:", max_size=12)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(texts, texts.filter(str.strip)), min_size=1, max_size=12),
    st.sampled_from(["jsonl", "csv", "parquet", "arrow"]),
    st.integers(1, 60),
    st.integers(1, 40),
)
def test_any_pairs_come_back(
    tmp_path_factory: pytest.TempPathFactory,
    pairs: list[tuple[str, str]],
    form: str,
    task_bytes: int,
    shard_tokens: int,
) -> None:
    """Chunks may end between any two, and tokens of a document lie in several files."""
    folder = tmp_path_factory.mktemp("pairs")
    rows = [{"answer": text, "number": 0, "prompt": prompt} for prompt, text in pairs]
    sizes = {"task_bytes": task_bytes, "shard_tokens": shard_tokens}
    source = write_source(folder, form, rows)
    assert learnt_of(prepare(source, folder / "store", **sizes)) == pairs


@pytest.mark.parametrize("tokenizer", ["byte", "word"])
def test_bytes_do_not_depend_on_workers(tmp_path: Path, tokenizer: str) -> None:
    """Nor on how the chunks are divided among threads of an executor."""
    source = write_source(tmp_path, "jsonl")
    prepare(source, tmp_path / "alone", tokenizer)
    with ThreadPoolExecutor(3) as pool:
        prepare(source, tmp_path / "threads", tokenizer, how={"executor": pool})
    assert contents(tmp_path / "alone") == contents(tmp_path / "threads")


def test_documents_may_have_prompts(tmp_path: Path) -> None:
    """Where prompts are asked for; else they would be left out in silence."""
    documents = [tl.Document(prompt="a", text="b"), tl.Document(text="c")]
    assert learnt_of(prepare(iter(documents), tmp_path / "store")) == [("a", "b"), ("", "c")]
    with pytest.raises(ArgumentError, match="document 0 of an iterable must have no prompt"):
        tl.prepare(iter(documents), tmp_path / "other", tokenizer="byte")


_PROGRAM = """
import sys, tokenloom as tl
options = tl.PrepareOptions(field="answer", prompt_field="prompt", task_bytes=700)
tl.prepare(sys.argv[1], sys.argv[2], tokenizer="word", options=options, num_workers=2)
"""


@pytest.mark.slow
def test_a_killed_preparation_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """Whenever it is killed, in processes, and run again."""
    source = write_jsonl(tmp_path / "rows.jsonl", ROWS * 60)
    command = [sys.executable, "-c", _PROGRAM, str(source)]
    began_at = time.monotonic()
    subprocess.run([*command, str(tmp_path / "whole")], check=True)
    duration = time.monotonic() - began_at
    for number in range(1, 6):
        child = subprocess.Popen([*command, str(tmp_path / "killed")])
        time.sleep(duration * number / 6)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    subprocess.run([*command, str(tmp_path / "killed")], check=True)
    assert contents(tmp_path / "whole") == contents(tmp_path / "killed")
    assert "loss_mask-00000.npy" in contents(tmp_path / "whole")


def test_a_store_of_other_prompts_is_another(tmp_path: Path) -> None:
    """It is not taken for finished, and its settings are named."""
    source = write_source(tmp_path, "jsonl")
    prepare(source, tmp_path / "store")
    prepare(source, tmp_path / "store")
    for changed in ({"prompt_field": None}, {"prompt_field": "answer", "field": "prompt"}):
        with pytest.raises(tl.StoreError, match="prompt_field"):
            tl.prepare(source, tmp_path / "store", tokenizer="byte", options=options_of(**changed))


BAD: list[Row] = [
    {"prompt": "a", "answer": "b"},
    {"answer": "c"},
    {"prompt": None, "answer": "d"},
    {"prompt": "e", "answer": None},
    {"prompt": "f", "answer": "  "},
    {"prompt": "", "answer": "g"},
]


@pytest.mark.parametrize(
    ("on_error", "pairs"),
    [
        ("skip", [("a", "b"), ("", "g")]),
        ("replace", [("a", "b"), ("", "c"), ("", "d"), ("e", ""), ("f", ""), ("", "g")]),
    ],
)
def test_what_becomes_of_documents_that_lack_a_text(
    tmp_path: Path, on_error: Any, pairs: list[tuple[str, str]]
) -> None:
    """Both texts of a document are left out together, and each document counts once."""
    source = write_jsonl(tmp_path / "bad.jsonl", BAD)
    options = options_of(on_error=on_error)
    made = tl.prepare(source, tmp_path / "store", tokenizer="byte", options=options)
    corpus = tl.Corpus.open(tmp_path / "store")
    assert learnt_of(corpus) == pairs
    assert made.problems == {
        "a missing field": 1,
        "a null value": 2,
        "a prompt without a text": 1,
    }


def test_nulls_of_tables_are_bad_documents(tmp_path: Path) -> None:
    """A row without a prompt or a text has no pair."""
    rows = [{"number": 0, "prompt": "", "answer": "x"}, *({"number": 1, **row} for row in BAD)]
    source = write_source(tmp_path, "parquet", rows)
    assert learnt_of(prepare(source, tmp_path / "store", on_error="skip")) == [
        *(("", "x"), ("a", "b"), ("", "g")),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answer": "c"}, "a missing field .* must be .* a string as 'prompt'"),
        ({"prompt": None, "answer": "d"}, "a null value .* 'prompt' is null"),
        ({"prompt": "e", "answer": None}, "a null value .* 'answer' is null"),
        ({"prompt": "f", "answer": " "}, "a prompt without a text .* white space in 'answer';"),
        ({"prompt": "f", "answer": ""}, "a prompt without a text .* white space in 'answer';"),
        ({"prompt": "", "answer": ""}, "an empty document .* in 'answer' and in 'prompt';"),
        ({"prompt": "\n", "answer": " "}, "an empty document .* in 'answer' and in 'prompt';"),
    ],
)
@pytest.mark.parametrize("tokenizer", ["byte", "char"])
def test_the_error_says_what_the_document_lacks(
    tmp_path: Path, row: Row, message: str, tokenizer: str
) -> None:
    """And in which line; an empty prompt is none of it."""
    source = write_jsonl(tmp_path / "bad.jsonl", [{"prompt": "", "answer": "b"}, row])
    message = message.replace(" .* ", r" at byte 30: in line 2, .*", 1)
    with pytest.raises(CorpusError, match=f"bad.jsonl has {message}"):
        tl.prepare(source, tmp_path / "store", tokenizer=tokenizer, options=options_of())


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_tables_say_what_a_row_lacks(tmp_path: Path, form: str) -> None:
    """In the words of JSON Lines; of a null they do not know which of the two it is."""
    wanted: dict[str, tuple[str, str | None, str]] = {
        "empty": ("", "", "an empty document"),
        "answer": ("a", " ", "a prompt without"),
    }
    if form == "parquet":
        wanted["null"] = ("a", None, "a null value .* there is no 'prompt' or no 'answer';")
    for name, (prompt, answer, message) in wanted.items():
        folder = tmp_path / name
        folder.mkdir()
        rows: list[Row] = [{"prompt": "a", "answer": "b"}, {"prompt": prompt, "answer": answer}]
        source = write_source(folder, form, [{"number": 0, **row} for row in rows])
        with pytest.raises(CorpusError, match=message):
            prepare(source, folder / "store")


class Fussy:
    """Bytes, but of no text with a z in it."""

    vocab_size = 256

    def encode(self, text: str, /) -> list[int]:
        """Return the bytes."""
        if "z" in text:
            msg = "no z, please"
            raise ValueError(msg)
        return list(text.encode())

    def decode(self, ids: list[int], /) -> str:
        """Return the text."""
        return bytes(ids).decode()


@pytest.mark.parametrize("on_error", ["skip", "replace"])
def test_a_refused_text_takes_the_other_with_it(tmp_path: Path, on_error: Any) -> None:
    """An answer without its question would be learnt out of nothing."""
    pairs = [("a", "b"), ("z", "c"), ("d", "z"), ("e", "f")]
    rows = [{"prompt": prompt, "answer": text} for prompt, text in pairs]
    options = options_of(on_error=on_error)
    made = tl.prepare(iter(rows), tmp_path / "store", tokenizer=Fussy(), options=options)
    corpus = tl.Corpus.open(tmp_path / "store", tokenizer=Fussy())
    assert corpus.loss_mask is not None
    assert bytes(corpus.tokens[:].tolist()) == b"abef"
    assert corpus.loss_mask[:].tolist() == [0, 1, 0, 1]
    assert (made.num_documents, sum(made.problems.values())) == (4 - 2 * (on_error == "skip"), 2)


@pytest.mark.parametrize(
    ("source", "changes", "message"),
    [
        (
            "rows.txt",
            {},
            "prompt_field must be left out where a source has no fields, as the text .*rows.txt",
        ),
        ("rows.jsonl", {"prompt_field": "answer"}, "another field than field='answer'"),
        ("rows.jsonl", {"prompt_field": 3}, "prompt_field must be"),
        (
            "rows.csv",
            {"prompt_field": "question"},
            "one column 'question', got 0 .* name one with prompt_field=",
        ),
        (
            "rows.parquet",
            {"prompt_field": "question"},
            "the column 'question', which it has not; name one with prompt_field=",
        ),
        (["text"], {}, "document 0 of an iterable must be a dict with 'prompt' and 'answer'"),
        ([{"prompt": "a"}], {}, "must be a dict with 'prompt' and 'answer', got"),
        ([{"prompt": 1, "answer": "a"}], {}, "must have texts of the type str, got int"),
    ],
)
def test_what_has_no_prompts_is_refused(
    tmp_path: Path, source: Any, changes: Row, message: str
) -> None:
    """Before anything is made of it, and by what would do."""
    for form in ("jsonl", "csv", "parquet"):
        write_source(tmp_path, form)
    (tmp_path / "rows.txt").write_text("a text", encoding="utf-8")
    given = tmp_path / source if isinstance(source, str) else iter(source)
    with pytest.raises((ArgumentError, CorpusError), match=message):
        prepare(given, tmp_path / "store", **changes)


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize("tokenizer", ["byte", "char", "word"])
def test_tokens_are_traced(tmp_path: Path, form: str, tokenizer: str) -> None:
    """The character counts from the beginning of the prompt on."""
    corpus = prepare(write_source(tmp_path, form), tmp_path / "store", tokenizer)
    for token in range(0, len(corpus), 97):
        found = tl.trace(corpus, token)
        assert found.character is not None
        whole = "".join(PAIRS[found.document])
        text = corpus.decode(corpus.tokens[token : token + 1])
        if tokenizer == "byte":
            assert whole.encode()[found.character] == corpus.tokens[token]
        elif text.strip():
            assert whole[found.character :].lower().startswith(text)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints the share that is learnt, as info does; other files are refused in its words."""
    source, store = write_source(tmp_path, "jsonl"), str(tmp_path / "store")
    fields = ["--field", "answer", "--prompt-field", "prompt"]
    assert main(["prepare", str(source), *fields, "--tokenizer", "byte", "-o", store]) == 0
    corpus = tl.Corpus.open(store)
    assert corpus.loss_mask is not None
    row = f"{corpus.loss_mask[:].mean():.4%}\n"
    assert f"learnt rate           {row}" in capsys.readouterr().out
    assert main(["info", store]) == 0
    shown = capsys.readouterr().out
    assert re.search(f"^learnt rate +{row}", shown, re.MULTILINE)
    assert main(["info", store, "--json"]) == 0
    rate = json.loads(capsys.readouterr().out)["learnt_rate"]
    assert rate == pytest.approx(float(corpus.loss_mask[:].mean()))
    saved = str(corpus.slice(0, 500).save(tmp_path / "saved"))
    assert main(["info", saved, "--json"]) == 0
    rate = json.loads(capsys.readouterr().out)["learnt_rate"]
    assert rate == pytest.approx(float(corpus.loss_mask[:500].mean()))
    assert main(["verify", store]) == 0
    capsys.readouterr()
    assert main(["show", store, "--order", "packed", "--batch-size", "2", "--rows", "0"]) == 0
    assert re.search(r"\n    learnt   'Né \d+, of course'\n", capsys.readouterr().out)
    (tmp_path / "a.txt").write_text("a text", encoding="utf-8")
    text = str(tmp_path / "a.txt")
    assert main(["prepare", text, "--prompt-field", "x", "-o", str(tmp_path / "b")]) == 1
    assert "leave out --prompt-field" in capsys.readouterr().err
    assert main(["prepare", text, str(source), *fields, "-o", str(tmp_path / "b")]) == 1
    assert "--prompt-field must be left out where" in capsys.readouterr().err
