"""Trainings on several ranks: real processes, which share the rows of each batch."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tokenloom as tl
from tests.support.training.training_ranks import CASES, DIFFERENT, SPLIT, STOP, train
from tokenloom.cli.main import main

SCRIPT = Path(__file__).parents[2] / "support/training/training_ranks.py"
ROOT = SCRIPT.parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
TORCHRUN = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
SECONDS = 240
SHAPE = ["--hidden", "16", "--batch-size", "8", "--seq-len", "10", "--device", "cpu"]
BOOK = "the time traveller for so it will be convenient to speak of him " * 60

# The command, which also tells how many tokens this process predicted.
COUNTING = """
import sys
from tokenloom import __main__
from tokenloom.model import evaluation

def count(*arguments, add=evaluation._add_losses, **options):
    total = add(*arguments, **options)
    sys.stderr.write(f"predicted {int(total[1])}\\n")
    return total

evaluation._add_losses = count
sys.exit(__main__.main())
"""

# A group ends while its thread frees what an averaged gradient left, which needs Python's lock.
ENDING = """
import faulthandler, sys, threading, time
import torch
import torch.distributed.nn  # imported later, it would keep the group for ever
from torch import distributed
from tokenloom.loading.distributed import Ranks

faulthandler.dump_traceback_later(200, exit=True)
distributed.init_process_group("gloo", init_method=sys.argv[1], rank=0, world_size=1)
module = Ranks(rank=0, world_size=2).wrap(torch.nn.Linear(2, 2))
is_freed_by_gloo = threading.Event()

class Left:
    def __del__(self):
        if threading.current_thread() is not threading.main_thread():
            is_freed_by_gloo.set()
            time.sleep(0.5)

while not is_freed_by_gloo.is_set():
    torch._C._stash_obj_in_tls("context", Left())  # as each backward does
    distributed.all_reduce(torch.zeros(3), async_op=True)
    torch._C._remove_obj_from_tls("context")
    is_freed_by_gloo.wait(0.01)
distributed.destroy_process_group()
del module
print("freed")
"""

# The command, whose second rank is killed in its thirtieth step, but not once it was restarted.
KILLED = """
import os, signal, sys
from tokenloom import __main__
from tokenloom.training.optimizer import ScheduledOptimizer

num_steps, step = 0, ScheduledOptimizer.step
place = os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]

def killed(*arguments, **options):
    global num_steps
    num_steps += 1
    if num_steps == 30 and place == ("1", "0"):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*arguments, **options)

ScheduledOptimizer.step = killed
sys.exit(__main__.main())
"""

# The command, with the rank's number in the place of braces.
DIFFERING = """
import os, sys
from tokenloom import __main__

sys.argv = [word.format(os.environ["RANK"]) for word in sys.argv]
sys.exit(__main__.main())
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which one process and two trained the same."""
    folder = tmp_path_factory.mktemp("runs")
    for name, case in CASES.items():
        train(folder / "one" / name, case)
    train(folder / "one-two", CASES[SPLIT], stop=STOP)
    command = [*TORCHRUN, "--nproc-per-node=2", str(SCRIPT), str(folder), "compare"]
    result = subprocess.run(
        command, env=ENVIRONMENT, check=False, capture_output=True, text=True, timeout=SECONDS
    )
    assert result.returncode == 0, result.stderr
    train(folder / "two-one", CASES[SPLIT], resume=True)
    return folder


def losses_of(run: Path) -> list[float]:
    """Return the loss of each step."""
    return [loss for part in tl.Run.open(run).losses() for loss in part.losses]


def perplexities_of(run: Path) -> list[float]:
    """Return both perplexities of each epoch."""
    return [
        value or 0.0
        for entry in tl.Run.open(run).metrics()
        for value in (entry.perplexity, entry.held_out_perplexity)
    ]


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_train_like_one(case: str, runs: Path) -> None:
    """Losses and perplexities agree, also where padding makes the ranks' shares unequal."""
    one, two = runs / "one" / case, runs / "two" / case
    np.testing.assert_allclose(losses_of(one), losses_of(two), rtol=1e-4)
    np.testing.assert_allclose(perplexities_of(one), perplexities_of(two), rtol=1e-4)


@pytest.mark.parametrize("run", ["one-two", "two-one", "two-two"])
def test_another_number_of_ranks_goes_on(run: str, runs: Path) -> None:
    """What one began two finish, and the other way round: the same batches, the same losses."""
    whole = runs / "one" / SPLIT
    np.testing.assert_allclose(losses_of(whole), losses_of(runs / run), rtol=1e-4)
    first, second = (tl.Run.open(path).load_checkpoint() for path in (whole, runs / run))
    assert first is not None
    assert second is not None
    assert first.training is not None
    assert second.training is not None
    assert first.training["position"] == second.training["position"]
    for mine, other in zip(first.training["hidden"], second.training["hidden"], strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4)


def test_the_same_number_of_ranks_goes_on_exactly(runs: Path) -> None:
    """Two ranks that resume end with the weights of two that were not broken off."""
    models = [tl.Run.open(runs / name).load_model() for name in (f"two/{SPLIT}", "two-two")]
    for mine, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(mine, other)


def test_only_the_settings_of_the_whole_batch_are_told(runs: Path) -> None:
    """A run of two ranks is trained on all rows, as one of one is."""
    settings = [tl.Run.open(runs / name / SPLIT).settings for name in ("one", "two")]
    for each in settings:
        del each["num_threads"], each["run_id"]
    assert settings[0] == settings[1]


def test_every_rank_raises_what_the_first_refuses(tmp_path: Path) -> None:
    """In a program of one's own, too, the reason is not that another rank was lost."""
    (tmp_path / "file").touch()
    command = [*TORCHRUN, "--nproc-per-node=2", str(SCRIPT), str(tmp_path), "refuse"]
    result = subprocess.run(
        command, env=ENVIRONMENT, check=False, capture_output=True, text=True, timeout=SECONDS
    )
    assert result.returncode == 0, result.stderr
    first, second = ((tmp_path / f"{rank}.txt").read_text(encoding="utf-8") for rank in range(2))
    assert first == second
    assert first.startswith("RunError: the run's folder must be new or empty")


def test_ranks_that_differ_are_refused(tmp_path: Path) -> None:
    """Both of them name what differs, with both values, before anything is written."""
    command = [*TORCHRUN, "--nproc-per-node=2", str(SCRIPT), str(tmp_path), "differ"]
    result = subprocess.run(
        command, env=ENVIRONMENT, check=False, capture_output=True, text=True, timeout=SECONDS
    )
    assert result.returncode == 0, result.stderr
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert list(DIFFERENT) == list(first)
    assert first == second
    assert {} == {
        name: first[name] for name, (_, part) in DIFFERENT.items() if part not in first[name]
    }
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("how", ["die", "stall"])
def test_a_rank_that_is_gone_ends_the_training(how: str, tmp_path: Path) -> None:
    """The other one says so, in bounded time, and a checkpoint is there to go on from."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", str(SCRIPT), str(tmp_path), how, str(rank)],
            env=ENVIRONMENT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        _, messages = processes[0].communicate(timeout=SECONDS)
        assert processes[0].returncode == 0, messages
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    message = (tmp_path / "error.txt").read_text(encoding="utf-8")
    assert "rank 0 of 2 waited for another rank, which died or does not answer" in message
    assert "resume from the last checkpoint" in message
    assert tl.Run.open(tmp_path / "run").has_checkpoint


def test_torchrun_restarts_a_training_where_it_was(tmp_path: Path) -> None:
    """A killed rank ends all of them; the next ones resume, and print one bar and one result."""
    book, program, run = tmp_path / "book.txt", tmp_path / "killed.py", tmp_path / "run"
    book.write_text(BOOK, encoding="utf-8")
    program.write_text(KILLED, encoding="utf-8")
    command = [*TORCHRUN, "--nproc-per-node=2", "--max-restarts=1", str(program)]
    arguments = ["train", str(book), *SHAPE, "--epochs", "2", "--checkpoint-steps", "5"]
    result = subprocess.run(
        [*command, *arguments, "--run-dir", str(run), "--json"],
        env=ENVIRONMENT,
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert result.returncode == 0, result.stderr
    facts: dict[str, Any] = json.loads(result.stdout)
    assert (2, str(run)) == (facts["num_epochs"], facts["run"])
    assert 2 == result.stderr.count("training on"), result.stderr
    losses = losses_of(run)
    assert len(losses) == tl.Run.open(run).metrics()[-1].step > 30


def test_torchrun_divides_an_evaluation(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two processes predict a half each, and print once what one process prints."""
    book, program = tmp_path / "book.txt", tmp_path / "counting.py"
    book.write_text(BOOK, encoding="utf-8")
    program.write_text(COUNTING, encoding="utf-8")
    run = str(runs / "one" / SPLIT)
    arguments = ["evaluate", run, str(book), "--device", "cpu", "--batch-size", "8", "--json"]
    assert main(arguments) == 0
    expected = json.loads(capsys.readouterr().out)
    result = subprocess.run(
        [*TORCHRUN, "--nproc-per-node=2", str(program), *arguments],
        env=ENVIRONMENT,
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert expected["nats_per_token"] == pytest.approx(found["nats_per_token"], rel=1e-6)
    assert expected["num_characters"] == found["num_characters"]
    parts = [int(line.split()[1]) for line in result.stderr.splitlines() if "predicted" in line]
    assert (2, expected["num_tokens"]) == (len(parts), sum(parts))
    assert abs(parts[0] - parts[1]) < len(BOOK) / 8


@pytest.mark.parametrize(
    ("book", "folder", "message"),
    [
        ("book-0.txt", "old", "the run's folder must be new or empty"),
        ("nowhere.txt", "new", "a corpus must be one of"),
        ("book-{}.txt", "new", "a corpus must be one of"),
        ("book-0.txt", "odd", "world_size must divide --batch-size 3, got 2"),
    ],
    ids=["first", "all", "second", "batch"],
)
def test_what_ranks_refuse_is_told_once(
    book: str, folder: str, message: str, tmp_path: Path
) -> None:
    """Whichever of them does: no other says that it was left alone, and one of them warns."""
    program = tmp_path / "differing.py"
    program.write_text(DIFFERING, encoding="utf-8")
    (tmp_path / "book-0.txt").write_text(BOOK, encoding="utf-8")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").touch()
    arguments = ["train", str(tmp_path / book), "--run-dir", str(tmp_path / folder), *SHAPE]
    arguments += ["--batch-size", "3"] if folder == "odd" else ["--bidirectional"]
    result = subprocess.run(
        [*TORCHRUN, "--nproc-per-node=2", str(program), *arguments],
        env=ENVIRONMENT,
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    said = [line for line in result.stderr.splitlines() if line.startswith("tokenloom: ")]
    (error,) = (line for line in said if "error" in line)
    assert error.startswith(f"tokenloom: error: {message}")
    assert said.count(error) == 1
    assert sum("two directions" in line for line in said) == (folder == "old")
    assert result.returncode == 1


def test_a_model_is_freed_after_its_group(tmp_path: Path) -> None:
    """After an error a traceback keeps the model; PyTorch alone would wait for ever there."""
    command = [sys.executable, "-W", "ignore", "-c", ENDING, f"file://{tmp_path}/store"]
    result = subprocess.run(
        command, env=ENVIRONMENT, check=False, capture_output=True, text=True, timeout=SECONDS
    )
    assert (0, "freed\n") == (result.returncode, result.stdout), result.stderr
