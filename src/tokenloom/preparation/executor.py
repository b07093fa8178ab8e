"""Chunks that any executor does, in order, with a bounded number on their way."""

import contextlib
import ctypes
import io
import multiprocessing
import os
import pickle
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import AbstractContextManager
from multiprocessing import spawn
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple, TypeVar

from tokenloom._io.processes import end_with_parent, leave_ctrl_c_to_parent
from tokenloom._wording import show
from tokenloom.errors import ArgumentError, TokenloomError, WorkerError
from tokenloom.text.huggingface import PARALLELISM
from tokenloom.text.interface import CompleteTokenizer, UserTokenizer
from tokenloom.text.tokenizers import ByteTokenizer, CountedTokenizer

# How often to check whether a task is done whose result does not arrive, in seconds.
_LOOK_SECONDS = 5.0

# Encoding this number of bytes as characters or words takes longer than starting a process.
_QUICK_BYTES = 1 << 26
# Windows waits for at most 63 handles at once, of which Python needs two itself.
_MOST_ON_WINDOWS = 61
# With fewer cores two processes made characters and words of plain texts 0.7 x as fast as one.
_CORES_FOR_PLAIN = 4

# The function that Python prepares a process with is replaced by one thread at a time.
_ONE_AT_A_TIME = threading.Lock()

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def run_in_order(
    do: Callable[[_Item], _Result],
    items: Iterable[_Item],
    *,
    executor: Executor | None,
    num_ahead: int,
    is_done: Callable[[_Item], bool] = lambda _: False,
    look_seconds: float = _LOOK_SECONDS,
) -> Generator[tuple[_Item, _Result], None, None]:
    """Yield each item with its result, in the order of the items.

    Parameters
    ----------
    do : callable
        The function of an item; it is sent with each item.
    items : iterable
        Read as they are needed.
    executor : Executor or None
        None does them in this process.
    num_ahead : int
        The most items that are submitted, or done and not yet asked for, at a time.
    is_done : callable
        Whether the work of an item is known to be done while its result has not
        arrived; then the result is None. Dask forgets the result of a task that
        ends when its scheduler ends.
    look_seconds : float
        Seconds between two calls of ``is_done``.

    Raises
    ------
    WorkerError
        A process of the executor died, or the executor cannot work any more.

    >>> list(run_in_order(abs, [-1, 2], executor=None, num_ahead=4))
    [(-1, 1), (2, 2)]
    """
    if executor is None:
        for item in items:
            yield item, do(item)
        return
    ahead: deque[tuple[_Item, Future[_Outcome]]] = deque()
    try:
        for item in items:
            if len(ahead) >= num_ahead:
                yield _take(ahead, is_done, look_seconds)
            ahead.append((item, _submit(executor, do, item)))
        while ahead:
            yield _take(ahead, is_done, look_seconds)
    finally:
        for _, future in ahead:
            future.cancel()


def call(executor: Executor, do: Callable[..., _Result], *arguments: Any) -> _Result:
    """Return the result of a call by a worker, which needs nothing else than the function.

    Raises
    ------
    TokenloomError
        The function raised it.
    WorkerError
        The function raised another error, a process of the executor died, or
        the executor cannot work any more.
    """
    try:
        return executor.submit(do, *arguments).result()
    except TokenloomError:
        raise
    # Each executor has errors of its own.
    except Exception as error:
        raise WorkerError(_explain(error)) from error


def count_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_processes(
    tokenizer: CompleteTokenizer,
    *,
    num_cores: int,
    num_bytes: int,
    is_plain: bool,
    num_tasks: int,
) -> int:
    """Return the number of processes that is fastest; below 2 no process is worth its start.

    The caller's process reads the sources, hashes them and puts the store
    together, whatever the others do. That is all of the work for bytes, about
    two fifths for characters and half for words of plain texts, and a fifth where
    texts have to be found in records. A process takes half a second to start,
    and is sent each text.

    Parameters
    ----------
    tokenizer : CompleteTokenizer
    num_cores : int
    num_bytes : int
        Of all sources.
    is_plain : bool
        Whether the sources are plain texts rather than records such as JSON Lines.
    num_tasks : int
        How many chunks there are.

    >>> from tokenloom.text.tokenizers import CharTokenizer
    >>> from tokenloom.text.vocab import Vocab
    >>> size = {"num_bytes": 1 << 30, "num_tasks": 256}
    >>> char = CharTokenizer(Vocab())
    >>> [choose_processes(char, num_cores=n, is_plain=True, **size) for n in (2, 8)]
    [1, 8]
    """
    if isinstance(tokenizer, ByteTokenizer) or num_cores < 2:
        return 1
    if not isinstance(tokenizer, CountedTokenizer):
        return min(num_cores, num_tasks)
    if is_plain and num_cores < _CORES_FOR_PLAIN:
        return 1
    return min(num_cores, num_bytes // _QUICK_BYTES)


@contextlib.contextmanager
def process_pool(num_workers: int, *, imports_main: bool = False) -> Iterator[Executor | None]:
    """Yield a pool of processes, or None if fewer than two workers are asked for.

    They import no more than they need, leave Ctrl-C to this process, and end
    when it ends, in whatever way.

    Parameters
    ----------
    num_workers : int
    imports_main : bool
        Whether they import the program that runs here, as they must if it defines
        something that is sent to them. They then run again whatever it does
        outside ``if __name__ == "__main__"``.
    """
    if num_workers < 2:
        yield None
        return
    # A fork would copy the locks of this process' threads as they are.
    methods = multiprocessing.get_all_start_methods()
    method = "forkserver" if "forkserver" in methods else "spawn"
    pool = _Pool(
        min(num_workers, _MOST_ON_WINDOWS) if sys.platform == "win32" else num_workers,
        mp_context=multiprocessing.get_context(method),
        imports_main=imports_main,
        initializer=_enter_worker,
        # A fork server has the environment of the time when it began.
        initargs=(os.environ.get(PARALLELISM, "false"),),
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def open_pool(
    executor: Executor | None, num_processes: int, *, sends: CompleteTokenizer
) -> AbstractContextManager[Executor | None]:
    """Return a context that opens and closes an executor; one of the caller's stays open.

    Parameters
    ----------
    executor : Executor or None
        The caller's.
    num_processes : int
        How many processes do the work without one.
    sends : CompleteTokenizer
        The tokenizer that is sent with chunks.

    Raises
    ------
    ArgumentError
        It cannot be sent to processes.
    """
    if executor is not None:
        return contextlib.nullcontext(executor)
    if num_processes < 2:
        return process_pool(num_processes)
    pickler = _Pickler(io.BytesIO())
    try:
        pickler.dump(sends)
    # Pickling may fail with any error.
    except Exception as error:
        msg = (
            f"tokenizer must be one that can be pickled for workers, got {show(sends.given)}: "
            "pass num_workers=1, or an executor of threads"
        )
        raise ArgumentError(msg) from error
    # What a class from elsewhere needs of the program, such as a registry, is not known.
    imports_main = isinstance(sends, UserTokenizer) or pickler.found_main
    return process_pool(num_processes, imports_main=imports_main)


class _Pickler(ForkingPickler):
    """Finds out whether the program that runs here defines something of what is pickled."""

    found_main = False

    def reducer_override(self, value: Any) -> Any:
        # In a process that another one started, the program has another name.
        if getattr(value, "__module__", None) in ("__main__", "__mp_main__"):
            self.found_main = True
        return NotImplemented


def _enter_worker(parallelism: str) -> None:
    # The processes share the cores already, unless the user has chosen.
    os.environ[PARALLELISM] = parallelism
    leave_ctrl_c_to_parent()
    end_with_parent()


class _Pool(ProcessPoolExecutor):
    """Processes that do not grow from chunk to chunk."""

    def __init__(self, num_workers: int, *, imports_main: bool, **named: Any) -> None:
        super().__init__(num_workers, **named)
        self._imports_main = imports_main

    def _spawn_process(self) -> None:
        with contextlib.nullcontext() if self._imports_main else _leaving_out_main():
            # Python's own, in all releases so far; the types do not know it.
            super()._spawn_process()  # type: ignore[misc]

    def submit(self, do: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        return super().submit(_do, do, *arguments, **named)


@contextlib.contextmanager
def _leaving_out_main() -> Iterator[None]:
    """Let no process that this thread starts in the block import the program that runs here.

    Python has each import it, to find there what it defines: a script without
    ``if __name__ == "__main__"`` would begin again in each, and what it imports takes
    time.
    """
    starter = threading.get_ident()
    with _ONE_AT_A_TIME:
        prepare = spawn.get_preparation_data

        def prepare_without_main(name: str) -> dict[str, Any]:
            data = prepare(name)
            if threading.get_ident() == starter:
                for key in ("init_main_from_name", "init_main_from_path"):
                    data.pop(key, None)
            return data

        try:
            spawn.get_preparation_data = prepare_without_main
            yield
        finally:
            spawn.get_preparation_data = prepare


def _do(do: Callable[..., _Result], *arguments: Any, **named: Any) -> _Result:
    try:
        return do(*arguments, **named)
    finally:
        # The GNU C library would keep more and more of the memory that chunks
        # have freed, see malloc_trim(3). Others have no such function, and Windows has no
        # library without a name.
        with contextlib.suppress(AttributeError, OSError, TypeError):
            ctypes.CDLL(None).malloc_trim(0)


class _Outcome(NamedTuple):
    result: Any
    error: Exception | None


def _attempt(do: Callable[..., Any], *arguments: Any) -> _Outcome:
    """Return the result or the error of a call: an error that is raised is the executor's."""
    try:
        return _Outcome(do(*arguments), None)
    # The caller raises it.
    except Exception as error:  # noqa: BLE001
        if not isinstance(error, TokenloomError | OSError):
            error.add_note(traceback.format_exc())
        return _Outcome(None, error if _comes_back(error) else WorkerError(_describe(error)))


def _comes_back(error: Exception) -> bool:
    """Return whether an error survives the way from another process."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  its own
    # Pickling may fail with any error.
    except Exception:  # noqa: BLE001
        return False
    return True


def _submit(executor: Executor, do: Callable[..., Any], *arguments: Any) -> "Future[_Outcome]":
    try:
        return executor.submit(_attempt, do, *arguments)
    # Each executor has errors of its own.
    except Exception as error:
        raise WorkerError(_explain(error)) from error


def _take(
    ahead: "deque[tuple[_Item, Future[_Outcome]]]",
    is_done: Callable[[_Item], bool],
    look_seconds: float,
) -> tuple[_Item, Any]:
    item, future = ahead[0]
    result = None
    while not future.done() and not wait([future], look_seconds).done:
        if is_done(item):
            break
    else:
        result = _result_of(future)
    ahead.popleft()
    return item, result


def _result_of(future: "Future[_Outcome]") -> Any:
    try:
        outcome = future.result()
    # Each executor has errors of its own.
    except Exception as error:
        raise WorkerError(_explain(error)) from error
    if outcome.error is not None:
        raise outcome.error
    return outcome.result


def _explain(error: Exception) -> str:
    """Return the error for an executor that has come to an end."""
    if isinstance(error, BrokenExecutor):
        return _DIED
    return (
        f"the executor ended with {_describe(error)}: perhaps its scheduler or its workers are "
        "gone, or cannot import what this process can; what was finished is kept, and the same "
        "call resumes from there"
    )


def _describe(error: Exception) -> str:
    r"""Return the name of an error, and the first line of its message.

    >>> _describe(TimeoutError("too late\nand so on"))
    'TimeoutError (too late)'
    """
    line = str(error).partition("\n")[0]
    return f"{type(error).__name__} ({line})" if line else type(error).__name__


_DIED = (
    "a worker process died, perhaps because the memory was full: what was finished is kept, so "
    "run the same again, perhaps with fewer workers; a script with a tokenizer of its own has its "
    'calls under if __name__ == "__main__"'
)
