"""What is measured of a system: speed, waiting, starting, resuming, memory.

Each function runs in a process of its own, see `processes`.
"""

import hashlib
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import tokenloom as tl
from peers import PEERS
from systems import SYSTEMS, Batches, MixedTask, Task, make_windows
from tokenloom._io.digest import WHOLE_BYTES
from tokenloom.inspection.benchmark import count_batches, measure_wait

ALL = {**SYSTEMS, **PEERS}
_MAX_WARM_BYTES = 4 << 30
_MEGABYTE = 1 << 20


def prepare(slug: str, task: Task) -> None:
    """Write a system's own files."""
    write = ALL[slug].prepare
    task.folder.mkdir(parents=True)
    if write is not None:
        write(task)


def measure_speed(slug: str, task: Task, seconds: float) -> tuple[float, float]:
    """Return tokens per second, and seconds to the first batch."""
    _read_files(task)
    return _time_batches(ALL[slug].batches, task, seconds)


def measure_mixture(
    batches: Callable[[MixedTask], Batches], mixed: MixedTask, seconds: float
) -> tuple[float, float]:
    """Return tokens per second of a mixture, and seconds to the first batch."""
    for part in mixed.parts:
        _read_files(part)
    return _time_batches(batches, mixed, seconds)


def _time_batches(load: Callable[[Any], Batches], task: Any, seconds: float) -> tuple[float, float]:
    first, batches = _start(load, task)
    # One look at the clock for several batches, which may take 5 us each.
    count_batches(batches, seconds / 3, use=_unpack, num_at_once=16)
    num_batches, elapsed = count_batches(batches, seconds, use=_unpack, num_at_once=16)
    return num_batches * task.batch_size * task.seq_len / elapsed, first


def measure_first(slug: str, task: Task) -> float:
    """Return seconds from a file of tokens to the first batch."""
    _read_files(task)
    return _start(ALL[slug].batches, task)[0]


def measure_step(slug: str, task: Task, step_seconds: float, num_steps: int) -> tuple[float, float]:
    """Return what each batch costs a loop whose step is busy for some time.

    Returns
    -------
    tuple of float
        Seconds per batch beyond the step, and how many of them this process
        computed instead of waiting.
    """
    _read_files(task)
    _, batches = _start(ALL[slug].batches, task)
    return measure_wait(
        batches, num_steps=num_steps, step_seconds=step_seconds, use=_unpack, compute=_spin
    )


def measure_resume(slug: str, task: Task) -> tuple[float, float, float, float]:
    """Return seconds to a Loader's first batch: of the epoch, and resumed at its middle.

    The third is resumed over a corpus whose hash is known, as a store's is. The
    fourth is what as many bytes take to be hashed as prove a long array.
    """
    order = ALL[slug].order
    loader = tl.Loader(make_windows(task, order))
    state = {**loader.state_dict(), "next_batch": len(loader) // 2}

    def start(*, resumes: bool, knows_hash: bool) -> float:
        windows = make_windows(task, order)
        if knows_hash:
            windows.corpus.hash  # noqa: B018  computed once, and kept
        began_at = time.perf_counter()
        loader = tl.Loader(windows, num_workers=task.num_workers)
        if resumes:
            loader.load_state_dict(state)
        _inputs, _targets = next(iter(loader))
        return time.perf_counter() - began_at

    def hash_bytes() -> float:
        content = bytes(WHOLE_BYTES)
        began_at = time.perf_counter()
        hashlib.sha256(content)
        return time.perf_counter() - began_at

    _read_files(task)
    return (
        start(resumes=False, knows_hash=False),
        start(resumes=True, knows_hash=False),
        start(resumes=True, knows_hash=True),
        hash_bytes(),
    )


def measure_memory(slug: str, task: Task, num_batches: int) -> tuple[float, float]:
    """Return megabytes that this process and its workers hold, without and with file pages.

    Proportional set size: what several processes share counts once.
    """
    _, batches = _start(ALL[slug].batches, task)
    for _inputs, _targets in itertools.islice(batches, num_batches):
        pass
    return _held_memory()


def measure_growth(slug: str, task: Task, num_epochs: int) -> float:
    """Return by how many megabytes a Loader's processes grow after the first epoch."""
    windows = make_windows(task, ALL[slug].order)
    loader = tl.Loader(windows, num_workers=task.num_workers, num_epochs=None)
    batches = iter(loader)
    num_batches = len(windows)
    held = []
    for _ in range(num_epochs):
        for _inputs, _targets in itertools.islice(batches, num_batches):
            pass
        held.append(_held_memory()[0])
    return held[-1] - held[0]


def can_measure_memory() -> bool:
    """Return whether the system says what its processes hold: Linux does."""
    return Path("/proc/self/smaps_rollup").exists()


def _start(load: Callable[[Any], Batches], task: Task | MixedTask) -> tuple[float, Batches]:
    began_at = time.perf_counter()
    batches = load(task)
    inputs, targets = next(batches)
    seconds = time.perf_counter() - began_at
    _check(inputs, targets, task)
    return seconds, batches


def _check(inputs: torch.Tensor, targets: torch.Tensor, task: Task | MixedTask) -> None:
    shape = task.batch_size, task.seq_len
    for tensor in (inputs, targets):
        if tuple(tensor.shape) != shape or tensor.dtype != torch.int64:
            msg = f"expected int64 {shape}, got {tensor.dtype} {tuple(tensor.shape)}"
            raise TypeError(msg)
    if not torch.equal(inputs[:, 1:], targets[:, :-1]):
        msg = "the targets are not the inputs moved on by one"
        raise ValueError(msg)


def _unpack(batch: Any) -> None:
    """Make the tensors of a batch."""
    _inputs, _targets = batch


def _spin(until: float) -> None:
    """Compute in Python, whose lock a step holds."""
    while time.perf_counter() < until:
        pass


def _read_files(task: Task) -> None:
    """Bring the files back into memory: some systems drop pages that nobody reads."""
    for path in (task.path, *task.folder.rglob("*")):
        if path.is_file() and path.stat().st_size < _MAX_WARM_BYTES:
            with path.open("rb", buffering=0) as file:
                while file.read(_MEGABYTE):
                    pass


def _held_memory() -> tuple[float, float]:
    """Return megabytes of this process and its descendants, without and with file pages."""
    total = {"Pss_Anon": 0, "Pss_Shmem": 0, "Pss_File": 0}
    for pid in _tree(os.getpid()):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        for name, _, value in (line.partition(":") for line in lines):
            if name in total:
                total[name] += int(value.split()[0])
    own = total["Pss_Anon"] + total["Pss_Shmem"]
    return own / 1024, (own + total["Pss_File"]) / 1024


def _tree(root: int) -> list[int]:
    parents: dict[int, Any] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name of the program, in brackets, may hold blanks.
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(path.parent.name)] = int(fields[1])
    tree = [root]
    for pid in tree:
        tree.extend(child for child, parent in parents.items() if parent == pid)
    return tree
