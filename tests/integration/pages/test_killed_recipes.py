"""What the pages promise to survive a kill: each recipe is killed, and ends bit by bit the same."""

from pathlib import Path

import pytest

from tests.support.loading.process_resources import needs_proc
from tests.support.training.killed_recipes import ROOT, assert_survives, run

pytestmark = [needs_proc, pytest.mark.slow]

EXAMPLES = ROOT / "examples"
_BEGIN = """
import json, os, sys
from pathlib import Path
import torch
from torch.utils.data import DataLoader
import tokenloom as tl

path = Path(sys.argv[1])
torch.manual_seed(0)
corpus = tl.load("python_docs", max_tokens=2_000)
windows = tl.RandomWindows(corpus, batch_size=4, seq_len=16, seed=0)
model = tl.RNNModel(torch.nn.GRU(corpus.vocab_size, 8), corpus.vocab_size)

def save(value):
    unfinished = path.with_name(path.name + ".unfinished")
    torch.save(value, unfinished)
    os.replace(unfinished, path)

saved = torch.load(path) if path.is_file() else None
"""
# README, docs/howto/resume.md, docs/howto/workers.md, examples 04 and 08.
_LOADER = """
loader = tl.Loader(windows, num_workers={workers}, num_epochs=2)
if saved:
    loader.load_state_dict(json.loads(saved))
for batch in loader:
    model(batch.inputs)
    if batch.index % 3 == 2:
        save(json.dumps(loader.state_dict()))
"""
# docs/howto/dataloader.md.
_STATEFUL = """
from torchdata.stateful_dataloader import StatefulDataLoader
loader = StatefulDataLoader(windows, batch_size=None, num_workers={workers})
first = 0
if saved:
    first = saved["epoch"]
    loader.load_state_dict(saved["loader"])
for epoch in range(first, 2):
    windows.set_epoch(epoch)
    for batch in loader:
        model(batch.inputs)
        if batch.index % 3 == 2:
            save({{"epoch": epoch, "loader": loader.state_dict()}})
"""
# docs/howto/dataloader.md, at starts of epochs only.
_PLAIN = """
loader = DataLoader(windows, batch_size=None, num_workers={workers})
for epoch in range(saved or 0, 2):
    windows.set_epoch(epoch)
    for batch in loader:
        model(batch.inputs)
    save(epoch + 1)
"""
# docs/howto/long-training.md.
_TRAIN = """
windows = tl.SequentialWindows(corpus, batch_size=4, seq_len=16, seed=0)
loader = tl.Loader(windows, num_workers={workers}, num_epochs=2)
often = tl.RunOptions(checkpoint_steps=5)
tl.train(model, loader, run=path, resume=True, run_options=often, device="cpu")
"""
# docs/howto/packed-documents.md.
_TRAIN_PACKED = """
bounds = [*range(0, 2_000, 17), 2_000]
corpus = tl.Corpus.from_tokens(corpus.tokens, vocab=corpus.vocab, documents=bounds)
windows = tl.PackedWindows(corpus, batch_size=4, seq_len=16, seed=0)
loader = tl.Loader(windows, num_workers={workers}, num_epochs=2)
often = tl.RunOptions(checkpoint_steps=5)
tl.train(model, loader, run=path, resume=True, run_options=often, device="cpu")
"""
# docs/howto/mixtures.md.
_TRAIN_MIXTURE = """
first, second = corpus.slice(0, 1_200), corpus.slice(1_200, 2_000)
mixture = tl.Mixture(
    {{"a": first, "b": second}},
    stages=[(0, {{"a": 0.9, "b": 0.1}}), (2_000, {{"a": 0.3, "b": 0.7}})],
    num_tokens=2_000,
)
windows = tl.RandomWindows(mixture, batch_size=4, seq_len=16, seed=0)
loader = tl.Loader(windows, num_workers={workers}, num_epochs=2)
often = tl.RunOptions(checkpoint_steps=5)
tl.train(model, loader, run=path, resume=True, run_options=often, device="cpu")
"""
# docs/howto/batch-size.md.
_TRAIN_GROWING = """
windows = tl.RandomWindows(corpus, batch_size=[(0, 4), (150, 8)], seq_len=16, seed=0)
loader = tl.Loader(windows, num_workers={workers}, num_epochs=2)
often = tl.RunOptions(checkpoint_steps=5)
tl.train(model, loader, run=path, resume=True, run_options=often, device="cpu")
"""
# An epoch of each has 31 batches, of packed documents 29, and fewer of batches that grow.
NUM_BATCHES = 31


@pytest.mark.parametrize(
    ("recipe", "num_workers", "most_repeated"),
    [
        (_LOADER, 2, 3),
        (_STATEFUL, 2, 3),
        (_PLAIN, 2, 10),
        (_TRAIN, 2, 5),
        (_TRAIN_PACKED, 2, 5),
        (_TRAIN_MIXTURE, 2, 5),
        (_TRAIN_GROWING, 2, 5),
    ],
    ids=[
        *("a position", "StatefulDataLoader", "a plain DataLoader", "tl.train"),
        *("packed documents", "a mixture", "growing batches"),
    ],
)
def test_a_recipe_survives(
    tmp_path: Path, recipe: str, num_workers: int, most_repeated: int
) -> None:
    """The batches after a kill in mid-epoch are those that were to come, and so are the weights."""
    program = tmp_path / "program.py"
    program.write_text(_BEGIN + recipe.format(workers=num_workers), encoding="utf-8")

    assert_survives(
        tmp_path, str(program), "{}", kill_at=NUM_BATCHES + 10, most_repeated=most_repeated
    )


def test_a_loop_of_ones_own_survives(tmp_path: Path) -> None:
    """With dropout, and with the hidden state of the sequential order."""
    program = str(EXAMPLES / "12_killed_and_resumed.py")

    assert_survives(tmp_path, program, "{}.pt", kill_at=47, most_repeated=11)


@pytest.mark.parametrize("name", ["14_packed_mask.py", "15_packed_varlen.py"])
def test_transformers_on_packed_documents_survive(tmp_path: Path, name: str) -> None:
    """The rows after a kill are those that were to come, and so are the weights."""
    program, call = str(EXAMPLES / name), "torch.nn:Embedding.forward"

    assert_survives(tmp_path, program, "{}.pt", kill_at=16, most_repeated=5, call=call)


def test_a_pipeline_of_nodes_survives(tmp_path: Path) -> None:
    """The position travels through the threads of torchdata's nodes."""
    program = str(EXAMPLES / "trainers" / "torchdata_nodes.py")

    assert_survives(tmp_path, program, "{}.pt", kill_at=38, most_repeated=5)


def test_distributed_checkpoints_survive_on_two_ranks(tmp_path: Path) -> None:
    """Model, optimiser and position are in one checkpoint, which counts when it is whole."""
    program = str(EXAMPLES / "trainers" / "distributed_checkpoint.py")

    assert_survives(tmp_path, program, "{}", kill_at=38, most_repeated=5, num_ranks=2)


def test_distributed_checkpoints_of_two_ranks_are_resumed_by_one(tmp_path: Path) -> None:
    """The process alone reads all rows of exactly the batches that were to come."""
    command = [str(EXAMPLES / "trainers" / "distributed_checkpoint.py"), str(tmp_path / "states")]
    alone = [command[0], str(tmp_path / "alone")]

    whole = run(tmp_path / "whole.txt", -1, alone)
    run(tmp_path / "first.txt", 38, command, num_ranks=2)
    rest = run(tmp_path / "rest.txt", -1, command)

    assert 0 <= 38 + len(rest) - len(whole) <= 5
    # The last line is of the weights, of which the last bits differ.
    assert whole[-len(rest) : -1] == rest[:-1]


def test_the_command_survives(tmp_path: Path) -> None:
    """``tokenloom train --resume`` ends with the weights of a training in one piece."""
    main = str(ROOT / "src" / "tokenloom" / "__main__.py")
    options = "--epochs 3 --max-tokens 2000 --batch-size 4 --seq-len 16 --hidden 8 --device cpu"
    begin = [main, "train", "python_docs", "--run", "{}", "--checkpoint-steps", "5"]
    again = [main, "train", "--resume", "{}"]

    assert_survives(
        tmp_path, *begin, *options.split(), again=again, kill_at=2 * NUM_BATCHES, most_repeated=40
    )
