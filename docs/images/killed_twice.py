"""Draw the picture of the README: a training that is killed twice, next to one that is not.

python docs/images/killed_twice.py

It takes a minute or two, and needs matplotlib and a system with SIGKILL.
"""

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

import tokenloom as tl

TRAIN = ["-m", "tokenloom", "train"]
TWO_RANKS = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
SETTINGS = [
    *("python_docs", "--max-tokens", "60000", "--held-out", "0", "--order", "random"),
    *("--model", "gru", "--hidden", "128", "--optimizer", "adamw", "--lr", "0.003"),
    *("--epochs", "12", "--device", "cpu", "--quiet"),
]
KILL_AFTER, SAVE_EVERY = (210, 430), 10
COLORS = ("tab:orange", "tab:green", "tab:purple")
PARTS = ("1 process, 4 workers", "2 ranks, 1 worker each", "1 process, no workers")


def newest_step(run: Path) -> int:
    """Return the step of a run's newest checkpoint, 0 without one."""
    steps = [int(path.stem.split("-")[1]) for path in run.glob("checkpoints/step-*-*.pt")]
    return max(steps, default=0)


def start(*arguments: str) -> "subprocess.Popen[bytes]":
    """Start a training in a process of its own."""
    return subprocess.Popen([sys.executable, *arguments], start_new_session=True)


def kill_after(process: "subprocess.Popen[bytes]", run: Path, step: int) -> int:
    """Kill a training without a warning once a checkpoint of that step is there."""
    while newest_step(run) < step:
        if process.poll() is not None:
            sys.exit(f"the training ended before step {step}, with {process.returncode}")
        time.sleep(0.01)
    kept = newest_step(run)
    kill_all(process)
    return kept


def kill_all(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process with its ranks, which torchrun puts into groups of their own."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("utf-8").split()
    for pid in [process.pid, *map(int, children)]:
        os.kill(pid, signal.SIGKILL)
    process.wait()


def train_both(folder: Path) -> tuple[list[float], list[float], list[int]]:
    """Return the losses of the whole training and of the killed one, and where it was killed."""
    whole, killed = folder / "whole", folder / "killed"
    if start(*TRAIN, *SETTINGS, "--run", str(whole)).wait():
        sys.exit("the training failed")
    often = ["--checkpoint-steps", str(SAVE_EVERY)]
    first = start(*TRAIN, *SETTINGS, *often, "--run", str(killed), "--workers", "4")
    kills = [kill_after(first, killed, KILL_AFTER[0])]
    resume = [*TRAIN, "--resume", str(killed), "--quiet", "--workers"]
    second = start(*TWO_RANKS, *resume, "1")
    kills.append(kill_after(second, killed, KILL_AFTER[1]))
    if start(*resume, "0").wait():
        sys.exit("the killed training did not resume")
    losses = [
        [loss for epoch in tl.Run.open(run).losses() for loss in epoch.losses]
        for run in (whole, killed)
    ]
    return losses[0], losses[1], kills


def draw(whole: list[float], killed: list[float], kills: list[int]) -> Figure:
    """Draw both curves on each other, and their difference below."""
    figure = Figure(figsize=(8.0, 4.6), layout="constrained", facecolor="white")
    panels: Any = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    curves, difference = panels
    steps = range(1, len(whole) + 1)
    curves.plot(steps, whole, color="0.6", linewidth=3.5, label="never killed")
    bounds = [0, *kills, len(killed)]
    for number, (first, last) in enumerate(itertools.pairwise(bounds)):
        begin = max(first - 1, 0)
        part = (range(begin + 1, last + 1), killed[begin:last])
        label = f"killed twice: {PARTS[number]}"
        curves.plot(*part, color=COLORS[number], linewidth=1.0, label=label)
    for step, words in zip(kills, ("resumed on 2 ranks", "resumed on 1"), strict=True):
        mark(curves, step, f"kill -9, {words} ")
        difference.axvline(step, color="tab:red", linestyle="--", linewidth=1)
    gaps = [one - other for one, other in zip(killed, whole, strict=True)]
    difference.plot(steps, gaps, color="black", linewidth=1)
    most = max(map(abs, gaps))
    difference.set_ylim(-3e-6, 3e-6)
    difference.ticklabel_format(axis="y", scilimits=(0, 0))
    note(difference, 0.01, "bit by bit the same")
    note(difference, 0.34, "two ranks round their sums otherwise")
    difference.set_ylabel("difference")
    difference.set_xlabel("step")
    curves.set_ylabel("loss, nats per character")
    curves.set_title("One training, killed twice, resumed on other workers and ranks")
    curves.legend(loc="upper right", framealpha=1)
    for axes in panels:
        axes.grid(visible=True, alpha=0.3)
        axes.margins(x=0.01)
    print(f"killed after steps {kills}; the largest difference is {most:.1e} nats")
    print(f"no difference at all up to step {next((i for i, gap in enumerate(gaps) if gap), -1)}")
    return figure


def mark(axes: Axes, step: int, words: str) -> None:
    """Mark a kill."""
    axes.axvline(step, color="tab:red", linestyle="--", linewidth=1)
    place = axes.get_xaxis_transform()
    axes.text(step, 0.03, words, color="tab:red", ha="right", va="bottom", transform=place)


def note(axes: Axes, start: float, words: str) -> None:
    """Write a few words into a panel, from a fraction of its width on."""
    axes.text(start, 0.93, words, va="top", fontsize=8, transform=axes.transAxes)


def main() -> None:
    """Train, kill, resume, draw."""
    with tempfile.TemporaryDirectory() as folder:
        losses = train_both(Path(folder))
    draw(*losses).savefig(Path(__file__).with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    main()
