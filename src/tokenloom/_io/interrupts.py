"""Signals that ask a process to end: Ctrl-C, and those of schedulers, containers and terminals."""

import concurrent.futures
import contextlib
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGBREAK")
    if hasattr(signal, name)
)
"""Those that end a training after its step, as far as the system has them."""

Result = TypeVar("Result")

# How long one wait for native code takes, after which signals are handled.
_WAIT_SECONDS = 0.2
# How long the end of an object may still take after an error in it.
_MOMENT_SECONDS = 0.05
# How long a signal waits for the end of an import, which may never come.
_IMPORT_SECONDS = 30.0
# torchrun sends its ranks a Ctrl-C that the terminal has sent them already.
_SAME_SECONDS = 5.0

# The processes that let signals raise `Stopped`, this one and those that it was forked from,
# each with the function that lets them.
_owners: dict[int, FrameType] = {}
# The signals that wait for the end of an import, each with the time at which it came.
_waiting: dict[int, float] = {}


class Stopped(SystemExit):
    """A signal other than Ctrl-C ended this process; its exit code is the shell's, 128 + number.

    Parameters
    ----------
    number : int
        Of the signal.
    *notes : str
        What is kept, for people to read.
    """

    def __init__(self, number: int, *notes: str) -> None:
        super().__init__(128 + number)
        self.number = number
        self.notes = notes

    @property
    def name(self) -> str:
        """The signal's name, such as SIGTERM."""
        return signal.Signals(self.number).name


class Interrupt:
    """A context in which a signal that asks the process to end is only noted.

    Only where the main thread waits for it and nobody else handles the signal.
    A second Ctrl-C interrupts at once. Any other signal may come several times,
    since schedulers send it to the launcher and to its processes.

    Parameters
    ----------
    saves : bool
        Whether there is something to save, so that signals other than Ctrl-C
        wait too.
    num_ranks : int
        How many processes stop together.

    Attributes
    ----------
    number : int or None
        The signal that was received, once all processes know of it; one process
        alone knows at once.
    """

    def __init__(self, *, saves: bool = False, num_ranks: int = 1) -> None:
        self.number: int | None = None
        self._signals = SIGNALS if saves else (signal.SIGINT,)
        self._is_alone = num_ranks == 1
        self._came: dict[int, float] = {}
        self._before: dict[int, Any] = {}

    @property
    def flags(self) -> list[int]:
        """For each of `SIGNALS`, 1 if this process received it, else 0."""
        return [int(number in self._came) for number in SIGNALS]

    def agree(self, counts: Sequence[int]) -> None:
        """Note a signal that any of the processes received.

        Parameters
        ----------
        counts : sequence of int
            For each of `SIGNALS`, how many processes received it.
        """
        came = [number for number, count in zip(SIGNALS, counts, strict=True) if count]
        self.number = came[0] if came else None

    def end(self) -> None:
        """End the process as a signal does, if one was received.

        Raises
        ------
        KeyboardInterrupt
            It was Ctrl-C.
        Stopped
            It was another one.
        """
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.number is not None:
            raise Stopped(self.number)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = _take(self._signals, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _put_back(self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        first = self._came.setdefault(number, now)
        if self._is_alone and self.number is None:
            self.number = number
        is_again = first != now and (self._is_alone or now - first > _SAME_SECONDS)
        if number == signal.SIGINT and is_again:
            signal.default_int_handler(number, frame)


def start_call(call: Callable[[], Result]) -> Future[Result]:
    """Start a call in a thread, so that signals need not wait for its end.

    Python handles signals in the main thread, and only between two steps of Python, so
    that native code keeps them waiting. The end of the process does not wait for the thread.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        # Panics of Rust are no Exception. They are raised where the call is waited for.
        except BaseException as error:  # noqa: BLE001
            future.set_exception(error)

    threading.Thread(target=run, name="call", daemon=True).start()
    return future


def wait_for_call(future: Future[Result]) -> Result:
    """Return the result of a call that was started, or raise its error; signals end the wait."""
    while not future.done():
        # On Windows a wait without end could not be interrupted.
        concurrent.futures.wait([future], timeout=_WAIT_SECONDS)
    return future.result()


@contextlib.contextmanager
def ending_in_order() -> Iterator[None]:
    """Let signals other than Ctrl-C, which end a process at once, raise `Stopped` instead.

    So unfinished work is cleaned up. Only in the main thread, and where nobody
    else handles the signal. A process that is forked meanwhile ends as usual. A signal,
    also Ctrl-C, that comes where an object ends, so that nothing can be raised, is
    raised a moment later, and one that comes amid an import after it, or after half a minute.

    Raises
    ------
    Stopped
        A signal came.
    """
    if threading.current_thread() is not threading.main_thread():
        # No signal is handled in another thread.
        yield
        return
    before = _take([number for number in SIGNALS if number != signal.SIGINT], _raise)
    hook, process = sys.unraisablehook, os.getpid()
    outer = _owners.get(process)
    if before:
        # That is the function which has the with statement.
        _owners[process] = sys._getframe(2)  # noqa: SLF001  there is no other way
    sys.unraisablehook = functools.partial(_raise_later, hook)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        _put_back(before)
        _waiting.clear()
        # In one step: a signal that comes amid two would end the process at once.
        if outer is not None:
            _owners[process] = outer
        else:
            _owners.pop(process, None)


def _raise_later(hook: Callable[[Any], object], unraisable: Any) -> None:
    """Let a signal come again that was raised where Python can only print its traceback."""
    error = unraisable.exc_value
    if isinstance(error, Stopped):
        number = error.number
        signal.signal(number, _raise)
    elif isinstance(error, KeyboardInterrupt):
        number = int(signal.SIGINT)
    else:
        hook(unraisable)
        return
    _send_later(number)


def _send_later(number: int) -> None:
    again = threading.Timer(_MOMENT_SECONDS, _send, [number])
    again.daemon = True
    again.start()


def _send(number: int) -> None:
    """Send a signal to the main thread, from another one."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        signal.raise_signal(number)


def _is_importing(frame: FrameType | None) -> bool:
    """Return whether a signal came amid an import within `ending_in_order`."""
    begins = _owners.values()
    while frame is not None and frame not in begins:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _raise(number: int, frame: FrameType | None) -> None:
    if os.getpid() not in _owners:
        # A forked process: its parent cleans up, and may be the one that ends it.
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
    now = time.monotonic()
    came_at = _waiting.setdefault(number, now)
    if _is_importing(frame) and now - came_at < _IMPORT_SECONDS:
        # PyTorch prints a traceback of what is raised amid its import.
        _send_later(number)
        return
    _waiting.clear()
    # A second signal must not interrupt the clean-up.
    for other in SIGNALS:
        if signal.getsignal(other) is _raise:
            signal.signal(other, signal.SIG_IGN)
    raise Stopped(number)


def _take(signals: Sequence[int], handler: Any) -> dict[int, Any]:
    """Handle signals that nobody handles; return how they were handled."""
    free = (signal.SIG_DFL, signal.default_int_handler, _raise)
    before = {number: signal.getsignal(number) for number in signals}
    before = {number: handled for number, handled in before.items() if handled in free}
    for number in before:
        signal.signal(number, handler)
    return before


def _put_back(before: dict[int, Any]) -> None:
    for number, handled in before.items():
        signal.signal(number, handled)
