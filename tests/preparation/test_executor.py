"""Chunks that any executor does."""

import ctypes
import multiprocessing
import operator
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from multiprocessing import spawn
from typing import Any

import pytest

from tests.support.preparation.preparations import HereExecutor
from tokenloom.errors import CorpusError, WorkerError
from tokenloom.preparation import executor
from tokenloom.preparation.executor import (
    choose_processes,
    count_cores,
    process_pool,
    run_in_order,
)
from tokenloom.text.huggingface import PARALLELISM
from tokenloom.text.interface import CompleteTokenizer
from tokenloom.text.tokenizers import ByteTokenizer, CharTokenizer, WordTokenizer, complete
from tokenloom.text.vocab import Vocab


def _pid(_: int) -> int:
    return os.getpid()


def test_results_come_in_order() -> None:
    """Also where the first one takes longest."""
    gate = threading.Event()

    def wait(number: int) -> int:
        if number == 0:
            gate.wait()
        else:
            gate.set()
        return -number

    with ThreadPoolExecutor(2) as executor:
        results = list(run_in_order(wait, range(5), executor=executor, num_ahead=3))
    assert [(number, -number) for number in range(5)] == results


@pytest.mark.parametrize("num_ahead", [1, 3])
def test_so_many_are_ahead(num_ahead: int) -> None:
    """Items are read as they are needed."""
    read = []

    def items() -> Iterator[int]:
        for number in range(9):
            read.append(number)
            yield number

    results = run_in_order(operator.neg, items(), executor=HereExecutor(), num_ahead=num_ahead)
    next(results)
    assert num_ahead + 1 == len(read)


def test_an_error_cancels_the_rest() -> None:
    """What has not begun never does."""
    begun = []
    gate = threading.Event()

    def fail(number: int) -> None:
        begun.append(number)
        if number:
            gate.wait()
        else:
            raise CorpusError

    with ThreadPoolExecutor(1) as executor:
        results = run_in_order(fail, range(9), executor=executor, num_ahead=6)
        with pytest.raises(CorpusError):
            next(results)
        gate.set()
    assert len(begun) < 6


class Broken(Executor):
    """An executor whose processes died."""

    def submit(self, *_: Any, **__: Any) -> Any:
        """Say so."""
        raise BrokenExecutor


def test_dead_workers_are_told() -> None:
    """Whatever the executor calls it."""
    with pytest.raises(WorkerError, match=r"^a worker process died"):
        list(run_in_order(abs, [1], executor=Broken(), num_ahead=1))


def test_one_worker_is_this_process() -> None:
    """Nothing is started for it."""
    with process_pool(1) as pool:
        assert pool is None
        assert [(1, os.getpid())] == list(run_in_order(_pid, [1], executor=pool, num_ahead=1))


def test_several_workers_are_processes() -> None:
    """They end with the block."""
    with process_pool(2) as pool:
        ((_, pid),) = run_in_order(_pid, [1], executor=pool, num_ahead=1)
        assert os.getpid() != pid
    assert pid not in [child.pid for child in multiprocessing.active_children()]


def test_the_program_is_left_out_by_the_thread_that_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that other threads start meanwhile import it as ever."""

    def prepare(name: str) -> dict[str, str]:
        return {"name": name, "init_main_from_path": "program.py", "init_main_from_name": "program"}

    monkeypatch.setattr(spawn, "get_preparation_data", prepare)
    with ThreadPoolExecutor(1) as other, executor._leaving_out_main():
        assert {"name": "a"} == spawn.get_preparation_data("a")
        assert prepare("b") == other.submit(lambda: spawn.get_preparation_data("b")).result()
    assert prepare is spawn.get_preparation_data


def test_there_is_a_core() -> None:
    """At least this one."""
    assert count_cores() >= 1


class _Lengths:
    """Somebody's tokenizer: one token per text."""

    vocab_size = 100

    def encode(self, text: str, /) -> list[int]:
        """Return how long the text is."""
        return [len(text)]

    def decode(self, ids: Iterable[int], /) -> str:
        """Return as many letters."""
        return "a" * sum(ids)


OTHER = complete(_Lengths())


@pytest.mark.parametrize(
    ("tokenizer", "num_cores", "megabytes", "is_plain", "expected"),
    [
        (ByteTokenizer(), 64, 4000, True, 1),
        (CharTokenizer(Vocab()), 2, 4000, True, 1),
        (WordTokenizer(Vocab()), 3, 4000, True, 1),
        (CharTokenizer(Vocab()), 1, 4000, False, 1),
        (CharTokenizer(Vocab()), 4, 4000, True, 4),
        (CharTokenizer(Vocab()), 2, 4000, False, 2),
        (CharTokenizer(Vocab()), 8, 200, True, 3),
        (WordTokenizer(Vocab()), 8, 50, False, 0),
        (OTHER, 2, 8, True, 2),
        (OTHER, 2, 4, True, 1),
    ],
)
def test_processes_are_started_where_they_help(
    tokenizer: CompleteTokenizer, num_cores: int, megabytes: int, is_plain: bool, expected: int
) -> None:
    """None where the caller's process has most of the work, or the work is short."""
    assert expected == choose_processes(
        tokenizer,
        num_cores=num_cores,
        num_bytes=megabytes << 20,
        is_plain=is_plain,
        num_tasks=megabytes // 4,
    )


def test_a_result_that_never_comes_is_not_needed() -> None:
    """Where it can be seen that the work is done."""
    done: set[int] = set()

    class Forgets(HereExecutor):
        def submit(self, do: Any, /, *args: Any, **kwargs: Any) -> Any:
            super().submit(do, *args, **kwargs)
            return Future()

    results = run_in_order(
        done.add,
        [1, 2],
        executor=Forgets(),
        num_ahead=1,
        is_done=done.__contains__,
        look_seconds=0.01,
    )
    assert [(1, None), (2, None)] == list(results)


class Odd(Exception):  # noqa: N818  not one that is raised by tokenloom
    """An error that cannot be made again of what it says."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def raise_odd(_: object) -> None:
    """Raise it."""
    raise Odd(1, 2)


def test_an_error_that_cannot_be_sent_is_told() -> None:
    """It would break a pool that has to read it."""
    with (
        process_pool(2) as pool,
        pytest.raises(WorkerError, match=r"^Odd \(1 and 2\)$"),
    ):
        list(run_in_order(raise_odd, [1], executor=pool, num_ahead=1))


def test_windows_has_no_more_processes_than_python_can_wait_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where there are more cores, the pool would refuse to begin."""
    monkeypatch.setattr(sys, "platform", "win32")
    with process_pool(64) as pool:
        assert 61 == vars(pool)["_max_workers"]


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_a_chunk_is_done_where_no_memory_can_be_given_back(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Systems other than Linux refuse to in ways of their own."""

    def refuse(_: None) -> None:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert 3 == executor._do(abs, -3)


@pytest.mark.slow
@pytest.mark.parametrize(("chosen", "expected"), [(None, "false"), ("true", "true")])
def test_workers_use_no_threads_of_tokenizers(
    monkeypatch: pytest.MonkeyPatch, chosen: str | None, expected: str
) -> None:
    """They share the cores already; but what the user has chosen stays."""
    monkeypatch.delenv(PARALLELISM, raising=False)
    if chosen is not None:
        monkeypatch.setenv(PARALLELISM, chosen)
    with process_pool(2) as pool:
        assert pool is not None
        assert expected == pool.submit(os.getenv, PARALLELISM).result()
