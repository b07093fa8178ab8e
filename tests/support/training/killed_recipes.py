"""Recipes of the pages, run as programs of their own, killed, and started again.

``python -m tests.support.training.killed_recipes STREAM KILL_AT CALL PROGRAM ...`` runs a program
as it is. CALL is the method of a model, such as ``tokenloom:RNNModel.read``.
What each call of a model reads is appended to the file STREAM, under torchrun to
one for each rank, and before call number KILL_AT (-1: never) the process kills
itself. At the end the digest of the last model's weights is appended.
"""

import functools
import hashlib
import importlib
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.loading.process_resources import end_rank

ROOT = Path(__file__).parents[3]
CALL = "tokenloom:RNNModel.read"


def digest(tensors: Sequence[Any]) -> str:
    """Return what tells tensors apart, bit by bit."""
    content = b"".join(tensor.detach().contiguous().numpy().tobytes() for tensor in tensors)
    return hashlib.sha256(content).hexdigest()


def main() -> None:
    """Run a program, record what its model reads, and kill it."""
    stream, kill_at, call, program, *arguments = sys.argv[1:]
    stream += os.environ.get("RANK", "")
    module, _, name = call.partition(":")
    kind, _, method = name.partition(".")
    model_class = getattr(importlib.import_module(module), kind)
    read, calls = getattr(model_class, method), 0
    models: list[Any] = []

    def recorded(model: Any, *given: Any, **named: Any) -> Any:
        nonlocal calls
        if calls == int(kill_at):
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 1
        models[:] = [model]
        with Path(stream).open("a", encoding="utf-8") as file:
            file.write(digest([next(iter((*given, *named.values())))]) + "\n")
        return read(model, *given, **named)

    setattr(model_class, method, functools.wraps(read)(recorded))
    sys.argv = [program, *arguments]
    runpy.run_path(program, run_name="__main__")
    with Path(stream).open("a", encoding="utf-8") as file:
        file.write(f"weights {digest(list(models[0].parameters()))}\n")
    if "RANK" in os.environ:
        end_rank()


def run(
    stream: Path, kill_at: int, command: Sequence[str], *, num_ranks: int = 1, call: str = CALL
) -> list[str]:
    """Run a program, killed before a call of its model, and return what was recorded."""
    streams = [Path(f"{stream}{rank}") for rank in range(num_ranks)] if num_ranks > 1 else [stream]
    for path in streams:
        path.unlink(missing_ok=True)
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_ranks}"]
    result = subprocess.run(
        [
            *(sys.executable, "-W", "ignore", *(launch if num_ranks > 1 else [])),
            *("-m", "tests.support.training.killed_recipes"),
            *(str(stream), str(kill_at), call, *command),
        ],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENLOOM_OFFLINE": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    # torchrun ends with 1 where a rank was killed.
    killed = -signal.SIGKILL if num_ranks == 1 else 1
    assert (killed if kill_at >= 0 else 0) == result.returncode, result.stderr
    lines = [path.read_text(encoding="utf-8").splitlines() for path in streams]
    return [" ".join(parts) for parts in zip(*lines, strict=False)]


def assert_survives(
    folder: Path,
    *command: str,
    again: Sequence[str] | None = None,
    kill_at: int,
    most_repeated: int,
    num_ranks: int = 1,
    call: str = CALL,
) -> None:
    """Check that a program that is killed, and started again, ends as one that was not.

    Parameters
    ----------
    folder : Path
        An empty one.
    command : str
        Path and arguments of the program; ``{}`` stands for a name of each run's own.
    again : sequence of str, optional
        Those of the second start, by default the same.
    kill_at : int
        The call of the model before which it is killed.
    most_repeated : int
        So many calls may be made again: those since the last checkpoint.
    num_ranks : int
        Processes that torchrun starts.
    call : str
        What a model does with each batch: its module, class and method.
    """

    def start(name: str, kill_at: int, command: Sequence[str] = command) -> list[str]:
        own = [part.replace("{}", str(folder / name)) for part in command]
        return run(folder / f"{name}.txt", kill_at, own, num_ranks=num_ranks, call=call)

    whole = start("whole", -1)
    first = start("killed", kill_at)
    rest = start("killed", -1, command if again is None else again)
    # A rank may be ended by torchrun before it comes to the call before which it kills itself.
    assert whole[: len(first)] == first
    assert kill_at - (num_ranks > 1) <= len(first) <= kill_at
    assert whole[-len(rest) :] == rest
    assert 0 <= kill_at + len(rest) - len(whole) <= most_repeated


if __name__ == "__main__":
    main()
