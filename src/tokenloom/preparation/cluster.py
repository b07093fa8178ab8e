"""Workers on other machines, which must see the work folder and run the same release."""

import contextlib
import functools
import importlib
import logging
import re
import secrets
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, wait
from pathlib import Path
from typing import Any, NamedTuple

from tokenloom._io.atomic import write_text
from tokenloom._io.interrupts import start_call
from tokenloom._io.regular import read_bounded
from tokenloom._optional import import_optional
from tokenloom._wording import show
from tokenloom.errors import ArgumentError, WorkerError
from tokenloom.preparation.executor import call

# A file in the work folder: a worker that reads the same bytes from it sees the same folder.
_SHARED = "shared"
_NUM_BYTES = 32
# How long a new file may take to be seen by a worker, in seconds.
_PATIENCE = 1.0
_ADDRESS = re.compile(r"[a-z]+://(\[[0-9A-Fa-f:.%]+\]|[^\s/:]+):[0-9]{1,5}/?")
_CONNECT_SECONDS = 10.0
_LOGGERS = ("distributed", "tornado", "asyncio")


class SharedFolder(NamedTuple):
    """A work folder that all workers must see.

    Attributes
    ----------
    path : Path
    token : str
        The content of a file in it.
    version : str
        The release of tokenloom that all workers must have.
    """

    path: Path
    token: str
    version: str

    def require(self, *, patience: float = _PATIENCE) -> None:
        """Check in a worker that it sees the folder and has the release.

        Parameters
        ----------
        patience : float
            How long to wait for the folder to appear, in seconds.

        Raises
        ------
        WorkerError
            The worker does not see the folder, or has another release.
        """
        require_version(find_version(), self.version, host=socket.gethostname())
        deadline = time.monotonic() + patience
        while (problem := self._find_problem()) and time.monotonic() < deadline:
            time.sleep(0.1)
        if problem:
            msg = (
                f"all workers must see the folder {self.path}, the one on "
                f"{socket.gethostname()} does not ({problem}): let the store lie in a folder that "
                "all machines share under the same name, and run workers as the same user"
            )
            raise WorkerError(msg)

    def _find_problem(self) -> str | None:
        try:
            content = read_bounded(self.path / _SHARED, max_bytes=2 * _NUM_BYTES)
        except OSError as error:
            return error.strerror or str(error)
        return None if content == self.token.encode() else "it has another folder of that name"


def share(folder: Path, executor: Executor) -> SharedFolder:
    """Return a work folder, after a check that a worker of an executor can use it.

    Each task repeats the check, since another worker may do it.

    Raises
    ------
    OSError
        The folder cannot be written to.
    WorkerError
        The worker does not see the folder, or has another release of tokenloom,
        or none; or the executor has come to an end.
    """
    # Another release may lack any function of this one, but not of the standard library.
    there = call(executor, importlib.import_module("importlib.metadata").version, "tokenloom")
    require_version(there, find_version(), host="the cluster")
    shared = SharedFolder(folder, _keep_token(folder / _SHARED), find_version())
    call(executor, SharedFolder.require, shared)
    return shared


def find_version() -> str:
    """Return the release of tokenloom that is installed here."""
    # Slow to import, and not needed where the work is done on this machine.
    version: str = importlib.import_module("importlib.metadata").version("tokenloom")
    return version


def require_version(there: str, here: str, *, host: str) -> None:
    """Refuse another release of tokenloom.

    >>> require_version("1.0", "1.1", host="node7")
    Traceback (most recent call last):
        ...
    tokenloom.errors.WorkerError: all workers must have tokenloom 1.1 as here, ...
    """
    if there != here:
        msg = (
            f"all workers must have tokenloom {here} as here, one on {host} has {there}: install "
            "the same release on all machines"
        )
        raise WorkerError(msg)


def _keep_token(path: Path) -> str:
    """Return the content of the file, which is written if it is missing.

    An interrupted run leaves it: a worker may still know the file that it read then.
    """
    with contextlib.suppress(OSError, UnicodeDecodeError):
        token = read_bounded(path, max_bytes=2 * _NUM_BYTES, follow_links=False).decode("ascii")
        if len(token) == 2 * _NUM_BYTES:
            return token
    token = secrets.token_hex(_NUM_BYTES)
    write_text(path, token)
    return token


class Cluster(NamedTuple):
    """The workers of a preparation.

    Attributes
    ----------
    executor : Executor or None
        None: processes of this machine.
    num_workers : int or None
        How many tasks its workers do at a time, at this moment; None: one for
        each core of this machine.
    """

    executor: Executor | None
    num_workers: int | None


@contextlib.contextmanager
def open_dask(
    address: str, *, timeout: float = _CONNECT_SECONDS, quiet: bool = False
) -> Iterator[Cluster]:
    """Yield the Dask cluster at an address.

    Parameters
    ----------
    address : str
        Of its scheduler, such as "tcp://10.0.0.1:8786".
    timeout : float
        How long to wait for an answer, in seconds.
    quiet : bool
        Whether to silence, in the whole process until the end, what Dask,
        tornado and asyncio log: for programs that do nothing else.

    Raises
    ------
    ArgumentError
        It is no address, or no scheduler answers there.
    UsageError
        Dask is not installed.
    """
    if not _ADDRESS.fullmatch(address):
        msg = f"--dask must be a scheduler's address like tcp://10.0.0.1:8786, got {show(address)}"
        raise ArgumentError(msg)
    distributed = import_optional("distributed", purpose="--dask", extra="dask")
    with _quiet() if quiet else contextlib.nullcontext():
        client = _connect(distributed, address, timeout)
        try:
            yield Cluster(client.get_executor(pure=False), sum(client.nthreads().values()))
        finally:
            # What is wrong with the cluster has been reported already.
            with contextlib.suppress(Exception):
                client.close(timeout=timeout)


def _connect(distributed: Any, address: str, timeout: float) -> Any:
    # Dask would wait for ever for a server that accepts the connection and never answers.
    pending = start_call(lambda: distributed.Client(address, timeout=timeout, set_as_default=False))
    wait([pending], timeout=2 * timeout)
    if pending.done():
        error = pending.exception()
    else:
        error = TimeoutError(f"it does not answer within {2 * timeout:.0f} seconds")
        pending.add_done_callback(functools.partial(_close_late, timeout=timeout))
    if error is not None:
        # Dask, tornado and the system each have errors of their own for it.
        why = str(error).partition("\n")[0] or type(error).__name__
        msg = f"--dask must be the address of a running scheduler, {address!r} is not: {why}"
        raise ArgumentError(msg) from error
    return pending.result()


def _close_late(pending: Future[Any], *, timeout: float) -> None:
    """Close a connection that came after the timeout."""
    if pending.exception() is None:
        pending.result().close(timeout=timeout)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the logs of Dask about lost connections, for which an error is raised here."""
    loggers = [
        logger
        for name, logger in logging.Logger.manager.loggerDict.items()
        if name.partition(".")[0] in _LOGGERS and isinstance(logger, logging.Logger)
    ]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, was_disabled in zip(loggers, before, strict=True):
            logger.disabled = was_disabled
