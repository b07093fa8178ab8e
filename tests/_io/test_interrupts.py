"""Signals that ask a process to end."""

import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.text.native import NativeCall
from tokenloom._io.interrupts import (
    SIGNALS,
    Interrupt,
    Stopped,
    ending_in_order,
    start_call,
    wait_for_call,
)

OTHERS = [number for number in SIGNALS if number != signal.SIGINT]


def test_the_first_ctrl_c_is_noted() -> None:
    """It interrupts nothing, and afterwards the signal is as it was."""
    with Interrupt() as interrupt:
        assert not any(interrupt.flags)
        signal.raise_signal(signal.SIGINT)
        assert [int(number == signal.SIGINT) for number in SIGNALS] == interrupt.flags
    assert signal.default_int_handler is signal.getsignal(signal.SIGINT)


def test_the_second_one_interrupts() -> None:
    """A user who presses it twice does not want to wait."""
    with Interrupt():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_of_several_ranks_the_second_one_is_the_launchers() -> None:
    """It comes together with that of the terminal, and the ranks save all the same."""
    with Interrupt(saves=True, num_ranks=2) as interrupt:
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
    assert 1 == sum(interrupt.flags)
    assert interrupt.number is None


@pytest.mark.parametrize("number", OTHERS, ids=lambda number: number.name)
def test_other_signals_wait_where_there_is_something_to_save(number: signal.Signals) -> None:
    """However often they come; and afterwards they are as they were."""
    with Interrupt(saves=True) as interrupt:
        interrupt.end()
        for _ in range(3):
            signal.raise_signal(number)
    assert signal.SIG_DFL is signal.getsignal(number)
    with pytest.raises(Stopped) as caught:
        interrupt.end()
    assert (128 + number, number.name) == (caught.value.code, caught.value.name)


def test_all_processes_agree_on_one_signal() -> None:
    """What came to another one counts as what came to this one."""
    interrupt = Interrupt(saves=True, num_ranks=2)
    interrupt.agree([0] * len(SIGNALS))
    assert interrupt.number is None
    interrupt.agree([int(number == signal.SIGTERM) for number in SIGNALS])
    assert signal.SIGTERM == interrupt.number
    interrupt.agree([2, *[0] * len(OTHERS)])
    with pytest.raises(KeyboardInterrupt):
        interrupt.end()


def test_without_anything_to_save_only_ctrl_c_waits() -> None:
    """A process that would lose nothing ends at once, as it would have."""
    with Interrupt():
        assert {signal.SIG_DFL} == {signal.getsignal(number) for number in OTHERS}


def test_nothing_is_done_where_somebody_else_handles_the_signal() -> None:
    """Nor in another thread."""
    before: dict[Any, Any] = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        with Interrupt(saves=True), ending_in_order():
            assert {signal.SIG_IGN} == {signal.getsignal(number) for number in before}
    finally:
        for number, handled in before.items():
            signal.signal(number, handled)
    found: list[Any] = []

    def enter() -> None:
        with Interrupt(saves=True), ending_in_order():
            found.extend(signal.getsignal(number) for number in OTHERS)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert {signal.SIG_DFL} == set(found)


@pytest.mark.parametrize("number", OTHERS, ids=lambda number: number.name)
def test_a_command_ends_in_order(number: signal.Signals) -> None:
    """What it began is put away, which the same signal does not disturb."""
    put_away = []

    def work() -> None:
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(number)
            put_away.append("everything")

    with pytest.raises(Stopped) as caught, ending_in_order():
        work()
    assert ["everything"] == put_away
    assert 128 + number == caught.value.code
    assert {signal.SIG_DFL} == {signal.getsignal(other) for other in OTHERS}


def test_a_training_takes_the_signals_of_a_command() -> None:
    """And gives them back."""
    with ending_in_order():
        before = [signal.getsignal(number) for number in OTHERS]
        with Interrupt(saves=True) as interrupt:
            signal.raise_signal(signal.SIGTERM)
            assert 1 == sum(interrupt.flags)
        assert before == [signal.getsignal(number) for number in OTHERS]


def test_another_thread_changes_nothing_for_the_main_one() -> None:
    """Neither where its block begins, nor where it ends within the other."""
    begin, end = threading.Event(), threading.Event()

    def enter() -> None:
        with ending_in_order():
            begin.set()
            end.wait()

    def work() -> None:
        end.set()
        thread.join()
        assert sys.unraisablehook is not hook
        signal.raise_signal(signal.SIGTERM)

    hook = sys.unraisablehook
    thread = threading.Thread(target=enter)
    thread.start()
    begin.wait()
    with pytest.raises(Stopped), ending_in_order():
        work()
    assert sys.unraisablehook is hook


def test_a_block_within_another_leaves_its_signals() -> None:
    """The inner block may be that of a program which calls the command line."""

    def work() -> None:
        with ending_in_order():
            pass
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped), ending_in_order():
        work()
    assert {signal.SIG_DFL} == {signal.getsignal(number) for number in OTHERS}


class Ending:
    """An object at whose end a signal comes."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __del__(self) -> None:
        signal.raise_signal(self._number)


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGTERM, Stopped), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_at_the_end_of_an_object_is_not_lost(
    number: int, expected: type[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    """Python would print that the exception is ignored, and go on."""
    reached = []

    def work() -> None:
        Ending(number)
        reached.append(number)
        for _ in range(1200):
            time.sleep(0.05)

    with pytest.raises(expected), ending_in_order():
        work()
    assert [number] == reached
    assert ("", "") == capsys.readouterr()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked elsewhere")
def test_a_forked_process_ends_as_usual() -> None:
    """It neither reports the signal, which its parent may have sent, nor cleans up for it."""
    program = """
import os, signal, sys, time
from tokenloom.cli import main, datasets

def fork(arguments):
    there, here = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(here, b"I am there")
        time.sleep(60)
    os.read(there, 9)
    os.kill(child, signal.SIGTERM)
    print(os.WTERMSIG(os.waitpid(child, 0)[1]))

datasets._run = fork
sys.exit(main.main(["datasets"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=240
    )
    assert (f"{int(signal.SIGTERM)}\n", "") == (done.stdout, done.stderr)


def write_module(folder: Path, *, seconds: float) -> None:
    """Write a module whose import takes some seconds, from a signal on."""
    lines = "signal.raise_signal(signal.SIGTERM)", f"time.sleep({seconds})", "is_whole = 1"
    program = "\n".join(["import signal, time", *lines])
    (folder / "interrupted_module.py").write_text(program, encoding="utf-8")


def test_a_signal_amid_an_import_that_does_not_end_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nothing but SIGKILL would end the process."""
    write_module(tmp_path, seconds=60)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("tokenloom._io.interrupts._IMPORT_SECONDS", 0.01)
    with pytest.raises(Stopped), ending_in_order():
        importlib.import_module("interrupted_module")
    assert "interrupted_module" not in sys.modules


def test_a_signal_amid_an_import_waits_for_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packages print what is raised there, or are left half-imported."""
    write_module(tmp_path, seconds=0.2)
    monkeypatch.syspath_prepend(tmp_path)

    def work() -> None:
        importlib.import_module("interrupted_module")
        time.sleep(60)

    with pytest.raises(Stopped), ending_in_order():
        work()
    assert sys.modules.pop("interrupted_module").is_whole == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no masks of signals")
def test_a_signal_need_not_wait_for_native_code() -> None:
    """It ends the wait for the call, not the call."""
    native = NativeCall()
    with pytest.raises(KeyboardInterrupt):
        wait_for_call(start_call(native))
    assert not native.ended.is_set()
    native.is_over.set()
    assert native.ended.wait(60)


def test_a_call_in_a_thread_is_as_one_without() -> None:
    """Its result is returned, and its error raised."""
    assert 7 == wait_for_call(start_call(lambda: 7))
    with pytest.raises(ZeroDivisionError):
        wait_for_call(start_call(lambda: 1 // 0))
