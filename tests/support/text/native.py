"""A call that keeps native code busy, so that no signal can interrupt it where it runs."""

import os
import signal
import threading
from typing import Any


class NativeCall:
    """A call during which Ctrl-C comes; it ends when the test is over, or after a while.

    Attributes
    ----------
    is_over : Event
        Set by the test, so that the call ends.
    ended : Event
        Set by the call as it ends.
    """

    def __init__(self) -> None:
        self.is_over, self.ended = threading.Event(), threading.Event()

    def __call__(self, *_: Any, **__: Any) -> list[int]:
        """Send Ctrl-C to this process, and return no ids."""
        # In the main thread Python would not handle a signal before the end of native code.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        os.kill(os.getpid(), signal.SIGINT)
        self.is_over.wait(60)
        self.ended.set()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        return []
