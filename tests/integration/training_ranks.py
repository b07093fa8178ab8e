"""What each process of the tests of trainings on several ranks runs.

Usage: training_ranks.py FOLDER HOW [RANK PORT]; HOW is one of the functions below.
"""

import datetime as dt
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import tokenloom as tl
from tests.trainings import HELD_OUT, StoppedError, make_loader, make_model, stop_in_step

# Padded rows make the numbers of targets differ between ranks.
CASES: dict[str, dict[str, Any]] = {
    "padded": {"order": "random", "layer": "rnn", "tail": "pad"},
    "carried": {"order": "sequential", "layer": "lstm"},
    "accumulated": {
        "order": "sequential",
        "layer": "gru",
        "tail": "pad",
        "options": tl.TrainingOptions(batches_per_update=3),
    },
}
SPLIT = "carried"
STOP = 14


def train(run: Path, case: dict[str, Any], *, stop: int | None = None, **options: Any) -> None:
    """Train one of the cases, perhaps up to a step in which it fails."""
    model = make_model(case["layer"])
    if stop is not None:
        stop_in_step(model, stop)
    loader = make_loader(case["order"], tail=case.get("tail", "drop"))
    try:
        tl.train(
            model,
            loader,
            held_out=HELD_OUT,
            run=run,
            run_options=tl.RunOptions(checkpoint_steps=4, checkpoint_seconds=None),
            options=case.get("options"),
            device="cpu",
            **options,
        )
    except StoppedError:
        assert stop is not None


def compare(folder: Path) -> None:
    """Train every case; go on with what one process began, and begin what it goes on with."""
    for name, case in CASES.items():
        train(folder / "two" / name, case)
    train(folder / "one-two", CASES[SPLIT], resume=True)
    train(folder / "two-one", CASES[SPLIT], stop=STOP)
    train(folder / "two-two", CASES[SPLIT], stop=STOP)
    train(folder / "two-two", CASES[SPLIT], resume=True)


def refuse(folder: Path) -> None:
    """Begin a run where there is one, and tell what came of it."""
    try:
        tl.train(make_model(), make_loader(), run=folder, device="cpu")
    except tl.TokenloomError as error:
        told = f"{type(error).__name__}: {error}"
        (folder / f"{dist.get_rank()}.txt").write_text(told, encoding="utf-8")


def die(folder: Path) -> None:
    """Let the second rank be killed in the middle."""
    harm(folder, lambda: os.kill(os.getpid(), signal.SIGKILL))


def stall(folder: Path) -> None:
    """Let the second rank do nothing more in the middle."""
    harm(folder, lambda: time.sleep(60))


def harm(folder: Path, action: Any) -> None:
    """Train, and let something happen to the second rank; the first tells what it saw."""
    model = make_model()
    if dist.get_rank() == 1:
        steps: list[int] = []

        def count(*_: Any) -> None:
            steps.append(1)
            if len(steps) == 5:
                action()

        model.register_forward_pre_hook(count)
    try:
        tl.train(model, make_loader(), run=folder / "run", device="cpu")
    except tl.WorkerError as error:
        (folder / "error.txt").write_text(str(error), encoding="utf-8")
        # A group of which a member is gone cannot be left in order.
        os._exit(0)


def main() -> None:
    """Join the group, and run what the arguments say."""
    torch.set_num_threads(1)
    folder, how = Path(sys.argv[1]), sys.argv[2]
    timeout = dt.timedelta(seconds=5 if how == "stall" else 100)
    if len(sys.argv) > 3:
        rank, port = map(int, sys.argv[3:])
        method = f"tcp://127.0.0.1:{port}"
        dist.init_process_group(
            "gloo", init_method=method, rank=rank, world_size=2, timeout=timeout
        )
    else:
        dist.init_process_group("gloo", timeout=timeout)
    globals()[how](folder)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
