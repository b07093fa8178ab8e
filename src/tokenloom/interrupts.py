"""Ctrl-C that waits until a step is whole."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class Interrupt:
    """A context in which the first Ctrl-C is only noted; the second one interrupts at once.

    Only where the main thread waits for it and nobody else handles the signal.

    Parameters
    ----------
    wanted : bool
        Whether to do anything at all.

    Attributes
    ----------
    came : bool
    """

    def __init__(self, *, wanted: bool = True) -> None:
        self.came = False
        is_main = threading.current_thread() is threading.main_thread()
        self._is_on = (
            wanted and is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )

    def __enter__(self) -> Self:
        if self._is_on:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_on:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.came:
            signal.default_int_handler(number, frame)
        self.came = True
