"""Other people's trainers, where they are installed: ``nox -s trainers``."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lightning")
pytest.importorskip("accelerate")

EXAMPLES = Path(__file__).parents[2] / "examples" / "trainers"


def run(*command: str) -> str:
    """Run a program of an example and return what it prints."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", *command],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def losses_of(printed: str) -> list[float]:
    """Return the mean losses that were printed."""
    return [float(value) for value in re.findall(r"mean loss ([0-9.]+)", printed)]


def test_lightning_moves_through_the_epochs() -> None:
    """Every batch is of the epoch that the trainer is in, all of them come, and the loss falls."""
    printed = run(str(EXAMPLES / "lightning_trainer.py"))
    assert ["0", "1", "2"] == re.findall(r"epoch (\d+): 23 batches", printed), printed
    losses = losses_of(printed)
    assert losses == sorted(losses, reverse=True)


_RESUMED = """
import sys
import lightning, torch
import tokenloom as tl
from torch.utils.data import DataLoader
sys.path.insert(0, sys.argv[1])
from lightning_trainer import LanguageModel, MoveEpoch

corpus = tl.Corpus.from_text("the time traveller " * 60)


def fit(num_epochs, num_workers=0, persistent=False, resumes=False):
    torch.manual_seed(0)
    windows = tl.RandomWindows(corpus, batch_size=8, seq_len=16, seed=0)
    model = LanguageModel(corpus.vocab_size)
    keep = lightning.pytorch.callbacks.ModelCheckpoint(dirpath=sys.argv[2], filename="last")
    trainer = lightning.Trainer(
        max_epochs=num_epochs, callbacks=[MoveEpoch(windows), keep], accelerator="cpu",
        logger=False, enable_progress_bar=False, enable_model_summary=False,
    )
    loader = DataLoader(
        windows, batch_size=None, num_workers=num_workers, persistent_workers=persistent
    )
    trainer.fit(model, loader, ckpt_path=f"{sys.argv[2]}/last.ckpt" if resumes else None)
    return {epoch: losses for epoch, losses in model.losses.items() if epoch > 1}


whole = fit(4)
for options in ((0, False), (2, False), (2, True)):
    for path in __import__("pathlib").Path(sys.argv[2]).glob("*.ckpt"):
        path.unlink()
    fit(2)
    assert whole == fit(4, *options, resumes=True), options
print("the same")
"""


def test_lightning_resumes_with_the_next_epoch(tmp_path: Path) -> None:
    """From its checkpoint come the epochs, with the losses, that an unbroken training has."""
    assert "the same" in run("-c", _RESUMED, str(EXAMPLES), str(tmp_path))


def test_accelerate_trains_the_same_on_two_processes() -> None:
    """Each reads half of every batch; the losses are those of one process."""
    script = str(EXAMPLES / "accelerate_ranks.py")
    one = run(script)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    two = run(*launch, script)
    assert "of 1 x 8 rows" in one
    assert "of 2 x 4 rows" in two
    assert losses_of(one) == pytest.approx(losses_of(two), abs=2e-3)
