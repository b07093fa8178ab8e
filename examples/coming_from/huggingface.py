"""Train a model of transformers with its Trainer, killed at any moment and started again.

python examples/coming_from/huggingface.py my-run
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers

import tokenloom as tl


class Batches:
    """What Trainer reads: an endless stream of mappings, whose position can be saved."""

    def __init__(self, loader: tl.Loader) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        # Models of transformers shift the labels themselves.
        return (batch.as_dict(is_shifted=False) for batch in self.loader)


class TokenTrainer(transformers.Trainer):
    """Trains on batches that are made, divided and placed already."""

    def __init__(self, *, batches: Batches, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._batches = batches

    def get_train_dataloader(self) -> Any:
        """Return the batches."""
        return self._batches


class KeepPosition(transformers.TrainerCallback):
    """Writes the position as the last file of a checkpoint, which makes it whole."""

    def __init__(self, loader: tl.Loader) -> None:
        self.loader = loader

    def on_save(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        """Write it."""
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir, f"checkpoint-{state.global_step}")
        (folder / "unfinished").write_text(json.dumps(self.loader.state_dict()), encoding="utf-8")
        (folder / "unfinished").replace(folder / "position.json")


def prepare_store(path: Path) -> None:
    """Make a store of a data set, with sub-words that are learnt of it."""
    lines = tl.load("python_docs", max_tokens=20_000)
    text = lines.decode(lines.tokens)
    texts = [text[start : start + 400] for start in range(0, len(text), 400)]
    dataset = datasets.Dataset.from_dict({"text": texts})
    tl.prepare(dataset, path, tokenizer="bpe", vocab_size=400)


def main(folder: Path) -> None:
    """Train for two epochs, from the newest whole checkpoint in the folder if there is one."""
    if not (folder / "store").exists():
        prepare_store(folder / "store")
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        # The position says where to resume; Trainer would read all batches again up to there.
        ignore_data_skip=True,
        save_steps=10,
        save_total_limit=2,
        learning_rate=1e-3,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    corpus = tl.Corpus.open(folder / "store")
    # After the arguments, which start a process group under torchrun.
    windows = tl.RandomWindows(corpus, batch_size=8, seq_len=32, seed=0)
    # Endless: max_steps ends the training, so that Trainer need not count epochs.
    loader = tl.Loader(windows, num_workers=1, num_epochs=None)
    arguments.max_steps = 2 * len(windows)
    whole = [path.parent for path in folder.glob("checkpoint-*/position.json")]
    newest = max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
    if newest is not None:
        position = (newest / "position.json").read_text(encoding="utf-8")
        loader.load_state_dict(json.loads(position))

    transformers.set_seed(0)
    config = transformers.GPT2Config(
        vocab_size=corpus.vocab_size,
        n_positions=64,
        n_embd=16,
        n_layer=1,
        n_head=2,
        bos_token_id=None,
        eos_token_id=None,
    )
    trainer = TokenTrainer(
        model=transformers.GPT2LMHeadModel(config),
        args=arguments,
        batches=Batches(loader),
        callbacks=[KeepPosition(loader)],
    )
    trainer.train(resume_from_checkpoint=None if newest is None else str(newest))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))
