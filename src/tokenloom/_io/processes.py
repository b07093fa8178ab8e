"""Processes that end soon after the process that started them has ended."""

import contextlib
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess


class _Watch:
    """In which process a thread waits for the end of the main process."""

    pid: int | None = None


def end_with_parent() -> None:
    """Let this process end as soon as the process that started it has ended, however that was.

    That is ``multiprocessing.parent_process()`` under every start method, also
    where the system's parent is a fork server, which outlives a killed main
    process for as long as one of its workers lives. A thread of its own waits,
    so this process ends too where it is blocked, such as in a full queue. In a
    process that multiprocessing did not start, and when called again, this
    does nothing.
    """
    parent = multiprocessing.parent_process()
    if parent is None or _Watch.pid == os.getpid():
        return
    _Watch.pid = os.getpid()
    threading.Thread(target=_follow, args=(parent,), name="end-with-parent", daemon=True).start()


def leave_ctrl_c_to_parent() -> None:
    """Ignore SIGINT, which a terminal sends to the main process and to its workers at once."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _follow(parent: BaseProcess) -> None:
    # The sentinel is one end of a pipe, whose other end any later fork of the parent holds
    # open too: so the process itself is waited for as well, where the system offers that.
    ends = [parent.sentinel]
    with contextlib.suppress(AttributeError, OSError):
        ends.append(_open_process(parent.pid))
    wait(ends)
    os._exit(1)


def _open_process(pid: int | None) -> int:
    """Return a descriptor that becomes readable when a process has ended."""
    try:
        return os.pidfd_open(pid or 0)
    except ProcessLookupError:
        # It ended before this process had begun to wait for it.
        os._exit(1)
