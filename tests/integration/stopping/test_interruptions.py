"""Preparations and trainings that are stopped, in processes of their own, and go on."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub.harmed import (
    fill_the_disk_of_a_preparation,
    kill_preparations,
    race_to_prepare,
    run,
)
from tests.support.preparation.preparations import contents
from tokenloom.errors import WorkerError
from tokenloom.preparation.options import PrepareOptions
from tokenloom.preparation.prepare import prepare
from tokenloom.preparation.workdir import work_path

LINES = "To be, or not to be: that is the question.\n" * 100
PROGRAM = """
import sys
from tokenloom.preparation.prepare import prepare
from tokenloom.preparation.options import PrepareOptions

if __name__ == "__main__":
    source, target = sys.argv[1:]
    options = PrepareOptions(task_bytes=2_000)
    prepare(source, target, tokenizer="word", options=options, num_workers=2, progress=False)
"""


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Return the path of a text."""
    path = tmp_path / "book.txt"
    path.write_text(LINES, encoding="utf-8")
    return path


def read(path: Path) -> bytes:
    """Return what can be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_killed_at_any_moment(book: Path, tmp_path: Path) -> None:
    """Nothing half-made has the final name, and the next run ends with the same bytes."""
    folder = tmp_path / "stores"
    folder.mkdir()
    _, result = run(kill_preparations, str(book), folder)
    assert {"moments": True, "bad": []} == result


def test_a_full_disk(book: Path, tmp_path: Path) -> None:
    """Each run says what is wrong, keeps what it has, and leaves no store."""
    folder = tmp_path / "stores"
    folder.mkdir()
    said, result = run(fill_the_disk_of_a_preparation, str(book), folder)
    assert [[[1, False]] * 3, True, ["store", "whole"]] == result
    for line in said.splitlines():
        assert line.startswith("StoreError: cannot write the store")
        assert "File too large; what is finished is kept" in line


def test_two_processes_do_not_share_a_folder(book: Path, tmp_path: Path) -> None:
    """The second one is refused, the first one finishes."""
    folder = tmp_path / "stores"
    folder.mkdir()
    said, result = run(race_to_prepare, str(book), folder)
    assert [1, 0, ["store"]] == result
    assert "another process works in" in said


# A worker waits for the other one, and with the last line until there is a file.
WAITING = """
import multiprocessing, os, sys, time
from pathlib import Path
from tokenloom.preparation.prepare import prepare
from tokenloom.preparation.options import PrepareOptions

class Waiting:
    vocab_size = 256

    def __init__(self, folder):
        self.folder = folder

    def encode(self, text, /):
        if multiprocessing.parent_process() is not None:
            Path(self.folder, f"begun-{os.getpid()}").touch()
            while len(list(Path(self.folder).glob("begun-*"))) < 2:
                time.sleep(0.01)
            while "Last" in text and not Path(self.folder, "go").exists():
                time.sleep(0.01)
        return list(text.encode())

    def decode(self, ids, /):
        return bytes(ids).decode()

if __name__ == "__main__":
    source, target = sys.argv[1:]
    options = PrepareOptions(task_bytes=2_000, documents="line")
    tokenizer = Waiting(os.path.dirname(target))
    prepare(source, target, tokenizer=tokenizer, options=options, num_workers=2, progress=False)
"""


class Programs:
    """Starts the program above, and finds what is left of it."""

    def __init__(self, book: Path, target: Path) -> None:
        self.target = target
        self._program = target.parent / "program.py"
        self._command = [sys.executable, str(self._program), str(book), str(target)]
        self._mark = f"TOKENLOOM_TEST_MARK={target}"

    def start(self, program: str = PROGRAM) -> "subprocess.Popen[str]":
        """Begin, in a process group of its own."""
        self._program.write_text(program, encoding="utf-8")
        name, _, value = self._mark.partition("=")
        return subprocess.Popen(
            self._command,
            env={**os.environ, name: value},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for(self, program: "subprocess.Popen[str]", pattern: str, number: int) -> None:
        """Wait until there is a number of parts, or the program has ended."""
        work = work_path(self.target)
        while program.poll() is None and len(list(work.glob(pattern))) < number:
            time.sleep(0.001)

    def left(self) -> list[int]:
        """Return the processes that the program has left."""
        return [
            int(path.parent.name)
            for path in Path("/proc").glob("[0-9]*/environ")
            if self._mark.encode() in read(path)
        ]


@pytest.fixture
def programs(book: Path, tmp_path: Path) -> Iterator[Programs]:
    """Return what starts the program, and wait until nothing is left of it."""
    started = Programs(book, tmp_path / "store")
    yield started
    while started.left():
        time.sleep(0.01)


def test_killed_with_workers(programs: Programs, book: Path, tmp_path: Path) -> None:
    """Workers end with their process, at any moment, and the bytes are the same."""
    for number in (1, 4):
        program = programs.start()
        programs.wait_for(program, "tokens-*", number)
        program.kill()
        program.communicate()
    program = programs.start()
    assert (0, "") == (program.wait(), program.communicate()[1])
    options = PrepareOptions(task_bytes=2_000)
    prepare(book, tmp_path / "whole", tokenizer="word", options=options, num_workers=1)
    assert contents(tmp_path / "whole") == contents(programs.target)


def test_ctrl_c_with_workers(programs: Programs, book: Path, tmp_path: Path) -> None:
    """The whole group gets it, as from a terminal; only the main process says something.

    One worker is in the middle of a text then, and the other one has nothing to do.
    """
    book.write_text(f"{LINES}Last\n", encoding="utf-8")
    program = programs.start(WAITING)
    programs.wait_for(program, "tokens-*[0-9]", 2)
    assert program.poll() is None
    os.killpg(program.pid, signal.SIGINT)
    (tmp_path / "go").touch()
    _, said = program.communicate()
    assert program.returncode in (1, -signal.SIGINT)
    assert "KeyboardInterrupt: (what is finished is kept, and the same call resumes" in said
    # One process alone reports the interrupt, once.
    assert 1 == said.count("direct cause")
    assert "Process-" not in said


class Dying:
    """Ends the worker that it works in."""

    vocab_size = 9

    def encode(self, _: str, /) -> list[int]:
        """Die, but where it is only asked who it is."""
        if multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return []

    def decode(self, ids: list[int], /) -> str:
        """Return something."""
        return str(ids)


def test_a_worker_that_dies(tmp_path: Path) -> None:
    """The error says so, and what to do."""
    texts = iter(json.dumps(number) * 10 for number in range(9))
    options = PrepareOptions(task_bytes=8)
    with pytest.raises(WorkerError, match=r"a worker process died.*run the same again"):
        prepare(texts, tmp_path / "s", tokenizer=Dying(), options=options, num_workers=2)


TRAINS = """
import signal, sys, torch, tokenloom as tl
signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)
corpus = tl.Corpus.from_text("the time machine by h g wells " * 3000)
windows = tl.RandomWindows(corpus, batch_size=4, seq_len=8)
loader = tl.Loader(windows, num_workers=2, num_epochs=None)
model = tl.RNNModel(torch.nn.GRU(len(corpus.vocab), 8), len(corpus.vocab))
model.rnn.register_forward_hook(lambda *_: print("step", flush=True))
options = tl.TrainingOptions(batches_per_update=64)
tl.train(model, loader, run=sys.argv[1], options=options, device="cpu", progress=False)
"""


def test_ctrl_c_for_all_processes_loses_no_update(tmp_path: Path) -> None:
    """A terminal sends it to every process: the update is finished, and its checkpoint saved."""
    command = [sys.executable, "-c", TRAINS, str(tmp_path / "run")]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as it:
        assert it.stdout is not None
        assert it.stderr is not None
        for _ in range(70):
            assert it.stdout.readline() == "step\n"
        os.killpg(it.pid, signal.SIGINT)
        # Not communicate(), which passes over what was read ahead with the lines before.
        said, messages = it.stdout.read(), it.stderr.read()
    num_steps = 70 + said.count("step")
    assert "KeyboardInterrupt" in messages.splitlines()[-1]
    assert 0 == num_steps % 64
    names = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert any(name.startswith(f"step-{num_steps:09}-") for name in names), (num_steps, names)
