"""A program of its own, whose children train and are killed.

Pytest must neither be killed nor forked, so a test runs ``python -m
tests.support.training.killed_trainings FOLDER SEED`` and reads the JSON value that it prints.
"""

import importlib
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import tokenloom as tl
from tests.support.training.trainings import (
    HELD_OUT,
    LAYERS,
    ORDERS,
    make_loader,
    make_model,
    outcome_of,
)
from tokenloom._io import atomic
from tokenloom.training import checkpoint, loop, meter, metrics, optimizer, resume, state
from tokenloom.training import run as run_module

ROOMS = {
    room.__name__
    for room in (atomic, checkpoint, loop, meter, metrics, optimizer, resume, run_module, state)
}
# The whole training runs more lines of these rooms.
MAX_LINES = 1000
MAX_KILLS, SECONDS = 6, 0.25


def train(run: Path, layer: str, order: str, *, num_workers: int) -> None:
    """Train a small model, from where the run stands."""
    tl.train(
        make_model(layer, num_layers=2, dropout=0.25),
        make_loader(order, num_workers=num_workers),
        held_out=HELD_OUT,
        run=run,
        resume=True,
        run_options=tl.RunOptions(checkpoint_steps=2),
        device="cpu",
    )


def start(work: Callable[[], object]) -> int:
    """Run a function in a child, and return the child's id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except Exception:  # noqa: BLE001  whatever it is, the test shows it
        traceback.print_exc()
    finally:
        os._exit(code)


def finish(child: int) -> int:
    """Return a child's exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_before(line: int) -> None:
    """Let this process be killed before the line of this number that our rooms run."""
    count = 0

    def step(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if frame.f_globals.get("__name__") not in ROOMS:
            return None
        count += event == "line"
        if count >= line:
            os.kill(os.getpid(), signal.SIGKILL)
        return step

    sys.settrace(step)


def kill_until_done(run: Path, case: tuple[str, str], generator: random.Random) -> int:
    """Train in children that are killed at random, until one of them ends; count the kills.

    The first two are killed before some line of our rooms, since files are
    written there, and the others at some time.
    """
    kills = 0
    while True:
        line = generator.randint(1, MAX_LINES) if kills < 2 else None

        def work(line: int | None = line, piece: int = kills) -> None:
            if line is not None:
                kill_before(line)
            train(run, *case, num_workers=piece % 2)

        child = start(work)
        if line is None and kills < MAX_KILLS:
            time.sleep(generator.uniform(0, SECONDS))
            os.kill(child, signal.SIGKILL)
        code = finish(child)
        if code == 0:
            return kills
        assert code == -signal.SIGKILL, code
        kills += 1


def main() -> None:
    """Compare trainings that were killed with one that was not."""
    folder, generator = Path(sys.argv[1]), random.Random(int(sys.argv[2]))  # noqa: S311
    # Pictures would take most of the time.
    vars(meter).update(plot_perplexity=lambda _: None, save_figure=lambda *_: None)
    torch.set_num_threads(1)
    # The optimisers import it when they are first used, which takes each child a second.
    importlib.import_module("torch._dynamo")
    found = {}
    for layer in LAYERS:
        for order in ORDERS:
            whole, killed = folder / f"{layer}-{order}", folder / f"{layer}-{order}-killed"
            assert 0 == finish(start(lambda: train(whole, layer, order, num_workers=0)))  # noqa: B023
            kills = kill_until_done(killed, (layer, order), generator)
            found[killed.name] = [kills, outcome_of(whole) == outcome_of(killed)]
    print(json.dumps(found))  # noqa: T201  it is a program


if __name__ == "__main__":
    main()
