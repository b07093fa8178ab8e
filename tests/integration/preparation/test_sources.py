"""Sources of every kind, prepared by processes that are killed."""

import csv
import functools
import gzip
import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tokenloom as tl
from tests.support.packages import require_package
from tests.support.preparation.preparations import contents
from tokenloom.preparation.options import PrepareOptions
from tokenloom.preparation.prepare import prepare

pytestmark = pytest.mark.slow

TEXTS = [f"To be, or not to be,\nthat is question {number}" for number in range(400)]
PROGRAM = """
import os, signal, sys
from tokenloom.preparation.options import PrepareOptions
from tokenloom.preparation.prepare import prepare
from tokenloom.preparation.workdir import WorkDir

source, target, documents, limit = sys.argv[1:]
write, written = WorkDir.write, []


def write_and_die(self, kind, *rest):
    write(self, kind, *rest)
    if kind == "tokens":
        written.append(kind)
        if len(written) == int(limit):
            os.kill(os.getpid(), signal.SIGKILL)


WorkDir.write = write_and_die
options = PrepareOptions(task_bytes=1_000, documents=documents)
prepare(source, target, tokenizer="word", options=options, num_workers=1, progress=False)
"""


def write_lines(path: Path) -> None:
    """Write a line for each text."""
    path.write_text("".join(" ".join(text.split()) + "\n" for text in TEXTS))


def write_csv(path: Path) -> None:
    """Write a record for each text."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "text"), *enumerate(TEXTS)])


def write_records(path: Path) -> None:
    """Write a compressed object for each text."""
    content = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
    path.write_bytes(gzip.compress(content.encode()))


def write_parquet(path: Path) -> None:
    """Write a row for each text, to one row group."""
    pa, pq = require_package("pyarrow"), require_package("pyarrow.parquet")
    pq.write_table(pa.table({"text": TEXTS}), path)


def write_arrow(path: Path) -> None:
    """Write a row for each text, to several record batches."""
    pa = require_package("pyarrow")
    table = pa.table({"text": TEXTS})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=130)


KINDS: dict[str, Callable[[Path], None]] = {
    "a.txt": write_lines,
    "a.csv": write_csv,
    "a.jsonl.gz": write_records,
    "a.parquet": write_parquet,
    "a.arrow": write_arrow,
}


def run(source: str, target: Path, limit: int) -> int:
    """Prepare a store in a process that dies after some parts; return how it ended."""
    documents = "line" if source.endswith(".txt") else "file"
    command = [sys.executable, "-c", PROGRAM, source, str(target), documents, str(limit)]
    return subprocess.run(command, check=False, timeout=600).returncode


def assert_survives(source: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill a preparation twice, let it go on, and compare it with one that was left alone."""
    monkeypatch.chdir(folder)
    for limit in (3, 4):
        assert -signal.SIGKILL == run(source, folder / "store", limit)
    assert run(source, folder / "store", 0) == 0
    options = PrepareOptions(
        task_bytes=1_000, documents="line" if source.endswith(".txt") else "file"
    )
    made = prepare(source, "whole", tokenizer="word", options=options, num_workers=2)
    assert (made.num_documents, made.problems) == (len(TEXTS), {})
    assert contents(folder / "whole") == contents(folder / "store")
    corpus = tl.Corpus.open("whole")
    tokens = tl.Corpus.from_documents(TEXTS, tokenizer="word").tokens
    assert tokens.tolist() == corpus.tokens.tolist()
    found = tl.trace(corpus, 200 * 8)
    assert found
    assert (found.source, found.character is None) == (source, False)


@pytest.mark.parametrize("name", KINDS)
def test_local_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Of each kind."""
    KINDS[name](tmp_path / name)
    assert_survives(name, tmp_path, monkeypatch)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """Return the address of a bucket on a server of S3 on this machine."""
    s3fs = require_package("s3fs")
    server = require_package("moto.server").ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "somebody"),
        ("AWS_SECRET_ACCESS_KEY", "hush"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
    ):
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    # All servers of a process have the same buckets.
    name = hashlib.sha256(str(tmp_path).encode()).hexdigest()[:20]
    s3fs.S3FileSystem().mkdir(name)
    yield f"s3://{name}"
    server.stop()


@pytest.mark.parametrize("name", KINDS)
def test_files_on_s3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: str, name: str
) -> None:
    """Of each kind, over the network of this machine; a pattern finds them too."""
    s3fs = require_package("s3fs")
    KINDS[name](tmp_path / name)
    s3fs.S3FileSystem().put_file(str(tmp_path / name), f"{bucket}/{name}")
    (tmp_path / name).unlink()
    assert_survives(f"{bucket}/{name}", tmp_path, monkeypatch)
    options = PrepareOptions(documents="line" if name == "a.txt" else "file")
    made = prepare(f"{bucket}/*", "found", tokenizer="word", options=options)
    assert made.num_documents == len(TEXTS)
    assert b"hush" not in b"".join(contents(Path("found")).values())


@pytest.fixture
def website(tmp_path: Path) -> Iterator[str]:
    """Return the address of a server that sends files as a whole only."""
    require_package("aiohttp")
    (tmp_path / "web").mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, _: str, *words: object) -> None:
            """Keep what was asked for, and be quiet."""
            with (tmp_path / "asked").open("a") as file:
                file.write(f"{words[0]}\n")

    handler = functools.partial(Handler, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", KINDS)
def test_files_on_a_web_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, website: str, name: str
) -> None:
    """Of each kind, from a server that knows no ranges."""
    KINDS[name](tmp_path / "web" / name)
    assert_survives(f"{website}/{name}", tmp_path, monkeypatch)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_a_copy_survives_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, website: str, name: str
) -> None:
    """It lies in the work folder, where the next run finds it, and not among temporary files."""
    KINDS[name](tmp_path / "web" / name)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    work, asked = tmp_path / ".store.prepare", tmp_path / "asked"
    for limit in (3, 4, 0):
        code = run(f"{website}/{name}", tmp_path / "store", limit)
        assert (-signal.SIGKILL if limit else 0) == code
        assert (limit > 0) == (work / "remote-0000000").exists()
        fetched = [line for line in asked.read_text().splitlines() if line.startswith("GET")]
        # A server without ranges is asked for one first.
        assert (len(fetched) > 0) == (limit == 3)
        asked.write_text("")
        assert [] == list((tmp_path / "temporary").iterdir())
    assert len(TEXTS) == tl.Corpus.open(tmp_path / "store").num_documents


def test_signed_addresses(tmp_path: Path, website: str) -> None:
    """Are read, and their signature is kept nowhere."""
    write_records(tmp_path / "web" / "a.jsonl.gz")
    address = f"{website}/a.jsonl.gz?X-Amz-Signature=hush"
    made = prepare(address, tmp_path / "store", tokenizer="word")
    assert made.num_documents == len(TEXTS)
    assert b"hush" not in b"".join(contents(tmp_path / "store").values())
    os.remove(tmp_path / "web" / "a.jsonl.gz")  # noqa: PTH107
    with pytest.raises(tl.errors.CorpusError) as raised:
        prepare(address, tmp_path / "other", tokenizer="word")
    assert "hush" not in str(raised.value)


def _run_script(folder: Path, script: str) -> "subprocess.CompletedProcess[str]":
    lines = [json.dumps({"text": f"the text of document {index} " * 400}) for index in range(1000)]
    (folder / "texts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "script.py").write_text(script, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.slow
def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    """Its processes do not begin it again, and so do not make the store themselves."""
    script = """
import tokenloom as tl
print("begun")
for name, workers in ("one", 1), ("two", 2):
    tl.prepare("texts.jsonl", name, tokenizer="bpe", vocab_size=300, num_workers=workers)
"""
    result = _run_script(tmp_path, script)
    assert (0, "begun\n") == (result.returncode, result.stdout), result.stderr
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.slow
def test_a_script_may_define_its_tokenizer(tmp_path: Path) -> None:
    """The processes then import it, and find the tokenizer there."""
    script = """
import tokenloom as tl
class Bytes:
    vocab_size = 256
    def encode(self, text):
        return list(text.encode())
    def decode(self, ids):
        return bytes(ids).decode()
if __name__ == "__main__":
    for name, workers in ("one", 1), ("two", 2):
        tl.prepare("texts.jsonl", name, tokenizer=Bytes(), num_workers=workers)
"""
    result = _run_script(tmp_path, script)
    assert 0 == result.returncode, result.stderr
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.slow
def test_a_tokenizer_may_need_what_the_script_does(tmp_path: Path) -> None:
    """Its class lies elsewhere, and the call in a process that the script has started."""
    (tmp_path / "helper.py").write_text("""
RULES = {}
class Ruled:
    vocab_size = 256
    def encode(self, text):
        return list(RULES["rule"](text))
    def decode(self, ids):
        return bytes(ids).decode()
""")
    script = """
import multiprocessing
import helper, tokenloom as tl
helper.RULES["rule"] = str.encode
class Own(helper.Ruled):
    pass
def prepare(name, tokenizer, workers):
    tl.prepare("texts.jsonl", name, tokenizer=tokenizer, num_workers=workers)
if __name__ == "__main__":
    prepare("one", helper.Ruled(), 1)
    prepare("two", helper.Ruled(), 2)
    process = multiprocessing.get_context("spawn").Process(target=prepare, args=("own", Own(), 2))
    process.start()
    process.join()
"""
    result = _run_script(tmp_path, script)
    assert 0 == result.returncode, result.stderr
    tokens = [contents(tmp_path / name)["tokens-00000.npy"] for name in ("one", "two", "own")]
    assert tokens[0] == tokens[1] == tokens[2]


@pytest.mark.slow
def test_a_word_is_no_program(tmp_path: Path) -> None:
    """A vocabulary may hold the name under which Python knows a script."""
    script = """
import tokenloom as tl
print("begun")
vocab = tl.Vocab(["text", "__main__", "__mp_main__"])
tl.prepare("texts.jsonl", "store", tokenizer=vocab, num_workers=2)
"""
    result = _run_script(tmp_path, script)
    assert (0, "begun\n") == (result.returncode, result.stdout), result.stderr
