"""Workers that died. Real deaths are tested in integration/test_nothing_left.py."""

from types import SimpleNamespace
from typing import Any

import pytest

import tokenloom as tl
from tokenloom.deaths import check_alive, find_deaths, shut_down, translating_deaths


def make_iterator(*exitcodes: int | None) -> Any:
    """Return what looks like PyTorch's iterator, with workers of these exit codes."""
    workers = [SimpleNamespace(pid=100 + n, exitcode=code) for n, code in enumerate(exitcodes)]
    return SimpleNamespace(_workers=workers)


def fail(error: Exception, iterator: Any) -> None:
    """Raise an error where deaths are translated."""
    with translating_deaths(iterator):
        raise error


@pytest.mark.parametrize(
    ("exitcode", "how"),
    [
        (-9, "was killed by SIGKILL, perhaps because memory ran out"),
        (-250, "was killed by signal 250"),
        (1, "ended with exit code 1, and its own message is on stderr; if workers are spawned"),
    ],
)
def test_a_death_is_named(exitcode: int, how: str) -> None:
    """Which worker it was, its process, and how it ended."""
    (death,) = find_deaths(make_iterator(None, exitcode, 0))
    assert death.startswith(f"worker 1 of 3 (pid 101) {how}")


def test_the_living_and_the_done_are_no_deaths() -> None:
    """Exit code 0 is the end of a worker that has nothing left to read."""
    check_alive(make_iterator(None, 0))
    check_alive(None)


@pytest.mark.parametrize("error", [RuntimeError("queue"), KeyError("queue")])
def test_errors_of_pytorch_are_translated(error: Exception) -> None:
    """The error names the worker, and keeps what PyTorch said."""
    with pytest.raises(tl.WorkerError, match=r"worker 0 of 1 .* go on from") as caught:
        fail(error, make_iterator(-9))
    assert caught.value.__context__ is error


def test_other_errors_pass() -> None:
    """Where nobody died an error is what it is, and so is one that tells of something else."""
    with pytest.raises(RuntimeError, match="mine"):
        fail(RuntimeError("mine"), make_iterator(None))
    with pytest.raises(OSError, match="disk"):
        fail(OSError("disk"), make_iterator(-9))


def test_a_block_that_came_is_not_dropped() -> None:
    """A death is told by the next read, not by one that succeeded."""
    with translating_deaths(make_iterator(-9)):
        came = True
    assert came


def test_there_may_be_nothing_to_shut_down() -> None:
    """An iteration that did not begin has no workers."""
    shut_down(None)
