"""The integer that processes share, and its memory."""

import multiprocessing
import os
import pickle
from typing import Any

import pytest
import torch

from tests.support.loading.process_resources import left_since, needs_proc, take_census
from tokenloom.loading.shared_integer import SharedInteger, share_zeros


def is_shared(tensor: torch.Tensor) -> bool:
    """Return whether a tensor lies in shared memory; PyTorch leaves its own unannotated."""
    return bool(tensor.untyped_storage().is_shared())


def test_zeros_are_shared_and_on_the_cpu() -> None:
    """Whatever default device and mode the caller has set, they can be written to."""
    with torch.device("meta"), torch.inference_mode():
        tensor = share_zeros(2, 3, dtype=torch.int64)
    tensor[0, 1] = 7
    assert (True, "cpu") == (is_shared(tensor), tensor.device.type)
    assert [[0, 7, 0], [0, 0, 0]] == tensor.tolist()


def test_a_scalar_has_no_dimension() -> None:
    """No sizes give one number."""
    assert share_zeros(dtype=torch.int64).shape == ()


def set_and_wait(cell: SharedInteger, asked: Any, told: Any) -> None:
    """Say what the cell holds whenever asked, then set it."""
    for number in (1, 2):
        asked.wait()
        asked.clear()
        told.send(cell.value)
        cell.value = -number


@pytest.mark.parametrize(
    "start_method",
    ["fork", *(pytest.param(name, marks=pytest.mark.slow) for name in ("spawn", "forkserver"))],
)
def test_an_integer_is_shared_with_living_processes(start_method: str) -> None:
    """Whichever way they were started, and in both directions."""
    context: Any = multiprocessing.get_context(start_method)
    cell, asked = SharedInteger(3), context.Event()
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=set_and_wait, args=(cell, asked, send))
    process.start()
    asked.set()
    assert 3 == receive.recv()
    cell.value = 5
    asked.set()
    assert receive.recv() in (-1, 5)
    process.join()
    assert -2 == cell.value


def test_what_comes_out_of_a_plain_pickle_is_another_integer() -> None:
    """It has the same value, and few bytes, and is set by itself."""
    cell = SharedInteger(7)
    pickled = pickle.dumps(cell)
    copied = pickle.loads(pickled)  # noqa: S301  our own bytes
    copied.value += 1
    assert (7, 8) == (cell.value, copied.value)
    assert len(pickled) < 200


def test_it_can_be_set_in_inference_mode() -> None:
    """Whatever mode the caller has set as it is made and as it is changed."""
    with torch.inference_mode(), torch.device("meta"):
        cell = SharedInteger(1)
    cell.value = 2
    with torch.inference_mode():
        cell.value += 1
    assert 3 == cell.value


@needs_proc
def test_many_take_few_files_and_leave_nothing() -> None:
    """A process may have 1,024 open files, and more integers than that."""
    before = take_census()
    cells = [SharedInteger(number) for number in range(20_000)]
    assert take_census().num_files - before.num_files <= 4
    assert list(range(20_000)) == [cell.value for cell in cells]
    del cells
    assert {} == left_since(before)


def test_a_fork_makes_its_own() -> None:
    """What a child makes afterwards takes no place that this process gives out."""
    cell = SharedInteger(1)
    receive, send = multiprocessing.Pipe(duplex=False)
    child = os.fork()
    if child == 0:
        made = [SharedInteger(-1) for _ in range(3)]
        cell.value += 1
        send.send([one.value for one in made])
        os._exit(0)
    assert [-1] * 3 == receive.recv()
    os.waitpid(child, 0)
    made = [SharedInteger(number) for number in range(3)]
    assert [2, 0, 1, 2] == [one.value for one in (cell, *made)]
