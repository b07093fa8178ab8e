"""Blocks that threads read ahead of their use, in order.

Ctrl-C raises KeyboardInterrupt between any two instructions of the main thread.
Where that happens inside a lock that is written in Python (those of
`threading` and `concurrent.futures` are), the lock stays locked, and a thread
that needs it waits for ever. So the thread that uses the blocks calls only
what is written in C and cannot be left half done: queues of the kind
`queue.SimpleQueue`, the start of a helping thread for each thread, and weak
references whose callbacks stop them.
"""

import _thread
import atexit
import contextlib
import functools
import itertools
import os
import queue
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from tokenloom._checks import as_integer
from tokenloom.loading.blocks import Block, read_block
from tokenloom.loading.dataset import Windows
from tokenloom.plan.plan import References

Job = TypeVar("Job")
Result = TypeVar("Result")

# How long a stop waits for threads that are in the middle of a job, in seconds.
_PATIENCE = 1.0
# The owners of the threads that live, by weak references.
_LIVING: set["weakref.ref[_Thread]"] = set()
_MEANS_NOTHING = ("multiprocessing_context", "persistent_workers")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How far the workers of a `Loader` read ahead, and how much at once.

    Parameters
    ----------
    prefetch_factor : int
        Blocks that are read ahead for each worker.
    block_size : int, optional
        Batches that are read at once; by default as many as hold about 524,288
        tokens. Holds without workers too. An iteration begins with smaller
        blocks.
    multiprocessing_context, persistent_workers : optional
        Has no effect since workers are threads: gives a DeprecationWarning, and
        will be removed with the next release.

    Raises
    ------
    ArgumentError
        A value is out of range.
    """

    multiprocessing_context: Any = None
    persistent_workers: bool | None = None
    prefetch_factor: int = 2
    block_size: int | None = None

    def __post_init__(self) -> None:
        for name in _MEANS_NOTHING:
            if getattr(self, name) is not None:
                msg = (
                    f"{name} has no effect any more, since the workers of a Loader are threads, "
                    "and the next release refuses it: leave it out"
                )
                # The call in the dataclass's own __init__ lies between.
                warnings.warn(msg, DeprecationWarning, stacklevel=3)
        for name in ("prefetch_factor", "block_size"):
            value = getattr(self, name)
            if value is not None or name == "prefetch_factor":
                object.__setattr__(self, name, as_integer(name, value, start=1, stop=1 << 31))


def read_blocks(
    windows: Windows, references: Iterator[References], *, num_workers: int, prefetch_factor: int
) -> Generator[Block, None, None]:
    """Yield the blocks of windows, in order.

    An error is raised at the batch where it occurs.

    Parameters
    ----------
    windows : RandomWindows or SequentialWindows
    references : iterator of References
        What each block reads.
    num_workers : int
        Threads that read ahead; 0 reads in the thread that uses the blocks.
    prefetch_factor : int
        Blocks that are read ahead for each worker.
    """
    # The order is computed here, as references are asked for: its hundred small steps would
    # each wait for Python's lock in a thread. A gather waits for it once or twice.
    read = functools.partial(_read, windows)
    if num_workers == 0:
        yield from _raise_in_turn(map(read, references))
        return
    ahead = work_ahead(
        read,
        references,
        num_threads=num_workers,
        num_ahead=num_workers * prefetch_factor,
        name="tokenloom-loader",
    )
    # Its threads would live as long as the traceback of an error that comes up here.
    with contextlib.closing(ahead):
        yield from _raise_in_turn(ahead)


class _ReadBlocks(NamedTuple):
    """The blocks that could be read, and the error of the batch after them, if there is one."""

    blocks: list[Block]
    error: Exception | None


def _raise_in_turn(results: Iterator[_ReadBlocks]) -> Iterator[Block]:
    for blocks, error in results:
        yield from blocks
        if error is not None:
            raise error


def _read(windows: Windows, references: References) -> _ReadBlocks:
    try:
        return _ReadBlocks([_read_block(windows, references)], None)
    except Exception as error:  # noqa: BLE001  raised by the thread that uses the batches
        return _read_one_by_one(windows, references, error)


def _read_one_by_one(windows: Windows, references: References, error: Exception) -> _ReadBlocks:
    """Return the batches before the one that cannot be read, and its error."""
    blocks = []
    for batch in references.split(1):
        try:
            blocks.append(_read_block(windows, batch))
        except Exception as error_of_batch:  # noqa: BLE001  as above
            return _ReadBlocks(blocks, error_of_batch)
    # Each batch could be read by itself: the error belongs to none of them, and is not hidden.
    return _ReadBlocks([], error)


def _read_block(windows: Windows, references: References) -> Block:
    corpus = windows.corpus
    return read_block(
        corpus.tokens, references, documents=windows.documents, loss_mask=corpus.loss_mask
    )


def work_ahead(
    work: Callable[[Job], Result],
    jobs: Iterator[Job],
    *,
    num_threads: int,
    num_ahead: int,
    name: str,
    patience: float = _PATIENCE,
) -> Generator[Result, None, None]:
    """Yield the result of each job, in order, while threads do the next ones.

    An exception of a job is raised where its result would have come, and one of the
    iterator of jobs after the results of those before. The threads stop when the iterator
    ends or is deleted. A process that is forked in between starts its own threads.

    Parameters
    ----------
    work : callable
        Called in the threads with a job.
    jobs : iterator
        Advanced in the thread that uses the results.
    num_threads : int
    num_ahead : int
        Jobs that are begun, or done, before their results are asked for.
    name : str
        What the names of the threads begin with.
    patience : float
        How long the end of the iterator waits for jobs that are being done, in seconds.
    """
    threads = _Threads(work, num_threads, name)
    coming: deque[tuple[Job, queue.SimpleQueue[Any]]] = deque()
    late: Exception | None = None
    try:
        while True:
            new = itertools.islice(jobs, num_ahead - len(coming))
            try:
                coming.extend((job, threads.ask(job)) for job in new)
            except Exception as raised:  # noqa: BLE001  it belongs after the results to come
                late, jobs = raised, iter(())
            if not coming:
                if late is not None:
                    raise late
                return
            if not threads.are_here:
                threads = _Threads(work, num_threads, name)
                coming = deque((job, threads.ask(job)) for job, _ in coming)
            result, error = coming.popleft()[1].get()
            if error is not None:
                raise error
            yield result
    finally:
        error = late = None  # their tracebacks refer to this frame
        coming.clear()
        threads.stop(patience)


class _Threads:
    """Threads that do jobs in turn, until they are stopped or this object is deleted.

    Each has jobs of its own. The C library keeps the memory of a result for the thread
    that made it; if each thread took the job that comes next, one of them would now and
    then make more results in a row than ever before, and the memory would grow.
    """

    def __init__(self, work: Callable[[Any], Any], num_threads: int, name: str) -> None:
        self._threads = [_Thread(work, f"{name}-0")]
        # If the system refuses more threads, fewer do the work.
        with contextlib.suppress(RuntimeError):
            for number in range(1, num_threads):
                self._threads.append(_Thread(work, f"{name}-{number}"))
        self._in_turn = itertools.cycle(self._threads)

    @property
    def are_here(self) -> bool:
        """Whether this is the process in which the threads were started."""
        return self._threads[0].is_here

    def ask(self, job: Any) -> "queue.SimpleQueue[Any]":
        """Queue a job; return the queue that will hold its result or exception."""
        return next(self._in_turn).ask(job)

    def stop(self, patience: float) -> None:
        """Ask the threads to end, and wait for them, at most for the given seconds."""
        # At the end of the program Python may have cleared the modules that are used below.
        if not self._threads[0].is_over and self.are_here:
            _stop(self._threads, patience)


class _Thread:
    """A thread that does jobs until it is stopped or this object is deleted."""

    def __init__(self, work: Callable[[Any], Any], name: str) -> None:
        self._pid = os.getpid()
        # Whether it was asked to end by `_stop_all`.
        self.is_over = False
        self._jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._started: queue.SimpleQueue[threading.Thread | None] = queue.SimpleQueue()
        # Once nothing refers to self any more, the callback puts the weak reference into the queue;
        # it is no job, so the thread ends.
        owner = weakref.ref(self, self._jobs.put)
        # A weak reference can be hashed after its object has gone only if it was hashed before.
        hash(owner)
        _thread.start_new_thread(_start, (name, self._started, (work, self._jobs, owner)))

    @property
    def is_here(self) -> bool:
        """Whether this is the process in which the thread was started."""
        return os.getpid() == self._pid

    def ask(self, job: Any) -> "queue.SimpleQueue[Any]":
        """Queue a job; return the queue that will hold its result or exception."""
        answer: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._jobs.put((job, answer))
        return answer

    def ask_to_stop(self) -> None:
        """Ask the thread to end after its current job."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._jobs.get_nowait()
        self._jobs.put(None)

    def wait(self, deadline: float) -> None:
        """Wait until the thread has ended, at most until a time of `time.monotonic`."""
        with contextlib.suppress(queue.Empty):
            thread = self._started.get(timeout=max(0, deadline - time.monotonic()))
            # For the next call, such as the one at the end of the program.
            self._started.put(thread)
            # A collection of garbage may call this in the thread itself.
            if thread is not None and thread.ident != threading.get_ident():
                thread.join(max(0, deadline - time.monotonic()))


def _stop(threads: Iterable[_Thread], patience: float) -> None:
    for thread in threads:
        thread.ask_to_stop()
    deadline = time.monotonic() + patience
    for thread in threads:
        thread.wait(deadline)


def _start(
    name: str,
    started: "queue.SimpleQueue[threading.Thread | None]",
    arguments: tuple[Any, ...],
) -> None:
    """Start a thread, in a thread that no Ctrl-C interrupts."""
    _stop_at_exit()
    _LIVING.add(arguments[-1])
    thread = threading.Thread(target=_work, args=arguments, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        # The system refuses another thread, so this one does the work.
        started.put(None)
    else:
        started.put(thread)
        return
    _work(*arguments)


def _work(
    work: Callable[[Any], Any],
    jobs: "queue.SimpleQueue[Any]",
    owner: "weakref.ref[_Thread]",
) -> None:
    while isinstance(request := jobs.get(), tuple):
        job, answer = request
        if owner() is not None:
            answer.put(_attempt(work, job))
        # While this waits it keeps nothing alive.
        del request, job, answer
    _LIVING.discard(owner)


def _attempt(work: Callable[[Any], Any], job: Any) -> tuple[Any, BaseException | None]:
    try:
        return work(job), None
    except BaseException as error:  # noqa: BLE001  raised where the result is asked for
        return None, error


@functools.cache
def _stop_at_exit() -> None:
    atexit.register(_stop_all)


def _stop_all() -> None:
    """Stop all threads before the interpreter ends."""
    found = [thread for owner in list(_LIVING) if (thread := owner()) and thread.is_here]
    _stop(found, _PATIENCE)
    for thread in found:
        thread.is_over = True
