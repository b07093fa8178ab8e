"""What the pages for those who come from elsewhere show: each program is killed, and resumes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

import tokenloom as tl
from tests.support.loading.process_resources import needs_proc
from tests.support.packages import require_package
from tests.support.training.killed_recipes import ROOT, assert_survives

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "examples" / "coming_from"


@needs_proc
@pytest.mark.parametrize(
    ("program", "words", "kill_at", "most_repeated"),
    [
        # Every 10 of 60 steps it measures 8 batches, and saves: call 50 is of step 26.
        ("nanogpt.py", [], 50, 8 + 10),
        ("map_style.py", [], 38, 10),
        # An epoch has 28 batches.
        ("token_shards.py", ["llm.c"], 45, 10),
        ("token_shards.py", ["megatron"], 45, 10),
    ],
)
def test_a_program_survives(
    tmp_path: Path, program: str, words: list[str], kill_at: int, most_repeated: int
) -> None:
    """It reads the batches to come, no other, and ends with the same weights."""
    command = [str(EXAMPLES / program), *words, "{}"]
    assert_survives(tmp_path, *command, kill_at=kill_at, most_repeated=most_repeated)


def _import_transformers() -> Any:
    for module in ("tokenizers", "datasets", "accelerate"):
        require_package(module)
    return require_package("transformers")


@needs_proc
def test_a_trainer_of_hugging_face_survives(tmp_path: Path) -> None:
    """With dropout, whose random numbers Trainer restores; the position comes from the Loader."""
    _import_transformers()
    call = "transformers:GPT2LMHeadModel.forward"
    command = [str(EXAMPLES / "huggingface.py"), "{}"]
    assert_survives(tmp_path, *command, kill_at=47, most_repeated=10, call=call)


def test_a_model_that_shifts_labels_learns_the_very_targets() -> None:
    """Its loss is that of the targets, also of a padded batch; with labels as given it is not."""
    transformers = _import_transformers()
    config = transformers.GPT2Config(
        vocab_size=28, n_embd=16, n_layer=1, n_head=2, bos_token_id=None, eos_token_id=None
    )
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config).eval()
    corpus = tl.load("python_docs", max_tokens=1_000)
    windows = tl.RandomWindows(corpus, batch_size=4, seq_len=32, tail="pad")
    batch = next(batch for batch in windows if not bool(batch.mask.all()))

    with torch.no_grad():
        logits = model(batch.inputs).logits
        expected = float(functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten()))
        shifted = float(model(**batch.as_dict(is_shifted=False)).loss)
        short = float(model(**batch).loss)
        twice = float(model(**batch.as_dict()).loss)
    assert shifted == pytest.approx(expected, abs=1e-6)
    assert shifted == short
    assert twice != pytest.approx(expected, abs=1e-4)


def test_programs_say_what_they_read() -> None:
    """Each runs from end to end without a folder."""
    words = [str(EXAMPLES / "token_shards.py"), "megatron"]
    result = subprocess.run(
        [sys.executable, *words], check=False, capture_output=True, text=True, timeout=600
    )
    assert (0, "3,600 tokens in 3 shards, loss") == (result.returncode, result.stdout[:30])
