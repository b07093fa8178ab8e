"""Sub-words on the whole way: prepared, killed, moved, trained on, traced."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tokenloom as tl
from tests.support.text.subwords import END, TEXTS, make_bpe, write_bpe
from tokenloom.cli.main import main as run
from tokenloom.errors import CorpusError
from tokenloom.preparation import encode as encoding
from tokenloom.preparation.encode import encode_chunk
from tokenloom.text.huggingface import BpeLearner

SMALL = tl.PrepareOptions(documents="jsonl", task_bytes=512, end_of_document=END)
DOCUMENTS = [f"{number} {text} {text[::-1]}" for number in range(40) for text in TEXTS[:3]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a file of documents."""
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of each file of a store."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_learned_stores_are_equal(source: Path, tmp_path: Path) -> None:
    """In this process and in two others, and the text comes back."""
    made = [
        tl.prepare(source, tmp_path / f"{n}", tokenizer="bpe", vocab_size=300, options=SMALL,
                   num_workers=n, progress=False)
        for n in (0, 2)
    ]  # fmt: skip
    first, second = (contents(tmp_path / name) for name in "02")
    assert first == second
    corpus = tl.Corpus.open(tmp_path / "0")
    assert made[0].vocab_size == corpus.vocab_size
    assert END.join(DOCUMENTS) + END == corpus.decode(corpus.tokens)
    assert BpeLearner(300).learn(DOCUMENTS) == corpus.tokenizer
    assert not tl.prepare(
        source, tmp_path / "0", tokenizer="bpe", vocab_size=300, options=SMALL
    ).is_new
    with pytest.raises(tl.StoreError, match="vocab_size=300, now 'bpe' with vocab_size=301"):
        tl.prepare(source, tmp_path / "0", tokenizer="bpe", vocab_size=301, options=SMALL)


def test_blocks_change_nothing(source: Path, tmp_path: Path) -> None:
    """Whatever is read at a time, documents are learnt and encoded whole."""
    stores = []
    for size in (300, 1 << 20):
        options = dataclasses.replace(SMALL, task_bytes=size)
        path = tmp_path / f"{size}"
        tl.prepare(source, path, tokenizer="bpe", vocab_size=300, options=options, num_workers=0)
        stores.append(tl.Corpus.open(path))
    assert stores[0].hash == stores[1].hash
    assert stores[0].tokenizer == stores[1].tokenizer


def test_what_was_learnt_is_kept(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is stopped while it encodes does not learn again."""
    whole, target = tmp_path / "whole", tmp_path / "store"
    how: dict[str, Any] = {"tokenizer": "bpe", "vocab_size": 300, "options": SMALL}
    tl.prepare(source, whole, **how, num_workers=0)
    encode, calls = encode_chunk, []

    def stop_at_third(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(encoding, "encode_chunk", stop_at_third)
        with pytest.raises(KeyboardInterrupt):
            tl.prepare(source, target, **how, num_workers=0)
    monkeypatch.setattr(BpeLearner, "learn", None)
    made = tl.prepare(source, target, **how, num_workers=0)
    assert made.num_bytes_read < made.num_bytes
    assert contents(whole) == contents(target)


def test_a_bad_document_is_named_while_learning(source: Path, tmp_path: Path) -> None:
    """With its place, as while encoding; or it is left out of both."""
    source.write_text(source.read_text() + '{"text": "\\ud83d"}\n')
    with pytest.raises(CorpusError, match=r"texts\.jsonl has undecodable text at byte"):
        tl.prepare(source, tmp_path / "store", tokenizer="bpe", options=SMALL, num_workers=0)
    options = dataclasses.replace(SMALL, on_error="skip")
    tl.prepare(source, tmp_path / "store", tokenizer="bpe", options=options, num_workers=0)
    corpus = tl.Corpus.open(tmp_path / "store")
    assert (BpeLearner().learn(DOCUMENTS), len(DOCUMENTS)) == (
        corpus.tokenizer,
        corpus.num_documents,
    )


def test_a_token_is_traced_to_its_character(source: Path, tmp_path: Path) -> None:
    """In its source and document, also after marks of ends."""
    tl.prepare(source, tmp_path / "store", tokenizer=make_bpe(), options=SMALL, num_workers=0)
    corpus = tl.Corpus.open(tmp_path / "store")
    offsets = corpus.documents
    assert offsets is not None
    for document in (0, 50, 119):
        place = tl.trace(corpus, int(offsets[document]) + 6)
        assert place is not None
        assert document == place.document
        assert place.character is not None
        text = corpus.decode(corpus.tokens[int(offsets[document]) + 6 : offsets[document + 1] - 1])
        assert DOCUMENTS[document][place.character :] == text


def test_a_run_is_moved_and_writes_text(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training, showing, evaluating and generating need nothing but the folders."""
    write_bpe(tmp_path / "tokenizer.json")
    store = tmp_path / "store"
    command = f"prepare {source} -o {store} --tokenizer {tmp_path / 'tokenizer.json'} --workers 0"
    assert 0 == run([*command.split(), "--split", "valid=0.2", "--end-of-document", END])
    (tmp_path / "tokenizer.json").unlink()
    shutil.move(store, tmp_path / "moved")
    train = f"train {tmp_path / 'moved'} --run {tmp_path / 'run'} --epochs 1 --hidden 4 --quiet"
    assert 0 == run([*train.split(), "--batch-size", "2", "--seq-len", "8", "--device", "cpu"])
    shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    assert 0 == run(["evaluate", str(tmp_path / "elsewhere"), str(tmp_path / "moved/valid")])
    assert 0 == run(["show", str(tmp_path / "moved"), "--batch-size", "1", "--seq-len", "4"])
    assert 0 == run(["info", str(tmp_path / "moved")])
    shutil.rmtree(tmp_path / "moved")
    capsys.readouterr()
    assert 0 == run(["generate", str(tmp_path / "elsewhere"), "--prompt", "the time"])
    assert capsys.readouterr().out.startswith("the time")


@pytest.mark.parametrize("words", ["bpe --vocab-size 300", "{}/mine.json", "{}/store"])
def test_commands_take_sub_words(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By name, by path, or out of a store; what has no effect is refused."""
    (tmp_path / "book.txt").write_text("\n".join(DOCUMENTS))
    tl.Corpus.from_text("a", tokenizer=write_bpe(tmp_path / "mine.json")).save(tmp_path / "store")
    tokenizer = ["--tokenizer", *words.format(tmp_path).split()]
    show = ["show", str(tmp_path / "book.txt"), "--batch-size", "1", "--seq-len", "8"]
    assert 0 == run([*show, *tokenizer])
    assert "(for so" in capsys.readouterr().out
    assert 1 == run([*show, *tokenizer, "--raw"])
    assert "leave out --raw: --tokenizer" in capsys.readouterr().err
    if "bpe" not in words:
        assert 1 == run([*show, *tokenizer, "--vocab-size", "9"])
        assert "learns no ids" in capsys.readouterr().err


def test_what_is_switched_off_is_said_by_commands(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr."""
    write_bpe(tmp_path / "mine.json", truncates=True)
    command = f"prepare {source} -o {tmp_path / 'store'} --tokenizer {tmp_path / 'mine.json'}"
    assert 0 == run([*command.split(), "--workers", "0"])
    assert "mine.json truncates texts: that is switched off" in capsys.readouterr().err


PROGRAM = """
import os, signal, sys
import tokenloom as tl
from tokenloom.preparation import encode, prepare
from tokenloom.preparation.workdir import WorkDir

where, how_many = sys.argv[3], int(sys.argv[4])
seen = []


def die(*_, **__):
    seen.append(1)
    if len(seen) == how_many:
        os.kill(os.getpid(), signal.SIGKILL)


def before(owner, name):
    inner = getattr(owner, name)
    def wrapper(*arguments, **named):
        die()
        return inner(*arguments, **named)
    setattr(owner, name, wrapper)


if where == "learning":
    before(prepare, "find_segments")
elif where == "writing":
    before(WorkDir, "write")
elif where == "encoding":
    before(encode, "encode_chunk")

if __name__ == "__main__":
    options = tl.PrepareOptions(documents="jsonl", task_bytes=512, end_of_document="<|endoftext|>")
    tl.prepare(sys.argv[1], sys.argv[2], tokenizer="bpe", vocab_size=300, options=options,
               num_workers=0, progress=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "how_many"),
    [("learning", 1), ("learning", 20), ("writing", 1), ("writing", 2), ("encoding", 9)],
)
def test_a_kill_changes_no_byte(where: str, how_many: int, source: Path, tmp_path: Path) -> None:
    """In the middle of learning, before its result is kept, after that, and while encoding."""
    (tmp_path / "program.py").write_text(PROGRAM)

    def run_program(store: str, where: str, how_many: int = 0) -> int:
        words = [str(source), str(tmp_path / store), where, str(how_many)]
        command = [sys.executable, str(tmp_path / "program.py"), *words]
        return subprocess.run(command, check=False, timeout=240).returncode

    assert -signal.SIGKILL == run_program("killed", where, how_many)
    assert not (tmp_path / "killed").exists()
    assert 0 == run_program("killed", "nowhere")
    assert 0 == run_program("whole", "nowhere")
    assert contents(tmp_path / "whole") == contents(tmp_path / "killed")
    assert not (tmp_path / ".killed.prepare").exists()
