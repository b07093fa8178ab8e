"""Other people's trainers, killed and resumed; ``nox -s trainers`` runs only these."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.loading.process_resources import needs_proc
from tests.support.packages import require_package
from tests.support.training.killed_recipes import CALL, ROOT, assert_survives

require_package("lightning")
require_package("accelerate")

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples" / "trainers"


def run(*command: str) -> str:
    """Run a program of an example and return what it prints."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", *command],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def losses_of(printed: str) -> list[float]:
    """Return the mean losses that were printed."""
    return [float(value) for value in re.findall(r"mean loss ([0-9.]+)", printed)]


@needs_proc
@pytest.mark.parametrize(
    ("program", "kill_at", "most_repeated"),
    [
        # An epoch has 23 batches; there is a checkpoint after every five steps.
        ("lightning_trainer.py", 38, 5),
        # At the end of each epoch.
        ("lightning_dataloader.py", 38, 23),
        ("accelerate_ranks.py", 38, 5),
    ],
)
def test_a_recipe_survives(tmp_path: Path, program: str, kill_at: int, most_repeated: int) -> None:
    """Killed in mid-epoch and started again: the batches to come, and the weights, are the same."""
    assert_survives(
        tmp_path, str(EXAMPLES / program), "{}", kill_at=kill_at, most_repeated=most_repeated
    )


@needs_proc
def test_accelerate_survives_on_two_processes(tmp_path: Path) -> None:
    """Each process reads its rows of the batches to come."""
    program = str(EXAMPLES / "accelerate_ranks.py")
    assert_survives(tmp_path, program, "{}", kill_at=38, most_repeated=5, num_ranks=2)


_LIGHTNING = """
import sys
import lightning, torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader
import tokenloom as tl
sys.path.insert(0, sys.argv[1])
from lightning_trainer import KeepPosition, LanguageModel
from lightning_dataloader import LanguageModel as Plain, MoveEpoch

corpus = tl.Corpus.from_text("the time traveller " * 60)


def fit(folder, is_plain=False, resumes=False, max_steps=-1, validates=False, **keep):
    torch.manual_seed(0)
    windows = tl.RandomWindows(corpus, batch_size=8, seq_len=16, seed=0)
    loader = DataLoader(windows, batch_size=None) if is_plain else tl.Loader(windows)
    moves = MoveEpoch(windows) if is_plain else KeepPosition(loader)
    model = (Plain if is_plain else LanguageModel)(corpus.vocab_size)
    if validates:
        model.validation_step = lambda batch, batch_idx: None
    read, step = [], model.training_step

    def training_step(batch, batch_idx):
        read.append((batch.epoch, batch.index))
        return step(batch, batch_idx)

    model.training_step = training_step
    trainer = lightning.Trainer(
        max_epochs=4, max_steps=max_steps, accelerator="cpu", logger=False,
        callbacks=[moves, ModelCheckpoint(folder, save_last=True, **keep)],
        enable_progress_bar=False, enable_model_summary=False,
    )
    held_out = DataLoader(windows, batch_size=None) if validates else None
    trainer.fit(model, loader, held_out, ckpt_path=f"{folder}/last.ckpt" if resumes else None)
    return read


folder, num_batches = sys.argv[2], 8
whole = [(epoch, index) for epoch in range(4) for index in range(num_batches)]
assert whole == fit(f"{folder}/whole"), "whole"
"""


@pytest.mark.parametrize(
    ("when", "max_steps", "keep"),
    [
        ("the end of an epoch, where Lightning saves by itself", 16, {}),
        ("the end of an epoch, by its steps", 16, {"every_n_train_steps": 8}),
        ("the middle of an epoch", 13, {"every_n_train_steps": 13}),
        ("a validation at the end of an epoch", 16, {}),
    ],
)
def test_lightning_resumes_from(
    tmp_path: Path, when: str, max_steps: int, keep: dict[str, int]
) -> None:
    """Whenever its checkpoint was saved, the batches that follow are those that were to come."""
    validates = "validation" in when
    program = f"""
assert whole[:{max_steps}] == fit(
    folder, max_steps={max_steps}, validates={validates}, **{keep}
), "first"
assert whole[{max_steps}:] == fit(folder, resumes=True, validates={validates}, **{keep}), "rest"
print("the same")
"""
    assert "the same" in run("-c", _LIGHTNING + program, str(EXAMPLES), str(tmp_path))


def test_lightning_with_a_plain_loader_is_refused_in_mid_epoch(tmp_path: Path) -> None:
    """It would replay the first batches and skip the last, so the recipe refuses it."""
    program = """
fit(folder, is_plain=True, max_steps=13, every_n_train_steps=13)
try:
    fit(folder, is_plain=True, resumes=True)
except ValueError as error:
    print(error)
"""
    said = run("-c", _LIGHTNING + program, str(EXAMPLES), str(tmp_path))
    assert "saved in the middle of an epoch: use tl.Loader" in said


def test_accelerate_trains_the_same_on_two_processes(tmp_path: Path) -> None:
    """Each reads half of every batch; the losses are those of one process."""
    script = str(EXAMPLES / "accelerate_ranks.py")
    one = run(script)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    to_its_end = [
        "-m",
        "tests.support.training.killed_recipes",
        str(tmp_path / "stream"),
        "-1",
        CALL,
    ]
    two = run(*launch, *to_its_end, script)
    assert "of 1 x 8 rows" in one
    assert "of 2 x 4 rows" in two
    assert losses_of(one) == pytest.approx(losses_of(two), abs=2e-3)
