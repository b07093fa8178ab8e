"""A process for each system, so that none is disturbed by what another imports."""

import logging
import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any, Self

import torch


class Processes:
    """Named processes that run one function at a time, started when first asked.

    Parameters
    ----------
    patience : float
        Seconds after which a call is given up and its process killed.
    """

    def __init__(self, *, patience: float = 300.0) -> None:
        self._patience = patience
        self._pools: dict[str, tuple[ProcessPoolExecutor, int]] = {}

    def call(self, name: str, function: Callable[..., Any], *arguments: object) -> Any:
        """Return what a function returns in the process of this name.

        Raises
        ------
        Exception
            What the function raised; TimeoutError if it did not end.
        """
        pool, pid = self._pools.get(name) or self._start(name)
        try:
            return pool.submit(function, *arguments).result(self._patience)
        except BrokenProcessPool:
            del self._pools[name]
            raise
        except TimeoutError:
            del self._pools[name]
            os.kill(pid, signal.SIGKILL)
            raise

    def _start(self, name: str) -> tuple[ProcessPoolExecutor, int]:
        # Not forked: what this process has imported would come along.
        context = multiprocessing.get_context("spawn")
        start_method = multiprocessing.get_start_method()
        pool = ProcessPoolExecutor(
            1, mp_context=context, initializer=_enter, initargs=(start_method,)
        )
        self._pools[name] = pool, pool.submit(os.getpid).result()
        return self._pools[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pool, _ in self._pools.values():
            pool.shutdown(wait=kind is None, cancel_futures=True)


def _enter(start_method: str) -> None:
    """Start workers as a program does, print and warn nowhere, compute on one thread."""
    # A spawned process would spawn its workers too, which is slow.
    multiprocessing.set_start_method(start_method, force=True)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    logging.disable()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
