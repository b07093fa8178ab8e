"""Blocks that threads read ahead. That nothing is left is tested in integration/."""

import _thread
import copy
import functools
import gc
import itertools
import os
import pickle
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

import tokenloom as tl
from tests.support.loading.process_resources import loader_threads, wait_for
from tests.support.loading.resume import rows_of
from tests.support.plan.strategies import make_windows
from tokenloom.errors import ArgumentError, UsageError
from tokenloom.loading import blocks, read_ahead
from tokenloom.loading.read_ahead import WorkerOptions, work_ahead
from tokenloom.plan.plan import Plan, References

PLAN = Plan(kind="random", num_tokens=400, seq_len=5, batch_size=4, tail="pad")


def make_loader(num_workers: int = 2, **options: Any) -> tl.Loader:
    """Return a loader of three epochs of 20 batches, the last one padded."""
    return tl.Loader(
        make_windows(PLAN),
        num_workers=num_workers,
        num_epochs=3,
        worker_options=WorkerOptions(**options),
    )


EXPECTED = [rows_of(batch) for batch in make_loader(0)]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the end of an iterator wait for its threads however busy the machine is."""
    monkeypatch.setattr(work_ahead, "__kwdefaults__", {"patience": 120.0})


@pytest.mark.parametrize("num_workers", [1, 2, 4])
@pytest.mark.parametrize("prefetch_factor", [1, 2, 5])
@pytest.mark.parametrize("block_size", [1, 3, 1000])
def test_any_read_ahead_gives_the_same_stream(
    num_workers: int, prefetch_factor: int, block_size: int
) -> None:
    """Blocks are read in any order, and come in theirs."""
    loader = make_loader(num_workers, prefetch_factor=prefetch_factor, block_size=block_size)
    assert EXPECTED == [rows_of(batch) for batch in loader]


def test_batches_that_are_kept_stay_as_they_were() -> None:
    """What a batch says does not change when the next ones are read, nor in a pickle."""
    batches = list(make_loader(2, block_size=1))
    assert EXPECTED == [rows_of(batch) for batch in batches]
    sent = [pickle.loads(pickle.dumps(batch)) for batch in batches]  # noqa: S301  our own bytes
    assert EXPECTED == [rows_of(batch) for batch in sent]


def test_so_many_blocks_are_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """For each worker prefetch_factor blocks, and no more before a block is used up."""
    read: list[int] = []

    def noting(tokens: Any, references: References, **more: Any) -> blocks.Block:
        read.append(references.rows.start)
        return blocks.read_block(tokens, references, **more)

    monkeypatch.setattr(read_ahead, "read_block", noting)
    batches = iter(make_loader(2, block_size=1, prefetch_factor=3))
    next(batches)
    assert wait_for(lambda: len(read) == 6)
    next(batches)
    assert wait_for(lambda: len(read) == 7)
    assert list(range(7)) == sorted(read)


@pytest.mark.parametrize("num_workers", [1, 3])
def test_blocks_are_read_in_so_many_threads(
    num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in the one that uses them, and at the same time."""
    barrier, names = threading.Barrier(num_workers), set()

    def read(*arguments: Any, **more: Any) -> blocks.Block:
        names.add(threading.current_thread().name)
        barrier.wait(60)
        return blocks.read_block(*arguments, **more)

    monkeypatch.setattr(read_ahead, "read_block", read)
    batches = iter(make_loader(num_workers, block_size=1))
    next(batches)
    # Those that wait for one more would do so for long.
    barrier.abort()
    assert {f"tokenloom-loader-{number}" for number in range(num_workers)} == names


@pytest.mark.parametrize("num_workers", [0, 1, 3])
@pytest.mark.parametrize("block_size", [1, 3, 1000])
@pytest.mark.parametrize("options", [{}, {"device": "cpu"}])
@pytest.mark.parametrize("row", [0, 1, 7, 19])
def test_an_error_comes_at_its_batch(
    num_workers: int,
    block_size: int,
    options: dict[str, Any],
    row: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As itself, after all batches before it, whatever is read at once; the position is right."""

    def read(tokens: Any, references: References, **more: Any) -> blocks.Block:
        if row in references.rows:
            msg = "the disk is gone"
            raise tl.StoreError(msg)
        return blocks.read_block(tokens, references, **more)

    loader = tl.Loader(
        make_windows(PLAN),
        num_workers=num_workers,
        worker_options=WorkerOptions(block_size=block_size),
        **options,
    )
    with monkeypatch.context() as patch:
        patch.setattr(read_ahead, "read_block", read)
        batches = iter(loader)
        assert EXPECTED[:row] == [rows_of(next(batches)) for _ in range(row)]
        with pytest.raises(tl.StoreError, match="the disk is gone"):
            next(batches)
    assert [] == loader_threads()
    assert row == loader.state_dict()["next_batch"]
    loader.load_state_dict(loader.state_dict())
    assert EXPECTED[row:20] == [rows_of(batch) for batch in loader]


def test_what_fails_once_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that no single batch has comes before the batches that were read with it."""
    failures = [OSError("once")]

    def read(*arguments: Any, **more: Any) -> blocks.Block:
        if failures:
            raise failures.pop()
        return blocks.read_block(*arguments, **more)

    monkeypatch.setattr(read_ahead, "read_block", read)
    with pytest.raises(OSError, match="once"):
        next(iter(make_loader(1, block_size=4)))


def test_damaged_ids_come_at_their_batch(tmp_path: Path) -> None:
    """A real error of a file: an id that is none, in the middle of a block."""
    corpus = tl.Corpus.from_text("the time machine " * 40)
    store = corpus.save(tmp_path / "store")
    ids = np.load(store / "tokens-00000.npy", mmap_mode="r+")
    ids[300] = 200
    ids.flush()
    windows = tl.SequentialWindows(tl.Corpus.open(store), batch_size=2, seq_len=8)
    counts = []
    for num_workers in (0, 2):
        loader = tl.Loader(windows, num_workers=num_workers)
        with pytest.raises(tl.StoreError, match="ids in"):
            list(loader)
        counts.append(loader.state_dict()["next_batch"])
    starts = windows.plan.starts(range(windows.plan.num_batches))
    (bad, *_) = np.flatnonzero(((starts <= 300) & (300 <= starts + 8)).any(axis=1))
    assert [bad, bad] == counts


def test_a_replaced_iterator_has_no_workers_any_more() -> None:
    """They end when it is replaced, also while it is kept."""
    loader = make_loader(block_size=1)
    older = iter(loader)
    next(older)
    assert wait_for(lambda: len(loader_threads()) == 2)
    newer = iter(loader)
    assert [] == loader_threads()
    said = [rows_of(next(newer))]
    loader.load_state_dict(loader.state_dict())
    assert [] == loader_threads()
    for replaced in (older, newer):
        with pytest.raises(UsageError, match="replaced by a newer one"):
            next(replaced)
    assert EXPECTED == said + [rows_of(batch) for batch in loader]


def test_an_iterator_that_did_not_begin_has_no_workers() -> None:
    """They start with the first batch that is asked for."""
    loader = make_loader(block_size=1)
    stale, newer = iter(loader), iter(loader)
    assert [] == loader_threads()
    said = [rows_of(next(newer)) for _ in range(2)]
    with pytest.raises(UsageError, match="replaced by a newer one"):
        next(stale)
    assert EXPECTED == said + [rows_of(batch) for batch in newer]
    assert loader.remaining == 0


def test_nothing_delays_the_end_of_a_loader() -> None:
    """No cycle of references holds it, so no collection is waited for."""
    gc.collect()
    gc.disable()
    try:
        loader = make_loader()
        batches = iter(loader)
        next(batches)
        gone = weakref.ref(loader)
        del loader, batches
        assert (None, []) == (gone(), loader_threads())
    finally:
        gc.enable()


def test_two_loaders_read_at_once() -> None:
    """Each has its own threads and its own position, also over the same windows."""
    windows = make_windows(PLAN)
    pairs = zip(
        tl.Loader(windows, num_workers=2, num_epochs=3),
        tl.Loader(windows, num_workers=1, num_epochs=3),
        strict=True,
    )
    assert all(rows_of(a) == rows_of(b) == c for (a, b), c in zip(pairs, EXPECTED, strict=True))


def test_a_loader_works_in_a_thread() -> None:
    """The thread that iterates need not be the main one."""
    said: list[Any] = []
    thread = threading.Thread(target=lambda: said.extend(map(rows_of, make_loader())))
    thread.start()
    thread.join(60)
    assert EXPECTED == said


class Wrapped(IterableDataset[Any]):
    """A dataset of somebody else, which reads a Loader in a worker process."""

    def __iter__(self) -> Any:
        return map(rows_of, make_loader())


@pytest.mark.parametrize(
    "start_method", ["fork", pytest.param("forkserver", marks=pytest.mark.slow)]
)
def test_a_loader_works_in_a_worker_of_a_data_loader(start_method: str) -> None:
    """And the worker ends."""
    loader = DataLoader(
        Wrapped(), batch_size=None, num_workers=1, multiprocessing_context=start_method
    )
    assert EXPECTED == [tuple(said) for said in loader]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is nothing to fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_between_two_batches_changes_nothing() -> None:
    """Both processes get the rest, from threads of their own."""
    loader = make_loader(block_size=1)
    batches = iter(loader)
    said = [rows_of(next(batches)) for _ in range(7)]
    child = os.fork()
    if child == 0:
        is_same = False
        try:
            is_same = EXPECTED == [*said, *map(rows_of, batches)] and loader.remaining == 0
        finally:
            os._exit(0 if is_same else 1)
    assert EXPECTED == [*said, *map(rows_of, batches)]
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("copy_of", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])  # noqa: S301
def test_a_loader_under_way_can_be_copied(copy_of: Any) -> None:
    """The copy has workers of its own."""
    loader = make_loader()
    batches = iter(loader)
    next(batches)
    assert EXPECTED == [rows_of(batch) for batch in copy_of(loader)]
    assert EXPECTED[1:] == [rows_of(batch) for batch in batches]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_modes_of_pytorch_change_nothing(num_workers: int) -> None:
    """Neither a default device nor inference mode, where the loader is made, matters later."""
    with torch.device("meta"), torch.inference_mode():
        windows = make_windows(PLAN)
        loader = tl.Loader(windows, num_workers=num_workers, num_epochs=3)
        next(iter(loader))
    windows.set_epoch(0)
    assert EXPECTED == [rows_of(batch) for batch in loader]


def test_random_numbers_of_the_caller_are_left_alone() -> None:
    """No generator is drawn from."""
    before = torch.get_rng_state()
    list(make_loader())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefetch_factor": 0}, r"prefetch_factor must be an integer in \[1, 2147483648\), got 0"),
        ({"block_size": 0}, r"block_size must be an integer in \[1, 2147483648\), got 0"),
        ({"block_size": 2.5}, r"block_size must be an integer in \[1, 2147483648\), got 2.5"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    """The message names the argument and its value."""
    with pytest.raises(ArgumentError, match=message):
        WorkerOptions(**options)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("persistent_workers", True),
        ("persistent_workers", False),
        ("multiprocessing_context", "spawn"),
        ("multiprocessing_context", object()),
    ],
)
@pytest.mark.parametrize("num_workers", [0, 2])
def test_options_of_processes_are_taken_with_a_warning(
    name: str, value: Any, num_workers: int
) -> None:
    """They change nothing, also without workers; the warning names the line that has them."""
    with pytest.warns(DeprecationWarning, match=f"{name} has no effect any more") as warned:
        options = WorkerOptions(**{name: value})
    assert [__file__] == [warning.filename for warning in warned]
    loader = tl.Loader(
        make_windows(PLAN), num_workers=num_workers, num_epochs=3, worker_options=options
    )
    assert EXPECTED == [rows_of(batch) for batch in loader]


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


def test_threads_do_jobs_in_turn() -> None:
    """Also where one of them is free earlier, so that each holds as many results as the others."""

    def work(number: int) -> str:
        time.sleep(0.001 if number % 3 == 0 else 0)
        return threading.current_thread().name

    names = list(start(work, iter(range(30)), num_threads=3, num_ahead=6))
    assert [f"tokenloom-test-{number % 3}" for number in range(30)] == names


def test_fewer_threads_work_where_the_system_refuses_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """One at least is needed."""
    num_allowed = [2]
    allow = _thread.start_new_thread

    def refuse(function: Any, *arguments: Any) -> int:
        if function is read_ahead._start:
            num_allowed[0] -= 1
            if num_allowed[0] < 0:
                msg = "can't start new thread"
                raise RuntimeError(msg)
        return allow(function, *arguments)

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    results = start(lambda _: threading.current_thread().name, num_threads=4)
    names = ["tokenloom-test-0", "tokenloom-test-1"]
    assert [*names, *names] == list(itertools.islice(results, 4))
    results.close()
    with pytest.raises(RuntimeError, match="can't start"):
        next(start(double))


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


@pytest.mark.parametrize("num_ahead", [1, 3, 9])
def test_an_error_of_the_jobs_comes_after_the_results_before_it(num_ahead: int) -> None:
    """However many jobs are asked for ahead of their results."""

    def jobs() -> Iterator[int]:
        yield from range(4)
        msg = "no more jobs"
        raise OSError(msg)

    results = work_ahead(abs, jobs(), num_threads=2, num_ahead=num_ahead, name="tokenloom-test")
    assert [0, 1, 2, 3] == list(itertools.islice(results, 4))
    with pytest.raises(OSError, match="no more jobs"):
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


def test_nobody_waits_for_a_job_without_end() -> None:
    """The thread ends when its job does; what waits for it has a bound."""
    go_on = threading.Event()
    results = start(lambda number: number == 0 or go_on.wait(60), patience=0.05)
    next(results)
    results.close()
    assert mine()
    go_on.set()
    assert wait_for(lambda: not mine())


def test_what_was_asked_and_not_begun_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop leaves the jobs that wait."""
    go_on, begun = threading.Event(), []

    def work(number: int) -> None:
        begun.append(number)
        if number:
            go_on.wait(60)

    def wait(thread: read_ahead._Thread, deadline: float) -> None:
        go_on.set()
        stop(thread, deadline)

    stop = read_ahead._Thread.wait
    monkeypatch.setattr(read_ahead._Thread, "wait", wait)
    results = start(work, num_ahead=9)
    next(results)
    assert wait_for(lambda: len(begun) == 3)
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
        threads.stop(120)
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
def test_a_forked_process_may_drop_the_iterator() -> None:
    """It waits for no thread of its parent, whose threads work on."""
    # Longer than any machine may be busy with other things.
    patience = 120.0
    results = start(double, patience=patience)
    next(results)
    child = os.fork()
    if child == 0:
        began_at = time.monotonic()
        del results
        os._exit(0 if time.monotonic() - began_at < patience else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert [2, 4, 6] == list(itertools.islice(results, 3))
    results.close()


@pytest.mark.parametrize(
    "job", ["sleep", *(pytest.param(name, marks=pytest.mark.slow) for name in ("double", "read"))]
)
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
    subprocess.run([sys.executable, "-c", source], check=True, timeout=240)


def test_an_iterator_that_outlives_the_modules_ends_in_silence() -> None:
    """What a module holds is forgotten last, when others have lost their names."""
    source = """
import itertools, queue
from tokenloom.loading.read_ahead import work_ahead
queue.results = work_ahead(abs, itertools.count(), num_threads=2, num_ahead=4, name="test")
next(queue.results)
"""
    command = [sys.executable, "-c", source]
    result = subprocess.run(command, check=True, timeout=240, capture_output=True, text=True)
    assert "" == result.stderr
