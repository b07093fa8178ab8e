"""Ctrl-C that waits."""

import signal
import threading

import pytest

from tokenloom.interrupts import Interrupt


def test_the_first_ctrl_c_is_noted() -> None:
    """It interrupts nothing, and afterwards the signal is as it was."""
    with Interrupt() as interrupt:
        assert not interrupt.came
        signal.raise_signal(signal.SIGINT)
        assert interrupt.came
    assert signal.default_int_handler is signal.getsignal(signal.SIGINT)


def test_the_second_one_interrupts() -> None:
    """Who presses it twice does not want to wait."""
    with Interrupt():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_nothing_is_done_where_it_is_not_wanted() -> None:
    """Nor where somebody else handles the signal, nor in another thread."""
    with Interrupt(wanted=False), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupt():
            assert signal.SIG_IGN is signal.getsignal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    found: list[bool] = []

    def enter() -> None:
        with Interrupt() as interrupt:
            found.append(interrupt.came)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert [False] == found
