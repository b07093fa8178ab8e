"""What each process of the tests of trainings on several ranks runs.

Usage: training_ranks.py FOLDER HOW [RANK]; HOW is one of the functions below.
"""

import datetime as dt
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import tokenloom as tl
from tests.support.loading.process_resources import end_rank, wait_for
from tests.support.training.trainings import (
    HELD_OUT,
    TRAIN,
    StoppedError,
    make_loader,
    make_model,
    stop_in_step,
)
from tokenloom.errors import WorkerError

# What is called on both ranks, instead of `tokenloom.train`.
OWN = ("evaluate", "confirm", "optimizer")
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


def make_on_first(parameters: Any, lr: float) -> Any:
    """Return an optimiser on the first rank alone."""
    return None if dist.get_rank() else torch.optim.SGD(parameters, lr)


# What is another on the second rank, and a part of what both say then.
ADAMW = tl.TrainingOptions(optimizer="adamw")
OTHER = tl.Corpus.from_tokens([*TRAIN.tokens[:-1], (TRAIN.tokens[-1] + 1) % 5], vocab=TRAIN.vocab)
MARKED = tl.Corpus.from_tokens(TRAIN.tokens, vocab=TRAIN.vocab, documents=[0, 30, len(TRAIN)])
DIFFERENT: dict[str, tuple[dict[str, Any], str]] = {
    "token": ({"corpus": OTHER}, "corpus_hash: 'sha256:"),
    "documents": ({"corpus": MARKED}, "documents_hash: None on rank 0, 'sha256:"),
    "held out": ({"held_out": OTHER}, "held_out_hash: 'sha256:"),
    "no held out": ({"held_out": None}, "num_held_out_tokens: 103 on rank 0, 0 on rank 1"),
    "order": ({"kind": tl.RandomWindows}, "order: 'sequential' on rank 0, 'random' on rank 1"),
    "batch size": ({"shape": {"batch_size": 8}}, "batch_size: 4 on rank 0, 8 on rank 1"),
    "seq_len": ({"shape": {"seq_len": 5}}, "seq_len: 10 on rank 0, 5 on rank 1"),
    "tail": ({"shape": {"tail": "pad"}}, "tail: 'drop' on rank 0, 'pad' on rank 1"),
    "order seed": ({"shape": {"seed": 9}}, "order_seed: 0 on rank 0, 9 on rank 1"),
    "position": ({"next_batch": 2}, "next_batch: 0 on rank 0, 2 on rank 1"),
    "epochs": ({"num_epochs": 4}, "num_epochs: 3 on rank 0, 4 on rank 1"),
    "lr": ({"lr": 0.5}, "lr: 1.0 on rank 0, 0.5 on rank 1"),
    "clipping": ({"max_grad_norm": 2}, "max_grad_norm: 1.0 on rank 0, 2.0 on rank 1"),
    "seed": ({"seed": 3}, "seed: 0 on rank 0, 3 on rank 1"),
    "optimiser": ({"options": ADAMW}, "optimizer: 'sgd' on rank 0, 'adamw' on rank 1"),
    "saving": ({"run_options": tl.RunOptions(keep=5)}, "run_options.keep: 2 on rank 0, 5 on"),
    "layer": ({"model": {"layer": "lstm"}}, "model.rnn: 'RNN' on rank 0, 'LSTM' on rank 1"),
    "layers": ({"model": {"num_layers": 2}}, "model.num_layers: 1 on rank 0, 2 on rank 1"),
    "weights": ({"bias": 0.5}, "model.weights: 'sha256:"),
    "run": ({"run": None}, "run: True on rank 0, False on rank 1"),
    "resume": ({"resume": True}, "resume: False on rank 0, True on rank 1"),
    "refused": ({"lr": -1}, "lr must be a number in (0, inf), got -1"),
    "failed": ({"held_out": "text"}, "held_out cannot be of the type str"),
    "own optimiser": (
        {"optimizer": {}},
        "optimizer must be a function that returns a torch.optim.Optimizer, got one that",
    ),
    "evaluated text": ({"evaluate": {}, "corpus": OTHER}, "corpus: 'sha256:"),
    "evaluated sizes": ({"evaluate": {"seq_len": 7}}, "seq_len: 35 on rank 0, 7 on rank 1"),
    "evaluated wrongly": (
        {"evaluate": {"num_workers": True}},
        "num_workers must be an integer in [0, 4096), got True",
    ),
    "evaluated model": ({"evaluate": {}, "bias": 0.5}, "model.weights: 'sha256:"),
    "evaluation refused": (
        {"evaluate": {}, "corpus": tl.Corpus.from_tokens([0, 99], vocab_size=100)},
        "model.vocab_size must be at least the corpus's 100",
    ),
    "stream": ({"confirm": {}, "shape": {"seed": 9}}, "seed: 0 on rank 0, 9 on rank 1"),
    "stream's text": ({"confirm": {}, "corpus": OTHER}, "corpus: 'sha256:"),
    "stream's position": ({"confirm": {}, "next_batch": 1}, "next_batch: 0 on rank 0, 1 on"),
    "stream's model": ({"confirm": {}, "bias": 0.5}, "model.weights: 'sha256:"),
    "own facts": ({"confirm": {"facts": {"lr": 2}}}, "lr: nothing on rank 0, 2 on rank 1"),
    "no JSON": ({"confirm": {"facts": {"lr": {1}}}}, "facts must be JSON-able"),
    "parts": ({"confirm": {}, "shape": {"shard": tl.Shard(rank=0, world_size=2)}}, "2 of 2 ranks"),
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


def differ(folder: Path) -> None:
    """Let one thing at a time be another on the second rank, and tell what each of them saw."""
    told = {}
    for name, (changes, _) in DIFFERENT.items():
        mine = changes if dist.get_rank() == 1 else {each: {} for each in OWN if each in changes}
        try:
            _begin(**{"held_out": HELD_OUT, "run": folder / "run", **mine})
        except tl.TokenloomError as error:
            told[name] = f"{type(error).__name__}: {error}"
    (folder / f"{dist.get_rank()}.json").write_text(json.dumps(told), encoding="utf-8")


def _begin(
    *,
    corpus: tl.Corpus = TRAIN,
    kind: Any = tl.SequentialWindows,
    shape: Any = None,
    model: Any = None,
    num_epochs: int = 3,
    next_batch: int = 0,
    bias: float = 0.0,
    **options: Any,
) -> None:
    made = make_model(**(model or {}))
    with torch.no_grad():
        made.linear.bias.add_(bias)
    if "evaluate" in options:
        tl.evaluate(made, corpus, progress=False, **options["evaluate"])
        return
    windows = kind(corpus, **{"batch_size": 4, "seq_len": 10, **(shape or {})})
    loader = tl.Loader(windows, num_epochs=num_epochs)
    loader.load_state_dict({**loader.state_dict(), "next_batch": next_batch})
    if "confirm" in options:
        loader.confirm_ranks(model=made, **options["confirm"])
    elif "optimizer" in options:
        own = tl.TrainingOptions(optimizer=make_on_first)
        tl.train(made, loader, device="cpu", options=own)
    else:
        tl.train(made, loader, device="cpu", **options)


def die(folder: Path) -> None:
    """Let the second rank be killed in the middle."""
    harm(folder, {1: lambda: os.kill(os.getpid(), signal.SIGKILL)})


def stall(folder: Path) -> None:
    """Let the second rank do nothing more in the middle.

    Only then the first rank waits briefly, else a rank that is slow would count as gone.
    """
    has_stalled = folder / "stalled"

    def sleep() -> None:
        has_stalled.touch()
        time.sleep(600)

    def wait_briefly() -> None:
        assert wait_for(has_stalled.exists)
        dist.distributed_c10d._set_pg_timeout(dt.timedelta(seconds=2))

    harm(folder, {0: wait_briefly, 1: sleep})


def harm(folder: Path, actions: Mapping[int, Callable[[], None]]) -> None:
    """Train, harm ranks in the fifth step, and let the first rank report its error."""
    model = make_model()
    steps: list[int] = []

    def count(*_: Any) -> None:
        steps.append(1)
        if len(steps) == 5 and dist.get_rank() in actions:
            actions[dist.get_rank()]()

    model.register_forward_pre_hook(count)
    try:
        tl.train(model, make_loader(), run=folder / "run", device="cpu")
    except WorkerError as error:
        (folder / "error.txt").write_text(str(error), encoding="utf-8")
        # A group of which a member is gone cannot be left in order.
        os._exit(0)


def main() -> None:
    """Join the group, and run what the arguments say."""
    torch.set_num_threads(1)
    folder, how = Path(sys.argv[1]), sys.argv[2]
    timeout = dt.timedelta(seconds=200)
    if len(sys.argv) > 3:
        # A port that is free now could be taken by the time the first rank listens on it.
        method, rank = f"file://{folder / 'store'}", int(sys.argv[3])
        dist.init_process_group(
            "gloo", init_method=method, rank=rank, world_size=2, timeout=timeout
        )
    else:
        dist.init_process_group("gloo", timeout=timeout)
    globals()[how](folder)
    dist.barrier()
    dist.destroy_process_group()
    end_rank()


if __name__ == "__main__":
    main()
