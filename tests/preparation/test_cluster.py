"""Workers on other machines, which must see the work folder and run the same release."""

import importlib.metadata
import logging
import pickle
import re
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import tokenloom as tl
from tests.support.preparation.preparations import HereExecutor, contents
from tokenloom import Vocab
from tokenloom.errors import ArgumentError, UsageError, WorkerError
from tokenloom.preparation.chunks import Chunk
from tokenloom.preparation.cluster import SharedFolder, open_dask, share
from tokenloom.preparation.options import PrepareOptions
from tokenloom.preparation.prepare import prepare
from tokenloom.preparation.workdir import work_path

SMALL = PrepareOptions(task_bytes=100)


class Watched(HereExecutor):
    """Calls a function with the arguments of each task before it is done."""

    def __init__(self, watch: Callable[..., object]) -> None:
        self._watch = watch

    def submit(self, do: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Do it."""
        self._watch(*args)
        return super().submit(do, *args, **kwargs)


class OlderWorkers(HereExecutor):
    """Workers with another release of tokenloom."""

    def submit(self, do: Callable[..., Any], /, *_: Any, **__: Any) -> "Future[Any]":
        """Return what they would answer; they lack functions of this release."""
        future: Future[Any] = Future()
        if do is importlib.metadata.version:
            future.set_result("0.0.9")
        else:
            future.set_exception(AttributeError("it has no such function"))
        return future


class EmptyWorkers(HereExecutor):
    """Workers without tokenloom."""

    def submit(self, *_: Any, **__: Any) -> "Future[Any]":
        """Return what they would answer."""
        future: Future[Any] = Future()
        future.set_exception(importlib.metadata.PackageNotFoundError("tokenloom"))
        return future


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Return the path of a text."""
    path = tmp_path / "book.txt"
    path.write_text("To be, or not to be:\nthat is the question.\n" * 20, encoding="utf-8")
    return path


def test_a_folder_that_is_not_shared_is_refused_before_the_work(book: Path, tmp_path: Path) -> None:
    """The message names the folder and the worker's machine; nothing was kept as failed."""
    work = work_path(tmp_path / "store")

    def hide(*arguments: Any) -> None:
        assert not any(isinstance(argument, Chunk) for argument in arguments)
        (work / "shared").unlink(missing_ok=True)

    message = (
        rf"all workers must see the folder {re.escape(str(work))}, the one on "
        rf"{re.escape(socket.gethostname())} does not \(No such file or directory\): let the "
        "store lie in a folder that all machines share"
    )
    with pytest.raises(WorkerError, match=message):
        prepare(book, tmp_path / "store", executor=Watched(hide))
    assert not (work / "failed").exists()


def test_each_task_looks_for_the_folder(book: Path, tmp_path: Path) -> None:
    """Another worker than the first one may not see it."""
    work = work_path(tmp_path / "store")

    def hide(*arguments: Any) -> None:
        if any(isinstance(argument, Chunk) and argument.number == 3 for argument in arguments):
            (work / "shared").write_text("another folder")

    with pytest.raises(WorkerError, match=r"does not \(it has another folder of that name"):
        prepare(book, tmp_path / "store", options=SMALL, executor=Watched(hide), num_workers=1)
    prepare(book, tmp_path / "store", options=SMALL, executor=HereExecutor())
    prepare(book, tmp_path / "whole", options=SMALL, num_workers=1)
    assert contents(tmp_path / "whole") == contents(tmp_path / "store")


@pytest.mark.parametrize("tokenizer", ["vocab", "bpe", "given", "byte"])
@pytest.mark.parametrize("is_pool", [False, True])
def test_a_tokenizer_is_sent_once(
    book: Path, tmp_path: Path, tokenizer: str, *, is_pool: bool
) -> None:
    """It lies in the work folder, and what is sent with each chunk is small."""
    texts = [book.read_text(encoding="utf-8")]
    words = Vocab({f"word{number}": 1 for number in range(20_000)} | {"be": 1})
    learnt = tl.Corpus.from_documents(texts, tokenizer="bpe").tokenizer
    given: Any = {"vocab": words, "bpe": "bpe", "given": learnt, "byte": "byte"}[tokenizer]
    sizes = []

    def measure(*arguments: object) -> None:
        if any(isinstance(argument, Chunk) for argument in arguments):
            sent = [argument for argument in arguments if not isinstance(argument, Chunk)]
            sizes.append(len(pickle.dumps(sent)))

    how: Any = {"tokenizer": given, "options": SMALL}
    prepare(book, tmp_path / "whole", **how, num_workers=1)
    executor = None if is_pool else Watched(measure)
    prepare(book, tmp_path / "store", **how, executor=executor, num_workers=2)
    assert contents(tmp_path / "whole") == contents(tmp_path / "store")
    assert is_pool or max(sizes) < 3_000


def test_another_release_is_refused(book: Path, tmp_path: Path) -> None:
    """Both are named."""
    here = re.escape(importlib.metadata.version("tokenloom"))
    message = rf"all workers must have tokenloom {here} as here, one on the cluster has 0\.0\.9"
    with pytest.raises(WorkerError, match=message):
        prepare(book, tmp_path / "store", executor=OlderWorkers())
    with pytest.raises(WorkerError, match=r"ended with PackageNotFoundError \(No package metadata"):
        prepare(book, tmp_path / "store", executor=EmptyWorkers())
    shared = SharedFolder(tmp_path, "", "0.0.9")
    with pytest.raises(WorkerError, match=rf"tokenloom 0\.0\.9 as here, one on .* has {here}"):
        shared.require()


def test_a_resumed_run_keeps_the_words_that_workers_know(tmp_path: Path) -> None:
    """A file system may show a worker the older file for a while."""
    first = share(tmp_path, HereExecutor())
    assert first == share(tmp_path, HereExecutor())
    (tmp_path / "shared").write_bytes(b"\xff")
    assert first != share(tmp_path, HereExecutor())


def test_no_ids_travel(book: Path, tmp_path: Path) -> None:
    """A worker returns next to nothing, whatever the size of a chunk."""
    sizes = []

    class Measured(HereExecutor):
        def submit(self, do: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
            future = super().submit(do, *args, **kwargs)
            sizes.append(len(pickle.dumps(future.result())))
            return future

    book.write_text("to be or not to be " * 10_000)
    for tokenizer in ("word", "byte"):
        prepare(book, tmp_path / tokenizer, tokenizer=tokenizer, executor=Measured())
    assert max(sizes) < 200


def test_a_part_that_never_appears_is_an_error(
    book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker has written it, as it says, but this process does not see it."""
    # What users call has no parameter for it, and 90 seconds are long for a test.
    monkeypatch.setattr("tokenloom.preparation.prepare.SHARED_SECONDS", 0.1)

    class Elsewhere(HereExecutor):
        def submit(self, do: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
            if any(isinstance(argument, Chunk) for argument in args):
                return super().submit(do, len, "")
            return super().submit(do, *args, **kwargs)

    with pytest.raises(WorkerError, match="which this process cannot see whole after"):
        prepare(book, tmp_path / "store", executor=Elsewhere())


def test_the_end_of_an_executor_is_one_error(book: Path, tmp_path: Path) -> None:
    """It names what the executor raised, and that the next call resumes."""

    class Ends(HereExecutor):
        def submit(self, do: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
            future = super().submit(do, *args, **kwargs)
            if any(isinstance(argument, Chunk) and argument.number == 2 for argument in args):
                future = Future()
                future.cancel()
            return future

    message = r"the executor ended with CancelledError: .* the same call resumes from there"
    with pytest.raises(WorkerError, match=message):
        prepare(book, tmp_path / "store", options=SMALL, executor=Ends(), num_workers=1)
    assert not (work_path(tmp_path / "store") / "failed").exists()
    prepare(book, tmp_path / "store", options=SMALL, executor=HereExecutor())
    prepare(book, tmp_path / "whole", options=SMALL, num_workers=1)
    assert contents(tmp_path / "whole") == contents(tmp_path / "store")


def test_an_executor_that_was_shut_down_is_refused(book: Path, tmp_path: Path) -> None:
    """By the words of the executor."""
    with ThreadPoolExecutor(1) as executor:
        pass
    message = r"the executor ended with RuntimeError \(cannot schedule new futures after shutdown\)"
    with pytest.raises(WorkerError, match=message):
        prepare(book, tmp_path / "store", executor=executor)


@pytest.mark.parametrize("address", ["nonsense", "", "tcp://", "tcp://host", "tcp://a b:1", "8786"])
def test_what_is_no_address_is_refused(address: str) -> None:
    """Before Dask is imported."""
    message = "--dask must be a scheduler's address like tcp://10.0.0.1:8786, got"
    with pytest.raises(ArgumentError, match=message), open_dask(address):
        pass


def test_without_dask_an_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that installs it."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(UsageError, match=r"--dask needs distributed .*'tokenloom\[dask\]'"),
        open_dask("tcp://127.0.0.1:1"),
    ):
        pass


# What stands in for the package is no module.
_MODULES: dict[str, Any] = sys.modules


class LateDask:
    """A package like Dask whose client connects once it is released."""

    def __init__(self) -> None:
        self.released, self.closed = threading.Event(), threading.Event()

    def Client(self, *_: object, **__: object) -> "LateDask":  # noqa: N802  as Dask calls it
        """Return the client, which is this object."""
        self.released.wait(60)
        return self

    def close(self, *, timeout: float) -> None:
        """Close the client."""
        del timeout
        self.closed.set()


def test_a_client_that_comes_too_late_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hold its connection and threads until the process ends."""
    dask = LateDask()
    monkeypatch.setitem(_MODULES, "distributed", dask)
    with (
        pytest.raises(ArgumentError, match="it does not answer within"),
        open_dask("tcp://127.0.0.1:1", timeout=0.01),
    ):
        pass
    assert not dask.closed.is_set()
    dask.released.set()
    assert dask.closed.wait(60)


class ReadyDask(LateDask):
    """One that connects at once."""

    def __init__(self) -> None:
        super().__init__()
        self.released.set()

    def get_executor(self, *, pure: bool) -> None:
        """Return no executor."""
        del pure

    def nthreads(self) -> dict[str, int]:
        """Return the threads of each worker."""
        return {"one": 2}


@pytest.mark.parametrize("quiet", [False, True])
def test_only_a_quiet_caller_loses_its_logs(monkeypatch: pytest.MonkeyPatch, quiet: bool) -> None:
    """Other parts of a program may use asyncio too."""
    monkeypatch.setitem(_MODULES, "distributed", ReadyDask())
    logger = logging.getLogger("asyncio")
    with open_dask("tcp://127.0.0.1:1", quiet=quiet) as cluster:
        assert cluster.num_workers == 2
        assert logger.disabled is quiet
    assert not logger.disabled
