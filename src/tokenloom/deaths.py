"""Workers of a DataLoader that died: who they were, and what is left of the others."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from typing import Any

from tokenloom.errors import WorkerError


@contextlib.contextmanager
def translating_deaths(iterator: Any) -> Iterator[None]:
    """Raise `WorkerError` for the errors by which PyTorch tells of dead workers.

    Any other error of the block passes, also one that a worker raised.

    Parameters
    ----------
    iterator : iterator of a DataLoader, or None

    Raises
    ------
    WorkerError
        Workers died; the message says which and how.
    """
    try:
        yield
    # PyTorch tells by the one, and by the other if it was interrupted before.
    except (RuntimeError, KeyError):
        check_alive(iterator)
        raise


def check_alive(iterator: Any) -> None:
    """Check that no worker of a DataLoader's iterator died.

    Raises
    ------
    WorkerError
        Workers died; the message says which and how.
    """
    if deaths := find_deaths(iterator):
        msg = (
            f"{' and '.join(deaths)}: go on from the loader's state_dict(), "
            "perhaps with fewer workers"
        )
        raise WorkerError(msg)


def find_deaths(iterator: Any) -> list[str]:
    """Return, for each worker that died, which it was and how it ended."""
    workers = getattr(iterator, "_workers", ())
    return [
        f"worker {index} of {len(workers)} (pid {worker.pid}) {_how_it_ended(worker.exitcode)}"
        for index, worker in enumerate(workers)
        if worker.exitcode not in (None, 0)
    ]


def end_if_orphan(_: int) -> None:
    """End a worker whose parent died before the worker had begun.

    PyTorch's worker looks whether its parent is still the one that it had when
    it began, so it would wait for ever.
    """
    parent = multiprocessing.parent_process()
    # What forkserver starts has the server for its parent, which ends by itself.
    is_forkserver = "forkserver" in type(multiprocessing.current_process()).__name__.lower()
    if parent is not None and not is_forkserver and os.getppid() != parent.pid:
        os._exit(1)


def shut_down(iterator: Any) -> None:
    """End the workers of a DataLoader's iterator, where there is one.

    PyTorch leaves it to garbage collection, which the traceback of an
    exception can put off for ever.
    """
    if iterator is not None:
        iterator._shutdown_workers()  # noqa: SLF001  there is no public name


def _how_it_ended(exitcode: int) -> str:
    if exitcode >= 0:
        return (
            f"ended with exit code {exitcode}, and its own message is on stderr; if workers are "
            "spawned, the program's code must be under if __name__ == '__main__'"
        )
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    return f"was killed by {name}, perhaps because memory ran out"
