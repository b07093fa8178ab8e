"""Jobs that threads do ahead. Random stops and Ctrl-C are in integration/test_nothing_left.py."""

import functools
import gc
import itertools
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from tests.support.process_resources import wait_for
from tokenloom.loading import read_ahead
from tokenloom.loading.read_ahead import work_ahead


def start(
    work: Callable[[Any], Any], jobs: Iterator[Any] | None = None, **options: Any
) -> Generator[Any, None, None]:
    """Do endless jobs with two threads, three at once."""
    given = {"num_threads": 2, "num_ahead": 3, "name": "tokenloom-test", **options}
    return work_ahead(work, itertools.count() if jobs is None else jobs, **given)


def double(number: int) -> int:
    """Return twice a number."""
    return 2 * number


def mine() -> list[str]:
    """Return the names of the threads of these tests that live."""
    return sorted(t.name for t in threading.enumerate() if t.name.startswith("tokenloom-test"))


def has_begun(begun: list[int], last: int) -> bool:
    """Return whether a job is the last that has begun."""
    return max(begun) == last


@pytest.mark.parametrize("num_threads", [1, 2, 5])
@pytest.mark.parametrize("num_ahead", [1, 2, 9])
@pytest.mark.parametrize("num_jobs", [0, 1, 7, 100])
def test_results_come_in_the_order_of_the_jobs(
    num_threads: int, num_ahead: int, num_jobs: int
) -> None:
    """However many threads there are, and also where the first jobs take longest."""

    def work(number: int) -> int:
        time.sleep(0.001 if number % 3 == 0 else 0)
        return 2 * number

    results = start(work, iter(range(num_jobs)), num_threads=num_threads, num_ahead=num_ahead)
    assert [2 * number for number in range(num_jobs)] == list(results)
    # The last thread may still be about to end.
    assert wait_for(lambda: not mine())


def test_only_so_many_jobs_are_done_ahead() -> None:
    """The next one begins when a result is asked for."""
    begun: list[int] = []
    results = start(begun.append, num_ahead=3)
    for number in range(4):
        next(results)
        assert wait_for(functools.partial(has_begun, begun, number + 2))
    time.sleep(0.01)
    assert list(range(6)) == sorted(begun)
    results.close()


def test_jobs_are_done_side_by_side() -> None:
    """Two threads meet in the middle of their jobs."""
    barrier = threading.Barrier(2)
    results = start(lambda _: barrier.wait(60), iter(range(6)))
    assert [0, 0, 0, 1, 1, 1] == sorted(results)


def test_threads_have_names_and_do_not_keep_the_interpreter() -> None:
    """A listing of the threads says whose they are."""
    results = start(double)
    next(results)
    assert wait_for(lambda: len(mine()) == 2)
    assert ["tokenloom-test-0", "tokenloom-test-1"] == mine()
    assert all(t.daemon for t in threading.enumerate() if t.name in mine())
    results.close()
    assert [] == mine()


@pytest.mark.parametrize("error", [OSError("gone"), MemoryError(), KeyboardInterrupt(), SystemExit])
def test_an_error_comes_where_its_result_would_have_come(error: Any) -> None:
    """The results before it come, and nothing is left."""

    def work(number: int) -> int:
        if number == 4:
            raise error
        return number

    results = start(work)
    assert [0, 1, 2, 3] == list(itertools.islice(results, 4))
    with pytest.raises(error if isinstance(error, type) else type(error)):
        next(results)
    assert [] == mine()


@pytest.mark.parametrize("how", ["close", "drop", "cycle", "throw"])
def test_threads_go_with_the_iterator(how: str) -> None:
    """Whatever becomes of it."""
    results: Any = start(double)
    next(results)
    if how == "close":
        results.close()
    elif how == "throw":
        with pytest.raises(KeyboardInterrupt):
            results.throw(KeyboardInterrupt)
    elif how == "cycle":
        kept: Any = [results]
        kept.append(kept)
        del kept
    del results
    gc.collect()
    assert [] == mine()


def test_nobody_waits_for_a_job_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread ends when its job does; what waits for it has a bound."""
    monkeypatch.setattr(read_ahead, "_PATIENCE", 0.05)
    go_on = threading.Event()
    results = start(lambda number: number == 0 or go_on.wait(60))
    next(results)
    results.close()
    assert mine()
    go_on.set()
    assert wait_for(lambda: not mine())


def test_what_was_asked_and_not_begun_is_not_done() -> None:
    """A stop leaves the jobs that wait."""
    go_on, begun = threading.Event(), []

    def work(number: int) -> None:
        begun.append(number)
        if number:
            go_on.wait(60)

    results = start(work, num_ahead=9)
    next(results)
    assert wait_for(lambda: len(begun) == 3)
    threading.Timer(0.02, go_on.set).start()
    results.close()
    assert [0, 1, 2] == sorted(begun)


def test_threads_end_where_a_stop_was_interrupted() -> None:
    """As long as the owner goes: no instruction of Python is needed for that."""
    threads = read_ahead._Threads(double, 3, "tokenloom-test")
    assert threads.ask(4).get() == (8, None)
    del threads
    assert wait_for(lambda: not mine())


def test_threads_can_be_waited_for_again() -> None:
    """As at the end of a program, which stops what may be stopped already."""
    threads = read_ahead._Threads(double, 2, "tokenloom-test")
    began_at = time.monotonic()
    for _ in range(3):
        threads.tell_to_stop()
        threads.wait(began_at + 120)
    assert time.monotonic() - began_at < 120
    assert [] == mine()


def test_an_owner_may_go_before_its_threads_start() -> None:
    """They end without an error, which would be reported as one that nobody could catch."""
    for _ in range(50):
        read_ahead._Threads(double, 2, "tokenloom-test")
    assert wait_for(lambda: not mine())


def test_a_waiting_thread_keeps_nothing_alive() -> None:
    """Also where it has done a job before."""

    class Thing:
        pass

    things = [Thing() for _ in range(2)]
    found = [weakref.ref(thing) for thing in things]
    results = start(lambda _: None, (things.pop() for _ in range(2)))
    assert [None, None] == [next(results), next(results)]
    assert wait_for(lambda: all(ref() is None for ref in found))
    results.close()


def test_where_no_thread_can_be_started_the_helper_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of the system is no end."""

    def refuse(_: threading.Thread) -> None:
        msg = "can't start new thread"
        raise RuntimeError(msg)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert [0, 2, 4] == list(start(double, iter(range(3))))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is nothing to fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_starts_threads_of_its_own() -> None:
    """Parent and child both get all results, and the child ends."""
    results = start(double, iter(range(50)))
    said = [next(results) for _ in range(5)]
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, b"same" if [*said, *results] == list(range(0, 100, 2)) else b"other")
        finally:
            os._exit(0)
    os.close(writer)
    assert list(range(0, 100, 2)) == [*said, *results]
    with os.fdopen(reader) as file:
        assert file.read() == "same"
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is nothing to fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_may_drop_the_iterator(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for no thread of its parent, whose threads work on."""
    # Longer than any machine may be busy with other things.
    monkeypatch.setattr(read_ahead, "_PATIENCE", 120.0)
    results = start(double)
    next(results)
    child = os.fork()
    if child == 0:
        began_at = time.monotonic()
        del results
        os._exit(0 if time.monotonic() - began_at < read_ahead._PATIENCE else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert [2, 4, 6] == list(itertools.islice(results, 3))
    results.close()


@pytest.mark.parametrize("job", ["double", "sleep", "read"])
def test_the_interpreter_ends_with_an_iteration_under_way(job: str) -> None:
    """Neither a finished, nor a waiting, nor an endless job keeps it."""
    source = f"""
import itertools, os, time
from tokenloom.loading.read_ahead import work_ahead
work = dict(double=lambda n: 2 * n, sleep=lambda n: n and time.sleep(600),
            read=lambda n: n and os.read(os.pipe()[0], 1))[{job!r}]
results = work_ahead(work, itertools.count(), num_threads=2, num_ahead=4, name="tokenloom-test")
next(results)
"""
    subprocess.run([sys.executable, "-c", source], check=True, timeout=60)
